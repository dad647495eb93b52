/**
 * Reads a whole mount through its system calls and holds it against a state of the model.
 */
import { ROOT_INO } from '../../host/core/constants.js';
import type { SimKernel } from '../lib/simkernel.js';
import type { SimWorld } from '../lib/simworld.js';
import type { FileType, Inode, State } from './model.js';
import { BLOCK, newInode } from './model.js';

const READ_BYTES = 1 << 20;
const S_IFMT = 0o170000;
const TYPES: Readonly<Record<number, FileType>> = {
  0o100000: 'file', 0o040000: 'dir', 0o120000: 'symlink',
};

/** An inode as read, with its contents in one piece. */
export interface FoundInode extends Omit<Inode, 'blocks'> {
  bytes: Uint8Array;
}

export type Found = Map<number, FoundInode>;

/** Names that `listxattr` hides, which have to be asked for. */
export type HiddenNames = readonly string[];

/**
 * Walks everything. References to directories are kept, so that they can be used by number;
 * those to other inodes are given back.
 */
export async function readAll(k: SimKernel, hidden: HiddenNames): Promise<Found> {
  const found: Found = new Map();
  const root = await k.getattr(ROOT_INO);
  await readInode(k, ROOT_INO, root.mode, found, hidden);
  return found;
}

async function readInode(k: SimKernel, ino: number, mode: number, found: Found,
  hidden: HiddenNames): Promise<void> {
  const type = TYPES[mode & S_IFMT] ?? 'other';
  const attr = await k.getattr(ino);
  const n: FoundInode = {
    ...newInode(ino, type, attr.mode & 0o7777), uid: attr.uid, gid: attr.gid, nlink: attr.nlink,
    size: Number(attr.size), bytes: new Uint8Array(0),
  };
  found.set(ino, n);
  if (type === 'file') n.bytes = await readFile(k, ino, n.size);
  if (type === 'symlink') n.target = Buffer.from(await k.readlink(ino)).toString();
  await readXattrs(k, n, hidden);
  if (type !== 'dir') return;
  for (const e of await k.readdir(ino)) {
    const child = await k.lookup(ino, e.name);
    if (child === null || child.ino !== e.ino) throw new Error(`${e.name}: listed, not found`);
    if (n.names.has(e.name)) throw new Error(`${e.name}: listed twice`);
    n.names.set(e.name, e.ino);
    if (!found.has(e.ino)) await readInode(k, e.ino, child.mode, found, hidden);
    if ((child.mode & S_IFMT) !== 0o040000) k.forget(e.ino);
  }
}

async function readFile(k: SimKernel, ino: number, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += READ_BYTES) bytes.set(await k.read(ino, at, READ_BYTES), at);
  return bytes;
}

async function readXattrs(k: SimKernel, n: FoundInode, hidden: HiddenNames): Promise<void> {
  for (const name of await k.listxattr(n.ino)) n.xattrs.set(name, await k.getxattr(n.ino, name));
  for (const name of hidden) {
    const value = await k.getxattr(n.ino, name).catch(() => null);
    if (value !== null) n.xattrs.set(name, value);
  }
}

/** What is different, one line each; `skip` holds inodes whose contents are not compared. */
export function differences(found: Found, state: State, skip: ReadonlySet<number>): string[] {
  const bad: string[] = [];
  compareTree(found, state, ROOT_INO, '/', skip, new Set(), bad);
  return bad;
}

function compareTree(found: Found, state: State, ino: number, path: string,
  skip: ReadonlySet<number>, seen: Set<number>, bad: string[]): void {
  const f = found.get(ino);
  const m = state.get(ino);
  if (f === undefined || m === undefined) {
    bad.push(`${path}: inode ${ino} is ${f === undefined ? 'missing' : 'unknown'}`);
    return;
  }
  if (seen.has(ino)) return;
  seen.add(ino);
  compareInode(f, m, path, skip, bad);
  for (const [name, at] of m.names) {
    const got = f.names.get(name);
    if (got !== at) bad.push(`${path}${name}: inode ${got ?? 'none'} instead of ${at}`);
    else compareTree(found, state, at, `${path}${name}/`, skip, seen, bad);
  }
  for (const name of f.names.keys()) {
    if (!m.names.has(name)) bad.push(`${path}${name}: should not be there`);
  }
}

function compareInode(f: FoundInode, m: Inode, path: string, skip: ReadonlySet<number>,
  bad: string[]): void {
  const fields = ['type', 'mode', 'uid', 'gid', 'target'] as const;
  for (const key of fields) {
    if (f[key] !== m[key]) bad.push(`${path}: ${key} ${f[key]} instead of ${m[key]}`);
  }
  if (m.type !== 'dir' && f.nlink !== m.nlink) {
    bad.push(`${path}: ${f.nlink} links instead of ${m.nlink}`);
  }
  for (const [name, value] of m.xattrs) {
    const got = f.xattrs.get(name);
    if (got === undefined || Buffer.compare(got, value) !== 0) bad.push(`${path}: xattr ${name}`);
  }
  for (const name of f.xattrs.keys()) {
    if (!m.xattrs.has(name)) bad.push(`${path}: xattr ${name} should not be there`);
  }
  if (m.type !== 'file' || skip.has(m.ino)) return;
  if (f.size !== m.size) bad.push(`${path}: size ${f.size} instead of ${m.size}`);
  else compareContents(f, m, path, bad);
}

const ZEROS = new Uint8Array(BLOCK);

function compareContents(f: FoundInode, m: Inode, path: string, bad: string[]): void {
  for (let nr = 0; nr * BLOCK < m.size; nr++) {
    const got = f.bytes.subarray(nr * BLOCK, Math.min(m.size, (nr + 1) * BLOCK));
    const block = m.blocks.get(nr);
    const same = (b: Uint8Array): boolean =>
      Buffer.compare(got, b.subarray(0, got.length)) === 0;
    if (same(block?.bytes ?? ZEROS) || (block?.later.some(same) ?? false)) continue;
    const want = block === undefined ? 'a hole' : show(block.bytes);
    bad.push(`${path} (${m.ino}): block ${nr} of ${m.size} bytes starts with ${
      show(got)} instead of ${want}, ${block?.later.length ?? 0} later versions`);
  }
}

function show(b: Uint8Array): string {
  const first = b[0] ?? 0;
  let n = 0;
  while (n < b.length && b[n] === first) n++;
  return `${first}x${n},${b[n] ?? '-'}`;
}

/**
 * What was found, as a state that later changes start from. Which blocks exist tells the
 * model's state that it equals, or that they hold something.
 */
export function adopt(found: Found, state: State): State {
  const start: State = new Map();
  for (const [ino, f] of found) {
    const { bytes, ...rest } = f;
    const blocks: Inode['blocks'] = new Map();
    const known = state.get(ino)?.blocks;
    for (let nr = 0; nr * BLOCK < f.size; nr++) {
      const b = new Uint8Array(BLOCK);
      b.set(bytes.subarray(nr * BLOCK, (nr + 1) * BLOCK));
      if (known?.has(nr) === true || b.some((byte) => byte !== 0)) {
        blocks.set(nr, { bytes: b, later: [] });
      }
    }
    // The model counts the names of a directory, of which it has one.
    start.set(ino, { ...rest, blocks, nlink: f.type === 'dir' ? 1 : f.nlink });
  }
  return start;
}

/** A world's promise of what a mount shows. */
export function readMount(w: SimWorld, k: SimKernel, hidden: HiddenNames): Promise<Found> {
  return w.run(readAll(k, hidden));
}
