/**
 * CRC-32C as the format uses it: the register starts at `init` and comes out as
 * it is, without the final inversion that the usual definition has. So results
 * can be chained: crc32c(crc32c(i, a), b) equals crc32c(i, a followed by b).
 *
 * Slicing by eight: table k holds the effect of a byte that is followed by k
 * more bytes, which lets the loop take eight bytes with eight look-ups and no
 * dependency between them. Words are loaded little endian, as all our hosts are.
 * Source: format.md 3.1; vectors `format-vectors.json` hashes.
 */

const POLY_REFLECTED = 0x82f63b78;
const SLICES = 8;
/** Inputs shorter than this are not worth making a word view of. */
const WORDS_MIN_BYTES = 64;

/** Register value that every checksum of the format starts with. */
export const CRC_INIT = 0xffffffff;

const T = makeTables();

function makeTables(): Uint32Array {
  const t = new Uint32Array(SLICES * 256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ POLY_REFLECTED : c >>> 1;
    t[n] = c;
  }
  for (let i = 256; i < SLICES * 256; i++) {
    const below = t[i - 256] ?? 0;
    t[i] = (below >>> 8) ^ (t[below & 0xff] ?? 0);
  }
  return t;
}

function eachByte(crc: number, bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) {
    crc = (crc >>> 8) ^ (T[(crc ^ (bytes[i] ?? 0)) & 0xff] ?? 0);
  }
  return crc;
}

/**
 * The register after feeding `bytes` to a register holding `init`; every use in
 * the format starts with 0xffffffff. @returns an unsigned 32-bit integer
 */
export function crc32c(init: number, bytes: Uint8Array): number {
  const len = bytes.length;
  if (len < WORDS_MIN_BYTES) return eachByte(init, bytes, 0, len) >>> 0;
  const head = -bytes.byteOffset & 3;
  const pairs = (len - head) >>> 3;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + head, pairs * 2);
  let crc = eachByte(init, bytes, 0, head);
  for (let i = 0; i < pairs * 2; i += 2) {
    const a = crc ^ (words[i] ?? 0);
    const b = words[i + 1] ?? 0;
    crc = (T[1792 + (a & 0xff)] ?? 0) ^ (T[1536 + ((a >>> 8) & 0xff)] ?? 0)
      ^ (T[1280 + ((a >>> 16) & 0xff)] ?? 0) ^ (T[1024 + (a >>> 24)] ?? 0)
      ^ (T[768 + (b & 0xff)] ?? 0) ^ (T[512 + ((b >>> 8) & 0xff)] ?? 0)
      ^ (T[256 + ((b >>> 16) & 0xff)] ?? 0) ^ (T[b >>> 24] ?? 0);
  }
  return eachByte(crc, bytes, head + pairs * 8, len) >>> 0;
}
