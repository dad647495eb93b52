/**
 * What the micro-benchmarks measure: for each group a subject (the core) first and
 * then its rivals, all doing the same work on the same keys and values.
 *
 * A batch does `opsPerBatch` operations, so that the timer's resolution and the call of
 * the batch itself do not count. Set-up that a batch uses up is made in `before`.
 */
import { AllocRoot } from '../../host/core/format.js';
import { Core } from '../../host/core/core.js';
import { crc32c } from '../../host/core/crc32c.js';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import { CoreItems, KeyWindow } from '../../host/core/item_face.js';
import type { WideKey } from '../../host/core/items.js';
import { Rec } from '../../host/core/trees.js';
import { randomFrom } from '../../host/env/random.js';
import { makeSpace } from '../../test/lib/treespace.js';
import { SortedArray, mapKey } from './rivals.js';

export interface Case {
  name: string;
  batch: () => void;
  before?: () => void;
  bytesPerOp?: number;
}

export interface Group {
  name: string;
  opsPerBatch: number;
  make: () => Case[] | Promise<Case[]>;
}

const FS = 16;
const DIRENT = 12;
const INO = 1025;
const VAL_BYTES = 48;
const ITEMS = 10_000;
const CACHE_BYTES = 32 << 20;
const ONES = 2n ** 64n - 1n;
const WRITE = 2;

/** Results go here, so that no rival's work can be left out as unused. */
export const sink = { n: 0 };

/** Deterministic shuffle of 0..n-1. */
function shuffled(n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let s = 12345;
  for (let i = n - 1; i > 0; i--) {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    const j = s % (i + 1);
    [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
  }
  return order;
}

function makeCore(): Core {
  const core = new Core(randomFrom((len) => new Uint8Array(len).fill(7)),
    { memoryBytes: 128 << 20, slotShare: 0.4 });
  if (core.x.itemInit(CACHE_BYTES) === 0) throw new Error('item cache does not fit');
  core.x.itemSetTransSeq(10);
  return core;
}

// ---- checksums ----

function checksum(lenBytes: number): Group {
  const opsPerBatch = 64;
  return {
    name: `checksum of ${lenBytes} bytes`,
    opsPerBatch,
    make() {
      const core = makeCore();
      const at = core.alloc(lenBytes);
      for (let i = 0; i < lenBytes; i++) core.bytes[at + i] = i * 7 & 255;
      const view = core.at(at + 4, lenBytes - 4);
      const raw = core.x as unknown as { crc32c(init: number, at: number, len: number): number };
      return [
        { name: 'core, sparse fold', bytesPerOp: lenBytes,
          batch() {
            for (let i = 0; i < opsPerBatch; i++) raw.crc32c(-1, at + 4, lenBytes - 4);
          } },
        { name: 'JavaScript, slicing by eight', bytesPerOp: lenBytes,
          batch() { for (let i = 0; i < opsPerBatch; i++) sink.n ^= crc32c(0xffffffff, view); } },
      ];
    },
  };
}

// ---- the item cache ----

interface CacheSetup {
  core: Core;
  items: CoreItems;
  lock: number;
  /** Empties the cache; the whole lock is known to have no items. */
  reset: () => void;
  /** Resets and creates all items. */
  fill: () => void;
}

const START: WideKey = { zone: FS, first: 1024n, type: 0, second: 0n, third: 0n, fourth: 0 };
const END: WideKey = { zone: FS, first: 2047n, type: 255, second: ONES, third: ONES, fourth: 255 };

function setupCache(order: Uint32Array): CacheSetup {
  const core = makeCore();
  const { x } = core;
  const items = new CoreItems(core, () => { throw new Error('not cached'); });
  const range = (): void => {
    new KeyWindow(core.view, ITEM_WINDOWS.keyA).set(START);
    new KeyWindow(core.view, ITEM_WINDOWS.keyB).set(END);
  };
  range();
  const lock = x.lockAlloc();
  x.lockSetMode(lock, WRITE, 5);
  const reset = (): void => {
    x.itemWriteDone();
    range();
    x.itemInvalidate();
    x.testFill(lock, 0, 0);
  };
  const fill = (): void => {
    reset();
    for (const n of order) items.create(lock, FS, INO, DIRENT, n, 2, 0, VAL_BYTES);
  };
  return { core, items, lock, reset, fill };
}

/** The rivals with all items in them. */
function filledRivals(order: Uint32Array): { map: Map<string, Uint8Array>; sorted: SortedArray } {
  const map = new Map<string, Uint8Array>();
  const sorted = new SortedArray();
  for (const n of order) {
    map.set(mapKey(FS, INO, DIRENT, n, 2), new Uint8Array(VAL_BYTES));
    sorted.insert(FS, INO, DIRENT, n, 2, new Uint8Array(VAL_BYTES));
  }
  return { map, sorted };
}

const itemInsert: Group = {
  name: 'item insert, 10000 in random order',
  opsPerBatch: ITEMS,
  make() {
    const order = shuffled(ITEMS);
    const c = setupCache(order);
    const val = new Uint8Array(VAL_BYTES);
    let map = new Map<string, Uint8Array>();
    let sorted = new SortedArray();
    return [
      { name: 'core item cache', before: c.reset,
        batch() {
          for (const n of order) c.items.create(c.lock, FS, INO, DIRENT, n, 2, 0, VAL_BYTES);
        } },
      { name: 'Map by string key (no order)', before() { map = new Map(); },
        batch() { for (const n of order) map.set(mapKey(FS, INO, DIRENT, n, 2), val.slice()); } },
      { name: 'sorted array of keys and values', before() { sorted = new SortedArray(); },
        batch() { for (const n of order) sorted.insert(FS, INO, DIRENT, n, 2, val.slice()); } },
    ];
  },
};

const itemLookup: Group = {
  name: 'item lookup of 10000 in random order',
  opsPerBatch: ITEMS,
  make() {
    const order = shuffled(ITEMS);
    const c = setupCache(order);
    c.fill();
    const { map, sorted } = filledRivals(order);
    return [
      { name: 'core item cache, value copied out',
        batch() { for (const n of order) c.items.lookup(c.lock, FS, INO, DIRENT, n, 2, 0); } },
      { name: 'Map by string key (no order)',
        batch() {
          for (const n of order) sink.n += map.get(mapKey(FS, INO, DIRENT, n, 2))?.length ?? 0;
        } },
      { name: 'sorted array of keys and values',
        batch() {
          for (const n of order) sink.n += sorted.find(FS, INO, DIRENT, n, 2)?.length ?? 0;
        } },
    ];
  },
};

const itemUpdate: Group = {
  name: 'item update in place',
  opsPerBatch: ITEMS,
  make() {
    const order = shuffled(ITEMS);
    const c = setupCache(order);
    c.fill();
    const val = new Uint8Array(VAL_BYTES);
    const { map } = filledRivals(order);
    return [
      { name: 'core item cache',
        batch() {
          for (const n of order) c.items.update(c.lock, FS, INO, DIRENT, n, 2, 0, VAL_BYTES);
        } },
      { name: 'Map by string key (no order)',
        batch() { for (const n of order) map.get(mapKey(FS, INO, DIRENT, n, 2))?.set(val); } },
    ];
  },
};

const itemNext: Group = {
  name: 'item iteration over 10000',
  opsPerBatch: ITEMS,
  make() {
    const order = shuffled(ITEMS);
    const c = setupCache(order);
    c.fill();
    const { sorted } = filledRivals(order);
    return [
      { name: 'core item cache, next by next',
        batch() {
          let at = 0;
          while (c.items.next(c.lock, FS, INO, DIRENT, at, 0, 0, ITEMS) >= 0) {
            at = c.items.found.second + 1;
          }
        } },
      { name: 'sorted array, position by position',
        batch() { for (let i = 0; i < ITEMS; i++) sink.n += sorted.at(i)?.val.length ?? 0; } },
    ];
  },
};

const entries: Group = {
  name: 'item entries by name: 500 created, 500 deleted',
  opsPerBatch: 1000,
  make() {
    const c = setupCache(new Uint32Array(0));
    c.reset();
    const names = Array.from({ length: 500 }, (_, i) => Buffer.from(`file-${i}.dat`));
    const map = new Map<string, Uint8Array>();
    return [
      { name: 'core, three items each, hashed inside',
        batch() {
          names.forEach((name, i) => {
            c.items.nameBytes.set(name);
            c.items.createEntry(c.lock, c.lock, INO, INO + 1, 4, i + 2, name.length);
          });
          names.forEach((name, i) => {
            c.items.nameBytes.set(name);
            c.items.deleteEntry(c.lock, c.lock, INO, INO + 1, i + 2, name.length);
          });
        } },
      { name: 'Map by name, one entry each',
        batch() {
          for (const name of names) map.set(`${INO}/${name.toString('latin1')}`, name);
          for (const name of names) map.delete(`${INO}/${name.toString('latin1')}`);
        } },
    ];
  },
};

// ---- the btree ----

const BTREE_ITEMS = 10_000;
/** A batch of updates rewrites each item once: this many fit the allocator comfortably. */
const LIST_BLOCKS = 7999;

const btree: Group = {
  name: 'btree of 10000 items, one call each',
  opsPerBatch: BTREE_ITEMS,
  async make() {
    const { core, space } = makeSpace(LIST_BLOCKS);
    const { x } = core;
    const root = new Rec(core, 24);
    const key = new Rec(core, 32);
    const val = core.alloc(VAL_BYTES);
    const order = shuffled(BTREE_ITEMS);
    const at = new KeyWindow(core.view, key.ptr);
    at.set({ zone: FS, first: BigInt(INO), type: DIRENT, second: 0n, third: 2n, fourth: 0 });
    const second = key.ptr / 4 + 2;
    const force = (n: number): number => {
      core.u32[second] = n;
      return x.btree_force(space.al, space.ws, root.ptr, key.ptr, val, VAL_BYTES);
    };
    await core.runAsync('first item', () => force(0));
    const { map, sorted } = filledRivals(order);
    const mapVal = new Uint8Array(VAL_BYTES);
    return [
      { name: 'core, force (insert or update), dirty blocks',
        batch() { for (const n of order) force(n); } },
      { name: 'core, lookup',
        batch() {
          for (const n of order) {
            core.u32[second] = n;
            x.btree_lookup(root.ptr, key.ptr, val, VAL_BYTES);
          }
        } },
      { name: 'Map by string key, set (no order)',
        batch() {
          for (const n of order) map.set(mapKey(FS, INO, DIRENT, n, 2), mapVal.slice());
        } },
      { name: 'sorted array, find',
        batch() {
          for (const n of order) sink.n += sorted.find(FS, INO, DIRENT, n, 2)?.length ?? 0;
        } },
    ];
  },
};

// ---- the allocator of extents ----

const PIECES = 1000;
const PIECE_BLOCKS = 8;

/** Free extents of `PIECE_BLOCKS`, none beside another: inserted, then taken by number. */
const extents: Group = {
  name: `free extents: ${PIECES} freed and taken again`,
  opsPerBatch: 2 * PIECES,
  async make() {
    const { core, space } = makeSpace(LIST_BLOCKS);
    const { x } = core;
    const root = new Rec(core, AllocRoot.size);
    const order = shuffled(PIECES);
    const startOf = (n: number): number => 1 + n * 2 * PIECE_BLOCKS;
    const insert = (n: number): number =>
      x.ext_insert(space.al, space.ws, root.ptr, startOf(n), PIECE_BLOCKS);
    await core.runAsync('first extent', () => insert(PIECES));
    const starts: number[] = [];
    const place = (start: number): number => {
      let lo = 0;
      for (let hi = starts.length; lo < hi;) {
        const mid = (lo + hi) >> 1;
        if ((starts[mid] ?? 0) < start) lo = mid + 1;
        else hi = mid;
      }
      return lo;
    };
    return [
      { name: 'core, two items each in a dirty btree',
        batch() {
          let worst = 0;
          for (const n of order) worst = Math.min(worst, insert(n));
          for (const n of order) {
            worst = Math.min(worst,
              x.ext_remove(space.al, space.ws, root.ptr, startOf(n), PIECE_BLOCKS));
          }
          if (worst < 0) throw new Error(`free extents: result ${worst}`);
        } },
      { name: 'sorted array of starts, by number only',
        batch() {
          for (const n of order) starts.splice(place(startOf(n)), 0, startOf(n));
          for (const n of order) starts.splice(place(startOf(n)), 1);
        } },
    ];
  },
};

// ---- memory and the border ----

const heap: Group = {
  name: 'heap: 1000 records allocated and freed',
  opsPerBatch: 1000,
  make() {
    const { x } = makeCore();
    const at = new Uint32Array(1000);
    let kept: Uint8Array[] = [];
    return [
      { name: 'core heap (buddies)',
        batch() {
          for (let i = 0; i < 1000; i++) at[i] = x.heapAlloc(64 + i % 7 * 100);
          for (let i = 0; i < 1000; i++) x.heapFree(at[i] ?? 0, 64 + i % 7 * 100);
        } },
      { name: 'JavaScript: new Uint8Array, collected',
        batch() {
          kept = [];
          for (let i = 0; i < 1000; i++) kept.push(new Uint8Array(64 + i % 7 * 100));
        } },
    ];
  },
};

const border: Group = {
  name: 'border: one call',
  opsPerBatch: ITEMS,
  make() {
    const { x, view } = makeCore();
    const key = new KeyWindow(view, ITEM_WINDOWS.keyA);
    return [
      { name: 'a call without arguments',
        batch() { for (let i = 0; i < ITEMS; i++) sink.n += x.itemPages(); } },
      { name: 'a key through the window by DataView',
        batch() {
          for (let i = 0; i < ITEMS; i++) {
            key.set(START);
            sink.n += x.itemPages();
          }
        } },
    ];
  },
};

export const groups: Group[] = [
  checksum(4096), checksum(65_536), itemInsert, itemLookup, itemUpdate, itemNext, entries, btree,
  extents, heap, border,
];
