/**
 * What the server does with free space: fill, empty and splice lists, move extents
 * between trees, with zones.
 *
 * Each function makes whole steps (one extent, one list block) and may stop between
 * them: with NEED_BLOCK when something is missing, or because the allocator that
 * pays for the work is running low. Both the lists and the trees are right after
 * every return, and repeating the call continues. The allocator's own lists must
 * never be arguments. Source: alloc.md 5, 7.1; vectors core-vectors.json → alloc.
 */
import { check } from './check';
import {
  allocAvailNr, allocFreedRemaining, allocFreedRoom, allocLow, allocNeed, freeBlock,
} from './alloc_meta';
import {
  blockDirty, blockErr, blockEnd, blockRead, corrupt, CORRUPT_LIST_HEAD, CORRUPT_LIST_STRUCT,
  CORRUPT_REF,
} from './block';
import { listAdd, listEntry, listHeadOk, listNr, listRemove, listSortOnce } from './alloc_list';
import { count, N_ALLOC_MOVE, N_ALLOC_MOVED_EXTENT } from './count';
import {
  extAlloc, extLen, extModBlocks, extNextByBlkno, extNextByOrder, extNextByOrderFrom, extStart,
  gotLen, gotStart, planApply, planBegin, planInsert, planTake, extOrder, extInsert,
} from './ext';
import {
  AR_ROOT, EINPROGRESS, EINVAL, ENOENT, ENOSPC, LB_NEXT, LH_BYTES, LH_FIRST, LH_FLAGS, LH_TOTAL,
  LIST_MAX, MAGIC_ALLOC_LIST, META_START_BLKNO, REF_BYTES, ROOT_HEIGHT,
} from './format';

@inline function heightOf(aroot: usize): i32 {
  return <i32>load<u8>(aroot + AR_ROOT, ROOT_HEIGHT);
}

/** Room test of fill and empty: alloc.md 5.6. */
function hasRoom(al: usize, aroot: usize, extra: i32): bool {
  const most = <u32>(1 + extModBlocks(heightOf(aroot)) + extra);
  return allocAvailNr(al) >= most && allocFreedRemaining(al) >= most;
}

/**
 * Fills the first block of a list from an extent tree up to `target` numbers if it
 * has fewer than `lo`. 0 (also when the allocator ran low), -ENOSPC when the tree is
 * empty, NEED_BLOCK (the list may have more than `lo` by then: repeat with lo = target),
 * errors.
 */
export function fillList(al: usize, ws: usize, head: usize, aroot: usize, lo: u32,
  target: u32): i32 {
  if (load<u32>(head, LH_FIRST) >= lo) return 0;
  while (load<u32>(head, LH_FIRST) < target) {
    if (!hasRoom(al, aroot, 1)) return 0;
    const b = blockDirty(al, ws, head, MAGIC_ALLOC_LIST);
    if (b == 0) return blockErr;
    if (!listHeadOk(head, b)) return corrupt(CORRUPT_LIST_HEAD, load<u64>(head));
    const room = min(target, LIST_MAX) - listNr(b);
    if (room == 0) return 0;
    const e = extAlloc(al, ws, aroot, room);
    if (e == -ENOENT) return -ENOSPC;
    if (e != 0) return e;
    for (let i: u64 = 0; i < gotLen; i++) check(listAdd(head, b, gotStart + i), 601);
  }
  return 0;
}

/** Moves the numbers of a list into an extent tree. 0 (numbers may be left), NEED_BLOCK, errors. */
export function emptyList(al: usize, ws: usize, head: usize, aroot: usize): i32 {
  while (load<u64>(head) != 0) {
    if (!hasRoom(al, aroot, 1)) return 0;
    const b = blockDirty(al, ws, head, MAGIC_ALLOC_LIST);
    if (b == 0) return blockErr;
    if (!listHeadOk(head, b)) return corrupt(CORRUPT_LIST_HEAD, load<u64>(head));
    if (listNr(b) == 0) {
      const flags = load<u32>(head, LH_FLAGS);
      const e = nextBlock(al, head, b);
      store<u32>(head, flags, LH_FLAGS);
      if (e != 0) return e;
      continue;
    }
    const e = emptyRun(al, ws, head, b, aroot);
    if (e != 0) return e;
  }
  return 0;
}

/** Frees the empty first block and makes its successor the head. */
function nextBlock(al: usize, head: usize, b: usize): i32 {
  const next = b + LB_NEXT;
  let first: u32 = 0;
  if (load<u64>(next) != 0) {
    const n = blockRead(next, MAGIC_ALLOC_LIST);
    if (n == 0) return blockErr;
    first = listNr(n);
  }
  if (<u64>first > load<u64>(head, LH_TOTAL)
    || (load<u64>(next) == 0 && load<u64>(head, LH_TOTAL) != 0)) {
    return corrupt(CORRUPT_LIST_HEAD, load<u64>(head));
  }
  const e = allocNeed(al, 1);
  if (e != 0) return e;
  memory.copy(head, next, REF_BYTES);
  store<u32>(head, first, LH_FIRST);
  freeBlock(al, b);
  return 0;
}

/** Moves the longest consecutive run at the front of the sorted block. */
function emptyRun(al: usize, ws: usize, head: usize, b: usize, aroot: usize): i32 {
  listSortOnce(b);
  const start = load<u64>(listEntry(b, 0));
  let n: u32 = 1;
  while (n < listNr(b) && load<u64>(listEntry(b, n)) == start + <u64>n) n += 1;
  if (start < META_START_BLKNO || start + n > blockEnd()) return corrupt(CORRUPT_REF, start);
  const e = extInsert(al, ws, aroot, start, n);
  if (e != 0) return e;
  listRemove(head, b, n);
  return 0;
}

/**
 * Whether a list that comes from a mount is whole: its head agrees with the first block and
 * the blocks together hold what the head says. 0, NEED_BLOCK, errors.
 */
export function checkList(head: usize): i32 {
  const total = load<u64>(head, LH_TOTAL);
  let ref = head;
  let sum: u64 = 0;
  // A list that runs in circles has more numbers, or more blocks, than its head says.
  for (let blocks: u64 = 0; load<u64>(ref) != 0; blocks++) {
    const b = blockRead(ref, MAGIC_ALLOC_LIST);
    if (b == 0) return blockErr;
    if (ref == head && !listHeadOk(head, b)) return corrupt(CORRUPT_LIST_HEAD, load<u64>(head));
    sum += <u64>listNr(b);
    if (sum > total || blocks > total + 1) return corrupt(CORRUPT_LIST_STRUCT, load<u64>(ref));
    ref = b + LB_NEXT;
  }
  return sum == total ? 0 : corrupt(CORRUPT_LIST_HEAD, load<u64>(head));
}

/** Puts the whole `src` list in front of `dst`. 0, NEED_BLOCK, errors; src is empty afterwards. */
export function spliceList(al: usize, ws: usize, dst: usize, src: usize): i32 {
  if (load<u64>(src) == 0) return 0;
  // every block gets dirty in list order, so that the last one can point to dst
  let ref = src;
  let last: usize = 0;
  let sum: u64 = 0;
  while (load<u64>(ref) != 0) {
    const e = allocNeed(al, 2);
    if (e != 0) return e;
    last = blockDirty(al, ws, ref, MAGIC_ALLOC_LIST);
    if (last == 0) return blockErr;
    if (ref == src && !listHeadOk(src, last)) return corrupt(CORRUPT_LIST_HEAD, load<u64>(src));
    sum += <u64>listNr(last);
    // a list that runs in circles has more numbers than its head says
    if (sum > load<u64>(src, LH_TOTAL)) return corrupt(CORRUPT_LIST_STRUCT, load<u64>(ref));
    ref = last + LB_NEXT;
  }
  if (sum != load<u64>(src, LH_TOTAL)) return corrupt(CORRUPT_LIST_HEAD, load<u64>(src));
  memory.copy(last + LB_NEXT, dst, REF_BYTES);
  memory.copy(dst, src, REF_BYTES);
  store<u32>(dst, load<u32>(src, LH_FIRST), LH_FIRST);
  store<u64>(dst, load<u64>(dst, LH_TOTAL) + load<u64>(src, LH_TOTAL), LH_TOTAL);
  memory.fill(src, 0, LH_BYTES);
  return 0;
}

// ---- moving extents between trees ----

const ZONES: i32 = 1024;
let availAtStart: u32 = 0;
let roomAtStart: u32 = 0;
/** Blocks moved by the last call; a repetition subtracts them from its total. */
export let movedLen: u64 = 0;

/** Notes the allocator's state that a budget is measured from. */
export function moveSnapshot(al: usize): void {
  availAtStart = allocAvailNr(al);
  roomAtStart = allocFreedRoom(al);
}

function overBudget(al: usize, budget: u32, n: u32): bool {
  const avail = allocAvailNr(al);
  const room = allocFreedRoom(al);
  const usedAvail = availAtStart > avail ? availAtStart - avail : 0;
  const usedRoom = roomAtStart > room ? roomAtStart - room : 0;
  return usedAvail + n > budget || usedRoom + n > budget;
}

/**
 * Moves `total` blocks from one tree to the other, preferring extents that touch the
 * zones of `exclusive`, then of `vacant` (bitmaps of 128 bytes, 0 for none).
 * moveSnapshot comes first; budget 0 means none. 0; -EINPROGRESS when the budget is
 * used, -ENOENT when src has nothing, -ENOSPC when nothing could be moved for lack of
 * metadata; NEED_BLOCK. `movedLen` counts also for those.
 */
export function moveExtents(al: usize, ws: usize, dst: usize, src: usize, total: u64,
  exclusive: usize, vacant: usize, zoneBlocks: u64, budget: u32): i32 {
  movedLen = 0;
  while (movedLen < total) {
    let e = choose(src, total - movedLen, exclusive, vacant, zoneBlocks);
    if (e != 0) return e;
    const start = chosenStart;
    const len = chosenLen;
    const cost = <u32>(extModBlocks(heightOf(src)) + extModBlocks(heightOf(dst)));
    if (budget != 0 && overBudget(al, budget, cost)) return -EINPROGRESS;
    if (allocLow(al, 50 + cost)) return movedLen != 0 ? 0 : -ENOSPC;
    planBegin();
    e = planTake(src, start, len);
    if (e == 0) e = planInsert(dst, start, len);
    if (e == 0) e = planApply(al, ws);
    if (e != 0) return e;
    count(N_ALLOC_MOVED_EXTENT);
    movedLen += len;
  }
  count(N_ALLOC_MOVE);
  return 0;
}

let chosenStart: u64 = 0;
let chosenLen: u64 = 0;

function choose(src: usize, count: u64, exclusive: usize, vacant: usize, zoneBlocks: u64): i32 {
  for (let i = 0; i < 2; i++) {
    const zones = i == 0 ? exclusive : vacant;
    if (zones == 0 || zoneBlocks == 0) continue;
    const e = findZoned(src, zones, zoneBlocks, count);
    if (e != -ENOENT) return e;
  }
  const e = extNextByOrder(src);
  if (e != 0) return e;
  chosenStart = extStart;
  chosenLen = min(extLen, count);
  return 0;
}

@inline function zoneSet(zones: usize, z: i32): bool {
  return (load<u8>(zones + <usize>(z >> 3)) & (1 << (z & 7))) != 0;
}

/** First set zone at or after z, -1 for none. */
function nextZone(zones: usize, z: i64): i32 {
  for (let i = <i32>min<i64>(z, <i64>ZONES); i < ZONES; i++) {
    if (zoneSet(zones, i)) return i;
  }
  return -1;
}

/** Searches order by order, zone by zone: alloc.md 5.3. */
function findZoned(src: usize, zones: usize, zoneBlocks: u64, count: u64): i32 {
  const first = nextZone(zones, 0);
  if (first < 0) return -ENOENT;
  let order = 21;
  let zone = first;
  while (order >= 0) {
    const at = <u64>zone * zoneBlocks;
    const e = extNextByOrderFrom(src, order, at, (<u64>1) << (<u64>order * 3));
    if (e != 0) return e;
    const found = extOrder(extLen);
    const z = nextZone(zones, <i64>(extStart / zoneBlocks));
    if (z >= 0 && <u64>z * zoneBlocks < extStart + extLen) {
      chosenStart = max(<u64>z * zoneBlocks, extStart);
      chosenLen = min(count, extStart + extLen - chosenStart);
      return 0;
    }
    order = found;
    zone = nextZone(zones, <i64>((extStart + extLen - 1) / zoneBlocks) + 1);
    if (zone < 0) {
      order -= 1;
      zone = first;
    }
  }
  return -ENOENT;
}

/** Sets the bits of all zones that extents of the tree touch. 0, NEED_BLOCK, errors. */
export function zonesOf(aroot: usize, zoneBlocks: u64, bits: usize): i32 {
  memory.fill(bits, 0, ZONES / 8);
  if (zoneBlocks == 0) return -EINVAL;
  let at: u64 = 0;
  while (true) {
    const e = extNextByBlkno(aroot, at);
    if (e == -ENOENT) return 0;
    if (e != 0) return e;
    const lastZone = min<u64>((extStart + extLen - 1) / zoneBlocks, ZONES - 1);
    for (let z = extStart / zoneBlocks; z <= lastZone; z++) {
      const p = bits + <usize>(z >> 3);
      store<u8>(p, load<u8>(p) | (<u8>1 << <u8>(z & 7)));
    }
    at = extStart + extLen;
  }
}
