/**
 * fallocate(2) and lseek(2) with SEEK_DATA and SEEK_HOLE. Only modes 0 and KEEP_SIZE exist;
 * all others answer EOPNOTSUPP and change nothing. Reserved blocks that nothing was written
 * to are not counted in st_blocks, as upstream's are not. data.md 7 and 9, inode.md 3.
 */
import * as c from '../../lib/syscalls.js';
import { fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const { O, SEEK } = c;
const MAX = 2n ** 63n - 1n;

export function fallocate(x: Area): void {
  x.both('mode 0', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    tick();
    const was = c.fstat(fd);
    t.equal(c.fallocate(fd, 0, 0, 10_000), 0);
    const s = c.fstat(fd);
    t.strictSame([s.size, s.blocks], [10_000n, 0]);
    t.equal(s.mtime, was.mtime, 'times stay');
    t.equal(get(`${d}/f`), '\0'.repeat(10_000));
    t.equal(c.pwrite(fd, 'data', 5000), 4);
    t.equal(c.fallocate(fd, 0, 0, 100), 0);
    t.equal(c.fstat(fd).size, 10_000n, 'never shrinks');
    t.equal(c.fallocate(fd, 0, 20_000, 5000), 0);
    t.strictSame([c.fstat(fd).size, c.fstat(fd).blocks], [25_000n, 8], 'what was written counts');
    const all = get(`${d}/f`);
    t.equal(all.slice(5000, 5004), 'data', 'data stays');
    t.equal(all.replaceAll('\0', ''), 'data');
    c.close(fd);
  });

  x.both('KEEP_SIZE', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    c.ok(c.write(fd, 'abc'));
    t.equal(c.fallocate(fd, KEEP_SIZE, 0, 40_000), 0);
    t.strictSame([c.fstat(fd).size, c.fstat(fd).blocks], [3n, 8]);
    t.equal(c.pwrite(fd, 'end', 39_000), 3);
    t.strictSame([c.fstat(fd).size, c.fstat(fd).blocks], [39_003n, 16]);
    t.equal(get(`${d}/f`), `abc${'\0'.repeat(38_997)}end`);
    t.equal(c.ftruncate(fd, 3), 0);
    t.equal(c.fstat(fd).blocks, 8, 'truncation takes it away');
    t.equal(c.fallocate(fd, KEEP_SIZE, 4096, 4096), 0);
    t.equal(c.ftruncate(fd, 3), 0, 'truncation to the same size');
    t.equal(c.lseek(fd, 0, SEEK.HOLE), 3n);
    c.close(fd);
  });

  x.both('other modes', (t, d) => {
    put(`${d}/f`, 'x'.repeat(20_000));
    const fd = fdOf(`${d}/f`, O.RDWR);
    const before = c.fstat(fd);
    for (const mode of [PUNCH_HOLE | KEEP_SIZE, 0x08, 0x10, 0x11, 0x20, 0x40, 0x41]) {
      t.equal(c.fallocate(fd, mode, 4096, 8192), 'EOPNOTSUPP', `mode ${mode}`);
    }
    t.equal(c.fallocate(fd, PUNCH_HOLE, 4096, 8192), 'EOPNOTSUPP');
    t.strictSame(c.fstat(fd), before);
    t.equal(get(`${d}/f`), 'x'.repeat(20_000));
    c.close(fd);
  });

  x.both('errors', (t, d) => {
    put(`${d}/f`, 'x');
    const fd = fdOf(`${d}/f`, O.RDWR);
    t.equal(c.fallocate(fd, 0, 0, 0), 'EINVAL');
    t.equal(c.fallocate(fd, 0, -1, 10), 'EINVAL');
    t.equal(c.fallocate(fd, 0, 0, -1), 'EINVAL');
    t.equal(c.fallocate(fd, 0, MAX, 10), 'EFBIG');
    t.equal(c.fallocate(fd, 0, MAX - 4096n, 8192), 'EFBIG');
    c.close(fd);
    t.equal(c.fallocate(fd, 0, 0, 1), 'EBADF');
    const r = fdOf(`${d}/f`, O.RDONLY);
    t.equal(c.fallocate(r, 0, 0, 1), 'EBADF');
    c.close(r);
    const dir = fdOf(d, O.RDONLY);
    t.equal(c.fallocate(dir, 0, 0, 1), 'EBADF');
    c.close(dir);
    c.ok(c.mknod(`${d}/fifo`, c.S.IFIFO | 0o600));
    const fifo = fdOf(`${d}/fifo`, O.RDWR | O.NONBLOCK);
    t.equal(c.fallocate(fifo, 0, 0, 1), 'ESPIPE');
    c.close(fifo);
    t.equal(c.lstat(`${d}/f`).size, 1n);
  });

  x.both('far away', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    t.equal(c.fallocate(fd, 0, MAX - 8192n, 8192), 0);
    t.equal(c.fstat(fd).size, MAX);
    t.equal(c.pwrite(fd, 'x', MAX - 100n), 1);
    t.equal(c.fallocate(fd, KEEP_SIZE, 2 ** 40, 1), 0);
    t.equal(c.ftruncate(fd, 0), 0);
    t.equal(c.fstat(fd).blocks, 0);
    c.close(fd);
  });

  x.root('128 MiB at once', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    t.equal(c.fallocate(fd, 0, 0, 128 << 20), 0);
    t.strictSame([c.fstat(fd).size, c.fstat(fd).blocks], [BigInt(128 << 20), 0]);
    c.close(fd);
    t.equal(c.unlink(`${d}/f`), 0);
  });

  x.both('SEEK_DATA and SEEK_HOLE', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    t.equal(c.lseek(fd, 0, SEEK.DATA), 'ENXIO', 'an empty file');
    t.equal(c.lseek(fd, 0, SEEK.HOLE), 'ENXIO');
    c.ok(c.pwrite(fd, 'x'.repeat(4096), 8192));
    c.ok(c.pwrite(fd, 'y'.repeat(5000), 40_960));
    c.ok(c.ftruncate(fd, 100_000));
    const data = (at: number): bigint | string => c.lseek(fd, at, SEEK.DATA);
    const hole = (at: number): bigint | string => c.lseek(fd, at, SEEK.HOLE);
    t.strictSame([data(0), data(8192), data(9000), data(12_287), data(12_288), data(45_000)],
      [8192n, 8192n, 9000n, 12_287n, 40_960n, 45_000n]);
    t.strictSame([hole(0), hole(100), hole(8192), hole(12_287), hole(12_288), hole(40_960)],
      [0n, 100n, 12_288n, 12_288n, 12_288n, 49_152n]);
    t.equal(data(60_000), 'ENXIO', 'no data follows');
    t.equal(hole(99_999), 99_999n);
    t.equal(data(100_000), 'ENXIO');
    t.equal(hole(100_000), 'ENXIO');
    t.equal(c.lseek(fd, -1, SEEK.DATA), 'ENXIO');
    t.equal(c.lseek(fd, -1, SEEK.HOLE), 'ENXIO');
    t.equal(c.fallocate(fd, 0, 0, 100_000), 0);
    t.strictSame([data(0), hole(0)], [8192n, 0n], 'reserved blocks are holes');
    c.ok(c.ftruncate(fd, 10_000));
    t.strictSame([data(0), hole(8192)], [8192n, 10_000n], 'the end is a hole');
    c.ok(c.pwrite(fd, 'z', 2 ** 45));
    t.strictSame([data(20_000), hole(2 ** 45)], [BigInt(2 ** 45), BigInt(2 ** 45 + 1)]);
    c.close(fd);
    const dir = fdOf(d, O.RDONLY);
    t.equal(c.lseek(dir, 0, SEEK.SET), 0n);
    c.close(dir);
  });
}
