/**
 * How long a member whose own server failed waits before it stands for election again.
 *
 *   failures in a row   1    2    3    4     5     6 ...
 *   pause               1 s  2 s  4 s  8 s  16 s  30 s ...
 *
 * A damaged volume fails every server at once. Without a pause the same member would be
 * elected again about three times a second, each time fencing, reading, writing its quorum
 * block and logging. The pause is the failing member's own: it votes, and others stand,
 * as ever. A server that ran for a while before it failed begins a new row.
 *
 * Spec: quorum.md 5.2 step 10 (upstream has no pause; timeouts may be longer, quorum.md 10).
 */

/** Pause after the first failure; each further one in a row doubles it. */
export const STAND_PAUSE_MIN_MS = 1000;
export const STAND_PAUSE_MAX_MS = 30_000;
/** A server that was up for so long had nothing wrong with it from the start. */
export const SERVER_RAN_MS = 30_000;

export class StandBackoff {
  /** Before this time the member does not stand. */
  standAtMs = 0;
  private pauseMs = 0;
  private upAtMs: number | null = null;

  /** A server of ours has come up. */
  up(nowMs: number): void {
    this.upAtMs = nowMs;
  }

  /** The server has failed. @returns the pause, in ms */
  failed(nowMs: number): number {
    const ran = this.upAtMs !== null && nowMs - this.upAtMs >= SERVER_RAN_MS;
    this.upAtMs = null;
    this.pauseMs = ran || this.pauseMs === 0
      ? STAND_PAUSE_MIN_MS : Math.min(2 * this.pauseMs, STAND_PAUSE_MAX_MS);
    this.standAtMs = nowMs + this.pauseMs;
    return this.pauseMs;
  }

  /** The server has stopped because it was asked to. */
  stopped(nowMs: number): void {
    if (this.upAtMs !== null && nowMs - this.upAtMs >= SERVER_RAN_MS) this.pauseMs = 0;
    this.upAtMs = null;
  }
}
