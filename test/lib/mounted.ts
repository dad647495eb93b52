/**
 * Real mounts for tests: volumes on sparse image files, and the compiled command.
 *
 * Every rig has a folder of its own with images, mount point and run directory, and
 * unmounts, or kills, what is left at its end. Tests that use it need root and
 * /dev/fuse and say so in one line when they are missing.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, truncateSync }
  from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { CheckReport } from '../../host/disk/check.js';
import { sendSignal } from '../../host/env/signal.js';
import type { MountCounters } from '../../host/super.js';
import { repoDir, tempDir } from './shared.js';

const GIB = 1024 ** 3;
const COMMAND_TIMEOUT_MS = 240_000;
const COUNTERS_WAIT_MS = 10_000;

/** For tap's `skip`: false when this process can mount, else the reason. */
export function skipWithoutFuse(): false | string {
  if (process.getuid?.() !== 0) return 'mounting needs root';
  return existsSync('/dev/fuse') ? false : 'no /dev/fuse';
}

/** Whether this is scripts/nightly: tests run in their long form. */
export function nightly(): boolean {
  return process.env['SCOUTFS_NIGHTLY'] === '1';
}

export interface Result {
  status: number;
  out: string;
  err: string;
}

/** The file `debug_counters` of the run directory. */
export interface DaemonCounters extends MountCounters {
  nr: number;
  promises: number;
}

/** A TCP port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const s = createServer();
    s.on('error', reject);
    s.listen(0, '127.0.0.1', () => {
      const at = s.address();
      s.close(() => {
        if (at === null || typeof at === 'string') reject(new Error('no port'));
        else resolve(at.port);
      });
    });
  });
}

export class Rig {
  readonly dir: string;
  readonly meta: string;
  readonly data: string;
  readonly mnt: string;
  readonly run: string;
  readonly log: string;
  private readonly remove: () => void;

  constructor(name: string) {
    const { dir, remove } = tempDir(`scoutfs-${name}`);
    this.dir = dir;
    this.remove = remove;
    this.meta = join(dir, 'meta.img');
    this.data = join(dir, 'data.img');
    this.mnt = join(dir, 'mnt');
    this.run = join(dir, 'run');
    this.log = join(dir, 'log');
    mkdirSync(this.mnt);
  }

  /** Environment of its commands. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, SCOUTFS_RUN_DIR: this.run };
  }

  /** Runs the command. */
  scoutfs(...args: string[]): Result {
    // Without env, the test runner would load itself into the command and its daemon.
    const words = ['NODE_OPTIONS=', process.execPath,
      join(repoDir, 'dist', 'host', 'cli', 'scoutfs.js'), ...args];
    const r = spawnSync('env', words, {
      encoding: 'utf8', env: this.env,
      timeout: COMMAND_TIMEOUT_MS, maxBuffer: 1 << 28,
    });
    return { status: r.status ?? -1, out: r.stdout, err: r.stderr };
  }

  /** As scoutfs, but a failure is an error with what it said. */
  must(...args: string[]): string {
    const r = this.scoutfs(...args);
    if (r.status !== 0) throw new Error(`scoutfs ${args.join(' ')}: ${r.status}: ${r.err}${r.out}`);
    return r.out;
  }

  makeImages(metaBytes = 6 * GIB, dataBytes = 4 * GIB): void {
    for (const [path, bytes] of [[this.meta, metaBytes], [this.data, dataBytes]] as const) {
      closeSync(openSync(path, 'w'));
      truncateSync(path, bytes);
    }
  }

  async mkfs(metaBytes?: number, dataBytes?: number): Promise<void> {
    this.makeImages(metaBytes, dataBytes);
    this.must('mkfs', '-A', '-f', '-Q', `0,127.0.0.1,${await freePort()}`, this.meta, this.data);
  }

  /** Arguments of a mount of slot 0. */
  mountArgs(options = ''): string[] {
    return ['mount', '--log', this.log, '-o',
      `metadev_path=${this.meta},quorum_slot_nr=0${options === '' ? '' : `,${options}`}`,
      this.data, this.mnt];
  }

  mount(options = ''): void {
    this.must(...this.mountArgs(options));
  }

  umount(): void {
    this.must('umount', this.mnt);
  }

  /** Where the daemons' records are. */
  private get records(): string {
    return join(this.run, '.mounts');
  }

  /** Names of all mounts that have a record, dead ones included. */
  get idents(): string[] {
    return readdirSafe(this.records);
  }

  /** The control tree of the only mount. */
  get control(): string {
    const [ident, ...more] = this.idents;
    if (ident === undefined || more.length > 0) throw new Error('not exactly one mount');
    return join(this.run, ident);
  }

  /** Process of the live daemon, 0 when there is none. */
  get daemonPid(): number {
    for (const ident of this.idents) {
      const file = join(this.records, ident, 'pid');
      if (!existsSync(file)) continue;
      const pid = Number(readFileSync(file, 'utf8').split(' ')[0]);
      if (existsSync(`/proc/${pid}`)) return pid;
    }
    return 0;
  }

  /** What requests have cost so far (host/cli/daemon_main.ts, SIGUSR2). */
  counters(): DaemonCounters {
    const before = this.dumped()?.nr ?? 0;
    process.kill(this.daemonPid, 'SIGUSR2');
    for (let waitedMs = 0; waitedMs < COUNTERS_WAIT_MS; waitedMs += 2) {
      const now = this.dumped();
      if (now !== null && now.nr > before) return now;
      sleepMs(2);
    }
    throw new Error('the daemon wrote no counters');
  }

  private dumped(): DaemonCounters | null {
    for (const ident of this.idents) {
      const file = join(this.records, ident, 'debug_counters');
      if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as DaemonCounters;
    }
    return null;
  }

  /** Kills the daemon as a power cut of its host would. */
  kill(): void {
    const pid = this.daemonPid;
    if (pid !== 0) sendSignal(pid, 'SIGKILL');
    while (existsSync(`/proc/${pid}/fd`) && readdirSafe(`/proc/${pid}/fd`).length > 0) sleepMs(5);
  }

  /** The checker's findings, one line each; empty for a sound volume. */
  check(): string[] {
    return this.checkReport().findings.map((f) => `${f.id}: ${f.message}`);
  }

  /** Everything the checker says. */
  checkReport(): CheckReport {
    const r = this.scoutfs('check', '--json', this.meta, this.data);
    return JSON.parse(r.out) as CheckReport;
  }

  /** Text of the daemon's log. */
  logText(): string {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8') : '';
  }

  /** Unmounts or kills what is left and removes everything. */
  end(): void {
    const pid = this.daemonPid;
    if (pid !== 0) this.scoutfs('umount', '-t', '20', this.mnt);
    this.kill();
    const left = this.idents.map((ident) => join(this.run, ident));
    for (const dir of [this.mnt, ...left]) spawnSync('umount', ['-l', dir]);
    this.remove();
  }
}

/** Command lines of the daemons whose configuration names something in `dir`. */
export function processesOf(dir: string): string[] {
  return readdirSync('/proc').filter((n) => /^\d+$/.test(n)).flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      return line.includes('daemon_main') && line.includes(`"${dir}/`) ? [`${pid}: ${line}`] : [];
    } catch {
      return [];
    }
  });
}

function readdirSafe(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

export function sleepMs(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Output of a command; throws when it fails. */
export function sh(command: string, cwd?: string): string {
  return execFileSync('bash', ['-c', command],
    { encoding: 'utf8', maxBuffer: 1 << 28, ...(cwd === undefined ? {} : { cwd }) });
}
