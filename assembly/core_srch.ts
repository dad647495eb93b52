/**
 * What the host calls of srch files. Files are `scoutfs_srch_file` structs (88 bytes)
 * that the caller keeps in the core's memory; they are changed in place.
 */
import { blockBegin } from './block';
import { srchAppend, srchAppendName, srchHeightFor, srchPrepare } from './srch';

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
