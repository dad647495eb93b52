/**
 * What needs more than one mount of a volume: read-only mounts, and that everything an
 * operation changed is there again after unmounting and mounting.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { createHash } from 'node:crypto';
import t from 'tap';
import type { Test } from 'tap';
import { Rig, skipWithoutFuse } from '../../lib/mounted.js';
import * as c from '../../lib/syscalls.js';
import { USER, fdOf, get, put } from './kit.js';
import { CALLS } from './paths.js';

const skip = skipWithoutFuse();

/** Everything that can be seen of a tree, one line per inode; atime is not among it. */
function snapshot(dir: string): string[] {
  const lines: string[] = [];
  const walk = (path: string): void => {
    const s = c.lstat(path);
    let what = '';
    if (s.type === c.S.IFLNK) what = c.readlink(path);
    if (s.type === c.S.IFREG && s.size < 2n ** 30n) {
      what = createHash('sha256').update(get(path), 'latin1').digest('hex').slice(0, 16);
    }
    const xattrs = c.listxattr(path);
    const values = typeof xattrs === 'string' ? xattrs :
      xattrs.map((n) => `${n}=${String(c.getxattr(path, n))}`).join(' ');
    lines.push([path.slice(dir.length), s.ino, s.mode.toString(8), s.nlink, s.uid, s.gid, s.size,
      s.blocks, s.rdev.join(':'), s.mtime, s.ctime, s.btime, what, values].join(' '));
    if (s.type !== c.S.IFDIR) return;
    const fd = fdOf(path, c.O.RDONLY);
    const list = c.listAll(fd);
    c.close(fd);
    lines.push(list.map((e) => `${e.name} ${e.ino} ${e.off} ${e.type}`).join(', '));
    for (const e of list) if (e.name !== '.' && e.name !== '..') walk(`${path}/${e.name}`);
  };
  walk(dir);
  return lines;
}

/** Some of everything. */
function fill(d: string): void {
  put(`${d}/empty`);
  put(`${d}/small`, 'contents');
  put(`${d}/large`, Buffer.alloc(3_000_001, 'abcdefg'));
  put(`${d}/cut`, Buffer.alloc(100_000, 'x'));
  c.ok(c.truncate(`${d}/cut`, 5001));
  c.ok(c.truncate(`${d}/cut`, 20_000));
  put(`${d}/grown`);
  c.ok(c.truncate(`${d}/grown`, 2n ** 63n - 1n));
  const fd = fdOf(`${d}/sparse`, c.O.CREAT | c.O.RDWR);
  for (let i = 0; i < 40; i++) c.ok(c.pwrite(fd, `at ${i}`, i * i * 5000));
  c.ok(c.fallocate(fd, 1, 0, 1 << 20));
  c.close(fd);
  c.ok(c.mkdir(`${d}/dir`, 0o3751));
  c.ok(c.symlink('target'.repeat(500), `${d}/dir/link`));
  c.ok(c.link(`${d}/small`, `${d}/dir/hard`));
  c.ok(c.mknod(`${d}/dir/fifo`, c.S.IFIFO | 0o640));
  c.ok(c.mknod(`${d}/dir/chr`, c.S.IFCHR | 0o600, 300, 70_000));
  c.ok(c.mknod(`${d}/dir/blk`, c.S.IFBLK | 0o600, 8, 1));
  c.ok(c.mknod(`${d}/dir/sock`, c.S.IFSOCK | 0o600));
  for (let i = 0; i < 50; i++) put(`${d}/dir/n${i}`);
  for (let i = 0; i < 50; i += 3) c.ok(c.unlink(`${d}/dir/n${i}`));
  for (let i = 1; i < 50; i += 9) c.ok(c.rename(`${d}/dir/n${i}`, `${d}/dir/renamed${i}`));
  c.ok(c.mkdir(`${d}/dir/moved`));
  c.ok(c.rename(`${d}/dir/moved`, `${d}/moved`));
  c.ok(c.chown(`${d}/small`, 4_000_000_000, 1234));
  c.ok(c.chmod(`${d}/small`, 0o4755));
  c.ok(c.utimens(`${d}/large`, [[-5, 7], [-4_000_000_000, 999_999_999]]));
  c.ok(c.utimens(`${d}/empty`, [[8_000_000_000, 1], [9_000_000_000, 2]]));
  c.ok(c.setxattr(`${d}/large`, 'user.note', 'v'.repeat(5000)));
  c.ok(c.setxattr(`${d}/dir`, 'trusted.note', 'on a directory'));
  c.ok(c.setxattr(`${d}/empty`, 'user.gone', 'x'));
  c.ok(c.removexattr(`${d}/empty`, 'user.gone'));
  const tmp = fdOf(d, c.O.TMPFILE | c.O.RDWR, 0o600);
  c.ok(c.write(tmp, 'once without a name'));
  c.ok(c.linkat(-100, `/proc/self/fd/${tmp}`, -100, `${d}/tmp`, c.AT_SYMLINK_FOLLOW));
  c.close(tmp);
}

t.test('everything is there after a remount, and nothing may change read-only', { skip },
  async (tt) => {
    const rig = new Rig('posix-mounts');
    tt.teardown(() => { rig.end(); });
    chmodSync(rig.dir, 0o755);
    await rig.mkfs();
    rig.mount();
    const umask = process.umask(0);
    fill(rig.mnt);
    for (const n of ['file', 'moved1']) put(`${rig.mnt}/${n}`, 'x', 0o666);
    c.ok(c.chmod(rig.mnt, 0o777));
    const before = snapshot(rig.mnt);
    rig.umount();
    tt.strictSame(rig.check(), []);

    rig.mount('ro');
    tt.strictSame(snapshot(rig.mnt), before, 'the same read-only');
    readOnly(tt, rig.mnt);
    tt.strictSame(snapshot(rig.mnt), before, 'and still the same');
    rig.umount();

    rig.mount();
    tt.strictSame(snapshot(rig.mnt), before, 'the same after mounting again');
    for (const dir of ['dir', 'moved']) removeAll(`${rig.mnt}/${dir}`);
    process.umask(umask);
    rig.umount();
    tt.strictSame(rig.check(), [], 'check is clean');
    rig.mount('nodev,nosuid,noexec');
    options(tt, rig.mnt);
    rig.umount();
  });

function readOnly(tt: Test, d: string): void {
  for (const who of [c.ROOT, USER]) {
    c.as(who, () => {
      for (const call of CALLS.filter((a) => a.changes === true || /chmod|chown|trunc|utim|setx/
        .test(a.name))) {
        const path = call.makes === true ? `${d}/made` : call.name === 'rmdir' ? `${d}/moved` :
          `${d}/file`;
        const want = who !== c.ROOT && /chmod|chown|utim/.test(call.name) ? /EROFS|EPERM/ : /EROFS/;
        tt.match(call.run(path, d), want, `${call.name} of ${who.uid}`);
      }
      for (const flags of [c.O.WRONLY, c.O.RDWR, c.O.TRUNC, c.O.CREAT | c.O.WRONLY]) {
        tt.equal(c.touch(`${d}/file`, flags), 'EROFS', `open ${flags}`);
      }
      tt.equal(c.touch(`${d}/file`, c.O.CREAT | c.O.RDONLY), 0, 'O_CREAT of what exists');
      tt.equal(c.touch(d, c.O.TMPFILE | c.O.RDWR), 'EROFS');
      tt.equal(c.mkdir(`${d}/dir`), 'EEXIST', 'what exists comes first');
      tt.equal(c.access(`${d}/file`, c.ACCESS.W), 'EROFS');
      tt.equal(c.access(`${d}/file`, c.ACCESS.R), 0);
      tt.equal(c.removexattr(`${d}/large`, 'user.note'), 'EROFS');
    });
  }
  // A fifo on a read-only mount is as good as any.
  tt.equal(c.touch(`${d}/dir/fifo`, c.O.RDWR | c.O.NONBLOCK), 0);
}

function removeAll(path: string): void {
  const fd = fdOf(path, c.O.RDONLY);
  for (const e of c.listAll(fd)) {
    if (e.name !== '.' && e.name !== '..') c.ok(c.unlink(`${path}/${e.name}`), e.name);
  }
  c.close(fd);
  c.ok(c.rmdir(path), path);
}

function options(tt: Test, d: string): void {
  c.ok(c.mknod(`${d}/null`, c.S.IFCHR | 0o666, 1, 3));
  tt.equal(c.touch(`${d}/null`, c.O.RDWR), 'EACCES', 'nodev');
  put(`${d}/program`, '#!/bin/true\n', 0o755);
  tt.equal(c.access(`${d}/program`, c.ACCESS.X), 'EACCES', 'noexec');
  mkdirSync(`${d}/ok`);
}

