/**
 * The stress run in small: seconds on two and on four mounts. Its long form is
 * `node dist/test/coherence/stress.js --minutes 10 --mounts 4`.
 */
import t from 'tap';
import { skipWithoutFuse } from '../lib/mounted.js';
import { TIMEOUT_MS, size } from './kit.js';
import { stress } from './stress.js';

const SECONDS = size(10, 300);

for (const mounts of [2, 4]) {
  void t.test(`${mounts} mounts`, { skip: skipWithoutFuse(), timeout: TIMEOUT_MS }, async (tt) => {
    const r = await stress({ seconds: SECONDS, mounts, seed: mounts, processes: 3 });
    tt.strictSame(r.problems, [], 'nothing is stale, nothing hangs, check is clean');
    tt.ok(r.ops > 0 && r.movements > 0, `${r.ops} operations, ${r.movements} lock movements, ${
      r.kills} processes killed`);
  });
}
