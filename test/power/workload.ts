/**
 * Random file system operations on one mount, and what they do to the model.
 *
 * Some workers make one system call after the other, so several are in flight at any
 * time. Each picks what to do and to what from the model as it is now; another worker may
 * be faster, then the call fails and nothing is noted. Every change is noted in the tick
 * in which the mount made it. Calls may fail with the errnos that a race, a full volume
 * or a failing device explains, and no others.
 */
import { ROOT_INO } from '../../host/core/constants.js';
import {
  RENAME_EXCHANGE, RENAME_NOREPLACE, SET_GID, SET_MODE, SET_MTIME_NOW, SET_SIZE, SET_UID,
} from '../../host/fs/vfs.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import type { SimMount } from '../lib/simmount.js';
import type { Change, Inode, Model } from './model.js';

const NAMES = 14;
const DIRS_MAX = 8;
const FILE_BYTES_MAX = 200_000;
const FALLOC_KEEP_SIZE = 1;
/** What a lost race, or a device that fails, makes of a call. */
const EXPECTED = new Set([
  'ENOENT', 'EEXIST', 'ENOTEMPTY', 'ENOTDIR', 'EISDIR', 'EINVAL', 'ESTALE', 'ENODATA', 'EMLINK',
  'EOPNOTSUPP', 'ENOSPC',
]);

/** Names of xattrs; the hidden ones have to be asked for by name. */
export const HIDDEN_XATTRS: readonly string[] = [
  'scoutfs.hide.totl.size.1.2.3', 'scoutfs.hide.srch.topic', 'scoutfs.hide.indx.colour.3.4',
];
const XATTRS: readonly string[] = [
  'user.a', 'user.long', 'scoutfs.totl.size.1.2.4', 'scoutfs.srch.plain', 'scoutfs.indx.kind.1.9',
  ...HIDDEN_XATTRS,
];

export interface WorkOptions {
  below: (n: number) => number;
  ops: number;
  workers: number;
  /** Devices fail: EIO is an answer too. */
  failing?: boolean;
}

/** Chances of the operations; the sum does not matter. */
type Step = (w: Work) => Promise<void>;
const STEPS: readonly (readonly [weight: number, step: Step])[] = [
  [14, (w) => w.create()], [5, (w) => w.mkdir()], [3, (w) => w.symlink()], [4, (w) => w.link()],
  [10, (w) => w.rename()], [7, (w) => w.unlink()], [3, (w) => w.rmdir()], [26, (w) => w.write()],
  [8, (w) => w.truncate()], [4, (w) => w.fallocate()], [4, (w) => w.setattr()],
  [8, (w) => w.xattr()], [3, (w) => w.tmpfile()], [7, (w) => w.sync()], [4, (w) => w.drop()],
];
const WEIGHTS = STEPS.reduce((sum, [weight]) => sum + weight, 0);

export class Work {
  /** Calls that succeeded, by what they were. */
  readonly done = new Map<string, number>();
  private left: number;
  /** Inodes that stay open, with or without a name. */
  private readonly open: number[] = [];
  private readonly below: (n: number) => number;

  constructor(private readonly m: SimMount, private readonly model: Model,
    private readonly o: WorkOptions) {
    this.left = o.ops;
    this.below = o.below;
  }

  /** Resolves when all operations are done. @throws what no race explains */
  async run(): Promise<void> {
    const worker = async (): Promise<void> => {
      while (this.left > 0) {
        this.left -= 1;
        await this.step();
      }
    };
    await Promise.all(Array.from({ length: this.o.workers }, worker));
  }

  /** Closes what is open. */
  close(): void {
    for (const ino of this.open.splice(0)) this.letGo(ino);
  }

  private async step(): Promise<void> {
    let at = this.below(WEIGHTS);
    for (const [weight, step] of STEPS) {
      at -= weight;
      if (at >= 0) continue;
      try {
        await step(this);
      } catch (e) {
        const { errno } = asScoutfsError(e);
        if (!EXPECTED.has(errno) && !(this.o.failing === true && errno === 'EIO')) throw e;
      }
      return;
    }
  }

  // --- the operations ---------------------------------------------------------

  async create(): Promise<void> {
    const dir = this.dir();
    const name = this.name();
    const { ino } = await this.k.create(dir, name, 0o600 + this.below(64), (a) => {
      this.note('create', { what: 'make', ino: a.ino, type: 'file', mode: a.mode & 0o7777 },
        { what: 'name', dir, name, ino: a.ino });
    });
    if (this.below(3) > 0) await this.writeTo(ino);
    this.keepOrDrop(ino);
  }

  async mkdir(): Promise<void> {
    const dirs = this.inodes((n) => n.type === 'dir').length;
    if (dirs >= DIRS_MAX) return;
    const dir = this.dir();
    const name = this.name();
    // The reference stays: directories are used by number.
    await this.k.mkdir(dir, name, 0o700, (a) => {
      this.note('mkdir', { what: 'make', ino: a.ino, type: 'dir', mode: a.mode & 0o7777 },
        { what: 'name', dir, name, ino: a.ino });
    });
  }

  async symlink(): Promise<void> {
    const dir = this.dir();
    const name = this.name();
    const target = 't'.repeat(1 + this.below(this.below(3) === 0 ? 4000 : 60));
    const { ino } = await this.k.symlink(dir, name, target, (a) => {
      this.note('symlink',
        { what: 'make', ino: a.ino, type: 'symlink', mode: a.mode & 0o7777, target },
        { what: 'name', dir, name, ino: a.ino });
    });
    this.k.forget(ino);
  }

  async link(): Promise<void> {
    await this.onFile(async (ino) => {
      const dir = this.dir();
      const name = this.name();
      const a = await this.k.link(ino, dir, name, () => {
        this.note('link', { what: 'name', dir, name, ino });
      });
      this.k.forget(a.ino);
    });
  }

  async rename(): Promise<void> {
    const from = this.entry();
    if (from === null) return;
    const newDir = this.dir();
    const newName = this.name();
    const flags = [0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE][this.below(5)] ?? 0;
    await this.k.rename(from.dir, from.name, newDir, newName, flags, () => {
      this.note('rename', { what: 'rename', dir: from.dir, name: from.name, newDir, newName,
        exchange: flags === RENAME_EXCHANGE });
    });
  }

  async unlink(): Promise<void> {
    const at = this.entry((n) => n.type !== 'dir');
    if (at === null) return;
    await this.k.unlink(at.dir, at.name, () => {
      this.note('unlink', { what: 'unname', dir: at.dir, name: at.name });
    });
  }

  async rmdir(): Promise<void> {
    const at = this.entry((n) => n.type === 'dir' && (n.names.size === 0 || this.below(4) === 0));
    if (at === null) return;
    await this.k.rmdir(at.dir, at.name, () => {
      this.note('rmdir', { what: 'unname', dir: at.dir, name: at.name });
    });
  }

  async write(): Promise<void> {
    await this.onFile((ino) => this.writeTo(ino));
  }

  async truncate(): Promise<void> {
    await this.onFile(async (ino) => {
      const now = this.model.now.get(ino)?.size ?? 0;
      const size = [this.below(FILE_BYTES_MAX), this.below(now + 1), this.below(9000), 0,
        now + this.below(5000), this.below(30) * 4096][this.below(6)] ?? 0;
      await this.spread(ino, () => this.k.setattr(ino, { valid: SET_SIZE, size }, () => {
        this.note('truncate', { what: 'size', ino, size });
      }));
    });
  }

  async fallocate(): Promise<void> {
    await this.onFile(async (ino) => {
      const offset = this.below(FILE_BYTES_MAX);
      const len = 1 + this.below(100_000);
      const keep = this.below(2) === 0;
      await this.spread(ino, () => this.k.fallocate(ino, keep ? FALLOC_KEEP_SIZE : 0, offset, len,
        () => {
          if (!keep) this.note('fallocate', { what: 'grow', ino, size: offset + len });
        }));
    });
  }

  async setattr(): Promise<void> {
    await this.onFile(async (ino) => {
      if (this.below(2) === 0) {
        const mode = 0o400 + this.below(0o377);
        await this.k.setattr(ino, { valid: SET_MODE | SET_MTIME_NOW, mode }, () => {
          this.note('chmod', { what: 'mode', ino, mode });
        });
        return;
      }
      const uid = this.below(5);
      const gid = this.below(5);
      await this.k.setattr(ino, { valid: SET_UID | SET_GID, uid, gid }, () => {
        this.note('chown', { what: 'owner', ino, uid, gid });
      });
    });
  }

  async xattr(): Promise<void> {
    await this.onFile(async (ino) => {
      const name = XATTRS[this.below(XATTRS.length)] ?? '';
      if (this.below(3) === 0) {
        await this.k.removexattr(ino, name, () => {
          this.note('removexattr', { what: 'xattr', ino, name, value: null });
        });
        return;
      }
      const value = name.includes('totl') ? Buffer.from(String(this.below(1000)))
        : Buffer.alloc(this.below(name === 'user.long' ? 3000 : 40), this.below(256));
      await this.k.setxattr(ino, name, value, 0, () => {
        this.note('setxattr', { what: 'xattr', ino, name, value });
      });
    });
  }

  async tmpfile(): Promise<void> {
    const { ino } = await this.k.tmpfile(this.dir(), 0o600, (a) => {
      this.note('tmpfile', { what: 'make', ino: a.ino, type: 'file', mode: a.mode & 0o7777 });
    });
    try {
      if (this.below(2) === 0) await this.writeTo(ino);
      if (this.below(3) === 0) return;
      const dir = this.dir();
      const name = this.name();
      const a = await this.k.link(ino, dir, name, () => {
        this.note('linktmp', { what: 'name', dir, name, ino });
      });
      this.k.forget(a.ino);
    } finally {
      this.keepOrDrop(ino);
    }
  }

  async sync(): Promise<void> {
    // All that was noted until now is covered when the sync has completed.
    const { lastSeq } = this.model;
    await this.k.fsync(ROOT_INO);
    this.model.synced(lastSeq);
    this.count('sync');
  }

  drop(): Promise<void> {
    const [ino] = this.open.splice(this.below(Math.max(1, this.open.length)), 1);
    if (ino !== undefined) this.letGo(ino);
    return Promise.resolve();
  }

  // --- what they need ---------------------------------------------------------

  private get k(): SimMount['kernel'] {
    return this.m.kernel;
  }

  private async writeTo(ino: number): Promise<void> {
    const now = this.model.now.get(ino)?.size ?? 0;
    const offset = [this.below(FILE_BYTES_MAX), this.below(now + 1), now, 4096 * this.below(20),
      now + this.below(6000)][this.below(5)] ?? 0;
    const len = 1 + ([this.below(200), this.below(9000), 4095 + 4096 * this.below(4),
      this.below(this.below(4) === 0 ? 300_000 : 30_000)][this.below(4)] ?? 0);
    const bytes = new Uint8Array(len).fill(1 + this.below(255));
    const append = this.below(5) === 0;
    const n = await this.spread(ino, () => this.k.write(ino, offset, bytes, () => {
      this.note('write', { what: 'write', ino, offset: append ? 'append' : offset, bytes });
    }, append));
    if (n !== len) throw new Error(`a write of ${len} bytes wrote ${n}`);
  }

  /** Notes an operation that ended in another transaction than its first change was made in. */
  private async spread<T>(ino: number, run: () => Promise<T>): Promise<T> {
    const { trans } = this.m.client;
    const before = trans.seq;
    try {
      return await run();
    } finally {
      this.model.noteSpread(ino, before, trans.seq);
    }
  }

  private note(what: string, ...changes: Change[]): void {
    for (const c of changes) this.model.note(this.m.client.trans.seq, c);
    this.count(what);
  }

  private count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
  }

  private inodes(which: (n: Inode) => boolean): Inode[] {
    return [...this.model.now.values()].filter((n) => which(n) && (n.nlink > 0 ||
      n.ino === ROOT_INO));
  }

  private dir(): number {
    const dirs = this.inodes((n) => n.type === 'dir');
    return this.below(3) === 0 ? ROOT_INO : dirs[this.below(dirs.length)]?.ino ?? ROOT_INO;
  }

  private name(): string {
    const n = this.below(NAMES);
    return n === 0 ? `${'long'.repeat(60)}${this.below(3)}` : `n${n}`;
  }

  /** A random name in use. */
  private entry(which: (n: Inode) => boolean = () => true):
  { dir: number; name: string; ino: number } | null {
    const all: { dir: number; name: string; ino: number }[] = [];
    for (const d of this.inodes((n) => n.type === 'dir')) {
      for (const [name, ino] of d.names) {
        const n = this.model.now.get(ino);
        if (n !== undefined && which(n)) all.push({ dir: d.ino, name, ino });
      }
    }
    return all[this.below(Math.max(1, all.length))] ?? null;
  }

  /** Looks a file up by a name of it, or takes an open one, and runs `fn` on it. */
  private async onFile(fn: (ino: number) => Promise<void>): Promise<void> {
    if (this.open.length > 0 && this.below(4) === 0) {
      const ino = this.open[this.below(this.open.length)] ?? 0;
      await this.k.open(ino);
      try {
        await fn(ino);
      } finally {
        this.k.release(ino);
      }
      return;
    }
    const at = this.entry((n) => n.type === 'file');
    if (at === null) return;
    const a = await this.k.lookup(at.dir, at.name);
    if (a === null) return;
    try {
      if (this.model.now.get(a.ino)?.type === 'file') await fn(a.ino);
    } finally {
      this.k.forget(a.ino);
    }
  }

  private keepOrDrop(ino: number): void {
    if (this.below(3) === 0) this.open.push(ino);
    else this.letGo(ino);
  }

  private letGo(ino: number): void {
    this.k.release(ino);
    this.k.forget(ino);
  }
}
