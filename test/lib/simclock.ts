/**
 * A clock that stands still until told otherwise. Timers fire in order of time, then
 * of creation; promises settle between two timers, so that a simulated system runs as
 * far as it can before time moves on.
 */
import type { Clock, TimerHandle, WallTime } from '../../host/env/clock.js';

interface Timer {
  atMs: number;
  nr: number;
  fn: () => void;
}

/** Lets everything that only waits for promises run to its end, or `rounds` of it. */
export async function settle(rounds?: number): Promise<void> {
  if (rounds === undefined) await new Promise((resolve) => { setImmediate(resolve); });
  else for (let i = 0; i < rounds; i++) await Promise.resolve();
}

export class SimClock implements Clock {
  private nowMs = 0;
  private nr = 0;
  private timers: Timer[] = [];

  constructor(private readonly epochSec = 1_700_000_000) {}

  now(): WallTime {
    return {
      sec: this.epochSec + Math.floor(this.nowMs / 1000),
      nsec: Math.floor((this.nowMs % 1000) * 1e6),
    };
  }

  monotonicMs(): number {
    return this.nowMs;
  }

  after(delayMs: number, fn: () => void): TimerHandle {
    const timer = { atMs: this.nowMs + Math.max(0, delayMs), nr: this.nr++, fn };
    this.timers.push(timer);
    return { cancel: () => { this.timers = this.timers.filter((t) => t !== timer); } };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => { this.after(delayMs, resolve); });
  }

  /** Lets `ms` pass, firing timers on the way. */
  async advance(ms: number): Promise<void> {
    const endMs = this.nowMs + ms;
    await settle();
    for (;;) {
      const next = this.timers.filter((t) => t.atMs <= endMs)
        .sort((a, b) => a.atMs - b.atMs || a.nr - b.nr)[0];
      if (next === undefined) break;
      this.timers = this.timers.filter((t) => t !== next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.fn();
      await settle();
    }
    this.nowMs = endMs;
    await settle();
  }
}
