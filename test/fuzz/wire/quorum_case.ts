/**
 * Three members of a quorum, and datagrams of anybody in the name of anybody.
 *
 * A datagram is a valid one of a slot with chance's changes, from that slot's address or from
 * another. What a member must refuse, it counts, and it and its block are as before. What it
 * must take as another member's changes its role and term by the rules of elections: terms
 * only rise, blocks stay sound, nobody gives up. When the storm is over somebody leads.
 * Whoever can send from a slot's address can use up the terms and vote for two; that no rule
 * prevents, so forged terms are near, and two may lead in one term (the later server fences).
 */
import * as F from '../../../host/core/format.js';
import { crc32c } from '../../../host/core/crc32c.js';
import type { Endpoint } from '../../../host/env/net.js';
import { viewOf } from '../../../host/net/messages.js';
import { Counters } from '../../../host/observe/counters.js';
import { makeLog } from '../../../host/observe/log.js';
import { Quorum } from '../../../host/server/quorum.js';
import type { ServerControl } from '../../../host/server/quorum.js';
import type { ServerStatus } from '../../../host/server/quorum_agent.js';
import type { Slot } from '../../../host/server/quorum_block.js';
import { encodeQuorumBlock, encodeQuorumMessage, readQuorumBlock } from
  '../../../host/server/quorum_block.js';
import { seeded } from '../../lib/core.js';
import { MemDevice } from '../../lib/memdevice.js';
import { SimClock, settle } from '../../lib/simclock.js';
import { SimNet } from '../../lib/simnet.js';
import { seededRandom } from '../../lib/treespace.js';
import { fieldsOf } from '../fields.js';
import type { Below, Numbers } from '../values.js';
import { nasty, pick, readNumber, writeNumber } from '../values.js';
import { randomBytes } from './draft.js';
import type { WireResult } from './result.js';
import { DEFECT, emptyResult, resultOf } from './result.js';

const FSID = 0x1122334455667788n;
const MEMBERS = 3;
const DATAGRAMS = 4000;
const PORT = 19700;
const CRC_INIT = 0xffffffff;
const CRC_OFF = 28;
const TERM_OFF = 16;
const HEARTBEAT_TIMEOUT_MS = 2000;
const TERM_AHEAD_MAX = 2 ** 32;
const TERM_MAX = 2n ** 52n;
const LOG_LINES_MAX = 400;
const SMALL = 4096;

/** A server that comes up and goes down at once. */
class QuickServer implements ServerControl {
  private now: ServerStatus = 'down';
  private changed: () => void = () => undefined;

  standAtMs(): number { return 0; }

  status(): ServerStatus { return this.now; }
  start(): void { this.become('up'); }
  stop(): void { this.become('down'); }
  onChange(fn: () => void): void { this.changed = fn; }

  private become(status: ServerStatus): void {
    this.now = status;
    this.changed();
  }
}

interface Member {
  quorum: Quorum;
  counters: Counters;
  failed: string | null;
}

/** Runs one seed. Never rejects. */
export async function fuzzQuorum(seed: number, say: (line: string) => void): Promise<WireResult> {
  const c = new QuorumCase(seed, say);
  return resultOf(c);
}

class QuorumCase {
  readonly result = emptyResult();
  last = 'the start';
  private readonly below: Below;
  private readonly clock = new SimClock();
  private readonly net = new SimNet();
  private readonly device = new MemDevice('meta', 1 << 20);
  private readonly members: Member[] = [];
  private readonly slots: Slot[] = Array.from({ length: MEMBERS }, (_, nr) =>
    ({ nr, at: { addr: nr + 1, port: PORT } }));
  private readonly numbers: Numbers = { blocks: [{ blkno: 1, seq: FSID }], inos: [FSID, 1n, 2n] };

  constructor(private readonly seed: number, private readonly say: (line: string) => void) {
    this.below = seeded(Math.imul(seed + 1, 0x9e3779b1));
    for (let i = 0; i < 8; i++) this.below(2);
  }

  async run(): Promise<void> {
    for (const { nr } of this.slots) this.format(nr);
    for (const { nr } of this.slots) this.members.push(await this.join(nr));
    await this.oneLeads();
    for (let i = 0; i < DATAGRAMS; i++) {
      await this.one();
      if (this.below(40) === 0) await this.clock.advance(this.below(1500));
      if (this.below(800) === 0) await this.oneLeads();
    }
    await this.oneLeads();
    if (this.result.logLines > LOG_LINES_MAX) throw new Error(`${this.result.logLines} log lines`);
    for (const m of this.members) await this.clock.until(m.quorum.stop());
  }

  private format(nr: number): void {
    const block = F.QuorumBlock.read(viewOf(new Uint8Array(F.QuorumBlock.size)), 0);
    block.hdr = {
      crc: 0, magic: F.BLOCK_MAGIC_QUORUM, fsid: FSID, seq: 1n, blkno: F.QUORUM_BLKNO + nr,
    };
    this.device.writeSync((F.QUORUM_BLKNO + nr) * SMALL, encodeQuorumBlock(block));
  }

  private async join(nr: number): Promise<Member> {
    const counters = new Counters();
    const m: Omit<Member, 'quorum'> = { counters, failed: null };
    const quorum = await Quorum.start({
      clock: this.clock, random: seededRandom(this.seed * MEMBERS + nr), net: this.net,
      device: this.device, counters, fsid: FSID, rid: BigInt(nr + 100), slotNr: nr,
      slots: this.slots, heartbeatTimeoutMs: () => HEARTBEAT_TIMEOUT_MS, server: new QuickServer(),
      log: makeLog('warn', (_, text) => {
        this.result.logLines += 1;
        if (DEFECT.test(text)) this.result.failure ??= text;
      }),
      roleChanged: () => undefined,
      failed: (e) => { m.failed = e.message; },
    });
    return Object.assign(m, { quorum });
  }

  /** Left alone, the members elect one of them. */
  private async oneLeads(): Promise<void> {
    await this.clock.advance(10 * HEARTBEAT_TIMEOUT_MS);
    const leaders = this.members.filter((m) => m.quorum.isLeader);
    const terms = new Set(leaders.map((m) => m.quorum.agent.term));
    if (terms.size !== 1) throw new Error(`members lead in ${terms.size} terms`);
  }

  private async one(): Promise<void> {
    const { below } = this;
    const to = below(MEMBERS);
    const member = this.members[to];
    if (member === undefined) return;
    const { agent } = member.quorum;
    const named = below(MEMBERS);
    const term = pick(below, [agent.term, agent.term, agent.term + 1, Math.max(0, agent.term - 1),
      agent.term + TERM_AHEAD_MAX]);
    const bytes = this.changed(encodeQuorumMessage(FSID, below(4), term, named));
    const from = this.sender(named);
    const before = await this.snapshot(member, to);
    this.last = `${Buffer.from(bytes).toString('hex')} from ${from.addr}:${from.port} to slot ${to}`;
    const good = this.isGood(bytes, from, to);
    if (good && viewOf(bytes).getBigUint64(TERM_OFF, true) > agent.term + TERM_AHEAD_MAX) return;
    this.say(`${this.last}: ${good ? 'a message' : 'to be refused'}`);
    this.net.inject(from, { addr: to + 1, port: PORT }, bytes);
    await settle();
    this.result.messages += 1;
    this.judge(before, await this.snapshot(member, to), good, member);
  }

  private judge(before: Snapshot, after: Snapshot, good: boolean, member: Member): void {
    const refused = after.invalid - before.invalid;
    if (member.failed !== null) throw new Error(`the member gave up: ${member.failed}`);
    if (refused !== (good ? 0 : 1)) throw new Error(`counted ${refused} refused`);
    if (!good && (before.state !== after.state || before.block !== after.block)) {
      throw new Error(`a refused datagram changed: ${before.state} -> ${after.state}`);
    }
    if (after.term < before.term) throw new Error(`the term fell from ${before.term} to ${after.term}`);
    this.result.refused += refused;
  }

  private async snapshot(m: Member, nr: number): Promise<Snapshot> {
    const { agent } = m.quorum;
    const block = await readQuorumBlock(this.device, nr, FSID);
    return {
      term: agent.term, invalid: m.counters.get('quorum_recv_invalid'),
      state: [agent.role, agent.term, agent.votedFor, agent.voteBits, agent.deadlineMs,
        agent.serverTerm].join(' '),
      block: block.events.map((e) => `${e.writeNr} ${e.rid} ${e.term}`).join(' '),
    };
  }

  /** The datagram with chance's changes; most have a right checksum. */
  private changed(bytes: Uint8Array): Uint8Array {
    const { below } = this;
    let out: Uint8Array = bytes.slice();
    switch (below(8)) {
      case 0: case 1: return out;
      case 2: {
        const len = pick(below, [0, 1, 31, 33, 64, 1500, below(100)]);
        out = new Uint8Array(len);
        out.set(bytes.subarray(0, len));
        break;
      }
      case 3: out = randomBytes(below, 32); break;
      default:
        for (let n = 1 + below(2); n > 0; n--) {
          const f = pick(below, fieldsOf(F.QuorumMessage));
          writeNumber(out, f.off, f.len,
            nasty(below, f.len * 8, readNumber(out, f.off, f.len), this.numbers));
        }
    }
    if (out.length >= F.QuorumMessage.size && below(8) !== 0) {
      viewOf(out).setUint32(CRC_OFF, crc32c(CRC_INIT, out.subarray(0, CRC_OFF)), true);
    }
    return out;
  }

  private sender(named: number): Endpoint {
    const own = { addr: named + 1, port: PORT };
    return pick(this.below, [own, own, own, { addr: named + 1, port: PORT + 1 },
      { addr: 0x0a000001, port: PORT }, { addr: 1 + this.below(MEMBERS), port: PORT }]);
  }

  /** The rules of quorum.md 2, and ours: the slot's address, not our slot, a term with a next. */
  private isGood(bytes: Uint8Array, from: Endpoint, to: number): boolean {
    if (bytes.length !== F.QuorumMessage.size) return false;
    const v = viewOf(bytes);
    const named = v.getUint8(25);
    return v.getUint32(CRC_OFF, true) === crc32c(CRC_INIT, bytes.subarray(0, CRC_OFF)) &&
      v.getBigUint64(0, true) === FSID && v.getUint8(24) < 4 && named < MEMBERS && named !== to &&
      from.addr === named + 1 && from.port === PORT &&
      v.getBigUint64(TERM_OFF, true) <= TERM_MAX;
  }
}

interface Snapshot {
  term: number;
  invalid: number;
  state: string;
  block: string;
}
