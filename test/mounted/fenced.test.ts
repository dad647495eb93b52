/**
 * The fencing daemon on real mounts: two hosts that know each other by their addresses
 * and devices only. One is stopped in its tracks; the other, elected, may serve only when
 * the administrator's program has cut the first one off.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { skipWithoutFuse } from '../lib/mounted.js';
import { eventually, isRunning, makeNodes, programPath } from '../lib/nodes.js';
import { tempDir } from '../lib/shared.js';

const skip = skipWithoutFuse();
/** Least that may be given. */
const HEARTBEAT = 'quorum_heartbeat_timeout_ms=2000';

/** A program that writes its arguments and environment to a file, and what it is told to do. */
function program(dir: string, name: string, action: string): string {
  const path = join(dir, name);
  fs.writeFileSync(path, '#!/bin/sh\n' +
    `{ echo "args $*"; echo "rid $SCOUTFS_FENCED_REQ_RID"; echo "ip $SCOUTFS_FENCED_REQ_IP"
  echo "extra $EXTRA $HIDDEN"; } >> ${dir}/calls\n${action}\n`);
  fs.chmodSync(path, 0o755);
  return path;
}

function calls(dir: string): string[] {
  const path = join(dir, 'calls');
  return fs.existsSync(path) ? fs.readFileSync(path, 'utf8').trim().split('\n') : [];
}

void t.test('a stopped leader is cut off by the program', { skip }, async (tt) => {
  const { rig, nodes, end } = await makeNodes('fenced', 2, { separate: true });
  tt.teardown(end);
  const [first, second] = nodes;
  if (first === undefined || second === undefined) throw new Error('no nodes');
  tt.match(first.mount(HEARTBEAT), /^scoutfs: warning: two quorum slots: one vote elects.*\n$/);
  tt.match(first.logText(), /warn .*two quorum slots/, 'in the log as well');
  second.mount(HEARTBEAT);
  fs.writeFileSync(join(first.mnt, 'file'), 'text');
  // Left open for writing: whoever looks for open devices must not look into that mount.
  const fd = fs.openSync(join(first.mnt, 'file'), 'r+');
  fs.fsyncSync(fd);
  const [pid, rid] = [first.pid, first.rid];

  // It fails once: the request is in error, the server gives up, and the next one asks again.
  const run = program(rig.dir, 'cut-off',
    `[ -e ${rig.dir}/once ] || { touch ${rig.dir}/once; exit 7; }
kill -9 ${pid}
while ls /proc/${pid}/fd/* >/dev/null 2>&1; do sleep 0.05; done
exit 0`);
  const config = join(rig.dir, 'fenced.conf');
  fs.writeFileSync(config, `SCOUTFS_FENCED_DELAY=0.2\nSCOUTFS_FENCED_RUN=${run}\n` +
    'SCOUTFS_FENCED_RUN_ARGS="-a \'b\' c"\nexport EXTRA="s p"\nHIDDEN=x\n');
  const daemon = second.start('scoutfs-fenced', [], { SCOUTFS_FENCED_CONFIG_FILE: config });
  tt.teardown(() => { daemon.child.kill('SIGKILL'); });
  await eventually('the start of the daemon', () => daemon.out.includes('SCOUTFS_FENCED_RUN_ARGS'));
  tt.match(daemon.out, /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] started, /);
  tt.match(daemon.out, /\] SCOUTFS_FENCED_DELAY=0\.2\n/);

  first.signal('SIGSTOP');
  // Needs the server: it is answered when the stopped leader is gone.
  const work = fs.promises.mkdir(join(second.mnt, 'dir'));
  work.catch(() => undefined);
  await eventually('the second call', () => calls(rig.dir).length >= 8);
  await work;
  // The local agent may see the death first: then the request is gone before the answer.
  await eventually('the daemon to say so', () => daemon.out.includes(`rid ${rid}: fenced`));
  const call = [`args -a 'b' c`, `rid ${rid}`, `ip ${first.addr}`, 'extra s p '];
  tt.same(calls(rig.dir).map((l) => l.trim()), [...call, ...call].map((l) => l.trim()),
    'arguments and environment, twice');
  tt.notOk(isRunning(pid), 'the program did its work');
  const ident = second.ident;
  tt.match(daemon.out, new RegExp(`server ${ident} fencing rid ${rid} at IP ${first.addr} ` +
    'for quorum_block_leader\n'));
  tt.match(daemon.err, new RegExp(`error: rid ${rid}: .*cut-off exited with status 7\n`));
  tt.match(daemon.out, new RegExp(`rid ${rid}: error\n`), 'the failure was written');
  tt.match(second.logText(), /server: could not start: .*fence/, 'and stopped the server');
  tt.equal(fs.readFileSync(join(second.mnt, 'file'), 'utf8'), 'text');
  tt.same(fs.readdirSync(join(second.control, 'fence')), [], 'no request is left');

  try {
    fs.closeSync(fd);
  } catch {
    // its daemon is gone
  }
  daemon.child.kill('SIGTERM');
  tt.equal(await daemon.ended, 0, 'SIGTERM ends it');
  tt.match(daemon.out, /\] stopped\n$/);
  tt.equal(second.scoutfs('umount', second.mnt).status, 0);
  tt.strictSame(rig.check(), [], 'the volume is sound');
});

void t.test('signals, configurations that cannot be used, --dry-run', async (tt) => {
  const { dir, remove } = tempDir('scoutfs-fenced');
  tt.teardown(remove);
  const env: NodeJS.ProcessEnv = {
    ...process.env, NODE_OPTIONS: '', SCOUTFS_RUN_DIR: join(dir, 'run') };
  const fenced = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [programPath('scoutfs-fenced'), ...args],
      { encoding: 'utf8', env, timeout: 60_000 });
  const config = join(dir, 'conf');
  const refused = (text: string | null, why: RegExp, status = 1, ...args: string[]): void => {
    if (text !== null) fs.writeFileSync(config, text);
    const r = fenced(...args.length === 0 ? ['-c', config] : args);
    tt.match(r, { status, stdout: '', stderr: /^scoutfs: fenced: .+\n$/ }, String(why));
    tt.match(r.stderr, why);
  };
  const run = program(dir, 'ok', 'exit 0');
  const plain = join(dir, 'plain');
  fs.writeFileSync(plain, '#!/bin/sh\n', { mode: 0o644 });
  refused(null, /none: cannot read the configuration: No such file/, 1, '-c', join(dir, 'none'));
  refused(null, /Is a directory/, 1, '-c', dir);
  refused('no-such-command', /conf: line 1: no-such-command: command not found/);
  refused('', /conf: SCOUTFS_FENCED_RUN is not set/);
  refused(`SCOUTFS_FENCED_RUN=${dir}/none`, /conf: SCOUTFS_FENCED_RUN .*none: no such file/);
  refused(`SCOUTFS_FENCED_RUN=${plain}`, /plain: not executable/);
  refused(`SCOUTFS_FENCED_RUN=${dir}`, /: not a file/);
  refused('SCOUTFS_FENCED_RUN=ok', /ok: not an absolute path/);
  refused(`SCOUTFS_FENCED_RUN=${run}\nSCOUTFS_FENCED_DELAY=x`, /SCOUTFS_FENCED_DELAY 'x' must/);
  refused(null, /unrecognized option '--colour'/, 2, '--colour');
  refused(null, /too many arguments/, 2, 'word');

  fs.writeFileSync(config, `SCOUTFS_FENCED_RUN=${run}\nSCOUTFS_FENCED_RUN_ARGS="1 2"\n`);
  const dry = fenced('--dry-run', '-c', config);
  tt.match(dry, { status: 0, stderr: '' });
  tt.match(dry.stdout, new RegExp('mounts of this host below .*run: 0\n' +
    `requests: 0; would run for each: ${run} 1 2\n$`));
  tt.same(calls(dir), [], 'nothing was run');
  env['SCOUTFS_FENCED_CONFIG_FILE'] = config;
  tt.match(fenced('-n'), { status: 0 }, 'named by the environment');
  tt.match(spawnSync(process.execPath, [programPath('scoutfs'), 'fenced', '-n'],
    { encoding: 'utf8', env }), { status: 0 }, 'by its other name');
});

void t.test('SIGHUP reads the configuration again', { skip }, async (tt) => {
  const { rig, nodes, end } = await makeNodes('fenced-hup', 1);
  tt.teardown(end);
  const [node] = nodes;
  if (node === undefined) throw new Error('no node');
  const run = program(rig.dir, 'ok', 'exit 0');
  const config = join(rig.dir, 'conf');
  const write = (delay: string): void => {
    fs.writeFileSync(config, `SCOUTFS_FENCED_RUN=${run}\nSCOUTFS_FENCED_DELAY=${delay}\n`);
  };
  write('3600');
  const daemon = node.start('scoutfs', ['fenced', '-c', config]);
  tt.teardown(() => { daemon.child.kill('SIGKILL'); });
  await eventually('the start', () => daemon.out.includes('SCOUTFS_FENCED_DELAY=3600'));
  write('bad');
  daemon.child.kill('SIGHUP');
  await eventually('the complaint', () => daemon.err.includes('going on with the old'));
  tt.match(daemon.err, /SCOUTFS_FENCED_DELAY 'bad' must be/);
  write('1800');
  daemon.child.kill('SIGHUP');
  await eventually('the new one', () => daemon.out.includes('SCOUTFS_FENCED_DELAY=1800'));
  daemon.child.kill('SIGINT');
  tt.equal(await daemon.ended, 0, 'SIGINT ends it, long as its pause is');
});
