/**
 * Free extent trees and block lists in tests: a short way to call what the core does
 * with them, and readers of what became of them.
 */
import { AllocListHead, AllocRoot, BtreeRoot, Key } from '../../host/core/format.js';
import { Rec } from '../../host/core/trees.js';
import { ERRNO } from '../../host/observe/errors.js';
import { BLOCK_BYTES, keyBytes } from './treespace.js';
import type { Space } from './treespace.js';

export const FREE_BLKNO_ZONE = 36;
export const FREE_ORDER_ZONE = 40;
const ZONE_BITMAP_BYTES = 128;

export type Run = [start: number, len: number];

/** A free extent tree as the vectors write it. */
export interface ExtentsVec {
  total_len: string;
  by_blkno: Run[];
  by_order: { revord: string; start: number; len: number }[];
}

/** An empty free extent tree. */
export function allocRoot(s: Space): Rec {
  return new Rec(s.core, AllocRoot.size);
}

/** An empty block list. */
export function listHead(s: Space, init?: Uint8Array): Rec {
  return new Rec(s.core, AllocListHead.size, init);
}

export function totalLen(root: Rec): number {
  return Number(new DataView(root.get().buffer).getBigUint64(0, true));
}

export function headOf(head: Rec): AllocListHead {
  return AllocListHead.read(new DataView(head.get().buffer), 0);
}

/** The btree of an alloc root, as a record of its own. */
export function btreeOf(s: Space, root: Rec): Rec {
  return new Rec(s.core, BtreeRoot.size, root.get().subarray(16));
}

/** Runs a call that returns 0 or a negative errno, waiting for blocks. */
export async function call(s: Space, fn: () => number): Promise<number> {
  return s.core.run(fn);
}

export function insert(s: Space, root: Rec, start: number, len: number): Promise<number> {
  return call(s, () => s.core.x.ext_insert(s.space.al, s.space.ws, root.ptr, start, len));
}

export function remove(s: Space, root: Rec, start: number, len: number): Promise<number> {
  return call(s, () => s.core.x.ext_remove(s.space.al, s.space.ws, root.ptr, start, len));
}

/** Takes up to `count` blocks in size order; the errno is negative. */
export async function take(s: Space, root: Rec, count: number): Promise<Run | number> {
  let got: Run = [0, 0];
  const r = await call(s, () => {
    const e = s.core.x.ext_alloc(s.space.al, s.space.ws, root.ptr, count);
    got = [s.core.x.ext_got_start(), s.core.x.ext_got_len()];
    return e;
  });
  return r === 0 ? got : r;
}

export interface MoveOptions {
  exclusive?: number[];
  vacant?: number[];
  zoneBlocks?: number;
  budget?: number;
}

/** Moves up to `total` blocks; tells how many and with which result. */
export async function move(s: Space, dst: Rec, src: Rec, total: number, o: MoveOptions = {}):
Promise<{ ret: number; moved: number }> {
  const { x } = s.core;
  const exclusive = bitmap(s, o.exclusive);
  const vacant = bitmap(s, o.vacant);
  let moved = 0;
  x.ext_move_snapshot(s.space.al);
  const ret = await call(s, () => {
    const r = x.ext_move(s.space.al, s.space.ws, dst.ptr, src.ptr, total - moved,
      exclusive?.ptr ?? 0, vacant?.ptr ?? 0, o.zoneBlocks ?? 0, o.budget ?? 0);
    moved += x.ext_moved();
    return r;
  });
  return { ret, moved };
}

function bitmap(s: Space, zones: number[] | undefined): Rec | null {
  if (zones === undefined) return null;
  const b = new Uint8Array(ZONE_BITMAP_BYTES);
  for (const z of zones) b[z >> 3] = (b[z >> 3] ?? 0) | (1 << (z & 7));
  return new Rec(s.core, ZONE_BITMAP_BYTES, b);
}

/** Numbers of the zones that a tree's extents touch. */
export async function zones(s: Space, root: Rec, zoneBlocks: number): Promise<number[]> {
  const bits = new Rec(s.core, ZONE_BITMAP_BYTES);
  await s.core.runAsync('zones', () => s.core.x.ext_zones(root.ptr, zoneBlocks, bits.ptr));
  const b = bits.get();
  return Array.from({ length: ZONE_BITMAP_BYTES * 8 }, (_, z) => z)
    .filter((z) => ((b[z >> 3] ?? 0) & (1 << (z & 7))) !== 0);
}

/** As the server does it: a repetition fills on although the low mark has been passed. */
export function fill(s: Space, head: Rec, root: Rec, lo: number, target: number): Promise<number> {
  let low = lo;
  return call(s, () => {
    const from = low;
    low = target;
    return s.core.x.list_fill(s.space.al, s.space.ws, head.ptr, root.ptr, from, target);
  });
}

export function empty(s: Space, head: Rec, root: Rec): Promise<number> {
  return call(s, () => s.core.x.list_empty(s.space.al, s.space.ws, head.ptr, root.ptr));
}

export function splice(s: Space, dst: Rec, src: Rec): Promise<number> {
  return call(s, () => s.core.x.list_splice(s.space.al, s.space.ws, dst.ptr, src.ptr));
}

/** Both indexes of a tree through the core's own iteration. */
export async function extents(s: Space, root: Rec): Promise<ExtentsVec> {
  const tree = btreeOf(s, root);
  const keys: { zone: number; first: bigint; second: bigint; third: bigint }[] = [];
  let at = keyBytes(0, 0, 0);
  for (;;) {
    const f = await s.space.next(tree.ptr, at);
    if (f === null) break;
    keys.push(Key.read(new DataView(f.key.buffer, f.key.byteOffset), 0));
    at = f.key;
    at[24] = (at[24] ?? 0) + 1;
  }
  const byBlkno = keys.filter((k) => k.zone === FREE_BLKNO_ZONE);
  const byOrder = keys.filter((k) => k.zone === FREE_ORDER_ZONE);
  if (byBlkno.length + byOrder.length !== keys.length) throw new Error('an item of another zone');
  tree.free();
  return {
    total_len: String(totalLen(root)),
    by_blkno: byBlkno.map((k) => [Number(k.first - k.second) + 1, Number(k.second)]),
    by_order: byOrder.map((k) => ({
      revord: String(k.first), start: Number(k.second - k.third) + 1, len: Number(k.third),
    })),
  };
}

/** What `extents` must give for these extents, which neither overlap nor touch. */
export function wantExtents(runs: Run[]): ExtentsVec {
  const sorted = [...runs].sort((a, b) => a[0] - b[0]);
  const order = (len: number): number => Math.floor((31 - Math.clz32(len)) / 3);
  return {
    total_len: String(runs.reduce((n, r) => n + r[1], 0)),
    by_blkno: sorted,
    by_order: [...sorted].sort((a, b) => order(b[1]) - order(a[1]) || a[0] - b[0])
      .map(([start, len]) => ({
        revord: String(0xffffffffffffffffn - BigInt(order(len))), start, len,
      })),
  };
}

/** One block of a written list. */
export interface ListBlock {
  blkno: number;
  start: number;
  blknos: number[];
}

/** The blocks of a written list and the numbers in them. */
export function listBlocks(s: Space, head: AllocListHead): ListBlock[] {
  const out: ListBlock[] = [];
  let blkno = head.ref.blkno;
  while (blkno !== 0) {
    const b = new Uint8Array(BLOCK_BYTES);
    s.dev.readSync(blkno * BLOCK_BYTES, b);
    const v = new DataView(b.buffer);
    const start = v.getUint32(48, true);
    const nr = v.getUint32(52, true);
    out.push({
      blkno, start, blknos: Array.from({ length: nr }, (_, i) =>
        Number(v.getBigUint64(56 + (start + i) * 8, true))),
    });
    blkno = Number(v.getBigUint64(32, true));
  }
  return out;
}

export const ENOENT = -ERRNO.ENOENT;
export const EINVAL = -ERRNO.EINVAL;
export const ENOSPC = -ERRNO.ENOSPC;
export const EINPROGRESS = -ERRNO.EINPROGRESS;
