/**
 * Sorting the entries of unsorted srch files in bounded memory.
 *
 * Any number of entries is sorted in passes over the files. A pass collects, of the
 * entries greater than those of the passes before, the least that fit a buffer:
 *
 *   add ... add --full--> sort, cancel pairs; still more than half full: keep the lower
 *                         half and from then on refuse everything greater than its last
 *   end of the files  --> sort, cancel pairs: the pass's entries, ascending, each once
 *
 * Equal entries are all in one pass, because a pass is bounded by an entry: what is
 * refused is refused with all its equals. So pairs always cancel. When nothing was
 * refused the pass was the last.
 *
 * Spec: srch.md 5.3.
 */
import { SE_BYTES } from './format';
import { entryCmp, entryCopy } from './srch';

let buffer: usize = 0;
let max: i32 = 0;
let nr: i32 = 0;
/** Entries up to here were in passes before. */
const low: usize = memory.data(24, 16);
let hasLow: bool = false;
/** The last entry that this pass takes. */
const high: usize = memory.data(24, 16);
let hasHigh: bool = false;
const moving: usize = memory.data(24, 16);

/** Starts sorting in a buffer for `maxNr` entries of 24 bytes. */
export function sortBegin(at: usize, maxNr: i32): void {
  buffer = at;
  max = maxNr;
  nr = 0;
  hasLow = hasHigh = false;
}

/** Number of entries after sortPassEnd. */
export function sortNr(): i32 { return nr; }

/** Address of entry `i` of the pass. */
// @ts-ignore: decorator
@inline
export function sortEntry(i: i32): usize {
  return buffer + <usize>i * SE_BYTES;
}

/** Offers an entry to the pass. */
export function sortAdd(entry: usize): void {
  if (hasLow && entryCmp(entry, low) <= 0) return;
  if (hasHigh && entryCmp(entry, high) > 0) return;
  if (nr == max) {
    squeeze();
    if (nr > max >> 1) {
      nr = max >> 1;
      entryCopy(high, sortEntry(nr - 1));
      hasHigh = true;
      if (entryCmp(entry, high) > 0) return;
    }
  }
  entryCopy(sortEntry(nr), entry);
  nr++;
}

/** The files have been read: the pass's entries are in order and differ. */
export function sortPassEnd(): void {
  squeeze();
}

/** Starts the next pass. @returns false when there is none */
export function sortPassNext(): bool {
  if (!hasHigh) return false;
  entryCopy(low, high);
  hasLow = true;
  hasHigh = false;
  nr = 0;
  return true;
}

/** Sorts, and takes out pairs of equal entries. */
function squeeze(): void {
  heapSort();
  let kept = 0;
  for (let i = 0; i < nr; i++) {
    if (i + 1 < nr && entryCmp(sortEntry(i), sortEntry(i + 1)) == 0) {
      i++;
      continue;
    }
    if (kept != i) entryCopy(sortEntry(kept), sortEntry(i));
    kept++;
  }
  nr = kept;
}

/** In place, without recursion, never quadratic. */
function heapSort(): void {
  for (let i = (nr >> 1) - 1; i >= 0; i--) {
    entryCopy(moving, sortEntry(i));
    siftDown(i, nr);
  }
  for (let end = nr - 1; end > 0; end--) {
    entryCopy(moving, sortEntry(end));
    entryCopy(sortEntry(end), sortEntry(0));
    siftDown(0, end);
  }
}

/** Puts `moving` into the hole at `i` of a heap of `end` entries. */
function siftDown(i: i32, end: i32): void {
  while (true) {
    let child = 2 * i + 1;
    if (child >= end) break;
    if (child + 1 < end && entryCmp(sortEntry(child), sortEntry(child + 1)) < 0) child++;
    if (entryCmp(moving, sortEntry(child)) >= 0) break;
    entryCopy(sortEntry(i), sortEntry(child));
    i = child;
  }
  entryCopy(sortEntry(i), moving);
}
