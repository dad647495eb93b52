/**
 * One leaf of a srch file: decoding and checking its packed entries.
 *
 *  ╒═════════╤══════════╤═════════╤═════════╤════════╤══════════╤═════════════╕
 *  │header 32│ first 24 │ last 24 │ tail 24 │ nr 4   │ bytes 4  │ entries ... │
 *  ╘═════════╧══════════╧═════════╧═════════╧════════╧══════════╧═════════════╛
 *   entry: le16 of three lengths, then the differences to the entry before it
 *
 * Entries are kept as six 32-bit words (hash, ino, id, each low word first), as
 * they are stored in 24 bytes; files have millions of them. Spec: format.md 13.2.
 */
import { BLOCK_LG_SIZE, SRCH_BLOCK_SAFE_BYTES } from '../../core/format.js';
import type { SrchEntry } from '../../core/format.js';

const ENTRIES_OFFSET = 112;
const FIRST_OFFSET = 32;
const LAST_OFFSET = 56;
const TAIL_OFFSET = 80;
export const ENTRY_BYTES = 24;
const FIELD_BYTES_MAX = 8;
const TWO32 = 0x100000000;

/** An entry as it is stored: hash, ino and id, little endian. */
export type EntryView = DataView;

export function newEntry(): EntryView {
  return new DataView(new ArrayBuffer(ENTRY_BYTES));
}

export function copyEntry(to: EntryView, from: EntryView): void {
  for (let i = 0; i < ENTRY_BYTES; i += 4) to.setUint32(i, from.getUint32(i));
}

/** Order by hash, then ino, then id. */
export function compareEntries(a: DataView, ao: number, b: DataView, bo: number): number {
  for (let f = 0; f < ENTRY_BYTES; f += 8) {
    const d = (a.getUint32(ao + f + 4, true) - b.getUint32(bo + f + 4, true))
      || (a.getUint32(ao + f, true) - b.getUint32(bo + f, true));
    if (d !== 0) return d;
  }
  return 0;
}

export function entryOf(e: SrchEntry): EntryView {
  const v = newEntry();
  v.setBigUint64(0, e.hash, true);
  v.setBigUint64(8, e.ino, true);
  v.setBigUint64(16, e.id, true);
  return v;
}

/** What a leaf holds, beyond its single entries. */
export interface LeafResult {
  /** Empty, or what is wrong; entries up to there were delivered. */
  problem: string;
  /** Entries come in strictly ascending order. */
  ascending: boolean;
  nr: number;
  least: EntryView;
  greatest: EntryView;
  firstEntry: EntryView;
  lastEntry: EntryView;
}

/** Decodes the entries of a leaf; each is handed out in a view that is reused. */
export function decodeLeaf(v: DataView, each: (entry: EntryView) => void): LeafResult {
  const r: LeafResult = { problem: '', ascending: true, nr: 0, least: newEntry(),
    greatest: newEntry(), firstEntry: newEntry(), lastEntry: newEntry() };
  const bytes = v.getUint32(108, true);
  if (bytes > BLOCK_LG_SIZE - ENTRIES_OFFSET) {
    r.problem = `claims ${bytes} bytes of entries`;
    return r;
  }
  const cur = r.lastEntry;
  const before = newEntry();
  let pos = 0;
  while (pos < bytes) {
    const len = pos > SRCH_BLOCK_SAFE_BYTES ? -1 : decodeEntry(v, pos, bytes, cur);
    if (len < 0) {
      r.problem = `has an entry at byte ${pos} that cannot be decoded`;
      return r;
    }
    pos += len;
    if (r.nr === 0) {
      for (const e of [r.least, r.greatest, r.firstEntry]) copyEntry(e, cur);
    } else {
      if (compareEntries(before, 0, cur, 0) >= 0) r.ascending = false;
      if (compareEntries(cur, 0, r.least, 0) < 0) copyEntry(r.least, cur);
      if (compareEntries(cur, 0, r.greatest, 0) > 0) copyEntry(r.greatest, cur);
    }
    copyEntry(before, cur);
    r.nr++;
    each(cur);
  }
  if (r.nr !== v.getUint32(104, true)) {
    r.problem = `records ${v.getUint32(104, true)} entries, but has ${r.nr}`;
  }
  return r;
}

/** Steps `cur` to the entry at `pos`. @returns its length, or -1 if it runs over the end */
function decodeEntry(v: DataView, pos: number, bytes: number, cur: EntryView): number {
  if (pos + 2 > bytes) return -1;
  const lens = v.getUint16(ENTRIES_OFFSET + pos, true);
  if (lens >>> 12 !== 0) return -1;
  let at = pos + 2;
  for (let f = 0; f < 3; f++) {
    const n = Math.min((lens >>> (f * 4)) & 0xf, FIELD_BYTES_MAX);
    if (at + n > bytes) return -1;
    addZigZag(v, ENTRIES_OFFSET + at, n, cur, f * 8);
    at += n;
  }
  return at - pos;
}

/** Adds the zig-zag difference of `n` bytes to the 64-bit field at `f`. */
function addZigZag(v: DataView, at: number, n: number, cur: EntryView, f: number): void {
  let lo = 0;
  let hi = 0;
  for (let i = 0; i < n; i++) {
    if (i < 4) lo |= v.getUint8(at + i) << (i * 8);
    else hi |= v.getUint8(at + i) << (i * 8 - 32);
  }
  const sign = -(lo & 1);
  const dLo = (((lo >>> 1) | (hi << 31)) ^ sign) >>> 0;
  const dHi = ((hi >>> 1) ^ sign) >>> 0;
  const sum = cur.getUint32(f, true) + dLo;
  cur.setUint32(f, sum >>> 0, true);
  cur.setUint32(f + 4, (cur.getUint32(f + 4, true) + dHi + (sum >= TWO32 ? 1 : 0)) >>> 0, true);
}

/** What is wrong with the bounds a leaf records, empty if nothing is. */
export function leafBoundsProblem(v: DataView, r: LeafResult, sorted: boolean): string {
  const first = sorted ? r.firstEntry : r.least;
  const last = sorted ? r.lastEntry : r.greatest;
  if (compareEntries(v, FIRST_OFFSET, first, 0) !== 0) return 'records another first entry';
  if (compareEntries(v, LAST_OFFSET, last, 0) !== 0) return 'records another last entry';
  return compareEntries(v, TAIL_OFFSET, r.lastEntry, 0) !== 0 ? 'records another tail' : '';
}
