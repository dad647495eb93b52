/**
 * A host loses its storage while its network goes on: its metadata or data device answers EIO,
 * or nothing at all.
 *
 *   node dist/test/failover/storage.js leader:meta:fail follower:data:hang follower:meta:fail:kill
 *
 * Three hosts with networks of their own work on one volume; each sees it through devices that
 * can be made to fail (faulty_device.ts), and has `scoutfs fenced` with a power switch. The host
 * that is cut off says in its log and to `scoutfs cluster` what it waits for, and answers EIO,
 * waits, or answers rightly; whoever waits can be killed. The others go on: a leader whose
 * metadata device fails is fenced by them, a follower is left alone, because its device may come
 * back. They wait only for locks that it holds, and for a leader whose device hangs. When the
 * devices are well again, or the host was fenced and has mounted again, everything that was
 * synced is there and the volume is sound.
 */
import { fork } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, until } from '../lib/clustermounts.js';
import type { Mode } from '../lib/faulty_device.js';
import { FaultyDevices } from '../lib/faulty_device.js';
import { Fencing } from '../lib/fencing.js';
import { NetHosts } from '../lib/netns.js';
import { ifProgram } from '../lib/program.js';
import { tempDir } from '../lib/shared.js';
import { Load, contentsOf } from './load.js';
import type { TrialResult } from './trial.js';
import { Trial } from './trial.js';

const HOSTS = 3;
const OPTIONS = 'quorum_heartbeat_timeout_ms=2000,tcp_keepalive_timeout_ms=10000';
/** How long devices are away, unless their host is fenced for it. */
const AWAY_MS = 5000;
/** What programs on the host that is cut off may get, before and after it was fenced. */
const ERRORS = ['EIO', 'ENOTCONN', 'ECONNABORTED', 'ENOLINK'];

export interface Loss {
  role: 'leader' | 'follower';
  device: 'meta' | 'data';
  mode: Exclude<Mode, 'well'>;
  /** Its daemon is killed meanwhile. */
  kill?: boolean;
}

class Storage extends Trial<Loss> {
  constructor(cluster: ClusterMounts, private readonly fencing: Fencing,
    private readonly devices: readonly FaultyDevices[], told: (note: string) => void) {
    super(cluster, told);
    for (const n of cluster.nodes) fs.mkdirSync(n.p(Caller.dirOf(n)));
  }

  protected async run(l: Loss): Promise<void> {
    await this.working();
    const leader = await this.cluster.newLeader();
    const n = l.role === 'leader' ? leader
      : this.cluster.nodes.find((o) => o !== leader) ?? leader;
    const what = `${l.role} ${n.nr}, ${l.device} ${l.mode}s`;
    // A leader that cannot write its quorum block cannot resign either.
    const isLost = l.kill === true
      || (l.role === 'leader' && l.device === 'meta' && l.mode === 'fail');
    await this.cutOff(l, n, what, isLost);
    await this.set(n, l.device, 'well');
    if (isLost) await n.mount();
    await this.revive(n, what);
    await this.working();
    this.note(`${what}: all work again`);
  }

  private async set(n: ClusterNode, device: string, mode: Mode): Promise<void> {
    await this.devices[n.nr]?.set(device, mode);
  }

  private async cutOff({ device, mode, role, kill }: Loss, n: ClusterNode, what: string,
    isLost: boolean): Promise<void> {
    const { rid } = n;
    const hits = this.devices[n.nr]?.hits ?? 0;
    const sinceMs = Date.now();
    await this.set(n, device, mode);
    if (kill === true || !isLost) await this.seen(n, what);
    const caller = new Caller(n, this.readable(n, mode));
    if (kill === true) process.kill(n.pid, 'SIGKILL');
    if (isLost) {
      await until(() => this.fencing.callsFor(rid).some((c) => c.done !== null),
        `${what}: it is fenced`);
      if (n.pid !== 0) this.problem(`${what}: its daemon runs after it was fenced`);
    } else await sleep(AWAY_MS);
    for (const p of await caller.kill()) this.problem(`${what}: ${p}`);
    const others = this.cluster.nodes.filter((o) => o !== n);
    if (role === 'follower' || mode === 'fail') await this.working(others);
    this.note(`${what}: the others ${role === 'leader' && mode === 'hang' ? 'may wait' : 'work'
    } after ${Date.now() - sinceMs} ms`);
    if ((this.devices[n.nr]?.hits ?? 0) === hits) this.problem(`${what}: nothing met the device`);
    if (!isLost && this.fencing.callsFor(rid).length > 0) this.problem(`${what}: it was fenced`);
  }

  /** Synced files; of a device that hangs nobody gets back a lock that is read under. */
  private readable(n: ClusterNode, mode: Mode): string[] {
    const { own } = this.load(n);
    return [...this.promised.synced].filter((f) => mode !== 'hang' || f.startsWith(`${own}/`));
  }

  /** It says what it waits for. */
  private async seen(n: ClusterNode, what: string): Promise<void> {
    const logged = n.logText().length;
    await until(async () => (await n.waits()).some((w) => /device|commit|member|request/.test(w)),
      `${what}: scoutfs cluster says that it waits`);
    await until(() => / (warn|error) /.test(n.logText().slice(logged)),
      `${what}: the log says that it waits`);
  }

  /** Its load goes on, unless it was told EIO. */
  private async revive(n: ClusterNode, what: string): Promise<void> {
    const sinceMs = Date.now();
    const load = this.load(n);
    const goesOn = await Promise.race([
      load.first(sinceMs).then(() => true, () => false), load.ended.then(() => false)]);
    if (goesOn) return;
    const code = load.error?.code ?? 'nothing';
    if (!ERRORS.includes(code)) this.problem(`${what}: programs get ${load.error?.message ?? ''}`);
    this.note(`${what}: its programs got ${code}`);
    this.loads[n.nr] = new Load(n.mnt, this.promised);
  }

  protected async finish(): Promise<void> {
    await Promise.all(this.loads.map((l) => l.stop()));
    for (const l of this.loads) if (l.error !== null) this.problem(`${l.dir}: ${l.error.message}`);
    for (const n of this.cluster.nodes) {
      for (const b of this.promised.broken(n.mnt)) this.problem(`node ${n.nr}: ${b}`);
    }
    await this.cluster.umountAll();
    for (const f of await this.cluster.check()) this.problem(`check: ${f}`);
  }

  async end(): Promise<void> {
    await Promise.all(this.loads.map((l) => l.kill()));
  }
}

interface Answered { file: string; fault: string }

/** A program on the host that is cut off: reads what was synced, then changes something. */
class Caller {
  private readonly child;
  private readonly faults: string[] = [];

  /** Of each node its own: what is changed here must not be wanted by the others. */
  static dirOf(n: ClusterNode): string {
    return `caller${n.nr}`;
  }

  constructor(n: ClusterNode, files: readonly string[]) {
    this.child = fork(fileURLToPath(import.meta.url), ['caller', n.mnt, Caller.dirOf(n)],
      { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
    this.child.on('message', (a: Answered) => { this.faults.push(`${a.file}: ${a.fault}`); });
    this.child.send(files);
  }

  /** Kills it, whatever it waits for. @returns answers that were wrong */
  async kill(): Promise<string[]> {
    const ended = new Promise<void>((resolve) => {
      if (this.child.exitCode !== null) resolve();
      else this.child.once('exit', () => { resolve(); });
    });
    this.child.kill('SIGKILL');
    await ended;
    return this.faults;
  }
}

/** The program: tells of answers that are neither right nor an error that may be. */
function callAll(mnt: string, own: string, files: readonly string[]): void {
  const tell = (file: string, fault: string): void => {
    process.send?.({ file, fault } satisfies Answered);
  };
  const attempt = (file: string, call: () => string): void => {
    try {
      const fault = call();
      if (fault !== '') tell(file, fault);
    } catch (e) {
      const code = (e as NodeJS.ErrnoException).code ?? '';
      // its own node may have removed it meanwhile
      if (!ERRORS.includes(code) && code !== 'ENOENT') tell(file, String(e));
    }
  };
  for (const f of files) {
    attempt(f, () => fs.readFileSync(join(mnt, f)).equals(contentsOf(f)) ? '' : 'other contents');
  }
  attempt('mkdir', () => {
    fs.mkdirSync(join(mnt, own, `d${process.pid}`));
    return '';
  });
}

/** Cuts hosts off from their storage, one after the other. @param told hears of everything */
export async function loseStorage(losses: readonly Loss[],
  told: (note: string) => void = () => undefined): Promise<TrialResult> {
  const { dir, remove } = tempDir('scoutfs-netns');
  const ends: (() => unknown)[] = [remove];
  try {
    const net = new NetHosts(dir, HOSTS);
    ends.push(() => { net.end(); });
    const cluster = await ClusterMounts.make('storage',
      { members: HOSTS, options: OPTIONS, hosts: net.hosts });
    const devices: FaultyDevices[] = [];
    ends.push(async () => {
      for (const d of devices) for (const name of ['meta', 'data']) await d.set(name, 'well');
      await cluster.end();
      for (const d of devices) await d.end();
    });
    for (const n of cluster.nodes) {
      const d = await FaultyDevices.start(join(dir, `dev${n.nr}`),
        { meta: cluster.meta, data: cluster.data });
      devices.push(d);
      n.devices = { meta: d.path('meta'), data: d.path('data') };
    }
    await cluster.mountAll();
    const fencing = await Fencing.start(join(dir, 'fencing'), net.hosts);
    ends.push(() => { fencing.end(); });
    const storage = new Storage(cluster, fencing, devices, told);
    ends.push(() => storage.end());
    await storage.runAll(losses);
    return storage;
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

/** What an argument of the program means. */
function lossOf(word: string): Loss {
  const [role, device, mode, kill] = word.split(':');
  if ((role !== 'leader' && role !== 'follower') || (device !== 'meta' && device !== 'data')
    || (mode !== 'fail' && mode !== 'hang')) {
    throw new Error(`'${word}' is not (leader|follower):(meta|data):(fail|hang)[:kill]`);
  }
  return { role, device, mode, kill: kill === 'kill' };
}

async function main(): Promise<number> {
  const r = await loseStorage(process.argv.slice(2).map(lossOf), (note) => { console.log(note); });
  console.log(`${r.problems.length} problems`);
  return r.problems.length === 0 ? 0 : 1;
}

if (process.argv[2] === 'caller' && process.send !== undefined) {
  const [mnt = '', own = ''] = process.argv.slice(3);
  process.on('message', (files: readonly string[]) => {
    callAll(mnt, own, files);
    process.exit(0);
  });
} else {
  ifProgram(import.meta.url, main);
}
