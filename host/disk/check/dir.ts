/**
 * Directory entries: the three items of a link, and the shape of the tree.
 *
 *   dirent    16 . dir . 12 . name hash . pos      value: ino hash pos type name
 *   readdir   16 . dir . 16 . pos                  the same value
 *   backref   16 . ino . 20 . dir . pos            the same value
 *
 * Within a directory the entries are counted as they come; that the three items
 * agree is the ledger's business, with the directory and the value as what is
 * matched. Reachability needs only the parent of each directory: that table is the
 * one thing here that grows, with the number of directories.
 *
 * Spec: dir.md 1 and 2, format.md 14.2.
 */
import { DIRENT_FIRST_POS, DT_DIR, DT_SOCK, Dirent, ROOT_INO } from '../../core/format.js';
import { direntNameHash } from '../../core/hash.js';
import type { Context } from './context.js';
import { bytesAt, keyText, num } from './keys.js';
import type { FindingId } from './report.js';

const PARENT_BYTES = 100;
const SLASH = 0x2f;

/** Dirent type by the file type bits of a mode; undefined for what no file has. */
const DT_OF_MODE = new Map([[1, 0], [2, 1], [4, 2], [6, 3], [8, 4], [10, 5], [12, 6]]);
export function dtOfMode(mode: number): number | undefined {
  return mode > 0xffff ? undefined : DT_OF_MODE.get(mode >>> 12);
}

/** The entries of one inode in key order: dirents, readdirs, backrefs. */
export class EntryCheck {
  nameBytes = 0;
  subdirs = 0;
  dirents = 0;
  readdirs = 0;
  backrefs = 0;
  /** Directory that the first backref names. */
  parent = 0;
  private ino = 0;
  private dt: number | undefined;
  private nextPos = 0;
  private hashKey = -1n;
  /** Names under the current hash. */
  private names = new Set<string>();

  constructor(private readonly ctx: Context) {}

  /** @param dt dirent type of the inode, undefined if there is no valid inode */
  begin(ino: number, dt: number | undefined, nextPos: number): void {
    this.ino = ino;
    this.dt = dt;
    this.nextPos = nextPos;
    this.nameBytes = this.subdirs = this.dirents = this.readdirs = this.backrefs = 0;
    this.parent = 0;
    this.hashKey = -1n;
    this.names = new Set();
  }

  private bad(id: FindingId, what: string, v: DataView, k: number): void {
    this.ctx.report.finding(id, `an entry of inode ${this.ino} ${what}`,
      { ino: this.ino, key: keyText(v, k) });
  }

  dirent(v: DataView, k: number, o: number, len: number): void {
    this.ctx.summary.entries++;
    this.dirents++;
    this.inDirectory(v, k);
    const nameLen = len - Dirent.size;
    const type = v.getUint8(o + 24);
    this.nameBytes += nameLen;
    if (type === DT_DIR) this.subdirs++;
    const hash = v.getBigUint64(k + 8, true);
    if (hash !== v.getBigUint64(o + 8, true)
      || v.getBigUint64(k + 16, true) !== v.getBigUint64(o + 16, true)) {
      this.bad('CHK_DIRENT_KEY', 'is stored under another hash or position', v, k);
    }
    this.checkName(v, k, o, nameLen);
    const pos = num(v, o + 16);
    if (pos < DIRENT_FIRST_POS || (this.dt === DT_DIR && pos >= this.nextPos)) {
      this.bad('CHK_DIRENT_POS', `has position ${pos}, the next free one is ${this.nextPos}`,
        v, k);
    }
    if (type > DT_SOCK) this.bad('CHK_DIRENT_TYPE', `has type ${type}`, v, k);
    this.checkDuplicate(hash, v, k, o, nameLen);
    this.ctx.ledger.put('dirent/readdir', 1, this.ino, v, o, len, v, k);
  }

  readdir(v: DataView, k: number, o: number, len: number): void {
    this.readdirs++;
    this.inDirectory(v, k);
    if (v.getBigUint64(k + 8, true) !== v.getBigUint64(o + 16, true)) {
      this.bad('CHK_DIRENT_KEY', 'is listed under another position', v, k);
    }
    this.ctx.ledger.put('dirent/readdir', -1, this.ino, v, o, len, v, k);
    this.ctx.ledger.put('readdir/backref', 1, this.ino, v, o, len, v, k);
  }

  backref(v: DataView, k: number, o: number, len: number): void {
    this.backrefs++;
    const parent = num(v, k + 8);
    if (this.backrefs === 1) this.parent = parent;
    if (v.getBigUint64(k, true) !== v.getBigUint64(o, true)
      || v.getBigUint64(k + 16, true) !== v.getBigUint64(o + 16, true)) {
      this.bad('CHK_DIRENT_KEY', 'has a backref under another inode or position', v, k);
    }
    const type = v.getUint8(o + 24);
    if (this.dt !== undefined && type !== this.dt) {
      this.bad('CHK_DIRENT_TYPE', `has type ${type}, the inode ${this.dt}`, v, k);
    }
    this.ctx.ledger.put('readdir/backref', -1, parent, v, o, len, v, k);
  }

  private inDirectory(v: DataView, k: number): void {
    if (this.dt !== undefined && this.dt !== DT_DIR && this.dirents + this.readdirs <= 1) {
      this.bad('CHK_DIR_NOT_DIR', 'belongs to no directory', v, k);
    }
  }

  private checkName(v: DataView, k: number, o: number, nameLen: number): void {
    const at = o + Dirent.size;
    if (direntNameHash(bytesAt(v, at, nameLen)) !== v.getBigUint64(o + 8, true)) {
      this.bad('CHK_DIRENT_HASH', 'has another hash than that of its name', v, k);
    }
    for (let i = at; i < at + nameLen; i++) {
      const c = v.getUint8(i);
      if (c === 0 || c === SLASH) {
        this.bad('CHK_DIRENT_NAME', 'has a name with a slash or zero byte', v, k);
        break;
      }
    }
    if (v.getUint8(o + 25) !== 0 || v.getUint16(o + 26, true) !== 0
      || v.getUint32(o + 28, true) !== 0) {
      this.bad('CHK_ITEM_VALUE', 'has padding that is not zero', v, k);
    }
  }

  private checkDuplicate(hash: bigint, v: DataView, k: number, o: number, nameLen: number): void {
    const name = Buffer.from(v.buffer, v.byteOffset + o + Dirent.size, nameLen).toString('latin1');
    if (hash !== this.hashKey) {
      this.hashKey = hash;
      this.names = new Set([name]);
      return;
    }
    if (this.names.has(name)) this.bad('CHK_DIRENT_DUP', 'has the name of another', v, k);
    this.names.add(name);
  }
}

/** Whether every directory leads to the root. */
export class DirTree {
  readonly parents = new Map<number, number>();

  constructor(private readonly ctx: Context) {}

  /** A linked directory, not the root. */
  add(ino: number, parent: number): void {
    this.ctx.memory.charge(PARENT_BYTES, 'the table of directories');
    this.parents.set(ino, parent);
  }

  finish(): void {
    const reached = new Set<number>([ROOT_INO]);
    const lost = new Set<number>();
    this.ctx.memory.charge(this.parents.size * PARENT_BYTES, 'the table of directories');
    for (const ino of this.parents.keys()) {
      const path = new Set<number>();
      let at: number | undefined = ino;
      while (at !== undefined && !reached.has(at) && !lost.has(at) && !path.has(at)) {
        path.add(at);
        at = this.parents.get(at);
      }
      const ok = at !== undefined && reached.has(at);
      for (const p of path) (ok ? reached : lost).add(p);
      // Only where a chain breaks off or closes; what hangs below is lost with it.
      if (at === undefined) this.detached([...path].pop() ?? ino);
      else if (path.has(at)) this.detached(at);
    }
  }

  private detached(ino: number): void {
    const parent = this.parents.get(ino) ?? 0;
    this.ctx.report.finding('CHK_DIR_DETACHED', this.parents.has(parent)
      ? `directory ${ino} is its own ancestor`
      : `directory ${ino} is in inode ${parent}, which is no linked directory`, { ino });
  }
}
