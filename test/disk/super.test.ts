/**
 * What a mount has to refuse: devices that are swapped, truncated, foreign, not
 * formatted or damaged; the error names the device and the cause. And blocks that
 * are not what a reference says.
 */
import t from 'tap';
import { checkBlock, newBlock, readBlock, readChecked, sealBlock, viewOf, writeBlock } from
  '../../host/disk/block.js';
import { mkfs } from '../../host/disk/mkfs.js';
import { hasSuperMagic, readMetaSuper, readOfflineSuper, readSupers, uuidText, writeSuper } from
  '../../host/disk/super.js';
import type { SuperBlock } from '../../host/core/format.js';
import { openDevice } from '../../host/env/device.js';
import type { Device } from '../../host/env/device.js';
import { realEnv } from '../../host/env/env.js';
import { imageDevice } from '../lib/image.js';
import { skipWithoutFixtures, tempDir, unpackFixture } from '../lib/shared.js';

const MIB = 2 ** 20;
const quiet = { ...realEnv, remark: () => undefined };

async function volume(dir: string, name: string, fmtVers = 2): Promise<[Device, Device]> {
  const meta = await imageDevice(dir, `${name}.meta`, 128 * MIB);
  const data = await imageDevice(dir, `${name}.data`, 128 * MIB);
  await mkfs(meta, data, {
    slots: [{ nr: 0, addr: 0x7f000001, port: 5000 }], allowSmallSize: true, fmtVers,
  }, quiet);
  return [meta, data];
}

async function edit(dev: Device, change: Partial<SuperBlock>): Promise<void> {
  const { block, sb } = await readOfflineSuper(dev);
  await writeSuper(dev, block, { ...sb, ...change });
}

t.test('pairs that are no volume', async (t) => {
  const { dir, remove } = tempDir('scoutfs-super');
  t.teardown(remove);
  const [meta, data] = await volume(dir, 'a');
  const [otherMeta, otherData] = await volume(dir, 'b');
  const [v1meta, v1data] = await volume(dir, 'c', 1);
  const blank = await imageDevice(dir, 'blank', 128 * MIB);
  const tiny = await imageDevice(dir, 'tiny', 65536);
  const short = await imageDevice(dir, 'short', 64 * MIB);
  t.teardown(() => Promise.all([meta, data, otherMeta, otherData, v1meta, v1data, blank, tiny, short]
    .map((d) => d.close())));
  await writeBlock(short, 'small', 16, await readBlock(data, 'small', 16));

  const refused = async (m: Device, d: Device, names: Device, cause: RegExp): Promise<void> => {
    const e = await readSupers(m, d).then(() => null, (x: unknown) => x as Error & { errno: string });
    t.equal(e?.errno, 'EINVAL', String(cause));
    t.match(e?.message, cause);
    t.ok(e?.message.startsWith(`${names.path}: `), 'the device is named');
  };
  t.match(await readSupers(meta, data), { meta: { flags: 1 }, data: { flags: 0 } });
  t.match(await readMetaSuper(meta, data, 2), { fmtVers: 2 });
  await t.rejects(readMetaSuper(meta, data, 1), { code: 'BAD_SUPER' }, 'the version changed');
  await refused(data, meta, data, /is a data device, not a metadata device/);
  await refused(meta, otherMeta, otherMeta, /is a metadata device, not a data device/);
  await refused(meta, otherData, otherData, /uuid .* is not that of/);
  await refused(meta, blank, blank, /no scoutfs super block: magic is 0x00000000/);
  await refused(tiny, data, tiny, /too small for a super block/);
  await refused(meta, short, meta, /total_data_blocks 32768 is more than .* has \(16384\)/);
  await edit(v1data, { fmtVers: 2 });
  await refused(v1meta, v1data, v1data, /format version 2 is not that of/);
  await edit(v1meta, { fmtVers: 3 });
  await refused(v1meta, v1data, v1meta, /format version 3 is not supported/);
  await edit(v1meta, { fmtVers: 0 });
  await refused(v1meta, v1data, v1meta, /format version 0 is not supported/);
  await edit(otherMeta, { totalMetaBlocks: 4096 });
  await refused(otherMeta, otherData, otherMeta, /total_meta_blocks 4096 is more than/);
});

t.test('a volume whose devices have grown is fine', async (t) => {
  const { dir, remove } = tempDir('scoutfs-super');
  t.teardown(remove);
  const [meta, data] = await volume(dir, 'a');
  await edit(meta, { totalMetaBlocks: 1900, totalDataBlocks: 30000 });
  t.match(await readSupers(meta, data), { meta: { totalMetaBlocks: 1900 } });
  await meta.close();
  await data.close();
});

t.test('every damaged byte of a super block is noticed', async (t) => {
  const { dir, remove } = tempDir('scoutfs-super');
  t.teardown(remove);
  const [meta, data] = await volume(dir, 'a');
  const good = await readBlock(meta, 'small', 16);
  for (let i = 0; i < good.length; i += 13) {
    const block = newBlock('small');
    block.set(good);
    block[i] = (block[i] ?? 0) ^ 0x10;
    await writeBlock(meta, 'small', 16, block);
    const e = await readSupers(meta, data).then(() => null, (x: unknown) => x as { code: string });
    if (e?.code !== 'BAD_SUPER') t.fail(`byte ${i} changed unnoticed`);
  }
  // A block that was sealed with a nonsensical count must not become a rounded number.
  await writeBlock(meta, 'small', 16, good);
  const block = await readBlock(meta, 'small', 16);
  viewOf(block).setBigUint64(96, 2n ** 60n, true);
  sealBlock(block, { magic: 0x103c428b, fsid: 1n, seq: 1n, blkno: 16 });
  await writeBlock(meta, 'small', 16, block);
  await t.rejects(readSupers(meta, data), { code: 'BAD_SUPER', errno: 'EINVAL' });
  await t.rejects(readOfflineSuper(meta), { code: 'BAD_SUPER', errno: 'EIO' }, 'EIO offline');
  t.equal(await hasSuperMagic(meta), true, 'mkfs still sees what it was');
  await meta.close();
  await data.close();
});

t.test('blocks', async (t) => {
  const { dir, remove } = tempDir('scoutfs-super');
  t.teardown(remove);
  const dev = await imageDevice(dir, 'img', 1 * MIB);
  const hdr = { magic: 0xe597f96d, fsid: 7n, seq: 9n, blkno: 3 };
  const block = newBlock('large');
  block.fill(0x33);
  sealBlock(block, hdr);
  await writeBlock(dev, 'large', 3, block);
  t.same(await readChecked(dev, 'large', 3, hdr), block);
  t.equal(checkBlock(block, { ...hdr, seq: 8n }), 'seq is 0x9, not 0x8');
  t.equal(checkBlock(block, { ...hdr, fsid: 8n }), 'fsid is 0x7, not 0x8');
  t.equal(checkBlock(block, { ...hdr, blkno: 4 }), 'blkno is 0x3, not 0x4');
  t.match(checkBlock(block, { magic: 1 }), /^magic is 0xe597f96d/);
  await t.rejects(readChecked(dev, 'large', 4, hdr), { code: 'BAD_BLOCK', errno: 'EIO' });
  for (const blkno of [16, -1, 1.5, 2 ** 53, NaN]) {
    await t.rejects(readBlock(dev, 'large', blkno), { code: 'BLOCK_RANGE', errno: 'EIO' });
    await t.rejects(writeBlock(dev, 'large', blkno, block), { code: 'BLOCK_RANGE' });
  }
  await dev.close();
});

t.test('a uuid as text', async (t) => {
  t.equal(uuidText(Uint8Array.from({ length: 16 }, (_, i) => i * 17)),
    '00112233-4455-6677-8899-aabbccddeeff');
});

t.test('volumes of upstream', { skip: skipWithoutFixtures() }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-super');
  t.teardown(remove);
  for (const name of ['empty-v1', 'empty-v2', 'empty-3slots', 'empty-mounted']) {
    const { meta, data } = unpackFixture(name, dir);
    const m = await openDevice(meta, { readOnly: true });
    const d = await openDevice(data, { readOnly: true });
    const { meta: sb } = await readSupers(m, d);
    t.equal(sb.fmtVers, name === 'empty-v1' ? 1 : 2, name);
    await m.close();
    await d.close();
  }
});
