/**
 * Checksum, hashes and keys against the vectors, and the checksum against its
 * bytewise definition over random lengths, offsets and start values.
 */
import t from 'tap';
import { bytesHex, hexBytes, rawCore, seeded, TEST_BASE } from '../lib/core.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface Exports {
  crc32c(init: number, ptr: number, len: number): number;
  fnv32(ptr: number, len: number): number;
  fnv64(ptr: number, len: number): bigint;
  nameHash(ptr: number, len: number): bigint;
  nameFingerprint(ptr: number, len: number): number;
  keyCmp(a: number, b: number): number;
  keyEq(a: number, b: number): number;
  keyInc(key: number): void;
  keyDec(key: number): void;
  keyZeros(key: number): void;
  keyOnes(key: number): void;
  keyIsZeros(key: number): number;
  keyIsOnes(key: number): number;
  keySet(key: number, zone: number, first: bigint, type: number, second: bigint, third: bigint,
    fourth: number): void;
}

const core = rawCore<Exports>({ memoryBytes: 4 << 20 });
const { x, u8, view } = core;
const A = TEST_BASE;
const B = TEST_BASE + 64;

function put(at: number, bytes: Uint8Array): number {
  u8.set(bytes, at);
  return bytes.length;
}

function hex(n: number | bigint, digits: number): string {
  return BigInt.asUintN(64, BigInt(n)).toString(16).padStart(digits, '0').slice(-digits);
}

function crcSlow(init: number, bytes: Uint8Array): number {
  let c = init;
  for (const b of bytes) {
    c ^= b;
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (0x82f63b78 & -(c & 1));
  }
  return c >>> 0;
}

interface HashVector {
  input_hex: string;
  fnv1a32: string;
  fnv1a64: string;
  crc32c_seed_ones_no_xorout: string;
  dirent_fingerprint: string;
  dirent_name_hash: string;
}

interface KeyVector {
  zone: number;
  first: string;
  type: number;
  second: string;
  third: string;
  fourth: number;
  bytes: string;
  fnv1a32: string;
  fnv1a64: string;
}

interface FormatVectors {
  hashes: HashVector[];
  keys: KeyVector[];
  key_inc_dec: { key: string; inc: string; dec: string }[];
}

interface CoreVectors {
  key_hashes: { bytes: string; fnv1a32: string; fnv1a64: string }[];
  block_crc: { zeros_4096_block: string; zeros_65536_block: string; raw_123456789: string };
}

t.test('vectors', { skip: skipWithoutSpec() }, (t) => {
  const fv = vectors('format-vectors.json') as FormatVectors;
  const cv = vectors('core-vectors.json') as CoreVectors;
  for (const h of fv.hashes) {
    const len = put(A, hexBytes(h.input_hex));
    t.equal(hex(x.fnv32(A, len), 8), h.fnv1a32);
    t.equal(hex(x.fnv64(A, len), 16), h.fnv1a64);
    t.equal(hex(x.crc32c(-1, A, len), 8), h.crc32c_seed_ones_no_xorout);
    t.equal(hex(x.nameFingerprint(A, len), 8), h.dirent_fingerprint);
    t.equal(hex(x.nameHash(A, len), 16), h.dirent_name_hash);
  }
  for (const k of cv.key_hashes) {
    put(A, hexBytes(k.bytes));
    t.equal(hex(x.fnv32(A, 32), 8), k.fnv1a32);
    t.equal(hex(x.fnv64(A, 32), 16), k.fnv1a64);
  }
  u8.fill(0, A, A + 65536);
  t.equal(hex(x.crc32c(-1, A + 4, 4092), 8), cv.block_crc.zeros_4096_block);
  t.equal(hex(x.crc32c(-1, A + 4, 65532), 8), cv.block_crc.zeros_65536_block);
  const len = put(A, Buffer.from('123456789'));
  t.equal(hex(x.crc32c(-1, A, len), 8), cv.block_crc.raw_123456789);

  for (const k of fv.keys) {
    u8.fill(0xaa, A, A + 32);
    x.keySet(A, k.zone, BigInt(k.first), k.type, BigInt(k.second), BigInt(k.third), k.fourth);
    t.equal(bytesHex(u8.subarray(A, A + 32)), k.bytes, 'padding is zeroed too');
  }
  for (const k of fv.key_inc_dec) {
    put(A, hexBytes(k.key));
    x.keyInc(A);
    t.equal(bytesHex(u8.subarray(A, A + 32)), k.inc);
    put(A, hexBytes(k.key));
    x.keyDec(A);
    t.equal(bytesHex(u8.subarray(A, A + 32)), k.dec);
  }
  t.end();
});

t.test('key order is that of the 216-bit number', (t) => {
  const rnd = seeded(7);
  const value = (at: number): bigint => (((((BigInt(u8[at + 25] ?? 0) << 64n |
    view.getBigUint64(at, true)) << 8n | BigInt(u8[at + 26] ?? 0)) << 64n |
    view.getBigUint64(at + 8, true)) << 64n | view.getBigUint64(at + 16, true)) << 8n) |
    BigInt(u8[at + 24] ?? 0);
  let equal = 0;
  for (let i = 0; i < 5000; i++) {
    for (const at of [A, B]) {
      // few values per field, so that comparison reaches the last ones
      const f = (): bigint => [0n, 1n, 0xffffffffffffffffn, 1n << 63n][rnd(4)] ?? 0n;
      x.keySet(at, rnd(2) * 255, f(), rnd(2) * 255, f(), f(), rnd(2) * 255);
    }
    if (rnd(2) === 0) {
      u8.copyWithin(A, B, B + 32);
      const off = rnd(3);
      if (off === 1) x.keyInc(A);
      if (off === 2) x.keyDec(A);
    }
    const a = value(A), b = value(B);
    if (a === b) equal++;
    const want = a < b ? -1 : a > b ? 1 : 0;
    if (x.keyCmp(A, B) !== want || (x.keyEq(A, B) === 1) !== (want === 0)) {
      t.fail(`${a.toString(16)} ${b.toString(16)}`);
    }
  }
  t.ok(equal > 100, 'equal keys were compared too');
  x.keyOnes(A);
  t.equal(x.keyIsOnes(A), 1);
  t.equal(x.keyIsZeros(A), 0);
  x.keyInc(A);
  t.equal(x.keyIsZeros(A), 1);
  x.keyDec(A);
  t.equal(x.keyIsOnes(A), 1);
  x.keyZeros(A);
  t.equal(x.keyIsZeros(A), 1);
  t.end();
});

t.test('checksum equals its definition for random lengths, offsets and starts', (t) => {
  const rnd = seeded(42);
  const size = 140_000;
  for (let i = 0; i < size; i++) u8[A + i] = rnd(256);
  let wrong = 0;
  const one = (init: number, off: number, len: number): void => {
    const got = x.crc32c(init, A + off, len) >>> 0;
    if (got !== crcSlow(init >>> 0, u8.subarray(A + off, A + off + len))) {
      wrong++;
      t.comment(`init ${init} offset ${off} length ${len}`);
    }
  };
  for (let i = 0; i < 2850; i++) one(rnd(2 ** 32) | 0, rnd(256), rnd(700));
  for (let i = 0; i < 100; i++) one(-1, rnd(64), 12_000 + rnd(600));
  for (let i = 0; i < 45; i++) one(-1, rnd(4096), rnd(66_000));
  for (const len of [0, 1, 15, 16, 319, 320, 12_287, 12_288, 65_532, 65_536, 65_537, 131_073]) {
    one(-1, 4, len);
  }
  t.equal(wrong, 0);
  t.end();
});
