/**
 * The simulated world itself: the same seed does the same, a cut loses only what was not
 * synced, dead mounts are fenced, several mounts share a volume, devices tear and fail.
 */
import t from 'tap';
import type { Test } from 'tap';
import { ROOT_INO } from '../../host/core/constants.js';
import { checkVolume } from '../../host/disk/check.js';
import { SimDevice } from '../../host/env/sim_device.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { seeded } from '../lib/core.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import type { SimVolume } from '../lib/simmount.js';
import { SimWorld } from '../lib/simworld.js';

t.setTimeout(240_000);

const UNIT = 4096;

async function findings(v: SimVolume): Promise<string[]> {
  return (await checkVolume(v.meta, v.data)).findings.map((f) => f.message);
}

async function names(m: SimMount, world: SimWorld): Promise<string[]> {
  return (await world.run(m.kernel.readdir(ROOT_INO))).map((e) => e.name).sort();
}

/** Mounts, writes, cuts the power, recovers. @returns the trace */
async function story(t: Test, seed: number): Promise<{ trace: string; names: string[] }> {
  const w = new SimWorld(seed, { latencyMaxMs: 2 });
  const v = await simVolume(w);
  const trace = w.trace();
  const m = await w.run(SimMount.start(w.host(1), v));
  const k = m.kernel;
  await w.run(Promise.all(['a', 'b', 'c'].map((n, i) =>
    k.writeFile(ROOT_INO, n, new Uint8Array(9000).fill(i)))));
  await w.run(k.fsync(ROOT_INO));
  void k.writeFile(ROOT_INO, 'd', new Uint8Array(20_000));
  await w.clock.advance(5);
  w.powerCut();
  const again = await w.run(SimMount.start(w.host(1), v));
  const found = await names(again, w);
  await w.run(again.unmount());
  t.same(await findings(v), [], `seed ${seed}`);
  t.same([...v.meta.violations, ...v.data.violations], []);
  return { trace: trace(), names: found };
}

t.test('a run is its seed', async (t) => {
  const first = await story(t, 1);
  t.same(await story(t, 1), first, 'the same seed, the same writes at the same times');
  t.not((await story(t, 2)).trace, first.trace, 'another seed, another run');
  t.same(first.names, ['a', 'b', 'c'], 'what was synced is there, and no more');
});

t.test('a killed mount is fenced by the next one on its host', async (t) => {
  const w = new SimWorld(3);
  const v = await simVolume(w);
  const dead = await w.run(SimMount.start(w.host(1), v));
  await w.run(dead.kernel.writeFile(ROOT_INO, 'kept', new Uint8Array(10)));
  await w.run(dead.kernel.fsync(ROOT_INO));
  void dead.kernel.mkdir(ROOT_INO, 'lost');
  dead.crash();
  const writes = v.meta.stats.writes;
  await w.clock.advance(60_000);
  t.equal(v.meta.stats.writes, writes, 'the dead write nothing');
  const next = await w.run(SimMount.start(w.host(1), v));
  t.same(await names(next, w), ['kept']);
  await w.run(next.unmount());
  t.same(await findings(v), []);
});

t.test('three mounts on two hosts', async (t) => {
  const w = new SimWorld(4, { latencyMaxMs: 1 });
  const v = await simVolume(w, { slots: 1 });
  const a = await w.run(SimMount.start(w.host(1), v));
  const b = await w.run(SimMount.start(w.host(2), v, { slotNr: null }));
  const c = await w.run(SimMount.start(w.host(2), v, { slotNr: null }));
  const mounts = [a, b, c];
  await w.run(Promise.all(mounts.flatMap((m, i) => ['x', 'y', 'z'].map((n) =>
    m.kernel.writeFile(ROOT_INO, `${n}${i}`, Buffer.from(n))))));
  for (const m of mounts) t.equal((await names(m, w)).length, 9, 'each sees all files');
  b.crash();
  await w.clock.advance(60_000);
  await w.run(c.kernel.unlink(ROOT_INO, 'x1'));
  t.equal((await names(a, w)).length, 8, 'what the dead held was given back');
  await w.run(c.unmount());
  await w.run(a.unmount());
  t.same(await findings(v), []);
});

t.test('a device loses what was not flushed, unit by unit', (t) => {
  let torn = false;
  let older = false;
  for (let seed = 1; seed < 30; seed++) {
    const d = new SimDevice('d', 1 << 20, { below: seeded(seed) });
    d.writeSync(0, new Uint8Array(2 * UNIT).fill(1));
    d.flushSync();
    d.writeSync(0, new Uint8Array(2 * UNIT).fill(2));
    d.writeSync(0, new Uint8Array(UNIT).fill(3));
    const seen = new Uint8Array(2 * UNIT);
    d.readSync(0, seen);
    const before = [seen[0], d.unflushed, d.cut().writes];
    d.readSync(0, seen);
    const first = seen[0] ?? 0;
    const second = seen[UNIT] ?? 0;
    const whole = Buffer.from(seen).equals(Buffer.concat([
      Buffer.alloc(UNIT, first), Buffer.alloc(UNIT, second)]));
    const known = first >= 1 && first <= 3 && (second === 1 || second === 2);
    t.same([before, whole, known], [[3, 2, 2], true, true], `seed ${seed}`);
    torn ||= first === 1 && second === 2;
    older ||= first === 2;
  }
  t.ok(torn && older, 'writes tear, and earlier versions survive later ones');
  t.end();
});

t.test('a device fails on demand', async (t) => {
  const d = new SimDevice('d', 1 << 20, { below: seeded(1) });
  d.faults = (io): 'do' | 'fail' => io.nr === 2 ? 'fail' : 'do';
  const buf = new Uint8Array(UNIT);
  const errnos: string[] = [];
  for (const f of [() => d.write(0, buf), () => d.read(0, buf), () => d.flush()]) {
    for (let i = 0; i < 3; i++) {
      await f().then(() => errnos.push('ok'), (e: unknown) => errnos.push(asScoutfsError(e).errno));
    }
  }
  t.same(errnos, ['ok', 'EIO', 'ok', 'ok', 'EIO', 'ok', 'ok', 'EIO', 'ok']);
});
