/**
 * Every structure that owns free blocks, for counting.
 *
 * One walk over a set of roots that must not change (the stable super): the volume's
 * extent trees and server lists, then what log trees, srch compactions and merge work
 * hold. Tags are those of the allocator detail interface.
 * Source: alloc.md 9.
 */
import {
  ALLOC_OWNER_LOG_MERGE, ALLOC_OWNER_MOUNT, ALLOC_OWNER_SERVER, ALLOC_OWNER_SRCH,
  BtreeRoot, LOG_MERGE_COMPLETE_ZONE, LOG_MERGE_REQUEST_ZONE, LogMergeComplete, LogMergeRequest,
  SRCH_BUSY_TYPE, SRCH_PENDING_TYPE, SRCH_ZONE, SrchCompact, type SuperBlock,
} from '../core/format.js';
import type { Core } from '../core/core.js';
import { keyOnes, makeKey } from '../core/keys.js';
import { Rec, TreeReader } from '../core/trees.js';
import { decode } from '../net/messages.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { sized } from './commit.js';
import { allLogTrees, itemsBetween } from './log_trees_items.js';

export interface FreeCount {
  owner: number;
  id: bigint;
  meta: boolean;
  /** allocated from, or freed into */
  avail: boolean;
  blocks: number;
}

export interface VolumeCounts {
  free: FreeCount[];
  /** sum of all inode count deltas */
  inodeDelta: bigint;
}

/**
 * Counts in the newest stable super block that `read` gives. Commits may go on meanwhile:
 * when a block turns out to be replaced, all starts again with a newer one. The same super
 * being stale twice means that the volume is damaged. @throws EIO then
 */
export async function countStable(core: Core, what: string,
  read: () => SuperBlock | Promise<SuperBlock>): Promise<VolumeCounts & { sb: SuperBlock }> {
  let staleSeq = -1n;
  for (;;) {
    const sb = await read();
    try {
      return { sb, ...await countFree(core, sb) };
    } catch (e) {
      if (asScoutfsError(e).errno !== 'ESTALE') throw e;
      if (sb.hdr.seq === staleSeq) {
        throw new ScoutfsError('STALE_TWICE', 'EIO', {
          message: `${what}: blocks of the stable super block are damaged`, cause: e,
        });
      }
      staleSeq = sb.hdr.seq;
    }
  }
}

/** @throws ESTALE when the roots are no longer those of the last commit */
export async function countFree(core: Core, sb: SuperBlock): Promise<VolumeCounts> {
  const free: FreeCount[] = [];
  const add = (owner: number, id: bigint, meta: boolean, avail: boolean, blocks: number): void => {
    free.push({ owner, id, meta, avail, blocks });
  };
  sb.metaAlloc.forEach((a, i) => { add(ALLOC_OWNER_SERVER, 0n, true, i === 0, a.totalLen); });
  add(ALLOC_OWNER_SERVER, 0n, false, true, sb.dataAlloc.totalLen);
  for (const l of sb.serverMetaAvail) add(ALLOC_OWNER_SERVER, 1n, true, true, l.totalNr);
  for (const l of sb.serverMetaFreed) add(ALLOC_OWNER_SERVER, 1n, true, false, l.totalNr);
  const reader = new TreeReader(core);
  let inodeDelta = 0n;
  await withRoot(core, sb.logsRoot, async (root) => {
    for await (const { lt } of allLogTrees(reader, root)) {
      add(ALLOC_OWNER_MOUNT, lt.rid, true, true, lt.metaAvail.totalNr);
      add(ALLOC_OWNER_MOUNT, lt.rid, true, false, lt.metaFreed.totalNr);
      add(ALLOC_OWNER_MOUNT, lt.rid, false, true, lt.dataAvail.totalLen);
      add(ALLOC_OWNER_MOUNT, lt.rid, false, false, lt.dataFreed.totalLen);
      inodeDelta += lt.inodeCountDelta;
    }
  });
  await withRoot(core, sb.srchRoot, async (root) => {
    const start = makeKey({ zone: SRCH_ZONE, type: SRCH_PENDING_TYPE });
    const end = { ...keyOnes(), zone: SRCH_ZONE, first: 0n, type: SRCH_BUSY_TYPE };
    for await (const { val } of itemsBetween(reader, root, start, end)) {
      const sc = decode(SrchCompact, sized(val, SrchCompact.size, 'srch compaction'));
      add(ALLOC_OWNER_SRCH, BigInt(sc.id), true, true, sc.metaAvail.totalNr);
      add(ALLOC_OWNER_SRCH, BigInt(sc.id), true, false, sc.metaFreed.totalNr);
    }
  });
  await withRoot(core, sb.logMerge, async (root) => {
    const start = makeKey({ zone: LOG_MERGE_REQUEST_ZONE });
    const end = { ...keyOnes(), zone: LOG_MERGE_COMPLETE_ZONE };
    for await (const { key, val } of itemsBetween(reader, root, start, end)) {
      const work = key.zone === LOG_MERGE_REQUEST_ZONE
        ? decode(LogMergeRequest, sized(val, LogMergeRequest.size, 'log merge request'))
        : decode(LogMergeComplete, sized(val, LogMergeComplete.size, 'log merge completion'));
      add(ALLOC_OWNER_LOG_MERGE, work.rid, true, true, work.metaAvail.totalNr);
      add(ALLOC_OWNER_LOG_MERGE, work.rid, true, false, work.metaFreed.totalNr);
    }
  });
  return { free, inodeDelta };
}

async function withRoot(core: Core, root: BtreeRoot, fn: (root: number) => Promise<void>):
Promise<void> {
  const rec = new Rec(core, BtreeRoot.size);
  BtreeRoot.write(core.view, rec.ptr, root);
  try {
    await fn(rec.ptr);
  } finally {
    rec.free();
  }
}
