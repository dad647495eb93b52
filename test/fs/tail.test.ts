/**
 * Bytes behind the end of a file, which a mount that died left on the device when it
 * appended without a commit, never come to light when the file grows.
 */
import t from 'tap';
import { ROOT_INO } from '../../host/core/constants.js';
import { checkVolume } from '../../host/disk/check.js';
import { SET_SIZE } from '../../host/fs/vfs.js';
import type { SimKernel } from '../lib/simkernel.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import type { SimVolume } from '../lib/simmount.js';
import { SimWorld } from '../lib/simworld.js';

t.setTimeout(240_000);

const UNIT = 4096;
const SIZE = 5000;
const JUNK = 0xee;

/** Ways of growing, and what they leave behind the old end. */
const GROW: readonly (readonly [string, (k: SimKernel, ino: number) => Promise<unknown>])[] = [
  ['a larger size', (k, ino) => k.setattr(ino, { valid: SET_SIZE, size: 3 * UNIT })],
  ['a write some blocks behind', (k, ino) => k.write(ino, 4 * UNIT + 10, Buffer.alloc(9, 1))],
  ['a write later in the block', (k, ino) => k.write(ino, SIZE + 100, Buffer.alloc(9, 1))],
  ['an append across blocks', (k, ino) => k.write(ino, SIZE + 5, Buffer.alloc(2 * UNIT, 1))],
  ['fallocate', (k, ino) => k.fallocate(ino, 0, SIZE + 7, 2 * UNIT)],
];

/** Fills what lies behind the end of the file's last block. */
function leaveJunk(v: SimVolume, written: number): void {
  const unit = new Uint8Array(UNIT);
  for (let nr = 64; nr < 4096; nr++) {
    v.data.readSync(nr * UNIT, unit);
    if (unit[0] !== written || unit[SIZE % UNIT] !== 0) continue;
    v.data.writeSync(nr * UNIT, unit.fill(JUNK, SIZE % UNIT));
    return;
  }
  throw new Error('the last block is nowhere');
}

for (const [i, [what, grow]] of GROW.entries()) {
  t.test(what, async (t) => {
    const w = new SimWorld(i + 1);
    const v = await simVolume(w);
    const first = await w.run(SimMount.start(w.host(1), v));
    const ino = await w.run(first.kernel.writeFile(ROOT_INO, 'f', Buffer.alloc(SIZE, 7 + i)));
    await w.run(first.unmount());
    leaveJunk(v, 7 + i);
    const m = await w.run(SimMount.start(w.host(1), v));
    await w.run(m.kernel.lookup(ROOT_INO, 'f'));
    await w.run(grow(m.kernel, ino));
    await w.run(m.kernel.fsync(ino));
    const size = Number((await w.run(m.kernel.getattr(ino))).size);
    const bytes = await w.run(m.kernel.read(ino, 0, size));
    t.ok(size > SIZE && bytes.length === size);
    t.same(bytes.subarray(0, SIZE), new Uint8Array(SIZE).fill(7 + i), 'what was there');
    t.notOk(bytes.includes(JUNK), 'zeros and what was written');
    await w.run(m.unmount());
    t.same((await checkVolume(v.meta, v.data)).findings, []);
  });
}

t.test('a mount that had the lock meanwhile wrote in place and died', async (t) => {
  const w = new SimWorld(9);
  const v = await simVolume(w);
  const m = await w.run(SimMount.start(w.host(1), v));
  const other = await w.run(SimMount.start(w.host(2), v, { slotNr: null }));
  const ino = await w.run(m.kernel.writeFile(ROOT_INO, 'f', Buffer.alloc(SIZE, 7)));
  await w.run(m.kernel.fsync(ino));
  await w.run(other.kernel.lookup(ROOT_INO, 'f'));
  await w.run(other.kernel.write(ino, 0, Buffer.alloc(3 * UNIT, JUNK), undefined, true));
  other.crash();
  t.equal(Number((await w.run(m.kernel.getattr(ino))).size), SIZE, 'its append was not committed');
  await w.run(m.kernel.setattr(ino, { valid: SET_SIZE, size: 3 * UNIT }));
  const bytes = await w.run(m.kernel.read(ino, 0, 3 * UNIT));
  t.notOk(bytes.includes(JUNK), 'and never comes to light');
  await w.run(m.unmount());
  t.same((await checkVolume(v.meta, v.data)).findings, []);
});
