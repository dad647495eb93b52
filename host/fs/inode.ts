/**
 * Inodes: reading them, making new ones, and what stat shows of them.
 *
 * Source: inode.md 3, 8, 13. The item itself is in `inode_item.ts`, index items
 * and the transaction in `index_hold.ts`, deletion in `delete.ts`.
 */
import { FS_ZONE, INODE_TYPE, ORPHAN_TYPE, ORPHAN_ZONE } from '../core/constants.js';
import type { LockPtr } from '../core/items.js';
import { ABSENT } from '../core/items.js';
import type { WallTime } from '../env/clock.js';
import type { Op } from '../mount/op.js';
import { errnoError } from '../observe/errors.js';
import type { FsContext } from './context.js';
import { BLOCK_BYTES } from './ext.js';
import { InodeRec, S_IFDIR, S_IFMT, S_ISGID, decodeInode } from './inode_item.js';
import type { Attr } from './vfs.js';

/** First position of a directory entry; 0 and 1 are "." and "..". */
const FIRST_POS = 2;
const SECTORS_PER_BLOCK = 8;

export class Inodes {
  constructor(private readonly cx: FsContext) {}

  /**
   * The inode's item, decoded.
   * @throws Wait; ENOENT when there is none; EIO when it is damaged
   */
  read(lock: LockPtr, ino: number, into: InodeRec = new InodeRec()): InodeRec {
    const { items, formatVersion } = this.cx;
    const len = items.lookup(lock, FS_ZONE, ino, INODE_TYPE, 0, 0, 0);
    if (len === ABSENT) throw errnoError('ENOENT');
    return decodeInode(items.val, len, formatVersion, ino, into);
  }

  /** `read`, for operations that need a directory. @throws ENOTDIR */
  readDir(lock: LockPtr, ino: number): InodeRec {
    const dir = this.read(lock, ino);
    if (!dir.isDir) throw errnoError('ENOTDIR');
    return dir;
  }

  /** Whether the inode item exists. @throws Wait */
  exists(lock: LockPtr, ino: number): boolean {
    return this.cx.items.lookup(lock, FS_ZONE, ino, INODE_TYPE, 0, 0, 0) !== ABSENT;
  }

  /** The look part of creating `ino`: its key becomes known. @throws Wait */
  lookNew(lock: LockPtr, ino: number): void {
    this.cx.items.touch(lock, FS_ZONE, ino, INODE_TYPE, 0, 0, 0);
  }

  /**
   * A new inode in `dir` as a record: owner, group and set-gid inherited, times now.
   * Umask or default ACL are not applied yet (`acl_xattr.ts`). Nothing is stored.
   */
  fresh(dir: InodeRec, ino: number, mode: number, uid: number, gid: number, now: WallTime):
  InodeRec {
    const r = new InodeRec();
    r.ino = ino;
    r.mode = mode;
    r.uid = uid;
    r.gid = gid;
    if ((dir.mode & S_ISGID) !== 0) {
      r.gid = dir.gid;
      if ((mode & S_IFMT) === S_IFDIR) r.mode |= S_ISGID;
    }
    r.nlink = (mode & S_IFMT) === S_IFDIR ? 2 : 1;
    r.nextReaddirPos = FIRST_POS;
    r.version = 1;
    r.projLo = dir.projLo;
    r.projHi = dir.projHi;
    r.setAtime(now);
    r.setMtime(now);
    r.setCtime(now);
    r.setCrtime(now);
    return r;
  }

  /** Stores a new inode. The change part; `hold.will(inode, ...)` was called. */
  create(op: Op, lock: LockPtr, inode: InodeRec): void {
    this.cx.openMap.set(inode.ino);
    this.cx.hold.create(lock, inode);
    op.addInodeCount(1);
  }

  /** Marks an inode whose last link goes away. The change part. */
  createOrphan(orphanLock: LockPtr, lock: LockPtr, ino: number): void {
    this.cx.items.createForce(orphanLock, lock, ORPHAN_ZONE, 0, ORPHAN_TYPE, ino, 0, 0);
  }

  deleteOrphan(orphanLock: LockPtr, lock: LockPtr, ino: number): void {
    this.cx.items.deleteForce(orphanLock, lock, ORPHAN_ZONE, 0, ORPHAN_TYPE, ino, 0, 0);
  }
}

/** Attributes as stat shows them. */
export function fillAttr(r: InodeRec, a: Attr): void {
  a.ino = r.ino;
  a.size = r.size;
  a.blocks = Math.max(0, (r.onlineBlocks + r.offlineBlocks) * SECTORS_PER_BLOCK);
  a.atimeSec = r.atimeSec;
  a.atimeNsec = r.atimeNsec;
  a.mtimeSec = r.mtimeSec;
  a.mtimeNsec = r.mtimeNsec;
  a.ctimeSec = r.ctimeSec;
  a.ctimeNsec = r.ctimeNsec;
  a.crtimeSec = r.crtimeSec;
  a.crtimeNsec = r.crtimeNsec;
  a.mode = r.mode;
  a.nlink = r.nlink;
  a.uid = r.uid;
  a.gid = r.gid;
  a.rdev = rdevToUser(r.rdev);
  a.blksize = BLOCK_BYTES;
}

/** The stored device number, (major << 20) | minor, as system calls have it. */
export function rdevToUser(rdev: number): number {
  const major = rdev >>> 20;
  const minor = rdev & 0xfffff;
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

/** The inverse of `rdevToUser`. */
export function rdevFromUser(dev: number): number {
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  return ((major << 20) | minor) >>> 0;
}
