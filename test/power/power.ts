/**
 * The power-cut driver: workloads whose devices lose power at many points, recoveries of
 * what is left, and everything that must be true afterwards.
 *
 *   run --event--> image + moment of the model --> recovery --> compare --> check
 *        \--event--> ...                              \--event--> image --> ...
 *
 * A cut does not end the run that it is taken of: the devices are copied as they would be
 * after it, so that one run gives as many cuts as it has writes and flushes. Each image is
 * mounted in a world of its own. Recoveries can be cut as well, and so on.
 *
 * What must hold of every image: `check` finds nothing; mounting succeeds; the tree
 * equals the model at a commit boundary at or behind the last completed sync (model.ts);
 * it still does after log trees were merged and orphans deleted; after the unmount
 * `check` finds nothing again and counts as many inodes as there are names for.
 */
import { checkVolume } from '../../host/disk/check.js';
import type { Fate, DeviceIo } from '../../host/env/sim_device.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { seeded } from '../lib/core.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import type { SimVolume } from '../lib/simmount.js';
import { SimWorld } from '../lib/simworld.js';
import { adopt, differences, readMount } from './compare.js';
import type { Found } from './compare.js';
import type { Moment, State } from './model.js';
import { Model } from './model.js';
import { HIDDEN_XATTRS, Work } from './workload.js';

/** Time in which a recovered mount merges its log trees and deletes orphans. */
const SETTLE_MS = 30_000;
const GIB = 2 ** 30;

/** What the devices do wrong, to show that the driver sees it. */
export type Mutation = 'none' | 'no flush before the commit' | 'no flush before the super block';

export interface Figures {
  seeds: number;
  /** Cuts, and those of them where nothing was unflushed and nothing uncommitted. */
  cuts: number;
  harmless: number;
  /** Cuts of recoveries. */
  nested: number;
  recoveries: number;
  /** Writes and flushes of the runs that were cut. */
  events: number;
  writes: number;
  unitsAtRisk: number;
  unitsLost: number;
  ops: Map<string, number>;
}

export function newFigures(): Figures {
  return {
    seeds: 0, cuts: 0, harmless: 0, nested: 0, recoveries: 0, events: 0, writes: 0,
    unitsAtRisk: 0, unitsLost: 0, ops: new Map(),
  };
}

/** A violation, with what is needed to see it again. */
export class Violation extends Error {}

/** What is left after a cut. */
interface Image {
  volume: SimVolume;
  moment: Moment;
  /** for messages */
  at: string;
  /** how many cuts led here */
  depth: number;
}

export interface PowerOptions {
  seed: number;
  figures: Figures;
  ops: number;
  workers: number;
  latencyMaxMs: number;
  /** Cut at every event; else at some, at random. */
  everyEvent: boolean;
  /** Of random cuts: at most so many of the first run; later runs have one at most. */
  cutsMax: number;
  /** How many later runs in a hundred are cut. */
  nestedPercent: number;
  /** How many recoveries in a hundred are followed by merges and orphan scans, or by work. */
  settlePercent: number;
  workPercent: number;
  /** How many cuts may follow each other. */
  depthMax: number;
  mutation?: Mutation;
  /** Further mount options. */
  options?: string;
  log?: (line: string) => void;
}

function mix(...ns: number[]): number {
  let h = 0x12345;
  for (const n of ns) h = Math.imul(h ^ n, 0x9e3779b1) ^ (h >>> 15);
  return h >>> 1;
}

export class PowerRun {
  private readonly below: (n: number) => number;

  constructor(private readonly o: PowerOptions) {
    this.below = seeded(mix(o.seed, 77));
    for (let i = 0; i < 5; i++) this.below(2);
  }

  /** One seed. @throws Violation */
  async run(): Promise<void> {
    const { o } = this;
    o.figures.seeds += 1;
    const w = new SimWorld(o.seed, { latencyMaxMs: o.latencyMaxMs });
    const v = await simVolume(w, { dataBytes: 8 * GIB });
    await this.cycle(w, v, null, `seed ${o.seed}`, 0);
  }

  /**
   * Mounts, compares if there is something to compare with, works, and recovers every image
   * that is taken meanwhile.
   */
  private async cycle(w: SimWorld, v: SimVolume, old: { model: Model; moment: Moment } | null,
    at: string, depth: number): Promise<void> {
    const { o } = this;
    const images: Image[] = [];
    const source: { model: Model | null; moment: () => Moment } = {
      model: old?.model ?? null, moment: () => old?.moment ?? { changes: 0, floorSeq: 0 },
    };
    const dirty = { is: (): boolean => false };
    if (old !== null) this.takeImages(w, v, images, source, dirty, at, depth);
    const m = await this.must(at, 'mounting', w.run(SimMount.start(w.host(1), v,
      { ...(o.options === undefined ? {} : { options: o.options }) })));
    dirty.is = () => m.client.trans.isDirty;
    const found = await this.must(at, 'reading', readMount(w, m.kernel, HIDDEN_XATTRS));
    const start = old === null ? startState(found) : this.compare(found, old, at);
    if (old === null) this.takeImages(w, v, images, source, dirty, at, depth);
    // Images from here on are compared with what is done from here on.
    const model = new Model(start);
    if (old !== null) await this.recoverAll(images.splice(0), old.model);
    source.model = model;
    source.moment = () => model.moment();
    if (old !== null && this.below(100) < o.settlePercent) await this.settle(w, m, model, at);
    if (old === null || this.below(100) < o.workPercent) await this.work(w, m, model, at);
    await this.end(w, v, m, model, at);
    await this.recoverAll(images, model);
  }

  /** Takes images of what cuts would leave, while the world runs. */
  private takeImages(w: SimWorld, v: SimVolume, images: Image[],
    source: { moment: () => Moment }, dirty: { is: () => boolean }, at: string,
    depth: number): void {
    const { o, below } = this;
    const { figures } = o;
    if (depth >= o.depthMax) return;
    const imagesMax = depth === 0 ? o.cutsMax : below(100) < o.nestedPercent ? 1 : 0;
    let event = 0;
    let taken = 0;
    const begun = (io: DeviceIo): void => {
      if (io.kind === 'read') return;
      event += 1;
      figures.events += 1;
      if (io.kind === 'write') figures.writes += 1;
      const all = o.everyEvent && depth === 0;
      if (!all && (taken >= imagesMax || below(CUT_ONE_IN) !== 0)) return;
      const cuts = [v.meta, v.data].map((d) => d.afterCut({ below }));
      const [meta, data] = cuts.map((c) => c.device);
      if (meta === undefined || data === undefined) return;
      taken += 1;
      figures.cuts += 1;
      if (depth > 0) figures.nested += 1;
      for (const { report } of cuts) {
        figures.unitsAtRisk += report.units;
        figures.unitsLost += report.lost;
      }
      if (cuts.every((c) => c.report.units === 0) && !dirty.is()) figures.harmless += 1;
      images.push({
        volume: { meta, data }, moment: momentOf(source.moment), depth: depth + 1,
        at: `${at}, cut at event ${event} (${io.user}: ${io.kind} at ${io.offset}, ${
          w.clock.monotonicMs()} ms)`,
      });
    };
    for (const d of [v.meta, v.data]) {
      d.begun = begun;
      d.faults = (io): Fate => this.fate(d === v.meta, v, io);
    }
  }

  private fate(isMeta: boolean, v: SimVolume, io: DeviceIo): Fate {
    const { mutation } = this.o;
    if (io.kind !== 'flush' || mutation === undefined || mutation === 'none') return 'do';
    const ofMount = io.user.startsWith('mount') && !io.user.includes(' ');
    if (mutation === 'no flush before the commit') return ofMount ? 'ignore' : 'do';
    // The server flushes blocks before the super block, and that after it.
    const before = isMeta && v.meta.lastUnflushedOffset >= FIRST_BLOCK_OFFSET;
    return io.user.includes('server') && before ? 'ignore' : 'do';
  }

  private async recoverAll(images: Image[], model: Model): Promise<void> {
    for (const i of images) await this.recover(i, model);
  }

  private async recover(i: Image, model: Model): Promise<void> {
    const { o } = this;
    o.figures.recoveries += 1;
    await this.check(i.volume, `${i.at}, before recovery`);
    const w = new SimWorld(mix(o.seed, i.depth, this.below(1 << 30)),
      { latencyMaxMs: this.below(2) === 0 ? 0 : o.latencyMaxMs });
    const v: SimVolume = {
      meta: w.addDevice('meta', i.volume.meta.sizeBytes, i.volume.meta),
      data: w.addDevice('data', i.volume.data.sizeBytes, i.volume.data),
    };
    await this.cycle(w, v, { model, moment: i.moment }, i.at, i.depth);
  }

  /** Holds what was found against the model's boundaries. @returns the state to go on with */
  private compare(found: Found, old: { model: Model; moment: Moment }, at: string): State {
    const { model, moment } = old;
    let least: string[] | null = null;
    for (const seq of model.boundaries(moment).reverse()) {
      const state = model.stateAt(seq, moment);
      const bad = differences(found, state, model.spreadOver(seq));
      if (bad.length === 0) return adopt(found, state);
      if (least === null || bad.length < least.length) {
        least = [`nearest: transaction ${seq} of ${model.boundaries(moment).join(' ')}`, ...bad];
      }
    }
    const ino = /\((\d+)\)/.exec(least?.join(' ') ?? '')?.[1];
    if (ino !== undefined) least?.push(...model.history(Number(ino), moment));
    return this.violated(at, `the tree is at no commit boundary`, least ?? []);
  }

  private async work(w: SimWorld, m: SimMount, model: Model, at: string): Promise<void> {
    const { o } = this;
    const work = new Work(m, model, { below: this.below, ops: o.ops, workers: o.workers });
    await this.must(at, 'working', w.run(work.run()));
    if (this.below(2) === 0) await w.clock.advance(this.below(12_000));
    await this.must(at, 'syncing', w.run(work.sync()));
    work.close();
    for (const [what, n] of work.done) o.figures.ops.set(what, (o.figures.ops.get(what) ?? 0) + n);
    await this.same(w, m, model, `${at}, after work`);
  }

  /** Lets merges and orphan scans happen; nothing may change by that. */
  private async settle(w: SimWorld, m: SimMount, model: Model, at: string): Promise<void> {
    await w.clock.advance(SETTLE_MS);
    await this.same(w, m, model, `${at}, after merging`);
  }

  private async same(w: SimWorld, m: SimMount, model: Model, at: string): Promise<void> {
    const found = await this.must(at, 'reading', readMount(w, m.kernel, HIDDEN_XATTRS));
    const bad = differences(found, model.now, new Set());
    if (bad.length > 0) this.violated(at, 'the live tree is not what was done', bad);
    if (m.broken !== null) this.violated(at, 'the mount broke', [m.broken.message]);
  }

  private async end(w: SimWorld, v: SimVolume, m: SimMount, model: Model, at: string):
  Promise<void> {
    await this.must(at, 'unmounting', w.run(m.unmount()));
    for (const d of [v.meta, v.data]) {
      d.begun = null;
      d.faults = null;
      if (d.violations.length > 0) this.violated(at, 'devices', d.violations);
    }
    const { inodes, orphans } = await this.check(v, `${at}, after the unmount`);
    const live = [...model.now.values()].filter((n) => n.nlink > 0 || n.ino === 1).length;
    if (inodes - orphans !== live) {
      this.violated(at, `${inodes} inodes, ${orphans} of them orphans, instead of ${live}`, []);
    }
  }

  private async check(v: SimVolume, at: string): Promise<{ inodes: number; orphans: number }> {
    const report = await this.must(at, 'check', checkVolume(v.meta, v.data));
    const { findings, summary } = report;
    if (findings.length > 0) {
      this.violated(at, 'check', findings.map((f) => `${f.id}: ${f.message}`));
    }
    return summary;
  }

  private async must<T>(at: string, what: string, p: Promise<T>): Promise<T> {
    try {
      return await p;
    } catch (e) {
      if (e instanceof Violation) throw e;
      return this.violated(at, `${what} failed`, [asScoutfsError(e).stack ?? '']);
    }
  }

  private violated(at: string, what: string, lines: readonly string[]): never {
    throw new Violation([`${at}: ${what}`, ...lines.slice(0, LINES_MAX)].join('\n    '));
  }
}

/**
 * The moment of a cut. Data is sent to the device in the tick of its operation, before the
 * model learns of it: what is noted by the end of the tick belongs to it. What a sync covers
 * does not change by that.
 */
function momentOf(moment: () => Moment): Moment {
  const at = { ...moment() };
  void Promise.resolve().then(() => { at.changes = moment().changes; });
  return at;
}

/** Random cuts: at one event in so many. */
const CUT_ONE_IN = 40;
/** Where blocks that are not super or quorum blocks begin on the metadata device. */
const FIRST_BLOCK_OFFSET = 32 * 4096;
const LINES_MAX = 12;

/** A fresh volume as a state. */
function startState(found: Found): State {
  return adopt(found, new Map());
}
