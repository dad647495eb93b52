/** The checksum against the vectors, at every alignment and when cut into pieces. */
import t from 'tap';
import { crc32c } from '../../host/core/crc32c.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

const INIT = 0xffffffff;

t.equal(crc32c(INIT, Buffer.from('123456789')), 0x1cf96d7c, 'check value');

t.test('vectors', { skip: skipWithoutSpec() }, async (t) => {
  const { hashes } = vectors('format-vectors.json') as
    { hashes: { input_hex: string; crc32c_seed_ones_no_xorout: string }[] };
  t.ok(hashes.length > 10, 'there are vectors');
  for (const h of hashes) {
    t.equal(crc32c(INIT, Buffer.from(h.input_hex, 'hex')),
      parseInt(h.crc32c_seed_ones_no_xorout, 16), `input ${h.input_hex.slice(0, 20)}`);
  }
});

t.test('an empty block without its first four bytes', async (t) => {
  t.equal(crc32c(INIT, new Uint8Array(4096).subarray(4)), 0x58cda791);
  t.equal(crc32c(INIT, new Uint8Array(65536).subarray(4)), 0xe8a56956);
});

t.test('alignment and cuts do not matter', async (t) => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => (i * 131 + (i >> 3)) & 0xff);
  const want = crc32c(INIT, bytes);
  for (let shift = 0; shift < 9; shift++) {
    const moved = new Uint8Array(1000 + 16).subarray(shift, shift + 1000);
    moved.set(bytes);
    t.equal(crc32c(INIT, moved), want, `at offset ${shift}`);
  }
  for (const cut of [0, 1, 7, 63, 64, 65, 500, 999, 1000]) {
    t.equal(crc32c(crc32c(INIT, bytes.subarray(0, cut)), bytes.subarray(cut)), want, `cut ${cut}`);
  }
});
