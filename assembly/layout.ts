/**
 * Where things are in the core's memory.
 *
 *   0        guard: never used, so that a null address is a fault in tests
 *   4096     windows: fixed places through which keys, values and lists cross
 *   131072   static data (asconfig memoryBase)
 *   heap     small records (heap.ts), from the end of static data
 *   tables   block entries and hash buckets
 *   arena    merge windows; only in instances that merge
 *   slots    block slots, 64 KiB each, 64 KiB aligned, up to the end of memory
 *
 * Windows owned by other files are declared there, in 4096 .. 32767.
 */

/** Needed blocks: (f64 blkno, u32 entry, u32 slot) each. */
export const NEED_WINDOW: usize = 32768;
export const NEED_MAX: i32 = 256;
/** Lists that the host reads in batches. */
export const LIST_WINDOW: usize = 40960;
export const LIST_WINDOW_BYTES: i32 = 32768;
/** Scratch for the host: roots, heads and keys that it passes by address. */
export const ARG_WINDOW: usize = 73728;
export const ARG_WINDOW_BYTES: i32 = 8192;
