/**
 * Requests that wait, and caches that are taken back while they do: parking,
 * interruption, notifications that the kernel blocks, the drain of fuse.md 5.3.
 */
import * as fs from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { putNodeId } from '../../host/fuse/protocol.js';
import { fuseMissing, mountMemfs, ops, opsHelper, sleep, until } from './harness.js';
import type { Daemon } from './harness.js';

const { promises: fsp } = fs;
const missing = fuseMissing();
const noCc = missing ?? (opsHelper() === null ? 'no C compiler' : null);
const [NULL, READ, WRITE] = [0, 1, 2];

async function requests(daemon: Daemon): Promise<Record<string, number>> {
  return (await daemon.state()).requests;
}

/** Requests that `fn` caused, by name, without forgets. */
async function caused(daemon: Daemon, fn: () => unknown): Promise<string[]> {
  const before = await requests(daemon);
  await fn();
  const after = await requests(daemon);
  return Object.keys(after).filter((k) => !k.includes('FORGET') && after[k] !== before[k]).sort();
}

async function parked(daemon: Daemon, count: number): Promise<void> {
  await until(async () => (await daemon.state()).parked >= count, `${count} parked requests`);
}

t.test('a parked request stops nobody else', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs({ guarded: true });
  t.teardown(() => daemon.stop());
  const p = (name: string): string => join(daemon.dir, name);
  fs.writeFileSync(p('f'), 'data');
  await daemon.call('hold', { op: 'mkdir' });
  let done = false;
  const waiting = fsp.mkdir(p('d')).then(() => { done = true; });
  await parked(daemon, 1);
  t.equal(fs.readFileSync(p('f'), 'utf8'), 'data');
  fs.writeFileSync(p('f'), 'other');
  t.equal(done, false);
  await daemon.call('release', { op: 'mkdir' });
  await waiting;
  t.ok(fs.statSync(p('d')).isDirectory());
});

t.test('a parked write keeps its data', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs({ guarded: true });
  t.teardown(() => daemon.stop());
  const p = (name: string): string => join(daemon.dir, name);
  const data = (i: number): string => String.fromCharCode(97 + i).repeat(50_000 + i);
  const handles = await Promise.all([0, 1, 2, 3].map((i) => fsp.open(p(`f${i}`), 'w')));
  await daemon.call('hold', { op: 'write' });
  const writes = handles.map((h, i) => h.write(data(i)));
  await parked(daemon, 4);
  fs.mkdirSync(p('between'));
  await daemon.call('release', { op: 'write' });
  await Promise.all(writes);
  await Promise.all(handles.map((h) => h.close()));
  for (const i of [0, 1, 2, 3]) t.ok(fs.readFileSync(p(`f${i}`), 'utf8') === data(i), `file ${i}`);
});

t.test('a signal does not end a wait, killing does', { skip: noCc ?? false }, async (t) => {
  const daemon = await mountMemfs({ guarded: true });
  t.teardown(() => daemon.stop());
  fs.mkdirSync(join(daemon.dir, 'other'));
  await daemon.call('hold', { op: 'mkdir' });
  const signalled = ops('mkdir-interrupted', join(daemon.dir, 'd'));
  // its alarm comes after 200 ms
  await sleep(500);
  t.equal((await daemon.state()).interrupted, 0);
  // in another directory: the kernel lets nobody else into one that is being changed
  const killed = spawn('mkdir', [join(daemon.dir, 'other', 'e')]);
  await sleep(300);
  killed.kill('SIGTERM');
  const [, signal] = await once(killed, 'exit') as [number | null, string | null];
  t.equal(signal, 'SIGTERM', 'who is killed goes at once');
  t.equal((await daemon.state()).interrupted, 1);
  await daemon.call('release', { op: 'mkdir' });
  t.equal(await signalled, '', 'who was only signalled gets what was asked for');
  t.same(fs.readdirSync(daemon.dir).sort(), ['d', 'other']);
  t.same(fs.readdirSync(join(daemon.dir, 'other')), [], 'that of the killed did not run');
});

t.test('an exception is answered EIO and the mount stays', { skip: missing ?? false },
  async (t) => {
    const daemon = await mountMemfs({ guarded: true });
    t.teardown(() => daemon.stop());
    await daemon.call('break', { op: 'mkdir' });
    t.throws(() => { fs.mkdirSync(join(daemon.dir, 'd')); }, { code: 'EIO' });
    await daemon.call('mend', { op: 'mkdir' });
    fs.mkdirSync(join(daemon.dir, 'd'));
    const state = await daemon.state();
    t.equal(state.unexpected, 1);
    t.match(state.log.at(-1), /MKDIR of inode 1 failed unexpectedly/);
  });

/** INVAL_ENTRY, which we never send: it waits for the directory's mutex. */
function invalEntry(parent: number, name: string): number[] {
  const message = Buffer.alloc(32 + name.length + 1);
  message.writeUInt32LE(message.length, 0);
  message.writeInt32LE(3, 4);
  putNodeId(new DataView(message.buffer, message.byteOffset), 16, parent);
  message.writeUInt32LE(name.length, 24);
  message.write(name, 32);
  return [...message];
}

t.test('a notification blocked by a request in flight does not stop the daemon',
  { skip: missing ?? false }, async (t) => {
    const daemon = await mountMemfs({ guarded: true });
    t.teardown(() => daemon.stop());
    const p = (name: string): string => join(daemon.dir, name);
    fs.mkdirSync(p('d'));
    fs.writeFileSync(p('d/old'), '');
    fs.writeFileSync(p('other'), 'x');
    await daemon.call('hold', { op: 'create' });
    const creating = fsp.writeFile(p('d/new'), '');
    await parked(daemon, 1);
    let finished = false;
    const notified = daemon.call('notify', { bytes: invalEntry(fs.statSync(p('d')).ino, 'old') })
      .then((rc) => { finished = true; return rc; });
    await sleep(200);
    t.equal(finished, false, 'it sleeps on the directory, which the CREATE holds');
    t.equal(fs.readFileSync(p('other'), 'utf8'), 'x', 'the daemon answers meanwhile');
    await daemon.call('release', { op: 'create' });
    await creating;
    t.equal(await notified, 0);
  });

t.test('a drain takes back names and attributes', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const p = (name: string): string => join(daemon.dir, name);
  const stat = (name: string) => (): unknown => fs.statSync(p(name), { throwIfNoEntry: false });
  fs.writeFileSync(p('f'), 'data');
  stat('f')();
  stat('none')();
  t.same(await caused(daemon, stat('f')), [], 'cached');
  t.same(await caused(daemon, stat('none')), [], 'cached as missing');
  await daemon.call('drain', { ino: 0, from: WRITE, to: READ });
  t.same(await caused(daemon, stat('f')), [], 'others only read: kept');
  await daemon.call('drain', { ino: 1024, from: WRITE, to: NULL });
  t.same(await caused(daemon, stat('f')), [], 'another group: kept');
  await daemon.call('drain', { ino: 0, from: WRITE, to: NULL });
  t.same(await caused(daemon, stat('f')), ['GETATTR', 'LOOKUP', 'STATX'], 'asked again');
  t.same(await caused(daemon, stat('none')), ['LOOKUP']);
  const { epochs } = (await daemon.state()).drain;
  t.equal(epochs, 1);
  await daemon.call('caching', { on: false });
  await daemon.call('drain', { ino: 0, from: WRITE, to: NULL });
  stat('f')();
  t.same(await caused(daemon, stat('f')), ['GETATTR', 'LOOKUP', 'STATX'], 'no lock: no caching');
  await daemon.call('drain', { ino: 0, from: WRITE, to: NULL });
  t.equal((await daemon.state()).drain['epochs'], 2, 'no epoch without a name given out');
});

t.test('a renamed name belongs to its new directory', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const p = (name: string): string => join(daemon.dir, name);
  fs.writeFileSync(p('f'), 'data');
  await daemon.call('drain', { ino: 0, from: WRITE, to: NULL });
  fs.statSync(p('f'));
  // only the rename gives the directory a name in the new epoch
  await daemon.call('caching', { on: false });
  fs.renameSync(p('f'), p('g'));
  const before = (await daemon.state()).drain['epochs'] ?? 0;
  await daemon.call('drain', { ino: 0, from: WRITE, to: NULL });
  t.equal((await daemon.state()).drain['epochs'], before + 1);
});

t.test('a drain drops pages and leaves parked reads alone', { skip: missing ?? false },
  async (t) => {
    const daemon = await mountMemfs({ guarded: true });
    t.teardown(() => daemon.stop());
    const p = (name: string): string => join(daemon.dir, name);
    fs.writeFileSync(p('f'), 'x'.repeat(10_000));
    const { ino } = fs.statSync(p('f'));
    fs.readFileSync(p('f'));
    t.notOk((await caused(daemon, () => fs.readFileSync(p('f')))).includes('READ'), 'cached');
    await daemon.call('drain', { ino: 0, from: READ, to: NULL });
    t.ok((await caused(daemon, () => fs.readFileSync(p('f')))).includes('READ'), 'read again');

    await daemon.call('dropPages', { ino, offset: 4096, lenBytes: 1 });
    t.ok((await caused(daemon, () => fs.readFileSync(p('f')))).includes('READ'),
      'after pages were dropped by hand');

    await daemon.call('drain', { ino: 0, from: READ, to: NULL });
    await daemon.call('hold', { op: 'read', on: true });
    const reading = fsp.readFile(p('f'));
    await parked(daemon, 1);
    await daemon.call('drain', { ino: 0, from: READ, to: NULL });
    t.pass('the drain did not wait for the parked read');
    await daemon.call('release', { op: 'read' });
    t.equal((await reading).length, 10_000);
  });

/** A process with a dirty shared mapping of `path`, and how to let it end. */
async function dirtyMapping(path: string): Promise<() => Promise<string>> {
  const child = spawn(opsHelper() ?? '', ['mmap-hold', path],
    { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (s: string) => { text += s; });
  await until(() => text.includes('ready'), 'the mapping');
  return async () => {
    child.stdin.write('\n');
    await new Promise((done) => { child.once('close', done); });
    return text.replace('ready\n', '').trim();
  };
}

t.test('a drain writes dirty mappings back', { skip: noCc ?? false }, async (t) => {
  const daemon = await mountMemfs({ guarded: true });
  t.teardown(() => daemon.stop());
  const f = join(daemon.dir, 'f');
  const end = await dirtyMapping(f);
  const wrote = await caused(daemon, () => daemon.call('drain', { ino: 0, from: WRITE, to: READ }));
  t.same(wrote, ['WRITE'], 'open for reading and writing: to READ as well');
  const direct = fs.openSync(f, 'r+');
  const back = Buffer.alloc(5);
  fs.readSync(direct, back, 0, 5, 0);
  t.equal(back.toString(), 'dirty');
  fs.closeSync(direct);
  t.equal(await end(), 'dirty', 'the mapping faults its page in again');
});

t.test('reads and size changes that a drain waits for are executed', { skip: noCc ?? false },
  async (t) => {
    const daemon = await mountMemfs({ guarded: true });
    t.teardown(() => daemon.stop());
    const f = join(daemon.dir, 'f');
    const end = await dirtyMapping(f);
    // write-back will wait for the size change, which waits for a lock
    await daemon.call('hold', { op: 'setattr', on: true });
    await daemon.call('hold', { op: 'read', on: true });
    const cutting = fsp.truncate(f, 1 << 19);
    await parked(daemon, 1);
    await daemon.call('drain', { ino: 0, from: WRITE, to: NULL });
    await cutting;
    t.equal((await fsp.stat(f)).size, 1 << 19, 'the size change ran under the old grant');

    await daemon.call('release', { op: 'read' });
    await daemon.call('release', { op: 'setattr' });
    t.equal(await end(), 'dirty');
  });

t.test('a read inside a notification in flight runs at once', { skip: noCc ?? false },
  async (t) => {
    const daemon = await mountMemfs({ guarded: true });
    t.teardown(() => daemon.stop());
    const f = join(daemon.dir, 'f');
    const end = await dirtyMapping(f);
    await daemon.call('hold', { op: 'write' });
    await daemon.call('hold', { op: 'read', on: true });
    let drained = false;
    const draining = daemon.call('drain', { ino: 0, from: WRITE, to: NULL })
      .then(() => { drained = true; });
    await parked(daemon, 1);
    const child = spawn('dd', [`if=${f}`, 'bs=4096', 'skip=128', 'count=1', 'status=none'],
      { stdio: ['ignore', 'pipe', 'inherit'] });
    let bytes = 0;
    child.stdout.on('data', (b: Buffer) => { bytes += b.length; });
    await new Promise((done) => { child.once('close', done); });
    t.equal(bytes, 4096, 'answered although reads wait for the lock');
    t.equal(drained, false, 'the drain still waits for the write-back');
    await daemon.call('release', { op: 'write' });
    await draining;
    t.ok(((await daemon.state()).drain['readsDuringDrain'] ?? 0) > 0);
    await daemon.call('release', { op: 'read' });
    t.equal(await end(), 'dirty');
  });

t.test('appends go to the true size and raise the kernel\'s', { skip: missing ?? false },
  async (t) => {
    const daemon = await mountMemfs();
    t.teardown(() => daemon.stop());
    const f = join(daemon.dir, 'f');
    const fd = fs.openSync(f, 'a');
    fs.writeSync(fd, 'one');
    const { ino } = fs.fstatSync(fd);
    await daemon.call('append', { ino, bytes: [...Buffer.from('two')] });
    fs.writeSync(fd, 'three');
    t.equal(fs.readFileSync(f, 'utf8'), 'onetwothree');
    t.equal((await daemon.state()).drain['stores'], 1);
    fs.closeSync(fd);
  });

t.test('prune makes the kernel forget', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  for (let i = 0; i < 50; i++) fs.writeFileSync(join(daemon.dir, `f${i}`), '');
  const fd = fs.openSync(join(daemon.dir, 'f7'), 'r');
  const { ino } = fs.fstatSync(fd);
  t.equal((await daemon.state()).nodes, 51);
  await daemon.call('prune', { ino: 0 });
  await until(async () => (await daemon.state()).nodes === 2, 'forgets');
  t.same((await daemon.state()).inos.sort(), [1, ino], 'the root and the open file stay');
  fs.closeSync(fd);
});

t.test('no more inodes are kept than the limit', { skip: missing ?? false }, async (t) => {
  const limit = 1000;
  const daemon = await mountMemfs({ inodesMax: limit });
  t.teardown(() => daemon.stop());
  fs.mkdirSync(join(daemon.dir, 'd'));
  const open = fs.openSync(join(daemon.dir, 'open'), 'w+');
  for (let i = 0; i < 3 * limit; i++) fs.writeFileSync(join(daemon.dir, 'd', `f${i}`), '');
  const { inos, drain } = await daemon.state();
  t.ok(inos.length < 2 * limit, `${inos.length} inodes are known`);
  t.ok((drain['pruned'] ?? 0) > 0, 'because older ones were pruned');
  t.ok(inos.includes(fs.fstatSync(open).ino), 'the open file stays');
  fs.closeSync(open);
  t.equal(fs.readFileSync(join(daemon.dir, 'd', 'f7'), 'utf8'), '', 'names are found again');
});
