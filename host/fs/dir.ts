/**
 * Names: lookup, listing, and every operation that makes or removes a link.
 *
 * Each operation is one function with a look part and a change part (op.ts).
 * Names are resolved under I(dir) and acted upon in the same tick, so what the
 * caller's kernel believed about a name does not matter: whatever the directory
 * says now is what the operation is about.
 *
 * Invariants of every change (dir.md 2): a directory's size is the sum of its
 * name lengths, its nlink 2 plus its subdirectories; positions only grow; an
 * inode has an orphan item exactly while its nlink is 0; all of an operation is
 * in one transaction. Renames between directories are in `rename.ts`.
 *
 * Error order is Linux's: names, then the entry (EEXIST, ENOENT), then types
 * (EISDIR, ENOTDIR), then contents (ENOTEMPTY), then retention and space.
 * Source: dir.md 4 to 8, inode.md 8 and 10.
 */
import {
  FS_ZONE, LINK_MAX, MAX_VAL_SIZE, ROOT_INO, SQ_OP_INODE, SYMLINK_MAX_SIZE, SYMLINK_TYPE,
} from '../core/constants.js';
import { addPos } from '../core/bytepos.js';
import type { LockPtr } from '../core/items.js';
import { ABSENT } from '../core/items.js';
import type { Op } from '../mount/op.js';
import { MODE_READ, MODE_WRITE } from '../mount/op.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { Acls } from './acl_xattr.js';
import type { FsContext } from './context.js';
import { DIRENT_BYTES, Entries, checkName, direntType, readdirType } from './dirent.js';
import type { Entry } from './dirent.js';
import type { Inodes } from './inode.js';
import type { InodeRec } from './inode_item.js';
import { S_IFDIR, S_IFLNK, S_IFMT } from './inode_item.js';
import type { Caller, DirSink, Name } from './vfs.js';

const SYMLINK_MODE = S_IFLNK | 0o777;
/** Positions above this are the end of a directory. */
const POS_LAST = Number.MAX_SAFE_INTEGER;

/** What to make. */
export interface NewInode {
  /** As asked for, with the type. */
  mode: number;
  /** Counts where the directory has no default ACL. */
  umask: number;
  rdev: number;
  /** Symlinks only. */
  target?: Name;
}

export class Dirs {
  readonly entries: Entries;

  constructor(
    private readonly cx: FsContext, private readonly inodes: Inodes,
    private readonly acls: Acls,
  ) {
    this.entries = new Entries(cx.items);
  }

  /**
   * Resolves a name. @returns the inode's record and I(ino), or null when there is none
   * @throws Wait, ENAMETOOLONG, ENOENT, ENOTDIR
   */
  lookup(op: Op, dir: number, name: Name): InodeRec | null {
    checkName(name);
    const dirLock = op.lockInode(dir, MODE_READ);
    const entry = this.entries.find(dirLock, dir, name);
    if (entry === null) {
      this.inodes.readDir(dirLock, dir);
      return null;
    }
    const lock = op.lockInode(entry.ino, MODE_READ);
    const inode = this.inodes.read(lock, entry.ino);
    this.cx.openMap.set(entry.ino);
    return inode;
  }

  /**
   * An inode from a file handle. Without links it is refused even while it is open: another
   * mount may be deleting it. (inode.md 5, export.md 2)
   * @throws Wait, ENOENT
   */
  byNumber(op: Op, ino: number): InodeRec {
    const inode = this.inodes.read(op.lockInode(ino, MODE_READ), ino);
    if (inode.nlink === 0) throw errnoError('ENOENT');
    this.cx.openMap.set(ino);
    return inode;
  }

  /** The parent of a directory; the root is its own. @throws Wait, ENOENT */
  parentOf(op: Op, dir: number): number {
    if (dir === ROOT_INO) return ROOT_INO;
    const lock = op.lockInode(dir, MODE_READ);
    const parent = this.entries.firstParent(lock, dir);
    if (parent === 0) throw errnoError('ENOENT');
    return parent;
  }

  /** Offers the entries from position `pos` on. @throws Wait, EIO */
  readdir(op: Op, dir: number, pos: number, sink: DirSink): void {
    const lock = op.lockInode(dir, MODE_READ);
    const { val, valBytes } = this.cx.items;
    while (pos < POS_LAST) {
      const nameLen = this.entries.nextListed(lock, dir, pos);
      if (nameLen === ABSENT) return;
      const at = this.cx.items.found.second;
      const ino = val.getUint32(0, true) + val.getUint32(4, true) * 0x100000000;
      const type = readdirType(val.getUint8(24));
      if (!sink.add(ino, at, type, valBytes, DIRENT_BYTES, nameLen)) return;
      pos = at + 1;
    }
  }

  /** mknod, create, mkdir, symlink. @throws Wait, EEXIST, ENAMETOOLONG, EDQUOT, ENOSPC */
  make(op: Op, caller: Caller, dirIno: number, name: Name, what: NewInode): InodeRec {
    checkName(name);
    const isDir = (what.mode & S_IFMT) === S_IFDIR;
    const type = direntType(what.mode);
    const dirLock = op.lockInode(dirIno, MODE_WRITE);
    const dir = this.liveDir(dirLock, dirIno);
    if (this.entries.find(dirLock, dirIno, name) !== null) throw errnoError('EEXIST');
    const targetLen = what.target?.len ?? 0;
    if (targetLen + 1 > SYMLINK_MAX_SIZE) throw errnoError('ENAMETOOLONG');
    const ino = op.allocIno(isDir);
    const lock = op.lockInode(ino, MODE_WRITE);
    const pos = dir.nextReaddirPos;
    this.inodes.lookNew(lock, ino);
    this.entries.lookAdd(dirLock, lock, dirIno, ino, pos, name, true);
    if (what.target !== undefined) this.lookTarget(lock, ino, targetLen + 1);

    const now = this.cx.clock.now();
    const inode = this.inodes.fresh(dir, ino, what.mode, caller.uid, caller.gid, now);
    inode.rdev = what.rdev;
    this.cx.quotas.check(op, SQ_OP_INODE, inode);
    const acls = inode.isLnk ? [] : this.acls.inherit(dirLock, dir, lock, inode, what.umask);
    const { hold } = this.cx;
    hold.begin(op);
    hold.will(inode, true);
    hold.will(dir, false);
    hold.hold(op, true);

    if (what.target !== undefined) {
      inode.size = targetLen + 1;
      this.createTarget(lock, ino, what.target);
    }
    this.inodes.create(op, lock, inode);
    this.acls.store(lock, acls);
    this.entries.add(dirLock, lock, dirIno, ino, type, pos, name);
    dir.nextReaddirPos = pos + 1;
    dir.size = addPos(dir.size, name.len);
    if (isDir) dir.nlink += 1;
    dir.touch(now, true);
    hold.update(dirLock, dir);
    return inode;
  }

  /** An inode without a name. @throws Wait, EDQUOT, ENOSPC */
  tmpfile(op: Op, caller: Caller, dirIno: number, mode: number, umask: number): InodeRec {
    const dirLock = op.lockInode(dirIno, MODE_WRITE);
    const dir = this.liveDir(dirLock, dirIno);
    const ino = op.allocIno(false);
    const lock = op.lockInode(ino, MODE_WRITE);
    this.inodes.lookNew(lock, ino);
    const now = this.cx.clock.now();
    const inode = this.inodes.fresh(dir, ino, mode, caller.uid, caller.gid, now);
    this.cx.quotas.check(op, SQ_OP_INODE, inode);
    const orphanLock = op.lockOrphan();
    inode.nlink = 0;
    const acls = this.acls.inherit(dirLock, dir, lock, inode, umask);
    const { hold } = this.cx;
    hold.begin(op);
    hold.will(inode, true);
    hold.will(dir, false);
    hold.hold(op, true);

    this.inodes.create(op, lock, inode);
    this.acls.store(lock, acls);
    this.inodes.createOrphan(orphanLock, lock, ino);
    hold.update(dirLock, dir);
    return inode;
  }

  /** @throws Wait, EPERM for directories, EEXIST, EMLINK */
  link(op: Op, ino: number, dirIno: number, name: Name): InodeRec {
    checkName(name);
    const dirFirst = dirIno <= ino;
    const firstLock = op.lockInode(dirFirst ? dirIno : ino, MODE_WRITE);
    const secondLock = op.lockInode(dirFirst ? ino : dirIno, MODE_WRITE);
    const dirLock = dirFirst ? firstLock : secondLock;
    const lock = dirFirst ? secondLock : firstLock;
    const dir = this.liveDir(dirLock, dirIno);
    const inode = this.inodes.read(lock, ino);
    if (inode.isDir) throw errnoError('EPERM');
    if (this.entries.find(dirLock, dirIno, name) !== null) throw errnoError('EEXIST');
    if (inode.nlink >= LINK_MAX) throw errnoError('EMLINK');
    const pos = dir.nextReaddirPos;
    this.entries.lookAdd(dirLock, lock, dirIno, ino, pos, name, true);
    const orphanLock = inode.nlink === 0 ? op.lockOrphan() : 0;
    const { hold } = this.cx;
    hold.begin(op);
    hold.will(inode, false);
    hold.will(dir, false);
    hold.hold(op, true);

    if (inode.nlink === 0) this.inodes.deleteOrphan(orphanLock, lock, ino);
    this.entries.add(dirLock, lock, dirIno, ino, direntType(inode.mode), pos, name);
    const now = this.cx.clock.now();
    inode.nlink += 1;
    inode.touch(now, false);
    dir.nextReaddirPos = pos + 1;
    dir.size = addPos(dir.size, name.len);
    dir.touch(now, true);
    hold.update(lock, inode);
    hold.update(dirLock, dir);
    return inode;
  }

  /**
   * unlink and rmdir. @returns the inode, whose nlink may now be 0
   * @throws Wait, ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EPERM
   */
  unlink(op: Op, dirIno: number, name: Name, rmdir: boolean): InodeRec {
    checkName(name);
    const dirLock = op.lockInode(dirIno, MODE_WRITE);
    const dir = this.inodes.readDir(dirLock, dirIno);
    const entry = this.entries.find(dirLock, dirIno, name);
    if (entry === null) throw errnoError('ENOENT');
    const lock = op.lockInode(entry.ino, MODE_WRITE);
    const inode = this.linked(lock, dirIno, entry);
    if (rmdir && !inode.isDir) throw errnoError('ENOTDIR');
    if (!rmdir && inode.isDir) throw errnoError('EISDIR');
    if (inode.isDir && inode.size > 0) throw errnoError('ENOTEMPTY');
    if (inode.retained) throw errnoError('EPERM');
    this.entries.lookRemove(dirLock, lock, dirIno, entry);
    const last = isLastLink(inode);
    const orphanLock = last ? op.lockOrphan() : 0;
    const { hold } = this.cx;
    hold.begin(op);
    hold.will(inode, false);
    hold.will(dir, false);
    hold.hold(op, false);

    if (last) this.inodes.createOrphan(orphanLock, lock, inode.ino);
    this.entries.remove(dirLock, lock, dirIno, entry, name);
    const now = this.cx.clock.now();
    dropLink(inode);
    inode.touch(now, false);
    dir.size = addPos(dir.size, -name.len);
    if (inode.isDir) dir.nlink -= 1;
    dir.touch(now, true);
    hold.update(lock, inode);
    hold.update(dirLock, dir);
    return inode;
  }

  /** The target's bytes without the NUL. @throws Wait, EINVAL, EIO */
  readlink(op: Op, ino: number): Uint8Array {
    const lock = op.lockInode(ino, MODE_READ);
    const inode = this.inodes.read(lock, ino);
    if (!inode.isLnk) throw errnoError('EINVAL');
    const { size } = inode;
    if (typeof size !== 'number' || size === 0 || size > SYMLINK_MAX_SIZE) throw damagedLink(ino);
    const { items } = this.cx;
    const out = new Uint8Array(size);
    for (let nr = 0, at = 0; at < size; nr++, at += MAX_VAL_SIZE) {
      const want = Math.min(size - at, MAX_VAL_SIZE);
      if (items.lookup(lock, FS_ZONE, ino, SYMLINK_TYPE, nr, 0, 0) !== want) {
        throw damagedLink(ino);
      }
      out.set(items.valBytes.subarray(0, want), at);
    }
    if (out[size - 1] !== 0) throw damagedLink(ino);
    return out.subarray(0, size - 1);
  }

  /** A directory that still has a name. @throws Wait, ENOTDIR, ENOENT */
  liveDir(lock: LockPtr, ino: number): InodeRec {
    const dir = this.inodes.readDir(lock, ino);
    if (dir.nlink === 0) throw errnoError('ENOENT');
    return dir;
  }

  /** The inode of an entry. @throws Wait; EIO when the entry leads nowhere */
  linked(lock: LockPtr, dir: number, entry: Entry): InodeRec {
    if (!this.inodes.exists(lock, entry.ino)) {
      throw new ScoutfsError('DIRENT_INO', 'EIO', {
        message: `directory ${dir}: the entry at position ${entry.pos} names inode ${entry.ino}, ` +
          'which does not exist',
      });
    }
    return this.inodes.read(lock, entry.ino);
  }

  private lookTarget(lock: LockPtr, ino: number, size: number): void {
    for (let nr = 0; nr * MAX_VAL_SIZE < size; nr++) {
      this.cx.items.touch(lock, FS_ZONE, ino, SYMLINK_TYPE, nr, 0, 0);
    }
  }

  private createTarget(lock: LockPtr, ino: number, target: Name): void {
    const { items } = this.cx;
    const size = target.len + 1;
    for (let nr = 0, at = 0; at < size; nr++, at += MAX_VAL_SIZE) {
      const n = Math.min(size - at, MAX_VAL_SIZE);
      for (let i = 0; i < n; i++) {
        items.valBytes[i] = at + i < target.len ? target.bytes[target.off + at + i] ?? 0 : 0;
      }
      items.create(lock, FS_ZONE, ino, SYMLINK_TYPE, nr, 0, 0, n);
    }
  }
}

/** Creation data of a symlink. */
export function newSymlink(target: Name): NewInode {
  return { mode: SYMLINK_MODE, umask: 0, rdev: 0, target };
}

/** Whether removing one link leaves none: a directory's own "." counts as one. */
export function isLastLink(inode: InodeRec): boolean {
  return inode.nlink <= (inode.isDir ? 2 : 1);
}

/** Takes one link away; a directory loses its "." with it. */
export function dropLink(inode: InodeRec): void {
  inode.nlink = Math.max(0, inode.nlink - (inode.isDir ? 2 : 1));
}

function damagedLink(ino: number): ScoutfsError {
  return new ScoutfsError('SYMLINK_ITEMS', 'EIO', {
    message: `inode ${ino}: damaged symbolic link`,
  });
}
