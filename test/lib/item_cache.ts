/**
 * A small core with an item cache for tests: locks, fills without any tree, and keys of
 * one dense range (zone 16, inode 1, dirent type, `second` counting up).
 */
import { Core } from '../../host/core/core.js';
import { randomFrom } from '../../host/env/random.js';
import { CoreItems, KeyWindow } from '../../host/core/item_face.js';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import type { WideKey } from '../../host/core/items.js';
import { seeded } from './core.js';

export const READ = 1;
export const WRITE = 2;
export const WRITE_ONLY = 3;
const ONES64 = 0xffffffffffffffffn;
const LIST_BYTES = 1 << 20;

/** Thrown by the face for what is not cached. */
export class NotCached extends Error {
  constructor(readonly lock: number, readonly key: WideKey) {
    super('not cached');
  }
}

export interface ListItem {
  key: WideKey;
  seq: number;
  val: Uint8Array;
}

export class TestCache {
  readonly core: Core;
  readonly items: CoreItems;
  readonly keyA: KeyWindow;
  readonly keyB: KeyWindow;
  private list = 0;

  constructor(cacheBytes: number, memoryBytes = 16 << 20) {
    const rnd = seeded(99);
    this.core = new Core(randomFrom((len) => Uint8Array.from({ length: len }, () => rnd(256))),
      { memoryBytes, slotShare: 0.1 });
    if (this.core.x.itemInit(cacheBytes) === 0) throw new Error('item cache does not fit');
    this.keyA = new KeyWindow(this.core.view, ITEM_WINDOWS.keyA);
    this.keyB = new KeyWindow(this.core.view, ITEM_WINDOWS.keyB);
    const missing = new KeyWindow(this.core.view, ITEM_WINDOWS.missing);
    this.items = new CoreItems(this.core, (lock) => { throw new NotCached(lock, missing.wide()); });
  }

  /** A lock over [start, end] in a mode. */
  lock(start: WideKey, end: WideKey, mode: number, writeSeq = 0): number {
    this.range(start, end);
    const lock = this.core.x.lockAlloc();
    if (lock === 0) throw new Error('no lock record');
    this.core.x.lockSetMode(lock, mode, writeSeq);
    return lock;
  }

  range(start: WideKey, end: WideKey): void {
    this.keyA.set(start);
    this.keyB.set(end);
  }

  /** Fills the holes of [start, end] with the items, which are in key order. */
  fill(lock: number, start: WideKey, end: WideKey, items: ListItem[]): number {
    this.list ||= this.core.alloc(LIST_BYTES);
    let at = this.list;
    for (const it of items) {
      new KeyWindow(this.core.view, at).set(it.key);
      this.core.view.setBigUint64(at + 32, BigInt(it.seq), true);
      this.core.view.setBigUint64(at + 40, BigInt(it.val.length), true);
      this.core.bytes.set(it.val, at + 48);
      at += 48 + (it.val.length + 7 & ~7);
      if (at > this.list + LIST_BYTES - 1024) throw new Error('list too long');
    }
    this.range(start, end);
    return this.core.x.testFill(lock, this.list, items.length);
  }

  /** The heap was laid out anew: nothing allocated before counts. */
  forgetHeap(): void {
    this.list = 0;
  }

  invalidate(start: WideKey, end: WideKey): void {
    this.range(start, end);
    this.core.x.itemInvalidate();
  }

  /** Bytes of the value window. */
  value(len: number): Uint8Array {
    return this.items.valBytes.slice(0, len);
  }

  setValue(val: Uint8Array): number {
    this.items.valBytes.set(val);
    return val.length;
  }
}

/** Key number n of the dense range. */
export function denseKey(n: number): WideKey {
  return { zone: 16, first: 1n, type: 12, second: BigInt(n), third: 0n, fourth: 0 };
}

/** The last key that belongs to number n. */
export function denseEnd(n: number): WideKey {
  return { zone: 16, first: 1n, type: 12, second: BigInt(n), third: ONES64, fourth: 255 };
}

/** A value that tells its key and version apart. */
export function valueOf(n: number, version: number, len: number): Uint8Array {
  return Uint8Array.from({ length: len }, (_, i) => (n * 31 + version * 7 + i) & 255);
}
