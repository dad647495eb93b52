/**
 * What the host calls of blocks, trees and allocators.
 *
 * Addresses of roots (24 bytes), alloc roots (40), list heads (32) and keys (32) are
 * memory that the host got from heapAlloc or the argument window. 64-bit counts
 * cross as f64 (exact to 2^53). Calls return 0 or a positive result, NEED_BLOCK
 * (bring in what the need window lists, call again) or a negative errno. Results
 * that do not fit one number are in the LIST window.
 */
import {
  allocInit, allocAvailNr, allocFreedRemaining, allocFreedRoom, allocPrepare, allocPrepareCommit,
  AL_AVAIL, AL_FREED, freeMeta,
} from './alloc_meta';
import { arenaAt, arenaSet } from './arena';
import {
  checkList, emptyList, fillList, movedLen, moveExtents, moveSnapshot, spliceList, zonesOf,
} from './alloc';
import {
  blockBegin, blockErr, blockInit, blockRead, blockSeed, blockTableBytes, blockVolume,
  ENTRY_BYTES,
} from './block';
import {
  btreeDelete, btreeDirty, btreeForce, btreeGetParent, btreeInsert, btreeApply, btreeLookup,
  btreeNext,
  btreeParentRange, btreePrev, btreeRebalance, btreeSetParent, btreeUpdate, nextLeaf, walk,
  W_PARENT, wEnd, wIterNext,
} from './btree';
import { itemVal, valLen } from './btree_block';
import { C_MERGE_WINDOW, check } from './check';
import { extAlloc, extInsert, extRemove, gotLen, gotStart } from './ext';
import {
  BLOCK_BYTES, ENOENT, ENOMEM, ITEM_FLAGS, ITEM_KEY, ITEM_SEQ, LH_BYTES, MAX_VAL_LEN,
} from './format';
import { freedNr, freeTree } from './free_tree';
import { heapInit } from './heap';
import { keyCmp, keyCopy, keyIsZeros } from './key';
import { LIST_WINDOW, LIST_WINDOW_BYTES } from './layout';
import { mergeArenaBytes, mergeNext, mergeProgress, mergeRun, mergeStart } from './merge';

let mergeWindowMax: i32 = 0;

/**
 * Lays the memory out. `slotNr` block slots take the end of memory, a merge arena
 * for windows of `mergeWindow` bytes (0: none) comes before, the heap gets the rest.
 * @returns bytes of heap, or -ENOMEM when it does not fit
 */
export function core_init(slotNr: i32, mergeWindow: i32): i32 {
  const memoryEnd = <usize>memory.size() << 16;
  const slots = memoryEnd - (<usize>slotNr << 16);
  const bytes = mergeWindow > 0 ? mergeArenaBytes(mergeWindow) : 0;
  const heapAt = (__heap_base + 63) & ~63;
  // Signed: what does not fit must not wrap around to a high address.
  const room = <i64>slots - <i64>bytes - <i64>blockTableBytes(slotNr) - <i64>heapAt;
  if (room <= 65536 + 63) return -ENOMEM;
  mergeWindowMax = mergeWindow;
  const tables = (slots - <usize>bytes - <usize>blockTableBytes(slotNr)) & ~63;
  arenaSet((tables + <usize>blockTableBytes(slotNr) + 15) & ~15, bytes);
  blockInit(tables, slots, slotNr);
  heapInit(heapAt, tables);
  return <i32>(tables - heapAt);
}

/** fsid in two halves and the metadata device's size in large blocks. */
export function core_volume(fsidLo: u32, fsidHi: u32, totalBlocks: f64): void {
  blockVolume(<u64>fsidLo | (<u64>fsidHi << 32), <u64>totalBlocks);
}

/** Seeds block seqs with 32 random bytes at `at`. */
export function core_seed(at: usize): void {
  blockSeed(load<u64>(at), load<u64>(at, 8), load<u64>(at, 16), load<u64>(at, 24));
}

/** Whether a reference's block is there and sound. @returns 0, NEED_BLOCK, -ESTALE, -EIO */
export function block_check(ref: usize, magic: u32): i32 {
  blockBegin();
  return blockRead(ref, magic) == 0 ? blockErr : 0;
}

// ---- trees ----

export function btree_lookup(root: usize, key: usize, out: usize, maxLen: i32): i32 {
  blockBegin();
  return btreeLookup(root, key, out, maxLen);
}

function leaveItem(item: usize, key: usize, out: usize, maxLen: i32): i32 {
  if (item == 0) return blockErr;
  keyCopy(key, item + ITEM_KEY);
  const len = valLen(item);
  memory.copy(out, itemVal(nextLeaf, item), <usize>min(len, maxLen));
  return len;
}

/** First item at or after `key`; its key replaces `key`. @returns value length, -ENOENT, ... */
export function btree_next(root: usize, key: usize, out: usize, maxLen: i32): i32 {
  blockBegin();
  return leaveItem(btreeNext(root, key), key, out, maxLen);
}

/** Last item at or before `key`; its key replaces `key`. */
export function btree_prev(root: usize, key: usize, out: usize, maxLen: i32): i32 {
  blockBegin();
  return leaveItem(btreePrev(root, key), key, out, maxLen);
}

export function btree_insert(al: usize, ws: usize, root: usize, key: usize, val: usize,
  len: i32): i32 {
  blockBegin();
  return btreeInsert(al, ws, root, key, val, len);
}

export function btree_update(al: usize, ws: usize, root: usize, key: usize, val: usize,
  len: i32): i32 {
  blockBegin();
  return btreeUpdate(al, ws, root, key, val, len);
}

export function btree_force(al: usize, ws: usize, root: usize, key: usize, val: usize,
  len: i32): i32 {
  blockBegin();
  return btreeForce(al, ws, root, key, val, len);
}

export function btree_delete(al: usize, ws: usize, root: usize, key: usize): i32 {
  blockBegin();
  return btreeDelete(al, ws, root, key);
}

export function btree_dirty(al: usize, ws: usize, root: usize, key: usize): i32 {
  blockBegin();
  return btreeDirty(al, ws, root, key);
}

export function btree_apply(al: usize, ws: usize, root: usize, key: usize, seq: f64, flags: i32,
  val: usize, len: i32): i32 {
  blockBegin();
  return btreeApply(al, ws, root, key, <u64>seq, <u8>flags, val, len);
}

export function btree_rebalance(al: usize, ws: usize, root: usize, key: usize): i32 {
  blockBegin();
  return btreeRebalance(al, ws, root, key);
}

export function btree_parent_range(root: usize, key: usize, start: usize, end: usize): i32 {
  blockBegin();
  return btreeParentRange(root, key, start, end);
}

export function btree_get_parent(root: usize, key: usize, out: usize): i32 {
  blockBegin();
  return btreeGetParent(root, key, out);
}

export function btree_set_parent(al: usize, ws: usize, root: usize, key: usize, sub: usize): i32 {
  blockBegin();
  return btreeSetParent(al, ws, root, key, sub);
}

export function tree_free(al: usize, root: usize, key: usize, budget: i32): i32 {
  blockBegin();
  return freeTree(al, root, key, budget);
}

export function tree_freed_nr(): i32 { return freedNr; }

// ---- merging ----

export function merge_start(al: usize, ws: usize, root: usize, inputs: usize, nr: i32,
  startKey: usize, endKey: usize, subtree: i32, dirtyMaxBlocks: i32, allocLowNr: i32,
  window: i32): void {
  check(window > 0 && window <= mergeWindowMax, C_MERGE_WINDOW);
  mergeStart(al, ws, root, inputs, nr, startKey, endKey, subtree != 0, dirtyMaxBlocks, allocLowNr,
    window, arenaAt);
}

/** 0 done, -ERANGE stopped at the key that merge_next copies out, NEED_BLOCK, errors. */
export function merge_run(): i32 {
  blockBegin();
  return mergeRun();
}

export function merge_progress(): i32 { return <i32>mergeProgress; }

export function merge_next(out: usize): void { keyCopy(out, mergeNext); }

// ---- allocators ----

export function alloc_init(al: usize, ws: usize, avail: usize, freed: usize): void {
  allocInit(al, ws, avail, freed);
}

/** Copies the heads out and lets go of the list blocks: before the writer set is written. */
export function alloc_finish(al: usize, avail: usize, freed: usize): void {
  allocPrepareCommit(al);
  memory.copy(avail, al + AL_AVAIL, LH_BYTES);
  memory.copy(freed, al + AL_FREED, LH_BYTES);
}

export function alloc_first_use(al: usize): i32 {
  blockBegin();
  return allocPrepare(al);
}

export function alloc_avail_nr(al: usize): i32 { return <i32>allocAvailNr(al); }
export function alloc_freed_room(al: usize): i32 { return <i32>allocFreedRoom(al); }
export function alloc_freed_remaining(al: usize): i32 { return <i32>allocFreedRemaining(al); }

export function alloc_free_blkno(al: usize, blkno: f64): i32 {
  blockBegin();
  return freeMeta(al, <u64>blkno);
}

/** Whether the list of a peer's head is there, whole and as long as the head says. */
export function list_check(head: usize): i32 {
  blockBegin();
  return checkList(head);
}

export function list_fill(al: usize, ws: usize, head: usize, aroot: usize, lo: i32,
  target: i32): i32 {
  blockBegin();
  return fillList(al, ws, head, aroot, <u32>lo, <u32>target);
}

export function list_empty(al: usize, ws: usize, head: usize, aroot: usize): i32 {
  blockBegin();
  return emptyList(al, ws, head, aroot);
}

export function list_splice(al: usize, ws: usize, dst: usize, src: usize): i32 {
  blockBegin();
  return spliceList(al, ws, dst, src);
}

export function ext_insert(al: usize, ws: usize, aroot: usize, start: f64, len: f64): i32 {
  blockBegin();
  return extInsert(al, ws, aroot, <u64>start, <u64>len);
}

export function ext_remove(al: usize, ws: usize, aroot: usize, start: f64, len: f64): i32 {
  blockBegin();
  return extRemove(al, ws, aroot, <u64>start, <u64>len);
}

/** Takes up to `count` blocks; start and length are ext_got_start and ext_got_len. */
export function ext_alloc(al: usize, ws: usize, aroot: usize, count: f64): i32 {
  blockBegin();
  return extAlloc(al, ws, aroot, <u64>count);
}

export function ext_got_start(): f64 { return <f64>gotStart; }
export function ext_got_len(): f64 { return <f64>gotLen; }

export function ext_move_snapshot(al: usize): void { moveSnapshot(al); }

export function ext_move(al: usize, ws: usize, dst: usize, src: usize, total: f64,
  exclusive: usize, vacant: usize, zoneBlocks: f64, budget: i32): i32 {
  blockBegin();
  return moveExtents(al, ws, dst, src, <u64>total, exclusive, vacant, <u64>zoneBlocks, <u32>budget);
}

export function ext_moved(): f64 { return <f64>movedLen; }

export function ext_zones(aroot: usize, zoneBlocks: f64, bits: usize): i32 {
  blockBegin();
  return zonesOf(aroot, <u64>zoneBlocks, bits);
}
