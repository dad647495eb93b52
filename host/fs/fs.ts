/**
 * The file system of a mount, as the kernel's requests see it.
 *
 * This class only connects: it turns the border's objects (`vfs.ts`) into calls
 * of the parts, keeps the open map exact for what the kernel names, and starts
 * deletions when the kernel lets go. Each part says which locks it takes.
 *
 * `unlinked` holds inodes whose last link this mount removed while the kernel
 * still uses them; their eviction tries the deletion. What is forgotten here (a
 * crash, another mount's unlink) the orphan scan finds. Source: inode.md 13,
 * dir.md 11, data.md 11, xattr.md 10, super.md 5 and 9.
 */
import { DATA_DEV_START_BLKNO, LOCK_INODE_GROUP_NR, ROOT_INO } from '../core/constants.js';
import type { BytePos } from '../core/bytepos.js';
import type { NetStatfs } from '../core/format.js';
import type { Items } from '../core/items.js';
import type { Clock, TimerHandle } from '../env/clock.js';
import type { Device } from '../env/device.js';
import type { Op } from '../mount/op.js';
import { Counters } from '../observe/counters.js';
import type { Pending } from '../observe/pending.js';
import { MODE_NULL, MODE_READ, MODE_WRITE, Wait } from '../mount/op.js';
import type { LockMode } from '../mount/op.js';
import { Acls, aclName } from './acl_xattr.js';
import { BlockCache, Buffers } from './block_cache.js';
import type { DataAlloc, PreallocOptions } from './block_map.js';
import { BlockMap } from './block_map.js';
import type { FsContext, OpenMap } from './context.js';
import type { DataContext } from './data.js';
import { Data } from './data.js';
import { DataWaiters } from './data_waiters.js';
import type { TransData } from './data_writer.js';
import { DataWriter } from './data_writer.js';
import { Deletes } from './delete.js';
import { Dirs, newSymlink } from './dir.js';
import { BLOCK_BYTES, Extents } from './ext.js';
import { DataGuard } from './guard.js';
import { IndexHold } from './index_hold.js';
import type { IoctlDeps } from './ioctl.js';
import { Ioctls } from './ioctl.js';
import { Inodes, fillAttr, rdevFromUser } from './inode.js';
import { InodeRec, S_IFDIR, S_IFMT, S_IFREG } from './inode_item.js';
import { Quotas } from './quota.js';
import type { TotalSource } from './quota.js';
import { Renames } from './rename.js';
import { Space } from './space.js';
import { fillStatfs } from './statfs.js';
import type {
  AttrOut, Call, Caller, DirSink, EntryOut, IoctlIn, IoctlOut, Name, OpSource, OpenOut, ReadIn,
  SetAttr, StatfsOut, VfsOps, WriteIn,
} from './vfs.js';
import { XATTR_REPLACE } from './vfs.js';
import { Xattrs } from './xattr.js';

const O_ACCMODE = 3;
const O_RDWR = 2;
/** Between attempts to delete what others use; doubled each time, two minutes in all. */
const RETRY_FIRST_MS = 250;
const RETRIES_MAX = 9;
/** Inodes that wait for another attempt; more are left to scans. */
const RETRYING_MAX = 10_000;
/** How long after its arrival the server's answer may be used by the request that asked. */
const STATFS_AGE_MAX_MS = 50;

/** Everything the file system is built on. */
export interface FsDeps {
  items: Items;
  /** Background operations: deletions. */
  ops: OpSource;
  openMap: OpenMap;
  dataAlloc: DataAlloc;
  dataDevice: Device;
  transData: TransData;
  clock: Clock;
  formatVersion: number;
  /** POSIX ACLs are used; default true. */
  acl?: boolean;
  prealloc: PreallocOptions;
  counters?: Counters;
  totals: TotalSource;
  /** The server's counts. */
  statfs(): Promise<NetStatfs>;
  /** Commits and waits. */
  sync(): Promise<void>;
  /** Commits because space ran out in the open transaction. */
  requestCommit(): Promise<void>;
  /** Whether the caller has CAP_SYS_ADMIN. */
  isAdmin(caller: Caller): boolean;
  /** What ioctls need beside the file system. */
  ioctl: Omit<IoctlDeps, 'inodes' | 'isAdmin'>;
  /** A background task failed; the orphan scan will try again. */
  failed(what: string, error: unknown): void;
}

export class FileSystem implements VfsOps {
  readonly waiters = new DataWaiters();
  readonly deletes: Deletes;
  readonly quotas: Quotas;
  private readonly cx: FsContext;
  private readonly inodes: Inodes;
  private readonly dirs: Dirs;
  private readonly renames: Renames;
  private readonly xattrs: Xattrs;
  private readonly acls: Acls;
  private readonly ioctls: Ioctls;
  private readonly blocks: BlockCache;
  private readonly space: Space;
  private readonly data: Data;
  private readonly writer: DataWriter;
  private readonly unlinked = new Set<number>();
  private readonly deleting = new Set<Promise<void>>();
  /** Deletions that wait for users elsewhere. */
  private readonly retries = new Map<number, TimerHandle>();
  private ending = false;
  private readonly scratch = new InodeRec();
  /** Answers to statfs requests that are about to run again. */
  private readonly stats = new WeakMap<Op, { value: NetStatfs; atMs: number }>();

  constructor(private readonly deps: FsDeps) {
    const { items, openMap, clock, formatVersion, dataDevice } = deps;
    const hold = new IndexHold(items, formatVersion);
    const base = { items, openMap, clock, formatVersion, hold, acl: deps.acl ?? true };
    this.quotas = new Quotas(base, deps.totals);
    this.cx = { ...base, quotas: this.quotas };
    this.inodes = new Inodes(this.cx);
    this.xattrs = new Xattrs(this.cx, this.inodes);
    this.acls = new Acls(this.cx, this.inodes, this.xattrs);
    this.dirs = new Dirs(this.cx, this.inodes, this.acls);
    this.renames = new Renames(this.cx, this.inodes, this.dirs);
    this.ioctls = new Ioctls({
      ...deps.ioctl, inodes: this.inodes, isAdmin: (caller) => deps.isAdmin(caller),
    });
    const extents = new Extents(items, DATA_DEV_START_BLKNO,
      () => Math.floor(dataDevice.sizeBytes / BLOCK_BYTES));
    const buffers = new Buffers();
    this.blocks = new BlockCache(dataDevice, buffers);
    const guard = new DataGuard();
    this.writer = new DataWriter(dataDevice, guard, deps.transData, clock,
      (what, e) => { deps.failed(what, e); });
    const d: DataContext = {
      cx: this.cx, inodes: this.inodes, xattrs: this.xattrs, extents, guard,
      waiters: this.waiters,
      map: new BlockMap(extents, deps.dataAlloc, deps.prealloc),
      blocks: this.blocks, buffers, device: dataDevice, writer: this.writer,
      counters: deps.counters ?? new Counters(),
      requestCommit: () => deps.requestCommit(),
    };
    this.space = new Space(d, this.acls);
    this.data = new Data(d, this.space);
    this.deletes = new Deletes(d, this.xattrs, deps.ops);
  }

  /** File data that the device has not taken. */
  pending(): Pending[] {
    return this.writer.pending();
  }

  lookup(op: Op, _call: Call, dir: number, name: Name, out: EntryOut): void {
    const inode = this.dirs.lookup(op, dir, name);
    out.ino = 0;
    if (inode !== null) this.entry(inode, out);
  }

  byNumber(op: Op, _call: Call, ino: number, out: EntryOut): void {
    this.entry(this.dirs.byNumber(op, ino), out);
  }

  parentOf(op: Op, _call: Call, dir: number): number {
    return this.dirs.parentOf(op, dir);
  }

  evict(ino: number): void {
    if (ino === ROOT_INO) return;
    this.cx.openMap.clear(ino);
    if (this.unlinked.delete(ino)) this.deleteLater(ino);
  }

  getattr(op: Op, _call: Call, ino: number, out: AttrOut): void {
    const inode = this.inodes.read(op.lockInode(ino, MODE_READ), ino, this.scratch);
    // removed by another mount: whoever uses it last deletes it
    if (inode.nlink === 0 && this.cx.openMap.isOpen(ino)) this.unlinked.add(ino);
    fillAttr(inode, out.attr);
  }

  setattr(op: Op, _call: Call, ino: number, set: SetAttr, out: AttrOut):
  Promise<void> | undefined {
    const inode = this.space.setattr(op, ino, set);
    if (inode instanceof Promise) return inode.then((r) => { fillAttr(r, out.attr); });
    fillAttr(inode, out.attr);
    return undefined;
  }

  readlink(op: Op, _call: Call, ino: number): Uint8Array {
    return this.dirs.readlink(op, ino);
  }

  symlink(op: Op, call: Call, dir: number, name: Name, target: Name, out: EntryOut): void {
    this.entry(this.dirs.make(op, call, dir, name, newSymlink(target)), out);
  }

  mknod(op: Op, call: Call, dir: number, name: Name, mode: number, umask: number, rdev: number,
    out: EntryOut): void {
    const what = { mode, umask, rdev: rdevFromUser(rdev) };
    this.entry(this.dirs.make(op, call, dir, name, what), out);
  }

  mkdir(op: Op, call: Call, dir: number, name: Name, mode: number, umask: number,
    out: EntryOut): void {
    const what = { mode: typed(mode, S_IFDIR), umask, rdev: 0 };
    this.entry(this.dirs.make(op, call, dir, name, what), out);
  }

  create(op: Op, call: Call, dir: number, name: Name, mode: number, umask: number,
    flags: number, out: EntryOut, open: OpenOut): void {
    const what = { mode: typed(mode, S_IFREG), umask, rdev: 0 };
    this.entry(this.dirs.make(op, call, dir, name, what), out);
    open.fh = flags;
  }

  tmpfile(op: Op, call: Call, dir: number, mode: number, umask: number, flags: number,
    out: EntryOut, open: OpenOut): void {
    const inode = this.dirs.tmpfile(op, call, dir, typed(mode, S_IFREG), umask);
    this.unlinked.add(inode.ino);
    this.entry(inode, out);
    open.fh = flags;
  }

  unlink(op: Op, _call: Call, dir: number, name: Name): void {
    this.dropped(this.dirs.unlink(op, dir, name, false));
  }

  rmdir(op: Op, _call: Call, dir: number, name: Name): void {
    this.dropped(this.dirs.unlink(op, dir, name, true));
  }

  rename(op: Op, _call: Call, dir: number, name: Name, newDir: number, newName: Name,
    flags: number): void {
    const replaced = this.renames.rename(op, dir, name, newDir, newName, flags);
    if (replaced !== null) this.dropped(replaced);
  }

  link(op: Op, _call: Call, ino: number, newDir: number, newName: Name, out: EntryOut): void {
    const inode = this.dirs.link(op, ino, newDir, newName);
    this.unlinked.delete(ino);
    this.entry(inode, out);
  }

  open(op: Op, _call: Call, ino: number, flags: number, out: OpenOut): void {
    const mode = (flags & O_ACCMODE) === O_RDWR ? MODE_WRITE : MODE_READ;
    const inode = this.inodes.read(op.lockInode(ino, mode), ino, this.scratch);
    this.cx.openMap.set(ino);
    out.direct = inode.offlineBlocks > 0;
    // All that a handle has to remember.
    out.fh = flags;
  }

  release(): void {
    // Handles have no state but their number: the dispatcher counts them and calls `evict`.
  }

  read(op: Op, call: Call, ino: number, read: ReadIn): Uint8Array | Promise<Uint8Array> {
    return this.data.read(op, call, ino, read);
  }

  write(op: Op, _call: Call, ino: number, write: WriteIn): number | Promise<number> {
    return this.data.write(op, ino, write);
  }

  fsync(): Promise<void> {
    return this.deps.sync();
  }

  fallocate(op: Op, _call: Call, ino: number, _fh: number, mode: number, offset: BytePos,
    lenBytes: BytePos): Promise<void> | undefined {
    return this.space.fallocate(op, ino, mode, offset, lenBytes);
  }

  lseek(op: Op, _call: Call, ino: number, offset: BytePos, whence: number): BytePos {
    return this.data.lseek(op, ino, offset, whence);
  }

  opendir(op: Op, _call: Call, ino: number, out: OpenOut): void {
    this.inodes.readDir(op.lockInode(ino, MODE_READ), ino);
    this.cx.openMap.set(ino);
    out.fh = 0;
  }

  releasedir(): void {
    // As `release`.
  }

  readdir(op: Op, _call: Call, ino: number, _fh: number, pos: number, sink: DirSink): void {
    this.dirs.readdir(op, ino, pos, sink);
  }

  statfs(op: Op, _call: Call, out: StatfsOut): void {
    const { clock } = this.deps;
    const answer = this.stats.get(op);
    this.stats.delete(op);
    if (answer === undefined || clock.monotonicMs() - answer.atMs > STATFS_AGE_MAX_MS) {
      throw new Wait(this.deps.statfs().then((value) => {
        this.stats.set(op, { value, atMs: clock.monotonicMs() });
      }));
    }
    fillStatfs(answer.value, out);
  }

  setxattr(op: Op, call: Call, ino: number, name: Name, value: Uint8Array, flags: number,
    killSgid = false): void {
    const acl = aclName(name);
    if (acl !== null) this.acls.set(op, ino, acl, value, killSgid);
    else this.xattrs.set(op, ino, name, value, flags, () => this.deps.isAdmin(call));
  }

  getxattr(op: Op, _call: Call, ino: number, name: Name): Uint8Array {
    const acl = aclName(name);
    return acl !== null ? this.acls.get(op, ino, acl) : this.xattrs.get(op, ino, name);
  }

  listxattr(op: Op, _call: Call, ino: number): Uint8Array {
    return this.xattrs.list(op, ino);
  }

  removexattr(op: Op, call: Call, ino: number, name: Name): void {
    const acl = aclName(name);
    if (acl !== null) this.acls.set(op, ino, acl, null, false);
    else this.xattrs.set(op, ino, name, null, XATTR_REPLACE, () => this.deps.isAdmin(call));
  }

  ioctl(op: Op, call: Call, ino: number, req: IoctlIn, out: IoctlOut):
  Promise<void> | undefined {
    return this.ioctls.run(op, call, ino, req, out);
  }

  /** I(group) is reduced to `to`: those who wait for data of its inodes look again. */
  lockLost(firstIno: number, nr: number, to: LockMode): void {
    if (to === MODE_NULL) this.blocks.drop(firstIno, nr);
    this.waiters.changedGroup(firstIno, nr);
  }

  private entry(inode: InodeRec, out: EntryOut): void {
    out.ino = inode.ino;
    fillAttr(inode, out.attr);
  }

  /** A link went away. */
  private dropped(inode: InodeRec): void {
    if (inode.nlink > 0) return;
    if (this.cx.openMap.isOpen(inode.ino)) this.unlinked.add(inode.ino);
    else this.deleteLater(inode.ino);
  }

  /** @param retry how many attempts have found the inode in use elsewhere */
  private deleteLater(ino: number, retry = 0): void {
    const attempt = this.deletes.attempt(ino).then((result) => {
      if (result === 'busy') this.retryDelete(ino, retry);
    }, (e: unknown) => {
      this.deps.failed(`deleting inode ${ino}`, e);
    }).finally(() => { this.deleting.delete(attempt); });
    this.deleting.add(attempt);
  }

  /**
   * Another mount uses an inode without links. Scans find it only when log trees have been
   * merged, which can take long; so it is asked for again, less and less often and without
   * taking the lock from its users.
   */
  private retryDelete(ino: number, retry: number): void {
    if (retry === RETRIES_MAX || this.ending || this.retries.size >= RETRYING_MAX) return;
    const again = (): void => {
      this.retries.delete(ino);
      if (this.cx.openMap.isOpen(ino)) return;
      this.cx.openMap.askGroup(Math.floor(ino / LOCK_INODE_GROUP_NR)).then((remote) => {
        if (remote.has(ino)) this.retryDelete(ino, retry + 1);
        else if (!this.ending) this.deleteLater(ino, retry + 1);
      }, () => undefined);
    };
    this.retries.get(ino)?.cancel();
    this.retries.set(ino, this.deps.clock.after(RETRY_FIRST_MS * 2 ** retry, again));
  }

  /** Resolves when no deletion is running any more; none will be tried again. */
  async deletionsDone(): Promise<void> {
    this.ending = true;
    for (const timer of this.retries.values()) timer.cancel();
    this.retries.clear();
    while (this.deleting.size > 0) await Promise.all(this.deleting);
  }
}

function typed(mode: number, type: number): number {
  return (mode & ~S_IFMT) | type;
}
