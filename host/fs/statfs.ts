/**
 * The server's counts of blocks and inodes as statfs reports them: blocks of 4
 * KiB on both devices together, and as many inodes as the metadata device could
 * hold with 2 KiB each. Source: super.md 5; vector fs-vectors.json statfs.
 */
import { NAME_LEN } from '../core/constants.js';
import type { NetStatfs } from '../core/format.js';
import { BLOCK_BYTES } from './ext.js';
import type { StatfsOut } from './vfs.js';

const SMALL_PER_LARGE = 16;
const INODES_PER_META_BLOCK = 32;

export function fillStatfs(s: NetStatfs, out: StatfsOut): void {
  out.blocks = s.totalMetaBlocks * SMALL_PER_LARGE + s.totalDataBlocks;
  out.bfree = s.freeMetaBlocks * SMALL_PER_LARGE + s.freeDataBlocks;
  out.bavail = out.bfree;
  out.files = s.totalMetaBlocks * INODES_PER_META_BLOCK;
  out.ffree = Math.max(0, out.files - s.inodeCount);
  out.bsize = BLOCK_BYTES;
  out.nameMax = NAME_LEN;
}
