/**
 * Attributes, xattrs and ACLs on several mounts: after each change through one mount all
 * mounts answer the same, by path and through descriptors that were opened before.
 *
 * | row of the acceptance catalogue | case |
 * |---|---|
 * | basic-posix-consistency, attributes | modes, owners and times; sizes |
 * | inode-items-updated | the same after everybody mounted anew |
 * | basic-posix-acl, two mounts | ACLs decide everywhere |
 * | lock-ex-race-processes | xattrs set from everywhere |
 * | lock-shrink-consistency | idle locks given back |
 */
import * as fs from 'node:fs';
import * as c from '../lib/syscalls.js';
import type { Case, CaseFn } from './kit.js';
import { USER, getFile, putFile, runCases, size } from './kit.js';

const ROUNDS = size(6, 300);
const XATTR_ROUNDS = size(10, 250);

/** All of stat but the access time, which reading may change, and the device. */
function shown(path: string): string {
  const s = c.lstat(path);
  return [s.ino, s.mode.toString(8), s.nlink, s.uid, s.gid, s.size, s.blocks, s.mtime, s.ctime,
    s.btime].join(' ');
}

/** An ACL in the kernel's form: entries are [tag, perm, id]. */
function acl(...entries: [number, number, number][]): Buffer {
  const b = Buffer.alloc(4 + 8 * entries.length);
  b.writeUInt32LE(2, 0);
  entries.forEach(([tag, perm, id], i) => {
    b.writeUInt16LE(tag, 4 + 8 * i);
    b.writeUInt16LE(perm, 6 + 8 * i);
    b.writeUInt32LE(id >>> 0, 8 + 8 * i);
  });
  return b;
}

/** u::rw- u:<uid>:<perm> g::--- m::rwx o::--- */
function userAcl(uid: number, perm: number): Buffer {
  return acl([1, 6, -1], [2, perm, uid], [4, 0, -1], [16, 7, -1], [32, 0, -1]);
}

const CASES: Record<string, CaseFn> = {
  'modes, owners and times'(x) {
    putFile(x.p(0, 'f'), 'x');
    c.ok(c.mkdir(x.p(0, 'd')));
    for (let i = 0; i < ROUNDS; i++) {
      for (const name of ['f', 'd']) {
        const path = (n: number): string => x.p(n, name);
        c.ok(c.chmod(path(i), 0o600 + i % 64));
        x.all(0o600 + i % 64, (n) => c.lstat(path(n)).mode & 0o7777, 'mode');
        c.ok(c.chown(path(i + 1), i, 1000 + i));
        x.all(`${i} ${1000 + i}`, (n) => `${c.lstat(path(n)).uid} ${c.lstat(path(n)).gid}`,
          'owner');
        c.ok(c.utimens(path(i), [[i, 1], [i, 999_999_999]]));
        x.all(BigInt(i) * 1_000_000_000n + 999_999_999n, (n) => c.lstat(path(n)).mtime, 'mtime');
        x.same((n) => shown(path(n)), 'everything');
      }
    }
  },

  'sizes'(x) {
    putFile(x.p(0, 'f'), '');
    const fds = x.nodes.map((_, n) => c.ok(c.open(x.p(n, 'f'), c.O.RDWR)));
    const fd = (n: number): number => fds[n % x.count] ?? -1;
    const sizes = (want: number): void => {
      x.all(BigInt(want), (n) => c.lstat(x.p(n, 'f')).size, 'by path');
      x.all(BigInt(want), (n) => c.fstat(fd(n)).size, 'by descriptor');
      x.all(BigInt(want), (n) => c.lseek(fd(n), 0, c.SEEK.END), 'SEEK_END');
      x.same((n) => shown(x.p(n, 'f')), 'everything');
    };
    for (let i = 1; i <= ROUNDS; i++) {
      c.ok(c.pwrite(fd(i), 'x', i * 5000 - 1));
      sizes(i * 5000);
      c.ok(c.truncate(x.p(i + 1, 'f'), i * 777));
      sizes(i * 777);
      c.ok(c.ftruncate(fd(i + 2), i * 9999));
      sizes(i * 9999);
      c.ok(c.fallocate(fd(i), 0, 0, i * 20_000));
      sizes(i * 20_000);
      c.ok(c.ftruncate(fd(i + 1), 0));
      sizes(0);
    }
    for (const f of fds) c.close(f);
  },

  'permissions'(x) {
    c.ok(c.mkdir(x.p(0, 'd'), 0o755));
    putFile(x.p(0, 'd', 'f'), 'secret');
    const read = (n: number): c.Res => c.as(USER, () => c.touch(x.p(n, 'd', 'f'), c.O.RDONLY));
    for (let i = 0; i < ROUNDS; i++) {
      c.ok(c.chmod(x.p(i, 'd', 'f'), 0o600));
      x.all('EACCES', read, 'not by others');
      c.ok(c.chown(x.p(i + 1, 'd', 'f'), USER.uid, 0));
      x.all(0, read, 'by its owner');
      c.ok(c.chmod(x.p(i, 'd'), 0o700));
      x.all('EACCES', read, 'not through the directory');
      c.ok(c.chmod(x.p(i + 1, 'd'), 0o755));
      c.ok(c.chown(x.p(i, 'd', 'f'), 0, 0));
      c.ok(c.chmod(x.p(i, 'd', 'f'), 0o4755));
      x.all(0o4755, (n) => c.lstat(x.p(n, 'd', 'f')).mode & 0o7777, 'set-uid');
      c.ok(c.chmod(x.p(i, 'd', 'f'), 0o4777));
      c.as(USER, () => { putFile(x.p(i + 1, 'd', 'f'), 'other'); });
      x.all(0o777, (n) => c.lstat(x.p(n, 'd', 'f')).mode & 0o7777, 'taken away by a write');
    }
  },

  'xattrs'(x) {
    putFile(x.p(0, 'f'), '');
    for (let i = 0; i < ROUNDS; i++) {
      x.all('ENODATA', (n) => c.getxattr(x.p(n, 'f'), 'user.a'), 'not there');
      const value = `value ${i} `.repeat(1 + i * 100 % 600);
      c.ok(c.setxattr(x.p(i, 'f'), 'user.a', value));
      x.all([value], (n) => c.getxattr(x.p(n, 'f'), 'user.a'), 'set');
      x.t.equal(c.setxattr(x.p(i + 1, 'f'), 'user.a', 'x', 1), 'EEXIST');
      c.ok(c.setxattr(x.p(i + 1, 'f'), 'trusted.b', 'b'));
      x.all(['trusted.b', 'user.a'], (n) => Array.from(c.listxattr(x.p(n, 'f'))).sort(), 'listed');
      c.ok(c.removexattr(x.p(i + 1, 'f'), 'user.a'));
      x.t.equal(c.removexattr(x.p(i, 'f'), 'user.a'), 'ENODATA');
      c.ok(c.removexattr(x.p(i, 'f'), 'trusted.b'));
      x.all([], (n) => c.listxattr(x.p(n, 'f')), 'nothing left');
      x.same((n) => shown(x.p(n, 'f')), 'and the same attributes');
    }
  },

  'ACLs decide everywhere'(x) {
    c.ok(c.mkdir(x.p(0, 'd'), 0o755));
    putFile(x.p(0, 'd', 'f'), 'x');
    const may = (n: number, flags: number): c.Res =>
      c.as(USER, () => c.touch(x.p(n, 'd', 'f'), flags));
    c.ok(c.chmod(x.p(0, 'd', 'f'), 0o600));
    for (let i = 0; i < ROUNDS; i++) {
      x.all('EACCES', (n) => may(n, c.O.RDONLY), 'no ACL');
      c.ok(c.setxattr(x.p(i, 'd', 'f'), 'system.posix_acl_access', userAcl(USER.uid, 4)));
      x.all(0, (n) => may(n, c.O.RDONLY), 'may read');
      x.all('EACCES', (n) => may(n, c.O.WRONLY), 'may not write');
      c.ok(c.setxattr(x.p(i + 1, 'd', 'f'), 'system.posix_acl_access', userAcl(USER.uid, 6)));
      x.all(0, (n) => may(n, c.O.WRONLY), 'may write');
      c.ok(c.chmod(x.p(i + 2, 'd', 'f'), 0o600));
      x.all('EACCES', (n) => may(n, c.O.RDONLY), 'the mask takes it');
      c.ok(c.removexattr(x.p(i, 'd', 'f'), 'system.posix_acl_access'));
      c.ok(c.chmod(x.p(i, 'd', 'f'), 0o600));
      c.ok(c.setxattr(x.p(i, 'd'), 'system.posix_acl_default', userAcl(USER.uid, 6)));
      putFile(x.p(i + 1, 'd', 'inherits'), '');
      x.same((n) => c.getxattr(x.p(n, 'd', 'inherits'), 'system.posix_acl_access'), 'inherited');
      x.all(0, (n) => c.as(USER, () => c.touch(x.p(n, 'd', 'inherits'), c.O.RDONLY)),
        'and in force');
      c.ok(c.unlink(x.p(i, 'd', 'inherits')));
      c.ok(c.removexattr(x.p(i + 1, 'd'), 'system.posix_acl_default'));
    }
  },

  async 'xattrs set from everywhere'(x) {
    const names = ['a', 'b', 'c', 'd'];
    for (const f of names) putFile(x.p(0, f), '');
    const actors = x.actorEach();
    const bad = await Promise.all(actors.map((a, n) =>
      a.run('setXattrs', names.map((f) => x.p(n, f)), `mount ${n}`, XATTR_ROUNDS)));
    x.t.strictSame(bad.flat(), [], 'nobody fails');
    for (const f of names) {
      x.same((n) => c.getxattr(x.p(n, f), 'user.race'), 'one value');
      x.t.match(c.getxattr(x.p(0, f), 'user.race')[0], / [0-9]+$/);
    }
  },

  'idle locks given back'(x) {
    putFile(x.p(0, 'f'), '');
    for (let i = 0; i < ROUNDS; i++) {
      const node = x.cluster.node(i % x.count);
      c.ok(c.setxattr(x.p(i, 'f'), 'user.v', `first ${i}`));
      fs.writeFileSync(node.control('debug', 'trigger', 'statfs_lock_purge'), '1');
      c.statfs(x.p(i));
      x.t.equal(node.show('debug', 'trigger', 'statfs_lock_purge').trim(), '0', 'it has fired');
      c.ok(c.setxattr(x.p(i + 1, 'f'), 'user.v', `second ${i}`));
      x.all([`second ${i}`], (n) => c.getxattr(x.p(n, 'f'), 'user.v'), 'the new value');
    }
  },

  async 'the same after everybody mounted anew'(x) {
    fill(x);
    const paths = ['.', 'empty', 'small', 'cut', 'link', 'hard', 'dir', 'dir/moved', 'sparse'];
    const now = (): string[] => paths.map((p) => `${p} ${shown(x.p(0, p))}`);
    const before = now();
    x.same((n) => paths.map((p) => shown(x.p(n, p))), 'the same on all mounts');
    await x.cluster.umountAll();
    await x.cluster.mountAll();
    x.t.strictSame(now(), before, 'and the same as before');
    x.same((n) => paths.map((p) => shown(x.p(n, p))), 'on all mounts');
    x.all('text', (n) => getFile(x.p(n, 'hard')), 'contents too');
  },
};

/** Some of everything, each by another mount. */
function fill(x: Case): void {
  putFile(x.p(0, 'empty'), '');
  putFile(x.p(1, 'small'), 'text');
  putFile(x.p(2, 'cut'), 'x'.repeat(100_000));
  c.ok(c.truncate(x.p(3, 'cut'), 5001));
  c.ok(c.symlink('target', x.p(0, 'link')));
  c.ok(c.link(x.p(1, 'small'), x.p(1, 'hard')));
  c.ok(c.mkdir(x.p(2, 'dir')));
  putFile(x.p(3, 'moving'), 'y');
  c.ok(c.rename(x.p(0, 'moving'), x.p(0, 'dir', 'moved')));
  const fd = c.ok(c.open(x.p(1, 'sparse'), c.O.CREAT | c.O.RDWR));
  for (let i = 0; i < 10; i++) c.ok(c.pwrite(fd, `at ${i}`, i * i * 50_000));
  c.close(fd);
  c.ok(c.setxattr(x.p(2, 'small'), 'user.note', 'v'.repeat(2000)));
  c.ok(c.chown(x.p(3, 'small'), 5, 6));
  c.ok(c.unlink(x.p(0, 'dir', 'moved')));
  putFile(x.p(1, 'dir', 'moved'), 'again');
  c.ok(c.utimens(x.p(2, 'dir', 'moved'), [[7, 8], [9, 10]]));
}

runCases('attributes', CASES);
