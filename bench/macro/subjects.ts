/**
 * The file systems that the macro benchmark compares.
 *
 * Each is made on scratch files under one temporary directory, mounted, and put away again
 * whatever happens; one that cannot run here says why in one line.
 */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const dist = join(here, '../..');
const META_BYTES = 64 * 2 ** 30;
const DATA_BYTES = 64 * 2 ** 30;
const EXT4_BYTES = 16 * 2 ** 30;
const COMMAND_TIMEOUT_MS = 150_000;
/** Threads for device I/O and for notifications. */
const POOL_THREADS = '24';

export interface Subject {
  readonly name: string;
  /** Makes and mounts it on `dir`, with scratch space in `scratch`. @throws what is missing here */
  start(dir: string, scratch: string): Promise<void>;
  /** Unmounts and removes it; never throws. */
  stop(): Promise<void>;
}

/** What is missing, as the reason for leaving a subject out. */
export class Unavailable extends Error {}

function sh(command: string, ...args: string[]): string {
  try {
    const stdio = ['ignore', 'pipe', 'pipe'] as ['ignore', 'pipe', 'pipe'];
    return execFileSync(command, args, { encoding: 'utf8', stdio }).trim();
  } catch (e) {
    const { stderr, code } = e as { stderr?: string; code?: string };
    const why = code === 'ENOENT' ? 'not installed' : (stderr ?? '').trim().split('\n').at(-1);
    throw new Unavailable(`${command}: ${why ?? 'failed'}`);
  }
}

function quietly(fn: () => unknown): void {
  try {
    fn();
  } catch {
    // putting away what may not be there
  }
}

function sparse(path: string, sizeBytes: number): string {
  const fd = fs.openSync(path, 'w');
  fs.ftruncateSync(fd, sizeBytes);
  fs.closeSync(fd);
  return path;
}

/** A loop device on a sparse file. */
function loopOn(path: string, sizeBytes: number): string {
  return sh('losetup', '--find', '--show', '--direct-io=on', sparse(path, sizeBytes));
}

async function gone(dir: string): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (!fs.readFileSync('/proc/mounts', 'utf8').includes(` ${dir} `)) return;
    await new Promise((done) => { setTimeout(done, 100); });
  }
}

/** The in-memory file system behind our FUSE channel: what transport alone costs. */
export class MemSubject implements Subject {
  readonly name = 'memfs';
  private child: ChildProcess | null = null;

  start(dir: string): Promise<void> {
    const child = spawn(process.execPath, [join(here, 'memfs-daemon.js'), dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, UV_THREADPOOL_SIZE: POOL_THREADS },
    });
    this.child = child;
    return new Promise((done, failed) => {
      child.stdout.once('data', () => { done(); });
      child.once('exit', () => { failed(new Unavailable('the daemon did not start')); });
    });
  }

  async stop(): Promise<void> {
    const { child } = this;
    if (child === null || child.exitCode !== null) return;
    child.kill('SIGTERM');
    await new Promise((done) => { child.once('exit', done); });
  }
}

/** ext4 on a loop device: what the kernel does by itself on the same disk. */
export class Ext4Subject implements Subject {
  readonly name = 'ext4';
  private loop: string | null = null;
  private dir = '';

  start(dir: string, scratch: string): Promise<void> {
    this.dir = dir;
    this.loop = loopOn(join(scratch, 'ext4.img'), EXT4_BYTES);
    sh('mkfs.ext4', '-q', '-F', this.loop);
    sh('mount', '-t', 'ext4', this.loop, dir);
    return Promise.resolve();
  }

  stop(): Promise<void> {
    const { loop } = this;
    quietly(() => sh('umount', this.dir));
    if (loop !== null) quietly(() => sh('losetup', '-d', loop));
    return Promise.resolve();
  }
}

/** How a scoutfs volume is made, mounted and unmounted; words in capitals are replaced. */
export interface ScoutfsCommands {
  mkfs: readonly string[];
  mount: readonly string[];
  /** Returns when the daemon has ended; when it fails umount(8) is tried. */
  umount: readonly string[];
}

/** Our own commands. */
export function ownCommands(): ScoutfsCommands {
  const cli = join(dist, 'host/cli/scoutfs.js');
  const helper = join(dist, 'host/cli/mount.scoutfs.js');
  return {
    mkfs: [process.execPath, cli, 'mkfs', '-A', '-f', '-Q', '0,127.0.0.1,PORT', 'META', 'DATA'],
    mount: [process.execPath, helper, 'DATA', 'DIR', '-o',
      'metadev_path=META,quorum_slot_nr=0'],
    umount: [process.execPath, cli, 'umount', 'DIR'],
  };
}

/** One scoutfs node with its own server, on two loop devices. */
export class ScoutfsSubject implements Subject {
  readonly name = 'scoutfs';
  private readonly loops: string[] = [];
  private dir = '';

  constructor(private readonly commands: ScoutfsCommands) {}

  async start(dir: string, scratch: string): Promise<void> {
    const script = this.commands.mount[1];
    if (script?.endsWith('.js') === true && !fs.existsSync(script)) {
      throw new Unavailable(`${script} is not built`);
    }
    this.dir = dir;
    const meta = loopOn(join(scratch, 'meta.img'), META_BYTES);
    this.loops.push(meta);
    const data = loopOn(join(scratch, 'data.img'), DATA_BYTES);
    this.loops.push(data);
    const values: Record<string, string> = {
      META: meta, DATA: data, DIR: dir, PORT: String(await freePort()) };
    await this.run(this.commands.mkfs, values);
    await this.run(this.commands.mount, values);
    if (!fs.readFileSync('/proc/mounts', 'utf8').includes(` ${dir} `)) {
      throw new Unavailable('the mount command returned without a mount');
    }
  }

  async stop(): Promise<void> {
    await this.run(this.commands.umount, { DIR: this.dir })
      .catch(() => { quietly(() => sh('umount', this.dir)); });
    await gone(this.dir);
    for (let i = 0; i < 50 && this.loops.length > 0; i++) {
      // the daemon closes its devices a moment after the mount has gone
      await new Promise((done) => { setTimeout(done, 100); });
      quietly(() => {
        const loop = this.loops.at(-1);
        if (loop !== undefined) sh('losetup', '-d', loop);
        this.loops.pop();
      });
    }
  }

  private run(words: readonly string[], values: Record<string, string>): Promise<void> {
    const [command, ...args] = words.map((w) =>
      w.replace(/\b(META|DATA|DIR|PORT)\b/g, (k) => values[k] ?? k));
    return new Promise((done, failed) => {
      const child = spawn(command ?? '', args, {
        stdio: ['ignore', 'ignore', 'pipe'], timeout: COMMAND_TIMEOUT_MS,
        env: { ...process.env, UV_THREADPOOL_SIZE: POOL_THREADS },
      });
      let said = '';
      child.stderr.on('data', (b: Buffer) => { said += b.toString(); });
      child.once('error', failed);
      // `exit`, not `close`: a daemon it leaves behind may keep standard error open
      child.once('exit', (code) => {
        if (code === 0) done();
        else failed(new Unavailable(said.trim().split('\n').at(-1) ?? `exit ${String(code)}`));
      });
    });
  }
}

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => { done(port); });
    });
  });
}
