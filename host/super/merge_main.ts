/**
 * The merge thread itself: takes pieces of work, does them one after the other, answers
 * with their completions. Log merges and srch compactions share its core.
 */
import type { Env } from '../env/env.js';
import { realEnv } from '../env/env.js';
import type { ThreadSelf } from '../env/thread.js';
import { threadSelf } from '../env/thread.js';
import { LogMergeWorker } from '../mount/log_merge.js';
import { SrchCompactWorker } from '../mount/srch_compact.js';
import { Counters } from '../observe/counters.js';
import type { MergeThreadData, WorkAnswer, WorkRequest } from './merge_thread.js';

type Self = ThreadSelf<WorkRequest, WorkAnswer, MergeThreadData>;

/** Serves requests with the effects of `env`; resolves when it is ready to. */
export async function runMerges(env: Env, self: Self): Promise<void> {
  const { metaPath, fsid, memoryBytes } = self.data;
  const device = await env.openDevice(metaPath);
  const merges = new LogMergeWorker(device, fsid, env.random, memoryBytes);
  const compactions = new SrchCompactWorker(device, merges.core, merges.dirtyMaxBlocks);
  const work = async ({ what, bytes, armed }: WorkRequest): Promise<WorkAnswer> => {
    const counters = new Counters();
    merges.lookAtSize();
    const { completion, error, fired } = what === 'merge' ? await merges.run(bytes, armed)
      : await compactions.run(bytes, counters, armed);
    merges.addCounts(counters);
    return { completion, error: error?.message ?? null, counters: counters.snapshot(), fired };
  };
  let last = Promise.resolve();
  self.onMessage((request) => {
    last = last.then(async () => { self.post(await work(request)); });
  });
}

const self = threadSelf<WorkRequest, WorkAnswer, MergeThreadData>();
if (self !== null) await runMerges(realEnv, self);
