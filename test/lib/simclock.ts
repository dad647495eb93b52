/**
 * A clock that stands still until told otherwise. Timers fire in order of time, then
 * of creation; promises settle between two timers, so that a simulated system runs as
 * far as it can before time moves on.
 */
import type { Clock, TimerHandle, WallTime } from '../../host/env/clock.js';

interface Timer {
  atMs: number;
  nr: number;
  /** null once it fired or was cancelled */
  fn: (() => void) | null;
}

/** Lets everything that only waits for promises run to its end, or `rounds` of it. */
export async function settle(rounds?: number): Promise<void> {
  if (rounds === undefined) await new Promise((resolve) => { setImmediate(resolve); });
  else for (let i = 0; i < rounds; i++) await Promise.resolve();
}

function before(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.nr < b.nr);
}

/** The earliest timer first: a binary heap. Cancelled ones stay until their turn. */
class TimerHeap {
  private readonly heap: Timer[] = [];

  push(timer: Timer): void {
    const { heap } = this;
    let i = heap.length;
    heap.push(timer);
    for (;;) {
      const up = (i - 1) >> 1;
      const parent = heap[up];
      if (i === 0 || parent === undefined || !before(timer, parent)) break;
      heap[i] = parent;
      i = up;
    }
    heap[i] = timer;
  }

  /** The first timer that was not cancelled. */
  peek(): Timer | undefined {
    for (let top = this.heap[0]; top?.fn === null; top = this.heap[0]) this.pop();
    return this.heap[0];
  }

  pop(): void {
    const { heap } = this;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let i = 0;
    for (;;) {
      let down = 2 * i + 1;
      const left = heap[down];
      const right = heap[down + 1];
      let child = left;
      if (left !== undefined && right !== undefined && before(right, left)) {
        child = right;
        down += 1;
      }
      if (child === undefined || !before(child, last)) break;
      heap[i] = child;
      i = down;
    }
    heap[i] = last;
  }
}

export class SimClock implements Clock {
  private nowMs = 0;
  private nr = 0;
  private readonly timers = new TimerHeap();

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
    const timer: Timer = { atMs: this.nowMs + Math.max(0, delayMs), nr: this.nr++, fn };
    this.timers.push(timer);
    return { cancel: () => { timer.fn = null; } };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => { this.after(delayMs, resolve); });
  }

  /** Lets `ms` pass, firing timers on the way. */
  async advance(ms: number): Promise<void> {
    const endMs = this.nowMs + ms;
    await settle();
    while (this.fireNext(endMs)) await settle();
    this.nowMs = endMs;
    await settle();
  }

  /**
   * Lets time pass until `promise` has settled. @returns what it resolves with
   * @throws what it rejects with; an error when no timer is left, or after `limitMs`
   */
  async until<T>(promise: Promise<T>, limitMs = Infinity): Promise<T> {
    const state = { settled: false };
    const done = (): void => { state.settled = true; };
    promise.then(done, done);
    const endMs = this.nowMs + limitMs;
    for (;;) {
      await settle();
      if (state.settled) return promise;
      if (!this.fireNext(endMs)) {
        throw new Error(`simulation: nothing happens any more at ${this.nowMs} ms`);
      }
    }
  }

  /** Moves time to the next timer and fires it. @returns false when none is due by `endMs` */
  private fireNext(endMs: number): boolean {
    const timer = this.timers.peek();
    if (timer === undefined || timer.fn === null || timer.atMs > endMs) return false;
    this.timers.pop();
    this.nowMs = Math.max(this.nowMs, timer.atMs);
    const { fn } = timer;
    timer.fn = null;
    fn();
    return true;
  }
}
