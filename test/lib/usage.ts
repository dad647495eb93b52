/**
 * What a volume at rest has in use, and waiting until merges have brought that down:
 * deleted items stay in log trees until they are merged.
 */
import type { Rig } from './mounted.js';
import { sh } from './mounted.js';

/** Mounts that merging may take after everything is deleted, on the slowest machine. */
const MERGE_MOUNTS_MAX = 20;
/** Mounts in a row that bring nothing: there is nothing left to merge. */
const IDLE_MOUNTS_MAX = 3;
const MERGE_MOUNT_MS = 8000;
const POLL_SEC = 0.3;

export interface Usage {
  meta: number;
  data: number;
  freeData: number;
  inodes: number;
  /** Log trees that wait for a merge: every mount that ends leaves one. */
  logTrees: number;
}

/** Roots of trees and lists that a volume may have after use and a new one not. */
const LEFT_MAX_BLOCKS = 16;
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
    meta: s.usedMetaBlocks, data: s.mappedDataBlocks, freeData: s.freeDataBlocks, inodes: s.inodes,
    logTrees: s.logTrees,
  };
}

/** Mounts until merges have brought the metadata down to what it was, or do nothing more. */
export function letMergesRun(rig: Rig, empty: Usage): Usage {
  let least = Infinity;
  let idle = 0;
  for (let i = 1; ; i++) {
    const now = used(rig);
    idle = now.meta < least ? 0 : idle + 1;
    least = Math.min(least, now.meta);
    if (isFreeAgain(empty, now) || i > MERGE_MOUNTS_MAX || idle === IDLE_MOUNTS_MAX) return now;
    rig.mount('orphan_scan_delay_ms=500');
    const endMs = performance.now() + MERGE_MOUNT_MS;
    // transactions are what merges are asked for with; these need no space
    while (performance.now() < endMs) {
      sh(`touch . && sync . && sleep ${POLL_SEC}`, rig.mnt);
    }
    rig.umount();
  }
}
