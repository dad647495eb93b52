/**
 * What the kernel and its callers do with a mount, without a kernel.
 *
 * Each method is one system call on inode numbers: it runs the operation as the FUSE
 * channel does (again after every `Wait`, locks kept until the answer), and counts
 * references and handles in the same node table, so that an inode is evicted when
 * `forget` and `release` have given everything back. Nothing is cached.
 *
 * `done`, where a method takes it, is called in the tick in which the operation has made
 * its change, before anything else can happen: tests keep their models with it.
 */
import type { BytePos } from '../../host/core/bytepos.js';
import { toPos } from '../../host/core/bytepos.js';
import { ROOT_INO } from '../../host/core/constants.js';
import { FIRST_POS } from '../../host/fuse/readdir.js';
import { NodeTable } from '../../host/fuse/nodes.js';
import { newAttr, newSetAttr } from '../../host/fuse/protocol.js';
import type { Attr, Call, EntryOut, IoctlOut, Name, SetAttr, StatfsOut, VfsOps } from
  '../../host/fs/vfs.js';
import type { Op } from '../../host/mount/op.js';
import { Wait } from '../../host/mount/op.js';
import { errnoError } from '../../host/observe/errors.js';
import type { KernelSide, MountClient } from '../../host/super/mount_client.js';
import { ADMIN_PID } from './simworld.js';

const LENT_BYTES = (1 << 20) + 4096;
const O_RDWR = 2;

export interface DirEntry {
  ino: number;
  pos: number;
  type: number;
  name: string;
}

/** Names are UTF-8 text or any bytes. */
export type NameIn = string | Uint8Array;

type Done<T> = (result: T) => void;

function nameOf(name: NameIn): Name {
  const bytes = typeof name === 'string' ? Buffer.from(name) : name;
  return { bytes, off: 0, len: bytes.length };
}

function posOf(n: number | bigint): BytePos {
  return typeof n === 'bigint' ? toPos(n) : n;
}

function newEntry(): EntryOut {
  return { ino: 0, attr: newAttr(), attrCacheable: true, entryCacheable: true };
}

class SimCall implements Call {
  readonly pid = ADMIN_PID;
  readonly suppGid = -1;
  private lent: Uint8Array | null = null;

  constructor(private readonly spare: Uint8Array[], readonly uid = 0, readonly gid = 0) {}

  lend(): Uint8Array {
    this.lent ??= this.spare.pop() ?? new Uint8Array(LENT_BYTES);
    return this.lent;
  }

  keepData(): () => void {
    return () => undefined;
  }

  end(): void {
    if (this.lent !== null) this.spare.push(this.lent);
    this.lent = null;
  }
}

export class SimKernel implements KernelSide {
  readonly nodes: NodeTable;
  readonly drain: KernelSide['drain'] = {
    drain: () => Promise.resolve(), prune: () => undefined, pruneIdle: () => undefined,
  };
  private readonly spare: Uint8Array[] = [];

  constructor(private readonly client: MountClient) {
    this.nodes = new NodeTable((ino) => { client.fs.evict(ino); });
  }

  inos(): Iterable<number> {
    return this.nodes.inos();
  }

  /** Runs an operation as the channel would. @throws its error */
  async run<T>(fn: (op: Op, call: Call) => T | Promise<T>): Promise<T> {
    const { ops } = this.client;
    const op = ops.begin(false);
    const call = new SimCall(this.spare);
    try {
      for (;;) {
        let wait: Wait;
        try {
          return await fn(op, call);
        } catch (e) {
          if (!(e instanceof Wait)) throw e;
          wait = e;
        }
        if (wait.unlock) op.unlockAll();
        await wait.ready;
      }
    } finally {
      ops.end(op);
      call.end();
    }
  }

  /** @returns null when there is no such name; else one reference is held */
  lookup(dir: number, name: NameIn): Promise<Attr | null> {
    return this.run((op, call) => {
      const out = newEntry();
      this.client.fs.lookup(op, call, dir, nameOf(name), out);
      return out.ino === 0 ? null : this.entry(out);
    });
  }

  /** Creates and opens; one reference and one handle are held. */
  create(dir: number, name: NameIn, mode = 0o644, done?: Done<Attr>): Promise<Attr> {
    return this.run((op, call) => {
      const out = newEntry();
      this.client.fs.create(op, call, dir, nameOf(name), mode, 0, O_RDWR, out, newOpen());
      return this.opened(out, done);
    });
  }

  /** As create, without a name. */
  tmpfile(dir: number, mode = 0o600, done?: Done<Attr>): Promise<Attr> {
    return this.run((op, call) => {
      const out = newEntry();
      this.client.fs.tmpfile(op, call, dir, mode, 0, O_RDWR, out, newOpen());
      return this.opened(out, done);
    });
  }

  mkdir(dir: number, name: NameIn, mode = 0o755, done?: Done<Attr>): Promise<Attr> {
    return this.entryOp((op, call, out) => {
      this.client.fs.mkdir(op, call, dir, nameOf(name), mode, 0, out);
    }, done);
  }

  mknod(dir: number, name: NameIn, mode: number, rdev = 0, done?: Done<Attr>): Promise<Attr> {
    return this.entryOp((op, call, out) => {
      this.client.fs.mknod(op, call, dir, nameOf(name), mode, 0, rdev, out);
    }, done);
  }

  symlink(dir: number, name: NameIn, target: NameIn, done?: Done<Attr>): Promise<Attr> {
    return this.entryOp((op, call, out) => {
      this.client.fs.symlink(op, call, dir, nameOf(name), nameOf(target), out);
    }, done);
  }

  link(ino: number, dir: number, name: NameIn, done?: Done<Attr>): Promise<Attr> {
    return this.entryOp((op, call, out) => {
      this.client.fs.link(op, call, ino, dir, nameOf(name), out);
    }, done);
  }

  unlink(dir: number, name: NameIn, done?: Done<void>): Promise<void> {
    return this.voidOp((op, call) => {
      this.client.fs.unlink(op, call, dir, nameOf(name));
    }, done);
  }

  rmdir(dir: number, name: NameIn, done?: Done<void>): Promise<void> {
    return this.voidOp((op, call) => {
      this.client.fs.rmdir(op, call, dir, nameOf(name));
    }, done);
  }

  rename(dir: number, name: NameIn, newDir: number, newName: NameIn, flags = 0,
    done?: Done<void>): Promise<void> {
    return this.voidOp((op, call) => {
      this.client.fs.rename(op, call, dir, nameOf(name), newDir, nameOf(newName), flags);
    }, done);
  }

  open(ino: number, flags = O_RDWR): Promise<void> {
    return this.run((op, call) => {
      this.client.fs.open(op, call, ino, flags, newOpen());
      this.nodes.obtain(ino).handles += 1;
    });
  }

  /** Closes a handle. */
  release(ino: number): void {
    const node = this.nodes.get(ino);
    if (node === undefined || node.handles === 0) throw new Error(`inode ${ino} is not open`);
    node.handles -= 1;
    this.nodes.settle(node);
  }

  /** Gives references back. */
  forget(ino: number, count = 1): void {
    this.nodes.forget(ino, count);
  }

  /** Gives back everything that is known of all inodes, handles included. */
  forgetAll(): void {
    for (const ino of [...this.nodes.inos()]) {
      const node = this.nodes.get(ino);
      if (node === undefined || ino === ROOT_INO) continue;
      node.handles = 0;
      node.lookups = 0;
      this.nodes.settle(node);
    }
  }

  getattr(ino: number): Promise<Attr> {
    return this.run((op, call) => {
      const out = newEntry();
      this.client.fs.getattr(op, call, ino, out);
      return out.attr;
    });
  }

  /** `done` is called when the first transaction of the change has been made. */
  setattr(ino: number, set: Partial<SetAttr> & { valid: number }, done?: Done<void>):
  Promise<Attr> {
    return this.run((op, call) => {
      const out = newEntry();
      const r = this.client.fs.setattr(op, call, ino, { ...newSetAttr(), ...set }, out);
      done?.();
      return r === undefined ? out.attr : r.then(() => out.attr);
    });
  }

  readlink(ino: number): Promise<Uint8Array> {
    return this.run((op, call) => this.client.fs.readlink(op, call, ino).slice());
  }

  read(ino: number, offset: number | bigint, size: number): Promise<Uint8Array> {
    return this.run(async (op, call) => {
      const r = this.client.fs.read(op, call, ino, {
        fh: 0, offset: posOf(offset), size, direct: true, forWrite: false,
      });
      return (r instanceof Uint8Array ? r : await r).slice();
    });
  }

  /** @returns bytes written. `done` is called when the first of them have been mapped */
  write(ino: number, offset: number | bigint, data: Uint8Array, done?: Done<void>,
    append = false): Promise<number> {
    const pos = posOf(offset);
    return this.run((op, call) => {
      const n = this.client.fs.write(op, call, ino, {
        fh: 0, offset: pos, data, append, cached: false, killSuidgid: false, writtenAt: pos,
      });
      done?.();
      return n;
    });
  }

  fallocate(ino: number, mode: number, offset: number, lenBytes: number, done?: Done<void>):
  Promise<void> {
    return this.run((op, call) => {
      const r = this.client.fs.fallocate(op, call, ino, 0, mode, posOf(offset), posOf(lenBytes));
      done?.();
      return r;
    });
  }

  async fsync(ino: number): Promise<void> {
    await this.run((op, call) => (this.client.fs as VfsOps).fsync(op, call, ino, false));
  }

  lseek(ino: number, offset: number, whence: number): Promise<number> {
    return this.run((op, call) =>
      Number(this.client.fs.lseek(op, call, ino, posOf(offset), whence)));
  }

  /** All entries, without `.` and `..`. */
  async readdir(ino: number): Promise<DirEntry[]> {
    const entries: DirEntry[] = [];
    for (let from = FIRST_POS, more = true; more;) {
      const batch = await this.run((op, call) => this.readdirFrom(op, call, ino, from));
      entries.push(...batch);
      more = batch.length > 0;
      from = (batch.at(-1)?.pos ?? 0) + 1;
    }
    return entries;
  }

  async statfs(): Promise<StatfsOut> {
    const out: StatfsOut = {
      blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, bsize: 4096, nameMax: 255,
    };
    await this.run((op, call) => { this.client.fs.statfs(op, call, out); });
    return out;
  }

  setxattr(ino: number, name: NameIn, value: Uint8Array, flags = 0, done?: Done<void>):
  Promise<void> {
    return this.voidOp((op, call) => {
      this.client.fs.setxattr(op, call, ino, nameOf(name), value, flags);
    }, done);
  }

  removexattr(ino: number, name: NameIn, done?: Done<void>): Promise<void> {
    return this.voidOp((op, call) => {
      this.client.fs.removexattr(op, call, ino, nameOf(name));
    }, done);
  }

  getxattr(ino: number, name: NameIn): Promise<Uint8Array> {
    return this.run((op, call) => this.client.fs.getxattr(op, call, ino, nameOf(name)).slice());
  }

  /** Visible names. */
  async listxattr(ino: number): Promise<string[]> {
    const bytes = await this.run((op, call) => this.client.fs.listxattr(op, call, ino).slice());
    return Buffer.from(bytes).toString().split('\0').filter((n) => n !== '');
  }

  async ioctl(ino: number, cmd: number, input: Uint8Array, outMaxBytes: number):
  Promise<IoctlOut> {
    const out: IoctlOut = { result: 0, data: new Uint8Array(0) };
    await this.run((op, call) => (this.client.fs as VfsOps).ioctl(op, call, ino, {
      fh: 0, cmd, arg: 0n, input, outMaxBytes, isDir: false,
    }, out));
    return out;
  }

  /** A file with these bytes; nothing of it stays open or referenced. */
  async writeFile(dir: number, name: NameIn, data: Uint8Array): Promise<number> {
    const { ino } = await this.create(dir, name);
    const n = await this.write(ino, 0, data);
    this.release(ino);
    this.forget(ino);
    if (n !== data.length) throw errnoError('ENOSPC');
    return ino;
  }

  private readdirFrom(op: Op, call: Call, ino: number, from: number): DirEntry[] {
    const batch: DirEntry[] = [];
    this.client.fs.readdir(op, call, ino, 0, from, {
      add: (at, pos, type, bytes, off, len) => {
        batch.push({
          ino: at, pos, type, name: Buffer.from(bytes.subarray(off, off + len)).toString(),
        });
        return batch.length < 100;
      },
    });
    return batch;
  }

  private voidOp(fn: (op: Op, call: Call) => void, done?: Done<void>): Promise<void> {
    return this.run((op, call) => {
      fn(op, call);
      done?.();
    });
  }

  private entryOp(fn: (op: Op, call: Call, out: EntryOut) => void, done?: Done<Attr>):
  Promise<Attr> {
    return this.run((op, call) => {
      const out = newEntry();
      fn(op, call, out);
      done?.(out.attr);
      return this.entry(out);
    });
  }

  private opened(out: EntryOut, done?: Done<Attr>): Attr {
    this.nodes.obtain(out.ino).handles += 1;
    done?.(out.attr);
    return this.entry(out);
  }

  /** The kernel has been told of the inode. */
  private entry(out: EntryOut): Attr {
    this.nodes.obtain(out.ino).lookups += 1;
    return out.attr;
  }
}

function newOpen(): { fh: number; direct: boolean } {
  return { fh: 0, direct: false };
}
