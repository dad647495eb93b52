/**
 * Threads of a simulated process: the same modules, run in this thread with the effects
 * of the process, between the same messages.
 *
 * Messages are cloned, so nothing is shared, and arrive in a later promise round.
 */
import type { Env } from '../../host/env/env.js';
import type { Thread, ThreadSelf } from '../../host/env/thread.js';
import type { FromMember, MemberConfig, ToMember } from '../../host/server/member_protocol.js';
import { runMember } from '../../host/server/worker.js';
import { runMerges } from '../../host/super/merge_main.js';
import type { MergeThreadData, WorkAnswer, WorkRequest } from '../../host/super/merge_thread.js';

type Main = (env: Env, self: ThreadSelf<unknown, unknown, unknown>) => Promise<void>;

/** What the modules that are started as threads do, by file name. */
const MAINS: Readonly<Record<string, Main>> = {
  'worker.js': (env, self) =>
    runMember(env, self as ThreadSelf<ToMember, FromMember, MemberConfig>),
  'merge_main.js': (env, self) =>
    runMerges(env, self as ThreadSelf<WorkRequest, WorkAnswer, MergeThreadData>),
};

/** The effects of one thread, and their end. */
export interface ThreadLife {
  readonly env: Env;
  alive(): boolean;
  kill(): void;
}

/** One direction of messages. */
class Port {
  private receiver: ((message: unknown) => void) | null = null;
  private queue: unknown[] = [];

  constructor(private readonly alive: () => boolean) {}

  post(message: unknown): void {
    this.queue.push(structuredClone(message));
    this.kick();
  }

  onMessage(fn: (message: unknown) => void): void {
    this.receiver = fn;
    this.kick();
  }

  private kick(): void {
    if (this.receiver === null) return;
    void Promise.resolve().then(() => {
      const { receiver, queue } = this;
      this.queue = [];
      for (const message of queue) if (this.alive()) receiver?.(message);
    });
  }
}

/** The name of the thread that a module's URL starts, for logs and devices. */
export function threadName(url: URL): string {
  return url.pathname.endsWith('worker.js') ? 'server' : 'merge';
}

/** Starts a thread on `life`. */
export function startSimThread<In, Out>(life: ThreadLife, url: URL, data: unknown):
Thread<In, Out> {
  const main = MAINS[url.pathname.slice(url.pathname.lastIndexOf('/') + 1)];
  if (main === undefined) throw new Error(`no such thread: ${url.pathname}`);
  const toThread = new Port(() => life.alive());
  const fromThread = new Port(() => true);
  let ended: ((error: Error | null) => void) | null = null;
  let over = false;
  const end = (error: Error | null): void => {
    if (over) return;
    over = true;
    // After the messages that were posted before.
    void Promise.resolve().then(() => Promise.resolve()).then(() => { ended?.(error); });
  };
  main(life.env, {
    data: structuredClone(data),
    post: (message) => { if (life.alive()) fromThread.post(message); },
    onMessage: (fn) => { toThread.onMessage(fn); },
    close: () => { end(null); },
  }).catch((e: unknown) => { end(e instanceof Error ? e : new Error(String(e))); });
  return {
    post: (message) => { toThread.post(message); },
    onMessage: (fn) => { fromThread.onMessage((m) => { fn(m as Out); }); },
    onEnd: (fn) => { ended = fn; },
    terminate: () => {
      life.kill();
      end(null);
      return Promise.resolve();
    },
  };
}
