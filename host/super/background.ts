/**
 * Work that goes on beside operations: merging log trees, scanning for orphans.
 *
 * Each loop asks, works, and waits; a loop that is stopped ends at its next wait.
 * Merging runs in a thread with a core of its own, because it can take seconds.
 * Source: client.md 5, forest.md 8.7, inode.md 7.
 */
import type { Env } from '../env/env.js';
import type { TimerHandle } from '../env/clock.js';
import type { OrphanScan } from '../fs/orphan_scan.js';
import type { Client } from '../mount/client.js';
import { MergeThread } from './merge_thread.js';
import type { Log } from '../observe/log.js';
import type { Counters } from '../observe/counters.js';
import { asScoutfsError } from '../observe/errors.js';
import type { Volume } from '../super.js';

const MERGE_IDLE_MS = 5000;
/** Orphan scans start 80 % to 120 % of the delay after each other. */
const JITTER_LEAST_PERCENT = 80;
const JITTER_RANGE_PERCENT = 40;

export interface BackgroundDeps {
  env: Env;
  log: Log;
  client: Client;
  vol: Volume;
  scan: OrphanScan;
  counters: Counters;
  orphanDelayMs(): number;
}

export class BackgroundLoops {
  /** Merge requests worked on. */
  merges = 0;
  private stopped = false;
  private scanStopped = false;
  private scanning: Promise<void> | null = null;
  /** Pauses before scans that were given up. */
  private scanRound = 0;
  /** Ends the pause before a scan, which then begins anew. */
  private putOffScan: (() => void) | null = null;
  private readonly sleepers = new Set<() => void>();
  private readonly running: Promise<void>[] = [];
  private readonly thread: MergeThread;

  constructor(private readonly d: BackgroundDeps) {
    this.thread = new MergeThread(d.env, d.vol, d.counters);
  }

  start(): void {
    this.scanning = this.scanLoop();
    this.running.push(this.mergeLoop());
  }

  /** The delay between scans has changed: the pending scan is put off anew. */
  rescheduleScan(): void {
    this.scanRound += 1;
    this.putOffScan?.();
  }

  /** Ends scanning; resolves when a running scan has ended. */
  async stopScan(): Promise<void> {
    this.scanStopped = true;
    this.wakeAll();
    await this.scanning;
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.wakeAll();
    await this.thread.stop();
    await this.stopScan();
    await Promise.all(this.running);
  }

  private sleep(ms: number, sleeping?: (wake: () => void) => void): Promise<void> {
    return new Promise((resolve) => {
      const timer: TimerHandle = this.d.env.clock.after(ms, () => { wake(); });
      const wake = (): void => {
        timer.cancel();
        this.sleepers.delete(wake);
        resolve();
      };
      this.sleepers.add(wake);
      sleeping?.(wake);
      if (this.stopped) wake();
    });
  }

  private wakeAll(): void {
    for (const wake of [...this.sleepers]) wake();
  }

  private async scanLoop(): Promise<void> {
    const { d } = this;
    for (;;) {
      await this.waitForScan();
      if (this.scanStopped) return;
      try {
        await d.scan.pass(() => this.scanStopped);
      } catch (e) {
        if (!this.isScanStopped()) d.log.warn(`orphan scan: ${asScoutfsError(e).message}`);
      }
    }
  }

  private async waitForScan(): Promise<void> {
    const { d } = this;
    let round: number;
    do {
      round = this.scanRound;
      const percent = JITTER_LEAST_PERCENT + d.env.random.below(JITTER_RANGE_PERCENT + 1);
      await this.sleep(Math.max(1, d.orphanDelayMs() * percent / 100), (wake) => {
        this.putOffScan = wake;
      });
      this.putOffScan = null;
    } while (round !== this.scanRound && !this.scanStopped);
  }

  private async mergeLoop(): Promise<void> {
    const { d } = this;
    await this.sleep(MERGE_IDLE_MS);
    while (!this.isStopped()) {
      const worked = await this.mergeOnce().catch((e: unknown) => {
        if (!this.isStopped()) d.log.warn(`log merge: ${asScoutfsError(e).message}`);
        return false;
      });
      if (!worked) await this.sleep(MERGE_IDLE_MS);
    }
  }

  private isStopped(): boolean { return this.stopped; }

  private isScanStopped(): boolean { return this.scanStopped; }

  /** @returns whether there was work and it succeeded */
  private async mergeOnce(): Promise<boolean> {
    const { client } = this.d;
    const request = await client.getLogMerge().catch((e: unknown) => {
      if (asScoutfsError(e).errno === 'ENOENT') return null;
      throw e;
    });
    if (request === null) return false;
    const complete = await this.thread.merge(request);
    await client.commitLogMerge(complete);
    this.merges += 1;
    return (complete.flags & 1) === 0;
  }
}
