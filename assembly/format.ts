/**
 * Offsets and constants of the on-disk format that the core works with.
 *
 * One place for both the code that writes a structure and the code that reads it.
 * All offsets are bytes from the start of the structure; layouts are drawn beside
 * the code that owns them. Source: format.md; test/core/layout.test.ts compares
 * these with format-vectors.json.
 */

// errno values as the core returns them (negated)
export const ENOENT: i32 = 2;
export const EIO: i32 = 5;
export const ENOMEM: i32 = 12;
export const EEXIST: i32 = 17;
export const EINVAL: i32 = 22;
export const ENOSPC: i32 = 28;
export const ERANGE: i32 = 34;
export const EINPROGRESS: i32 = 115;
export const ESTALE: i32 = 116;

/** A block is not resident: the need list says which; call again when it is. */
export const NEED_BLOCK: i32 = -1000;

export const BLOCK_BYTES: i32 = 65536;
export const BLOCK_SHIFT: i32 = 16;
export const META_START_BLKNO: u64 = 2;

export const MAGIC_BTREE: u32 = 0xe597f96d;
export const MAGIC_BLOOM: u32 = 0x31995604;
export const MAGIC_SRCH_BLOCK: u32 = 0x897e4a7d;
export const MAGIC_SRCH_PARENT: u32 = 0xb23a2a05;
export const MAGIC_ALLOC_LIST: u32 = 0x8a93ac83;

// struct scoutfs_block_header
export const HDR_CRC: usize = 0;
export const HDR_MAGIC: usize = 4;
export const HDR_FSID: usize = 8;
export const HDR_SEQ: usize = 16;
export const HDR_BLKNO: usize = 24;

// struct scoutfs_block_ref
export const REF_BLKNO: usize = 0;
export const REF_SEQ: usize = 8;
export const REF_BYTES: i32 = 16;

// struct scoutfs_btree_root
export const ROOT_HEIGHT: usize = 16;
export const ROOT_BYTES: i32 = 24;

// struct scoutfs_btree_block
export const BT_AVL_ROOT: usize = 32;
export const BT_NR_ITEMS: usize = 34;
export const BT_TOTAL_BYTES: usize = 36;
export const BT_MID_FREE: usize = 38;
export const BT_LEVEL: usize = 40;
export const BT_ITEMS: usize = 48;

// struct scoutfs_btree_item
export const ITEM_BYTES: i32 = 56;
export const ITEM_KEY: usize = 8;
export const ITEM_SEQ: usize = 40;
export const ITEM_VAL_OFF: usize = 48;
export const ITEM_VAL_LEN: usize = 50;
export const ITEM_FLAGS: usize = 52;
export const ITEM_FLAG_DELETION: u8 = 1;

export const LEAF_HASH_NR: u32 = 1512;
export const LEAF_VAL_END: i32 = 62512;
export const MAX_VAL_LEN: i32 = 896;
export const MAX_HEIGHT: u8 = 20;
export const JOIN_LOW_BYTES: i32 = 16372;
export const BLOCK_BODY_BYTES: i32 = 65488;
export const SPLIT_FULL_PERCENT: i32 = 80;

// struct scoutfs_alloc_list_head
export const LH_REF: usize = 0;
export const LH_TOTAL: usize = 16;
export const LH_FIRST: usize = 24;
export const LH_FLAGS: usize = 28;
export const LH_BYTES: i32 = 32;

// struct scoutfs_alloc_list_block
export const LB_NEXT: usize = 32;
export const LB_START: usize = 48;
export const LB_NR: usize = 52;
export const LB_BLKNOS: usize = 56;
export const LIST_MAX: u32 = 8185;

// struct scoutfs_alloc_root
export const AR_TOTAL: usize = 0;
export const AR_FLAGS: usize = 8;
export const AR_ROOT: usize = 16;
export const AR_BYTES: i32 = 40;

export const ZONE_FREE_BLKNO: u8 = 36;
export const ZONE_FREE_ORDER: u8 = 40;

export const KEY_BYTES: i32 = 32;

// struct scoutfs_srch_entry: hash, ino, id
export const SE_INO: usize = 8;
export const SE_ID: usize = 16;
export const SE_BYTES: usize = 24;

// struct scoutfs_srch_file
export const SF_FIRST: usize = 0;
export const SF_LAST: usize = 24;
export const SF_REF: usize = 48;
export const SF_BLOCKS: usize = 64;
export const SF_ENTRIES: usize = 72;
export const SF_HEIGHT: usize = 80;
export const SF_FILE_BYTES: usize = 88;

// struct scoutfs_srch_parent
export const SP_REFS: usize = 32;
export const SRCH_PARENT_REFS: u64 = 4094;

// struct scoutfs_srch_block
export const SB_FIRST: usize = 32;
export const SB_LAST: usize = 56;
export const SB_TAIL: usize = 80;
export const SB_NR: usize = 104;
export const SB_BYTES: usize = 108;
export const SB_ENTRIES: usize = 112;
/** No entry starts behind this byte of the entries. */
export const SRCH_SAFE_BYTES: i32 = 65398;
/** An encoded entry at most. */
export const SRCH_ENTRY_MAX_BYTES: i32 = 26;
