/**
 * A device in memory, sparse, for tests of everything above the device row.
 */
import type { Device } from '../../host/env/device.js';

const UNIT = 4096;

export class MemDevice implements Device {
  readonly isBlockDevice = false;
  readonly majMin = [0, 0] as const;
  readonly units = new Map<number, Uint8Array>();
  /** counts of operations since the start */
  readonly stats = { reads: 0, writes: 0, flushes: 0 };

  constructor(readonly sizeBytes: number, readonly path = 'mem') {}

  readSync(offset: number, buf: Uint8Array): void {
    this.stats.reads += 1;
    for (let at = 0; at < buf.length; at += UNIT) {
      const u = this.units.get((offset + at) / UNIT);
      if (u === undefined) buf.fill(0, at, at + UNIT);
      else buf.set(u, at);
    }
  }

  writeSync(offset: number, buf: Uint8Array): void {
    this.stats.writes += 1;
    for (let at = 0; at < buf.length; at += UNIT) {
      this.units.set((offset + at) / UNIT, buf.slice(at, at + UNIT));
    }
  }

  async read(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.readSync(offset, buf);
  }

  async write(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.writeSync(offset, buf);
  }

  flushSync(): void { this.stats.flushes += 1; }

  async flush(): Promise<void> {
    await Promise.resolve();
    this.flushSync();
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}
