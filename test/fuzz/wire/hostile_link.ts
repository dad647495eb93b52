/**
 * A server that turns hostile, as its client sees it: a relay between the two that changes
 * what the server says and says things of its own.
 *
 *   client --(requests, answers)--> relay --> server
 *   client <-- changed, invented -- relay <-- (answers, requests)
 *
 * The relay numbers what it sends by itself, and translates what the client acknowledges, so
 * that the true server loses nothing: what the client refuses, it sends again.
 */
import * as F from '../../../host/core/format.js';
import type { ConnectOptions, Endpoint, TcpEvents, TcpSocket } from '../../../host/env/net.js';
import { HEADER_BYTES, readHeader, viewOf } from '../../../host/net/messages.js';
import type { Header } from '../../../host/net/messages.js';
import type { ProcessNet } from '../../lib/simworld.js';
import type { Below } from '../values.js';
import { cut, encodeDraft } from './draft.js';
import type { Draft } from './draft.js';

/** Ids of the relay's own requests, above those of any server. */
const OWN_IDS = 2 ** 40;

/** What the relay is told to do with messages. */
export interface Evil {
  /** A message of the server: what is delivered for it, most often itself. */
  change(d: Draft): Draft[];
  /** Around each delivery: tells whether it ended the connection. */
  delivered(d: Draft, deliver: () => void, isClosed: () => boolean): void;
}

/** The conversation of one client, over all its connections. */
export class Relay {
  link: HostileLink | null = null;
  private nextSeq = 1;
  private nextOwnId = OWN_IDS;
  /** seqs of the server by those that stood for them, ascending */
  private readonly seqs: { ours: number; theirs: number }[] = [];

  constructor(readonly below: Below, readonly evil: Evil) {}

  /** The client's sockets, with the relay in between. */
  net(inner: ProcessNet): ProcessNet {
    return {
      listen: (at, ms, accept) => inner.listen(at, ms, accept),
      bindUdp: (at, received, closed) => inner.bindUdp(at, received, closed),
      kill: () => { inner.kill(); },
      connect: async (to: Endpoint, o: ConnectOptions) =>
        this.link = new HostileLink(this, await inner.connect(to, o)),
    };
  }

  ownId(): number {
    return this.nextOwnId++;
  }

  isOwn(id: number): boolean {
    return id >= OWN_IDS;
  }

  /** The number of the next message to the client; `theirs` is what it stands for, if anything. */
  seqFor(theirs: number | null): number {
    const ours = this.nextSeq++;
    if (theirs !== null) this.seqs.push({ ours, theirs });
    return ours;
  }

  /** The client may have taken a message with this number. */
  jumpTo(seq: bigint): void {
    if (seq < 2n ** 52n) this.nextSeq = Math.max(this.nextSeq, Number(seq) + 1);
  }

  /** What the client has received of the server when it has received up to `ours`. */
  acknowledged(ours: number): number {
    let theirs = 0;
    for (const s of this.seqs) if (s.ours <= ours) theirs = Math.max(theirs, s.theirs);
    if (this.seqs.length > 4000) this.seqs.splice(0, 2000);
    return theirs;
  }
}

export class HostileLink implements TcpSocket {
  private events: TcpEvents | null = null;
  private fromServer = Buffer.alloc(0);
  private fromClient = Buffer.alloc(0);
  isOpen = true;

  constructor(private readonly relay: Relay, private readonly inner: TcpSocket) {}

  get remote(): Endpoint { return this.inner.remote; }
  get queuedBytes(): number { return this.inner.queuedBytes; }
  pause(): void { this.inner.pause(); }
  resume(): void { this.inner.resume(); }

  start(events: TcpEvents): void {
    this.events = events;
    this.inner.start({
      data: (bytes) => {
        this.fromServer = Buffer.concat([this.fromServer, bytes]);
        this.relayServer();
      },
      closed: (error) => {
        this.isOpen = false;
        events.closed(error);
      },
    });
  }

  end(): void {
    this.isOpen = false;
    this.inner.end();
  }

  destroy(): void {
    this.isOpen = false;
    this.inner.destroy();
  }

  write(bytes: Uint8Array): void {
    this.fromClient = Buffer.concat([this.fromClient, bytes]);
    for (const m of whole(this.fromClient)) {
      this.fromClient = this.fromClient.subarray(m.bytes.length);
      if (m.header.response && this.relay.isOwn(m.header.id)) continue;
      const out = new Uint8Array(m.bytes);
      viewOf(out).setBigUint64(8, BigInt(this.relay.acknowledged(m.header.recvSeq)), true);
      this.inner.write(out);
    }
  }

  /** Delivers a message to the client in pieces. */
  deliver(d: Draft): void {
    if (!this.isOpen) return;
    if (d.seq === 0n && !d.changed.includes('seq')) d.seq = BigInt(this.relay.seqFor(null));
    else this.relay.jumpTo(d.seq);
    this.relay.evil.delivered(d, () => {
      for (const piece of cut(this.relay.below, encodeDraft(d))) {
        if (this.isOpen) this.events?.data(piece);
      }
    }, () => !this.isOpen);
  }

  /** Bytes that are no message. */
  deliverRaw(bytes: Uint8Array): void {
    if (this.isOpen) this.events?.data(bytes);
  }

  private relayServer(): void {
    for (const m of whole(this.fromServer)) {
      this.fromServer = this.fromServer.subarray(m.bytes.length);
      const d = draftOf(m);
      if (d.cmd !== F.NET_CMD_GREETING) d.seq = BigInt(this.relay.seqFor(m.header.seq));
      for (const out of this.relay.evil.change(d)) this.deliver(out);
    }
  }
}

interface Message {
  header: Header;
  bytes: Uint8Array;
}

function whole(stream: Uint8Array): Message[] {
  const all: Message[] = [];
  for (let at = 0; stream.length - at >= HEADER_BYTES;) {
    const header = readHeader(viewOf(stream), at);
    const end = at + HEADER_BYTES + header.dataLen;
    if (end > stream.length) break;
    all.push({ header, bytes: stream.subarray(at, end) });
    at = end;
  }
  return all;
}

function draftOf(m: Message): Draft {
  const { header: h } = m;
  return {
    seq: BigInt(h.seq), recvSeq: BigInt(h.recvSeq), id: BigInt(h.id), dataLen: null, cmd: h.cmd,
    flags: h.response ? 1 : 0, error: h.error, pad: 0, payload: m.bytes.slice(HEADER_BYTES),
    fromClient: false, changed: [],
  };
}
