/**
 * The connection against upstream's recorded conversations (`net_traces`): a client
 * with rid 42 and a server of term 7, later 9. What goes over the wire in each
 * direction, what reaches handlers and callbacks, who is fenced, has to be equal and in
 * the same order; only the interleaving of the two directions is free. The traces
 * that show upstream's hazards (net.md 12) have the behaviour wanted instead.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import { NetClient } from '../../host/net/net_client.js';
import { NetServer } from '../../host/net/net_server.js';
import { HEADER_BYTES, commandName, readHeader, viewOf } from '../../host/net/messages.js';
import type { NetRequest } from '../../host/net/peer.js';
import { Counters } from '../../host/observe/counters.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';
import { SimClock, settle } from '../lib/simclock.js';
import type { SimSocket } from '../lib/simnet.js';
import { SimNet } from '../lib/simnet.js';

const RID = 42n;
const FSID = 0x1122334455667788n;
const COMMIT_BYTES = new Uint8Array(F.LogTrees.size);
const NONE = new Uint8Array(0);

type Effect = Record<string, unknown>;

interface Trace {
  name: string;
  steps: { do: string; effects: Effect[] }[];
}

/** A client, the server of the moment, and everything they did. */
class Pair {
  readonly clock = new SimClock();
  readonly net = new SimNet();
  readonly counters = new Counters();
  effects: Effect[] = [];
  client: NetClient;
  server: NetServer;
  /** requests the client got and answers only when told */
  held: NetRequest[] = [];
  holdAnswers = false;
  /** what making a new mount durable waits for */
  recorded: Promise<void> = Promise.resolve();
  private readonly sockets: SimSocket[] = [];

  constructor(fsid = FSID) {
    this.net.auto = false;
    this.net.onWrite = (from, bytes) => { this.onWire(from, bytes); };
    this.client = new NetClient({ fsid, fmtVers: 2, rid: RID, quorum: false }, {
      greeted: () => undefined,
      request: (r) => {
        this.effects.push({ client: 'handles', cmd: commandName(r.cmd), id: r.id });
        if (this.holdAnswers) this.held.push(r);
        else r.respond(null);
      },
    }, this.counters);
    this.server = this.newServer(7);
  }

  newServer(term: number): NetServer {
    const server = new NetServer(this.clock, { fsid: FSID, fmtVers: 2, term }, {
      record: (rid) => {
        this.effects.push({ server: 'insert mounted client', rid: Number(rid) });
        return this.recorded;
      },
      isMounted: () => Promise.resolve(true),
      greeted: (c) => {
        if (c.firstContact) this.effects.push({ server: 'first contact', rid: Number(c.rid) });
      },
      request: (rid, r) => {
        this.effects.push(
          { server: 'handles', cmd: commandName(r.cmd), id: r.id, rid: Number(rid) });
        r.respond(null, r.cmd === F.NET_CMD_GET_LOG_TREES ? COMMIT_BYTES : NONE);
      },
      lost: (rid) => { this.effects.push({ server: 'fence request', rid: Number(rid) }); },
    });
    this.server = server;
    return server;
  }

  private onWire(from: SimSocket, bytes: Uint8Array): void {
    const h = readHeader(viewOf(bytes), 0);
    this.effects.push({
      wire: this.sockets.includes(from) ? 'client->server' : 'server->client',
      seq: h.seq, recv_seq: h.recvSeq, id: h.id, cmd: commandName(h.cmd), response: h.response,
    });
    if (bytes.length < HEADER_BYTES) throw new Error('short message');
  }

  /** Opens a socket to the server and greets on it. */
  async connect(): Promise<void> {
    const server = this.server;
    const listener = await this.net.listen({ addr: 1, port: 1 }, 0, (s) => { server.accept(s); });
    const socket = await this.net.connectFrom({ addr: 2, port: 2 }, { addr: 1, port: 1 });
    await listener.close();
    this.sockets.push(socket);
    void this.client.serve(socket);
    await settle();
  }

  async deliver(): Promise<void> {
    for (let i = 0; i < 10; i++) {
      this.net.deliverAll();
      await settle();
    }
  }

  /** Only what the client wrote gets through. */
  async deliverToServer(): Promise<void> {
    for (const s of this.net.sockets) if (!this.sockets.includes(s)) s.deliver();
    await settle();
  }

  async greeted(): Promise<void> {
    await this.connect();
    await this.deliver();
    this.effects = [];
  }

  async breakSocket(): Promise<void> {
    for (const s of this.net.sockets) s.cut();
    await settle();
  }

  ask(cmd: number): void {
    const payload = cmd === F.NET_CMD_COMMIT_LOG_TREES ? COMMIT_BYTES : NONE;
    this.client.request(cmd, payload, (errno) => {
      this.effects.push({ client: 'response', cmd: commandName(cmd), error: errno ?? 0 });
    });
  }

  sync(): void {
    try {
      this.server.send(RID, F.NET_CMD_SYNC_LOG_TREES, NONE, (errno) => {
        if (errno === null) this.effects.push({ server: 'response', cmd: 'SYNC_LOG_TREES' });
      });
    } catch (e) {
      this.effects.push({ server: 'send fails', errno: asScoutfsError(e).errnoNr });
    }
  }
}

const skip = skipWithoutSpec();
const traces = skip === false
  ? (vectors('net-vectors.json') as { net_traces: Trace[] }).net_traces : [];

/** One direction, or what happened at one end. */
function part(effects: readonly Effect[], pick: (e: Effect) => boolean): string[] {
  return effects.filter((e) => e['server'] !== 'duplicate dropped'
    && e['client'] !== 'duplicate dropped').filter(pick).map((e) => JSON.stringify(e));
}

interface Same {
  same(found: unknown, wanted: unknown, msg: string): boolean;
}

function same(t: Same, got: readonly Effect[], wanted: readonly Effect[], what: string): void {
  t.same(part(got, (e) => e['wire'] === 'client->server'),
    part(wanted, (e) => e['wire'] === 'client->server'), `${what}: to the server`);
  t.same(part(got, (e) => e['wire'] === 'server->client'),
    part(wanted, (e) => e['wire'] === 'server->client'), `${what}: to the client`);
  t.same(part(got, (e) => 'client' in e), part(wanted, (e) => 'client' in e), `${what}: client`);
  t.same(part(got, (e) => 'server' in e), part(wanted, (e) => 'server' in e), `${what}: server`);
}

/** Runs a script of one action per step of the trace. */
function replay(name: string, actions: ((p: Pair) => Promise<void>)[],
  steps = actions.length): void {
  t.test(`as upstream: ${name}`, { skip }, async (t) => {
    const trace = traces.find((x) => x.name === name);
    if (trace === undefined) throw new Error(`no trace ${name}`);
    const p = new Pair();
    for (let i = 0; i < steps; i++) {
      const step = trace.steps[i];
      const act = actions[i];
      if (step === undefined || act === undefined) throw new Error(`${name} has no step ${i}`);
      await act(p);
      same(t, p.effects, step.effects, `${i}: ${step.do}`);
      p.effects = [];
    }
  });
}

const COMMIT = F.NET_CMD_COMMIT_LOG_TREES;
const GET = F.NET_CMD_GET_LOG_TREES;

replay('first_contact', [
  (p) => p.connect(),
  async (p) => { p.ask(GET); },
  (p) => p.deliver(),
  async (p) => { p.sync(); await p.deliver(); },
  async (p) => { p.ask(COMMIT); await p.deliver(); },
]);
replay('response_lost_same_server', [
  (p) => p.greeted(),
  async (p) => { p.ask(COMMIT); await p.deliverToServer(); },
  (p) => p.breakSocket(),
  async (p) => { await p.connect(); await p.deliver(); },
  async (p) => { p.ask(GET); await p.deliver(); },
]);
replay('request_lost_same_server', [
  (p) => p.greeted(),
  async (p) => { p.ask(COMMIT); },
  async (p) => { await p.breakSocket(); p.ask(GET); },
  async (p) => { await p.connect(); await p.deliver(); },
]);
replay('server_request_across_reconnect', [
  (p) => p.greeted(),
  async (p) => { await p.breakSocket(); p.sync(); },
  (p) => p.clock.advance(5000),
  async (p) => { await p.connect(); await p.deliver(); },
  (p) => p.clock.advance(30_000),
]);
// The last step is not upstream's: see below.
replay('reconnect_timeout', [
  (p) => p.greeted(),
  async (p) => { await p.breakSocket(); await p.clock.advance(19_999); },
  (p) => p.clock.advance(1),
  async (p) => { p.sync(); },
]);
replay('failover', [
  async (p) => { await p.greeted(); p.sync(); await p.deliver(); p.effects = []; },
  async (p) => {
    p.ask(GET);
    await p.breakSocket();
    p.server.close();
    p.newServer(9);
    p.effects = [];
  },
  async (p) => { await p.connect(); await p.deliver(); },
  async (p) => { p.sync(); await p.deliver(); },
]);
replay('farewell', [
  (p) => p.greeted(),
  async (p) => { p.ask(F.NET_CMD_FAREWELL); await p.deliver(); },
  async (p) => { await p.breakSocket(); await p.clock.advance(30_000); },
]);

t.test('a greeting answered in vain by a new server', async (t) => {
  const p = new Pair();
  await p.greeted();
  await p.breakSocket();
  p.server.close();
  p.newServer(9);
  await p.connect();
  await p.deliverToServer();
  await p.breakSocket();
  p.sync();
  p.effects = [];
  await p.connect();
  await p.deliver();
  t.same(part(p.effects, (e) => 'server' in e || 'client' in e), [
    JSON.stringify({ client: 'handles', cmd: 'SYNC_LOG_TREES', id: 1 }),
    JSON.stringify({ server: 'response', cmd: 'SYNC_LOG_TREES' }),
  ], 'first contact is not told twice, and nothing queued was lost');
  p.effects = [];
  await p.clock.advance(30_000);
  t.same(p.effects, [], 'nobody is fenced');
});

t.test('a client that comes back too late is refused before it is answered', async (t) => {
  const p = new Pair();
  await p.greeted();
  await p.breakSocket();
  await p.clock.advance(20_000);
  p.effects = [];
  await p.connect();
  await p.deliver();
  t.same(part(p.effects, (e) => e['wire'] === 'server->client'), []);
  t.equal(p.client.peer.hasSocket, false);
  await p.clock.advance(30_000);
  t.same(part(p.effects, (e) => 'server' in e), [], 'and not fenced a second time');
});

t.test('a mount whose socket ends while it is recorded', async (t) => {
  for (const returns of [false, true]) {
    const p = new Pair();
    let record = (): void => undefined;
    p.recorded = new Promise((resolve) => { record = resolve; });
    await p.connect();
    await p.deliverToServer();
    await p.breakSocket();
    record();
    await p.clock.advance(19_000);
    p.effects = [];
    if (returns) {
      await p.connect();
      await p.deliver();
      t.ok(p.effects.some((e) => e['server'] === 'first contact'), 'it is met when it returns');
    }
    p.effects = [];
    await p.clock.advance(30_000);
    t.same(p.effects, returns ? [] : [{ server: 'fence request', rid: Number(RID) }],
      returns ? 'it is not fenced' : 'nobody else would ever ask for it: it is fenced');
  }
});

t.test('a socket that never greets is forgotten quietly', async (t) => {
  const p = new Pair();
  const server = p.server;
  const listener = await p.net.listen({ addr: 1, port: 1 }, 0, (s) => { server.accept(s); });
  const socket = await p.net.connectFrom({ addr: 2, port: 2 }, { addr: 1, port: 1 });
  await listener.close();
  await p.clock.advance(10_000);
  socket.destroy();
  await p.clock.advance(30_000);
  t.same(p.effects, []);
  t.equal(server.clientCount, 0);
});

t.test('a client of another volume is refused and not fenced', async (t) => {
  const p = new Pair(FSID + 1n);
  await p.connect();
  await p.deliver();
  t.same(p.effects.map((e) => [e['wire'], e['cmd'], e['response']]), [
    ['client->server', 'GREETING', false], ['server->client', 'GREETING', true]]);
  p.effects = [];
  await p.clock.advance(30_000);
  t.same(p.effects, []);
  t.equal(p.client.peer.hasSocket, false);
});

t.test('a late answer to an earlier server is dropped', async (t) => {
  const p = new Pair();
  await p.greeted();
  p.holdAnswers = true;
  p.sync();
  await p.deliver();
  await p.breakSocket();
  p.server.close();
  p.newServer(9);
  await p.connect();
  await p.deliver();
  p.sync();
  await p.deliver();
  p.effects = [];
  t.equal(p.held.length, 2);
  p.held[0]?.respond(null);
  await p.deliver();
  t.same(p.effects, [], 'the answer to the request of term 7 goes nowhere');
  p.held[1]?.respond(null);
  await p.deliver();
  t.same(part(p.effects, (e) => 'server' in e), [
    JSON.stringify({ server: 'response', cmd: 'SYNC_LOG_TREES' })]);
});

t.test('a first greeting answered in vain does not get the mount fenced', async (t) => {
  const p = new Pair();
  await p.connect();
  await p.deliverToServer();
  await p.breakSocket();
  p.sync();
  await p.connect();
  p.effects = [];
  await p.deliver();
  t.match(part(p.effects, (e) => 'client' in e), [
    JSON.stringify({ client: 'handles', cmd: 'SYNC_LOG_TREES', id: 1 })],
  'what was sent meanwhile arrives');
  p.effects = [];
  await p.clock.advance(30_000);
  t.same(p.effects, []);
});

t.test('a farewell answered in vain is answered again above what the client has seen', async (t) => {
  const p = new Pair();
  await p.greeted();
  for (let i = 0; i < 3; i++) {
    p.sync();
    await p.deliver();
  }
  p.client.farewell = true;
  p.ask(F.NET_CMD_FAREWELL);
  await p.deliverToServer();
  await p.breakSocket();
  t.equal(p.server.clientCount, 0, 'forgotten at once');
  p.effects = [];
  await p.connect();
  await p.deliver();
  t.same(part(p.effects, (e) => 'client' in e), [
    JSON.stringify({ client: 'response', cmd: 'FAREWELL', error: 0 })]);
});

t.test('an invalid message ends the socket and nothing else', async (t) => {
  const p = new Pair();
  await p.greeted();
  const socket = p.net.sockets.find((s) => s.local.addr === 2 && s.open);
  socket?.write(new Uint8Array(HEADER_BYTES));
  p.ask(GET);
  await p.deliver();
  t.equal(p.client.peer.hasSocket, false);
  p.effects = [];
  await p.connect();
  await p.deliver();
  t.same(part(p.effects, (e) => 'client' in e), [
    JSON.stringify({ client: 'response', cmd: 'GET_LOG_TREES', error: 0 })]);
});

t.test('a server asks its clients only what clients answer', async (t) => {
  const p = new Pair();
  await p.greeted();
  // Requests for which the other end has no handler end the socket, unanswered.
  p.client.request(F.NET_CMD_SYNC_LOG_TREES, NONE, () => undefined);
  p.effects = [];
  await p.deliver();
  t.same(part(p.effects, (e) => 'server' in e), []);
  t.equal(p.client.peer.hasSocket, false);
});

t.test('closing completes what is outstanding', async (t) => {
  const p = new Pair();
  await p.greeted();
  p.ask(GET);
  p.client.close('ECONNABORTED');
  t.match(p.effects.at(-1), { client: 'response', cmd: 'GET_LOG_TREES', error: 'ECONNABORTED' });
  t.throws(() => { p.ask(GET); }, { code: 'NET_CLOSED' });
});

t.test('what the client counts', async (t) => {
  const p = new Pair();
  await p.greeted();
  p.ask(GET);
  await p.deliver();
  // The response was not acknowledged yet: it comes again.
  await p.breakSocket();
  await p.connect();
  await p.deliver();
  t.equal(p.counters.get('net_send_messages'), 3, 'two greetings and a request');
  t.equal(p.counters.get('net_send_bytes'), 2 * 72 + 32);
  t.equal(p.counters.get('net_recv_messages'), 4);
  t.equal(p.counters.get('net_recv_dropped_duplicate'), 1);
  t.equal(p.counters.get('net_recv_invalid_message'), 0);
});
