/**
 * Finalizing log trees and starting a log merge.
 *
 * A merge may only take trees if every item in them is older than every item written
 * afterwards. So all open trees are finalized before any mount is handed a new one: a
 * mount whose tree has grown asks for its next transaction and is kept waiting here,
 * without the commit, while the others are asked to commit and to come here too.
 *
 *   ours stored and open --drain--> FINALIZED, a fresh tree in memory
 *        others open --> SYNC_LOG_TREES once per transaction, wait 5..100 ms, look again
 *        none open   --> status and range items: the merge has started
 *        too late    --> go on with the new tree, the next get tries again
 *
 * Draining gives back what the tree's mount had for allocating: lists in the commit that
 * finalizes, data extents in as many commits as they need. The item is stored with each
 * step, so that nothing exists only in memory.
 * Source: server.md 5.1, 5.2, 8.3; forest.md 5.3, 7.
 */
import {
  ALLOC_FLAG_LOW, LOG_MERGE_RANGE_ZONE, LOG_MERGE_STATUS_ZONE, LOG_TREES_FINALIZED,
  LogMergeRange, LogMergeStatus, NET_CMD_SYNC_LOG_TREES,
} from '../core/format.js';
import { keyBytes, keyOnes, keyZeros, makeKey } from '../core/keys.js';
import { encode } from '../net/messages.js';
import { C } from '../observe/counters.js';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import { hex16 } from '../observe/log.js';
import type { Hold } from './commit.js';
import type { ServerContext } from './context.js';
import { isFinalized, lastLogTrees, lastLogTreesOfAll, logTreesKey } from './log_trees_items.js';
import { moveAll } from './moves.js';
import { LogTreesRec, listFlags, rootHeight } from './records.js';
import { rotateSrchLog } from './srch_rotate.js';

const FINALIZE_HEIGHT = 2;
const POLL_FIRST_MS = 5;
const POLL_MAX_MS = 100;
const POLL_GROWTH = 1.5;

export const MERGE_STATUS_KEY = keyBytes(makeKey({ zone: LOG_MERGE_STATUS_ZONE }));

/** The tree of the caller: `stored` while its item is in the logs root. */
export interface Ours {
  lt: LogTreesRec;
  stored: boolean;
}

interface OpenTrees {
  sawFinalized: boolean;
  others: { rid: bigint; getTransSeq: number }[];
}

export class Finalizer {
  /** Transactions up to this seq have been asked to sync. */
  private lastSyncSeq = 0;

  constructor(private readonly s: ServerContext) {}

  /**
   * Finalizes `ours` and starts a merge if there is reason to. May give the commit up and
   * take it again; ends with it held unless it throws.
   * @throws ENOLINK when the caller's mount was reclaimed meanwhile
   */
  async finalizeAndStartMerge(tx: Hold, ours: Ours): Promise<void> {
    const { clock, counters, options } = this.s;
    const deadline = clock.monotonicMs() + options.logMergeWaitTimeoutMs;
    let delayMs = POLL_FIRST_MS;
    let forced = false;
    for (;;) {
      if (await this.mergeRuns()) return;
      if (await this.reclaimOrphans(tx, ours)) continue;
      const { sawFinalized, others } = await this.scan(ours);
      forced ||= this.s.triggers.fires('log_merge_force_finalize_ours');
      if (!sawFinalized && !forced && !this.wanted(ours.lt)) return;
      if (others.length > 0) this.sync(others);
      if (ours.stored) await this.finalizeOurs(tx, ours);
      if (others.length === 0) {
        await this.startMerge();
        return;
      }
      await tx.apply();
      await clock.sleep(delayMs);
      delayMs = Math.min(delayMs * POLL_GROWTH, POLL_MAX_MS);
      await tx.hold();
      await this.checkOurs(tx, ours);
      if (clock.monotonicMs() > deadline) {
        counters.inc(C.log_merge_wait_timeout);
        return;
      }
    }
  }

  /**
   * Finalizes the open tree of a mount that is gone, if it has one; its uncommitted
   * transaction is abandoned. May take several commits; the last step is not applied.
   * @returns whether there was one
   */
  async reclaimLogTrees(tx: Hold, rid: bigint): Promise<boolean> {
    const { commits, core, counters } = this.s;
    const item = await lastLogTrees(commits.space, commits.sup.logsRoot, rid);
    if (item === null || isFinalized(item.lt)) return false;
    const lt = new LogTreesRec(core, item.bytes);
    try {
      await this.storing(tx, lt, async () => {
        if (!await this.drain(tx, lt)) return false;
        lt.commitTransSeq = lt.getTransSeq;
        lt.setZones(0, null);
        lt.flags = LOG_TREES_FINALIZED;
        lt.finalizeSeq = commits.nextSeq();
        return true;
      });
    } finally {
      lt.free();
    }
    counters.inc(C.reclaimed_open_logs);
    return true;
  }

  /**
   * Runs `fn` and stores `lt` whatever becomes of it, because extents may have moved;
   * not when it returns false: then the item belongs to somebody else by now.
   */
  private async storing(tx: Hold, lt: LogTreesRec, fn: () => Promise<boolean>): Promise<boolean> {
    await this.dirty(lt);
    let mine = true;
    try {
      mine = await fn();
      return mine;
    } finally {
      if (mine && tx.held) await this.store(lt);
    }
  }

  /** Others worked meanwhile: is our tree still as we left it? @throws ENOLINK */
  private async checkOurs(tx: Hold, ours: Ours): Promise<void> {
    const same = ours.stored ? await this.isStored(ours.lt) : await this.s.mounted.has(ours.lt.rid);
    if (same) return;
    throw this.lost(tx, ours.lt);
  }

  /** The caller's mount was reclaimed under it: what it has in memory must not be stored. */
  private lost(tx: Hold, lt: LogTreesRec): Error {
    tx.release();
    return errnoError('ENOLINK', `mount ${lt.rid.toString(16)} was reclaimed`);
  }

  private async isStored(lt: LogTreesRec): Promise<boolean> {
    const { space, sup } = this.s.commits;
    const bytes = await space.lookup(sup.logsRoot, logTreesKey(lt.rid, lt.nr));
    return bytes !== null && Buffer.compare(bytes, lt.get()) === 0;
  }

  private async mergeRuns(): Promise<boolean> {
    const { space, sup } = this.s.commits;
    return await space.lookup(sup.logMerge, MERGE_STATUS_KEY) !== null;
  }

  private wanted(lt: LogTreesRec): boolean {
    const { core } = this.s;
    return rootHeight(core, lt.itemRoot) > FINALIZE_HEIGHT ||
      (listFlags(core, lt.metaAvail) & ALLOC_FLAG_LOW) !== 0;
  }

  private async reclaimOrphans(tx: Hold, ours: Ours): Promise<boolean> {
    const { commits, log, mounted } = this.s;
    const orphans: bigint[] = [];
    for await (const { lt } of lastLogTreesOfAll(commits.space, commits.sup.logsRoot)) {
      if (lt.rid === ours.lt.rid || isFinalized(lt)) continue;
      if (!await mounted.has(lt.rid)) orphans.push(lt.rid);
    }
    for (const rid of orphans) {
      // upstream's words: its tests look for them
      log.warn(`server: reclaiming orphan log trees for rid ${hex16(rid)}`);
      await this.reclaimLogTrees(tx, rid);
      await tx.again();
      await this.checkOurs(tx, ours);
    }
    return orphans.length > 0;
  }

  private async scan(ours: Ours): Promise<OpenTrees> {
    const { commits } = this.s;
    const found: OpenTrees = { sawFinalized: false, others: [] };
    for await (const { lt } of lastLogTreesOfAll(commits.space, commits.sup.logsRoot)) {
      if (isFinalized(lt)) found.sawFinalized = true;
      else if (lt.rid !== ours.lt.rid) {
        found.others.push({ rid: lt.rid, getTransSeq: lt.getTransSeq });
      }
    }
    return found;
  }

  /** Asks each transaction once to commit. */
  private sync(others: OpenTrees['others']): void {
    const { commits, log } = this.s;
    for (const { rid, getTransSeq } of others) {
      if (getTransSeq <= this.lastSyncSeq) continue;
      try {
        this.s.send(rid, NET_CMD_SYNC_LOG_TREES, new Uint8Array(0), () => undefined);
      } catch (e) {
        const err = asScoutfsError(e);
        if (err.errno !== 'ENOTCONN') throw err;
        log.debug(`server: cannot ask ${rid.toString(16)} to sync: ${err.message}`);
      }
    }
    this.lastSyncSeq = commits.seq;
  }

  private async finalizeOurs(tx: Hold, ours: Ours): Promise<void> {
    const { commits } = this.s;
    const { lt } = ours;
    const mine = await this.storing(tx, lt, async () => {
      if (!await this.drain(tx, lt)) return false;
      lt.flags = LOG_TREES_FINALIZED;
      lt.finalizeSeq = commits.nextSeq();
      return true;
    });
    if (!mine) throw this.lost(tx, lt);
    lt.becomeNext(lt.nr + 1);
    ours.stored = false;
  }

  /**
   * Gives back everything but items and bloom block. Stores and commits as often as needed.
   * @returns false when somebody else changed the item in between
   */
  private async drain(tx: Hold, lt: LogTreesRec): Promise<boolean> {
    const { commits } = this.s;
    await rotateSrchLog(this.s, lt, true);
    await commits.giveBack(lt.metaFreed);
    await commits.giveBack(lt.metaAvail);
    for (;;) {
      const avail = await moveAll(commits, commits.sup.dataAlloc, lt.dataAvail);
      const freed = await moveAll(commits, commits.sup.dataAlloc, lt.dataFreed);
      if (avail && freed) return true;
      await this.store(lt);
      await tx.again();
      if (!await this.isStored(lt)) return false;
      await this.dirty(lt);
    }
  }

  private dirty(lt: LogTreesRec): Promise<void> {
    const { space, sup } = this.s.commits;
    return space.dirty(sup.logsRoot, logTreesKey(lt.rid, lt.nr));
  }

  /** Stores the value; failing that, nothing may be written any more. */
  private async store(lt: LogTreesRec): Promise<void> {
    const { commits } = this.s;
    try {
      await commits.space.force(commits.sup.logsRoot, logTreesKey(lt.rid, lt.nr), lt.get());
    } catch (e) {
      throw commits.fatal(e);
    }
  }

  private async startMerge(): Promise<void> {
    const { commits, counters, log } = this.s;
    const { space, sup } = commits;
    const start = keyZeros();
    try {
      await space.insert(sup.logMerge, rangeKey(start), encode(LogMergeRange,
        { start, end: keyOnes() }));
      await space.insert(sup.logMerge, MERGE_STATUS_KEY, encode(LogMergeStatus, {
        nextRangeKey: keyZeros(), nrRequests: 0, nrComplete: 0, seq: commits.nextSeq(),
      }));
    } catch (e) {
      throw commits.fatal(e);
    }
    counters.inc(C.log_merge_start);
    log.debug(`server: log merge ${commits.seq} started`);
  }
}

/** Ranges are stored under their start key with the zone replaced. */
export function rangeKey(start: LogMergeRange['start']): Uint8Array {
  return keyBytes({ ...start, zone: LOG_MERGE_RANGE_ZONE });
}
