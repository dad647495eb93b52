/**
 * Replaces the whole quorum configuration of a volume that is not mounted. Only
 * the metadata device's super block changes; quorum blocks keep old events.
 *
 * Upstream accepts a data device here and changes its copy, to no effect; we
 * refuse it.
 *
 * Spec: mkfs.md 8.3, 11.
 */
import { QuorumConfig } from '../core/format.js';
import type { SuperBlock } from '../core/format.js';
import type { Device } from '../env/device.js';
import { viewOf } from './block.js';
import { checkNotInUse } from './in_use.js';
import { checkSlots, slotArray } from './quorum_slots.js';
import type { SlotConfig } from './quorum_slots.js';
import { checkIsMeta, readOfflineSuper, rewriteSuper } from './super.js';

const QCONF_OFFSET = 112;

/**
 * @returns the super block as written
 * @throws BAD_SLOTS (EINVAL), BAD_SUPER (EIO, EINVAL for a data device), IN_USE (EBUSY)
 */
export async function changeQuorumConfig(meta: Device, slots: readonly SlotConfig[]):
Promise<SuperBlock> {
  checkSlots(slots);
  const { block, sb } = await readOfflineSuper(meta);
  checkIsMeta(meta, sb);
  await checkNotInUse(meta, sb);
  const qconf = { version: sb.qconf.version + 1, slots: slotArray(slots) };
  QuorumConfig.write(viewOf(block), QCONF_OFFSET, qconf);
  await rewriteSuper(meta, block);
  return { ...sb, qconf };
}
