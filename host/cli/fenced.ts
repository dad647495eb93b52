/**
 * `scoutfs fenced`, also `scoutfs-fenced`: the daemon that answers fence requests with
 * the administrator's program.
 *
 *   look at <run directory>/<mount>/fence/<rid> of every mount of this host
 *     for each request that is neither fenced nor in error:
 *       run the program with SCOUTFS_FENCED_REQ_RID and _IP in its environment
 *       exit status 0 -> write 1 to `fenced`, else to `error`
 *   wait, and look again
 *
 * One program runs at a time. A request in error stops its server, and the next one asks
 * again; so does whoever serves after this daemon was stopped in the middle. Requests may
 * vanish at any moment, above all those that a host answers by itself because the mount
 * was its own (docs/decisions/0004-local-fence-agent.md). A tree whose daemon does not
 * answer is passed over: it has no server that could ask.
 *
 * SIGHUP reads the configuration anew (one that cannot be used is reported and the old one
 * kept), SIGTERM and SIGINT end the daemon, and its program with it.
 * Spec: cli.md 4, recovery.md 3.2, 3.3.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { timeText } from '../env/clock.js';
import { readControl, writeControl } from '../env/control_access.js';
import { controlDirOf, listMounts, runRoot } from '../env/rundir.js';
import { asScoutfsError } from '../observe/errors.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import type { FencedConfig } from './fenced_config.js';
import { FENCED_CONFIG_DEFAULT, FENCED_CONFIG_VARIABLE, loadFencedConfig } from
  './fenced_config.js';

/** How soon signals are noticed. */
const PIECE_MS = 100;

export interface FenceRequest {
  /** the mount whose server asks */
  ident: string;
  dir: string;
  rid: string;
  ipv4Addr: string;
  reason: string;
}

/** The file that is to be read. */
function configPath(args: Args): string {
  return args.value('config') ?? process.env[FENCED_CONFIG_VARIABLE] ?? FENCED_CONFIG_DEFAULT;
}

/** Requests in a tree's files that still want an answer. */
export function openRequests(ident: string, dir: string, files: ReadonlyMap<string, string>):
FenceRequest[] {
  const found: FenceRequest[] = [];
  for (const [path, fenced] of files) {
    const name = /^fence\/([0-9a-f]{16})\/fenced$/.exec(path)?.[1];
    if (name === undefined) continue;
    const file = (f: string): string | undefined => files.get(`fence/${name}/${f}`)?.trim();
    const [rid, ipv4Addr] = [file('rid'), file('ipv4_addr')];
    // half of it is gone already
    if (rid === undefined || ipv4Addr === undefined || file('error') === undefined) continue;
    if (fenced.trim() === '1' || file('error') === '1') continue;
    found.push({ ident, dir: join(dir, 'fence', name), rid, ipv4Addr,
      reason: file('reason') ?? 'unknown' });
  }
  return found;
}

/** All open requests on this host. `silent` is told of mounts that do not answer. */
export async function findRequests(silent: (ident: string) => void): Promise<FenceRequest[]> {
  const mounts = listMounts().filter((m) => m.alive);
  const perMount = await Promise.all(mounts.map(async ({ ident }) => {
    const dir = controlDirOf(ident);
    const files = await readControl(dir, ['fence/*/*']);
    if (files === null) silent(ident);
    return files === null ? [] : openRequests(ident, dir, files);
  }));
  return perMount.flat();
}

function line(r: FenceRequest): string {
  return `server ${r.ident} fencing rid ${r.rid} at IP ${r.ipv4Addr} for ${r.reason}`;
}

class Fenced {
  private stopping = false;
  /** Look again without waiting. */
  private hurry = false;
  private child: ChildProcess | null = null;
  private readonly silent = new Set<string>();

  constructor(private readonly io: CommandIo, private readonly path: string,
    private config: FencedConfig) {}

  async run(): Promise<void> {
    const signals = { SIGTERM: () => { this.stop(); }, SIGINT: () => { this.stop(); },
      SIGHUP: () => { this.reload(); } };
    for (const [name, fn] of Object.entries(signals)) process.on(name, fn);
    try {
      this.out(`started, ${this.path}, watching ${runRoot()}`);
      this.describe();
      while (!this.isStopping()) {
        await this.round();
        await this.pause(this.config.delayMs);
      }
      this.out('stopped');
    } finally {
      for (const [name, fn] of Object.entries(signals)) process.off(name, fn);
    }
  }

  private out(text: string): void {
    this.io.out(`[${timeText(this.io.env.clock.now())}] ${text}`);
  }

  private err(text: string): void {
    this.io.err(`[${timeText(this.io.env.clock.now())}] ${text}`);
  }

  private describe(): void {
    for (const [name, value] of this.config.variables) this.out(`${name}=${value}`);
  }

  private isHurried(): boolean {
    return this.hurry;
  }

  private isStopping(): boolean {
    return this.stopping;
  }

  private stop(): void {
    this.stopping = true;
    this.child?.kill('SIGTERM');
  }

  private reload(): void {
    try {
      this.config = loadFencedConfig(this.path);
      this.out(`configuration read again, ${this.path}`);
      this.describe();
    } catch (e) {
      this.err(`error: ${asScoutfsError(e).message}; going on with the old configuration`);
    }
    this.hurry = true;
  }

  private async round(): Promise<void> {
    const silent = new Set<string>();
    const requests = await findRequests((ident) => { silent.add(ident); });
    for (const ident of silent) {
      if (!this.silent.has(ident)) this.err(`mount ${ident} does not answer; passing it over`);
    }
    this.silent.clear();
    for (const ident of silent) this.silent.add(ident);
    for (const r of requests) {
      if (this.isStopping()) return;
      // The programs of earlier ones may have taken long.
      if (await isOpen(r)) await this.fence(r);
    }
  }

  private async fence(r: FenceRequest): Promise<void> {
    this.out(line(r));
    const failure = await this.program(r);
    if (this.isStopping() && failure !== null) {
      this.err(`error: rid ${r.rid}: stopped before ${this.config.run} had finished`);
      return;
    }
    if (failure !== null) this.err(`error: rid ${r.rid}: ${this.config.run} ${failure}`);
    const flag = failure === null ? 'fenced' : 'error';
    if (await writeControl(join(r.dir, flag), '1')) this.out(`rid ${r.rid}: ${flag}`);
    else this.out(`rid ${r.rid}: ${flag}, but nobody asks any more`);
  }

  /** Runs the program for one request. @returns null for success, else what went wrong */
  private program(r: FenceRequest): Promise<string | null> {
    const { run, runArgs, exported } = this.config;
    return new Promise((resolve) => {
      const child = spawn(run, runArgs, {
        stdio: ['ignore', 'inherit', 'inherit'],
        env: {
          ...exported,
          SCOUTFS_FENCED_REQ_RID: r.rid, SCOUTFS_FENCED_REQ_IP: r.ipv4Addr,
        },
      });
      this.child = child;
      const end = (failure: string | null): void => {
        this.child = null;
        resolve(failure);
      };
      child.on('error', (e) => { end(`cannot be run: ${asScoutfsError(e).message}`); });
      child.on('exit', (status, signal) => {
        if (status === 0) end(null);
        else end(signal === null ? `exited with status ${status}` : `was ended by ${signal}`);
      });
    });
  }

  /** In small pieces, because a timer that is under way keeps the process. */
  private async pause(ms: number): Promise<void> {
    this.hurry = false;
    for (let waitedMs = 0; waitedMs < ms && !this.isStopping() && !this.isHurried();
      waitedMs += PIECE_MS) {
      await this.io.env.clock.sleep(Math.min(PIECE_MS, ms - waitedMs));
    }
  }
}

async function isOpen(r: FenceRequest): Promise<boolean> {
  const files = await readControl(r.dir, ['fenced', 'error']);
  return files?.get('fenced') === '0' && files.get('error') === '0';
}

async function dryRun(io: CommandIo, path: string, config: FencedConfig): Promise<void> {
  io.out(`configuration ${path}`);
  for (const [name, value] of config.variables) io.out(`  ${name}=${value}`);
  const mounts = listMounts().filter((m) => m.alive);
  io.out(`mounts of this host below ${runRoot()}: ${mounts.length}`);
  const silent: string[] = [];
  const requests = await findRequests((ident) => { silent.push(ident); });
  for (const ident of silent) io.out(`  ${ident} does not answer`);
  io.out(`requests: ${requests.length}; would run for each: ${
    [config.run, ...config.runArgs].join(' ')}`);
  for (const r of requests) io.out(`  ${line(r)}`);
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const path = configPath(args);
  const config = loadFencedConfig(path);
  if (args.flag('dry-run')) await dryRun(io, path, config);
  else await new Fenced(io, path, config).run();
  return 0;
}

export const fencedCommand: CommandSpec = {
  name: 'fenced',
  group: 'User space',
  args: [],
  description: 'Answer fence requests of this host\'s mounts with a program',
  options: [
    { short: 'c', long: 'config', value: 'FILE',
      description: `Configuration (default: ${FENCED_CONFIG_VARIABLE}, else ${
        FENCED_CONFIG_DEFAULT})` },
    { short: 'n', long: 'dry-run',
      description: 'Check the configuration, show open requests and what would be run, and end' },
  ],
  usageStatus: 2,
  run,
};
