/**
 * The election state machine, the quorum block and what is derived from blocks, against
 * upstream's traces and tables.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import { viewOf } from '../../host/net/messages.js';
import type { Action, QuorumMsg, ServerStatus } from '../../host/server/quorum_agent.js';
import { QuorumAgent, votesNeeded } from '../../host/server/quorum_agent.js';
import type { Slot } from '../../host/server/quorum_block.js';
import {
  checkQuorumConfig, decodeQuorumBlock, decodeQuorumMessage, encodeQuorumBlock,
  encodeQuorumMessage, leadersToFence, serverSlot,
} from '../../host/server/quorum_block.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface Step {
  start?: boolean;
  at_ms?: number;
  recv?: { type: string; term: number; from: number } | null;
  server_becomes?: ServerStatus;
  actions: string[];
  after: {
    role: string; term: number; vote_for: number; vote_bits: number; deadline_in_ms: number;
  };
}

interface Fencing {
  our_term: number;
  our_rid: string;
  slots: Record<'elect' | 'fence' | 'stop', [number, string]>[];
  fence_requests: { slot: number; rid: string }[];
  server_slot_seen_by_clients: number;
}

interface NetVectors {
  election_traces: {
    name: string; present_slots: number; our_slot: number; heartbeat_timeout_ms: number;
    election_timeout_ms: number; steps: Step[]; exit_actions: string[];
  }[];
  votes_needed: Record<string, number>;
  leader_fencing: Fencing[];
  quorum_messages: { name: string; hex: string; type: number; from: number }[];
  structures: { name: string; hex: string }[];
}

const skip = skipWithoutSpec();
const v = (skip === false ? vectors('net-vectors.json') : null) as NetVectors;
const TYPES = ['REQUEST_VOTE', 'VOTE', 'HEARTBEAT', 'RESIGNATION'];
const EVENTS = ['BEGIN', 'TERM', 'ELECT', 'FENCE', 'STOP', 'END'];

function textOf(a: Action): string[] {
  switch (a.do) {
    case 'send': return a.to.map((s) => `send ${TYPES[a.type] ?? ''} term ${a.term} to ${s}`);
    case 'write': return [`write ${EVENTS[a.event] ?? ''} term ${a.term}`];
    case 'start-server': return [`server_start ${a.term}`];
    case 'stop-server': return ['server_stop'];
    case 'wait-server-down': return ['server_stop_wait'];
  }
}

/** Upstream sends some messages before it writes what they follow from; we write first. */
function writesFirst(actions: readonly string[]): string[] {
  const out = [...actions];
  for (const [message, write] of [['send REQUEST_VOTE', 'write TERM'],
    ['send RESIGNATION', 'write STOP']] as const) {
    const first = out.findIndex((a) => a.startsWith(message));
    const at = out.findIndex((a) => a.startsWith(write));
    if (first >= 0 && at > first) out.splice(first, 0, ...out.splice(at, 1));
  }
  return out;
}

/** The starting states of the two traces that do not start from nothing. */
function startOf(name: string): [term: number, live: boolean] {
  if (name === 'start_from_greatest_term') return [9, false];
  return name === 'start_with_live_server' ? [5, true] : [0, false];
}

t.test('elections go as upstream', { skip }, async (t) => {
  t.ok(v.election_traces.length >= 10);
  for (const trace of v.election_traces) {
    const [term, live] = startOf(trace.name);
    const agent = new QuorumAgent({
      slot: trace.our_slot,
      present: Array.from({ length: trace.present_slots }, (_, i) => i),
      heartbeatTimeoutMs: () => trace.heartbeat_timeout_ms,
      electionTimeoutMs: () => trace.election_timeout_ms,
    }, term, live, 0);
    let server: ServerStatus = 'down';
    for (const step of trace.steps) {
      const at = step.at_ms ?? 0;
      server = step.server_becomes ?? server;
      const msg: QuorumMsg | null = step.recv === undefined || step.recv === null ? null
        : { type: TYPES.indexOf(step.recv.type), term: step.recv.term, from: step.recv.from };
      const actions = step.start === true ? agent.begin() : agent.step(at, msg, server);
      if (actions.some((a) => a.do === 'start-server')) server = 'starting';
      if (actions.some((a) => a.do === 'stop-server')) server = 'stopping';
      t.same(actions.flatMap(textOf), writesFirst(step.actions), `${trace.name} at ${at}`);
      t.same({
        role: agent.role, term: agent.term, vote_for: agent.votedFor, vote_bits: agent.voteBits,
        deadline_in_ms: agent.deadlineMs - at,
      }, step.after, `${trace.name} at ${at}`);
    }
    t.same(agent.exit(server).flatMap(textOf), writesFirst(trace.exit_actions), `${trace.name} exit`);
  }
});

t.test('no vote is given in the term the mount started in', async (t) => {
  const agent = new QuorumAgent({
    slot: 0, present: [0, 1, 2], heartbeatTimeoutMs: () => 10_000, electionTimeoutMs: () => 300,
  }, 5, false, 0);
  const ask = (term: number): Action[] =>
    agent.step(10, { type: F.QUORUM_MSG_REQUEST_VOTE, term, from: 1 }, 'down');
  t.same(ask(5), [], 'a vote of before the restart is not remembered');
  t.same(ask(6).flatMap(textOf), ['write TERM term 6', 'send VOTE term 6 to 1']);
});

t.test('a member that stood in a term gives no vote in it', async (t) => {
  const agent = new QuorumAgent({
    slot: 0, present: [0, 1, 2], heartbeatTimeoutMs: () => 10_000, electionTimeoutMs: () => 300,
  }, 5, false, 0);
  agent.step(301, null, 'down');
  agent.step(302, { type: F.QUORUM_MSG_VOTE, term: 6, from: 1 }, 'down');
  t.equal(agent.role, 'leader');
  agent.step(303, null, 'starting');
  agent.step(400, null, 'down');
  t.equal(agent.role, 'follower', 'its server has failed');
  const ask = (term: number): string[] =>
    agent.step(410, { type: F.QUORUM_MSG_REQUEST_VOTE, term, from: 2 }, 'down').flatMap(textOf);
  t.same(ask(6), [], 'a second leader of the term would be taken for the first');
  t.same(ask(7), ['write TERM term 7', 'send VOTE term 7 to 2']);
});

t.test('a late wake-up with heartbeats waiting does not stand', async (t) => {
  const agent = new QuorumAgent({
    slot: 0, present: [0, 1, 2], heartbeatTimeoutMs: () => 10_000, electionTimeoutMs: () => 300,
  }, 5, true, 0);
  t.same(agent.step(50_000, { type: F.QUORUM_MSG_HEARTBEAT, term: 5, from: 1 }, 'down'), []);
  t.equal(agent.role, 'follower');
  t.same(agent.step(50_001, { type: F.QUORUM_MSG_REQUEST_VOTE, term: 4, from: 2 }, 'down'), []);
  t.equal(agent.role, 'follower');
});

t.test('votes needed', { skip }, async (t) => {
  for (const [n, needed] of Object.entries(v.votes_needed)) {
    t.equal(votesNeeded(Number(n)), needed, `${n} slots`);
  }
});

function emptyBlock(slot: number): F.QuorumBlock {
  return F.QuorumBlock.read(viewOf(new Uint8Array(F.QuorumBlock.size).fill(0, slot)), 0);
}

t.test('earlier leaders to fence, and where clients connect', { skip }, async (t) => {
  t.ok(v.leader_fencing.length >= 40);
  for (const [nr, c] of v.leader_fencing.entries()) {
    const blocks = c.slots.map((s, slot) => {
      const block = emptyBlock(0);
      for (const [name, kind] of [['elect', F.QUORUM_EVENT_ELECT],
        ['fence', F.QUORUM_EVENT_FENCE], ['stop', F.QUORUM_EVENT_STOP]] as const) {
        const [term, rid] = s[name];
        block.events[kind] = { writeNr: 1, rid: BigInt(rid), term, ts: { sec: 0n, nsec: 0 } };
      }
      return { slot, block };
    });
    t.same(leadersToFence(blocks, c.our_term, BigInt(c.our_rid))
      .map((r) => ({ slot: r.slot, rid: `0x${r.rid.toString(16)}` })), c.fence_requests, `case ${nr}`);
    t.equal(serverSlot(blocks) ?? -1, c.server_slot_seen_by_clients, `case ${nr}`);
  }
});

const SLOTS: Slot[] = [0, 1, 2].map((nr) => ({ nr, at: { addr: 0x7f000001, port: 19700 + nr } }));

t.test('datagrams', { skip }, async (t) => {
  const fsid = 0x1122334455667788n;
  for (const m of v.quorum_messages) {
    t.equal(Buffer.from(encodeQuorumMessage(fsid, m.type, 7, m.from)).toString('hex'), m.hex, m.name);
    const bytes = new Uint8Array(Buffer.from(m.hex, 'hex'));
    t.same(decodeQuorumMessage(bytes, fsid, SLOTS), { type: m.type, term: 7, from: m.from });
    t.equal(decodeQuorumMessage(bytes, fsid + 1n, SLOTS), null, 'of another volume');
    t.equal(decodeQuorumMessage(bytes, fsid, [SLOTS[1] as Slot]), null, 'of no configured slot');
    t.equal(decodeQuorumMessage(bytes.subarray(0, 31), fsid, SLOTS), null, 'short');
    bytes[16] = 8;
    t.equal(decodeQuorumMessage(bytes, fsid, SLOTS), null, 'damaged');
  }
});

t.test('the quorum block of a running leader', { skip }, async (t) => {
  const hex = v.structures.find((s) => s.name === 'quorum_block_slot0')?.hex ?? '';
  const bytes = new Uint8Array(4096);
  bytes.set(Buffer.from(hex, 'hex'));
  const block = decodeQuorumBlock(bytes, 0, 0x1122334455667788n);
  t.equal(block.events[F.QUORUM_EVENT_ELECT]?.term, 7);
  t.equal(block.events[F.QUORUM_EVENT_STOP]?.term, 0);
  t.same(Buffer.from(encodeQuorumBlock(block)), Buffer.from(bytes));
  t.throws(() => decodeQuorumBlock(bytes, 1, 0x1122334455667788n), { message: /block number/ });
  t.throws(() => decodeQuorumBlock(bytes, 0, 5n), { message: /fsid/ });
  bytes[100] = 1;
  t.throws(() => decodeQuorumBlock(bytes, 0, 0x1122334455667788n), { message: /checksum/ });
});

t.test('a configuration that cannot work is refused in one line', async (t) => {
  const conf = (slots: [addr: number, port: number][]): F.QuorumConfig => ({
    version: 1,
    slots: Array.from({ length: 15 }, (_, i) => {
      const s = slots[i];
      return { addr: s === undefined ? { family: 0, port: 0, addr: 0 }
        : { family: F.AF_IPV4, addr: s[0], port: s[1] } };
    }),
  });
  t.same(checkQuorumConfig(conf([[0x0a000001, 1]]), 0),
    [{ nr: 0, at: { addr: 0x0a000001, port: 1 } }]);
  const bad: [F.QuorumConfig, number | null, RegExp][] = [
    [conf([]), null, /^no quorum slot is configured$/],
    [conf([[0, 1]]), null, /slot 0 has an invalid unicast address: 0\.0\.0\.0:1/],
    [conf([[0xffffffff, 1]]), null, /invalid unicast/],
    [conf([[0xe0000001, 1]]), null, /invalid unicast/],
    [conf([[0xefffffff, 1]]), null, /invalid unicast/],
    [conf([[0x0a000001, 0]]), null, /invalid port/],
    [conf([[0x0a000001, 65535]]), null, /invalid port/],
    [conf([[0x0a000001, 7], [0x0a000001, 7]]), null, /slots 0 and 1 have the same address/],
    [conf([[0x0a000001, 7], [0x0a000001, 8]]), 3,
      /^quorum slot 3 is not configured \(slots: 0, 1\)$/],
  ];
  for (const [c, slot, message] of bad) {
    t.throws(() => checkQuorumConfig(c, slot), { code: 'QUORUM_CONFIG', message });
  }
});
