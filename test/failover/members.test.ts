/**
 * Members and clients that come and go in good order, all at once and under load.
 *
 * | row of the acceptance catalogue | test |
 * |---|---|
 * | mount-unmount-race | everybody mounts and unmounts at random, with dirty data |
 * | client-unmount-recovery | the leader leaves while clients leave |
 * | lock-recover-invalidate | the leader leaves again and again under load |
 *
 * One member is always to spare. Nobody dies, so nobody may be fenced, and no daemon may have
 * logged an error. The common run has a few rounds, scripts/nightly as many as upstream.
 */
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { Actor } from '../coherence/kit.js';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, until } from '../lib/clustermounts.js';
import { seeded } from '../lib/core.js';
import { nightly, skipWithoutFuse } from '../lib/mounted.js';
import { contentsOf } from './load.js';
import { remains } from './many.js';

/** A fresh object for each test: the runner writes its filters into it. */
const how = (): { skip: string | false; timeout: number } =>
  ({ skip: skipWithoutFuse(), timeout: 1_800_000 });
const SPARE = { members: 3, clients: 2 };
const RACE_MS = nightly() ? 40_000 : 5000;
const RACE_PAUSE_MS = 300;
const LEAVE_ROUNDS = nightly() ? 20 : 2;
const LEAVE_SPREAD_MS = 400;
const LOAD_MS = nightly() ? 60_000 : 4000;
const LOAD_SLICE_MS = 300;
const LOAD_FILES = 20;
/** Files of the race that exist at a time, for each node. */
const FILES_MAX = 20;

/** Unmounts everybody and looks at what is left. */
async function finish(tt: Test, cluster: ClusterMounts): Promise<void> {
  await cluster.umountAll();
  tt.strictSame(remains(cluster), [], 'nothing is left on this machine');
  const { findings, summary } = await cluster.checkReport();
  tt.strictSame(findings, [], 'check is clean');
  tt.equal(summary.mountedClients, 0, 'nobody is mounted as far as the volume knows');
  tt.strictSame(cluster.complaints(), [], 'the daemons logged no error');
  tt.strictSame(cluster.nodes.filter((n) => n.logText().includes('fencing')).map((n) => n.nr), [],
    'nobody was fenced');
}

/** What the files of the race have to be: names below the mount point. */
class Race {
  readonly there = new Set<string>();
  visits = 0;

  constructor(private readonly cluster: ClusterMounts, private readonly below: (n: number) => number,
    private readonly endMs: number) {}

  /**
   * Works, leaves and comes back until the time is over; ends mounted, so that nobody waits for
   * a quorum that does not come. In promises: a call may wait for what others are to start.
   */
  async churn(n: ClusterNode): Promise<void> {
    while (performance.now() < this.endMs) {
      await this.work(n);
      await n.umount();
      await sleep(this.below(RACE_PAUSE_MS));
      await n.mount();
    }
  }

  /** Makes things dirty: files of its own, one of which moves to where all are, and removals. */
  private async work(n: ClusterNode): Promise<void> {
    const nr = this.visits++;
    for (let i = 0; i < 4; i++) {
      const name = `own${n.nr}/f${nr}.${i}`;
      await fs.promises.writeFile(n.p(name), contentsOf(`${nr}.${i}`));
      this.there.add(name);
    }
    await fs.promises.rename(n.p(`own${n.nr}/f${nr}.0`), n.p(`all/f${nr}.0`));
    this.there.delete(`own${n.nr}/f${nr}.0`);
    this.there.add(`all/f${nr}.0`);
    const [oldest = ''] = this.there;
    if (this.there.size < FILES_MAX * this.cluster.nodes.length) return;
    this.there.delete(oldest);
    await fs.promises.unlink(n.p(oldest));
  }

  /** Differences between what was left and what a mount shows. */
  broken(n: ClusterNode): string[] {
    const found = fs.readdirSync(n.mnt).flatMap((dir) =>
      fs.readdirSync(n.p(dir)).map((name) => `${dir}/${name}`));
    return [
      ...found.filter((name) => !this.there.has(name)).map((name) => `${name}: not expected`),
      ...[...this.there].filter((name) => !found.includes(name)).map((name) => `${name}: missing`),
      ...found.filter((name) => !fs.readFileSync(n.p(name))
        .equals(contentsOf(name.replace(/.*f/, '')))).map((name) => `${name}: other contents`),
    ];
  }
}

void t.test('everybody mounts and unmounts at random, with dirty data', how(), async (tt) => {
  const cluster = await ClusterMounts.start('race', SPARE);
  tt.teardown(() => cluster.end());
  const first = cluster.node(0);
  for (const n of cluster.nodes) fs.mkdirSync(first.p(`own${n.nr}`));
  fs.mkdirSync(first.p('all'));
  const race = new Race(cluster, seeded(17), performance.now() + RACE_MS);
  await Promise.all(cluster.nodes.map((n) => race.churn(n)));
  tt.comment(`${race.visits} visits`);
  tt.ok(race.visits >= cluster.nodes.length, 'everybody left at least once');
  for (const n of cluster.nodes) tt.strictSame(race.broken(n), [], `node ${n.nr} sees what is left`);
  await finish(tt, cluster);
});

/** Mounts that have locks, as the server has it. */
function lockOwners(leader: ClusterNode): string[] {
  return leader.show('debug', 'server_locks').split('\n')
    .flatMap((line) => / rid ([0-9a-f]{16}) /.exec(line)?.[1] ?? []);
}

/** Uses a lock of its own and one that all others use. */
function touch(n: ClusterNode, round: number): void {
  fs.writeFileSync(n.p(`d${n.nr}`, `f${round}`), `${n.nr} ${round}`);
  fs.readdirSync(n.mnt);
}

void t.test('the leader leaves while clients leave', how(), async (tt) => {
  const cluster = await ClusterMounts.start('leave', { members: 3, clients: 3 });
  tt.teardown(() => cluster.end());
  for (const n of cluster.nodes) fs.mkdirSync(n.p(`d${n.nr}`));
  const below = seeded(23);
  for (let round = 0; round < LEAVE_ROUNDS; round++) {
    for (const n of cluster.nodes) touch(n, round);
    const leader = await cluster.newLeader();
    // In even rounds all clients go, in odd ones one of them stays.
    const clients = cluster.nodes.filter((n) => n.slot === null).slice(round % 2);
    await Promise.all([leader, ...clients].map(async (n, i, all) => {
      // The last one leaves a server that knows its locks from the recovery only.
      if (i === all.length - 1) await cluster.newLeader(leader);
      else await sleep(below(LEAVE_SPREAD_MS));
      await n.umount();
    }));
    const mounted = cluster.nodes.filter((n) => n.pid !== 0);
    tt.equal(mounted.length, cluster.nodes.length - 1 - clients.length);
    for (const n of mounted) touch(n, round);
    const next = await cluster.newLeader(leader);
    const rids = mounted.map((n) => n.rid);
    await until(() => rids.every((rid) => lockOwners(next).includes(rid)),
      'the new server knows the locks of all that are mounted');
    tt.strictSame(lockOwners(next).filter((rid) => !rids.includes(rid)), [], 'and of nobody else');
    await cluster.mountAll();
    for (const n of cluster.nodes) {
      tt.strictSame(cluster.nodes.map((o) => fs.readFileSync(n.p(`d${o.nr}`, `f${round}`), 'utf8')),
        cluster.nodes.map((o) => `${o.nr} ${round}`), `node ${n.nr} reads what all wrote`);
    }
  }
  await finish(tt, cluster);
});

/** Touches files on one mount and looks at those of the other, in processes, until stopped. */
class TouchLoad {
  readonly slices: (number | string)[] = [];
  private stopping = false;
  private readonly actors = [new Actor(), new Actor()];
  private readonly running: Promise<unknown>;

  constructor(readonly dir: string, readonly others: string[]) {
    this.running = Promise.all(this.actors.map(async (a, i) => {
      while (!this.stopping) {
        this.slices.push(await (i === 0 ? a.run('touchLoop', dir, LOAD_SLICE_MS)
          : a.run('statLoop', others, LOAD_SLICE_MS)));
      }
    }));
  }

  /** Waits until both have finished something that was begun later than now. */
  async goesOn(): Promise<void> {
    const enough = this.slices.length + 2 * this.actors.length;
    await until(() => this.slices.length >= enough, `the load on ${this.dir} goes on`);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.running;
    await this.end();
  }

  async end(): Promise<void> {
    await Promise.all(this.actors.map((a) => a.end()));
  }
}

void t.test('the leader leaves again and again under load', how(), async (tt) => {
  const cluster = await ClusterMounts.start('recover', SPARE);
  tt.teardown(() => cluster.end());
  const clients = cluster.nodes.filter((n) => n.slot === null);
  const files = (n: ClusterNode, of: ClusterNode): string[] =>
    Array.from({ length: LOAD_FILES }, (_, i) => n.p(`d${of.nr}`, `f${i}`));
  for (const n of clients) {
    fs.mkdirSync(n.p(`d${n.nr}`));
    for (const path of files(n, n)) fs.writeFileSync(path, '');
  }
  // What is only looked at keeps its lock while leaders change; then one touches it.
  fs.writeFileSync(cluster.node(0).p('quiet'), '');
  const look = (): number[] => cluster.nodes.map((n) => fs.statSync(n.p('quiet')).mtimeMs);
  const loads = clients.map((n) => new TouchLoad(n.p(`d${n.nr}`),
    clients.flatMap((o) => files(n, o))));
  tt.teardown(() => Promise.all(loads.map((l) => l.end())));
  let rounds = 0;
  for (const endMs = performance.now() + LOAD_MS; performance.now() < endMs; rounds++) {
    const leader = await cluster.newLeader();
    look();
    await leader.umount();
    await cluster.newLeader(leader);
    await leader.mount();
    await Promise.all(loads.map((l) => l.goesOn()));
    const toucher = clients[rounds % clients.length] ?? leader;
    fs.utimesSync(toucher.p('quiet'), rounds, rounds);
    tt.strictSame(look(), cluster.nodes.map(() => rounds * 1000), 'all see the next touch');
  }
  await Promise.all(loads.map((l) => l.stop()));
  tt.comment(`${rounds} leaders left; ${loads.map((l) => l.slices.length).join(' and ')} loops`);
  tt.strictSame(loads.flatMap((l) => l.slices.filter((s) => typeof s === 'string')), [],
    'no call failed, and each saw what it had set');
  await finish(tt, cluster);
});
