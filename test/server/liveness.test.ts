/**
 * Mounts that answer, that take long for what may take long, and that answer nothing.
 */
import t from 'tap';
import type { Question } from '../../host/server/liveness.js';
import { Liveness } from '../../host/server/liveness.js';
import { SimClock } from '../lib/simclock.js';

const PATIENCE_MS = 10_000;
const RID = 7n;

class World {
  readonly clock = new SimClock();
  readonly told: string[] = [];
  readonly away = new Set<bigint>();
  /** Whether probes are answered. */
  alive = true;
  readonly liveness: Liveness = new Liveness({
    clock: this.clock, patienceMs: PATIENCE_MS,
    isConnected: (rid) => !this.away.has(rid),
    probe: (rid) => {
      this.told.push(`probe ${rid}`);
      const q = this.liveness.asked(rid, true);
      if (this.alive) this.liveness.answered(q);
    },
    giveUp: (rid) => {
      this.told.push(`give up ${rid}`);
      this.away.add(rid);
    },
  });

  back(rid: bigint): void {
    this.away.delete(rid);
    this.liveness.connected(rid);
  }
}

t.test('an answer in time', async (t) => {
  const w = new World();
  const q = w.liveness.asked(RID, true);
  await w.clock.advance(PATIENCE_MS - 1);
  w.liveness.answered(q);
  await w.clock.advance(10 * PATIENCE_MS);
  t.same(w.told, []);
});

t.test('no answer: the socket goes, and the next one gets as long', async (t) => {
  const w = new World();
  w.liveness.asked(RID, true);
  w.liveness.answered(w.liveness.asked(8n, true));
  await w.clock.advance(PATIENCE_MS - 1);
  t.same(w.told, []);
  await w.clock.advance(PATIENCE_MS / 4 + 1);
  t.same(w.told, [`give up ${RID}`]);
  await w.clock.advance(5 * PATIENCE_MS);
  t.same(w.told, [`give up ${RID}`], 'without a socket there is nothing to close');
  w.back(RID);
  await w.clock.advance(PATIENCE_MS - 1);
  t.same(w.told.length, 1);
  await w.clock.advance(PATIENCE_MS / 4 + 1);
  t.same(w.told, [`give up ${RID}`, `give up ${RID}`]);
});

t.test('what may take long is no reason, as long as something is answered', async (t) => {
  const w = new World();
  const q: Question = w.liveness.asked(RID, false);
  await w.clock.advance(5 * PATIENCE_MS);
  t.ok(w.told.length >= 10, 'it is asked again and again');
  t.same([...new Set(w.told)], [`probe ${RID}`]);
  w.alive = false;
  w.told.length = 0;
  await w.clock.advance(2 * PATIENCE_MS);
  t.same(w.told, [`probe ${RID}`, `give up ${RID}`], 'one open probe is enough');
  w.back(RID);
  w.liveness.answered(q);
  w.liveness.stop();
  w.liveness.asked(RID, true);
  await w.clock.advance(5 * PATIENCE_MS);
  t.equal(w.told.length, 2, 'a server that has stopped asks nobody');
});
