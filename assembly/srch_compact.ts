/**
 * Compacting srch files: a mount's piece of the work that the server hands out.
 *
 *   LOG     all entries of unsorted files, sorted, into one sorted file
 *   SORTED  sorted files merged into one, in pieces: positions are in the struct
 *   DELETE  the blocks of the inputs given back, child by child from the bottom
 *
 * The struct (`scoutfs_srch_compact`, 584 bytes) is in the caller's memory; its output
 * file, positions and flags change in place. `compactRun` does a bounded part, so that
 * blocks which it read can be evicted, and says MORE; it returns 0 when the phase is
 * complete (DONE is set) or has to stop with its progress recorded, because enough is
 * dirty or the allocator is low.
 *
 * Merging holds back one entry. It is written when the next one differs and dropped
 * together with an equal one, so no block is ever left empty and pairs cancel wherever
 * they are. A position moves when its entry leaves the reader; before a piece ends the
 * entry that is held back is written, so what the positions have passed is in the output
 * or cancelled. A leaf of the output is added only when there is an entry to put in it,
 * and room for one is made sure of before an entry is taken.
 *
 * Two triggers make rare positions happen, for tests of any reader: PAD writes the entries of
 * a LOG phase so that one starts at SAFE in every full leaf, STOP ends a SORTED piece when an
 * input has come to SAFE.
 *
 * Spec: srch.md 5.3, 5.4.
 */
import { allocLow, allocPrepare, freeMeta } from './alloc_meta';
import {
  blockErr, blockRead, corrupt, CORRUPT_SRCH_BLOCK, CORRUPT_SRCH_FILE, setBlockErr, wsetCount,
} from './block';
import {
  EINVAL, ENOSPC, HDR_BLKNO, MAGIC_SRCH_PARENT, NEED_BLOCK, SB_BYTES, SB_ENTRIES, SE_BYTES,
  SB_TAIL, SF_BLOCKS, SF_HEIGHT, SF_REF, SRCH_ENTRY_MAX_BYTES, SRCH_SAFE_BYTES,
} from './format';
import {
  entryCmp, entryCopy, entryDecode, entryLen, srchAddLeaf, srchFileOk, srchLeaf, srchPrepareLeaf,
  srchPut, srchRef, srchSpan,
} from './srch';
import { sortAdd, sortBegin, sortEntry, sortNr, sortPassEnd, sortPassNext } from './srch_sort';

// struct scoutfs_srch_compact
// @ts-ignore: decorator
@inline const SC_NR: usize = 72;
// @ts-ignore: decorator
@inline const SC_FLAGS: usize = 73;
// @ts-ignore: decorator
@inline const SC_OUT: usize = 80;
// @ts-ignore: decorator
@inline const SC_IN: usize = 168;
// @ts-ignore: decorator
@inline const SC_INPUTS_MAX: i32 = 4;
// struct scoutfs_srch_compact_input: the file, then
// @ts-ignore: decorator
@inline const IN_BLK: usize = 88;
// @ts-ignore: decorator
@inline const IN_POS: usize = 96;
// @ts-ignore: decorator
@inline const IN_BYTES: usize = 104;
// @ts-ignore: decorator
@inline const LOG: i32 = 1;
// @ts-ignore: decorator
@inline const SORTED: i32 = 2;
// @ts-ignore: decorator
@inline const DELETE: i32 = 4;
// @ts-ignore: decorator
@inline const DONE: i32 = 16;

// triggers
// @ts-ignore: decorator
@inline const PAD: i32 = 1;
// @ts-ignore: decorator
@inline const STOP: i32 = 2;

/** A part of the work is done; call again. */
// @ts-ignore: decorator
@inline const MORE: i32 = 1;
/** Blocks that one call reads or adds. */
// @ts-ignore: decorator
@inline const STEP_BLOCKS: i32 = 16;
/** Numbers freed by one call. */
// @ts-ignore: decorator
@inline const STEP_FREES: i32 = 1024;
/** Blocks asked for together. */
// @ts-ignore: decorator
@inline const READ_AHEAD: u64 = 8;
/** Blocks kept for the next leaf beyond the height of the output. */
// @ts-ignore: decorator
@inline const SPARE_BLOCKS: i32 = 4;
/** Room in the lists that a deletion leaves. */
// @ts-ignore: decorator
@inline const DELETE_ROOM: u32 = 2;

// the job
let al: usize = 0;
let ws: usize = 0;
let sc: usize = 0;
let dirtyMax: i32 = 0;
/** PAD, STOP, or both. */
let triggers: i32 = 0;
/** Those of them that had an effect. */
export let compactFired: i32 = 0;
/** SORTED: the piece ends when the entry that is held back is written. */
let isStopping: bool = false;
/** The leaf of the output that is being filled, 0: the next entry needs one. */
let outLeaf: usize = 0;
/** Leaves read or added, or numbers freed, since the last MORE. */
let steps: i32 = 0;
/** Grows whenever what was read before is done with. */
export let compactProgress: i32 = 0;
/** Entries written, and entries that cancelled each other. */
export let compactEntries: u32 = 0;
export let compactRemoved: u32 = 0;

// LOG: the leaf that is read next, and the entry of the pass that is written next
let logInput: i32 = 0;
let logBlk: u64 = 0;
let logWriting: bool = false;
let logAt: i32 = 0;
/** Whether this is the first pass, and how many entries that met. */
let logFirst: bool = true;
let logEntries: u32 = 0;

// SORTED: readers, each { state u32, next pos u32, entry 24, leaf u32 of this call, pad }
// @ts-ignore: decorator
@inline const R_STATE: usize = 0;
// @ts-ignore: decorator
@inline const R_NEXT: usize = 4;
// @ts-ignore: decorator
@inline const R_ENTRY: usize = 8;
// @ts-ignore: decorator
@inline const R_BYTES: usize = 32;
// @ts-ignore: decorator
@inline const R_EMPTY: u32 = 0;
// @ts-ignore: decorator
@inline const R_LOADED: u32 = 1;
// @ts-ignore: decorator
@inline const R_ENDED: u32 = 2;
const readers: usize = memory.data(128, 16);
const held: usize = memory.data(24, 16);
let isHeld: bool = false;
const decoded: usize = memory.data(24, 16);

/**
 * Starts a piece of work. Entries of a LOG phase are sorted in a buffer of `bufferBytes`.
 * `dirtyMaxBlocks` bounds the writer set. `armed`: the triggers. @returns 0, or an error for a
 * struct that is wrong
 */
export function compactStart(alloc: usize, wset: usize, compact: usize, dirtyMaxBlocks: i32,
  armed: i32, buffer: usize, bufferBytes: i32): i32 {
  al = alloc;
  ws = wset;
  sc = compact;
  dirtyMax = dirtyMaxBlocks;
  compactFired = 0;
  isStopping = false;
  outLeaf = 0;
  isHeld = false;
  compactProgress = 0;
  steps = 0;
  compactEntries = compactRemoved = 0;
  logInput = 0;
  logBlk = 0;
  logWriting = false;
  logFirst = true;
  logEntries = 0;
  memory.fill(readers, 0, R_BYTES * <usize>SC_INPUTS_MAX);
  sortBegin(buffer, bufferBytes / <i32>SE_BYTES);
  const phase = <i32>load<u8>(sc, SC_FLAGS);
  triggers = phase == LOG ? armed & PAD : phase == SORTED ? armed & STOP : 0;
  const nr = nrInputs();
  if (nr < 1 || nr > SC_INPUTS_MAX || (phase != LOG && phase != SORTED && phase != DELETE)) {
    return -EINVAL;
  }
  for (let i = 0; i < nr; i++) {
    if (!srchFileOk(input(i))) return corrupt(CORRUPT_SRCH_FILE, load<u64>(input(i), SF_REF));
  }
  return srchFileOk(sc + SC_OUT) ? 0 : corrupt(CORRUPT_SRCH_FILE, load<u64>(sc + SC_OUT, SF_REF));
}

/** 0 (stopped, or done and DONE set), MORE, NEED_BLOCK, errors. */
export function compactRun(): i32 {
  const phase = <i32>load<u8>(sc, SC_FLAGS);
  const r = phase == LOG ? runLog() : phase == SORTED ? runSorted() : runDelete();
  if (r == MORE) {
    compactProgress++;
    steps = 0;
  }
  return r;
}

// @ts-ignore: decorator
@inline
function nrInputs(): i32 { return <i32>load<u8>(sc, SC_NR); }

// @ts-ignore: decorator
@inline
function input(i: i32): usize { return sc + SC_IN + <usize>i * IN_BYTES; }

// @ts-ignore: decorator
@inline
function blocksOf(sfl: usize): u64 { return load<u64>(sfl, SF_BLOCKS); }

function setDone(): i32 {
  store<u8>(sc, load<u8>(sc, SC_FLAGS) | <u8>DONE, SC_FLAGS);
  return 0;
}

// ---- reading leaves ----

/** Reads leaf `blk`, and asks for those behind it together with it. 0 with `blockErr` */
function leafAhead(sfl: usize, blk: u64): usize {
  const leaf = srchLeaf(sfl, blk);
  if (leaf != 0 || blockErr != NEED_BLOCK) return leaf;
  const end = min(blk + READ_AHEAD, blocksOf(sfl));
  for (let b = blk + 1; b < end; b++) {
    if (srchLeaf(sfl, b) == 0 && blockErr != NEED_BLOCK) break;
  }
  setBlockErr(NEED_BLOCK);
  return 0;
}

/**
 * Steps `cur` to the entry at `pos` of a leaf. @returns the position behind it, or
 * -EIO where none can be
 */
function stepEntry(leaf: usize, pos: i32, cur: usize): i32 {
  const bytes = <i32>load<u32>(leaf, SB_BYTES);
  if (pos > SRCH_SAFE_BYTES || pos + 2 > bytes) {
    return corrupt(CORRUPT_SRCH_BLOCK, load<u64>(leaf, HDR_BLKNO));
  }
  const next = pos + entryDecode(leaf + SB_ENTRIES + <usize>pos, cur);
  return next <= bytes ? next : corrupt(CORRUPT_SRCH_BLOCK, load<u64>(leaf, HDR_BLKNO));
}

// ---- writing the output ----

/** Enough is dirty, or the allocator may not have what the next leaf takes. */
function mustStop(): bool {
  const height = <u32>load<u8>(sc + SC_OUT, SF_HEIGHT);
  return wsetCount(ws) >= dirtyMax || allocLow(al, height + SPARE_BLOCKS);
}

/** Whether the next entry needs a new leaf. */
// @ts-ignore: decorator
@inline
function needsLeaf(): bool {
  return outLeaf == 0 || load<u32>(outLeaf, SB_BYTES) > <u32>SRCH_SAFE_BYTES;
}

/** Writes an entry. @returns 0 or an error, with nothing changed */
function putEntry(entry: usize): i32 {
  if (needsLeaf()) {
    const e = srchPrepareLeaf(al, ws, sc + SC_OUT, false);
    if (e != 0) return e;
    outLeaf = srchAddLeaf(al, ws, sc + SC_OUT);
  }
  const pad = (triggers & PAD) != 0 ? padding(entry) : 0;
  srchPut(sc + SC_OUT, blocksOf(sc + SC_OUT) - 1, outLeaf, entry, pad);
  if ((triggers & PAD) != 0 && load<u32>(outLeaf, SB_BYTES) == SRCH_SAFE_BYTES) {
    compactFired |= PAD;
  }
  compactEntries++;
  return 0;
}

/** What lengthens an entry so that it ends at SAFE, or so far before it that the next can. */
function padding(entry: usize): i32 {
  const len = entryLen(outLeaf + SB_TAIL, entry);
  const room = SRCH_SAFE_BYTES - <i32>load<u32>(outLeaf, SB_BYTES);
  const wanted = room > SRCH_ENTRY_MAX_BYTES ? room - SRCH_ENTRY_MAX_BYTES : room;
  return wanted > SRCH_ENTRY_MAX_BYTES || wanted < len ? 0 : wanted - len;
}

// ---- LOG ----

function runLog(): i32 {
  const e = allocPrepare(al);
  if (e != 0) return e;
  return logWriting ? writePass() : readPass();
}

/** Offers all entries of some leaves to the sort. */
function readPass(): i32 {
  for (; steps < STEP_BLOCKS; steps++) {
    while (logInput < nrInputs() && logBlk >= blocksOf(input(logInput))) {
      logInput++;
      logBlk = 0;
    }
    if (logInput == nrInputs()) {
      sortPassEnd();
      logWriting = true;
      logAt = 0;
      return MORE;
    }
    const leaf = leafAhead(input(logInput), logBlk);
    if (leaf == 0) return blockErr;
    const bytes = <i32>load<u32>(leaf, SB_BYTES);
    memory.fill(decoded, 0, SE_BYTES);
    for (let pos = 0; pos < bytes;) {
      pos = stepEntry(leaf, pos, decoded);
      if (pos < 0) return pos;
      sortAdd(decoded);
      if (logFirst) logEntries++;
    }
    logBlk++;
  }
  return MORE;
}

/** Writes entries of the sorted pass; what does not fit at all cannot be continued. */
function writePass(): i32 {
  for (; logAt < sortNr(); logAt++) {
    if (needsLeaf()) {
      if (mustStop()) return -ENOSPC;
      if (steps++ == STEP_BLOCKS) return MORE;
    }
    const e = putEntry(sortEntry(logAt));
    if (e != 0) return e;
  }
  if (!sortPassNext()) {
    compactRemoved = logEntries - compactEntries;
    return setDone();
  }
  logFirst = false;
  logWriting = false;
  logInput = 0;
  logBlk = 0;
  return MORE;
}

// ---- SORTED ----

// @ts-ignore: decorator
@inline
function reader(i: i32): usize { return readers + <usize>i * R_BYTES; }

/** Makes the entry at the input's position the reader's. @returns 0, NEED_BLOCK, errors */
function loadEntry(i: i32): i32 {
  const r = reader(i);
  const sfl = input(i);
  while (load<u64>(sfl, IN_BLK) < blocksOf(sfl)) {
    const leaf = leafAhead(sfl, load<u64>(sfl, IN_BLK));
    if (leaf == 0) return blockErr;
    const pos = load<u64>(sfl, IN_POS);
    if (pos < <u64>load<u32>(leaf, SB_BYTES)) return loadAt(r, leaf, <i32>pos);
    // an empty block, or a position behind the last entry
    steps++;
    store<u64>(sfl, load<u64>(sfl, IN_BLK) + 1, IN_BLK);
    store<u64>(sfl, 0, IN_POS);
    store<u32>(r, 0, R_NEXT);
  }
  store<u32>(r, R_ENDED, R_STATE);
  return 0;
}

/** The entry before is in the reader when it stood there; else all of the leaf is decoded. */
function loadAt(r: usize, leaf: usize, pos: i32): i32 {
  entryCopy(decoded, r + R_ENTRY);
  let at = <i32>load<u32>(r, R_NEXT);
  if (pos == 0 || at != pos) {
    memory.fill(decoded, 0, SE_BYTES);
    at = 0;
  }
  while (at < pos) {
    at = stepEntry(leaf, at, decoded);
    if (at < 0) return at;
  }
  if (at != pos) return corrupt(CORRUPT_SRCH_BLOCK, load<u64>(leaf, HDR_BLKNO));
  const next = stepEntry(leaf, pos, decoded);
  if (next < 0) return next;
  entryCopy(r + R_ENTRY, decoded);
  store<u32>(r, <u32>next, R_NEXT);
  store<u32>(r, R_LOADED, R_STATE);
  return 0;
}

/** The reader's entry leaves it. */
function passEntry(i: i32): void {
  const pos = load<u32>(reader(i), R_NEXT);
  store<u64>(input(i), <u64>pos, IN_POS);
  if (pos == SRCH_SAFE_BYTES && (triggers & STOP) != 0) {
    isStopping = true;
    compactFired |= STOP;
  }
  store<u32>(reader(i), R_EMPTY, R_STATE);
}

/** The reader with the least entry, all of which are loaded; -1 when all have ended. */
function leastReader(): i32 {
  let best = -1;
  for (let i = 0; i < nrInputs(); i++) {
    if (load<u32>(reader(i), R_STATE) != R_LOADED) continue;
    if (best < 0 || entryCmp(reader(i) + R_ENTRY, reader(best) + R_ENTRY) < 0) best = i;
  }
  return best;
}

/** Writes the entry that is held back. */
function flushHeld(): i32 {
  if (!isHeld) return 0;
  const e = putEntry(held);
  if (e == 0) isHeld = false;
  return e;
}

function runSorted(): i32 {
  let e = allocPrepare(al);
  if (e != 0) return e;
  while (true) {
    if (isStopping) return flushHeld();
    if (steps >= STEP_BLOCKS) return MORE;
    for (let i = 0; i < nrInputs(); i++) {
      if (load<u32>(reader(i), R_STATE) != R_EMPTY) continue;
      e = loadEntry(i);
      if (e != 0) return e;
    }
    const i = leastReader();
    if (i < 0) {
      e = flushHeld();
      return e == 0 ? setDone() : e;
    }
    const entry = reader(i) + R_ENTRY;
    if (isHeld) {
      const c = entryCmp(held, entry);
      if (c == 0) {
        isHeld = false;
        compactRemoved += 2;
        passEntry(i);
        continue;
      }
      // the inputs, or the output, would not be sorted
      if (c > 0) return corrupt(CORRUPT_SRCH_FILE, load<u64>(input(i), SF_REF));
      e = flushHeld();
      if (e != 0) return e;
    }
    if (needsLeaf()) {
      if (mustStop()) return 0;
      steps++;
      // the leaf comes with its first entry, but then nothing may be missing
      e = srchPrepareLeaf(al, ws, sc + SC_OUT, false);
      if (e != 0) return e;
    }
    entryCopy(held, entry);
    isHeld = true;
    passEntry(i);
  }
}

// ---- DELETE ----

function runDelete(): i32 {
  const e = allocPrepare(al);
  if (e != 0) return e;
  for (let i = 0; i < nrInputs(); i++) {
    const sfl = input(i);
    const height = <u64>load<u8>(sfl, SF_HEIGHT);
    if (load<u64>(sfl, IN_POS) == 0) store<u64>(sfl, 1, IN_POS);
    if (load<u64>(sfl, IN_POS) > height + 1) return -EINVAL;
    while (load<u64>(sfl, IN_POS) <= height) {
      if (allocLow(al, DELETE_ROOM)) return 0;
      if (steps++ == STEP_FREES) return MORE;
      const r = deleteNext(sfl, <i32>load<u64>(sfl, IN_POS), <i32>height);
      if (r != 0) return r;
    }
  }
  return setDone();
}

/** Frees the child at the input's position, or the root. @returns 0 or an error */
function deleteNext(sfl: usize, level: i32, height: i32): i32 {
  const blk = load<u64>(sfl, IN_BLK);
  let ref = sfl + SF_REF;
  if (level < height) {
    for (let l = height - 1; l >= level; l--) {
      const parent = blockRead(ref, MAGIC_SRCH_PARENT);
      if (parent == 0) return blockErr;
      ref = srchRef(parent, l, blk);
    }
  }
  const r = freeMeta(al, load<u64>(ref));
  if (r != 0) return corrupt(CORRUPT_SRCH_FILE, load<u64>(sfl, SF_REF));
  const next = blk + srchSpan(level);
  if (level < height && next < blocksOf(sfl)) {
    store<u64>(sfl, next, IN_BLK);
  } else {
    store<u64>(sfl, <u64>level + 1, IN_POS);
    store<u64>(sfl, 0, IN_BLK);
  }
  return 0;
}
