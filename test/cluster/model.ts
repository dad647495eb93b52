/**
 * What the file system of a simulated cluster must contain.
 *
 * Operations change it in the tick in which the real ones do (observe.ts), so it is the
 * state that every mount has to see in that very tick: cluster locks must make the cluster
 * look like one machine. Every change is kept with its undo and the transaction it
 * belongs to, because the transactions of a mount that dies are lost as far as they were
 * not committed.
 *
 *   mount killed  -->  undecided: its last transactions may or may not be committed
 *   first look of others at what they touched (their locks kept it hidden until the mount
 *   was reclaimed)  -->  decided by what the super block on the device says
 *
 * Data that a lost transaction wrote over old data of a file may be there or not, block by
 * block (data.md: in place), until it has been read once.
 */
import type { Committed, Journal } from './journal.js';

export const BLOCK_BYTES = 4096;
const EMPTY = Buffer.alloc(0);

export type Kind = 'file' | 'dir' | 'link';

export class ModelInode {
  nlink: number;
  data: Buffer = EMPTY;
  /** other contents that single blocks may have */
  readonly maybe = new Map<number, Buffer[]>();
  /** contents that blocks may have again when what was read was not flushed */
  readonly doubt = new Map<number, Buffer[]>();
  readonly xattrs = new Map<string, string>();
  readonly entries = new Map<string, number>();
  subdirs = 0;
  /** who changed it last */
  writer: ModelMount | null = null;
  /** contents since the oldest read at work began */
  readers = 0;
  versions: Buffer[] = [];

  constructor(readonly ino: number, readonly kind: Kind, readonly target = '') {
    this.nlink = kind === 'dir' ? 2 : 1;
  }

  get sizeBytes(): number {
    if (this.kind === 'file') return this.data.length;
    if (this.kind === 'link') return this.target.length + 1;
    let n = 0;
    for (const name of this.entries.keys()) n += name.length;
    return n;
  }
}

/** One life of a mount. */
export class ModelMount {
  decided = false;

  /** `alive`: whether its process still runs */
  constructor(readonly rid: bigint, readonly name: string, private readonly alive: () => boolean) {}

  /** It writes nothing any more; what it has not committed is lost. */
  get dead(): boolean {
    return !this.alive();
  }
}

interface Change {
  mount: ModelMount;
  /** seq of the transaction */
  seq: number;
  what: string;
  synced: boolean;
  undo: () => void;
}

export class Model {
  readonly inodes = new Map<number, ModelInode>();
  readonly violations: string[] = [];
  private changes: Change[] = [];
  /** writes of file data that are under way, with the transaction that refers to them */
  private readonly dataWrites = new Map<Promise<unknown>, { mount: ModelMount; seq: number }>();

  constructor(private readonly journal: Journal, private readonly note: (text: string) => void,
    rootIno: number) {
    this.inodes.set(rootIno, new ModelInode(rootIno, 'dir'));
  }

  violated(text: string): void {
    this.violations.push(text);
    this.note(`VIOLATION ${text}`);
  }

  /** The inode as everybody must see it now. */
  get(ino: number): ModelInode | undefined {
    const inode = this.inodes.get(ino);
    const { writer } = inode ?? { writer: null };
    if (writer?.dead === true && !writer.decided) {
      this.decide(writer);
      return this.inodes.get(ino);
    }
    return inode;
  }

  /** Notes a change that was just made. */
  changed(mount: ModelMount, seq: number, what: string, touched: ModelInode[],
    undo: () => void): void {
    const before = touched.map((i) => i.writer);
    for (const i of touched) i.writer = mount;
    this.changes.push({
      mount, seq, what, synced: false,
      undo: () => {
        undo();
        touched.forEach((i, n) => { i.writer = before[n] ?? null; });
      },
    });
  }

  /** Seq of the last transaction in which the mount changed something; 0 without one. */
  lastSeq(mount: ModelMount): number {
    return this.changes.findLast((c) => c.mount === mount)?.seq ?? 0;
  }

  /** What the mount changed up to transaction `seq` may never be lost. */
  synced(mount: ModelMount, seq: number): void {
    if (seq === 0) return;
    const committed = this.journal.committed(mount.rid);
    if (committed < seq) {
      this.violated(`${mount.name}: synced transaction ${seq}, but ${committed} is committed`);
    }
    for (const c of this.changes) if (c.mount === mount && c.seq <= seq) c.synced = true;
  }

  /** All power is gone: what remains is in the super block that the device kept. */
  powerLost(): void {
    const committed = this.journal.committedAll();
    this.drop((c) => c.seq > (committed.get(c.mount.rid) ?? 0));
    for (const c of this.changes) {
      if (c.mount.dead) c.mount.decided = true;
    }
    for (const i of this.inodes.values()) {
      i.writer = null;
      for (const [b, alts] of i.doubt) i.maybe.set(b, [...i.maybe.get(b) ?? [], ...alts]);
    }
  }

  /** Decides about all dead mounts. */
  decideAll(): void {
    for (const c of [...this.changes]) if (c.mount.dead && !c.mount.decided) this.decide(c.mount);
  }

  private decide(mount: ModelMount): void {
    mount.decided = true;
    const committed = this.journal.committed(mount.rid);
    const lost = this.drop((c) => c.mount === mount && c.seq > committed);
    this.note(`${mount.name}: transactions up to ${committed} are committed, ${lost} changes lost`);
  }

  private drop(which: (c: Change) => boolean): number {
    let lost = 0;
    const kept: Change[] = [];
    for (const c of this.changes.reverse()) {
      if (!which(c)) {
        kept.push(c);
        continue;
      }
      lost += 1;
      if (c.synced) {
        this.violated(`lost although synced: ${c.mount.name} ${c.what} (transaction ${c.seq})`);
      }
      c.undo();
    }
    this.changes = kept.reverse();
    return lost;
  }

  // ---- file data ----

  /** The mount writes data that its transaction `seq` refers to. */
  dataBegun(mount: ModelMount, seq: number, done: Promise<unknown>): void {
    this.dataWrites.set(done, { mount, seq });
    const ended = (): void => { this.dataWrites.delete(done); };
    done.then(ended, ended);
  }

  /** These transactions are about to be committed: their data has to be there. */
  superBegun(committed: Committed): void {
    for (const { mount, seq } of this.dataWrites.values()) {
      if (!mount.dead && (committed.get(mount.rid) ?? 0) >= seq) {
        this.violated(`${mount.name}: transaction ${seq} is committed before its data is written`);
      }
    }
  }

  /** New contents of a file; @returns the undo. */
  setData(inode: ModelInode, data: Buffer, at: number, to: number): () => void {
    const old = inode.data;
    // What was behind the end becomes zeros when the end moves.
    const from = Math.min(at, old.length);
    const before = new Map(inode.maybe);
    inode.data = data;
    if (inode.readers > 0) inode.versions.push(data);
    const first = Math.floor(from / BLOCK_BYTES);
    const last = Math.floor(Math.max(from, to - 1) / BLOCK_BYTES);
    for (let b = first; b <= last; b++) {
      const whole = from <= b * BLOCK_BYTES && to >= Math.min(old.length, (b + 1) * BLOCK_BYTES);
      // A block written in part keeps of the rest what was there, whatever that is.
      const alts = whole ? undefined
        : inode.maybe.get(b)?.map((alt) => overlaid(alt, data, b, from, to));
      if (alts === undefined) inode.maybe.delete(b);
      else inode.maybe.set(b, alts);
      if (whole) inode.doubt.delete(b);
    }
    const after = new Map(inode.maybe);
    return () => {
      inode.data = old;
      for (let b = first; b <= last; b++) {
        // What later changes left, which are undone already, may be there as well.
        const now = inode.maybe.get(b) ?? [];
        inode.maybe.delete(b);
        if (b * BLOCK_BYTES >= old.length) continue;
        inode.maybe.set(b, [
          ...before.get(b) ?? [], blockOf(data, b), ...after.get(b) ?? [], ...now,
        ]);
      }
    };
  }

  /** A read is about to begin; its result is compared by `endRead`. */
  beginRead(inode: ModelInode): number {
    if (inode.readers++ === 0) inode.versions = [inode.data];
    // a crash has set the contents back, and reads of the dead do not end
    else if (inode.versions.at(-1) !== inode.data) inode.versions.push(inode.data);
    return inode.versions.length - 1;
  }

  /**
   * The end of the file is looked up before its data: a read may stop at an earlier end than
   * that of the contents, as in a kernel.
   * @returns whether some contents since the read began explain what was read
   */
  endRead(inode: ModelInode, since: number, offset: number, size: number, got: Uint8Array):
  boolean {
    inode.readers -= 1;
    const ends: number[] = [];
    const ok = inode.versions.slice(since).some((v) => {
      ends.push(Math.max(0, Math.min(size, v.length - offset)));
      return ends.includes(got.length) && this.explains(inode, v, offset, got);
    });
    if (inode.readers === 0) inode.versions = [];
    return ok;
  }

  private explains(inode: ModelInode, v: Buffer, offset: number, got: Uint8Array): boolean {
    if (offset + got.length > v.length && got.length > 0) return false;
    const found = new Map<number, Buffer[]>();
    for (let at = 0; at < got.length;) {
      const b = Math.floor((offset + at) / BLOCK_BYTES);
      const end = Math.min(got.length, (b + 1) * BLOCK_BYTES - offset);
      const from = offset + at - b * BLOCK_BYTES;
      const part = got.subarray(at, end);
      const alts = inode.maybe.get(b) ?? [];
      const fit = [blockOf(v, b), ...alts].filter((a) => same(part, a, from));
      if (fit.length === 0) return false;
      if (alts.length > 0) found.set(b, fit);
      at = end;
    }
    this.learn(inode, v, found);
    return true;
  }

  /** What was read once is what is there: `found` are the contents of blocks that fit it. */
  private learn(inode: ModelInode, v: Buffer, found: Map<number, Buffer[]>): void {
    if (found.size === 0 || v !== inode.data) return;
    const data = Buffer.from(inode.data);
    for (const [b, [bytes = EMPTY, ...rest]] of found) {
      const others = [blockOf(data, b), ...inode.maybe.get(b) ?? []];
      inode.doubt.set(b, [...inode.doubt.get(b) ?? [], ...others]);
      data.set(bytes.subarray(0, data.length - b * BLOCK_BYTES), b * BLOCK_BYTES);
      const differ = rest.filter((a) => !a.equals(bytes));
      if (differ.length > 0) inode.maybe.set(b, differ);
      else inode.maybe.delete(b);
    }
    inode.data = data;
    inode.versions = inode.versions.map((x) => x === v ? data : x);
  }
}

/** A block after the bytes `from .. to` of a file's contents were written over it. */
function overlaid(block: Buffer, data: Buffer, b: number, from: number, to: number): Buffer {
  const out = Buffer.from(block);
  const start = b * BLOCK_BYTES;
  const at = Math.max(from, start);
  const end = Math.min(to, start + BLOCK_BYTES);
  // Contents that became shorter read as zeros behind their end.
  out.fill(0, at - start, end - start);
  if (at < data.length) data.copy(out, at - start, at, end);
  return out;
}

/** One block of contents, padded with zeros. */
function blockOf(data: Buffer, b: number): Buffer {
  const out = Buffer.alloc(BLOCK_BYTES);
  out.set(data.subarray(b * BLOCK_BYTES, (b + 1) * BLOCK_BYTES));
  return out;
}

function same(part: Uint8Array, block: Buffer, from: number): boolean {
  return block.compare(part, 0, part.length, from, from + part.length) === 0;
}
