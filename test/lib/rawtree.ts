/**
 * Btree blocks written by hand, as others may write them: items chained to the left with
 * the wrong heights of mkfs, parents with few children, empty leaves.
 */
import { crc32c } from '../../host/core/crc32c.js';
import { BLOCK_MAGIC_BTREE } from '../../host/core/format.js';
import { BLOCK_BYTES, FSID } from './treespace.js';
import type { Space } from './treespace.js';

const ITEMS = 48;
const ITEM_BYTES = 56;
const AVL_BASE = 32;
const LEAF_VAL_END = 62512;
const HASH_NR = 1512;

export interface RawEntry {
  key: Uint8Array;
  val: Uint8Array;
}

/** A reference as it stands in a parent item or a root. */
export function refBytes(blkno: number, seq = 1n): Uint8Array {
  const b = new Uint8Array(16);
  const v = new DataView(b.buffer);
  v.setBigUint64(0, BigInt(blkno), true);
  v.setBigUint64(8, seq, true);
  return b;
}

/** A btree root of this height. */
export function rootOf(ref: Uint8Array, height: number): Uint8Array {
  const b = new Uint8Array(24);
  b.set(ref);
  b[16] = height;
  return b;
}

/** Writes a block with seq 1 and these items in key order. @returns its reference */
export function writeChain(s: Space, blkno: number, level: number, entries: RawEntry[]):
Uint8Array {
  const b = new Uint8Array(BLOCK_BYTES);
  const v = new DataView(b.buffer);
  v.setUint32(4, BLOCK_MAGIC_BTREE, true);
  v.setBigUint64(8, FSID, true);
  v.setBigUint64(16, 1n, true);
  v.setBigUint64(24, BigInt(blkno), true);
  const nr = entries.length;
  const node = (i: number): number => ITEMS - AVL_BASE + ITEM_BYTES * i;
  let end = level === 0 ? LEAF_VAL_END : BLOCK_BYTES;
  let sum = 0;
  entries.forEach((e, i) => {
    const at = ITEMS + ITEM_BYTES * i;
    const room = (e.val.length + 7) & ~7;
    v.setUint16(at, i + 1 < nr ? node(i + 1) : 0, true);
    v.setUint16(at + 2, i > 0 ? node(i - 1) : 0, true);
    v.setUint8(at + 6, i + 1 < nr ? 1 : 0);
    b.set(e.key, at + 8);
    v.setBigUint64(at + 40, 1n, true);
    end -= room;
    b.set(e.val, end);
    v.setUint16(at + 48, room === 0 ? 0 : end, true);
    v.setUint16(at + 50, e.val.length, true);
    sum += ITEM_BYTES + room;
    if (level === 0) hashIn(v, e.key, at);
  });
  v.setUint16(32, nr === 0 ? 0 : node(nr - 1), true);
  v.setUint16(34, nr, true);
  v.setUint16(36, sum, true);
  v.setUint16(38, end - ITEMS - ITEM_BYTES * nr, true);
  v.setUint8(40, level);
  v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
  s.dev.writeSync(blkno * BLOCK_BYTES, b);
  return refBytes(blkno);
}

function hashIn(v: DataView, key: Uint8Array, at: number): void {
  let h = 0x811c9dc5;
  for (const x of key) h = Math.imul(h ^ x, 0x01000193) >>> 0;
  let i = h % HASH_NR;
  while (v.getUint16(LEAF_VAL_END + 2 * i, true) !== 0) i = (i + 1) % HASH_NR;
  v.setUint16(LEAF_VAL_END + 2 * i, at, true);
}
