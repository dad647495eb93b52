/**
 * The lock client's view of the core's lock records.
 */
import type { Core } from '../core/core.js';
import type { LockPtr } from '../core/items.js';
import { ITEM_WINDOWS } from '../core/item_exports.js';
import { ScoutfsError } from '../observe/errors.js';
import type { CoreLocks } from './lock.js';

/** Keeps each record's range, which invalidation needs again. */
export class MountLocks implements CoreLocks {
  private readonly ranges = new Map<LockPtr, { start: Uint8Array; end: Uint8Array }>();

  private forced = false;

  constructor(private readonly core: Core) {}

  alloc(startKey: Uint8Array, endKey: Uint8Array): LockPtr {
    this.setKeys(startKey, endKey);
    const ptr = this.core.x.lockAlloc();
    if (ptr === 0) throw new ScoutfsError('LOCK_RECORD', 'ENOMEM');
    this.ranges.set(ptr, { start: startKey.slice(), end: endKey.slice() });
    return ptr;
  }

  setMode(ptr: LockPtr, mode: number, writeSeq: number): void {
    this.core.x.lockSetMode(ptr, mode, writeSeq);
  }

  free(ptr: LockPtr): void {
    // a record whose items are still cached may not go
    this.invalidate(ptr);
    this.ranges.delete(ptr);
    if (!this.forced) this.core.x.lockFree(ptr);
  }

  /** A forced end: what is dirty stays where it is and goes with the process. */
  force(): void {
    this.forced = true;
  }

  invalidate(ptr: LockPtr): void {
    if (this.forced) return;
    const r = this.ranges.get(ptr);
    if (r === undefined) return;
    this.setKeys(r.start, r.end);
    this.core.x.itemInvalidate();
  }

  private setKeys(start: Uint8Array, end: Uint8Array): void {
    this.core.bytes.set(start, ITEM_WINDOWS.keyA);
    this.core.bytes.set(end, ITEM_WINDOWS.keyB);
  }
}
