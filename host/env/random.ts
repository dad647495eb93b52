/**
 * Randomness: ids from a strong source, and small numbers for jitter. A seeded
 * implementation replaces it in simulations.
 */
import { randomBytes } from 'node:crypto';

export interface Random {
  /** `len` bytes. */
  bytes(len: number): Uint8Array;
  /** A 64-bit value. */
  u64(): bigint;
  /** An integer in 0 .. n-1. */
  below(n: number): number;
}

/** A Random over any source of bytes. */
export function randomFrom(bytes: (len: number) => Uint8Array): Random {
  return {
    bytes,
    u64() {
      const b = bytes(8);
      return new DataView(b.buffer, b.byteOffset, 8).getBigUint64(0, true);
    },
    below(n) {
      const b = bytes(4);
      return new DataView(b.buffer, b.byteOffset, 4).getUint32(0, true) % n;
    },
  };
}

export const realRandom: Random = randomFrom((len) => randomBytes(len));
