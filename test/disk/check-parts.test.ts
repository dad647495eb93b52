/**
 * The parts of the check that can be held against vectors or a simple model:
 * names and numbers of tagged xattrs, srch entries, the resolution of totals, the
 * map of data blocks and the ledger.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { checkVolume } from '../../host/disk/check.js';
import { DataMap } from '../../host/disk/check/accounting.js';
import { heightFor } from '../../host/disk/check/srch.js';
import { Ledger } from '../../host/disk/check/ledger.js';
import { MemoryBudget } from '../../host/disk/check/memory.js';
import { decodeLeaf } from '../../host/disk/check/srchblock.js';
import { parseNumber, parseTags } from '../../host/disk/check/xattr.js';
import { XattrTotlVal } from '../../host/core/format.js';
import { openDevice } from '../../host/env/device.js';
import { Victim, encode, item, key, viewOf } from '../lib/damage.js';
import { OverlayDevice } from '../lib/overlay.js';
import { encodeEntries, mergeItem, setLogMerge } from '../lib/rich.js';
import { skipWithoutFixtures, skipWithoutSpec, tempDir, unpackFixture, vectors }
  from '../lib/shared.js';

const MEMORY_BYTES = 64 << 20;
const memory = (): MemoryBudget => new MemoryBudget(MEMORY_BYTES);

t.test('tags and numbers', { skip: skipWithoutSpec() }, async (t) => {
  const v = vectors('fs-vectors.json') as {
    xattr_tags: { name: string; ret: number; hide: number; indx: number; srch: number;
      totl: number; }[];
    totl_value_parse: { value_hex: string; ret: number; u64?: string }[];
  };
  for (const c of v.xattr_tags) {
    const tags = parseTags(c.name);
    if (c.ret === 0) {
      t.same(tags, { hide: c.hide === 1, indx: c.indx === 1, srch: c.srch === 1,
        totl: c.totl === 1 }, c.name);
    } else {
      t.equal(tags, null, c.name);
    }
  }
  for (const c of v.totl_value_parse) {
    const text = Buffer.from(c.value_hex, 'hex').toString('latin1');
    t.equal(parseNumber(text), c.ret === 0 ? BigInt(c.u64 ?? '') : null, JSON.stringify(text));
  }
});

t.test('srch entries', { skip: skipWithoutSpec() }, async (t) => {
  const fv = vectors('format-vectors.json') as
    { srch_entries: { hash: string; ino: string; id: string; bytes: string }[] };
  const cv = vectors('core-vectors.json') as
    { srch: { height_for_blk: [blk: number, height: number][] } };
  const block = new DataView(new ArrayBuffer(65536));
  const bytes = Buffer.from(fv.srch_entries.map((e) => e.bytes).join(''), 'hex');
  bytes.forEach((b, i) => { block.setUint8(112 + i, b); });
  block.setUint32(104, fv.srch_entries.length, true);
  block.setUint32(108, bytes.length, true);
  const got: string[] = [];
  const r = decodeLeaf(block, (e) => {
    got.push(`${e.getBigUint64(0, true)} ${e.getBigUint64(8, true)} ${e.getBigUint64(16, true)}`);
  });
  t.equal(r.problem, '');
  t.same(got, fv.srch_entries.map((e) => `${BigInt(`0x${e.hash}`)} ${e.ino} ${e.id}`));
  for (const [blk, height] of cv.srch.height_for_blk) {
    t.equal(heightFor(blk + 1), height, `height for block ${blk}`);
  }
});

t.test('any entries come back', async (t) => {
  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const entry = fc.record({ hash: u64, ino: u64, id: u64 });
  fc.assert(fc.property(fc.array(entry, { maxLength: 50 }), (entries) => {
    const block = new DataView(new ArrayBuffer(65536));
    const bytes = encodeEntries(entries);
    bytes.forEach((b, i) => { block.setUint8(112 + i, b); });
    block.setUint32(104, entries.length, true);
    block.setUint32(108, bytes.length, true);
    let n = 0;
    const r = decodeLeaf(block, (e) => {
      const want = entries[n++];
      if (want?.hash !== e.getBigUint64(0, true) || want.ino !== e.getBigUint64(8, true)
        || want.id !== e.getBigUint64(16, true)) throw new Error('differs');
    });
    return r.problem === '' && n === entries.length;
  }));
  t.pass('encoded and decoded');
});

t.test('the map of data blocks is a set', async (t) => {
  const TOTAL = 200000;
  const run = fc.tuple(fc.integer({ min: 64, max: TOTAL - 1 }), fc.integer({ min: 1, max: 90000 }));
  fc.assert(fc.property(fc.array(run, { maxLength: 12 }), (runs) => {
    const map = new DataMap(TOTAL, memory());
    const model = new Uint8Array(TOTAL);
    for (const [start, want] of runs) {
      const len = Math.min(want, TOTAL - start);
      const clash = model.indexOf(1, start);
      const expected = clash === -1 || clash >= start + len ? -1 : clash;
      if (map.mark(start, len) !== expected) return false;
      model.fill(1, start, start + len);
    }
    const left = new Uint8Array(TOTAL).fill(1, 0, 64);
    left.set(model.subarray(64), 64);
    for (const [start, len] of map.unmarked()) left.fill(1, start, start + len);
    return !left.includes(0) && [...map.unmarked()].every(([start, len]) =>
      model.subarray(start, start + len).every((x) => x === 0));
  }), { numRuns: 60 });
  t.pass('clashes and gaps as in the model');
});

t.test('the ledger names what has no partner', async (t) => {
  const side = fc.uniqueArray(fc.integer({ min: 0, max: 60 }), { maxLength: 60 });
  fc.assert(fc.property(side, side, (plus, minus) => {
    const ledger = new Ledger(memory());
    const v = new DataView(new ArrayBuffer(12));
    const feed = (): void => {
      for (const [sign, list] of [[1, plus], [-1, minus]] as const) {
        for (const n of list) {
          v.setUint32(4, n, true);
          ledger.put('index/inode', sign, n % 3, v, 0, 12, v, -1);
        }
      }
    };
    feed();
    const odd = [...plus.filter((n) => !minus.includes(n)),
      ...minus.filter((n) => !plus.includes(n))];
    if (ledger.uneven !== odd.length > 0) return false;
    ledger.startCollecting();
    feed();
    const named = ledger.mismatches().map((m) => viewOf(m.bytes).getUint32(4, true));
    return named.sort((a, b) => a - b).join() === odd.sort((a, b) => a - b).join();
  }));
  t.pass('exactly those');
});

t.test('the ledger cancels search entries in pairs', async (t) => {
  fc.assert(fc.property(fc.nat(5), fc.boolean(), (entries, there) => {
    const ledger = new Ledger(memory());
    const v = new DataView(new ArrayBuffer(24));
    const feed = (): void => {
      if (there) ledger.put('srch/xattr', -1, 0, v, 0, 24, v, -1);
      for (let i = 0; i < entries; i++) ledger.put('srch/xattr', 1, 0, v, 0, 24, v, -1);
    };
    feed();
    const odd = (entries % 2 === 1) !== there;
    if (ledger.uneven !== odd) return false;
    ledger.startCollecting();
    feed();
    return ledger.mismatches().map((m) => m.sign).join() === (odd ? there ? '-1' : '1' : '');
  }));
  t.pass('odd numbers count');
});

/** A merge takes the first log tree of the volume, but not yet the second. */
t.test('totals resolve as readers resolve them', {
  skip: skipWithoutSpec() === false ? skipWithoutFixtures() : skipWithoutSpec(),
}, async (t) => {
  const { dir, remove } = tempDir('scoutfs-totl');
  mkdirSync(join(dir, 'v'));
  const paths = unpackFixture('wire-two-nodes', join(dir, 'v'));
  const meta = await openDevice(paths.meta, { readOnly: true });
  const data = await openDevice(paths.data, { readOnly: true });
  t.teardown(async () => {
    await meta.close();
    await data.close();
    remove();
  });
  const { totl_resolve: cases } = vectors('core-vectors.json') as { totl_resolve: {
    contribute: { seq: number; total: number; count: number; src: string }[];
    total: number; count: number; }[]; };
  for (const c of cases) {
    const v = new Victim(new OverlayDevice(meta), new OverlayDevice(data));
    const [input, later] = v.logs();
    if (input === undefined || later === undefined) throw new Error('two log trees expected');
    setLogMerge(v, [mergeItem.status({ nextRangeKey: key(0, 0, 0), nrRequests: 0, nrComplete: 0,
      seq: later.finalizeSeq })]);
    const roots: Record<string, typeof input.itemRoot | undefined> =
      { fs: v.sb().fsRoot, merge_input: input.itemRoot, log: later.itemRoot };
    for (const { src, seq, total, count } of c.contribute) {
      const root = roots[src];
      if (root === undefined) throw new Error(`source ${src}`);
      const it = item(key(12, 9, 0, 9, 9), encode(XattrTotlVal, {
        total: BigInt.asUintN(64, BigInt(total)), count: BigInt.asUintN(64, BigInt(count)),
      }), BigInt(seq));
      v.editNode(v.leafFor(root, it.key), (items) => [...items, it]);
    }
    const r = await checkVolume(v.meta, v.data);
    const found = r.findings.filter((f) => f.id === 'CHK_TOTL').map((f) => f.message);
    t.same(found, c.total === 0 && c.count === 0 ? []
      : [`a total differs from its xattrs by ${c.total}, its count by ${c.count}`],
    JSON.stringify(c.contribute));
  }
});
