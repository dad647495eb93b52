/**
 * What users and machines get wrong when mounting: each mistake is answered with one
 * line that names the thing and the cause, with status 1 (2 for a wrong command line),
 * and leaves nothing behind: no daemon, no entry in the run directory, no mount.
 */
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, freePort, processesOf, sh, skipWithoutFuse } from '../lib/mounted.js';
import type { Result } from '../lib/mounted.js';
import { repoDir } from '../lib/shared.js';

type Test = Pick<typeof t, 'equal' | 'match' | 'teardown'>;
const skip = skipWithoutFuse();
const META_BYTES = 6 * 1024 ** 3;
const PREFIX_BYTES = 1 << 20;
const LINE = /^scoutfs: (mount|umount|demo|check): .+\n$/;
const HELPER = '/sbin/mount.scoutfs';
const BIN = (name: string): string => join(repoDir, 'dist', 'host', 'cli', `${name}.js`);

/** What a rig's commands have left behind. */
function traces(rig: Rig): string[] {
  const shown = fs.existsSync(rig.run)
    ? fs.readdirSync(rig.run).filter((n) => n.startsWith('f.')) : [];
  const entries = [...shown, ...rig.idents];
  const mounts = fs.readFileSync('/proc/mounts', 'utf8').split('\n')
    .filter((l) => l.includes(rig.dir));
  return [...processesOf(rig.dir), ...entries, ...mounts];
}

function refused(tt: Test, what: string, r: Result, why: RegExp, status = 1): void {
  tt.equal(r.status, status, `${what}: status`);
  tt.match(r.err, LINE, `${what}: one line`);
  tt.match(r.err, why, `${what}: the thing and the cause`);
  tt.equal(r.out, '', `${what}: nothing on standard output`);
}

/** The first bytes of a device, as a device of its own that is too short. */
function cut(rig: Rig, name: string, from: string, lenBytes: number): string {
  const path = join(rig.dir, name);
  const fd = fs.openSync(from, 'r');
  const bytes = Buffer.alloc(lenBytes);
  fs.readSync(fd, bytes, 0, lenBytes, 0);
  fs.closeSync(fd);
  fs.writeFileSync(path, bytes);
  return path;
}

async function makeRig(tt: Test, name: string): Promise<Rig> {
  const rig = new Rig(name);
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  return rig;
}

/** Runs `scoutfs mount` with these things in place of the right ones. */
function mount(rig: Rig, p: { meta?: string; data?: string; dir?: string; options?: string } = {}):
Result {
  return rig.scoutfs('mount', '--log', rig.log, '-o',
    p.options ?? `metadev_path=${p.meta ?? rig.meta},quorum_slot_nr=0`,
    p.data ?? rig.data, p.dir ?? rig.mnt);
}

void t.test('devices', { skip }, async (tt) => {
  const rig = await makeRig(tt, 'bad-devices');
  const other = await makeRig(tt, 'bad-other');
  const empty = join(rig.dir, 'empty.img');
  fs.writeFileSync(empty, '');
  fs.truncateSync(empty, META_BYTES);
  const none = join(rig.dir, 'none.img');
  refused(tt, 'swapped', mount(rig, { meta: rig.data, data: rig.meta }),
    /data\.img: is a data device, not a metadata device/);
  refused(tt, 'same twice', mount(rig, { data: rig.meta }),
    /meta\.img: metadata and data device are the same/);
  refused(tt, 'data twice', mount(rig, { meta: rig.data }),
    /data\.img: metadata and data device are the same/);
  refused(tt, 'data of another volume', mount(rig, { data: other.data }),
    /bad-other.*data\.img: uuid [-0-9a-f]{36} is not that of .*bad-devices.*meta\.img/);
  refused(tt, 'metadata of another volume', mount(rig, { meta: other.meta }),
    /bad-devices.*data\.img: uuid .* is not that of .*bad-other.*meta\.img/);
  refused(tt, 'truncated metadata', mount(rig, { meta: cut(rig, 'm', rig.meta, PREFIX_BYTES) }),
    /\/m: super block: total_meta_blocks \d+ is more than .*\/m has \(16\)/);
  refused(tt, 'truncated data', mount(rig, { data: cut(rig, 'd', rig.data, PREFIX_BYTES) }),
    /total_data_blocks \d+ is more than .*\/d has \(256\)/);
  refused(tt, 'hardly anything', mount(rig, { meta: cut(rig, 'h', rig.meta, 4096) }),
    /\/h: too small for a super block \(4096 bytes\)/);
  refused(tt, 'unformatted metadata', mount(rig, { meta: empty }),
    /empty\.img: no scoutfs super block: magic is 0x00000000/);
  refused(tt, 'unformatted data', mount(rig, { data: empty }),
    /empty\.img: no scoutfs super block/);
  refused(tt, 'missing metadata', mount(rig, { meta: none }), /none\.img: No such file/);
  refused(tt, 'missing data', mount(rig, { data: none }), /none\.img: No such file/);
  refused(tt, 'a directory', mount(rig, { data: rig.dir }),
    /neither a block device nor a regular file/);
  refused(tt, 'a character device', mount(rig, { meta: '/dev/null' }),
    /\/dev\/null: neither a block device nor a regular file/);
  if (spawnSync('mkfs.ext4', ['-V']).status === 0) {
    const ext4 = join(rig.dir, 'ext4.img');
    sh(`truncate -s 64M ${ext4} && mkfs.ext4 -q ${ext4} 2>&1`);
    refused(tt, 'ext4', mount(rig, { meta: ext4 }), /ext4\.img: no scoutfs super block/);
  } else {
    tt.comment('no mkfs.ext4: the foreign device is not tried');
  }
  refused(tt, 'check of the wrong order', rig.scoutfs('check', none, rig.data),
    /failed to open '.*none\.img': No such file/, 2);
  tt.strictSame(traces(rig), [], 'nothing is left');
});

void t.test('options and words', { skip }, async (tt) => {
  const rig = await makeRig(tt, 'bad-options');
  const m = `metadev_path=${rig.meta}`;
  const cases: [options: string, why: RegExp][] = [
    ['quorum_slot_nr=0', /the option metadev_path=PATH is missing/],
    [`${m},colour=red`, /"colour=red": no such option/],
    [`${m},colour`, /"colour": no such option/],
    [`${m},quorum_slot_nr=15`, /"quorum_slot_nr=15": must be 0 to 14/],
    [`${m},quorum_slot_nr=x`, /"quorum_slot_nr=x": not a number/],
    [`${m},quorum_slot_nr`, /"quorum_slot_nr": needs a value/],
    [`${m},quorum_slot_nr=0,quorum_slot_nr=0`, /"quorum_slot_nr=0": may be given only once/],
    [`${m},orphan_scan_delay_ms=99`, /"orphan_scan_delay_ms=99": must be 100 to 60000/],
    [`${m},core_memory_mb=5000`, /"core_memory_mb=5000": must be 64 to 4000/],
    [`${m},acl=1`, /"acl=1": takes no value/],
    ['metadev_path=', /"metadev_path=": needs a path/],
    [`${m},quorum_slot_nr=3`, /meta\.img: quorum slot 3 is not configured \(slots: 0\)/],
  ];
  for (const [options, why] of cases) refused(tt, options, mount(rig, { options }), why);
  refused(tt, 'one word', rig.scoutfs('mount', rig.data), /must provide the DIR argument/, 2);
  refused(tt, 'three words', rig.scoutfs('mount', 'a', 'b', 'c'), /too many arguments/, 2);
  refused(tt, 'an unknown option', rig.scoutfs('mount', '--colour', 'a', 'b'),
    /unrecognized option '--colour'/, 2);
  refused(tt, 'an option without its value', rig.scoutfs('mount', 'a', 'b', '-o'),
    /requires an argument/, 2);
  refused(tt, 'a log level', rig.scoutfs('mount', '--log-level', 'loud', 'a', 'b'),
    /log level 'loud' is not one of error,/, 2);
  refused(tt, 'a timeout', rig.scoutfs('umount', '-t', 'soon', rig.mnt), /'?soon'?/, 2);
  refused(tt, 'a port', rig.scoutfs('demo', '-P', '70000', join(rig.dir, 'demo')),
    /port '70000' must be between 1 and 65535/, 2);
  refused(tt, 'a log that cannot be written', rig.scoutfs('mount', '--log', '/proc/none/log', '-o',
    `${m},quorum_slot_nr=0`, rig.data, rig.mnt), /\/proc\/none\/log/);
  refused(tt, 'umount of nothing', rig.scoutfs('umount', rig.mnt),
    /mnt: no volume is mounted here/);
  refused(tt, 'umount of no directory', rig.scoutfs('umount', join(rig.dir, 'none')),
    /none: No such file or directory/);
  tt.strictSame(traces(rig), [], 'nothing is left');
});

/** An address that no host has: 192.0.2.0/24 is for documentation. */
const FOREIGN = '192.0.2.77';

void t.test('devices and addresses that do not go together', { skip }, async (tt) => {
  const rig = await makeRig(tt, 'bad-match');
  const port = await freePort();
  rig.must('mkfs', '-A', '-f', '-V', '1', '-Q', `0,${FOREIGN},${port}`, rig.meta, rig.data);
  refused(tt, 'an address of another host', mount(rig),
    new RegExp(`${FOREIGN}:${port}: not an address of this host`));
  tt.strictSame(traces(rig), [], 'nothing is left');

  // A version change that was interrupted between the two devices.
  const data = join(rig.dir, 'data-v1.img');
  sh(`cp --sparse=always ${rig.data} ${data}`);
  rig.must('change-format-version', '-F', '-V', '2', rig.meta, rig.data);
  refused(tt, 'format versions that differ', mount(rig, { data }),
    /data-v1\.img: format version 1 is not that of .*meta\.img \(2\)/);
  tt.strictSame(traces(rig), [], 'nothing is left');
});

void t.test('the mount point and the address', { skip }, async (tt) => {
  const rig = await makeRig(tt, 'bad-place');
  refused(tt, 'missing', mount(rig, { dir: join(rig.dir, 'none') }), /none: No such file/);
  refused(tt, 'not a directory', mount(rig, { dir: rig.data }), /data\.img: not a directory/);

  const port = await freePort();
  const udp = createSocket('udp4');
  await new Promise<void>((resolve) => { udp.bind(port, '127.0.0.1', resolve); });
  rig.must('mkfs', '-A', '-f', '-Q', `0,127.0.0.1,${port}`, rig.meta, rig.data);
  refused(tt, 'an address in use', mount(rig), new RegExp(`127\\.0\\.0\\.1:${port}.*in use`));
  tt.strictSame(traces(rig), [], 'nothing is left');
  await new Promise<void>((resolve) => { udp.close(resolve); });

  rig.mount();
  const pid = rig.daemonPid;
  const other = await makeRig(tt, 'bad-second');
  refused(tt, 'busy', mount(rig, { meta: other.meta, data: other.data }),
    new RegExp(`mnt: a volume is mounted here already \\(process ${pid}\\)`));
  fs.mkdirSync(join(rig.dir, 'mnt2'));
  refused(tt, 'a slot that is in use', mount(rig, { dir: join(rig.dir, 'mnt2') }),
    new RegExp(`quorum slot 0 is in use by the mount at .*mnt \\(process ${pid}\\)`));
  // the other run directory knows nothing of the live mount: its socket is in the way
  refused(tt, 'the same, from elsewhere', other.scoutfs('mount', '--log', other.log, '-o',
    `metadev_path=${rig.meta},quorum_slot_nr=0`, rig.data, other.mnt),
  new RegExp(`127\\.0\\.0\\.1:${port}.*in use`));
  sh('echo text > file && cat file', rig.mnt);
  rig.umount();
  tt.strictSame([...traces(rig), ...traces(other)], [], 'nothing is left');
  tt.strictSame(rig.check(), [], 'the volume is sound');
});

void t.test('the machine', { skip }, async (tt) => {
  const rig = await makeRig(tt, 'bad-machine');
  fs.chmodSync(rig.dir, 0o755);
  const words = [BIN('scoutfs'), ...rig.mountArgs()];
  const run = (command: string, args: string[]): Result => {
    const r = spawnSync(command, args,
      { encoding: 'utf8', env: rig.env });
    return { status: r.status ?? -1, out: r.stdout, err: r.stderr };
  };
  const spawnable = (command: string, ...args: string[]): boolean =>
    spawnSync(command, args).status === 0;
  if (spawnable('setpriv', '--reuid', '65534', 'test', '-r', BIN('scoutfs'))) {
    refused(tt, 'not root', run('setpriv', ['--reuid', '65534', 'env', 'NODE_OPTIONS=', process.execPath, ...words]),
      /mounting needs root/);
  } else {
    tt.comment('no setpriv, or the program is not readable for others: "not root" is not tried');
  }
  if (spawnable('unshare', '-m', 'true')) {
    const within = (prepare: string): Result => run('unshare', ['-m', 'bash', '-c',
      `${prepare} && exec "$@"`, 'bash', process.execPath, ...words]);
    refused(tt, 'no /dev/fuse', within('mount -t tmpfs none /dev && mknod /dev/null c 1 3'),
      /\/dev\/fuse is missing/);
    tt.strictSame(traces(rig), [], 'nothing is left');
    refused(tt, 'a /dev/fuse that is something else',
      within('mount --bind /dev/null /dev/fuse'), /cannot mount on .*mnt: /);
  } else {
    tt.comment('unshare does not work here: a machine without /dev/fuse is not tried');
  }
  tt.strictSame(traces(rig), [], 'nothing is left');
  rig.mount();
  rig.umount();
  tt.strictSame(rig.check(), [], 'the volume can be mounted and is sound');
});

void t.test('mount.scoutfs', { skip }, async (tt) => {
  const rig = await makeRig(tt, 'helper');
  const helper = (...args: string[]): Result => {
    const r = spawnSync(process.execPath, [BIN('mount.scoutfs'), ...args],
      { encoding: 'utf8', env: rig.env });
    return { status: r.status ?? -1, out: r.stdout, err: r.stderr };
  };
  const options = `metadev_path=${rig.meta},quorum_slot_nr=0`;
  const fine = { status: 0, err: '' };
  tt.match(helper(rig.data, rig.mnt, '-f', '-o', options), fine, 'faked');
  tt.strictSame(traces(rig), [], 'faking leaves nothing');
  tt.equal(helper(rig.data).status, 2, 'one word');
  tt.equal(helper(rig.data, rig.mnt, '-Z').status, 2, 'an unknown flag');
  refused(tt, 'a failure', helper(rig.data, rig.mnt, '-o', `${options},colour=red`),
    /"colour=red": no such option/);

  tt.match(helper('-o', `rw,noatime,nosuid,${options}`, '-n', rig.data, rig.mnt, '-v'),
    { ...fine, out: /data\.img mounted on / }, 'options first');
  tt.match(fs.readFileSync('/proc/mounts', 'utf8').split('\n').find((l) => l.includes(rig.mnt)),
    /rw,nosuid,noatime/, 'the kernel enforces what it was asked to');
  sh('echo text > file', rig.mnt);
  rig.umount();
  tt.match(helper(rig.data, rig.mnt, '-o', options, '-s', '-o', 'ro'), fine, 'options last, ro');
  tt.throws(() => sh('touch x', rig.mnt), /Read-only file system/);
  tt.equal(sh('cat file', rig.mnt), 'text\n');
  rig.umount();

  if (fs.lstatSync(HELPER, { throwIfNoEntry: false }) === undefined) {
    fs.chmodSync(BIN('mount.scoutfs'), 0o755);
    fs.symlinkSync(BIN('mount.scoutfs'), HELPER);
    try {
      sh(`SCOUTFS_RUN_DIR=${rig.run} mount -t scoutfs -o ${options} ${rig.data} ${rig.mnt}`);
      tt.equal(sh('cat file', rig.mnt), 'text\n', 'mount -t scoutfs');
      sh(`umount ${rig.mnt}`);
      for (let i = 0; i < 200 && processesOf(rig.dir).length > 0; i++) sh('sleep 0.1');
    } finally {
      fs.unlinkSync(HELPER);
    }
  } else {
    tt.comment(`${HELPER} exists: mount -t scoutfs is not tried`);
  }
  tt.strictSame(traces(rig), [], 'nothing is left');
  tt.strictSame(rig.check(), [], 'the volume is sound');
});
