/**
 * open(2): every flag, what each needs, and which error comes first.
 */
import { spawnSync } from 'node:child_process';
import * as c from '../../lib/syscalls.js';
import { OTHER, USER, fdOf, get, put } from './kit.js';
import type { Area } from './kit.js';

const { O } = c;

export function open(x: Area): void {
  x.both('O_CREAT, O_EXCL, O_TRUNC', (t, d) => {
    const p = `${d}/f`;
    t.equal(c.touch(p, O.RDONLY), 'ENOENT');
    t.equal(c.touch(p, O.CREAT | O.EXCL | O.WRONLY, 0o4751), 0);
    t.equal(c.lstat(p).perm, 0o4751);
    t.equal(c.touch(p, O.CREAT | O.EXCL | O.WRONLY), 'EEXIST');
    t.equal(c.touch(p, O.CREAT | O.WRONLY, 0o600), 0);
    t.equal(c.lstat(p).perm & 0o777, 0o751, 'the mode of an existing file stays');
    put(p, 'contents');
    t.equal(c.touch(p, O.WRONLY | O.TRUNC), 0);
    t.equal(c.lstat(p).size, 0n);
    c.ok(c.symlink('f', `${d}/l`));
    c.ok(c.symlink('made', `${d}/dangling`));
    t.equal(c.touch(`${d}/l`, O.CREAT | O.EXCL | O.WRONLY), 'EEXIST', 'links are not followed');
    t.equal(c.touch(`${d}/dangling`, O.CREAT | O.EXCL | O.WRONLY), 'EEXIST');
    t.equal(c.touch(`${d}/dangling`, O.CREAT | O.WRONLY), 0, 'made through the link');
    t.equal(c.lstat(`${d}/made`).type, c.S.IFREG);
  });

  x.both('directories', (t, d) => {
    c.ok(c.mkdir(`${d}/s`));
    put(`${d}/f`);
    c.ok(c.symlink('s', `${d}/ls`));
    c.ok(c.symlink('f', `${d}/lf`));
    t.equal(c.touch(`${d}/s`, O.WRONLY), 'EISDIR');
    t.equal(c.touch(`${d}/s`, O.RDWR), 'EISDIR');
    t.equal(c.touch(`${d}/s`, O.RDONLY | O.TRUNC), 'EISDIR');
    t.equal(c.touch(`${d}/s`, O.RDONLY | O.CREAT), 'EISDIR');
    t.equal(c.touch(`${d}/s`, O.RDONLY | O.CREAT | O.EXCL), 'EEXIST');
    t.equal(c.touch(`${d}/s`, O.RDONLY), 0);
    t.equal(c.touch(`${d}/new/`, O.CREAT | O.WRONLY), 'EISDIR');
    t.equal(c.touch(`${d}/f/`, O.RDONLY), 'ENOTDIR');
    t.equal(c.touch(`${d}/f`, O.RDONLY | O.DIRECTORY), 'ENOTDIR');
    t.equal(c.touch(`${d}/lf`, O.RDONLY | O.DIRECTORY), 'ENOTDIR');
    t.equal(c.touch(`${d}/s`, O.RDONLY | O.DIRECTORY), 0);
    t.equal(c.touch(`${d}/ls`, O.RDONLY | O.DIRECTORY), 0);
    t.equal(c.touch(`${d}/ls`, O.RDONLY | O.DIRECTORY | O.NOFOLLOW), 'ENOTDIR');
    const fd = fdOf(`${d}/s`, O.RDONLY);
    const buf = Buffer.alloc(8);
    t.equal(c.read(fd, buf), 'EISDIR');
    t.equal(c.write(fd, 'x'), 'EBADF');
    t.equal(c.ftruncate(fd, 0), 'EINVAL');
    t.equal(c.touch(`/proc/self/fd/${fd}/x`, O.CREAT | O.EXCL | O.WRONLY), 0);
    t.equal(c.close(c.openat(fd, 'y', O.CREAT | O.WRONLY)), 0, 'openat');
    t.equal(c.lstatErr(`${d}/s/y`), 0);
    c.close(fd);
  });

  x.both('O_NOFOLLOW, O_PATH', (t, d) => {
    put(`${d}/f`, 'x');
    c.ok(c.symlink('f', `${d}/l`));
    t.equal(c.touch(`${d}/l`, O.RDONLY | O.NOFOLLOW), 'ELOOP');
    t.equal(c.touch(`${d}/l`, O.CREAT | O.NOFOLLOW), 'ELOOP');
    t.equal(c.touch(`${d}/f`, O.RDONLY | O.NOFOLLOW), 0);
    const fd = fdOf(`${d}/l`, O.PATH | O.NOFOLLOW);
    t.equal(c.fstat(fd).type, c.S.IFLNK);
    t.equal(c.read(fd, Buffer.alloc(1)), 'EBADF');
    t.equal(c.fchmod(fd, 0o600), 'EBADF');
    c.close(fd);
  });

  x.both('access modes', (t, d) => {
    put(`${d}/f`, 'abc');
    const buf = Buffer.alloc(4);
    const w = fdOf(`${d}/f`, O.WRONLY);
    t.equal(c.read(w, buf), 'EBADF');
    t.equal(c.write(w, 'X'), 1);
    c.close(w);
    const r = fdOf(`${d}/f`, O.RDONLY);
    t.equal(c.write(r, 'x'), 'EBADF');
    t.equal(c.ftruncate(r, 0), 'EINVAL');
    t.equal(c.read(r, buf), 3);
    t.equal(buf.toString('latin1', 0, 3), 'Xbc');
    t.equal(c.read(r, buf), 0, 'the end');
    c.close(r);
    t.equal(c.close(r), 'EBADF');
  });

  x.root('permission', (t, d) => {
    const want: [mode: number, flags: number, res: c.Res][] = [
      [0o400, O.RDONLY, 'EACCES'], [0o004, O.RDONLY, 0], [0o004, O.WRONLY, 'EACCES'],
      [0o002, O.WRONLY, 0], [0o002, O.RDONLY, 'EACCES'], [0o002, O.RDWR, 'EACCES'],
      [0o006, O.RDWR, 0], [0o004, O.RDONLY | O.TRUNC, 'EACCES'], [0o006, O.WRONLY | O.TRUNC, 0],
      [0o060, O.RDONLY, 'EACCES'],
    ];
    for (const [mode, flags, res] of want) {
      put(`${d}/f`, 'data', 0o600);
      c.ok(c.chmod(`${d}/f`, mode));
      c.ok(c.chown(`${d}/f`, OTHER.uid, OTHER.gid));
      const got = c.as(USER, () => c.touch(`${d}/f`, flags));
      t.equal(got, res, `mode ${mode.toString(8)} flags ${flags.toString(8)}`);
      const size = (flags & O.TRUNC) !== 0 && res === 0 ? 0n : 4n;
      t.equal(c.lstat(`${d}/f`).size, size, 'truncated only when it may');
      c.ok(c.unlink(`${d}/f`));
    }
    put(`${d}/mine`, 'x');
    c.ok(c.chown(`${d}/mine`, USER.uid, USER.gid));
    c.ok(c.chmod(`${d}/mine`, 0o077));
    t.equal(c.as(USER, () => c.touch(`${d}/mine`, O.RDONLY)), 'EACCES', 'the owner bits decide');
    c.ok(c.chmod(`${d}/mine`, 0));
    t.equal(c.touch(`${d}/mine`, O.RDWR), 0, 'root may');
    t.equal(c.as(USER, () => c.touch(`${d}/new`, O.CREAT)), 'EACCES');
    // a file made without permission is open all the same
    c.ok(c.chmod(d, 0o777));
    c.as(USER, () => {
      const fd = fdOf(`${d}/sealed`, O.CREAT | O.EXCL | O.RDWR, 0);
      t.equal(c.write(fd, 'written'), 7);
      t.equal(c.touch(`${d}/sealed`, O.RDONLY), 'EACCES');
      c.close(fd);
    });
    put(`${d}/noatime`, 'x', 0o644);
    t.equal(c.as(USER, () => c.touch(`${d}/noatime`, O.RDONLY | O.NOATIME)), 'EPERM');
  });

  x.both('O_APPEND', (t, d) => {
    const a = fdOf(`${d}/f`, O.CREAT | O.RDWR | O.APPEND);
    const b = fdOf(`${d}/f`, O.WRONLY | O.APPEND);
    t.equal(c.write(a, 'one'), 3);
    t.equal(c.write(b, 'two'), 3);
    t.equal(c.write(a, 'three'), 5);
    t.equal(c.pwrite(a, 'end', 0), 3, 'Linux appends with pwrite too');
    t.equal(get(`${d}/f`), 'onetwothreeend');
    t.equal(c.lseek(a, 0, c.SEEK.CUR), 11n);
    t.equal(c.fcntl(a, c.F.SETFL, 0), 0);
    t.equal(c.pwrite(a, 'ONE', 0), 3);
    t.equal(get(`${d}/f`), 'ONEtwothreeend');
    t.equal(c.ok(c.fcntl(a, c.F.GETFL)) & O.APPEND, 0);
    c.close(a);
    c.close(b);
  });

  x.both('O_SYNC, O_DSYNC, O_DIRECT, O_NONBLOCK', (t, d) => {
    for (const flag of [O.SYNC, O.DSYNC, O.DIRECT, O.NONBLOCK, O.DIRECT | O.SYNC]) {
      const fd = fdOf(`${d}/f${flag}`, O.CREAT | O.RDWR | flag);
      const block = Buffer.alloc(8192, flag % 251);
      t.equal(c.pwrite(fd, block, 4096), 8192);
      const back = Buffer.alloc(16384);
      t.equal(c.pread(fd, back, 16384, 0), 12288);
      t.ok(back.subarray(0, 4096).every((v) => v === 0));
      t.ok(back.subarray(4096, 12288).equals(block));
      c.close(fd);
    }
  });

  x.root('special files', (t, d) => {
    c.ok(c.chmod(d, 0o777));
    c.ok(c.mknod(`${d}/fifo`, c.S.IFIFO | 0o666));
    t.equal(c.touch(`${d}/fifo`, O.WRONLY | O.NONBLOCK), 'ENXIO', 'nobody reads');
    t.equal(c.touch(`${d}/fifo`, O.RDONLY | O.NONBLOCK), 0);
    t.equal(c.touch(`${d}/fifo`, O.RDONLY | O.NONBLOCK | O.TRUNC), 0);
    const r = fdOf(`${d}/fifo`, O.RDONLY | O.NONBLOCK);
    const w = fdOf(`${d}/fifo`, O.WRONLY | O.NONBLOCK);
    t.equal(c.write(w, 'through'), 7);
    const buf = Buffer.alloc(10);
    t.equal(c.read(r, buf), 7);
    c.close(r);
    c.close(w);
    c.ok(c.mknod(`${d}/sock`, c.S.IFSOCK | 0o666));
    t.equal(c.touch(`${d}/sock`, O.RDONLY), 'ENXIO');
    c.ok(c.mknod(`${d}/null`, c.S.IFCHR | 0o666, 1, 3));
    // The kernel refuses devices only on nodev mounts, and root mounts with dev.
    t.equal(c.touch(`${d}/null`, O.RDWR), 0);
    c.ok(c.mknod(`${d}/nodriver`, c.S.IFCHR | 0o666, 254, 0xfffff));
    t.equal(c.touch(`${d}/nodriver`, O.RDWR), 'ENXIO');
  });

  x.root('ETXTBSY', (t, d) => {
    c.ok(c.chmod(d, 0o755));
    const sleep = spawnSync('sh', ['-c', 'cp "$(command -v sleep)" "$0"', `${d}/sleep`]);
    t.equal(sleep.status, 0);
    const held = fdOf(`${d}/sleep`, O.WRONLY);
    const busy = spawnSync(`${d}/sleep`, ['0']);
    t.equal((busy.error as NodeJS.ErrnoException | undefined)?.code, 'ETXTBSY');
    c.close(held);
    t.equal(spawnSync(`${d}/sleep`, ['0']).status, 0, 'runs');
    const run = spawnSync('sh', ['-c',
      `"$0/sleep" 5 & i=$!; sleep 0.2; (echo x >"$0/sleep") 2>/dev/null; echo $?;
       rm "$0/sleep"; echo $?; kill $i`, d], { encoding: 'utf8' });
    t.equal(run.stdout.split('\n')[1], '0', 'a running program can be removed');
    t.not(run.stdout.split('\n')[0], '0', 'but not written');
  });
}
