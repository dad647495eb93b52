/**
 * The connecting end: one connection for the whole life of a mount.
 *
 * `serve` runs one TCP socket: sends the greeting, waits for the answer, then lets the
 * peer's messages flow until the socket ends. Which server was found shows in its term:
 * another term than the last one's is a new incarnation that knows nothing of us.
 *
 * A socket that is lost before anything but the greeting came counts as a failed
 * attempt, so that a server that refuses after answering cannot make us spin
 * (net.md trap 18). Source: net.md 7.2; client.md 2.
 */
import type { TcpSocket } from '../env/net.js';
import * as F from '../core/format.js';
import { C, Counters } from '../observe/counters.js';
import type { ErrnoName } from '../observe/errors.js';
import { ScoutfsError } from '../observe/errors.js';
import { FramedSocket } from './frame.js';
import type { Header } from './messages.js';
import { COMMANDS, commandName, decode, encode, encodeMessage } from './messages.js';
import type { NetRequest, ResponseFn } from './peer.js';
import { Peer } from './peer.js';

export interface ClientIdentity {
  fsid: bigint;
  fmtVers: number;
  rid: bigint;
  /** mounted with a quorum slot */
  quorum: boolean;
}

export interface ClientHooks {
  /** A request of the server with a payload of the right length; throwing closes the socket. */
  request(request: NetRequest): void;
  /** The greeting was answered; `newServer` unless it is the server we had before. */
  greeted(term: number, newServer: boolean): void;
}

/** How a socket ended: `useful` when messages flowed after the greeting. */
export interface SocketEnd {
  useful: boolean;
  error: ScoutfsError | null;
}

export class NetClient {
  readonly peer: Peer;
  /** Term of the last server that accepted us; 0 before the first. */
  serverTerm = 0;
  /** Our farewell request is outstanding: greetings say so. */
  farewell = false;
  private framed: FramedSocket | null = null;

  constructor(private readonly me: ClientIdentity, private readonly hooks: ClientHooks,
    private readonly counters: Counters = new Counters()) {
    this.peer = new Peer({ request: (r) => { this.dispatch(r); } }, counters, true);
  }

  /** Submits a request. @throws the errno of `close` */
  request(cmd: number, payload: Uint8Array, done: ResponseFn): void {
    this.peer.request(cmd, payload, done);
  }

  /** Greets on a connected socket and serves it until it ends. */
  serve(socket: TcpSocket): Promise<SocketEnd> {
    return new Promise((resolve) => {
      const greetingId = this.peer.nextId++;
      let useful = false;
      const framed = new FramedSocket(socket, 'client', this.counters, {
        message: (header, payload) => {
          if (header.cmd === F.NET_CMD_GREETING) {
            this.receiveGreeting(framed, header, payload, greetingId);
          } else {
            if (!framed.greeted) throw protocolError(`${commandName(header.cmd)} before greeting`);
            if (this.peer.receive(header, payload)) useful = true;
          }
        },
        closed: (error) => {
          this.peer.detach(framed);
          if (this.framed === framed) this.framed = null;
          resolve({ useful, error });
        },
      });
      this.framed = framed;
      this.sendGreeting(framed, greetingId);
      framed.start();
    });
  }

  /** Breaks the current socket, if any; nothing is lost. */
  breakSocket(): void {
    this.framed?.destroy();
  }

  /** Ends the connection: outstanding requests complete with `errno`, others throw `later`. */
  close(errno: ErrnoName, later: ErrnoName = errno): void {
    this.framed?.destroy();
    this.peer.close(errno, later);
  }

  private sendGreeting(framed: FramedSocket, id: number): void {
    const payload = encode(F.NetGreeting, {
      fsid: this.me.fsid,
      fmtVers: this.me.fmtVers,
      serverTerm: this.serverTerm,
      rid: this.me.rid,
      flags: (this.farewell ? BigInt(F.NET_GREETING_FLAG_FAREWELL) : 0n)
        | (this.me.quorum ? BigInt(F.NET_GREETING_FLAG_QUORUM) : 0n),
    });
    framed.write(encodeMessage({
      seq: this.peer.nextSeq++, recvSeq: this.peer.recvSeq, id, cmd: F.NET_CMD_GREETING,
      response: false, error: 0,
    }, payload));
  }

  private receiveGreeting(framed: FramedSocket, header: Header, payload: Uint8Array,
    greetingId: number): void {
    framed.greeted = true;
    if (header.error !== 0) throw protocolError('the server refused our greeting');
    if (header.id !== greetingId) throw protocolError('answer to another greeting');
    const g = decode(F.NetGreeting, payload);
    if (g.fsid !== this.me.fsid) throw protocolError('the server serves another volume');
    if (g.fmtVers !== this.me.fmtVers) throw protocolError('the server has another format version');
    const newServer = g.serverTerm !== this.serverTerm;
    if (newServer) this.peer.newIncarnation();
    this.serverTerm = g.serverTerm;
    this.hooks.greeted(g.serverTerm, newServer);
    this.peer.attach(framed);
  }

  private dispatch(request: NetRequest): void {
    const command = COMMANDS[request.cmd];
    if (command?.fromServer !== true) {
      this.counters.inc(C.net_unknown_request);
      throw protocolError(`${commandName(request.cmd)} request from a server`);
    }
    // The server asks for lock recovery with a key and for maps with arguments.
    if (request.payload.length !== command.requestBytes) {
      throw protocolError(`${command.name} request of ${request.payload.length} bytes`);
    }
    this.hooks.request(request);
  }
}

function protocolError(message: string): ScoutfsError {
  return new ScoutfsError('NET_PROTOCOL', 'EBADMSG', { message });
}
