/**
 * The item cache's and the checksum's part of low memory: fixed addresses in
 * 4096 .. 32767 (layout.ts has the whole map).
 *
 * Fixed literal addresses let the compiler fold them into the loads, and let the
 * host keep one view of each window for life.
 *
 *   4096  id of a broken invariant
 *   4224  key registers, 32 bytes each
 *   5120  value window   896
 *   6144  name window    256
 *  16384  crc32c tables, 16 of 1 KiB
 *
 * Source: foundations.md 3.3 and 3.5.
 */

/** Id of the invariant that was found broken, 0 if none: read by the host after a trap. */
// @ts-ignore: decorator
@inline export const CHECK_ID: usize = 4096;
/** Key register A: the key that a call is about. */
// @ts-ignore: decorator
@inline export const KEY_A: usize = 4224;
/** Key register B: the last key of a range. */
// @ts-ignore: decorator
@inline export const KEY_B: usize = 4256;
/** Key of the item that `next` found. */
// @ts-ignore: decorator
@inline export const KEY_FOUND: usize = 4288;
/** The key whose range was not cached when a call returned NOT_COVERED. */
// @ts-ignore: decorator
@inline export const KEY_MISSING: usize = 4320;
/** Value window, 896 bytes. */
// @ts-ignore: decorator
@inline export const VAL_WINDOW: usize = 5120;
/** Name window, 256 bytes. */
// @ts-ignore: decorator
@inline export const NAME_WINDOW: usize = 6144;
/** 16 tables of 256 u32. */
// @ts-ignore: decorator
@inline export const CRC_TABLES: usize = 16384;
