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

const wallOffsetNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

/** The machine's clock. Wall time is the system's with the high-resolution counter's digits. */
export const realClock: Clock = {
  now() {
    // Date.now() is exact to the millisecond; the counter adds the digits below it.
    const ms = Date.now();
    const sub = Number((process.hrtime.bigint() + wallOffsetNs) % 1_000_000n);
    return { sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1_000_000 + sub };
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
