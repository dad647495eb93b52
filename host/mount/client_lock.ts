/**
 * One lock as its mount knows it, and what its modes allow.
 * Source: lock.md 1 and 3.
 */
import { LOCK_NULL, LOCK_READ, LOCK_WRITE, LOCK_WRITE_ONLY } from '../core/constants.js';
import type { LockPtr } from '../core/items.js';
import type { LockRange } from '../core/keys.js';
import type { Lock } from '../net/messages.js';
import type { LockKind } from './lock_kinds.js';
import { GROUP } from './lock_kinds.js';
import { MODE_READ, MODE_WRITE, MODE_WRITE_ONLY } from './op.js';
import type { LockMode } from './op.js';

/** A reduction that the server asks for. */
export interface Invalidation {
  lock: Lock;
  answer: (lock: Lock) => void;
}

/** One lock as this mount knows it. */
export class ClientLock {
  mode: LockMode = LOCK_NULL;
  /** mode before the reduction that is being carried out, or null */
  invalidatingMode: LockMode | null = null;
  requestPending = false;
  /** the mode that is asked for while a request is pending */
  asked: LockMode = LOCK_NULL;
  writeSeq = 0;
  /** Advances whenever what was cached under the lock may have changed; 0: never readable. */
  refreshGen = 0;
  /** number of grants to this mount when this one came */
  grantNr = 0;
  /** seq of the transaction last dirtied under the lock */
  dirtiedSeq = 0;
  readonly users: [number, number, number, number] = [0, 0, 0, 0];
  waiters: (() => void)[] = [];
  /** Since when somebody has been waiting; null when nobody is. */
  waitingSinceMs: number | null = null;
  /** waiters by the mode they want */
  readonly waiting: [number, number, number, number] = [0, 0, 0, 0];
  readonly reductions: Invalidation[] = [];
  working = false;
  /** waiters that were woken and have not tried again */
  retries = 0;
  /** reads of its items in progress, and who waits for their end */
  reads = 0;
  readWaiters: (() => void)[] = [];

  constructor(readonly id: number, readonly kind: LockKind, readonly group: number,
    readonly range: LockRange, readonly ptr: LockPtr) {}

  /** First inode number of an inode lock's group. */
  get firstIno(): number {
    return this.group * GROUP;
  }

  get hasUsers(): boolean {
    return this.users[1] + this.users[2] + this.users[3] > 0;
  }

  get isIdle(): boolean {
    return !this.requestPending && this.reductions.length === 0 && !this.hasUsers
      && this.waiters.length === 0 && this.retries === 0 && this.reads === 0;
  }
}

/** Does a granted mode serve a user of another? */
export function modeServes(granted: number, wanted: number): boolean {
  return granted === wanted || (granted === LOCK_WRITE && wanted === LOCK_READ);
}

/** Counts by mode in upstream's words. */
export function byMode(n: readonly number[]): string {
  return `rd ${n[MODE_READ] ?? 0} wr ${n[MODE_WRITE] ?? 0} wo ${n[MODE_WRITE_ONLY] ?? 0}`;
}

export function canRead(mode: number): boolean {
  return mode === LOCK_READ || mode === LOCK_WRITE;
}

export function canWrite(mode: number): boolean {
  return mode === LOCK_WRITE || mode === LOCK_WRITE_ONLY;
}
