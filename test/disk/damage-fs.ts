/**
 * Damage to file system items: inodes, entries, links, symlinks, extents, xattrs,
 * totals, indexes, quota rules.
 */
import { Inode } from '../../host/core/format.js';
import type { Case, Item, Victim } from '../lib/damage.js';
import { item, key } from '../lib/damage.js';
import { direntValue, extentItem, indxKey, inodeItems, linkItems, nameHash, quotaItem, xattrItems }
  from '../lib/rich.js';
import type { Rich } from '../lib/rich.js';

type Kind = 'file' | 'link' | 'fifo' | 'dir' | 'subdir' | 'orphan';
type Hurt = Case['hurt'];

/** Changes the inode item of one of the added inodes; absent means the root. */
const inode = (kind: Kind | null, fn: (i: Inode) => void): Hurt => (v, r) => {
  v.editValue({ zone: 16, first: kind === null ? 1n : BigInt(r[kind]), type: 4 }, (b) => {
    const i = Inode.read(b, 0);
    fn(i);
    Inode.write(b, 0, i);
  });
};

const inodeBytes = (kind: Kind, fn: (b: DataView) => void): Hurt => (v, r) => {
  v.editValue({ zone: 16, first: BigInt(r[kind]), type: 4 }, fn);
};

/** Removes the first item of a type that belongs to an added inode. */
const drop = (kind: Kind, type: number, second?: number): Hurt => (v, r) => {
  v.removeItem({ zone: 16, first: BigInt(r[kind]), type,
    ...(second === undefined ? {} : { second: BigInt(second) }) });
};

const value = (kind: Kind, type: number, fn: (b: DataView, bytes: Uint8Array) => void): Hurt =>
  (v, r) => { v.editValue({ zone: 16, first: BigInt(r[kind]), type }, fn); };

const add = (fn: (r: Rich, v: Victim) => Item[]): Hurt => (v, r) => { v.addItems(...fn(r, v)); };

/** Replaces the whole value of an item by one of another length. */
const resize = (kind: Kind, type: number, len: number): Hurt => (v, r) => {
  v.editItem({ zone: 16, first: BigInt(r[kind]), type }, (i) => ({ ...i,
    value: Uint8Array.from({ length: len }, (_, n) => i.value[n] ?? 0) }));
};

/** Changes all three items of the entry "d/e". */
const entry = (fn: (value: Uint8Array) => Uint8Array): Hurt => (v, r) => {
  for (const [first, type] of [[r.dir, 12], [r.dir, 16], [r.subdir, 20]] as const) {
    v.editItem({ zone: 16, first: BigInt(first), type }, (i) => ({ ...i, value: fn(i.value) }));
  }
};

const both = (...fns: Hurt[]): Hurt => (v, r) => { for (const fn of fns) fn(v, r); };

const user = (name: string, len = 3): Uint8Array => Buffer.alloc(len, name);

const INODE_CASES: Case[] = [
  { id: 'CHK_INODE_RANGE', what: 'numbers that were never given out',
    hurt: (v, r) => { v.editSuper((s) => { s.nextIno = r.orphan; }); } },
  { id: 'CHK_INODE_MODE', what: 'mode of no file type', also: ['CHK_INDEX_STALE'],
    hurt: inode('file', (i) => { i.mode = 0o30644; }) },
  { id: 'CHK_INODE_FLAGS', what: 'retention on a directory',
    hurt: inode('dir', (i) => { i.flags = 2; }) },
  { id: 'CHK_INODE_FLAGS', what: 'unknown flag', hurt: inode('file', (i) => { i.flags = 4; }) },
  { id: 'CHK_INODE_TIME', what: 'nanoseconds',
    hurt: inode('file', (i) => { i.mtime.nsec = 1e9; }) },
  { id: 'CHK_INODE_TIME', what: 'padding of a time',
    hurt: inodeBytes('file', (b) => { b.setUint8(96 + 12, 1); }) },
  { id: 'CHK_INODE_SEQ', what: 'data_seq from the future', also: ['CHK_INDEX_MISSING',
    'CHK_INDEX_STALE'], hurt: inode('file', (i) => { i.dataSeq += 1000; }) },
  { id: 'CHK_INODE_SEQ', what: 'an item of the fs tree from the future', hurt: (v, r) => {
    v.editItem({ zone: 16, first: BigInt(r.fifo), type: 4 }, (i) => ({ ...i, seq: 5000n }));
  } },
  { id: 'CHK_INODE_SIZE', what: 'a fifo with a size', hurt: inode('fifo', (i) => { i.size = 1; }) },
  { id: 'CHK_INODE_SIZE', what: 'a file larger than any',
    hurt: inodeBytes('file', (b) => { b.setUint8(7, 0x80); }) },
  { id: 'CHK_INODE_NLINK', what: 'one link too many',
    hurt: inode('file', (i) => { i.nlink = 2; }) },
  { id: 'CHK_INODE_NLINK', what: 'a directory that forgot a subdirectory',
    hurt: inode('dir', (i) => { i.nlink = 2; }) },
  { id: 'CHK_INODE_NLINK', what: 'the root counts too many',
    hurt: inode(null, (i) => { i.nlink++; }) },
  { id: 'CHK_INODE_NLINK', what: 'an unlinked file that is still linked',
    also: ['CHK_INODE_ORPHAN'], hurt: inode('file', (i) => { i.nlink = 0; }) },
  { id: 'CHK_INODE_NLINK', what: 'a fifo without links', also: ['CHK_DIRENT_BACKREF'],
    hurt: drop('fifo', 20) },
  { id: 'CHK_INODE_COUNT', what: 'inode_count',
    hurt: (v) => { v.editSuper((s) => { s.inodeCount++; }); } },
  { id: 'CHK_INODE_COUNT', what: 'inode_count_delta',
    hurt: (v) => { v.editLog(0, (lt) => { lt.inodeCountDelta -= 1n; }); } },
  { id: 'CHK_INODE_ORPHAN', what: 'the orphan item is missing',
    hurt: (v) => { v.removeItem({ zone: 8 }); } },
  { id: 'CHK_ORPHAN_STALE', what: 'an orphan item of a linked file',
    hurt: add((r) => [item(key(8, 0, 4, r.file))]) },
  { id: 'SC_INODE_BLOCK_COUNTS', what: 'online_blocks',
    hurt: inode('file', (i) => { i.onlineBlocks++; }) },
  { id: 'SC_INODE_BLOCK_COUNTS', what: 'offline_blocks',
    hurt: inode('file', (i) => { i.offlineBlocks = 0; }) },
  { id: 'SC_INODE_BLOCK_COUNTS', what: 'an orphan with more extents than counted',
    hurt: inode('orphan', (i) => { i.onlineBlocks = 0; }) },
  { id: 'CHK_INDEX_MISSING', what: 'meta_seq index',
    hurt: (v, r) => { v.removeItem({ zone: 4, type: 4, third: BigInt(r.fifo) }); } },
  { id: 'CHK_INDEX_MISSING', what: 'data_seq index',
    hurt: (v, r) => { v.removeItem({ zone: 4, type: 8, third: BigInt(r.file) }); } },
  { id: 'CHK_INDEX_STALE', what: 'an old index item',
    hurt: add((r) => [item(key(4, 0, 4, 3, r.file))]) },
  { id: 'CHK_INDEX_STALE', what: 'a directory in the data_seq index',
    hurt: add((r, v) => [item(key(4, 0, 8, v.sb().seq, r.dir))]) },
  { id: 'CHK_ITEM_NO_INODE', what: 'the inode item is gone', also: ['CHK_INDEX_STALE',
    'CHK_INODE_COUNT'], hurt: drop('file', 4) },
  { id: 'CHK_ITEM_VALUE', what: 'an inode of 161 bytes', also: ['CHK_INDEX_STALE',
    'CHK_INODE_COUNT', 'CHK_ITEM_NO_INODE'], hurt: resize('fifo', 4, 161) },
  { id: 'CHK_ITEM_VERSIONS', what: 'two logs with different items of one seq', hurt: (v) => {
    const { item: i } = v.find({ zone: 16, type: 4 }, (x) => x.key.first > 1n && x.seq > 1n);
    const other = { ...i, value: i.value.slice() };
    other.value[80] = 99;
    v.addItems(other);
  } },
  { id: 'CHK_INODE_LEAKED', what: 'left over from a failed creation', note: true,
    hurt: add((r, v) =>
      inodeItems({ ino: r.orphan + 1, mode: 0o100644 }, v.sb().seq).slice(0, 1)) },
  { id: 'CHK_ITEM_KEY', what: 'unused fields of a key', hurt: add((r) => [
    item(key(16, r.file, 4, 1), new Uint8Array(168))]) },
  { id: 'CHK_ITEM_KEY', what: 'a zone of another tree',
    hurt: add(() => [item(key(28, 5, 0), new Uint8Array(40))]) },
];

const DIR_CASES: Case[] = [
  { id: 'SC_DIRENT_NAME_LEN', what: 'an empty name', also: ['CHK_DIRENT_PAIR', 'CHK_DIR_SIZE',
    'CHK_INODE_NLINK'], hurt: resize('dir', 12, 32) },
  { id: 'SC_DIRENT_READDIR_NAME_LEN', what: 'an empty name', also: ['CHK_DIRENT_BACKREF',
    'CHK_DIRENT_PAIR'], hurt: resize('dir', 16, 32) },
  { id: 'SC_DIRENT_BACKREF_NAME_LEN', what: 'a name of 256 bytes', also: ['CHK_DIRENT_BACKREF',
    'CHK_DIR_BACKREFS'], hurt: resize('subdir', 20, 32 + 256) },
  { id: 'CHK_DIRENT_NAME', what: 'a slash', also: ['CHK_DIRENT_HASH'], hurt: entry((b) => {
    b[32] = 0x2f;
    return b;
  }) },
  { id: 'CHK_DIRENT_HASH', what: 'the name changed in all three items', hurt: entry((b) => {
    b[32] = 0x78;
    return b;
  }) },
  { id: 'CHK_DIRENT_KEY', what: 'stored under another hash', also: [], hurt: (v, r) => {
    v.editItem({ zone: 16, first: BigInt(r.dir), type: 12 },
      (i) => ({ ...i, key: { ...i.key, second: 12345n } }));
  } },
  { id: 'CHK_DIRENT_KEY', what: 'listed at another position', hurt: (v, r) => {
    v.editItem({ zone: 16, first: BigInt(r.dir), type: 16 },
      (i) => ({ ...i, key: { ...i.key, second: 77n } }));
  } },
  { id: 'CHK_DIRENT_POS', what: 'next_readdir_pos',
    hurt: inode('dir', (i) => { i.nextReaddirPos = 2; }) },
  { id: 'CHK_DIRENT_TYPE', what: 'the type of another file', also: ['CHK_INODE_NLINK'],
    hurt: entry((b) => {
      b[24] = 4;
      return b;
    }) },
  { id: 'CHK_DIRENT_DUP', what: 'two entries of one name', also: ['CHK_DIR_SIZE'],
    hurt: both(add((r) => linkItems(r.dir, 'e', 3, r.file, 4)),
      inode('file', (i) => { i.nlink = 2; }), inode('dir', (i) => { i.nextReaddirPos = 4; })) },
  { id: 'CHK_DIRENT_PAIR', what: 'listed, but not found', also: ['CHK_DIR_SIZE', 'CHK_INODE_NLINK'],
    hurt: drop('dir', 12) },
  { id: 'CHK_DIRENT_PAIR', what: 'found, but not listed', also: ['CHK_DIRENT_BACKREF'],
    hurt: drop('dir', 16) },
  { id: 'CHK_DIRENT_PAIR', what: 'found under the inode number of another',
    hurt: value('dir', 12, (b) => { b.setUint8(0, b.getUint8(0) ^ 1); }) },
  { id: 'CHK_DIRENT_BACKREF', what: 'a link without an entry',
    hurt: both(add((r) => [item(key(16, r.file, 20, r.subdir, 9), direntValue(r.file, 'x', 9, 4))]),
      inode('file', (i) => { i.nlink = 2; })) },
  { id: 'CHK_DIR_NOT_DIR', what: 'entries of a fifo', also: ['CHK_DIR_DETACHED'],
    hurt: (v, r) => {
      v.removeItem({ zone: 16, first: BigInt(r.dir), type: 12 });
      v.removeItem({ zone: 16, first: BigInt(r.dir), type: 16 });
      v.removeItem({ zone: 16, first: BigInt(r.subdir), type: 20 });
      inode('dir', (i) => {
        i.size = 0;
        i.nlink = 2;
      })(v, r);
      v.addItems(...linkItems(r.fifo, 'e', 2, r.subdir, 2));
    } },
  { id: 'CHK_DIR_SIZE', what: 'size', hurt: inode('dir', (i) => { i.size = 100; }) },
  { id: 'CHK_DIR_BACKREFS', what: 'a hard linked directory', also: ['CHK_DIR_SIZE',
    'CHK_INODE_NLINK'], hurt: both(add((r) => linkItems(r.subdir, 'f', 2, r.dir, 2)),
    inode('subdir', (i) => { i.nextReaddirPos = 3; })) },
  { id: 'CHK_DIR_UNLINKED', what: 'an unlinked directory with entries', also: ['CHK_DIR_BACKREFS',
    'CHK_DIR_DETACHED', 'CHK_INODE_ORPHAN'], hurt: inode('dir', (i) => { i.nlink = 0; }) },
  { id: 'CHK_DIR_DETACHED', what: 'a directory inside itself', hurt: (v, r) => {
    // d moves from the root into d/e.
    v.removeItem({ zone: 16, first: 1n, type: 12, second: nameHash('d') });
    v.removeItem({ zone: 16, first: 1n, type: 16 }, (i) => i.value.length === 33
      && i.value[32] === 0x64);
    v.removeItem({ zone: 16, first: BigInt(r.dir), type: 20 });
    v.addItems(...linkItems(r.subdir, 'd', 2, r.dir, 2));
    both(inode(null, (i) => {
      i.nlink--;
      i.size--;
    }), inode('subdir', (i) => {
      i.nlink = 3;
      i.size = 1;
      i.nextReaddirPos = 3;
    }))(v, r);
  } },
  { id: 'CHK_DIR_NO_ROOT', what: 'the root is a socket', also: ['CHK_DIR_NOT_DIR',
    'CHK_INODE_NLINK', 'CHK_INODE_SIZE'],
    hurt: inode(null, (i) => { i.mode = 0o140755; }) },
];

const DATA_CASES: Case[] = [
  { id: 'SC_SYMLINK_INODE_SIZE', what: 'size 0', also: ['CHK_SYMLINK_CHUNK'],
    hurt: inode('link', (i) => { i.size = 0; }) },
  { id: 'SC_SYMLINK_INODE_SIZE', what: 'size 5000', also: ['CHK_SYMLINK_CHUNK'],
    hurt: inode('link', (i) => { i.size = 5000; }) },
  { id: 'SC_SYMLINK_MISSING_ITEM', what: 'the last part', hurt: drop('link', 24, 1) },
  { id: 'SC_SYMLINK_MISSING_ITEM', what: 'the first part', hurt: drop('link', 24, 0) },
  { id: 'SC_SYMLINK_NOT_NULL_TERM', what: 'no final zero', hurt: (v, r) => {
    v.editValue({ zone: 16, first: BigInt(r.link), type: 24, second: 1n }, (b) => {
      b.setUint8(b.byteLength - 1, 0x21);
    });
  } },
  { id: 'CHK_SYMLINK_CHUNK', what: 'a short part', also: ['SC_SYMLINK_MISSING_ITEM'],
    hurt: resize('link', 24, 800) },
  { id: 'CHK_SYMLINK_CHUNK', what: 'a target of a fifo',
    hurt: add((r) => [item(key(16, r.fifo, 24, 0), Uint8Array.of(0x61, 0))]) },
  { id: 'CHK_EXTENT_FLAGS', what: 'unknown flag',
    hurt: value('file', 28, (b) => { b.setUint8(8, 4); }) },
  { id: 'CHK_EXTENT_FLAGS', what: 'a stored hole', also: ['SC_INODE_BLOCK_COUNTS'],
    hurt: (v, r) => {
      v.editValue({ zone: 16, first: BigInt(r.file), type: 28, second: 13n },
        (b) => { b.setUint8(8, 0); });
    } },
  { id: 'CHK_EXTENT_RANGE', what: 'behind the end of the device', also: ['CHK_DATA_LOST'],
    hurt: value('file', 28, (b) => { b.setUint32(4, 1, true); }) },
  { id: 'CHK_EXTENT_RANGE', what: 'longer than its end',
    hurt: add((r) => [extentItem(r.file, -5, 20, 0, 1)]), also: [] },
  { id: 'CHK_EXTENT_OVERLAP', what: 'two offline extents over each other',
    also: ['SC_INODE_BLOCK_COUNTS'], hurt: add((r) => [extentItem(r.file, 12, 5, 0, 1)]) },
  { id: 'CHK_EXTENT_OWNER', what: 'data of a fifo', also: ['SC_INODE_BLOCK_COUNTS'],
    hurt: add((r) => [extentItem(r.fifo, 0, 1, 0, 1)]) },
  { id: 'CHK_EXTENT_UNMERGED', what: 'an extent in two pieces', note: true, hurt: (v, r) => {
    v.removeItem({ zone: 16, first: BigInt(r.file), type: 28, second: 2n });
    v.addItems(extentItem(r.file, 0, 1, r.blkno, 0), extentItem(r.file, 1, 2, r.blkno + 1, 0));
  } },
  { id: 'CHK_ITEM_VALUE', what: 'padding of an extent',
    hurt: value('file', 28, (b) => { b.setUint8(12, 1); }) },
  { id: 'CHK_DATA_TWICE', what: 'a block of two files', also: ['CHK_DATA_LOST'],
    hurt: (v, r) => {
      v.editValue({ zone: 16, first: BigInt(r.orphan), type: 28 },
        (b) => { b.setUint32(0, r.blkno, true); });
    } },
  { id: 'CHK_DATA_LOST', what: 'an extent item is gone', also: ['SC_INODE_BLOCK_COUNTS'],
    hurt: drop('file', 28, 2) },
];

const xattr = (id: number, fn: (i: Item) => Item | null, part = 0): Hurt => (v, r) => {
  v.editItem({ zone: 16, first: BigInt(r.file), type: 8, third: BigInt(id), fourth: part }, fn);
};
const addXattr = (name: string, val = user('v'), id = 4): Hurt => both(
  add((r) => xattrItems(r.file, id, name, val)), inode('file', (i) => { i.nextXattrId = 10; }));

const XATTR_CASES: Case[] = [
  { id: 'CHK_XATTR_PARTS', what: 'the last part', hurt: xattr(0, () => null, 2) },
  { id: 'CHK_XATTR_PARTS', what: 'a middle part', hurt: xattr(0, () => null, 1) },
  { id: 'CHK_XATTR_PARTS', what: 'the first part', hurt: xattr(0, () => null) },
  { id: 'CHK_XATTR_PARTS', what: 'a part too many',
    hurt: (v, r) => {
      const { item: i } = v.find(
        { zone: 16, first: BigInt(r.file), type: 8, third: 0n, fourth: 2 });
      v.addItems({ ...i, key: { ...i.key, fourth: 3 } });
    } },
  { id: 'CHK_XATTR_HEADER', what: 'padding', hurt: xattr(0, (i) => {
    i.value[5] = 1;
    return i;
  }) },
  { id: 'CHK_XATTR_HEADER', what: 'a name longer than the part', hurt: xattr(3, (i) => {
    i.value[2] = 255;
    return i;
  }) },
  { id: 'CHK_XATTR_NAME', what: 'an unknown name space', hurt: addXattr('other.name') },
  { id: 'CHK_XATTR_HASH', what: 'the name changed', hurt: xattr(0, (i) => {
    i.value[13] = 0x4c;
    return i;
  }) },
  { id: 'CHK_XATTR_ID', what: 'never given out',
    hurt: inode('file', (i) => { i.nextXattrId = 3; }) },
  { id: 'CHK_XATTR_ID', what: 'used twice', hurt: addXattr('user.second', user('2'), 1) },
  { id: 'CHK_XATTR_DUP', what: 'one name twice',
    hurt: both(addXattr('user.twice', user('a'), 4), addXattr('user.twice', user('b'), 5)) },
  { id: 'CHK_XATTR_TAG', what: 'a tag twice', hurt: addXattr('scoutfs.hide.hide.x') },
  { id: 'CHK_XATTR_TAG', what: 'totl with indx', hurt: addXattr('scoutfs.totl.indx.x.1.2.3') },
  { id: 'CHK_XATTR_TAG', what: 'a total that is no number', also: ['CHK_TOTL'],
    hurt: xattr(1, (i) => {
    i.value[i.value.length - 1] = 0x7a;
    return i;
  }) },
  { id: 'CHK_XATTR_TAG', what: 'an index position above 255', hurt: addXattr(
    'scoutfs.indx.p.256.1', new Uint8Array(0)) },
  { id: 'CHK_TOTL', what: 'the stored total',
    hurt: (v) => { v.editValue({ zone: 12, first: 1n }, (b) => { b.setUint8(0, 17); }); } },
  { id: 'CHK_TOTL', what: 'a total nobody contributes to',
    hurt: add(() => [item(key(12, 9, 0, 9, 9), new Uint8Array(16).fill(1))]) },
  { id: 'CHK_INDX_MISSING', what: 'the index item',
    hurt: (v, r) => { v.removeItem(indxKey(7n, 4242n, BigInt(r.file), 2n)); } },
  { id: 'CHK_INDX_STALE', what: 'an index item with the wrong id',
    hurt: add((r) => [item(indxKey(7n, 4242n, BigInt(r.file), 3n))]) },
  { id: 'CHK_SRCH_MISSING', what: 'an xattr that no search finds',
    hurt: addXattr('scoutfs.srch.lost') },
  { id: 'CHK_SRCH_STALE', what: 'a search finds an xattr that is gone', hurt: (v) => {
    v.removeItem({ zone: 16, type: 8 }, (i) =>
      Buffer.from(i.value).toString('latin1').includes('.srch.'));
  } },
  { id: 'CHK_QUOTA_RULE', what: 'the limit changed', hurt: (v) => {
    v.editValue({ zone: 10 }, (b) => { b.setUint8(24, 1); });
  } },
  { id: 'CHK_QUOTA_RULE', what: 'operation 2', hurt: add(() => {
    const q = quotaItem(7n);
    q.value[33] = 2;
    return [q];
  }) },
];

export const FS_CASES: Case[] = [...INODE_CASES, ...DIR_CASES, ...DATA_CASES, ...XATTR_CASES];
