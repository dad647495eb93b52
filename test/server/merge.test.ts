/**
 * Log merges from finalizing to freeing, with clients that do the work like mounts.
 */
import t from 'tap';
import {
  LOG_MERGE_COMP_ERROR, LogMergeComplete, LogMergeRequest, LogMergeStatus,
} from '../../host/core/format.js';
import { keyBytes } from '../../host/core/keys.js';
import { LogMergeWorker } from '../../host/mount/log_merge.js';
import { decode, encode } from '../../host/net/messages.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { MERGE_STATUS_KEY } from '../../host/server/finalize.js';
import { isFinalized } from '../../host/server/log_trees_items.js';
import { FakeClient, damage, errnoOf, inodeKey, logTreesOf, makeVolume, mount, partsOf, startServer }
  from '../lib/server.js';
import type { TestServer, Volume } from '../lib/server.js';
import { seededRandom } from '../lib/treespace.js';

const RID = 5n;

async function status(ts: TestServer): Promise<LogMergeStatus | null> {
  const { commits } = partsOf(ts).context;
  const val = await commits.inspect(() => commits.space.lookup(commits.sup.logMerge, MERGE_STATUS_KEY));
  return val === null ? null : decode(LogMergeStatus, val);
}

/** Works on merges until there is nothing to do. @returns how many requests were done */
async function workAll(ts: TestServer, v: Volume, rid: bigint): Promise<number> {
  const worker = new LogMergeWorker(v.meta, v.fsid, seededRandom(Number(rid)));
  for (let n = 0; ; n++) {
    let request: Uint8Array;
    try {
      request = await partsOf(ts).merges.get(rid);
    } catch (e) {
      if (asScoutfsError(e).errno !== 'ENOENT') throw e;
      return n;
    }
    const { completion, error } = await worker.run(request);
    if (error !== null) throw error;
    await partsOf(ts).merges.commit(rid, completion);
  }
}

/** Fills a client's log tree until it is higher than 2. */
async function grow(ts: TestServer, c: FakeClient, from: number): Promise<void> {
  for (let i = 0; i < 90; i++) {
    if ((c.got?.itemRoot.height ?? 0) > 2) return;
    await c.transaction(ts, from + i * 600, 600, 890);
    if (partsOf(ts).context.core.view.byteLength === 0) return;
    const [lt] = (await logTreesOf(ts)).filter((l) => l.rid === c.rid && !isFinalized(l));
    if ((lt?.itemRoot.height ?? 0) > 2) return;
  }
  throw new Error('the tree does not grow');
}

async function valueInFs(ts: TestServer, ino: number): Promise<Uint8Array | null> {
  const { commits } = partsOf(ts).context;
  return commits.inspect(() => commits.space.lookup(commits.sup.fsRoot, keyBytes(inodeKey(ino))));
}

t.test('a grown tree is finalized, merged and freed', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, RID);
  const c = new FakeClient(v, RID);
  await grow(ts, c, 2048);
  t.equal(await status(ts), null);
  const before = await c.get(ts);
  t.equal(before.nr, 2, 'a new tree was handed out');
  t.ok(await status(ts), 'a merge has started');
  await c.commit(ts);
  const done = await workAll(ts, v, RID);
  t.ok(done > 0, `${done} requests`);
  t.equal(await status(ts), null, 'the merge is complete');
  t.same(await valueInFs(ts, 2049), new Uint8Array(890).fill(1));
  await partsOf(ts).freeing.stop();
  const trees = await logTreesOf(ts);
  t.same(trees.map((l) => [l.rid, l.nr]), [[RID, 2]]);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('what came later wins, and a client that fails gives its range back', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, RID);
  const c = new FakeClient(v, RID);
  await grow(ts, c, 2048);
  await c.transaction(ts, 2048, 1, 10);
  const request = await partsOf(ts).merges.get(RID);
  const req = decode(LogMergeRequest, request);
  const failed = encode(LogMergeComplete, {
    metaAvail: req.metaAvail, metaFreed: req.metaFreed, root: req.root, start: req.start,
    end: req.end, remain: req.end, rid: RID, seq: req.seq, flags: LOG_MERGE_COMP_ERROR,
  });
  await partsOf(ts).merges.commit(RID, failed);
  t.equal(await errnoOf(partsOf(ts).merges.commit(RID, failed)), 'ENOENT', 'a replay is harmless');
  await workAll(ts, v, RID);
  t.equal((await valueInFs(ts, 2049))?.length, 890);
  t.equal(await valueInFs(ts, 2048 + 100 * 600), null);
  await ts.server.stop();
  t.same(await damage(v), []);
});
