/**
 * Whole clusters in one process: quorum members with real servers and cores, clients
 * with real lock tables, one simulated network, clock and pair of devices. Nodes die,
 * leave and lose their network; what has to hold is that the others go on, that the dead
 * are fenced before anything of theirs is reused, and that the volume checks clean.
 */
import t from 'tap';
import type { Env } from '../../host/env/env.js';
import { readSupers } from '../../host/disk/super.js';
import { Client } from '../../host/mount/client.js';
import type { ClientLock } from '../../host/mount/client_lock.js';
import { LockClient } from '../../host/mount/lock.js';
import { LockKind } from '../../host/mount/lock_kinds.js';
import type { LockMode } from '../../host/mount/op.js';
import { Counters } from '../../host/observe/counters.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { Triggers } from '../../host/observe/triggers.js';
import { silentLog } from '../../host/observe/log.js';
import type { FenceView } from '../../host/server/fence.js';
import { Member } from '../../host/server/member.js';
import { findServer, presentSlots } from '../../host/server/quorum_block.js';
import { makeServer } from '../../host/server/server_run.js';
import type { Volume } from '../lib/server.js';
import { damage, isMounted, makeVolume } from '../lib/server.js';
import { SimClock, settle } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';
import { seededRandom } from '../lib/treespace.js';

interface World {
  v: Volume;
  clock: SimClock;
  net: SimNet;
  nodes: Node[];
  /** addresses that reach nobody */
  cut: Set<number>;
  fenced: bigint[];
}

async function makeWorld(slots: number): Promise<World> {
  const net = new SimNet();
  const cut = new Set<number>();
  net.passes = (from, to) => !cut.has(from) && !cut.has(to);
  const v = await makeVolume({ slots });
  return { v, clock: new SimClock(), net, nodes: [], cut, fenced: [] };
}

/** One mount: a client, its locks, a transaction loop, and a member when it has a slot. */
class Node {
  readonly rid: bigint;
  readonly client: Client;
  readonly locks: LockClient;
  member: Member | null = null;
  alive = true;
  /** transactions committed */
  commits = 0;
  transSeq = 0;
  private working = false;
  private left: Promise<void> | null = null;
  private last: Promise<unknown> = Promise.resolve();
  private readonly asked = new Set<bigint>();
  private readonly env: Pick<Env, 'clock' | 'random' | 'net'>;

  private constructor(private readonly w: World, readonly nr: number,
    readonly slotNr: number | null) {
    this.rid = BigInt(0x100 + nr);
    const env = {
      clock: w.clock, random: seededRandom(nr + 1), net: w.net.host(this.addr),
    };
    this.env = env;
    this.locks = new LockClient({
      clock: w.clock,
      core: { alloc: () => 1, setMode: () => undefined, free: () => undefined,
        invalidate: () => undefined },
      send: (lock) => { this.client.lock(lock); },
      transSeq: () => this.transSeq, commit: () => this.commitOnce(),
      drain: async () => { await settle(2); }, dropQuotaRules: () => undefined,
      idleCount: () => 100, failed: () => undefined,
    });
    this.client = new Client({
      clock: w.clock, net: env.net, log: silentLog, silenceTimeoutMs: 24_000,
      identity: { fsid: w.v.fsid, fmtVers: 2, rid: this.rid, quorum: slotNr !== null },
      findServer: async () => {
        const { meta: sb } = await readSupers(w.v.meta, w.v.data);
        return findServer(w.v.meta, presentSlots(sb.qconf), w.v.fsid);
      },
      isMounted: () => isMounted(w.v, this.rid),
      handlers: {
        syncLogTrees: () => { void this.commitOnce().catch(() => undefined); },
        invalidate: (lock, answer) => { this.locks.invalidate(lock, answer); },
        grant: (lock) => { this.locks.grant(lock); },
        recoverLocks: (key) => this.locks.recover(key),
        openInoMap: (args) => ({ args, bits: Array.from({ length: 16 }, () => 0n) }),
      },
    });
  }

  /** Members have the address of their slot, the others one of their own. */
  get addr(): number {
    return 0x7f000001 + (this.slotNr === null ? 100 + this.nr : 0);
  }

  static async mount(w: World, nr: number, slotNr: number | null): Promise<Node> {
    const node = new Node(w, nr, slotNr);
    w.nodes.push(node);
    if (slotNr !== null) await node.join(slotNr);
    node.client.start();
    return node;
  }

  private async join(slotNr: number): Promise<void> {
    const { w } = this;
    const { meta: sb } = await readSupers(w.v.meta, w.v.data);
    const slots = presentSlots(sb.qconf);
    this.member = await Member.start({
      ...this.env, metaDevice: w.v.meta, log: silentLog, fsid: w.v.fsid, rid: this.rid, slotNr,
      slots, heartbeatTimeoutMs: () => 10_000,
      makeServer: (term, events) => makeServer({
        env: this.env, log: silentLog, counters: new Counters(), metaDevice: w.v.meta,
        dataDevice: w.v.data, fsid: w.v.fsid, fmtVers: sb.fmtVers, rid: this.rid, slotNr, slots,
        options: { logMergeWaitTimeoutMs: 500 }, silenceTimeoutMs: 24_000,
        coreMemoryBytes: 96 << 20, fenceAgent: null, triggers: new Triggers(),
      }, term, events),
      roleChanged: () => undefined, serverChanged: () => undefined, serverFailed: () => undefined,
      fencesChanged: (requests) => { this.fence(requests); },
      failed: () => undefined,
    });
  }

  /** The administrator's agent: cuts off who is dead, fails for who lives. */
  private fence(requests: readonly FenceView[]): void {
    for (const r of requests) {
      if (r.fenced || r.error || this.asked.has(r.rid)) continue;
      this.asked.add(r.rid);
      const victim = this.w.nodes.find((n) => n.rid === r.rid);
      this.w.fenced.push(r.rid);
      if (victim?.alive === true) throw new Error(`${r.reason} asks for a live mount ${r.rid}`);
      void settle().then(() => { this.member?.setFenced(r.rid); });
    }
  }

  /** Opens and commits transactions, one a second, until told otherwise. */
  async work(): Promise<void> {
    this.working = true;
    try {
      while (this.mayWork()) {
        await this.commitOnce();
        await this.w.clock.sleep(1000);
      }
    } catch (e) {
      if (this.alive) throw asScoutfsError(e);
    }
  }

  private mayWork(): boolean {
    return this.working && this.alive;
  }

  /** A mount has one transaction: commits follow each other. */
  private commitOnce(): Promise<void> {
    const p = this.last.then(() => this.transaction());
    this.last = p.catch(() => undefined);
    return p;
  }

  private async transaction(): Promise<void> {
    const lt = await this.client.getLogTrees();
    this.transSeq = lt.getTransSeq;
    await this.client.commitLogTrees(lt);
    this.commits++;
  }

  async use(group: number, mode: LockMode): Promise<ClientLock> {
    const lock = await this.locks.lock(LockKind.inode, group * 1024, mode);
    this.locks.unlock(lock, mode);
    return lock;
  }

  /** Ends as if the power was cut. */
  async die(): Promise<void> {
    this.alive = false;
    await this.client.force();
    await this.member?.force();
  }

  get isLeaving(): boolean {
    return this.left !== null;
  }

  leave(): Promise<void> {
    this.left ??= this.goAway();
    return this.left;
  }

  private async goAway(): Promise<void> {
    this.working = false;
    this.locks.shutdown();
    await this.client.farewell();
    this.alive = false;
    await this.client.stop();
    await this.member?.stop();
  }
}

function leader(w: World): Node | undefined {
  return w.nodes.find((n) => n.alive && n.member?.isLeader === true);
}

/** Lets time pass until `fn` holds. @returns the milliseconds that took */
async function until(w: World, fn: () => boolean, maxMs: number): Promise<number> {
  for (let ms = 0; ms < maxMs; ms += 100) {
    if (fn()) return ms;
    await w.clock.advance(100);
  }
  throw new Error(`not within ${maxMs} ms: ${fn.toString()}`);
}

async function leaveAll(w: World): Promise<void> {
  const leaving = Promise.all(w.nodes.filter((n) => n.alive).map((n) => n.leave()));
  let left = false;
  void leaving.then(() => { left = true; });
  await until(w, () => left, 60_000);
  await leaving;
}

t.test('the leader dies: the next one fences it and everybody goes on', async (t) => {
  const w = await makeWorld(3);
  for (let i = 0; i < 3; i++) await Node.mount(w, i, i);
  const other = await Node.mount(w, 3, null);
  for (const n of w.nodes) void n.work();
  await until(w, () => w.nodes.every((n) => n.commits > 2), 10_000);
  const first = leader(w);
  if (first === undefined) throw new Error('no leader');
  let shared = false;
  void first.use(7, 2).then(() => { shared = true; });
  await until(w, () => shared, 2000);
  await first.die();
  let got = false;
  void other.use(7, 2).then(() => { got = true; });
  const before = w.nodes.map((n) => n.commits);
  await until(w, () => w.nodes.every((n) => !n.alive || n.commits > (before[n.nr] ?? 0) + 2), 40_000);
  await until(w, () => got, 5000);
  t.same(w.fenced, [first.rid], 'once, for whatever reasons');
  t.notOk(await isMounted(w.v, first.rid), 'and was reclaimed');
  await leaveAll(w);
  t.same(await damage(w.v), []);
});

t.test('the leader leaves: nobody is fenced and it takes about a second', async (t) => {
  const w = await makeWorld(3);
  for (let i = 0; i < 3; i++) await Node.mount(w, i, i);
  for (const n of w.nodes) void n.work();
  await until(w, () => w.nodes.every((n) => n.commits > 1), 10_000);
  const first = leader(w);
  if (first === undefined) throw new Error('no leader');
  const left = first.leave();
  const before = w.nodes.map((n) => n.commits);
  await until(w, () => w.nodes.every((n) => !n.alive || n.commits > (before[n.nr] ?? 0) + 1), 6000);
  await left;
  t.same(w.fenced, []);
  t.ok(leader(w) !== undefined && leader(w) !== first);
  await leaveAll(w);
  t.same(await damage(w.v), []);
});

t.test('a plain client dies: its locks come back after the fence', async (t) => {
  const w = await makeWorld(1);
  const member = await Node.mount(w, 0, 0);
  const victim = await Node.mount(w, 1, null);
  for (const n of w.nodes) void n.work();
  await until(w, () => w.nodes.every((n) => n.commits > 1), 10_000);
  let shared = false;
  void victim.use(3, 2).then(() => { shared = true; });
  await until(w, () => shared, 2000);
  await victim.die();
  let got = false;
  void member.use(3, 2).then(() => { got = true; });
  const tookMs = await until(w, () => got, 30_000);
  t.ok(tookMs >= 19_000, `not before it had 20 s to come back (${tookMs} ms)`);
  t.same(w.fenced, [victim.rid]);
  await leaveAll(w);
  t.same(await damage(w.v), []);
});

t.test('a short loss of the network costs nothing', async (t) => {
  const w = await makeWorld(1);
  await Node.mount(w, 0, 0);
  const far = await Node.mount(w, 1, null);
  for (const n of w.nodes) void n.work();
  await until(w, () => w.nodes.every((n) => n.commits > 1), 10_000);
  w.cut.add(far.addr);
  for (const s of w.net.sockets) if (s.local.addr === far.addr || s.remote.addr === far.addr) s.cut();
  await w.clock.advance(12_000);
  w.cut.clear();
  const { commits } = far;
  await until(w, () => far.commits > commits + 2, 10_000);
  t.same(w.fenced, []);
  await leaveAll(w);
  t.same(await damage(w.v), []);
});

t.test('everybody loses power: the first to come back cleans up', async (t) => {
  const w = await makeWorld(1);
  for (const [nr, slot] of [[0, 0], [1, null], [2, null]] as const) await Node.mount(w, nr, slot);
  for (const n of w.nodes) void n.work();
  await until(w, () => w.nodes.every((n) => n.commits > 1), 10_000);
  for (const n of w.nodes) await n.die();
  await w.clock.advance(1000);
  const back = await Node.mount(w, 10, 0);
  void back.work();
  let locked = false;
  void back.use(1, 2).then(() => { locked = true; });
  await until(w, () => back.commits > 0, 5000);
  t.notOk(locked, 'locks wait for the clients of before');
  const tookMs = await until(w, () => locked, 40_000);
  t.ok(tookMs > 20_000, `${tookMs} ms`);
  t.same([...w.fenced].sort(), [0x100n, 0x101n, 0x102n]);
  for (const rid of [0x100n, 0x101n, 0x102n]) t.notOk(await isMounted(w.v, rid));
  await leaveAll(w);
  t.same(await damage(w.v), []);
});

/** Histories that are run every time; the first left a member behind once. */
const SEEDS = [4, 7];

/** Random numbers that a seed repeats. */
function dice(seed: number): (n: number) => number {
  const r = seededRandom(seed);
  return (n) => r.below(n);
}

/** One random event, such as can happen to clusters that administrators look after. */
async function upset(w: World, roll: (n: number) => number, next: number): Promise<void> {
  const living = w.nodes.filter((n) => n.alive);
  const victim = living[roll(Math.max(1, living.length))];
  const plain = w.nodes.filter((n) => n.alive && n.member === null);
  switch (roll(6)) {
    case 0:
      await victim?.die();
      break;
    case 1: {
      const goer = plain[roll(Math.max(1, plain.length))];
      if (goer !== undefined) void goer.leave();
      break;
    }
    case 2: {
      const slot = [0, 1, 2].find((s) => !living.some((n) => n.slotNr === s));
      const node = await Node.mount(w, next, slot ?? null);
      void node.work();
      break;
    }
    case 3:
      if (victim !== undefined) {
        w.cut.add(victim.addr);
        for (const s of w.net.sockets) {
          if (s.local.addr === victim.addr || s.remote.addr === victim.addr) s.cut();
        }
        await w.clock.advance(roll(5000));
        w.cut.clear();
      }
      break;
    default:
      for (const n of living) void n.use(roll(4), (1 + roll(3)) as LockMode).catch(() => undefined);
  }
}

t.test('random deaths, departures, arrivals and losses of the network', async (t) => {
  for (const seed of SEEDS) {
    const w = await makeWorld(3);
    const roll = dice(seed * 7919);
    for (let i = 0; i < 3; i++) await Node.mount(w, i, i);
    await Node.mount(w, 3, null);
    for (const n of w.nodes) void n.work();
    await until(w, () => w.nodes.every((n) => n.commits > 0), 20_000);
    for (let i = 0; i < 25; i++) {
      await upset(w, roll, 4 + i);
      await w.clock.advance(roll(8000));
    }
    // Enough members for a majority, then everybody has to get work done again.
    for (const slot of [0, 1, 2]) {
      if (w.nodes.some((n) => n.alive && n.slotNr === slot)) continue;
      const node = await Node.mount(w, 100 + slot, slot);
      void node.work();
    }
    const before = new Map(w.nodes.map((n) => [n, n.commits]));
    await until(w, () => w.nodes.every((n) => !n.alive || n.isLeaving
      || n.commits > (before.get(n) ?? 0) + 1), 150_000);
    await leaveAll(w);
    t.same(await damage(w.v), [], `seed ${seed}`);
  }
});
