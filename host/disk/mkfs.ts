/**
 * Makes an empty volume on a metadata and a data device.
 *
 * Written, and nothing else (T, D: blocks of the devices used):
 *
 *   metadata   large 2       fs tree: root inode and its index item
 *              large 3       list of the 1024 blocks 4..1027 for the first commits
 *              large 1028    free data extents: 64..D-1
 *              large 1029    free metadata extents, first half of 1031..T-1
 *              large 1030    free metadata extents, second half
 *              small 17..31  quorum blocks
 *              small 16      super block, last: it makes the volume
 *   data       small 16      copy of the super block
 *
 * Upstream accepts metadata devices too small for these and writes extents of
 * nearly 2^63 blocks; we refuse.
 *
 * Spec: mkfs.md 2 to 6.
 */
import {
  AllocListBlock, BLOCK_MAGIC_ALLOC_LIST, BLOCK_MAGIC_QUORUM, DATA_ALLOC_MAX_ZONES,
  DATA_DEV_START_BLKNO, FLAG_IS_META_BDEV, FORMAT_VERSION_MAX, FORMAT_VERSION_MIN, FS_ZONE,
  INODE_FMT_V1_BYTES, INODE_FMT_V2_BYTES, INODE_INDEX_META_SEQ_TYPE, INODE_INDEX_ZONE, INODE_TYPE,
  Inode, LOCK_INODE_GROUP_NR, META_DEV_START_BLKNO, QUORUM_BLKNO, QUORUM_BLOCKS, ROOT_INO,
  UUID_BYTES, VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT,
} from '../core/format.js';
import type { AllocRoot, BtreeRoot, SuperBlock } from '../core/format.js';
import { freeExtentBlknoKey, freeExtentOrderKey, makeKey } from '../core/keys.js';
import type { WallTime } from '../env/clock.js';
import type { Device } from '../env/device.js';
import type { Random } from '../env/random.js';
import { ScoutfsError } from '../observe/errors.js';
import { UNITS, newBlock, sealBlock, viewOf, writeBlock } from './block.js';
import { buildLeaf } from './mkfs_leaf.js';
import type { LeafItem } from './mkfs_leaf.js';
import { probeDevice } from './probe.js';
import { checkSlots, slotArray } from './quorum_slots.js';
import type { SlotConfig } from './quorum_slots.js';
import { sizeText } from './sizes.js';
import { hasSuperMagic, writeSuper } from './super.js';

/** Devices smaller than this are refused unless allowed. */
export const MIN_DEVICE_BYTES = 64 * 2 ** 30;
/** Blocks in the list that feeds the server's first commits. */
const FIRST_LIST_BLOCKS = 1024;
const FS_BLKNO = META_DEV_START_BLKNO;
const LIST_BLKNO = FS_BLKNO + 1;
const FIRST_LISTED_BLKNO = LIST_BLKNO + 1;
const DATA_ALLOC_BLKNO = FIRST_LISTED_BLKNO + FIRST_LIST_BLOCKS;
const META_ALLOC_BLKNO = [DATA_ALLOC_BLKNO + 1, DATA_ALLOC_BLKNO + 2] as const;
const FIRST_FREE_BLKNO = META_ALLOC_BLKNO[1] + 1;
/** Both metadata alloc trees get at least one block. */
const MIN_META_BLOCKS = FIRST_FREE_BLKNO + 2;
const MIN_DATA_BLOCKS = DATA_DEV_START_BLKNO + 1;
/** `seq` of every header, reference and item that mkfs writes. */
const MKFS_SEQ = 1;
const MIN_ZONE_BLOCKS = 1048576;
const ROOT_MODE = 0o040755;
const FIRST_INO = LOCK_INODE_GROUP_NR;

export interface MkfsOptions {
  slots: readonly SlotConfig[];
  /** 0 or absent: no limit */
  maxMetaBytes?: number;
  maxDataBytes?: number;
  /** `data_alloc_zone_blocks`; absent: not set */
  zoneBlocks?: number;
  /** Do not look for existing contents. */
  force?: boolean;
  allowSmallSize?: boolean;
  fmtVers?: number;
  /** Identity and time, for reproducible volumes; chosen when absent. */
  fsid?: bigint;
  uuid?: Uint8Array;
  now?: WallTime;
}

export interface MkfsEnv {
  clock: { now(): WallTime };
  random: Random;
  /** Receives remarks for people: `out` what belongs to the result, `err` warnings. */
  remark(stream: 'out' | 'err', text: string): void;
}

function refuse(code: string, message: string): never {
  throw new ScoutfsError(code, 'EINVAL', { message });
}

/** Refuses devices that hold something. @throws EXISTING_CONTENTS (EINVAL) */
async function checkEmpty(dev: Device): Promise<void> {
  const found = await probeDevice(dev);
  if (found !== null) {
    refuse('EXISTING_CONTENTS', `${dev.path}: appears to contain ${found}, use -f to overwrite`);
  }
  if (await hasSuperMagic(dev)) {
    refuse('EXISTING_CONTENTS',
      `${dev.path}: appears to contain an existing ScoutFS superblock`);
  }
}

/** Bytes of a device that are used: its size, the limit, and whether that is enough. */
function usedBytes(dev: Device, kind: 'meta' | 'data', max: number, opts: MkfsOptions,
  env: MkfsEnv): number {
  let size = dev.sizeBytes;
  if (max > 0 && size > max) {
    env.remark('out', `Limiting use of ${sizeText(size)} ${kind} device to ${sizeText(max)}`);
    size = max;
  } else if (max > 0 && size < max) {
    env.remark('out', `Device size limit of ${sizeText(max)} for ${kind} device is greater than ` +
      `${sizeText(size)} available, ignored.`);
  }
  if (size < MIN_DEVICE_BYTES) {
    const text = `${sizeText(size)} too small for min ${sizeText(MIN_DEVICE_BYTES)} ${kind} device`;
    if (opts.allowSmallSize !== true) refuse('DEVICE_TOO_SMALL', text);
    env.remark('err', `${text}, allowing with -A`);
  }
  return size;
}

function checkLeast(dev: Device, blocks: number, least: number, unit: 'small' | 'large'): void {
  if (blocks < least) {
    refuse('DEVICE_TOO_SMALL', `${dev.path}: ${blocks} blocks of ${UNITS[unit].bytes} bytes ` +
      `cannot hold a volume, at least ${least} are needed`);
  }
}

function checkZones(zoneBlocks: number, totalDataBlocks: number): void {
  const least = Math.max(MIN_ZONE_BLOCKS, Math.floor(totalDataBlocks / DATA_ALLOC_MAX_ZONES));
  if (zoneBlocks < least || zoneBlocks > totalDataBlocks) {
    refuse('BAD_ZONE_BLOCKS', `data_alloc_zone_blocks ${zoneBlocks} must be between ` +
      `${least} and ${totalDataBlocks}`);
  }
}

function randomUuid(random: Random): Uint8Array {
  const uuid = random.bytes(UUID_BYTES).slice();
  const v = viewOf(uuid);
  v.setUint8(6, (v.getUint8(6) & 0x0f) | 0x40); // version 4
  v.setUint8(8, (v.getUint8(8) & 0x3f) | 0x80); // RFC 4122
  return uuid;
}

function randomFsid(random: Random): bigint {
  for (;;) {
    const fsid = random.u64();
    if (fsid !== 0n) return fsid;
  }
}

function rootInode(now: WallTime, fmtVers: number): Uint8Array {
  // mkfs has always recorded microseconds only.
  const time = { sec: BigInt(now.sec), nsec: Math.floor(now.nsec / 1000) * 1000 };
  const bytes = new Uint8Array(Inode.size);
  Inode.write(viewOf(bytes), 0, {
    size: 0, metaSeq: 0, dataSeq: 0, dataVersion: 0, onlineBlocks: 0, offlineBlocks: 0,
    nextReaddirPos: 2, nextXattrId: 0, version: 0, nlink: 2, uid: 0, gid: 0, mode: ROOT_MODE,
    rdev: 0, flags: 0, atime: time, ctime: time, mtime: time, crtime: time, proj: 0,
  });
  return bytes.subarray(0, fmtVers === 1 ? INODE_FMT_V1_BYTES : INODE_FMT_V2_BYTES);
}

interface Extent {
  start: number;
  len: number;
}

function extentItems({ start, len }: Extent): LeafItem[] {
  return [{ key: freeExtentBlknoKey(start, len) }, { key: freeExtentOrderKey(start, len) }];
}

/** Everything that the blocks of a new volume are computed from. */
interface Plan {
  fsid: bigint;
  uuid: Uint8Array;
  now: WallTime;
  fmtVers: number;
  totalMetaBlocks: number;
  totalDataBlocks: number;
  zoneBlocks: number | undefined;
  slots: readonly SlotConfig[];
  dataFree: Extent;
  metaFree: readonly [Extent, Extent];
}

function emptyRoot(): BtreeRoot {
  return { ref: { blkno: 0, seq: 0n }, height: 0 };
}

function leafRoot(blkno: number): BtreeRoot {
  return { ref: { blkno, seq: BigInt(MKFS_SEQ) }, height: 1 };
}

function allocRoot(blkno: number, { len }: Extent): AllocRoot {
  return { totalLen: len, flags: 0, root: leafRoot(blkno) };
}

/** The super block of a plan, without the flag that tells the copies apart. */
function planSuper(p: Plan): SuperBlock {
  const emptyList = { ref: { blkno: 0, seq: 0n }, totalNr: 0, firstNr: 0, flags: 0 };
  const firstList = {
    ref: { blkno: LIST_BLKNO, seq: BigInt(MKFS_SEQ) }, totalNr: FIRST_LIST_BLOCKS,
    firstNr: FIRST_LIST_BLOCKS, flags: 0,
  };
  return {
    hdr: { crc: 0, magic: 0, fsid: p.fsid, seq: BigInt(MKFS_SEQ), blkno: 0 },
    id: 0,
    fmtVers: p.fmtVers,
    flags: 0,
    uuid: p.uuid,
    seq: MKFS_SEQ,
    nextIno: FIRST_INO,
    inodeCount: 1,
    totalMetaBlocks: p.totalMetaBlocks,
    totalDataBlocks: p.totalDataBlocks,
    qconf: { version: 1, slots: slotArray(p.slots) },
    metaAlloc: p.metaFree.map((e, i) => allocRoot(META_ALLOC_BLKNO[0] + i, e)),
    dataAlloc: allocRoot(DATA_ALLOC_BLKNO, p.dataFree),
    serverMetaAvail: [firstList, emptyList],
    serverMetaFreed: [emptyList, emptyList],
    fsRoot: leafRoot(FS_BLKNO),
    logsRoot: emptyRoot(),
    logMerge: emptyRoot(),
    mountedClients: emptyRoot(),
    srchRoot: emptyRoot(),
    volopt: {
      setBits: p.zoneBlocks === undefined ? 0n : BigInt(VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT),
      dataAllocZoneBlocks: p.zoneBlocks ?? 0,
      futureExpansion: [],
    },
  };
}

function listBlock(p: Plan): Uint8Array {
  const block = newBlock('large');
  const v = viewOf(block);
  v.setUint32(48, 0, true); // start
  v.setUint32(52, FIRST_LIST_BLOCKS, true); // nr
  for (let i = 0; i < FIRST_LIST_BLOCKS; i++) {
    v.setBigUint64(AllocListBlock.size + i * 8, BigInt(FIRST_LISTED_BLKNO + i), true);
  }
  sealBlock(block, {
    magic: BLOCK_MAGIC_ALLOC_LIST, fsid: p.fsid, seq: BigInt(MKFS_SEQ), blkno: LIST_BLKNO,
  });
  return block;
}

async function writeMetaBlocks(meta: Device, p: Plan): Promise<void> {
  const leaf = (blkno: number, items: LeafItem[]): Promise<void> =>
    writeBlock(meta, 'large', blkno, buildLeaf(p.fsid, blkno, MKFS_SEQ, items));
  await leaf(FS_BLKNO, [
    { key: makeKey({
      zone: INODE_INDEX_ZONE, type: INODE_INDEX_META_SEQ_TYPE, third: BigInt(ROOT_INO),
    }) },
    { key: makeKey({ zone: FS_ZONE, first: BigInt(ROOT_INO), type: INODE_TYPE }),
      value: rootInode(p.now, p.fmtVers) },
  ]);
  await writeBlock(meta, 'large', LIST_BLKNO, listBlock(p));
  await leaf(DATA_ALLOC_BLKNO, extentItems(p.dataFree));
  await leaf(META_ALLOC_BLKNO[0], extentItems(p.metaFree[0]));
  await leaf(META_ALLOC_BLKNO[1], extentItems(p.metaFree[1]));
  for (let i = 0; i < QUORUM_BLOCKS; i++) {
    const block = newBlock('small');
    sealBlock(block, {
      magic: BLOCK_MAGIC_QUORUM, fsid: p.fsid, seq: BigInt(MKFS_SEQ), blkno: QUORUM_BLKNO + i,
    });
    await writeBlock(meta, 'small', QUORUM_BLKNO + i, block);
  }
}

/** Sizes, limits and identity; everything that can be refused is refused here. */
function makePlan(meta: Device, data: Device, opts: MkfsOptions, env: MkfsEnv): Plan {
  const metaBytes = usedBytes(meta, 'meta', opts.maxMetaBytes ?? 0, opts, env);
  const dataBytes = usedBytes(data, 'data', opts.maxDataBytes ?? 0, opts, env);
  const totalMetaBlocks = Math.floor(metaBytes / UNITS.large.bytes);
  const totalDataBlocks = Math.floor(dataBytes / UNITS.small.bytes);
  checkLeast(meta, totalMetaBlocks, MIN_META_BLOCKS, 'large');
  checkLeast(data, totalDataBlocks, MIN_DATA_BLOCKS, 'small');
  if (opts.zoneBlocks !== undefined) checkZones(opts.zoneBlocks, totalDataBlocks);
  const free = totalMetaBlocks - FIRST_FREE_BLKNO;
  const half = Math.ceil(free / 2);
  return {
    fsid: opts.fsid ?? randomFsid(env.random),
    uuid: opts.uuid ?? randomUuid(env.random),
    now: opts.now ?? env.clock.now(),
    fmtVers: opts.fmtVers ?? FORMAT_VERSION_MAX,
    totalMetaBlocks,
    totalDataBlocks,
    zoneBlocks: opts.zoneBlocks,
    slots: opts.slots,
    dataFree: { start: DATA_DEV_START_BLKNO, len: totalDataBlocks - DATA_DEV_START_BLKNO },
    metaFree: [
      { start: FIRST_FREE_BLKNO, len: half },
      { start: FIRST_FREE_BLKNO + half, len: free - half },
    ],
  };
}

/**
 * Makes a volume. The devices are open for writing; they are left open.
 *
 * @returns the super block of the metadata device
 * @throws BAD_SLOTS, BAD_VERSION, EXISTING_CONTENTS, DEVICE_TOO_SMALL, BAD_ZONE_BLOCKS
 *   (EINVAL) before anything is written; DEVICE_IO (EIO)
 * Source: mkfs.md; vectors `format-vectors.json` -> volumes
 */
export async function mkfs(meta: Device, data: Device, opts: MkfsOptions, env: MkfsEnv):
Promise<SuperBlock> {
  checkSlots(opts.slots);
  const fmtVers = opts.fmtVers ?? FORMAT_VERSION_MAX;
  if (!Number.isInteger(fmtVers) || fmtVers < FORMAT_VERSION_MIN || fmtVers > FORMAT_VERSION_MAX) {
    refuse('BAD_VERSION', `format version ${fmtVers} is not supported`);
  }
  if (opts.force !== true) {
    await checkEmpty(meta);
    await checkEmpty(data);
  }
  const plan = makePlan(meta, data, opts, env);
  await writeMetaBlocks(meta, plan);
  const sb = planSuper(plan);
  await writeSuper(data, newBlock('small'), sb);
  const metaSuper = { ...sb, flags: FLAG_IS_META_BDEV };
  // Its flush makes the earlier blocks durable as well.
  await writeSuper(meta, newBlock('small'), metaSuper);
  return metaSuper;
}
