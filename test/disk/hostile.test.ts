/**
 * Volumes made by an enemy, and devices that fail: a check reports, ends, keeps to
 * its memory and never throws for what it reads.
 *
 * The enemy knows the checksum: random words of random blocks in use are changed
 * and the blocks are sealed again, from a fixed seed.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkVolume } from '../../host/disk/check.js';
import type { Device } from '../../host/env/device.js';
import { openDevice } from '../../host/env/device.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import { Victim } from '../lib/damage.js';
import { OverlayDevice } from '../lib/overlay.js';
import { addCompactions, addFreeing, addMerge, enrich } from '../lib/rich.js';
import { skipWithoutFixtures, tempDir, unpackFixture } from '../lib/shared.js';

const ROUNDS = 25;
const WORDS_MAX = 6;
const SEED = 20240229;

/** A small generator of numbers below `n`; only repeatability matters. */
function randomFrom(seed: number): (n: number) => number {
  let s = seed >>> 0;
  return (n) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return Math.floor((s / 0x100000000) * n);
  };
}

/** Fails reads of one block. */
class FailingDevice extends OverlayDevice {
  constructor(base: Device, private readonly failAt: number) {
    super(base);
  }

  override readSync(offset: number, buf: Uint8Array): void {
    if (offset === this.failAt) {
      throw new ScoutfsError('DEVICE_IO', 'EIO', { message: 'no such sector' });
    }
    super.readSync(offset, buf);
  }
}

/** Remembers which metadata blocks a check reads. */
class WatchedDevice extends OverlayDevice {
  readonly blocks = new Set<number>();

  override readSync(offset: number, buf: Uint8Array): void {
    if (buf.length === 65536) this.blocks.add(offset / 65536);
    super.readSync(offset, buf);
  }
}

t.test('hostile', { skip: skipWithoutFixtures(), jobs: 1 }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-hostile');
  mkdirSync(join(dir, 'v'));
  const paths = unpackFixture('wire-two-nodes', join(dir, 'v'));
  const meta = await openDevice(paths.meta, { readOnly: true });
  const data = await openDevice(paths.data, { readOnly: true });
  t.teardown(async () => {
    await meta.close();
    await data.close();
    remove();
  });
  const rich = new Victim(new OverlayDevice(meta), new OverlayDevice(data));
  enrich(rich);
  const states = [addMerge, addFreeing, addCompactions].map((build) => {
    const v = rich.fork();
    build(v);
    return v;
  });

  await t.test('random words', async (t) => {
    const random = randomFrom(SEED);
    let found = 0;
    for (const base of states) {
      const watched = new WatchedDevice(base.meta);
      await checkVolume(watched, base.data);
      const blocks = [...watched.blocks];
      for (let round = 0; round < ROUNDS; round++) {
        const v = base.fork();
        for (let n = 1 + random(WORDS_MAX); n > 0; n--) {
          const blkno = blocks[random(blocks.length)] ?? 0;
          // Mostly the front, where headers, items and counts are.
          const area = random(2) === 0 ? 512 : 65532;
          const at = 4 + random(area);
          v.editBlock(blkno, (b) => { b.setUint32(at, random(4) === 0 ? 0 : random(2 ** 32)); });
        }
        const r = await checkVolume(v.meta, v.data);
        if (r.findings.some((f) => f.id === 'CHK_INTERNAL')) {
          t.fail(`round ${round}: ${JSON.stringify(r.findings.find((f) => f.id === 'CHK_INTERNAL'))}`);
        }
        if (r.findings.length > 0) found++;
      }
    }
    t.ok(found > ROUNDS * states.length / 2, `damage was found in ${found} volumes`);
  });

  await t.test('random words in the super block', async (t) => {
    const random = randomFrom(SEED + 1);
    let found = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const v = rich.fork();
      v.editSmall('meta', 16, (b) => {
        b.setUint32(40 + random(1440), random(2 ** (1 + random(31))), true);
      });
      const r = await checkVolume(v.meta, v.data);
      t.notOk(r.findings.some((f) => f.id === 'CHK_INTERNAL'), `round ${round}`);
      if (r.findings.length > 0) found++;
    }
    t.ok(found > ROUNDS / 3, `damage was found in ${found} volumes`);
  });

  await t.test('a block that cannot be read', async (t) => {
    const blkno = rich.sb().fsRoot.ref.blkno;
    const r = await checkVolume(new FailingDevice(rich.meta, blkno * 65536), rich.data);
    t.same(r.findings.map((f) => f.id), ['CHK_BLOCK_READ']);
    t.ok(r.notes.some((n) => n.id === 'CHK_SKIPPED'), 'says what was left out');
    const s = await checkVolume(new FailingDevice(rich.meta, 65536), rich.data);
    t.same(s.findings.map((f) => f.id), ['CHK_BLOCK_READ'], 'the super block');
  });

  await t.test('devices that are too small', async (t) => {
    const tiny = new OverlayDevice(rich.meta, 4096);
    const r = await checkVolume(tiny, rich.data);
    t.same(r.findings.map((f) => f.id), ['CHK_SUPER_SIZE']);
    const short = new OverlayDevice(rich.data, 1 << 20);
    const s = await checkVolume(rich.meta, short);
    t.same([...new Set(s.findings.map((f) => f.id))], ['CHK_SUPER_SIZE']);
  });

  await t.test('the memory limit', async (t) => {
    await t.rejects(checkVolume(rich.meta, rich.data, { memoryLimitBytes: 300000 }),
      { code: 'CHECK_MEMORY', errno: 'ENOMEM' });
    const r = await checkVolume(rich.meta, rich.data, { memoryLimitBytes: 8 << 20 });
    t.same(r.findings, [], 'a small volume needs little');
  });

  await t.test('findings say where', async (t) => {
    const v = rich.fork();
    const ino = v.sb().nextIno - 1024 + 5;
    v.editValue({ zone: 16, first: BigInt(ino), type: 4 }, (b) => { b.setUint8(0, 77); });
    v.editValue({ zone: 16, first: 1n, type: 4 }, (b) => { b.setUint8(0, 77); });
    const { findings } = await checkVolume(v.meta, v.data);
    t.same(findings.map((f) => [f.id, f.ino, f.path]),
      [['CHK_DIR_SIZE', 1, '/'], ['CHK_DIR_SIZE', ino, '/d/e']]);
  });

  await t.test('more findings than are kept', async (t) => {
    const v = rich.fork();
    v.editBlock(v.sb().fsRoot.ref.blkno, (b) => {
      for (let i = 0; i < b.getUint16(34, true); i++) b.setUint8(48 + i * 56 + 52, 1);
    });
    const r = await checkVolume(v.meta, v.data, { maxFindings: 3 });
    t.equal(r.findings.length, 3);
    t.ok((r.summary.counts['CHK_BTREE_FLAGS'] ?? 0) > 3, 'all are counted');
  });
});
