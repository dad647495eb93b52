/**
 * The part of memory that a job in progress works in: merge windows, or entries that are
 * sorted. Instances that do no such work have none. One job at a time.
 */

export let arenaAt: usize = 0;
export let arenaBytes: i32 = 0;

export function arenaSet(at: usize, bytes: i32): void {
  arenaAt = at;
  arenaBytes = bytes;
}
