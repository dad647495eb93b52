/**
 * What callers do with a mounted volume, without believing anything that it says: every
 * operation on everything that can be reached, within bounds, and then changes.
 *
 * An operation may fail with any errno. It may not fail with an error that is ours: an
 * assertion, an error of the language, a broken invariant.
 */
import { ROOT_INO } from '../../host/core/constants.js';
import { isPos } from '../../host/core/bytepos.js';
import { ATTR_OUT_BYTES, putAttrOut, putStatfsOut } from
  '../../host/fuse/protocol.js';
import { DirPacker, FIRST_POS } from '../../host/fuse/readdir.js';
import { IOC_STATFS_MORE, IOC_STAT_MORE } from '../../host/fs/ioctl.js';
import { SET_MODE, SET_SIZE } from '../../host/fs/vfs.js';
import type { Attr } from '../../host/fs/vfs.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import type { SimMount } from '../lib/simmount.js';
import type { Below } from './values.js';
import { pick } from './values.js';

const INODES_MAX = 25;
const ENTRIES_MAX = 100;
const ENTRIES_FOLLOWED = 20;
const READ_BYTES = 16384;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const REPLY_BYTES = 65536;
const NAME_BYTES_MAX = 255;
const SLASH = 47;
const NOTHING = new Uint8Array(0);

interface Entry {
  ino: number;
  pos: number;
  name: Uint8Array;
}

/** What a walk met. */
export interface WalkResult {
  ops: number;
  /** How often each errno was answered. */
  errors: Map<string, number>;
}

/** Whether an error is one that a caller may see, and not a defect of the program. */
export function isAnswer(e: unknown): e is ScoutfsError {
  return e instanceof ScoutfsError && e.code !== 'ASSERT' && e.code !== 'CORE_INVARIANT' &&
    !isDefect(e.cause);
}

/** The kernel refuses such names, and all others of the same reply. */
function checkName({ name, ino }: Entry): void {
  if (name.length === 0 || name.length > NAME_BYTES_MAX || name.includes(SLASH) ||
    name.includes(0) || ino === 0) {
    throw new Error(`readdir gives out the name ${Buffer.from(name).toString()} of inode ${ino}`);
  }
}

function isDefect(cause: unknown): boolean {
  if (cause === undefined) return false;
  return cause instanceof ScoutfsError ? !isAnswer(cause) : cause instanceof TypeError ||
    cause instanceof RangeError || cause instanceof ReferenceError ||
    cause instanceof SyntaxError || (cause as Error).name === 'RuntimeError';
}

export class Walk {
  readonly result: WalkResult = { ops: 0, errors: new Map() };
  private readonly attrs = new Map<number, Attr>();
  private readonly reply = new DataView(new ArrayBuffer(REPLY_BYTES));
  private readonly entries: { dir: number; entry: Entry }[] = [];

  /** `run` lets time pass until a call has ended; it throws when that takes too long. */
  constructor(private readonly m: SimMount, private readonly below: Below,
    private readonly run: <T>(what: string, p: Promise<T>) => Promise<T>) {}

  /** Reads everything that can be reached, within bounds. */
  async reads(): Promise<void> {
    const queue = [ROOT_INO];
    for (let i = 0; i < queue.length && i < INODES_MAX; i++) {
      const ino = queue[i] ?? ROOT_INO;
      const attr = await this.op('getattr', this.m.kernel.getattr(ino));
      if (attr === null) continue;
      putAttrOut(this.reply, 0, attr, 1);
      this.attrs.set(ino, attr);
      await this.inode(ino, attr);
      if ((attr.mode & S_IFMT) !== S_IFDIR) continue;
      for (const e of (await this.directory(ino)).slice(0, ENTRIES_FOLLOWED)) {
        this.entries.push({ dir: ino, entry: e });
        const found = await this.op('lookup', this.m.kernel.lookup(ino, e.name));
        if (found !== null && !queue.includes(found.ino)) queue.push(found.ino);
      }
    }
    const statfs = await this.op('statfs', this.m.kernel.statfs());
    await this.op('statfs more',
      this.m.kernel.ioctl(ROOT_INO, IOC_STATFS_MORE, NOTHING, REPLY_BYTES));
    if (statfs !== null) putStatfsOut(this.reply, ATTR_OUT_BYTES, statfs);
  }

  /** A few changes of each kind, at random places. */
  async writes(): Promise<void> {
    const { kernel: k } = this.m;
    const any = (): { dir: number; entry: Entry } | undefined =>
      this.entries[this.below(Math.max(1, this.entries.length))];
    const inos = [...this.attrs.keys()];
    const dirs = inos.filter((i) => ((this.attrs.get(i)?.mode ?? 0) & S_IFMT) === S_IFDIR);
    const dir = (): number => (dirs.length === 0 ? ROOT_INO : pick(this.below, dirs));
    const ino = (): number => (inos.length === 0 ? ROOT_INO : pick(this.below, inos));
    const data = new Uint8Array(9000).fill(0x5a);
    const made = await this.op('create', k.create(dir(), 'made'));
    if (made !== null) {
      await this.op('write', k.write(made.ino, 100, data));
      await this.op('read', k.read(made.ino, 0, READ_BYTES));
    }
    for (let i = 0; i < 4; i++) {
      await this.op('setxattr', k.setxattr(ino(), 'user.fuzz', data.subarray(0, 50 + 900 * i)));
      await this.op('write', k.write(ino(), this.below(1 << 20), data));
      const e = any();
      if (e !== undefined) {
        await this.op('rename', k.rename(e.dir, e.entry.name, dir(), `renamed${i}`));
      }
      const u = any();
      if (u !== undefined) {
        await this.op('unlink', k.unlink(u.dir, u.entry.name));
        if (i === 1) await this.op('rmdir', k.rmdir(u.dir, u.entry.name));
      }
      await this.op('truncate', k.setattr(ino(), { valid: SET_SIZE, size: this.below(1 << 16) }));
    }
    await this.op('mkdir', k.mkdir(dir(), 'a directory'));
    await this.op('symlink', k.symlink(dir(), 'a link', 'to somewhere'));
    await this.op('link', k.link(ino(), dir(), 'another name'));
    await this.op('chmod', k.setattr(ino(), { valid: SET_MODE, mode: 0o600 }));
    await this.op('fallocate', k.fallocate(ino(), 0, 0, 1 << 16));
    await this.op('removexattr', k.removexattr(ino(), 'user.fuzz'));
    await this.op('fsync', k.fsync(ino()));
    k.forgetAll();
    await this.op('fsync', k.fsync(ROOT_INO));
  }

  private async op<T>(what: string, p: Promise<T>): Promise<T | null> {
    this.result.ops += 1;
    try {
      return await this.run(what, p);
    } catch (e) {
      if (!isAnswer(e)) throw e;
      const { errors } = this.result;
      errors.set(e.errno, (errors.get(e.errno) ?? 0) + 1);
      return null;
    }
  }

  private async inode(ino: number, attr: Attr): Promise<void> {
    const { kernel: k } = this.m;
    const type = attr.mode & S_IFMT;
    if (type === S_IFLNK) await this.op('readlink', k.readlink(ino));
    const names = await this.op('listxattr', k.listxattr(ino));
    for (const name of (names ?? []).slice(0, 5)) {
      await this.op('getxattr', k.getxattr(ino, name));
    }
    await this.op('getxattr', k.getxattr(ino, 'user.note'));
    await this.op('stat more', k.ioctl(ino, IOC_STAT_MORE, NOTHING, REPLY_BYTES));
    if (type !== S_IFREG) return;
    await this.op('open', k.open(ino));
    await this.op('read', k.read(ino, 0, READ_BYTES));
    const { size } = attr;
    const before = typeof size === 'bigint' ? size - 5000n : Math.max(0, size - 5000);
    if (isPos(before)) await this.op('read', k.read(ino, before, READ_BYTES));
    for (const whence of [SEEK_DATA, SEEK_HOLE]) {
      await this.op('lseek', k.lseek(ino, 4096 * this.below(20), whence));
    }
  }

  private async directory(ino: number): Promise<Entry[]> {
    const all: Entry[] = [];
    const packer = new DirPacker(new Uint8Array(this.reply.buffer), this.reply);
    let from = FIRST_POS;
    while (all.length < ENTRIES_MAX) {
      const batch = await this.op('readdir', this.m.kernel.run((op, call) => {
        const found: Entry[] = [];
        this.m.client.fs.readdir(op, call, ino, 0, from, {
          add: (at, pos, type, bytes, off, len) => {
            packer.begin(0, REPLY_BYTES);
            packer.add(at, pos, type, bytes, off, len);
            packer.finish();
            return found.push({ ino: at, pos, name: bytes.slice(off, off + len) }) <
              ENTRIES_FOLLOWED;
          },
        });
        return found;
      }));
      batch?.forEach(checkName);
      const last = batch?.at(-1);
      if (batch === null || last === undefined) break;
      all.push(...batch);
      from = last.pos + 1;
    }
    return all;
  }
}
