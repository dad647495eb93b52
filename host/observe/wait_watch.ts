/**
 * Says in the log when a mount, or its server, waits for long: for a server, an answer, a
 * lock, a device, a fencing agent.
 *
 * A wait of 10 s is worth a line: what waits, how long, and why. While it goes on the line
 * is repeated after twice the time each. When nothing waits for so long any more there is
 * one line that says so. What exactly waits is in the control file `debug/pending`.
 */
import type { Clock, TimerHandle } from '../env/clock.js';
import type { Log } from './log.js';
import type { Pending } from './pending.js';

/** Between two looks. */
const LOOK_MS = 2000;
/** A wait shorter than this is nothing to speak of. */
export const LONG_WAIT_MS = 10_000;
/** Waits that a line names. */
const NAMED_MAX = 4;

/** `server for 12 s (no server: ...); request for 11 s (COMMIT_LOG_TREES); 3 more` */
export function waitsText(waits: readonly Pending[], nowMs: number): string {
  const oldestFirst = [...waits].sort((a, b) => a.sinceMs - b.sinceMs);
  const named = oldestFirst.slice(0, NAMED_MAX).map((p) =>
    `${p.kind} for ${Math.floor((nowMs - p.sinceMs) / 1000)} s (${p.text})`);
  const more = oldestFirst.length - named.length;
  return named.join('; ') + (more > 0 ? `; ${more} more` : '');
}

export class WaitWatch {
  private timer: TimerHandle | null = null;
  private nextLineMs = LONG_WAIT_MS;
  private oldestMs: number | null = null;

  constructor(private readonly clock: Clock, private readonly log: Log,
    private readonly pending: () => readonly Pending[]) {}

  start(): void {
    this.timer = this.clock.after(LOOK_MS, () => {
      this.look();
      this.start();
    });
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  private look(): void {
    const nowMs = this.clock.monotonicMs();
    const long = this.pending().filter((p) => nowMs - p.sinceMs >= LONG_WAIT_MS);
    if (long.length === 0) {
      if (this.oldestMs !== null) {
        this.log.info(`no longer waiting, after ${Math.floor((nowMs - this.oldestMs) / 1000)} s`);
      }
      this.oldestMs = null;
      this.nextLineMs = LONG_WAIT_MS;
      return;
    }
    this.oldestMs = Math.min(...long.map((p) => p.sinceMs));
    if (nowMs - this.oldestMs < this.nextLineMs) return;
    this.log.warn(`waiting: ${waitsText(long, nowMs)}`);
    this.nextLineMs = 2 * (nowMs - this.oldestMs);
  }
}
