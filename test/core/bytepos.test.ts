/**
 * Positions up to 2^63 - 1 against the same arithmetic in bigints.
 */
import fc from 'fast-check';
import t from 'tap';
import * as P from '../../host/core/bytepos.js';

const EDGES = [0n, 1n, 4095n, 4096n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n,
  2n ** 62n, 2n ** 63n - 4097n, 2n ** 63n - 4096n, 2n ** 63n - 1n];
const anyPos = fc.oneof(fc.constantFrom(...EDGES), fc.bigInt(0n, 2n ** 63n - 1n),
  fc.bigInt(2n ** 53n - 9000n, 2n ** 53n + 9000n));

t.test('one form for each value', (t) => {
  t.equal(typeof P.toPos(2n ** 53n - 1n), 'number');
  t.equal(typeof P.toPos(2n ** 53n), 'bigint');
  t.equal(P.addPos(2 ** 53 - 1, 1), 2n ** 53n);
  t.equal(P.addPos(2n ** 53n, -1), 2 ** 53 - 1);
  t.equal(P.posOfBlock(2 ** 41), 2n ** 53n);
  t.end();
});

t.test('as bigints compute it', (t) => {
  const v = new DataView(new ArrayBuffer(8));
  fc.assert(fc.property(anyPos, anyPos, (a, b) => {
    const [p, q] = [P.toPos(a), P.toPos(b)];
    v.setBigUint64(0, a, true);
    const read = P.readPos(v, 0);
    v.setBigUint64(0, 0n, true);
    P.setPos(v, 0, p);
    const near = a - b < 2n ** 53n && b - a < 2n ** 53n;
    return read === p && v.getBigUint64(0, true) === a
      && P.addPos(p, q) === P.toPos(a + b)
      && (p < q) === (a < b) && (p === q) === (a === b)
      && P.minPos(p, q) === P.toPos(a < b ? a : b) && P.maxPos(p, q) === P.toPos(a < b ? b : a)
      && Math.sign(P.distance(p, q)) === (a < b ? 1 : a > b ? -1 : 0)
      && (!near || P.distance(p, q) === Number(b - a))
      && BigInt(P.blockOf(p)) === a / 4096n && BigInt(P.restOf(p)) === a % 4096n
      && BigInt(P.blocksTo(p)) === (a + 4095n) / 4096n
      && P.posOfBlock(P.blockOf(p)) === P.toPos(a - a % 4096n);
  }), { numRuns: 2000 });
  t.end();
});

t.test('the limit', (t) => {
  const v = new DataView(new ArrayBuffer(8));
  t.equal(P.isPos(P.POS_MAX), true);
  t.equal(P.isPos(P.addPos(P.POS_MAX, 1)), false);
  t.equal(P.isPos(-1), false);
  t.equal(P.roomAt(2n ** 63n - 3n, 100), 2);
  t.equal(P.roomAt(P.POS_MAX, 1), 0);
  t.equal(P.roomAt(2n ** 62n, 100), 100);
  v.setBigUint64(0, 2n ** 63n, true);
  t.equal(P.getPos(v, 0), 2n ** 63n);
  t.throws(() => P.readPos(v, 0), { code: 'U64_RANGE', errno: 'EIO' });
  t.throws(() => { P.setPos(v, 0, 2n ** 63n); }, { code: 'U64_RANGE' });
  t.throws(() => { P.setPos(v, 0, -1); }, { code: 'U64_RANGE' });
  t.end();
});
