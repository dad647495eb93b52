/**
 * Linux's system calls as they are, for tests.
 *
 * Node hides too much of them: flags, errnos, nanoseconds, whole calls. Here each is one
 * function of the C library, called in the calling thread, which answers its result or the
 * name of its errno ("EEXIST"), so that a test can compare both with `equal`. Paths are
 * strings or bytes. Only for mounts that another process serves: every call may block.
 *
 * `as` runs a function with the identity of another user. Linux keeps identities per thread,
 * and the raw calls change only the main thread's, which is the one that makes our calls;
 * the saved user id stays root, so the way back is open.
 */
import { constants } from 'node:os';
import koffi from 'koffi';

/** The result, or the errno's name. */
export type Res = number | string;
export type Path = string | Uint8Array;

const libc = koffi.load('libc.so.6');
const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;

/** open(2) flags of Linux on x86-64 and arm64, where these agree or are looked up. */
const arm = process.arch === 'arm64';
export const O = {
  RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, EXCL: 0o200, NOCTTY: 0o400, TRUNC: 0o1000,
  APPEND: 0o2000, NONBLOCK: 0o4000, DSYNC: 0o10000, SYNC: 0o4010000,
  DIRECT: arm ? 0o200000 : 0o40000, DIRECTORY: arm ? 0o40000 : 0o200000,
  NOFOLLOW: arm ? 0o100000 : 0o400000, NOATIME: 0o1000000, CLOEXEC: 0o2000000,
  PATH: 0o10000000, TMPFILE: 0o20000000 | (arm ? 0o40000 : 0o200000),
} as const;
export const S = {
  IFMT: 0o170000, IFIFO: 0o010000, IFCHR: 0o020000, IFDIR: 0o040000, IFBLK: 0o060000,
  IFREG: 0o100000, IFLNK: 0o120000, IFSOCK: 0o140000,
} as const;
export const SEEK = { SET: 0, CUR: 1, END: 2, DATA: 3, HOLE: 4 } as const;
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;
export const PROT = { READ: 1, WRITE: 2 } as const;
export const MAP = { SHARED: 1, PRIVATE: 2 } as const;
export const MS = { ASYNC: 1, SYNC: 4 } as const;

const NAMES = new Map<number, string>(Object.entries(constants.errno)
  .map(([name, nr]): [number, string] => [nr, name]));
NAMES.set(constants.errno.EAGAIN, 'EAGAIN');
NAMES.set(constants.errno.EOPNOTSUPP, 'EOPNOTSUPP');

type Func = (...args: unknown[]) => unknown;

function fn(declaration: string): Func {
  return libc.func(declaration);
}

const P = 'const uint8_t *';
const f = {
  open: fn(`int open(${P} path, int flags, uint32_t mode)`),
  openat: fn(`int openat(int dir, ${P} path, int flags, uint32_t mode)`),
  close: fn('int close(int fd)'),
  mkdirat: fn(`int mkdirat(int dir, ${P} path, uint32_t mode)`),
  mknodat: fn(`int mknodat(int dir, ${P} path, uint32_t mode, uint64_t dev)`),
  symlinkat: fn(`int symlinkat(${P} target, int dir, ${P} path)`),
  linkat: fn(`int linkat(int oldDir, ${P} old, int newDir, ${P} path, int flags)`),
  unlinkat: fn(`int unlinkat(int dir, ${P} path, int flags)`),
  renameat2: fn(`int renameat2(int oldDir, ${P} old, int newDir, ${P} path, uint32_t flags)`),
  readlink: fn(`long readlink(${P} path, _Out_ uint8_t *buf, size_t size)`),
  getcwd: fn('void *getcwd(_Out_ uint8_t *buf, size_t n)'),
  chmod: fn(`int chmod(${P} path, uint32_t mode)`),
  fchmod: fn('int fchmod(int fd, uint32_t mode)'),
  fchownat: fn(`int fchownat(int dir, ${P} path, uint32_t uid, uint32_t gid, int flags)`),
  fchown: fn('int fchown(int fd, uint32_t uid, uint32_t gid)'),
  truncate: fn(`int truncate(${P} path, int64_t length)`),
  ftruncate: fn('int ftruncate(int fd, int64_t length)'),
  utimensat: fn(`int utimensat(int dir, ${P} path, const int64_t *times, int flags)`),
  futimens: fn('int futimens(int fd, const int64_t *times)'),
  statx: fn(`int statx(int dir, ${P} path, int flags, uint32_t mask, _Out_ uint8_t *buf)`),
  faccessat: fn(`int faccessat(int dir, ${P} path, int mode, int flags)`),
  read: fn('long read(int fd, _Out_ uint8_t *buf, size_t n)'),
  pread: fn('long pread64(int fd, _Out_ uint8_t *buf, size_t n, int64_t offset)'),
  write: fn(`long write(int fd, ${P} buf, size_t n)`),
  pwrite: fn(`long pwrite64(int fd, ${P} buf, size_t n, int64_t offset)`),
  preadTo: fn('long pread64(int fd, intptr_t to, size_t n, int64_t offset)'),
  pwriteFrom: fn('long pwrite64(int fd, intptr_t from, size_t n, int64_t offset)'),
  lseek: fn('int64_t lseek64(int fd, int64_t offset, int whence)'),
  fallocate: fn('int fallocate64(int fd, int mode, int64_t offset, int64_t length)'),
  fsync: fn('int fsync(int fd)'),
  fdatasync: fn('int fdatasync(int fd)'),
  syncfs: fn('int syncfs(int fd)'),
  copyRange: fn('long copy_file_range(int from, _Inout_ int64_t *fromOff, int to, ' +
    '_Inout_ int64_t *toOff, size_t n, uint32_t flags)'),
  sendfile: fn('long sendfile64(int to, int from, _Inout_ int64_t *offset, size_t n)'),
  mmap: fn('intptr_t mmap64(void *at, size_t n, int prot, int flags, int fd, int64_t offset)'),
  munmap: fn('int munmap(intptr_t at, size_t n)'),
  msync: fn('int msync(intptr_t at, size_t n, int flags)'),
  peek: fn('void *memcpy(_Out_ uint8_t *to, intptr_t from, size_t n)'),
  poke: fn(`void *memcpy(intptr_t to, ${P} from, size_t n)`),
  flock: fn('int flock(int fd, int how)'),
  fcntl: fn('int fcntl64(int fd, int cmd, long arg)'),
  fcntlLock: fn('int fcntl64(int fd, int cmd, _Inout_ uint8_t *lock)'),
  ioctl: fn('int ioctl(int fd, unsigned long cmd, _Inout_ uint8_t *arg)'),
  statfs: fn(`int statfs(${P} path, _Out_ uint8_t *buf)`),
  getdents: fn('long syscall(long nr, int fd, _Out_ uint8_t *buf, size_t n)'),
  setxattr: fn(`int lsetxattr(${P} path, ${P} name, ${P} value, size_t n, int flags)`),
  getxattr: fn(`long lgetxattr(${P} path, ${P} name, _Out_ uint8_t *value, size_t n)`),
  listxattr: fn(`long llistxattr(${P} path, _Out_ uint8_t *list, size_t n)`),
  removexattr: fn(`int lremovexattr(${P} path, ${P} name)`),
  syscall3: fn('long syscall(long nr, long a, long b, long c)'),
  setgroups: fn('long syscall(long nr, long n, const uint32_t *groups)'),
};

function run(func: Func, ...args: unknown[]): Res {
  const r: unknown = func(...args);
  const n = typeof r === 'bigint' ? Number(r) : r as number;
  return n >= 0 ? n : errnoName();
}

/** The name of the last call's errno. */
function errnoName(): string {
  const nr = koffi.errno();
  return NAMES.get(nr) ?? `errno ${nr}`;
}

/** With the NUL that ends it. */
function z(path: Path): Uint8Array {
  const bytes = typeof path === 'string' ? Buffer.from(path) : path;
  const out = Buffer.allocUnsafe(bytes.length + 1);
  out.set(bytes);
  out[bytes.length] = 0;
  return out;
}

/** A result that must not be an errno. */
export function ok(r: Res, what = 'system call'): number {
  if (typeof r === 'string') throw new Error(`${what}: ${r}`);
  return r;
}

// --- names ----------------------------------------------------------------------

export function open(path: Path, flags: number, mode = 0o666): Res {
  return run(f.open, z(path), flags, mode);
}

export function openat(dir: number, path: Path, flags: number, mode = 0o666): Res {
  return run(f.openat, dir, z(path), flags, mode);
}

export function close(fd: Res): Res {
  return typeof fd === 'string' ? fd : run(f.close, fd);
}

/** open and close: 0 or the errno of open. */
export function touch(path: Path, flags: number, mode = 0o666): Res {
  const fd = open(path, flags, mode);
  return typeof fd === 'string' ? fd : close(fd);
}

export function creat(path: Path, mode = 0o644): Res {
  return touch(path, O.CREAT | O.WRONLY | O.TRUNC, mode);
}

export function mkdir(path: Path, mode = 0o755): Res {
  return run(f.mkdirat, AT_FDCWD, z(path), mode);
}

/** The device number as makedev makes it. */
export function mknod(path: Path, mode: number, major = 0, minor = 0): Res {
  const dev = (BigInt(major) & 0xfffn) << 8n | BigInt(minor) & 0xffn |
    (BigInt(minor) & ~0xffn) << 12n | (BigInt(major) & ~0xfffn) << 32n;
  return run(f.mknodat, AT_FDCWD, z(path), mode, dev);
}

export function symlink(target: Path, path: Path): Res {
  return run(f.symlinkat, z(target), AT_FDCWD, z(path));
}

export function link(old: Path, path: Path): Res {
  return run(f.linkat, AT_FDCWD, z(old), AT_FDCWD, z(path), 0);
}

export function linkat(oldDir: number, old: Path, newDir: number, path: Path, flags: number):
Res {
  return run(f.linkat, oldDir, z(old), newDir, z(path), flags);
}

export function unlink(path: Path): Res {
  return run(f.unlinkat, AT_FDCWD, z(path), 0);
}

export function unlinkat(dir: number, path: Path, flags: number): Res {
  return run(f.unlinkat, dir, z(path), flags);
}

export function rmdir(path: Path): Res {
  return run(f.unlinkat, AT_FDCWD, z(path), AT_REMOVEDIR);
}

export const RENAME = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

export function rename(old: Path, path: Path, flags = 0): Res {
  return run(f.renameat2, AT_FDCWD, z(old), AT_FDCWD, z(path), flags);
}

/** The target, or the errno. A target that is an errno's name is not expected of tests. */
export function readlink(path: Path): string {
  const buf = Buffer.alloc(8192);
  const n = run(f.readlink, z(path), buf, buf.length);
  return typeof n === 'string' ? n : buf.toString('latin1', 0, n);
}

/** The working directory, or the errno. */
export function getcwd(): string {
  const buf = Buffer.alloc(8192);
  return f.getcwd(buf, buf.length) === null ? errnoName() :
    buf.toString('latin1', 0, buf.indexOf(0));
}

// --- attributes -----------------------------------------------------------------

export function chmod(path: Path, mode: number): Res {
  return run(f.chmod, z(path), mode);
}

export function fchmod(fd: number, mode: number): Res {
  return run(f.fchmod, fd, mode);
}

/** -1 leaves an id as it is. */
export function chown(path: Path, uid: number, gid: number): Res {
  return run(f.fchownat, AT_FDCWD, z(path), uid >>> 0, gid >>> 0, 0);
}

export function lchown(path: Path, uid: number, gid: number): Res {
  return run(f.fchownat, AT_FDCWD, z(path), uid >>> 0, gid >>> 0, AT_SYMLINK_NOFOLLOW);
}

export function fchown(fd: number, uid: number, gid: number): Res {
  return run(f.fchown, fd, uid >>> 0, gid >>> 0);
}

export function truncate(path: Path, length: number | bigint): Res {
  return run(f.truncate, z(path), length);
}

export function ftruncate(fd: number, length: number | bigint): Res {
  return run(f.ftruncate, fd, length);
}

/** Seconds and nanoseconds of one time. */
export type Time = readonly [sec: number, nsec: number];
export const NOW: Time = [0, UTIME_NOW];
export const OMIT: Time = [0, UTIME_OMIT];

function timesOf(times: readonly [Time, Time] | null): BigInt64Array | null {
  return times === null ? null : new BigInt64Array(times.flat().map((n) => BigInt(n)));
}

/** atime and mtime; null for both now. */
export function utimens(path: Path, times: readonly [Time, Time] | null, flags = 0): Res {
  return run(f.utimensat, AT_FDCWD, z(path), timesOf(times), flags);
}

export function futimens(fd: number, times: readonly [Time, Time] | null): Res {
  return run(f.futimens, fd, timesOf(times));
}

export interface Stat {
  /** With the type. */
  mode: number;
  perm: number;
  type: number;
  nlink: number;
  uid: number;
  gid: number;
  ino: number;
  size: bigint;
  blocks: number;
  blksize: number;
  rdev: [major: number, minor: number];
  /** Nanoseconds since 1970. */
  atime: bigint;
  mtime: bigint;
  ctime: bigint;
  btime: bigint;
  mask: number;
}

const statBuf = Buffer.alloc(256);
const STATX_ALL = 0xfff;

function timeAt(o: number): bigint {
  return statBuf.readBigInt64LE(o) * 1_000_000_000n + BigInt(statBuf.readUInt32LE(o + 8));
}

function statxOf(dir: number, path: Path, flags: number): Stat | string {
  const r = run(f.statx, dir, z(path), flags, STATX_ALL, statBuf);
  if (typeof r === 'string') return r;
  const b = statBuf;
  const mode = b.readUInt16LE(28);
  return {
    mode, perm: mode & 0o7777, type: mode & S.IFMT, mask: b.readUInt32LE(0),
    blksize: b.readUInt32LE(4), nlink: b.readUInt32LE(16), uid: b.readUInt32LE(20),
    gid: b.readUInt32LE(24), ino: Number(b.readBigUInt64LE(32)), size: b.readBigUInt64LE(40),
    blocks: Number(b.readBigUInt64LE(48)), atime: timeAt(64), btime: timeAt(80),
    ctime: timeAt(96), mtime: timeAt(112), rdev: [b.readUInt32LE(128), b.readUInt32LE(132)],
  };
}

function must(s: Stat | string, what: Path | number): Stat {
  if (typeof s === 'string') throw new Error(`statx ${String(what)}: ${s}`);
  return s;
}

/** statx without following a link. @throws with the errno's name */
export function lstat(path: Path): Stat {
  return must(statxOf(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW), path);
}

export function fstat(fd: number): Stat {
  return must(statxOf(fd, '', AT_EMPTY_PATH), fd);
}

/** The errno of stat(2), or 0. */
export function statErr(path: Path): Res {
  const s = statxOf(AT_FDCWD, path, 0);
  return typeof s === 'string' ? s : 0;
}

/** The errno of lstat(2), or 0. */
export function lstatErr(path: Path): Res {
  const s = statxOf(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
  return typeof s === 'string' ? s : 0;
}

export const ACCESS = { F: 0, X: 1, W: 2, R: 4 } as const;

export function access(path: Path, mode: number): Res {
  return run(f.faccessat, AT_FDCWD, z(path), mode, 0);
}

// --- data -----------------------------------------------------------------------

export function read(fd: number, buf: Uint8Array, n = buf.length): Res {
  return run(f.read, fd, buf, n);
}

export function pread(fd: number, buf: Uint8Array, n: number, offset: number | bigint): Res {
  return run(f.pread, fd, buf, n, offset);
}

export function write(fd: number, data: string | Uint8Array): Res {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  return run(f.write, fd, bytes, bytes.length);
}

export function pwrite(fd: number, data: string | Uint8Array, offset: number | bigint): Res {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  return run(f.pwrite, fd, bytes, bytes.length, offset);
}

/** The offset, exact beyond 2^53, or the errno's name. */
export function lseek(fd: number, offset: number | bigint, whence: number): bigint | string {
  const r: unknown = f.lseek(fd, offset, whence);
  const n = BigInt(r as number | bigint);
  return n < 0n ? errnoName() : n;
}

export function fallocate(fd: number, mode: number, offset: number | bigint,
  length: number | bigint): Res {
  return run(f.fallocate, fd, mode, offset, length);
}

export function fsync(fd: number): Res {
  return run(f.fsync, fd);
}

export function fdatasync(fd: number): Res {
  return run(f.fdatasync, fd);
}

export function syncfs(fd: number): Res {
  return run(f.syncfs, fd);
}

export function copyRange(from: number, fromOff: number | bigint, to: number,
  toOff: number | bigint, n: number, flags = 0): Res {
  return run(f.copyRange, from, new BigInt64Array([BigInt(fromOff)]), to,
    new BigInt64Array([BigInt(toOff)]), n, flags);
}

export function sendfile(to: number, from: number, offset: number, n: number): Res {
  return run(f.sendfile, to, from, new BigInt64Array([BigInt(offset)]), n);
}

/** The address, or the errno's name. */
export function mmap(fd: number, n: number, prot: number, flags: number,
  offset: number | bigint = 0): bigint | string {
  const r = BigInt(f.mmap(null, n, prot, flags, fd, offset) as number | bigint);
  return r === -1n ? errnoName() : r;
}

export function munmap(at: bigint, n: number): Res {
  return run(f.munmap, at, n);
}

export function msync(at: bigint, n: number, flags: number): Res {
  return run(f.msync, at, n, flags);
}

/** Reads mapped memory. */
export function peek(at: bigint, n: number): Buffer {
  const out = Buffer.allocUnsafe(n);
  f.peek(out, at, n);
  return out;
}

/** Writes mapped memory. */
export function poke(at: bigint, data: string | Uint8Array): void {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  f.poke(at, bytes, bytes.length);
}

/** Reads into mapped memory. */
export function preadTo(fd: number, at: bigint, n: number, offset: number): Res {
  return run(f.preadTo, fd, at, n, offset);
}

/** Writes from mapped memory. */
export function pwriteFrom(fd: number, at: bigint, n: number, offset: number): Res {
  return run(f.pwriteFrom, fd, at, n, offset);
}

// --- locks, control, listing ------------------------------------------------------

export const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const;

export function flock(fd: number, how: number): Res {
  return run(f.flock, fd, how);
}

export const F = {
  GETFL: 3, SETFL: 4, GETLK: 5, SETLK: 6, OFD_GETLK: 36, OFD_SETLK: 37, SETLEASE: 1024,
  GETLEASE: 1025, RDLCK: 0, WRLCK: 1, UNLCK: 2,
} as const;

export function fcntl(fd: number, cmd: number, arg = 0): Res {
  return run(f.fcntl, fd, cmd, arg);
}

/** fcntl with a byte range; GETLK answers the type that is in the way. */
export function lockRange(fd: number, cmd: number, type: number, start: number, len: number): Res {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(start), 8);
  lock.writeBigInt64LE(BigInt(len), 16);
  const r = run(f.fcntlLock, fd, cmd, lock);
  return r === 0 && (cmd === F.GETLK || cmd === F.OFD_GETLK) ? lock.readInt16LE(0) : r;
}

export function ioctl(fd: number, cmd: number, arg: Uint8Array): Res {
  return run(f.ioctl, fd, cmd, arg);
}

export interface Statfs {
  bsize: number;
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  namelen: number;
  frsize: number;
}

export function statfs(path: Path): Statfs {
  const b = Buffer.alloc(256);
  ok(run(f.statfs, z(path), b), 'statfs');
  const at = (o: number): number => Number(b.readBigInt64LE(o));
  return {
    bsize: at(8), blocks: at(16), bfree: at(24), bavail: at(32), files: at(40), ffree: at(48),
    namelen: at(64), frsize: at(72),
  };
}

/** One entry of a listing. */
export interface Dirent {
  ino: number;
  off: bigint;
  type: number;
  name: string;
}

const SYS = arm ? { getdents64: 61, setresuid: 147, setresgid: 149, setgroups: 159 } :
  { getdents64: 217, setresuid: 117, setresgid: 119, setgroups: 116 };

/** What one getdents64 gives, or its errno's name. */
export function getdents(fd: number, bufBytes = 32768): Dirent[] | string {
  const buf = Buffer.alloc(bufBytes);
  const n = run(f.getdents, SYS.getdents64, fd, buf, bufBytes);
  if (typeof n === 'string') return n;
  const out: Dirent[] = [];
  for (let at = 0; at < n; at += buf.readUInt16LE(at + 16)) {
    const end = buf.indexOf(0, at + 19);
    out.push({
      ino: Number(buf.readBigUInt64LE(at)), off: buf.readBigInt64LE(at + 8),
      type: buf.readUInt8(at + 18), name: buf.toString('latin1', at + 19, end),
    });
  }
  return out;
}

/** The whole rest of a listing. */
export function listAll(fd: number, bufBytes = 32768): Dirent[] {
  const all: Dirent[] = [];
  for (;;) {
    const some = getdents(fd, bufBytes);
    if (typeof some === 'string') throw new Error(`getdents: ${some}`);
    if (some.length === 0) return all;
    all.push(...some);
  }
}

// --- xattrs ---------------------------------------------------------------------

export function setxattr(path: Path, name: string, value: string | Uint8Array, flags = 0): Res {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return run(f.setxattr, z(path), z(name), bytes.length === 0 ? Buffer.alloc(1) : bytes,
    bytes.length, flags);
}

/** The value as latin1 in an array, or the errno's name. */
export function getxattr(path: Path, name: string): [value: string] | string {
  const buf = Buffer.alloc(65536);
  const n = run(f.getxattr, z(path), z(name), buf, buf.length);
  return typeof n === 'string' ? n : [buf.toString('latin1', 0, n)];
}

export function listxattr(path: Path): string[] | string {
  const buf = Buffer.alloc(65536);
  const n = run(f.listxattr, z(path), buf, buf.length);
  return typeof n === 'string' ? n :
    buf.toString('latin1', 0, n).split('\0').filter((s) => s !== '');
}

export function removexattr(path: Path, name: string): Res {
  return run(f.removexattr, z(path), z(name));
}

// --- identity -------------------------------------------------------------------

export interface User {
  readonly uid: number;
  readonly gid: number;
  readonly groups?: readonly number[];
}

export const ROOT: User = { uid: 0, gid: 0 };

function become(u: User): void {
  const groups = new Uint32Array(u.groups ?? []);
  const room = groups.length === 0 ? new Uint32Array(1) : groups;
  ok(run(f.setgroups, SYS.setgroups, groups.length, room), 'setgroups');
  ok(run(f.syscall3, SYS.setresgid, u.gid, u.gid, 0), 'setresgid');
  ok(run(f.syscall3, SYS.setresuid, u.uid, u.uid, 0), 'setresuid');
}

/** Runs `what`, which must not wait for anything, as `user`. The process has to be root's. */
export function as<T>(user: User, what: () => T): T {
  if (user.uid === 0 && user.gid === 0 && (user.groups ?? []).length === 0) return what();
  become(user);
  try {
    return what();
  } finally {
    ok(run(f.syscall3, SYS.setresuid, 0, 0, 0), 'setresuid back');
    become(ROOT);
  }
}
