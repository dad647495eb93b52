/**
 * Which fields each operation changes: the tables of inode.md 10 and data.md 3, row by row.
 *
 * Every row starts in a new transaction, so that a seq that was "set" is larger than before.
 * Sizes, versions and seqs come from STAT_MORE, times from statx; all from outside.
 */
import type { Test } from 'tap';
import { IOC_STAT_MORE } from '../../../host/fs/ioctl.js';
import * as c from '../../lib/syscalls.js';
import { fdOf, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { O } = c;
const CWD = -100;

/** What one inode showed. */
interface Seen {
  ctime: bigint;
  mtime: bigint;
  atime: bigint;
  metaSeq: bigint;
  dataSeq: bigint;
  dataVersion: bigint;
  online: number;
  offline: number;
}

function seen(path: string): Seen {
  const fd = fdOf(path, O.RDONLY | O.NONBLOCK);
  const arg = Buffer.alloc(56);
  c.ok(c.ioctl(fd, IOC_STAT_MORE, arg), 'STAT_MORE');
  const s = c.fstat(fd);
  c.close(fd);
  const at = (o: number): bigint => arg.readBigUInt64LE(o);
  return {
    ctime: s.ctime, mtime: s.mtime, atime: s.atime, metaSeq: at(0), dataSeq: at(8),
    dataVersion: at(16), online: Number(at(24)), offline: Number(at(32)),
  };
}

/**
 * The words of one row: `c` ctime, `m` mtime, `M` meta_seq, `D` data_seq changed; a number is
 * what data_version grew by; `+` stands for one or more.
 */
function changes(a: Seen, b: Seen): string {
  const version = Number(b.dataVersion - a.dataVersion);
  return (b.ctime > a.ctime ? 'c' : '') + (b.mtime > a.mtime ? 'm' : '') +
    (b.metaSeq > a.metaSeq ? 'M' : '') + (b.dataSeq > a.dataSeq ? 'D' : '') +
    (version === 0 ? '' : String(version));
}

/** Runs `what` in a transaction of its own and tells what it did to each of `paths`. */
function effect(d: string, paths: string[], what: () => void): string[] {
  const dir = fdOf(d, O.RDONLY);
  c.ok(c.fsync(dir), 'fsync');
  const before = paths.map(seen);
  tick();
  what();
  const after = paths.map(seen);
  c.close(dir);
  return after.map((s, i) => {
    const b = before[i];
    return b === undefined ? '' : changes(b, s);
  });
}

export function fields(x: Area): void {
  x.root('names', (t, d) => {
    const p = (n: string): string => `${d}/${n}`;
    const is = (want: string[], paths: string[], what: string, run: () => void): void => {
      t.strictSame(effect(d, paths, run), want, what);
    };
    put(p('f'), 'x');
    c.ok(c.mkdir(p('s')));
    c.ok(c.mkdir(p('e')));
    put(p('g'), 'y');
    put(p('h'), 'z');
    c.ok(c.link(p('h'), p('h2')));
    is(['cmM'], [d], 'create', () => { put(p('new')); });
    is(['cmM'], [d], 'mkdir', () => { c.ok(c.mkdir(p('newdir'))); });
    is(['cmM'], [d], 'mknod', () => { c.ok(c.mknod(p('fifo'), c.S.IFIFO | 0o600)); });
    is(['cmM'], [d], 'symlink', () => { c.ok(c.symlink('x', p('l'))); });
    is(['M'], [d], 'tmpfile', () => { c.close(fdOf(d, O.TMPFILE | O.RDWR)); });
    is(['cmM', 'cM'], [d, p('f')], 'link', () => { c.ok(c.link(p('f'), p('f2'))); });
    is(['cmM', 'cM'], [d, p('h')], 'unlink', () => { c.ok(c.unlink(p('h2'))); });
    is(['cmM'], [d], 'rmdir', () => { c.ok(c.rmdir(p('newdir'))); });
    is(['cmM', 'cmM', 'cM'], [d, p('s'), p('f2')], 'rename to another directory', () => {
      c.ok(c.rename(p('f'), p('s/f')));
    });
    is(['cmM', 'cM'], [d, p('e')], 'rename in one directory', () => {
      c.ok(c.rename(p('e'), p('e2')));
      c.ok(c.rename(p('e2'), p('e')));
    });
    c.ok(c.link(p('g'), p('g2')));
    is(['cmM', 'cM'], [d, p('g2')], 'the inode that a rename replaces', () => {
      c.ok(c.rename(p('h'), p('g')));
    });
    is(['', ''], [d, p('g')], 'lookups and listings', () => {
      c.lstat(p('g'));
      const fd = fdOf(d, O.RDONLY);
      c.listAll(fd);
      c.close(fd);
      c.statErr(p('none'));
    });
    is(['', ''], [d, p('s')], 'refused operations', () => {
      t.strictSame([c.mkdir(p('s')), c.rmdir(d), c.unlink(p('s')), c.rename(p('s'), p('s/x')),
        c.link(p('s'), p('x'))], ['EEXIST', 'ENOTEMPTY', 'EISDIR', 'EINVAL', 'EPERM']);
    });
    const fresh = seen(p('new'));
    t.strictSame([fresh.dataVersion, fresh.online, fresh.offline], [0n, 0, 0]);
    t.ok(fresh.metaSeq === fresh.dataSeq && fresh.metaSeq > 0n, 'a new inode has both seqs');
  });

  x.root('attributes', (t, d) => {
    const f = `${d}/f`;
    put(f, 'data');
    const is = (want: string, what: string, run: () => void): void => {
      t.strictSame(effect(d, [f, d], run), [want, ''], what);
    };
    is('cM', 'chmod', () => { c.ok(c.chmod(f, 0o600)); });
    is('cM', 'chown', () => { c.ok(c.chown(f, 1, 2)); });
    is('cM', 'utimes', () => { c.ok(c.utimens(f, [[1, 0], c.OMIT])); });
    is('cmM', 'utimes now', () => { c.ok(c.utimens(f, null)); });
    is('cM', 'setxattr', () => { c.ok(c.setxattr(f, 'user.a', 'value')); });
    is('cM', 'setxattr again', () => { c.ok(c.setxattr(f, 'user.a', 'other')); });
    is('cM', 'removexattr', () => { c.ok(c.removexattr(f, 'user.a')); });
    is('', 'a refused setxattr', () => {
      t.equal(c.setxattr(f, 'user.none', 'x', 2), 'ENODATA');
    });
    t.strictSame([seen(f).dataVersion > 0n, seen(f).online], [true, 1]);
  });

  x.root('data', (t, d) => { dataRows(t, d); });

  x.root('blocks', (t, d) => {
    const f = `${d}/f`;
    put(f);
    const counts = (): number[] => {
      const { online, offline } = seen(f);
      return [online, offline, c.lstat(f).blocks];
    };
    t.strictSame(counts(), [0, 0, 0]);
    const fd = fdOf(f, O.RDWR);
    c.ok(c.write(fd, 'x'));
    t.strictSame(counts(), [1, 0, 8]);
    c.ok(c.write(fd, 'y'));
    t.strictSame(counts(), [1, 0, 8], 'overwriting');
    c.ok(c.pwrite(fd, 'x'.repeat(8192), 4096));
    t.strictSame(counts(), [3, 0, 24], 'appending');
    c.ok(c.pwrite(fd, 'x', 2 ** 30));
    t.strictSame(counts(), [4, 0, 32], 'sparse');
    c.ok(c.fallocate(fd, 0, 0, 1 << 20));
    t.strictSame(counts(), [4, 0, 32], 'reserved');
    c.ok(c.ftruncate(fd, 4097));
    t.strictSame(counts(), [2, 0, 16], 'truncated');
    c.ok(c.ftruncate(fd, 0));
    t.strictSame(counts(), [0, 0, 0]);
    c.close(fd);
    const s = seen(d);
    t.strictSame([s.online, s.offline, s.dataVersion], [0, 0, 0n], 'a directory has none');
  });
}

function dataRows(t: Test, d: string): void {
  const f = `${d}/f`;
  put(f, 'x'.repeat(10_000));
  const fd = fdOf(f, O.RDWR);
  const r = fdOf(f, O.RDONLY);
  const is = (want: string | RegExp, what: string, run: () => void): void => {
    const [file, dir] = effect(d, [f, d], run);
    if (typeof want === 'string') t.equal(file, want, what);
    else t.match(file, want, what);
    t.equal(dir, '', `${what}: the directory stays`);
  };
  const buf = Buffer.alloc(10_000);
  is('', 'reading', () => { c.ok(c.pread(r, buf, 10_000, 0)); });
  is('', 'reading directly', () => { c.ok(c.pread(fd, buf, 10_000, 0)); });
  is(/^cmMD[1-9]\d*$/, 'write', () => { c.ok(c.pwrite(fd, 'y', 5)); });
  is(/^cmMD[1-9]\d*$/, 'append', () => { c.ok(c.pwrite(fd, 'y', 10_000)); });
  is('cmMD1', 'truncate', () => { c.ok(c.ftruncate(fd, 5000)); });
  is('cmMD', 'truncate to the same size', () => { c.ok(c.ftruncate(fd, 5000)); });
  is('cmMD1', 'grow', () => { c.ok(c.truncate(f, 9000)); });
  is('cmMD1', 'O_TRUNC', () => { c.ok(c.touch(f, O.WRONLY | O.TRUNC)); });
  is('M', 'fallocate KEEP_SIZE', () => { c.ok(c.fallocate(fd, 1, 0, 9000)); });
  is('M1', 'fallocate that grows', () => { c.ok(c.fallocate(fd, 0, 0, 9000)); });
  is('M', 'fallocate within the size', () => { c.ok(c.fallocate(fd, 0, 0, 9000)); });
  is('', 'fallocate refused', () => { t.equal(c.fallocate(fd, 3, 0, 4096), 'EOPNOTSUPP'); });
  is('', 'a refused write', () => { t.equal(c.pwrite(fd, 'x', -1), 'EINVAL'); });
  is('', 'fsync', () => { c.ok(c.fsync(fd)); });
  const at = c.mmap(fd, 4096, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
  if (typeof at === 'string') throw new Error(at);
  is('', 'mapping and reading', () => { c.peek(at, 10); });
  is(/^cmMD[1-9]\d*$/, 'storing to a map', () => {
    c.poke(at, 'mapped');
    c.ok(c.msync(at, 4096, c.MS.SYNC));
  });
  c.munmap(at, 4096);
  is(/^cmMD[1-9]\d*$/, 'copy_file_range', () => { c.ok(c.copyRange(fd, 0, fd, 8000, 500)); });
  is('', 'seeking', () => { c.lseek(fd, 0, c.SEEK.DATA); });
  const tmp = fdOf(d, O.TMPFILE | O.RDWR);
  c.ok(c.write(tmp, 'x'));
  t.strictSame(effect(d, [`/proc/self/fd/${tmp}`, d], () => {
    c.ok(c.linkat(CWD, `/proc/self/fd/${tmp}`, CWD, `${d}/named`, c.AT_SYMLINK_FOLLOW));
  }), ['cM', 'cmM'], 'naming a tmpfile');
  for (const n of [fd, r, tmp]) c.close(n);
}
