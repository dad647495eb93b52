/**
 * Members whose own servers fail at once: they stand again after growing pauses, while
 * they go on voting and the others stand as ever.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import { randomFrom } from '../../host/env/random.js';
import { viewOf } from '../../host/net/messages.js';
import { errnoError } from '../../host/observe/errors.js';
import { silentLog } from '../../host/observe/log.js';
import {
  SERVER_RAN_MS, STAND_PAUSE_MAX_MS, STAND_PAUSE_MIN_MS, StandBackoff,
} from '../../host/server/backoff.js';
import { Member } from '../../host/server/member.js';
import { encodeQuorumBlock } from '../../host/server/quorum_block.js';
import type { ServerEvents, ServerRun } from '../../host/server/server_run.js';
import { MemDevice } from '../lib/memdevice.js';
import { SimClock } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';

const FSID = 5n;
const HEARTBEAT_TIMEOUT_MS = 10_000;

t.test('pauses', async (t) => {
  const b = new StandBackoff();
  t.equal(b.standAtMs, 0, 'none before a failure');
  const pauses = Array.from({ length: 7 }, (_, i) => b.failed(100_000 * i));
  t.same(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  t.equal(b.standAtMs, 600_000 + STAND_PAUSE_MAX_MS);
  b.up(1_000_000);
  t.equal(b.failed(1_000_000 + SERVER_RAN_MS - 1), STAND_PAUSE_MAX_MS, 'one that hardly ran');
  b.up(2_000_000);
  t.equal(b.failed(2_000_000 + SERVER_RAN_MS), STAND_PAUSE_MIN_MS, 'one that ran');
  b.failed(3_000_000);
  b.up(4_000_000);
  b.stopped(4_000_000 + SERVER_RAN_MS);
  t.equal(b.failed(5_000_000), STAND_PAUSE_MIN_MS, 'one that ran and was asked to stop');
  b.up(6_000_000);
  b.stopped(6_000_001);
  t.equal(b.failed(6_000_002), 2 * STAND_PAUSE_MIN_MS, 'being deposed proves nothing');
});

/** Members whose servers fail to start, or come up, as `good` says. */
class World {
  readonly clock = new SimClock();
  readonly net = new SimNet();
  readonly device = new MemDevice('meta', 1 << 20);
  readonly good = new Set<number>();
  readonly failAfterUp = new Set<number>();
  /** slot and time of every server that was started */
  readonly starts: { slot: number; atMs: number }[] = [];
  private readonly slots;
  private seed = 7;

  constructor(nr: number) {
    this.slots = Array.from({ length: nr }, (_, i) => ({ nr: i, at: { addr: i + 1, port: 19700 } }));
    for (let i = 0; i < nr; i++) {
      const block = F.QuorumBlock.read(viewOf(new Uint8Array(F.QuorumBlock.size)), 0);
      block.hdr = {
        crc: 0, magic: F.BLOCK_MAGIC_QUORUM, fsid: FSID, seq: 1n, blkno: F.QUORUM_BLKNO + i,
      };
      this.device.writeSync((F.QUORUM_BLKNO + i) * 4096, encodeQuorumBlock(block));
    }
  }

  join(i: number): Promise<Member> {
    return Member.start({
      clock: this.clock, net: this.net.host(i + 1), metaDevice: this.device, log: silentLog,
      random: randomFrom((len) => new Uint8Array(len).map(() => {
        this.seed = (this.seed * 1103515245 + 12345) % 2147483648;
        return this.seed >>> 16;
      })),
      fsid: FSID, rid: BigInt(100 + i), slotNr: i, slots: this.slots,
      heartbeatTimeoutMs: () => HEARTBEAT_TIMEOUT_MS,
      makeServer: (_term, events) => this.server(i, events),
      roleChanged: () => undefined, serverChanged: () => undefined, serverFailed: () => undefined,
      fencesChanged: () => undefined, failed: (e) => { throw e; },
    });
  }

  private server(slot: number, events: ServerEvents): ServerRun {
    return {
      start: async () => {
        this.starts.push({ slot, atMs: this.clock.monotonicMs() });
        await this.clock.sleep(20);
        if (!this.good.has(slot)) throw errnoError('EIO', 'damage');
        if (this.failAfterUp.has(slot)) {
          this.clock.after(10, () => { events.failed(errnoError('EIO', 'damage')); });
        }
      },
      stop: async () => undefined,
      setFenced: () => undefined, setFenceError: () => undefined, takeCounts: () => undefined,
      clientCount: 0, view: () => [], pending: () => [],
    };
  }

  gaps(slot: number): number[] {
    const at = this.starts.filter((s) => s.slot === slot).map((s) => s.atMs);
    return at.slice(1).map((ms, i) => Math.floor((ms - (at[i] ?? 0)) / 1000));
  }
}

t.test('alone with damage', async (t) => {
  for (const how of ['cannot start', 'fails when it is up'] as const) {
    const w = new World(1);
    if (how === 'fails when it is up') {
      w.good.add(0);
      w.failAfterUp.add(0);
    }
    const m = await w.join(0);
    await w.clock.advance(130_000);
    t.same(w.gaps(0), [1, 2, 4, 8, 16, 30, 30, 30], `${how}: seconds between two servers`);
    w.good.add(0);
    w.failAfterUp.clear();
    await w.clock.advance(STAND_PAUSE_MAX_MS);
    t.equal(m.serverStatus, 'up', `${how}: repaired`);
    const left = m.stop();
    await w.clock.advance(1000);
    await left;
  }
});

t.test('the others do not wait, and get the vote of the one that pauses', async (t) => {
  const w = new World(3);
  // Two of three: nobody leads without the other's vote.
  const bad = await w.join(0);
  const good = await w.join(1);
  w.good.add(1);
  for (let round = 0; round < 8 && good.serverStatus !== 'up'; round++) {
    await w.clock.advance(1000);
  }
  t.equal(good.serverStatus, 'up', 'within seconds');
  t.ok(w.gaps(0).every((secs) => secs >= 1), 'the failing one paused');
  const before = w.starts.length;
  await w.clock.advance(120_000);
  t.equal(w.starts.length, before, 'heartbeats keep it from standing');
  const gone = good.force();
  await w.clock.advance(10);
  await gone;
  const leaving = bad.stop();
  await w.clock.advance(1000);
  await leaving;
});

t.test('a pause does not delay the answer to a candidate', async (t) => {
  const w = new World(3);
  const bad = await w.join(0);
  const alsoBad = await w.join(1);
  // Long pauses on both sides.
  await w.clock.advance(150_000);
  w.good.add(2);
  const late = await w.join(2);
  await w.clock.advance(2000);
  t.equal(late.serverStatus, 'up', 'a newcomer is elected at once by members that pause');
  for (const m of [late, bad, alsoBad]) {
    const left = m.stop();
    await w.clock.advance(1000);
    await left;
  }
});
