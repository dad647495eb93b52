/**
 * A short run of the exercisers on a real mount; long ones are `run.ts`'s, and the
 * nightly's. That they would notice a difference is shown where there is one: when bytes and
 * names change behind their backs.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { nightly, skipWithoutFuse } from '../lib/mounted.js';
import { tempDir } from '../lib/shared.js';
import * as c from '../lib/syscalls.js';
import { DataExerciser } from './data.js';
import { drive } from './drive.js';
import { NamesExerciser } from './names.js';

const skip = skipWithoutFuse();
const OPS = nightly() ? { data: 1_000_000, names: 200_000, race: 200_000 } :
  { data: 1500, names: 1000, race: 1200 };
const PROCESSES = { data: 2, names: 2, race: 3 };
const TIMEOUT_MS = nightly() ? 7_200_000 : 240_000;
const SEED = nightly() ? Math.floor(Date.now() / 86_400_000) : 7;

for (const kind of ['data', 'names', 'race'] as const) {
  const title = `${OPS[kind]} operations on ${kind}, seed ${SEED}`;
  void t.test(title, { skip, timeout: TIMEOUT_MS }, async (tt) => {
    const out = await drive({
      kind, seed: SEED, ops: OPS[kind], processes: PROCESSES[kind],
      remountOps: nightly() ? 50_000 : OPS[kind] * 0.6,
    });
    tt.strictSame(out.problems, []);
    tt.ok(out.ops >= OPS[kind] && out.remounts > 0);
    const enough = Object.values(out.counts).filter((n) => n > 0);
    tt.ok(enough.length >= 15, 'operations of every kind');
  });
}

void t.test('differences are noticed', { skip }, (tt) => {
  const { dir, remove } = tempDir('exercise');
  tt.teardown(remove);
  const data = new DataExerciser(dir, 1, [0n]);
  tt.throws(() => {
    for (let i = 0; i < 2000; i++) {
      data.step();
      const fd = c.ok(c.open(`${dir}/f0`, c.O.WRONLY));
      c.ok(c.pwrite(fd, 'behind its back', 0));
      c.close(fd);
    }
  }, /should be/);
  data.pause();

  const top = join(dir, 'names');
  mkdirSync(top);
  const umask = process.umask(0);
  const names = new NamesExerciser(top, 1);
  tt.throws(() => {
    for (let i = 0; i < 5000; i++) {
      names.step();
      // what nobody told the model
      c.creat(`${top}/stranger`);
    }
  }, /size is|lists/);
  names.pause();
  process.umask(umask);
  tt.end();
});
