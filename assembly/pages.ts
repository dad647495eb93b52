/**
 * The pages of the item cache: which ranges are cached, and their memory.
 *
 * A page says everything about an inclusive key range: an item in the range that
 * is not in the page does not exist. Pages never overlap.
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
  count, N_ITEM_PAGE_ACCESSED, N_ITEM_PAGE_ALLOC, N_ITEM_PAGE_FREE, N_ITEM_PAGE_LRU_ADD,
  N_ITEM_PAGE_LRU_REMOVE, N_ITEM_PAGE_RBTREE_WALK, N_ITEM_PAGE_SPLIT, N_ITEM_PCPU_PAGE_HIT,
  N_ITEM_PCPU_PAGE_MISS, N_ITEM_SHRINK_PAGE,
} from './count';
import { heapAlloc, heapFree } from './heap';
import { keyCmp, keyCopy, keyDec, keyInc } from './key';
import {
  BUMP, F_DIRTY, F_WRITTEN, freeRoom, HEADER, itemCap, itemDirtyItems, itemFlags, itemsDropped,
  LISTED, LIVE, LRU_NEXT, LRU_PREV, NR, NR_DIRTY, NR_WRITTEN, PAGE_BYTES, PAGE_END, pageCompact,
  pageInsert, pageItem, pageItemsInit, pageNr, pageNrDirty, pageNrWritten, pageSearch,
  RECORD_MAX_BYTES, recordBytes, SEEN, UNITS, USED, VAL,
} from './page';

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

let pages: usize = 0;
let nrPages: i32 = 0;
let maxPages: i32 = 0;
let freeHead: usize = 0;
let nrFree: i32 = 0;
let lruHead: usize = 0;
let lruTail: usize = 0;
let nrListed: i32 = 0;
let dirtyUnits: i32 = 0;
/** Counts uses of pages; a page's USED is the count at its last use, SEEN what eviction saw. */
let uses: u32 = RECENT_USES;

const shortcuts: usize = memory.data(256, 16);
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
  nrPages = nrFree = nrListed = dirtyUnits = 0;
  pageItemsInit();
  freeHead = lruHead = lruTail = 0;
  memory.fill(shortcuts, 0, SHORTCUTS << 2);
  if (maxPages < 16) return false;
  pages = heapAlloc(maxPages * <i32>ENTRY_BYTES);
  return pages != 0;
}

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

/** Memory of dirty items in 4 KiB units; pages in use and set aside. */
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

function setAside(page: usize): void {
  store<u32>(page, <u32>freeHead);
  freeHead = page;
  nrFree++;
}

/** One of the pages that are set aside; there must be one. */
function takeAside(): usize {
  const page = freeHead;
  freeHead = <usize>load<u32>(page);
  nrFree--;
  return page;
}

function pageAlloc(): usize {
  if (freeHead != 0) return takeAside();
  return nrPages + nrFree < maxPages ? heapAlloc(PAGE_BYTES) : 0;
}

function pageRelease(page: usize): void {
  memory.fill(shortcuts, 0, SHORTCUTS << 2);
  if (nrFree >= KEEP_FREE) {
    heapFree(page, PAGE_BYTES);
    return;
  }
  setAside(page);
}

/** Sets pages aside. @returns true when at least `count` are */
export function pageReserve(count: i32): bool {
  while (nrFree < count && nrPages + nrFree < maxPages) {
    const page = heapAlloc(PAGE_BYTES);
    if (page == 0) return false;
    setAside(page);
  }
  return nrFree >= count;
}

/** Gives set-aside pages beyond the usual few back to the heap. */
export function pageTrimFree(): void {
  while (nrFree > KEEP_FREE) heapFree(takeAside(), PAGE_BYTES);
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
  itemsDropped(pageNrDirty(page));
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

// ---- dividing pages -----------------------------------------------------------

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
    const to = pageInsert(right, i - from, item, itemCap(item));
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
  check(dirty == itemDirtyItems() && units == dirtyUnits && listed == nrListed, C_ITEM_COUNT);
}
