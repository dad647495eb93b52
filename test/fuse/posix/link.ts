/**
 * link(2), linkat(2), unlink(2), unlinkat(2).
 */
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { S } = c;

export function link(x: Area): void {
  x.root('links of every type', (t, d) => {
    const types = { reg: S.IFREG, fifo: S.IFIFO, chr: S.IFCHR, blk: S.IFBLK, sock: S.IFSOCK };
    for (const [name, type] of Object.entries(types)) {
      const [a, b, e] = [`${d}/${name}`, `${d}/${name}2`, `${d}/${name}3`];
      c.ok(c.mknod(a, type | 0o644, 1, 1));
      tick();
      const before = c.lstat(d);
      const was = c.lstat(a);
      tick();
      t.equal(c.link(a, b), 0);
      const [sa, sb] = [c.lstat(a), c.lstat(b)];
      t.strictSame(sa, sb, 'both names show one inode');
      t.equal(sa.nlink, 2);
      t.ok(sa.ctime > was.ctime && sa.mtime === was.mtime, 'only ctime');
      const after = c.lstat(d);
      t.ok(after.mtime > before.mtime && after.mtime === after.ctime);
      t.equal(c.link(b, e), 0);
      t.equal(c.unlink(a), 0);
      t.equal(c.lstat(b).nlink, 2);
      t.ok(c.lstat(b).ctime > sa.ctime);
      t.equal(c.chmod(e, 0o600), 0);
      t.equal(c.lstat(b).perm, 0o600);
      t.equal(c.unlink(b), 0);
      t.equal(c.unlink(e), 0);
      t.equal(c.unlink(e), 'ENOENT');
    }
  });

  x.both('errors', (t, d) => {
    put(`${d}/f`, 'x');
    put(`${d}/g`, 'y');
    c.ok(c.mkdir(`${d}/s`));
    t.equal(c.link(`${d}/s`, `${d}/t`), 'EPERM', 'a directory');
    t.equal(c.link(`${d}/f`, `${d}/g`), 'EEXIST');
    t.equal(c.link(`${d}/f`, `${d}/s`), 'EEXIST');
    t.equal(c.link(`${d}/f`, `${d}/f`), 'EEXIST');
    t.equal(c.link(`${d}/none`, `${d}/x`), 'ENOENT');
    t.equal(c.link(`${d}/f`, `${d}/x/`), 'ENOENT');
    t.equal(c.link(`${d}/f/`, `${d}/x`), 'ENOTDIR');
    t.equal(c.link(`${d}/f`, `${x.rig.dir}/x`), 'EXDEV');
    t.equal(c.lstat(`${d}/f`).nlink, 1);
    t.equal(c.unlink(`${d}/s`), 'EISDIR');
    t.equal(c.unlink(`${d}/s/`), 'EISDIR');
    t.equal(c.unlink(`${d}/f/`), 'ENOTDIR');
    t.equal(c.unlink(`${d}/.`), 'EISDIR');
    const fd = fdOf(d, c.O.RDONLY);
    t.equal(c.linkat(fd, 'f', fd, 'f2', 0), 0);
    t.equal(c.linkat(fd, 'f', fd, 'f3', 0x40000), 'EINVAL', 'an unknown flag');
    t.equal(c.unlinkat(fd, 'f2', 0), 0);
    t.equal(c.unlinkat(fd, 's', c.AT_REMOVEDIR), 0);
    c.close(fd);
  });

  x.both('an unlinked open file', (t, d) => {
    const p = `${d}/f`;
    put(p, 'contents');
    const fd = fdOf(p, c.O.RDWR);
    const before = c.fstat(fd);
    tick();
    t.equal(c.unlink(p), 0);
    t.equal(c.lstatErr(p), 'ENOENT');
    const s = c.fstat(fd);
    t.equal(s.nlink, 0);
    t.ok(s.ctime > before.ctime);
    t.equal(c.linkat(-100, `/proc/self/fd/${fd}`, -100, p, c.AT_SYMLINK_FOLLOW), 'ENOENT',
      'it cannot come back');
    t.equal(c.pwrite(fd, 'CON', 0), 3);
    t.equal(c.pwrite(fd, 'far', 100_000), 3);
    t.equal(c.fchmod(fd, 0o600), 0);
    t.equal(c.futimens(fd, [[1, 2], [3, 4]]), 0);
    t.equal(c.ftruncate(fd, 8), 0);
    t.equal(c.fallocate(fd, 0, 0, 20_000), 0);
    const buf = Buffer.alloc(8);
    t.equal(c.pread(fd, buf, 8, 0), 8);
    t.equal(buf.toString(), 'CONtents');
    const at = c.mmap(fd, 4096, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
    if (typeof at === 'string') throw new Error(at);
    c.poke(at, 'map');
    t.equal(c.msync(at, 4096, c.MS.SYNC), 0);
    t.equal(c.pread(fd, buf, 8, 0), 8);
    t.equal(buf.toString(), 'maptents');
    c.munmap(at, 4096);
    t.equal(c.fsync(fd), 0);
    const { perm, atime, size } = c.fstat(fd);
    t.strictSame([perm, atime, size], [0o600, 1_000_000_002n, 20_000n]);
    put(p, 'a new file of that name');
    t.not(c.lstat(p).ino, s.ino);
    t.equal(c.pread(fd, buf, 8, 0), 8);
    c.close(fd);
    t.equal(get(p), 'a new file of that name');
  });

  x.root('many links, and other owners', (t, d) => {
    put(`${d}/f`, 'x', 0o666);
    for (let i = 0; i < 300; i++) if (c.link(`${d}/f`, `${d}/l${i}`) !== 0) t.fail(`link ${i}`);
    t.equal(c.lstat(`${d}/f`).nlink, 301);
    for (let i = 0; i < 300; i += 2) c.ok(c.unlink(`${d}/l${i}`));
    t.equal(c.lstat(`${d}/f`).nlink, 151);
    c.ok(c.chmod(d, 0o777));
    put(`${d}/secret`, 'x', 0o600);
    c.ok(c.chown(`${d}/secret`, OTHER.uid, OTHER.gid));
    const guarded = get('/proc/sys/fs/protected_hardlinks').trim() === '1';
    t.equal(c.as(USER, () => c.link(`${d}/secret`, `${d}/mine`)), guarded ? 'EPERM' : 0);
    t.equal(c.as(USER, () => c.link(`${d}/f`, `${d}/fmine`)), 0, 'one may link what one may write');
  });
}
