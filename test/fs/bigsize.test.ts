/**
 * Files that reach beyond 2^53, where numbers are not exact, and up to 2^63 - 1, where
 * they end: random operations in a window there against a model, and the edges.
 */
import t from 'tap';
import { POS_MAX, toPos } from '../../host/core/bytepos.js';
import { FS_ZONE } from '../../host/core/format.js';
import { SET_SIZE } from '../../host/fs/vfs.js';
import { File, errno } from '../lib/fakefile.js';
import { keyString, seeded } from '../lib/fakeitems.js';

const BLOCK = 4096;
const WINDOW = 40 * BLOCK;
const END = 2n ** 63n - 1n;
const DATA = 3;
const HOLE = 4;

/** A file of `base` bytes, and what happens behind them. */
class Window {
  model = Buffer.alloc(0);

  private constructor(readonly f: File, readonly base: bigint) {}

  static async make(seed: number, base: bigint): Promise<Window> {
    const f = await File.make({ seed, waitChance: 0.1, shortChance: 0.3, preallocBlocks: 8,
      contigOnly: seed % 2 === 0 });
    await f.setattr({ valid: SET_SIZE, size: toPos(base) });
    return new Window(f, base);
  }

  at(off: number): number | bigint {
    return toPos(this.base + BigInt(off));
  }

  private reach(to: number): void {
    this.model = Buffer.concat([this.model, Buffer.alloc(Math.max(0, to - this.model.length))]);
  }

  async step(rnd: () => number): Promise<void> {
    const { f } = this;
    const what = rnd();
    const near = rnd() < 0.3 ? this.model.length : Math.floor(rnd() * WINDOW);
    const off = Math.min(WINDOW - 1, near);
    const len = 1 + Math.floor(rnd() * Math.min(20_000, WINDOW - off - 1));
    if (what < 0.4) {
      const append = rnd() < 0.2 && this.model.length + len <= WINDOW;
      const bytes = Buffer.alloc(len, 1 + Math.floor(rnd() * 255));
      const to = append ? this.model.length : off;
      const w = await f.write(append ? 0 : this.at(off), bytes, { append });
      if (w.writtenAt !== this.at(to)) throw new Error(`written at ${w.writtenAt}`);
      this.reach(to + len);
      this.model.set(bytes, to);
    } else if (what < 0.55) {
      await f.setattr({ valid: SET_SIZE, size: this.at(off) });
      this.model = this.model.subarray(0, off);
      this.reach(off);
    } else if (what < 0.65) {
      await f.fallocate(0, this.at(off), len);
      this.reach(off + len);
    } else {
      const got = await f.read(this.at(off), len);
      if (!got.equals(this.model.subarray(off, off + len))) throw new Error(`read ${off} ${len}`);
    }
  }
}

const BASES: [string, bigint][] = [
  ['around 2^53', 2n ** 53n - 5n * 4096n - 7n], ['at 2^62', 2n ** 62n],
  ['up to the end', END - BigInt(WINDOW)],
];

t.test('random operations against a model', async (t) => {
  for (const [i, [what, base]] of BASES.entries()) {
    const w = await Window.make(i + 1, base);
    const rnd = seeded(i + 77);
    for (let n = 0; n < 120; n++) {
      await w.step(rnd);
      const { size } = await w.f.attr();
      if (size !== w.at(w.model.length)) t.fail(`${what}, step ${n}: size ${size}`);
      const bad = w.f.bad();
      if (bad.length > 0) t.fail(`${what}, step ${n}: ${bad.join('; ')}`);
    }
    t.ok((await w.f.read(toPos(base), WINDOW)).equals(w.model), what);
    await w.f.setattr({ valid: SET_SIZE, size: 1 });
    t.equal((await w.f.attr()).blocks, 0, 'truncation frees what lies there');
    t.equal(w.f.m.alloc.used.size, 0);
  }
});

t.test('the last byte', async (t) => {
  const f = await File.make({ seed: 21 });
  await t.rejects(f.write(END - 2n, Buffer.from('abcde')), /short write: 2 of 5/);
  t.equal((await f.attr()).size, POS_MAX);
  t.equal((await f.read(2n ** 63n - 4096n, BLOCK)).toString('latin1'), `${'\0'.repeat(4093)}ab`);
  t.equal((await f.read(END - 1n, 100)).toString(), 'b');
  t.equal((await f.read(END, 100)).length, 0);
  t.equal(await errno(f.write(END, Buffer.from('x'))), 'EFBIG');
  t.equal(await errno(f.write(0, Buffer.from('x'), { append: true })), 'EFBIG');
  await f.write(2n ** 63n - 4096n, Buffer.alloc(BLOCK, 7), { cached: true });
  t.equal((await f.attr()).size, POS_MAX, 'write-back is clipped');
  t.equal((await f.read(END - 1n, 100))[0], 7);
  t.strictSame(f.bad(), []);
});

t.test('the largest sizes', async (t) => {
  const f = await File.make({ seed: 22 });
  await f.write(0, Buffer.from('begin'));
  t.equal((await f.setattr({ valid: SET_SIZE, size: END })).size, POS_MAX);
  t.equal(await errno(f.setattr({ valid: SET_SIZE, size: END + 1n })), 'EFBIG');
  t.equal((await f.setattr({ valid: SET_SIZE, size: 2n ** 53n })).size, 2n ** 53n);
  t.equal((await f.setattr({ valid: SET_SIZE, size: 2 ** 53 - 1 })).size, 2 ** 53 - 1);
  t.equal((await f.read(0, 100)).toString('latin1', 0, 5), 'begin');
  await f.fallocate(0, END - 5000n, 5000);
  t.equal((await f.attr()).size, POS_MAX);
  t.equal(await errno(f.fallocate(0, END - 5000n, 5001)), 'EFBIG');
  t.equal(await errno(f.fallocate(0, END, END)), 'EFBIG');
  t.equal((await f.read(END - 4n, 10)).toString('latin1'), '\0\0\0\0');
  t.strictSame(f.bad(), []);
});

t.test('holes and data', async (t) => {
  const f = await File.make({ seed: 23 });
  const far = 2n ** 62n;
  await f.write(far, Buffer.from('far data'));
  t.equal(await f.seek(0, DATA), far);
  t.equal(await f.seek(far - 1n, HOLE), far - 1n);
  t.equal(await f.seek(far + 3n, DATA), far + 3n);
  t.equal(await f.seek(far + 3n, HOLE), far + 8n, 'the end is a hole');
  await f.setattr({ valid: SET_SIZE, size: END });
  t.equal(await f.seek(far, HOLE), far + 4096n);
  t.equal(await errno(f.seek(far + 4096n, DATA)), 'ENXIO');
  t.equal(await f.seek(END - 1n, HOLE), END - 1n);
  await f.write(END - 1n, Buffer.from('!'));
  t.equal(await f.seek(far + 4096n, DATA), 2n ** 63n - 4096n);
  t.equal(await f.seek(END - 1n, HOLE), END);
  t.equal(await errno(f.seek(END, HOLE)), 'ENXIO');
});

t.test('a stored size that no file can have', async (t) => {
  const f = await File.make({ seed: 24 });
  const key = keyString(FS_ZONE, f.ino, 4, 0, 0, 0);
  const val = f.m.items.store.get(key)?.slice() ?? new Uint8Array(0);
  new DataView(val.buffer).setBigUint64(0, 2n ** 63n, true);
  f.m.plant(key, val);
  t.equal(await errno(f.attr()), 'EIO');
});
