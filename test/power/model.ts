/**
 * A model of a file system that knows what a crash may leave.
 *
 * Every change is noted with the seq of the transaction it was made in, in the tick in
 * which the mount made it. A crash must leave the state at one commit boundary: all
 * changes up to some seq S and none after it, S being at least what the last completed
 * sync covered. `stateAt(S)` is that state.
 *
 * One thing is not transactional, as on upstream: bytes that are written over blocks
 * which a committed file already has go in place. So for every block that existed at S,
 * what later transactions wrote into the very same block is acceptable as well
 * (`Block.later`), a whole 4 KiB version of it at a time, until the file gave the
 * block up. Source: trans.md 8, data.md 5.
 */
export const BLOCK = 4096;

export type FileType = 'file' | 'dir' | 'symlink' | 'other';

export type Change =
  | { what: 'make'; ino: number; type: FileType; mode: number; target?: string }
  | { what: 'name'; dir: number; name: string; ino: number }
  | { what: 'unname'; dir: number; name: string }
  | { what: 'rename'; dir: number; name: string; newDir: number; newName: string;
    exchange: boolean }
  | { what: 'mode'; ino: number; mode: number }
  | { what: 'owner'; ino: number; uid: number; gid: number }
  | { what: 'write'; ino: number; offset: number | 'append'; bytes: Uint8Array }
  | { what: 'size'; ino: number; size: number }
  | { what: 'grow'; ino: number; size: number }
  | { what: 'xattr'; ino: number; name: string; value: Uint8Array | null };

/** A block that holds data: what it holds, and what was written into it later. */
export interface Block {
  bytes: Uint8Array;
  later: Uint8Array[];
}

export interface Inode {
  ino: number;
  type: FileType;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  size: number;
  target: string;
  /** The blocks that are mapped and written; others read as zeros. */
  blocks: Map<number, Block>;
  xattrs: Map<string, Uint8Array>;
  /** Of directories. */
  names: Map<string, number>;
}

export type State = Map<number, Inode>;

interface Noted {
  seq: number;
  change: Change;
}

/** An operation that may have taken several transactions, seen from `firstSeq` on. */
interface Spread {
  ino: number;
  firstSeq: number;
  lastSeq: number;
}

function cloneInode(n: Inode): Inode {
  return {
    ...n,
    blocks: new Map([...n.blocks].map(([nr, b]) => [nr, { bytes: b.bytes, later: [...b.later] }])),
    xattrs: new Map(n.xattrs), names: new Map(n.names),
  };
}

export function cloneState(s: State): State {
  return new Map([...s].map(([ino, n]) => [ino, cloneInode(n)]));
}

export function newInode(ino: number, type: FileType, mode: number, target = ''): Inode {
  return {
    ino, type, mode, uid: 0, gid: 0, nlink: 0, size: Buffer.byteLength(target), target,
    blocks: new Map(), xattrs: new Map(), names: new Map(),
  };
}

function need(s: State, ino: number): Inode {
  const n = s.get(ino);
  if (n === undefined) throw new Error(`the model has no inode ${ino}`);
  return n;
}

/** Bytes `from ..` of block `nr` become `part`; the rest stays or is zero. */
function patched(n: Inode, nr: number, from: number, part: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  const old = n.blocks.get(nr)?.bytes;
  if (old !== undefined) bytes.set(old);
  bytes.set(part, from);
  return bytes;
}

/** The parts of a write by block. */
function* partsOf(offset: number, bytes: Uint8Array):
Iterable<{ nr: number; from: number; part: Uint8Array }> {
  for (let at = 0; at < bytes.length;) {
    const nr = Math.floor((offset + at) / BLOCK);
    const from = (offset + at) % BLOCK;
    const len = Math.min(BLOCK - from, bytes.length - at);
    yield { nr, from, part: bytes.subarray(at, at + len) };
    at += len;
  }
}

function write(n: Inode, offset: number, bytes: Uint8Array): void {
  for (const { nr, from, part } of partsOf(offset, bytes)) {
    n.blocks.set(nr, { bytes: patched(n, nr, from, part), later: [] });
  }
  n.size = Math.max(n.size, offset + bytes.length);
}

function setSize(n: Inode, size: number): void {
  if (size < n.size) {
    const keep = Math.ceil(size / BLOCK);
    for (const nr of [...n.blocks.keys()]) if (nr >= keep) n.blocks.delete(nr);
    const tail = n.blocks.get(keep - 1);
    if (tail !== undefined && size % BLOCK !== 0) tail.bytes = cutTail(tail.bytes, size % BLOCK);
  }
  n.size = size;
}

function cutTail(bytes: Uint8Array, keep: number): Uint8Array {
  const cut = new Uint8Array(BLOCK);
  cut.set(bytes.subarray(0, keep));
  return cut;
}

function unname(s: State, dir: number, name: string): void {
  const d = need(s, dir);
  const ino = d.names.get(name);
  if (ino === undefined) throw new Error(`the model has no ${name} in ${dir}`);
  d.names.delete(name);
  const n = need(s, ino);
  n.nlink -= 1;
}

function name(s: State, dir: number, as: string, ino: number): void {
  const d = need(s, dir);
  if (d.names.has(as)) throw new Error(`the model has ${as} in ${dir} already`);
  d.names.set(as, ino);
  need(s, ino).nlink += 1;
}

/** Makes a change. */
export function apply(s: State, c: Change): void {
  switch (c.what) {
    case 'make': s.set(c.ino, newInode(c.ino, c.type, c.mode, c.target)); break;
    case 'name': name(s, c.dir, c.name, c.ino); break;
    case 'unname': unname(s, c.dir, c.name); break;
    case 'rename': rename(s, c); break;
    case 'mode': need(s, c.ino).mode = c.mode; break;
    case 'owner': Object.assign(need(s, c.ino), { uid: c.uid, gid: c.gid }); break;
    case 'write': {
      const n = need(s, c.ino);
      write(n, c.offset === 'append' ? n.size : c.offset, c.bytes);
      break;
    }
    case 'size': setSize(need(s, c.ino), c.size); break;
    case 'grow': {
      const n = need(s, c.ino);
      n.size = Math.max(n.size, c.size);
      break;
    }
    case 'xattr':
      if (c.value === null) need(s, c.ino).xattrs.delete(c.name);
      else need(s, c.ino).xattrs.set(c.name, c.value);
      break;
  }
}

function rename(s: State, c: Change & { what: 'rename' }): void {
  const ino = need(s, c.dir).names.get(c.name);
  const other = need(s, c.newDir).names.get(c.newName);
  if (ino === undefined) throw new Error(`the model has no ${c.name} in ${c.dir}`);
  unname(s, c.dir, c.name);
  if (other !== undefined) unname(s, c.newDir, c.newName);
  name(s, c.newDir, c.newName, ino);
  if (c.exchange && other !== undefined) name(s, c.dir, c.name, other);
}

/** A rename between two names of one inode changes nothing, and need not be committed. */
function isNothing(s: State, c: Change): boolean {
  return c.what === 'rename' &&
    s.get(c.dir)?.names.get(c.name) === s.get(c.newDir)?.names.get(c.newName);
}

/**
 * Adds to the blocks of `s` what a change after its boundary may have put there in place.
 * `now` is the state just before the change, `gone` holds blocks that are not the same any
 * more.
 */
function noteLater(s: State, now: State, c: Change, gone: Set<string>): void {
  if (c.what !== 'write' && c.what !== 'size') return;
  const at = s.get(c.ino);
  const n = now.get(c.ino);
  if (at === undefined || n === undefined) return;
  const put = (nr: number, bytes: Uint8Array): void => {
    if (gone.has(`${c.ino} ${nr}`)) return;
    at.blocks.get(nr)?.later.push(bytes);
  };
  if (c.what === 'write') {
    const offset = c.offset === 'append' ? n.size : c.offset;
    for (const { nr, from, part } of partsOf(offset, c.bytes)) put(nr, patched(n, nr, from, part));
    return;
  }
  if (c.size >= n.size) return;
  const keep = Math.ceil(c.size / BLOCK);
  const tail = n.blocks.get(keep - 1);
  if (tail !== undefined && c.size % BLOCK !== 0) {
    put(keep - 1, cutTail(tail.bytes, c.size % BLOCK));
  }
  for (const nr of n.blocks.keys()) if (nr >= keep) gone.add(`${c.ino} ${nr}`);
}

/** What was true at one moment, for a later comparison. */
export interface Moment {
  readonly changes: number;
  readonly floorSeq: number;
}

export class Model {
  /** All changes made: what a mount that goes on must show. */
  readonly now: State;
  private readonly base: State;
  private readonly noted: Noted[] = [];
  private readonly spreads: Spread[] = [];
  private floorSeq = 0;

  /** Starts with a state that is durable. */
  constructor(start: State) {
    this.base = cloneState(start);
    this.now = cloneState(start);
  }

  /** The mount made a change, in its transaction `seq`, in this tick. */
  note(seq: number, change: Change): void {
    if (isNothing(this.now, change)) return;
    apply(this.now, change);
    this.noted.push({ seq, change });
  }

  /** A change of `ino` may have been completed only in a later transaction. */
  noteSpread(ino: number, firstSeq: number, lastSeq: number): void {
    if (lastSeq > firstSeq) this.spreads.push({ ino, firstSeq, lastSeq });
  }

  /** What a sync that begins now covers; to be handed to `synced` when it has completed. */
  get lastSeq(): number {
    return this.noted.at(-1)?.seq ?? 0;
  }

  /** Everything up to a `lastSeq` is durable. */
  synced(seq: number): void {
    this.floorSeq = Math.max(this.floorSeq, seq);
  }

  moment(): Moment {
    return { changes: this.noted.length, floorSeq: this.floorSeq };
  }

  /** The boundaries at which a crash at that moment may leave the volume, ascending. */
  boundaries(m: Moment): number[] {
    const seqs = new Set([m.floorSeq]);
    for (const { seq } of this.noted.slice(0, m.changes)) if (seq > m.floorSeq) seqs.add(seq);
    return [...seqs].sort((a, b) => a - b);
  }

  /** The state at a boundary, with what was written in place later. */
  stateAt(seq: number, m: Moment): State {
    const s = cloneState(this.base);
    const changes = this.noted.slice(0, m.changes);
    for (const n of changes) if (n.seq <= seq) apply(s, n.change);
    const now = cloneState(s);
    const gone = new Set<string>();
    for (const n of changes) {
      if (n.seq <= seq) continue;
      noteLater(s, now, n.change, gone);
      apply(now, n.change);
    }
    return s;
  }

  /** What was done to an inode, one line each, for messages. */
  history(ino: number, m: Moment): string[] {
    return this.noted.slice(0, m.changes).flatMap(({ seq, change: c }) => {
      if (!('ino' in c) || c.ino !== ino) return [];
      const { what, ...rest } = c;
      const text = Object.entries(rest).map(([k, v]) =>
        `${k} ${v instanceof Uint8Array ? `${v[0]}x${v.length}` : v}`).join(', ');
      return [`transaction ${seq}: ${what} ${text}`];
    });
  }

  /** Inodes of which an operation was under way over that boundary: any of its parts may be. */
  spreadOver(seq: number): Set<number> {
    return new Set(this.spreads.filter((s) => s.firstSeq <= seq && seq < s.lastSeq)
      .map((s) => s.ino));
  }
}
