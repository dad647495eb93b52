/**
 * What works but is likely to surprise the people who run a volume: one line each,
 * for standard error and logs.
 *
 * Spec: quorum.md 1 (two slots); alloc.md 8 (the reserve).
 */
import { UNITS } from './block.js';
import { sizeText } from './sizes.js';

/** What a line of advice begins with; scripts that compare output can tell it by that. */
export const WARNING = 'scoutfs: warning: ';

/** Below this the reserves of both pools are a good part of the metadata device. */
export const META_ADVISED_BYTES = 8 * 1024 ** 3;

/** About the number of configured quorum slots; null when there is nothing to say. */
export function slotAdvice(slots: number): string | null {
  return slots !== 2 ? null
    : 'two quorum slots: one vote elects, so both nodes can be elected when they cannot reach ' +
      'each other, and fencing decides which one goes on; one or three slots avoid that';
}

/** About the size of the metadata device; null when there is nothing to say. */
export function metaSizeAdvice(totalMetaBlocks: number): string | null {
  const bytes = totalMetaBlocks * UNITS.large.bytes;
  return bytes >= META_ADVISED_BYTES ? null
    : `metadata device of ${sizeText(bytes)}: with less than ${sizeText(META_ADVISED_BYTES)} ` +
      'the reserve for clients makes creation fail with ENOSPC while most of it is free';
}
