/**
 * What `scoutfs cluster` makes of the files of control trees: of members and clients, of
 * several volumes, and of trees that answer nothing or nonsense.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import type { Answer } from '../../host/cli/cluster_view.js';
import { clusterLines, clustersOf } from '../../host/cli/cluster_view.js';
import { viewOf } from '../../host/net/messages.js';
import { hex16 } from '../../host/observe/log.js';
import { memberLine } from '../../host/super/members.js';

function answer(rid: bigint, slot: number | null, files: Record<string, string> | null,
  over: Partial<Answer['mount']> & { stopped?: boolean } = {}): Answer {
  const { stopped, ...mount } = over;
  return {
    stopped: stopped ?? false,
    files: files === null ? null : new Map(Object.entries(files)),
    mount: {
      ident: `f.00000a.r.00000${rid}`, dir: '/x', fsid: 10n, rid, pid: 100 + Number(rid),
      startTime: '1', alive: true, mountPoint: `/mnt/${rid}`, dataDevice: '/d', metaDevice: '/m',
      quorumSlotNr: slot, ...mount,
    },
  };
}

function block(events: Partial<Record<number, [writeNr: number, rid: bigint, term: number]>>):
F.QuorumBlock {
  const b = F.QuorumBlock.read(viewOf(new Uint8Array(F.QuorumBlock.size)), 0);
  for (const [kind, e] of Object.entries(events)) {
    if (e !== undefined) {
      b.events[Number(kind)] = { writeNr: e[0], rid: e[1], term: e[2], ts: { sec: 0n, nsec: 0 } };
    }
  }
  return b;
}

const SLOT = { nr: 3, at: { addr: 0x0a000001, port: 7000 } };
const { QUORUM_EVENT_BEGIN: BEGIN, QUORUM_EVENT_ELECT: ELECT, QUORUM_EVENT_STOP: STOP,
  QUORUM_EVENT_END: END } = F;

t.test('the line of a slot', async (t) => {
  const zeros = hex16(0n);
  const head = 'slot 3 addr 10.0.0.1:7000 state';
  t.equal(memberLine(SLOT, null), `${head} unreadable rid ${zeros} term 0`);
  t.equal(memberLine(SLOT, block({})), `${head} absent rid ${zeros} term 0`);
  t.equal(memberLine(SLOT, block({ [BEGIN]: [5, 9n, 4] })), `${head} begun rid ${hex16(9n)} term 4`);
  t.equal(memberLine(SLOT, block({ [BEGIN]: [5, 9n, 4], [ELECT]: [6, 9n, 7] })),
    `${head} leader rid ${hex16(9n)} term 7`);
  t.equal(memberLine(SLOT, block({ [BEGIN]: [5, 9n, 4], [ELECT]: [6, 9n, 7], [STOP]: [7, 9n, 7] })),
    `${head} begun rid ${hex16(9n)} term 7`);
  t.equal(memberLine(SLOT, block({ [BEGIN]: [5, 9n, 4], [END]: [8, 9n, 7] })),
    `${head} absent rid ${zeros} term 7`);
});

const MEMBERS = [
  `slot 0 addr 10.0.0.1:7000 state leader rid ${hex16(1n)} term 9`,
  `slot 1 addr 10.0.0.2:7000 state begun rid ${hex16(2n)} term 9`,
  `slot 2 addr 10.0.0.3:7000 state leader rid ${hex16(3n)} term 4`,
  `slot 4 addr 10.0.0.5:7000 state absent rid ${hex16(0n)} term 2`, ''].join('\n');

t.test('seen from the leader', async (t) => {
  const [c] = clustersOf([answer(1n, 0, {
    'quorum/status': 'quorum_slot_nr 0\nterm 9\nrole 2 (leader)\n' +
      'last_recv from 1 term 9 type 1 secs_since 5.250000000\n',
    'quorum/is_leader': '1', 'debug/members': MEMBERS,
    'debug/mounts': `rid ${hex16(1n)} addr 10.0.0.1:1 quorum 1 state connected\n` +
      `rid ${hex16(2n)} addr 10.0.0.2:2 quorum 1 state lost\n` +
      `rid ${hex16(7n)} addr 10.0.0.9:3 quorum 0 state recovering\n`,
    'debug/pending': 'recovery secs_since 3.000000000 rid 7 outstanding greeting\n' +
      'lock secs_since 11.000000000 start 1 end 2\nrequest secs_since 0.100000000 STATFS\n',
  })]);
  t.match(c, {
    fsid: hex16(10n),
    leader: { slot: 0, address: '10.0.0.1:7000', rid: hex16(1n), term: 9 },
    here: [{ rid: hex16(1n), slot: 0, role: 'leader', term: 9, answers: true }],
  });
  t.same(c?.members?.map((m) => [m.state, m.alive, m.heardSecs, m.mountPoint]), [
    ['leader', true, null, '/mnt/1'], ['begun', false, 5.25, null],
    ['stale_leader', null, null, null], ['absent', false, null, null]]);
  t.same(c?.mounts?.map((m) => [m.state, m.member, m.mountPoint]), [
    ['connected', true, '/mnt/1'], ['lost', true, null], ['recovering', false, null]]);
  t.same(c?.waiting.map((w) => w.kind), ['lock', 'recovery', 'request'], 'the longest first');
  const text = c === undefined ? '' : clusterLines(c).join('\n');
  t.match(text, /^volume 000000000000000a: led by slot 0 at 10\.0\.0\.1:7000 in term 9\n/);
  t.match(text, /\n {2}2 +10\.0\.0\.3:7000 +stale_leader +\? +- +0+3 +-\n/);
  t.match(text, /\n {2}11\.0s +lock +\/mnt\/1 +start 1 end 2\n/);
  t.notMatch(text, /STATFS/, 'what has just begun is no wait');
});

t.test('seen from followers and plain clients', async (t) => {
  const follower = answer(2n, 1, {
    'quorum/status': 'term 9\nrole 0 (follower)\nlast_recv from 0 term 9 type 2 secs_since 0.050000000\n',
    'quorum/is_leader': '0', 'debug/members': MEMBERS, 'debug/mounts': '', 'debug/pending': '',
  });
  const client = answer(8n, null, { 'debug/members': MEMBERS, 'debug/pending': '' });
  const [c] = clustersOf([follower, client]);
  t.equal(c?.mounts, null);
  t.same(c?.members?.map((m) => m.alive), [true, true, null, false], 'by heartbeats, by process');
  t.same(c?.here.map((h) => [h.slot, h.role]), [[1, 'follower'], [null, null]]);
  const text = c === undefined ? '' : clusterLines(c).join('\n');
  t.match(text, /only the leader knows them all/);
  t.match(text, /Nothing waits\.$/);
});

t.test('trees that say nothing, or nonsense', async (t) => {
  const [c, other, ...more] = clustersOf([
    answer(1n, 0, null, { stopped: true }), answer(2n, 1, null),
    answer(3n, null, { 'debug/members': 'x\n\n', 'debug/pending': '\u0000\nlock' }, { fsid: 11n })]);
  t.same(more, []);
  t.match(c, { leader: null, members: null, mounts: null });
  t.same(c?.waiting.map((w) => w.text), ['process 101 is stopped', 'process 102 does not answer']);
  t.match(c === undefined ? '' : clusterLines(c).join('\n'), /leader unknown[^]*could read the quorum/);
  t.equal(other?.fsid, hex16(11n));
  t.doesNotThrow(() => other === undefined ? [] : clusterLines(other));
});
