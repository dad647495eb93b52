/**
 * Super blocks on their devices: small block 16 of both.
 *
 * Each copy is checked on its own (magic, checksum, block number, version, sizes
 * against the devices), then the two are compared, because the two devices of a
 * volume can be given in the wrong order or not belong together. An error names
 * the device and what is wrong with it.
 *
 * The offline tools change single fields of a block that upstream may have
 * written, so a super is kept with its raw bytes (`RawSuper`): bytes that we do
 * not interpret stay as they are.
 *
 * Spec: super.md 3; format.md 4, 5; mkfs.md 8.
 */
import {
  BLOCK_MAGIC_SUPER, FLAG_IS_META_BDEV, FORMAT_VERSION_MAX, FORMAT_VERSION_MIN, SUPER_BLKNO,
  SuperBlock,
} from '../core/format.js';
import type { Device } from '../env/device.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { blockCrc, checkBlock, deviceBlocks, readBlock, sealBlock, viewOf, writeBlock } from
  './block.js';

/** A super block together with the bytes it was read from. */
export interface RawSuper {
  block: Uint8Array;
  sb: SuperBlock;
}

/** `hdr.seq` of every super block that an offline tool writes. */
export const OFFLINE_SEQ = 1n;
const MAGIC_OFFSET = 4;

function bad(dev: Device, cause: string, errno: 'EINVAL' | 'EIO' = 'EINVAL'): ScoutfsError {
  return new ScoutfsError('BAD_SUPER', errno, { message: `${dev.path}: ${cause}` });
}

/** Whether small block 16 carries the super magic, whatever the rest of it holds. */
export async function hasSuperMagic(dev: Device): Promise<boolean> {
  if (deviceBlocks(dev, 'small') <= SUPER_BLKNO) return false;
  const block = await readBlock(dev, 'small', SUPER_BLKNO);
  return viewOf(block).getUint32(MAGIC_OFFSET, true) === BLOCK_MAGIC_SUPER;
}

/**
 * Reads one copy: magic, checksum, block number, in this order. What is no super
 * block is `errno`: EINVAL for a mount, EIO for the offline tools.
 *
 * @throws BAD_SUPER naming the device and the cause, DEVICE_IO (EIO)
 */
async function readRawSuper(dev: Device, errno: 'EINVAL' | 'EIO'): Promise<RawSuper> {
  if (deviceBlocks(dev, 'small') <= SUPER_BLKNO) {
    throw bad(dev, `too small for a super block (${dev.sizeBytes} bytes)`, errno);
  }
  const block = await readBlock(dev, 'small', SUPER_BLKNO);
  const magic = viewOf(block).getUint32(MAGIC_OFFSET, true);
  if (magic !== BLOCK_MAGIC_SUPER) {
    throw bad(dev,
      `no scoutfs super block: magic is 0x${magic.toString(16).padStart(8, '0')}`, errno);
  }
  const problem = checkBlock(block, { blkno: SUPER_BLKNO });
  if (problem !== null) throw bad(dev, `super block: ${problem}`, errno);
  try {
    return { block, sb: SuperBlock.read(viewOf(block), 0) };
  } catch (e) {
    throw bad(dev, `super block: ${asScoutfsError(e).message}`, errno);
  }
}

/**
 * Reads one copy for an offline tool, which may have to mend what a mount refuses.
 * `fsid`: the volume that it has to belong to.
 *
 * @throws BAD_SUPER (EIO) naming the device and the cause, DEVICE_IO (EIO)
 */
export async function readOfflineSuper(dev: Device, fsid?: bigint): Promise<RawSuper> {
  const raw = await readRawSuper(dev, 'EIO');
  if (fsid !== undefined && raw.sb.hdr.fsid !== fsid) {
    throw bad(dev, `belongs to the volume with fsid ${raw.sb.hdr.fsid.toString(16)}, ` +
      `not ${fsid.toString(16)}`, 'EIO');
  }
  return raw;
}

function checkVersion(dev: Device, sb: SuperBlock): void {
  if (sb.fmtVers < FORMAT_VERSION_MIN || sb.fmtVers > FORMAT_VERSION_MAX) {
    throw bad(dev, `format version ${sb.fmtVers} is not supported ` +
      `(${FORMAT_VERSION_MIN} to ${FORMAT_VERSION_MAX})`);
  }
}

/** The recorded totals must fit the devices; they may be smaller. */
function checkSizes(dev: Device, sb: SuperBlock, meta: Device, data: Device): void {
  // A mounted volume grows with its devices, which nobody tells the other mounts.
  meta.refreshSize?.();
  data.refreshSize?.();
  const metaBlocks = deviceBlocks(meta, 'large');
  const dataBlocks = deviceBlocks(data, 'small');
  if (sb.totalMetaBlocks > metaBlocks) {
    throw bad(dev, `super block: total_meta_blocks ${sb.totalMetaBlocks} is more than ` +
      `${meta.path} has (${metaBlocks})`);
  }
  if (sb.totalDataBlocks > dataBlocks) {
    throw bad(dev, `super block: total_data_blocks ${sb.totalDataBlocks} is more than ` +
      `${data.path} has (${dataBlocks})`);
  }
}

/** Whether a super says that its device is the metadata device. */
export function isMetaSuper(sb: SuperBlock): boolean {
  return sb.flags % 2 === FLAG_IS_META_BDEV;
}

/** @throws BAD_SUPER (EINVAL) for the super block of a data device */
export function checkIsMeta(meta: Device, sb: SuperBlock): void {
  if (!isMetaSuper(sb)) throw bad(meta, 'is a data device, not a metadata device');
}

/** The devices must be given in the right order. @throws BAD_SUPER (EINVAL) */
export function checkRoles(meta: Device, metaSuper: SuperBlock, data: Device,
  dataSuper: SuperBlock): void {
  checkIsMeta(meta, metaSuper);
  if (isMetaSuper(dataSuper)) throw bad(data, 'is a metadata device, not a data device');
}

/**
 * Reads the super block of the metadata device again while mounted, with the format
 * version settled on at mount.
 * @throws BAD_SUPER (EINVAL), DEVICE_IO (EIO)
 */
export async function readMetaSuper(meta: Device, data: Device, fmtVers: number):
Promise<SuperBlock> {
  const { sb } = await readRawSuper(meta, 'EINVAL');
  checkVersion(meta, sb);
  if (sb.fmtVers !== fmtVers) {
    throw bad(meta, `format version changed from ${fmtVers} to ${sb.fmtVers}`);
  }
  checkSizes(meta, sb, meta, data);
  return sb;
}

/**
 * Reads both super blocks and makes sure that they are the two halves of a volume
 * we can use.
 *
 * @throws BAD_SUPER (EINVAL) naming the device and the cause, DEVICE_IO (EIO)
 */
export async function readSupers(meta: Device, data: Device):
Promise<{ meta: SuperBlock; data: SuperBlock }> {
  const { sb: metaSuper } = await readRawSuper(meta, 'EINVAL');
  checkVersion(meta, metaSuper);
  const { sb: dataSuper } = await readRawSuper(data, 'EINVAL');
  checkVersion(data, dataSuper);
  // before the sizes: those of swapped devices seldom fit, which says nothing to their owner
  checkRoles(meta, metaSuper, data, dataSuper);
  checkSizes(meta, metaSuper, meta, data);
  checkSizes(data, dataSuper, meta, data);
  if (Buffer.compare(metaSuper.uuid, dataSuper.uuid) !== 0) {
    throw bad(data, `uuid ${uuidText(dataSuper.uuid)} is not that of ${meta.path} ` +
      `(${uuidText(metaSuper.uuid)})`);
  }
  if (metaSuper.fmtVers !== dataSuper.fmtVers) {
    throw bad(data, `format version ${dataSuper.fmtVers} is not that of ${meta.path} ` +
      `(${metaSuper.fmtVers}); repeat change-format-version`);
  }
  return { meta: metaSuper, data: dataSuper };
}

/** Writes a super block as it is, header included, and makes it durable. */
export async function writeSuper(dev: Device, block: Uint8Array, sb: SuperBlock): Promise<void> {
  SuperBlock.write(viewOf(block), 0, sb);
  sealBlock(block, { ...sb.hdr, magic: BLOCK_MAGIC_SUPER, blkno: SUPER_BLKNO });
  await writeBlock(dev, 'small', SUPER_BLKNO, block);
  await dev.flush();
}

/**
 * Writes back the bytes of a super block that an offline tool has changed in
 * place: `hdr.seq` becomes 1, the checksum is computed anew.
 */
export async function rewriteSuper(dev: Device, block: Uint8Array): Promise<void> {
  const v = viewOf(block);
  v.setBigUint64(16, OFFLINE_SEQ, true);
  v.setUint32(0, blockCrc(block), true);
  await writeBlock(dev, 'small', SUPER_BLKNO, block);
  await dev.flush();
}

/** A uuid as text: 8-4-4-4-12 hexadecimal digits. */
export function uuidText(uuid: Uint8Array): string {
  const h = Buffer.from(uuid).toString('hex');
  return [h.slice(0, 8), h.slice(8, 12), h.slice(12, 16), h.slice(16, 20), h.slice(20)].join('-');
}
