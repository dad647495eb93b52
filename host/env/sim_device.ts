/**
 * A device in memory for simulations: sparse, shared by several users, and able to lose
 * power, tear writes and fail.
 *
 *   write begins --> in flight --> completed --> flushed
 *                    \________________________/  \______ durable
 *                       lost in any part by a cut
 *
 * Readers see completed writes at once. Only a flush makes them durable: those that had
 * completed when it began. A power cut keeps any subset of all others, in units of 4 KiB,
 * so a longer write can be torn and a later write can survive an earlier one. Units keep
 * one of the versions that were written, never a mixture.
 *
 * A user that has died gets no answers any more and begins nothing; what it had in flight
 * may or may not still happen. `Faults` decide the fate of single operations. Whatever is
 * drawn comes from the `below` that the simulation gives, so the same seed makes the same
 * device. Source: trans.md 8, block.md 5.
 */
import { errnoError } from '../observe/errors.js';
import type { Clock } from './clock.js';
import type { Device } from './device.js';
import { DEVICE_UNIT_BYTES } from './device.js';

/** One operation of the device; `nr` counts those of its kind from 1. */
export interface DeviceIo {
  readonly kind: 'read' | 'write' | 'flush';
  readonly nr: number;
  readonly user: string;
  /** 0 for a flush. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** `fail`: EIO. `ignore`: success without any effect, what a device never should do. */
export type Fate = 'do' | 'fail' | 'ignore';

export interface SimDeviceOptions {
  /** A number in 0 .. n-1. Without it there is nothing to lose: completed writes are durable. */
  below?: (n: number) => number;
  /** With it, operations take `latencyMs`; without, one promise round. */
  clock?: Clock;
  latencyMs?: () => number;
}

/** Who uses the device: a process, a thread. */
export interface DeviceUser {
  readonly name: string;
  alive(): boolean;
}

/** What a power cut met. */
export interface CutReport {
  /** Writes that were not durable. */
  writes: number;
  /** Their units, and how many of them were lost. */
  units: number;
  lost: number;
}

interface Pending {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Who wrote; what a dead user has in flight may be dropped. */
  completed: boolean;
}

/** Chances in percent that a cut keeps a unit; one is drawn for each cut. */
const KEEP_PERCENT = [0, 10, 50, 90, 100] as const;

/** Who reads and writes a device that nobody has opened. */
export const ITSELF: DeviceUser = { name: 'itself', alive: () => true };

export class SimDevice implements Device {
  readonly isBlockDevice = false;
  readonly majMin = [0, 0] as const;
  readonly stats = { reads: 0, writes: 0, flushes: 0 };
  /** Decides what becomes of an operation; called when it begins. */
  faults: ((io: DeviceIo) => Fate) | null = null;
  /** Called after an operation has begun: a write may be lost from here on. */
  begun: ((io: DeviceIo) => void) | null = null;
  /** Broken rules of users, such as a buffer that changed while it was written. */
  readonly violations: string[] = [];
  private readonly durable = new Map<number, Uint8Array>();
  /** What readers see where it is not the durable contents. */
  private readonly recent = new Map<number, Uint8Array>();
  private pending: Pending[] = [];
  private readonly below: (n: number) => number;

  constructor(readonly path: string, readonly sizeBytes: number,
    private readonly opts: SimDeviceOptions = {}) {
    this.below = opts.below ?? ((): number => 0);
  }

  /** The device as one user has it open. */
  open(user: DeviceUser): Device {
    return new OpenSimDevice(this, user);
  }

  /** A second device with the contents that readers see, all of it durable. */
  copy(opts: SimDeviceOptions = this.opts): SimDevice {
    const d = new SimDevice(this.path, this.sizeBytes, opts);
    d.load(this);
    return d;
  }

  /** Takes over the contents that readers of another device see, as durable. */
  load(from: SimDevice): void {
    for (const [nr, unit] of from.durable) this.durable.set(nr, unit);
    for (const [nr, unit] of from.recent) this.durable.set(nr, unit);
  }

  /** The device as it would be after a cut now, which does not happen. */
  afterCut(opts: SimDeviceOptions): { device: SimDevice; report: CutReport } {
    const device = new SimDevice(this.path, this.sizeBytes, opts);
    for (const [nr, unit] of this.durable) device.durable.set(nr, unit);
    device.pending = [...this.pending];
    return { device, report: device.cut() };
  }

  /** What readers see now, without the device taking notice. */
  peek(offset: number, buf: Uint8Array): void {
    this.fill(offset, buf);
  }

  /** Writes that a cut could lose now. */
  get unflushed(): number {
    return this.pending.length;
  }

  /** The byte offset of the last write that was not flushed; -1 when all were. */
  get lastUnflushedOffset(): number {
    return this.pending.at(-1)?.offset ?? -1;
  }

  /** The power fails: keeps some units of what was not durable, and forgets the rest. */
  cut(): CutReport {
    const keepPercent = KEEP_PERCENT[this.below(KEEP_PERCENT.length)] ?? 0;
    // A device that orders its cache by age, newest last or first, is as likely as chance.
    const favoured = this.below(4);
    const report = { writes: this.pending.length, units: 0, lost: 0 };
    this.pending.forEach((w, i) => {
      const certain = favoured === 0 && i === this.pending.length - 1;
      const dropped = favoured === 1 && i === this.pending.length - 1;
      for (let at = 0; at < w.bytes.length; at += DEVICE_UNIT_BYTES) {
        report.units += 1;
        const kept = certain || (!dropped && this.below(100) < keepPercent);
        if (kept) this.durable.set(unitNr(w.offset + at), unitOf(w.bytes, at));
        else report.lost += 1;
      }
    });
    this.pending = [];
    this.recent.clear();
    return report;
  }

  read(offset: number, buf: Uint8Array): Promise<void> { return this.readFor(ITSELF, offset, buf); }
  write(offset: number, buf: Uint8Array): Promise<void> {
    return this.writeFor(ITSELF, offset, buf);
  }

  flush(): Promise<void> { return this.flushFor(ITSELF); }
  readSync(offset: number, buf: Uint8Array): void { this.readSyncFor(ITSELF, offset, buf); }
  writeSync(offset: number, buf: Uint8Array): void { this.writeSyncFor(ITSELF, offset, buf); }
  flushSync(): void { this.flushSyncFor(ITSELF); }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  async readFor(user: DeviceUser, offset: number, buf: Uint8Array): Promise<void> {
    if (!user.alive()) await never();
    const fate = this.begin('read', user, offset, buf);
    await this.delay(user);
    if (fate === 'fail') throw failure('read', offset);
    this.fill(offset, buf);
  }

  readSyncFor(user: DeviceUser, offset: number, buf: Uint8Array): void {
    if (this.begin('read', user, offset, buf) === 'fail') throw failure('read', offset);
    this.fill(offset, buf);
  }

  async writeFor(user: DeviceUser, offset: number, buf: Uint8Array): Promise<void> {
    if (!user.alive()) await never();
    const w: Pending = { offset, bytes: buf.slice(), completed: false };
    const fate = this.beginWrite(user, w);
    await this.delay(user, w);
    if (fate === 'fail') this.failWrite(w);
    if (fate === 'do' && Buffer.compare(w.bytes, buf) !== 0) {
      this.violations.push(`${user.name} changed a buffer while it was written at ${offset}`);
    }
    if (fate === 'do') this.complete(w);
  }

  writeSyncFor(user: DeviceUser, offset: number, buf: Uint8Array): void {
    const w: Pending = { offset, bytes: buf.slice(), completed: false };
    const fate = this.beginWrite(user, w);
    if (fate === 'fail') this.failWrite(w);
    if (fate === 'do') this.complete(w);
  }

  async flushFor(user: DeviceUser): Promise<void> {
    if (!user.alive()) await never();
    const fate = this.begin('flush', user, 0, NOTHING);
    const covered = new Set(this.pending.filter((w) => w.completed));
    await this.delay(user);
    this.finishFlush(fate, covered);
  }

  flushSyncFor(user: DeviceUser): void {
    const fate = this.begin('flush', user, 0, NOTHING);
    this.finishFlush(fate, new Set(this.pending.filter((w) => w.completed)));
  }

  private begin(kind: DeviceIo['kind'], user: DeviceUser, offset: number, bytes: Uint8Array): Fate {
    if (!user.alive()) throw errnoError('EIO', `${user.name} is dead`);
    if (offset < 0 || offset + bytes.length > this.sizeBytes) {
      this.violations.push(`${user.name}: ${kind} of ${bytes.length} at ${offset} past the end`);
      throw errnoError('EIO', `${this.path}: ${kind} past the end`);
    }
    if (offset % DEVICE_UNIT_BYTES !== 0 || bytes.length % DEVICE_UNIT_BYTES !== 0) {
      throw errnoError('EINVAL', `${this.path}: ${kind} of ${bytes.length} bytes at ${offset}`);
    }
    const nr = this.count(kind);
    const io: DeviceIo = { kind, nr, user: user.name, offset, bytes };
    const fate = this.faults?.(io) ?? 'do';
    if (kind !== 'write') this.begun?.(io);
    return fate;
  }

  private beginWrite(user: DeviceUser, w: Pending): Fate {
    const fate = this.begin('write', user, w.offset, w.bytes);
    if (fate === 'do') this.pending.push(w);
    this.begun?.({
      kind: 'write', nr: this.stats.writes, user: user.name, offset: w.offset, bytes: w.bytes,
    });
    return fate;
  }

  private count(kind: DeviceIo['kind']): number {
    const { stats } = this;
    if (kind === 'read') return ++stats.reads;
    return kind === 'write' ? ++stats.writes : ++stats.flushes;
  }

  /** Takes as long as the device does; for ever when the user has died meanwhile. */
  private async delay(user: DeviceUser, w?: Pending): Promise<void> {
    const { clock, latencyMs } = this.opts;
    const ms = latencyMs?.() ?? 0;
    if (clock !== undefined && ms > 0) await clock.sleep(ms);
    else await Promise.resolve();
    if (user.alive()) return;
    const at = w === undefined ? -1 : this.pending.lastIndexOf(w);
    if (w !== undefined && at >= 0) {
      if (this.below(2) === 0) this.complete(w);
      else this.pending.splice(at, 1);
    }
    await never();
  }

  private complete(w: Pending): void {
    const at = this.pending.lastIndexOf(w);
    if (at < 0) return;
    this.pending.splice(at, 1);
    w.completed = true;
    const cached = this.opts.below !== undefined;
    // The order of completion is the order in which versions of a unit follow each other.
    if (cached) this.pending.push(w);
    const units = cached ? this.recent : this.durable;
    for (let o = 0; o < w.bytes.length; o += DEVICE_UNIT_BYTES) {
      units.set(unitNr(w.offset + o), unitOf(w.bytes, o));
    }
  }

  /** A failed write may have changed any of its units. */
  private failWrite(w: Pending): never {
    for (let o = 0; o < w.bytes.length; o += DEVICE_UNIT_BYTES) {
      if (this.below(2) !== 0) continue;
      const part: Pending = {
        offset: w.offset + o, bytes: unitOf(w.bytes, o), completed: false,
      };
      this.pending.push(part);
      this.complete(part);
    }
    throw failure('write', w.offset);
  }

  private finishFlush(fate: Fate, covered: ReadonlySet<Pending>): void {
    if (fate === 'fail') throw failure('flush', 0);
    if (fate === 'ignore') return;
    const later: Pending[] = [];
    for (const w of this.pending) {
      if (!covered.has(w)) {
        later.push(w);
        continue;
      }
      for (let o = 0; o < w.bytes.length; o += DEVICE_UNIT_BYTES) {
        this.durable.set(unitNr(w.offset + o), unitOf(w.bytes, o));
      }
    }
    this.pending = later;
    this.recent.clear();
    for (const w of later) {
      if (!w.completed) continue;
      for (let o = 0; o < w.bytes.length; o += DEVICE_UNIT_BYTES) {
        this.recent.set(unitNr(w.offset + o), unitOf(w.bytes, o));
      }
    }
  }

  private fill(offset: number, buf: Uint8Array): void {
    for (let o = 0; o < buf.length; o += DEVICE_UNIT_BYTES) {
      const nr = unitNr(offset + o);
      const unit = this.recent.get(nr) ?? this.durable.get(nr);
      if (unit === undefined) buf.fill(0, o, o + DEVICE_UNIT_BYTES);
      else buf.set(unit, o);
    }
  }
}

const NOTHING = new Uint8Array(0);

/** What the dead wait for. */
function never(): Promise<never> {
  return new Promise<never>(() => undefined);
}

function unitNr(offset: number): number {
  return offset / DEVICE_UNIT_BYTES;
}

function unitOf(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.subarray(at, at + DEVICE_UNIT_BYTES);
}

function failure(what: string, offset: number): Error {
  return errnoError('EIO', `simulated: ${what} at byte ${offset} failed`);
}

class OpenSimDevice implements Device {
  readonly path: string;
  readonly sizeBytes: number;
  readonly isBlockDevice = false;
  readonly majMin = [0, 0] as const;

  constructor(private readonly device: SimDevice, private readonly user: DeviceUser) {
    this.path = device.path;
    this.sizeBytes = device.sizeBytes;
  }

  read(offset: number, buf: Uint8Array): Promise<void> {
    return this.device.readFor(this.user, offset, buf);
  }

  readSync(offset: number, buf: Uint8Array): void {
    this.device.readSyncFor(this.user, offset, buf);
  }

  write(offset: number, buf: Uint8Array): Promise<void> {
    return this.device.writeFor(this.user, offset, buf);
  }

  writeSync(offset: number, buf: Uint8Array): void {
    this.device.writeSyncFor(this.user, offset, buf);
  }

  flush(): Promise<void> { return this.device.flushFor(this.user); }
  flushSync(): void { this.device.flushSyncFor(this.user); }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}
