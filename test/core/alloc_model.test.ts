/**
 * Free extents and block lists against plain models, over a cache of few slots that
 * loses every block it may lose at every read: two trees of extents and the map of
 * who owns which block; and a server in small, with its double buffering and a client,
 * in which after every commit each block number is in exactly one place.
 */
import t from 'tap';
import fc from 'fast-check';
import { Rec } from '../../host/core/trees.js';
import { DataExtents } from '../../host/mount/data_extents.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import {
  EINPROGRESS, EINVAL, ENOENT, ENOSPC, allocRoot, empty, extents, fill, insert, listHead, move,
  remove, take, totalLen, wantExtents, zones,
} from '../lib/extents.js';
import type { Run } from '../lib/extents.js';
import { GateDevice } from '../lib/gatedev.js';
import { MiniServer, isNoSpace } from '../lib/miniserver.js';
import { commitSpace, spaceOn, writeListBlock } from '../lib/treespace.js';
import type { Space } from '../lib/treespace.js';
import { key, val } from '../lib/treevec.js';

// many lives on a busy machine
t.setTimeout(180_000);

/** Few slots; everything that is not dirty or pinned is lost at every read. */
function stress(nr = 7999): Space<GateDevice> {
  const s = spaceOn(new GateDevice(2 ** 31), nr, { memoryBytes: 24 << 20, slotShare: 0.5 });
  s.dev.onRead = () => { s.core.x.blockEvictAll(); };
  return s;
}

// ---- extents ----

const UNIVERSE = 4000;
const FIRST = 64;

/** Who owns which block: 0 nobody, 1 and 2 the trees. */
class Owners {
  readonly of = new Uint8Array(UNIVERSE);

  runs(tree: number): Run[] {
    const out: Run[] = [];
    for (let i = 0; i < UNIVERSE; i++) {
      if (this.of[i] !== tree) continue;
      const last = out.at(-1);
      if (last !== undefined && last[0] + last[1] === FIRST + i) last[1] += 1;
      else out.push([FIRST + i, 1]);
    }
    return out;
  }

  all(start: number, len: number, want: (o: number) => boolean): boolean {
    return this.of.subarray(start - FIRST, start - FIRST + len).every(want);
  }

  set(start: number, len: number, owner: number): void {
    this.of.fill(owner, start - FIRST, start - FIRST + len);
  }

  /** The first run in size order. */
  largest(tree: number): Run | null {
    const order = (len: number): number => Math.floor((31 - Math.clz32(len)) / 3);
    const runs = this.runs(tree);
    const top = Math.max(...runs.map((r) => order(r[1])));
    return runs.find((r) => order(r[1]) === top) ?? null;
  }
}

type ExtOp =
  | { op: 'insert' | 'remove'; tree: 1 | 2; start: number; len: number }
  | { op: 'take'; tree: 1 | 2; len: number }
  | { op: 'scatter'; tree: 1 | 2; start: number; len: number; stride: number }
  | { op: 'move'; tree: 1 | 2; len: number; budget: number }
  | { op: 'zoned'; tree: 1 | 2; len: number; zones: number[] };
const tree = fc.constantFrom<1 | 2>(1, 2);
const start = fc.integer({ min: FIRST, max: FIRST + UNIVERSE - 700 });
const len = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 600 }));
const extOp: fc.Arbitrary<ExtOp> = fc.oneof(
  fc.record({ op: fc.constant('insert' as const), tree, start, len }),
  fc.record({ op: fc.constant('insert' as const), tree, start, len }),
  fc.record({ op: fc.constant('remove' as const), tree, start, len }),
  fc.record({ op: fc.constant('take' as const), tree, len }),
  fc.record({ op: fc.constant('scatter' as const), tree, start, len,
    stride: fc.integer({ min: 2, max: 4 }) }),
  fc.record({ op: fc.constant('move' as const), tree, len,
    budget: fc.constantFrom(0, 0, 1, 60, 250) }),
  fc.record({ op: fc.constant('zoned' as const), tree, len,
    zones: fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 5 }) }),
);
const ZONE_BLOCKS = 100;

class ExtentWorld {
  readonly model = new Owners();
  readonly trees: [Rec, Rec];
  /** The allocator may run dry: a move may end early with what it has done. */
  dry = false;

  constructor(readonly s: Space) {
    this.trees = [allocRoot(s), allocRoot(s)];
  }

  async apply(o: ExtOp): Promise<void> {
    await this.change(o);
    if (this.s.space.dirtyBlocks > 40) await commitSpace(this.s);
  }

  async change(o: ExtOp): Promise<void> {
    const rec = this.trees[o.tree - 1] ?? this.trees[0];
    switch (o.op) {
      case 'insert': await this.insert(rec, o.tree, o.start, o.len); break;
      case 'remove': await this.remove(rec, o.tree, o.start, o.len); break;
      case 'take': await this.take(rec, o.tree, o.len); break;
      case 'move': await this.move(o.tree, o.len, o.budget); break;
      case 'zoned': await this.zoned(o.tree, o.len, [...new Set(o.zones)]); break;
      case 'scatter':
        for (let i = 0; i < o.len; i += o.stride) await this.insert(rec, o.tree, o.start + i, 1);
        break;
    }
  }

  private async insert(rec: Rec, tree: number, start: number, len: number): Promise<void> {
    if (!this.model.all(start, len, (x) => x === 0 || x === tree)) return;
    const ok = this.model.all(start, len, (x) => x === 0);
    const r = await insert(this.s, rec, start, len);
    same(r, ok ? 0 : EINVAL, `insert ${start} ${len}`);
    if (ok) this.model.set(start, len, tree);
  }

  private async remove(rec: Rec, tree: number, start: number, len: number): Promise<void> {
    const ok = this.model.all(start, len, (x) => x === tree);
    const any = this.model.of.subarray(start - FIRST).includes(tree);
    const r = await remove(this.s, rec, start, len);
    same(r, ok ? 0 : any ? EINVAL : ENOENT, `remove ${start} ${len}`);
    if (ok) this.model.set(start, len, 0);
  }

  private async take(rec: Rec, tree: number, count: number): Promise<void> {
    const want = this.model.largest(tree);
    const got = await take(this.s, rec, count);
    same(got, want === null ? ENOENT : [want[0], Math.min(want[1], count)], `take ${count}`);
    if (typeof got !== 'number') this.model.set(got[0], got[1], 0);
  }

  private async move(to: 1 | 2, total: number, budget: number): Promise<void> {
    const from = 3 - to;
    const { ret, moved } = await move(this.s, this.of(to), this.of(from), total, { budget });
    for (let left = moved; left > 0;) {
      const r = this.model.largest(from);
      if (r === null) throw new Error('more was moved than there was');
      const n = Math.min(left, r[1]);
      this.model.set(r[0], n, to);
      left -= n;
    }
    if (ret === 0) this.movedAll(moved, total);
    else if (ret === ENOENT) same(this.model.runs(from).length, 0, 'src is empty');
    else same(ret === EINPROGRESS && budget > 0, true, `move: ${ret}`);
  }

  private async zoned(to: 1 | 2, total: number, set: number[]): Promise<void> {
    const from = 3 - to;
    const inZones = (r: Run): boolean =>
      set.some((z) => z * ZONE_BLOCKS < r[0] + r[1] && r[0] < (z + 1) * ZONE_BLOCKS);
    const before = this.model.runs(from);
    const { ret, moved } = await move(this.s, this.of(to), this.of(from), total,
      { vacant: set, zoneBlocks: ZONE_BLOCKS });
    const left = await extents(this.s, this.of(from));
    this.model.of.forEach((o, i) => { if (o === from) this.model.of[i] = to; });
    for (const [start, n] of left.by_blkno) this.model.set(start, n, from);
    same(before.reduce((n, r) => n + r[1], 0) - Number(left.total_len), moved, 'moved');
    if (ret === 0) this.movedAll(moved, total);
    else same(ret, ENOENT, 'zoned move');
    // zones are preferred: nothing outside went while an extent that begins in one was left
    // (the search by size order may miss one that only reaches into a zone)
    const stays = (r: Run): boolean => this.model.all(r[0], r[1], (x) => x === from);
    const startsIn = (r: Run): boolean => set.includes(Math.floor(r[0] / ZONE_BLOCKS));
    const outsideWent = before.some((r) => !inZones(r) && !stays(r));
    if (outsideWent && before.some((r) => startsIn(r) && stays(r))) {
      throw new Error(`zones ${set.join()} passed over`);
    }
  }

  private movedAll(moved: number, total: number): void {
    if (!this.dry || moved === 0 || moved > total) same(moved, total, 'all was moved');
  }

  private of(tree: number): Rec {
    return this.trees[tree === 1 ? 0 : 1];
  }

  async verify(): Promise<void> {
    for (const n of [1, 2]) {
      const got = await extents(this.s, this.of(n));
      same(got, wantExtents(this.model.runs(n)), `tree ${n}`);
      const touched = new Set<number>();
      for (const [start, len] of got.by_blkno) {
        const first = Math.floor(start / ZONE_BLOCKS);
        for (let z = first; z * ZONE_BLOCKS < start + len; z++) touched.add(z);
      }
      const want = [...touched].sort((a, b) => a - b);
      same(await zones(this.s, this.of(n), ZONE_BLOCKS), want, 'zones');
    }
  }
}

function same(got: unknown, want: unknown, what: string): void {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what}: ${a.slice(0, 300)} but not ${b.slice(0, 300)}`);
}

void t.test('extents of two trees against a map of owners', async () => {
  const ops = fc.array(extOp, { minLength: 1, maxLength: 40 });
  await fc.assert(fc.asyncProperty(ops, async (ops) => {
    const w = new ExtentWorld(stress());
    for (const o of ops) await w.apply(o);
    await w.verify();
    await commitSpace(w.s);
    w.s.core.x.blockEvictAll();
    await w.verify();
    same(w.s.core.x.checkId(), 0, 'no invariant was broken');
  }), { numRuns: 60 });
});

void t.test('an extent change that runs out of blocks leaves both trees as they were', async () => {
  await fc.assert(fc.asyncProperty(fc.array(extOp, { minLength: 5, maxLength: 30 }),
    fc.integer({ min: 0, max: 200 }), async (ops, avail) => {
      const s = stress();
      const w = new ExtentWorld(s);
      for (const o of ops) await w.apply(o);
      await commitSpace(s);
      w.dry = true;
      s.space.begin(writeListBlock(s.dev, 20000, 20001, avail), new Uint8Array(32));
      try {
        for (let i = 0; i < 200; i++) await w.apply(ops[i % ops.length] ?? ops[0] ?? never());
      } catch (e) {
        // the model reports any result that it did not expect
        if (!String(e).includes(`: ${ENOSPC} but not`) && !String(e).includes(`move: ${ENOSPC}`)) {
          throw e;
        }
      }
      s.space.begin(writeListBlock(s.dev, 21000, 21001, 5000), new Uint8Array(32));
      await w.verify();
    }), { numRuns: 40 });
});

function never(): never {
  throw new Error('index out of range');
}

// ---- every block in one place ----

type ServerOp =
  | { op: 'insert' | 'delete' | 'clientInsert' | 'clientDelete'; n: number; burst: number }
  | { op: 'commit' | 'get'; lazy: boolean }
  | { op: 'clientCommit' | 'crash' | 'giveBack' | 'drop' }
  | { op: 'free'; budget: number };
const n = fc.integer({ min: 0, max: 500 });
const burst = fc.integer({ min: 1, max: 90 });
const serverOp: fc.Arbitrary<ServerOp> = fc.oneof(
  fc.record({ op: fc.constantFrom('insert' as const, 'delete' as const), n, burst }),
  fc.record({ op: fc.constantFrom('clientInsert' as const, 'clientDelete' as const), n, burst }),
  fc.record({ op: fc.constantFrom('commit' as const, 'get' as const), lazy: fc.boolean() }),
  fc.record({ op: fc.constantFrom('clientCommit' as const, 'clientCommit' as const,
    'crash' as const, 'giveBack' as const, 'drop' as const) }),
  fc.record({ op: fc.constant('free' as const), budget: fc.integer({ min: 1, max: 40 }) }),
);

/** Runs one change of items; absent and present items and a lack of space are no failure. */
async function tolerant(p: Promise<unknown>): Promise<boolean> {
  try {
    await p;
    return true;
  } catch (e) {
    if (isNoSpace(e)) return false;
    if (e instanceof ScoutfsError && (e.errno === 'EEXIST' || e.errno === 'ENOENT')) return true;
    throw e;
  }
}

async function serverStep(m: MiniServer, o: ServerOp): Promise<void> {
  switch (o.op) {
    case 'insert': case 'delete': case 'clientInsert': case 'clientDelete': {
      const mine = o.op.startsWith('client');
      if (mine && !m.client.open) return;
      const space = mine ? m.client.space : m.s.space;
      const root = mine ? m.client.root : m.root;
      for (let i = 0; i < o.burst; i++) {
        const k = key((o.n + i) % 600);
        const ok = await tolerant(o.op.endsWith('nsert') ? space.insert(root.ptr, k, val(i, 896))
          : space.delete(root.ptr, k));
        if (!ok || space.dirtyBlocks > 40) break;
      }
      break;
    }
    case 'commit': await m.commit(o.lazy); break;
    case 'get': await tolerant(m.clientGet(o.lazy)); break;
    case 'clientCommit': await m.clientCommit(); break;
    case 'crash': m.clientCrash(); break;
    case 'giveBack': await tolerant(m.clientGiveBack()); break;
    case 'drop': m.dropClientTree(); break;
    case 'free': await tolerant(m.freeSome(o.budget)); break;
  }
  if (m.s.space.dirtyBlocks > 40) await m.commit();
}

for (const [listNr, extentBlocks] of [[600, 3000], [250, 330]] as const) {
  void t.test(`each of ${listNr} + ${extentBlocks} blocks is in one place`, async () => {
    await fc.assert(fc.asyncProperty(fc.array(serverOp, { minLength: 5, maxLength: 60 }),
      async (ops) => {
        const m = new MiniServer(stress(), listNr, extentBlocks);
        await m.start();
        for (const [i, o] of ops.entries()) {
          await serverStep(m, o);
          if (i % 8 === 7) {
            await m.commit();
            same(await m.account(), [], `after step ${i}`);
          }
        }
        m.clientCrash();
        await m.commit();
        same(await m.account(), [], 'in the end');
        same(m.s.core.x.checkId(), 0, 'no invariant was broken');
      }), { numRuns: 40 });
  });
}

// ---- file data ----

const DATA_END = FIRST + UNIVERSE;
type DataOp = { op: 'alloc'; count: number } | { op: 'free'; at: number; part: number }
  | { op: 'commit' | 'together' };
const dataOp: fc.Arbitrary<DataOp> = fc.oneof(
  fc.record({ op: fc.constant('alloc' as const),
    count: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 3000 })) }),
  fc.record({ op: fc.constant('free' as const), at: fc.nat(),
    part: fc.integer({ min: 1, max: 9 }) }),
  fc.record({ op: fc.constantFrom('commit' as const, 'together' as const) }),
);

/** A mount's data space: what callers hold, and the trees around it. */
class DataWorld {
  readonly held: Run[] = [];
  readonly avail: Rec;
  readonly freed: Rec;
  readonly data: DataExtents;

  constructor(readonly s: Space) {
    this.avail = allocRoot(s);
    this.freed = allocRoot(s);
    this.data = new DataExtents(s.space);
  }

  async start(): Promise<void> {
    for (let at = FIRST; at < DATA_END; at += 500) {
      await insert(this.s, this.avail, at, Math.min(499, DATA_END - at));
    }
    await commitSpace(this.s);
    this.begin();
  }

  private begin(): void {
    this.data.begin(this.avail, this.freed, false, DATA_END);
  }

  async alloc(count: number): Promise<void> {
    for (let tries = 0; ; tries++) {
      const before = this.data.totalAvail;
      const got = this.data.alloc(count);
      if (got === 'need-refill') {
        if (tries > 50) throw new Error('no progress');
        await this.data.refill(count);
        continue;
      }
      if (got === 'empty') {
        same(before, 0, 'empty although there is something');
        return;
      }
      same(got.count > 0 && got.count <= count, true, 'count');
      same(this.data.totalAvail, before - got.count, 'total');
      this.held.push([got.blkno, got.count]);
      return;
    }
  }

  free(at: number, part: number): void {
    const [r] = this.held.splice(at % Math.max(1, this.held.length), 1);
    if (r === undefined) return;
    const n = Math.max(1, Math.floor(r[1] / part));
    this.data.free(r[0], n);
    if (n < r[1]) this.held.push([r[0] + n, r[1] - n]);
    let refused = false;
    try {
      this.data.free(r[0], 1);
    } catch {
      refused = true;
    }
    // once in the tree it is the tree that refuses
    if (!refused) throw new Error('freed twice');
  }

  /** Commit, and what the server does with the freed extents afterwards. */
  async commit(): Promise<void> {
    await this.data.finish();
    await commitSpace(this.s);
    await this.verify();
    const { ret } = await move(this.s, this.avail, this.freed, totalLen(this.freed));
    same(ret, 0, 'freed extents go back');
    await commitSpace(this.s);
    this.begin();
  }

  async verify(): Promise<void> {
    const seen = new Uint8Array(UNIVERSE);
    const runs = [...this.held, ...(await extents(this.s, this.avail)).by_blkno,
      ...(await extents(this.s, this.freed)).by_blkno];
    for (const [start, len] of runs) {
      for (let i = start - FIRST; i < start - FIRST + len; i++) seen[i] = (seen[i] ?? 0) + 1;
    }
    const gaps = UNIVERSE / 500;
    same(seen.reduce((a, b) => a + b, 0), UNIVERSE - gaps, 'blocks');
    same(Math.max(...seen), 1, 'no block is in two places');
  }
}

void t.test('file data: each block is free, freed or held', async () => {
  await fc.assert(fc.asyncProperty(fc.array(dataOp, { minLength: 5, maxLength: 80 }),
    async (ops) => {
      const w = new DataWorld(stress());
      await w.start();
      for (const o of ops) {
        if (o.op === 'alloc') await w.alloc(o.count);
        else if (o.op === 'free') w.free(o.at, o.part);
        else if (o.op === 'commit') await w.commit();
        else {
          w.s.core.x.blockEvictAll();
          await Promise.all([w.alloc(5), w.alloc(2500), w.alloc(3), w.data.prepare()]);
        }
      }
      await w.commit();
    }), { numRuns: 60 });
});

void t.test('file data: what is refused', async (tt) => {
  const w = new DataWorld(stress());
  await w.start();
  tt.throws(() => { w.data.free(63, 1); }, { message: /not on the device/ });
  tt.throws(() => { w.data.free(DATA_END - 1, 2); }, { message: /not on the device/ });
  for (let i = 0; i < 100; i++) await w.alloc(7);
  for (const [start, len] of w.held) w.data.free(start, Math.min(3, len));
  tt.throws(() => { w.data.free(w.held[5]?.[0] ?? 0, 1); }, { message: /freed twice/ });
  const wait = w.data.prepare();
  if (wait !== null) await wait;
  tt.ok(w.data.pendingFrees <= 33, `${w.data.pendingFrees} frees wait in memory`);
  w.held.splice(0, w.held.length, ...w.held.filter((r) => r[1] > 3)
    .map(([start, len]): Run => [start + 3, len - 3]));
  await w.data.finish();
  w.data.begin(w.avail, w.freed, false, DATA_END);
  const freedBefore = (await extents(w.s, w.freed)).by_blkno;
  w.data.free(freedBefore[0]?.[0] ?? 0, 2);
  tt.equal(w.data.refused.length, 0);
  await w.commit();
  tt.strictSame(w.data.refused, [{ blkno: freedBefore[0]?.[0], count: 2 }],
    'a double free that only the tree knows of does not stop commits');
});

// ---- many callers at once ----

void t.test('callers of one transaction that wait for each other\'s blocks', async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 10, maxLength: 120 }),
      { minLength: 2, maxLength: 5 }),
    fc.array(extOp, { minLength: 5, maxLength: 20 }), async (lists, ops) => {
      const s = stress();
      const roots = lists.map(() => new Rec(s.core, 24));
      const models = lists.map(() => new Map<number, number>());
      const head = listHead(s);
      const pool = allocRoot(s);
      await insert(s, pool, 20000, 900);
      const w = new ExtentWorld(s);
      const toggle = async (list: number[], i: number): Promise<void> => {
        const [root, model] = [roots[i] ?? never(), models[i] ?? never()];
        for (const [round, n] of list.entries()) {
          if (model.has(n)) await s.space.delete(root.ptr, key(n));
          else await s.space.insert(root.ptr, key(n), val(n + round, 896));
          if (!model.delete(n)) model.set(n, round);
        }
      };
      const lister = async (): Promise<void> => {
        for (let i = 0; i < 10; i++) {
          same(await fill(s, head, pool, 300, 300 + i * 50), 0, 'fill');
          same(await empty(s, head, pool), 0, 'empty');
        }
      };
      const mover = async (): Promise<void> => {
        for (const o of ops) await w.change(o);
      };
      await Promise.all(lists.map((l, i) => toggle(l.slice(0, l.length / 2), i)));
      await commitSpace(s);
      s.core.x.blockEvictAll();
      await Promise.all([...lists.map((l, i) => toggle(l.slice(l.length / 2), i)), lister(),
        mover()]);
      await commitSpace(s);
      await w.verify();
      same(totalLen(pool), 900, 'pool');
      for (const [i, root] of roots.entries()) {
        const model = models[i] ?? never();
        for (let n = 0; n <= 300; n++) {
          const got = await s.space.lookup(root.ptr, key(n));
          const round = model.get(n);
          same(got === null ? null : [...got.subarray(0, 8)],
            round === undefined ? null : [...val(n + round, 896).subarray(0, 8)], `item ${n}`);
        }
      }
    }), { numRuns: 25 });
});
