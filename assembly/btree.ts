/**
 * The copy-on-write btree.
 *
 * A walk descends from the root to the leaf of a key. Walks that modify make every
 * block of their path dirty, so that each parent can hold its child's new
 * reference, and keep every block on the path able to take one more item (split)
 * or, for deletions, full enough to lose one (join). A split or join is a whole
 * step: the tree is valid before and after it, and the walk then starts again.
 *
 * Missing blocks end a walk with NEED_BLOCK between such steps, never inside one.
 * Before a modifying walk does anything it makes sure that the allocator and the
 * cache have what it can use at most, so that no allocation fails half way.
 *
 * Compound changes (several items that must change together) first walk to all of
 * their keys and then apply with `blockNoNeed`: in that mode a join whose sibling
 * is not resident is skipped, which only leaves a leaf below the low water mark.
 *
 * Source: btree.md 3 to 5; vectors core-vectors.json → btree, leaf_bytes, quirks.
 */
import { check } from './check';
import { allocNeed, freeBlock } from './alloc_meta';
import {
  blockDirty, blockErr, blockIsNoNeed, blockRead, blockResident, corrupt,
  CORRUPT_BTREE_LEVEL, CORRUPT_HEIGHT, CORRUPT_NO_CHILD, setBlockErr,
} from './block';
import {
  compact, createItem, deleteItem, hasRoom, initBlock, itemAtOrAfter, itemAtOrBefore,
  itemBytes, itemVal, lastItem, leafSearch, levelOf, midFree, moveItems, nrItems, replaceValue,
  totalBytes, valLen,
} from './btree_block';
import { avlNext, avlPrev } from './avl';
import {
  count, N_BTREE_DELETE, N_BTREE_DIRTY, N_BTREE_FORCE, N_BTREE_INSERT, N_BTREE_JOIN,
  N_BTREE_LOOKUP, N_BTREE_NEXT, N_BTREE_PREV, N_BTREE_SPLIT, N_BTREE_STALE_READ, N_BTREE_UPDATE,
  N_BTREE_WALK, N_BTREE_WALK_RESTART,
} from './count';
import { DELTA_NOT, deltaCombine } from './delta';
import {
  BLOCK_BODY_BYTES, BT_AVL_ROOT, EEXIST, EINVAL, ENOENT, ERANGE, ESTALE, HDR_BLKNO, HDR_SEQ,
  ITEM_FLAGS, ITEM_KEY, ITEM_SEQ, JOIN_LOW_BYTES, MAGIC_BTREE, MAX_HEIGHT, MAX_VAL_LEN, REF_BYTES,
  ROOT_BYTES, ROOT_HEIGHT, SPLIT_FULL_PERCENT,
} from './format';
import { keyCopy, keyInc, keyIsZeros, keyOnes, keyZeros, keyZone } from './key';

export const W_DIRTY: i32 = 1;
export const W_INSERT: i32 = 2;
export const W_DELETE: i32 = 4;
/** Stop at the level-1 block, without reading it. */
export const W_PARENT: i32 = 8;
/** The tree is a borrowed level-1 block: fail with -ERANGE rather than split or join it. */
export const W_SUBTREE: i32 = 16;

// what the last walk found; valid until the next walk
/** Inclusive bounds of the keys that can be in the leaf. */
export const wStart: usize = memory.data(32, 8);
export const wEnd: usize = memory.data(32, 8);
/** A key in the previous or next leaf; all zeros when there is none. */
export const wIterPrev: usize = memory.data(32, 8);
export const wIterNext: usize = memory.data(32, 8);
/** With W_PARENT: the reference to the level-1 block; 0 when the tree is shorter. */
export let wParentRef: usize = 0;

const refScratch: usize = memory.data(16, 8);
const keyScratch: usize = memory.data(32, 8);

@inline function fail(e: i32): usize {
  setBlockErr(e);
  return 0;
}

/** Most blocks that a modifying walk of a tree of this height allocates or frees. */
@inline export function walkBlocks(height: i32): i32 { return 3 * height + 4; }

/**
 * Walks to the leaf of `key`. `valBytes` is the value length of the item to insert.
 * @returns the leaf, or 0 with `blockErr` (-ENOENT for an empty tree, NEED_BLOCK, ...)
 */
export function walk(al: usize, ws: usize, root: usize, flags: i32, key: usize,
  valBytes: i32): usize {
  if (load<u8>(root, ROOT_HEIGHT) > MAX_HEIGHT) {
    return fail(corrupt(CORRUPT_HEIGHT, load<u64>(root)));
  }
  if (flags & W_DIRTY) {
    const e = blockIsNoNeed() ? 0 : allocNeed(al, walkBlocks(<i32>load<u8>(root, ROOT_HEIGHT)));
    if (e != 0) return fail(e);
  }
  while (true) {
    const leaf = descend(al, ws, root, flags, key, valBytes);
    if (leaf != 0) count(N_BTREE_WALK);
    if (leaf != 0 || blockErr != RESTART) return leaf;
    count(N_BTREE_WALK_RESTART);
  }
}

/** Most numbers that one split or join takes or frees, and one for the caller. */
const STEP_BLOCKS: i32 = 4;

/** A split or join changed the tree. */
const RESTART: i32 = -2000;

function descend(al: usize, ws: usize, root: usize, flags: i32, key: usize, valBytes: i32): usize {
  keyZeros(wStart);
  keyOnes(wEnd);
  keyZeros(wIterPrev);
  keyZeros(wIterNext);
  wParentRef = 0;
  let level = <i32>load<u8>(root, ROOT_HEIGHT) - 1;
  if (level < 0) return emptyRoot(al, ws, root, flags);
  let parent: usize = 0;
  let parItem: usize = 0;
  let ref = root;
  while (true) {
    if (level == 1 && (flags & W_PARENT) != 0) {
      wParentRef = ref;
      blockErrClear();
      return root;
    }
    const b = (flags & W_DIRTY) != 0 ? blockDirty(al, ws, ref, MAGIC_BTREE)
      : blockRead(ref, MAGIC_BTREE);
    if (b == 0) {
      if (blockErr == -ESTALE) count(N_BTREE_STALE_READ);
      return 0;
    }
    if (levelOf(b) != level) return fail(corrupt(CORRUPT_BTREE_LEVEL, load<u64>(b, HDR_BLKNO)));
    if ((flags & W_SUBTREE) != 0 && level == 1 &&
        (totalBytes(b) < JOIN_LOW_BYTES || !hasRoom(b, REF_BYTES))) {
      return fail(-ERANGE);
    }
    if ((flags & (W_INSERT | W_DELETE)) != 0) {
      const e = fitBlock(al, ws, root, parent, parItem, b, flags,
        level == 0 ? valBytes : REF_BYTES);
      if (e != 0) return fail(e);
    }
    if (level == 0) {
      blockErrClear();
      return b;
    }
    const item = itemAtOrAfter(b, key);
    if (item == 0) return fail(corrupt(CORRUPT_NO_CHILD, load<u64>(b, HDR_BLKNO)));
    noteRange(b, item);
    parent = b;
    parItem = item;
    ref = itemVal(b, item);
    level -= 1;
  }
}

@inline function blockErrClear(): void { setBlockErr(0); }

function emptyRoot(al: usize, ws: usize, root: usize, flags: i32): usize {
  if ((flags & W_INSERT) == 0 || (flags & W_DIRTY) == 0) return fail(-ENOENT);
  const b = blockDirty(al, ws, root, MAGIC_BTREE);
  if (b == 0) return 0;
  initBlock(b, 0);
  store<u8>(root, 1, ROOT_HEIGHT);
  return b;
}

/** Tightens the range info by the child that was chosen. */
function noteRange(b: usize, item: usize): void {
  const prev = avlPrev(b + BT_AVL_ROOT, item);
  if (prev != 0) {
    keyCopy(wStart, prev + ITEM_KEY);
    keyInc(wStart);
    keyCopy(wIterPrev, prev + ITEM_KEY);
  }
  keyCopy(wEnd, item + ITEM_KEY);
  if (avlNext(b + BT_AVL_ROOT, item) != 0) {
    keyCopy(wIterNext, item + ITEM_KEY);
    keyInc(wIterNext);
  }
}

/** Splits or joins the block if the walk's purpose needs it. 0, RESTART or an error. */
function fitBlock(al: usize, ws: usize, root: usize, parent: usize, parItem: usize, b: usize,
  flags: i32, len: i32): i32 {
  const e = trySplit(al, ws, root, parent, b, len);
  if (e != 0) return e;
  if ((flags & W_DELETE) == 0 || parent == 0) return 0;
  return tryJoin(al, ws, root, parent, parItem, b);
}

/** Points a parent's value (a block reference) at a block. */
function refOf(b: usize): usize {
  store<u64>(refScratch, load<u64>(b, HDR_BLKNO));
  store<u64>(refScratch, load<u64>(b, HDR_SEQ), 8);
  return refScratch;
}

function trySplit(al: usize, ws: usize, root: usize, parent: usize, right: usize, len: i32): i32 {
  if (hasRoom(right, len)) return 0;
  if (totalBytes(right) * 100 / BLOCK_BODY_BYTES < SPLIT_FULL_PERCENT) {
    compact(right);
    if (hasRoom(right, len)) return 0;
  }
  const e = allocNeed(al, STEP_BLOCKS);
  if (e != 0) return e;
  const leftRef = memory.data(16, 8);
  memory.fill(leftRef, 0, 16);
  const left = blockDirty(al, ws, leftRef, MAGIC_BTREE);
  if (left == 0) return blockErr;
  initBlock(left, levelOf(right));
  if (parent == 0) {
    const rootRef = memory.data(16, 8);
    memory.fill(rootRef, 0, 16);
    parent = blockDirty(al, ws, rootRef, MAGIC_BTREE);
    if (parent == 0) {
      const err = blockErr;
      freeBlock(al, left);
      return err;
    }
    initBlock(parent, levelOf(right) + 1);
    keyOnes(keyScratch);
    createItem(parent, keyScratch, 0, 0, refOf(right), REF_BYTES);
    memory.copy(root, rootRef, 16);
    store<u8>(root, <u8>(levelOf(right) + 2), ROOT_HEIGHT);
  }
  count(N_BTREE_SPLIT);
  moveItems(left, right, false, totalBytes(right) / 2);
  createItem(parent, lastItem(left) + ITEM_KEY, 0, 0, refOf(left), REF_BYTES);
  return RESTART;
}

function tryJoin(al: usize, ws: usize, root: usize, parent: usize, parItem: usize, b: usize): i32 {
  if (totalBytes(b) >= JOIN_LOW_BYTES) return 0;
  const avl = parent + BT_AVL_ROOT;
  let sibItem = avlPrev(avl, parItem);
  const toRight = sibItem != 0;
  if (!toRight) sibItem = avlNext(avl, parItem);
  if (sibItem == 0) return 0;
  const sibRef = itemVal(parent, sibItem);
  const optional = blockIsNoNeed();
  if (optional && !blockResident(sibRef)) return 0;
  const e = allocNeed(al, STEP_BLOCKS);
  if (e != 0) return optional ? 0 : e;
  const sib = blockDirty(al, ws, sibRef, MAGIC_BTREE);
  if (sib == 0) return optional ? 0 : blockErr;
  if (levelOf(sib) != levelOf(b)) {
    const err = corrupt(CORRUPT_BTREE_LEVEL, load<u64>(sib, HDR_BLKNO));
    return optional ? 0 : err;
  }
  const budget = totalBytes(sib) <= JOIN_LOW_BYTES * 2 ? totalBytes(sib) : JOIN_LOW_BYTES;
  if (midFree(b) < budget + itemBytes(MAX_VAL_LEN)) compact(b);
  count(N_BTREE_JOIN);
  moveItems(b, sib, toRight, budget);
  if (!toRight) {
    // the bound of an emptied last sibling goes to the block that took its items
    const bound = nrItems(sib) == 0 && avlNext(avl, sibItem) == 0 ? sibItem : lastItem(b);
    if (bound != 0) setBound(parent, parItem, bound + ITEM_KEY);
  }
  if (nrItems(sib) == 0) {
    deleteItem(parent, sibItem);
    freeBlock(al, sib);
  } else if (toRight) {
    setBound(parent, sibItem, lastItem(sib) + ITEM_KEY);
  }
  // only a foreign tree has another parent with a single child
  if (nrItems(parent) == 1 && load<u64>(root) == load<u64>(parent, HDR_BLKNO)) {
    store<u64>(root, load<u64>(b, HDR_BLKNO));
    store<u64>(root, load<u64>(b, HDR_SEQ), 8);
    store<u8>(root, <u8>(levelOf(b) + 1), ROOT_HEIGHT);
    freeBlock(al, parent);
  }
  return RESTART;
}

/** Changes the key of a parent's item; its order among its neighbours stays the same. */
function setBound(parent: usize, item: usize, key: usize): void {
  check(levelOf(parent) > 0, 311);
  keyCopy(item + ITEM_KEY, key);
}

// ---- operations on one item ----

/** Copies a value out. @returns its length, or -ENOENT, NEED_BLOCK, ... */
export function btreeLookup(root: usize, key: usize, out: usize, maxLen: i32): i32 {
  const leaf = walk(0, 0, root, 0, key, 0);
  if (leaf == 0) return blockErr;
  const item = leafSearch(leaf, key);
  if (item == 0) return -ENOENT;
  const len = valLen(item);
  count(N_BTREE_LOOKUP);
  memory.copy(out, itemVal(leaf, item), <usize>min(len, maxLen));
  return len;
}

/** The leaf of a key for reading; start and end get its inclusive bounds. */
export function btreeWalkRead(root: usize, key: usize, startOut: usize, endOut: usize): usize {
  const leaf = walk(0, 0, root, 0, key, 0);
  if (leaf != 0) {
    keyCopy(startOut, wStart);
    keyCopy(endOut, wEnd);
  }
  return leaf;
}

@inline export function leafFirst(leaf: usize, key: usize): usize {
  return itemAtOrAfter(leaf, key);
}

@inline export function leafNextItem(leaf: usize, item: usize): usize {
  return avlNext(leaf + BT_AVL_ROOT, item);
}

/** The leaf in which the last btreeNext or btreePrev found its item. */
export let nextLeaf: usize = 0;

/** First item at or after `key` (inclusive). @returns the item, or 0 with `blockErr` */
export function btreeNext(root: usize, key: usize): usize {
  const at = memory.data(32, 8);
  keyCopy(at, key);
  while (true) {
    const leaf = walk(0, 0, root, 0, at, 0);
    if (leaf == 0) return 0;
    const item = itemAtOrAfter(leaf, key);
    if (item != 0) {
      count(N_BTREE_NEXT);
      nextLeaf = leaf;
      return item;
    }
    if (keyIsZeros(wIterNext)) return fail(-ENOENT);
    keyCopy(at, wIterNext);
  }
}

/** Last item at or before `key` (inclusive). @returns the item, or 0 with `blockErr` */
export function btreePrev(root: usize, key: usize): usize {
  const at = memory.data(32, 8);
  keyCopy(at, key);
  while (true) {
    const leaf = walk(0, 0, root, 0, at, 0);
    if (leaf == 0) return 0;
    const item = itemAtOrBefore(leaf, key);
    if (item != 0) {
      count(N_BTREE_PREV);
      nextLeaf = leaf;
      return item;
    }
    if (keyIsZeros(wIterPrev)) return fail(-ENOENT);
    keyCopy(at, wIterPrev);
  }
}

/** Adds an item of a server tree. 0, -EEXIST, -EINVAL, NEED_BLOCK, -ENOSPC, ... */
export function btreeInsert(al: usize, ws: usize, root: usize, key: usize, val: usize,
  len: i32): i32 {
  if (len > MAX_VAL_LEN) return -EINVAL;
  const leaf = walk(al, ws, root, W_DIRTY | W_INSERT, key, len);
  if (leaf == 0) return blockErr;
  if (leafSearch(leaf, key) != 0) return -EEXIST;
  count(N_BTREE_INSERT);
  createItem(leaf, key, 0, 0, val, len);
  return 0;
}

/** Replaces the value of an item. 0, -ENOENT, ... */
export function btreeUpdate(al: usize, ws: usize, root: usize, key: usize, val: usize,
  len: i32): i32 {
  if (len > MAX_VAL_LEN) return -EINVAL;
  const leaf = walk(al, ws, root, W_DIRTY | W_INSERT, key, len);
  if (leaf == 0) return blockErr;
  const item = leafSearch(leaf, key);
  if (item == 0) return -ENOENT;
  count(N_BTREE_UPDATE);
  store<u64>(item, 0, ITEM_SEQ);
  store<u8>(item, 0, ITEM_FLAGS);
  replaceValue(leaf, item, val, len);
  return 0;
}

/** Updates an item or inserts it when absent. */
export function btreeForce(al: usize, ws: usize, root: usize, key: usize, val: usize,
  len: i32): i32 {
  if (len > MAX_VAL_LEN) return -EINVAL;
  const leaf = walk(al, ws, root, W_DIRTY | W_INSERT, key, len);
  if (leaf == 0) return blockErr;
  const item = leafSearch(leaf, key);
  count(N_BTREE_FORCE);
  if (item == 0) createItem(leaf, key, 0, 0, val, len);
  else replaceValue(leaf, item, val, len);
  return 0;
}

/** Deletes an item. 0, -ENOENT, ... */
export function btreeDelete(al: usize, ws: usize, root: usize, key: usize): i32 {
  const leaf = walk(al, ws, root, W_DIRTY | W_DELETE, key, 0);
  if (leaf == 0) return blockErr;
  const item = leafSearch(leaf, key);
  if (item == 0) return -ENOENT;
  count(N_BTREE_DELETE);
  deleteFound(al, root, leaf, item);
  return 0;
}

/** Deletes an item of a dirty leaf; the last item of a leaf that is the root empties the tree. */
export function deleteFound(al: usize, root: usize, leaf: usize, item: usize): void {
  if (nrItems(leaf) == 1 && load<u8>(root, ROOT_HEIGHT) == 1) {
    freeBlock(al, leaf);
    memory.fill(root, 0, ROOT_BYTES);
  } else {
    deleteItem(leaf, item);
  }
}

/** Makes the path to an existing item dirty. 0, -ENOENT, ... */
export function btreeDirty(al: usize, ws: usize, root: usize, key: usize): i32 {
  const leaf = walk(al, ws, root, W_DIRTY, key, 0);
  if (leaf == 0) return blockErr;
  count(N_BTREE_DIRTY);
  return leafSearch(leaf, key) == 0 ? -ENOENT : 0;
}

/**
 * Brings every block that changing this key can need into memory, dirty, with room for `len`.
 * @returns the leaf, or 0 with `blockErr`
 */
export function btreePrepare(al: usize, ws: usize, root: usize, key: usize, len: i32): usize {
  return walk(al, ws, root, W_DIRTY | W_INSERT | W_DELETE, key, len);
}

/** Splits and joins around a key as the biggest insertion and a deletion would. */
export function btreeRebalance(al: usize, ws: usize, root: usize, key: usize): i32 {
  if (load<u8>(root, ROOT_HEIGHT) == 0) return 0;
  const leaf = walk(al, ws, root, W_DIRTY | W_INSERT | W_DELETE, key, MAX_VAL_LEN);
  return leaf == 0 ? blockErr : 0;
}

/**
 * Applies one logged item to a log tree: creates or replaces it, adds a delta to a
 * delta. The value is in place when this returns 0. Source: btree.md 5.
 */
export function btreeApply(al: usize, ws: usize, root: usize, key: usize, seq: u64, flags: u8,
  val: usize, len: i32): i32 {
  if (len > MAX_VAL_LEN) return -EINVAL;
  const leaf = walk(al, ws, root, W_DIRTY | W_INSERT, key, len);
  if (leaf == 0) return blockErr;
  const item = leafSearch(leaf, key);
  if (item == 0) {
    createItem(leaf, key, seq, flags, val, len);
    return 0;
  }
  const d = deltaCombine(keyZone(key), itemVal(leaf, item), valLen(item), val, len);
  if (d < 0) return d;
  store<u64>(item, seq, ITEM_SEQ);
  store<u8>(item, flags, ITEM_FLAGS);
  if (d == DELTA_NOT) replaceValue(leaf, item, val, len);
  return 0;
}

// ---- subtrees ----

/**
 * Bounds of the keys below the level-1 block of `key`: zeros to ones for trees of
 * height 0 to 2... a tree of height 2 is one level-1 block. 0 or an error.
 */
export function btreeParentRange(root: usize, key: usize, startOut: usize, endOut: usize): i32 {
  keyZeros(startOut);
  keyOnes(endOut);
  if (load<u8>(root, ROOT_HEIGHT) <= 2) return 0;
  if (walk(0, 0, root, W_PARENT, key, 0) == 0) return blockErr;
  keyCopy(startOut, wStart);
  keyCopy(endOut, wEnd);
  return 0;
}

/** A root for the level-1 block of `key`; the tree itself when it is not higher than that. */
export function btreeGetParent(root: usize, key: usize, out: usize): i32 {
  memory.copy(out, root, ROOT_BYTES);
  if (load<u8>(root, ROOT_HEIGHT) <= 2) return 0;
  if (walk(0, 0, root, W_PARENT, key, 0) == 0) return blockErr;
  memory.copy(out, wParentRef, 16);
  store<u8>(out, 2, ROOT_HEIGHT);
  return 0;
}

/** Puts a changed level-1 subtree in the place of the one that covers `key`. */
export function btreeSetParent(al: usize, ws: usize, root: usize, key: usize, sub: usize): i32 {
  if (load<u8>(root, ROOT_HEIGHT) <= 2) {
    memory.copy(root, sub, ROOT_BYTES);
    return 0;
  }
  if (load<u8>(sub, ROOT_HEIGHT) != 2) return -EINVAL;
  if (walk(al, ws, root, W_DIRTY | W_PARENT, key, 0) == 0) return blockErr;
  memory.copy(wParentRef, sub, 16);
  return 0;
}
