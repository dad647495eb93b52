/**
 * The codecs against the layout vectors: sizes, the offset of every field (a byte
 * set there shows in that field and nowhere else, and is written back to the same
 * place), constants, and the sample items.
 */
import t, { type Test } from 'tap';
import * as format from '../../host/core/format.js';
import * as constants from '../../host/core/constants.js';
import { CRC_INIT, crc32c } from '../../host/core/crc32c.js';
import { fnv1a64 } from '../../host/core/hash.js';
import { keyBytes, makeKey } from '../../host/core/keys.js';
import { xattrParts } from '../../host/core/xattr_parts.js';
import { hexBytes, bytesHex } from '../lib/hex.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface FieldVector {
  name: string;
  type: string;
  offset: number;
  size: number;
  elem_size: number;
  count: number;
}

interface Vectors {
  structs: Record<string, { kind: string; size: number; fields: FieldVector[] }>;
  constants: Record<string, { dec: string; hex: string }>;
  items: { what: string; bytes: string; hash64?: string; key?: string }[];
  xattr_parts: {
    name_len: number; val_len: number; total_bytes: number; parts: number; last_part_bytes: number;
  }[];
}

interface Codec {
  size: number;
  read(v: DataView, o: number): object;
  write(v: DataView, o: number, value: object): void;
}

const skip = skipWithoutSpec();
const all = skip === false ? vectors('format-vectors.json') as Vectors : null;

/** Structures that have no codec of their own, and why. */
const WITHOUT_CODEC = new Set([
  'scoutfs_inet_addr4', // InetAddr reads it in place
  'scoutfs_inet_addr6', // nothing writes or accepts it
]);
/** Fields whose codec property has another name. */
const RENAMED: Record<string, string> = { 'scoutfs_srch_compact.in': 'inputs' };

function camel(name: string): string {
  return name.replace(/^(__|_?sk_)/, '').replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());
}

function codecOf(struct: string): Codec | undefined {
  const name = camel(struct.replace(/^scoutfs_/, '_'));
  return (format as unknown as Record<string, Codec | undefined>)[name];
}

function propertyOf(struct: string, field: FieldVector): string {
  return RENAMED[`${struct}.${field.name}`] ?? camel(field.name);
}

/** Names of the properties in which two values of a structure differ. */
function changed(a: object, b: object): string[] {
  const text = (v: unknown): string =>
    JSON.stringify(v, (_, x: unknown) => typeof x === 'bigint' ? `${x}n` : x);
  return Object.entries(a)
    .filter(([k, v]) => text(v) !== text((b as Record<string, unknown>)[k])).map(([k]) => k);
}

t.test('vectors: structs', { skip }, async (t) => {
  for (const [name, struct] of Object.entries(all?.structs ?? {})) {
    if (WITHOUT_CODEC.has(name)) continue;
    const codec = codecOf(name);
    if (codec === undefined) {
      t.fail(`${name} has no codec`);
      continue;
    }
    t.equal(codec.size, struct.size, `${name}: size`);
    const zeros = codec.read(new DataView(new ArrayBuffer(struct.size)), 0);
    const dirty = new Uint8Array(struct.size + 8).fill(0x5a);
    codec.write(new DataView(dirty.buffer), 4, zeros);
    t.ok(dirty.subarray(4, 4 + struct.size).every((b) => b === 0), `${name}: padding is zeroed`);
    t.ok([...dirty.subarray(0, 4), ...dirty.subarray(4 + struct.size)].every((b) => b === 0x5a),
      `${name}: nothing outside is touched`);
    if (struct.kind === 'union') continue;
    for (const field of struct.fields) {
      if (/pad/.test(field.name) || field.count === 0) continue;
      checkField(t, codec, name, struct.size, field, zeros);
    }
  }
});

/** Sets a byte of each element of a field and looks where it appears. */
function checkField(t: Test, codec: Codec, name: string, size: number, field: FieldVector,
  zeros: object): void {
  const property = propertyOf(name, field);
  // Within an integer: the first byte, and the last that keeps it an exact number.
  const inner = /struct|union/.test(field.type) ? [0] : [0, Math.min(field.elem_size, 7) - 1];
  for (let e = 0; e < field.count; e++) {
    for (const i of inner) {
      const bytes = new Uint8Array(size);
      bytes[field.offset + e * field.elem_size + i] = 1;
      const value = codec.read(new DataView(bytes.buffer), 0);
      const out = new Uint8Array(size);
      codec.write(new DataView(out.buffer), 0, value);
      if (changed(zeros, value).join() !== property || bytesHex(out) !== bytesHex(bytes)) {
        t.fail(`${name}.${field.name}[${e}] byte ${i}: seen in '${changed(zeros, value).join()}'`);
        return;
      }
    }
  }
  t.pass(`${name}.${field.name}`);
}

/** Constants that we have no use for, and why. */
const UNUSED_CONSTANTS = [
  /^SCOUTFS_UNIQUE_NAME_MAX_BYTES$/, // length of a kernel object's name
  /^SCOUTFS_BTREE_LEAF_ITEM_HASH_NR_UNALIGNED$/, // a step in computing the next one
  /\(.*\)$/, // values of macros with arguments
  /^SLT_/, // numbers inside kernel trace events
];

t.test('vectors: constants', { skip }, async (t) => {
  const ours = constants as unknown as Record<string, number | bigint | undefined>;
  for (const [name, v] of Object.entries(all?.constants ?? {})) {
    if (UNUSED_CONSTANTS.some((re) => re.test(name))) continue;
    t.equal(String(ours[name.replace(/^SCOUTFS_/, '')]), v.dec, name);
  }
});

t.test('vectors: items', { skip }, async (t) => {
  const codecs: [prefix: string, codec: Codec][] = [
    ['data extent value', format.DataExtentVal],
    ['dirent value', format.Dirent],
    ['xattr part 0', format.Xattr],
    ['totl value', format.XattrTotlVal],
    ['quota rule value', format.QuotaRuleVal],
    ['mounted client value', format.MountedClientBtreeVal],
    ['quorum slot', format.QuorumSlot],
    ['quorum message', format.QuorumMessage],
    ['net message', format.NetHeader],
  ];
  for (const item of all?.items ?? []) {
    const codec = codecs.find(([prefix]) => item.what.startsWith(prefix))?.[1];
    const bytes = hexBytes(item.bytes);
    if (codec === undefined) {
      t.fail(`no codec for ${item.what}`);
      continue;
    }
    const value = codec.read(new DataView(bytes.buffer), 0);
    const out = bytes.slice();
    codec.write(new DataView(out.buffer), 0, value);
    t.equal(bytesHex(out), item.bytes, item.what);
    if (item.hash64 !== undefined) {
      const hash = fnv1a64(bytes);
      t.equal(hash.toString(16), item.hash64, 'quota rule hash');
      t.equal(bytesHex(keyBytes(makeKey({ zone: format.QUOTA_ZONE, type: format.QUOTA_RULE_TYPE,
        second: hash }))), item.key, 'quota rule key');
    }
  }
});

t.test('the fields of the sample items', { skip }, async (t) => {
  const view = (prefix: string): DataView => {
    const item = all?.items.find((i) => i.what.startsWith(prefix));
    return new DataView(hexBytes(item?.bytes ?? '').buffer);
  };
  t.same(format.DataExtentVal.read(view('data extent'), 0),
    { blkno: 12345, flags: format.SEF_UNWRITTEN });
  t.match(format.Dirent.read(view('dirent'), 0), { ino: 1025, pos: 2, type: format.DT_REG });
  t.same(format.Xattr.read(view('xattr part'), 0), { valLen: 5, nameLen: 9 });
  t.equal(BigInt.asIntN(64, format.XattrTotlVal.read(view('totl'), 0).total), -5n);
  t.same(format.QuorumSlot.read(view('quorum slot'), 0).addr,
    { family: format.AF_IPV4, port: 12345, addr: 0x0a010203 });
  const msg = view('quorum message');
  t.match(format.QuorumMessage.read(msg, 0),
    { fsid: 0x1122334455667788n, version: 0, term: 7, type: 2, from: 2 });
  t.equal(crc32c(CRC_INIT, new Uint8Array(msg.buffer, 0, 28)), format.QuorumMessage.read(msg, 0).crc);
  t.match(format.NetHeader.read(view('net message'), 0),
    { seq: 1, id: 1, dataLen: format.NetGreeting.size, cmd: format.NET_CMD_GREETING });
});

t.test('vectors: xattr_parts', { skip }, async (t) => {
  for (const v of all?.xattr_parts ?? []) {
    t.same(xattrParts(v.name_len, v.val_len),
      { totalBytes: v.total_bytes, nr: v.parts, lastBytes: v.last_part_bytes },
      `name ${v.name_len} value ${v.val_len}`);
  }
});

t.test('counts beyond 2^53 are refused, not rounded', async (t) => {
  const v = new DataView(new Uint8Array(16).fill(0xff).buffer);
  t.throws(() => format.BlockRef.read(v, 0), { code: 'U64_RANGE', errno: 'EIO' });
  t.throws(() => { format.BlockRef.write(v, 0, { blkno: 2 ** 53, seq: 0n }); },
    { code: 'U64_RANGE' });
  t.throws(() => { format.BlockRef.write(v, 0, { blkno: -1, seq: 0n }); }, { code: 'U64_RANGE' });
});
