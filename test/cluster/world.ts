/**
 * A simulated world for clusters: hosts whose processes can be stopped, whose clocks are
 * wrong, whose network and devices fail, and whose fence agent is slow or fails.
 *
 * The fence agent keeps upstream's contract: when it answers, the mount cannot write any
 * more, not even what it had under way. Everything that happens is noted in `trace`,
 * together with the simulated time; the notes of two runs of one seed are equal.
 */
import type { Clock, TimerHandle } from '../../host/env/clock.js';
import type { Device } from '../../host/env/device.js';
import type { LocalMounts } from '../../host/env/local_mounts.js';
import type { DeviceIo, Fate, SimDevice } from '../../host/env/sim_device.js';
import { ITSELF } from '../../host/env/sim_device.js';
import type { SimProcess } from '../lib/simworld.js';
import { SimWorld } from '../lib/simworld.js';
import { Gate } from './gate.js';
import { CALM, Wire, WireNet } from './wire.js';
import type { WireFaults } from './wire.js';

/** What may happen now, in percent. */
export interface FaultRates extends WireFaults {
  /** device operations that take up to a second */
  slowIo: number;
  /** writes of file data that begin up to a second late */
  slowData: number;
  /** device operations of a process that fail, in tenths of a percent */
  failIo: number;
  /** calls of the fence agent that take up to 20 s, and that fail */
  fenceSlow: number;
  fenceFail: number;
}

const DATA_LATE_MS = 1000;
const TIMER_LEAST_MS = 0.001;

export const NO_FAULTS: FaultRates = {
  ...CALM, slowIo: 0, slowData: 0, failIo: 0, fenceSlow: 0, fenceFail: 0,
};

/** What happens to a process in the middle of its work. */
export interface Ambush {
  /** of servers, or of mounts */
  ofServers: boolean;
  /** begins and ends of their device operations until then */
  left: number;
  strike(p: SimProcess): void;
}

/** How wrong a host's clock is. */
interface Drift {
  rate: number;
  wallMs: number;
  /** world time and the host's monotonic time at the last change */
  worldMs: number;
  monoMs: number;
}

export class ClusterWorld extends SimWorld {
  readonly wire: Wire;
  readonly notes: string[] = [];
  /** Told of every write as it begins and as it ends. */
  onWrite: ((p: SimProcess, device: string, io: { offset: number; bytes: Uint8Array },
    done: boolean) => void) | null = null;
  onFenced: ((rid: bigint) => void) | null = null;
  ambush: Ambush | null = null;
  /** Calls of the fence agent that are at work. */
  fencing = 0;
  private ratesNow = NO_FAULTS;
  private failedUntilMs = 0;
  private readonly gates = new Map<SimProcess, Gate>();
  private readonly drifts = new Map<number, Drift>();
  /** When the last device operation begun so far ends. */
  private ioEndMs = 0;
  private readonly diedMs = new Map<bigint, number>();

  constructor(seed: number) {
    super(seed);
    this.wire = new Wire(this.clock, this.below);
  }

  /** Whether devices fail now. */
  get failing(): boolean {
    return this.nowMs < this.failedUntilMs;
  }

  get rates(): FaultRates {
    return this.ratesNow;
  }

  set rates(r: FaultRates) {
    this.ratesNow = r;
    this.wire.now = r;
  }

  get nowMs(): number {
    return this.clock.monotonicMs();
  }

  note(text: string): void {
    this.notes.push(`${this.nowMs.toFixed(1).padStart(9)} ${text}`);
  }

  /** A fault is done. */
  fault(kind: string, what: string): void {
    this.wire.count(kind);
    this.note(`FAULT ${kind}: ${what}`);
  }

  gateOf(p: SimProcess): Gate {
    const known = this.gates.get(p);
    if (known !== undefined) return known;
    const gate = new Gate(this.clock, p.parent === null ? null : this.gateOf(p.parent));
    this.gates.set(p, gate);
    return gate;
  }

  override netOf(p: SimProcess): WireNet {
    return new WireNet(this.wire, p.host.addr, this.gateOf(p));
  }

  override clockOf(p: SimProcess): Clock {
    return new HostClock(this, p, this.gateOf(p));
  }

  override openFor(p: SimProcess, device: SimDevice): Device {
    const path = device.path;
    if (device.faults === null) device.faults = (io) => this.fate(path, io);
    return new GatedDevice(super.openFor(p, device), this, p, this.gateOf(p));
  }

  /** A host's clock runs at another rate, and says another time. */
  setClock(addr: number, rate: number, wallMs: number): void {
    const d = this.drift(addr);
    d.monoMs = this.monotonicOf(addr);
    d.worldMs = this.nowMs;
    d.rate = rate;
    d.wallMs = wallMs;
  }

  drift(addr: number): Drift {
    const d = this.drifts.get(addr) ?? { rate: 1, wallMs: 0, worldMs: 0, monoMs: 0 };
    this.drifts.set(addr, d);
    return d;
  }

  monotonicOf(addr: number): number {
    const d = this.drift(addr);
    return d.monoMs + (this.nowMs - d.worldMs) * d.rate;
  }

  /** A process has ended; what it had under way at the devices may still happen. */
  died(rid: bigint): void {
    this.diedMs.set(rid, this.ioEndMs);
  }

  override localMountsOf(p: SimProcess): LocalMounts {
    const base = super.localMountsOf(p);
    return {
      ...base,
      stateOf: (rid) => {
        const state = base.stateOf(rid);
        return state === 'gone' && this.stillWriting(rid) ? 'unclear' : state;
      },
      pause: () => p.env.clock.sleep(250),
      kill: async (rid) => {
        this.fencing += 1;
        try {
          return await this.fence(p, rid);
        } finally {
          this.fencing -= 1;
        }
      },
    };
  }

  protected override latencyMs(): number {
    let ms = 0.1 + this.below(10) / 10;
    if (this.wire.chance(this.ratesNow.slowIo)) {
      this.wire.count('slow io');
      ms += this.below(1000);
    }
    this.ioEndMs = Math.max(this.ioEndMs, this.nowMs + ms);
    return ms;
  }

  private fate(path: string, io: DeviceIo): Fate {
    // Oracles read the devices themselves.
    if (io.user === ITSELF.name) return 'do';
    if (this.ratesNow.failIo === 0 || this.below(1000) >= this.ratesNow.failIo) return 'do';
    this.failedUntilMs = this.nowMs + 1000;
    this.fault('io error', `${io.kind} of ${io.user} on ${path} at ${io.offset}`);
    return 'fail';
  }

  /** A process begins or ends a device operation. */
  passed(p: SimProcess): void {
    const { ambush } = this;
    if (ambush === null || ambush.ofServers !== (p.parent !== null) || !p.alive()) return;
    if (--ambush.left > 0) return;
    this.ambush = null;
    this.clock.after(0, () => { ambush.strike(p); });
  }

  private stillWriting(rid: bigint): boolean {
    return this.nowMs <= (this.diedMs.get(rid) ?? -1);
  }

  /** What the cluster's agent does: powers the mount's host off. */
  private async fence(by: SimProcess, rid: bigint): Promise<boolean> {
    const { clock, wire } = this;
    if (wire.chance(this.ratesNow.fenceFail)) {
      this.fault('fence failed', rid.toString(16));
      return false;
    }
    if (wire.chance(this.ratesNow.fenceSlow)) {
      this.fault('fence slow', rid.toString(16));
      await clock.sleep(this.below(20_000));
    }
    const victim = this.processOf(rid);
    this.note(`fence ${rid.toString(16)} by ${by.name}: ${victim === undefined ? 'gone' : 'killed'}`);
    if (victim !== undefined) {
      victim.kill();
      this.died(rid);
    }
    while (this.stillWriting(rid)) await clock.sleep(1);
    this.onFenced?.(rid);
    await this.gateOf(by).pass();
    return true;
  }
}

/** The clock of a process: its host's, as long as it lives, and never while it is stopped. */
export class HostClock implements Clock {
  /** `p`: whose clock it is; the oracles recognize servers by it. */
  constructor(private readonly world: ClusterWorld, readonly p: SimProcess,
    private readonly gate: Gate) {}

  now(): ReturnType<Clock['now']> {
    const { sec, nsec } = this.world.clock.now();
    return { sec: sec + Math.floor(this.world.drift(this.p.host.addr).wallMs / 1000), nsec };
  }

  monotonicMs(): number {
    return this.world.monotonicOf(this.p.host.addr);
  }

  after(delayMs: number, fn: () => void): TimerHandle {
    const { rate } = this.world.drift(this.p.host.addr);
    let cancelled = false;
    // Less than this may be nothing beside the time that it is added to.
    const worldMs = delayMs > 0 ? Math.max(delayMs / rate, TIMER_LEAST_MS) : 0;
    const timer = this.world.clock.after(worldMs, () => {
      this.gate.timer(() => { if (!cancelled && this.p.alive()) fn(); });
    });
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => { this.after(delayMs, resolve); });
  }
}

/** A device as a process sees it that can be stopped: it learns of results when it runs. */
class GatedDevice implements Device {
  readonly path: string;
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  readonly majMin: readonly [number, number];

  constructor(private readonly device: Device, private readonly world: ClusterWorld,
    private readonly p: SimProcess, private readonly gate: Gate) {
    this.path = device.path;
    this.sizeBytes = device.sizeBytes;
    this.isBlockDevice = device.isBlockDevice;
    this.majMin = device.majMin;
  }

  read(offset: number, buf: Uint8Array): Promise<void> {
    return this.gated(this.device.read(offset, buf));
  }

  readSync(offset: number, buf: Uint8Array): void {
    this.device.readSync(offset, buf);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const { world, p, path } = this;
    if (path === 'data' && world.wire.chance(world.rates.slowData)) {
      world.wire.count('slow data');
      await world.clock.sleep(world.below(DATA_LATE_MS));
    }
    if (p.alive()) world.onWrite?.(p, path, { offset, bytes }, false);
    world.passed(p);
    await this.device.write(offset, bytes);
    world.onWrite?.(p, path, { offset, bytes }, true);
    world.passed(p);
    await this.gate.pass();
  }

  writeSync(offset: number, buf: Uint8Array): void {
    this.device.writeSync(offset, buf);
  }

  flush(): Promise<void> {
    this.world.passed(this.p);
    return this.gated(this.device.flush());
  }

  flushSync(): void {
    this.device.flushSync();
  }

  close(): Promise<void> {
    return this.device.close();
  }

  private async gated(work: Promise<void>): Promise<void> {
    try {
      await work;
    } finally {
      await this.gate.pass();
    }
  }
}
