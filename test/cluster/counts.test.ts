/**
 * What it costs that others exist, in messages and commits, exactly.
 *
 * Several mounts in one simulated world, without background work: the same operations lead
 * to the same messages every time. Mounts that keep to directories of their own must not
 * cost each other anything; those that share pay one commit for each time that written
 * items change hands, and nothing for what is only read.
 */
import t from 'tap';
import {
  NET_CMD_ALLOC_INODES, NET_CMD_COMMIT_LOG_TREES, NET_CMD_GET_LOG_TREES, NET_CMD_LOCK, ROOT_INO,
} from '../../host/core/format.js';
import { C } from '../../host/observe/counters.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import { SimWorld } from '../lib/simworld.js';

t.setTimeout(120_000);

const CREATES = 1000;
const COMMIT_EVERY = 250;
const ROUNDS = 10;
const WARM_ROUNDS = 2;
const BYTES = new Uint8Array(100);
const CMD_OFF = 26;

/** Requests of mounts and of the server by name. */
interface Messages {
  locks: number;
  invalidations: number;
  inodes: number;
  gets: number;
  commits: number;
}

interface Rig {
  world: SimWorld;
  mounts: SimMount[];
  /** Counts what `work` leads to. */
  count(work: () => Promise<void>): Promise<Messages>;
}

/** `nr` mounts on as many hosts; the first one leads. */
async function rig(nr: number): Promise<Rig> {
  const world = new SimWorld(nr);
  const volume = await simVolume(world);
  const mounts: SimMount[] = [];
  for (let i = 1; i <= nr; i++) {
    mounts.push(await world.run(SimMount.start(world.host(i), volume, {
      background: false, ...(i === 1 ? {} : { slotNr: null }),
    })));
  }
  return {
    world, mounts,
    async count(work) {
      const m: Messages = { locks: 0, invalidations: 0, inodes: 0, gets: 0, commits: 0 };
      const server = world.host(1).addr;
      world.net.onWrite = (from, bytes) => {
        if (bytes[CMD_OFF + 1] !== 0) return;
        // The first mount's own connection has both ends at the server's address.
        const isServer = from.local.addr === server && from.local.port === 4000;
        switch (bytes[CMD_OFF]) {
          case NET_CMD_LOCK: if (isServer) m.invalidations += 1; else m.locks += 1; break;
          case NET_CMD_ALLOC_INODES: m.inodes += 1; break;
          case NET_CMD_GET_LOG_TREES: m.gets += 1; break;
          case NET_CMD_COMMIT_LOG_TREES: m.commits += 1; break;
          default:
        }
      };
      await world.run(work());
      world.net.onWrite = null;
      return m;
    },
  };
}

/** Creates files in each mount's directory, all mounts at the same time, with some commits. */
async function createApart(r: Rig, dirs: readonly number[], prefix: string): Promise<void> {
  await Promise.all(r.mounts.map(async (m, i) => {
    for (let n = 1; n <= CREATES; n++) {
      const { ino } = await m.kernel.create(dirs[i] ?? 0, `${prefix}${n}`);
      m.kernel.release(ino);
      m.kernel.forget(ino);
      if (n % COMMIT_EVERY === 0) await m.client.trans.sync();
    }
  }));
}

async function end(r: Rig): Promise<void> {
  for (const m of [...r.mounts].reverse()) await r.world.run(m.unmount());
}

for (const nr of [1, 2, 4]) {
  t.test(`creates in separate directories of ${nr} mounts`, async (t) => {
    const r = await rig(nr);
    const dirs: number[] = [];
    for (const [i, m] of r.mounts.entries()) {
      dirs.push((await r.world.run(m.kernel.mkdir(ROOT_INO, `d${i}`))).ino);
    }
    const cold = await r.count(() => createApart(r, dirs, 'cold'));
    const warm = await r.count(() => createApart(r, dirs, 'warm'));
    // Of each mount: the locks of its files and of the quota, one of the next 1024 files.
    const commits = nr * CREATES / COMMIT_EVERY;
    const alike = { invalidations: 0, gets: commits, commits };
    t.same(cold, { ...alike, locks: 2 * nr, inodes: nr });
    t.same(warm, { ...alike, locks: nr, inodes: 0 });
    await end(r);
  });
}

interface Cost extends Messages {
  /** commits that giving a lock up made necessary, of A and of B */
  forced: [number, number];
}

/** What rounds of A and B cost once both have what they need. */
async function turns<T>(setup: (a: SimMount) => Promise<T>,
  round: (a: SimMount, b: SimMount, made: T, nr: number) => Promise<unknown>): Promise<Cost> {
  const r = await rig(2);
  const [a, b] = r.mounts;
  if (a === undefined || b === undefined) throw new Error('no mounts');
  const made = await r.world.run(setup(a));
  for (let nr = 0; nr < WARM_ROUNDS; nr++) await r.world.run(round(a, b, made, nr));
  const forced = (m: SimMount): number => m.client.counters.at(C.lock_invalidate_sync);
  const [ofA, ofB] = [forced(a), forced(b)];
  const m = await r.count(async () => {
    for (let nr = 0; nr < ROUNDS; nr++) await round(a, b, made, WARM_ROUNDS + nr);
  });
  const cost: Cost = { ...m, forced: [forced(a) - ofA, forced(b) - ofB] };
  await end(r);
  return cost;
}

const aDir = async (a: SimMount): Promise<number> => (await a.kernel.mkdir(ROOT_INO, 'd')).ino;
const aFile = (a: SimMount): Promise<number> => a.kernel.writeFile(ROOT_INO, 'f', BYTES);

async function create(m: SimMount, dir: number, name: string): Promise<number> {
  const { ino } = await m.kernel.create(dir, name);
  m.kernel.release(ino);
  m.kernel.forget(ino);
  return ino;
}

/** One commit and one handing over for each time that written items change hands. */
function handedOver(times: number, forced: [number, number], locksEach = 1): Cost {
  const [ofA, ofB] = forced;
  return {
    locks: times * locksEach, invalidations: times * locksEach, inodes: 0, gets: ofA + ofB,
    commits: ofA + ofB, forced,
  };
}

t.test('A creates, B looks', async (t) => {
  // Two locks each way: the directory's and the new inode's. Only A has anything to commit.
  t.same(await turns(aDir, async (a, b, dir, nr) => {
    const ino = await create(a, dir, `f${nr}`);
    await b.kernel.lookup(dir, `f${nr}`);
    await b.kernel.getattr(ino);
  }), handedOver(2 * ROUNDS, [ROUNDS, 0], 2));
  t.same(await turns(aDir, async (a, b, dir, nr) => {
    await create(a, dir, `f${nr}`);
    await b.kernel.readdir(dir);
  }), handedOver(2 * ROUNDS, [ROUNDS, 0]), 'lists');
});

t.test('A and B write in turn to one file', async (t) => {
  t.same(await turns(aFile, async (a, b, f) => {
    await a.kernel.write(f, 0, BYTES);
    await b.kernel.write(f, 0, BYTES);
  }), handedOver(2 * ROUNDS, [ROUNDS, ROUNDS]));
  const synced = await turns(aFile, async (a, b, f) => {
    for (const m of [a, b]) {
      await m.kernel.write(f, 0, BYTES);
      await m.client.trans.sync();
    }
  });
  t.same(synced.forced, [0, 0], 'what is committed is not committed again');
  t.equal(synced.commits, 2 * ROUNDS);
});

t.test('A writes, B reads', async (t) => {
  t.same(await turns(aFile, async (a, b, f) => {
    await a.kernel.write(f, 0, BYTES);
    await b.kernel.read(f, 0, BYTES.length);
  }), handedOver(2 * ROUNDS, [ROUNDS, 0]));
});

t.test('A and B read', async (t) => {
  t.same(await turns(aFile, async (a, b, f) => {
    await a.kernel.read(f, 0, BYTES.length);
    await b.kernel.read(f, 0, BYTES.length);
  }), handedOver(0, [0, 0]), 'nothing at all');
});

t.test('A and B create in one directory', async (t) => {
  t.same(await turns(aDir, async (a, b, dir, nr) => {
    await create(a, dir, `a${nr}`);
    await create(b, dir, `b${nr}`);
  }), handedOver(2 * ROUNDS, [ROUNDS, ROUNDS]));
});

t.test('A and B create in directories of their own', async (t) => {
  t.same(await turns(aDir, async (a, b, dir, nr) => {
    const other = nr === 0 ? (await b.kernel.mkdir(ROOT_INO, 'e')).ino
      : (await b.kernel.lookup(ROOT_INO, 'e'))?.ino ?? 0;
    await create(a, dir, `a${nr}`);
    await create(b, other, `b${nr}`);
  }), handedOver(0, [0, 0]), 'nothing at all');
});

t.test('A creates, B removes', async (t) => {
  const cost = await turns(aDir, async (a, b, dir, nr) => {
    await create(a, dir, `f${nr}`);
    await b.kernel.unlink(dir, `f${nr}`);
  });
  // B removes the entry in one transaction and the inode in a later one, and A asks for both
  // locks back after each; the last removal waits for the next round.
  t.same(cost, handedOver(2 * ROUNDS, [ROUNDS, 2 * ROUNDS - 1], 2));
});
