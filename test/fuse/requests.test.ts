/**
 * What each system call costs in FUSE requests with long timeouts, as in the table of
 * fuse.md 3 ("all long"), and that nothing on the way makes a promise.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fuseMissing, mountMemfs, sleep } from './harness.js';
import type { Daemon } from './harness.js';

const missing = fuseMissing();
const { O_CREAT, O_EXCL, O_WRONLY } = fs.constants;

/** The letters of fuse.md 3; other requests by their name. */
const LETTERS: Record<string, string> = {
  LOOKUP: 'L', GETATTR: 'G', STATX: 'G', OPEN: 'O', CREATE: 'C', RELEASE: 'R', FORGET: 'F',
  BATCH_FORGET: 'F', RENAME2: 'RENAME',
};

/** Requests caused by `fn`, as sorted "count letter" words; forgets arrive late. */
async function cost(daemon: Daemon, fn: () => void): Promise<string> {
  const before = (await daemon.state()).requests;
  fn();
  await sleep(20);
  const after = (await daemon.state()).requests;
  const sums = new Map<string, number>();
  for (const [name, n] of Object.entries(after)) {
    const letter = LETTERS[name] ?? name;
    const diff = n - (before[name] ?? 0);
    if (diff > 0) sums.set(letter, (sums.get(letter) ?? 0) + diff);
  }
  return [...sums].sort().map(([l, n]) => (n === 1 ? l : `${n} ${l}`)).join(', ');
}

function create(path: string, data?: string): void {
  const fd = fs.openSync(path, O_CREAT | O_EXCL | O_WRONLY, 0o644);
  if (data !== undefined) fs.writeSync(fd, data);
  fs.closeSync(fd);
}

t.test('requests per system call', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const p = (...parts: string[]): string => join(daemon.dir, ...parts);
  const stat = (path: string) => (): void => { fs.statSync(path, { throwIfNoEntry: false }); };
  const costs = async (what: string, want: string, fn: () => void): Promise<void> => {
    t.equal(await cost(daemon, fn), want, what);
  };

  fs.mkdirSync(p('x', 'y'), { recursive: true });
  create(p('x', 'y', 'z'), 'deep');
  create(p('f'), 'data');
  stat(p('f'))();
  stat(p('none'))();
  stat(p('x', 'y', 'z'))();
  await costs('stat, seen before', '', stat(p('f')));
  await costs('stat of a missing name, seen before', '', stat(p('none')));
  await costs('stat, 3 levels', '', stat(p('x', 'y', 'z')));

  const read = (): void => {
    const fd = fs.openSync(p('f'), 'r');
    fs.readSync(fd, Buffer.alloc(4096));
    fs.closeSync(fd);
  };
  await costs('open, read, close, first time', 'O, R, READ', read);
  // reading made the access time invalid, which is asked for by stat only
  await costs('open, read, close, cached', 'O, R', read);

  create(p('c0'));
  await costs('create, close', 'C, G, L, R', () => { create(p('c1')); });
  await costs('create, write, close', 'C, G, L, R, WRITE', () => { create(p('c2'), 'x'); });
  const fd = fs.openSync(p('c2'), 'r+');
  stat(p('c2'))();
  await costs('10 writes', '10 WRITE', () => {
    for (let i = 0; i < 10; i++) fs.writeSync(fd, 'x');
  });
  await costs('stat after writes', 'G', stat(p('c2')));
  fs.closeSync(fd);

  fs.mkdirSync(p('m0'));
  await costs('mkdir', 'G, L, MKDIR', () => { fs.mkdirSync(p('m1')); });
  await costs('unlink, name cached', 'F, G, UNLINK', () => { fs.unlinkSync(p('c1')); });
  stat(daemon.dir)();
  await costs('rename to a new name', 'L, RENAME', () => { fs.renameSync(p('c2'), p('r2')); });
  await costs('link', 'G, L, LINK', () => { fs.linkSync(p('r2'), p('l2')); });
  stat(p('r2'))();
  await costs('chmod', 'SETATTR', () => { fs.chmodSync(p('r2'), 0o600); });
  await costs('utimes', 'SETATTR', () => { fs.utimesSync(p('r2'), 1, 2); });

  fs.mkdirSync(p('dir'));
  for (let i = 0; i < 1000; i++) create(p('dir', `name-${i}`));
  fs.readdirSync(p('dir'));
  const list = await cost(daemon, () => { fs.readdirSync(p('dir')); });
  t.match(list, /^(G, )?OPENDIR, [2-4] READDIR, RELEASEDIR$/, 'ls of 1000');
  await costs('stat of 1000 names, warm', '1000 G', () => {
    // G: creating them made no attributes with a birth time; afterwards none are needed
    for (let i = 0; i < 1000; i++) fs.statSync(p('dir', `name-${i}`));
  });
  await costs('stat of 1000 names again', '', () => {
    for (let i = 0; i < 1000; i++) fs.statSync(p('dir', `name-${i}`));
  });
});

t.test('no promise on the fast path', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const p = (name: string): string => join(daemon.dir, name);
  const work = (n: number): void => {
    for (let i = 0; i < n; i++) {
      create(p(`f${i}`), 'some data');
      fs.readFileSync(p(`f${i}`));
      fs.readdirSync(daemon.dir);
      fs.renameSync(p(`f${i}`), p('renamed'));
      fs.chmodSync(p('renamed'), 0o600);
      fs.truncateSync(p('renamed'), 3);
      fs.unlinkSync(p('renamed'));
    }
  };
  work(10);
  await sleep(50);
  const before = await daemon.state();
  await daemon.call('countPromises', { on: true });
  work(100);
  const many = await daemon.call('promises') as number;
  await daemon.call('countPromises', { on: true });
  const none = await daemon.call('promises') as number;
  const after = await daemon.state();
  const sum = (r: Record<string, number>): number => Object.values(r).reduce((a, b) => a + b, 0);
  t.ok(sum(after.requests) - sum(before.requests) > 1000, 'more than 1000 requests were served');
  t.equal(many, none, 'as many promises as without any request: those of the commands');
  t.equal(after.parked, before.parked);
  t.equal(after.moved, before.moved);
});
