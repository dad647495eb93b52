/**
 * STATFS: the volume's totals and what is free, of the last stable super.
 *
 * Source: server.md 4.8, trap 18; block.md 6.
 */
import { NetStatfs } from '../core/format.js';
import { encode } from '../net/messages.js';
import { countStable } from './alloc_counts.js';
import type { ServerContext } from './context.js';

export async function statfs(s: ServerContext): Promise<Uint8Array> {
  const { sb, free, inodeDelta } = await countStable(s.core, 'statfs', () => s.commits.stable);
  const sum = (meta: boolean): number =>
    free.reduce((n, f) => f.meta === meta ? n + f.blocks : n, 0);
  return encode(NetStatfs, {
    uuid: sb.uuid,
    freeMetaBlocks: sum(true), totalMetaBlocks: sb.totalMetaBlocks,
    freeDataBlocks: sum(false), totalDataBlocks: sb.totalDataBlocks,
    inodeCount: Math.min(Math.max(0, sb.inodeCount + Number(inodeDelta)), Number.MAX_SAFE_INTEGER),
  });
}
