/**
 * What the core counts, in the order in which it keeps the counters (assembly/count.ts).
 */
import type { CounterName } from '../observe/counters.js';

export const CORE_COUNTERS = [
  'alloc_alloc_meta', 'alloc_free_meta', 'alloc_list_avail_lo', 'alloc_list_freed_hi',
  'alloc_move', 'alloc_moved_extent', 'block_cache_access_update', 'block_cache_alloc_page_order',
  'block_cache_end_io_error', 'block_cache_forget', 'block_cache_free',
  'block_cache_remove_stale', 'btree_compact_values', 'btree_delete', 'btree_dirty',
  'btree_force', 'btree_insert', 'btree_join', 'btree_leaf_item_hash_search', 'btree_lookup',
  'btree_merge', 'btree_merge_alloc_low', 'btree_merge_delete', 'btree_merge_delta_combined',
  'btree_merge_delta_null', 'btree_merge_dirty_limit', 'btree_merge_drop_old',
  'btree_merge_insert', 'btree_merge_update', 'btree_merge_walk', 'btree_next', 'btree_prev',
  'btree_split', 'btree_stale_read', 'btree_update', 'btree_walk', 'btree_walk_restart',
  'corrupt_btree_block_level', 'corrupt_btree_no_child_ref', 'ext_op_insert', 'ext_op_next',
  'ext_op_remove', 'forest_bloom_fail', 'forest_bloom_pass', 'forest_bloom_stale',
  'forest_read_items', 'forest_roots_next_hint', 'forest_set_bloom_bits', 'item_clear_dirty',
  'item_create', 'item_delete', 'item_delta', 'item_delta_written', 'item_dirty',
  'item_invalidate', 'item_invalidate_page', 'item_lookup', 'item_mark_dirty', 'item_next',
  'item_page_accessed', 'item_page_alloc', 'item_page_compact', 'item_page_free',
  'item_page_lru_add', 'item_page_lru_remove', 'item_page_rbtree_walk', 'item_page_split',
  'item_pcpu_page_hit', 'item_pcpu_page_miss', 'item_read_pages_barrier', 'item_shrink_page',
  'item_update', 'item_write_dirty', 'srch_add_entry',
] as const satisfies readonly CounterName[];
