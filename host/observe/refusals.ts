/**
 * Log lines about what peers do, and about what they sent and was refused.
 *
 * A peer that misbehaves is worth a line with its address and the reason. One that does so
 * a thousand times a second must not fill the log: a budget of BURST lines is spent, one
 * line more comes back every REFILL_MS, and the line that follows a gap says how many are
 * missing. What is refused is counted by whoever refuses it; nothing is lost there.
 */
import type { Log } from './log.js';

const BURST = 20;
const REFILL_MS = 5000;

/** How many lines of a kind may still be logged. */
export class LogBudget {
  private budget = BURST;
  private refilledAtMs: number;
  private dropped = 0;

  /** `nowMs`: monotonic. */
  constructor(private readonly nowMs: () => number) {
    this.refilledAtMs = nowMs();
  }

  /** Takes a line out of the budget. @returns the line's end, null when it is not to be logged */
  take(): string | null {
    this.refill();
    if (this.budget < 1) {
      this.dropped += 1;
      return null;
    }
    this.budget -= 1;
    const more = this.dropped === 0 ? '' : ` (${this.dropped} more were not logged)`;
    this.dropped = 0;
    return more;
  }

  private refill(): void {
    const back = Math.floor((this.nowMs() - this.refilledAtMs) / REFILL_MS);
    if (back <= 0) return;
    this.refilledAtMs += back * REFILL_MS;
    this.budget = Math.min(BURST, this.budget + back);
  }
}

export class Refusals {
  private readonly budget: LogBudget;

  /** `part`: what the lines begin with. `nowMs`: monotonic. */
  constructor(private readonly log: Log, private readonly part: string, nowMs: () => number) {
    this.budget = new LogBudget(nowMs);
  }

  /** Something that came from `peer` (an address) was refused. */
  note(peer: string, why: string): void {
    const more = this.budget.take();
    if (more !== null) this.log.warn(`${this.part}: refused from ${peer}: ${why}${more}`);
  }
}
