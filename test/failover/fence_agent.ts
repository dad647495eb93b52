/**
 * A fencing agent for tests, as the stock one works: it looks through the requests of the mounts
 * of one host, has the mount of each cut off, and says so in `fenced`.
 *
 * It is a process per host, because reading the files of a mount that is stopped waits. The
 * cutting off is its parent's: `FenceAgents` gets the rid and answers when that mount certainly
 * writes no more.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SCAN_MS = 100;

/** One agent for each run directory. */
export class FenceAgents {
  /** Mounts that were cut off, with the reasons that were given. */
  readonly fenced: { rid: string; reason: string }[] = [];
  private readonly children: ChildProcess[];

  constructor(runDirs: readonly string[], cutOff: (rid: string) => Promise<void>) {
    this.children = runDirs.map((dir) => {
      const child = fork(fileURLToPath(import.meta.url), [dir],
        { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
      child.on('message', (m: { rid: string; reason: string; dir: string }) => {
        void cutOff(m.rid).then(() => {
          this.fenced.push({ rid: m.rid, reason: m.reason });
          if (child.connected) child.send({ dir: m.dir });
        });
      });
      return child;
    });
  }

  end(): void {
    for (const child of this.children) child.kill('SIGKILL');
  }
}

/** Requests may go away at any time, also while they are read. */
function text(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

function names(dir: string): string[] {
  try {
    return fs.readdirSync(dir);
  } catch {
    return [];
  }
}

function scan(runDir: string, asked: Set<string>): void {
  for (const mount of names(runDir).filter((n) => n.startsWith('f.'))) {
    for (const rid of names(join(runDir, mount, 'fence'))) {
      const dir = join(runDir, mount, 'fence', rid);
      if (asked.has(dir) || text(join(dir, 'fenced')) !== '0' || text(join(dir, 'error')) !== '0') {
        continue;
      }
      asked.add(dir);
      process.send?.({ rid: text(join(dir, 'rid')), reason: text(join(dir, 'reason')), dir });
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send !== undefined) {
  const [runDir = ''] = process.argv.slice(2);
  const asked = new Set<string>();
  process.on('message', (m: { dir: string }) => {
    asked.delete(m.dir);
    try {
      fs.writeFileSync(join(m.dir, 'fenced'), '1');
    } catch {
      // the request is gone: another server will make it again
    }
  });
  process.on('disconnect', () => { process.exit(0); });
  setInterval(() => { scan(runDir, asked); }, SCAN_MS);
}
