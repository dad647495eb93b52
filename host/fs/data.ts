/**
 * Reading and writing file data, and looking for data and holes.
 *
 * A read maps its range under I(ino), reads what is on the device, and holds the
 * lock until the bytes are there. A write maps and changes items in one tick,
 * starts the device writes in the same tick, and is answered when they are done;
 * the transaction knows of them and is not sent before (super.md 6). So a crash
 * never leaves an item that points at blocks whose data was not written.
 *
 * Blocks written in part need their other bytes: zeros when the block is new or
 * lies behind the end, else the old contents (`block_cache.ts`). Bytes behind the
 * end of a file may be anything on the device: a mount that died may have appended
 * there without a commit. Whatever moves the end makes them zero (`space.ts`).
 *
 * One request is at most 1 MiB and normally one transaction. When space runs out
 * in the middle, what was mapped is finished and the rest goes on after a commit.
 * Source: data.md 4, 5, 9; design/fuse.md 5.2.
 */
import { SEF_OFFLINE, SEF_UNWRITTEN, SQ_OP_DATA } from '../core/constants.js';
import type { BytePos } from '../core/bytepos.js';
import {
  addPos, blockOf, blocksTo, distance, maxPos, minPos, posOfBlock, restOf, roomAt,
} from '../core/bytepos.js';
import type { LockPtr } from '../core/items.js';
import type { Device } from '../env/device.js';
import type { Op } from '../mount/op.js';
import { MODE_READ, MODE_WRITE, Wait } from '../mount/op.js';
import type { Counters } from '../observe/counters.js';
import { C } from '../observe/counters.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { BlockCache, Buffers } from './block_cache.js';
import type { BlockMap, Stop } from './block_map.js';
import type { FsContext } from './context.js';
import { repeat } from './context.js';
import { WAIT_READ, WAIT_WRITE } from './data_waiters.js';
import type { DataWaiters } from './data_waiters.js';
import type { DataWriter, DeviceWrite } from './data_writer.js';
import { BLOCK_BYTES, extEnd, newExt } from './ext.js';
import type { Ext, Extents } from './ext.js';
import type { DataGuard } from './guard.js';
import type { Inodes } from './inode.js';
import { InodeRec } from './inode_item.js';
import type { Space } from './space.js';
import type { Call, ReadIn, WriteIn } from './vfs.js';
import type { Xattrs } from './xattr.js';

/** What data operations work with, beside the context. */
export interface DataContext {
  readonly cx: FsContext;
  readonly inodes: Inodes;
  readonly xattrs: Xattrs;
  readonly extents: Extents;
  readonly map: BlockMap;
  readonly guard: DataGuard;
  readonly waiters: DataWaiters;
  readonly blocks: BlockCache;
  readonly buffers: Buffers;
  readonly device: Device;
  readonly writer: DataWriter;
  readonly counters: Counters;
  /** Commits the open transaction; resolves when the next one is open. */
  requestCommit(): Promise<void>;
}

const EMPTY = new Uint8Array(0);
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** A piece of a read or write: `lenBlocks` device blocks. */
interface Piece {
  block: number;
  lenBlocks: number;
  blkno: number;
}

/** A write's progress over its transactions. */
interface Progress {
  /** Offset of the first byte in the file; null before the first transaction. */
  start: BytePos | null;
  doneBytes: number;
  /** Less than the data when the file ends before (page write-back), or sizes do. */
  endBytes: number;
  /** The device writes of the last transaction. */
  io: Promise<void> | null;
  /** To wait for before going on. */
  ready: Promise<unknown> | null;
  full: boolean;
}

export class Data {
  private readonly scratch = new InodeRec();
  private readonly e = newExt();

  constructor(private readonly d: DataContext, private readonly space: Space) {}

  /** @throws Wait, EISDIR, EINVAL, EPERM, EIO */
  read(op: Op, call: Call, ino: number, r: ReadIn): Uint8Array | Promise<Uint8Array> {
    const { d } = this;
    const lock = op.lockInode(ino, r.forWrite ? MODE_WRITE : MODE_READ);
    const inode = d.inodes.read(lock, ino, this.scratch);
    requireFile(inode);
    const lenBytes = Math.min(r.size, distance(r.offset, inode.size));
    if (lenBytes <= 0) return EMPTY;
    const first = blockOf(r.offset);
    const from = restOf(r.offset);
    const last = first + Math.floor((from + lenBytes - 1) / BLOCK_BYTES);
    if (r.forWrite) {
      if (inode.retained) throw errnoError('EPERM');
      this.space.requireOnline(lock, inode, 0, blocksTo(inode.size) - 1, WAIT_WRITE);
    } else {
      this.space.requireOnline(lock, inode, first, last, WAIT_READ);
    }
    const busy = d.guard.conflict(ino, first, last);
    if (busy !== null) throw new Wait(busy);
    const image = call.lend().subarray(0, (last - first + 1) * BLOCK_BYTES);
    const pieces = this.mapRead(lock, ino, first, last, image);
    const out = image.subarray(from, from + lenBytes);
    if (pieces.length === 0) return out;
    return this.readPieces(op, call, ino, r, first, image, pieces, out);
  }

  /** The pieces on the device; everything else of `image` becomes zeros. @throws Wait, EIO */
  private mapRead(lock: LockPtr, ino: number, first: number, last: number, image: Uint8Array):
  Piece[] {
    const { e } = this;
    const pieces: Piece[] = [];
    let b = first;
    let more = this.d.extents.find(lock, ino, b, e);
    while (b <= last) {
      const start = more ? Math.max(e.start, b) : last + 1;
      const to = more ? Math.min(extEnd(e), last + 1) : last + 1;
      const gapEnd = Math.min(start, last + 1);
      if (gapEnd > b) image.fill(0, (b - first) * BLOCK_BYTES, (gapEnd - first) * BLOCK_BYTES);
      b = gapEnd;
      if (b > last) break;
      if ((e.flags & SEF_UNWRITTEN) !== 0 || e.blkno === 0) {
        image.fill(0, (b - first) * BLOCK_BYTES, (to - first) * BLOCK_BYTES);
      } else {
        this.checkExtent(ino, e);
        pieces.push({ block: b, lenBlocks: to - b, blkno: e.blkno + (b - e.start) });
      }
      b = to;
      if (b <= last) more = this.d.extents.after(lock, ino, e, e);
    }
    return pieces;
  }

  private async readPieces(op: Op, call: Call, ino: number, r: ReadIn, first: number,
    image: Uint8Array, pieces: Piece[], out: Uint8Array): Promise<Uint8Array> {
    const { guard, device } = this.d;
    const token = guard.beginRead(ino);
    try {
      await Promise.all(pieces.map((p) => {
        const at = (p.block - first) * BLOCK_BYTES;
        return device.read(p.blkno * BLOCK_BYTES,
          image.subarray(at, at + p.lenBlocks * BLOCK_BYTES));
      }));
    } finally {
      guard.endRead(ino, token);
    }
    return token.stale ? repeat(() => this.read(op, call, ino, r)) : out;
  }

  /** @throws Wait, EISDIR, EINVAL, EFBIG, EPERM, EDQUOT, ENOSPC, EIO */
  write(op: Op, ino: number, w: WriteIn): number | Promise<number> {
    const p: Progress = {
      start: null, doneBytes: 0, endBytes: w.data.length, io: null, ready: null, full: false,
    };
    if (w.data.length === 0) return 0;
    if (w.cached) return this.finishWrite(op, ino, w, p);
    const lock = op.lockInode(ino, MODE_WRITE);
    if (this.d.inodes.read(lock, ino, this.scratch).truncating) {
      return this.finishWrite(op, ino, w, p);
    }
    this.writeStep(op, ino, w, p);
    if (p.io === null && p.doneBytes === p.endBytes) return p.doneBytes;
    return this.finishWrite(op, ino, w, p);
  }

  private async finishWrite(op: Op, ino: number, w: WriteIn, p: Progress): Promise<number> {
    if (p.start === null) await this.space.finishTruncate(op, ino);
    for (;;) {
      if (p.io !== null) await p.io;
      if (p.doneBytes >= p.endBytes || p.full) break;
      await p.ready;
      p.ready = null;
      await repeat(() => { this.writeStep(op, ino, w, p); });
    }
    // What lies behind the end of the file is dropped by write-back, and counts as written.
    return w.cached ? w.data.length : p.doneBytes;
  }

  /** One transaction of a write: maps and sends as much as it can. @throws see `write` */
  private writeStep(op: Op, ino: number, w: WriteIn, p: Progress): void {
    const { d } = this;
    const lock = op.lockInode(ino, MODE_WRITE);
    const inode = d.inodes.read(lock, ino);
    requireFile(inode);
    const start = p.start ?? (w.append ? inode.size : w.offset);
    if (w.cached) {
      p.endBytes = Math.min(w.data.length, Math.max(0, distance(start, inode.size)));
      if (p.endBytes <= p.doneBytes) {
        p.doneBytes = p.endBytes;
        return;
      }
    } else {
      p.endBytes = roomAt(start, w.data.length);
      if (p.endBytes <= 0) throw errnoError('EFBIG');
      if (inode.retained) throw errnoError('EPERM');
      if (p.start === null) d.cx.quotas.check(op, SQ_OP_DATA, inode);
      this.space.requireOnline(lock, inode, 0, blocksTo(inode.size) - 1, WAIT_WRITE);
    }
    // From here on all bytes are counted from the start of block `first`.
    const pos = addPos(start, p.doneBytes);
    const first = blockOf(pos);
    const from = restOf(pos);
    const end = from + p.endBytes - p.doneBytes;
    const last = first + Math.floor((end - 1) / BLOCK_BYTES);
    const busy = d.guard.conflict(ino, first, last);
    if (busy !== null) throw new Wait(busy);
    d.map.lookWrite(lock, ino, first, last);
    this.checkExtents(lock, ino, first, last);
    const head = this.oldBlock(lock, inode, first, first, from, end);
    const tail = last === first ? head : this.oldBlock(lock, inode, last, first, from, end);
    const caps = w.cached ? null : d.xattrs.planNoFileCaps(lock, inode);
    const gap = first > blockOf(inode.size) ? this.space.lookEnd(lock, inode) : null;
    const { hold } = d.cx;
    hold.begin(op);
    hold.will(inode, true);
    hold.hold(op, true);

    const pieces: Piece[] = [];
    const stop = d.map.mapWrite(lock, inode, first, last, (block, lenBlocks, blkno) => {
      pieces.push({ block, lenBlocks, blkno });
    });
    const mapped = pieces.at(-1);
    if (mapped === undefined) {
      this.stopped(p, stop);
      return;
    }
    const to = Math.min(end, (mapped.block + mapped.lenBlocks - first) * BLOCK_BYTES);
    inode.size = maxPos(inode.size, addPos(posOfBlock(first), to));
    inode.dataSeq = hold.transSeq;
    inode.dataVersion += 1;
    if (w.killSuidgid) inode.killSuidgid();
    if (caps !== null) d.xattrs.applyParts(lock, caps);
    inode.touch(d.cx.clock.now(), true);
    hold.update(lock, inode);
    if (gap !== null) this.space.sendTail(inode, gap);

    p.start = start;
    w.writtenAt = start;
    const data = w.data.subarray(p.doneBytes, p.doneBytes + to - from);
    p.doneBytes += data.length;
    p.io = this.send(inode, data, first, from, pieces, head, tail);
    if (stop === 'ENOSPC') p.full = true;
    else if (stop !== null) p.ready = this.readyOf(stop);
  }

  /** Nothing was mapped. @throws Wait or ENOSPC */
  private stopped(p: Progress, stop: Stop | null): void {
    if (stop === 'ENOSPC' || stop === null) {
      if (p.doneBytes === 0) throw errnoError('ENOSPC');
      p.full = true;
      return;
    }
    throw new Wait(this.readyOf(stop));
  }

  private readyOf(stop: Stop): Promise<unknown> {
    if (stop instanceof Promise) return stop;
    this.d.counters.inc(C.data_write_begin_enobufs_retry);
    return this.d.requestCommit();
  }

  /**
   * Old contents of a block that `from .. end`, counted in bytes from block `first`, covers in
   * part, up to the end of the file; null where they are zeros.
   * @throws Wait while they are being read
   */
  private oldBlock(lock: LockPtr, inode: InodeRec, block: number, first: number, from: number,
    end: number): Uint8Array | null {
    const at = (block - first) * BLOCK_BYTES;
    const live = Math.min(at + BLOCK_BYTES, distance(posOfBlock(first), inode.size));
    if (live <= at || (from <= at && end >= live)) return null;
    const { e } = this;
    if (!this.d.extents.find(lock, inode.ino, block, e) || e.start > block || e.blkno === 0 ||
        (e.flags & SEF_UNWRITTEN) !== 0) {
      return null;
    }
    const old = this.d.blocks.get(e.blkno + (block - e.start), inode.ino, inode.version);
    return old.subarray(0, live - at);
  }

  /** @throws Wait; EIO as `checkExtent` */
  private checkExtents(lock: LockPtr, ino: number, first: number, last: number): void {
    const { e } = this;
    let more = this.d.extents.find(lock, ino, first, e);
    while (more && e.start <= last) {
      this.checkExtent(ino, e);
      more = this.d.extents.after(lock, ino, e, e);
    }
  }

  /**
   * Starts the device writes of `data`, which begins `from` bytes behind the start of block
   * `first`; whole blocks, zeros around.
   */
  private send(inode: InodeRec, data: Uint8Array, first: number, from: number, pieces: Piece[],
    head: Uint8Array | null, tail: Uint8Array | null): Promise<void> {
    const { d } = this;
    const { ino } = inode;
    const end = from + data.length;
    const last = first + Math.floor((end - 1) / BLOCK_BYTES);
    const whole = from === 0 && data.byteOffset % BLOCK_BYTES === 0;
    const wholeEnd = whole ? first + Math.floor(end / BLOCK_BYTES) : first;
    // Blocks first .. wholeEnd - 1 go out of the request's memory, the others out of `image`.
    const imageBlocks = last + 1 - wholeEnd;
    const image = imageBlocks > 0 ? d.buffers.take(imageBlocks * BLOCK_BYTES) : EMPTY;
    if (imageBlocks > 0) {
      fillImage(image, (wholeEnd - first) * BLOCK_BYTES, data, from,
        first === wholeEnd ? head : null, tail);
    }
    const writes: DeviceWrite[] = [];
    for (const p of pieces) {
      const to = p.block + p.lenBlocks;
      const split = Math.min(to, Math.max(p.block, wholeEnd));
      if (split > p.block) {
        const at = (p.block - first) * BLOCK_BYTES - from;
        writes.push({
          offset: p.blkno * BLOCK_BYTES,
          bytes: data.subarray(at, at + (split - p.block) * BLOCK_BYTES),
        });
      }
      if (to > split) {
        const at = (split - wholeEnd) * BLOCK_BYTES;
        writes.push({
          offset: (p.blkno + split - p.block) * BLOCK_BYTES,
          bytes: image.subarray(at, at + (to - split) * BLOCK_BYTES),
        });
      }
    }
    const lastPiece = pieces.at(-1);
    if (end % BLOCK_BYTES !== 0 && lastPiece !== undefined) {
      d.blocks.put(lastPiece.blkno + lastPiece.lenBlocks - 1, ino, inode.version,
        image.subarray((imageBlocks - 1) * BLOCK_BYTES));
    }
    return d.writer.send(ino, first, last, writes).finally(() => {
      if (imageBlocks > 0) d.buffers.give(image);
    });
  }

  /** @throws EIO for a mapping outside the device, or mapped and offline but not for staging */
  private checkExtent(ino: number, e: Ext): void {
    if (e.blkno === 0) return;
    if ((e.blkno + e.len) * BLOCK_BYTES > this.d.device.sizeBytes || e.flags === SEF_OFFLINE) {
      throw new ScoutfsError('EXTENT_MAPPING', 'EIO', {
        message: `inode ${ino}: block ${e.start} maps to device block ${e.blkno} ` +
          `(length ${e.len}, flags ${e.flags}), which is not possible`,
      });
    }
  }

  /** @throws Wait, EINVAL, ENXIO */
  lseek(op: Op, ino: number, offset: BytePos, whence: number): BytePos {
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw errnoError('EINVAL');
    const lock = op.lockInode(ino, MODE_READ);
    const inode = this.d.inodes.read(lock, ino, this.scratch);
    if (offset >= inode.size) throw errnoError('ENXIO');
    const { e } = this;
    let b = blockOf(offset);
    let more = this.d.extents.find(lock, ino, b, e);
    for (; more; more = this.d.extents.after(lock, ino, e, e)) {
      const isData = (e.flags & SEF_OFFLINE) !== 0 ||
        (e.blkno !== 0 && (e.flags & SEF_UNWRITTEN) === 0);
      if (!isData) continue;
      if (whence === SEEK_HOLE && e.start > b) break;
      if (whence === SEEK_DATA) b = Math.max(b, e.start);
      else b = extEnd(e);
      if (whence === SEEK_DATA) break;
    }
    const at = maxPos(offset, posOfBlock(b));
    if (whence === SEEK_HOLE) return minPos(at, inode.size);
    if (!more || at >= inode.size) throw errnoError('ENXIO');
    return at;
  }
}

/** @throws EISDIR, EINVAL */
export function requireFile(inode: InodeRec): void {
  if (inode.isDir) throw errnoError('EISDIR');
  if (!inode.isReg) throw errnoError('EINVAL');
}

/**
 * Lays `data` over zeros and old contents. `image` starts `at` bytes and the data `from` bytes
 * behind the start of the write's first block.
 */
function fillImage(image: Uint8Array, at: number, data: Uint8Array, from: number,
  head: Uint8Array | null, tail: Uint8Array | null): void {
  const skip = Math.max(0, at - from);
  const start = from + skip - at;
  image.fill(0, 0, start);
  image.fill(0, from + data.length - at);
  const lastAt = image.length - BLOCK_BYTES;
  if (head !== null) image.set(head);
  if (tail !== null && (lastAt > 0 || head === null)) image.set(tail, lastAt);
  image.set(data.subarray(skip), start);
}

