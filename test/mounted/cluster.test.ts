/**
 * `scoutfs cluster` on real mounts: members, leader and mounts of a cluster of three; what
 * it shows, and what the logs say, while operations wait for a stopped mount, for a lost
 * server and for a device that takes no writes.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Cluster, ClusterWait } from '../../host/cli/cluster_view.js';
import { Rig, freePort, skipWithoutFuse } from '../lib/mounted.js';
import { eventually, makeNodes } from '../lib/nodes.js';
import type { Node } from '../lib/nodes.js';

const skip = skipWithoutFuse();
const TIMEOUT_MS = 240_000;
const HEARTBEAT = 'quorum_heartbeat_timeout_ms=5000';
const LINE = /^scoutfs: cluster: .+\n$/;

/** The only cluster that a host sees. */
function clusterOf(node: Pick<Node, 'scoutfs'>, ...args: string[]): Cluster {
  const r = node.scoutfs('cluster', '--json', ...args);
  if (r.status !== 0) throw new Error(r.err);
  const { clusters } = JSON.parse(r.out) as { clusters: Cluster[] };
  const [only] = clusters;
  if (only === undefined || clusters.length !== 1) throw new Error(`${clusters.length} clusters`);
  return only;
}

/** What waits, as soon as something of that kind does. */
async function waitOf(node: Pick<Node, 'scoutfs'>, kind: string, text: RegExp):
Promise<ClusterWait> {
  let found: ClusterWait | undefined;
  await eventually(`a wait for ${kind}`, () => {
    found = clusterOf(node).waiting.find((w) => w.kind === kind && text.test(w.text));
    return found !== undefined;
  });
  if (found === undefined) throw new Error('unreachable');
  return found;
}

void t.test('nothing to show', { skip }, async (tt) => {
  const rig = new Rig('cluster-none');
  tt.teardown(() => { rig.end(); });
  const none = rig.scoutfs('cluster');
  tt.match(none, { status: 1, out: '', err: LINE });
  tt.match(none.err, /no volume is mounted on this host \(looked in .*run\)/);
  tt.match(rig.scoutfs('cluster', rig.mnt), { status: 1, out: '', err: /mnt: no volume is mounted/ });
  tt.match(rig.scoutfs('cluster', join(rig.dir, 'x')), { status: 1, err: /x: No such file/ });
  tt.match(rig.scoutfs('cluster', 'a', 'b'), { status: 2, err: /too many arguments/ });
});

void t.test('three members', { skip, timeout: TIMEOUT_MS }, async (tt) => {
  const { rig, nodes, port, end } = await makeNodes('cluster', 3);
  tt.teardown(end);
  const [a, b, c] = nodes;
  if (a === undefined || b === undefined || c === undefined) throw new Error('no nodes');
  // Two of three elect: the first mount waits for the second.
  const first = a.start('scoutfs', a.mountArgs(HEARTBEAT));
  await eventually('the record of the first', () => a.pid !== 0);
  b.mount(HEARTBEAT);
  tt.equal(await first.ended, 0, first.err);
  c.mount(HEARTBEAT);

  const all = clusterOf(a);
  tt.equal(all.members?.length, 3);
  tt.same(all.members?.map((m) => m.address), nodes.map((n) => `${n.addr}:${port}`));
  tt.same(all.members?.map((m) => m.rid), nodes.map((n) => n.rid));
  tt.same(all.members?.map((m) => m.mountPoint), nodes.map((n) => n.mnt));
  tt.ok(all.members?.every((m) => m.alive === true), 'all are alive');
  tt.same(all.members?.map((m) => m.state).sort(), ['begun', 'begun', 'leader']);
  tt.same(all.mounts?.map((m) => m.rid).sort(), nodes.map((n) => n.rid).sort());
  tt.ok(all.mounts?.every((m) => m.state === 'connected' && m.member));
  const leader = nodes[all.leader?.slot ?? -1];
  if (leader === undefined) throw new Error('no leader');
  tt.match(all.leader, { address: `${leader.addr}:${port}`, rid: leader.rid });
  const [follower, other] = nodes.filter((n) => n !== leader);
  if (follower === undefined || other === undefined) throw new Error('no followers');
  const one = clusterOf(a, follower.mnt);
  tt.equal(one.mounts, null, 'only the leader knows them');
  tt.equal(one.here.length, 1);
  tt.match(one.here[0], { rid: follower.rid, slot: follower.nr, answers: true, role: 'follower' });
  const heard = one.members?.[leader.nr];
  tt.ok(heard?.alive === true && (heard.heardSecs ?? 9) < 2, 'the leader\'s heartbeats');
  const text = a.scoutfs('cluster').out;
  tt.match(text, new RegExp(`^volume [0-9a-f]{16}: led by slot ${leader.nr} at .* in term \\d+\n`));
  tt.match(text, new RegExp(`^  ${leader.nr} +${leader.addr}:${port} +leader +yes +`, 'm'));
  tt.match(text, new RegExp(`^  ${follower.rid}  127[.0-9]+:\\d+ +yes +connected +`, 'm'));

  await waitsForMount(tt, leader, follower, other);
  await waitsForServer(tt, leader, follower, other);
  // Neither of the last two of three may leave without the other.
  const leaving = follower.start('scoutfs', ['umount', follower.mnt]);
  await waitOf(follower, 'farewell', new RegExp(`rid ${follower.rid}`));
  tt.equal(other.scoutfs('umount', other.mnt).status, 0, 'unmounted');
  tt.equal(await leaving.ended, 0, leaving.err);
  tt.strictSame(rig.check(), [], 'the volume is sound');
});

type Test = Pick<typeof t, 'equal' | 'match' | 'ok' | 'same'>;

/** A stopped mount holds a lock that another one wants. */
async function waitsForMount(tt: Test, leader: Node, follower: Node, other: Node): Promise<void> {
  fs.mkdirSync(join(other.mnt, 'theirs'));
  const rid = other.rid;
  other.signal('SIGSTOP');
  const work = fs.promises.mkdir(join(follower.mnt, 'theirs', 'ours'));
  const lock = await waitOf(leader, 'lock_request', /waits_for/);
  tt.match(lock.text, new RegExp(`rid ${follower.rid} waits_for .*${rid}`), 'who waits for whom');
  tt.equal(lock.mountPoint, leader.mnt, 'the server knows');
  tt.match(await waitOf(leader, 'lock', /waiters/), { mountPoint: follower.mnt }, 'and the mount');
  const stopped = clusterOf(leader);
  tt.equal(stopped.members?.[other.nr]?.alive, false);
  tt.match(stopped.waiting.find((w) => w.kind === 'daemon'),
    { mountPoint: other.mnt, text: /process \d+ is stopped/ });
  tt.equal(stopped.here.find((h) => h.mountPoint === other.mnt)?.answers, false);
  tt.match(leader.scoutfs('cluster', other.mnt).out, /leader unknown/, 'asked alone');
  await eventually('a line in the log', () => / warn .* waiting: .*lock for \d+ s/.test(follower.logText()));
  tt.match(leader.scoutfs('cluster').out, /^ {2}\d+\.\ds +lock_request +/m);
  other.signal('SIGCONT');
  await work;
  await eventually('the end in the log', () => follower.logText().includes('no longer waiting'));
  tt.same(clusterOf(leader).waiting.filter((w) => w.secs >= 1), [], 'nothing waits any more');
}

/** The leader dies: until another one serves, operations wait for a server. */
async function waitsForServer(tt: Test, leader: Node, follower: Node, other: Node): Promise<void> {
  leader.signal('SIGKILL');
  const work = fs.promises.statfs(follower.mnt);
  const server = await waitOf(follower, 'server', /no server/);
  tt.ok([follower.mnt, other.mnt].includes(server.mountPoint));
  tt.match(await waitOf(follower, 'request', /STATFS/), { mountPoint: follower.mnt });
  await work;
  const after = clusterOf(follower);
  tt.ok([follower.nr, other.nr].includes(after.leader?.slot ?? -1), 'another one leads');
  await eventually('the end of recovery', () => clusterOf(follower).waiting.length === 0);
  tt.same(clusterOf(follower).mounts?.map((m) => m.rid).sort(), [follower.rid, other.rid].sort(),
    'the dead one is gone');
}

void t.test('a device that takes no writes', { skip, timeout: TIMEOUT_MS }, async (tt) => {
  const rig = new Rig('cluster-device');
  tt.teardown(() => { rig.end(); });
  const small = join(rig.dir, 'small');
  fs.mkdirSync(small);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64M', 'none', small]);
  if (mounted.status !== 0) {
    tt.comment(`no tmpfs can be mounted: ${mounted.stderr.toString()}`);
    return;
  }
  tt.teardown(() => { spawnSync('umount', ['-l', small]); });
  const meta = join(small, 'meta.img');
  fs.writeFileSync(meta, '');
  fs.truncateSync(meta, 8 * 1024 ** 3);
  rig.makeImages();
  rig.must('mkfs', '-A', '-f', '-Q', `0,127.0.0.1,${await freePort()}`, meta, rig.data);
  rig.must('mount', '--log', rig.log, '-o', `metadev_path=${meta},quorum_slot_nr=0`, rig.data,
    rig.mnt);
  fs.writeFileSync(join(rig.mnt, 'before'), 'x');
  const full = fs.openSync(join(small, 'ballast'), 'w');
  try {
    for (;;) fs.writeSync(full, Buffer.alloc(65536));
  } catch {
    // the file system is full
  }
  fs.closeSync(full);
  const fd = fs.openSync(join(rig.mnt, 'before'), 'r');
  // A commit may come, and stop them, at any moment.
  const created = Promise.all(Array.from({ length: 2000 },
    (_, i) => fs.promises.writeFile(join(rig.mnt, `file${i}`), 'x')));
  const synced = new Promise<void>((resolve, reject) => {
    fs.fsync(fd, (e) => { if (e === null) resolve(); else reject(e); });
  });
  const wait = await waitOf(rig, 'commit', /fails/);
  tt.match(wait.text, /^(commit|open transaction) fails: .*(meta\.img|COMMIT_LOG_TREES)/);
  await eventually('a line in the log', () => / warn .* waiting: .*commit/.test(rig.logText()));
  fs.rmSync(join(small, 'ballast'));
  await Promise.all([created, synced]);
  fs.closeSync(fd);
  tt.same(clusterOf(rig).waiting.filter((w) => w.secs >= 1), []);
  rig.umount();
});
