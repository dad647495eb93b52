/**
 * A device in memory whose reads wait at a gate, fail on request, and are counted by
 * block, for tests of what happens while a read is under way.
 */
import { MemDevice } from './memdev.js';

const BLOCK_BYTES = 65536;

export class GateDevice extends MemDevice {
  /** Block numbers in the order in which their reads began. */
  readonly readBlknos: number[] = [];
  /** Reads of these blocks fail. */
  readonly failReads = new Set<number>();
  /** Writes of these blocks fail. */
  readonly failWrites = new Set<number>();
  /** Called before a read delivers its bytes. */
  onRead: (() => void) | null = null;
  private waiting: (() => void)[] | null = null;

  /** From now on reads wait. */
  hold(): void {
    this.waiting ??= [];
  }

  /** Lets everything pass that waits. */
  pass(): void {
    const waiting = this.waiting ?? [];
    this.waiting = null;
    for (const go of waiting) go();
  }

  override async read(offset: number, buf: Uint8Array): Promise<void> {
    const blkno = offset / BLOCK_BYTES;
    this.readBlknos.push(blkno);
    const { waiting } = this;
    if (waiting !== null) await new Promise<void>((go) => { waiting.push(go); });
    else await Promise.resolve();
    this.onRead?.();
    if (this.failReads.has(blkno)) throw new Error(`no reading of block ${blkno}`);
    this.readSync(offset, buf);
  }

  override async write(offset: number, buf: Uint8Array): Promise<void> {
    await Promise.resolve();
    if (this.failWrites.has(offset / BLOCK_BYTES)) throw new Error('no writing');
    this.writeSync(offset, buf);
  }
}
