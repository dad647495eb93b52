/**
 * Starts the test daemon (`serve.ts`), mounts it, and cleans up whatever happens.
 *
 * Tests that need the machine's FUSE ask `fuseMissing()` first and skip with what it says.
 */
import { execFile, execFileSync, fork, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { abortFuse } from '../../host/env/fuse-mount.js';

const here = fileURLToPath(new URL('.', import.meta.url));

/** Why mounted tests cannot run here, or null. */
export function fuseMissing(): string | null {
  if (process.platform !== 'linux') return 'not on Linux';
  if (process.getuid?.() !== 0) return 'needs root to mount';
  try {
    fs.closeSync(fs.openSync('/dev/fuse', 'r+'));
    return null;
  } catch {
    return 'no /dev/fuse';
  }
}

export interface DaemonState {
  requests: Record<string, number>;
  /** How often requests were parked. */
  parked: number;
  /** How often a call waited because of `hold`. */
  heldBack: number;
  moved: number;
  interrupted: number;
  unexpected: number;
  nodes: number;
  inos: number[];
  minor: number;
  log: string[];
  drain: Record<string, number>;
}

interface Answer {
  id?: number;
  result?: unknown;
  error?: string;
  ended?: string;
  started?: boolean;
}

export class Daemon {
  /** Why the connection ended, when it has. */
  ended: string | null = null;
  private nextId = 1;
  private readonly pending = new Map<number, (a: Answer) => void>();
  private connection: number | null = null;
  private constructor(readonly dir: string, readonly child: ChildProcess) {}

  /** Starts the child without mounting. */
  static async spawn(dir: string, threads = 16): Promise<Daemon> {
    const child = fork(join(here, 'serve.js'), [], {
      env: { ...process.env, UV_THREADPOOL_SIZE: String(threads), NODE_OPTIONS: '' },
      execArgv: [],
    });
    const daemon = new Daemon(dir, child);
    await new Promise<void>((started) => {
      child.on('message', (a: Answer) => {
        if (a.started === true) started();
        if (a.ended !== undefined) daemon.ended = a.ended;
        if (a.id !== undefined) daemon.pending.get(a.id)?.(a);
      });
    });
    return daemon;
  }

  async mount(opts: MountOptions): Promise<void> {
    const { plain = false, guarded = false, inodesMax } = opts;
    const { connection } = await this.call('mount',
      { dir: this.dir, plain, on: guarded, inodesMax }) as
      { connection: number };
    this.connection = connection;
  }

  call(cmd: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const id = this.nextId++;
    return new Promise((done, failed) => {
      this.pending.set(id, (a) => {
        this.pending.delete(id);
        if (a.error !== undefined) failed(new Error(a.error));
        else done(a.result);
      });
      this.child.send({ id, cmd, ...args });
    });
  }

  async state(): Promise<DaemonState> {
    return await this.call('state') as DaemonState;
  }

  /** Unmounts and ends the child; does nothing that can hang. */
  async stop(): Promise<void> {
    spawnSync('umount', ['-i', '-l', this.dir], { stdio: 'ignore' });
    // frees a daemon that hangs in a notification, which no signal does
    if (this.connection !== null && this.ended === null) await abortFuse(this.connection);
    this.child.kill('SIGKILL');
    if (this.child.exitCode === null && this.child.signalCode === null) {
      await new Promise((done) => { this.child.once('exit', done); });
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

export interface MountOptions {
  plain?: boolean;
  /** Of the session: inodes that the kernel may keep. */
  inodesMax?: number;
  /** Operations can be held back and broken. */
  guarded?: boolean;
}

/** A fresh empty mount. */
export async function mountMemfs(opts: MountOptions = {}): Promise<Daemon> {
  const dir = fs.mkdtempSync(join(tmpdir(), 'scoutfs-fuse-'));
  const daemon = await Daemon.spawn(dir);
  await daemon.mount(opts);
  return daemon;
}

let opsBinary: string | null | undefined;

/** The compiled helper for system calls that Node lacks, or null without a C compiler. */
export function opsHelper(): string | null {
  if (opsBinary !== undefined) return opsBinary;
  const source = join(here, '../../../test/fuse/ops.c');
  const dir = fs.mkdtempSync(join(tmpdir(), 'scoutfs-ops-'));
  const binary = join(dir, 'ops');
  try {
    execFileSync('cc', ['-O1', '-o', binary, source], { stdio: 'pipe' });
    opsBinary = binary;
    process.on('exit', () => { fs.rmSync(dir, { recursive: true, force: true }); });
  } catch {
    fs.rmSync(dir, { recursive: true, force: true });
    opsBinary = null;
  }
  return opsBinary;
}

const exec = promisify(execFile);

/** Runs the helper. @returns its output, trimmed; `errno N` for a failed call */
export async function ops(...args: string[]): Promise<string> {
  const binary = opsHelper();
  if (binary === null) throw new Error('no C compiler');
  try {
    return (await exec(binary, args, { timeout: 20_000 })).stdout.trim();
  } catch (e) {
    const { stdout } = e as { stdout?: string };
    if (stdout?.startsWith('errno') === true) return stdout.trim();
    throw e;
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((done) => { setTimeout(done, ms); });
}

/** Waits until `check` holds. */
export async function until(check: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await check()) return;
    await sleep(10);
  }
  throw new Error(`timed out: ${what}`);
}
