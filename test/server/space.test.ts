/**
 * Space: volume options, zones, growth, counting, and replies that may come again.
 */
import t from 'tap';
import { ALLOC_FLAG_LOW, NetInodeAlloc, NetResizeDevices, NetStatfs, VolumeOptions } from
  '../../host/core/format.js';
import { decode, encode } from '../../host/net/messages.js';
import { resizeDevices } from '../../host/server/resize.js';
import { reservedMetaBlocks } from '../../host/server/server.js';
import { statfs } from '../../host/server/statfs.js';
import { clearVolopt, getVolopt, setVolopt } from '../../host/server/volopt.js';
import { chooseZones, type ZoneBits } from '../../host/server/zones.js';
import { FakeClient, damage, errnoOf, makeVolume, mount, partsOf, startServer } from
  '../lib/server.js';
import type { SimDevice } from '../../host/env/sim_device.js';

const MIB_BLOCKS = 1048576;

function volopt(setBits: bigint, zoneBlocks: number): Uint8Array {
  return encode(VolumeOptions, {
    setBits, dataAllocZoneBlocks: zoneBlocks, futureExpansion: Array.from({ length: 63 }, () => 0n),
  });
}

t.test('volume options are checked, and shown when they are durable', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const s = partsOf(ts).context;
  const read = (): VolumeOptions => decode(VolumeOptions, getVolopt(s));
  t.equal(read().setBits, 0n);
  for (const [bits, blocks] of [[3n, 2 * MIB_BLOCKS], [1n, MIB_BLOCKS - 1], [1n, 0],
    [1n, v.data.sizeBytes / 4096 + 1]] as const) {
    t.equal(await errnoOf(setVolopt(s, volopt(bits, blocks))), 'EINVAL', `${bits} ${blocks}`);
  }
  t.equal(await errnoOf(clearVolopt(s, volopt(2n, 0))), 'EINVAL');
  const setting = setVolopt(s, volopt(1n, 2 * MIB_BLOCKS));
  t.equal(read().setBits, 0n, 'not before the commit');
  await setting;
  t.equal(read().dataAllocZoneBlocks, 2 * MIB_BLOCKS);
  await clearVolopt(s, volopt(1n, 0));
  t.same([read().setBits, read().dataAllocZoneBlocks], [0n, 0]);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('metadata is not low while one of the two trees has enough', async (t) => {
  // halves of what the trees hold are above the reserve, but not by a mount's whole list
  const v = await makeVolume({ metaBytes: 94_500 * 65536, dataBytes: 2 ** 33 });
  const ts = await startServer(v);
  await mount(ts, 5n);
  const { commits } = partsOf(ts).context;
  const { finalizer } = partsOf(ts).trees;
  for (let i = 0; i < 12; i++) {
    const { metaAvail } = await new FakeClient(v, 5n).get(ts);
    t.equal(metaAvail.flags & ALLOC_FLAG_LOW, 0, `get ${i}`);
    await commits.transact((tx) => finalizer.reclaimLogTrees(tx, 5n));
  }
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('mounts get data from zones of their own', async (t) => {
  const v = await makeVolume({ zoneBlocks: 2 * MIB_BLOCKS });
  const ts = await startServer(v);
  await Promise.all([mount(ts, 5n), mount(ts, 6n)]);
  const a = await new FakeClient(v, 5n).get(ts);
  const b = await new FakeClient(v, 6n).get(ts);
  t.equal(a.dataAllocZoneBlocks, 2 * MIB_BLOCKS);
  const zones = (lt: typeof a): number[] => Array.from({ length: 8 }, (_, z) => z)
    .filter((z) => ((lt.dataAllocZones[0] ?? 0n) >> BigInt(z) & 1n) === 1n);
  t.equal(zones(a).length, 1);
  t.equal(zones(b).length, 1);
  t.not(zones(a)[0], zones(b)[0]);
  const { commits } = partsOf(ts).context;
  const { finalizer } = partsOf(ts).trees;
  await commits.transact((tx) => finalizer.reclaimLogTrees(tx, 6n));
  await ts.server.stop();
  t.same(await damage(v), [], 'also the zones of the reclaimed one');
});

t.test('bits of another zone size stand for block ranges', async (t) => {
  const item = (rid: bigint, zoneBlocks: number, bits: bigint): { lt: never } => ({
    lt: { rid, dataAllocZoneBlocks: zoneBlocks, dataAllocZones: [bits] } as never,
  });
  const items = async function* (): AsyncGenerator<{ lt: never }> {
    yield item(1n, 50, 0b11n);
    yield item(2n, 100, 0b110n);
    yield item(3n, 0, 0b1000n);
  };
  const { exclusive, vacant } = await chooseZones(items(), 2n, 100, 550);
  const list = (b: ZoneBits): number[] =>
    Array.from({ length: 1024 }, (_, z) => z).filter((z) => b.has(z));
  t.same(list(exclusive), [1, 2]);
  t.same(list(vacant), [3, 4, 5]);
});

t.test('devices only grow', async (t) => {
  const v = await makeVolume({ metaBytes: 2 ** 33, dataBytes: 2 ** 33 });
  const ts = await startServer(v);
  const s = partsOf(ts).context;
  const resize = (meta: number, data: number): Promise<string | null> =>
    errnoOf(resizeDevices(s, encode(NetResizeDevices,
      { newTotalMetaBlocks: meta, newTotalDataBlocks: data })));
  const meta = 2 ** 33 / 65536;
  const data = 2 ** 33 / 4096;
  t.equal(await resize(meta, data), null);
  t.equal(await resize(0, 0), null);
  t.equal(await resize(meta - 1, 0), 'EINVAL');
  t.equal(await resize(meta + 1, data + 1), 'EINVAL', 'more than there is');
  (v.meta as { sizeBytes: number } & SimDevice).sizeBytes += 2 ** 30;
  (v.data as { sizeBytes: number } & SimDevice).sizeBytes += 2 ** 30;
  const grown = [meta + 2 ** 30 / 65536, data + 2 ** 30 / 4096] as const;
  t.equal(await resize(...grown), null);
  t.equal(await resize(...grown), null, 'a replay changes nothing');
  const fs = decode(NetStatfs, await statfs(s));
  t.same([fs.totalMetaBlocks, fs.totalDataBlocks], grown);
  t.equal(fs.freeDataBlocks, grown[1] - 64);
  await ts.server.stop();
  t.same(await damage(v), []);
});

t.test('inode numbers run out with success, and never repeat', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  const { trees } = partsOf(ts);
  const alloc = async (n: bigint): Promise<NetInodeAlloc> =>
    decode(NetInodeAlloc, await trees.allocInodes(n));
  const one = await alloc(10n);
  const two = await alloc(0n);
  t.same([two.ino, two.nr], [one.ino + 10, 0]);
  const many = await alloc(2n ** 64n - 1n);
  t.same([many.ino, many.nr], [one.ino + 10, 2 ** 20], 'nobody gets all at once');
  await partsOf(ts).context.commits.transact(() => {
    partsOf(ts).context.commits.sup.nextIno = Number.MAX_SAFE_INTEGER - 5;
    return Promise.resolve();
  });
  t.equal((await alloc(10n)).nr, 5);
  t.equal((await alloc(1n)).nr, 0);
  await ts.server.stop();
});

t.test('the reserve is what df shows', (t) => {
  t.equal(reservedMetaBlocks(0), 34681);
  t.equal(reservedMetaBlocks(1), 34681);
  t.equal(reservedMetaBlocks(3), 16370 + 3 * 18311);
  t.end();
});

t.test('statfs runs beside commits', async (t) => {
  const v = await makeVolume();
  const ts = await startServer(v);
  await mount(ts, 5n);
  const c = new FakeClient(v, 5n);
  const s = partsOf(ts).context;
  for (let i = 0; i < 5; i++) {
    const [bytes] = await Promise.all([statfs(s), c.transaction(ts, 2048, 50)]);
    const fs = decode(NetStatfs, bytes);
    t.ok(fs.freeMetaBlocks <= fs.totalMetaBlocks && fs.freeMetaBlocks > fs.totalMetaBlocks - 100);
  }
  await ts.server.stop();
});
