/**
 * What the server checks of the structures that mounts send back.
 *
 * A mount is given a record (its log trees, a compaction, a merge request), works on it, and
 * sends it back. What comes back is stored, and later followed by this server and the next
 * ones, by other mounts, and when the mount is reclaimed. So it must be about what was given,
 * stay inside of the devices, leave the counters of the volume room, and refer to blocks that
 * exist: a reference that nobody can follow would stop every server that reclaims its mount,
 * and every reader of the volume. Lists of blocks are looked through, because the server splices
 * them; deeper than the first blocks of the rest is not looked: those were written by a mount
 * that has the devices.
 * Source: server.md 4.3, 4.5, 5.4, trap 17.
 */
import {
  AllocListHead, BLOCK_MAGIC_BLOOM, BLOCK_MAGIC_SRCH_BLOCK, BLOCK_MAGIC_SRCH_PARENT,
  BlockRef, BtreeRoot, FREE_EXTENT_BLKNO_ZONE, FREE_EXTENT_ORDER_ZONE, FS_ZONE, INODE_INDEX_ZONE,
  Key, LOG_MERGE_COMP_REMAIN, LOG_MERGE_REQUEST_SUBTREE, ORPHAN_ZONE, QUOTA_ZONE,
  SRCH_COMPACT_FLAG_DELETE, XATTR_INDX_ZONE, XATTR_TOTL_ZONE,
  SRCH_COMPACT_FLAG_DONE, SRCH_COMPACT_FLAG_ERROR, SRCH_COMPACT_NR, SrchFile,
} from '../core/format.js';
import type {
  AllocRoot, LogMergeComplete, LogMergeRequest, LogTrees, SrchCompact,
} from '../core/format.js';
import { compareKeys, keyBytes, keyZeros } from '../core/keys.js';
import { References } from '../disk/references.js';
import { encode, viewOf } from '../net/messages.js';
import { errnoError } from '../observe/errors.js';
import type { Commits } from './commit.js';
import { withRec } from './commit.js';
import type { ServerContext } from './context.js';

/**
 * No seq is further above those that the server has given: a counter that a peer may raise
 * without a bound is one that it can exhaust.
 */
export const SEQ_AHEAD_MAX = 2 ** 32;
const FREE_EXTENT_ZONES = [FREE_EXTENT_BLKNO_ZONE, FREE_EXTENT_ORDER_ZONE];
/** Of the items that mounts make. */
const ITEM_ZONES = [INODE_INDEX_ZONE, ORPHAN_ZONE, QUOTA_ZONE, XATTR_TOTL_ZONE, XATTR_INDX_ZONE,
  FS_ZONE];
/** More inodes than a log tree can have items. */
const INODE_DELTA_MAX = 2n ** 40n;

function references(commits: Commits): References {
  return new References(commits.sup.totalMetaBlocks, commits.sup.totalDataBlocks);
}

/** A committed log_trees value against the stored one. @throws EINVAL */
export function checkLogTrees(s: ServerContext, stored: LogTrees, received: LogTrees): void {
  const delta = received.inodeCountDelta;
  if (received.flags !== stored.flags) throw errnoError('EINVAL', 'flags of log_trees changed');
  if (received.finalizeSeq !== stored.finalizeSeq) {
    throw errnoError('EINVAL', 'finalize_seq of log_trees changed');
  }
  if (received.maxItemSeq > s.commits.seq + SEQ_AHEAD_MAX) {
    throw errnoError('EINVAL', 'log_trees with a seq that was never given');
  }
  if (delta > INODE_DELTA_MAX || delta < -INODE_DELTA_MAX) {
    throw errnoError('EINVAL', 'log_trees with an impossible inode count');
  }
  if (!references(s.commits).logTrees(received) || !areApart(received) ||
      !keepsTotals(stored, received)) {
    throw errnoError('EINVAL', 'log_trees with impossible references');
  }
}

/** Nothing is referred to twice: it would be given back twice. */
function areApart(lt: LogTrees): boolean {
  const blknos = [lt.metaAvail.ref, lt.metaFreed.ref, lt.itemRoot.ref, lt.bloomRef,
    lt.dataAvail.root.ref, lt.dataFreed.root.ref, lt.srchFile.ref].map((r) => r.blkno)
    .filter((blkno) => blkno !== 0);
  return new Set(blknos).size === blknos.length;
}

/** What is still the same block holds as much as before. */
function keepsTotals(was: LogTrees, is: LogTrees): boolean {
  const extents = (a: AllocRoot, b: AllocRoot): boolean =>
    !sameRef(a.root.ref, b.root.ref) || (a.totalLen === b.totalLen &&
      a.root.height === b.root.height);
  return extents(was.dataAvail, is.dataAvail) && extents(was.dataFreed, is.dataFreed);
}

/** The blocks that a committed value newly refers to. Within a hold. @throws EIO, ESTALE */
export async function checkLogTreesBlocks(s: ServerContext, stored: LogTrees,
  received: LogTrees): Promise<void> {
  await checkLists(s, [stored.metaAvail, stored.metaFreed],
    [received.metaAvail, received.metaFreed]);
  await checkRoot(s, stored.itemRoot, received.itemRoot);
  await checkRoot(s, stored.dataAvail.root, received.dataAvail.root, FREE_EXTENT_ZONES);
  await checkRoot(s, stored.dataFreed.root, received.dataFreed.root, FREE_EXTENT_ZONES);
  if (!sameRef(stored.bloomRef, received.bloomRef)) {
    await checkBlock(s, received.bloomRef, BLOCK_MAGIC_BLOOM);
  }
  await checkSrchFile(s, stored.srchFile, received.srchFile);
}

/**
 * A compaction that comes back against the busy one: the same files in the same phase.
 * Within a hold. @throws EINVAL, EIO
 */
export async function checkCompaction(s: ServerContext, stored: SrchCompact,
  received: SrchCompact): Promise<void> {
  const refs = references(s.commits);
  const may = SRCH_COMPACT_FLAG_DONE | SRCH_COMPACT_FLAG_ERROR;
  const { nr } = stored;
  if (received.nr !== nr || nr > SRCH_COMPACT_NR || (received.flags & ~may) !== stored.flags ||
      received.inputs.some((input, i) => i < nr && !sameFile(input.sfl, stored.inputs[i]?.sfl))) {
    throw errnoError('EINVAL', `srch compaction ${received.id} is not the one that was given`);
  }
  if ((received.flags & SRCH_COMPACT_FLAG_ERROR) !== 0) return;
  const deleting = (stored.flags & SRCH_COMPACT_FLAG_DELETE) !== 0;
  if (!refs.list(received.metaAvail) || !refs.list(received.metaFreed) ||
      !refs.srchFile(received.out) || (deleting && !sameFile(received.out, stored.out))) {
    throw errnoError('EINVAL', `srch compaction ${received.id} with impossible references`);
  }
  await checkLists(s, [stored.metaAvail, stored.metaFreed],
    [received.metaAvail, received.metaFreed]);
  await checkSrchFile(s, stored.out, received.out);
}

/** A merge that comes back against its request. Within a hold. @throws EINVAL, EIO */
export async function checkCompletion(s: ServerContext, request: LogMergeRequest,
  c: LogMergeComplete): Promise<void> {
  const refs = references(s.commits);
  const remain = (c.flags & LOG_MERGE_COMP_REMAIN) !== 0;
  const inside = compareKeys(c.remain, c.start) >= 0 && compareKeys(c.remain, c.end) <= 0;
  const subtree = request.flags % 2 === LOG_MERGE_REQUEST_SUBTREE;
  if ((subtree && c.root.height !== request.root.height) ||
      compareKeys(c.start, request.start) !== 0 || compareKeys(c.end, request.end) !== 0 ||
      (remain && !inside) || !refs.root(c.root) || !refs.list(c.metaAvail) ||
      !refs.list(c.metaFreed)) {
    throw errnoError('EINVAL', `log merge completion ${c.seq} does not fit its request`);
  }
  await checkLists(s, [request.metaAvail, request.metaFreed], [c.metaAvail, c.metaFreed]);
  await checkRoot(s, request.root, c.root);
}

function sameRef(a: BlockRef, b: BlockRef): boolean {
  return a.blkno === b.blkno && a.seq === b.seq;
}

function sameFile(a: SrchFile, b: SrchFile | undefined): boolean {
  return b !== undefined && Buffer.compare(encode(SrchFile, a), encode(SrchFile, b)) === 0;
}

async function checkBlock(s: ServerContext, ref: BlockRef, magic: number): Promise<void> {
  if (ref.blkno === 0) return;
  await withRec(s.core, encode(BlockRef, ref), (rec) =>
    s.core.runAsync('a block that a mount refers to', () => s.core.x.block_check(rec.ptr, magic)));
}

/** Lists that come back: what a head says is what its blocks hold, or nobody can splice it. */
async function checkLists(s: ServerContext, was: readonly AllocListHead[],
  is: readonly AllocListHead[]): Promise<void> {
  for (const [i, list] of is.entries()) {
    const old = was[i];
    if (old !== undefined && sameRef(old.ref, list.ref)) {
      if (!sameCounts(old, list)) throw errnoError('EINVAL', 'a list with other counts');
      continue;
    }
    if (list.ref.blkno === 0) continue;
    await withRec(s.core, encode(AllocListHead, list), (rec) =>
      s.core.runAsync('a list that a mount gives back', () => s.core.x.list_check(rec.ptr)));
  }
}

function sameCounts(a: AllocListHead, b: AllocListHead): boolean {
  return a.totalNr === b.totalNr && a.firstNr === b.firstNr;
}

/** From the root to the first leaf, whose items have to be of `zones`. */
async function checkRoot(s: ServerContext, was: BtreeRoot, is: BtreeRoot,
  zones: readonly number[] = ITEM_ZONES): Promise<void> {
  if (is.height === 0 || (sameRef(was.ref, is.ref) && was.height === is.height)) return;
  const first = await withRec(s.core, encode(BtreeRoot, is), (rec) =>
    s.commits.space.next(rec.ptr, keyBytes(keyZeros())));
  if (first !== null && !zones.includes(Key.read(viewOf(first.key), 0).zone)) {
    throw errnoError('EINVAL', 'a tree of other items than it is said to have');
  }
}

async function checkSrchFile(s: ServerContext, was: SrchFile, is: SrchFile): Promise<void> {
  if (is.ref.blkno === 0 || sameFile(is, was)) return;
  await checkBlock(s, is.ref, is.height > 1 ? BLOCK_MAGIC_SRCH_PARENT : BLOCK_MAGIC_SRCH_BLOCK);
}
