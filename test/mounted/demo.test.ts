/**
 * The demo of a cluster: it mounts, says what to try, and leaves no mount and no process
 * behind, whatever was done to its nodes.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Cluster } from '../../host/cli/cluster_view.js';
import { Rig, freePort, nightly, processesOf, skipWithoutFuse } from '../lib/mounted.js';
import type { Result } from '../lib/mounted.js';
import { Background, eventually, programPath } from '../lib/nodes.js';
import { spawn } from 'node:child_process';

const skip = skipWithoutFuse();
const TIMEOUT_MS = 240_000;
const LONG_MS = 600_000;
/** More than what a volume for a single node has room for. */
const MANY = nightly() ? 15 : 5;

function start(rig: Rig, ...args: string[]): Background {
  return new Background(spawn(process.execPath, [programPath('scoutfs'), 'demo', ...args],
    { env: { ...rig.env, NODE_OPTIONS: '' }, stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** Mounts and processes that a demo in this folder has left. */
function left(rig: Rig): string[] {
  const mounts = fs.readFileSync('/proc/mounts', 'utf8').split('\n')
    .filter((l) => l.includes(rig.dir));
  return [...mounts, ...processesOf(rig.dir), ...processesOf(join(rig.dir, 'demo'))];
}

function pidOf(rig: Rig, dir: string): number {
  const r = rig.scoutfs('cluster', '--json');
  const { clusters } = JSON.parse(r.out) as { clusters: Cluster[] };
  return clusters[0]?.here.find((h) => h.mountPoint === dir)?.pid ?? 0;
}

void t.test('three nodes', { skip, timeout: TIMEOUT_MS }, async (tt) => {
  const rig = new Rig('demo');
  tt.teardown(() => { rig.end(); });
  const folder = join(rig.dir, 'demo');
  const node = (nr: number): string => join(folder, `node${nr}`);
  const port = String(await freePort());
  let demo = start(rig, '--nodes', '3', '-P', port, folder);
  tt.teardown(() => { demo.child.kill('SIGINT'); });
  await eventually('the first demo', () => demo.out.includes('Ctrl-C unmounts'));
  tt.match(demo.out, new RegExp(`node2 +slot 2 at 127\\.0\\.0\\.3:${port}, process \\d+\n`));
  fs.writeFileSync(join(node(0), 'file'), 'hello\n');
  tt.equal(fs.readFileSync(join(node(2), 'file'), 'utf8'), 'hello\n', 'one volume');
  tt.match(rig.scoutfs('cluster').out, /: led by slot \d at 127\.0\.0\.\d:/);
  const again = rig.scoutfs('demo', '--nodes', '3', folder);
  tt.match(again, { status: 1, out: '',
    err: /^scoutfs: demo: .*node\d: is mounted already \(process \d+\): another demo.*\n$/ });
  tt.equal(fs.readFileSync(join(node(1), 'file'), 'utf8'), 'hello\n', 'it was left alone');
  // One node dies, another one is in use when it has to go.
  process.kill(pidOf(rig, node(2)), 'SIGKILL');
  await eventually('its end', () => pidOf(rig, node(2)) === 0);
  // Its record goes when it is fenced; its mount stays.
  await eventually('its fencing', () =>
    fs.readdirSync(rig.run).filter((name) => name.startsWith('f.')).length === 2, LONG_MS);
  const fd = fs.openSync(join(node(1), 'file'), 'r');
  demo.child.kill('SIGINT');
  demo.child.kill('SIGINT');
  fs.closeSync(fd);
  tt.equal(await demo.ended, 0, demo.err);
  tt.match(demo.out, /unmounting 2 nodes\n/);
  tt.strictSame(left(rig), [], 'nothing is left');

  demo = start(rig, '--nodes', '3', folder);
  await eventually('the second demo', () => demo.out.includes('Ctrl-C unmounts'));
  tt.equal(fs.readFileSync(join(node(1), 'file'), 'utf8'), 'hello\n', 'the same volume again');
  process.kill(pidOf(rig, node(0)), 'SIGSTOP');
  demo.child.kill('SIGTERM');
  // What waits for the stopped one is forced when somebody insists.
  await eventually('the unmounting', () => demo.out.includes('unmounting 3 nodes'));
  await new Promise((resolve) => { setTimeout(resolve, 1500); });
  demo.child.kill('SIGINT');
  tt.equal(await demo.ended, 0, demo.err);
  tt.match(demo.out, /node0: cannot leave, ending it/);
  tt.strictSame(left(rig), [], 'nothing is left');

  demo = start(rig, '--nodes', '3', folder);
  await eventually('the start of a daemon', () => processesOf(folder).length > 0);
  demo.child.kill('SIGINT');
  await demo.ended;
  tt.strictSame(left(rig), [], 'nothing is left of a start that was given up');
  const images = ['meta.img', 'data.img'].map((n) => join(folder, n));
  tt.equal(rig.scoutfs('check', ...images).status, 0, 'the volume is sound');
});

void t.test('every node has room', { skip, timeout: LONG_MS }, async (tt) => {
  const rig = new Rig('demo-many');
  tt.teardown(() => { rig.end(); });
  const folder = join(rig.dir, 'demo');
  const demo = start(rig, '--nodes', String(MANY), '-P', String(await freePort()), folder);
  tt.teardown(() => { demo.child.kill('SIGINT'); });
  await eventually('the demo', () => demo.out.includes('Ctrl-C unmounts'), LONG_MS);
  const dirs = Array.from({ length: MANY }, (_, nr) => join(folder, `node${nr}`));
  dirs.forEach((dir, nr) => { fs.writeFileSync(join(dir, `file${nr}`), `text ${nr}`); });
  for (const dir of dirs) {
    tt.strictSame(dirs.map((_, nr) => fs.readFileSync(join(dir, `file${nr}`), 'utf8')),
      dirs.map((_, nr) => `text ${nr}`));
  }
  demo.child.kill('SIGINT');
  tt.equal(await demo.ended, 0, demo.err);
  tt.notMatch(demo.out, /cannot leave/, 'all leave by themselves');
  tt.strictSame(left(rig), [], 'nothing is left');
  const images = ['meta.img', 'data.img'].map((n) => join(folder, n));
  tt.equal(rig.scoutfs('check', ...images).status, 0, 'the volume is sound');
});

void t.test('it ends when its only node is unmounted', { skip, timeout: TIMEOUT_MS }, async (tt) => {
  const rig = new Rig('demo-one');
  tt.teardown(() => { rig.end(); });
  const folder = join(rig.dir, 'demo');
  const demo = start(rig, '--json', '--nodes', '1', '-P', String(await freePort()), folder);
  tt.teardown(() => { demo.child.kill('SIGINT'); });
  await eventually('the demo', () => demo.out.endsWith('}\n'));
  const { nodes } = JSON.parse(demo.out) as { nodes: { dir: string; slot: number }[] };
  tt.match(nodes, [{ slot: 0, dir: join(folder, 'node0') }]);
  rig.must('umount', join(folder, 'node0'));
  tt.equal(await demo.ended, 0);
  tt.strictSame(left(rig), []);
});

void t.test('what cannot be', { skip }, async (tt) => {
  const rig = new Rig('demo-bad');
  tt.teardown(() => { rig.end(); });
  const folder = join(rig.dir, 'demo');
  const refused = (r: Result, status: number, why: RegExp): void => {
    tt.match(r, { status, out: '', err: /^scoutfs: demo: .+\n$/ });
    tt.match(r.err, why);
  };
  for (const n of ['0', '16', '-1', 'x', '']) {
    refused(rig.scoutfs('demo', `--nodes=${n}`, folder), 2, n === 'x' || n === ''
      ? /invalid 64bit value/ : /nodes '-?\d+' must be between 1 and 15/);
  }
  refused(rig.scoutfs('demo', '--nodes'), 2, /requires an argument/);
  tt.notOk(fs.existsSync(folder), 'nothing was made');
  rig.makeImages();
  rig.must('mkfs', '-A', '-f', '-Q', '0,127.0.0.1,7000', rig.meta, rig.data);
  refused(rig.scoutfs('demo', '--nodes', '2', rig.dir), 1,
    /the volume there has the quorum slots 127\.0\.0\.1:7000: give their number/);
  refused(rig.scoutfs('demo', '--nodes', '1', '-P', '7001', rig.dir), 1, /slots 127\.0\.0\.1:7000/);
});
