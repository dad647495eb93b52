/**
 * Items whose value is an increment: the xattr totals of zone 12.
 *
 *  ╒═════════╤═════════╕
 *  │ total 8 │ count 8 │   two wrapping signed sums
 *  ╘═════════╧═════════╛
 *
 * Combining is the same wherever two versions of such an item meet: in the item
 * cache, in a log tree, in a merge window and in the file system tree; what is
 * done with the result differs and is the caller's business.
 *
 * Spec: forest.md 6.
 */

/** The zone's items are not deltas; nothing was changed. */
// @ts-ignore: decorator
@inline export const DELTA_NOT: i32 = 0;
/** The sums are in the destination. */
// @ts-ignore: decorator
@inline export const DELTA_COMBINED: i32 = 1;
/** The sums are in the destination and both are zero. */
// @ts-ignore: decorator
@inline export const DELTA_NULL: i32 = 2;
/** A value of the wrong length. */
// @ts-ignore: decorator
@inline export const DELTA_EIO: i32 = -5;

// @ts-ignore: decorator
@inline const XATTR_TOTL_ZONE: u8 = 12;
// @ts-ignore: decorator
@inline const TOTL_VAL_BYTES: i32 = 16;

/** True when items of this zone are deltas. */
// @ts-ignore: decorator
@inline
export function isDeltaZone(zone: u8): bool {
  return zone == XATTR_TOTL_ZONE;
}

/**
 * Adds the value at `src` to the value at `dst` in place, if the zone's items are deltas.
 * @returns DELTA_NOT, DELTA_COMBINED, DELTA_NULL, or DELTA_EIO when a length is not 16
 */
export function deltaCombine(zone: u8, dst: usize, dstLen: i32, src: usize, srcLen: i32): i32 {
  if (!isDeltaZone(zone)) return DELTA_NOT;
  if (dstLen != TOTL_VAL_BYTES || srcLen != TOTL_VAL_BYTES) return DELTA_EIO;
  const total = load<u64>(dst) + load<u64>(src);
  const count = load<u64>(dst, 8) + load<u64>(src, 8);
  store<u64>(dst, total);
  store<u64>(dst, count, 8);
  return (total | count) == 0 ? DELTA_NULL : DELTA_COMBINED;
}
