/** The pools of inode numbers against the vectors, and how they are refilled. */
import t from 'tap';
import { InoPool, InoPools } from '../../host/mount/ino_pool.js';
import { Wait } from '../../host/mount/op.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface Vector { range_first: number; range_nr: number; per_lock: number; events: number[];
  last: number; allocated: number }

void t.test('vectors: ino_alloc', { skip: skipWithoutSpec() }, (t) => {
  const all = vectors('fs-vectors.json') as { ino_alloc: Vector[] };
  for (const v of all.ino_alloc) {
    const pool = new InoPool();
    pool.fill({ first: v.range_first, nr: v.range_nr });
    const events: number[] = [];
    let last = -1;
    let allocated = 0;
    for (; !pool.empty; allocated++) {
      const ino = pool.take(v.per_lock);
      if (ino !== last + 1 || last < 0) events.push(ino);
      last = ino;
    }
    t.strictSame(events, v.events);
    t.equal(last, v.last);
    t.equal(allocated, v.allocated);
  }
  t.end();
});

async function take(pools: InoPools, isDir: boolean): Promise<number> {
  for (;;) {
    try {
      return pools.take(isDir);
    } catch (e) {
      if (!(e instanceof Wait)) throw e;
      await e.ready;
    }
  }
}

void t.test('directories have their own numbers, unless fewer share a lock', async (t) => {
  let next = 1024;
  let requests = 0;
  let perLock = 1024;
  const pools = new InoPools((nr) => {
    requests += 1;
    next += nr;
    return Promise.resolve({ first: next - nr, nr });
  }, () => perLock);
  const got = await Promise.all([take(pools, false), take(pools, false), take(pools, true)]);
  t.strictSame(got, [1024, 1025, 11264]);
  t.equal(requests, 2, 'concurrent takers share a request');
  perLock = 2;
  t.equal(await take(pools, true), 1026);
  t.equal(await take(pools, false), 2048);
});

void t.test('a volume without numbers, and a server that answers nonsense', async (t) => {
  const none = new InoPools(() => Promise.resolve({ first: 0, nr: 0 }), () => 1024);
  t.equal(await take(none, false).catch((e: unknown) => asScoutfsError(e).errno), 'ENOSPC');
  const wraps = new InoPools(
    () => Promise.resolve({ first: Number.MAX_SAFE_INTEGER, nr: 10 }), () => 1024);
  t.equal(await take(wraps, false).catch((e: unknown) => asScoutfsError(e).errno), 'EINVAL');
});
