/**
 * One end of a simulated TCP connection that anything can be written to, and that keeps the
 * whole messages that arrive.
 */
import { HEADER_BYTES, readHeader, viewOf } from '../../host/net/messages.js';
import type { Header } from '../../host/net/messages.js';
import type { TcpSocket } from '../../host/env/net.js';

export interface Received {
  header: Header;
  payload: Uint8Array;
  bytes: Uint8Array;
}

/** The end of a TCP connection that anything can be written to. */
export class RawSocket {
  closed = false;
  /** Whole messages received, in order. */
  readonly received: Received[] = [];
  private pending = Buffer.alloc(0);

  constructor(readonly socket: TcpSocket) {
    socket.start({
      data: (bytes) => { this.take(bytes); },
      closed: () => { this.closed = true; },
    });
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  private take(bytes: Uint8Array): void {
    this.pending = Buffer.concat([this.pending, bytes]);
    while (this.pending.length >= HEADER_BYTES) {
      const header = readHeader(viewOf(this.pending), 0);
      const end = HEADER_BYTES + header.dataLen;
      if (this.pending.length < end) return;
      const bytes = this.pending.subarray(0, end);
      this.received.push({ header, payload: bytes.subarray(HEADER_BYTES), bytes });
      this.pending = this.pending.subarray(end);
    }
  }
}
