/**
 * Btree leaves as mkfs builds them: items appended in key order, each new one the
 * parent of the previous, so that the sorted tree of a block is a chain that leans
 * left.
 *
 * The heights are upstream's: the new root takes the height the previous item has
 * and that one grows by one, which is no valid height assignment. Readers use the
 * links only and changes recompute heights, so it does no harm; we write the same
 * bytes.
 *
 *   ╒══════════╤═════════════╤══════════════╤══════════════╤═══════════════════╕
 *   │ header 48│ items 56 n  │ free         │ values       │ hash table 2·1512 │
 *   ╘══════════╧═════════════╧══════════════╧══════════════╧═══════════════════╛
 *
 * Spec: mkfs.md 4.1; format.md 9.1, 9.3.
 */
import {
  AvlNode, BLOCK_LG_SIZE, BLOCK_MAGIC_BTREE, BTREE_LEAF_ITEM_HASH_BYTES, BTREE_LEAF_ITEM_HASH_NR,
  BTREE_VALUE_ALIGN, BtreeBlock, BtreeItem,
} from '../core/format.js';
import type { Key } from '../core/format.js';
import { keyBytes, leafHashBucket } from '../core/keys.js';
import { newBlock, sealBlock, viewOf } from './block.js';

export interface LeafItem {
  key: Key;
  value?: Uint8Array;
}

/** Where `item_root` lies; AVL offsets count from there. */
const AVL_BASE = 32;
const VALUES_END = BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES;

function itemOffset(i: number): number {
  return BtreeBlock.size + BtreeItem.size * i;
}

function avlOffset(i: number): number {
  return itemOffset(i) - AVL_BASE;
}

function hashInsert(v: DataView, key: Key, offset: number): void {
  for (let b = leafHashBucket(keyBytes(key)); ; b = (b + 1) % BTREE_LEAF_ITEM_HASH_NR) {
    const at = VALUES_END + 2 * b;
    if (v.getUint16(at, true) === 0) {
      v.setUint16(at, offset, true);
      return;
    }
  }
}

/** A sealed leaf with `items`, which are few and in key order. */
export function buildLeaf(fsid: bigint, blkno: number, seq: number,
  items: readonly LeafItem[]): Uint8Array {
  const block = newBlock('large');
  const v = viewOf(block);
  const nodes: AvlNode[] = [];
  let totalItemBytes = 0;
  let valuesStart = VALUES_END;
  items.forEach((item, i) => {
    const node = { parent: 0, left: 0, right: 0, height: 0 };
    const prev = nodes[i - 1];
    if (prev !== undefined) {
      node.height = prev.height;
      node.left = avlOffset(i - 1);
      prev.height++;
      prev.parent = avlOffset(i);
    }
    nodes.push(node);
    const valLen = item.value?.length ?? 0;
    const valBytes = Math.ceil(valLen / BTREE_VALUE_ALIGN) * BTREE_VALUE_ALIGN;
    valuesStart -= valBytes;
    totalItemBytes += BtreeItem.size + valBytes;
    if (item.value !== undefined) block.set(item.value, valuesStart);
    BtreeItem.write(v, itemOffset(i), {
      node, key: item.key, seq, valOff: valLen === 0 ? 0 : valuesStart, valLen, flags: 0,
    });
    hashInsert(v, item.key, itemOffset(i));
  });
  nodes.forEach((node, i) => { AvlNode.write(v, itemOffset(i), node); });
  const hdr = { magic: BLOCK_MAGIC_BTREE, fsid, seq: BigInt(seq), blkno };
  BtreeBlock.write(v, 0, {
    hdr: { crc: 0, ...hdr }, itemRoot: { node: avlOffset(items.length - 1) },
    nrItems: items.length, totalItemBytes, midFreeLen: valuesStart - itemOffset(items.length),
    level: 0,
  });
  sealBlock(block, hdr);
  return block;
}
