/**
 * Messages from a byte stream.
 *
 * A framed socket cuts the stream of one TCP socket into messages, checks every
 * header before its payload is looked at, and hands messages over one by one. The
 * receiver can pause it between two messages (a greeting must finish before anything
 * later on its socket is looked at). The first fault closes the socket; nothing is
 * delivered afterwards. A socket that goes wrong is never repaired: the connection
 * above survives it.
 *
 * Source: net.md 2, 6.
 */
import type { Endpoint, TcpSocket } from '../env/net.js';
import { C, type Counters } from '../observe/counters.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import type { Header, Side } from './messages.js';
import { HEADER_BYTES, headerFault, readHeader, viewOf } from './messages.js';

export interface FrameEvents {
  /** A valid message; throwing closes the socket. `payload` is the receiver's. */
  message(header: Header, payload: Uint8Array): void;
  /** Called once, after which nothing else is. */
  closed(error: ScoutfsError | null): void;
}

/** Bytes a peer may have under way unread before its socket is closed. */
const UNSENT_BYTES_MAX = 256 * 1024 * 1024;

export class FramedSocket {
  readonly remote: Endpoint;
  /** A greeting was received on this socket. */
  greeted = false;
  private pending: Uint8Array = new Uint8Array(0);
  private paused = false;
  private fault: ScoutfsError | null = null;
  private done = false;
  private draining = false;

  constructor(private readonly socket: TcpSocket, private readonly side: Side,
    private readonly counters: Counters, private readonly events: FrameEvents) {
    this.remote = socket.remote;
  }

  /** Starts delivery. */
  start(): void {
    this.socket.start({
      data: (bytes) => { this.received(bytes); },
      closed: (error) => {
        if (this.done) return;
        this.done = true;
        if (error !== null) this.counters.inc(C.net_recv_error);
        this.events.closed(this.fault ?? error);
      },
    });
  }

  get isOpen(): boolean {
    return !this.done && this.fault === null;
  }

  write(message: Uint8Array): void {
    if (!this.isOpen) return;
    if (this.socket.queuedBytes > UNSENT_BYTES_MAX) {
      this.fail('ENOBUFS', 'the peer does not read what it asked for');
      return;
    }
    this.counters.inc(C.net_send_messages);
    this.counters.add(C.net_send_bytes, message.length);
    this.socket.write(message);
  }

  /** Holds further messages back; those already received wait in order. */
  pause(): void {
    this.paused = true;
    this.socket.pause();
  }

  resume(): void {
    this.paused = false;
    this.drain();
    if (this.mayDeliver) this.socket.resume();
  }

  private get mayDeliver(): boolean {
    return !this.paused && this.isOpen;
  }

  /** Closes after what was written has been sent. */
  end(): void {
    this.fault ??= new ScoutfsError('NET_CLOSED', 'ECONNABORTED', { message: 'closed here' });
    this.socket.end();
  }

  /** Closes at once. `closed` follows. */
  destroy(): void {
    this.fault ??= new ScoutfsError('NET_CLOSED', 'ECONNABORTED', { message: 'closed here' });
    this.socket.destroy();
  }

  private fail(errno: 'EBADMSG' | 'ENOBUFS', message: string): void {
    if (errno === 'EBADMSG') this.counters.inc(C.net_recv_invalid_message);
    this.fault ??= new ScoutfsError('NET_PROTOCOL', errno, { message });
    this.socket.destroy();
  }

  private received(bytes: Uint8Array): void {
    if (!this.isOpen) return;
    this.counters.add(C.net_recv_bytes, bytes.length);
    if (this.pending.length === 0) {
      this.pending = bytes;
    } else {
      const joined = new Uint8Array(this.pending.length + bytes.length);
      joined.set(this.pending);
      joined.set(bytes, this.pending.length);
      this.pending = joined;
    }
    this.drain();
  }

  /** Delivers whole messages until paused, closed or out of bytes. */
  private drain(): void {
    if (this.draining) return;
    this.draining = true;
    const bytes = this.pending;
    const view = viewOf(bytes);
    let at = 0;
    // `pending` cannot change in here: data arrives from the event loop only.
    while (this.mayDeliver && bytes.length - at >= HEADER_BYTES) {
      const fault = headerFault(view, at, this.side, this.greeted);
      if (fault !== null) {
        this.fail('EBADMSG', `invalid message: ${fault}`);
        break;
      }
      const header = readHeader(view, at);
      const end = at + HEADER_BYTES + header.dataLen;
      if (end > bytes.length) break;
      const payload = bytes.subarray(at + HEADER_BYTES, end);
      at = end;
      this.deliver(header, payload);
    }
    this.pending = bytes.subarray(at);
    this.draining = false;
  }

  private deliver(header: Header, payload: Uint8Array): void {
    this.counters.inc(C.net_recv_messages);
    try {
      this.events.message(header, payload);
    } catch (e) {
      this.fail('EBADMSG', asScoutfsError(e).message);
    }
  }
}
