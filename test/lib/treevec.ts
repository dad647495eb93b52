/**
 * The keys and values of the core vectors, and the comparison of a written tree with
 * what upstream made of the same operations. Source: core-vectors.json → btree.note.
 */
import type { Test } from 'tap';
import { crc32c } from '../../host/core/crc32c.js';
import type { Rec } from '../../host/core/trees.js';
import { commitSpace, keyBytes, rawTree } from './treespace.js';
import type { RawBlock, Space } from './treespace.js';

export interface LevelVec {
  nr_items: number; total_item_bytes: number; mid_free_len: number; avl_height: number;
  first: string; last: string;
}
/** A key as the vectors write it. */
export interface VecKey {
  zone: number; first: string; type: number; second: string; third: string; fourth: number;
}
export interface ParentRange { n: number; start: VecKey; end: VecKey; get_parent_height: number }

/** The 32 bytes of a key of the vectors. */
export function vecKey(k: VecKey): Uint8Array {
  return keyBytes(k.zone, BigInt(k.first), k.type, BigInt(k.second), BigInt(k.third), k.fourth);
}

export interface TreeVec {
  height: number; level1?: LevelVec[]; level2?: LevelVec[]; leaves?: LevelVec[];
  items?: number; items_crc32c?: string; parent_ranges?: ParentRange[];
}

export const key = (n: number | bigint): Uint8Array => keyBytes(16, 7, 4, n);
export const second = (k: Uint8Array): string =>
  new DataView(k.buffer, k.byteOffset).getBigUint64(8, true).toString();

export function val(n: number, len: number): Uint8Array {
  return Uint8Array.from({ length: len }, (_, i) => (n * 31 + i * 7 + 1) & 255);
}

export function levelVec(b: RawBlock): LevelVec {
  return {
    nr_items: b.nrItems, total_item_bytes: b.totalItemBytes, mid_free_len: b.midFreeLen,
    avl_height: b.avlHeight, first: second(b.items[0]?.key ?? key(0)),
    last: second(b.items.at(-1)?.key ?? key(0)),
  };
}

export function itemsCrc(leaves: RawBlock[]): string {
  let crc = 0xffffffff;
  for (const leaf of leaves) {
    for (const it of leaf.items) {
      const meta = new Uint8Array(11);
      const v = new DataView(meta.buffer);
      v.setBigUint64(0, it.seq, true);
      v.setUint8(8, it.flags);
      v.setUint16(9, it.val.length, true);
      for (const part of [it.key, meta, it.val]) crc = crc32c(crc, part);
    }
  }
  return crc.toString(16).padStart(8, '0');
}

export async function compareTree(tt: Test, s: Space, root: Rec, want: TreeVec): Promise<void> {
  await commitSpace(s);
  const levels = rawTree(s.dev, root);
  tt.equal(levels.length, want.height, 'height');
  if (want.height === 0) return;
  const strip = (l: LevelVec[] | undefined): unknown => (l ?? []).map((x) => ({
    nr_items: x.nr_items, total_item_bytes: x.total_item_bytes, mid_free_len: x.mid_free_len,
    avl_height: x.avl_height, first: x.first, last: x.last,
  }));
  const leaves = levels.at(-1) ?? [];
  if (want.level2) tt.strictSame((levels.at(-3) ?? []).map(levelVec), strip(want.level2));
  if (want.level1) tt.strictSame((levels.at(-2) ?? []).map(levelVec), strip(want.level1));
  if (want.leaves) tt.strictSame(leaves.map(levelVec), strip(want.leaves));
  if (want.items !== undefined) {
    tt.equal(leaves.reduce((n, l) => n + l.nrItems, 0), want.items, 'items');
  }
  if (want.items_crc32c !== undefined) tt.equal(itemsCrc(leaves), want.items_crc32c, 'items crc');
}

export async function insertAll(s: Space, root: Rec, ns: Iterable<number>, len: number):
Promise<void> {
  for (const n of ns) await s.space.insert(root.ptr, key(n), val(n, len));
}

export function* range(from: number, to: number, step = 1): Iterable<number> {
  for (let n = from; step > 0 ? n <= to : n >= to; n += step) yield n;
}
