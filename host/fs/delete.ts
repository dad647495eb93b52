/**
 * The end of inodes: deletion when the last user has gone.
 *
 * An inode without links has an orphan item until it is deleted. It may be
 * deleted by whoever holds I(ino) W and knows that no mount uses it: the open map
 * of this mount, and of all others as asked for under this grant. Extents go
 * first, then xattrs, each in batches with a transaction of their own; then, in
 * one transaction, the symlink's target, the index items, the orphan item and the
 * inode item. Every step may be the last one before a crash: the orphan item is
 * still there and the next attempt, here or elsewhere, starts over.
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
import { errnoError } from '../observe/errors.js';
import { repeat } from './context.js';
import type { DataContext } from './data.js';
import { BLOCK_MAX } from './ext.js';
import type { InodeRec } from './inode_item.js';
import type { OpSource } from './vfs.js';
import type { Xattrs } from './xattr.js';
import { tagsOf } from './xattr.js';

/** Extents, and xattr items, removed in one transaction. */
const DELETE_BATCH_EXTENTS = 64;
const DELETE_BATCH_XATTRS = 16;

/** How an attempt ended: nothing to delete, deleted, or someone uses the inode. */
export type DeleteResult = 'gone' | 'deleted' | 'busy';

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
      const found = await repeat(() => this.check(op, ino));
      if (found !== 'delete') return found;
      while (await this.removeExtents(op, ino));
      while (await repeat(() => this.removeXattrs(op, ino)));
      return await repeat(() => this.removeInode(op, ino));
    } finally {
      this.ops.end(op);
      this.deleting.delete(ino);
    }
  }

  /** Whether the inode may be deleted under the grant that is held now. @throws Wait */
  private check(op: Op, ino: number): 'gone' | 'busy' | 'delete' {
    const { inodes, cx } = this.d;
    const lock = op.lockInode(ino, MODE_WRITE);
    if (cx.openMap.isOpen(ino)) return 'busy';
    const remote = cx.openMap.fetchGroup(Math.floor(ino / LOCK_INODE_GROUP_NR), lock);
    if (remote instanceof Promise) throw new Wait(remote);
    if (remote.has(ino)) return 'busy';
    if (!inodes.exists(lock, ino)) return 'gone';
    return inodes.read(lock, ino).nlink > 0 ? 'busy' : 'delete';
  }

  /** The inode, if the attempt may go on with it: locks can have been lost since. @throws Wait */
  private victim(op: Op, ino: number): { lock: LockPtr; inode: InodeRec } | null {
    if (this.check(op, ino) !== 'delete') return null;
    const lock = op.lockInode(ino, MODE_WRITE);
    return { lock, inode: this.d.inodes.read(lock, ino) };
  }

  /** One batch of extents. @returns whether there may be more */
  private async removeExtents(op: Op, ino: number): Promise<boolean> {
    const { map, guard } = this.d;
    const { more, stop } = await repeat(() => {
      const victim = this.victim(op, ino);
      if (victim === null || !victim.inode.isReg) return { more: false, stop: null };
      map.lookRange(victim.lock, ino, 0, BLOCK_MAX, DELETE_BATCH_EXTENTS);
      op.hold(false);
      const done = map.remove(victim.lock, ino, null, 0, BLOCK_MAX, false, DELETE_BATCH_EXTENTS);
      guard.unmapped(ino);
      return { more: done.next !== 0, stop: done.stop };
    });
    if (stop instanceof Promise) await stop;
    return more;
  }

  /** One batch of xattr items with their side items. @returns whether there may be more */
  private removeXattrs(op: Op, ino: number): boolean {
    const victim = this.victim(op, ino);
    if (victim === null) return false;
    const { lock } = victim;
    const { items } = this.d.cx;
    const keys: { hash: number; id: number; part: number }[] = [];
    const sides = [];
    let hash = 0;
    let id = 0;
    let part = 0;
    while (keys.length < DELETE_BATCH_XATTRS) {
      const n = this.xattrs.next(lock, ino, hash, id, part);
      if (n === ABSENT) break;
      ({ second: hash, third: id, fourth: part } = items.found);
      keys.push({ hash, id, part });
      if (part === 0) sides.push(this.sideOf(op, ino, id, n));
      part += 1;
      // Fields are at most 74 parts, so the next key needs no carry.
    }
    if (keys.length === 0) return false;
    op.hold(false);
    for (const k of keys) items.delete(lock, FS_ZONE, ino, XATTR_TYPE, k.hash, k.id, k.part);
    for (const side of sides) this.xattrs.applySide(lock, side);
    return true;
  }

  /**
   * What part 0 in the window counts into.
   * @throws Wait; EAGAIN when the core cannot undo it; EINVAL for a total that is no number
   */
  private sideOf(op: Op, ino: number, id: number, len: number) {
    const name = this.xattrs.nameInWindow(ino, len);
    const tags = tagsOf(name);
    if (!this.xattrs.sideItemsOffered(tags)) throw errnoError('EAGAIN');
    const { val, valBytes } = this.d.cx.items;
    const at = Xattr.size + name.length;
    const value = valBytes.slice(at, Math.min(len, at + Xattr.read(val, 0).valLen));
    return this.xattrs.sideOf(op, tags, name, ino, id, value, null);
  }

  /** The rest, in one transaction. @throws Wait */
  private removeInode(op: Op, ino: number): DeleteResult {
    const victim = this.victim(op, ino);
    if (victim === null) return 'busy';
    const { lock, inode } = victim;
    const { cx, inodes } = this.d;
    const { items, hold } = cx;
    const chunks: number[] = [];
    for (let nr = 0; inode.isLnk && nr * MAX_VAL_SIZE < Math.min(inode.size, SYMLINK_MAX_SIZE);
      nr++) {
      if (items.lookup(lock, FS_ZONE, ino, SYMLINK_TYPE, nr, 0, 0) !== ABSENT) chunks.push(nr);
    }
    const orphanLock = op.lockOrphan();
    hold.begin(op);
    hold.willDelete(inode);
    hold.hold(op, false);

    hold.deleteItems(lock, inode);
    for (const nr of chunks) items.delete(lock, FS_ZONE, ino, SYMLINK_TYPE, nr, 0, 0);
    inodes.deleteOrphan(orphanLock, lock, ino);
    items.delete(lock, FS_ZONE, ino, INODE_TYPE, 0, 0, 0);
    op.addInodeCount(-1);
    return 'deleted';
  }
}

export { OrphanScan } from './orphan_scan.js';
export type { OrphanSource } from './orphan_scan.js';
