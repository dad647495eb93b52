/**
 * All effects of one process in one object, passed in at construction, so that a
 * simulation can replace every one of them.
 */
import type { Clock } from './clock.js';
import { realClock } from './clock.js';
import type { Device, OpenDeviceOptions } from './device.js';
import { openDevice } from './device.js';
import type { Net } from './net.js';
import { realNet } from './net.js';
import type { Random } from './random.js';
import { realRandom } from './random.js';

export interface Env {
  readonly clock: Clock;
  readonly random: Random;
  readonly net: Net;
  openDevice(path: string, opts?: OpenDeviceOptions): Promise<Device>;
}

/** The effects of this machine. */
export const realEnv: Env = { clock: realClock, random: realRandom, net: realNet, openDevice };
