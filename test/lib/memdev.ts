/**
 * A simulated device without a cache, for tests of everything above the device row.
 */
import { SimDevice } from '../../host/env/sim_device.js';

export class MemDevice extends SimDevice {
  constructor(sizeBytes: number, path = 'mem') {
    super(path, sizeBytes);
  }
}
