/**
 * What system calls cost on a real mount.
 *
 * Requests: those of fuse.md 3, column "all long", call by call. Work per request: when
 * everything is cached an operation parks nothing, makes no promise, and crosses the
 * border to the core a known number of times; the table below is what it is now and may
 * only be lowered.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, skipWithoutFuse, sleepMs } from '../lib/mounted.js';
import { getXattr, truncate } from '../lib/posix.js';

const skip = skipWithoutFuse();
process.env['SCOUTFS_COUNT'] = '1';
/** Requests that nobody waits for arrive a little later. */
const SETTLE_MS = 30;

/** The letters of fuse.md 3; other requests by their name. */
const LETTERS: Record<string, string> = {
  LOOKUP: 'L', GETATTR: 'G', STATX: 'G', OPEN: 'O', CREATE: 'C', RELEASE: 'R', FORGET: 'F',
  BATCH_FORGET: 'F', RENAME2: 'RENAME',
};

function create(path: string, data?: string): void {
  const fd = fs.openSync(path, 'wx', 0o644);
  if (data !== undefined) fs.writeSync(fd, data);
  fs.closeSync(fd);
}

/** Requests caused by `fn`, as sorted "count letter" words. */
function cost(rig: Rig, fn: () => void): string {
  const before = rig.counters().requests;
  fn();
  sleepMs(SETTLE_MS);
  const after = rig.counters().requests;
  const sums = new Map<string, number>();
  for (const [name, n] of Object.entries(after)) {
    const diff = n - (before[name] ?? 0);
    const letter = LETTERS[name] ?? name;
    if (diff > 0) sums.set(letter, (sums.get(letter) ?? 0) + diff);
  }
  return [...sums].sort().map(([l, n]) => (n === 1 ? l : `${n} ${l}`)).join(', ');
}

void t.test('requests per system call', { skip }, async (tt) => {
  const rig = new Rig('requests');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  const p = (...parts: string[]): string => join(rig.mnt, ...parts);
  const stat = (path: string) => (): void => { fs.statSync(path, { throwIfNoEntry: false }); };
  const costs = (what: string, want: string | RegExp, fn: () => void): void => {
    const got = cost(rig, fn);
    if (typeof want === 'string') tt.equal(got, want, what);
    else tt.match(got, want, what);
  };

  fs.mkdirSync(p('x', 'y'), { recursive: true });
  create(p('x', 'y', 'z'), 'deep');
  create(p('f'), 'data');
  for (const path of [p('f'), p('none'), p('x', 'y', 'z')]) stat(path)();
  costs('stat, seen before', '', stat(p('f')));
  costs('stat of a missing name, seen before', '', stat(p('none')));
  costs('stat, 3 levels', '', stat(p('x', 'y', 'z')));
  const read = (): void => {
    const fd = fs.openSync(p('f'), 'r');
    fs.readSync(fd, Buffer.alloc(4096));
    fs.closeSync(fd);
  };
  costs('open, read, close, first time', 'O, R, READ', read);
  costs('open, read, close, cached', 'O, R', read);
  create(p('c0'));
  costs('create, close', 'C, G, L, R', () => { create(p('c1')); });
  costs('create, write, close', 'C, G, L, R, WRITE', () => { create(p('c2'), 'x'); });
  const fd = fs.openSync(p('c2'), 'r+');
  stat(p('c2'))();
  costs('10 writes', '10 WRITE', () => { for (let i = 0; i < 10; i++) fs.writeSync(fd, 'x'); });
  costs('stat after writes', 'G', stat(p('c2')));
  fs.closeSync(fd);
  fs.mkdirSync(p('m0'));
  costs('mkdir', 'G, L, MKDIR', () => { fs.mkdirSync(p('m1')); });
  costs('unlink, name cached', 'F, G, UNLINK', () => { fs.unlinkSync(p('c1')); });
  stat(rig.mnt)();
  costs('rename to a new name', 'L, RENAME', () => { fs.renameSync(p('c2'), p('r2')); });
  costs('link', 'G, L, LINK', () => { fs.linkSync(p('r2'), p('l2')); });
  stat(p('r2'))();
  costs('chmod', 'SETATTR', () => { fs.chmodSync(p('r2'), 0o600); });
  costs('utimes', 'SETATTR', () => { fs.utimesSync(p('r2'), 1, 2); });
  // the kernel looks for a security.capability to drop (fuse.md 3)
  costs('truncate', 'GETXATTR, SETATTR', () => { truncate(p('r2'), 3); });

  fs.mkdirSync(p('dir'));
  // G: the C library looks at what it has opened, and reading made its access time invalid
  for (let i = 0; i < 1000; i++) create(p('dir', `name-${i}`));
  fs.readdirSync(p('dir'));
  costs('ls of 1000', /^(G, )?OPENDIR, [2-4] READDIR, RELEASEDIR$/,
    () => { fs.readdirSync(p('dir')); });
  const statAll = (): void => {
    for (let i = 0; i < 1000; i++) fs.statSync(p('dir', `name-${i}`));
  };
  statAll();
  costs('ls -l of 1000, warm', /^(G, )?OPENDIR, [2-4] READDIR, RELEASEDIR$/, () => {
    fs.readdirSync(p('dir'));
    statAll();
  });
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});

/** Repetitions in one measurement, and measurements of which the quietest counts. */
const REPEAT = 40;
const ATTEMPTS = 8;

interface Cost {
  requests: number;
  parked: number;
  promises: number;
  /** Calls of the core's exports. */
  crossings: number;
}

/** Averages for one operation in the measurement with the fewest promises. */
function measure(rig: Rig, fn: (i: number) => void): Cost {
  let best: Cost | null = null;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = rig.counters();
    for (let i = 0; i < REPEAT; i++) fn(attempt * REPEAT + i);
    const after = rig.counters();
    const sum = (r: Record<string, number>): number => Object.values(r).reduce((a, b) => a + b, 0);
    const now: Cost = {
      requests: (sum(after.requests) - sum(before.requests)) / REPEAT,
      parked: after.parked + after.moved - before.parked - before.moved,
      promises: after.promises - before.promises,
      crossings: (after.core.crossings - before.core.crossings) / REPEAT,
    };
    if (best === null || now.promises + now.parked < best.promises + best.parked) best = now;
    // timers of the mount itself make a promise now and then: not in every measurement
    if (best.promises + best.parked === 0) break;
  }
  if (best === null) throw new Error('nothing was measured');
  return best;
}

/** Operation → the most calls of the core, and promises, that one repetition may take. */
const LIMITS: Record<string, { crossings: number; promises: number }> = {
  'stat': { crossings: 4, promises: 0 },
  'lookup': { crossings: 5, promises: 0 },
  'read at the end, fstat': { crossings: 2, promises: 0 },
  'open, close': { crossings: 5, promises: 0 },
  'readdir of 101': { crossings: 107, promises: 0 },
  'getxattr': { crossings: 5, promises: 0 },
  'create': { crossings: 22, promises: 0 },
  'unlink of one of two names': { crossings: 21, promises: 0 },
  // deleting the inode is work behind the request: it asks the server who has it open
  'unlink of the last name': { crossings: 40, promises: 10 },
};

void t.test('cached operations wait for nothing', { skip }, async (tt) => {
  const rig = new Rig('crossings');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  // with the kernel's caches off every call reaches the daemon
  rig.mount('kernel_cache=0');
  const p = (...parts: string[]): string => join(rig.mnt, ...parts);
  fs.mkdirSync(p('d'));
  fs.mkdirSync(p('new'));
  for (let i = 0; i < 100; i++) create(p('d', `f${i}`), 'data');
  const path = Buffer.from(p('d', 'f7'));
  create(p('d', 'empty'));
  // a handle for writing reads directly: each read makes the access time invalid
  const handle = fs.openSync(p('d', 'empty'), 'r+');
  const byte = Buffer.alloc(1);
  const operations: Record<string, (i: number) => void> = {
    'stat': () => { fs.statSync(path); },
    'lookup': (i) => { fs.statSync(p('d', `f${i % 100}`)); },
    'read at the end, fstat': () => {
      fs.readSync(handle, byte, 0, 1, 0);
      fs.fstatSync(handle);
    },
    'open, close': () => { fs.closeSync(fs.openSync(path, 'r')); },
    'readdir of 101': () => { fs.readdirSync(p('d')); },
    'getxattr': () => { getXattr(path, 'user.none'); },
    'create': (i) => { create(p('new', `c${i}`)); },
    'unlink of one of two names': (i) => { fs.unlinkSync(p('new', `l${i}`)); },
    'unlink of the last name': (i) => { fs.unlinkSync(p('new', `c${i}`)); },
  };
  for (const [name, fn] of Object.entries(operations)) {
    if (!/create|unlink/.test(name)) fn(0);
    if (name === 'unlink of one of two names') {
      for (let i = 0; i < ATTEMPTS * REPEAT; i++) {
        fs.writeFileSync(p('new', `c${i}`), '');
        fs.linkSync(p('new', `c${i}`), p('new', `l${i}`));
      }
    }
    const c = measure(rig, fn);
    tt.ok(c.requests >= 1, `${name}: ${c.requests} requests reach the daemon`);
    tt.equal(c.parked, 0, `${name}: nothing is parked`);
    const most = LIMITS[name] ?? { crossings: 0, promises: 0 };
    tt.ok(c.promises <= most.promises * REPEAT,
      `${name}: ${c.promises} promises, at most ${most.promises} each`);
    tt.ok(c.crossings > 0 && c.crossings <= most.crossings,
      `${name}: ${c.crossings} calls of the core, at most ${most.crossings}`);
    tt.comment(`${name}: ${c.requests} requests, ${c.crossings} calls of the core, ${
      c.promises} promises`);
  }
  fs.closeSync(handle);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});
