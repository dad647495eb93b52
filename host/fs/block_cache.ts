/**
 * Contents of the few blocks that are written in part.
 *
 * A write that does not cover a block needs the rest of it. Files that grow by
 * small writes would read their last block from the device every time, so the last
 * contents are kept. An entry is good only for the inode version under which it
 * was read or written: every change of contents raises the version (inode.md 10), and
 * giving the block up changes its number. It is good only as long as the inode's lock
 * is held, too: a mount that had the lock meanwhile may have written in place and died
 * before its commit, so that the version is what it was.
 *
 * Also: page-aligned buffers for device I/O, reused. Source: data.md 5.
 */
import type { Device } from '../env/device.js';
import { alignedMemory } from '../env/device.js';
import { Wait } from '../mount/op.js';
import { BLOCK_BYTES } from './ext.js';

const ENTRIES_MAX = 256;

interface Entry {
  ino: number;
  version: number;
  bytes: Uint8Array;
}

export class BlockCache {
  private readonly byBlkno = new Map<number, Entry>();
  /** How often entries were dropped: what was being read then is not kept. */
  private drops = 0;

  constructor(private readonly device: Device, private readonly buffers: Buffers) {}

  /**
   * The block's contents as of `version`; do not change them.
   * @throws Wait while they are being read
   */
  get(blkno: number, ino: number, version: number): Uint8Array {
    const e = this.byBlkno.get(blkno);
    if (e?.ino === ino && e.version === version) return e.bytes;
    throw new Wait(this.load(blkno, ino, version));
  }

  /** Keeps a copy of contents that have just been sent to the device. */
  put(blkno: number, ino: number, version: number, bytes: Uint8Array): void {
    this.byBlkno.delete(blkno);
    this.byBlkno.set(blkno, { ino, version, bytes: bytes.slice(0, BLOCK_BYTES) });
    const [oldest] = this.byBlkno.keys();
    if (this.byBlkno.size > ENTRIES_MAX && oldest !== undefined) this.byBlkno.delete(oldest);
  }

  /** The lock of inodes `firstIno .. firstIno + nr - 1` goes away. */
  drop(firstIno: number, nr: number): void {
    this.drops += 1;
    for (const [blkno, { ino }] of this.byBlkno) {
      if (ino >= firstIno && ino < firstIno + nr) this.byBlkno.delete(blkno);
    }
  }

  private async load(blkno: number, ino: number, version: number): Promise<void> {
    const { drops } = this;
    const buf = this.buffers.take(BLOCK_BYTES);
    try {
      await this.device.read(blkno * BLOCK_BYTES, buf);
      if (drops === this.drops) this.put(blkno, ino, version, buf);
    } finally {
      this.buffers.give(buf);
    }
  }
}

const SLAB_BYTES = 65536;
const CLASS_MIN_SHIFT = 12;
const CLASS_MAX_SHIFT = 22;
const FREE_PER_CLASS_MAX = 32;

/** Page-aligned buffers in powers of two from one block to 4 MiB. */
export class Buffers {
  private readonly free = new Map<number, Uint8Array[]>();

  /** A buffer of exactly `lenBytes`; its contents are anything. */
  take(lenBytes: number): Uint8Array {
    const shift = classOf(lenBytes);
    const list = this.listOf(shift);
    let buf = list.pop();
    if (buf === undefined) {
      const size = 2 ** shift;
      const slab = alignedMemory(Math.max(size, SLAB_BYTES));
      for (let at = size; at < slab.length; at += size) list.push(slab.subarray(at, at + size));
      buf = slab.subarray(0, size);
    }
    return buf.length === lenBytes ? buf : buf.subarray(0, lenBytes);
  }

  give(buf: Uint8Array): void {
    const shift = classOf(buf.length);
    const list = this.listOf(shift);
    if (list.length >= FREE_PER_CLASS_MAX) return;
    list.push(new Uint8Array(buf.buffer, buf.byteOffset, 2 ** shift));
  }

  private listOf(shift: number): Uint8Array[] {
    let list = this.free.get(shift);
    if (list === undefined) {
      list = [];
      this.free.set(shift, list);
    }
    return list;
  }
}

function classOf(lenBytes: number): number {
  const shift = Math.max(CLASS_MIN_SHIFT, Math.ceil(Math.log2(lenBytes)));
  if (shift > CLASS_MAX_SHIFT) throw new RangeError(`a buffer of ${lenBytes} bytes is too large`);
  return shift;
}
