/**
 * STATFS: the volume's totals and what is free, of the last stable super.
 *
 * The walk runs beside commits. When it meets a block that a commit has replaced, all of
 * it starts again from zero with the newest stable super; the same super being stale
 * twice means that the volume is damaged. Source: server.md 4.8, trap 18; block.md 6.
 */
import { NetStatfs } from '../core/format.js';
import { encode } from '../net/messages.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { countFree } from './alloc_counts.js';
import type { ServerContext } from './context.js';

export async function statfs(s: ServerContext): Promise<Uint8Array> {
  let staleSeq = -1n;
  for (;;) {
    const sb = s.commits.stable;
    try {
      const { free, inodeDelta } = await countFree(s.core, sb);
      const sum = (meta: boolean): number =>
        free.reduce((n, f) => f.meta === meta ? n + f.blocks : n, 0);
      return encode(NetStatfs, {
        uuid: sb.uuid,
        freeMetaBlocks: sum(true), totalMetaBlocks: sb.totalMetaBlocks,
        freeDataBlocks: sum(false), totalDataBlocks: sb.totalDataBlocks,
        inodeCount: Math.max(0, sb.inodeCount + Number(inodeDelta)),
      });
    } catch (e) {
      if (asScoutfsError(e).errno !== 'ESTALE') throw e;
      if (sb.hdr.seq === staleSeq) {
        throw new ScoutfsError('STALE_TWICE', 'EIO', {
          message: 'statfs: blocks of the stable super block are damaged', cause: e,
        });
      }
      staleSeq = sb.hdr.seq;
    }
  }
}
