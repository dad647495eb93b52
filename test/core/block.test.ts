/**
 * The block cache: sharing of reads, read errors, stale copies, dirty blocks that
 * stale readers meet, writer sets, and each trap of block.md 10 that a cache can
 * fall into. Damaged allocators are here too: they reach the cache first.
 */
import t from 'tap';
import { crc32c } from '../../host/core/crc32c.js';
import { AllocListHead, BlockRef } from '../../host/core/format.js';
import { Rec, TreeSpace } from '../../host/core/trees.js';
import { listBlocks } from '../lib/extents.js';
import { C, Counters } from '../../host/observe/counters.js';
import { errnoError } from '../../host/observe/errors.js';
import { GateDevice } from '../lib/gatedev.js';
import { bytesHex } from '../lib/hex.js';
import {
  BLOCK_BYTES, commitSpace, keyBytes, makeSpace, rawTree, spaceOn, writeList, writeListBlock,
} from '../lib/treespace.js';
import type { Space } from '../lib/treespace.js';
import { insertAll, key, range, val } from '../lib/treevec.js';

const ESTALE = { message: /ESTALE/ };

const gated = (nr?: number): Space<GateDevice> => spaceOn(new GateDevice(2 ** 31), nr);
const refOf = (root: Rec): BlockRef => BlockRef.read(new DataView(root.get().buffer), 0);

/** A committed tree of one leaf with items 1..10; the cache is empty. */
async function leafTree(s: Space): Promise<Rec> {
  const root = new Rec(s.core, 24);
  await insertAll(s, root, range(1, 10), 20);
  await commitSpace(s);
  s.core.x.blockEvictAll();
  if (s.dev instanceof GateDevice) s.dev.readBlknos.length = 0;
  return root;
}

/** The root with another seq in its reference. */
function withSeq(s: Space, root: Rec, seq: bigint): Rec {
  const b = root.get();
  new DataView(b.buffer).setBigUint64(8, seq, true);
  return new Rec(s.core, 24, b);
}

/** Rewrites a block on the device as somebody else's new version, with a right checksum. */
function rewrite(s: Space, blkno: number, seq: bigint, change?: (v: DataView) => void): void {
  const b = new Uint8Array(BLOCK_BYTES);
  s.dev.readSync(blkno * BLOCK_BYTES, b);
  const v = new DataView(b.buffer);
  v.setBigUint64(16, seq, true);
  v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
  change?.(v);
  s.dev.writeSync(blkno * BLOCK_BYTES, b);
}

void t.test('calls that need the same block share one read', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  const free = s.core.x.blockNrFree();
  s.dev.hold();
  const both = [s.space.lookup(root.ptr, key(1)), s.space.lookup(root.ptr, key(2))];
  s.dev.pass();
  const third = s.space.lookup(root.ptr, key(3));
  for (const v of await Promise.all([...both, third])) tt.ok(v);
  tt.equal(s.dev.readBlknos.length, 1);
  tt.equal(s.core.x.blockNrFree(), free - 1, 'one copy of the number');
});

void t.test('a read error is EIO for all who wait, and is not remembered', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  const free = s.core.x.blockNrFree();
  s.dev.failReads.add(refOf(root).blkno);
  const results = await Promise.allSettled([1, 2, 3].map((n) => s.space.lookup(root.ptr, key(n))));
  for (const r of results) {
    tt.equal(r.status, 'rejected');
    if (r.status === 'rejected') tt.match(r.reason, { code: 'BLOCK_READ', errno: 'EIO' });
  }
  tt.equal(s.core.x.blockNrFree(), free, 'nothing is left behind');
  s.dev.failReads.clear();
  tt.ok(await s.space.lookup(root.ptr, key(1)));
  tt.equal(s.dev.readBlknos.length, 2);
});

void t.test('a device that is being forced down answers ENOLINK to everybody', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  s.dev.onRead = () => { throw errnoError('ENOLINK'); };
  const results = await Promise.allSettled([1, 2].map((n) => s.space.lookup(root.ptr, key(n))));
  for (const r of results) {
    tt.equal(r.status, 'rejected');
    if (r.status === 'rejected') tt.match(r.reason, { errno: 'ENOLINK' });
  }
});

void t.test('an EIO names the block that caused it, and no other', async (tt) => {
  const s = makeSpace();
  const root = await leafTree(s);
  rewrite(s, refOf(root).blkno, refOf(root).seq, (v) => {
    v.setUint16(36, 1, true);
    v.setUint32(0, crc32c(0xffffffff, new Uint8Array(v.buffer).subarray(4)), true);
  });
  const bad = s.space.lookup(root.ptr, key(1));
  const other = new Rec(s.core, 24);
  await s.space.insert(other.ptr, key(1), val(1, 1));
  await tt.rejects(bad, { code: 'BTREE_STRUCT', data: { blkno: refOf(root).blkno } });
  const totl = keyBytes(12, 1, 0, 1);
  await s.space.apply(other.ptr, totl, 1, 0, val(1, 16));
  await tt.rejects(s.space.apply(other.ptr, totl, 2, 0, val(1, 8)), { code: 'EIO' },
    'a bad delta is no damage of a block');
});

void t.test('an old cached copy is dropped and read again once', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  tt.ok(await s.space.lookup(root.ptr, key(1)));
  const { blkno } = refOf(root);
  rewrite(s, blkno, 77n);
  tt.ok(await s.space.lookup(root.ptr, key(1)), 'the old version is still what the old root means');
  tt.equal(s.dev.readBlknos.length, 1);
  tt.ok(await s.space.lookup(withSeq(s, root, 77n).ptr, key(1)), 'the new root finds the new one');
  tt.equal(s.dev.readBlknos.length, 2);
  await tt.rejects(s.space.lookup(root.ptr, key(1)), ESTALE, 'the old root is stale now');
  tt.equal(s.dev.readBlknos.length, 3, 'it looked once more');
  await tt.rejects(s.space.lookup(withSeq(s, root, 78n).ptr, key(1)), ESTALE);
  tt.equal(s.dev.readBlknos.length, 4, 'and each later reader looks for itself');
  s.core.x.blockEvictAll();
  await tt.rejects(s.space.lookup(root.ptr, key(1)), ESTALE);
  tt.equal(s.dev.readBlknos.length, 5, 'a mismatch in what was just read is not read twice');
  tt.ok(await s.space.lookup(withSeq(s, root, 77n).ptr, key(1)));
});

void t.test('a block nobody used is old for those who come later', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  const other = new Rec(s.core, 24);
  // the call that asked finds another root when it is repeated
  let asked = root.ptr;
  const k = new Rec(s.core, 32, key(1));
  const out = s.core.alloc(896);
  const r = s.core.run(() => {
    const from = asked;
    asked = other.ptr;
    return s.core.x.btree_lookup(from, k.ptr, out, 896);
  });
  tt.equal(await r, -2);
  rewrite(s, refOf(root).blkno, 91n);
  tt.ok(await s.space.lookup(withSeq(s, root, 91n).ptr, key(1)), 'it was read again');
});

void t.test('the checksum belongs to one copy', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  tt.ok(await s.space.lookup(root.ptr, key(1)));
  rewrite(s, refOf(root).blkno, 77n, (v) => { v.setUint8(60000, v.getUint8(60000) ^ 1); });
  await tt.rejects(s.space.lookup(withSeq(s, root, 77n).ptr, key(1)), ESTALE);
  rewrite(s, refOf(root).blkno, 77n);
  tt.ok(await s.space.lookup(withSeq(s, root, 77n).ptr, key(1)), 'and a good copy is taken');
});

void t.test('header fields: magic, fsid and number are compared too', async (tt) => {
  for (const [off, name] of [[4, 'magic'], [8, 'fsid'], [24, 'blkno']] as const) {
    const s = makeSpace();
    const root = await leafTree(s);
    rewrite(s, refOf(root).blkno, refOf(root).seq, (v) => {
      v.setUint8(off, v.getUint8(off) ^ 1);
      const b = new Uint8Array(v.buffer);
      v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
    });
    await tt.rejects(s.space.lookup(root.ptr, key(1)), ESTALE, name);
  }
});

void t.test('references outside of the device are refused without reading', async (tt) => {
  const s = gated();
  for (const blkno of [1n, 32768n, 1n << 63n]) {
    const b = new Uint8Array(24);
    new DataView(b.buffer).setBigUint64(0, blkno, true);
    b[16] = 1;
    await tt.rejects(s.space.lookup(new Rec(s.core, 24, b).ptr, key(1)), { message: /BLOCK_REF/ });
  }
  tt.equal(s.dev.readBlknos.length, 0);
});

void t.test('a stale reader never evicts a dirty block', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  await s.space.update(root.ptr, key(1), val(99, 30));
  const dirty = s.space.dirtyBlocks;
  const reads = s.dev.readBlknos.length;
  await tt.rejects(s.space.lookup(withSeq(s, root, 5n).ptr, key(1)), ESTALE);
  tt.notOk(s.dev.readBlknos.slice(reads).includes(refOf(root).blkno), 'nothing was read for it');
  tt.equal(s.space.dirtyBlocks, dirty);
  await commitSpace(s);
  s.core.x.blockEvictAll();
  tt.equal(bytesHex(await s.space.lookup(root.ptr, key(1)) ?? val(0, 0)), bytesHex(val(99, 30)));
});

void t.test('reusing a number replaces the cached copy, under a reader too', async (tt) => {
  for (const when of ['cached', 'reading'] as const) {
    const s = gated(100);
    const old = await leafTree(s);
    const used = refOf(old).blkno;
    if (when === 'cached') tt.ok(await s.space.lookup(old.ptr, key(1)));
    // another transaction is given the number of the old leaf
    const other = new TreeSpace(s.core);
    other.begin(writeList(s.dev, 2000, [2001, 2002, used, 2900, 2901, 2902, 2903]),
      new Uint8Array(32));
    tt.equal(await s.core.run(() => s.core.x.alloc_first_use(other.al)), 0);
    s.dev.hold();
    const reader = s.space.lookup(old.ptr, key(2)).then(() => 'read', (e: unknown) => String(e));
    const fresh = new Rec(s.core, 24);
    await other.insert(fresh.ptr, key(1), val(5, 5));
    tt.equal(refOf(fresh).blkno, used);
    s.dev.pass();
    tt.match(await reader, when === 'cached' ? /read/ : /ESTALE/);
    tt.equal(bytesHex(await other.lookup(fresh.ptr, key(1)) ?? none), bytesHex(val(5, 5)));
    await tt.rejects(s.space.lookup(old.ptr, key(1)), ESTALE, 'the old root is stale');
    other.finish();
    await other.write();
    other.forget(true);
    s.core.x.blockEvictAll();
    tt.equal(bytesHex(await other.lookup(fresh.ptr, key(1)) ?? none), bytesHex(val(5, 5)));
  }
});

void t.test('dirtying copies: what was read before keeps its bytes', async (tt) => {
  const s = makeSpace();
  const root = await leafTree(s);
  tt.ok(await s.space.lookup(root.ptr, key(1)));
  const before = new Rec(s.core, 24, root.get());
  await s.space.update(root.ptr, key(1), val(50, 20));
  tt.not(refOf(root).blkno, refOf(before).blkno);
  tt.equal(bytesHex(await s.space.lookup(before.ptr, key(1)) ?? none), bytesHex(val(1, 20)));
  tt.equal(bytesHex(await s.space.lookup(root.ptr, key(1)) ?? none), bytesHex(val(50, 20)));
});

void t.test('every version of a block has a seq of its own', async (tt) => {
  const seqs = new Set<bigint>();
  let versions = 0;
  for (const seed of [1, 2]) {
    const s = makeSpace(7999, {}, seed);
    const root = new Rec(s.core, 24);
    await insertAll(s, root, range(1, 200), 896);
    for (let round = 0; round < 30; round++) {
      for (const n of range(1, 200, 33)) await s.space.update(root.ptr, key(n), val(round, 896));
      await commitSpace(s);
      const last = rawTree(s.dev, root)[0]?.[0];
      if (last === undefined) throw new Error('no root');
      for (const it of last.items) {
        seqs.add(new DataView(it.val.buffer, it.val.byteOffset).getBigUint64(8, true));
        versions += 1;
      }
      seqs.add(refOf(root).seq);
      versions += 1;
    }
  }
  tt.equal(seqs.size, versions);
  tt.notOk(seqs.has(0n));
});

void t.test('a writer set of several chunks: checksums, order, errors, forgetting', async (tt) => {
  const s = gated();
  const root = new Rec(s.core, 24);
  await insertAll(s, root, range(1, 10000), 896);
  s.space.finish();
  const { dirtyBlocks } = s.space;
  tt.ok(dirtyBlocks > 300, `${dirtyBlocks} blocks`);
  s.dev.failWrites.add(1100);
  await tt.rejects(s.space.write(), { message: /no writing/ });
  tt.equal(s.space.dirtyBlocks, dirtyBlocks, 'all stay dirty after an error');
  s.dev.failWrites.clear();
  await s.space.write();
  s.space.forget(true);
  tt.equal(s.space.dirtyBlocks, 0);
  tt.equal(s.core.x.blockNrDirty(), 0);
  for (const b of rawTree(s.dev, root).flat()) {
    const raw = new Uint8Array(BLOCK_BYTES);
    s.dev.readSync(b.blkno * BLOCK_BYTES, raw);
    if (new DataView(raw.buffer).getUint32(0, true) !== crc32c(0xffffffff, raw.subarray(4))) {
      tt.fail(`checksum of block ${b.blkno}`);
    }
  }
  const reads = s.dev.readBlknos.length;
  for (const n of range(1, 10000, 300)) tt.ok(await s.space.lookup(root.ptr, key(n)));
  tt.equal(s.dev.readBlknos.length, reads, 'written blocks are clean contents of the cache');
});

void t.test('a forgotten writer set leaves nothing in the cache', async (tt) => {
  const s = gated();
  const root = await leafTree(s);
  const before = root.get();
  const heads = s.space.finish();
  s.space.begin(heads.avail, heads.freed);
  await s.space.update(root.ptr, key(1), val(70, 7));
  s.space.finish();
  s.space.forget(false);
  tt.equal(s.core.x.blockNrDirty(), 0);
  await tt.rejects(s.space.lookup(root.ptr, key(1)), ESTALE, 'it never reached the device');
  root.set(before);
  s.space.begin(heads.avail, heads.freed);
  tt.equal(bytesHex(await s.space.lookup(root.ptr, key(1)) ?? none), bytesHex(val(1, 20)));
  await s.space.update(root.ptr, key(1), val(71, 7));
  await commitSpace(s);
  tt.equal(bytesHex(await s.space.lookup(root.ptr, key(1)) ?? none), bytesHex(val(71, 7)));
});

void t.test('a failed commit can be repeated: dirty list blocks are taken as they are',
  async (tt) => {
    const s = gated();
    const root = await leafTree(s);
    await s.space.update(root.ptr, key(1), val(70, 7));
    const first = s.space.finish();
    s.dev.failWrites.add(refOf(root).blkno);
    await tt.rejects(s.space.write(), { message: /no writing/ });
    s.dev.failWrites.clear();
    const avail = s.space.availNr;
    await s.space.update(root.ptr, key(2), val(71, 7));
    tt.equal(s.space.availNr, avail, 'no number was consumed again');
    const heads = s.space.finish();
    tt.strictSame(heads, first);
    await s.space.write();
    s.space.forget(true);
    s.core.x.blockEvictAll();
    tt.equal(bytesHex(await s.space.lookup(root.ptr, key(1)) ?? none), bytesHex(val(70, 7)));
    tt.equal(bytesHex(await s.space.lookup(root.ptr, key(2)) ?? none), bytesHex(val(71, 7)));
  });

void t.test('a cache without room refuses, and goes on when there is room', async (tt) => {
  const s = makeSpace(7999, { memoryBytes: 8 << 20, slotShare: 0.25 });
  const root = new Rec(s.core, 24);
  let n = 0;
  await tt.rejects((async () => {
    for (;;) await s.space.insert(root.ptr, key(n++), val(n, 896));
  })(), { message: /ENOMEM/ });
  const done = n - 1;
  await commitSpace(s);
  await s.space.insert(root.ptr, key(done), val(done + 1, 896));
  for (let i = 0; i <= done; i++) {
    if (await s.space.lookup(root.ptr, key(i)) === null) tt.fail(`item ${i}`);
  }
  tt.ok(done > 100);
});

void t.test('many readers with few slots all get their blocks', async (tt) => {
  const s = spaceOn(new GateDevice(2 ** 31), 7999, { memoryBytes: 8 << 20, slotShare: 0.25 });
  const root = new Rec(s.core, 24);
  for (const n of range(1, 600)) {
    await s.space.insert(root.ptr, key(n), val(n, 896));
    if (s.space.dirtyBlocks > 10) await commitSpace(s);
  }
  await commitSpace(s);
  s.dev.onRead = () => { s.core.x.blockEvictAll(); };
  const got = await Promise.all([...range(1, 600, 40)]
    .map((n) => s.space.lookup(root.ptr, key(n))));
  tt.ok(got.every((v) => v !== null));
  tt.equal(s.core.x.blockEvictAll() >= 0 && s.core.x.blockNrFree(), 32, 'no pin is left');
});

void t.test('the trigger for stale blocks makes one be read again', async (tt) => {
  let armed = false;
  const fires = (): boolean => {
    const was = armed;
    armed = false;
    return was;
  };
  const s = makeSpace(7999, { staleNext: fires });
  const root = await leafTree(s);
  const lookup = (): Promise<Uint8Array | null> => s.space.lookup(root.ptr, key(1));
  const want = await lookup();
  const counted = new Counters();
  s.core.addCounts(counted);
  const { blocksRead } = s.core.stats;
  armed = true;
  tt.same(await lookup(), want);
  tt.same(await lookup(), want);
  tt.equal(s.core.stats.blocksRead, blocksRead + 1, 'once');
  const before = counted.at(C.block_cache_remove_stale);
  s.core.addCounts(counted);
  tt.equal(counted.at(C.block_cache_remove_stale), before + 1, 'and it was counted');
  await s.space.update(root.ptr, key(1), val(5, 5));
  armed = true;
  tt.same(await lookup(), val(5, 5), 'dirty blocks are never dropped');
  await commitSpace(s);
  tt.same(await lookup(), val(5, 5));
});

/** A first use of an allocator over these lists, as an error message or 'ok'. */
async function firstUse(s: Space, avail: Uint8Array, freed: Uint8Array): Promise<string> {
  s.space.begin(avail, freed);
  try {
    await s.core.runAsync('first use', () => s.core.x.alloc_first_use(s.space.al));
    return 'ok';
  } catch (e) {
    return String(e);
  }
}

function editHead(head: Uint8Array, change: (h: AllocListHead) => void): Uint8Array {
  const out = head.slice();
  const v = new DataView(out.buffer);
  const h = AllocListHead.read(v, 0);
  change(h);
  AllocListHead.write(v, 0, h);
  return out;
}

void t.test('damaged allocators are refused before anything is dirty', async (tt) => {
  const none32 = new Uint8Array(32);
  const cases: [string, RegExp, (s: Space) => [Uint8Array, Uint8Array]][] = [
    ['a number twice', /ALLOC_BLKNO_IN_USE/,
      (s) => [writeList(s.dev, 900, [2001, 2001, 2002]), none32]],
    ['the list block itself', /ALLOC_BLKNO_IN_USE/,
      (s) => [writeList(s.dev, 900, [2001, 900, 2002]), none32]],
    ['the freed list block', /ALLOC_BLKNO_IN_USE/,
      (s) => [writeList(s.dev, 900, [901, 2001, 2002]), writeList(s.dev, 901, [3000])]],
    ['a number off the device', /ALLOC_BLKNO_IN_USE/,
      (s) => [writeList(s.dev, 900, [40000, 2001]), none32]],
    ['first_nr of avail', /ALLOC_LIST_HEAD/,
      (s) => [editHead(writeList(s.dev, 900, [2001, 2002]), (h) => { h.firstNr = 100; }), none32]],
    ['total_nr of avail', /ALLOC_LIST_HEAD/,
      (s) => [editHead(writeList(s.dev, 900, [2001, 2002]), (h) => { h.totalNr = 1; }), none32]],
    ['first_nr of freed', /ALLOC_LIST_HEAD/,
      (s) => [writeList(s.dev, 900, [2001, 2002]),
        editHead(writeList(s.dev, 901, [3000]), (h) => { h.firstNr = 0; })]],
    ['one number only', /ENOSPC/, (s) => [writeList(s.dev, 900, [2001]), none32]],
    ['no list', /ENOSPC/, () => [none32, none32]],
    ['a stale list', /ESTALE/, (s) => [editHead(writeList(s.dev, 900, [2001, 2002]),
      (h) => { h.ref.seq = 9n; }), none32]],
    ['nothing wrong', /ok/, (s) => [writeList(s.dev, 900, [2001, 2002]), none32]],
  ];
  for (const [name, want, make] of cases) {
    const s = makeSpace();
    tt.match(await firstUse(s, ...make(s)), want, name);
    tt.equal(s.core.x.blockNrDirty(), want.test('ok') ? 2 : 0);
    tt.equal(s.core.x.checkId(), 0);
  }
});

void t.test('a number that is already dirty ends the change, not the core', async (tt) => {
  const s = makeSpace();
  // 2003 is offered twice: as the root leaf, then as its left half
  s.space.begin(writeList(s.dev, 900, [2001, 2002, 2003, 2003, 2004, 2005, 2006, 2007, 2008, 2009,
    2010, 2011, 2012, 2013, 2014, 2015]), new Uint8Array(32));
  const root = new Rec(s.core, 24);
  await tt.rejects(insertAll(s, root, range(1, 100), 896), { message: /ALLOC_BLKNO_IN_USE.*2003/ });
  tt.ok(await s.space.lookup(root.ptr, key(5)), 'what was there is still there');
  tt.equal(s.core.x.checkId(), 0);
});

void t.test('a rotated freed list keeps what it had', async (tt) => {
  const s = makeSpace();
  const old = [...range(10000, 10000 + 6499)];
  s.space.begin(writeListBlock(s.dev, 900, 2001, 50), writeList(s.dev, 901, old));
  tt.equal(s.space.freedRoom, 8185 - 6500);
  tt.equal(s.space.freedRemaining, 8183, 'admission knows that a fresh block will be started');
  const root = new Rec(s.core, 24);
  await s.space.insert(root.ptr, key(1), val(1, 1));
  tt.equal(s.space.freedRemaining, s.space.freedRoom);
  tt.equal(s.space.freedRoom, 8184, 'only the old avail block was freed');
  const { freed } = s.space.finish();
  const h = AllocListHead.read(new DataView(freed.buffer), 0);
  tt.match(h, { firstNr: 1, totalNr: 6501 });
  await s.space.write();
  s.space.forget(true);
  tt.strictSame(listBlocks(s, h).map((b) => b.blknos), [[900], old]);
});

const none = new Uint8Array(0);
