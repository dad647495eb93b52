/**
 * Fills the list of freed blocks of a running allocator, for the trigger
 * alloc_fill_freed_list: blocks are taken out of a tree of free extents and freed like blocks
 * of a tree, until the first block of the list has as little room left as is asked for.
 *
 * Two lists in this state once wedged upstream's server: each new transaction begins with a
 * list that looks full, although it would begin a fresh block. Source: alloc.md 12 (commit
 * deadlock), acceptance.md freed-list-wedge.
 */
import type { Ptr } from '../core/core.js';
import type { TreeSpace } from '../core/trees.js';
import { ERRNO, assert } from '../observe/errors.js';

/**
 * Moves blocks of the tree `from` into the freed list until at most `roomBlocks` fit in, or
 * until there are no more. @throws EIO; what was taken may then be in neither of them
 */
export async function fillFreedList(space: TreeSpace, from: Ptr, roomBlocks: number):
Promise<void> {
  const { core, al, ws } = space;
  await core.runAsync('begin the freed list', () => core.x.alloc_first_use(al));
  while (space.freedRoom > roomBlocks) {
    const room = space.freedRoom;
    const r = await core.run(() =>
      core.x.ext_alloc(al, ws, from, space.freedRoom - roomBlocks));
    if (r === -ERRNO.ENOSPC) return;
    if (r < 0) throw core.error('take free blocks', r);
    const start = core.x.ext_got_start();
    const end = start + core.x.ext_got_len();
    for (let blkno = start; blkno < end; blkno++) {
      await core.runAsync('free a block', () => core.x.alloc_free_blkno(al, blkno));
    }
    assert(space.freedRoom < room, 'the freed list has not grown');
  }
}
