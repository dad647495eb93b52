/**
 * The item cache's typed face over the raw calls of the core.
 *
 * A call is one crossing of the border with numbers only; keys with 64-bit fields go
 * through key register A. Results: a length, ABSENT, or an error. What is not cached is
 * handed to `onMissing`, which has to throw (the mount throws `Wait` and reads the range).
 * In the change part of an operation nothing may be missing any more: there it is the
 * error ITEM_NOT_COVERED, a bug of the operation.
 *
 * Source: item.md 3; host/core/items.ts says what each call does.
 */
import type { FoundKey, Items, LockPtr, WideKey } from './items.js';
import { ABSENT, VAL_MAX_BYTES } from './items.js';
import type { ItemExports } from './item_exports.js';
import { ITEM_WINDOWS, NOT_COVERED } from './item_exports.js';
import { ERRNO, ScoutfsError, errnoName } from '../observe/errors.js';

const TWO32 = 0x100000000;
const NAME_WINDOW_BYTES = 256;
const RAW_ENOENT = -ERRNO.ENOENT;

/** What the face needs of a core instance. */
export interface ItemCore {
  readonly x: ItemExports;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Called with the lock and the address of the key whose range is missing; must throw. */
export type OnMissing = (lock: LockPtr, keyPtr: number) => never;

/** A 32-byte key in core memory, decoded field by field when asked. */
export class KeyWindow implements FoundKey {
  constructor(private readonly view: DataView, readonly ptr: number) {}

  get zone(): number {
    return this.view.getUint8(this.ptr + 25);
  }

  get first(): number {
    return this.num(0);
  }

  get type(): number {
    return this.view.getUint8(this.ptr + 26);
  }

  get second(): number {
    return this.num(8);
  }

  get secondBig(): bigint {
    return this.view.getBigUint64(this.ptr + 8, true);
  }

  get third(): number {
    return this.num(16);
  }

  get fourth(): number {
    return this.view.getUint8(this.ptr + 24);
  }

  /** All fields exact. */
  wide(): WideKey {
    return {
      zone: this.zone,
      first: this.view.getBigUint64(this.ptr, true),
      type: this.type,
      second: this.secondBig,
      third: this.view.getBigUint64(this.ptr + 16, true),
      fourth: this.fourth,
    };
  }

  /** Whether `second` and `third` are what the key has. */
  get isExact(): boolean {
    return Number.isSafeInteger(this.second) && Number.isSafeInteger(this.third);
  }

  set(k: WideKey): void {
    const { view, ptr } = this;
    view.setBigUint64(ptr, k.first, true);
    view.setBigUint64(ptr + 8, k.second, true);
    view.setBigUint64(ptr + 16, k.third, true);
    view.setUint32(ptr + 24, k.fourth | k.zone << 8 | k.type << 16, true);
    view.setUint32(ptr + 28, 0, true);
  }

  private num(at: number): number {
    const p = this.ptr + at;
    return this.view.getUint32(p, true) + this.view.getUint32(p + 4, true) * TWO32;
  }
}

export class CoreItems implements Items {
  readonly val: DataView;
  readonly valBytes: Uint8Array;
  readonly nameBytes: Uint8Array;
  readonly found: KeyWindow;
  private readonly x: ItemExports;
  private readonly keyA: KeyWindow;
  private readonly keyB: KeyWindow;

  constructor(core: ItemCore, private readonly onMissing: OnMissing) {
    const { buffer } = core.view;
    const w = ITEM_WINDOWS;
    this.x = core.x;
    this.val = new DataView(buffer, w.val, VAL_MAX_BYTES);
    this.valBytes = new Uint8Array(buffer, w.val, VAL_MAX_BYTES);
    this.nameBytes = new Uint8Array(buffer, w.name, NAME_WINDOW_BYTES);
    this.found = new KeyWindow(core.view, w.found);
    this.keyA = new KeyWindow(core.view, w.keyA);
    this.keyB = new KeyWindow(core.view, w.keyB);
  }

  lookup(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number): number {
    return this.looked(lock, this.x.itemLookup(lock, zone, first, type, second, third, fourth));
  }

  touch(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number): void {
    this.looked(lock, this.x.itemTouch(lock, zone, first, type, second, third, fourth));
  }

  next(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number, lastSecond: number): number {
    const n = this.looked(lock,
      this.x.itemNext(lock, zone, first, type, second, third, fourth, lastSecond));
    // A caller that goes on from a rounded number may stay where it is.
    if (n !== ABSENT && !this.found.isExact) {
      throw new ScoutfsError('ITEM_KEY', 'EIO', {
        message: `damaged item: ${this.found.secondBig}.${this.found.wide().third} in the key of ` +
          `type ${type} of ${first}`,
      });
    }
    return n;
  }

  lookupName(lock: LockPtr, dirIno: number, nameLen: number): number {
    return this.looked(lock, this.x.itemLookupName(lock, dirIno, nameLen));
  }

  touchName(lock: LockPtr, dirIno: number, nameLen: number, pos: number): void {
    this.looked(lock, this.x.itemTouchName(lock, dirIno, nameLen, pos));
  }

  createEntry(dirLock: LockPtr, inoLock: LockPtr, dirIno: number, ino: number, type: number,
    pos: number, nameLen: number): void {
    const r = this.x.itemCreateEntry(dirLock, inoLock, dirIno, ino, type, pos, nameLen);
    if (r !== 0) throw changeError('create entry', r);
  }

  deleteEntry(dirLock: LockPtr, inoLock: LockPtr, dirIno: number, ino: number, pos: number,
    nameLen: number): void {
    const r = this.x.itemDeleteEntry(dirLock, inoLock, dirIno, ino, pos, nameLen);
    if (r !== 0) throw changeError('delete entry', r);
  }

  lookupXattr(lock: LockPtr, ino: number, nameLen: number): number {
    return this.looked(lock, this.x.itemLookupXattr(lock, ino, nameLen));
  }

  xattrHash(nameLen: number): number {
    return this.x.itemXattrHash(nameLen);
  }

  create(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number, valLen: number): void {
    const r = this.x.itemCreate(lock, zone, first, type, second, third, fourth, valLen);
    if (r !== 0) throw changeError('create item', r);
  }

  update(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number, valLen: number): void {
    const r = this.x.itemUpdate(lock, zone, first, type, second, third, fourth, valLen);
    if (r !== 0) throw changeError('update item', r);
  }

  delete(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number): void {
    const r = this.x.itemDelete(lock, zone, first, type, second, third, fourth);
    if (r !== 0) throw changeError('delete item', r);
  }

  createForce(lock: LockPtr, primary: LockPtr, zone: number, first: number, type: number,
    second: number, third: number, fourth: number): void {
    const r = this.x.itemCreateForce(lock, primary, zone, first, type, second, third, fourth, 0);
    if (r !== 0) throw changeError('force item', r);
  }

  deleteForce(lock: LockPtr, primary: LockPtr, zone: number, first: number, type: number,
    second: number, third: number, fourth: number): void {
    const r = this.x.itemDeleteForce(lock, primary, zone, first, type, second, third, fourth);
    if (r !== 0) throw changeError('force item away', r);
  }

  delta(lock: LockPtr, primary: LockPtr, key: WideKey, valLen: number): void {
    this.keyA.set(key);
    const r = this.x.itemDeltaKey(lock, primary, valLen);
    if (r !== 0) throw changeError('add increment', r);
  }

  createForceWide(lock: LockPtr, primary: LockPtr, key: WideKey): void {
    this.keyA.set(key);
    const r = this.x.itemCreateForceKey(lock, primary, 0);
    if (r !== 0) throw changeError('force item', r);
  }

  deleteForceWide(lock: LockPtr, primary: LockPtr, key: WideKey): void {
    this.keyA.set(key);
    const r = this.x.itemDeleteForceKey(lock, primary);
    if (r !== 0) throw changeError('force item away', r);
  }

  /** `lookup` for any key. */
  lookupWide(lock: LockPtr, key: WideKey): number {
    this.keyA.set(key);
    return this.looked(lock, this.x.itemLookupKey(lock));
  }

  /** `touch` for any key. */
  touchWide(lock: LockPtr, key: WideKey): void {
    this.keyA.set(key);
    this.looked(lock, this.x.itemTouchKey(lock));
  }

  /** First item in [key, last], clamped to the lock's range. */
  nextWide(lock: LockPtr, key: WideKey, last: WideKey): number {
    this.keyA.set(key);
    this.keyB.set(last);
    return this.looked(lock, this.x.itemNextKey(lock));
  }

  /** `create` for any key. */
  createWide(lock: LockPtr, key: WideKey, valLen: number): void {
    this.keyA.set(key);
    const r = this.x.itemCreateKey(lock, valLen);
    if (r !== 0) throw changeError('create item', r);
  }

  /** `delete` for any key. */
  deleteWide(lock: LockPtr, key: WideKey): void {
    this.keyA.set(key);
    const r = this.x.itemDeleteKey(lock);
    if (r !== 0) throw changeError('delete item', r);
  }

  /** A looking call's result: length or 0, ABSENT, or an error thrown. */
  private looked(lock: LockPtr, r: number): number {
    if (r >= 0) return r;
    if (r === RAW_ENOENT) return ABSENT;
    if (r === NOT_COVERED) this.onMissing(lock, ITEM_WINDOWS.missing);
    throw lookError(r);
  }
}

function lookError(r: number): ScoutfsError {
  const errno = errnoName(r);
  if (errno === 'EINVAL') return lockError('read');
  return new ScoutfsError('ITEM_DAMAGED', errno, {
    message: `an item's value is damaged: ${errno}`,
  });
}

function lockError(what: string): ScoutfsError {
  return new ScoutfsError('ITEM_LOCK', 'EINVAL', {
    message: `${what}: the lock does not cover the key or its mode does not permit this`,
  });
}

function changeError(what: string, r: number): ScoutfsError {
  if (r === NOT_COVERED) {
    return new ScoutfsError('ITEM_NOT_COVERED', 'EIO', {
      message: `${what}: the operation did not look at the key before changing it`,
    });
  }
  const errno = errnoName(r);
  if (errno === 'EINVAL') return lockError(what);
  return new ScoutfsError(errno, errno, { message: `${what}: ${errno}` });
}
