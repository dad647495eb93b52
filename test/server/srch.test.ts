/**
 * Srch compactions: rotation, handing out, progress, replays, and mounts that go away.
 */
import t from 'tap';
import {
  BLOCK_MAGIC_SRCH_BLOCK, SRCH_COMPACT_FLAG_DELETE, SRCH_COMPACT_FLAG_DONE, SRCH_COMPACT_FLAG_ERROR,
  SRCH_COMPACT_FLAG_LOG, SRCH_COMPACT_FLAG_SORTED, SrchCompact, SrchFile,
} from '../../host/core/format.js';
import { keyBytes, keyOnes, makeKey } from '../../host/core/keys.js';
import { newBlock, sealBlock, writeBlock } from '../../host/disk/block.js';
import { decode, encode } from '../../host/net/messages.js';
import { itemsBetween } from '../../host/server/log_trees_items.js';
import { FakeClient, errnoOf, makeVolume, mount, partsOf, startServer } from '../lib/server.js';
import type { TestServer, Volume } from '../lib/server.js';

const SRCH_FIELD = 184;

function file(root: number, blocks: number): SrchFile {
  const e = { hash: 1n, ino: 1n, id: 1n };
  return { first: e, last: e, ref: { blkno: root, seq: 1n }, blocks, entries: 1, height: 1 };
}

async function keys(ts: TestServer): Promise<string[]> {
  const { commits } = partsOf(ts).context;
  return commits.inspect(async () => {
    const found: string[] = [];
    for await (const { key } of itemsBetween(commits.space, commits.sup.srchRoot, makeKey({}),
      keyOnes())) found.push(`${key.type}.${key.second}.${key.third}`);
    return found;
  });
}

/** Puts the one block of a file where the server looks for it. */
async function writeBlockOf(v: Volume, f: SrchFile): Promise<void> {
  const block = newBlock('large');
  sealBlock(block,
    { magic: BLOCK_MAGIC_SRCH_BLOCK, fsid: v.fsid, seq: f.ref.seq, blkno: f.ref.blkno });
  await writeBlock(v.meta, 'large', f.ref.blkno, block);
}

/** Commits a transaction whose srch file is `f`. */
async function commitFile(ts: TestServer, c: FakeClient, f: SrchFile): Promise<void> {
  await c.get(ts);
  c.core.bytes.set(encode(SrchFile, f), c.lt.metaAvail + SRCH_FIELD);
  const bytes = await c.commit(ts);
  await partsOf(ts).trees.commit(c.rid, bytes);
}

async function insertFiles(ts: TestServer, type: number, files: SrchFile[]): Promise<void> {
  const { commits } = partsOf(ts).context;
  await commits.transact(async () => {
    for (const f of files) {
      const key = type === 4
        ? makeKey({ zone: 32, type, second: BigInt(f.ref.blkno) })
        : makeKey({ zone: 32, type, second: BigInt(f.blocks), third: BigInt(f.ref.blkno) });
      await commits.space.insert(commits.sup.srchRoot, keyBytes(key), encode(SrchFile, f));
    }
  });
}

t.test('a long log file is rotated once', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  const c = new FakeClient(v, 5n);
  await writeBlockOf(v, file(3000, 15));
  await commitFile(ts, c, file(3000, 15));
  t.same(await keys(ts), []);
  await commitFile(ts, c, file(3000, 16));
  t.same(await keys(ts), ['4.3000.0'], 'also when the commit comes twice');
  t.equal((await c.get(ts)).srchFile.ref.blkno, 0);
  await ts.server.stop();
});

t.test('compactions are handed out, stored and finished', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const { srch } = partsOf(ts);
  const get = async (rid: bigint): Promise<SrchCompact> => decode(SrchCompact, await srch.get(rid));
  const commit = (rid: bigint, sc: SrchCompact, flags: number): Promise<void> =>
    srch.commit(rid, encode(SrchCompact, { ...sc, flags }));
  t.equal((await get(5n)).nr, 0);
  await insertFiles(ts, 4, [1, 2, 3].map((i) => file(3000 + i, 20)));
  t.equal((await get(5n)).nr, 0, 'three are too few');
  await insertFiles(ts, 4, [file(3004, 20)]);
  const sc = await get(5n);
  t.same([sc.id, sc.nr, sc.flags], [3001, 4, SRCH_COMPACT_FLAG_LOG]);
  t.equal(sc.metaAvail.firstNr, 8185);
  t.equal((await get(6n)).nr, 0, 'inputs are not given twice');
  t.equal(await errnoOf(commit(6n, sc, SRCH_COMPACT_FLAG_LOG)), 'ENOENT', "another mount's");

  await commit(5n, { ...sc, out: file(9, 9) }, SRCH_COMPACT_FLAG_LOG | SRCH_COMPACT_FLAG_ERROR);
  t.ok((await keys(ts)).includes('12.3001.0'));
  const again = await get(6n);
  t.same(again.out, sc.out, 'what failed is forgotten');
  const inputs = [{ sfl: file(9, 9), blk: 0, pos: 0 }, ...again.inputs.slice(1)];
  const foreign = { ...again, inputs };
  t.equal(await errnoOf(commit(6n, foreign, SRCH_COMPACT_FLAG_LOG | SRCH_COMPACT_FLAG_DONE)),
    'EINVAL', 'files that were not given');
  t.equal(await errnoOf(commit(6n, { ...again, out: file(3100, 2) }, SRCH_COMPACT_FLAG_LOG)),
    'ESTALE', 'an output that is not there');
  await writeBlockOf(v, file(3100, 2));
  await commit(6n, { ...again, out: file(3100, 2) }, SRCH_COMPACT_FLAG_LOG);
  const more = await get(5n);
  t.equal(more.out.ref.blkno, 3100, 'progress is kept');
  await commit(5n, more, SRCH_COMPACT_FLAG_LOG | SRCH_COMPACT_FLAG_DONE);
  t.same(await keys(ts), ['8.2.3100', '12.3001.0'], 'the output has replaced the inputs');
  const del = await get(5n);
  t.equal(del.flags, SRCH_COMPACT_FLAG_DELETE);
  await commit(5n, del, SRCH_COMPACT_FLAG_DELETE | SRCH_COMPACT_FLAG_DONE);
  t.same(await keys(ts), ['8.2.3100']);
  t.equal(await errnoOf(commit(5n, del, SRCH_COMPACT_FLAG_DELETE)), 'ENOENT', 'a replay');
  await ts.server.stop();
});

t.test('sorted files are compacted with those of their size', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const { srch } = partsOf(ts);
  await insertFiles(ts, 8, [2, 3, 16, 17, 18, 19, 20, 300].map((b) => file(3000 + b, b)));
  const sc = decode(SrchCompact, await srch.get(5n));
  t.equal(sc.flags, SRCH_COMPACT_FLAG_SORTED);
  t.same(sc.inputs.map((i) => i.sfl.blocks), [16, 17, 18, 19]);
  t.equal(decode(SrchCompact, await srch.get(6n)).nr, 0);
  const { commits } = partsOf(ts).context;
  await commits.transact((tx) => srch.reclaim(tx, 5n));
  await commits.transact((tx) => srch.reclaim(tx, 5n));
  t.ok((await keys(ts)).includes('12.3016.0'), 'pending again, with its lists');
  const next = decode(SrchCompact, await srch.get(6n));
  t.same(next.inputs, sc.inputs);
  t.equal(await errnoOf(srch.commit(6n, encode(SrchCompact, {
    ...next, inputs: next.inputs.map((i) => ({ ...i, sfl: file(77, 77) })),
    flags: SRCH_COMPACT_FLAG_SORTED | SRCH_COMPACT_FLAG_DONE,
  }))), 'EINVAL', 'inputs that do not exist');
  await ts.server.stop();
});
