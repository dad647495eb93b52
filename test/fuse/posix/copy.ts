/**
 * copy_file_range(2), sendfile(2), locks, leases, sync.
 */
import { spawnSync } from 'node:child_process';
import * as c from '../../lib/syscalls.js';
import { fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { F, LOCK, O } = c;

export function copy(x: Area): void {
  x.both('copy_file_range', (t, d) => {
    const data = Buffer.from(Uint8Array.from({ length: 20_000 }, (_, i) => 33 + i % 90))
      .toString('latin1');
    put(`${d}/a`, data);
    const a = fdOf(`${d}/a`, O.RDWR);
    const b = fdOf(`${d}/b`, O.CREAT | O.RDWR);
    tick();
    const was = c.fstat(b);
    t.equal(c.copyRange(a, 0, b, 0, 20_000), 20_000);
    t.equal(get(`${d}/b`), data);
    t.ok(c.fstat(b).mtime > was.mtime);
    t.equal(c.copyRange(a, 5000, b, 30_001, 1234), 1234, 'unaligned, behind the end');
    t.equal(get(`${d}/b`), `${data}${'\0'.repeat(10_001)}${data.slice(5000, 6234)}`);
    t.equal(c.copyRange(a, 19_990, b, 0, 100), 10, 'short at the end of the source');
    t.equal(c.copyRange(a, 20_000, b, 0, 100), 0);
    t.equal(c.copyRange(a, 0, a, 10_000, 5000), 5000, 'within one file');
    t.equal(get(`${d}/a`), data.slice(0, 10_000) + data.slice(0, 5000) + data.slice(15_000));
    t.equal(c.copyRange(a, 0, a, 100, 5000), 'EINVAL', 'overlapping');
    t.equal(c.copyRange(a, 0, b, 0, 10, 1), 'EINVAL', 'no flags exist');
    const r = fdOf(`${d}/b`, O.RDONLY);
    t.equal(c.copyRange(a, 0, r, 0, 10), 'EBADF');
    const w = fdOf(`${d}/a`, O.WRONLY);
    t.equal(c.copyRange(w, 0, b, 0, 10), 'EBADF');
    const app = fdOf(`${d}/b`, O.WRONLY | O.APPEND);
    t.equal(c.copyRange(a, 0, app, 0, 10), 'EBADF');
    const dir = fdOf(d, O.RDONLY);
    t.equal(c.copyRange(dir, 0, b, 0, 10), 'EISDIR');
    for (const fd of [a, b, r, w, app, dir]) c.close(fd);
  });

  x.both('sendfile', (t, d) => {
    put(`${d}/a`, 'x'.repeat(100_000));
    const a = fdOf(`${d}/a`, O.RDONLY);
    const b = fdOf(`${d}/b`, O.CREAT | O.RDWR);
    t.equal(c.sendfile(b, a, 10, 70_000), 70_000);
    t.equal(get(`${d}/b`), 'x'.repeat(70_000));
    c.close(a);
    c.close(b);
  });

  x.both('flock', (t, d) => {
    put(`${d}/f`);
    const [a, b, e] = [fdOf(`${d}/f`, O.RDONLY), fdOf(`${d}/f`, O.RDONLY), fdOf(`${d}/f`, O.RDWR)];
    t.equal(c.flock(a, LOCK.SH), 0);
    t.equal(c.flock(b, LOCK.SH), 0);
    t.equal(c.flock(e, LOCK.EX | LOCK.NB), 'EAGAIN');
    t.equal(c.flock(a, LOCK.UN), 0);
    t.equal(c.flock(b, LOCK.EX | LOCK.NB), 0, 'upgraded');
    t.equal(c.flock(e, LOCK.SH | LOCK.NB), 'EAGAIN');
    c.close(b);
    t.equal(c.flock(e, LOCK.EX | LOCK.NB), 0, 'closing unlocks');
    const other = spawnSync('flock', ['-n', `${d}/f`, 'true']);
    t.equal(other.status, 1, 'another process waits for it');
    c.close(a);
    c.close(e);
    t.equal(spawnSync('flock', ['-n', `${d}/f`, 'true']).status, 0);
  });

  x.both('fcntl locks', (t, d) => {
    put(`${d}/f`, 'x'.repeat(100));
    const a = fdOf(`${d}/f`, O.RDWR);
    const b = fdOf(`${d}/f`, O.RDWR);
    t.equal(c.lockRange(a, F.OFD_SETLK, F.WRLCK, 10, 10), 0);
    t.equal(c.lockRange(b, F.OFD_SETLK, F.RDLCK, 15, 10), 'EAGAIN');
    t.equal(c.lockRange(b, F.OFD_GETLK, F.RDLCK, 15, 10), F.WRLCK);
    t.equal(c.lockRange(b, F.OFD_SETLK, F.WRLCK, 20, 10), 0, 'beside it');
    t.equal(c.lockRange(a, F.OFD_SETLK, F.UNLCK, 12, 4), 0, 'split');
    t.equal(c.lockRange(b, F.OFD_SETLK, F.RDLCK, 12, 4), 0);
    t.equal(c.lockRange(b, F.OFD_SETLK, F.RDLCK, 16, 1), 'EAGAIN');
    t.equal(c.lockRange(a, F.SETLK, F.WRLCK, 50, 0), 0, 'to the end, by process');
    t.equal(c.lockRange(a, F.GETLK, F.WRLCK, 50, 1), F.UNLCK, 'not in the way of its owner');
    t.equal(c.lockRange(a, F.SETLK, F.WRLCK, -1, 5), 'EINVAL');
    const r = fdOf(`${d}/f`, O.RDONLY);
    t.equal(c.lockRange(r, F.OFD_SETLK, F.WRLCK, 80, 1), 'EBADF');
    for (const fd of [a, b, r]) c.close(fd);
  });

  x.both('leases', (t, d) => {
    const broken = (): void => undefined;
    process.on('SIGIO', broken);
    put(`${d}/f`);
    const r = fdOf(`${d}/f`, O.RDONLY);
    t.equal(c.fcntl(r, F.SETLEASE, F.RDLCK), 0);
    t.equal(c.fcntl(r, F.GETLEASE), F.RDLCK);
    t.equal(c.touch(`${d}/f`, O.RDONLY), 0, 'readers do not break it');
    t.equal(c.touch(`${d}/f`, O.WRONLY | O.NONBLOCK), 'EAGAIN', 'writers do');
    t.equal(c.fcntl(r, F.SETLEASE, F.UNLCK), 0);
    t.equal(c.touch(`${d}/f`, O.WRONLY | O.NONBLOCK), 0);
    c.close(r);
  });

  x.both('sync', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    c.ok(c.write(fd, 'x'));
    t.equal(c.fdatasync(fd), 0);
    t.equal(c.fsync(fd), 0);
    t.equal(c.fsync(fd), 0, 'nothing to do');
    t.equal(c.syncfs(fd), 0);
    c.close(fd);
    t.equal(c.fsync(fd), 'EBADF');
    const dir = fdOf(d, O.RDONLY);
    t.equal(c.fsync(dir), 0);
    t.equal(c.fdatasync(dir), 0);
    c.close(dir);
    const r = fdOf(`${d}/f`, O.RDONLY);
    t.equal(c.fsync(r), 0, 'a read-only handle');
    c.close(r);
    c.ok(c.mknod(`${d}/fifo`, c.S.IFIFO | 0o600));
    const fifo = fdOf(`${d}/fifo`, O.RDWR | O.NONBLOCK);
    t.equal(c.fsync(fifo), 'EINVAL');
    c.close(fifo);
  });
}
