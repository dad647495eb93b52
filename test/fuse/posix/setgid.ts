/**
 * Who owns what is created: umask, set-gid directories, set-id bits in the asked mode.
 */
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, put } from './kit.js';
import type { Area } from './kit.js';

const { S } = c;

function makeAll(d: string, mode: number): Record<string, c.Stat> {
  c.ok(c.touch(`${d}/reg`, c.O.CREAT | c.O.EXCL | c.O.WRONLY, mode));
  c.ok(c.mknod(`${d}/node`, S.IFREG | mode));
  c.ok(c.mknod(`${d}/fifo`, S.IFIFO | mode));
  c.ok(c.mkdir(`${d}/dir`, mode));
  c.ok(c.symlink('x', `${d}/lnk`));
  const all: Record<string, c.Stat> = {};
  for (const n of ['reg', 'node', 'fifo', 'dir', 'lnk']) {
    all[n] = c.lstat(`${d}/${n}`);
    if (n === 'dir') c.ok(c.rmdir(`${d}/${n}`));
    else c.ok(c.unlink(`${d}/${n}`));
  }
  return all;
}

export function setgid(x: Area): void {
  x.both('umask', (t, d) => {
    for (const mask of [0, 0o022, 0o077, 0o7777, 0o123]) {
      process.umask(mask & 0o777);
      for (const mode of [0o666, 0o777, 0o600, 0o1777]) {
        const all = makeAll(d, mode);
        for (const n of ['reg', 'node', 'fifo', 'dir']) {
          t.equal(all[n]?.perm, mode & ~(mask & 0o777),
            `${n}: ${mode.toString(8)} under ${mask.toString(8)}`);
        }
        t.equal(all['lnk']?.perm, 0o777);
      }
    }
    process.umask(0);
  });

  x.root('inheritance of the group', (t, d) => {
    c.ok(c.mkdir(`${d}/s`));
    c.ok(c.chown(`${d}/s`, USER.uid, OTHER.gid));
    c.ok(c.chmod(`${d}/s`, 0o2777));
    for (const who of [c.ROOT, USER]) {
      c.as(who, () => {
        const all = makeAll(`${d}/s`, 0o755);
        for (const [n, s] of Object.entries(all)) {
          t.strictSame([s.uid, s.gid], [who.uid, OTHER.gid], `${n} of ${who.uid}`);
          if (n !== 'lnk') t.equal(s.perm, n === 'dir' ? 0o2755 : 0o755);
        }
      });
    }
    c.ok(c.chmod(`${d}/s`, 0o777));
    c.as(USER, () => {
      for (const s of Object.values(makeAll(`${d}/s`, 0o755))) {
        t.strictSame([s.uid, s.gid], [USER.uid, USER.gid], 'no set-gid, no inheritance');
      }
    });
  });

  x.root('set-gid in the asked mode', (t, d) => {
    // A file that is set-gid for a group its maker is not in would be a hole.
    c.ok(c.mkdir(`${d}/s`));
    c.ok(c.chown(`${d}/s`, 0, OTHER.gid));
    c.ok(c.chmod(`${d}/s`, 0o2777));
    const perms = (who: c.User, mode: number): (number | undefined)[] => c.as(who, () => {
      const all = makeAll(`${d}/s`, mode);
      return [all['reg']?.perm, all['node']?.perm, all['dir']?.perm];
    });
    // mkdir never takes set-id bits from the asked mode: the directory's is inherited
    t.strictSame(perms(USER, 0o6755), [0o4755, 0o4755, 0o2755]);
    t.strictSame(perms(USER, 0o2744), [0o2744, 0o2744, 0o2744]);
    t.strictSame(perms({ ...USER, groups: [1, OTHER.gid] }, 0o2755), [0o2755, 0o2755, 0o2755]);
    t.strictSame(perms({ uid: 77, gid: OTHER.gid }, 0o2755), [0o2755, 0o2755, 0o2755]);
    t.strictSame(perms(c.ROOT, 0o2755), [0o2755, 0o2755, 0o2755]);
  });

  x.root('set-id bits fall when a file changes', (t, d) => {
    const p = `${d}/f`;
    const after = (who: c.User, mode: number, what: () => unknown): number => {
      c.unlink(p);
      put(p, 'contents');
      c.ok(c.chown(p, USER.uid, USER.gid));
      c.ok(c.chmod(p, mode));
      c.as(who, what);
      return c.lstat(p).perm;
    };
    const write = (): void => {
      const fd = c.ok(c.open(p, c.O.WRONLY));
      c.ok(c.write(fd, 'x'));
      c.close(fd);
    };
    const cut = (): void => { c.ok(c.truncate(p, 1)); };
    const grow = (): void => { c.ok(c.truncate(p, 100)); };
    const empty = (): void => { c.ok(c.touch(p, c.O.WRONLY | c.O.TRUNC)); };
    for (const [name, change] of Object.entries({ write, cut, grow, empty })) {
      t.equal(after(OTHER, 0o6777, change), 0o777, `${name} by another user`);
      t.equal(after(USER, 0o6777, change), 0o777, `${name} by the owner`);
      t.equal(after(USER, 0o2767, change), 0o2767, `${name}: set-gid without execution stays`);
      t.equal(after(USER, 0o4666, change), 0o666, `${name}: set-uid always falls`);
      t.equal(after(c.ROOT, 0o6777, change), 0o6777, `${name} by root`);
      t.equal(after(USER, 0o1666, change), 0o1666, `${name}: the sticky bit stays`);
    }
    t.equal(after(OTHER, 0o6777, () => {
      const fd = c.ok(c.open(p, c.O.RDWR));
      const at = c.mmap(fd, 4096, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
      if (typeof at === 'bigint') c.munmap(at, 4096);
      c.close(fd);
    }), 0o6777, 'mapping alone changes nothing');
  });
}
