/**
 * What must hold in a cluster at every moment, whatever fails.
 *
 *   - two mounts never hold conflicting locks (looked at after every grant), and whoever
 *     gets one for writing gets a greater write seq than all that living mounts have
 *   - a term has one leader, and only one server writes: after a write of a server none of
 *     an earlier term may begin
 *   - a message is handled once, and answers are for what this server has asked
 *   - the roots that readers get are those of a super block on the device
 *   - nothing is written by a mount that was fenced, or that was forced down
 *
 * Source: lock.md 1.1, 3, 4; net.md 5; quorum.md 3, 7; recovery.md 3; server.md 4.4.
 */
import { LOCK_NULL, NET_CMD_GET_ROOTS } from '../../host/core/constants.js';
import { QUORUM_BLKNO, QUORUM_BLOCKS } from '../../host/core/format.js';
import type { Env } from '../../host/env/env.js';
import type { ClientLock } from '../../host/mount/client_lock.js';
import type { LockClient } from '../../host/mount/lock.js';
import { HEADER_BYTES, commandName, readHeader, viewOf } from '../../host/net/messages.js';
import { Peer } from '../../host/net/peer.js';
import { compatible } from '../../host/server/lock_server.js';
import { Server } from '../../host/server/server.js';
import type { SimMount } from '../lib/simmount.js';
import type { SimProcess } from '../lib/simworld.js';
import type { Journal } from './journal.js';
import { SUPER_OFFSET } from './journal.js';
import type { Model } from './model.js';
import type { ClusterWorld } from './world.js';
import { HostClock } from './world.js';

const SMALL_BYTES = 4096;

/** How often each rule was looked at: one that is never looked at cannot fail. */
export interface Looks {
  /** locks of others after a grant */
  locks: number;
  writeSeqs: number;
  /** servers that started, and their writes */
  servers: number;
  serverWrites: number;
  roots: number;
  messages: number;
}

export function noLooks(): Looks {
  return { locks: 0, writeSeqs: 0, servers: 0, serverWrites: 0, roots: 0, messages: 0 };
}

/** What the oracles look at inside of a mount's lock client. */
interface LockTable {
  locks: Map<number, ClientLock>;
  /** not null on its way out: everything is committed, nothing uses a lock any more */
  ending: string | null;
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
  constructor(private readonly living: () => Iterable<SimMount>, private readonly model: Model,
    private readonly looks: Looks) {}

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
        for (const other of this.living()) {
          if (other !== m) compare(m, lock, other, this.model);
          this.looks.locks += 1;
        }
      }
    };
  }

  /**
   * A server gives a write seq to `rid`. Items are merged by these seqs, so the later writer's
   * have to be greater, of whichever server they are.
   */
  given(rid: bigint, seq: number): void {
    this.looks.writeSeqs += 1;
    for (const m of this.living()) {
      if (tableOf(m).ending !== null || !m.process.alive()) continue;
      for (const lock of locksOf(m).values()) {
        if (lock.mode === LOCK_NULL || lock.writeSeq < seq) continue;
        this.model.violated(`mount ${rid.toString(16)} is granted a lock with seq ${seq}, although ${
          m.process.name} has seq ${lock.writeSeq} for lock ${lock.kind}/${lock.group}`);
      }
    }
  }
}

function compare(m: SimMount, lock: ClientLock, other: SimMount, model: Model): void {
  const { locks, ending } = tableOf(other);
  const theirs = locks.get(lock.id);
  if (theirs === undefined || ending !== null || !other.process.alive()) return;
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
    private readonly journal: Journal, locks: LockOracle, private readonly looks: Looks) {
    world.onWrite = (p, device, io, done): void => { this.wrote(p, device, io, done); };
    world.onFenced = (rid): void => { this.fenced.add(rid); };
    watched = {
      serverStarted: (term, p) => { this.started(term, p); },
      granted: (term, rid, seq) => {
        if (seq !== 0 && term === Math.max(...this.leaders.keys())) locks.given(rid, seq);
      },
      roots: (roots) => {
        this.looks.roots += 1;
        if (!journal.wereStable(roots)) model.violated('readers get roots that are not stable');
      },
      message: (wrong) => {
        this.looks.messages += 1;
        if (wrong !== null) this.model.violated(wrong);
      },
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
    this.looks.servers += 1;
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
    const term = this.terms.get(p.name);
    if (term === undefined) throw new Error(`${p.name} writes and has not started`);
    this.looks.serverWrites += 1;
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
  serverStarted: (term: number, p: SimProcess) => void;
  granted: (term: number, rid: bigint, writeSeq: number) => void;
  roots: (payload: Uint8Array) => void;
  /** what is wrong with a message, null when nothing is */
  message: (wrong: string | null) => void;
} = {
  serverStarted: () => undefined, granted: () => undefined, roots: () => undefined,
  message: () => undefined,
};

const realStart = Object.getOwnPropertyDescriptor(Server.prototype, 'start')?.value as
  (this: Server) => Promise<void>;
Server.prototype.start = async function start(this: Server): Promise<void> {
  const { term, env } = (this as unknown as { deps: { term: number; env: Env } }).deps;
  if (!(env.clock instanceof HostClock)) throw new Error('a server of an unknown process');
  watched.serverStarted(term, env.clock.p);
  await realStart.call(this);
  if (this.parts === null) return;
  const { deps } = this.parts.services.locks as unknown as
    { deps: { grant: (rid: bigint, request: unknown, lock: { writeSeq: number }) => void } };
  const grant = deps.grant.bind(deps);
  deps.grant = (rid, request, lock) => {
    watched.granted(term, rid, lock.writeSeq);
    grant(rid, request, lock);
  };
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
  watched.message(isNew && header.seq <= c.seq
    ? `message ${header.seq} (${commandName(header.cmd)}) is handled twice` : null);
  if (isNew) c.seq = header.seq;
  if (isNew && !header.response) c.answers.set(header.id, 0);
  return realReceive.call(this, header, payload);
};

type Transmit = (this: Peer, bytes: Uint8Array) => boolean;
const peers = Peer.prototype as unknown as { transmit: Transmit };
const realTransmit = Object.getOwnPropertyDescriptor(Peer.prototype, 'transmit')?.value as Transmit;
peers.transmit = function transmit(this: Peer, bytes): boolean {
  const { id, seq, cmd, response, error } = readHeader(viewOf(bytes), 0);
  const { answers } = conversationOf(this);
  const before = answers.get(id);
  watched.message(response && (before === undefined || (before !== 0 && before !== seq))
    ? `answer ${seq} (${commandName(cmd)}) is for nothing that was asked` : null);
  if (response) answers.set(id, seq);
  if (response && cmd === NET_CMD_GET_ROOTS && error === 0) {
    watched.roots(bytes.subarray(HEADER_BYTES));
  }
  return realTransmit.call(this, bytes);
};
