/**
 * The metadata block cache, copy on write, and writer sets.
 *
 * Blocks live in 64 KiB slots at the end of memory, so device I/O goes straight
 * into and out of them. Each slot has an entry:
 *
 *   ╒═══════╤═══════╤══════╤═══════╤══════╤══════╤══════╤═══════╤═══════╤══════╤══════╕
 *   │blkno 8│flags 4│pins 4│chain 4│lru<- 4│lru->4│wset 4│wset<-4│wset->4│slot 4│epoch4│
 *   ╘═══════╧═══════╧══════╧═══════╧══════╧══════╧══════╧═══════╧═══════╧══════╧══════╛
 *
 * Invariants
 *   - at most one entry per block number is in the hash table
 *   - dirty, pinned and being-read entries are never evicted, nor entries used by
 *     the call in progress (their epoch is the current one)
 *   - dirtying a clean block makes a copy at a new number; the old copy stays
 *     what it was, so nobody sees a block change
 *   - an entry replaced while a read of it is under way leaves the hash table and
 *     is freed by its last unpin
 *   - dirty entries are in their writer set's list, all others in use in the LRU list
 *
 * The core never waits: a reference to a block that is not here queues a need
 * (entry, number, slot) in the need window and the call returns NEED_BLOCK. The
 * asker holds a pin on every needed entry until its whole call has finished, so
 * that repetition always gets further.
 *
 * Blocks are verified once, when first used after a read: checksum, header, and
 * for btree and list blocks their whole structure, so that everything behind
 * `blockRead` may trust offsets and counts. Source: block.md 2 to 4, 7.
 */
import {
  count, N_BLOCK_CACHE_ACCESS_UPDATE, N_BLOCK_CACHE_ALLOC_PAGE_ORDER, N_BLOCK_CACHE_END_IO_ERROR,
  N_BLOCK_CACHE_FORGET, N_BLOCK_CACHE_FREE, N_BLOCK_CACHE_REMOVE_STALE,
  N_CORRUPT_BTREE_BLOCK_LEVEL, N_CORRUPT_BTREE_NO_CHILD_REF,
} from './count';
import { crc32c } from './crc32c';
import { check } from './check';
import {
  BLOCK_BYTES, EIO, ENOMEM, ESTALE, HDR_BLKNO, HDR_FSID, HDR_MAGIC, HDR_SEQ, MAGIC_ALLOC_LIST,
  MAGIC_BTREE, META_START_BLKNO, NEED_BLOCK, REF_BLKNO, REF_SEQ,
} from './format';
import { NEED_MAX, NEED_WINDOW } from './layout';
import { btreeValidate } from './btree_block';
import { listValidate } from './alloc_list';
import { allocMeta, allocNeed, freeMeta } from './alloc_meta';

// ---- entries ----
@inline const E_BLKNO: usize = 0;
@inline const E_FLAGS: usize = 8;
@inline const E_PINS: usize = 12;
@inline const E_CHAIN: usize = 16;
@inline const E_LRU_PREV: usize = 20;
@inline const E_LRU_NEXT: usize = 24;
@inline const E_WSET: usize = 28;
@inline const E_WS_PREV: usize = 32;
@inline const E_WS_NEXT: usize = 36;
@inline const E_SLOT: usize = 40;
@inline const E_EPOCH: usize = 44;
export const ENTRY_BYTES: i32 = 48;

@inline const F_READING: u32 = 1;
@inline const F_VERIFIED: u32 = 2;
@inline const F_DIRTY: u32 = 4;
@inline const F_FRESH: u32 = 8;
@inline const F_HASHED: u32 = 16;
@inline const F_USED: u32 = 32;

// ---- writer sets: { head 4, tail 4, count 4, pad 4 } ----
@inline const WS_HEAD: usize = 0;
@inline const WS_TAIL: usize = 4;
@inline const WS_COUNT: usize = 8;
export const WSET_BYTES: i32 = 16;

/** Why the last call that returned 0 did so: NEED_BLOCK or a negative errno. */
export let blockErr: i32 = 0;
export function setBlockErr(e: i32): void { blockErr = e; }

/** Corruption found last: an id of `corruption.ts` on the host, and the block. */
export let corruptId: i32 = 0;
export let corruptBlkno: u64 = 0;
export const CORRUPT_REF: i32 = 1;
export const CORRUPT_BTREE_STRUCT: i32 = 2;
export const CORRUPT_LIST_STRUCT: i32 = 3;
export const CORRUPT_BTREE_LEVEL: i32 = 4;
export const CORRUPT_NO_CHILD: i32 = 5;
export const CORRUPT_HEIGHT: i32 = 6;
export const CORRUPT_BLKNO_IN_USE: i32 = 7;
export const CORRUPT_LIST_HEAD: i32 = 8;
export const CORRUPT_EXTENT: i32 = 9;
/** With ESTALE: no damage yet, unless newer references lead to the same block again. */
export const CORRUPT_STALE_HEADER: i32 = 10;
export const CORRUPT_STALE_CHECKSUM: i32 = 11;
export const CORRUPT_SRCH_FILE: i32 = 12;
export const CORRUPT_SRCH_BLOCK: i32 = 13;

/** Notes a corruption and makes the call fail with EIO. */
export function corrupt(id: i32, blkno: u64): i32 {
  if (id == CORRUPT_BTREE_LEVEL) count(N_CORRUPT_BTREE_BLOCK_LEVEL);
  else if (id == CORRUPT_NO_CHILD) count(N_CORRUPT_BTREE_NO_CHILD_REF);
  corruptId = id;
  corruptBlkno = blkno;
  blockErr = -EIO;
  return -EIO;
}

let entries: usize = 0;
let nrEntries: i32 = 0;
let buckets: usize = 0;
let bucketMask: u32 = 0;
let lruHead: usize = 0;
let lruTail: usize = 0;
let freeHead: usize = 0;
let nrFree: i32 = 0;
let nrDirty: i32 = 0;
let epoch: u32 = 1;
let fsid: u64 = 0;
let blknoEnd: u64 = 0;
let needNr: i32 = 0;
let noNeed: bool = false;
let staleNext: bool = false;
let rng0: u64 = 1;
let rng1: u64 = 2;
let rng2: u64 = 3;
let rng3: u64 = 4;

/** Bytes of entry table and hash buckets for `nr` slots. */
export function blockTableBytes(nr: i32): i32 {
  return nr * ENTRY_BYTES + bucketsFor(nr) * 4;
}

function bucketsFor(nr: i32): i32 {
  let n = 64;
  while (n < nr * 2) n <<= 1;
  return n;
}

/** Sets up an empty cache of `nr` slots starting at `slots` with its tables at `tables`. */
export function blockInit(tables: usize, slots: usize, nr: i32): void {
  entries = tables;
  nrEntries = nr;
  buckets = tables + <usize>(nr * ENTRY_BYTES);
  bucketMask = <u32>bucketsFor(nr) - 1;
  memory.fill(tables, 0, <usize>blockTableBytes(nr));
  lruHead = 0;
  lruTail = 0;
  freeHead = 0;
  nrDirty = 0;
  nrFree = nr;
  for (let i = nr - 1; i >= 0; i--) {
    const e = entries + <usize>(i * ENTRY_BYTES);
    store<u32>(e, <u32>(slots + ((<usize>i) << 16)), E_SLOT);
    store<u32>(e, <u32>freeHead, E_CHAIN);
    freeHead = e;
  }
}

/** The volume: its fsid, and the number of large blocks of its metadata device. */
export function blockVolume(id: u64, totalBlocks: u64): void {
  fsid = id;
  blknoEnd = totalBlocks;
}

export function blockEnd(): u64 { return blknoEnd; }

/** Seeds the source of block seqs with 256 random bits. */
export function blockSeed(a: u64, b: u64, c: u64, d: u64): void {
  rng0 = a | 1;
  rng1 = b;
  rng2 = c;
  rng3 = d;
}

/** xoshiro256**: unique seqs, not secrets. */
function nextSeq(): u64 {
  const result = rotl<u64>(rng1 * 5, 7) * 9;
  const t = rng1 << 17;
  rng2 ^= rng0;
  rng3 ^= rng1;
  rng1 ^= rng2;
  rng0 ^= rng3;
  rng2 ^= t;
  rng3 = rotl<u64>(rng3, 45);
  return result == 0 ? 1 : result;
}

/** Every exported call that uses blocks begins with this. */
export function blockBegin(): void {
  epoch += 1;
  needNr = 0;
  blockErr = 0;
  corruptId = 0;
}

export function blockNeedNr(): i32 { return needNr; }
export function blockNrDirty(): i32 { return nrDirty; }
export function blockNrFree(): i32 { return nrFree; }

/**
 * While set, missing blocks are not asked for: used for the second half of
 * compound changes whose blocks have been brought in by the first half.
 */
export function blockNoNeed(on: bool): void { noNeed = on; }
export function blockIsNoNeed(): bool { return noNeed; }

@inline function bucketOf(blkno: u64): usize {
  return buckets + <usize>(((<u32>(blkno * 0x9e3779b97f4a7c15 >> 32)) & bucketMask) << 2);
}

function find(blkno: u64): usize {
  let e = <usize>load<u32>(bucketOf(blkno));
  while (e != 0 && load<u64>(e, E_BLKNO) != blkno) e = <usize>load<u32>(e, E_CHAIN);
  return e;
}

function hashIn(e: usize, blkno: u64): void {
  const b = bucketOf(blkno);
  store<u64>(e, blkno, E_BLKNO);
  store<u32>(e, load<u32>(b), E_CHAIN);
  store<u32>(b, <u32>e);
  store<u32>(e, load<u32>(e, E_FLAGS) | F_HASHED, E_FLAGS);
}

function hashOut(e: usize): void {
  if ((load<u32>(e, E_FLAGS) & F_HASHED) == 0) return;
  let p = bucketOf(load<u64>(e, E_BLKNO));
  while (<usize>load<u32>(p) != e) p = <usize>load<u32>(p) + E_CHAIN;
  store<u32>(p, load<u32>(e, E_CHAIN));
  store<u32>(e, load<u32>(e, E_FLAGS) & ~F_HASHED, E_FLAGS);
}

function lruAdd(e: usize): void {
  store<u32>(e, <u32>lruTail, E_LRU_PREV);
  store<u32>(e, 0, E_LRU_NEXT);
  if (lruTail != 0) store<u32>(lruTail, <u32>e, E_LRU_NEXT);
  else lruHead = e;
  lruTail = e;
}

function lruDel(e: usize): void {
  const prev = <usize>load<u32>(e, E_LRU_PREV);
  const next = <usize>load<u32>(e, E_LRU_NEXT);
  if (prev != 0) store<u32>(prev, <u32>next, E_LRU_NEXT);
  else lruHead = next;
  if (next != 0) store<u32>(next, <u32>prev, E_LRU_PREV);
  else lruTail = prev;
}

function release(e: usize): void {
  count(N_BLOCK_CACHE_FREE);
  hashOut(e);
  lruDel(e);
  store<u32>(e, 0, E_FLAGS);
  store<u32>(e, <u32>freeHead, E_CHAIN);
  freeHead = e;
  nrFree += 1;
}

/** Takes an entry out of sight; its memory goes when nobody pins it. */
function drop(e: usize): void {
  hashOut(e);
  if (load<u32>(e, E_PINS) == 0) release(e);
}

function evictable(e: usize): bool {
  return load<u32>(e, E_PINS) == 0 && load<u32>(e, E_EPOCH) != epoch &&
    (load<u32>(e, E_FLAGS) & (F_DIRTY | F_READING)) == 0;
}

/** A free entry, on the LRU list and marked used; 0 when every slot is in use. */
function take(): usize {
  if (freeHead == 0) {
    let e = lruHead;
    while (e != 0 && !evictable(e)) e = <usize>load<u32>(e, E_LRU_NEXT);
    if (e == 0) return 0;
    release(e);
  }
  count(N_BLOCK_CACHE_ALLOC_PAGE_ORDER);
  const e = freeHead;
  freeHead = <usize>load<u32>(e, E_CHAIN);
  nrFree -= 1;
  store<u32>(e, F_USED, E_FLAGS);
  store<u32>(e, 0, E_PINS);
  store<u32>(e, epoch, E_EPOCH);
  lruAdd(e);
  return e;
}

function need(e: usize): void {
  blockErr = NEED_BLOCK;
  if (needNr >= NEED_MAX) return;
  store<u32>(e, load<u32>(e, E_PINS) + 1, E_PINS);
  const w = NEED_WINDOW + <usize>(needNr * 16);
  store<f64>(w, <f64>load<u64>(e, E_BLKNO));
  store<u32>(w, <u32>e, 8);
  store<u32>(w, load<u32>(e, E_SLOT), 12);
  needNr += 1;
}

/** Queues a read of a block that has no entry. */
function needNew(blkno: u64): usize {
  blockErr = NEED_BLOCK;
  if (noNeed || needNr >= NEED_MAX) return 0;
  const e = take();
  if (e == 0) {
    blockErr = -ENOMEM;
    return 0;
  }
  hashIn(e, blkno);
  store<u32>(e, load<u32>(e, E_FLAGS) | F_READING, E_FLAGS);
  need(e);
  return 0;
}

/** The host finished (err 0) or failed the read of a needed entry. */
export function blockReadDone(e: usize, err: i32): void {
  const f = load<u32>(e, E_FLAGS) & ~(F_READING | F_VERIFIED);
  if (err == 0) {
    store<u32>(e, f | F_FRESH, E_FLAGS);
  } else {
    count(N_BLOCK_CACHE_END_IO_ERROR);
    store<u32>(e, f, E_FLAGS);
    hashOut(e);
  }
}

/** The asker of a needed entry has finished its call. */
export function blockUnpin(e: usize): void {
  const pins = load<u32>(e, E_PINS);
  check(pins > 0, 101);
  store<u32>(e, pins - 1, E_PINS);
  if (pins > 1) return;
  // for those who come later it is an old copy: on a mismatch they read it again
  store<u32>(e, load<u32>(e, E_FLAGS) & ~F_FRESH, E_FLAGS);
  if ((load<u32>(e, E_FLAGS) & (F_HASHED | F_READING)) == 0) release(e);
}

/** Whether the entry still waits for its read: another asker may share it. */
export function blockIsReading(e: usize): bool {
  return (load<u32>(e, E_FLAGS) & F_READING) != 0;
}

function checksumOk(b: usize): bool {
  return crc32c(0xffffffff, b + 4, BLOCK_BYTES - 4) == load<u32>(b);
}

function structureOk(b: usize, magic: u32, blkno: u64): i32 {
  if (magic == MAGIC_BTREE && !btreeValidate(b)) return corrupt(CORRUPT_BTREE_STRUCT, blkno);
  if (magic == MAGIC_ALLOC_LIST && !listValidate(b)) return corrupt(CORRUPT_LIST_STRUCT, blkno);
  return 0;
}

function headerMatches(b: usize, magic: u32, blkno: u64, seq: u64): bool {
  return load<u32>(b, HDR_MAGIC) == magic && load<u64>(b, HDR_FSID) == fsid &&
    load<u64>(b, HDR_SEQ) == seq && load<u64>(b, HDR_BLKNO) == blkno;
}

/**
 * The block a reference points to.
 * @returns its address, or 0 with `blockErr`: NEED_BLOCK, -ESTALE, -EIO, -ENOMEM
 */
export function blockRead(ref: usize, magic: u32): usize {
  const e = readEntry(ref, magic);
  return e == 0 ? 0 : <usize>load<u32>(e, E_SLOT);
}

/** Makes the next block that is used from the cache count as stale: see triggers.ts. */
export function blockStaleNext(): void { staleNext = true; }

function readEntry(ref: usize, magic: u32): usize {
  const blkno = load<u64>(ref, REF_BLKNO);
  const seq = load<u64>(ref, REF_SEQ);
  if (blkno < META_START_BLKNO || blkno >= blknoEnd) {
    corrupt(CORRUPT_REF, blkno);
    return 0;
  }
  const e = find(blkno);
  if (e == 0) return needNew(blkno);
  const flags = load<u32>(e, E_FLAGS);
  store<u32>(e, epoch, E_EPOCH);
  if (flags & F_READING) {
    if (noNeed) blockErr = NEED_BLOCK;
    else need(e);
    return 0;
  }
  if (staleNext && !noNeed && (flags & F_DIRTY) == 0) {
    staleNext = false;
    store<u32>(e, flags & ~F_FRESH, E_FLAGS);
    return staleEntry(e, blkno, CORRUPT_STALE_HEADER);
  }
  const b = <usize>load<u32>(e, E_SLOT);
  if (!headerMatches(b, magic, blkno, seq)) return staleEntry(e, blkno, CORRUPT_STALE_HEADER);
  if ((flags & F_VERIFIED) == 0) {
    if (!checksumOk(b)) return staleEntry(e, blkno, CORRUPT_STALE_CHECKSUM);
    if (structureOk(b, magic, blkno) != 0) {
      drop(e);
      return 0;
    }
    store<u32>(e, (flags | F_VERIFIED) & ~F_FRESH, E_FLAGS);
  }
  touch(e);
  return e;
}

/** A mismatch: an old clean copy is dropped and read again once; dirty or fresh ones are stale. */
function staleEntry(e: usize, blkno: u64, why: i32): usize {
  const flags = load<u32>(e, E_FLAGS);
  count(N_BLOCK_CACHE_REMOVE_STALE);
  if ((flags & (F_DIRTY | F_FRESH)) != 0) {
    store<u32>(e, flags & ~F_FRESH, E_FLAGS);
    corruptId = why;
    corruptBlkno = blkno;
    blockErr = -ESTALE;
    return 0;
  }
  drop(e);
  return needNew(blkno);
}

@inline function touch(e: usize): void {
  if (lruTail != e && (load<u32>(e, E_FLAGS) & F_DIRTY) == 0) {
    count(N_BLOCK_CACHE_ACCESS_UPDATE);
    lruDel(e);
    lruAdd(e);
  }
}

/** Whether a reference's block could be used now without asking for it. */
export function blockResident(ref: usize): bool {
  const e = find(load<u64>(ref, REF_BLKNO));
  return e != 0 && (load<u32>(e, E_FLAGS) & F_READING) == 0;
}

// ---- dirtying ----

function wsetAdd(ws: usize, e: usize): void {
  lruDel(e);
  const tail = <usize>load<u32>(ws, WS_TAIL);
  store<u32>(e, <u32>ws, E_WSET);
  store<u32>(e, <u32>tail, E_WS_PREV);
  store<u32>(e, 0, E_WS_NEXT);
  if (tail != 0) store<u32>(tail, <u32>e, E_WS_NEXT);
  else store<u32>(ws, <u32>e, WS_HEAD);
  store<u32>(ws, <u32>e, WS_TAIL);
  store<u32>(ws, load<u32>(ws, WS_COUNT) + 1, WS_COUNT);
  store<u32>(e, load<u32>(e, E_FLAGS) | F_DIRTY, E_FLAGS);
  nrDirty += 1;
}

function wsetDel(e: usize): void {
  const ws = <usize>load<u32>(e, E_WSET);
  const prev = <usize>load<u32>(e, E_WS_PREV);
  const next = <usize>load<u32>(e, E_WS_NEXT);
  if (prev != 0) store<u32>(prev, <u32>next, E_WS_NEXT);
  else store<u32>(ws, <u32>next, WS_HEAD);
  if (next != 0) store<u32>(next, <u32>prev, E_WS_PREV);
  else store<u32>(ws, <u32>prev, WS_TAIL);
  store<u32>(ws, load<u32>(ws, WS_COUNT) - 1, WS_COUNT);
  store<u32>(e, load<u32>(e, E_FLAGS) & ~F_DIRTY, E_FLAGS);
  store<u32>(e, 0, E_WSET);
  nrDirty -= 1;
  lruAdd(e);
}

/** Blocks of a writer set. */
export function wsetCount(ws: usize): i32 { return <i32>load<u32>(ws, WS_COUNT); }

/** Whether `nr` more blocks could be made dirty now. */
export function blockReserve(nr: i32): bool {
  if (nrFree >= nr) return true;
  let n = nrFree;
  for (let e = lruHead; e != 0 && n < nr; e = <usize>load<u32>(e, E_LRU_NEXT)) {
    if (evictable(e)) n += 1;
  }
  return n >= nr;
}

/**
 * Makes the referenced block dirty at `newBlkno` and updates the reference; an
 * empty reference gives a zeroed block. The caller accounts for both numbers.
 * @returns the block, or 0 with `blockErr`
 */
export function blockDirtyAt(ws: usize, ref: usize, magic: u32, newBlkno: u64): usize {
  let old: usize = 0;
  if (load<u64>(ref, REF_BLKNO) != 0) {
    old = readEntry(ref, magic);
    if (old == 0) return 0;
  }
  if (blockInUse(newBlkno, ref)) {
    corrupt(CORRUPT_BLKNO_IN_USE, newBlkno);
    return 0;
  }
  const stale = find(newBlkno);
  if (stale != 0) drop(stale);
  const e = take();
  if (e == 0) {
    blockErr = -ENOMEM;
    return 0;
  }
  const b = <usize>load<u32>(e, E_SLOT);
  if (old != 0) {
    memory.copy(b, <usize>load<u32>(old, E_SLOT), BLOCK_BYTES);
    // this call is done with the old version
    store<u32>(old, 0, E_EPOCH);
  } else {
    memory.fill(b, 0, BLOCK_BYTES);
  }
  const seq = nextSeq();
  store<u32>(b, magic, HDR_MAGIC);
  store<u64>(b, fsid, HDR_FSID);
  store<u64>(b, seq, HDR_SEQ);
  store<u64>(b, newBlkno, HDR_BLKNO);
  hashIn(e, newBlkno);
  store<u32>(e, load<u32>(e, E_FLAGS) | F_VERIFIED, E_FLAGS);
  wsetAdd(ws, e);
  store<u64>(ref, newBlkno, REF_BLKNO);
  store<u64>(ref, seq, REF_SEQ);
  return b;
}

/** Whether a number cannot be given out: it is dirty, or it is what `ref` points to. */
export function blockInUse(blkno: u64, ref: usize): bool {
  const e = find(blkno);
  return (e != 0 && (load<u32>(e, E_FLAGS) & F_DIRTY) != 0) || load<u64>(ref, REF_BLKNO) == blkno;
}

/** Whether the referenced block is dirty; reads it first (0 and `blockErr` as blockRead). */
export function blockIfDirty(ref: usize, magic: u32): usize {
  if (load<u64>(ref, REF_BLKNO) == 0) {
    blockErr = 0;
    return 0;
  }
  const e = readEntry(ref, magic);
  if (e == 0) return 0;
  blockErr = 0;
  return (load<u32>(e, E_FLAGS) & F_DIRTY) != 0 ? <usize>load<u32>(e, E_SLOT) : 0;
}

/**
 * Makes the referenced block writable in a writer set: a dirty one is returned as
 * it is, a clean one is copied to a number from the allocator and its old number
 * freed, an empty reference gives a zeroed block.
 * @returns the block, or 0 with `blockErr`: NEED_BLOCK, -ESTALE, -EIO, -ENOSPC, -ENOMEM
 */
export function blockDirty(alloc: usize, ws: usize, ref: usize, magic: u32): usize {
  const dirty = blockIfDirty(ref, magic);
  if (dirty != 0 || blockErr != 0) return dirty;
  // room for the old number and for one block that the caller may free next
  const e = allocNeed(alloc, 2);
  if (e != 0) {
    blockErr = e;
    return 0;
  }
  const blkno = allocMeta(alloc);
  if (blkno == 0) return 0;
  const oldBlkno = load<u64>(ref, REF_BLKNO);
  const b = blockDirtyAt(ws, ref, magic, blkno);
  if (b == 0) return 0;
  if (oldBlkno != 0) check(freeMeta(alloc, oldBlkno) == 0, 103);
  return b;
}

/** Takes a dirty block (by address) out of its writer set; it will not be written. */
export function blockForget(b: usize): void {
  const e = find(load<u64>(b, HDR_BLKNO));
  if (e == 0 || (load<u32>(e, E_FLAGS) & F_DIRTY) == 0) return;
  count(N_BLOCK_CACHE_FORGET);
  wsetDel(e);
  drop(e);
}

/** Forgets a whole writer set: clean after a successful write, thrown away otherwise. */
export function wsetForget(ws: usize, written: bool): void {
  let e = <usize>load<u32>(ws, WS_HEAD);
  while (e != 0) {
    wsetDel(e);
    if (!written) drop(e);
    e = <usize>load<u32>(ws, WS_HEAD);
  }
}

/**
 * Finishes the checksums of up to `max` blocks of the set from position `from`
 * and lists them in `out` as (f64 blkno, u32 slot, u32 0). @returns how many
 */
export function wsetList(ws: usize, from: i32, max: i32, out: usize): i32 {
  let e = <usize>load<u32>(ws, WS_HEAD);
  for (let i = 0; i < from && e != 0; i++) e = <usize>load<u32>(e, E_WS_NEXT);
  let n = 0;
  while (e != 0 && n < max) {
    const b = <usize>load<u32>(e, E_SLOT);
    store<u32>(b, crc32c(0xffffffff, b + 4, BLOCK_BYTES - 4));
    store<f64>(out, <f64>load<u64>(e, E_BLKNO));
    store<u32>(out, <u32>b, 8);
    store<u32>(out, 0, 12);
    out += 16;
    n += 1;
    e = <usize>load<u32>(e, E_WS_NEXT);
  }
  return n;
}

/** Drops every clean block nobody pins; for tests and for remeasuring. @returns how many */
export function blockEvictAll(): i32 {
  let n = 0;
  epoch += 1;
  let e = lruHead;
  while (e != 0) {
    const next = <usize>load<u32>(e, E_LRU_NEXT);
    if (evictable(e)) {
      release(e);
      n += 1;
    }
    e = next;
  }
  return n;
}
