/**
 * Log lines about what peers sent and was refused.
 *
 * A peer that misbehaves is worth a line with its address and the reason. One that does so
 * a thousand times a second must not fill the log: a budget of BURST lines is spent, one
 * line more comes back every REFILL_MS, and the line that follows a gap says how many are
 * missing. What is refused is counted by whoever refuses it; nothing is lost there.
 */
import type { Log } from './log.js';

const BURST = 20;
const REFILL_MS = 5000;

export class Refusals {
  private budget = BURST;
  private refilledAtMs: number;
  private dropped = 0;

  /** `part`: what the lines begin with. `nowMs`: monotonic. */
  constructor(private readonly log: Log, private readonly part: string,
    private readonly nowMs: () => number) {
    this.refilledAtMs = nowMs();
  }

  /** Something that came from `peer` (an address) was refused. */
  note(peer: string, why: string): void {
    this.refill();
    if (this.budget < 1) {
      this.dropped += 1;
      return;
    }
    this.budget -= 1;
    const more = this.dropped === 0 ? '' : ` (${this.dropped} more were not logged)`;
    this.dropped = 0;
    this.log.warn(`${this.part}: refused from ${peer}: ${why}${more}`);
  }

  private refill(): void {
    const back = Math.floor((this.nowMs() - this.refilledAtMs) / REFILL_MS);
    if (back <= 0) return;
    this.refilledAtMs += back * REFILL_MS;
    this.budget = Math.min(BURST, this.budget + back);
  }
}
