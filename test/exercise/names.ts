/**
 * Random operations on names and attributes against a tree in memory (`tree.ts`).
 *
 * Directories and names are few, so that operations meet: half of what is asked must be
 * refused, with the errno that the model says. Files stay open while their names go, move
 * and come back. What is looked at, and after each remount everything, must be what the
 * model holds: types, modes, owners, counts, sizes, times that were set, xattrs, targets,
 * contents, inode numbers, and listings in their order.
 */
import * as c from '../lib/syscalls.js';
import type { Res, Time } from '../lib/syscalls.js';
import { Journal, Random, Weighted } from './exerciser.js';
import type { Exerciser } from './exerciser.js';
import { Tree } from './tree.js';
import type { Kind, Node } from './tree.js';

const DIRS_MAX = 60;
const DEPTH_MAX = 10;
const HELD_MAX = 6;
const CWD = -100;
const NAMES = Array.from({ length: 14 }, (_, i) => (i === 5 ? 'long'.repeat(63) : i === 9 ?
  'n'.repeat(255) : `n${i}`.padEnd(i, 'x')));
const XATTRS = ['user.a', 'user.bb', 'trusted.a', 'trusted.long.name.of.an.attribute'];
const TYPES: Record<Kind, number> = {
  dir: c.S.IFDIR, reg: c.S.IFREG, lnk: c.S.IFLNK, fifo: c.S.IFIFO,
};
const DT: Record<Kind, number> = { dir: 4, reg: 8, lnk: 10, fifo: 1 };

type OpName = 'create' | 'mkdir' | 'fifo' | 'symlink' | 'link' | 'unlink' | 'rmdir' | 'rename' |
  'chmod' | 'chown' | 'utimes' | 'setxattr' | 'removexattr' | 'write' | 'tmpfile' | 'hold' |
  'release' | 'look' | 'list';

const OPS = new Weighted<OpName>([
  ['create', 12], ['mkdir', 7], ['fifo', 3], ['symlink', 5], ['link', 10], ['unlink', 12],
  ['rmdir', 6], ['rename', 22], ['chmod', 4], ['chown', 4], ['utimes', 4], ['setxattr', 6],
  ['removexattr', 4], ['write', 4], ['tmpfile', 3], ['hold', 3], ['release', 3], ['look', 12],
  ['list', 4],
]);

/** A directory and a name in it, with the inode that is there. */
interface Place {
  dir: Node;
  name: string;
  path: string;
  node: Node | undefined;
}

export class NamesExerciser implements Exerciser {
  private readonly rnd: Random;
  private readonly journal: Journal;
  private readonly tree: Tree;
  private readonly held: { fd: number; node: Node }[] = [];

  constructor(dir: string, seed: number) {
    this.rnd = new Random(seed);
    this.journal = new Journal(`names, seed ${seed}`);
    this.tree = new Tree(dir);
    c.ok(c.chmod(dir, 0o755), 'chmod');
  }

  get counts(): Map<string, number> {
    return this.journal.counts;
  }

  step(): void {
    // some choices cannot be made, such as releasing when nothing is held: choose again
    for (const before = this.journal.nr; this.journal.nr === before;) {
      this[OPS.pick(this.rnd)]();
    }
  }

  pause(): void {
    while (this.held.length > 0) this.release();
  }

  resume(): void {
    this.journal.op('all', '');
    const walk = (dir: Node, path: string): void => {
      this.checkList(dir, path);
      for (const [name, node] of dir.children) {
        this.check(node, `${path}/${name}`);
        if (node.kind === 'dir') walk(node, `${path}/${name}`);
      }
    };
    this.check(this.tree.root, this.tree.path);
    walk(this.tree.root, this.tree.path);
  }

  // --- choices ------------------------------------------------------------------

  private place(mustExist = false): Place {
    let dir = this.rnd.pick(this.tree.dirs);
    if (mustExist && dir.children.size === 0) dir = this.rnd.pick(this.tree.dirs);
    const there = [...dir.children.keys()];
    const name = there.length > 0 && (mustExist || this.rnd.oneIn(3)) ? this.rnd.pick(there) :
      this.rnd.pick(NAMES);
    return { dir, name, path: this.tree.pathOf(dir, name), node: dir.children.get(name) };
  }

  /** An empty directory, so that there are always some to make. */
  private emptyDir(): Place {
    const node = this.rnd.pick([this.tree.root,
      ...this.tree.dirs.filter((d) => d.parent !== null && d.children.size === 0)]);
    const { parent, name } = node;
    if (parent === null) return this.place();
    return { dir: parent, name, path: this.tree.pathOf(parent, name), node };
  }

  private text(most: number): string {
    const len = this.rnd.oneIn(20) ? this.rnd.below(most) : this.rnd.below(60);
    return String.fromCharCode(97 + this.rnd.below(26)).repeat(1 + len);
  }

  private short(path: string): string {
    return path.slice(this.tree.path.length).replace(/(.)\1{9,}/g, '$1..');
  }

  private note(op: string, ...words: (string | number)[]): void {
    this.journal.op(op, words.map((w) => (typeof w === 'string' ? this.short(w) : w)).join(' '));
  }

  // --- names --------------------------------------------------------------------

  private make(op: string, kind: Kind, run: (path: string, perm: number) => Res): Node | null {
    const at = this.place();
    const perm = this.rnd.below(0o10000);
    this.note(op, at.path, perm);
    const made = this.tree.make(at.dir, at.name, kind, kind === 'dir' ? perm & 0o1777 : perm);
    this.expect(run(at.path, perm), typeof made === 'string' ? made : 0);
    if (typeof made === 'string') return null;
    return made;
  }

  private create(): void {
    this.make('create', 'reg',
      (path, perm) => c.touch(path, c.O.CREAT | c.O.EXCL | c.O.WRONLY, perm));
  }

  private mkdir(): void {
    if (this.tree.dirs.length >= DIRS_MAX) return;
    const at = this.place();
    if (this.tree.depth(at.dir) >= DEPTH_MAX) return;
    this.make('mkdir', 'dir', (path, perm) => c.mkdir(path, perm));
  }

  private fifo(): void {
    this.make('fifo', 'fifo', (path, perm) => c.mknod(path, c.S.IFIFO | perm));
  }

  private symlink(): void {
    const target = this.text(3000);
    const node = this.make('symlink', 'lnk', (path) => c.symlink(target, path));
    if (node !== null) node.text = target;
  }

  private link(): void {
    const from = this.place();
    const to = this.place();
    this.note('link', from.path, to.path);
    const want = this.tree.link(from.dir, from.name, to.dir, to.name);
    this.expect(c.link(from.path, to.path), want);
  }

  private unlink(): void {
    const at = this.place();
    this.note('unlink', at.path);
    this.expect(c.unlink(at.path), this.tree.unlink(at.dir, at.name));
  }

  private rmdir(): void {
    const at = this.rnd.oneIn(2) ? this.place() : this.emptyDir();
    this.note('rmdir', at.path);
    this.expect(c.rmdir(at.path), this.tree.rmdir(at.dir, at.name));
  }

  private rename(): void {
    const from = this.place(this.rnd.oneIn(2));
    const to = this.rnd.oneIn(4) ? { ...this.place(), dir: from.dir } : this.place();
    const path = this.tree.pathOf(to.dir, to.name);
    const flags = this.rnd.oneIn(5) ? c.RENAME.NOREPLACE : this.rnd.oneIn(12) ?
      c.RENAME.EXCHANGE : 0;
    this.note('rename', from.path, path, flags);
    const want = this.tree.rename(from.dir, from.name, to.dir, to.name, flags);
    this.expect(c.rename(from.path, path, flags), want);
  }

  private tmpfile(): void {
    const at = this.place();
    const perm = this.rnd.below(0o1000);
    this.note('tmpfile', at.path);
    const fd = c.ok(c.open(this.tree.pathOf(at.dir), c.O.TMPFILE | c.O.RDWR, perm), 'O_TMPFILE');
    const text = this.text(100);
    c.ok(c.write(fd, text), 'write');
    const made = this.tree.make(at.dir, at.name, 'reg', perm);
    const r = c.linkat(CWD, `/proc/self/fd/${fd}`, CWD, at.path, c.AT_SYMLINK_FOLLOW);
    this.expect(r, typeof made === 'string' ? made : 0);
    if (typeof made !== 'string') made.text = text;
    c.close(fd);
  }

  // --- attributes ---------------------------------------------------------------

  private chmod(): void {
    const at = this.place(true);
    if (at.node === undefined || at.node.kind === 'lnk') return;
    const perm = this.rnd.below(0o10000);
    this.note('chmod', at.path, perm);
    this.expect(c.chmod(at.path, perm), 0);
    at.node.perm = perm;
  }

  private chown(): void {
    const at = this.place(true);
    if (at.node === undefined) return;
    const [uid, gid] = [this.rnd.below(5), this.rnd.below(5)];
    this.note('chown', at.path, uid, gid);
    this.expect(c.lchown(at.path, uid, gid), 0);
    this.tree.chown(at.node, uid, gid);
  }

  private utimes(): void {
    const at = this.place(true);
    if (at.node === undefined) return;
    const time = (): Time => [this.rnd.below(2 ** 32) - 2 ** 31, this.rnd.below(1e9)];
    const [a, m] = [time(), this.rnd.oneIn(3) ? c.OMIT : time()];
    this.note('utimes', at.path, a.join('.'), m.join('.'));
    this.expect(c.utimens(at.path, [a, m], c.AT_SYMLINK_NOFOLLOW), 0);
    at.node.atime = BigInt(a[0]) * 1_000_000_000n + BigInt(a[1]);
    if (m !== c.OMIT) at.node.mtime = BigInt(m[0]) * 1_000_000_000n + BigInt(m[1]);
  }

  private setxattr(): void {
    const at = this.place(true);
    if (at.node === undefined) return;
    const name = this.rnd.pick(XATTRS);
    const value = this.rnd.oneIn(8) ? '' : this.text(this.rnd.oneIn(20) ? 60_000 : 3000);
    const flags = this.rnd.below(3);
    this.note('setxattr', at.path, name, value.length, flags);
    const want = this.tree.setxattr(at.node, name, value, flags);
    this.expect(c.setxattr(at.path, name, value, flags), want);
  }

  private removexattr(): void {
    const at = this.place(true);
    if (at.node === undefined) return;
    const name = this.rnd.pick([...at.node.xattrs.keys(), ...XATTRS.slice(0, 2)]);
    this.note('removexattr', at.path, name);
    this.expect(c.removexattr(at.path, name), this.tree.removexattr(at.node, name));
  }

  private write(): void {
    const at = this.place(true);
    if (at.node?.kind !== 'reg') return;
    const text = this.text(9000);
    this.note('write', at.path, text.length);
    const fd = c.ok(c.open(at.path, c.O.WRONLY | c.O.TRUNC), 'open');
    this.expect(c.write(fd, text), text.length);
    c.close(fd);
    at.node.text = text;
    at.node.mtime = null;
  }

  /** Keeps a file open, whatever becomes of its names. */
  private hold(): void {
    const at = this.place(true);
    if (at.node?.kind !== 'reg' || this.held.length >= HELD_MAX) return;
    this.note('hold', at.path);
    this.held.push({ fd: c.ok(c.open(at.path, c.O.RDWR), 'open'), node: at.node });
  }

  private release(): void {
    const one = this.held.shift();
    if (one === undefined) return;
    this.note('release', one.node.nlink);
    this.compare(one.node, c.fstat(one.fd));
    const buf = Buffer.alloc(one.node.text.length + 1);
    const n = c.pread(one.fd, buf, buf.length, 0);
    if (n !== one.node.text.length || buf.toString('latin1', 0, n) !== one.node.text) {
      throw this.journal.differs(`contents of an open file: ${n} bytes`);
    }
    c.close(one.fd);
  }

  // --- looking ------------------------------------------------------------------

  private look(): void {
    const at = this.place();
    this.note('look', at.path);
    if (at.node === undefined) this.expect(c.lstatErr(at.path), 'ENOENT');
    else this.check(at.node, at.path);
  }

  private list(): void {
    const dir = this.rnd.pick(this.tree.dirs);
    const path = this.tree.pathOf(dir);
    this.note('list', path);
    this.check(dir, path);
    this.checkList(dir, path);
  }

  private checkList(dir: Node, path: string): void {
    const fd = c.ok(c.open(path, c.O.RDONLY | c.O.DIRECTORY), 'open');
    const got = c.listAll(fd, this.rnd.oneIn(2) ? 32_768 : 600)
      .filter((e) => e.name !== '.' && e.name !== '..').map((e) => `${e.name} ${e.type}`);
    c.close(fd);
    const want = [...dir.children].map(([name, node]) => `${name} ${DT[node.kind]}`);
    if (got.join('/') !== want.join('/')) {
      throw this.journal.differs(`${path} lists ${got.join(', ')}; should be ${want.join(', ')}`);
    }
  }

  private check(node: Node, path: string): void {
    this.compare(node, c.lstat(path));
    if (node.kind === 'lnk' && c.readlink(path) !== node.text) {
      throw this.journal.differs(`${path}: target`);
    }
    const names = c.listxattr(path);
    const want = [...node.xattrs.keys()].sort();
    if (typeof names === 'string' || names.sort().join() !== want.join()) {
      throw this.journal.differs(`${path}: xattrs ${String(names)}, should be ${want.join()}`);
    }
    for (const [name, value] of node.xattrs) {
      const got = c.getxattr(path, name);
      if (typeof got === 'string' || got[0] !== value) {
        throw this.journal.differs(`${path}: xattr ${name} is ${String(got).slice(0, 40)}`);
      }
    }
  }

  private compare(node: Node, s: c.Stat): void {
    if (node.ino === 0) node.ino = s.ino;
    const got = { ...s, size: Number(s.size) };
    const want = {
      ino: node.ino, mode: TYPES[node.kind] | node.perm, nlink: node.nlink, uid: node.uid,
      gid: node.gid, size: node.size, atime: node.atime ?? s.atime, mtime: node.mtime ?? s.mtime,
    };
    for (const key of Object.keys(want) as (keyof typeof want)[]) {
      if (got[key] !== want[key]) {
        throw this.journal.differs(`${node.kind} ${key} is ${got[key]}, should be ${want[key]}`);
      }
    }
  }

  private expect(got: Res, want: Res): void {
    if (got !== want) throw this.journal.differs(`answered ${got}, should be ${want}`);
  }
}
