/**
 * The dump equals upstream's, line by line, on every volume that upstream wrote;
 * and it survives damage anywhere, saying where.
 */
import t from 'tap';
import { readBlock, sealBlock, viewOf, writeBlock } from '../../host/disk/block.js';
import { mkfs } from '../../host/disk/mkfs.js';
import { printVolume } from '../../host/disk/print.js';
import { tokenLines } from '../../host/disk/print_text.js';
import { decodeSrchEntry } from '../../host/disk/srch_decode.js';
import { readOfflineSuper, writeSuper } from '../../host/disk/super.js';
import { openDevice } from '../../host/env/device.js';
import type { Device } from '../../host/env/device.js';
import { realEnv } from '../../host/env/env.js';
import { seeded } from '../lib/core.js';
import { hexBytes } from '../lib/hex.js';
import { imageDevice } from '../lib/image.js';
import {
  fixtureText, skipWithoutFixtures, skipWithoutSpec, tempDir, unpackFixture, vectors,
} from '../lib/shared.js';

const MIB = 2 ** 20;

function dump(dev: Device, skipLikelyHuge = false): { text: string; problems: number } {
  const pieces: string[] = [];
  const { problems } = printVolume(dev, { skipLikelyHuge, write: (s) => { pieces.push(s); } });
  return { text: pieces.join(''), problems };
}

const FIXTURES = ['empty-v1', 'empty-v2', 'empty-3slots', 'empty-zoned', 'empty-mounted',
  'small-tree', 'dirty-crash', 'two-mounts', 'wire-two-nodes'];

t.test("upstream's dumps", { skip: skipWithoutFixtures() }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-print');
  t.teardown(remove);
  for (const name of FIXTURES) {
    const { meta } = unpackFixture(name, dir);
    const dev = await openDevice(meta, { readOnly: true });
    const { text, problems } = dump(dev);
    const want = fixtureText(name, 'print.txt.zst');
    if (text === want) {
      t.pass(name);
    } else {
      const ours = text.split('\n');
      const at = want.split('\n').findIndex((line, i) => line !== ours[i]);
      t.equal(ours[at], want.split('\n')[at], `${name} line ${at + 1}`);
    }
    t.equal(problems, 0, `${name}: no problems`);
    t.ok(dump(dev, true).text.length < text.length, `${name}: -S leaves something out`);
    await dev.close();
  }
});

async function volume(dir: string): Promise<{ meta: Device; data: Device }> {
  const meta = await imageDevice(dir, 'm', 128 * MIB);
  const data = await imageDevice(dir, 'd', 128 * MIB);
  await mkfs(meta, data, { slots: [{ nr: 0, addr: 0x7f000001, port: 1 }], allowSmallSize: true },
    { ...realEnv, remark: () => undefined });
  return { meta, data };
}

t.test('a data device has no more than its super block', async (t) => {
  const { dir, remove } = tempDir('scoutfs-print');
  t.teardown(remove);
  const { meta, data } = await volume(dir);
  t.throws(() => dump(data), { code: 'NOT_META_DEVICE', errno: 'EINVAL' });
  await meta.close();
  await data.close();
});

t.test('checksums are shown, not enforced', async (t) => {
  const { dir, remove } = tempDir('scoutfs-print');
  t.teardown(remove);
  const { meta, data } = await volume(dir);
  const block = await readBlock(meta, 'large', 2);
  viewOf(block).setUint32(0, 0x1234, true);
  await writeBlock(meta, 'large', 2, block);
  t.match(dump(meta).text, /fs_root btree blkno 2\n {2}crc 00001234 \(computed [0-9a-f]{8}\) fsid/);
  await meta.close();
  await data.close();
});

t.test('references that lead nowhere, in circles, or to the wrong level', async (t) => {
  const { dir, remove } = tempDir('scoutfs-print');
  t.teardown(remove);
  const { meta, data } = await volume(dir);
  const { block, sb } = await readOfflineSuper(meta);
  const set = async (change: object): Promise<void> => {
    await writeSuper(meta, block, { ...sb, ...change });
  };
  await set({ fsRoot: { ref: { blkno: 99999, seq: 1n }, height: 1 } });
  t.match(dump(meta), { problems: 1, text: /!! fs_root: block 99999 is outside the device/ });
  await set({ fsRoot: { ref: { blkno: 2, seq: 1n }, height: 2 } });
  t.match(dump(meta), { problems: 1, text: /!! fs_root: block 2 has level 0, not 1/ });
  await set({ fsRoot: { ref: { blkno: 2, seq: 1n }, height: 21 } });
  t.match(dump(meta), { problems: 1, text: /!! fs_root: height 21 is more than 20/ });
  await set({});
  // An alloc list block that refers to itself.
  const list = await readBlock(meta, 'large', 3);
  viewOf(list).setBigUint64(32, 3n, true);
  viewOf(list).setUint32(52, 8186, true);
  sealBlock(list, { magic: 0x8a93ac83, fsid: sb.hdr.fsid, seq: 1n, blkno: 3 });
  await writeBlock(meta, 'large', 3, list);
  t.match(dump(meta), { problems: 1, text: /!! server_meta_avail\[0\]: block 3 claims 8186 numbers/ });
  await meta.close();
  await data.close();
});

t.test('random damage ends in text, not in a crash', { skip: skipWithoutFixtures() }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-print');
  t.teardown(remove);
  const { meta } = unpackFixture('empty-mounted', dir);
  const dev = await openDevice(meta);
  const below = seeded(7);
  const blocks = [22, 23, 25, 1042, 1048, 18, 19, 2];
  for (let round = 0; round < 60; round++) {
    const blkno = blocks[round % blocks.length] ?? 2;
    const good = await readBlock(dev, 'large', blkno);
    const bad = good.slice();
    const v = viewOf(bad);
    // Mostly in the header and first items, where the structure is.
    for (let i = 0; i < 8; i++) v.setUint8(below(2) === 0 ? below(256) : below(65536), below(256));
    v.setUint32(4, viewOf(good).getUint32(4, true), true);
    await writeBlock(dev, 'large', blkno, bad);
    const { text } = dump(dev);
    if (!text.includes('quorum blkno 31')) t.fail(`round ${round}`);
    await writeBlock(dev, 'large', blkno, good);
  }
  t.equal(dump(dev).problems, 0, 'and all is well again');
  await dev.close();
});

t.test('vectors: srch_entries', { skip: skipWithoutSpec() }, async (t) => {
  const { srch_entries: entries } = vectors('format-vectors.json') as {
    srch_entries: { hash: string; ino: string; id: string; bytes: string }[];
  };
  let prev = { hash: 0n, ino: 0n, id: 0n };
  for (const e of entries) {
    const { entry, bytes } = decodeSrchEntry(new DataView(hexBytes(e.bytes).buffer), 0, prev);
    t.equal(bytes, e.bytes.length / 2);
    t.same(entry, { hash: BigInt(`0x${e.hash}`), ino: BigInt(e.ino), id: BigInt(e.id) }, e.bytes);
    prev = entry;
  }
});

t.test('lines of tokens', async (t) => {
  t.same(tokenLines('  x: ', [], 3), { text: '  x: ', counted: true });
  const tokens = Array.from({ length: 30 }, (_, i) => `${1000 + i},${i}`);
  const { text } = tokenLines('  x: ', tokens, 3);
  t.same(text.split(/\s+/).filter((w) => w !== '' && w !== 'x:'), tokens, 'nothing is lost');
});
