/**
 * Transactions of clients: get and commit alternate, each may come again, and every block
 * is where it belongs after any number of them.
 */
import t from 'tap';
import { NetStatfs } from '../../host/core/format.js';
import { decode } from '../../host/net/messages.js';
import { statfs } from '../../host/server/statfs.js';
import { FakeClient, damage, makeVolume, mount, partsOf, startServer } from '../lib/server.js';

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
