/**
 * rename(2) and renameat2(2): every pair of types, all flags, counts, times, and the
 * directories that may not become their own ancestors.
 */
import * as c from '../../lib/syscalls.js';
import { NAME_255, NAME_256, fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { RENAME, S } = c;
const KINDS = ['reg', 'fifo', 'lnk', 'chr', 'empty', 'full'] as const;
type Kind = typeof KINDS[number];

function make(kind: Kind, p: string): void {
  if (kind === 'reg') put(p, p);
  else if (kind === 'fifo') c.ok(c.mknod(p, S.IFIFO | 0o644));
  else if (kind === 'chr') c.ok(c.mknod(p, S.IFCHR | 0o644, 3, 7));
  else if (kind === 'lnk') c.ok(c.symlink('target', p));
  else c.ok(c.mkdir(p));
  if (kind === 'full') put(`${p}/inside`);
}

function clear(p: string): void {
  c.unlink(`${p}/inside`);
  if (c.rmdir(p) !== 0) c.unlink(p);
}

const isDir = (kind: Kind): boolean => kind === 'empty' || kind === 'full';

/** What POSIX says of moving `a` over `b`. */
function expected(a: Kind, b: Kind): c.Res {
  if (isDir(a) && !isDir(b)) return 'ENOTDIR';
  if (!isDir(a) && isDir(b)) return 'EISDIR';
  return b === 'full' ? 'ENOTEMPTY' : 0;
}

export function rename(x: Area): void {
  x.root('every type over every type', (t, d) => {
    for (const where of ['', 'sub/']) {
      if (where !== '') c.ok(c.mkdir(`${d}/sub`));
      for (const a of KINDS) {
        for (const b of KINDS) {
          const [from, to] = [`${d}/a`, `${d}/${where}b`];
          make(a, from);
          make(b, to);
          const [sa, sb] = [c.lstat(from), c.lstat(to)];
          const want = expected(a, b);
          const what = `${a} over ${b}${where === '' ? '' : ' in another directory'}`;
          t.equal(c.rename(from, to, RENAME.NOREPLACE), 'EEXIST', `${what}, NOREPLACE`);
          t.equal(c.rename(from, to), want, what);
          if (want === 0) {
            t.equal(c.lstatErr(from), 'ENOENT');
            t.equal(c.lstat(to).ino, sa.ino);
          } else {
            t.strictSame([c.lstat(from).ino, c.lstat(to).ino], [sa.ino, sb.ino], 'both stay');
          }
          clear(from);
          clear(to);
        }
      }
    }
    t.strictSame([c.lstat(d).nlink, c.lstat(d).size, c.lstat(`${d}/sub`).size], [3, 3n, 0n],
      'counts are exact after all of it');
  });

  x.both('counts and times', (t, d) => {
    c.ok(c.mkdir(`${d}/a`));
    c.ok(c.mkdir(`${d}/b`));
    put(`${d}/a/file`, 'x');
    c.ok(c.mkdir(`${d}/a/dir`));
    const dir = c.lstat(`${d}/a/dir`);
    const file = c.lstat(`${d}/a/file`);
    t.strictSame([c.lstat(`${d}/a`).nlink, c.lstat(`${d}/a`).size], [3, 7n]);
    const before = [c.lstat(`${d}/a`), c.lstat(`${d}/b`)] as const;
    tick();
    t.equal(c.rename(`${d}/a/dir`, `${d}/b/directory`), 0);
    const after = [c.lstat(`${d}/a`), c.lstat(`${d}/b`)] as const;
    t.strictSame(after.map((s) => [s.nlink, s.size]), [[2, 4n], [3, 9n]]);
    for (const i of [0, 1] as const) {
      t.ok(after[i].mtime > before[i].mtime && after[i].ctime === after[i].mtime);
    }
    const moved = c.lstat(`${d}/b/directory`);
    t.ok(moved.ino === dir.ino && moved.ctime > dir.ctime && moved.mtime === dir.mtime);
    t.equal(c.lstat(`${d}/b/directory/..`).ino, after[1].ino, 'its parent is the new one');
    tick();
    t.equal(c.rename(`${d}/a/file`, `${d}/a/f`), 0);
    const f = c.lstat(`${d}/a/f`);
    t.ok(f.ctime > file.ctime && f.mtime === file.mtime && f.nlink === 1);
    t.equal(c.lstat(`${d}/a`).size, 1n);
    // a directory over an empty one: the counts of both parents
    c.ok(c.mkdir(`${d}/a/dir`));
    t.equal(c.rename(`${d}/b/directory`, `${d}/a/dir`), 0);
    t.strictSame([c.lstat(`${d}/a`).nlink, c.lstat(`${d}/b`).nlink], [3, 2]);
    c.ok(c.mkdir(`${d}/a/dir2`));
    t.equal(c.rename(`${d}/a/dir`, `${d}/a/dir2`), 0);
    t.strictSame([c.lstat(`${d}/a`).nlink, c.lstat(`${d}/a`).size], [3, 5n]);
    t.equal(c.lstat(d).nlink, 4);
  });

  x.both('a replaced file that is open or linked', (t, d) => {
    put(`${d}/old`, 'old');
    put(`${d}/new`, 'new');
    c.ok(c.link(`${d}/new`, `${d}/other`));
    const fd = fdOf(`${d}/new`, c.O.RDWR);
    const before = c.fstat(fd);
    tick();
    t.equal(c.rename(`${d}/old`, `${d}/new`), 0);
    t.equal(get(`${d}/new`), 'old');
    const after = c.fstat(fd);
    t.strictSame([after.nlink, after.size], [1, 3n]);
    t.ok(after.ctime > before.ctime, 'the replaced inode changed too');
    t.equal(get(`${d}/other`), 'new');
    put(`${d}/third`, 'third');
    t.equal(c.rename(`${d}/third`, `${d}/other`), 0);
    t.equal(c.fstat(fd).nlink, 0);
    const buf = Buffer.alloc(3);
    t.equal(c.pread(fd, buf, 3, 0), 3);
    t.equal(buf.toString(), 'new', 'it can still be read');
    c.close(fd);
    c.ok(c.mkdir(`${d}/e1`));
    c.ok(c.mkdir(`${d}/e2`));
    const dfd = fdOf(`${d}/e2`, c.O.RDONLY);
    t.equal(c.rename(`${d}/e1`, `${d}/e2`), 0);
    t.equal(c.fstat(dfd).nlink, 0, 'a replaced directory');
    t.equal(c.openat(dfd, 'x', c.O.CREAT), 'ENOENT');
    c.close(dfd);
  });

  x.both('two names of one inode', (t, d) => {
    c.ok(c.mkdir(`${d}/s`));
    put(`${d}/a`, 'x');
    c.ok(c.link(`${d}/a`, `${d}/b`));
    c.ok(c.link(`${d}/a`, `${d}/s/c`));
    tick();
    const before = c.lstat(`${d}/a`);
    t.equal(c.rename(`${d}/a`, `${d}/b`), 0);
    t.equal(c.rename(`${d}/a`, `${d}/s/c`), 0);
    t.equal(c.rename(`${d}/a`, `${d}/a`), 0);
    t.strictSame(c.lstat(`${d}/a`), before, 'nothing happens');
    t.equal(c.lstat(`${d}/s/c`).nlink, 3);
    t.equal(c.rename(`${d}/a`, `${d}/b`, RENAME.NOREPLACE), 'EEXIST');
    t.equal(c.rename(`${d}/a`, `${d}/a`, RENAME.NOREPLACE), 'EEXIST');
    t.equal(c.rename(`${d}/s`, `${d}/s`), 0);
  });

  x.both('subtrees', (t, d) => {
    for (const p of ['a', 'a/b', 'a/b/c', 'e']) c.ok(c.mkdir(`${d}/${p}`));
    put(`${d}/f`);
    t.equal(c.rename(`${d}/a`, `${d}/a/x`), 'EINVAL');
    t.equal(c.rename(`${d}/a`, `${d}/a/b`), 'EINVAL');
    t.equal(c.rename(`${d}/a`, `${d}/a/b/c`), 'EINVAL');
    t.equal(c.rename(`${d}/a`, `${d}/a/b/c/x`), 'EINVAL');
    t.equal(c.rename(`${d}/a/b/c`, `${d}/a`), 'ENOTEMPTY', 'over its own ancestor');
    t.equal(c.rename(`${d}/a/b/c`, `${d}/a/b`), 'ENOTEMPTY');
    t.equal(c.rename(`${d}/f`, `${d}/a`), 'EISDIR');
    t.equal(c.rename(`${d}/a`, `${d}/f`), 'ENOTDIR');
    t.equal(c.rename(`${d}/e`, `${d}/a/b/c/e`), 0);
    t.equal(c.rename(`${d}/a/b`, `${d}/b`), 0);
    t.equal(c.rename(`${d}/a`, `${d}/b/c/e/a`), 0, 'the former parent below its child');
    t.equal(c.lstat(`${d}/b/c/e/a/..`).ino, c.lstat(`${d}/b/c/e`).ino);
    t.equal(c.lstat(d).nlink, 3);
  });

  x.both('names that cannot be', (t, d) => {
    c.ok(c.mkdir(`${d}/s`));
    c.ok(c.mkdir(`${d}/e`));
    put(`${d}/f`);
    for (const n of ['.', '..']) {
      t.equal(c.rename(`${d}/s/${n}`, `${d}/x`), 'EBUSY', `from ${n}`);
      t.equal(c.rename(`${d}/e`, `${d}/s/${n}`), 'EBUSY', `to ${n}`);
      t.equal(c.rename(`${d}/e`, `${d}/s/${n}`, RENAME.NOREPLACE), 'EEXIST', `to ${n}, NOREPLACE`);
    }
    t.equal(c.rename(`${d}/f`, `${d}/${NAME_256}`), 'ENAMETOOLONG');
    t.equal(c.rename(`${d}/${NAME_256}`, `${d}/x`), 'ENAMETOOLONG');
    t.equal(c.rename(`${d}/f`, `${d}/${NAME_255}`), 0);
    t.equal(c.rename(`${d}/${NAME_255}`, `${d}/f`), 0);
    t.equal(c.rename(`${d}/none`, `${d}/x`), 'ENOENT');
    t.equal(c.rename(`${d}/none`, `${d}/f`), 'ENOENT');
    t.equal(c.rename(`${d}/f/`, `${d}/x`), 'ENOTDIR');
    t.equal(c.rename(`${d}/f`, `${d}/x/`), 'ENOTDIR');
    t.equal(c.rename(`${d}/s/`, `${d}/t/`), 0, 'directories may have slashes');
    t.equal(c.rename(`${d}/f`, `${x.rig.dir}/f`), 'EXDEV');
  });

  x.both('flags', (t, d) => {
    put(`${d}/a`, 'a');
    put(`${d}/b`, 'b');
    for (const flags of [RENAME.EXCHANGE, RENAME.NOREPLACE | RENAME.EXCHANGE, RENAME.WHITEOUT | 2,
      8, 0x80000000]) {
      t.equal(c.rename(`${d}/a`, `${d}/b`, flags), 'EINVAL', `flags ${flags}`);
    }
    // The kernel asks for CAP_MKNOD before the file system is asked for whiteouts.
    const whiteout = c.rename(`${d}/a`, `${d}/w`, RENAME.WHITEOUT);
    t.ok(whiteout === 'EINVAL' || whiteout === 'EPERM', `WHITEOUT: ${whiteout}`);
    t.strictSame([get(`${d}/a`), get(`${d}/b`)], ['a', 'b']);
    t.equal(c.rename(`${d}/a`, `${d}/n`, RENAME.NOREPLACE), 0);
    t.equal(get(`${d}/n`), 'a');
    t.equal(c.rename(`${d}/none`, `${d}/b`, RENAME.NOREPLACE), 'ENOENT');
  });

  x.root('one name, many renames', (t, d) => {
    // renameat2-noreplace on one mount: of many attempts at one name one succeeds
    let won = 0;
    for (let i = 0; i < 100; i++) {
      put(`${d}/src${i}`);
      if (c.rename(`${d}/src${i}`, `${d}/dst`, RENAME.NOREPLACE) === 0) won += 1;
    }
    t.equal(won, 1);
    // mkdir-rename-rmdir
    for (let i = 0; i < 50; i++) {
      if (c.mkdir(`${d}/m1`) !== 0 || c.rename(`${d}/m1`, `${d}/m2`) !== 0 ||
          c.rename(`${d}/m2`, `${d}/m3`) !== 0 || c.rmdir(`${d}/m3`) !== 0) {
        t.fail(`round ${i}`);
      }
    }
    t.equal(c.lstat(d).nlink, 2);
  });
}
