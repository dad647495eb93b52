/**
 * Draws faults from the seed and does them.
 *
 * Packets are lost, doubled and late all the time; now and then connections are reset,
 * hosts cut off from some or all others in one direction or both, processes stopped or
 * killed, hosts switched off, clocks set; device operations are slow or fail. What was cut
 * or stopped comes back after some time, dead mounts are mounted again.
 */
import type { Cluster, Member } from './cluster.js';
import type { ClusterWorld } from './world.js';

type Fault = (n: Nemesis) => void;

const FAULTS: readonly Fault[] = [
  (n) => { n.kill(false); },
  (n) => { n.kill(false); },
  (n) => { n.kill(true); },
  (n) => { n.pause(); },
  (n) => { n.pause(); },
  (n) => { n.partition(); },
  (n) => { n.partition(); },
  (n) => { n.reset(); },
  (n) => { n.reset(); },
  (n) => { n.clock(); },
  (n) => { n.powerCut(); },
];

export class Nemesis {
  constructor(private readonly world: ClusterWorld, private readonly cluster: Cluster) {}

  /** Does faults for some simulated time. */
  async run(forMs: number): Promise<void> {
    const { world, cluster } = this;
    const { below } = world;
    const endMs = world.nowMs + forMs;
    const odds = (most: number): number => below(3) === 0 ? 0 : below(most + 1);
    world.rates = {
      udpDrop: odds(30), udpDouble: odds(20), udpLate: odds(20), tcpSplit: odds(30),
      tcpLate: odds(10), lateMs: 1 + below(500), slowIo: odds(3),
      failIo: below(4) === 0 ? 1 + below(4) : 0, fenceSlow: odds(50), fenceFail: odds(20),
    };
    world.note(`rates ${JSON.stringify(world.rates)}`);
    while (world.nowMs < endMs && cluster.model.violations.length === 0) {
      await world.clock.advance(50 + below(3000));
      cluster.noteDeaths();
      FAULTS[below(FAULTS.length)]?.(this);
      for (const m of cluster.members) {
        if (m.mount === null && !m.starting && below(3) === 0) cluster.start(m);
      }
    }
  }

  private member(): Member {
    const { members } = this.cluster;
    const m = members[this.world.below(members.length)];
    if (m === undefined) throw new Error('no members');
    return m;
  }

  private addr(m: Member): number {
    return this.world.host(m.nr).addr;
  }

  kill(withHost: boolean): void {
    const m = this.member();
    if (this.world.host(m.nr).processes.size === 0) return;
    this.world.fault(withHost ? 'power off' : 'kill', m.name);
    this.cluster.kill(m, withHost);
  }

  pause(): void {
    const { world } = this;
    const m = this.member();
    const ms = 100 + world.below(world.below(3) === 0 ? 30_000 : 4000);
    for (const p of world.host(m.nr).processes) {
      const gate = world.gateOf(p);
      world.fault('pause', `${p.name} for ${ms} ms`);
      gate.close();
      world.clock.after(ms, () => { gate.open(); });
    }
  }

  partition(): void {
    const { world, cluster } = this;
    const one = this.member();
    const oneWay = world.below(3);
    const all = world.below(2) === 0;
    for (const m of cluster.members) {
      if (m === one || (!all && world.below(2) === 0)) continue;
      if (oneWay !== 1) world.wire.block(this.addr(one), this.addr(m));
      if (oneWay !== 2) world.wire.block(this.addr(m), this.addr(one));
    }
    const ms = 200 + world.below(world.below(2) === 0 ? 3000 : 30_000);
    world.note(`FAULT partition: ${one.name} from ${all ? 'all' : 'some'}, ${
      ['both ways', 'nothing in', 'nothing out'][oneWay] ?? ''} for ${ms} ms`);
    world.clock.after(ms, () => {
      world.note('partition ends');
      world.wire.heal();
    });
  }

  reset(): void {
    const a = this.member();
    const b = this.member();
    if (a === b) return;
    const n = this.world.wire.reset(this.addr(a), this.addr(b));
    this.world.note(`FAULT reset: ${n} connections of ${a.name} to ${b.name}`);
  }

  /** All hosts and the devices; not in every run. */
  powerCut(): void {
    if (this.world.below(2) === 0) return;
    const { writes, lost } = this.cluster.powerCut();
    this.world.fault('power cut', `everything; of ${writes} writes ${lost} blocks are lost`);
  }

  clock(): void {
    const { world } = this;
    const m = this.member();
    const rate = 0.95 + world.below(11) / 100;
    const wallMs = (world.below(7200) - 3600) * 1000;
    world.fault('clock', `${m.name} at rate ${rate.toFixed(2)}, off by ${wallMs / 1000} s`);
    world.setClock(this.addr(m), rate, wallMs);
  }
}
