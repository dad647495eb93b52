/**
 * Entries of a srch block: each is coded as differences to the one before it.
 *
 *   le16 lengths (4 bits each: hash, ino, id) │ zig-zag differences, that many bytes
 *
 * Spec: format.md 13.2; vectors: format-vectors.json, srch_entries.
 */
import type { SrchEntry } from '../core/format.js';
import { SRCH_BLOCK_SAFE_BYTES, SrchBlock } from '../core/format.js';

const LENGTH_BYTES = 2;
const FIELD_BYTES_MAX = 8;
const U64 = 64;

export interface DecodedEntry {
  entry: SrchEntry;
  /** Bytes that it takes. */
  bytes: number;
}

function difference(v: DataView, at: number, len: number): bigint {
  let z = 0n;
  for (let i = len - 1; i >= 0; i--) z = (z << 8n) | BigInt(v.getUint8(at + i));
  return (z >> 1n) ^ -(z & 1n);
}

/** Decodes the entry at offset `at` of `v`, relative to `prev`. The caller bounds `at`. */
export function decodeSrchEntry(v: DataView, at: number, prev: SrchEntry): DecodedEntry {
  const lengths = v.getUint16(at, true);
  const lens = [0, 4, 8].map((shift) => Math.min((lengths >>> shift) & 0xf, FIELD_BYTES_MAX));
  let bytes = LENGTH_BYTES;
  const fields = [prev.hash, prev.ino, prev.id].map((value, i) => {
    const len = lens[i] ?? 0;
    const d = difference(v, at + bytes, len);
    bytes += len;
    return BigInt.asUintN(U64, value + d);
  });
  const [hash = 0n, ino = 0n, id = 0n] = fields;
  return { entry: { hash, ino, id }, bytes };
}

/** All entries of a srch block; ends early where the counts do not fit the block. */
export function* decodeSrchBlock(block: DataView): Generator<DecodedEntry> {
  const nr = block.getUint32(104, true);
  const used = block.getUint32(108, true);
  let prev: SrchEntry = { hash: 0n, ino: 0n, id: 0n };
  for (let i = 0, pos = 0; i < nr && pos < used && pos <= SRCH_BLOCK_SAFE_BYTES; i++) {
    const decoded = decodeSrchEntry(block, SrchBlock.size + pos, prev);
    yield decoded;
    prev = decoded.entry;
    pos += decoded.bytes;
  }
}
