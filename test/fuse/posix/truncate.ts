/**
 * truncate(2), ftruncate(2): every alignment, zeros behind the old end, sizes up to the
 * largest, and the errors of both.
 */
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const MAX = 2n ** 63n - 1n;

/** Bytes that say where they are, never 0. */
function pattern(n: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: n }, (_, i) => 1 + (i * 7 + (i >> 8)) % 255));
}

export function truncate(x: Area): void {
  x.both('tails are zero', (t, d) => {
    const whole = pattern(20_000);
    const p = `${d}/f`;
    for (const size of [0, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193, 12_288, 19_999]) {
      for (const grown of [size, size + 1, 8192, 12_289, 20_000, 65_536]) {
        if (grown < size) continue;
        put(p, whole);
        c.ok(c.truncate(p, size));
        c.ok(c.truncate(p, grown));
        const got = Buffer.from(get(p), 'latin1');
        const want = Buffer.alloc(grown);
        whole.copy(want, 0, 0, size);
        if (!got.equals(want)) t.fail(`${size} then ${grown}`);
      }
    }
    put(p, whole);
    const fd = fdOf(p, c.O.RDWR);
    c.ok(c.ftruncate(fd, 5000));
    c.ok(c.pwrite(fd, 'x', 9000));
    const got = Buffer.alloc(4096);
    t.equal(c.pread(fd, got, 4096, 5000), 4001);
    t.ok(got.subarray(0, 4000).every((b) => b === 0), 'a write behind the end leaves zeros');
    c.close(fd);
  });

  x.root('through the page cache and maps', (t, d) => {
    const p = `${d}/f`;
    put(p, pattern(8192));
    const r = fdOf(p, c.O.RDONLY);
    const buf = Buffer.alloc(8192);
    t.equal(c.pread(r, buf, 8192, 0), 8192);
    c.ok(c.truncate(p, 100));
    t.equal(c.pread(r, buf, 8192, 0), 100, 'cached readers see the new size');
    c.ok(c.truncate(p, 8192));
    t.equal(c.pread(r, buf, 8192, 0), 8192);
    t.ok(buf.subarray(100).every((b) => b === 0));
    c.close(r);
    const fd = fdOf(p, c.O.RDWR);
    const at = c.mmap(fd, 8192, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
    if (typeof at === 'string') throw new Error(at);
    c.poke(at, pattern(8192));
    c.ok(c.ftruncate(fd, 4100));
    c.ok(c.ftruncate(fd, 8192));
    t.ok(c.peek(at + 4100n, 8192 - 4100).every((b) => b === 0), 'a map shows zeros');
    t.ok(c.peek(at, 4100).equals(pattern(4100)));
    c.munmap(at, 8192);
    c.close(fd);
  });

  x.both('times, blocks', (t, d) => {
    const p = `${d}/f`;
    put(p, pattern(12_288));
    const was = c.lstat(p);
    tick();
    t.equal(c.truncate(p, 4097), 0);
    const cut = c.lstat(p);
    t.strictSame([cut.size, cut.blocks], [4097n, 16]);
    t.ok(cut.mtime > was.mtime && cut.ctime === cut.mtime && cut.atime === was.atime);
    tick();
    t.equal(c.truncate(p, 4097), 0, 'the same size');
    t.ok(c.lstat(p).mtime > cut.mtime, 'is a change of its time as well');
    t.equal(c.truncate(p, 1_000_000), 0);
    t.strictSame([c.lstat(p).size, c.lstat(p).blocks], [1_000_000n, 16], 'a hole');
    t.equal(c.truncate(p, 0), 0);
    t.strictSame([c.lstat(p).size, c.lstat(p).blocks], [0n, 0]);
  });

  x.both('errors', (t, d) => {
    const p = `${d}/f`;
    put(p, 'data');
    c.ok(c.mkdir(`${d}/dir`));
    c.ok(c.mknod(`${d}/fifo`, c.S.IFIFO | 0o644));
    t.equal(c.truncate(p, -1), 'EINVAL');
    t.equal(c.truncate(`${d}/dir`, 0), 'EISDIR');
    t.equal(c.truncate(`${d}/fifo`, 0), 'EINVAL');
    t.equal(c.truncate(`${p}/`, 0), 'ENOTDIR');
    const fd = fdOf(p, c.O.RDWR);
    t.equal(c.ftruncate(fd, -1), 'EINVAL');
    c.close(fd);
    t.equal(c.ftruncate(fd, 0), 'EBADF');
    t.equal(c.lstat(p).size, 4n);
  });

  x.root('permission', (t, d) => {
    const p = `${d}/f`;
    put(p, 'data');
    c.ok(c.chown(p, OTHER.uid, OTHER.gid));
    t.equal(c.as(USER, () => c.truncate(p, 0)), 'EACCES');
    c.ok(c.chmod(p, 0o646));
    t.equal(c.as(USER, () => c.truncate(p, 2)), 0);
    c.ok(c.chmod(p, 0o444));
    t.equal(c.as(OTHER, () => c.truncate(p, 0)), 'EACCES');
    const fd = c.as(OTHER, () => {
      c.ok(c.chmod(p, 0o644));
      const w = fdOf(p, c.O.WRONLY);
      c.ok(c.chmod(p, 0));
      return w;
    });
    t.equal(c.as(OTHER, () => c.ftruncate(fd, 1)), 0, 'what was open for writing stays so');
    t.equal(c.lstat(p).size, 1n);
    c.close(fd);
  });

  x.both('the largest sizes', (t, d) => {
    const p = `${d}/f`;
    put(p, 'begin');
    t.equal(c.truncate(p, MAX), 0);
    t.equal(c.lstat(p).size, MAX);
    const fd = fdOf(p, c.O.RDWR);
    const buf = Buffer.alloc(16);
    t.equal(c.pread(fd, buf, 10, MAX - 10n), 10, 'up to the end');
    t.ok(buf.every((b) => b === 0));
    t.equal(c.pread(fd, buf, 16, MAX - 10n), 'EINVAL', 'Linux lets no request pass 2^63');
    t.equal(c.pread(fd, buf, 5, 0), 5);
    t.equal(buf.toString('latin1', 0, 5), 'begin');
    t.equal(c.pwrite(fd, 'end', MAX - 3n), 3);
    t.equal(c.pread(fd, buf, 5, MAX - 5n), 5);
    t.equal(buf.toString('latin1', 0, 5), '\0\0end');
    t.equal(c.pwrite(fd, 'beyond', MAX), 'EINVAL');
    t.equal(c.lseek(fd, MAX - 2n, c.SEEK.SET), MAX - 2n);
    t.equal(c.pwrite(fd, 'nd', MAX - 2n), 2, 'what fits');
    t.equal(c.lseek(fd, 0, c.SEEK.END), MAX);
    t.equal(c.lseek(fd, 1, c.SEEK.END), 'EINVAL');
    t.equal(c.lstat(p).blocks, 16, 'two blocks are all that it has');
    t.equal(c.ftruncate(fd, 2n ** 53n + 4097n), 0);
    t.equal(c.pwrite(fd, 'mid', 2n ** 53n + 4094n), 3);
    t.equal(c.pread(fd, buf, 16, 2n ** 53n + 4093n), 4);
    t.equal(buf.toString('latin1', 0, 4), '\0mid');
    t.equal(c.ftruncate(fd, 5), 0);
    t.equal(c.lstat(p).blocks, 8);
    c.close(fd);
    t.equal(get(p), 'begin');
  });
}
