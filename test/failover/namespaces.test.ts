/**
 * Three hosts, each with a network of its own, lose one of them in every way: its daemon is
 * killed, it stops, its cable is cut. The other two go on without an operator, the lost one
 * comes back, nothing that was synced is lost.
 *
 * A fencing agent on every host kills the daemon that it is asked to cut off, as a power switch
 * would. What is fenced answers that it is gone, and never anything else.
 *
 * In the common run the leader is lost in each way; in scripts/nightly every host, several
 * times, and short interruptions, which nobody is fenced for.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, until } from '../lib/clustermounts.js';
import { nightly } from '../lib/mounted.js';
import { NetHosts, skipWithoutNetns } from '../lib/netns.js';
import { tempDir } from '../lib/shared.js';
import { FenceAgents } from './fence_agent.js';
import { Load, Promised } from './load.js';

const HOSTS = 3;
const LIMIT_MS = 1_800_000;
const OPTIONS = 'quorum_heartbeat_timeout_ms=2000,tcp_keepalive_timeout_ms=3001';
const ROUNDS = nightly() ? 5 : 1;
/** Much shorter than what makes a server give a client up. */
const SHORT_MS = 4000;
/** What a mount that was cut off may answer. */
const GONE = ['ENOTCONN', 'ECONNABORTED', 'EIO', 'ENOLINK'];

type Fault = 'kill' | 'stop' | 'cut';

class Hosts {
  readonly promised = new Promised();
  readonly loads: Load[];
  private readonly rids = new Map<string, ClusterNode>();
  readonly agents: FenceAgents;

  constructor(readonly t: Test, readonly cluster: ClusterMounts, readonly net: NetHosts) {
    this.loads = cluster.nodes.map((n) => this.started(n));
    this.agents = new FenceAgents(net.hosts.map((h) => h.runDir), async (rid) => {
      const node = this.rids.get(rid);
      if (node !== undefined && node.pid !== 0 && node.rid === rid) await node.kill();
    });
  }

  private started(n: ClusterNode): Load {
    this.rids.set(n.rid, n);
    return new Load(n.mnt, this.promised);
  }

  private load(n: ClusterNode): Load {
    const load = this.loads[n.nr];
    if (load === undefined) throw new Error(`no load ${n.nr}`);
    return load;
  }

  async working(nodes: readonly ClusterNode[]): Promise<void> {
    const sinceMs = Date.now();
    await Promise.all(nodes.map((n) => this.load(n).first(sinceMs)));
  }

  private strike(fault: Fault, n: ClusterNode): void {
    if (fault === 'kill') process.kill(n.pid, 'SIGKILL');
    else if (fault === 'stop') n.stop();
    else this.net.cut(n.nr);
  }

  /** Loses a host until the others have had it fenced, and mounts it again. */
  async lose(fault: Fault, n: ClusterNode): Promise<void> {
    const { rid } = n;
    const others = this.cluster.nodes.filter((o) => o !== n);
    const sinceMs = Date.now();
    this.strike(fault, n);
    await this.working(others);
    this.t.comment(`${fault}: the others work after ${Date.now() - sinceMs} ms`);
    await until(() => n.pid === 0, `node ${n.nr} is fenced`);
    if (fault !== 'kill') {
      this.t.ok(this.agents.fenced.some((f) => f.rid === rid), `${fault}: the agent was asked`);
    }
    await this.load(n).ended;
    this.t.ok(GONE.includes(this.load(n).error?.code ?? ''),
      `${fault}: the lost mount answers ${this.load(n).error?.code ?? 'nothing'}`);
    this.net.join(n.nr);
    const mountMs = Date.now();
    await n.mount();
    this.t.comment(`${fault}: back after ${Date.now() - mountMs} ms`);
    this.loads[n.nr] = this.started(n);
    await this.working(this.cluster.nodes);
  }

  /** A host that does not lead is away for a moment: it is waited for. */
  async interrupt(fault: 'stop' | 'cut', n: ClusterNode): Promise<void> {
    const fenced = this.agents.fenced.length;
    this.strike(fault, n);
    await sleep(SHORT_MS);
    if (fault === 'stop') n.cont();
    else this.net.join(n.nr);
    await this.working(this.cluster.nodes);
    this.t.equal(this.agents.fenced.length, fenced, `${fault} for a moment: nobody is fenced`);
  }

  async finish(): Promise<void> {
    await Promise.all(this.loads.map((l) => l.stop()));
    this.t.strictSame(this.loads.map((l) => l.error), this.loads.map(() => null),
      'no operation failed on a mount that was not lost');
    for (const n of this.cluster.nodes) {
      this.t.strictSame(this.promised.broken(n.mnt), [], `synced files on node ${n.nr}`);
    }
    await this.cluster.umountAll();
    this.t.strictSame(await this.cluster.check(), [], 'check is clean');
  }

  async end(): Promise<void> {
    this.agents.end();
    await Promise.all(this.loads.map((l) => l.kill()));
  }
}

const how = { skip: skipWithoutNetns(), timeout: LIMIT_MS };
void t.test('three hosts lose one', how, async (tt) => {
  const { dir, remove } = tempDir('scoutfs-netns');
  const net = new NetHosts(dir, HOSTS);
  tt.teardown(() => {
    net.end();
    remove();
  });
  const cluster = await ClusterMounts.start('namespaces',
    { members: HOSTS, options: OPTIONS, hosts: net.hosts });
  tt.teardown(() => cluster.end());
  const hosts = new Hosts(tt, cluster, net);
  tt.teardown(() => hosts.end());
  await hosts.working(cluster.nodes);
  for (let round = 0; round < ROUNDS; round++) {
    for (const fault of ['kill', 'stop', 'cut'] as const) {
      await hosts.lose(fault, await cluster.newLeader());
      if (!nightly()) continue;
      const follower = cluster.nodes.find((n) => !n.isLeader) ?? cluster.node(0);
      await hosts.lose(fault, follower);
      if (fault !== 'kill') await hosts.interrupt(fault, follower);
    }
  }
  await hosts.finish();
});
