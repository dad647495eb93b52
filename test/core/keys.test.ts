/**
 * Keys against every vector, and the stored form against the key objects on
 * random keys.
 */
import t from 'tap';
import fc from 'fast-check';
import { fnv1a32, fnv1a64 } from '../../host/core/hash.js';
import { Key } from '../../host/core/format.js';
import {
  bloomBits, compareKeyBytes, compareKeys, decKey, decKeyBytes, freeExtentBlknoKey,
  freeExtentOrder, freeExtentOrderKey, incKey, incKeyBytes, indexLockRange, inodeLockRange,
  keyBytes, keyFromString, keyOnes, keyToString, keyZeros, leafHashBucket, makeKey,
  orphanLockRange, quotaLockRange, renameLockRange, xattrIndxLockRange, xattrTotlLockRange,
} from '../../host/core/keys.js';
import { hexBytes, bytesHex } from '../lib/hex.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface KeyVector {
  what: string;
  zone: number;
  first: string;
  type: number;
  second: string;
  third: string;
  fourth: number;
  bytes: string;
  fnv1a32: string;
  leaf_hash_bucket: number;
  fnv1a64: string;
  bloom_bits: number[];
}

interface Vectors {
  keys: KeyVector[];
  key_inc_dec: { key: string; inc: string; dec: string }[];
  free_extents: {
    start: string; len: string; order: number; blkno_key: string; order_key: string;
  }[];
}

const skip = skipWithoutSpec();
const all = skip === false ? vectors('format-vectors.json') as Vectors : null;

function keyOf(v: KeyVector): Key {
  return {
    zone: v.zone, first: BigInt(v.first), type: v.type, second: BigInt(v.second),
    third: BigInt(v.third), fourth: v.fourth,
  };
}

function readKey(bytes: Uint8Array): Key {
  return Key.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0);
}

t.test('vectors: keys', { skip }, async (t) => {
  for (const v of all?.keys ?? []) {
    const key = keyOf(v);
    const bytes = hexBytes(v.bytes);
    t.equal(bytesHex(keyBytes(key)), v.bytes, `${v.what}: stored form`);
    t.same(readKey(bytes), key, `${v.what}: read back`);
    t.equal(fnv1a32(bytes).toString(16).padStart(8, '0'), v.fnv1a32, `${v.what}: hash32`);
    t.equal(leafHashBucket(bytes), v.leaf_hash_bucket, `${v.what}: bucket`);
    t.equal(fnv1a64(bytes).toString(16).padStart(16, '0'), v.fnv1a64, `${v.what}: hash64`);
    t.same(bloomBits(bytes), v.bloom_bits, `${v.what}: bloom bits`);
    const text = `${v.zone}.${v.first}.${v.type}.${v.second}.${v.third}.${v.fourth}`;
    t.equal(keyToString(key), text, `${v.what}: text`);
    t.same(keyFromString(text), key, `${v.what}: from text`);
  }
});

t.test('vectors: key_inc_dec', { skip }, async (t) => {
  for (const v of all?.key_inc_dec ?? []) {
    const key = readKey(hexBytes(v.key));
    t.equal(bytesHex(keyBytes(incKey(key))), v.inc, `${v.key} + 1`);
    t.equal(bytesHex(keyBytes(decKey(key))), v.dec, `${v.key} - 1`);
    const up = hexBytes(v.key);
    incKeyBytes(up, 0);
    t.equal(bytesHex(up), v.inc, `${v.key} + 1 in place`);
    const down = hexBytes(v.key);
    decKeyBytes(down, 0);
    t.equal(bytesHex(down), v.dec, `${v.key} - 1 in place`);
  }
});

t.test('vectors: free_extents', { skip }, async (t) => {
  for (const v of all?.free_extents ?? []) {
    const start = Number(v.start);
    const len = Number(v.len);
    t.equal(freeExtentOrder(len), v.order, `order of ${v.len}`);
    t.equal(bytesHex(keyBytes(freeExtentBlknoKey(start, len))), v.blkno_key, `${v.start}+${v.len}`);
    t.equal(bytesHex(keyBytes(freeExtentOrderKey(start, len))), v.order_key, `${v.start}+${v.len}`);
  }
});

t.test('lock ranges', { skip }, async (t) => {
  const byName = (what: string): string => all?.keys.find((k) => k.what === what)?.bytes ?? '';
  const inode = inodeLockRange(1025);
  t.equal(bytesHex(keyBytes(inode.start)), byName('lock start: inode group holding ino 1025'));
  t.equal(bytesHex(keyBytes(inode.end)), byName('lock end: inode group holding ino 1025'));
  const index = indexLockRange(4, 5000);
  t.equal(bytesHex(keyBytes(index.start)), byName('lock start: meta_seq index group holding seq 5000'));
  t.equal(bytesHex(keyBytes(index.end)), byName('lock end: meta_seq index group holding seq 5000'));
  t.equal(bytesHex(keyBytes(renameLockRange().start)), byName('global rename lock'));
});

t.test('lock ranges of whole zones and single keys', async (t) => {
  const ones = '18446744073709551615';
  const text = (r: { start: Key; end: Key }): string[] =>
    [keyToString(r.start), keyToString(r.end)];
  t.same(text(renameLockRange()), ['20.0.4.0.0.0', '20.0.4.0.0.0']);
  t.same(text(orphanLockRange()), ['8.0.4.0.0.0', `8.0.4.${ones}.0.0`]);
  t.same(text(xattrTotlLockRange()), ['12.0.0.0.0.0', `12.${ones}.255.${ones}.${ones}.255`]);
  t.same(text(xattrIndxLockRange()), ['14.0.0.0.0.0', `14.${ones}.255.${ones}.${ones}.255`]);
  t.same(text(quotaLockRange()), ['10.0.0.0.0.0', `10.${ones}.255.${ones}.${ones}.255`]);
});

const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }),
  fc.constantFrom(0n, 1n, 0xffffffffffffffffn));
const u8 = fc.oneof(fc.nat(255), fc.constantFrom(0, 255));
const anyKey = fc.record({ zone: u8, first: u64, type: u8, second: u64, third: u64, fourth: u8 });

t.test('stored keys compare as key objects do', async (t) => {
  fc.assert(fc.property(anyKey, anyKey, (a, b) =>
    Math.sign(compareKeyBytes(keyBytes(a), 0, keyBytes(b), 0)) === compareKeys(a, b)));
  fc.assert(fc.property(anyKey, (a) => compareKeys(a, { ...a }) === 0));
  t.pass();
});

t.test('stored keys step as key objects do, and back again', async (t) => {
  fc.assert(fc.property(anyKey, (k) => {
    const b = keyBytes(k);
    incKeyBytes(b, 0);
    if (bytesHex(b) !== bytesHex(keyBytes(incKey(k)))) return false;
    decKeyBytes(b, 0);
    return bytesHex(b) === bytesHex(keyBytes(k)) && compareKeys(decKey(incKey(k)), k) === 0;
  }));
  fc.assert(fc.property(anyKey, (k) =>
    compareKeys(k, keyOnes()) === 0 || compareKeys(incKey(k), k) === 1));
  t.same(incKey(keyOnes()), keyZeros(), 'the last key wraps');
});

t.test('text that is no key is refused', async (t) => {
  for (const s of ['', '1.2.3', '256.0.0.0.0.0', '1.18446744073709551616.0.0.0.0', '1.2.3.4.5.6.7',
    '-1.0.0.0.0.0', '1.0x2.0.0.0.0', ' 1.2.3.4.5.6']) {
    t.throws(() => keyFromString(s), { code: 'BAD_KEY' }, `'${s}'`);
  }
  t.same(keyFromString(keyToString(makeKey({ zone: 16, first: 7n }))),
    makeKey({ zone: 16, first: 7n }));
});
