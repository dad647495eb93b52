/**
 * The heap: blocks never overlap, everything comes back, a full heap says so, and
 * wrong frees trap with their id.
 */
import t from 'tap';
import { rawCore, seeded, TEST_BASE } from '../lib/core.js';

interface Exports {
  heapInit(base: number, end: number): void;
  heapAlloc(len: number): number;
  heapFree(ptr: number, len: number): void;
  heapFreeBytes(): number;
  heapLargestFree(): number;
  checkId(): number;
}

const fresh = (endBytes: number): ReturnType<typeof rawCore<Exports>> => {
  const core = rawCore<Exports>({ memoryBytes: 16 << 20 });
  core.x.heapInit(TEST_BASE, TEST_BASE + endBytes);
  return core;
};

t.test('random allocation against a list of intervals', (t) => {
  const { x, u8 } = fresh(4 << 20);
  const total = x.heapFreeBytes();
  t.ok(total > (4 << 20) * 0.97 && total < 4 << 20, `usable ${total}`);
  const rnd = seeded(3);
  const live: { ptr: number; len: number; tag: number }[] = [];
  let full = 0;
  for (let i = 0; i < 20_000; i++) {
    if (rnd(5) < 3) {
      const len = rnd(10) === 0 ? rnd(300_000) : rnd(3000);
      const ptr = x.heapAlloc(len);
      if (ptr === 0) {
        full++;
        continue;
      }
      const tag = rnd(256);
      if (ptr < TEST_BASE || ptr + len > TEST_BASE + (4 << 20)) t.fail('outside of the region');
      u8.fill(tag, ptr, ptr + len);
      live.push({ ptr, len, tag });
    } else if (live.length > 0) {
      const [b] = live.splice(rnd(live.length), 1);
      if (b === undefined) continue;
      for (let k = 0; k < b.len; k += 97) {
        if (u8[b.ptr + k] !== b.tag) t.fail(`block at ${b.ptr} was overwritten at ${k}`);
      }
      x.heapFree(b.ptr, b.len);
    }
  }
  t.ok(full > 0, 'the heap was full at times');
  for (const b of live) x.heapFree(b.ptr, b.len);
  t.equal(x.heapFreeBytes(), total);
  t.equal(x.heapLargestFree(), 2 ** Math.floor(Math.log2(total)), 'all buddies are joined again');
  t.end();
});

t.test('alignment and limits', (t) => {
  const { x } = fresh(2 << 20);
  for (const len of [1, 64, 65, 4096, 16_384, 65_536, 131_072]) {
    const ptr = x.heapAlloc(len);
    const size = Math.max(64, 2 ** Math.ceil(Math.log2(len)));
    t.equal(ptr % Math.min(size, 65_536), 0, `${len} bytes are aligned`);
  }
  t.equal(x.heapAlloc(-1), 0);
  t.equal(x.heapAlloc(0x7fffffff), 0);
  t.equal(x.heapAlloc(4 << 20), 0);
  const empty = fresh(0);
  t.equal(empty.x.heapAlloc(1), 0);
  t.equal(empty.x.heapFreeBytes(), 0);
  t.end();
});

t.test('wrong frees trap', (t) => {
  const twice = fresh(1 << 20);
  const p = twice.x.heapAlloc(100);
  twice.x.heapFree(p, 100);
  t.throws(() => { twice.x.heapFree(p, 100); });
  t.equal(twice.x.checkId(), 1);

  const length = fresh(1 << 20);
  const q = length.x.heapAlloc(100);
  t.throws(() => { length.x.heapFree(q, 1000); }, 'another size class');
  t.equal(length.x.checkId(), 1);

  const outside = fresh(1 << 20);
  t.throws(() => { outside.x.heapFree(64, 100); });
  t.equal(outside.x.checkId(), 2);
  t.end();
});
