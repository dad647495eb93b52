/**
 * A network in memory. TCP bytes wait in their pipe until `deliver` moves them, so a
 * test decides what arrives, what is lost with a socket and in which order; with
 * `auto` they move by themselves in the next promise round. Hosts can be cut off.
 */
import type { Endpoint, Net, TcpEvents, TcpListener, TcpSocket, UdpSocket }
  from '../../host/env/net.js';
import { endpointString } from '../../host/env/net.js';
import { errnoError } from '../../host/observe/errors.js';

export class SimSocket implements TcpSocket {
  peer: SimSocket | null = null;
  /** written by the other end and not delivered */
  inbox: Uint8Array[] = [];
  queuedBytes = 0;
  open = true;
  private events: TcpEvents | null = null;
  private paused = false;
  private told = false;

  constructor(private readonly net: SimNet, readonly local: Endpoint, readonly remote: Endpoint) {}

  start(events: TcpEvents): void {
    this.events = events;
    if (!this.open) this.tellClosed();
    else this.net.kick(this);
  }

  write(bytes: Uint8Array): void {
    if (!this.open || this.peer === null) return;
    this.net.wrote(this, bytes);
    this.peer.inbox.push(bytes.slice());
    this.net.kick(this.peer);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.net.kick(this);
  }

  end(): void {
    const peer = this.peer;
    this.open = false;
    this.tellClosed();
    // What was written still arrives, then the end.
    if (peer !== null) void Promise.resolve().then(() => { peer.deliver(); peer.cut(); });
  }

  destroy(): void {
    if (!this.open) return;
    const peer = this.peer;
    this.cut();
    if (peer !== null) void Promise.resolve().then(() => { peer.cut(); });
  }

  /** Hands over everything that has arrived; false when there was nothing. */
  deliver(): boolean {
    let any = false;
    while (this.events !== null && this.open && !this.paused && this.inbox.length > 0) {
      const bytes = this.inbox.shift();
      if (bytes !== undefined) this.events.data(bytes);
      any = true;
    }
    return any;
  }

  /** This end is gone and learns nothing of it; the other end is told. */
  abandon(): void {
    this.events = null;
    this.destroy();
  }

  /** Breaks this end only; bytes under way are lost. */
  cut(): void {
    if (!this.open) return;
    this.open = false;
    this.inbox = [];
    this.tellClosed();
  }

  private tellClosed(): void {
    if (this.told || this.events === null) return;
    this.told = true;
    const events = this.events;
    void Promise.resolve().then(() => { events.closed(null); });
  }
}

interface BoundUdp {
  at: Endpoint;
  received(bytes: Uint8Array, from: Endpoint): void;
}

export class SimNet implements Net {
  /** deliver by itself */
  auto = true;
  /** every byte string written, for tests that watch the wire */
  onWrite: ((from: SimSocket, bytes: Uint8Array) => void) | null = null;
  /** decides whether a packet from one address to another gets through */
  passes: (from: number, to: number) => boolean = () => true;
  sockets: SimSocket[] = [];
  private readonly listeners = new Map<string, (s: TcpSocket) => void>();
  private readonly udp = new Map<string, BoundUdp>();
  private nextPort = 40_000;

  wrote(from: SimSocket, bytes: Uint8Array): void {
    this.onWrite?.(from, bytes);
  }

  kick(socket: SimSocket): void {
    if (!this.auto) return;
    void Promise.resolve().then(() => {
      if (this.passes(socket.remote.addr, socket.local.addr)) socket.deliver();
    });
  }

  connect(to: Endpoint): Promise<TcpSocket> {
    return this.connectFrom({ addr: 0x7f000001, port: this.nextPort++ }, to);
  }

  connectFrom(from: Endpoint, to: Endpoint): Promise<SimSocket> {
    const accept = this.listeners.get(endpointString(to));
    if (!this.passes(from.addr, to.addr) || !this.passes(to.addr, from.addr)) {
      return Promise.reject(errnoError('ETIMEDOUT', `no answer from ${endpointString(to)}`));
    }
    if (accept === undefined) {
      return Promise.reject(errnoError('ECONNREFUSED', `no listener at ${endpointString(to)}`));
    }
    const here = new SimSocket(this, from, to);
    const there = new SimSocket(this, to, from);
    here.peer = there;
    there.peer = here;
    this.sockets.push(here, there);
    accept(there);
    return Promise.resolve(here);
  }

  /** This network as seen from a process at address `addr`. */
  host(addr: number): HostNet {
    return new HostNet(this, addr);
  }

  /** A local port that nobody uses yet. */
  freePort(): number {
    return this.nextPort++;
  }

  listen(at: Endpoint, _silenceTimeoutMs: number, accept: (s: TcpSocket) => void):
  Promise<TcpListener> {
    const name = endpointString(at);
    if (this.listeners.has(name)) {
      return Promise.reject(errnoError('EADDRINUSE', `${name} is in use`));
    }
    this.listeners.set(name, accept);
    return Promise.resolve({
      local: at,
      close: async () => { this.listeners.delete(name); },
    });
  }

  bindUdp(at: Endpoint, received: (bytes: Uint8Array, from: Endpoint) => void): Promise<UdpSocket> {
    const name = endpointString(at);
    if (this.udp.has(name)) return Promise.reject(errnoError('EADDRINUSE', `${name} is in use`));
    this.udp.set(name, { at, received });
    return Promise.resolve({
      local: at,
      send: (bytes: Uint8Array, to: Endpoint) => {
        const copy = bytes.slice();
        void Promise.resolve().then(() => {
          if (this.passes(at.addr, to.addr)) this.udp.get(endpointString(to))?.received(copy, at);
        });
      },
      close: async () => { this.udp.delete(name); },
    });
  }

  /** A datagram with any sender's address. */
  inject(from: Endpoint, to: Endpoint, bytes: Uint8Array): void {
    this.udp.get(endpointString(to))?.received(bytes.slice(), from);
  }

  /** Delivers until nothing moves any more. */
  deliverAll(): void {
    let moved = true;
    while (moved) {
      moved = false;
      for (const s of this.sockets) if (s.deliver()) moved = true;
    }
  }
}

/** One process's sockets, which end with it. */
export class HostNet implements Net {
  private readonly sockets = new Set<SimSocket>();
  private readonly bound = new Set<{ close(): Promise<void> }>();
  private killed = false;

  constructor(private readonly net: SimNet, private readonly addr: number) {}

  async connect(to: Endpoint): Promise<TcpSocket> {
    const socket = await this.net.connectFrom({ addr: this.addr, port: this.net.freePort() }, to);
    return this.own(socket);
  }

  async listen(at: Endpoint, silence: number, accept: (s: TcpSocket) => void):
  Promise<TcpListener> {
    const listener = await this.net.listen(at, silence, (s) => {
      if (s instanceof SimSocket) accept(this.own(s));
    });
    this.bound.add(listener);
    return listener;
  }

  async bindUdp(at: Endpoint, received: (bytes: Uint8Array, from: Endpoint) => void):
  Promise<UdpSocket> {
    const socket = await this.net.bindUdp(at, (bytes, from) => {
      if (!this.killed) received(bytes, from);
    });
    this.bound.add(socket);
    return socket;
  }

  /** The process is dead: its peers see their connections end, its addresses are free. */
  kill(): void {
    this.killed = true;
    for (const s of this.sockets) s.abandon();
    for (const b of this.bound) void b.close();
    this.sockets.clear();
    this.bound.clear();
  }

  private own(socket: SimSocket): SimSocket {
    this.sockets.add(socket);
    return socket;
  }
}
