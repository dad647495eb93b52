/**
 * The machine's clock: wall time that never goes back while the system's does not, and that
 * stays within a millisecond of it.
 */
import t from 'tap';
import { realClock } from '../../host/env/clock.js';

const ROUNDS = 300_000;

t.test('wall time', (t) => {
  let last = 0n;
  let back = 0;
  let off = 0;
  const seen = new Set<number>();
  for (let i = 0; i < ROUNDS; i++) {
    const before = Date.now();
    const { sec, nsec } = realClock.now();
    const after = Date.now();
    const ns = BigInt(sec) * 1_000_000_000n + BigInt(nsec);
    if (ns < last) back += 1;
    last = ns;
    const ms = sec * 1000 + Math.floor(nsec / 1e6);
    if (ms < before || ms > after || !Number.isInteger(nsec) || nsec >= 1e9) off += 1;
    seen.add(nsec % 1_000_000);
  }
  t.equal(back, 0, 'never goes back');
  t.equal(off, 0, 'in the millisecond of the system clock');
  t.ok(seen.size > 100, 'has digits below the millisecond');
  t.end();
});
