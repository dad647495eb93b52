/**
 * Our server takes over volumes that upstream's servers left behind: in mid-merge,
 * crashed, with log trees of several mounts. Everything is fenced, merged and freed, and
 * the volume stays sound with the inodes and data it had.
 */
import t from 'tap';
import { NetStatfs } from '../../host/core/format.js';
import { checkVolume } from '../../host/disk/check.js';
import { readSupers } from '../../host/disk/super.js';
import { openDevice } from '../../host/env/device.js';
import { LogMergeWorker } from '../../host/mount/log_merge.js';
import { decode } from '../../host/net/messages.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { RECOV_GREETING, RECOV_LOCKS } from '../../host/server/recov.js';
import { statfs } from '../../host/server/statfs.js';
import { FakeClient, logTreesOf, mount, partsOf, startServer, until } from '../lib/server.js';
import type { AnyVolume, TestServer } from '../lib/server.js';
import { skipWithoutFixtures, tempDir, unpackFixture } from '../lib/shared.js';
import { seededRandom } from '../lib/treespace.js';

t.setTimeout(300_000);
const RID = 0x7777n;
/** Whoever wrote these volumes can no longer write. */
const DEAD = { fence: () => Promise.resolve('fenced' as const), reclaimed: () => undefined };

async function openVolume(dir: string, name: string): Promise<AnyVolume> {
  const paths = unpackFixture(name, dir);
  const meta = await openDevice(paths.meta);
  const data = await openDevice(paths.data);
  const { meta: sb } = await readSupers(meta, data);
  return { meta, data, fsid: sb.hdr.fsid };
}

async function counts(ts: TestServer): Promise<NetStatfs> {
  return decode(NetStatfs, await statfs(partsOf(ts).context));
}

/** Opens transactions and does merge work until nothing but our own tree is left. */
async function mergeAll(ts: TestServer, v: AnyVolume): Promise<number> {
  const c = new FakeClient(v, RID);
  const worker = new LogMergeWorker(v.meta, v.fsid, seededRandom(5));
  const { merges } = partsOf(ts);
  let requests = 0;
  for (let round = 0; round < 5; round++) {
    await c.get(ts);
    await c.commit(ts);
    for (;;) {
      try {
        const { completion, error } = await worker.run(await merges.get(RID));
        if (error !== null) throw error;
        await merges.commit(RID, completion);
        requests += 1;
      } catch (e) {
        if (asScoutfsError(e).errno !== 'ENOENT') throw e;
        break;
      }
    }
    if ((await logTreesOf(ts)).length === 1) return requests;
  }
  throw new Error('log trees stay unmerged');
}

for (const name of ['small-tree', 'two-mounts', 'dirty-crash', 'wire-two-nodes', 'empty-zoned',
  'empty-mounted']) {
  t.test(name, { skip: skipWithoutFixtures() }, async (t) => {
    const { dir, remove } = tempDir('scoutfs-server');
    t.teardown(remove);
    const v = await openVolume(dir, name);
    const found = (await checkVolume(v.meta, v.data)).findings.map((f) => `${f.id} ${f.message}`);
    const ts = await startServer(v, { term: 1000, fenceAgent: DEAD });
    const before = await counts(ts);
    for (const { rid } of await partsOf(ts).context.mounted.list()) {
      ts.fences.create(rid, 0, 'client_recovery');
    }
    await until(() => ts.fences.list().length === 0 &&
      !partsOf(ts).recovery.pending(RECOV_GREETING | RECOV_LOCKS), 'fenced');
    await mount(ts, RID);
    t.comment(`${await mergeAll(ts, v)} merge requests`);
    const after = await counts(ts);
    t.equal(after.inodeCount, before.inodeCount);
    t.equal(after.freeDataBlocks, before.freeDataBlocks);
    await partsOf(ts).freeing.stop();
    await ts.server.stop();
    const report = await checkVolume(v.meta, v.data);
    t.same(report.findings.map((f) => `${f.id} ${f.message}`), found, 'no new damage');
    t.same(found, []);
    await Promise.all([v.meta.close(), v.data.close()]);
  });
}
