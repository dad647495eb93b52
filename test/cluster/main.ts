/**
 * `npm run sim -- --seed N [--seeds N] [--trace]`: runs seeds of the cluster simulator.
 * `npm run sim -- --mutations`: breaks one rule after the other until the simulator notices.
 */
import { Cluster } from './cluster.js';
import type { RunOptions, RunResult } from './cluster.js';
import { MUTATIONS, MUTATION_SEEDS, caughtIn } from './mutations.js';

interface Args {
  seed: number;
  seeds: number;
  trace: boolean;
  verbose: boolean;
  /** names of mutations, or `all` */
  mutation: string | null;
  opts: RunOptions;
}

function parse(argv: string[]): Args {
  const a: Args = { seed: 1, seeds: 1, trace: false, verbose: false, mutation: null, opts: {} };
  for (let i = 0; i < argv.length; i++) {
    const value = (): number => Number(argv[++i]);
    switch (argv[i]) {
      case '--seed': a.seed = value(); break;
      case '--seeds': a.seeds = value(); break;
      case '--operations': a.opts.operations = value(); break;
      case '--fault-ms': a.opts.faultMs = value(); break;
      case '--calm': a.opts.calm = true; break;
      case '--mutation': a.mutation = argv[++i] ?? 'all'; break;
      case '--verbose': a.verbose = true; break;
      case '--mutations': a.mutation = 'all'; break;
      case '--trace': a.trace = true; break;
      default: throw new Error(`unknown argument ${argv[i]}`);
    }
  }
  return a;
}

function report(r: RunResult, trace: boolean): void {
  if (trace) for (const line of r.trace) console.log(line);
  for (const v of r.violations) console.log(`seed ${r.seed}: ${v}`);
}

/** Runs seeds. @returns whether all was well */
async function runSeeds(args: Args): Promise<boolean> {
  const total = { faults: 0, operations: 0, simulatedMs: 0, failed: [] as number[] };
  const startMs = performance.now();
  for (let seed = args.seed; seed < args.seed + args.seeds; seed++) {
    const r = await Cluster.run(seed, args.opts);
    report(r, args.trace);
    if (args.verbose) {
      console.log(`seed ${seed}: ${r.messages} messages, ${r.faults} faults, ${
        r.operations} operations, ${(r.simulatedMs / 1000).toFixed(0)} s`);
    }
    total.faults += r.faults;
    total.operations += r.operations;
    total.simulatedMs += r.simulatedMs;
    if (r.violations.length > 0) total.failed.push(seed);
  }
  const s = ((performance.now() - startMs) / 1000).toFixed(1);
  console.log(`${args.seeds} seeds, ${total.faults} faults, ${total.operations} operations, ${
    (total.simulatedMs / 1000).toFixed(0)} simulated seconds, ${total.failed.length
  } seeds with violations${total.failed.length > 0 ? ` (${total.failed.join(' ')})` : ''}, ${s} s`);
  return total.failed.length === 0;
}

/** Breaks rules. @returns whether all were noticed */
async function runMutations(args: Args): Promise<boolean> {
  const missed: string[] = [];
  for (const m of MUTATIONS) {
    if (args.mutation !== 'all' && args.mutation !== m.name) continue;
    const found = await caughtIn(m, args.seed, args.seeds > 1 ? args.seeds : MUTATION_SEEDS, args.opts,
      (r) => { if (args.trace) report(r, true); });
    if (found === null) missed.push(m.name);
    console.log(found === null ? `${m.name}: not noticed`
      : `${m.name}: seed ${found.seed}, the ${found.nr}.: ${found.violation.slice(0, 150)}`);
  }
  return missed.length === 0;
}

const args = parse(process.argv.slice(2));
const ok = args.mutation === null ? await runSeeds(args) : await runMutations(args);
process.exitCode = ok ? 0 : 1;
