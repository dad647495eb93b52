/**
 * Moving free data extents between a client's trees and the volume's.
 *
 * A move may stop part-way when its share of the commit is used ('inProgress'): what
 * was moved stands, and both roots have changed after any outcome, errors included, so
 * the owner of a root always stores it. Source: alloc.md 5.2; server.md trap 11.
 */
import type { Ptr } from '../core/core.js';
import { ERRNO } from '../observe/errors.js';
import { HOLD_BLOCKS, type Commits } from './commit.js';
import { aRootTotal, setARootTotal } from './records.js';

/** Blocks of one commit that one move may use. */
export const MOVE_BUDGET_BLOCKS = HOLD_BLOCKS / 2;

export interface ZoneChoice {
  zoneBlocks: number;
  /** bitmaps of 128 bytes in core memory */
  exclusive: Ptr;
  vacant: Ptr;
}

export type Moved = 'done' | 'inProgress' | 'exhausted' | 'low';

/** Moves up to `total` blocks from `src` to `dst`, from `zones` first. Within a hold. */
export async function moveExtents(commits: Commits, dst: Ptr, src: Ptr, total: number,
  zones: ZoneChoice | null = null): Promise<Moved> {
  const { core, al, ws } = commits.space;
  const { x } = core;
  if (total <= 0) return 'done';
  x.ext_move_snapshot(al);
  let left = total;
  const r = await core.run(() => {
    const e = x.ext_move(al, ws, dst, src, left, zones?.exclusive ?? 0, zones?.vacant ?? 0,
      zones?.zoneBlocks ?? 0, MOVE_BUDGET_BLOCKS);
    left -= x.ext_moved();
    return e;
  });
  if (r === -ERRNO.EINPROGRESS) return 'inProgress';
  if (r === -ERRNO.ENOENT) return 'exhausted';
  if (r === -ERRNO.ENOSPC) return 'low';
  if (r < 0) throw core.error('move free extents', r);
  return left > 0 ? 'low' : 'done';
}

/** Moves everything from `src`; false: there is more for another commit. Within a hold. */
export async function moveAll(commits: Commits, dst: Ptr, src: Ptr): Promise<boolean> {
  const core = commits.space.core;
  const moved = await moveExtents(commits, dst, src, aRootTotal(core, src));
  if (moved === 'exhausted') {
    // A mount has said that it has more than it had. Who fails here fails for ever, and every
    // server after it; what there was is moved.
    setARootTotal(core, src, 0);
    return true;
  }
  return moved === 'done';
}
