/**
 * One handler per request: decode, call the file system, encode.
 *
 * A handler runs the whole operation again each time it is called (see
 * `host/fs/vfs.ts`), so it decodes from the request and keeps no state of its own.
 * What it tells the kernel to cache it writes down in the node (`nodes.ts`) in the
 * same tick, which is what a later drain goes by:
 *
 *   attributes with a timeout   node.attrGiven (ACLs count as attributes)
 *   names with a timeout        directory's node.entriesEpoch
 *   page cache fills            node.pagesMaybe, node.mappable
 *   references, handles         node.lookups, handles, rdwrHandles
 *
 * Counts are raised when the reply has been accepted: an aborted caller has
 * nothing to give back later. Which requests cause which: fuse.md 3 and 5.2.
 */
import type { BytePos } from '../core/bytepos.js';
import { addPos, isPos, setPos } from '../core/bytepos.js';
import { ROOT_INO } from '../core/constants.js';
import type { EntryOut, KernelCaching, Name, VfsOps } from '../fs/vfs.js';
import { SET_FH } from '../fs/vfs.js';
import { MODE_WRITE, Wait } from '../mount/op.js';
import { ERRNO, errnoError } from '../observe/errors.js';
import { WRITE_MAX_BYTES } from './channel.js';
import type { Channel } from './channel.js';
import type { Invalidator } from './invalidate.js';
import { rangeOf } from './invalidate.js';
import type { Node, NodeTable, Range } from './nodes.js';
import * as P from './protocol.js';
import { OP, OUT_HEADER_BYTES as BODY } from './protocol.js';
import { DirPacker, FIRST_POS } from './readdir.js';
import { WHOLE_FILE, overlaps, pagesOf } from './ranges.js';
import type { Request } from './request.js';

/** How long the kernel may keep what is covered by a held lock: until told otherwise. */
const LONG_SEC = 1e9;
const NAME_MAX_BYTES = 255;
const SYMLINK_MAX_BYTES = 4095;
/** What the names of both POSIX ACLs begin with. */
const ACL_NAMES = new TextEncoder().encode('system.posix_acl_');

type Done = Promise<void> | undefined;
type Handler = (r: Request) => Done;

export interface DispatchOptions {
  /** Give names long timeouts when their lock allows it. */
  nameCaching: boolean;
}

export class Dispatcher {
  private readonly handlers: (Handler | undefined)[] = [];
  private readonly packer: DirPacker;

  constructor(
    private readonly channel: Channel,
    private readonly vfs: VfsOps,
    private readonly nodes: NodeTable,
    private readonly caching: KernelCaching,
    private readonly drain: Invalidator,
    private readonly opts: DispatchOptions,
  ) {
    this.packer = new DirPacker(channel.bytes, channel.view);
    this.registerNames();
    this.registerAttributes();
    this.registerFiles();
    this.registerDirectories();
  }

  /** Runs one request. @throws Wait, or the operation's error; ESTALE for impossible node ids */
  handle(r: Request): Done {
    if (!Number.isSafeInteger(r.nodeid)) throw errnoError('ESTALE');
    const handler = this.handlers[r.opcode];
    if (handler !== undefined) return handler(r);
    // also COPY_FILE_RANGE, BMAP, POLL and ACCESS: the kernel then helps itself
    this.channel.replyError(r, ERRNO.ENOSYS);
    return undefined;
  }

  // --- registration -----------------------------------------------------------

  private on(opcode: number, handler: (r: Request) => Done): void {
    this.handlers[opcode] = handler;
  }

  private registerNames(): void {
    const { vfs } = this;
    this.on(OP.LOOKUP, (r) => this.lookup(r));
    this.on(OP.MKNOD, (r) => {
      vfs.mknod(op(r), r, r.nodeid, nameAt(r, 16), r.u32(0), r.u32(8), r.u32(4), r.entry);
      return this.replyCreated(r);
    });
    this.on(OP.MKDIR, (r) => {
      vfs.mkdir(op(r), r, r.nodeid, nameAt(r, 8), r.u32(0), r.u32(4), r.entry);
      return this.replyCreated(r);
    });
    this.on(OP.SYMLINK, (r) => this.symlink(r));
    this.on(OP.CREATE, (r) => {
      const flags = r.u32(0);
      vfs.create(op(r), r, r.nodeid, nameAt(r, 16), r.u32(4), r.u32(8), flags, r.entry, r.open);
      return this.replyCreatedOpen(r, flags);
    });
    this.on(OP.TMPFILE, (r) => {
      const flags = r.u32(0);
      vfs.tmpfile(op(r), r, r.nodeid, r.u32(4), r.u32(8), flags, r.entry, r.open);
      return this.replyCreatedOpen(r, flags);
    });
    this.on(OP.UNLINK, (r) => {
      vfs.unlink(op(r), r, r.nodeid, nameAt(r, 0));
      return this.replyEmpty(r);
    });
    this.on(OP.RMDIR, (r) => {
      vfs.rmdir(op(r), r, r.nodeid, nameAt(r, 0));
      return this.replyEmpty(r);
    });
    this.on(OP.RENAME, (r) => this.rename(r, 8, 0));
    this.on(OP.RENAME2, (r) => this.rename(r, 16, r.u32(8)));
    this.on(OP.LINK, (r) => {
      vfs.link(op(r), r, r.node(0), r.nodeid, nameAt(r, 8), r.entry);
      return this.replyCreated(r);
    });
    this.on(OP.READLINK, (r) => this.replyBytes(r, vfs.readlink(op(r), r, r.nodeid)));
  }

  private registerAttributes(): void {
    const { vfs } = this;
    this.on(OP.GETATTR, (r) => {
      vfs.getattr(op(r), r, r.nodeid, r.entry);
      return this.replyAttr(r);
    });
    this.on(OP.STATX, (r) => {
      vfs.getattr(op(r), r, r.nodeid, r.entry);
      P.putStatxOut(this.channel.view, BODY, r.entry.attr, this.attrSec(r, r.nodeid));
      this.channel.reply(r, P.STATX_OUT_BYTES);
      return undefined;
    });
    this.on(OP.SETATTR, (r) => {
      P.getSetAttr(r.view, r.off, r.set);
      checked(r.set.size);
      if ((r.set.valid & SET_FH) === 0) r.set.fh = 0;
      const moving = vfs.setattr(op(r), r, r.nodeid, r.set, r.entry);
      return moving === undefined ? this.replyAttr(r) : moving.then(() => this.replyAttr(r));
    });
    this.on(OP.STATFS, (r) => {
      vfs.statfs(op(r), r, r.statfs);
      P.putStatfsOut(this.channel.view, BODY, r.statfs);
      this.channel.reply(r, P.STATFS_OUT_BYTES);
      return undefined;
    });
    this.on(OP.SETXATTR, (r) => this.setxattr(r));
    this.on(OP.GETXATTR, (r) => this.getxattr(r));
    this.on(OP.LISTXATTR, (r) => this.replySized(r, r.u32(0),
      vfs.listxattr(op(r), r, r.nodeid)));
    this.on(OP.REMOVEXATTR, (r) => {
      vfs.removexattr(op(r), r, r.nodeid, nameAt(r, 0, Infinity));
      return this.replyEmpty(r);
    });
  }

  private registerFiles(): void {
    const { vfs } = this;
    this.on(OP.OPEN, (r) => {
      const flags = r.u32(0);
      vfs.open(op(r), r, r.nodeid, flags, r.open);
      const node = this.opened(r.nodeid, flags);
      P.putOpenOut(this.channel.view, BODY, r.open.fh, openFlags(r, flags));
      if (!this.channel.reply(r, P.OPEN_OUT_BYTES)) this.released(node, r.open.fh, flags);
      return undefined;
    });
    this.on(OP.RELEASE, (r) => {
      const node = this.nodes.get(r.nodeid);
      if (node !== undefined) this.released(node, r.u64(0), r.u32(8));
      return this.replyEmpty(r);
    });
    // NOFLUSH keeps it away; answered for handles opened before it was understood
    this.on(OP.FLUSH, (r) => this.replyEmpty(r));
    this.on(OP.READ, (r) => this.read(r));
    this.on(OP.WRITE, (r) => this.write(r));
    this.on(OP.FSYNC, (r) => this.fsync(r, r.nodeid));
    this.on(OP.FSYNCDIR, (r) => this.fsync(r, r.nodeid));
    this.on(OP.SYNCFS, (r) => this.fsync(r, ROOT_INO));
    this.on(OP.FALLOCATE, (r) => {
      const offset = checked(r.pos(8));
      const moving = vfs.fallocate(op(r), r, r.nodeid, r.u64(0), r.u32(24), offset,
        checked(r.pos(16)));
      return this.replyEmptyAfter(r, moving);
    });
    this.on(OP.LSEEK, (r) => {
      const from = r.pos(8);
      // a negative offset, too, is behind every end: Linux compares without sign
      if (!isPos(from)) throw errnoError('ENXIO');
      const at = vfs.lseek(op(r), r, r.nodeid, from, r.u32(16));
      setPos(this.channel.view, BODY, at);
      this.channel.reply(r, 8);
      return undefined;
    });
    this.on(OP.IOCTL, (r) => this.ioctl(r));
  }

  private registerDirectories(): void {
    const { vfs } = this;
    this.on(OP.OPENDIR, (r) => {
      vfs.opendir(op(r), r, r.nodeid, r.open);
      const node = this.nodes.obtain(r.nodeid);
      node.handles++;
      P.putOpenOut(this.channel.view, BODY, r.open.fh, 0);
      if (!this.channel.reply(r, P.OPEN_OUT_BYTES)) this.releasedDir(node, r.open.fh);
      return undefined;
    });
    this.on(OP.RELEASEDIR, (r) => {
      const node = this.nodes.get(r.nodeid);
      if (node !== undefined) this.releasedDir(node, r.u64(0));
      return this.replyEmpty(r);
    });
    this.on(OP.READDIR, (r) => this.readdir(r));
  }

  // --- names ------------------------------------------------------------------

  private lookup(r: Request): Done {
    const dir = r.nodeid;
    const name = nameAt(r, 0);
    if (isDots(name)) {
      // only asked by those who decode file handles: no name is behind the answer
      const ino = name.len === 1 ? dir : this.vfs.parentOf(op(r), r, dir);
      this.vfs.byNumber(op(r), r, ino, r.entry);
      r.entry.entryCacheable = false;
    } else {
      this.vfs.lookup(op(r), r, dir, name, r.entry);
      if (r.entry.ino === 0) return this.replyNegative(r, dir);
    }
    return this.replyEntry(r, this.putEntry(r, dir, r.entry));
  }

  private replyNegative(r: Request, dir: number): Done {
    const entrySec = this.entrySec(r, dir, r.entry);
    if (entrySec === 0) {
      this.channel.replyError(r, ERRNO.ENOENT);
    } else {
      P.putEntryOut(this.channel.view, BODY, 0, r.entry.attr, entrySec, 0);
      this.channel.reply(r, P.ENTRY_OUT_BYTES);
    }
    return undefined;
  }

  private symlink(r: Request): Done {
    const after = r.takeName(0, r.name);
    if (after < 0 || r.takeName(after, r.name2) < 0) throw errnoError('EINVAL');
    limit(r.name, NAME_MAX_BYTES);
    limit(r.name2, SYMLINK_MAX_BYTES);
    this.vfs.symlink(op(r), r, r.nodeid, r.name, r.name2, r.entry);
    return this.replyCreated(r);
  }

  private rename(r: Request, namesAt: number, flags: number): Done {
    const newDir = r.node(0);
    const after = r.takeName(namesAt, r.name);
    if (after < 0 || r.takeName(after, r.name2) < 0) throw errnoError('EINVAL');
    limit(r.name, NAME_MAX_BYTES);
    limit(r.name2, NAME_MAX_BYTES);
    this.vfs.rename(op(r), r, r.nodeid, r.name, newDir, r.name2, flags);
    // the kernel moves cached names with what is left of their time
    this.gaveName(r.nodeid);
    this.gaveName(newDir);
    return this.replyEmpty(r);
  }

  private replyCreated(r: Request): Done {
    return this.replyEntry(r, this.putEntry(r, r.nodeid, r.entry));
  }

  private replyEntry(r: Request, bodyBytes: number): Done {
    const node = this.nodes.obtain(r.entry.ino);
    if (this.channel.reply(r, bodyBytes)) node.lookups++;
    else this.nodes.settle(node);
    return undefined;
  }

  private replyCreatedOpen(r: Request, flags: number): Done {
    const bodyBytes = this.putEntry(r, r.nodeid, r.entry);
    const node = this.opened(r.entry.ino, flags);
    P.putOpenOut(this.channel.view, BODY + bodyBytes, r.open.fh, openFlags(r, flags));
    if (this.channel.reply(r, bodyBytes + P.OPEN_OUT_BYTES)) node.lookups++;
    else this.released(node, r.open.fh, flags);
    return undefined;
  }

  /** Composes the reply that names `entry.ino` inside `dir`. */
  private putEntry(r: Request, dir: number, entry: EntryOut): number {
    const entrySec = this.entrySec(r, dir, entry);
    const attrSec = this.attrSec(r, entry.ino);
    P.putEntryOut(this.channel.view, BODY, entry.ino, entry.attr, entrySec, attrSec);
    return P.ENTRY_OUT_BYTES;
  }

  /** How long the kernel may keep a name of `dir`; notes that it was given. */
  private entrySec(r: Request, dir: number, entry: EntryOut): number {
    if (!this.opts.nameCaching || !this.drain.canDropNames || !entry.entryCacheable
      || !this.mayCache(r, dir)) return 0;
    this.gaveName(dir);
    return LONG_SEC;
  }

  private gaveName(dir: number): void {
    this.nodes.obtain(dir).entriesEpoch = this.drain.epoch;
  }

  /** How long the kernel may keep the attributes in `r.entry`; notes that they were given. */
  private attrSec(r: Request, ino: number): number {
    if (r.entry.attr.nlink === 0) this.nodes.obtain(ino).unlinked = true;
    if (!r.entry.attrCacheable || !this.mayCache(r, ino)) return 0;
    this.nodes.obtain(ino).attrGiven = true;
    return LONG_SEC;
  }

  private mayCache(r: Request, ino: number): boolean {
    return !r.duringDrain && !this.drain.isDraining(ino) && this.caching.mayCache(ino);
  }

  // --- attributes -------------------------------------------------------------

  private replyAttr(r: Request): Done {
    P.putAttrOut(this.channel.view, BODY, r.entry.attr, this.attrSec(r, r.nodeid));
    this.channel.reply(r, P.ATTR_OUT_BYTES);
    return undefined;
  }

  private getxattr(r: Request): Done {
    const name = nameAt(r, 8, Infinity);
    const node = this.nodes.get(r.nodeid);
    // the kernel keeps ACLs, and their absence, until attributes are invalidated
    if (node !== undefined && startsWith(name, ACL_NAMES)) node.attrGiven = true;
    return this.replySized(r, r.u32(0), this.vfs.getxattr(op(r), r, r.nodeid, name));
  }

  private setxattr(r: Request): Done {
    const sizeBytes = r.u32(0);
    const after = r.takeName(16);
    if (after < 0) throw errnoError('EINVAL');
    const start = r.off + after;
    if (start + sizeBytes > r.end) throw errnoError('EINVAL');
    const value = r.bytes.subarray(start, start + sizeBytes);
    const killSgid = (r.u32(8) & P.SETXATTR_ACL_KILL_SGID) !== 0;
    this.vfs.setxattr(op(r), r, r.nodeid, r.name, value, r.u32(4), killSgid);
    return this.replyEmpty(r);
  }

  /** Answers a question for a value: its length when the caller offers no room. */
  private replySized(r: Request, roomBytes: number, value: Uint8Array): Done {
    if (roomBytes === 0) {
      P.putU64(this.channel.view, BODY, value.length);
      this.channel.reply(r, 8);
    } else if (value.length > roomBytes) {
      this.channel.replyError(r, ERRNO.ERANGE);
    } else {
      return this.replyBytes(r, value);
    }
    return undefined;
  }

  private replyBytes(r: Request, value: Uint8Array): Done {
    this.channel.bytes.set(value, BODY);
    this.channel.reply(r, value.length);
    return undefined;
  }

  private replyEmpty(r: Request): Done {
    this.channel.reply(r, 0);
    return undefined;
  }

  private replyEmptyAfter(r: Request, moving: Done): Done {
    return moving === undefined ? this.replyEmpty(r) : moving.then(() => this.replyEmpty(r));
  }

  // --- files ------------------------------------------------------------------

  private opened(ino: number, flags: number): Node {
    const node = this.nodes.obtain(ino);
    node.handles++;
    if ((flags & P.O_ACCMODE) === P.O_RDWR && node.rdwrHandles++ === 0) {
      this.drain.rdwrChanged(node);
    }
    return node;
  }

  private released(node: Node, fh: number, flags: number): void {
    node.handles = Math.max(0, node.handles - 1);
    this.idle(node);
    if ((flags & P.O_ACCMODE) === P.O_RDWR) {
      node.rdwrHandles = Math.max(0, node.rdwrHandles - 1);
      if (node.rdwrHandles === 0) this.drain.rdwrChanged(node);
    }
    this.vfs.release(node.ino, fh);
    this.nodes.settle(node);
  }

  private releasedDir(node: Node, fh: number): void {
    node.handles = Math.max(0, node.handles - 1);
    this.idle(node);
    this.vfs.releasedir(node.ino, fh);
    this.nodes.settle(node);
  }

  /** Inodes that were removed, or whose lock is gone, are not kept by the kernel for nothing. */
  private idle(node: Node): void {
    if (node.handles > 0 || node.lookups === 0 || !(node.unlinked || node.drainedOpen)) return;
    node.drainedOpen = false;
    this.drain.pruneIdle(node.ino);
  }

  private read(r: Request): Done {
    const size = Math.min(r.u32(16), WRITE_MAX_BYTES);
    const direct = (r.u32(20) & P.READ_DIRECT) !== 0;
    const node = this.nodes.get(r.nodeid);
    const held = direct ? null : this.drain.heldUntil(r);
    if (held !== null) throw new Wait(held);
    const data = this.vfs.read(op(r), r, r.nodeid, {
      fh: r.u64(0), offset: checked(r.pos(8)), size, direct,
      forWrite: !direct && node !== undefined && node.rdwrHandles > 0,
    });
    if (node !== undefined && !direct) this.drain.filled(node, rangeOf(r));
    if (!(data instanceof Promise)) {
      this.replyData(r, data, size);
      return undefined;
    }
    return data.then((bytes) => { this.replyData(r, bytes, size); });
  }

  private replyData(r: Request, data: Uint8Array, size: number): void {
    this.channel.replyData(r, data.length > size ? data.subarray(0, size) : data);
  }

  private write(r: Request): Done {
    const { hold } = r;
    r.hold = null;
    try {
      return this.writeHeld(r);
    } finally {
      hold?.release();
    }
  }

  /**
   * Pages that a mapping may have made dirty, or may make dirty, with what was there before
   * this WRITE are dropped before it changes anything. @throws Wait for that
   */
  private cleanMapped(r: Request, node: Node, range: Range): void {
    if (!overlaps(node.mappable, range)) return;
    // Held from here on: a READ that the notification waits for needs it.
    op(r).lockInode(r.nodeid, MODE_WRITE);
    const hold = this.drain.holdReads(node, range);
    r.hold = hold;
    throw new Wait(this.drain.cleanPages(node, hold), false, () => { hold.release(); });
  }

  private writeHeld(r: Request): Done {
    const data = r.payload(r.u32(16));
    if (data === null) throw errnoError('EINVAL');
    const writeFlags = r.u32(20);
    const offset = checked(r.pos(8));
    const write = {
      fh: r.u64(0), offset, data, writtenAt: offset,
      append: (r.u32(32) & P.O_APPEND) !== 0 && (writeFlags & P.WRITE_CACHE) === 0,
      cached: (writeFlags & P.WRITE_CACHE) !== 0,
      killSuidgid: (writeFlags & P.WRITE_KILL_SUIDGID) !== 0,
    };
    const node = this.nodes.get(r.nodeid);
    const range = write.cached || node === undefined || node.rdwrHandles === 0 ? null
      : write.append ? WHOLE_FILE : pagesOf(offset, data.length);
    if (node !== undefined && range !== null) this.cleanMapped(r, node, range);
    const written = this.vfs.write(op(r), r, r.nodeid, write);
    const reply = (n: number): Done => this.replyWritten(r, n, write.writtenAt, offset, data);
    if (!(written instanceof Promise)) return reply(written);
    if (node === undefined || range === null) return written.then(reply);
    // It may take several transactions: no page may be filled before the last one.
    const hold = this.drain.holdReads(node, range);
    return written.finally(() => { hold.release(); }).then(reply);
  }

  private replyWritten(r: Request, written: number, at: BytePos, offset: BytePos,
    data: Uint8Array): Done {
    if (at !== offset && written > 0) {
      // the kernel computes size and position from its own offset: raise its size first
      return this.drain.storeTail(r.nodeid, addPos(at, written - 1), data[written - 1] ?? 0)
        .then(() => { this.putWritten(r, written); });
    }
    this.putWritten(r, written);
    return undefined;
  }

  private putWritten(r: Request, written: number): void {
    P.putU64(this.channel.view, BODY, written);
    this.channel.reply(r, 8);
  }

  private fsync(r: Request, ino: number): Done {
    const dataOnly = r.opcode !== OP.SYNCFS && (r.u32(8) & P.FSYNC_DATA) !== 0;
    return this.replyEmptyAfter(r, this.vfs.fsync(op(r), r, ino, dataOnly));
  }

  private ioctl(r: Request): Done {
    r.ioctl.result = 0;
    r.ioctl.data = new Uint8Array(0);
    const inBytes = r.u32(24);
    const start = r.off + 32;
    if (start + inBytes > r.end) throw errnoError('EINVAL');
    const moving = this.vfs.ioctl(op(r), r, r.nodeid, {
      fh: r.u64(0), cmd: r.u32(12), arg: r.view.getBigUint64(r.off + 16, true),
      // a copy: the operation may outlive the tick
      input: r.bytes.slice(start, start + inBytes),
      outMaxBytes: r.u32(28), isDir: (r.u32(8) & P.IOCTL_DIR) !== 0,
    }, r.ioctl);
    return moving === undefined ? this.replyIoctl(r) : moving.then(() => this.replyIoctl(r));
  }

  private replyIoctl(r: Request): Done {
    const { result, data } = r.ioctl;
    if (data.length > r.u32(28)) throw errnoError('EIO', 'ioctl result is too long');
    const v = this.channel.view;
    P.putU64(v, BODY + 8, 0);
    v.setInt32(BODY, result, true);
    v.setUint32(BODY + 4, 0, true);
    this.channel.bytes.set(data, BODY + P.IOCTL_OUT_BYTES);
    this.channel.reply(r, P.IOCTL_OUT_BYTES + data.length);
    return undefined;
  }

  // --- directories ------------------------------------------------------------

  private readdir(r: Request): Done {
    const pos = r.u64(8);
    const { packer } = this;
    packer.begin(BODY, r.u32(16));
    if (pos < FIRST_POS) {
      packer.dots(pos, r.nodeid, this.vfs.parentOf(op(r), r, r.nodeid));
    }
    this.vfs.readdir(op(r), r, r.nodeid, r.u64(0), Math.max(pos, FIRST_POS), packer);
    this.channel.reply(r, packer.finish());
    return undefined;
  }
}

/** The operation the channel began for this request. */
function op(r: Request): NonNullable<Request['op']> {
  if (r.op === null) throw errnoError('EIO', 'request without an operation');
  return r.op;
}

function limit(name: Name, maxBytes: number): void {
  if (name.len > maxBytes) throw errnoError('ENAMETOOLONG');
}

/** The one name of a request; `vfs` limits those of xattrs. @throws EINVAL, ENAMETOOLONG */
function nameAt(r: Request, o: number, maxBytes = NAME_MAX_BYTES): Name {
  if (r.takeName(o) < 0) throw errnoError('EINVAL');
  limit(r.name, maxBytes);
  return r.name;
}

function startsWith(name: Name, prefix: Uint8Array): boolean {
  return name.len >= prefix.length && prefix.every((b, i) => name.bytes[name.off + i] === b);
}

function isDots(name: Name): boolean {
  const dot = 46;
  return name.bytes[name.off] === dot
    && (name.len === 1 || (name.len === 2 && name.bytes[name.off + 1] === dot));
}

/** Offsets and lengths. @throws EFBIG above 2^63 - 1 */
function checked(p: BytePos): BytePos {
  if (!isPos(p)) throw errnoError('EFBIG');
  return p;
}

/** What the kernel does with a handle: fuse.md 2, "Open reply flags". */
function openFlags(r: Request, flags: number): number {
  const direct = (flags & P.O_ACCMODE) !== P.O_RDONLY || r.open.direct;
  return P.FOPEN_NOFLUSH | (direct ? P.FOPEN_DIRECT_IO : P.FOPEN_KEEP_CACHE);
}

