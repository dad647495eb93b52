/**
 * chmod(2): who may, which bits stay, and what a group membership has to do with it.
 */
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { S } = c;

export function chmod(x: Area): void {
  x.root('every bit of every type', (t, d) => {
    const types = { reg: S.IFREG, fifo: S.IFIFO, chr: S.IFCHR, blk: S.IFBLK, sock: S.IFSOCK };
    for (const [n, type] of Object.entries(types)) c.ok(c.mknod(`${d}/${n}`, type | 0o644, 1, 1));
    c.ok(c.mkdir(`${d}/dir`));
    for (const n of [...Object.keys(types), 'dir']) {
      const p = `${d}/${n}`;
      for (let bit = 0; bit < 12; bit++) {
        t.equal(c.chmod(p, 1 << bit), 0);
        t.equal(c.lstat(p).perm, 1 << bit, `${n} ${(1 << bit).toString(8)}`);
      }
      const before = c.lstat(p);
      tick();
      t.equal(c.chmod(p, 0o7777), 0);
      const after = c.lstat(p);
      t.strictSame([after.mode, after.size, after.mtime, after.atime],
        [before.type | 0o7777, before.size, before.mtime, before.atime]);
      t.ok(after.ctime > before.ctime);
    }
    put(`${d}/f`);
    const fd = fdOf(`${d}/f`, c.O.RDONLY);
    t.equal(c.fchmod(fd, 0o123), 0);
    t.equal(c.fstat(fd).perm, 0o123);
    c.close(fd);
    c.ok(c.symlink('f', `${d}/l`));
    t.equal(c.chmod(`${d}/l`, 0o321), 0);
    t.equal(c.lstat(`${d}/f`).perm, 0o321);
    t.equal(c.lstat(`${d}/l`).perm, 0o777);
  });

  x.root('only the owner', (t, d) => {
    put(`${d}/f`, '', 0o666);
    const before = c.lstat(`${d}/f`);
    t.equal(c.as(USER, () => c.chmod(`${d}/f`, 0o777)), 'EPERM');
    t.strictSame(c.lstat(`${d}/f`), before, 'nothing changed');
    c.ok(c.chown(`${d}/f`, USER.uid, USER.gid));
    t.equal(c.as(USER, () => c.chmod(`${d}/f`, 0)), 0);
    t.equal(c.as(USER, () => c.chmod(`${d}/f`, 0o600)), 0, 'without any permission bit');
    t.equal(c.as(OTHER, () => c.chmod(`${d}/f`, 0o600)), 'EPERM');
  });

  x.root('set-gid needs membership', (t, d) => {
    const bits = (u: c.User, gid: number, isDir: boolean): number => {
      const p = `${d}/x`;
      if (isDir) c.ok(c.mkdir(p));
      else put(p);
      c.ok(c.chown(p, u.uid, gid));
      t.equal(c.as(u, () => c.chmod(p, 0o2755)), 0);
      const { perm } = c.lstat(p);
      if (isDir) c.ok(c.rmdir(p));
      else c.ok(c.unlink(p));
      return perm;
    };
    for (const isDir of [false, true]) {
      t.equal(bits(USER, USER.gid, isDir), 0o2755, 'a member');
      t.equal(bits({ uid: 5, gid: 5, groups: [9] }, 9, isDir), 0o2755, 'a supplementary group');
      t.equal(bits(USER, OTHER.gid, isDir), 0o755, 'no member: the bit is dropped');
      t.equal(bits(c.ROOT, OTHER.gid, isDir), 0o2755, 'root');
    }
    put(`${d}/s`);
    c.ok(c.chown(`${d}/s`, USER.uid, USER.gid));
    t.equal(c.as(USER, () => c.chmod(`${d}/s`, 0o1644)), 0, 'the sticky bit needs nothing');
    t.equal(c.lstat(`${d}/s`).perm, 0o1644);
  });

  x.root('permission takes effect at once', (t, d) => {
    put(`${d}/f`, 'x', 0o600);
    c.ok(c.chmod(d, 0o755));
    for (let i = 0; i < 20; i++) {
      c.ok(c.chmod(`${d}/f`, i % 2 === 0 ? 0o644 : 0o600));
      t.equal(c.as(USER, () => c.touch(`${d}/f`, c.O.RDONLY)), i % 2 === 0 ? 0 : 'EACCES');
    }
    t.equal(get(`${d}/f`), 'x');
    t.equal(c.chmod(`${d}/f/`, 0o600), 'ENOTDIR');
  });
}
