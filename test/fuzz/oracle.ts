/**
 * Holds every write of a mount against the rules of the volume it was given.
 *
 *   metadata device   the super block and the quorum blocks, 4 KiB each; else whole blocks of
 *                     64 KiB that the super block in force calls free: in `meta_alloc`, or in
 *                     a list of the server, of a log tree, a compaction or a merge
 *   data device       blocks of 4 KiB behind the super block that are or were in a tree of free
 *                     data, or mapped by a file when the volume was damaged
 *
 * The super block in force is the one that the device holds: a write of it that failed may
 * have changed it or not. What it calls free is read leniently, because the volume is damaged: whatever one could take for a free block number
 * counts as free. So a violation here is one under any reading of the metadata. What cannot
 * be decided so is left alone: a block that damaged lists call free may be in use.
 * Source: block.md 3, alloc.md 9.1, trans.md 7.
 */
import {
  ALLOC_LIST_MAX_BLOCKS, BLOCK_LG_SIZE, BLOCK_SM_SIZE, BtreeBlock, BtreeItem,
  DATA_DEV_START_BLKNO, Key, META_DEV_START_BLKNO, QUORUM_BLKNO, QUORUM_BLOCKS, SUPER_BLKNO,
} from '../../host/core/format.js';
import type { DeviceIo, SimDevice } from '../../host/env/sim_device.js';
import { viewOf } from '../lib/damage.js';

const HEIGHT_MAX = 24;
const LIST_NUMBERS = 56;
const REF_BYTES = 16;
const EXTENT_BYTES = 16;
const ROOT_OFF = 16;

type Range = readonly [start: bigint, len: bigint];

/** Numbers and ranges of numbers. */
class Blocks {
  private readonly numbers = new Set<bigint>();
  /** Arrays of le64 as pairs of words: looked through, because most are never asked for. */
  private readonly arrays: Uint32Array[] = [];
  private readonly ranges: Range[] = [];

  add(n: bigint): void { this.numbers.add(n); }

  addArray(v: DataView, off: number, nr: number): void {
    this.arrays.push(new Uint32Array(v.buffer, v.byteOffset + off, nr * 2));
  }

  addRange(start: bigint, len: bigint): void {
    if (len > 0n) this.ranges.push([start, len]);
  }

  has(n: bigint): boolean {
    const low = Number(n & 0xffffffffn);
    const high = Number(n >> 32n);
    return this.numbers.has(n) || this.ranges.some(([s, l]) => n >= s && n - s < l) ||
      this.arrays.some((a) => {
        for (let i = a.indexOf(low); i >= 0; i = a.indexOf(low, i + 1)) {
          if (i % 2 === 0 && a[i + 1] === high) return true;
        }
        return false;
      });
  }
}

export class WriteOracle {
  readonly violations: string[] = [];
  private meta = new Blocks();
  /** Grows only: what was free once may be a file's by now. */
  private readonly data = new Blocks();
  private readonly mapped = new Blocks();
  /** Blocks that were read, until they are written. */
  private readonly cache = new Map<bigint, DataView>();
  private readonly totals: { meta: bigint; data: bigint };
  /** The checksum of the super block in force. */
  private crc: number;

  constructor(private readonly metaDev: SimDevice, private readonly dataDev: SimDevice) {
    const v = this.superView();
    this.totals = { meta: v.getBigUint64(96, true), data: v.getBigUint64(104, true) };
    this.crc = v.getUint32(0, true);
    this.readFree(v);
    this.readMapped(v);
    metaDev.begun = (io): void => { this.onMeta(io); };
    dataDev.begun = (io): void => { this.onData(io); };
  }

  end(): void {
    this.metaDev.begun = null;
    this.dataDev.begun = null;
  }

  private bad(io: DeviceIo, what: string): void {
    if (this.violations.length < 5) {
      this.violations.push(`${io.user}: write of ${io.bytes.length} at ${io.offset}: ${what}`);
    }
  }

  private onMeta(io: DeviceIo): void {
    if (io.kind !== 'write') return;
    if (io.bytes.length === BLOCK_SM_SIZE) {
      const blkno = io.offset / BLOCK_SM_SIZE;
      if (blkno === SUPER_BLKNO) this.onSuper(io);
      else if (blkno < QUORUM_BLKNO || blkno >= QUORUM_BLKNO + QUORUM_BLOCKS) {
        this.bad(io, `small metadata block ${blkno}`);
      }
      return;
    }
    const blkno = io.offset / BLOCK_LG_SIZE;
    this.cache.delete(BigInt(Math.floor(blkno)));
    if (io.bytes.length !== BLOCK_LG_SIZE || !Number.isInteger(blkno)) {
      this.bad(io, 'not a metadata block');
    } else if (blkno < META_DEV_START_BLKNO || BigInt(blkno) >= this.totals.meta) {
      this.bad(io, `metadata block ${blkno} is outside of the volume`);
    } else if (!this.isFree(BigInt(blkno))) {
      this.bad(io, `metadata block ${blkno} is not free`);
    }
  }

  /** The numbers of the volume never change here, and its identity never at all. */
  private onSuper(io: DeviceIo): void {
    const [before, now] = [this.superView(), viewOf(io.bytes)];
    for (const [name, off] of [['fsid', 8], ['version', 40], ['flags', 48], ['uuid', 56],
      ['uuid', 64], ['total_meta_blocks', 96], ['total_data_blocks', 104]] as const) {
      const [a, b] = [before.getBigUint64(off, true), now.getBigUint64(off, true)];
      if (a !== b) this.bad(io, `${name} of the super block changes from ${a} to ${b}`);
    }
  }

  private isFree(blkno: bigint): boolean {
    const v = this.superView();
    const crc = v.getUint32(0, true);
    if (crc !== this.crc) {
      this.crc = crc;
      this.readFree(v);
    }
    return this.meta.has(blkno);
  }

  private onData(io: DeviceIo): void {
    if (io.kind !== 'write') return;
    for (let o = 0; o < io.bytes.length; o += BLOCK_SM_SIZE) {
      const blkno = BigInt((io.offset + o) / BLOCK_SM_SIZE);
      if (blkno < BigInt(DATA_DEV_START_BLKNO) || blkno >= this.totals.data) {
        this.bad(io, `data block ${blkno} is outside of the volume`);
      } else if (!this.data.has(blkno) && !this.mapped.has(blkno)) {
        this.bad(io, `data block ${blkno} is neither free nor mapped`);
      }
    }
  }

  private superView(): DataView {
    const bytes = new Uint8Array(BLOCK_SM_SIZE);
    this.metaDev.peek(SUPER_BLKNO * BLOCK_SM_SIZE, bytes);
    return viewOf(bytes);
  }

  private block(blkno: bigint): DataView | null {
    if (blkno <= 0n || blkno >= BigInt(this.metaDev.sizeBytes / BLOCK_LG_SIZE)) return null;
    const known = this.cache.get(blkno);
    if (known !== undefined) return known;
    const bytes = new Uint8Array(BLOCK_LG_SIZE);
    this.metaDev.peek(Number(blkno) * BLOCK_LG_SIZE, bytes);
    const v = viewOf(bytes);
    this.cache.set(blkno, v);
    return v;
  }

  /** What a super block calls free. */
  private readFree(v: DataView): void {
    this.meta = new Blocks();
    for (const off of [600, 640]) this.extents(v, off, this.meta);
    this.extents(v, 680, this.data);
    for (const off of [720, 752, 784, 816]) this.list(v, off);
    const both = (val: DataView, off: number): void => {
      if (val.byteLength < off + 64) return;
      this.list(val, off);
      this.list(val, off + 32);
    };
    this.tree(v, 872, (_, val) => {
      both(val, 0);
      if (val.byteLength < 184) return;
      this.extents(val, 104, this.data);
      this.extents(val, 144, this.data);
    });
    for (const off of [896, 944]) this.tree(v, off, (_, val) => { both(val, 0); });
  }

  /** Extents of all versions of all files. */
  private readMapped(v: DataView): void {
    const leaf = (key: Key, val: DataView): void => {
      if (key.zone !== 16 || key.type !== 28 || val.byteLength < 8) return;
      this.mapped.addRange(val.getBigUint64(0, true), key.third);
    };
    this.tree(v, 848, leaf);
    this.tree(v, 872, (_, val) => { if (val.byteLength >= 88) this.tree(val, 64, leaf); });
    this.tree(v, 896, (_, val) => { if (val.byteLength >= 88) this.tree(val, 64, leaf); });
  }

  private extents(v: DataView, off: number, into: Blocks): void {
    this.tree(v, off + ROOT_OFF, (key) => {
      if (key.zone === 36) into.addRange(key.first - key.second + 1n, key.second);
      if (key.zone === 40) into.addRange(key.third === 0n ? 0n : key.second - key.third + 1n,
        key.third);
    });
  }

  private list(v: DataView, off: number): void {
    const seen = new Set<bigint>();
    let blkno = v.getBigUint64(off, true);
    for (;;) {
      if (seen.has(blkno)) return;
      seen.add(blkno);
      const b = this.block(blkno);
      if (b === null) return;
      const start = b.getUint32(48, true);
      const nr = b.getUint32(52, true);
      const sound = start + nr <= ALLOC_LIST_MAX_BLOCKS;
      const [from, len] = sound ? [start, nr] : [0, ALLOC_LIST_MAX_BLOCKS];
      this.meta.addArray(b, LIST_NUMBERS + from * 8, len);
      blkno = b.getBigUint64(32, true);
    }
  }

  private tree(v: DataView, off: number, leaf: (key: Key, val: DataView) => void): void {
    const seen = new Set<bigint>();
    const visit = (blkno: bigint, depth: number): void => {
      if (seen.has(blkno) || depth > HEIGHT_MAX) return;
      seen.add(blkno);
      const b = this.block(blkno);
      if (b === null) return;
      const level = b.getUint8(40);
      for (let i = 0; i < b.getUint16(34, true); i++) {
        const o = BtreeBlock.size + i * BtreeItem.size;
        if (o + BtreeItem.size > BLOCK_LG_SIZE) return;
        const [at, len] = [b.getUint16(o + 48, true), b.getUint16(o + 50, true)];
        const val = new DataView(b.buffer, at, Math.min(len, BLOCK_LG_SIZE - at));
        if (level === 0) leaf(Key.read(b, o + 8), val);
        else if (val.byteLength >= REF_BYTES) visit(val.getBigUint64(0, true), depth + 1);
      }
    };
    if (v.getUint8(off + EXTENT_BYTES) > 0) visit(v.getBigUint64(off, true), 0);
  }
}
