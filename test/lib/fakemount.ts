/**
 * A mount without a cluster for tests of the file system row: the strict item
 * cache, locks that are always granted (after a random wait), transactions that
 * change their seq at random, an allocator that can run dry, and a device in
 * memory. `call` does what the FUSE channel does with an operation.
 */
import { CallerMemory } from '../../host/env/caller_mem.js';
import { alignedMemory } from '../../host/env/device.js';
import {
  FS_ZONE, INODE_INDEX_ZONE, INODE_TYPE, Inode, LOCK_ZONE, ORPHAN_TYPE, ORPHAN_ZONE, QUOTA_ZONE,
  RENAME_TYPE,
  XATTR_INDX_ZONE, XATTR_TOTL_ZONE,
} from '../../host/core/format.js';
import type { LockPtr } from '../../host/core/items.js';
import type { DataAlloc } from '../../host/fs/block_map.js';
import type { OpenMap, RemoteOpen } from '../../host/fs/context.js';
import type { FsDeps } from '../../host/fs/fs.js';
import { FileSystem } from '../../host/fs/fs.js';
import type { Attr, Call, EntryOut, Name, OpSource, OpenOut } from '../../host/fs/vfs.js';
import type { LockMode, Op } from '../../host/mount/op.js';
import { MODE_READ, MODE_WRITE, MODE_WRITE_ONLY, Wait } from '../../host/mount/op.js';
import { errnoError } from '../../host/observe/errors.js';
import { FakeItems, keyString, seeded } from './fakeitems.js';
import { MemDevice } from './memdevice.js';
import { SimClock } from './simclock.js';

const U64 = (1n << 64n) - 1n;
const BLOCK = 4096;

export interface FakeOptions {
  seed?: number;
  waitChance?: number;
  /** Blocks of the data device. */
  dataBlocks?: number;
  /** Chance that an allocation answers ENOBUFS. */
  dryChance?: number;
  /** Chance that an allocation is shorter than asked for. */
  shortChance?: number;
  preallocBlocks?: number;
  contigOnly?: boolean;
  formatVersion?: number;
  acl?: boolean;
}

/** Data blocks, handed out ascending; freed ones come back with the next commit. */
export class FakeAlloc implements DataAlloc {
  readonly used = new Set<number>();
  readonly requests: number[] = [];
  readonly freed: [number, number][] = [];
  nextBlkno = 1000;

  constructor(
    private readonly m: { readonly blocks: number; random: () => number; dry: number;
      short: number; },
  ) {}

  prepare(): void {
    // Nothing can be missing.
  }

  alloc(countBlocks: number): ReturnType<DataAlloc['alloc']> {
    if (this.m.random() < this.m.dry) return 'ENOBUFS';
    this.requests.push(countBlocks);
    if (this.nextBlkno >= this.m.blocks) return 'ENOSPC';
    let count = Math.min(countBlocks, this.m.blocks - this.nextBlkno);
    if (count > 1 && this.m.random() < this.m.short) {
      count = 1 + Math.floor(this.m.random() * count);
    }
    const blkno = this.nextBlkno;
    for (let i = 0; i < count; i++) this.used.add(blkno + i);
    this.nextBlkno += count;
    return { blkno, count };
  }

  free(blkno: number, countBlocks: number): void {
    for (let i = 0; i < countBlocks; i++) {
      if (!this.used.delete(blkno + i)) throw new Error(`block ${blkno + i} freed twice`);
    }
    this.freed.push([blkno, countBlocks]);
  }
}

class FakeOp implements Op {
  private readonly held = new Map<string, LockPtr>();
  private readonly inos = new Map<boolean, number>();
  private srchReady = false;

  constructor(private readonly m: FakeMount) {}

  private lock(name: string, start: string, end: string, mode: number): LockPtr {
    const had = this.held.get(name);
    if (had !== undefined) {
      const rec = this.m.items.locks[had];
      if (rec !== undefined && mode === MODE_WRITE) rec.mode = mode;
      return had;
    }
    if (this.m.strictChange) throw new Error(`lock ${name} asked for in the change part`);
    this.m.maybeWait();
    const ptr = this.m.items.addLock(name, start, end, mode);
    this.held.set(name, ptr);
    return ptr;
  }

  lockInode(ino: number, mode: LockMode): LockPtr {
    const g = ino - ino % 1024;
    return this.lock(`I(${g})`, keyString(FS_ZONE, g, 0, 0, 0, 0),
      keyString(FS_ZONE, g + 1023, 255, U64, U64, 255), mode);
  }

  lockRename(): LockPtr {
    const k = keyString(LOCK_ZONE, 0, RENAME_TYPE, 0, 0, 0);
    return this.lock('RENAME', k, k, MODE_WRITE);
  }

  lockQuota(): LockPtr {
    this.m.quotaLocks += 1;
    return this.lock('QUOTA', keyString(QUOTA_ZONE, 0, 0, 0, 0, 0),
      keyString(QUOTA_ZONE, U64, 255, U64, U64, 255), MODE_READ);
  }

  lockOrphan(): LockPtr {
    return this.lock('ORPHAN', keyString(ORPHAN_ZONE, 0, ORPHAN_TYPE, 0, 0, 0),
      keyString(ORPHAN_ZONE, 0, ORPHAN_TYPE, U64, 0, 0), MODE_WRITE_ONLY);
  }

  lockTotl(): LockPtr {
    return this.lock('TOTL', keyString(XATTR_TOTL_ZONE, 0, 0, 0, 0, 0),
      keyString(XATTR_TOTL_ZONE, U64, 255, U64, U64, 255), MODE_WRITE_ONLY);
  }

  lockIndx(): LockPtr {
    return this.lock('INDX', keyString(XATTR_INDX_ZONE, 0, 0, 0, 0, 0),
      keyString(XATTR_INDX_ZONE, U64, 255, U64, U64, 255), MODE_WRITE_ONLY);
  }

  lockIndex(type: number, seq: number): LockPtr {
    const g = seq - seq % 1024;
    return this.lock(`INDEX(${type},${g})`, keyString(INODE_INDEX_ZONE, 0, type, g, 0, 0),
      keyString(INODE_INDEX_ZONE, 0, type, g + 1023, U64, 0), MODE_WRITE_ONLY);
  }

  transSeq(): number {
    return this.m.transSeq;
  }

  hold(allocating: boolean): void {
    if (this.m.strictChange) throw new Error('two transactions in one tick');
    this.m.maybeWait();
    if (allocating && this.m.metaLow) throw errnoError('ENOSPC');
    this.m.items.startChange();
    this.srchReady = false;
  }

  prepareSrch(): void {
    if (!this.m.items.changing && !this.m.items.lenient) throw new Error('srch before hold');
    if (this.m.random() < this.m.waitChance) throw new Wait(Promise.resolve());
    this.srchReady = true;
  }

  addSrch(name: Uint8Array, ino: number, id: number): void {
    if (!this.srchReady) throw new Error('a srch entry that was not prepared');
    this.m.srchLog.push(`${Buffer.from(name).toString('latin1')} ${ino} ${id}`);
  }

  addInodeCount(delta: number): void {
    const { changing, lenient } = this.m.items;
    if (!changing && !lenient) throw new Error('inode count outside of a transaction');
    this.m.inodeCount += delta;
  }

  allocIno(isDir: boolean): number {
    const had = this.inos.get(isDir);
    if (had !== undefined) return had;
    this.m.maybeWait();
    const ino = isDir ? this.m.nextDirIno++ : this.m.nextIno++;
    this.inos.set(isDir, ino);
    return ino;
  }
}

class FakeOpenMap implements OpenMap {
  readonly open = new Set<number>();
  readonly remote = new Set<number>();
  isOpen(ino: number): boolean { return this.open.has(ino); }
  set(ino: number): void { this.open.add(ino); }
  clear(ino: number): void { this.open.delete(ino); }
  fetchGroup(): RemoteOpen { return this.remote; }
  askGroup(): Promise<RemoteOpen> { return Promise.resolve(this.remote); }
  forget(): void { /* nothing is remembered */ }
}

export class FakeMount {
  readonly items: FakeItems;
  readonly openMap = new FakeOpenMap();
  readonly clock = new SimClock();
  readonly device: MemDevice;
  readonly alloc: FakeAlloc;
  readonly random: () => number;
  readonly fs: FileSystem;
  readonly failures: string[] = [];
  readonly prealloc: { preallocBlocks: number; contigOnly: boolean };
  transSeq = 5;
  inodeCount = 1;
  nextIno = 2048;
  nextDirIno = 1_000_000;
  metaLow = false;
  commits = 0;
  admin = true;
  /** Totals as a weak reader finds them, and how often it was asked. */
  readonly totals = new Map<string, { total: bigint; count: bigint }>();
  totalReads = 0;
  quotaLocks = 0;
  /** Srch entries as "name ino id", in the order in which they were appended. */
  readonly srchLog: string[] = [];
  private readonly pendingWrites = new Set<Promise<void>>();
  readonly waitChance: number;

  constructor(o: FakeOptions = {}) {
    this.random = seeded(o.seed ?? 1);
    this.waitChance = o.waitChance ?? 0;
    this.items = new FakeItems(this.random);
    this.items.waitChance = this.waitChance;
    const blocks = o.dataBlocks ?? 100_000;
    this.device = new MemDevice('data', blocks * BLOCK);
    this.alloc = new FakeAlloc({
      blocks, random: this.random, dry: o.dryChance ?? 0, short: o.shortChance ?? 0,
    });
    this.prealloc = {
      preallocBlocks: o.preallocBlocks ?? 2048, contigOnly: o.contigOnly ?? true,
    };
    this.fs = new FileSystem(this.deps(o.formatVersion ?? 2, o.acl ?? true));
    this.makeRoot(o.formatVersion ?? 2);
  }

  readonly ops: OpSource = { begin: () => new FakeOp(this), end: () => undefined };

  private deps(formatVersion: number, acl: boolean): FsDeps {
    const { ops } = this;
    return {
      items: this.items, ops, openMap: this.openMap, dataAlloc: this.alloc,
      dataDevice: this.device, clock: this.clock, formatVersion, acl, prealloc: this.prealloc,
      transData: {
        givenUp: () => false,
        addWrite: (io) => {
          this.pendingWrites.add(io);
          io.finally(() => this.pendingWrites.delete(io)).catch(() => undefined);
        },
      },
      statfs: () => Promise.resolve({
        uuid: new Uint8Array(16), freeMetaBlocks: 900, totalMetaBlocks: 1000,
        freeDataBlocks: this.alloc.nextBlkno, totalDataBlocks: 100_000,
        inodeCount: this.inodeCount,
      }),
      totals: {
        read: (name) => {
          this.totalReads += 1;
          return Promise.resolve(this.totals.get(name.join('.')) ?? null);
        },
      },
      sync: () => this.commit(),
      requestCommit: () => this.commit(),
      isAdmin: () => this.admin,
      ioctl: {
        memory: new CallerMemory(() => undefined),
        statfsMore: () => Promise.reject(errnoError('ENOTCONN')),
        allocDetail: () => Promise.reject(errnoError('ENOTCONN')),
        resizeDevices: () => Promise.reject(errnoError('ENOTCONN')),
      },
      failed: (what, e) => { this.failures.push(`${what}: ${String(e)}`); },
    };
  }

  /** The root as mkfs makes it. */
  private makeRoot(formatVersion: number): void {
    const val = new Uint8Array(Inode.size);
    const t = { sec: 1n, nsec: 0 };
    Inode.write(new DataView(val.buffer), 0, {
      size: 0, metaSeq: 0, dataSeq: 0, dataVersion: 0, onlineBlocks: 0, offlineBlocks: 0,
      nextReaddirPos: 2, nextXattrId: 0, version: 0, nlink: 2, uid: 0, gid: 0, mode: 0o40755,
      rdev: 0, flags: 0, atime: t, ctime: t, mtime: t, crtime: t, proj: 0,
    });
    this.plant(keyString(FS_ZONE, 1, INODE_TYPE, 0, 0, 0),
      formatVersion >= 2 ? val : val.subarray(0, 160));
    this.plant(keyString(INODE_INDEX_ZONE, 0, 4, 0, 1, 0), new Uint8Array(0));
  }

  /** Puts an item into the store behind everyone's back. */
  plant(key: string, val: Uint8Array): void {
    if (!this.items.store.has(key)) {
      this.items.keys.push(key);
      this.items.keys.sort();
    }
    this.items.store.set(key, val.slice());
  }

  /** Takes an item out of the store likewise. */
  unplant(key: string): void {
    this.items.keys = this.items.keys.filter((k) => k !== key);
    this.items.store.delete(key);
  }

  /** A change part is running, and operations do not share ticks. */
  get strictChange(): boolean {
    return this.items.changing && !this.items.lenient;
  }

  maybeWait(): void {
    if (this.items.changing) return;
    if (this.random() >= this.waitChance) return;
    throw new Wait(Promise.resolve().then(() => {
      if (this.random() < 0.3) this.newSeq();
    }));
  }

  newSeq(): void {
    this.transSeq += 1 + Math.floor(this.random() * 700);
  }

  async commit(): Promise<void> {
    await Promise.all(this.pendingWrites);
    this.commits += 1;
    this.newSeq();
  }

  /** Runs an operation as the FUSE channel does. */
  async run<T>(fn: (op: Op) => T | Promise<T>): Promise<T> {
    if (this.random() < 0.1) this.newSeq();
    let op = new FakeOp(this);
    for (;;) {
      this.items.newAttempt();
      try {
        const result = await fn(op);
        await Promise.resolve();
        return result;
      } catch (e) {
        if (!(e instanceof Wait)) throw e;
        if (e.unlock) op = new FakeOp(this);
        await e.ready;
      }
    }
  }

  readonly caller: Call = {
    uid: 1000, gid: 1000, pid: 1, suppGid: -1,
    lend: () => alignedMemory(1048576 + 4096),
    keepData: () => () => undefined,
  };
}

export function nameOf(s: string | Uint8Array): Name {
  const b = typeof s === 'string' ? Buffer.from(s) : s;
  const bytes = new Uint8Array(b.length + 3);
  bytes.set(b, 3);
  return { bytes, off: 3, len: b.length };
}

export function newAttr(): Attr {
  return {
    ino: 0, size: 0, blocks: 0, atimeSec: 0, atimeNsec: 0, mtimeSec: 0, mtimeNsec: 0, ctimeSec: 0,
    ctimeNsec: 0, crtimeSec: 0, crtimeNsec: 0, mode: 0, nlink: 0, uid: 0, gid: 0, rdev: 0,
    blksize: 0,
  };
}

export function newEntry(): EntryOut {
  return { attr: newAttr(), attrCacheable: true, ino: 0, entryCacheable: true };
}

export function newOpen(): OpenOut {
  return { fh: 0, direct: false };
}
