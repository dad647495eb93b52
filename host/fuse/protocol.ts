/**
 * The kernel's FUSE protocol, version 7.45: numbers, layouts, codecs.
 *
 * Everything is little endian (the byte order of the machines we run on) and
 * naturally aligned. Requests are read in place through the DataView of their
 * slot; replies are composed in place in the device's reply buffer. Nothing is
 * allocated here. Offsets are relative to the structure; a request's structure
 * starts after the 40 byte header, a reply's after the 16 byte header.
 *
 *   request  len u32 │ opcode u32 │ unique u64 │ nodeid u64 │ uid │ gid │ pid │ extlen u16 │ pad
 *   reply    len u32 │ -errno i32 │ unique u64
 *
 * Written from the public protocol description; fuse.md 2 says which parts are used and why.
 */
import type { BytePos } from '../core/bytepos.js';
import { getPos, setPos } from '../core/bytepos.js';
import { ROOT_INO } from '../core/constants.js';
import type { Attr, SetAttr, StatfsOut } from '../fs/vfs.js';
import { SET_SIZE } from '../fs/vfs.js';

export const KERNEL_MAJOR = 7;
export const KERNEL_MINOR = 45;
/** Oldest minor this daemon serves: flags2, SETXATTR_EXT and KILLPRIV_V2 exist. */
export const KERNEL_MINOR_MIN = 36;

export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;

export const OP = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9,
  UNLINK: 10, RMDIR: 11, RENAME: 12, LINK: 13, OPEN: 14, READ: 15, WRITE: 16, STATFS: 17,
  RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22, LISTXATTR: 23, REMOVEXATTR: 24, FLUSH: 25,
  INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, GETLK: 31, SETLK: 32,
  SETLKW: 33, ACCESS: 34, CREATE: 35, INTERRUPT: 36, BMAP: 37, DESTROY: 38, IOCTL: 39, POLL: 40,
  NOTIFY_REPLY: 41, BATCH_FORGET: 42, FALLOCATE: 43, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46,
  COPY_FILE_RANGE: 47, SYNCFS: 50, TMPFILE: 51, STATX: 52, COPY_FILE_RANGE_64: 53,
} as const;
/** One more than the largest opcode. */
export const OP_LIMIT = 54;

/** Names by number, for counters and logs. */
export const OP_NAMES: readonly string[] = (() => {
  const names = Array.from({ length: OP_LIMIT }, (_, i) => `OP${i}`);
  for (const [name, nr] of Object.entries(OP)) names[nr] = name;
  return names;
})();

/** Length of the fixed structure of each opcode's request; names and data follow it. */
export const OP_FIXED_BYTES: readonly number[] = (() => {
  const sizes = new Array<number>(OP_LIMIT).fill(0);
  const put = (bytes: number, ...ops: number[]): void => {
    for (const op of ops) sizes[op] = bytes;
  };
  put(8, OP.FORGET, OP.MKDIR, OP.RENAME, OP.LINK, OP.OPEN, OP.OPENDIR, OP.GETXATTR, OP.LISTXATTR,
    OP.INTERRUPT, OP.BATCH_FORGET, OP.ACCESS, OP.SYNCFS);
  put(16, OP.GETATTR, OP.MKNOD, OP.CREATE, OP.TMPFILE, OP.FSYNC, OP.FSYNCDIR, OP.RENAME2,
    OP.INIT);
  put(24, OP.RELEASE, OP.RELEASEDIR, OP.FLUSH, OP.LSEEK, OP.STATX);
  put(32, OP.FALLOCATE, OP.IOCTL);
  put(40, OP.READ, OP.READDIR, OP.WRITE);
  // 16 with SETXATTR_EXT, which is part of every protocol version served
  put(16, OP.SETXATTR);
  put(88, OP.SETATTR);
  return sizes;
})();

// INIT flags by bit number; 32 and above are bits of the second word.
export const INIT_BIT = {
  ASYNC_READ: 0, EXPORT_SUPPORT: 4, BIG_WRITES: 5, DONT_MASK: 6, IOCTL_DIR: 11,
  PARALLEL_DIROPS: 18, POSIX_ACL: 20, ABORT_ERROR: 21, MAX_PAGES: 22, CACHE_SYMLINKS: 23,
  HANDLE_KILLPRIV_V2: 28, SETXATTR_EXT: 29, INIT_EXT: 30, CREATE_SUPP_GROUP: 34,
  DIRECT_IO_ALLOW_MMAP: 36,
} as const;

export const INIT_OUT_BYTES = 64;
export const ENTRY_OUT_BYTES = 128;
export const ATTR_OUT_BYTES = 104;
export const OPEN_OUT_BYTES = 16;
export const STATFS_OUT_BYTES = 80;
export const STATX_OUT_BYTES = 288;
export const IOCTL_OUT_BYTES = 16;

export const FOPEN_DIRECT_IO = 1;
export const FOPEN_KEEP_CACHE = 2;
export const FOPEN_NOFLUSH = 32;

export const READ_DIRECT = 2;
export const WRITE_CACHE = 1;
export const WRITE_KILL_SUIDGID = 4;
export const FSYNC_DATA = 1;
export const IOCTL_DIR = 16;
export const SETXATTR_ACL_KILL_SGID = 1;
/** Extension of create requests: groups of the caller. */
export const EXT_GROUPS = 32;

// open(2) flags as the kernel sends them on this machine's architectures
export const O_ACCMODE = 3;
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_APPEND = 0o2000;

export const NOTIFY = { INVAL_INODE: 2, STORE: 4, INC_EPOCH: 8, PRUNE: 9 } as const;

const TWO32 = 0x100000000;

/** Reads a u64 as a number; values above 2^53 lose their low bits. */
export function getU64(v: DataView, o: number): number {
  return v.getUint32(o, true) + v.getUint32(o + 4, true) * TWO32;
}

export function putU64(v: DataView, o: number, n: number): void {
  v.setUint32(o, n >>> 0, true);
  v.setUint32(o + 4, Math.floor(n / TWO32), true);
}

/**
 * Node ids are inode numbers with their 32-bit halves swapped; the root's is 1, as the kernel
 * has it, and what would have been the root's belongs to the number that swaps to 1. Together
 * with generation 0 the kernel's own file handles (high half, low half, generation) then begin
 * with the inode number in little endian, as clients of upstream make them by hand.
 * Requests, replies and notifications convert here; everything else knows inode numbers only.
 * Source: ioctl.md 8.
 *
 * @returns the inode number; above 2^53, and inexact, for ids that no inode can have
 */
export function getNodeId(v: DataView, o: number): number {
  const ino = v.getUint32(o, true) * TWO32 + v.getUint32(o + 4, true);
  return ino === TWO32 || ino === ROOT_INO ? TWO32 + ROOT_INO - ino : ino;
}

/** The inverse of `getNodeId`; 0, which names no node, stays 0. */
export function putNodeId(v: DataView, o: number, ino: number): void {
  const swapped = ino === TWO32 || ino === ROOT_INO ? TWO32 + ROOT_INO - ino : ino;
  v.setUint32(o, Math.floor(swapped / TWO32), true);
  v.setUint32(o + 4, swapped >>> 0, true);
}

/** Reads an i64 as a number. */
export function getI64(v: DataView, o: number): number {
  return v.getUint32(o, true) + v.getInt32(o + 4, true) * TWO32;
}

/** Stores a whole number, negative ones in two's complement. */
export function putI64(v: DataView, o: number, n: number): void {
  const hi = Math.floor(n / TWO32);
  v.setUint32(o, (n - hi * TWO32) >>> 0, true);
  v.setInt32(o + 4, hi, true);
}

export function newAttr(): Attr {
  return {
    ino: 0, size: 0, blocks: 0, atimeSec: 0, atimeNsec: 0, mtimeSec: 0, mtimeNsec: 0,
    ctimeSec: 0, ctimeNsec: 0, crtimeSec: 0, crtimeNsec: 0, mode: 0, nlink: 0, uid: 0, gid: 0,
    rdev: 0, blksize: 4096,
  };
}

export function newSetAttr(): SetAttr {
  return {
    valid: 0, fh: 0, size: 0, mode: 0, uid: 0, gid: 0, atimeSec: 0, atimeNsec: 0, mtimeSec: 0,
    mtimeNsec: 0, ctimeSec: 0, ctimeNsec: 0,
  };
}

/** The 88 byte attribute structure. */
export function putAttr(v: DataView, o: number, a: Attr): void {
  putU64(v, o, a.ino);
  setPos(v, o + 8, a.size);
  putU64(v, o + 16, a.blocks);
  putI64(v, o + 24, a.atimeSec);
  putI64(v, o + 32, a.mtimeSec);
  putI64(v, o + 40, a.ctimeSec);
  v.setUint32(o + 48, a.atimeNsec, true);
  v.setUint32(o + 52, a.mtimeNsec, true);
  v.setUint32(o + 56, a.ctimeNsec, true);
  v.setUint32(o + 60, a.mode, true);
  v.setUint32(o + 64, a.nlink, true);
  v.setUint32(o + 68, a.uid, true);
  v.setUint32(o + 72, a.gid, true);
  v.setUint32(o + 76, a.rdev, true);
  v.setUint32(o + 80, a.blksize, true);
  v.setUint32(o + 84, 0, true);
}

/**
 * A name's reply, with generation 0. `entrySec` and `attrSec` are how long the kernel may keep its
 * two halves.
 */
export function putEntryOut(v: DataView, o: number, ino: number, a: Attr, entrySec: number,
  attrSec: number): void {
  putNodeId(v, o, ino);
  putU64(v, o + 8, 0);
  putU64(v, o + 16, entrySec);
  putU64(v, o + 24, attrSec);
  v.setUint32(o + 32, 0, true);
  v.setUint32(o + 36, 0, true);
  putAttr(v, o + 40, a);
}

export function putAttrOut(v: DataView, o: number, a: Attr, attrSec: number): void {
  putU64(v, o, attrSec);
  putU64(v, o + 8, 0);
  putAttr(v, o + 16, a);
}

export function putOpenOut(v: DataView, o: number, fh: number, flags: number): void {
  putU64(v, o, fh);
  v.setUint32(o + 8, flags, true);
  v.setUint32(o + 12, 0, true);
}

const STATX_BASIC_AND_BTIME = 0xfff;

function putStatxTime(v: DataView, o: number, sec: number, nsec: number): void {
  putI64(v, o, sec);
  v.setUint32(o + 8, nsec, true);
  v.setUint32(o + 12, 0, true);
}

export function putStatxOut(v: DataView, o: number, a: Attr, attrSec: number): void {
  putU64(v, o, attrSec);
  for (let i = 8; i < STATX_OUT_BYTES; i += 8) putU64(v, o + i, 0);
  const s = o + 32;
  v.setUint32(s, STATX_BASIC_AND_BTIME, true);
  v.setUint32(s + 4, a.blksize, true);
  v.setUint32(s + 16, a.nlink, true);
  v.setUint32(s + 20, a.uid, true);
  v.setUint32(s + 24, a.gid, true);
  v.setUint16(s + 28, a.mode, true);
  putU64(v, s + 32, a.ino);
  setPos(v, s + 40, a.size);
  putU64(v, s + 48, a.blocks);
  putStatxTime(v, s + 64, a.atimeSec, a.atimeNsec);
  putStatxTime(v, s + 80, a.crtimeSec, a.crtimeNsec);
  putStatxTime(v, s + 96, a.ctimeSec, a.ctimeNsec);
  putStatxTime(v, s + 112, a.mtimeSec, a.mtimeNsec);
  v.setUint32(s + 128, rdevMajor(a.rdev), true);
  v.setUint32(s + 132, rdevMinor(a.rdev), true);
}

/** Major of the kernel's 32 bit device number. */
export function rdevMajor(rdev: number): number {
  return (rdev >>> 8) & 0xfff;
}

/** Minor of the kernel's 32 bit device number. */
export function rdevMinor(rdev: number): number {
  return (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
}

export function getSetAttr(v: DataView, o: number, out: SetAttr): void {
  out.valid = v.getUint32(o, true);
  out.fh = getU64(v, o + 8);
  // not part of the others
  out.size = (out.valid & SET_SIZE) !== 0 ? getPos(v, o + 16) : 0;
  out.atimeSec = getI64(v, o + 32);
  out.mtimeSec = getI64(v, o + 40);
  out.ctimeSec = getI64(v, o + 48);
  out.atimeNsec = v.getUint32(o + 56, true);
  out.mtimeNsec = v.getUint32(o + 60, true);
  out.ctimeNsec = v.getUint32(o + 64, true);
  out.mode = v.getUint32(o + 68, true);
  out.uid = v.getUint32(o + 76, true);
  out.gid = v.getUint32(o + 80, true);
}

export function putStatfsOut(v: DataView, o: number, s: StatfsOut): void {
  for (let i = 0; i < STATFS_OUT_BYTES; i += 8) putU64(v, o + i, 0);
  putU64(v, o, s.blocks);
  putU64(v, o + 8, s.bfree);
  putU64(v, o + 16, s.bavail);
  putU64(v, o + 24, s.files);
  putU64(v, o + 32, s.ffree);
  v.setUint32(o + 40, s.bsize, true);
  v.setUint32(o + 44, s.nameMax, true);
  v.setUint32(o + 48, s.bsize, true);
}

function notification(code: number, bodyBytes: number): { message: Uint8Array; view: DataView } {
  const message = new Uint8Array(OUT_HEADER_BYTES + bodyBytes);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setInt32(4, code, true);
  return { message, view };
}

/**
 * Attributes only when `offset` is -1, else also the pages of the range (to the end: 0).
 * Offsets and lengths of whole pages are exact up to 2^63.
 */
export function invalInodeMessage(ino: number, offset: number, lenBytes: number): Uint8Array {
  const { message, view } = notification(NOTIFY.INVAL_INODE, 24);
  putNodeId(view, 16, ino);
  putI64(view, 24, offset);
  putI64(view, 32, lenBytes);
  return message;
}

export function incEpochMessage(): Uint8Array {
  return notification(NOTIFY.INC_EPOCH, 0).message;
}

export function pruneMessage(inos: readonly number[]): Uint8Array {
  const { message, view } = notification(NOTIFY.PRUNE, 16 + 8 * inos.length);
  view.setUint32(16, inos.length, true);
  inos.forEach((ino, i) => { putNodeId(view, 32 + 8 * i, ino); });
  return message;
}

/** Puts bytes into the page cache, which also raises the kernel's idea of the size. */
export function storeMessage(ino: number, offset: BytePos, data: Uint8Array): Uint8Array {
  const { message, view } = notification(NOTIFY.STORE, 24 + data.length);
  putNodeId(view, 16, ino);
  setPos(view, 24, offset);
  view.setUint32(32, data.length, true);
  message.set(data, 40);
  return message;
}
