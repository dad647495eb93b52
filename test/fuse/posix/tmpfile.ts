/**
 * O_TMPFILE: files without a name, and giving them one.
 */
import * as c from '../../lib/syscalls.js';
import { USER, fdOf, get, put } from './kit.js';
import type { Area } from './kit.js';

const { O } = c;
const CWD = -100;

export function tmpfile(x: Area): void {
  x.both('make, use, link', (t, d, who) => {
    const before = c.lstat(d);
    const fd = fdOf(d, O.TMPFILE | O.RDWR, 0o640);
    const s = c.fstat(fd);
    t.strictSame([s.type, s.perm, s.nlink, s.uid, s.gid, s.size],
      [c.S.IFREG, 0o640, 0, who.uid, who.gid, 0n]);
    const { mtime, ctime, size } = c.lstat(d);
    t.strictSame([mtime, ctime, size], [before.mtime, before.ctime, before.size],
      'the directory shows nothing');
    const dir = fdOf(d, O.RDONLY);
    t.strictSame(c.listAll(dir).map((e) => e.name), ['.', '..']);
    c.close(dir);
    t.equal(c.write(fd, 'temporary'), 9);
    const proc = `/proc/self/fd/${fd}`;
    put(`${d}/taken`);
    t.equal(c.linkat(CWD, proc, CWD, `${d}/taken`, c.AT_SYMLINK_FOLLOW), 'EEXIST');
    t.equal(c.linkat(CWD, proc, CWD, `${d}/none/x`, c.AT_SYMLINK_FOLLOW), 'ENOENT');
    t.equal(c.fstat(fd).nlink, 0);
    t.equal(c.linkat(CWD, proc, CWD, `${d}/named`, c.AT_SYMLINK_FOLLOW), 0);
    t.equal(c.fstat(fd).nlink, 1);
    t.equal(get(`${d}/named`), 'temporary');
    t.equal(c.linkat(CWD, proc, CWD, `${d}/named2`, c.AT_SYMLINK_FOLLOW), 0);
    t.equal(c.fstat(fd).nlink, 2);
    t.equal(c.unlink(`${d}/named`), 0);
    t.equal(c.unlink(`${d}/named2`), 0);
    t.equal(c.fstat(fd).nlink, 0);
    t.equal(c.write(fd, '!'), 1);
    t.equal(c.close(fd), 0);
  });

  x.root('AT_EMPTY_PATH', (t, d) => {
    const fd = fdOf(d, O.TMPFILE | O.WRONLY);
    t.equal(c.write(fd, 'x'), 1);
    t.equal(c.linkat(fd, '', CWD, `${d}/named`, c.AT_EMPTY_PATH), 0);
    t.equal(get(`${d}/named`), 'x');
    c.close(fd);
  });

  x.both('O_EXCL forbids a name', (t, d) => {
    const fd = fdOf(d, O.TMPFILE | O.EXCL | O.RDWR);
    t.equal(c.linkat(CWD, `/proc/self/fd/${fd}`, CWD, `${d}/x`, c.AT_SYMLINK_FOLLOW), 'ENOENT');
    t.equal(c.write(fd, 'x'), 1);
    c.close(fd);
  });

  x.both('errors', (t, d) => {
    put(`${d}/f`);
    t.equal(c.touch(`${d}/f`, O.TMPFILE | O.RDWR), 'ENOTDIR');
    t.equal(c.touch(d, O.TMPFILE | O.RDONLY), 'EINVAL');
    t.equal(c.touch(`${d}/none`, O.TMPFILE | O.RDWR), 'ENOENT');
  });

  x.root('permission, umask, set-gid', (t, d) => {
    c.ok(c.mkdir(`${d}/closed`, 0o755));
    t.equal(c.as(USER, () => c.touch(`${d}/closed`, O.TMPFILE | O.RDWR)), 'EACCES');
    for (const mask of [0o022, 0o077]) {
      process.umask(mask);
      const fd = fdOf(d, O.TMPFILE | O.RDWR, 0o777);
      process.umask(0);
      t.equal(c.fstat(fd).perm, 0o777 & ~mask);
      c.close(fd);
    }
    c.ok(c.mkdir(`${d}/sgid`));
    c.ok(c.chown(`${d}/sgid`, USER.uid, 777));
    c.ok(c.chmod(`${d}/sgid`, 0o2777));
    const fd = fdOf(`${d}/sgid`, O.TMPFILE | O.RDWR, 0o600);
    t.equal(c.fstat(fd).gid, 777);
    c.close(fd);
  });

  x.both('many at once', (t, d) => {
    const fds = Array.from({ length: 100 }, () => fdOf(d, O.TMPFILE | O.RDWR));
    fds.forEach((fd, i) => { c.ok(c.write(fd, `number ${i}`)); });
    fds.forEach((fd, i) => {
      if (i % 3 === 0) {
        c.ok(c.linkat(CWD, `/proc/self/fd/${fd}`, CWD, `${d}/t${i}`, c.AT_SYMLINK_FOLLOW));
      }
      c.close(fd);
    });
    t.strictSame(Array.from({ length: 34 }, (_, i) => get(`${d}/t${i * 3}`)),
      Array.from({ length: 34 }, (_, i) => `number ${i * 3}`));
  });
}
