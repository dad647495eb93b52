/**
 * Alloc list blocks: a window of block numbers floating in a fixed array.
 *
 *  ╒══════════╤══════════════╤═══════╤════╤═══════════════════════════╕
 *  │ header 32│ next ref   16│start 4│nr 4│ blknos[8185]      8 each  │
 *  ╘══════════╧══════════════╧═══════╧════╧═══════════════════════════╛
 *
 * Only the first block of a list matters for decisions; the head repeats its
 * `nr` as first_nr. Order has no meaning, consumers sort. Source: alloc.md 1.2.
 */
import { check } from './check';
import {
  HDR_SEQ, LB_BLKNOS, LB_NR, LB_START, LH_FIRST, LH_TOTAL, LIST_MAX,
} from './format';

/** Whether a list block that was read may be used: its window lies inside the array. */
export function listValidate(b: usize): bool {
  const start = load<u32>(b, LB_START);
  const nr = load<u32>(b, LB_NR);
  return start <= LIST_MAX && nr <= LIST_MAX && start + nr <= LIST_MAX;
}

/** Whether a list's head agrees with its first block: both are from the device or a peer. */
export function listHeadOk(head: usize, b: usize): bool {
  return listNr(b) == load<u32>(head, LH_FIRST) &&
    load<u64>(head, LH_TOTAL) >= <u64>load<u32>(head, LH_FIRST);
}

@inline export function listNr(b: usize): u32 { return load<u32>(b, LB_NR); }

/** Address of entry i of the window. */
@inline export function listEntry(b: usize, i: u32): usize {
  return b + LB_BLKNOS + (<usize>(load<u32>(b, LB_START) + i) << 3);
}

// the block that is known to be sorted: its address and its version
let sortedBlock: usize = 0;
let sortedSeq: u64 = 0;

/** Sorts the window unless it is known to be sorted; removing from its front keeps it so. */
export function listSortOnce(b: usize): void {
  if (sortedBlock == b && sortedSeq == load<u64>(b, HDR_SEQ)) return;
  if (!isSorted(b)) listSort(b);
  sortedBlock = b;
  sortedSeq = load<u64>(b, HDR_SEQ);
}

function isSorted(b: usize): bool {
  const nr = listNr(b);
  for (let i: u32 = 1; i < nr; i++) {
    if (load<u64>(listEntry(b, i - 1)) > load<u64>(listEntry(b, i))) return false;
  }
  return true;
}

/** Adds a number to the first block of a list. @returns false when it is full */
export function listAdd(head: usize, b: usize, blkno: u64): bool {
  if (b == sortedBlock) sortedBlock = 0;
  const start = load<u32>(b, LB_START);
  const nr = load<u32>(b, LB_NR);
  if (nr >= LIST_MAX) return false;
  if (start + nr < LIST_MAX) {
    store<u64>(b + LB_BLKNOS + (<usize>(start + nr) << 3), blkno);
  } else {
    store<u32>(b, start - 1, LB_START);
    store<u64>(b + LB_BLKNOS + (<usize>(start - 1) << 3), blkno);
  }
  store<u32>(b, nr + 1, LB_NR);
  store<u32>(head, nr + 1, LH_FIRST);
  store<u64>(head, load<u64>(head, LH_TOTAL) + 1, LH_TOTAL);
  return true;
}

/** Removes the first n numbers of the first block. */
export function listRemove(head: usize, b: usize, n: u32): void {
  const nr = load<u32>(b, LB_NR);
  check(n <= nr && <u64>n <= load<u64>(head, LH_TOTAL), 201);
  store<u32>(b, nr - n, LB_NR);
  store<u32>(b, nr == n ? 0 : load<u32>(b, LB_START) + n, LB_START);
  store<u32>(head, nr - n, LH_FIRST);
  store<u64>(head, load<u64>(head, LH_TOTAL) - <u64>n, LH_TOTAL);
}

/** Sorts the window ascending (Shell sort: in place, no recursion). */
export function listSort(b: usize): void {
  const nr = <i32>load<u32>(b, LB_NR);
  const p = listEntry(b, 0);
  let gap = 1;
  while (gap < nr / 3) gap = gap * 3 + 1;
  for (; gap > 0; gap /= 3) {
    for (let i = gap; i < nr; i++) {
      const v = load<u64>(p + (<usize>i << 3));
      let j = i;
      while (j >= gap && load<u64>(p + (<usize>(j - gap) << 3)) > v) {
        store<u64>(p + (<usize>j << 3), load<u64>(p + (<usize>(j - gap) << 3)));
        j -= gap;
      }
      store<u64>(p + (<usize>j << 3), v);
    }
  }
}
