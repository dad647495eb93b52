/**
 * Checksums and hashes of the host against every vector, and the property that lets a checksum
 * be computed in pieces.
 */
import t from 'tap';
import fc from 'fast-check';
import { CRC_INIT, crc32c } from '../../host/core/crc32c.js';
import { direntNameHash, fingerprint, fnv1a32, fnv1a64 } from '../../host/core/hash.js';
import { hexBytes } from '../lib/hex.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface HashVector {
  input_hex: string;
  input_text: string;
  fnv1a32: string;
  fnv1a64: string;
  crc32c_seed_ones_no_xorout: string;
  dirent_fingerprint: string;
  dirent_name_hash: string;
}

function hex32(n: number): string {
  return n.toString(16).padStart(8, '0');
}

function hex64(n: bigint): string {
  return n.toString(16).padStart(16, '0');
}

t.test('vectors: hashes', { skip: skipWithoutSpec() }, async (t) => {
  const { hashes } = vectors('format-vectors.json') as { hashes: HashVector[] };
  t.ok(hashes.length > 0);
  for (const v of hashes) {
    const bytes = hexBytes(v.input_hex);
    const what = v.input_text === '' ? v.input_hex : v.input_text;
    t.equal(hex32(fnv1a32(bytes)), v.fnv1a32, `hash32 of ${what}`);
    t.equal(hex64(fnv1a64(bytes)), v.fnv1a64, `hash64 of ${what}`);
    t.equal(hex32(crc32c(CRC_INIT, bytes)), v.crc32c_seed_ones_no_xorout, `crc32c of ${what}`);
    t.equal(hex32(fingerprint(bytes)), v.dirent_fingerprint, `fingerprint of ${what}`);
    t.equal(hex64(direntNameHash(bytes)), v.dirent_name_hash, `name hash of ${what}`);
  }
});

t.test('crc32c has no final inversion', async (t) => {
  const crc = crc32c(CRC_INIT, new TextEncoder().encode('123456789'));
  t.equal(crc, 0x1cf96d7c);
  t.equal(~crc >>> 0, 0xe3069283, 'the complement is the usual check value');
});

t.test('crc32c of pieces is crc32c of the whole, at any split and alignment', async (t) => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (bytes, cut) => {
    const at = Math.min(cut, bytes.length);
    const pieces = crc32c(crc32c(CRC_INIT, bytes.subarray(0, at)), bytes.subarray(at));
    return pieces === crc32c(CRC_INIT, bytes);
  }));
  t.pass();
});

t.test('fingerprints keep the byte order of short names', async (t) => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 4 }),
    fc.uint8Array({ minLength: 1, maxLength: 4 }), (a, b) => {
      const c = Buffer.compare(a, b);
      const d = fingerprint(a) - fingerprint(b);
      return c < 0 ? d <= 0 : d >= 0;
    }));
  t.pass();
});
