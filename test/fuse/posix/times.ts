/**
 * utimensat(2), futimens(3): given times, NOW, OMIT, and who may use which. Times are exact
 * to the nanosecond, from long before 1970 to long after 2038.
 */
import * as c from '../../lib/syscalls.js';
import type { Time } from '../../lib/syscalls.js';
import { OTHER, USER, fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { NOW, OMIT } = c;

function ns([sec, nsec]: Time): bigint {
  return BigInt(sec) * 1_000_000_000n + BigInt(nsec);
}

export function times(x: Area): void {
  x.both('exact times', (t, d) => {
    put(`${d}/f`);
    const samples: Time[] = [
      [0, 0], [0, 1], [0, 999_999_999], [-1, 0], [-1, 999_999_999], [-2_147_483_649, 5],
      [2_147_483_647, 999_999_999], [2_147_483_648, 1], [4_294_967_296, 123_456_789],
      [-62_135_596_800, 7], [253_402_300_799, 999_999_999], [17_179_869_183, 3],
    ];
    for (const [i, atime] of samples.entries()) {
      const mtime = samples[samples.length - 1 - i] ?? [0, 0];
      tick();
      const before = c.lstat(`${d}/f`);
      t.equal(c.utimens(`${d}/f`, [atime, mtime]), 0);
      const s = c.lstat(`${d}/f`);
      t.strictSame([s.atime, s.mtime], [ns(atime), ns(mtime)], atime.join('.'));
      t.ok(s.ctime > before.ctime && s.btime === before.btime);
    }
  });

  x.both('NOW and OMIT', (t, d) => {
    const p = `${d}/f`;
    put(p);
    const reset = (): void => { c.ok(c.utimens(p, [[100, 1], [200, 2]])); tick(); };
    const is = (times: readonly [Time, Time] | null, a: bigint | 'now', m: bigint | 'now',
      what: string): void => {
      reset();
      const before = c.lstat(p);
      t.equal(c.utimens(p, times), 0, what);
      const s = c.lstat(p);
      t.ok(a === 'now' ? s.atime > before.ctime : s.atime === a, `${what}: atime`);
      t.ok(m === 'now' ? s.mtime > before.ctime : s.mtime === m, `${what}: mtime`);
    };
    is(null, 'now', 'now', 'null');
    is([NOW, NOW], 'now', 'now', 'both now');
    is([NOW, OMIT], 'now', 200_000_000_002n, 'atime now');
    is([OMIT, NOW], 100_000_000_001n, 'now', 'mtime now');
    is([[5, 5], OMIT], 5_000_000_005n, 200_000_000_002n, 'atime given');
    is([OMIT, [6, 6]], 100_000_000_001n, 6_000_000_006n, 'mtime given');
    is([NOW, [7, 7]], 'now', 7_000_000_007n, 'now and given');
    reset();
    const before = c.lstat(p);
    t.equal(c.utimens(p, [OMIT, OMIT]), 0);
    t.strictSame(c.lstat(p), before, 'omitting both changes nothing');
    const fd = fdOf(p, c.O.RDONLY);
    t.equal(c.futimens(fd, [[1, 2], [3, 4]]), 0);
    t.equal(c.fstat(fd).mtime, 3_000_000_004n);
    c.close(fd);
    t.equal(c.utimens(p, [[1, 1_000_000_000], [0, 0]]), 'EINVAL');
    t.equal(c.utimens(p, [[1, 0], [0, -1]]), 'EINVAL');
    c.ok(c.mkdir(`${d}/dir`));
    t.equal(c.utimens(`${d}/dir`, [[1, 0], [2, 0]]), 0);
    t.equal(c.lstat(`${d}/dir`).mtime, 2_000_000_000n);
  });

  x.root('permission', (t, d) => {
    const p = `${d}/f`;
    put(p);
    const asks: [what: string, times: readonly [Time, Time] | null, writer: c.Res][] = [
      ['null', null, 0], ['now', [NOW, NOW], 0], ['given', [[1, 0], [2, 0]], 'EPERM'],
      ['now and omit', [NOW, OMIT], 'EPERM'], ['omit and now', [OMIT, NOW], 'EPERM'],
      ['omit both', [OMIT, OMIT], 0],
    ];
    for (const [what, times, writer] of asks) {
      c.ok(c.chown(p, OTHER.uid, OTHER.gid));
      c.ok(c.chmod(p, 0o666));
      t.equal(c.as(USER, () => c.utimens(p, times)), writer, `${what}: who may write`);
      c.ok(c.chmod(p, 0o644));
      const none = what === 'omit both' ? 0 : writer === 0 ? 'EACCES' : 'EPERM';
      t.equal(c.as(USER, () => c.utimens(p, times)), none, `${what}: who may not`);
      c.ok(c.chmod(p, 0));
      t.equal(c.as(OTHER, () => c.utimens(p, times)), 0, `${what}: the owner`);
      t.equal(c.utimens(p, times), 0, `${what}: root`);
    }
  });

  x.both('reading does not change atime', (t, d) => {
    // The mount's policy is noatime: inode.md 10 leaves it free, archives prefer it.
    put(`${d}/f`, 'x');
    c.ok(c.utimens(`${d}/f`, [[100, 0], [200, 0]]));
    const before = c.lstat(`${d}/f`);
    tick();
    t.equal(get(`${d}/f`), 'x');
    t.strictSame(c.lstat(`${d}/f`), before);
  });
}
