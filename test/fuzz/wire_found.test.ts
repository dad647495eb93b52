/**
 * What the fuzzer of protocols has found, each as the few messages that did it.
 */
import t from 'tap';
import * as F from '../../host/core/format.js';
import { inodeLockRange, keyZeros } from '../../host/core/keys.js';
import { U64, decode, encode } from '../../host/net/messages.js';
import { NetServer } from '../../host/net/net_server.js';
import { Counters } from '../../host/observe/counters.js';
import { makeLog, silentLog } from '../../host/observe/log.js';
import { Refusals } from '../../host/observe/refusals.js';
import { reclaimMount } from '../../host/server/reclaim.js';
import { LockServer } from '../../host/server/lock_server.js';
import { Client } from '../../host/mount/client.js';
import { FakeClient, damage, errnoOf, makeVolume, mount, partsOf, startServer } from '../lib/server.js';
import { RawSocket } from '../lib/rawsocket.js';
import { SimClock, settle } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';
import { encodeDraft, request, response } from './wire/draft.js';
import type { Draft } from './wire/draft.js';

t.setTimeout(120_000);

const RID = 0x77n;
const AT = { addr: 1, port: 4000 };
const NODE = { addr: 2, port: 5000 };
const STRANGER = { addr: 3, port: 5000 };
const TERM = 7;
const NONE = new Uint8Array(0);

t.test('a mount cannot use up inode numbers', async (t) => {
  const ts = await startServer(await makeVolume());
  const { trees } = partsOf(ts);
  const first = decode(F.NetInodeAlloc, await trees.allocInodes(2n ** 64n - 1n));
  const second = decode(F.NetInodeAlloc, await trees.allocInodes(10n));
  t.equal(first.nr, 1_048_576);
  t.same(second, { ino: first.ino + first.nr, nr: 10 });
  await ts.server.stop();
});

t.test('a committed log tree is checked', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, RID);
  const c = new FakeClient(v, RID);
  await c.get(ts);
  await c.item(5000, new Uint8Array(100));
  const good = decode(F.LogTrees, await c.prepare());
  const { trees } = partsOf(ts);
  const bad: [string, (lt: F.LogTrees) => void, string][] = [
    ['finalize_seq', (lt) => { lt.finalizeSeq = 2 ** 50; }, 'EINVAL'],
    ['a seq of the far future', (lt) => { lt.maxItemSeq = 2 ** 52; }, 'EINVAL'],
    ['an impossible inode count', (lt) => { lt.inodeCountDelta = 2n ** 62n; }, 'EINVAL'],
    ['two lists in one block', (lt) => { lt.metaFreed = lt.metaAvail; }, 'EINVAL'],
    ['free data without a tree', (lt) => {
      lt.dataFreed = { root: { ref: { blkno: 0, seq: 0n }, height: 0 }, totalLen: 1, flags: 0 };
    }, 'EINVAL'],
    ['more free data than before', (lt) => { lt.dataAvail.totalLen += 1; }, 'EINVAL'],
    ['a list with other numbers than its block has', (lt) => { lt.metaAvail.firstNr -= 1; }, 'EIO'],
    ['a list with more numbers than its blocks', (lt) => { lt.metaFreed.totalNr += 1; }, 'EIO'],
    ['items where free extents belong', (lt) => { lt.dataFreed.root = c.got?.itemRoot.height === 0
      ? { ...partsOf(ts).context.commits.stable.fsRoot } : lt.itemRoot; }, 'EINVAL'],
    ['a root that is not there', (lt) => { lt.itemRoot.ref.seq += 1n; }, 'ESTALE'],
    ['a bloom block that is none', (lt) => { lt.bloomRef.seq += 1n; }, 'ESTALE'],
  ];
  for (const [name, edit, errno] of bad) {
    const lt = decode(F.LogTrees, encode(F.LogTrees, good));
    edit(lt);
    t.equal(await errnoOf(trees.commit(RID, encode(F.LogTrees, lt))), errno, name);
  }
  t.equal(await errnoOf(trees.commit(RID, encode(F.LogTrees, good))), null, 'as it should be');
  await ts.server.stop();
});

t.test('a mount that says it has more free data than it has is reclaimed', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, RID);
  const c = new FakeClient(v, RID);
  await c.get(ts);
  await c.churnData(20);
  const { trees, context, services, srch, merges } = partsOf(ts);
  const lt = decode(F.LogTrees, await c.prepare());
  lt.dataFreed.totalLen += 5;
  t.equal(await errnoOf(trees.commit(RID, encode(F.LogTrees, lt))), null, 'nobody can see it');
  await reclaimMount(context, {
    locks: services.locks, omap: services.omap, finalizer: trees.finalizer, srch, merges,
  }, RID);
  t.equal(ts.server.status, 'up');
  await ts.server.stop();
  t.same(await damage(v), [], 'and everything is accounted for');
});

/** A server with one volume, whose mounts are those in `mounted`. */
function netServer(mounted: Set<bigint>, told: string[]): { net: SimNet; server: NetServer;
  counters: Counters; clock: SimClock } {
  const net = new SimNet();
  const clock = new SimClock();
  const counters = new Counters();
  const server = new NetServer(clock, { fsid: 1n, fmtVers: 2, term: TERM }, {
    record: async (rid) => { mounted.add(rid); },
    isMounted: async (rid) => mounted.has(rid),
    greeted: () => { told.push('greeted'); },
    request: (_, r) => {
      told.push(`request ${r.cmd}`);
      r.respond(null, new Uint8Array(F.NET_MAX_DATA_LEN - 100));
    },
    lost: (rid) => { told.push(`lost ${rid}`); },
    refused: (_, why) => { told.push(`refused: ${why}`); },
  }, counters);
  void net.listen(AT, 0, (s) => { server.accept(s); });
  return { net, server, counters, clock };
}

async function greet(net: SimNet, from: typeof NODE, id: number, over: Partial<F.NetGreeting> = {},
  recvSeq = 0n): Promise<RawSocket> {
  const socket = new RawSocket(await net.connectFrom(from, AT));
  socket.write(encodeDraft({
    ...request(F.NET_CMD_GREETING, encode(F.NetGreeting, {
      fsid: 1n, fmtVers: 2, rid: RID, serverTerm: 0, flags: 0n, ...over,
    }), true), id: BigInt(id), seq: BigInt(id), recvSeq,
  }));
  await settle();
  return socket;
}

function send(socket: RawSocket, d: Draft, seq: number): Promise<void> {
  socket.write(encodeDraft({ ...d, seq: BigInt(seq), id: d.id === 0n ? BigInt(seq) : d.id }));
  return settle();
}

t.test('nobody takes the place of a mount that is connected', async (t) => {
  const told: string[] = [];
  const { net, counters } = netServer(new Set(), told);
  const node = await greet(net, NODE, 1);
  const stranger = await greet(net, STRANGER, 9, { serverTerm: TERM });
  t.ok(stranger.closed);
  t.notOk(node.closed);
  t.equal(counters.get('net_refused_greetings'), 1);
  const again = await greet(net, { ...NODE, port: 5001 }, 2, { serverTerm: TERM });
  t.notOk(again.closed, 'its own next socket does');
});

t.test('a mount that no device knows is not taken in', async (t) => {
  const told: string[] = [];
  const { net } = netServer(new Set(), told);
  t.ok((await greet(net, NODE, 1, { serverTerm: TERM - 1 })).closed);
  const leaving = await greet(net, NODE, 2, { serverTerm: TERM - 1, flags: 1n });
  t.notOk(leaving.closed, 'but to say farewell');
  await send(leaving, request(F.NET_CMD_GET_ROOTS, NONE, true), 3);
  t.ok(leaving.closed, 'and nothing else');
});

t.test('nothing is asked for after the farewell', async (t) => {
  const told: string[] = [];
  const { net } = netServer(new Set(), told);
  const s = await greet(net, NODE, 1);
  await send(s, request(F.NET_CMD_FAREWELL, NONE, true), 2);
  await send(s, request(F.NET_CMD_GET_LOG_MERGE, NONE, true), 3);
  t.same(told, ['greeted', `request ${F.NET_CMD_FAREWELL}`,
    'refused: GET_LOG_MERGE request after the farewell']);
});

t.test('a mount that is recorded and gone is waited for and given up', async (t) => {
  const told: string[] = [];
  const { net, clock } = netServer(new Set(), told);
  const socket = new RawSocket(await net.connectFrom(NODE, AT));
  socket.write(encodeDraft({
    ...request(F.NET_CMD_GREETING, encode(F.NetGreeting, {
      fsid: 1n, fmtVers: 2, rid: RID, serverTerm: 0, flags: 0n,
    }), true), id: 1n, seq: 1n,
  }));
  await Promise.resolve();
  socket.socket.destroy();
  await clock.advance(30_000);
  t.equal(told.at(-1), `lost ${RID}`);
});

t.test('numbers that leave no room to count are refused', async (t) => {
  const told: string[] = [];
  const { net } = netServer(new Set(), told);
  t.ok((await greet(net, NODE, 1, { serverTerm: TERM, flags: 1n }, 2n ** 53n - 1n)).closed);
  t.match(told, [/number too large/]);
});

t.test('answers that nobody acknowledges are not kept without end', async (t) => {
  const told: string[] = [];
  const { net } = netServer(new Set(), told);
  const s = await greet(net, NODE, 1);
  const batch = 1024;
  let seq = 2;
  for (let n = 0; n < 200 && !s.closed; n++) {
    const all: Uint8Array[] = [];
    for (let i = 0; i < batch; i++) {
      all.push(encodeDraft({ ...request(F.NET_CMD_GET_ROOTS, NONE, true),
        seq: BigInt(seq), id: BigInt(seq) }));
      seq += 1;
    }
    s.write(Buffer.concat(all));
    await settle();
  }
  t.ok(s.closed, `after ${seq} requests`);
  t.match(told.at(-1), /does not acknowledge/);
});

t.test('lock requests and reports that no client sends', async (t) => {
  const recovering = new Set([RID]);
  let seq = 5;
  const locks = new LockServer<number>({
    grant: () => undefined, invalidate: () => undefined, askRecover: () => undefined,
    nextSeq: () => ++seq, raiseSeq: (n) => { seq = Math.max(seq, n); },
    seqIsPossible: (n) => n <= seq + 2 ** 32,
    recovering: (rid) => rid === undefined ? recovering.size > 0 : recovering.has(rid),
    recovered: (rid) => { recovering.delete(rid); },
  });
  const lock = (group: number, writeSeq = 0): F.NetLock =>
    ({ key: inodeLockRange(group * 1024).start, writeSeq, oldMode: 2, newMode: 2 });
  locks.greeted(RID);
  const refused = { code: 'LOCK_PROTOCOL' };
  t.throws(() => { locks.recoverResponse(RID, [lock(1, 2 ** 52)]); }, refused, 'a far seq');
  t.throws(() => { locks.recoverResponse(RID, [lock(2), lock(1)]); }, refused, 'not in order');
  t.equal(locks.lockCount, 0, 'nothing of a refused report is taken');
  locks.recoverResponse(RID, [lock(1, 9)]);
  t.equal(seq, 9);
  t.throws(() => { locks.recoverResponse(RID, [lock(0)]); }, refused, 'before what was asked');
  locks.recoverResponse(RID, []);
  locks.request(RID, 1, { key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 1 });
  locks.request(0x88n, 2, { key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 2 });
  t.throws(() => { locks.request(0x88n, 3, { key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 2 }); },
    { message: /wanted twice/ });
});

t.test('a request whose answer is refused stays outstanding', async (t) => {
  const clock = new SimClock();
  const net = new SimNet();
  const sockets: RawSocket[] = [];
  await net.listen(AT, 0, (s) => { sockets.push(new RawSocket(s)); });
  const grants: number[] = [];
  const client = new Client({
    clock, net, log: silentLog, silenceTimeoutMs: 24_000,
    identity: { fsid: 1n, fmtVers: 2, rid: RID, quorum: false },
    findServer: () => Promise.resolve(AT), isMounted: () => Promise.resolve(true),
    handlers: {
      syncLogTrees: () => undefined, recoverLocks: () => [], invalidate: () => undefined,
      openInoMap: (args) => ({ args, bits: [] }), grant: (lock) => { grants.push(lock.newMode); },
    },
  });
  client.lock({ key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 1 });
  client.start();
  for (let n = 0; n < 2; n++) {
    await clock.advance(500);
    const s = sockets[n];
    const greeting = s?.received[0];
    if (s === undefined || greeting === undefined) throw new Error('no greeting');
    s.write(encodeDraft({ ...response(F.NET_CMD_GREETING, greeting.header.id,
      encode(F.NetGreeting, { fsid: 1n, fmtVers: 2, rid: RID, serverTerm: 3, flags: 0n }), false),
    seq: 1n }));
    await settle();
    t.equal(s.received[1]?.header.cmd, F.NET_CMD_LOCK, 'it is sent');
    const lock = encode(F.NetLock, { key: keyZeros(), writeSeq: 0, oldMode: 0, newMode: 1 });
    s.write(encodeDraft({ ...response(F.NET_CMD_LOCK, 1, n === 0 ? encode(U64, 1) : lock, false),
      seq: 2n }));
    await settle();
    t.equal(s.closed, n === 0, n === 0 ? 'an answer of 8 bytes' : 'an answer');
  }
  t.same(grants, [1]);
  await clock.until(client.force());
});

t.test('a flood of refusals is a few lines', async (t) => {
  let nowMs = 0;
  const lines: string[] = [];
  const r = new Refusals(makeLog('warn', (_, text) => { lines.push(text); }), 'server', () => nowMs);
  for (let i = 0; i < 10_000; i++) r.note('10.0.0.9:1', 'nonsense');
  t.equal(lines.length, 20);
  nowMs = 5000;
  r.note('10.0.0.9:1', 'nonsense');
  t.equal(lines.at(-1), 'server: refused from 10.0.0.9:1: nonsense (9980 more were not logged)');
  nowMs = 10_000_000;
  for (let i = 0; i < 100; i++) r.note('10.0.0.9:1', 'nonsense');
  t.equal(lines.length, 41, 'a long silence earns no more than the beginning');
});
