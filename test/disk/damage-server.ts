/**
 * Damage to free space, log trees, merges and srch files.
 */
import { BLOCK_MAGIC_BTREE, BlockRef, LogMergeComplete, LogMergeFreeing, LogMergeRequest,
  LogMergeStatus, SrchCompact, SrchFile } from '../../host/core/format.js';
import type { AllocListHead, AllocRoot } from '../../host/core/format.js';
import type { Case, Item, Victim } from '../lib/damage.js';
import { ONES_KEY, encode, item, key, viewOf } from '../lib/damage.js';
import { firstFree, freeItems, mergeItem, writeEntry } from '../lib/rich.js';

type Hurt = Case['hurt'];

const metaAlloc = (v: Victim, n = 0): AllocRoot => at(v.sb().metaAlloc, n);
const list = (v: Victim): AllocListHead => at(v.sb().serverMetaAvail, 0);

function at<T>(a: T[], n: number): T {
  const x = a[n];
  if (x === undefined) throw new Error(`no element ${n}`);
  return x;
}

/** Edits the leaf of a free extent tree. */
const inTree = (fn: (items: Item[], v: Victim) => Item[], n = 0): Hurt => (v) => {
  v.editNode(metaAlloc(v, n).root.ref.blkno, (items) => fn(items, v));
};

export const FREE_CASES: Case[] = [
  { id: 'CHK_ALLOC_EXTENT', what: 'behind the end of the device',
    hurt: inTree((items, v) => [...items, ...freeItems(v.sb().totalMetaBlocks + 5, 3)]) },
  { id: 'CHK_ALLOC_OVERLAP', what: 'touching extents', hurt: inTree((items) => {
    const e = at(items.filter((i) => i.key.zone === 36), 0).key;
    const end = Number(e.first);
    const len = Number(e.second);
    return [...items.filter((i) => Number(i.key.zone === 36 ? i.key.first : i.key.second) !== end),
      ...freeItems(end - len + 1, 5), ...freeItems(end - len + 6, len - 5)];
  }) },
  { id: 'CHK_ALLOC_PAIR', what: 'missing by size', hurt: inTree((items) => {
    const last = at(items.filter((i) => i.key.zone === 40), 0);
    return items.filter((i) => i !== last);
  }) },
  { id: 'CHK_ALLOC_PAIR', what: 'missing by location', also: ['CHK_ALLOC_TOTAL', 'CHK_META_LOST'],
    hurt: inTree((items) => {
      const small = at(items.filter((i) => i.key.zone === 36)
        .sort((a, b) => Number(a.key.second - b.key.second)), 0);
      return items.filter((i) => i !== small);
    }) },
  { id: 'CHK_ALLOC_PAIR', what: 'under the wrong order', hurt: inTree((items) => items.map((i) =>
    (i.key.zone === 40 ? { ...i, key: { ...i.key, first: i.key.first - 1n } } : i))) },
  { id: 'CHK_ALLOC_TOTAL', what: 'total_len', hurt: (v) => {
    v.editSuper((s) => { at(s.metaAlloc, 1).totalLen++; });
  } },
  { id: 'CHK_ALLOC_FLAGS', what: 'unknown flag of a tree', hurt: (v) => {
    v.editSuper((s) => { at(s.metaAlloc, 0).flags = 2; });
  } },
  { id: 'CHK_ALLOC_FLAGS', what: 'unknown flag of a list', hurt: (v) => {
    v.editSuper((s) => { at(s.serverMetaAvail, 0).flags = 4; });
  } },
  { id: 'CHK_ALLOC_LIST', what: 'total_nr', hurt: (v) => {
    v.editSuper((s) => { at(s.serverMetaAvail, 0).totalNr++; });
  } },
  { id: 'CHK_ALLOC_LIST', what: 'first_nr', hurt: (v) => {
    v.editSuper((s) => { at(s.serverMetaAvail, 0).firstNr--; });
  } },
  { id: 'CHK_ALLOC_LIST', what: 'a window out of the array', hurt: (v) => {
    v.editBlock(list(v).ref.blkno, (b) => { b.setUint32(48, 8000, true); });
  } },
  { id: 'CHK_ALLOC_LIST', what: 'a number out of range', also: ['CHK_META_LOST'], hurt: (v) => {
    const o = 56 + 8 * v.readBlock(list(v).ref.blkno).reduce((n, x, i) =>
      n + (i >= 48 && i < 52 ? x * 256 ** (i - 48) : 0), 0);
    v.editBlock(list(v).ref.blkno, (b) => { b.setUint32(o + 4, 1, true); });
  } },
  { id: 'CHK_META_FREE_TWICE', what: 'a listed block that is in an extent', hurt: (v) => {
    const freed = v.newList(0x8a93ac83, [firstFree(v)]);
    v.editSuper((s) => { s.serverMetaFreed[0] = freed; });
  } },
  { id: 'CHK_META_FREE_USED', what: 'a tree block that is listed as free', hurt: (v) => {
    const freed = v.newList(0x8a93ac83, [v.sb().fsRoot.ref.blkno]);
    v.editSuper((s) => { s.serverMetaFreed[0] = freed; });
  } },
  { id: 'CHK_META_LOST', what: 'a number that left its list', hurt: (v) => { v.allocMeta(); } },
  { id: 'CHK_LOST_MERGE', what: 'a level-1 block of a merged tree', note: true,
    hurt: (v) => {
      const child = { blkno: firstFree(v), seq: 4n };
      v.newNode(1, [item(key(16, 9, 4), encode(BlockRef, child), 0n)]);
    } },
  { id: 'CHK_META_LOST', what: 'a level-1 block whose leaf is still in use', hurt: (v) => {
    v.newNode(1, [item(key(16, 9, 4), encode(BlockRef, v.sb().fsRoot.ref), 0n)]);
  } },
  { id: 'CHK_META_LOST', what: 'a level-1 block of server items', hurt: (v) => {
    const child = { blkno: firstFree(v), seq: 4n };
    v.newNode(1, [item(key(24, 9, 0), encode(BlockRef, child), 0n)]);
  } },
  { id: 'CHK_LOST_SRCH', what: 'a leaf of a compaction', note: true,
    hurt: (v) => { v.newBlock(0x897e4a7d); } },
  { id: 'CHK_META_LOST', what: 'a leaf nobody refers to', hurt: (v) => {
    v.newBlock(BLOCK_MAGIC_BTREE);
  } },
  { id: 'CHK_LOG_KEY', what: 'rid',
    hurt: (v) => { v.editLog(0, (lt) => { lt.rid ^= 1n; }); } },
  { id: 'CHK_LOG_FINALIZED', what: 'space of a finalized tree', hurt: (v) => {
    const avail = v.newList(0x8a93ac83, [v.allocMeta()]);
    v.editLog(0, (lt) => { lt.metaAvail = avail; });
  } },
  { id: 'CHK_LOG_FINALIZED', what: 'no finalize seq',
    hurt: (v) => { v.editLog(0, (lt) => { lt.finalizeSeq = 0; }); } },
  { id: 'CHK_LOG_FLAGS', what: 'unknown flag',
    hurt: (v) => { v.editLog(0, (lt) => { lt.flags = 3; }); } },
  { id: 'CHK_LOG_ABANDONED', what: 'open without a mount', note: true, hurt: (v) => {
    v.editLog(0, (lt) => {
      lt.flags = 0;
      lt.finalizeSeq = 0;
    });
  } },
  { id: 'CHK_BLOOM', what: 'a bit cleared', hurt: (v) => {
    v.editBlock(at(v.logs(), 0).bloomRef.blkno, (b, bytes) => {
      const i = bytes.findIndex((x, n) => n >= 40 && x !== 0);
      b.setUint8(i, 0);
    });
  } },
  { id: 'CHK_BLOOM', what: 'total_set', hurt: (v) => {
    v.editBlock(at(v.logs(), 0).bloomRef.blkno, (b) => { b.setUint8(32, b.getUint8(32) + 1); });
  } },
  { id: 'CHK_BLOOM', what: 'items without a bloom block', also: ['CHK_META_LOST'], hurt: (v) => {
    v.editLog(0, (lt) => { lt.bloomRef = { blkno: 0, seq: 0n }; });
  } },
  { id: 'CHK_ITEM_VALUE', what: 'padding of a log trees item', hurt: (v) => {
    v.editNode(v.sb().logsRoot.ref.blkno, (items) => {
      at(items, 0).value[85] = 1;
      return items;
    });
  } },
  { id: 'CHK_ALLOC_LIST', what: 'an empty list with a seq', hurt: (v) => {
    v.editSuper((s) => { at(s.serverMetaFreed, 0).ref.seq = 5n; });
  } },
  { id: 'CHK_LOG_SEQ', what: 'an item newer than max_item_seq',
    hurt: (v) => { v.editLog(0, (lt) => { lt.maxItemSeq = 3; }); } },
];

export const LOG_CASES: Case[] = [
  { id: 'CHK_LOG_SEQ', what: 'committed before it was opened',
    hurt: (v) => { v.editLog(0, (lt) => { lt.commitTransSeq = lt.getTransSeq + 1; }); } },
  { id: 'CHK_LOG_FINALIZED', what: 'open with a finalize seq',
    hurt: (v) => { v.editLog(0, (lt) => { lt.finalizeSeq = 1; }); } },
  { id: 'CHK_LOG_OPEN', what: 'an open tree behind a later one', hurt: (v) => {
    v.editNode(v.sb().logsRoot.ref.blkno, (items) => {
      const it = at(items, 0);
      const later = it.value.slice();
      const b = viewOf(later);
      later.fill(0, 0, 272);
      b.setBigInt64(408, 0n, true);
      b.setUint32(456, 2, true);
      return [...items, { ...it, key: { ...it.key, second: 2n }, value: later }];
    });
  } },
  { id: 'CHK_LOG_ZONES', what: 'zones that miss free data', hurt: (v) => {
    v.editLog(0, (lt) => {
      lt.dataAllocZoneBlocks = 50000;
      lt.dataAllocZones[0] = 1n;
    });
  } },
  { id: 'CHK_CLIENT', what: 'unknown flag', hurt: (v) => {
    v.editNode(v.sb().mountedClients.ref.blkno, (items) => {
      at(items, 0).value[32] = 3;
      return items;
    });
  } },
  { id: 'CHK_CLIENT_QUORUM', what: 'a member that is in no quorum block', note: true,
    also: ['CHK_CLIENT_MOUNTED', 'CHK_LOG_ABANDONED'], hurt: (v) => {
      v.editNode(v.sb().mountedClients.ref.blkno, (items) => items.map((i) =>
        ({ ...i, key: { ...i.key, first: 5n } })));
    } },
  { id: 'CHK_ITEM_VALUE', what: 'a short client item', hurt: (v) => {
    v.editNode(v.sb().mountedClients.ref.blkno, (items) => items.map((i) =>
      ({ ...i, value: i.value.slice(0, 32) })));
  } },
  { id: 'CHK_ALLOC_TOTAL', what: 'data_avail', hurt: (v) => {
    v.editLog(0, (lt) => { lt.dataAvail.totalLen -= 1; });
  } },
  { id: 'CHK_SRCH_FILE', what: 'entries of the open srch file', hurt: (v) => {
    v.editLog(0, (lt) => { lt.srchFile.entries++; });
  } },
  { id: 'CHK_SRCH_BOUNDS', what: 'bounds wider than the entries', hurt: (v) => {
    v.editLog(0, (lt) => { lt.srchFile.last.ino += 1000n; });
  } },
];

const mergeNode = (fn: (items: Item[]) => Item[]): Hurt => (v) => {
  v.editNode(v.sb().logMerge.ref.blkno, fn);
};
const inMerge = (zone: number, fn: (i: Item) => Item | null): Hurt => mergeNode((items) =>
  items.flatMap((i) => {
    if (i.key.zone !== zone) return [i];
    const changed = fn(i);
    return changed === null ? [] : [changed];
  }));

export const MERGE_CASES: Case[] = [
  { id: 'CHK_MERGE_STATUS', what: 'nr_requests', hurt: inMerge(44, (i) => {
    const s = LogMergeStatus.read(viewOf(i.value), 0);
    return mergeItem.status({ ...s, nrRequests: 2 });
  }) },
  { id: 'CHK_MERGE_STATUS', what: 'no status', hurt: inMerge(44, () => null) },
  { id: 'CHK_MERGE_RANGE', what: 'overlap', hurt: mergeNode((items) =>
    [...items, mergeItem.range(key(16, 2400, 0), key(16, 2600, 0))]) },
  { id: 'CHK_MERGE_RANGE', what: 'inverted', hurt: mergeNode((items) =>
    [...items, mergeItem.range(key(16, 2900, 0), key(16, 2800, 0))]) },
  { id: 'CHK_MERGE_RANGE', what: 'stored under another start', hurt: inMerge(48, (i) =>
    ({ ...i, key: { ...i.key, third: 5n } })) },
  { id: 'CHK_MERGE_ITEM', what: 'flags of a request', hurt: inMerge(52, (i) => {
    const r = LogMergeRequest.read(viewOf(i.value), 0);
    return mergeItem.request({ ...r, flags: 8 });
  }) },
  { id: 'CHK_MERGE_ITEM', what: 'a request for a tree that is not the fs tree',
    hurt: inMerge(52, (i) => {
      const r = LogMergeRequest.read(viewOf(i.value), 0);
      return mergeItem.request({ ...r, root: { ref: { blkno: 9999, seq: 3n }, height: 1 } });
    }) },
  { id: 'CHK_MERGE_ITEM', what: 'a completion that remains outside its range',
    hurt: inMerge(56, (i) => {
      const r = LogMergeComplete.read(viewOf(i.value), 0);
      return mergeItem.complete({ ...r, remain: key(16, 5000, 0) });
    }) },
  { id: 'CHK_ITEM_VALUE', what: 'padding of a range', hurt: inMerge(48, (i) => {
    i.value[30] = 1;
    return i;
  }) },
  { id: 'CHK_MERGE_ITEM', what: 'key of a completion', hurt: mergeNode((items) => items.map((i) =>
    (i.key.zone === 56 ? { ...i, key: { ...i.key, first: i.key.first + 100n } } : i))) },
  { id: 'CHK_SUPER_SEQ', what: 'a merge from the future', also: ['CHK_MERGE_ITEM'], hurt: inMerge(44, (i) => {
    const s = LogMergeStatus.read(viewOf(i.value), 0);
    return mergeItem.status({ ...s, seq: s.seq + 50 });
  }) },
  { id: 'CHK_META_USED_TWICE', what: 'a list that a request and a completion share',
    also: [], hurt: (v) => {
      const { items } = v.readNode(v.sb().logMerge.ref.blkno);
      const done = items.find((i) => i.key.zone === 56 && viewOf(i.value).getUint32(0, true) !== 0);
      inMerge(52, (i) => {
        i.value.set(done?.value.subarray(0, 32) ?? [], 0);
        return i;
      })(v, { file: 0, link: 0, fifo: 0, dir: 0, subdir: 0, orphan: 0, blkno: 0 });
    } },
  { id: 'CHK_ITEM_KEY', what: 'a client among merge items', hurt: mergeNode((items) =>
    [...items, item(key(28, 4, 0), new Uint8Array(40), 0n)]) },
];

const freeing = (fn: (f: LogMergeFreeing) => void): Hurt => inMerge(60, (i) => {
  const f = LogMergeFreeing.read(viewOf(i.value), 0);
  if (f.root.height !== 0) fn(f);
  return { ...i, value: encode(LogMergeFreeing, f) };
});

/** The tree being freed has height 3; the first leaf of four is free. */
export const FREEING_CASES: Case[] = [
  { id: 'CHK_META_FREE_USED', what: 'a key before the freed leaf',
    hurt: freeing((f) => { f.key = key(0, 0, 0); }) },
  { id: 'CHK_META_LOST', what: 'a key behind leaves in use',
    hurt: freeing((f) => { f.key = key(16, 35, 0); }) },
  { id: 'CHK_META_LOST', what: 'a finished key for a tree that is there',
    hurt: freeing((f) => { f.key = ONES_KEY; }) },
  { id: 'CHK_BTREE_ROOT', what: 'an impossible height',
    hurt: freeing((f) => { f.root.height = 99; }) },
  { id: 'SC_BTREE_BLOCK_LEVEL', what: 'another height than that of the root',
    hurt: freeing((f) => { f.root.height = 2; }) },
  { id: 'CHK_REF_RANGE', what: 'a root outside the device',
    hurt: freeing((f) => { f.root.ref.blkno = 1; }) },
  { id: 'CHK_SUPER_SEQ', what: 'from the future', also: ['CHK_MERGE_ITEM'],
    hurt: freeing((f) => { f.seq += 1000; }) },
];

const srchRoot = (v: Victim): number => v.sb().srchRoot.ref.blkno;
const inSrch = (type: number, fn: (i: Item) => Item): Hurt => (v) => {
  let done = false;
  v.editNode(srchRoot(v), (items) => items.map((i) => {
    if (i.key.type !== type || done) return i;
    done = true;
    return fn(i);
  }));
};
const sortedFile = (fn: (f: SrchFile) => void): Hurt => inSrch(8, (i) => {
  const f = SrchFile.read(viewOf(i.value), 0);
  fn(f);
  return { ...i, value: encode(SrchFile, f) };
});
const compaction = (type: number, fn: (c: SrchCompact) => void): Hurt => inSrch(type, (i) => {
  const c = SrchCompact.read(viewOf(i.value), 0);
  fn(c);
  return { ...i, value: encode(SrchCompact, c) };
});
/** Edits leaf `n` of the first sorted file. */
const leaf = (n: number, fn: (b: DataView) => void): Hurt => (v) => {
  const sorted = v.readNode(srchRoot(v)).items.filter((i) => i.key.type === 8)
    .sort((a, b) => Number(a.key.third - b.key.third));
  const f = SrchFile.read(viewOf(at(sorted, 0).value), 0);
  const ref = BlockRef.read(viewOf(v.readBlock(f.ref.blkno)), 32 + n * 16);
  v.editBlock(ref.blkno, fn);
};

export const SRCH_CASES: Case[] = [
  { id: 'CHK_SRCH_FILE', what: 'a block too many', also: ['CHK_SRCH_COMPACT'],
    hurt: sortedFile((f) => { f.blocks = 3; }) },
  { id: 'CHK_SRCH_FILE', what: 'a block behind the end', hurt: (v) => {
    v.editNode(srchRoot(v), (items) => items.map((i) => {
      if (i.key.type !== 8) return i;
      const f = SrchFile.read(viewOf(i.value), 0);
      v.editBlock(f.ref.blkno, (b) => { b.setUint32(32 + 100 * 16, 9, true); });
      return i;
    }));
  } },
  { id: 'CHK_SRCH_FILE', what: 'height', also: ['CHK_SRCH_COMPACT'],
    hurt: sortedFile((f) => { f.height = 3; }) },
  { id: 'CHK_SRCH_FILE', what: 'entries', also: ['CHK_SRCH_COMPACT'],
    hurt: sortedFile((f) => { f.entries = 4; }) },
  { id: 'CHK_SRCH_FILE', what: 'key',
    hurt: inSrch(8, (i) => ({ ...i, key: { ...i.key, third: 5n } })) },
  { id: 'CHK_SRCH_BLOCK', what: 'first of a block', hurt: leaf(0, (b) => { b.setUint8(32, 4); }) },
  { id: 'CHK_SRCH_BLOCK', what: 'tail of a block', hurt: leaf(1, (b) => { b.setUint8(80, 4); }) },
  { id: 'CHK_SRCH_ENTRY', what: 'entry_nr', hurt: leaf(0, (b) => { b.setUint32(104, 9, true); }) },
  { id: 'CHK_SRCH_ENTRY', what: 'a start behind the safe limit', hurt: leaf(0, (b) => {
    b.setUint32(108, 65424, true);
  }) },
  { id: 'CHK_SRCH_ENTRY', what: 'entry_bytes beyond the block', hurt: leaf(0, (b) => {
    b.setUint32(108, 70000, true);
  }) },
  { id: 'CHK_SRCH_ENTRY', what: 'a cut entry', hurt: leaf(1, (b) => {
    b.setUint32(108, b.getUint32(108, true) - 1, true);
  }) },
  { id: 'CHK_SRCH_ORDER', what: 'blocks exchanged',
    hurt: (v) => {
      const it = at(v.readNode(srchRoot(v)).items.filter((i) => i.key.type === 8), 0);
      const f = SrchFile.read(viewOf(it.value), 0);
      v.editBlock(f.ref.blkno, (b) => {
        const [x, y] = [BlockRef.read(b, 32), BlockRef.read(b, 48)];
        BlockRef.write(b, 32, y);
        BlockRef.write(b, 48, x);
      });
    } },
  { id: 'CHK_SRCH_BOUNDS', what: 'last of a sorted file', also: ['CHK_SRCH_COMPACT'],
    hurt: sortedFile((f) => { f.last.id += 1n; }) },
  { id: 'CHK_SRCH_COMPACT', what: 'two phases', also: ['CHK_META_LOST'],
    hurt: compaction(16, (c) => { c.flags = 3; }) },
  { id: 'CHK_SRCH_COMPACT', what: 'another id', also: ['CHK_META_LOST'],
    hurt: compaction(16, (c) => { c.id = 5; }) },
  { id: 'CHK_SRCH_COMPACT', what: 'a position behind the end of an input',
    hurt: compaction(16, (c) => { at(c.inputs, 0).blk = 3; }) },
  { id: 'CHK_SRCH_COMPACT', what: 'a deletion above the root',
    hurt: compaction(12, (c) => { at(c.inputs, 1).pos = 7; }) },
  { id: 'CHK_SRCH_COMPACT', what: 'a left over input', hurt: compaction(16, (c) => { c.nr = 1; }) },
  { id: 'CHK_SRCH_COMPACT', what: 'an input that has no file',
    hurt: compaction(16, (c) => { c.flags = 1; }) },
  { id: 'CHK_META_FREE_USED', what: 'a deletion that is not as far as its list',
    hurt: compaction(12, (c) => { at(c.inputs, 0).blk = 0; }) },
  { id: 'CHK_LOST_SRCH', what: 'a deletion that is further than its list', note: true,
    hurt: compaction(12, (c) => { at(c.inputs, 0).blk = 2; }) },
  { id: 'CHK_SRCH_EMPTY', what: 'a block whose entries cancelled', note: true,
    also: [], hurt: (v) => {
      sortedFile((f) => { f.entries = 2; })(v, { file: 0, link: 0, fifo: 0, dir: 0, subdir: 0,
        orphan: 0, blkno: 0 });
      leaf(0, (b) => {
        b.setUint32(104, 0, true);
        b.setUint32(108, 0, true);
        writeEntry(b, 56, { hash: 0n, ino: 0n, id: 0n });
      })(v, { file: 0, link: 0, fifo: 0, dir: 0, subdir: 0, orphan: 0, blkno: 0 });
    } },
  { id: 'CHK_SRCH_STALE', what: 'an entry too many', hurt: leaf(1, (b) => {
    // The id of the last entry: its difference is the last byte.
    const o = 112 + b.getUint32(108, true) - 1;
    b.setUint8(o, b.getUint8(o) + 2);
    for (const e of [56, 80]) b.setUint8(e + 16, b.getUint8(e + 16) - 1);
  }), also: ['CHK_SRCH_BOUNDS'] },
];
