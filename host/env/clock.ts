/**
 * Time and timers.
 *
 * `now` is wall-clock time for inode times, `monotonicMs` never goes back and is
 * what timeouts are measured with. A simulated clock replaces this whole object.
 */

export interface TimerHandle {
  /** Stops the timer; nothing happens when it has fired already. */
  cancel(): void;
}

export interface WallTime {
  sec: number;
  nsec: number;
}

export interface Clock {
  /** Wall-clock time since 1970-01-01 UTC with nanosecond resolution. */
  now(): WallTime;
  /** Milliseconds on a clock that never goes back, with a fraction. */
  monotonicMs(): number;
  /** Calls `fn` once after `delayMs`. A timer does not keep the process alive. */
  after(delayMs: number, fn: () => void): TimerHandle;
  /** Resolves after `delayMs`. */
  sleep(delayMs: number): Promise<void>;
}

/** `2026-01-31 23:59:59` UTC, for lines that people read. */
export function timeText(t: WallTime): string {
  return new Date(t.sec * 1000).toISOString().slice(0, 19).replace('T', ' ');
}

const NS_PER_MS = 1_000_000;
const startMs = Date.now();
/** What the high-resolution counter lacks to wall time since `startMs`; follows corrections. */
let counterLagMs = -performance.now();

/** The machine's clock. Wall time is the system's with the high-resolution counter's digits. */
export const realClock: Clock = {
  now() {
    // Date.now() says which millisecond it is; the counter, corrected to lie in that one, says
    // where in it. So time goes back only when the system's does.
    const ms = Date.now();
    const counterMs = performance.now();
    let within = counterMs + counterLagMs - (ms - startMs);
    if (within < 0 || within >= 1) {
      const right = within < 0 ? 0 : 1 - 1 / NS_PER_MS;
      counterLagMs += right - within;
      within = right;
    }
    return {
      sec: Math.floor(ms / 1000),
      nsec: (ms % 1000) * NS_PER_MS + Math.min(NS_PER_MS - 1, Math.floor(within * NS_PER_MS)),
    };
  },
  monotonicMs() {
    return performance.now();
  },
  after(delayMs, fn) {
    const t = setTimeout(fn, delayMs);
    t.unref();
    return { cancel: () => { clearTimeout(t); } };
  },
  sleep(delayMs) {
    return new Promise((resolve) => { setTimeout(resolve, delayMs); });
  },
};
