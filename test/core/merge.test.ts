/**
 * Merging log trees against a plain map: random inputs with deletions, deltas and seqs,
 * tiny windows, stops at the dirty limit and at a low allocator, ranges, and borrowed
 * subtrees that must not be split or emptied. Whenever a merge stops, everything before
 * its key is merged and nothing else is. Also freeing trees, which follows every merge.
 */
import t from 'tap';
import fc from 'fast-check';
import { AllocListHead } from '../../host/core/format.js';
import { Rec, parentOf } from '../../host/core/trees.js';
import { listBlocks } from '../lib/extents.js';
import { GateDevice } from '../lib/gatedev.js';
import { bytesHex } from '../lib/hex.js';
import { KEY_ONES, KEY_ZEROS, merge } from '../lib/mergejob.js';
import type { MergeOptions } from '../lib/mergejob.js';
import { compareKeys } from '../lib/miniserver.js';
import { commitSpace, keyBytes, rawTree, spaceOn, writeListBlock } from '../lib/treespace.js';
import type { Space } from '../lib/treespace.js';
import { key, range, val } from '../lib/treevec.js';

// big trees on a busy machine
t.setTimeout(180_000);

const ERANGE = -34;
const TOTL_ZONE = 12;
const DELETION = 1;

interface Item {
  key: Uint8Array;
  seq: number;
  flags: number;
  val: Uint8Array;
}
type Tree = Map<string, Item>;

function stress(opts: { windowBytes?: number; memoryBytes?: number } = {}): Space<GateDevice> {
  const s = spaceOn(new GateDevice(2 ** 31), 7999, {
    memoryBytes: opts.memoryBytes ?? 24 << 20, slotShare: 0.5,
    mergeWindowBytes: opts.windowBytes ?? 2 << 20,
  });
  s.dev.onRead = () => { s.core.x.blockEvictAll(); };
  return s;
}

const totlKey = (n: number): Uint8Array => keyBytes(TOTL_ZONE, 1, 0, n);

function totl(total: number, count: number): Uint8Array {
  const b = new Uint8Array(16);
  const v = new DataView(b.buffer);
  v.setBigInt64(0, BigInt(total), true);
  v.setBigInt64(8, BigInt(count), true);
  return b;
}

function addTotl(a: Uint8Array, b: Uint8Array): Uint8Array {
  const at = (x: Uint8Array, o: number): number =>
    Number(new DataView(x.buffer, x.byteOffset).getBigInt64(o, true));
  return totl(at(a, 0) + at(b, 0), at(a, 8) + at(b, 8));
}

const isTotl = (i: Item): boolean => i.key[25] === TOTL_ZONE;
const isNull = (v: Uint8Array): boolean => v.every((x) => x === 0);

/** What applying a logged item to a log tree does. */
function applyTo(tree: Tree, item: Item): void {
  const id = bytesHex(item.key);
  const old = tree.get(id);
  const v = old !== undefined && isTotl(item) ? addTotl(old.val, item.val) : item.val;
  tree.set(id, { ...item, val: v });
}

/** What the inputs are together, in the order of the inputs. */
function combine(inputs: Tree[]): Tree {
  const out: Tree = new Map();
  for (const input of inputs) {
    for (const [id, item] of input) {
      const old = out.get(id);
      if (old === undefined) out.set(id, item);
      else if (!isTotl(item)) {
        if (item.seq > old.seq) out.set(id, item);
      } else {
        const v = addTotl(old.val, item.val);
        if (isNull(v)) out.delete(id);
        else out.set(id, { ...old, seq: Math.max(old.seq, item.seq), val: v });
      }
    }
  }
  return out;
}

/** `dst` after a merge of all items with start <= key < until. */
function merged(dst: Tree, inputs: Tree[], start: Uint8Array, until: Uint8Array | null): Tree {
  const out: Tree = new Map(dst);
  for (const [id, item] of combine(inputs)) {
    if (compareKeys(item.key, start) < 0) continue;
    if (until !== null && compareKeys(item.key, until) >= 0) continue;
    const old = out.get(id);
    if ((item.flags & DELETION) !== 0) out.delete(id);
    else if (old === undefined || !isTotl(item)) out.set(id, item);
    else {
      const v = addTotl(old.val, item.val);
      if (isNull(v)) out.delete(id);
      else out.set(id, { ...old, seq: item.seq, val: v });
    }
  }
  return out;
}

async function build(s: Space, tree: Tree): Promise<Rec> {
  const root = new Rec(s.core, 24);
  for (const i of tree.values()) {
    await s.space.apply(root.ptr, i.key, i.seq, i.flags, i.val);
    if (s.space.dirtyBlocks > 40) await commitSpace(s);
  }
  return root;
}

const line = (i: Omit<Item, 'seq'> & { seq: number | bigint }): string =>
  `${bytesHex(i.key)} seq ${i.seq} flags ${i.flags} ${bytesHex(i.val)}`;

/** Compares a committed tree with its model, and the keys of parents with their children. */
function compare(s: Space, root: Rec, want: Tree, what: string): void {
  const levels = rawTree(s.dev, root);
  const got = (levels.at(-1) ?? []).flatMap((b) => b.items);
  const items = [...want.values()].sort((a, b) => compareKeys(a.key, b.key));
  for (let i = 0; i < Math.max(got.length, items.length); i++) {
    const [g, w] = [got[i], items[i]];
    const [a, b] = [g === undefined ? 'nothing' : line(g), w === undefined ? 'nothing' : line(w)];
    if (a !== b) throw new Error(`${what}: item ${i}: ${a} but not ${b}`);
  }
  for (const [depth, blocks] of levels.entries()) {
    const bounds = depth === 0 ? [KEY_ONES]
      : (levels[depth - 1] ?? []).flatMap((b) => b.items.map((i) => i.key));
    blocks.forEach((b, i) => {
      const last = b.items.at(-1)?.key;
      const first = b.items[0]?.key;
      const before = bounds[i - 1];
      const bound = bounds[i];
      if ((last !== undefined && bound !== undefined && compareKeys(last, bound) > 0) ||
          (first !== undefined && before !== undefined && compareKeys(first, before) <= 0)) {
        throw new Error(`${what}: block ${b.blkno} has keys outside of its bounds`);
      }
    });
    if (depth > 0 && bounds.length > 0) {
      const end = bounds.at(-1);
      if (end !== undefined && bytesHex(end) !== bytesHex(KEY_ONES)) {
        throw new Error(`${what}: the right edge is not ones`);
      }
    }
  }
}

// ---- random inputs ----

interface Burst {
  kind: 'set' | 'delete' | 'delta';
  n: number;
  count: number;
  stride: number;
  len: number;
  seq: number;
  total: number;
}
const burst: fc.Arbitrary<Burst> = fc.record({
  kind: fc.constantFrom<Burst['kind']>('set', 'set', 'delete', 'delta'),
  n: fc.integer({ min: 0, max: 600 }),
  count: fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 300 })),
  stride: fc.integer({ min: 1, max: 3 }),
  len: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 200 }), fc.constant(896)),
  seq: fc.integer({ min: 1, max: 50 }),
  total: fc.integer({ min: -2, max: 2 }),
});
const bursts = fc.array(burst, { maxLength: 6 });

/** The log tree that these changes make; seqs of different trees differ. */
function logTree(list: Burst[], nr: number, inputs: number): Tree {
  const tree: Tree = new Map();
  for (const b of list) {
    for (let i = 0; i < b.count; i++) {
      const n = b.n + i * b.stride;
      const seq = b.seq * inputs + nr;
      if (b.kind === 'delta') {
        applyTo(tree, { key: totlKey(n), seq, flags: 0, val: totl(b.total, Math.sign(b.total)) });
      } else {
        const del = b.kind === 'delete';
        applyTo(tree, { key: key(n), seq, flags: del ? DELETION : 0,
          val: del ? new Uint8Array(0) : val(n + seq, b.len) });
      }
    }
  }
  return tree;
}

/** A file system tree has no deletions; totals of zero may be there from older merges. */
function fsTree(list: Burst[]): Tree {
  const tree = logTree(list, 0, 1);
  for (const [id, i] of tree) if (i.flags !== 0) tree.delete(id);
  return tree;
}

const options = fc.record({
  windowBytes: fc.constantFrom(1000, 5000, 65536, 200_000),
  dirtyMaxBlocks: fc.constantFrom(3, 20, 60),
  allocLowNr: fc.constantFrom(0, 10, 150),
});

/** Ends the transaction; a fresh list when this one is nearly used up. */
async function nextTransaction(s: Space, round: number): Promise<void> {
  await commitSpace(s);
  if (s.space.availNr > 250) return;
  const at = 8000 + (round % 50) * 400;
  s.space.begin(writeListBlock(s.dev, at, at + 1, 399), new Uint8Array(32));
}

/** Merges to the end of the range, looking at the tree whenever it stops. */
async function mergeAll(s: Space, dst: Rec, model: Tree, roots: Rec[], inputs: Tree[],
  opts: MergeOptions): Promise<Tree> {
  let at = opts.start ?? KEY_ZEROS;
  let now = model;
  for (let round = 0; ; round++) {
    const r = await merge(s, dst, roots, { ...opts, start: at });
    await nextTransaction(s, round);
    if (r.ret === 0) break;
    if (r.ret !== ERANGE) throw new Error(`merge: ${r.ret}`);
    now = merged(now, inputs, at, r.next);
    if (round % 16 === 0) compare(s, dst, now, `stop ${round}`);
    if (compareKeys(r.next, at) < 0 || round > 3000) throw new Error('no progress');
    at = r.next;
  }
  const end = opts.end === undefined ? null : keyAfter(opts.end);
  return merged(now, inputs, at, end);
}

function keyAfter(k: Uint8Array): Uint8Array {
  const next = k.slice();
  next[24] = (next[24] ?? 0) + 1;
  return next;
}

void t.test('random inputs against a map', async () => {
  const several = fc.array(bursts, { minLength: 1, maxLength: 4 });
  await fc.assert(fc.asyncProperty(bursts, several, options,
    async (fs, lists, opts) => {
      const s = stress();
      const model = fsTree(fs);
      const inputs = lists.map((l, i) => logTree(l, i, lists.length));
      const dst = await build(s, model);
      const roots: Rec[] = [];
      for (const i of inputs) roots.push(await build(s, i));
      await nextTransaction(s, 0);
      const want = await mergeAll(s, dst, model, roots, inputs, opts);
      compare(s, dst, want, 'in the end');
      if (s.core.x.checkId() !== 0) throw new Error('an invariant was broken');
    }), { numRuns: 60, endOnFailure: true });
});

void t.test('only the range is merged', async () => {
  const bound = fc.integer({ min: 0, max: 900 });
  await fc.assert(fc.asyncProperty(bursts, bursts, bound, bound, options,
    async (fs, list, a, b, opts) => {
      const s = stress();
      const model = fsTree(fs);
      const inputs = [logTree(list, 0, 1)];
      const dst = await build(s, model);
      const roots = [await build(s, logTree(list, 0, 1))];
      const range = { start: key(Math.min(a, b)), end: key(Math.max(a, b)) };
      const want = await mergeAll(s, dst, model, roots, inputs, { ...opts, ...range });
      compare(s, dst, want, 'in the end');
    }), { numRuns: 40, endOnFailure: true });
});

void t.test('hundreds of inputs use the memory of one window', async (tt) => {
  const windowBytes = 65536;
  const s = stress({ windowBytes });
  const inputs = Array.from({ length: 300 }, (_, i) => logTree(
    [{ kind: 'set', n: (i * 37) % 500, count: 12, stride: 2, len: 100, seq: 1, total: 0 }],
    i, 300));
  const roots: Rec[] = [];
  for (const i of inputs) roots.push(await build(s, i));
  const dst = new Rec(s.core, 24);
  const want = await mergeAll(s, dst, new Map(), roots, inputs, { windowBytes });
  compare(s, dst, want, 'in the end');
  tt.ok(want.size > 400);
});

void t.test('a delta of the wrong length is EIO and the next job is not disturbed', async (tt) => {
  const s = stress();
  const bad = await build(s, new Map([['a', { key: totlKey(1), seq: 5, flags: 0,
    val: new Uint8Array(8) }]]));
  const good: Tree = logTree([{ kind: 'delta', n: 1, count: 3, stride: 1, len: 0, seq: 9,
    total: 2 }], 0, 1);
  const goodRoot = await build(s, good);
  const dst = new Rec(s.core, 24);
  tt.equal((await merge(s, dst, [bad, goodRoot])).ret, -5);
  tt.equal((await merge(s, dst, [goodRoot])).ret, 0);
  await commitSpace(s);
  compare(s, dst, good, 'after the second job');
});

void t.test('an allocator that is too short from the start stops at the first key', async (tt) => {
  const s = stress();
  const input = await build(s, logTree([{ kind: 'set', n: 5, count: 9, stride: 1, len: 10, seq: 1,
    total: 0 }], 0, 1));
  await commitSpace(s);
  for (const nr of [1, 2, 5]) {
    s.space.begin(writeListBlock(s.dev, 9000 + nr * 10, 9001 + nr * 10, nr), new Uint8Array(32));
    const dst = new Rec(s.core, 24);
    const r = await merge(s, dst, [input], { allocLowNr: 0 });
    tt.equal(r.ret, ERANGE, `${nr} numbers`);
    tt.equal(bytesHex(r.next), bytesHex(key(5)));
    tt.equal(dst.get()[16], 0, 'nothing was made');
  }
});

// ---- subtrees ----

const BIG_ITEMS = 30600;

/** A committed tree of height 3 whose level-1 blocks are neither low nor full, and its model. */
async function bigTree(): Promise<{ dev: GateDevice; root: Uint8Array; model: Tree }> {
  const s = spaceOn(new GateDevice(2 ** 31), 7999, { memoryBytes: 256 << 20, slotShare: 0.8 });
  const root = new Rec(s.core, 24);
  const model: Tree = new Map();
  for (const n of range(1, BIG_ITEMS)) {
    const v = val(n, 896);
    await s.space.apply(root.ptr, key(n), 1, 0, v);
    model.set(bytesHex(key(n)), { key: key(n), seq: 1, flags: 0, val: v });
    if (s.space.dirtyBlocks > 1500) await commitSpace(s);
  }
  await commitSpace(s);
  return { dev: s.dev, root: root.get(), model };
}

/** As server and clients share it: borrow, merge, put back, rebalance, go on. */
async function mergeBySubtrees(s: Space, root: Rec, roots: Rec[], opts: MergeOptions):
Promise<{ rounds: number; eranges: number }> {
  let at = KEY_ZEROS;
  let eranges = 0;
  for (let rounds = 1; ; rounds++) {
    const p = await parentOf(s.core, root.ptr, at);
    const sub = new Rec(s.core, 24, p.root);
    const subtree = bytesHex(p.root) !== bytesHex(root.get());
    const r = await merge(s, sub, roots, { ...opts, start: at, end: p.end, subtree });
    if (r.ret !== 0 && r.ret !== ERANGE) throw new Error(`merge: ${r.ret}`);
    await s.space.setParent(root.ptr, at, sub.ptr);
    if (r.ret === ERANGE) {
      eranges += 1;
      await s.space.rebalance(root.ptr, r.next);
    }
    await nextTransaction(s, rounds);
    if (r.ret === 0 && bytesHex(p.end) === bytesHex(KEY_ONES)) return { rounds, eranges };
    at = r.ret === 0 ? keyAfter(p.end) : r.next;
    if (rounds > 2000) throw new Error('no progress');
  }
}

void t.test('borrowed subtrees: stops with ERANGE, is rebalanced, and ends right', async (tt) => {
  const big = await bigTree();
  const cases: [string, Burst[][]][] = [
    ['a few changes', [[{ kind: 'set', n: 100, count: 50, stride: 90, len: 896, seq: 3, total: 0 }],
      [{ kind: 'delta', n: 1, count: 20, stride: 5, len: 0, seq: 4, total: 1 }]]],
    ['most of the first subtree goes', [
      [{ kind: 'delete', n: 1, count: 14000, stride: 1, len: 0, seq: 3, total: 0 }]]],
    ['most of everything goes', [
      [{ kind: 'delete', n: 1, count: 15200, stride: 2, len: 0, seq: 3, total: 0 }],
      [{ kind: 'delete', n: 2, count: 15200, stride: 2, len: 0, seq: 4, total: 0 }]]],
    ['the second subtree fills up', [
      [{ kind: 'set', n: 40000, count: 13000, stride: 1, len: 896, seq: 3, total: 0 }]]],
  ];
  for (const [name, lists] of cases) {
    const dev = new GateDevice(2 ** 31);
    dev.load(big.dev);
    const s = spaceOn(dev, 0, { memoryBytes: 96 << 20, slotShare: 0.7, mergeWindowBytes: 2 << 20 });
    dev.onRead = () => { s.core.x.blockEvictAll(); };
    s.space.begin(writeListBlock(dev, 20000, 20001, 8000), new Uint8Array(32));
    const root = new Rec(s.core, 24, big.root);
    const inputs = lists.map((l, i) => logTree(l, i, lists.length));
    const roots: Rec[] = [];
    for (const i of inputs) roots.push(await build(s, i));
    await commitSpace(s);
    const { rounds, eranges } = await mergeBySubtrees(s, root, roots, { dirtyMaxBlocks: 300 });
    compare(s, root, merged(big.model, inputs, KEY_ZEROS, null), name);
    tt.ok(rounds > 1, `${name}: ${rounds} rounds, ${eranges} of them stopped`);
    if (name !== 'a few changes') tt.ok(eranges > 0, 'the restriction was met');
  }
});

// ---- freeing ----

/** All numbers that an allocator has freed since its start. */
async function freedNumbers(s: Space): Promise<number[]> {
  const { freed } = s.space.finish();
  await s.space.write();
  s.space.forget(true);
  return listBlocks(s, AllocListHead.read(new DataView(freed.buffer), 0)).flatMap((b) => b.blknos);
}

void t.test('freeing a tree: every block once, whatever the budgets', async () => {
  await fc.assert(fc.asyncProperty(bursts, fc.array(fc.integer({ min: 1, max: 70 }),
    { minLength: 1, maxLength: 10 }), fc.boolean(), async (fs, budgets, commits) => {
    const s = stress();
    const root = await build(s, fsTree(fs));
    await commitSpace(s);
    const blocks = rawTree(s.dev, root).flat().map((b) => b.blkno).sort((a, b) => a - b);
    s.core.x.blockEvictAll();
    let list = 9000;
    const begin = (): void => {
      s.space.begin(writeListBlock(s.dev, list, list + 1, 50), new Uint8Array(32));
      list += 100;
    };
    begin();
    const progress = new Rec(s.core, 32);
    const got: number[] = [];
    for (let i = 0; (progress.get()[25] ?? 0) !== 255; i++) {
      const budget = budgets[i % budgets.length] ?? 1;
      const n = await s.space.freeTree(root.ptr, progress, budget);
      if (n === 0 && blocks.length > 0) throw new Error('no progress');
      if (n > Math.max(budget, 3)) throw new Error(`${n} freed with a budget of ${budget}`);
      if (commits) {
        got.push(...await freedNumbers(s));
        begin();
      }
    }
    got.push(...await freedNumbers(s));
    const ours = got.filter((n) => n < 9000 && n > 1000).sort((a, b) => a - b);
    if (ours.join() !== blocks.join()) throw new Error(`freed ${ours.join()} not ${blocks.join()}`);
  }), { numRuns: 60, endOnFailure: true });
});

void t.test('freeing with a freed list that fills up: stops before a step, goes on later',
  async (tt) => {
    const s = stress();
    const root = await build(s, fsTree([{ kind: 'set', n: 0, count: 300, stride: 1, len: 896,
      seq: 1, total: 0 }]));
    await commitSpace(s);
    const blocks = rawTree(s.dev, root).flat().map((b) => b.blkno).sort((a, b) => a - b);
    s.space.begin(writeListBlock(s.dev, 9000, 9001, 50), new Uint8Array(32));
    for (let n = 0; s.space.freedRoom > 5; n++) {
      await s.core.runAsync('free', () => s.core.x.alloc_free_blkno(s.space.al, 10000 + n));
    }
    const progress = new Rec(s.core, 32);
    tt.equal(await s.space.freeTree(root.ptr, progress, 60), 5);
    await tt.rejects(s.space.freeTree(root.ptr, progress, 60), { message: /ENOSPC/ });
    const got = await freedNumbers(s);
    s.space.begin(writeListBlock(s.dev, 9100, 9101, 50), new Uint8Array(32));
    await s.space.freeTree(root.ptr, progress, 60);
    tt.equal(progress.get()[25], 255);
    got.push(...await freedNumbers(s));
    tt.strictSame(got.filter((n) => n < 9000).sort((a, b) => a - b), blocks);
    await tt.rejects(s.space.freeTree(root.ptr, new Rec(s.core, 32), 0), { message: /EINVAL/ });
  });

void t.test('freeing: empty trees, single leaves, impossible heights', async (tt) => {
  const s = stress();
  const progress = new Rec(s.core, 32);
  tt.equal(await s.space.freeTree(new Rec(s.core, 24).ptr, progress, 5), 0);
  tt.equal(bytesHex(progress.get()), bytesHex(KEY_ONES));
  const leaf = await build(s, fsTree([{ kind: 'set', n: 0, count: 3, stride: 1, len: 8, seq: 1,
    total: 0 }]));
  const p2 = new Rec(s.core, 32);
  tt.equal(await s.space.freeTree(leaf.ptr, p2, 1), 1);
  tt.equal(bytesHex(p2.get()), bytesHex(KEY_ONES));
  tt.equal(await s.space.freeTree(leaf.ptr, p2, 1), 0, 'done is done');
  const b = leaf.get();
  b[16] = 21;
  await tt.rejects(s.space.freeTree(new Rec(s.core, 24, b).ptr, new Rec(s.core, 32), 5),
    { message: /BTREE_HEIGHT/ });
});
