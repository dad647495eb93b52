/**
 * A device that remembers which of its reads, writes and flushes are at work, so that a
 * device that does not answer can be seen and named. Nothing is timed out: whether a
 * device comes back is not ours to judge.
 */
import type { Clock } from './clock.js';
import type { Pending } from '../observe/pending.js';
import type { Device } from './device.js';

/** The accesses at work as waits; devices that nobody watches have none. */
export function devicePending(devices: readonly Device[]): Pending[] {
  return devices.flatMap((d) => d instanceof WatchedDevice
    ? d.accesses().map((a): Pending => ({
      kind: 'device', sinceMs: a.sinceMs, text: `${a.what} ${d.path} offset ${a.offset}`,
    })) : []);
}

/** One access that has not ended. */
export interface DeviceAccess {
  what: 'read' | 'write' | 'flush';
  /** first byte; 0 for a flush */
  offset: number;
  sinceMs: number;
}

export class WatchedDevice implements Device {
  private readonly atWork = new Set<DeviceAccess>();

  constructor(private readonly device: Device, private readonly clock: Clock) {}

  get path(): string { return this.device.path; }
  get sizeBytes(): number { return this.device.sizeBytes; }
  get isBlockDevice(): boolean { return this.device.isBlockDevice; }
  get majMin(): readonly [number, number] { return this.device.majMin; }

  /** The accesses at work, the oldest first. */
  accesses(): DeviceAccess[] {
    return [...this.atWork];
  }

  read(offset: number, buf: Uint8Array): Promise<void> {
    return this.during('read', offset, this.device.read(offset, buf));
  }

  write(offset: number, buf: Uint8Array): Promise<void> {
    return this.during('write', offset, this.device.write(offset, buf));
  }

  flush(): Promise<void> {
    return this.during('flush', 0, this.device.flush());
  }

  readSync(offset: number, buf: Uint8Array): void { this.device.readSync(offset, buf); }
  writeSync(offset: number, buf: Uint8Array): void { this.device.writeSync(offset, buf); }
  flushSync(): void { this.device.flushSync(); }
  refreshSize(): void { this.device.refreshSize?.(); }
  close(): Promise<void> { return this.device.close(); }

  private async during(what: DeviceAccess['what'], offset: number, work: Promise<void>):
  Promise<void> {
    const access = { what, offset, sinceMs: this.clock.monotonicMs() };
    this.atWork.add(access);
    try {
      await work;
    } finally {
      this.atWork.delete(access);
    }
  }
}
