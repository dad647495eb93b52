/**
 * What a volume at rest has in use, and waiting until merges have brought that down:
 * deleted items stay in log trees until they are merged.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Rig } from './mounted.js';
import { sh } from './mounted.js';

/** Mounts that merging may take: orphans are deleted, merged, and merged trees freed. */
const MERGE_MOUNTS_MAX = 5;
const MERGES_PER_MOUNT = 2;
/** A merge takes seconds at most, but for a machine that is busy with other things. */
const MERGE_LIMIT_MS = 120_000;
const POLL_SEC = 0.2;

export interface Usage {
  /**
   * Metadata blocks in use, but for the trees of free extents: those grow where free blocks
   * that lie side by side are in different ones of the two (alloc.md 6).
   */
  meta: number;
  data: number;
  freeData: number;
  inodes: number;
  /** Log trees that wait for a merge: every mount that ends leaves one. */
  logTrees: number;
}

/**
 * What a volume may have after use and a new one not: roots of trees, and the blocks of lists
 * that name what was freed last, until later commits move that into extents.
 */
const LEFT_MAX_BLOCKS = 8;
/** Of a log tree that waits. */
const TREE_MAX_BLOCKS = 4;

/** Whether all metadata is free again that was free in the beginning, but for what waits. */
export function isFreeAgain(empty: Usage, now: Usage): boolean {
  return now.meta <= empty.meta + LEFT_MAX_BLOCKS + TREE_MAX_BLOCKS * now.logTrees;
}

/** Counts of an unmounted volume, as the checker finds them. */
export function used(rig: Rig): Usage {
  const { summary: s } = rig.checkReport();
  return {
    meta: s.usedMetaBlocks - s.metaAllocBlocks, data: s.mappedDataBlocks, freeData: s.freeDataBlocks, inodes: s.inodes,
    logTrees: s.logTrees,
  };
}

/** Forces merges, in a few mounts at most, until all that was free is free again. */
export function letMergesRun(rig: Rig, empty: Usage): Usage {
  for (let i = 1; ; i++) {
    const now = used(rig);
    if (isFreeAgain(empty, now) || i > MERGE_MOUNTS_MAX) return now;
    rig.mount('orphan_scan_delay_ms=500');
    for (let m = 0; m < MERGES_PER_MOUNT; m++) forceMerge(rig);
    rig.umount();
  }
}

/** Has the server merge all log trees, and waits until that is done. */
function forceMerge(rig: Rig): void {
  const done = (): number =>
    Number(readFileSync(join(rig.control, 'counters', 'log_merge_complete'), 'utf8'));
  const before = done();
  writeFileSync(join(rig.control, 'debug', 'trigger', 'log_merge_force_finalize_ours'), '1');
  const endMs = performance.now() + MERGE_LIMIT_MS;
  while (done() === before) {
    if (performance.now() > endMs) throw new Error('the merge that was forced does not end');
    // a commit is what starts a merge; this one needs no space
    sh(`touch . && sync . && sleep ${POLL_SEC}`, rig.mnt);
  }
}
