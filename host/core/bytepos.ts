/**
 * Sizes of files and places in them, exact up to 2^63 - 1.
 *
 * Doubles are exact up to 2^53 only, but files may end anywhere up to 2^63 - 1. A
 * BytePos is a number as long as it fits, and a bigint beyond. So every position has
 * exactly one form, `===` and `<` compare any two of them, and positions that real
 * files have never allocate. Sums may leave the range: `isPos` says so.
 *
 * File blocks are numbers everywhere: 2^63 bytes are 2^51 blocks. Work inside one
 * request is done relative to its first block, in numbers; only where a request begins
 * and where a file ends is a BytePos. Layout: le64, format.md 14.1.
 */
import { ScoutfsError } from '../observe/errors.js';
import { BLOCK_SM_SIZE } from './constants.js';

/** A number up to 2^53 - 1, a bigint beyond. */
export type BytePos = number | bigint;

/** The largest size, and one more than the place of the last byte. */
export const POS_MAX = 2n ** 63n - 1n;

const TWO32 = 0x100000000;
const BLOCK_MASK = BigInt(BLOCK_SM_SIZE - 1);
const BLOCK_SHIFT = BigInt(Math.log2(BLOCK_SM_SIZE));

/** The one form of a value. */
export function toPos(n: bigint): BytePos {
  return n > Number.MAX_SAFE_INTEGER ? n : Number(n);
}

/** Whether a size may have this value. */
export function isPos(p: BytePos): boolean {
  return typeof p === 'number' ? Number.isSafeInteger(p) && p >= 0 : p <= POS_MAX;
}

/** Reads an le64, up to 2^64 - 1. */
export function getPos(v: DataView, o: number): BytePos {
  const n = v.getUint32(o, true) + v.getUint32(o + 4, true) * TWO32;
  return n <= Number.MAX_SAFE_INTEGER ? n : v.getBigUint64(o, true);
}

/** Reads an le64. @throws ScoutfsError U64_RANGE (EIO) above 2^63 - 1 */
export function readPos(v: DataView, o: number): BytePos {
  return valid(getPos(v, o));
}

/** Stores an le64. @throws ScoutfsError U64_RANGE (EIO) outside of 0 .. 2^63 - 1 */
export function setPos(v: DataView, o: number, p: BytePos): void {
  valid(p);
  if (typeof p === 'bigint') {
    v.setBigUint64(o, p, true);
  } else {
    v.setUint32(o, p >>> 0, true);
    v.setUint32(o + 4, Math.floor(p / TWO32), true);
  }
}

function valid(p: BytePos): BytePos {
  if (isPos(p)) return p;
  throw new ScoutfsError('U64_RANGE', 'EIO', { message: `${p} is no size of a file` });
}

/** The block that holds the byte at `p`. */
export function blockOf(p: BytePos): number {
  return typeof p === 'number' ? Math.floor(p / BLOCK_SM_SIZE) : Number(p >> BLOCK_SHIFT);
}

/** Bytes between the start of its block and `p`. */
export function restOf(p: BytePos): number {
  return typeof p === 'number' ? p % BLOCK_SM_SIZE : Number(p & BLOCK_MASK);
}

/** Blocks that `p` bytes need: the first block with no byte before `p`. */
export function blocksTo(p: BytePos): number {
  return restOf(p) === 0 ? blockOf(p) : blockOf(p) + 1;
}

/** Where a block begins. */
export function posOfBlock(block: number): BytePos {
  const n = block * BLOCK_SM_SIZE;
  return n <= Number.MAX_SAFE_INTEGER ? n : BigInt(block) << BLOCK_SHIFT;
}

/** The sum; `b` may be negative. Not limited to what `isPos` allows. */
export function addPos(a: BytePos, b: BytePos): BytePos {
  if (typeof a === 'number' && typeof b === 'number') {
    const n = a + b;
    if (n <= Number.MAX_SAFE_INTEGER) return n;
  }
  return toPos(BigInt(a) + BigInt(b));
}

/** Bytes from `a` to `b`, negative when b comes first. Exact up to 2^53, then near. */
export function distance(a: BytePos, b: BytePos): number {
  if (typeof a === 'number' && typeof b === 'number') return b - a;
  return Number(BigInt(b) - BigInt(a));
}

export function minPos(a: BytePos, b: BytePos): BytePos {
  return a < b ? a : b;
}

export function maxPos(a: BytePos, b: BytePos): BytePos {
  return a > b ? a : b;
}

/** How many of `lenBytes` (at most 2^53) fit between `p` and the largest size. */
export function roomAt(p: BytePos, lenBytes: number): number {
  return typeof p === 'number' ? lenBytes : Math.min(lenBytes, distance(p, POS_MAX));
}
