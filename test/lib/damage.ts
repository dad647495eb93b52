/**
 * Editing volumes below the file system, to damage them or to build rare states.
 *
 * A Victim is a volume under overlays. Whatever is edited gets its checksum made
 * again, so that a case breaks exactly the one rule it is about. Btree blocks are
 * rewritten whole from a list of items: sorted array, balanced links, hash table.
 */
import { crc32c } from '../../host/core/crc32c.js';
import { leafHashBucket } from '../../host/core/keys.js';
import { BLOCK_LG_SIZE, BLOCK_MAGIC_BTREE, BTREE_LEAF_ITEM_HASH_BYTES,
  BTREE_LEAF_ITEM_HASH_NR, BlockHeader, BlockRef, Key, LogTrees, SuperBlock }
  from '../../host/core/format.js';
import type { AllocListHead, BtreeRoot } from '../../host/core/format.js';
import type { FindingId } from '../../host/disk/check.js';
import type { OverlayDevice } from './overlay.js';
import type { Rich } from './rich.js';

const SUPER_OFFSET = 65536;
const SMALL_BYTES = 4096;
const HEADER_BYTES = 48;
const ITEM_BYTES = 56;

export interface Item {
  key: Key;
  seq: bigint;
  flags: number;
  value: Uint8Array;
}

/** Fields of a key that must match; absent ones may be anything. */
export type KeyMatch = Partial<Key>;

export function key(zone: number, first: bigint | number, type: number, second: bigint | number = 0,
  third: bigint | number = 0, fourth = 0): Key {
  return { zone, first: BigInt(first), type, second: BigInt(second), third: BigInt(third), fourth };
}

export function item(k: Key, value: Uint8Array = new Uint8Array(0), seq = 1n, flags = 0): Item {
  return { key: k, seq, flags, value };
}

/** A view of a whole array of bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Encodes a structure with its codec. */
export function encode<T>(codec: { size: number; write(v: DataView, o: number, s: T): void },
  s: T): Uint8Array {
  const bytes = new Uint8Array(codec.size);
  codec.write(viewOf(bytes), 0, s);
  return bytes;
}

export function compareKey(a: Key, b: Key): number {
  const d = (x: bigint, y: bigint): number => (x < y ? -1 : x > y ? 1 : 0);
  return a.zone - b.zone || d(a.first, b.first) || a.type - b.type || d(a.second, b.second)
    || d(a.third, b.third) || a.fourth - b.fourth;
}

export const ONES_KEY: Key = key(255, 2n ** 64n - 1n, 255, 2n ** 64n - 1n, 2n ** 64n - 1n, 255);

export class Victim {
  constructor(readonly meta: OverlayDevice, readonly data: OverlayDevice) {}

  fork(): Victim {
    return new Victim(this.meta.fork(), this.data.fork());
  }

  // Small blocks

  /** Changes 4 KiB at a small block number of a device and makes the checksum again. */
  editSmall(dev: 'meta' | 'data', blkno: number, fn: (v: DataView, bytes: Uint8Array) => void,
    crc = true): void {
    const bytes = new Uint8Array(SMALL_BYTES);
    this[dev].readSync(blkno * SMALL_BYTES, bytes);
    const v = viewOf(bytes);
    fn(v, bytes);
    if (crc) v.setUint32(0, crc32c(0xffffffff, bytes.subarray(4)), true);
    this[dev].writeSync(blkno * SMALL_BYTES, bytes);
  }

  sb(): SuperBlock {
    const bytes = new Uint8Array(SMALL_BYTES);
    this.meta.readSync(SUPER_OFFSET, bytes);
    return SuperBlock.read(viewOf(bytes), 0);
  }

  editSuper(fn: (sb: SuperBlock) => void): void {
    this.editSmall('meta', SUPER_OFFSET / SMALL_BYTES, (v) => {
      const sb = SuperBlock.read(v, 0);
      fn(sb);
      SuperBlock.write(v, 0, sb);
    });
  }

  // Large blocks

  readBlock(blkno: number): Uint8Array {
    const bytes = new Uint8Array(BLOCK_LG_SIZE);
    this.meta.readSync(blkno * BLOCK_LG_SIZE, bytes);
    return bytes;
  }

  writeBlock(blkno: number, bytes: Uint8Array, crc = true): void {
    if (crc) viewOf(bytes).setUint32(0, crc32c(0xffffffff, bytes.subarray(4)), true);
    this.meta.writeSync(blkno * BLOCK_LG_SIZE, bytes);
  }

  editBlock(blkno: number, fn: (v: DataView, bytes: Uint8Array) => void, crc = true): void {
    const bytes = this.readBlock(blkno);
    fn(viewOf(bytes), bytes);
    this.writeBlock(blkno, bytes, crc);
  }

  /** A zeroed block with a header at a number taken from the server's list. */
  newBlock(magic: number, fill: (v: DataView) => void = () => undefined): BlockRef {
    const blkno = this.allocMeta();
    const bytes = new Uint8Array(BLOCK_LG_SIZE);
    const seq = BigInt(blkno) * 7919n;
    BlockHeader.write(viewOf(bytes), 0, { crc: 0, magic, fsid: this.sb().hdr.fsid, seq, blkno });
    fill(viewOf(bytes));
    this.writeBlock(blkno, bytes);
    return { blkno, seq };
  }

  /** Takes the last number of the first block of the server's first list. */
  allocMeta(): number {
    let blkno = 0;
    const head = this.sb().serverMetaAvail[0];
    if (head === undefined) throw new Error('no list');
    this.editBlock(head.ref.blkno, (v) => {
      const nr = v.getUint32(52, true) - 1;
      blkno = Number(v.getBigUint64(56 + (v.getUint32(48, true) + nr) * 8, true));
      v.setUint32(52, nr, true);
    });
    this.editSuper((sb) => {
      const h = sb.serverMetaAvail[0];
      if (h === undefined) return;
      h.totalNr--;
      h.firstNr--;
    });
    return blkno;
  }

  /** A list of one block holding `numbers`. */
  newList(magic: number, numbers: number[]): AllocListHead {
    const ref = this.newBlock(magic, (v) => {
      v.setUint32(52, numbers.length, true);
      numbers.forEach((n, i) => { v.setBigUint64(56 + i * 8, BigInt(n), true); });
    });
    return { ref, totalNr: numbers.length, firstNr: numbers.length, flags: 0 };
  }

  // Btrees

  readNode(blkno: number): { level: number; items: Item[] } {
    const bytes = this.readBlock(blkno);
    const v = viewOf(bytes);
    const items: Item[] = [];
    for (let i = 0; i < v.getUint16(34, true); i++) {
      const o = HEADER_BYTES + i * ITEM_BYTES;
      const off = v.getUint16(o + 48, true);
      items.push({
        key: Key.read(v, o + 8), seq: v.getBigUint64(o + 40, true), flags: v.getUint8(o + 52),
        value: bytes.slice(off, off + v.getUint16(o + 50, true)),
      });
    }
    return { level: v.getUint8(40), items };
  }

  /** Rewrites a btree block, keeping its header. */
  writeNode(blkno: number, level: number, items: Item[]): void {
    this.editBlock(blkno, (v, bytes) => {
      bytes.fill(0, 32);
      layOutNode(v, bytes, level, items);
    });
  }

  /** A new btree block. */
  newNode(level: number, items: Item[]): BlockRef {
    const ref = this.newBlock(BLOCK_MAGIC_BTREE);
    this.writeNode(ref.blkno, level, items);
    return ref;
  }

  /** Replaces the items of a leaf or parent by what `fn` makes of them. */
  editNode(blkno: number, fn: (items: Item[]) => Item[]): void {
    const { level, items } = this.readNode(blkno);
    this.writeNode(blkno, level, fn(items));
  }

  /** Block numbers of a tree at one level, left to right. */
  blocks(root: BtreeRoot, level: number): number[] {
    let at = root.height === 0 ? [] : [root.ref.blkno];
    for (let l = root.height - 1; l > level; l--) {
      at = at.flatMap((b) => this.readNode(b).items.sort((x, y) => compareKey(x.key, y.key))
        .map((i) => BlockRef.read(viewOf(i.value), 0).blkno));
    }
    return at;
  }

  leafFor(root: BtreeRoot, k: Key): number {
    let blkno = root.ref.blkno;
    for (let l = root.height - 1; l > 0; l--) {
      const child = this.readNode(blkno).items.sort((x, y) => compareKey(x.key, y.key))
        .find((i) => compareKey(i.key, k) >= 0);
      if (child === undefined) throw new Error('no child');
      blkno = BlockRef.read(viewOf(child.value), 0).blkno;
    }
    return blkno;
  }

  logs(): LogTrees[] {
    const { logsRoot } = this.sb();
    return this.blocks(logsRoot, 0).flatMap((b) => this.readNode(b).items)
      .map((i) => LogTrees.read(viewOf(i.value), 0));
  }

  /** Rewrites the `n`th log trees item. */
  editLog(n: number, fn: (lt: LogTrees) => void): void {
    this.editNode(this.sb().logsRoot.ref.blkno, (items) => {
      const it = items[n];
      if (it === undefined) throw new Error('no such log tree');
      const lt = LogTrees.read(viewOf(it.value), 0);
      fn(lt);
      it.value = encode(LogTrees, lt);
      return items;
    });
  }

  // File system items, over all trees

  /** The newest version of the first key that matches, and the leaf that holds it. */
  find(m: KeyMatch, also: (i: Item) => boolean = () => true): { blkno: number; item: Item } {
    let best: { blkno: number; item: Item } | null = null;
    for (const root of [this.sb().fsRoot, ...this.logs().map((l) => l.itemRoot)]) {
      for (const blkno of this.blocks(root, 0)) {
        for (const i of this.readNode(blkno).items) {
          if (!matches(i.key, m) || i.flags !== 0 || !also(i)) continue;
          const d = best === null ? -1 : compareKey(i.key, best.item.key);
          if (best === null || d < 0 || (d === 0 && i.seq > best.item.seq)) {
            best = { blkno, item: i };
          }
        }
      }
    }
    if (best === null) throw new Error('no such item');
    return best;
  }

  /** Changes the found item in place; null removes it. */
  editItem(m: KeyMatch, fn: (i: Item) => Item | null, also?: (i: Item) => boolean): void {
    const { blkno, item: found } = this.find(m, also);
    this.editNode(blkno, (items) => items.flatMap((i) => {
      if (compareKey(i.key, found.key) !== 0) return [i];
      const changed = fn(i);
      return changed === null ? [] : [changed];
    }));
  }

  /** Changes bytes of the found item's value. */
  editValue(m: KeyMatch, fn: (v: DataView, bytes: Uint8Array) => void,
    also?: (i: Item) => boolean): void {
    this.editItem(m, (i) => {
      fn(viewOf(i.value), i.value);
      return i;
    }, also);
  }

  removeItem(m: KeyMatch, also?: (i: Item) => boolean): void {
    this.editItem(m, () => null, also);
  }

  /** Adds items to the fs tree. */
  addItems(...added: Item[]): void {
    for (const a of added) {
      this.editNode(this.leafFor(this.sb().fsRoot, a.key), (items) => [...items, a]);
    }
  }
}

function matches(k: Key, m: KeyMatch): boolean {
  return (Object.keys(m) as (keyof Key)[]).every((f) => m[f] === k[f]);
}

/** Writes items into a zeroed btree block behind its header. */
function layOutNode(v: DataView, bytes: Uint8Array, level: number, items: Item[]): void {
  const sorted = [...items].sort((a, b) => compareKey(a.key, b.key));
  const end = level === 0 ? BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES : BLOCK_LG_SIZE;
  let low = end;
  let total = 0;
  sorted.forEach((it, i) => {
    const o = HEADER_BYTES + i * ITEM_BYTES;
    const rounded = (it.value.length + 7) & ~7;
    Key.write(v, o + 8, it.key);
    v.setBigUint64(o + 40, it.seq, true);
    v.setUint8(o + 52, it.flags);
    v.setUint16(o + 50, it.value.length, true);
    total += ITEM_BYTES + rounded;
    if (rounded > 0) {
      low -= rounded;
      v.setUint16(o + 48, low, true);
      bytes.set(it.value, low);
    }
    if (level === 0) insertHash(v, o);
  });
  v.setUint16(34, sorted.length, true);
  v.setUint16(36, total, true);
  v.setUint16(38, low - (HEADER_BYTES + sorted.length * ITEM_BYTES), true);
  v.setUint8(40, level);
  v.setUint16(32, link(v, 0, sorted.length, 0), true);
}

function insertHash(v: DataView, o: number): void {
  const table = BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES;
  let b = leafHashBucket(new Uint8Array(v.buffer, v.byteOffset + o + 8, 32));
  while (v.getUint16(table + b * 2, true) !== 0) b = (b + 1) % BTREE_LEAF_ITEM_HASH_NR;
  v.setUint16(table + b * 2, o, true);
}

/** Links items from..to-1 below `parent`. @returns the offset of the middle one's node */
function link(v: DataView, from: number, to: number, parent: number): number {
  if (from >= to) return 0;
  const mid = (from + to) >> 1;
  const node = 16 + mid * ITEM_BYTES;
  const o = node + 32;
  const left = link(v, from, mid, node);
  const right = link(v, mid + 1, to, node);
  const height = (n: number): number => (n === 0 ? 0 : v.getUint8(n + 32 + 6));
  v.setUint16(o, parent, true);
  v.setUint16(o + 2, left, true);
  v.setUint16(o + 4, right, true);
  v.setUint8(o + 6, 1 + Math.max(height(left), height(right)));
  return node;
}

/** A way to damage a volume. */
export interface Case {
  /** The finding that names the damage. */
  id: FindingId;
  what: string;
  hurt: (v: Victim, r: Rich) => void;
  /** Further findings that follow from the damage. */
  also?: FindingId[];
  /** Expected as notes instead. */
  note?: boolean;
}
