/**
 * The client's connect loop, its requests and its ways to leave, against a server made
 * of the accepting end of the connection.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import { keyZeros } from '../../host/core/keys.js';
import type { Endpoint } from '../../host/env/net.js';
import { Client } from '../../host/mount/client.js';
import { LockGrant, LockPlain, U64, encode } from '../../host/net/messages.js';
import { NetServer } from '../../host/net/net_server.js';
import type { NetRequest } from '../../host/net/peer.js';
import { Counters } from '../../host/observe/counters.js';
import { silentLog } from '../../host/observe/log.js';
import { SimClock, settle } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';

const AT: Endpoint = { addr: 1, port: 19700 };
const RID = 42n;

class World {
  readonly clock = new SimClock();
  readonly net = new SimNet();
  readonly log: string[] = [];
  server: NetServer | null = null;
  mounted = true;
  onRequest: (r: NetRequest) => void = () => undefined;
  attempts = 0;
  readonly counters = new Counters();
  /** Told when the server's host did not answer. */
  readonly unreachable: number[] = [];
  readonly client = new Client({
    clock: this.clock, net: this.net.host(2), log: silentLog, counters: this.counters, silenceTimeoutMs: 24_000,
    identity: { fsid: 1n, fmtVers: 2, rid: RID, quorum: false },
    findServer: async () => {
      this.attempts++;
      return AT;
    },
    isMounted: async () => this.mounted,
    unreachable: () => { this.unreachable.push(this.clock.monotonicMs()); },
    handlers: {
      syncLogTrees: () => { this.log.push('sync'); },
      invalidate: (lock, answer) => {
        this.log.push(`invalidate ${lock.newMode}`);
        answer(lock);
      },
      grant: (lock) => { this.log.push(`grant ${lock.newMode} seq ${lock.writeSeq}`); },
      recoverLocks: () => [],
      openInoMap: (args) => ({ args, bits: Array.from({ length: 16 }, () => 5n) }),
    },
  });

  async serve(term: number): Promise<NetServer> {
    const server = new NetServer(this.clock, { fsid: 1n, fmtVers: 2, term }, {
      record: async () => { this.log.push('record'); },
      isMounted: () => Promise.resolve(true),
      greeted: (c) => { this.log.push(`greeted ${c.firstContact}`); },
      request: (_rid, r) => { this.onRequest(r); },
      lost: () => { this.log.push('lost'); },
    });
    this.server = server;
    const listener = await this.net.listen(AT, 0, (s) => { server.accept(s); });
    this.closeListener = () => listener.close();
    return server;
  }

  closeListener: () => Promise<void> = async () => undefined;

  async stopServer(): Promise<void> {
    await this.closeListener();
    this.server?.close();
    await settle();
  }
}

t.test('a host that answers nothing for five seconds is told of', async (t) => {
  const w = new World();
  w.client.start();
  await w.clock.advance(20_000);
  t.same(w.unreachable, [], 'one that refuses is there');
  w.net.passes = () => false;
  await w.clock.advance(4900);
  w.net.passes = () => true;
  await w.clock.advance(200);
  w.net.passes = () => false;
  const cutMs = w.clock.monotonicMs();
  await w.clock.advance(4900);
  t.same(w.unreachable, []);
  await w.clock.advance(400);
  const [firstMs = 0] = w.unreachable;
  t.ok(firstMs >= cutMs + 5000 && firstMs <= cutMs + 5200);
  await w.client.force();
});

t.test('requests wait for a server and survive it', async (t) => {
  const w = new World();
  w.client.start();
  const seq = w.client.getLastSeq();
  await w.clock.advance(1000);
  t.ok(w.attempts >= 9 && w.attempts <= 11, 'one attempt every 100 ms');
  await w.serve(7);
  await w.clock.advance(200);
  t.same(w.log, ['record', 'greeted true']);
  await w.stopServer();
  w.onRequest = (r) => { r.respond(null, encode(U64, 17)); };
  await w.serve(8);
  await w.clock.advance(200);
  t.equal(await seq, 17);
  t.same(w.log, ['record', 'greeted true', 'greeted true'], 'recorded once');
});

t.test('a socket that was of use is replaced at once', async (t) => {
  const w = new World();
  w.onRequest = (r) => { r.respond(null, encode(U64, 1)); };
  await w.serve(7);
  w.client.start();
  await w.client.getLastSeq();
  w.server?.breakSocket(RID);
  await settle();
  t.equal(w.client.isConnected, true, 'without time passing');
  w.server?.breakSocket(RID);
  await settle();
  t.equal(w.client.isConnected, false, 'a useless one after 100 ms');
  await w.clock.advance(100);
  t.equal(w.client.isConnected, true);
});

t.test('answers to the server', async (t) => {
  const w = new World();
  w.onRequest = (r) => { r.respond(null, encode(LockGrant, {
    key: keyZeros(), writeSeq: 9, oldMode: 0, newMode: 2 })); };
  await w.serve(7);
  w.client.start();
  await w.clock.advance(10);
  const got: unknown[] = [];
  const ask = (cmd: number, payload: Uint8Array): void => {
    w.server?.send(RID, cmd, payload, (errno, p) => { got.push(errno ?? p.length); });
  };
  ask(F.NET_CMD_SYNC_LOG_TREES, new Uint8Array(0));
  ask(F.NET_CMD_LOCK, encode(LockPlain, { key: keyZeros(), writeSeq: 0, oldMode: 2, newMode: 1 }));
  ask(F.NET_CMD_LOCK_RECOVER, new Uint8Array(32));
  ask(F.NET_CMD_OPEN_INO_MAP, encode(F.OpenInoMapArgs, { groupNr: 3, reqId: 4 }));
  await settle();
  t.same(got, [0, 48, 8, 144]);
  w.client.lock({ key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 2 });
  await settle();
  t.same(w.log.slice(2), ['sync', 'invalidate 1', 'grant 2 seq 9']);
  const { attempts } = w;
  ask(F.NET_CMD_STATFS, new Uint8Array(0));
  await w.clock.advance(2000);
  t.equal(w.attempts, attempts + 1, 'a request no client answers ends the socket, once');
  t.equal(got.length, 4);
});

t.test('what the server says is checked', async (t) => {
  const w = new World();
  await w.serve(7);
  w.client.start();
  w.onRequest = (r) => { r.respond('ENOENT'); };
  await t.rejects(w.client.getLogMerge(), { code: 'ENOENT' });
  w.onRequest = (r) => { r.respond(null, new Uint8Array(9)); };
  await t.rejects(w.client.getLastSeq(), { code: 'BAD_PAYLOAD' });
  t.equal(w.client.isConnected, true, 'the socket survives');
  w.onRequest = (r) => { r.respond(null, encode(F.NetInodeAlloc, { ino: 5, nr: 0 })); };
  await t.rejects(w.client.allocInodes(), { code: 'ENOSPC' });
  w.onRequest = (r) => {
    r.respond(null, encode(F.NetInodeAlloc, { ino: 2 ** 53 - 2, nr: 3 }));
  };
  await t.rejects(w.client.allocInodes(), { code: 'EINVAL' });
});

t.test('farewell', async (t) => {
  const never = new World();
  never.client.start();
  await never.client.farewell();
  await never.client.stop();

  const w = new World();
  await w.serve(7);
  w.client.start();
  await w.clock.advance(10);
  let farewell: NetRequest | null = null;
  w.onRequest = (r) => { farewell = r; };
  let left = false;
  void w.client.farewell().then(() => { left = true; });
  await w.clock.advance(5000);
  t.equal(left, false, 'waits as long as the server wants');
  (farewell as NetRequest | null)?.respond(null);
  await settle();
  t.equal(left, true);
  await w.client.stop();
  await w.clock.advance(30_000);
  t.notOk(w.log.includes('lost'), 'nobody is fenced');
});

t.test('a farewell whose answer is lost is noticed by the missing item', async (t) => {
  const w = new World();
  await w.serve(7);
  w.client.start();
  await w.clock.advance(10);
  let left = false;
  void w.client.farewell().then(() => { left = true; });
  await w.clock.advance(3000);
  t.equal(left, false);
  w.mounted = false;
  await w.clock.advance(3000);
  t.equal(left, true);
  await w.client.stop();
  t.equal(w.counters.get('client_farewell_error'), 0, 'that is no failure');
});

t.test('a forced end', async (t) => {
  const w = new World();
  await w.serve(7);
  w.client.start();
  await w.clock.advance(10);
  const waiting = t.rejects(w.client.getRoots(), { code: 'ECONNABORTED' });
  const locked = w.client;
  locked.lock({ key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 1 });
  await w.client.force();
  await waiting;
  await t.rejects(w.client.getRoots(), { message: /closed/ });
  t.throws(() => { w.client.lock({ key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 1 }); },
    { code: 'NET_CLOSED' });
  await w.clock.advance(20_000);
  t.ok(w.log.includes('lost'), 'the server has it fenced');
});
