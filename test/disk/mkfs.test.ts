/**
 * mkfs against the volumes that upstream's mkfs wrote: every block, byte for byte,
 * nothing else, in the order that makes the super block of the metadata device
 * the last thing durable; and what it refuses.
 */
import { createHash } from 'node:crypto';
import t from 'tap';
import { blockCrc, checkBlock, readBlock } from '../../host/disk/block.js';
import { mkfs } from '../../host/disk/mkfs.js';
import type { MkfsEnv, MkfsOptions } from '../../host/disk/mkfs.js';
import { readSupers } from '../../host/disk/super.js';
import { AllocListBlock, AvlNode, BtreeBlock, BtreeItem } from '../../host/core/format.js';
import { realEnv } from '../../host/env/env.js';
import type { Device } from '../../host/env/device.js';
import { viewOf } from '../lib/damage.js';
import { hexBytes } from '../lib/hex.js';
import { imageDevice, recorded } from '../lib/image.js';
import { skipWithoutSpec, tempDir, vectors } from '../lib/shared.js';
import { optionsOf } from '../lib/volume_vectors.js';
import type { BlockVector, VolumeVectors } from '../lib/volume_vectors.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** The hash table at the end of a leaf: btree.md 1. */
const LEAF_HASH_BYTES = 3024;
const SLOT = { nr: 0, addr: 0x7f000001, port: 19700 };

function envWith(remarks: string[]): MkfsEnv {
  return { ...realEnv, remark: (stream, text) => { remarks.push(`${stream}: ${text}`); } };
}

const skip = skipWithoutSpec();
const all = skip === false ? vectors('format-vectors.json') as VolumeVectors : null;

async function checkBytes(t: { equal(a: unknown, b: unknown, m: string): void }, dev: Device,
  v: BlockVector): Promise<void> {
  const block = await readBlock(dev, v.size === 4096 ? 'small' : 'large', v.byte_offset / v.size);
  const what = `${v.device} ${v.blkno}`;
  t.equal(blockCrc(block).toString(16).padStart(8, '0'), v.crc, `${what}: checksum`);
  t.equal(createHash('sha256').update(block).digest('hex'), v.sha256, `${what}: sha256`);
  if (v.nonzero_runs !== undefined) {
    const want = new Uint8Array(v.size);
    for (const [offset, hex] of v.nonzero_runs) want.set(hexBytes(hex), offset);
    t.equal(Buffer.compare(block, want), 0, `${what}: bytes`);
  }
}

t.test('vectors: volumes', { skip }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-mkfs');
  t.teardown(remove);
  for (const v of all?.volumes ?? []) {
    const meta = await imageDevice(dir, 'meta.img', v.inputs.meta_device_bytes);
    const data = await imageDevice(dir, 'data.img', v.inputs.data_device_bytes);
    const remarks: string[] = [];
    const m = recorded(meta);
    const d = recorded(data);
    await mkfs(m.device, d.device, optionsOf(v), envWith(remarks));
    for (const b of v.blocks) await checkBytes(t, b.device === 'meta' ? meta : data, b);
    const places = (which: string): string[] => v.blocks
      .filter((b) => b.device === which).map((b) => `${b.byte_offset}+${b.size}`).sort();
    t.same(m.log.filter((l) => l !== 'flush').sort(), places('meta'), `${v.name}: no more blocks`);
    t.same(d.log, [...places('data'), 'flush'], `${v.name}: no more data blocks`);
    t.same(m.log.slice(-2), ['65536+4096', 'flush'], `${v.name}: the super block is last`);
    t.equal(remarks.map((r) => `${r.replace(/^err: /, '')}\n`).join(''), v.stderr);
    t.match(await readSupers(meta, data), { meta: { fmtVers: v.inputs.format_version } },
      `${v.name}: can be mounted`);
    await meta.close();
    await data.close();
  }
});

interface Mkfs64 {
  fs_root: { blkno: number; items: number; avl_root_off: number; total_item_bytes: number;
    mid_free_len: number; nodes: { item_off: number; parent: number; left: number;
      right: number; height: number }[]; hash_buckets: [number, number][] };
  server_meta_avail_0: { blkno: number; start: number; nr: number; first: number; last: number };
  data_alloc: { blkno: number; items: { zone: number; end: number; len: number }[] };
  meta_alloc: { blkno: number; start?: number; len: number }[];
}

/** A free extent item: the key's first word is the extent's end, its second the length. */
function freeExtents(block: Uint8Array): { zone: number; ends: number; len: number }[] {
  const v = viewOf(block);
  const { nrItems } = BtreeBlock.read(v, 0);
  return Array.from({ length: nrItems }, (_, i) => {
    const { key } = BtreeItem.read(v, BtreeBlock.size + i * BtreeItem.size);
    const byBlkno = key.zone === 36;
    return { zone: key.zone, ends: Number(byBlkno ? key.first : key.second),
      len: Number(byBlkno ? key.second : key.third) };
  });
}

t.test('vectors: the layout of a volume of 64 GiB each', { skip }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-mkfs');
  t.teardown(remove);
  const { mkfs_64G_64G: want } = vectors('core-vectors.json') as { mkfs_64G_64G: Mkfs64 };
  const meta = await imageDevice(dir, 'meta.img', 64 * GIB);
  const data = await imageDevice(dir, 'data.img', 64 * GIB);
  const sb = await mkfs(meta, data, { slots: [SLOT] }, envWith([]));
  t.equal(sb.fsRoot.ref.blkno, want.fs_root.blkno);
  const root = await readBlock(meta, 'large', want.fs_root.blkno);
  const v = viewOf(root);
  const { items, avl_root_off: avlRoot, total_item_bytes: totalItemBytes,
    mid_free_len: midFreeLen } = want.fs_root;
  t.match(BtreeBlock.read(v, 0), {
    nrItems: items, totalItemBytes, midFreeLen, itemRoot: { node: avlRoot },
  });
  for (const n of want.fs_root.nodes) {
    t.match(AvlNode.read(v, n.item_off), {
      parent: n.parent, left: n.left, right: n.right, height: n.height,
    });
  }
  const table = root.length - LEAF_HASH_BYTES;
  const buckets = Array.from({ length: LEAF_HASH_BYTES / 2 }, (_, i) =>
    [i, v.getUint16(table + 2 * i, true)]);
  t.same(buckets.filter(([, off]) => off !== 0), want.fs_root.hash_buckets);
  const list = await readBlock(meta, 'large', want.server_meta_avail_0.blkno);
  const { start, nr, first, last } = want.server_meta_avail_0;
  t.match(AllocListBlock.read(viewOf(list), 0), { start, nr });
  const entry = (i: number): number =>
    Number(viewOf(list).getBigUint64(AllocListBlock.size + i * 8, true));
  t.same([entry(0), entry(nr - 1)], [first, last]);
  t.equal(sb.dataAlloc.root.ref.blkno, want.data_alloc.blkno);
  const extents = freeExtents(await readBlock(meta, 'large', want.data_alloc.blkno));
  t.match(extents, want.data_alloc.items.map(({ zone, end, len }) => ({ zone, ends: end, len })));
  t.same(sb.metaAlloc.map((a) => [a.root.ref.blkno, a.totalLen]),
    want.meta_alloc.map((a) => [a.blkno, a.len]));
  await meta.close();
  await data.close();
});

t.test('random identity', async (t) => {
  const { dir, remove } = tempDir('scoutfs-mkfs');
  t.teardown(remove);
  const seen = new Set<unknown>();
  for (const name of ['a', 'b']) {
    const meta = await imageDevice(dir, `${name}.meta`, 128 * MIB);
    const data = await imageDevice(dir, `${name}.data`, 128 * MIB);
    const sb = await mkfs(meta, data, { slots: [SLOT], allowSmallSize: true }, envWith([]));
    seen.add(sb.hdr.fsid).add(Buffer.from(sb.uuid).toString('hex'));
    t.equal((sb.uuid[6] ?? 0) >> 4, 4, 'uuid of version 4');
    t.equal((sb.uuid[8] ?? 0) >> 6, 2, 'RFC 4122 variant');
    await meta.close();
    await data.close();
  }
  t.equal(seen.size, 4, 'no two are alike');
});

interface Refusal {
  what: string;
  meta?: number;
  data?: number;
  opts?: Partial<MkfsOptions>;
  code: string;
}

const REFUSALS: Refusal[] = [
  { what: 'small devices without -A', opts: { allowSmallSize: false }, code: 'DEVICE_TOO_SMALL' },
  { what: 'metadata of 1032 blocks', meta: 1032 * 65536, code: 'DEVICE_TOO_SMALL' },
  { what: 'metadata of 64 MiB', meta: 64 * MIB, code: 'DEVICE_TOO_SMALL' },
  { what: 'metadata without a byte', meta: 0, code: 'DEVICE_TOO_SMALL' },
  { what: 'data of 64 blocks', data: 64 * 4096, code: 'DEVICE_TOO_SMALL' },
  { what: 'a limit that leaves too little', opts: { maxMetaBytes: MIB }, code: 'DEVICE_TOO_SMALL' },
  { what: 'zones of less than 4 GiB', data: 16 * GIB, opts: { zoneBlocks: 1048575 },
    code: 'BAD_ZONE_BLOCKS' },
  { what: 'zones larger than the device', data: 2 * GIB, opts: { zoneBlocks: 1048576 },
    code: 'BAD_ZONE_BLOCKS' },
  { what: 'more than 1024 zones', data: 8 * 1024 * GIB, opts: { zoneBlocks: 1048576 },
    code: 'BAD_ZONE_BLOCKS' },
  { what: 'no slots', opts: { slots: [] }, code: 'BAD_SLOTS' },
  { what: 'slot 15', opts: { slots: [{ ...SLOT, nr: 15 }] }, code: 'BAD_SLOTS' },
  { what: 'port 0', opts: { slots: [{ ...SLOT, port: 0 }] }, code: 'BAD_SLOTS' },
  { what: 'address 0.0.0.0', opts: { slots: [{ ...SLOT, addr: 0 }] }, code: 'BAD_SLOTS' },
  { what: 'a slot twice', opts: { slots: [SLOT, { ...SLOT, port: 1 }] }, code: 'BAD_SLOTS' },
  { what: 'an address twice', opts: { slots: [SLOT, { ...SLOT, nr: 1 }] }, code: 'BAD_SLOTS' },
  { what: 'version 0', opts: { fmtVers: 0 }, code: 'BAD_VERSION' },
  { what: 'version 3', opts: { fmtVers: 3 }, code: 'BAD_VERSION' },
];

t.test('refusals, with nothing written', async (t) => {
  const { dir, remove } = tempDir('scoutfs-mkfs');
  t.teardown(remove);
  for (const r of REFUSALS) {
    const meta = recorded(await imageDevice(dir, 'meta.img', r.meta ?? 128 * MIB));
    const data = recorded(await imageDevice(dir, 'data.img', r.data ?? 128 * MIB));
    await t.rejects(mkfs(meta.device, data.device,
      { slots: [SLOT], allowSmallSize: true, ...r.opts }, envWith([])),
    { code: r.code, errno: 'EINVAL' }, r.what);
    t.same([...meta.log, ...data.log], [], `${r.what}: nothing written`);
    await meta.device.close();
    await data.device.close();
  }
});

t.test('the least sizes that hold a volume', async (t) => {
  const { dir, remove } = tempDir('scoutfs-mkfs');
  t.teardown(remove);
  const meta = await imageDevice(dir, 'meta.img', 1033 * 65536);
  const data = await imageDevice(dir, 'data.img', 65 * 4096);
  const sb = await mkfs(meta, data, { slots: [SLOT], allowSmallSize: true }, envWith([]));
  t.same(sb.metaAlloc.map((r) => r.totalLen), [1, 1]);
  t.equal(sb.dataAlloc.totalLen, 1);
  t.equal(checkBlock(await readBlock(meta, 'large', 1030), { blkno: 1030, seq: 1n }), null);
  await meta.close();
  await data.close();
});

t.test('limits', async (t) => {
  const { dir, remove } = tempDir('scoutfs-mkfs');
  t.teardown(remove);
  const meta = await imageDevice(dir, 'meta.img', 256 * MIB);
  const data = await imageDevice(dir, 'data.img', 1 * GIB);
  const remarks: string[] = [];
  const sb = await mkfs(meta, data, {
    slots: [SLOT], allowSmallSize: true, maxMetaBytes: 128 * MIB, maxDataBytes: 2 * GIB,
  }, envWith(remarks));
  t.equal(sb.totalMetaBlocks, 2048);
  t.equal(sb.totalDataBlocks, 262144);
  t.same(remarks, [
    'out: Limiting use of 256.00MB meta device to 128.00MB',
    'err: 128.00MB too small for min 64.00GB meta device, allowing with -A',
    'out: Device size limit of 2.00GB for data device is greater than 1.00GB available, ignored.',
    'err: 1.00GB too small for min 64.00GB data device, allowing with -A',
  ]);
  await meta.close();
  await data.close();
});
