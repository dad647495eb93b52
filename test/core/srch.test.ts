/**
 * Srch files in the core: the encoding against the vectors, appending over blocks,
 * commits and a cold cache, growth, damage, and running out of space without a trace.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { SrchEntry } from '../../host/core/format.js';
import type { SrchFile } from '../../host/core/format.js';
import { SrchBlock } from '../../host/core/format.js';
import { fnv1a64 } from '../../host/core/hash.js';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import { decodeSrchBlock } from '../../host/disk/srch_decode.js';
import { SrchLog } from '../../host/mount/srch.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { seeded } from '../lib/core.js';
import type { Device } from '../../host/env/device.js';
import { fixtureText, skipWithoutFixtures, skipWithoutSpec, tempDir, unpackFixture, vectors }
  from '../lib/shared.js';
import { Log, LEAF_MAGIC, PARENT_MAGIC, PARENT_REFS, SAFE, compareEntries, entriesOf, leafView, leaves,
  writeBlock } from '../lib/srchfiles.js';
import { BLOCK_BYTES, commitSpace, makeSpace } from '../lib/treespace.js';
import type { Space } from '../lib/treespace.js';

/** Of a block: checksum, fsid, seq and number differ between volumes. */
const HEADER_BYTES = 32;

interface Vectors {
  srch: {
    encode: { hash: string; ino: string; id: string; len: number; bytes: string }[];
    height_for_blk: [number, number][];
    refs_per_parent: number;
    ref_ind: { blk5000: number[] };
  };
}

/** Everything that is recorded of the file fits its entries. */
function checkFile(t: Test, dev: Device, log: Log): void {
  const { file: f, model } = log;
  t.strictSame(entriesOf(dev, f), model, 'entries as they were appended');
  const sorted = [...model].sort(compareEntries);
  t.strictSame([f.entries, f.first, f.last], [model.length, sorted[0], sorted.at(-1)]);
  const all = leaves(dev, f);
  t.equal(f.blocks, all.length);
  for (const v of all) {
    const b = SrchBlock.read(v, 0);
    const own = [...decodeSrchBlock(v)].map((d) => d.entry);
    const ascending = [...own].sort(compareEntries);
    t.strictSame([b.entryNr, b.first, b.last, b.tail],
      [own.length, ascending[0], ascending.at(-1), own.at(-1)]);
  }
  t.ok(all.slice(0, -1).every((v) => SrchBlock.read(v, 0).entryBytes > SAFE), 'full but the last');
}

/** Takes 26 bytes behind another one of these with the other `odd`. */
function wide(odd: boolean, n = 0n): SrchEntry {
  return odd ? { hash: 1n << 62n, ino: 1n << 62n, id: (1n << 62n) + n }
    : { hash: 1n, ino: 1n, id: n };
}

void t.test('vectors', { skip: skipWithoutSpec() }, async (t) => {
  const { srch } = vectors('core-vectors.json') as Vectors;
  const s = makeSpace();
  const log = new Log(s);
  for (const v of srch.encode) {
    await log.add({ hash: BigInt(`0x${v.hash}`), ino: BigInt(v.ino), id: BigInt(v.id) });
  }
  await commitSpace(s);
  const leaf = leafView(s.dev, log.file.ref.blkno);
  const { entryBytes } = SrchBlock.read(leaf, 0);
  t.equal(entryBytes, srch.encode.reduce((n, v) => n + v.len, 0));
  t.equal(Buffer.from(leaf.buffer, SrchBlock.size, entryBytes).toString('hex'),
    srch.encode.map((v) => v.bytes).join(''));
  checkFile(t, s.dev, log);
  for (const [blk, height] of srch.height_for_blk) {
    t.equal(s.core.x.srch_height_for(blk), height, `height for block ${blk}`);
  }
  t.equal(PARENT_REFS, srch.refs_per_parent);
  const x = s.core.x as unknown as { testSrchRef(level: number, blk: number): number };
  t.strictSame([x.testSrchRef(1, 5000), x.testSrchRef(2, 5000)], srch.ref_ind.blk5000);
});

void t.test('appending over blocks, commits and a cold cache', async (t) => {
  const s = makeSpace();
  const log = new Log(s);
  const rnd = seeded(5);
  const big = (bits: number): bigint => {
    let n = 0n;
    for (let i = 0; i < bits; i += 16) n = (n << 16n) | BigInt(rnd(65536));
    return n;
  };
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 1500; i++) {
      await log.add({ hash: big(64), ino: big(16 * (1 + rnd(4))), id: big(16) });
    }
    await commitSpace(s);
    s.core.x.blockEvictAll();
  }
  t.equal(log.file.blocks, 3);
  checkFile(t, s.dev, log);
  const { blocksRead } = s.core.stats;
  const waits = log.prepare();
  t.ok(waits instanceof Promise, 'the last block has to be read');
  t.equal(await waits, 0);
  t.equal(s.core.stats.blocksRead - blocksRead, 2 + 2, 'root and last leaf, and the lists');
  t.equal(log.prepare(), 0);
  t.equal(s.space.dirtyBlocks, 2 + 2);
});

void t.test('an entry may start at SAFE, not behind it', async (t) => {
  const s = makeSpace();
  const log = new Log(s);
  // The first entry is coded against zeros.
  await log.add({ hash: 0n, ino: 0n, id: 0n });
  let bytes = 2;
  for (let i = 0; bytes + 26 <= SAFE; i++, bytes += 26) await log.add(wide(i % 2 === 0));
  const last = log.model.at(-1) ?? wide(false);
  await log.add({ ...last, id: last.id + (1n << BigInt((SAFE - bytes - 2) * 8 - 2)) });
  await commitSpace(s);
  t.equal(SrchBlock.read(leafView(s.dev, log.file.ref.blkno), 0).entryBytes, SAFE);
  await log.add(wide(last.hash === 1n));
  t.equal(log.file.blocks, 1);
  await log.add(wide(last.hash !== 1n));
  t.equal(log.file.blocks, 2);
  t.equal(log.file.height, 2);
  await commitSpace(s);
  checkFile(t, s.dev, log);
});

const LEAF_BLKNO = 30000;
const PARENT_BLKNO = 30001;

/** A file of one full parent whose last leaf has `entryBytes`; the others are missing. */
function fullParent(s: Space, entryBytes: number, entryNr = 1): SrchFile {
  writeBlock(s.dev, LEAF_BLKNO, LEAF_MAGIC, (v) => {
    v.setUint32(104, entryNr, true);
    v.setUint32(108, entryBytes, true);
  });
  writeBlock(s.dev, PARENT_BLKNO, PARENT_MAGIC, (v) => {
    const at = 32 + (PARENT_REFS - 1) * 16;
    v.setBigUint64(at, BigInt(LEAF_BLKNO), true);
    v.setBigUint64(at + 8, 1n, true);
  });
  const zero = { hash: 0n, ino: 0n, id: 0n };
  return {
    first: zero, last: zero, ref: { blkno: PARENT_BLKNO, seq: 1n }, blocks: PARENT_REFS,
    entries: 1, height: 2,
  };
}

void t.test('a full parent gets a parent', async (t) => {
  const s = makeSpace();
  const log = new Log(s, fullParent(s, SAFE + 1));
  await log.add({ hash: 7n, ino: 8n, id: 9n });
  await log.add({ hash: 7n, ino: 8n, id: 10n });
  const f = log.file;
  t.strictSame([f.height, f.blocks, f.entries], [3, PARENT_REFS + 1, 3]);
  await commitSpace(s);
  t.strictSame(entriesOf(s.dev, f).slice(-2), log.model);
  const root = leafView(s.dev, f.ref.blkno);
  t.equal(leaves(s.dev, { ...f, height: 2,
    ref: { blkno: Number(root.getBigUint64(32, true)), seq: 0n } }).length, 1, 'the old root');
});

void t.test('damage and lack of space change nothing', async (t) => {
  const s = makeSpace();
  const errno = async (log: Log): Promise<string> => {
    const r = await log.prepare();
    return r < 0 ? s.core.error('prepare', r).code : 'ok';
  };
  t.equal(await errno(new Log(s, fullParent(s, SAFE + 27))), 'SRCH_BLOCK', 'too many bytes');
  s.core.x.blockEvictAll();
  t.equal(await errno(new Log(s, fullParent(s, 10, 6))), 'SRCH_BLOCK', 'too many entries');
  const f = fullParent(s, 10);
  s.core.x.blockEvictAll();
  t.equal(await errno(new Log(s, { ...f, height: 3 })), 'SRCH_FILE', 'too high');
  t.equal(await errno(new Log(s, { ...f, blocks: 1 })), 'SRCH_FILE', 'too few blocks');
  t.equal(await errno(new Log(s, { ...f, blocks: PARENT_REFS - 1 })), 'SRCH_FILE', 'a hole');
  t.equal(await errno(new Log(s, { ...f, height: 0, blocks: 0 })), 'SRCH_FILE', 'a root of nothing');
  t.equal(await errno(new Log(s, { ...f, ref: { blkno: 1 << 30, seq: 1n } })), 'BLOCK_REF');

  const tight = makeSpace(4);
  const log = new Log(tight);
  t.equal(await log.prepare(), -28, 'two numbers are too few');
  t.equal(log.file.height, 0);
});

/** The mount's side: what waits and what may not. */
void t.test('the log of a transaction', async (t) => {
  const s = makeSpace();
  const log = new Log(s);
  const srch = new SrchLog(s.space);
  const name = Buffer.from('scoutfs.srch.name');
  t.throws(() => { void srch.prepare(); }, 'outside of a transaction');
  srch.begin(log.rec.ptr);
  t.throws(() => { srch.add(name, 5, 6); }, 'without preparation');
  await srch.prepare();
  t.equal(srch.prepare(), null);
  srch.add(name, 5, 6);
  await srch.finish();
  await commitSpace(s);
  t.throws(() => { srch.add(name, 5, 6); }, 'while the commit writes');
  t.strictSame(entriesOf(s.dev, log.file), [{ hash: fnv1a64(name), ino: 5n, id: 6n }]);

  s.core.x.blockEvictAll();
  srch.begin(log.rec.ptr);
  const waits = srch.prepare();
  t.ok(waits instanceof Promise);
  await srch.finish();
  t.equal(s.space.dirtyBlocks, 1 + 2, 'a commit waits for blocks that are being made dirty');
  await waits;
  await commitSpace(s);

  s.core.x.blockEvictAll();
  writeBlock(s.dev, log.file.ref.blkno, LEAF_MAGIC, () => { /* another seq */ });
  srch.begin(log.rec.ptr);
  const e = await srch.prepare()?.catch((e: unknown) => asScoutfsError(e));
  t.strictSame([e?.errno, e?.code], ['EIO', 'BLOCK_HEADER'], 'a replaced block is damage');
  t.strictSame(Buffer.from(s.core.at(ITEM_WINDOWS.name, name.length)), name);
});

void t.test('files that upstream wrote come out the same', { skip: skipWithoutFixtures() },
  async (t) => {
    let blocks = 0;
    for (const name of ['small-tree', 'two-mounts', 'dirty-crash']) {
      const { dir, remove } = tempDir('scoutfs-srch');
      t.teardown(remove);
      const { meta } = unpackFixture(name, dir);
      const fd = openSync(meta, 'r');
      const text = fixtureText(name, 'print.txt.zst');
      for (const [, blkno] of text.matchAll(/^srch block blkno (\d+)/gm)) {
        const theirs = new Uint8Array(BLOCK_BYTES);
        readSync(fd, theirs, 0, BLOCK_BYTES, Number(blkno) * BLOCK_BYTES);
        const entries = [...decodeSrchBlock(new DataView(theirs.buffer))].map((d) => d.entry);
        const s = makeSpace();
        const log = new Log(s);
        await log.add(...entries);
        await commitSpace(s);
        const ours = new Uint8Array(leafView(s.dev, log.file.ref.blkno).buffer);
        t.ok(entries.length > 0 && Buffer.from(ours.subarray(HEADER_BYTES))
          .equals(theirs.subarray(HEADER_BYTES)), `${name} block ${blkno}: ${entries.length} entries`);
        blocks += 1;
      }
      closeSync(fd);
    }
    t.ok(blocks >= 2, `${blocks} blocks`);
  });
