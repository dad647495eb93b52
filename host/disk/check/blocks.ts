/**
 * Reading and verifying large metadata blocks.
 *
 * Every block is read once, into a buffer from a pool that is charged to the
 * memory budget, and verified the way a mount verifies it: the reference in
 * range, the checksum, then each header field by itself so that a finding says
 * which one is wrong. Callers give buffers back; what a tree walk holds at any
 * moment is one block per level.
 *
 * Spec: format.md 4, block.md 2 and 3.1.
 */
import { BLOCK_LG_SHIFT, BLOCK_LG_SIZE, META_DEV_START_BLKNO } from '../../core/format.js';
import { crc32c } from '../../core/crc32c.js';
import { alignedMemory } from '../../env/device.js';
import type { Device } from '../../env/device.js';
import { asScoutfsError } from '../../observe/errors.js';
import type { MemoryBudget } from './memory.js';
import type { Reporter } from './report.js';
import { num } from './keys.js';

const CRC_INIT = 0xffffffff;
const CRC_BYTES = 4;
/** Blocks per allocation of aligned memory. */
const CHUNK_BLOCKS = 4;
/** How many blocks pass between two progress reports. */
const PROGRESS_BLOCKS = 64;

/** A buffer of one large block. */
export interface Block {
  blkno: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** A reference in words: the seq is only ever compared. */
export interface Ref {
  blkno: number;
  seqLo: number;
  seqHi: number;
}

export function refOf(ref: { blkno: number; seq: bigint }): Ref {
  return {
    blkno: ref.blkno,
    seqLo: Number(ref.seq & 0xffffffffn),
    seqHi: Number(ref.seq >> 32n),
  };
}

/** The reference stored at `off`. */
export function refAt(v: DataView, off: number): Ref {
  return { blkno: num(v, off), seqLo: v.getUint32(off + 8, true),
    seqHi: v.getUint32(off + 12, true) };
}

export function crcOk(bytes: Uint8Array, view: DataView): boolean {
  return crc32c(CRC_INIT, bytes.subarray(CRC_BYTES)) === view.getUint32(0, true);
}

export class BlockReader {
  private doneBlocks = 0;

  /**
   * @param totalBlocks large blocks of the metadata device
   * @param expectBlocks about how many will be read, for progress
   * @param pool unused buffers, shared by the readers of one check
   */
  constructor(
    private readonly dev: Device,
    private readonly fsid: bigint,
    readonly totalBlocks: number,
    private readonly report: Reporter,
    private readonly memory: MemoryBudget,
    private readonly expectBlocks: number,
    private readonly onProgress: ((done: number, total: number) => void) | undefined,
    private readonly pool: Block[],
  ) {}

  /** An unused buffer. */
  take(): Block {
    const free = this.pool.pop();
    if (free !== undefined) return free;
    this.memory.charge(CHUNK_BLOCKS * BLOCK_LG_SIZE, 'reading blocks');
    const mem = alignedMemory(CHUNK_BLOCKS * BLOCK_LG_SIZE);
    for (let i = 0; i < CHUNK_BLOCKS; i++) {
      this.pool.push({
        blkno: 0,
        bytes: mem.subarray(i * BLOCK_LG_SIZE, (i + 1) * BLOCK_LG_SIZE),
        view: new DataView(mem.buffer, mem.byteOffset + i * BLOCK_LG_SIZE, BLOCK_LG_SIZE),
      });
    }
    return this.take();
  }

  give(block: Block): void {
    this.pool.push(block);
  }

  inRange(blkno: number): boolean {
    return Number.isSafeInteger(blkno) && blkno >= META_DEV_START_BLKNO
      && blkno < this.totalBlocks;
  }

  /**
   * Reads and verifies the block that `ref` names. What is wrong becomes a
   * finding of its own kind that says `what` referred to it.
   *
   * @returns the block, to be given back, or null when it cannot be used
   */
  read(ref: Ref, magic: number, what: string): Block | null {
    if (!this.inRange(ref.blkno)) {
      this.report.finding('CHK_REF_RANGE',
        `${what} refers to block ${ref.blkno}, outside 2..${this.totalBlocks - 1}`);
      return null;
    }
    const block = this.readRaw(ref.blkno, what);
    if (block === null) return null;
    if (this.verify(block, ref, magic, what)) return block;
    this.give(block);
    return null;
  }

  /** Reads a block in range without looking at it. @returns null after a device error */
  readRaw(blkno: number, what: string): Block | null {
    const block = this.take();
    block.blkno = blkno;
    try {
      this.dev.readSync(blkno * 2 ** BLOCK_LG_SHIFT, block.bytes);
    } catch (e) {
      this.report.finding('CHK_BLOCK_READ', `${what}: ${asScoutfsError(e).message}`, { blkno });
      this.give(block);
      return null;
    }
    this.doneBlocks++;
    if (this.doneBlocks % PROGRESS_BLOCKS === 0) this.progress();
    return block;
  }

  /** True if the block is a whole one of this volume in its own place, whatever its type. */
  isOurs(block: Block): boolean {
    return crcOk(block.bytes, block.view) && block.view.getBigUint64(8, true) === this.fsid
      && num(block.view, 24) === block.blkno;
  }

  progress(): void {
    this.onProgress?.(this.doneBlocks, Math.max(this.expectBlocks, this.doneBlocks));
  }

  private verify(block: Block, ref: Ref, magic: number, what: string): boolean {
    const { view: v, blkno } = block;
    const bad = (id: Parameters<Reporter['finding']>[0], problem: string): false => {
      this.report.finding(id, `block ${blkno} of ${what} ${problem}`, { blkno });
      return false;
    };
    if (!crcOk(block.bytes, v)) return bad('CHK_BLOCK_CRC', 'fails its checksum');
    if (v.getUint32(4, true) !== magic) {
      return bad('CHK_BLOCK_MAGIC', `has magic ${v.getUint32(4, true).toString(16)}`);
    }
    if (v.getBigUint64(8, true) !== this.fsid) return bad('CHK_BLOCK_FSID', 'has another fsid');
    if (num(v, 24) !== blkno) return bad('CHK_BLOCK_BLKNO', `says it is block ${num(v, 24)}`);
    if (v.getUint32(16, true) !== ref.seqLo || v.getUint32(20, true) !== ref.seqHi) {
      return bad('CHK_BLOCK_SEQ', 'is not the version referred to');
    }
    return true;
  }
}
