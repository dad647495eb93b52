/**
 * Combining of increments: wrapping sums, null, wrong lengths, other zones.
 */
import t from 'tap';
import { rawCore, TEST_BASE } from '../lib/core.js';

interface Exports {
  deltaCombine(zone: number, dst: number, dstLen: number, src: number, srcLen: number): number;
}

const { x, view } = rawCore<Exports>({ memoryBytes: 2 << 20 });
const DST = TEST_BASE;
const SRC = TEST_BASE + 64;

function set(at: number, total: bigint, count: bigint): void {
  view.setBigInt64(at, total, true);
  view.setBigInt64(at + 8, count, true);
}

function get(at: number): [bigint, bigint] {
  return [view.getBigInt64(at, true), view.getBigInt64(at + 8, true)];
}

t.test('sums', (t) => {
  set(DST, 100n, 1n);
  set(SRC, -30n, 1n);
  t.equal(x.deltaCombine(12, DST, 16, SRC, 16), 1);
  t.same(get(DST), [70n, 2n]);
  set(SRC, -70n, -2n);
  t.equal(x.deltaCombine(12, DST, 16, SRC, 16), 2, 'both sums zero is null');
  t.same(get(DST), [0n, 0n]);
  set(SRC, 5n, 0n);
  t.equal(x.deltaCombine(12, DST, 16, SRC, 16), 1, 'count zero alone is not null');
  set(DST, 2n ** 63n - 1n, 0n);
  set(SRC, 1n, 0n);
  t.equal(x.deltaCombine(12, DST, 16, SRC, 16), 1);
  t.same(get(DST), [-(2n ** 63n), 0n], 'sums wrap');
  t.end();
});

t.test('wrong lengths and other zones change nothing', (t) => {
  set(DST, 1n, 1n);
  set(SRC, 1n, 1n);
  t.equal(x.deltaCombine(12, DST, 15, SRC, 16), -5);
  t.equal(x.deltaCombine(12, DST, 16, SRC, 0), -5);
  for (const zone of [4, 8, 10, 14, 16]) {
    t.equal(x.deltaCombine(zone, DST, 16, SRC, 16), 0);
    t.equal(x.deltaCombine(zone, DST, 3, SRC, 7), 0);
  }
  t.same(get(DST), [1n, 1n]);
  t.end();
});
