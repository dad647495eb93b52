/**
 * One run of a simulated cluster: some mounts, work, faults, and what must hold.
 *
 *   begin --> work under faults --> faults end, dead mounts come back --> all work ends
 *   --> every mount sees what the model says --> (again, or) unmount --> check
 *
 * A run is its seed: the same seed does the same, event for event. `trace` tells what
 * happened; `violations` is empty when the cluster was right.
 */
import { ROOT_INO } from '../../host/core/constants.js';
import { checkVolume } from '../../host/disk/check.js';
import type { Log } from '../../host/observe/log.js';
import type { CutReport } from '../../host/env/sim_device.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import type { SimVolume } from '../lib/simmount.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import { Journal } from './journal.js';
import { installMemoryPool, releaseMemories } from './memory.js';
import { Model, ModelMount } from './model.js';
import { Nemesis } from './nemesis.js';
import { Observer } from './observe.js';
import type { Looks } from './oracles.js';
import { LockOracle, WriterOracle, locksOf, noLooks } from './oracles.js';
import { Worker } from './work.js';
import { ClusterWorld, NO_FAULTS } from './world.js';

/** Simulated time in which everything must be well again after the last fault. */
const SETTLE_LIMIT_MS = 200_000;
/** No run that is sound sends more. */
const SENT_MAX = 60_000;
/** Mounts of a cluster, one is drawn. */
const SIZES = [3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 6, 7] as const;
/** Longer than heartbeats and elections take. */
const STEADY_MS = 8000;
const IDLE_LIMIT_MS = 60_000;
/** With less, what one change may need is more than there is, and every change is committed. */
const CORE_MB = 24;
/** Search files are compacted within a run, not once in a while. */
const COMPACT_DELAY_MAX_MS = 10_000;
const UNMOUNT_LIMIT_MS = 120_000;
/** Room for the reserves of seven mounts. */
const META_BYTES = 64 * 2 ** 30;
const DATA_BYTES = 64 * 2 ** 30;

export interface RunOptions {
  /** mount options that all mounts get, in addition to those from the seed */
  options?: string;
  /** operations of each caller */
  operations?: number;
  /** how long faults happen, simulated */
  faultMs?: number;
  /** no faults at all */
  calm?: boolean;
}

export interface RunResult {
  seed: number;
  mounts: number;
  violations: string[];
  faults: number;
  faultKinds: Map<string, number>;
  operations: number;
  simulatedMs: number;
  messages: number;
  /** how often the oracles looked */
  looks: Looks;
  trace: string[];
}

/** A host of the cluster and what runs on it. */
export class Member {
  mount: SimMount | null = null;
  life: ModelMount | null = null;
  starting = false;
  /** on its way to a clean unmount */
  leaving = false;
  /** its callers at work, and what they are doing, for the report of a hang */
  readonly doing = new Map<Worker, string>();
  left = 0;

  constructor(readonly nr: number, readonly slotNr: number | null) {}

  get name(): string {
    return `m${this.nr}`;
  }
}

export class Cluster {
  readonly world: ClusterWorld;
  readonly members: Member[] = [];
  readonly model: Model;
  private readonly journal: Journal;
  private readonly writers: WriterOracle;
  private readonly locks: LockOracle;
  private readonly observers: Observer[] = [];
  private readonly looks = noLooks();
  private options = '';

  private constructor(world: ClusterWorld, readonly volume: SimVolume,
    private readonly opts: RunOptions) {
    this.world = world;
    this.journal = new Journal(volume.meta);
    this.model = new Model(this.journal, (text) => { world.note(text); }, ROOT_INO);
    this.locks = new LockOracle(() => this.living(), this.model, this.looks);
    this.writers = new WriterOracle(world, this.model, this.journal, this.locks, this.looks);
  }

  /** Runs one seed from its beginning to its end. */
  static async run(seed: number, opts: RunOptions = {}): Promise<RunResult> {
    installMemoryPool();
    try {
      return await Cluster.runSeed(seed, opts);
    } finally {
      releaseMemories();
    }
  }

  private static async runSeed(seed: number, opts: RunOptions): Promise<RunResult> {
    const world = new ClusterWorld(seed);
    const mounts = SIZES[world.below(SIZES.length)] ?? 3;
    const slots = mounts >= 5 && world.below(2) === 0 ? 5 : 3;
    const volume = await simVolume(world, { slots, metaBytes: META_BYTES, dataBytes: DATA_BYTES });
    const cluster = new Cluster(world, volume, opts);
    cluster.options = `quorum_heartbeat_timeout_ms=${2000 + world.below(4) * 1000
    },tcp_keepalive_timeout_ms=${3001 + world.below(3) * 4000},orphan_scan_delay_ms=${
      1000 + world.below(5000)},${opts.options ?? ''}`;
    for (let nr = 1; nr <= mounts; nr++) {
      cluster.members.push(new Member(nr, nr <= slots ? nr - 1 : null));
    }
    world.note(`seed ${seed}: ${mounts} mounts, ${slots} slots, ${cluster.options}`);
    const escaped = (e: unknown): void => {
      cluster.model.violated(`an error escaped: ${String(e instanceof Error ? e.stack : e)}`);
    };
    process.on('unhandledRejection', escaped);
    process.on('uncaughtException', escaped);
    try {
      await cluster.story();
    } catch (e) {
      const { message } = asScoutfsError(e);
      cluster.model.violated(`the run broke off: ${message}${
        e instanceof Error && process.env['SIM_STACK'] !== undefined ? e.stack ?? '' : ''}`);
    }
    process.off('unhandledRejection', escaped);
    process.off('uncaughtException', escaped);
    return cluster.result(seed);
  }

  private result(seed: number): RunResult {
    const { world, model } = this;
    let faults = 0;
    for (const n of world.wire.faults.values()) faults += n;
    return {
      seed, mounts: this.members.length, faults, faultKinds: world.wire.faults,
      violations: model.violations,
      operations: this.observers.reduce((n, o) => n + o.operations, 0),
      simulatedMs: world.nowMs, messages: world.wire.sent, looks: this.looks,
      trace: world.notes,
    };
  }

  /** The host with the server that wrote last. */
  get leader(): Member | null {
    return this.members.find((m) => m.nr === this.writers.leaderHost) ?? null;
  }

  living(): SimMount[] {
    return this.members.map((m) => m.mount).filter((m) => m?.process.alive() === true)
      .filter((m): m is SimMount => m !== null);
  }

  private async story(): Promise<void> {
    const { world, members, opts } = this;
    const operations = opts.operations ?? 12;
    for (const m of members) {
      m.left = operations;
      this.start(m);
      await world.clock.advance(world.below(300));
    }
    await this.until(() => members.some((m) => m.mount !== null), 'the first mount');
    if (opts.calm !== true) {
      const nemesis = new Nemesis(world, this);
      await nemesis.run(opts.faultMs ?? 8000 + world.below(20_000));
    }
    await this.settle();
    if (this.model.violations.length === 0) await this.stay();
    if (this.model.violations.length === 0) await this.compare();
    if (this.model.violations.length === 0) await this.unmountAll();
  }

  /** Mounts on a host, and lets callers work there. */
  start(m: Member): void {
    const { world } = this;
    // One that is fenced while it mounts never says so: its host is empty then.
    const starting = m.starting && world.host(m.nr).processes.size > 0;
    if (starting || m.mount?.process.alive() === true) return;
    m.starting = true;
    world.wire.hostUp(world.host(m.nr).addr);
    const process = (): boolean => world.host(m.nr).processes.size > 0;
    SimMount.start(world.host(m.nr), this.volume, {
      slotNr: m.slotNr, options: this.options, coreMemoryMb: CORE_MB, serverMemoryMb: 12,
      mergeMemoryMb: 12, log: this.log(m),
    }).then((mount) => { this.mounted(m, mount); }, (e: unknown) => {
      m.starting = false;
      world.note(`${m.name} could not mount: ${asScoutfsError(e).message}`);
      if (!process()) world.clock.after(1000, () => { this.start(m); });
    });
  }

  private log(m: Member): Log {
    const line = (level: string) => (text: string): void => {
      this.world.note(`${m.name} ${level}: ${text}`);
    };
    const log: Log = {
      error: line('error'), warn: line('warn'), info: line('info'), debug: () => undefined,
      trace: () => undefined, enabled: (l) => l !== 'debug' && l !== 'trace',
      level: 'info', setLevel: () => undefined, withPrefix: () => log,
    };
    return log;
  }

  private mounted(m: Member, mount: SimMount): void {
    const { world, model } = this;
    m.starting = false;
    m.mount = mount;
    m.life = new ModelMount(mount.rid, `${m.name}/${mount.rid.toString(16).slice(0, 4)}`,
      () => mount.process.alive());
    world.note(`${m.life.name} is mounted`);
    mount.client.loops.compactDelayMs = 500 + world.below(COMPACT_DELAY_MAX_MS);
    this.observers.push(new Observer(model, mount, m.life, () => world.failing));
    this.locks.watch(mount);
    const callers = 1 + world.below(2);
    m.doing.clear();
    for (let i = 0; i < callers; i++) this.work(m, mount, m.life, i);
  }

  private work(m: Member, mount: SimMount, life: ModelMount, nr: number): void {
    const { world, model } = this;
    const name = `${life.name}.${nr}`;
    const share = nr === 0 ? Math.ceil(m.left / 2) : Math.floor(m.left / 2);
    const worker: Worker = new Worker({
      mount, name: String(m.nr), below: world.below,
      began: (what) => {
        if (m.life === life) m.doing.set(worker, what);
        world.note(`${name} ${what}`);
      },
      ended: (outcome) => {
        world.note(`${name} ${m.doing.get(worker) ?? ''}: ${outcome}`);
        if (m.life === life) m.doing.set(worker, 'between operations');
        m.left -= 1;
      },
      leaves: () => m.leaving,
      synced: (seq) => { if (mount.process.alive()) model.synced(life, seq); },
      lastSeq: () => model.lastSeq(life),
      pass: () => world.gateOf(mount.process).pass(),
      sleep: (ms) => mount.process.env.clock.sleep(ms),
    }, share);
    m.doing.set(worker, 'starting');
    worker.run().then(() => { m.doing.delete(worker); }, (e: unknown) => {
      model.violated(`${name}: ${asScoutfsError(e).message}`);
    });
  }

  /** A mount's callers end, and it is unmounted, while the others go on. */
  leave(m: Member): void {
    const { mount, life } = m;
    if (mount === null || life === null || m.leaving) return;
    m.leaving = true;
    this.unmountOne(m, mount, life).catch((e: unknown) => {
      this.model.violated(`unmount of ${life.name}: ${asScoutfsError(e).message}`);
    });
  }

  private async unmountOne(m: Member, mount: SimMount, life: ModelMount): Promise<void> {
    const { world } = this;
    while (m.doing.size > 0 && mount.process.alive()) await world.clock.sleep(10);
    if (!mount.process.alive()) return;
    mount.kernel.forgetAll();
    await mount.unmount();
    world.note(`${life.name} is unmounted`);
    // An unmount keeps everything.
    this.model.synced(life, this.model.lastSeq(life));
  }

  /** A mount's process ends where it is; with its host, or alone. */
  kill(m: Member, withHost: boolean): void {
    const { world } = this;
    const addr = world.host(m.nr).addr;
    if (withHost) world.wire.hostDown(addr);
    for (const p of [...world.host(m.nr).processes]) {
      world.died(p.rid);
      p.kill();
    }
    this.noteDeath(m);
    m.starting = false;
  }

  /** Everything loses power, the devices too. */
  powerCut(): CutReport {
    const report = this.world.powerCut();
    for (const m of this.members) {
      this.noteDeath(m);
      m.starting = false;
    }
    this.model.powerLost();
    this.writers.powerLost();
    return report;
  }

  /** Takes note of mounts that were killed by others. */
  noteDeaths(): void {
    for (const m of this.members) {
      if (m.mount !== null && !m.mount.process.alive()) this.noteDeath(m);
      if (m.starting && world(this).host(m.nr).processes.size === 0) m.starting = false;
      if (m.mount?.broken !== null && m.mount?.broken !== undefined) {
        this.model.violated(`${m.name}: ${m.mount.broken.message}`);
      }
    }
  }

  private noteDeath(m: Member): void {
    m.leaving = false;
    m.mount = null;
    m.life = null;
    m.doing.clear();
  }

  /** Lets time pass until something is so. @throws when it does not come to that */
  private async until(done: () => boolean, what: string, limitMs = SETTLE_LIMIT_MS):
  Promise<void> {
    const { world } = this;
    const endMs = world.nowMs + limitMs;
    for (;;) {
      this.noteDeaths();
      if (this.model.violations.length > 0 || done()) return;
      if (world.wire.sent > SENT_MAX) throw new Error(`a storm of ${world.wire.sent} messages`);
      if (world.nowMs >= endMs) {
        this.describe();
        throw new Error(`${what} did not come within ${limitMs / 1000} s`);
      }
      await world.clock.advance(100);
    }
  }

  private describe(): void {
    for (const m of this.members) {
      const doing = [...m.doing.values()].join('; ');
      this.world.note(`${m.name}: ${m.mount === null ? 'not mounted' : 'mounted'} ${doing}`);
      for (const line of m.mount?.client.locks.describe() ?? []) {
        this.world.note(`${m.name}   ${line}`);
      }
    }
  }

  /** Faults have ended: all mounts come back, all work ends. */
  private async settle(): Promise<void> {
    const { world, members } = this;
    world.note('faults end');
    world.rates = NO_FAULTS;
    world.ambush = null;
    world.wire.heal();
    for (const m of members) {
      world.wire.hostUp(world.host(m.nr).addr);
      for (const p of world.host(m.nr).processes) world.gateOf(p).open();
    }
    // Whoever was cut off or stopped finds out what it has missed.
    await world.clock.advance(STEADY_MS);
    await this.until(() => {
      for (const m of members) if (m.mount === null) this.start(m);
      return world.fencing === 0
        && members.every((m) => m.mount !== null && !m.leaving && m.doing.size === 0);
    }, 'the end of all work');
    this.model.decideAll();
    await this.until(() => this.busy().length === 0, 'the end of all waiting', IDLE_LIMIT_MS);
    for (const what of this.busy()) this.model.violated(what);
  }

  /** Without faults nothing changes: the server stays, and so do the mounts. */
  private async stay(): Promise<void> {
    const { world, members, writers } = this;
    // A member that was just mounted may have stood in later terms while nobody heard it: it
    // hears no leader of an earlier one, and stands again.
    await world.clock.advance(STEADY_MS);
    const mounts = members.map((m) => m.mount);
    const { term } = writers;
    await world.clock.advance(STEADY_MS);
    this.noteDeaths();
    members.forEach((m, i) => {
      if (m.mount !== mounts[i]) this.model.violated(`${m.name} died although nothing failed`);
    });
    if (writers.term !== term) {
      this.model.violated(`term ${writers.term} followed term ${term} although nothing failed`);
    }
  }

  /** What is waited for. Deletions go on after the work. */
  private busy(): string[] {
    const found: string[] = [];
    for (const { mount, name } of this.members) {
      if (mount === null) continue;
      for (const lock of locksOf(mount).values()) {
        if (lock.waiters.length > 0 || lock.reductions.length > 0 || lock.hasUsers) {
          found.push(`${name}: lock ${lock.kind}/${lock.group} is in use`);
        }
      }
      if (mount.client.ops.active > 0) found.push(`${name}: operations are at work`);
    }
    return found;
  }

  /** Every mount sees what the model says. */
  private async compare(): Promise<void> {
    for (const m of this.members) {
      const { mount } = m;
      if (mount !== null) await this.finish(this.walk(mount, m.nr === 1), `a look from ${m.name}`);
    }
  }

  private async walk(mount: SimMount, withData: boolean): Promise<void> {
    const { kernel: k } = mount;
    const dirs = [ROOT_INO];
    for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
      for (const e of await k.readdir(dir)) {
        const attr = await k.lookup(dir, e.name);
        if (attr === null) continue;
        const inode = this.model.get(attr.ino);
        if (inode?.kind === 'dir') dirs.push(attr.ino);
        if (inode?.kind === 'link') await k.readlink(attr.ino);
        for (const name of inode?.xattrs.keys() ?? []) await k.getxattr(attr.ino, name);
        if (withData && inode?.kind === 'file') await k.read(attr.ino, 0, 1 << 16);
        k.forget(attr.ino);
      }
    }
  }

  private async finish<T>(work: Promise<T>, what: string, limitMs = UNMOUNT_LIMIT_MS):
  Promise<T | undefined> {
    const state: { result?: T; error?: unknown; done: boolean } = { done: false };
    work.then((r) => {
      state.result = r;
      state.done = true;
    }, (e: unknown) => {
      state.error = e;
      state.done = true;
    });
    await this.until(() => state.done, what, limitMs);
    if (state.error !== undefined) {
      throw new Error(`${what}: ${asScoutfsError(state.error).message}`);
    }
    return state.result;
  }

  private async unmountAll(): Promise<void> {
    const { world, members, volume } = this;
    world.note('unmounting');
    const all = members.map(async (m) => {
      await world.clock.sleep(world.below(2000));
      if (m.mount !== null && m.life !== null) await this.unmountOne(m, m.mount, m.life);
    });
    await this.finish(Promise.all(all), 'the unmount of all');
    const report = await checkVolume(volume.meta, volume.data);
    for (const f of report.findings) this.model.violated(`check: ${f.id}: ${f.message}`);
    const { inodes, orphans } = report.summary;
    const want = this.reachable();
    if (inodes - orphans !== want) {
      this.model.violated(`check: ${inodes} inodes, ${orphans} of them orphans, instead of ${want}`);
    }
    for (const v of [...volume.meta.violations, ...volume.data.violations]) this.model.violated(v);
  }

  private reachable(): number {
    return [...this.model.inodes.values()].filter((i) => i.nlink > 0).length;
  }
}

function world(c: Cluster): ClusterWorld {
  return c.world;
}
