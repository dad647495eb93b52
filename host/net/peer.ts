/**
 * One end of a cluster connection: what outlives its sockets.
 *
 * A peer numbers messages, keeps what the other end may still need, drops what it has
 * seen before, and matches responses with requests. Any number of sockets serve it one
 * after the other; `attach` is called when the greeting on a new one is valid.
 *
 *   submit --> kept (in seq order) --greeted socket--> transmitted, still kept
 *                 ^                                          |
 *                 +------------ socket lost -----------------+
 *   a request is kept until its response comes, a response until a later message of
 *   the other end says in `recv_seq` that it was received
 *
 * Invariants
 *   - seqs are given in the order of submission and transmitted in that order; after a
 *     reconnect everything kept goes out first, in seq order
 *   - a received seq not above the greatest seen is dropped unread
 *   - greetings use `nextSeq` and `nextId` but are never kept
 *   - a request is taken only while there is room to keep its response
 *   - a response to a request of an earlier server incarnation is dropped
 *     (net.md traps 17): requests remember the epoch in which they arrived
 *
 * Source: net.md 3 to 6.
 */
import * as F from '../core/format.js';
import { C, type Counters } from '../observe/counters.js';
import type { ErrnoName } from '../observe/errors.js';
import { ScoutfsError } from '../observe/errors.js';
import type { FramedSocket } from './frame.js';
import type { Header } from './messages.js';
import { encodeMessage, viewOf, wireErrno, wireError } from './messages.js';

/** Requests kept for a peer that does not answer; more cannot be submitted. */
export const KEPT_MESSAGES_MAX = 1_000_000;
/** Responses kept for a peer that does not say that it has them; more are not earned. */
export const KEPT_RESPONSE_BYTES_MAX = 64 * 1024 * 1024;
/** What a kept message takes beside its bytes. */
const KEPT_OVERHEAD_BYTES = 128;
const RECV_SEQ_OFFSET = 8;
const NO_BYTES = new Uint8Array(0);

/**
 * Called with the outcome of a request. `errno` is null for success. Throwing (for a
 * payload that makes no sense) closes the socket the response came on.
 */
export type ResponseFn = (errno: ErrnoName | null, payload: Uint8Array) => void;

/** A request of the other end, to be answered at most once. */
export class NetRequest {
  constructor(private readonly peer: Peer, private readonly epoch: number, readonly cmd: number,
    readonly id: number, readonly payload: Uint8Array) {}

  /** Answers; without effect when the asker is gone or was another server incarnation. */
  respond(errno: ErrnoName | null, payload: Uint8Array = NO_BYTES): void {
    this.peer.submitResponse(this.epoch, this.cmd, this.id, errno, payload);
  }
}

interface KeptRequest {
  bytes: Uint8Array;
  cmd: number;
  done: ResponseFn;
}

interface KeptResponse {
  bytes: Uint8Array;
  farewell: boolean;
}

export interface PeerHandler {
  /** A request, once; throwing closes the socket. */
  request(request: NetRequest): void;
}

export class Peer {
  nextSeq = 1;
  nextId = 1;
  /** Greatest seq received; greetings do not count. */
  recvSeq = 0;
  /** A farewell response was put on a socket. */
  farewellSent = false;
  private epoch = 0;
  private closedWith: ErrnoName | null = null;
  private responseBytes = 0;
  private socket: FramedSocket | null = null;
  private readonly requests = new Map<number, KeptRequest>();
  private readonly seqOfRequest = new Map<number, number>();
  private readonly responses = new Map<number, KeptResponse>();

  /**
   * `retries`: whether a request whose response was refused stays outstanding, as if nothing
   * had come. A mount wants its answer; a server has other means.
   */
  constructor(private readonly handler: PeerHandler, private readonly counters: Counters,
    private readonly retries = false) {}

  get hasSocket(): boolean {
    return this.socket !== null;
  }

  /** Its state in one line, for the debug view. */
  describe(): string {
    return `state ${this.closedWith !== null ? 'closed' : this.hasSocket ? 'greeted' : 'lost'} ` +
      `next_seq ${this.nextSeq} recv_seq ${this.recvSeq} next_id ${this.nextId} ` +
      `requests ${this.requests.size} responses ${this.responses.size}`;
  }

  /** One line per message kept, for the debug view: ours that wait for their end. */
  describeMessages(): string[] {
    return [
      ...[...this.requests].map(([id, r]) =>
        `send seq ${this.seqOfRequest.get(id) ?? 0} id ${id} cmd ${r.cmd} request bytes ${
          r.bytes.length}`),
      ...[...this.responses].map(([seq, r]) => `send seq ${seq} response bytes ${r.bytes.length}`),
    ];
  }

  /** The greeted socket, if any. */
  get current(): FramedSocket | null {
    return this.socket;
  }

  /** Submits a request; `done` is called exactly once. @throws the errno of the peer's closing */
  request(cmd: number, payload: Uint8Array, done: ResponseFn): void {
    if (this.closedWith !== null) {
      throw new ScoutfsError('NET_CLOSED', this.closedWith, { message: 'connection is closed' });
    }
    if (this.requests.size >= KEPT_MESSAGES_MAX) {
      throw new ScoutfsError('NET_FULL', 'ENOBUFS', { message: 'too many requests outstanding' });
    }
    const seq = this.nextSeq++;
    const id = this.nextId++;
    const bytes = encodeMessage({ seq, recvSeq: 0, id, cmd, response: false, error: 0 }, payload);
    this.requests.set(id, { bytes, cmd, done });
    this.seqOfRequest.set(id, seq);
    this.transmit(bytes);
  }

  /** For NetRequest: queues a response. */
  submitResponse(epoch: number, cmd: number, id: number, errno: ErrnoName | null,
    payload: Uint8Array): void {
    if (this.closedWith !== null || epoch !== this.epoch) return;
    const seq = this.nextSeq++;
    const body = errno === null ? payload : NO_BYTES;
    const bytes = encodeMessage(
      { seq, recvSeq: 0, id, cmd, response: true, error: wireError(errno) }, body);
    const farewell = cmd === F.NET_CMD_FAREWELL && errno === null;
    this.responses.set(seq, { bytes, farewell });
    this.responseBytes += bytes.length + KEPT_OVERHEAD_BYTES;
    if (this.transmit(bytes) && farewell) this.farewellSent = true;
  }

  /** A message of the greeted socket. Throws to close the socket. @returns whether it was new */
  receive(header: Header, payload: Uint8Array): boolean {
    if (header.seq <= this.recvSeq) {
      this.counters.inc(C.net_recv_dropped_duplicate);
      return false;
    }
    this.acknowledged(header.recvSeq);
    if (!header.response && this.responseBytes > KEPT_RESPONSE_BYTES_MAX) {
      throw new ScoutfsError('NET_PROTOCOL', 'EBADMSG', {
        message: 'the peer does not acknowledge what it is answered',
      });
    }
    const before = this.recvSeq;
    this.recvSeq = header.seq;
    if (header.response) this.receiveResponse(header, payload, before);
    else this.handler.request(new NetRequest(this, this.epoch, header.cmd, header.id, payload));
    return true;
  }

  /** A greeting on `socket` is valid: everything kept goes out on it, then what comes. */
  attach(socket: FramedSocket): void {
    this.socket = socket;
    const kept: { seq: number; bytes: Uint8Array; farewell: boolean }[] = [];
    for (const [id, r] of this.requests) {
      kept.push({ seq: this.seqOfRequest.get(id) ?? 0, bytes: r.bytes, farewell: false });
    }
    for (const [seq, r] of this.responses) kept.push({ seq, ...r });
    kept.sort((a, b) => a.seq - b.seq);
    for (const m of kept) {
      if (this.transmit(m.bytes) && m.farewell) this.farewellSent = true;
    }
  }

  /** The socket is gone; messages are kept for the next. */
  detach(socket: FramedSocket): void {
    if (this.socket === socket) this.socket = null;
  }

  /** The other end is a new incarnation that has seen nothing of ours and sent nothing yet. */
  newIncarnation(): void {
    this.epoch++;
    this.recvSeq = 0;
    this.responses.clear();
    this.responseBytes = 0;
  }

  /** Ends the connection: outstanding requests complete with `errno`, others throw `later`. */
  close(errno: ErrnoName, later: ErrnoName = errno): void {
    if (this.closedWith !== null) return;
    this.closedWith = later;
    this.socket?.destroy();
    this.socket = null;
    const outstanding = [...this.requests.values()];
    this.requests.clear();
    this.seqOfRequest.clear();
    this.responses.clear();
    this.responseBytes = 0;
    for (const r of outstanding) r.done(errno, NO_BYTES);
  }

  private transmit(bytes: Uint8Array): boolean {
    const socket = this.socket;
    if (socket === null || !socket.isOpen) return false;
    // Said at the moment of transmission; a resent message gets a copy because the
    // socket may still hold the earlier one.
    const view = viewOf(bytes);
    const out = view.getBigUint64(RECV_SEQ_OFFSET, true) === BigInt(this.recvSeq)
      ? bytes : bytes.slice();
    viewOf(out).setBigUint64(RECV_SEQ_OFFSET, BigInt(this.recvSeq), true);
    socket.write(out);
    return true;
  }

  private acknowledged(recvSeq: number): void {
    for (const [seq, { bytes }] of this.responses) {
      if (seq > recvSeq) break;
      this.responseBytes -= bytes.length + KEPT_OVERHEAD_BYTES;
      this.responses.delete(seq);
    }
  }

  private receiveResponse(header: Header, payload: Uint8Array, before: number): void {
    const kept = this.requests.get(header.id);
    const seq = this.seqOfRequest.get(header.id);
    // Normal after races: the request was answered before, or belongs to another server.
    if (kept?.cmd !== header.cmd) {
      this.counters.inc(C.net_dropped_response);
      return;
    }
    this.requests.delete(header.id);
    this.seqOfRequest.delete(header.id);
    const errno = wireErrno(header.error);
    try {
      kept.done(errno, errno === null ? payload : NO_BYTES);
    } catch (e) {
      if (this.retries && seq !== undefined && this.closedWith === null) {
        this.requests.set(header.id, kept);
        this.seqOfRequest.set(header.id, seq);
        this.recvSeq = before;
      }
      throw e;
    }
  }
}
