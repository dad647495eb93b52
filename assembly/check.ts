/**
 * Assertions that stay on in production.
 *
 * A broken invariant leaves its id in a fixed place and tells the host, which throws an
 * error that names it; after that the instance must not be used any more, because a
 * change may be half done. Ids are listed in one place so that
 * each is used once and can be looked up.
 */
import { CHECK_ID } from './window';

// @ts-ignore: decorator
@external("host", "invariantBroken")
declare function invariantBroken(id: i32): void;

// @ts-ignore: decorator
@inline export const C_HEAP_DOUBLE_FREE: i32 = 1;
// @ts-ignore: decorator
@inline export const C_HEAP_RANGE: i32 = 2;
// @ts-ignore: decorator
@inline export const C_PAGE_SPACE: i32 = 10;
// @ts-ignore: decorator
@inline export const C_PAGE_ORDER: i32 = 11;
// @ts-ignore: decorator
@inline export const C_PAGE_INVERTED: i32 = 12;
// @ts-ignore: decorator
@inline export const C_PAGE_OVERLAP: i32 = 13;
// @ts-ignore: decorator
@inline export const C_ITEM_DIRTY_INVALIDATED: i32 = 14;
// @ts-ignore: decorator
@inline export const C_ITEM_COUNT: i32 = 15;
// @ts-ignore: decorator
@inline export const C_ITEM_MEMORY: i32 = 16;
// @ts-ignore: decorator
@inline export const C_LOCK_RECORD: i32 = 17;

// @ts-ignore: decorator
@inline export const C_SRCH_ENTRY: i32 = 18;
// @ts-ignore: decorator
@inline export const C_SRCH_UNPREPARED: i32 = 19;

// @ts-ignore: decorator
@inline export const C_MERGE_WINDOW: i32 = 403;

/** Traps with `id` unless `cond` holds. Compiled in whatever the compiler flags say. */
// @ts-ignore: decorator
@inline
export function check(cond: bool, id: i32): void {
  if (!cond) broken(id);
}

/** Records the id and ends the call through the host, which throws. */
export function broken(id: i32): void {
  store<i32>(CHECK_ID, id);
  invariantBroken(id);
  unreachable();
}

/** Id left by the last trap, 0 if none. */
export function checkId(): i32 {
  return load<i32>(CHECK_ID);
}
