/**
 * Freeing all blocks of a tree that nothing refers to any more.
 *
 * No block is modified and no leaf is read. A persistent key says how far it got:
 * zeros at the start, ones when the tree is gone. Leaves are freed from the
 * level-1 block that references them; with the last leaf of a level-1 block go the
 * block itself and every parent of which it was the last descendant. Upstream
 * forgets the level-1 blocks; the key means the same, so a job half done by one can
 * be finished by the other. Source: btree.md 8, vectors → free_blocks, quirks.
 */
import { allocFreedRoom, allocPrepare, freeMeta } from './alloc_meta';
import { blockErr, blockRead, corrupt, CORRUPT_BTREE_LEVEL, CORRUPT_HEIGHT, CORRUPT_NO_CHILD }
  from './block';
import { itemAtOrAfter, itemVal, levelOf } from './btree_block';
import { avlNext } from './avl';
import {
  BT_AVL_ROOT, EINVAL, ENOSPC, HDR_BLKNO, ITEM_KEY, MAGIC_BTREE, MAX_HEIGHT, ROOT_HEIGHT,
} from './format';
import { keyCopy, keyInc, keyIsOnes, keyOnes } from './key';

const parents: usize = memory.data(20 * 8, 8);
const resume: usize = memory.data(32, 8);
let nrParents: i32 = 0;
/** Blocks freed by the last call, also by one that ended with NEED_BLOCK. */
export let freedNr: i32 = 0;

/** Frees up to `budget` blocks. 0 (done when `key` is ones), NEED_BLOCK or an error. */
export function freeTree(al: usize, root: usize, key: usize, budget: i32): i32 {
  freedNr = 0;
  const height = load<u8>(root, ROOT_HEIGHT);
  if (budget <= 0) return -EINVAL;
  if (height > MAX_HEIGHT) return corrupt(CORRUPT_HEIGHT, load<u64>(root));
  if (keyIsOnes(key)) return 0;
  if (height <= 1) {
    if (height == 1) {
      const e = freeOne(al, load<u64>(root));
      if (e != 0) return e;
    }
    keyOnes(key);
    return 0;
  }
  // a block is only missing while there is budget left, so a repetition may take the rest
  while (!keyIsOnes(key) && freedNr < budget) {
    const b = descendTo1(root, <i32>height, key);
    if (b == 0) return blockErr;
    const e = freeLeaves(al, b, key, budget);
    if (e != 0) return e == FULL ? 0 : e;
  }
  return 0;
}

const FULL: i32 = 1;

function freeOne(al: usize, blkno: u64): i32 {
  const e = freeMeta(al, blkno);
  if (e == 0) freedNr += 1;
  return e;
}

/** The level-1 block of `key`; notes where to go on after it and which parents it completes. */
function descendTo1(root: usize, height: i32, key: usize): usize {
  keyOnes(resume);
  nrParents = 0;
  let ref = root;
  let level = height - 1;
  while (true) {
    const b = blockRead(ref, MAGIC_BTREE);
    if (b == 0) return 0;
    if (levelOf(b) != level) {
      corrupt(CORRUPT_BTREE_LEVEL, load<u64>(b, HDR_BLKNO));
      return 0;
    }
    if (level == 1) return b;
    const item = itemAtOrAfter(b, key);
    if (item == 0) {
      corrupt(CORRUPT_NO_CHILD, load<u64>(b, HDR_BLKNO));
      return 0;
    }
    if (avlNext(b + BT_AVL_ROOT, item) != 0) {
      nrParents = 0;
      keyCopy(resume, item + ITEM_KEY);
      keyInc(resume);
    } else {
      store<u64>(parents + (<usize>nrParents << 3), load<u64>(b, HDR_BLKNO));
      nrParents += 1;
    }
    ref = itemVal(b, item);
    level -= 1;
  }
}

function freeLeaves(al: usize, b: usize, key: usize, budget: i32): i32 {
  const avl = b + BT_AVL_ROOT;
  let item = itemAtOrAfter(b, key);
  if (item == 0) return corrupt(CORRUPT_NO_CHILD, load<u64>(b, HDR_BLKNO));
  while (item != 0) {
    const next = avlNext(avl, item);
    const follow = next == 0 ? 1 + nrParents : 0;
    // a budget smaller than one last step still makes progress
    if (freedNr != 0 && freedNr + 1 + follow > budget) return FULL;
    let e = allocPrepare(al);
    if (e != 0) return e;
    // the step is not begun unless all of it can be recorded
    if (allocFreedRoom(al) < <u32>(1 + follow)) return freedNr != 0 ? FULL : -ENOSPC;
    e = freeOne(al, load<u64>(itemVal(b, item)));
    if (e != 0) return e;
    if (next != 0) {
      keyCopy(key, item + ITEM_KEY);
      keyInc(key);
    } else {
      e = freeOne(al, load<u64>(b, HDR_BLKNO));
      for (let i = 0; i < nrParents && e == 0; i++) {
        e = freeOne(al, load<u64>(parents + (<usize>i << 3)));
      }
      if (e != 0) return e;
      keyCopy(key, resume);
    }
    item = next;
  }
  return 0;
}
