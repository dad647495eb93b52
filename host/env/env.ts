/**
 * All effects of one process in one object, passed in at construction, so that a
 * simulation can replace every one of them.
 */
import type { Clock } from './clock.js';
import { realClock } from './clock.js';
import type { Device, OpenDeviceOptions } from './device.js';
import { openDevice } from './device.js';
import { isAdmin } from './caps.js';
import type { LocalMounts } from './local_mounts.js';
import { hostMounts } from './local_mounts.js';
import type { Net } from './net.js';
import { realNet } from './net.js';
import type { Random } from './random.js';
import { realRandom } from './random.js';
import type { StartThread } from './thread.js';
import { startThread } from './thread.js';

export interface Env {
  readonly clock: Clock;
  readonly random: Random;
  readonly net: Net;
  openDevice(path: string, opts?: OpenDeviceOptions): Promise<Device>;
  readonly startThread: StartThread;
  /** The mounts of this host that use the metadata device at `metaPath`. */
  localMounts(metaPath: string): LocalMounts;
  /** Whether the process behind a request has CAP_SYS_ADMIN. */
  isAdmin(pid: number): boolean;
}

/** The effects of this machine. */
export const realEnv: Env = {
  clock: realClock, random: realRandom, net: realNet, openDevice, startThread,
  localMounts: (metaPath) => hostMounts(realClock, metaPath), isAdmin,
};
