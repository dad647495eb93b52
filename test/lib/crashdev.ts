/**
 * A simulated device as one host sees it whose power fails at a chosen write.
 *
 * When `writesLeft` is used up the device loses what was not flushed, or part of it
 * (host/env/sim_device.ts), and every later operation of this host fails. The device
 * outlives the host.
 */
import type { Device } from '../../host/env/device.js';
import type { SimDevice } from '../../host/env/sim_device.js';
import { errnoError } from '../../host/observe/errors.js';

export class CrashDevice implements Device {
  readonly isBlockDevice = false;
  readonly majMin = [0, 0] as const;
  readonly path: string;
  readonly sizeBytes: number;
  crashed = false;

  /** `medium` has to have a source of chance. */
  constructor(private readonly medium: SimDevice, public writesLeft: number) {
    this.path = medium.path;
    this.sizeBytes = medium.sizeBytes;
  }

  async read(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.readSync(offset, buf);
  }

  readSync(offset: number, buf: Uint8Array): void {
    this.checkPower();
    this.medium.readSync(offset, buf);
  }

  async write(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.writeSync(offset, buf);
  }

  writeSync(offset: number, buf: Uint8Array): void {
    this.checkPower();
    if (this.writesLeft-- <= 0) {
      this.crash();
      this.checkPower();
    }
    this.medium.writeSync(offset, buf);
  }

  /** The power fails now. */
  crash(): void {
    this.crashed = true;
    this.medium.cut();
  }

  async flush(): Promise<void> {
    await Promise.resolve();
    this.flushSync();
  }

  flushSync(): void {
    this.checkPower();
    this.medium.flushSync();
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  private checkPower(): void {
    if (this.crashed) throw errnoError('EIO', 'no power');
  }
}
