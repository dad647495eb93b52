/**
 * One incarnation of the server as its starter sees it, and what it is made from.
 *
 * An election makes a new incarnation with `MakeServer`; it never comes back to life.
 * Source: server.md 1, 9.
 */
import type { Device } from '../env/device.js';
import type { Endpoint } from '../env/net.js';
import type { Env } from '../env/env.js';
import type { Log } from '../observe/log.js';
import type { ScoutfsError } from '../observe/errors.js';
import type { FenceView, LocalFenceAgent } from './fence.js';
import type { Slot } from './quorum_block.js';

export interface ServerRun {
  /** Resolves when it is up. Rejects when it could not start; everything is put away then. */
  start(): Promise<void>;
  /** Stops it, also while it starts. Resolves when it is down and writes nothing any more. */
  stop(): Promise<void>;
  /** The administrator's agent has cut off a mount, or failed to. */
  setFenced(rid: bigint): void;
  setFenceError(rid: bigint): void;
}

/** What a server tells about itself. */
export interface ServerEvents {
  /** It cannot go on and has to be stopped. */
  failed(error: ScoutfsError): void;
  /** The fence requests have changed. */
  fences(requests: FenceView[]): void;
}

export interface ServerDeps {
  env: Env;
  log: Log;
  metaDevice: Device;
  dataDevice: Device;
  fsid: bigint;
  fmtVers: number;
  /** rid of the mount this server belongs to; never fenced by it */
  rid: bigint;
  slotNr: number;
  slots: readonly Slot[];
  /** address and port of our slot */
  listenAt: Endpoint;
  /** read whenever it is used: can change while the server runs */
  options: { readonly logMergeWaitTimeoutMs: number };
  /** `tcp_keepalive_timeout_ms` */
  silenceTimeoutMs: number;
  coreMemoryBytes: number;
  /** answers for mounts of this host */
  fenceAgent: LocalFenceAgent | null;
}

export type MakeServer = (deps: ServerDeps, term: number, events: ServerEvents) => ServerRun;
