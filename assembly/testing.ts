/**
 * Entry points that only tests use: they fill the item cache without any tree, the way a
 * forest read does, and verify its structure.
 */
import { fillBegin, fillDone, fillEnd, fillItem, fillStart } from './fill';
import { keyCmp, keyCopy, keyInc } from './key';
import { pageHole } from './pages';
import { srchRef } from './srch';
import { SP_REFS } from './format';
import { KEY_A, KEY_B } from './window';

const pos: usize = memory.data(32, 16);
const start: usize = memory.data(32, 16);
const end: usize = memory.data(32, 16);

/**
 * Fills the holes of [register A, register B] from `count` items in key order at `list`, as
 * {key 32, seq 8, val_len 8, value rounded up to 8}. `lock` is the lock's record.
 * @returns items inserted, -1 when memory ran out
 */
export function testFill(lock: usize, list: usize, count: i32): i32 {
  fillStart(0);
  const done = fillHoles(lock, list, count);
  fillDone();
  return done;
}

function fillHoles(lock: usize, list: usize, count: i32): i32 {
  let done = 0;
  keyCopy(pos, KEY_A);
  while (pageHole(pos, KEY_B, start, end)) {
    if (!fillBegin(lock, start, end)) return -1;
    let at = list;
    for (let i = 0; i < count; i++) {
      const len = load<i32>(at, 40);
      if (keyCmp(at, start) >= 0 && keyCmp(at, end) <= 0) {
        if (!fillItem(at, load<u64>(at, 32), at + 48, len)) return -1;
        done++;
      }
      at += 48 + <usize>((len + 7) & ~7);
    }
    fillEnd();
    if (keyCmp(end, KEY_B) >= 0) break;
    keyCopy(pos, end);
    keyInc(pos);
  }
  return done;
}

/** Number of the reference to logical block `blk` in a parent at `level`. */
export function testSrchRef(level: i32, blk: f64): i32 {
  return <i32>((srchRef(0, level, <u64>blk) - SP_REFS) >> 4);
}
