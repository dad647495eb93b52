/**
 * Where the tests find the specification's vectors and the volumes written by
 * upstream: `SCOUTFS_SPEC` and `SCOUTFS_FIXTURES`, else `shared/spec` and
 * `shared/fixtures` beside the checkout or beside its parent. They are not part
 * of the repository; a test that finds none says so in one line and is skipped.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const RM_RETRIES = 10;

/** The checkout: the compiled helper lives in dist/test/lib. */
export const repoDir = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

function find(envName: string, sub: string): string | null {
  const given = process.env[envName];
  if (given !== undefined) return existsSync(given) ? given : null;
  for (const up of ['..', join('..', '..')]) {
    const dir = join(repoDir, up, 'shared', sub);
    if (existsSync(dir)) return dir;
  }
  return null;
}

/** Directory of the specification, or null. */
export function specDir(): string | null {
  return find('SCOUTFS_SPEC', 'spec');
}

/** Directory of the volumes written by upstream, or null. */
export function fixturesDir(): string | null {
  return find('SCOUTFS_FIXTURES', 'fixtures');
}

/** For tap's `skip`: false when the specification is there, else the reason. */
export function skipWithoutSpec(): false | string {
  return specDir() === null ? 'no specification (SCOUTFS_SPEC)' : false;
}

/** For tap's `skip`: false when the upstream volumes are there, else the reason. */
export function skipWithoutFixtures(): false | string {
  if (fixturesDir() === null) return 'no upstream volumes (SCOUTFS_FIXTURES)';
  for (const tool of ['zstd', 'tar']) {
    if (spawnSync(tool, ['--version']).error !== undefined) return `no ${tool} to unpack volumes`;
  }
  return false;
}

/** Parsed `vectors/<name>`; call only when `specDir()` is not null. */
export function vectors(name: string): unknown {
  const dir = specDir();
  if (dir === null) throw new Error('no specification');
  return JSON.parse(readFileSync(join(dir, 'vectors', name), 'utf8'));
}

/** A fresh temporary directory and its removal. */
export function tempDir(prefix: string): { dir: string; remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), `${prefix}-`));
  // Processes that are just ending may still put files there.
  const options = { recursive: true, force: true, maxRetries: RM_RETRIES } as const;
  return { dir, remove: () => { rmSync(dir, options); } };
}

/** Unpacks the images of an upstream volume (sparse) into `dir`. */
export function unpackFixture(name: string, dir: string): { meta: string; data: string } {
  const fixtures = fixturesDir();
  if (fixtures === null) throw new Error('no upstream volumes');
  execFileSync('tar', ['-C', dir, '-S', '--zstd', '-xf', join(fixtures, name, 'images.tar.zst')]);
  return { meta: join(dir, 'meta.img'), data: join(dir, 'data.img') };
}

/** Text of a zstd-compressed file of an upstream volume. */
export function fixtureText(name: string, file: string): string {
  const fixtures = fixturesDir();
  if (fixtures === null) throw new Error('no upstream volumes');
  return execFileSync('zstd', ['-dc', join(fixtures, name, file)],
    { maxBuffer: 1 << 30 }).toString('utf8');
}
