/**
 * A file system in memory behind our own FUSE channel.
 *
 * It does what POSIX asks of the VfsOps border and nothing else: no locks, no
 * disk, no transactions. So it serves as a test double for the FUSE row, and as the peer
 * that shows how much of a mounted benchmark is transport.
 *
 * Directory entries keep an array ordered by position (creation order) beside the map by
 * name; removed ones stay in the array until they are half of it. File data is a list
 * of 1 MiB chunks by number, the first of which grows by doubling. Permissions are the kernel's.
 */
import type { BytePos } from '../../host/core/bytepos.js';
import {
  addPos, blockOf, blocksTo, distance, maxPos, posOfBlock, restOf,
} from '../../host/core/bytepos.js';
import type {
  AttrOut, Call, DirSink, EntryOut, KernelCaching, Name, OpSource, ReadIn, SetAttr, StatfsOut,
  VfsOps, WriteIn,
} from '../../host/fs/vfs.js';
import * as V from '../../host/fs/vfs.js';
import type { Op } from '../../host/mount/op.js';
import { errnoError } from '../../host/observe/errors.js';

const ROOT = 1;
const BLOCK_BYTES = 4096;
const CHUNK_BYTES = 1 << 20;
const CHUNK_BLOCKS = CHUNK_BYTES / BLOCK_BYTES;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_ISGID = 0o2000;
const FIRST_POS = 2;
const SEEK_DATA = 3;
/** Size that statfs reports, in blocks of 4096 bytes. */
const STATFS_BLOCKS = 1 << 24;

interface DirEntry {
  name: string;
  bytes: Uint8Array;
  ino: number;
  pos: number;
  /** Removed; still in `order` for its position. */
  gone: boolean;
}

/** Wall clock in the two halves of an inode time. */
function now(): [number, number] {
  const ms = Date.now();
  return [Math.floor(ms / 1000), (ms % 1000) * 1_000_000];
}

class Inode {
  nlink = 1;
  size: BytePos = 0;
  uid = 0;
  gid = 0;
  rdev = 0;
  atime = now();
  mtime = this.atime;
  ctime = this.atime;
  readonly crtime = this.atime;
  readonly chunks = new Map<number, Uint8Array>();
  target: Uint8Array | null = null;
  readonly xattrs = new Map<string, Uint8Array>();
  // directories
  parent = ROOT;
  readonly names = new Map<string, DirEntry>();
  order: DirEntry[] = [];
  nextPos = FIRST_POS;

  constructor(readonly ino: number, public mode: number) {}

  get isDir(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR;
  }

  changed(content: boolean): void {
    this.ctime = now();
    if (content) this.mtime = this.ctime;
  }
}

/** Bytes as a string with one character per byte: an exact key. */
function keyOf(name: Name): string {
  let key = '';
  for (let i = 0; i < name.len; i++) key += String.fromCharCode(name.bytes[name.off + i] ?? 0);
  return key;
}

function bytesOf(name: Name): Uint8Array {
  return name.bytes.slice(name.off, name.off + name.len);
}

export class MemFs implements VfsOps {
  private readonly inodes = new Map<number, Inode>();
  private nextIno = ROOT + 1;

  /** `inoStride` spreads inode numbers, so that few of them share a lock. */
  constructor(private readonly inoStride = 1) {
    const root = new Inode(ROOT, S_IFDIR | 0o755);
    root.nlink = 2;
    this.inodes.set(ROOT, root);
  }

  // --- names ------------------------------------------------------------------

  lookup(_op: Op, _call: Call, dir: number, name: Name, out: EntryOut): void {
    const entry = this.dir(dir).names.get(keyOf(name));
    if (entry === undefined) return;
    this.fillEntry(this.inode(entry.ino), out);
  }

  byNumber(_op: Op, _call: Call, ino: number, out: EntryOut): void {
    this.fillEntry(this.inode(ino), out);
  }

  parentOf(_op: Op, _call: Call, dir: number): number {
    return this.dir(dir).parent;
  }

  evict(ino: number): void {
    if (this.inodes.get(ino)?.nlink === 0) this.inodes.delete(ino);
  }

  mknod(_op: Op, call: Call, dir: number, name: Name, mode: number, umask: number, rdev: number,
    out: EntryOut): void {
    const ino = this.make(call, dir, name, mode & ~umask);
    ino.rdev = rdev;
    this.fillEntry(ino, out);
  }

  mkdir(_op: Op, call: Call, dir: number, name: Name, mode: number, umask: number,
    out: EntryOut): void {
    this.fillEntry(this.make(call, dir, name, S_IFDIR | (mode & ~umask & 0o7777)), out);
  }

  symlink(_op: Op, call: Call, dir: number, name: Name, target: Name, out: EntryOut): void {
    const ino = this.make(call, dir, name, S_IFLNK | 0o777);
    ino.target = bytesOf(target);
    ino.size = ino.target.length;
    this.fillEntry(ino, out);
  }

  create(_op: Op, call: Call, dir: number, name: Name, mode: number, umask: number,
    _flags: number, out: EntryOut): void {
    this.fillEntry(this.make(call, dir, name, S_IFREG | (mode & ~umask & 0o7777)), out);
  }

  tmpfile(_op: Op, call: Call, dir: number, mode: number, umask: number, _flags: number,
    out: EntryOut): void {
    const ino = this.newInode(call, this.dir(dir), S_IFREG | (mode & ~umask & 0o7777));
    ino.nlink = 0;
    this.fillEntry(ino, out);
  }

  unlink(_op: Op, _call: Call, dir: number, name: Name): void {
    const entry = this.entry(dir, name);
    const ino = this.inode(entry.ino);
    if (ino.isDir) throw errnoError('EISDIR');
    this.removeEntry(this.dir(dir), entry);
    ino.nlink--;
    ino.changed(false);
  }

  rmdir(_op: Op, _call: Call, dir: number, name: Name): void {
    const entry = this.entry(dir, name);
    const ino = this.dir(entry.ino);
    if (ino.names.size > 0) throw errnoError('ENOTEMPTY');
    this.removeEntry(this.dir(dir), entry);
    this.dir(dir).nlink--;
    ino.nlink = 0;
  }

  rename(_op: Op, _call: Call, dir: number, name: Name, newDir: number, newName: Name,
    flags: number): void {
    if ((flags & V.RENAME_WHITEOUT) !== 0) throw errnoError('EINVAL');
    const from = this.dir(dir);
    const to = this.dir(newDir);
    const entry = this.entry(dir, name);
    const target = to.names.get(keyOf(newName));
    if ((flags & V.RENAME_EXCHANGE) !== 0) {
      if (target === undefined) throw errnoError('ENOENT');
      this.exchange(from, entry, to, target);
      return;
    }
    if (target !== undefined) {
      if ((flags & V.RENAME_NOREPLACE) !== 0) throw errnoError('EEXIST');
      if (target.ino === entry.ino) return;
      this.replaceTarget(this.inode(entry.ino), to, target);
    }
    this.removeEntry(from, entry);
    this.addEntry(to, keyOf(newName), bytesOf(newName), entry.ino);
    this.moved(this.inode(entry.ino), from, to);
  }

  link(_op: Op, _call: Call, ino: number, newDir: number, newName: Name, out: EntryOut): void {
    const inode = this.inode(ino);
    if (inode.isDir) throw errnoError('EPERM');
    const dir = this.dir(newDir);
    if (dir.names.has(keyOf(newName))) throw errnoError('EEXIST');
    this.addEntry(dir, keyOf(newName), bytesOf(newName), ino);
    inode.nlink++;
    inode.changed(false);
    this.fillEntry(inode, out);
  }

  readlink(_op: Op, _call: Call, ino: number): Uint8Array {
    const { target } = this.inode(ino);
    if (target === null) throw errnoError('EINVAL');
    return target;
  }

  // --- attributes -------------------------------------------------------------

  getattr(_op: Op, _call: Call, ino: number, out: AttrOut): void {
    this.fillAttr(this.inode(ino), out);
  }

  setattr(_op: Op, _call: Call, ino: number, set: SetAttr, out: AttrOut): undefined {
    const inode = this.inode(ino);
    const { valid } = set;
    if ((valid & V.SET_MODE) !== 0) inode.mode = (inode.mode & S_IFMT) | (set.mode & 0o7777);
    if ((valid & V.SET_UID) !== 0) inode.uid = set.uid;
    if ((valid & V.SET_GID) !== 0) inode.gid = set.gid;
    if ((valid & V.SET_SIZE) !== 0) {
      this.truncate(inode, set.size);
      inode.changed(true);
    }
    if ((valid & V.SET_KILL_SUIDGID) !== 0) killSuidgid(inode);
    const time = now();
    if ((valid & V.SET_ATIME) !== 0) {
      inode.atime = (valid & V.SET_ATIME_NOW) !== 0 ? time : [set.atimeSec, set.atimeNsec];
    }
    if ((valid & V.SET_MTIME) !== 0) {
      inode.mtime = (valid & V.SET_MTIME_NOW) !== 0 ? time : [set.mtimeSec, set.mtimeNsec];
    }
    inode.ctime = time;
    this.fillAttr(inode, out);
    return undefined;
  }

  statfs(_op: Op, _call: Call, out: StatfsOut): void {
    out.blocks = out.bfree = out.bavail = STATFS_BLOCKS;
    out.files = this.inodes.size;
    out.ffree = 1e9;
    out.bsize = 4096;
    out.nameMax = 255;
  }

  setxattr(_op: Op, _call: Call, ino: number, name: Name, value: Uint8Array, flags: number): void {
    const inode = this.inode(ino);
    const key = keyOf(name);
    if ((flags & V.XATTR_CREATE) !== 0 && inode.xattrs.has(key)) throw errnoError('EEXIST');
    if ((flags & V.XATTR_REPLACE) !== 0 && !inode.xattrs.has(key)) throw errnoError('ENODATA');
    inode.xattrs.set(key, value.slice());
    inode.changed(false);
  }

  getxattr(_op: Op, _call: Call, ino: number, name: Name): Uint8Array {
    const value = this.inode(ino).xattrs.get(keyOf(name));
    if (value === undefined) throw errnoError('ENODATA');
    return value;
  }

  listxattr(_op: Op, _call: Call, ino: number): Uint8Array {
    const names = [...this.inode(ino).xattrs.keys()];
    return Buffer.from(names.map((n) => `${n}\0`).join(''), 'latin1');
  }

  removexattr(_op: Op, _call: Call, ino: number, name: Name): void {
    if (!this.inode(ino).xattrs.delete(keyOf(name))) throw errnoError('ENODATA');
  }

  ioctl(): undefined {
    throw errnoError('ENOTTY');
  }

  // --- files ------------------------------------------------------------------

  open(_op: Op, _call: Call, ino: number): void {
    this.inode(ino);
  }

  release(): void {
    // handles have no state
  }

  read(_op: Op, call: Call, ino: number, read: ReadIn): Uint8Array {
    const inode = this.inode(ino);
    const { offset } = read;
    const len = Math.max(0, Math.min(read.size, distance(offset, inode.size)));
    const within = inChunk(offset);
    const chunk = inode.chunks.get(chunkOf(offset));
    // one piece of one chunk is answered where it lies
    if (chunk !== undefined && within + len <= chunk.length) {
      return chunk.subarray(within, within + len);
    }
    const out = call.lend().subarray(0, len);
    this.copyOut(inode, offset, out);
    return out;
  }

  write(_op: Op, _call: Call, ino: number, write: WriteIn): number {
    const inode = this.inode(ino);
    let { data } = write;
    if (write.append) write.writtenAt = inode.size;
    const at = write.writtenAt;
    if (write.cached) data = data.subarray(0, Math.max(0, distance(at, inode.size)));
    this.copyIn(inode, at, data);
    inode.size = maxPos(inode.size, addPos(at, data.length));
    if (write.killSuidgid) killSuidgid(inode);
    inode.changed(true);
    return write.data.length;
  }

  fsync(): undefined {
    return undefined;
  }

  fallocate(_op: Op, _call: Call, ino: number, _fh: number, mode: number, offset: BytePos,
    lenBytes: BytePos): undefined {
    const keepSize = 1;
    const punchHole = 2;
    const inode = this.inode(ino);
    if ((mode & ~(keepSize | punchHole)) !== 0) throw errnoError('EOPNOTSUPP');
    const end = addPos(offset, lenBytes);
    if ((mode & punchHole) !== 0) {
      for (const [index, chunk] of inode.chunks) {
        const at = posOfBlock(index * CHUNK_BLOCKS);
        chunk.fill(0, Math.max(0, distance(at, offset)), Math.max(0, distance(at, end)));
      }
    } else if ((mode & keepSize) === 0) {
      inode.size = maxPos(inode.size, end);
    }
    inode.changed(true);
    return undefined;
  }

  lseek(_op: Op, _call: Call, ino: number, offset: BytePos, whence: number): BytePos {
    const { size } = this.inode(ino);
    if (offset >= size) throw errnoError('ENXIO');
    return whence === SEEK_DATA ? offset : size;
  }

  opendir(_op: Op, _call: Call, ino: number): void {
    this.dir(ino);
  }

  releasedir(): void {
    // handles have no state
  }

  readdir(_op: Op, _call: Call, ino: number, _fh: number, pos: number, sink: DirSink): void {
    const { order } = this.dir(ino);
    for (let i = firstAt(order, pos); i < order.length; i++) {
      const entry = order[i];
      if (entry === undefined || entry.gone) continue;
      const type = (this.inode(entry.ino).mode & S_IFMT) >>> 12;
      if (!sink.add(entry.ino, entry.pos, type, entry.bytes, 0, entry.bytes.length)) return;
    }
  }

  /** The inode a name leads to, or 0. */
  peek(dir: number, name: Name): number {
    return this.inodes.get(dir)?.names.get(keyOf(name))?.ino ?? 0;
  }

  /** The number that the next inode will get. */
  get upcomingIno(): number {
    return this.nextIno;
  }

  /** Appends behind the kernel's back, as another node would. */
  append(ino: number, data: Uint8Array): void {
    const inode = this.inode(ino);
    this.copyIn(inode, inode.size, data);
    inode.size = addPos(inode.size, data.length);
    inode.changed(true);
  }

  // --- helpers ----------------------------------------------------------------

  private inode(ino: number): Inode {
    const found = this.inodes.get(ino);
    if (found === undefined) throw errnoError('ESTALE');
    return found;
  }

  private dir(ino: number): Inode {
    const found = this.inode(ino);
    if (!found.isDir) throw errnoError('ENOTDIR');
    return found;
  }

  private entry(dir: number, name: Name): DirEntry {
    const entry = this.dir(dir).names.get(keyOf(name));
    if (entry === undefined) throw errnoError('ENOENT');
    return entry;
  }

  private newInode(call: Call, dir: Inode, mode: number): Inode {
    const inode = new Inode(this.nextIno, mode);
    this.nextIno += this.inoStride;
    inode.uid = call.uid;
    inode.gid = call.gid;
    if ((dir.mode & S_ISGID) !== 0) {
      inode.gid = dir.gid;
      if (inode.isDir) inode.mode |= S_ISGID;
    }
    this.inodes.set(inode.ino, inode);
    return inode;
  }

  private make(call: Call, dirIno: number, name: Name, mode: number): Inode {
    const dir = this.dir(dirIno);
    const key = keyOf(name);
    if (dir.nlink === 0) throw errnoError('ENOENT');
    if (dir.names.has(key)) throw errnoError('EEXIST');
    const inode = this.newInode(call, dir, mode);
    if (inode.isDir) {
      inode.nlink = 2;
      inode.parent = dirIno;
      dir.nlink++;
    }
    this.addEntry(dir, key, bytesOf(name), inode.ino);
    return inode;
  }

  private addEntry(dir: Inode, name: string, bytes: Uint8Array, ino: number): void {
    const entry = { name, bytes, ino, pos: dir.nextPos++, gone: false };
    dir.names.set(name, entry);
    dir.order.push(entry);
    dir.size = addPos(dir.size, bytes.length);
    dir.changed(true);
  }

  private removeEntry(dir: Inode, entry: DirEntry): void {
    dir.names.delete(entry.name);
    entry.gone = true;
    if (dir.order.length > 64 && dir.names.size < dir.order.length / 2) {
      dir.order = dir.order.filter((e) => !e.gone);
    }
    dir.size = addPos(dir.size, -entry.bytes.length);
    dir.changed(true);
  }

  private replaceTarget(source: Inode, to: Inode, target: DirEntry): void {
    const old = this.inode(target.ino);
    if (old.isDir && !source.isDir) throw errnoError('EISDIR');
    if (!old.isDir && source.isDir) throw errnoError('ENOTDIR');
    if (old.names.size > 0) throw errnoError('ENOTEMPTY');
    this.removeEntry(to, target);
    old.nlink = old.isDir ? 0 : old.nlink - 1;
    if (old.isDir) to.nlink--;
    old.changed(false);
  }

  private exchange(from: Inode, a: DirEntry, to: Inode, b: DirEntry): void {
    [a.ino, b.ino] = [b.ino, a.ino];
    if (from === to) return;
    this.moved(this.inode(b.ino), from, to);
    this.moved(this.inode(a.ino), to, from);
  }

  private moved(inode: Inode, from: Inode, to: Inode): void {
    inode.changed(false);
    if (!inode.isDir || from === to) return;
    inode.parent = to.ino;
    from.nlink--;
    to.nlink++;
  }

  private fillAttr(inode: Inode, out: AttrOut): void {
    const a = out.attr;
    a.ino = inode.ino;
    a.size = inode.size;
    a.blocks = blocksTo(inode.size) * 8;
    [a.atimeSec, a.atimeNsec] = inode.atime;
    [a.mtimeSec, a.mtimeNsec] = inode.mtime;
    [a.ctimeSec, a.ctimeNsec] = inode.ctime;
    [a.crtimeSec, a.crtimeNsec] = inode.crtime;
    a.mode = inode.mode;
    a.nlink = inode.nlink;
    a.uid = inode.uid;
    a.gid = inode.gid;
    a.rdev = inode.rdev;
    a.blksize = 4096;
  }

  private fillEntry(inode: Inode, out: EntryOut): void {
    out.ino = inode.ino;
    this.fillAttr(inode, out);
  }

  /** The chunk with at least `needBytes`, kept from before or made. */
  private chunk(inode: Inode, index: number, needBytes: number): Uint8Array {
    const have = inode.chunks.get(index);
    if (have !== undefined && have.length >= needBytes) return have;
    const grown = 2 ** Math.ceil(Math.log2(Math.max(needBytes, 4096)));
    // later chunks belong to large files: made whole at once
    const made = new Uint8Array(index === 0 ? Math.min(CHUNK_BYTES, grown) : CHUNK_BYTES);
    if (have !== undefined) made.set(have);
    inode.chunks.set(index, made);
    return made;
  }

  private copyIn(inode: Inode, offset: BytePos, data: Uint8Array): void {
    let index = chunkOf(offset);
    let within = inChunk(offset);
    for (let done = 0; done < data.length;) {
      const n = Math.min(CHUNK_BYTES - within, data.length - done);
      const piece = n === data.length ? data : data.subarray(done, done + n);
      this.chunk(inode, index++, within + n).set(piece, within);
      within = 0;
      done += n;
    }
  }

  private copyOut(inode: Inode, offset: BytePos, out: Uint8Array): void {
    let index = chunkOf(offset);
    let within = inChunk(offset);
    for (let done = 0; done < out.length;) {
      const n = Math.min(CHUNK_BYTES - within, out.length - done);
      const have = inode.chunks.get(index++)?.subarray(within, within + n);
      if (have !== undefined) out.set(have, done);
      out.fill(0, done + (have?.length ?? 0), done + n);
      within = 0;
      done += n;
    }
  }

  private truncate(inode: Inode, size: BytePos): void {
    if (inode.isDir) throw errnoError('EISDIR');
    if (size < inode.size) {
      const last = chunkOf(size);
      for (const index of inode.chunks.keys()) if (index > last) inode.chunks.delete(index);
      inode.chunks.get(last)?.fill(0, inChunk(size));
    }
    inode.size = size;
  }
}

/** Number of the chunk that holds a byte. */
function chunkOf(pos: BytePos): number {
  return Math.floor(blockOf(pos) / CHUNK_BLOCKS);
}

/** Where in its chunk a byte is. */
function inChunk(pos: BytePos): number {
  return (blockOf(pos) % CHUNK_BLOCKS) * BLOCK_BYTES + restOf(pos);
}

function killSuidgid(inode: Inode): void {
  inode.mode &= ~0o4000;
  if ((inode.mode & 0o10) !== 0) inode.mode &= ~S_ISGID;
}

/** Index of the first entry at or after a position. */
function firstAt(order: readonly DirEntry[], pos: number): number {
  let low = 0;
  let high = order.length;
  while (low < high) {
    const mid = (low + high) >>> 1;
    if ((order[mid]?.pos ?? Infinity) < pos) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** Operations that need nothing: all locks are there. */
export const memOps: OpSource = {
  begin: () => idleOp,
  end: () => { /* nothing was taken */ },
};

// the dispatcher asks for a lock, the file system for nothing
const idleOp = Object.freeze({ lockInode: () => 0 }) as unknown as Op;

/** Everything may be cached: nobody else changes this file system. */
export const memCaching: KernelCaching = { mayCache: () => true };
