/**
 * Random operations of several processes in one tree, in the manner of fsstress.
 *
 * Nobody can say what each must answer, but what it may: an errno that a race explains,
 * never EIO, ESTALE, or one that belongs to another call. What all of them left behind must
 * agree with itself (`inconsistencies`), and the checker must find the volume sound.
 */
import { basename, dirname, join } from 'node:path';
import * as c from '../lib/syscalls.js';
import type { Res } from '../lib/syscalls.js';
import { Journal, Random, Weighted } from './exerciser.js';
import type { Exerciser } from './exerciser.js';

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g'.repeat(200)];
const DEPTH_MAX = 3;
const DATA_MAX_BYTES = 20_000;
const PAGE = 4096;
/** What any path may answer while others rename and remove its directories. */
const PATH_ERRORS = ['ENOENT', 'ENOTDIR', 'ELOOP'];
const O_QUIET = c.O.NONBLOCK | c.O.NOFOLLOW;

type OpName = 'create' | 'mkdir' | 'fifo' | 'symlink' | 'link' | 'unlink' | 'rmdir' | 'rename' |
  'attributes' | 'xattr' | 'write' | 'truncate' | 'read' | 'map' | 'list' | 'tmpfile';

const OPS = new Weighted<OpName>([
  ['create', 12], ['mkdir', 10], ['fifo', 2], ['symlink', 4], ['link', 8], ['unlink', 12],
  ['rmdir', 7], ['rename', 20], ['attributes', 5], ['xattr', 5], ['write', 10], ['truncate', 5],
  ['read', 6], ['map', 4], ['list', 5], ['tmpfile', 3],
]);

export class RaceExerciser implements Exerciser {
  private readonly rnd: Random;
  private readonly journal: Journal;
  private readonly top: string;
  private readonly buf = Buffer.alloc(DATA_MAX_BYTES);

  /** Works beside `dir`, in the directory that all processes share. */
  constructor(dir: string, seed: number) {
    this.rnd = new Random(seed);
    this.journal = new Journal(`race, seed ${seed}, ${basename(dir)}`);
    this.top = join(dirname(dir), 'shared');
    const made = c.mkdir(this.top);
    if (made !== 0 && made !== 'EEXIST') throw new Error(`mkdir: ${made}`);
  }

  get counts(): Map<string, number> {
    return this.journal.counts;
  }

  step(): void {
    const op = OPS.pick(this.rnd);
    this[op](this.path());
  }

  pause(): void {
    // nothing stays open between operations
  }

  resume(): void {
    // nobody knows what there must be
  }

  private path(): string {
    const parts = Array.from({ length: 1 + this.rnd.below(DEPTH_MAX) },
      () => this.rnd.pick(NAMES));
    return [this.top, ...parts].join('/');
  }

  /** The result must be a number or one of the path's or the call's own errors. */
  private may(what: string, path: string, r: Res | bigint, ...errors: string[]): boolean {
    this.journal.op(what, path.slice(this.top.length).replace(/g{9,}/, 'g..'));
    if (typeof r !== 'string') return true;
    if (!PATH_ERRORS.includes(r) && !errors.includes(r)) {
      throw this.journal.differs(`answered ${r}`);
    }
    return false;
  }

  private create(path: string): void {
    const r = c.touch(path, c.O.CREAT | c.O.WRONLY | O_QUIET, 0o644);
    this.may('create', path, r, 'EISDIR', 'ENXIO');
  }

  private mkdir(path: string): void {
    this.may('mkdir', path, c.mkdir(path), 'EEXIST');
  }

  private fifo(path: string): void {
    this.may('fifo', path, c.mknod(path, c.S.IFIFO | 0o600), 'EEXIST');
  }

  private symlink(path: string): void {
    this.may('symlink', path, c.symlink(this.rnd.pick(NAMES), path), 'EEXIST');
  }

  private link(path: string): void {
    this.may('link', path, c.link(this.path(), path), 'EEXIST', 'EPERM');
  }

  private unlink(path: string): void {
    this.may('unlink', path, c.unlink(path), 'EISDIR');
  }

  private rmdir(path: string): void {
    this.may('rmdir', path, c.rmdir(path), 'ENOTEMPTY');
  }

  private rename(path: string): void {
    const flags = this.rnd.oneIn(4) ? c.RENAME.NOREPLACE : 0;
    const r = c.rename(path, this.path(), flags);
    this.may('rename', path, r, 'EEXIST', 'EISDIR', 'ENOTEMPTY', 'EINVAL');
  }

  private tmpfile(path: string): void {
    const fd = c.open(dirname(path), c.O.TMPFILE | c.O.WRONLY, 0o600);
    if (!this.may('tmpfile', path, fd) || typeof fd === 'string') return;
    c.ok(c.write(fd, 'unnamed'), 'write');
    const r = c.linkat(-100, `/proc/self/fd/${fd}`, -100, path, c.AT_SYMLINK_FOLLOW);
    this.may('name', path, r, 'EEXIST');
    c.close(fd);
  }

  private attributes(path: string): void {
    const how = this.rnd.below(3);
    const r = how === 0 ? c.lchown(path, this.rnd.below(3), this.rnd.below(3)) :
      how === 1 ? c.utimens(path, [[this.rnd.below(1e9), 0], c.NOW], c.AT_SYMLINK_NOFOLLOW) :
        c.chmod(path, 0o600 | this.rnd.below(0o1000));
    this.may('attributes', path, r);
  }

  private xattr(path: string): void {
    const name = this.rnd.pick(['trusted.a', 'trusted.b']);
    const r = this.rnd.oneIn(3) ? c.removexattr(path, name) :
      c.setxattr(path, name, 'v'.repeat(this.rnd.below(2000)), this.rnd.below(3));
    this.may('xattr', path, r, 'EEXIST', 'ENODATA');
  }

  /** Opens a file and calls `run` with it. */
  private withFile(what: string, path: string, flags: number, run: (fd: number) => void): void {
    const fd = c.open(path, flags | O_QUIET);
    if (!this.may(what, path, fd, 'EISDIR', 'ENXIO') || typeof fd === 'string') return;
    if (c.fstat(fd).type === c.S.IFREG) run(fd);
    c.close(fd);
  }

  private write(path: string): void {
    this.withFile('write', path, this.rnd.oneIn(3) ? c.O.WRONLY | c.O.APPEND : c.O.RDWR, (fd) => {
      const data = this.buf.subarray(0, 1 + this.rnd.below(DATA_MAX_BYTES));
      data.fill(this.rnd.below(256));
      const r = c.pwrite(fd, data, this.rnd.below(DATA_MAX_BYTES));
      if (r !== data.length) throw this.journal.differs(`wrote ${r} of ${data.length}`);
    });
  }

  private truncate(path: string): void {
    this.withFile('truncate', path, c.O.RDWR, (fd) => {
      c.ok(c.ftruncate(fd, this.rnd.below(2 * DATA_MAX_BYTES)), 'ftruncate');
      if (this.rnd.oneIn(3)) c.ok(c.fallocate(fd, this.rnd.below(2), 0, DATA_MAX_BYTES), 'falloc');
    });
  }

  private read(path: string): void {
    this.withFile('read', path, c.O.RDONLY, (fd) => {
      c.ok(c.pread(fd, this.buf, DATA_MAX_BYTES, this.rnd.below(DATA_MAX_BYTES)), 'pread');
    });
  }

  private map(path: string): void {
    this.withFile('map', path, c.O.RDWR, (fd) => {
      // Others truncate: only what nobody can cut off may be touched, a page of our own.
      const own = c.ok(c.open(this.top, c.O.TMPFILE | c.O.RDWR, 0o600), 'O_TMPFILE');
      c.ok(c.ftruncate(own, PAGE), 'ftruncate');
      const at = c.mmap(own, PAGE, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
      if (typeof at === 'string') throw this.journal.differs(`mmap: ${at}`);
      c.poke(at, 'mapped');
      c.ok(c.pwriteFrom(fd, at, PAGE, 0), 'pwrite');
      c.munmap(at, PAGE);
      c.close(own);
    });
  }

  private list(path: string): void {
    const fd = c.open(dirname(path), c.O.RDONLY | c.O.DIRECTORY);
    if (!this.may('list', path, fd) || typeof fd === 'string') return;
    for (;;) {
      const some = c.getdents(fd, 700);
      // a directory that was removed meanwhile
      if (some === 'ENOENT' || some.length === 0) break;
      if (typeof some === 'string') throw this.journal.differs(`getdents: ${some}`);
    }
    c.close(fd);
  }
}

/** What does not agree in a tree that nobody changes: counts, sizes, names listed twice. */
export function inconsistencies(top: string): string[] {
  const found: string[] = [];
  const links = new Map<number, { seen: number; nlink: number; path: string }>();
  const walk = (path: string): void => {
    const fd = c.ok(c.open(path, c.O.RDONLY | c.O.DIRECTORY), `open ${path}`);
    const list = c.listAll(fd).filter((e) => e.name !== '.' && e.name !== '..');
    c.close(fd);
    const dirs = list.filter((e) => e.type === 4).length;
    const bytes = list.reduce((n, e) => n + e.name.length, 0);
    const { nlink, size } = c.lstat(path);
    if (nlink !== dirs + 2) found.push(`${path}: nlink ${nlink}, has ${dirs} directories`);
    if (Number(size) !== bytes) found.push(`${path}: size ${size}, names have ${bytes}`);
    if (new Set(list.map((e) => e.name)).size !== list.length) found.push(`${path}: a name twice`);
    for (const e of list) {
      const child = `${path}/${e.name}`;
      const s = c.lstat(child);
      if (s.ino !== e.ino) found.push(`${child}: listed as ${e.ino}, is ${s.ino}`);
      if (e.type === 4) {
        walk(child);
      } else {
        const known = links.get(s.ino) ?? { seen: 0, nlink: s.nlink, path: child };
        known.seen += 1;
        links.set(s.ino, known);
      }
    }
  };
  walk(top);
  for (const { seen, nlink, path } of links.values()) {
    if (seen !== nlink) found.push(`${path}: nlink ${nlink}, has ${seen} names`);
  }
  return found;
}
