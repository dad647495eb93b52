/**
 * Devices that fail while a mount works on them: single operations, or all of some kind
 * for a while.
 *
 * Calls may answer EIO meanwhile and leave no change, or wait. What must hold: nothing
 * that succeeded is lost or wrong; commits are repeated until they succeed; when the
 * devices are well again everything goes on without a remount, and `check` is clean.
 */
import { checkVolume } from '../../host/disk/check.js';
import type { DeviceIo, Fate } from '../../host/env/sim_device.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { seeded } from '../lib/core.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import type { SimVolume } from '../lib/simmount.js';
import { SimWorld } from '../lib/simworld.js';
import { adopt, differences, readMount } from './compare.js';
import { Model } from './model.js';
import { Violation } from './power.js';
import { HIDDEN_XATTRS, Work } from './workload.js';

const GIB = 2 ** 30;
/** Longer than a server that stopped needs to be back. */
const RECOVERED_MS = 60_000;

export interface FailFigures {
  seeds: number;
  failed: number;
  calls: number;
}

/** Which operations fail, and how many in a hundred of them. */
interface Trouble {
  readonly kinds: ReadonlySet<DeviceIo['kind']>;
  readonly devices: ReadonlySet<string>;
  readonly percent: number;
  readonly lastsMs: number;
  /** At most so many. */
  readonly most: number;
}

function drawTrouble(below: (n: number) => number): Trouble {
  const kinds = [['read'], ['write'], ['flush'], ['write', 'flush'], ['read', 'write', 'flush']] as
    const;
  const devices = [['meta'], ['data'], ['meta', 'data']] as const;
  const once = below(2) === 0;
  return {
    kinds: new Set(kinds[below(kinds.length)]), devices: new Set(devices[below(devices.length)]),
    percent: once ? 5 : [30, 100][below(2)] ?? 100, lastsMs: [5, 500, 5000, 20_000][below(4)] ?? 5,
    most: once ? 1 : Infinity,
  };
}

/** One seed. @throws Violation */
export async function failingRun(seed: number, figures: FailFigures): Promise<void> {
  const below = seeded(Math.imul(seed, 48_271));
  for (let i = 0; i < 5; i++) below(2);
  const at = `failing seed ${seed}`;
  const w = new SimWorld(seed, { latencyMaxMs: below(3) });
  const v = await simVolume(w, { dataBytes: 8 * GIB });
  const m = await w.run(SimMount.start(w.host(1), v, { options: 'orphan_scan_delay_ms=2000' }));
  const model = new Model(adopt(await readMount(w, m.kernel, HIDDEN_XATTRS), new Map()));
  figures.seeds += 1;
  try {
    for (let round = 0; round < 3; round++) {
      const trouble = drawTrouble(below);
      startTrouble(v, trouble, below, figures);
      const work = new Work(m, model, {
        below, ops: 10 + below(40), workers: 1 + below(5), failing: true,
      });
      const done = work.run();
      await w.clock.advance(trouble.lastsMs);
      v.meta.faults = null;
      v.data.faults = null;
      await w.run(done);
      await w.clock.advance(below(2) === 0 ? 0 : RECOVERED_MS);
      await w.run(work.sync());
      for (const n of work.done.values()) figures.calls += n;
      work.close();
      const bad = differences(await readMount(w, m.kernel, HIDDEN_XATTRS), model.now, new Set());
      if (bad.length > 0) throw new Violation(['the tree is wrong', ...bad].join('\n    '));
      if (m.broken !== null) throw new Violation(`the mount broke: ${m.broken.message}`);
    }
    await w.run(m.unmount());
  } catch (e) {
    throw new Violation(`${at}: ${asScoutfsError(e).stack ?? ''}`);
  }
  const { findings } = await checkVolume(v.meta, v.data);
  const wrong = [...findings.map((f) => `${f.id}: ${f.message}`), ...v.meta.violations,
    ...v.data.violations];
  if (wrong.length > 0) throw new Violation([`${at}: check`, ...wrong].join('\n    '));
}

function startTrouble(v: SimVolume, t: Trouble, below: (n: number) => number,
  figures: FailFigures): void {
  let left = t.most;
  for (const d of [v.meta, v.data]) {
    d.faults = (io): Fate => {
      if (left === 0 || !t.kinds.has(io.kind) || !t.devices.has(d.path)) return 'do';
      if (below(100) >= t.percent) return 'do';
      left -= 1;
      figures.failed += 1;
      return 'fail';
    };
  }
}
