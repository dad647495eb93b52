/**
 * mkdir(2) and rmdir(2): counts, sizes, owners, and every error of both.
 */
import * as c from '../../lib/syscalls.js';
import { put, tick } from './kit.js';
import type { Area } from './kit.js';

export function mkdir(x: Area): void {
  x.both('a directory', (t, d, who) => {
    const before = c.lstat(d);
    tick();
    t.equal(c.mkdir(`${d}/s`, 0o1751), 0);
    const s = c.lstat(`${d}/s`);
    t.strictSame([s.type, s.perm, s.nlink, s.size, s.uid, s.gid, s.blocks],
      [c.S.IFDIR, 0o1751, 2, 0n, who.uid, who.gid, 0]);
    const after = c.lstat(d);
    t.strictSame([after.nlink, after.size], [3, 1n], 'nlink counts it, size has its name');
    t.ok(after.mtime > before.mtime && after.ctime === after.mtime, 'the parent changed');
    t.ok(s.mtime === s.ctime && s.atime === s.ctime && s.btime === s.ctime);
    t.equal(c.mkdir(`${d}/s`), 'EEXIST');
    t.equal(c.mkdir(`${d}/s/`), 'EEXIST');
    t.equal(c.mkdir(`${d}/.`), 'EEXIST');
    t.equal(c.mkdir(`${d}/..`), 'EEXIST');
    t.equal(c.mkdir(`${d}/s/t/`), 0, 'a slash at the end is allowed');
    put(`${d}/f`);
    c.ok(c.symlink('nowhere', `${d}/l`));
    for (const n of ['f', 'l']) t.equal(c.mkdir(`${d}/${n}`), 'EEXIST');
    t.equal(c.mkdir(`${d}/f/`), 'EEXIST');
    t.equal(c.lstat(`${d}/s/..`).ino, after.ino);
    t.equal(c.lstat(`${d}/s/t/..`).ino, s.ino);
  });

  x.both('rmdir', (t, d) => {
    c.ok(c.mkdir(`${d}/s`));
    c.ok(c.mkdir(`${d}/s/t`));
    put(`${d}/f`);
    c.ok(c.symlink('s', `${d}/l`));
    t.equal(c.rmdir(`${d}/s`), 'ENOTEMPTY');
    t.equal(c.rmdir(`${d}/f`), 'ENOTDIR');
    t.equal(c.rmdir(`${d}/l`), 'ENOTDIR');
    t.equal(c.rmdir(`${d}/l/`), 'ENOTDIR');
    t.equal(c.rmdir(`${d}/s/t/.`), 'EINVAL');
    t.equal(c.rmdir(`${d}/s/t/..`), 'ENOTEMPTY');
    t.equal(c.rmdir(`${d}/none`), 'ENOENT');
    t.equal(c.unlink(`${d}/s`), 'EISDIR');
    t.equal(c.lstat(`${d}/s`).nlink, 3);
    const before = c.lstat(d);
    tick();
    t.equal(c.rmdir(`${d}/s/t`), 0);
    t.equal(c.lstat(`${d}/s`).nlink, 2);
    t.equal(c.rmdir(`${d}/s/`), 0);
    const after = c.lstat(d);
    t.equal(after.nlink, 2);
    t.equal(after.size, before.size - 1n);
    t.ok(after.mtime > before.mtime && after.ctime > before.ctime);
  });

  x.both('a removed directory that is open', (t, d) => {
    c.ok(c.mkdir(`${d}/s`));
    const fd = c.ok(c.open(`${d}/s`, c.O.RDONLY));
    t.equal(c.rmdir(`${d}/s`), 0);
    t.equal(c.fstat(fd).nlink, 0);
    t.equal(c.openat(fd, 'new', c.O.CREAT | c.O.WRONLY), 'ENOENT');
    t.equal(c.linkat(-100, d, fd, 'x', 0), 'ENOENT');
    t.strictSame(c.getdents(fd), 'ENOENT', 'Linux lists dead directories no more');
    t.equal(c.fchmod(fd, 0o700), 0);
    t.equal(c.fstat(fd).perm, 0o700);
    c.close(fd);
  });

  x.root('mount point and root', (t) => {
    t.equal(c.rmdir(x.rig.mnt), 'EBUSY');
    t.equal(c.mkdir(x.rig.mnt), 'EEXIST');
    t.equal(c.lstat(x.rig.mnt).ino, 1, 'the root is inode 1');
    t.equal(c.rename(x.rig.mnt, `${x.rig.dir}/root`), 'EBUSY');
  });
}
