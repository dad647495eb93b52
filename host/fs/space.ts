/**
 * Changing a file's size and attributes, and reserving its space.
 *
 * A file that shrinks loses its extents behind the new end in batches, one
 * transaction each. Until the last is gone its TRUNCATE flag says so, on disk:
 * whoever next wants to change the size or write, on any mount, finishes the job
 * first. Shrinking by few extents is done with the size change at once, and the
 * flag is never seen.
 *
 * Source: inode.md 8 (setattr), 9 and 10; data.md 4, 6, 7.
 */
import type { BytePos } from '../core/bytepos.js';
import {
  addPos, blockOf, blocksTo, isPos, minPos, posOfBlock, restOf,
} from '../core/bytepos.js';
import { INO_FLAG_TRUNCATE, SEF_OFFLINE, SEF_UNWRITTEN, SQ_OP_DATA } from '../core/constants.js';
import type { LockPtr } from '../core/items.js';
import type { WallTime } from '../env/clock.js';
import type { Op } from '../mount/op.js';
import { MODE_WRITE, Wait } from '../mount/op.js';
import { C } from '../observe/counters.js';
import { errnoError } from '../observe/errors.js';
import type { Acls } from './acl_xattr.js';
import type { Stop } from './block_map.js';
import { repeat } from './context.js';
import type { DataContext } from './data.js';
import { WAIT_CHANGE_SIZE } from './data_waiters.js';
import { BLOCK_BYTES, BLOCK_MAX, extEnd, newExt } from './ext.js';
import type { InodeRec } from './inode_item.js';
import { S_IFMT } from './inode_item.js';
import type { PartsChange } from './xattr.js';
import type { SetAttr } from './vfs.js';
import {
  SET_ATIME, SET_ATIME_NOW, SET_GID, SET_KILL_SUIDGID, SET_MODE, SET_MTIME, SET_MTIME_NOW,
  SET_SIZE, SET_UID,
} from './vfs.js';

/** Extents removed in one transaction. */
export const TRUNCATE_BATCH_EXTENTS = 32;
/** Extents made by fallocate in one transaction. */
const FALLOCATE_BATCH_EXTENTS = 8;
const FALLOC_KEEP_SIZE = 1;
const PERM_BITS = 0o7777;
const ATTRS = SET_MODE | SET_UID | SET_GID | SET_ATIME | SET_MTIME | SET_ATIME_NOW |
  SET_MTIME_NOW | SET_KILL_SUIDGID;

/** A block in the middle of which a file ends, or will. */
export interface Tail {
  blkno: number;
  block: number;
  /** Bytes that belong to the file. */
  keep: number;
  bytes: Uint8Array;
}

export class Space {
  private readonly e = newExt();

  constructor(
    private readonly d: DataContext, private readonly acls: Acls,
  ) {}

  /**
   * @returns the inode as changed, or a promise of it when more transactions are needed
   * @throws Wait, EPERM, EFBIG
   */
  setattr(op: Op, ino: number, set: SetAttr): InodeRec | Promise<InodeRec> {
    const lock = op.lockInode(ino, MODE_WRITE);
    const before = this.d.inodes.read(lock, ino);
    if (before.retained) throw errnoError('EPERM');
    if ((set.valid & SET_SIZE) === 0 || !before.isReg) {
      return this.setAttrs(op, lock, before, set);
    }
    if (before.truncating) return this.resumeSetattr(op, ino, set);
    const inode = this.setSize(op, lock, before, set);
    return inode.truncating ? this.finishSetattr(op, ino) : inode;
  }

  private async resumeSetattr(op: Op, ino: number, set: SetAttr): Promise<InodeRec> {
    await this.finishTruncate(op, ino);
    await repeat(() => {
      const lock = op.lockInode(ino, MODE_WRITE);
      return this.setSize(op, lock, this.d.inodes.read(lock, ino), set);
    });
    return this.finishSetattr(op, ino);
  }

  private async finishSetattr(op: Op, ino: number): Promise<InodeRec> {
    await this.finishTruncate(op, ino);
    return repeat(() => this.d.inodes.read(op.lockInode(ino, MODE_WRITE), ino));
  }

  private setAttrs(op: Op, lock: LockPtr, inode: InodeRec, set: SetAttr): InodeRec {
    const acl = this.lookChmod(lock, inode, set);
    const { hold, clock } = this.d.cx;
    hold.begin(op);
    hold.will(inode, false);
    hold.hold(op, false);
    this.acls.store(lock, acl);
    applyAttrs(inode, set, clock.now());
    hold.update(lock, inode);
    return inode;
  }

  /** What a new mode does to the access ACL. @throws Wait, EIO; EOPNOTSUPP for symlinks */
  private lookChmod(lock: LockPtr, inode: InodeRec, set: SetAttr): PartsChange[] {
    if ((set.valid & SET_MODE) === 0) return [];
    if (inode.isLnk) throw errnoError('EOPNOTSUPP');
    return this.acls.planChmod(lock, inode, set.mode);
  }

  /** The size and all else that `set` gives, in one transaction. */
  private setSize(op: Op, lock: LockPtr, inode: InodeRec, set: SetAttr): InodeRec {
    const { map, guard, cx } = this.d;
    const { ino } = inode;
    const { size } = set;
    if (!isPos(size)) throw errnoError('EFBIG');
    if (size > 0 && size !== inode.size) {
      this.requireOnline(lock, inode, 0, blocksTo(size) - 1, WAIT_CHANGE_SIZE);
    }
    const shrinking = inode.size >= size;
    const first = blocksTo(size);
    const zero = size < inode.size ? this.lookTail(lock, inode, size)
      : size > inode.size ? this.lookEnd(lock, inode) : null;
    if (shrinking) map.lookRange(lock, ino, first, BLOCK_MAX, TRUNCATE_BATCH_EXTENTS);
    const offline = inode.offlineBlocks;
    const acl = this.lookChmod(lock, inode, set);
    const { hold } = cx;
    hold.begin(op);
    hold.will(inode, true);
    hold.hold(op, false);

    const now = cx.clock.now();
    if (size !== inode.size) inode.dataVersion += 1;
    inode.size = size;
    inode.dataSeq = hold.transSeq;
    inode.touch(now, true);
    if (shrinking) {
      const { next } = map.remove(lock, ino, inode, first, BLOCK_MAX, false,
        TRUNCATE_BATCH_EXTENTS);
      if (next !== 0) inode.flags |= INO_FLAG_TRUNCATE;
      guard.unmapped(ino);
    }
    this.acls.store(lock, acl);
    if ((set.valid & ATTRS) !== 0) applyAttrs(inode, set, now);
    hold.update(lock, inode);
    if (zero !== null) this.sendTail(inode, zero);
    if (inode.offlineBlocks < offline) this.d.waiters.changed(ino);
    return inode;
  }

  /**
   * The block that holds the end, when the device has anything but zeros behind it: they
   * would come to light when the file grows without writing there. Appends of a mount that
   * died before its commit leave such bytes. @throws Wait as `lookTail`
   */
  lookEnd(lock: LockPtr, inode: InodeRec): Tail | null {
    const tail = this.lookTail(lock, inode, inode.size);
    return tail?.bytes.subarray(tail.keep).some((b) => b !== 0) === true ? tail : null;
  }

  /**
   * The block that holds byte `size`, when it has contents.
   * @throws Wait while they are read or written
   */
  private lookTail(lock: LockPtr, inode: InodeRec, size: BytePos): Tail | null {
    const keep = restOf(size);
    if (keep === 0) return null;
    const { e } = this;
    const block = blockOf(size);
    if (!this.d.extents.find(lock, inode.ino, block, e) || e.start > block || e.blkno === 0 ||
        (e.flags & SEF_UNWRITTEN) !== 0) {
      return null;
    }
    const busy = this.d.guard.conflict(inode.ino, block, block);
    if (busy !== null) throw new Wait(busy);
    const blkno = e.blkno + (block - e.start);
    return { blkno, block, keep, bytes: this.d.blocks.get(blkno, inode.ino, inode.version) };
  }

  /** Makes what lies behind a tail's kept bytes zero on the device. */
  sendTail(inode: InodeRec, tail: Tail): void {
    const { buffers, writer, blocks } = this.d;
    const buf = buffers.take(BLOCK_BYTES);
    buf.fill(0);
    buf.set(tail.bytes.subarray(0, tail.keep));
    blocks.put(tail.blkno, inode.ino, inode.version, buf);
    writer.send(inode.ino, tail.block, tail.block,
      [{ offset: tail.blkno * BLOCK_BYTES, bytes: buf }])
      .catch(() => { /* repeated until it succeeds; the commit waits for that */ })
      .finally(() => { buffers.give(buf); });
  }

  /** Removes what a truncation left behind; nothing to do for other inodes. Never throws Wait. */
  async finishTruncate(op: Op, ino: number): Promise<void> {
    for (;;) {
      const { done, stop } = await repeat(() => this.truncateStep(op, ino));
      if (done) return;
      await this.ready(stop);
    }
  }

  private truncateStep(op: Op, ino: number): { done: boolean; stop: Stop | null } {
    const { map, guard, cx } = this.d;
    const lock = op.lockInode(ino, MODE_WRITE);
    const inode = this.d.inodes.read(lock, ino);
    if (!inode.truncating) return { done: true, stop: null };
    const first = blocksTo(inode.size);
    map.lookRange(lock, ino, first, BLOCK_MAX, TRUNCATE_BATCH_EXTENTS);
    const offline = inode.offlineBlocks;
    cx.hold.begin(op);
    cx.hold.will(inode, false);
    cx.hold.hold(op, false);

    const { next, stop } = map.remove(lock, ino, inode, first, BLOCK_MAX, false,
      TRUNCATE_BATCH_EXTENTS);
    guard.unmapped(ino);
    if (next === 0) inode.flags &= ~INO_FLAG_TRUNCATE;
    cx.hold.update(lock, inode);
    if (inode.offlineBlocks < offline) this.d.waiters.changed(ino);
    return { done: next === 0, stop };
  }

  /** Waits for what stopped a batch. @throws ENOSPC */
  private async ready(stop: Stop | null): Promise<void> {
    if (stop === 'ENOSPC') throw errnoError('ENOSPC');
    if (stop === 'ENOBUFS') await this.d.requestCommit();
    else await stop;
  }

  /** @throws Wait, EOPNOTSUPP, EISDIR, EINVAL, EFBIG, EPERM, EDQUOT, ENOSPC */
  fallocate(op: Op, ino: number, mode: number, offset: BytePos, lenBytes: BytePos):
  Promise<void> | undefined {
    if ((mode & ~FALLOC_KEEP_SIZE) !== 0) throw errnoError('EOPNOTSUPP');
    if (lenBytes === 0) return undefined;
    const end = addPos(offset, lenBytes);
    if (!isPos(end)) throw errnoError('EFBIG');
    const keepSize = (mode & FALLOC_KEEP_SIZE) !== 0;
    const last = blocksTo(end) - 1;
    const first = blockOf(offset);
    const lock = op.lockInode(ino, MODE_WRITE);
    const inode = this.d.inodes.read(lock, ino);
    if (!inode.isReg) throw errnoError(inode.isDir ? 'EISDIR' : 'EINVAL');
    if (inode.retained) throw errnoError('EPERM');
    if (inode.truncating) return this.fallocateRest(op, ino, first, last, end, keepSize, null);
    const { next, stop } = this.fallocateStep(op, ino, first, last, end, keepSize);
    if (next > last) return undefined;
    return this.fallocateRest(op, ino, next, last, end, keepSize, stop);
  }

  private async fallocateRest(op: Op, ino: number, from: number, last: number, end: BytePos,
    keepSize: boolean, stopped: Stop | null): Promise<void> {
    await this.finishTruncate(op, ino);
    let next = from;
    let stop = stopped;
    while (next <= last) {
      if (stop === 'ENOBUFS') this.d.counters.inc(C.data_fallocate_enobufs_retry);
      await this.ready(stop);
      ({ next, stop } = await repeat(
        () => this.fallocateStep(op, ino, next, last, end, keepSize)));
    }
  }

  private fallocateStep(op: Op, ino: number, first: number, last: number, end: BytePos,
    keepSize: boolean): { next: number; stop: Stop | null } {
    const { map, cx } = this.d;
    const lock = op.lockInode(ino, MODE_WRITE);
    const inode = this.d.inodes.read(lock, ino);
    cx.quotas.check(op, SQ_OP_DATA, inode);
    map.lookRange(lock, ino, first, last, FALLOCATE_BATCH_EXTENTS);
    const gap = keepSize || end <= inode.size ? null : this.lookEnd(lock, inode);
    cx.hold.begin(op);
    cx.hold.will(inode, false);
    cx.hold.hold(op, true);

    const done = map.fallocate(lock, inode, first, last, FALLOCATE_BATCH_EXTENTS);
    if (done.next === first) return done;
    const size = minPos(posOfBlock(done.next), end);
    const grows = !keepSize && size > inode.size;
    if (grows) {
      inode.size = size;
      inode.version += 1;
      inode.dataVersion += 1;
    }
    cx.hold.update(lock, inode);
    if (grows && gap !== null) this.sendTail(inode, gap);
    return done;
  }

  /**
   * Goes on when none of the blocks `first .. last` is offline.
   * @throws Wait without locks until it may be online
   */
  requireOnline(lock: LockPtr, inode: InodeRec, first: number, last: number, waitOp: number):
  void {
    if (inode.offlineBlocks === 0 || first > last) return;
    const { e } = this;
    let more = this.d.extents.find(lock, inode.ino, first, e);
    while (more && e.start <= last) {
      if ((e.flags & SEF_OFFLINE) !== 0 && extEnd(e) > first) {
        throw this.d.waiters.wait(inode.ino, Math.max(first, e.start), waitOp);
      }
      more = this.d.extents.after(lock, inode.ino, e, e);
    }
  }
}

/** Mode, owner and times as given; ctime always. */
function applyAttrs(inode: InodeRec, set: SetAttr, now: WallTime): void {
  const { valid } = set;
  if ((valid & SET_KILL_SUIDGID) !== 0) inode.killSuidgid();
  if ((valid & SET_MODE) !== 0) inode.mode = (inode.mode & S_IFMT) | (set.mode & PERM_BITS);
  if ((valid & SET_UID) !== 0) inode.uid = set.uid;
  if ((valid & SET_GID) !== 0) inode.gid = set.gid;
  if ((valid & SET_ATIME_NOW) !== 0) inode.setAtime(now);
  else if ((valid & SET_ATIME) !== 0) inode.setAtime({ sec: set.atimeSec, nsec: set.atimeNsec });
  if ((valid & SET_MTIME_NOW) !== 0) inode.setMtime(now);
  else if ((valid & SET_MTIME) !== 0) inode.setMtime({ sec: set.mtimeSec, nsec: set.mtimeNsec });
  inode.touch(now, false);
}
