/**
 * What a quorum member shows of itself: the `status` file of its `quorum` directory,
 * with the last message to and from every slot and a table of heartbeat gaps of a
 * second and more.
 *
 * Source: quorum.md 8.
 */
import type { Clock } from '../env/clock.js';
import { QUORUM_MSG_HEARTBEAT } from '../core/constants.js';
import { secondsText as seconds } from '../observe/pending.js';
import type { QuorumAgent, QuorumMsg } from './quorum_agent.js';

const GAP_SHOWN_MS = 1000;
const ROLE_NUMBERS = { follower: 0, candidate: 1, leader: 2 } as const;

interface LastMessage {
  term: number;
  type: number;
  atMs: number;
}

interface Gap {
  count: number;
  atMs: number;
}

/** Messages seen and heartbeat gaps. */
export class QuorumTraffic {
  readonly sends = new Map<number, LastMessage>();
  readonly recvs = new Map<number, LastMessage>();
  /** by whole seconds of the gap */
  readonly sendGaps = new Map<number, Gap>();
  readonly recvGaps = new Map<number, Gap>();
  private lastSentBeatMs = 0;
  private lastSentTerm = 0;

  constructor(private readonly clock: Clock) {}

  sent(to: number, type: number, term: number): void {
    const atMs = this.clock.monotonicMs();
    if (type === QUORUM_MSG_HEARTBEAT && atMs !== this.lastSentBeatMs) {
      if (this.lastSentTerm === term) this.gap(this.sendGaps, atMs - this.lastSentBeatMs, atMs);
      this.lastSentBeatMs = atMs;
      this.lastSentTerm = term;
    }
    this.sends.set(to, { term, type, atMs });
  }

  received(msg: QuorumMsg): void {
    const atMs = this.clock.monotonicMs();
    const last = this.recvs.get(msg.from);
    if (msg.type === QUORUM_MSG_HEARTBEAT && last?.type === QUORUM_MSG_HEARTBEAT
      && last.term === msg.term) this.gap(this.recvGaps, atMs - last.atMs, atMs);
    this.recvs.set(msg.from, { term: msg.term, type: msg.type, atMs });
  }

  private gap(gaps: Map<number, Gap>, lenMs: number, atMs: number): void {
    if (lenMs < GAP_SHOWN_MS) return;
    const secs = Math.floor(lenMs / 1000);
    gaps.set(secs, { count: (gaps.get(secs)?.count ?? 0) + 1, atMs });
  }
}

/** The status file's text, one line per fact, ending in a line break. */
export function statusText(agent: QuorumAgent, slotNr: number, serverEvent: number,
  traffic: QuorumTraffic, nowMs: number): string {
  const lines = [
    `quorum_slot_nr ${slotNr}`,
    `term ${agent.term}`,
    `server_start_term ${agent.serverTerm}`,
    `server_event ${serverEvent}`,
    `role ${ROLE_NUMBERS[agent.role]} (${agent.role})`,
    `vote_for ${agent.votedFor}`,
    `vote_bits 0x${agent.voteBits.toString(16)} (count ${agent.voteCount})`,
    `timeout_in_secs ${seconds(agent.deadlineMs - nowMs)}`,
  ];
  const bySlot = (a: [number, LastMessage], b: [number, LastMessage]): number => a[0] - b[0];
  const message = (m: LastMessage): string =>
    `term ${m.term} type ${m.type} secs_since ${seconds(nowMs - m.atMs)}`;
  for (const [nr, m] of [...traffic.sends].sort(bySlot)) {
    lines.push(`last_send to ${nr} ${message(m)}`);
  }
  for (const [nr, m] of [...traffic.recvs].sort(bySlot)) {
    lines.push(`last_recv from ${nr} ${message(m)}`);
  }
  const leading = agent.role === 'leader';
  const gaps = leading ? traffic.sendGaps : traffic.recvGaps;
  if (gaps.size > 0) {
    lines.push('HB Delay(s)      Count  Secs Since');
    for (const [secs, g] of [...gaps].sort((a, b) => a[0] - b[0])) {
      lines.push(`${String(secs).padStart(11)}  ${String(g.count).padStart(9)}  ${
        seconds(nowMs - g.atMs)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
