/**
 * The commands that change the super blocks of a volume at rest: the bytes of the
 * vectors, and everything they have to refuse.
 */
import { createHash } from 'node:crypto';
import t from 'tap';
import { readBlock, sealBlock, viewOf, writeBlock } from '../../host/disk/block.js';
import { changeFormatVersion } from '../../host/disk/change_format_version.js';
import { changeQuorumConfig } from '../../host/disk/change_quorum_config.js';
import { checkNotInUse } from '../../host/disk/in_use.js';
import { mkfs } from '../../host/disk/mkfs.js';
import { checkEmptyDataDevice, prepareEmptyDataDevice } from
  '../../host/disk/prepare_empty_data_device.js';
import { readOfflineSuper, readSupers, rewriteSuper, writeSuper } from '../../host/disk/super.js';
import { BLOCK_MAGIC_QUORUM, QUORUM_BLKNO } from '../../host/core/format.js';
import type { SuperBlock } from '../../host/core/format.js';
import { realEnv } from '../../host/env/env.js';
import type { Device } from '../../host/env/device.js';
import { imageDevice, recorded } from '../lib/image.js';
import { skipWithoutSpec, tempDir, vectors } from '../lib/shared.js';
import { addrOf, optionsOf } from '../lib/volume_vectors.js';
import type { OfflineVector, VolumeVectors } from '../lib/volume_vectors.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const SUPER_OFFSET = 65536;

const quiet = { ...realEnv, remark: () => undefined };

interface Volume {
  dir: string;
  meta: Device;
  data: Device;
}

async function volume(t: { teardown(fn: () => unknown): void }, fmtVers: number): Promise<Volume> {
  const { dir, remove } = tempDir('scoutfs-offline');
  t.teardown(remove);
  const meta = await imageDevice(dir, 'meta.img', 128 * MIB);
  const data = await imageDevice(dir, 'data.img', 128 * MIB);
  t.teardown(() => meta.close());
  t.teardown(() => data.close());
  await mkfs(meta, data, {
    slots: [{ nr: 3, addr: 0x7f000001, port: 5000 }], allowSmallSize: true, fmtVers,
  }, quiet);
  return { dir, meta, data };
}

async function superBytes(dev: Device): Promise<Uint8Array> {
  return (await readOfflineSuper(dev)).block;
}

/** Changes fields of a super block and seals it again. */
async function edit(dev: Device, change: Partial<SuperBlock>): Promise<void> {
  const { block, sb } = await readOfflineSuper(dev);
  await writeSuper(dev, block, { ...sb, ...change });
}

const skip = skipWithoutSpec();
const all = skip === false ? vectors('format-vectors.json') as VolumeVectors : null;

t.test('vectors: offline_tools', { skip }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-offline');
  t.teardown(remove);
  const start = all?.volumes.find((v) => v.name === 'v1-256M-1G-1slot');
  if (start === undefined) {
    t.fail('the volume to start from is not in the vectors');
    return;
  }
  const meta = await imageDevice(dir, 'meta.img', start.inputs.meta_device_bytes);
  const data = await imageDevice(dir, 'data.img', start.inputs.data_device_bytes);
  const fresh = await imageDevice(dir, 'new.img', 2 * GIB);
  t.teardown(() => Promise.all([meta, data, fresh].map((d) => d.close())));
  const steps = [...all?.offline_tools ?? []];
  const check = async (dev: Device): Promise<void> => {
    const v = steps.shift() as OfflineVector;
    const block = await superBytes(dev);
    t.equal(viewOf(block).getUint32(0, true).toString(16).padStart(8, '0'), v.crc, v.step);
    t.equal(createHash('sha256').update(block).digest('hex'), v.sha256, `${v.step}: sha256`);
  };
  await mkfs(meta, data, optionsOf(start), quiet);
  await check(meta);
  await check(data);
  t.match(await changeFormatVersion(meta, data, 2), { changed: true, sb: { fmtVers: 2 } });
  await check(meta);
  await check(data);
  const sb = await changeQuorumConfig(meta, [
    { nr: 0, addr: addrOf('10.0.0.1'), port: 7000 },
    { nr: 1, addr: addrOf('10.0.0.2'), port: 7000 },
  ]);
  t.equal(sb.qconf.version, 2);
  await check(meta);
  await prepareEmptyDataDevice(meta, fresh);
  await check(fresh);
  t.same(steps, [], 'every step was made');
  t.match(await readSupers(meta, fresh), { meta: { totalDataBlocks: 262144 } },
    'the new pair can be mounted');
});

t.test('only the bytes of the change are touched', async (t) => {
  const { meta, data } = await volume(t, 1);
  // Upstream leaves garbage in the unused bytes of a slot; it is not ours to clear.
  const { block } = await readOfflineSuper(meta);
  block.fill(0x5a, 120 + 3 * 32 + 8, 120 + 4 * 32);
  await rewriteSuper(meta, block);
  const before = (await superBytes(meta)).slice();
  await changeFormatVersion(meta, data, 2);
  const diff = [...(await superBytes(meta)).entries()]
    .filter(([i, b]) => b !== before[i]).map(([i]) => i);
  t.same(diff.filter((i) => i > 3), [40]);
});

t.test('change-format-version', async (t) => {
  const { meta, data } = await volume(t, 1);
  const other = await volume(t, 1);
  await t.rejects(changeFormatVersion(data, meta, 2), { code: 'BAD_SUPER', errno: 'EINVAL' }, 'swapped devices');
  await t.rejects(changeFormatVersion(meta, other.data, 2), { code: 'BAD_SUPER', errno: 'EIO' },
    'a data device of another volume');
  t.match(await changeFormatVersion(meta, data, 1), { changed: false }, 'nothing to do');
  // A second write that failed leaves the versions different: repeating finishes.
  await edit(meta, { fmtVers: 2 });
  await t.rejects(readSupers(meta, data), { code: 'BAD_SUPER' }, 'cannot be mounted');
  const m = recorded(meta);
  t.match(await changeFormatVersion(m.device, data, 2), { changed: true });
  t.same(m.log, [], 'the first copy was right already');
  t.match(await readSupers(meta, data), { data: { fmtVers: 2 } });
  await t.rejects(changeFormatVersion(meta, data, 1), { code: 'VERSION_DOWNGRADE', errno: 'EPERM' },
    'downgrade');
  await edit(data, { fmtVers: 3 });
  await t.rejects(changeFormatVersion(meta, data, 2), { code: 'BAD_VERSION', errno: 'EINVAL' },
    'a version from the future');
});

t.test('change-quorum-config', async (t) => {
  const { meta, data } = await volume(t, 2);
  const slots = [{ nr: 0, addr: 0x0a000001, port: 7000 }];
  await t.rejects(changeQuorumConfig(data, slots), { code: 'BAD_SUPER', errno: 'EINVAL' },
    'a data device');
  await t.rejects(changeQuorumConfig(meta, []), { code: 'BAD_SLOTS' });
  const m = recorded(meta);
  await changeQuorumConfig(m.device, slots);
  t.same(m.log, [`${SUPER_OFFSET}+4096`, 'flush'], 'quorum blocks are not touched');
  const { sb } = await readOfflineSuper(meta);
  t.equal(sb.qconf.version, 2);
  t.same(sb.qconf.slots.map((s) => s.addr.family), [1, ...Array.from({ length: 14 }, () => 0)],
    'slot 3 is gone');
});

t.test('prepare-empty-data-device', async (t) => {
  const { dir, meta, data } = await volume(t, 2);
  const small = await imageDevice(dir, 'small.img', 128 * MIB - 4096);
  t.teardown(() => small.close());
  t.match(await checkEmptyDataDevice(meta, null), { totalDataBlocks: 32768 });
  await t.rejects(prepareEmptyDataDevice(meta, small), { code: 'DEVICE_TOO_SMALL' });
  await t.rejects(prepareEmptyDataDevice(data, small), { code: 'BAD_SUPER' }, 'not metadata');
  const { sb } = await readOfflineSuper(meta);
  await edit(meta, { dataAlloc: { ...sb.dataAlloc, totalLen: sb.dataAlloc.totalLen - 1 } });
  await t.rejects(prepareEmptyDataDevice(meta, data), { code: 'DATA_IN_USE', errno: 'EINVAL' });
});

t.test('signs of use', async (t) => {
  const { meta, data } = await volume(t, 1);
  const { sb } = await readOfflineSuper(meta);
  await edit(meta, { mountedClients: { ref: { blkno: 1031, seq: 5n }, height: 1 } });
  const busy = { code: 'IN_USE', errno: 'EBUSY' };
  await t.rejects(changeFormatVersion(meta, data, 2), busy, 'a mounted client');
  await t.rejects(changeQuorumConfig(meta, [{ nr: 0, addr: 1, port: 1 }]), busy);
  await t.rejects(checkEmptyDataDevice(meta, null), busy);
  await edit(meta, { mountedClients: sb.mountedClients });
  const setEvent = async (slot: number, event: number, writeNr: bigint): Promise<void> => {
    const block = await readBlock(meta, 'small', QUORUM_BLKNO + slot);
    viewOf(block).setBigUint64(40 + event * 40, writeNr, true);
    sealBlock(block, {
      magic: BLOCK_MAGIC_QUORUM, fsid: sb.hdr.fsid, seq: 1n, blkno: QUORUM_BLKNO + slot,
    });
    await writeBlock(meta, 'small', QUORUM_BLKNO + slot, block);
  };
  await setEvent(4, 0, 9n);
  await checkNotInUse(meta, sb);
  t.pass('a slot that is not configured does not count');
  await setEvent(3, 0, 9n);
  await t.rejects(changeFormatVersion(meta, data, 2), busy, 'a member that has begun');
  await setEvent(3, 5, 10n);
  t.match(await changeFormatVersion(meta, data, 2), { changed: true }, 'and ended');
});
