/**
 * Damage to super blocks, quorum blocks, headers and the inside of btree blocks.
 */
import { BLOCK_LG_SIZE, BlockRef } from '../../host/core/format.js';
import { ONES_KEY, compareKey, encode, item, key, viewOf } from '../lib/damage.js';
import type { Case, Victim } from '../lib/damage.js';

const SUPER = 16;
const QUORUM = 17;
const HASH_TABLE = BLOCK_LG_SIZE - 3024;

const bytesInSuper = (fn: (v: DataView) => void, dev: 'meta' | 'data' = 'meta') =>
  (v: Victim): void => { v.editSmall(dev, SUPER, fn); };
const inQuorum = (fn: (v: DataView) => void, crc = true) =>
  (v: Victim): void => { v.editSmall('meta', QUORUM, fn, crc); };

export const SUPER_CASES: Case[] = [
  { id: 'CHK_SUPER_MAGIC', what: 'magic', hurt: bytesInSuper((b) => { b.setUint32(4, 1, true); }) },
  { id: 'CHK_SUPER_MAGIC', what: 'block number',
    hurt: bytesInSuper((b) => { b.setUint32(24, 17, true); }) },
  { id: 'CHK_SUPER_CRC', what: 'checksum',
    hurt: (v) => { v.editSmall('meta', SUPER, (b) => { b.setUint8(100, 77); }, false); } },
  { id: 'CHK_SUPER_CRC', what: 'checksum of the data device',
    hurt: (v) => { v.editSmall('data', SUPER, (b) => { b.setUint8(4000, 1); }, false); } },
  { id: 'CHK_SUPER_VERSION', what: 'version 3',
    hurt: (v) => { v.editSuper((s) => { s.fmtVers = 3; }); } },
  { id: 'CHK_SUPER_VERSION', what: 'versions differ',
    hurt: bytesInSuper((b) => { b.setUint8(40, 1); }, 'data') },
  { id: 'CHK_SUPER_FLAGS', what: 'two metadata devices',
    hurt: bytesInSuper((b) => { b.setUint8(48, 1); }, 'data') },
  { id: 'CHK_SUPER_UUID', what: 'devices of two volumes',
    hurt: bytesInSuper((b) => { b.setUint8(60, b.getUint8(60) ^ 1); }, 'data') },
  { id: 'CHK_SUPER_SIZE', what: 'more blocks than the device has',
    hurt: (v) => { v.editSuper((s) => { s.totalMetaBlocks *= 2; }); } },
  { id: 'CHK_SUPER_SIZE', what: 'the data copy does not fit',
    hurt: bytesInSuper((b) => { b.setUint32(108, 1, true); }, 'data') },
  { id: 'CHK_SUPER_FIELD', what: 'id', hurt: (v) => { v.editSuper((s) => { s.id = 1; }); } },
  { id: 'CHK_SUPER_FIELD', what: 'a count above 2^53',
    hurt: bytesInSuper((b) => { b.setUint32(92, 0xffffffff, true); }) },
  { id: 'CHK_SUPER_PAD', what: 'bytes behind the structure',
    hurt: bytesInSuper((b) => { b.setUint8(2000, 1); }) },
  { id: 'CHK_SUPER_PAD', what: 'padding of a root',
    hurt: bytesInSuper((b) => { b.setUint8(848 + 20, 1); }) },
  { id: 'CHK_SUPER_SEQ', what: 'a log tree has a later seq',
    hurt: (v) => { v.editLog(1, (lt) => { lt.finalizeSeq = v.sb().seq + 1; }); } },
  { id: 'CHK_SUPER_VOLOPT', what: 'unknown option',
    hurt: (v) => { v.editSuper((s) => { s.volopt.setBits = 2n; }); } },
  { id: 'CHK_SUPER_VOLOPT', what: 'zone size without its bit',
    hurt: (v) => { v.editSuper((s) => { s.volopt.dataAllocZoneBlocks = 1048576; }); } },
  { id: 'CHK_QUORUM_CONFIG', what: 'two slots with one address', hurt: (v) => {
    v.editSuper((s) => {
      const [a, b] = s.qconf.slots;
      if (a !== undefined && b !== undefined) b.addr = a.addr;
    });
  } },
  { id: 'CHK_QUORUM_BLOCK', what: 'checksum',
    hurt: inQuorum((b) => { b.setUint8(50, 9); }, false) },
  { id: 'CHK_QUORUM_BLOCK', what: 'block number', hurt: inQuorum((b) => { b.setUint8(24, 9); }) },
  { id: 'CHK_QUORUM_EVENT', what: 'an event from the future',
    hurt: inQuorum((b) => { b.setUint32(40, 1000, true); }) },
];

const fsLeaf = (v: Victim): number => v.sb().fsRoot.ref.blkno;
/** Root of the log tree of height 2. */
const parent = (v: Victim): number => v.logs().find((l) => l.itemRoot.height === 2)?.itemRoot.ref
  .blkno ?? 0;
const inLeaf = (fn: (v: DataView) => void) => (v: Victim): void => { v.editBlock(fsLeaf(v), fn); };
const add16 = (b: DataView, o: number, n: number): void => {
  b.setUint16(o, b.getUint16(o, true) + n, true);
};

const childOf = (v: Victim, n: number): number => {
  const items = v.readNode(parent(v)).items.sort((a, b) => compareKey(a.key, b.key));
  const it = items[n];
  return it === undefined ? 0 : BlockRef.read(viewOf(it.value), 0).blkno;
};

export const BLOCK_CASES: Case[] = [
  { id: 'CHK_REF_RANGE', what: 'root behind the end of the device',
    hurt: (v) => { v.editSuper((s) => { s.srchRoot.ref.blkno = s.totalMetaBlocks; }); } },
  { id: 'CHK_REF_RANGE', what: 'root in the reserved area',
    hurt: (v) => { v.editSuper((s) => { s.fsRoot.ref.blkno = 1; }); } },
  { id: 'CHK_BLOCK_CRC', what: 'one bit',
    hurt: (v) => { v.editBlock(fsLeaf(v), (b) => { b.setUint8(9999, 1); }, false); } },
  { id: 'CHK_BLOCK_MAGIC', what: 'magic of another type', hurt: inLeaf((b) => {
    b.setUint32(4, 0x8a93ac83, true);
  }) },
  { id: 'CHK_BLOCK_FSID', what: 'fsid',
    hurt: inLeaf((b) => { b.setUint8(8, b.getUint8(8) ^ 1); }) },
  { id: 'CHK_BLOCK_SEQ', what: 'an older version', hurt: inLeaf((b) => { b.setUint8(16, 99); }) },
  { id: 'CHK_BLOCK_BLKNO', what: 'written to the wrong place',
    hurt: inLeaf((b) => { b.setUint8(24, 99); }) },
  { id: 'CHK_BLOCK_MAGIC', what: 'a bloom reference to a btree block',
    also: ['CHK_META_USED_TWICE'],
    hurt: (v) => { v.editLog(0, (lt) => { lt.bloomRef = { ...lt.itemRoot.ref }; }); } },
  { id: 'CHK_BTREE_ROOT', what: 'height without a block',
    hurt: (v) => { v.editSuper((s) => { s.mountedClients.height = 1; }); } },
  { id: 'CHK_BTREE_ROOT', what: 'height 21',
    hurt: (v) => { v.editSuper((s) => { s.fsRoot.height = 21; }); } },
  { id: 'SC_BTREE_BLOCK_LEVEL', what: 'height 2 over a leaf',
    hurt: (v) => { v.editSuper((s) => { s.fsRoot.height = 2; }); } },
  { id: 'SC_BTREE_BLOCK_LEVEL', what: 'level', hurt: inLeaf((b) => { b.setUint8(40, 3); }) },
  { id: 'CHK_BTREE_NR_ITEMS', what: 'more items than fit',
    hurt: inLeaf((b) => { b.setUint16(34, 5000, true); }) },
  { id: 'CHK_BTREE_AVL', what: 'a link out of the array',
    hurt: inLeaf((b) => { b.setUint16(32, 60001, true); }) },
  { id: 'CHK_BTREE_AVL', what: 'a circle', hurt: inLeaf((b) => {
    b.setUint16(b.getUint16(32, true) + 32 + 2, b.getUint16(32, true), true);
  }) },
  { id: 'CHK_BTREE_AVL', what: 'a subtree cut off', hurt: inLeaf((b) => {
    b.setUint16(b.getUint16(32, true) + 32 + 4, 0, true);
  }) },
  { id: 'CHK_BTREE_AVL', what: 'a wrong parent link', hurt: inLeaf((b) => {
    b.setUint16(b.getUint16(32, true) + 32, 16, true);
  }) },
  { id: 'CHK_BTREE_ORDER', what: 'children exchanged', hurt: inLeaf((b) => {
    const o = b.getUint16(32, true) + 32;
    const left = b.getUint16(o + 2, true);
    b.setUint16(o + 2, b.getUint16(o + 4, true), true);
    b.setUint16(o + 4, left, true);
  }) },
  { id: 'CHK_BTREE_RANGE', what: 'a key above the range of its leaf',
    hurt: (v) => {
      v.editNode(childOf(v, 0),
        (items) => [...items, item(key(16, 1, 24, 0), new Uint8Array(4), 9n)]);
    } },
  { id: 'CHK_BTREE_RANGE', what: 'a key below the range of its leaf',
    hurt: (v) => {
      v.editNode(childOf(v, 1), (items) => [...items, item(key(4, 0, 4, 1, 0, 1), undefined, 9n)]);
    } },
  { id: 'CHK_BTREE_EDGE', what: 'the last child does not reach the greatest key', hurt: (v) => {
    v.editNode(parent(v), (items) => items.map((i) =>
      (compareKey(i.key, ONES_KEY) === 0 ? { ...i, key: key(254, 0, 0) } : i)));
  } },
  { id: 'SC_BTREE_NO_CHILD_REF', what: 'an inner parent does not reach its bound', hurt: (v) => {
    const log = v.logs().findIndex((l) => l.itemRoot.height === 2);
    const { items } = v.readNode(parent(v));
    items.sort((a, b) => compareKey(a.key, b.key));
    const half = items.length >> 1;
    const bound = items[half - 1]?.key;
    if (bound === undefined) return;
    const left = v.newNode(1, items.slice(0, half));
    const right = v.newNode(1, items.slice(half));
    v.editLog(log, (lt) => {
      lt.itemRoot.height = 3;
    });
    v.writeNode(parent3(v, log), 2, [
      item({ ...bound, fourth: bound.fourth + 1 }, encode(BlockRef, left), 0n),
      item(ONES_KEY, encode(BlockRef, right), 0n)]);
  } },
  { id: 'CHK_BTREE_HASH', what: 'a bucket emptied', hurt: inLeaf((b) => {
    for (let i = HASH_TABLE; i < BLOCK_LG_SIZE; i += 2) {
      if (b.getUint16(i, true) === 48) b.setUint16(i, 0, true);
    }
  }) },
  { id: 'CHK_BTREE_HASH', what: 'an item in the wrong bucket', hurt: inLeaf((b) => {
    let from = 0;
    for (let i = HASH_TABLE; i < BLOCK_LG_SIZE; i += 2) {
      if (b.getUint16(i, true) === 48) from = i;
    }
    b.setUint16(from, 0, true);
    const empty = Array.from({ length: 1512 }, (_, i) => HASH_TABLE + i * 2)
      .find((o) => Math.abs(o - from) > 200 && b.getUint16(o, true) === 0
        && b.getUint16(o - 2, true) === 0) ?? HASH_TABLE;
    b.setUint16(empty, 48, true);
  }) },
  { id: 'CHK_BTREE_ITEM_BYTES', what: 'total_item_bytes',
    hurt: inLeaf((b) => { add16(b, 36, 8); }) },
  { id: 'CHK_BTREE_MID_FREE', what: 'mid_free_len', hurt: inLeaf((b) => { add16(b, 38, 8); }) },
  { id: 'CHK_BTREE_VALUE', what: 'a value offset that is not aligned',
    hurt: (v) => { moveValue(v, 4); } },
  { id: 'CHK_BTREE_VALUE', what: 'an empty value with a place', hurt: inLeaf((b) => {
    for (let o = 48; ; o += 56) {
      if (b.getUint16(o + 50, true) !== 0) continue;
      b.setUint16(o + 48, 800, true);
      return;
    }
  }) },
  { id: 'CHK_BTREE_OVERLAP', what: 'two items with one value',
    hurt: (v) => { moveValue(v, 0); } },
  { id: 'CHK_BTREE_PAD', what: 'padding of an item',
    hurt: inLeaf((b) => { b.setUint8(48 + 54, 1); }) },
  { id: 'CHK_BTREE_PAD', what: 'padding of a key', also: ['CHK_BTREE_HASH'],
    hurt: inLeaf((b) => { b.setUint8(48 + 8 + 30, 1); }) },
  { id: 'CHK_BTREE_PARENT_ITEM', what: 'a parent item with a seq',
    hurt: (v) => { v.editBlock(parent(v), (b) => { b.setUint8(48 + 40, 1); }); } },
  { id: 'CHK_BTREE_PARENT_ITEM', what: 'a reference of one byte at the end of its block',
    also: ['CHK_BTREE_ITEM_BYTES', 'CHK_BTREE_VALUE'],
    hurt: (v) => {
      v.editBlock(parent(v), (b) => {
        b.setUint16(48 + 48, 65535, true);
        b.setUint16(48 + 50, 1, true);
      });
    } },
  { id: 'CHK_BTREE_FLAGS', what: 'a deletion item in the fs tree', hurt: (v) => {
    v.addItems(item(key(16, 400, 4), undefined, 5n, 1));
  } },
  { id: 'CHK_BTREE_EMPTY', what: 'a root with one child', hurt: (v) => {
    const root = v.newNode(1, [item(ONES_KEY, encode(BlockRef, v.sb().fsRoot.ref), 0n)]);
    v.editSuper((s) => { s.fsRoot = { ref: root, height: 2 }; });
  } },
  { id: 'CHK_META_USED_TWICE', what: 'a tree that leads back to itself', hurt: (v) => {
    const p = parent(v);
    v.editNode(p, (items) => items.map((i, n) => (n !== 0 ? i
      : { ...i, value: encode(BlockRef, { blkno: p, seq: 1n }) })));
  } },
];

function parent3(v: Victim, log: number): number {
  return v.logs()[log]?.itemRoot.ref.blkno ?? 0;
}

/**
 * Points the link backref of "pipe" at the same bytes in another place: those of its
 * dirent, or with a shift a copy in the free gap.
 */
function moveValue(v: Victim, shift: number): void {
  v.editBlock(fsLeaf(v), (b, bytes) => {
    const offs = Array.from({ length: b.getUint16(34, true) }, (_, i) => 48 + i * 56)
      .filter((o) => {
        const val = b.getUint16(o + 48, true);
        return Buffer.from(bytes.subarray(val + 32, val + 36)).toString() === 'pipe';
      });
    const ofType = (type: number): number =>
      offs.find((o) => b.getUint8(o + 8 + 26) === type) ?? 0;
    let to = b.getUint16(ofType(12) + 48, true);
    if (shift !== 0) {
      const gap = 48 + b.getUint16(34, true) * 56;
      bytes.copyWithin(gap + shift, to, to + 36);
      to = gap + shift;
      b.setUint16(38, 0, true);
    }
    b.setUint16(ofType(20) + 48, to, true);
  });
}
