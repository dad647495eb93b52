/**
 * Daemons that die in the middle of work: what had been synced is there after the next
 * mount, which needs nobody's help, and the volume is sound at every moment, also before
 * it is mounted again.
 *
 * 20 rounds in scripts/nightly, fewer otherwise.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, nightly, skipWithoutFuse } from '../lib/mounted.js';
import { repoDir } from '../lib/shared.js';
import { crashContents } from './crash_writer.js';

const ROUNDS = nightly() ? 20 : 6;
/** The writer works for so long before the daemon is killed, and up to so much longer. */
const WORK_MS = 300;
const WORK_SPREAD_MS = 1200;
/** Recovery takes a second or two; the rest is for a machine that does other things too. */
const RECOVERY_LIMIT_MS = 20_000;
const RECORD_WAIT_MS = 20_000;
/** Less would leave no room above the reserve. */
const META_BYTES = 8 * 1024 ** 3;

interface Promised {
  synced: Set<string>;
  removed: Set<string>;
  /** Created after the last fsync that returned. */
  atRisk: string[];
}

function readRecords(path: string): Promised {
  const p: Promised = { synced: new Set(), removed: new Set(), atRisk: [] };
  for (const line of fs.readFileSync(path, 'utf8').split('\n')) {
    const [what, name = ''] = line.split(' ');
    if (what === 'created') p.atRisk.push(name);
    if (what === 'synced' || what === 'removed') p.atRisk = [];
    if (what === 'synced') p.synced.add(name);
    // from here on either outcome is right, until the directory's fsync has returned
    if (what === 'removing') p.synced.delete(name);
    if (what === 'removed') p.removed.add(name);
  }
  return p;
}

const sleep = (ms: number): Promise<void> => new Promise((r) => { setTimeout(r, ms); });

/** Lets a writer work, kills the daemon under it. @returns the writer's exit status */
async function crash(rig: Rig, records: string, seed: number): Promise<number | null> {
  const child: ChildProcess = spawn(process.execPath,
    [join(repoDir, 'dist', 'test', 'mounted', 'crash_writer.js'), rig.mnt, records, String(seed)],
    { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => { child.on('exit', resolve); });
  const before = fs.existsSync(records) ? fs.statSync(records).size : 0;
  for (let waitedMs = 0; waitedMs < RECORD_WAIT_MS; waitedMs += 20) {
    if (fs.existsSync(records) && fs.statSync(records).size > before) break;
    await sleep(20);
  }
  // different each round, yet the same in every run: a golden ratio sequence
  await sleep(WORK_MS + (seed * 0.618034 % 1) * WORK_SPREAD_MS);
  rig.kill();
  return await ended;
}

/** Differences between what was promised and what the mount shows. */
function broken(p: Promised, mnt: string): string[] {
  const out: string[] = [];
  for (const name of p.synced) {
    try {
      if (!fs.readFileSync(join(mnt, name)).equals(crashContents(name))) {
        out.push(`${name}: other contents`);
      }
    } catch (e) {
      out.push(`${name}: ${String(e)}`);
    }
  }
  for (const name of p.removed) if (fs.existsSync(join(mnt, name))) out.push(`${name}: is back`);
  return out;
}

/** Reads everything there is: nothing may fail. @returns how many files there are */
function readAll(mnt: string): number {
  let files = 0;
  for (const e of fs.readdirSync(mnt, { recursive: true, withFileTypes: true })) {
    if (!e.isFile()) continue;
    fs.readFileSync(join(e.parentPath, e.name));
    files += 1;
  }
  return files;
}

void t.test(`${ROUNDS} deaths in a row`, { skip: skipWithoutFuse() }, async (tt) => {
  const rig = new Rig('recovery');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs(META_BYTES);
  rig.mount();
  const records = join(rig.dir, 'records');
  let atRisk = 0;
  let slowestMs = 0;
  for (let round = 0; round < ROUNDS; round++) {
    tt.equal(await crash(rig, records, round), 0, `round ${round}: the writer lost its mount`);
    const promised = readRecords(records);
    atRisk += promised.atRisk.length;
    tt.strictSame(rig.check(), [], `round ${round}: the dead volume is sound`);
    const startMs = performance.now();
    rig.mount();
    slowestMs = Math.max(slowestMs, performance.now() - startMs);
    tt.strictSame(broken(promised, rig.mnt).slice(0, 20), [],
      `round ${round}: ${promised.synced.size} synced files are intact`);
  }
  const files = readAll(rig.mnt);
  rig.umount();
  tt.strictSame(rig.check(), [], 'after a normal end the volume is sound');
  const { synced, removed } = readRecords(records);
  tt.ok(slowestMs < RECOVERY_LIMIT_MS, `slowest mount ${Math.round(slowestMs)} ms`);
  tt.ok(atRisk > 0, 'something was at risk');
  tt.ok(synced.size > ROUNDS, 'something was promised');
  tt.comment(`${ROUNDS} rounds: ${synced.size} synced files intact, ${removed.size} stayed removed, ` +
    `${atRisk} unsynced ones at risk, ${files} files in the end, slowest mount ${
      Math.round(slowestMs)} ms`);
});
