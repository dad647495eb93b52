/**
 * A simulated world: hosts with addresses, processes on them, devices that all can reach,
 * one clock, one network, and one seed from which all chance comes.
 *
 * Nothing in it touches the machine: two worlds of one seed to which the same is done do
 * the same, write for write. A process (and each of its threads) has an `Env` of its own;
 * killing it ends its timers, sockets and device operations wherever they are, and what
 * code of it still runs finds that nothing answers any more.
 *
 *   const w = new SimWorld(seed);
 *   const v = await simVolume(w);                       (simmount.ts)
 *   const m = await w.run(SimMount.start(w.host(1), v));
 *   await w.run(m.fs.create(ROOT_INO, 'name'));
 *   w.powerCut();
 */
import { createHash } from 'node:crypto';
import type { Clock, TimerHandle } from '../../host/env/clock.js';
import type { Device } from '../../host/env/device.js';
import type { Env } from '../../host/env/env.js';
import type { LocalMounts } from '../../host/env/local_mounts.js';
import type { Net } from '../../host/env/net.js';
import type { Random } from '../../host/env/random.js';
import type { CutReport, DeviceUser } from '../../host/env/sim_device.js';
import { SimDevice } from '../../host/env/sim_device.js';
import type { Thread } from '../../host/env/thread.js';
import { errnoError } from '../../host/observe/errors.js';
import { seeded } from './core.js';
import { SimClock } from './simclock.js';
import { SimNet } from './simnet.js';
import { startSimThread, threadName } from './simthread.js';
import { seededRandom } from './treespace.js';

/** The caller with this process id has CAP_SYS_ADMIN; all others have not. */
export const ADMIN_PID = 1;
const NETWORK = 0x0a000000;
/** Nothing waits longer than this in a simulation that is sound. */
const RUN_LIMIT_MS = 3_600_000;

/** One process's sockets, which end with it. */
export interface ProcessNet extends Net {
  kill(): void;
}

export interface WorldOptions {
  /** Longest time of one device operation; 0: they take one promise round. */
  latencyMaxMs?: number;
}

export class SimWorld {
  readonly clock = new SimClock();
  readonly net = new SimNet();
  /** A number in 0 .. n-1. */
  readonly below: (n: number) => number;
  readonly devices = new Map<string, SimDevice>();
  private readonly hosts = new Map<number, SimHost>();

  constructor(readonly seed: number, private readonly opts: WorldOptions = {}) {
    const below = seeded(Math.imul(seed + 1, 0x9e3779b1));
    for (let i = 0; i < 8; i++) below(2);
    this.below = below;
  }

  host(nr: number): SimHost {
    const host = this.hosts.get(nr) ?? new SimHost(this, nr);
    this.hosts.set(nr, host);
    return host;
  }

  /** The process that serves a mount, wherever it runs. */
  processOf(rid: bigint): SimProcess | undefined {
    for (const host of this.hosts.values()) {
      for (const p of host.processes) if (p.rid === rid) return p;
    }
    return undefined;
  }

  /** What a process or thread may use: its sockets, its clock, a device, and the agent. */
  netOf(p: SimProcess): ProcessNet {
    return this.net.host(p.host.addr);
  }

  clockOf(p: SimProcess): Clock {
    return new ProcessClock(this.clock, () => p.alive());
  }

  openFor(p: SimProcess, device: SimDevice): Device {
    return device.open(p);
  }

  /** Hosts of a world can power each other off: the agent answers for all of them. */
  localMountsOf(p: SimProcess): LocalMounts {
    const find = (rid: bigint): SimProcess | undefined => this.processOf(rid);
    return {
      isLocal: () => true,
      stateOf(rid) {
        const other = find(rid);
        if (other === undefined) return 'gone';
        return other === p ? 'foreign' : 'running';
      },
      pause: () => p.env.clock.sleep(1),
      kill(rid) {
        find(rid)?.kill();
        return Promise.resolve(true);
      },
      forget: () => undefined,
    };
  }

  /** Adds an empty device, or one with the contents of another. */
  addDevice(path: string, sizeBytes: number, contents?: SimDevice): SimDevice {
    const opts = this.deviceOptions();
    const device = contents?.copy(opts) ?? new SimDevice(path, sizeBytes, opts);
    this.devices.set(path, device);
    return device;
  }

  /** Lets time pass until the promise has settled. @throws what it rejects with */
  run<T>(promise: Promise<T>): Promise<T> {
    return this.clock.until(promise, RUN_LIMIT_MS);
  }

  /** All hosts and devices lose power. @returns what the devices had not written */
  powerCut(): CutReport {
    const total: CutReport = { writes: 0, units: 0, lost: 0 };
    for (const host of this.hosts.values()) host.killAll();
    for (const device of this.devices.values()) {
      const r = device.cut();
      total.writes += r.writes;
      total.units += r.units;
      total.lost += r.lost;
    }
    return total;
  }

  /**
   * From now on, a hash over every write and flush of every device, in order. Two runs
   * are the same if their hashes are.
   */
  trace(): () => string {
    const hash = createHash('sha256');
    for (const device of this.devices.values()) {
      device.begun = (io): void => {
        if (io.kind === 'read') return;
        const atMs = this.clock.monotonicMs();
        hash.update(`${device.path} ${atMs} ${io.user} ${io.kind} ${io.offset}`);
        hash.update(io.bytes);
      };
    }
    return () => hash.copy().digest('hex');
  }

  /** How long a device operation takes; 0: one promise round. */
  protected latencyMs(): number {
    const max = this.opts.latencyMaxMs ?? 0;
    return max === 0 ? 0 : this.below(max * 10 + 1) / 10;
  }

  private deviceOptions(): ConstructorParameters<typeof SimDevice>[2] {
    return { below: this.below, clock: this.clock, latencyMs: () => this.latencyMs() };
  }
}

export class SimHost {
  readonly addr: number;
  readonly processes = new Set<SimProcess>();

  constructor(readonly world: SimWorld, readonly nr: number) {
    this.addr = NETWORK + nr;
  }

  /** A new process. */
  start(name: string): SimProcess {
    const p = new SimProcess(this, `${name}@${this.nr}`, null);
    this.processes.add(p);
    return p;
  }

  /** Everything on this host stops where it is. */
  killAll(): void {
    for (const p of this.processes) p.kill();
  }
}

/** A process, or one of its threads. */
export class SimProcess implements DeviceUser {
  readonly env: Env;
  /** The mount that the process serves, for the host's fence agent. */
  rid = 0n;
  private readonly net: ProcessNet;
  private readonly threads: SimProcess[] = [];
  private dead = false;

  constructor(readonly host: SimHost, readonly name: string,
    readonly parent: SimProcess | null) {
    const { world } = host;
    this.net = world.netOf(this);
    const random: Random = seededRandom(world.below(2 ** 31));
    this.env = {
      clock: world.clockOf(this), random, net: this.net,
      openDevice: (path) => this.openDevice(path),
      startThread: (url, data) => this.startThread(url, data),
      localMounts: () => world.localMountsOf(this.parent ?? this),
      isAdmin: (pid) => pid === ADMIN_PID,
    };
  }

  alive(): boolean {
    return !this.dead && (this.parent?.alive() ?? true);
  }

  /** Stops it where it is. */
  kill(): void {
    if (this.dead) return;
    this.dead = true;
    this.net.kill();
    for (const t of this.threads) t.kill();
    this.host.processes.delete(this);
  }

  private openDevice(path: string): Promise<Device> {
    const device = this.host.world.devices.get(path);
    if (device === undefined) return Promise.reject(errnoError('ENOENT', path));
    return Promise.resolve(this.host.world.openFor(this, device));
  }

  private startThread<In, Out>(url: URL, data: unknown): Thread<In, Out> {
    const thread = new SimProcess(this.host, `${this.name} ${threadName(url)}`, this);
    this.threads.push(thread);
    return startSimThread<In, Out>(thread, url, data);
  }
}

/** The world's clock as long as the process lives. */
class ProcessClock implements Clock {
  constructor(private readonly clock: SimClock, private readonly alive: () => boolean) {}

  now(): ReturnType<Clock['now']> {
    return this.clock.now();
  }

  monotonicMs(): number {
    return this.clock.monotonicMs();
  }

  after(delayMs: number, fn: () => void): TimerHandle {
    return this.clock.after(delayMs, () => { if (this.alive()) fn(); });
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => { this.after(delayMs, resolve); });
  }
}
