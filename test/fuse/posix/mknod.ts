/**
 * mknod(2) and mkfifo(3): types, device numbers, privileges.
 */
import * as c from '../../lib/syscalls.js';
import { USER, put } from './kit.js';
import type { Area } from './kit.js';

const { S } = c;

export function mknod(x: Area): void {
  x.both('what everybody may make', (t, d, who) => {
    const types = { fifo: S.IFIFO, sock: S.IFSOCK, reg: S.IFREG, none: 0 };
    for (const [name, type] of Object.entries(types)) {
      const p = `${d}/${name}`;
      t.equal(c.mknod(p, type | 0o6754), 0, name);
      const s = c.lstat(p);
      t.strictSame([s.type, s.perm, s.uid, s.gid, s.size, s.nlink, s.rdev],
        [type === 0 ? S.IFREG : type, 0o6754, who.uid, who.gid, 0n, 1, [0, 0]]);
      t.ok(s.atime === s.mtime && s.mtime === s.ctime && s.ctime === s.btime);
      t.equal(c.mknod(p, type | 0o644), 'EEXIST');
      t.equal(c.unlink(p), 0);
    }
    t.equal(c.mknod(`${d}/dir`, S.IFDIR | 0o755), 'EPERM');
    t.equal(c.mknod(`${d}/lnk`, S.IFLNK | 0o777), 'EINVAL');
    t.equal(c.mknod(`${d}/bad`, 0o030000 | 0o644), 'EINVAL');
    t.equal(c.mknod(`${d}/x/`, S.IFIFO | 0o644), 'ENOENT');
    put(`${d}/f`);
    t.equal(c.mknod(`${d}/f`, S.IFIFO | 0o644), 'EEXIST');
    t.equal(c.lstat(d).size, 1n, 'nothing else was left behind');
  });

  x.root('devices', (t, d) => {
    for (const type of [S.IFCHR, S.IFBLK]) {
      for (const [major, minor] of [[0, 0], [1, 3], [5, 300], [4095, 0xfffff], [8, 257]] as const) {
        const p = `${d}/d${type}-${major}-${minor}`;
        t.equal(c.mknod(p, type | 0o640, major, minor), 0);
        const s = c.lstat(p);
        t.strictSame([s.type, s.perm, s.rdev], [type, 0o640, [major, minor]]);
        t.equal(c.link(p, `${p}-link`), 0);
        t.equal(c.rename(p, `${p}-moved`), 0);
        t.strictSame(c.lstat(`${p}-link`).rdev, [major, minor]);
      }
    }
  });

  x.user('devices need privilege', (t, d) => {
    t.equal(c.mknod(`${d}/c`, S.IFCHR | 0o644, 1, 3), 'EPERM');
    t.equal(c.mknod(`${d}/b`, S.IFBLK | 0o644, 1, 3), 'EPERM');
    t.equal(c.lstatErr(`${d}/c`), 'ENOENT');
    t.equal(c.lstat(d).size, 0n);
    t.equal(c.lstat(d).uid, USER.uid);
  });
}
