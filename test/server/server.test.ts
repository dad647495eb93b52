/**
 * The server on a network: greeting, requests, locks, leaving, failover.
 */
import t from 'tap';
import { QUORUM_EVENT_BEGIN, QUORUM_EVENT_ELECT } from '../../host/core/constants.js';
import { LOCK_NULL, LOCK_READ, LOCK_WRITE } from '../../host/core/format.js';
import { inodeLockRange, keyToString } from '../../host/core/keys.js';
import { OwnQuorumBlock } from '../../host/server/quorum_block.js';
import { connect, copyVolume, damage, errnoOf, isMounted, makeVolume, mount, partsOf, startServer,
  until } from '../lib/server.js';
import { SimClock } from '../lib/simclock.js';

const LOCK = { key: inodeLockRange(1024).start, writeSeq: 0, oldMode: LOCK_NULL };

t.test('a mount greets, works and leaves', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const m = connect(ts.net, v, 0x50n, { quorum: true });
  const { fsRoot } = await m.client.getRoots();
  t.equal(fsRoot.height, 1);
  t.ok(await isMounted(v, 0x50n), 'the mount is durable before it is answered');
  t.equal(ts.server.clientCount, 1);
  const first = await m.client.allocInodes(100);
  const second = await m.client.allocInodes(10);
  t.equal(second.ino, first.ino + 100);
  const lt = await m.client.getLogTrees();
  t.equal(lt.rid, 0x50n);
  t.equal(lt.nr, 1);
  t.ok(lt.metaAvail.totalNr >= 8000 && lt.dataAvail.totalLen === 1048576);
  t.equal(await m.client.getLastSeq(), lt.getTransSeq - 1, 'not past the open transaction');
  await m.client.commitLogTrees(lt);
  await m.client.commitLogTrees(lt);
  t.ok(await m.client.getLastSeq() >= lt.getTransSeq - 1);
  t.equal(await errnoOf(m.client.commitLogTrees({ ...lt, rid: 0x51n })), 'EIO');
  t.equal(await errnoOf(m.client.commitLogTrees({ ...lt, nr: 9 })), 'ENOENT');
  t.equal(await errnoOf(m.client.commitLogTrees({ ...lt, getTransSeq: 1 })), 'EIO');
  m.client.lock({ ...LOCK, newMode: LOCK_WRITE });
  await until(() => m.grants.length === 1, 'grant');
  t.ok((m.grants[0]?.writeSeq ?? 0) > lt.getTransSeq, 'locks are newer than transactions before');
  const fs = await m.client.statfs();
  t.equal(fs.freeDataBlocks, fs.totalDataBlocks - 64);
  t.equal((await m.client.srchGetCompact()).nr, 0, 'no compaction is no error');
  t.equal(await errnoOf(m.client.getLogMerge()), 'ENOENT');
  await m.client.farewell();
  t.notOk(await isMounted(v, 0x50n));
  await m.client.stop();
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('two mounts share a lock', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const a = connect(ts.net, v, 0x50n, { quorum: true });
  const b = connect(ts.net, v, 0x51n);
  await Promise.all([a.client.getRoots(), b.client.getRoots()]);
  a.client.lock({ ...LOCK, newMode: LOCK_WRITE });
  await until(() => a.grants.length === 1, 'grant to a');
  b.client.lock({ ...LOCK, newMode: LOCK_READ });
  await until(() => b.grants.length === 1, 'grant to b');
  t.same(a.asked, [`invalidate ${LOCK_WRITE}->${LOCK_READ}`]);
  b.openInos[0] = 5n;
  const map = await a.client.openInoMap(1);
  t.equal(map.bits[0], 5n);
  const leaving = a.client.farewell();
  await b.client.getRoots();
  t.ok(await isMounted(v, 0x50n), 'the last member waits for the others');
  await b.client.farewell();
  await b.client.stop();
  // The member's request was there first: it is answered when the next one comes.
  await leaving;
  await a.client.stop();
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('a server that is stopped finishes letting the last members go', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const a = connect(ts.net, v, 0x50n, { quorum: true });
  const b = connect(ts.net, v, 0x51n, { quorum: true });
  await Promise.all([a.client.getLogTrees(), b.client.getLogTrees()]);
  const left = Promise.all([a.client.farewell(), b.client.farewell()]);
  // The leader's mount sees in the volume that it may go, and takes its server along.
  let going = true;
  for (let i = 0; going && i < 10_000; i++) going = await isMounted(v, 0x50n);
  t.notOk(going, 'the first is let go');
  t.ok(await isMounted(v, 0x51n), 'and the other is not yet');
  await ts.server.stop();
  t.notOk(await isMounted(v, 0x51n), 'the other would have waited for a leader for ever');
  await left;
  await Promise.all([a.client.stop(), b.client.stop()]);
  t.same(await damage(v), []);
});

t.test('the next server hears of locks before it grants any', async (t) => {
  const v = await makeVolume();
  const one = await startServer(v);
  const m = connect(one.net, v, 0x50n, { quorum: true });
  const lt = await m.client.getLogTrees();
  m.client.lock({ ...LOCK, newMode: LOCK_WRITE });
  await until(() => m.grants.length === 1, 'grant');
  const [grant] = m.grants;
  if (grant === undefined) throw new Error('no grant');
  m.held.push({ ...grant, oldMode: LOCK_WRITE, newMode: LOCK_WRITE });
  await one.server.stop();
  const two = await startServer(v, { env: one.deps.env });
  const again = await m.client.getLogTrees();
  t.same(again, lt, 'the transaction is still open');
  await until(() => m.asked.includes('recover'), 'lock recovery');
  t.notOk(partsOf(two).recovery.pending(3), 'recovered');
  const other = connect(one.net, v, 0x51n);
  other.client.lock({ ...LOCK, newMode: LOCK_WRITE });
  await until(() => other.grants.length === 1, 'grant to the other');
  t.ok((other.grants[0]?.writeSeq ?? 0) > grant.writeSeq, keyToString(grant.key));
  t.ok(m.asked.includes(`invalidate ${LOCK_WRITE}->${LOCK_NULL}`));
  await Promise.all([m.client.stop(), other.client.stop()]);
  await two.server.stop();
  t.same(await damage(v), []);
});

t.test('a mount that never comes back is fenced and reclaimed', async (t) => {
  const v = await makeVolume();
  const one = await startServer(v);
  const m = connect(one.net, v, 0x50n, { quorum: true });
  await m.client.getLogTrees();
  await m.client.force();
  await one.server.stop();
  const crashed = copyVolume(v);
  const two = await startServer(crashed);
  const { recovery } = partsOf(two);
  t.ok(recovery.pending(3, 0x50n));
  two.fences.create(0x50n, 0, 'client_recovery');
  two.fences.setFenced(0x50n);
  await until(() => !two.fences.has(0x50n), 'reclaimed');
  t.notOk(recovery.pending(3));
  t.notOk(await isMounted(crashed, 0x50n));
  await two.server.stop();
  t.same(await damage(crashed), []);
});

t.test('a server that was replaced without hearing of it fences nobody', async (t) => {
  const v = await makeVolume({ slots: 2 });
  const one = await startServer(v);
  await mount(one, 0x50n);
  await one.server.stop();
  for (const replaced of [false, true]) {
    const copy = copyVolume(v);
    const clock = new SimClock();
    const two = await startServer(copy, { clock });
    if (replaced) {
      const block = new OwnQuorumBlock(copy.meta, copy.fsid, 9n, 1);
      await block.record(QUORUM_EVENT_BEGIN, two.deps.term, clock.now());
      await block.record(QUORUM_EVENT_ELECT, two.deps.term + 1, clock.now());
    }
    await clock.advance(31_000);
    t.same(two.fences.list().map((f) => f.rid), replaced ? [] : [0x50n]);
    t.equal(two.server.status, replaced ? 'down' : 'up');
    t.equal(two.server.failure?.errno, replaced ? 'ESTALE' : undefined);
    await two.server.stop();
  }
});

t.test('a fence that fails stops the server', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  ts.fences.create(9n, 0, 'client_reconnect');
  ts.fences.setError(9n);
  await until(() => ts.server.status === 'down', 'down');
  t.same(ts.fences.list(), [], 'requests go with the server');
  t.equal(ts.server.failure?.errno, 'EIO');
});
