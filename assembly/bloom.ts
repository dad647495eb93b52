/**
 * Bloom blocks: which locks changed something in a log tree.
 *
 *  ╒═══════════╤════════════╤═════════════════════════════╕
 *  │ header  32│ total_set 8│ 523968 bits, b in byte b>>3 │
 *  ╘═══════════╧════════════╧═════════════════════════════╛
 *
 * A lock has three bits, from the 64-bit hash of its start key. They are set before
 * the log tree's commit and never cleared; a reader that finds one of them clear
 * need not read the tree.
 *
 * Spec: forest.md 3, format.md 11; vectors core-vectors.json → key_hashes.
 */
import { fnv64 } from './hash';
import { KEY_BYTES } from './key';

// @ts-ignore: decorator
@inline const TOTAL_SET: usize = 32;
// @ts-ignore: decorator
@inline const BITS: usize = 40;
// @ts-ignore: decorator
@inline const NR_BITS: u32 = 523968;
// @ts-ignore: decorator
@inline const NR_HASHES: i32 = 3;
// @ts-ignore: decorator
@inline const HASH_SHIFT: u64 = 19;

/** Number of the i-th bit (0..2) of the lock that starts at the key; for tests. */
export function bloomBit(key: usize, i: i32): u32 {
  return bitOf(fnv64(key, <i32>KEY_BYTES) >> (<u64>i * HASH_SHIFT));
}

// @ts-ignore: decorator
@inline
function bitOf(hash: u64): u32 {
  return <u32>hash % NR_BITS;
}

/** Whether the block has all three bits of the lock. */
export function bloomHas(block: usize, key: usize): bool {
  let hash = fnv64(key, <i32>KEY_BYTES);
  for (let i = 0; i < NR_HASHES; i++, hash >>= HASH_SHIFT) {
    const bit = bitOf(hash);
    if ((load<u8>(block + BITS + <usize>(bit >> 3)) & (1 << (bit & 7))) == 0) return false;
  }
  return true;
}

/** Sets the lock's bits in a dirty block and counts those that were clear. */
export function bloomSet(block: usize, key: usize): void {
  let hash = fnv64(key, <i32>KEY_BYTES);
  for (let i = 0; i < NR_HASHES; i++, hash >>= HASH_SHIFT) {
    const bit = bitOf(hash);
    const at = block + BITS + <usize>(bit >> 3);
    const mask = <u8>1 << <u8>(bit & 7);
    if ((load<u8>(at) & mask) != 0) continue;
    store<u8>(at, load<u8>(at) | mask);
    store<u64>(block, load<u64>(block, TOTAL_SET) + 1, TOTAL_SET);
  }
}
