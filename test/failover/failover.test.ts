/**
 * Small forms of what `kills.js` and `many.js` do: leaders that are killed in a row, several
 * mounts on one machine, and mounting again and again. scripts/nightly runs the long ones.
 */
import t from 'tap';
import { nightly, skipWithoutFuse } from '../lib/mounted.js';
import { kills, median } from './kills.js';
import { cycles, manyMounts, mib } from './many.js';

const skip = skipWithoutFuse();
const KILLS = nightly() ? 100 : 3;
const HEARTBEAT_MS = 2000;
const MOUNTS = nightly() ? 24 : 6;
const CYCLES = nightly() ? 1000 : 4;
const LONG_MS = 10_000_000;

void t.test('leaders killed in a row', { skip, timeout: LONG_MS }, async (tt) => {
  const r = await kills(KILLS, HEARTBEAT_MS);
  tt.strictSame(r.problems, [], 'no survivor noticed, synced files are intact, check is clean');
  tt.equal(r.firstMs.length, KILLS);
  tt.comment(`first operation after ${median(r.firstMs)} ms in the median, ${
    Math.max(...r.firstMs)} ms at most; ${r.operations} operations, ${r.synced} synced files`);
});

void t.test('many mounts', { skip, timeout: LONG_MS }, async (tt) => {
  const r = await manyMounts(MOUNTS);
  tt.strictSame(r.problems, [], 'all see the same, nothing is left, check is clean');
  tt.comment(`${MOUNTS} mounts, resident ${mib(Math.max(...r.rssBytes))} MiB at most`);
});

void t.test('mounting again and again', { skip, timeout: LONG_MS }, async (tt) => {
  tt.strictSame(await cycles(CYCLES), [], 'nothing is left and nothing grows');
});
