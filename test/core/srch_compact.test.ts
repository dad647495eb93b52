/**
 * Compaction of srch files against a model: what comes out is what occurs an odd number
 * of times, in order, whatever the number of passes and pieces; and the rules for
 * positions, empty blocks, damage and deletion.
 */
import t from 'tap';
import type { SrchEntry } from '../../host/core/format.js';
import {
  AllocListHead, SRCH_COMPACT_FLAG_DELETE, SRCH_COMPACT_FLAG_DONE, SRCH_COMPACT_FLAG_ERROR,
  SRCH_COMPACT_FLAG_LOG, SRCH_COMPACT_FLAG_SORTED, SrchBlock, SrchCompact, SrchFile,
} from '../../host/core/format.js';
import { decodeSrchBlock } from '../../host/disk/srch_decode.js';
import { SrchCompactWorker } from '../../host/mount/srch_compact.js';
import type { CompactOutcome } from '../../host/mount/srch_compact.js';
import type { TriggerName } from '../../host/observe/triggers.js';
import { decode, encode } from '../../host/net/messages.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import { seeded } from '../lib/core.js';
import type { Device } from '../../host/env/device.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';
import { LEAF_MAGIC, Log, PARENT_MAGIC, PARENT_REFS, SAFE, compareEntries, entriesOf, leaves,
  oddEntries, writeBlock } from '../lib/srchfiles.js';
import { commitSpace, makeSpace, writeList, writeListBlock } from '../lib/treespace.js';
import type { Space } from '../lib/treespace.js';

const LOG = SRCH_COMPACT_FLAG_LOG;
const SORTED = SRCH_COMPACT_FLAG_SORTED;
const DELETE = SRCH_COMPACT_FLAG_DELETE;
const DONE = SRCH_COMPACT_FLAG_DONE;
/** A sort buffer of some eleven thousand entries: larger inputs take several passes. */
const SMALL_WINDOW_BYTES = 1;
const LIST_BLKNO = 20000;
const EMPTY_HEAD = new Uint8Array(32);
const NO_FILE = decode(SrchFile, new Uint8Array(SrchFile.size));

function newSpace(mergeWindowBytes = SMALL_WINDOW_BYTES): Space {
  return makeSpace(7999, { mergeWindowBytes });
}

async function logFile(s: Space, entries: readonly SrchEntry[]): Promise<SrchFile> {
  const log = new Log(s);
  await log.add(...entries);
  await commitSpace(s);
  return log.file;
}

/** A compaction of these files with a list of its own of `nr` numbers. */
function compaction(s: Space, flags: number, files: readonly SrchFile[], nr = 2000): SrchCompact {
  const metaAvail = decode(AllocListHead, writeListBlock(s.dev, LIST_BLKNO, LIST_BLKNO + 1, nr));
  const zero = decode(SrchCompact, new Uint8Array(SrchCompact.size));
  return {
    ...zero, metaAvail, metaFreed: decode(AllocListHead, EMPTY_HEAD), id: files[0]?.ref.blkno ?? 0,
    nr: files.length, flags,
    inputs: zero.inputs.map((_, i) => ({ sfl: files[i] ?? NO_FILE, blk: 0, pos: 0 })),
  };
}

interface Piece extends CompactOutcome {
  sc: SrchCompact;
}

async function piece(s: Space, sc: SrchCompact, dirtyMaxBlocks = 400,
  armed: readonly TriggerName[] = []): Promise<Piece> {
  s.core.x.blockEvictAll();
  const o = await new SrchCompactWorker(s.dev, s.core, dirtyMaxBlocks)
    .run(encode(SrchCompact, sc), undefined, armed);
  return { ...o, sc: decode(SrchCompact, o.completion) };
}

/** Pieces until the phase is done. @throws what one fails with */
async function finish(s: Space, start: SrchCompact, dirtyMaxBlocks = 400):
Promise<{ sc: SrchCompact; pieces: number }> {
  let sc = start;
  for (let pieces = 1; pieces < 1000; pieces++) {
    const p = await piece(s, sc, dirtyMaxBlocks);
    if (p.error !== null) throw p.error;
    if ((p.sc.flags & DONE) !== 0) return { sc: p.sc, pieces };
    // as the server does: what was freed is not there, what may be taken is filled up
    sc = { ...p.sc, metaAvail: decode(AllocListHead, writeListBlock(s.dev,
      LIST_BLKNO, LIST_BLKNO + 1 + pieces * 500, 2000)) };
  }
  throw new Error('the work never ends');
}

/** Entries of a sorted file; every rule of its blocks is checked. */
function sortedEntries(dev: Device, f: SrchFile): SrchEntry[] {
  const all = entriesOf(dev, f);
  const blocks = leaves(dev, f);
  if (blocks.length !== f.blocks || all.length !== f.entries) throw new Error('counts');
  for (const v of blocks) {
    const b = SrchBlock.read(v, 0);
    const own = [...decodeSrchBlock(v)].map((d) => d.entry);
    const [first] = own;
    const last = own.at(-1);
    if (first === undefined || last === undefined) throw new Error('an empty block');
    if (b.entryNr !== own.length || compareEntries(b.first, first) !== 0
      || compareEntries(b.last, last) !== 0 || compareEntries(b.tail, last) !== 0) {
      throw new Error('bounds of a block');
    }
  }
  const [first] = all;
  const last = all.at(-1);
  if (first !== undefined && last !== undefined
    && (compareEntries(f.first, first) !== 0 || compareEntries(f.last, last) !== 0)) {
    throw new Error('bounds of the file');
  }
  if (all.some((e, i) => i > 0 && compareEntries(all[i - 1] ?? e, e) > 0)) throw new Error('order');
  return all;
}

/** `nr` random entries, many of which occur twice or three times over all files. */
function randomFiles(seed: number, nr: number): SrchEntry[][] {
  const rnd = seeded(seed);
  const files: SrchEntry[][] = [[], [], [], []];
  const names = Array.from({ length: 50 }, () => (BigInt(rnd(2 ** 31)) << 33n) | BigInt(rnd(99)));
  for (let i = 0; i < nr; i++) {
    const e = { hash: names[rnd(50)] ?? 0n, ino: BigInt(1 + rnd(5000)),
      id: BigInt(rnd(8)) << 58n };
    const times = 1 + rnd(3);
    for (let k = 0; k < times; k++) files[rnd(4)]?.push(e);
  }
  return files;
}

void t.test('log files become one sorted file', async (t) => {
  for (const [seed, nr] of [[1, 1], [2, 3000], [3, 20_000]] as const) {
    const s = newSpace();
    const entries = randomFiles(seed, nr).map((f) => f.length === 0
      ? [{ hash: 1n, ino: 1n, id: BigInt(seed) }] : f);
    const files: SrchFile[] = [];
    for (const e of entries) files.push(await logFile(s, e));
    const p = await piece(s, compaction(s, LOG, files));
    t.equal(p.error, null);
    t.equal(p.sc.flags, LOG | DONE);
    const out = sortedEntries(s.dev, p.sc.out);
    const odd = oddEntries(entries.flat());
    t.strictSame(out, odd, `${entries.flat().length} entries, ${odd.length} remain`);
    t.strictSame([p.entries, p.removed], [odd.length, entries.flat().length - odd.length]);
    t.equal(s.space.dirtyBlocks, 0, 'nothing is left dirty');
  }
});

void t.test('what cancels completely leaves no file', { skip: skipWithoutSpec() }, async (t) => {
  const { srch } = vectors('core-vectors.json') as {
    srch: { all_cancel: { out: { first: [string, string, string] } } } };
  const [hash, ino, id] = srch.all_cancel.out.first;
  const e = { hash: BigInt(`0x${hash}`), ino: BigInt(ino), id: BigInt(id) };
  for (const phase of [LOG, SORTED]) {
    const s = newSpace();
    const files = [await logFile(s, [e]), await logFile(s, [e])];
    const p = await piece(s, compaction(s, phase, files));
    t.strictSame([p.error, p.sc.flags, p.sc.out], [null, phase | DONE, NO_FILE]);
    t.equal(p.blocksWritten, 2, 'the lists');
  }
});

void t.test('sorted files merge in pieces of any size', async (t) => {
  const s = newSpace();
  const files: SrchFile[] = [];
  const entries = randomFiles(7, 16_000).map((f) => f.sort(compareEntries));
  for (const e of entries) files.push(await logFile(s, e));
  const odd = oddEntries(entries.flat());
  const whole = await finish(s, compaction(s, SORTED, files));
  t.equal(whole.pieces, 1);
  t.strictSame(sortedEntries(s.dev, whole.sc.out), odd, 'in one piece pairs cancel wherever they are');
  t.ok(whole.sc.inputs.every((i) => i.blk === i.sfl.blocks && i.pos === 0));
  // a piece has room for the lists, the path, and one or two leaves
  const small = await finish(s, compaction(s, SORTED, files), 3);
  t.ok(small.pieces >= 2, `${small.pieces} pieces`);
  t.strictSame(oddEntries(sortedEntries(s.dev, small.sc.out)), odd, 'nothing is lost or doubled');
  const once = await finish(s, {
    ...compaction(s, SORTED, [small.sc.out]),
    metaAvail: decode(AllocListHead, writeListBlock(s.dev, 27_000, 27_001, 2000)),
  });
  t.strictSame(sortedEntries(s.dev, once.sc.out), odd, 'a single input is fine');
  const low = await finish(s, compaction(s, SORTED, files, 7));
  t.ok(low.pieces >= 2, 'a piece also ends when the allocator is low');
  t.strictSame(oddEntries(sortedEntries(s.dev, low.sc.out)), odd);
});

/** A sorted file of one block whose last entry starts exactly at SAFE. */
async function fullToSafe(s: Space): Promise<{ file: SrchFile; entries: SrchEntry[] }> {
  const entries: SrchEntry[] = [{ hash: 0n, ino: 0n, id: 0n }];
  let bytes = 2;
  const step = 1n << 16n;
  // ino differs by 2^16: an entry of 2 + 3 bytes
  for (let ino = step; bytes + 5 < SAFE - 5; ino += step, bytes += 5) {
    entries.push({ hash: 0n, ino, id: 0n });
  }
  const at = entries.at(-1)?.ino ?? 0n;
  entries.push({ hash: 0n, ino: at + (1n << BigInt((SAFE - bytes - 2) * 8 - 2)), id: 0n });
  entries.push({ hash: 1n, ino: 0n, id: 0n });
  return { file: await logFile(s, entries), entries };
}

void t.test('a piece resumes at SAFE', async (t) => {
  const s = newSpace();
  const { file, entries } = await fullToSafe(s);
  t.equal(file.blocks, 1);
  const sc = compaction(s, SORTED, [file]);
  const at = (pos: number): SrchCompact =>
    ({ ...sc, inputs: sc.inputs.map((x, i) => (i === 0 ? { ...x, pos } : x)) });
  const p = await piece(s, at(SAFE));
  t.equal(p.error, null);
  t.strictSame(sortedEntries(s.dev, p.sc.out), entries.slice(-1));
  t.equal((await piece(s, at(SAFE - 1))).error?.code, 'SRCH_BLOCK', 'not the start of an entry');
  const end = await piece(s, at(SAFE + 10_000));
  t.strictSame([end.sc.flags, end.sc.out.blocks], [SORTED | DONE, 0], 'behind the last entry');
});

/** Where the last entry of each leaf starts. */
function lastStarts(dev: Device, f: SrchFile): number[] {
  return leaves(dev, f).map((v) =>
    SrchBlock.read(v, 0).entryBytes - ([...decodeSrchBlock(v)].at(-1)?.bytes ?? 0));
}

void t.test('triggers pad leaves to SAFE and stop there', async (t) => {
  const pad = 'srch_compact_logs_pad_safe';
  const stop = 'srch_merge_stop_safe';
  const s = newSpace();
  const entries = randomFiles(11, 30_000);
  const padded: SrchFile[] = [];
  for (const [i, e] of entries.entries()) {
    const p = await piece(s, { ...compaction(s, LOG, [await logFile(s, e)]),
      metaAvail: decode(AllocListHead, writeListBlock(s.dev, LIST_BLKNO + i * 50,
        LIST_BLKNO + 1 + i * 50, 49)) }, 400, [pad, stop]);
    t.strictSame([p.error, p.fired], [null, [pad]]);
    t.strictSame(sortedEntries(s.dev, p.sc.out), oddEntries(e), 'the entries are the same');
    const starts = lastStarts(s.dev, p.sc.out);
    t.ok(starts.length >= 2);
    t.ok(starts.slice(0, -1).every((at) => at === SAFE), `last entries start at ${starts.join()}`);
    padded.push(p.sc.out);
  }
  const odd = oddEntries(entries.flat());
  const list = (blkno: number): AllocListHead =>
    decode(AllocListHead, writeListBlock(s.dev, blkno, blkno + 1, 400));
  const sc = { ...compaction(s, SORTED, padded), metaAvail: list(24_000) };
  const stopped = await piece(s, sc, 400, [pad, stop]);
  t.strictSame([stopped.error, stopped.sc.flags, stopped.fired], [null, SORTED, [stop]]);
  t.equal(stopped.sc.inputs.filter((i) => i.pos === SAFE).length, 1, 'an input is at SAFE');
  const rest = await piece(s, { ...stopped.sc, metaAvail: list(25_000) });
  t.strictSame([rest.error, rest.sc.flags, rest.fired], [null, SORTED | DONE, []]);
  t.strictSame(oddEntries(sortedEntries(s.dev, rest.sc.out)), odd, 'nothing is lost or doubled');
});

/** A file of leaves as given. */
function fileOf(s: Space, bodies: readonly ((v: DataView) => void)[], entries: number): SrchFile {
  bodies.forEach((fill, i) => { writeBlock(s.dev, 30_000 + i, LEAF_MAGIC, fill); });
  const zero = { hash: 0n, ino: 0n, id: 0n };
  const one = bodies.length === 1;
  if (!one) {
    writeBlock(s.dev, 31_000, PARENT_MAGIC, (v) => {
      bodies.forEach((_, i) => {
        v.setBigUint64(32 + i * 16, BigInt(30_000 + i), true);
        v.setBigUint64(40 + i * 16, 1n, true);
      });
    });
  }
  return { first: zero, last: zero, ref: { blkno: one ? 30_000 : 31_000, seq: 1n },
    blocks: bodies.length, entries, height: one ? 1 : 2 };
}

const empty = (): void => { /* no entries: as upstream leaves them */ };

function leafOf(...encoded: number[][]): (v: DataView) => void {
  const bytes = encoded.flat();
  return (v) => {
    v.setUint32(104, encoded.length, true);
    v.setUint32(108, bytes.length, true);
    bytes.forEach((b, i) => { v.setUint8(112 + i, b); });
  };
}

void t.test('empty blocks of upstream are read, damage is refused', async (t) => {
  const s = newSpace();
  const one = [0x00, 0x01, 2]; // id + 1
  for (const phase of [LOG, SORTED]) {
    const p = await piece(s, compaction(s, phase, [fileOf(s, [empty, leafOf(one), empty], 1)]));
    t.strictSame([p.error, p.sc.flags], [null, phase | DONE]);
    t.strictSame(sortedEntries(s.dev, p.sc.out), [{ hash: 0n, ino: 0n, id: 1n }]);
    const only = await piece(s, compaction(s, phase, [fileOf(s, [empty], 0)]));
    t.strictSame([only.error, only.sc.out.blocks], [null, 0]);
  }
  const fails = async (phase: number, f: SrchFile): Promise<string | undefined> => {
    const sc = compaction(s, phase, [f]);
    const p = await piece(s, sc);
    t.equal(p.completion.toString(),
      encode(SrchCompact, { ...sc, flags: phase | SRCH_COMPACT_FLAG_ERROR }).toString(),
      'goes back as it came, with ERROR');
    return p.error?.code;
  };
  const behindSafe = (v: DataView): void => {
    v.setUint32(104, 2, true);
    v.setUint32(108, SAFE + 4, true);
  };
  for (const phase of [LOG, SORTED]) {
    t.equal(await fails(phase, fileOf(s, [leafOf([0x88, 0x08])], 1)), 'SRCH_BLOCK',
      'an entry behind the end of the block');
    const file = fileOf(s, [leafOf(one)], 1);
    t.equal(await fails(phase, { ...file, height: 2 }), 'SRCH_FILE');
    t.equal(await fails(phase, { ...file, ref: { blkno: 5, seq: 1n } }), 'BLOCK_HEADER');
  }
  t.equal(await fails(LOG, fileOf(s, [behindSafe], 2)), 'SRCH_BLOCK', 'an entry behind SAFE');
  t.equal(await fails(SORTED, fileOf(s, [leafOf(one, [0x00, 0x01, 1])], 2)), 'SRCH_FILE',
    'a sorted file that is not');
  t.equal(await fails(8, fileOf(s, [leafOf(one)], 1)), 'EINVAL', 'a phase that does not exist');
  const f = fileOf(s, [leafOf(one)], 1);
  t.equal((await piece(s, { ...compaction(s, LOG, [f]), nr: 5 })).error?.code, 'EINVAL');
  t.equal((await piece(s, compaction(s, LOG, [f], 4))).error?.errno, 'ENOSPC',
    'a LOG phase that does not fit');
});

void t.test('a failed write is an error of the work', async (t) => {
  const s = newSpace();
  const file = await logFile(s, [{ hash: 1n, ino: 2n, id: 3n }]);
  const device = Object.create(s.dev) as Device;
  device.flush = () => Promise.reject(new ScoutfsError('DEVICE_IO', 'EIO'));
  const sc = compaction(s, LOG, [file]);
  const { completion, error } = await new SrchCompactWorker(device, s.core, 100)
    .run(encode(SrchCompact, sc));
  t.equal(error?.code, 'DEVICE_IO');
  t.equal(decode(SrchCompact, completion).flags, LOG | SRCH_COMPACT_FLAG_ERROR);
});

/** Numbers in the first block of a list. */
function numbers(dev: Device, h: AllocListHead): number[] {
  const b = new Uint8Array(65536);
  dev.readSync(h.ref.blkno * 65536, b);
  const v = new DataView(b.buffer);
  const start = v.getUint32(48, true);
  return Array.from({ length: v.getUint32(52, true) },
    (_, i) => Number(v.getBigUint64(56 + (start + i) * 8, true)));
}

void t.test('deletion frees every block once, in any number of pieces', async (t) => {
  const s = newSpace();
  const small = await logFile(s, [{ hash: 1n, ino: 1n, id: 1n }]);
  const big = fileOf(s, Array.from({ length: 40 }, () => empty), 0);
  // three levels of which most is not there: the last leaf's parent has two children
  const high: SrchFile = { ...big, ref: { blkno: 31_500, seq: 1n }, height: 3,
    blocks: PARENT_REFS + 2 };
  const parent = (blkno: number, children: number[]): void => {
    writeBlock(s.dev, blkno, PARENT_MAGIC, (v) => {
      children.forEach((c, i) => {
        v.setBigUint64(32 + i * 16, BigInt(c), true);
        v.setBigUint64(40 + i * 16, 1n, true);
      });
    });
  };
  parent(31_500, [31_501, 31_502]);
  parent(31_501, Array.from({ length: PARENT_REFS }, (_, i) => 10_000 + i));
  parent(31_502, [15_000, 15_001]);
  const wanted = [small.ref.blkno, ...Array.from({ length: 40 }, (_, i) => 30_000 + i), 31_000,
    ...Array.from({ length: PARENT_REFS }, (_, i) => 10_000 + i), 15_000, 15_001, 31_500, 31_501,
    31_502];
  const start = compaction(s, DELETE, [small, big, high]);
  const whole = await piece(s, start);
  t.strictSame([whole.error, whole.sc.flags], [null, DELETE | DONE]);
  t.ok(whole.sc.inputs.slice(0, 3).every((i) => i.pos === i.sfl.height + 1 && i.blk === 0));
  const freed = numbers(s.dev, whole.sc.metaFreed).filter((n) => n !== LIST_BLKNO);
  t.strictSame(freed.sort((a, b) => a - b), wanted.sort((a, b) => a - b));

  // a freed list with room for 1500 numbers more
  let sc = { ...start, metaFreed: { ...start.metaFreed } };
  const seen: number[] = [];
  const filler = Array.from({ length: 8185 - 2100 }, (_, i) => 100 + i)
    .filter((n) => n !== small.ref.blkno);
  let pieces = 0;
  for (; (sc.flags & DONE) === 0 && pieces < 20; pieces++) {
    sc = { ...sc,
      metaAvail: decode(AllocListHead, writeListBlock(s.dev, LIST_BLKNO, LIST_BLKNO + 1, 2000)),
      metaFreed: decode(AllocListHead, writeList(s.dev, 25_000, filler)) };
    const p = await piece(s, sc);
    t.equal(p.error, null);
    ({ sc } = p);
    const own = new Set([...filler, LIST_BLKNO, 25_000]);
    seen.push(...numbers(s.dev, sc.metaFreed).filter((n) => !own.has(n)));
  }
  t.equal(pieces, 2, 'pieces');
  t.strictSame(seen.sort((a, b) => a - b), wanted);
});
