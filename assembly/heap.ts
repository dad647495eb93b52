/**
 * Memory for everything that is not a block slot: a buddy allocator over one
 * fixed region.
 *
 * Sizes are powers of two from 64 bytes to 16 MiB. A block of size 2^k starts at
 * a multiple of 2^k (at most of 64 KiB) and has one buddy; when both are free they
 * become one, so the heap cannot wear out by fragmentation between sizes. One byte
 * per 64-byte unit says what begins there:
 *
 *  ╒══════════════════════════════════════════════════╤══════════════════════╕
 *  │ arena: blocks, free ones hold {next u32,prev u32}│ state, a byte a unit │
 *  ╘══════════════════════════════════════════════════╧══════════════════════╛
 *   state: 0 inside of a block, FREE | k, USED | k at the head of one
 *
 * Callers remember lengths; freeing with a length of another class, freeing twice
 * and freeing what was never allocated trap. Memory is NOT zeroed on allocation:
 * it has whatever was there. There is no garbage collector anywhere in the core.
 */
import { broken, C_HEAP_DOUBLE_FREE, C_HEAP_RANGE } from './check';

// @ts-ignore: decorator
@inline const MIN_SHIFT: i32 = 6;
// @ts-ignore: decorator
@inline const MAX_SHIFT: i32 = 24;
// @ts-ignore: decorator
@inline const ARENA_ALIGN: usize = 65536;
// @ts-ignore: decorator
@inline const FREE: u8 = 0x40;
// @ts-ignore: decorator
@inline const USED: u8 = 0x80;
// @ts-ignore: decorator
@inline const PREV: usize = 4;

let arena: usize = 0;
let arenaBytes: usize = 0;
let state: usize = 0;
let freeBytes: usize = 0;
/** Bit k is set when list k is not empty. */
let listed: u32 = 0;
/** Heads of the free lists, one u32 per shift. */
const heads: usize = memory.data(128, 16);

/** Hands the region [base, end) to the heap; everything allocated before is forgotten. */
export function heapInit(base: usize, end: usize): void {
  arena = (base + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
  listed = 0;
  freeBytes = 0;
  arenaBytes = 0;
  memory.fill(heads, 0, 128);
  if (end <= arena) return;
  const units = (end - arena) / 65;
  state = arena + (units << MIN_SHIFT);
  arenaBytes = units << MIN_SHIFT;
  memory.fill(state, 0, units);
  // The greatest aligned blocks that fit, from the front.
  let at: usize = 0;
  while (at < arenaBytes) {
    let k = at == 0 ? MAX_SHIFT : min(<i32>ctz(at), MAX_SHIFT);
    while (at + ((<usize>1) << k) > arenaBytes) k--;
    pushFree(arena + at, k);
    freeBytes += (<usize>1) << k;
    at += (<usize>1) << k;
  }
}

// @ts-ignore: decorator
@inline
function stateOf(ptr: usize): usize {
  return state + ((ptr - arena) >> MIN_SHIFT);
}

// @ts-ignore: decorator
@inline
function head(k: i32): usize {
  return heads + (<usize>k << 2);
}

function pushFree(ptr: usize, k: i32): void {
  const next = load<u32>(head(k));
  store<u32>(ptr, next);
  store<u32>(ptr, 0, PREV);
  if (next != 0) store<u32>(<usize>next, <u32>ptr, PREV);
  store<u32>(head(k), <u32>ptr);
  listed |= 1 << k;
  store<u8>(stateOf(ptr), FREE | <u8>k);
}

function unlinkFree(ptr: usize, k: i32): void {
  const next = load<u32>(ptr), prev = load<u32>(ptr, PREV);
  if (next != 0) store<u32>(<usize>next, prev, PREV);
  if (prev != 0) {
    store<u32>(<usize>prev, next);
  } else {
    store<u32>(head(k), next);
    if (next == 0) listed &= ~(1 << k);
  }
  store<u8>(stateOf(ptr), 0);
}

/** The size class of a length: log2 of the block that holds it. */
// @ts-ignore: decorator
@inline
function shiftOf(len: i32): i32 {
  return len <= 1 << MIN_SHIFT ? MIN_SHIFT : 32 - <i32>clz(<u32>(len - 1));
}

/** @returns address of `len` uninitialised bytes, or 0 when there is no room */
export function heapAlloc(len: i32): usize {
  const k = shiftOf(len);
  if (len < 0 || k > MAX_SHIFT) return 0;
  const fit = listed & (<u32>-1 << k);
  if (fit == 0) return 0;
  let j = <i32>ctz(fit);
  const ptr = <usize>load<u32>(head(j));
  unlinkFree(ptr, j);
  while (j > k) {
    j--;
    pushFree(ptr + ((<usize>1) << j), j);
  }
  store<u8>(stateOf(ptr), USED | <u8>k);
  freeBytes -= (<usize>1) << k;
  return ptr;
}

/** Gives back what heapAlloc returned for the same length. */
export function heapFree(ptr: usize, len: i32): void {
  let k = shiftOf(len);
  if (ptr < arena || ptr - arena >= arenaBytes) broken(C_HEAP_RANGE);
  if (load<u8>(stateOf(ptr)) != (USED | <u8>k)) broken(C_HEAP_DOUBLE_FREE);
  freeBytes += (<usize>1) << k;
  store<u8>(stateOf(ptr), 0);
  while (k < MAX_SHIFT) {
    const buddy = arena + ((ptr - arena) ^ ((<usize>1) << k));
    if (buddy - arena >= arenaBytes || load<u8>(stateOf(buddy)) != (FREE | <u8>k)) break;
    unlinkFree(buddy, k);
    ptr = min(ptr, buddy);
    k++;
  }
  pushFree(ptr, k);
}

/** Bytes not allocated; a single allocation of that much may still fail. */
export function heapFreeBytes(): f64 {
  return <f64>freeBytes;
}

/** Size of the greatest block that can be allocated now, 0 when the heap is full. */
export function heapLargestFree(): i32 {
  return listed == 0 ? 0 : 1 << (31 - <i32>clz(listed));
}
