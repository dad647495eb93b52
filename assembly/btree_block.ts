/**
 * One btree block: items, values and the leaf hash table.
 *
 *  ╒═══════════╤══════════════════╤═════════╤══════════════════╤════════════════╕
 *  │ header  48│ items 56 each  ->│mid free │<- values, 8 alig.│ hash 1512 x 2  │
 *  ╘═══════════╧══════════════════╧═════════╧══════════════════╧════════════════╛
 *                                                              62512 (leaves only)
 *
 * The item array is dense and unsorted; the AVL tree gives the order and, in
 * leaves, the hash table finds exact keys. Deleting moves the last item into the
 * hole. Values that are deleted or replaced leave holes which only `compact`
 * recovers. `btreeValidate` is run once on every block that was read: after it all
 * offsets, links and counts may be trusted; it does not look at AVL heights, which
 * mkfs writes wrong. Source: btree.md 2, format.md 9, vectors leaf_bytes.
 */
import { check } from './check';
import {
  avlDelete, avlFirst, avlInsert, avlLast, avlLeft, avlNext, avlRelocate, avlRight, avlRoot,
} from './avl';
import { count, N_BTREE_COMPACT_VALUES, N_BTREE_LEAF_ITEM_HASH_SEARCH } from './count';
import {
  BLOCK_BYTES, BT_AVL_ROOT, BT_ITEMS, BT_LEVEL, BT_MID_FREE, BT_NR_ITEMS, BT_TOTAL_BYTES,
  ITEM_BYTES, ITEM_FLAGS, ITEM_KEY, ITEM_SEQ, ITEM_VAL_LEN, ITEM_VAL_OFF, LEAF_HASH_NR,
  LEAF_VAL_END, MAX_HEIGHT, MAX_VAL_LEN,
} from './format';
import { fnv32 } from './hash';
import { keyCmp, keyCopy } from './key';

@inline export function nrItems(b: usize): i32 { return <i32>load<u16>(b, BT_NR_ITEMS); }
@inline export function totalBytes(b: usize): i32 { return <i32>load<u16>(b, BT_TOTAL_BYTES); }
@inline export function midFree(b: usize): i32 { return <i32>load<u16>(b, BT_MID_FREE); }
@inline export function levelOf(b: usize): i32 { return <i32>load<u8>(b, BT_LEVEL); }
@inline export function itemAt(b: usize, i: i32): usize {
  return b + BT_ITEMS + <usize>(i * ITEM_BYTES);
}
@inline export function valLen(item: usize): i32 { return <i32>load<u16>(item, ITEM_VAL_LEN); }
@inline export function itemVal(b: usize, item: usize): usize {
  return b + <usize>load<u16>(item, ITEM_VAL_OFF);
}
@inline export function round8(n: i32): i32 { return (n + 7) & ~7; }
/** Bytes an item with a value of this length costs. */
@inline export function itemBytes(len: i32): i32 { return ITEM_BYTES + round8(len); }
@inline function valEnd(b: usize): i32 { return levelOf(b) == 0 ? LEAF_VAL_END : BLOCK_BYTES; }

/** An empty block at a level; the header is set, the rest is zero. */
export function initBlock(b: usize, level: i32): void {
  store<u8>(b, <u8>level, BT_LEVEL);
  store<u16>(b, <u16>(valEnd(b) - <i32>BT_ITEMS), BT_MID_FREE);
}

// ---- validation ----

function linkOk(link: u16, nr: i32): bool {
  if (link == 0) return true;
  const i = <i32>link - 16;
  return i >= 0 && i % ITEM_BYTES == 0 && i / ITEM_BYTES < nr;
}

function itemOk(b: usize, item: usize, nr: i32, end: i32): bool {
  const base = b + BT_AVL_ROOT;
  const self = <u16>(item - base);
  const left = load<u16>(item, 2);
  const right = load<u16>(item, 4);
  if (!linkOk(load<u16>(item), nr) || !linkOk(left, nr) || !linkOk(right, nr)) return false;
  if (left != 0 && (left == right || load<u16>(base + <usize>left) != self)) return false;
  if (right != 0 && load<u16>(base + <usize>right) != self) return false;
  const len = valLen(item);
  const at = <i32>load<u16>(item, ITEM_VAL_OFF);
  if (len > MAX_VAL_LEN || (levelOf(b) > 0 && len != 16)) return false;
  if (len == 0) return true;
  return (at & 7) == 0 && at >= <i32>BT_ITEMS + nr * ITEM_BYTES + midFree(b) &&
    at + round8(len) <= end;
}

function orderOk(b: usize, nr: i32): bool {
  const base = b + BT_AVL_ROOT;
  const root = load<u16>(base);
  if (!linkOk(root, nr) || (root == 0) != (nr == 0)) return false;
  if (nr == 0) return true;
  if (load<u16>(base + <usize>root) != 0) return false;
  // every child names its parent and the root has none: the links below the root are a
  // tree, the walk ends, and it has seen all items when it has seen `nr`
  let seen = 1;
  let item = avlFirst(base);
  for (let next = avlNext(base, item); next != 0; next = avlNext(base, item)) {
    if (keyCmp(item + ITEM_KEY, next + ITEM_KEY) >= 0 || ++seen > nr) return false;
    item = next;
  }
  return seen == nr;
}

function hashOk(b: usize, nr: i32): bool {
  let used = 0;
  for (let i: u32 = 0; i < LEAF_HASH_NR; i++) {
    const o = <i32>load<u16>(b + <usize>LEAF_VAL_END + (<usize>i << 1));
    if (o == 0) continue;
    used += 1;
    const x = o - <i32>BT_ITEMS;
    if (x < 0 || x % ITEM_BYTES != 0 || x / ITEM_BYTES >= nr) return false;
  }
  if (used != nr) return false;
  for (let i = 0; i < nr; i++) {
    if (leafSearch(b, itemAt(b, i) + ITEM_KEY) != itemAt(b, i)) return false;
  }
  return true;
}

/** Whether the structure of a block that was read can be trusted. */
export function btreeValidate(b: usize): bool {
  const nr = nrItems(b);
  const end = valEnd(b);
  if (levelOf(b) >= <i32>MAX_HEIGHT) return false;
  if (<i32>BT_ITEMS + nr * ITEM_BYTES + midFree(b) > end || (midFree(b) & 7) != 0) return false;
  let sum = 0;
  for (let i = 0; i < nr; i++) {
    if (!itemOk(b, itemAt(b, i), nr, end)) return false;
    sum += itemBytes(valLen(itemAt(b, i)));
  }
  // values that overlap could need more room than there is when they are packed
  if (sum != totalBytes(b) || <i32>BT_ITEMS + sum + midFree(b) > end) return false;
  return orderOk(b, nr) && (levelOf(b) > 0 || hashOk(b, nr));
}

// ---- search ----

@inline function bucket(b: usize, i: u32): usize {
  return b + <usize>LEAF_VAL_END + (<usize>i << 1);
}
@inline function nextBucket(i: u32): u32 { return i + 1 == LEAF_HASH_NR ? 0 : i + 1; }

/** The item of a leaf with exactly this key, or 0. */
export function leafSearch(b: usize, key: usize): usize {
  count(N_BTREE_LEAF_ITEM_HASH_SEARCH);
  let i = fnv32(key, 32) % LEAF_HASH_NR;
  for (let n: u32 = 0; n < LEAF_HASH_NR; n++) {
    const o = load<u16>(bucket(b, i));
    if (o == 0) return 0;
    const item = b + <usize>o;
    if (keyCmp(item + ITEM_KEY, key) == 0) return item;
    i = nextBucket(i);
  }
  return 0;
}

/** Least item with a key >= `key`, or 0. */
export function itemAtOrAfter(b: usize, key: usize): usize {
  const base = b + BT_AVL_ROOT;
  let n = avlRoot(base);
  let best: usize = 0;
  while (n != 0) {
    if (keyCmp(key, n + ITEM_KEY) <= 0) {
      best = n;
      n = avlLeft(base, n);
    } else {
      n = avlRight(base, n);
    }
  }
  return best;
}

/** Greatest item with a key <= `key`, or 0. */
export function itemAtOrBefore(b: usize, key: usize): usize {
  const base = b + BT_AVL_ROOT;
  let n = avlRoot(base);
  let best: usize = 0;
  while (n != 0) {
    if (keyCmp(key, n + ITEM_KEY) >= 0) {
      best = n;
      n = avlRight(base, n);
    } else {
      n = avlLeft(base, n);
    }
  }
  return best;
}

@inline export function firstItem(b: usize): usize { return avlFirst(b + BT_AVL_ROOT); }
@inline export function lastItem(b: usize): usize { return avlLast(b + BT_AVL_ROOT); }

// ---- leaf hash changes ----

function hashInsert(b: usize, item: usize): void {
  let i = fnv32(item + ITEM_KEY, 32) % LEAF_HASH_NR;
  while (load<u16>(bucket(b, i)) != 0) i = nextBucket(i);
  store<u16>(bucket(b, i), <u16>(item - b));
}

function hashFind(b: usize, keyOf: usize, o: u16): u32 {
  let i = fnv32(keyOf + ITEM_KEY, 32) % LEAF_HASH_NR;
  for (let n: u32 = 0; load<u16>(bucket(b, i)) != o; n++) {
    check(n < LEAF_HASH_NR, 301);
    i = nextBucket(i);
  }
  return i;
}

function hashDelete(b: usize, item: usize): void {
  let i = hashFind(b, item, <u16>(item - b));
  store<u16>(bucket(b, i), 0);
  // entries that had to probe past the hole move back
  for (i = nextBucket(i); ; i = nextBucket(i)) {
    const o = load<u16>(bucket(b, i));
    if (o == 0) return;
    store<u16>(bucket(b, i), 0);
    hashInsert(b, b + <usize>o);
  }
}

// ---- item changes ----

/** Takes room for a value off the end of the free gap. @returns its offset, 0 for no value */
function placeValue(b: usize, val: usize, len: i32): i32 {
  if (len == 0) return 0;
  const room = round8(len);
  const at = <i32>BT_ITEMS + nrItems(b) * ITEM_BYTES + midFree(b) - room;
  store<u16>(b, <u16>(midFree(b) - room), BT_MID_FREE);
  memory.copy(b + <usize>at, val, <usize>len);
  return at;
}

/** Adds an item that is not there. The caller made sure of the room. */
export function createItem(b: usize, key: usize, seq: u64, flags: u8, val: usize, len: i32): void {
  check(midFree(b) >= itemBytes(len), 302);
  const base = b + BT_AVL_ROOT;
  const item = itemAt(b, nrItems(b));
  let parent: usize = 0;
  let isLeft = false;
  for (let n = avlRoot(base); n != 0;) {
    parent = n;
    isLeft = keyCmp(key, n + ITEM_KEY) < 0;
    n = isLeft ? avlLeft(base, n) : avlRight(base, n);
  }
  store<u16>(b, <u16>(nrItems(b) + 1), BT_NR_ITEMS);
  store<u16>(b, <u16>(midFree(b) - ITEM_BYTES), BT_MID_FREE);
  store<u16>(b, <u16>(totalBytes(b) + itemBytes(len)), BT_TOTAL_BYTES);
  store<u64>(item, 0);
  keyCopy(item + ITEM_KEY, key);
  store<u64>(item, seq, ITEM_SEQ);
  store<u32>(item, <u32>flags, ITEM_FLAGS);
  store<u16>(item, <u16>len, ITEM_VAL_LEN);
  store<u16>(item, <u16>placeValue(b, val, len), ITEM_VAL_OFF);
  avlInsert(base, parent, isLeft, item);
  if (levelOf(b) == 0) hashInsert(b, item);
}

/** Removes an item; the last item of the array takes its place. */
export function deleteItem(b: usize, item: usize): void {
  const base = b + BT_AVL_ROOT;
  const leaf = levelOf(b) == 0;
  const len = valLen(item);
  if (leaf) hashDelete(b, item);
  avlDelete(base, item);
  const nr = nrItems(b) - 1;
  store<u16>(b, <u16>nr, BT_NR_ITEMS);
  store<u16>(b, <u16>(midFree(b) + ITEM_BYTES), BT_MID_FREE);
  store<u16>(b, <u16>(totalBytes(b) - itemBytes(len)), BT_TOTAL_BYTES);
  const last = itemAt(b, nr);
  if (item == last) return;
  if (leaf) {
    const i = hashFind(b, last, <u16>(last - b));
    store<u16>(bucket(b, i), <u16>(item - b));
  }
  memory.copy(item + ITEM_KEY, last + ITEM_KEY, ITEM_BYTES - 8);
  avlRelocate(base, item, last);
}

/** Replaces a value; the room of the new one must be in the gap. The old bytes become a hole. */
export function replaceValue(b: usize, item: usize, val: usize, len: i32): void {
  check(midFree(b) >= round8(len), 303);
  store<u16>(b, <u16>(totalBytes(b) + round8(len) - round8(valLen(item))), BT_TOTAL_BYTES);
  store<u16>(item, <u16>len, ITEM_VAL_LEN);
  store<u16>(item, <u16>placeValue(b, val, len), ITEM_VAL_OFF);
}

/** Whether one more item with this value length fits into the gap. */
@inline export function hasRoom(b: usize, len: i32): bool { return midFree(b) >= itemBytes(len); }

// static scratch of compaction: item offsets ordered by value offset
const ORDER: usize = memory.data(4096, 8);

/** Packs all values against the end of the value area, keeping their order. */
export function compact(b: usize): void {
  count(N_BTREE_COMPACT_VALUES);
  const nr = nrItems(b);
  let n = 0;
  for (let i = 0; i < nr; i++) {
    const item = itemAt(b, i);
    if (valLen(item) != 0) {
      store<u16>(ORDER + (<usize>n << 1), <u16>(item - b));
      n += 1;
    }
  }
  sortByValOff(b, n);
  let end = valEnd(b);
  for (let i = 0; i < n; i++) {
    const item = b + <usize>load<u16>(ORDER + (<usize>i << 1));
    const room = round8(valLen(item));
    const at = <i32>load<u16>(item, ITEM_VAL_OFF);
    end -= room;
    if (at != end) {
      memory.copy(b + <usize>end, b + <usize>at, <usize>room);
      store<u16>(item, <u16>end, ITEM_VAL_OFF);
    }
  }
  store<u16>(b, <u16>(end - <i32>BT_ITEMS - nr * ITEM_BYTES), BT_MID_FREE);
}

/** Shell sort of ORDER[0..n) by value offset, descending. */
function sortByValOff(b: usize, n: i32): void {
  let gap = 1;
  while (gap < n / 3) gap = gap * 3 + 1;
  for (; gap > 0; gap /= 3) {
    for (let i = gap; i < n; i++) {
      const v = load<u16>(ORDER + (<usize>i << 1));
      const key = load<u16>(b + <usize>v, ITEM_VAL_OFF);
      let j = i;
      while (j >= gap) {
        const w = load<u16>(ORDER + (<usize>(j - gap) << 1));
        if (load<u16>(b + <usize>w, ITEM_VAL_OFF) >= key) break;
        store<u16>(ORDER + (<usize>j << 1), w);
        j -= gap;
      }
      store<u16>(ORDER + (<usize>j << 1), v);
    }
  }
}

/** Moves the greatest (toRight) or least items of `src` to its neighbour, up to the budget. */
export function moveItems(dst: usize, src: usize, toRight: bool, budget: i32): void {
  while (budget > 0) {
    const item = toRight ? lastItem(src) : firstItem(src);
    if (item == 0) return;
    const len = valLen(item);
    createItem(dst, item + ITEM_KEY, load<u64>(item, ITEM_SEQ), load<u8>(item, ITEM_FLAGS),
      itemVal(src, item), len);
    deleteItem(src, item);
    budget -= itemBytes(len);
  }
}
