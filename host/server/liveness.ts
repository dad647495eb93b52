/**
 * Mounts that hold a connection and answer nothing on it.
 *
 * The kernel of a host keeps the sockets of a process alive that is stopped, or that hangs.
 * Everybody who needs one of its locks, or wants to delete an inode, would wait for as long.
 * So of what is asked of a mount something has to come back within the patience that its
 * socket gets too (`tcp_keepalive_timeout_ms`):
 *
 *   asked for its open map, or its locks after a failover     answered at once by every mount
 *   asked to give up a lock                                   may take long: commits, the kernel
 *
 * When the former is not answered in time the socket is closed. A mount that lives comes back at
 * once and is sent everything again; one that does not is fenced after the usual 20 s. When the
 * latter takes long, the mount is asked for an open map that nobody wants, to see.
 *
 * Upstream has nothing of this: the kernel that serves its sockets is the mount itself.
 * Source: net.md 7, recovery.md 5 (prompt answers).
 */
import type { Clock, TimerHandle } from '../env/clock.js';

/** How often questions are looked at, in parts of the patience. */
const LOOKS = 4;

export interface LivenessDeps {
  clock: Clock;
  patienceMs: number;
  isConnected(rid: bigint): boolean;
  /** Asks something that every mount answers at once. */
  probe(rid: bigint): void;
  /** Closes the socket of one that has not answered. */
  giveUp(rid: bigint): void;
}

/** Something that a mount was asked and has not answered. */
export interface Question {
  readonly rid: bigint;
  /** every mount answers it at once */
  readonly prompt: boolean;
  /** of the socket that it was last sent on */
  sinceMs: number;
}

export class Liveness {
  private readonly open = new Set<Question>();
  private timer: TimerHandle | null = null;
  private stopped = false;

  constructor(private readonly d: LivenessDeps) {}

  asked(rid: bigint, prompt: boolean): Question {
    const q = { rid, prompt, sinceMs: this.d.clock.monotonicMs() };
    this.open.add(q);
    this.watch();
    return q;
  }

  answered(q: Question): void {
    this.open.delete(q);
  }

  /** A mount has a new socket: it is asked everything again. */
  connected(rid: bigint): void {
    const nowMs = this.d.clock.monotonicMs();
    for (const q of this.open) if (q.rid === rid) q.sinceMs = nowMs;
  }

  stop(): void {
    this.stopped = true;
    this.open.clear();
    this.timer?.cancel();
    this.timer = null;
  }

  private watch(): void {
    if (this.open.size === 0 || this.stopped) return;
    this.timer ??= this.d.clock.after(this.d.patienceMs / LOOKS, () => {
      this.timer = null;
      this.look();
      this.watch();
    });
  }

  private look(): void {
    const lateMs = this.d.clock.monotonicMs() - this.d.patienceMs;
    const silent = new Set<bigint>();
    const slow = new Set<bigint>();
    const probed = new Set<bigint>();
    for (const q of this.open) {
      if (!this.d.isConnected(q.rid)) continue;
      const isLate = q.sinceMs <= lateMs;
      if (q.prompt) (isLate ? silent : probed).add(q.rid);
      else if (isLate) slow.add(q.rid);
    }
    for (const rid of silent) this.d.giveUp(rid);
    for (const rid of slow) if (!silent.has(rid) && !probed.has(rid)) this.d.probe(rid);
  }
}
