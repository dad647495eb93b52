/**
 * A server and a client that is hostile to it, beside one that is not.
 *
 * The hostile client greets as one of three mounts of its own and then sends what chance
 * makes of messages. Most are sent one by one: then it is known whether the message was
 * refused (an error, a closed connection) and the server is held against server_state.ts;
 * others come as bursts. In between the honest mount works, time passes, connections are
 * lost, mounts fenced. In the end the server stops and another one starts on what it left.
 */
import * as F from '../../../host/core/format.js';
import { Core } from '../../../host/core/core.js';
import { inodeLockRange } from '../../../host/core/keys.js';
import { Counters } from '../../../host/observe/counters.js';
import type { Log } from '../../../host/observe/log.js';
import { makeLog } from '../../../host/observe/log.js';
import { LockPlain, LockRecover, U64, decode, encode } from '../../../host/net/messages.js';
import { reclaimMount } from '../../../host/server/reclaim.js';
import { srchLogKey } from '../../../host/server/srch_rotate.js';
import { seeded } from '../../lib/core.js';
import { ADDR, FakeClient, copyVolume, makeVolume, mount, partsOf, startServer } from
  '../../lib/server.js';
import type { TestServer, Volume } from '../../lib/server.js';
import { RawSocket } from '../../lib/rawsocket.js';
import type { Received } from '../../lib/rawsocket.js';
import { SimClock, settle } from '../../lib/simclock.js';
import { SimNet } from '../../lib/simnet.js';
import { seededRandom } from '../../lib/treespace.js';
import type { Below, Numbers } from '../values.js';
import { pick } from '../values.js';
import { cut, describeDraft, encodeDraft, mutate, randomBytes, request, response } from './draft.js';
import type { Draft } from './draft.js';
import { HonestMount } from './peers.js';
import type { WireResult } from './result.js';
import { DEFECT, emptyResult, resultOf } from './result.js';
import { changedByRefused, changedOfOthers, serverState } from './server_state.js';
import type { ServerState } from './server_state.js';

const HONEST_RID = 0x1111n;
const DEAD_RID = 0x2222n;
const HOSTILE_RIDS = [0x6661n, 0x6662n, 0x6663n];
const HOSTILE_NET = 0x0a000000;
const CONNECTIONS = 160;
const MESSAGES_MAX = 70;
const CORE_BYTES = 32 << 20;
/** Nothing honest takes longer in simulated time: recovery and fencing may come before. */
const HONEST_LIMIT_MS = 120_000;
const SRCH_FILES = 9;
/** A server that stops and starts is given other terms. */
const FIRST_TERM = 10;
const LOG_LINES_MAX = 400;
/** What may change the volume although it fails: what was moved is stored. */
const PARTLY_DONE = new Set([F.NET_CMD_GET_LOG_TREES, F.NET_CMD_SRCH_GET_COMPACT,
  F.NET_CMD_GET_LOG_MERGE]);

let base: Promise<Volume> | null = null;

/** A volume with search files to compact and a log tree to merge. */
async function makeBase(): Promise<Volume> {
  const v = await makeVolume({ dataBytes: 2 ** 34 });
  const ts = await startServer(v, { term: 1, core: newCore(1) });
  const { context, services, trees, srch, merges } = partsOf(ts);
  await mount(ts, DEAD_RID);
  const c = new FakeClient(v, DEAD_RID);
  await c.transaction(ts, 1024, 20);
  await context.commits.transact(async () => {
    const { space, sup } = context.commits;
    for (let i = 0; i < SRCH_FILES; i++) {
      const file = decode(F.SrchFile, new Uint8Array(F.SrchFile.size));
      file.ref = { blkno: 5000 + i, seq: 1n };
      file.blocks = 20;
      await space.insert(sup.srchRoot, srchLogKey(5000 + i), encode(F.SrchFile, file));
    }
  });
  await reclaimMount(context, {
    locks: services.locks, omap: services.omap, finalizer: trees.finalizer, srch, merges,
  }, DEAD_RID);
  await ts.server.stop();
  return v;
}

function newCore(seed: number): Core {
  return new Core(seededRandom(seed), { memoryBytes: CORE_BYTES });
}

/** Runs one seed. Never rejects. */
export async function fuzzServer(seed: number, say: (line: string) => void): Promise<WireResult> {
  const c = new ServerCase(copyVolume(await (base ??= makeBase())), seed, say);
  return resultOf(c);
}

/** What a hostile mount was given and may give back, truly or not. */
interface Given {
  lt: Uint8Array | null;
  compact: Uint8Array | null;
  merge: F.LogMergeRequest | null;
  asked: Received[];
}

class ServerCase {
  readonly result: WireResult;
  last = 'the start';
  private readonly below: Below;
  private readonly clock = new SimClock();
  private readonly net = new SimNet();
  private readonly counters = new Counters();
  private readonly log: Log;
  private readonly given = new Map<bigint, Given>();
  private readonly greetings = new Map<bigint, number>();
  private readonly ids = new Map<bigint, { seq: number; id: number }>();
  private readonly numbers: Numbers & { blocks: { blkno: number; seq: bigint }[]; inos: bigint[] };
  private ts!: TestServer;
  private honest!: HonestMount;
  private socket!: RawSocket;
  private rid = 0n;
  private seen = 0;
  private sent: Uint8Array[] = [];
  /** Whether every message was as long as it said: else others begin, or end, inside of it. */
  private framed = true;
  private readonly sockets: RawSocket[] = [];

  constructor(private readonly v: Volume, private readonly seed: number,
    private readonly say: (line: string) => void) {
    const below = seeded(Math.imul(seed + 1, 0x9e3779b1));
    for (let i = 0; i < 8; i++) below(2);
    this.below = below;
    this.result = emptyResult();
    this.log = makeLog('info', (level, text) => { this.logged(level, text); });
    this.numbers = {
      blocks: [{ blkno: 16, seq: 1n }, { blkno: 2 ** 18, seq: 1n }, { blkno: 15, seq: 2n }],
      inos: [HONEST_RID, DEAD_RID, ...HOSTILE_RIDS, v.fsid],
    };
  }

  async run(): Promise<void> {
    await this.start(FIRST_TERM);
    this.honest = new HonestMount(this.clock, this.net, this.v, HONEST_RID);
    await this.honestly();
    const lt = await this.within(this.honest.openTransaction());
    this.numbers.blocks.push(lt.itemRoot.ref, lt.metaAvail.ref, lt.bloomRef, lt.dataAvail.root.ref);
    for (let i = 0; i < CONNECTIONS; i++) await this.connection();
    await this.honestly();
    await this.within(this.ts.server.stop());
    await this.start(FIRST_TERM + 1);
    this.last = 'another server has started';
    await this.honestly();
    await this.clock.advance(60_000);
    await this.honestly();
    this.checkLog();
    await this.within(this.honest.client.force());
    await this.within(this.ts.server.stop());
  }

  private async start(term: number): Promise<void> {
    this.ts = await startServer(this.v, {
      clock: this.clock, env: { clock: this.clock, net: this.net }, term,
      core: newCore(this.seed + term), log: this.log, counters: this.counters,
      fenceAgent: { fence: () => Promise.resolve('fenced'), reclaimed: () => undefined },
    });
  }

  private logged(level: string, text: string): void {
    this.result.logLines += 1;
    this.say(`  log: ${level} ${text}`);
    if (DEFECT.test(text)) this.result.failure ??= `the log says: ${text}`;
  }

  private checkLog(): void {
    if (this.result.logLines > LOG_LINES_MAX) {
      throw new Error(`${this.result.logLines} lines in the log`);
    }
  }

  private within<T>(p: Promise<T>): Promise<T> {
    return this.clock.until(p, HONEST_LIMIT_MS);
  }

  /**
   * The honest mount works. Whoever holds a lock, is connected and never gives it up can keep
   * everybody waiting, as upstream; so all others are disconnected: that must be enough.
   */
  private async honestly(): Promise<void> {
    for (const s of this.sockets.splice(0)) s.socket.destroy();
    this.say('the honest mount works');
    await this.within(this.honest.work());
  }

  /** What the server has; time passes if somebody holds the commit and waits for it. */
  private state(): Promise<ServerState> {
    return this.within(serverState(this.ts, this.v, this.honest));
  }

  private giving(): Given {
    const g = this.given.get(this.rid) ?? { lt: null, compact: null, merge: null, asked: [] };
    this.given.set(this.rid, g);
    return g;
  }

  // ---- one connection ----

  private async connection(): Promise<void> {
    const { below } = this;
    const nr = below(HOSTILE_RIDS.length);
    this.rid = HOSTILE_RIDS[nr] ?? 0n;
    this.socket = new RawSocket(await this.net.connectFrom(
      { addr: HOSTILE_NET + nr, port: 1000 + below(60_000) }, { addr: ADDR, port: 4000 }));
    this.sockets.push(this.socket);
    this.seen = 0;
    this.sent = [];
    this.framed = true;
    await this.greet();
    const messages = below(MESSAGES_MAX);
    for (let i = 0; i < messages && !this.socket.closed; i++) {
      if (below(30) === 0) await this.burst();
      else await this.one(below(5) < 2);
    }
    if (below(4) === 0) this.socket.write(randomBytes(below, below(60)));
    if (below(2) === 0) this.socket.socket.destroy();
    await this.clock.advance(pick(below, [0, 0, 0, 10, 500, 25_000]));
    if (below(12) === 0) await this.honestly();
  }

  private async greet(): Promise<void> {
    const { below } = this;
    const id = (this.greetings.get(this.rid) ?? 0) + 1;
    this.greetings.set(this.rid, id);
    const d = request(F.NET_CMD_GREETING, encode(F.NetGreeting, {
      fsid: this.v.fsid, fmtVers: 2, rid: this.rid, flags: below(25) === 0 ? 1n : 0n,
      serverTerm: pick(below, [0, 0, 0, 0, 0, 0, this.ts.deps.term, 5]),
    }), true);
    d.id = BigInt(id);
    d.seq = BigInt(id);
    d.recvSeq = BigInt(below(3));
    if (below(8) === 0) mutate(below, d, this.numbers);
    await this.judged(d, d.changed.length === 0);
  }

  // ---- messages ----

  /** Sends one message and looks at what became of it. */
  private async one(hostile: boolean): Promise<void> {
    const d = this.draft();
    if (hostile) mutate(this.below, d, this.numbers);
    if (this.below(20) === 0 && this.sent.length > 0) {
      await this.replay();
      return;
    }
    await this.judged(d, !hostile);
  }

  private async replay(): Promise<void> {
    const before = await this.state();
    this.last = 'a message again';
    this.say(`${this.rid.toString(16)}: ${this.last}`);
    this.write(pick(this.below, this.sent));
    await settle();
    const after = await this.state();
    if (this.framed) this.expectNothing(changedByRefused(before, after));
  }

  private async judged(d: Draft, valid: boolean): Promise<void> {
    const before = await this.state();
    this.last = describeDraft(d);
    const bytes = encodeDraft(d);
    this.sent.push(bytes);
    this.framed &&= d.dataLen === null || d.dataLen === d.payload.length;
    for (const piece of cut(this.below, bytes)) this.write(piece);
    await settle();
    const outcome = this.outcome(d);
    this.say(`${this.rid.toString(16)}: ${this.last}: ${outcome}`);
    this.result.messages += 1;
    const after = await this.state();
    if (outcome === 'closed') this.result.closed += 1;
    if (outcome === 'error') this.result.refused += 1;
    const refused = outcome === 'closed' || outcome === 'error';
    if (refused && !PARTLY_DONE.has(d.cmd) && this.framed) {
      this.expectNothing(changedByRefused(before, after));
    }
    this.expectNothing(changedOfOthers(before, after, this.v, this.honest));
    if (this.ts.server.status !== 'up') throw new Error('the server has stopped');
    if (valid && outcome === 'closed') this.say('  (a message as it should be)');
    this.learn();
  }

  private async burst(): Promise<void> {
    const { below } = this;
    const before = await this.state();
    const all: Uint8Array[] = [];
    const n = 2 + below(30);
    for (let i = 0; i < n; i++) {
      const d = this.draft();
      if (below(6) === 0) mutate(below, d, this.numbers);
      all.push(encodeDraft(d));
      this.say(`${this.rid.toString(16)}: burst: ${describeDraft(d)}`);
    }
    if (below(4) === 0) all.reverse();
    this.last = `a burst of ${n} messages`;
    this.result.messages += n;
    for (const piece of cut(below, Buffer.concat(all))) this.write(piece);
    for (let i = 0; i < 4; i++) await settle();
    this.expectNothing(changedOfOthers(before,
      await this.state(), this.v, this.honest, n));
    this.learn();
  }

  private write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  private expectNothing(wrong: readonly string[]): void {
    if (wrong.length > 0) throw new Error(wrong.join('\n'));
  }

  private outcome(d: Draft): 'closed' | 'error' | 'ok' | 'nothing' {
    if (this.socket.closed) return 'closed';
    const answer = this.socket.received.slice(this.seen).find((m) =>
      m.header.response && BigInt(m.header.id) === d.id && m.header.cmd === d.cmd);
    if (answer === undefined) return 'nothing';
    return answer.header.error === 0 ? 'ok' : 'error';
  }

  /** Remembers what the server has given. */
  private learn(): void {
    const g = this.giving();
    for (const m of this.socket.received.slice(this.seen)) {
      const { cmd, response: isResponse, error } = m.header;
      if (!isResponse) g.asked.push(m);
      else if (error !== 0) continue;
      else if (cmd === F.NET_CMD_GET_LOG_TREES) g.lt = m.payload;
      else if (cmd === F.NET_CMD_SRCH_GET_COMPACT) g.compact = m.payload;
      else if (cmd === F.NET_CMD_GET_LOG_MERGE) g.merge = decode(F.LogMergeRequest, m.payload);
    }
    this.seen = this.socket.received.length;
  }

  /** A message that a well-behaved client could send now. */
  private draft(): Draft {
    const { below } = this;
    const g = this.giving();
    const n = this.ids.get(this.rid) ?? { seq: 1, id: 1 };
    this.ids.set(this.rid, n);
    const asked = below(3) === 0 ? g.asked.shift() : undefined;
    const d = asked === undefined ? this.requestDraft(g) : this.answerDraft(asked);
    d.seq = BigInt(n.seq++);
    if (d.flags === 0) d.id = BigInt(n.id++);
    d.recvSeq = BigInt(this.socket.received.at(-1)?.header.seq ?? 0);
    return d;
  }

  private requestDraft(g: Given): Draft {
    const { below } = this;
    const make = (cmd: number, payload: Uint8Array = new Uint8Array(0)): Draft => request(cmd, payload, true);
    const lock = (): Draft => make(F.NET_CMD_LOCK, encode(LockPlain, {
      key: inodeLockRange(below(12) * 1024).start, writeSeq: 0, oldMode: below(4), newMode: below(4),
    }));
    const volopt = (cmd: number): Draft => make(cmd, encode(F.VolumeOptions, {
      setBits: 1n, dataAllocZoneBlocks: 1048576 * (1 + below(3)),
      futureExpansion: Array.from({ length: 63 }, () => 0n),
    }));
    return pick(below, [
      lock, lock, lock, lock,
      () => make(F.NET_CMD_ALLOC_INODES, encode(U64, 10_240)),
      () => make(F.NET_CMD_GET_LOG_TREES),
      () => make(F.NET_CMD_GET_LOG_TREES),
      () => make(F.NET_CMD_COMMIT_LOG_TREES, g.lt ?? new Uint8Array(F.LogTrees.size)),
      () => make(F.NET_CMD_COMMIT_LOG_TREES, g.lt ?? new Uint8Array(F.LogTrees.size)),
      () => make(F.NET_CMD_GET_ROOTS), () => make(F.NET_CMD_GET_LAST_SEQ),
      () => make(F.NET_CMD_SRCH_GET_COMPACT),
      () => make(F.NET_CMD_SRCH_COMMIT_COMPACT, this.compactResult(g)),
      () => make(F.NET_CMD_SRCH_COMMIT_COMPACT, this.compactResult(g)),
      () => make(F.NET_CMD_GET_LOG_MERGE),
      () => make(F.NET_CMD_COMMIT_LOG_MERGE, mergeResult(g, below)),
      () => make(F.NET_CMD_COMMIT_LOG_MERGE, mergeResult(g, below)),
      () => make(F.NET_CMD_OPEN_INO_MAP, encode(F.OpenInoMapArgs,
        { groupNr: below(5), reqId: below(100) })),
      () => make(F.NET_CMD_GET_VOLOPT), () => volopt(F.NET_CMD_SET_VOLOPT),
      () => volopt(F.NET_CMD_CLEAR_VOLOPT),
      () => make(F.NET_CMD_RESIZE_DEVICES, encode(F.NetResizeDevices, {
        newTotalMetaBlocks: 0, newTotalDataBlocks: 0,
      })),
      () => make(F.NET_CMD_STATFS),
      () => below(20) === 0 ? make(F.NET_CMD_FAREWELL) : make(F.NET_CMD_STATFS),
      () => make(below(4) > 0 ? F.NET_CMD_GET_ROOTS
        : pick(below, [F.NET_CMD_SYNC_LOG_TREES, F.NET_CMD_LOCK_RECOVER, F.NET_CMD_GREETING])),
      () => response(below(20), below(30), randomBytes(below, 48), true),
    ])();
  }

  private compactResult(g: Given): Uint8Array {
    if (g.compact === null) return new Uint8Array(F.SrchCompact.size);
    const sc = decode(F.SrchCompact, g.compact);
    sc.flags |= pick(this.below, [0, F.SRCH_COMPACT_FLAG_DONE, F.SRCH_COMPACT_FLAG_ERROR]);
    return encode(F.SrchCompact, sc);
  }

  /** The answer to a request of the server. */
  private answerDraft(m: Received): Draft {
    const { below } = this;
    const { cmd, id } = m.header;
    const answer = (payload: Uint8Array): Draft => response(cmd, id, payload, true);
    switch (cmd) {
      case F.NET_CMD_LOCK: return answer(m.payload);
      case F.NET_CMD_OPEN_INO_MAP:
        return answer(encode(F.OpenInoMap, {
          args: decode(F.OpenInoMapArgs, m.payload),
          bits: Array.from({ length: F.OPEN_INO_MAP_LE64S }, () => 0n),
        }));
      case F.NET_CMD_LOCK_RECOVER: {
        const key = inodeLockRange((100 + below(5)) * 1024).start;
        return answer(encode(LockRecover, below(2) === 0 ? []
          : [{ key, writeSeq: below(100), oldMode: 1, newMode: 1 }]));
      }
      default: return answer(new Uint8Array(0));
    }
  }
}

function mergeResult(g: Given, below: Below): Uint8Array {
  const zero = decode(F.LogMergeComplete, new Uint8Array(F.LogMergeComplete.size));
  const m = g.merge;
  if (m === null) return encode(F.LogMergeComplete, zero);
  return encode(F.LogMergeComplete, {
    ...zero, metaAvail: m.metaAvail, metaFreed: m.metaFreed, root: m.root, start: m.start,
    end: m.end, rid: m.rid, seq: m.seq,
    flags: below(2) === 0 ? F.LOG_MERGE_COMP_ERROR : 0,
  });
}
