/**
 * Everything that must be true of the items of a file system between two
 * operations: dir.md 2, inode.md 3, 4 and 7, data.md 1, xattr.md 1 and 2.
 * Returns what is wrong, one line each.
 */
import {
  DATA_EXTENT_TYPE, DIRENT_TYPE, DataExtentVal, Dirent, FS_ZONE, INODE_INDEX_ZONE, INODE_TYPE,
  Inode, LINK_BACKREF_TYPE, ORPHAN_ZONE, READDIR_TYPE, SYMLINK_TYPE, XATTR_INDX_ZONE,
  XATTR_TOTL_ZONE, XATTR_TYPE,
} from '../../host/core/format.js';
import { direntNameHash } from '../../host/core/hash.js';
import { canMerge, extEnd, newExt } from '../../host/fs/ext.js';
import type { Ext } from '../../host/fs/ext.js';
import { indxKey, parseNumber, parseTags, totlKey } from '../../host/fs/xattr_tags.js';
import { parseKey, wideString } from './fakeitems.js';
import type { ParsedKey } from './fakeitems.js';

interface Item {
  key: ParsedKey;
  val: Uint8Array;
}

interface Seen {
  inode: Inode;
  names: Item[];
  listed: Item[];
  links: Item[];
  extents: Ext[];
  chunks: Item[];
  xattrs: Map<string, Item[]>;
}

function view(b: Uint8Array): DataView {
  return new DataView(b.buffer, b.byteOffset, b.length);
}

/**
 * @param used    blocks of the data device that are allocated
 * @param srchLog entries as "name ino id": those of live tagged xattrs come an odd number
 *                of times, all others an even one
 */
export function checkItems(store: ReadonlyMap<string, Uint8Array>, used?: ReadonlySet<number>,
  srchLog?: readonly string[]): string[] {
  const bad: string[] = [];
  const inodes = new Map<bigint, Seen>();
  const index = new Set<string>();
  const orphans = new Set<bigint>();
  const sides = new Map<string, Uint8Array>();
  const keys = [...store.keys()].sort();
  const get = (ino: bigint): Seen | null => {
    const s = inodes.get(ino);
    if (s === undefined) bad.push(`items of inode ${ino} without an inode item`);
    return s ?? null;
  };
  for (const k of keys) {
    const key = parseKey(k);
    const val = store.get(k) ?? new Uint8Array(0);
    if (key.zone === FS_ZONE && key.type === INODE_TYPE) {
      const full = new Uint8Array(168);
      full.set(val);
      inodes.set(key.first, {
        inode: Inode.read(view(full), 0), names: [], listed: [], links: [], extents: [],
        chunks: [], xattrs: new Map(),
      });
    } else if (key.zone === INODE_INDEX_ZONE) {
      index.add(`${key.type} ${key.second} ${key.third}`);
    } else if (key.zone === ORPHAN_ZONE) {
      orphans.add(key.second);
    } else if (key.zone === XATTR_TOTL_ZONE || key.zone === XATTR_INDX_ZONE) {
      sides.set(k, val);
    }
  }
  for (const k of keys) {
    const key = parseKey(k);
    if (key.zone !== FS_ZONE || key.type === INODE_TYPE) continue;
    const val = store.get(k) ?? new Uint8Array(0);
    const s = get(key.first);
    if (s !== null) sort(s, { key, val });
  }
  for (const [ino, s] of inodes) checkInode(ino, s, inodes, index, orphans, bad);
  for (const i of index) bad.push(`index item of nothing: ${i}`);
  for (const o of orphans) bad.push(`orphan item of nothing: ${o}`);
  checkSides(inodes, sides, bad);
  if (srchLog !== undefined) checkSrch(inodes, srchLog, bad);
  if (used !== undefined) checkUsed(inodes, used, bad);
  return bad;
}

function sort(s: Seen, item: Item): void {
  const { key, val } = item;
  if (key.type === DIRENT_TYPE) s.names.push(item);
  else if (key.type === READDIR_TYPE) s.listed.push(item);
  else if (key.type === LINK_BACKREF_TYPE) s.links.push(item);
  else if (key.type === SYMLINK_TYPE) s.chunks.push(item);
  else if (key.type === XATTR_TYPE) {
    const id = `${key.second} ${key.third}`;
    s.xattrs.set(id, [...s.xattrs.get(id) ?? [], item]);
  } else if (key.type === DATA_EXTENT_TYPE) {
    const v = DataExtentVal.read(view(val), 0);
    const len = Number(key.third);
    s.extents.push(newExt(Number(key.second) - len + 1, len, v.blkno, v.flags));
  }
}

function checkInode(ino: bigint, s: Seen, all: Map<bigint, Seen>, index: Set<string>,
  orphans: Set<bigint>, bad: string[]): void {
  const { inode } = s;
  const say = (what: string): void => { bad.push(`inode ${ino}: ${what}`); };
  const isDir = (inode.mode & 0o170000) === 0o40000;
  const isReg = (inode.mode & 0o170000) === 0o100000;
  if (!index.delete(`4 ${inode.metaSeq} ${ino}`)) say(`no META_SEQ item at ${inode.metaSeq}`);
  if (isReg && !index.delete(`8 ${inode.dataSeq} ${ino}`)) {
    say(`no DATA_SEQ item at ${inode.dataSeq}`);
  }
  if (orphans.delete(ino) !== (inode.nlink === 0)) say(`nlink ${inode.nlink} and orphan disagree`);
  if (isDir) checkDir(ino, s, all, say);
  else if (inode.nlink !== s.links.length) say(`nlink ${inode.nlink}, ${s.links.length} links`);
  if (isDir && ino !== 1n && s.links.length !== (inode.nlink === 0 ? 0 : 1)) {
    say(`a directory with ${s.links.length} links`);
  }
  checkExtents(s, say);
  if ((inode.mode & 0o170000) === 0o120000) {
    const bytes = s.chunks.reduce((n, c) => n + c.val.length, 0);
    if (bytes !== inode.size || s.chunks.at(-1)?.val.at(-1) !== 0) say('damaged target');
  }
  for (const [id, parts] of s.xattrs) {
    const head = parts[0]?.val ?? new Uint8Array(8);
    const total = 8 + (head[2] ?? 0) + view(head).getUint16(0, true);
    if (parts.some((p, i) => p.key.fourth !== i || p.val.length !==
        Math.min(896, total - i * 896)) || parts.length !== Math.ceil(total / 896)) {
      say(`xattr ${id} has wrong parts`);
    }
    if (Number(id.split(' ')[1]) >= inode.nextXattrId) say(`xattr id ${id} not yet given out`);
  }
}

function checkDir(ino: bigint, s: Seen, all: Map<bigint, Seen>, say: (what: string) => void):
void {
  let size = 0;
  let subdirs = 0;
  if (s.names.length !== s.listed.length) say(`${s.names.length} names, ${s.listed.length} listed`);
  for (const n of s.names) {
    const d = Dirent.read(view(n.val), 0);
    const name = n.val.subarray(32);
    size += name.length;
    if (d.hash !== direntNameHash(name) || d.hash !== n.key.second) say('wrong name hash');
    if (BigInt(d.pos) !== n.key.third || d.pos >= s.inode.nextReaddirPos) say(`pos ${d.pos}`);
    const target = all.get(BigInt(d.ino));
    if (target === undefined) {
      say(`entry of missing inode ${d.ino}`);
      continue;
    }
    if ((target.inode.mode & 0o170000) === 0o40000) subdirs += 1;
    const same = (i: Item): boolean => Buffer.from(i.val).equals(n.val);
    if (!s.listed.some((l) => l.key.second === BigInt(d.pos) && same(l))) say('not listed');
    if (!target.links.some((l) => l.key.second === ino && l.key.third === BigInt(d.pos) &&
        same(l))) {
      say(`entry of ${d.ino} without back reference`);
    }
  }
  if (size !== s.inode.size) say(`size ${s.inode.size}, names ${size}`);
  const want = s.inode.nlink === 0 ? 0 : 2 + subdirs;
  if (s.inode.nlink !== want) say(`nlink ${s.inode.nlink}, expected ${want}`);
}

function checkExtents(s: Seen, say: (what: string) => void): void {
  let online = 0;
  let offline = 0;
  let before: Ext | null = null;
  for (const e of s.extents) {
    if (before !== null && extEnd(before) > e.start) say(`extents overlap at ${e.start}`);
    if (before !== null && canMerge(before, e)) say(`extents not merged at ${e.start}`);
    if (e.blkno === 0 && e.flags === 0) say(`a stored hole at ${e.start}`);
    if (e.blkno !== 0 && (e.flags & 2) === 0) online += e.len;
    else if ((e.flags & 1) !== 0) offline += e.len;
    before = e;
  }
  if (online !== s.inode.onlineBlocks || offline !== s.inode.offlineBlocks) {
    say(`counters ${s.inode.onlineBlocks}, ${s.inode.offlineBlocks}: ${online}, ${offline}`);
  }
}

function checkSides(inodes: Map<bigint, Seen>, sides: Map<string, Uint8Array>, bad: string[]):
void {
  const want = new Map<string, [bigint, bigint]>();
  for (const [ino, s] of inodes) {
    for (const parts of s.xattrs.values()) {
      const part = parts[0];
      if (part === undefined) continue;
      const name = part.val.subarray(8, 8 + (part.val[2] ?? 0));
      const tags = parseTags(name);
      const totl = tags?.totl === true ? totlKey(name) : null;
      const indx = tags?.indx === true ? indxKey(name, ino, part.key.third) : null;
      if (totl !== null) {
        const [total, count] = want.get(wideString(totl)) ?? [0n, 0n];
        const value = parseNumber(part.val.subarray(8 + name.length)) ?? 0n;
        want.set(wideString(totl), [(total + value) & ((1n << 64n) - 1n), count + 1n]);
      }
      if (indx !== null) want.set(wideString(indx), [0n, 0n]);
    }
  }
  for (const [k, [total, count]] of want) {
    const v = sides.get(k);
    sides.delete(k);
    if (v === undefined) bad.push(`missing side item ${k}`);
    else if (v.length === 16 && (view(v).getBigUint64(0, true) !== total ||
        view(v).getBigUint64(8, true) !== count)) {
      bad.push(`wrong total at ${k}`);
    }
  }
  for (const k of sides.keys()) bad.push(`side item of nothing: ${k}`);
}

function checkSrch(inodes: Map<bigint, Seen>, srchLog: readonly string[], bad: string[]): void {
  const odd = new Set<string>();
  for (const e of srchLog) if (!odd.delete(e)) odd.add(e);
  for (const [ino, s] of inodes) {
    for (const [part] of s.xattrs.values()) {
      const name = part?.val.subarray(8, 8 + (part.val[2] ?? 0)) ?? new Uint8Array(0);
      if (part === undefined || parseTags(name)?.srch !== true) continue;
      const entry = `${Buffer.from(name).toString('latin1')} ${ino} ${part.key.third}`;
      if (!odd.delete(entry)) bad.push(`missing srch entry ${entry}`);
    }
  }
  for (const e of odd) bad.push(`srch entry of nothing: ${e}`);
}

function checkUsed(inodes: Map<bigint, Seen>, used: ReadonlySet<number>, bad: string[]): void {
  const mapped = new Set<number>();
  for (const s of inodes.values()) {
    for (const e of s.extents) {
      for (let i = 0; e.blkno !== 0 && i < e.len; i++) {
        if (mapped.has(e.blkno + i)) bad.push(`device block ${e.blkno + i} mapped twice`);
        mapped.add(e.blkno + i);
      }
    }
  }
  for (const b of mapped) if (!used.has(b)) bad.push(`device block ${b} mapped but free`);
  for (const b of used) if (!mapped.has(b)) bad.push(`device block ${b} leaked`);
}
