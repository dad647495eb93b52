/**
 * What the parts of one running server share.
 *
 * Handlers find the trees through `commits` (dirty super, allocator, seqs) and reach
 * clients through `send`; everything that differs between a thread, a simulation and a
 * test is passed in here. Source: server.md.
 */
import type { Core } from '../core/core.js';
import type { Clock } from '../env/clock.js';
import type { Device } from '../env/device.js';
import type { ResponseFn } from '../net/peer.js';
import type { Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import type { Triggers } from '../observe/triggers.js';
import type { Commits } from './commit.js';
import type { MountedClients } from './mounted_clients.js';

export interface ServerOptions {
  /** How long finalizing waits for the other mounts' commits, 100..60000. */
  logMergeWaitTimeoutMs: number;
}

export const SERVER_OPTIONS: ServerOptions = { logMergeWaitTimeoutMs: 500 };

export interface ServerContext {
  readonly core: Core;
  readonly metaDevice: Device;
  readonly dataDevice: Device;
  readonly commits: Commits;
  readonly mounted: MountedClients;
  readonly clock: Clock;
  readonly log: Log;
  readonly counters: Counters;
  readonly options: ServerOptions;
  readonly triggers: Triggers;
  /** Metadata blocks kept back for commits (server.md 6.1). */
  reservedBlocks(): number;
  /** @throws ENOTCONN */
  send(rid: bigint, cmd: number, payload: Uint8Array, done: ResponseFn): void;
}
