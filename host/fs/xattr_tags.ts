/**
 * The grammar of `scoutfs.` names: tags, and the numbers in names and values.
 *
 * Directly after the prefix a name may carry the words `hide.`, `indx.`, `srch.`
 * and `totl.`, in any order, each once; the rest is free text. A name shorter than
 * 14 bytes has no tags and is an ordinary one. `totl` names end in three numbers
 * (the total they count into), `indx` names in two (major and minor).
 *
 * Names are bytes, bounded by their length: nothing behind the end is looked at.
 * Source: xattr.md 2; vectors fs-vectors.json xattr_tags, totl_key_parse,
 * totl_value_parse, indx_key_parse.
 */
import { XATTR_INDX_ZONE, XATTR_MAX_TOTL_U64, XATTR_TOTL_ZONE } from '../core/constants.js';
import type { WideKey } from '../core/items.js';

const PREFIX = Buffer.from('scoutfs.');
const TAG_BYTES = 5;
/** Shorter names have no tags: the prefix, a tag and one byte. */
const TAGGED_MIN_BYTES = 14;
const DOT = 0x2e;
const ZERO = 0x30;
const U64_MAX = (1n << 64n) - 1n;
const INDX_MAJOR_MAX = 255n;

export interface XattrTags {
  hide: boolean;
  indx: boolean;
  srch: boolean;
  totl: boolean;
}

type Tag = keyof XattrTags;
const WORDS: readonly (readonly [Tag, Buffer])[] =
  (['hide', 'indx', 'srch', 'totl'] as const).map((tag) => [tag, Buffer.from(`${tag}.`)]);

function startsWith(name: Uint8Array, at: number, word: Uint8Array): boolean {
  if (at + word.length > name.length) return false;
  return word.every((b, i) => name[at + i] === b);
}

/** @returns the name's tags, or null where the grammar says EINVAL */
export function parseTags(name: Uint8Array): XattrTags | null {
  const tags: XattrTags = { hide: false, indx: false, srch: false, totl: false };
  if (name.length < TAGGED_MIN_BYTES || !startsWith(name, 0, PREFIX)) return tags;
  let found = false;
  for (let at = PREFIX.length; ; at += TAG_BYTES) {
    const hit = WORDS.find(([, word]) => startsWith(name, at, word));
    if (hit === undefined) return found ? tags : null;
    if (tags[hit[0]]) return null;
    tags[hit[0]] = true;
    found = true;
  }
}

/** Whether any tag needs privilege or side items. */
export function isTagged(tags: XattrTags): boolean {
  return tags.hide || tags.indx || tags.srch || tags.totl;
}

/** A number of 1..23 bytes: 0x hexadecimal, leading 0 octal, else decimal. A NUL ends it. */
export function parseNumber(bytes: Uint8Array): bigint | null {
  if (bytes.length < 1 || bytes.length > XATTR_MAX_TOTL_U64) return null;
  const nul = bytes.indexOf(0);
  const text = nul < 0 ? bytes : bytes.subarray(0, nul);
  let base = 10;
  let at = 0;
  if (text[0] === ZERO) {
    base = 8;
    const x = (text[1] ?? 0) | 0x20;
    if (x === 0x78 && digit(text[2] ?? 0) < 16) {
      base = 16;
      at = 2;
    }
  }
  if (at === text.length) return null;
  let n = 0n;
  for (; at < text.length; at++) {
    const d = digit(text[at] ?? 0);
    if (d >= base) return null;
    n = n * BigInt(base) + BigInt(d);
  }
  return n > U64_MAX ? null : n;
}

/** Value of a hexadecimal digit, 255 for any other byte. */
function digit(c: number): number {
  if (c >= ZERO && c <= ZERO + 9) return c - ZERO;
  const l = c | 0x20;
  return l >= 0x61 && l <= 0x66 ? l - 0x61 + 10 : 255;
}

/** The last `nr` dot-separated numbers of a name, in order, or null. */
function lastNumbers(name: Uint8Array, nr: number): bigint[] | null {
  const out: bigint[] = [];
  let end = name.length;
  while (out.length < nr) {
    const dot = name.lastIndexOf(DOT, end - 1);
    if (end < 1 || dot < 0) return null;
    const n = parseNumber(name.subarray(dot + 1, end));
    if (n === null) return null;
    out.unshift(n);
    end = dot;
  }
  return out;
}

/** Key of the total that a totl name counts into, or null (EINVAL). */
export function totlKey(name: Uint8Array): WideKey | null {
  const [a, b, c] = lastNumbers(name, 3) ?? [];
  if (a === undefined || b === undefined || c === undefined) return null;
  return { zone: XATTR_TOTL_ZONE, first: a, type: 0, second: b, third: c, fourth: 0 };
}

/** Key of the index item of an indx name, for this inode and xattr id, or null (EINVAL). */
export function indxKey(name: Uint8Array, ino: bigint, id: bigint): WideKey | null {
  const [major, minor] = lastNumbers(name, 2) ?? [];
  if (major === undefined || minor === undefined || major > INDX_MAJOR_MAX) return null;
  return {
    zone: XATTR_INDX_ZONE,
    first: (major << 56n) | (minor >> 8n),
    type: 0,
    second: ((minor << 56n) | (ino >> 8n)) & U64_MAX,
    third: ((ino << 56n) | (id >> 8n)) & U64_MAX,
    fourth: Number(id & 0xffn),
  };
}
