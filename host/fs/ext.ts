/**
 * The extent items of a file, and the three changes they allow.
 *
 * A file is a set of extents that do not overlap, one item each, keyed by their
 * last block: the first item at or after (last = b, len = 1) is the extent that
 * contains block b or else the first one behind it. Neighbours that continue each
 * other are always merged.
 *
 *   insert  into a place where nothing is
 *   remove  a part of one extent
 *   set     replace a part of one extent, or of a hole, by another mapping
 *
 * A change looks at its neighbours, plans at most three removals and three
 * insertions, and applies them. Everything it looks at must have been looked at
 * before the transaction: `look` walks the extents around the blocks that an
 * operation is going to change, which makes every key in between known.
 *
 * The two block counters of the inode follow each insertion and removal; they are
 * left alone (null inode) while a file is being deleted. Source: data.md 1.
 */
import { DATA_EXTENT_TYPE, FS_ZONE, SEF_OFFLINE, SEF_UNKNOWN, SEF_UNWRITTEN } from
  '../core/constants.js';
import type { Items, LockPtr } from '../core/items.js';
import { ABSENT } from '../core/items.js';
import { setU64, u64 } from '../core/u64.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { InodeRec } from './inode_item.js';

/** Bytes of a file block and of a data device block. */
export const BLOCK_BYTES = 4096;
/** The greatest file block number. */
export const BLOCK_MAX = 2 ** 52 - 1;
const EXTENT_VAL_BYTES = 16;
/** Extents looked at behind the last block of interest: the right neighbour and what follows it. */
const LOOK_BEHIND_EXTENTS = 2;

/** `len` file blocks from `start`; device blocks from `blkno`, 0 when unmapped. */
export interface Ext {
  start: number;
  len: number;
  blkno: number;
  flags: number;
}

export function newExt(start = 0, len = 0, blkno = 0, flags = 0): Ext {
  return { start, len, blkno, flags };
}

/** First block behind the extent. */
export function extEnd(e: Ext): number {
  return e.start + e.len;
}

export function isOnline(e: Ext): boolean {
  return e.blkno !== 0 && (e.flags & SEF_UNWRITTEN) === 0;
}

/** Whether `right` continues `left`. */
export function canMerge(left: Ext, right: Ext): boolean {
  if (extEnd(left) !== right.start || left.flags !== right.flags) return false;
  if (left.blkno === 0 || right.blkno === 0) return left.blkno === right.blkno;
  return left.blkno + left.len === right.blkno;
}

/** The part of `e` in [start, start + len). */
function part(e: Ext, start: number, len: number): Ext {
  return newExt(start, len, e.blkno === 0 ? 0 : e.blkno + (start - e.start), e.flags);
}

export class Extents {
  private readonly f = newExt();
  private readonly l = newExt();
  private readonly r = newExt();

  /** Files may have blocks `firstBlkno .. endBlkno - 1` of the data device. */
  constructor(private readonly items: Items, private readonly firstBlkno = 1,
    private readonly endBlkno: () => number = () => Infinity) {}

  /**
   * Finds the extent that contains `block`, or the first one after it.
   * @returns false when there is none  @throws Wait; EIO for a damaged item
   */
  find(lock: LockPtr, ino: number, block: number, out: Ext): boolean {
    return this.findKey(lock, ino, block, 1, 0, out);
  }

  /** Finds the extent behind `e`, from the very next key on. @throws Wait, EIO */
  after(lock: LockPtr, ino: number, e: Ext, out: Ext): boolean {
    return this.findKey(lock, ino, extEnd(e) - 1, e.len, 1, out);
  }

  /**
   * Makes everything known that a change of blocks `first .. last` may look at or write:
   * both neighbours and every key between them. Stops early behind `extentsMax` extents.
   * @throws Wait, EIO
   */
  look(lock: LockPtr, ino: number, first: number, last: number, extentsMax: number): void {
    let behind = 0;
    let more = this.find(lock, ino, Math.max(first - 1, 0), this.f);
    for (let n = 0; more && n < extentsMax + LOOK_BEHIND_EXTENTS + 1; n++) {
      if (this.f.start > last && ++behind === LOOK_BEHIND_EXTENTS) return;
      more = this.after(lock, ino, this.f, this.f);
    }
  }

  /** @throws EINVAL when the range overlaps an extent */
  insert(lock: LockPtr, ino: number, inode: InodeRec | null, e: Ext): void {
    const end = extEnd(e);
    const { l, r } = this;
    const hasR = this.find(lock, ino, e.start, r);
    if (hasR && r.start < end) throw errnoError('EINVAL');
    const add = { ...e };
    if (hasR && canMerge(add, r)) {
      this.del(lock, ino, inode, r);
      add.len += r.len;
    }
    if (e.start > 0 && this.find(lock, ino, e.start - 1, l) && canMerge(l, add)) {
      this.del(lock, ino, inode, l);
      this.merge(add, l);
    }
    this.ins(lock, ino, inode, add);
  }

  /** @throws EINVAL unless the range lies inside one extent */
  remove(lock: LockPtr, ino: number, inode: InodeRec | null, start: number, len: number): void {
    const f = this.f;
    const end = start + len;
    if (!this.find(lock, ino, start, f) || f.start > start || extEnd(f) < end) {
      throw errnoError('EINVAL');
    }
    this.del(lock, ino, inode, f);
    if (f.start < start) this.ins(lock, ino, inode, part(f, f.start, start - f.start));
    if (extEnd(f) > end) this.ins(lock, ino, inode, part(f, end, extEnd(f) - end));
  }

  /**
   * Gives the blocks of `e` a new mapping; blkno 0 with flags 0 makes a hole.
   * @throws EINVAL when the range reaches out of an extent that it overlaps
   */
  set(lock: LockPtr, ino: number, inode: InodeRec | null, e: Ext): void {
    const end = extEnd(e);
    const { f, l, r } = this;
    const add = { ...e };
    const hasF = this.find(lock, ino, e.start, f) && f.start < end;
    if (hasF && (f.start > e.start || extEnd(f) < end)) throw errnoError('EINVAL');
    if (hasF) this.del(lock, ino, inode, f);
    if (hasF && f.start < e.start) {
      this.ins(lock, ino, inode, part(f, f.start, e.start - f.start));
    } else if (e.start > 0 && this.find(lock, ino, e.start - 1, l) && canMerge(l, add)) {
      this.del(lock, ino, inode, l);
      this.merge(add, l);
    }
    if (hasF && extEnd(f) > end) {
      this.ins(lock, ino, inode, part(f, end, extEnd(f) - end));
    } else if (this.find(lock, ino, end, r) && canMerge(add, r)) {
      this.del(lock, ino, inode, r);
      add.len += r.len;
    }
    if (e.blkno !== 0 || e.flags !== 0) this.ins(lock, ino, inode, add);
  }

  private merge(add: Ext, left: Ext): void {
    add.start = left.start;
    add.len += left.len;
    add.blkno = left.blkno;
  }

  private findKey(lock: LockPtr, ino: number, last: number, len: number, fourth: number,
    out: Ext): boolean {
    const { items } = this;
    const n = items.next(lock, FS_ZONE, ino, DATA_EXTENT_TYPE, last, len, fourth, BLOCK_MAX);
    if (n === ABSENT) return false;
    const key = items.found;
    out.len = key.third;
    out.start = key.second - key.third + 1;
    // with anything in `fourth`, `after` would find the same item for ever
    if (n !== EXTENT_VAL_BYTES || key.fourth !== 0 || key.third < 1 || out.start < 0 ||
      key.second > BLOCK_MAX) {
      throw this.damaged(ino, key.second, key.third);
    }
    out.blkno = u64(items.val, 0);
    out.flags = items.val.getUint8(8);
    const outside = out.blkno !== 0 &&
      (out.blkno < this.firstBlkno || out.blkno + out.len > this.endBlkno());
    if (outside || (out.flags & SEF_UNKNOWN) !== 0) {
      throw this.damaged(ino, key.second, key.third);
    }
    return true;
  }

  private damaged(ino: number, last: number, len: number): ScoutfsError {
    return new ScoutfsError('EXTENT_ITEM', 'EIO', {
      message: `inode ${ino}: damaged extent item (last block ${last}, length ${len})`,
    });
  }

  private ins(lock: LockPtr, ino: number, inode: InodeRec | null, e: Ext): void {
    const { val } = this.items;
    setU64(val, 0, e.blkno);
    val.setUint32(8, e.flags, true);
    val.setUint32(12, 0, true);
    this.items.create(lock, FS_ZONE, ino, DATA_EXTENT_TYPE, extEnd(e) - 1, e.len, 0,
      EXTENT_VAL_BYTES);
    if (inode !== null) count(inode, e, e.len);
  }

  private del(lock: LockPtr, ino: number, inode: InodeRec | null, e: Ext): void {
    this.items.delete(lock, FS_ZONE, ino, DATA_EXTENT_TYPE, extEnd(e) - 1, e.len, 0);
    if (inode !== null) count(inode, e, -e.len);
  }
}

function count(inode: InodeRec, e: Ext, lenBlocks: number): void {
  if (isOnline(e)) inode.onlineBlocks += lenBlocks;
  else if ((e.flags & SEF_OFFLINE) !== 0) inode.offlineBlocks += lenBlocks;
}
