/**
 * The forest: merging of versions over trees, bloom skips, stale and missing blocks, the
 * barrier, and the writing of dirty items exactly once.
 */
import fc from 'fast-check';
import t from 'tap';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import { KeyWindow } from '../../host/core/item_face.js';
import { ABSENT } from '../../host/core/items.js';
import type { WideKey } from '../../host/core/items.js';
import { Rec } from '../../host/core/trees.js';
import { hexBytes, seeded } from '../lib/core.js';
import { ForestSpace, LT_ITEM_ROOT, wideBytes } from '../lib/forest_space.js';
import type { LogOptions, TreeItem } from '../lib/forest_space.js';
import {
  NotCached, READ, WRITE, WRITE_ONLY, denseEnd, denseKey, valueOf,
} from '../lib/item_cache.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';
import { keyBytes, rawTree } from '../lib/treespace.js';

const ESTALE = -116;
const EIO = -5;
const ENOENT = -2;
const ENOMEM = -12;
const KEYS = 300;

function item(n: number, seq: number, len: number, deletion = false): TreeItem {
  const val = deletion ? new Uint8Array(0) : valueOf(n, seq, len);
  return { key: denseKey(n), seq, deletion, val };
}

function cached(f: ForestSpace, lock: number, n: number): boolean {
  try {
    f.items.touch(lock, 16, 1, 12, n, 0, 0);
    return true;
  } catch (e) {
    if (e instanceof NotCached) return false;
    throw e;
  }
}

/** The value of a cached key, null for absence. */
function value(f: ForestSpace, lock: number, n: number): Uint8Array | null {
  const len = f.items.lookup(lock, 16, 1, 12, n, 0, 0);
  return len === ABSENT ? null : f.items.valBytes.slice(0, len);
}

t.test('versions: greatest seq, first at equal seqs, tombstones hide', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), READ, 0);
  await f.fsItems([item(1, 1, 8), item(2, 1, 8), item(3, 7, 8), item(4, 1, 8)]);
  await f.addLog({ rid: 1n, nr: 1, blooms: [lock],
    items: [item(2, 5, 8), item(3, 7, 9), item(4, 6, 0, true), item(5, 5, 8)] });
  await f.addLog({ rid: 2n, nr: 1, blooms: [lock],
    items: [item(2, 4, 8), item(4, 5, 8), item(5, 6, 8), item(6, 2, 0, true)] });
  await f.commit();
  f.core.x.blockEvictAll();
  t.equal(await f.read(lock, denseKey(50)), 0);
  t.same([1, 2, 3, 4, 5, 6, 99].map((n) => value(f, lock, n)), [
    valueOf(1, 1, 8), valueOf(2, 5, 8), valueOf(3, 7, 8), null, valueOf(5, 6, 8), null, null]);
  t.equal(f.core.x.itemDirtyItems(), 0);
  t.equal(cached(f, lock, 0), true, 'one small forest is known over the whole lock');
  f.core.x.pageVerify();
});

t.test('a new tree with the nr of an earlier one has its own bits', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), READ, 0);
  const other = f.lock(denseKey(100), denseEnd(199), READ, 0);
  await f.makeLog({ rid: 1n, nr: 1, blooms: [lock, other], items: [item(1, 2, 8)] });
  // The first one was merged away, as when its mount was long not heard of.
  await f.addLog({ rid: 1n, nr: 1, blooms: [other, lock], items: [item(1, 9, 8)] });
  await f.commit();
  f.core.x.blockEvictAll();
  t.equal(await f.read(lock, denseKey(1)), 0);
  t.same(value(f, lock, 1), valueOf(1, 9, 8));
});

t.test('log trees without the bits, without items and without blooms are skipped', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), READ, 0);
  const other = f.lock(denseKey(1000), denseEnd(1099), READ, 0);
  await f.fsItems([item(1, 1, 8)]);
  await f.addLog({ rid: 1n, nr: 1, blooms: [other], items: [item(1, 9, 8)] });
  await f.addLog({ rid: 2n, nr: 1, blooms: [lock], items: [] });
  await f.addLog({ rid: 3n, nr: 1, blooms: [], items: [item(1, 9, 8)] });
  await f.commit();
  f.core.x.blockEvictAll();
  t.equal(await f.read(lock, denseKey(1)), 0);
  t.same(value(f, lock, 1), valueOf(1, 1, 8));
});

t.test('an empty forest covers the whole lock; the lock must allow reading', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), READ, 0);
  t.equal(await f.read(lock, denseKey(5)), 0);
  t.equal(cached(f, lock, 0) && cached(f, lock, 99), true);
  t.equal(await f.read(lock, denseKey(100)), -22);
  const blind = f.lock(denseKey(200), denseEnd(299), WRITE_ONLY, 1);
  t.equal(await f.read(blind, denseKey(200)), -22);
});

t.test('existing coverage wins over what is read', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), WRITE, 5);
  f.core.x.itemSetTransSeq(10);
  await f.fsItems([item(1, 1, 8), item(2, 1, 8)]);
  await f.commit();
  t.equal(await f.read(lock, denseKey(1)), 0);
  f.items.delete(lock, 16, 1, 12, 1, 0, 0);
  f.items.create(lock, 16, 1, 12, 3, 0, 0, 0);
  new KeyWindow(f.core.view, ITEM_WINDOWS.keyA).set(denseKey(10));
  new KeyWindow(f.core.view, ITEM_WINDOWS.keyB).set(denseEnd(99));
  f.core.x.itemInvalidate();
  t.equal(cached(f, lock, 50), false);
  t.equal(await f.read(lock, denseKey(50)), 0);
  t.same([1, 2, 3].map((n) => value(f, lock, n)), [null, valueOf(2, 1, 8), new Uint8Array(0)]);
  t.equal(f.core.x.itemDirtyItems(), 2);
});

t.test('a read that began before a commit installs nothing', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), WRITE, 5);
  await f.fsItems([item(1, 1, 8)]);
  await f.commit();
  const barrier = f.core.x.itemBarrier();
  f.core.x.itemWriteDone();
  t.equal(await f.read(lock, denseKey(1), barrier), ESTALE);
  t.equal(cached(f, lock, 1), false);
  t.equal(await f.read(lock, denseKey(1)), 0);
});

t.test('replaced and damaged blocks', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), READ, 0);
  await f.fsItems([item(1, 1, 8)]);
  const lt = await f.addLog({ rid: 1n, nr: 1, blooms: [lock], items: [item(2, 5, 8)] });
  await f.commit();
  f.core.x.blockEvictAll();
  const blkno = Number(f.core.view.getBigUint64(f.bloomRef(lt), true));
  const saved = new Uint8Array(65_536);
  f.s.dev.readSync(blkno * 65_536, saved);
  const damaged = saved.slice();
  damaged[1000] = 1;
  f.s.dev.writeSync(blkno * 65_536, damaged);
  t.equal(await f.read(lock, denseKey(1)), ESTALE, 'a bloom block that does not verify is stale');
  t.equal(cached(f, lock, 1), false);
  f.s.dev.writeSync(blkno * 65_536, saved);
  t.equal(await f.read(lock, denseKey(1)), 0, 'what was read again is used');
  await f.s.space.force(f.logsRoot.ptr, keyBytes(24, 9n, 0, 1n), new Uint8Array(471));
  f.core.x.itemEvictAll();
  t.equal(await f.read(lock, denseKey(1)), EIO, 'a log trees value of the wrong size');
  f.core.view.setUint8(f.fsRoot.ptr + 16, 99);
  t.equal(await f.read(lock, denseKey(1)), EIO, 'an impossible height');
});

t.test('a full cache of dirty pages refuses to read; clean ones make room', async (t) => {
  const f = new ForestSpace(16 * 16_384);
  const lock = f.lock(denseKey(0), denseEnd(9999), WRITE, 5);
  f.core.x.itemSetTransSeq(10);
  const big = Array.from({ length: 600 }, (_, n) => item(n, 1, 896));
  await f.fsItems(big);
  await f.commit();
  for (let n = 0; n < 600; n += 7) {
    if (!cached(f, lock, n)) t.equal(await f.read(lock, denseKey(n)), 0, `read ${n}`);
    t.same(value(f, lock, n), valueOf(n, 1, 896), { diagnostic: false });
  }
  let r = 0;
  for (let n = 0; n < 600 && r === 0; n++) {
    if (!cached(f, lock, n)) r = await f.read(lock, denseKey(n));
    if (r === 0) {
      f.keyA(denseKey(n));
      if (f.core.x.itemDirtyKey(lock) !== 0) throw new Error('dirty');
    }
  }
  t.equal(r, ENOMEM);
  f.core.x.pageVerify();
  f.core.x.itemWriteDone();
  t.equal(await f.read(lock, denseKey(599)), 0);
});

t.test('next hint: least key of any tree, tombstones included', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(denseKey(0), denseEnd(99), READ, 0);
  const at = new Rec(f.core, 32);
  const found = new KeyWindow(f.core.view, ITEM_WINDOWS.found);
  const hint = async (n: number): Promise<number> => {
    at.set(wideBytes(denseKey(n)));
    const r = await f.run(() => f.core.x.forestNextHint(f.fsRoot.ptr, f.logsRoot.ptr, at.ptr));
    return r === 0 ? found.second : r;
  };
  t.equal(await hint(0), ENOENT, 'no trees');
  await f.fsItems([item(10, 1, 8), item(50, 1, 8)]);
  await f.addLog({ rid: 1n, nr: 1, blooms: [], items: [item(20, 2, 0, true)] });
  await f.addLog({ rid: 2n, nr: 1, blooms: [lock], items: [] });
  await f.addLog({ rid: 3n, nr: 1, blooms: [lock], items: [item(60, 2, 8)] });
  await f.commit();
  f.coldBlocks = true;
  t.same([await hint(0), await hint(11), await hint(21), await hint(51), await hint(61)],
    [10, 20, 50, 60, ENOENT]);
});

t.test('bloom bits and totals of the vectors', { skip: skipWithoutSpec() }, async (t) => {
  const cv = vectors('core-vectors.json') as {
    key_hashes: { bytes: string; bloom_nrs: number[] }[];
    totl_resolve: { contribute: { seq: number; total: number; count: number; src: string }[];
      total: number; count: number }[];
  };
  const f = new ForestSpace();
  const at = new Rec(f.core, 32);
  for (const k of cv.key_hashes) {
    at.set(hexBytes(k.bytes));
    t.same([0, 1, 2].map((i) => f.core.x.bloomBit(at.ptr, i)), k.bloom_nrs);
  }
  const { totl_merge: merges } = vectors('fs-vectors.json') as { totl_merge: {
    contribs: { seq: number; total: string; count: string; from: string }[];
    total: string; count: string }[]; };
  const cases = [...cv.totl_resolve, ...merges.map((m) => ({
    ...m, contribute: m.contribs.map((c) => ({ ...c, src: c.from })),
  }))];
  const sources = [['fs', 'fs_root'], ['merge_input'], ['log', 'other_log']];
  for (const v of cases) {
    f.core.x.totlBegin();
    for (const c of v.contribute) {
      f.core.view.setBigInt64(at.ptr, BigInt(c.total), true);
      f.core.view.setBigInt64(at.ptr + 8, BigInt(c.count), true);
      f.core.x.totlAddSeq(sources.findIndex((names) => names.includes(c.src)), c.seq, at.ptr);
    }
    const present = f.core.x.totlResolve(at.ptr);
    t.equal(present, BigInt(v.total) === 0n && BigInt(v.count) === 0n ? 0 : 1);
    t.same([f.core.view.getBigInt64(at.ptr, true), f.core.view.getBigInt64(at.ptr + 8, true)],
      [BigInt(v.total), BigInt(v.count)]);
  }
  await Promise.resolve();
});

// ---- weakly consistent reads ---------------------------------------------------------

const TOTL_START: WideKey = { zone: 12, first: 0n, type: 0, second: 0n, third: 0n, fourth: 0 };
const ONES = 2n ** 64n - 1n;
const TOTL_END: WideKey = {
  zone: 12, first: ONES, type: 255, second: ONES, third: ONES, fourth: 255,
};

function total(n: number, seq: number, sum: number, count: number): TreeItem {
  const val = new Uint8Array(16);
  new DataView(val.buffer).setBigInt64(0, BigInt(sum), true);
  new DataView(val.buffer).setBigInt64(8, BigInt(count), true);
  return { key: { ...TOTL_START, third: BigInt(n) }, seq, deletion: false, val };
}

/** Reads a whole range weakly: [third, total or value length] of each item. */
async function weakTotals(f: ForestSpace, mergeSeq: number, outBytes: number): Promise<string[]> {
  const out = f.core.alloc(outBytes);
  const bloom = new Rec(f.core, 32, wideBytes(TOTL_START));
  const at = new Rec(f.core, 32, wideBytes(TOTL_START));
  const keyB = new KeyWindow(f.core.view, ITEM_WINDOWS.keyB);
  const got: string[] = [];
  for (let round = 0; round < 1000; round++) {
    const n = await f.run(() => {
      keyB.set(TOTL_END);
      return f.core.x.forestReadWeak(f.fsRoot.ptr, f.logsRoot.ptr, bloom.ptr, at.ptr, mergeSeq,
        out, outBytes);
    });
    if (n < 0) throw new Error(`weak read: ${n}`);
    for (let i = 0, p = out; i < n; i++) {
      const len = f.core.view.getUint32(p + 32, true);
      const third = new KeyWindow(f.core.view, p).third;
      got.push(`${third}: ${f.core.view.getBigInt64(p + 40, true)}, ` +
        `${f.core.view.getBigInt64(p + 48, true)}`);
      p += 40 + (len + 7 & ~7);
    }
    const last = keyB.wide();
    if (last.first === ONES && last.third === ONES) return got;
    const next = { ...last, third: last.third + 1n, fourth: 0 };
    if (last.fourth === 255 && last.third === ONES) throw new Error('not expected here');
    at.set(wideBytes(last.fourth === 255 ? next : { ...last, fourth: last.fourth + 1 }));
  }
  throw new Error('the range never ends');
}

t.test('totals are resolved by source, in pieces of any size', async (t) => {
  const f = new ForestSpace();
  const lock = f.lock(TOTL_START, TOTL_END, WRITE_ONLY, 1);
  await f.fsItems([total(1, 10, 100, 1), total(2, 20, 150, 2), total(3, 10, 5, 1),
    total(9, 1, 0, 0)]);
  // an input of the merge with seq 30, an input of a later merge, an open tree
  await f.addLog({ rid: 1n, nr: 1, finalizeSeq: 25, blooms: [lock],
    items: [total(1, 20, 50, 1), total(2, 20, 50, 1), total(4, 20, 50, 1),
      total(5, 20, -50, -1)] });
  await f.addLog({ rid: 1n, nr: 2, finalizeSeq: 35, blooms: [lock], items: [total(2, 33, 7, 1)] });
  await f.addLog({ rid: 2n, nr: 1, blooms: [lock],
    items: [total(1, 40, 1, 0), total(3, 40, -5, -1)] });
  await f.commit();
  f.coldBlocks = true;
  const want = ['1: 151, 2', '2: 157, 3', '4: 50, 1'];
  t.same(await weakTotals(f, 30, 8192), want);
  t.same(await weakTotals(f, 30, 56), want, 'one item a call');
  t.same(await weakTotals(f, 0, 8192), ['1: 151, 2', '2: 207, 4', '4: 50, 1'],
    'without a merge all finalized trees are inputs');
});

// ---- random forests ------------------------------------------------------------------

interface Tree {
  items: TreeItem[];
}

/** What the trees together say of each key. */
function merged(trees: Tree[]): Map<number, Uint8Array> {
  const best = new Map<number, TreeItem>();
  for (const tree of trees) {
    for (const it of tree.items) {
      const n = Number(it.key.second);
      const old = best.get(n);
      if (old === undefined || it.seq > old.seq) best.set(n, it);
    }
  }
  return new Map([...best].filter(([, it]) => !it.deletion).map(([n, it]) => [n, it.val]));
}

function randomTree(rnd: (below: number) => number, deletions: boolean): Tree {
  const items: TreeItem[] = [];
  const density = 1 + rnd(6);
  for (let n = 0; n < KEYS; n++) {
    if (rnd(density) !== 0) continue;
    items.push(item(n, 1 + rnd(50), rnd(3) === 0 ? 896 : rnd(300), deletions && rnd(4) === 0));
  }
  return { items };
}

t.test('random forests, cold blocks, local changes', async (t) => {
  await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 1 << 30 }), async (seed) => {
    const rnd = seeded(seed);
    const f = new ForestSpace((20 + rnd(200)) * 16_384, seed);
    const lock = f.lock(denseKey(0), denseEnd(KEYS - 1), WRITE, 5);
    f.core.x.itemSetTransSeq(100);
    const trees = [randomTree(rnd, false)];
    await f.fsItems(trees[0]?.items ?? []);
    for (let rid = 1; rid <= rnd(5); rid++) {
      const tree = randomTree(rnd, true);
      trees.push(tree);
      const log: LogOptions = { rid: BigInt(rid), nr: 1, blooms: [lock], items: tree.items };
      if (rnd(2) === 0) log.finalizeSeq = rid;
      await f.addLog(log);
    }
    await f.commit();
    const want = merged(trees);
    f.coldBlocks = true;
    for (let round = 0; round < 60; round++) {
      const n = rnd(KEYS);
      if (!cached(f, lock, n)) {
        const r = await f.read(lock, denseKey(n));
        if (r === ENOMEM) break;
        if (r !== 0) throw new Error(`read: ${r}`);
        if (!cached(f, lock, n)) throw new Error(`${n} was read and is not covered`);
      }
      changeOne(f, lock, rnd, want, n, round);
      if (rnd(10) === 0) f.core.x.itemEvictAll();
      compareAll(f, lock, want);
    }
    f.core.x.pageVerify();
  }), { numRuns: 25, seed: 4 });
  t.pass('25 forests');
});

function changeOne(f: ForestSpace, lock: number, rnd: (below: number) => number,
  want: Map<number, Uint8Array>, n: number, round: number): void {
  const how = rnd(4);
  if (how === 0) return;
  if (f.core.x.itemReserve(1) === 0) return;
  const val = valueOf(n, round, rnd(100));
  f.items.valBytes.set(val);
  const key = [16, 1, 12, n, 0, 0] as const;
  if (!want.has(n)) f.items.create(lock, ...key, val.length);
  else if (how === 1) f.items.delete(lock, ...key);
  else f.items.update(lock, ...key, val.length);
  if (how === 1 && want.has(n)) want.delete(n);
  else want.set(n, val);
}

function compareAll(f: ForestSpace, lock: number, want: Map<number, Uint8Array>): void {
  for (let n = 0; n < KEYS; n++) {
    if (!cached(f, lock, n)) continue;
    const got = value(f, lock, n);
    const w = want.get(n) ?? null;
    const same = got === null || w === null ? got === w : Buffer.compare(got, w) === 0;
    if (!same) {
      throw new Error(`key ${n}: ${got?.length ?? 'absent'}, expected ${w?.length ?? 'absent'}`);
    }
  }
}

// ---- writing ---------------------------------------------------------------------------

/** The items of a written log tree: key second or third → [seq, flags, value]. */
function treeItems(f: ForestSpace, lt: Rec): Map<string, string> {
  const root = new Rec(f.core, 24, f.core.copyOut(lt.ptr + LT_ITEM_ROOT, 24));
  const leaves = rawTree(f.s.dev, root).at(-1) ?? [];
  root.free();
  return new Map(leaves.flatMap((b) => b.items).map((it) => [
    Buffer.from(it.key).toString('hex'),
    `${it.seq} ${it.flags} ${Buffer.from(it.val).toString('hex')}`,
  ]));
}

t.test('dirty items reach the log tree once, whatever is repeated', async (t) => {
  await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 1 << 30 }), async (seed) => {
    const rnd = seeded(seed);
    const f = new ForestSpace(8 << 20, seed);
    const lock = f.lock(denseKey(0), denseEnd(KEYS - 1), WRITE, 5);
    const totals = f.lock(TOTL_START, TOTL_END, WRITE_ONLY, 6);
    const lt = await f.makeLog({ rid: 7n, nr: 1, blooms: [], items: [] });
    await f.commit();
    const want = new Map<string, string>();
    const sums = new Map<number, bigint>();
    f.coldBlocks = true;
    for (let trans = 10; trans < 13; trans++) {
      f.core.x.itemSetTransSeq(trans);
      await oneTransaction(f, lock, totals, rnd, trans, want, sums);
      let r = await f.write(lt, 1 + rnd(40));
      if (r === 0 && rnd(2) === 0) r = await f.write(lt, 5);
      if (r !== 0) throw new Error(`write: ${r}`);
      const maxSeq = f.core.view.getBigUint64(lt.ptr + 432, true);
      if (maxSeq !== BigInt(trans)) throw new Error(`max_item_seq ${maxSeq}`);
      await f.commit();
      f.core.x.itemWriteDone();
      f.core.x.pageVerify();
      const got = treeItems(f, lt);
      for (const [k, v] of want) {
        if (got.get(k) !== v) throw new Error(`${k}: ${got.get(k)}, not ${v}`);
      }
      if (got.size !== want.size) throw new Error(`${got.size} items, not ${want.size}`);
    }
    checkBloom(f, lt, [lock, totals]);
  }), { numRuns: 15, seed: 6 });
  t.pass('15 mounts of three transactions');
});

async function oneTransaction(f: ForestSpace, lock: number, totals: number,
  rnd: (below: number) => number, trans: number, want: Map<string, string>,
  sums: Map<number, bigint>): Promise<void> {
  const has = (n: number): boolean => (want.get(hex(denseKey(n))) ?? '').split(' ')[1] === '0';
  const now = new Map<number, Uint8Array | null>();
  for (let i = 0; i < 150; i++) {
    const n = rnd(KEYS);
    // Nothing was ever stored outside of this tree: the whole lock can be covered as empty.
    if (!cached(f, lock, n) && await f.read(lock, denseKey(n)) !== 0) throw new Error('read');
    const there = now.has(n) ? now.get(n) !== null : value(f, lock, n) !== null;
    const val = valueOf(n, i, rnd(5) === 0 ? 896 : rnd(60));
    f.items.valBytes.set(val);
    const key = [16, 1, 12, n, 0, 0] as const;
    if (there && rnd(3) === 0) {
      f.items.delete(lock, ...key);
      now.set(n, null);
    } else {
      if (there) f.items.update(lock, ...key, val.length);
      else f.items.create(lock, ...key, val.length);
      now.set(n, val);
    }
  }
  for (const [n, val] of now) {
    const k = hex(denseKey(n));
    if (val !== null) want.set(k, `${trans} 0 ${Buffer.from(val).toString('hex')}`);
    else if (has(n) || want.has(k)) setTombstone(f, want, k, trans, has(n));
  }
  for (let i = 0; i < 20; i++) addTotal(f, totals, rnd(6), rnd(9) - 4, trans, sums, want);
}

/** A deleted item that the tree has becomes a tombstone there; one that it hid already stays. */
function setTombstone(f: ForestSpace, want: Map<string, string>, k: string, trans: number,
  stored: boolean): void {
  if (stored) want.set(k, `${trans} 1 `);
  f.core.x.pageVerify();
}

/** Sums of one transaction that cancel leave the tree as it was; others are added there. */
function addTotal(f: ForestSpace, totals: number, n: number, sum: number, trans: number,
  sums: Map<number, bigint>, want: Map<string, string>): void {
  const it = total(n, trans, sum, 1);
  f.items.valBytes.set(it.val);
  f.items.delta(totals, 0, it.key, 16);
  const before = sums.get(n) ?? 0n;
  sums.set(n, before + BigInt(sum));
  const k = hex(it.key);
  const count = BigInt((want.get(k) ?? '').split(' ')[2] === undefined ? 0
    : Buffer.from((want.get(k) ?? '').split(' ')[2] ?? '', 'hex').readBigInt64LE(8)) + 1n;
  const v = Buffer.alloc(16);
  v.writeBigInt64LE(before + BigInt(sum), 0);
  v.writeBigInt64LE(count, 8);
  want.set(k, `${trans} 0 ${v.toString('hex')}`);
}

function hex(k: WideKey): string {
  return Buffer.from(wideBytes(k)).toString('hex');
}

/** Exactly the bits of these locks are set and counted. */
function checkBloom(f: ForestSpace, lt: Rec, locks: number[]): void {
  const blkno = Number(f.core.view.getBigUint64(f.bloomRef(lt), true));
  const block = new Uint8Array(65_536);
  f.s.dev.readSync(blkno * 65_536, block);
  const bits = new Set(locks.flatMap((l) => [0, 1, 2].map((i) => f.core.x.bloomBit(l, i))));
  const view = new DataView(block.buffer);
  if (view.getBigUint64(32, true) !== BigInt(bits.size)) throw new Error('total_set');
  let set = 0;
  for (let b = 40; b < 65_536; b++) for (let i = 0; i < 8; i++) set += (block[b] ?? 0) >> i & 1;
  if (set !== bits.size) throw new Error(`${set} bits, not ${bits.size}`);
  for (const b of bits) {
    if (((block[40 + (b >> 3)] ?? 0) >> (b & 7) & 1) === 0) throw new Error(`bit ${b} is clear`);
  }
}
