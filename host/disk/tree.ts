/**
 * Walks metadata trees for the dump: btrees, alloc lists, srch files.
 *
 * This reader shows what is there, so it goes on where it can: a block whose
 * checksum or header is wrong is still shown and the walk of its tree ends there.
 * What keeps it from going astray is bounds: every offset is held against the
 * block, every block number against the device, no block is followed twice in one
 * walk, and trees are no deeper than they may be.
 *
 * Spec: format.md 9, 10.2, 13.1.
 */
import {
  BLOCK_LG_SIZE, BTREE_LEAF_ITEM_HASH_BYTES, BTREE_LEAF_ITEM_HASH_NR, BTREE_MAX_HEIGHT,
  BTREE_MAX_VAL_LEN, BlockRef, BtreeBlock, BtreeItem, Key,
} from '../core/format.js';
import { UNITS, deviceBlocks, viewOf } from './block.js';
import type { Device } from '../env/device.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';

/** Where `item_root` lies; AVL offsets count from there. */
const AVL_BASE = 32;
const HASH_START = BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES;

/** A large block as it lies on the device, with its header's numbers as they are. */
export interface LargeBlock {
  bytes: Uint8Array;
  view: DataView;
  blkno: number;
}

/** An item of a btree block. `off` is its offset in the block. */
export interface TreeItem {
  off: number;
  key: Key;
  /** Raw, since a damaged item may hold any number. */
  seq: bigint;
  valOff: number;
  flags: number;
  valLen: number;
  /** View of the value; empty when it does not lie inside the block. */
  val: DataView;
}

/** Receives what a walk finds, parents before children. */
export interface TreeVisitor {
  block(block: LargeBlock, items: readonly TreeItem[]): void;
  /** A block that cannot be read or followed. */
  problem(text: string): void;
}

export interface Walker {
  /** Reads a block. @throws BLOCK_RANGE, DEVICE_IO (EIO) */
  read(blkno: number): LargeBlock;
  /** Visits every block of a btree. */
  btree(ref: BlockRef, height: number, visitor: TreeVisitor): void;
}

function itemAt(view: DataView, off: number): TreeItem {
  const valOff = view.getUint16(off + 48, true);
  const valLen = view.getUint16(off + 50, true);
  const fits = valLen <= BTREE_MAX_VAL_LEN && valOff + valLen <= BLOCK_LG_SIZE;
  return {
    off,
    key: Key.read(view, off + 8),
    seq: view.getBigUint64(off + 40, true),
    valOff,
    valLen,
    flags: view.getUint8(off + 52),
    val: new DataView(view.buffer, view.byteOffset + (fits ? valOff : 0), fits ? valLen : 0),
  };
}

/**
 * Items of a btree block in key order, as its links give it. Ends early where the
 * links leave the item array or come back.
 */
export function itemsInOrder(view: DataView): TreeItem[] {
  const nr = view.getUint16(34, true);
  const end = Math.min(BtreeBlock.size + nr * BtreeItem.size, BLOCK_LG_SIZE);
  const items: TreeItem[] = [];
  const path: number[] = [];
  const seen = new Set<number>();
  let node = view.getUint16(AVL_BASE, true);
  while (node !== 0 || path.length > 0) {
    if (node !== 0) {
      const off = node + AVL_BASE;
      if (seen.has(off) || off < BtreeBlock.size || off + BtreeItem.size > end) return items;
      seen.add(off);
      path.push(off);
      node = view.getUint16(off + 2, true);
    } else {
      const off = path.pop() ?? 0;
      items.push(itemAt(view, off));
      node = view.getUint16(off + 4, true);
    }
  }
  return items;
}

/** Occupied buckets of a leaf's hash table: number and item offset. */
export function hashBuckets(view: DataView): [bucket: number, off: number][] {
  const found: [number, number][] = [];
  for (let b = 0; b < BTREE_LEAF_ITEM_HASH_NR; b++) {
    const off = view.getUint16(HASH_START + 2 * b, true);
    if (off !== 0) found.push([b, off]);
  }
  return found;
}

/** A walker over a metadata device, reading with `readSync`. */
export function makeWalker(meta: Device): Walker {
  const blocks = deviceBlocks(meta, 'large');
  const read = (blkno: number): LargeBlock => {
    if (blkno < 1 || blkno >= blocks) {
      throw new ScoutfsError('BLOCK_RANGE', 'EIO', {
        message: `block ${blkno} is outside the device (${blocks} blocks)`,
      });
    }
    const bytes = new Uint8Array(UNITS.large.bytes);
    meta.readSync(blkno * UNITS.large.bytes, bytes);
    return { bytes, view: viewOf(bytes), blkno };
  };
  const btree = (ref: BlockRef, height: number, visitor: TreeVisitor): void => {
    const seen = new Set<number>();
    const visit = (r: BlockRef, level: number): void => {
      if (seen.has(r.blkno)) {
        visitor.problem(`block ${r.blkno} is reached twice`);
        return;
      }
      seen.add(r.blkno);
      let block: LargeBlock;
      try {
        block = read(r.blkno);
      } catch (e) {
        visitor.problem(asScoutfsError(e).message);
        return;
      }
      const items = itemsInOrder(block.view);
      visitor.block(block, items);
      const found = block.view.getUint8(40);
      if (found !== level) {
        visitor.problem(`block ${r.blkno} has level ${found}, not ${level}`);
        return;
      }
      if (level === 0) return;
      for (const item of items) {
        if (item.val.byteLength < BlockRef.size) {
          visitor.problem(`block ${r.blkno} has a child reference of ${item.valLen} bytes`);
          continue;
        }
        visit(rawRef(item.val, 0), level - 1);
      }
    };
    if (ref.blkno === 0 || height === 0) return;
    if (height > BTREE_MAX_HEIGHT) {
      visitor.problem(`height ${height} is more than ${BTREE_MAX_HEIGHT}`);
      return;
    }
    visit(ref, height - 1);
  };
  return { read, btree };
}

/** A block reference whose number may be nonsense: out of range instead of an error. */
export function rawRef(v: DataView, o: number): BlockRef {
  return { blkno: Number(v.getBigUint64(o, true)), seq: v.getBigUint64(o + 8, true) };
}
