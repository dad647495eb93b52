/**
 * Work that goes on beside operations: merging log trees, compacting srch files, scanning
 * for orphans.
 *
 * Each loop asks, works, and waits; a loop that is stopped ends at its next wait. Merging
 * and compacting run in a thread with a core of its own, because they can take seconds.
 * Source: client.md 5, forest.md 8.7, srch.md 5.3, inode.md 7.
 */
import { SRCH_COMPACT_FLAG_ERROR } from '../core/constants.js';
import type { Env } from '../env/env.js';
import type { TimerHandle } from '../env/clock.js';
import type { OrphanScan } from '../fs/orphan_scan.js';
import type { Client } from '../mount/client.js';
import { MergeThread } from './merge_thread.js';
import type { Log } from '../observe/log.js';
import type { Counters } from '../observe/counters.js';
import type { Triggers } from '../observe/triggers.js';
import { asScoutfsError } from '../observe/errors.js';
import type { Volume } from '../super.js';

const MERGE_IDLE_MS = 5000;
const COMPACT_DELAY_DEF_MS = 10_000;
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
  triggers: Triggers;
  orphanDelayMs(): number;
}

export class BackgroundLoops {
  /** Merge requests worked on. */
  merges = 0;
  /** Pieces of compactions that succeeded. */
  compactions = 0;
  private stopped = false;
  private scanStopped = false;
  private scanning: Promise<void> | null = null;
  private compactMs = COMPACT_DELAY_DEF_MS;
  /** Ends the pause before a question for compaction work, which then begins anew. */
  private putOffCompact: (() => void) | null = null;
  /** Pauses before scans that were given up. */
  private scanRound = 0;
  /** Ends the pause before a scan, which then begins anew. */
  private putOffScan: (() => void) | null = null;
  private readonly sleepers = new Set<() => void>();
  private readonly running: Promise<void>[] = [];
  private readonly thread: MergeThread;

  constructor(private readonly d: BackgroundDeps) {
    this.thread = new MergeThread(d.env, d.vol, d.counters, d.triggers, (what, message) => {
      d.log.warn(`${what === 'merge' ? 'log merge' : 'srch compaction'}: ${message}`);
    });
  }

  start(): void {
    this.scanning = this.scanLoop();
    this.running.push(this.mergeLoop(), this.compactLoop());
  }

  /** The delay between scans has changed: the pending scan is put off anew. */
  rescheduleScan(): void {
    this.scanRound += 1;
    this.putOffScan?.();
  }

  /** Time between questions for srch files to compact; setting it starts the time anew. */
  get compactDelayMs(): number { return this.compactMs; }

  set compactDelayMs(ms: number) {
    this.compactMs = ms;
    this.putOffCompact?.();
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

  /** Waits between two pieces of work, but not after one that succeeded. */
  private async compactLoop(): Promise<void> {
    const { d } = this;
    while (!this.isStopped()) {
      await this.waitForCompact();
      for (let worked = true; worked && !this.isStopped();) {
        worked = await this.compactOnce().catch((e: unknown) => {
          if (!this.isStopped()) d.log.warn(`srch compaction: ${asScoutfsError(e).message}`);
          return false;
        });
      }
    }
  }

  private async waitForCompact(): Promise<void> {
    for (let again = true; again && !this.isStopped();) {
      again = false;
      await this.sleep(this.compactMs, (wake) => {
        this.putOffCompact = () => {
          again = true;
          wake();
        };
      });
      this.putOffCompact = null;
    }
  }

  /** @returns whether there was work and it succeeded */
  private async compactOnce(): Promise<boolean> {
    const { client } = this.d;
    const request = await client.srchGetCompact();
    if (request.nr === 0) return false;
    const done = await this.thread.compact(request);
    await client.srchCommitCompact(done);
    // an error is not worked on again at once, however well its commit went
    if ((done.flags & SRCH_COMPACT_FLAG_ERROR) !== 0) return false;
    this.compactions += 1;
    return true;
  }
}
