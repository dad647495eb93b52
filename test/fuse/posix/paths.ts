/**
 * What every call that takes a path answers when the path is wrong: a table of calls times
 * a table of paths. Names of 255 bytes and paths of 4095 bytes work, one more does not;
 * links may be followed 40 times; search permission is asked in every directory and write
 * permission in the last, and the errors come in the order in which the walk meets them.
 */
import * as c from '../../lib/syscalls.js';
import { NAME_255, NAME_256, OTHER, ROOT, USER, put } from './kit.js';
import type { Area } from './kit.js';

interface Call {
  name: string;
  run(path: string, dir: string): c.Res;
  /** It makes the name: a missing last component is no error, an existing one is. */
  makes?: boolean;
  /** It changes the directory. */
  changes?: boolean;
  /** Never follows the last component when it is a link. */
  noFollow?: boolean;
}

export const CALLS: readonly Call[] = [
  { name: 'open', run: (p) => c.touch(p, c.O.RDONLY) },
  {
    name: 'open O_CREAT', run: (p) => c.touch(p, c.O.CREAT | c.O.EXCL | c.O.WRONLY), makes: true,
    changes: true, noFollow: true,
  },
  { name: 'mkdir', run: (p) => c.mkdir(p), makes: true, changes: true, noFollow: true },
  {
    name: 'mkfifo', run: (p) => c.mknod(p, c.S.IFIFO | 0o644), makes: true, changes: true,
    noFollow: true,
  },
  { name: 'symlink', run: (p) => c.symlink('x', p), makes: true, changes: true, noFollow: true },
  {
    name: 'link to', run: (p, d) => c.link(`${d}/file`, p), makes: true, changes: true,
    noFollow: true,
  },
  { name: 'link from', run: (p, d) => c.link(p, `${d}/new`), noFollow: true },
  { name: 'unlink', run: (p) => c.unlink(p), changes: true, noFollow: true },
  { name: 'rmdir', run: (p) => c.rmdir(p), changes: true, noFollow: true },
  { name: 'rename from', run: (p, d) => c.rename(p, `${d}/new`), changes: true, noFollow: true },
  {
    name: 'rename to', run: (p, d) => c.rename(`${d}/moved`, p), makes: true, changes: true,
    noFollow: true,
  },
  { name: 'chmod', run: (p) => c.chmod(p, 0o600) },
  { name: 'chown', run: (p) => c.chown(p, -1, -1) },
  { name: 'lchown', run: (p) => c.lchown(p, -1, -1), noFollow: true },
  { name: 'truncate', run: (p) => c.truncate(p, 1) },
  { name: 'utimensat', run: (p) => c.utimens(p, null) },
  { name: 'stat', run: (p) => c.statErr(p) },
  { name: 'lstat', run: (p) => c.lstatErr(p), noFollow: true },
  { name: 'access', run: (p) => c.access(p, c.ACCESS.F) },
  { name: 'readlink', run: (p) => errOf(c.readlink(p)), noFollow: true },
  { name: 'setxattr', run: (p) => c.setxattr(p, 'user.x', 'v'), noFollow: true },
];

function errOf(text: string): string {
  return /^E[A-Z0-9]+$/.test(text) ? text : '';
}

/** A path of exactly `len` bytes that leads to `last` in `dir` through "./" steps. */
function longPath(dir: string, last: string, len: number): string {
  let path = `${dir}/`;
  while (path.length + last.length + 2 <= len) path += './';
  return `${path}${'/'.repeat(len - path.length - last.length)}${last}`;
}

export function paths(x: Area): void {
  x.both('wrong paths', (t, d, who) => {
    put(`${d}/file`, 'x');
    put(`${d}/moved`, 'x');
    c.ok(c.symlink('loop2', `${d}/loop1`));
    c.ok(c.symlink('loop1', `${d}/loop2`));
    c.ok(c.mkdir(`${d}/noSearch`, who === ROOT ? 0o755 : 0));
    for (const call of CALLS) {
      const is = (path: string, want: string, what: string): void => {
        t.equal(call.run(path, d), want, `${call.name}: ${what}`);
      };
      is(`${d}/file/x`, 'ENOTDIR', 'a component is a file');
      is(`${d}/none/x`, 'ENOENT', 'a component is missing');
      is('', 'ENOENT', 'the empty path');
      is(`${d}/${NAME_256}`, 'ENAMETOOLONG', 'a name of 256 bytes');
      is(`${d}/${NAME_256}/x`, 'ENAMETOOLONG', 'a component of 256 bytes');
      is(longPath(d, 'none', 4096), 'ENAMETOOLONG', 'a path of 4096 bytes');
      is(`${d}/loop1/x`, 'ELOOP', 'a circle of links in the middle');
      if (call.noFollow !== true) is(`${d}/loop1`, 'ELOOP', 'a circle of links at the end');
      if (call.makes !== true) is(`${d}/none`, 'ENOENT', 'the last component is missing');
      if (who !== ROOT) is(`${d}/noSearch/x`, 'EACCES', 'no search permission');
    }
    if (who === ROOT) t.equal(c.rmdir(`${d}/noSearch`), 0);
  });

  x.both('names of 255 bytes and paths of 4095 bytes', (t, d) => {
    put(`${d}/${NAME_255}`, 'x');
    t.equal(c.lstat(`${d}/${NAME_255}`).size, 1n);
    t.equal(c.rename(`${d}/${NAME_255}`, `${d}/${'m'.repeat(255)}`), 0);
    t.equal(c.mkdir(`${d}/${NAME_255}`), 0);
    t.equal(c.rmdir(`${d}/${NAME_255}`), 0);
    t.equal(c.symlink(NAME_255, `${d}/${NAME_255}`), 0);
    t.equal(c.unlink(`${d}/${NAME_255}`), 0);
    t.equal(c.mknod(`${d}/${NAME_255}`, c.S.IFIFO | 0o600), 0);
    t.equal(c.link(`${d}/${NAME_255}`, `${d}/${'l'.repeat(255)}`), 0);
    for (const call of CALLS.filter((a) => a.makes !== true && !/rename|rmdir/.test(a.name))) {
      put(`${d}/file`, '');
      c.rename(`${d}/file`, `${d}/f`);
      put(`${d}/f`, 'x');
      const want = call.name === 'readlink' ? 'EINVAL' : 0;
      t.equal(call.run(longPath(d, 'f', 4095), d), want, `${call.name}: 4095 bytes`);
      c.unlink(`${d}/new`);
    }
  });

  x.both('names are bytes', (t, d) => {
    const odd = Array.from({ length: 255 }, (_, i) => i + 1).filter((b) => b !== 47);
    for (const b of odd) {
      const path = Buffer.concat([Buffer.from(`${d}/`), Buffer.from([b, 65, b])]);
      if (c.creat(path) !== 0) t.fail(`byte ${b}`);
    }
    const fd = c.ok(c.open(d, c.O.RDONLY));
    const want = odd.map((b) => Buffer.from([b, 65, b]).toString('latin1'));
    const got = c.listAll(fd).map((e) => e.name).filter((n) => n !== '.' && n !== '..');
    t.strictSame(got, want, 'listed in the order of creation, byte for byte');
    c.close(fd);
    t.equal(c.creat(`${d}/case`), 0);
    t.equal(c.touch(`${d}/CASE`, c.O.CREAT | c.O.EXCL), 0, 'case matters');
    t.equal(c.touch(`${d}/e\u0301`, c.O.CREAT | c.O.EXCL), 0);
    t.equal(c.touch(`${d}/\u00e9`, c.O.CREAT | c.O.EXCL), 0, 'nothing is normalized');
  });

  x.root('links are followed 40 times', (t, d) => {
    put(`${d}/l0`, 'end');
    for (let i = 1; i <= 41; i++) c.ok(c.symlink(`l${i - 1}`, `${d}/l${i}`));
    t.equal(c.statErr(`${d}/l40`), 0);
    t.equal(c.statErr(`${d}/l41`), 'ELOOP');
    t.equal(c.touch(`${d}/l41`, c.O.RDONLY), 'ELOOP');
    t.equal(c.lstatErr(`${d}/l41`), 0);
  });

  x.root('permission of directories', (t, d) => {
    c.ok(c.chmod(d, 0o777));
    for (const [mode, name] of [[0o700, 'closed'], [0o711, 'search'], [0o744, 'list']] as const) {
      c.ok(c.mkdir(`${d}/${name}`, mode));
      put(`${d}/${name}/f`, 'x', 0o666);
      c.ok(c.mkdir(`${d}/${name}/sub`, 0o777));
      c.ok(c.symlink('f', `${d}/${name}/l`));
      put(`${d}/file`, '', 0o666);
      put(`${d}/moved`, '', 0o666);
      c.ok(c.chown(`${d}/file`, USER.uid, USER.gid));
      c.as(USER, () => {
        for (const call of CALLS.filter((a) => a.changes === true)) {
          const last = call.makes === true ? 'new' : call.name === 'rmdir' ? 'sub' : 'f';
          t.equal(call.run(`${d}/${name}/${last}`, d), 'EACCES', `${call.name} in ${name}`);
        }
        const want = name === 'search' ? 0 : 'EACCES';
        t.equal(c.statErr(`${d}/${name}/f`), want, `stat in ${name}`);
        t.equal(c.touch(`${d}/${name}/f`, c.O.RDWR), want, `open in ${name}`);
        t.equal(c.readlink(`${d}/${name}/l`), want === 0 ? 'f' : want, `readlink in ${name}`);
        t.equal(c.touch(`${d}/${name}`, c.O.RDONLY | c.O.DIRECTORY),
          name === 'list' ? 0 : 'EACCES', `open ${name} to list`);
        t.equal(c.statErr(`${d}/${name}/none/x`), want === 0 ? 'ENOENT' : 'EACCES');
      });
    }
    // owner, group and others each have their own bits, and only theirs
    c.ok(c.mkdir(`${d}/g`, 0o070));
    c.ok(c.chown(`${d}/g`, OTHER.uid, OTHER.gid));
    const make = (u: c.User): c.Res => c.as(u, () => c.creat(`${d}/g/${u.uid}`));
    t.equal(make(OTHER), 'EACCES', 'the owner has no bits');
    t.equal(make({ uid: 1000, gid: OTHER.gid }), 0, 'the group has');
    t.equal(make({ uid: 1001, gid: 1001, groups: [5, OTHER.gid] }), 0, 'by a supplementary group');
    t.equal(make(USER), 'EACCES', 'others have not');
  });
}
