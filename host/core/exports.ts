/**
 * The raw calls of core.wasm as TypeScript sees them: addresses and i32 as numbers,
 * 64-bit counts as f64. Meanings are documented in assembly/core.ts and, for items
 * and forest, assembly/item.ts and assembly/forest.ts. test/core/exports.test.ts
 * holds this against what the module really exports.
 */
import type { ItemExports } from './item_exports.js';

type Ptr = number;

export interface CoreExports extends ItemExports {
  readonly corruptId: { value: number };
  readonly corruptBlkno: { value: bigint };

  core_init(slotNr: number, mergeWindow: number): number;
  core_volume(fsidLo: number, fsidHi: number, totalBlocks: number): void;
  core_seed(at: Ptr): void;
  heapAlloc(len: number): Ptr;
  heapFree(ptr: Ptr, len: number): void;
  heapFreeBytes(): number;
  checkId(): number;
  countersAt(): Ptr;

  blockReadDone(entry: Ptr, err: number): void;
  blockUnpin(entry: Ptr): void;
  blockIsReading(entry: Ptr): number;
  blockNeedNr(): number;
  blockNrDirty(): number;
  blockNrFree(): number;
  blockEvictAll(): number;
  blockStaleNext(): void;
  wsetForget(wset: Ptr, written: boolean | number): void;
  wsetList(wset: Ptr, from: number, max: number, out: Ptr): number;
  wsetCount(wset: Ptr): number;

  block_check(ref: Ptr, magic: number): number;

  btree_lookup(root: Ptr, key: Ptr, out: Ptr, maxLen: number): number;
  btree_next(root: Ptr, key: Ptr, out: Ptr, maxLen: number): number;
  btree_prev(root: Ptr, key: Ptr, out: Ptr, maxLen: number): number;
  btree_insert(al: Ptr, ws: Ptr, root: Ptr, key: Ptr, val: Ptr, len: number): number;
  btree_update(al: Ptr, ws: Ptr, root: Ptr, key: Ptr, val: Ptr, len: number): number;
  btree_force(al: Ptr, ws: Ptr, root: Ptr, key: Ptr, val: Ptr, len: number): number;
  btree_delete(al: Ptr, ws: Ptr, root: Ptr, key: Ptr): number;
  btree_dirty(al: Ptr, ws: Ptr, root: Ptr, key: Ptr): number;
  btree_apply(al: Ptr, ws: Ptr, root: Ptr, key: Ptr, seq: number, flags: number, val: Ptr,
    len: number): number;
  btree_rebalance(al: Ptr, ws: Ptr, root: Ptr, key: Ptr): number;
  btree_parent_range(root: Ptr, key: Ptr, start: Ptr, end: Ptr): number;
  btree_get_parent(root: Ptr, key: Ptr, out: Ptr): number;
  btree_set_parent(al: Ptr, ws: Ptr, root: Ptr, key: Ptr, sub: Ptr): number;
  tree_free(al: Ptr, root: Ptr, key: Ptr, budget: number): number;
  tree_freed_nr(): number;

  merge_start(al: Ptr, ws: Ptr, root: Ptr, inputs: Ptr, nr: number, startKey: Ptr, endKey: Ptr,
    subtree: number, dirtyMaxBlocks: number, allocLowNr: number, window: number): void;
  merge_run(): number;
  merge_progress(): number;
  merge_next(out: Ptr): void;

  alloc_init(al: Ptr, ws: Ptr, avail: Ptr, freed: Ptr): void;
  alloc_finish(al: Ptr, avail: Ptr, freed: Ptr): void;
  alloc_first_use(al: Ptr): number;
  alloc_avail_nr(al: Ptr): number;
  alloc_freed_room(al: Ptr): number;
  alloc_freed_remaining(al: Ptr): number;
  alloc_free_blkno(al: Ptr, blkno: number): number;
  list_fill(al: Ptr, ws: Ptr, head: Ptr, aroot: Ptr, lo: number, target: number): number;
  list_empty(al: Ptr, ws: Ptr, head: Ptr, aroot: Ptr): number;
  list_check(head: Ptr): number;
  list_splice(al: Ptr, ws: Ptr, dst: Ptr, src: Ptr): number;
  ext_insert(al: Ptr, ws: Ptr, aroot: Ptr, start: number, len: number): number;
  ext_remove(al: Ptr, ws: Ptr, aroot: Ptr, start: number, len: number): number;
  ext_alloc(al: Ptr, ws: Ptr, aroot: Ptr, count: number): number;
  ext_got_start(): number;
  ext_got_len(): number;
  ext_move_snapshot(al: Ptr): void;
  ext_move(al: Ptr, ws: Ptr, dst: Ptr, src: Ptr, total: number, exclusive: Ptr, vacant: Ptr,
    zoneBlocks: number, budget: number): number;
  ext_moved(): number;
  ext_zones(aroot: Ptr, zoneBlocks: number, bits: Ptr): number;

  srch_prepare(al: Ptr, ws: Ptr, sfl: Ptr): number;
  srch_append(al: Ptr, ws: Ptr, sfl: Ptr, entry: Ptr): void;
  srch_append_name(al: Ptr, ws: Ptr, sfl: Ptr, nameLen: number, ino: number, id: number): void;
  srch_height_for(blk: number): number;
  srch_compact_start(al: Ptr, ws: Ptr, sc: Ptr, dirtyMaxBlocks: number, triggers: number): number;
  srch_compact_run(): number;
  srch_compact_progress(): number;
  srch_compact_fired(): number;
  srch_compact_entries(): number;
  srch_compact_removed(): number;
}

/** Sizes of the records whose memory the host provides, in bytes. */
export const WSET_BYTES = 16;
export const ALLOCATOR_BYTES = 80;
