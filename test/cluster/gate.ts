/**
 * A process can be stopped (SIGSTOP, a virtual machine that is not scheduled) and go on:
 * meanwhile what should have happened to it waits.
 *
 * Timers that ran out and datagrams and bytes that came are handed over, timers first and
 * each in an event of its own, when the process goes on. Threads have gates of their own
 * behind the gate of their process.
 */
import type { SimClock } from '../lib/simclock.js';

type Event = () => void;

export class Gate {
  private closed = false;
  private readonly timers: Event[] = [];
  private readonly input: Event[] = [];
  private readonly passing: Event[] = [];
  private readonly children: Gate[] = [];

  constructor(private readonly clock: SimClock, private readonly parent: Gate | null) {
    parent?.children.push(this);
  }

  get isClosed(): boolean {
    return this.closed || (this.parent?.isClosed ?? false);
  }

  /** Runs a timer's function, or keeps it. */
  timer(fn: Event): void {
    if (this.isClosed) this.timers.push(fn);
    else fn();
  }

  /** Hands over something that came from outside, or keeps it. */
  came(fn: Event): void {
    // What came earlier is handed over first.
    if (this.isClosed || this.input.length > 0) this.input.push(fn);
    else fn();
  }

  /** Resolves when the process runs. */
  pass(): Promise<void> {
    if (!this.isClosed) return Promise.resolve();
    return new Promise((resolve) => { this.passing.push(resolve); });
  }

  close(): void {
    this.closed = true;
  }

  open(): void {
    this.closed = false;
    this.flush();
  }

  private flush(): void {
    if (this.isClosed) return;
    for (const fn of [...this.passing.splice(0), ...this.timers.splice(0)]) this.clock.after(0, fn);
    this.clock.after(0, () => { this.handOver(); });
    for (const c of this.children) c.flush();
  }

  /** Hands over what came first, and then the rest; what comes meanwhile is the last. */
  private handOver(): void {
    if (this.isClosed) return;
    this.input.shift()?.();
    if (this.input.length > 0) this.clock.after(0, () => { this.handOver(); });
  }
}
