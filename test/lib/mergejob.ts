/**
 * Running one merge job in tests, from its start to its end or to where it stops.
 */
import { Rec } from '../../host/core/trees.js';
import { keyBytes } from './treespace.js';
import type { Space } from './treespace.js';

const ROOT_BYTES = 24;
/** Upstream's arguments: btree.md 7. */
export const MERGE_DEFAULTS = {
  subtree: false, dirtyMaxBlocks: 1024, allocLowNr: 10, windowBytes: 2 << 20,
};

export const KEY_ZEROS = keyBytes(0, 0, 0);
const U64_MAX = 0xffffffffffffffffn;
export const KEY_ONES = keyBytes(255, U64_MAX, 255, U64_MAX, U64_MAX, 255);

export interface MergeOptions {
  start?: Uint8Array;
  end?: Uint8Array;
  subtree?: boolean;
  dirtyMaxBlocks?: number;
  allocLowNr?: number;
  windowBytes?: number;
}

/** Merges the inputs into `dst`: the core's result, and the key at which it stopped. */
export async function merge(s: Space, dst: Rec, inputs: Rec[], opts: MergeOptions = {}):
Promise<{ ret: number; next: Uint8Array }> {
  const o = { ...MERGE_DEFAULTS, start: KEY_ZEROS, end: KEY_ONES, ...opts };
  const { x } = s.core;
  const roots = new Rec(s.core, ROOT_BYTES * Math.max(1, inputs.length));
  const all = new Uint8Array(roots.lenBytes);
  inputs.forEach((r, i) => { all.set(r.get(), i * ROOT_BYTES); });
  roots.set(all);
  const start = new Rec(s.core, 32, o.start);
  const end = new Rec(s.core, 32, o.end);
  const next = new Rec(s.core, 32);
  try {
    x.merge_start(s.space.al, s.space.ws, dst.ptr, roots.ptr, inputs.length, start.ptr, end.ptr,
      o.subtree ? 1 : 0, o.dirtyMaxBlocks, o.allocLowNr, o.windowBytes);
    const ret = await s.core.runSteps(() => x.merge_run(), () => x.merge_progress());
    x.merge_next(next.ptr);
    return { ret, next: next.get() };
  } finally {
    for (const r of [roots, start, end, next]) r.free();
  }
}
