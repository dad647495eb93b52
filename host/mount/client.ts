/**
 * This mount as a client of the cluster's server.
 *
 * One loop finds the server on the device, connects, greets, and serves the connection
 * until its socket ends; then again, without limit. Requests made meanwhile wait: they
 * resolve whenever some server has answered. There are no time-outs and no cancellation
 * but the forced end.
 *
 *   find --none--> wait 100 ms          farewell outstanding: is our mounted client
 *    |connect --failed--> wait 100 ms   item still there? no: we have left
 *    |greet, serve --ended--> at once if it was of use, else after 100 ms
 *
 * The server's four requests go to injected handlers and are never answered with an
 * error. Source: client.md 2, 3, 7, 8; net.md 7.6.
 */
import type { Clock } from '../env/clock.js';
import type { Endpoint, Net, TcpSocket } from '../env/net.js';
import { endpointString } from '../env/net.js';
import * as F from '../core/format.js';
import type { Codec, Lock } from '../net/messages.js';
import {
  EMPTY, LockGrant, LockPlain, LockRecover, U64, commandName, decode, encode,
} from '../net/messages.js';
import type { ClientIdentity } from '../net/net_client.js';
import { NetClient } from '../net/net_client.js';
import type { NetRequest } from '../net/peer.js';
import { C, Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import type { ErrnoName } from '../observe/errors.js';
import { ScoutfsError, asScoutfsError, errnoError } from '../observe/errors.js';
import { LogBudget } from '../observe/refusals.js';

export const RECONNECT_DELAY_MS = 100;
export const CONNECT_TIMEOUT_MS = 1000;
/** A server that has answered no attempt to connect for so long is called unreachable. */
const UNREACHABLE_MS = 5000;
/** Inode numbers asked for at a time. */
export const ALLOC_INODES_NR = 10_240;
/** While a farewell is unanswered: how often to look whether it was processed. */
const FAREWELL_POLL_MS = 1000;

/** What the server asks of a mount. */
export interface ServerRequests {
  /** Commit soon; not waited for. */
  syncLogTrees(): void;
  /** Reduce a lock; call `answer` when done. */
  invalidate(lock: Lock, answer: (lock: Lock) => void): void;
  /** The response to our lock request. */
  grant(lock: Lock): void;
  /** Up to 22 locks from `key` on. */
  recoverLocks(key: F.Key): Lock[];
  openInoMap(args: F.OpenInoMapArgs): F.OpenInoMap;
}

export interface ClientDeps {
  clock: Clock;
  net: Net;
  log: Log;
  counters?: Counters;
  identity: ClientIdentity;
  /** option `tcp_keepalive_timeout_ms` */
  silenceTimeoutMs: number;
  /** Where the device says the server is; null when it names none. */
  findServer(): Promise<Endpoint | null>;
  /** `findServer` has rejected, `times` in a row. */
  lookFailed?(error: ScoutfsError, times: number): void;
  /** Before an answer is used that refers to blocks: the devices may have grown. */
  blocksCome?(): void;
  /** The server's host has answered no attempt for some time; told again with each further one. */
  unreachable?(at: Endpoint): void;
  /** Is our mounted client item still on the device? Rejects when that cannot be told. */
  isMounted(): Promise<boolean>;
  handlers: ServerRequests;
}

export class Client {
  private readonly conn: NetClient;
  private ended = false;
  private lookFailures = 0;
  private loopDone: Promise<void> = Promise.resolve();
  private leave: (() => void) | null = null;
  private wake: (() => void) | null = null;
  /** Without a server since; null while connected. */
  private lostSinceMs: number | null;
  /** A server that is lost again and again is told of only so often, and so is its return. */
  private readonly losses: LogBudget;
  private lossLogged = true;
  /** Why the last attempt to reach one failed. */
  private lostWhy = 'none was looked for yet';
  /** Since when attempts to reach the server's host have had no answer at all. */
  private unanswered: { at: Endpoint; sinceMs: number } | null = null;
  private readonly outstanding = new Set<{ cmd: number; sinceMs: number }>();

  private readonly counters: Counters;

  constructor(private readonly d: ClientDeps) {
    this.counters = d.counters ?? new Counters();
    this.lostSinceMs = d.clock.monotonicMs();
    this.losses = new LogBudget(() => d.clock.monotonicMs());
    this.conn = new NetClient(d.identity, {
      request: (r) => { this.serverRequest(r); },
      greeted: (term, newServer) => {
        this.lostSinceMs = null;
        if (!this.lossLogged) return;
        d.log.info(`client: ${newServer ? 'connected to' : 'back at'} the server of term ${term}`);
      },
    }, this.counters);
  }

  /** Starts looking for a server. */
  start(): void {
    this.loopDone = this.loop();
  }

  /** A server has accepted us at least once, so it may hold state for us. */
  get wasGreeted(): boolean {
    return this.conn.serverTerm !== 0;
  }

  get isConnected(): boolean {
    return this.conn.peer.hasSocket;
  }

  /** Connection and outstanding messages for the debug view. */
  describe(): { connection: string; messages: string[] } {
    const { peer, serverTerm } = this.conn;
    return {
      connection: `server term ${serverTerm} ${peer.describe()}`, messages: peer.describeMessages(),
    };
  }

  /** What waits for a server, or for an answer of it; lock requests are the lock client's. */
  pending(): Pending[] {
    const all: Pending[] = [...this.outstanding].map(({ cmd, sinceMs }) =>
      ({ kind: 'request', sinceMs, text: commandName(cmd) }));
    if (this.lostSinceMs !== null) {
      const text = `no server: ${this.lostWhy}`;
      all.unshift({ kind: 'server', sinceMs: this.lostSinceMs, text });
    }
    return all;
  }

  // --- requests; each rejects with the server's errno, or ECONNABORTED or ENOLINK at the end

  /** Reserves inode numbers. @throws ENOSPC when there are none, EINVAL for numbers that wrap */
  async allocInodes(nr = ALLOC_INODES_NR): Promise<F.NetInodeAlloc> {
    const got = await this.call(F.NET_CMD_ALLOC_INODES, U64, nr, F.NetInodeAlloc);
    if (got.nr === 0) throw errnoError('ENOSPC', 'no inode numbers are left');
    if (got.ino > Number.MAX_SAFE_INTEGER - got.nr + 1) {
      throw errnoError('EINVAL', 'the server gave inode numbers out of range');
    }
    return got;
  }

  async getLogTrees(): Promise<F.LogTrees> {
    const lt = await this.call(F.NET_CMD_GET_LOG_TREES, EMPTY, null, F.LogTrees);
    this.d.blocksCome?.();
    return lt;
  }

  async commitLogTrees(lt: F.LogTrees): Promise<void> {
    await this.call(F.NET_CMD_COMMIT_LOG_TREES, F.LogTrees, lt, EMPTY);
  }

  async getRoots(): Promise<F.NetRoots> {
    const roots = await this.call(F.NET_CMD_GET_ROOTS, EMPTY, null, F.NetRoots);
    this.d.blocksCome?.();
    return roots;
  }

  getLastSeq(): Promise<number> {
    return this.call(F.NET_CMD_GET_LAST_SEQ, EMPTY, null, U64);
  }

  srchGetCompact(): Promise<F.SrchCompact> {
    return this.call(F.NET_CMD_SRCH_GET_COMPACT, EMPTY, null, F.SrchCompact);
  }

  async srchCommitCompact(sc: F.SrchCompact): Promise<void> {
    await this.call(F.NET_CMD_SRCH_COMMIT_COMPACT, F.SrchCompact, sc, EMPTY);
  }

  /** @throws ENOENT when there is nothing to merge */
  getLogMerge(): Promise<F.LogMergeRequest> {
    return this.call(F.NET_CMD_GET_LOG_MERGE, EMPTY, null, F.LogMergeRequest);
  }

  async commitLogMerge(complete: F.LogMergeComplete): Promise<void> {
    await this.call(F.NET_CMD_COMMIT_LOG_MERGE, F.LogMergeComplete, complete, EMPTY);
  }

  /** The inodes of a group that other mounts have in use. */
  openInoMap(groupNr: number): Promise<F.OpenInoMap> {
    return this.call(F.NET_CMD_OPEN_INO_MAP, F.OpenInoMapArgs, { groupNr, reqId: 0 }, F.OpenInoMap);
  }

  getVolopt(): Promise<F.VolumeOptions> {
    return this.call(F.NET_CMD_GET_VOLOPT, EMPTY, null, F.VolumeOptions);
  }

  async setVolopt(options: F.VolumeOptions): Promise<void> {
    await this.call(F.NET_CMD_SET_VOLOPT, F.VolumeOptions, options, EMPTY);
  }

  async clearVolopt(options: F.VolumeOptions): Promise<void> {
    await this.call(F.NET_CMD_CLEAR_VOLOPT, F.VolumeOptions, options, EMPTY);
  }

  async resizeDevices(totals: F.NetResizeDevices): Promise<void> {
    await this.call(F.NET_CMD_RESIZE_DEVICES, F.NetResizeDevices, totals, EMPTY);
  }

  statfs(): Promise<F.NetStatfs> {
    return this.call(F.NET_CMD_STATFS, EMPTY, null, F.NetStatfs);
  }

  /** Asks for a lock; the answer comes to `handlers.grant`. @throws when the end has come */
  lock(lock: Lock): void {
    this.conn.request(F.NET_CMD_LOCK, encode(LockPlain, lock), (errno, payload) => {
      if (this.ended) return;
      if (errno !== null) throw errnoError('EBADMSG', 'lock response with an error');
      this.d.handlers.grant(decode(LockGrant, payload));
    });
  }

  // --- the end

  /**
   * Leaves the cluster: resolves when the server has let us go, however long that takes.
   * At once when no server ever knew us. Nothing may be requested afterwards.
   */
  async farewell(): Promise<void> {
    if (!this.wasGreeted || this.ended) return;
    const left = new Promise<void>((resolve) => { this.leave = resolve; });
    this.conn.farewell = true;
    this.call(F.NET_CMD_FAREWELL, EMPTY, null, EMPTY).then(() => { this.leave?.(); },
      (e: unknown) => {
        // We may have left already: the server ended before its answer, but not its work.
        if (this.leave === null) return;
        this.counters.inc(C.client_farewell_error);
        this.d.log.error(`client: farewell: ${asScoutfsError(e).message}`);
        this.leave();
      });
    void this.pollFarewell();
    await left;
    this.leave = null;
  }

  /** Stops after a farewell. */
  async stop(): Promise<void> {
    this.end();
    this.conn.close('ECONNABORTED', 'ENOLINK');
    await this.loopDone;
  }

  /** Stops without a farewell: nothing is sent any more, what is outstanding is aborted. */
  async force(): Promise<void> {
    this.end();
    this.conn.close('ECONNABORTED', 'ENOLINK');
    this.leave?.();
    await this.loopDone;
  }

  private end(): void {
    this.ended = true;
    this.wake?.();
  }

  private call<Q, A>(cmd: number, request: Codec<Q>, value: Q, response: Codec<A>): Promise<A> {
    return new Promise((resolve, reject) => {
      const entry = { cmd, sinceMs: this.d.clock.monotonicMs() };
      this.conn.request(cmd, encode(request, value), (errno, payload) => {
        this.outstanding.delete(entry);
        if (errno !== null) {
          reject(new ScoutfsError(errno, errno, { message: `${commandName(cmd)}: ${errno}` }));
          return;
        }
        try {
          resolve(decode(response, payload));
        } catch (e) {
          reject(asScoutfsError(e));
        }
      });
      this.outstanding.add(entry);
    });
  }

  private serverRequest(r: NetRequest): void {
    const { handlers } = this.d;
    switch (r.cmd) {
      case F.NET_CMD_SYNC_LOG_TREES:
        handlers.syncLogTrees();
        r.respond(null);
        break;
      case F.NET_CMD_LOCK:
        handlers.invalidate(decode(LockPlain, r.payload), (lock) => {
          r.respond(null, encode(LockPlain, lock));
        });
        break;
      case F.NET_CMD_LOCK_RECOVER:
        r.respond(null, encode(LockRecover, handlers.recoverLocks(decode(F.Key, r.payload))));
        break;
      case F.NET_CMD_OPEN_INO_MAP:
        r.respond(null, encode(F.OpenInoMap,
          handlers.openInoMap(decode(F.OpenInoMapArgs, r.payload))));
        break;
      default:
        throw errnoError('EBADMSG', `${commandName(r.cmd)} request from the server`);
    }
  }

  private async loop(): Promise<void> {
    while (!this.isEnded()) {
      let useful = false;
      try {
        useful = await this.attempt();
      } catch (e) {
        this.lostWhy = asScoutfsError(e).message;
        this.d.log.debug(`client: ${this.lostWhy}`);
      }
      if (!useful && !this.isEnded()) await this.sleep(RECONNECT_DELAY_MS);
    }
  }

  private isEnded(): boolean {
    return this.ended;
  }

  private isLeaving(): boolean {
    return this.leave !== null;
  }

  /** One socket, from looking for the server to its end. @returns whether it was of use */
  private async attempt(): Promise<boolean> {
    if (this.leave !== null && await this.hasLeft()) {
      this.leave();
      return false;
    }
    const at = await this.lookForServer();
    if (at === null || this.ended) return false;
    const socket = await this.connect(at);
    const served = this.conn.serve(socket);
    // Ended while connecting: the socket must not live on.
    if (this.isEnded()) this.conn.breakSocket();
    const { useful, error } = await served;
    this.lostSinceMs ??= this.d.clock.monotonicMs();
    this.lostWhy = `lost ${endpointString(at)}: ${error?.message ?? 'closed by the server'}`;
    const more = this.isEnded() ? null : this.losses.take();
    this.lossLogged = more !== null;
    if (more !== null) this.d.log.info(`client: ${this.lostWhy}${more}`);
    return useful;
  }

  private async connect(at: Endpoint): Promise<TcpSocket> {
    const { clock, net, silenceTimeoutMs } = this.d;
    const beganMs = clock.monotonicMs();
    try {
      const socket = await net.connect(at, { timeoutMs: CONNECT_TIMEOUT_MS, silenceTimeoutMs });
      this.unanswered = null;
      return socket;
    } catch (e) {
      this.noteUnanswered(at, beganMs, asScoutfsError(e).errno);
      throw e;
    }
  }

  /** A refusal is an answer: a server that starts or is gone. */
  private noteUnanswered(at: Endpoint, beganMs: number, errno: ErrnoName): void {
    const before = this.unanswered;
    if (errno !== 'ETIMEDOUT') this.unanswered = null;
    else if (before === null || endpointString(before.at) !== endpointString(at)) {
      this.unanswered = { at, sinceMs: beganMs };
    }
    const { sinceMs } = this.unanswered ?? { sinceMs: Infinity };
    if (this.d.clock.monotonicMs() - sinceMs >= UNREACHABLE_MS) this.d.unreachable?.(at);
  }

  private async lookForServer(): Promise<Endpoint | null> {
    try {
      const at = await this.d.findServer();
      this.lookFailures = 0;
      if (at === null) this.lostWhy = 'the quorum blocks name none';
      return at;
    } catch (e) {
      const error = asScoutfsError(e);
      this.lostWhy = `cannot look for one: ${error.message}`;
      this.lookFailures += 1;
      this.d.lookFailed?.(error, this.lookFailures);
      return null;
    }
  }

  /** Has our farewell been processed? What cannot be read is no proof. */
  private async hasLeft(): Promise<boolean> {
    try {
      return !await this.d.isMounted();
    } catch {
      return false;
    }
  }

  /** The response can be lost for good (net.md trap 16); the item cannot. */
  private async pollFarewell(): Promise<void> {
    while (this.isLeaving() && !this.isEnded()) {
      await this.d.clock.sleep(FAREWELL_POLL_MS);
      if (this.isLeaving() && await this.hasLeft()) this.leave?.();
    }
  }

  private sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.d.clock.after(ms, () => { this.wake?.(); });
      this.wake = () => {
        timer.cancel();
        this.wake = null;
        resolve();
      };
    });
  }
}
