/**
 * Blocks that an enemy wrote, with right checksums: whatever stands in them, every call
 * ends with a result or an error, no invariant of the core breaks, and the core goes on
 * working with sound blocks. Fields are changed at random where they matter: counts,
 * links, offsets, lengths, references, windows and numbers.
 */
import t from 'tap';
import fc from 'fast-check';
import { crc32c } from '../../host/core/crc32c.js';
import { Rec } from '../../host/core/trees.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import {
  allocRoot, btreeOf, empty, extents, fill, insert, listHead, move, remove, splice, take, zones,
} from '../lib/extents.js';
import { merge } from '../lib/mergejob.js';
import {
  BLOCK_BYTES, commitSpace, makeSpace, rawTree, writeList, writeListBlock,
} from '../lib/treespace.js';
import type { Space } from '../lib/treespace.js';
import { insertAll, key, range, val } from '../lib/treevec.js';

t.setTimeout(180_000);

interface Change {
  block: number;
  /** a field of the header, of an item, or the reference to another block put in a value */
  kind: 'head' | 'item' | 'graft';
  item: number;
  field: number;
  value: number;
}
const interesting = fc.oneof(fc.constantFrom(0, 1, 2, 8, 16, 48, 72, 104, 896, 897, 8184, 8185,
  32768, 62512, 65488, 65528, 65535), fc.nat({ max: 65535 }));
const change: fc.Arbitrary<Change> = fc.record({
  block: fc.nat(), kind: fc.constantFrom<Change['kind']>('head', 'item', 'item', 'graft'),
  item: fc.nat({ max: 40 }), field: fc.nat(), value: interesting,
});

/** 16-bit fields of the header that are not compared with the reference. */
const HEAD_FIELDS = [32, 34, 36, 38, 40];
const ITEM_FIELDS = [0, 2, 4, 6, 8, 14, 16, 24, 26, 40, 48, 50, 52];
const LIST_FIELDS = [32, 40, 48, 50, 52, 54, 56, 58, 60, 62, 64, 72];

function corrupt(s: Space, blkno: number, edit: (v: DataView) => void): void {
  const b = new Uint8Array(BLOCK_BYTES);
  s.dev.readSync(blkno * BLOCK_BYTES, b);
  const v = new DataView(b.buffer);
  edit(v);
  v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
  s.dev.writeSync(blkno * BLOCK_BYTES, b);
}

/** Puts a sound reference where it does not belong: loops, shared children, wrong levels. */
function graft(s: Space, blocks: number[], c: Change): void {
  const other = new Uint8Array(BLOCK_BYTES);
  const from = blocks[c.field % blocks.length] ?? 0;
  s.dev.readSync(from * BLOCK_BYTES, other);
  corrupt(s, blocks[c.block % blocks.length] ?? 0, (v) => {
    const nr = v.getUint16(34, true);
    const item = 48 + 56 * (c.item % Math.max(1, nr));
    const at = v.getUint16(item + 48, true);
    if (v.getUint16(item + 50, true) < 16 || at > BLOCK_BYTES - 16) return;
    v.setBigUint64(at, BigInt(from), true);
    v.setBigUint64(at + 8, new DataView(other.buffer).getBigUint64(16, true), true);
  });
}

function corruptTree(s: Space, blocks: number[], changes: Change[]): void {
  for (const c of changes) {
    if (c.kind === 'graft') {
      graft(s, blocks, c);
      continue;
    }
    corrupt(s, blocks[c.block % blocks.length] ?? 0, (v) => {
      const at = c.kind === 'head' ? HEAD_FIELDS[c.field % HEAD_FIELDS.length] ?? 0
        : 48 + 56 * c.item + (ITEM_FIELDS[c.field % ITEM_FIELDS.length] ?? 0);
      if (at === 40) v.setUint8(at, c.value & 255);
      else v.setUint16(at, c.value, true);
    });
  }
}

/** Runs a call; only errors of ours that are not broken invariants may come out. */
async function survive(s: Space, what: string, p: () => Promise<unknown>): Promise<void> {
  try {
    await p();
  } catch (e) {
    if (!(e instanceof ScoutfsError) || e.code === 'CORE_INVARIANT') {
      throw new Error(`${what}: ${String(e)}`, { cause: e });
    }
  }
  if (s.core.x.checkId() !== 0) throw new Error(`${what}: invariant ${s.core.x.checkId()}`);
}

/** The core still works with blocks that nobody touched. */
async function stillWorks(s: Space): Promise<void> {
  s.space.begin(writeListBlock(s.dev, 9000, 9001, 200), new Uint8Array(32));
  const root = new Rec(s.core, 24);
  await insertAll(s, root, range(1, 50), 100);
  for (const n of range(1, 50)) {
    if (await s.space.lookup(root.ptr, key(n)) === null) throw new Error(`item ${n} is lost`);
  }
  s.space.finish();
  s.space.forget(false);
}

void t.test('hostile trees', async () => {
  await fc.assert(fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }),
    fc.array(fc.nat({ max: 120 }), { minLength: 5, maxLength: 30 }), async (changes, ns) => {
      const s = makeSpace(2000, { memoryBytes: 32 << 20, mergeWindowBytes: 65536 });
      const root = new Rec(s.core, 24);
      await insertAll(s, root, range(1, 100), 896);
      await insertAll(s, root, range(101, 120), 3);
      const log = new Rec(s.core, 24);
      for (const n of range(1, 100, 3)) await s.space.apply(log.ptr, key(n), n, n % 2, val(n, 5));
      await commitSpace(s);
      // the roots twice: grafts only matter in parents
      const blocks = [...rawTree(s.dev, root).flat(), ...rawTree(s.dev, log).flat(),
        ...rawTree(s.dev, root).slice(0, -1).flat()].map((b) => b.blkno);
      s.core.x.blockEvictAll();
      corruptTree(s, blocks, changes);
      const { space } = s;
      const kept = root.get();
      for (const [i, n] of ns.entries()) {
        const k = key(n);
        const calls = [
          () => space.lookup(root.ptr, k), () => space.next(root.ptr, k),
          () => space.prev(root.ptr, k), () => space.insert(root.ptr, k, val(n, 50)),
          () => space.delete(root.ptr, k), () => space.force(root.ptr, k, val(n, 896)),
          () => space.rebalance(root.ptr, k), () => space.update(root.ptr, k, val(n, 700)),
          () => space.apply(root.ptr, k, 5, 0, val(n, 100)),
        ];
        await survive(s, `call ${i % 9}`, calls[i % 9] ?? never);
      }
      await survive(s, 'merge', () => merge(s, root, [log], { windowBytes: 65536 }));
      await survive(s, 'merge of the damaged', () => merge(s, new Rec(s.core, 24),
        [new Rec(s.core, 24, kept), log], { windowBytes: 65536 }));
      const progress = new Rec(s.core, 32);
      for (let i = 0; i < 5; i++) {
        await survive(s, 'free', () => space.freeTree(new Rec(s.core, 24, kept).ptr, progress, 7));
      }
      space.finish();
      space.forget(false);
      await stillWorks(s);
    }), { numRuns: 150 });
});

void t.test('hostile free extents', async () => {
  await fc.assert(fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }),
    fc.array(fc.integer({ min: 60, max: 2500 }), { minLength: 5, maxLength: 30 }),
    async (changes, ns) => {
      const s = makeSpace(3000, { memoryBytes: 32 << 20 });
      const a = allocRoot(s);
      for (const n of range(64, 2400, 40)) await insert(s, a, n, 17);
      const b = allocRoot(s);
      await insert(s, b, 5000, 100);
      await commitSpace(s);
      const blocks = rawTree(s.dev, btreeOf(s, a)).flat().map((x) => x.blkno);
      s.core.x.blockEvictAll();
      corruptTree(s, blocks, changes);
      const head = listHead(s);
      for (const [i, n] of ns.entries()) {
        const calls = [
          () => insert(s, a, n, 7), () => remove(s, a, n, 3), () => take(s, a, n),
          () => move(s, b, a, 20), () => move(s, a, b, 5),
          () => move(s, b, a, 30, { vacant: [1, 2, n % 30], zoneBlocks: 100 }),
          () => zones(s, a, 100), () => extents(s, a), () => fill(s, head, a, 50, 60),
          () => empty(s, head, a),
        ];
        await survive(s, `call ${i % 10}`, calls[i % 10] ?? never);
      }
      s.space.finish();
      s.space.forget(false);
      await stillWorks(s);
    }), { numRuns: 150 });
});

void t.test('hostile lists', async () => {
  const edit = fc.record({ block: fc.nat(), field: fc.nat(), value: interesting,
    head: fc.boolean() });
  await fc.assert(fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), fc.boolean(),
    async (edits, cyclic) => {
      const s = makeSpace(3000, { memoryBytes: 32 << 20 });
      const last = writeList(s.dev, 902, [...range(3200, 3230)]);
      const middle = writeList(s.dev, 901, [...range(3100, 3130)], { start: 500, next: last });
      const heads = [writeList(s.dev, 900, [...range(3000, 3030)], { next: middle }),
        writeList(s.dev, 903, [...range(3300, 3330)])];
      if (cyclic) {
        corrupt(s, 902, (v) => {
          v.setBigUint64(32, 901n, true);
          v.setBigUint64(40, 1n, true);
        });
      }
      for (const e of edits) {
        const at = LIST_FIELDS[e.field % LIST_FIELDS.length] ?? 0;
        if (e.head) {
          const h = heads[e.block % 2];
          if (h !== undefined) new DataView(h.buffer).setUint16(e.field % 31, e.value, true);
        } else corrupt(s, 900 + e.block % 4, (v) => { v.setUint16(at, e.value, true); });
      }
      const rec = heads.map((h) => listHead(s, h));
      const [x, y] = [rec[0] ?? never(), rec[1] ?? never()];
      const pool = allocRoot(s);
      await insert(s, pool, 4000, 300);
      for (let i = 0; i < 3; i++) {
        await survive(s, 'splice', () => splice(s, y, x));
        await survive(s, 'empty', () => empty(s, i % 2 === 0 ? y : x, pool));
        await survive(s, 'fill', () => fill(s, i % 2 === 0 ? x : y, pool, 40, 60));
      }
      s.space.finish();
      s.space.forget(false);
      // as an allocator's own lists
      s.space.begin(heads[0] ?? new Uint8Array(32), heads[1] ?? new Uint8Array(32));
      s.core.x.blockEvictAll();
      const root = new Rec(s.core, 24);
      for (const n of range(1, 120)) {
        await survive(s, 'insert', () => s.space.force(root.ptr, key(n), val(n, 896)));
      }
      s.space.finish();
      s.space.forget(false);
      await stillWorks(s);
    }), { numRuns: 150 });
});

function never(): never {
  throw new Error('index out of range');
}
