/**
 * Starting the daemon of a mount, and waiting for it.
 *
 * `startDaemon` runs the daemon as a process of its own session and returns when it
 * serves or has failed. The daemon reports on file descriptor 3, one line of JSON:
 * {"ready":true,"ident":"f.…","warnings":[]} or {"error":"…","errno":"…"}. If the parent is
 * killed while it waits, the daemon notices the closed pipe and undoes everything.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../env/clock.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import type { ErrnoName } from '../observe/errors.js';
import { ERRNO } from '../observe/errors.js';
import type { MountInfo } from '../env/rundir.js';
import { daemonRuns, listMounts } from '../env/rundir.js';

export interface DaemonConfig {
  dataDevice: string;
  dir: string;
  /** comma separated mount options, metadev_path included */
  options: string;
  /** where the daemon logs; null: standard error */
  logPath: string | null;
  logLevel: string;
}

/** File descriptor on which the daemon reports. */
export const REPORT_FD = 3;
/** Threads for device I/O and kernel notifications: I/O depth plus concurrent invalidations. */
const THREADPOOL_SIZE = 24;
const EXIT_POLL_MS = 20;
/** A daemon that has reported its failure only has to end its process. */
const FAILED_EXIT_WAIT_MS = 5000;

/** A mount that serves. */
export interface StartedMount {
  ident: string;
  /** what the person who mounts should know, one line each */
  warnings: readonly string[];
}

interface Report {
  ready?: boolean;
  ident?: string;
  warnings?: string[];
  error?: string;
  errno?: string;
}

/** @returns the mount once it serves. @throws what the daemon failed with */
export async function startDaemon(clock: Clock, cfg: DaemonConfig): Promise<StartedMount> {
  const main = fileURLToPath(new URL('./daemon_main.js', import.meta.url));
  const log = cfg.logPath === null ? 'inherit' : fs.openSync(cfg.logPath, 'a');
  const child = spawn(process.execPath, [main, JSON.stringify(cfg)], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log, log, 'pipe'],
    env: { ...process.env, UV_THREADPOOL_SIZE: String(THREADPOOL_SIZE) },
  });
  if (typeof log === 'number') fs.closeSync(log);
  const stop = (signal: NodeJS.Signals): void => { child.kill(signal); };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    const report = await readReport(child);
    if (report.ready === true) {
      return { ident: report.ident ?? '', warnings: report.warnings ?? [] };
    }
    // What failed has left nothing behind when the command returns, its process included.
    await exitOf(clock, child);
    const errno = report.errno !== undefined && report.errno in ERRNO
      ? report.errno as ErrnoName : 'EIO';
    throw new ScoutfsError(errno, errno, { message: report.error ?? 'the daemon failed' });
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    child.unref();
  }
}

/** Waits until a daemon that has failed is gone, but not for ever. */
function exitOf(clock: Clock, child: ReturnType<typeof spawn>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = clock.after(FAILED_EXIT_WAIT_MS, resolve);
    child.once('exit', () => {
      timer.cancel();
      resolve();
    });
  });
}

function readReport(child: ReturnType<typeof spawn>): Promise<Report> {
  const pipe = child.stdio[REPORT_FD];
  return new Promise((resolve, reject) => {
    let text = '';
    const end = (): void => {
      try {
        resolve(JSON.parse(text) as Report);
      } catch {
        resolve({ error: 'the daemon ended before it could serve (see its log)', errno: 'EIO' });
      }
    };
    if (pipe === null || pipe === undefined) {
      reject(new Error('no report pipe'));
      return;
    }
    pipe.on('data', (b: Buffer) => {
      text += b.toString('utf8');
      if (!text.includes('\n')) return;
      if ('destroy' in pipe) pipe.destroy();
      end();
    });
    pipe.on('end', end);
    pipe.on('error', (e: Error) => { reject(asScoutfsError(e)); });
    child.on('error', (e: Error) => { reject(asScoutfsError(e)); });
  });
}

/** The live mount served at a directory, if there is one. */
export function mountAt(dir: string): MountInfo | undefined {
  return listMounts().find((m) => m.alive && m.mountPoint === dir);
}

/** Waits until the daemon of a mount has ended. @throws ETIMEDOUT after `timeoutMs` */
export async function waitForExit(clock: Clock, m: MountInfo, timeoutMs: number): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += EXIT_POLL_MS) {
    if (!daemonRuns(m)) return;
    if (waitedMs >= timeoutMs) {
      throw new ScoutfsError('ETIMEDOUT', 'ETIMEDOUT', {
        message: `${m.mountPoint}: the daemon (process ${m.pid}) has not ended after ${
          Math.round(timeoutMs / 1000)} s`,
      });
    }
    await clock.sleep(EXIT_POLL_MS);
  }
}
