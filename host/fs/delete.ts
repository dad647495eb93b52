/**
 * The end of inodes: deletion when the last user has gone.
 *
 * An inode without links has an orphan item until it is deleted. It may be
 * deleted by whoever holds I(ino) W and knows that no mount uses it: the open map
 * of this mount, and of all others as asked for under this grant. Extents go
 * first, then xattrs, in batches of one transaction each; the last one also takes
 * the symlink's target, the index items, the orphan item and the inode item. Small
 * files need only that one. Every step may be the last before a crash: the orphan
 * item is still there and the next attempt, here or elsewhere, starts over.
 *
 * Attempts come from two places: this mount's own unlinks, when the kernel lets
 * go of the inode; and the scan of committed orphan items (`orphan_scan.ts`) for
 * what others left behind. Source: inode.md 7, recovery.md 6, xattr.md 5.
 */
import {
  FS_ZONE, INODE_TYPE, LOCK_INODE_GROUP_NR, MAX_VAL_SIZE, SYMLINK_MAX_SIZE, SYMLINK_TYPE, Xattr,
  XATTR_TYPE,
} from '../core/format.js';
import type { LockPtr } from '../core/items.js';
import { ABSENT } from '../core/items.js';
import type { Op } from '../mount/op.js';
import { MODE_WRITE, Wait } from '../mount/op.js';
import { C } from '../observe/counters.js';
import type { Stop } from './block_map.js';
import { repeat } from './context.js';
import type { DataContext } from './data.js';
import { BLOCK_MAX } from './ext.js';
import type { InodeRec } from './inode_item.js';
import type { OpSource } from './vfs.js';
import type { SideChange, Xattrs } from './xattr.js';
import { tagsOf } from './xattr.js';

/** Extents, and xattr items, removed in one transaction. */
const DELETE_BATCH_EXTENTS = 64;
const DELETE_BATCH_XATTRS = 64;

/** How an attempt ended: nothing to delete, deleted, or someone uses the inode, by name or not. */
export type DeleteResult = 'gone' | 'deleted' | 'busy' | 'linked';

/** How a step ended: `more` is to be done, after `stop`. */
interface Step {
  result: DeleteResult | 'more';
  stop: Stop | null;
}

/** One xattr item to delete. */
interface Part {
  hash: number;
  id: number;
  part: number;
}

export class Deletes {
  /** Inodes that an attempt is working on. */
  private readonly deleting = new Set<number>();

  constructor(
    private readonly d: DataContext, private readonly xattrs: Xattrs,
    private readonly ops: OpSource,
  ) {}

  /**
   * Deletes the inode if it has no links and no users.
   * @throws the errors of locks, devices and damaged items
   */
  async attempt(ino: number): Promise<DeleteResult> {
    if (this.deleting.has(ino)) return 'busy';
    this.deleting.add(ino);
    const op = this.ops.begin(false);
    try {
      for (;;) {
        const { result, stop } = await repeat(() => this.step(op, ino));
        if (result !== 'more') return result;
        if (stop instanceof Promise) await stop;
      }
    } finally {
      this.ops.end(op);
      this.deleting.delete(ino);
    }
  }

  /** Whether the inode may be deleted under the grant that is held now. @throws Wait */
  private check(lock: LockPtr, ino: number): 'gone' | 'busy' | 'linked' | 'delete' {
    const { inodes, cx } = this.d;
    if (cx.openMap.isOpen(ino)) return 'busy';
    const group = Math.floor(ino / LOCK_INODE_GROUP_NR);
    const remote = cx.openMap.fetchGroup(group, lock);
    if (remote instanceof Promise) throw new Wait(remote);
    if (remote.has(ino)) {
      // users elsewhere can let go while we keep the grant: the next attempt asks again
      cx.openMap.forget(group);
      return 'busy';
    }
    if (!inodes.exists(lock, ino)) return 'gone';
    return inodes.read(lock, ino).nlink > 0 ? 'linked' : 'delete';
  }

  /**
   * One transaction: a batch of extents and xattr items, and when that was all, the rest.
   * Locks can have been lost since the last step, so every step checks everything.
   * @throws Wait, EAGAIN, EINVAL, EIO
   */
  private step(op: Op, ino: number): Step {
    const { map, guard, cx, inodes } = this.d;
    const lock = op.lockInode(ino, MODE_WRITE);
    const may = this.check(lock, ino);
    if (may !== 'delete') return { result: may, stop: null };
    const inode = inodes.read(lock, ino);
    if (inode.isReg) map.lookRange(lock, ino, 0, BLOCK_MAX, DELETE_BATCH_EXTENTS);
    const { parts, sides } = this.lookXattrs(op, lock, ino);
    const chunks = this.lookTarget(lock, inode);
    const orphanLock = op.lockOrphan();
    const { items, hold } = cx;
    hold.begin(op);
    hold.willDelete(inode);
    hold.hold(op, false);
    if (sides.some((s) => s.srch !== null)) op.prepareSrch();

    if (inode.isReg) {
      const { next, stop } = map.remove(lock, ino, null, 0, BLOCK_MAX, false,
        DELETE_BATCH_EXTENTS);
      guard.unmapped(ino);
      if (next !== 0) return { result: 'more', stop };
    }
    for (const p of parts) items.delete(lock, FS_ZONE, ino, XATTR_TYPE, p.hash, p.id, p.part);
    for (const side of sides) this.xattrs.applySide(op, lock, side);
    if (parts.length === DELETE_BATCH_XATTRS) return { result: 'more', stop: null };
    hold.deleteItems(lock, inode);
    for (const nr of chunks) items.delete(lock, FS_ZONE, ino, SYMLINK_TYPE, nr, 0, 0);
    inodes.deleteOrphan(orphanLock, lock, ino);
    items.delete(lock, FS_ZONE, ino, INODE_TYPE, 0, 0, 0);
    op.addInodeCount(-1);
    this.d.counters.inc(C.inode_deleted);
    return { result: 'deleted', stop: null };
  }

  /** The first xattr items, at most a batch, and the side items of those that are part 0. */
  private lookXattrs(op: Op, lock: LockPtr, ino: number): { parts: Part[]; sides: SideChange[] } {
    const parts: Part[] = [];
    const sides: SideChange[] = [];
    let hash = 0;
    let id = 0;
    let part = 0;
    while (parts.length < DELETE_BATCH_XATTRS) {
      const n = this.xattrs.next(lock, ino, hash, id, part);
      if (n === ABSENT) break;
      ({ second: hash, third: id, fourth: part } = this.d.cx.items.found);
      parts.push({ hash, id, part });
      if (part === 0) sides.push(this.sideOf(op, ino, id, n));
      // There are at most 74 parts, so the next key needs no carry.
      part += 1;
    }
    return { parts, sides };
  }

  /** Numbers of the symlink items that exist. */
  private lookTarget(lock: LockPtr, inode: InodeRec): number[] {
    const chunks: number[] = [];
    if (!inode.isLnk) return chunks;
    const nrs = Math.ceil(Math.min(Number(inode.size), SYMLINK_MAX_SIZE) / MAX_VAL_SIZE);
    for (let nr = 0; nr < nrs; nr++) {
      const n = this.d.cx.items.lookup(lock, FS_ZONE, inode.ino, SYMLINK_TYPE, nr, 0, 0);
      if (n !== ABSENT) chunks.push(nr);
    }
    return chunks;
  }

  /**
   * What part 0 in the window counts into.
   * @throws Wait; EINVAL for a total that is no number
   */
  private sideOf(op: Op, ino: number, id: number, len: number): SideChange {
    const name = this.xattrs.nameInWindow(ino, len);
    const tags = tagsOf(name);
    const { val, valBytes } = this.d.cx.items;
    const at = Xattr.size + name.length;
    const value = valBytes.slice(at, Math.min(len, at + Xattr.read(val, 0).valLen));
    return this.xattrs.sideOf(op, tags, name, ino, id, value, null);
  }
}

export { OrphanScan } from './orphan_scan.js';
export type { OrphanSource } from './orphan_scan.js';
