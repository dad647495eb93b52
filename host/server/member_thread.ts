/**
 * A mount's handle on its quorum member, which runs in a thread of its own so that a
 * long commit of the server never delays a file operation, nor the reverse a heartbeat.
 *
 * `stop` leaves cleanly. `force` ends the thread where it is: nothing is sent or written
 * any more, as after a crash, so the next leader fences this mount. A thread that ends
 * by itself has failed and is reported once.
 */
import type { Env } from '../env/env.js';
import type { Endpoint } from '../env/net.js';
import type { Thread } from '../env/thread.js';
import type { Log, LogLevel } from '../observe/log.js';
import { ScoutfsError } from '../observe/errors.js';
import type { TriggerName } from '../observe/triggers.js';
import type { FenceView } from './fence.js';
import type {
  FromMember, MemberConfig, MemberOptions, MemberView, PlainError, ToMember,
} from './member_protocol.js';
import type { ServerStatus } from './quorum_agent.js';

/** Whom the member tells what happens. */
export interface MemberEvents {
  role?(isLeader: boolean): void;
  server?(status: ServerStatus): void;
  /** A server of ours could not start or stops because of an error, or the agent failed. */
  serverFailed?(error: ScoutfsError): void;
  /** The fence requests of our server have changed; empty without one. */
  fences?(requests: FenceView[]): void;
  /** The member takes part in nothing any more; the mount goes on as a plain client. */
  failed?(error: ScoutfsError): void;
}

/** What the thread says about itself when asked. */
export interface MemberState {
  /** the status file (quorum.md 8) */
  text: string;
  counters: Float64Array;
  /** mounts that our server is connected to */
  clients: number;
  armed: readonly TriggerName[];
}

/** Of a member that takes part in nothing. */
const GONE: MemberState = {
  text: 'role 0 (follower)\n', counters: new Float64Array(0), clients: 0, armed: [],
};

function revived(e: PlainError): ScoutfsError {
  return new ScoutfsError(e.code, e.errno, { message: e.message });
}

export class MemberHandle {
  isLeader = false;
  serverStatus: ServerStatus = 'down';
  fences: FenceView[] = [];
  private nextId = 1;
  private readonly statusWaits = new Map<number, (s: MemberState) => void>();
  private readonly views = new Map<number, (text: string) => void>();
  private started: { resolve: () => void; reject: (e: ScoutfsError) => void } | null = null;
  private last: MemberState = GONE;
  private ended = false;
  private stopError: ScoutfsError | null = null;
  private readonly gone: Promise<void>;

  private constructor(private readonly thread: Thread<ToMember, FromMember>,
    private readonly log: Log, private readonly events: MemberEvents) {
    thread.onMessage((m) => { this.received(m); });
    this.gone = new Promise((resolve) => {
      thread.onEnd((error) => {
        this.threadEnded(error);
        resolve();
      });
    });
  }

  /** Starts a member. @throws (rejects) the one-line reason, e.g. EADDRINUSE */
  static async start(env: Env, config: MemberConfig, log: Log, events: MemberEvents = {}):
  Promise<MemberHandle> {
    const thread = env.startThread<ToMember, FromMember>(
      new URL('./worker.js', import.meta.url), config);
    const handle = new MemberHandle(thread, log, events);
    await new Promise<void>((resolve, reject) => { handle.started = { resolve, reject }; });
    return handle;
  }

  /** The status file (quorum.md 8). */
  async status(): Promise<string> {
    return (await this.state()).text;
  }

  /** What the thread has counted, for `Counters.addSnapshot`. */
  async counters(): Promise<Float64Array> {
    return (await this.state()).counters;
  }

  /** Everything at once. */
  state(): Promise<MemberState> {
    if (this.ended) return Promise.resolve(this.last);
    const id = this.nextId++;
    return new Promise((resolve) => {
      this.statusWaits.set(id, resolve);
      this.thread.post({ type: 'status', id });
    });
  }

  /** The text of a debug view of our server. */
  view(name: MemberView): Promise<string> {
    if (this.ended) return Promise.resolve('');
    const id = this.nextId++;
    return new Promise((resolve) => {
      this.views.set(id, resolve);
      this.thread.post({ type: 'view', id, name });
    });
  }

  armTrigger(name: TriggerName, on: boolean): void {
    this.post({ type: 'trigger', name, on });
  }

  setOption(name: keyof MemberOptions, value: number): void {
    this.post({ type: 'option', name, value });
  }

  setLogLevel(level: LogLevel): void {
    this.post({ type: 'log-level', level });
  }

  /** The administrator's agent has cut this mount off, or could not. */
  setFenced(rid: bigint): void {
    this.post({ type: 'fenced', rid });
  }

  setFenceError(rid: bigint): void {
    this.post({ type: 'fence-error', rid });
  }

  /** The leader at `at` does not answer at all. */
  leaderUnreachable(at: Endpoint): void {
    this.post({ type: 'unreachable', at });
  }

  /** Stops our server, resigns, leaves. @throws EIO when the end could not be recorded */
  async stop(): Promise<void> {
    this.post({ type: 'stop' });
    await this.gone;
    if (this.stopError !== null) throw this.stopError;
  }

  /** Ends it where it is. */
  async force(): Promise<void> {
    this.ended = true;
    await this.thread.terminate();
  }

  private post(message: ToMember): void {
    if (!this.ended) this.thread.post(message);
  }

  private received(m: FromMember): void {
    switch (m.type) {
      case 'started':
        this.started?.resolve();
        this.started = null;
        break;
      case 'start-failed':
        this.ended = true;
        this.started?.reject(revived(m.error));
        this.started = null;
        break;
      case 'log':
        this.log[m.level](m.text);
        break;
      case 'role':
        this.isLeader = m.isLeader;
        this.events.role?.(m.isLeader);
        break;
      case 'server':
        this.serverStatus = m.status;
        this.events.server?.(m.status);
        break;
      case 'server-failed':
        this.events.serverFailed?.(revived(m.error));
        break;
      case 'fences':
        this.fences = m.requests;
        this.events.fences?.(m.requests);
        break;
      case 'failed':
        this.events.failed?.(revived(m.error));
        break;
      case 'status':
        this.last = { text: m.text, counters: m.counters, clients: m.clients, armed: m.armed };
        this.statusWaits.get(m.id)?.(this.last);
        this.statusWaits.delete(m.id);
        break;
      case 'view':
        this.views.get(m.id)?.(m.text);
        this.views.delete(m.id);
        break;
      case 'stopped':
        this.ended = true;
        this.stopError = m.error === null ? null : revived(m.error);
        break;
    }
  }

  private threadEnded(error: Error | null): void {
    const unexpected = !this.ended;
    this.ended = true;
    this.last = { ...GONE, counters: this.last.counters };
    this.isLeader = false;
    this.serverStatus = 'down';
    for (const resolve of this.statusWaits.values()) resolve(this.last);
    this.statusWaits.clear();
    for (const resolve of this.views.values()) resolve('');
    this.views.clear();
    if (!unexpected) return;
    const failure = new ScoutfsError('MEMBER_THREAD', 'EIO', {
      message: `the quorum member's thread ended: ${error?.message ?? 'for no known reason'}`,
      cause: error,
    });
    this.log.error(failure.message);
    if (this.started !== null) this.started.reject(failure);
    else this.events.failed?.(failure);
    this.started = null;
  }
}
