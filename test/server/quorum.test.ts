/**
 * Members in one simulated network with one simulated device: who leads, what the
 * blocks say, and that heartbeats wait for nothing.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import { randomFrom } from '../../host/env/random.js';
import { silentLog } from '../../host/observe/log.js';
import { Quorum } from '../../host/server/quorum.js';
import type { ServerControl } from '../../host/server/quorum.js';
import type { ServerStatus } from '../../host/server/quorum_agent.js';
import type { Slot } from '../../host/server/quorum_block.js';
import {
  OwnQuorumBlock, encodeQuorumBlock, findServer, readQuorumBlock,
} from '../../host/server/quorum_block.js';
import { viewOf } from '../../host/net/messages.js';
import { MemDevice } from '../lib/memdevice.js';
import { SimClock, settle } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';

const FSID = 0x1122334455667788n;

/** A server that comes up and goes down as told. */
class FakeServer implements ServerControl {
  now: ServerStatus = 'down';
  started: number[] = [];
  autoUp = true;
  private changed: () => void = () => undefined;

  status(): ServerStatus {
    return this.now;
  }

  start(term: number): void {
    this.started.push(term);
    this.now = 'starting';
    if (this.autoUp) void Promise.resolve().then(() => { this.become('up'); });
  }

  stop(): void {
    if (this.now === 'down') return;
    this.now = 'stopping';
    void Promise.resolve().then(() => { this.become('down'); });
  }

  become(status: ServerStatus): void {
    this.now = status;
    this.changed();
  }

  standAtMs(): number {
    return 0;
  }

  onChange(fn: () => void): void {
    this.changed = fn;
  }
}

class Cluster {
  readonly clock = new SimClock();
  readonly net = new SimNet();
  readonly device = new MemDevice('meta', 1 << 20);
  readonly slots: Slot[];
  readonly servers: FakeServer[] = [];
  readonly members: Quorum[] = [];
  readonly roles: boolean[] = [];
  failures: string[] = [];
  private seed = 7;

  constructor(nr: number) {
    this.slots = Array.from({ length: nr }, (_, i) => ({ nr: i, at: { addr: i + 1, port: 19700 } }));
    for (let i = 0; i < nr; i++) {
      const zeros = new Uint8Array(F.QuorumBlock.size);
      const block = F.QuorumBlock.read(viewOf(zeros), 0);
      block.hdr = {
        crc: 0, magic: F.BLOCK_MAGIC_QUORUM, fsid: FSID, seq: 1n, blkno: F.QUORUM_BLKNO + i,
      };
      this.device.writeSync((F.QUORUM_BLKNO + i) * 4096, encodeQuorumBlock(block));
    }
  }

  async join(i: number): Promise<Quorum> {
    const server = new FakeServer();
    this.servers[i] = server;
    const q = await Quorum.start({
      clock: this.clock, net: this.net.host(i + 1), device: this.device, log: silentLog,
      random: randomFrom((len) => new Uint8Array(len).map(() => {
        this.seed = (this.seed * 1103515245 + 12345) % 2147483648;
        return this.seed >>> 16;
      })),
      fsid: FSID, rid: BigInt(100 + i), slotNr: i, slots: this.slots,
      heartbeatTimeoutMs: () => 10_000, server,
      roleChanged: (isLeader) => { this.roles[i] = isLeader; },
      failed: (e) => { this.failures.push(e.code); },
    });
    this.members[i] = q;
    return q;
  }

  leaders(): number[] {
    return this.members.flatMap((m, i) => m.isLeader ? [i] : []);
  }

  async events(i: number): Promise<number[]> {
    const block = await readQuorumBlock(this.device, i, FSID);
    return block.events.map((e) => e.term);
  }
}

t.test('one member elects itself', async (t) => {
  const c = new Cluster(1);
  const q = await c.join(0);
  await c.clock.advance(400);
  t.same(c.leaders(), [0]);
  t.same(c.servers[0]?.started, [1]);
  t.equal(c.roles[0], true);
  await c.clock.advance(200);
  t.same(await c.events(0), [0, 1, 1, 1, 0, 0], 'BEGIN TERM ELECT FENCE');
  t.same(await findServer(c.device, c.slots, FSID), c.slots[0]?.at);
  t.match(q.status(), /^quorum_slot_nr 0\nterm 1\nserver_start_term 1\nserver_event 3\n/);
  t.match(q.status(), /\nrole 2 \(leader\)\nvote_for -1\nvote_bits 0x1 \(count 1\)\ntimeout_in/);
  await c.clock.advance(1);
  const stopped = q.stop();
  await c.clock.advance(1000);
  await stopped;
  t.same(await c.events(0), [0, 1, 1, 1, 1, 1], 'STOP END');
  t.equal(await findServer(c.device, c.slots, FSID), null);
  t.equal(c.roles[0], false);
});

t.test('three members: one leader, a new one when it dies, and when it leaves', async (t) => {
  const c = new Cluster(3);
  await Promise.all([c.join(0), c.join(1), c.join(2)]);
  await c.clock.advance(3000);
  const [first] = c.leaders();
  t.equal(c.leaders().length, 1);
  if (first === undefined) return;
  await c.clock.advance(30_000);
  t.same(c.leaders(), [first], 'heartbeats keep it');
  const dead = c.members[first];
  const forced = dead?.force();
  await c.clock.advance(9000);
  await forced;
  t.same(c.leaders().filter((i) => i !== first), [], 'nobody stands before the timeout');
  await c.clock.advance(3000);
  const [second] = c.leaders().filter((i) => i !== first);
  t.ok(second !== undefined, 'another leads');
  if (second === undefined) return;
  const [, , elect, , stop] = await c.events(first);
  t.ok((elect ?? 0) > (stop ?? 0), 'the dead one has to be fenced');
  const left = c.members[second]?.stop();
  await c.clock.advance(1000);
  await left;
  const [third] = c.leaders().filter((i) => i !== first && i !== second);
  t.equal(third, undefined, 'one of three is no majority');
});

/** Three members, one of which leads; the numbers of that and of the others. */
async function elected(): Promise<{ c: Cluster; leader: number; others: number[] }> {
  const c = new Cluster(3);
  await Promise.all([c.join(0), c.join(1), c.join(2)]);
  await c.clock.advance(3000);
  const [leader] = c.leaders();
  if (leader === undefined) throw new Error('no leader');
  return { c, leader, others: [0, 1, 2].filter((i) => i !== leader) };
}

t.test('a member that hears nobody leaves the others alone', async (t) => {
  const { c, others: [deaf = 0] } = await elected();
  const q = c.members[deaf];
  const address = (i: number): number => c.slots[i]?.at.addr ?? 0;
  c.net.passes = (_from, to) => to !== address(deaf);
  await c.clock.advance(20_000);
  const [second] = c.leaders();
  if (second === undefined || q === undefined) throw new Error('no leader');
  const { term } = c.members[second]?.agent ?? { term: 0 };
  t.ok(term > 1, 'it has disturbed them');
  t.match(q.pending(), [{ kind: 'member', text: /^hears no other member, but slot \d was elected / }]);
  await c.clock.advance(30_000);
  t.same(c.leaders(), [second], 'and does so no more');
  t.equal(c.members[second]?.agent.term, term);
  const own = q.agent.term;
  await c.clock.advance(60_000);
  t.ok(q.agent.term > own, 'after a minute it tries again: the others may be dead');
  c.net.passes = () => true;
  await c.clock.advance(1000);
  t.equal(c.leaders().length, 1, 'all hear each other again');
  t.same(c.members.map((m) => m.agent.term), Array(3).fill(c.members[0]?.agent.term));
  t.same(q.pending(), []);
  // What the pause was for is over: it stands as soon as the leader is gone.
  const [last = 0] = c.leaders();
  const gone = c.members[last]?.force();
  await c.clock.advance(12_000);
  await gone;
  t.equal(c.leaders().filter((i) => i !== last).length, 1);
});

t.test('a leader that hears nobody is deposed by those who cannot reach it', async (t) => {
  const { c, leader, others: [one = 0, two = 0] } = await elected();
  const at = c.slots[leader]?.at ?? { addr: 0, port: 0 };
  c.net.passes = (from, to) => to !== at.addr || from === to;
  await c.clock.advance(30_000);
  t.same(c.leaders(), [leader], 'its heartbeats keep the others quiet');
  await c.members[one]?.leaderUnreachable({ addr: 99, port: 1 });
  await c.members[one]?.leaderUnreachable(c.slots[two]?.at ?? at);
  await c.clock.advance(2000);
  t.same(c.leaders(), [leader], 'only whom it hears is meant');
  await c.members[one]?.leaderUnreachable(at);
  await c.clock.advance(2000);
  const now = c.leaders().filter((i) => i !== leader);
  t.equal(now.length, 1, 'one of the others leads');
  const [, , elect] = await c.events(now[0] ?? 0);
  t.ok((elect ?? 0) > (c.members[leader]?.agent.term ?? 0));
});

t.test('a member that nobody hears deposes nobody', async (t) => {
  const { c, leader, others: [mute = 0] } = await elected();
  const at = c.slots[leader]?.at ?? { addr: 0, port: 0 };
  const { term } = c.members[mute]?.agent ?? { term: 0 };
  c.net.passes = (from, to) => from !== c.slots[mute]?.at.addr || from === to;
  await c.members[mute]?.leaderUnreachable(at);
  await c.clock.advance(2000);
  t.equal(c.members[mute]?.agent.term, term, 'it is its own network that does not work');
  c.net.passes = () => true;
  await c.members[mute]?.leaderUnreachable(at);
  await c.clock.advance(2000);
  t.equal(c.leaders().length, 1);
  const later = c.members.map((m) => m.agent.term);
  t.ok(Math.min(...later) > term, 'with a network it would have');
  await c.members[mute]?.leaderUnreachable(at);
  await c.clock.advance(2000);
  t.same(c.members.map((m) => m.agent.term), later, 'not twice within a minute');
});

t.test('heartbeats go on while a block is being written', async (t) => {
  const c = new Cluster(3);
  await Promise.all([c.join(0), c.join(1), c.join(2)]);
  await c.clock.advance(3000);
  const [leader] = c.leaders();
  if (leader === undefined) throw new Error('no leader');
  let release: () => void = () => undefined;
  c.device.gate = new Promise((resolve) => { release = resolve; });
  // Its server stops by itself; recording that takes very long.
  const server = c.servers[leader];
  if (server !== undefined) server.autoUp = false;
  const q = c.members[leader];
  if (q === undefined) throw new Error('no member');
  const stopping = q.stop();
  await c.clock.advance(25_000);
  t.same(c.leaders(), [leader], 'the others keep hearing it');
  c.device.gate = null;
  release();
  await c.clock.advance(1000);
  await stopping;
  await c.clock.advance(1000);
  t.equal(c.leaders().filter((i) => i !== leader).length, 1);
});

t.test('a server that does not start leaves the member in elections', async (t) => {
  const c = new Cluster(1);
  await c.join(0);
  const server = c.servers[0];
  if (server === undefined) throw new Error('no server');
  server.autoUp = false;
  await c.clock.advance(400);
  t.same(server.started, [1]);
  server.become('down');
  await settle();
  await c.clock.advance(50);
  t.same((await c.events(0)).slice(2, 5), [1, 0, 1], 'ELECT and STOP, never FENCE');
  await c.clock.advance(400);
  t.same(server.started, [1, 2]);
});

t.test('two mounts in one slot', async (t) => {
  const c = new Cluster(1);
  await c.join(0);
  const server = c.servers[0];
  await t.rejects(c.join(0), { code: 'EADDRINUSE' });
  await c.clock.advance(500);
  // On another host the address differs; the blocks tell.
  await new OwnQuorumBlock(c.device, FSID, 999n, 0).record(F.QUORUM_EVENT_BEGIN, 1, c.clock.now());
  server?.become('down');
  await c.clock.advance(500);
  t.same(c.failures, ['QUORUM_SLOT_STOLEN']);
  t.same(c.leaders(), []);
  t.equal(server?.status(), 'down');
});
