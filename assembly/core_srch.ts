/**
 * What the host calls of srch files. Files are `scoutfs_srch_file` structs (88 bytes)
 * that the caller keeps in the core's memory; they are changed in place.
 */
import { arenaAt, arenaBytes } from './arena';
import { blockBegin } from './block';
import { srchAppend, srchAppendName, srchHeightFor, srchPrepare } from './srch';
import {
  compactEntries, compactFired, compactProgress, compactRemoved, compactRun, compactStart,
} from './srch_compact';

/** See srchPrepare: 0, NEED_BLOCK or an error. */
export function srch_prepare(al: usize, ws: usize, sfl: usize): i32 {
  blockBegin();
  return srchPrepare(al, ws, sfl);
}

/** Appends the entry at `entry` (24 bytes); srch_prepare came before in this tick. */
export function srch_append(al: usize, ws: usize, sfl: usize, entry: usize): void {
  blockBegin();
  srchAppend(al, ws, sfl, entry);
}

/** Appends the entry of the xattr whose full name is in the name window, likewise. */
export function srch_append_name(al: usize, ws: usize, sfl: usize, nameLen: i32, ino: f64,
  id: f64): void {
  blockBegin();
  srchAppendName(al, ws, sfl, nameLen, <u64>ino, <u64>id);
}

export function srch_height_for(blk: f64): i32 { return srchHeightFor(<u64>blk); }

/**
 * Starts a piece of the compaction in the struct at `sc`; needs an instance that merges.
 * `triggers`: 1 pads leaves of a LOG phase to SAFE, 2 stops a SORTED phase at SAFE.
 */
export function srch_compact_start(al: usize, ws: usize, sc: usize, dirtyMaxBlocks: i32,
  triggers: i32): i32 {
  blockBegin();
  return compactStart(al, ws, sc, dirtyMaxBlocks, triggers, arenaAt, arenaBytes);
}

/** 1: call again; 0: the struct says how far the work is; NEED_BLOCK; errors. */
export function srch_compact_run(): i32 {
  blockBegin();
  return compactRun();
}

export function srch_compact_progress(): i32 { return compactProgress; }
/** The triggers that had an effect. */
export function srch_compact_fired(): i32 { return compactFired; }
export function srch_compact_entries(): i32 { return <i32>compactEntries; }
export function srch_compact_removed(): i32 { return <i32>compactRemoved; }
