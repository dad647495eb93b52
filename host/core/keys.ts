/**
 * Item keys: order, neighbours, text, and what is derived from them.
 *
 * A key is 32 bytes whose order in memory is not its order of comparison: that is
 * zone, first, type, second, third, fourth. Seen so it is one 216-bit number, and
 * increment and decrement are that number's. The five bytes of padding are always
 * zero because hashes cover them. Functions ending in `Bytes` work on the stored
 * form at an offset, the others on the `Key` of format.ts.
 *
 * Spec: format.md 7, 8.3, 9.3, 10.1, 11 (bloom).
 */
import { fnv1a32, fnv1a64 } from './hash.js';
import {
  BTREE_LEAF_ITEM_HASH_NR, FOREST_BLOOM_BITS, FOREST_BLOOM_FUNC_BITS, FOREST_BLOOM_NRS,
  FREE_EXTENT_BLKNO_ZONE, FREE_EXTENT_ORDER_ZONE, FS_ZONE, INODE_INDEX_ZONE, Key,
  LOCK_INODE_GROUP_MASK, LOCK_SEQ_GROUP_MASK, LOCK_ZONE, ORPHAN_TYPE, ORPHAN_ZONE, QUOTA_ZONE,
  RENAME_TYPE, XATTR_INDX_ZONE, XATTR_TOTL_ZONE,
} from './format.js';
import { ScoutfsError } from '../observe/errors.js';

const U64_MAX = 0xffffffffffffffffn;
const KEY_BITS = 216n;
const KEY_NUMBER_MASK = (1n << KEY_BITS) - 1n;
/** log2 of the factor between two orders of free extents. */
const ORDER_FACTOR = 8;

/** A key from the fields that are given; the others are zero. */
export function makeKey(fields: Partial<Key>): Key {
  return { ...keyZeros(), ...fields };
}

export function keyZeros(): Key {
  return { zone: 0, first: 0n, type: 0, second: 0n, third: 0n, fourth: 0 };
}

/** Every field at its maximum; the padding stays zero. */
export function keyOnes(): Key {
  return { zone: 255, first: U64_MAX, type: 255, second: U64_MAX, third: U64_MAX, fourth: 255 };
}

/** The key as the number whose order is the order of keys. */
function keyNumber(k: Key): bigint {
  return (((BigInt(k.zone) << 64n | k.first) << 8n | BigInt(k.type)) << 64n | k.second) << 72n |
    k.third << 8n | BigInt(k.fourth);
}

function numberKey(n: bigint): Key {
  return {
    fourth: Number(n & 0xffn),
    third: n >> 8n & U64_MAX,
    second: n >> 72n & U64_MAX,
    type: Number(n >> 136n & 0xffn),
    first: n >> 144n & U64_MAX,
    zone: Number(n >> 208n & 0xffn),
  };
}

function order(a: bigint | number, b: bigint | number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** -1, 0 or 1. */
export function compareKeys(a: Key, b: Key): number {
  return order(a.zone, b.zone) || order(a.first, b.first) || order(a.type, b.type) ||
    order(a.second, b.second) || order(a.third, b.third) || order(a.fourth, b.fourth);
}

/** The following key; all ones wraps to all zeros. */
export function incKey(k: Key): Key {
  return numberKey(keyNumber(k) + 1n & KEY_NUMBER_MASK);
}

/** The preceding key; all zeros wraps to all ones. */
export function decKey(k: Key): Key {
  return numberKey(keyNumber(k) - 1n & KEY_NUMBER_MASK);
}

/** `zone.first.type.second.third.fourth` in decimal. */
export function keyToString(k: Key): string {
  return `${k.zone}.${k.first}.${k.type}.${k.second}.${k.third}.${k.fourth}`;
}

/** Inverse of keyToString. @throws EINVAL for anything else */
export function keyFromString(s: string): Key {
  const m = /^(\d{1,3})\.(\d{1,20})\.(\d{1,3})\.(\d{1,20})\.(\d{1,20})\.(\d{1,3})$/.exec(s);
  const parts = m === null ? [] : m.slice(1).map((p) => BigInt(p));
  const [zone, first, type, second, third, fourth] = parts;
  if (zone === undefined || first === undefined || type === undefined || second === undefined ||
      third === undefined || fourth === undefined ||
      zone > 255n || type > 255n || fourth > 255n ||
      first > U64_MAX || second > U64_MAX || third > U64_MAX) {
    throw new ScoutfsError('BAD_KEY', 'EINVAL', { message: `not a key: '${s}'` });
  }
  return { zone: Number(zone), first, type: Number(type), second, third, fourth: Number(fourth) };
}

/** The stored form, 32 fresh bytes. */
export function keyBytes(k: Key): Uint8Array {
  const b = new Uint8Array(Key.size);
  Key.write(new DataView(b.buffer), 0, k);
  return b;
}

/** Offsets of the stored bytes from most to least significant (fields are little endian). */
const SIGNIFICANCE = [
  25, 7, 6, 5, 4, 3, 2, 1, 0, 26, 15, 14, 13, 12, 11, 10, 9, 8, 23, 22, 21, 20, 19, 18, 17, 16, 24,
] as const;

/** Compares the stored keys at `ao` in `a` and at `bo` in `b`: negative, 0 or positive. */
export function compareKeyBytes(a: Uint8Array, ao: number, b: Uint8Array, bo: number): number {
  for (const i of SIGNIFICANCE) {
    const d = (a[ao + i] ?? 0) - (b[bo + i] ?? 0);
    if (d !== 0) return d;
  }
  return 0;
}

/** Turns the stored key at `o` into the following one, wrapping. */
export function incKeyBytes(b: Uint8Array, o: number): void {
  for (let i = SIGNIFICANCE.length - 1; i >= 0; i--) {
    const at = o + (SIGNIFICANCE[i] ?? 0);
    const v = ((b[at] ?? 0) + 1) & 0xff;
    b[at] = v;
    if (v !== 0) return;
  }
}

/** Turns the stored key at `o` into the preceding one, wrapping. */
export function decKeyBytes(b: Uint8Array, o: number): void {
  for (let i = SIGNIFICANCE.length - 1; i >= 0; i--) {
    const at = o + (SIGNIFICANCE[i] ?? 0);
    const v = b[at] ?? 0;
    b[at] = (v - 1) & 0xff;
    if (v !== 0) return;
  }
}

/** Bucket of a stored key (32 bytes) in the hash table of a btree leaf. */
export function leafHashBucket(key: Uint8Array): number {
  return fnv1a32(key) % BTREE_LEAF_ITEM_HASH_NR;
}

/** Numbers of the bits that a lock with this stored start key sets in a bloom block. */
export function bloomBits(startKey: Uint8Array): number[] {
  const bits: number[] = [];
  let h = fnv1a64(startKey);
  for (let i = 0; i < FOREST_BLOOM_NRS; i++) {
    bits.push(Number(h & 0xffffffffn) % FOREST_BLOOM_BITS);
    h >>= BigInt(FOREST_BLOOM_FUNC_BITS);
  }
  return bits;
}

/** Size class of a free extent: 1..7 is 0, 8..63 is 1, and so on in powers of eight. */
export function freeExtentOrder(len: number): number {
  let o = 0;
  for (let n = len; n >= ORDER_FACTOR; n = Math.floor(n / ORDER_FACTOR)) o++;
  return o;
}

/** Key of the free extent start .. start+len-1 by location. */
export function freeExtentBlknoKey(start: number, len: number): Key {
  return makeKey({
    zone: FREE_EXTENT_BLKNO_ZONE, first: BigInt(start) + BigInt(len) - 1n, second: BigInt(len),
  });
}

/** Key of the free extent start .. start+len-1 by size, larger orders first. */
export function freeExtentOrderKey(start: number, len: number): Key {
  return makeKey({
    zone: FREE_EXTENT_ORDER_ZONE, first: U64_MAX - BigInt(freeExtentOrder(len)),
    second: BigInt(start) + BigInt(len) - 1n, third: BigInt(len),
  });
}

/** First and last key that a cluster lock covers; the first is the lock's name. */
export interface LockRange {
  start: Key;
  end: Key;
}

function wholeZone(zone: number): LockRange {
  return { start: makeKey({ zone }), end: { ...keyOnes(), zone } };
}

/** The lock of the 1024 inodes that `ino` belongs to. */
export function inodeLockRange(ino: number): LockRange {
  const mask = BigInt(LOCK_INODE_GROUP_MASK);
  return {
    start: makeKey({ zone: FS_ZONE, first: BigInt(ino) & ~mask }),
    end: { ...keyOnes(), zone: FS_ZONE, first: BigInt(ino) | mask },
  };
}

/** The lock of an inode index (`type` 4 or 8) around `seq`. Its end is exact, not all ones. */
export function indexLockRange(type: number, seq: number): LockRange {
  const mask = BigInt(LOCK_SEQ_GROUP_MASK);
  return {
    start: makeKey({ zone: INODE_INDEX_ZONE, type, second: BigInt(seq) & ~mask }),
    end: makeKey({ zone: INODE_INDEX_ZONE, type, second: BigInt(seq) | mask, third: U64_MAX }),
  };
}

/** The lock of renames of directories: one key that is never stored. */
export function renameLockRange(): LockRange {
  const key = makeKey({ zone: LOCK_ZONE, type: RENAME_TYPE });
  return { start: key, end: { ...key } };
}

export function orphanLockRange(): LockRange {
  return {
    start: makeKey({ zone: ORPHAN_ZONE, type: ORPHAN_TYPE }),
    end: makeKey({ zone: ORPHAN_ZONE, type: ORPHAN_TYPE, second: U64_MAX }),
  };
}

export function xattrTotlLockRange(): LockRange {
  return wholeZone(XATTR_TOTL_ZONE);
}

export function xattrIndxLockRange(): LockRange {
  return wholeZone(XATTR_INDX_ZONE);
}

export function quotaLockRange(): LockRange {
  return wholeZone(QUOTA_ZONE);
}
