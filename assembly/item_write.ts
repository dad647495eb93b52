/**
 * Writing the dirty items of a transaction and cleaning them afterwards.
 *
 * A commit writes every dirty item once: an item that is in the log tree is marked
 * WRITTEN, so that a repetition after a missing block or a failed commit continues
 * with the rest and never adds an increment twice. Only the acknowledged commit
 * (`itemWriteDone`) cleans; it also bumps the barrier, so that a read that sampled
 * its roots before may not install what it found.
 *
 * Spec: item.md 6 and 7, trans.md 5.
 */
import { btreeApply } from './btree';
import { count, N_ITEM_DELTA_WRITTEN, N_ITEM_WRITE_DIRTY } from './count';
import {
  F_DELETION, F_DELTA, F_DIRTY, F_PERSISTENT, F_WRITTEN, itemClean, itemFlags, itemSeq,
  itemSetFlags, itemSetWritten, itemVal, itemValLen, pageItem, pageNr, pageNrDirty, pageNrWritten,
  pageRemove,
} from './page';
import { lruRemove, pageAccount, pageAt, pageCount } from './pages';

/** More items are to be written: call again. */
// @ts-ignore: decorator
@inline export const MORE: i32 = 1;

let barrier: u64 = 0;
let maxWritten: u64 = 0;

/** The read/dirty barrier: grows with every completed transaction write. */
export function itemBarrier(): f64 {
  return <f64>barrier;
}

/** Greatest seq of all items that this transaction has put into the log tree so far. */
export function itemMaxWritten(): u64 {
  return maxWritten;
}

/** Greatest seq of all dirty items, 0 if there are none. */
export function itemMaxDirtySeq(): f64 {
  let seq: u64 = 0;
  for (let p = 0; p < pageCount(); p++) {
    const page = pageAt(p);
    if (pageNrDirty(page) == 0) continue;
    const nr = pageNr(page);
    for (let i = 0; i < nr; i++) {
      const item = pageItem(page, i);
      if ((itemFlags(item) & F_DIRTY) != 0) seq = max(seq, itemSeq(item));
    }
  }
  return <f64>seq;
}

/**
 * Puts dirty items that are not there yet into the log tree at `root`, in key order, at
 * most `maxItems` of them.
 * @returns 0 when all are there, MORE, NEED_BLOCK, or the tree's error; all but 0 continue
 *          with the next call
 */
export function itemWriteDirty(alloc: usize, wset: usize, root: usize, maxItems: i32): i32 {
  let left = maxItems;
  for (let p = 0; p < pageCount(); p++) {
    const page = pageAt(p);
    if (pageNrDirty(page) == pageNrWritten(page)) continue;
    const nr = pageNr(page);
    for (let i = 0; i < nr; i++) {
      const item = pageItem(page, i);
      const flags = itemFlags(item);
      if ((flags & (F_DIRTY | F_WRITTEN)) != F_DIRTY) continue;
      if (left-- <= 0) return MORE;
      const err = btreeApply(
        alloc, wset, root, item, itemSeq(item), flags & F_DELETION, itemVal(item),
        itemValLen(item));
      if (err != 0) return err;
      itemSetWritten(page, item);
      maxWritten = max(maxWritten, itemSeq(item));
    }
  }
  count(N_ITEM_WRITE_DIRTY);
  return 0;
}

/** The commit is acknowledged: dirty items become clean, tombstones and increments go. */
export function itemWriteDone(): void {
  barrier++;
  maxWritten = 0;
  for (let p = 0; p < pageCount(); p++) {
    const page = pageAt(p);
    if (pageNrDirty(page) == 0) continue;
    lruRemove(page);
    for (let i = pageNr(page) - 1; i >= 0; i--) {
      const item = pageItem(page, i);
      const flags = itemFlags(item);
      if ((flags & F_DIRTY) == 0) continue;
      if ((flags & F_DELTA) != 0) count(N_ITEM_DELTA_WRITTEN);
      if ((flags & (F_DELETION | F_DELTA)) != 0) {
        pageRemove(page, i);
      } else {
        itemClean(page, item);
        itemSetFlags(item, F_PERSISTENT);
      }
    }
    pageAccount(page);
  }
}
