/**
 * Answers mounts that want to leave.
 *
 * One worker looks at all waiting requests together (farewell.ts decides), reclaims every
 * mount that may go, and only then answers, so that a mount that was told to go is gone
 * from the volume. It runs when a request comes, when a client has greeted or reported
 * its locks, and when one was reclaimed.
 * Requests of a stopping server stay unanswered; the next one gets them again.
 * Source: server.md 8.1, 8.2.
 */
import type { NetRequest } from '../net/peer.js';
import { hex16 } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import { mayLeave } from './farewell.js';
import type { MountedClients } from './mounted_clients.js';

export interface FarewellDeps {
  votesNeeded: number;
  /** whether a client is still to report its locks */
  recovering(rid: bigint): boolean;
  /** whether a client has a socket now */
  connected(rid: bigint): boolean;
  reclaim(rid: bigint): Promise<void>;
  /** on the monotonic clock */
  nowMs(): number;
  /** a mount could not be let go */
  failed(e: unknown): void;
}

export class FarewellWorker {
  private waiting: { rid: bigint; request: NetRequest; sinceMs: number }[] = [];
  private running: Promise<void> | null = null;
  private again = false;
  private stopping = false;

  constructor(private readonly mounted: MountedClients, private readonly deps: FarewellDeps) {}

  add(rid: bigint, request: NetRequest): void {
    if (this.stopping) return;
    // Asked again, it waits for the later answer.
    this.waiting = this.waiting.filter((w) => w.rid !== rid);
    this.waiting.push({ rid, request, sinceMs: this.deps.nowMs() });
    this.kick();
  }

  /** The mounts that wait to be let go. */
  pending(): Pending[] {
    return this.waiting.map(({ rid, sinceMs }) =>
      ({ kind: 'farewell', sinceMs, text: `rid ${hex16(rid)}` }));
  }

  /** Looks at all waiting requests. */
  kick(): void {
    if (this.stopping || this.waiting.length === 0) return;
    if (this.running !== null) {
      this.again = true;
      return;
    }
    this.running = this.work()
      .catch((e: unknown) => { this.deps.failed(e); })
      .finally(() => {
        this.running = null;
        if (this.again) {
          this.again = false;
          this.kick();
        }
      });
  }

  /** Takes no more; waits for the work at hand. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.waiting = [];
    await this.running;
  }

  private async work(): Promise<void> {
    const rids = [...new Set(this.waiting.map((w) => w.rid))];
    const chosen = mayLeave(rids, await this.mounted.list(), this.deps.votesNeeded,
      (rid) => this.deps.recovering(rid), (rid) => this.deps.connected(rid));
    for (const rid of chosen) await this.deps.reclaim(rid);
    const leaving = new Set(chosen);
    const answer = this.waiting.filter((w) => leaving.has(w.rid));
    this.waiting = this.waiting.filter((w) => !leaving.has(w.rid));
    for (const { request } of answer) request.respond(null);
  }
}
