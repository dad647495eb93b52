/**
 * Gives a volume without file data a new data device: checks that there is none,
 * and writes the new device's copy of the super block.
 *
 * The old data device keeps its super block and could still be mounted by mistake.
 *
 * Spec: mkfs.md 8.4.
 */
import {
  BLOCK_MAGIC_SUPER, BLOCK_SM_SIZE, DATA_DEV_START_BLKNO, FLAG_IS_META_BDEV, SUPER_BLKNO,
  SuperBlock,
} from '../core/format.js';
import type { Device } from '../env/device.js';
import { ScoutfsError } from '../observe/errors.js';
import { deviceBlocks, newBlock, sealBlock, viewOf, writeBlock } from './block.js';
import { checkNotInUse } from './in_use.js';
import { countText } from './sizes.js';
import { OFFLINE_SEQ, checkIsMeta, readOfflineSuper } from './super.js';

function refuse(code: string, message: string): never {
  throw new ScoutfsError(code, 'EINVAL', { message });
}

/**
 * Everything that has to hold before a new data device may be used; `data` null
 * when there is none yet.
 *
 * @returns the metadata device's super block
 * @throws BAD_SUPER (EIO, EINVAL for a data device), IN_USE (EBUSY), DATA_IN_USE,
 *   DEVICE_TOO_SMALL (EINVAL)
 */
export async function checkEmptyDataDevice(meta: Device, data: Device | null):
Promise<SuperBlock> {
  const { sb } = await readOfflineSuper(meta);
  checkIsMeta(meta, sb);
  await checkNotInUse(meta, sb);
  const used = sb.totalDataBlocks - DATA_DEV_START_BLKNO - sb.dataAlloc.totalLen;
  if (used !== 0) {
    refuse('DATA_IN_USE', `${meta.path}: ${countText(used, BLOCK_SM_SIZE)} data blocks are ` +
      'still allocated, the data device is not empty');
  }
  if (data !== null && deviceBlocks(data, 'small') < sb.totalDataBlocks) {
    refuse('DEVICE_TOO_SMALL', `${data.path}: ` +
      `${countText(deviceBlocks(data, 'small'), BLOCK_SM_SIZE)} blocks are fewer than the ` +
      `volume's ${countText(sb.totalDataBlocks, BLOCK_SM_SIZE)}`);
  }
  return sb;
}

/** Checks, then writes the super block of the new data device. @throws as the check */
export async function prepareEmptyDataDevice(meta: Device, data: Device): Promise<SuperBlock> {
  const sb = await checkEmptyDataDevice(meta, data);
  const block = newBlock('small');
  const empty = SuperBlock.read(viewOf(newBlock('small')), 0);
  SuperBlock.write(viewOf(block), 0, {
    ...empty,
    id: sb.id,
    fmtVers: sb.fmtVers,
    flags: sb.flags - FLAG_IS_META_BDEV,
    uuid: sb.uuid,
    seq: sb.seq,
    totalMetaBlocks: sb.totalMetaBlocks,
    totalDataBlocks: sb.totalDataBlocks,
  });
  sealBlock(block, {
    magic: BLOCK_MAGIC_SUPER, fsid: sb.hdr.fsid, seq: OFFLINE_SEQ, blkno: SUPER_BLKNO,
  });
  await writeBlock(data, 'small', SUPER_BLKNO, block);
  await data.flush();
  return sb;
}
