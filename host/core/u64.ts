/**
 * 64-bit counts as JavaScript numbers.
 *
 * The format stores counts in 64 bits; we compute with doubles, which are exact
 * up to 2^53 - 1. The check is made once, where a value enters.
 */
import { ScoutfsError } from '../observe/errors.js';

const TWO32 = 0x100000000;

/** Reads an le64 count. @throws ScoutfsError U64_RANGE (EIO) above 2^53 - 1 */
export function u64(v: DataView, o: number): number {
  const n = v.getUint32(o, true) + v.getUint32(o + 4, true) * TWO32;
  if (n > Number.MAX_SAFE_INTEGER) {
    throw new ScoutfsError('U64_RANGE', 'EIO', {
      message: `64-bit field at offset ${o} is ${n}, more than 2^53 - 1`,
    });
  }
  return n;
}

/** Stores a count as le64. @throws ScoutfsError U64_RANGE for what is not an exact integer >= 0 */
export function setU64(v: DataView, o: number, n: number): void {
  if (!Number.isSafeInteger(n) || n < 0) {
    throw new ScoutfsError('U64_RANGE', 'EIO', { message: `${n} is not an exact 64-bit count` });
  }
  v.setUint32(o, n >>> 0, true);
  v.setUint32(o + 4, Math.floor(n / TWO32), true);
}
