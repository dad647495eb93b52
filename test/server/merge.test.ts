/**
 * Log merges from finalizing to freeing, with clients that do the work like mounts.
 */
import t from 'tap';
import {
  LOG_MERGE_COMP_ERROR, LogMergeComplete, LogMergeRange, LogMergeRequest, LogMergeStatus,
} from '../../host/core/format.js';
import { keyBytes, keyOnes, keyZeros, makeKey } from '../../host/core/keys.js';
import { LogMergeWorker } from '../../host/mount/log_merge.js';
import { decode, encode } from '../../host/net/messages.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { MERGE_STATUS_KEY, rangeKey } from '../../host/server/finalize.js';
import { LogMerges } from '../../host/server/log_merge.js';
import { isFinalized } from '../../host/server/log_trees_items.js';
import { FakeClient, damage, errnoOf, inodeKey, logTreesOf, makeVolume, mount, partsOf,
  startServer } from '../lib/server.js';
import type { TestServer, Volume } from '../lib/server.js';
import { seededRandom } from '../lib/treespace.js';

const RID = 5n;

t.setTimeout(180_000);

async function status(ts: TestServer): Promise<LogMergeStatus | null> {
  const { commits } = partsOf(ts).context;
  const val = await commits.inspect(() =>
    commits.space.lookup(commits.sup.logMerge, MERGE_STATUS_KEY));
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
    await c.transaction(ts, from + i * 600, 600, 890);
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

t.test('a merge that comes back with other counts of its blocks is refused', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, RID);
  const c = new FakeClient(v, RID);
  await grow(ts, c, 2048);
  await c.get(ts);
  const { merges } = partsOf(ts);
  const worker = new LogMergeWorker(v.meta, v.fsid, seededRandom(1));
  const given = await merges.get(RID);
  const { metaAvail } = decode(LogMergeRequest, given);
  const { completion } = await worker.run(given);
  const back = decode(LogMergeComplete, completion);
  const fails = (edit: Partial<LogMergeComplete>): Promise<string | null> =>
    errnoOf(merges.commit(RID, encode(LogMergeComplete, { ...back, ...edit })));
  t.equal(await fails({ metaAvail: { ...metaAvail, firstNr: metaAvail.firstNr - 1 } }), 'EINVAL',
    'the list that was given');
  t.equal(await fails({ metaFreed: { ...back.metaFreed, totalNr: back.metaFreed.totalNr + 1 } }),
    'EIO', 'a list that was made');
  t.equal(await errnoOf(merges.commit(RID, completion)), null, 'as it should be');
  await workAll(ts, v, RID);
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

t.test('several mounts merge into a tall tree at the same time', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await Promise.all([mount(ts, RID), mount(ts, 6n)]);
  const c = new FakeClient(v, RID);
  await grow(ts, c, 2048);
  await c.get(ts);
  await workAll(ts, v, RID);
  t.ok(partsOf(ts).context.commits.stable.fsRoot.height > 2, 'a tall tree');
  // overwrites, deletes and new items all over it
  for (let i = 0; i < 60 && await status(ts) === null; i++) {
    if (i > 0) await c.get(ts);
    for (let j = 0; j < 1200; j++) {
      const ino = 2048 + (i * 1200 + j) * 3;
      await c.item(ino, j % 5 === 0 ? null : new Uint8Array(700).fill(j));
    }
    await c.commit(ts);
  }
  t.ok(await status(ts), 'the next merge');
  const { merges } = partsOf(ts);
  const worker = new LogMergeWorker(v.meta, v.fsid, seededRandom(1));
  let most = 0;
  for (let round = 0; await status(ts) !== null; round++) {
    const requests: { rid: bigint; bytes: Uint8Array }[] = [];
    for (const rid of [RID, 6n, RID, 6n, RID, 6n, RID, 6n, RID, 6n]) {
      try {
        requests.push({ rid, bytes: await merges.get(rid) });
      } catch (e) {
        if (asScoutfsError(e).errno !== 'ENOENT') throw e;
        break;
      }
    }
    most = Math.max(most, requests.length);
    t.ok(requests.length <= 8);
    const roots = requests.map((r) => decode(LogMergeRequest, r.bytes).root.ref.blkno);
    t.equal(new Set(roots).size, roots.length, `${roots.length} requests share no block`);
    const mine = round > 0 ? requests : requests.slice(1);
    for (const { rid, bytes } of mine.reverse()) {
      const { completion, error } = await worker.run(bytes);
      if (error !== null) t.comment(`round ${round}: ${error.message}`);
      await merges.commit(rid, completion);
    }
    if (round === 0) {
      // the first one never comes back
      const { commits } = partsOf(ts).context;
      await commits.transact((tx) => merges.reclaim(tx, RID));
      await commits.transact((tx) => merges.reclaim(tx, RID));
    }
    if (round > 60) throw new Error('the merge does not end');
  }
  t.ok(most > 1, `${most} requests at a time`);
  t.equal(await valueInFs(ts, 2048), null);
  t.equal((await valueInFs(ts, 2048 + 3))?.length, 700);
  t.equal((await valueInFs(ts, 2048 + 1))?.length, 890);
  t.equal((await valueInFs(ts, 2048 + (10 * 1200 + 1199) * 3))?.length, 700);
  await partsOf(ts).freeing.stop();
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('splicing pauses for commits whenever it runs low', async (t) => {
  const v = await makeVolume({ metaBytes: 34_000 * 65536, dataBytes: 2 ** 32 });
  const ts = await startServer(v);
  await mount(ts, RID);
  const c = new FakeClient(v, RID);
  await c.transaction(ts, 2048, 50);
  await c.transaction(ts, 4096, 50);
  const { context, freeing } = partsOf(ts);
  const merges = new LogMerges(context, freeing, 1);
  const request = await merges.get(RID);
  const worker = new LogMergeWorker(v.meta, v.fsid, seededRandom(1));
  await merges.commit(RID, (await worker.run(request)).completion);
  const before = context.commits.stable.hdr.seq;
  t.equal(await errnoOf(merges.get(RID)), 'ENOENT');
  t.equal(await status(ts), null);
  t.ok(context.commits.stable.hdr.seq > before + 2n, 'several commits');
  t.equal((await valueInFs(ts, 2049))?.length, 200);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('ranges are taken in the order of their full keys', async (t) => {
  const v = await makeVolume({ metaBytes: 34_000 * 65536, dataBytes: 2 ** 32 });
  const ts = await startServer(v);
  await mount(ts, RID);
  const c = new FakeClient(v, RID);
  await c.get(ts);
  await c.item(2048, new Uint8Array(8));
  await c.item(6000, new Uint8Array(8));
  await c.commit(ts);
  await c.get(ts);
  const { commits } = partsOf(ts).context;
  const end = makeKey({ zone: 16, first: 4999n });
  const early = { start: makeKey({ zone: 8, first: 9000n }), end };
  const late = { start: makeKey({ zone: 16, first: 4999n, fourth: 1 }), end: keyOnes() };
  t.ok(Buffer.compare(rangeKey(late.start), rangeKey(early.start)) !== 0);
  await commits.transact(async () => {
    const { space, sup } = commits;
    await space.delete(sup.logMerge, rangeKey(keyZeros()));
    for (const r of [early, late]) {
      await space.insert(sup.logMerge, rangeKey(r.start), encode(LogMergeRange, r));
    }
  });
  const one = decode(LogMergeRequest, await partsOf(ts).merges.get(RID));
  t.equal(one.start.first, 2048n, 'although it is stored behind the other');
  t.same(one.end, early.end);
  await ts.server.stop();
});

t.test('the inode count takes in what all inputs add and remove', async (t) => {
  const v = await makeVolume({ metaBytes: 42_500 * 65536, dataBytes: 2 ** 33 });
  const ts = await startServer(v, { options: { logMergeWaitTimeoutMs: 60_000 } });
  const clients = [5n, 6n].map((rid) => new FakeClient(v, rid));
  await Promise.all(clients.map((c) => mount(ts, c.rid)));
  for (const [i, c] of clients.entries()) {
    await c.get(ts);
    await c.item(2048 + i, new Uint8Array(8));
    // the first one in key order removes what the other has made
    c.core.view.setBigInt64(c.lt.metaAvail + 408, i === 0 ? -100n : 130n, true);
    await c.commit(ts);
  }
  await Promise.all(clients.map((c) => c.get(ts)));
  await workAll(ts, v, RID);
  t.equal(await status(ts), null);
  t.equal(partsOf(ts).context.commits.sup.inodeCount, 31);
  await ts.server.stop();
});

t.test('a forced stop writes nothing more', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const { trees, context } = partsOf(ts);
  const { seq } = context.commits.stable.hdr;
  const alloc = errnoOf(trees.allocInodes(1n));
  await ts.server.kill();
  t.equal(await alloc, 'ENOLINK');
  t.equal(context.commits.stable.hdr.seq, seq);
  t.equal(ts.server.status, 'down');
});
