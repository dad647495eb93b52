/**
 * Giving back everything a mount had: after its farewell, or when it was fenced.
 *
 *   locks -> open log tree -> srch compactions -> merge requests -> open map -> its item
 *
 * Every step tolerates that it was done before, and the mounted client item goes last:
 * as long as it exists a later server comes here again. May take several commits.
 * Source: server.md 8.3, recovery.md 4.
 */
import type { ServerContext } from './context.js';
import type { Finalizer } from './finalize.js';
import type { LogMerges } from './log_merge.js';
import type { SrchCompactions } from './srch.js';

export interface ReclaimParts {
  locks: { reclaim(rid: bigint): void };
  omap: { remove(rid: bigint): void };
  finalizer: Finalizer;
  srch: SrchCompactions;
  merges: LogMerges;
}

/** @throws when it could not be finished: the server must stop, a later one goes on */
export async function reclaimMount(s: ServerContext, parts: ReclaimParts, rid: bigint):
Promise<void> {
  parts.locks.reclaim(rid);
  const tx = await s.commits.hold();
  try {
    const skipped = s.triggers.fires('reclaim_skip_finalize');
    if (!skipped && await parts.finalizer.reclaimLogTrees(tx, rid)) await tx.again();
    await parts.srch.reclaim(tx, rid);
    await parts.merges.reclaim(tx, rid);
    parts.omap.remove(rid);
    await s.mounted.delete(tx, rid);
  } finally {
    if (tx.held) await tx.apply();
  }
}
