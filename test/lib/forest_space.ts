/**
 * A forest on a device in memory: a merged tree and log trees made by hand, an item
 * cache that reads them, and the calls that a mount makes around both.
 */
import type { Core } from '../../host/core/core.js';
import { NEED_BLOCK } from '../../host/core/core.js';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import { CoreItems, KeyWindow } from '../../host/core/item_face.js';
import { Key } from '../../host/core/format.js';
import type { WideKey } from '../../host/core/items.js';
import { Rec } from '../../host/core/trees.js';
import { NotCached } from './item_cache.js';
import { commitSpace, keyBytes, makeSpace } from './treespace.js';
import type { Space } from './treespace.js';

export const LT_BYTES = 472;
export const LT_ITEM_ROOT = 64;
const LT_BLOOM_REF = 88;
const LT_FINALIZE_SEQ = 440;
const LT_RID = 448;
const LT_NR = 456;
const LT_FLAGS = 464;

export interface TreeItem {
  key: WideKey;
  seq: number;
  deletion: boolean;
  val: Uint8Array;
}

export interface LogOptions {
  rid: bigint;
  nr: number;
  finalizeSeq?: number;
  /** locks whose bloom bits are set */
  blooms: number[];
  items: TreeItem[];
}

export function wideBytes(k: WideKey): Uint8Array {
  const b = new Uint8Array(32);
  Key.write(new DataView(b.buffer), 0, k);
  return b;
}

export class ForestSpace {
  readonly s: Space;
  readonly core: Core;
  readonly items: CoreItems;
  readonly fsRoot: Rec;
  readonly logsRoot: Rec;
  readonly keyRec: Rec;
  /** evicts every block that nobody pins before each repetition of a call */
  coldBlocks = false;
  private readonly regA: KeyWindow;
  private readonly regB: KeyWindow;

  constructor(cacheBytes = 4 << 20, seed = 1) {
    this.s = makeSpace(7999, { memoryBytes: 48 << 20, slotShare: 0.6 }, seed);
    this.core = this.s.core;
    if (this.core.x.itemInit(cacheBytes) === 0) throw new Error('item cache does not fit');
    this.fsRoot = new Rec(this.core, 24);
    this.logsRoot = new Rec(this.core, 24);
    this.keyRec = new Rec(this.core, 32);
    this.regA = new KeyWindow(this.core.view, ITEM_WINDOWS.keyA);
    this.regB = new KeyWindow(this.core.view, ITEM_WINDOWS.keyB);
    const missing = new KeyWindow(this.core.view, ITEM_WINDOWS.missing);
    this.items = new CoreItems(this.core, (lock) => { throw new NotCached(lock, missing.wide()); });
  }

  lock(start: WideKey, end: WideKey, mode: number, writeSeq: number): number {
    this.regA.set(start);
    this.regB.set(end);
    const lock = this.core.x.lockAlloc();
    if (lock === 0) throw new Error('no lock record');
    this.core.x.lockSetMode(lock, mode, writeSeq);
    return lock;
  }

  /** Puts a key into register A. */
  keyA(key: WideKey): void {
    this.regA.set(key);
  }

  async fsItems(items: TreeItem[]): Promise<void> {
    for (const it of items) {
      await this.s.space.apply(this.fsRoot.ptr, wideBytes(it.key), it.seq, 0, it.val);
    }
  }

  /** A log_trees struct in core memory with its bloom block and items, not in logs_root yet. */
  async makeLog(o: LogOptions): Promise<Rec> {
    const lt = new Rec(this.core, LT_BYTES);
    const { view } = this.core;
    view.setBigUint64(lt.ptr + LT_RID, o.rid, true);
    view.setBigUint64(lt.ptr + LT_NR, BigInt(o.nr), true);
    view.setBigUint64(lt.ptr + LT_FINALIZE_SEQ, BigInt(o.finalizeSeq ?? 0), true);
    view.setBigUint64(lt.ptr + LT_FLAGS, o.finalizeSeq === undefined ? 0n : 1n, true);
    for (const lock of o.blooms) {
      const { al, ws } = this.s.space;
      await this.run(() => this.core.x.forestSetBloom(lt.ptr, al, ws, lock));
    }
    for (const it of o.items) {
      await this.s.space.apply(lt.ptr + LT_ITEM_ROOT, wideBytes(it.key), it.seq,
        it.deletion ? 1 : 0, it.val);
    }
    return lt;
  }

  /** Stores a log_trees struct in logs_root. */
  async putLog(lt: Rec): Promise<void> {
    const rid = this.core.view.getBigUint64(lt.ptr + LT_RID, true);
    const nr = this.core.view.getBigUint64(lt.ptr + LT_NR, true);
    await this.s.space.force(this.logsRoot.ptr, keyBytes(24, rid, 0, nr), lt.get());
  }

  async addLog(o: LogOptions): Promise<Rec> {
    const lt = await this.makeLog(o);
    await this.putLog(lt);
    return lt;
  }

  /** Writes all dirty blocks. */
  async commit(): Promise<void> {
    await commitSpace(this.s);
  }

  bloomRef(lt: Rec): number {
    return lt.ptr + LT_BLOOM_REF;
  }

  /** A call that may need blocks; its result, negative errnos included. */
  async run(fn: () => number): Promise<number> {
    let waits = 0;
    const r = await this.core.run(() => {
      if (this.coldBlocks) this.core.x.blockEvictAll();
      const got = fn();
      if (got === NEED_BLOCK && ++waits > 200) throw new Error('a call never gets further');
      return got;
    });
    return r;
  }

  /** Reads the key's range into the cache with the roots as they are now. */
  read(lock: number, key: WideKey, barrier = this.core.x.itemBarrier()): Promise<number> {
    this.keyRec.set(wideBytes(key));
    return this.run(() => this.core.x.forestRead(
      this.fsRoot.ptr, this.logsRoot.ptr, lock, this.keyRec.ptr, barrier));
  }

  /** All of a transaction's items into the log trees, `maxItems` a call. */
  async write(lt: Rec, maxItems: number): Promise<number> {
    const { al, ws } = this.s.space;
    for (;;) {
      const r = await this.run(() => this.core.x.forestWrite(lt.ptr, al, ws, maxItems));
      if (r !== 1) return r;
    }
  }
}
