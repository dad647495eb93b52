/**
 * A file system tree in memory: what the names exerciser expects of a mount.
 *
 * Only what POSIX and the specification say: names in order of creation, link counts, a
 * directory's size as the sum of its name lengths, inheritance from set-gid directories,
 * and the errno of each operation in the order in which Linux checks. Times are known only
 * after they were set and until something else sets them.
 */
import * as c from '../lib/syscalls.js';
import type { Res } from '../lib/syscalls.js';

export type Kind = 'dir' | 'reg' | 'lnk' | 'fifo';

export class Node {
  ino = 0;
  nlink: number;
  uid = 0;
  gid: number;
  atime: bigint | null = null;
  mtime: bigint | null = null;
  /** Contents of a file, target of a link. */
  text = '';
  readonly xattrs = new Map<string, string>();
  /** Entries of a directory, in order of creation. */
  readonly children = new Map<string, Node>();
  /** Of directories. */
  parent: Node | null = null;
  name = '';

  constructor(readonly kind: Kind, public perm: number, dir: Node | null) {
    this.nlink = kind === 'dir' ? 2 : 1;
    const inherits = dir !== null && (dir.perm & 0o2000) !== 0;
    this.gid = inherits ? dir.gid : 0;
    if (inherits && kind === 'dir') this.perm |= 0o2000;
  }

  get size(): number {
    if (this.kind === 'dir') return [...this.children.keys()].reduce((n, s) => n + s.length, 0);
    return this.kind === 'lnk' ? this.text.length + 1 : this.text.length;
  }

  /** Whether this directory is `other` or above it. */
  isAbove(other: Node): boolean {
    for (let at: Node | null = other; at !== null; at = at.parent) if (at === this) return true;
    return false;
  }
}

export class Tree {
  readonly root = new Node('dir', 0o755, null);
  readonly dirs: Node[] = [this.root];

  constructor(readonly path: string) {}

  pathOf(dir: Node, name = ''): string {
    const parts = name === '' ? [] : [name];
    for (let at = dir; at.parent !== null; at = at.parent) parts.unshift(at.name);
    return [this.path, ...parts].join('/');
  }

  depth(dir: Node): number {
    let n = 0;
    for (let at = dir; at.parent !== null; at = at.parent) n += 1;
    return n;
  }

  add(dir: Node, name: string, node: Node): void {
    dir.children.delete(name);
    dir.children.set(name, node);
    dir.mtime = null;
    if (node.kind !== 'dir') return;
    node.parent = dir;
    node.name = name;
    dir.nlink += 1;
  }

  /** Takes the entry away; the inode's own count is the caller's. */
  private detach(dir: Node, name: string, node: Node): void {
    dir.children.delete(name);
    dir.mtime = null;
    if (node.kind === 'dir') dir.nlink -= 1;
  }

  /** Removes an entry and its link. */
  private drop(dir: Node, name: string, node: Node): void {
    this.detach(dir, name, node);
    node.nlink -= node.kind === 'dir' ? 2 : 1;
    if (node.kind === 'dir') this.dirs.splice(this.dirs.indexOf(node), 1);
  }

  make(dir: Node, name: string, kind: Kind, perm: number): Node | string {
    if (dir.children.has(name)) return 'EEXIST';
    const node = new Node(kind, kind === 'lnk' ? 0o777 : perm, dir);
    this.add(dir, name, node);
    if (kind === 'dir') this.dirs.push(node);
    return node;
  }

  link(dir: Node, name: string, toDir: Node, toName: string): Res {
    const node = dir.children.get(name);
    if (node === undefined) return 'ENOENT';
    if (toDir.children.has(toName)) return 'EEXIST';
    if (node.kind === 'dir') return 'EPERM';
    node.nlink += 1;
    this.add(toDir, toName, node);
    return 0;
  }

  unlink(dir: Node, name: string): Res {
    const node = dir.children.get(name);
    if (node === undefined) return 'ENOENT';
    if (node.kind === 'dir') return 'EISDIR';
    this.drop(dir, name, node);
    return 0;
  }

  rmdir(dir: Node, name: string): Res {
    const node = dir.children.get(name);
    if (node === undefined) return 'ENOENT';
    if (node.kind !== 'dir') return 'ENOTDIR';
    if (node.children.size > 0) return 'ENOTEMPTY';
    this.drop(dir, name, node);
    return 0;
  }

  rename(dir: Node, name: string, toDir: Node, toName: string, flags: number): Res {
    const node = dir.children.get(name);
    const old = toDir.children.get(toName);
    if (node === undefined) return 'ENOENT';
    if (old !== undefined && flags === c.RENAME.NOREPLACE) return 'EEXIST';
    if (flags === c.RENAME.EXCHANGE) {
      return old === undefined ? 'ENOENT' : old === node ? 0 : 'EINVAL';
    }
    if (node.kind === 'dir' && node.isAbove(toDir)) return 'EINVAL';
    if (old?.kind === 'dir' && old !== node && old.isAbove(dir)) return 'ENOTEMPTY';
    if (old === node) return 0;
    if (old !== undefined) {
      if (node.kind === 'dir' && old.kind !== 'dir') return 'ENOTDIR';
      if (node.kind !== 'dir' && old.kind === 'dir') return 'EISDIR';
      if (old.children.size > 0) return 'ENOTEMPTY';
      this.drop(toDir, toName, old);
    }
    this.detach(dir, name, node);
    this.add(toDir, toName, node);
    return 0;
  }

  /** By root: ids change, and what may be executed loses its set-id bits. */
  chown(node: Node, uid: number, gid: number): void {
    node.uid = uid;
    node.gid = gid;
    if (node.kind === 'dir') return;
    node.perm &= ~0o4000;
    if ((node.perm & 0o010) !== 0) node.perm &= ~0o2000;
  }

  setxattr(node: Node, name: string, value: string, flags: number): Res {
    const has = node.xattrs.has(name);
    if (name.startsWith('user.') && node.kind !== 'reg' && node.kind !== 'dir') return 'EPERM';
    if (flags === 1 && has) return 'EEXIST';
    if (flags === 2 && !has) return 'ENODATA';
    node.xattrs.set(name, value);
    return 0;
  }

  removexattr(node: Node, name: string): Res {
    if (name.startsWith('user.') && node.kind !== 'reg' && node.kind !== 'dir') return 'EPERM';
    return node.xattrs.delete(name) ? 0 : 'ENODATA';
  }
}
