/**
 * The control tree of a real mount: names, formats and modes; values that are live when
 * read; values out of range that are the error of the write(2) itself; options that take
 * effect; and what is left when the daemon dies. And the commands that read from a mount.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COUNTER_NAMES, OWN_START } from '../../host/observe/counters.js';
import { Rig, skipWithoutFuse, sleepMs } from '../lib/mounted.js';
import { ioctl } from '../lib/posix.js';

const skip = skipWithoutFuse();
const GROUP = 1024;
const ALLOC_DETAIL = 0x4010e80c;
const STATFS_MORE = 0x8030e80a;
const EFAULT = 14;
const ENOTTY = 25;
const EOVERFLOW = 75;
const WAIT_MS = 10_000;

class Tree {
  constructor(private readonly rig: Rig) {}

  path(name: string): string {
    return join(this.rig.control, name);
  }

  read(name: string): string {
    return fs.readFileSync(this.path(name), 'utf8');
  }

  number(name: string): number {
    return Number(this.read(name));
  }

  /** Writes with one write(2). @returns '' or the errno of opening or of the write itself */
  write(name: string, text: string): string {
    let step = 'open';
    try {
      const fd = fs.openSync(this.path(name), 'w');
      step = 'write';
      try {
        fs.writeSync(fd, text);
      } finally {
        fs.closeSync(fd);
      }
      return '';
    } catch (e) {
      return `${step} ${(e as NodeJS.ErrnoException).code ?? '?'}`;
    }
  }

  /** Whether a counter passes `than` soon. */
  grows(name: string, than: number): boolean {
    for (let waitedMs = 0; waitedMs < WAIT_MS; waitedMs += 50) {
      if (this.number(`counters/${name}`) > than) return true;
      sleepMs(50);
    }
    return false;
  }
}

function shapes(tt: Test, tree: Tree, rig: Rig): void {
  const list = (dir: string): string[] => fs.readdirSync(tree.path(dir)).sort();
  tt.match(tree.read('fsid'), /^[0-9a-f]{16}\n$/);
  tt.match(tree.read('rid'), /^[0-9a-f]{16}\n$/);
  tt.match(tree.read('format_version'), /^[12]\n$/);
  tt.match(tree.read('data_device_maj_min'), /^\d+:\d+\n$/);
  tt.same(list('counters'), COUNTER_NAMES.slice(0, OWN_START).sort(), 'all 202 counters');
  tt.equal(list('counters').length, 202);
  tt.match(tree.read('counters/lock_lock'), /^\d+\n$/);
  tt.same(list('mount_options'), [
    'data_prealloc_blocks', 'data_prealloc_contig_only', 'ino_alloc_per_lock', 'lock_idle_count',
    'log_merge_wait_timeout_ms', 'metadev_path', 'orphan_scan_delay_ms',
    'quorum_heartbeat_timeout_ms', 'quorum_slot_nr']);
  tt.equal(tree.read('mount_options/data_prealloc_blocks'), '2048', 'no line break');
  tt.equal(tree.read('mount_options/quorum_slot_nr'), '0\n', 'but one here');
  tt.equal(tree.read('mount_options/metadev_path'), rig.meta);
  tt.match(tree.read('options'), new RegExp('^acl,data_prealloc_blocks=2048,' +
    'data_prealloc_contig_only=1,ino_alloc_per_lock=1024,metadev_path=.*,' +
    'orphan_scan_delay_ms=10000,quorum_slot_nr=0,tcp_keepalive_timeout_ms=24000\n$'));
  tt.equal(tree.read('quorum/is_leader'), '1', 'no line break');
  const status = tree.read('quorum/status').trimEnd().split('\n');
  tt.ok(status.length >= 8 && status.every((l) => l.split(' ').length >= 2), 'status');
  tt.match(status[4], /^role 2 \(leader\)$/);
  tt.same(list('fence'), []);
  const key = '\\d+\\.\\d+\\.\\d+\\.\\d+\\.\\d+\\.\\d+';
  const lock = new RegExp(`^start ${key} end ${key} refresh_gen \\d+ mode [0-3] waiters: ` +
    'rd \\d+ wr \\d+ wo \\d+ users: rd \\d+ wr \\d+ wo \\d+$');
  const locks = tree.read('debug/client_locks').trimEnd().split('\n');
  tt.ok(locks.every((l) => lock.test(l)), `client locks, e.g. ${locks[0] ?? ''}`);
  tt.match(tree.read('debug/server_locks'),
    new RegExp(`^${key} (read|write) granted rid ${tree.read('rid').trim()} net_id \\d+$`, 'm'));
  tt.match(tree.read('debug/connections'), /^server term 1 state greeted /);
  const mode = (name: string): number => fs.statSync(tree.path(name)).mode & 0o777;
  tt.equal(mode('mount_options/lock_idle_count'), 0o644);
  tt.equal(mode('mount_options/metadev_path'), 0o444);
  tt.equal(mode('counters/lock_lock'), 0o644, 'as upstream shows it');
  tt.throws(() => { fs.writeFileSync(tree.path('new'), ''); }, { code: 'EPERM' });
  tt.throws(() => { fs.rmSync(tree.path('rid')); }, { code: 'EPERM' });
}

function refusals(tt: Test, tree: Tree): void {
  const cases: [name: string, bad: string[], good: string, after: string][] = [
    ['mount_options/data_prealloc_blocks', ['0', '4503599627370496', '-1', '', ' 1'], '010', '8'],
    ['mount_options/data_prealloc_contig_only', ['2', 'x'], '0\n', '0'],
    ['mount_options/ino_alloc_per_lock', ['0', '1025'], '0x400', '1024'],
    ['mount_options/lock_idle_count', ['31', '100001', '08'], '100000\n', '100000'],
    ['mount_options/log_merge_wait_timeout_ms', ['99', '60001'], '100', '100'],
    ['mount_options/orphan_scan_delay_ms', ['99', '60001', '100\n\n'], '60000', '60000'],
    ['mount_options/quorum_heartbeat_timeout_ms', ['1999', '60001'], '2000', '2000'],
    ['srch/compact_delay_ms', ['999', '60001'], '1000', '1000'],
  ];
  for (const [name, bad, good, after] of cases) {
    const before = tree.read(name);
    for (const text of bad.filter((b) => b !== '')) {
      tt.equal(tree.write(name, text), 'write EINVAL', `${name} ${JSON.stringify(text)}`);
    }
    tt.equal(tree.read(name), before, `${name} is unchanged`);
    tt.equal(tree.write(name, good), '', `${name} ${JSON.stringify(good)}`);
    tt.equal(tree.read(name), after);
  }
  for (const name of ['mount_options/quorum_slot_nr', 'mount_options/metadev_path', 'rid',
    'counters/lock_lock', 'quorum/status']) {
    tt.equal(tree.write(name, '1'), 'open EACCES', `${name} is read-only`);
  }
  const zone = 'volume_options/data_alloc_zone_blocks';
  tt.equal(tree.read(zone), '', 'unset');
  tt.equal(tree.write(zone, '5'), 'write EINVAL', 'the server refuses');
  tt.equal(tree.write(zone, 'x'), 'write EINVAL');
  tt.equal(tree.write(zone, '1'.repeat(32)), 'write ERANGE');
  tt.equal(tree.write(zone, '0x100000\n'), '');
  tt.equal(tree.read(zone), '1048576');
  tt.equal(tree.write(zone, '\n'), '', 'an empty line clears');
  tt.equal(tree.read(zone), '');
}

function effects(tt: Test, tree: Tree, rig: Rig): void {
  const inoOf = (name: string): number => {
    fs.writeFileSync(join(rig.mnt, name), '');
    return fs.statSync(join(rig.mnt, name)).ino;
  };
  inoOf('a');
  tree.write('mount_options/ino_alloc_per_lock', '1');
  const first = inoOf('b');
  tt.equal(Math.floor(inoOf('c') / GROUP), Math.floor(first / GROUP) + 1, 'one inode per lock');
  tree.write('mount_options/lock_idle_count', '32');
  const shrunk = tree.number('counters/lock_shrink_attempted');
  for (let i = 0; i < 48; i++) inoOf(`group-${i}`);
  tt.ok(tree.grows('lock_shrink_attempted', shrunk), 'idle locks go');
  const locks = (): number => tree.read('debug/client_locks').split('\n').length - 1;
  const few = locks();
  tt.ok(few > 4, `${few} locks`);
  tree.write('debug/trigger/statfs_lock_purge', '1\n');
  tt.equal(tree.read('debug/trigger/statfs_lock_purge'), '1\n', 'armed');
  fs.statfsSync(rig.mnt);
  tt.equal(tree.read('debug/trigger/statfs_lock_purge'), '0\n', 'fired');
  for (let waitedMs = 0; waitedMs < WAIT_MS && locks() > few / 2; waitedMs += 50) sleepMs(50);
  tt.ok(locks() <= few / 2, 'statfs dropped all idle locks');
  // acceptance.md block-stale-reads
  const staleReads = tree.number('counters/block_cache_remove_stale');
  tree.write('debug/trigger/block_remove_stale', '1');
  rig.must('df', '-p', rig.mnt);
  tt.ok(tree.grows('block_cache_remove_stale', staleReads), 'a block was dropped as stale');
  tt.equal(tree.read('debug/trigger/block_remove_stale'), '0\n', 'once');
  // 60 s were set before: the pending scan would not come soon
  const scans = tree.number('counters/orphan_scan');
  tree.write('mount_options/orphan_scan_delay_ms', '100');
  tt.ok(tree.grows('orphan_scan', scans + 2), 'scans come every 100 ms now');
  tree.write('mount_options/orphan_scan_delay_ms', '60000');
  const fd = fs.openSync(join(rig.mnt, 'a'), 'w');
  const fsyncs = tree.number('counters/trans_commit_fsync');
  const written = tree.number('counters/server_commit_worker');
  fs.writeSync(fd, 'x');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
  tt.equal(tree.number('counters/trans_commit_fsync'), fsyncs + 1, 'as it is when it is read');
  tt.ok(tree.number('counters/server_commit_worker') > written, 'the other thread\'s too');
  // acceptance.md freed-list-wedge
  tree.write('debug/trigger/alloc_fill_freed_list', '1');
  for (let i = 0; i < 10; i++) fs.writeFileSync(join(rig.mnt, `fill-${i}`), 'x', { flush: true });
  tt.ok(tree.grows('alloc_freed_fill', 1), 'both lists of freed blocks have been full');
  const merges = tree.number('counters/log_merge_start');
  tree.write('debug/trigger/log_merge_force_finalize_ours', '1');
  fs.writeFileSync(join(rig.mnt, 'merge'), 'x');
  tt.ok(rig.scoutfs('counters', rig.control).status === 0);
  for (let i = 0; i < 20 && tree.number('counters/log_merge_start') === merges; i++) {
    const m = fs.openSync(join(rig.mnt, 'merge'), 'a');
    fs.writeSync(m, 'y');
    fs.fsyncSync(m);
    fs.closeSync(m);
  }
  tt.ok(tree.number('counters/log_merge_start') > merges, 'a merge was forced');
  tree.write('log_level', 'error');
  tree.write('mount_options/data_prealloc_blocks', '77');
  tt.notMatch(rig.logText(), /data_prealloc_blocks is now 77/, 'nothing below an error');
  tt.equal(tree.write('log_level', 'loud'), 'write EINVAL');
  tree.write('log_level', 'info\n');
  tree.write('mount_options/data_prealloc_blocks', '78');
  tt.match(rig.logText(), /data_prealloc_blocks is now 78/);
}

function commands(tt: Test, tree: Tree, rig: Rig): void {
  const lines = (...args: string[]): string[] => rig.must(...args).trimEnd().split('\n');
  const df = rig.must('df', '-p', rig.mnt).split('\n');
  tt.match(df[0], /^ +Type {2}Size +Total +Used +Free {2}Use% {2}$/);
  tt.match(df[1], /^MetaData {2}64KB +98304 +\d+ +\d+ +\d+ {2}$/);
  tt.match(df[2], /^ {4}Data {3}4KB +1048576 +\d+ +\d+ +0 {2}$/);
  const statfs = lines('statfs', '-p', join(rig.mnt, 'a'));
  tt.same(statfs.map((l) => l.slice(0, 18).trim()),
    ['fsid', 'rid', 'committed_seq', 'total_meta_blocks', 'total_data_blocks']);
  tt.equal(statfs[1]?.slice(18), tree.read('rid').trim());
  tt.equal(rig.must('statfs', '-p', rig.mnt, '-s', 'fsid'), tree.read('fsid'));
  const stat = lines('stat', join(rig.mnt, 'merge'));
  tt.same(stat.map((l) => l.slice(0, 18).trim()),
    ['meta_seq', 'data_seq', 'data_version', 'online_blocks', 'offline_blocks', 'crtime']);
  tt.match(stat[5], /^crtime {12}\d+\.\d{9}$/);
  tt.equal(rig.must('stat', '--single-field=online_blocks', join(rig.mnt, 'merge')), '1\n');
  const unknown = rig.scoutfs('stat', '-s', 'size', rig.mnt);
  tt.same([unknown.status, unknown.err],
    [1, 'unknown field: \'size\'\nscoutfs: stat failed: Invalid argument (22)\n']);
  const foreign = rig.scoutfs('stat', rig.dir);
  tt.same([foreign.status, foreign.out, foreign.err],
    [0, '', 'ioctl failed: Inappropriate ioctl for device (25)\n'], 'upstream\'s exit status');
  const counters = lines('counters', rig.control);
  tt.equal(counters.length, 202);
  tt.equal(new Set(counters.map((l) => l.length)).size, 1, 'values right-aligned');
}

function ioctls(tt: Test, rig: Rig): void {
  const fd = fs.openSync(rig.mnt, 'r');
  const detail = (ptr: bigint, nr: bigint): number => {
    const arg = Buffer.alloc(16);
    arg.writeBigUInt64LE(ptr, 0);
    arg.writeBigUInt64LE(nr, 8);
    return ioctl(fd, ALLOC_DETAIL, arg);
  };
  tt.equal(detail(4096n, 1n), -EOVERFLOW, 'too small a buffer, before it is touched');
  tt.equal(detail(4096n, 1000n), -EFAULT, 'unmapped memory');
  tt.equal(detail(2n ** 63n, 1000n), -EFAULT, 'no user address');
  tt.equal(ioctl(fd, STATFS_MORE, Buffer.alloc(48)), 0);
  tt.equal(ioctl(fd, STATFS_MORE + 1, Buffer.alloc(48)), -ENOTTY);
  fs.closeSync(fd);
}

type Test = Pick<typeof t, 'equal' | 'match' | 'notMatch' | 'ok' | 'same' | 'throws'>;

void t.test('control tree and commands', { skip }, async (tt) => {
  const rig = new Rig('control');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  const tree = new Tree(rig);
  shapes(tt, tree, rig);
  refusals(tt, tree);
  effects(tt, tree, rig);
  commands(tt, tree, rig);
  ioctls(tt, rig);

  const dead = rig.control;
  rig.kill();
  tt.throws(() => fs.readFileSync(join(dead, 'rid')), { code: /^(ENOTCONN|ECONNABORTED)$/ },
    'nobody hangs');
  tt.equal(rig.idents.length, 1, 'the record of the dead mount is kept');
  rig.mount();
  tt.notOk(fs.readFileSync('/proc/mounts', 'utf8').includes(dead), 'its tree is detached');
  for (let waitedMs = 0; waitedMs < WAIT_MS && rig.idents.length > 1; waitedMs += 50) sleepMs(50);
  tt.notOk(fs.existsSync(dead), 'and gone when its rid was reclaimed');
  tt.match(tree.read('rid'), /^[0-9a-f]{16}\n$/, 'the new one shows its own');
  rig.umount();
  tt.same(fs.readdirSync(rig.run).sort(), ['.mounts'], 'nothing is left');
  tt.same(rig.idents, []);
  tt.same(rig.check(), [], 'the volume is sound');
});
