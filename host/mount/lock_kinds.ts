/**
 * Which locks exist: their kinds, the ranges of keys that they cover, and their ids here.
 *
 * Inodes and the sequence numbers of the indexes are locked in groups of 1024; of every other
 * kind there is one lock. An id is a number for the lock table: group and kind.
 * Source: lock.md 1 and 2.
 */
import {
  FS_ZONE, INODE_INDEX_DATA_SEQ_TYPE, INODE_INDEX_META_SEQ_TYPE, INODE_INDEX_ZONE, LOCK_ZONE,
  ORPHAN_ZONE, QUOTA_ZONE, XATTR_INDX_ZONE, XATTR_TOTL_ZONE,
} from '../core/constants.js';
import type { Key } from '../core/format.js';
import type { LockRange } from '../core/keys.js';
import {
  indexLockRange, inodeLockRange, orphanLockRange, quotaLockRange, renameLockRange,
  xattrIndxLockRange, xattrTotlLockRange,
} from '../core/keys.js';

/** What a lock is about. The argument is an inode number, a seq, or 0. */
export const LockKind = {
  inode: 0, rename: 1, metaSeqIndex: 2, dataSeqIndex: 3, orphan: 4, totals: 5, xattrIndex: 6,
  quota: 7,
} as const;
export type LockKind = (typeof LockKind)[keyof typeof LockKind];

const KINDS = 8;
/** inode numbers and seqs per lock */
export const GROUP = 1024;

/** The group that an inode number or seq is in; 0 where there is one lock. */
export function groupOf(kind: LockKind, arg: number): number {
  return kind === LockKind.inode || kind === LockKind.metaSeqIndex
    || kind === LockKind.dataSeqIndex ? Math.floor(arg / GROUP) : 0;
}

export function rangeOf(kind: LockKind, group: number): LockRange {
  switch (kind) {
    case LockKind.inode: return inodeLockRange(group * GROUP);
    case LockKind.rename: return renameLockRange();
    case LockKind.metaSeqIndex: return indexLockRange(INODE_INDEX_META_SEQ_TYPE, group * GROUP);
    case LockKind.dataSeqIndex: return indexLockRange(INODE_INDEX_DATA_SEQ_TYPE, group * GROUP);
    case LockKind.orphan: return orphanLockRange();
    case LockKind.totals: return xattrTotlLockRange();
    case LockKind.xattrIndex: return xattrIndxLockRange();
    case LockKind.quota: return quotaLockRange();
  }
}

export function idOf(kind: LockKind, group: number): number {
  return group * KINDS + kind;
}

/** Which lock a start key names, or null for none that exists. */
export function idOfKey(key: Key): number | null {
  const group = (n: bigint): number => Number(n / BigInt(GROUP));
  switch (key.zone) {
    case FS_ZONE: return idOf(LockKind.inode, group(key.first));
    case LOCK_ZONE: return idOf(LockKind.rename, 0);
    case INODE_INDEX_ZONE:
      return idOf(key.type === INODE_INDEX_META_SEQ_TYPE
        ? LockKind.metaSeqIndex : LockKind.dataSeqIndex, group(key.second));
    case ORPHAN_ZONE: return idOf(LockKind.orphan, 0);
    case XATTR_TOTL_ZONE: return idOf(LockKind.totals, 0);
    case XATTR_INDX_ZONE: return idOf(LockKind.xattrIndex, 0);
    case QUOTA_ZONE: return idOf(LockKind.quota, 0);
    default: return null;
  }
}
