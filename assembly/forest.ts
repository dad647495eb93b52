/**
 * The forest: one merged tree and many log trees, read as if they were one.
 *
 * A read collects, for one key, the leaf that covers it in the merged tree and in every
 * log tree whose bloom block has the lock's bits; each leaf tightens the range in which
 * all of them are known. Then the leaves are merged in key order, straight from the
 * blocks: the greatest seq wins, the first tree at equal seqs, and a winning tombstone
 * hides the key.
 *
 *    fs_root     ...├──── leaf ────────────────┤...
 *    log tree 1  ...├───────────────── leaf ───────┤...
 *    log tree 2         ├──── leaf ──┤...
 *    result              ╞═══════════╡   items and absence are known here
 *
 * Nothing is kept between calls. A call that misses blocks has asked for all that it
 * knew of, one level of every tree at a time, and is repeated from its beginning when
 * they are there; the blocks that it found are not evicted while it runs. What was asked
 * for must be brought in even if the call also met a stale block: NEED_BLOCK goes first.
 *
 * Spec: forest.md 2 and 3, item.md 5 and Part 2.
 */
import { allocNeed } from './alloc_meta';
import { bloomHas, bloomSet } from './bloom';
import { blockBegin, blockDirty, blockErr, blockIfDirty, blockNeedNr, blockRead } from './block';
import { btreeNext, btreeWalkRead, leafFirst, leafNextItem, nextLeaf } from './btree';
import { itemVal, valLen } from './btree_block';
import {
  count, countBy, N_FOREST_BLOOM_FAIL, N_FOREST_BLOOM_PASS, N_FOREST_BLOOM_STALE,
  N_FOREST_READ_ITEMS, N_FOREST_ROOTS_NEXT_HINT, N_FOREST_SET_BLOOM_BITS,
  N_ITEM_READ_PAGES_BARRIER,
} from './count';
import { isDeltaZone } from './delta';
import { fillBegin, fillDone, fillEnd, fillItem, fillStart } from './fill';
import {
  EINVAL, EIO, ENOENT, ENOMEM, ESTALE, ITEM_FLAG_DELETION, ITEM_FLAGS, ITEM_KEY, ITEM_SEQ,
  MAGIC_BLOOM, NEED_BLOCK, ROOT_HEIGHT,
} from './format';
import { itemTransSeq } from './item';
import { itemBarrier, itemMaxWritten, itemWriteDirty } from './item_write';
import { keyCmp, keyCopy, keyEq, keyInc, keyIsOnes, keyZeros, keyZone } from './key';
import {
  lockBloomIn, lockCheck, lockCovers, lockDirtySeq, lockEnd, lockFirst, lockModeOf, lockNext,
  LOCK_READ, lockSetBloomIn, LOCK_WRITE,
} from './lock';
import { pageFind, pageHole } from './pages';
import { SRC_FS, SRC_INPUT, SRC_LOG, totlAdd, totlBegin, totlResolve } from './totl';
import { KEY_B, KEY_FOUND } from './window';

// struct scoutfs_log_trees
// @ts-ignore: decorator
@inline const LT_BYTES: i32 = 472;
// @ts-ignore: decorator
@inline const LT_ITEM_ROOT: usize = 64;
// @ts-ignore: decorator
@inline const LT_BLOOM_REF: usize = 88;
// @ts-ignore: decorator
@inline const LT_MAX_ITEM_SEQ: usize = 432;
// @ts-ignore: decorator
@inline const LT_FINALIZE_SEQ: usize = 440;
// @ts-ignore: decorator
@inline const LT_FLAGS: usize = 464;
// @ts-ignore: decorator
@inline const LT_FINALIZED: u64 = 1;
// @ts-ignore: decorator
@inline const LOG_TREES_ZONE: u8 = 24;
// @ts-ignore: decorator
@inline const TOTL_VAL_BYTES: i32 = 16;

/** Trees that one read can merge: each takes two block slots or more. */
// @ts-ignore: decorator
@inline const TREES_MAX: i32 = 2048;
// a tree in the merge: leaf, its next item (0: none), source
// @ts-ignore: decorator
@inline const T_LEAF: usize = 0;
// @ts-ignore: decorator
@inline const T_ITEM: usize = 4;
// @ts-ignore: decorator
@inline const T_SRC: usize = 8;
// @ts-ignore: decorator
@inline const T_BYTES: usize = 12;

const trees: usize = memory.data(24576, 16);
let nrTrees: i32 = 0;
/** Bloom blocks that let the search through, or spared it. */
let bloomPass: i32 = 0;
let bloomFail: i32 = 0;

/** The range in which all trees are known. */
const known: usize = memory.data(32, 16);
const knownEnd: usize = memory.data(32, 16);
const leafStart: usize = memory.data(32, 16);
const leafEnd: usize = memory.data(32, 16);
const holeStart: usize = memory.data(32, 16);
const holeEnd: usize = memory.data(32, 16);
const logsKey: usize = memory.data(32, 16);
const bestKey: usize = memory.data(32, 16);
const pos: usize = memory.data(32, 16);

// ---- collecting leaves -----------------------------------------------------------

/** Why a step found nothing: 0 to go on (absent, or asked for), else the error. */
// @ts-ignore: decorator
@inline
function missed(): i32 {
  return blockErr == NEED_BLOCK || blockErr == -ENOENT ? 0 : blockErr;
}

/** Adds the leaf of a tree that covers the key. @returns 0 or an error */
function addTree(root: usize, key: usize, src: i32): i32 {
  if (load<u8>(root, ROOT_HEIGHT) == 0) return 0;
  const leaf = btreeWalkRead(root, key, leafStart, leafEnd);
  if (leaf == 0) return missed();
  if (keyCmp(leafStart, known) > 0) keyCopy(known, leafStart);
  if (keyCmp(leafEnd, knownEnd) < 0) keyCopy(knownEnd, leafEnd);
  if (nrTrees == TREES_MAX) return -ENOMEM;
  const t = trees + <usize>nrTrees * T_BYTES;
  store<u32>(t, <u32>leaf, T_LEAF);
  store<u32>(t, <u32>src, T_SRC);
  nrTrees++;
  return 0;
}

/** Adds the leaf of a log tree, if it can have items of the lock. @returns 0 or an error */
function addLog(lt: usize, bloomKey: usize, key: usize, mergeSeq: u64): i32 {
  if (load<u64>(lt, LT_BLOOM_REF) == 0) return 0;
  // No items although there are bits: they were created and deleted in one transaction.
  if (load<u8>(lt + LT_ITEM_ROOT, ROOT_HEIGHT) == 0) return 0;
  const bloom = blockRead(lt + LT_BLOOM_REF, MAGIC_BLOOM);
  if (bloom == 0) {
    if (blockErr == -ESTALE) count(N_FOREST_BLOOM_STALE);
    return missed();
  }
  if (!bloomHas(bloom, bloomKey)) {
    bloomFail++;
    return 0;
  }
  bloomPass++;
  const input = (load<u64>(lt, LT_FLAGS) & LT_FINALIZED) != 0 &&
    (mergeSeq == 0 || load<u64>(lt, LT_FINALIZE_SEQ) < mergeSeq);
  return addTree(lt + LT_ITEM_ROOT, key, input ? SRC_INPUT : SRC_LOG);
}

/** Visits every item of logs_root in the leaf of `logsKey`, then moves `logsKey` behind it. */
function addLogs(logsRoot: usize, bloomKey: usize, key: usize, mergeSeq: u64): i32 {
  if (load<u8>(logsRoot, ROOT_HEIGHT) == 0) return 0;
  keyZeros(logsKey);
  while (true) {
    let item = btreeNext(logsRoot, logsKey);
    if (item == 0) return missed();
    const leaf = nextLeaf;
    while (item != 0) {
      keyCopy(logsKey, item + ITEM_KEY);
      if (keyZone(logsKey) != LOG_TREES_ZONE || valLen(item) != LT_BYTES) return -EIO;
      const err = addLog(itemVal(leaf, item), bloomKey, key, mergeSeq);
      if (err != 0) return err;
      item = leafNextItem(leaf, item);
    }
    if (keyIsOnes(logsKey)) return 0;
    keyInc(logsKey);
  }
}

/**
 * Collects the leaves for the key; `known` .. `knownEnd` come in as the wanted range and
 * leave as the range in which everything is known.
 */
function collect(
  fsRoot: usize, logsRoot: usize, bloomKey: usize, key: usize, mergeSeq: u64,
): i32 {
  nrTrees = 0;
  bloomPass = 0;
  bloomFail = 0;
  let err = addTree(fsRoot, key, SRC_FS);
  if (err == 0) err = addLogs(logsRoot, bloomKey, key, mergeSeq);
  if (blockNeedNr() > 0) return NEED_BLOCK;
  countBy(N_FOREST_BLOOM_PASS, bloomPass);
  countBy(N_FOREST_BLOOM_FAIL, bloomFail);
  return err;
}

// ---- merging leaves ------------------------------------------------------------------

/** Puts every tree at its first item at or after the key. */
function seek(key: usize): void {
  for (let t = trees, end = trees + <usize>nrTrees * T_BYTES; t < end; t += T_BYTES) {
    store<u32>(t, <u32>leafFirst(<usize>load<u32>(t, T_LEAF), key), T_ITEM);
  }
}

/** The tree with the winning version of the least key; 0 when no tree has an item left. */
function least(): usize {
  let best: usize = 0;
  let bestItem: usize = 0;
  for (let t = trees, end = trees + <usize>nrTrees * T_BYTES; t < end; t += T_BYTES) {
    const item = <usize>load<u32>(t, T_ITEM);
    if (item == 0) continue;
    const c = best == 0 ? -1 : keyCmp(item + ITEM_KEY, bestItem + ITEM_KEY);
    if (c < 0 || (c == 0 && load<u64>(item, ITEM_SEQ) > load<u64>(bestItem, ITEM_SEQ))) {
      best = t;
      bestItem = item;
    }
  }
  return best;
}

/** Moves every tree that is at the key behind it. */
function pass(key: usize): void {
  for (let t = trees, end = trees + <usize>nrTrees * T_BYTES; t < end; t += T_BYTES) {
    const item = <usize>load<u32>(t, T_ITEM);
    if (item == 0 || !keyEq(item + ITEM_KEY, key)) continue;
    store<u32>(t, <u32>leafNextItem(<usize>load<u32>(t, T_LEAF), item), T_ITEM);
  }
}

// ---- reading into the item cache ----------------------------------------------------

/** Fills one hole of the cache. @returns false when memory ran out */
function fillHole(lock: usize): bool {
  if (!fillBegin(lock, holeStart, holeEnd)) return false;
  seek(holeStart);
  for (let t = least(); t != 0; t = least()) {
    const item = <usize>load<u32>(t, T_ITEM);
    keyCopy(bestKey, item + ITEM_KEY);
    if (keyCmp(bestKey, holeEnd) > 0) break;
    if ((load<u8>(item, ITEM_FLAGS) & ITEM_FLAG_DELETION) == 0) {
      const val = itemVal(<usize>load<u32>(t, T_LEAF), item);
      if (!fillItem(bestKey, load<u64>(item, ITEM_SEQ), val, valLen(item))) return false;
    }
    pass(bestKey);
  }
  fillEnd();
  return true;
}

/**
 * Reads the key's range into the item cache, clipped to the lock's range; coverage that is
 * there already stays as it is.
 * @returns 0 (the key is covered now), NEED_BLOCK, -ESTALE (read newer roots and start
 *          over: a block was replaced, or a transaction was written since `barrier` was
 *          sampled), -EIO, -ENOMEM (all pages are dirty), -EINVAL (the lock may not read)
 */
export function forestRead(
  fsRoot: usize, logsRoot: usize, lock: usize, key: usize, barrier: f64,
): i32 {
  blockBegin();
  lockCheck(lock);
  const mode = lockModeOf(lock);
  if ((mode != LOCK_READ && mode != LOCK_WRITE) || !lockCovers(lock, key)) return -EINVAL;
  if (pageFind(key) != 0) return 0;
  if (barrier != itemBarrier()) {
    count(N_ITEM_READ_PAGES_BARRIER);
    return -ESTALE;
  }
  keyCopy(known, lock);
  keyCopy(knownEnd, lockEnd(lock));
  const err = collect(fsRoot, logsRoot, lock, key, 0);
  if (err != 0) return err;
  count(N_FOREST_READ_ITEMS);
  fillStart(key);
  keyCopy(pos, known);
  while (pageHole(pos, knownEnd, holeStart, holeEnd) && fillHole(lock)) {
    if (keyCmp(holeEnd, knownEnd) >= 0) break;
    keyCopy(pos, holeEnd);
    keyInc(pos);
  }
  fillDone();
  return pageFind(key) != 0 ? 0 : -ENOMEM;
}

// ---- reading without locks (weakly consistent) ---------------------------------------

/** Adds up what all trees have for the key; the total goes to `out`. 1, 0 (absent) or -EIO */
function resolveTotal(key: usize, out: usize): i32 {
  totlBegin();
  for (let t = trees, end = trees + <usize>nrTrees * T_BYTES; t < end; t += T_BYTES) {
    const item = <usize>load<u32>(t, T_ITEM);
    if (item == 0 || !keyEq(item + ITEM_KEY, key)) continue;
    if (valLen(item) != TOTL_VAL_BYTES) return -EIO;
    const val = itemVal(<usize>load<u32>(t, T_LEAF), item);
    totlAdd(load<i32>(t, T_SRC), load<u64>(item, ITEM_SEQ), val);
  }
  return totlResolve(out) ? 1 : 0;
}

/**
 * Reads the items of [key, register B] as far as the leaves of the key are known, without
 * a lock: totals are resolved, of other items the winning version counts. They are put at
 * `out`, each {key 32, val_len u32, pad u32, value rounded up to 8}. Register B becomes
 * the last key that the answer covers. `bloomKey` is the start of the lock that protects
 * the range, `mergeSeq` the seq of the merge status of the same super (0: no merge).
 * @returns number of items, NEED_BLOCK, -ESTALE, -EIO
 */
export function forestReadWeak(
  fsRoot: usize, logsRoot: usize, bloomKey: usize, key: usize, mergeSeq: f64, out: usize,
  outBytes: i32,
): i32 {
  blockBegin();
  keyCopy(known, key);
  keyCopy(knownEnd, KEY_B);
  const err = collect(fsRoot, logsRoot, bloomKey, key, <u64>mergeSeq);
  if (err != 0) return err;
  const end = out + <usize>outBytes;
  let count = 0;
  let passed = false;
  seek(key);
  for (let t = least(); t != 0; t = least()) {
    const item = <usize>load<u32>(t, T_ITEM);
    if (keyCmp(item + ITEM_KEY, knownEnd) > 0) break;
    const len = valLen(item);
    const next = out + 40 + <usize>((len + 7) & ~7);
    if (next > end) {
      // No room: the answer ends behind the item before.
      if (!passed) return -EINVAL;
      keyCopy(KEY_B, bestKey);
      return count;
    }
    keyCopy(bestKey, item + ITEM_KEY);
    let present: i32;
    if (isDeltaZone(keyZone(bestKey))) {
      present = resolveTotal(bestKey, out + 40);
      if (present < 0) return present;
    } else {
      present = (load<u8>(item, ITEM_FLAGS) & ITEM_FLAG_DELETION) == 0 ? 1 : 0;
      memory.copy(out + 40, itemVal(<usize>load<u32>(t, T_LEAF), item), <usize>len);
    }
    if (present != 0) {
      keyCopy(out, bestKey);
      store<u64>(out, <u64>len, 32);
      out = next;
      count++;
    }
    pass(bestKey);
    passed = true;
  }
  keyCopy(KEY_B, knownEnd);
  return count;
}

/** The lesser of KEY_FOUND and the tree's first item at or after the key. @returns 0 or an error */
function hintFrom(root: usize, key: usize, found: bool): i32 {
  if (load<u8>(root, ROOT_HEIGHT) == 0) return -ENOENT;
  const item = btreeNext(root, key);
  if (item == 0) return blockErr;
  if (!found || keyCmp(item + ITEM_KEY, KEY_FOUND) < 0) keyCopy(KEY_FOUND, item + ITEM_KEY);
  return 0;
}

/**
 * The least key at or after `key` that is in any tree, tombstones included: a hint about
 * which lock to take next. Bloom blocks are not consulted.
 * @returns 0 with the key in KEY_FOUND, -ENOENT, NEED_BLOCK, -ESTALE, -EIO
 */
export function forestNextHint(fsRoot: usize, logsRoot: usize, key: usize): i32 {
  blockBegin();
  let found = false;
  let err = hintFrom(fsRoot, key, false);
  if (err == 0) found = true;
  else if (err != -ENOENT && err != NEED_BLOCK) return blockNeedNr() > 0 ? NEED_BLOCK : err;
  keyZeros(logsKey);
  while (load<u8>(logsRoot, ROOT_HEIGHT) != 0) {
    const item = btreeNext(logsRoot, logsKey);
    if (item == 0) {
      err = missed();
      break;
    }
    keyCopy(logsKey, item + ITEM_KEY);
    if (valLen(item) != LT_BYTES) return blockNeedNr() > 0 ? NEED_BLOCK : -EIO;
    err = hintFrom(itemVal(nextLeaf, item) + LT_ITEM_ROOT, key, found);
    if (err == 0) found = true;
    else if (err != -ENOENT && err != NEED_BLOCK) break;
    err = 0;
    keyInc(logsKey);
  }
  if (blockNeedNr() > 0) return NEED_BLOCK;
  if (err != 0 && err != -ENOENT) return err;
  count(N_FOREST_ROOTS_NEXT_HINT);
  return found ? 0 : -ENOENT;
}

// ---- writing ---------------------------------------------------------------------------

/**
 * Log trees that were begun so far. Not their nr: a mount that comes back late, when its last
 * tree is merged and gone, is given the same nr again.
 */
let treesBegun: u64 = 0;

/** Sets the lock's bits in the bloom block of the log tree, once per tree. */
function setBloom(lt: usize, alloc: usize, wset: usize, lock: usize): i32 {
  const ref = lt + LT_BLOOM_REF;
  if (load<u64>(ref) == 0) treesBegun += 1;
  else if (lockBloomIn(lock) == treesBegun) return 0;
  let block = blockIfDirty(ref, MAGIC_BLOOM);
  if (block == 0) {
    if (blockErr != 0) return blockErr;
    const err = allocNeed(alloc, 1);
    if (err != 0) return err;
    block = blockDirty(alloc, wset, ref, MAGIC_BLOOM);
    if (block == 0) return blockErr;
  }
  count(N_FOREST_SET_BLOOM_BITS);
  bloomSet(block, lock);
  lockSetBloomIn(lock, treesBegun);
  return 0;
}

/** As forestWrite, for one lock only and without items. */
export function forestSetBloom(lt: usize, alloc: usize, wset: usize, lock: usize): i32 {
  blockBegin();
  lockCheck(lock);
  return setBloom(lt, alloc, wset, lock);
}

/**
 * Writes the transaction's items into the mount's log trees (472 bytes at `lt`, changed in
 * place): first the bloom bits of every lock that changed something, then at most
 * `maxItems` dirty items, then max_item_seq.
 * @returns 0 when all are written, MORE (1), NEED_BLOCK, or an error; repeat until 0
 */
export function forestWrite(lt: usize, alloc: usize, wset: usize, maxItems: i32): i32 {
  blockBegin();
  for (let lock = lockFirst(); lock != 0; lock = lockNext(lock)) {
    if (lockDirtySeq(lock) != itemTransSeq()) continue;
    const err = setBloom(lt, alloc, wset, lock);
    if (err != 0) return err;
  }
  const err = itemWriteDirty(alloc, wset, lt + LT_ITEM_ROOT, maxItems);
  const seq = max(load<u64>(lt, LT_MAX_ITEM_SEQ), itemMaxWritten());
  store<u64>(lt, seq, LT_MAX_ITEM_SEQ);
  return err;
}
