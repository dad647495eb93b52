/**
 * A quorum member with servers that come up, fail to, take long and break down.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import { randomFrom } from '../../host/env/random.js';
import { viewOf } from '../../host/net/messages.js';
import { errnoError } from '../../host/observe/errors.js';
import { silentLog } from '../../host/observe/log.js';
import { Member } from '../../host/server/member.js';
import { encodeQuorumBlock, readQuorumBlock } from '../../host/server/quorum_block.js';
import type { ServerEvents } from '../../host/server/server_run.js';
import { MemDevice } from '../lib/memdevice.js';
import { SimClock } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';

const FSID = 5n;

interface Fake {
  term: number;
  events: ServerEvents;
  up: () => void;
  broken: () => void;
  stops: number;
  fenced: bigint[];
}

class World {
  readonly clock = new SimClock();
  readonly device = new MemDevice('meta', 1 << 20);
  readonly servers: Fake[] = [];
  readonly told: string[] = [];
  stopMs = 0;

  constructor() {
    const block = F.QuorumBlock.read(viewOf(new Uint8Array(F.QuorumBlock.size)), 0);
    block.hdr = {
      crc: 0, magic: F.BLOCK_MAGIC_QUORUM, fsid: FSID, seq: 1n, blkno: F.QUORUM_BLKNO };
    this.device.writeSync(F.QUORUM_BLKNO * 4096, encodeQuorumBlock(block));
  }

  join(): Promise<Member> {
    return Member.start({
      clock: this.clock, random: randomFrom((len) => new Uint8Array(len)), net: new SimNet(),
      metaDevice: this.device, log: silentLog, fsid: FSID, rid: 9n, slotNr: 0,
      slots: [{ nr: 0, at: { addr: 1, port: 1 } }], heartbeatTimeoutMs: () => 10_000,
      makeServer: (term, events) => this.makeServer(term, events),
      roleChanged: (isLeader) => { this.told.push(isLeader ? 'leader' : 'follower'); },
      serverChanged: (status) => { this.told.push(status); }, serverFailed: () => undefined,
      fencesChanged: (requests) => { this.told.push(`fences ${requests.length}`); },
      failed: () => { this.told.push('failed'); },
    });
  }

  private makeServer(term: number, events: ServerEvents): ReturnType<
  Parameters<typeof Member.start>[0]['makeServer']> {
    const fake: Fake = {
      term, events, up: () => undefined, broken: () => undefined, stops: 0, fenced: [] };
    this.servers.push(fake);
    return {
      start: () => new Promise((resolve, reject) => {
        fake.up = resolve;
        fake.broken = () => { reject(errnoError('EIO')); };
      }),
      stop: async () => {
        fake.stops++;
        if (this.stopMs > 0) await this.clock.sleep(this.stopMs);
      },
      setFenced: (rid) => { fake.fenced.push(rid); },
      setFenceError: () => undefined,
      clientCount: 0,
      takeCounts: () => undefined,
      view: () => [], pending: () => [],
    };
  }
}

t.test('elected, up, left', async (t) => {
  const w = new World();
  const m = await w.join();
  await w.clock.advance(300);
  t.same(w.told, ['leader', 'starting'], 'the role is known before a server starts');
  w.servers[0]?.up();
  await w.clock.advance(10);
  t.equal(m.serverStatus, 'up');
  w.servers[0]?.events.fences([]);
  m.setFenced(3n);
  t.same(w.servers[0]?.fenced, [3n]);
  const left = m.stop();
  await w.clock.advance(500);
  await left;
  t.same(w.told.slice(2), ['up', 'fences 0', 'stopping', 'fences 0', 'down', 'follower']);
});

t.test('a server that cannot start is tried again in a later term', async (t) => {
  const w = new World();
  const m = await w.join();
  await w.clock.advance(300);
  w.servers[0]?.broken();
  await w.clock.advance(20);
  t.equal(m.serverStatus, 'down');
  t.equal(m.isLeader, false);
  await w.clock.advance(900);
  t.same(w.servers.map((s) => s.term), [1], 'not before the pause is over');
  await w.clock.advance(400);
  t.same(w.servers.map((s) => s.term), [1, 2]);
  await m.force();
});

t.test('a server that breaks down is stopped once and replaced', async (t) => {
  const w = new World();
  w.stopMs = 2000;
  const m = await w.join();
  await w.clock.advance(300);
  w.servers[0]?.up();
  await w.clock.advance(10);
  w.servers[0]?.events.failed(errnoError('EIO'));
  w.servers[0]?.events.failed(errnoError('EIO'));
  await w.clock.advance(1000);
  t.equal(m.serverStatus, 'stopping');
  t.equal(w.servers.length, 1, 'no second one before the first is down');
  await w.clock.advance(2000);
  t.equal(w.servers[0]?.stops, 1);
  t.same(w.servers.map((s) => s.term), [1, 2]);
  w.servers[0]?.events.failed(errnoError('EIO'));
  t.equal(m.serverStatus, 'starting', 'what an earlier one says means nothing');
  await m.force();
});

t.test('leaving while the server starts', async (t) => {
  const w = new World();
  const m = await w.join();
  await w.clock.advance(300);
  const left = m.stop();
  await w.clock.advance(500);
  await left;
  t.equal(w.servers[0]?.stops, 1);
  w.servers[0]?.up();
  await w.clock.advance(10);
  t.equal(m.serverStatus, 'down', 'coming up late changes nothing');
});

/** A leader whose server failed because its device takes no writes any more. */
async function leaderWithoutDevice(): Promise<{ w: World; m: Member }> {
  const w = new World();
  const m = await w.join();
  await w.clock.advance(300);
  w.servers[0]?.up();
  await w.clock.advance(10);
  w.device.failWrites = true;
  w.servers[0]?.events.failed(errnoError('EIO'));
  return { w, m };
}

t.test('an agent whose device fails for a while begins again', async (t) => {
  const { w, m } = await leaderWithoutDevice();
  await w.clock.advance(5000);
  t.equal(m.serverStatus, 'down');
  t.equal(w.servers.length, 1, 'no election without a block to record it in');
  w.device.failWrites = false;
  await w.clock.advance(3000);
  t.same(w.servers.map((s) => s.term), [1, 2], 'a new server of a later term');
  t.notOk(w.told.includes('failed'));
  w.servers[1]?.up();
  await w.clock.advance(100);
  const left = m.stop();
  await w.clock.advance(500);
  await left;
});

t.test('an agent that fails does not take its slot back from another mount', async (t) => {
  const { w, m } = await leaderWithoutDevice();
  await w.clock.advance(500);
  w.device.failWrites = false;
  const block = await readQuorumBlock(w.device, 0, FSID);
  const [begin] = block.events;
  if (begin !== undefined) begin.rid = 77n;
  w.device.writeSync(F.QUORUM_BLKNO * 4096, encodeQuorumBlock(block));
  await w.clock.advance(5000);
  t.equal(w.told.at(-1), 'failed');
  t.equal(w.servers.length, 1);
  t.equal((await readQuorumBlock(w.device, 0, FSID)).events[0]?.rid, 77n);
  await m.stop();
});
