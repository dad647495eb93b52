/**
 * Three hosts, each with a network of its own, work on one volume and lose one of them in every
 * way: its daemon is killed, it stops, its cable is cut, a packet filter drops what comes in,
 * what goes out, or both.
 *
 *   node dist/test/failover/lost_hosts.js leader:in follower:cable follower:stop:short
 *
 * `scoutfs fenced` runs on every host and has a power switch. A host that stays away is fenced,
 * by the others alone, and mounts again; one that is `short` away is waited for. Nobody else
 * may be fenced and no operation of the others may fail; what is fenced answers that it is gone
 * and nothing else; what was synced is there, and the volume is sound. A follower that is cut off
 * says in its log and to `scoutfs cluster` that it has no server, and whoever waits can be killed.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, until } from '../lib/clustermounts.js';
import { Fencing } from '../lib/fencing.js';
import type { Cut } from '../lib/netns.js';
import { NetHosts } from '../lib/netns.js';
import { ifProgram } from '../lib/program.js';
import { tempDir } from '../lib/shared.js';
import { Load } from './load.js';
import type { TrialResult } from './trial.js';
import { Trial } from './trial.js';

const HOSTS = 3;
const HEARTBEAT_MS = 2000;
const OPTIONS = `quorum_heartbeat_timeout_ms=${HEARTBEAT_MS},tcp_keepalive_timeout_ms=3001`;
/** A host that hears nobody disturbs elections for a while before it is fenced. */
const FENCED_LIMIT_MS = 240_000;
/** Much shorter than what makes a server give a client up. */
const SHORT_MS = 4000;
/** A leader is away for a moment only while nobody elects another one for so long. */
const PATIENT_HEARTBEAT_MS = 60_000;
/** What a mount that was cut off may answer. */
const GONE = ['ENOTCONN', 'ECONNABORTED', 'EIO', 'ENOLINK'];

export const FAULTS = ['kill', 'stop', 'cable', 'both', 'in', 'out'] as const;
export type Fault = 'kill' | 'stop' | Cut;

/** Who is away, why, and whether only for a moment. */
export interface Loss {
  role: 'leader' | 'follower';
  fault: Fault;
  short?: boolean;
}

class LostHosts extends Trial<Loss> {
  /** Mounts that were lost on purpose. */
  private readonly lost = new Set<string>();
  private followers = 0;

  constructor(cluster: ClusterMounts, private readonly net: NetHosts,
    private readonly fencing: Fencing, told: (note: string) => void) {
    super(cluster, told);
  }

  protected async run(l: Loss): Promise<void> {
    await this.working();
    await this.agreed();
    const leader = await this.cluster.newLeader();
    const n = l.role === 'leader' ? leader : this.follower(leader);
    const what = `${l.role} ${n.nr}, ${l.fault}`;
    if (l.short === true) await this.interrupt(l, n, what);
    else await this.lose(l, n, what);
    const others = this.fencing.calls.filter((c) => !this.lost.has(c.rid));
    for (const c of others) this.problem(`${what}: fenced as well: ${JSON.stringify(c)}`);
  }

  /** Another one each time. */
  private follower(leader: ClusterNode): ClusterNode {
    const all = this.cluster.nodes.filter((n) => n !== leader);
    return all[this.followers++ % all.length] ?? leader;
  }

  /** A member that was alone stands for election in a late term once it is back. */
  private async agreed(): Promise<void> {
    const terms = (): Set<string> => new Set(this.cluster.nodes.map((n) =>
      /^term (\d+)$/m.exec(n.show('quorum', 'status'))?.[1] ?? ''));
    await until(() => terms().size === 1 && this.cluster.leader !== null, 'all are of one term');
  }

  private async setHeartbeatTimeout(ms: number): Promise<void> {
    for (const n of this.cluster.nodes) {
      fs.writeFileSync(n.control('mount_options', 'quorum_heartbeat_timeout_ms'), `${ms}`);
    }
    // it counts from the next heartbeat on
    await sleep(HEARTBEAT_MS / 2);
  }

  private strike(fault: Fault, n: ClusterNode): void {
    if (fault === 'kill') process.kill(n.pid, 'SIGKILL');
    else if (fault === 'stop') n.stop();
    else this.net.cut(n.nr, fault);
  }

  /** Loses a host until the others have had it fenced, and mounts it again. */
  private async lose({ role, fault }: Loss, n: ClusterNode, what: string): Promise<void> {
    const { rid } = n;
    const sinceMs = Date.now();
    const passedMs = (): number => Date.now() - sinceMs;
    this.lost.add(rid);
    this.strike(fault, n);
    if (role === 'follower' && fault !== 'kill' && fault !== 'stop') await this.waits(n, what);
    await until(() => this.fencing.callsFor(rid).some((c) => c.done !== null),
      `${what}: it is fenced`, FENCED_LIMIT_MS);
    const fencedMs = passedMs();
    if (n.pid !== 0) this.problem(`${what}: its daemon runs after it was fenced`);
    await this.working(this.cluster.nodes.filter((o) => o !== n));
    const workMs = passedMs();
    await this.load(n).ended;
    const code = this.load(n).error?.code ?? 'nothing';
    if (!GONE.includes(code)) this.problem(`${what}: the lost mount answers ${code}`);
    this.net.join(n.nr);
    const mountMs = Date.now();
    await n.mount();
    this.note(`${what}: fenced after ${fencedMs} ms, the others work after ${workMs} ms; back ` +
      `after ${Date.now() - mountMs} ms`);
    this.loads[n.nr] = new Load(n.mnt, this.promised);
    await this.working();
  }

  /** A program that needs the server waits, the wait is told of, and a signal ends it. */
  private async waits(n: ClusterNode, what: string): Promise<void> {
    const child = spawn('mkdir', [n.p(`waits${this.notes.length}`)], { stdio: 'ignore' });
    const ended = new Promise<string>((resolve) => {
      child.once('close', (status, signal) => { resolve(signal ?? `status ${status}`); });
    });
    await until(async () => (await n.waits()).some((w) => w.startsWith('server no server: ')),
      `${what}: scoutfs cluster says that it has no server`);
    await until(() => / client: lost /.test(n.logText()), `${what}: the log says so too`);
    child.kill('SIGKILL');
    const how = await ended;
    if (how !== 'SIGKILL') this.problem(`${what}: mkdir ended with ${how}`);
  }

  private async interrupt({ role, fault }: Loss, n: ClusterNode, what: string): Promise<void> {
    if (role === 'leader') await this.setHeartbeatTimeout(PATIENT_HEARTBEAT_MS);
    this.strike(fault, n);
    await sleep(SHORT_MS);
    const backMs = Date.now();
    if (fault === 'stop') n.cont();
    else this.net.join(n.nr);
    await this.working();
    if (role === 'leader') await this.setHeartbeatTimeout(HEARTBEAT_MS);
    this.note(`${what} for a moment: all work ${Date.now() - backMs} ms after it`);
  }

  protected async finish(): Promise<void> {
    await Promise.all(this.loads.map((l) => l.stop()));
    for (const l of this.loads) if (l.error !== null) this.problem(`${l.dir}: ${l.error.message}`);
    for (const n of this.cluster.nodes) {
      for (const b of this.promised.broken(n.mnt)) this.problem(`node ${n.nr}: ${b}`);
    }
    await this.cluster.umountAll();
    for (const f of await this.cluster.check()) this.problem(`check: ${f}`);
    // Those of a host that is stopped do not.
    const said = this.fencing.complaints.filter((l) => !l.includes('does not answer'));
    for (const l of said) this.problem(`scoutfs fenced: ${l}`);
    const statuses = await this.fencing.stop();
    if (statuses.some((s) => s !== 0)) {
      this.problem(`scoutfs fenced ended with ${statuses.join(', ')}`);
    }
  }

  async end(): Promise<void> {
    await Promise.all(this.loads.map((l) => l.kill()));
  }
}

/** Loses hosts, one after the other. @param told hears of everything at once */
export async function loseHosts(losses: readonly Loss[],
  told: (note: string) => void = () => undefined): Promise<TrialResult> {
  const { dir, remove } = tempDir('scoutfs-netns');
  const ends: (() => unknown)[] = [remove];
  try {
    const net = new NetHosts(dir, HOSTS);
    ends.push(() => { net.end(); });
    const cluster = await ClusterMounts.start('lost-hosts',
      { members: HOSTS, options: OPTIONS, hosts: net.hosts });
    ends.push(() => cluster.end());
    const fencing = await Fencing.start(`${dir}/fencing`, net.hosts);
    ends.push(() => { fencing.end(); });
    const hosts = new LostHosts(cluster, net, fencing, told);
    ends.push(() => hosts.end());
    await hosts.runAll(losses);
    return hosts;
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

/** What an argument of the program means. */
function lossOf(word: string): Loss {
  const [role, name, short] = word.split(':');
  const fault = FAULTS.find((f) => f === name);
  if ((role !== 'leader' && role !== 'follower') || fault === undefined) {
    throw new Error(`'${word}' is not (leader|follower):(${FAULTS.join('|')})[:short]`);
  }
  return { role, fault, short: short === 'short' };
}

async function main(): Promise<number> {
  const r = await loseHosts(process.argv.slice(2).map(lossOf), (note) => { console.log(note); });
  console.log(`${r.problems.length} problems`);
  return r.problems.length === 0 ? 0 : 1;
}

ifProgram(import.meta.url, main);
