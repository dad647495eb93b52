/**
 * A small volume with one of everything, and the states of merges and compactions
 * that upstream's volumes were not caught in.
 *
 * `enrich` adds inodes of every kind, extents, xattrs with all tags, a quota rule
 * and an orphan to a volume. The other functions build what exists only while a
 * merge or compaction is under way. All of them leave a sound volume; the tests
 * say so before they damage anything.
 */
import { addPos } from '../../host/core/bytepos.js';
import { crc32c } from '../../host/core/crc32c.js';
import { direntNameHash, fnv1a64 } from '../../host/core/hash.js';
import { BLOCK_MAGIC_ALLOC_LIST, BLOCK_MAGIC_SRCH_BLOCK, BLOCK_MAGIC_SRCH_PARENT, BlockRef,
  DataExtentVal, Dirent, Inode, LogMergeComplete, LogMergeFreeing, LogMergeRange,
  LogMergeRequest, LogMergeStatus, QuotaRuleVal, SrchCompact, SrchFile, XattrTotlVal }
  from '../../host/core/format.js';
import type { BtreeRoot, Key, SrchEntry } from '../../host/core/format.js';
import { ONES_KEY, encode, item, key, viewOf } from './damage.js';
import type { Item, Victim } from './damage.js';

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFIFO = 0o010000;
const PART_BYTES = 896;
/** The ACL of mode 0644: version 2; owner, group, others. */
const ACL = '0200000001000600ffffffff04000400ffffffff20000400ffffffff';

/** Inode numbers of what `enrich` adds. */
export interface Rich {
  file: number;
  link: number;
  fifo: number;
  dir: number;
  subdir: number;
  orphan: number;
  /** First data block of `file`. */
  blkno: number;
}

const NO_REF: BlockRef = { blkno: 0, seq: 0n };
const NO_ROOT: BtreeRoot = { ref: NO_REF, height: 0 };
const ZERO_ENTRY: SrchEntry = { hash: 0n, ino: 0n, id: 0n };
const EMPTY_FILE: SrchFile =
  { first: ZERO_ENTRY, last: ZERO_ENTRY, ref: NO_REF, blocks: 0, entries: 0, height: 0 };
const EMPTY_LIST = { ref: NO_REF, totalNr: 0, firstNr: 0, flags: 0 };
const ZERO_KEY = key(0, 0, 0);

export function nameHash(name: string): bigint {
  return direntNameHash(Buffer.from(name, 'latin1'));
}

export function direntValue(ino: number, name: string, pos: number, type: number): Uint8Array {
  return Buffer.concat([encode(Dirent, { ino, hash: nameHash(name), pos, type }),
    Buffer.from(name, 'latin1')]);
}

/** The three items of a link. */
export function linkItems(dir: number, name: string, pos: number, ino: number, type: number):
Item[] {
  const value = (): Uint8Array => direntValue(ino, name, pos, type);
  return [item(key(16, dir, 12, nameHash(name), pos), value()),
    item(key(16, dir, 16, pos), value()), item(key(16, ino, 20, dir, pos), value())];
}

/** All parts of an xattr. */
export function xattrItems(ino: number, id: number, name: string, value: Uint8Array): Item[] {
  const head = Buffer.alloc(8);
  head.writeUInt16LE(value.length, 0);
  head.writeUInt8(name.length, 2);
  const all = Buffer.concat([head, Buffer.from(name, 'latin1'), value]);
  const hash = crc32c(0xffffffff, Buffer.from(name, 'latin1'));
  const parts: Item[] = [];
  for (let at = 0; at < all.length; at += PART_BYTES) {
    parts.push(item(key(16, ino, 8, hash, id, at / PART_BYTES),
      Uint8Array.from(all.subarray(at, at + PART_BYTES))));
  }
  return parts;
}

/** Key of the index item of an `indx.` xattr. */
export function indxKey(major: bigint, minor: bigint, ino: bigint, id: bigint): Key {
  return key(14, (major << 56n) | (minor >> 8n), 0,
    BigInt.asUintN(64, minor << 56n) | (ino >> 8n), BigInt.asUintN(64, ino << 56n) | (id >> 8n),
    Number(id & 255n));
}

interface NewInode {
  ino: number;
  mode: number;
  nlink?: number;
  size?: number;
  online?: number;
  offline?: number;
  nextPos?: number;
  nextXattr?: number;
}

/** An inode item and its index items. */
export function inodeItems(n: NewInode, seq: number): Item[] {
  const time = { sec: 1700000000n, nsec: 5 };
  const value = encode(Inode, {
    size: n.size ?? 0, metaSeq: seq, dataSeq: seq, dataVersion: 0, onlineBlocks: n.online ?? 0,
    offlineBlocks: n.offline ?? 0, nextReaddirPos: n.nextPos ?? 2, nextXattrId: n.nextXattr ?? 0,
    version: 1, nlink: n.nlink ?? 1, uid: 0, gid: 0, mode: n.mode, rdev: 0, flags: 0,
    atime: time, ctime: time, mtime: time, crtime: time, proj: 0,
  });
  const items = [item(key(16, n.ino, 4), value), item(key(4, 0, 4, seq, n.ino))];
  if ((n.mode & 0o170000) === S_IFREG) items.push(item(key(4, 0, 8, seq, n.ino)));
  return items;
}

export function extentItem(ino: number, start: number, len: number, blkno: number,
  flags: number): Item {
  return item(key(16, ino, 28, start + len - 1, len), encode(DataExtentVal, { blkno, flags }));
}

/** Both index items of a free extent. */
export function freeItems(start: number, len: number): Item[] {
  const order = Math.floor((len.toString(2).length - 1) / 3);
  const end = start + len - 1;
  return [item(key(36, end, 0, len), undefined, 0n),
    item(key(40, 2n ** 64n - 1n - BigInt(order), 0, end, len), undefined, 0n)];
}

/** Takes blocks off the front of the first extent of `data_alloc`. */
export function allocData(v: Victim, n: number): number {
  const leaf = v.sb().dataAlloc.root.ref.blkno;
  let start = 0;
  v.editNode(leaf, (items) => {
    const first = items.find((i) => i.key.zone === 36);
    if (first === undefined) throw new Error('no extent');
    const len = Number(first.key.second);
    const end = Number(first.key.first);
    start = end - len + 1;
    const endOf = (k: Key): number => Number(k.zone === 36 ? k.first : k.second);
    const keep = items.filter((i) => endOf(i.key) !== end);
    return [...keep, ...freeItems(start + n, len - n)];
  });
  v.editSuper((sb) => { sb.dataAlloc.totalLen -= n; });
  return start;
}

export function quotaItem(limit: bigint): Item {
  const value = encode(QuotaRuleVal, {
    nameVal: [1n, 0n, 0n], limit, prio: 1, op: 1, ruleFlags: 0,
    nameSource: Uint8Array.of(0, 2, 0), nameFlags: Uint8Array.of(0, 0, 0),
  });
  return item(key(10, 0, 4, fnv1a64(value)), value);
}

/** Adds one of everything below the root directory. */
export function enrich(v: Victim): Rich {
  const sb = v.sb();
  const ino = (n: number): number => sb.nextIno + n;
  const r: Rich = { file: ino(1), link: ino(2), fifo: ino(3), dir: ino(4), subdir: ino(5),
    orphan: ino(6), blkno: allocData(v, 7) };
  const { seq } = sb;
  let pos = 0;
  const names: [string, number, number][] = [['big file', r.file, 4], ['ln', r.link, 5],
    ['pipe', r.fifo, 0], ['d', r.dir, 2]];
  v.editValue({ zone: 16, first: 1n, type: 4 }, (val) => {
    const root = Inode.read(val, 0);
    pos = root.nextReaddirPos;
    root.nextReaddirPos += names.length;
    root.size = addPos(root.size, names.reduce((n, [name]) => n + name.length, 0));
    root.nlink++;
    Inode.write(val, 0, root);
  });
  const target = Buffer.alloc(1001, 0x74);
  target[1000] = 0;
  v.addItems(
    ...names.flatMap(([name, to, type], i) => linkItems(1, name, pos + i, to, type)),
    ...inodeItems({ ino: r.file, mode: S_IFREG | 0o644, size: 50000, online: 3, offline: 5,
      nextXattr: 4 }, seq),
    extentItem(r.file, 0, 3, r.blkno, 0), extentItem(r.file, 3, 2, r.blkno + 3, 2),
    extentItem(r.file, 10, 4, 0, 1), extentItem(r.file, 14, 1, r.blkno + 5, 3),
    ...xattrItems(r.file, 0, 'user.large', new Uint8Array(2000).fill(0x61)),
    ...xattrItems(r.file, 1, 'scoutfs.hide.totl.sum.1.2.3', Buffer.from('0x10')),
    ...xattrItems(r.file, 2, 'scoutfs.indx.pos.7.4242', new Uint8Array(0)),
    ...xattrItems(r.file, 3, 'system.posix_acl_access', Buffer.from(ACL, 'hex')),
    item(key(12, 1, 0, 2, 3), encode(XattrTotlVal, { total: 16n, count: 1n })),
    item(indxKey(7n, 4242n, BigInt(r.file), 2n)),
    ...inodeItems({ ino: r.link, mode: S_IFLNK | 0o777, size: 1001 }, seq),
    item(key(16, r.link, 24, 0), target.subarray(0, PART_BYTES)),
    item(key(16, r.link, 24, 1), target.subarray(PART_BYTES)),
    ...inodeItems({ ino: r.fifo, mode: S_IFIFO | 0o600 }, seq),
    ...inodeItems({ ino: r.dir, mode: S_IFDIR | 0o755, nlink: 3, size: 1, nextPos: 3 }, seq),
    ...linkItems(r.dir, 'e', 2, r.subdir, 2),
    ...inodeItems({ ino: r.subdir, mode: S_IFDIR | 0o755, nlink: 2 }, seq),
    ...inodeItems({ ino: r.orphan, mode: S_IFREG | 0o600, nlink: 0, online: 1 }, seq),
    extentItem(r.orphan, 0, 1, r.blkno + 6, 0),
    item(key(8, 0, 4, r.orphan)),
    quotaItem(500n),
  );
  v.editSuper((s) => {
    s.nextIno += 1024;
    s.inodeCount += 6;
  });
  return r;
}

// Merges

/** Replaces the log merge tree by one leaf. */
export function setLogMerge(v: Victim, items: Item[]): void {
  const ref = v.newNode(0, items);
  v.editSuper((sb) => { sb.logMerge = { ref, height: 1 }; });
}

/** Items of the log merge tree. */
export const mergeItem = {
  status: (s: LogMergeStatus): Item => item(key(44, 0, 0), encode(LogMergeStatus, s), 0n),
  range: (start: Key, end: Key): Item =>
    item({ ...start, zone: 48 }, encode(LogMergeRange, { start, end }), 0n),
  request: (r: LogMergeRequest): Item =>
    item(key(52, r.rid, 0, r.seq), encode(LogMergeRequest, r), 0n),
  complete: (r: LogMergeComplete): Item => item(key(56, r.seq, 0), encode(LogMergeComplete, r), 0n),
  freeing: (f: LogMergeFreeing): Item => item(key(60, f.seq, 0), encode(LogMergeFreeing, f), 0n),
};

/**
 * A merge in the middle: a range to do, a request being worked on, a completion
 * not spliced that has rewritten the fs tree's only leaf, one that is spliced.
 */
export function addMerge(v: Victim): void {
  const sb = v.sb();
  const list = BLOCK_MAGIC_ALLOC_LIST;
  const leaf = sb.fsRoot.ref.blkno;
  const rewritten = v.newNode(0, v.readNode(leaf).items);
  const none = { metaAvail: EMPTY_LIST, metaFreed: EMPTY_LIST };
  const cut = (n: number): Key => key(16, n, 0);
  setLogMerge(v, [
    mergeItem.status({ nextRangeKey: cut(3000), nrRequests: 1, nrComplete: 2, seq: sb.seq }),
    mergeItem.range(cut(3000), ONES_KEY),
    mergeItem.request({
      metaAvail: v.newList(list, [v.allocMeta(), v.allocMeta()]), metaFreed: EMPTY_LIST,
      logsRoot: sb.logsRoot, root: sb.fsRoot, start: cut(2000), end: cut(2500),
      inputSeq: sb.seq, rid: 77n, seq: sb.seq, flags: 0,
    }),
    mergeItem.complete({
      metaAvail: v.newList(list, [v.allocMeta()]), metaFreed: v.newList(list, [leaf]),
      root: { ref: rewritten, height: 1 }, start: ZERO_KEY, end: cut(1000), remain: cut(1000),
      rid: 77n, seq: sb.seq - 1, flags: 0,
    }),
    mergeItem.complete({ ...none, root: { ref: { blkno: 5, seq: 9n }, height: 1 },
      start: cut(1001), end: cut(1999), remain: cut(1500), rid: 78n, seq: sb.seq - 2, flags: 2 }),
  ]);
}

/**
 * A merged log tree of height 3 that is being freed: leaf 0 of the first level-1
 * block is free, leaf 1 and everything behind it is not. Another one is done.
 * @returns its level-1 blocks and leaves in use
 */
export function addFreeing(v: Victim): { parents: number[]; leaves: number[] } {
  const k = (n: number): Key => key(16, n, 4);
  const leaf = (n: number): BlockRef => v.newNode(0, [item(k(n), new Uint8Array(168), 5n)]);
  const child = (bound: Key, ref: BlockRef): Item => item(bound, encode(BlockRef, ref), 0n);
  const gone: BlockRef = { blkno: firstFree(v), seq: 12345n };
  const leaves = [leaf(20), leaf(30), leaf(40)] as const;
  const left = v.newNode(1, [child(k(10), gone), child(k(20), leaves[0])]);
  const right = v.newNode(1, [child(k(30), leaves[1]), child(ONES_KEY, leaves[2])]);
  const root = v.newNode(2, [child(k(20), left), child(ONES_KEY, right)]);
  const { seq } = v.sb();
  setLogMerge(v, [
    mergeItem.freeing({ root: { ref: root, height: 3 }, key: { ...k(10), fourth: 1 }, seq }),
    mergeItem.freeing({ root: NO_ROOT, key: ZERO_KEY, seq: seq - 1 }),
  ]);
  return { parents: [left.blkno, right.blkno], leaves: leaves.map((l) => l.blkno) };
}

/** Some block in a free extent. */
export function firstFree(v: Victim): number {
  const root = v.sb().metaAlloc[0];
  const extent = v.readNode(root?.root.ref.blkno ?? 0).items.find((i) => i.key.zone === 36);
  return Number(extent?.key.first ?? 0n);
}

// Srch files

/** Encodes entries as they lie in a leaf. Source: format.md 13.2 */
export function encodeEntries(entries: SrchEntry[]): Uint8Array {
  const out: number[] = [];
  let prev = ZERO_ENTRY;
  for (const e of entries) {
    const fields = (['hash', 'ino', 'id'] as const).map((f) => {
      const d = BigInt.asIntN(64, e[f] - prev[f]);
      let z = BigInt.asUintN(64, (d << 1n) ^ (d < 0n ? -1n : 0n));
      const bytes: number[] = [];
      for (; z > 0n; z >>= 8n) bytes.push(Number(z & 255n));
      return bytes;
    });
    const lens = fields.reduce((w, b, i) => w | (b.length << (4 * i)), 0);
    out.push(lens & 255, lens >> 8, ...fields.flat());
    prev = e;
  }
  return Uint8Array.from(out);
}

export function writeEntry(v: DataView, o: number, e: SrchEntry): void {
  v.setBigUint64(o, e.hash, true);
  v.setBigUint64(o + 8, e.ino, true);
  v.setBigUint64(o + 16, e.id, true);
}

/** A sorted leaf. */
export function srchLeaf(v: Victim, entries: SrchEntry[]): BlockRef {
  return v.newBlock(BLOCK_MAGIC_SRCH_BLOCK, (b) => {
    const bytes = encodeEntries(entries);
    const first = entries[0] ?? ZERO_ENTRY;
    const last = entries[entries.length - 1] ?? ZERO_ENTRY;
    [first, last, last].forEach((e, i) => { writeEntry(b, 32 + i * 24, e); });
    b.setUint32(104, entries.length, true);
    b.setUint32(108, bytes.length, true);
    bytes.forEach((x, i) => { b.setUint8(112 + i, x); });
  });
}

/** A sorted file of two leaves below a parent. */
export function srchFile(v: Victim, blocks: [SrchEntry[], SrchEntry[]]): SrchFile {
  const refs = blocks.map((b) => srchLeaf(v, b));
  const ref = v.newBlock(BLOCK_MAGIC_SRCH_PARENT, (b) => {
    refs.forEach((r, i) => { BlockRef.write(b, 32 + i * 16, r); });
  });
  const all = blocks.flat();
  return { first: all[0] ?? ZERO_ENTRY, last: all[all.length - 1] ?? ZERO_ENTRY, ref, blocks: 2,
    entries: all.length, height: 2 };
}

export const sortedItem = (f: SrchFile): Item =>
  item(key(32, 0, 8, f.blocks, f.ref.blkno), encode(SrchFile, f), 0n);
export const pendingItem = (c: SrchCompact): Item =>
  item(key(32, 0, 12, c.id), encode(SrchCompact, c), 0n);
export const busyItem = (rid: bigint, c: SrchCompact): Item =>
  item(key(32, 0, 16, rid, c.id), encode(SrchCompact, c), 0n);

const ENTRIES: [SrchEntry[], SrchEntry[]] = [
  [{ hash: 5n, ino: 9n, id: 1n }, { hash: 5n, ino: 9n, id: 2n }, { hash: 7n, ino: 1n, id: 0n }],
  [{ hash: 2n ** 63n + 3n, ino: 2n ** 40n, id: 3n }, { hash: 2n ** 64n - 1n, ino: 1n, id: 1n }],
];

const input = (sfl: SrchFile, blk = 0, pos = 0): SrchCompact['inputs'][number] =>
  ({ sfl, blk, pos });

/**
 * Two sorted files with the same entries (which so cancel), a compaction of them
 * under way, and a deletion of a third file that has freed its first leaf.
 * @returns the files: two inputs, and the one being deleted
 */
export function addCompactions(v: Victim): SrchFile[] {
  const files = [srchFile(v, ENTRIES), srchFile(v, ENTRIES)] as const;
  const dying = srchFile(v, ENTRIES);
  const list = BLOCK_MAGIC_ALLOC_LIST;
  const freedLeaf = BlockRef.read(viewOf(v.readBlock(dying.ref.blkno)), 32).blkno;
  const out = { ...srchFile(v, ENTRIES) };
  const blank = { metaAvail: EMPTY_LIST, metaFreed: EMPTY_LIST };
  const empty = input(EMPTY_FILE);
  const compactions = [
    pendingItem({ ...blank, metaFreed: v.newList(list, [freedLeaf]), id: dying.ref.blkno, nr: 2,
      flags: 4, out: files[0],
      inputs: [input(dying, 1, 1), input(EMPTY_FILE, 0, 1), empty, empty] }),
    busyItem(77n, { ...blank, metaAvail: v.newList(list, [v.allocMeta()]), id: files[0].ref.blkno,
      nr: 2, flags: 2, out, inputs: [input(files[0], 1, 0), input(files[1]), empty, empty] }),
  ];
  v.editNode(v.sb().srchRoot.ref.blkno,
    (items) => [...items, ...files.map(sortedItem), ...compactions]);
  return [...files, dying];
}

