/**
 * The election agent of one quorum member: a reduced raft without a log, as a pure
 * state machine.
 *
 *   FOLLOWER --deadline--> CANDIDATE --enough votes--> LEADER --server down--> FOLLOWER
 *       ^                      |                          |
 *       +----- a message of a higher term ---------------+
 *
 * `step` is told the time, the one datagram received (or none) and what our own server
 * is doing, and returns what has to be done, in order. Writing comes before sending: a
 * term is durable before anybody hears of it, and a stop before the resignation that
 * lets others lead (they would fence a leader that has not recorded its stop). The
 * leader's heartbeats must not wait for those writes: while they are under way the
 * driver asks `heartbeatIfDue`.
 *
 * Invariants
 *   - terms only increase; at most one vote is given per term, a candidate's own counted,
 *     and none in the term this mount started in, because a vote given before a restart is
 *     not remembered
 *   - an election starts only in a step that found no message, so that a late wake-up
 *     does not overlook heartbeats that are waiting
 *   - leadership ends when the server is down, whoever stopped it
 *
 * Source: quorum.md 2, 3, 5; vectors `election_traces`.
 */
import {
  QUORUM_HB_IVAL_MS,
  QUORUM_EVENT_BEGIN, QUORUM_EVENT_ELECT, QUORUM_EVENT_END, QUORUM_EVENT_FENCE,
  QUORUM_EVENT_STOP, QUORUM_EVENT_TERM, QUORUM_MSG_HEARTBEAT, QUORUM_MSG_REQUEST_VOTE,
  QUORUM_MSG_RESIGNATION, QUORUM_MSG_VOTE,
} from '../core/constants.js';

export type Role = 'follower' | 'candidate' | 'leader';

/** What our own server is doing, as far as the agent can see. */
export type ServerStatus = 'down' | 'starting' | 'up' | 'stopping';

export interface QuorumMsg {
  type: number;
  term: number;
  from: number;
}

export type Action =
  | { do: 'send'; type: number; term: number; to: readonly number[] }
  | { do: 'write'; event: number; term: number }
  | { do: 'start-server'; term: number }
  | { do: 'stop-server' }
  | { do: 'wait-server-down' };

export interface AgentConfig {
  slot: number;
  /** configured slots, ours included */
  present: readonly number[];
  heartbeatTimeoutMs(): number;
  /** drawn anew every time it is set */
  electionTimeoutMs(): number;
  /** Time before which this member does not stand (backoff.ts, hearing.ts); 0 for none. */
  standAtMs?(): number;
}

/** Votes that make a leader, with `slots` configured ones. */
export function votesNeeded(slots: number): number {
  return slots < 3 ? 1 : Math.floor(slots / 2) + 1;
}

const NO_VOTE = -1;

export class QuorumAgent {
  role: Role = 'follower';
  votedFor = NO_VOTE;
  /** bit per slot */
  voteBits = 0;
  deadlineMs: number;
  /** term our running or stopping server was started in; 0 without one */
  serverTerm = 0;
  private fenceWritten = false;
  private readonly others: readonly number[];

  /**
   * @param term greatest term in any slot's block
   * @param liveServer the blocks show a running server: wait for its heartbeats first
   */
  constructor(private readonly cfg: AgentConfig, public term: number, liveServer: boolean,
    nowMs: number) {
    this.startTerm = term;
    this.others = cfg.present.filter((s) => s !== cfg.slot);
    this.deadlineMs = nowMs + (liveServer ? cfg.heartbeatTimeoutMs() : cfg.electionTimeoutMs());
  }

  private readonly startTerm: number;
  /** The last term in which it was a candidate: its vote was its own. */
  private stoodTerm = 0;

  /** The first thing to do. */
  begin(): Action[] {
    return [{ do: 'write', event: QUORUM_EVENT_BEGIN, term: this.term }];
  }

  /** One turn of the loop. `received` is a valid message or null. */
  step(nowMs: number, received: QuorumMsg | null, server: ServerStatus): Action[] {
    const out: Action[] = [];
    const msg = received !== null && received.term >= this.term ? received : null;
    if (msg !== null && msg.term > this.term) this.adoptTerm(nowMs, msg, out);
    if (msg?.type === QUORUM_MSG_HEARTBEAT) this.deadlineMs = nowMs + this.cfg.heartbeatTimeoutMs();
    if (msg?.type === QUORUM_MSG_RESIGNATION && this.role === 'follower') this.electionWait(nowMs);
    if (this.role !== 'leader' && msg === null && nowMs >= this.deadlineMs) {
      if (this.serverTerm !== 0 && server !== 'down') {
        // Our own server has to be gone before we stand again.
        this.electionWait(nowMs);
        return out;
      }
      // Others may stand meanwhile, and we vote for them.
      const standAtMs = this.cfg.standAtMs?.() ?? 0;
      if (nowMs < standAtMs) this.deadlineMs = standAtMs;
      else this.stand(nowMs, out);
    }
    if (this.role === 'candidate' && msg?.type === QUORUM_MSG_VOTE) {
      this.voteBits |= 1 << msg.from;
    }
    if (this.role === 'candidate' && this.voteCount >= votesNeeded(this.cfg.present.length)) {
      this.lead(nowMs, out);
    }
    this.followServer(nowMs, server, out);
    out.push(...this.heartbeatIfDue(nowMs));
    this.voteFor(msg, out);
    return out;
  }

  /** The leader's heartbeat when its time has come; may be called at any moment. */
  heartbeatIfDue(nowMs: number): Action[] {
    if (this.role !== 'leader' || nowMs < this.deadlineMs) return [];
    this.deadlineMs = nowMs + QUORUM_HB_IVAL_MS;
    return this.toOthers(QUORUM_MSG_HEARTBEAT, this.term);
  }

  /** Nobody was elected in our last election, as far as we have heard: the next one is due. */
  isUnelected(nowMs: number): boolean {
    return this.role === 'candidate' && nowMs >= this.deadlineMs;
  }

  /** Somebody is heard after a pause that `standAtMs` had asked for. */
  endPause(nowMs: number): void {
    if (this.role === 'leader') return;
    this.deadlineMs = Math.min(this.deadlineMs, nowMs + this.cfg.electionTimeoutMs());
  }

  /** Stands although a leader's heartbeats come, because it can be heard and not reached. */
  depose(nowMs: number): Action[] {
    const out: Action[] = [];
    if (this.role === 'follower' && this.serverTerm === 0) this.stand(nowMs, out);
    return out;
  }

  /** What a clean exit does. */
  exit(server: ServerStatus): Action[] {
    const out: Action[] = [];
    if (this.serverTerm !== 0) {
      if (server !== 'down') out.push({ do: 'wait-server-down' });
      out.push({ do: 'write', event: QUORUM_EVENT_STOP, term: this.serverTerm });
      out.push(...this.toOthers(QUORUM_MSG_RESIGNATION, this.term));
    }
    out.push({ do: 'write', event: QUORUM_EVENT_END, term: this.term });
    return out;
  }

  get voteCount(): number {
    return this.cfg.present.filter((s) => (this.voteBits & (1 << s)) !== 0).length;
  }

  private adoptTerm(nowMs: number, msg: QuorumMsg, out: Action[]): void {
    this.role = 'follower';
    this.term = msg.term;
    this.votedFor = NO_VOTE;
    this.voteBits = 0;
    if (msg.type !== QUORUM_MSG_HEARTBEAT) this.electionWait(nowMs);
    out.push({ do: 'write', event: QUORUM_EVENT_TERM, term: this.term });
  }

  private stand(nowMs: number, out: Action[]): void {
    this.role = 'candidate';
    this.term += 1;
    this.stoodTerm = this.term;
    this.votedFor = NO_VOTE;
    this.voteBits = 1 << this.cfg.slot;
    this.electionWait(nowMs);
    // Upstream sends first; a term that others know of is better on disk already.
    out.push({ do: 'write', event: QUORUM_EVENT_TERM, term: this.term });
    out.push(...this.toOthers(QUORUM_MSG_REQUEST_VOTE, this.term));
  }

  private lead(nowMs: number, out: Action[]): void {
    this.role = 'leader';
    this.deadlineMs = nowMs + QUORUM_HB_IVAL_MS;
    this.serverTerm = this.term;
    this.fenceWritten = false;
    out.push(...this.toOthers(QUORUM_MSG_HEARTBEAT, this.term));
    out.push({ do: 'write', event: QUORUM_EVENT_ELECT, term: this.term });
    out.push({ do: 'start-server', term: this.term });
  }

  /** Records that the server came up, stops one that lost its leader, notices the end of one. */
  private followServer(nowMs: number, server: ServerStatus, out: Action[]): void {
    if (this.serverTerm === 0 || this.startsServer(out)) return;
    if (this.role === 'leader' && server === 'up' && !this.fenceWritten) {
      this.fenceWritten = true;
      out.push({ do: 'write', event: QUORUM_EVENT_FENCE, term: this.term });
    }
    if ((server === 'starting' || server === 'up')
      && (this.role !== 'leader' || this.serverTerm !== this.term)) {
      out.push({ do: 'stop-server' });
    }
    if (server !== 'down') return;
    out.push({ do: 'write', event: QUORUM_EVENT_STOP, term: this.serverTerm });
    if (this.role === 'leader') {
      this.role = 'follower';
      this.voteBits = 0;
      this.electionWait(nowMs);
      out.push(...this.toOthers(QUORUM_MSG_RESIGNATION, this.serverTerm));
    }
    this.serverTerm = 0;
  }

  /** The server whose start this very step asked for is not down. */
  private startsServer(out: readonly Action[]): boolean {
    return out.some((a) => a.do === 'start-server');
  }

  private voteFor(msg: QuorumMsg | null, out: Action[]): void {
    if (this.role !== 'follower' || msg?.type !== QUORUM_MSG_REQUEST_VOTE) return;
    if (this.votedFor !== NO_VOTE || this.term === this.startTerm) return;
    // Upstream votes here: a leader that resigned could help another one into its own term,
    // whose server the clients then took for the one they had lost.
    if (this.term === this.stoodTerm) return;
    this.votedFor = msg.from;
    out.push({ do: 'send', type: QUORUM_MSG_VOTE, term: this.term, to: [msg.from] });
  }

  private electionWait(nowMs: number): void {
    this.deadlineMs = nowMs + this.cfg.electionTimeoutMs();
  }

  private toOthers(type: number, term: number): Action[] {
    return this.others.length === 0 ? [] : [{ do: 'send', type, term, to: this.others }];
  }
}
