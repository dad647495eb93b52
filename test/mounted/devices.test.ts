/**
 * What a volume may lie on: image files and block devices, with direct I/O wherever the
 * system has it.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, freePort, sh, skipWithoutFuse } from '../lib/mounted.js';

const skip = skipWithoutFuse();
const IMAGE_BYTES = { meta: 6 * 1024 ** 3, data: 2 * 1024 ** 3 };
const { O_DIRECT, O_RDONLY } = fs.constants;

function directWorks(path: string): boolean {
  try {
    fs.closeSync(fs.openSync(path, O_RDONLY | O_DIRECT));
    return true;
  } catch {
    return false;
  }
}

/** Open flags of every descriptor that a process has of a path. */
function openFlags(pid: number, path: string): number[] {
  return fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      if (fs.readlinkSync(`/proc/${pid}/fd/${fd}`) !== path) return [];
      const info = fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
      return [parseInt(/^flags:\s+([0-7]+)$/m.exec(info)?.[1] ?? '0', 8)];
    } catch {
      return [];
    }
  });
}

type Test = Pick<typeof t, 'equal' | 'ok' | 'strictSame' | 'comment'>;

/** A volume on these devices works, and its daemon reads and writes them directly. */
async function tryDevices(tt: Test, rig: Rig, meta: string, data: string): Promise<void> {
  rig.must('mkfs', '-A', '-f', '-Q', `0,127.0.0.1,${await freePort()}`, meta, data);
  const mount = (): string => rig.must('mount', '--log', rig.log, '-o',
    `metadev_path=${meta},quorum_slot_nr=0`, data, rig.mnt);
  mount();
  for (const path of [meta, data]) {
    const flags = openFlags(rig.daemonPid, path);
    tt.ok(flags.length > 0, `${path} is open`);
    if (!directWorks(path)) tt.comment(`no direct I/O on ${path}`);
    else tt.ok(flags.every((f) => (f & O_DIRECT) !== 0), `${path} is opened for direct I/O`);
  }
  sh('mkdir d; seq 100000 > d/numbers; seq 50000 >> d/numbers; sync d/numbers', rig.mnt);
  const sum = sh('sha256sum < d/numbers', rig.mnt);
  rig.umount();
  mount();
  tt.equal(sh('sha256sum < d/numbers', rig.mnt), sum, 'the data is there after a remount');
  rig.umount();
  const r = rig.scoutfs('check', meta, data);
  tt.equal(r.status, 0, 'check is clean');
}

void t.test('image files', { skip }, async (tt) => {
  const rig = new Rig('images');
  tt.teardown(() => { rig.end(); });
  rig.makeImages(IMAGE_BYTES.meta, IMAGE_BYTES.data);
  await tryDevices(tt, rig, rig.meta, rig.data);
});

void t.test('block devices', { skip }, async (tt) => {
  const rig = new Rig('loop');
  const loops: string[] = [];
  tt.teardown(() => {
    rig.end();
    for (const dev of loops) spawnSync('losetup', ['-d', dev]);
  });
  rig.makeImages(IMAGE_BYTES.meta, IMAGE_BYTES.data);
  for (const image of [rig.meta, rig.data]) {
    const r = spawnSync('losetup', ['-f', '--show', image], { encoding: 'utf8' });
    if (r.status !== 0) {
      tt.comment(`no loop devices here, block devices are not tried: ${
        r.error?.message ?? r.stderr.trim()}`);
      return;
    }
    loops.push(r.stdout.trim());
  }
  const [meta = '', data = ''] = loops;
  tt.equal(fs.statSync(meta).isBlockDevice(), true);
  await tryDevices(tt, rig, meta, data);
});

/** More groups of inodes than one operation's list of locks has room for at first. */
const LEVELS = 150;

void t.test('a directory moves below many inode groups', { skip }, async (tt) => {
  const rig = new Rig('deep');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  // every directory in a group of its own, so every ancestor under a lock of its own
  rig.mount('ino_alloc_per_lock=1');
  const deep = Array.from({ length: LEVELS }, (_, i) => `l${i}`).join('/');
  fs.mkdirSync(join(rig.mnt, deep), { recursive: true });
  fs.mkdirSync(join(rig.mnt, 'moved', 'child'), { recursive: true });
  fs.renameSync(join(rig.mnt, 'moved'), join(rig.mnt, deep, 'moved'));
  tt.strictSame(fs.readdirSync(join(rig.mnt, deep, 'moved')), ['child']);
  tt.throws(() => { fs.renameSync(join(rig.mnt, 'l0'), join(rig.mnt, deep, 'moved', 'l0')); },
    { code: 'EINVAL' }, 'no directory moves below itself');
  fs.renameSync(join(rig.mnt, deep, 'moved'), join(rig.mnt, 'back'));
  tt.strictSame(fs.readdirSync(rig.mnt).sort(), ['back', 'l0']);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});
