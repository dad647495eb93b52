/**
 * Fence requests and client recovery: timers, duplicates, the local agent.
 */
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import t from 'tap';
import { deviceWriters } from '../../host/env/device_writers.js';
import type { LocalMounts } from '../../host/env/local_mounts.js';
import { hostMounts } from '../../host/env/local_mounts.js';
import { FenceRequests, localFenceAgent } from '../../host/server/fence.js';
import { RECOV_GREETING, RECOV_LOCKS, Recovery } from '../../host/server/recov.js';
import { SimClock, settle } from '../lib/simclock.js';

t.test('a request per mount, until it is reclaimed', async (t) => {
  const clock = new SimClock();
  const changed: bigint[] = [];
  const f = new FenceRequests(clock, null, (rid) => { changed.push(rid); });
  f.create(7n, 1, 'quorum_block_leader');
  f.create(7n, 2, 'client_recovery');
  t.match(f.list(), [{ rid: 7n, ipv4Addr: 1, reason: 'quorum_block_leader', fenced: false }]);
  await clock.advance(2500);
  t.equal(f.list()[0]?.elapsedSecs, 2);
  t.equal(f.nextFenced(), null);
  f.setFenced(7n);
  t.equal(f.nextFenced(), 7n);
  await clock.advance(60_000);
  t.equal(f.failed, false, 'a fenced request does not time out');
  f.remove(7n);
  t.same(f.list(), []);
  t.same(changed, [7n, 7n, 7n]);
  f.setFenced(7n);
  f.setError(7n);
  t.same(f.list(), [], 'a request that is gone stays gone');
});

t.test('an agent that does not answer', async (t) => {
  const clock = new SimClock();
  const f = new FenceRequests(clock, null, () => undefined);
  f.create(7n, 1, 'client_reconnect');
  const waiting = f.allFenced(15_000, () => false);
  const failed = t.rejects(waiting, { code: 'FENCE_FAILED', message: /within 15 s: mount 7 at 0\.0\.0\.1/ });
  await clock.advance(16_000);
  await failed;
  t.equal(f.failed, false);
  await clock.advance(15_000);
  t.equal(f.failed, true, 'after 30 s it counts as failed');
  await t.rejects(f.allFenced(15_000, () => false), { message: /agent failed/ });
});

t.test('mounts of this host are fenced at once', async (t) => {
  const killed: bigint[] = [];
  const forgotten: bigint[] = [];
  const states = new Map<bigint, 'running' | 'gone'>([[7n, 'running'], [8n, 'gone'], [5n, 'running']]);
  const host: LocalMounts = {
    isLocal: (addr) => addr === 0x7f000001,
    stateOf: (rid) => states.get(rid) ?? 'foreign',
    pause: () => Promise.resolve(),
    kill: async (rid) => { killed.push(rid); return rid === 7n; },
    forget: (rid) => { forgotten.push(rid); },
  };
  const clock = new SimClock();
  const f = new FenceRequests(clock, localFenceAgent(host), () => undefined);
  f.create(7n, 0x7f000001, 'quorum_block_leader');
  f.create(8n, 0x7f000001, 'client_recovery');
  f.create(9n, 0x0a000001, 'client_recovery');
  f.create(6n, 0x7f000001, 'client_recovery');
  await settle();
  t.same(f.list().map((r) => [r.rid, r.fenced]),
    [[7n, true], [8n, true], [9n, false], [6n, false]], 'what is not ours to end is not fenced');
  t.same(killed, [7n]);
  f.create(5n, 0x7f000001, 'client_recovery');
  await settle();
  t.equal(f.list().find((r) => r.rid === 5n)?.fenced, false, 'who cannot be killed is not fenced');
  f.remove(8n);
  f.removeAll();
  t.same(forgotten, [8n], 'only what was reclaimed is forgotten');
});

t.test('recovery of clients', async (t) => {
  const clock = new SimClock();
  let done = 0;
  const expired: bigint[][] = [];
  const r = new Recovery(clock, () => { done++; }, (rids) => { expired.push(rids); });
  r.add(1n);
  r.add(2n);
  r.start();
  r.finish(1n, RECOV_GREETING);
  t.equal(r.pending(RECOV_GREETING), true);
  t.equal(r.pending(RECOV_GREETING, 1n), false);
  r.finish(1n, RECOV_LOCKS);
  await clock.advance(30_000);
  t.same(expired, [[2n]]);
  t.equal(done, 0, 'who is fenced is waited for');
  r.finish(2n, RECOV_GREETING | RECOV_LOCKS);
  r.finish(2n, RECOV_GREETING | RECOV_LOCKS);
  t.equal(done, 1);
  const nobody = new Recovery(clock, () => { done++; }, () => undefined);
  nobody.start();
  t.equal(done, 2, 'nobody to wait for');
  const stopped = new Recovery(clock, () => { done++; }, (rids) => { expired.push(rids); });
  stopped.add(1n);
  stopped.start();
  stopped.stop();
  await clock.advance(60_000);
  t.equal(done, 2);
  t.equal(expired.length, 1);
});

t.test('an unknown process that has the device open may be the mount', async (t) => {
  const dir = t.testdir({ meta: '' });
  const path = join(dir, 'meta');
  const open = (flags: string): ChildProcessByStdio<null, Readable, null> => spawn(process.execPath, ['-e',
    `fs.openSync(${JSON.stringify(path)}, '${flags}'); console.log('open'); setTimeout(() => 0, 60000);`],
  { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = async (c: ChildProcessByStdio<null, Readable, null>): Promise<void> => {
    c.kill('SIGKILL');
    await once(c, 'exit');
  };
  const host = hostMounts(new SimClock(), path);
  t.equal(host.stateOf(123n), 'gone');
  const reader = open('r');
  await once(reader.stdout, 'data');
  t.equal(host.stateOf(123n), 'gone', 'a reader writes nothing');
  await ended(reader);
  const writer = open('r+');
  await once(writer.stdout, 'data');
  t.same(deviceWriters(path), [writer.pid]);
  t.equal(host.stateOf(123n), 'unclear');
  await ended(writer);
  t.equal(host.stateOf(123n), 'gone', 'nothing is left that could write');
});

t.test('what stays unclear is left to others, what clears up is confirmed', async (t) => {
  let unclear = 3;
  const host: LocalMounts = {
    isLocal: () => true,
    stateOf: () => (unclear > 0 ? 'unclear' : 'gone'),
    pause: () => { unclear -= 1; return Promise.resolve(); },
    kill: () => Promise.resolve(false),
    forget: () => undefined,
  };
  t.equal(await localFenceAgent(host).fence(1n, 1), 'fenced');
  unclear = Infinity;
  t.equal(await localFenceAgent(host).fence(1n, 1), 'not-local');
});
