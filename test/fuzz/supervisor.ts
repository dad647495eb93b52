/**
 * Runs the cases of a fuzzer in a process of their own, seed after seed.
 *
 * The process tells when a case begins and what came of it. When one takes too long, or the
 * process's memory grows without a bound, or it dies, the seed has failed; another process
 * goes on with the next one.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Real time of one case: far above what the slowest needs on a busy machine. */
const CASE_LIMIT_MS = 120_000;
/** What comes before the first. */
const BEGIN_LIMIT_MS = 300_000;
const RSS_MAX_BYTES = 1 << 30;
const LOOK_MS = 500;
const PAGE_BYTES = 4096;
const HEAP_MAX_MB = 400;

/** What the process tells: cases begin and end in turn. */
export type Told<R> = { type: 'begin'; seed: number } | { type: 'end'; seed: number; result: R };

export interface Supervised<R> {
  /** module that is run with `args`, `--worker --from N --count M` */
  script: string;
  args?: readonly string[];
  from: number;
  count: number;
  seconds?: number;
  ended(seed: number, result: R): void;
  failed(seed: number, what: string): void;
}

/** @returns the most memory that any process used */
export async function supervise<R>(s: Supervised<R>): Promise<number> {
  const state = { maxRssBytes: 0 };
  const endMs = performance.now() + (s.seconds ?? Infinity) * 1000;
  for (let next = s.from; next < s.from + s.count && performance.now() < endMs;) {
    next = await runProcess(s, next, endMs, state);
  }
  return state.maxRssBytes;
}

/** Runs one process until all is done or it has to be ended. @returns the next seed */
function runProcess<R>(s: Supervised<R>, from: number, endMs: number,
  state: { maxRssBytes: number }): Promise<number> {
  const to = s.from + s.count;
  const worker = fork(s.script,
    [...s.args ?? [], '--worker', '--from', `${from}`, '--count', `${to - from}`],
    { execArgv: [`--max-old-space-size=${HEAP_MAX_MB}`, '--max-semi-space-size=32'] });
  let current = from - 1;
  let deadlineMs = performance.now() + BEGIN_LIMIT_MS;
  let why: string | null = null;
  const kill = (reason: string): void => {
    why ??= reason;
    worker.kill('SIGKILL');
  };
  const look = setInterval(() => {
    const now = performance.now();
    const rss = rssBytes(worker);
    state.maxRssBytes = Math.max(state.maxRssBytes, rss);
    if (rss > RSS_MAX_BYTES) kill(`uses ${rss} bytes of memory`);
    else if (now > deadlineMs) kill('does not end');
    else if (now > endMs) kill('');
  }, LOOK_MS);
  worker.on('message', (m: Told<R>) => {
    deadlineMs = performance.now() + CASE_LIMIT_MS;
    current = m.seed;
    if (m.type === 'end') s.ended(m.seed, m.result);
  });
  return new Promise((resolve) => {
    worker.on('exit', (code, signal) => {
      clearInterval(look);
      if (why !== '' && (code !== 0 || signal !== null)) {
        s.failed(current, why ?? `the process died (${signal ?? code})`);
      }
      resolve(why === null && code === 0 ? to : current + 1);
    });
  });
}

function rssBytes(p: ChildProcess): number {
  try {
    const pages = readFileSync(`/proc/${p.pid ?? 0}/statm`, 'utf8').split(' ')[1];
    return Number(pages ?? 0) * PAGE_BYTES;
  } catch {
    return 0;
  }
}

/** In the process: tells the supervisor. */
export function tellSupervisor<R>(m: Told<R>): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send?.(m, undefined, {}, (e) => { if (e === null) resolve(); else reject(e); });
  });
}

/** Rejections and exceptions that nobody handles, from now on. */
export function collectUnhandled(): string[] {
  const unhandled: string[] = [];
  const caught = (e: unknown): void => {
    unhandled.push(e instanceof Error ? e.stack ?? e.message : String(e));
  };
  process.on('unhandledRejection', caught);
  process.on('uncaughtException', caught);
  return unhandled;
}
