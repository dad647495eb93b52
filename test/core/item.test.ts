/**
 * The item cache: the rules of each operation, then random histories against a plain
 * model that knows what is stored, what is dirty and what must still be covered.
 */
import fc from 'fast-check';
import t from 'tap';
import { ABSENT } from '../../host/core/items.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import {
  NotCached, READ, TestCache, WRITE, WRITE_ONLY, denseEnd, denseKey, valueOf,
} from '../lib/item_cache.js';
import type { ListItem } from '../lib/item_cache.js';

const FS = 16;
const DIRENT = 12;
const KEYS = 400;

type Args = [zone: number, first: number, type: number, second: number, third: number,
  fourth: number];
const dense = (n: number): Args => [FS, 1, DIRENT, n, 0, 0];

/** The code of the error that `fn` throws, or what it returns. */
function outcome<T>(fn: () => T): T | string {
  try {
    return fn();
  } catch (e) {
    if (e instanceof ScoutfsError) return e.code;
    if (e instanceof NotCached) return 'NOT_CACHED';
    throw e;
  }
}

function fresh(mode = WRITE, cacheBytes = 1 << 20): { c: TestCache; lock: number } {
  const c = new TestCache(cacheBytes);
  const lock = c.lock(denseKey(0), denseEnd(KEYS - 1), mode, 5);
  c.core.x.itemSetTransSeq(10);
  return { c, lock };
}

t.test('what each operation answers', (t) => {
  const { c, lock } = fresh();
  const { items } = c;
  const val = Uint8Array.of(1, 2, 3);
  t.equal(outcome(() => items.lookup(lock, ...dense(7))), 'NOT_CACHED');
  t.equal(outcome(() => { items.create(lock, ...dense(7), 0); }), 'ITEM_NOT_COVERED');
  c.fill(lock, denseKey(0), denseEnd(99), []);
  t.equal(items.lookup(lock, ...dense(7)), ABSENT);
  t.equal(outcome(() => { items.update(lock, ...dense(7), 0); }), 'ENOENT');
  t.equal(outcome(() => { items.delete(lock, ...dense(7)); }), 'ENOENT');
  items.create(lock, ...dense(7), c.setValue(val));
  t.equal(items.lookup(lock, ...dense(7)), 3);
  t.same(c.value(3), val);
  t.equal(outcome(() => { items.create(lock, ...dense(7), 0); }), 'EEXIST');
  items.update(lock, ...dense(7), c.setValue(valueOf(7, 1, 896)));
  t.equal(items.lookup(lock, ...dense(7)), 896);
  t.same(c.value(896), valueOf(7, 1, 896));
  t.equal(outcome(() => { items.update(lock, ...dense(7), 897); }), 'ITEM_LOCK', 'too long');
  t.equal(c.core.x.itemDirtyItems(), 1);
  items.delete(lock, ...dense(7));
  t.equal(items.lookup(lock, ...dense(7)), ABSENT);
  t.equal(c.core.x.itemDirtyItems(), 0, 'created and deleted leaves nothing');
  t.end();
});

t.test('the lock must cover the key and permit the operation', (t) => {
  const { c, lock } = fresh();
  const { items } = c;
  c.fill(lock, denseKey(0), denseEnd(KEYS - 1), []);
  const bad = (fn: () => unknown): void => { t.equal(outcome(fn), 'ITEM_LOCK'); };
  bad(() => items.lookup(lock, ...dense(KEYS)));
  bad(() => items.lookup(lock, FS, 2, DIRENT, 0, 0, 0));
  bad(() => { items.createForce(lock, 0, ...dense(1)); });
  c.core.x.lockSetMode(lock, READ, 0);
  t.equal(items.lookup(lock, ...dense(1)), ABSENT);
  bad(() => { items.create(lock, ...dense(1), 0); });
  bad(() => { items.update(lock, ...dense(1), 0); });
  bad(() => { items.delete(lock, ...dense(1)); });
  c.core.x.lockSetMode(lock, WRITE_ONLY, 6);
  bad(() => items.lookup(lock, ...dense(1)));
  bad(() => { items.create(lock, ...dense(1), 0); });
  bad(() => { items.createForce(lock, lock, ...dense(1)); });
  const primary = c.lock(denseKey(1000), denseEnd(1000), READ, 0);
  bad(() => { items.createForce(lock, primary, ...dense(1)); });
  c.core.x.lockSetMode(primary, WRITE, 77);
  items.createForce(lock, primary, ...dense(1));
  t.equal(c.core.x.itemMaxDirtySeq(), 77, 'the primary dates the item');
  c.core.x.lockSetMode(lock, 0, 0);
  bad(() => items.lookup(lock, ...dense(1)));
  c.core.x.itemSetTransSeq(0);
  c.core.x.lockSetMode(lock, WRITE, 8);
  bad(() => { items.create(lock, ...dense(2), 0); });
  t.throws(() => c.core.x.lockMode(4096), { code: 'CORE_INVARIANT', data: { nr: 17 } });
  t.equal(c.core.x.checkId(), 17);
  t.end();
});

t.test('seq is the greatest of transaction, lock and primary', (t) => {
  const { c, lock } = fresh();
  c.fill(lock, denseKey(0), denseEnd(9), []);
  c.items.create(lock, ...dense(1), 0);
  t.equal(c.core.x.itemMaxDirtySeq(), 10, 'transaction seq over write_seq 5');
  t.equal(c.core.x.lockLastDirtySeq(lock), 10);
  c.core.x.lockSetMode(lock, WRITE, 2 ** 40);
  c.items.update(lock, ...dense(1), 0);
  t.equal(c.core.x.itemMaxDirtySeq(), 2 ** 40);
  t.end();
});

t.test('a tombstone is kept exactly when an older version may be stored', (t) => {
  const { c, lock } = fresh();
  const { items, core } = c;
  const stored: ListItem[] = [{ key: denseKey(3), seq: 1, val: valueOf(3, 0, 4) }];
  c.fill(lock, denseKey(0), denseEnd(9), stored);
  items.delete(lock, ...dense(3));
  t.equal(core.x.itemDirtyItems(), 1, 'a dirty tombstone');
  t.equal(items.lookup(lock, ...dense(3)), ABSENT);
  t.equal(items.next(lock, ...dense(0), 9), ABSENT, 'next skips tombstones');
  items.create(lock, ...dense(3), c.setValue(valueOf(3, 1, 8)));
  items.delete(lock, ...dense(3));
  t.equal(core.x.itemDirtyItems(), 1, 'recreated and deleted: still a tombstone');
  core.x.itemWriteDone();
  t.equal(core.x.itemDirtyItems(), 0);
  items.create(lock, ...dense(3), 0);
  items.delete(lock, ...dense(3));
  t.equal(core.x.itemDirtyItems(), 0, 'after the commit nothing is stored any more');
  items.create(lock, ...dense(4), 0);
  core.x.itemWriteDone();
  items.delete(lock, ...dense(4));
  t.equal(core.x.itemDirtyItems(), 1, 'a committed item needs a tombstone');
  t.end();
});

t.test('write-only ranges know nothing and take everything', (t) => {
  const c = new TestCache(1 << 20);
  const lock = c.lock(denseKey(0), denseEnd(99), WRITE_ONLY, 5);
  const primary = c.lock(denseKey(1000), denseEnd(1000), WRITE, 50);
  c.core.x.itemSetTransSeq(10);
  const { items, core } = c;
  items.createForce(lock, primary, ...dense(5));
  items.createForce(lock, primary, ...dense(5));
  t.equal(core.x.itemDirtyItems(), 1, 'no EEXIST');
  items.deleteForce(lock, primary, ...dense(5));
  items.deleteForce(lock, primary, ...dense(6));
  t.equal(core.x.itemDirtyItems(), 2, 'tombstones, also of what was never seen');
  t.equal(core.x.itemMaxDirtySeq(), 50, 'dated by the primary, not below the creation');
  core.x.itemWriteDone();
  t.equal(core.x.itemDirtyItems(), 0);
  core.x.pageVerify();
  t.end();
});

t.test('increments combine, cancel, and are never mixed with items', (t) => {
  const c = new TestCache(1 << 20);
  const key = { zone: 12, first: 1n, type: 0, second: 2n, third: 3n, fourth: 0 };
  const lock = c.lock({ ...key, first: 0n, second: 0n, third: 0n },
    { zone: 12, first: 2n ** 64n - 1n, type: 255, second: 2n ** 64n - 1n, third: 2n ** 64n - 1n,
      fourth: 255 }, WRITE_ONLY, 5);
  c.core.x.itemSetTransSeq(10);
  const { items, core } = c;
  const put = (total: bigint, count: bigint): void => {
    items.val.setBigInt64(0, total, true);
    items.val.setBigInt64(8, count, true);
    items.delta(lock, 0, key, 16);
  };
  put(100n, 1n);
  put(50n, 1n);
  t.equal(core.x.itemDirtyItems(), 1);
  put(-150n, -2n);
  t.equal(core.x.itemDirtyItems(), 0, 'nothing is left of what cancels');
  put(1n, 1n);
  t.equal(outcome(() => { items.delta(lock, 0, key, 15); }), 'EIO');
  const other = { ...key, third: 4n };
  items.createForceWide(lock, 0, other);
  t.equal(outcome(() => { items.delta(lock, 0, other, 16); }), 'EIO');
  core.x.itemWriteDone();
  put(7n, 1n);
  t.equal(core.x.itemDirtyItems(), 1, 'written increments are gone: a new one starts');
  t.end();
});

t.test('invalidation trims, drops and bisects; a dirty item in the range traps', (t) => {
  const { c, lock } = fresh();
  const items: ListItem[] = [];
  for (let n = 0; n < 60; n++) items.push({ key: denseKey(n), seq: 1, val: valueOf(n, 0, 8) });
  const known = (n: number): boolean =>
    outcome(() => { c.items.touch(lock, ...dense(n)); }) !== 'NOT_CACHED';
  c.fill(lock, denseKey(0), denseEnd(59), items);
  c.invalidate(denseKey(20), denseEnd(29));
  t.same([19, 20, 25, 29, 30].map(known), [true, false, false, false, true], 'bisected');
  t.equal(c.items.next(lock, ...dense(30), 59), 8);
  t.equal(c.items.found.second, 30);
  t.equal(outcome(() => c.items.next(lock, ...dense(19), 59)), 8, 'the item before the hole');
  t.equal(outcome(() => c.items.next(lock, ...dense(20), 59)), 'NOT_CACHED');
  c.invalidate(denseKey(10), denseEnd(34));
  t.same([9, 10, 34, 35].map(known), [true, false, false, true], 'trimmed at both sides');
  c.core.x.pageVerify();
  c.range(denseKey(10), denseEnd(34));
  t.equal(c.core.x.itemRangeCached(), 0);
  c.items.delete(lock, ...dense(40));
  c.range(denseKey(10), denseEnd(39));
  t.equal(c.core.x.itemRangeCached(), 1);
  c.range(denseKey(10), denseEnd(40));
  t.equal(c.core.x.itemRangeCached(), 3, 'coverage and a dirty item');
  t.throws(() => { c.invalidate(denseKey(39), denseEnd(41)); });
  t.equal(c.core.x.checkId(), 14);
  t.end();
});

t.test('a page with one item and one with greatest items split without inverted ranges', (t) => {
  const { c, lock } = fresh();
  c.fill(lock, denseKey(0), denseEnd(KEYS - 1), []);
  for (let n = KEYS - 1; n >= 0; n--) {
    c.items.create(lock, ...dense(n), c.setValue(valueOf(n, 0, n % 2 === 0 ? 896 : 0)));
    c.core.x.pageVerify();
  }
  for (let n = 0; n < KEYS; n++) {
    const len = c.items.lookup(lock, ...dense(n));
    if (Buffer.compare(c.value(len), valueOf(n, 0, n % 2 === 0 ? 896 : 0)) !== 0) t.fail(`${n}`);
  }
  t.ok(c.core.x.itemPages() >= KEYS / 2 * 944 / 16_384);
  t.end();
});

t.test('without memory a change is refused whole, and reserving says so before', (t) => {
  const { c, lock } = fresh(WRITE, 16 * 16_384);
  c.fill(lock, denseKey(0), denseEnd(KEYS - 1), []);
  let n = 0;
  let refused = 0;
  for (; n < KEYS && refused === 0; n++) {
    if (c.core.x.itemReserve(1) === 0) refused++;
    else c.items.create(lock, ...dense(n), c.setValue(valueOf(n, 0, 896)));
  }
  t.equal(refused, 1, 'all pages are dirty: nothing can be set aside');
  let failed = 0;
  for (; n < KEYS && failed === 0; n++) {
    const before = c.core.x.itemDirtyItems();
    const r = outcome(() => { c.items.create(lock, ...dense(n), c.setValue(valueOf(n, 0, 896))); });
    if (r === 'ENOMEM') {
      failed++;
      t.equal(c.core.x.itemDirtyItems(), before);
    }
  }
  t.equal(failed, 1);
  c.core.x.pageVerify();
  c.core.x.itemEvictAll();
  t.equal(c.core.x.itemPages(), 16, 'dirty pages are not evicted');
  c.core.x.itemWriteDone();
  c.core.x.itemEvictAll();
  t.equal(c.core.x.itemPages(), 0);
  t.equal(outcome(() => { c.items.touch(lock, ...dense(0)); }), 'NOT_CACHED');
  t.end();
});

t.test('a heap without room refuses like a full cache', (t) => {
  const { c, lock } = fresh(WRITE, 8 << 20);
  const { x } = c.core;
  c.fill(lock, denseKey(0), denseEnd(99), []);
  const hog: number[] = [];
  for (let p = x.heapAlloc(16_384); p !== 0; p = x.heapAlloc(16_384)) hog.push(p);
  t.ok(hog.length > 100);
  let done = 0;
  const fill = (): unknown => {
    for (; done < KEYS; done++) {
      const r = outcome(() => {
        c.items.create(lock, ...dense(done), c.setValue(valueOf(done, 0, 896)));
      });
      if (r !== undefined) return r;
    }
    return 'all';
  };
  t.equal(x.itemReserve(1), 0);
  t.equal(fill(), 'ENOMEM');
  t.equal(c.lock(denseKey(500), denseEnd(500), WRITE) > 0, true, 'small records still fit');
  t.equal(outcome(() => c.items.lookup(lock, ...dense(done))), ABSENT, 'nothing of it is there');
  x.pageVerify();
  c.invalidate(denseKey(done), denseEnd(done));
  t.equal(outcome(() => c.items.lookup(lock, ...dense(done - 1))), 896, 'invalidation never fails');
  x.pageVerify();
  for (const p of hog) x.heapFree(p, 16_384);
  c.fill(lock, denseKey(0), denseEnd(KEYS - 1), []);
  t.equal(x.itemReserve(2), 1);
  t.equal(fill(), 'all');
  t.end();
});

t.test('shrinking takes the oldest and spares what was looked at lately', (t) => {
  const { c, lock } = fresh(WRITE, 4 << 20);
  const { x } = c.core;
  const known = (n: number): boolean =>
    outcome(() => { c.items.touch(lock, ...dense(n)); }) !== 'NOT_CACHED';
  const items = (from: number, to: number): ListItem[] =>
    Array.from({ length: to - from }, (_, i) => (
      { key: denseKey(from + i), seq: 1, val: valueOf(from + i, 0, 896) }));
  c.fill(lock, denseKey(0), denseEnd(KEYS - 1), items(0, KEYS));
  t.ok(x.itemPages() > 20);
  t.equal(x.itemShrink(64 << 20), 0, 'everything was just read');
  for (let i = 0; i < 2048; i++) known(5);
  t.equal(x.itemShrink(3 * 16_384), 3 * 16_384, 'no more than asked for');
  t.equal(known(5), true);
  t.equal(known(KEYS - 1), true);
  t.equal(known(30), false, 'the oldest');
  x.itemShrink(64 << 20);
  t.equal(known(5) && known(KEYS - 1), true);
  t.equal(x.itemPages(), 2);
  x.pageVerify();
  t.end();
});

t.test('64-bit fields: all ones, beyond 2^53, wide keys', (t) => {
  const c = new TestCache(1 << 20);
  const big = 2n ** 64n - 1n;
  const lock = c.lock({ zone: 10, first: 0n, type: 0, second: 0n, third: 0n, fourth: 0 },
    { zone: 10, first: big, type: 255, second: big, third: big, fourth: 255 }, WRITE, 5);
  c.core.x.itemSetTransSeq(10);
  c.fill(lock, { zone: 10, first: 0n, type: 0, second: 0n, third: 0n, fourth: 0 },
    { zone: 10, first: big, type: 255, second: big, third: big, fourth: 255 }, []);
  const key = { zone: 10, first: 0n, type: 4, second: 0xfedcba9876543211n, third: 1n, fourth: 0 };
  c.items.createWide(lock, key, c.setValue(Uint8Array.of(9)));
  t.equal(c.items.lookupWide(lock, key), 1);
  t.throws(() => c.items.next(lock, 10, 0, 4, 0, 0, 0, 2 ** 64), { code: 'ITEM_KEY' },
    '2^64 stands for all ones; no number holds what it finds');
  t.same(c.items.found.wide(), key);
  t.equal(c.items.next(lock, 10, 0, 4, 0, 0, 0, 5), ABSENT);
  t.equal(c.items.nextWide(lock, key, key), 1);
  c.items.deleteWide(lock, key);
  t.equal(c.items.lookupWide(lock, key), ABSENT);
  t.end();
});

/** One instance for all histories: instances are megabytes. */
let cached: TestCache | undefined;
function shared(pages: number): TestCache {
  cached ??= new TestCache(1 << 20);
  const { x } = cached.core;
  x.core_init(4, 0);
  if (x.itemInit(pages * 16_384) === 0) throw new Error('no room');
  cached.forgetHeap();
  return cached;
}

// ---- random histories -------------------------------------------------------------

type Step =
  | { op: 'fill' | 'invalidate' | 'next'; a: number; b: number }
  | { op: 'create' | 'update'; k: number; len: number }
  | { op: 'delete' | 'dirty'; k: number; len?: number }
  | { op: 'lookup'; k: number }
  | { op: 'shrink'; pages: number }
  | { op: 'commit' };

/** Half of the steps meet on few keys, the rest spreads over many pages. */
const key = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: KEYS - 1 }));
const len = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 896 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constantFrom('fill' as const), a: key, b: key }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom('invalidate' as const, 'next' as const),
    a: key, b: key }) },
  { weight: 40, arbitrary: fc.record({ op: fc.constantFrom('create' as const, 'update' as const),
    k: key, len }) },
  { weight: 20, arbitrary: fc.record({
    op: fc.constantFrom('delete' as const, 'dirty' as const, 'lookup' as const), k: key }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('shrink' as const),
    pages: fc.integer({ min: 0, max: 16 }) }) },
  { weight: 3, arbitrary: fc.constant({ op: 'commit' as const }) },
);

class Model {
  readonly stored = new Map<number, Uint8Array>();
  readonly now = new Map<number, Uint8Array>();
  readonly dirty = new Set<number>();
  readonly covered = new Array<boolean>(KEYS).fill(false);
  version = 0;

  /** The item vanishes without trace when nothing of it is stored. */
  changed(k: number): void {
    if (this.now.has(k) || this.stored.has(k)) this.dirty.add(k);
    else this.dirty.delete(k);
  }
}

function applyStep(c: TestCache, lock: number, m: Model, s: Step): void {
  const { items, core } = c;
  switch (s.op) {
    case 'fill': {
      const [a, b] = [Math.min(s.a, s.b), Math.max(s.a, s.b)];
      const list: ListItem[] = [];
      for (const [k, val] of [...m.stored].sort((x, y) => x[0] - y[0])) {
        if (k >= a && k <= b) list.push({ key: denseKey(k), seq: 1, val });
      }
      const done = c.fill(lock, denseKey(a), denseEnd(b), list);
      syncCoverage(c, lock, m, done >= 0 ? [a, b] : null);
      return;
    }
    case 'invalidate': {
      const [a, b] = [Math.min(s.a, s.b), Math.max(s.a, s.b)];
      for (const k of m.dirty) if (k >= a && k <= b) return;
      c.invalidate(denseKey(a), denseEnd(b));
      m.covered.fill(false, a, b + 1);
      return;
    }
    case 'next': {
      const want = modelNext(m, s.a, s.b);
      const got = outcome(() => items.next(lock, ...dense(s.a), s.b) === ABSENT
        ? 'ABSENT' : String(items.found.second));
      if (got !== want) throw new Error(`next ${s.a}..${s.b}: ${got}, not ${want}`);
      return;
    }
    case 'create': case 'update': case 'delete': case 'dirty':
      change(c, lock, m, s);
      return;
    case 'lookup':
      expectItem(c, lock, m, s.k);
      return;
    case 'shrink':
      if (s.pages > 8) core.x.itemEvictAll();
      else core.x.itemShrink(s.pages * 16_384);
      syncCoverage(c, lock, m, null);
      return;
    case 'commit':
      core.x.itemWriteDone();
      m.stored.clear();
      for (const [k, v] of m.now) m.stored.set(k, v);
      m.dirty.clear();
  }
}

function modelNext(m: Model, from: number, last: number): string {
  for (let k = from; k <= last; k++) {
    if (m.covered[k] !== true) return 'NOT_CACHED';
    if (m.now.has(k)) return String(k);
  }
  return 'ABSENT';
}

function change(c: TestCache, lock: number, m: Model,
  s: { op: 'create' | 'update' | 'delete' | 'dirty'; k: number; len?: number }): void {
  const { items, core } = c;
  if (core.x.itemReserve(1) === 0) {
    core.x.itemEvictAll();
    syncCoverage(c, lock, m, null);
    if (core.x.itemReserve(1) === 0) return;
  }
  const val = valueOf(s.k, ++m.version, s.len ?? 0);
  const exists = m.now.has(s.k);
  const want = m.covered[s.k] !== true ? 'ITEM_NOT_COVERED'
    : s.op === 'create' ? exists ? 'EEXIST' : 'done' : exists ? 'done' : 'ENOENT';
  const got = outcome(() => {
    if (s.op === 'create') items.create(lock, ...dense(s.k), c.setValue(val));
    else if (s.op === 'update') items.update(lock, ...dense(s.k), c.setValue(val));
    else if (s.op === 'delete') items.delete(lock, ...dense(s.k));
    else {
      c.keyA.set(denseKey(s.k));
      const r = core.x.itemDirtyKey(lock);
      return r === 0 ? 'done' : r === -2 ? 'ENOENT' : 'ITEM_NOT_COVERED';
    }
    return 'done';
  });
  if (got !== want) throw new Error(`${s.op} ${s.k}: ${got}, not ${want}`);
  if (got !== 'done') return;
  if (s.op === 'delete') m.now.delete(s.k);
  else if (s.op !== 'dirty') m.now.set(s.k, val);
  m.changed(s.k);
}

function expectItem(c: TestCache, lock: number, m: Model, k: number): void {
  const got = outcome(() => c.items.lookup(lock, ...dense(k)));
  const want = m.now.get(k);
  if (m.covered[k] !== true) {
    if (got !== 'NOT_CACHED') throw new Error(`key ${k} is cached but should not be`);
  } else if (want === undefined ? got !== ABSENT
    : got !== want.length || Buffer.compare(c.value(got), want) !== 0) {
    throw new Error(`key ${k}: ${got}, expected ${want === undefined ? 'absence' : want.length}`);
  }
}

/** Coverage may be evicted, but never from under dirty items, and only `added` can be new. */
function syncCoverage(c: TestCache, lock: number, m: Model, added: [number, number] | null): void {
  for (let k = 0; k < KEYS; k++) {
    const is = outcome(() => { c.items.touch(lock, ...dense(k)); }) !== 'NOT_CACHED';
    if (!is && m.dirty.has(k)) throw new Error(`coverage of dirty key ${k} was evicted`);
    const may = m.covered[k] === true || (added !== null && k >= added[0] && k <= added[1]);
    if (is && !may && added !== null) throw new Error(`key ${k} is covered without reason`);
    m.covered[k] = is;
  }
}

t.test('random histories agree with the model', (t) => {
  const steps = fc.array(step, { maxLength: 400, size: 'max' });
  fc.assert(fc.property(fc.integer({ min: 16, max: 24 }), steps, (pages, history) => {
    const c = shared(pages);
    const lock = c.lock(denseKey(0), denseEnd(KEYS - 1), WRITE, 5);
    c.core.x.itemSetTransSeq(10);
    const m = new Model();
    c.fill(lock, denseKey(0), denseEnd(KEYS / 2), []);
    syncCoverage(c, lock, m, [0, KEYS / 2]);
    history.forEach((s, i) => {
      applyStep(c, lock, m, s);
      if (c.core.x.itemDirtyItems() !== m.dirty.size) throw new Error('count of dirty items');
      if (i % 8 === 0) c.core.x.pageVerify();
    });
    for (let k = 0; k < KEYS; k++) expectItem(c, lock, m, k);
    c.core.x.pageVerify();
  }), { numRuns: 150, seed: 20 });
  t.pass('150 histories');
  t.end();
});

t.test('random forced changes and increments under write-only locks', (t) => {
  const n = fc.integer({ min: 0, max: 60 });
  const forced = fc.array(fc.oneof(
    { weight: 8, arbitrary: fc.record({ op: fc.constantFrom('create' as const, 'delete' as const),
      n, writeSeq: fc.integer({ min: 1, max: 30 }) }) },
    { weight: 8, arbitrary: fc.record({ op: fc.constant('delta' as const), n,
      sum: fc.integer({ min: -2, max: 2 }), count: fc.integer({ min: -1, max: 1 }) }) },
    { weight: 1, arbitrary: fc.constant({ op: 'commit' as const }) },
    { weight: 1, arbitrary: fc.constant({ op: 'invalidate' as const }) },
  ), { maxLength: 200, size: 'max' });
  fc.assert(fc.property(forced, (steps) => {
    const c = shared(16);
    const index = c.lock(denseKey(0), denseEnd(60), WRITE_ONLY, 3);
    const totals = c.lock({ ...denseKey(0), zone: 12 }, { ...denseEnd(60), zone: 12 },
      WRITE_ONLY, 4);
    const primary = c.lock(denseKey(100), denseEnd(100), WRITE, 1);
    c.core.x.itemSetTransSeq(10);
    const dirty = new Set<number>();
    const sums = new Map<number, [number, number]>();
    let maxSeq = 0;
    for (const s of steps) {
      if (s.op === 'commit') {
        c.core.x.itemWriteDone();
        dirty.clear();
        sums.clear();
        maxSeq = 0;
      } else if (s.op === 'invalidate') {
        if (dirty.size === 0) c.invalidate(denseKey(0), denseEnd(60));
      } else if (s.op === 'delta') {
        const [sum, count] = sums.get(s.n) ?? [0, 0];
        c.items.val.setBigInt64(0, BigInt(s.sum), true);
        c.items.val.setBigInt64(8, BigInt(s.count), true);
        c.items.delta(totals, 0, { ...denseKey(s.n), zone: 12 }, 16);
        // What combines to nothing goes; a first increment of nothing stays.
        if (sums.has(s.n) && sum + s.sum === 0 && count + s.count === 0) sums.delete(s.n);
        else sums.set(s.n, [sum + s.sum, count + s.count]);
        if (sums.has(s.n)) maxSeq = Math.max(maxSeq, 10);
      } else {
        c.core.x.lockSetMode(primary, WRITE, s.writeSeq);
        if (s.op === 'create') c.items.createForce(index, primary, ...dense(s.n));
        else c.items.deleteForce(index, primary, ...dense(s.n));
        dirty.add(s.n);
        maxSeq = Math.max(maxSeq, 10, s.writeSeq);
      }
      if (c.core.x.itemDirtyItems() !== dirty.size + sums.size) throw new Error(`after ${s.op}`);
    }
    const seq = c.core.x.itemMaxDirtySeq();
    if (seq > maxSeq || (dirty.size + sums.size > 0 && seq < 10)) throw new Error(`seq ${seq}`);
    c.core.x.pageVerify();
  }), { numRuns: 100, seed: 8 });
  t.pass('100 histories');
  t.end();
});
