/**
 * The dump's text of items: one function per kind of tree, each given a leaf item
 * and returning its lines.
 *
 * Values are checked for their least length before they are read; a value that
 * holds a number no volume can have is shown as bytes.
 *
 * Spec: format.md 8, 12 to 15.
 */
import {
  BlockRef, DATA_EXTENT_TYPE, DIRENT_TYPE, DataExtentVal, Dirent, FREE_EXTENT_BLKNO_ZONE,
  FREE_EXTENT_ORDER_ZONE, FS_ZONE, INODE_INDEX_ZONE, INODE_TYPE, Inode, ITEM_FLAG_DELETION,
  LINK_BACKREF_TYPE, LOG_MERGE_COMPLETE_ZONE, LOG_MERGE_FREEING_ZONE, LOG_MERGE_RANGE_ZONE,
  LOG_MERGE_REQUEST_ZONE, LOG_MERGE_STATUS_ZONE, LogMergeComplete, LogMergeFreeing, LogMergeRange,
  LogMergeRequest, LogMergeStatus, LogTrees, MountedClientBtreeVal, ORPHAN_ZONE, QUOTA_ZONE,
  QuotaRuleVal, READDIR_TYPE, SRCH_BLOCKS_TYPE, SRCH_BUSY_TYPE, SRCH_LOG_TYPE, SRCH_PENDING_TYPE,
  SYMLINK_TYPE, SrchCompact, SrchFile, XATTR_INDX_ZONE, XATTR_TOTL_ZONE, XATTR_TYPE, Xattr,
  XattrTotlVal,
} from '../core/format.js';
import type { BtreeRoot, Key } from '../core/format.js';
import { keyToString } from '../core/keys.js';
import { asScoutfsError } from '../observe/errors.js';
import {
  allocRootText, hex16, hex8, listHeadText, printable, refText, srchFileText, word,
} from './print_text.js';
import { addrText } from './quorum_slots.js';
import type { TreeItem } from './tree.js';

/** Lines of a leaf item, each ending in a line feed. */
export type ItemPrinter = (item: TreeItem) => string;

const U64_MAX = 0xffffffffffffffffn;
/** Upstream's dump cuts targets to the length of a name. */
const TARGET_SHOWN_BYTES = 255;

/** Key, item seq and deletion mark: how file system trees and all parents begin. */
export function keyLine(item: TreeItem): string {
  const mark = (item.flags & ITEM_FLAG_DELETION) === 0 ? '-' : 'd';
  return `    ${keyToString(item.key)} ${item.seq} ${mark}\n`;
}

function bytesOf(v: DataView, from = 0): Uint8Array {
  return new Uint8Array(v.buffer, v.byteOffset + from, v.byteLength - from);
}

/** Runs a printer; an item it cannot show becomes a line that says why. */
export function safely(print: ItemPrinter, item: TreeItem): string {
  try {
    return print(item);
  } catch (e) {
    return `    (value of ${item.valLen} bytes cannot be shown: ${asScoutfsError(e).message})\n`;
  }
}

/** The time at `o`; upstream pads nanoseconds to eight digits. */
function timeText(v: DataView, o: number): string {
  return `${word(v, o)}.${String(v.getUint32(o + 8, true)).padStart(8, '0')}`;
}

/** Field by field: shows also what the codec refuses. */
function inodeText({ key, val }: TreeItem): string {
  // Version 1 stores a shorter inode.
  const full = new Uint8Array(Inode.size);
  full.set(bytesOf(val).subarray(0, Inode.size));
  const v = new DataView(full.buffer);
  const u32 = (o: number, radix = 10): string => v.getUint32(o, true).toString(radix);
  return `    inode: ino ${key.first} size ${word(v, 0)} version ${word(v, 64)} ` +
    `proj ${word(v, 160)} nlink ${u32(72)}\n` +
    `      uid ${u32(76)} gid ${u32(80)} mode 0${u32(84, 8)} rdev 0x${u32(88, 16)} ` +
    `flags 0x${u32(92, 16)}\n` +
    `      next_readdir_pos ${word(v, 48)} meta_seq ${word(v, 8)} data_seq ${word(v, 16)} ` +
    `data_version ${word(v, 24)}\n` +
    `      atime ${timeText(v, 96)} ctime ${timeText(v, 112)}\n` +
    `      mtime ${timeText(v, 128)}\n`;
}

function direntText({ key, val }: TreeItem): string {
  const d = Dirent.read(val, 0);
  return `    dirent: dir ${key.first} hash ${hex16(d.hash)} pos ${d.pos} type ${d.type} ` +
    `ino ${d.ino}\n      name ${printable(bytesOf(val, Dirent.size))}\n`;
}

function xattrText({ key, val }: TreeItem): string {
  const head = `    xattr: ino ${key.first} name_hash ${hex8(Number(key.second & 0xffffffffn))} ` +
    `id ${key.third} part ${key.fourth}\n`;
  if (key.fourth !== 0) return head;
  const x = Xattr.read(val, 0);
  const name = bytesOf(val, Xattr.size).subarray(0, x.nameLen);
  return `${head}      name_len ${x.nameLen} val_len ${x.valLen} name ${printable(name)}\n`;
}

function symlinkText({ key, val }: TreeItem): string {
  const bytes = bytesOf(val).subarray(0, TARGET_SHOWN_BYTES);
  const end = bytes.indexOf(0);
  const target = end < 0 ? bytes : bytes.subarray(0, end);
  return `    symlink: ino ${key.first} nr ${key.second}\n      target ${printable(target)}\n`;
}

function extentText({ key, val }: TreeItem): string {
  const x = DataExtentVal.read(val, 0);
  return `    extent: ino ${key.first} iblock ${key.second - key.third + 1n} len ${key.third} ` +
    `blkno ${x.blkno} flags ${x.flags}\n`;
}

function quotaText({ key, val }: TreeItem): string {
  const q = QuotaRuleVal.read(val, 0);
  const names = q.nameVal.map((v, i) => `${v},${q.nameSource[i] ?? 0},${q.nameFlags[i] ?? 0}`);
  return `    quota rule: hash 0x${hex16(key.second)} coll_nr ${key.third}\n` +
    `      [${q.prio} ${names.join(' ')} ${q.op} ${q.limit} ${q.ruleFlags}]\n`;
}

function totlText({ key, val }: TreeItem): string {
  const t = XattrTotlVal.read(val, 0);
  return `    xattr totl: ${key.first}.${key.second}.${key.third} = ` +
    `${BigInt.asIntN(64, t.total)}, ${BigInt.asIntN(64, t.count)}\n`;
}

/** Upstream ends this line without a line feed, so the next item follows on it. */
function indxText({ key }: TreeItem): string {
  const minor = (key.first << 8n & U64_MAX) | key.second >> 56n;
  const ino = (key.second << 8n & U64_MAX) | key.third >> 56n;
  const xid = (key.third << 8n & U64_MAX) | BigInt(key.fourth);
  return `    xattr indx: major ${key.first >> 56n} minor ${minor} ino ${ino} xid ${xid}`;
}

const FS_TYPES: Readonly<Record<number, ItemPrinter>> = {
  [INODE_TYPE]: inodeText,
  [XATTR_TYPE]: xattrText,
  [DIRENT_TYPE]: direntText,
  [READDIR_TYPE]: direntText,
  [LINK_BACKREF_TYPE]: direntText,
  [SYMLINK_TYPE]: symlinkText,
  [DATA_EXTENT_TYPE]: extentText,
};

function fsValue(item: TreeItem): string {
  const { key } = item;
  switch (key.zone) {
    case INODE_INDEX_ZONE:
      return `      index: major ${key.second} ino ${key.third}\n`;
    case ORPHAN_ZONE:
      return `    orphan: ino ${key.second}\n`;
    case QUOTA_ZONE:
      return quotaText(item);
    case XATTR_TOTL_ZONE:
      return totlText(item);
    case XATTR_INDX_ZONE:
      return indxText(item);
    case FS_ZONE:
      return FS_TYPES[key.type]?.(item) ?? `    unknown type ${key.type}\n`;
    default:
      return `    unknown zone ${key.zone}\n`;
  }
}

/** Items of `fs_root` and of the item trees of mounts. */
export function fsItem(item: TreeItem): string {
  const deleted = (item.flags & ITEM_FLAG_DELETION) !== 0;
  return keyLine(item) + (deleted ? '' : safely(fsValue, item));
}

/** Items of the allocator trees. */
export function allocItem({ key }: TreeItem): string {
  switch (key.zone) {
    case FREE_EXTENT_BLKNO_ZONE:
      return `    free extent: blkno ${key.first - key.second + 1n} len ${key.second} ` +
        `end ${key.first}\n`;
    case FREE_EXTENT_ORDER_ZONE:
      return `    free extent: blkno ${key.second - key.third + 1n} len ${key.third} ` +
        `order ${U64_MAX - key.first}\n`;
    default:
      return `    unknown zone ${key.zone}\n`;
  }
}

export function clientItem({ key, val }: TreeItem): string {
  const c = MountedClientBtreeVal.read(val, 0);
  return `    rid ${hex16(key.first)} ipv4_addr ${addrText(c.addr.addr)} ` +
    `flags 0x${c.flags.toString(16)}\n`;
}

/** Numbers of the bits that are set in the zones of a log tree. */
function zoneNumbers(zones: readonly bigint[]): string {
  const set: number[] = [];
  zones.forEach((w, i) => {
    for (let b = 0; b < 64; b++) if ((w >> BigInt(b) & 1n) !== 0n) set.push(i * 64 + b);
  });
  return set.map((n) => `${n} `).join('');
}

function itemRootText(r: BtreeRoot): string {
  return `height ${r.height} ${refText(r.ref)}`;
}

export function logTreesItem({ key, val }: TreeItem): string {
  const lt = LogTrees.read(val, 0);
  return [
    `    rid ${key.first} nr ${key.second}`,
    `meta_avail: ${listHeadText(lt.metaAvail)}`,
    `meta_freed: ${listHeadText(lt.metaFreed)}`,
    `item_root: ${itemRootText(lt.itemRoot)}`,
    `bloom_ref: ${refText(lt.bloomRef)}`,
    `data_avail: ${allocRootText(lt.dataAvail)}`,
    `data_freed: ${allocRootText(lt.dataFreed)}`,
    `srch_file: ${srchFileText(lt.srchFile)}`,
    `inode_count_delta: ${lt.inodeCountDelta}`,
    `get_trans_seq: ${lt.getTransSeq}`,
    `commit_trans_seq: ${lt.commitTransSeq}`,
    `max_item_seq: ${lt.maxItemSeq}`,
    `finalize_seq: ${lt.finalizeSeq}`,
    `rid: ${hex16(lt.rid)}`,
    `nr: ${lt.nr}`,
    `flags: ${lt.flags.toString(16)}`,
    `data_alloc_zone_blocks: ${lt.dataAllocZoneBlocks}`,
    `data_alloc_zones: ${zoneNumbers(lt.dataAllocZones)}`,
  ].join('\n      ').concat('\n');
}

function compactText(c: SrchCompact): string {
  return [
    `      compact id ${c.id} nr ${c.nr} flags 0x${c.flags.toString(16)}`,
    `meta_avail: ${listHeadText(c.metaAvail)}`,
    `meta_freed: ${listHeadText(c.metaFreed)}`,
    `out: ${srchFileText(c.out)}`,
    ...c.inputs.slice(0, c.nr).map((n, i) =>
      `in[${i}]: blk ${n.blk} pos ${n.pos} ${srchFileText(n.sfl)}`),
  ].join('\n      ').concat('\n');
}

function srchValue({ key, val }: TreeItem): string {
  switch (key.type) {
    case SRCH_LOG_TYPE:
    case SRCH_BLOCKS_TYPE:
      return `      ${srchFileText(SrchFile.read(val, 0))}\n`;
    case SRCH_PENDING_TYPE:
    case SRCH_BUSY_TYPE:
      return compactText(SrchCompact.read(val, 0));
    default:
      return `      unknown type ${key.type}\n`;
  }
}

export function srchItem(item: TreeItem): string {
  return `    ${keyToString(item.key)}\n${safely(srchValue, item)}`;
}

function range(start: Key, end: Key): string {
  return `start ${keyToString(start)} end ${keyToString(end)}`;
}

function requestText(val: DataView): string {
  const r = LogMergeRequest.read(val, 0);
  return [
    `    request: rid ${hex16(r.rid)} seq ${r.seq} flags 0x${r.flags.toString(16)}`,
    `meta_avail: ${listHeadText(r.metaAvail)}`,
    `meta_freed: ${listHeadText(r.metaFreed)}`,
    `logs_root: ${itemRootText(r.logsRoot)}`,
    `root: ${itemRootText(r.root)}`,
    range(r.start, r.end),
    `input_seq: ${r.inputSeq}`,
  ].join('\n      ').concat('\n');
}

function completeText(val: DataView): string {
  const c = LogMergeComplete.read(val, 0);
  return [
    `    complete: rid ${hex16(c.rid)} seq ${c.seq} flags 0x${c.flags.toString(16)}`,
    `meta_avail: ${listHeadText(c.metaAvail)}`,
    `meta_freed: ${listHeadText(c.metaFreed)}`,
    `root: ${itemRootText(c.root)}`,
    range(c.start, c.end),
    `remain: ${keyToString(c.remain)}`,
  ].join('\n      ').concat('\n');
}

export function mergeItem({ key, val }: TreeItem): string {
  switch (key.zone) {
    case LOG_MERGE_STATUS_ZONE: {
      const s = LogMergeStatus.read(val, 0);
      return `    status: next_range_key ${keyToString(s.nextRangeKey)} nr_req ${s.nrRequests} ` +
        `nr_comp ${s.nrComplete} seq ${s.seq}\n`;
    }
    case LOG_MERGE_RANGE_ZONE: {
      const r = LogMergeRange.read(val, 0);
      return `    range: ${range(r.start, r.end)}\n`;
    }
    case LOG_MERGE_REQUEST_ZONE:
      return requestText(val);
    case LOG_MERGE_COMPLETE_ZONE:
      return completeText(val);
    case LOG_MERGE_FREEING_ZONE: {
      const f = LogMergeFreeing.read(val, 0);
      return `    freeing: ${itemRootText(f.root)} key ${keyToString(f.key)} seq ${f.seq}\n`;
    }
    default:
      return `    unknown zone ${key.zone}\n`;
  }
}

/** A child reference in a parent block. */
export function parentItem(item: TreeItem): string {
  const ref = item.val.byteLength >= BlockRef.size
    ? `blkno ${item.val.getBigUint64(0, true)} seq ${item.val.getBigUint64(8, true)}`
    : `of ${item.valLen} bytes`;
  return `${keyLine(item)}    ref ${ref}\n`;
}
