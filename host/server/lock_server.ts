/**
 * The server's lock service.
 *
 * A lock is named by its start key. For every lock somebody holds or wants there are
 * three lists of clients:
 *
 *   requested (FIFO) --compatible--> granted --conflict--> invalidated --answer--> granted
 *                                                                     or forgotten (NULL)
 *
 * Invariants
 *   - a client is at most once in granted and invalidated together
 *   - while somebody is in invalidated nothing of that lock is granted
 *   - a grant is sent before any invalidation of it that follows
 *   - nothing is granted while any client is still reporting the locks it holds
 *   - a client has one request for a lock at a time, and no more locks than LOCKS_MAX; what
 *     it reports comes in ascending order, with seqs that a server can have given
 *
 * Nothing of this is stored: after a change of server clients report what they hold.
 * Source: lock.md 1.1, 6; vectors `lock_compat`, `lock_server_traces`.
 */
import type { Key } from '../core/format.js';
import { LOCK_NULL, LOCK_READ, LOCK_WRITE, LOCK_WRITE_ONLY } from '../core/constants.js';
import { compareKeys, incKey, keyBytes, keyToString, keyZeros } from '../core/keys.js';
import type { Lock } from '../net/messages.js';
import { lockModesValid } from '../net/messages.js';
import { ScoutfsError } from '../observe/errors.js';
import { hex16 } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';

/** May `requested` be granted while `granted` is held, by the same client or another? */
export function compatible(granted: number, requested: number, sameClient: boolean): boolean {
  if (sameClient) {
    return (granted === LOCK_READ && (requested === LOCK_READ || requested === LOCK_WRITE))
      || (granted === LOCK_WRITE_ONLY && requested === LOCK_WRITE_ONLY);
  }
  return granted === LOCK_NULL || requested === LOCK_NULL
    || (granted === requested && granted !== LOCK_WRITE);
}

/** The mode a conflicting holder is asked to go down to. */
export function reduceTo(granted: number, requested: number): number {
  return granted === LOCK_WRITE && requested === LOCK_READ ? LOCK_READ : LOCK_NULL;
}

export interface LockServerDeps<Request> {
  /** Answers a client's request. */
  grant(rid: bigint, request: Request, lock: Lock): void;
  /** Asks a client to reduce a grant; a client that is not connected is ignored. */
  invalidate(rid: bigint, lock: Lock): void;
  /** Asks a client for its locks from `key` on. */
  askRecover(rid: bigint, key: Key): void;
  /** Next value of the server's counter. */
  nextSeq(): number;
  /** Raises the counter to at least `seq`. */
  raiseSeq(seq: number): void;
  /** Whether a server can have given `seq`. */
  seqIsPossible(seq: number): boolean;
  /** Is this client, or (without argument) any client, still reporting its locks? */
  recovering(rid?: bigint): boolean;
  /** This client has reported all its locks. */
  recovered(rid: bigint): void;
  /** on the monotonic clock: for `pending` */
  nowMs?(): number;
}

/** Locks that one client holds or wants: more than twice what a mount may keep idle. */
const LOCKS_MAX = 262_144;

interface Holder {
  rid: bigint;
  mode: number;
}

interface Wanted<Request> extends Holder {
  request: Request;
  sinceMs: number;
}

interface ServerLock<Request> {
  key: Key;
  name: string;
  granted: Holder[];
  requested: Wanted<Request>[];
  invalidated: Holder[];
  /** messages since somebody wanted it */
  stats: { requests: number; invalidations: number; responses: number; grants: number };
}

const MODE_NAMES: Readonly<Record<number, string>> = {
  [LOCK_NULL]: 'null', [LOCK_READ]: 'read', [LOCK_WRITE]: 'write', [LOCK_WRITE_ONLY]: 'write_only',
};

function nameOf(key: Key): string {
  return Buffer.from(keyBytes(key)).toString('latin1');
}

function violation(message: string, errno: 'EINVAL' | 'EEXIST' = 'EINVAL'): ScoutfsError {
  return new ScoutfsError('LOCK_PROTOCOL', errno, { message });
}

export class LockServer<Request> {
  private readonly locks = new Map<string, ServerLock<Request>>();
  /** entries of each client in all lists */
  private readonly entries = new Map<bigint, number>();
  /** from where a client was asked to report its locks */
  private readonly reporting = new Map<bigint, Key>();

  constructor(private readonly deps: LockServerDeps<Request>) {}

  get lockCount(): number {
    return this.locks.size;
  }

  /** A client wants a lock in another mode. @throws EINVAL for what no client may send */
  request(rid: bigint, request: Request, lock: Lock): void {
    if (!lockModesValid(lock)) throw violation('invalid lock mode in a request');
    const wanted = this.locks.get(nameOf(lock.key))?.requested ?? [];
    if (wanted.some((w) => w.rid === rid)) throw violation('a lock is wanted twice at a time');
    this.count(rid, 1);
    const l = this.get(lock.key);
    l.stats.requests += 1;
    const sinceMs = this.deps.nowMs?.() ?? 0;
    l.requested.push({ rid, mode: lock.newMode, request, sinceMs });
    this.process(l);
  }

  /** A client has reduced its grant. @throws EINVAL when it was not asked to */
  invalidated(rid: bigint, lock: Lock): void {
    if (!lockModesValid(lock)) throw violation('invalid lock mode in an answer');
    const l = this.locks.get(nameOf(lock.key));
    const at = l?.invalidated.findIndex((h) => h.rid === rid) ?? -1;
    const holder = l?.invalidated[at];
    if (l === undefined || holder === undefined) {
      throw violation('answer to an invalidation that was not asked for');
    }
    l.stats.responses += 1;
    l.invalidated.splice(at, 1);
    if (lock.newMode !== LOCK_NULL) {
      holder.mode = lock.newMode;
      l.granted.push(holder);
    } else {
      this.count(rid, -1);
    }
    this.process(l);
  }

  /** First contact of a client: if it may hold locks from before, ask which. */
  greeted(rid: bigint): void {
    if (this.deps.recovering(rid)) this.askReport(rid, keyZeros());
  }

  /** Locks a client holds, ascending; none ends its report. @throws EINVAL, EEXIST */
  recoverResponse(rid: bigint, locks: readonly Lock[]): void {
    if (!this.deps.recovering(rid)) throw violation('lock report of a client not in recovery');
    const last = locks.at(-1);
    if (last === undefined) {
      this.reporting.delete(rid);
      this.deps.recovered(rid);
      return;
    }
    this.checkReport(rid, locks);
    for (const lock of locks) {
      this.count(rid, 1);
      this.get(lock.key).granted.push({ rid, mode: lock.newMode });
      this.deps.raiseSeq(lock.writeSeq);
    }
    this.askReport(rid, incKey(last.key));
  }

  private askReport(rid: bigint, from: Key): void {
    this.reporting.set(rid, from);
    this.deps.askRecover(rid, from);
  }

  /** Nothing of a report is taken when a part of it is wrong. */
  private checkReport(rid: bigint, locks: readonly Lock[]): void {
    let from = this.reporting.get(rid) ?? keyZeros();
    for (const lock of locks) {
      if (!lockModesValid(lock)) throw violation('invalid lock mode in a report');
      const l = this.locks.get(nameOf(lock.key));
      if (l?.granted.some((h) => h.rid === rid) === true) {
        throw violation('lock reported twice', 'EEXIST');
      }
      if (compareKeys(lock.key, from) < 0) throw violation('locks are not reported in order');
      if (!this.deps.seqIsPossible(lock.writeSeq)) {
        throw violation('a lock is reported with a seq that was never given');
      }
      from = incKey(lock.key);
    }
  }

  /** @throws EINVAL when a client comes to hold and want too much */
  private count(rid: bigint, change: number): void {
    const n = (this.entries.get(rid) ?? 0) + change;
    if (n > LOCKS_MAX) throw violation('more locks than any mount has');
    this.entries.set(rid, n);
  }

  /** All clients have reported or were reclaimed: serves what waited, in key order. */
  recoveryFinished(): void {
    const waiting = [...this.locks.values()].filter((l) => l.requested.length > 0)
      .sort((a, b) => compareKeys(a.key, b.key));
    for (const l of waiting) this.process(l);
  }

  /** Forgets a client that left or was fenced; may be repeated. */
  reclaim(rid: bigint): void {
    this.entries.delete(rid);
    this.reporting.delete(rid);
    for (const l of [...this.locks.values()]) {
      const before = l.granted.length + l.requested.length + l.invalidated.length;
      l.granted = l.granted.filter((h) => h.rid !== rid);
      l.requested = l.requested.filter((h) => h.rid !== rid);
      l.invalidated = l.invalidated.filter((h) => h.rid !== rid);
      if (l.granted.length + l.requested.length + l.invalidated.length !== before) {
        this.process(l);
      }
    }
  }

  /** One line per client of each lock, as upstream's `server_locks`. */
  describe(netIdOf: (request: Request) => number): string[] {
    const line = (l: ServerLock<Request>, state: string, h: Holder, netId: number): string =>
      `${keyToString(l.key)} ${MODE_NAMES[h.mode] ?? h.mode} ${state} rid ${hex16(h.rid)} net_id ${
        netId}`;
    return [...this.locks.values()].flatMap((l) => [
      ...l.granted.map((h) => line(l, 'granted', h, 0)),
      ...l.requested.map((h) => line(l, 'requested', h, netIdOf(h.request))),
      ...l.invalidated.map((h) => line(l, 'invalidated', h, 0)),
    ]);
  }

  /** The requests that wait, and for whom: clients that were asked to give the lock up. */
  pending(): Pending[] {
    return [...this.locks.values()].flatMap((l) => {
      const holders = l.invalidated.map((h) => hex16(h.rid)).join(',');
      return l.requested.map((w) => ({
        kind: 'lock_request' as const, sinceMs: w.sinceMs,
        text: `${keyToString(l.key)} ${MODE_NAMES[w.mode] ?? w.mode} rid ${hex16(w.rid)} ` +
          `waits_for ${holders === '' ? 'recovery' : holders}`,
      }));
    });
  }

  /** Messages of each lock that exists now, as upstream's `server_lock_stats`. */
  describeStats(): string[] {
    return [...this.locks.values()].map(({ key, stats: s }) => `${keyToString(key)} req ${
      s.requests} inv ${s.invalidations} rsp ${s.responses} gr ${s.grants}`);
  }

  private get(key: Key): ServerLock<Request> {
    const name = nameOf(key);
    let l = this.locks.get(name);
    if (l === undefined) {
      l = {
        key, name, granted: [], requested: [], invalidated: [],
        stats: { requests: 0, invalidations: 0, responses: 0, grants: 0 },
      };
      this.locks.set(name, l);
    }
    return l;
  }

  private process(l: ServerLock<Request>): void {
    if (!this.deps.recovering()) {
      for (;;) {
        const want = l.requested[0];
        if (l.invalidated.length > 0 || want === undefined) break;
        this.invalidateConflicts(l, want);
        if (l.invalidated.length > 0) break;
        l.requested.shift();
        this.grant(l, want);
      }
    }
    if (l.granted.length + l.requested.length + l.invalidated.length === 0) {
      this.locks.delete(l.name);
    }
  }

  private invalidateConflicts(l: ServerLock<Request>, want: Wanted<Request>): void {
    const keep: Holder[] = [];
    const asked: Holder[] = [];
    for (const h of l.granted) {
      (compatible(h.mode, want.mode, h.rid === want.rid) ? keep : asked).push(h);
    }
    if (asked.length === 0) return;
    l.granted = keep;
    l.invalidated = asked;
    for (const h of asked) {
      l.stats.invalidations += 1;
      this.deps.invalidate(h.rid, {
        key: l.key, writeSeq: 0, oldMode: h.mode, newMode: reduceTo(h.mode, want.mode),
      });
    }
  }

  private grant(l: ServerLock<Request>, want: Wanted<Request>): void {
    const at = l.granted.findIndex((h) => h.rid === want.rid);
    const old = at < 0 ? undefined : l.granted.splice(at, 1)[0];
    if (old !== undefined) this.count(want.rid, -1);
    if (want.mode === LOCK_NULL) this.count(want.rid, -1);
    const writes = want.mode === LOCK_WRITE || want.mode === LOCK_WRITE_ONLY;
    if (want.mode !== LOCK_NULL) l.granted.push({ rid: want.rid, mode: want.mode });
    l.stats.grants += 1;
    this.deps.grant(want.rid, want.request, {
      key: l.key, writeSeq: writes ? this.deps.nextSeq() : 0, oldMode: old?.mode ?? LOCK_NULL,
      newMode: want.mode,
    });
  }
}
