/**
 * House rules that no compiler knows: the two lint rules of our own do catch what
 * they exist for, every source file opens with an essay, lines are at most 100
 * characters, and every dependency has a reason written down.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ESLint } from 'eslint';
import tseslint from 'typescript-eslint';
import { repoDir } from '../lib/shared.js';

const LINE_CHARS_MAX = 100;

/** Files below `dirs` whose name ends in `suffix`, relative to the repository. */
function sourceFiles(dirs: string[], suffix: string): string[] {
  return dirs.filter((dir) => existsSync(join(repoDir, dir))).flatMap((dir) =>
    readdirSync(join(repoDir, dir), { recursive: true, encoding: 'utf8' })
      .filter((f) => f.endsWith(suffix)).map((f) => join(dir, f))).sort();
}

/** Our configuration without the rules that need a program on disk. */
const eslint = new ESLint({
  cwd: repoDir,
  overrideConfig: tseslint.configs.disableTypeChecked as never,
});

/** Rules that fire on `code` if it stood in `path`. */
async function rulesHit(path: string, code: string): Promise<string[]> {
  const results = await eslint.lintText(code, { filePath: join(repoDir, path) });
  return results.flatMap((r) => r.messages).map((m) => {
    if (m.fatal === true) throw new Error(m.message);
    return m.ruleId ?? '';
  });
}

t.test('an import that climbs the rows fails the lint', async (t) => {
  const cases: [path: string, code: string, climbs: boolean][] = [
    ['host/core/a.ts', "import { x } from '../disk/block.js'; x();", true],
    ['host/core/a.ts', "import type { X } from '../mount/op.js'; export type Y = X;", true],
    ['host/disk/a.ts', "export * from '../net/net.js';", true],
    ['host/net/a.ts', "const m = await import('../server/server.js'); m.f();", true],
    ['host/server/a.ts', "import { x } from '../mount/lock.js'; x();", true],
    ['host/mount/a.ts', "import { x } from '../fs/inode.js'; x();", true],
    ['host/fs/a.ts', "import { x } from '../fuse/channel.js'; x();", true],
    ['host/fuse/a.ts', "import { x } from '../super.js'; x();", true],
    ['host/index.ts', "import { x } from './cli/frame.js'; x();", true],
    ['host/env/a.ts', "import { x } from '../core/keys.js'; x();", true],
    ['host/observe/a.ts', "import { x } from '../disk/block.js'; x();", true],
    ['host/disk/a.ts', "import { x } from '../../test/lib/shared.js'; x();", true],
    ['host/strange/a.ts', "import { x } from '../core/keys.js'; x();", true],
    ['host/disk/a.ts', "import { x } from '../core/keys.js'; x();", false],
    ['host/fuse/a.ts', "import { x } from '../fs/inode.js'; x();", false],
    ['host/core/a.ts', "import { x } from '../env/env.js'; x();", false],
    ['host/core/a.ts', "import { x } from '../observe/errors.js'; x();", false],
    ['host/cli/a.ts', "import { x } from '../super.js'; x();", false],
    ['test/disk/a.ts', "import { x } from '../../host/cli/frame.js'; x();", false],
  ];
  for (const [path, code, climbs] of cases) {
    t.equal((await rulesHit(path, code)).includes('scoutfs/rows'), climbs, `${path}: ${code}`);
  }
});

t.test('an effect outside host/env fails the lint', async (t) => {
  const cases: [path: string, code: string, hit: boolean][] = [
    ['host/disk/a.ts', 'export const x = Date.now();', true],
    ['host/disk/a.ts', 'export const x = new Date();', true],
    ['host/mount/a.ts', 'setTimeout(() => {}, 1);', true],
    ['host/mount/a.ts', 'setInterval(() => {}, 1);', true],
    ['host/mount/a.ts', 'setImmediate(() => {});', true],
    ['host/mount/a.ts', 'globalThis.x = performance.now();', true],
    ['host/mount/a.ts', 'export const x = process.hrtime.bigint();', true],
    ['host/server/a.ts', 'export const x = Math.random();', true],
    ['host/server/a.ts', "export const x = Math['random']();", true],
    ['host/net/a.ts', "import net from 'node:net'; net.connect(1);", true],
    ['host/net/a.ts', "import { createSocket } from 'dgram'; createSocket('udp4');", true],
    ['host/server/a.ts', "import { Worker } from 'node:worker_threads'; new Worker('');", true],
    ['host/disk/a.ts', "import { readSync } from 'node:fs'; readSync(1);", true],
    ['host/disk/a.ts', "import { randomBytes } from 'node:crypto'; randomBytes(1);", true],
    ['host/env/a.ts', 'export const x = Date.now();', false],
    ['host/env/a.ts', "import net from 'node:net'; net.connect(1);", false],
    ['host/cli/a.ts', "import { readFileSync } from 'node:fs'; readFileSync('');", false],
    ['host/disk/a.ts', 'export function f(Date: { now(): number }) { return Date.now(); }', false],
    ['test/disk/a.ts', 'export const x = Date.now();', false],
  ];
  for (const [path, code, hit] of cases) {
    t.equal((await rulesHit(path, code)).includes('scoutfs/effects'), hit, `${path}: ${code}`);
  }
});

t.test('every source file opens with an essay', async (t) => {
  const files = sourceFiles(['host', 'assembly'], '.ts');
  t.ok(files.length > 0, 'there are source files');
  const bare = files.filter((f) =>
    !/^(#!.*\n)?\/\*\*\n/.test(readFileSync(join(repoDir, f), 'utf8')));
  t.same(bare, [], 'files without one');
});

t.test('lines fit the screen', async (t) => {
  const wide: string[] = [];
  for (const f of sourceFiles(['host', 'assembly'], '.ts')) {
    readFileSync(join(repoDir, f), 'utf8').split('\n').forEach((line, i) => {
      if (line.length > LINE_CHARS_MAX) wide.push(`${f}:${i + 1}`);
    });
  }
  t.same(wide, [], `lines of more than ${LINE_CHARS_MAX} characters`);
});

t.test('every dependency has a reason in docs/dependencies.md', async (t) => {
  const pkg = JSON.parse(readFileSync(join(repoDir, 'package.json'), 'utf8')) as
    Record<string, Record<string, string> | undefined>;
  const names = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies']
    .flatMap((k) => Object.keys(pkg[k] ?? {}));
  t.ok(names.length > 0, 'there are dependencies');
  const reasons = readFileSync(join(repoDir, 'docs', 'dependencies.md'), 'utf8').split('\n');
  for (const name of names) {
    const line = reasons.find((l) => l.startsWith(`| \`${name}\` |`));
    t.match(line, /\| [A-Za-z].{15,} \|$/, name);
  }
});
