/**
 * The heartbeat timeout is what an operator may set, and the time after which a leader that died
 * has a successor (row quorum-heartbeat-timeout of the acceptance catalogue).
 *
 * From the leader's death until another member leads it takes the timeout, at least a second
 * less and at most five more. The common run tries 3 s, scripts/nightly the default and nearly
 * three times that as well.
 */
import * as fs from 'node:fs';
import t from 'tap';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, until } from '../lib/clustermounts.js';
import { nightly, skipWithoutFuse } from '../lib/mounted.js';
import { remains } from './many.js';

const OPTION = 'quorum_heartbeat_timeout_ms';
const DEFAULT_MS = 10_000;
const [MIN_MS, MAX_MS] = [2000, 60_000];
const TIMEOUTS_MS = nightly() ? [3000, DEFAULT_MS, DEFAULT_MS + 19_000, MIN_MS, 3000] : [3000];
const EARLY_MS = 1000;
const LATE_MS = 5000;
const REFUSED = ['', ' ', 'x', '-1', '0', '1', `${MIN_MS - 1}`, `${MAX_MS + 1}`, '4294967296',
  '18446744073709551616', `${MIN_MS}ms`, '2.5e3'];

/** @returns '' or the errno */
function set(n: ClusterNode, text: string): string {
  try {
    fs.writeFileSync(n.control('mount_options', OPTION), text);
    return '';
  } catch (e) {
    return (e as NodeJS.ErrnoException).code ?? '?';
  }
}

/** How long a follower waits from now on before it stands for election. */
function patienceMs(n: ClusterNode): number {
  return 1000 * Number(/^timeout_in_secs (\d+\.\d+)$/m.exec(n.show('quorum', 'status'))?.[1]);
}

/** Sets the timeout of all members. Resolves when the followers wait that long. */
async function setAll(cluster: ClusterMounts, leader: ClusterNode, ms: number): Promise<void> {
  for (const n of cluster.nodes) set(n, `${ms}\n`);
  const followers = cluster.nodes.filter((n) => n !== leader);
  await until(() => followers.every((n) => patienceMs(n) > ms - EARLY_MS && patienceMs(n) <= ms),
    `the followers wait for ${ms} ms`);
}

void t.test('the heartbeat timeout', { skip: skipWithoutFuse(), timeout: 900_000 }, async (tt) => {
  const cluster = await ClusterMounts.make('heartbeat', { members: 3 });
  tt.teardown(() => cluster.end());
  const first = cluster.node(0);
  for (const bad of REFUSED) {
    const r = await first.scoutfs(...first.mountArgs(`${OPTION}=${bad}`));
    tt.equal(r.status, 1, `as mount option '${bad}' is refused`);
    tt.match(r.err, new RegExp(`^scoutfs: mount: .*${OPTION}.*\n$`));
  }
  tt.strictSame(remains(cluster), [], 'refused mounts leave nothing');
  await cluster.mountAll();
  for (const bad of REFUSED) tt.equal(set(first, `${bad}\n`), 'EINVAL', `in the file '${bad}' is refused`);
  tt.equal(first.show('mount_options', OPTION), `${DEFAULT_MS}`, 'nothing has changed');

  for (const [nr, ms] of TIMEOUTS_MS.entries()) {
    const leader = await cluster.newLeader();
    await setAll(cluster, leader, ms);
    tt.strictSame(cluster.nodes.map((n) => n.show('mount_options', OPTION)),
      cluster.nodes.map(() => `${ms}`));
    const killMs = performance.now();
    // by turns: a mount that is given up by force has to fall silent as well
    if (nr % 2 === 0) process.kill(leader.pid, 'SIGKILL');
    else await leader.must('umount', '-f', leader.mnt);
    await cluster.newLeader(leader);
    const tookMs = Math.round(performance.now() - killMs);
    tt.ok(tookMs >= ms - EARLY_MS && tookMs <= ms + LATE_MS,
      `a timeout of ${ms} ms: another one leads after ${tookMs} ms`);
    await leader.mount();
  }
  await cluster.umountAll();
  tt.strictSame(await cluster.check(), [], 'check is clean');
});
