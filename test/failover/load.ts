/**
 * Work on one mount while nodes come and go: files made and synced, renamed, removed, and those
 * of all nodes read again.
 *
 * The work is done by a process of its own, which tells of each file that it has synced; what
 * fails is told with its errno and ends it. `Load` is its parent's side. Contents follow
 * from the name (`crashContents`), so whoever knows a name knows what has to be there.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crashContents } from '../mounted/crash_writer.js';

const CONTENTS_MAX_BYTES = 20_000;
/** So many files of a process exist at a time. */
const FILES_MAX = 40;
const PAUSE_MS = 5;

/** What a load process tells. Times are Date.now(). */
interface Told {
  synced?: string;
  removing?: string;
  beganMs?: number;
  endedMs?: number;
  error?: string;
  code?: string;
}

export interface Done {
  beganMs: number;
  endedMs: number;
}

/** The contents of a file of this name. */
export function contentsOf(name: string): Buffer {
  return crashContents(name).subarray(0, CONTENTS_MAX_BYTES);
}

/** Synced files of all loads: what has to be there whatever happens. */
export class Promised {
  readonly synced = new Set<string>();

  /** What of it is missing or different below `dir`. */
  broken(dir: string): string[] {
    return [...this.synced].flatMap((name) => {
      try {
        return fs.readFileSync(join(dir, name)).equals(contentsOf(name)) ? [] :
          [`${name}: other contents`];
      } catch (e) {
        return [`${name}: ${String(e)}`];
      }
    });
  }
}

export class Load {
  private static count = 0;
  error: { code: string; message: string } | null = null;
  operations = 0;
  private readonly child: ChildProcess;
  private readonly waiters: ((d: Done) => void)[] = [];
  /** Its directory, below the mount. */
  readonly own = `load${Load.count++}`;
  readonly ended: Promise<void>;

  /** @param dir the mount; the process works in a directory of its own below it */
  constructor(readonly dir: string, private readonly promised: Promised) {
    this.child = fork(fileURLToPath(import.meta.url), [dir, this.own],
      { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
    this.child.on('message', (m: Told) => { this.told(m); });
    this.ended = new Promise((resolve) => { this.child.once('exit', () => { resolve(); }); });
  }

  private told(m: Told): void {
    if (m.error !== undefined) this.error = { code: m.code ?? '', message: m.error };
    if (m.removing !== undefined) this.promised.synced.delete(m.removing);
    if (m.synced === undefined) return;
    this.operations++;
    this.promised.synced.add(m.synced);
    const done: Done = { beganMs: m.beganMs ?? 0, endedMs: m.endedMs ?? 0 };
    for (const w of [...this.waiters]) w(done);
  }

  /** Resolves with the first operation that began at or after `sinceMs` and was completed. */
  first(sinceMs: number): Promise<Done> {
    return new Promise((resolve, reject) => {
      const waiter = (d: Done): void => {
        if (d.beganMs < sinceMs) return;
        this.waiters.splice(this.waiters.indexOf(waiter), 1);
        resolve(d);
      };
      this.waiters.push(waiter);
      void this.ended.then(() => {
        reject(new Error(`the load on ${this.dir} has ended: ${this.error?.message ?? 'killed'}`));
      });
    });
  }

  /** Ends it after what it is doing. */
  async stop(): Promise<void> {
    if (this.child.connected) this.child.send('stop');
    await this.ended;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

class Worker {
  private readonly files: string[] = [];
  private stopped = false;
  private nr = 0;

  constructor(private readonly dir: string, private readonly own: string) {
    process.on('message', () => { this.stopped = true; });
  }

  async run(): Promise<void> {
    fs.mkdirSync(join(this.dir, this.own));
    while (!this.stopped) {
      this.step();
      // lets messages in and out
      await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS); });
    }
  }

  private step(): void {
    const beganMs = Date.now();
    const name = `${this.own}/f${this.nr++}`;
    const tmp = join(this.dir, this.own, 'tmp');
    const fd = fs.openSync(tmp, 'w');
    const data = contentsOf(name);
    for (let at = 0; at < data.length;) at += fs.writeSync(fd, data, at);
    fs.renameSync(tmp, join(this.dir, name));
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    process.send?.({ synced: name, beganMs, endedMs: Date.now() });
    this.files.push(name);
    const old = this.files[this.nr * 7 % this.files.length] ?? name;
    if (!fs.readFileSync(join(this.dir, old)).equals(contentsOf(old))) {
      throw new Error(`${old}: other contents`);
    }
    if (this.files.length < FILES_MAX) return;
    const gone = this.files.shift() ?? '';
    process.send?.({ removing: gone });
    fs.unlinkSync(join(this.dir, gone));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send !== undefined) {
  const [dir = '', own = ''] = process.argv.slice(2);
  new Worker(dir, own).run().then(() => { process.exit(0); }, (e: unknown) => {
    const code = (e as NodeJS.ErrnoException).code ?? '';
    process.send?.({ error: String(e), code }, () => { process.exit(1); });
  });
}
