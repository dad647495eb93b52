/**
 * CRC-32C without final inversion, as blocks, messages and xattr names use it.
 *
 * WebAssembly has no carry-less multiply, but a crc is linear and its polynomial
 * has sparse multiples, which hold for bytes as well as for bits:
 *
 *   x^(8*5275) = x^(8*4508) + x^(8*2751) + 1                       (mod P)
 *   x^(8*209)  = x^(8*144) + x^(8*54) + x^(8*39) + x^(8*14) + 1    (mod P)
 *
 * So a byte may be replaced by the same byte xored into the positions 767, 2524
 * and 5275 after it (or 65, 155, 170, 195 and 209), and a whole message is folded
 * into its last 5275 bytes and these into their last 209, 64 bytes at a time.
 * The rest goes through tables. The start value is xored into the first four bytes,
 * after which the message is one with start value 0, before which zeros are free.
 *
 * Scratch. The folds y and u look back before their
 * beginning, into zeros that nobody ever writes; t only takes what is left over:
 *
 *  ╒══════════╤═══════════════════════╤══════════╤═══════╤════════════════════════╕
 *  │ 0s  5312 │ y: first fold   65632 │ t   5376 │0s  256│ u: second fold   12416 │
 *  ╘══════════╧═══════════════════════╧══════════╧═══════╧════════════════════════╛
 *
 * Spec: format.md 3.1; method and check of the multiples: foundations.md 3.1.
 */
import { CRC_TABLES } from './window';

/** Reflected Castagnoli polynomial. */
// @ts-ignore: decorator
@inline const POLY: u32 = 0x82f63b78;
/** Longer input is cut into pieces of this many bytes. */
// @ts-ignore: decorator
@inline const CHUNK_BYTES: i32 = 65536;
/** Below this the first fold does not pay. */
// @ts-ignore: decorator
@inline const FOLD1_MIN_BYTES: i32 = 12288;
/** Below this only the tables are used. */
// @ts-ignore: decorator
@inline const FOLD2_MIN_BYTES: i32 = 320;
// @ts-ignore: decorator
@inline const SPAN1: i32 = 5275;
// @ts-ignore: decorator
@inline const SPAN2: i32 = 209;
const scratch: usize = memory.data(5312 + 65632 + 5376 + 256 + 12416, 64);
const Y: usize = scratch + 5312;
const T: usize = Y + 65632;
const U: usize = T + 5376 + 256;

/** Entry `byte` of table k is the crc of that byte followed by k zero bytes. */
function makeTables(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = (c >> 1) ^ (POLY & (0 - (c & 1)));
    store<u32>(CRC_TABLES + (<usize>i << 2), c);
  }
  for (let i: usize = 0; i < 256; i++) {
    let c = load<u32>(CRC_TABLES + (i << 2));
    for (let k: usize = 1; k < 16; k++) {
      c = (c >> 8) ^ load<u32>(CRC_TABLES + ((<usize>c & 255) << 2));
      store<u32>(CRC_TABLES + (k << 10) + (i << 2), c);
    }
  }
}
makeTables();

/** Entry of table `k` for the byte at bits `shift` of `w`. */
// @ts-ignore: decorator
@inline
function tab(k: usize, w: u64, shift: u64): u32 {
  return load<u32>(CRC_TABLES + (k << 10) + ((<usize>(w >> shift) & 255) << 2));
}

/** The tables alone: 16 bytes a step, whose four lookups that need the crc come last. */
function crcTables(crc: u32, p: usize, len: i32): u32 {
  const end16 = p + <usize>(len & ~15);
  const end = p + <usize>len;
  for (; p < end16; p += 16) {
    const hi = load<u64>(p, 8);
    const lo = load<u64>(p);
    const far = ((tab(0, hi, 56) ^ tab(1, hi, 48)) ^ (tab(2, hi, 40) ^ tab(3, hi, 32))) ^
      ((tab(4, hi, 24) ^ tab(5, hi, 16)) ^ (tab(6, hi, 8) ^ tab(7, hi, 0)));
    const mid = (tab(8, lo, 56) ^ tab(9, lo, 48)) ^ (tab(10, lo, 40) ^ tab(11, lo, 32));
    const w = <u64>(<u32>lo ^ crc);
    const near = (tab(12, w, 24) ^ tab(13, w, 16)) ^ (tab(14, w, 8) ^ tab(15, w, 0));
    crc = (far ^ mid) ^ near;
  }
  for (; p < end; p++) {
    crc = (crc >> 8) ^ load<u32>(<usize>((crc ^ <u32>load<u8>(p)) & 255) << 2, CRC_TABLES);
  }
  return crc;
}

// @ts-ignore: decorator
@inline
function fold1x16(y: usize, m: usize): v128 {
  return v128.xor(
    v128.xor(v128.load(m), v128.load(y - 767)),
    v128.xor(v128.load(y - 2524), v128.load(y - 5275)));
}

// @ts-ignore: decorator
@inline
function fold2x16(y: usize, m: usize): v128 {
  return v128.xor(
    v128.xor(v128.xor(v128.load(m), v128.load(y - 209)),
      v128.xor(v128.load(y - 195), v128.load(y - 170))),
    v128.xor(v128.load(y - 155), v128.load(y - 65)));
}

// @ts-ignore: decorator
@inline
function fold1x1(y: usize, m: usize): u8 {
  return load<u8>(m) ^ load<u8>(y - 767) ^ load<u8>(y - 2524) ^ load<u8>(y - 5275);
}

// @ts-ignore: decorator
@inline
function fold2x1(y: usize, m: usize): u8 {
  return load<u8>(m) ^ load<u8>(y - 209) ^ load<u8>(y - 195) ^ load<u8>(y - 170) ^
    load<u8>(y - 155) ^ load<u8>(y - 65);
}

/**
 * Folds all but the last 5275..5338 bytes of the message into these, at T.
 * @returns how many bytes T holds
 */
function fold1(crc: u32, m: usize, len: i32): i32 {
  const cut = (len - SPAN1) & ~63;
  const left = len - cut;
  for (let y = Y, end = Y + <usize>cut; y < end; y += 64, m += 64) {
    const a = fold1x16(y, m), b = fold1x16(y + 16, m + 16);
    v128.store(y, a);
    v128.store(y, b, 16);
    const c = fold1x16(y + 32, m + 32), d = fold1x16(y + 48, m + 48);
    v128.store(y, c, 32);
    v128.store(y, d, 48);
    if (y == Y) store<u32>(Y, load<u32>(Y) ^ crc);
  }
  // What lies after the cut counts as zero for the bytes that remain.
  let y = Y + <usize>cut;
  memory.fill(y, 0, <usize>left);
  let t = T;
  const end16 = T + <usize>(left & ~15);
  const end = T + <usize>left;
  for (; t < end16; t += 16, y += 16, m += 16) v128.store(t, fold1x16(y, m));
  for (; t < end; t++, y++, m++) store<u8>(t, fold1x1(y, m));
  return left;
}

/** Folds all but the last 209..272 bytes into these and sends them through the tables. */
function fold2(crc: u32, m: usize, len: i32): u32 {
  const cut = (len - SPAN2) & ~63;
  const left = len - cut;
  for (let y = U, end = U + <usize>cut; y < end; y += 64, m += 64) {
    const a = fold2x16(y, m), b = fold2x16(y + 16, m + 16);
    const c = fold2x16(y + 32, m + 32), d = fold2x16(y + 48, m + 48);
    v128.store(y, a);
    v128.store(y, b, 16);
    v128.store(y, c, 32);
    v128.store(y, d, 48);
    if (y == U) store<u32>(U, load<u32>(U) ^ crc);
  }
  let y = U + <usize>cut;
  memory.fill(y, 0, <usize>left);
  // A message that lies at T itself has been read beyond these first bytes by now.
  let t = T;
  const end16 = T + <usize>(left & ~15);
  const end = T + <usize>left;
  for (; t < end16; t += 16, y += 16, m += 16) v128.store(t, fold2x16(y, m));
  for (; t < end; t++, y++, m++) store<u8>(t, fold2x1(y, m));
  return crcTables(0, T, left);
}

/**
 * Continues a CRC-32C from register value `init` over `len` bytes at `ptr`.
 * There is no final inversion; all uses of the format start with 0xffffffff.
 */
export function crc32c(init: u32, ptr: usize, len: i32): u32 {
  while (len > CHUNK_BYTES) {
    init = crc32c(init, ptr, CHUNK_BYTES);
    ptr += <usize>CHUNK_BYTES;
    len -= CHUNK_BYTES;
  }
  if (len < FOLD2_MIN_BYTES) return crcTables(init, ptr, len);
  if (len < FOLD1_MIN_BYTES) return fold2(init, ptr, len);
  return fold2(0, T, fold1(init, ptr, len));
}
