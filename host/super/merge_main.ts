/**
 * The merge thread itself: takes requests, merges, answers with completions.
 */
import type { Env } from '../env/env.js';
import { realEnv } from '../env/env.js';
import type { ThreadSelf } from '../env/thread.js';
import { threadSelf } from '../env/thread.js';
import { LogMergeWorker } from '../mount/log_merge.js';
import { Counters } from '../observe/counters.js';
import type { MergeAnswer, MergeThreadData } from './merge_thread.js';

type Self = ThreadSelf<Uint8Array, MergeAnswer, MergeThreadData>;

/** Serves merge requests with the effects of `env`; resolves when it is ready to. */
export async function runMerges(env: Env, self: Self): Promise<void> {
  const { metaPath, fsid, memoryBytes } = self.data;
  const device = await env.openDevice(metaPath);
  const worker = new LogMergeWorker(device, fsid, env.random, memoryBytes);
  let last = Promise.resolve();
  self.onMessage((request) => {
    last = last.then(async () => {
      const { completion } = await worker.run(request);
      const counters = new Counters();
      worker.addCounts(counters);
      self.post({ completion, counters: counters.snapshot() });
    });
  });
}

const self = threadSelf<Uint8Array, MergeAnswer, MergeThreadData>();
if (self !== null) await runMerges(realEnv, self);
