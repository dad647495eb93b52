/**
 * Where file blocks go on the data device: mapping for writes, preallocation,
 * fallocate, and giving blocks up.
 *
 * All of it happens in the change part of an operation: extents and allocator
 * were made known before. Space can nevertheless run out in the middle, and the
 * allocator may find one of its own blocks missing. Then the work done so far is
 * complete in itself and the function says how far it came and why it stopped; the
 * caller stores the inode, waits for the reason (a commit, a read) and goes on in
 * another transaction.
 *
 * Preallocation follows the two policies of data.md 2. They decide for one block;
 * a write of many blocks asks for as many as it still needs if that is more, so
 * that large writes become large extents at once. Source: data.md 2, 6, 7.
 */
import { SEF_OFFLINE, SEF_UNWRITTEN } from '../core/constants.js';
import type { LockPtr } from '../core/items.js';
import { Wait } from '../mount/op.js';
import type { Ext, Extents } from './ext.js';
import { extEnd, newExt } from './ext.js';
import type { InodeRec } from './inode_item.js';

/** The mount's allocator of data device blocks. */
export interface DataAlloc {
  /**
   * Takes 1 .. `countBlocks` contiguous blocks.
   * @returns 'ENOBUFS': a commit brings more; 'ENOSPC': none is left
   * @throws Wait before anything is changed
   */
  alloc(countBlocks: number): { blkno: number; count: number } | 'ENOBUFS' | 'ENOSPC';
  /** Gives blocks back; they can be used after the next commit. @throws Wait before any change */
  free(blkno: number, countBlocks: number): void;
  /** Makes sure that allocating and freeing in this tick misses nothing. @throws Wait */
  prepare(): void;
}

/** Why a change ended before its end. */
export type Stop = 'ENOBUFS' | 'ENOSPC' | Promise<unknown>;

export interface PreallocOptions {
  /** At least 1. */
  preallocBlocks: number;
  contigOnly: boolean;
}

/** Called with each mapped piece of a write: device blocks, and whether they were just mapped. */
export type MappedRun = (block: number, lenBlocks: number, blkno: number, isNew: boolean) => void;

/** Largest single allocation of fallocate, in blocks. */
export const FALLOCATE_ALLOC_MAX_BLOCKS = 32768;

export class BlockMap {
  private readonly e = newExt();
  private readonly n = newExt();

  constructor(
    private readonly extents: Extents,
    private readonly alloc: DataAlloc,
    private readonly options: PreallocOptions,
  ) {}

  /** The look part of mapping blocks `first .. last` for a write. @throws Wait, EIO */
  lookWrite(lock: LockPtr, ino: number, first: number, last: number): void {
    if (!this.options.contigOnly) {
      const region = first - first % this.options.preallocBlocks;
      if (this.extents.find(lock, ino, Math.max(region - 1, 0), this.e) &&
          extEnd(this.e) <= region) {
        this.extents.find(lock, ino, region, this.e);
      }
    }
    this.extents.look(lock, ino, first, last, Infinity);
    this.alloc.prepare();
  }

  /**
   * Maps `first .. last` as written blocks, telling `run` every piece in order.
   * Mapped offline extents must have been refused before.
   * @returns null when all is mapped, else why it stopped; `run` was told what is mapped
   */
  mapWrite(
    lock: LockPtr, inode: InodeRec, first: number, last: number, run: MappedRun,
  ): Stop | null {
    const { e } = this;
    const { ino } = inode;
    let b = first;
    while (b <= last) {
      const has = this.extents.find(lock, ino, b, e) && e.start <= b;
      if (has && e.blkno !== 0) {
        const len = Math.min(extEnd(e) - b, last - b + 1);
        const blkno = e.blkno + (b - e.start);
        const isNew = (e.flags & SEF_UNWRITTEN) !== 0;
        if (isNew) this.extents.set(lock, ino, inode, newExt(b, len, blkno, 0));
        run(b, len, blkno, isNew);
        b += len;
        continue;
      }
      const got = this.allocate(lock, inode, b, last - b + 1, has ? e : null);
      if (typeof got === 'string' || got instanceof Promise) return got;
      run(b, got.len, got.blkno, true);
      b += got.len;
    }
    return null;
  }

  /**
   * The policy: which blocks to allocate when `b` is written and is not mapped.
   * `inside` is the unmapped offline extent that contains b. Fills the result into a new Ext
   * whose flags are the extent's.
   */
  prealloc(lock: LockPtr, inode: InodeRec, b: number, inside: Ext | null): Ext {
    const { preallocBlocks: max, contigOnly } = this.options;
    const { n } = this;
    const { ino, onlineBlocks: on } = inode;
    const out = newExt(b, 1, 0, 0);
    if (inside !== null) {
      out.flags = inside.flags;
      out.len = extEnd(inside) - b;
    } else if (contigOnly) {
      if (b > 1 && b === on) {
        out.len = Math.min(this.extents.find(lock, ino, b, n) ? n.start - b : max, b);
      }
    } else {
      out.start = b - b % max;
      out.len = max;
      let has = this.extents.find(lock, ino, out.start, n);
      if (has && n.start < b) {
        out.len -= b - out.start;
        out.start = b;
        has = this.extents.find(lock, ino, b, n);
      }
      if (has && n.start > out.start && n.start < extEnd(out)) out.len = n.start - out.start;
      out.len = Math.max(1, Math.min(out.len, on));
    }
    out.len = Math.min(out.len, max);
    return out;
  }

  /** Allocates for an unmapped block and maps up to `wanted` blocks from it as written. */
  private allocate(
    lock: LockPtr, inode: InodeRec, b: number, wanted: number, inside: Ext | null,
  ): Ext | Stop {
    const want = this.prealloc(lock, inode, b, inside);
    const { ino } = inode;
    const room = inside !== null ? extEnd(inside) - b : this.holeBlocks(lock, ino, b);
    const here = Math.min(wanted, room);
    if (here > 1 && here > extEnd(want) - b) {
      want.start = b;
      want.len = here;
    }
    const got = this.take(want.len);
    if (typeof got === 'string' || got instanceof Promise) return got;
    let { start } = want;
    if (start + got.count <= b) start = b - got.count + 1;
    const len = Math.min(here, start + got.count - b);
    if (got.count > len) {
      this.extents.set(lock, ino, inode,
        newExt(start, got.count, got.blkno, want.flags | SEF_UNWRITTEN));
    }
    const blkno = got.blkno + (b - start);
    this.extents.set(lock, ino, inode, newExt(b, len, blkno, 0));
    return newExt(b, len, blkno, 0);
  }

  private holeBlocks(lock: LockPtr, ino: number, b: number): number {
    return this.extents.find(lock, ino, b, this.n) ? this.n.start - b : Infinity;
  }

  private take(countBlocks: number): { blkno: number; count: number } | Stop {
    try {
      return this.alloc.alloc(countBlocks);
    } catch (err) {
      if (err instanceof Wait) return err.ready;
      throw err;
    }
  }

  /** The look part of `fallocate` and `remove`. @throws Wait, EIO */
  lookRange(lock: LockPtr, ino: number, first: number, last: number, extentsMax: number): void {
    this.extents.look(lock, ino, first, last, extentsMax);
    this.alloc.prepare();
  }

  /**
   * Reserves unwritten blocks in the holes and offline extents of `first .. last`, at most
   * `extentsMax` extents.
   * @returns the block where to go on (past `last`: done) and why it stopped early
   */
  fallocate(
    lock: LockPtr, inode: InodeRec, first: number, last: number, extentsMax: number,
  ): { next: number; stop: Stop | null } {
    const { e } = this;
    const { ino } = inode;
    let b = first;
    for (let n = 0; n < extentsMax && b <= last; n++) {
      const has = this.extents.find(lock, ino, b, e);
      const inside = has && e.start <= b;
      if (inside && e.blkno !== 0) {
        b = extEnd(e);
        continue;
      }
      const to = has ? Math.min(inside ? extEnd(e) : e.start, last + 1) : last + 1;
      const got = this.take(Math.min(to - b, FALLOCATE_ALLOC_MAX_BLOCKS));
      if (typeof got === 'string' || got instanceof Promise) return { next: b, stop: got };
      const flags = (inside ? e.flags & SEF_OFFLINE : 0) | SEF_UNWRITTEN;
      this.extents.set(lock, ino, inode, newExt(b, got.count, got.blkno, flags));
      b += got.count;
    }
    return { next: Math.min(b, last + 1), stop: null };
  }

  /**
   * Removes what blocks `first .. last` map, at most `extentsMax` extents; `offline` leaves
   * offline extents where blocks existed. A null `inode` leaves the counters alone.
   * @returns the block where to go on, or 0 when nothing is left
   */
  remove(
    lock: LockPtr, ino: number, inode: InodeRec | null, first: number, last: number,
    offline: boolean, extentsMax: number,
  ): { next: number; stop: Stop | null } {
    const { e } = this;
    let b = first;
    for (let n = 0; n < extentsMax; n++) {
      if (b > last || !this.extents.find(lock, ino, b, e) || e.start > last) {
        return { next: 0, stop: null };
      }
      const start = Math.max(e.start, b);
      const len = Math.min(extEnd(e), last + 1) - start;
      b = start + len;
      if (offline && e.blkno === 0 && (e.flags & SEF_OFFLINE) !== 0) continue;
      if (e.blkno !== 0) {
        const stop = this.giveUp(e.blkno + (start - e.start), len);
        if (stop !== null) return { next: start, stop };
      }
      this.extents.set(lock, ino, inode, newExt(start, len, 0, offline ? SEF_OFFLINE : 0));
    }
    return { next: b, stop: null };
  }

  private giveUp(blkno: number, countBlocks: number): Stop | null {
    try {
      this.alloc.free(blkno, countBlocks);
      return null;
    } catch (err) {
      if (err instanceof Wait) return err.ready;
      throw err;
    }
  }
}
