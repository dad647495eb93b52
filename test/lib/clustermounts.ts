/**
 * Clusters of real mounts for tests: N daemons of one volume on this machine.
 *
 * The volume is on sparse image files. The first `members` nodes have a quorum slot each, with
 * a loopback address of its own (127.0.0.1, 127.0.0.2, ...) and a port that was free; the
 * others are plain clients. All share one run directory, so that the daemons' local fence
 * agent knows them, unless a node has a `host`: then it is a machine of its own, with the
 * command prefix (a network namespace) and the run directory of that host.
 *
 * Nodes are killed, stopped, unmounted and mounted again by the test. Everything that waits
 * gives up after a while with an error that names the node and shows the end of its log. At
 * the end of the test whatever is left is killed and unmounted.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '../../host/cli/cluster_view.js';
import type { CheckReport } from '../../host/disk/check.js';
import { sendSignal } from '../../host/env/signal.js';
import type { Result } from './mounted.js';
import { freePort } from './mounted.js';
import { Background } from './nodes.js';
import { repoDir, tempDir } from './shared.js';

const GIB = 1024 ** 3;
/** Twice the reserve of alloc.md 8 in either pool, and room for what tests do. */
const META_BASE_GIB = 6;
const META_NODE_GIB = 5;
/** Each mount may hold 4 GiB of free data space of its own. */
const DATA_BASE_GIB = 8;
const DATA_NODE_GIB = 4;
const COMMAND_TIMEOUT_MS = 240_000;
const WAIT_MS = 60_000;
const POLL_MS = 20;
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
const LOG_TAIL_LINES = 30;
const MERGE_TOUCH_MS = 200;

/** A machine of a node: where its commands run. */
export interface Host {
  /** Words before every command, `nsenter --net=...`; empty for this machine. */
  prefix: readonly string[];
  /** Address of its quorum slot. */
  addr: string;
  runDir: string;
}

export interface ClusterShape {
  /** Nodes with a quorum slot: 1, 2, 3 and so on. */
  members: number;
  clients?: number;
  /** Mount options of every node. */
  options?: string;
  metaBytes?: number;
  dataBytes?: number;
  /** One per node; default: this machine. */
  hosts?: readonly Host[];
}

/** One mount of the cluster. */
export class ClusterNode {
  readonly mnt: string;
  readonly log: string;
  /** How its host sees the devices, if not as the cluster's images. */
  devices: { meta: string; data: string } | null = null;

  constructor(readonly cluster: ClusterMounts, readonly nr: number,
    /** Its quorum slot, null for a plain client. */
    readonly slot: number | null, readonly host: Host) {
    this.mnt = join(cluster.dir, `mnt${nr}`);
    this.log = join(cluster.dir, `log${nr}`);
    fs.mkdirSync(this.mnt);
  }

  /** A path below the mount point. */
  p(...names: string[]): string {
    return join(this.mnt, ...names);
  }

  /** Runs the command on this node's host. */
  async scoutfs(...args: string[]): Promise<Result> {
    return runCommand(this.host, args);
  }

  /** Starts the command on this node's host and leaves it to the caller. */
  start(args: readonly string[]): Background {
    return new Background(startCommand(this.host, args));
  }

  async must(...args: string[]): Promise<string> {
    const r = await this.scoutfs(...args);
    if (r.status !== 0) {
      throw new Error(`node ${this.nr}: scoutfs ${args[0] ?? ''}: ${r.status}: ${r.err}${r.out}${
        this.logTail()}`);
    }
    return r.out;
  }

  /** Words of its mount command. */
  mountArgs(options = ''): string[] {
    const { options: common } = this.cluster;
    const { meta, data } = this.devices ?? this.cluster;
    const slot = this.slot === null ? [] : [`quorum_slot_nr=${this.slot}`];
    const all = [`metadev_path=${meta}`, ...slot, common, options].filter((o) => o !== '');
    return ['mount', '--log', this.log, '-o', all.join(','), data, this.mnt];
  }

  /** Resolves when it serves. */
  async mount(options = ''): Promise<void> {
    await this.must(...this.mountArgs(options));
  }

  /** Resolves when its daemon has said farewell and ended. */
  async umount(): Promise<void> {
    await this.must('umount', this.mnt);
  }

  async remount(options = ''): Promise<void> {
    await this.umount();
    await this.mount(options);
  }

  /** Records in the run directory of mounts at this mount point, and whether they live. */
  private records(): { ident: string; pid: number; alive: boolean; rid: string }[] {
    const dir = join(this.host.runDir, '.mounts');
    return namesIn(dir).flatMap((ident) => {
      const file = (name: string): string => textOf(join(dir, ident, name)).trim();
      if (file('mount_point') !== this.mnt) return [];
      const [pidText = '', start = ''] = file('pid').split(' ');
      const pid = Number(pidText);
      return [{ ident, pid, rid: file('rid'), alive: start !== '' && startTime(pid) === start }];
    });
  }

  /** The live daemon's process, 0 when there is none. */
  get pid(): number {
    return this.records().find((r) => r.alive)?.pid ?? 0;
  }

  /** Name of the live mount in the run directory. */
  get ident(): string {
    const live = this.records().find((r) => r.alive);
    if (live === undefined) throw new Error(`node ${this.nr}: not mounted${this.logTail()}`);
    return live.ident;
  }

  /** Mount id as 16 hex digits. */
  get rid(): string {
    const { ident } = this;
    return textOf(join(this.host.runDir, '.mounts', ident, 'rid')).trim();
  }

  /** What `scoutfs cluster` on its host says that is waited for: kind and text. */
  async waits(): Promise<string[]> {
    const { clusters } = JSON.parse(await this.must('cluster', '--json')) as
      { clusters: Cluster[] };
    return clusters.flatMap((c) => c.waiting.map((w) => `${w.kind} ${w.text}`));
  }

  /** A file of its control tree. */
  control(...names: string[]): string {
    return join(this.host.runDir, this.ident, ...names);
  }

  /** Text of a file of its control tree, '' when it is not there (any more). */
  show(...names: string[]): string {
    return textOf(this.control(...names));
  }

  counter(name: string): number {
    return Number(this.show('counters', name));
  }

  get isLeader(): boolean {
    return this.pid !== 0 && this.show('quorum', 'is_leader').trim() === '1';
  }

  /** SIGKILL: a process that dies. Resolves when its threads are gone. */
  async kill(): Promise<void> {
    const { pid } = this;
    if (pid === 0) return;
    sendSignal(pid, 'SIGKILL');
    await until(() => namesIn(`/proc/${pid}/task`).length <= 1 && namesIn(`/proc/${pid}/fd`)
      .length === 0, `node ${this.nr} is gone`);
  }

  /** SIGSTOP: a host that hangs. */
  stop(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  /** SIGCONT. */
  cont(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** Resident memory in bytes. */
  get rssBytes(): number {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(textOf(`/proc/${this.pid}/status`));
    return Number(line?.[1] ?? 0) * 1024;
  }

  /** Text of the daemon's log. */
  logText(): string {
    return textOf(this.log);
  }

  logTail(): string {
    return `\n--- log of node ${this.nr}\n${
      this.logText().trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n')}`;
  }
}

export class ClusterMounts {
  readonly dir: string;
  readonly meta: string;
  readonly data: string;
  readonly run: string;
  readonly nodes: ClusterNode[];
  readonly options: string;
  private readonly remove: () => void;

  private constructor(name: string, private readonly shape: ClusterShape) {
    const { dir, remove } = tempDir(`scoutfs-${name}`);
    this.dir = dir;
    this.remove = remove;
    fs.chmodSync(dir, 0o755);
    this.meta = join(dir, 'meta.img');
    this.data = join(dir, 'data.img');
    this.run = join(dir, 'run');
    this.options = shape.options ?? '';
    for (const s of SIGNALS) process.on(s, this.onSignal);
    const count = shape.members + (shape.clients ?? 0);
    this.nodes = Array.from({ length: count }, (_, nr) => {
      const here: Host = { prefix: [], addr: `127.0.0.${nr + 1}`, runDir: this.run };
      return new ClusterNode(this, nr, nr < shape.members ? nr : null, shape.hosts?.[nr] ?? here);
    });
  }

  /** A fresh volume with its nodes, none of them mounted. */
  static async make(name: string, shape: ClusterShape): Promise<ClusterMounts> {
    const cluster = new ClusterMounts(name, shape);
    await cluster.mkfs();
    return cluster;
  }

  /** As make, and all nodes mounted. */
  static async start(name: string, shape: ClusterShape): Promise<ClusterMounts> {
    const cluster = await ClusterMounts.make(name, shape);
    try {
      await cluster.mountAll();
    } catch (e) {
      await cluster.end();
      throw e;
    }
    return cluster;
  }

  private async mkfs(): Promise<void> {
    const metaDefault = (META_BASE_GIB + META_NODE_GIB * this.nodes.length) * GIB;
    const dataDefault = (DATA_BASE_GIB + DATA_NODE_GIB * this.nodes.length) * GIB;
    const { metaBytes = metaDefault, dataBytes = dataDefault } = this.shape;
    for (const [path, bytes] of [[this.meta, metaBytes], [this.data, dataBytes]] as const) {
      fs.closeSync(fs.openSync(path, 'w'));
      fs.truncateSync(path, bytes);
    }
    const slots: string[] = [];
    for (const n of this.nodes) {
      if (n.slot !== null) slots.push('-Q', `${n.slot},${n.host.addr},${await freePort()}`);
    }
    await this.must('mkfs', '-A', '-f', ...slots, this.meta, this.data);
  }

  /** Node `nr`. */
  node(nr: number): ClusterNode {
    const n = this.nodes[nr];
    if (n === undefined) throw new Error(`no node ${nr}`);
    return n;
  }

  /** Runs the command on this machine. */
  async must(...args: string[]): Promise<string> {
    const r = await runCommand({ prefix: [], addr: '', runDir: this.run }, args);
    if (r.status !== 0) throw new Error(`scoutfs ${args.join(' ')}: ${r.status}: ${r.err}${r.out}`);
    return r.out;
  }

  /** Mounts all nodes at once: no member serves before most of them are there. */
  async mountAll(options = ''): Promise<void> {
    await Promise.all(this.nodes.filter((n) => n.pid === 0).map((n) => n.mount(options)));
  }

  /** Unmounts all nodes at once: the last members go together only. */
  async umountAll(): Promise<void> {
    await Promise.all(this.nodes.filter((n) => n.pid !== 0).map((n) => n.umount()));
  }

  get leader(): ClusterNode | null {
    return this.nodes.find((n) => n.slot !== null && n.isLeader) ?? null;
  }

  /** The node that leads, once there is one that is not `but`. */
  async newLeader(but: ClusterNode | null = null): Promise<ClusterNode> {
    const found = (): ClusterNode | undefined =>
      this.nodes.find((n) => n !== but && n.slot !== null && n.isLeader);
    await until(() => found() !== undefined, 'there is a leader');
    return found() ?? this.newLeader(but);
  }

  /**
   * Has all log trees merged, which otherwise waits until they are large. Resolves when that
   * is done; leaves a file of each mounted node in `dir`, which has to exist.
   */
  async merge(dir = '.'): Promise<void> {
    const leader = await this.newLeader();
    const merges = leader.counter('log_merge_complete');
    fs.writeFileSync(leader.control('debug', 'trigger', 'log_merge_force_finalize_ours'), '1');
    await until(async () => {
      // a mount that begins a transaction comes by
      this.touchAll(dir);
      await sleep(MERGE_TOUCH_MS);
      return leader.counter('log_merge_complete') > merges;
    }, 'the log trees are merged');
  }

  /** Changes something on every mounted node, and commits it. */
  private touchAll(dir: string): void {
    for (const n of this.nodes.filter((o) => o.pid !== 0)) {
      const fd = fs.openSync(n.p(dir, `merge${n.nr}`), 'w');
      fs.writeSync(fd, 'merge');
      fs.fsyncSync(fd);
      fs.closeSync(fd);
    }
  }

  /** The checker's findings, one line each; empty for a sound volume. */
  async check(): Promise<string[]> {
    return (await this.checkReport()).findings.map((f) => `${f.id}: ${f.message}`);
  }

  async checkReport(): Promise<CheckReport> {
    const r = await runCommand({ prefix: [], addr: '', runDir: this.run },
      ['check', '--json', this.meta, this.data]);
    if (r.status > 1) throw new Error(`check: ${r.err}${r.out}`);
    return JSON.parse(r.out) as CheckReport;
  }

  /** Lines of the logs that a healthy cluster does not write. */
  complaints(): string[] {
    return this.nodes.flatMap((n) => n.logText().split('\n')
      .filter((l) => / (error|fatal) /.test(l)).map((l) => `node ${n.nr}: ${l}`));
  }

  /** Kills and unmounts whatever is left and removes everything. */
  async end(): Promise<void> {
    this.killAll();
    await until(() => this.nodes.every((n) => n.pid === 0), 'all daemons are gone')
      .catch(() => undefined);
    this.remove();
    for (const s of SIGNALS) process.off(s, this.onSignal);
  }

  private killAll(): void {
    for (const n of this.nodes) {
      const { pid } = n;
      if (pid === 0) continue;
      sendSignal(pid, 'SIGKILL');
      sendSignal(pid, 'SIGCONT');
    }
    // In the mount table, not below the mount: there may be nobody to answer.
    for (const dir of new Set([this.dir, ...this.nodes.map((n) => n.host.runDir)])) {
      for (const mnt of mountsBelow(dir)) spawnSync('umount', ['-i', '-l', mnt]);
    }
  }

  /** A test that is ended from outside leaves no daemons behind. */
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.killAll();
    this.remove();
    for (const s of SIGNALS) process.off(s, this.onSignal);
    process.kill(process.pid, signal);
  };
}

/** Mount points below a directory, the deepest first. */
export function mountsBelow(dir: string): string[] {
  return textOf('/proc/mounts').split('\n').map((l) => l.split(' ')[1] ?? '')
    .filter((p) => p.startsWith(`${dir}/`)).reverse();
}

/** Waits until `holds`. @throws after `limitMs`, with what was waited for */
export async function until(holds: () => boolean | Promise<boolean>, what: string,
  limitMs = WAIT_MS): Promise<void> {
  for (const startMs = performance.now(); performance.now() - startMs < limitMs;) {
    if (await holds()) return;
    await sleep(POLL_MS);
  }
  throw new Error(`after ${limitMs / 1000} s this did not hold: ${what}`);
}

/** Starts the compiled command. Without env, the test runner would load itself into it. */
function startCommand(host: Host, args: readonly string[], timeoutMs?: number): ChildProcess {
  const [program = '', ...words] = [...host.prefix, 'env', 'NODE_OPTIONS=', process.execPath,
    join(repoDir, 'dist', 'host', 'cli', 'scoutfs.js'), ...args];
  return spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'],
    ...timeoutMs === undefined ? {} : { timeout: timeoutMs },
    env: { ...process.env, SCOUTFS_RUN_DIR: host.runDir } });
}

async function runCommand(host: Host, args: readonly string[]): Promise<Result> {
  const child = startCommand(host, args, COMMAND_TIMEOUT_MS);
  const running = new Background(child);
  const failed = new Promise<never>((_, reject) => { child.on('error', reject); });
  const status = await Promise.race([running.ended, failed]);
  return { status: status ?? -1, out: running.out, err: running.err };
}

function namesIn(dir: string): string[] {
  try {
    return fs.readdirSync(dir);
  } catch {
    return [];
  }
}

function textOf(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Of a running process, to tell it from a later one with its number. */
function startTime(pid: number): string | null {
  const stat = textOf(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? null : fields[19] ?? null;
}
