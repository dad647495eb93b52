/**
 * System calls at offsets where numbers are not exact, and at the end of all files, on
 * a real mount of the in-memory file system.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fuseMissing, mountMemfs, ops, opsHelper } from './harness.js';

const missing = fuseMissing() ?? (opsHelper() === null ? 'no C compiler' : null);
const FAR = 2n ** 62n;
const END = 2n ** 63n - 1n;
const EINVAL = 'errno 22';
const EFBIG = 'errno 27';

function sizeOf(path: string): bigint {
  return fs.statSync(path, { bigint: true }).size;
}

t.test('read, write, seek', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  for (const at of [2n ** 53n - 3n, 2n ** 53n + 1n, FAR, END - 9n]) {
    const f = join(daemon.dir, `at-${at}`);
    t.equal(await ops('pwrite', f, 'far away', String(at)), '8');
    t.equal(sizeOf(f), at + 8n, 'size');
    t.equal(await ops('pread', f, 'direct', String(at)), 'far away');
    t.equal(await ops('pread', f, 'cached', String(at + 1n)), 'ar away', 'through the page cache');
    t.equal(await ops('lseek', f, 'data', String(at + 2n)), String(at + 2n));
    t.equal(await ops('lseek', f, 'hole', String(at)), String(at + 8n));
    t.equal(await ops('lseek', f, 'data', String(at + 8n)), 'errno 6');
  }
  t.equal((await daemon.state()).unexpected, 0);
});

t.test('the end of all files', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const f = join(daemon.dir, 'f');
  t.equal(await ops('pwrite', f, 'ab', String(END - 2n)), '2');
  t.equal(sizeOf(f), END);
  t.equal(await ops('pread', f, 'direct', String(END - 2n)), 'ab');
  t.equal(await ops('pread', f, 'cached', String(END - 2n)), 'ab', 'the last page');
  t.equal(await ops('pwrite', f, 'x', String(END)), EINVAL, 'no file system is asked');
  for (const size of [2n ** 53n + 1n, END, FAR + 3n, 5n]) {
    t.equal(await ops('truncate', f, '-', String(size)), '');
    t.equal(sizeOf(f), size);
  }
  t.equal(await ops('fallocate', f, '0', String(END - 4096n), '4096'), '');
  t.equal(sizeOf(f), END);
  t.equal(await ops('fallocate', f, '0', String(END - 4096n), '4097'), EFBIG);
  t.equal((await daemon.state()).unexpected, 0);
});

t.test('appending behind what the kernel knows', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const f = join(daemon.dir, 'f');
  t.equal(await ops('pwrite', f, 'one.', String(FAR)), '4');
  const { ino } = fs.statSync(f);
  const fd = fs.openSync(f, fs.constants.O_WRONLY | fs.constants.O_APPEND);
  await daemon.call('append', { ino, bytes: [...Buffer.from('two.')] });
  fs.writeSync(fd, 'three');
  fs.closeSync(fd);
  t.equal(sizeOf(f), FAR + 13n);
  t.equal(await ops('pread', f, 'cached', String(FAR)), 'one.two.three');
  t.ok(((await daemon.state()).drain['stores'] ?? 0) > 0, 'the kernel was told the size first');
});
