/**
 * Listing directories: positions, the offsets that each entry gives, resuming at any of
 * them, and stability while entries come and go. dir.md 5.
 */
import * as c from '../../lib/syscalls.js';
import { fdOf, put } from './kit.js';
import type { Area } from './kit.js';

/** Position and d_off of each entry, in the manner of the specification's tests. */
function offsets(fd: number, from = 0n): string[] {
  c.lseek(fd, from, c.SEEK.SET);
  return c.listAll(fd).map((e) => `${e.name} ${e.off}`);
}

function namesOf(list: c.Dirent[]): string[] {
  return list.map((e) => e.name).filter((n) => n !== '.' && n !== '..');
}

export function readdir(x: Area): void {
  x.both('offsets', (t, d) => {
    const fd = fdOf(d, c.O.RDONLY | c.O.DIRECTORY);
    t.strictSame(offsets(fd), ['. 1', '.. 2'], 'an empty directory');
    for (const n of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) put(`${d}/${n}`);
    t.strictSame(offsets(fd), ['. 1', '.. 2', 'a 3', 'b 4', 'c 5', 'd 6', 'e 7', 'f 8', 'g 9']);
    for (const n of ['a', 'c', 'd', 'e']) c.ok(c.unlink(`${d}/${n}`));
    t.strictSame(offsets(fd), ['. 1', '.. 3', 'b 7', 'f 8', 'g 9'],
      'the position of the next existing entry');
    t.strictSame(offsets(fd, 4n), ['f 8', 'g 9'], 'any offset may be sought');
    t.strictSame(offsets(fd, 9n), []);
    t.strictSame(offsets(fd, 1n), ['.. 3', 'b 7', 'f 8', 'g 9']);
    t.strictSame(offsets(fd, 2n ** 62n), []);
    put(`${d}/a`);
    t.strictSame(offsets(fd, 8n), ['g 9', 'a 10'], 'a name that returns is the newest');
    c.ok(c.rename(`${d}/b`, `${d}/z`));
    t.strictSame(offsets(fd), ['. 1', '.. 7', 'f 8', 'g 9', 'a 10', 'z 11']);
    t.equal(c.lseek(fd, -1, c.SEEK.SET), 'EINVAL');
    c.close(fd);
  });

  x.root('inode numbers and types', (t, d) => {
    const types: Record<string, [mode: number, dt: number]> = {
      fifo: [c.S.IFIFO, 1], chr: [c.S.IFCHR, 2], blk: [c.S.IFBLK, 6], reg: [c.S.IFREG, 8],
      sock: [c.S.IFSOCK, 12],
    };
    for (const [n, [mode]] of Object.entries(types)) c.ok(c.mknod(`${d}/${n}`, mode | 0o600));
    c.ok(c.mkdir(`${d}/dir`));
    c.ok(c.symlink('x', `${d}/lnk`));
    const fd = fdOf(d, c.O.RDONLY);
    const dt: Record<string, number> = { dir: 4, lnk: 10, '.': 4, '..': 4 };
    for (const [n, [, type]] of Object.entries(types)) dt[n] = type;
    const list = c.listAll(fd);
    t.equal(list.length, 9);
    for (const e of list) {
      t.strictSame([e.type, e.ino], [dt[e.name], c.lstat(`${d}/${e.name}`).ino], e.name);
    }
    c.close(fd);
  });

  x.both('buffers of every size', (t, d) => {
    const want = Array.from({ length: 400 }, (_, i) => `${i}-${'n'.repeat(i * 7 % 250)}`);
    for (const n of want) put(`${d}/${n}`);
    for (const size of [280, 300, 1000, 4096, 32768, 1 << 20]) {
      const fd = fdOf(d, c.O.RDONLY);
      t.strictSame(namesOf(c.listAll(fd, size)), want, `${size} bytes`);
      c.close(fd);
    }
    const fd = fdOf(d, c.O.RDONLY);
    t.equal(c.getdents(fd, 20), 'EINVAL', 'no room for one entry');
    // every d_off leads to the entry after it
    const all = c.listAll(fd);
    for (let i = 2; i < all.length; i += 13) {
      c.lseek(fd, all[i]?.off ?? 0n, c.SEEK.SET);
      const next = c.getdents(fd, 300);
      t.equal(typeof next === 'string' ? next : next[0]?.name, all[i + 1]?.name);
    }
    c.close(fd);
  });

  x.both('entries that come and go', (t, d) => {
    const want = Array.from({ length: 500 }, (_, i) => `f${String(i).padStart(4, '0')}`);
    for (const n of want) put(`${d}/${n}`);
    const fd = fdOf(d, c.O.RDONLY);
    const seen: string[] = [];
    let round = 0;
    for (;;) {
      const some = c.getdents(fd, 600);
      if (typeof some === 'string' || some.length === 0) break;
      seen.push(...namesOf(some));
      // remove one that was seen and one that was not; add one
      const at = seen.length;
      c.unlink(`${d}/${want[Math.max(0, at - 2)]}`);
      const ahead = want[at + 40];
      if (ahead !== undefined && round % 2 === 0) {
        c.ok(c.unlink(`${d}/${ahead}`));
        want.splice(at + 40, 1);
      }
      if (round++ < 50) put(`${d}/new${String(round).padStart(3, '0')}`);
    }
    c.close(fd);
    const old = seen.filter((n) => n.startsWith('f'));
    t.strictSame(old, want, 'what stayed is listed once, in order');
    t.equal(new Set(seen).size, seen.length, 'nothing twice');
    t.ok(seen.filter((n) => n.startsWith('new')).length >= 45, 'what was added is seen');
  });

  x.both('everything removed while it is listed', (t, d) => {
    for (let i = 0; i < 3000; i++) put(`${d}/file-${i}`);
    const fd = fdOf(d, c.O.RDONLY);
    for (;;) {
      const some = c.getdents(fd);
      if (typeof some === 'string' || some.length === 0) break;
      for (const n of namesOf(some)) if (c.unlink(`${d}/${n}`) !== 0) t.fail(n);
    }
    t.strictSame(offsets(fd), ['. 1', '.. 2'], 'nothing was left out');
    t.equal(c.lstat(d).size, 0n);
    c.close(fd);
  });
}
