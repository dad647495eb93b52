/**
 * Volume options: one set for the whole volume, in the super block.
 *
 * The copy that is read is the stable super's, so a change shows only when it is
 * durable. The only option is `data_alloc_zone_blocks` (bit 0).
 * Source: server.md 4.6.
 */
import {
  DATA_ALLOC_MAX_ZONES, VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT, VolumeOptions,
} from '../core/format.js';
import { decode, encode } from '../net/messages.js';
import { errnoError } from '../observe/errors.js';
import type { ServerContext } from './context.js';
import { DATA_FILL_TARGET_BLOCKS } from './log_trees.js';

const ZONE_BIT = BigInt(VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT);

export function getVolopt(s: ServerContext): Uint8Array {
  return encode(VolumeOptions, s.commits.stable.volopt);
}

/** SET_VOLOPT. @throws EINVAL for unknown options and values out of range */
export async function setVolopt(s: ServerContext, payload: Uint8Array): Promise<void> {
  const { setBits, dataAllocZoneBlocks: v } = decode(VolumeOptions, payload);
  checkBits(setBits);
  return change(s, (opts, totalDataBlocks) => {
    if ((setBits & ZONE_BIT) === 0n) return;
    if (v < DATA_FILL_TARGET_BLOCKS || v < Math.floor(totalDataBlocks / DATA_ALLOC_MAX_ZONES) ||
        v > totalDataBlocks) {
      throw errnoError('EINVAL', `data_alloc_zone_blocks ${v} is out of range`);
    }
    opts.setBits |= ZONE_BIT;
    opts.dataAllocZoneBlocks = v;
  });
}

/** CLEAR_VOLOPT. @throws EINVAL for unknown options */
export async function clearVolopt(s: ServerContext, payload: Uint8Array): Promise<void> {
  const { setBits } = decode(VolumeOptions, payload);
  checkBits(setBits);
  return change(s, (opts) => {
    if ((setBits & ZONE_BIT) === 0n) return;
    opts.setBits &= ~ZONE_BIT;
    opts.dataAllocZoneBlocks = 0;
  });
}

function checkBits(bits: bigint): void {
  if ((bits & ~ZONE_BIT) !== 0n) throw errnoError('EINVAL', 'unknown volume option');
}

function change(s: ServerContext, fn: (opts: VolumeOptions, totalDataBlocks: number) => void):
Promise<void> {
  return s.commits.transact(() => {
    const sb = s.commits.sup.read();
    fn(sb.volopt, sb.totalDataBlocks);
    s.commits.sup.write(sb);
    return Promise.resolve();
  });
}
