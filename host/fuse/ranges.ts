/**
 * Sets of byte ranges as short sorted lists, for the bookkeeping of page invalidation.
 *
 * Ranges are page-aligned, end exclusive; Infinity is the end of the file. All functions
 * leave their arguments alone.
 */
import type { BytePos } from '../core/bytepos.js';
import { blockOf, restOf } from '../core/bytepos.js';
import type { Range } from './nodes.js';

/** All of a file. */
export const WHOLE_FILE: Range = { start: 0, end: Infinity };

/** Bytes of a page, and of a file block. */
export const PAGE_BYTES = 4096;

/** The pages that a byte range touches. */
export function pagesOf(offset: BytePos, lenBytes: number): Range {
  const start = blockOf(offset) * PAGE_BYTES;
  return { start, end: start + Math.ceil((restOf(offset) + lenBytes) / PAGE_BYTES) * PAGE_BYTES };
}

export function overlaps(list: readonly Range[], r: Range): boolean {
  return list.some((x) => touches(x, r));
}

export function touches(a: Range, b: Range): boolean {
  return a.start < b.end && b.start < a.end;
}

/** Adds to a list that has at most `maxNr` ranges; when there are more, it covers more. */
export function add(list: readonly Range[], r: Range, maxNr: number): readonly Range[] {
  if (list.some((x) => x.start <= r.start && r.end <= x.end)) return list;
  const all = merge([...list, r]);
  const [first, last] = [all[0], all.at(-1)];
  return all.length <= maxNr || first === undefined || last === undefined ? all
    : [{ start: first.start, end: last.end }];
}

/** The same bytes in ascending ranges that do not touch. */
export function merge(list: readonly Range[]): Range[] {
  const sorted = [...list].sort((a, b) => a.start - b.start);
  const out: Range[] = [];
  for (const r of sorted) {
    const last = out.at(-1);
    if (last !== undefined && r.start <= last.end) last.end = Math.max(last.end, r.end);
    else out.push({ start: r.start, end: r.end });
  }
  return out;
}

/** What of `list` is not in `holes`. */
export function subtract(list: readonly Range[], holes: readonly Range[]): Range[] {
  let left = merge(list);
  for (const hole of holes) {
    left = left.flatMap((r) => [
      { start: r.start, end: Math.min(r.end, hole.start) },
      { start: Math.max(r.start, hole.end), end: r.end },
    ].filter((x) => x.start < x.end));
  }
  return left;
}
