/**
 * What a check found: findings (damage) and notes (unusual, but nothing that
 * upstream or a crash does not leave behind in a sound volume).
 *
 * Every kind has a stable id. Ids that upstream uses for its own corruption
 * messages keep upstream's name (SC_); ours start with CHK_. The table below is
 * the manual: one line per kind. A volume can be damaged in a million places, so
 * only the first `maxFindings` are kept; the counts per kind are complete.
 */

/** Every kind of finding and note, with what it means. */
export const KINDS = {
  // Super blocks, quorum blocks, devices
  CHK_SUPER_MAGIC: 'the super block has the wrong magic or block number',
  CHK_SUPER_CRC: 'the super block fails its checksum',
  CHK_SUPER_VERSION: 'the format version is unknown or differs between the devices',
  CHK_SUPER_FLAGS: 'the super block flags do not fit the device or are unknown',
  CHK_SUPER_UUID: 'the two devices belong to different volumes',
  CHK_SUPER_SIZE: 'the recorded number of blocks does not fit the device',
  CHK_SUPER_FIELD: 'a field of the super block has an impossible value',
  CHK_SUPER_PAD: 'bytes behind the super block structure are not zero',
  CHK_SUPER_SEQ: 'the saved seq counter is behind a seq that was given out',
  CHK_SUPER_VOLOPT: 'volume options are unknown or out of range',
  CHK_QUORUM_CONFIG: 'the quorum configuration is invalid',
  CHK_QUORUM_BLOCK: 'a quorum block fails its checksum or header',
  CHK_QUORUM_EVENT: 'the events of a quorum block contradict each other',
  // Blocks and references
  CHK_REF_RANGE: 'a block reference lies outside the device',
  CHK_BLOCK_READ: 'a block cannot be read',
  CHK_BLOCK_CRC: 'a block fails its checksum',
  CHK_BLOCK_MAGIC: 'a block is of another type than its reference expects',
  CHK_BLOCK_FSID: 'a block belongs to another volume',
  CHK_BLOCK_SEQ: 'a block is not the version that its reference names',
  CHK_BLOCK_BLKNO: 'a block carries another block number than its place',
  // Btrees
  SC_BTREE_BLOCK_LEVEL: 'a btree block has an unexpected level',
  SC_BTREE_NO_CHILD_REF: 'a btree parent has no item covering part of its key range',
  CHK_BTREE_ROOT: 'a btree root contradicts itself',
  CHK_BTREE_NR_ITEMS: 'a btree block claims an impossible number of items',
  CHK_BTREE_AVL: 'the links that sort the items of a btree block are broken',
  CHK_BTREE_ORDER: 'the items of a btree block are not in ascending key order',
  CHK_BTREE_RANGE: 'a key lies outside the range that the parents give its block',
  CHK_BTREE_EDGE: 'a block on the right edge of a tree does not end in the greatest key',
  CHK_BTREE_HASH: 'the hash table of a leaf does not hold each item exactly once',
  CHK_BTREE_ITEM_BYTES: 'total_item_bytes is not the sum over the items',
  CHK_BTREE_MID_FREE: 'mid_free_len reaches into the values',
  CHK_BTREE_VALUE: 'a value is unaligned, outside the value area or too long',
  CHK_BTREE_OVERLAP: 'two values overlap',
  CHK_BTREE_PAD: 'padding of a btree block, item or key is not zero',
  CHK_BTREE_PARENT_ITEM: 'an item of a btree parent is not a plain reference',
  CHK_BTREE_FLAGS: 'an item has flags that its tree does not have',
  CHK_BTREE_EMPTY: 'a btree block has too few items',
  // Items
  CHK_ITEM_KEY: 'an item with this key does not belong into its tree',
  CHK_ITEM_VALUE: 'the value of an item has an impossible size or content',
  CHK_ITEM_VERSIONS: 'versions of one item with the same seq differ',
  CHK_ITEM_NO_INODE: 'items belong to an inode that does not exist',
  // Free space
  CHK_ALLOC_EXTENT: 'a free extent lies outside the device or is empty',
  CHK_ALLOC_OVERLAP: 'free extents of one allocator overlap or touch',
  CHK_ALLOC_PAIR: 'a free extent is missing from one of its two indexes',
  CHK_ALLOC_TOTAL: 'the recorded total of an allocator is not the sum of its extents',
  CHK_ALLOC_FLAGS: 'an allocator has unknown flags',
  CHK_ALLOC_LIST: 'a block list contradicts itself',
  CHK_META_USED_TWICE: 'a metadata block is used by two structures',
  CHK_META_FREE_USED: 'a metadata block is both free and in use',
  CHK_META_FREE_TWICE: 'a metadata block is free twice',
  CHK_META_LOST: 'a metadata block is neither free nor in use',
  CHK_DATA_TWICE: 'a data block is mapped or free more than once',
  CHK_DATA_LOST: 'a data block is neither mapped nor free',
  CHK_LOST_MERGE: 'note: blocks that upstream does not free after merging logs',
  CHK_LOST_SRCH: 'note: blocks of an abandoned compaction of search files',
  // Log trees, merges, clients
  CHK_LOG_KEY: 'a log trees item does not fit its key',
  CHK_LOG_OPEN: 'an open log tree is not the latest one of its mount',
  CHK_LOG_FINALIZED: 'a finalized log tree still owns what it must have given back',
  CHK_LOG_SEQ: 'the seqs of a log tree contradict each other or its items',
  CHK_LOG_FLAGS: 'a log tree has unknown flags',
  CHK_LOG_ZONES: 'the recorded data zones do not cover the free data of a log tree',
  CHK_LOG_ABANDONED: 'note: an open log tree of a mount that is not recorded as mounted',
  CHK_BLOOM: 'a bloom block miscounts its bits or lacks bits of stored items',
  CHK_MERGE_STATUS: 'the log merge status contradicts the other log merge items',
  CHK_MERGE_RANGE: 'log merge ranges are inverted, overlap or have the wrong key',
  CHK_MERGE_ITEM: 'a log merge request, completion or freeing item is invalid',
  CHK_MERGE_IDLE: 'note: a merge of logs is waiting to be worked on',
  CHK_CLIENT: 'a mounted client item is invalid',
  CHK_CLIENT_MOUNTED: 'note: mounts are recorded as active; they run or need recovery',
  CHK_CLIENT_QUORUM: 'note: a recorded quorum member appears in no quorum block',
  // Srch files
  CHK_SRCH_FILE: 'a search file contradicts its item',
  CHK_SRCH_BLOCK: 'a block of a search file contradicts its entries',
  CHK_SRCH_ORDER: 'entries of a sorted search file are out of order',
  CHK_SRCH_ENTRY: 'an entry of a search file cannot be decoded',
  CHK_SRCH_BOUNDS: 'the bounds of a search file do not fit its entries',
  CHK_SRCH_COMPACT: 'a compaction of search files is invalid',
  CHK_SRCH_MISSING: 'a search tagged xattr has no effective search entry',
  CHK_SRCH_STALE: 'a search entry counts for an xattr that does not exist',
  CHK_SRCH_EMPTY: 'note: a search file has a block without entries',
  // Inodes
  CHK_INODE_RANGE: 'an inode number is outside the range given out',
  CHK_INODE_MODE: 'an inode has an impossible file type',
  CHK_INODE_FLAGS: 'an inode has flags it cannot have',
  CHK_INODE_TIME: 'a time stamp of an inode is invalid',
  CHK_INODE_SEQ: 'an inode or item has a seq that was never given out',
  CHK_INODE_SIZE: 'the size of an inode is not what its kind of file requires',
  CHK_INODE_NLINK: 'the link count of an inode is not the number of its links',
  CHK_INODE_COUNT: 'the recorded number of inodes is wrong',
  CHK_INODE_ORPHAN: 'an inode without links has no orphan item',
  CHK_INODE_LEAKED: 'note: an inode left behind by a creation that failed',
  SC_INODE_BLOCK_COUNTS: 'the block counts of an inode do not fit its extents',
  CHK_ORPHAN_STALE: 'an orphan item names an inode that has links or does not exist',
  CHK_INDEX_MISSING: 'an inode is missing from an inode index',
  CHK_INDEX_STALE: 'an inode index item does not match its inode',
  // Directories
  SC_DIRENT_NAME_LEN: 'a directory entry has an impossible name length',
  SC_DIRENT_READDIR_NAME_LEN: 'a readdir entry has an impossible name length',
  SC_DIRENT_BACKREF_NAME_LEN: 'a link backref has an impossible name length',
  CHK_DIRENT_NAME: 'the name of an entry contains a slash or a zero byte',
  CHK_DIRENT_DUP: 'two entries of a directory have the same name',
  CHK_DIRENT_HASH: 'the hash of an entry is not the hash of its name',
  CHK_DIRENT_KEY: 'the value of an entry item contradicts its key',
  CHK_DIRENT_POS: 'an entry has a position that was never given out',
  CHK_DIRENT_TYPE: 'the type in an entry is not the type of the inode',
  CHK_DIRENT_PAIR: 'a directory entry lacks its readdir entry or the reverse',
  CHK_DIRENT_BACKREF: 'a directory entry lacks its link backref or the reverse',
  CHK_DIR_NOT_DIR: 'directory entries belong to an inode that is not a directory',
  CHK_DIR_SIZE: 'the size of a directory is not the length of its names',
  CHK_DIR_BACKREFS: 'a directory has not exactly one link',
  CHK_DIR_UNLINKED: 'an unlinked directory has entries',
  CHK_DIR_DETACHED: 'a directory cannot be reached from the root',
  CHK_DIR_NO_ROOT: 'there is no root directory',
  // Symlinks, extents, xattrs
  SC_SYMLINK_INODE_SIZE: 'a symbolic link has an impossible size',
  SC_SYMLINK_MISSING_ITEM: 'a part of a symbolic link is missing',
  SC_SYMLINK_NOT_NULL_TERM: 'a symbolic link does not end in a zero byte',
  CHK_SYMLINK_CHUNK: 'a part of a symbolic link has the wrong length or does not belong there',
  CHK_EXTENT_FLAGS: 'a data extent has impossible flags',
  CHK_EXTENT_RANGE: 'a data extent lies outside the file or device limits',
  CHK_EXTENT_OVERLAP: 'data extents of a file overlap',
  CHK_EXTENT_OWNER: 'an inode that is not a regular file has data extents',
  CHK_EXTENT_UNMERGED: 'note: neighbouring data extents could be one',
  CHK_XATTR_PARTS: 'parts of an xattr are missing, superfluous or of the wrong length',
  CHK_XATTR_HEADER: 'the header of an xattr is invalid',
  CHK_XATTR_NAME: 'the name of an xattr is invalid',
  CHK_XATTR_HASH: 'an xattr is stored under the wrong name hash',
  CHK_XATTR_ID: 'an xattr has an id that was never given out or is used twice',
  CHK_XATTR_DUP: 'an inode has two xattrs of the same name',
  CHK_XATTR_TAG: 'the tags, key or value of a tagged xattr are invalid',
  CHK_TOTL: 'an xattr total is not the sum of the xattrs',
  CHK_INDX_MISSING: 'an indx tagged xattr is missing from the index',
  CHK_INDX_STALE: 'an xattr index item has no xattr',
  CHK_QUOTA_RULE: 'a quota rule is invalid',
  // About the check
  CHK_SKIPPED: 'note: cross checks were left out because parts could not be read',
  CHK_INTERNAL: 'a structure could not be checked',
} as const;

export type FindingId = keyof typeof KINDS;

export interface Finding {
  /** Stable corruption id, a key of `KINDS`. */
  id: FindingId;
  message: string;
  /** The metadata block concerned. */
  blkno?: number;
  /** `zone.first.type.second.third.fourth` of the item concerned. */
  key?: string;
  /** Inode number concerned. */
  ino?: number;
  path?: string;
}

/** Where a finding is; everything but id and message. */
export type Where = Omit<Finding, 'id' | 'message'>;

/** Collects findings and notes up to a limit and counts them all. */
export class Reporter {
  readonly findings: Finding[] = [];
  readonly notes: Finding[] = [];
  readonly counts = new Map<FindingId, number>();

  /** @param maxFindings how many findings, and how many notes, are kept */
  constructor(private readonly maxFindings: number) {}

  finding(id: FindingId, message: string, where: Where = {}): void {
    this.keep(this.findings, { id, message, ...where });
  }

  note(id: FindingId, message: string, where: Where = {}): void {
    this.keep(this.notes, { id, message, ...where });
  }

  private keep(list: Finding[], f: Finding): void {
    this.counts.set(f.id, (this.counts.get(f.id) ?? 0) + 1);
    if (list.length < this.maxFindings) list.push(f);
  }
}
