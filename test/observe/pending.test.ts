/**
 * Waits: their lines, accesses of a device at work, and what the log says when something
 * waits for long.
 */
import t from 'tap';
import { WatchedDevice, devicePending } from '../../host/env/watched_device.js';
import { makeLog } from '../../host/observe/log.js';
import { parsePending, pendingLine } from '../../host/observe/pending.js';
import type { Pending } from '../../host/observe/pending.js';
import { LONG_WAIT_MS, WaitWatch } from '../../host/observe/wait_watch.js';
import { MemDevice } from '../lib/memdevice.js';
import { SimClock } from '../lib/simclock.js';

t.test('lines', async (t) => {
  const line = pendingLine({ kind: 'fence', sinceMs: 500, text: 'rid 1 addr 10.0.0.1' }, 2000.25);
  t.equal(line, 'fence secs_since 1.500250000 rid 1 addr 10.0.0.1');
  t.same(parsePending(`${line}\nnonsense\nlock secs_since x y\n`),
    [{ kind: 'fence', secs: 1.50025, text: 'rid 1 addr 10.0.0.1' }]);
  t.match(pendingLine({ kind: 'lock', sinceMs: 10, text: '' }, 0), /^lock secs_since 0\.000000000 $/);
});

t.test('a device that does not answer', async (t) => {
  const clock = new SimClock();
  const slow = new MemDevice('meta', 1 << 20);
  const device = new WatchedDevice(slow, clock);
  let release: () => void = () => undefined;
  slow.gate = new Promise((resolve) => { release = resolve; });
  const written = device.write(8192, new Uint8Array(4096).fill(7));
  await clock.advance(3000);
  const nowMs = clock.monotonicMs();
  t.same(devicePending([device]).map((p) => pendingLine(p, nowMs)),
    ['device secs_since 3.000000000 write meta offset 8192']);
  release();
  await written;
  t.same(devicePending([device, slow]), [], 'done; and nobody watches the other');
  const buf = new Uint8Array(4096);
  await device.read(8192, buf);
  t.equal(buf[0], 7, 'it is the same device');
  slow.failWrites = true;
  await t.rejects(device.write(0, buf));
  t.same(device.accesses(), [], 'failures end as well');
});

t.test('the log tells of long waits', async (t) => {
  const clock = new SimClock();
  const lines: string[] = [];
  let pending: Pending[] = [];
  const watch = new WaitWatch(clock, makeLog('info', (level, text) => {
    lines.push(`${level} ${text}`);
  }), () => pending);
  watch.start();
  await clock.advance(60_000);
  t.same(lines, [], 'nothing waits');
  const sinceMs = clock.monotonicMs();
  pending = [{ kind: 'request', sinceMs: sinceMs + 500, text: 'STATFS' },
    { kind: 'server', sinceMs, text: 'no server: refused' },
    ...Array.from({ length: 4 }, () => ({ kind: 'lock' as const, sinceMs: sinceMs + 900, text: 'k' }))];
  await clock.advance(LONG_WAIT_MS - 1);
  t.same(lines, [], 'not for long yet');
  await clock.advance(4001);
  t.match(lines, [/^warn waiting: server for 1\d s \(no server: refused\)/]);
  await clock.advance(200_000);
  t.equal(lines.length, 5, 'again after 20, 40, 80 and 160 s');
  t.match(lines.at(-1), /; request for 1\d\d s \(STATFS\); lock .*; 2 more$/);
  pending = [];
  await clock.advance(3000);
  t.match(lines.at(-1), /^info no longer waiting, after 2\d\d s$/);
  pending = [{ kind: 'commit', sinceMs: clock.monotonicMs(), text: 'fails' }];
  await clock.advance(LONG_WAIT_MS + 2000);
  t.match(lines.at(-1), /^warn waiting: commit for 1\d s/, 'a new wait begins anew');
  watch.stop();
  const before = lines.length;
  await clock.advance(500_000);
  t.equal(lines.length, before);
});
