/**
 * One incarnation of the server, made from what a thread or a simulation has.
 *
 * An election makes a new incarnation; it never comes back to life. It gets a core and
 * fence requests of its own, so nothing of an earlier one is left.
 * Source: server.md 1, 9; recovery.md 3.
 */
import type { Device } from '../env/device.js';
import type { Env } from '../env/env.js';
import { Core } from '../core/core.js';
import type { Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import type { ScoutfsError } from '../observe/errors.js';
import type { Pending } from '../observe/pending.js';
import type { Triggers } from '../observe/triggers.js';
import type { FenceView, LocalFenceAgent } from './fence.js';
import { FenceRequests } from './fence.js';
import type { ServerView } from './member_protocol.js';
import type { Slot } from './quorum_block.js';
import { Server } from './server.js';

export interface ServerRun {
  /** Resolves when it is up. Rejects when it could not start; everything is put away then. */
  start(): Promise<void>;
  /** Stops it, also while it starts. Resolves when it is down and writes nothing any more. */
  stop(): Promise<void>;
  /** The administrator's agent has cut off a mount, or failed to. */
  setFenced(rid: bigint): void;
  setFenceError(rid: bigint): void;
  /** Mounts that are connected. */
  readonly clientCount: number;
  /** Brings the counters up to date with what its core has counted. */
  takeCounts(): void;
  /** What waits for other mounts, or for a fencing agent. */
  pending(): Pending[];
  /** The lines of a debug view. */
  view(name: ServerView): string[];
}

/** What a server tells about itself. */
export interface ServerEvents {
  /** It cannot go on and stops. */
  failed(error: ScoutfsError): void;
  /** The fence requests have changed. */
  fences(requests: FenceView[]): void;
}

export interface ServerParts {
  env: Pick<Env, 'clock' | 'net' | 'random'>;
  log: Log;
  counters: Counters;
  metaDevice: Device;
  dataDevice: Device;
  fsid: bigint;
  fmtVers: number;
  /** of the mount this server belongs to */
  rid: bigint;
  slotNr: number;
  slots: readonly Slot[];
  /** read whenever it is used: can change while the server runs */
  options: { readonly logMergeWaitTimeoutMs: number };
  /** `tcp_keepalive_timeout_ms` */
  silenceTimeoutMs: number;
  coreMemoryBytes: number;
  /** answers for mounts of this host */
  fenceAgent: LocalFenceAgent | null;
  triggers: Triggers;
}

/** A server for the election of `term`. */
export function makeServer(p: ServerParts, term: number, events: ServerEvents): ServerRun {
  const fences = new FenceRequests(p.env.clock, p.fenceAgent, () => {
    server.fencesChanged();
    events.fences(fences.list());
  });
  const core = new Core(p.env.random, {
    memoryBytes: p.coreMemoryBytes,
    staleNext: () => p.triggers.fires('block_remove_stale'),
  });
  const server: Server = new Server({
    env: p.env, core,
    metaDevice: p.metaDevice, dataDevice: p.dataDevice, fsid: p.fsid, fmtVers: p.fmtVers,
    slots: p.slots, slotNr: p.slotNr, term, rid: p.rid, fences, options: p.options,
    silenceTimeoutMs: p.silenceTimeoutMs, log: p.log, counters: p.counters, triggers: p.triggers,
    failed: (error) => { events.failed(error); },
  });
  return {
    start: () => server.start(),
    async stop() {
      await server.stop();
      core.addCounts(p.counters);
    },
    takeCounts: () => { core.addCounts(p.counters); },
    setFenced: (rid) => { fences.setFenced(rid); },
    setFenceError: (rid) => { fences.setError(rid); },
    get clientCount() { return server.clientCount; },
    pending: () => server.pending(),
    view: (name) => server.view(name),
  };
}
