/**
 * Packs directory entries into a READDIR reply.
 *
 *   dirent  ino u64 │ off u64 │ namelen u32 │ type u32 │ name, padded to 8
 *
 * `off` is where to go on after the entry: the position of the next *existing*
 * entry, also for the last one that fits, or its own position + 1 at the end of the
 * directory. It is therefore filled in when the entry after it is offered.
 * "." has offset 0 and ".." offset 1; real positions start at 2. (dir.md 5)
 */
import type { DirSink } from '../fs/vfs.js';
import { putU64 } from './protocol.js';

const DIRENT_BYTES = 24;
const DT_DIR = 4;
const DOTS = Uint8Array.of(46, 46);
/** Position of the first real entry. */
export const FIRST_POS = 2;

export class DirPacker implements DirSink {
  private base = 0;
  private at = 0;
  private limit = 0;
  private last = -1;
  private lastPos = 0;
  private full = false;

  constructor(private readonly bytes: Uint8Array, private readonly view: DataView) {}

  /** Starts a reply of at most `lenBytes` at `base`. */
  begin(base: number, lenBytes: number): void {
    this.base = base;
    this.at = base;
    this.limit = Math.min(base + lenBytes, this.bytes.length);
    this.last = -1;
    this.full = false;
  }

  /** "." and "..", as far as they lie at or after `pos`. */
  dots(pos: number, ino: number, parent: number): void {
    if (pos <= 0) this.add(ino, 0, DT_DIR, DOTS, 0, 1);
    if (pos <= 1) this.add(parent, 1, DT_DIR, DOTS, 0, 2);
  }

  add(ino: number, pos: number, type: number, bytes: Uint8Array, off: number, len: number):
  boolean {
    if (this.last >= 0) putU64(this.view, this.last + 8, pos);
    const entryBytes = (DIRENT_BYTES + len + 7) & ~7;
    if (this.full || this.at + entryBytes > this.limit) {
      this.full = true;
      this.last = -1;
      return false;
    }
    const v = this.view;
    const o = this.at;
    putU64(v, o, ino);
    v.setUint32(o + 16, len, true);
    v.setUint32(o + 20, type, true);
    for (let i = 0; i < len; i++) this.bytes[o + DIRENT_BYTES + i] = bytes[off + i] ?? 0;
    this.bytes.fill(0, o + DIRENT_BYTES + len, o + entryBytes);
    this.last = o;
    this.lastPos = pos;
    this.at = o + entryBytes;
    return true;
  }

  /** Completes the last entry when the directory ended. @returns bytes packed */
  finish(): number {
    // in an empty directory ".." leads to 2, where the first entry would be
    if (this.last >= 0) putU64(this.view, this.last + 8, this.lastPos + 1);
    this.last = -1;
    return this.at - this.base;
  }
}
