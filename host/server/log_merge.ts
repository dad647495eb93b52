/**
 * Log merges: handing out ranges, taking results, putting them together.
 *
 *   range --get--> request (rid, seq) --commit--> completion --splice--> fs tree [+ range]
 *                     |--error, mount gone--> range again
 *
 * The key space is handed out in pieces of at most one level-1 block of the fs tree. While
 * requests are out the fs tree does not change, and `next_range_key` moves past each
 * block handed out, so two requests never share one. When no request is out and nothing
 * more can be handed out, results are spliced in three phases, each step of which marks
 * its completion so that another server can go on:
 *
 *   A  every completion's block replaces its parent block; its lists are given back and
 *      zeroed, which says that it is done
 *      nr_complete >= 8: nothing is handed out while the tree is rebalanced
 *   B  a completion that stopped early leaves a range of what remains; it is deleted
 *   C  ranges remain: search again from zero
 *   D  none: the inputs become freeing items, then the status is deleted
 *
 * Range items are stored under their start key with the zone replaced and are therefore
 * not in order: every search looks at all of them (trap 8).
 * Source: server.md 5.3 to 5.5, forest.md 8.
 */
import {
  BtreeRoot, Key, LOG_MERGE_COMPLETE_ZONE, LOG_MERGE_COMP_ERROR, LOG_MERGE_COMP_REMAIN,
  LOG_MERGE_RANGE_ZONE, LOG_MERGE_REQUEST_SUBTREE, LOG_MERGE_REQUEST_ZONE,
  LogMergeComplete, LogMergeFreeing, LogMergeRange, LogMergeRequest, LogMergeStatus,
} from '../core/format.js';
import type { LogTrees } from '../core/format.js';
import { compareKeys, incKey, keyBytes, keyOnes, keyZeros, makeKey } from '../core/keys.js';
import { Rec, parentOf } from '../core/trees.js';
import { decode, encode, viewOf } from '../net/messages.js';
import { C } from '../observe/counters.js';
import { errnoError } from '../observe/errors.js';
import { sized, withRec, type Commits, type Hold } from './commit.js';
import type { ServerContext } from './context.js';
import { MERGE_STATUS_KEY, rangeKey } from './finalize.js';
import { freeingKey, type FreeingWorker } from './freeing.js';
import { allLogTrees, isFinalized, itemsBetween, logTreesKey } from './log_trees_items.js';
import { listIsEmpty, rootHeight } from './records.js';
import { checkCompletion } from './untrusted.js';

/** Requests and completions that exist at one time. */
const BATCH_MAX = 8;
/** 64 MiB of blocks and what the lists need themselves. */
const LIST_BLOCKS = 1028;
const SUBTREE_HEIGHT = 2;
const META_AVAIL = 0;
const META_FREED = 32;
const ROOT = 64;

function requestKey(rid: bigint, seq: number): Uint8Array {
  return keyBytes(makeKey({ zone: LOG_MERGE_REQUEST_ZONE, first: rid, second: BigInt(seq) }));
}

function completeKey(seq: number): Uint8Array {
  return keyBytes(makeKey({ zone: LOG_MERGE_COMPLETE_ZONE, first: BigInt(seq) }));
}

function minKey(a: Key, b: Key): Key {
  return compareKeys(a, b) <= 0 ? a : b;
}

function isOnes(k: Key): boolean {
  return compareKeys(k, keyOnes()) === 0;
}

interface Piece {
  range: LogMergeRange;
  start: Key;
  end: Key;
  /** end of the level-1 block, from where the next piece is looked for */
  parentEnd: Key;
  root: Uint8Array;
}

export class LogMerges {
  /** `pauseShare`: of what splicing finds to allocate from, the rest that makes it commit. */
  constructor(private readonly s: ServerContext, private readonly freeing: FreeingWorker,
    private readonly pauseShare = 0.25) {}

  private get commits(): Commits { return this.s.commits; }
  private get tree(): number { return this.commits.sup.logMerge; }

  /** GET_LOG_MERGE. @throws ENOENT when there is nothing to do */
  async get(rid: bigint): Promise<Uint8Array> {
    const request = await this.commits.transact((tx) => this.find(tx, rid));
    if (request === null) throw errnoError('ENOENT');
    return request;
  }

  /** What is found out on the way, that a merge is complete for one, is committed too. */
  private async find(tx: Hold, rid: bigint): Promise<Uint8Array | null> {
    for (let changed = false; ; changed = true) {
      const status = await this.status();
      const idle = (): null => {
        if (!changed) tx.release();
        return null;
      };
      if (status === null) return idle();
      const range = await this.nextRange(status.nextRangeKey);
      if (status.nrRequests === 0 && (range === null || status.nrComplete >= BATCH_MAX)) {
        await this.splice(tx, status);
        continue;
      }
      if (range === null || status.nrRequests + status.nrComplete >= BATCH_MAX) return idle();
      const start = await this.leastInputKey(range, status.seq);
      if (start === null) {
        this.s.counters.inc(C.log_merge_no_finalized);
        await this.commits.space.delete(this.tree, rangeKey(range.start));
        continue;
      }
      return await this.handOut(rid, status, await this.piece(range, start));
    }
  }

  private async status(): Promise<LogMergeStatus | null> {
    const val = await this.commits.space.lookup(this.tree, MERGE_STATUS_KEY);
    return val === null ? null
      : decode(LogMergeStatus, sized(val, LogMergeStatus.size, 'log merge status'));
  }

  private storeStatus(status: LogMergeStatus): Promise<void> {
    return this.commits.space.update(this.tree, MERGE_STATUS_KEY, encode(LogMergeStatus, status));
  }

  /** The range with the least start at or after `from`. */
  private async nextRange(from: Key): Promise<LogMergeRange | null> {
    const start = makeKey({ zone: LOG_MERGE_RANGE_ZONE });
    const end = { ...keyOnes(), zone: LOG_MERGE_RANGE_ZONE };
    let best: LogMergeRange | null = null;
    for await (const { val } of itemsBetween(this.commits.space, this.tree, start, end)) {
      const range = decode(LogMergeRange, sized(val, LogMergeRange.size, 'log merge range'));
      if (compareKeys(range.start, from) < 0) continue;
      if (best === null || compareKeys(range.start, best.start) < 0) best = range;
    }
    return best;
  }

  private async* inputs(seq: number): AsyncGenerator<LogTrees> {
    for await (const { lt } of allLogTrees(this.commits.space, this.commits.sup.logsRoot)) {
      if (isFinalized(lt) && lt.finalizeSeq < seq) yield lt;
    }
  }

  private async leastInputKey(range: LogMergeRange, seq: number): Promise<Key | null> {
    const { core, space } = { core: this.s.core, space: this.commits.space };
    let best: Key | null = null;
    for await (const lt of this.inputs(seq)) {
      if (lt.itemRoot.height === 0) continue;
      const found = await withRec(core, encode(BtreeRoot, lt.itemRoot), (root) =>
        space.next(root.ptr, keyBytes(range.start)));
      if (found === null) continue;
      const key = Key.read(viewOf(found.key), 0);
      if (compareKeys(key, range.end) <= 0) best = best === null ? key : minKey(best, key);
    }
    return best;
  }

  private async piece(range: LogMergeRange, start: Key): Promise<Piece> {
    const { core } = this.s;
    const { fsRoot } = this.commits.sup;
    if (rootHeight(core, fsRoot) <= SUBTREE_HEIGHT) {
      const root = core.copyOut(fsRoot, BtreeRoot.size);
      return { range, start, end: range.end, parentEnd: keyOnes(), root };
    }
    const parent = await parentOf(core, fsRoot, keyBytes(start));
    const parentEnd = Key.read(viewOf(parent.end), 0);
    return { range, start, end: minKey(range.end, parentEnd), parentEnd, root: parent.root };
  }

  /** Turns a piece of a range into a request, with blocks to work with. */
  private async handOut(rid: bigint, status: LogMergeStatus, piece: Piece): Promise<Uint8Array> {
    const { commits } = this;
    const { core } = this.s;
    const { space, sup } = commits;
    const zero = decode(LogMergeRequest, new Uint8Array(LogMergeRequest.size));
    const seq = commits.nextSeq();
    const rec = new Rec(core, LogMergeRequest.size, encode(LogMergeRequest, {
      ...zero, logsRoot: BtreeRoot.read(core.view, sup.logsRoot),
      root: decode(BtreeRoot, piece.root), start: piece.start, end: piece.end,
      inputSeq: status.seq, rid, seq,
      flags: rootHeight(core, sup.fsRoot) > SUBTREE_HEIGHT ? LOG_MERGE_REQUEST_SUBTREE : 0,
    }));
    try {
      try {
        await commits.fillList(rec.ptr + META_AVAIL, LIST_BLOCKS, LIST_BLOCKS);
      } catch (e) {
        // What was taken exists only in memory: back it goes, or nothing is ever written.
        await commits.atomic(() => commits.giveBack(rec.ptr + META_AVAIL));
        throw e;
      }
      await commits.atomic(async () => {
        await space.delete(this.tree, rangeKey(piece.range.start));
        if (compareKeys(piece.end, piece.range.end) < 0) {
          await this.insertRange(incKey(piece.end), piece.range.end);
        }
        await space.insert(this.tree, requestKey(rid, seq), rec.get());
        await this.storeStatus({
          ...status, nrRequests: status.nrRequests + 1,
          nextRangeKey: isOnes(piece.parentEnd) ? keyOnes() : incKey(piece.parentEnd),
        });
      });
      return rec.get();
    } finally {
      rec.free();
    }
  }

  private insertRange(start: Key, end: Key): Promise<void> {
    return this.commits.space.insert(this.tree, rangeKey(start),
      encode(LogMergeRange, { start, end }));
  }

  /** COMMIT_LOG_MERGE. @throws ENOENT for what is not requested (any more) */
  async commit(rid: bigint, payload: Uint8Array): Promise<void> {
    const received = decode(LogMergeComplete, payload);
    return this.commits.transact(async (tx) => {
      const status = await this.status();
      const key = requestKey(rid, received.seq);
      const stored = status === null ? null : await this.commits.space.lookup(this.tree, key);
      if (status === null || stored === null || received.rid !== rid) throw errnoError('ENOENT');
      if ((received.flags & LOG_MERGE_COMP_ERROR) !== 0) {
        await this.takeBack(tx, key, stored, status);
        return;
      }
      await checkCompletion(this.s, decode(LogMergeRequest,
        sized(stored, LogMergeRequest.size, 'log merge request')), received);
      await this.commits.atomic(async () => {
        await this.commits.space.delete(this.tree, key);
        await this.commits.space.insert(this.tree, completeKey(received.seq), payload);
        await this.storeStatus({
          ...status, nrRequests: status.nrRequests - 1, nrComplete: status.nrComplete + 1,
        });
      });
    });
  }

  /** Undoes a request: its range waits again, its lists are given back. Within a hold. */
  private async takeBack(_tx: Hold, key: Uint8Array, stored: Uint8Array, status: LogMergeStatus):
  Promise<void> {
    const { commits } = this;
    const { space } = commits;
    const { start, end } = decode(LogMergeRequest,
      sized(stored, LogMergeRequest.size, 'log merge request'));
    await withRec(this.s.core, stored, async (rec) => {
      await commits.storing(() => this.giveListsBack(rec), () =>
        space.update(this.tree, key, rec.get()));
    });
    await commits.atomic(async () => {
      await space.delete(this.tree, key);
      await this.insertRange(start, end);
      await this.storeStatus({ ...status, nrRequests: status.nrRequests - 1 });
    });
  }

  private async giveListsBack(rec: Rec): Promise<void> {
    await this.commits.giveBack(rec.ptr + META_AVAIL);
    await this.commits.giveBack(rec.ptr + META_FREED);
  }

  /** A mount is gone: its ranges wait for others. Within a hold. */
  async reclaim(tx: Hold, rid: bigint): Promise<void> {
    const start = makeKey({ zone: LOG_MERGE_REQUEST_ZONE, first: rid });
    const end = { ...keyOnes(), zone: LOG_MERGE_REQUEST_ZONE, first: rid };
    const mine: { key: Key; val: Uint8Array }[] = [];
    for await (const r of itemsBetween(this.commits.space, this.tree, start, end)) mine.push(r);
    for (const { key, val } of mine) {
      const status = await this.status();
      if (status === null) throw errnoError('EIO', 'log merge request without a merge');
      await this.takeBack(tx, keyBytes(key), val, status);
    }
  }

  // ---- splicing ----

  /** One or more commits; ends with the commit held. */
  private async splice(tx: Hold, status: LogMergeStatus): Promise<void> {
    const { space } = this.commits;
    const low = Math.ceil(Math.min(space.availNr, space.freedRemaining) * this.pauseShare);
    const isLow = (): boolean => space.availNr < low || space.freedRemaining < low;
    for (const { key, val } of await this.completions()) {
      if (isLow()) return this.pause(tx);
      await this.spliceOne(keyBytes(key), val);
    }
    if (status.nrComplete < BATCH_MAX) {
      await this.commits.atomic(() => this.storeStatus({ ...status, nrComplete: BATCH_MAX }));
    }
    let remains = false;
    for (const { key, val } of await this.completions()) {
      if (isLow()) return this.pause(tx);
      remains = await this.settle(keyBytes(key), decode(LogMergeComplete, val)) || remains;
    }
    if (remains || await this.nextRange(keyZeros()) !== null) {
      await this.commits.atomic(() =>
        this.storeStatus({ ...status, nextRangeKey: keyZeros(), nrComplete: 0 }));
      return;
    }
    for (const lt of await this.inputsToRetire(status.seq)) {
      if (isLow()) return this.pause(tx);
      await this.retire(lt);
    }
    await this.commits.atomic(() => space.delete(this.tree, MERGE_STATUS_KEY));
    this.s.counters.inc(C.log_merge_complete);
    this.freeing.kick();
  }

  /** The allocator is running low: everything so far becomes stable, the caller looks again. */
  private pause(tx: Hold): Promise<void> {
    return tx.again();
  }

  private async completions(): Promise<{ key: Key; val: Uint8Array }[]> {
    const start = makeKey({ zone: LOG_MERGE_COMPLETE_ZONE });
    const end = { ...keyOnes(), zone: LOG_MERGE_COMPLETE_ZONE };
    const all: { key: Key; val: Uint8Array }[] = [];
    for await (const c of itemsBetween(this.commits.space, this.tree, start, end)) {
      sized(c.val, LogMergeComplete.size, 'log merge completion');
      all.push(c);
    }
    return all;
  }

  /** Phase A for one completion. */
  private async spliceOne(key: Uint8Array, val: Uint8Array): Promise<void> {
    const { commits } = this;
    const { core } = this.s;
    await withRec(core, val, async (rec) => {
      const spliced = listIsEmpty(core, rec.ptr + META_AVAIL) &&
        listIsEmpty(core, rec.ptr + META_FREED);
      if (spliced) return;
      await commits.space.dirty(this.tree, key);
      const { start } = decode(LogMergeComplete, val);
      await commits.space.setParent(commits.sup.fsRoot, keyBytes(start), rec.ptr + ROOT);
      await commits.storing(() => this.giveListsBack(rec), () =>
        commits.space.update(this.tree, key, rec.get()));
    });
  }

  /** Phase B for one completion. @returns whether it left a range */
  private async settle(key: Uint8Array, c: LogMergeComplete): Promise<boolean> {
    const { space, sup } = this.commits;
    const remain = (c.flags & LOG_MERGE_COMP_REMAIN) !== 0;
    await this.commits.atomic(async () => {
      if (remain) {
        await space.rebalance(sup.fsRoot, keyBytes(c.start));
        await this.insertRange(c.remain, c.end);
      }
      await space.delete(this.tree, key);
    });
    return remain;
  }

  /** Inputs, those that add inodes first: so the count in the super never falls below zero. */
  private async inputsToRetire(seq: number): Promise<LogTrees[]> {
    const all: LogTrees[] = [];
    for await (const lt of this.inputs(seq)) all.push(lt);
    return all.sort((a, b) => a.inodeCountDelta > b.inodeCountDelta ? -1
      : a.inodeCountDelta < b.inodeCountDelta ? 1 : 0);
  }

  /** Phase D for one input: readers find its items in the fs tree from now on. */
  private async retire(lt: LogTrees): Promise<void> {
    const { commits } = this;
    const { core } = this.s;
    const { space, sup } = commits;
    await commits.atomic(async () => {
      if (lt.itemRoot.height > 0) {
        const seq = commits.nextSeq();
        await space.insert(this.tree, freeingKey(seq), encode(LogMergeFreeing,
          { root: lt.itemRoot, key: keyZeros(), seq }));
      }
      if (lt.bloomRef.blkno !== 0) {
        await core.runAsync('free bloom block', () =>
          core.x.alloc_free_blkno(space.al, lt.bloomRef.blkno));
      }
      await space.delete(sup.logsRoot, logTreesKey(lt.rid, lt.nr));
      const count = sup.inodeCount + Number(lt.inodeCountDelta);
      if (count < 0) this.s.log.warn(`server: the inode count would become ${count}`);
      sup.inodeCount = Math.min(Math.max(0, count), Number.MAX_SAFE_INTEGER);
    });
  }
}

