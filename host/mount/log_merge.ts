/**
 * A mount's share of a log merge: one request in, one completion out.
 *
 * The server hands out a range of keys with the level-1 block of the fs tree that holds
 * it, a list of blocks to write to, and the logs root to read from. The items of all
 * input trees in the range are merged into a copy of that block and its leaves, which
 * only the completion makes part of the volume. Nothing is written outside the request's
 * list, so a job that fails, or is lost with its mount, has changed nothing.
 *
 * The logs root may have been replaced while we read; then blocks are stale, the
 * completion says ERROR, and the server hands the range out again.
 *
 * Works with a core instance of its own (its cache must not fill the mount's), in
 * whatever thread the mount chooses. Source: forest.md 8.7, client.md 5.
 */
import { Core } from '../core/core.js';
import {
  BLOCK_LG_SIZE, BtreeRoot, Key, LOG_MERGE_COMP_ERROR, LOG_MERGE_COMP_REMAIN,
  LOG_MERGE_REQUEST_SUBTREE, LOG_TREES_FINALIZED, LOG_TREES_ZONE, LogMergeComplete,
  LogMergeRequest, LogTrees, AllocListHead,
} from '../core/format.js';
import { incKey, keyBytes, makeKey } from '../core/keys.js';
import { Rec, TreeReader, TreeSpace } from '../core/trees.js';
import type { Device } from '../env/device.js';
import type { Random } from '../env/random.js';
import { decode, encode, viewOf } from '../net/messages.js';
import type { Counters } from '../observe/counters.js';
import { ERRNO, ScoutfsError, asScoutfsError } from '../observe/errors.js';
import type { TriggerName } from '../observe/triggers.js';

/** What is merged at a time, if the memory allows: the core needs five times as much. */
const WINDOW_MAX_BYTES = 2 * 1024 * 1024;
const WINDOW_SHARE = 1 / 16;
/** Share of the memory that one job's dirty blocks may fill. */
const DIRTY_SHARE = 1 / 3;
const ALLOC_LOW_BLOCKS = 10;
/** What a merge that is to stop early may make dirty: one leaf is always merged. */
const PARTIAL_DIRTY_BLOCKS = 1;
const PARTIAL: TriggerName = 'log_merge_force_partial';
/** Memory of the core, unless told otherwise. */
const MEMORY_BYTES = 192 * 1024 * 1024;

/** What became of a job. `error` is for the log; the completion says ERROR then. */
export interface MergeOutcome {
  completion: Uint8Array;
  error: ScoutfsError | null;
  blocksWritten: number;
  fired: readonly TriggerName[];
}

export class LogMergeWorker {
  /** For other work of the same thread, too. */
  readonly core: Core;
  readonly dirtyMaxBlocks: number;
  private readonly windowBytes: number;

  constructor(private readonly device: Device, private readonly fsid: bigint, random: Random,
    memoryBytes = MEMORY_BYTES) {
    this.windowBytes = Math.min(WINDOW_MAX_BYTES, Math.floor(memoryBytes * WINDOW_SHARE));
    this.core = new Core(random, { memoryBytes, mergeWindowBytes: this.windowBytes });
    this.dirtyMaxBlocks = Math.floor(memoryBytes * DIRTY_SHARE / BLOCK_LG_SIZE);
    this.lookAtSize();
  }

  /** Before each piece of work: the device may have grown. */
  lookAtSize(): void {
    const { device, fsid } = this;
    device.refreshSize?.();
    this.core.setVolume(device, fsid, Math.floor(device.sizeBytes / BLOCK_LG_SIZE));
  }

  /** Adds what its core has counted since the last call. */
  addCounts(to: Counters): void {
    this.core.addCounts(to);
  }

  /**
   * Works on a GET_LOG_MERGE response; the result is what COMMIT_LOG_MERGE carries. `armed` are
   * triggers.
   */
  async run(request: Uint8Array, armed: readonly TriggerName[] = []): Promise<MergeOutcome> {
    const req = decode(LogMergeRequest, request);
    const done: LogMergeComplete = {
      metaAvail: req.metaAvail, metaFreed: req.metaFreed, root: req.root, start: req.start,
      end: req.end, remain: req.end, rid: req.rid, seq: req.seq, flags: 0,
    };
    try {
      const dirtyMax = armed.includes(PARTIAL) ? PARTIAL_DIRTY_BLOCKS : this.dirtyMaxBlocks;
      const blocksWritten = await this.merge(req, done, dirtyMax);
      return {
        completion: encode(LogMergeComplete, done), error: null, blocksWritten,
        fired: armed.includes(PARTIAL) && done.flags === LOG_MERGE_COMP_REMAIN ? [PARTIAL] : [],
      };
    } catch (e) {
      const completion = encode(LogMergeComplete, {
        ...done, metaAvail: req.metaAvail, metaFreed: req.metaFreed, root: req.root,
        flags: LOG_MERGE_COMP_ERROR,
      });
      return { completion, error: asScoutfsError(e), blocksWritten: 0, fired: [] };
    }
  }

  private async merge(req: LogMergeRequest, done: LogMergeComplete, dirtyMaxBlocks: number):
  Promise<number> {
    const { core, device } = this;
    const inputs = await this.inputs(req);
    if (inputs.length === 0) return 0;
    const space = new TreeSpace(core);
    const root = new Rec(core, BtreeRoot.size, encode(BtreeRoot, req.root));
    let written = false;
    space.begin(encode(AllocListHead, req.metaAvail), encode(AllocListHead, req.metaFreed));
    try {
      await this.apply(req, done, space, root, inputs, dirtyMaxBlocks);
      const heads = space.finish();
      const nr = space.dirtyBlocks;
      await space.write();
      await device.flush();
      written = true;
      done.metaAvail = decode(AllocListHead, heads.avail);
      done.metaFreed = decode(AllocListHead, heads.freed);
      done.root = decode(BtreeRoot, root.get());
      return nr;
    } finally {
      if (!written) space.finish();
      space.forget(written);
      root.free();
      space.free();
    }
  }

  /** Runs the core's merge; notes where it stopped if it could not finish. */
  private async apply(req: LogMergeRequest, done: LogMergeComplete, space: TreeSpace, root: Rec,
    inputs: BtreeRoot[], dirtyMaxBlocks: number): Promise<void> {
    const { core } = this;
    const roots = new Rec(core, inputs.length * BtreeRoot.size);
    const start = new Rec(core, Key.size, keyBytes(req.start));
    const end = new Rec(core, Key.size, keyBytes(req.end));
    inputs.forEach((r, i) => { BtreeRoot.write(core.view, roots.ptr + i * BtreeRoot.size, r); });
    try {
      const subtree = req.flags % 2 === LOG_MERGE_REQUEST_SUBTREE ? 1 : 0;
      core.x.merge_start(space.al, space.ws, root.ptr, roots.ptr, inputs.length, start.ptr, end.ptr,
        subtree, dirtyMaxBlocks, ALLOC_LOW_BLOCKS, this.windowBytes);
      const r = await core.runSteps(() => core.x.merge_run(), () => core.x.merge_progress());
      if (r === -ERRNO.ERANGE) {
        core.x.merge_next(start.ptr);
        done.remain = decode(Key, start.get());
        done.flags = LOG_MERGE_COMP_REMAIN;
      } else if (r < 0) {
        throw core.error('merge logs', r);
      }
    } finally {
      for (const rec of [roots, start, end]) rec.free();
    }
  }

  /** The item trees that this merge takes in. */
  private async inputs(req: LogMergeRequest): Promise<BtreeRoot[]> {
    const reader = new TreeReader(this.core);
    const logs = new Rec(this.core, BtreeRoot.size, encode(BtreeRoot, req.logsRoot));
    const found: BtreeRoot[] = [];
    try {
      let key = makeKey({ zone: LOG_TREES_ZONE });
      for (;;) {
        const item = await reader.next(logs.ptr, keyBytes(key));
        if (item === null) return found;
        key = decode(Key, item.key);
        if (key.zone !== LOG_TREES_ZONE) return found;
        if (item.val.length !== LogTrees.size) {
          throw new ScoutfsError('BAD_ITEM_SIZE', 'EIO', {
            message: `log_trees item has ${item.val.length} bytes instead of ${LogTrees.size}`,
          });
        }
        const lt = LogTrees.read(viewOf(item.val), 0);
        const finalized = lt.flags % 2 === LOG_TREES_FINALIZED;
        if (finalized && lt.finalizeSeq < req.inputSeq && lt.itemRoot.height > 0) {
          found.push(lt.itemRoot);
        }
        key = incKey(key);
      }
    } finally {
      logs.free();
    }
  }
}
