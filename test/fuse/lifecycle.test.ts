/**
 * Beginnings and ends of a mount: refusals in one line, dead daemons, lazy unmounts,
 * aborted connections.
 */
import * as fs from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { unmountFuse } from '../../host/env/fuse-mount.js';
import { repoDir } from '../lib/shared.js';
import { Daemon, fuseMissing, mountMemfs, sleep, until } from './harness.js';

const { promises: fsp } = fs;
const missing = fuseMissing();
/** More than any kernel has given out. */
const GONE = 2 ** 31 - 1;
const gone = ['ENOTCONN', 'ECONNABORTED'];

function errnoOf(e: unknown): string {
  return (e as NodeJS.ErrnoException).code ?? 'unknown';
}

t.test('mount points that cannot be used', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  const file = join(daemon.dir, 'file');
  fs.writeFileSync(file, '');
  const other = await Daemon.spawn(fs.mkdtempSync(join(tmpdir(), 'scoutfs-fuse-')));
  t.teardown(() => other.stop());
  await t.rejects(other.call('mount', { dir: daemon.dir }),
    { message: `${daemon.dir}: already a mount point (fuse.scoutfstest)` });
  await t.rejects(other.call('mount', { dir: file }), { message: `${file}: not a directory` });
  await t.rejects(other.call('mount', { dir: `${file}-none` }),
    { message: `${file}-none: no such directory` });
  await t.rejects(unmountFuse(other.dir), { code: 'UMOUNT_FAILED' });
});

t.test('a dead daemon\'s mount is cleared away', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs({ guarded: true });
  t.teardown(() => daemon.stop());
  fs.writeFileSync(join(daemon.dir, 'f'), 'x');
  await daemon.call('hold', { op: 'mkdir' });
  const pending = fsp.mkdir(join(daemon.dir, 'd')).then(() => 'none', errnoOf);
  await until(async () => (await daemon.state()).parked === 1, 'parked');
  daemon.child.kill('SIGKILL');
  t.ok(gone.includes(await pending), 'a waiting caller fails at once');
  const later = await fsp.readFile(join(daemon.dir, 'f')).then(() => 'none', errnoOf);
  t.ok(gone.includes(later), 'later calls fail');
  const next = await Daemon.spawn(daemon.dir);
  t.teardown(() => next.stop());
  await next.mount({});
  t.same(fs.readdirSync(daemon.dir), [], 'mounted afresh');
  const mounts = fs.readFileSync('/proc/mounts', 'utf8').split('\n')
    .filter((l) => l.includes(` ${daemon.dir} `));
  t.equal(mounts.length, 1, 'not on top of the old one');
});

t.test('a connection that is gone is no failure to who ends it', { skip: missing ?? false },
  (t) => {
    // In a mount namespace of its own: the kernel's control files are not mounted at first.
    const module = join(repoDir, 'dist', 'host', 'env', 'fuse-mount.js');
    const program = `import { abortFuse } from ${JSON.stringify(module)};
      await abortFuse(${GONE}); await abortFuse(${GONE}); console.log('done');`;
    const out = execFileSync('unshare', ['-m', '--propagation', 'private', 'sh', '-c',
      'umount -l /sys/fs/fuse/connections 2>/dev/null; exec "$0" --input-type=module -e "$1"',
      process.execPath, program], { encoding: 'utf8' });
    t.equal(out, 'done\n');
    t.end();
  });

t.test('umount ends the daemon', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs();
  t.teardown(() => daemon.stop());
  fs.writeFileSync(join(daemon.dir, 'f'), 'x');
  await unmountFuse(daemon.dir);
  await until(() => daemon.ended !== null, 'the end');
  t.equal(daemon.ended, 'unmounted');
});

t.test('umount -l serves open files on', { skip: missing ?? false }, async (t) => {
  for (const plain of [false, true]) {
    const daemon = await mountMemfs({ plain });
    t.teardown(() => daemon.stop());
    const fd = fs.openSync(join(daemon.dir, 'f'), 'w+');
    await unmountFuse(daemon.dir, true);
    t.same(fs.readdirSync(daemon.dir), [], 'detached');
    fs.writeSync(fd, 'late');
    const back = Buffer.alloc(4);
    fs.readSync(fd, back, 0, 4, 0);
    t.equal(back.toString(), 'late');
    await sleep(20);
    t.equal(daemon.ended, null, 'still connected');
    fs.closeSync(fd);
    await until(() => daemon.ended !== null, 'the end');
    t.equal(daemon.ended, 'unmounted');
  }
});

t.test('abort fails everybody and ends the daemon', { skip: missing ?? false }, async (t) => {
  const daemon = await mountMemfs({ guarded: true });
  t.teardown(() => daemon.stop());
  await daemon.call('hold', { op: 'mkdir' });
  const pending = fsp.mkdir(join(daemon.dir, 'd')).then(() => 'none', errnoOf);
  await until(async () => (await daemon.state()).parked === 1, 'parked');
  await daemon.call('abort');
  t.ok(gone.includes(await pending));
  await until(() => daemon.ended !== null, 'the end');
  t.equal(daemon.ended, 'aborted');
  execFileSync('umount', ['-i', daemon.dir]);
});
