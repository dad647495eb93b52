/**
 * Sticky directories: only the owner of the entry, of the directory, or root may remove
 * or rename what is inside.
 */
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, put } from './kit.js';
import type { Area } from './kit.js';

const DIR_OWNER: c.User = { uid: 65520, gid: 65520 };

export function sticky(x: Area): void {
  x.root('remove and rename', (t, d) => {
    const make = (dirOwner: number, fileOwner: number, isDir: boolean): void => {
      c.ok(c.mkdir(`${d}/s`, 0o777));
      c.ok(c.chown(`${d}/s`, dirOwner, dirOwner));
      c.ok(c.chmod(`${d}/s`, 0o1777));
      if (isDir) c.ok(c.mkdir(`${d}/s/f`, 0o777));
      else put(`${d}/s/f`, '', 0o666);
      c.ok(c.lchown(`${d}/s/f`, fileOwner, fileOwner));
      c.ok(c.mkdir(`${d}/free`, 0o777));
      c.ok(c.chmod(`${d}/free`, 0o777));
    };
    const clear = (): void => {
      for (const n of ['s/f', 's/g', 'free/f']) {
        if (c.rmdir(`${d}/${n}`) !== 0) c.unlink(`${d}/${n}`);
      }
      t.equal(c.rmdir(`${d}/s`), 0);
      t.equal(c.rmdir(`${d}/free`), 0);
    };
    for (const isDir of [false, true]) {
      const remove = isDir ? c.rmdir : c.unlink;
      const cases: [dirOwner: number, fileOwner: number, may: boolean][] = [
        [OTHER.uid, OTHER.uid, false], [USER.uid, OTHER.uid, true], [OTHER.uid, USER.uid, true],
        [DIR_OWNER.uid, OTHER.uid, false],
      ];
      for (const [dirOwner, fileOwner, may] of cases) {
        const what = `directory of ${dirOwner}, ${isDir ? 'dir' : 'file'} of ${fileOwner}`;
        make(dirOwner, fileOwner, isDir);
        t.equal(c.as(USER, () => c.rename(`${d}/s/f`, `${d}/s/g`)), may ? 0 : 'EPERM',
          `rename: ${what}`);
        clear();
        make(dirOwner, fileOwner, isDir);
        // A directory that moves to another parent must itself be writable: its ".." changes.
        t.equal(c.as(USER, () => c.rename(`${d}/s/f`, `${d}/free/f`)), may ? 0 : 'EPERM',
          `move out: ${what}`);
        clear();
        make(dirOwner, fileOwner, isDir);
        t.equal(c.as(USER, () => remove(`${d}/s/f`)), may ? 0 : 'EPERM', `remove: ${what}`);
        clear();
      }
      make(OTHER.uid, OTHER.uid, isDir);
      if (isDir) c.ok(c.mkdir(`${d}/free/f`));
      else put(`${d}/free/f`);
      c.ok(c.chown(`${d}/free/f`, USER.uid, USER.gid));
      t.equal(c.as(USER, () => c.rename(`${d}/free/f`, `${d}/s/f`)), 'EPERM',
        'nor replace what is not ours');
      t.equal(remove(`${d}/s/f`), 0, 'root may');
      clear();
    }
  });

  x.root('a directory moves only when it is writable', (t, d) => {
    c.ok(c.mkdir(`${d}/a`, 0o777));
    c.ok(c.mkdir(`${d}/b`, 0o777));
    c.ok(c.mkdir(`${d}/a/s`, 0o755));
    t.equal(c.as(USER, () => c.rename(`${d}/a/s`, `${d}/a/t`)), 0, 'within one directory');
    t.equal(c.as(USER, () => c.rename(`${d}/a/t`, `${d}/b/t`)), 'EACCES', '".." would change');
    c.ok(c.chmod(`${d}/a/t`, 0o777));
    t.equal(c.as(USER, () => c.rename(`${d}/a/t`, `${d}/b/t`)), 0);
  });
}
