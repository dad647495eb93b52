/** Extents against the vectors: primitives, preallocation, truncation, fallocate. */
import t from 'tap';
import { DATA_EXTENT_TYPE, FS_ZONE, DataExtentVal } from '../../host/core/format.js';
import type { PreallocOptions } from '../../host/fs/block_map.js';
import { BlockMap } from '../../host/fs/block_map.js';
import { Extents, newExt } from '../../host/fs/ext.js';
import { InodeRec } from '../../host/fs/inode_item.js';
import { MODE_WRITE } from '../../host/mount/op.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { FakeItems, keyString, parseKey } from '../lib/fakeitems.js';
import { FakeAlloc } from '../lib/fakemount.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

type Row = [number, number, number, number];
const INO = 1025;

interface OpVector { name: string; before: Row[]; op: 'insert' | 'remove' | 'set'; args: Row;
  ret: number; item_ops: [string, ...Row][]; after: Row[] }
interface PreallocVector { name: string; contig_only: number; prealloc_blocks: number;
  order?: string; nr_blocks?: number; requested_allocs: number[]; online: number;
  offline?: number; extents: Row[] }
interface RemoveVector { name: string; before: Row[]; ret: number; freed: [number, number][];
  online?: number; offline?: number; after: Row[] }
interface FallocateVector { name: string; before: Row[]; ret: number; requested_allocs: number[];
  online: number; offline: number; after: Row[] }
interface Vectors { extent_ops: OpVector[]; extent_prealloc: PreallocVector[];
  extent_truncate_release: RemoveVector[]; extent_fallocate: FallocateVector[] }

class Bench {
  readonly items = new FakeItems();
  readonly inode = new InodeRec();
  readonly extents = new Extents(this.items);
  readonly alloc = new FakeAlloc({ blocks: 1e6, random: () => 1, dry: 0, short: 0 });
  readonly map: BlockMap;
  readonly lock: number;

  constructor(before: Row[], options: PreallocOptions) {
    this.inode.ino = INO;
    this.map = new BlockMap(this.extents, this.alloc, options);
    this.lock = this.items.addLock('I', keyString(FS_ZONE, 1024, 0, 0, 0, 0),
      keyString(FS_ZONE, 2047, 255, (1n << 64n) - 1n, (1n << 64n) - 1n, 255), MODE_WRITE);
    this.items.changing = true;
    this.knowAll();
    for (const [start, len, blkno, flags] of before) {
      this.extents.insert(this.lock, INO, this.inode, newExt(start, len, blkno, flags));
      for (let i = 0; blkno !== 0 && i < len; i++) this.alloc.used.add(blkno + i);
    }
  }

  /** Everything of the inode is known: knowledge is not what these vectors are about. */
  knowAll(): void {
    this.items.changing = false;
    this.items.next(this.lock, FS_ZONE, INO, DATA_EXTENT_TYPE, 2 ** 52, 0, 0, 2 ** 52);
    this.items.changing = false;
    for (const k of [...this.items.keys, keyString(FS_ZONE, INO, DATA_EXTENT_TYPE, 0, 0, 0)]) {
      const p = parseKey(k);
      this.items.next(this.lock, FS_ZONE, INO, DATA_EXTENT_TYPE, Number(p.second),
        Number(p.third) + 1, 0, 2 ** 52);
      this.items.touch(this.lock, FS_ZONE, INO, DATA_EXTENT_TYPE, Number(p.second),
        Number(p.third), 0);
    }
    this.items.changing = true;
  }

  rows(): Row[] {
    return this.items.keys.map((k) => {
      const p = parseKey(k);
      const v = this.items.store.get(k) ?? new Uint8Array(16);
      const { blkno, flags } = DataExtentVal.read(new DataView(v.buffer), 0);
      const len = Number(p.third);
      return [Number(p.second) - len + 1, len, blkno, flags];
    });
  }
}

/** The extent of a line of the items' log. */
function logged(line: string): [string, number, number] {
  const p = parseKey(line.slice(line.indexOf(' ') + 1));
  const len = Number(p.third);
  return [line.startsWith('put') ? 'ins' : 'rem', Number(p.second) - len + 1, len];
}

void t.test('vectors', { skip: skipWithoutSpec() }, (t) => {
  const all = vectors('fs-vectors.json') as Vectors;
  const contig = { preallocBlocks: 2048, contigOnly: true };

  void t.test('extent_ops', (t) => {
    for (const v of all.extent_ops) {
      const b = new Bench(v.before, contig);
      b.items.log = [];
      let ret = 0;
      try {
        const [start, len, blkno, flags] = v.args;
        if (v.op === 'remove') b.extents.remove(b.lock, INO, b.inode, start, len);
        else b.extents[v.op](b.lock, INO, b.inode, newExt(start, len, blkno, flags));
      } catch (e) {
        ret = -asScoutfsError(e).errnoNr;
      }
      t.equal(ret, v.ret, v.name);
      t.strictSame(b.items.log.map(logged), v.item_ops.map((o) => o.slice(0, 3)), v.name);
      t.strictSame(b.rows(), v.after, v.name);
    }
    t.end();
  });

  void t.test('extent_prealloc', (t) => {
    for (const v of all.extent_prealloc) {
      const options = { preallocBlocks: v.prealloc_blocks, contigOnly: v.contig_only === 1 };
      const stage = v.offline !== undefined;
      const b = new Bench(stage ? [[0, 64, 0, 1]] : [], options);
      const nr = v.nr_blocks ?? 20;
      for (let i = 0; i < nr; i++) {
        const block = v.order === 'descending' ? nr - 1 - i : i;
        if (b.map.mapWrite(b.lock, b.inode, block, block, () => undefined) !== null) {
          t.fail(`${v.name}: block ${block}`);
        }
      }
      t.strictSame(b.alloc.requests, v.requested_allocs, v.name);
      t.strictSame(b.rows(), v.extents, v.name);
      t.equal(b.inode.onlineBlocks, v.online, v.name);
      t.equal(b.inode.offlineBlocks, v.offline ?? 0, v.name);
    }
    t.end();
  });

  void t.test('extent_truncate_release', (t) => {
    const ranges: [number, number, boolean][] = [[5, 25, true], [8, 2 ** 52 - 1, false],
      [0, 2 ** 52 - 1, false]];
    all.extent_truncate_release.forEach((v, i) => {
      const b = new Bench(v.before, contig);
      const [first, last, offline] = ranges[i] ?? [0, 0, false];
      const { next } = b.map.remove(b.lock, INO, b.inode, first, last, offline, 8);
      t.equal(next, v.ret, v.name);
      t.strictSame(b.alloc.freed, v.freed, v.name);
      t.strictSame(b.rows(), v.after, v.name);
      if (v.online !== undefined) t.equal(b.inode.onlineBlocks, v.online, v.name);
      if (v.offline !== undefined) t.equal(b.inode.offlineBlocks, v.offline, v.name);
    });
    t.end();
  });

  void t.test('extent_fallocate', (t) => {
    for (const v of all.extent_fallocate) {
      const b = new Bench(v.before, contig);
      const { next, stop } = b.map.fallocate(b.lock, b.inode, 0, 11, 8);
      t.equal(next, v.ret, v.name);
      t.equal(stop, null, v.name);
      t.strictSame(b.alloc.requests, v.requested_allocs, v.name);
      t.strictSame(b.rows(), v.after, v.name);
      t.equal(b.inode.onlineBlocks, v.online, v.name);
      t.equal(b.inode.offlineBlocks, v.offline, v.name);
    }
    t.end();
  });
  t.end();
});
