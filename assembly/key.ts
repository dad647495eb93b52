/**
 * Item keys: pointers to 32 bytes as they are on disk.
 *
 *  ╒════════╤════════╤════════╤════════╤══════╤══════╤═════╕
 *  │ first 8│second 8│ third 8│fourth 1│zone 1│type 1│pad 5│
 *  ╘════════╧════════╧════════╧════════╧══════╧══════╧═════╛
 *
 * Order, most significant first: zone, first, type, second, third, fourth, all
 * unsigned; so a key is a 216-bit number, and increment and decrement carry
 * through the fields in that order. The padding is always zero because whole keys
 * are hashed; every function that makes a key keeps it so.
 *
 * Spec: format.md 7, btree.md 1.
 */

// @ts-ignore: decorator
@inline export const KEY_BYTES: usize = 32;
// @ts-ignore: decorator
@inline const SECOND: usize = 8;
// @ts-ignore: decorator
@inline const THIRD: usize = 16;
// @ts-ignore: decorator
@inline const FOURTH: usize = 24;
// @ts-ignore: decorator
@inline const ZONE: usize = 25;
// @ts-ignore: decorator
@inline const TYPE: usize = 26;
/** Word 3 (bytes 24..31) of the key of ones: fourth, zone and type 255, padding zero. */
// @ts-ignore: decorator
@inline const ONES_TAIL: u64 = 0xffffff;

/** -1, 0 or 1 as the key at `a` sorts before, with or after the key at `b`. */
export function keyCmp(a: usize, b: usize): i32 {
  const za = <i32>load<u8>(a, ZONE), zb = <i32>load<u8>(b, ZONE);
  if (za != zb) return za < zb ? -1 : 1;
  let x = load<u64>(a), y = load<u64>(b);
  if (x != y) return x < y ? -1 : 1;
  const ta = <i32>load<u8>(a, TYPE), tb = <i32>load<u8>(b, TYPE);
  if (ta != tb) return ta < tb ? -1 : 1;
  x = load<u64>(a, SECOND);
  y = load<u64>(b, SECOND);
  if (x != y) return x < y ? -1 : 1;
  x = load<u64>(a, THIRD);
  y = load<u64>(b, THIRD);
  if (x != y) return x < y ? -1 : 1;
  const fa = <i32>load<u8>(a, FOURTH), fb = <i32>load<u8>(b, FOURTH);
  return fa == fb ? 0 : fa < fb ? -1 : 1;
}

/** True when the keys are equal. */
// @ts-ignore: decorator
@inline
export function keyEq(a: usize, b: usize): bool {
  return load<u64>(a) == load<u64>(b) && load<u64>(a, SECOND) == load<u64>(b, SECOND) &&
    load<u64>(a, THIRD) == load<u64>(b, THIRD) && load<u64>(a, FOURTH) == load<u64>(b, FOURTH);
}

// @ts-ignore: decorator
@inline
export function keyCopy(dst: usize, src: usize): void {
  v128.store(dst, v128.load(src));
  v128.store(dst, v128.load(src, 16), 16);
}

export function keyZeros(key: usize): void {
  store<u64>(key, 0);
  store<u64>(key, 0, SECOND);
  store<u64>(key, 0, THIRD);
  store<u64>(key, 0, FOURTH);
}

/** Every field at its maximum; the padding stays zero. */
export function keyOnes(key: usize): void {
  store<u64>(key, u64.MAX_VALUE);
  store<u64>(key, u64.MAX_VALUE, SECOND);
  store<u64>(key, u64.MAX_VALUE, THIRD);
  store<u64>(key, ONES_TAIL, FOURTH);
}

export function keyIsZeros(key: usize): bool {
  return (load<u64>(key) | load<u64>(key, SECOND) | load<u64>(key, THIRD) |
    load<u64>(key, FOURTH)) == 0;
}

export function keyIsOnes(key: usize): bool {
  return (load<u64>(key) & load<u64>(key, SECOND) & load<u64>(key, THIRD)) == u64.MAX_VALUE &&
    load<u64>(key, FOURTH) == ONES_TAIL;
}

// @ts-ignore: decorator
@inline
export function keyZone(key: usize): u8 {
  return load<u8>(key, ZONE);
}

export function keySet(
  key: usize, zone: u8, first: u64, type: u8, second: u64, third: u64, fourth: u8,
): void {
  store<u64>(key, first);
  store<u64>(key, second, SECOND);
  store<u64>(key, third, THIRD);
  store<u64>(key, <u64>fourth | (<u64>zone << 8) | (<u64>type << 16), FOURTH);
}

/** Adds one in place; ones wrap to zeros. */
export function keyInc(key: usize): void {
  let n8 = load<u8>(key, FOURTH) + 1;
  store<u8>(key, n8, FOURTH);
  if (n8 != 0) return;
  let n = load<u64>(key, THIRD) + 1;
  store<u64>(key, n, THIRD);
  if (n != 0) return;
  n = load<u64>(key, SECOND) + 1;
  store<u64>(key, n, SECOND);
  if (n != 0) return;
  n8 = load<u8>(key, TYPE) + 1;
  store<u8>(key, n8, TYPE);
  if (n8 != 0) return;
  n = load<u64>(key) + 1;
  store<u64>(key, n);
  if (n != 0) return;
  store<u8>(key, load<u8>(key, ZONE) + 1, ZONE);
}

/** Subtracts one in place; zeros wrap to ones. */
export function keyDec(key: usize): void {
  const n8 = load<u8>(key, FOURTH);
  store<u8>(key, n8 - 1, FOURTH);
  if (n8 != 0) return;
  let n = load<u64>(key, THIRD);
  store<u64>(key, n - 1, THIRD);
  if (n != 0) return;
  n = load<u64>(key, SECOND);
  store<u64>(key, n - 1, SECOND);
  if (n != 0) return;
  const t8 = load<u8>(key, TYPE);
  store<u8>(key, t8 - 1, TYPE);
  if (t8 != 0) return;
  n = load<u64>(key);
  store<u64>(key, n - 1);
  if (n != 0) return;
  store<u8>(key, load<u8>(key, ZONE) - 1, ZONE);
}
