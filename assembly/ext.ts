/**
 * Trees of free extents.
 *
 * Each extent is two items without values in one btree: by its last block (zone
 * 36) and by its size order (zone 40), the larger orders first. Both always exist
 * together, extents never overlap, neighbours are merged, and `total_len` of the
 * root is the sum of the lengths.
 *
 * A change of extents is planned first (reading only), then the paths of all its
 * items are made dirty, then it is applied: whatever is missing shows before
 * anything has changed. Plans of two trees can be applied as one change, which is
 * how an extent moves between allocators without ever being in both or in none.
 *
 * Source: alloc.md 1.1, 2; vectors core-vectors.json → alloc.
 */
import { check } from './check';
import { allocNeed } from './alloc_meta';
import { blockErr, blockNoNeed, corrupt, CORRUPT_EXTENT } from './block';
import { btreeDelete, btreeInsert, btreeNext, btreePrepare } from './btree';
import { leafSearch } from './btree_block';
import { count, N_EXT_OP_INSERT, N_EXT_OP_NEXT, N_EXT_OP_REMOVE } from './count';
import {
  AR_ROOT, AR_TOTAL, EINVAL, EIO, ENOENT, ITEM_KEY, ROOT_HEIGHT, ZONE_FREE_BLKNO,
  ZONE_FREE_ORDER,
} from './format';
import { keyCopy, keySet, keyZone } from './key';

/** Order of a length: floor(log8). */
export function extOrder(len: u64): i32 {
  return (63 - <i32>clz<u64>(len | 1)) / 3;
}

function keyByBlkno(key: usize, start: u64, len: u64): void {
  keySet(key, ZONE_FREE_BLKNO, start + len - 1, 0, len, 0, 0);
}

function keyByOrder(key: usize, start: u64, len: u64): void {
  keySet(key, ZONE_FREE_ORDER, 0xffffffffffffffff - <u64>extOrder(len), 0, start + len - 1, len, 0);
}

// ---- finding ----

/** The extent found last. */
export let extStart: u64 = 0;
export let extLen: u64 = 0;
const searchKey: usize = memory.data(32, 8);

/** Reads the extent out of an item of the wanted zone. 0, -ENOENT (other zone), -EIO */
function fromItem(item: usize, zone: u8): i32 {
  const key = item + ITEM_KEY;
  if (keyZone(key) != zone) return -ENOENT;
  const end = zone == ZONE_FREE_BLKNO ? load<u64>(key) : load<u64>(key, 8);
  const len = zone == ZONE_FREE_BLKNO ? load<u64>(key, 8) : load<u64>(key, 16);
  if (len == 0 || len > end + 1) return corrupt(CORRUPT_EXTENT, end);
  extLen = len;
  extStart = end - len + 1;
  return 0;
}

/** First extent at or after the key. 0, -ENOENT, NEED_BLOCK, ... */
function nextFrom(root: usize, zone: u8): i32 {
  if (load<u8>(root + AR_ROOT, ROOT_HEIGHT) == 0) return -ENOENT;
  const item = btreeNext(root + AR_ROOT, searchKey);
  if (item != 0) count(N_EXT_OP_NEXT);
  return item == 0 ? blockErr : fromItem(item, zone);
}

/** First extent whose last block is at or after `start`. */
export function extNextByBlkno(root: usize, start: u64): i32 {
  keyByBlkno(searchKey, start, 1);
  return nextFrom(root, ZONE_FREE_BLKNO);
}

/** First extent in size order: of the greatest order, the lowest location. */
export function extNextByOrder(root: usize): i32 {
  keySet(searchKey, ZONE_FREE_ORDER, 0, 0, 0, 0, 0);
  return nextFrom(root, ZONE_FREE_ORDER);
}

/** First extent in size order at or after the position (start, length) of an order. */
export function extNextByOrderFrom(root: usize, order: i32, start: u64, len: u64): i32 {
  keySet(searchKey, ZONE_FREE_ORDER, 0xffffffffffffffff - <u64>order, 0, start + len - 1, len, 0);
  return nextFrom(root, ZONE_FREE_ORDER);
}

// ---- plans: { root 4, op 4, start 8, len 8 } ----
const PLAN_MAX: i32 = 12;
const PLAN_BYTES: i32 = 24;
const plan: usize = memory.data(288, 8);
let planNr: i32 = 0;
const OP_REMOVE: u32 = 0;
const OP_INSERT: u32 = 1;

export function planBegin(): void { planNr = 0; }

function planAdd(root: usize, op: u32, start: u64, len: u64): void {
  check(planNr < PLAN_MAX && len > 0, 501);
  const p = plan + <usize>(planNr * PLAN_BYTES);
  store<u32>(p, <u32>root);
  store<u32>(p, op, 4);
  store<u64>(p, start, 8);
  store<u64>(p, len, 16);
  planNr += 1;
}

/** Plans to add an extent, merging it with its neighbours. -EINVAL when it overlaps a free one. */
export function planInsert(root: usize, start: u64, len: u64): i32 {
  if (len == 0 || start + len < start) return -EINVAL;
  let newStart = start;
  let newLen = len;
  let e = extNextByBlkno(root, start);
  if (e != 0 && e != -ENOENT) return e;
  if (e == 0) {
    if (extStart < start + len) return -EINVAL;
    if (extStart == start + len) {
      planAdd(root, OP_REMOVE, extStart, extLen);
      newLen += extLen;
    }
  }
  if (start > 0) {
    e = extNextByBlkno(root, start - 1);
    if (e != 0 && e != -ENOENT) return e;
    if (e == 0 && extStart + extLen == start) {
      planAdd(root, OP_REMOVE, extStart, extLen);
      newStart = extStart;
      newLen += extLen;
    }
  }
  planAdd(root, OP_INSERT, newStart, newLen);
  return 0;
}

/** Plans to take a range out of the one extent that must contain it. */
export function planRemove(root: usize, start: u64, len: u64): i32 {
  if (len == 0 || start + len < start) return -EINVAL;
  const e = extNextByBlkno(root, start);
  if (e != 0) return e;
  if (extStart > start || extStart + extLen < start + len) return -EINVAL;
  if (load<u64>(root, AR_TOTAL) < extLen) return corrupt(CORRUPT_EXTENT, extStart);
  planAdd(root, OP_REMOVE, extStart, extLen);
  if (extStart < start) planAdd(root, OP_INSERT, extStart, start - extStart);
  const end = extStart + extLen;
  if (start + len < end) planAdd(root, OP_INSERT, start + len, end - start - len);
  return 0;
}

/** planRemove of what was found by size: that it is not there by number is damage. */
export function planTake(root: usize, start: u64, len: u64): i32 {
  const e = planRemove(root, start, len);
  return e == -ENOENT || e == -EINVAL ? corrupt(CORRUPT_EXTENT, start) : e;
}

// ---- applying ----

const itemKey: usize = memory.data(32, 8);

/** Worst case of blocks that one extent change of a tree dirties: alloc.md 5.1. */
export function extModBlocks(height: i32): i32 { return (1 + height) * 15; }

function planBlocks(): i32 {
  let n = 0;
  let seen: usize = 0;
  for (let i = 0; i < planNr; i++) {
    const root = <usize>load<u32>(plan + <usize>(i * PLAN_BYTES));
    if (root == seen) continue;
    seen = root;
    n += extModBlocks(<i32>load<u8>(root + AR_ROOT, ROOT_HEIGHT));
  }
  return n;
}

/** Applies the plan in one step. 0, or NEED_BLOCK, -ENOSPC, ... with nothing changed. */
export function planApply(al: usize, ws: usize): i32 {
  let e = allocNeed(al, planBlocks());
  if (e != 0) return e;
  for (let i = 0; i < planNr; i++) {
    e = prepareStep(al, ws, plan + <usize>(i * PLAN_BYTES));
    if (e != 0) return e;
  }
  e = allocNeed(al, splitBlocks());
  if (e != 0) return e;
  blockNoNeed(true);
  for (let i = 0; i < planNr; i++) planStep(al, ws, plan + <usize>(i * PLAN_BYTES));
  blockNoNeed(false);
  return 0;
}

/** Blocks that the splits of all insertions and a few joins of the second half can take. */
function splitBlocks(): i32 {
  let n = JOINS_SPARE;
  for (let i = 0; i < planNr; i++) {
    const p = plan + <usize>(i * PLAN_BYTES);
    const height = <i32>load<u8>(<usize>load<u32>(p) + AR_ROOT, ROOT_HEIGHT);
    if (load<u32>(p, 4) == OP_INSERT) n += 2 * (height + 2);
  }
  return n;
}

const JOINS_SPARE: i32 = 4;

/** Makes the paths to both items of a step dirty, and refuses damage before anything changes. */
function prepareStep(al: usize, ws: usize, p: usize): i32 {
  const root = <usize>load<u32>(p) + AR_ROOT;
  const insert = load<u32>(p, 4) == OP_INSERT;
  for (let i = 0; i < 2; i++) {
    stepKey(p, i);
    const leaf = btreePrepare(al, ws, root, itemKey, 0);
    if (leaf == 0) return blockErr;
    if ((leafSearch(leaf, itemKey) != 0) == insert) {
      return corrupt(CORRUPT_EXTENT, load<u64>(p, 8));
    }
  }
  return 0;
}

/** The key of item `i` (0 by number, 1 by order) of a step's extent. */
function stepKey(p: usize, i: i32): void {
  if (i == 0) keyByBlkno(itemKey, load<u64>(p, 8), load<u64>(p, 16));
  else keyByOrder(itemKey, load<u64>(p, 8), load<u64>(p, 16));
}

function planStep(al: usize, ws: usize, p: usize): void {
  const aroot = <usize>load<u32>(p);
  const root = aroot + AR_ROOT;
  const insert = load<u32>(p, 4) == OP_INSERT;
  const len = load<u64>(p, 16);
  count(insert ? N_EXT_OP_INSERT : N_EXT_OP_REMOVE);
  for (let i = 0; i < 2; i++) {
    stepKey(p, i);
    const e = insert ? btreeInsert(al, ws, root, itemKey, 0, 0)
      : btreeDelete(al, ws, root, itemKey);
    check(e == 0, 502);
  }
  const total = load<u64>(aroot, AR_TOTAL);
  store<u64>(aroot, insert ? total + len : total - len, AR_TOTAL);
}

// ---- operations ----

export function extInsert(al: usize, ws: usize, root: usize, start: u64, len: u64): i32 {
  planBegin();
  const e = planInsert(root, start, len);
  return e != 0 ? e : planApply(al, ws);
}

export function extRemove(al: usize, ws: usize, root: usize, start: u64, len: u64): i32 {
  planBegin();
  const e = planRemove(root, start, len);
  return e != 0 ? e : planApply(al, ws);
}

/** What extAlloc took. */
export let gotStart: u64 = 0;
export let gotLen: u64 = 0;

/** Takes the front, at most `count` blocks, of the first extent by size. -ENOENT when empty. */
export function extAlloc(al: usize, ws: usize, root: usize, count: u64): i32 {
  planBegin();
  let e = extNextByOrder(root);
  if (e != 0) return e;
  const start = extStart;
  const len = min(extLen, count);
  e = planTake(root, start, len);
  if (e == 0) e = planApply(al, ws);
  if (e != 0) return e;
  gotStart = start;
  gotLen = len;
  return 0;
}
