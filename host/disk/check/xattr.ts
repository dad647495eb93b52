/**
 * The xattrs of one inode, part by part in key order.
 *
 *   16 . ino . 8 . crc of the name . id . part
 *   part 0: val_len 2 | name_len 1 | pad 5 | name | value ...   parts of 896 bytes
 *
 * A tagged name has consequences elsewhere: an entry in the srch files, a share of
 * a total, an index item. Those go into the ledger and the totals. While an
 * unlinked inode is being deleted its xattrs go part by part from the front, so
 * for such an inode missing front parts are no damage.
 *
 * Spec: xattr.md 1, 2 and 5, format.md 14.5 and 14.6.
 */
import { KEY_BYTES, bytesAt, keyText, newKey, num, setNum } from './keys.js';
import { XATTR_INDX_ZONE, XATTR_MAX_PART_SIZE, XATTR_TOTL_ZONE, Xattr }
  from '../../core/format.js';
import { crc32c } from '../../core/crc32c.js';
import { fnv1a64 } from '../../core/hash.js';
import type { Context } from './context.js';
import type { FindingId } from './report.js';
import type { TotalTable } from './totl.js';

const CRC_INIT = 0xffffffff;
const TAGGED_PREFIX = 'scoutfs.';
const TAGGED_MIN_BYTES = 14;
const TAG_CHARS = 5;
const NUMBER_MAX_CHARS = 23;
const MAX64 = 0xffffffffffffffffn;
const ENTRY_BYTES = 24;
/** Rough cost of remembering one xattr of the current inode. */
const ID_BYTES = 100;
const PREFIXES = ['user.', 'trusted.', 'security.', TAGGED_PREFIX];
const ACL_NAMES = ['system.posix_acl_access', 'system.posix_acl_default'];

export interface Tags {
  hide: boolean;
  indx: boolean;
  srch: boolean;
  totl: boolean;
}

/** Tags of a full name. @returns null for a name that tags make invalid; xattr.md 2 */
export function parseTags(name: string): Tags | null {
  const tags: Tags = { hide: false, indx: false, srch: false, totl: false };
  if (!name.startsWith(TAGGED_PREFIX) || name.length < TAGGED_MIN_BYTES) return tags;
  let any = false;
  for (let at = TAGGED_PREFIX.length; ; at += TAG_CHARS) {
    const word = name.slice(at, at + TAG_CHARS);
    const tag = (['hide', 'indx', 'srch', 'totl'] as const).find((t) => word === `${t}.`);
    if (tag === undefined) return any ? tags : null;
    if (tags[tag]) return null;
    tags[tag] = true;
    any = true;
  }
}

/** An unsigned 64-bit number in C notation. @returns null for other syntax; xattr.md 2 */
export function parseNumber(text: string): bigint | null {
  if (text.length < 1 || text.length > NUMBER_MAX_CHARS) return null;
  const end = text.indexOf('\0');
  const s = end < 0 ? text : text.slice(0, end);
  let n: bigint;
  if (/^0[xX][0-9a-fA-F]+$/.test(s)) n = BigInt(`0x${s.slice(2)}`);
  else if (/^0[0-7]*$/.test(s)) n = BigInt(`0o${s}`);
  else if (/^[1-9][0-9]*$/.test(s)) n = BigInt(s);
  else return null;
  return n <= MAX64 ? n : null;
}

/** The numbers that end a name, `n` of them, separated by dots. */
function numbersAtEnd(name: string, n: number): bigint[] | null {
  const words = name.split('.');
  if (words.length <= n) return null;
  const numbers = words.slice(-n).map(parseNumber);
  return numbers.includes(null) ? null : numbers as bigint[];
}

export class XattrCheck {
  private ino = 0;
  private nextId = 0;
  private deleting = false;
  private readonly ids = new Set<number>();
  /** The xattr whose parts are coming. */
  private hash = -1;
  private id = -1;
  private open = false;
  private nextPart = 0;
  private totalBytes = 0;
  /** Names seen under the current hash. */
  private names = new Set<string>();
  private readonly entry = new DataView(new ArrayBuffer(ENTRY_BYTES));
  private readonly key = newKey();

  constructor(private readonly ctx: Context, private readonly totals: TotalTable) {}

  begin(ino: number, nextId: number, deleting: boolean): void {
    this.ino = ino;
    this.nextId = nextId;
    this.deleting = deleting;
    this.ctx.memory.release(this.ids.size * ID_BYTES);
    this.ids.clear();
    this.hash = -1;
    this.id = -1;
    this.open = false;
    this.names = new Set();
  }

  /** One item: key at `k`, value of `len` bytes at `o`. */
  part(v: DataView, k: number, o: number, len: number): void {
    const hash = num(v, k + 8);
    const id = num(v, k + 16);
    const part = v.getUint8(k + 24);
    if (hash !== this.hash || id !== this.id) {
      this.closeXattr();
      if (hash !== this.hash) this.names = new Set();
      this.hash = hash;
      this.id = id;
      this.open = part === 0 && this.openXattr(v, k, o, len);
      if (part !== 0 && !this.deleting) {
        this.bad('CHK_XATTR_PARTS', 'starts with a later part', v, k);
      }
    }
    if (!this.open) return;
    const rest = this.totalBytes - part * XATTR_MAX_PART_SIZE;
    if (part !== this.nextPart || len !== Math.min(rest, XATTR_MAX_PART_SIZE)) {
      this.bad('CHK_XATTR_PARTS', `has part ${part} of ${len} bytes, expected part `
        + `${this.nextPart} of ${Math.min(rest, XATTR_MAX_PART_SIZE)}`, v, k);
      this.open = false;
    }
    this.nextPart++;
  }

  finish(): void {
    this.closeXattr();
  }

  private bad(id: FindingId, what: string, v?: DataView, k = 0): void {
    this.ctx.report.finding(id, `xattr ${this.id} of inode ${this.ino} ${what}`,
      { ino: this.ino, ...(v === undefined ? {} : { key: keyText(v, k) }) });
  }

  private closeXattr(): void {
    if (this.open && this.nextPart * XATTR_MAX_PART_SIZE < this.totalBytes) {
      this.bad('CHK_XATTR_PARTS', `ends after ${this.nextPart} parts`);
    }
    this.open = false;
  }

  private openXattr(v: DataView, k: number, o: number, len: number): boolean {
    this.ctx.summary.xattrs++;
    this.nextPart = 0;
    if (this.id >= this.nextId || this.ids.has(this.id)) {
      this.bad('CHK_XATTR_ID', `has an id that is used twice or not below ${this.nextId}`, v, k);
    }
    if (!this.ids.has(this.id)) this.ctx.memory.charge(ID_BYTES, 'the xattrs of one inode');
    this.ids.add(this.id);
    const valLen = len < Xattr.size ? 0 : v.getUint16(o, true);
    const nameLen = len < Xattr.size ? 0 : v.getUint8(o + 2);
    if (nameLen === 0 || Xattr.size + nameLen > len || v.getUint8(o + 3) !== 0
      || v.getUint32(o + 4, true) !== 0) {
      this.bad('CHK_XATTR_HEADER', `has a header with name length ${nameLen}`, v, k);
      return false;
    }
    this.totalBytes = Xattr.size + nameLen + valLen;
    const nameBytes = bytesAt(v, o + Xattr.size, nameLen);
    const name = Buffer.from(nameBytes).toString('latin1');
    if (crc32c(CRC_INIT, nameBytes) !== this.hash) {
      this.bad('CHK_XATTR_HASH', 'is stored under another hash than that of its name', v, k);
    }
    if (this.names.has(name)) this.bad('CHK_XATTR_DUP', 'has the name of another', v, k);
    this.names.add(name);
    if (!ACL_NAMES.includes(name)
      && (!PREFIXES.some((p) => name.startsWith(p)) || name.includes('\0'))) {
      this.bad('CHK_XATTR_NAME', 'has a name outside the supported name spaces', v, k);
    }
    const rest = Math.min(valLen, len - Xattr.size - nameLen);
    const value = bytesAt(v, o + Xattr.size + nameLen, rest);
    this.tagged(name, nameBytes, value, valLen, v, k);
    return true;
  }

  /** What the tags of a name promise elsewhere. */
  private tagged(name: string, nameBytes: Uint8Array, value: Uint8Array,
    valLen: number, v: DataView, k: number): void {
    const tags = parseTags(name);
    if (tags === null || (tags.totl && tags.indx)) {
      this.bad('CHK_XATTR_TAG', 'has a name with invalid tags', v, k);
      return;
    }
    if (tags.srch) {
      this.entry.setBigUint64(0, fnv1a64(nameBytes), true);
      setNum(this.entry, 8, this.ino);
      setNum(this.entry, 16, this.id);
      this.ctx.ledger.put('srch/xattr', -1, 0, this.entry, 0, ENTRY_BYTES, v, k);
    }
    if (tags.totl) {
      const abc = numbersAtEnd(name, 3);
      const n = value.length === valLen ? parseNumber(Buffer.from(value).toString('latin1')) : null;
      if (abc === null || n === null) this.bad('CHK_XATTR_TAG', 'has an invalid total', v, k);
      else this.totals.addXattr(this.totlKey(abc), n);
    }
    if (tags.indx) {
      const [major = 256n, minor = 0n] = numbersAtEnd(name, 2) ?? [];
      if (major > 255n || valLen !== 0 || this.ctx.sb.fmtVers < 2) {
        this.bad('CHK_XATTR_TAG', 'has an invalid index position or a value', v, k);
      } else {
        this.indxKey(major, minor);
        this.ctx.ledger.put('indx/xattr', -1, 0, this.key, 0, KEY_BYTES, this.key, 0);
      }
    }
  }

  private totlKey(abc: bigint[]): string {
    return `${XATTR_TOTL_ZONE}.${abc[0] ?? 0n}.0.${abc[1] ?? 0n}.${abc[2] ?? 0n}.0`;
  }

  private indxKey(major: bigint, minor: bigint): void {
    const { key } = this;
    const ino = BigInt(this.ino);
    const id = BigInt(this.id);
    key.setBigUint64(0, (major << 56n) | (minor >> 8n), true);
    key.setBigUint64(8, BigInt.asUintN(64, minor << 56n) | (ino >> 8n), true);
    key.setBigUint64(16, BigInt.asUintN(64, ino << 56n) | (id >> 8n), true);
    key.setUint8(24, Number(id & 0xffn));
    key.setUint8(25, XATTR_INDX_ZONE);
  }
}
