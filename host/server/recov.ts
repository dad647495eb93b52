/**
 * What a new server still has to hear from the clients of the previous one.
 *
 * Per client two things can be outstanding: its greeting and the report of its locks.
 * A client with nothing outstanding leaves the list; when the list is empty recovery
 * is finished, once. Clients that do not make it within 30 s are handed to `expired`
 * to be fenced; they stay on the list until they are reclaimed, because what waits for
 * recovery must wait for them too. Source: recovery.md 2.
 */
import type { Clock, TimerHandle } from '../env/clock.js';
import { hex16 } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';

export const RECOV_GREETING = 1;
export const RECOV_LOCKS = 2;
/** How long clients may take to come to a new server. */
export const RECOVERY_TIMEOUT_MS = 30_000;

export class Recovery {
  private readonly outstanding = new Map<bigint, number>();
  private timer: TimerHandle | null = null;
  private startedMs = 0;
  private started = false;
  private finished = false;

  /** `done` is called once, when nobody is outstanding any more. */
  constructor(private readonly clock: Clock, private readonly done: () => void,
    private readonly expired: (rids: bigint[]) => void) {}

  /** A client of the previous server. */
  add(rid: bigint): void {
    this.outstanding.set(rid, RECOV_GREETING | RECOV_LOCKS);
  }

  /** All clients were added: starts the timer, or finishes at once. */
  start(timeoutMs = RECOVERY_TIMEOUT_MS): void {
    this.started = true;
    this.startedMs = this.clock.monotonicMs();
    if (this.outstanding.size > 0) {
      this.timer = this.clock.after(timeoutMs, () => {
        this.expired([...this.outstanding.keys()]);
      });
    }
    this.finishIfDone();
  }

  /** Is any of `bits` outstanding for `rid`, or without `rid` for anybody? */
  pending(bits: number, rid?: bigint): boolean {
    if (rid !== undefined) return ((this.outstanding.get(rid) ?? 0) & bits) !== 0;
    for (const b of this.outstanding.values()) if ((b & bits) !== 0) return true;
    return false;
  }

  /** Clients not yet recovered. */
  get count(): number {
    return this.outstanding.size;
  }

  /** The clients that have not recovered, and what is outstanding of each. */
  pendingClients(): Pending[] {
    return [...this.outstanding].map(([rid, bits]) => ({
      kind: 'recovery', sinceMs: this.startedMs,
      text: `rid ${hex16(rid)} outstanding ${[
        ...(bits & RECOV_GREETING) !== 0 ? ['greeting'] : [],
        ...(bits & RECOV_LOCKS) !== 0 ? ['locks'] : []].join(',')}`,
    }));
  }

  /** `bits` of a client are done. */
  finish(rid: bigint, bits: number): void {
    const left = (this.outstanding.get(rid) ?? 0) & ~bits;
    if (left === 0) this.outstanding.delete(rid);
    else this.outstanding.set(rid, left);
    this.finishIfDone();
  }

  /** The server stops: forgets everything, tells nobody. */
  stop(): void {
    this.timer?.cancel();
    this.timer = null;
    this.finished = true;
    this.outstanding.clear();
  }

  private finishIfDone(): void {
    if (!this.started || this.finished || this.outstanding.size > 0) return;
    this.finished = true;
    this.timer?.cancel();
    this.timer = null;
    this.done();
  }
}
