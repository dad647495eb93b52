/**
 * What a mount and the thread of its quorum member say to each other.
 *
 *   mount                                   thread
 *     | start data (MemberConfig) ------------> opens devices, binds, begins
 *     | <----------------- started | start-failed
 *     | option, log-level, trigger, fenced, fence-error, unreachable, status, view --> ...
 *     | <-- log, role, server, fences, failed, status, view
 *     | stop ---------------------------------> leaves cleanly
 *     | <------------------------------ stopped
 *
 * All values survive structured cloning.
 */
import type { Endpoint } from '../env/net.js';
import type { Network } from '../env/peer_networks.js';
import type { LogLevel } from '../observe/log.js';
import type { ErrnoName, ScoutfsError } from '../observe/errors.js';
import type { TriggerName } from '../observe/triggers.js';
import type { FenceView } from './fence.js';
import type { ServerStatus } from './quorum_agent.js';

/** Options that can change while the member runs. */
export interface MemberOptions {
  /** `quorum_heartbeat_timeout_ms` */
  heartbeatTimeoutMs: number;
  /** `log_merge_wait_timeout_ms` */
  logMergeWaitTimeoutMs: number;
}

/** Debug views of the server, by the names of upstream's files; the last one is ours. */
export const SERVER_VIEWS = [
  'server_locks', 'server_lock_stats', 'connections', 'messages', 'mounts',
] as const;
export type ServerView = (typeof SERVER_VIEWS)[number];

/** Debug views of the member; what waits is its own and its server's. */
export const MEMBER_VIEWS = [...SERVER_VIEWS, 'pending'] as const;
export type MemberView = (typeof MEMBER_VIEWS)[number];

export interface MemberConfig extends MemberOptions {
  metaPath: string;
  dataPath: string;
  fsid: bigint;
  rid: bigint;
  slotNr: number;
  /** `tcp_keepalive_timeout_ms` */
  silenceTimeoutMs: number;
  /** `peer_networks` */
  peerNetworks: readonly Network[];
  /** memory of the server's core */
  coreMemoryBytes: number;
  logLevel: LogLevel;
}

/** An error without its stack and cause. */
export interface PlainError {
  code: string;
  errno: ErrnoName;
  message: string;
}

export type ToMember =
  | { type: 'stop' }
  | { type: 'status'; id: number }
  | { type: 'option'; name: keyof MemberOptions; value: number }
  | { type: 'log-level'; level: LogLevel }
  | { type: 'trigger'; name: TriggerName; on: boolean }
  | { type: 'view'; id: number; name: MemberView }
  | { type: 'fenced'; rid: bigint }
  | { type: 'fence-error'; rid: bigint }
  | { type: 'unreachable'; at: Endpoint };

export type FromMember =
  | { type: 'started' }
  | { type: 'start-failed'; error: PlainError }
  | { type: 'log'; level: LogLevel; text: string }
  | { type: 'role'; isLeader: boolean }
  | { type: 'server'; status: ServerStatus }
  | { type: 'server-failed'; error: PlainError }
  | { type: 'fences'; requests: FenceView[] }
  | { type: 'failed'; error: PlainError }
  | { type: 'status'; id: number; text: string; counters: Float64Array; clients: number;
    armed: TriggerName[] }
  | { type: 'view'; id: number; text: string }
  | { type: 'stopped'; error: PlainError | null };

export function plainError(e: ScoutfsError): PlainError {
  return { code: e.code, errno: e.errno, message: e.message };
}
