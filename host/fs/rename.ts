/**
 * rename.
 *
 * The one operation with up to four inodes. A rename inside one directory locks
 * that directory, the moved and the replaced inode. Between directories it first
 * takes the volume-wide RENAME lock, and holds it to the end: only then can the
 * walk to the root, which makes sure that no directory becomes its own ancestor,
 * not be overtaken by another rename. The walk reads each ancestor's only back
 * reference under I(ancestor) R, and is needed only when a directory moves or is
 * replaced.
 *
 * Source: dir.md 7 (rename), inode.md 10; data of the cases: dir.md 12.
 */
import { addPos } from '../core/bytepos.js';
import { ROOT_INO } from '../core/constants.js';
import type { LockPtr } from '../core/items.js';
import type { Op } from '../mount/op.js';
import { MODE_READ, MODE_WRITE } from '../mount/op.js';
import { errnoError } from '../observe/errors.js';
import type { FsContext } from './context.js';
import type { Dirs } from './dir.js';
import { dropLink, isLastLink } from './dir.js';
import type { Entry } from './dirent.js';
import { checkName, direntType } from './dirent.js';
import type { Inodes } from './inode.js';
import type { InodeRec } from './inode_item.js';
import type { Name } from './vfs.js';
import { RENAME_NOREPLACE } from './vfs.js';

/** Directories from a directory to the root; more means that the volume has a cycle. */
const DEPTH_MAX = 65536;

/** One side of a rename. */
interface Side {
  lock: LockPtr;
  dir: InodeRec;
  name: Name;
}

/** An entry with its inode. */
interface Linked {
  lock: LockPtr;
  inode: InodeRec;
  entry: Entry;
}

export class Renames {
  constructor(
    private readonly cx: FsContext, private readonly inodes: Inodes, private readonly dirs: Dirs,
  ) {}

  /**
   * @returns the replaced inode, or null
   * @throws Wait, EINVAL, ENAMETOOLONG, ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EPERM, ENOSPC
   */
  rename(op: Op, oldIno: number, oldName: Name, newIno: number, newName: Name, flags: number):
  InodeRec | null {
    if ((flags & ~RENAME_NOREPLACE) !== 0) throw errnoError('EINVAL');
    checkName(oldName);
    checkName(newName);
    const same = oldIno === newIno;
    if (!same) op.lockRename();
    const [from, to] = this.lockDirs(op, oldIno, oldName, newIno, newName);
    const { entries } = this.dirs;
    const oldEntry = entries.find(from.lock, oldIno, oldName);
    if (oldEntry === null) throw errnoError('ENOENT');
    if (to.dir.nlink === 0) throw errnoError('ENOENT');
    const newEntry = entries.find(to.lock, newIno, newName);
    if (newEntry !== null && (flags & RENAME_NOREPLACE) !== 0) throw errnoError('EEXIST');
    if (newEntry?.ino === oldEntry.ino) return null;

    const [moved, replaced] = this.lockEntries(op, oldIno, oldEntry, newIno, newEntry);
    if (!same) this.checkAncestors(op, oldIno, newIno, moved.inode, replaced?.inode ?? null);
    if (replaced !== null) checkReplace(moved.inode, replaced.inode);
    if (moved.inode.retained) throw errnoError('EPERM');
    return this.change(op, from, to, moved, replaced);
  }

  private change(op: Op, from: Side, to: Side, moved: Linked, replaced: Linked | null):
  InodeRec | null {
    const { entries } = this.dirs;
    const { hold } = this.cx;
    const ino = moved.inode.ino;
    const toIno = to.dir.ino;
    const pos = to.dir.nextReaddirPos;
    entries.lookRemove(from.lock, moved.lock, from.dir.ino, moved.entry);
    if (replaced !== null) entries.lookRemove(to.lock, replaced.lock, toIno, replaced.entry);
    entries.lookAdd(to.lock, moved.lock, toIno, ino, pos, to.name, replaced === null);
    const last = replaced !== null && isLastLink(replaced.inode);
    const orphanLock = last ? op.lockOrphan() : 0;
    hold.begin(op);
    hold.will(from.dir, false);
    hold.will(moved.inode, false);
    hold.will(to.dir, false);
    if (replaced !== null) hold.will(replaced.inode, false);
    hold.hold(op, true);

    const now = this.cx.clock.now();
    if (replaced !== null) {
      entries.remove(to.lock, replaced.lock, toIno, replaced.entry, to.name);
      if (last) this.inodes.createOrphan(orphanLock, replaced.lock, replaced.inode.ino);
      if (replaced.inode.isDir) to.dir.nlink -= 1;
      dropLink(replaced.inode);
      replaced.inode.touch(now, false);
    } else {
      to.dir.size = addPos(to.dir.size, to.name.len);
    }
    entries.add(to.lock, moved.lock, toIno, ino, direntType(moved.inode.mode), pos, to.name);
    entries.remove(from.lock, moved.lock, from.dir.ino, moved.entry, from.name);
    to.dir.nextReaddirPos = pos + 1;
    from.dir.size = addPos(from.dir.size, -from.name.len);
    const between = from.dir !== to.dir;
    if (between && moved.inode.isDir) {
      from.dir.nlink -= 1;
      to.dir.nlink += 1;
    }
    moved.inode.touch(now, false);
    from.dir.touch(now, true);
    if (between) to.dir.touch(now, true);
    hold.update(from.lock, from.dir);
    hold.update(moved.lock, moved.inode);
    if (between) hold.update(to.lock, to.dir);
    if (replaced !== null) hold.update(replaced.lock, replaced.inode);
    return replaced?.inode ?? null;
  }

  /** Both directories, ascending; one record when they are the same. */
  private lockDirs(op: Op, oldIno: number, oldName: Name, newIno: number, newName: Name):
  [Side, Side] {
    const lo = op.lockInode(Math.min(oldIno, newIno), MODE_WRITE);
    const hi = oldIno === newIno ? lo : op.lockInode(Math.max(oldIno, newIno), MODE_WRITE);
    const oldLock = oldIno <= newIno ? lo : hi;
    const newLock = oldIno <= newIno ? hi : lo;
    const oldDir = this.inodes.readDir(oldLock, oldIno);
    const newDir = oldIno === newIno ? oldDir : this.inodes.readDir(newLock, newIno);
    return [
      { lock: oldLock, dir: oldDir, name: oldName },
      { lock: newLock, dir: newDir, name: newName },
    ];
  }

  /** The moved and the replaced inode, ascending. */
  private lockEntries(op: Op, oldDir: number, oldEntry: Entry, newDir: number,
    newEntry: Entry | null): [Linked, Linked | null] {
    const newFirst = newEntry !== null && newEntry.ino < oldEntry.ino;
    const early = newFirst ? op.lockInode(newEntry.ino, MODE_WRITE) : 0;
    const oldLock = op.lockInode(oldEntry.ino, MODE_WRITE);
    const moved = {
      lock: oldLock, inode: this.dirs.linked(oldLock, oldDir, oldEntry), entry: oldEntry,
    };
    if (newEntry === null) return [moved, null];
    const lock = newFirst ? early : op.lockInode(newEntry.ino, MODE_WRITE);
    return [moved, { lock, inode: this.dirs.linked(lock, newDir, newEntry), entry: newEntry }];
  }

  /** @throws EINVAL when moved is above the new directory or replaced above the old */
  private checkAncestors(op: Op, oldDir: number, newDir: number, moved: InodeRec,
    replaced: InodeRec | null): void {
    if (moved.isDir && this.isAbove(op, moved.ino, newDir)) throw errnoError('EINVAL');
    if (replaced !== null && replaced.isDir && replaced.size > 0 &&
        this.isAbove(op, replaced.ino, oldDir)) {
      throw errnoError('EINVAL');
    }
  }

  /** Whether `ino` is `dir` or one of its ancestors. @throws Wait, ELOOP */
  private isAbove(op: Op, ino: number, dir: number): boolean {
    let at = dir;
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      if (at === ino) return true;
      if (at === ROOT_INO) return false;
      const lock = op.lockInode(at, MODE_READ);
      const parent = this.dirs.entries.firstParent(lock, at);
      if (parent === 0) return false;
      at = parent;
    }
    throw errnoError('ELOOP');
  }
}

/** @throws ENOTDIR, EISDIR, ENOTEMPTY, EPERM */
function checkReplace(moved: InodeRec, replaced: InodeRec): void {
  if (moved.isDir && !replaced.isDir) throw errnoError('ENOTDIR');
  if (!moved.isDir && replaced.isDir) throw errnoError('EISDIR');
  if (replaced.isDir && replaced.size > 0) throw errnoError('ENOTEMPTY');
  if (replaced.retained) throw errnoError('EPERM');
}
