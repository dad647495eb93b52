/**
 * The structures of the on-disk and wire format: one codec per structure.
 *
 * Every codec has the structure's size in bytes, `read(view, offset)` and
 * `write(view, offset, value)`. All integers are little endian. Padding is not
 * part of the values: `write` stores zeros there, `read` ignores it.
 *
 * 64-bit fields that count something (numbers of blocks, inodes, sequence
 * numbers of the server's counter) are JavaScript numbers and must be at most
 * 2^53 - 1: reading a larger one throws `U64_RANGE`, because no volume can hold
 * such a count and everything downstream relies on exact integers. The size of a file
 * can be larger and is a `BytePos` (`bytepos.ts`). Random ids,
 * hashes and opaque words are BigInt. Key fields are BigInt too; code that walks
 * many keys compares the 32 bytes with `keys.ts` instead.
 *
 * The layout tables come from `format.md`; test/core/format.test.ts holds each
 * offset and size against `format-vectors.json` (structs, constants).
 */
export * from './constants.js';
import type { BytePos } from './bytepos.js';
import { readPos, setPos } from './bytepos.js';
import { u64, setU64 } from './u64.js';

/** `struct scoutfs_timespec`, 16 bytes. */
export interface Timespec {
  sec: bigint;
  nsec: number;
}
export const Timespec = {
  size: 16,
  read(v: DataView, o: number): Timespec {
    return {
      sec: v.getBigInt64(o, true),
      nsec: v.getUint32(o + 8, true),
    };
  },
  write(v: DataView, o: number, s: Timespec): void {
    zero(v, o, 16);
    v.setBigInt64(o, s.sec, true);
    v.setUint32(o + 8, s.nsec, true);
  },
};

/** `union scoutfs_inet_addr`: an IPv4 endpoint; bytes 8..31 are written as zero and ignored. */
export interface InetAddr {
  family: number;
  port: number;
  /** address as a host-order integer: 127.0.0.1 is 0x7f000001 */
  addr: number;
}
export const InetAddr = {
  size: 32,
  read(v: DataView, o: number): InetAddr {
    return {
      family: v.getUint16(o, true),
      port: v.getUint16(o + 2, true),
      addr: v.getUint32(o + 4, true),
    };
  },
  write(v: DataView, o: number, s: InetAddr): void {
    zero(v, o, 32);
    v.setUint16(o, s.family, true);
    v.setUint16(o + 2, s.port, true);
    v.setUint32(o + 4, s.addr, true);
  },
};

/** `struct scoutfs_block_header`, 32 bytes. */
export interface BlockHeader {
  crc: number;
  magic: number;
  fsid: bigint;
  seq: bigint;
  blkno: number;
}
export const BlockHeader = {
  size: 32,
  read(v: DataView, o: number): BlockHeader {
    return {
      crc: v.getUint32(o, true),
      magic: v.getUint32(o + 4, true),
      fsid: v.getBigUint64(o + 8, true),
      seq: v.getBigUint64(o + 16, true),
      blkno: u64(v, o + 24),
    };
  },
  write(v: DataView, o: number, s: BlockHeader): void {
    zero(v, o, 32);
    v.setUint32(o, s.crc, true);
    v.setUint32(o + 4, s.magic, true);
    v.setBigUint64(o + 8, s.fsid, true);
    v.setBigUint64(o + 16, s.seq, true);
    setU64(v, o + 24, s.blkno);
  },
};

/** `struct scoutfs_block_ref`, 16 bytes. */
export interface BlockRef {
  blkno: number;
  seq: bigint;
}
export const BlockRef = {
  size: 16,
  read(v: DataView, o: number): BlockRef {
    return {
      blkno: u64(v, o),
      seq: v.getBigUint64(o + 8, true),
    };
  },
  write(v: DataView, o: number, s: BlockRef): void {
    zero(v, o, 16);
    setU64(v, o, s.blkno);
    v.setBigUint64(o + 8, s.seq, true);
  },
};

/** `struct scoutfs_key`, 32 bytes. */
export interface Key {
  first: bigint;
  second: bigint;
  third: bigint;
  fourth: number;
  zone: number;
  type: number;
}
export const Key = {
  size: 32,
  read(v: DataView, o: number): Key {
    return {
      first: v.getBigUint64(o, true),
      second: v.getBigUint64(o + 8, true),
      third: v.getBigUint64(o + 16, true),
      fourth: v.getUint8(o + 24),
      zone: v.getUint8(o + 25),
      type: v.getUint8(o + 26),
    };
  },
  write(v: DataView, o: number, s: Key): void {
    zero(v, o, 32);
    v.setBigUint64(o, s.first, true);
    v.setBigUint64(o + 8, s.second, true);
    v.setBigUint64(o + 16, s.third, true);
    v.setUint8(o + 24, s.fourth);
    v.setUint8(o + 25, s.zone);
    v.setUint8(o + 26, s.type);
  },
};

/** `struct scoutfs_avl_root`, 2 bytes. */
export interface AvlRoot {
  node: number;
}
export const AvlRoot = {
  size: 2,
  read(v: DataView, o: number): AvlRoot {
    return {
      node: v.getUint16(o, true),
    };
  },
  write(v: DataView, o: number, s: AvlRoot): void {
    zero(v, o, 2);
    v.setUint16(o, s.node, true);
  },
};

/** `struct scoutfs_avl_node`, 8 bytes. */
export interface AvlNode {
  parent: number;
  left: number;
  right: number;
  height: number;
}
export const AvlNode = {
  size: 8,
  read(v: DataView, o: number): AvlNode {
    return {
      parent: v.getUint16(o, true),
      left: v.getUint16(o + 2, true),
      right: v.getUint16(o + 4, true),
      height: v.getUint8(o + 6),
    };
  },
  write(v: DataView, o: number, s: AvlNode): void {
    zero(v, o, 8);
    v.setUint16(o, s.parent, true);
    v.setUint16(o + 2, s.left, true);
    v.setUint16(o + 4, s.right, true);
    v.setUint8(o + 6, s.height);
  },
};

/** `struct scoutfs_btree_root`, 24 bytes. */
export interface BtreeRoot {
  ref: BlockRef;
  height: number;
}
export const BtreeRoot = {
  size: 24,
  read(v: DataView, o: number): BtreeRoot {
    return {
      ref: BlockRef.read(v, o),
      height: v.getUint8(o + 16),
    };
  },
  write(v: DataView, o: number, s: BtreeRoot): void {
    zero(v, o, 24);
    BlockRef.write(v, o, s.ref);
    v.setUint8(o + 16, s.height);
  },
};

/** `struct scoutfs_btree_item`, 56 bytes. */
export interface BtreeItem {
  node: AvlNode;
  key: Key;
  seq: number;
  valOff: number;
  valLen: number;
  flags: number;
}
export const BtreeItem = {
  size: 56,
  read(v: DataView, o: number): BtreeItem {
    return {
      node: AvlNode.read(v, o),
      key: Key.read(v, o + 8),
      seq: u64(v, o + 40),
      valOff: v.getUint16(o + 48, true),
      valLen: v.getUint16(o + 50, true),
      flags: v.getUint8(o + 52),
    };
  },
  write(v: DataView, o: number, s: BtreeItem): void {
    zero(v, o, 56);
    AvlNode.write(v, o, s.node);
    Key.write(v, o + 8, s.key);
    setU64(v, o + 40, s.seq);
    v.setUint16(o + 48, s.valOff, true);
    v.setUint16(o + 50, s.valLen, true);
    v.setUint8(o + 52, s.flags);
  },
};

/** `struct scoutfs_btree_block`, 48 bytes. */
export interface BtreeBlock {
  hdr: BlockHeader;
  itemRoot: AvlRoot;
  nrItems: number;
  totalItemBytes: number;
  midFreeLen: number;
  level: number;
}
export const BtreeBlock = {
  size: 48,
  read(v: DataView, o: number): BtreeBlock {
    return {
      hdr: BlockHeader.read(v, o),
      itemRoot: AvlRoot.read(v, o + 32),
      nrItems: v.getUint16(o + 34, true),
      totalItemBytes: v.getUint16(o + 36, true),
      midFreeLen: v.getUint16(o + 38, true),
      level: v.getUint8(o + 40),
    };
  },
  write(v: DataView, o: number, s: BtreeBlock): void {
    zero(v, o, 48);
    BlockHeader.write(v, o, s.hdr);
    AvlRoot.write(v, o + 32, s.itemRoot);
    v.setUint16(o + 34, s.nrItems, true);
    v.setUint16(o + 36, s.totalItemBytes, true);
    v.setUint16(o + 38, s.midFreeLen, true);
    v.setUint8(o + 40, s.level);
  },
};

/** `struct scoutfs_alloc_list_head`, 32 bytes. */
export interface AllocListHead {
  ref: BlockRef;
  totalNr: number;
  firstNr: number;
  flags: number;
}
export const AllocListHead = {
  size: 32,
  read(v: DataView, o: number): AllocListHead {
    return {
      ref: BlockRef.read(v, o),
      totalNr: u64(v, o + 16),
      firstNr: v.getUint32(o + 24, true),
      flags: v.getUint32(o + 28, true),
    };
  },
  write(v: DataView, o: number, s: AllocListHead): void {
    zero(v, o, 32);
    BlockRef.write(v, o, s.ref);
    setU64(v, o + 16, s.totalNr);
    v.setUint32(o + 24, s.firstNr, true);
    v.setUint32(o + 28, s.flags, true);
  },
};

/** `struct scoutfs_alloc_list_block`, 56 bytes. */
export interface AllocListBlock {
  hdr: BlockHeader;
  next: BlockRef;
  start: number;
  nr: number;
}
export const AllocListBlock = {
  size: 56,
  read(v: DataView, o: number): AllocListBlock {
    return {
      hdr: BlockHeader.read(v, o),
      next: BlockRef.read(v, o + 32),
      start: v.getUint32(o + 48, true),
      nr: v.getUint32(o + 52, true),
    };
  },
  write(v: DataView, o: number, s: AllocListBlock): void {
    zero(v, o, 56);
    BlockHeader.write(v, o, s.hdr);
    BlockRef.write(v, o + 32, s.next);
    v.setUint32(o + 48, s.start, true);
    v.setUint32(o + 52, s.nr, true);
  },
};

/** `struct scoutfs_alloc_root`, 40 bytes. */
export interface AllocRoot {
  totalLen: number;
  flags: number;
  root: BtreeRoot;
}
export const AllocRoot = {
  size: 40,
  read(v: DataView, o: number): AllocRoot {
    return {
      totalLen: u64(v, o),
      flags: v.getUint32(o + 8, true),
      root: BtreeRoot.read(v, o + 16),
    };
  },
  write(v: DataView, o: number, s: AllocRoot): void {
    zero(v, o, 40);
    setU64(v, o, s.totalLen);
    v.setUint32(o + 8, s.flags, true);
    BtreeRoot.write(v, o + 16, s.root);
  },
};

/** `struct scoutfs_mounted_client_btree_val`, 40 bytes. */
export interface MountedClientBtreeVal {
  addr: InetAddr;
  flags: number;
}
export const MountedClientBtreeVal = {
  size: 40,
  read(v: DataView, o: number): MountedClientBtreeVal {
    return {
      addr: InetAddr.read(v, o),
      flags: v.getUint8(o + 32),
    };
  },
  write(v: DataView, o: number, s: MountedClientBtreeVal): void {
    zero(v, o, 40);
    InetAddr.write(v, o, s.addr);
    v.setUint8(o + 32, s.flags);
  },
};

/** `struct scoutfs_srch_entry`, 24 bytes. */
export interface SrchEntry {
  hash: bigint;
  ino: bigint;
  id: bigint;
}
export const SrchEntry = {
  size: 24,
  read(v: DataView, o: number): SrchEntry {
    return {
      hash: v.getBigUint64(o, true),
      ino: v.getBigUint64(o + 8, true),
      id: v.getBigUint64(o + 16, true),
    };
  },
  write(v: DataView, o: number, s: SrchEntry): void {
    zero(v, o, 24);
    v.setBigUint64(o, s.hash, true);
    v.setBigUint64(o + 8, s.ino, true);
    v.setBigUint64(o + 16, s.id, true);
  },
};

/** `struct scoutfs_srch_file`, 88 bytes. */
export interface SrchFile {
  first: SrchEntry;
  last: SrchEntry;
  ref: BlockRef;
  blocks: number;
  entries: number;
  height: number;
}
export const SrchFile = {
  size: 88,
  read(v: DataView, o: number): SrchFile {
    return {
      first: SrchEntry.read(v, o),
      last: SrchEntry.read(v, o + 24),
      ref: BlockRef.read(v, o + 48),
      blocks: u64(v, o + 64),
      entries: u64(v, o + 72),
      height: v.getUint8(o + 80),
    };
  },
  write(v: DataView, o: number, s: SrchFile): void {
    zero(v, o, 88);
    SrchEntry.write(v, o, s.first);
    SrchEntry.write(v, o + 24, s.last);
    BlockRef.write(v, o + 48, s.ref);
    setU64(v, o + 64, s.blocks);
    setU64(v, o + 72, s.entries);
    v.setUint8(o + 80, s.height);
  },
};

/** `struct scoutfs_srch_parent`, 32 bytes. */
export interface SrchParent {
  hdr: BlockHeader;
}
export const SrchParent = {
  size: 32,
  read(v: DataView, o: number): SrchParent {
    return {
      hdr: BlockHeader.read(v, o),
    };
  },
  write(v: DataView, o: number, s: SrchParent): void {
    zero(v, o, 32);
    BlockHeader.write(v, o, s.hdr);
  },
};

/** `struct scoutfs_srch_block`, 112 bytes. */
export interface SrchBlock {
  hdr: BlockHeader;
  first: SrchEntry;
  last: SrchEntry;
  tail: SrchEntry;
  entryNr: number;
  entryBytes: number;
}
export const SrchBlock = {
  size: 112,
  read(v: DataView, o: number): SrchBlock {
    return {
      hdr: BlockHeader.read(v, o),
      first: SrchEntry.read(v, o + 32),
      last: SrchEntry.read(v, o + 56),
      tail: SrchEntry.read(v, o + 80),
      entryNr: v.getUint32(o + 104, true),
      entryBytes: v.getUint32(o + 108, true),
    };
  },
  write(v: DataView, o: number, s: SrchBlock): void {
    zero(v, o, 112);
    BlockHeader.write(v, o, s.hdr);
    SrchEntry.write(v, o + 32, s.first);
    SrchEntry.write(v, o + 56, s.last);
    SrchEntry.write(v, o + 80, s.tail);
    v.setUint32(o + 104, s.entryNr, true);
    v.setUint32(o + 108, s.entryBytes, true);
  },
};

/** `struct scoutfs_srch_compact_input`, 104 bytes. */
export interface SrchCompactInput {
  sfl: SrchFile;
  blk: number;
  pos: number;
}
export const SrchCompactInput = {
  size: 104,
  read(v: DataView, o: number): SrchCompactInput {
    return {
      sfl: SrchFile.read(v, o),
      blk: u64(v, o + 88),
      pos: u64(v, o + 96),
    };
  },
  write(v: DataView, o: number, s: SrchCompactInput): void {
    zero(v, o, 104);
    SrchFile.write(v, o, s.sfl);
    setU64(v, o + 88, s.blk);
    setU64(v, o + 96, s.pos);
  },
};

/** `struct scoutfs_srch_compact`, 584 bytes. */
export interface SrchCompact {
  metaAvail: AllocListHead;
  metaFreed: AllocListHead;
  id: number;
  nr: number;
  flags: number;
  out: SrchFile;
  inputs: SrchCompactInput[];
}
export const SrchCompact = {
  size: 584,
  read(v: DataView, o: number): SrchCompact {
    return {
      metaAvail: AllocListHead.read(v, o),
      metaFreed: AllocListHead.read(v, o + 32),
      id: u64(v, o + 64),
      nr: v.getUint8(o + 72),
      flags: v.getUint8(o + 73),
      out: SrchFile.read(v, o + 80),
      inputs: Array.from({ length: 4 }, (_, i) =>
        SrchCompactInput.read(v, o + 168 + i * 104)),
    };
  },
  write(v: DataView, o: number, s: SrchCompact): void {
    zero(v, o, 584);
    AllocListHead.write(v, o, s.metaAvail);
    AllocListHead.write(v, o + 32, s.metaFreed);
    setU64(v, o + 64, s.id);
    v.setUint8(o + 72, s.nr);
    v.setUint8(o + 73, s.flags);
    SrchFile.write(v, o + 80, s.out);
    s.inputs.forEach((e, i) => { SrchCompactInput.write(v, o + 168 + i * 104, e); });
  },
};

/** `struct scoutfs_log_trees`, 472 bytes. */
export interface LogTrees {
  metaAvail: AllocListHead;
  metaFreed: AllocListHead;
  itemRoot: BtreeRoot;
  bloomRef: BlockRef;
  dataAvail: AllocRoot;
  dataFreed: AllocRoot;
  srchFile: SrchFile;
  dataAllocZoneBlocks: number;
  dataAllocZones: bigint[];
  inodeCountDelta: bigint;
  getTransSeq: number;
  commitTransSeq: number;
  maxItemSeq: number;
  finalizeSeq: number;
  rid: bigint;
  nr: number;
  flags: number;
}
export const LogTrees = {
  size: 472,
  read(v: DataView, o: number): LogTrees {
    return {
      metaAvail: AllocListHead.read(v, o),
      metaFreed: AllocListHead.read(v, o + 32),
      itemRoot: BtreeRoot.read(v, o + 64),
      bloomRef: BlockRef.read(v, o + 88),
      dataAvail: AllocRoot.read(v, o + 104),
      dataFreed: AllocRoot.read(v, o + 144),
      srchFile: SrchFile.read(v, o + 184),
      dataAllocZoneBlocks: u64(v, o + 272),
      dataAllocZones: Array.from({ length: 16 }, (_, i) =>
        v.getBigUint64(o + 280 + i * 8, true)),
      inodeCountDelta: v.getBigInt64(o + 408, true),
      getTransSeq: u64(v, o + 416),
      commitTransSeq: u64(v, o + 424),
      maxItemSeq: u64(v, o + 432),
      finalizeSeq: u64(v, o + 440),
      rid: v.getBigUint64(o + 448, true),
      nr: u64(v, o + 456),
      flags: u64(v, o + 464),
    };
  },
  write(v: DataView, o: number, s: LogTrees): void {
    zero(v, o, 472);
    AllocListHead.write(v, o, s.metaAvail);
    AllocListHead.write(v, o + 32, s.metaFreed);
    BtreeRoot.write(v, o + 64, s.itemRoot);
    BlockRef.write(v, o + 88, s.bloomRef);
    AllocRoot.write(v, o + 104, s.dataAvail);
    AllocRoot.write(v, o + 144, s.dataFreed);
    SrchFile.write(v, o + 184, s.srchFile);
    setU64(v, o + 272, s.dataAllocZoneBlocks);
    s.dataAllocZones.forEach((e, i) => { v.setBigUint64(o + 280 + i * 8, e, true); });
    v.setBigInt64(o + 408, s.inodeCountDelta, true);
    setU64(v, o + 416, s.getTransSeq);
    setU64(v, o + 424, s.commitTransSeq);
    setU64(v, o + 432, s.maxItemSeq);
    setU64(v, o + 440, s.finalizeSeq);
    v.setBigUint64(o + 448, s.rid, true);
    setU64(v, o + 456, s.nr);
    setU64(v, o + 464, s.flags);
  },
};

/** `struct scoutfs_bloom_block`, 40 bytes. */
export interface BloomBlock {
  hdr: BlockHeader;
  totalSet: number;
}
export const BloomBlock = {
  size: 40,
  read(v: DataView, o: number): BloomBlock {
    return {
      hdr: BlockHeader.read(v, o),
      totalSet: u64(v, o + 32),
    };
  },
  write(v: DataView, o: number, s: BloomBlock): void {
    zero(v, o, 40);
    BlockHeader.write(v, o, s.hdr);
    setU64(v, o + 32, s.totalSet);
  },
};

/** `struct scoutfs_log_merge_status`, 56 bytes. */
export interface LogMergeStatus {
  nextRangeKey: Key;
  nrRequests: number;
  nrComplete: number;
  seq: number;
}
export const LogMergeStatus = {
  size: 56,
  read(v: DataView, o: number): LogMergeStatus {
    return {
      nextRangeKey: Key.read(v, o),
      nrRequests: u64(v, o + 32),
      nrComplete: u64(v, o + 40),
      seq: u64(v, o + 48),
    };
  },
  write(v: DataView, o: number, s: LogMergeStatus): void {
    zero(v, o, 56);
    Key.write(v, o, s.nextRangeKey);
    setU64(v, o + 32, s.nrRequests);
    setU64(v, o + 40, s.nrComplete);
    setU64(v, o + 48, s.seq);
  },
};

/** `struct scoutfs_log_merge_request`, 208 bytes. */
export interface LogMergeRequest {
  metaAvail: AllocListHead;
  metaFreed: AllocListHead;
  logsRoot: BtreeRoot;
  root: BtreeRoot;
  start: Key;
  end: Key;
  inputSeq: number;
  rid: bigint;
  seq: number;
  flags: number;
}
export const LogMergeRequest = {
  size: 208,
  read(v: DataView, o: number): LogMergeRequest {
    return {
      metaAvail: AllocListHead.read(v, o),
      metaFreed: AllocListHead.read(v, o + 32),
      logsRoot: BtreeRoot.read(v, o + 64),
      root: BtreeRoot.read(v, o + 88),
      start: Key.read(v, o + 112),
      end: Key.read(v, o + 144),
      inputSeq: u64(v, o + 176),
      rid: v.getBigUint64(o + 184, true),
      seq: u64(v, o + 192),
      flags: u64(v, o + 200),
    };
  },
  write(v: DataView, o: number, s: LogMergeRequest): void {
    zero(v, o, 208);
    AllocListHead.write(v, o, s.metaAvail);
    AllocListHead.write(v, o + 32, s.metaFreed);
    BtreeRoot.write(v, o + 64, s.logsRoot);
    BtreeRoot.write(v, o + 88, s.root);
    Key.write(v, o + 112, s.start);
    Key.write(v, o + 144, s.end);
    setU64(v, o + 176, s.inputSeq);
    v.setBigUint64(o + 184, s.rid, true);
    setU64(v, o + 192, s.seq);
    setU64(v, o + 200, s.flags);
  },
};

/** `struct scoutfs_log_merge_complete`, 208 bytes. */
export interface LogMergeComplete {
  metaAvail: AllocListHead;
  metaFreed: AllocListHead;
  root: BtreeRoot;
  start: Key;
  end: Key;
  remain: Key;
  rid: bigint;
  seq: number;
  flags: number;
}
export const LogMergeComplete = {
  size: 208,
  read(v: DataView, o: number): LogMergeComplete {
    return {
      metaAvail: AllocListHead.read(v, o),
      metaFreed: AllocListHead.read(v, o + 32),
      root: BtreeRoot.read(v, o + 64),
      start: Key.read(v, o + 88),
      end: Key.read(v, o + 120),
      remain: Key.read(v, o + 152),
      rid: v.getBigUint64(o + 184, true),
      seq: u64(v, o + 192),
      flags: u64(v, o + 200),
    };
  },
  write(v: DataView, o: number, s: LogMergeComplete): void {
    zero(v, o, 208);
    AllocListHead.write(v, o, s.metaAvail);
    AllocListHead.write(v, o + 32, s.metaFreed);
    BtreeRoot.write(v, o + 64, s.root);
    Key.write(v, o + 88, s.start);
    Key.write(v, o + 120, s.end);
    Key.write(v, o + 152, s.remain);
    v.setBigUint64(o + 184, s.rid, true);
    setU64(v, o + 192, s.seq);
    setU64(v, o + 200, s.flags);
  },
};

/** `struct scoutfs_log_merge_range`, 64 bytes. */
export interface LogMergeRange {
  start: Key;
  end: Key;
}
export const LogMergeRange = {
  size: 64,
  read(v: DataView, o: number): LogMergeRange {
    return {
      start: Key.read(v, o),
      end: Key.read(v, o + 32),
    };
  },
  write(v: DataView, o: number, s: LogMergeRange): void {
    zero(v, o, 64);
    Key.write(v, o, s.start);
    Key.write(v, o + 32, s.end);
  },
};

/** `struct scoutfs_log_merge_freeing`, 64 bytes. */
export interface LogMergeFreeing {
  root: BtreeRoot;
  key: Key;
  seq: number;
}
export const LogMergeFreeing = {
  size: 64,
  read(v: DataView, o: number): LogMergeFreeing {
    return {
      root: BtreeRoot.read(v, o),
      key: Key.read(v, o + 24),
      seq: u64(v, o + 56),
    };
  },
  write(v: DataView, o: number, s: LogMergeFreeing): void {
    zero(v, o, 64);
    BtreeRoot.write(v, o, s.root);
    Key.write(v, o + 24, s.key);
    setU64(v, o + 56, s.seq);
  },
};

/** `struct scoutfs_data_extent_val`, 16 bytes. */
export interface DataExtentVal {
  blkno: number;
  flags: number;
}
export const DataExtentVal = {
  size: 16,
  read(v: DataView, o: number): DataExtentVal {
    return {
      blkno: u64(v, o),
      flags: v.getUint8(o + 8),
    };
  },
  write(v: DataView, o: number, s: DataExtentVal): void {
    zero(v, o, 16);
    setU64(v, o, s.blkno);
    v.setUint8(o + 8, s.flags);
  },
};

/** `struct scoutfs_xattr`, 8 bytes. */
export interface Xattr {
  valLen: number;
  nameLen: number;
}
export const Xattr = {
  size: 8,
  read(v: DataView, o: number): Xattr {
    return {
      valLen: v.getUint16(o, true),
      nameLen: v.getUint8(o + 2),
    };
  },
  write(v: DataView, o: number, s: Xattr): void {
    zero(v, o, 8);
    v.setUint16(o, s.valLen, true);
    v.setUint8(o + 2, s.nameLen);
  },
};

/** `struct scoutfs_xattr_totl_val`, 16 bytes. */
export interface XattrTotlVal {
  total: bigint;
  count: bigint;
}
export const XattrTotlVal = {
  size: 16,
  read(v: DataView, o: number): XattrTotlVal {
    return {
      total: v.getBigUint64(o, true),
      count: v.getBigUint64(o + 8, true),
    };
  },
  write(v: DataView, o: number, s: XattrTotlVal): void {
    zero(v, o, 16);
    v.setBigUint64(o, s.total, true);
    v.setBigUint64(o + 8, s.count, true);
  },
};

/** `struct scoutfs_quota_rule_val`, 48 bytes. */
export interface QuotaRuleVal {
  nameVal: bigint[];
  limit: bigint;
  prio: number;
  op: number;
  ruleFlags: number;
  nameSource: Uint8Array;
  nameFlags: Uint8Array;
}
export const QuotaRuleVal = {
  size: 48,
  read(v: DataView, o: number): QuotaRuleVal {
    return {
      nameVal: Array.from({ length: 3 }, (_, i) =>
        v.getBigUint64(o + i * 8, true)),
      limit: v.getBigUint64(o + 24, true),
      prio: v.getUint8(o + 32),
      op: v.getUint8(o + 33),
      ruleFlags: v.getUint8(o + 34),
      nameSource: bytes(v, o + 35, 3),
      nameFlags: bytes(v, o + 38, 3),
    };
  },
  write(v: DataView, o: number, s: QuotaRuleVal): void {
    zero(v, o, 48);
    s.nameVal.forEach((e, i) => { v.setBigUint64(o + i * 8, e, true); });
    v.setBigUint64(o + 24, s.limit, true);
    v.setUint8(o + 32, s.prio);
    v.setUint8(o + 33, s.op);
    v.setUint8(o + 34, s.ruleFlags);
    setBytes(v, o + 35, 3, s.nameSource);
    setBytes(v, o + 38, 3, s.nameFlags);
  },
};

/** `struct scoutfs_quorum_message`, 32 bytes. */
export interface QuorumMessage {
  fsid: bigint;
  version: number;
  term: number;
  type: number;
  from: number;
  crc: number;
}
export const QuorumMessage = {
  size: 32,
  read(v: DataView, o: number): QuorumMessage {
    return {
      fsid: v.getBigUint64(o, true),
      version: u64(v, o + 8),
      term: u64(v, o + 16),
      type: v.getUint8(o + 24),
      from: v.getUint8(o + 25),
      crc: v.getUint32(o + 28, true),
    };
  },
  write(v: DataView, o: number, s: QuorumMessage): void {
    zero(v, o, 32);
    v.setBigUint64(o, s.fsid, true);
    setU64(v, o + 8, s.version);
    setU64(v, o + 16, s.term);
    v.setUint8(o + 24, s.type);
    v.setUint8(o + 25, s.from);
    v.setUint32(o + 28, s.crc, true);
  },
};

/** `struct scoutfs_quorum_slot`, 32 bytes. */
export interface QuorumSlot {
  addr: InetAddr;
}
export const QuorumSlot = {
  size: 32,
  read(v: DataView, o: number): QuorumSlot {
    return {
      addr: InetAddr.read(v, o),
    };
  },
  write(v: DataView, o: number, s: QuorumSlot): void {
    zero(v, o, 32);
    InetAddr.write(v, o, s.addr);
  },
};

/** `struct scoutfs_quorum_config`, 488 bytes. */
export interface QuorumConfig {
  version: number;
  slots: QuorumSlot[];
}
export const QuorumConfig = {
  size: 488,
  read(v: DataView, o: number): QuorumConfig {
    return {
      version: u64(v, o),
      slots: Array.from({ length: 15 }, (_, i) =>
        QuorumSlot.read(v, o + 8 + i * 32)),
    };
  },
  write(v: DataView, o: number, s: QuorumConfig): void {
    zero(v, o, 488);
    setU64(v, o, s.version);
    s.slots.forEach((e, i) => { QuorumSlot.write(v, o + 8 + i * 32, e); });
  },
};

/** `struct scoutfs_quorum_block_event`, 40 bytes. */
export interface QuorumBlockEvent {
  writeNr: number;
  rid: bigint;
  term: number;
  ts: Timespec;
}
export const QuorumBlockEvent = {
  size: 40,
  read(v: DataView, o: number): QuorumBlockEvent {
    return {
      writeNr: u64(v, o),
      rid: v.getBigUint64(o + 8, true),
      term: u64(v, o + 16),
      ts: Timespec.read(v, o + 24),
    };
  },
  write(v: DataView, o: number, s: QuorumBlockEvent): void {
    zero(v, o, 40);
    setU64(v, o, s.writeNr);
    v.setBigUint64(o + 8, s.rid, true);
    setU64(v, o + 16, s.term);
    Timespec.write(v, o + 24, s.ts);
  },
};

/** `struct scoutfs_quorum_block`, 280 bytes. */
export interface QuorumBlock {
  hdr: BlockHeader;
  writeNr: number;
  events: QuorumBlockEvent[];
}
export const QuorumBlock = {
  size: 280,
  read(v: DataView, o: number): QuorumBlock {
    return {
      hdr: BlockHeader.read(v, o),
      writeNr: u64(v, o + 32),
      events: Array.from({ length: 6 }, (_, i) =>
        QuorumBlockEvent.read(v, o + 40 + i * 40)),
    };
  },
  write(v: DataView, o: number, s: QuorumBlock): void {
    zero(v, o, 280);
    BlockHeader.write(v, o, s.hdr);
    setU64(v, o + 32, s.writeNr);
    s.events.forEach((e, i) => { QuorumBlockEvent.write(v, o + 40 + i * 40, e); });
  },
};

/** `struct scoutfs_volume_options`, 520 bytes. */
export interface VolumeOptions {
  setBits: bigint;
  dataAllocZoneBlocks: number;
  futureExpansion: bigint[];
}
export const VolumeOptions = {
  size: 520,
  read(v: DataView, o: number): VolumeOptions {
    return {
      setBits: v.getBigUint64(o, true),
      dataAllocZoneBlocks: u64(v, o + 8),
      futureExpansion: Array.from({ length: 63 }, (_, i) =>
        v.getBigUint64(o + 16 + i * 8, true)),
    };
  },
  write(v: DataView, o: number, s: VolumeOptions): void {
    zero(v, o, 520);
    v.setBigUint64(o, s.setBits, true);
    setU64(v, o + 8, s.dataAllocZoneBlocks);
    s.futureExpansion.forEach((e, i) => { v.setBigUint64(o + 16 + i * 8, e, true); });
  },
};

/** `struct scoutfs_super_block`, 1488 bytes. */
export interface SuperBlock {
  hdr: BlockHeader;
  id: number;
  fmtVers: number;
  flags: number;
  uuid: Uint8Array;
  seq: number;
  nextIno: number;
  inodeCount: number;
  totalMetaBlocks: number;
  totalDataBlocks: number;
  qconf: QuorumConfig;
  metaAlloc: AllocRoot[];
  dataAlloc: AllocRoot;
  serverMetaAvail: AllocListHead[];
  serverMetaFreed: AllocListHead[];
  fsRoot: BtreeRoot;
  logsRoot: BtreeRoot;
  logMerge: BtreeRoot;
  mountedClients: BtreeRoot;
  srchRoot: BtreeRoot;
  volopt: VolumeOptions;
}
export const SuperBlock = {
  size: 1488,
  read(v: DataView, o: number): SuperBlock {
    return {
      hdr: BlockHeader.read(v, o),
      id: u64(v, o + 32),
      fmtVers: u64(v, o + 40),
      flags: u64(v, o + 48),
      uuid: bytes(v, o + 56, 16),
      seq: u64(v, o + 72),
      nextIno: u64(v, o + 80),
      inodeCount: u64(v, o + 88),
      totalMetaBlocks: u64(v, o + 96),
      totalDataBlocks: u64(v, o + 104),
      qconf: QuorumConfig.read(v, o + 112),
      metaAlloc: Array.from({ length: 2 }, (_, i) =>
        AllocRoot.read(v, o + 600 + i * 40)),
      dataAlloc: AllocRoot.read(v, o + 680),
      serverMetaAvail: Array.from({ length: 2 }, (_, i) =>
        AllocListHead.read(v, o + 720 + i * 32)),
      serverMetaFreed: Array.from({ length: 2 }, (_, i) =>
        AllocListHead.read(v, o + 784 + i * 32)),
      fsRoot: BtreeRoot.read(v, o + 848),
      logsRoot: BtreeRoot.read(v, o + 872),
      logMerge: BtreeRoot.read(v, o + 896),
      mountedClients: BtreeRoot.read(v, o + 920),
      srchRoot: BtreeRoot.read(v, o + 944),
      volopt: VolumeOptions.read(v, o + 968),
    };
  },
  write(v: DataView, o: number, s: SuperBlock): void {
    zero(v, o, 1488);
    BlockHeader.write(v, o, s.hdr);
    setU64(v, o + 32, s.id);
    setU64(v, o + 40, s.fmtVers);
    setU64(v, o + 48, s.flags);
    setBytes(v, o + 56, 16, s.uuid);
    setU64(v, o + 72, s.seq);
    setU64(v, o + 80, s.nextIno);
    setU64(v, o + 88, s.inodeCount);
    setU64(v, o + 96, s.totalMetaBlocks);
    setU64(v, o + 104, s.totalDataBlocks);
    QuorumConfig.write(v, o + 112, s.qconf);
    s.metaAlloc.forEach((e, i) => { AllocRoot.write(v, o + 600 + i * 40, e); });
    AllocRoot.write(v, o + 680, s.dataAlloc);
    s.serverMetaAvail.forEach((e, i) => { AllocListHead.write(v, o + 720 + i * 32, e); });
    s.serverMetaFreed.forEach((e, i) => { AllocListHead.write(v, o + 784 + i * 32, e); });
    BtreeRoot.write(v, o + 848, s.fsRoot);
    BtreeRoot.write(v, o + 872, s.logsRoot);
    BtreeRoot.write(v, o + 896, s.logMerge);
    BtreeRoot.write(v, o + 920, s.mountedClients);
    BtreeRoot.write(v, o + 944, s.srchRoot);
    VolumeOptions.write(v, o + 968, s.volopt);
  },
};

/** `struct scoutfs_inode`, 168 bytes. */
export interface Inode {
  size: BytePos;
  metaSeq: number;
  dataSeq: number;
  dataVersion: number;
  onlineBlocks: number;
  offlineBlocks: number;
  nextReaddirPos: number;
  nextXattrId: number;
  version: number;
  nlink: number;
  uid: number;
  gid: number;
  mode: number;
  rdev: number;
  flags: number;
  atime: Timespec;
  ctime: Timespec;
  mtime: Timespec;
  crtime: Timespec;
  proj: number;
}
export const Inode = {
  size: 168,
  read(v: DataView, o: number): Inode {
    return {
      size: readPos(v, o),
      metaSeq: u64(v, o + 8),
      dataSeq: u64(v, o + 16),
      dataVersion: u64(v, o + 24),
      onlineBlocks: u64(v, o + 32),
      offlineBlocks: u64(v, o + 40),
      nextReaddirPos: u64(v, o + 48),
      nextXattrId: u64(v, o + 56),
      version: u64(v, o + 64),
      nlink: v.getUint32(o + 72, true),
      uid: v.getUint32(o + 76, true),
      gid: v.getUint32(o + 80, true),
      mode: v.getUint32(o + 84, true),
      rdev: v.getUint32(o + 88, true),
      flags: v.getUint32(o + 92, true),
      atime: Timespec.read(v, o + 96),
      ctime: Timespec.read(v, o + 112),
      mtime: Timespec.read(v, o + 128),
      crtime: Timespec.read(v, o + 144),
      proj: u64(v, o + 160),
    };
  },
  write(v: DataView, o: number, s: Inode): void {
    zero(v, o, 168);
    setPos(v, o, s.size);
    setU64(v, o + 8, s.metaSeq);
    setU64(v, o + 16, s.dataSeq);
    setU64(v, o + 24, s.dataVersion);
    setU64(v, o + 32, s.onlineBlocks);
    setU64(v, o + 40, s.offlineBlocks);
    setU64(v, o + 48, s.nextReaddirPos);
    setU64(v, o + 56, s.nextXattrId);
    setU64(v, o + 64, s.version);
    v.setUint32(o + 72, s.nlink, true);
    v.setUint32(o + 76, s.uid, true);
    v.setUint32(o + 80, s.gid, true);
    v.setUint32(o + 84, s.mode, true);
    v.setUint32(o + 88, s.rdev, true);
    v.setUint32(o + 92, s.flags, true);
    Timespec.write(v, o + 96, s.atime);
    Timespec.write(v, o + 112, s.ctime);
    Timespec.write(v, o + 128, s.mtime);
    Timespec.write(v, o + 144, s.crtime);
    setU64(v, o + 160, s.proj);
  },
};

/** `struct scoutfs_dirent`, 32 bytes. */
export interface Dirent {
  ino: number;
  hash: bigint;
  pos: number;
  type: number;
}
export const Dirent = {
  size: 32,
  read(v: DataView, o: number): Dirent {
    return {
      ino: u64(v, o),
      hash: v.getBigUint64(o + 8, true),
      pos: u64(v, o + 16),
      type: v.getUint8(o + 24),
    };
  },
  write(v: DataView, o: number, s: Dirent): void {
    zero(v, o, 32);
    setU64(v, o, s.ino);
    v.setBigUint64(o + 8, s.hash, true);
    setU64(v, o + 16, s.pos);
    v.setUint8(o + 24, s.type);
  },
};

/** `struct scoutfs_net_greeting`, 40 bytes. */
export interface NetGreeting {
  fsid: bigint;
  fmtVers: number;
  serverTerm: number;
  rid: bigint;
  flags: bigint;
}
export const NetGreeting = {
  size: 40,
  read(v: DataView, o: number): NetGreeting {
    return {
      fsid: v.getBigUint64(o, true),
      fmtVers: u64(v, o + 8),
      serverTerm: u64(v, o + 16),
      rid: v.getBigUint64(o + 24, true),
      flags: v.getBigUint64(o + 32, true),
    };
  },
  write(v: DataView, o: number, s: NetGreeting): void {
    zero(v, o, 40);
    v.setBigUint64(o, s.fsid, true);
    setU64(v, o + 8, s.fmtVers);
    setU64(v, o + 16, s.serverTerm);
    v.setBigUint64(o + 24, s.rid, true);
    v.setBigUint64(o + 32, s.flags, true);
  },
};

/** `struct scoutfs_net_header`, 32 bytes. */
export interface NetHeader {
  seq: number;
  recvSeq: number;
  id: number;
  dataLen: number;
  cmd: number;
  flags: number;
  error: number;
}
export const NetHeader = {
  size: 32,
  read(v: DataView, o: number): NetHeader {
    return {
      seq: u64(v, o),
      recvSeq: u64(v, o + 8),
      id: u64(v, o + 16),
      dataLen: v.getUint16(o + 24, true),
      cmd: v.getUint8(o + 26),
      flags: v.getUint8(o + 27),
      error: v.getUint8(o + 28),
    };
  },
  write(v: DataView, o: number, s: NetHeader): void {
    zero(v, o, 32);
    setU64(v, o, s.seq);
    setU64(v, o + 8, s.recvSeq);
    setU64(v, o + 16, s.id);
    v.setUint16(o + 24, s.dataLen, true);
    v.setUint8(o + 26, s.cmd);
    v.setUint8(o + 27, s.flags);
    v.setUint8(o + 28, s.error);
  },
};

/** `struct scoutfs_net_inode_alloc`, 16 bytes. */
export interface NetInodeAlloc {
  ino: number;
  nr: number;
}
export const NetInodeAlloc = {
  size: 16,
  read(v: DataView, o: number): NetInodeAlloc {
    return {
      ino: u64(v, o),
      nr: u64(v, o + 8),
    };
  },
  write(v: DataView, o: number, s: NetInodeAlloc): void {
    zero(v, o, 16);
    setU64(v, o, s.ino);
    setU64(v, o + 8, s.nr);
  },
};

/** `struct scoutfs_net_roots`, 72 bytes. */
export interface NetRoots {
  fsRoot: BtreeRoot;
  logsRoot: BtreeRoot;
  srchRoot: BtreeRoot;
}
export const NetRoots = {
  size: 72,
  read(v: DataView, o: number): NetRoots {
    return {
      fsRoot: BtreeRoot.read(v, o),
      logsRoot: BtreeRoot.read(v, o + 24),
      srchRoot: BtreeRoot.read(v, o + 48),
    };
  },
  write(v: DataView, o: number, s: NetRoots): void {
    zero(v, o, 72);
    BtreeRoot.write(v, o, s.fsRoot);
    BtreeRoot.write(v, o + 24, s.logsRoot);
    BtreeRoot.write(v, o + 48, s.srchRoot);
  },
};

/** `struct scoutfs_net_resize_devices`, 16 bytes. */
export interface NetResizeDevices {
  newTotalMetaBlocks: number;
  newTotalDataBlocks: number;
}
export const NetResizeDevices = {
  size: 16,
  read(v: DataView, o: number): NetResizeDevices {
    return {
      newTotalMetaBlocks: u64(v, o),
      newTotalDataBlocks: u64(v, o + 8),
    };
  },
  write(v: DataView, o: number, s: NetResizeDevices): void {
    zero(v, o, 16);
    setU64(v, o, s.newTotalMetaBlocks);
    setU64(v, o + 8, s.newTotalDataBlocks);
  },
};

/** `struct scoutfs_net_statfs`, 56 bytes. */
export interface NetStatfs {
  uuid: Uint8Array;
  freeMetaBlocks: number;
  totalMetaBlocks: number;
  freeDataBlocks: number;
  totalDataBlocks: number;
  inodeCount: number;
}
export const NetStatfs = {
  size: 56,
  read(v: DataView, o: number): NetStatfs {
    return {
      uuid: bytes(v, o, 16),
      freeMetaBlocks: u64(v, o + 16),
      totalMetaBlocks: u64(v, o + 24),
      freeDataBlocks: u64(v, o + 32),
      totalDataBlocks: u64(v, o + 40),
      inodeCount: u64(v, o + 48),
    };
  },
  write(v: DataView, o: number, s: NetStatfs): void {
    zero(v, o, 56);
    setBytes(v, o, 16, s.uuid);
    setU64(v, o + 16, s.freeMetaBlocks);
    setU64(v, o + 24, s.totalMetaBlocks);
    setU64(v, o + 32, s.freeDataBlocks);
    setU64(v, o + 40, s.totalDataBlocks);
    setU64(v, o + 48, s.inodeCount);
  },
};

/** `struct scoutfs_net_lock`, 48 bytes. */
export interface NetLock {
  key: Key;
  writeSeq: number;
  oldMode: number;
  newMode: number;
}
export const NetLock = {
  size: 48,
  read(v: DataView, o: number): NetLock {
    return {
      key: Key.read(v, o),
      writeSeq: u64(v, o + 32),
      oldMode: v.getUint8(o + 40),
      newMode: v.getUint8(o + 41),
    };
  },
  write(v: DataView, o: number, s: NetLock): void {
    zero(v, o, 48);
    Key.write(v, o, s.key);
    setU64(v, o + 32, s.writeSeq);
    v.setUint8(o + 40, s.oldMode);
    v.setUint8(o + 41, s.newMode);
  },
};

/** `struct scoutfs_net_lock_recover`, 8 bytes. */
export interface NetLockRecover {
  nr: number;
}
export const NetLockRecover = {
  size: 8,
  read(v: DataView, o: number): NetLockRecover {
    return {
      nr: v.getUint16(o, true),
    };
  },
  write(v: DataView, o: number, s: NetLockRecover): void {
    zero(v, o, 8);
    v.setUint16(o, s.nr, true);
  },
};

/** `struct scoutfs_fid`, 16 bytes. */
export interface Fid {
  ino: number;
  parentIno: number;
}
export const Fid = {
  size: 16,
  read(v: DataView, o: number): Fid {
    return {
      ino: u64(v, o),
      parentIno: u64(v, o + 8),
    };
  },
  write(v: DataView, o: number, s: Fid): void {
    zero(v, o, 16);
    setU64(v, o, s.ino);
    setU64(v, o + 8, s.parentIno);
  },
};

/** `struct scoutfs_open_ino_map_args`, 16 bytes. */
export interface OpenInoMapArgs {
  groupNr: number;
  reqId: number;
}
export const OpenInoMapArgs = {
  size: 16,
  read(v: DataView, o: number): OpenInoMapArgs {
    return {
      groupNr: u64(v, o),
      reqId: u64(v, o + 8),
    };
  },
  write(v: DataView, o: number, s: OpenInoMapArgs): void {
    zero(v, o, 16);
    setU64(v, o, s.groupNr);
    setU64(v, o + 8, s.reqId);
  },
};

/** `struct scoutfs_open_ino_map`, 144 bytes. */
export interface OpenInoMap {
  args: OpenInoMapArgs;
  bits: bigint[];
}
export const OpenInoMap = {
  size: 144,
  read(v: DataView, o: number): OpenInoMap {
    return {
      args: OpenInoMapArgs.read(v, o),
      bits: Array.from({ length: 16 }, (_, i) =>
        v.getBigUint64(o + 16 + i * 8, true)),
    };
  },
  write(v: DataView, o: number, s: OpenInoMap): void {
    zero(v, o, 144);
    OpenInoMapArgs.write(v, o, s.args);
    s.bits.forEach((e, i) => { v.setBigUint64(o + 16 + i * 8, e, true); });
  },
};

function zero(v: DataView, o: number, len: number): void {
  new Uint8Array(v.buffer, v.byteOffset + o, len).fill(0);
}

function bytes(v: DataView, o: number, len: number): Uint8Array {
  return new Uint8Array(v.buffer, v.byteOffset + o, len).slice();
}

function setBytes(v: DataView, o: number, len: number, b: Uint8Array): void {
  new Uint8Array(v.buffer, v.byteOffset + o, len).set(b.subarray(0, len));
}
