/**
 * A quorum member: the election agent and the server it starts and stops.
 *
 *   agent: elected --> start(term) --> starting --up--> up
 *                                         |              | deposed, leaving, or it failed
 *                                         v              v
 *                                       down <------- stopping
 *
 * One incarnation of the server is one `ServerRun`; a new election makes a new one. The
 * agent only ever sees the status, so a start that takes long, fails, or is given up
 * half-way never delays a heartbeat. After a failure of its own server the member pauses
 * before it stands again (backoff.ts).
 *
 * An agent whose device or socket fails leaves at once, as upstream's does. When its server
 * is down a new one begins, again and again until that succeeds: a device that was away
 * for a moment must not leave a volume without a server. Only a slot that is not ours any
 * more, or a block that is damaged, ends it for good (decision 7).
 *
 * Runs in a thread of its own beside a mount (worker.ts), or anywhere in a simulation.
 * Source: server.md 1, 9; quorum.md 5.
 */
import type { Clock } from '../env/clock.js';
import type { Device } from '../env/device.js';
import type { Endpoint, Net } from '../env/net.js';
import type { Random } from '../env/random.js';
import type { Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import type { ScoutfsError } from '../observe/errors.js';
import { asScoutfsError } from '../observe/errors.js';
import { StandBackoff } from './backoff.js';
import { isSlotLost } from './quorum_block.js';
import type { FenceView } from './fence.js';
import type { ServerView } from './member_protocol.js';
import type { ServerControl } from './quorum.js';
import { Quorum } from './quorum.js';
import type { ServerStatus } from './quorum_agent.js';
import type { Slot } from './quorum_block.js';
import type { ServerEvents, ServerRun } from './server_run.js';

export interface MemberDeps {
  clock: Clock;
  random: Random;
  net: Net;
  metaDevice: Device;
  log: Log;
  counters?: Counters;
  fsid: bigint;
  rid: bigint;
  slotNr: number;
  slots: readonly Slot[];
  heartbeatTimeoutMs(): number;
  makeServer(term: number, events: ServerEvents): ServerRun;
  /** told before a server of ours starts */
  roleChanged(isLeader: boolean): void;
  serverChanged(status: ServerStatus): void;
  /** A server of ours could not start or stops because of an error, or the agent failed. */
  serverFailed(error: ScoutfsError): void;
  fencesChanged(requests: FenceView[]): void;
  /** The member takes part in elections no more. */
  failed(error: ScoutfsError): void;
}

/** Runs incarnations of the server for the agent. */
class ServerRunner implements ServerControl {
  private now: ServerStatus = 'down';
  private run: ServerRun | null = null;
  private changed: () => void = () => undefined;
  private readonly backoff = new StandBackoff();
  private failure = '';
  private failedMs = 0;

  constructor(private readonly d: MemberDeps) {}

  status(): ServerStatus {
    return this.now;
  }

  standAtMs(): number {
    return this.backoff.standAtMs;
  }

  onChange(fn: () => void): void {
    this.changed = fn;
  }

  /** Since when, and why, the member does not stand; an empty text when it may. */
  pause(nowMs: number): { sinceMs: number; text: string } {
    const leftMs = this.backoff.standAtMs - nowMs;
    return { sinceMs: this.failedMs, text: leftMs <= 0 || this.now !== 'down' ? ''
      : `our server failed: ${this.failure}; standing again in ${Math.ceil(leftMs / 1000)} s` };
  }

  get current(): ServerRun | null {
    return this.run;
  }

  start(term: number): void {
    if (this.now !== 'down') return;
    this.become('starting');
    const run = this.d.makeServer(term, {
      failed: (error) => {
        if (this.run !== run) return;
        this.d.log.error(`server: ${error.message}; stopping it`);
        this.failed(error);
        this.stop();
      },
      fences: (requests) => {
        if (this.run === run) this.d.fencesChanged(requests);
      },
    });
    this.run = run;
    run.start().then(
      () => { if (this.run === run && this.now === 'starting') this.become('up'); },
      (e: unknown) => {
        const error = asScoutfsError(e);
        this.d.log.error(`server: could not start: ${error.message}`);
        if (this.run !== run || this.now !== 'starting') return;
        this.failed(error);
        this.down();
      });
  }

  stop(): void {
    const { run } = this;
    if (run === null || this.now === 'stopping') return;
    this.become('stopping');
    run.stop().then(() => { this.down(); }, (e: unknown) => {
      this.d.log.error(`server: while stopping: ${asScoutfsError(e).message}`);
      this.down();
    });
  }

  private failed(error: ScoutfsError): void {
    if (this.now === 'stopping') return;
    this.failure = error.message;
    this.failedMs = this.d.clock.monotonicMs();
    const pauseMs = this.backoff.failed(this.failedMs);
    this.d.log.warn(`quorum: our server failed: not standing for election for ${
      pauseMs / 1000} s`);
    this.d.serverFailed(error);
  }

  private down(): void {
    this.run = null;
    this.backoff.stopped(this.d.clock.monotonicMs());
    this.d.fencesChanged([]);
    this.become('down');
  }

  private become(status: ServerStatus): void {
    if (this.now === status) return;
    this.now = status;
    if (status === 'up') this.backoff.up(this.d.clock.monotonicMs());
    this.d.log.info(`server: ${status}`);
    this.d.serverChanged(status);
    this.changed();
  }
}

/** Pause before a new agent begins. */
const RESTART_MS = 1000;

export class Member {
  private quorum!: Quorum;
  private readonly runner: ServerRunner;
  private stopping = false;
  private restarting: Promise<void> | null = null;
  /** The failure that keeps the member from taking part. */
  private away: Pending | null = null;

  private constructor(private readonly d: MemberDeps) {
    this.runner = new ServerRunner(d);
  }

  /** Binds the slot and takes part in elections. @throws EADDRINUSE, EIO, EINVAL */
  static async start(d: MemberDeps): Promise<Member> {
    const member = new Member(d);
    await member.begin(false);
    return member;
  }

  get isLeader(): boolean {
    return this.quorum.isLeader;
  }

  get serverStatus(): ServerStatus {
    return this.runner.status();
  }

  /** The status file (quorum.md 8). */
  status(): string {
    return this.quorum.status();
  }

  /** Mounts that our server is connected to; 0 without a server. */
  get clientCount(): number {
    return this.runner.current?.clientCount ?? 0;
  }

  /** The lines of a debug view of our server. */
  view(name: ServerView): string[] {
    return this.runner.current?.view(name) ?? [];
  }

  /** What waits in our server; why the member does not take part, or does not stand. */
  pending(): Pending[] {
    if (this.away !== null) return [this.away];
    const { sinceMs, text } = this.runner.pause(this.d.clock.monotonicMs());
    const own: Pending[] = text === '' ? [] : [{ kind: 'member', sinceMs, text }];
    return own.concat(this.quorum.pending(), this.runner.current?.pending() ?? []);
  }

  /** Brings the counters up to date. */
  takeCounts(): void {
    this.runner.current?.takeCounts();
  }

  setFenced(rid: bigint): void {
    this.runner.current?.setFenced(rid);
  }

  setFenceError(rid: bigint): void {
    this.runner.current?.setFenceError(rid);
  }

  /** Our mount gets no answer at all from the leader at `at`. */
  leaderUnreachable(at: Endpoint): void {
    void this.quorum.leaderUnreachable(at);
  }

  /** Stops a server of ours, resigns, and leaves. @throws EIO when that cannot be recorded */
  async stop(): Promise<void> {
    this.stopping = true;
    await this.restarting;
    await this.quorum.stop();
  }

  /** Leaves without a trace, as if killed. */
  async force(): Promise<void> {
    this.stopping = true;
    await this.restarting;
    await this.quorum.force();
  }

  private async begin(again: boolean): Promise<void> {
    const { d } = this;
    this.quorum = await Quorum.start({
      clock: d.clock, random: d.random, net: d.net, device: d.metaDevice, log: d.log,
      ...(d.counters === undefined ? {} : { counters: d.counters }),
      fsid: d.fsid, rid: d.rid, slotNr: d.slotNr, slots: d.slots, again,
      heartbeatTimeoutMs: () => d.heartbeatTimeoutMs(),
      server: this.runner,
      roleChanged: (isLeader) => { d.roleChanged(isLeader); },
      failed: (error) => { this.agentFailed(error); },
    });
  }

  private agentFailed(error: ScoutfsError): void {
    if (isSlotLost(error)) {
      this.d.failed(error);
      return;
    }
    this.d.serverFailed(error);
    this.noteAway(error);
    this.restarting ??= this.restart().finally(() => { this.restarting = null; });
  }

  /** Begins anew when the server is down; tries until it succeeds. */
  private async restart(): Promise<void> {
    const { clock, log } = this.d;
    for (;;) {
      await clock.sleep(RESTART_MS);
      if (this.isStopping()) return;
      if (this.runner.status() !== 'down') continue;
      try {
        await this.begin(true);
        log.info('quorum: taking part in elections again');
        this.away = null;
        return;
      } catch (e) {
        const error = asScoutfsError(e);
        if (isSlotLost(error)) {
          this.d.failed(error);
          return;
        }
        log.debug(`quorum: cannot take part yet: ${error.message}`);
        this.noteAway(error);
        this.d.serverFailed(error);
      }
    }
  }

  private noteAway(error: ScoutfsError): void {
    this.away = {
      kind: 'member', sinceMs: this.away?.sinceMs ?? this.d.clock.monotonicMs(),
      text: `taking part in no election until this works: ${error.message}`,
    };
  }

  private isStopping(): boolean {
    return this.stopping;
  }
}
