/**
 * One page of the item cache: items of an inclusive key range, in 16 KiB.
 *
 *   0         128                    bump                               16384
 *  ╒══════════╤══════════════════════╤──────────┬───────────────────────╕
 *  │ header   │ items, append only → │   free   │ ← index, u16 an item  │
 *  ╘══════════╧══════════════════════╧──────────┴───────────────────────╛
 *
 * Entry i of the index (at 16382 - 2i) is the offset of the i-th item in key
 * order. An item that is removed or outgrows its place leaves a hole, which
 * compaction recovers; a page that is really full is split (pages.ts).
 *
 *   item:  0      32     40       42      43   44     48
 *  ╒════════╤══════╤════════╤═══════╤════╤══════╤═══════════════════════════╕
 *  │ key  32│ seq 8│val_len2│flags 1│  1 │ cap 4│ value, room for cap bytes │
 *  ╘════════╧══════╧════════╧═══════╧════╧══════╧═══════════════════════════╛
 *
 * Whoever changes items accounts for the page afterwards (`pageAccount` in pages.ts).
 *
 * Spec: item.md 1 and 4.
 */
import { check, C_ITEM_COUNT, C_PAGE_SPACE } from './check';
import { count, N_ITEM_CLEAR_DIRTY, N_ITEM_MARK_DIRTY, N_ITEM_PAGE_COMPACT } from './count';
import { keyCmp, keyCopy } from './key';

// @ts-ignore: decorator
@inline export const PAGE_BYTES: i32 = 16384;
// @ts-ignore: decorator
@inline export const HEADER: i32 = 128;
// page header, after start key (0) and end key (32)
// @ts-ignore: decorator
@inline export const PAGE_END: usize = 32;
// @ts-ignore: decorator
@inline export const LRU_PREV: usize = 64;
// @ts-ignore: decorator
@inline export const LRU_NEXT: usize = 68;
// @ts-ignore: decorator
@inline export const NR: usize = 72;
// @ts-ignore: decorator
@inline export const BUMP: usize = 76;
// @ts-ignore: decorator
@inline export const LIVE: usize = 80;
// @ts-ignore: decorator
@inline export const NR_DIRTY: usize = 84;
// @ts-ignore: decorator
@inline export const NR_WRITTEN: usize = 88;
// @ts-ignore: decorator
@inline export const UNITS: usize = 92;
// @ts-ignore: decorator
@inline export const USED: usize = 96;
// @ts-ignore: decorator
@inline export const LISTED: usize = 100;
// @ts-ignore: decorator
@inline export const SEEN: usize = 104;

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
@inline export const VAL: usize = 48;
// @ts-ignore: decorator
@inline export const RECORD_MAX_BYTES: i32 = 48 + 896;

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

/** Dirty items of all pages. */
let dirtyItems: i32 = 0;
/** Set by pageSearch: the item at the returned place has the key. */
export let searchHit: bool = false;

const packing: usize = memory.data(16384, 16);

/** Starts with no items. */
export function pageItemsInit(): void {
  dirtyItems = 0;
}

/** Dirty items of all pages. */
export function itemDirtyItems(): i32 {
  return dirtyItems;
}

/** Dirty items have gone with their page. */
export function itemsDropped(dirty: i32): void {
  dirtyItems -= dirty;
}

// ---- fields -----------------------------------------------------------------

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
export function recordBytes(item: usize): i32 {
  return <i32>VAL + itemCap(item);
}

// @ts-ignore: decorator
@inline
export function freeRoom(page: usize): i32 {
  return PAGE_BYTES - (pageNr(page) << 1) - <i32>load<u32>(page, BUMP);
}

// ---- items in a page ----------------------------------------------------------

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

/**
 * Puts a record without value at place `i`, which pageSearch gave for its key; there must be
 * room. @returns the item
 */
export function pageInsert(page: usize, i: i32, key: usize, cap: i32): usize {
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
export function pageCompact(page: usize): void {
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

/** Whether a record of `cap` value bytes fits as the page is now. */
// @ts-ignore: decorator
@inline
export function pageHasRoom(page: usize, cap: i32): bool {
  return freeRoom(page) >= <i32>VAL + cap + 2;
}

/** Appends behind all items; used when a page is filled in order. @returns 0 if it does not fit */
export function pageAppend(page: usize, key: usize, cap: i32, leaveBytes: i32): usize {
  if (freeRoom(page) < <i32>VAL + cap + 2 + leaveBytes) return 0;
  return pageInsert(page, pageNr(page), key, cap);
}
