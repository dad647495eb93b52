/**
 * How often things have happened in this instance.
 *
 * One f64 per counter in a fixed place, so that counting is a load, an addition and a
 * store, and the host reads all of them as an array. The names are those of
 * `host/core/core_counters.ts`, in the same order; their meanings are upstream's. What
 * is repeated because a block was missing counts once, when it has succeeded, as far as
 * that is cheap to tell. Spec: cli.md 3.4.
 */
export const N_ALLOC_ALLOC_META: i32 = 0;
export const N_ALLOC_FREE_META: i32 = 1;
export const N_ALLOC_LIST_AVAIL_LO: i32 = 2;
export const N_ALLOC_LIST_FREED_HI: i32 = 3;
export const N_ALLOC_MOVE: i32 = 4;
export const N_ALLOC_MOVED_EXTENT: i32 = 5;
export const N_BLOCK_CACHE_ACCESS_UPDATE: i32 = 6;
export const N_BLOCK_CACHE_ALLOC_PAGE_ORDER: i32 = 7;
export const N_BLOCK_CACHE_END_IO_ERROR: i32 = 8;
export const N_BLOCK_CACHE_FORGET: i32 = 9;
export const N_BLOCK_CACHE_FREE: i32 = 10;
export const N_BLOCK_CACHE_REMOVE_STALE: i32 = 11;
export const N_BTREE_COMPACT_VALUES: i32 = 12;
export const N_BTREE_DELETE: i32 = 13;
export const N_BTREE_DIRTY: i32 = 14;
export const N_BTREE_FORCE: i32 = 15;
export const N_BTREE_INSERT: i32 = 16;
export const N_BTREE_JOIN: i32 = 17;
export const N_BTREE_LEAF_ITEM_HASH_SEARCH: i32 = 18;
export const N_BTREE_LOOKUP: i32 = 19;
export const N_BTREE_MERGE: i32 = 20;
export const N_BTREE_MERGE_ALLOC_LOW: i32 = 21;
export const N_BTREE_MERGE_DELETE: i32 = 22;
export const N_BTREE_MERGE_DELTA_COMBINED: i32 = 23;
export const N_BTREE_MERGE_DELTA_NULL: i32 = 24;
export const N_BTREE_MERGE_DIRTY_LIMIT: i32 = 25;
export const N_BTREE_MERGE_DROP_OLD: i32 = 26;
export const N_BTREE_MERGE_INSERT: i32 = 27;
export const N_BTREE_MERGE_UPDATE: i32 = 28;
export const N_BTREE_MERGE_WALK: i32 = 29;
export const N_BTREE_NEXT: i32 = 30;
export const N_BTREE_PREV: i32 = 31;
export const N_BTREE_SPLIT: i32 = 32;
export const N_BTREE_STALE_READ: i32 = 33;
export const N_BTREE_UPDATE: i32 = 34;
export const N_BTREE_WALK: i32 = 35;
export const N_BTREE_WALK_RESTART: i32 = 36;
export const N_CORRUPT_BTREE_BLOCK_LEVEL: i32 = 37;
export const N_CORRUPT_BTREE_NO_CHILD_REF: i32 = 38;
export const N_EXT_OP_INSERT: i32 = 39;
export const N_EXT_OP_NEXT: i32 = 40;
export const N_EXT_OP_REMOVE: i32 = 41;
export const N_FOREST_BLOOM_FAIL: i32 = 42;
export const N_FOREST_BLOOM_PASS: i32 = 43;
export const N_FOREST_BLOOM_STALE: i32 = 44;
export const N_FOREST_READ_ITEMS: i32 = 45;
export const N_FOREST_ROOTS_NEXT_HINT: i32 = 46;
export const N_FOREST_SET_BLOOM_BITS: i32 = 47;
export const N_ITEM_CLEAR_DIRTY: i32 = 48;
export const N_ITEM_CREATE: i32 = 49;
export const N_ITEM_DELETE: i32 = 50;
export const N_ITEM_DELTA: i32 = 51;
export const N_ITEM_DELTA_WRITTEN: i32 = 52;
export const N_ITEM_DIRTY: i32 = 53;
export const N_ITEM_INVALIDATE: i32 = 54;
export const N_ITEM_INVALIDATE_PAGE: i32 = 55;
export const N_ITEM_LOOKUP: i32 = 56;
export const N_ITEM_MARK_DIRTY: i32 = 57;
export const N_ITEM_NEXT: i32 = 58;
export const N_ITEM_PAGE_ACCESSED: i32 = 59;
export const N_ITEM_PAGE_ALLOC: i32 = 60;
export const N_ITEM_PAGE_COMPACT: i32 = 61;
export const N_ITEM_PAGE_FREE: i32 = 62;
export const N_ITEM_PAGE_LRU_ADD: i32 = 63;
export const N_ITEM_PAGE_LRU_REMOVE: i32 = 64;
export const N_ITEM_PAGE_RBTREE_WALK: i32 = 65;
export const N_ITEM_PAGE_SPLIT: i32 = 66;
export const N_ITEM_PCPU_PAGE_HIT: i32 = 67;
export const N_ITEM_PCPU_PAGE_MISS: i32 = 68;
export const N_ITEM_READ_PAGES_BARRIER: i32 = 69;
export const N_ITEM_SHRINK_PAGE: i32 = 70;
export const N_ITEM_UPDATE: i32 = 71;
export const N_ITEM_WRITE_DIRTY: i32 = 72;
export const N_SRCH_ADD_ENTRY: i32 = 73;
export const COUNTERS_NR: i32 = 74;

const counts: usize = memory.data(592, 8);

/** Adds one to a counter. */
// @ts-ignore: decorator
@inline export function count(n: i32): void {
  const at = counts + (<usize>n << 3);
  store<f64>(at, load<f64>(at) + 1);
}

/** Adds `by` to a counter. */
// @ts-ignore: decorator
@inline export function countBy(n: i32, by: i32): void {
  const at = counts + (<usize>n << 3);
  store<f64>(at, load<f64>(at) + <f64>by);
}

/** Where the counters are: f64 values in the order of this file. */
export function countersAt(): usize {
  return counts;
}
