/**
 * What an xattr total is, for a reader that finds its increments in several trees.
 *
 * A merge may have written some inputs' increments into the file system tree while
 * those inputs are still listed. So contributions are kept apart by where they come
 * from, and the inputs count only if the file system tree does not have them yet:
 *
 *   FS     one item, with the greatest seq of all that was merged into it
 *   INPUT  finalized trees that the merge described by the same super takes in
 *   LOG    all other log trees
 *
 * Without an FS item it was either never merged (count sum above 0) or merged to
 * nothing and removed (count sum at most 0).
 *
 * Spec: forest.md 6.2; vectors core-vectors.json → totl_resolve.
 */

// @ts-ignore: decorator
@inline export const SRC_FS: i32 = 0;
// @ts-ignore: decorator
@inline export const SRC_INPUT: i32 = 1;
// @ts-ignore: decorator
@inline export const SRC_LOG: i32 = 2;

let fsSeq: u64 = 0;
let fsTotal: u64 = 0;
let fsCount: u64 = 0;
let inputSeq: u64 = 0;
let inputTotal: u64 = 0;
let inputCount: u64 = 0;
let logTotal: u64 = 0;
let logCount: u64 = 0;

/** Starts a key. */
export function totlBegin(): void {
  fsSeq = fsTotal = fsCount = 0;
  inputSeq = inputTotal = inputCount = 0;
  logTotal = logCount = 0;
}

/** Adds a contribution: its source, seq and 16-byte value. */
export function totlAdd(src: i32, seq: u64, val: usize): void {
  const total = load<u64>(val), count = load<u64>(val, 8);
  if (src == SRC_FS) {
    fsSeq = seq;
    fsTotal = total;
    fsCount = count;
  } else if (src == SRC_INPUT) {
    inputSeq = seq;
    inputTotal += total;
    inputCount += count;
  } else {
    logTotal += total;
    logCount += count;
  }
}

/** Stores the total at `out`. @returns false when there is none */
export function totlResolve(out: usize): bool {
  let total = fsTotal, count = fsCount;
  if (fsSeq != 0 ? inputSeq > fsSeq : <i64>inputCount > 0) {
    total += inputTotal;
    count += inputCount;
  }
  total += logTotal;
  count += logCount;
  store<u64>(out, total);
  store<u64>(out, count, 8);
  return (total | count) != 0;
}

/** For tests: a contribution with a seq that crosses the border. */
export function totlAddSeq(src: i32, seq: f64, val: usize): void {
  totlAdd(src, <u64>seq, val);
}
