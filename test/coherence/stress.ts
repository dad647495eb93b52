/**
 * The stress of the FUSE boundary on the real system: many processes on several mounts of one
 * volume read, write, map, list, create, rename and remove, and each looks whether what it saw
 * can be true (`stress_worker.ts`).
 *
 *   node dist/test/coherence/stress.js --minutes 10 --mounts 4 [--seed N] [--processes N]
 *
 * Processes are killed at random and started again. A process whose operation does not end is
 * told with the locks that are waited for (`hang_report.ts`), and ends the run. Afterwards everything is unmounted and
 * checked. Ends with 1 when anything was wrong.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ifProgram } from '../lib/program.js';
import { ClusterMounts } from '../lib/clustermounts.js';
import type { AtWork } from './hang_report.js';
import { hangReport } from './hang_report.js';
import { StressTable, sharedMs } from './stress_table.js';
import type { StressOrder } from './stress_worker.js';
import { describe, prepareStress } from './stress_worker.js';

/** Longer than any operation of a healthy cluster under full load. */
const HANG_MS = 30_000;
const WATCH_MS = 250;
const KILL_CHANCE = 0.1;
const OPTIONS = 'orphan_scan_delay_ms=1000';

export interface StressResult {
  problems: string[];
  ops: number;
  counts: Record<string, number>;
  kills: number;
  /** Lock grants that were taken away, over all mounts. */
  movements: number;
}

interface StressArgs {
  seconds: number;
  mounts: number;
  seed: number;
  /** Per mount. */
  processes: number;
}

class Stress {
  readonly problems: string[] = [];
  readonly counts: Record<string, number> = {};
  kills = 0;
  private killedOps = 0;
  hung = false;
  private readonly children = new Map<number, ChildProcess>();
  private readonly table: StressTable;
  private readonly tablePath: string;
  private nextSeed: number;
  private readonly endMs: number;

  constructor(private readonly cluster: ClusterMounts, private readonly args: StressArgs) {
    this.tablePath = join('/dev/shm', `stress-${process.pid}-${args.seed}-${args.mounts}`);
    fs.rmSync(this.tablePath, { force: true });
    this.table = new StressTable(this.tablePath);
    this.nextSeed = args.seed * 1000 + 1;
    this.endMs = Date.now() + args.seconds * 1000;
  }

  private start(worker: number): void {
    const mount = worker % this.args.mounts;
    const order: StressOrder = {
      table: this.tablePath, dir: this.cluster.node(mount).p('stress'), worker, mount,
      seed: this.nextSeed++, endMs: this.endMs, areas: this.args.mounts,
    };
    const child = fork(fileURLToPath(new URL('./stress_worker.js', import.meta.url)),
      [JSON.stringify(order)], { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
    child.on('message', (m: { problem?: string; counts?: Record<string, number> }) => {
      if (m.problem !== undefined) this.problems.push(m.problem);
      for (const [k, n] of Object.entries(m.counts ?? {})) {
        this.counts[k] = (this.counts[k] ?? 0) + n;
      }
    });
    child.on('exit', (code, signal) => {
      this.children.delete(worker);
      if (signal === 'SIGKILL' && !this.hung) {
        if (Date.now() < this.endMs) this.start(worker);
      } else if (code !== 0) {
        this.problems.push(`worker ${worker} ended with ${code ?? signal ?? ''}`);
      }
    });
    this.children.set(worker, child);
  }

  /** @returns operations of all workers */
  async run(): Promise<number> {
    const count = this.args.mounts * this.args.processes;
    for (let w = 0; w < count; w++) this.start(w);
    while (this.children.size > 0 && !this.hung) {
      await sleep(WATCH_MS);
      await this.watch();
      if (Math.random() < KILL_CHANCE && Date.now() < this.endMs - 2000) this.killOne();
      if (this.problems.length > 20) this.killAll();
    }
    fs.rmSync(this.tablePath, { force: true });
    return Object.values(this.counts).reduce((a, b) => a + b, this.killedOps);
  }

  private killOne(): void {
    const all = [...this.children];
    const [worker, child] = all[Math.floor(Math.random() * all.length)] ?? [];
    if (worker === undefined || child === undefined) return;
    const s = this.table.state(worker);
    if (s.pid === child.pid) this.killedOps += s.ops;
    child.kill('SIGKILL');
    this.kills++;
  }

  private killAll(): void {
    this.hung = true;
    for (const child of this.children.values()) child.kill('SIGKILL');
  }

  private atWork(): AtWork[] {
    return [...this.children].map(([worker, child]) => {
      const s = this.table.state(worker);
      const busy = s.pid === child.pid && s.kind >= 0;
      return { worker, pid: child.pid ?? 0, what: busy ? describe(s.kind) : '',
        forMs: busy ? sharedMs() - s.sinceMs : 0, ops: s.ops };
    });
  }

  private async watch(): Promise<void> {
    const hung = this.atWork().find((w) => w.forMs >= HANG_MS);
    if (hung === undefined) return;
    this.problems.push(`worker ${hung.worker} hangs for ${hung.forMs} ms, ${hung.what}`,
      ...await hangReport(this.cluster, () => this.atWork()));
    this.killAll();
  }
}

/** One run on a fresh volume. */
export async function stress(args: StressArgs): Promise<StressResult> {
  const members = args.mounts >= 3 ? 3 : 1;
  const cluster = await ClusterMounts.start(`stress-${args.mounts}`,
    { members, clients: args.mounts - members, options: OPTIONS });
  try {
    fs.mkdirSync(cluster.node(0).p('stress'));
    for (const n of cluster.nodes) prepareStress(n.p('stress'), n.nr);
    const s = new Stress(cluster, args);
    const ops = await s.run();
    const movements = cluster.nodes.map((n) => n.counter('lock_invalidate_request'))
      .reduce((a, b) => a + b, 0);
    const { problems } = s;
    if (!s.hung) {
      await cluster.umountAll();
      problems.push(...await cluster.check());
    }
    problems.push(...cluster.complaints());
    return { problems, ops, counts: s.counts, kills: s.kills, movements };
  } finally {
    await cluster.end();
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: {
    minutes: { type: 'string' }, seconds: { type: 'string', default: '60' },
    mounts: { type: 'string', default: '4' }, seed: { type: 'string', default: '1' },
    processes: { type: 'string', default: '3' },
  } });
  const seconds = values.minutes === undefined ? Number(values.seconds)
    : 60 * Number(values.minutes);
  const r = await stress({ seconds, mounts: Number(values.mounts), seed: Number(values.seed),
    processes: Number(values.processes) });
  for (const p of r.problems) console.log(p);
  console.log(Object.entries(r.counts).sort(([, a], [, b]) => b - a)
    .map(([op, n]) => `${op} ${n}`).join(', '));
  console.log(`${r.ops} operations, ${r.movements} lock movements, ${r.kills} processes killed, ${
    r.problems.length} problems`);
  return r.problems.length === 0 ? 0 : 1;
}

ifProgram(import.meta.url, main);
