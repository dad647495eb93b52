/**
 * System calls on a real mount of the in-memory file system, through both variants of the device:
 * every opcode, all sizes of reads and writes, mappings, large listings.
 */
import * as fs from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { fuseMissing, mountMemfs, ops, opsHelper } from './harness.js';

const { promises: fsp } = fs;
const O_APPEND = fs.constants.O_APPEND | fs.constants.O_WRONLY | fs.constants.O_CREAT;
const missing = fuseMissing();
const noCc = missing ?? (opsHelper() === null ? 'no C compiler' : null);

function errnoOf(fn: () => unknown): string {
  try {
    fn();
    return 'none';
  } catch (e) {
    return (e as NodeJS.ErrnoException).code ?? 'unknown';
  }
}

async function names(t: Test, dir: string): Promise<void> {
  const p = (...parts: string[]): string => join(dir, ...parts);
  fs.mkdirSync(p('d'));
  fs.writeFileSync(p('d', 'a'), 'one');
  t.equal(errnoOf(() => { fs.mkdirSync(p('d')); }), 'EEXIST');
  t.equal(errnoOf(() => fs.readFileSync(p('none'))), 'ENOENT');
  fs.renameSync(p('d', 'a'), p('b'));
  t.equal(fs.readFileSync(p('b'), 'utf8'), 'one');
  t.same(fs.readdirSync(p('d')), []);
  fs.linkSync(p('b'), p('c'));
  t.equal(fs.statSync(p('c')).nlink, 2);
  fs.unlinkSync(p('b'));
  t.equal(fs.readFileSync(p('c'), 'utf8'), 'one');
  fs.symlinkSync('c', p('s'));
  t.equal(fs.readlinkSync(p('s')), 'c');
  t.equal(fs.readFileSync(p('s'), 'utf8'), 'one');
  t.equal(errnoOf(() => { fs.rmdirSync(p('c')); }), 'ENOTDIR');
  fs.writeFileSync(p('d', 'x'), '');
  t.equal(errnoOf(() => { fs.rmdirSync(p('d')); }), 'ENOTEMPTY');
  fs.rmSync(p('d'), { recursive: true });
  const long = 'n'.repeat(255);
  fs.writeFileSync(p(long), 'x');
  t.ok(fs.readdirSync(dir).includes(long));
  t.equal(errnoOf(() => { fs.writeFileSync(p(`${long}n`), 'x'); }), 'ENAMETOOLONG');
  const bytes = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe, 0x20])]);
  fs.writeFileSync(bytes, 'raw name');
  t.equal(fs.readFileSync(bytes, 'utf8'), 'raw name', 'names are bytes');
  await fsp.rm(bytes);
}

function attributes(t: Test, dir: string): void {
  const f = join(dir, 'attr');
  fs.writeFileSync(f, 'hello');
  fs.chmodSync(f, 0o640);
  fs.chownSync(f, 12, 34);
  // numbers below zero mean "now" to Node, dates do not
  fs.utimesSync(f, new Date(-1_000_000), 4_000_000_000.25);
  const st = fs.statSync(f);
  t.equal(st.mode & 0o7777, 0o640);
  t.same([st.uid, st.gid, st.size, st.blocks], [12, 34, 5, 8]);
  t.equal(st.atimeMs, -1_000_000);
  t.equal(st.mtimeMs, 4_000_000_000_250);
  t.ok(Math.abs(st.birthtimeMs - Date.now()) < 60_000, 'STATX gives the birth time');
  fs.truncateSync(f, 2);
  t.equal(fs.readFileSync(f, 'utf8'), 'he');
  fs.truncateSync(f, 4);
  t.equal(fs.readFileSync(f, 'latin1'), 'he\0\0');
  t.equal(fs.statfsSync(dir).bsize, 4096);
  const umask = process.umask(0o027);
  fs.writeFileSync(join(dir, 'masked'), '', { mode: 0o666 });
  process.umask(umask);
  t.equal(fs.statSync(join(dir, 'masked')).mode & 0o777, 0o640);
  t.equal(fs.readFileSync('/proc/mounts', 'utf8').includes(` ${dir} fuse.scoutfstest rw`), true);
}

function data(t: Test, dir: string): void {
  const f = join(dir, 'data');
  const all = randomBytes(3 << 20);
  for (const size of [1, 511, 4095, 4096, 4097, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]) {
    for (const offset of [0, 1, 100, 4096, 70_001]) {
      const fd = fs.openSync(f, 'w+');
      t.equal(fs.writeSync(fd, all, 0, size, offset), size);
      const back = Buffer.alloc(size + 10);
      const n = fs.readSync(fd, back, 0, back.length, offset);
      fs.closeSync(fd);
      const cached = fs.readFileSync(f);
      t.ok(n === size && back.subarray(0, n).equals(all.subarray(0, size))
        && cached.length === offset + size && cached.subarray(offset).equals(all.subarray(0, size))
        && cached.subarray(0, offset).every((b) => b === 0), `${size} bytes at ${offset}`);
    }
  }
  fs.writeFileSync(f, all);
  t.ok(fs.readFileSync(f).equals(all), '3 MiB through the page cache');
  const fd = fs.openSync(f, O_APPEND);
  fs.writeSync(fd, 'tail');
  fs.fsyncSync(fd);
  fs.fdatasyncSync(fd);
  fs.closeSync(fd);
  t.equal(fs.readFileSync(f).subarray(-4).toString(), 'tail', 'appended at the size');
  const dirFd = fs.openSync(dir, 'r');
  t.equal(errnoOf(() => { fs.fsyncSync(dirFd); }), 'none', 'FSYNCDIR');
  fs.closeSync(dirFd);
}

function listing(t: Test, dir: string): void {
  const d = join(dir, 'many');
  fs.mkdirSync(d);
  const want = Array.from({ length: 3000 }, (_, i) => `file-with-a-longer-name-${i}`);
  for (const name of want) fs.closeSync(fs.openSync(join(d, name), 'w'));
  t.same(fs.readdirSync(d).sort(), [...want].sort(), 'nothing twice, nothing missing');
  for (const name of want.slice(0, 2990)) fs.unlinkSync(join(d, name));
  t.same(fs.readdirSync(d).sort(), want.slice(2990).sort());
  const types = fs.readdirSync(d, { withFileTypes: true });
  t.ok(types.every((e) => e.isFile()), 'entries have types');
  fs.rmSync(d, { recursive: true });
}

for (const plain of [false, true]) {
  t.test(plain ? 'thread pool device' : 'event loop device',
    { skip: missing ?? false }, async (t) => {
      const daemon = await mountMemfs({ plain });
      t.teardown(() => daemon.stop());
      await names(t, daemon.dir);
      attributes(t, daemon.dir);
      data(t, daemon.dir);
      listing(t, daemon.dir);
      const state = await daemon.state();
      t.ok(state.minor >= 36, 'INIT was answered');
      t.same(state.log.filter((l) => !l.includes('INC_EPOCH') && !l.includes('names at once')), []);
      t.equal(state.unexpected, 0);
    });
}

t.test('system calls that Node lacks', { skip: noCc ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const p = (name: string): string => join(daemon.dir, name);
  fs.writeFileSync(p('a'), 'aaa');
  fs.writeFileSync(p('b'), 'bbb');
  t.equal(await ops('rename2', p('a'), p('b'), '1'), 'errno 17', 'RENAME_NOREPLACE');
  t.equal(await ops('rename2', p('a'), p('b'), '2'), '', 'RENAME_EXCHANGE');
  t.equal(fs.readFileSync(p('a'), 'utf8'), 'bbb');
  t.equal(await ops('tmpfile', daemon.dir, p('linked')), '');
  t.equal(fs.readFileSync(p('linked'), 'utf8'), 'tmp', 'TMPFILE and LINK');
  const wideDevice = (5 << 8) | 3 | (1 << 20);
  t.equal(await ops('mknod', p('dev'), '-', String(wideDevice)), '');
  t.equal(fs.statSync(p('dev')).rdev, wideDevice, 'device numbers survive');
  t.equal(await ops('fallocate', p('a'), '0', '0', '10000'), '');
  t.equal(fs.statSync(p('a')).size, 10_000);
  t.equal(await ops('fallocate', p('a'), '3', '0', '2'), '', 'punch a hole');
  t.equal(fs.readFileSync(p('a'), 'latin1').slice(0, 3), '\0\0b');
  t.equal(await ops('lseek', p('a'), 'hole', '5'), '10000');
  t.equal(await ops('lseek', p('a'), 'data', '20000'), 'errno 6');
  t.equal(await ops('ioctl', p('a'), '0x80086601'), 'errno 25', 'unknown ioctl: ENOTTY');
  t.equal(await ops('ioctl', daemon.dir, '0x80086601'), 'errno 25', 'on a directory too');
  t.equal(await ops('copy-range', p('a'), p('copied')), '', 'COPY_FILE_RANGE: the kernel copies');
  t.equal(fs.statSync(p('copied')).size, 10_000);
  t.equal(await ops('setxattr', p('a'), 'user.one', 'value'), '');
  t.equal(await ops('setxattr', p('a'), 'user.one', 'v', '1'), 'errno 17', 'XATTR_CREATE');
  t.equal(await ops('setxattr', p('a'), 'user.two', 'v', '2'), 'errno 61', 'XATTR_REPLACE');
  t.equal(await ops('getxattr', p('a'), 'user.one'), 'value');
  t.equal(await ops('getxattr', p('a'), 'user.one', '2'), 'errno 34', 'too small a buffer');
  t.equal(await ops('listxattr', p('a')), 'user.one');
  t.equal(await ops('removexattr', p('a'), 'user.one'), '');
  t.equal(await ops('removexattr', p('a'), 'user.one'), 'errno 61');
  t.same((await ops('mmap-shared', p('mapped'))).split('\n'),
    ['mapping stored', 'direct read stored', 'after write wrote']);
  t.equal(fs.readFileSync(p('mapped')).subarray(4096, 4102).toString(), 'closed',
    'dirty pages are written when the mapping goes');
  const state = await daemon.state();
  t.equal(state.unexpected, 0);
});

t.test('offsets in a listing', { skip: noCc ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const dir = join(daemon.dir, 'd');
  fs.mkdirSync(dir);
  t.same((await ops('list', dir)).split('\n'), ['. 1 4', '.. 2 4'], 'an empty directory');
  for (const name of ['a', 'b', 'c', 'd']) fs.writeFileSync(join(dir, name), '');
  fs.unlinkSync(join(dir, 'a'));
  fs.unlinkSync(join(dir, 'c'));
  t.same((await ops('list', dir)).split('\n'), ['. 1 4', '.. 3 4', 'b 5 8', 'd 6 8'],
    'each offset is the position of the next existing entry');
});
