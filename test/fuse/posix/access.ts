/**
 * access(2), stat(2) with statx(2), statfs(2).
 */
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { ACCESS } = c;

export function access(x: Area): void {
  x.root('access', (t, d) => {
    put(`${d}/f`);
    c.ok(c.chown(`${d}/f`, USER.uid, OTHER.gid));
    const member: c.User = { uid: 1, gid: 1, groups: [OTHER.gid] };
    for (let bits = 0; bits < 8; bits++) {
      for (let want = 1; want < 8; want++) {
        const res = (want & ~bits) === 0 ? 0 : 'EACCES';
        c.ok(c.chmod(`${d}/f`, bits << 6));
        t.equal(c.as(USER, () => c.access(`${d}/f`, want)), res, `owner ${bits} wants ${want}`);
        c.ok(c.chmod(`${d}/f`, bits << 3));
        t.equal(c.as(member, () => c.access(`${d}/f`, want)), res, `group ${bits} wants ${want}`);
        c.ok(c.chmod(`${d}/f`, bits));
        t.equal(c.as({ uid: 2, gid: 2 }, () => c.access(`${d}/f`, want)), res,
          `others ${bits} want ${want}`);
      }
    }
    c.ok(c.chmod(`${d}/f`, 0));
    t.equal(c.access(`${d}/f`, ACCESS.R | ACCESS.W), 0, 'root');
    t.equal(c.access(`${d}/f`, ACCESS.X), 'EACCES', 'nobody executes what has no x');
    c.ok(c.chmod(`${d}/f`, 1));
    t.equal(c.access(`${d}/f`, ACCESS.X), 0);
    t.equal(c.access(`${d}/f`, 8), 'EINVAL');
  });

  x.both('statx', (t, d) => {
    tick();
    put(`${d}/f`, 'x'.repeat(5000));
    const s = c.lstat(`${d}/f`);
    t.equal(s.mask & 0xfff, 0xfff, 'everything is answered, birth time too');
    t.strictSame([s.size, s.blocks, s.blksize], [5000n, 16, 4096]);
    t.ok(s.ino > 1 && s.btime <= s.mtime && s.btime > 0n);
    const { btime } = s;
    tick();
    c.ok(c.chmod(`${d}/f`, 0o600));
    c.ok(c.utimens(`${d}/f`, [[1, 0], [1, 0]]));
    c.ok(c.rename(`${d}/f`, `${d}/g`));
    c.ok(c.truncate(`${d}/g`, 0));
    t.equal(c.lstat(`${d}/g`).btime, btime, 'birth time never changes');
  });

  x.root('statfs', (t, d) => {
    const s = c.statfs(d);
    t.strictSame([s.bsize, s.frsize, s.namelen], [4096, 4096, 255]);
    t.ok(s.blocks > 0 && s.bfree > 0 && s.bfree <= s.blocks && s.bavail <= s.bfree);
    t.ok(s.files > 0 && s.ffree <= s.files);
    const fd = c.ok(c.open(`${d}/big`, c.O.CREAT | c.O.RDWR));
    t.equal(c.fallocate(fd, 0, 0, 64 << 20), 0);
    t.equal(c.fsync(fd), 0);
    c.close(fd);
    tick();
    t.ok(s.bfree - c.statfs(d).bfree >= (64 << 20) / 4096, 'what is allocated is not free');
  });
}
