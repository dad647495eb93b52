/**
 * Jobs of the simulator, in this process or in several.
 *
 * A run is its seed wherever it runs, so jobs need nothing but their arguments and are
 * handed to whichever process is free. A child is this program again, started with
 * `--worker`; it is replaced after some jobs, so that nothing can pile up over a night.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { Cluster } from './cluster.js';
import type { RunOptions, RunResult } from './cluster.js';
import type { Caught } from './mutations.js';
import { caughtIn, mutationNamed } from './mutations.js';

/** Some seeds, or a broken rule until it is noticed. */
export type Job =
  | { what: 'seeds'; first: number; seeds: number; opts: RunOptions; trace: boolean }
  | { what: 'mutation'; name: string; first: number; seeds: number; opts: RunOptions };

/** What a job came to, in what a message can carry. */
export type Outcome =
  | { what: 'seeds'; runs: Run[] }
  | { what: 'mutation'; name: string; caught: Caught | null; runs: number };

export type Run = Omit<RunResult, 'faultKinds'> & { faultKinds: [string, number][] };

/** Jobs of one child before it is replaced. */
const JOBS_MAX = 20;

export async function work(job: Job): Promise<Outcome> {
  if (job.what === 'mutation') {
    const m = mutationNamed(job.name);
    const caught = await caughtIn(m, job.first, job.seeds, job.opts);
    return { what: 'mutation', name: job.name, caught, runs: caught?.nr ?? job.seeds };
  }
  const runs: Run[] = [];
  for (let seed = job.first; seed < job.first + job.seeds; seed++) {
    const r = await Cluster.run(seed, job.opts);
    runs.push({ ...r, faultKinds: [...r.faultKinds], trace: job.trace ? r.trace : [] });
  }
  return { what: 'seeds', runs };
}

/** Does the jobs, `processes` at a time; `done` hears of each as it ends. */
export async function runJobs(jobs: readonly Job[], processes: number,
  done: (o: Outcome) => void): Promise<void> {
  if (processes <= 1) {
    for (const job of jobs) done(await work(job));
    return;
  }
  const queue = [...jobs];
  await Promise.all(Array.from({ length: processes }, async () => {
    while (queue.length > 0) await childLife(queue, done);
  }));
}

/** One child: takes jobs until it has done its share or none is left. */
function childLife(queue: Job[], done: (o: Outcome) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = fork(process.argv[1] ?? '', ['--worker'],
      { execArgv: process.execArgv });
    let left = JOBS_MAX;
    const next = (): void => {
      const job = left-- > 0 ? queue.shift() : undefined;
      if (job === undefined) child.disconnect();
      else child.send(job);
    };
    child.on('message', (o) => {
      done(o as Outcome);
      next();
    });
    child.on('exit', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`a simulator process ended with ${code ?? signal}`));
    });
    child.on('error', reject);
    next();
  });
}

/** The life of a child, until its parent has no more for it. */
export function serveJobs(): void {
  process.on('message', (job) => {
    void work(job as Job).then((o) => { process.send?.(o); }, (e: unknown) => {
      console.error(e);
      process.exit(1);
    });
  });
}
