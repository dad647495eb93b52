/**
 * Extended attributes: tags and numbers against the vectors, random changes with
 * their totals and indexes, limits and the order of errors, deletion.
 */
import t from 'tap';
import { INO_FLAG_RETENTION } from '../../host/core/constants.js';
import { crc32c } from '../../host/core/crc32c.js';
import { MODE_READ } from '../../host/mount/op.js';
import type { Op } from '../../host/mount/op.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { indxKey, parseNumber, parseTags, totlKey } from '../../host/fs/xattr_tags.js';
import { seeded } from '../lib/fakeitems.js';
import { FakeMount, nameOf, newEntry, newOpen } from '../lib/fakemount.js';
import type { FakeOptions } from '../lib/fakemount.js';
import { checkItems } from '../lib/fsinvariants.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface KeyJson { zone: number; first: string; type: number; second: string; third: string;
  fourth: number }
interface Vectors {
  xattr_name_hash: { name: string; hash32: string }[];
  xattr_parts: { name_len: number; val_len: number; parts: number; first_item_bytes: number;
    last_item_bytes: number }[];
  xattr_tags: { name: string; ret: number; hide: number; indx: number; srch: number;
    totl: number }[];
  totl_key_parse: { name_hex: string; ret: number; key?: KeyJson }[];
  totl_value_parse: { value_hex: string; ret: number; u64?: string }[];
  indx_key_parse: { name: string; ino: string; xid: string; ret: number; key?: KeyJson }[];
}

const KEEP = -22;

function keyOf(j: KeyJson | undefined): unknown {
  return j === undefined ? null : {
    ...j, first: BigInt(j.first), second: BigInt(j.second), third: BigInt(j.third),
  };
}

void t.test('vectors', { skip: skipWithoutSpec() }, (t) => {
  const all = vectors('fs-vectors.json') as Vectors;
  for (const v of all.xattr_name_hash) {
    t.equal(crc32c(0xffffffff, Buffer.from(v.name)), Number(v.hash32), v.name);
  }
  for (const v of all.xattr_tags) {
    const tags = parseTags(Buffer.from(v.name));
    t.equal(tags === null ? KEEP : 0, v.ret, v.name);
    if (tags !== null) {
      t.strictSame([tags.hide, tags.indx, tags.srch, tags.totl].map(Number),
        [v.hide, v.indx, v.srch, v.totl], v.name);
    }
  }
  for (const v of all.totl_key_parse) {
    t.strictSame(totlKey(Buffer.from(v.name_hex, 'hex')), keyOf(v.key), v.name_hex);
    t.equal(v.ret === 0, v.key !== undefined);
  }
  for (const v of all.totl_value_parse) {
    const n = parseNumber(Buffer.from(v.value_hex, 'hex'));
    t.equal(n, v.u64 === undefined ? null : BigInt(v.u64), v.value_hex);
  }
  for (const v of all.indx_key_parse) {
    t.strictSame(indxKey(Buffer.from(v.name), BigInt(v.ino), BigInt(v.xid)), keyOf(v.key), v.name);
  }
  t.end();
});

class File {
  constructor(readonly m: FakeMount, readonly ino: number) {}

  static async make(o: FakeOptions = {}): Promise<File> {
    const m = new FakeMount(o);
    const out = newEntry();
    await m.run((op) => {
      m.fs.create(op, m.caller, 1, nameOf('f'), 0o100666, 0, 0, out, newOpen());
    });
    return new File(m, out.ino);
  }

  private errno(fn: (op: Op) => void): Promise<string> {
    return this.m.run(fn).then(() => 'ok', (e: unknown) => {
      const err = asScoutfsError(e);
      if (err.code === 'EIO') throw err;
      return err.errno;
    });
  }

  set(name: string | Uint8Array, value: string | Uint8Array, flags = 0): Promise<string> {
    const { m, ino } = this;
    return this.errno((op) => {
      m.fs.setxattr(op, m.caller, ino, nameOf(name), Buffer.from(value), flags, false);
    });
  }

  remove(name: string): Promise<string> {
    const { m, ino } = this;
    return this.errno((op) => { m.fs.removexattr(op, m.caller, ino, nameOf(name)); });
  }

  async get(name: string): Promise<string> {
    const { m, ino } = this;
    let value = '';
    const e = await this.errno((op) => {
      value = Buffer.from(m.fs.getxattr(op, m.caller, ino, nameOf(name))).toString('latin1');
    });
    return e === 'ok' ? value : e;
  }

  async list(): Promise<string[]> {
    const { m, ino } = this;
    const b = await m.run((op) => m.fs.listxattr(op, m.caller, ino));
    return Buffer.from(b).toString().split('\0').slice(0, -1);
  }

  bad(): string[] {
    return checkItems(this.m.items.store, undefined, this.m.srchLog);
  }
}

void t.test('parts have the sizes of the vectors', { skip: skipWithoutSpec() }, async (t) => {
  const all = vectors('fs-vectors.json') as Vectors;
  const f = await File.make();
  for (const v of all.xattr_parts) {
    const name = 'user.'.padEnd(v.name_len, 'n');
    t.equal(await f.set(name, Buffer.alloc(v.val_len, 7)), 'ok');
    const parts = [...f.m.items.store.entries()]
      .filter(([k]) => k.startsWith('10') && k.slice(18, 20) === '08').sort();
    t.strictSame([parts.length, parts[0]?.[1].length, parts.at(-1)?.[1].length],
      [v.parts, v.first_item_bytes, v.last_item_bytes], `${v.name_len} ${v.val_len}`);
    t.equal((await f.get(name)).length, v.val_len);
    t.equal(await f.remove(name), 'ok');
  }
});

void t.test('random changes keep parts, totals and indexes right', async (t) => {
  for (const seed of [1, 2]) {
    const f = await File.make({ seed, waitChance: 0.1 });
    const rnd = seeded(seed * 7);
    const model = new Map<string, string>();
    const pick = <T>(a: readonly T[]): T => a[Math.floor(rnd() * a.length)] as T;
    const plain = ['user.a', 'user.b', 'trusted.c', 'security.d', `user.${'x'.repeat(250)}`];
    const totl = ['scoutfs.totl.t.1.2.3', 'scoutfs.totl.srch.u.1.2.3', 'scoutfs.hide.totl.9.9.9'];
    const indx = ['scoutfs.indx.t.5.100', 'scoutfs.hide.indx.t.5.100', 'scoutfs.indx.srch.t.6.7'];
    const srch = ['scoutfs.srch.a', 'scoutfs.hide.srch.a', `scoutfs.srch.${'y'.repeat(242)}`];
    for (let i = 0; i < 150; i++) {
      const name = pick([...plain, ...totl, ...indx, ...srch]);
      const value = totl.includes(name) ? String(Math.floor(rnd() * 1000)) :
        indx.includes(name) ? '' : 'v'.repeat(Math.floor(rnd() * rnd() * 66_000));
      const flags = pick([0, 0, 0, 1, 2]);
      const has = model.has(name);
      if (rnd() < 0.3) {
        t.equal(await f.remove(name), has ? 'ok' : 'ENODATA', `remove ${name}`);
        model.delete(name);
      } else {
        const want = flags === 1 && has ? 'EEXIST' : flags === 2 && !has ? 'ENODATA' : 'ok';
        if (await f.set(name, value, flags) !== want) t.fail(`set ${name}: ${want}`);
        if (want === 'ok') model.set(name, value);
      }
      const bad = f.bad();
      if (bad.length > 0) t.fail(`step ${i}, ${name}: ${bad.join('; ')}`);
    }
    for (const [name, value] of model) t.equal(await f.get(name), value, name);
    const shown = [...model.keys()].filter((n) => !n.includes('.hide.')).sort();
    t.strictSame((await f.list()).sort(), shown, 'hidden names are not listed');
    await f.m.run((op) => { f.m.fs.unlink(op, f.m.caller, 1, nameOf('f')); });
    f.m.openMap.clear(f.ino);
    t.equal(await f.m.fs.deletes.attempt(f.ino), 'deleted');
    t.strictSame(f.bad(), [], 'nothing is left');
    t.equal(f.m.items.store.size, 2, 'but the root and its index item');
  }
});

void t.test('limits and the order of errors', async (t) => {
  const f = await File.make();
  t.equal(await f.set('system.other', 'x'), 'EOPNOTSUPP');
  t.equal(await f.set('nothing', 'x'), 'EOPNOTSUPP');
  t.equal(await f.set('system.posix_acl_access', 'x'), 'EINVAL');
  for (const prefix of ['user.', 'trusted.', 'security.', 'scoutfs.']) {
    t.equal(await f.set(prefix, 'x'), 'EINVAL', `${prefix} alone`);
    t.equal(await f.get(prefix), 'EINVAL');
  }
  t.equal(await f.set('', 'x'), 'EOPNOTSUPP');
  t.equal(await f.set(`user.${'n'.repeat(251)}`, 'x'), 'ERANGE');
  t.equal(await f.get(`user.${'n'.repeat(251)}`), 'ENODATA');
  t.equal(await f.set('user.big', Buffer.alloc(65536)), 'E2BIG');
  t.equal(await f.set('user.a', 'x', 3), 'EINVAL');
  t.equal(await f.set('user.a', 'x', 4), 'EINVAL');
  t.equal(await f.set('user.a', 'x', 2), 'ENODATA');
  t.equal(await f.set('scoutfs.hide.hide.x', 'x'), 'EINVAL');
  t.equal(await f.set('scoutfs.totl.a.1.2', '1'), 'EINVAL');
  t.equal(await f.set('scoutfs.totl.a.1.2.3', 'no'), 'EINVAL');
  t.equal(await f.set('scoutfs.indx.a.256.1', ''), 'EINVAL');
  t.equal(await f.set('scoutfs.indx.a.1.1', 'value'), 'EINVAL');
  t.equal(await f.set('scoutfs.totl.indx.1.2.3', '1'), 'EINVAL');
  f.m.admin = false;
  t.equal(await f.set('scoutfs.hide.x', 'x'), 'EPERM');
  t.equal(await f.set('scoutfs.totl.a.1.2', '1'), 'EPERM', 'before the name is looked at');
  t.equal(await f.set('scoutfs.plain', 'x'), 'ok', 'short names have no tags');
  t.equal(await f.get('scoutfs.plain'), 'x');
  t.strictSame(f.bad(), []);

  const old = await File.make({ formatVersion: 1 });
  t.equal(await old.set('scoutfs.indx.a.1.1', ''), 'EOPNOTSUPP', 'version 1 has no indexes');
});

void t.test('equal hashes, ids and replaced values', async (t) => {
  const f = await File.make();
  await f.set('user.first', 'a'.repeat(3000));
  await f.set('user.second', 'b');
  const ids = (): string[] => [...f.m.items.store.keys()]
    .filter((k) => k.startsWith('10') && k.slice(18, 20) === '08' && k.endsWith('00'))
    .map((k) => k.slice(36, 52)).sort();
  const before = ids();
  await f.set('user.first', 'c');
  t.strictSame(ids(), before, 'a replaced value keeps its id');
  t.equal(await f.get('user.first'), 'c');
  await f.remove('user.first');
  await f.set('user.first', 'd');
  t.notSame(ids(), before, 'a new one does not');
  await f.m.run((op) => { op.lockInode(f.ino, MODE_READ); });
  t.strictSame(f.bad(), []);
});

/** The value of the item whose key begins with `zone` and has `type`. */
function itemOf(f: File, zone: string, type: string): [key: string, val: Uint8Array] {
  const found = [...f.m.items.store].find(([k]) => k.startsWith(zone) && k.slice(18, 20) === type);
  if (found === undefined) throw new Error('no such item');
  return found;
}

void t.test('flags are about the whole xattr', async (t) => {
  const f = await File.make({ waitChance: 0.2 });
  const parts = (): number => [...f.m.items.store.keys()].filter(
    (k) => k.startsWith('10') && k.slice(18, 20) === '08').length;
  t.equal(await f.set('user.a', 'a'.repeat(3000), 2), 'ENODATA');
  t.equal(await f.set('user.a', 'a'.repeat(3000), 1), 'ok');
  t.equal(parts(), 4);
  t.equal(await f.set('user.a', 'b'.repeat(9000), 1), 'EEXIST');
  t.equal(await f.get('user.a'), 'a'.repeat(3000));
  t.equal(await f.set('user.a', 'b'.repeat(9000), 2), 'ok', 'parts are added');
  t.equal(await f.get('user.a'), 'b'.repeat(9000));
  t.equal(await f.set('user.a', '', 2), 'ok', 'and taken away');
  t.equal(parts(), 1);
  t.equal(await f.get('user.a'), '');
  t.strictSame(f.bad(), []);
});

void t.test('a write takes file capabilities away', async (t) => {
  const f = await File.make({ waitChance: 0.2 });
  const write = async (cached: boolean): Promise<void> => {
    await f.m.run((op) => f.m.fs.write(op, f.m.caller, f.ino, {
      fh: 0, offset: 0, data: new Uint8Array(4096).fill(7), append: false, cached,
      killSuidgid: false, writtenAt: 0,
    }));
  };
  await write(false);
  t.equal(await f.set('security.capability', 'caps'), 'ok');
  t.equal(await f.set('user.other', 'x'), 'ok');
  await write(true);
  t.equal(await f.get('security.capability'), 'caps', 'write-back of a mapping does not');
  await write(false);
  t.equal(await f.get('security.capability'), 'ENODATA');
  t.equal(await f.get('user.other'), 'x');
  t.strictSame(f.bad(), []);
});

void t.test('retention', async (t) => {
  const f = await File.make();
  t.equal(await f.set('user.a', 'x'), 'ok');
  const val = (): [string, Uint8Array] => [...f.m.items.store].find(([k]) =>
    k.startsWith(`10${f.ino.toString(16).padStart(16, '0')}04`)) ?? ['', new Uint8Array(0)];
  const [key, item] = val();
  const retained = item.slice();
  retained[92] = (retained[92] ?? 0) | INO_FLAG_RETENTION;
  f.m.plant(key, retained);
  t.equal(await f.set('user.a', 'y'), 'EPERM');
  t.equal(await f.set('user.b', 'y'), 'EPERM');
  t.equal(await f.set('user.b', 'y', 2), 'EPERM', 'before it is looked for');
  t.equal(await f.remove('user.a'), 'EPERM');
  t.equal(await f.get('user.a'), 'x');
  for (const name of ['trusted.a', 'security.a', 'scoutfs.a']) {
    t.equal(await f.set(name, 'y'), 'ok', `${name} may change`);
    t.equal(await f.remove(name), 'ok');
  }
  const acl = Buffer.from('0200000001000700ffffffff04000500ffffffff20000000ffffffff', 'hex');
  t.equal(await f.set('system.posix_acl_access', acl), 'ok', 'another namespace too');
});

void t.test('totals that do not change get no delta', async (t) => {
  const f = await File.make();
  t.equal(await f.set('scoutfs.totl.t.1.2.3', '7'), 'ok');
  let deltas = 0;
  const { items } = f.m;
  const delta = items.delta.bind(items);
  items.delta = (...args) => { deltas += 1; delta(...args); };
  t.equal(await f.set('scoutfs.totl.t.1.2.3', '0x7'), 'ok', 'written otherwise');
  t.equal(deltas, 0);
  t.equal(await f.set('scoutfs.totl.t.1.2.3', '0x8'), 'ok');
  t.equal(deltas, 1);
  t.equal(await f.set('scoutfs.totl.zero.1.2.4', '0'), 'ok');
  t.equal(deltas, 2, 'a zero counts');
  t.equal(await f.set('scoutfs.totl.max.1.2.3', '0xffffffffffffffff'), 'ok', 'modulo 2^64');
  t.strictSame(f.bad(), []);
  const [, total] = itemOf(f, '0c', '00');
  t.equal(new DataView(total.buffer, total.byteOffset).getBigUint64(0, true), 7n, '8 + 2^64 - 1');
});

void t.test('a total that is no number stops deletion', async (t) => {
  const f = await File.make();
  await f.set('scoutfs.totl.t.1.2.3', '7');
  const [key, val] = itemOf(f, '10', '08');
  const bad = val.slice();
  bad[bad.length - 1] = 0x78;
  f.m.plant(key, bad);
  await f.m.run((op) => { f.m.fs.unlink(op, f.m.caller, 1, nameOf('f')); });
  f.m.openMap.clear(f.ino);
  const e = await f.m.fs.deletes.attempt(f.ino).catch((e: unknown) => asScoutfsError(e).errno);
  t.equal(e, 'EINVAL');
  t.ok(f.m.items.store.has(key), 'nothing was deleted');
  t.equal(await f.remove('scoutfs.totl.t.1.2.3'), 'EINVAL', 'nor can it be removed');
});

void t.test('tags end where the name ends', async (t) => {
  const name = Buffer.from('scoutfs.hide.hide.x');
  t.strictSame(parseTags(name.subarray(0, 18)), null, 'hide. twice');
  t.same(parseTags(name.subarray(0, 17)), { hide: true, indx: false, srch: false, totl: false },
    'the second one is not whole');
  t.same(parseTags(name.subarray(0, 13))?.hide, false, 'shorter than 14 bytes');
  // the value goes on where the name stops
  const f = await File.make();
  t.equal(await f.set('scoutfs.hide.srch', '.x'), 'ok');
  await f.m.run((op) => { f.m.fs.unlink(op, f.m.caller, 1, nameOf('f')); });
  f.m.openMap.clear(f.ino);
  t.equal(await f.m.fs.deletes.attempt(f.ino), 'deleted');
  t.strictSame(f.bad(), []);
});

void t.test('user. names need a file or a directory', async (t) => {
  const f = await File.make();
  const out = newEntry();
  await f.m.run((op) => {
    f.m.fs.mknod(op, f.m.caller, 1, nameOf('p'), 0o10644, 0, 0, out);
  });
  const fifo = new File(f.m, out.ino);
  t.equal(await fifo.set('user.a', 'x'), 'EPERM');
  t.equal(await fifo.set('trusted.a', 'x'), 'ok');
  const root = new File(f.m, 1);
  t.equal(await root.set('user.a', 'x'), 'ok');
  t.strictSame(f.bad(), []);
});

void t.test('srch entries come in pairs', async (t) => {
  const f = await File.make();
  const { srchLog } = f.m;
  const name = 'scoutfs.hide.srch.totl.a.1.2.3';
  t.equal(await f.set(name, '5'), 'ok');
  t.equal(srchLog.length, 1, 'creation appends one');
  t.match(srchLog[0], new RegExp(`^${name.replaceAll('.', '[.]')} ${f.ino} \\d+$`));
  t.equal(await f.set(name, '6'), 'ok');
  t.equal(await f.set(name, 'no'), 'EINVAL');
  t.equal(await f.set(name, '7', 1), 'EEXIST');
  t.equal(srchLog.length, 1, 'replacing and failing append none');
  t.equal(await f.remove(name), 'ok');
  t.equal(await f.remove(name), 'ENODATA');
  t.strictSame(srchLog, [srchLog[0], srchLog[0]], 'removal appends the same');
  t.equal(await f.set(name, '5'), 'ok');
  t.not(srchLog[2], srchLog[0], 'a new xattr has a new id');
  f.m.metaLow = true;
  t.equal(await f.set('scoutfs.srch.full', 'x'), 'ENOSPC');
  t.equal(srchLog.length, 3, 'without space nothing is appended');
  t.strictSame(f.bad(), []);
});
