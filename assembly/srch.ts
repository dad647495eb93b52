/**
 * Srch files: the entries that name inodes by the names of their xattrs.
 *
 * A file is a radix tree of logical blocks 0 .. blocks-1. Parents hold 4094 references,
 * leaves hold entries (hash, ino, id), each coded as zig-zag differences to the one before
 * it in its block:
 *
 *  ╒═════════╤══════════╤═════════╤═════════╤════════╤══════════╤═════════════╕
 *  │header 32│ first 24 │ last 24 │ tail 24 │ nr 4   │ bytes 4  │ entries ... │
 *  ╘═════════╧══════════╧═════════╧═════════╧════════╧══════════╧═════════════╛
 *   entry: le16 of three lengths in nibbles │ that many low bytes of each difference
 *
 * A mount appends to the log file of its open transaction. An operation must not fail
 * half way, so appending is in two calls: `srchPrepare` makes the last leaf's path dirty,
 * asking for blocks, and makes sure of the blocks that a new leaf takes; after it a few
 * thousand bytes of entries can be appended without asking and without failing.
 *
 * Invariants
 *   - height is what `blocks` needs; a file without blocks has no root
 *   - no entry starts behind SAFE; the leaf is full when its bytes are beyond it
 *
 * Spec: srch.md 2 and 3; vectors core-vectors.json → srch.
 */
import { allocNeed } from './alloc_meta';
import {
  blockDirty, blockEnd, blockErr, blockNoNeed, blockRead, corrupt, CORRUPT_SRCH_BLOCK,
  CORRUPT_SRCH_FILE,
} from './block';
import { check, C_SRCH_ENTRY, C_SRCH_UNPREPARED } from './check';
import { count, N_SRCH_ADD_ENTRY } from './count';
import {
  HDR_BLKNO, MAGIC_SRCH_BLOCK, MAGIC_SRCH_PARENT, REF_BYTES, SB_BYTES, SB_ENTRIES, SB_FIRST,
  SB_LAST, SB_NR, SB_TAIL, SE_BYTES, SE_ID, SE_INO, SF_BLOCKS, SF_ENTRIES, SF_FIRST, SF_HEIGHT,
  SF_LAST, SF_REF, SP_REFS, SRCH_ENTRY_MAX_BYTES, SRCH_PARENT_REFS, SRCH_SAFE_BYTES,
} from './format';
import { fnv64 } from './hash';
import { NAME_WINDOW } from './window';

// ---- entries ----

/** Order of two entries: hash, ino, id, unsigned. */
export function entryCmp(a: usize, b: usize): i32 {
  let x = load<u64>(a), y = load<u64>(b);
  if (x == y) {
    x = load<u64>(a, SE_INO);
    y = load<u64>(b, SE_INO);
    if (x == y) {
      x = load<u64>(a, SE_ID);
      y = load<u64>(b, SE_ID);
    }
  }
  return x < y ? -1 : x > y ? 1 : 0;
}

// @ts-ignore: decorator
@inline
export function entryCopy(to: usize, from: usize): void {
  memory.copy(to, from, SE_BYTES);
}

/** Bytes that are needed for a zig-zag difference, 0..8. */
// @ts-ignore: decorator
@inline
function lenOf(z: u64): i32 {
  return (71 - <i32>clz(z)) >> 3;
}

// @ts-ignore: decorator
@inline
function zigZag(from: u64, to: u64): u64 {
  const d = to - from;
  return (d << 1) ^ <u64>(<i64>d >> 63);
}

/** Bytes that `entry` takes as differences to `prev`, without padding. */
export function entryLen(prev: usize, entry: usize): i32 {
  return 2 + lenOf(zigZag(load<u64>(prev), load<u64>(entry))) +
    lenOf(zigZag(load<u64>(prev, SE_INO), load<u64>(entry, SE_INO))) +
    lenOf(zigZag(load<u64>(prev, SE_ID), load<u64>(entry, SE_ID)));
}

/**
 * Writes `entry` at `at` as differences to `prev`, `pad` bytes longer than they have to be
 * (as far as eight bytes for each allow). Up to 26 bytes are stored, those behind the end as
 * zeros. @returns the bytes that it takes
 */
export function entryEncode(at: usize, prev: usize, entry: usize, pad: i32): i32 {
  const h = zigZag(load<u64>(prev), load<u64>(entry));
  const i = zigZag(load<u64>(prev, SE_INO), load<u64>(entry, SE_INO));
  const d = zigZag(load<u64>(prev, SE_ID), load<u64>(entry, SE_ID));
  let hn = lenOf(h), dn = lenOf(d), in_ = lenOf(i);
  if (pad > 0) {
    const end = hn + dn + in_ + pad;
    hn = min(8, end - dn - in_);
    in_ = min(8, end - dn - hn);
    dn = min(8, end - hn - in_);
  }
  store<u16>(at, <u16>(hn | (in_ << 4) | (dn << 8)));
  store<u64>(at, h, 2);
  store<u64>(at + <usize>hn, i, 2);
  store<u64>(at + <usize>(hn + in_), d, 2);
  return 2 + hn + in_ + dn;
}

// @ts-ignore: decorator
@inline
function step(field: usize, at: usize, len: i32): void {
  if (len == 0) return;
  const z = load<u64>(at) & (<u64>-1 >> <u64>((8 - len) << 3));
  store<u64>(field, load<u64>(field) + ((z >> 1) ^ (0 - (z & 1))));
}

/** Steps `cur` from the entry before to the one at `at`. @returns the bytes that it takes */
export function entryDecode(at: usize, cur: usize): i32 {
  const lens = <i32>load<u16>(at);
  const hn = min(lens & 15, 8), in_ = min((lens >> 4) & 15, 8), dn = min((lens >> 8) & 15, 8);
  step(cur, at + 2, hn);
  step(cur + SE_INO, at + 2 + <usize>hn, in_);
  step(cur + SE_ID, at + 2 + <usize>(hn + in_), dn);
  return 2 + hn + in_ + dn;
}

// ---- the radix tree ----

/** Levels that a file needs to have logical block `blk`. */
export function srchHeightFor(blk: u64): i32 {
  if (blk == 0) return 1;
  let height = 2;
  for (let span: u64 = SRCH_PARENT_REFS; blk >= span; span *= SRCH_PARENT_REFS) height++;
  return height;
}

/** Leaves below one reference of a parent at `level` (1: above the leaves). */
export function srchSpan(level: i32): u64 {
  let span: u64 = 1;
  for (; level > 1; level--) span *= SRCH_PARENT_REFS;
  return span;
}

/** The reference in a parent at `level` that leads to logical block `blk`. */
// @ts-ignore: decorator
@inline
export function srchRef(parent: usize, level: i32, blk: u64): usize {
  return parent + SP_REFS + <usize>(blk / srchSpan(level) % SRCH_PARENT_REFS) * REF_BYTES;
}

/** Whether a file's fields fit together. */
export function srchFileOk(sfl: usize): bool {
  const blocks = load<u64>(sfl, SF_BLOCKS);
  const height = <i32>load<u8>(sfl, SF_HEIGHT);
  const blkno = load<u64>(sfl, SF_REF);
  if (blocks == 0) return height == 0 && blkno == 0;
  return blkno != 0 && blocks <= blockEnd() && height == srchHeightFor(blocks - 1);
}

/** Whether a leaf's counts allow to work with its entries. */
function leafOk(leaf: usize): bool {
  const bytes = load<u32>(leaf, SB_BYTES);
  return bytes <= <u32>(SRCH_SAFE_BYTES + SRCH_ENTRY_MAX_BYTES) &&
    load<u32>(leaf, SB_NR) <= bytes >> 1;
}

/** A leaf for reading. @returns its address, or 0 with `blockErr` */
export function srchLeaf(sfl: usize, blk: u64): usize {
  let ref = sfl + SF_REF;
  for (let level = <i32>load<u8>(sfl, SF_HEIGHT) - 1; level > 0; level--) {
    const parent = blockRead(ref, MAGIC_SRCH_PARENT);
    if (parent == 0) return 0;
    ref = srchRef(parent, level, blk);
  }
  const leaf = blockRead(ref, MAGIC_SRCH_BLOCK);
  if (leaf == 0 || leafOk(leaf)) return leaf;
  corrupt(CORRUPT_SRCH_BLOCK, load<u64>(leaf, HDR_BLKNO));
  return 0;
}

/**
 * Makes the blocks that lead to `blk` dirty, from the root to `toLevel` (0: the leaf).
 * Missing ones are an error unless `create`. @returns the last, or 0 with `blockErr`
 */
function dirtyPath(al: usize, ws: usize, sfl: usize, blk: u64, toLevel: i32, create: bool): usize {
  let ref = sfl + SF_REF;
  let level = <i32>load<u8>(sfl, SF_HEIGHT) - 1;
  while (true) {
    if (!create && load<u64>(ref) == 0) {
      corrupt(CORRUPT_SRCH_FILE, load<u64>(sfl, SF_REF));
      return 0;
    }
    const b = blockDirty(al, ws, ref, level > 0 ? MAGIC_SRCH_PARENT : MAGIC_SRCH_BLOCK);
    if (b == 0 || level == toLevel) return b;
    ref = srchRef(b, level, blk);
    level--;
  }
}

/**
 * Makes sure that a leaf can be added without asking and without failing. `leafToo`: the
 * last leaf becomes dirty as well. @returns 0, NEED_BLOCK, -ENOSPC or another error
 */
export function srchPrepareLeaf(al: usize, ws: usize, sfl: usize, leafToo: bool): i32 {
  if (!srchFileOk(sfl)) return corrupt(CORRUPT_SRCH_FILE, load<u64>(sfl, SF_REF));
  const height = <i32>load<u8>(sfl, SF_HEIGHT);
  if (height > 1 || (height == 1 && leafToo)) {
    const last = load<u64>(sfl, SF_BLOCKS) - 1;
    const b = dirtyPath(al, ws, sfl, last, leafToo ? 0 : 1, false);
    if (b == 0) return blockErr;
    if (leafToo && !leafOk(b)) return corrupt(CORRUPT_SRCH_BLOCK, load<u64>(b, HDR_BLKNO));
  }
  // a new root, a parent on each level, the leaf, and what blockDirty keeps free
  return allocNeed(al, height + 3);
}

/** Adds an empty leaf behind the last, after srchPrepareLeaf. */
export function srchAddLeaf(al: usize, ws: usize, sfl: usize): usize {
  const blk = load<u64>(sfl, SF_BLOCKS);
  const wanted = srchHeightFor(blk);
  let height = <i32>load<u8>(sfl, SF_HEIGHT);
  if (height == 0) height = 1;
  for (; height < wanted; height++) {
    store<u64>(newRoot, 0);
    store<u64>(newRoot, 0, 8);
    const root = blockDirty(al, ws, newRoot, MAGIC_SRCH_PARENT);
    check(root != 0, C_SRCH_UNPREPARED);
    memory.copy(root + SP_REFS, sfl + SF_REF, REF_BYTES);
    memory.copy(sfl + SF_REF, newRoot, REF_BYTES);
  }
  store<u8>(sfl, <u8>height, SF_HEIGHT);
  const leaf = dirtyPath(al, ws, sfl, blk, 0, true);
  check(leaf != 0, C_SRCH_UNPREPARED);
  store<u64>(sfl, blk + 1, SF_BLOCKS);
  return leaf;
}

const newRoot: usize = memory.data(16, 16);

/**
 * Appends an entry to a leaf of the file, `pad` bytes longer than it has to be; `first` and
 * `last` of both widen to hold it.
 */
export function srchPut(sfl: usize, blk: u64, leaf: usize, entry: usize, pad: i32): void {
  const bytes = load<u32>(leaf, SB_BYTES);
  check(bytes <= <u32>SRCH_SAFE_BYTES, C_SRCH_ENTRY);
  const nr = load<u32>(leaf, SB_NR);
  widen(leaf + SB_FIRST, leaf + SB_LAST, entry, nr == 0);
  widen(sfl + SF_FIRST, sfl + SF_LAST, entry, nr == 0 && blk == 0);
  const len = entryEncode(leaf + SB_ENTRIES + <usize>bytes, leaf + SB_TAIL, entry, pad);
  entryCopy(leaf + SB_TAIL, entry);
  store<u32>(leaf, nr + 1, SB_NR);
  store<u32>(leaf, bytes + <u32>len, SB_BYTES);
  store<u64>(sfl, load<u64>(sfl, SF_ENTRIES) + 1, SF_ENTRIES);
}

function widen(first: usize, last: usize, entry: usize, fresh: bool): void {
  if (fresh || entryCmp(entry, first) < 0) entryCopy(first, entry);
  if (fresh || entryCmp(entry, last) > 0) entryCopy(last, entry);
}

// ---- the log file of a transaction ----

/** Everything that appending needs becomes dirty or is reserved: see above. */
export function srchPrepare(al: usize, ws: usize, sfl: usize): i32 {
  return srchPrepareLeaf(al, ws, sfl, true);
}

/** Appends an entry (24 bytes) to the file, after srchPrepare in the same tick. */
export function srchAppend(al: usize, ws: usize, sfl: usize, entry: usize): void {
  blockNoNeed(true);
  let blk = load<u64>(sfl, SF_BLOCKS);
  let leaf: usize = 0;
  if (blk != 0) {
    blk--;
    leaf = dirtyPath(al, ws, sfl, blk, 0, false);
    check(leaf != 0, C_SRCH_UNPREPARED);
    if (load<u32>(leaf, SB_BYTES) > <u32>SRCH_SAFE_BYTES) {
      leaf = 0;
      blk++;
    }
  }
  if (leaf == 0) leaf = srchAddLeaf(al, ws, sfl);
  srchPut(sfl, blk, leaf, entry, 0);
  blockNoNeed(false);
  count(N_SRCH_ADD_ENTRY);
}

const named: usize = memory.data(24, 16);

/** Appends the entry of the xattr whose full name of `nameLen` bytes is in the name window. */
export function srchAppendName(al: usize, ws: usize, sfl: usize, nameLen: i32, ino: u64,
  id: u64): void {
  store<u64>(named, fnv64(NAME_WINDOW, nameLen));
  store<u64>(named, ino, SE_INO);
  store<u64>(named, id, SE_ID);
  srchAppend(al, ws, sfl, named);
}
