/**
 * Allocators, merge, AVL and the quirks against the vectors: what upstream's algorithms
 * did with the same calls over blocks handed out in ascending order.
 */
import t from 'tap';
import { AllocListHead } from '../../host/core/format.js';
import { Rec } from '../../host/core/trees.js';
import { DataExtents } from '../../host/mount/data_extents.js';
import { bytesHex } from '../lib/hex.js';
import {
  EINVAL, ENOENT, ENOSPC, allocRoot, btreeOf, empty, extents, fill, headOf, insert, listBlocks,
  listHead, move, remove, splice, take, totalLen,
} from '../lib/extents.js';
import type { ExtentsVec, Run } from '../lib/extents.js';
import { KEY_ONES, merge } from '../lib/mergejob.js';
import { rootOf, writeChain } from '../lib/rawtree.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';
import {
  BLOCK_BYTES, FSID, commitSpace, keyBytes, makeSpace, rawTree, writeList,
} from '../lib/treespace.js';
import type { RawBlock, Space } from '../lib/treespace.js';
import { compareTree, insertAll, key, range, val } from '../lib/treevec.js';
import type { TreeVec } from '../lib/treevec.js';

interface DataCall { count: number; ret: number; blkno: number; len: number; cached: Run;
  total_len: number }
interface CoreVectors {
  avl: { insert: number[]; preorder: string; then_delete: number[]; preorder_after: string }[];
  merge: { ret: number; result: TreeVec };
  quirks: {
    same_delta_list_applied_twice: { delta: [number, number]; value_after: [number, number] };
    delta_to_zero_in_log_tree: { item_kept: boolean; value_after: [number, number] };
    read_items_on_empty_root_ret: number;
    merge_subtree_on_root_block_below_low_water_ret: number;
    set_parent_height_mismatch_ret: number;
  };
  alloc: {
    order_values: [string, number, string][];
    inserted: Run[];
    after_insert: ExtentsVec;
    overlap_insert_ret: number;
    remove_outside_ret: number;
    after_remove_3100_12: ExtentsVec;
    move_500_ret: number;
    src_after_move_500: ExtentsVec;
    dst_after_move_500: ExtentsVec;
    data_alloc: { extents: Run[]; calls: DataCall[] };
    zoned_move: { src: Run[]; zone_blocks: number; exclusive: number[]; vacant: number[];
      total: number; ret: number; src_after: ExtentsVec; dst_after: ExtentsVec };
    fill_list: { extents: Run[]; lo: number; target: number; ret: number; first_nr: number;
      total_nr: number; blknos_0_99_100_119: number[]; root_after: ExtentsVec;
      fill_more_lo130_target140_ret: number; first_nr2: number; empty_ret: number;
      lh_blkno_after_empty: number; total_nr_after_empty: number; root_after_empty: ExtentsVec };
    first_dirty: { avail_list_block: number; avail_blknos_start: number;
      alloc_meta_returned: number; new_avail_blkno: number; new_freed_blkno: number;
      avail_first_nr: number; freed_first_nr: number; freed_blknos0: number };
  };
}
// big trees on a busy machine
t.setTimeout(180_000);

const skip = skipWithoutSpec();
const core = (skip === false ? vectors('core-vectors.json') : {}) as CoreVectors;

async function rootWith(s: Space, runs: Run[]): Promise<Rec> {
  const root = allocRoot(s);
  for (const [start, len] of runs) {
    const r = await insert(s, root, start, len);
    if (r !== 0) throw new Error(`insert ${start}: ${r}`);
  }
  return root;
}

void t.test('order_values: the size order of a length', { skip }, async (tt) => {
  const s = makeSpace();
  for (const [len, order, revord] of core.alloc.order_values) {
    tt.equal(BigInt(revord), 0xffffffffffffffffn - BigInt(order));
    if (Number(len) >= Number.MAX_SAFE_INTEGER) continue;
    const root = await rootWith(s, [[1, Number(len)]]);
    const e = await extents(s, root);
    tt.strictSame(e.by_order, [{ revord, start: 1, len: Number(len) }], `length ${len}`);
  }
});

void t.test('extents: insert, merge, refuse, remove, move', { skip }, async (tt) => {
  const v = core.alloc;
  const s = makeSpace();
  const src = await rootWith(s, v.inserted);
  tt.strictSame(await extents(s, src), v.after_insert);
  tt.equal(await insert(s, src, 120, 10), v.overlap_insert_ret);
  tt.equal(await remove(s, src, 90, 20), v.remove_outside_ret);
  tt.equal(await remove(s, src, 6000, 1), ENOENT, 'nothing at or after');
  tt.strictSame(await extents(s, src), v.after_insert, 'refusals change nothing');
  tt.equal(await remove(s, src, 3100, 12), 0);
  tt.strictSame(await extents(s, src), v.after_remove_3100_12);
  const dst = allocRoot(s);
  tt.strictSame(await move(s, dst, src, 500), { ret: v.move_500_ret, moved: 500 });
  tt.strictSame(await extents(s, src), v.src_after_move_500);
  tt.strictSame(await extents(s, dst), v.dst_after_move_500);
  tt.strictSame(await move(s, dst, src, 1000), { ret: ENOENT, moved: 258 }, 'src runs dry');
  tt.strictSame(src.get(), new Uint8Array(40), 'an empty allocator is all zeros');
});

void t.test('zoned_move: exclusive zones, then vacant ones, then any', { skip }, async (tt) => {
  const v = core.alloc.zoned_move;
  const s = makeSpace();
  const src = await rootWith(s, v.src);
  const dst = allocRoot(s);
  const r = await move(s, dst, src, v.total, {
    exclusive: v.exclusive, vacant: v.vacant, zoneBlocks: v.zone_blocks,
  });
  tt.strictSame(r, { ret: v.ret, moved: v.total });
  tt.strictSame(await extents(s, src), v.src_after);
  tt.strictSame(await extents(s, dst), v.dst_after);
});

void t.test('fill_list: fill, fill until dry, empty', { skip }, async (tt) => {
  const v = core.alloc.fill_list;
  const s = makeSpace();
  s.core.setVolume(s.dev, FSID, 100000);
  const root = await rootWith(s, v.extents);
  const head = listHead(s);
  tt.equal(await fill(s, head, root, v.lo, v.target), v.ret);
  tt.match(headOf(head), { firstNr: v.first_nr, totalNr: v.total_nr });
  tt.strictSame(await extents(s, root), v.root_after);
  await commitSpace(s);
  const nrs = listBlocks(s, headOf(head))[0]?.blknos ?? [];
  tt.strictSame([0, 99, 100, 119].map((i) => nrs[i]), v.blknos_0_99_100_119);
  tt.equal(await fill(s, head, root, 100, 200), 0, 'above lo: nothing to do');
  tt.equal(headOf(head).firstNr, v.first_nr);
  tt.equal(await fill(s, head, root, 130, 140), v.fill_more_lo130_target140_ret);
  tt.equal(headOf(head).firstNr, v.first_nr2);
  tt.equal(await empty(s, head, root), v.empty_ret);
  tt.equal(headOf(head).ref.blkno, v.lh_blkno_after_empty);
  tt.equal(headOf(head).totalNr, v.total_nr_after_empty);
  tt.strictSame(await extents(s, root), v.root_after_empty);
});

void t.test('first_dirty: two numbers are peeked for the list blocks', { skip }, async (tt) => {
  const v = core.alloc.first_dirty;
  tt.strictSame([v.avail_list_block, v.avail_blknos_start], [1000, 1001]);
  const s = makeSpace(8000);
  tt.equal(await s.core.run(() => s.core.x.alloc_first_use(s.space.al)), 0);
  const root = new Rec(s.core, 24);
  await s.space.insert(root.ptr, key(1), val(1, 8));
  const blkno = Number(new DataView(root.get().buffer).getBigUint64(0, true));
  tt.equal(blkno, v.alloc_meta_returned);
  const heads = s.space.finish();
  const avail = AllocListHead.read(new DataView(heads.avail.buffer), 0);
  const freed = AllocListHead.read(new DataView(heads.freed.buffer), 0);
  tt.match(avail, { ref: { blkno: v.new_avail_blkno }, firstNr: v.avail_first_nr });
  tt.match(freed, { ref: { blkno: v.new_freed_blkno }, firstNr: v.freed_first_nr, totalNr: 1 });
  await s.space.write();
  s.space.forget(true);
  tt.strictSame(listBlocks(s, freed)[0]?.blknos, [v.freed_blknos0]);
});

void t.test('data_alloc: the cached extent and large requests', { skip }, async (tt) => {
  const v = core.alloc.data_alloc;
  for (const evict of [false, true]) {
    const s = makeSpace();
    const avail = await rootWith(s, v.extents);
    const freed = allocRoot(s);
    const data = new DataExtents(s.space);
    data.begin(avail, freed, false);
    for (const c of v.calls) {
      if (evict) {
        await commitSpace(s);
        s.core.x.blockEvictAll();
      }
      let got = data.alloc(c.count);
      if (got === 'need-refill') {
        tt.ok(evict, 'only missing blocks need waiting');
        await data.refill(c.count);
        got = data.alloc(c.count);
      }
      tt.strictSame(got, { blkno: c.blkno, count: c.len }, `alloc ${c.count}`);
      tt.equal(data.totalAvail, c.total_len);
      tt.strictSame([data.cached.count], [c.cached[1]]);
      if (c.cached[1] > 0) tt.equal(data.cached.blkno, c.cached[0]);
    }
    await data.finish();
    tt.equal(totalLen(avail), v.calls.at(-1)?.total_len, 'the cached extent went back');
  }
});

void t.test('merge: two inputs with deletions into one tree', { skip }, async (tt) => {
  for (const windowBytes of [2 << 20, 4096, 1000]) {
    const s = makeSpace(7999, { mergeWindowBytes: 2 << 20 });
    const dst = new Rec(s.core, 24);
    await insertAll(s, dst, range(1, 2000), 32);
    const in1 = new Rec(s.core, 24);
    for (const n of range(1, 1999, 2)) {
      const del = n % 5 === 0;
      await s.space.apply(in1.ptr, key(n), 50 + n, del ? 1 : 0, del ? none : val(n + 1, 40));
    }
    const in2 = new Rec(s.core, 24);
    for (const n of range(1, 2500, 3)) {
      const del = n % 7 === 0;
      await s.space.apply(in2.ptr, key(n), n % 2 === 1 ? 40 + n : 60 + n, del ? 1 : 0,
        del ? none : val(n + 2, 24));
    }
    const r = await merge(s, dst, [in1, in2], { windowBytes });
    tt.equal(r.ret, core.merge.ret);
    // with small windows the tree is walked more often and joined elsewhere
    const { items, items_crc32c, height } = core.merge.result;
    await compareTree(tt, s, dst, windowBytes === 2 << 20 ? core.merge.result
      : { height, ...(items === undefined ? {} : { items }),
        ...(items_crc32c === undefined ? {} : { items_crc32c }) });
  }
});

const none = new Uint8Array(0);

/** The AVL of a leaf as the vectors write it: node:hHeight in preorder. */
function preorder(s: Space, root: Rec): string {
  const b = new Uint8Array(BLOCK_BYTES);
  s.dev.readSync(Number(new DataView(root.get().buffer).getBigUint64(0, true)) * BLOCK_BYTES, b);
  const v = new DataView(b.buffer);
  const out: string[] = [];
  const visit = (off: number): void => {
    if (off === 0) return;
    const at = 32 + off;
    out.push(`${v.getBigUint64(at + 16, true)}:h${v.getUint8(at + 6)}`);
    visit(v.getUint16(at + 2, true));
    visit(v.getUint16(at + 4, true));
  };
  visit(v.getUint16(32, true));
  return out.join(' ');
}

void t.test('avl: shapes after insertions and deletions', { skip }, async (tt) => {
  for (const v of core.avl) {
    const s = makeSpace(100);
    const root = new Rec(s.core, 24);
    await insertAll(s, root, v.insert, 0);
    await commitSpace(s);
    tt.equal(preorder(s, root), v.preorder);
    for (const n of v.then_delete) await s.space.delete(root.ptr, key(n));
    await commitSpace(s);
    tt.equal(preorder(s, root), v.preorder_after);
  }
});

function totl(total: bigint, count: bigint): Uint8Array {
  const b = new Uint8Array(16);
  const v = new DataView(b.buffer);
  v.setBigInt64(0, total, true);
  v.setBigInt64(8, count, true);
  return b;
}

void t.test('quirks of log trees, empty trees and subtrees', { skip }, async (tt) => {
  const q = core.quirks;
  const s = makeSpace(7999, { mergeWindowBytes: 65536 });
  const log = new Rec(s.core, 24);
  const k = keyBytes(12, 1, 0, 2, 3);
  const [total, count] = q.same_delta_list_applied_twice.delta;
  for (let i = 0; i < 2; i++) {
    await s.space.apply(log.ptr, k, 5 + i, 0, totl(BigInt(total), BigInt(count)));
  }
  const twice = q.same_delta_list_applied_twice.value_after;
  tt.equal(bytesHex(await s.space.lookup(log.ptr, k) ?? none),
    bytesHex(totl(BigInt(twice[0]), BigInt(twice[1]))));
  await s.space.apply(log.ptr, k, 7, 0, totl(-BigInt(twice[0]), -BigInt(twice[1])));
  tt.ok(q.delta_to_zero_in_log_tree.item_kept);
  tt.equal(bytesHex(await s.space.lookup(log.ptr, k) ?? none), bytesHex(totl(0n, 0n)));
  await tt.rejects(s.space.apply(log.ptr, k, 8, 0, new Uint8Array(8)), { message: /EIO/ });

  tt.equal(q.read_items_on_empty_root_ret, ENOENT);
  const none24 = new Rec(s.core, 24);
  tt.equal(await s.space.lookup(none24.ptr, key(1)), null);
  tt.equal(await s.space.next(none24.ptr, key(1)), null);
  tt.equal(await s.space.prev(none24.ptr, key(1)), null);
  await tt.rejects(s.space.delete(none24.ptr, key(1)), { message: /ENOENT/ });

  const dst = new Rec(s.core, 24);
  await insertAll(s, dst, range(1, 100), 896);
  const input = new Rec(s.core, 24);
  await s.space.apply(input.ptr, key(7), 9, 0, val(1, 4));
  const r = await merge(s, dst, [input], { subtree: true, windowBytes: 65536 });
  tt.equal(r.ret, q.merge_subtree_on_root_block_below_low_water_ret);
  tt.equal(bytesHex(r.next), bytesHex(key(7)), 'it stopped at the first item');
});

void t.test('set parent refuses a subtree that is not of height 2', { skip }, async (tt) => {
  tt.equal(core.quirks.set_parent_height_mismatch_ret, EINVAL);
  const s = makeSpace(7999, { memoryBytes: 256 << 20, slotShare: 0.8 });
  const root = new Rec(s.core, 24);
  for (const n of range(1, 30500)) {
    await s.space.insert(root.ptr, key(n), val(n, 896));
    if (s.space.dirtyBlocks > 1500) await commitSpace(s);
  }
  tt.equal(root.get()[16], 3);
  const low = new Rec(s.core, 24);
  await insertAll(s, low, [1], 4);
  await tt.rejects(s.space.setParent(root.ptr, key(1), low.ptr), { message: /EINVAL/ });
});

void t.test('free_blocks: exactly the blocks of the tree are freed', async (tt) => {
  const s = makeSpace();
  const root = new Rec(s.core, 24);
  await insertAll(s, root, range(1, 165), 896);
  await commitSpace(s);
  const all = rawTree(s.dev, root).flat().map((b: RawBlock) => b.blkno).sort((a, b) => a - b);
  const progress = new Rec(s.core, 32);
  let freed = 0;
  for (let calls = 0; (progress.get()[25] ?? 0) !== 255; calls++) {
    const n = await s.space.freeTree(root.ptr, progress, 3);
    tt.ok(n <= 3 && calls < 2, `call ${calls} freed ${n}`);
    freed += n;
  }
  tt.equal(freed, all.length);
  const heads = s.space.finish();
  await s.space.write();
  s.space.forget(true);
  const nrs = listBlocks(s, AllocListHead.read(new DataView(heads.freed.buffer), 0))
    .flatMap((b) => b.blknos);
  tt.strictSame(nrs.filter((n) => all.includes(n)).sort((a, b) => a - b), all);
});

void t.test('mkfs: a chain with wrong heights is read, changed and repaired', async (tt) => {
  const s = makeSpace();
  const keys = [key(1), key(2), key(3), key(4)];
  const root = new Rec(s.core, 24, rootOf(writeChain(s, 500, 0, keys.map((k, i) => ({ key: k,
    val: new Uint8Array([8, 100, 0, 60][i] ?? 0) }))), 1));
  for (const k of keys) tt.ok(await s.space.lookup(root.ptr, k));
  const found = await s.space.next(root.ptr, key(2));
  tt.equal(bytesHex(found?.key ?? none), bytesHex(key(2)));
  for (const n of range(5, 40)) await s.space.insert(root.ptr, key(n), val(n, 5));
  await s.space.delete(root.ptr, key(2));
  await commitSpace(s);
  s.core.x.blockEvictAll();
  const leaf = rawTree(s.dev, root)[0]?.[0];
  tt.equal(leaf?.nrItems, 39);
  const heights = preorder(s, root).split(' ').map((n) => Number(n.split(':h')[1]));
  tt.ok(Math.max(...heights) <= 8 && Math.min(...heights) >= 1, 'the path was rebalanced');
  for (const n of range(1, 40)) {
    tt.equal((await s.space.lookup(root.ptr, key(n))) === null, n === 2, `item ${n}`);
  }
});

void t.test('mkfs: free extents with item seq 1 are usable', async (tt) => {
  const s = makeSpace();
  const len = 16777152;
  const end = 16777215;
  const keys = [keyBytes(36, end, 0, len), keyBytes(40, 0xffffffffffffffffn - 7n, 0, end, len)];
  // order 7 is 8^7 = 2097152 blocks and more
  const rec = allocRoot(s);
  const b = rec.get();
  new DataView(b.buffer).setBigUint64(0, BigInt(len), true);
  b.set(rootOf(writeChain(s, 500, 0, keys.map((k) => ({ key: k, val: none }))), 1), 16);
  rec.set(b);
  tt.strictSame(await take(s, rec, 2048), [64, 2048]);
  const e = await extents(s, rec);
  tt.strictSame(e.by_blkno, [[64 + 2048, len - 2048]]);
  const tree = btreeOf(s, rec);
  tt.equal(tree.get()[16], 1);
  tt.equal(await fill(s, listHead(s), allocRoot(s), 1, 2), ENOSPC, 'an empty tree fills nothing');
});

// ---- what others may write ----

/** A tree of height 3 with one or two level-1 blocks of few small leaves: legal to read. */
function sparseTree(s: Space, leaves: number[][], parents: 1 | 2): Rec {
  const half = Math.ceil(leaves.length / 2);
  const bound = (i: number): Uint8Array => {
    const last = leaves[i]?.at(-1);
    return i === leaves.length - 1 || last === undefined ? KEY_ONES : key(last);
  };
  const refs = leaves.map((ns, i) => writeChain(s, 500 + i, 0,
    ns.map((n) => ({ key: key(n), val: val(n, 20) }))));
  const parent = (blkno: number, from: number, to: number): Uint8Array => writeChain(s, blkno, 1,
    refs.slice(from, to).map((val, i) => ({ key: bound(from + i), val })));
  if (parents === 1) {
    const only = { key: KEY_ONES, val: parent(600, 0, leaves.length) };
    return new Rec(s.core, 24, rootOf(writeChain(s, 602, 2, [only]), 3));
  }
  const left = parent(600, 0, half);
  const right = parent(601, half, leaves.length);
  const top = writeChain(s, 602, 2, [{ key: bound(half - 1), val: left },
    { key: KEY_ONES, val: right }]);
  return new Rec(s.core, 24, rootOf(top, 3));
}

void t.test('sparse foreign trees lose nothing when they are changed', async (tt) => {
  const small = Array.from({ length: 60 }, (_, i) => [i * 10 + 1, i * 10 + 2]);
  const shapes: [string, number[][], 1 | 2][] = [
    ['two leaves a parent', [[1, 2], [11, 12], [21, 22], [31, 32]], 2],
    ['one leaf a parent', [[1, 2, 3], [21, 22]], 2],
    ['many small leaves', small, 2],
    ['an only parent', [[1, 2, 3], [21, 22]], 1],
    ['an only parent with an empty leaf', [[1, 2, 3], []], 1],
    ['an only parent of many', small, 1],
  ];
  for (const [name, leaves, parents] of shapes) {
    for (const order of ['up', 'down'] as const) {
      const s = makeSpace();
      const root = sparseTree(s, leaves, parents);
      const blocks = rawTree(s.dev, root).flat().map((b) => b.blkno);
      const present = new Set(leaves.flat());
      const victims = [...present].filter((_, i) => i % 2 === 0);
      if (order === 'down') victims.reverse();
      for (const n of victims) {
        await s.space.delete(root.ptr, key(n));
        present.delete(n);
        await s.space.force(root.ptr, key(n + 5), val(n, 30));
        present.add(n + 5);
      }
      await s.space.insert(root.ptr, key(100_000), val(1, 1));
      const { avail, freed } = s.space.finish();
      await s.space.write();
      s.space.forget(true);
      s.core.x.blockEvictAll();
      const gone = listBlocks(s, AllocListHead.read(new DataView(freed.buffer), 0))
        .flatMap((b) => b.blknos);
      const used = rawTree(s.dev, root).flat().map((b) => b.blkno);
      const places = blocks.map((b) => [...gone, ...used].filter((n) => n === b).length);
      tt.ok(places.every((n) => n === 1), `${name}, ${order}: old blocks are freed or in use`);
      const taken = 7999 - AllocListHead.read(new DataView(avail.buffer), 0).totalNr;
      const ours = [...gone, ...used].filter((n) => n > 1000).length;
      tt.equal(ours + 2, taken, 'and so are new ones, two of which hold the lists');
      const got = rawTree(s.dev, root).at(-1)?.flatMap((b) => b.items.map((i) =>
        Number(new DataView(i.key.buffer).getBigUint64(8, true))));
      tt.strictSame(got, [...present, 100_000].sort((a, b) => a - b), `${name}, ${order}`);
      for (const n of present) {
        if (await s.space.lookup(root.ptr, key(n)) === null) tt.fail(`${name}: item ${n}`);
      }
    }
  }
});

void t.test('empty leaves: read over, joined away, the right edge keeps its bound', async (tt) => {
  const empties: [string, number[][]][] = [
    ['first', [[], [11, 12]]], ['last', [[1, 2], []]], ['both', [[], []]],
    ['in between', [[1], [], [], [31]]], ['three', [[], [], []]],
  ];
  for (const [name, leaves] of empties) {
    const s = makeSpace();
    const bounds = leaves.map((_, i) => (i === leaves.length - 1 ? KEY_ONES : key(i * 10 + 9)));
    const entries = leaves.map((ns, i) => ({ key: bounds[i] ?? KEY_ONES,
      val: writeChain(s, 500 + i, 0, ns.map((n) => ({ key: key(n), val: val(n, 8) }))) }));
    const root = new Rec(s.core, 24, rootOf(writeChain(s, 600, 1, entries), 2));
    const all = leaves.flat();
    const first = await s.space.next(root.ptr, key(0));
    tt.equal(first === null ? null : bytesHex(first.key),
      all.length === 0 ? null : bytesHex(key(all[0] ?? 0)), `${name}: next`);
    for (const n of [5, 15, 25, 35]) await s.space.rebalance(root.ptr, key(n));
    await s.space.insert(root.ptr, key(99), val(9, 9));
    await s.space.insert(root.ptr, key(0), val(0, 9));
    await commitSpace(s);
    const levels = rawTree(s.dev, root);
    tt.equal(levels.at(-1)?.reduce((n, b) => n + b.nrItems, 0), all.length + 2, name);
    for (const n of [...all, 99, 0]) tt.ok(await s.space.lookup(root.ptr, key(n)), `${name}: ${n}`);
  }
});

void t.test('an extent with one of its two items is refused, not half changed', async (tt) => {
  const order = (len: number): bigint =>
    0xffffffffffffffffn - BigInt(Math.floor(Math.log2(len) / 3));
  const cases: [string, Uint8Array, unknown[]][] = [
    ['no item by order', keyBytes(40, order(50), 0, 149, 50), [-5, -5, [1000, 5]]],
    ['no item by number', keyBytes(36, 149, 0, 50), [EINVAL, 0, -5]],
  ];
  for (const [name, lost, want] of cases) {
    const s = makeSpace();
    const root = await rootWith(s, [[100, 50], [1000, 20]]);
    await s.space.delete(root.ptr + 16, lost);
    const before = totalLen(root);
    const results = [await remove(s, root, 110, 5), await insert(s, root, 150, 5),
      await take(s, root, 5)];
    tt.strictSame(results, want, name);
    tt.equal(s.core.x.checkId(), 0);
    tt.ok(totalLen(root) <= before + 5);
  }
  const s = makeSpace();
  const root = await rootWith(s, [[100, 50]]);
  const b = root.get();
  b[0] = 10;
  root.set(b);
  tt.equal(await remove(s, root, 110, 5), -5, 'total_len smaller than its extents');
});

void t.test('lists as others may write them: several blocks, windows anywhere, unsorted',
  async (tt) => {
    const s = makeSpace();
    s.core.setVolume(s.dev, FSID, 100_000);
    const third = writeList(s.dev, 903, [70_001], { start: 8184 });
    const second = writeList(s.dev, 902, [60_003, 60_001, 50_000, 60_002],
      { start: 8000, next: third });
    const head = listHead(s, writeList(s.dev, 901, [], { start: 0, next: second }));
    tt.match(headOf(head), { firstNr: 0, totalNr: 5 });
    const into = listHead(s, writeList(s.dev, 904, [80_000]));
    tt.equal(await splice(s, into, head), 0);
    tt.match(headOf(into), { firstNr: 0, totalNr: 6 });
    tt.strictSame(head.get(), new Uint8Array(32));
    const root = allocRoot(s);
    tt.equal(await empty(s, into, root), 0);
    tt.strictSame((await extents(s, root)).by_blkno,
      [[50_000, 1], [60_001, 3], [70_001, 1], [80_000, 1]]);
    tt.match(headOf(into), { firstNr: 0, totalNr: 0, ref: { blkno: 0 } });
    // a window at the end of the array grows towards its front
    const full = listHead(s, writeList(s.dev, 905, [40_000], { start: 8184 }));
    tt.equal(await fill(s, full, root, 7, 7), 0);
    await commitSpace(s);
    tt.strictSame(listBlocks(s, headOf(full)).map((b) => [b.start, b.blknos.length]), [[8178, 7]]);
    for (const total of [1, 3]) {
      const bad = listHead(s, writeList(s.dev, 906, [30_000, 30_001]));
      const h = bad.get();
      h[16] = total;
      bad.set(h);
      tt.equal(await empty(s, bad, allocRoot(s)), -5, `a total of ${total} for two numbers`);
    }
  });
