/**
 * One inode as the operations work on it: the decoded inode item.
 *
 * There is no cache of inodes in this mount. The item cache is the cache: an
 * operation decodes the item when it has locked the inode and encodes it when it
 * has changed it, both in a single tick, so there is nothing that could be stale.
 * `loadedMetaSeq` and `loadedDataSeq` remember which index items exist for it.
 *
 * Times are kept as seconds and nanoseconds in plain numbers. The two block
 * counters are kept signed, because a damaged counter is carried on modulo 2^64
 * rather than refused. The project id uses all 64 bits and stays in two halves.
 *
 * Layout: format.md 14.1. Version 1 volumes store 160 bytes, version 2 volumes
 * 168 and accept both. Source: inode.md 3.
 */
import {
  INODE_FMT_V1_BYTES, INODE_FMT_V2_BYTES, INO_FLAG_RETENTION, INO_FLAG_TRUNCATE,
} from '../core/constants.js';
import type { BytePos } from '../core/bytepos.js';
import { readPos, setPos } from '../core/bytepos.js';
import { setU64, u64 } from '../core/u64.js';
import type { WallTime } from '../env/clock.js';
import { ScoutfsError } from '../observe/errors.js';

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_IXGRP = 0o010;

const TWO32 = 0x100000000;

/** Marks an index that has no item of this inode. */
export const NO_SEQ = -1;

export class InodeRec {
  ino = 0;
  size: BytePos = 0;
  metaSeq = 0;
  dataSeq = 0;
  dataVersion = 0;
  onlineBlocks = 0;
  offlineBlocks = 0;
  nextReaddirPos = 0;
  nextXattrId = 0;
  version = 0;
  nlink = 0;
  uid = 0;
  gid = 0;
  mode = 0;
  /** (major << 20) | minor */
  rdev = 0;
  flags = 0;
  atimeSec = 0;
  atimeNsec = 0;
  ctimeSec = 0;
  ctimeNsec = 0;
  mtimeSec = 0;
  mtimeNsec = 0;
  crtimeSec = 0;
  crtimeNsec = 0;
  projLo = 0;
  projHi = 0;
  /** The majors under which index items exist; NO_SEQ for a new inode. */
  loadedMetaSeq = NO_SEQ;
  loadedDataSeq = NO_SEQ;

  get isDir(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR;
  }

  get isReg(): boolean {
    return (this.mode & S_IFMT) === S_IFREG;
  }

  get isLnk(): boolean {
    return (this.mode & S_IFMT) === S_IFLNK;
  }

  get retained(): boolean {
    return (this.flags & INO_FLAG_RETENTION) !== 0;
  }

  get truncating(): boolean {
    return (this.flags & INO_FLAG_TRUNCATE) !== 0;
  }

  setCtime(t: WallTime): void {
    this.ctimeSec = t.sec;
    this.ctimeNsec = t.nsec;
  }

  setMtime(t: WallTime): void {
    this.mtimeSec = t.sec;
    this.mtimeNsec = t.nsec;
  }

  setAtime(t: WallTime): void {
    this.atimeSec = t.sec;
    this.atimeNsec = t.nsec;
  }

  setCrtime(t: WallTime): void {
    this.crtimeSec = t.sec;
    this.crtimeNsec = t.nsec;
  }

  /** One namespace or attribute change: mtime too when `contents` changed. */
  touch(t: WallTime, contents: boolean): void {
    this.setCtime(t);
    if (contents) this.setMtime(t);
    this.version += 1;
  }

  /** Drops set-uid, and set-gid of what the group may execute; directories keep both. */
  killSuidgid(): void {
    if (this.isDir) return;
    this.mode &= ~S_ISUID;
    if ((this.mode & S_IXGRP) !== 0) this.mode &= ~S_ISGID;
  }
}

/** Size of inode items that this volume's format writes, in bytes. */
export function inodeItemBytes(formatVersion: number): number {
  return formatVersion >= 2 ? INODE_FMT_V2_BYTES : INODE_FMT_V1_BYTES;
}

/**
 * Decodes an inode item at the start of `v`.
 *
 * @param lenBytes the item's value length
 * @throws EIO for lengths that the format version does not know
 */
export function decodeInode(
  v: DataView, lenBytes: number, formatVersion: number, ino: number, r: InodeRec,
): InodeRec {
  if (lenBytes !== INODE_FMT_V1_BYTES &&
      (lenBytes !== INODE_FMT_V2_BYTES || formatVersion < 2)) {
    throw new ScoutfsError('INODE_ITEM_BYTES', 'EIO', {
      message: `inode ${ino}: its item has ${lenBytes} bytes`,
    });
  }
  r.ino = ino;
  r.size = readPos(v, 0);
  r.metaSeq = u64(v, 8);
  r.dataSeq = u64(v, 16);
  r.dataVersion = u64(v, 24);
  r.onlineBlocks = s64(v, 32);
  r.offlineBlocks = s64(v, 40);
  r.nextReaddirPos = u64(v, 48);
  r.nextXattrId = u64(v, 56);
  r.version = u64(v, 64);
  r.nlink = v.getUint32(72, true);
  r.uid = v.getUint32(76, true);
  r.gid = v.getUint32(80, true);
  r.mode = v.getUint32(84, true);
  r.rdev = v.getUint32(88, true);
  r.flags = v.getUint32(92, true);
  r.atimeSec = s64(v, 96);
  r.atimeNsec = v.getUint32(104, true);
  r.ctimeSec = s64(v, 112);
  r.ctimeNsec = v.getUint32(120, true);
  r.mtimeSec = s64(v, 128);
  r.mtimeNsec = v.getUint32(136, true);
  r.crtimeSec = s64(v, 144);
  r.crtimeNsec = v.getUint32(152, true);
  r.projLo = 0;
  r.projHi = 0;
  if (lenBytes === INODE_FMT_V2_BYTES) {
    r.projLo = v.getUint32(160, true);
    r.projHi = v.getUint32(164, true);
  }
  r.loadedMetaSeq = r.metaSeq;
  r.loadedDataSeq = r.isReg ? r.dataSeq : NO_SEQ;
  return r;
}

/** Encodes the item into the start of `v`. @returns its length in bytes */
export function encodeInode(v: DataView, formatVersion: number, r: InodeRec): number {
  setPos(v, 0, r.size);
  setU64(v, 8, r.metaSeq);
  setU64(v, 16, r.dataSeq);
  setU64(v, 24, r.dataVersion);
  setS64(v, 32, r.onlineBlocks);
  setS64(v, 40, r.offlineBlocks);
  setU64(v, 48, r.nextReaddirPos);
  setU64(v, 56, r.nextXattrId);
  setU64(v, 64, r.version);
  v.setUint32(72, r.nlink, true);
  v.setUint32(76, r.uid, true);
  v.setUint32(80, r.gid, true);
  v.setUint32(84, r.mode, true);
  v.setUint32(88, r.rdev, true);
  v.setUint32(92, r.flags, true);
  setTime(v, 96, r.atimeSec, r.atimeNsec);
  setTime(v, 112, r.ctimeSec, r.ctimeNsec);
  setTime(v, 128, r.mtimeSec, r.mtimeNsec);
  setTime(v, 144, r.crtimeSec, r.crtimeNsec);
  if (formatVersion >= 2) {
    v.setUint32(160, r.projLo, true);
    v.setUint32(164, r.projHi, true);
  }
  return inodeItemBytes(formatVersion);
}

function setTime(v: DataView, o: number, sec: number, nsec: number): void {
  setS64(v, o, sec);
  v.setUint32(o + 8, nsec, true);
  v.setUint32(o + 12, 0, true);
}

function s64(v: DataView, o: number): number {
  return v.getInt32(o + 4, true) * TWO32 + v.getUint32(o, true);
}

function setS64(v: DataView, o: number, n: number): void {
  v.setUint32(o, n >>> 0, true);
  v.setInt32(o + 4, Math.floor(n / TWO32), true);
}
