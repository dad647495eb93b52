/**
 * Metadata blocks on a device, for the offline tools: reading, checking, writing.
 *
 * Block n of a unit lies at byte n << shift. Every block opens with a 32-byte
 * header; its checksum covers everything behind the checksum itself, unused bytes
 * included. Mounts read large blocks through the core; here they are checked and
 * walked in plain TypeScript, one at a time.
 *
 * Whatever comes from a device is not trusted: numbers are held against the
 * device's size before they become offsets, and `checkBlock` says what is wrong
 * with a block instead of assuming that nothing is.
 *
 * Spec: format.md 2, 4; block.md 2.
 */
import { CRC_INIT, crc32c } from '../core/crc32c.js';
import { BLOCK_LG_SHIFT, BLOCK_LG_SIZE, BLOCK_SM_SHIFT, BLOCK_SM_SIZE, BlockHeader } from
  '../core/format.js';
import type { Device } from '../env/device.js';
import { alignedMemory } from '../env/device.js';
import { ScoutfsError } from '../observe/errors.js';

/** The two units that blocks come in. */
export type BlockUnit = 'small' | 'large';

interface UnitSize {
  shift: number;
  bytes: number;
}

export const UNITS: Readonly<Record<BlockUnit, UnitSize>> = {
  small: { shift: BLOCK_SM_SHIFT, bytes: BLOCK_SM_SIZE },
  large: { shift: BLOCK_LG_SHIFT, bytes: BLOCK_LG_SIZE },
};

/** What the header of a block must say; absent members are not looked at. */
export interface BlockExpect {
  magic?: number;
  fsid?: bigint;
  seq?: bigint;
  blkno?: number;
}

/** A zeroed block whose memory suits direct I/O. */
export function newBlock(unit: BlockUnit): Uint8Array {
  return alignedMemory(UNITS[unit].bytes);
}

export function viewOf(block: Uint8Array): DataView {
  return new DataView(block.buffer, block.byteOffset, block.length);
}

/** Number of whole blocks on a device. */
export function deviceBlocks(dev: Device, unit: BlockUnit): number {
  return Math.floor(dev.sizeBytes / UNITS[unit].bytes);
}

/** Checksum of a whole block, without its first four bytes. */
export function blockCrc(block: Uint8Array): number {
  return crc32c(CRC_INIT, block.subarray(4));
}

/** Writes the header of a finished block, its checksum last. */
export function sealBlock(block: Uint8Array, hdr: Required<BlockExpect>): void {
  const v = viewOf(block);
  BlockHeader.write(v, 0, { crc: 0, ...hdr });
  v.setUint32(0, blockCrc(block), true);
}

function hex(n: number | bigint): string {
  return `0x${n.toString(16)}`;
}

/**
 * What is wrong with a block, or null. Checked in this order: checksum, magic,
 * fsid, seq, blkno.
 */
export function checkBlock(block: Uint8Array, expect: BlockExpect): string | null {
  const v = viewOf(block);
  const stored = v.getUint32(0, true);
  const computed = blockCrc(block);
  if (stored !== computed) return `checksum ${hex(stored)} does not match ${hex(computed)}`;
  // Raw words: a foreign block may hold any number where a count belongs.
  const found = {
    magic: v.getUint32(4, true), fsid: v.getBigUint64(8, true), seq: v.getBigUint64(16, true),
    blkno: v.getBigUint64(24, true),
  };
  for (const name of ['magic', 'fsid', 'seq', 'blkno'] as const) {
    const want = expect[name];
    if (want !== undefined && BigInt(found[name]) !== BigInt(want)) {
      return `${name} is ${hex(found[name])}, not ${hex(want)}`;
    }
  }
  return null;
}

function offsetOf(dev: Device, unit: BlockUnit, blkno: number): number {
  if (!Number.isSafeInteger(blkno) || blkno < 0 || blkno >= deviceBlocks(dev, unit)) {
    throw new ScoutfsError('BLOCK_RANGE', 'EIO', {
      message: `${dev.path}: ${unit} block ${blkno} is outside the device ` +
        `(${deviceBlocks(dev, unit)} blocks)`,
      data: { blkno, unit },
    });
  }
  return blkno * UNITS[unit].bytes;
}

/** Reads a block into fresh memory, unchecked. @throws BLOCK_RANGE, DEVICE_IO (EIO) */
export async function readBlock(dev: Device, unit: BlockUnit, blkno: number): Promise<Uint8Array> {
  const block = newBlock(unit);
  await dev.read(offsetOf(dev, unit, blkno), block);
  return block;
}

/** Reads and checks a block. @throws BAD_BLOCK (EIO) naming device, block and cause */
export async function readChecked(dev: Device, unit: BlockUnit, blkno: number,
  expect: BlockExpect): Promise<Uint8Array> {
  const block = await readBlock(dev, unit, blkno);
  const problem = checkBlock(block, { blkno, ...expect });
  if (problem !== null) {
    throw new ScoutfsError('BAD_BLOCK', 'EIO', {
      message: `${dev.path}: ${unit} block ${blkno}: ${problem}`, data: { blkno, unit },
    });
  }
  return block;
}

/** Writes a sealed block. Durable only after a flush. @throws BLOCK_RANGE, DEVICE_IO (EIO) */
export async function writeBlock(dev: Device, unit: BlockUnit, blkno: number,
  block: Uint8Array): Promise<void> {
  await dev.write(offsetOf(dev, unit, blkno), block);
}
