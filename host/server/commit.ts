/**
 * Commits of the server: one transaction that all handlers share.
 *
 * A handler holds the commit, changes trees, then applies: `apply` returns when a super
 * block that includes the changes is stable. One handler works at a time (its core calls
 * wait for blocks in between, and half-made changes of two handlers must not mix), but
 * any number wait in apply, and one commit serves them all:
 *
 *   hold ... hold ... hold ...  --queue empty, batch full or room short-->  commit, wake all
 *
 * Free blocks. Two pairs of block lists and two extent trees, all in the super:
 *
 *   active pair   what this transaction allocates from and frees into
 *   other pair    other avail is refilled from the core avail tree, other freed emptied
 *                 into the core freed tree, by each commit; everything that clients
 *                 give back goes to other freed
 *   after a commit the pairs swap; the trees swap when avail is short and freed larger
 *
 * So a block freed in a commit is allocated at the earliest after it is stable.
 *
 * Invariants
 *   - blocks are written and flushed before the super, the super is flushed before
 *     anybody is told
 *   - readers get `stable`, a decoded copy that is replaced in one step
 *   - after any failed commit nothing is written any more: the next server starts from
 *     the last stable super. `fatal` uses the same: dropping everything unwritten is the
 *     undo of a change that broke off in the middle
 *
 * Source: server.md 3, alloc.md 6, trans.md 7.
 */
import type { Core, Ptr } from '../core/core.js';
import type { SuperBlock } from '../core/format.js';
import { Rec, TreeSpace } from '../core/trees.js';
import { newBlock } from '../disk/block.js';
import { writeSuper } from '../disk/super.js';
import type { Device } from '../env/device.js';
import { C, type Counters } from '../observe/counters.js';
import { ERRNO, ScoutfsError, asScoutfsError, assert, errnoError } from '../observe/errors.js';
import { fillFreedList } from './fill_freed.js';
import { SuperRec, aRootTotal } from './records.js';

/** What one hold may use, of blocks to allocate and of room for freed ones. */
export const HOLD_BLOCKS = 500;
/** Less than this left: commit before the next handler works. */
const HOLD_ROOM_BLOCKS = 2 * HOLD_BLOCKS;
/** Handlers that one commit serves. */
const BATCH_MAX = 64;
/** Commits made to find room for one hold before it is refused. */
const ROOM_COMMITS_MAX = 4;
const FILL_LO_BLOCKS = 4092;
const FILL_TARGET_BLOCKS = 8185;
const LIST_HEAD_BYTES = 32;
/** The two of the super block that are used in turn. */
const FREED_LISTS = 2;

interface Waiter {
  resolve: () => void;
  reject: (e: ScoutfsError) => void;
}

/** One handler's time with the commit. */
export class Hold {
  held = true;
  private availStart: number;
  private freedStart: number;

  constructor(private readonly commits: Commits) {
    this.availStart = commits.space.availNr;
    this.freedStart = commits.space.freedRemaining;
  }

  /** Blocks consumed since the hold, the larger of allocated and freed. */
  get used(): number {
    const { space } = this.commits;
    return Math.max(this.availStart - space.availNr, this.freedStart - space.freedRemaining);
  }

  /** Gives up without waiting; what was changed is in the next commit. */
  release(): void {
    if (!this.held) return;
    this.held = false;
    this.commits.leave();
  }

  /** Waits until the changes are stable. @throws why the commit failed */
  async apply(): Promise<void> {
    this.held = false;
    await this.commits.join();
  }

  /** Holds again after `apply`. */
  async hold(): Promise<void> {
    await this.commits.enter();
    this.held = true;
    this.availStart = this.commits.space.availNr;
    this.freedStart = this.commits.space.freedRemaining;
  }

  /** Makes the changes stable and goes on in the next transaction. */
  async again(): Promise<void> {
    await this.apply();
    await this.hold();
  }
}

export interface CommitDeps {
  core: Core;
  device: Device;
  counters: Counters;
  /** Metadata blocks kept back (server.md 6.1). */
  reservedBlocks(): number;
  /** Asked by each commit: whether it and the next one are to fill their freed lists. */
  fillsFreed?: () => boolean;
  /** Nothing can be committed any more; called once. */
  failed(error: ScoutfsError): void;
}

export class Commits {
  readonly space: TreeSpace;
  readonly sup: SuperRec;
  private stableSuper: SuperBlock;
  private seqCounter: number;
  private active: number;
  private availTree: number;
  private busy = false;
  private fillsLeft = 0;
  private dead: ScoutfsError | null = null;
  private stopping = false;
  private readonly queue: Waiter[] = [];
  private appliers: Waiter[] = [];
  private readonly idleWaiters: (() => void)[] = [];
  private readonly superBlock = newBlock('small');

  constructor(private readonly deps: CommitDeps, sb: SuperBlock) {
    this.sup = new SuperRec(deps.core, sb);
    this.space = new TreeSpace(deps.core);
    this.stableSuper = this.sup.read();
    this.seqCounter = sb.seq;
    const [avail0, avail1] = sb.serverMetaAvail;
    const [tree0, tree1] = sb.metaAlloc;
    this.active = (avail1?.totalNr ?? 0) > (avail0?.totalNr ?? 0) ? 1 : 0;
    this.availTree = (tree1?.totalLen ?? 0) > (tree0?.totalLen ?? 0) ? 1 : 0;
    this.begin();
  }

  /** The super block written last. */
  get stable(): SuperBlock { return this.stableSuper; }
  /** The last seq handed out. */
  get seq(): number { return this.seqCounter; }
  /** Core metadata that is allocated from. */
  get metaAvail(): Ptr { return this.sup.metaAlloc(this.availTree); }
  get metaFreed(): Ptr { return this.sup.metaAlloc(1 - this.availTree); }

  /** Whether the trees change places after the next commit, as they are now. */
  private get willSwap(): boolean {
    const { core } = this.deps;
    const avail = aRootTotal(core, this.metaAvail);
    return avail < 2 * this.deps.reservedBlocks() && aRootTotal(core, this.metaFreed) > avail;
  }

  /**
   * Whether the transactions that follow this commit have no more than the reserve to allocate
   * from. The tree that is avail now can be short although the other one has plenty.
   */
  get metaIsLow(): boolean {
    const next = this.willSwap ? this.metaFreed : this.metaAvail;
    return aRootTotal(this.deps.core, next) <= this.deps.reservedBlocks();
  }

  /** Where lists given back are spliced. */
  get otherFreed(): Ptr { return this.sup.serverMetaFreed(1 - this.active); }
  /** Why nothing can be committed any more. */
  get failure(): ScoutfsError | null { return this.dead; }

  nextSeq(): number {
    this.seqCounter += 1;
    return this.seqCounter;
  }

  /** Seqs handed out from now on are greater than `seq`. */
  raiseSeq(seq: number): void {
    this.seqCounter = Math.max(this.seqCounter, seq);
  }

  /** Waits for room and for the other handlers. @throws ENOSPC, or why the server stops */
  async hold(): Promise<Hold> {
    await this.enter();
    return new Hold(this);
  }

  /**
   * Holds, runs `fn`, applies, unless `fn` has released: it changed nothing. An error of `fn`
   * is thrown at once.
   */
  async transact<T>(fn: (tx: Hold) => Promise<T>): Promise<T> {
    const tx = await this.hold();
    let result: T;
    try {
      result = await fn(tx);
    } catch (e) {
      tx.release();
      throw e;
    }
    if (tx.held) await tx.apply();
    return result;
  }

  /** Runs `fn`, which only reads, while no handler changes anything. */
  async inspect<T>(fn: () => Promise<T>): Promise<T> {
    await this.lock();
    try {
      return await fn();
    } finally {
      this.leave();
    }
  }

  /** A change broke off and cannot be undone: nothing unwritten may ever be written. */
  fatal(e: unknown): ScoutfsError {
    const error = asScoutfsError(e);
    this.fail(error);
    return error;
  }

  /** Refuses new holds, waits for the one at work and drops what is not written. */
  async stop(): Promise<void> {
    this.stopping = true;
    for (const w of this.queue.splice(0)) w.reject(stoppingError());
    if (this.busy) await new Promise<void>((resolve) => { this.idleWaiters.push(resolve); });
    this.dead ??= stoppingError();
    this.space.finish();
    this.space.forget(false);
  }

  /** For Hold: the mutex with room to work. */
  async enter(): Promise<void> {
    this.deps.counters.inc(C.server_commit_hold);
    await this.lock();
    try {
      await this.makeRoom();
    } catch (e) {
      this.leave();
      throw e;
    }
  }

  /** For Hold: waits for the commit that includes the changes. */
  join(): Promise<void> {
    this.deps.counters.inc(C.server_commit_queue);
    const done = new Promise<void>((resolve, reject) => {
      this.appliers.push({ resolve, reject });
    });
    this.leave();
    return done;
  }

  /** For Hold: lets the next one work, or commits. */
  leave(): void {
    if (this.dead !== null) this.wakeAll(this.dead);
    if (this.dead === null && this.appliers.length < BATCH_MAX) {
      const next = this.queue.shift();
      if (next !== undefined) {
        next.resolve();
        return;
      }
    }
    if (this.appliers.length > 0) {
      void this.commit().then(() => { this.leave(); });
      return;
    }
    this.busy = false;
    for (const wake of this.idleWaiters.splice(0)) wake();
  }

  private async lock(): Promise<void> {
    if (this.dead !== null) throw this.dead;
    if (this.stopping) throw stoppingError();
    if (!this.busy) {
      this.busy = true;
      return;
    }
    await new Promise<void>((resolve, reject) => { this.queue.push({ resolve, reject }); });
  }

  private roomy(blocks: number): boolean {
    return this.space.availNr >= blocks && this.space.freedRemaining >= blocks;
  }

  private async makeRoom(): Promise<void> {
    for (let i = 0; i < ROOM_COMMITS_MAX; i++) {
      if (this.roomy(HOLD_ROOM_BLOCKS)) return;
      await this.commit();
      if (this.dead !== null) throw this.dead;
    }
    if (!this.roomy(HOLD_BLOCKS)) {
      throw errnoError('ENOSPC', 'the server has too few free metadata blocks for a commit');
    }
  }

  /** Writes a commit and tells everybody who waits in apply. Never throws. */
  private async commit(): Promise<void> {
    const waiting = this.appliers;
    this.appliers = [];
    try {
      await this.write();
    } catch (e) {
      const error = asScoutfsError(e);
      this.fail(error);
      for (const w of waiting) w.reject(error);
      return;
    }
    for (const w of waiting) w.resolve();
  }

  private async write(): Promise<void> {
    const { core, device, counters } = this.deps;
    if (this.dead !== null) throw this.dead;
    counters.inc(C.server_commit_worker);
    if (this.deps.fillsFreed?.() === true) this.fillsLeft = FREED_LISTS;
    if (this.fillsLeft > 0) await this.fillFreed();
    await this.recycle();
    const heads = this.space.finish();
    core.bytes.set(heads.avail, this.sup.serverMetaAvail(this.active));
    core.bytes.set(heads.freed, this.sup.serverMetaFreed(this.active));
    await this.space.write();
    await device.flush();
    const sb = this.sup.read();
    sb.seq = this.seqCounter;
    sb.hdr.seq += 1n;
    // The last moment at which a forced stop can still keep the change from the device.
    if (this.failure !== null) throw this.failure;
    await writeSuper(device, this.superBlock, sb);
    this.sup.write(sb);
    this.space.forget(true);
    this.stableSuper = sb;
    this.active = 1 - this.active;
    if (this.willSwap) this.availTree = 1 - this.availTree;
    this.begin();
  }

  /** Trigger alloc_fill_freed_list: frees blocks until the active list has no room to spare. */
  private async fillFreed(): Promise<void> {
    this.fillsLeft -= 1;
    await fillFreedList(this.space, this.metaAvail, HOLD_BLOCKS);
    this.deps.counters.inc(C.alloc_freed_fill);
  }

  /** Refills and empties the lists that the next transaction will use. */
  private async recycle(): Promise<void> {
    const { core } = this.deps;
    const { al, ws } = this.space;
    const other = 1 - this.active;
    // An exhausted tree must not end the server: its trees may swap after this commit.
    await this.fillList(this.sup.serverMetaAvail(other), FILL_LO_BLOCKS, FILL_TARGET_BLOCKS, true);
    await core.runAsync('empty freed list', () =>
      core.x.list_empty(al, ws, this.sup.serverMetaFreed(other), this.metaFreed));
  }

  /**
   * Fills a list from core avail. It must not belong to the running allocator.
   * @throws ENOSPC when core avail is exhausted, unless that `mayEnd`
   */
  async fillList(head: Ptr, lo: number, target: number, mayEnd = false): Promise<void> {
    const { core } = this.deps;
    let low = lo;
    const r = await core.run(() => {
      const from = low;
      low = target;
      return core.x.list_fill(this.space.al, this.space.ws, head, this.metaAvail, from, target);
    });
    if (r < 0 && !(mayEnd && r === -ERRNO.ENOSPC)) throw core.error('fill block list', r);
  }

  /** Gives a whole list back; it becomes allocatable after this commit. */
  async giveBack(head: Ptr): Promise<void> {
    const { core } = this.deps;
    await core.runAsync('splice block list', () =>
      core.x.list_splice(this.space.al, this.space.ws, this.otherFreed, head));
  }

  /** Runs changes that belong together: if they break off, nothing unwritten is ever written. */
  async atomic<T>(fn: () => Promise<T>): Promise<T> {
    try {
      return await fn();
    } catch (e) {
      throw this.fatal(e);
    }
  }

  /**
   * Runs `fn`, which moves lists or extents in and out of `rec`, then `store`s the record
   * whatever became of it: the lists have changed. @throws what `fn` threw
   */
  async storing(fn: () => Promise<void>, store: () => Promise<void>): Promise<void> {
    let failed: unknown = null;
    try {
      await fn();
    } catch (e) {
      failed = e;
    }
    await this.atomic(store);
    if (failed !== null) throw asScoutfsError(failed);
  }

  private begin(): void {
    const { core } = this.deps;
    this.space.begin(core.copyOut(this.sup.serverMetaAvail(this.active), LIST_HEAD_BYTES),
      core.copyOut(this.sup.serverMetaFreed(this.active), LIST_HEAD_BYTES));
  }

  private fail(error: ScoutfsError): void {
    if (this.dead !== null) return;
    this.dead = error;
    this.wakeAll(error);
    this.deps.failed(error);
  }

  private wakeAll(error: ScoutfsError): void {
    for (const w of [...this.queue.splice(0), ...this.appliers.splice(0)]) w.reject(error);
  }
}

function stoppingError(): ScoutfsError {
  return errnoError('ESHUTDOWN', 'the server is stopping');
}

/** Runs `fn` with a copy of some bytes in core memory. */
export async function withRec<T>(core: Core, bytes: Uint8Array,
  fn: (rec: Rec) => Promise<T>): Promise<T> {
  const rec = new Rec(core, bytes.length, bytes);
  try {
    return await fn(rec);
  } finally {
    rec.free();
  }
}

/** A value that was read must have its structure's size. @throws EIO */
export function sized(bytes: Uint8Array, size: number, what: string): Uint8Array {
  if (bytes.length === size) return bytes;
  assert(size > 0, what);
  throw new ScoutfsError('BAD_ITEM_SIZE', 'EIO', {
    message: `${what} item has ${bytes.length} bytes instead of ${size}`,
  });
}
