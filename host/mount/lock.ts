/**
 * The client's lock table.
 *
 * A lock covers a range of item keys and is named by the range's first key. Its granted
 * mode says what this mount may cache and change under it:
 *
 *   null --request--> (read | write | writeOnly) --invalidate--> lower mode
 *
 * `tryLock` is synchronous and counts a user when the granted mode serves; otherwise
 * `request` asks the server (once per lock, whatever modes others wait for) and resolves
 * when it is worth trying again. A reduction asked for by the server starts once every
 * user fits the new mode. From then on the lower mode counts for new users, while
 * the core's lock record keeps the old one until kernel caches are drained, the
 * transaction is committed and items are dropped: what the draining itself waits for
 * works under it (`draining`).
 *
 * Invariants
 *   - at most one request per lock is in flight
 *   - reductions of one lock are carried out one by one in the order of arrival, are
 *     always answered, and never wait for our own requests, nor for waiters beyond the
 *     tick in which a grant woke them
 *   - `mode` never serves more than the server has granted and not asked back
 *   - what was changed under a lock is committed before its items are dropped, whatever the
 *     server says the mode was; a server that grants what was not asked for, or what cannot
 *     follow the mode that is held, is refused
 *   - a lock that is idle in mode null does not exist
 *
 * Source: lock.md 1 to 5; fuse.md 5; vectors `lock_client_traces`.
 */
import type { Clock } from '../env/clock.js';
import type { Key } from '../core/format.js';
import { LOCK_NULL, LOCK_READ, LOCK_WRITE, LOCK_WRITE_ONLY } from '../core/constants.js';
import type { LockPtr } from '../core/items.js';
import { compareKeys, keyBytes, keyToString } from '../core/keys.js';
import { C, Counters } from '../observe/counters.js';
import type { Lock } from '../net/messages.js';
import { RECOVER_LOCKS_MAX, lockModesValid } from '../net/messages.js';
import { ScoutfsError, asScoutfsError, assert, errnoError } from '../observe/errors.js';
import type { Pending } from '../observe/pending.js';
import type { Invalidation } from './client_lock.js';
import { ClientLock, byMode, canRead, canWrite, modeServes } from './client_lock.js';
import { LockKind, groupOf, idOf, idOfKey, rangeOf } from './lock_kinds.js';
import type { LockMode } from './op.js';

/** Locks remembered as lately taken away. */
const TAKEN_MAX = 4096;

/** The core's lock records. Keys are 32 stored bytes. */
export interface CoreLocks {
  alloc(startKey: Uint8Array, endKey: Uint8Array): LockPtr;
  setMode(ptr: LockPtr, mode: number, writeSeq: number): void;
  free(ptr: LockPtr): void;
  /** Drops all cached items of the lock's range. */
  invalidate(ptr: LockPtr): void;
}

export interface LockDeps {
  clock: Clock;
  core: CoreLocks;
  counters?: Counters;
  /** Sends a LOCK request; its response comes back through `grant`. @throws when closed */
  send(lock: Lock): void;
  /** seq of the open transaction */
  transSeq(): number;
  /** Commits the open transaction. */
  commit(): Promise<void>;
  /**
   * Makes the kernel forget what it caches under the lock before it goes from `from` to
   * `to` (fuse.md 5.3 steps 2 to 4). Never waits for cluster locks.
   */
  drain(lock: ClientLock, from: LockMode, to: LockMode): Promise<void>;
  /** The quota lock can no longer be read: drop the rules. */
  dropQuotaRules(): void;
  /** the option `lock_idle_count` */
  idleCount(): number;
  /** Draining or committing failed; the lock is given up all the same. */
  failed(error: ScoutfsError): void;
}

/**
 * Whether a grant is what was asked for and a server can have got there: everything but
 * reading on, or becoming the writer, it has to ask back first.
 */
function mayFollow(lock: ClientLock, granted: number): boolean {
  const { mode } = lock;
  const on = (mode === LOCK_READ && (granted === LOCK_READ || granted === LOCK_WRITE)) ||
    (mode === LOCK_WRITE_ONLY && granted === LOCK_WRITE_ONLY);
  return granted === lock.asked && lock.invalidatingMode === null && (mode === LOCK_NULL || on);
}

export class LockClient {
  private readonly locks = new Map<number, ClientLock>();
  /** idle locks, the longest idle first */
  private readonly idle = new Set<ClientLock>();
  private readonly taken = new Map<number, number>();
  private readonly byPtr = new Map<LockPtr, ClientLock>();
  private grants = 0;
  private recoverOrder: ClientLock[] | null = null;
  private nextRefreshGen = 1;
  /** How it ends; null while new uses are granted. */
  private ending: 'shutdown' | 'forced' | null = null;

  private readonly count: Counters;

  constructor(private readonly deps: LockDeps) {
    this.count = deps.counters ?? new Counters();
  }

  get lockCount(): number {
    return this.locks.size;
  }

  /** Grants so far: what is learned after the nth grant is new enough for that lock. */
  get grantNr(): number {
    return this.grants;
  }

  /** Write seq of the grant of the lock with this core record; 0 when not held for writing. */
  writeSeqOf(ptr: LockPtr): number {
    return this.byPtr.get(ptr)?.writeSeq ?? 0;
  }

  /** `grantNr` when the lock with this core record was granted. */
  grantNrOf(ptr: LockPtr): number {
    return this.byPtr.get(ptr)?.grantNr ?? this.grants;
  }

  /**
   * The lock with a user of `mode` counted, if its granted mode serves; null otherwise
   * (then `request`). Every success needs one `unlock`.
   */
  tryLock(kind: LockKind, arg: number, mode: LockMode): ClientLock | null {
    const lock = this.find(kind, arg);
    const retry = lock !== undefined && lock.retries > 0;
    if (!retry) this.releasePressure();
    if (lock === undefined || this.ending !== null) return null;
    const served = modeServes(lock.mode, mode);
    if (served) {
      this.count.inc(C.lock_lock);
      lock.users[mode] += 1;
      this.idle.delete(lock);
    }
    if (retry) {
      lock.retries -= 1;
      if (lock.reductions.length > 0) this.work(lock);
    }
    if (served) return lock;
    this.count.inc(C.lock_nonblock_eagain);
    this.settle(lock);
    return null;
  }

  /**
   * Asks for a mode. Resolves when trying again may succeed.
   * @throws (rejects) ESHUTDOWN during unmount, ENOLINK when forced
   */
  request(kind: LockKind, arg: number, mode: LockMode): Promise<void> {
    if (this.ending !== null) {
      return Promise.reject(this.ending === 'forced'
        ? errnoError('ENOLINK', 'the mount was forced down')
        : errnoError('ESHUTDOWN', 'the mount is going away'));
    }
    const lock = this.find(kind, arg) ?? this.create(kind, groupOf(kind, arg));
    if (modeServes(lock.mode, mode)) return Promise.resolve();
    this.count.inc(C.lock_wait);
    if (!lock.requestPending) {
      try {
        this.deps.send({ key: lock.range.start, writeSeq: 0, oldMode: lock.mode, newMode: mode });
      } catch (e) {
        this.count.inc(C.lock_lock_error);
        this.settle(lock);
        return Promise.reject(asScoutfsError(e));
      }
      this.count.inc(C.lock_grant_request);
      lock.requestPending = true;
      lock.asked = mode;
    }
    this.idle.delete(lock);
    lock.waiting[mode] += 1;
    lock.waitingSinceMs ??= this.deps.clock.monotonicMs();
    return new Promise((resolve) => { lock.waiters.push(resolve); });
  }

  /** tryLock and request until it is granted. */
  async lock(kind: LockKind, arg: number, mode: LockMode): Promise<ClientLock> {
    for (;;) {
      const lock = this.tryLock(kind, arg, mode);
      if (lock !== null) return lock;
      await this.request(kind, arg, mode);
    }
  }

  /** Ends one use. A writing use marks the open transaction as dirtied under the lock. */
  unlock(lock: ClientLock, mode: LockMode): void {
    assert(lock.users[mode] > 0, 'a lock is unlocked as often as it was locked');
    this.count.inc(C.lock_unlock);
    if (canWrite(mode)) lock.dirtiedSeq = this.deps.transSeq();
    lock.users[mode] -= 1;
    if (lock.reductions.length > 0) this.work(lock);
    else if (!lock.hasUsers) this.settle(lock);
  }

  /**
   * Items of the lock with this core record are being read into the cache. That can outlast
   * the operation that asked (its caller was killed): until the function that this returns is
   * called the lock keeps its record, and is not given up.
   */
  beginRead(ptr: LockPtr): () => void {
    const lock = this.byPtr.get(ptr);
    assert(lock !== undefined, 'items are read under a lock');
    lock.reads += 1;
    return () => {
      lock.reads -= 1;
      if (lock.reads > 0) return;
      const waiters = lock.readWaiters;
      lock.readWaiters = [];
      for (const w of waiters) w();
      this.settle(lock);
    };
  }

  /** Whether a core record is still that of a lock: not after the end of the connection. */
  isLive(ptr: LockPtr): boolean {
    return this.byPtr.has(ptr);
  }

  /**
   * The lock while it is being taken away, for requests that the draining waits for: they
   * still work under its old mode (`invalidatingMode`) and are not counted. A writing one
   * has to call `markDirty`.
   */
  draining(kind: LockKind, arg: number): ClientLock | null {
    const lock = this.find(kind, arg);
    return lock !== undefined && lock.invalidatingMode !== null ? lock : null;
  }

  /** Something was changed under a draining lock. */
  markDirty(lock: ClientLock): void {
    lock.dirtiedSeq = this.deps.transSeq();
  }

  /** The lock as it is, without a use; for deciding what a reply may let the kernel cache. */
  peek(kind: LockKind, arg: number): ClientLock | null {
    return this.find(kind, arg) ?? null;
  }

  /** Was this lock taken away within the last `withinMs`? */
  takenLately(kind: LockKind, arg: number, withinMs: number): boolean {
    const at = this.taken.get(idOf(kind, groupOf(kind, arg)));
    return at !== undefined && this.deps.clock.monotonicMs() - at < withinMs;
  }

  /** The server's response to our request. @throws EINVAL for one we did not ask for */
  grant(granted: Lock): void {
    const lock = this.byKey(granted.key);
    if (lock?.requestPending !== true || !lockModesValid(granted) ||
        !mayFollow(lock, granted.newMode)) {
      throw new ScoutfsError('LOCK_PROTOCOL', 'EINVAL', { message: 'unexpected lock grant' });
    }
    this.count.inc(C.lock_grant_response);
    lock.mode = granted.newMode as LockMode;
    lock.writeSeq = granted.writeSeq;
    lock.requestPending = false;
    lock.grantNr = ++this.grants;
    if (!canRead(granted.oldMode) && canRead(granted.newMode)) {
      lock.refreshGen = this.nextRefreshGen++;
    }
    this.deps.core.setMode(lock.ptr, lock.mode, lock.writeSeq);
    this.wake(lock);
    this.settle(lock);
  }

  /** The server wants a mode back. `answer` is called once, with the same lock. */
  invalidate(asked: Lock, answer: (lock: Lock) => void): void {
    const { oldMode, newMode } = asked;
    const lowers = newMode === LOCK_NULL || (oldMode === LOCK_WRITE && newMode === LOCK_READ);
    if (!lockModesValid(asked) || !lowers) {
      throw new ScoutfsError('LOCK_PROTOCOL', 'EINVAL', {
        message: `a lock to be reduced from mode ${oldMode} to ${newMode}`,
      });
    }
    this.count.inc(C.lock_invalidate_request);
    const lock = this.byKey(asked.key);
    if (lock === undefined) {
      // It went away around a change of server.
      answer(asked);
      return;
    }
    this.idle.delete(lock);
    lock.reductions.push({ lock: asked, answer });
    this.work(lock);
  }

  /** Up to 22 locks from `key` on, ascending, with what they are granted. */
  recover(key: Key): Lock[] {
    this.count.inc(C.lock_recover_request);
    if (this.recoverOrder === null || isZero(key)) {
      this.recoverOrder = [...this.locks.values()]
        .sort((a, b) => compareKeys(a.range.start, b.range.start));
    }
    const out: Lock[] = [];
    for (let i = lowerBound(this.recoverOrder, key); out.length < RECOVER_LOCKS_MAX; i++) {
      const lock = this.recoverOrder[i];
      if (lock === undefined) break;
      if (this.locks.get(lock.id) !== lock) continue;
      const mode = lock.invalidatingMode ?? lock.mode;
      out.push({
        key: lock.range.start, writeSeq: lock.writeSeq, oldMode: mode, newMode: mode,
      });
    }
    if (out.length === 0) this.recoverOrder = null;
    return out;
  }

  /**
   * No new uses from now on; reductions are still answered, without touching caches,
   * because others may need the locks to unmount.
   */
  shutdown(): void {
    this.ending ??= 'shutdown';
    for (const lock of [...this.locks.values()]) this.wake(lock);
  }

  /** The forced end: whoever waits for a lock fails, because no server will grant it. */
  force(): void {
    this.ending = 'forced';
    this.shutdown();
  }

  /** The connection is gone for good: forgets all locks. */
  destroy(): void {
    this.shutdown();
    for (const lock of this.locks.values()) this.deps.core.free(lock.ptr);
    this.locks.clear();
    this.byPtr.clear();
    this.idle.clear();
  }

  /** One line per lock, as upstream's `client_locks` (cli.md 3.3). */
  describe(): string[] {
    return [...this.locks.values()].map((l) =>
      `start ${keyToString(l.range.start)} end ${keyToString(l.range.end)} refresh_gen ${
        l.refreshGen} mode ${l.mode} waiters: ${byMode(l.waiting)} users: ${byMode(l.users)}`);
  }

  /** The locks that somebody waits for. */
  pending(): Pending[] {
    return [...this.locks.values()].flatMap((l) => l.waitingSinceMs === null ? [] : [{
      kind: 'lock' as const, sinceMs: l.waitingSinceMs,
      text: `start ${keyToString(l.range.start)} end ${keyToString(l.range.end)} mode ${
        l.mode} waiters: ${byMode(l.waiting)}`,
    }]);
  }

  /** Asks the server to take every idle lock back. */
  releaseIdle(): void {
    for (const lock of [...this.idle]) if (!this.release(lock)) return;
  }

  private find(kind: LockKind, arg: number): ClientLock | undefined {
    return this.locks.get(idOf(kind, groupOf(kind, arg)));
  }

  private byKey(key: Key): ClientLock | undefined {
    const id = idOfKey(key);
    const lock = id === null ? undefined : this.locks.get(id);
    return lock !== undefined && compareKeys(lock.range.start, key) === 0 ? lock : undefined;
  }

  private create(kind: LockKind, group: number): ClientLock {
    const range = rangeOf(kind, group);
    const ptr = this.deps.core.alloc(keyBytes(range.start), keyBytes(range.end));
    const lock = new ClientLock(idOf(kind, group), kind, group, range, ptr);
    this.count.inc(C.lock_alloc);
    this.locks.set(lock.id, lock);
    this.byPtr.set(ptr, lock);
    return lock;
  }

  /** Puts a lock that nobody needs on the idle list, or away if it is not granted. */
  private settle(lock: ClientLock): void {
    if (!lock.isIdle) return;
    if (lock.mode !== LOCK_NULL) {
      this.idle.add(lock);
      return;
    }
    this.idle.delete(lock);
    if (this.locks.get(lock.id) !== lock) return;
    this.count.inc(C.lock_free);
    this.locks.delete(lock.id);
    this.byPtr.delete(lock.ptr);
    this.deps.core.free(lock.ptr);
  }

  private wake(lock: ClientLock): void {
    const waiters = lock.waiters;
    lock.waiters = [];
    lock.waiting.fill(0);
    lock.retries += this.ending === null ? waiters.length : 0;
    for (const w of waiters) w();
    // Whoever has not tried again when this tick's promises have run has given up.
    if (waiters.length > 0) this.deps.clock.after(0, () => { this.endRetries(lock); });
  }

  private endRetries(lock: ClientLock): void {
    lock.retries = 0;
    if (lock.waiters.length === 0) lock.waitingSinceMs = null;
    if (lock.reductions.length > 0) this.work(lock);
    this.settle(lock);
  }

  /** Asks to release the longest idle lock when there are too many; one per acquire. */
  private releasePressure(): void {
    if (this.locks.size <= this.deps.idleCount()) return;
    const [lock] = this.idle;
    if (lock !== undefined) this.release(lock);
  }

  /** Asks to release an idle lock. @returns whether that could be sent */
  private release(lock: ClientLock): boolean {
    this.count.inc(C.lock_shrink_attempted);
    try {
      this.deps.send({
        key: lock.range.start, writeSeq: 0, oldMode: lock.mode, newMode: LOCK_NULL,
      });
    } catch {
      // Not sent: it stays the longest idle.
      this.count.inc(C.lock_shrink_request_failed);
      return false;
    }
    lock.requestPending = true;
    lock.asked = LOCK_NULL;
    this.idle.delete(lock);
    return true;
  }

  /** Starts the next reduction once its users fit. */
  private work(lock: ClientLock): void {
    const next = lock.reductions[0];
    // A grant and the reduction that follows it often come in one segment: those whom the
    // grant woke have their turn first, or two mounts could pass a lock on for ever unused.
    if (lock.working || next === undefined || lock.retries > 0) return;
    const [, readers, writers, writeOnly] = lock.users;
    const fits = writers + writeOnly === 0
      && (readers === 0 || next.lock.newMode === LOCK_READ);
    if (!fits) return;
    this.count.inc(C.lock_invalidate_work);
    lock.working = true;
    lock.invalidatingMode = lock.mode;
    lock.mode = next.lock.newMode as LockMode;
    void this.reduce(lock, next);
  }

  private async reduce(lock: ClientLock, r: Invalidation): Promise<void> {
    // What it was here counts; the request of a new server may say otherwise.
    const held = lock.invalidatingMode ?? LOCK_NULL;
    const from = held === LOCK_NULL ? r.lock.oldMode as LockMode : held;
    const to = r.lock.newMode as LockMode;
    const { ending } = this;
    if (ending === null) await this.writeBack(lock, from, to);
    // In a loop: nothing may begin a read between its end and the drop.
    while (!canRead(to) && lock.reads > 0) await this.readsEnded(lock);
    if (ending === null) this.drop(lock, from, to);
    this.deps.core.setMode(lock.ptr, to, lock.writeSeq);
    this.noteTaken(lock.id);
    lock.invalidatingMode = null;
    this.count.inc(C.lock_invalidate_response);
    r.answer(r.lock);
    lock.reductions.shift();
    lock.working = false;
    this.work(lock);
    this.settle(lock);
  }

  /** What the kernel and the transaction hold of it is made durable, for others to read. */
  private async writeBack(lock: ClientLock, from: LockMode, to: LockMode): Promise<void> {
    try {
      if (lock.kind === LockKind.inode) await this.deps.drain(lock, from, to);
      if (lock.dirtiedSeq !== 0 && lock.dirtiedSeq === this.deps.transSeq()) {
        this.count.inc(C.lock_invalidate_sync);
        await this.deps.commit();
      }
    } catch (e) {
      // After a forced unmount nothing can be kept any more: the answer is what counts.
      this.deps.failed(asScoutfsError(e));
    }
  }

  /** What the new mode does not allow to keep. */
  private drop(lock: ClientLock, from: LockMode, to: LockMode): void {
    if (lock.kind === LockKind.quota && !canRead(to)) this.deps.dropQuotaRules();
    if (!canRead(from) || to !== LOCK_READ) this.deps.core.invalidate(lock.ptr);
  }

  /** Reads wait for the server, the device and commits, never for locks. */
  private readsEnded(lock: ClientLock): Promise<void> {
    return new Promise((resolve) => { lock.readWaiters.push(resolve); });
  }

  private noteTaken(id: number): void {
    this.taken.delete(id);
    this.taken.set(id, this.deps.clock.monotonicMs());
    const [oldest] = this.taken.keys();
    if (this.taken.size > TAKEN_MAX && oldest !== undefined) this.taken.delete(oldest);
  }
}

function isZero(key: Key): boolean {
  return key.zone === 0 && key.first === 0n && key.second === 0n && key.fourth === 0;
}

/** Index of the first lock whose start key is at or after `key`. */
function lowerBound(locks: readonly ClientLock[], key: Key): number {
  let low = 0;
  let high = locks.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    const at = locks[mid];
    if (at !== undefined && compareKeys(at.range.start, key) < 0) low = mid + 1;
    else high = mid;
  }
  return low;
}
