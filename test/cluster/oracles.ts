/**
 * What must hold in a cluster at every moment, whatever fails.
 *
 *   - two mounts never hold conflicting locks (looked at after every grant)
 *   - only one server writes: after a write of a server none of an earlier term may begin
 *   - nothing is written by a mount that was fenced, or that was forced down
 *
 * Source: lock.md 1.1, quorum.md 7, recovery.md 3.
 */
import { LOCK_NULL } from '../../host/core/constants.js';
import { QUORUM_BLKNO, QUORUM_BLOCKS } from '../../host/core/format.js';
import type { ClientLock, LockClient } from '../../host/mount/lock.js';
import { compatible } from '../../host/server/lock_server.js';
import { Server } from '../../host/server/server.js';
import type { SimMount } from '../lib/simmount.js';
import type { SimProcess } from '../lib/simworld.js';
import type { Journal } from './journal.js';
import { SUPER_OFFSET } from './journal.js';
import type { Model } from './model.js';
import type { ClusterWorld } from './world.js';

const SMALL_BYTES = 4096;

/** The lock table of a mount. */
export function locksOf(m: SimMount): Map<number, ClientLock> {
  return (m.client.locks as unknown as { locks: Map<number, ClientLock> }).locks;
}

/** Watches the locks of all living mounts. */
export function watchLocks(m: SimMount, living: () => Iterable<SimMount>, model: Model): void {
  const locks: LockClient = m.client.locks;
  const real = locks.grant.bind(locks);
  locks.grant = (granted) => {
    real(granted);
    if (!m.process.alive()) return;
    for (const lock of locksOf(m).values()) {
      if (lock.range.start.zone !== granted.key.zone || lock.range.start.type !== granted.key.type
        || lock.range.start.first !== granted.key.first
        || lock.range.start.second !== granted.key.second) continue;
      for (const other of living()) if (other !== m) compare(m, lock, other, model);
    }
  };
}

function compare(m: SimMount, lock: ClientLock, other: SimMount, model: Model): void {
  const theirs = locksOf(other).get(lock.id);
  if (theirs === undefined || !other.process.alive()) return;
  const mode = theirs.invalidatingMode ?? theirs.mode;
  if (mode !== LOCK_NULL && !compatible(mode, lock.mode, false)) {
    model.violated(`${m.process.name} was granted lock ${lock.kind}/${lock.group} in mode ${
      lock.mode} while ${other.process.name} holds it in mode ${mode}`);
  }
}

/** Watches who writes the metadata device. */
export class WriterOracle {
  /** Terms of the servers that were started, by the name of their thread. */
  private readonly terms = new Map<string, number>();
  private readonly fenced = new Set<bigint>();
  private last = { term: 0, name: '' };

  constructor(private readonly world: ClusterWorld, private readonly model: Model,
    private readonly journal: Journal) {
    world.onWrite = (p, device, io, done): void => { this.wrote(p, device, io, done); };
    world.onFenced = (rid): void => { this.fenced.add(rid); };
    this.watchServers();
  }

  private watchServers(): void {
    serverStarted = (term, device) => {
      const { p } = device as unknown as { p?: SimProcess };
      if (p !== undefined) this.terms.set(p.name, term);
    };
  }

  private wrote(p: SimProcess, device: string, io: { offset: number; bytes: Uint8Array },
    done: boolean): void {
    if (device !== 'meta') return;
    const top = p.parent ?? p;
    if (!done && this.fenced.has(top.rid)) {
      this.model.violated(`${p.name} writes at ${io.offset} although it is fenced`);
    }
    const first = QUORUM_BLKNO * SMALL_BYTES;
    const ofQuorum = io.offset >= first && io.offset < first + QUORUM_BLOCKS * SMALL_BYTES;
    if (!p.name.endsWith('server') || ofQuorum || done) return;
    const term = this.terms.get(p.name) ?? 0;
    if (term < this.last.term && p.name !== this.last.name) {
      this.model.violated(`the server of term ${term} (${p.name}) writes at ${io.offset
      } after that of term ${this.last.term} (${this.last.name})`);
    }
    if (term > this.last.term) {
      this.world.note(`server of term ${term} writes: ${p.name}`);
      this.last = { term, name: p.name };
    }
    if (io.offset === SUPER_OFFSET) this.journal.superBegun(io.bytes);
  }
}

/** The world that is simulated now hears of servers that start. */
let serverStarted: (term: number, device: object) => void = () => undefined;

const realStart = Object.getOwnPropertyDescriptor(Server.prototype, 'start')?.value as
  (this: Server) => Promise<void>;
Server.prototype.start = function start(this: Server): Promise<void> {
  const { term, metaDevice } = (this as unknown as
    { deps: { term: number; metaDevice: object } }).deps;
  serverStarted(term, metaDevice);
  return realStart.call(this);
};
