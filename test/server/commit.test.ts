/**
 * Commits: what shares one, what is flushed when, and what happens when one fails.
 */
import t from 'tap';
import { SUPER_BLKNO } from '../../host/core/format.js';
import { C } from '../../host/observe/counters.js';
import { errnoError } from '../../host/observe/errors.js';
import { Triggers } from '../../host/observe/triggers.js';
import { CrashDevice } from '../lib/crashdev.js';
import { recorded } from '../lib/image.js';
import { copyVolume, damage, errnoOf, isMounted, makeVolume, mount, partsOf, startServer, until }
  from '../lib/server.js';

const SUPER_WRITE = `${SUPER_BLKNO * 4096}+4096`;

t.test('handlers that come together share a commit', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const { trees, context } = partsOf(ts);
  const before = context.commits.stable.hdr.seq;
  await Promise.all(Array.from({ length: 50 }, () => trees.allocInodes(1n)));
  t.equal(context.commits.stable.hdr.seq, before + 1n);
  await Promise.all(Array.from({ length: 200 }, () => trees.allocInodes(1n)));
  t.ok(context.commits.stable.hdr.seq >= before + 4n, 'a batch is bounded');
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('blocks are durable before the super block, and that before the answer', async (t) => {
  const v = await makeVolume();
  const { device, log } = recorded(v.meta);
  const ts = await startServer(v, { metaDevice: device });
  await mount(ts, 5n);
  const at = log.indexOf(SUPER_WRITE);
  t.ok(at > 2);
  t.equal(log[at - 1], 'flush');
  t.ok(log.slice(0, at - 1).every((w) => w.endsWith('+65536')), 'blocks only');
  t.same(log.slice(at + 1), ['flush']);
  await ts.server.stop();
  t.equal(log.length, at + 2, 'stopping writes nothing');
});

t.test('what is written is never what the stable super refers to', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  for (let rid = 1n; rid < 30n; rid++) {
    // A crash between any two commits leaves the earlier state whole.
    if (rid % 10n === 0n) t.same(await damage(copyVolume(v)), []);
    await mount(ts, rid);
  }
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('a failed commit is an error for all and the end of the server', async (t) => {
  const v = await makeVolume();
  const power = new CrashDevice(v.meta, Infinity);
  const ts = await startServer(v, { metaDevice: power });
  const { trees } = partsOf(ts);
  power.writesLeft = 2;
  const failed = await Promise.all([1n, 2n].map((n) => errnoOf(trees.allocInodes(n))));
  t.same(failed, ['EIO', 'EIO']);
  await until(() => ts.server.status === 'down', 'down');
  t.ok(await errnoOf(trees.allocInodes(1n)));
  t.same(await damage(v), []);
});

t.test('a change that broke off is never written', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const { commits, mounted } = partsOf(ts).context;
  const recording = errnoOf(mounted.record(7n, { addr: 1, port: 1 }, false));
  const broken = errnoOf(commits.transact(async () => {
    await commits.atomic(() => Promise.reject(errnoError('EIO', 'half way')));
  }));
  t.same(await Promise.all([recording, broken]), ['EIO', 'EIO']);
  await until(() => ts.server.status === 'down', 'down');
  t.notOk(await isMounted(v, 7n), 'nor what shared its commit');
  t.same(await damage(v), []);
});

t.test('a greeting may be recorded again', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n, true);
  await mount(ts, 5n, false);
  t.same((await partsOf(ts).context.mounted.list()).map((m) => [m.rid, m.quorum]), [[5n, true]]);
  await ts.server.stop();
});

t.test('a holder measures what it used, and room comes from commits', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const { commits } = partsOf(ts).context;
  const { core, space } = { core: partsOf(ts).context.core, space: commits.space };
  for (let i = 0; i < 30; i++) {
    const tx = await commits.hold();
    t.ok(space.availNr >= 1000 && space.freedRemaining >= 1000, 'room for everybody');
    await commits.space.dirty(commits.sup.fsRoot, (await space.next(commits.sup.fsRoot,
      new Uint8Array(32)))?.key ?? new Uint8Array(32));
    t.ok(tx.used <= 10, `${tx.used} used`);
    if (i % 3 === 0) await tx.apply();
    else tx.release();
  }
  t.ok(core.stats.calls > 0);
  await ts.server.stop();
  t.same(await damage(v), []);
});

// alloc.md 12, commit deadlock
t.test('freed lists without room do not stop commits', async (t) => {
  const v = await makeVolume();
  const triggers = new Triggers();
  const ts = await startServer(v, { triggers });
  const { trees, context } = partsOf(ts);
  const { commits, counters } = context;
  const seq = (): number => Number(commits.stable.hdr.seq);
  const fills = (): number => counters.at(C.alloc_freed_fill);
  await trees.allocInodes(1n);
  triggers.arm('alloc_fill_freed_list', true);
  await trees.allocInodes(1n);
  t.equal(fills(), 1);
  t.notOk(triggers.isArmed('alloc_fill_freed_list'), 'it has fired');
  const before = seq();
  for (let i = 0; i < 12; i++) await trees.allocInodes(1n);
  t.equal(fills(), 2, 'each list once');
  t.equal(seq(), before + 12, 'no commit was made for room alone');
  const lists = commits.stable.serverMetaFreed.map((l) => l.totalNr);
  t.ok(lists.every((nr) => nr < 8185), `${lists.join(' and ')} blocks are left in the lists`);
  await ts.server.stop();
  t.same(await damage(v), []);
});
