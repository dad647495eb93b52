/**
 * TCP and UDP over IPv4.
 *
 * TCP sockets deliver bytes and one `closed` call, after which nothing more comes.
 * Writes made in one tick leave in one segment. Silence of the peer is bounded by
 * `silenceTimeoutMs`: by the kernel where it can be told to (sockopt.ts), otherwise
 * by closing a socket that got nothing back for that long after it wrote.
 *
 * A simulation replaces the whole `Net`. Source: net.md 1, quorum.md 2.
 */
import * as dgram from 'node:dgram';
import * as net from 'node:net';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { setTcpTimeouts } from './sockopt.js';

/** An IPv4 endpoint; 127.0.0.1 is 0x7f000001. */
export interface Endpoint {
  addr: number;
  port: number;
}

export interface TcpEvents {
  /** Bytes in order; the buffer belongs to the receiver. */
  data(bytes: Uint8Array): void;
  /** Called once, the last call; `error` is null for an ordinary end. */
  closed(error: ScoutfsError | null): void;
}

export interface TcpSocket {
  readonly remote: Endpoint;
  /** Starts delivery; bytes that came earlier are delivered first. */
  start(events: TcpEvents): void;
  /** Queues bytes; they must not be changed afterwards. Ignored after the socket closed. */
  write(bytes: Uint8Array): void;
  /** Bytes written and not yet taken by the kernel. */
  readonly queuedBytes: number;
  /** Stops and resumes `data` calls. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then closes. */
  end(): void;
  /** Closes at once; `closed` is still called. */
  destroy(): void;
}

export interface TcpListener {
  readonly local: Endpoint;
  /** Stops accepting; sockets accepted earlier stay. */
  close(): Promise<void>;
}

export interface UdpSocket {
  readonly local: Endpoint;
  /** Sends one datagram without waiting; failures are reported to `failed` only. */
  send(bytes: Uint8Array, to: Endpoint, failed?: (error: ScoutfsError) => void): void;
  close(): Promise<void>;
}

export interface ConnectOptions {
  timeoutMs: number;
  silenceTimeoutMs: number;
}

export interface Net {
  /** @throws ETIMEDOUT, ECONNREFUSED and what the system says */
  connect(to: Endpoint, opts: ConnectOptions): Promise<TcpSocket>;
  /** @throws EADDRINUSE and what the system says */
  listen(at: Endpoint, silenceTimeoutMs: number, accept: (s: TcpSocket) => void):
  Promise<TcpListener>;
  /** `closed` is called when receiving fails for good. @throws EADDRINUSE */
  bindUdp(at: Endpoint, received: (bytes: Uint8Array, from: Endpoint) => void,
    closed: (error: ScoutfsError) => void): Promise<UdpSocket>;
}

const LISTEN_BACKLOG = 255;

/** Dotted quad of an address. */
export function ipv4String(addr: number): string {
  return [24, 16, 8, 0].map((shift) => (addr >>> shift) & 255).join('.');
}

/** Address of a dotted quad. @throws EINVAL */
export function parseIpv4(text: string): number {
  const parts = text.replace(/^::ffff:/, '').split('.');
  const ok = parts.length === 4 && parts.every((p) => /^\d{1,3}$/.test(p) && Number(p) < 256);
  if (!ok) throw new ScoutfsError('BAD_ADDRESS', 'EINVAL', { message: `'${text}' is not IPv4` });
  return parts.reduce((addr, p) => (addr * 256) + Number(p), 0);
}

/** `address:port` for messages. */
export function endpointString(e: Endpoint): string {
  return `${ipv4String(e.addr)}:${e.port}`;
}

function systemError(e: unknown, what: string): ScoutfsError {
  const err = asScoutfsError(e);
  const message = err.errno === 'EADDRINUSE'
    ? `${what}: the address is in use, probably by another mount in the same quorum slot`
    : `${what}: ${err.message}`;
  return new ScoutfsError(err.code, err.errno, { message, cause: e });
}

/** Why an address cannot be bound. */
function bindError(e: unknown, what: string): ScoutfsError {
  const err = asScoutfsError(e);
  if (err.errno !== 'EADDRNOTAVAIL') return systemError(e, what);
  return new ScoutfsError(err.code, err.errno, {
    message: `${what}: not an address of this host: use the quorum slot whose address it has`,
    cause: e,
  });
}

class RealSocket implements TcpSocket {
  readonly remote: Endpoint;
  private events: TcpEvents | null = null;
  private closedWith: ScoutfsError | null = null;
  private isClosed = false;
  private corked = false;

  constructor(private readonly socket: net.Socket, silenceTimeoutMs: number) {
    this.remote = {
      addr: parseIpv4(socket.remoteAddress ?? '0.0.0.0'), port: socket.remotePort ?? 0,
    };
    socket.setNoDelay(true);
    socket.setKeepAlive(true, Math.max(1000, silenceTimeoutMs - 3000));
    const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd ?? -1;
    if (!setTcpTimeouts(fd, silenceTimeoutMs)) this.emulateUserTimeout(silenceTimeoutMs);
    socket.pause();
    socket.on('error', (e) => { this.closedWith = systemError(e, 'connection lost'); });
    socket.on('close', () => {
      this.isClosed = true;
      this.events?.closed(this.closedWith);
    });
  }

  start(events: TcpEvents): void {
    this.events = events;
    this.socket.on('data', (bytes: Buffer) => { events.data(bytes); });
    this.socket.on('end', () => { this.socket.destroy(); });
    if (this.isClosed) events.closed(this.closedWith);
    else this.socket.resume();
  }

  write(bytes: Uint8Array): void {
    if (this.isClosed || this.socket.destroyed) return;
    if (!this.corked) {
      this.corked = true;
      this.socket.cork();
      process.nextTick(() => {
        this.corked = false;
        this.socket.uncork();
      });
    }
    this.socket.write(bytes);
  }

  get queuedBytes(): number {
    return this.socket.writableLength;
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    this.socket.end(() => { this.socket.destroy(); });
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Without the kernel's help: nothing came back for the whole time since the first write. */
  private emulateUserTimeout(silenceTimeoutMs: number): void {
    let wroteAt = 0;
    let lastWritten = 0;
    let lastRead = 0;
    const timer = setInterval(() => {
      if (this.socket.bytesRead !== lastRead) {
        lastRead = this.socket.bytesRead;
        lastWritten = this.socket.bytesWritten;
        wroteAt = 0;
      } else if (this.socket.bytesWritten !== lastWritten) {
        wroteAt += 1000;
        if (wroteAt >= silenceTimeoutMs) {
          this.socket.destroy(new ScoutfsError('ETIMEDOUT', 'ETIMEDOUT', {
            message: `no answer for ${silenceTimeoutMs} ms`,
          }));
        }
      }
    }, 1000);
    timer.unref();
    this.socket.on('close', () => { clearInterval(timer); });
  }
}

function connect(to: Endpoint, opts: ConnectOptions): Promise<TcpSocket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: ipv4String(to.addr), port: to.port, family: 4 });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new ScoutfsError('ETIMEDOUT', 'ETIMEDOUT', {
        message: `connecting to ${endpointString(to)} took more than ${opts.timeoutMs} ms`,
      }));
    }, opts.timeoutMs);
    const failed = (e: Error): void => {
      clearTimeout(timer);
      reject(systemError(e, `connecting to ${endpointString(to)}`));
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      resolve(new RealSocket(socket, opts.silenceTimeoutMs));
    });
  });
}

function listen(at: Endpoint, silenceTimeoutMs: number, accept: (s: TcpSocket) => void):
Promise<TcpListener> {
  return new Promise((resolve, reject) => {
    const server = net.createServer({ allowHalfOpen: false }, (socket) => {
      // The peer may be gone before we got to it.
      if (socket.remoteAddress === undefined) socket.destroy();
      else accept(new RealSocket(socket, silenceTimeoutMs));
    });
    server.once('error', (e) => { reject(bindError(e, `listening on ${endpointString(at)}`)); });
    // Node sets the address reuse option on every listener.
    server.listen({ host: ipv4String(at.addr), port: at.port, backlog: LISTEN_BACKLOG }, () => {
      const port = (server.address() as net.AddressInfo).port;
      resolve({
        local: { addr: at.addr, port },
        close: () => new Promise((done) => { server.close(() => { done(); }); }),
      });
    });
  });
}

function bindUdp(at: Endpoint, received: (bytes: Uint8Array, from: Endpoint) => void,
  closed: (error: ScoutfsError) => void): Promise<UdpSocket> {
  return new Promise((resolve, reject) => {
    const socket = dgram.createSocket({ type: 'udp4' });
    let isClosed = false;
    const refused = (e: Error): void => {
      reject(bindError(e, `binding UDP ${endpointString(at)}`));
    };
    socket.once('error', refused);
    socket.on('message', (bytes, from) => {
      received(bytes, { addr: parseIpv4(from.address), port: from.port });
    });
    socket.bind({ address: ipv4String(at.addr), port: at.port, exclusive: true }, () => {
      socket.off('error', refused);
      socket.on('error', (e) => { closed(systemError(e, `UDP ${endpointString(at)}`)); });
      resolve({
        local: { addr: at.addr, port: socket.address().port },
        send(bytes, to, failed) {
          if (isClosed) return;
          socket.send(bytes, to.port, ipv4String(to.addr), (e) => {
            if (e !== null) failed?.(systemError(e, `sending to ${endpointString(to)}`));
          });
        },
        close: () => new Promise((done) => {
          isClosed = true;
          socket.close(() => { done(); });
        }),
      });
    });
  });
}

/** The machine's sockets. */
export const realNet: Net = { connect, listen, bindUdp };
