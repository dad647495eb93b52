/**
 * Drives exercisers on one mount: several at once, with remounts between, and a check of
 * the volume at the end.
 */
import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Rig } from '../lib/mounted.js';
import { repoDir } from '../lib/shared.js';
import { inconsistencies } from './race.js';
import type { Answer, Order } from './worker.js';

export interface Plan {
  kind: 'data' | 'names' | 'race';
  seed: number;
  /** Operations of all processes together. */
  ops: number;
  processes: number;
  /** Unmounts and mounts after so many operations of all. */
  remountOps: number;
  /** Called now and then with the number of operations made. */
  progress?: (ops: number) => void;
}

export interface Outcome {
  /** Differences, findings of the checker, errors in the daemon's log. Empty: all well. */
  problems: string[];
  ops: number;
  remounts: number;
  counts: Record<string, number>;
  elapsedMs: number;
}

/** Operations between two reports of progress, of one process. */
const SLICE_OPS = 2000;

class Worker {
  counts: Record<string, number> = {};
  private readonly child: ChildProcess;

  constructor(kind: string, dir: string, seed: number) {
    mkdirSync(dir);
    this.child = fork(join(repoDir, 'dist/test/exercise/worker.js'), [kind, dir, String(seed)],
      { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
  }

  /** @returns what differed, or null */
  order(what: Order): Promise<string | null> {
    return new Promise((resolve) => {
      const died = (code: number | null, signal: string | null): void => {
        resolve(`the exerciser ended: ${code ?? signal}`);
      };
      this.child.once('exit', died);
      this.child.once('message', (answer: Answer) => {
        this.child.off('exit', died);
        if ('counts' in answer) this.counts = answer.counts;
        resolve('counts' in answer ? null : answer.difference);
      });
      this.child.send(what);
    });
  }

  stop(): void {
    this.child.kill('SIGKILL');
  }
}

async function all(workers: Worker[], what: Order): Promise<string[]> {
  const found = await Promise.all(workers.map((w) => w.order(what)));
  return found.filter((d) => d !== null);
}

/** Runs the plan on a new volume. */
export async function drive(plan: Plan): Promise<Outcome> {
  const rig = new Rig(`exercise-${plan.kind}`);
  const started = performance.now();
  const out: Outcome = { problems: [], ops: 0, remounts: 0, counts: {}, elapsedMs: 0 };
  const workers: Worker[] = [];
  try {
    await rig.mkfs();
    rig.mount();
    for (let i = 0; i < plan.processes; i++) {
      workers.push(new Worker(plan.kind, join(rig.mnt, `w${i}`), plan.seed + i));
    }
    await run(plan, rig, workers, out);
  } finally {
    for (const w of workers) w.stop();
    rig.end();
  }
  for (const w of workers) {
    for (const [op, n] of Object.entries(w.counts)) out.counts[op] = (out.counts[op] ?? 0) + n;
  }
  out.elapsedMs = performance.now() - started;
  return out;
}

async function run(plan: Plan, rig: Rig, workers: Worker[], out: Outcome): Promise<void> {
  let sinceMount = 0;
  while (out.ops < plan.ops) {
    const each = Math.min(SLICE_OPS, Math.ceil((plan.ops - out.ops) / workers.length),
      Math.ceil((plan.remountOps - sinceMount) / workers.length));
    out.problems.push(...await all(workers, { run: each }));
    if (out.problems.length > 0) return;
    out.ops += each * workers.length;
    sinceMount += each * workers.length;
    plan.progress?.(out.ops);
    if (sinceMount < plan.remountOps && out.ops < plan.ops) continue;
    sinceMount = 0;
    await all(workers, 'pause');
    if (plan.kind === 'race') out.problems.push(...inconsistencies(rig.mnt));
    rig.umount();
    rig.mount();
    out.remounts += 1;
    out.problems.push(...await all(workers, 'resume'));
  }
  await all(workers, 'pause');
  for (const w of workers) w.stop();
  if (plan.kind === 'race') out.problems.push(...inconsistencies(rig.mnt));
  rig.umount();
  out.problems.push(...rig.check().map((f) => `check: ${f}`));
  out.problems.push(...rig.logText().split('\n').filter((l) => / (error|fatal) /.test(l)));
}
