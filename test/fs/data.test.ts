/**
 * File data: random reads, writes, truncations and reservations against a model
 * held in memory, with random waits, short allocations, pools that run dry and
 * commits in between; and the rules that the model does not show.
 */
import t from 'tap';
import { DATA_EXTENT_TYPE, FS_ZONE } from '../../host/core/format.js';
import { SET_KILL_SUIDGID, SET_MODE, SET_MTIME_NOW, SET_SIZE } from '../../host/fs/vfs.js';
import { MODE_NULL } from '../../host/mount/op.js';
import { File, errno } from '../lib/fakefile.js';
import { keyString, seeded } from '../lib/fakeitems.js';
import type { FakeOptions } from '../lib/fakemount.js';
import { nameOf } from '../lib/fakemount.js';

const BLOCK = 4096;

function bytes(len: number, rnd: () => number): Uint8Array {
  const b = new Uint8Array(len);
  const start = Math.floor(rnd() * 255);
  for (let i = 0; i < len; i++) b[i] = 1 + (start + i * 7) % 255;
  return b;
}

/** A random offset, often near a block boundary. */
function place(rnd: () => number, max: number): number {
  const at = Math.floor(rnd() * max);
  if (rnd() < 0.4) return at - at % BLOCK;
  if (rnd() < 0.2) return Math.max(0, at - at % BLOCK + (rnd() < 0.5 ? -1 : 1));
  return at;
}

async function step(f: File, model: { data: Buffer }, rnd: () => number): Promise<string> {
  const max = 60 * BLOCK;
  const what = rnd();
  const offset = place(rnd, max);
  const len = 1 + Math.floor(rnd() * (rnd() < 0.5 ? 9000 : 90_000));
  const grow = (to: number): void => {
    if (to > model.data.length) {
      model.data = Buffer.concat([model.data, Buffer.alloc(to - model.data.length)]);
    }
  };
  if (what < 0.45) {
    const append = rnd() < 0.3;
    const b = bytes(append ? Math.min(len, 5000) : len, rnd);
    const at = append ? model.data.length : offset;
    if (append && at > 4 * max) return 'enough';
    const w = await f.write(offset, b, { append });
    grow(at + b.length);
    model.data.set(b, at);
    if (w.writtenAt !== at) throw new Error(`written at ${w.writtenAt}, not at ${at}`);
    return `write ${at} ${b.length}`;
  }
  if (what < 0.6) {
    await f.setattr({ valid: SET_SIZE, size: offset });
    model.data = model.data.subarray(0, offset);
    grow(offset);
    return `truncate ${offset}`;
  }
  if (what < 0.7) {
    const keep = rnd() < 0.5;
    await f.fallocate(keep ? 1 : 0, offset, len);
    if (!keep) grow(offset + len);
    return `fallocate ${offset} ${len} ${keep}`;
  }
  const got = await f.read(offset, len);
  const want = model.data.subarray(offset, offset + len);
  if (!got.equals(want)) {
    const at = got.findIndex((b, i) => b !== want[i]);
    throw new Error(`read ${offset} ${len}: ${got.length} bytes, ${want.length} expected, ` +
      `first difference at ${offset + at}`);
  }
  return `read ${offset} ${len}`;
}

t.test('random operations against a model', async (t) => {
  const variants: FakeOptions[] = [
    { seed: 1 },
    { seed: 2, waitChance: 0.1, shortChance: 0.5, preallocBlocks: 16 },
    { seed: 3, waitChance: 0.1, dryChance: 0.3, contigOnly: false, preallocBlocks: 8 },
    { seed: 4, shortChance: 0.9, dryChance: 0.1, contigOnly: false, preallocBlocks: 13 },
  ];
  for (const o of variants) {
    const f = await File.make(o);
    const model = { data: Buffer.alloc(0) };
    const rnd = seeded((o.seed ?? 0) * 31);
    for (let i = 0; i < 250; i++) {
      const label = await step(f, model, rnd).catch((e: unknown) => {
        throw new Error(`seed ${o.seed}, step ${i}: ${String(e)}`);
      });
      const bad = f.bad();
      if (bad.length > 0) t.fail(`seed ${o.seed}, step ${i}, ${label}: ${bad.join('; ')}`);
    }
    const { size } = await f.attr();
    t.equal(size, model.data.length, `seed ${o.seed}: size`);
    const whole: Buffer[] = [];
    for (let at = 0; at < size; at += 1048576) whole.push(await f.read(at, 1048576));
    t.ok(Buffer.concat(whole).equals(model.data), `seed ${o.seed}: contents`);
    await f.m.run((op) => { f.m.fs.unlink(op, f.m.caller, 1, nameOf('f')); });
    f.m.fs.evict(f.ino);
    await f.m.clock.advance(0);
    for (let i = 0; i < 500 && f.m.items.store.has(keyString(FS_ZONE, f.ino, 4, 0, 0, 0)); i++) {
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    t.strictSame(f.bad(), [], `seed ${o.seed}: nothing is left after deletion`);
    t.equal(f.m.alloc.used.size, 0);
    t.strictSame(f.m.failures, []);
  }
});

t.test('concurrent operations on one file', async (t) => {
  const f = await File.make({ seed: 5, waitChance: 0.1 });
  const parts = Array.from({ length: 40 }, (_, i) => Buffer.alloc(100, 65 + i % 26));
  const at = await Promise.all(parts.map((b) => f.write(0, b, { append: true })));
  t.strictSame(at.map((w) => Number(w.writtenAt)).sort((a, b) => a - b),
    parts.map((_, i) => i * 100), 'appends do not overlap');
  const got = await f.read(0, 4000);
  for (const [i, w] of at.entries()) {
    const start = Number(w.writtenAt);
    const b = got.subarray(start, start + 100);
    if (!b.equals(parts[i] ?? Buffer.alloc(0))) t.fail(`append ${i} is damaged`);
  }
  const mixed = await Promise.all([
    f.write(0, Buffer.alloc(BLOCK, 1)), f.read(0, BLOCK), f.setattr({ valid: SET_SIZE, size: 10 }),
    f.write(5, Buffer.alloc(3, 2)), f.read(0, BLOCK),
  ]);
  t.ok(mixed);
  t.strictSame(f.bad(), []);
});

t.test('a large truncation is finished by whoever comes next', async (t) => {
  const f = await File.make({ seed: 6 });
  for (let b = 0; b < 100; b++) await f.write(b * 2 * BLOCK, Buffer.alloc(BLOCK, 9));
  const before = f.inodeField(24);
  await f.setattr({ valid: SET_SIZE, size: BLOCK });
  t.strictSame(f.bad(), []);
  t.equal((await f.attr()).blocks, 8, 'one block is left');
  t.equal(f.inodeField(24), before + 1, 'the data version counts one change');

  for (let b = 0; b < 100; b++) await f.write(b * 2 * BLOCK, Buffer.alloc(BLOCK, 9));
  const inode = keyString(FS_ZONE, f.ino, 4, 0, 0, 0);
  const val = f.m.items.store.get(inode)?.slice() ?? new Uint8Array(0);
  const v = new DataView(val.buffer);
  v.setBigUint64(0, 3n, true);
  v.setUint32(92, 1, true);
  f.m.plant(inode, val);
  t.equal((await f.read(0, 100)).length, 3, 'reads do not look behind the size');
  await f.write(0, Buffer.from('x'));
  t.strictSame(f.bad(), []);
  t.equal((await f.attr()).blocks, 8, 'the writer finished the truncation');
  t.equal(new DataView((f.m.items.store.get(inode) ?? val).buffer).getUint32(92, true), 0);
});

t.test('holes and data', async (t) => {
  const f = await File.make({ seed: 7 });
  await f.write(2 * BLOCK, Buffer.alloc(BLOCK, 1));
  await f.fallocate(0, 4 * BLOCK, 2 * BLOCK);
  await f.write(9 * BLOCK + 5, Buffer.alloc(10, 1));
  t.equal(await f.seek(0, 3), 2 * BLOCK);
  t.equal(await f.seek(0, 4), 0);
  t.equal(await f.seek(2 * BLOCK + 7, 3), 2 * BLOCK + 7);
  t.equal(await f.seek(2 * BLOCK + 7, 4), 3 * BLOCK);
  t.equal(await f.seek(3 * BLOCK, 3), 9 * BLOCK, 'reserved blocks are holes');
  t.equal(await f.seek(9 * BLOCK, 4), 9 * BLOCK + 15, 'the end is a hole');
  t.equal(await errno(f.seek(9 * BLOCK + 15, 3)), 'ENXIO');
  t.equal(await errno(f.seek(0, 2)), 'EINVAL');
});

t.test('attributes', async (t) => {
  const f = await File.make({ seed: 8 });
  t.equal((await f.setattr({ valid: SET_MODE, mode: 0o106755 })).mode, 0o106755);
  await f.write(0, Buffer.from('a'), { killSuidgid: true });
  t.equal((await f.attr()).mode, 0o100755, 'a write takes the set-id bits away');
  await f.setattr({ valid: SET_MODE, mode: 0o106755 });
  const version = f.inodeField(64);
  const a = await f.setattr({ valid: SET_SIZE | SET_KILL_SUIDGID | SET_MTIME_NOW, size: 0 });
  t.equal(a.mode, 0o100755);
  t.equal(f.inodeField(64), version + 2, 'size and attributes count each');
  const dataVersion = f.inodeField(24);
  await f.setattr({ valid: SET_SIZE, size: 0 });
  t.equal(f.inodeField(24), dataVersion, 'the same size is no new version of the contents');
  t.equal(await errno(f.fallocate(2, 0, 10)), 'EOPNOTSUPP');
});

t.test('the device runs full', async (t) => {
  const f = await File.make({ seed: 9, dataBlocks: 1010 });
  const w = await errno(f.write(0, Buffer.alloc(20 * BLOCK, 1)));
  t.equal(w, 'EIO', 'the helper reports the short write');
  t.equal((await f.attr()).size, 10 * BLOCK, 'what fitted was written');
  t.equal(await errno(f.write(10 * BLOCK, Buffer.from('x'))), 'ENOSPC');
  await f.write(0, Buffer.from('overwriting needs no space'));
  t.strictSame(f.bad(), []);
});

t.test('page write-back is clipped and never waits', async (t) => {
  const f = await File.make({ seed: 10, waitChance: 0.3 });
  await f.write(0, Buffer.alloc(5000, 1));
  await f.write(4096, Buffer.alloc(BLOCK, 2), { cached: true });
  t.equal((await f.attr()).size, 5000);
  t.equal((await f.read(4096, 10_000)).length, 904);
  await f.write(8192, Buffer.alloc(BLOCK, 3), { cached: true });
  t.equal((await f.attr()).size, 5000, 'a page behind the end is dropped');
  await f.setattr({ valid: SET_SIZE, size: 8192 });
  t.ok((await f.read(5000, 3192)).every((b) => b === 0), 'the tail is zeros');
});

t.test('offline data', async (t) => {
  const f = await File.make({ seed: 11 });
  await f.setattr({ valid: SET_SIZE, size: 4 * BLOCK });
  const extent = keyString(FS_ZONE, f.ino, DATA_EXTENT_TYPE, 3, 2, 0);
  const val = new Uint8Array(16);
  val[8] = 1;
  f.m.plant(extent, val);
  const inode = keyString(FS_ZONE, f.ino, 4, 0, 0, 0);
  const item = f.m.items.store.get(inode)?.slice() ?? new Uint8Array(0);
  new DataView(item.buffer).setBigUint64(40, 2n, true);
  f.m.plant(inode, item);
  t.strictSame(f.bad(), []);

  t.equal((await f.read(0, 2 * BLOCK)).length, 2 * BLOCK, 'the online part can be read');
  let done = 0;
  const waiting = [
    f.read(0, 3 * BLOCK), f.write(0, Buffer.from('x')),
    f.setattr({ valid: SET_SIZE, size: 3 * BLOCK }),
  ].map((p) => errno(p).then((r) => { done += 1; return r; }));
  await f.m.clock.advance(0);
  t.equal(done, 0, 'everything else waits');
  t.strictSame(f.m.fs.waiters.of(f.ino).map((w) => [w.block, w.op]), [[2, 1], [2, 2], [2, 4]]);
  f.m.fs.lockLost(f.ino - f.ino % 1024, 1024, MODE_NULL);
  await f.m.clock.advance(0);
  t.equal(done, 0, 'and looks again when the lock was away');
  t.equal(f.m.fs.waiters.of(f.ino).length, 3);
  await f.setattr({ valid: SET_SIZE, size: 0 });
  t.strictSame(await Promise.all(waiting), ['ok', 'ok', 'ok'], 'size 0 never waits, and wakes');
  t.equal(f.m.fs.waiters.inodes().length, 0);
  t.strictSame(f.bad(), []);
});

t.test('a device that fails for a while', async (t) => {
  const f = await File.make({ seed: 12 });
  await f.write(0, Buffer.alloc(3 * BLOCK, 1));
  f.m.device.failWrites = true;
  t.equal(await errno(f.write(BLOCK, Buffer.alloc(2 * BLOCK + 10, 2))), 'EIO', 'the writer knows');
  let committed = false;
  const commit = f.m.commit().then(() => { committed = true; });
  await f.m.clock.advance(10_000);
  t.equal(committed, false, 'items that point at unwritten blocks are not committed');
  t.match(f.m.fs.pending(), [{ kind: 'device', text: /; repeated every 2 s/ }], 'and it says why');
  f.m.device.failWrites = false;
  await f.m.clock.advance(2000);
  await commit;
  t.equal((await f.read(0, 5 * BLOCK)).compare(Buffer.concat(
    [Buffer.alloc(BLOCK, 1), Buffer.alloc(2 * BLOCK + 10, 2)])), 0, 'the data arrived');
  t.strictSame(f.m.fs.pending(), []);
});

t.test('a read that loses its blocks is done again', async (t) => {
  const f = await File.make({ seed: 13 });
  await f.write(0, Buffer.alloc(2 * BLOCK, 1));
  const reading = f.read(0, 2 * BLOCK);
  await f.setattr({ valid: SET_SIZE, size: 0 });
  const got = await reading;
  t.ok(got.length === 0 || got.every((b) => b === 1), 'never what a new owner put there');
  t.strictSame(f.bad(), []);
});
