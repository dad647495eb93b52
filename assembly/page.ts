/**
 * Pages of the item cache.
 *
 * A page says everything about an inclusive key range: an item in the range that
 * is not in the page does not exist. Pages never overlap. A page is 16 KiB:
 *
 *   0         128                    bump                               16384
 *  ╒══════════╤══════════════════════╤──────────┬───────────────────────╕
 *  │ header   │ items, append only → │   free   │ ← index, u16 an item  │
 *  ╘══════════╧══════════════════════╧──────────┴───────────────────────╛
 *
 * Entry i of the index (at 16382 - 2i) is the offset of the i-th item in key
 * order. An item that is removed or outgrows its place leaves a hole, which
 * compaction recovers; a page that is really full is split.
 *
 *   item:  0      32     40       42      43   44     48
 *  ╒════════╤══════╤════════╤═══════╤════╤══════╤═══════════════════════════╕
 *  │ key  32│ seq 8│val_len2│flags 1│  1 │ cap 4│ value, room for cap bytes │
 *  ╘════════╧══════╧════════╧═══════╧════╧══════╧═══════════════════════════╛
 *
 * Pages are found through an array of {start key 32, address 4, pad 4} in order of
 * start keys (a copy of the keys, because pages are so aligned that their headers
 * would fight for a few cache lines), and, quicker, through 64 shortcuts by inode and
 * type: a shortcut counts only if its page still covers the key, and all are dropped
 * when any page is freed.
 *
 * Clean pages are on a list in order of age; a page that was used since it was
 * last looked at gets another round. Pages with dirty items are never evicted. What
 * an operation has looked at must still be there when it changes it in the same tick,
 * so pages among the last uses can be protected from being evicted.
 *
 * The number of pages has a limit. Freed pages go back to the heap except a few,
 * and those that `pageReserve` sets aside so that a change cannot fail half way.
 *
 * Spec: item.md 1, 4 and 9.
 */
import { check, C_ITEM_COUNT, C_PAGE_INVERTED, C_PAGE_ORDER, C_PAGE_OVERLAP, C_PAGE_SPACE }
  from './check';
import {
  count, N_ITEM_CLEAR_DIRTY, N_ITEM_MARK_DIRTY, N_ITEM_PAGE_ACCESSED, N_ITEM_PAGE_ALLOC,
  N_ITEM_PAGE_COMPACT, N_ITEM_PAGE_FREE, N_ITEM_PAGE_LRU_ADD, N_ITEM_PAGE_LRU_REMOVE,
  N_ITEM_PAGE_RBTREE_WALK, N_ITEM_PAGE_SPLIT, N_ITEM_PCPU_PAGE_HIT, N_ITEM_PCPU_PAGE_MISS,
  N_ITEM_SHRINK_PAGE,
} from './count';
import { heapAlloc, heapFree } from './heap';
import { keyCmp, keyCopy, keyDec, keyInc } from './key';

// @ts-ignore: decorator
@inline export const PAGE_BYTES: i32 = 16384;
// @ts-ignore: decorator
@inline const HEADER: i32 = 128;
/** Freed pages that are kept for the next ones. */
// @ts-ignore: decorator
@inline const KEEP_FREE: i32 = 16;
// @ts-ignore: decorator
@inline const SHORTCUTS: i32 = 64;
/** Bytes of an entry of the array of pages. */
// @ts-ignore: decorator
@inline const ENTRY_BYTES: usize = 40;
/** Item memory that the transaction limits count as one unit (trans.md 3). */
// @ts-ignore: decorator
@inline const DIRTY_UNIT_BYTES: i32 = 4096;

/** Uses of pages that one operation can make: these last ones are protected. */
// @ts-ignore: decorator
@inline const RECENT_USES: u32 = 2048;

// page header, after start key (0) and end key (32)
// @ts-ignore: decorator
@inline export const PAGE_END: usize = 32;
// @ts-ignore: decorator
@inline const LRU_PREV: usize = 64;
// @ts-ignore: decorator
@inline const LRU_NEXT: usize = 68;
// @ts-ignore: decorator
@inline const NR: usize = 72;
// @ts-ignore: decorator
@inline const BUMP: usize = 76;
// @ts-ignore: decorator
@inline const LIVE: usize = 80;
// @ts-ignore: decorator
@inline const NR_DIRTY: usize = 84;
// @ts-ignore: decorator
@inline const NR_WRITTEN: usize = 88;
// @ts-ignore: decorator
@inline const UNITS: usize = 92;
// @ts-ignore: decorator
@inline const USED: usize = 96;
// @ts-ignore: decorator
@inline const LISTED: usize = 100;
// @ts-ignore: decorator
@inline const SEEN: usize = 104;

// item
// @ts-ignore: decorator
@inline const SEQ: usize = 32;
// @ts-ignore: decorator
@inline const VAL_LEN: usize = 40;
// @ts-ignore: decorator
@inline const FLAGS: usize = 42;
// @ts-ignore: decorator
@inline const CAP: usize = 44;
// @ts-ignore: decorator
@inline const VAL: usize = 48;
// @ts-ignore: decorator
@inline const RECORD_MAX_BYTES: i32 = 48 + 896;

/** A tombstone: invisible to readers. The same bit as on disk. */
// @ts-ignore: decorator
@inline export const F_DELETION: u8 = 1;
/** To be written by the current transaction. */
// @ts-ignore: decorator
@inline export const F_DIRTY: u8 = 2;
/** Some version of the key may be in a tree. */
// @ts-ignore: decorator
@inline export const F_PERSISTENT: u8 = 4;
/** The value is an increment. */
// @ts-ignore: decorator
@inline export const F_DELTA: u8 = 8;
/** This dirty version is in the log tree already; its commit is not acknowledged. */
// @ts-ignore: decorator
@inline export const F_WRITTEN: u8 = 16;

let pages: usize = 0;
let nrPages: i32 = 0;
let maxPages: i32 = 0;
let freeHead: usize = 0;
let nrFree: i32 = 0;
let lruHead: usize = 0;
let lruTail: usize = 0;
let nrListed: i32 = 0;
let dirtyItems: i32 = 0;
let dirtyUnits: i32 = 0;
/** Counts uses of pages; a page's USED is the count at its last use, SEEN what eviction saw. */
let uses: u32 = RECENT_USES;
/** Set by pageSearch: the item at the returned place has the key. */
export let searchHit: bool = false;

const shortcuts: usize = memory.data(256, 16);
const packing: usize = memory.data(16384, 16);
const tmpKey: usize = memory.data(32, 16);
const holeStart: usize = memory.data(32, 16);
const holeEnd: usize = memory.data(32, 16);
const cutKey: usize = memory.data(32, 16);
const cutEnd: usize = memory.data(32, 16);

/**
 * Starts with no pages. Takes the array of pages from the heap, which must be fresh.
 * @returns false when `maxBytes` is under 16 pages or the heap has no room
 */
export function pageInit(maxBytes: f64): bool {
  maxPages = <i32>(maxBytes / <f64>PAGE_BYTES);
  nrPages = nrFree = nrListed = dirtyItems = dirtyUnits = 0;
  freeHead = lruHead = lruTail = 0;
  memory.fill(shortcuts, 0, SHORTCUTS << 2);
  if (maxPages < 16) return false;
  pages = heapAlloc(maxPages * <i32>ENTRY_BYTES);
  return pages != 0;
}

// ---- fields -----------------------------------------------------------------

// @ts-ignore: decorator
@inline
export function pageAt(i: i32): usize {
  return <usize>load<u32>(entry(i), 32);
}

// @ts-ignore: decorator
@inline
function entry(i: i32): usize {
  return pages + <usize>i * ENTRY_BYTES;
}

// @ts-ignore: decorator
@inline
export function pageCount(): i32 {
  return nrPages;
}

// @ts-ignore: decorator
@inline
export function pageNr(page: usize): i32 {
  return <i32>load<u32>(page, NR);
}

// @ts-ignore: decorator
@inline
export function pageNrDirty(page: usize): i32 {
  return <i32>load<u32>(page, NR_DIRTY);
}

// @ts-ignore: decorator
@inline
export function pageNrWritten(page: usize): i32 {
  return <i32>load<u32>(page, NR_WRITTEN);
}

/** Address of the i-th item of a page in key order; its key is at the address itself. */
// @ts-ignore: decorator
@inline
export function pageItem(page: usize, i: i32): usize {
  return page + <usize>load<u16>(page + <usize>(PAGE_BYTES - 2 - (i << 1)));
}

// @ts-ignore: decorator
@inline
export function itemSeq(item: usize): u64 {
  return load<u64>(item, SEQ);
}

// @ts-ignore: decorator
@inline
export function itemValLen(item: usize): i32 {
  return <i32>load<u16>(item, VAL_LEN);
}

// @ts-ignore: decorator
@inline
export function itemFlags(item: usize): u8 {
  return load<u8>(item, FLAGS);
}

// @ts-ignore: decorator
@inline
export function itemVal(item: usize): usize {
  return item + VAL;
}

/** Room of the item's value, in bytes. */
// @ts-ignore: decorator
@inline
export function itemCap(item: usize): i32 {
  return <i32>load<u32>(item, CAP);
}

// @ts-ignore: decorator
@inline
function recordBytes(item: usize): i32 {
  return <i32>VAL + itemCap(item);
}

// @ts-ignore: decorator
@inline
function freeRoom(page: usize): i32 {
  return PAGE_BYTES - (pageNr(page) << 1) - <i32>load<u32>(page, BUMP);
}

/** Cached items' dirty count, and their memory in 4 KiB units; pages in use and set aside. */
export function itemDirtyItems(): i32 {
  return dirtyItems;
}
export function itemDirtyPages(): i32 {
  return dirtyUnits;
}
export function itemPages(): i32 {
  return nrPages;
}
export function itemFreePages(): i32 {
  return nrFree;
}

// ---- memory -----------------------------------------------------------------

function pageAlloc(): usize {
  if (freeHead != 0) {
    const page = freeHead;
    freeHead = <usize>load<u32>(page);
    nrFree--;
    return page;
  }
  return nrPages + nrFree < maxPages ? heapAlloc(PAGE_BYTES) : 0;
}

function pageRelease(page: usize): void {
  memory.fill(shortcuts, 0, SHORTCUTS << 2);
  if (nrFree >= KEEP_FREE) {
    heapFree(page, PAGE_BYTES);
    return;
  }
  store<u32>(page, <u32>freeHead);
  freeHead = page;
  nrFree++;
}

/** Sets pages aside. @returns true when at least `count` are */
export function pageReserve(count: i32): bool {
  while (nrFree < count && nrPages + nrFree < maxPages) {
    const page = heapAlloc(PAGE_BYTES);
    if (page == 0) return false;
    store<u32>(page, <u32>freeHead);
    freeHead = page;
    nrFree++;
  }
  return nrFree >= count;
}

/** Gives set-aside pages beyond the usual few back to the heap. */
export function pageTrimFree(): void {
  while (nrFree > KEEP_FREE) {
    const page = freeHead;
    freeHead = <usize>load<u32>(page);
    nrFree--;
    heapFree(page, PAGE_BYTES);
  }
}

// ---- age --------------------------------------------------------------------

function lruAdd(page: usize): void {
  store<u32>(page, <u32>lruTail, LRU_PREV);
  store<u32>(page, 0, LRU_NEXT);
  if (lruTail != 0) store<u32>(lruTail, <u32>page, LRU_NEXT);
  else lruHead = page;
  lruTail = page;
  store<u32>(page, 1, LISTED);
  count(N_ITEM_PAGE_LRU_ADD);
  nrListed++;
}

/** Takes a page off the list of clean pages, which keeps it from being evicted. */
export function lruRemove(page: usize): void {
  if (load<u32>(page, LISTED) == 0) return;
  const prev = <usize>load<u32>(page, LRU_PREV), next = <usize>load<u32>(page, LRU_NEXT);
  if (prev != 0) store<u32>(prev, <u32>next, LRU_NEXT);
  else lruHead = next;
  if (next != 0) store<u32>(next, <u32>prev, LRU_PREV);
  else lruTail = prev;
  store<u32>(page, 0, LISTED);
  count(N_ITEM_PAGE_LRU_REMOVE);
  nrListed--;
}

/**
 * Evicts the oldest clean page that was not used since it was last considered. With
 * `protect`, pages among the last uses are left alone. @returns false if there is none
 */
export function pageEvict(protect: bool): bool {
  for (let left = nrListed << 1; left > 0; left--) {
    const page = lruHead;
    const used = load<u32>(page, USED);
    const recent = protect && uses - used < RECENT_USES;
    if (!recent && used == load<u32>(page, SEEN)) {
      count(N_ITEM_SHRINK_PAGE);
      pageDrop(pageIndex(page));
      return true;
    }
    store<u32>(page, used, SEEN);
    lruRemove(page);
    lruAdd(page);
  }
  return false;
}

/** A page's memory, evicting clean pages for it. @returns 0 when everything left is dirty */
function pageAllocEvict(): usize {
  let page = pageAlloc();
  while (page == 0 && pageEvict(false)) page = pageAlloc();
  return page;
}

/** Brings the dirty statistics and the list of clean pages up to date with the page. */
export function pageAccount(page: usize): void {
  const dirty = pageNrDirty(page);
  let units = 0;
  if (dirty == 0) {
    if (load<u32>(page, LISTED) == 0) lruAdd(page);
  } else {
    lruRemove(page);
    const bytes = <i32>load<u32>(page, BUMP) - HEADER;
    units = min(dirty, (bytes + DIRTY_UNIT_BYTES - 1) / DIRTY_UNIT_BYTES);
  }
  dirtyUnits += units - <i32>load<u32>(page, UNITS);
  store<u32>(page, <u32>units, UNITS);
}

// ---- the array of pages -------------------------------------------------------

/** Index of the last page that starts at or before the key, -1 if none does. */
export function pageBefore(key: usize): i32 {
  count(N_ITEM_PAGE_RBTREE_WALK);
  let lo = 0, hi = nrPages;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (keyCmp(entry(mid), key) <= 0) lo = mid + 1;
    else hi = mid;
  }
  return lo - 1;
}

/** Moves a page's start to another key, which keeps it between its neighbours. */
export function pageSetStart(page: usize, key: usize): void {
  const i = pageIndex(page);
  keyCopy(page, key);
  keyCopy(entry(i), key);
}

function pageIndex(page: usize): i32 {
  const i = pageBefore(page);
  check(i >= 0 && pageAt(i) == page, C_PAGE_ORDER);
  return i;
}

// @ts-ignore: decorator
@inline
function shortcutOf(key: usize): usize {
  // first (the inode) and type decide: different kinds of items of one inode are apart
  const h = <u32>load<u64>(key) * 5 + (<u32>load<u8>(key, 26) >> 2) + <u32>load<u8>(key, 25);
  return shortcuts + (<usize>(h & (SHORTCUTS - 1)) << 2);
}

/** The page that covers the key, 0 if none does. */
export function pageFind(key: usize): usize {
  const at = shortcutOf(key);
  let page = <usize>load<u32>(at);
  if (page == 0 || keyCmp(page, key) > 0 || keyCmp(key, page + PAGE_END) > 0) {
    count(N_ITEM_PCPU_PAGE_MISS);
    const i = pageBefore(key);
    if (i < 0) return 0;
    page = pageAt(i);
    if (keyCmp(key, page + PAGE_END) > 0) return 0;
    store<u32>(at, <u32>page);
  } else {
    count(N_ITEM_PCPU_PAGE_HIT);
  }
  count(N_ITEM_PAGE_ACCESSED);
  store<u32>(page, ++uses, USED);
  return page;
}

/**
 * The first range at or after `pos` and not after `end` that no page covers.
 * @returns false when all of [pos, end] is covered
 */
export function pageHole(pos: usize, end: usize, outStart: usize, outEnd: usize): bool {
  keyCopy(outStart, pos);
  let i = pageBefore(outStart);
  while (i >= 0 && i < nrPages) {
    const page = pageAt(i);
    if (keyCmp(page, outStart) > 0 || keyCmp(page + PAGE_END, outStart) < 0) break;
    if (keyCmp(page + PAGE_END, end) >= 0) return false;
    keyCopy(outStart, page + PAGE_END);
    keyInc(outStart);
    i++;
  }
  keyCopy(outEnd, end);
  i = pageBefore(outStart) + 1;
  if (i < nrPages && keyCmp(pageAt(i), end) <= 0) {
    keyCopy(outEnd, pageAt(i));
    keyDec(outEnd);
  }
  return true;
}

/** A new empty page over the range, in the array and on the list. @returns 0 without memory */
function pageNew(start: usize, end: usize, evict: bool): usize {
  const page = evict ? pageAllocEvict() : pageAlloc();
  if (page == 0) return 0;
  memory.fill(page, 0, HEADER);
  keyCopy(page, start);
  keyCopy(page + PAGE_END, end);
  check(keyCmp(page, page + PAGE_END) <= 0, C_PAGE_INVERTED);
  store<u32>(page, HEADER, BUMP);
  store<u32>(page, ++uses, USED);
  const i = pageBefore(start) + 1;
  if (i > 0) check(keyCmp(pageAt(i - 1) + PAGE_END, start) < 0, C_PAGE_OVERLAP);
  if (i < nrPages) check(keyCmp(end, pageAt(i)) < 0, C_PAGE_OVERLAP);
  const at = entry(i);
  memory.copy(at + ENTRY_BYTES, at, <usize>(nrPages - i) * ENTRY_BYTES);
  keyCopy(at, start);
  store<u32>(at, <u32>page, 32);
  nrPages++;
  count(N_ITEM_PAGE_ALLOC);
  lruAdd(page);
  return page;
}

/** Removes the i-th page, its items and its coverage. */
export function pageDrop(i: i32): void {
  const page = pageAt(i);
  dirtyUnits -= <i32>load<u32>(page, UNITS);
  dirtyItems -= pageNrDirty(page);
  lruRemove(page);
  const at = entry(i);
  memory.copy(at, at + ENTRY_BYTES, <usize>(nrPages - i - 1) * ENTRY_BYTES);
  nrPages--;
  count(N_ITEM_PAGE_FREE);
  pageRelease(page);
}

/**
 * Covers the hole around the key, clipped to [start, end], by an empty page. Nothing is
 * evicted. @returns the page, 0 without memory
 */
export function pageCoverEmpty(key: usize, start: usize, end: usize): usize {
  const from = holeStart, to = holeEnd;
  keyCopy(from, start);
  keyCopy(to, end);
  const i = pageBefore(key);
  if (i >= 0 && keyCmp(pageAt(i) + PAGE_END, from) >= 0) {
    keyCopy(from, pageAt(i) + PAGE_END);
    keyInc(from);
  }
  if (i + 1 < nrPages && keyCmp(pageAt(i + 1), to) <= 0) {
    keyCopy(to, pageAt(i + 1));
    keyDec(to);
  }
  // An empty page before, of the same lock, only has to grow.
  if (i >= 0 && keyCmp(pageAt(i), start) >= 0) {
    const page = pageAt(i);
    keyCopy(tmpKey, page + PAGE_END);
    keyInc(tmpKey);
    if (keyCmp(tmpKey, from) == 0 && pageNr(page) == 0) {
      keyCopy(page + PAGE_END, to);
      return page;
    }
  }
  return pageNew(from, to, false);
}

// ---- items in a page ------------------------------------------------------------

/**
 * Place of the first item at or after the key; `searchHit` tells whether it has the key.
 * In a page for one type of item of one inode only the last three fields can differ.
 */
export function pageSearch(page: usize, key: usize): i32 {
  const end = page + PAGE_END;
  if (load<u64>(page) == load<u64>(end) && load<u64>(key) == load<u64>(page) &&
      load<u16>(page, 25) == load<u16>(end, 25) && load<u16>(key, 25) == load<u16>(page, 25)) {
    return searchTail(page, key);
  }
  let lo = 0, hi = pageNr(page);
  searchHit = false;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    const c = keyCmp(pageItem(page, mid), key);
    if (c < 0) {
      lo = mid + 1;
    } else {
      if (c == 0) {
        searchHit = true;
        return mid;
      }
      hi = mid;
    }
  }
  return lo;
}

/**
 * pageSearch where zone, first and type are those of all items. Without branches on the
 * comparisons: they cannot be predicted, and a wrong guess costs more than the search step.
 */
function searchTail(page: usize, key: usize): i32 {
  const second = load<u64>(key, 8), third = load<u64>(key, 16);
  const fourth = <u32>load<u8>(key, 24);
  let base = 0, nr = pageNr(page);
  searchHit = false;
  if (nr == 0) return 0;
  // [base, base + nr) has the last item at or before the key, if there is one.
  while (nr > 1) {
    const half = nr >> 1;
    const item = pageItem(page, base + half);
    const a = load<u64>(item, 8), b = load<u64>(item, 16);
    const f = <u32>load<u8>(item, 24);
    const upTo = i32(a < second) | (i32(a == second) &
      (i32(b < third) | (i32(b == third) & i32(f <= fourth))));
    base = select<i32>(base + half, base, upTo != 0);
    nr -= half;
  }
  const c = keyCmp(pageItem(page, base), key);
  searchHit = c == 0;
  return base + i32(c < 0);
}

/** Puts a record without value at place i; the room must be there. */
function insertRecord(page: usize, i: i32, key: usize, cap: i32): usize {
  check(freeRoom(page) >= <i32>VAL + cap + 2, C_PAGE_SPACE);
  const nr = pageNr(page);
  const bump = load<u32>(page, BUMP);
  const item = page + <usize>bump;
  keyCopy(item, key);
  store<u64>(item, 0, SEQ);
  store<u32>(item, 0, VAL_LEN);
  store<u32>(item, <u32>cap, CAP);
  const low = page + <usize>(PAGE_BYTES - (nr << 1));
  memory.copy(low - 2, low, <usize>(nr - i) << 1);
  store<u16>(page + <usize>(PAGE_BYTES - 2 - (i << 1)), <u16>bump);
  store<u32>(page, <u32>(nr + 1), NR);
  store<u32>(page, bump + <u32>VAL + <u32>cap, BUMP);
  store<u32>(page, load<u32>(page, LIVE) + <u32>VAL + <u32>cap, LIVE);
  return item;
}

/** Takes the i-th item out; the caller accounts for the page. */
export function pageRemove(page: usize, i: i32): void {
  const item = pageItem(page, i);
  const nr = pageNr(page);
  itemClean(page, item);
  store<u32>(page, load<u32>(page, LIVE) - <u32>recordBytes(item), LIVE);
  const low = page + <usize>(PAGE_BYTES - (nr << 1));
  memory.copy(low + 2, low, <usize>(nr - 1 - i) << 1);
  store<u32>(page, <u32>(nr - 1), NR);
  if (nr == 1) {
    check(load<u32>(page, LIVE) == 0 && pageNrDirty(page) == 0, C_ITEM_COUNT);
    store<u32>(page, HEADER, BUMP);
  }
}

/** Sets the item's marks. `dirty` items are counted; a new change is not written yet. */
export function itemSetDirty(page: usize, item: usize, flags: u8): void {
  const old = itemFlags(item);
  if ((old & F_DIRTY) == 0) {
    count(N_ITEM_MARK_DIRTY);
    dirtyItems++;
    store<u32>(page, load<u32>(page, NR_DIRTY) + 1, NR_DIRTY);
  }
  if ((old & F_WRITTEN) != 0) store<u32>(page, load<u32>(page, NR_WRITTEN) - 1, NR_WRITTEN);
  store<u8>(item, flags | F_DIRTY, FLAGS);
}

/** The dirty item is in the log tree now; so some version of it may persist. */
export function itemSetWritten(page: usize, item: usize): void {
  store<u32>(page, load<u32>(page, NR_WRITTEN) + 1, NR_WRITTEN);
  store<u8>(item, itemFlags(item) | F_WRITTEN | F_PERSISTENT, FLAGS);
}

/** Takes the item's dirty and written marks away. */
export function itemClean(page: usize, item: usize): void {
  const old = itemFlags(item);
  if ((old & F_DIRTY) != 0) {
    count(N_ITEM_CLEAR_DIRTY);
    dirtyItems--;
    store<u32>(page, load<u32>(page, NR_DIRTY) - 1, NR_DIRTY);
  }
  if ((old & F_WRITTEN) != 0) store<u32>(page, load<u32>(page, NR_WRITTEN) - 1, NR_WRITTEN);
  store<u8>(item, old & ~(F_DIRTY | F_WRITTEN), FLAGS);
}

export function itemSetFlags(item: usize, flags: u8): void {
  store<u8>(item, flags, FLAGS);
}

export function itemSetSeq(item: usize, seq: u64): void {
  store<u64>(item, seq, SEQ);
}

/** Stores a value that fits the item's room. */
export function itemStoreVal(item: usize, val: usize, valLen: i32): void {
  check(valLen <= itemCap(item), C_PAGE_SPACE);
  store<u16>(item, <u16>valLen, VAL_LEN);
  memory.copy(item + VAL, val, <usize>valLen);
}

/** Packs the records in key order, giving up room that values do not use. */
function pageCompact(page: usize): void {
  count(N_ITEM_PAGE_COMPACT);
  const nr = pageNr(page);
  let to = HEADER;
  for (let i = 0; i < nr; i++) {
    const item = pageItem(page, i);
    const cap = (itemValLen(item) + 7) & ~7;
    memory.copy(packing + <usize>to, item, VAL + <usize>cap);
    store<u32>(packing + <usize>to, <u32>cap, CAP);
    store<u16>(page + <usize>(PAGE_BYTES - 2 - (i << 1)), <u16>to);
    to += <i32>VAL + cap;
  }
  memory.copy(page + <usize>HEADER, packing + <usize>HEADER, <usize>(to - HEADER));
  store<u32>(page, <u32>to, BUMP);
  store<u32>(page, <u32>(to - HEADER), LIVE);
}

/** Moves items from place `from` on to an empty page that starts at or before them. */
function moveTail(page: usize, from: i32, right: usize): void {
  const nr = pageNr(page);
  let live: u32 = 0, dirty: u32 = 0, written: u32 = 0;
  for (let i = from; i < nr; i++) {
    const item = pageItem(page, i);
    const size = recordBytes(item);
    const flags = itemFlags(item);
    dirty += (flags & F_DIRTY) != 0 ? 1 : 0;
    written += (flags & F_WRITTEN) != 0 ? 1 : 0;
    const to = insertRecord(right, i - from, item, itemCap(item));
    memory.copy(to, item, <usize>size);
    live += <u32>size;
  }
  store<u32>(right, dirty, NR_DIRTY);
  store<u32>(right, written, NR_WRITTEN);
  store<u32>(page, load<u32>(page, NR_DIRTY) - dirty, NR_DIRTY);
  store<u32>(page, load<u32>(page, NR_WRITTEN) - written, NR_WRITTEN);
  store<u32>(page, <u32>from, NR);
  store<u32>(page, load<u32>(page, LIVE) - live, LIVE);
  pageCompact(page);
  pageAccount(page);
  pageAccount(right);
}

/** Cuts the page before `key` (start < key <= end). @returns the right part, 0 without memory */
export function pageCut(page: usize, key: usize, evict: bool): usize {
  check(keyCmp(page, key) < 0 && keyCmp(key, page + PAGE_END) <= 0, C_PAGE_INVERTED);
  keyCopy(cutKey, key);
  keyCopy(cutEnd, page + PAGE_END);
  // while the bounds are those of all items: a search relies on them
  const place = pageSearch(page, cutKey);
  lruRemove(page);
  keyCopy(page + PAGE_END, cutKey);
  keyDec(page + PAGE_END);
  const right = pageNew(cutKey, cutEnd, evict);
  if (right == 0) {
    keyCopy(page + PAGE_END, cutEnd);
    pageAccount(page);
    return 0;
  }
  count(N_ITEM_PAGE_SPLIT);
  moveTail(page, place, right);
  return right;
}

/** Place where the records' bytes are divided about equally: 1..nr-1 */
function middle(page: usize): i32 {
  const half = <i32>load<u32>(page, LIVE) >> 1;
  const last = pageNr(page) - 1;
  let sum = 0, i = 0;
  while (i < last && sum < half) sum += recordBytes(pageItem(page, i++));
  return max(i, 1);
}

/**
 * Makes room for a record of `cap` value bytes at `key` in the page that covers it:
 * compaction if that recovers a greatest record, else a split.
 * @returns the page that covers the key afterwards, 0 without memory. Places of items
 *          found before are void.
 */
export function pageMakeRoom(page: usize, key: usize, cap: i32): usize {
  const want = <i32>VAL + cap + 2;
  if (freeRoom(page) >= want) return page;
  const holes = <i32>load<u32>(page, BUMP) - HEADER - <i32>load<u32>(page, LIVE);
  if (holes >= RECORD_MAX_BYTES) {
    pageCompact(page);
    check(freeRoom(page) >= want, C_PAGE_SPACE);
    pageAccount(page);
    return page;
  }
  const nr = pageNr(page);
  const behindAll = keyCmp(pageItem(page, nr - 1), key) < 0;
  const right = pageCut(page, behindAll ? key : pageItem(page, middle(page)), false);
  if (right == 0) return 0;
  page = keyCmp(key, right) >= 0 ? right : page;
  check(freeRoom(page) >= want, C_PAGE_SPACE);
  return page;
}

/** Whether a record of `cap` value bytes fits as the page is now. */
// @ts-ignore: decorator
@inline
export function pageHasRoom(page: usize, cap: i32): bool {
  return freeRoom(page) >= <i32>VAL + cap + 2;
}

/** Inserts a record at the place that pageSearch gave for its key; there must be room. */
export function pageInsert(page: usize, place: i32, key: usize, cap: i32): usize {
  return insertRecord(page, place, key, cap);
}

/** Appends behind all items; used when a page is filled in order. @returns 0 if it does not fit */
export function pageAppend(page: usize, key: usize, cap: i32, leaveBytes: i32): usize {
  if (freeRoom(page) < <i32>VAL + cap + 2 + leaveBytes) return 0;
  return insertRecord(page, pageNr(page), key, cap);
}

/** A new empty page for filling; may evict. */
export function pageNewFor(start: usize, end: usize): usize {
  return pageNew(start, end, true);
}

/** Walks everything and traps where the structure is broken; for tests. */
export function pageVerify(): void {
  let dirty = 0, units = 0, listed = 0;
  for (let p = 0; p < nrPages; p++) {
    const page = pageAt(p);
    check(keyCmp(page, page + PAGE_END) <= 0, C_PAGE_INVERTED);
    check(keyCmp(page, entry(p)) == 0, C_PAGE_ORDER);
    if (p > 0) check(keyCmp(pageAt(p - 1) + PAGE_END, page) < 0, C_PAGE_ORDER);
    const nr = pageNr(page);
    let live: u32 = 0, nrDirty = 0, nrWritten = 0;
    for (let i = 0; i < nr; i++) {
      const item = pageItem(page, i);
      check(item - page < <usize>load<u32>(page, BUMP), C_PAGE_SPACE);
      check(keyCmp(page, item) <= 0 && keyCmp(item, page + PAGE_END) <= 0, C_PAGE_ORDER);
      if (i > 0) check(keyCmp(pageItem(page, i - 1), item) < 0, C_PAGE_ORDER);
      live += <u32>recordBytes(item);
      nrDirty += (itemFlags(item) & F_DIRTY) != 0 ? 1 : 0;
      nrWritten += (itemFlags(item) & F_WRITTEN) != 0 ? 1 : 0;
    }
    check(live == load<u32>(page, LIVE) && nrDirty == pageNrDirty(page), C_ITEM_COUNT);
    check(nrWritten == pageNrWritten(page), C_ITEM_COUNT);
    check((nrDirty == 0) == (load<u32>(page, LISTED) != 0), C_ITEM_COUNT);
    dirty += nrDirty;
    units += <i32>load<u32>(page, UNITS);
    listed += <i32>load<u32>(page, LISTED);
  }
  check(dirty == dirtyItems && units == dirtyUnits && listed == nrListed, C_ITEM_COUNT);
}

