/**
 * The item cache by ranges: giving up coverage, asking for it, bounding memory.
 *
 * Spec: item.md 8 and 9.
 */
import { check, C_ITEM_DIRTY_INVALIDATED } from './check';
import { count, N_ITEM_INVALIDATE, N_ITEM_INVALIDATE_PAGE } from './count';
import { keyCmp, keyCopy, keyDec, keyInc } from './key';
import {
  F_DIRTY, itemFlags, PAGE_BYTES, PAGE_END, pageItem, pageNr, pageNrDirty, pageRemove, pageSearch,
} from './page';
import {
  pageAccount, pageAt, pageBefore, pageCount, pageCut, pageDrop, pageEvict, pageSetStart,
  pageTrimFree,
} from './pages';
import { KEY_A, KEY_B } from './window';

/** Some page covers a part of the range. */
// @ts-ignore: decorator
@inline const RANGE_CACHED: i32 = 1;
/** Some dirty item is in the range. */
// @ts-ignore: decorator
@inline const RANGE_DIRTY: i32 = 2;

const edge: usize = memory.data(32, 16);

/** Takes out of the page all items in [start, end]; none of them may be dirty. */
function removeItems(page: usize, start: usize, end: usize): void {
  const from = pageSearch(page, start);
  while (from < pageNr(page)) {
    const item = pageItem(page, from);
    if (keyCmp(item, end) > 0) break;
    check((itemFlags(item) & F_DIRTY) == 0, C_ITEM_DIRTY_INVALIDATED);
    pageRemove(page, from);
  }
}

/**
 * Cuts a page so that it ends before `start` and a new one begins after `end`. Without
 * memory for the new one, the part that may be forgotten is.
 */
function bisect(page: usize, start: usize, end: usize): void {
  keyCopy(edge, end);
  keyInc(edge);
  if (pageCut(page, edge, true) != 0) {
    trimTail(page, start);
    return;
  }
  // No clean page is left to evict. Drop one side; a page holds dirty items on both
  // sides only when its lock was split between them, which locks never are.
  const dirtyAfter = dirtyFrom(page, edge);
  check(!dirtyAfter || !dirtyBefore(page, start), C_ITEM_DIRTY_INVALIDATED);
  if (dirtyAfter) {
    trimHead(page, edge);
  } else {
    trimTail(page, start);
  }
}

function dirtyFrom(page: usize, key: usize): bool {
  const nr = pageNr(page);
  for (let i = pageSearch(page, key); i < nr; i++) {
    if ((itemFlags(pageItem(page, i)) & F_DIRTY) != 0) return true;
  }
  return false;
}

function dirtyBefore(page: usize, key: usize): bool {
  const to = pageSearch(page, key);
  for (let i = 0; i < to; i++) {
    if ((itemFlags(pageItem(page, i)) & F_DIRTY) != 0) return true;
  }
  return false;
}

/** The page ends just before `start` from now on. */
function trimTail(page: usize, start: usize): void {
  removeItems(page, start, page + PAGE_END);
  keyCopy(page + PAGE_END, start);
  keyDec(page + PAGE_END);
  pageAccount(page);
}

/** The page begins at `start` from now on. Its place among the pages stays the same. */
function trimHead(page: usize, start: usize): void {
  keyCopy(edge, start);
  keyDec(edge);
  removeItems(page, page, edge);
  keyInc(edge);
  pageSetStart(page, edge);
  pageAccount(page);
}

/**
 * Removes all coverage of [register A, register B]; cannot fail. A dirty item in the range
 * is a broken invariant: the transaction must have been committed.
 */
export function itemInvalidate(): void {
  count(N_ITEM_INVALIDATE);
  let i = max(pageBefore(KEY_A), 0);
  while (i < pageCount()) {
    const page = pageAt(i);
    if (keyCmp(page, KEY_B) > 0) return;
    if (keyCmp(page + PAGE_END, KEY_A) < 0) {
      i++;
      continue;
    }
    count(N_ITEM_INVALIDATE_PAGE);
    const headStays = keyCmp(page, KEY_A) < 0;
    const tailStays = keyCmp(page + PAGE_END, KEY_B) > 0;
    if (headStays && tailStays) {
      // The order matters: this page overlaps both edges.
      bisect(page, KEY_A, KEY_B);
      return;
    }
    if (headStays) {
      trimTail(page, KEY_A);
      i++;
    } else if (tailStays) {
      keyCopy(edge, KEY_B);
      keyInc(edge);
      trimHead(page, edge);
      return;
    } else {
      check(pageNrDirty(page) == 0, C_ITEM_DIRTY_INVALIDATED);
      pageDrop(i);
    }
  }
}

/** What the cache has of [register A, register B]: bit 0 coverage, bit 1 dirty items. */
export function itemRangeCached(): i32 {
  let found = 0;
  for (let i = max(pageBefore(KEY_A), 0); i < pageCount(); i++) {
    const page = pageAt(i);
    if (keyCmp(page, KEY_B) > 0) break;
    if (keyCmp(page + PAGE_END, KEY_A) < 0) continue;
    found |= RANGE_CACHED;
    if (pageNrDirty(page) == 0) continue;
    const nr = pageNr(page);
    for (let k = pageSearch(page, KEY_A); k < nr; k++) {
      const item = pageItem(page, k);
      if (keyCmp(item, KEY_B) > 0) break;
      if ((itemFlags(item) & F_DIRTY) != 0) return found | RANGE_DIRTY;
    }
  }
  return found;
}

/**
 * Evicts about `bytes` of clean pages, oldest first, but none of those that an operation
 * in progress may have looked at. @returns bytes evicted
 */
export function itemShrink(bytes: f64): f64 {
  let freed: f64 = 0;
  while (freed < bytes && pageEvict(true)) freed += <f64>PAGE_BYTES;
  pageTrimFree();
  return freed;
}

/** Evicts every clean page. */
export function itemEvictAll(): void {
  while (pageEvict(false)) {}
  pageTrimFree();
}
