/**
 * The inside of one btree block.
 *
 * Everything format.md 9 and btree.md 2 require of a block is looked at: counts,
 * links, order, range, hash table, values, padding. Heights in the AVL nodes are
 * not (mkfs writes wrong ones). The walk needs the items in key order; when the
 * links that give it are broken, that is a finding and the order is made by
 * sorting, so that what the block holds can still be checked.
 *
 *  ╒═══════════╤══════════════╤══════════╤════════════════╤═══════════════════╕
 *  │ header 48 │ items 56 * n │ free gap │ values, packed │ leaf: hash 3024   │
 *  ╘═══════════╧══════════════╧══════════╧════════════════╧═══════════════════╛
 *   item: avl node 8 | key 32 | seq 8 | val_off 2 | val_len 2 | flags 1 | pad 3
 */
import { BLOCK_LG_SIZE, BTREE_LEAF_ITEM_HASH_BYTES, BTREE_LEAF_ITEM_HASH_NR, BTREE_MAX_VAL_LEN,
  BTREE_VALUE_ALIGN, ITEM_FLAG_DELETION } from '../../core/format.js';
import { leafHashBucket } from '../../core/keys.js';
import type { Block } from './blocks.js';
import { KEY_BYTES, ONES, bytesAt, compareKeys, keyText, num } from './keys.js';
import type { KeyView } from './keys.js';
import type { FindingId, Reporter } from './report.js';

const HEADER_BYTES = 48;
export const ITEM_BYTES = 56;
/** AVL offsets count from here. */
const AVL_BASE = 32;
const REF_BYTES = 16;
const VALUE_UNITS = BLOCK_LG_SIZE / BTREE_VALUE_ALIGN;
export const BLOCK_ITEMS_MAX = Math.floor((BLOCK_LG_SIZE - HEADER_BYTES) / ITEM_BYTES);

/** Offsets inside an item. */
export const ITEM_KEY = 8;
export const ITEM_SEQ = 40;
export const ITEM_VAL_OFF = 48;
export const ITEM_VAL_LEN = 50;
export const ITEM_FLAGS = 52;

/** What the tree and the parents say about a block. */
export interface BlockExpect {
  level: number;
  /** The root of its tree. */
  isRoot: boolean;
  /** On the right edge of a tree that covers all keys. */
  rightEdge: boolean;
  /** All keys are greater than this; null for no bound. */
  low: KeyView | null;
  /** No key is greater than this. */
  high: KeyView;
  /** Item flags that may be set in leaves. */
  leafFlags: number;
  what: string;
}

export class BtreeBlockCheck {
  private readonly stack = new Uint16Array(BLOCK_ITEMS_MAX + 1);
  private readonly seen = new Uint32Array(BLOCK_ITEMS_MAX + 1);
  private readonly valueUnits = new Uint32Array(VALUE_UNITS);
  /** Marks of earlier blocks in the two arrays above are smaller than this. */
  private stamp = 0;

  constructor(private readonly report: Reporter) {}

  /**
   * Checks a block whose header is verified.
   * @param order receives the offsets of the items in key order
   * @returns how many items are usable; -1 if nothing in the block can be trusted
   */
  check(block: Block, e: BlockExpect, order: Uint16Array): number {
    const v = block.view;
    this.stamp++;
    const level = v.getUint8(40);
    if (level !== e.level) {
      this.bad(block, e, 'SC_BTREE_BLOCK_LEVEL', `has level ${level}, not ${e.level}`);
      return -1;
    }
    const n = v.getUint16(34, true);
    const valuesEnd = level === 0 ? BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES : BLOCK_LG_SIZE;
    if (HEADER_BYTES + n * ITEM_BYTES > valuesEnd) {
      this.bad(block, e, 'CHK_BTREE_NR_ITEMS', `claims ${n} items`);
      return -1;
    }
    this.checkFill(block, e, n);
    this.checkPadding(block, e, n);
    const usable = this.checkRange(block, e, order, this.inOrder(block, e, n, order));
    this.checkItems(block, e, n, valuesEnd);
    if (level === 0) this.checkHash(block, e, n);
    return usable;
  }

  private bad(block: Block, e: BlockExpect, id: FindingId, problem: string, keyOff = -1): void {
    this.report.finding(id, `btree block ${block.blkno} of ${e.what} ${problem}`, {
      blkno: block.blkno, ...(keyOff < 0 ? {} : { key: keyText(block.view, keyOff) }),
    });
  }

  private checkFill(block: Block, e: BlockExpect, n: number): void {
    if (e.level > 0 && n < (e.isRoot ? 2 : 1)) {
      this.bad(block, e, 'CHK_BTREE_EMPTY', `is a parent with ${n} items`);
    } else if (n === 0) {
      this.report.note('CHK_BTREE_EMPTY', `leaf ${block.blkno} of ${e.what} has no items`,
        { blkno: block.blkno });
    }
  }

  private checkPadding(block: Block, e: BlockExpect, n: number): void {
    const v = block.view;
    let dirty = v.getUint8(41) | v.getUint16(42, true) | v.getUint32(44, true);
    for (let i = 0, o = HEADER_BYTES; i < n; i++, o += ITEM_BYTES) {
      dirty |= v.getUint8(o + 7) | (v.getUint32(o + ITEM_FLAGS, true) >>> 8)
        | v.getUint8(o + ITEM_KEY + 27) | v.getUint32(o + ITEM_KEY + 28, true);
    }
    if (dirty !== 0) this.bad(block, e, 'CHK_BTREE_PAD', 'has padding that is not zero');
  }

  /** Fills `order` by following the links, or by sorting when they are broken. */
  private inOrder(block: Block, e: BlockExpect, n: number, order: Uint16Array): number {
    const problem = this.followLinks(block.view, n, order);
    const v = block.view;
    if (problem !== '') {
      this.bad(block, e, 'CHK_BTREE_AVL', problem);
    } else {
      const at = this.firstDescent(v, n, order);
      if (at === -1) return n;
      this.bad(block, e, 'CHK_BTREE_ORDER', 'has items out of order', (order[at] ?? 0) + ITEM_KEY);
    }
    const offs = Array.from({ length: n }, (_, i) => HEADER_BYTES + i * ITEM_BYTES)
      .sort((a, b) => compareKeys(v, a + ITEM_KEY, v, b + ITEM_KEY));
    let usable = 0;
    for (const o of offs) {
      const last = order[usable - 1];
      if (usable === 0 || last === undefined
        || compareKeys(v, last + ITEM_KEY, v, o + ITEM_KEY) < 0) order[usable++] = o;
    }
    return usable;
  }

  /** @returns what is wrong with the links, empty if nothing is */
  private followLinks(v: DataView, n: number, order: Uint16Array): string {
    const { stack, seen, stamp } = this;
    let node = v.getUint16(AVL_BASE, true);
    let depth = 0;
    let count = 0;
    let parent = 0;
    while (node !== 0 || depth > 0) {
      if (node === 0) {
        node = stack[--depth] ?? 0;
        order[count++] = node + AVL_BASE;
        parent = node;
        node = v.getUint16(node + AVL_BASE + 4, true);
        continue;
      }
      const index = (node - (HEADER_BYTES - AVL_BASE)) / ITEM_BYTES;
      if (!Number.isInteger(index) || index < 0 || index >= n) return `links to offset ${node}`;
      if (seen[index] === stamp) return `links item ${index} twice`;
      seen[index] = stamp;
      const off = node + AVL_BASE;
      if (v.getUint16(off, true) !== parent) return `has item ${index} with a wrong parent link`;
      stack[depth++] = node;
      parent = node;
      node = v.getUint16(off + 2, true);
    }
    return count === n ? '' : `links ${count} of its ${n} items`;
  }

  /** Index of the first item that does not come after the one before it, or -1. */
  private firstDescent(v: DataView, n: number, order: Uint16Array): number {
    for (let i = 1; i < n; i++) {
      const a = (order[i - 1] ?? 0) + ITEM_KEY;
      const b = (order[i] ?? 0) + ITEM_KEY;
      if (compareKeys(v, a, v, b) >= 0) return i;
    }
    return -1;
  }

  /** @returns how many items remain: a reader never finds leaf items outside the range */
  private checkRange(block: Block, e: BlockExpect, order: Uint16Array, n: number): number {
    if (n === 0) return 0;
    const v = block.view;
    const first = (order[0] ?? 0) + ITEM_KEY;
    const last = (order[n - 1] ?? 0) + ITEM_KEY;
    const tooLow = e.low !== null && compareKeys(v, first, e.low, 0) <= 0;
    if (tooLow) this.bad(block, e, 'CHK_BTREE_RANGE', 'has a key below its range', first);
    const toHigh = compareKeys(v, last, e.high, 0);
    if (toHigh > 0) this.bad(block, e, 'CHK_BTREE_RANGE', 'has a key above its range', last);
    if (e.level === 0) return tooLow || toHigh > 0 ? this.trim(v, e, order, n) : n;
    if (e.rightEdge && compareKeys(v, last, ONES, 0) !== 0) {
      this.bad(block, e, 'CHK_BTREE_EDGE', 'ends the tree before the greatest key', last);
    } else if (!e.rightEdge && !e.isRoot && toHigh < 0) {
      this.bad(block, e, 'SC_BTREE_NO_CHILD_REF', 'has no child for the end of its range', last);
    }
    return n;
  }

  private trim(v: DataView, e: BlockExpect, order: Uint16Array, n: number): number {
    let kept = 0;
    for (let i = 0; i < n; i++) {
      const o = order[i] ?? 0;
      if (e.low !== null && compareKeys(v, o + ITEM_KEY, e.low, 0) <= 0) continue;
      if (compareKeys(v, o + ITEM_KEY, e.high, 0) <= 0) order[kept++] = o;
    }
    return kept;
  }

  private checkItems(block: Block, e: BlockExpect, n: number, valuesEnd: number): void {
    const v = block.view;
    const itemsEnd = HEADER_BYTES + n * ITEM_BYTES;
    let bytes = 0;
    let lowest = valuesEnd;
    for (let i = 0, o = HEADER_BYTES; i < n; i++, o += ITEM_BYTES) {
      const len = v.getUint16(o + ITEM_VAL_LEN, true);
      const rounded = (len + BTREE_VALUE_ALIGN - 1) & -BTREE_VALUE_ALIGN;
      bytes += ITEM_BYTES + rounded;
      this.checkItemKind(block, e, o, len);
      const off = v.getUint16(o + ITEM_VAL_OFF, true);
      if (len === 0) {
        if (off !== 0) {
          this.bad(block, e, 'CHK_BTREE_VALUE', 'has an empty value with a place', o + ITEM_KEY);
        }
        continue;
      }
      lowest = Math.min(lowest, off);
      this.checkValue(block, e, o, off, len, off + rounded, itemsEnd, valuesEnd);
    }
    if (bytes !== v.getUint16(36, true)) {
      this.bad(block, e, 'CHK_BTREE_ITEM_BYTES',
        `has items of ${bytes} bytes, but records ${v.getUint16(36, true)}`);
    }
    if (v.getUint16(38, true) > lowest - itemsEnd) {
      this.bad(block, e, 'CHK_BTREE_MID_FREE',
        `records a free gap of ${v.getUint16(38, true)} bytes, but has ${lowest - itemsEnd}`);
    }
  }

  private checkItemKind(block: Block, e: BlockExpect, o: number, len: number): void {
    const v = block.view;
    const flags = v.getUint8(o + ITEM_FLAGS);
    if (e.level > 0) {
      if (len !== REF_BYTES || flags !== 0 || num(v, o + ITEM_SEQ) !== 0) {
        this.bad(block, e, 'CHK_BTREE_PARENT_ITEM',
          `has a child item with ${len} bytes, flags ${flags}, seq ${num(v, o + ITEM_SEQ)}`,
          o + ITEM_KEY);
      }
    } else if ((flags & ~e.leafFlags) !== 0) {
      this.bad(block, e, 'CHK_BTREE_FLAGS', `has an item with flags ${flags}`, o + ITEM_KEY);
    } else if ((flags & ITEM_FLAG_DELETION) !== 0 && len !== 0) {
      this.bad(block, e, 'CHK_BTREE_FLAGS', 'has a deletion item with a value', o + ITEM_KEY);
    }
  }

  private checkValue(block: Block, e: BlockExpect, o: number, off: number, len: number,
    end: number, itemsEnd: number, valuesEnd: number): void {
    if (len > BTREE_MAX_VAL_LEN || off % BTREE_VALUE_ALIGN !== 0 || off < itemsEnd
      || end > valuesEnd) {
      this.bad(block, e, 'CHK_BTREE_VALUE', `has a value of ${len} bytes at ${off}`, o + ITEM_KEY);
      return;
    }
    const { valueUnits, stamp } = this;
    for (let u = off / BTREE_VALUE_ALIGN; u < end / BTREE_VALUE_ALIGN; u++) {
      if (valueUnits[u] === stamp) {
        this.bad(block, e, 'CHK_BTREE_OVERLAP', `has overlapping values at ${off}`, o + ITEM_KEY);
        return;
      }
      valueUnits[u] = stamp;
    }
  }

  private checkHash(block: Block, e: BlockExpect, n: number): void {
    const v = block.view;
    const table = BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES;
    let occupied = 0;
    for (let b = 0; b < BTREE_LEAF_ITEM_HASH_NR; b++) {
      if (v.getUint16(table + b * 2, true) !== 0) occupied++;
    }
    if (occupied !== n) {
      this.bad(block, e, 'CHK_BTREE_HASH', `has ${occupied} hash buckets for ${n} items`);
    }
    for (let i = 0, o = HEADER_BYTES; i < n; i++, o += ITEM_BYTES) {
      let b = leafHashBucket(bytesAt(v, o + ITEM_KEY, KEY_BYTES));
      let bucket = v.getUint16(table + b * 2, true);
      for (let probes = 1; bucket !== o && bucket !== 0 && probes < BTREE_LEAF_ITEM_HASH_NR;
        probes++) {
        b = (b + 1) % BTREE_LEAF_ITEM_HASH_NR;
        bucket = v.getUint16(table + b * 2, true);
      }
      if (bucket !== o) {
        this.bad(block, e, 'CHK_BTREE_HASH', 'has an item the hash table does not find',
          o + ITEM_KEY);
        return;
      }
    }
  }

  /** True if the value of the item at `o` can be read; whether it overlaps another or not. */
  static valueUsable(v: DataView, o: number, level: number): boolean {
    const len = v.getUint16(o + ITEM_VAL_LEN, true);
    if (level > 0 && len !== REF_BYTES) return false;
    const end = level === 0 ? BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES : BLOCK_LG_SIZE;
    return len <= BTREE_MAX_VAL_LEN && v.getUint16(o + ITEM_VAL_OFF, true) + len <= end;
  }
}
