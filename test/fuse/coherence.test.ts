/**
 * Two mounts of one file system, every change made through one and looked for through either:
 * contents, sizes, names, links, appends, mappings, while locks move back and forth.
 *
 * Each loop below keeps to its own files and is sequential, so whatever it finds that it did not
 * put there is a stale cache; several loops run at once, so drains overlap with requests.
 * `SCOUTFS_STRESS_SEC` makes it longer.
 */
import * as fs from 'node:fs';
import { fork, spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { abortFuse } from '../../host/env/fuse-mount.js';
import { fuseMissing, ops, opsHelper } from './harness.js';

const { promises: fsp } = fs;
const missing = fuseMissing();
const RUN_MS = Number(process.env['SCOUTFS_STRESS_SEC'] ?? 4) * 1000;
const PINGPONG_ROUNDS = 100;
const OVERWRITE_BYTES = 20_000;

interface Report {
  problems: string[];
  movements: number[];
  drains: Record<string, number>[];
}

interface Cluster {
  dirs: readonly [string, string];
  report(): Promise<Report>;
  stop(): Promise<void>;
}

async function startCluster(): Promise<Cluster> {
  const dirs = [0, 1].map((n) => fs.mkdtempSync(join(tmpdir(), `scoutfs-node${n}-`)));
  const child = fork(fileURLToPath(new URL('cluster.js', import.meta.url)), dirs, {
    env: { ...process.env, UV_THREADPOOL_SIZE: '32', NODE_OPTIONS: '' }, execArgv: [] });
  const connections: number[] = [];
  await new Promise<void>((ready, failed) => {
    child.on('message', (m: { connection?: number; ready?: boolean; error?: string }) => {
      if (m.connection !== undefined) connections.push(m.connection);
      if (m.ready === true) ready();
      if (m.error !== undefined) failed(new Error(m.error));
    });
  });
  return {
    dirs: [dirs[0] ?? '', dirs[1] ?? ''],
    report: () => new Promise((done) => {
      child.on('message', (m: Report) => { if (Array.isArray(m.problems)) done(m); });
      child.send('report');
    }),
    stop: async () => {
      for (const dir of dirs) spawnSync('umount', ['-i', '-l', dir], { stdio: 'ignore' });
      for (const nr of connections) await abortFuse(nr).catch(() => undefined);
      child.kill('SIGKILL');
      for (const dir of dirs) fs.rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** A loop that stops with a description of the first thing it did not expect. */
type Loop = (at: (node: number, ...names: string[]) => string, i: number, node: number) =>
Promise<string | null>;

/** Both nodes must give `want`. */
async function both(what: string, want: unknown, ask: (node: number) => Promise<unknown>):
Promise<string | null> {
  for (const node of [0, 1, 0]) {
    const got = await ask(node);
    if (got !== want) return `${what} on node ${node}: ${String(got)} instead of ${String(want)}`;
  }
  return null;
}

const exists = (path: string): Promise<boolean> => fsp.stat(path).then(() => true, () => false);

const LOOPS: Record<string, Loop> = {
  async contents(at, i, node) {
    const text = `round ${i} `.repeat(1 + i % 900);
    await fsp.writeFile(at(node, 'contents'), text);
    return await both('contents', text, (n) => fsp.readFile(at(n, 'contents'), 'utf8'));
  },
  async overwrites(at, i, node) {
    const path = (n: number): string => at(n, 'overwrites');
    if (i === 0) await fsp.writeFile(path(node), 'x'.repeat(OVERWRITE_BYTES));
    // same size, other bytes: only dropped pages can show them
    const text = String(i).padEnd(OVERWRITE_BYTES, '.');
    const handle = await fsp.open(path(node), 'r+');
    await handle.write(text, 0);
    await handle.close();
    return await both('overwritten', text, (n) => fsp.readFile(path(n), 'utf8'));
  },
  async attributes(at, i, node) {
    const path = (n: number): string => at(n, 'attributes');
    if (i === 0) await fsp.writeFile(path(node), '');
    await fsp.truncate(path(node), i * 7 % 10_000);
    await fsp.utimes(path(1 - node), 1, i);
    return await both('size', i * 7 % 10_000, async (n) => (await fsp.stat(path(n))).size)
      ?? await both('mtime', i, async (n) => (await fsp.stat(path(n))).mtimeMs / 1000);
  },
  async names(at, i, node) {
    const [a, b] = [`name-a${i % 3}`, `name-b${i % 5}`];
    await fsp.writeFile(at(node, a), '');
    await fsp.rm(at(1 - node, b), { force: true });
    const made = await both(`${a} exists`, true, (n) => exists(at(n, a)));
    await fsp.rename(at(1 - node, a), at(1 - node, b));
    return made ?? await both(`${a} is gone`, false, (n) => exists(at(n, a)))
      ?? await both(`${b} exists`, true, (n) => exists(at(n, b)));
  },
  async directories(at, i, node) {
    const d = `dir${i % 2}`;
    await fsp.mkdir(at(node, d));
    await fsp.writeFile(at(1 - node, d, 'f'), '');
    await fsp.link(at(node, d, 'f'), at(node, d, 'g'));
    const bad = await both('links', 2, async (n) => (await fsp.stat(at(n, d, 'f'))).nlink)
      ?? await both('listing', 'f,g', async (n) => (await fsp.readdir(at(n, d))).sort().join());
    await fsp.rm(at(1 - node, d), { recursive: true });
    return bad ?? await both(`${d} is gone`, false, (n) => exists(at(n, d)));
  },
  async appends(at, i, node) {
    if (i % 500 === 0) await fsp.rm(at(node, 'log'), { force: true });
    await fsp.appendFile(at(node, 'log'), `${i % 500}\n`);
    await fsp.appendFile(at(1 - node, 'log'), `${i % 500}\n`);
    const want = Array.from({ length: 2 * (i % 500 + 1) }, (_, k) => `${k >> 1}\n`).join('');
    return await both('log', want, (n) => fsp.readFile(at(n, 'log'), 'utf8'));
  },
};

t.test('two mounts stay exact', { skip: missing ?? false, timeout: RUN_MS + 60_000 }, async (t) => {
  const cluster = await startCluster();
  t.teardown(() => cluster.stop());
  const end = Date.now() + RUN_MS;
  const rounds: Record<string, number> = {};
  const run = async (name: string, loop: Loop): Promise<string | null> => {
    // a directory each, used through both mounts
    await fsp.mkdir(join(cluster.dirs[0], name));
    const at = (node: number, ...names: string[]): string =>
      join(cluster.dirs[node === 0 ? 0 : 1], name, ...names);
    let i = 0;
    for (; Date.now() < end; i++) {
      const bad = await loop(at, i, Math.random() < 0.5 ? 0 : 1);
      if (bad !== null) return `${name}, round ${i}: ${bad}`;
    }
    rounds[name] = i;
    return null;
  };
  const found = await Promise.all(Object.entries(LOOPS).map(([name, loop]) => run(name, loop)));
  t.same(found.filter((f) => f !== null), [], 'nothing stale');
  const report = await cluster.report();
  t.same(report.problems, []);
  const moved = report.movements;
  t.ok(moved.every((m) => m > 20), `locks moved ${moved.join(' and ')} times`);
  t.ok(Object.values(rounds).every((n) => n > 5), `rounds: ${JSON.stringify(rounds)}`);
  t.ok(report.drains.every((d) => (d['epochs'] ?? 0) > 0 && (d['attrs'] ?? 0) > 0
    && (d['pages'] ?? 0) > 0), 'names, attributes and pages were taken back');
});

t.test('stores to shared mappings are seen on the other mount',
  { skip: missing ?? (opsHelper() === null ? 'no C compiler' : false) }, async (t) => {
    const cluster = await startCluster();
    t.teardown(() => cluster.stop());
    const [a, b] = cluster.dirs;
    t.equal(await ops('mmap-pingpong', join(a, 'page'), join(b, 'page'),
      String(PINGPONG_ROUNDS)), '');
    t.same((await cluster.report()).problems, []);
  });
