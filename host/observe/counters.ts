/**
 * The counters of one mount.
 *
 * One table of names, grouped by subsystem. A counter is an index into a
 * Float64Array, so counting is one addition; the constant `C` turns names into
 * indices at compile time. Upstream's 202 names come first and are what the
 * `counters` directory of a mount shows; those of our own follow in groups that
 * start at OWN_START.
 *
 *   const counters = new Counters();
 *   counters.inc(C.trans_commit_timer);
 *
 * Spec: cli.md 3.4.
 */

const UPSTREAM = [
  // metadata and data allocation
  'alloc_alloc_data', 'alloc_alloc_meta', 'alloc_free_data', 'alloc_free_meta',
  'alloc_freed_fill', 'alloc_list_avail_lo', 'alloc_list_freed_hi', 'alloc_move',
  'alloc_moved_extent', 'alloc_stale_list_block',
  // block cache
  'block_cache_access_update', 'block_cache_alloc_failure', 'block_cache_alloc_page_order',
  'block_cache_alloc_virt', 'block_cache_end_io_error', 'block_cache_isolate_removed',
  'block_cache_isolate_rotate', 'block_cache_isolate_skip', 'block_cache_forget',
  'block_cache_free', 'block_cache_free_work', 'block_cache_remove_stale',
  'block_cache_count_objects', 'block_cache_scan_objects',
  // btree
  'btree_compact_values', 'btree_compact_values_enomem', 'btree_delete', 'btree_dirty',
  'btree_force', 'btree_join', 'btree_insert', 'btree_leaf_item_hash_search', 'btree_lookup',
  'btree_merge', 'btree_merge_alloc_low', 'btree_merge_delete', 'btree_merge_delta_combined',
  'btree_merge_delta_null', 'btree_merge_dirty_limit', 'btree_merge_drop_old',
  'btree_merge_insert', 'btree_merge_update', 'btree_merge_walk', 'btree_next', 'btree_prev',
  'btree_split', 'btree_stale_read', 'btree_update', 'btree_walk', 'btree_walk_restart',
  // client
  'client_farewell_error',
  // corruption found
  'corrupt_btree_block_level', 'corrupt_btree_no_child_ref', 'corrupt_dirent_backref_name_len',
  'corrupt_dirent_name_len', 'corrupt_dirent_readdir_name_len', 'corrupt_inode_block_counts',
  'corrupt_symlink_inode_size', 'corrupt_symlink_missing_item', 'corrupt_symlink_not_null_term',
  // file data
  'data_fallocate_enobufs_retry', 'data_write_begin_enobufs_retry',
  // name cache checks
  'dentry_revalidate_error', 'dentry_revalidate_invalid', 'dentry_revalidate_rcu',
  'dentry_revalidate_root', 'dentry_revalidate_valid',
  // directories
  'dir_backref_excessive_retries',
  // extent operations
  'ext_op_insert', 'ext_op_next', 'ext_op_remove',
  // log forest and bloom
  'forest_bloom_fail', 'forest_bloom_pass', 'forest_bloom_stale', 'forest_read_items',
  'forest_roots_next_hint', 'forest_set_bloom_bits',
  // inodes
  'inode_deleted',
  // item cache
  'item_cache_count_objects', 'item_cache_scan_objects', 'item_clear_dirty', 'item_create',
  'item_delete', 'item_delta', 'item_delta_written', 'item_dirty', 'item_invalidate',
  'item_invalidate_page', 'item_lookup', 'item_mark_dirty', 'item_next', 'item_page_accessed',
  'item_page_alloc', 'item_page_clear_dirty', 'item_page_compact', 'item_page_free',
  'item_page_lru_add', 'item_page_lru_remove', 'item_page_mark_dirty', 'item_page_rbtree_walk',
  'item_page_split', 'item_pcpu_add_replaced', 'item_pcpu_page_hit', 'item_pcpu_page_miss',
  'item_pcpu_page_miss_keys', 'item_read_pages_barrier', 'item_read_pages_retry',
  'item_read_pages_split', 'item_shrink_page', 'item_shrink_page_dirty',
  'item_shrink_page_trylock', 'item_update', 'item_write_dirty',
  // client locks
  'lock_alloc', 'lock_free', 'lock_grant_request', 'lock_grant_response',
  'lock_invalidate_coverage', 'lock_invalidate_inode', 'lock_invalidate_request',
  'lock_invalidate_response', 'lock_invalidate_sync', 'lock_invalidate_work', 'lock_lock',
  'lock_lock_error', 'lock_nonblock_eagain', 'lock_recover_request', 'lock_shrink_attempted',
  'lock_shrink_request_failed', 'lock_unlock', 'lock_wait',
  // log merging
  'log_merge_complete', 'log_merge_no_finalized', 'log_merge_start', 'log_merge_wait_timeout',
  // networking
  'net_dropped_response', 'net_send_bytes', 'net_send_error', 'net_send_messages',
  'net_recv_bytes', 'net_recv_dropped_duplicate', 'net_recv_error', 'net_recv_invalid_message',
  'net_recv_messages', 'net_unknown_request',
  // orphan scanning
  'orphan_scan', 'orphan_scan_attempts', 'orphan_scan_cached', 'orphan_scan_empty',
  'orphan_scan_error', 'orphan_scan_item', 'orphan_scan_omap_set',
  // quota cache
  'quota_info_count_objects', 'quota_info_scan_objects',
  // quorum
  'quorum_candidate_server_stopping', 'quorum_elected', 'quorum_fence_error',
  'quorum_fence_leader', 'quorum_read_invalid_block', 'quorum_recv_error',
  'quorum_recv_heartbeat', 'quorum_recv_invalid', 'quorum_recv_resignation', 'quorum_recv_vote',
  'quorum_send_heartbeat', 'quorum_send_heartbeat_dropped', 'quorum_send_resignation',
  'quorum_send_request', 'quorum_send_vote', 'quorum_server_shutdown', 'quorum_term_follower',
  // mount log reclaim
  'reclaimed_open_logs',
  // server commits
  'server_commit_hold', 'server_commit_queue', 'server_commit_worker',
  // xattr search
  'srch_add_entry', 'srch_compact_dirty_block', 'srch_compact_entry', 'srch_compact_error',
  'srch_compact_flush', 'srch_compact_log_page', 'srch_compact_removed_entry', 'srch_rotate_log',
  'srch_search_log', 'srch_search_log_block', 'srch_search_retry_empty', 'srch_search_sorted',
  'srch_search_sorted_block', 'srch_search_xattrs', 'srch_read_stale',
  // statfs
  'statfs',
  // totals
  'totl_read_copied', 'totl_read_item',
  // transactions
  'trans_commit_data_alloc_low', 'trans_commit_dirty_meta_full', 'trans_commit_fsync',
  'trans_commit_meta_alloc_low', 'trans_commit_sync_fs', 'trans_commit_timer',
  'trans_commit_written',
  // weak item cache
  'wkic_count_objects', 'wkic_scan_objects',
] as const;

const OWN = [
  // requests of the kernel, and what they cost
  'fuse_requests', 'fuse_replies', 'fuse_errors', 'fuse_forgets', 'fuse_interrupts',
  'fuse_notifications', 'fuse_read_bytes', 'fuse_write_bytes',
  // calls into the core, and how often one had to ask for blocks or be repeated
  'core_calls', 'core_need_block', 'core_block_reads', 'core_block_writes',
  // operations that left the tick they started in
  'promises', 'op_retries', 'op_fast',
  // what peers were refused beside invalid messages and datagrams: connections and datagrams
  // of other networks, greetings, and requests that were answered with an error
  'net_refused_peers', 'net_refused_greetings', 'net_refused_requests',
  // device I/O
  'device_read_bytes', 'device_write_bytes', 'device_flushes',
] as const;

const NAMES = [...UPSTREAM, ...OWN] as const;

export type CounterName = (typeof NAMES)[number];

/** All names in the order of their indices. */
export const COUNTER_NAMES: readonly CounterName[] = NAMES;

/** Index of the first counter that upstream does not have. */
export const OWN_START = UPSTREAM.length;

/** Index of each counter by name. */
export const C: Readonly<Record<CounterName, number>> = Object.freeze(
  Object.fromEntries(NAMES.map((name, i) => [name, i])) as Record<CounterName, number>,
);

export class Counters {
  private readonly values = new Float64Array(NAMES.length);

  /** Adds one. `index` is a member of `C`. */
  inc(index: number): void {
    this.values[index] = (this.values[index] as number) + 1;
  }

  add(index: number, n: number): void {
    this.values[index] = (this.values[index] as number) + n;
  }

  /** `index` is a member of `C`. */
  at(index: number): number {
    return this.values[index] ?? 0;
  }

  get(name: CounterName): number {
    return this.values[C[name]] as number;
  }

  /** Adds the values of another thread's counters, as `snapshot` returned them. */
  addSnapshot(values: Float64Array): void {
    for (let i = 0; i < NAMES.length; i++) this.add(i, values[i] ?? 0);
  }

  /** A copy of all values in the order of COUNTER_NAMES. */
  snapshot(): Float64Array {
    return this.values.slice();
  }

  /** Names and values; `own` includes the counters that upstream does not have. */
  *entries(own: boolean): Generator<[CounterName, number]> {
    const end = own ? NAMES.length : OWN_START;
    for (let i = 0; i < end; i++) yield [NAMES[i] as CounterName, this.values[i] as number];
  }
}
