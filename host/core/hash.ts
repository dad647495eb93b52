/**
 * The hashes of the format: FNV-1a in 32 and 64 bits, and the hash of directory
 * entry names, whose upper half keeps the byte order of names.
 *
 * Spec: format.md 3.1, 3.4.
 */

const FNV32_START = 0x811c9dc5;
const FNV32_PRIME = 0x01000193;
const FNV64_START_HI = 0xcbf29ce4;
const FNV64_START_LO = 0x84222325;
/** The 64-bit prime is 2^40 plus this. */
const FNV64_PRIME_LOW = 0x1b3;
const TWO32 = 0x100000000;
const FINGERPRINT_BITS = 32;

/** `hash32`: an unsigned 32-bit number. */
export function fnv1a32(bytes: Uint8Array): number {
  let h = FNV32_START;
  for (const b of bytes) h = Math.imul(h ^ b, FNV32_PRIME);
  return h >>> 0;
}

/** `hash64`. */
export function fnv1a64(bytes: Uint8Array): bigint {
  let hi = FNV64_START_HI;
  let lo = FNV64_START_LO;
  for (const b of bytes) {
    lo = (lo ^ b) >>> 0;
    // (hi:lo) * (2^40 + p): the products stay below 2^53, where doubles are exact.
    const low = lo * FNV64_PRIME_LOW;
    hi = (hi * FNV64_PRIME_LOW + Math.floor(low / TWO32) + lo * 256) % TWO32;
    lo = low % TWO32;
  }
  return (BigInt(hi) << 32n) | BigInt(lo);
}

/**
 * 32 bits taken evenly from the name, most significant first: names compare as
 * their fingerprints do. `name` is the bytes without a terminator.
 */
export function fingerprint(name: Uint8Array): number {
  const bits = name.length * 8;
  const step = Math.max(Math.floor(bits / FINGERPRINT_BITS), 1);
  let f = 0;
  for (let k = 0; k < FINGERPRINT_BITS && k * step < bits; k++) {
    const n = k * step;
    const bit = ((name[n >>> 3] ?? 0) >>> (7 - (n & 7))) & 1;
    f |= bit << (31 - k);
  }
  return f >>> 0;
}

/** `skd_major` of a dirent key. */
export function direntNameHash(name: Uint8Array): bigint {
  return (BigInt(fingerprint(name)) << 32n) | BigInt(fnv1a32(name));
}
