/**
 * An item cache for tests of the file system row: a sorted map that is strict
 * where the real one must be able to rely on its callers.
 *
 * It knows what the running attempt has looked at. From `hold` on (the change
 * part) a key that was not looked at is a failure, as is any call under a lock that
 * does not cover the key or has the wrong mode. Looking can be made to throw
 * `Wait` at random, once per key until the knowledge is forgotten.
 */
import { crc32c } from '../../host/core/crc32c.js';
import {
  DIRENT_TYPE, Dirent, FS_ZONE, LINK_BACKREF_TYPE, READDIR_TYPE, XATTR_TYPE,
} from '../../host/core/format.js';
import { direntNameHash } from '../../host/core/hash.js';
import type { FoundKey, Items, LockPtr, WideKey } from '../../host/core/items.js';
import { ABSENT, VAL_MAX_BYTES } from '../../host/core/items.js';
import { MODE_READ, MODE_WRITE, MODE_WRITE_ONLY, Wait } from '../../host/mount/op.js';
import { errnoError } from '../../host/observe/errors.js';

type Num = number | bigint;

export interface LockRecord {
  name: string;
  start: string;
  end: string;
  mode: number;
}

function hex(n: Num, digits: number): string {
  return n.toString(16).padStart(digits, '0');
}

/** A key as a string that sorts as keys do. */
export function keyString(zone: Num, first: Num, type: Num, second: Num, third: Num, fourth: Num):
string {
  return hex(zone, 2) + hex(first, 16) + hex(type, 2) + hex(second, 16) + hex(third, 16) +
    hex(fourth, 2);
}

export interface ParsedKey {
  zone: number;
  first: bigint;
  type: number;
  second: bigint;
  third: bigint;
  fourth: number;
}

export function parseKey(k: string): ParsedKey {
  const field = (from: number, to: number): bigint => BigInt(`0x${k.slice(from, to)}`);
  return {
    zone: Number(field(0, 2)), first: field(2, 18), type: Number(field(18, 20)),
    second: field(20, 36), third: field(36, 52), fourth: Number(field(52, 54)),
  };
}

const ONES = 'f'.repeat(16);

function keyAfter(k: string): string {
  return (BigInt(`0x${k}`) + 1n).toString(16).padStart(k.length, '0');
}

/** Seeded random numbers in [0, 1). */
export function seeded(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let x = Math.imul(a ^ (a >>> 15), a | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class FakeItems implements Items {
  readonly valBytes = new Uint8Array(VAL_MAX_BYTES);
  readonly val = new DataView(this.valBytes.buffer);
  readonly nameBytes = new Uint8Array(255);
  readonly found: FoundKey = {
    zone: 0, first: 0, type: 0, second: 0, secondBig: 0n, third: 0, fourth: 0,
    wide: () => this.foundKey,
  };
  private foundKey: WideKey = { zone: 0, first: 0n, type: 0, second: 0n, third: 0n, fourth: 0 };
  readonly store = new Map<string, Uint8Array>();
  /** Sorted keys of `store`. */
  keys: string[] = [];
  readonly locks: LockRecord[] = [{ name: 'none', start: '', end: '', mode: 0 }];
  changing = false;
  /** Ask nothing of the callers: for mounted tests, where operations share ticks. */
  lenient = false;
  /** Item changes as readable lines, when set. */
  log: string[] | null = null;
  /** Chance that a first look waits. */
  waitChance = 0;
  private known: [string, string][] = [];
  private readonly waited = new Set<string>();

  constructor(private readonly random: () => number = () => 1) {}

  newAttempt(): void {
    this.known = [];
    this.changing = false;
  }

  /** From now until the tick ends the caller changes items. */
  startChange(): void {
    this.changing = true;
    queueMicrotask(() => { this.newAttempt(); });
  }

  addLock(name: string, start: string, end: string, mode: number): LockPtr {
    return this.locks.push({ name, start, end, mode }) - 1;
  }

  private check(lock: LockPtr, key: string, modes: readonly number[]): void {
    const l = this.locks[lock];
    if (l === undefined || lock === 0 || key < l.start || key > l.end) {
      throw new Error(`lock ${l?.name ?? lock} does not cover ${key}`);
    }
    if (!modes.includes(l.mode)) throw new Error(`lock ${l.name} has mode ${l.mode} for ${key}`);
  }

  private look(lock: LockPtr, from: string, to: string): void {
    this.check(lock, from, [MODE_READ, MODE_WRITE]);
    if (this.changing) {
      if (!this.isKnown(from, to)) throw new Error(`unknown in the change part: ${from} .. ${to}`);
      return;
    }
    if (this.waitChance > 0 && !this.waited.has(from) && this.random() < this.waitChance) {
      this.waited.add(from);
      throw new Wait(Promise.resolve());
    }
    if (!this.lenient) this.known.push([from, to]);
  }

  private isKnown(from: string, to: string): boolean {
    if (this.lenient) return true;
    let at = from;
    for (let progress = true; progress;) {
      progress = false;
      for (const [lo, hi] of this.known) {
        if (lo <= at && hi >= to) return true;
        if (lo <= at && hi >= at) {
          at = keyAfter(hi);
          progress = true;
        }
      }
    }
    return false;
  }

  private leave(val: Uint8Array): number {
    this.valBytes.fill(0xee);
    this.valBytes.set(val);
    return val.length;
  }

  lookup(lock: LockPtr, zone: number, first: number, type: number, second: number, third: number,
    fourth: number): number {
    const k = keyString(zone, first, type, second, third, fourth);
    this.look(lock, k, k);
    const v = this.store.get(k);
    return v === undefined ? ABSENT : this.leave(v);
  }

  touch(lock: LockPtr, zone: number, first: number, type: number, second: number, third: number,
    fourth: number): void {
    const k = keyString(zone, first, type, second, third, fourth);
    this.look(lock, k, k);
  }

  private index(k: string): number {
    let lo = 0;
    let hi = this.keys.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if ((this.keys[mid] ?? '') < k) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  next(lock: LockPtr, zone: number, first: number, type: number, second: number, third: number,
    fourth: number, lastSecond: number): number {
    const from = keyString(zone, first, type, second, third, fourth);
    let last = hex(zone, 2) + hex(first, 16) + hex(type, 2) + hex(lastSecond, 16) + ONES + 'ff';
    const end = this.locks[lock]?.end ?? '';
    if (last > end) last = end;
    const k = this.keys[this.index(from)];
    const hit = k !== undefined && k <= last;
    this.look(lock, from, hit ? k : last);
    if (!hit) return ABSENT;
    this.setFound(k);
    return this.leave(this.store.get(k) ?? new Uint8Array(0));
  }

  nextWide(lock: LockPtr, key: WideKey, last: WideKey): number {
    const from = wideString(key);
    const to = wideString(last);
    const k = this.keys[this.index(from)];
    const hit = k !== undefined && k <= to;
    this.look(lock, from, hit ? k : to);
    if (!hit) return ABSENT;
    this.setFound(k);
    return this.leave(this.store.get(k) ?? new Uint8Array(0));
  }

  private setFound(k: string): void {
    const p = parseKey(k);
    this.foundKey = p;
    Object.assign(this.found, {
      zone: p.zone, first: Number(p.first), type: p.type, second: Number(p.second),
      secondBig: p.second, third: Number(p.third), fourth: p.fourth,
    });
  }

  private name(len: number): Uint8Array {
    return this.nameBytes.slice(0, len);
  }

  lookupName(lock: LockPtr, dirIno: number, nameLen: number): number {
    const name = this.name(nameLen);
    const hash = direntNameHash(name);
    const from = keyString(FS_ZONE, dirIno, DIRENT_TYPE, hash, 0, 0);
    const last = keyString(FS_ZONE, dirIno, DIRENT_TYPE, hash, (1n << 64n) - 1n, 255);
    for (let i = this.index(from); (this.keys[i] ?? '~') <= last; i++) {
      const k = this.keys[i] ?? '';
      const v = this.store.get(k) ?? new Uint8Array(0);
      if (Buffer.from(v.subarray(Dirent.size)).equals(name)) {
        this.look(lock, from, k);
        return this.leave(v);
      }
    }
    this.look(lock, from, last);
    return ABSENT;
  }

  touchName(lock: LockPtr, dirIno: number, nameLen: number, pos: number): void {
    const k = keyString(FS_ZONE, dirIno, DIRENT_TYPE, direntNameHash(this.name(nameLen)), pos, 0);
    this.look(lock, k, k);
  }

  private entryKeys(dirIno: number, ino: number, hash: bigint, pos: number):
  [string, string, string] {
    return [
      keyString(FS_ZONE, dirIno, DIRENT_TYPE, hash, pos, 0),
      keyString(FS_ZONE, dirIno, READDIR_TYPE, pos, 0, 0),
      keyString(FS_ZONE, ino, LINK_BACKREF_TYPE, dirIno, pos, 0),
    ];
  }

  createEntry(dirLock: LockPtr, inoLock: LockPtr, dirIno: number, ino: number, type: number,
    pos: number, nameLen: number): void {
    const name = this.name(nameLen);
    const hash = direntNameHash(name);
    const val = new Uint8Array(Dirent.size + nameLen);
    Dirent.write(new DataView(val.buffer), 0, { ino, hash, pos, type });
    val.set(name, Dirent.size);
    const [d, r, b] = this.entryKeys(dirIno, ino, hash, pos);
    this.insert(dirLock, d, val);
    this.insert(dirLock, r, val);
    this.insert(inoLock, b, val);
  }

  deleteEntry(dirLock: LockPtr, inoLock: LockPtr, dirIno: number, ino: number, pos: number,
    nameLen: number): void {
    const [d, r, b] = this.entryKeys(dirIno, ino, direntNameHash(this.name(nameLen)), pos);
    this.remove(dirLock, d);
    this.remove(dirLock, r);
    this.remove(inoLock, b);
  }

  lookupXattr(lock: LockPtr, ino: number, nameLen: number): number {
    const name = this.name(nameLen);
    const hash = crc32c(0xffffffff, name);
    const from = keyString(FS_ZONE, ino, XATTR_TYPE, hash, 0, 0);
    const last = keyString(FS_ZONE, ino, XATTR_TYPE, hash, (1n << 64n) - 1n, 255);
    for (let i = this.index(from); (this.keys[i] ?? '~') <= last; i++) {
      const k = this.keys[i] ?? '';
      const v = this.store.get(k) ?? new Uint8Array(0);
      if (k.endsWith('00') && v[2] === nameLen &&
          Buffer.from(v.subarray(8, 8 + nameLen)).equals(name)) {
        this.look(lock, from, k);
        this.setFound(k);
        return this.leave(v);
      }
    }
    this.look(lock, from, last);
    return ABSENT;
  }

  xattrHash(nameLen: number): number {
    return crc32c(0xffffffff, this.name(nameLen));
  }

  private mustChange(): void {
    if (!this.changing && !this.lenient) throw new Error('a change outside of the change part');
  }

  private insert(lock: LockPtr, k: string, val: Uint8Array): void {
    this.mustChange();
    this.check(lock, k, [MODE_WRITE]);
    if (!this.isKnown(k, k)) throw new Error(`created without a look: ${k}`);
    if (this.store.has(k)) throw errnoError('EEXIST', k);
    this.put(k, val);
    if (!this.lenient) this.known.push([k, k]);
  }

  private put(k: string, val: Uint8Array): void {
    if (!this.store.has(k)) this.keys.splice(this.index(k), 0, k);
    this.store.set(k, val.slice());
    this.log?.push(`put ${k}`);
  }

  private remove(lock: LockPtr, k: string): void {
    this.mustChange();
    this.check(lock, k, [MODE_WRITE]);
    if (!this.isKnown(k, k)) throw new Error(`deleted without a look: ${k}`);
    if (!this.store.has(k)) throw errnoError('ENOENT', k);
    this.drop(k);
  }

  private drop(k: string): void {
    if (!this.store.delete(k)) return;
    this.keys.splice(this.index(k), 1);
    this.log?.push(`drop ${k}`);
  }

  create(lock: LockPtr, zone: number, first: number, type: number, second: number, third: number,
    fourth: number, valLen: number): void {
    this.insert(lock, keyString(zone, first, type, second, third, fourth),
      this.valBytes.subarray(0, valLen));
  }

  update(lock: LockPtr, zone: number, first: number, type: number, second: number, third: number,
    fourth: number, valLen: number): void {
    const k = keyString(zone, first, type, second, third, fourth);
    this.mustChange();
    this.check(lock, k, [MODE_WRITE]);
    if (!this.isKnown(k, k)) throw new Error(`updated without a look: ${k}`);
    if (!this.store.has(k)) throw errnoError('ENOENT', k);
    this.put(k, this.valBytes.subarray(0, valLen));
  }

  delete(lock: LockPtr, zone: number, first: number, type: number, second: number, third: number,
    fourth: number): void {
    this.remove(lock, keyString(zone, first, type, second, third, fourth));
  }

  private force(lock: LockPtr, primary: LockPtr, k: string): void {
    this.mustChange();
    this.check(lock, k, [MODE_WRITE_ONLY]);
    if (this.locks[primary]?.mode !== MODE_WRITE) throw new Error(`no primary lock for ${k}`);
  }

  createForce(lock: LockPtr, primary: LockPtr, zone: number, first: number, type: number,
    second: number, third: number, fourth: number): void {
    const k = keyString(zone, first, type, second, third, fourth);
    this.force(lock, primary, k);
    this.put(k, new Uint8Array(0));
  }

  deleteForce(lock: LockPtr, primary: LockPtr, zone: number, first: number, type: number,
    second: number, third: number, fourth: number): void {
    const k = keyString(zone, first, type, second, third, fourth);
    this.force(lock, primary, k);
    this.drop(k);
  }

  delta(lock: LockPtr, primary: LockPtr, key: WideKey, valLen: number): void {
    const k = wideString(key);
    this.force(lock, primary, k);
    const old = this.store.get(k);
    const sum = new DataView(new ArrayBuffer(valLen));
    let any = false;
    for (let o = 0; o < valLen; o += 8) {
      const was = old === undefined ? 0n : new DataView(old.buffer).getBigUint64(o, true);
      sum.setBigUint64(o, was + this.val.getBigUint64(o, true), true);
      any ||= sum.getBigUint64(o, true) !== 0n;
    }
    if (any) this.put(k, new Uint8Array(sum.buffer));
    else this.drop(k);
  }

  createForceWide(lock: LockPtr, primary: LockPtr, key: WideKey): void {
    this.force(lock, primary, wideString(key));
    this.put(wideString(key), new Uint8Array(0));
  }

  deleteForceWide(lock: LockPtr, primary: LockPtr, key: WideKey): void {
    this.force(lock, primary, wideString(key));
    this.drop(wideString(key));
  }
}

export function wideString(k: WideKey): string {
  return keyString(k.zone, k.first, k.type, k.second, k.third, k.fourth);
}
