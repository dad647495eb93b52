/**
 * The control tree of a mount as a file system for the kernel.
 *
 * A file's text is made when a read starts at byte 0 and kept by the handle for the
 * reads that go on from there; what is written is given to the file's receiver at once,
 * so that its refusal is the result of the write(2). Nothing is cached by the kernel:
 * handles bypass the page cache and no attribute or name has a timeout. As in sysfs the
 * tree is what the mount makes of it: nobody creates, removes or renames in it. Sizes
 * are shown as 0, as procfs does, because a text has none before it is read.
 *
 * Who waits for a text that others have to make (the server, the quorum thread) can be
 * interrupted.
 * Spec: cli.md 3; super.md 2.
 */
import type { BytePos } from '../core/bytepos.js';
import type { Clock, WallTime } from '../env/clock.js';
import type { Op } from '../mount/op.js';
import type { ControlNode, ControlTree } from '../observe/control.js';
import { errnoError } from '../observe/errors.js';
import { Outcomes } from './outcomes.js';
import type {
  Attr, AttrOut, Call, DirSink, EntryOut, Name, OpenOut, ReadIn, SetAttr, StatfsOut, VfsOps,
  WriteIn,
} from './vfs.js';
import { SET_GID, SET_MODE, SET_UID } from './vfs.js';

const DIR_MODE = 0o040755;
const FILE_MODE = 0o100644;
const READ_ONLY_MODE = 0o100444;
const DT_DIR = 4;
const DT_REG = 8;
const O_ACCMODE = 3;
/** Of one write; sysfs takes a page. */
const WRITTEN_BYTES_MAX = 4096;
/** Positions below are "." and "..". */
const FIRST_POS = 2;
const NAME_MAX = 255;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

interface Handle {
  /** What reads that do not start at byte 0 go on in. */
  text: Uint8Array;
}

export class ControlFs implements VfsOps {
  private readonly handles = new Map<number, Handle>();
  private readonly outcomes = new Outcomes();
  private readonly made: WallTime;
  private lastHandle = 0;

  constructor(private readonly tree: ControlTree, clock: Clock) {
    this.made = clock.now();
  }

  lookup(_op: Op, _call: Call, dir: number, name: Name, out: EntryOut): void {
    const text = decoder.decode(name.bytes.subarray(name.off, name.off + name.len));
    const found = this.dir(dir).children?.get(text);
    out.ino = found?.ino ?? 0;
    if (found !== undefined) this.fill(found, out.attr);
  }

  byNumber(_op: Op, _call: Call, ino: number, out: EntryOut): void {
    const node = this.node(ino);
    out.ino = ino;
    this.fill(node, out.attr);
  }

  parentOf(_op: Op, _call: Call, dir: number): number {
    const node = this.dir(dir);
    return (node.parent ?? node).ino;
  }

  evict(): void {
    // Nodes belong to the tree, not to the kernel.
  }

  getattr(_op: Op, _call: Call, ino: number, out: AttrOut): void {
    this.fill(this.node(ino), out.attr);
  }

  /** Truncating before a write means nothing; times are accepted and not kept. */
  setattr(op: Op, call: Call, ino: number, set: SetAttr, out: AttrOut): undefined {
    if ((set.valid & (SET_MODE | SET_UID | SET_GID)) !== 0) throw errnoError('EPERM');
    this.getattr(op, call, ino, out);
  }

  readlink(): Uint8Array { throw errnoError('EINVAL'); }
  symlink(): void { refuse(); }
  mknod(): void { refuse(); }
  mkdir(): void { refuse(); }
  create(): void { refuse(); }
  tmpfile(): void { refuse(); }
  unlink(): void { refuse(); }
  rmdir(): void { refuse(); }
  rename(): void { refuse(); }
  link(): void { refuse(); }

  open(_op: Op, _call: Call, ino: number, flags: number, out: OpenOut): void {
    const { file } = this.node(ino);
    if (file === null) throw errnoError('EISDIR');
    if ((flags & O_ACCMODE) !== 0 && file.write === undefined) throw errnoError('EACCES');
    out.fh = ++this.lastHandle;
    out.direct = true;
    this.handles.set(out.fh, { text: new Uint8Array(0) });
  }

  release(_ino: number, fh: number): void {
    this.handles.delete(fh);
  }

  read(_op: Op, call: Call, ino: number, read: ReadIn): Uint8Array {
    const handle = this.handles.get(read.fh);
    const { file } = this.node(ino);
    if (handle === undefined || file === null) throw errnoError('EBADF');
    if (read.offset === 0) {
      handle.text = encoder.encode(this.outcomes.of(call, () => file.read?.() ?? ''));
    }
    // No text is that long.
    if (typeof read.offset === 'bigint') return new Uint8Array(0);
    return handle.text.subarray(read.offset, read.offset + read.size);
  }

  write(_op: Op, call: Call, ino: number, write: WriteIn): number {
    const { file } = this.node(ino);
    if (file?.write === undefined) throw errnoError('EACCES');
    if (write.data.length > WRITTEN_BYTES_MAX) throw errnoError('EINVAL');
    this.outcomes.of(call, () => file.write?.(decoder.decode(write.data)));
    return write.data.length;
  }

  fsync(): undefined { return undefined; }

  fallocate(): undefined { throw errnoError('EOPNOTSUPP'); }

  lseek(): BytePos { throw errnoError('EINVAL'); }

  opendir(_op: Op, _call: Call, ino: number, out: OpenOut): void {
    this.dir(ino);
    out.fh = 0;
  }

  releasedir(): void {
    // Directories have no handles.
  }

  readdir(_op: Op, _call: Call, ino: number, _fh: number, pos: number, sink: DirSink): void {
    const children = [...this.dir(ino).children?.values() ?? []].sort((a, b) => a.ino - b.ino);
    for (const child of children) {
      const at = child.ino + FIRST_POS;
      if (at < pos) continue;
      const name = encoder.encode(child.name);
      const type = child.children === null ? DT_REG : DT_DIR;
      if (!sink.add(child.ino, at, type, name, 0, name.length)) return;
    }
  }

  /** No blocks: df leaves such file systems out. */
  statfs(_op: Op, _call: Call, out: StatfsOut): void {
    Object.assign(out, { blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, nameMax: NAME_MAX });
  }

  setxattr(): void { throw errnoError('EOPNOTSUPP'); }
  getxattr(): Uint8Array { throw errnoError('EOPNOTSUPP'); }
  listxattr(): Uint8Array { return new Uint8Array(0); }
  removexattr(): void { throw errnoError('EOPNOTSUPP'); }
  ioctl(): undefined { throw errnoError('ENOTTY'); }

  private node(ino: number): ControlNode {
    const node = this.tree.node(ino);
    if (node === null) throw errnoError('ENOENT');
    return node;
  }

  private dir(ino: number): ControlNode {
    const node = this.node(ino);
    if (node.children === null) throw errnoError('ENOTDIR');
    return node;
  }

  private fill(node: ControlNode, attr: Attr): void {
    const { sec, nsec } = this.made;
    const isDir = node.children !== null;
    Object.assign(attr, {
      ino: node.ino, size: 0, blocks: 0, uid: 0, gid: 0, rdev: 0, blksize: WRITTEN_BYTES_MAX,
      atimeSec: sec, atimeNsec: nsec, mtimeSec: sec, mtimeNsec: nsec, ctimeSec: sec,
      ctimeNsec: nsec, crtimeSec: sec, crtimeNsec: nsec,
      nlink: isDir ? 2 : 1,
      mode: isDir ? DIR_MODE : fileMode(node),
    });
  }
}

function fileMode(node: ControlNode): number {
  const { file } = node;
  return file?.write !== undefined || file?.looksWritable === true ? FILE_MODE : READ_ONLY_MODE;
}

function refuse(): never {
  throw errnoError('EPERM', 'the control tree has no files but its own');
}
