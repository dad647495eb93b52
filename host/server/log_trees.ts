/**
 * The transactions of clients, and what clients read of the volume's trees.
 *
 * A client's get opens a transaction: it receives its log_trees value with lists and
 * extents to allocate from. Its commit replaces the value. The two alternate, each is
 * recognised when it comes again:
 *
 *   get     transaction open already (get seq > commit seq): the stored value as it is
 *   commit  commit seq is the received get seq: done before, success
 *
 * Once anything was moved between a value and the volume, the value is stored whatever
 * happens; the answer is sent only when the commit that holds it is stable.
 * Source: server.md 4.1 to 4.4, forest.md 5, alloc.md 7.
 */
import {
  ALLOC_FLAG_LOW, ALLOC_LIST_MAX_BLOCKS, LogTrees, NetInodeAlloc, NetRoots,
  VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT,
} from '../core/format.js';
import { Rec } from '../core/trees.js';
import { decode, encode } from '../net/messages.js';
import { asScoutfsError, errnoError, type ScoutfsError } from '../observe/errors.js';
import { sized, type Hold } from './commit.js';
import type { ServerContext } from './context.js';
import { Finalizer, type Ours } from './finalize.js';
import {
  allLogTrees, isFinalized, lastLogTrees, lastLogTreesOfAll, logTreesKey,
} from './log_trees_items.js';
import { moveAll, moveExtents, type ZoneChoice } from './moves.js';
import {
  LogTreesRec, aRootTotal, listFirstNr, listFlags, setARootFlags, setListFlags,
} from './records.js';
import { rotateSrchLog } from './srch_rotate.js';
import { checkLogTrees, checkLogTreesBlocks } from './untrusted.js';
import { chooseZones } from './zones.js';

const META_FILL_LO_BLOCKS = 4092;
const META_FILL_TARGET_BLOCKS = ALLOC_LIST_MAX_BLOCKS;
/** Nearly full volumes give less; with fewer than this nothing could be deleted either. */
const META_FILL_LEAST_BLOCKS = 1024;
/** data_avail is refilled below 1 GiB to 4 GiB. */
const DATA_FILL_LO_BLOCKS = 262144;
export const DATA_FILL_TARGET_BLOCKS = 1048576;
const ZONE_BITMAP_BYTES = 128;
/** Inode numbers given at a time: a hundred times what mounts ask for. */
const ALLOC_INODES_MAX = 1_048_576n;

export class LogTreesService {
  readonly finalizer: Finalizer;

  /** The last get of each mount, so that a mount's gets follow one another. */
  private readonly gets = new Map<bigint, Promise<void>>();

  constructor(private readonly s: ServerContext) {
    this.finalizer = new Finalizer(s);
  }

  /** GET_LOG_TREES. @returns the value of the open transaction */
  async get(rid: bigint): Promise<Uint8Array> {
    const before = this.gets.get(rid);
    const got = (before ?? Promise.resolve()).then(() => this.getNow(rid));
    const done = got.then(() => undefined, () => undefined);
    this.gets.set(rid, done);
    try {
      return await got;
    } finally {
      if (this.gets.get(rid) === done) this.gets.delete(rid);
    }
  }

  private async getNow(rid: bigint): Promise<Uint8Array> {
    const { commits, core } = this.s;
    const tx = await commits.hold();
    const lt = new LogTreesRec(core);
    try {
      const state = await this.open(rid, lt);
      if (state === 'replay') {
        await tx.apply();
        return lt.get();
      }
      const failed = await this.refill(tx, { lt, stored: state === 'stored' });
      await tx.apply();
      if (failed !== null) throw failed;
      await this.drainDataFreed(tx, lt);
      return lt.get();
    } finally {
      tx.release();
      lt.free();
    }
  }

  /** Loads the rid's open tree or starts the next one. */
  private async open(rid: bigint, lt: LogTreesRec): Promise<'stored' | 'new' | 'replay'> {
    const { space, sup } = this.s.commits;
    const last = await lastLogTrees(space, sup.logsRoot, rid);
    const isFirst = this.s.mounted.takeFirstTree(rid);
    if (last === null || isFinalized(last.lt)) {
      lt.reset(rid, last === null ? this.startNr(isFirst) : last.lt.nr + 1);
      return 'new';
    }
    lt.set(last.bytes);
    if (lt.getTransSeq < lt.commitTransSeq) {
      throw errnoError('EINVAL', `log_trees of ${rid.toString(16)} committed before it was got`);
    }
    return lt.getTransSeq > lt.commitTransSeq ? 'replay' : 'stored';
  }

  /**
   * The nr of a log tree without one before it: 1. A mount whose last tree was finalized by a
   * server that died then may have had any, now that it is merged and gone, and upstream's
   * mounts set bloom bits once for each nr: so it gets one that it cannot have had.
   */
  private startNr(isFirst: boolean): number {
    return isFirst ? 1 : this.s.commits.nextSeq();
  }

  /**
   * Makes the value ready for a transaction and stores it, also when something failed.
   * @returns what failed
   */
  private async refill(tx: Hold, ours: Ours): Promise<ScoutfsError | null> {
    const { commits } = this.s;
    const { lt } = ours;
    const { space, sup } = commits;
    if (ours.stored) await space.dirty(sup.logsRoot, logTreesKey(lt.rid, lt.nr));
    let failed: ScoutfsError | null = null;
    try {
      await this.finalizer.finalizeAndStartMerge(tx, ours);
      await this.takeBackAndFill(lt);
      lt.getTransSeq = commits.nextSeq();
    } catch (e) {
      failed = asScoutfsError(e);
      if (!tx.held) throw failed;
    }
    try {
      await space.force(sup.logsRoot, logTreesKey(lt.rid, lt.nr), lt.get());
    } catch (e) {
      throw commits.fatal(e);
    }
    return failed;
  }

  private async takeBackAndFill(lt: LogTreesRec): Promise<void> {
    const { commits, core } = this.s;
    await commits.giveBack(lt.metaFreed);
    await moveAll(commits, commits.sup.dataAlloc, lt.dataFreed);
    await commits.fillList(lt.metaAvail, META_FILL_LO_BLOCKS, META_FILL_TARGET_BLOCKS, true);
    if (listFirstNr(core, lt.metaAvail) < META_FILL_LEAST_BLOCKS) {
      throw errnoError('ENOSPC', 'too few free metadata blocks for a transaction');
    }
    setListFlags(core, lt.metaAvail, withLow(listFlags(core, lt.metaAvail), commits.metaIsLow));
    await this.fillData(lt);
    setARootFlags(core, lt.dataAvail,
      aRootTotal(core, lt.dataAvail) < DATA_FILL_LO_BLOCKS ? ALLOC_FLAG_LOW : 0);
  }

  /** Refills data_avail, from the mount's zones first, and records the zones it has then. */
  private async fillData(lt: LogTreesRec): Promise<void> {
    const { commits, core } = this.s;
    const { space, sup } = commits;
    const { volopt, totalDataBlocks } = sup.read();
    const on = (volopt.setBits & BigInt(VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT)) !== 0n;
    const zoneBlocks = on ? volopt.dataAllocZoneBlocks : 0;
    const have = aRootTotal(core, lt.dataAvail);
    const bits = new Rec(core, 2 * ZONE_BITMAP_BYTES);
    try {
      if (have < DATA_FILL_LO_BLOCKS) {
        let zones: ZoneChoice | null = null;
        if (zoneBlocks > 0) {
          const all = allLogTrees(space, sup.logsRoot);
          const { exclusive, vacant } =
            await chooseZones(all, lt.rid, zoneBlocks, totalDataBlocks);
          core.bytes.set(exclusive.bytes, bits.ptr);
          core.bytes.set(vacant.bytes, bits.ptr + ZONE_BITMAP_BYTES);
          zones = { zoneBlocks, exclusive: bits.ptr, vacant: bits.ptr + ZONE_BITMAP_BYTES };
        }
        await moveExtents(commits, lt.dataAvail, sup.dataAlloc, DATA_FILL_TARGET_BLOCKS - have,
          zones);
      }
      if (zoneBlocks > 0) {
        await core.runAsync('zones of data_avail', () =>
          core.x.ext_zones(lt.dataAvail, zoneBlocks, bits.ptr));
      }
      lt.setZones(zoneBlocks, zoneBlocks > 0 ? core.copyOut(bits.ptr, ZONE_BITMAP_BYTES) : null);
    } finally {
      bits.free();
    }
  }

  /** Moves the rest of data_freed, commit by commit, as long as the transaction stays open. */
  private async drainDataFreed(tx: Hold, lt: LogTreesRec): Promise<void> {
    const { commits, core } = this.s;
    while (aRootTotal(core, lt.dataFreed) > 0) {
      await tx.hold();
      const { space, sup } = commits;
      const stored = await lastLogTrees(space, sup.logsRoot, lt.rid);
      if (stored?.lt.nr !== lt.nr || stored.lt.getTransSeq !== lt.getTransSeq ||
          stored.lt.commitTransSeq !== lt.commitTransSeq || stored.lt.flags !== lt.flags) {
        tx.release();
        return;
      }
      const key = logTreesKey(lt.rid, lt.nr);
      await space.dirty(sup.logsRoot, key);
      lt.set(stored.bytes);
      let failed: unknown = null;
      try {
        await moveAll(commits, sup.dataAlloc, lt.dataFreed);
      } catch (e) {
        failed = e;
      }
      try {
        await space.force(sup.logsRoot, key, lt.get());
      } catch (e) {
        throw commits.fatal(e);
      }
      await tx.apply();
      if (failed !== null) throw asScoutfsError(failed);
    }
  }

  /**
   * COMMIT_LOG_TREES.
   * @throws EIO for another mount's value or transaction, ENOENT without one, EINVAL for
   *         references outside the device
   */
  async commit(rid: bigint, payload: Uint8Array): Promise<void> {
    const { commits, core } = this.s;
    const received = decode(LogTrees, payload);
    if (received.rid !== rid) {
      throw errnoError('EIO',
        `log_trees of ${received.rid.toString(16)} sent by ${rid.toString(16)}`);
    }
    return commits.transact(async () => {
      const { space, sup } = commits;
      const key = logTreesKey(rid, received.nr);
      const bytes = await space.lookup(sup.logsRoot, key);
      if (bytes === null) {
        throw errnoError('ENOENT', `no log_trees ${received.nr} of ${rid.toString(16)}`);
      }
      const stored = decode(LogTrees, sized(bytes, LogTrees.size, 'log_trees'));
      if (stored.getTransSeq !== received.getTransSeq) {
        throw errnoError('EIO', `transaction ${received.getTransSeq} of ${rid.toString(16)} ` +
          `is not the one got last, ${stored.getTransSeq}`);
      }
      if (stored.commitTransSeq === received.getTransSeq) return;
      checkLogTrees(this.s, stored, received);
      await checkLogTreesBlocks(this.s, stored, received);
      await space.dirty(sup.logsRoot, key);
      const lt = new LogTreesRec(core, payload);
      try {
        await rotateSrchLog(this.s, lt, this.s.triggers.fires('srch_force_log_rotate'));
        lt.commitTransSeq = received.getTransSeq;
        await space.update(sup.logsRoot, key, lt.get());
      } catch (e) {
        throw commits.fatal(e);
      } finally {
        lt.free();
      }
    });
  }

  /** GET_ROOTS: always of the stable super. */
  getRoots(): Uint8Array {
    const { fsRoot, logsRoot, srchRoot } = this.s.commits.stable;
    return encode(NetRoots, { fsRoot, logsRoot, srchRoot });
  }

  /** GET_LAST_SEQ: below every open transaction of a mount. */
  lastSeq(): Promise<number> {
    const { commits, mounted } = this.s;
    return commits.inspect(async () => {
      let seq = commits.seq - 1;
      for await (const { lt } of lastLogTreesOfAll(commits.space, commits.sup.logsRoot)) {
        if (lt.getTransSeq > lt.commitTransSeq && lt.getTransSeq <= seq &&
            await mounted.has(lt.rid)) seq = lt.getTransSeq - 1;
      }
      return Math.max(seq, 0);
    });
  }

  /** ALLOC_INODES: a run of inode numbers that nobody else gets; `nr` 0 when none are left. */
  allocInodes(requested: bigint): Promise<Uint8Array> {
    const { commits } = this.s;
    return commits.transact(() => {
      const ino = commits.sup.nextIno;
      const left = BigInt(Number.MAX_SAFE_INTEGER - ino);
      const most = left < ALLOC_INODES_MAX ? left : ALLOC_INODES_MAX;
      const nr = Number(requested < most ? requested : most);
      commits.sup.nextIno = ino + nr;
      return Promise.resolve(encode(NetInodeAlloc, { ino, nr }));
    });
  }
}

function withLow(flags: number, low: boolean): number {
  return low ? flags | ALLOC_FLAG_LOW : flags & ~ALLOC_FLAG_LOW;
}
