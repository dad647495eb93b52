/**
 * Filling uncovered ranges of the item cache with what was read.
 *
 * The reader delivers a range's visible items in key order:
 *
 *   fillStart(key)
 *     for each hole of the range that was read (pageHole):
 *       fillBegin(hole)   fillItem ...   fillEnd
 *   fillDone
 *
 * Existing coverage always wins, because it can hold newer local changes: only
 * holes are filled. A page that is being filled is off the list of clean pages, so
 * that making room for the next one cannot evict it; it says it covers the rest of
 * the hole until it is full and gets its real end. So the cache is whole after
 * every step, and a fill that ends early for lack of memory leaves true coverage.
 * The page that covers the key for whose sake all is read stays off that list until
 * fillDone, or else the rest of a large range could push it out again.
 *
 * Pages are filled to seven eighths: the rest is for changes to come. A hole that
 * directly follows a page of the same lock continues in that page.
 *
 * Spec: item.md 5.
 */
import { check, C_PAGE_INVERTED } from './check';
import { keyCmp, keyCopy, keyDec, keyInc } from './key';
import {
  F_PERSISTENT, itemSetFlags, itemSetSeq, itemStoreVal, PAGE_BYTES, PAGE_END, pageAppend,
} from './page';
import { lruRemove, pageAccount, pageAt, pageBefore, pageNewFor } from './pages';

/** Room left for later changes in a page that is filled. */
// @ts-ignore: decorator
@inline const LEAVE_BYTES: i32 = PAGE_BYTES >> 3;

let current: usize = 0;
/** The page that covers the wanted key, once it is known. */
let kept: usize = 0;
let wanted: usize = 0;
const endKey: usize = memory.data(32, 16);
const nextKey: usize = memory.data(32, 16);

/** Starts a read that is made for the sake of `key` (0: for none in particular). */
export function fillStart(key: usize): void {
  wanted = key;
  kept = 0;
  current = 0;
}

/** Ends a read, also one that ran out of memory. */
export function fillDone(): void {
  fillEnd();
  if (kept != 0) pageAccount(kept);
  kept = 0;
}

/** The page is as it will be: it may be evicted from now on, unless it has the wanted key. */
function close(page: usize): void {
  if (wanted != 0 && keyCmp(page, wanted) <= 0 && keyCmp(wanted, page + PAGE_END) <= 0) {
    kept = page;
  } else {
    pageAccount(page);
  }
}

/**
 * Starts filling the hole [start, end], which no page covers. `first` is the first key
 * that the lock covers. @returns false without memory
 */
export function fillBegin(first: usize, start: usize, end: usize): bool {
  keyCopy(endKey, end);
  const i = pageBefore(start);
  if (i >= 0 && keyCmp(pageAt(i), first) >= 0) {
    const page = pageAt(i);
    keyCopy(nextKey, page + PAGE_END);
    keyInc(nextKey);
    if (keyCmp(nextKey, start) == 0) {
      if (page == kept) kept = 0;
      lruRemove(page);
      keyCopy(page + PAGE_END, endKey);
      current = page;
      return true;
    }
  }
  return begin(start);
}

function begin(start: usize): bool {
  current = pageNewFor(start, endKey);
  if (current == 0) return false;
  lruRemove(current);
  return true;
}

/** The next item, behind all before. @returns false without memory; the fill has ended then */
export function fillItem(key: usize, seq: u64, val: usize, valLen: i32): bool {
  const cap = (valLen + 7) & ~7;
  let item = pageAppend(current, key, cap, LEAVE_BYTES);
  if (item == 0) {
    keyCopy(nextKey, key);
    closeBefore(nextKey);
    if (!begin(nextKey)) return false;
    item = pageAppend(current, key, cap, 0);
  }
  itemSetSeq(item, seq);
  itemStoreVal(item, val, valLen);
  itemSetFlags(item, F_PERSISTENT);
  return true;
}

/** The current page, which has items or starts before the key, ends just before it. */
function closeBefore(key: usize): void {
  keyCopy(current + PAGE_END, key);
  keyDec(current + PAGE_END);
  check(keyCmp(current, current + PAGE_END) <= 0, C_PAGE_INVERTED);
  close(current);
  current = 0;
}

/** Ends the fill: the page covers the rest of the hole. */
export function fillEnd(): void {
  if (current != 0) close(current);
  current = 0;
}
