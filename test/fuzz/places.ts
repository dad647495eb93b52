/**
 * Everything that lives in a sound volume, as places that can be damaged.
 *
 * The walk follows every root from the super block, once per block, and notes each
 * structure under a kind such as `fs leaf`, `fs inode` or `alloc list`: a fuzzer draws a
 * kind first, so that rare structures are hit as often as common ones. Spec: format.md 4
 * to 15, alloc.md 9.1.
 */
import {
  AllocListBlock, BLOCK_LG_SIZE, BTREE_LEAF_ITEM_HASH_BYTES, BTREE_LEAF_ITEM_HASH_NR, BlockRef,
  BloomBlock, BtreeBlock, BtreeItem, DataExtentVal, Dirent, Inode, LogMergeComplete,
  LogMergeFreeing, LogMergeRange, LogMergeRequest, LogMergeStatus, LogTrees,
  MountedClientBtreeVal, QUORUM_BLKNO, QUORUM_BLOCKS, QuorumBlock, QuotaRuleVal,
  SRCH_PARENT_REFS, SUPER_BLKNO, SrchBlock, SrchCompact, SrchFile, SrchParent, SuperBlock,
  Xattr, XattrTotlVal,
} from '../../host/core/format.js';
import type { AllocListHead, BtreeRoot, Key } from '../../host/core/format.js';
import { viewOf } from '../lib/damage.js';
import type { Item, Victim } from '../lib/damage.js';
import { fieldsOf, rawFields } from './fields.js';
import type { Field, ReadCodec } from './fields.js';

const REF_BYTES = 16;
const LIST_NUMBERS_START = 56;
const HASH_START = BLOCK_LG_SIZE - BTREE_LEAF_ITEM_HASH_BYTES;
/** Places noted of one array: its first elements. */
const ARRAY_PLACES_MAX = 64;

/** A structure on a device. */
export interface Place {
  readonly kind: string;
  readonly dev: 'meta' | 'data';
  readonly unit: 'small' | 'large';
  readonly blkno: number;
  readonly off: number;
  readonly size: number;
  readonly fields: readonly Field[];
}

/** A block of a tree or a file, and where it is referred to. */
export interface LiveBlock {
  readonly kind: string;
  readonly blkno: number;
  readonly seq: bigint;
  /** The place of the reference to it. */
  readonly from: Pick<Place, 'unit' | 'blkno' | 'off'>;
}

/** An item of a leaf or parent. */
export interface LiveItem {
  readonly tree: string;
  readonly blkno: number;
  readonly level: number;
  readonly key: Key;
  /** What its value is: the kind of the place. */
  readonly kind: string;
}

export interface VolumeMap {
  readonly places: ReadonlyMap<string, readonly Place[]>;
  readonly kinds: readonly string[];
  readonly blocks: readonly LiveBlock[];
  readonly items: readonly LiveItem[];
  readonly itemKinds: ReadonlyMap<string, readonly LiveItem[]>;
  /** Places of references to other blocks. */
  readonly refs: readonly Pick<Place, 'unit' | 'blkno' | 'off'>[];
  readonly inos: readonly bigint[];
}

/** Maps a sound volume. */
export function mapVolume(v: Victim): VolumeMap {
  const m = new Mapper(v);
  m.volume();
  const itemKinds = new Map<string, LiveItem[]>();
  for (const i of m.items) push(itemKinds, i.kind, i);
  return {
    places: m.places, kinds: [...m.places.keys()], blocks: m.blocks, items: m.items, itemKinds,
    refs: m.refs, inos: [...m.inos],
  };
}

function push<T>(map: Map<string, T[]>, kind: string, value: T): void {
  const list = map.get(kind);
  if (list === undefined) map.set(kind, [value]);
  else list.push(value);
}

/** Where a reference or a root of some structure lies. */
type At = Pick<Place, 'unit' | 'blkno' | 'off'>;

class Mapper {
  readonly places = new Map<string, Place[]>();
  readonly blocks: LiveBlock[] = [];
  readonly items: LiveItem[] = [];
  readonly refs: At[] = [];
  readonly inos = new Set<bigint>();
  private readonly seen = new Set<number>();

  constructor(private readonly v: Victim) {}

  volume(): void {
    const sb = this.v.sb();
    const at = (off: number): At => ({ unit: 'small', blkno: SUPER_BLKNO, off });
    this.place('super', at(0), SuperBlock);
    this.place('super of data', at(0), SuperBlock, 'data');
    for (let i = 0; i < QUORUM_BLOCKS; i++) {
      this.place('quorum', { unit: 'small', blkno: QUORUM_BLKNO + i, off: 0 }, QuorumBlock);
    }
    sb.metaAlloc.forEach((a, i) => { this.tree('meta_alloc', a.root, at(600 + i * 40 + 16)); });
    this.tree('data_alloc', sb.dataAlloc.root, at(696));
    sb.serverMetaAvail.forEach((h, i) => { this.list(h, at(720 + i * 32)); });
    sb.serverMetaFreed.forEach((h, i) => { this.list(h, at(784 + i * 32)); });
    this.tree('fs', sb.fsRoot, at(848));
    this.tree('logs', sb.logsRoot, at(872));
    this.tree('log_merge', sb.logMerge, at(896));
    this.tree('clients', sb.mountedClients, at(920));
    this.tree('srch', sb.srchRoot, at(944));
  }

  private place(kind: string, at: At, codec: ReadCodec, dev: Place['dev'] = 'meta'): void {
    this.raw(kind, at, codec.size, fieldsOf(codec), dev);
  }

  private raw(kind: string, at: At, size: number, fields: readonly Field[],
    dev: Place['dev'] = 'meta'): void {
    if (size > 0) push(this.places, kind, { kind, dev, ...at, size, fields });
  }

  private ref(ref: BlockRef, at: At, kind: string): DataView | null {
    if (ref.blkno === 0) return null;
    this.refs.push(at);
    if (this.seen.has(ref.blkno)) return null;
    this.seen.add(ref.blkno);
    this.blocks.push({ kind, blkno: ref.blkno, seq: ref.seq, from: at });
    return viewOf(this.v.readBlock(ref.blkno));
  }

  private tree(name: string, root: BtreeRoot, at: At): void {
    if (root.height > 0) this.node(name, root.ref, root.height - 1, at);
  }

  private node(name: string, ref: BlockRef, level: number, at: At): void {
    const kind = `${name} ${level === 0 ? 'leaf' : 'parent'}`;
    const v = this.ref(ref, at, kind);
    // A tree that is being freed refers to blocks that are free already.
    if (v?.getBigUint64(16, true) !== ref.seq) return;
    const { blkno } = ref;
    this.place(kind, { unit: 'large', blkno, off: 0 }, BtreeBlock);
    for (let i = 0; i < v.getUint16(34, true); i++) {
      const off = BtreeBlock.size + i * BtreeItem.size;
      const item = BtreeItem.read(v, off);
      this.place(`${kind} item`, { unit: 'large', blkno, off }, BtreeItem);
      const valAt: At = { unit: 'large', blkno, off: item.valOff };
      if (level > 0) {
        this.place(`${name} ref`, valAt, BlockRef);
        this.items.push({ tree: name, blkno, level, key: item.key, kind: `${name} ref` });
        this.node(name, BlockRef.read(v, item.valOff), level - 1, valAt);
      } else {
        this.value(name, item, valAt, v);
      }
    }
    if (level === 0) {
      const fields = Array.from({ length: BTREE_LEAF_ITEM_HASH_NR },
        (_, i) => ({ name: `bucket ${i}`, off: i * 2, len: 2 }))
        .filter((f) => v.getUint16(HASH_START + f.off, true) !== 0);
      this.raw(`${name} hash`, { unit: 'large', blkno, off: HASH_START },
        BTREE_LEAF_ITEM_HASH_BYTES, fields.slice(0, ARRAY_PLACES_MAX));
    }
  }

  private value(tree: string, item: BtreeItem, at: At, v: DataView): void {
    const { key, valLen } = item;
    const [what, codec] = valueOf(key, valLen);
    const kind = `${tree} ${what}`;
    this.items.push({ tree, blkno: at.blkno, level: 0, key, kind });
    if (key.zone === 16) this.inos.add(key.first);
    const size = codec === null ? 0 : Math.min(codec.size, valLen);
    const fields = codec === null ? [] : fieldsOf(codec).filter((f) => f.off + f.len <= size);
    this.raw(kind, at, valLen,
      [...fields, ...rawFields('bytes', size, valLen - size).slice(0, ARRAY_PLACES_MAX)]);
    if (codec === null || size < codec.size || item.flags !== 0) return;
    this.follow(codec, v, at);
  }

  /** Follows what a server's item refers to. */
  private follow(codec: ReadCodec, v: DataView, at: At): void {
    const sub = (off: number): At => ({ ...at, off: at.off + off });
    if (codec === LogTrees) {
      const lt = LogTrees.read(v, at.off);
      this.list(lt.metaAvail, at);
      this.list(lt.metaFreed, sub(32));
      this.tree('log', lt.itemRoot, sub(64));
      this.bloom(lt.bloomRef, sub(88));
      this.tree('data_avail', lt.dataAvail.root, sub(120));
      this.tree('data_freed', lt.dataFreed.root, sub(160));
      this.srchFile(lt.srchFile, sub(184));
    } else if (codec === SrchFile) {
      this.srchFile(SrchFile.read(v, at.off), at);
    } else if (codec === SrchCompact) {
      const c = SrchCompact.read(v, at.off);
      this.list(c.metaAvail, at);
      this.list(c.metaFreed, sub(32));
      this.srchFile(c.out, sub(80));
      c.inputs.forEach((input, i) => { this.srchFile(input.sfl, sub(168 + i * 104)); });
    } else if (codec === LogMergeRequest || codec === LogMergeComplete) {
      this.list(LogMergeComplete.read(v, at.off).metaAvail, at);
      this.list(LogMergeComplete.read(v, at.off).metaFreed, sub(32));
    } else if (codec === LogMergeFreeing) {
      this.tree('freeing', LogMergeFreeing.read(v, at.off).root, at);
    }
    if (codec === LogMergeComplete) {
      const { root, flags } = LogMergeComplete.read(v, at.off);
      if ((flags & 2) === 0) this.tree('merged', root, sub(64));
    }
  }

  private list(head: AllocListHead, at: At): void {
    let ref = { ...head.ref };
    let from = at;
    for (;;) {
      const v = this.ref(ref, from, 'alloc list');
      if (v === null) return;
      const { blkno } = ref;
      this.place('alloc list', { unit: 'large', blkno, off: 0 }, AllocListBlock);
      const { start, nr, next } = AllocListBlock.read(v, 0);
      this.numbers('alloc list numbers', blkno, LIST_NUMBERS_START + start * 8, nr);
      ref = next;
      from = { unit: 'large', blkno, off: 32 };
    }
  }

  private numbers(kind: string, blkno: number, off: number, nr: number): void {
    const fields = Array.from({ length: Math.min(nr, ARRAY_PLACES_MAX) },
      (_, i) => ({ name: `${i}`, off: i * 8, len: 8 }));
    this.raw(kind, { unit: 'large', blkno, off }, nr * 8, fields);
  }

  private bloom(ref: BlockRef, at: At): void {
    if (this.ref(ref, at, 'bloom') === null) return;
    this.place('bloom', { unit: 'large', blkno: ref.blkno, off: 0 }, BloomBlock);
    this.numbers('bloom bits', ref.blkno, BloomBlock.size, ARRAY_PLACES_MAX);
  }

  private srchFile(file: SrchFile, at: At): void {
    if (file.height > 0) this.srchBlock(file.ref, file.height - 1, { ...at, off: at.off + 48 });
  }

  private srchBlock(ref: BlockRef, level: number, at: At): void {
    const v = this.ref(ref, at, level === 0 ? 'srch block' : 'srch parent');
    if (v?.getBigUint64(16, true) !== ref.seq) return;
    const { blkno } = ref;
    if (level === 0) {
      this.place('srch block', { unit: 'large', blkno, off: 0 }, SrchBlock);
      const { entryBytes } = SrchBlock.read(v, 0);
      this.raw('srch entries', { unit: 'large', blkno, off: SrchBlock.size }, entryBytes,
        rawFields('byte', 0, Math.min(entryBytes, ARRAY_PLACES_MAX)));
      return;
    }
    this.place('srch parent', { unit: 'large', blkno, off: 0 }, SrchParent);
    for (let i = 0; i < SRCH_PARENT_REFS; i++) {
      const off = SrchParent.size + i * REF_BYTES;
      if (v.getBigUint64(off, true) === 0n) continue;
      this.place('srch ref', { unit: 'large', blkno, off }, BlockRef);
      this.srchBlock(BlockRef.read(v, off), level - 1, { unit: 'large', blkno, off });
    }
  }
}

const FS_VALUES: Readonly<Record<number, [string, ReadCodec | null]>> = {
  4: ['inode', Inode], 8: ['xattr', Xattr], 12: ['dirent', Dirent], 16: ['readdir', Dirent],
  20: ['backref', Dirent], 24: ['symlink', null], 28: ['extent', DataExtentVal],
};
const VALUES: Readonly<Record<number, [string, ReadCodec | null]>> = {
  4: ['inode index', null], 8: ['orphan', null], 10: ['quota rule', QuotaRuleVal],
  12: ['total', XattrTotlVal], 14: ['xattr index', null], 24: ['log trees', LogTrees],
  28: ['client', MountedClientBtreeVal], 36: ['free by place', null],
  40: ['free by size', null], 44: ['merge status', LogMergeStatus],
  48: ['merge range', LogMergeRange], 52: ['merge request', LogMergeRequest],
  56: ['merge completion', LogMergeComplete], 60: ['merge freeing', LogMergeFreeing],
};

/** What an item's value is. */
function valueOf(key: Key, valLen: number): [string, ReadCodec | null] {
  if (key.zone === 32) {
    return valLen === SrchFile.size ? ['srch file', SrchFile] : ['compaction', SrchCompact];
  }
  const found = key.zone === 16 ? FS_VALUES[key.type] : VALUES[key.zone];
  const [what, codec] = found ?? ['unknown', null];
  // only the first part of an xattr has a header
  return what === 'xattr' && key.fourth > 0 ? ['xattr part', null] : [what, codec];
}

/** The items of a block as they can be rewritten, and the one with a key. */
export function sameKey(a: Key, b: Key): boolean {
  return a.zone === b.zone && a.first === b.first && a.type === b.type && a.second === b.second
    && a.third === b.third && a.fourth === b.fourth;
}

export type { Item };
