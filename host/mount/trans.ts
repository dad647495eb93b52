/**
 * The mount's one open transaction.
 *
 * Everything the mount changes belongs to the transaction that the last GET_LOG_TREES
 * opened: dirty items, freed and allocated blocks, file data of newly mapped blocks.
 * Operations change it in one tick each, so "no holders" needs no counting: a commit
 * begins by refusing new holds, and from then on nobody is inside.
 *
 *   open --commit()--> committing: group A until it succeeds, then group B --> open
 *
 *   A  wait for data writes; write dirty items into the log tree; give cached data
 *      extents back; finish the allocator; write blocks; flush both devices; send
 *      COMMIT_LOG_TREES; mark items clean
 *   B  GET_LOG_TREES; start over with what it returns
 *
 * Each group is repeated on its own every 2 seconds until it succeeds, because a
 * commit may follow a get only once; only a forced shutdown ends the repetition.
 * Items already applied to the log tree are not applied again by a repetition.
 * Unlike upstream both devices are flushed before the commit is sent.
 * Source: trans.md 1 to 6, client.md 4.
 */
import type { Core } from '../core/core.js';
import {
  AllocListHead, AllocRoot, ALLOC_FLAG_LOW, BLOCK_SM_SIZE, LogTrees,
} from '../core/format.js';
import { Rec, TreeSpace } from '../core/trees.js';
import type { Clock, TimerHandle } from '../env/clock.js';
import type { Device } from '../env/device.js';
import { asScoutfsError, assert, errnoError } from '../observe/errors.js';
import { C, Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import { DataExtents } from './data_extents.js';
import { Wait } from './op.js';
import { SrchLog } from './srch.js';

/** A commit follows the previous one after this time if anything changed. */
export const SYNC_DEADLINE_MS = 10_000;
const RETRY_MS = 2000;
/** Where a log_trees struct has its srch_file. */
const SRCH_FILE_OFFSET = 184;
/** Numbers kept for the commit itself and for operations in a low file system. */
const META_RESERVE_BLOCKS = 256;
/** Below this many free data blocks a commit asks for more. */
const DATA_REFILL_BLOCKS = 65536;
/** Dirty items written between two looks at the clock: keeps ticks short. */
const WRITE_BATCH_ITEMS = 2000;
/** Item changes that one tick may need memory for. */
const RESERVE_ITEMS = 128;
/** The cache may hold this share of its slots dirty. */
const DIRTY_SLOT_SHARE = 0.5;

/** The two requests of a transaction's life. */
export interface TransClient {
  getLogTrees(): Promise<LogTrees>;
  commitLogTrees(lt: LogTrees): Promise<void>;
}

export interface TransDeps {
  core: Core;
  client: TransClient;
  metaDevice: Device;
  dataDevice: Device;
  clock: Clock;
  log: Log;
  /** Blocks of the data device. */
  counters?: Counters;
}

type CommitReason =
  'trans_commit_dirty_meta_full' | 'trans_commit_meta_alloc_low' | 'trans_commit_data_alloc_low';

export class Trans {
  /** Seq of the open transaction; 0 before the first. */
  seq = 0;
  /** Inodes created minus deleted in this log tree. */
  inodeCountDelta = 0n;
  readonly space: TreeSpace;
  readonly dataExtents: DataExtents;
  readonly srch: SrchLog;
  readonly stats = { commits: 0, retries: 0, itemsWritten: 0 };
  private lt: LogTrees | null = null;
  /** The struct in core memory: items' roots and seqs and the srch file change in place. */
  private readonly rec: Rec;
  private readonly dataAvail: Rec;
  private readonly dataFreed: Rec;
  private running: Promise<void> | null = null;
  private dirty = false;
  private forced = false;
  private stopped = false;
  private askedForMore = false;
  private timer: TimerHandle | null = null;
  /** What is being repeated because it failed. */
  private failing: Pending | null = null;
  private readonly counters: Counters;
  private readonly dataWrites = new Set<Promise<unknown>>();

  constructor(private readonly deps: TransDeps) {
    const core = deps.core;
    this.counters = deps.counters ?? new Counters();
    this.space = new TreeSpace(core);
    this.rec = new Rec(core, LogTrees.size);
    this.dataAvail = new Rec(core, AllocRoot.size);
    this.dataFreed = new Rec(core, AllocRoot.size);
    this.dataExtents = new DataExtents(this.space);
    this.srch = new SrchLog(this.space);
  }

  /** Opens the first transaction. @throws what GET_LOG_TREES failed with */
  async start(): Promise<void> {
    this.open(await this.deps.client.getLogTrees());
    this.armDeadline();
  }

  /** @throws Wait while a commit is in progress; EINVAL before the first transaction */
  currentSeq(): number {
    if (this.running !== null) throw new Wait(this.settled(this.running));
    if (this.forced) throw errnoError('ENOLINK');
    assert(this.seq !== 0, 'a transaction is open');
    return this.seq;
  }

  /**
   * Enters the transaction for the rest of this tick. @throws Wait when a commit is
   * running or has to come first; ENOSPC for allocating holds when metadata is low
   */
  hold(allocating: boolean): void {
    this.currentSeq();
    if (allocating && this.metaLow) throw errnoError('ENOSPC');
    const reason = this.commitFirst();
    if (reason !== null) {
      this.counters.inc(C[reason]);
      throw new Wait(this.settled(this.commit()));
    }
    this.dirty = true;
  }

  get metaLow(): boolean {
    return this.lt !== null && (this.lt.metaAvail.flags & ALLOC_FLAG_LOW) !== 0;
  }

  /** A data write that has to be on the device before the commit is sent. */
  addDataWrite(p: Promise<unknown>): void {
    const done = (): void => { this.dataWrites.delete(tracked); };
    const tracked: Promise<unknown> = p.then(done, done);
    this.dataWrites.add(tracked);
  }

  /** Whether anything changed since the transaction was opened. */
  get isDirty(): boolean {
    return this.dirty || this.running !== null;
  }

  /** Makes everything durable that was changed before the call. @throws ENOLINK when forced down */
  async sync(): Promise<void> {
    if (this.running !== null) await this.running;
    if (this.dirty || this.dataWrites.size > 0) await this.commit();
  }

  /** Commits what is dirty, so that it can be evicted. @returns false when nothing was */
  async makeRoom(): Promise<boolean> {
    if (!this.isDirty) return false;
    await this.commit();
    return true;
  }

  /**
   * Commits the open transaction; joins the one in progress. Resolves when the next one
   * is open. @throws ENOLINK when forced down
   */
  commit(): Promise<void> {
    this.running ??= this.runCommit().finally(() => {
      this.running = null;
      this.armDeadline();
    });
    return this.running;
  }

  /** A commit that fails and is repeated. */
  pending(): Pending[] {
    return this.failing === null ? [] : [this.failing];
  }

  /** No commit will succeed any more and nothing is written. */
  force(): void {
    this.forced = true;
    this.timer?.cancel();
  }

  /** The last commit of an unmount; then no more deadlines. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.timer?.cancel();
    if (!this.forced && this.seq !== 0) await this.sync();
  }

  private async settled(p: Promise<void>): Promise<void> {
    await p;
  }

  /** Why a commit has to come before the next change; null when it need not. */
  private commitFirst(): CommitReason | null {
    const x = this.deps.core.x;
    const need = Math.max(META_RESERVE_BLOCKS, 2 * x.itemDirtyPages());
    const room = Math.min(this.space.availNr, this.space.freedRoom);
    const slots = x.blockNrFree() + x.blockNrDirty();
    if (x.blockNrDirty() + 2 * x.itemDirtyPages() >
        slots * DIRTY_SLOT_SHARE + META_RESERVE_BLOCKS) {
      return this.dirty ? 'trans_commit_dirty_meta_full' : null;
    }
    if (room < need) return this.mayHelp() ? 'trans_commit_meta_alloc_low' : null;
    if (!x.itemReserve(RESERVE_ITEMS)) {
      x.itemShrink(RESERVE_SHRINK_BYTES);
      if (!x.itemReserve(RESERVE_ITEMS)) return this.dirty ? 'trans_commit_dirty_meta_full' : null;
    }
    if (this.dataExtents.totalAvail < DATA_REFILL_BLOCKS && !this.dataExtents.low) {
      return this.mayHelp() ? 'trans_commit_data_alloc_low' : null;
    }
    return null;
  }

  /** A commit that just gave too little is not repeated before something has changed. */
  private mayHelp(): boolean {
    if (this.dirty || !this.askedForMore) {
      this.askedForMore = true;
      return true;
    }
    return false;
  }

  private open(lt: LogTrees): void {
    this.lt = lt;
    this.seq = lt.getTransSeq;
    this.inodeCountDelta = lt.inodeCountDelta;
    const head = (h: AllocListHead): Uint8Array => encode(AllocListHead, h);
    this.space.begin(head(lt.metaAvail), head(lt.metaFreed));
    this.rec.set(encode(LogTrees, lt));
    this.dataAvail.set(encode(AllocRoot, lt.dataAvail));
    this.dataFreed.set(encode(AllocRoot, lt.dataFreed));
    this.dataExtents.begin(this.dataAvail, this.dataFreed,
      (lt.dataAvail.flags & ALLOC_FLAG_LOW) !== 0,
      Math.floor(this.deps.dataDevice.sizeBytes / BLOCK_SM_SIZE));
    this.srch.begin(this.rec.ptr + SRCH_FILE_OFFSET);
    this.deps.core.x.itemSetTransSeq(this.seq);
    this.dirty = false;
  }

  private armDeadline(): void {
    this.timer?.cancel();
    if (this.stopped || this.forced) return;
    this.timer = this.deps.clock.after(SYNC_DEADLINE_MS, () => {
      // Only a forced shutdown fails it, which is known. A low file system may have got
      // space back, which only the next transaction is told.
      if (this.dirty || this.metaLow) {
        this.counters.inc(C.trans_commit_timer);
        void this.commit().catch(() => undefined);
      } else {
        this.armDeadline();
      }
    });
  }

  private async runCommit(): Promise<void> {
    if (this.seq === 0) return;
    await this.untilDone('commit', () => this.writeAndCommit());
    this.stats.commits += 1;
    this.counters.inc(C.trans_commit_written);
    const lt = await this.untilDone('open transaction', () => this.deps.client.getLogTrees());
    this.open(lt);
  }

  private async untilDone<T>(what: string, fn: () => Promise<T>): Promise<T> {
    for (;;) {
      if (this.forced) throw errnoError('ENOLINK', `${what}: the mount was forced down`);
      try {
        const done = await fn();
        this.failing = null;
        return done;
      } catch (e) {
        const err = asScoutfsError(e);
        const sinceMs = this.failing?.sinceMs ?? this.deps.clock.monotonicMs();
        this.failing = { kind: 'commit', sinceMs, text: `${what} fails: ${err.message}` };
        this.deps.log.error(`${what} failed, next try in ${RETRY_MS / 1000} s: ${err.message}`);
        this.stats.retries += 1;
        await this.deps.clock.sleep(RETRY_MS);
      }
    }
  }

  /** Group A. Every step may be repeated from the first. */
  private async writeAndCommit(): Promise<void> {
    const { core, client } = this.deps;
    const lt = this.lt;
    assert(lt !== null, 'a transaction is open');
    await Promise.all(this.dataWrites);
    await this.writeItems();
    await this.dataExtents.finish();
    await this.srch.finish();
    const heads = this.space.finish();
    await this.space.write();
    await Promise.all([this.deps.dataDevice.flush(), this.deps.metaDevice.flush()]);
    const written = decode(LogTrees, this.rec.get());
    const done: LogTrees = {
      ...lt,
      metaAvail: { ...decode(AllocListHead, heads.avail), flags: lt.metaAvail.flags },
      metaFreed: { ...decode(AllocListHead, heads.freed), flags: lt.metaFreed.flags },
      itemRoot: written.itemRoot,
      bloomRef: written.bloomRef,
      maxItemSeq: written.maxItemSeq,
      dataAvail: { ...decode(AllocRoot, this.dataAvail.get()), flags: lt.dataAvail.flags },
      dataFreed: { ...decode(AllocRoot, this.dataFreed.get()), flags: lt.dataFreed.flags },
      srchFile: written.srchFile,
      inodeCountDelta: this.inodeCountDelta,
    };
    if (this.forced) throw errnoError('ENOLINK');
    await client.commitLogTrees(done);
    this.space.forget(true);
    core.x.itemWriteDone();
  }

  private async writeItems(): Promise<void> {
    const { core } = this.deps;
    const dirtyItems = core.x.itemDirtyItems();
    if (dirtyItems === 0) return;
    for (;;) {
      const more = await core.runAsync('write items', () => core.x.forestWrite(
        this.rec.ptr, this.space.al, this.space.ws, WRITE_BATCH_ITEMS));
      if (more === 0) break;
      await this.deps.clock.sleep(0);
    }
    this.stats.itemsWritten += dirtyItems;
  }
}

/** Bytes of clean items let go of when memory for an operation is short. */
const RESERVE_SHRINK_BYTES = 4 * 1024 * 1024;

interface Codec<T> {
  readonly size: number;
  read(v: DataView, o: number): T;
  write(v: DataView, o: number, s: T): void;
}

function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const b = new Uint8Array(codec.size);
  codec.write(new DataView(b.buffer), 0, value);
  return b;
}

function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  return codec.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0);
}
