/**
 * Draws faults from the seed and does them.
 *
 * Packets are lost, doubled and late all the time; now and then connections are reset,
 * hosts cut off from some or all others in one direction or both, processes stopped or
 * killed, hosts switched off, clocks set; device operations are slow or fail. A third of it
 * meets the host with the server, and some of that in the middle of a commit (`ambush`).
 * What was cut or stopped comes back after some time, dead mounts are mounted again. Search
 * files are ended early, so that there are some to compact.
 */
import type { Cluster, Member } from './cluster.js';
import type { ClusterWorld } from './world.js';

type Fault = (n: Nemesis) => void;

const ROTATE = 'srch_force_log_rotate';

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
  (n) => { n.leave(); },
  (n) => { n.ambush(); },
  (n) => { n.ambush(); },
  (n) => { n.ambush(); },
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
      slowData: below(2) === 0 ? 20 + below(80) : 0,
      failIo: below(3) === 0 ? 1 + below(10) : 0, fenceSlow: odds(80), fenceFail: odds(20),
    };
    world.note(`rates ${JSON.stringify(world.rates)}`);
    while (world.nowMs < endMs && cluster.model.violations.length === 0) {
      await world.clock.advance(50 + below(3000));
      cluster.noteDeaths();
      FAULTS[below(FAULTS.length)]?.(this);
      if (below(2) === 0) cluster.leader?.mount?.client.member?.armTrigger(ROTATE, true);
      for (const m of cluster.members) {
        if (m.mount === null && !m.starting && below(3) === 0) cluster.start(m);
      }
    }
  }

  /** Somebody; the one with the server more often than others. */
  private member(): Member {
    const { members, leader } = this.cluster;
    if (leader !== null && this.world.below(3) === 0) return leader;
    const m = members[this.world.below(members.length)];
    if (m === undefined) throw new Error('no members');
    return m;
  }

  private addr(m: Member): number {
    return this.world.host(m.nr).addr;
  }

  kill(withHost: boolean, m = this.member()): void {
    if (this.world.host(m.nr).processes.size === 0) return;
    this.world.fault(withHost ? 'power off' : 'kill', m.name);
    this.cluster.kill(m, withHost);
  }

  /** Something happens to a server or mount while it works on its devices. */
  ambush(): void {
    const { world, cluster } = this;
    const kind = world.below(5);
    world.ambush = {
      ofServers: world.below(3) !== 0,
      left: 1 + world.below(30),
      strike: (p) => {
        const m = cluster.members.find((x) => x.nr === p.host.nr);
        if (m === undefined || !p.alive()) return;
        if (kind <= 1) this.pause(m, 1000 + world.below(10_000));
        else if (kind <= 3) this.kill(kind === 3, m);
        else this.powerCut();
      },
    };
  }

  /** No fault, but what others have to cope with all the same. */
  leave(): void {
    const m = this.member();
    this.world.note(`${m.name} leaves`);
    this.cluster.leave(m);
  }

  pause(m = this.member(), ms = this.pauseMs()): void {
    const { world } = this;
    for (const p of world.host(m.nr).processes) {
      const gate = world.gateOf(p);
      world.fault('pause', `${p.name} for ${ms} ms`);
      gate.close();
      world.clock.after(ms, () => { gate.open(); });
    }
  }

  private pauseMs(): number {
    const { below } = this.world;
    return 100 + below(below(3) === 0 ? 30_000 : 4000);
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
    const { wire } = this.world;
    const open = wire.connections();
    const s = open[this.world.below(open.length)];
    if (s === undefined) return;
    this.world.note(`FAULT reset: a connection of ${hostName(s.local.addr)} to ${
      hostName(s.remote.addr)}`);
    wire.reset(s);
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

function hostName(addr: number): string {
  return `m${addr & 0xff}`;
}
