/**
 * Runs the election agent of a quorum member.
 *
 * The state machine of quorum_agent.ts decides; this gives it datagrams, time and our
 * server's status, and carries out what it asks for, strictly in order: a term is
 * durable before a vote in it leaves. Only heartbeats overtake: while a block is being
 * written, or the server is being waited for, the leader keeps beating.
 *
 * A datagram counts when it comes from the address of the slot that it names; upstream
 * does not look at that, but sends from there too. Others are counted and logged.
 *
 * Between steps it looks whether the network works in one direction only (hearing.ts).
 *
 * A failing block update or socket ends the agent at once, without writing anything:
 * most likely two mounts use one slot. Our server is stopped then. A server that
 * cannot start is not such an error; the member stays in elections.
 * Source: quorum.md 5, 8.
 */
import type { Clock, TimerHandle } from '../env/clock.js';
import type { Device } from '../env/device.js';
import { endpointString } from '../env/net.js';
import type { Endpoint, Net, UdpSocket } from '../env/net.js';
import type { Random } from '../env/random.js';
import {
  QUORUM_EVENT_BEGIN, QUORUM_EVENT_ELECT, QUORUM_EVENT_FENCE, QUORUM_EVENT_STOP,
  QUORUM_ELECT_MIN_MS, QUORUM_ELECT_VAR_MS, QUORUM_HB_IVAL_MS, QUORUM_MSG_HEARTBEAT,
  QUORUM_MSG_RESIGNATION,
} from '../core/constants.js';
import { C, Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import { Refusals } from '../observe/refusals.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { DEPOSE_PAUSE_MS, Hearing, reach } from './hearing.js';
import type { Action, QuorumMsg, ServerStatus } from './quorum_agent.js';
import { QuorumAgent } from './quorum_agent.js';
import type { Slot } from './quorum_block.js';
import {
  OwnQuorumBlock, decodeQuorumMessage, encodeQuorumMessage, latestElection, readStartState,
} from './quorum_block.js';
import { QuorumTraffic, statusText } from './quorum_status.js';

/** Datagrams waiting for the agent; more are dropped like any lost datagram. */
const RECEIVED_MAX = 1024;
/** By message type. */
const RECV_COUNTERS = [
  C.quorum_recv_vote, C.quorum_recv_vote, C.quorum_recv_heartbeat, C.quorum_recv_resignation,
];
const SEND_COUNTERS = [
  C.quorum_send_request, C.quorum_send_vote, C.quorum_send_heartbeat, C.quorum_send_resignation,
];

/** The server that the agent starts and stops. Both return at once. */
export interface ServerControl {
  status(): ServerStatus;
  start(term: number): void;
  stop(): void;
  /** Monotonic time before which this member must not stand for election; 0 for none. */
  standAtMs(): number;
  /** Called with a function to call whenever the status changes. */
  onChange(fn: () => void): void;
}

export interface QuorumDeps {
  clock: Clock;
  random: Random;
  net: Net;
  device: Device;
  log: Log;
  counters?: Counters;
  fsid: bigint;
  rid: bigint;
  slotNr: number;
  slots: readonly Slot[];
  /** read whenever the timeout is set */
  heartbeatTimeoutMs(): number;
  server: ServerControl;
  /** the role changed; told before a server of ours starts */
  roleChanged(isLeader: boolean): void;
  /** this mount has taken part before: its slot must still be its own */
  again?: boolean;
  /** the agent gave up: the mount no longer takes part */
  failed(error: ScoutfsError): void;
}

export class Quorum {
  readonly agent: QuorumAgent;
  private socket: UdpSocket | null = null;
  private readonly received: QuorumMsg[] = [];
  private readonly traffic: QuorumTraffic;
  private readonly block: OwnQuorumBlock;
  private readonly counters: Counters;
  private readonly refusals: Refusals;
  private readonly hearing = new Hearing();
  /** Slot of the last heartbeat of our term or a later one. */
  private heardLeader: number | null = null;
  private checkingLeader = false;
  private deposing = false;
  private deposedMs = -Infinity;
  private wake: (() => void) | null = null;
  private stopping = false;
  private isForced = false;
  private wasLeader = false;
  private serverChanged = false;
  private lastServerEvent = QUORUM_EVENT_BEGIN;
  private done: Promise<void> = Promise.resolve();

  private constructor(private readonly d: QuorumDeps, term: number, liveServer: boolean) {
    this.agent = new QuorumAgent({
      slot: d.slotNr,
      present: d.slots.map((s) => s.nr),
      heartbeatTimeoutMs: () => d.heartbeatTimeoutMs(),
      electionTimeoutMs: () => QUORUM_ELECT_MIN_MS
        + d.random.below(QUORUM_ELECT_VAR_MS),
      standAtMs: () => Math.max(d.server.standAtMs(), this.hearing.standAtMs),
    }, term, liveServer, d.clock.monotonicMs());
    this.traffic = new QuorumTraffic(d.clock);
    this.counters = d.counters ?? new Counters();
    this.refusals = new Refusals(d.log, 'quorum', () => d.clock.monotonicMs());
    this.block = new OwnQuorumBlock(d.device, d.fsid, d.rid, d.slotNr, d.again);
    d.server.onChange(() => {
      this.serverChanged = true;
      this.wake?.();
    });
  }

  /** Binds the slot's address and starts taking part. @throws EADDRINUSE, EIO */
  static async start(d: QuorumDeps): Promise<Quorum> {
    const own = d.slots.find((s) => s.nr === d.slotNr);
    if (own === undefined) {
      throw new ScoutfsError('QUORUM_CONFIG', 'EINVAL', {
        message: `quorum slot ${d.slotNr} is not configured`,
      });
    }
    const { term, liveServer } = await readStartState(d.device, d.slots, d.fsid, d.slotNr);
    const q = new Quorum(d, term, liveServer);
    q.socket = await d.net.bindUdp(own.at, (bytes, from) => { q.datagram(bytes, from); },
      (error) => {
        q.counters.inc(C.quorum_recv_error);
        q.fail(error);
      });
    try {
      await q.perform(q.agent.begin());
    } catch (e) {
      await q.socket.close();
      throw e;
    }
    q.done = q.loop();
    return q;
  }

  get isLeader(): boolean {
    return this.agent.role === 'leader';
  }

  /** Leaves cleanly: stops our server, resigns, records the end. @throws EIO if that fails */
  async stop(): Promise<void> {
    this.stopping = true;
    this.wake?.();
    await this.done;
  }

  /** Leaves as if killed: nothing is sent or written any more. */
  async force(): Promise<void> {
    this.isForced = true;
    await this.stop().catch(() => undefined);
  }

  /** The status file (quorum.md 8). */
  status(): string {
    return statusText(this.agent, this.d.slotNr, this.lastServerEvent, this.traffic,
      this.d.clock.monotonicMs());
  }

  /** What keeps the member from standing for election. */
  pending(): Pending[] {
    return this.hearing.pending();
  }

  /**
   * Our mount gets no answer at all from the leader at `at`. If that is the one we hear, and
   * somebody else answers, it hears nobody: then we stand for election.
   */
  async leaderUnreachable(at: Endpoint): Promise<void> {
    const { d } = this;
    const leader = d.slots.find((s) => s.at.addr === at.addr && s.at.port === at.port);
    if (leader === undefined || this.checkingLeader || !this.mayDepose(leader)) return;
    this.checkingLeader = true;
    const others = d.slots.filter((s) => s !== leader && s.nr !== d.slotNr).map((s) => s.at);
    const isOurs = !await reach(d.net, others);
    this.checkingLeader = false;
    if (isOurs || !this.mayDepose(leader)) return;
    d.log.warn(`quorum: slot ${leader.nr} leads and does not answer, others do: standing for ` +
      'election');
    this.deposedMs = d.clock.monotonicMs();
    this.deposing = true;
    this.wake?.();
  }

  private mayDepose(leader: Slot): boolean {
    return this.agent.role === 'follower' && this.heardLeader === leader.nr && !this.stopping
      && this.d.clock.monotonicMs() - this.deposedMs >= DEPOSE_PAUSE_MS;
  }

  private datagram(bytes: Uint8Array, from: Endpoint): void {
    const msg = decodeQuorumMessage(bytes, this.d.fsid, this.d.slots);
    const fault = msg === null ? `a datagram of ${bytes.length} bytes that is none of ours`
      : this.faultOf(msg, from);
    if (msg === null || fault !== null) {
      this.counters.inc(C.quorum_recv_invalid);
      this.refusals.note(endpointString(from), fault ?? '');
      return;
    }
    if (this.received.length >= RECEIVED_MAX) return;
    this.counters.inc(RECV_COUNTERS[msg.type] ?? C.quorum_recv_invalid);
    this.traffic.received(msg);
    this.noteHeard(msg);
    this.received.push(msg);
    this.wake?.();
  }

  private noteHeard(msg: QuorumMsg): void {
    if (msg.type === QUORUM_MSG_HEARTBEAT && msg.term >= this.agent.term) {
      this.heardLeader = msg.from;
    }
    if (!this.hearing.heard()) return;
    this.d.log.info(`quorum: slot ${msg.from} is heard, standing for election again`);
    this.agent.endPause(this.d.clock.monotonicMs());
  }

  /** Why a well-formed message is not one of another member, or null. */
  private faultOf(msg: QuorumMsg, from: Endpoint): string | null {
    const { slotNr, slots } = this.d;
    const at = slots.find((s) => s.nr === msg.from)?.at;
    if (msg.from === slotNr) return 'a message in the name of our own slot';
    if (at?.addr !== from.addr || at.port !== from.port) {
      return `a message in the name of slot ${msg.from}`;
    }
    return null;
  }

  private async loop(): Promise<void> {
    try {
      while (!this.stopping) {
        const msg = await this.nextMessage();
        if (this.isStopping()) break;
        if (this.deposing) await this.perform(this.depose());
        await this.perform(this.step(msg ?? await this.lookAround()));
        this.publishRole();
      }
    } catch (e) {
      await this.close();
      this.fail(asScoutfsError(e));
      return;
    }
    try {
      await this.exit();
    } finally {
      await this.close();
    }
  }

  private step(msg: QuorumMsg | null): Action[] {
    const { agent, counters, d } = this;
    const { term } = agent;
    const server = d.server.status();
    if (agent.role === 'candidate' && server === 'stopping') {
      counters.inc(C.quorum_candidate_server_stopping);
    }
    const actions = agent.step(d.clock.monotonicMs(), msg, server);
    if (agent.term > term) this.noteStood();
    if (agent.term > term && agent.role === 'follower') counters.inc(C.quorum_term_follower);
    return actions;
  }

  private depose(): Action[] {
    this.deposing = false;
    const actions = this.agent.depose(this.d.clock.monotonicMs());
    this.noteStood();
    return actions;
  }

  private noteStood(): void {
    if (this.agent.role === 'candidate') this.hearing.stood(this.agent.term);
  }

  /**
   * Before another election in which nobody may be heard: have others elected somebody?
   * @returns what has come meanwhile
   */
  private async lookAround(): Promise<QuorumMsg | null> {
    const { d, agent, hearing } = this;
    if (!hearing.isSilent || !agent.isUnelected(d.clock.monotonicMs())) return null;
    const latest = await latestElection(d.device, d.slots, d.fsid, d.slotNr);
    if (hearing.look(d.clock.monotonicMs(), latest)) {
      d.log.warn(`quorum: ${hearing.pending().map((p) => p.text).join()} before somebody is heard`);
    }
    return this.received.shift() ?? null;
  }

  private isStopping(): boolean {
    return this.stopping;
  }

  private async exit(): Promise<void> {
    const running = this.d.server.status();
    if (this.isForced) {
      this.d.server.stop();
      return;
    }
    await this.perform(this.agent.exit(running));
    this.agent.role = 'follower';
    this.publishRole();
  }

  private async close(): Promise<void> {
    await this.socket?.close();
    this.socket = null;
  }

  private fail(error: ScoutfsError): void {
    if (this.stopping) {
      this.d.log.error(`quorum: ${error.message}`);
      return;
    }
    this.stopping = true;
    this.isForced = true;
    this.agent.role = 'follower';
    this.publishRole();
    this.d.log.error(`quorum: this mount takes part in elections no more: ${error.message}`);
    this.d.server.stop();
    this.d.failed(error);
    this.wake?.();
  }

  private publishRole(): void {
    if (this.isLeader === this.wasLeader) return;
    this.wasLeader = this.isLeader;
    this.d.roleChanged(this.wasLeader);
  }

  /** The oldest datagram; null once the deadline passed or the server's status changed. */
  private async nextMessage(): Promise<QuorumMsg | null> {
    if (this.isIdle()) await this.sleepUntil(this.agent.deadlineMs);
    // After a stall timers run before sockets are read: heartbeats may be waiting there.
    if (this.isIdle() && !this.isLeader && this.d.clock.monotonicMs() >= this.agent.deadlineMs) {
      await this.sleepUntil(this.d.clock.monotonicMs() + 1);
    }
    this.serverChanged = false;
    return this.received.shift() ?? null;
  }

  private isIdle(): boolean {
    return this.received.length === 0 && !this.serverChanged && !this.stopping;
  }

  private sleepUntil(atMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer: TimerHandle = this.d.clock.after(
        Math.max(0, atMs - this.d.clock.monotonicMs()), () => { this.wake?.(); });
      this.wake = () => {
        timer.cancel();
        this.wake = null;
        resolve();
      };
    });
  }

  private async perform(actions: readonly Action[]): Promise<void> {
    for (const a of actions) {
      if (this.isForced) return;
      switch (a.do) {
        case 'send':
          this.send(a);
          break;
        case 'write':
          await this.beating(this.block.record(a.event, a.term, this.d.clock.now()));
          if (a.event === QUORUM_EVENT_ELECT || a.event === QUORUM_EVENT_FENCE
            || a.event === QUORUM_EVENT_STOP) this.lastServerEvent = a.event;
          break;
        case 'start-server':
          this.publishRole();
          this.counters.inc(C.quorum_elected);
          this.d.log.info(`quorum: elected leader of term ${a.term}, starting the server`);
          this.d.server.start(a.term);
          break;
        case 'stop-server':
          this.counters.inc(C.quorum_server_shutdown);
          this.d.server.stop();
          break;
        case 'wait-server-down':
          this.d.server.stop();
          await this.beating(this.serverDown());
          break;
      }
    }
  }

  private async serverDown(): Promise<void> {
    while (this.d.server.status() !== 'down') await this.d.clock.sleep(QUORUM_HB_IVAL_MS / 5);
  }

  /** Waits for `work`; a leader's heartbeats go on meanwhile. */
  private async beating(work: Promise<void>): Promise<void> {
    let timer: TimerHandle | null = null;
    const beat = (): void => {
      if (this.isForced) return;
      for (const a of this.agent.heartbeatIfDue(this.d.clock.monotonicMs())) {
        if (a.do === 'send') this.send(a);
      }
      timer = this.d.clock.after(QUORUM_HB_IVAL_MS / 4, beat);
    };
    timer = this.d.clock.after(QUORUM_HB_IVAL_MS / 4, beat);
    try {
      await work;
    } finally {
      timer.cancel();
    }
  }

  private send(a: Action & { do: 'send' }): void {
    // Who has resigned must not be heard as a leader any more.
    if (a.type === QUORUM_MSG_RESIGNATION) this.agent.role = 'follower';
    const bytes = encodeQuorumMessage(this.d.fsid, a.type, a.term, this.d.slotNr);
    for (const nr of a.to) {
      const slot = this.d.slots.find((s) => s.nr === nr);
      if (slot === undefined) continue;
      this.socket?.send(bytes, slot.at, () => {
        if (a.type === QUORUM_MSG_HEARTBEAT) {
          this.counters.inc(C.quorum_send_heartbeat_dropped);
        }
      });
      this.counters.inc(SEND_COUNTERS[a.type] ?? C.quorum_send_request);
      this.traffic.sent(nr, a.type, a.term);
    }
  }
}
