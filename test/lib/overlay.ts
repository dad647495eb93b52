/**
 * A device over another one: reads fall through, writes stay in memory.
 *
 * Lets a test damage a volume of many gigabytes hundreds of times without copying
 * it: every case starts with a fresh overlay.
 */
import type { Device } from '../../host/env/device.js';

const UNIT_BYTES = 4096;

export class OverlayDevice implements Device {
  readonly path: string;
  readonly isBlockDevice = false;
  readonly majMin: readonly [number, number] = [0, 0];
  private readonly units = new Map<number, Uint8Array>();

  /** @param sizeBytes to pretend another size than the base's */
  constructor(private readonly base: Device, readonly sizeBytes = base.sizeBytes) {
    this.path = base.path;
  }

  readSync(offset: number, buf: Uint8Array): void {
    this.base.readSync(offset, buf);
    for (let o = 0; o < buf.length; o += UNIT_BYTES) {
      const unit = this.units.get((offset + o) / UNIT_BYTES);
      if (unit !== undefined) buf.set(unit.subarray(0, buf.length - o), o);
    }
  }

  writeSync(offset: number, buf: Uint8Array): void {
    for (let o = 0; o < buf.length; o += UNIT_BYTES) {
      this.units.set((offset + o) / UNIT_BYTES, buf.slice(o, o + UNIT_BYTES));
    }
  }

  async read(offset: number, buf: Uint8Array): Promise<void> {
    this.readSync(offset, buf);
  }

  async write(offset: number, buf: Uint8Array): Promise<void> {
    this.writeSync(offset, buf);
  }

  async flush(): Promise<void> {
    // Nothing is kept.
  }

  flushSync(): void {
    // Nothing is kept.
  }

  async close(): Promise<void> {
    // The base belongs to the test.
  }

  /** Writes what this overlay holds to another device. */
  writeTo(device: Pick<Device, 'writeSync'>): void {
    for (const [n, unit] of this.units) device.writeSync(n * UNIT_BYTES, unit);
  }

  /** A second overlay that starts with the same contents. */
  fork(): OverlayDevice {
    const d = new OverlayDevice(this.base, this.sizeBytes);
    for (const [n, u] of this.units) d.units.set(n, u);
    return d;
  }
}
