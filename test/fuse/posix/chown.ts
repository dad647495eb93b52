/**
 * chown(2): owners, groups, and the set-id bits that fall with a change.
 */
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, fdOf, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { S } = c;
const TYPES = { reg: S.IFREG, fifo: S.IFIFO, chr: S.IFCHR, blk: S.IFBLK, sock: S.IFSOCK };
const MEMBER: c.User = { uid: 65534, gid: 65533, groups: [65533, 65532] };

function makeAll(d: string): string[] {
  for (const [n, type] of Object.entries(TYPES)) c.ok(c.mknod(`${d}/${n}`, type | 0o644, 1, 1));
  c.ok(c.mkdir(`${d}/dir`));
  c.ok(c.symlink('reg', `${d}/lnk`));
  return [...Object.keys(TYPES), 'dir', 'lnk'].map((n) => `${d}/${n}`);
}

export function chown(x: Area): void {
  x.root('root changes everything', (t, d) => {
    for (const p of makeAll(d)) {
      const before = c.lstat(p);
      tick();
      t.equal(c.lchown(p, 123, 456), 0);
      t.equal(c.lchown(p, -1, 457), 0);
      t.equal(c.lchown(p, 124, -1), 0);
      const s = c.lstat(p);
      t.strictSame([s.uid, s.gid, s.mode, s.mtime], [124, 457, before.mode, before.mtime], p);
      t.ok(s.ctime > before.ctime);
      t.equal(c.lchown(p, 0xfffffffe, 0xfffffffe), 0);
      t.strictSame([c.lstat(p).uid, c.lstat(p).gid], [0xfffffffe, 0xfffffffe], 'the largest ids');
    }
    t.equal(c.chown(`${d}/lnk`, 7, 8), 0);
    t.strictSame([c.lstat(`${d}/reg`).uid, c.lstat(`${d}/lnk`).uid], [7, 0xfffffffe]);
    const fd = fdOf(`${d}/reg`, c.O.RDONLY);
    t.equal(c.fchown(fd, 9, 10), 0);
    t.strictSame([c.fstat(fd).uid, c.fstat(fd).gid], [9, 10]);
    c.close(fd);
  });

  x.root('what owners may', (t, d) => {
    for (const p of makeAll(d)) {
      c.ok(c.lchown(p, USER.uid, USER.gid));
      const is = (u: c.User, uid: number, gid: number, want: c.Res): void => {
        t.equal(c.as(u, () => c.lchown(p, uid, gid)), want,
          `${p}: ${u.uid} makes it ${uid}:${gid}`);
      };
      is(MEMBER, 65534, 65532, 0);
      t.equal(c.lstat(p).gid, 65532);
      is(MEMBER, -1, 65533, 0);
      is(MEMBER, 65534, -1, 0);
      is(MEMBER, -1, -1, 0);
      is(MEMBER, OTHER.uid, -1, 'EPERM');
      is(MEMBER, 65534, OTHER.gid, 'EPERM');
      is(OTHER, OTHER.uid, -1, 'EPERM');
      is(OTHER, -1, OTHER.gid, 'EPERM');
      t.strictSame([c.lstat(p).uid, c.lstat(p).gid], [65534, 65533]);
    }
  });

  x.root('set-id bits', (t, d) => {
    for (const p of makeAll(d).filter((n) => !n.endsWith('lnk'))) {
      const isDir = p.endsWith('dir');
      for (const who of [c.ROOT, MEMBER]) {
        c.ok(c.lchown(p, 65534, 65533));
        c.ok(c.chmod(p, 0o6555));
        t.equal(c.as(who, () => c.chown(p, 65534, 65532)), 0);
        t.equal(c.lstat(p).perm, isDir ? 0o6555 : 0o555, `${p}, by ${who.uid}`);
        c.ok(c.lchown(p, 65534, 65533));
        c.ok(c.chmod(p, 0o6555));
        t.equal(c.as(who, () => c.chown(p, 65534, -1)), 0, 'to the same owner');
        t.equal(c.lstat(p).perm, isDir ? 0o6555 : 0o555, `${p}, same owner, by ${who.uid}`);
        c.ok(c.chmod(p, 0o1755));
        t.equal(c.as(who, () => c.chown(p, 65534, 65532)), 0);
        t.equal(c.lstat(p).perm, 0o1755, 'other bits stay');
      }
      c.ok(c.lchown(p, 65534, 65533));
      c.ok(c.chmod(p, 0o6744));
      t.equal(c.chown(p, 65534, 65532), 0);
      t.equal(c.lstat(p).perm, isDir ? 0o6744 : 0o2744,
        `${p}: set-gid without group execution stays for root`);
    }
  });

  x.root('set-gid without group execution', (t, d) => {
    put(`${d}/f`);
    c.ok(c.lchown(`${d}/f`, 65534, 65533));
    c.ok(c.chmod(`${d}/f`, 0o2744));
    t.equal(c.as(MEMBER, () => c.chown(`${d}/f`, -1, 65532)), 0);
    t.equal(c.lstat(`${d}/f`).perm, 0o2744, 'stays for a member of the group');
  });
}
