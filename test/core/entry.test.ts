/**
 * Entries and xattrs found by name: equal hashes, several ids and parts, damaged values,
 * all three items or none.
 */
import t from 'tap';
import { ABSENT } from '../../host/core/items.js';
import type { WideKey } from '../../host/core/items.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import { crc32c } from '../../host/core/crc32c.js';
import { TestCache, WRITE } from '../lib/item_cache.js';

const FS = 16;
const DIR = 1025;
const XATTR = 8;
const DIRENT = 12;
const READDIR = 16;
const BACKREF = 20;
const ONES = 2n ** 64n - 1n;

function fresh(): { c: TestCache; lock: number } {
  const c = new TestCache(1 << 20);
  const start: WideKey = { zone: FS, first: 1024n, type: 0, second: 0n, third: 0n, fourth: 0 };
  const end = { zone: FS, first: 2047n, type: 255, second: ONES, third: ONES, fourth: 255 };
  const lock = c.lock(start, end, WRITE, 5);
  c.core.x.itemSetTransSeq(10);
  c.fill(lock, start, end, []);
  return { c, lock };
}

function setName(c: TestCache, name: string): number {
  const b = Buffer.from(name);
  c.items.nameBytes.set(b);
  return b.length;
}

function dirent(ino: number, hash: bigint, pos: number, type: number, name: string): Uint8Array {
  const b = Buffer.alloc(32 + name.length);
  b.writeBigUInt64LE(BigInt(ino), 0);
  b.writeBigUInt64LE(hash, 8);
  b.writeBigUInt64LE(BigInt(pos), 16);
  b[24] = type;
  b.write(name, 32);
  return b;
}

function code(fn: () => unknown): unknown {
  try {
    return fn();
  } catch (e) {
    if (e instanceof ScoutfsError) return e.code;
    throw e;
  }
}

t.test('an entry is three items with one value', (t) => {
  const { c, lock } = fresh();
  const len = setName(c, 'hello.txt');
  c.items.createEntry(lock, lock, DIR, 1030, 4, 7, len);
  const want = dirent(1030, 0x6466774629c146cdn, 7, 4, 'hello.txt');
  t.equal(c.items.lookupName(lock, DIR, setName(c, 'hello.txt')), want.length);
  t.same(Buffer.from(c.value(want.length)), want);
  t.equal(c.items.found.type, DIRENT);
  t.equal(c.items.found.secondBig, 0x6466774629c146cdn);
  t.equal(c.items.found.third, 7);
  t.equal(c.items.lookup(lock, FS, DIR, READDIR, 7, 0, 0), want.length);
  t.same(Buffer.from(c.value(want.length)), want);
  t.equal(c.items.lookup(lock, FS, 1030, BACKREF, DIR, 7, 0), want.length);
  t.same(Buffer.from(c.value(want.length)), want);
  t.equal(c.items.lookupName(lock, DIR, setName(c, 'hello.txx')), ABSENT);
  const again = (): void => {
    c.items.createEntry(lock, lock, DIR, 1030, 4, 7, setName(c, 'hello.txt'));
  };
  t.equal(code(again), 'EEXIST');
  t.equal(c.core.x.itemDirtyItems(), 3);
  c.items.deleteEntry(lock, lock, DIR, 1030, 7, setName(c, 'hello.txt'));
  t.equal(c.core.x.itemDirtyItems(), 0);
  t.end();
});

t.test('all three or none', (t) => {
  const { c, lock } = fresh();
  c.items.create(lock, FS, 1030, BACKREF, DIR, 7, 0, 0);
  const create = (): void => {
    c.items.createEntry(lock, lock, DIR, 1030, 4, 7, setName(c, 'a'));
  };
  t.equal(code(create), 'EEXIST');
  t.equal(c.core.x.itemDirtyItems(), 1, 'only what was there before');
  c.items.delete(lock, FS, 1030, BACKREF, DIR, 7, 0);
  create();
  c.items.delete(lock, FS, DIR, READDIR, 7, 0, 0);
  const remove = (): void => {
    c.items.deleteEntry(lock, lock, DIR, 1030, 7, setName(c, 'a'));
  };
  t.equal(code(remove), 'ENOENT');
  t.equal(c.items.lookupName(lock, DIR, setName(c, 'a')), 33, 'the dirent is still there');
  t.equal(code(() => c.items.lookupName(lock, DIR, 0)), 'ITEM_LOCK', 'an empty name');
  t.end();
});

t.test('equal hashes are told apart by comparing names', (t) => {
  const { c, lock } = fresh();
  const hash = 0x6466774629c146cdn;
  const names = ['other.one', 'shorter', 'hello.txt', 'hello.tx2'];
  names.forEach((name, i) => {
    const pos = 10 + i;
    c.setValue(dirent(2000 + i, hash, pos, 4, name));
    c.items.createWide(lock, { zone: FS, first: BigInt(DIR), type: DIRENT, second: hash,
      third: BigInt(pos), fourth: 0 }, 32 + name.length);
  });
  t.equal(c.items.lookupName(lock, DIR, setName(c, 'hello.txt')), 41);
  t.equal(Number(c.items.val.getBigUint64(0, true)), 2002);
  c.setValue(new Uint8Array(300));
  c.items.createWide(lock, { zone: FS, first: BigInt(DIR), type: DIRENT, second: hash, third: 9n,
    fourth: 0 }, 32);
  t.equal(code(() => c.items.lookupName(lock, DIR, setName(c, 'hello.txt'))), 'ITEM_DAMAGED',
    'an entry without a name');
  c.items.deleteWide(lock, { zone: FS, first: BigInt(DIR), type: DIRENT, second: hash, third: 9n,
    fourth: 0 });
  c.items.createWide(lock, { zone: FS, first: BigInt(DIR), type: DIRENT, second: hash, third: 9n,
    fourth: 0 }, 32 + 256);
  t.equal(code(() => c.items.lookupName(lock, DIR, setName(c, 'hello.txt'))), 'ITEM_DAMAGED',
    'too long a name');
  t.end();
});

t.test('touching a name looks at its dirent key', (t) => {
  const { c, lock } = fresh();
  c.items.touchName(lock, DIR, setName(c, 'x'), 3);
  c.invalidate({ zone: FS, first: BigInt(DIR), type: DIRENT, second: 0n, third: 0n, fourth: 0 },
    { zone: FS, first: BigInt(DIR), type: DIRENT, second: ONES, third: ONES, fourth: 255 });
  t.throws(() => { c.items.touchName(lock, DIR, setName(c, 'x'), 3); }, { message: 'not cached' });
  t.end();
});

t.test('xattrs: ids with several parts under one hash', (t) => {
  const { c, lock } = fresh();
  const hash = crc32c(0xffffffff, Buffer.from('user.test'));
  t.equal(c.items.xattrHash(setName(c, 'user.test')), hash);
  const part0 = (name: string, value: string): Uint8Array => {
    const b = Buffer.alloc(8);
    b.writeUInt16LE(value.length, 0);
    b[2] = name.length;
    return Buffer.concat([b, Buffer.from(name + value)]);
  };
  const put = (id: number, part: number, val: Uint8Array): void => {
    c.items.create(lock, FS, DIR, XATTR, hash, id, part, c.setValue(val));
  };
  put(1, 0, part0('user.other', 'v'));
  put(1, 1, new Uint8Array(896));
  put(2, 1, new Uint8Array(3));
  put(3, 0, part0('user.test', 'value'));
  t.equal(c.items.lookupXattr(lock, DIR, setName(c, 'user.test')), 22);
  t.equal(c.items.found.third, 3);
  t.equal(c.items.found.fourth, 0);
  t.equal(Buffer.from(c.value(22)).subarray(17).toString(), 'value');
  t.equal(c.items.lookupXattr(lock, 1026, setName(c, 'user.test')), ABSENT);
  const cut = part0('user.other', 'v').slice(0, 12);
  c.items.update(lock, FS, DIR, XATTR, hash, 1, 0, c.setValue(cut));
  t.equal(code(() => c.items.lookupXattr(lock, DIR, setName(c, 'user.test'))), 'ITEM_DAMAGED',
    'a part 0 shorter than its header says');
  t.end();
});
