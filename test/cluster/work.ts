/**
 * What the applications of a simulated cluster do: operations drawn from the seed, on
 * directories that all mounts share and on one of their own.
 *
 * A worker is one caller on one mount. It looks names up as a path walk does, works on
 * what it finds, and gives its references back, sometimes only after it has kept an open
 * file across the deletions of others. Failures are the model's business (observe.ts);
 * here an errno is the end of one operation.
 */
import { ROOT_INO } from '../../host/core/constants.js';
import { SET_SIZE } from '../../host/fs/vfs.js';
import type { SimMount } from '../lib/simmount.js';

const NAMES = ['a', 'b', 'dd', 'eee'];
const SHARED = ['s0', 's1'];
const BLOCK = 4096;
const FILE_MAX_BLOCKS = 6;
const XATTRS = [
  'user.x', 'scoutfs.totl.t.1.2.3', 'scoutfs.totl.u.1.2.4', 'scoutfs.indx.i.7.9', 'scoutfs.srch.s',
];
/** Xattrs that are indexed, so that there are search files to compact. */
const MARKS = ['scoutfs.srch.s', 'scoutfs.srch.t', 'scoutfs.srch.u'];

export interface WorkerDeps {
  mount: SimMount;
  /** a name for the mount's own directory, and for the trace */
  name: string;
  below: (n: number) => number;
  /** told before an operation and after it */
  began(what: string): void;
  ended(outcome: string): void;
  /** what the caller has done before is on the devices now */
  synced(seq: number): void;
  /** seq of the last transaction in which the mount changed something */
  lastSeq(): number;
  /** whether the mount is to be unmounted: nothing new is begun */
  leaves(): boolean;
  /** resolves when the process may go on */
  pass(): Promise<void>;
  sleep(ms: number): Promise<void>;
}

export class Worker {
  /** Operations left. */
  left: number;
  private fill = 0;

  constructor(private readonly d: WorkerDeps, operations: number) {
    this.left = operations;
  }

  private get k(): SimMount['kernel'] {
    return this.d.mount.kernel;
  }

  /** Works until nothing is left; never ends when the mount dies. */
  async run(): Promise<void> {
    const { d } = this;
    while (this.left > 0 && !d.leaves()) {
      this.left -= 1;
      await d.sleep(d.below(3) === 0 ? d.below(400) : d.below(20));
      await d.pass();
      await this.one();
    }
  }

  private async one(): Promise<void> {
    const { d } = this;
    const dirName = d.below(4) === 0 ? `p${d.name}` : this.pick(SHARED);
    const kinds = [
      'create', 'create', 'mkdir', 'symlink', 'link', 'unlink', 'unlink', 'rename', 'rename',
      'write', 'write', 'append', 'append', 'read', 'read', 'truncate', 'xattr', 'xattr', 'xattr',
      'readdir', 'fsync', 'keep', 'keep', 'keep', 'rmdir', 'mark', 'mark', 'mark',
    ] as const;
    const kind = this.pick(kinds);
    d.began(`${kind} in ${dirName}`);
    const known: number[] = [];
    let outcome = 'ok';
    try {
      const dir = await this.dir(dirName, known);
      outcome = await this.act(kind, dir, known);
    } catch (e) {
      outcome = e instanceof Error ? e.message : String(e);
    }
    for (const ino of known) this.k.forget(ino);
    d.ended(outcome);
  }

  private pick<T>(from: readonly T[]): T {
    const one = from[this.d.below(from.length)];
    if (one === undefined) throw new Error('nothing to pick from');
    return one;
  }

  private async dir(name: string, known: number[]): Promise<number> {
    const found = await this.k.lookup(ROOT_INO, name);
    const dir = found ?? await this.k.mkdir(ROOT_INO, name);
    known.push(dir.ino);
    return dir.ino;
  }

  /** A file under some name, mostly made when there is none; null for none and for others. */
  private async file(dir: number, known: number[]): Promise<number | null> {
    const { k } = this;
    const name = this.pick(NAMES);
    let attr = await k.lookup(dir, name);
    if (attr === null && this.d.below(4) !== 0) {
      attr = await k.create(dir, name);
      k.release(attr.ino);
    }
    if (attr === null) return null;
    known.push(attr.ino);
    return (attr.mode & 0o170000) === 0o100000 ? attr.ino : null;
  }

  private async act(kind: string, dir: number, known: number[]): Promise<string> {
    const { k } = this;
    const name = this.pick(NAMES);
    switch (kind) {
      case 'create': {
        const { ino } = await k.create(dir, name);
        known.push(ino);
        if (this.d.below(2) === 0) await k.write(ino, 0, this.bytes());
        k.release(ino);
        return `inode ${ino}`;
      }
      case 'mkdir':
        known.push((await k.mkdir(dir, name)).ino);
        return 'ok';
      case 'symlink':
        known.push((await k.symlink(dir, name, `to ${this.d.below(100)}`)).ino);
        return 'ok';
      case 'unlink':
        await k.unlink(dir, name);
        return name;
      case 'rmdir':
        await k.rmdir(dir, name);
        return name;
      case 'rename': {
        const other = this.d.below(2) === 0 ? dir : await this.dir(this.pick(SHARED), known);
        const name2 = this.pick(NAMES);
        await k.rename(dir, name, other, name2);
        return `${name} to ${name2} in ${other}`;
      }
      case 'readdir':
        return String((await k.readdir(dir)).length);
      case 'fsync':
        await this.sync(dir);
        return 'ok';
      default:
        return this.onFile(kind, dir, name, known);
    }
  }

  private async onFile(kind: string, dir: number, name: string, known: number[]):
  Promise<string> {
    const { k, d } = this;
    const ino = await this.file(dir, known);
    if (ino === null) return 'nothing there';
    const at = d.below(FILE_MAX_BLOCKS * BLOCK);
    switch (kind) {
      case 'link':
        known.push((await k.link(ino, dir, name)).ino);
        break;
      case 'write':
        await k.write(ino, at, this.bytes());
        if (d.below(4) === 0) await this.sync(ino);
        break;
      case 'append':
        await k.write(ino, 0, this.bytes(), undefined, true);
        break;
      case 'read':
        await k.read(ino, d.below(2) === 0 ? 0 : at, FILE_MAX_BLOCKS * BLOCK);
        break;
      case 'truncate':
        await k.setattr(ino, { valid: SET_SIZE, size: at });
        break;
      case 'xattr':
        await this.xattr(ino);
        break;
      case 'mark':
        await k.setxattr(ino, this.pick(MARKS), Buffer.from('m'), 0);
        break;
      case 'keep':
        await this.keep(ino);
        break;
    }
    return `inode ${ino}`;
  }

  /** Keeps a file open while others may delete it, and uses it. */
  private async keep(ino: number): Promise<void> {
    const { k, d } = this;
    await k.open(ino);
    await d.sleep(d.below(6000));
    await d.pass();
    await k.getattr(ino);
    await k.read(ino, 0, FILE_MAX_BLOCKS * BLOCK);
    await k.write(ino, d.below(2 * BLOCK), this.bytes());
    k.release(ino);
  }

  private async xattr(ino: number): Promise<void> {
    const { k, d } = this;
    const name = this.pick(XATTRS);
    const action = d.below(4);
    if (action === 0) await k.removexattr(ino, name);
    else if (action === 1) await k.getxattr(ino, name);
    else {
      const value = name.includes('indx') ? '' : String(d.below(1000));
      await k.setxattr(ino, name, Buffer.from(value), Math.max(0, d.below(5) - 2));
    }
  }

  private async sync(ino: number): Promise<void> {
    const seq = this.d.lastSeq();
    await this.k.fsync(ino);
    this.d.synced(seq);
  }

  /** Some bytes that tell who wrote them. */
  private bytes(): Uint8Array {
    const { d } = this;
    this.fill = (this.fill + 1) % 26;
    const len = d.below(3) === 0 ? BLOCK * (1 + d.below(3)) : 1 + d.below(2 * BLOCK);
    const base = d.below(2) === 0 ? 65 : 97;
    return new Uint8Array(len).fill(base + (this.fill + d.below(26)) % 26);
  }
}
