/**
 * Transactions of clients: get and commit alternate, each may come again, and every block
 * is where it belongs after any number of them.
 */
import t from 'tap';
import { LogTrees, NetStatfs } from '../../host/core/format.js';
import { decode, encode } from '../../host/net/messages.js';
import { logTreesKey } from '../../host/server/log_trees_items.js';
import { statfs } from '../../host/server/statfs.js';
import { FakeClient, damage, errnoOf, logTreesOf, makeVolume, mount, partsOf, startServer } from
  '../lib/server.js';

t.test('a volume that was only served is sound', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  await ts.server.stop();
  t.equal(ts.server.status, 'down');
  t.same(await damage(v), []);
});

t.test('many transactions account for every block', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  const c = new FakeClient(v, 5n);
  for (let i = 0; i < 12; i++) {
    await c.transaction(ts, 1024 + (i % 3) * 300, 400, 100 + i * 20);
  }
  await c.get(ts);
  await c.churnData(5000);
  await c.commit(ts);
  await c.get(ts);
  const fs = decode(NetStatfs, await statfs(partsOf(ts).context));
  t.ok(fs.freeMetaBlocks < fs.totalMetaBlocks && fs.freeMetaBlocks > fs.totalMetaBlocks - 200);
  t.equal(fs.freeDataBlocks, fs.totalDataBlocks - 64);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('gets and commits that come again change nothing', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  const c = new FakeClient(v, 5n);
  const first = await partsOf(ts).trees.get(5n);
  t.same(await partsOf(ts).trees.get(5n), first, 'the open transaction as it is');
  c.open(first);
  await c.item(2048, new Uint8Array(10));
  const bytes = await c.commit(ts);
  await partsOf(ts).trees.commit(5n, bytes);
  const [lt] = await logTreesOf(ts);
  t.equal(lt?.commitTransSeq, lt?.getTransSeq);
  const next = await c.get(ts);
  t.ok(next.getTransSeq > next.commitTransSeq);
  t.equal(await errnoOf(partsOf(ts).trees.commit(5n, bytes)), 'EIO', 'of an earlier transaction');
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('a log tree has no nr that its mount has had', async (t) => {
  const v = await makeVolume();
  let ts = await startServer(v);
  await mount(ts, 5n);
  t.equal((await new FakeClient(v, 5n).get(ts)).nr, 1, 'the first one');
  const { context } = partsOf(ts);
  await context.commits.transact(async () => {
    await context.commits.space.delete(context.commits.sup.logsRoot, logTreesKey(5n, 1));
  });
  await ts.server.stop();
  ts = await startServer(v);
  t.ok((await new FakeClient(v, 5n).get(ts)).nr > 1, 'once the first one is merged and gone');
  await mount(ts, 6n);
  t.equal((await new FakeClient(v, 6n).get(ts)).nr, 1, 'a new mount');
  await ts.server.stop();
});

t.test('values with references outside the device are refused', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  const c = new FakeClient(v, 5n);
  const good = await c.get(ts);
  const bad = { blkno: Math.floor(v.meta.sizeBytes / 65536), seq: 1n };
  const commit = (lt: Partial<LogTrees>): Promise<string | null> =>
    errnoOf(partsOf(ts).trees.commit(5n, encode(LogTrees, { ...good, ...lt })));
  t.equal(await commit({ itemRoot: { ref: bad, height: 1 } }), 'EINVAL');
  t.equal(await commit({ itemRoot: { ref: { blkno: 3, seq: 1n }, height: 21 } }), 'EINVAL');
  t.equal(await commit({ bloomRef: { blkno: 1, seq: 1n } }), 'EINVAL');
  t.equal(await commit({ metaFreed: { ref: bad, totalNr: 1, firstNr: 1, flags: 0 } }), 'EINVAL');
  const avail = { ...good.metaAvail, firstNr: 8186, totalNr: 9000 };
  t.equal(await commit({ metaAvail: avail }), 'EINVAL');
  t.equal(await commit({ dataFreed: { ...good.dataFreed, totalLen: 2 ** 40 } }), 'EINVAL');
  t.equal(await commit({ flags: 1 }), 'EINVAL', 'only the server finalizes');
  t.equal(await commit({}), null);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('a list that cannot be read fails its owner, not the server', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await Promise.all([mount(ts, 5n), mount(ts, 6n)]);
  const c = new FakeClient(v, 5n);
  await c.get(ts);
  await c.churnData(2000);
  await c.prepare();
  const good = decode(LogTrees, c.lt.get());
  t.equal(await errnoOf(partsOf(ts).trees.commit(5n, encode(LogTrees, {
    ...good, metaFreed: { ...good.metaFreed, ref: { ...good.metaFreed.ref, seq: 77n } },
  }))), 'ESTALE', 'when it says where it is');
  await partsOf(ts).trees.commit(5n, encode(LogTrees, good));
  partsOf(ts).context.core.x.blockEvictAll();
  await v.meta.write(good.metaFreed.ref.blkno * 65536, new Uint8Array(65536));
  t.not(await errnoOf(partsOf(ts).trees.get(5n)), null, 'or when it is gone later');
  t.equal(ts.server.status, 'up');
  await new FakeClient(v, 6n).transaction(ts, 2048, 5);
  t.equal(ts.server.status, 'up');
  await ts.server.stop();
});
