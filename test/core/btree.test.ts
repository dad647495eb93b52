/**
 * The btree against the vectors (shape, items, one leaf byte for byte, quirks) and
 * against a plain model under random operations, with blocks evicted between and
 * during calls and allocators that run dry.
 */
import t from 'tap';
import fc from 'fast-check';
import { crc32c } from '../../host/core/crc32c.js';
import { Rec, parentOf } from '../../host/core/trees.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import { bytesHex } from '../lib/hex.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';
import {
  commitSpace, keyBytes, makeSpace, rawBlock, rawTree, writeListBlock,
} from '../lib/treespace.js';
import type { Space } from '../lib/treespace.js';
import {
  compareTree, insertAll, key, levelVec, range, second, val, vecKey,
} from '../lib/treevec.js';
import type { TreeVec } from '../lib/treevec.js';

// big trees on a busy machine
t.setTimeout(180_000);

const skip = skipWithoutSpec();
const core = (skip === false ? vectors('core-vectors.json') : { btree: {} }) as {
  btree: Record<string, TreeVec>;
  leaf_bytes: Record<string, { off: number; hex: string }[]>;
  merge: { ret: number; result: TreeVec };
  free_blocks: { budget: number; calls: number };
  quirks: { free_blocks_upstream_leak: { leaves: number; tree_height: number; correct: number }[] };
};

const errnoIs = (errno: string): { message: RegExp } => ({ message: new RegExp(errno) });

async function runCase(name: string, s: Space, root: Rec): Promise<void> {
  const asc = /^asc_(\d+)/.exec(name);
  const counts = { asc_0: 3000, asc_16: 3000, asc_896: 300, asc_13: 2000 };
  const count = new Map(Object.entries(counts)).get(/^asc_\d+/.exec(name)?.[0] ?? '');
  if (asc !== null) await insertAll(s, root, range(1, count ?? 0), Number(asc[1]));
  if (name.startsWith('desc_100')) await insertAll(s, root, range(2000, 1, -1), 100);
  if (name === 'rand_48') {
    let x = 42n;
    for (let i = 0; i < 4000; i++) {
      x = (x * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
      const n = Number(x >> 33n);
      await s.space.insert(root.ptr, key(n), val(n, 48)).catch((e: unknown) => {
        if (!(e instanceof ScoutfsError) || e.errno !== 'EEXIST') throw e;
      });
    }
  }
  if (name.endsWith('update_1_to_1000_len64')) {
    for (const n of range(1, 1000)) await s.space.update(root.ptr, key(n), val(n, 64));
  }
  if (name.endsWith('delete_1_to_2400')) {
    for (const n of range(1, 2400)) await s.space.delete(root.ptr, key(n));
  }
  if (name.endsWith('delete_all')) {
    for (const n of range(1, 3000)) await s.space.delete(root.ptr, key(n));
  }
  if (name.endsWith('not_mult3_desc')) {
    for (const n of range(2000, 1, -1)) if (n % 3 !== 0) await s.space.delete(root.ptr, key(n));
  }
}

for (const [name, want] of Object.entries(core.btree)) {
  if (name === 'note' || name === 'asc_896_40000') continue;
  void t.test(`vector btree.${name}`, async (tt) => {
    const s = makeSpace();
    const root = new Rec(s.core, 24);
    await runCase(name, s, root);
    await compareTree(tt, s, root, want);
  });
}

void t.test('vector btree.asc_896_40000: height 3 and parent ranges', { skip }, async (tt) => {
  const s = makeSpace(7999, { memoryBytes: 256 << 20, slotShare: 0.8 });
  const root = new Rec(s.core, 24);
  for (let n = 1; n <= 40000; n++) {
    await s.space.insert(root.ptr, key(n), val(n, 896));
    if (s.space.dirtyBlocks > 1500) await commitSpace(s);
  }
  const want = core.btree['asc_896_40000'];
  await commitSpace(s);
  const v = new DataView(root.get().buffer);
  tt.equal(v.getUint8(16), want?.height);
  const top = rawBlock(s.dev, Number(v.getBigUint64(0, true)));
  tt.match(want?.level2?.[0] ?? {}, levelVec(top));
  for (const r of want?.parent_ranges ?? []) {
    const p = await parentOf(s.core, root.ptr, key(r.n));
    tt.equal(bytesHex(p.start), bytesHex(vecKey(r.start)), `start for ${r.n}`);
    tt.equal(bytesHex(p.end), bytesHex(vecKey(r.end)), `end for ${r.n}`);
    tt.equal(p.root[16], r.get_parent_height);
    s.core.x.blockEvictAll();
  }
});

void t.test('vector leaf_bytes: one leaf byte for byte', { skip }, async (tt) => {
  const s = makeSpace();
  const root = new Rec(s.core, 24);
  for (const [n, len] of [[3, 5], [1, 6], [2, 7], [5, 8], [4, 0]] as const) {
    await s.space.insert(root.ptr, key(n), val(n, len));
  }
  const runs = (): { off: number; hex: string }[] => {
    const b = new Uint8Array(65536);
    s.dev.readSync(Number(new DataView(root.get().buffer).getBigUint64(0, true)) * 65536, b);
    return b as unknown as { off: number; hex: string }[];
  };
  const expect = (list: { off: number; hex: string }[]): string => {
    const b = new Uint8Array(65536 - 32);
    for (const { off, hex } of list) b.set(Buffer.from(hex, 'hex'), off - 32);
    return bytesHex(b);
  };
  const got = (): string => bytesHex((runs() as unknown as Uint8Array).subarray(32));
  await commitSpace(s);
  tt.equal(got(), expect(core.leaf_bytes['after_insert'] ?? []));
  await s.space.delete(root.ptr, key(1));
  await s.space.update(root.ptr, key(3), val(9, 5));
  await commitSpace(s);
  const want = Buffer.from(expect(core.leaf_bytes['after_delete_1_update_3'] ?? []), 'hex');
  tt.equal(bytesHex(Buffer.from(got(), 'hex').subarray(0, 16 + 56 * 4)),
    bytesHex(want.subarray(0, 16 + 56 * 4)), 'header and live items');
  tt.equal(bytesHex(Buffer.from(got(), 'hex').subarray(62480 - 32 - 8)),
    bytesHex(want.subarray(62480 - 32 - 8)), 'values and hash table');
});

void t.test('vector quirks: whole trees are freed, level-1 blocks too', { skip }, async (tt) => {
  for (const q of core.quirks.free_blocks_upstream_leak) {
    const s = makeSpace(7999, { memoryBytes: 256 << 20, slotShare: 0.8 });
    const root = new Rec(s.core, 24);
    let n = 0;
    let leaves = 0;
    while (leaves < q.leaves) {
      n += 1;
      await s.space.insert(root.ptr, key(n), val(n, 896));
      if (n % 33 === 0) {
        await commitSpace(s);
        const early = q.leaves > 100 && n < q.leaves * 32;
        leaves = early ? 0 : (rawTree(s.dev, root).at(-1)?.length ?? 0);
      }
    }
    await commitSpace(s);
    const blocks = rawTree(s.dev, root).flat().length;
    tt.equal(rawTree(s.dev, root).length, q.tree_height, `${q.leaves} leaves: height`);
    const progress = new Rec(s.core, 32);
    const ones = bytesHex(keyBytes(255, 0xffffffffffffffffn, 255, 0xffffffffffffffffn,
      0xffffffffffffffffn, 255));
    let freed = 0;
    while (bytesHex(progress.get()) !== ones) {
      await s.space.freeTree(root.ptr, progress, 62);
      freed += s.core.x.tree_freed_nr();
    }
    tt.equal(freed, blocks, `${q.leaves} leaves: all ${blocks} blocks freed`);
  }
});

void t.test('vector free_blocks: budget and calls', { skip }, async (tt) => {
  const s = makeSpace();
  const root = new Rec(s.core, 24);
  await insertAll(s, root, range(1, 165), 896);
  await commitSpace(s);
  tt.equal(rawTree(s.dev, root).at(-1)?.length, 5);
  const progress = new Rec(s.core, 32);
  for (let i = 0; i < core.free_blocks.calls; i++) {
    await s.space.freeTree(root.ptr, progress, core.free_blocks.budget);
  }
  tt.equal(progress.get()[25], 255, 'finished');
});

void t.test('subtrees: get and set parent, wrong height refused', async (tt) => {
  const s = makeSpace();
  const root = new Rec(s.core, 24);
  await insertAll(s, root, range(1, 200), 896);
  const p = await parentOf(s.core, root.ptr, key(50));
  tt.strictSame(p.root, root.get(), 'a tree of height 2 is its own parent block');
  tt.equal(bytesHex(p.start), bytesHex(new Uint8Array(32)));
  const sub = new Rec(s.core, 24, p.root);
  await s.space.setParent(root.ptr, key(50), sub.ptr);
  tt.strictSame(root.get(), p.root);
});

void t.test('a value longer than 896 bytes is refused', async (tt) => {
  const s = makeSpace();
  const root = new Rec(s.core, 24);
  await tt.rejects(s.space.insert(root.ptr, key(1), new Uint8Array(897)), errnoIs('EINVAL'));
  tt.equal(root.get()[16], 0);
});

void t.test('an allocator that runs dry fails before anything changes', async (tt) => {
  const s = makeSpace(40);
  const root = new Rec(s.core, 24);
  let n = 0;
  await tt.rejects(async () => {
    for (;;) {
      n += 1;
      await s.space.insert(root.ptr, key(n), val(n, 896));
    }
  }, errnoIs('ENOSPC'));
  for (let i = 1; i < n; i++) tt.ok(await s.space.lookup(root.ptr, key(i)), `item ${i}`);
  tt.equal(await s.space.lookup(root.ptr, key(n)), null);
});

type OpName = 'insert' | 'update' | 'force' | 'delete' | 'commit' | 'evict';
const op = fc.record({
  op: fc.constantFrom<OpName>('insert', 'insert', 'insert', 'update', 'force', 'delete', 'delete',
    'commit', 'evict'),
  n: fc.integer({ min: 0, max: 400 }),
  len: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 896 }), fc.constant(896)),
  burst: fc.integer({ min: 1, max: 60 }),
});

async function applyModel(s: Space, root: Rec, model: Map<number, Uint8Array>,
  o: { op: OpName; n: number; len: number }): Promise<void> {
  const v = val(o.n, o.len);
  const has = model.has(o.n);
  const run = async (p: Promise<void>, ok: boolean): Promise<void> => {
    try {
      await p;
      if (!ok) throw new Error(`${o.op} ${o.n} should have failed`);
    } catch (e) {
      if (!(e instanceof ScoutfsError) || ok || !['EEXIST', 'ENOENT'].includes(e.errno)) throw e;
    }
  };
  if (o.op === 'commit') await commitSpace(s);
  if (o.op === 'evict') s.core.x.blockEvictAll();
  if (o.op === 'insert') await run(s.space.insert(root.ptr, key(o.n), v), !has);
  if (o.op === 'update') await run(s.space.update(root.ptr, key(o.n), v), has);
  if (o.op === 'force') await run(s.space.force(root.ptr, key(o.n), v), true);
  if (o.op === 'delete') await run(s.space.delete(root.ptr, key(o.n)), has);
  const put = o.op === 'force' || (o.op === 'insert' && !has) || (o.op === 'update' && has);
  if (put) model.set(o.n, v);
  if (o.op === 'delete') model.delete(o.n);
}

async function verify(s: Space, root: Rec, model: Map<number, Uint8Array>): Promise<boolean> {
  await commitSpace(s);
  s.core.x.blockEvictAll();
  const want = [...model].sort(([a], [b]) => a - b);
  let at = key(0);
  for (const [n, v] of want) {
    const f = await s.space.next(root.ptr, at);
    if (f === null || second(f.key) !== String(n) || bytesHex(f.val) !== bytesHex(v)) return false;
    at = key(n + 1);
  }
  if (await s.space.next(root.ptr, at) !== null) return false;
  const last = want.at(-1);
  const p = await s.space.prev(root.ptr, key(0xffffffff));
  return last === undefined ? p === null : p !== null && second(p.key) === String(last[0]);
}

void t.test('random operations against a model, blocks evicted at any allowed moment', async () => {
  await fc.assert(fc.asyncProperty(fc.array(op, { maxLength: 60 }), async (ops) => {
    // few slots, so that eviction happens during calls as well
    const s = makeSpace(7999, { memoryBytes: 24 << 20, slotShare: 0.4 });
    const root = new Rec(s.core, 24);
    const model = new Map<number, Uint8Array>();
    for (const o of ops) {
      for (let i = 0; i < o.burst; i++) {
        await applyModel(s, root, model, { ...o, n: (o.n + i * 7) % 401 });
        if (s.space.dirtyBlocks > 60) await commitSpace(s);
      }
    }
    return verify(s, root, model);
  }), { numRuns: 150 });
});

void t.test('damaged blocks are refused, not followed', async (tt) => {
  const s = makeSpace();
  const root = new Rec(s.core, 24);
  await insertAll(s, root, range(1, 500), 16);
  await commitSpace(s);
  const blkno = Number(new DataView(root.get().buffer).getBigUint64(0, true));
  const good = new Uint8Array(65536);
  s.dev.readSync(blkno * 65536, good);
  const damage: [string, (v: DataView) => void][] = [
    ['nr_items', (v) => { v.setUint16(34, 60000, true); }],
    ['avl root outside', (v) => { v.setUint16(32, 65000, true); }],
    ['avl child outside', (v) => { v.setUint16(48 + 2, 60001, true); }],
    ['avl parent loop', (v) => { v.setUint16(48, 16, true); }],
    ['val_off outside', (v) => { v.setUint16(48 + 48, 65528, true); }],
    ['val_len', (v) => { v.setUint16(48 + 50, 900, true); }],
    ['total bytes', (v) => { v.setUint16(36, 1, true); }],
    ['mid_free_len', (v) => { v.setUint16(38, 65000, true); }],
    ['level', (v) => { v.setUint8(40, 99); }],
    ['key order', (v) => { v.setBigUint64(48 + 8 + 8, 0xffffffffn, true); }],
    ['hash bucket', (v) => { v.setUint16(62512, 48, true); }],
  ];
  for (const [name, fn] of damage) {
    const b = good.slice();
    const v = new DataView(b.buffer);
    fn(v);
    v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
    s.dev.writeSync(blkno * 65536, b);
    s.core.x.blockEvictAll();
    await tt.rejects(s.space.lookup(root.ptr, key(3)), errnoIs('BTREE_STRUCT|SC_BTREE'), name);
  }
  const b = good.slice();
  b[100] = (b[100] ?? 0) ^ 1;
  s.dev.writeSync(blkno * 65536, b);
  s.core.x.blockEvictAll();
  await tt.rejects(s.space.lookup(root.ptr, key(3)), errnoIs('ESTALE'), 'checksum');
  s.dev.writeSync(blkno * 65536, good);
  s.core.x.blockEvictAll();
  tt.ok(await s.space.lookup(root.ptr, key(3)));
});

void t.test('a list block with an impossible window is refused', async (tt) => {
  const s = makeSpace();
  const head = writeListBlock(s.dev, 900, 2000, 10);
  const b = new Uint8Array(65536);
  s.dev.readSync(900 * 65536, b);
  const v = new DataView(b.buffer);
  v.setUint32(48, 8184, true);
  v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
  s.dev.writeSync(900 * 65536, b);
  s.space.begin(head, new Uint8Array(32));
  const root = new Rec(s.core, 24);
  await tt.rejects(s.space.insert(root.ptr, key(1), val(1, 8)), { message: /ALLOC_LIST_STRUCT/ });
});
