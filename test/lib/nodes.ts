/**
 * Several real mounts of one volume on this host, each with an address of its own from
 * 127/8, a mount point, a log and, if asked for, a run directory: hosts that know nothing
 * of each other but their devices and the network.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { sendSignal } from '../../host/env/signal.js';
import type { Result } from './mounted.js';
import { Rig, freePort, sleepMs } from './mounted.js';
import { repoDir } from './shared.js';

const GIB = 1024 ** 3;
/** First parts of the addresses, apart from those of other test processes. */
const NET = `127.${1 + (process.pid % 250)}`;

export function programPath(name: string): string {
  return join(repoDir, 'dist', 'host', 'cli', `${name}.js`);
}

/** One host of the cluster. */
export class Node {
  readonly mnt: string;
  readonly log: string;
  readonly addr: string;

  constructor(private readonly rig: Rig, readonly nr: number, readonly run: string) {
    this.mnt = join(rig.dir, `mnt${nr}`);
    this.log = join(rig.dir, `log${nr}`);
    this.addr = `${NET}.0.${nr + 1}`;
    mkdirSync(this.mnt);
  }

  get env(): NodeJS.ProcessEnv {
    return { ...this.rig.env, SCOUTFS_RUN_DIR: this.run, NODE_OPTIONS: '' };
  }

  /** Arguments of its mount: of slot `nr`, or of no slot. */
  mountArgs(options = '', slot = true): string[] {
    const all = [`metadev_path=${this.rig.meta}`, ...slot ? [`quorum_slot_nr=${this.nr}`] : [],
      ...options === '' ? [] : [options]];
    return ['mount', '--log', this.log, '-o', all.join(','), this.rig.data, this.mnt];
  }

  /** Runs the command on this host. */
  scoutfs(...args: string[]): Result {
    const r = spawnSync('env', ['NODE_OPTIONS=', process.execPath, programPath('scoutfs'), ...args],
      { encoding: 'utf8', env: this.env, timeout: 240_000, maxBuffer: 1 << 26 });
    return { status: r.status ?? -1, out: r.stdout, err: r.stderr };
  }

  /** Mounts. @throws with what the command said; @returns what it said on standard error */
  mount(options = '', slot = true): string {
    const r = this.scoutfs(...this.mountArgs(options, slot));
    if (r.status !== 0) throw new Error(`mount of node ${this.nr}: ${r.err}`);
    return r.err;
  }

  /** Starts a program of this host that goes on in the background. */
  start(name: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Background {
    return new Background(spawn(process.execPath, [programPath(name), ...args],
      { env: { ...this.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] }));
  }

  /** The name of its mount; the latest when a dead one has left its record. */
  get ident(): string {
    const found = this.records().find((r) => r.mnt === this.mnt && r.alive);
    if (found === undefined) throw new Error(`node ${this.nr} is not mounted`);
    return found.ident;
  }

  get control(): string {
    return join(this.run, this.ident);
  }

  /** Process of its daemon, 0 when it has none. */
  get pid(): number {
    return this.records().find((r) => r.mnt === this.mnt && r.alive)?.pid ?? 0;
  }

  get rid(): string {
    return readFileSync(join(this.run, '.mounts', this.ident, 'rid'), 'utf8').trim();
  }

  logText(): string {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8') : '';
  }

  signal(name: NodeJS.Signals): void {
    const { pid } = this;
    if (pid !== 0) sendSignal(pid, name);
  }

  private records(): { ident: string; pid: number; mnt: string; alive: boolean }[] {
    const dir = join(this.run, '.mounts');
    if (!existsSync(dir)) return [];
    return readdirSync(dir).flatMap((ident) => {
      try {
        const file = (name: string): string => readFileSync(join(dir, ident, name), 'utf8').trim();
        const pid = Number(file('pid').split(' ')[0]);
        return [{ ident, pid, mnt: file('mount_point'), alive: isRunning(pid) }];
      } catch {
        return [];
      }
    });
  }

  /** Unmounts or kills what is left. */
  end(): void {
    this.signal('SIGCONT');
    const { pid } = this;
    if (pid !== 0) sendSignal(pid, 'SIGKILL');
    until(`the end of node ${this.nr}`, () => !isRunning(pid));
    spawnSync('umount', ['-l', this.mnt]);
    if (!existsSync(this.run)) return;
    for (const name of readdirSync(this.run)) {
      if (name.startsWith('f.')) spawnSync('umount', ['-l', join(this.run, name)]);
    }
  }
}

/** Whether a process exists and is not a zombie. */
export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return pid !== 0 && !'ZX'.includes(stat.charAt(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** A program that runs beside the test. */
export class Background {
  out = '';
  err = '';
  readonly ended: Promise<number | null>;

  constructor(readonly child: ChildProcess) {
    child.stdout?.setEncoding('utf8').on('data', (s: string) => { this.out += s; });
    child.stderr?.setEncoding('utf8').on('data', (s: string) => { this.err += s; });
    this.ended = new Promise((resolve) => { child.on('close', resolve); });
  }
}

/** Waits for something without giving the event loop a turn. @throws after a minute */
export function until(what: string, done: () => boolean, limitMs = 60_000): void {
  for (let waitedMs = 0; !done(); waitedMs += 20) {
    if (waitedMs > limitMs) throw new Error(`${what} did not come`);
    sleepMs(20);
  }
}

/** Waits for something while the event loop goes on. @throws after a minute */
export async function eventually(what: string, done: () => boolean, limitMs = 60_000):
Promise<void> {
  for (let waitedMs = 0; !done(); waitedMs += 20) {
    if (waitedMs > limitMs) throw new Error(`${what} did not come`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/** A volume with a slot per node. `separate`: every node has a run directory of its own. */
export async function makeNodes(name: string, count: number, opts: { separate?: boolean;
  slots?: number; metaBytes?: number } = {}): Promise<{ rig: Rig; nodes: Node[]; port: number;
  end: () => void }> {
  const rig = new Rig(name);
  // every client raises the reserve
  rig.makeImages(opts.metaBytes ?? (5 + 3 * count) * GIB);
  const nodes = Array.from({ length: count }, (_, nr) =>
    new Node(rig, nr, opts.separate === true ? join(rig.dir, `run${nr}`) : rig.run));
  const port = await freePort();
  const slots = Array.from({ length: opts.slots ?? count }, (_, nr) =>
    ['-Q', `${nr},${NET}.0.${nr + 1},${port}`]).flat();
  rig.must('mkfs', '-A', '-f', ...slots, rig.meta, rig.data);
  return { rig, nodes, port, end: () => {
    for (const n of nodes) n.end();
    rig.end();
  } };
}
