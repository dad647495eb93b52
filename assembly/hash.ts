/**
 * The hashes of the format: FNV-1a in 32 and 64 bits and the name fingerprint.
 *
 * FNV is a chain of multiplications, byte after byte; there is nothing to gain
 * from vectors. A directory entry's hash is the 32-bit FNV with a fingerprint
 * above it whose order follows the byte order of names.
 *
 * Spec: format.md 3.1 and 3.4; vectors `format-vectors.json` → hashes.
 */

// @ts-ignore: decorator
@inline const FNV32_START: u32 = 0x811c9dc5;
// @ts-ignore: decorator
@inline const FNV32_PRIME: u32 = 0x01000193;
// @ts-ignore: decorator
@inline const FNV64_START: u64 = 0xcbf29ce484222325;
// @ts-ignore: decorator
@inline const FNV64_PRIME: u64 = 0x100000001b3;

/** FNV-1a-32 of `len` bytes. */
export function fnv32(ptr: usize, len: i32): u32 {
  let h = FNV32_START;
  const end = ptr + <usize>len;
  for (; ptr < end; ptr++) h = (h ^ <u32>load<u8>(ptr)) * FNV32_PRIME;
  return h;
}

/** FNV-1a-64 of `len` bytes. */
export function fnv64(ptr: usize, len: i32): u64 {
  let h = FNV64_START;
  const end = ptr + <usize>len;
  for (; ptr < end; ptr++) h = (h ^ <u64>load<u8>(ptr)) * FNV64_PRIME;
  return h;
}

/**
 * 32 bits sampled evenly from the name seen as a bit string, first byte's most
 * significant bit first, in descending bits of the result.
 */
export function nameFingerprint(ptr: usize, len: i32): u32 {
  const bits = len << 3;
  const step = max(bits >> 5, 1);
  let out: u32 = 0;
  for (let k = 0, pos = 0; k < 32 && pos < bits; k++, pos += step) {
    const bit = (<u32>load<u8>(ptr + <usize>(pos >> 3)) >> <u32>(7 - (pos & 7))) & 1;
    out |= bit << <u32>(31 - k);
  }
  return out;
}

/** Hash of a directory entry's name. */
export function nameHash(ptr: usize, len: i32): u64 {
  return <u64>fnv32(ptr, len) | (<u64>nameFingerprint(ptr, len) << 32);
}
