/**
 * Finalizing: all open trees together, orphans first, one sync per transaction, and
 * data extents drained commit by commit.
 */
import t from 'tap';
import { LogMergeStatus, type LogTrees } from '../../host/core/format.js';
import { decode } from '../../host/net/messages.js';
import { MERGE_STATUS_KEY } from '../../host/server/finalize.js';
import { isFinalized } from '../../host/server/log_trees_items.js';
import { FakeClient, connect, damage, errnoOf, logTreesOf, makeVolume, mount, partsOf, startServer,
  until } from '../lib/server.js';
import type { TestServer, Volume } from '../lib/server.js';

/** Less than the reserve: metadata is always low and every get wants to finalize. */
const LOW_META_BYTES = 34_500 * 65536;

function lowVolume(): Promise<Volume> {
  return makeVolume({ metaBytes: LOW_META_BYTES, dataBytes: 2 ** 33 });
}

async function mergeSeq(ts: TestServer): Promise<number | null> {
  const { commits } = partsOf(ts).context;
  const val = await commits.inspect(() =>
    commits.space.lookup(commits.sup.logMerge, MERGE_STATUS_KEY));
  return val === null ? null : decode(LogMergeStatus, val).seq;
}

async function treesOf(ts: TestServer, rid: bigint): Promise<LogTrees[]> {
  return (await logTreesOf(ts)).filter((lt) => lt.rid === rid);
}

t.test('no tree is handed out before all are finalized', async (t) => {
  const v = await lowVolume();
  const ts = await startServer(v, { options: { logMergeWaitTimeoutMs: 60_000 } });
  await Promise.all([mount(ts, 5n), mount(ts, 6n)]);
  const a = new FakeClient(v, 5n);
  const b = new FakeClient(v, 6n);
  await a.transaction(ts, 2048, 5);
  await b.get(ts);
  const getting = a.get(ts);
  await until(async () => (await treesOf(ts, 5n)).some(isFinalized), "a's tree is finalized");
  t.equal((await treesOf(ts, 5n)).length, 1, 'and waits without a new one');
  t.equal(await mergeSeq(ts), null);
  await b.item(4096, new Uint8Array(5));
  await b.commit(ts);
  const [bLt, aLt] = await Promise.all([b.get(ts), getting]);
  t.equal(aLt.nr, 2);
  t.equal(bLt.nr, 2);
  const seq = await mergeSeq(ts) ?? 0;
  for (const lt of await logTreesOf(ts)) {
    if (isFinalized(lt)) t.ok(lt.finalizeSeq < seq && lt.finalizeSeq > 0, 'an input');
    else t.ok(lt.getTransSeq > seq, 'newer than the merge');
  }
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('a mount that does not commit delays the others only for a while', async (t) => {
  const v = await lowVolume();
  const ts = await startServer(v, { options: { logMergeWaitTimeoutMs: 150 } });
  const m = connect(ts.net, v, 6n);
  const other = connect(ts.net, v, 7n);
  await m.client.getLogTrees();
  await other.client.getLogTrees();
  await mount(ts, 5n);
  const a = new FakeClient(v, 5n);
  await a.transaction(ts, 2048, 5);
  t.equal((await a.get(ts)).nr, 2, 'given up waiting');
  t.equal(await mergeSeq(ts), null);
  t.same([m.asked, other.asked], [['sync'], ['sync']], 'one request for one transaction');
  await a.commit(ts);
  await a.get(ts);
  t.same([m.asked, other.asked], [['sync'], ['sync']], 'no storm');
  await Promise.all([m.client.stop(), other.client.stop()]);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('the open tree of a mount that is gone is reclaimed before merging', async (t) => {
  const v = await lowVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  // 6 has an open transaction but no mounted client item
  const orphan = new FakeClient(v, 6n);
  await orphan.get(ts);
  const a = new FakeClient(v, 5n);
  await a.transaction(ts, 2048, 5);
  t.ok(await partsOf(ts).trees.lastSeq() >= orphan.lt.getTransSeq, 'an orphan holds no seq back');
  await a.get(ts);
  const [lt] = await treesOf(ts, 6n);
  t.ok(lt !== undefined && isFinalized(lt) && lt.commitTransSeq === lt.getTransSeq);
  t.same([lt?.metaAvail.totalNr, lt?.dataAvail.totalLen], [0, 0]);
  t.ok(await mergeSeq(ts));
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('fragmented data is drained over several commits', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  const c = new FakeClient(v, 5n);
  await c.get(ts);
  await c.churnData(100_000, true);
  await c.commit(ts);
  const { commits } = partsOf(ts).context;
  const before = commits.stable.hdr.seq;
  const lt = await c.get(ts);
  t.equal(lt.dataFreed.totalLen, 0, 'drained before it is answered');
  t.ok(commits.stable.hdr.seq > before + 1n, `${commits.stable.hdr.seq - before} commits`);
  await c.commit(ts);
  const { finalizer } = partsOf(ts).trees;
  const tx = await commits.hold();
  t.ok(await finalizer.reclaimLogTrees(tx, 5n));
  await tx.apply();
  t.notOk(await commits.transact((tx2) => finalizer.reclaimLogTrees(tx2, 5n)), 'only once');
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('a mount reclaimed while its get waits is not given a tree', async (t) => {
  const v = await lowVolume();
  const ts = await startServer(v, { options: { logMergeWaitTimeoutMs: 60_000 } });
  await Promise.all([mount(ts, 5n), mount(ts, 6n)]);
  const a = new FakeClient(v, 5n);
  await a.transaction(ts, 2048, 5);
  await new FakeClient(v, 6n).get(ts);
  const getting = errnoOf(a.get(ts));
  await until(async () => (await treesOf(ts, 5n)).some(isFinalized), "a's tree is finalized");
  ts.fences.create(5n, 0, 'client_reconnect');
  ts.fences.setFenced(5n);
  t.equal(await getting, 'ENOLINK');
  t.equal((await treesOf(ts, 5n)).length, 1);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('two gets of one mount at a time are one transaction', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  const { trees } = partsOf(ts);
  const [one, two] = await Promise.all([trees.get(5n), trees.get(5n)]);
  t.same(one, two);
  await ts.server.stop();
  t.same(await damage(v), []);
});
