/**
 * The network of a simulated cluster: latency, loss, partitions, broken connections.
 *
 * TCP is what applications see of it: bytes arrive in order, in other pieces than they
 * were written in, or the connection ends. What cannot pass (a partition, a host without
 * power) waits as retransmissions do, and both ends give up after `silenceTimeoutMs`. The
 * end of a process resets its connections; a host without power resets nothing. UDP
 * packets are dropped, doubled, delayed and overtake each other.
 *
 *   wire.block(a, b)    nothing passes from a to b any more, until `heal`
 *
 * All chance comes from the seed; every fault is counted in `faults`.
 */
import type { ConnectOptions, Endpoint, TcpEvents, TcpListener, TcpSocket, UdpSocket }
  from '../../host/env/net.js';
import { endpointString } from '../../host/env/net.js';
import { errnoError } from '../../host/observe/errors.js';
import type { SimClock } from '../lib/simclock.js';
import type { ProcessNet } from '../lib/simworld.js';
import type { Gate } from './gate.js';

const LOOPBACK_MS = 0.05;

/** What the network does to packets, in percent of them. */
export interface WireFaults {
  udpDrop: number;
  udpDouble: number;
  udpLate: number;
  /** written bytes are delivered in two pieces */
  tcpSplit: number;
  /** a piece takes up to `lateMs` longer, and everything behind it */
  tcpLate: number;
  lateMs: number;
}

export const CALM: WireFaults = {
  udpDrop: 0, udpDouble: 0, udpLate: 0, tcpSplit: 0, tcpLate: 0, lateMs: 0,
};

interface Listener {
  net: WireNet;
  silenceTimeoutMs: number;
  accept(s: TcpSocket): void;
}

interface Bound {
  net: WireNet;
  received(bytes: Uint8Array, from: Endpoint): void;
}

export class Wire {
  now: WireFaults = CALM;
  /** Packets and pieces of connections so far. */
  sent = 0;
  /** Faults done, by kind. */
  readonly faults = new Map<string, number>();
  readonly listeners = new Map<string, Listener>();
  readonly udp = new Map<string, Bound>();
  readonly sockets = new Set<WireSocket>();
  private readonly blocked = new Map<string, number>();
  private readonly down = new Set<number>();
  private nextPort = 40_000;

  constructor(readonly clock: SimClock, readonly below: (n: number) => number) {}

  port(): number {
    return this.nextPort++;
  }

  count(kind: string, n = 1): void {
    this.faults.set(kind, (this.faults.get(kind) ?? 0) + n);
  }

  chance(percent: number): boolean {
    return percent > 0 && this.below(1000) < percent * 10;
  }

  latencyMs(from: number, to: number): number {
    return from === to ? LOOPBACK_MS : 0.2 + this.below(20) / 10;
  }

  passes(from: number, to: number): boolean {
    if (from === to) return true;
    return !this.blocked.has(`${from} ${to}`) && !this.down.has(from) && !this.down.has(to);
  }

  /** Cuts one direction. */
  block(from: number, to: number): void {
    this.blocked.set(`${from} ${to}`, this.clock.monotonicMs());
    this.count('partition');
    this.watch();
  }

  /** Everything passes again. */
  heal(): void {
    this.blocked.clear();
    for (const s of [...this.sockets]) s.pump();
  }

  /** A host loses its power: nothing comes from it any more, not even a reset. */
  hostDown(addr: number): void {
    this.down.add(addr);
    this.watch();
  }

  hostUp(addr: number): void {
    this.down.delete(addr);
    for (const s of [...this.sockets]) s.pump();
  }

  /** Open connections between hosts, each from both its ends. */
  connections(): WireSocket[] {
    return [...this.sockets].filter((s) => s.peer !== null && s.local.addr !== s.remote.addr);
  }

  /** Resets a connection; what is under way is lost. */
  reset(s: WireSocket): void {
    s.lose();
    s.peer?.lose();
    this.count('reset');
  }

  /** Sockets whose other side cannot be reached for too long end. */
  private watch(): void {
    for (const s of this.sockets) s.watchSilence();
  }
}

interface Piece {
  bytes: Uint8Array | null;
  atMs: number;
}

/** One end of a connection. */
export class WireSocket implements TcpSocket {
  peer: WireSocket | null = null;
  private events: TcpEvents | null = null;
  private inbox: Uint8Array[] = [];
  private underWay: Piece[] = [];
  private lastAtMs = 0;
  private isOpen = true;
  private paused = false;
  private told = false;
  private watching = false;

  constructor(private readonly wire: Wire, private readonly gate: Gate,
    private readonly alive: () => boolean, readonly local: Endpoint, readonly remote: Endpoint,
    private readonly silenceTimeoutMs: number) {
    wire.sockets.add(this);
  }

  get queuedBytes(): number {
    return this.underWay.reduce((n, p) => n + (p.bytes?.length ?? 0), 0);
  }

  start(events: TcpEvents): void {
    this.events = events;
    this.handOver();
    if (!this.isOpen) this.tellClosed();
  }

  write(bytes: Uint8Array): void {
    if (!this.isOpen) return;
    const copy = bytes.slice();
    if (copy.length > 1 && this.wire.chance(this.wire.now.tcpSplit)) {
      const at = 1 + this.wire.below(copy.length - 1);
      this.wire.count('tcp split');
      this.send(copy.subarray(0, at));
      this.send(copy.subarray(at));
    } else {
      this.send(copy);
    }
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.handOver();
  }

  end(): void {
    if (!this.isOpen) return;
    this.send(null);
    this.close();
  }

  destroy(): void {
    if (!this.isOpen) return;
    this.underWay = [];
    this.send(null);
    this.close();
  }

  /** The connection is lost at this end. */
  lose(): void {
    this.underWay = [];
    this.inbox = [];
    this.close();
  }

  /** The process is gone; its host says so to the other end, behind what was written or not. */
  abandon(): void {
    this.events = null;
    if (this.wire.below(2) === 0) this.end();
    else this.destroy();
  }

  /** Moves what may pass now. */
  pump(): void {
    const now = this.wire.clock.monotonicMs();
    while (this.underWay.length > 0 && this.wire.passes(this.local.addr, this.remote.addr)) {
      const [first] = this.underWay;
      if (first === undefined || first.atMs > now) break;
      this.underWay.shift();
      this.peer?.arrived(first.bytes, this);
    }
    if (!this.isOpen && this.underWay.length === 0) this.wire.sockets.delete(this);
  }

  /** Ends this end when the other one stays out of reach. */
  watchSilence(): void {
    if (this.watching || !this.isOpen || this.reachable()) return;
    this.watching = true;
    const ms = this.silenceTimeoutMs + this.wire.below(1000);
    this.wire.clock.after(ms, () => {
      this.watching = false;
      if (this.isOpen && !this.reachable()) {
        this.wire.count('tcp timeout');
        this.underWay = [];
        this.send(null);
        this.close();
      }
    });
  }

  private reachable(): boolean {
    const { wire, local, remote } = this;
    return wire.passes(local.addr, remote.addr) && wire.passes(remote.addr, local.addr);
  }

  private send(bytes: Uint8Array | null): void {
    const { wire } = this;
    wire.sent += 1;
    let ms = wire.latencyMs(this.local.addr, this.remote.addr);
    if (this.local.addr !== this.remote.addr && wire.chance(wire.now.tcpLate)) {
      wire.count('tcp late');
      ms += wire.below(wire.now.lateMs);
    }
    const atMs = Math.max(this.lastAtMs, wire.clock.monotonicMs() + ms);
    this.lastAtMs = atMs;
    this.underWay.push({ bytes, atMs });
    wire.clock.after(atMs - wire.clock.monotonicMs(), () => { this.pump(); });
    this.watchSilence();
  }

  private arrived(bytes: Uint8Array | null, from: WireSocket): void {
    if (!this.isOpen) {
      // Nobody is here any more: the sender is told.
      if (bytes !== null && this.alive()) return;
      if (bytes !== null) from.lose();
      return;
    }
    if (bytes === null) {
      this.handOver();
      this.underWay = [];
      this.close();
      return;
    }
    this.inbox.push(bytes);
    this.handOver();
  }

  private handOver(): void {
    while (this.events !== null && !this.paused && this.inbox.length > 0) {
      const bytes = this.inbox.shift();
      const { events } = this;
      if (bytes !== undefined) {
        this.gate.came(() => { if (this.alive()) events.data(bytes); });
      }
    }
  }

  private close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    if (this.underWay.length === 0) this.wire.sockets.delete(this);
    this.tellClosed();
  }

  private tellClosed(): void {
    if (this.told || this.events === null) return;
    this.told = true;
    const { events } = this;
    void Promise.resolve().then(() => {
      this.gate.came(() => { if (this.alive()) events.closed(null); });
    });
  }
}

/** One process's sockets. */
export class WireNet implements ProcessNet {
  private readonly sockets = new Set<WireSocket>();
  private readonly bound = new Set<{ close(): Promise<void> }>();
  killed = false;

  constructor(readonly wire: Wire, readonly addr: number, readonly gate: Gate) {}

  async connect(to: Endpoint, opts: ConnectOptions): Promise<TcpSocket> {
    const { wire, addr } = this;
    await wire.clock.sleep(wire.latencyMs(addr, to.addr));
    this.mustLive();
    const there = wire.passes(addr, to.addr) ? wire.listeners.get(endpointString(to)) : undefined;
    const back = wire.passes(to.addr, addr);
    if (there === undefined && (back && wire.passes(addr, to.addr))) {
      throw errnoError('ECONNREFUSED', `no listener at ${endpointString(to)}`);
    }
    let socket: WireSocket | null = null;
    if (there !== undefined) {
      const from = { addr, port: wire.port() };
      socket = this.socket(from, to, opts.silenceTimeoutMs);
      const other = there.net.socket(to, from, there.silenceTimeoutMs);
      socket.peer = other;
      other.peer = socket;
      there.net.gate.came(() => { there.accept(other); });
      other.watchSilence();
    }
    if (back && socket !== null) {
      await wire.clock.sleep(wire.latencyMs(addr, to.addr));
      await this.gate.pass();
      return socket;
    }
    await wire.clock.sleep(opts.timeoutMs);
    socket?.abandon();
    throw errnoError('ETIMEDOUT', `connecting to ${endpointString(to)}`);
  }

  async listen(at: Endpoint, silenceTimeoutMs: number, accept: (s: TcpSocket) => void):
  Promise<TcpListener> {
    const { listeners } = this.wire;
    const name = endpointString(at);
    this.mustLive();
    if (listeners.has(name)) throw errnoError('EADDRINUSE', `${name} is in use`);
    const listener: Listener = { net: this, silenceTimeoutMs, accept };
    listeners.set(name, listener);
    return this.closing(at, () => {
      if (listeners.get(name) === listener) listeners.delete(name);
    });
  }

  async bindUdp(at: Endpoint, received: (bytes: Uint8Array, from: Endpoint) => void):
  Promise<UdpSocket> {
    const { udp } = this.wire;
    const name = endpointString(at);
    this.mustLive();
    if (udp.has(name)) throw errnoError('EADDRINUSE', `${name} is in use`);
    const bound: Bound = { net: this, received };
    udp.set(name, bound);
    return {
      ...this.closing(at, () => { if (udp.get(name) === bound) udp.delete(name); }),
      send: (bytes: Uint8Array, to: Endpoint) => { this.sendPacket(at, bytes.slice(), to); },
    };
  }

  /** The dead open nothing: what they opened would never be closed, or told its end. */
  private mustLive(): void {
    if (this.killed) throw errnoError('ECONNABORTED', 'the process is dead');
  }

  kill(): void {
    this.killed = true;
    for (const s of this.sockets) s.abandon();
    for (const b of this.bound) void b.close();
    this.sockets.clear();
    this.bound.clear();
  }

  socket(local: Endpoint, remote: Endpoint, silenceTimeoutMs: number): WireSocket {
    const s = new WireSocket(this.wire, this.gate, () => !this.killed, local, remote,
      silenceTimeoutMs);
    this.sockets.add(s);
    return s;
  }

  private closing(local: Endpoint, close: () => void):
  { local: Endpoint; close(): Promise<void> } {
    const c = {
      local,
      close: (): Promise<void> => {
        close();
        return Promise.resolve();
      },
    };
    this.bound.add(c);
    return c;
  }

  private sendPacket(from: Endpoint, bytes: Uint8Array, to: Endpoint): void {
    const { wire } = this;
    wire.sent += 1;
    if (this.killed || !wire.passes(from.addr, to.addr)) {
      wire.count('udp cut off');
      return;
    }
    if (wire.chance(wire.now.udpDrop)) {
      wire.count('udp dropped');
      return;
    }
    const copies = wire.chance(wire.now.udpDouble) ? 2 : 1;
    if (copies > 1) wire.count('udp doubled');
    for (let i = 0; i < copies; i++) {
      let ms = wire.latencyMs(from.addr, to.addr);
      if (wire.chance(wire.now.udpLate)) {
        wire.count('udp late');
        ms += wire.below(wire.now.lateMs);
      }
      wire.clock.after(ms, () => {
        const bound = wire.udp.get(endpointString(to));
        if (bound === undefined || !wire.passes(from.addr, to.addr)) return;
        bound.net.gate.came(() => {
          if (!bound.net.killed) bound.received(bytes.slice(), from);
        });
      });
    }
  }
}
