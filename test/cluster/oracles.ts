/**
 * What must hold in a cluster at every moment, whatever fails.
 *
 *   - two mounts never hold conflicting locks (looked at after every grant), and whoever
 *     gets one for writing gets a greater write seq than those who had it before
 *   - a term has one leader, and only one server writes: after a write of a server none of
 *     an earlier term may begin
 *   - a message is handled once, and answers are for what this server has asked
 *   - nothing is written by a mount that was fenced, or that was forced down
 *
 * Source: lock.md 1.1, 3; net.md 5; quorum.md 3, 7; recovery.md 3.
 */
import { LOCK_NULL, LOCK_WRITE } from '../../host/core/constants.js';
import { QUORUM_BLKNO, QUORUM_BLOCKS } from '../../host/core/format.js';
import type { ClientLock, LockClient } from '../../host/mount/lock.js';
import { commandName, readHeader, viewOf } from '../../host/net/messages.js';
import { Peer } from '../../host/net/peer.js';
import { compatible } from '../../host/server/lock_server.js';
import { Server } from '../../host/server/server.js';
import type { SimMount } from '../lib/simmount.js';
import type { SimProcess } from '../lib/simworld.js';
import type { Journal } from './journal.js';
import { SUPER_OFFSET } from './journal.js';
import type { Model } from './model.js';
import type { ClusterWorld } from './world.js';

const SMALL_BYTES = 4096;

/** What the oracles look at inside of a mount's lock client. */
interface LockTable {
  locks: Map<number, ClientLock>;
  /** on its way out: everything is committed, nothing uses a lock any more */
  isShutdown: boolean;
}

function tableOf(m: SimMount): LockTable {
  return m.client.locks as unknown as LockTable;
}

/** The lock table of a mount. */
export function locksOf(m: SimMount): Map<number, ClientLock> {
  return tableOf(m).locks;
}

/** Watches the locks of all mounts. */
export class LockOracle {
  /** Write seqs that living mounts were granted last, by lock. */
  private readonly writeSeqs = new Map<number, Map<SimMount, number>>();

  constructor(private readonly living: () => Iterable<SimMount>, private readonly model: Model) {}

  watch(m: SimMount): void {
    const locks: LockClient = m.client.locks;
    const real = locks.grant.bind(locks);
    locks.grant = (granted) => {
      real(granted);
      if (!m.process.alive()) return;
      for (const lock of locksOf(m).values()) {
        if (lock.range.start.zone !== granted.key.zone || lock.range.start.type !== granted.key.type
          || lock.range.start.first !== granted.key.first
          || lock.range.start.second !== granted.key.second) continue;
        for (const other of this.living()) if (other !== m) compare(m, lock, other, this.model);
        if (granted.newMode === LOCK_WRITE) this.compareSeqs(m, lock, granted.writeSeq);
      }
    };
  }

  /** Items are merged by these seqs: the later writer's have to be greater. */
  private compareSeqs(m: SimMount, lock: ClientLock, seq: number): void {
    const seqs = this.writeSeqs.get(lock.id) ?? new Map<SimMount, number>();
    this.writeSeqs.set(lock.id, seqs);
    for (const [other, theirs] of seqs) {
      if (!other.process.alive()) seqs.delete(other);
      else if (other !== m && theirs >= seq) {
        this.model.violated(`${m.process.name} was granted lock ${lock.kind}/${lock.group} with seq ${
          seq} after ${other.process.name} with seq ${theirs}`);
      }
    }
    seqs.set(m, seq);
  }
}

function compare(m: SimMount, lock: ClientLock, other: SimMount, model: Model): void {
  const { locks, isShutdown } = tableOf(other);
  const theirs = locks.get(lock.id);
  if (theirs === undefined || isShutdown || !other.process.alive()) return;
  const mode = theirs.invalidatingMode ?? theirs.mode;
  if (mode !== LOCK_NULL && !compatible(mode, lock.mode, false)) {
    model.violated(`${m.process.name} was granted lock ${lock.kind}/${lock.group} in mode ${
      lock.mode} while ${other.process.name} holds it in mode ${mode}`);
  }
}

/** Watches who serves, who writes the metadata device, and messages. */
export class WriterOracle {
  /** Terms of the servers that were started, by the name of their thread. */
  private readonly terms = new Map<string, number>();
  private leaders = new Map<number, SimProcess>();
  private readonly fenced = new Set<bigint>();
  private last: { term: number; name: string; host: number } = NOBODY;

  constructor(private readonly world: ClusterWorld, private readonly model: Model,
    private readonly journal: Journal) {
    world.onWrite = (p, device, io, done): void => { this.wrote(p, device, io, done); };
    world.onFenced = (rid): void => { this.fenced.add(rid); };
    watched = {
      serverStarted: (term, device) => {
        const { p } = device as { p?: SimProcess };
        if (p !== undefined) this.started(term, p);
      },
      wrongMessage: (what) => { this.model.violated(what); },
    };
  }

  /** The host whose server wrote last, 0 without one. */
  get leaderHost(): number {
    return this.last.host;
  }

  /** The term of the server that wrote last. */
  get term(): number {
    return this.last.term;
  }

  /** What nobody has flushed may be forgotten, terms too. */
  powerLost(): void {
    this.leaders = new Map();
    this.last = NOBODY;
  }

  private started(term: number, p: SimProcess): void {
    const other = this.leaders.get(term);
    if (other !== undefined && other !== p) {
      this.model.violated(`${p.name} leads term ${term}, and so does ${other.name}`);
    }
    this.leaders.set(term, p);
    this.terms.set(p.name, term);
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
      this.last = { term, name: p.name, host: p.host.nr };
    }
    if (io.offset === SUPER_OFFSET) this.model.superBegun(this.journal.superBegun(io.bytes));
  }
}

const NOBODY = { term: 0, name: '', host: 0 };

/** What the world that is simulated now hears of. */
let watched: {
  serverStarted: (term: number, device: object) => void;
  wrongMessage: (what: string) => void;
} = { serverStarted: () => undefined, wrongMessage: () => undefined };

const realStart = Object.getOwnPropertyDescriptor(Server.prototype, 'start')?.value as
  (this: Server) => Promise<void>;
Server.prototype.start = function start(this: Server): Promise<void> {
  const { term, metaDevice } = (this as unknown as
    { deps: { term: number; metaDevice: object } }).deps;
  watched.serverStarted(term, metaDevice);
  return realStart.call(this);
};

/** What one end has handled and answered since its other end was a new one. */
interface Conversation {
  epoch: number;
  /** the last message handled */
  seq: number;
  /** seq of the answer to each request, 0 without one yet */
  answers: Map<number, number>;
}

const conversations = new WeakMap<Peer, Conversation>();

function conversationOf(peer: Peer): Conversation {
  const { epoch } = peer as unknown as { epoch: number };
  let c = conversations.get(peer);
  if (c?.epoch !== epoch) {
    c = { epoch, seq: 0, answers: new Map() };
    conversations.set(peer, c);
  }
  return c;
}

const realReceive = Object.getOwnPropertyDescriptor(Peer.prototype, 'receive')?.value as
  Peer['receive'];
Peer.prototype.receive = function receive(this: Peer, header, payload): boolean {
  const c = conversationOf(this);
  const isNew = header.seq > (this as unknown as { recvSeq: number }).recvSeq;
  if (isNew && header.seq <= c.seq) {
    watched.wrongMessage(`message ${header.seq} (${commandName(header.cmd)}) is handled twice`);
  }
  if (isNew) c.seq = header.seq;
  if (isNew && !header.response) c.answers.set(header.id, 0);
  return realReceive.call(this, header, payload);
};

type Transmit = (this: Peer, bytes: Uint8Array) => boolean;
const peers = Peer.prototype as unknown as { transmit: Transmit };
const realTransmit = Object.getOwnPropertyDescriptor(Peer.prototype, 'transmit')?.value as Transmit;
peers.transmit = function transmit(this: Peer, bytes): boolean {
  const { id, seq, cmd, response } = readHeader(viewOf(bytes), 0);
  const { answers } = conversationOf(this);
  const before = answers.get(id);
  if (response && (before === undefined || (before !== 0 && before !== seq))) {
    watched.wrongMessage(`answer ${seq} (${commandName(cmd)}) is for nothing that was asked`);
  }
  if (response) answers.set(id, seq);
  return realTransmit.call(this, bytes);
};
