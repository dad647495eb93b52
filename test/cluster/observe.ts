/**
 * Holds every operation of a mount against the model, in the tick in which it happens.
 *
 * The file system's methods are synchronous and throw `Wait` until everything is there
 * (op.ts); the run that returns, or throws an errno, is the moment at which the operation
 * took place. There the model must give the same answer, and changes in the same way.
 */
import type { Attr, EntryOut, Name } from '../../host/fs/vfs.js';
import { SET_SIZE } from '../../host/fs/vfs.js';
import type { ReadIn, SetAttr, WriteIn } from '../../host/fs/vfs.js';
import { FIRST_POS } from '../../host/fuse/readdir.js';
import { Wait } from '../../host/mount/op.js';
import type { ErrnoName } from '../../host/observe/errors.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import type { SimMount } from '../lib/simmount.js';
import type { Model, ModelMount } from './model.js';
import { ModelInode } from './model.js';

const S_IFMT = 0o170000;
const TYPES = { file: 0o100000, dir: 0o040000, link: 0o120000 } as const;
/** What a mount that cannot reach the cluster or its devices may say at any time. */
const OUTSIDE: readonly ErrnoName[] = ['ENOLINK', 'ESHUTDOWN', 'ECONNABORTED'];

/** What the model says of an operation: the errno it fails with, or what it changes. */
type Verdict<R> = ErrnoName | { touched: ModelInode[]; apply: (result: R) => (() => void) | null };

type Args = readonly unknown[];

function text(name: Name): string {
  return Buffer.from(name.bytes.subarray(name.off, name.off + name.len)).toString();
}

export class Observer {
  /** Operations seen. */
  operations = 0;
  private readonly fs: SimMount['client']['fs'];

  /** `mayFail`: whether devices fail just now, so that EIO is an answer. */
  constructor(private readonly model: Model, private readonly m: SimMount,
    readonly life: ModelMount, private readonly mayFail: () => boolean) {
    this.fs = m.client.fs;
    this.watchNames();
    this.watchFiles();
    this.watchXattrs();
    const { trans } = m.client;
    const add = trans.addDataWrite.bind(trans);
    trans.addDataWrite = (done) => {
      model.dataBegun(life, trans.seq, done);
      add(done);
    };
  }

  private get seq(): number {
    return this.m.client.trans.seq;
  }

  /** Replaces one method by one that asks the model too. */
  private watch<R>(name: string, judge: (...args: never[]) => Verdict<R>): void {
    const methods = this.fs as unknown as Record<string, (...args: unknown[]) => R>;
    const real = methods[name]?.bind(this.fs);
    if (real === undefined) throw new Error(`no method ${name}`);
    methods[name] = (op: unknown, call: unknown, ...args: unknown[]): R => {
      let result: R;
      try {
        result = real(op, call, ...args);
      } catch (e) {
        if (!(e instanceof Wait)) this.failed(name, args, e, judge(...args as never[]));
        throw e;
      }
      if (this.m.process.alive()) this.succeeded(name, args, result, judge(...args as never[]));
      return result;
    };
  }

  private failed(name: string, args: Args, e: unknown, verdict: Verdict<never>): void {
    if (!this.m.process.alive()) return;
    this.operations += 1;
    const { errno, message } = asScoutfsError(e);
    if (verdict === errno || OUTSIDE.includes(errno)) return;
    if (errno === 'EIO' && this.mayFail()) return;
    const want = typeof verdict === 'string' ? verdict : 'success';
    this.model.violated(`${this.life.name}: ${name}(${show(args)}) failed with ${errno} (${message
    }) instead of ${want}`);
  }

  private succeeded<R>(name: string, args: Args, result: R, verdict: Verdict<R>): void {
    this.operations += 1;
    if (typeof verdict === 'string') {
      this.model.violated(
        `${this.life.name}: ${name}(${show(args)}) succeeded instead of ${verdict}`);
      return;
    }
    const undo = verdict.apply(result);
    if (undo === null) return;
    this.model.changed(this.life, this.seq, `${name}(${show(args)})`, verdict.touched, undo);
  }

  private wrong(what: string): void {
    this.model.violated(`${this.life.name}: ${what}`);
  }

  /** What the mount says of an inode against what is true. */
  private checkAttr(what: string, inode: ModelInode, attr: Attr): void {
    const is = `${attr.mode & S_IFMT} size ${attr.size} nlink ${attr.nlink}`;
    const nlink = inode.kind === 'dir' && inode.nlink > 0 ? 2 + inode.subdirs : inode.nlink;
    // A symbolic link's size counts its NUL on the device, not for callers.
    const size = inode.sizeBytes;
    const want = `${TYPES[inode.kind]} size ${size} nlink ${nlink}`;
    const short = `${TYPES[inode.kind]} size ${size - 1} nlink ${nlink}`;
    if (is === want || (inode.kind === 'link' && is === short)) return;
    this.wrong(`${what}: inode ${inode.ino} has ${is} instead of ${want}`);
  }

  private made(dir: ModelInode, name: string, out: EntryOut, inode: ModelInode): () => void {
    const { model } = this;
    const old = model.inodes.get(out.ino);
    if (old !== undefined) this.wrong(`inode number ${out.ino} was given out twice`);
    model.inodes.set(out.ino, inode);
    dir.entries.set(name, out.ino);
    if (inode.kind === 'dir') dir.subdirs += 1;
    this.checkAttr(`create ${name}`, inode, out.attr);
    return () => {
      model.inodes.delete(out.ino);
      dir.entries.delete(name);
      if (inode.kind === 'dir') dir.subdirs -= 1;
    };
  }

  private making(ino: number, name: string, out: EntryOut, make: () => ModelInode): Verdict<void> {
    const dir = this.model.get(ino);
    if (dir === undefined || dir.nlink === 0) return 'ENOENT';
    if (dir.entries.has(name)) return 'EEXIST';
    const inode = make();
    return { touched: [dir, inode], apply: () => this.made(dir, name, out, inode) };
  }

  private watchNames(): void {
    const { model } = this;
    this.watch('lookup', (ino: number, n: Name, out: EntryOut) => {
      const dir = model.get(ino);
      if (dir === undefined) return 'ENOENT';
      return {
        touched: [],
        apply: () => {
          const want = dir.entries.get(text(n)) ?? 0;
          const inode = want === 0 ? undefined : model.get(want);
          if (out.ino !== want) {
            this.wrong(`lookup of ${text(n)} in ${ino}: inode ${out.ino} instead of ${want}`);
          } else if (inode !== undefined) {
            this.checkAttr(`lookup ${text(n)}`, inode, out.attr);
          }
          return null;
        },
      };
    });
    this.watch('create', (ino: number, n: Name, _mode: number, _umask: number, _flags: number,
      out: EntryOut) => this.making(ino, text(n), out, () => new ModelInode(out.ino, 'file')));
    this.watch('mkdir', (ino: number, n: Name, _mode: number, _umask: number, out: EntryOut) =>
      this.making(ino, text(n), out, () => new ModelInode(out.ino, 'dir')));
    this.watch('symlink', (ino: number, n: Name, target: Name, out: EntryOut) =>
      this.making(ino, text(n), out, () => new ModelInode(out.ino, 'link', text(target))));
    this.watch('link', (ino: number, dirIno: number, n: Name, out: EntryOut) => {
      const dir = model.get(dirIno);
      const inode = model.get(ino);
      if (dir === undefined || dir.nlink === 0 || inode === undefined) return 'ENOENT';
      if (inode.kind === 'dir') return 'EPERM';
      if (dir.entries.has(text(n))) return 'EEXIST';
      return { touched: [dir, inode], apply: () => this.link(dir, inode, text(n), out) };
    });
    this.watch('unlink', (ino: number, n: Name) => this.removing(ino, text(n), false));
    this.watch('rmdir', (ino: number, n: Name) => this.removing(ino, text(n), true));
    this.watch('rename', (from: number, n: Name, to: number, n2: Name) =>
      this.renaming(from, text(n), to, text(n2)));
    this.watchReaddir();
    this.watch('readlink', (ino: number) => {
      const inode = model.get(ino);
      if (inode === undefined) return 'ENOENT';
      if (inode.kind !== 'link') return 'EINVAL';
      return {
        touched: [],
        apply: (r: Uint8Array) => {
          const got = Buffer.from(r).toString();
          if (got !== inode.target) this.wrong(`readlink ${ino}: ${got} is not ${inode.target}`);
          return null;
        },
      };
    });
  }

  private link(dir: ModelInode, inode: ModelInode, name: string, out: EntryOut): () => void {
    dir.entries.set(name, inode.ino);
    inode.nlink += 1;
    this.checkAttr(`link ${name}`, inode, out.attr);
    return () => {
      dir.entries.delete(name);
      inode.nlink -= 1;
    };
  }

  private removing(ino: number, name: string, rmdir: boolean): Verdict<void> {
    const dir = this.model.get(ino);
    const inode = this.model.get(dir?.entries.get(name) ?? 0);
    if (dir === undefined || inode === undefined) return 'ENOENT';
    if (rmdir && inode.kind !== 'dir') return 'ENOTDIR';
    if (!rmdir && inode.kind === 'dir') return 'EISDIR';
    if (inode.entries.size > 0) return 'ENOTEMPTY';
    return { touched: [dir, inode], apply: () => this.unlink(dir, inode, name) };
  }

  private unlink(dir: ModelInode, inode: ModelInode, name: string): () => void {
    const { nlink } = inode;
    dir.entries.delete(name);
    inode.nlink -= inode.kind === 'dir' ? 2 : 1;
    if (inode.kind === 'dir') dir.subdirs -= 1;
    return () => {
      dir.entries.set(name, inode.ino);
      inode.nlink = nlink;
      if (inode.kind === 'dir') dir.subdirs += 1;
    };
  }

  private renaming(fromIno: number, name: string, toIno: number, name2: string): Verdict<void> {
    const { model } = this;
    const from = model.get(fromIno);
    const to = model.get(toIno);
    const moved = model.get(from?.entries.get(name) ?? 0);
    if (from === undefined || to === undefined || moved === undefined || to.nlink === 0) {
      return 'ENOENT';
    }
    const old = model.get(to.entries.get(name2) ?? 0) ?? null;
    if (old === moved) return { touched: [], apply: () => null };
    if (moved.kind === 'dir' && this.isAbove(moved, to)) return 'EINVAL';
    if (old !== null && from !== to && old.entries.size > 0 && this.isAbove(old, from)) {
      return 'EINVAL';
    }
    if (old !== null) {
      if (moved.kind === 'dir' && old.kind !== 'dir') return 'ENOTDIR';
      if (moved.kind !== 'dir' && old.kind === 'dir') return 'EISDIR';
      if (old.entries.size > 0) return 'ENOTEMPTY';
    }
    return {
      touched: [from, to, moved, ...old === null ? [] : [old]],
      apply: () => {
        const back = old === null ? null : this.unlink(to, old, name2);
        from.entries.delete(name);
        to.entries.set(name2, moved.ino);
        const dirs = moved.kind === 'dir' ? 1 : 0;
        from.subdirs -= dirs;
        to.subdirs += dirs;
        return () => {
          to.subdirs -= dirs;
          from.subdirs += dirs;
          to.entries.delete(name2);
          from.entries.set(name, moved.ino);
          back?.();
        };
      },
    };
  }

  private isAbove(dir: ModelInode, below: ModelInode): boolean {
    if (dir === below) return true;
    return [...dir.entries.values()].some((ino) => {
      const child = this.model.get(ino);
      return child?.kind === 'dir' && this.isAbove(child, below);
    });
  }

  /** A directory that is read in one piece shows exactly its entries. */
  private watchReaddir(): void {
    const { model } = this;
    let seen: string[] = [];
    this.watch('readdir', (ino: number, _fh: number, pos: number) => {
      const dir = model.get(ino);
      if (dir === undefined) return 'ENOENT';
      return {
        touched: [],
        apply: () => {
          if (pos > FIRST_POS) return null;
          const got = seen.sort().join(' ');
          const want = [...dir.entries].map(([n, i]) => `${n}=${i}`).sort().join(' ');
          if (got !== want) this.wrong(`directory ${ino} shows [${got}] instead of [${want}]`);
          return null;
        },
      };
    });
    const watched = this.fs.readdir.bind(this.fs);
    this.fs.readdir = (op, call, ino, fh, pos, sink) => {
      seen = [];
      watched(op, call, ino, fh, pos, {
        add: (at, p, type, bytes, off, len) => {
          const name = Buffer.from(bytes.subarray(off, off + len)).toString();
          const more = sink.add(at, p, type, bytes, off, len);
          seen.push(`${name}=${at}`);
          return more;
        },
      });
    };
  }

  private watchFiles(): void {
    const { model } = this;
    this.watch('getattr', (ino: number, out: { attr: Attr }) => {
      const inode = model.get(ino);
      if (inode === undefined) return 'ENOENT';
      return {
        touched: [],
        apply: () => {
          this.checkAttr('getattr', inode, out.attr);
          return null;
        },
      };
    });
    this.watch('open', (ino: number) =>
      model.get(ino) === undefined ? 'ENOENT' : { touched: [], apply: () => null });
    this.watch('setattr', (ino: number, set: SetAttr) => {
      const inode = model.get(ino);
      if (inode === undefined) return 'ENOENT';
      return {
        touched: [inode],
        apply: () => {
          if ((set.valid & SET_SIZE) === 0 || inode.kind !== 'file') return () => undefined;
          const size = Number(set.size);
          const data = Buffer.alloc(size);
          inode.data.copy(data);
          const from = Math.min(size, inode.data.length);
          return model.setData(inode, data, from, Math.max(size, inode.data.length));
        },
      };
    });
    this.watch('write', (ino: number, w: WriteIn) => {
      const inode = model.get(ino);
      if (inode === undefined) return 'ENOENT';
      if (inode.kind !== 'file') return 'EISDIR';
      return { touched: [inode], apply: () => this.wrote(inode, w) };
    });
    this.watchRead();
  }

  private wrote(inode: ModelInode, w: WriteIn): () => void {
    const at = w.append ? inode.data.length : Number(w.offset);
    if (Number(w.writtenAt) !== at) {
      this.wrong(`write to ${inode.ino} went to ${w.writtenAt} instead of ${at}`);
    }
    const data = Buffer.alloc(Math.max(inode.data.length, at + w.data.length));
    inode.data.copy(data);
    data.set(w.data, at);
    return this.model.setData(inode, data, at, at + w.data.length);
  }

  /** Reading takes time: the answer has to be right at some moment of it. */
  private watchRead(): void {
    const { model } = this;
    const real = this.fs.read.bind(this.fs);
    this.fs.read = (op, call, ino, r: ReadIn) => {
      const result = real(op, call, ino, r);
      if (!this.m.process.alive()) return result;
      this.operations += 1;
      const inode = model.get(ino);
      if (inode === undefined) {
        this.wrong(`read of inode ${ino}, which does not exist`);
        return result;
      }
      const since = model.beginRead(inode);
      const check = (got: Uint8Array): Uint8Array => {
        const offset = Number(r.offset);
        const ok = model.endRead(inode, since, offset, r.size, got);
        if (!ok && this.m.process.alive()) {
          this.wrong(`read of inode ${ino} at ${offset}: ${brief(got)} instead of ${
            brief(inode.data.subarray(offset, offset + r.size))}`);
        }
        return got;
      };
      if (result instanceof Uint8Array) return check(result);
      return result.then(check, (e: unknown) => {
        inode.readers -= 1;
        throw e;
      });
    };
  }

  private watchXattrs(): void {
    const { model } = this;
    this.watch('setxattr', (ino: number, n: Name, value: Uint8Array, flags: number) => {
      const inode = model.get(ino);
      if (inode === undefined) return 'ENOENT';
      const old = inode.xattrs.get(text(n));
      if (old === undefined && flags === 2) return 'ENODATA';
      if (old !== undefined && flags === 1) return 'EEXIST';
      // That a name of the index is there is all that can be said of it.
      if (old !== undefined && text(n).startsWith('scoutfs.indx.')) {
        return { touched: [], apply: () => null };
      }
      return {
        touched: [inode],
        apply: () => {
          inode.xattrs.set(text(n), Buffer.from(value).toString());
          return () => { restore(inode.xattrs, text(n), old); };
        },
      };
    });
    this.watch('removexattr', (ino: number, n: Name) => {
      const inode = model.get(ino);
      const old = inode?.xattrs.get(text(n));
      if (inode === undefined) return 'ENOENT';
      if (old === undefined) return 'ENODATA';
      return {
        touched: [inode],
        apply: () => {
          inode.xattrs.delete(text(n));
          return () => { inode.xattrs.set(text(n), old); };
        },
      };
    });
    this.watch('getxattr', (ino: number, n: Name) => {
      const inode = model.get(ino);
      const want = inode?.xattrs.get(text(n));
      if (inode === undefined) return 'ENOENT';
      if (want === undefined) return 'ENODATA';
      return {
        touched: [],
        apply: (r: Uint8Array) => {
          const got = Buffer.from(r).toString();
          if (got !== want) this.wrong(`xattr ${text(n)} of ${ino}: ${got} instead of ${want}`);
          return null;
        },
      };
    });
  }
}

function restore(map: Map<string, string>, name: string, value: string | undefined): void {
  if (value === undefined) map.delete(name);
  else map.set(name, value);
}

function show(args: Args): string {
  return args.map((a) => {
    if (typeof a === 'number' || typeof a === 'bigint') return String(a);
    if (a instanceof Uint8Array) return brief(a);
    if (a !== null && typeof a === 'object' && 'len' in a && 'bytes' in a) return text(a as Name);
    if (a !== null && typeof a === 'object' && 'writtenAt' in a) {
      const w = a as WriteIn;
      return `at ${w.append ? 'end' : String(w.offset)} ${brief(w.data)}`;
    }
    if (a !== null && typeof a === 'object' && 'valid' in a) return `size ${(a as SetAttr).size}`;
    return '';
  }).filter((s) => s !== '').join(', ');
}

/** Bytes as runs, because files are filled with letters. */
function brief(bytes: Uint8Array): string {
  const runs: string[] = [];
  for (let i = 0; i < bytes.length && runs.length < 8;) {
    let n = i;
    while (n < bytes.length && bytes[n] === bytes[i]) n += 1;
    const c = bytes[i] ?? 0;
    runs.push(`${c >= 32 && c < 127 ? String.fromCharCode(c) : `\\${c}`}*${n - i}`);
    i = n;
  }
  return `${bytes.length} bytes [${runs.join(' ')}]`;
}
