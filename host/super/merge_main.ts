/**
 * The merge thread itself: takes requests, merges, answers with completions.
 */
import { realEnv } from '../env/env.js';
import { threadSelf } from '../env/thread.js';
import { LogMergeWorker } from '../mount/log_merge.js';
import type { MergeThreadData } from './merge_thread.js';

const self = threadSelf<Uint8Array, Uint8Array, MergeThreadData>();
if (self !== null) {
  const device = await realEnv.openDevice(self.data.metaPath);
  const worker = new LogMergeWorker(device, self.data.fsid, realEnv.random);
  let last = Promise.resolve();
  self.onMessage((request) => {
    last = last.then(async () => { self.post((await worker.run(request)).completion); });
  });
}
