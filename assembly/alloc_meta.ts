/**
 * The metadata allocator of one transaction.
 *
 *  ╒═══════════════╤═══════════════╤══════════════╤══════════════╤═══════╤═══════╕
 *  │ avail head  32│ freed head  32│dirty avail  4│dirty freed  4│ wset 4│ pad  4│
 *  ╘═══════════════╧═══════════════╧══════════════╧══════════════╧═══════╧═══════╛
 *
 * Numbers are taken from the first block of `avail` and freed into the first block
 * of `freed`, from which nobody allocates in this transaction. The first use makes
 * both blocks dirty at two numbers peeked from avail itself, so that the allocator
 * never calls itself. A call that may need several blocks asks `allocNeed` first:
 * after that no allocation in it can fail, which keeps trees whole.
 * Source: alloc.md 3.
 */
import { check } from './check';
import {
  blockDirtyAt, blockErr, blockEnd, blockForget, blockIfDirty, blockInUse, blockRead,
  blockReserve, corrupt, CORRUPT_BLKNO_IN_USE, CORRUPT_LIST_HEAD, CORRUPT_REF, setBlockErr,
} from './block';
import { listAdd, listEntry, listHeadOk, listNr, listRemove, listSort } from './alloc_list';
import {
  count, N_ALLOC_ALLOC_META, N_ALLOC_FREE_META, N_ALLOC_LIST_AVAIL_LO, N_ALLOC_LIST_FREED_HI,
} from './count';
import {
  EINVAL, EIO, ENOMEM, ENOSPC, LB_NEXT, LH_BYTES, LH_FIRST, LH_REF, LIST_MAX,
  MAGIC_ALLOC_LIST, META_START_BLKNO,
} from './format';

export const AL_AVAIL: usize = 0;
export const AL_FREED: usize = 32;
const AL_DIRTY_AVAIL: usize = 64;
const AL_DIRTY_FREED: usize = 68;
const AL_WSET: usize = 72;
export const ALLOC_BYTES: i32 = 80;

/** Room in the freed block below which the first use starts a fresh one. */
const FREED_ROTATE_ROOM: u32 = LIST_MAX / 4;

/** Starts an allocator over two list heads (copied), for blocks of one writer set. */
export function allocInit(al: usize, wset: usize, avail: usize, freed: usize): void {
  memory.copy(al + AL_AVAIL, avail, LH_BYTES);
  memory.copy(al + AL_FREED, freed, LH_BYTES);
  store<u32>(al, 0, AL_DIRTY_AVAIL);
  store<u32>(al, 0, AL_DIRTY_FREED);
  store<u32>(al, <u32>wset, AL_WSET);
}

/** First use in a transaction. @returns 0, NEED_BLOCK, -ENOSPC or another error */
export function allocPrepare(al: usize): i32 {
  if (load<u32>(al, AL_DIRTY_AVAIL) != 0) return 0;
  const avail = al + AL_AVAIL;
  const freed = al + AL_FREED;
  // a repeated commit attempt finds its blocks dirty already
  const again = blockIfDirty(avail, MAGIC_ALLOC_LIST);
  if (again == 0 && blockErr != 0) return blockErr;
  if (again != 0) {
    const f = blockIfDirty(freed, MAGIC_ALLOC_LIST);
    if (f == 0 && blockErr != 0) return blockErr;
    if (f != 0) {
      store<u32>(al, <u32>again, AL_DIRTY_AVAIL);
      store<u32>(al, <u32>f, AL_DIRTY_FREED);
      return 0;
    }
  }
  return firstUse(al, avail, freed);
}

function firstUse(al: usize, avail: usize, freed: usize): i32 {
  if (load<u64>(avail) == 0 || load<u32>(avail, LH_FIRST) < 2) return -ENOSPC;
  const a0 = blockRead(avail + LH_REF, MAGIC_ALLOC_LIST);
  if (a0 == 0) return blockErr;
  if (!listHeadOk(avail, a0)) return corrupt(CORRUPT_LIST_HEAD, load<u64>(avail));
  if (load<u64>(freed) != 0) {
    const f0 = blockRead(freed + LH_REF, MAGIC_ALLOC_LIST);
    if (f0 == 0) return blockErr;
    if (!listHeadOk(freed, f0)) return corrupt(CORRUPT_LIST_HEAD, load<u64>(freed));
  }
  if (!blockReserve(2)) return -ENOMEM;
  const ws = <usize>load<u32>(al, AL_WSET);
  const p0 = load<u64>(listEntry(a0, 0));
  const p1 = load<u64>(listEntry(a0, 1));
  if (p0 == p1 || peekedBad(p0, avail, freed)) return corrupt(CORRUPT_BLKNO_IN_USE, p0);
  if (peekedBad(p1, avail, freed)) return corrupt(CORRUPT_BLKNO_IN_USE, p1);
  const oldAvail = load<u64>(avail);
  let oldFreed = load<u64>(freed);
  const rotate = oldFreed != 0 && LIST_MAX - load<u32>(freed, LH_FIRST) < FREED_ROTATE_ROOM;
  const nextBlkno = load<u64>(freed);
  const nextSeq = load<u64>(freed, 8);
  if (rotate) {
    store<u64>(freed, 0);
    store<u64>(freed, 0, 8);
    store<u32>(freed, 0, LH_FIRST);
    oldFreed = 0;
  }
  const f = blockDirtyAt(ws, freed, MAGIC_ALLOC_LIST, p1);
  check(f != 0, 211);
  if (rotate) {
    store<u64>(f, nextBlkno, LB_NEXT);
    store<u64>(f, nextSeq, LB_NEXT + 8);
  }
  const a = blockDirtyAt(ws, avail, MAGIC_ALLOC_LIST, p0);
  check(a != 0, 212);
  listRemove(avail, a, 2);
  listSort(a);
  store<u32>(al, <u32>a, AL_DIRTY_AVAIL);
  store<u32>(al, <u32>f, AL_DIRTY_FREED);
  check(listAdd(freed, f, oldAvail), 213);
  if (oldFreed != 0) check(listAdd(freed, f, oldFreed), 214);
  return 0;
}

/** A number that cannot hold a new list block. */
function peekedBad(blkno: u64, avail: usize, freed: usize): bool {
  return !blknoOk(blkno) || blockInUse(blkno, avail) || blockInUse(blkno, freed);
}

@inline function blknoOk(blkno: u64): bool {
  return blkno >= META_START_BLKNO && blkno < blockEnd();
}

/** Makes sure that `n` allocations and `n` frees, and `n` dirty blocks, will succeed. */
export function allocNeed(al: usize, n: i32): i32 {
  const e = allocPrepare(al);
  if (e != 0) return e;
  if (allocAvailNr(al) < <u32>n || allocFreedRoom(al) < <u32>n) return -ENOSPC;
  return blockReserve(n) ? 0 : -ENOMEM;
}

/** A free block number, 0 with `blockErr` when there is none. */
export function allocMeta(al: usize): u64 {
  const e = allocPrepare(al);
  if (e != 0) {
    setBlockErr(e);
    return 0;
  }
  const a = <usize>load<u32>(al, AL_DIRTY_AVAIL);
  if (listNr(a) == 0) {
    setBlockErr(-ENOSPC);
    return 0;
  }
  const blkno = load<u64>(listEntry(a, 0));
  if (!blknoOk(blkno)) {
    corrupt(CORRUPT_REF, blkno);
    return 0;
  }
  listRemove(al + AL_AVAIL, a, 1);
  count(N_ALLOC_ALLOC_META);
  return blkno;
}

/** Gives a number back; it can be used again after a later commit. */
export function freeMeta(al: usize, blkno: u64): i32 {
  if (!blknoOk(blkno)) return -EINVAL;
  const e = allocPrepare(al);
  if (e != 0) return e;
  if (!listAdd(al + AL_FREED, <usize>load<u32>(al, AL_DIRTY_FREED), blkno)) return -EIO;
  count(N_ALLOC_FREE_META);
  return 0;
}

/** Frees a block of a tree being changed: its number, and its dirty copy if it has one. */
export function freeBlock(al: usize, b: usize): void {
  const blkno = load<u64>(b, 24);
  check(freeMeta(al, blkno) == 0, 215);
  blockForget(b);
}

/** Lets go of the list blocks before the writer set is written; they stay dirty. */
export function allocPrepareCommit(al: usize): void {
  store<u32>(al, 0, AL_DIRTY_AVAIL);
  store<u32>(al, 0, AL_DIRTY_FREED);
}

/** Numbers left to allocate from the first avail block. */
export function allocAvailNr(al: usize): u32 { return load<u32>(al, AL_AVAIL + LH_FIRST); }

/** Plain room of the first freed block. */
export function allocFreedRoom(al: usize): u32 {
  return LIST_MAX - load<u32>(al, AL_FREED + LH_FIRST);
}

/** Room that takes the rotation of the first use into account: alloc.md 3.4. */
export function allocFreedRemaining(al: usize): u32 {
  const room = allocFreedRoom(al);
  if (load<u32>(al, AL_DIRTY_FREED) == 0 && room < FREED_ROTATE_ROOM) return LIST_MAX - 2;
  return room;
}

/** "Stop looping now": fewer than n numbers or less room than n. */
export function allocLow(al: usize, n: u32): bool {
  const few = allocAvailNr(al) < n;
  const full = allocFreedRoom(al) < n;
  if (few) count(N_ALLOC_LIST_AVAIL_LO);
  if (full) count(N_ALLOC_LIST_FREED_HI);
  return few || full;
}
