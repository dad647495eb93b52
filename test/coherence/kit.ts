/**
 * What the tests of several real mounts share.
 *
 * `runCases` runs cases on one volume with four mounts, and with two in scripts/nightly. A case
 * gets a directory of its own and works in this process, on any of the mounts: a change is
 * made through one and must be seen through all of them by the very next call. Where calls
 * have to be made at once, actors make them: processes that run a task of `tasks.ts`.
 * At the end everything is unmounted, the volume is checked, and no log has an error.
 */
import * as fs from 'node:fs';
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import t from 'tap';
import type { ClusterNode, ClusterShape } from '../lib/clustermounts.js';
import { ClusterMounts } from '../lib/clustermounts.js';
import { nightly, skipWithoutFuse } from '../lib/mounted.js';
import * as c from '../lib/syscalls.js';
import type { Tasks } from './tasks.js';

export { getFile, putFile } from './tasks.js';
export const NIGHTLY = nightly();
/** Of a whole file on a slow machine. */
export const TIMEOUT_MS = NIGHTLY ? 20_000_000 : 900_000;
/** Two users without privileges and without common groups. */
export const USER: c.User = { uid: 65534, gid: 65533, groups: [65533] };

/** `small` in the common run, `big` in scripts/nightly. */
export function size(small: number, big: number): number {
  return NIGHTLY ? big : small;
}

/** A process that runs tasks. */
export class Actor {
  private nextId = 1;
  private readonly waiting = new Map<number, (a: { result?: unknown; error?: string }) => void>();
  private readonly child: ChildProcess;

  constructor() {
    this.child = fork(fileURLToPath(new URL('./actor.js', import.meta.url)), [],
      { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
    this.child.on('message', (m: { id: number; result?: unknown; error?: string }) => {
      this.waiting.get(m.id)?.(m);
      this.waiting.delete(m.id);
    });
    this.child.on('exit', () => {
      for (const done of this.waiting.values()) done({ error: 'the actor has ended' });
      this.waiting.clear();
    });
  }

  run<K extends keyof Tasks>(task: K, ...args: Parameters<Tasks[K]>):
  Promise<ReturnType<Tasks[K]>> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, (a) => {
        if (a.error !== undefined) reject(new Error(`${task}: ${a.error}`));
        else resolve(a.result as ReturnType<Tasks[K]>);
      });
      this.child.send({ id, task, args });
    });
  }

  /** Resolves when it is gone, with everything that it had open. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => { this.child.once('exit', resolve); });
    this.child.kill('SIGKILL');
    await gone;
  }
}

/** Where a case works. */
export class Case {
  private readonly actors: Actor[] = [];

  constructor(readonly t: Test, readonly cluster: ClusterMounts, readonly name: string) {}

  async end(): Promise<void> {
    await Promise.all(this.actors.map((a) => a.end()));
  }

  get nodes(): readonly ClusterNode[] {
    return this.cluster.nodes;
  }

  get count(): number {
    return this.nodes.length;
  }

  /** A path in the case's directory through mount `nr`, counted round and round. */
  p(nr: number, ...names: string[]): string {
    return this.cluster.node(nr % this.count).p(this.name, ...names);
  }

  /** A new process. */
  actor(): Actor {
    const a = new Actor();
    this.actors.push(a);
    return a;
  }

  /** One process per mount. */
  actorEach(): Actor[] {
    return this.nodes.map(() => this.actor());
  }

  /** All mounts must answer `want`, the first one twice. */
  all(want: unknown, ask: (nr: number) => unknown, what: string): void {
    const got = [...this.nodes.keys(), 0].map((nr) => ask(nr));
    this.t.strictSame(got, got.map(() => want), what);
  }

  /** As all, with what the first mount answers. */
  same(ask: (nr: number) => unknown, what: string): void {
    this.all(ask(0), ask, what);
  }
}

/** Commits what every mount has done. */
export function syncAll(x: Case): void {
  for (const n of x.nodes.keys()) {
    const fd = c.ok(c.open(x.p(n), c.O.RDONLY));
    c.ok(c.fsync(fd));
    c.close(fd);
  }
}

/** Has all log trees merged, which otherwise waits until they are large. */
export function forceMerge(x: Case): void {
  const { leader } = x.cluster;
  if (leader === null) throw new Error('no leader');
  fs.writeFileSync(leader.control('debug', 'trigger', 'log_merge_force_finalize_ours'), '1');
  for (const n of x.nodes.keys()) c.ok(c.creat(x.p(n, `merge${n}`)));
  syncAll(x);
}

export type CaseFn = (x: Case) => void | Promise<void>;

/** Two mounts, and four of which one is a plain client. */
const TWO: ClusterShape = { members: 1, clients: 1 };
const FOUR: ClusterShape = { members: 3, clients: 1 };

/** Runs the cases on four mounts; in scripts/nightly on two as well. */
export function runCases(name: string, cases: Record<string, CaseFn>, options = ''): void {
  for (const shape of NIGHTLY ? [TWO, FOUR] : [FOUR]) {
    runShape(name, { ...shape, options }, cases);
  }
}

/** Runs every case on one cluster of this shape. */
export function runShape(name: string, shape: ClusterShape, cases: Record<string, CaseFn>): void {
  const count = shape.members + (shape.clients ?? 0);
  const how = { skip: skipWithoutFuse(), timeout: TIMEOUT_MS };
  void t.test(`${name} on ${count} mounts`, how, async (tt) => {
    const cluster = await ClusterMounts.start(`${name}-${count}`, shape);
    tt.teardown(() => cluster.end());
    const umask = process.umask(0);
    for (const [what, run] of Object.entries(cases)) {
      await tt.test(what, async (at) => {
        const dir = what.replace(/[^A-Za-z0-9]+/g, '-');
        c.ok(c.mkdir(cluster.node(0).p(dir), 0o777), 'mkdir');
        const x = new Case(at, cluster, dir);
        try {
          await run(x);
        } finally {
          await x.end();
        }
      });
    }
    process.umask(umask);
    await cluster.umountAll();
    tt.strictSame(await cluster.check(), [], 'check is clean');
    tt.strictSame(cluster.complaints(), [], 'the daemons logged no error');
  });
}
