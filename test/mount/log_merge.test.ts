/**
 * The memory of merges.
 */
import t from 'tap';
import { Core } from '../../host/core/core.js';
import { LogMergeWorker } from '../../host/mount/log_merge.js';
import { SimDevice } from '../../host/env/sim_device.js';
import { seededRandom } from '../lib/treespace.js';

const MIB = 1024 * 1024;

t.test('a merge window that does not fit its core is refused in words', async (t) => {
  for (const memoryMb of [6, 12, 16]) {
    t.throws(() => new Core(seededRandom(1), {
      memoryBytes: memoryMb * MIB, mergeWindowBytes: 2 * MIB,
    }), { message: /core memory of \d+ bytes holds/ }, `${memoryMb} MiB`);
  }
});

t.test('the window follows the memory', async (t) => {
  const device = new SimDevice('meta', 64 * MIB);
  for (const memoryMb of [8, 12, 16, 64, 192]) {
    const worker = new LogMergeWorker(device, 1n, seededRandom(1), memoryMb * MIB);
    t.ok(worker.dirtyMaxBlocks > 0, `${memoryMb} MiB`);
  }
});
