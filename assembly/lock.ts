/**
 * Lock records: what the item cache has to know of a granted cluster lock.
 *
 *   0              32             64     68     72          80         88
 *  ╒═══════════════╤══════════════╤══════╤══════╤═══════════╤══════════╤════════════╕
 *  │ start key   32│ end key    32│mode 4│magic4│ write_seq8│ bloom_in8│ dirty_seq 8│
 *  ├──────┬────────┼──────────────┴──────┴──────┴───────────┴──────────┴────────────┘
 *  │prev 4│ next 4 │ 96..103
 *  ╘══════╧════════╛
 *
 * The key range is inclusive and fixed for life; mode and write_seq change with
 * every grant. `bloom_in` says which of the mount's log trees has the lock's bits
 * in its bloom block, as forest.ts counts them (0: none). `dirty_seq` is the transaction
 * that last changed an item under the lock: giving the lock up needs a commit only if that
 * is the open one.
 *
 * Records are in one list, because a commit visits all that changed something.
 * The host names a record by its address; a foreign address traps.
 *
 * Spec: item.md 2 and 8, forest.md 3.
 */
import { check, C_LOCK_RECORD } from './check';
import { heapAlloc, heapFree } from './heap';
import { keyCmp, keyCopy } from './key';
import { KEY_A, KEY_B } from './window';

// @ts-ignore: decorator
@inline const RECORD_BYTES: i32 = 104;
// @ts-ignore: decorator
@inline const MAGIC: u32 = 0x6b636f6c;
// @ts-ignore: decorator
@inline const END: usize = 32;
// @ts-ignore: decorator
@inline const MODE: usize = 64;
// @ts-ignore: decorator
@inline const MAGIC_AT: usize = 68;
// @ts-ignore: decorator
@inline const WRITE_SEQ: usize = 72;
// @ts-ignore: decorator
@inline const BLOOM_IN: usize = 80;
// @ts-ignore: decorator
@inline const DIRTY_SEQ: usize = 88;
// @ts-ignore: decorator
@inline const PREV: usize = 96;
// @ts-ignore: decorator
@inline const NEXT: usize = 100;

// @ts-ignore: decorator
@inline export const LOCK_NULL: i32 = 0;
// @ts-ignore: decorator
@inline export const LOCK_READ: i32 = 1;
// @ts-ignore: decorator
@inline export const LOCK_WRITE: i32 = 2;
// @ts-ignore: decorator
@inline export const LOCK_WRITE_ONLY: i32 = 3;

let head: usize = 0;

/** Forgets all records (their memory went with the heap). */
export function lockInit(): void {
  head = 0;
}

/**
 * A record for the range from the key in register A to the key in register B,
 * in mode NULL.
 * @returns its address, 0 when memory is full or the range is inverted
 */
export function lockAlloc(): usize {
  if (keyCmp(KEY_A, KEY_B) > 0) return 0;
  const lock = heapAlloc(RECORD_BYTES);
  if (lock == 0) return 0;
  memory.fill(lock, 0, RECORD_BYTES);
  keyCopy(lock, KEY_A);
  keyCopy(lock + END, KEY_B);
  store<u32>(lock, MAGIC, MAGIC_AT);
  store<u32>(lock, <u32>head, NEXT);
  if (head != 0) store<u32>(head, <u32>lock, PREV);
  head = lock;
  return lock;
}

/** Gives a record back. The items of its range must have been invalidated. */
export function lockFree(lock: usize): void {
  lockCheck(lock);
  const prev = <usize>load<u32>(lock, PREV), next = <usize>load<u32>(lock, NEXT);
  if (prev != 0) store<u32>(prev, <u32>next, NEXT);
  else head = next;
  if (next != 0) store<u32>(next, <u32>prev, PREV);
  store<u32>(lock, 0, MAGIC_AT);
  heapFree(lock, RECORD_BYTES);
}

/** Traps unless the address is that of a record. */
// @ts-ignore: decorator
@inline
export function lockCheck(lock: usize): void {
  check(load<u32>(lock, MAGIC_AT) == MAGIC, C_LOCK_RECORD);
}

/** A grant: sets the mode, and the write_seq that came with it (0 for NULL and READ). */
export function lockSetMode(lock: usize, mode: i32, writeSeq: f64): void {
  lockCheck(lock);
  store<u32>(lock, <u32>mode, MODE);
  store<u64>(lock, <u64>writeSeq, WRITE_SEQ);
}

// @ts-ignore: decorator
@inline
export function lockModeOf(lock: usize): i32 {
  return <i32>load<u32>(lock, MODE);
}

// @ts-ignore: decorator
@inline
export function lockEnd(lock: usize): usize {
  return lock + END;
}

// @ts-ignore: decorator
@inline
export function lockWriteSeq(lock: usize): u64 {
  return load<u64>(lock, WRITE_SEQ);
}

// @ts-ignore: decorator
@inline
export function lockBloomIn(lock: usize): u64 {
  return load<u64>(lock, BLOOM_IN);
}

// @ts-ignore: decorator
@inline
export function lockSetBloomIn(lock: usize, tree: u64): void {
  store<u64>(lock, tree, BLOOM_IN);
}

// @ts-ignore: decorator
@inline
export function lockDirtySeq(lock: usize): u64 {
  return load<u64>(lock, DIRTY_SEQ);
}

// @ts-ignore: decorator
@inline
export function lockSetDirtySeq(lock: usize, seq: u64): void {
  store<u64>(lock, seq, DIRTY_SEQ);
}

/** First record of the list, 0 if there is none. */
// @ts-ignore: decorator
@inline
export function lockFirst(): usize {
  return head;
}

// @ts-ignore: decorator
@inline
export function lockNext(lock: usize): usize {
  return <usize>load<u32>(lock, NEXT);
}

/** True when the key is in the lock's range. */
// @ts-ignore: decorator
@inline
export function lockCovers(lock: usize, key: usize): bool {
  return keyCmp(lock, key) <= 0 && keyCmp(key, lock + END) <= 0;
}

/** For the host: the transaction that last changed an item under the lock, 0 if none did. */
export function lockLastDirtySeq(lock: usize): f64 {
  lockCheck(lock);
  return <f64>lockDirtySeq(lock);
}

/** For the host: the current mode. */
export function lockMode(lock: usize): i32 {
  lockCheck(lock);
  return lockModeOf(lock);
}
