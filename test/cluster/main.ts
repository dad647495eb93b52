/**
 * `npm run sim -- --seed N [--seeds N] [--processes N] [--trace]`: runs seeds of the cluster
 * simulator. `npm run sim -- --mutations`: breaks one rule after the other until the
 * simulator notices.
 *
 * Ends with 0 when no seed showed a violation, or every broken rule was noticed; with 1
 * otherwise; with 2 for bad arguments.
 */
import type { RunOptions } from './cluster.js';
import { MUTATIONS, mutationNamed } from './mutations.js';
import type { Job, Outcome, Run } from './pool.js';
import { runJobs, serveJobs } from './pool.js';

/** Seeds of one job of several processes; one process tells of each at once. */
const CHUNK_SEEDS = 20;
const HOW_SHOWN = 100;
const USAGE = `usage: sim [--seed N] [--seeds N] [--processes N] [--trace] [--verbose]
           [--operations N] [--fault-ms N] [--calm]
       sim --mutations | --mutation NAME [--seed N] [--seeds N] [--processes N]`;

interface Args {
  seed: number;
  /** null: one, or as many as the mutation is promised to be noticed in */
  seeds: number | null;
  processes: number;
  trace: boolean;
  verbose: boolean;
  /** name of a mutation, or `all` */
  mutation: string | null;
  worker: boolean;
  opts: RunOptions;
}

function parse(argv: string[]): Args {
  const a: Args = {
    seed: 1, seeds: null, processes: 1, trace: false, verbose: false, mutation: null,
    worker: false, opts: {},
  };
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i] ?? '';
    const value = (): number => {
      const n = Number(argv[++i]);
      if (!Number.isSafeInteger(n) || n < 0) throw new Error(`${name}: not a number`);
      return n;
    };
    switch (name) {
      case '--seed': a.seed = value(); break;
      case '--seeds': a.seeds = value(); break;
      case '--processes': a.processes = value(); break;
      case '--operations': a.opts.operations = value(); break;
      case '--fault-ms': a.opts.faultMs = value(); break;
      case '--calm': a.opts.calm = true; break;
      case '--mutation': a.mutation = mutationNamed(argv[++i] ?? '').name; break;
      case '--mutations': a.mutation = 'all'; break;
      case '--verbose': a.verbose = true; break;
      case '--trace': a.trace = true; break;
      case '--worker': a.worker = true; break;
      default: throw new Error(`unknown argument ${name}`);
    }
  }
  return a;
}

function report(r: Run, args: Args): void {
  if (args.trace) for (const line of r.trace) console.log(line);
  for (const v of r.violations) console.log(`seed ${r.seed}: ${v}`);
  if (r.violations.length > 0 && !args.trace) {
    console.log(`seed ${r.seed}: the whole story: npm run sim -- --seed ${r.seed} --trace`);
  }
  if (args.verbose) {
    console.log(`seed ${r.seed}: ${r.mounts} mounts, ${r.messages} messages, ${r.faults} faults, ${
      r.operations} operations, ${(r.simulatedMs / 1000).toFixed(0)} s`);
  }
}

/** What all seeds came to. */
class Totals {
  seeds = 0;
  private faults = 0;
  private operations = 0;
  private simulatedMs = 0;
  readonly failed: number[] = [];
  private readonly kinds = new Map<string, number>();
  private readonly sizes = new Map<number, number>();
  private readonly looks = new Map<string, number>();

  add(r: Run): void {
    this.seeds += 1;
    this.faults += r.faults;
    this.operations += r.operations;
    this.simulatedMs += r.simulatedMs;
    for (const [kind, n] of r.faultKinds) this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + n);
    for (const [rule, n] of Object.entries(r.looks) as [string, number][]) {
      this.looks.set(rule, (this.looks.get(rule) ?? 0) + n);
    }
    this.sizes.set(r.mounts, (this.sizes.get(r.mounts) ?? 0) + 1);
    if (r.violations.length > 0) this.failed.push(r.seed);
  }

  print(elapsedMs: number): void {
    const s = (ms: number, digits: number): string => (ms / 1000).toFixed(digits);
    console.log([...this.kinds].sort(([, a], [, b]) => b - a)
      .map(([kind, n]) => `${kind} ${n}`).join(', '));
    console.log([...this.sizes].sort(([a], [b]) => a - b)
      .map(([mounts, n]) => `${n} of ${mounts} mounts`).join(', '));
    console.log(`looked at ${[...this.looks].map(([rule, n]) => `${rule} ${n}`).join(', ')}`);
    const failed = this.failed.length > 0 ? ` (${this.failed.join(' ')})` : '';
    console.log(`${this.seeds} seeds, ${this.faults} faults, ${this.operations} operations, ${
      s(this.simulatedMs, 0)} simulated seconds, ${this.failed.length} seeds with violations${
      failed}, ${s(elapsedMs, 1)} s, ${s(elapsedMs / this.seeds, 2)} s each`);
  }
}

/** Runs seeds. @returns whether all was well */
async function runSeeds(args: Args): Promise<boolean> {
  const jobs: Job[] = [];
  const end = args.seed + (args.seeds ?? 1);
  const chunk = args.processes > 1 ? CHUNK_SEEDS : 1;
  for (let first = args.seed; first < end; first += chunk) {
    jobs.push({
      what: 'seeds', first, seeds: Math.min(chunk, end - first), opts: args.opts,
      trace: args.trace,
    });
  }
  const totals = new Totals();
  const startMs = performance.now();
  await runJobs(jobs, args.processes, (o) => {
    if (o.what !== 'seeds') return;
    for (const r of o.runs) {
      report(r, args);
      totals.add(r);
    }
  });
  totals.print(performance.now() - startMs);
  return totals.failed.length === 0;
}

/** Breaks rules. @returns whether all were noticed */
async function runMutations(args: Args): Promise<boolean> {
  const jobs: Job[] = MUTATIONS.filter((m) => args.mutation === 'all' || args.mutation === m.name)
    .map((m) => ({
      what: 'mutation', name: m.name, first: args.seed, seeds: args.seeds ?? m.seeds,
      opts: args.opts,
    }));
  const missed: string[] = [];
  const startMs = performance.now();
  console.log('| broken rule | what it says | noticed | how |\n|---|---|---|---|');
  await runJobs(jobs, args.processes, (o: Outcome) => {
    if (o.what !== 'mutation') return;
    if (o.caught === null) missed.push(o.name);
    const where = o.caught === null ? `not in ${o.runs} seeds` : `seed ${o.caught.seed}`;
    const how = o.caught?.violation.replaceAll(/[|\n]/g, ' ').slice(0, HOW_SHOWN) ?? '';
    console.log(`| ${o.name} | ${mutationNamed(o.name).rule} | ${where} | ${how} |`);
  });
  console.log(`${jobs.length} broken rules, ${jobs.length - missed.length} noticed${
    missed.length > 0 ? `, not: ${missed.join(' ')}` : ''}, ${
    ((performance.now() - startMs) / 1000).toFixed(0)} s`);
  return missed.length === 0;
}

async function main(): Promise<number> {
  let args: Args;
  try {
    args = parse(process.argv.slice(2));
  } catch (e) {
    console.error(`sim: ${e instanceof Error ? e.message : String(e)}\n${USAGE}`);
    return 2;
  }
  if (args.worker) {
    serveJobs();
    return 0;
  }
  return await (args.mutation === null ? runSeeds(args) : runMutations(args)) ? 0 : 1;
}

process.exitCode = await main();
