/**
 * What a tree of files is made of, as text: one line for each entry, so that trees on
 * different file systems, or one tree at different times, can be compared.
 *
 * Times are those that cp can set. A directory's size and link count are the file
 * system's own business; links of other files are counted and grouped within the tree.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { getXattr, listXattrs } from './posix.js';

export interface SnapshotOptions {
  /** Hashes of the contents as well. */
  contents?: boolean;
  /** What only holds on one file system: inode number, blocks, access and change times. */
  own?: boolean;
}

/** Of which there is none on the other file system. */
const FOREIGN_XATTR = /^(security\.|system\.)/;
const CHUNK_BYTES = 1 << 20;

function contentHash(path: Buffer): string {
  const hash = createHash('sha256');
  const fd = fs.openSync(path, 'r');
  const buf = Buffer.alloc(CHUNK_BYTES);
  for (;;) {
    const n = fs.readSync(fd, buf, 0, buf.length, null);
    if (n === 0) break;
    hash.update(buf.subarray(0, n));
  }
  fs.closeSync(fd);
  return hash.digest('hex').slice(0, 16);
}

function xattrs(path: Buffer): string {
  return listXattrs(path).filter((n) => !FOREIGN_XATTR.test(n)).sort().map((n) => {
    const v = getXattr(path, n);
    return `${n}=${typeof v === 'number' ? `errno ${v}` : v.toString('base64')}`;
  }).join();
}

class Walk {
  readonly lines = new Map<string, string>();
  private readonly firstOf = new Map<bigint, string>();

  constructor(private readonly root: string, private readonly o: SnapshotOptions) {}

  visit(rel: string): void {
    const path = Buffer.from(`${this.root}/${rel}`, 'latin1');
    const st = fs.lstatSync(path, { bigint: true });
    const parts: unknown[] = [st.mode.toString(8), st.uid, st.gid, `mtime ${st.mtimeNs}`];
    if (!st.isDirectory()) parts.push(this.linked(rel, st));
    // a symbolic link's size counts the end of its text here, as upstream's does
    if (!st.isDirectory() && !st.isSymbolicLink()) parts.push(`size ${st.size}`);
    if (st.isCharacterDevice() || st.isBlockDevice()) parts.push(`rdev ${st.rdev}`);
    if (st.isSymbolicLink()) {
      parts.push(`-> ${fs.readlinkSync(path, { encoding: 'buffer' }).toString('base64')}`);
    }
    const x = xattrs(path);
    if (x !== '') parts.push(x);
    if (this.o.own === true) {
      parts.push(`ino ${st.ino} nlink ${st.nlink} blocks ${st.blocks} atime ${st.atimeNs}`,
        `ctime ${st.ctimeNs}`);
    }
    if (this.o.contents === true && st.isFile()) parts.push(contentHash(path));
    this.lines.set(rel, parts.join(' '));
    if (!st.isDirectory()) return;
    // names are bytes: latin1 keeps every one of them
    const names = fs.readdirSync(path, { encoding: 'latin1' as BufferEncoding });
    for (const name of names.sort()) this.visit(rel === '.' ? name : `${rel}/${name}`);
  }

  private linked(rel: string, st: fs.BigIntStats): string {
    if (st.nlink === 1n) return '';
    const first = this.firstOf.get(st.ino);
    if (first !== undefined) return `is ${first}`;
    this.firstOf.set(st.ino, rel);
    return '';
  }
}

/** Path below `root` → what is there; the root itself is '.'. */
export function snapshot(root: string, o: SnapshotOptions = {}): Map<string, string> {
  const walk = new Walk(root, o);
  walk.visit('.');
  return walk.lines;
}

/** One line for each entry that is not the same in both. */
export function differences(a: Map<string, string>, b: Map<string, string>): string[] {
  const out: string[] = [];
  for (const path of new Set([...a.keys(), ...b.keys()])) {
    const [x, y] = [a.get(path), b.get(path)];
    if (x !== y) out.push(`${path}: ${x ?? 'absent'} | ${y ?? 'absent'}`);
  }
  return out;
}
