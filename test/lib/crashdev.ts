/**
 * A device of one host that loses power.
 *
 * Writes stay in the host's volatile cache until a flush. When `writesLeft` is used up
 * the power is gone: each unflushed write reaches the medium or does not, as the seed
 * has it, and nothing that comes later does. The medium outlives the host.
 */
import type { Device } from '../../host/env/device.js';
import { errnoError } from '../../host/observe/errors.js';
import { seeded } from './core.js';
import type { MemDevice } from './memdev.js';

export class CrashDevice implements Device {
  readonly isBlockDevice = false;
  readonly majMin = [0, 0] as const;
  readonly path: string;
  readonly sizeBytes: number;
  crashed = false;
  private readonly volatile = new Map<number, Uint8Array>();
  private readonly below: (n: number) => number;

  constructor(private readonly medium: MemDevice, public writesLeft: number, seed: number) {
    this.path = medium.path;
    this.sizeBytes = medium.sizeBytes;
    this.below = seeded(seed);
  }

  async read(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.readSync(offset, buf);
  }

  readSync(offset: number, buf: Uint8Array): void {
    if (this.crashed) throw errnoError('EIO', 'no power');
    const unflushed = this.volatile.get(offset);
    if (unflushed?.length === buf.length) buf.set(unflushed);
    else this.medium.readSync(offset, buf);
  }

  async write(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.writeSync(offset, buf);
  }

  writeSync(offset: number, buf: Uint8Array): void {
    if (this.crashed) throw errnoError('EIO', 'no power');
    if (this.writesLeft-- <= 0) {
      this.crash();
      throw errnoError('EIO', 'the power has failed');
    }
    this.volatile.set(offset, buf.slice());
  }

  /** The power fails now. */
  crash(): void {
    this.crashed = true;
    for (const [offset, bytes] of this.volatile) {
      if (this.below(2) === 0) this.medium.writeSync(offset, bytes);
    }
    this.volatile.clear();
  }

  async flush(): Promise<void> {
    await Promise.resolve();
    this.flushSync();
  }

  flushSync(): void {
    if (this.crashed) throw errnoError('EIO', 'no power');
    for (const [offset, bytes] of this.volatile) this.medium.writeSync(offset, bytes);
    this.volatile.clear();
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}
