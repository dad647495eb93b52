/**
 * What mounts that are gone leave behind, and who takes care of it.
 *
 * | row of the acceptance catalogue | test |
 * |---|---|
 * | orphan-inodes | inodes without names: while they are open, after the death of who had them open, in a race |
 * | orphan-log-trees | a log tree that was not closed with its mount |
 *
 * Scans see orphans in the file system tree only, so log trees are merged before anything is
 * expected of them. That an inode is gone shows in the count of inodes, which df shows too.
 */
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { Actor } from '../coherence/kit.js';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, until } from '../lib/clustermounts.js';
import { nightly, skipWithoutFuse } from '../lib/mounted.js';
import * as c from '../lib/syscalls.js';
import { contentsOf } from './load.js';

const how = (): { skip: string | false; timeout: number } =>
  ({ skip: skipWithoutFuse(), timeout: 1_800_000 });
const LOSSES = nightly() ? 6 : 1;
const SCAN_MS = 200;
const RACE_ROUNDS = nightly() ? 30 : 2;
const RACE_MS = 1000;
const ESTALE = -116;
const FILES = 20;
/** A client that is killed is fenced after 20 s. */
const FENCE_LIMIT_MS = 90_000;

/** Commits what every mount has done. */
function syncAll(cluster: ClusterMounts): void {
  for (const n of cluster.nodes) {
    const fd = fs.openSync(n.mnt, 'r');
    fs.fsyncSync(fd);
    fs.closeSync(fd);
  }
}

/** Inodes in use, those without a name included. */
function inodes(cluster: ClusterMounts): number {
  syncAll(cluster);
  const s = c.statfs(cluster.node(0).mnt);
  return s.files - s.ffree;
}

/** Waits for two whole scans on every mount. */
async function scanned(cluster: ClusterMounts): Promise<void> {
  for (const n of cluster.nodes) {
    const before = n.counter('orphan_scan');
    await until(() => n.counter('orphan_scan') >= before + 3, `node ${n.nr} scans for orphans`);
  }
}

function sum(cluster: ClusterMounts, counter: string): number {
  return cluster.nodes.reduce((n, node) => n + node.counter(counter), 0);
}

/** Files without names that one mount has open. */
class Held {
  private readonly actor = new Actor();
  private readonly files: { name: string; fd: number }[] = [];

  constructor(private readonly holder: ClusterNode) {}

  /** Makes and opens one, which is then removed on a mount. */
  async add(name: string, remover: ClusterNode): Promise<void> {
    fs.writeFileSync(this.holder.p(name), contentsOf(name));
    this.files.push({ name, fd: await this.actor.run('hold', this.holder.p(name)) });
    fs.unlinkSync(remover.p(name));
  }

  get count(): number {
    return this.files.length;
  }

  /** Those that cannot be read as a whole. */
  async broken(): Promise<string[]> {
    const texts = await Promise.all(this.files.map(({ fd }) => this.actor.run('heldText', fd)));
    return this.files.map(({ name }) => name)
      .filter((name, i) => texts[i] !== contentsOf(name).toString('latin1'));
  }

  end(): Promise<void> {
    return this.actor.end();
  }
}

/** Kills the mount that has files open: scans, of others or of its next life, remove them. */
async function lose(tt: Test, cluster: ClusterMounts, holder: ClusterNode, other: ClusterNode):
Promise<void> {
  const before = inodes(cluster);
  const held = new Held(holder);
  await held.add('own', holder);
  await held.add('others', other);
  await cluster.merge();
  await scanned(cluster);
  // what scans cannot see before the log tree of the dead is merged
  await held.add('late', holder);
  tt.equal(inodes(cluster), before + held.count, 'scans leave alone what is open');
  tt.strictSame(await held.broken(), [], 'and it can be read');
  tt.ok(sum(cluster, 'orphan_scan_cached') + sum(cluster, 'orphan_scan_omap_set') > 0,
    'though they have seen it');
  const deleted = other.counter('inode_deleted');
  await holder.kill();
  await held.end();
  await holder.mount();
  setScans(holder, SCAN_MS);
  await until(() => inodes(cluster) === before, 'the orphans are gone', FENCE_LIMIT_MS);
  tt.equal(sum(cluster, 'inode_deleted'), deleted + held.count, 'all were deleted');
  await until(() => cluster.nodes.every((n) => n.counter('orphan_scan_empty') > 0),
    'scans find nothing any more');
}

function setScans(n: ClusterNode, delayMs: number): void {
  fs.writeFileSync(n.control('mount_options', 'orphan_scan_delay_ms'), `${delayMs}`);
}

void t.test('inodes without names', how(), async (tt) => {
  const cluster = await ClusterMounts.start('orphans', { members: 1, clients: 1,
    options: 'orphan_scan_delay_ms=60000' });
  tt.teardown(() => cluster.end());
  const [leader, client] = [cluster.node(0), cluster.node(1)];
  await cluster.merge();
  tt.equal(sum(cluster, 'orphan_scan'), 0, 'nobody has scanned yet');
  for (const n of cluster.nodes) setScans(n, SCAN_MS);
  for (let i = 0; i < LOSSES; i++) {
    if (i % 2 === 0) await lose(tt, cluster, leader, client);
    else await lose(tt, cluster, client, leader);
  }
  await race(tt, cluster);
  await cluster.umountAll();
  const { findings, summary } = await cluster.checkReport();
  tt.strictSame(findings, [], 'check is clean');
  tt.equal(summary.orphans, 0, 'no orphan is left on the device');
});

/** Opens by number race removals, evictions and scans: what is gone never comes back. */
async function race(tt: Test, cluster: ClusterMounts): Promise<void> {
  const before = inodes(cluster);
  const actors = cluster.nodes.map(() => new Actor());
  let raced = false;
  // makes orphans that scans can see, and takes their items away again
  const merging = (async () => {
    do await cluster.merge(); while (!raced);
  })();
  try {
    for (let i = 0; i < RACE_ROUNDS; i++) {
      const [maker, remover] = [cluster.node(i % 2), cluster.node((i >> 1) % 2)];
      fs.writeFileSync(maker.p('raced'), 'x');
      const { ino } = fs.statSync(maker.p('raced'));
      const loops = actors.map((a, n) =>
        a.run('handleChanges', cluster.node(n).mnt, String(ino), RACE_MS));
      await sleep(RACE_MS / 4);
      fs.unlinkSync(remover.p('raced'));
      for (const n of cluster.nodes) {
        fs.writeFileSync(n.control('debug', 'trigger', 'statfs_lock_purge'), '1');
        fs.statfsSync(n.mnt);
      }
      for (const seen of await Promise.all(loops)) {
        tt.ok([[0], [ESTALE], [0, ESTALE]].some((may) => may.join() === seen.join()),
          `opened by number: ${seen.join(', ')}`);
      }
    }
    raced = true;
    await merging;
    await until(() => inodes(cluster) === before, 'all of them are deleted');
  } finally {
    raced = true;
    await merging.catch(() => undefined);
    await Promise.all(actors.map((a) => a.end()));
  }
}

/** Leaves in one way or the other; resolves when the server has reclaimed it. */
async function leave(n: ClusterNode, leader: ClusterNode, how: 'unmount' | 'kill'): Promise<void> {
  const { rid } = n;
  if (how === 'unmount') await n.umount();
  else await n.kill();
  await until(() => !leader.show('debug', 'mounts').includes(rid), `node ${n.nr} is reclaimed`,
    FENCE_LIMIT_MS);
}

void t.test('log trees without mounts', how(), async (tt) => {
  const cluster = await ClusterMounts.start('orphan-logs', { members: 1, clients: 1 });
  tt.teardown(() => cluster.end());
  const [leader, client] = [cluster.node(0), cluster.node(1)];
  const trigger = (): string => leader.control('debug', 'trigger', 'reclaim_skip_finalize');
  for (const way of nightly() ? ['unmount', 'kill'] as const : ['unmount'] as const) {
    if (client.pid === 0) await client.mount();
    const { rid } = client;
    const names = Array.from({ length: FILES }, (_, i) => `${way}${i}`);
    for (const name of names) fs.writeFileSync(client.p(name), contentsOf(name));
    syncAll(cluster);
    const intact = (): boolean => names.every((name) =>
      fs.readFileSync(leader.p(name)).equals(contentsOf(name)));
    const reclaimed = leader.counter('reclaimed_open_logs');
    fs.writeFileSync(trigger(), '1');
    await leave(client, leader, way);
    tt.equal(fs.readFileSync(trigger(), 'utf8'), '0\n', `${way}: the trigger has fired`);
    tt.equal(leader.counter('reclaimed_open_logs'), reclaimed, 'the log tree stays open');
    tt.ok(intact(), 'and can be read');
    const said = `reclaiming orphan log trees for rid ${rid}`;
    tt.notMatch(leader.logText(), said);
    await cluster.merge();
    tt.equal(leader.logText().split(said).length, 2, 'the next merge says that it repairs it');
    tt.equal(leader.counter('reclaimed_open_logs'), reclaimed + 1, 'and does');
    tt.ok(intact(), 'nothing is lost');
  }
  await cluster.umountAll();
  tt.strictSame(await cluster.check(), [], 'check is clean');
  tt.strictSame(cluster.complaints(), [], 'the daemons logged no error');
});
