/**
 * The three items of a directory entry, as directories use them.
 *
 * An entry is found by name (DIRENT), listed by position (READDIR) and found from
 * its inode (LINK_BACKREF); all three hold the same value: inode, hash, position,
 * type and the name. The item cache builds and compares them in one call each.
 * Before a change all three keys have to be known, and for a removal present,
 * because nothing may fail in the middle of a change. Source: dir.md 1, 6.
 */
import {
  DT_BLK, DT_CHR, DT_DIR, DT_FIFO, DT_LNK, DT_REG, DT_SOCK, FS_ZONE,
  LINK_BACKREF_TYPE, NAME_LEN, READDIR_TYPE,
} from '../core/constants.js';
import type { Items, LockPtr } from '../core/items.js';
import { ABSENT } from '../core/items.js';
import { u64 } from '../core/u64.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { Name } from './vfs.js';

/** Bytes of a dirent before its name. */
export const DIRENT_BYTES = 32;
const SLASH = 0x2f;
const DOT = 0x2e;
/** Types of mode bits 12..15, by number. */
const TYPE_OF_MODE: readonly number[] = [
  -1, DT_FIFO, DT_CHR, -1, DT_DIR, -1, DT_BLK, -1, DT_REG, -1, DT_LNK, -1, DT_SOCK];
/** What readdir(3) calls the stored types: FIFO, CHR, DIR, BLK, REG, LNK, SOCK, WHT. */
const READDIR_TYPE_OF: readonly number[] = [1, 2, 4, 6, 8, 10, 12, 14];
const READDIR_UNKNOWN = 0;

/** The stored type of a link to an inode of this mode. @throws EINVAL for no known type */
export function direntType(mode: number): number {
  const type = TYPE_OF_MODE[(mode >>> 12) & 15] ?? -1;
  if (type < 0) throw errnoError('EINVAL');
  return type;
}

export function readdirType(stored: number): number {
  return READDIR_TYPE_OF[stored] ?? READDIR_UNKNOWN;
}

/** @throws ENAMETOOLONG; EINVAL for names that the kernel does not send */
export function checkName(name: Name): void {
  if (name.len > NAME_LEN) throw errnoError('ENAMETOOLONG');
  const { bytes, off, len } = name;
  const dots = bytes[off] === DOT && (len === 1 || (len === 2 && bytes[off + 1] === DOT));
  if (len === 0 || dots) throw errnoError('EINVAL');
  for (let i = off; i < off + len; i++) {
    if (bytes[i] === 0 || bytes[i] === SLASH) throw errnoError('EINVAL');
  }
}

/** An entry as it was found. */
export interface Entry {
  ino: number;
  pos: number;
  type: number;
}

export class Entries {
  constructor(private readonly items: Items) {}

  /** Puts the name where the item cache expects it. @returns its length */
  private put(name: Name): number {
    const { bytes, off, len } = name;
    const to = this.items.nameBytes;
    for (let i = 0; i < len; i++) to[i] = bytes[off + i] ?? 0;
    return len;
  }

  /** Finds the entry of a name. @returns null when there is none  @throws Wait, EIO */
  find(lock: LockPtr, dir: number, name: Name): Entry | null {
    const n = this.items.lookupName(lock, dir, this.put(name));
    if (n === ABSENT) return null;
    const v = this.items.val;
    return { ino: u64(v, 0), pos: u64(v, 16), type: v.getUint8(24) };
  }

  /**
   * The look part of adding a name at `pos`; `known`: a `find` of the name found nothing.
   * @throws Wait
   */
  lookAdd(dirLock: LockPtr, lock: LockPtr, dir: number, ino: number, pos: number, name: Name,
    known: boolean): void {
    if (!known) this.items.touchName(dirLock, dir, this.put(name), pos);
    this.items.touch(dirLock, FS_ZONE, dir, READDIR_TYPE, pos, 0, 0);
    this.items.touch(lock, FS_ZONE, ino, LINK_BACKREF_TYPE, dir, pos, 0);
  }

  add(dirLock: LockPtr, lock: LockPtr, dir: number, ino: number, type: number, pos: number,
    name: Name): void {
    this.items.createEntry(dirLock, lock, dir, ino, type, pos, this.put(name));
  }

  /** The look part of removing a found entry. @throws Wait; EIO when its items do not agree */
  lookRemove(dirLock: LockPtr, lock: LockPtr, dir: number, e: Entry): void {
    if (this.items.lookup(dirLock, FS_ZONE, dir, READDIR_TYPE, e.pos, 0, 0) === ABSENT ||
        this.items.lookup(lock, FS_ZONE, e.ino, LINK_BACKREF_TYPE, dir, e.pos, 0) === ABSENT) {
      throw new ScoutfsError('DIRENT_ITEMS', 'EIO', {
        message: `directory ${dir}: the entry at position ${e.pos} of inode ${e.ino} lacks items`,
      });
    }
  }

  remove(dirLock: LockPtr, lock: LockPtr, dir: number, e: Entry, name: Name): void {
    this.items.deleteEntry(dirLock, lock, dir, e.ino, e.pos, this.put(name));
  }

  /**
   * The directory of the inode's first link at or after (dir, 0).
   * @returns the directory's ino, 0 when there is none  @throws Wait
   */
  firstParent(lock: LockPtr, ino: number, dir = 0): number {
    const n = this.items.next(lock, FS_ZONE, ino, LINK_BACKREF_TYPE, dir, 0, 0,
      Number.MAX_SAFE_INTEGER);
    return n === ABSENT ? 0 : this.items.found.second;
  }

  /**
   * The first listed entry at or after `pos`: left in the value window (inode, hash, position,
   * type, name from byte 32).
   * @returns the length of its name, or ABSENT  @throws Wait; EIO for a damaged entry
   */
  nextListed(lock: LockPtr, dir: number, pos: number): number {
    const n = this.items.next(lock, FS_ZONE, dir, READDIR_TYPE, pos, 0, 0,
      Number.MAX_SAFE_INTEGER);
    if (n === ABSENT) return ABSENT;
    const nameLen = n - DIRENT_BYTES;
    if (nameLen < 1 || nameLen > NAME_LEN ||
        u64(this.items.val, 16) !== this.items.found.second || u64(this.items.val, 0) === 0 ||
        !this.isName(nameLen)) {
      throw new ScoutfsError('DIRENT_ITEM', 'EIO', {
        message: `directory ${dir}: damaged entry at position ${this.items.found.second}`,
      });
    }
    return nameLen;
  }

  /** Whether the name in the value window is one that a caller can use. */
  private isName(nameLen: number): boolean {
    const { val } = this.items;
    for (let o = DIRENT_BYTES; o < DIRENT_BYTES + nameLen; o++) {
      const byte = val.getUint8(o);
      if (byte === 0 || byte === SLASH) return false;
    }
    return true;
  }
}
