/**
 * The thread that merges log trees, from the mount's side.
 *
 * It is started with the first request and kept: its core's memory is only touched
 * when there is something to merge. One request at a time.
 */
import type { Env } from '../env/env.js';
import type { Thread } from '../env/thread.js';
import { LogMergeComplete, LogMergeRequest } from '../core/format.js';
import type { Volume } from '../super.js';
import type { Counters } from '../observe/counters.js';
import { errnoError } from '../observe/errors.js';

/** What the thread starts with. */
export interface MergeThreadData {
  metaPath: string;
  fsid: bigint;
  /** of the thread's core */
  memoryBytes: number;
}

/** What the thread answers a request with. */
export interface MergeAnswer {
  completion: Uint8Array;
  /** what it has counted since the answer before */
  counters: Float64Array;
}

export class MergeThread {
  private thread: Thread<Uint8Array, MergeAnswer> | null = null;
  private waiting: { resolve(b: Uint8Array): void; reject(e: Error): void } | null = null;

  constructor(private readonly env: Env, private readonly vol: Volume,
    private readonly counters: Counters) {}

  /** Merges; failures of the work are in the completion's flags. @throws when the thread died */
  async merge(request: LogMergeRequest): Promise<LogMergeComplete> {
    const bytes = new Uint8Array(LogMergeRequest.size);
    LogMergeRequest.write(new DataView(bytes.buffer), 0, request);
    this.thread ??= this.start();
    const thread = this.thread;
    const done = await new Promise<Uint8Array>((resolve, reject) => {
      this.waiting = { resolve, reject };
      thread.post(bytes);
    });
    return LogMergeComplete.read(new DataView(done.buffer, done.byteOffset), 0);
  }

  async stop(): Promise<void> {
    const thread = this.thread;
    this.thread = null;
    await thread?.terminate();
  }

  private start(): Thread<Uint8Array, MergeAnswer> {
    const { metaDevice, metaSuper: sb } = this.vol;
    const data: MergeThreadData = {
      metaPath: metaDevice.path, fsid: sb.hdr.fsid, memoryBytes: this.vol.memory.mergeBytes,
    };
    const thread = this.env.startThread<Uint8Array, MergeAnswer>(
      new URL('./merge_main.js', import.meta.url), data);
    thread.onMessage(({ completion, counters }) => {
      this.counters.addSnapshot(counters);
      this.waiting?.resolve(completion);
      this.waiting = null;
    });
    thread.onEnd((error) => {
      if (this.thread === thread) this.thread = null;
      this.waiting?.reject(error ?? errnoError('ECONNABORTED', 'the merge thread ended'));
      this.waiting = null;
    });
    return thread;
  }
}
