/**
 * symlink(2) and readlink(2). A link's stored size has its NUL, as upstream's has.
 */
import * as c from '../../lib/syscalls.js';
import { get, put, tick } from './kit.js';
import type { Area } from './kit.js';

export function symlink(x: Area): void {
  x.both('targets of every length', (t, d) => {
    for (const len of [1, 2, 59, 60, 254, 255, 256, 895, 896, 897, 1791, 1792, 1793, 3583, 4094,
      4095]) {
      const target = 'abcdefghij'.repeat(410).slice(0, len);
      t.equal(c.symlink(target, `${d}/l${len}`), 0);
      t.equal(c.readlink(`${d}/l${len}`), target, `${len} bytes`);
      t.equal(c.lstat(`${d}/l${len}`).size, BigInt(len + 1), 'the size has the NUL');
    }
    t.equal(c.symlink('x'.repeat(4096), `${d}/long`), 'ENAMETOOLONG');
    t.equal(c.symlink('', `${d}/empty`), 'ENOENT');
    t.equal(c.lstatErr(`${d}/long`), 'ENOENT');
    for (const len of [1, 896, 4095]) t.equal(c.unlink(`${d}/l${len}`), 0);
  });

  x.both('a link is an inode', (t, d, who) => {
    put(`${d}/f`, 'target');
    tick();
    t.equal(c.symlink('f', `${d}/l`), 0);
    const s = c.lstat(`${d}/l`);
    t.strictSame([s.type, s.perm, s.nlink, s.uid, s.gid], [c.S.IFLNK, 0o777, 1, who.uid, who.gid]);
    t.ok(s.btime === s.ctime && s.mtime === s.ctime);
    t.equal(c.lstat(d).mtime, s.ctime, 'the parent changed with it');
    t.equal(get(`${d}/l`), 'target');
    t.equal(c.symlink('f', `${d}/l`), 'EEXIST');
    t.equal(c.symlink('x', `${d}/f`), 'EEXIST');
    t.equal(c.readlink(`${d}/f`), 'EINVAL');
    t.equal(c.readlink(d), 'EINVAL');
    t.equal(c.chmod(`${d}/l`, 0o600), 0, 'chmod follows');
    t.equal(c.lstat(`${d}/f`).perm, 0o600);
    t.equal(c.lstat(`${d}/l`).perm, 0o777);
    t.equal(c.link(`${d}/l`, `${d}/hard`), 0, 'link does not follow');
    t.equal(c.lstat(`${d}/hard`).nlink, 2);
    t.equal(c.readlink(`${d}/hard`), 'f');
    t.equal(c.linkat(-100, `${d}/l`, -100, `${d}/hard2`, c.AT_SYMLINK_FOLLOW), 0);
    t.equal(c.lstat(`${d}/hard2`).type, c.S.IFREG);
    t.equal(c.utimens(`${d}/l`, [[5, 0], [6, 7]], c.AT_SYMLINK_NOFOLLOW), 0);
    const own = c.lstat(`${d}/l`);
    t.strictSame([own.atime, own.mtime], [5_000_000_000n, 6_000_000_007n]);
    t.equal(c.rename(`${d}/l`, `${d}/l2`), 0);
    t.equal(c.unlink(`${d}/l2`), 0);
    t.equal(c.lstatErr(`${d}/f`), 0, 'the target stays');
    t.equal(c.symlink('/absolute/and/missing', `${d}/abs`), 0);
    t.equal(c.readlink(`${d}/abs`), '/absolute/and/missing');
    t.equal(c.statErr(`${d}/abs`), 'ENOENT');
    c.ok(c.mkdir(`${d}/s`));
    c.ok(c.symlink('s', `${d}/ls`));
    t.equal(c.mkdir(`${d}/ls/inside`), 0);
    t.equal(c.lstatErr(`${d}/s/inside`), 0);
    t.equal(c.symlink('s', `${d}/new/`), 'ENOENT');
  });
}
