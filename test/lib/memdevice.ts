/**
 * A sparse device in memory. Reads and writes finish in a later promise round, like a
 * real device's. Writes can be made to fail, or to wait until released.
 */
import type { Device } from '../../host/env/device.js';
import { errnoError } from '../../host/observe/errors.js';

const UNIT = 4096;

export class MemDevice implements Device {
  readonly isBlockDevice = false;
  readonly majMin = [0, 0] as const;
  readonly units = new Map<number, Uint8Array>();
  flushes = 0;
  failWrites = false;
  /** When set, writes wait for it. */
  gate: Promise<void> | null = null;

  constructor(readonly path: string, readonly sizeBytes: number) {}

  async read(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.readSync(offset, buf);
  }

  readSync(offset: number, buf: Uint8Array): void {
    if (offset < 0 || offset + buf.length > this.sizeBytes) throw errnoError('EIO', 'past the end');
    for (let o = 0; o < buf.length; o += UNIT) {
      const unit = this.units.get((offset + o) / UNIT);
      if (unit === undefined) buf.fill(0, o, o + UNIT);
      else buf.set(unit.subarray(0, Math.min(UNIT, buf.length - o)), o);
    }
  }

  async write(offset: number, buf: Uint8Array): Promise<void> {
    await (this.gate ?? Promise.resolve());
    this.writeSync(offset, buf);
  }

  writeSync(offset: number, buf: Uint8Array): void {
    if (this.failWrites) throw errnoError('EIO', 'writes fail');
    if (offset % UNIT !== 0 || buf.length % UNIT !== 0) throw errnoError('EIO', 'unaligned');
    if (offset + buf.length > this.sizeBytes) throw errnoError('EIO', 'past the end');
    for (let o = 0; o < buf.length; o += UNIT) {
      this.units.set((offset + o) / UNIT, buf.slice(o, o + UNIT));
    }
  }

  async flush(): Promise<void> {
    this.flushSync();
  }

  flushSync(): void {
    this.flushes++;
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}
