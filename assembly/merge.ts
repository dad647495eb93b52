/**
 * Merging log trees into a subtree of the file system tree.
 *
 * A job reads its inputs window by window: from the start of the window it takes
 * leaf after leaf of each input, one at a time, into an ordered array of item
 * records in an arena, combining versions of a key as it goes, and lowers the end
 * of the window whenever more than the window's bytes would be held. So memory is
 * bounded whatever the number of inputs. Then the records are applied in order to
 * the tree, which is changed only between whole steps: a missing block, the dirty
 * limit or a short allocator leave a valid tree, and the job remembers where it was.
 *
 * Arena: two halves; records are copied from one to the other when the space that
 * replaced records leave behind runs out.
 *
 *   record  ╒═══════╤══════╤═══════╤════════╤════════╤═══════╕
 *           │ key 32│ seq 8│ len  2│ flags 2│ pad   4│ value │
 *           ╘═══════╧══════╧═══════╧════════╧════════╧═══════╛
 *
 * Source: btree.md 7; vectors core-vectors.json → merge.
 */
import { check } from './check';
import { allocLow, allocPrepare, freeBlock } from './alloc_meta';
import { blockErr, wsetCount } from './block';
import {
  createItem, deleteItem, hasRoom, itemBytes, itemVal, leafSearch, nrItems, replaceValue,
  totalBytes, valLen, midFree, round8,
} from './btree_block';
import {
  deleteFound, leafFirst, leafNextItem, walk, walkBlocks, W_DELETE, W_DIRTY, W_INSERT, W_SUBTREE,
  wEnd,
} from './btree';
import {
  count, N_BTREE_MERGE, N_BTREE_MERGE_ALLOC_LOW, N_BTREE_MERGE_DELETE,
  N_BTREE_MERGE_DELTA_COMBINED, N_BTREE_MERGE_DELTA_NULL, N_BTREE_MERGE_DIRTY_LIMIT,
  N_BTREE_MERGE_DROP_OLD, N_BTREE_MERGE_INSERT, N_BTREE_MERGE_UPDATE, N_BTREE_MERGE_WALK,
} from './count';
import { DELTA_COMBINED, DELTA_NULL, deltaCombine, DELTA_NOT } from './delta';
import {
  BLOCK_BYTES, EIO, ENOENT, ENOSPC, ERANGE, ITEM_FLAG_DELETION, ITEM_FLAGS, ITEM_KEY, ITEM_SEQ,
  JOIN_LOW_BYTES, ROOT_BYTES, ROOT_HEIGHT,
} from './format';
import { keyCmp, keyCopy, keyDec, keyInc, keyZone } from './key';

const R_SEQ: usize = 32;
const R_LEN: usize = 40;
const R_FLAGS: usize = 42;
const R_VAL: usize = 48;

let arena: usize = 0;
let half: i32 = 0;
let current: i32 = 0;
let used: i32 = 0;
let index: usize = 0;
let spare: usize = 0;
let indexMax: i32 = 0;

// the job
let al: usize = 0;
let ws: usize = 0;
let dst: usize = 0;
let inputs: usize = 0;
let nrInputs: i32 = 0;
let flags: i32 = 0;
let dirtyMax: i32 = 0;
let lowNr: u32 = 0;
let windowBytes: i32 = 0;
const start: usize = memory.data(32, 8);
const rangeEnd: usize = memory.data(32, 8);
/** First key not merged, when the job stops early. */
export const mergeNext: usize = memory.data(32, 8);

/** Counts leaves read and records applied: what has been read before it grew is done with. */
export let mergeProgress: u32 = 0;

// the window
const winEnd: usize = memory.data(32, 8);
const winAt: usize = memory.data(32, 8);
let nr: i32 = 0;
let sumBytes: i32 = 0;
let inputNr: i32 = 0;
let inputLeaves: i32 = 0;
let reading: bool = false;
let pos: i32 = 0;
/** The record for which the dirty limit has been asked. */
let begun: i32 = -1;
let need: i32 = 0;
let needLen: i32 = 0;

/** Bytes of arena a window of this size works with. */
export function mergeArenaBytes(window: i32): i32 {
  const halfBytes = window * 2 + BLOCK_BYTES * 2;
  return halfBytes * 2 + (halfBytes / 48) * 8;
}

/**
 * Starts a job. `inputs` holds `nr` btree roots of 24 bytes; all addresses must
 * stay valid until it ends. `dirtyMaxBlocks` bounds the writer set.
 */
export function mergeStart(alloc: usize, wset: usize, root: usize, inputRoots: usize, nrRoots: i32,
  startKey: usize, endKey: usize, subtree: bool, dirtyMaxBlocks: i32, allocLowNr: i32,
  window: i32, arenaAt: usize): void {
  al = alloc;
  ws = wset;
  dst = root;
  inputs = inputRoots;
  nrInputs = nrRoots;
  flags = subtree ? W_SUBTREE : 0;
  dirtyMax = dirtyMaxBlocks;
  lowNr = <u32>allocLowNr;
  windowBytes = window;
  count(N_BTREE_MERGE);
  arena = arenaAt;
  half = window * 2 + BLOCK_BYTES * 2;
  indexMax = half / 48;
  index = arena + <usize>(half * 2);
  spare = index + <usize>(indexMax * 4);
  keyCopy(start, startKey);
  keyCopy(rangeEnd, endKey);
  startWindow();
}

function startWindow(): void {
  keyCopy(winEnd, rangeEnd);
  keyCopy(winAt, start);
  nr = 0;
  runNr = 0;
  sumBytes = 0;
  used = 0;
  inputNr = 0;
  inputLeaves = 0;
  reading = true;
  pos = 0;
  begun = -1;
  need = 0;
  needLen = 0;
}

/** Goes on with the job. 0 when done; -ERANGE when stopped at `mergeNext`; NEED_BLOCK; errors. */
export function mergeRun(): i32 {
  while (true) {
    let e = reading ? readWindow() : 0;
    if (e != 0) return e;
    reading = false;
    e = applyWindow();
    if (e != 0) return e;
    if (keyCmp(winEnd, rangeEnd) >= 0) return 0;
    keyCopy(start, winEnd);
    keyInc(start);
    startWindow();
  }
}

// ---- reading ----

function readWindow(): i32 {
  while (inputNr < nrInputs) {
    const root = inputs + <usize>(inputNr * ROOT_BYTES);
    const e = load<u8>(root, ROOT_HEIGHT) == 0 ? ENOENT : readLeaf(root);
    if (e < 0) return e;
    if (e == ENOENT) {
      inputNr += 1;
      inputLeaves = 0;
      keyCopy(winAt, start);
    }
  }
  return 0;
}

/** Takes one leaf of an input. 0: there is more; ENOENT: this input is finished; errors. */
function readLeaf(root: usize): i32 {
  const leaf = walk(0, 0, root, 0, winAt, 0);
  if (leaf == 0) return blockErr;
  const leafEnd = wEnd;
  for (let item = leafFirst(leaf, winAt); item != 0; item = leafNextItem(leaf, item)) {
    if (keyCmp(item + ITEM_KEY, winEnd) > 0) break;
    runAdd(leaf, item);
  }
  const e = runMerge();
  if (e != 0) return e;
  const done = keyCmp(leafEnd, winEnd) >= 0;
  inputLeaves += 1;
  mergeProgress += 1;
  if (!done && inputLeaves >= windowBytes / BLOCK_BYTES) {
    keyCopy(winEnd, leafEnd);
    dropAbove(winEnd);
  } else if (!done) {
    keyCopy(winAt, leafEnd);
    keyInc(winAt);
  }
  shrinkToWindow();
  return done || keyCmp(leafEnd, winEnd) >= 0 ? ENOENT : 0;
}

@inline function rec(i: i32): usize { return <usize>load<u32>(index + (<usize>i << 2)); }
@inline function recBytes(r: usize): i32 { return itemBytes(<i32>load<u16>(r, R_LEN)); }

// the items of one leaf, in order, behind the index in the spare array's tail
let runNr: i32 = 0;

function runAdd(leaf: usize, item: usize): void {
  const len = valLen(item);
  check(used + <i32>R_VAL + round8(len) <= half && nr + runNr < indexMax, 401);
  const r = arena + <usize>(current * half + used);
  keyCopy(r, item + ITEM_KEY);
  store<u64>(r, load<u64>(item, ITEM_SEQ), R_SEQ);
  store<u16>(r, <u16>len, R_LEN);
  store<u16>(r, <u16>load<u8>(item, ITEM_FLAGS), R_FLAGS);
  memory.copy(r + R_VAL, itemVal(leaf, item), <usize>len);
  used += <i32>R_VAL + round8(len);
  store<u32>(index + (<usize>(nr + runNr) << 2), <u32>r);
  runNr += 1;
}

/** Merges the run behind the index (both sorted) into one sorted index. */
function runMerge(): i32 {
  let a = 0;
  let b = nr;
  const bEnd = nr + runNr;
  let n = 0;
  sumBytes = 0;
  while (a < nr || b < bEnd) {
    const c = a >= nr ? 1 : b >= bEnd ? -1 : keyCmp(rec(a), rec(b));
    let keep = c <= 0 ? rec(a) : rec(b);
    if (c == 0) {
      const k = combine(rec(a), rec(b));
      if (k == 1) return -EIO;
      keep = k;
    }
    if (c <= 0) a += 1;
    if (c >= 0) b += 1;
    if (keep == 0) continue;
    store<u32>(spare + (<usize>n << 2), <u32>keep);
    sumBytes += recBytes(keep);
    n += 1;
  }
  const t = index;
  index = spare;
  spare = t;
  nr = n;
  runNr = 0;
  if (used > half - <i32>BLOCK_BYTES - 8192) repack();
  return 0;
}

/** Two versions of one key: the record to keep, 0 for none, 1 for a damaged delta. */
function combine(a: usize, b: usize): usize {
  const d = deltaCombine(keyZone(a), a + R_VAL, <i32>load<u16>(a, R_LEN),
    b + R_VAL, <i32>load<u16>(b, R_LEN));
  if (d < 0) return 1;
  if (d == DELTA_NULL) return 0;
  if (d == DELTA_NOT) {
    count(N_BTREE_MERGE_DROP_OLD);
    return load<u64>(b, R_SEQ) > load<u64>(a, R_SEQ) ? b : a;
  }
  store<u64>(a, max(load<u64>(a, R_SEQ), load<u64>(b, R_SEQ)), R_SEQ);
  return a;
}

/** Copies the live records to the other half. */
function repack(): void {
  current = 1 - current;
  used = 0;
  for (let i = 0; i < nr; i++) {
    const from = rec(i);
    const bytes = <i32>R_VAL + round8(<i32>load<u16>(from, R_LEN));
    const to = arena + <usize>(current * half + used);
    memory.copy(to, from, <usize>bytes);
    store<u32>(index + (<usize>i << 2), <u32>to);
    used += bytes;
  }
}

function dropAbove(end: usize): void {
  while (nr > 0 && keyCmp(rec(nr - 1), end) > 0) {
    nr -= 1;
    sumBytes -= recBytes(rec(nr));
  }
}

function shrinkToWindow(): void {
  while (sumBytes > windowBytes && nr > 1) {
    nr -= 1;
    sumBytes -= recBytes(rec(nr));
    keyCopy(winEnd, rec(nr));
    keyDec(winEnd);
  }
}

// ---- applying ----

function stopAt(r: usize): i32 {
  keyCopy(mergeNext, r);
  return -ERANGE;
}

function applyWindow(): i32 {
  while (pos < nr) {
    const r = rec(pos);
    // the first use takes two numbers, which the low mark must not count
    const e = allocPrepare(al);
    if (e != 0) return e == -ENOSPC ? stopAt(r) : e;
    const low = max(lowNr, <u32>walkBlocks(<i32>load<u8>(dst, ROOT_HEIGHT)));
    // asked once for a record: a path that was dirtied for it is not left without a change
    if (begun != pos && wsetCount(ws) >= dirtyMax) {
      count(N_BTREE_MERGE_DIRTY_LIMIT);
      return stopAt(r);
    }
    if (allocLow(al, low)) {
      count(N_BTREE_MERGE_ALLOC_LOW);
      return stopAt(r);
    }
    begun = pos;
    // deletions and deltas of an empty tree have nothing to walk to
    if (load<u8>(dst, ROOT_HEIGHT) == 0) need |= W_INSERT;
    const leaf = walk(al, ws, dst, W_DIRTY | flags | need, r, needLen);
    if (leaf == 0) return blockErr == -ERANGE ? stopAt(r) : blockErr;
    count(N_BTREE_MERGE_WALK);
    if (load<u8>(dst, ROOT_HEIGHT) > 1 && totalBytes(leaf) < JOIN_LOW_BYTES &&
        (need & W_DELETE) == 0) {
      need |= W_DELETE;
      continue;
    }
    const err = applyLeaf(leaf);
    if (err != 0) return err;
  }
  return 0;
}

/** Applies records to one leaf until its end, or until the walk must be repeated. */
function applyLeaf(leaf: usize): i32 {
  let joined = (need & W_DELETE) != 0;
  while (pos < nr && keyCmp(rec(pos), wEnd) <= 0) {
    const r = rec(pos);
    const e = applyOne(leaf, r, joined);
    if (e == AGAIN) return 0;
    if (e < 0) return e;
    pos += 1;
    mergeProgress += 1;
    need = 0;
    needLen = 0;
    joined = false;
    if (e == EMPTIED) return 0;
  }
  return 0;
}

const AGAIN: i32 = 1;
const EMPTIED: i32 = 2;

function applyOne(leaf: usize, r: usize, joined: bool): i32 {
  const len = <i32>load<u16>(r, R_LEN);
  const rflags = <u8>load<u16>(r, R_FLAGS);
  const deletion = (rflags & ITEM_FLAG_DELETION) != 0;
  const item = leafSearch(leaf, r);
  if (deletion) return item == 0 ? dropEmpty(leaf) : applyDeletion(leaf, item, joined);
  let d = DELTA_NOT;
  if (item != 0) {
    d = deltaCombine(keyZone(r), itemVal(leaf, item), valLen(item), r + R_VAL, len);
    if (d < 0) return d;
  }
  if (d == DELTA_NULL) {
    count(N_BTREE_MERGE_DELTA_NULL);
    deleteFound(al, dst, leaf, item);
    return load<u8>(dst, ROOT_HEIGHT) == 0 ? EMPTIED : 0;
  }
  if (d == DELTA_COMBINED) {
    count(N_BTREE_MERGE_DELTA_COMBINED);
    store<u64>(item, load<u64>(r, R_SEQ), ITEM_SEQ);
    return 0;
  }
  if (item == 0 ? !hasRoom(leaf, len) : midFree(leaf) < round8(len)) {
    need |= W_INSERT;
    needLen = len;
    return AGAIN;
  }
  count(item == 0 ? N_BTREE_MERGE_INSERT : N_BTREE_MERGE_UPDATE);
  if (item == 0) {
    createItem(leaf, r, load<u64>(r, R_SEQ), rflags, r + R_VAL, len);
  } else {
    store<u64>(item, load<u64>(r, R_SEQ), ITEM_SEQ);
    store<u8>(item, rflags, ITEM_FLAGS);
    replaceValue(leaf, item, r + R_VAL, len);
  }
  return 0;
}

function applyDeletion(leaf: usize, item: usize, joined: bool): i32 {
  if (load<u8>(dst, ROOT_HEIGHT) > 1 && totalBytes(leaf) < JOIN_LOW_BYTES && !joined) {
    need |= W_DELETE;
    return AGAIN;
  }
  count(N_BTREE_MERGE_DELETE);
  deleteFound(al, dst, leaf, item);
  return load<u8>(dst, ROOT_HEIGHT) == 0 ? EMPTIED : 0;
}

/** A deletion that meets an empty leaf made for it leaves no leaf behind. */
function dropEmpty(leaf: usize): i32 {
  if (nrItems(leaf) != 0 || load<u8>(dst, ROOT_HEIGHT) != 1) return 0;
  deleteEmptyRoot(leaf);
  return EMPTIED;
}

function deleteEmptyRoot(leaf: usize): void {
  check(nrItems(leaf) == 0, 402);
  freeBlock(al, leaf);
  memory.fill(dst, 0, ROOT_BYTES);
}
