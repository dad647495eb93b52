/**
 * The accepting end: the connections of all clients of one server incarnation.
 *
 * A socket starts without a name. Its greeting is checked, recorded if the client is
 * new, answered, and joined to the client's peer: the one it had, when this server
 * knows the rid, or a fresh one. Sockets come and go; a peer is given up
 *
 *   - 20 s after its last socket ended: `lost` is told, so that the client is fenced; also
 *     when that socket ended while its first greeting was being recorded
 *   - at once when its farewell was answered
 *   - when the server stops, silently
 *
 * Where upstream goes wrong this does not follow (net.md 10): a socket that never
 * greets disappears quietly (4); a client whose first greeting was answered in vain
 * is found by rid although it greets with term 0 (3); a client whose peer was given up
 * is refused before it is answered (18), also by a server that never knew it and finds no
 * mounted client item: it may only say farewell; the counters of a peer made for a farewell
 * resent to a server that forgot it start above what the client has seen (16);
 * `greeted` tells first contact once per incarnation (19).
 *
 * Clients are known by what they say they are. Of that this holds against one that lies: it
 * does not take the place of another that is connected from another address, has no more
 * requests at work than the server can take, and asks for nothing once it has said farewell
 * (what it got then nobody would ever take back). What is refused is counted and told.
 * Source: net.md 7.
 */
import type { Clock, TimerHandle } from '../env/clock.js';
import type { Endpoint, TcpSocket } from '../env/net.js';
import { endpointString } from '../env/net.js';
import * as F from '../core/format.js';
import { C, Counters } from '../observe/counters.js';
import { ScoutfsError, asScoutfsError, errnoError } from '../observe/errors.js';
import { hex16 } from '../observe/log.js';
import { FramedSocket } from './frame.js';
import type { Header } from './messages.js';
import { COMMANDS, commandName, decode, encode, encodeMessage } from './messages.js';
import type { NetRequest, ResponseFn } from './peer.js';
import { Peer } from './peer.js';

/** How long a client may be without a socket before it is fenced. */
export const RECONNECT_WAIT_MS = 20_000;
/** How long a socket may take to greet. */
const GREETING_WAIT_MS = 20_000;
/** Sockets that have not greeted; more are closed as they come. */
const UNGREETED_SOCKETS_MAX = 4096;
/** Clients; more are refused. */
const CLIENTS_MAX = 4096;

export interface ServerIdentity {
  fsid: bigint;
  fmtVers: number;
  /** term of the election that started this server */
  term: number;
}

export interface Greeted {
  rid: bigint;
  /** this incarnation meets the client for the first time */
  firstContact: boolean;
  quorum: boolean;
  from: Endpoint;
}

export interface ServerHooks {
  /** A new mount greets: make it durable. A rejection refuses the greeting. */
  record(rid: bigint, from: Endpoint, quorum: boolean): Promise<void>;
  /** Is there a mounted client item of `rid`? */
  isMounted(rid: bigint): Promise<boolean>;
  /** A client's messages may flow. */
  greeted(client: Greeted): void;
  /** A request with a payload of the right length; throwing closes the client's socket. */
  request(rid: bigint, request: NetRequest): void;
  /** The client did not come back: it must be fenced. */
  lost(rid: bigint, from: Endpoint): void;
  /** For the log: why a socket was lost. */
  note?(message: string): void;
  /** For the log: why a socket was closed or not taken. */
  refused?(from: Endpoint, why: string): void;
}

interface Client {
  peer: Peer;
  rid: bigint;
  from: Endpoint;
  greetingId: number;
  /** its greeting was answered once */
  met: boolean;
  timer: TimerHandle | null;
  /** It has said farewell: nothing else may be requested. */
  leaving: boolean;
}

interface Incoming {
  framed: FramedSocket;
  client: Client | null;
  timer: TimerHandle;
}

export class NetServer {
  private readonly clients = new Map<bigint, Client>();
  private readonly ungreeted = new Set<Incoming>();
  private stopped = false;

  constructor(private readonly clock: Clock, private readonly me: ServerIdentity,
    private readonly hooks: ServerHooks, private readonly counters: Counters = new Counters()) {}

  /** Clients that have greeted and were not given up. */
  get clientCount(): number {
    return this.clients.size;
  }

  /** One line per client for the debug view. */
  describe(): string[] {
    return [...this.clients.values()].map((c) =>
      `peer ${endpointString(c.from)} rid ${hex16(c.rid)} greeting ${c.greetingId} ${
        c.peer.describe()}`);
  }

  /** One line per message that a client may still need. */
  describeMessages(): string[] {
    return [...this.clients.values()].flatMap((c) =>
      c.peer.describeMessages().map((l) => `rid ${hex16(c.rid)} ${l}`));
  }

  /** Takes over an accepted socket. */
  accept(socket: TcpSocket): void {
    if (this.stopped || this.ungreeted.size >= UNGREETED_SOCKETS_MAX) {
      if (!this.stopped) this.refusedGreeting(socket.remote, 'too many sockets have not greeted');
      socket.start({ data: () => undefined, closed: () => undefined });
      socket.destroy();
      return;
    }
    const framed: FramedSocket = new FramedSocket(socket, 'server', this.counters, {
      message: (header, payload) => { this.message(incoming, header, payload); },
      closed: (error) => { this.socketClosed(incoming, error); },
    });
    const timer = this.clock.after(GREETING_WAIT_MS, () => {
      this.refusedGreeting(socket.remote, 'no greeting came');
      framed.destroy();
    });
    const incoming: Incoming = { framed, client: null, timer };
    this.ungreeted.add(incoming);
    framed.start();
  }

  /** Sends a request to a client. @throws ENOTCONN when no connection has that rid */
  send(rid: bigint, cmd: number, payload: Uint8Array, done: ResponseFn): void {
    const client = this.clients.get(rid);
    if (client === undefined) {
      throw errnoError('ENOTCONN', `client ${rid.toString(16)} is not connected`);
    }
    client.peer.request(cmd, payload, done);
  }

  /** Whether requests can be sent to `rid`. */
  isKnown(rid: bigint): boolean {
    return this.clients.has(rid);
  }

  /** Whether a client has a socket now. */
  isConnected(rid: bigint): boolean {
    return this.clients.get(rid)?.peer.hasSocket === true;
  }

  /** Address and rid of a client, for messages. */
  nameOf(rid: bigint): string {
    const from = this.clients.get(rid)?.from;
    return `${from === undefined ? 'nowhere' : endpointString(from)} (client ${rid.toString(16)})`;
  }

  /** Breaks a client's socket; it may come back. */
  breakSocket(rid: bigint): void {
    this.clients.get(rid)?.peer.current?.destroy();
  }

  /** Forgets a client that was reclaimed; its socket is closed, it will be refused. */
  forget(rid: bigint): void {
    const client = this.clients.get(rid);
    if (client !== undefined) this.drop(client);
  }

  /** Closes everything without telling `lost`. */
  close(): void {
    this.stopped = true;
    for (const client of [...this.clients.values()]) this.drop(client);
    for (const incoming of [...this.ungreeted]) incoming.framed.destroy();
  }

  private message(incoming: Incoming, header: Header, payload: Uint8Array): void {
    const { framed, client } = incoming;
    if (header.cmd !== F.NET_CMD_GREETING) {
      if (client === null) throw protocolError(`${commandName(header.cmd)} before greeting`);
      client.peer.receive(header, payload);
      return;
    }
    framed.greeted = true;
    // Nothing later on this socket is looked at until the greeting is settled.
    framed.pause();
    this.greet(incoming, header, payload).then(
      () => { framed.resume(); },
      (e: unknown) => {
        this.refusedGreeting(framed.remote, asScoutfsError(e).message);
        framed.destroy();
      });
  }

  private async greet(incoming: Incoming, header: Header, payload: Uint8Array): Promise<void> {
    const { framed } = incoming;
    const g = payload.length === F.NetGreeting.size ? decode(F.NetGreeting, payload) : null;
    const fault = this.greetingFault(g);
    if (g === null || fault !== null) {
      this.refuse(framed, header.id, fault ?? '');
      return;
    }
    if (this.clients.size >= CLIENTS_MAX && !this.clients.has(g.rid)) {
      this.refuse(framed, header.id, 'too many clients');
      return;
    }
    this.checkPlace(framed, header, g.rid);
    const quorum = (g.flags & BigInt(F.NET_GREETING_FLAG_QUORUM)) !== 0n;
    if (g.serverTerm === 0) {
      try {
        await this.hooks.record(g.rid, framed.remote, quorum);
      } catch (e) {
        this.refuse(framed, header.id, asScoutfsError(e).message);
        return;
      }
    }
    const mounted = this.clients.has(g.rid) || g.serverTerm === 0 ||
      await this.hooks.isMounted(g.rid);
    if (this.stopped) return;
    if (!framed.isOpen) {
      if (g.serverTerm === 0 && !this.clients.has(g.rid)) this.missed(g.rid, header.id, framed);
      return;
    }
    this.checkPlace(framed, header, g.rid);
    this.join(incoming, header, g, { quorum, mounted });
  }

  /** A mount was recorded, but its socket has ended meanwhile: it comes back, or is fenced. */
  private missed(rid: bigint, greetingId: number, framed: FramedSocket): void {
    const client = this.newClient(rid, framed.remote);
    client.greetingId = greetingId;
    this.waitForReturn(client);
  }

  /** A socket may take the place of an older one of its client, and of nobody else's. */
  private checkPlace(framed: FramedSocket, header: Header, rid: bigint): void {
    const old = this.clients.get(rid);
    if (old === undefined) return;
    if (old.peer.hasSocket && old.from.addr !== framed.remote.addr) {
      throw protocolError(`client ${rid.toString(16)} is connected from ${
        endpointString(old.from)}`);
    }
    if (old.greetingId >= header.id) {
      throw protocolError('a later socket of this client has greeted already');
    }
  }

  /** Why a greeting cannot be answered, or null. */
  private greetingFault(g: F.NetGreeting | null): string | null {
    if (g === null) return 'a greeting of the wrong length';
    if (g.fsid !== this.me.fsid) return `volume ${hex16(g.fsid)} is not served here`;
    if (g.fmtVers !== this.me.fmtVers) return `format version ${g.fmtVers} is not served here`;
    return g.rid === 0n ? 'a greeting without a mount' : null;
  }

  /** Matches a valid greeting with the client's peer, or makes one (net.md 7.3). */
  private join(incoming: Incoming, header: Header, g: F.NetGreeting,
    { quorum, mounted }: { quorum: boolean; mounted: boolean }): void {
    const { framed } = incoming;
    const old = this.clients.get(g.rid);
    const leaving = (g.flags & BigInt(F.NET_GREETING_FLAG_FAREWELL)) !== 0n;
    if (old === undefined && (g.serverTerm === this.me.term || !mounted) && !leaving) {
      throw protocolError(`client ${g.rid.toString(16)} was given up and has to be fenced`);
    }
    const client = old ?? this.newClient(g.rid, framed.remote);
    if (old === undefined && !mounted) client.leaving = true;
    if (old === undefined && g.serverTerm === this.me.term) {
      client.peer.nextSeq = Math.max(client.peer.nextSeq, header.recvSeq + 1);
    }
    const previous = client.peer.current;
    if (previous !== null) {
      client.peer.detach(previous);
      previous.destroy();
    }
    client.timer?.cancel();
    client.timer = null;
    client.greetingId = header.id;
    client.from = framed.remote;
    incoming.client = client;
    incoming.timer.cancel();
    this.ungreeted.delete(incoming);
    framed.write(encodeMessage({
      seq: 1, recvSeq: client.peer.recvSeq, id: header.id, cmd: F.NET_CMD_GREETING,
      response: true, error: 0,
    }, encode(F.NetGreeting, {
      fsid: this.me.fsid, fmtVers: this.me.fmtVers, serverTerm: this.me.term, rid: g.rid, flags: 0n,
    })));
    client.peer.attach(framed);
    const firstContact = !client.met;
    client.met = true;
    this.hooks.greeted({ rid: g.rid, firstContact, quorum, from: framed.remote });
  }

  private newClient(rid: bigint, from: Endpoint): Client {
    const peer = new Peer({ request: (r) => { this.dispatch(client, r); } }, this.counters);
    // Its greeting response has the first seq.
    peer.nextSeq = 2;
    const client: Client = {
      peer, rid, from, greetingId: 0, met: false, timer: null, leaving: false,
    };
    this.clients.set(rid, client);
    return client;
  }

  private refusedGreeting(from: Endpoint, why: string): void {
    this.counters.inc(C.net_refused_greetings);
    this.hooks.refused?.(from, why);
  }

  private refuse(framed: FramedSocket, id: number, why: string): void {
    this.refusedGreeting(framed.remote, why);
    framed.write(encodeMessage({
      seq: 1, recvSeq: 0, id, cmd: F.NET_CMD_GREETING, response: true, error: F.NET_ERR_EINVAL,
    }, new Uint8Array(0)));
    framed.end();
  }

  private dispatch(client: Client, request: NetRequest): void {
    const command = COMMANDS[request.cmd];
    if (client.leaving && request.cmd !== F.NET_CMD_FAREWELL) {
      throw protocolError(`${commandName(request.cmd)} request after the farewell`);
    }
    if (command?.fromClient !== true) {
      this.counters.inc(C.net_unknown_request);
      throw protocolError(`${commandName(request.cmd)} request from a client`);
    }
    if (request.payload.length !== command.requestBytes) {
      if (command.badLength === 'shutdown') {
        throw protocolError(`${command.name} request of ${request.payload.length} bytes`);
      }
      this.counters.inc(C.net_refused_requests);
      this.hooks.refused?.(client.from,
        `${command.name} request of ${request.payload.length} bytes`);
      request.respond('EINVAL');
      return;
    }
    if (request.cmd === F.NET_CMD_FAREWELL) client.leaving = true;
    this.hooks.request(client.rid, request);
  }

  private socketClosed(incoming: Incoming, error: ScoutfsError | null): void {
    const { framed, client } = incoming;
    incoming.timer.cancel();
    this.ungreeted.delete(incoming);
    if (error?.code === 'NET_PROTOCOL') this.hooks.refused?.(framed.remote, error.message);
    // A socket that a later one of the same client has replaced means nothing.
    if (client === null || client.peer.current !== framed) return;
    client.peer.detach(framed);
    if (this.stopped) return;
    if (error?.code !== 'NET_PROTOCOL') {
      this.hooks.note?.(`client ${client.rid.toString(16)} at ${endpointString(client.from)
      } lost its socket: ${error?.message ?? 'closed by the client'}`);
    }
    if (client.peer.farewellSent) {
      this.drop(client);
      return;
    }
    this.waitForReturn(client);
  }

  private waitForReturn(client: Client): void {
    client.timer = this.clock.after(RECONNECT_WAIT_MS, () => {
      this.drop(client);
      this.hooks.lost(client.rid, client.from);
    });
  }

  private drop(client: Client): void {
    client.timer?.cancel();
    client.timer = null;
    if (this.clients.get(client.rid) === client) this.clients.delete(client.rid);
    client.peer.close('ENOTCONN');
  }
}

function protocolError(message: string): ScoutfsError {
  return new ScoutfsError('NET_PROTOCOL', 'EBADMSG', { message });
}
