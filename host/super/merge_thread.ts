/**
 * The thread that merges log trees and compacts srch files, from the mount's side.
 *
 * It is started with the first request and kept: its core's memory is only touched
 * when there is something to do. Requests are worked on and answered in their order.
 */
import type { Env } from '../env/env.js';
import type { Thread } from '../env/thread.js';
import { LogMergeComplete, LogMergeRequest, SrchCompact } from '../core/format.js';
import { decode, encode } from '../net/messages.js';
import type { Volume } from '../super.js';
import type { Counters } from '../observe/counters.js';
import { errnoError } from '../observe/errors.js';
import type { TriggerName, Triggers } from '../observe/triggers.js';

/** What the thread starts with. */
export interface MergeThreadData {
  metaPath: string;
  fsid: bigint;
  /** of the thread's core */
  memoryBytes: number;
}

/** A struct that the server handed out. */
export interface WorkRequest {
  what: 'merge' | 'compact';
  bytes: Uint8Array;
  armed: readonly TriggerName[];
}

/** What the thread answers a request with. */
export interface WorkAnswer {
  completion: Uint8Array;
  /** what the work failed with, for the log; the completion has it in its flags */
  error: string | null;
  /** what it has counted since the answer before */
  counters: Float64Array;
  fired: readonly TriggerName[];
}

interface Waiter {
  resolve(answer: WorkAnswer): void;
  reject(e: Error): void;
}

export class MergeThread {
  private thread: Thread<WorkRequest, WorkAnswer> | null = null;
  /** Who waits for answers, in the order of the requests. */
  private readonly waiting: Waiter[] = [];

  /** @param failed is told what work failed with */
  constructor(private readonly env: Env, private readonly vol: Volume,
    private readonly counters: Counters, private readonly triggers: Triggers,
    private readonly failed: (what: WorkRequest['what'], message: string) => void) {}

  /** Merges; failures of the work are in the completion's flags. @throws when the thread died */
  async merge(request: LogMergeRequest): Promise<LogMergeComplete> {
    return decode(LogMergeComplete,
      await this.work('merge', encode(LogMergeRequest, request)));
  }

  /** Does a piece of a compaction, likewise. @throws when the thread died */
  async compact(request: SrchCompact): Promise<SrchCompact> {
    return decode(SrchCompact,
      await this.work('compact', encode(SrchCompact, request)));
  }

  async stop(): Promise<void> {
    const thread = this.thread;
    this.thread = null;
    await thread?.terminate();
  }

  private async work(what: WorkRequest['what'], bytes: Uint8Array): Promise<Uint8Array> {
    this.thread ??= this.start();
    const thread = this.thread;
    const answer = await new Promise<WorkAnswer>((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      thread.post({ what, bytes, armed: this.triggers.list() });
    });
    this.counters.addSnapshot(answer.counters);
    for (const name of answer.fired) this.triggers.fires(name);
    if (answer.error !== null) this.failed(what, answer.error);
    return answer.completion;
  }

  private start(): Thread<WorkRequest, WorkAnswer> {
    const { metaDevice, metaSuper: sb } = this.vol;
    const data: MergeThreadData = {
      metaPath: metaDevice.path, fsid: sb.hdr.fsid, memoryBytes: this.vol.memory.mergeBytes,
    };
    const thread = this.env.startThread<WorkRequest, WorkAnswer>(
      new URL('./merge_main.js', import.meta.url), data);
    thread.onMessage((answer) => { this.waiting.shift()?.resolve(answer); });
    thread.onEnd((error) => {
      if (this.thread === thread) this.thread = null;
      const e = error ?? errnoError('ECONNABORTED', 'the merge thread ended');
      for (const w of this.waiting.splice(0)) w.reject(e);
    });
    return thread;
  }
}
