/**
 * Mounts on hosts of their own are lost together: one client, all clients, the leader, and
 * everything (row fence-and-reclaim of the acceptance catalogue).
 *
 * Whoever serves then has them fenced by `scoutfs fenced` and its program, each at the address
 * that it was mounted from and for the reason that applies; only what was lost on the leader's
 * own host needs no program. Nobody else is fenced. What was lost is reclaimed and mounts again,
 * what it had synced is there, and all read what all write.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, until } from '../lib/clustermounts.js';
import { Fencing } from '../lib/fencing.js';
import { nightly } from '../lib/mounted.js';
import { NetHosts, skipWithoutNetns } from '../lib/netns.js';
import { tempDir } from '../lib/shared.js';
import { contentsOf } from './load.js';

const [MEMBERS, CLIENTS] = [3, 2];
const OPTIONS = 'quorum_heartbeat_timeout_ms=2000';
/** From the loss, or from the return when nobody was left, to the call of the program. */
const FENCED_LIMIT_MS = 90_000;
const ROUNDS = 2;

type Group = 'one client' | 'all clients' | 'the leader' | 'everything';
type Way = 'kill' | 'force';
interface Loss {
  group: Group;
  way: Way;
}

const SHORT: readonly Loss[] = [
  { group: 'all clients', way: 'kill' }, { group: 'the leader', way: 'force' },
  { group: 'everything', way: 'kill' },
];
const LONG: readonly Loss[] = Array.from({ length: ROUNDS }, () =>
  (['one client', 'all clients', 'the leader', 'everything'] as const).flatMap((group) =>
    (['kill', 'force'] as const).map((way) => ({ group, way })))).flat();

function termOf(n: ClusterNode): string {
  return /^term (\d+)$/m.exec(n.show('quorum', 'status'))?.[1] ?? '';
}

class Hosts {
  /** Files that somebody has synced. */
  private readonly synced: string[] = [];
  private readonly lost = new Set<string>();

  constructor(private readonly t: Test, private readonly cluster: ClusterMounts,
    private readonly fencing: Fencing) {}

  /** All write and sync, and all read everything. */
  work(what: string): void {
    for (const n of this.cluster.nodes) {
      const name = `f${this.synced.length}`;
      const fd = fs.openSync(n.p(name), 'w');
      fs.writeSync(fd, contentsOf(name));
      fs.fsyncSync(fd);
      fs.closeSync(fd);
      this.synced.push(name);
    }
    const broken = this.cluster.nodes.flatMap((n) => this.synced
      .filter((name) => !fs.readFileSync(n.p(name)).equals(contentsOf(name)))
      .map((name) => `${name} on node ${n.nr}`));
    this.t.strictSame(broken, [], `${what}: all read what all have written`);
  }

  private members(group: Group, leader: ClusterNode): ClusterNode[] {
    const clients = this.cluster.nodes.filter((n) => n.slot === null);
    switch (group) {
      case 'one client': return clients.slice(0, 1);
      case 'all clients': return clients;
      case 'the leader': return [leader];
      case 'everything': return [...this.cluster.nodes];
    }
  }

  async lose({ group, way }: Loss): Promise<void> {
    const what = `${group}, ${way}`;
    const before = await this.cluster.newLeader();
    const ledBefore = `${before.rid} ${termOf(before)}`;
    const lost = this.members(group, before).map((node) => ({ node, rid: node.rid }));
    // not synced: may be lost, but has to leave the volume as it should be
    for (const { node } of lost) fs.writeFileSync(node.p(`unsynced${node.nr}`), what);
    const sinceMs = Date.now();
    await Promise.all(lost.map(async ({ node, rid }) => {
      this.lost.add(rid);
      if (way === 'kill') await node.kill();
      else await node.must('umount', '-f', node.mnt);
    }));
    // Without members nobody can do anything before they return.
    if (group === 'everything') await this.cluster.mountAll();
    await until(() => !this.known().some((rid) => this.lost.has(rid)),
      `${what}: all are reclaimed`, FENCED_LIMIT_MS);
    const leader = await this.cluster.newLeader();
    // Who still leads has waited for clients to reconnect; a new one waits for all to recover.
    const client = `${leader.rid} ${termOf(leader)}` === ledBefore ? 'client_reconnect'
      : 'client_(reconnect|recovery)';
    for (const { node, rid } of lost) {
      this.asked(what, node, rid, node === leader, node === before ? 'quorum_block_leader' : client);
    }
    this.t.comment(`${what}: reclaimed within ${Date.now() - sinceMs} ms`);
    await this.cluster.mountAll();
    this.work(what);
    this.t.strictSame(this.fencing.calls.filter((c) => !this.lost.has(c.rid)), [],
      `${what}: nobody else was fenced`);
  }

  /** Mounts that the server knows; those that were lost as long as there is none. */
  private known(): string[] {
    const text = this.cluster.leader?.show('debug', 'mounts') ?? '';
    return text === '' ? [...this.lost] : text.match(/\b[0-9a-f]{16}\b/g) ?? [];
  }

  /** The program was called with the address, for the reason, where the mount had a host. */
  private asked(what: string, node: ClusterNode, rid: string, leads: boolean, reason: string):
  void {
    const { addr } = node.host;
    const calls = this.fencing.callsFor(rid);
    // a host answers for itself
    if (leads && calls.length === 0) return;
    this.t.ok(calls.some((c) => c.done !== null), `${what}: node ${node.nr} was fenced`);
    this.t.ok(calls.every((c) => c.addr === addr), `at ${addr}`);
    const said = this.cluster.nodes.map((n) => this.fencing.said(n.nr)).join('');
    this.t.match(said, new RegExp(`fencing rid ${rid} at IP ${addr} for ${reason}\n`), reason);
  }

  async finish(): Promise<void> {
    await this.cluster.umountAll();
    this.t.strictSame(await this.cluster.check(), [], 'check is clean');
    // a mount that starts or ends may be silent for a moment
    this.t.strictSame(this.fencing.complaints.filter((l) => !l.includes('does not answer')), [],
      'scoutfs fenced had no trouble');
    const statuses = await this.fencing.stop();
    this.t.strictSame(statuses, statuses.map(() => 0), 'and ends when it is told to');
  }
}

const how = { skip: skipWithoutNetns(), timeout: 3_600_000 };
void t.test('lost mounts are fenced and reclaimed', how, async (tt) => {
  const { dir, remove } = tempDir('scoutfs-netns');
  const net = new NetHosts(dir, MEMBERS + CLIENTS);
  tt.teardown(() => {
    net.end();
    remove();
  });
  const cluster = await ClusterMounts.start('reclaim',
    { members: MEMBERS, clients: CLIENTS, options: OPTIONS, hosts: net.hosts });
  tt.teardown(() => cluster.end());
  const fencing = await Fencing.start(join(dir, 'fencing'), net.hosts);
  tt.teardown(() => { fencing.end(); });
  const hosts = new Hosts(tt, cluster, fencing);
  hosts.work('at first');
  for (const loss of nightly() ? LONG : SHORT) await hosts.lose(loss);
  await hosts.finish();
});
