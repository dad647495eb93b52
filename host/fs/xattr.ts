/**
 * Extended attributes.
 *
 * An attribute is one string of bytes (header, name, value) in parts of 896
 * bytes, keyed by the hash of its name, an id that it keeps for life, and the
 * part's number. All of an operation happens in one tick, so nobody ever sees a
 * mixture of parts.
 *
 * Tagged `scoutfs.` names have side effects in the same transaction: totals change by
 * delta items, indexes by items under the INDX lock, and creation and removal of a
 * name with the srch tag append the same entry to the srch log, so that the second
 * cancels the first. Nothing of the change part can fail, so nothing is ever undone.
 *
 * POSIX ACLs are xattrs too, but have rules of their own (`acl_xattr.ts`).
 * Source: xattr.md 1 to 6. The order of errors is that of section 4.
 */
import {
  FS_ZONE, XATTR_MAX_NAME_LEN, XATTR_MAX_PART_SIZE, XATTR_MAX_VAL_LEN, XATTR_TYPE, Xattr,
  XattrTotlVal,
} from '../core/format.js';
import type { LockPtr, WideKey } from '../core/items.js';
import { ABSENT } from '../core/items.js';
import { xattrParts } from '../core/xattr_parts.js';
import type { Op } from '../mount/op.js';
import { MODE_READ, MODE_WRITE } from '../mount/op.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { FsContext } from './context.js';
import type { Inodes } from './inode.js';
import type { InodeRec } from './inode_item.js';
import type { Name } from './vfs.js';
import { XATTR_CREATE, XATTR_REPLACE } from './vfs.js';
import type { XattrTags } from './xattr_tags.js';
import { indxKey, isTagged, parseNumber, parseTags, totlKey } from './xattr_tags.js';

const HASH_MAX = 0xffffffff;
const U64_MASK = (1n << 64n) - 1n;
const PREFIXES = ['user.', 'trusted.', 'security.', 'scoutfs.'].map((p) => Buffer.from(p));
const USER = Buffer.from('user.');
const FILE_CAPS = Buffer.from('security.capability');
const EMPTY = new Uint8Array(0);

/** What else changes with an xattr: planned by the look part, applied by the change part. */
export interface SideChange {
  /** The triple to append to the srch log. */
  srch: { name: Uint8Array; ino: number; id: number } | null;
  totl: { lock: LockPtr; key: WideKey; total: bigint; count: bigint } | null;
  indx: { lock: LockPtr; key: WideKey; create: boolean } | null;
}

/** A change of one xattr's items; what the change part applies. */
export interface PartsChange {
  ino: number;
  hash: number;
  id: number;
  name: Uint8Array;
  /** null removes the xattr. */
  value: Uint8Array | null;
  oldParts: number;
}

/** An xattr that exists. */
export interface Found {
  hash: number;
  id: number;
  valLen: number;
  parts: number;
  value: Uint8Array;
}

export class Xattrs {
  constructor(private readonly cx: FsContext, private readonly inodes: Inodes) {}

  /** @throws Wait, EOPNOTSUPP, EINVAL, ENODATA, EIO */
  get(op: Op, ino: number, name: Name): Uint8Array {
    const bytes = nameOf(name);
    checkPrefix(bytes);
    if (bytes.length < 1 || bytes.length > XATTR_MAX_NAME_LEN) throw errnoError('ENODATA');
    const lock = op.lockInode(ino, MODE_READ);
    const found = this.find(lock, ino, bytes);
    if (found === null) throw errnoError('ENODATA');
    return found.value;
  }

  /** Names that normal listing shows, or the hidden ones, each followed by a NUL. @throws Wait */
  list(op: Op, ino: number, hidden = false): Uint8Array {
    const lock = op.lockInode(ino, MODE_READ);
    const out: number[] = [];
    let hash = 0;
    let id = 0;
    for (;;) {
      const n = this.next(lock, ino, hash, id, 0);
      if (n === ABSENT) return Uint8Array.from(out);
      const { found } = this.cx.items;
      if (found.fourth !== 0) throw damaged(ino, found.second);
      const name = this.nameInWindow(ino, n);
      if ((parseTags(name)?.hide ?? false) === hidden) out.push(...name, 0);
      hash = found.second;
      id = found.third + 1;
    }
  }

  /**
   * Sets a value, or removes the name when `value` is null; the remove call passes REPLACE.
   * `admin` tells whether the caller has CAP_SYS_ADMIN; asked only for tagged names.
   * @throws Wait, EOPNOTSUPP, EINVAL, ERANGE, E2BIG, EPERM, ENODATA, EEXIST, ENOSPC
   */
  set(op: Op, ino: number, name: Name, value: Uint8Array | null, flags: number,
    admin: () => boolean): void {
    const bytes = nameOf(name);
    checkPrefix(bytes);
    const tags = this.checkNew(bytes, value, flags, admin);
    const lock = op.lockInode(ino, MODE_WRITE);
    const inode = this.inodes.read(lock, ino);
    // the kernel says the same, of a type that may have changed since
    if (startsWith(bytes, USER) && (inode.retained || !(inode.isReg || inode.isDir))) {
      throw errnoError('EPERM');
    }
    const old = this.find(lock, ino, bytes);
    if (old === null && (flags & XATTR_REPLACE) !== 0) throw errnoError('ENODATA');
    if (old !== null && (flags & XATTR_CREATE) !== 0) throw errnoError('EEXIST');
    if (tags.indx && value !== null && value.length > 0) throw errnoError('EINVAL');
    if (tags.indx && value !== null && old !== null) return;
    const change = this.planParts(lock, inode, bytes, old, value);
    if (change === null) return;
    const side = this.sideOf(op, tags, bytes, ino, change.id, old?.value ?? null, value);
    const { hold } = this.cx;
    hold.begin(op);
    hold.will(inode, false);
    hold.hold(op, true);
    if (side.srch !== null) op.prepareSrch();

    this.applySide(op, lock, side);
    this.applyParts(lock, change);
    inode.touch(this.cx.clock.now(), false);
    hold.update(lock, inode);
  }

  /** Checks that need no lock, in their order. @throws see `set` */
  private checkNew(bytes: Uint8Array, value: Uint8Array | null, flags: number,
    admin: () => boolean): XattrTags {
    const tags = parseTags(bytes);
    if (tags === null) throw errnoError('EINVAL');
    if (bytes.length < 1 || bytes.length > XATTR_MAX_NAME_LEN) throw errnoError('ERANGE');
    if (value !== null && value.length > XATTR_MAX_VAL_LEN) throw errnoError('E2BIG');
    const both = XATTR_CREATE | XATTR_REPLACE;
    if ((flags & ~both) !== 0 || (flags & both) === both) throw errnoError('EINVAL');
    if (isTagged(tags) && !admin()) throw errnoError('EPERM');
    if (tags.totl && tags.indx) throw errnoError('EINVAL');
    if (tags.totl && totlKey(bytes) === null) throw errnoError('EINVAL');
    if (tags.indx && this.cx.formatVersion < 2) throw errnoError('EOPNOTSUPP');
    if (tags.indx && indxKey(bytes, 0n, 0n) === null) throw errnoError('EINVAL');
    return tags;
  }

  /**
   * Locks and plans the side items of a change. @throws Wait, EINVAL for values that are no number
   */
  sideOf(op: Op, tags: XattrTags, name: Uint8Array, ino: number, id: number,
    old: Uint8Array | null, value: Uint8Array | null): SideChange {
    const side: SideChange = { srch: null, totl: null, indx: null };
    // a replaced value keeps its entry, as it keeps its id
    if (tags.srch && (old === null) !== (value === null)) side.srch = { name, ino, id };
    const total = tags.totl ? totlKey(name) : null;
    if (total !== null) {
      const before = old === null ? 0n : parseNumber(old);
      const after = value === null ? 0n : parseNumber(value);
      if (before === null || after === null) throw errnoError('EINVAL');
      const count = BigInt(Number(value !== null) - Number(old !== null));
      if (after !== before || count !== 0n) {
        side.totl = {
          lock: op.lockTotl(), key: total, total: (after - before) & U64_MASK,
          count: count & U64_MASK,
        };
      }
    }
    const index = tags.indx ? indxKey(name, BigInt(ino), BigInt(id)) : null;
    if (index !== null) side.indx = { lock: op.lockIndx(), key: index, create: value !== null };
    return side;
  }

  /** The change part of `sideOf`; `lock` is I(ino) W. Entries were prepared. */
  applySide(op: Op, lock: LockPtr, side: SideChange): void {
    const { items } = this.cx;
    const { srch, totl, indx } = side;
    if (srch !== null) op.addSrch(srch.name, srch.ino, srch.id);
    if (totl !== null) {
      XattrTotlVal.write(items.val, 0, { total: totl.total, count: totl.count });
      items.delta(totl.lock, lock, totl.key, XattrTotlVal.size);
    }
    if (indx === null) return;
    if (indx.create) items.createForceWide(indx.lock, lock, indx.key);
    else items.deleteForceWide(indx.lock, lock, indx.key);
  }

  /** Finds an xattr with its whole value. @throws Wait, EIO */
  find(lock: LockPtr, ino: number, bytes: Uint8Array): Found | null {
    const { items } = this.cx;
    items.nameBytes.set(bytes);
    const n = items.lookupXattr(lock, ino, bytes.length);
    if (n === ABSENT) return null;
    const { second: hash, third: id } = items.found;
    this.nameInWindow(ino, n);
    const { valLen, nameLen } = Xattr.read(items.val, 0);
    const { totalBytes, nr } = xattrParts(nameLen, valLen);
    const value = valLen === 0 ? EMPTY : new Uint8Array(valLen);
    const head = Xattr.size + nameLen;
    for (let part = 0, at = 0; part < nr; part++, at += XATTR_MAX_PART_SIZE) {
      const want = Math.min(totalBytes - at, XATTR_MAX_PART_SIZE);
      const got = part === 0 ? n :
        items.lookup(lock, FS_ZONE, ino, XATTR_TYPE, hash, id, part);
      if (got !== want) throw damaged(ino, hash);
      const from = Math.max(at, head);
      if (from < at + want) {
        value.set(items.valBytes.subarray(from - at, want), from - head);
      }
    }
    return { hash, id, valLen, parts: nr, value };
  }

  /** A copy of the name in part 0, which is in the window. @throws EIO */
  nameInWindow(ino: number, len: number): Uint8Array {
    const { val, valBytes, found } = this.cx.items;
    const nameLen = len >= Xattr.size ? Xattr.read(val, 0).nameLen : 0;
    if (nameLen < 1 || len < Xattr.size + nameLen) throw damaged(ino, found.second);
    return valBytes.slice(Xattr.size, Xattr.size + nameLen);
  }

  /** The next part of any xattr of the inode at or after the key. @throws Wait */
  next(lock: LockPtr, ino: number, hash: number, id: number, part: number): number {
    return this.cx.items.next(lock, FS_ZONE, ino, XATTR_TYPE, hash, id, part, HASH_MAX);
  }

  /**
   * The look part of giving a name its value, or none. `old` is what the name has now, null also
   * for a new inode. A new xattr takes its id from the record.
   * @returns null when there is nothing to remove
   * @throws Wait
   */
  planParts(lock: LockPtr, inode: InodeRec, name: Uint8Array, old: Found | null,
    value: Uint8Array | null): PartsChange | null {
    if (old === null && value === null) return null;
    const { ino } = inode;
    const hash = old?.hash ?? this.hash(name);
    const id = old?.id ?? inode.nextXattrId++;
    const oldParts = old?.parts ?? 0;
    const parts = value === null ? 0 : xattrParts(name.length, value.length).nr;
    for (let part = 0; part < Math.max(parts, oldParts); part++) {
      this.cx.items.touch(lock, FS_ZONE, ino, XATTR_TYPE, hash, id, part);
    }
    return { ino, hash, id, name, value, oldParts };
  }

  /**
   * The look part of taking a file's capabilities away, which have to go when its contents change.
   * The kernel sees to that itself before truncation and chown, not before direct writes.
   * @returns null when it has none @throws Wait
   */
  planNoFileCaps(lock: LockPtr, inode: InodeRec): PartsChange | null {
    if (inode.nextXattrId === 0) return null;
    return this.planParts(lock, inode, FILE_CAPS, this.find(lock, inode.ino, FILE_CAPS), null);
  }

  private hash(bytes: Uint8Array): number {
    this.cx.items.nameBytes.set(bytes);
    return this.cx.items.xattrHash(bytes.length);
  }

  /** The change part of `planParts`; `lock` is I(ino) W. */
  applyParts(lock: LockPtr, change: PartsChange): void {
    const { items } = this.cx;
    const { ino, hash, id, name, value, oldParts } = change;
    const { totalBytes, nr } = value === null ? { totalBytes: 0, nr: 0 } :
      xattrParts(name.length, value.length);
    for (let part = 0; part < nr; part++) {
      const at = part * XATTR_MAX_PART_SIZE;
      const len = Math.min(totalBytes - at, XATTR_MAX_PART_SIZE);
      this.fillPart(name, value ?? EMPTY, at, len);
      if (part < oldParts) items.update(lock, FS_ZONE, ino, XATTR_TYPE, hash, id, part, len);
      else items.create(lock, FS_ZONE, ino, XATTR_TYPE, hash, id, part, len);
    }
    for (let part = nr; part < oldParts; part++) {
      items.delete(lock, FS_ZONE, ino, XATTR_TYPE, hash, id, part);
    }
  }

  /** Puts bytes `at .. at + len` of header, name and value into the window. */
  private fillPart(name: Uint8Array, value: Uint8Array, at: number, len: number): void {
    const { val, valBytes } = this.cx.items;
    const head = Xattr.size + name.length;
    if (at === 0) {
      Xattr.write(val, 0, { valLen: value.length, nameLen: name.length });
      valBytes.set(name, Xattr.size);
    }
    const from = Math.max(at, head);
    if (from < at + len) valBytes.set(value.subarray(from - head, at + len - head), from - at);
  }
}

/** Creation record of what an inode's deletion has to do for one xattr item. */
export function tagsOf(name: Uint8Array): XattrTags {
  return parseTags(name) ?? { hide: false, indx: false, srch: false, totl: false };
}

function nameOf(name: Name): Uint8Array {
  return name.bytes.subarray(name.off, name.off + name.len);
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return bytes.length >= prefix.length && prefix.every((b, i) => bytes[i] === b);
}

/** @throws EOPNOTSUPP; EINVAL for a prefix alone, as Linux file systems have it */
function checkPrefix(bytes: Uint8Array): void {
  const prefix = PREFIXES.find((p) => startsWith(bytes, p));
  if (prefix === undefined) throw errnoError('EOPNOTSUPP');
  if (bytes.length === prefix.length) throw errnoError('EINVAL');
}

function damaged(ino: number, hash: number): ScoutfsError {
  return new ScoutfsError('XATTR_ITEM', 'EIO', {
    message: `inode ${ino}: damaged extended attribute with hash ${hash}`,
  });
}

