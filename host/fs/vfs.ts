/**
 * The border between the FUSE dispatcher and the file system.
 *
 * The dispatcher (`host/fuse/dispatch.ts`) decodes a request, runs one method of
 * `VfsOps`, and encodes what the method left in its `out` object. The rules:
 *
 *   - A method is an operation as `host/mount/op.ts` describes it: synchronous,
 *     finished in the tick it is called in, or it throws `Wait` and is called
 *     again from its beginning, with the same arguments, when the promise of
 *     the `Wait` has settled. It must not have changed anything before throwing.
 *   - When the promise of a `Wait` rejects, the operation fails with that error.
 *   - The locks of `op` stay held until the reply is written; the dispatcher ends
 *     the op, not the method.
 *   - Methods that return `Promise<void> | undefined` (or a value or a promise of
 *     it) may move data: the promise is awaited, never repeated, and may not
 *     reject with `Wait`. Returning no promise is the fast path.
 *   - Failures are thrown as ScoutfsError (or any error with an errno `code`).
 *     Everything else is logged and answered EIO.
 *   - `out` objects, names and data belong to the request: valid until the
 *     method has returned or its promise has settled, not longer.
 *   - A caller that gets a signal while it waits for offline data (`Wait.unlock`), or is
 *     killed while it waits for anything, is answered EINTR and its op is ended; the method
 *     is then not called again. Other waits ignore signals.
 *
 * Everything here is named by inode number. The dispatcher counts the kernel's references and
 * handles of every node and calls `evict` once when both have gone.
 *
 * Long timeouts: a reply lets the kernel cache attributes or a name when the
 * `...Cacheable` field of the out object is true (it is preset to true) *and*
 * `KernelCaching.mayCache` says so of the covering lock when the reply is written.
 *
 * Offsets and sizes of files are BytePos, checked to be at most 2^63 - 1 when they enter.
 * Inode numbers and positions in directories are numbers.
 *
 * Spec: data.md 11, dir.md 11, inode.md 13, super.md 9, xattr.md 10.
 */
import type { BytePos } from '../core/bytepos.js';
import type { Op } from '../mount/op.js';

/** Who asks. Permission was checked by the kernel (`default_permissions`). */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  /** Thread id of the caller in our pid namespace; 0 for the kernel's own writes. */
  readonly pid: number;
}

/** The request behind an operation. */
export interface Call extends Caller {
  /**
   * Of creating requests: the parent directory's group when the caller is a
   * member of it beside its own gid (decides set-gid stripping), else -1.
   */
  readonly suppGid: number;
  /**
   * Page-aligned memory (good for direct I/O) of at least 1 MiB + 4 KiB that
   * stays valid until the reply is written. The same memory at every call.
   */
  lend(): Uint8Array;
  /**
   * WRITE only: keeps the payload's memory valid after the reply, for a device
   * write that is still running. The returned function must be called once.
   */
  keepData(): () => void;
}

/** A file name or xattr name inside a request: `len` bytes of `bytes` from `off`. */
export interface Name {
  readonly bytes: Uint8Array;
  readonly off: number;
  readonly len: number;
}

/** Attributes as the kernel wants them. `blocks` counts 512 byte units. */
export interface Attr {
  ino: number;
  size: BytePos;
  blocks: number;
  atimeSec: number;
  atimeNsec: number;
  mtimeSec: number;
  mtimeNsec: number;
  ctimeSec: number;
  ctimeNsec: number;
  crtimeSec: number;
  crtimeNsec: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  /** The kernel's 32 bit device number: minor low byte, major 12 bits at 8, rest of minor at 20. */
  rdev: number;
  blksize: number;
}

export interface AttrOut {
  readonly attr: Attr;
  /** Preset to true; false forbids the kernel to cache the attributes. */
  attrCacheable: boolean;
}

/** A name resolved. `ino` 0 is a negative entry: the name does not exist. */
export interface EntryOut extends AttrOut {
  ino: number;
  /** Preset to true; false forbids the kernel to cache the name. */
  entryCacheable: boolean;
}

export interface OpenOut {
  /** Handle number, handed back with every request on the handle; preset to 0. */
  fh: number;
  /**
   * Preset to false. True makes a read-only handle bypass the page cache; set it
   * when the file has offline blocks. Handles for writing always bypass it.
   */
  direct: boolean;
}

/** Bits of `SetAttr.valid`. */
export const SET_MODE = 1;
export const SET_UID = 2;
export const SET_GID = 4;
export const SET_SIZE = 8;
export const SET_ATIME = 16;
export const SET_MTIME = 32;
export const SET_FH = 64;
export const SET_ATIME_NOW = 128;
export const SET_MTIME_NOW = 256;
/** Clear set-uid, and set-gid if group-executable, along with the change. */
export const SET_KILL_SUIDGID = 2048;

export interface SetAttr {
  valid: number;
  fh: number;
  size: BytePos;
  mode: number;
  uid: number;
  gid: number;
  atimeSec: number;
  atimeNsec: number;
  mtimeSec: number;
  mtimeNsec: number;
  ctimeSec: number;
  ctimeNsec: number;
}

export interface ReadIn {
  readonly fh: number;
  readonly offset: BytePos;
  /** At most 1 MiB. */
  readonly size: number;
  /** A read(2) that bypasses the page cache; the others fill it. */
  readonly direct: boolean;
  /**
   * The pages may be dirtied without notice, because the file is open O_RDWR here:
   * needs I(ino) in WRITE, the whole file online and no retention. (fuse.md 5.2 rule 2)
   */
  readonly forWrite: boolean;
}

export interface WriteIn {
  readonly fh: number;
  readonly offset: BytePos;
  /** The payload; page-aligned memory. */
  readonly data: Uint8Array;
  /** O_APPEND: `offset` is not to be trusted, write at the size and set `writtenAt`. */
  readonly append: boolean;
  /**
   * Page cache write-back: I(ino) is held W (else fail with EIO: a bug) and the op is a
   * `duringDrain` one. May wait for blocks and commits, not for inode locks or offline
   * data. Is clipped at the file's size. (fuse.md 5.2 rule 4)
   */
  readonly cached: boolean;
  /** Clear set-uid, and set-gid if group-executable, in the same transaction. */
  readonly killSuidgid: boolean;
  /** Preset to `offset`; the offset the data really went to. */
  writtenAt: BytePos;
}

/** Where readdir puts entries. */
export interface DirSink {
  /**
   * Adds one entry of the directory. `pos` is its position (at least 2), `type` a DT_ value,
   * the name is `len` bytes of `bytes` from `off`.
   * @returns false when full: stop. The entry that got false was not used, but
   *          its position was: offer the next existing entry until false or the end.
   */
  add(ino: number, pos: number, type: number, bytes: Uint8Array, off: number, len: number): boolean;
}

export interface StatfsOut {
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  /** Unit of the block counts, bytes. */
  bsize: number;
  nameMax: number;
}

export interface IoctlIn {
  readonly fh: number;
  /** The whole command number, unsigned. */
  readonly cmd: number;
  /** The caller's argument: an address in the caller's memory, or the value itself. */
  readonly arg: bigint;
  /** What the kernel copied in for the command's encoded direction and size. */
  readonly input: Uint8Array;
  /** What it can copy out. */
  readonly outMaxBytes: number;
  readonly isDir: boolean;
}

export interface IoctlOut {
  /** The system call's result, not negative; preset to 0. */
  result: number;
  /** At most `outMaxBytes`; preset to empty. */
  data: Uint8Array;
}

/** flags of rename */
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

/** flags of setxattr */
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

/** What the file system does for the kernel. See the head of this file for the rules. */
export interface VfsOps {
  /** Resolves a name; a missing one is `out.ino` = 0, not an error. */
  lookup(op: Op, call: Call, dir: number, name: Name, out: EntryOut): void;
  /**
   * An inode from a file handle: LOOKUP of "." and "..". @throws ENOENT when it has no link left
   */
  byNumber(op: Op, call: Call, ino: number, out: EntryOut): void;
  /** The parent of a directory (the root's is the root): LOOKUP of ".." and readdir's "..". */
  parentOf(op: Op, call: Call, dir: number): number;
  /** The kernel dropped its last reference and the last handle is closed. Not a request. */
  evict(ino: number): void;
  getattr(op: Op, call: Call, ino: number, out: AttrOut): void;
  setattr(op: Op, call: Call, ino: number, set: SetAttr, out: AttrOut): Promise<void> | undefined;
  /** The target's bytes. */
  readlink(op: Op, call: Call, ino: number): Uint8Array;
  symlink(op: Op, call: Call, dir: number, name: Name, target: Name, out: EntryOut): void;
  /** `mode` is as the caller gave it, with the type; umask and default ACL are ours to apply. */
  mknod(op: Op, call: Call, dir: number, name: Name, mode: number, umask: number, rdev: number,
    out: EntryOut): void;
  mkdir(op: Op, call: Call, dir: number, name: Name, mode: number, umask: number,
    out: EntryOut): void;
  create(op: Op, call: Call, dir: number, name: Name, mode: number, umask: number, flags: number,
    out: EntryOut, open: OpenOut): void;
  /** An unlinked open file in the directory's file system; `link` can make it visible. */
  tmpfile(op: Op, call: Call, dir: number, mode: number, umask: number, flags: number,
    out: EntryOut, open: OpenOut): void;
  unlink(op: Op, call: Call, dir: number, name: Name): void;
  rmdir(op: Op, call: Call, dir: number, name: Name): void;
  rename(op: Op, call: Call, dir: number, name: Name, newDir: number, newName: Name,
    flags: number): void;
  link(op: Op, call: Call, ino: number, newDir: number, newName: Name, out: EntryOut): void;

  /** O_RDWR (flags & 3 = 2) needs I(ino) W. Never O_TRUNC or O_CREAT. */
  open(op: Op, call: Call, ino: number, flags: number, out: OpenOut): void;
  /** Not a waiting operation: the handle is gone. */
  release(ino: number, fh: number): void;
  /**
   * Reads up to `size` bytes; short only at the end of the file. The pieces may lie in
   * `call.lend()` or anywhere else and stay untouched until the reply is written.
   */
  read(op: Op, call: Call, ino: number, read: ReadIn): Uint8Array | Promise<Uint8Array>;
  /** @returns bytes written */
  write(op: Op, call: Call, ino: number, write: WriteIn): number | Promise<number>;
  fsync(op: Op, call: Call, ino: number, dataOnly: boolean): Promise<void> | undefined;
  /** `mode` is fallocate's. */
  fallocate(op: Op, call: Call, ino: number, fh: number, mode: number, offset: BytePos,
    lenBytes: BytePos): Promise<void> | undefined;
  /** SEEK_DATA (3) or SEEK_HOLE (4). @returns the offset @throws ENXIO */
  lseek(op: Op, call: Call, ino: number, offset: BytePos, whence: number): BytePos;

  opendir(op: Op, call: Call, ino: number, out: OpenOut): void;
  releasedir(ino: number, fh: number): void;
  /** Offers the entries at or after position `pos` to `sink` until it is full. */
  readdir(op: Op, call: Call, ino: number, fh: number, pos: number, sink: DirSink): void;

  statfs(op: Op, call: Call, out: StatfsOut): void;

  /** `killSgid`: clear set-gid along with setting an ACL. */
  setxattr(op: Op, call: Call, ino: number, name: Name, value: Uint8Array, flags: number,
    killSgid: boolean): void;
  /** The value's bytes. @throws ENODATA */
  getxattr(op: Op, call: Call, ino: number, name: Name): Uint8Array;
  /** All visible names, each followed by a NUL. */
  listxattr(op: Op, call: Call, ino: number): Uint8Array;
  /** @throws ENODATA */
  removexattr(op: Op, call: Call, ino: number, name: Name): void;
  /** @throws ENOTTY for commands it does not know */
  ioctl(op: Op, call: Call, ino: number, ioctl: IoctlIn, out: IoctlOut): Promise<void> | undefined;
}

/** How operations begin and end; implemented by the mount's client. */
export interface OpSource {
  /**
   * An operation that holds nothing yet.
   *
   * `duringDrain`: the kernel waits for this request inside a notification of the
   * drain in progress, so `lockInode` succeeds under the grant that is still held
   * although the lock admits nobody else, and the operation does not count as a
   * user that keeps the drain from starting; `KernelDrain.drain` resolves only after all
   * of them in its group have ended. It must not begin waits for inode locks; without
   * the grant it fails with EIO. (fuse.md 5.2 rules 4-6)
   */
  begin(duringDrain: boolean): Op;
  /** Lets go of all that the operation holds or waits for; the op may be reused. */
  end(op: Op): void;
}

/** What the lock client knows about cached values. */
export interface KernelCaching {
  /**
   * Whether the kernel may keep what was read under I(ino) in this tick: the lock is
   * held in READ or WRITE, is not draining, and was not taken away in the last 200 ms.
   */
  mayCache(ino: number): boolean;
}

/** Names of the lock modes as the drain sees them: `host/mount/op.ts` MODE_*. */
export type DrainMode = 0 | 1 | 2 | 3;

/**
 * The kernel cache drain (fuse.md 5.3 steps 2-4), implemented by `host/fuse/invalidate.ts`.
 *
 * The lock client calls `drain` when no operation holds I(group) any more and
 * before it commits, drops items and answers the server. While it runs,
 * `OpSource.begin(true)` operations still use the old grant. Never rejects.
 */
export interface KernelDrain {
  /** Inodes `firstIno .. firstIno + 1023`. `toMode` is MODE_NULL or MODE_READ. */
  drain(firstIno: number, fromMode: DrainMode, toMode: DrainMode): Promise<void>;
  /**
   * After a drain to MODE_NULL is answered: makes the kernel forget unused inodes of the group
   * (step 8), so that `evict` can run for them. Unhurried.
   */
  prune(firstIno: number): void;
  /** As prune, of one inode that the kernel may have no use for any more. */
  pruneIdle(ino: number): void;
  /** Drops cached pages of a byte range after a change that no WRITE of the kernel made. */
  dropPages(ino: number, offset: BytePos, lenBytes: number): Promise<void>;
}
