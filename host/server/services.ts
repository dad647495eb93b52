/**
 * The lock service, the open map and recovery, connected to clients.
 *
 * These three only decide; here their decisions become messages and the clients'
 * answers come back. A client that is not connected is left out silently: it is about to
 * be fenced or has left. An answer that makes no sense throws, which breaks the socket it
 * came on. A client joins the open map before its greeting counts as recovered, so that
 * no map is gathered without it (recovery.md trap 17).
 * Source: lock.md 6, recovery.md 2 and 5.
 */
import {
  NET_CMD_LOCK, NET_CMD_LOCK_RECOVER, NET_CMD_OPEN_INO_MAP, OpenInoMap, OpenInoMapArgs,
} from '../core/format.js';
import { keyBytes } from '../core/keys.js';
import type { NetServer } from '../net/net_server.js';
import { LockGrant, LockPlain, LockRecover, decode, encode } from '../net/messages.js';
import type { NetRequest, ResponseFn } from '../net/peer.js';
import { asScoutfsError } from '../observe/errors.js';
import type { ServerContext } from './context.js';
import { Liveness } from './liveness.js';
import { LockServer } from './lock_server.js';
import { OmapServer } from './omap.js';
import { RECOV_GREETING, RECOV_LOCKS, type Recovery } from './recov.js';
import { SEQ_AHEAD_MAX } from './untrusted.js';

/** Requests for open maps are counted from 1 on. */
const NOBODYS_MAP: OpenInoMapArgs = { groupNr: 0, reqId: 0 };

export class ClientServices {
  readonly locks: LockServer<NetRequest>;
  readonly omap: OmapServer<NetRequest>;
  private readonly liveness: Liveness;

  /**
   * `patienceMs` is how long a client may take for what it has to answer at once;
   * `lockRecovered` is called when a client has reported its locks.
   */
  constructor(s: ServerContext, private readonly recovery: Recovery,
    private readonly net: NetServer, patienceMs: number, lockRecovered: () => void) {
    this.liveness = new Liveness({
      clock: s.clock, patienceMs, isConnected: (rid) => net.isConnected(rid),
      probe: (rid) => { this.askOpenMap(rid, NOBODYS_MAP); },
      giveUp: (rid) => {
        s.log.warn(`server: ${net.nameOf(rid)} has not answered for ${patienceMs / 1000
        } s: closing its socket`);
        net.breakSocket(rid);
      },
    });
    this.locks = new LockServer<NetRequest>({
      grant: (_rid, request, lock) => { request.respond(null, encode(LockGrant, lock)); },
      invalidate: (rid, lock) => {
        this.ask(rid, NET_CMD_LOCK, encode(LockPlain, lock), (payload) => {
          this.locks.invalidated(rid, decode(LockPlain, payload));
        });
      },
      askRecover: (rid, key) => {
        this.ask(rid, NET_CMD_LOCK_RECOVER, keyBytes(key), (payload) => {
          this.locks.recoverResponse(rid, decode(LockRecover, payload));
        });
      },
      nextSeq: () => s.commits.nextSeq(),
      raiseSeq: (seq) => { s.commits.raiseSeq(seq); },
      nowMs: () => s.clock.monotonicMs(),
      seqIsPossible: (seq) => seq <= s.commits.seq + SEQ_AHEAD_MAX,
      recovering: (rid) => recovery.pending(RECOV_LOCKS, rid),
      recovered: (rid) => {
        recovery.finish(rid, RECOV_LOCKS);
        lockRecovered();
      },
    });
    this.omap = new OmapServer<NetRequest>({
      respond: (_rid, request, map) => { request.respond(null, encode(OpenInoMap, map)); },
      ask: (rid, args) => { this.askOpenMap(rid, args); },
      greetingsOutstanding: () => recovery.pending(RECOV_GREETING),
    });
  }

  /** A client's messages may flow. */
  greeted(rid: bigint, firstContact: boolean): void {
    this.liveness.connected(rid);
    if (firstContact) {
      this.omap.add(rid);
      this.locks.greeted(rid);
    }
    this.recovery.finish(rid, RECOV_GREETING);
  }

  /** Every client of the previous server has reported or was reclaimed. */
  recoveryFinished(): void {
    this.omap.recoveryFinished();
    this.locks.recoveryFinished();
  }

  /** The server stops. */
  stop(): void {
    this.liveness.stop();
  }

  private askOpenMap(rid: bigint, args: OpenInoMapArgs): void {
    this.ask(rid, NET_CMD_OPEN_INO_MAP, encode(OpenInoMapArgs, args), (payload) => {
      this.omap.response(rid, decode(OpenInoMap, payload));
    });
  }

  private ask(rid: bigint, cmd: number, payload: Uint8Array,
    answered: (payload: Uint8Array) => void): void {
    const question = this.liveness.asked(rid, cmd !== NET_CMD_LOCK);
    const done: ResponseFn = (errno, response) => {
      this.liveness.answered(question);
      if (errno === null) answered(response);
      // The connection was given up: the client is reclaimed. Other errors nobody may answer.
      else if (errno !== 'ENOTCONN') this.net.breakSocket(rid);
    };
    try {
      this.net.send(rid, cmd, payload, done);
    } catch (e) {
      this.liveness.answered(question);
      if (asScoutfsError(e).errno !== 'ENOTCONN') throw e;
    }
  }
}
