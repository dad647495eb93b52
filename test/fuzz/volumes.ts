/**
 * The fuzzer of volumes: damages them seed by seed, and reads, mounts and changes them.
 *
 *   node dist/test/fuzz/volumes.js --seed 123 --verbose     one case, told step by step
 *   node dist/test/fuzz/volumes.js --from 1 --count 20000   many
 *
 * Many cases run in a process of their own under a supervisor, which ends it when a case
 * takes too long or its memory grows without a bound, notes the seed, and goes on with the
 * next. Ends with 1 when any case failed.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeBases } from './bases.js';
import { runCase } from './case.js';
import type { CaseResult } from './case.js';
import { collectUnhandled, supervise, tellSupervisor } from './supervisor.js';
import type { Told } from './supervisor.js';

const PROGRESS_CASES = 100;

/** What came of a case, as the process of the cases tells it. */
interface Outcome {
  result: Omit<CaseResult, 'outcome' | 'log'>;
  findings: number;
  mounted: boolean;
  forced: boolean;
  ops: number;
  errors: [string, number][];
}

export interface Totals {
  cases: number;
  mounted: number;
  /** Mounts that only their end by force has ended. */
  forced: number;
  withFindings: number;
  ops: number;
  maxMs: number;
  maxRssBytes: number;
  errors: Map<string, number>;
  failures: { seed: number; what: string }[];
}

/** Runs cases in a process of their own. `say` gets a line for each failure and for progress. */
export async function fuzzVolumes(from: number, count: number, say: (line: string) => void,
  seconds = Infinity): Promise<Totals> {
  const t: Totals = {
    cases: 0, mounted: 0, forced: 0, withFindings: 0, ops: 0, maxMs: 0, maxRssBytes: 0, errors: new Map(),
    failures: [],
  };
  const failed = (seed: number, what: string): void => {
    t.failures.push({ seed, what });
    say(`FAIL seed ${seed}: ${what}\n  node dist/test/fuzz/volumes.js --seed ${seed} --verbose`);
  };
  t.maxRssBytes = await supervise<Outcome>({
    script: fileURLToPath(import.meta.url), from, count, seconds, failed,
    ended: (seed, o) => {
      add(t, o);
      if (o.result.failure !== null) failed(seed, describe(o.result));
      if (t.cases % PROGRESS_CASES === 0) say(totalsText(t));
    },
  });
  return t;
}

function add(t: Totals, m: Outcome): void {
  t.cases += 1;
  t.mounted += m.mounted ? 1 : 0;
  t.forced += m.forced ? 1 : 0;
  t.withFindings += m.findings > 0 ? 1 : 0;
  t.ops += m.ops;
  t.maxMs = Math.max(t.maxMs, m.result.tookMs);
  for (const [errno, n] of m.errors) t.errors.set(errno, (t.errors.get(errno) ?? 0) + n);
}

function describe(r: Pick<CaseResult, 'base' | 'damage' | 'failure'>): string {
  return `volume ${r.base}\n    ${r.damage.join('\n    ')}\n  ${r.failure ?? ''}`;
}

export function totalsText(t: Totals): string {
  const errors = [...t.errors].map(([errno, n]) => `${errno} ${n}`).join(', ');
  return `${t.cases} volumes, ${t.failures.length} failures; check found damage in ${
    t.withFindings}, ${t.mounted} were mounted, ${t.forced} ended by force, ${t.ops} operations (${errors}); slowest ${
    Math.round(t.maxMs)} ms, most memory ${Math.round(t.maxRssBytes / 1048576)} MiB`;
}

/** The cases of one process, told to whoever started it. */
async function work(from: number, count: number, tell: (m: Told<Outcome>) => Promise<void>,
  say?: (line: string) => void): Promise<void> {
  const bases = await makeBases();
  const unhandled = collectUnhandled();
  for (let seed = from; seed < from + count; seed++) {
    await tell({ type: 'begin', seed });
    unhandled.length = 0;
    const r = await runCase(bases, seed, {
      nowMs: () => performance.now(), ...(say === undefined ? {} : { say }),
    });
    await new Promise((resolve) => { setImmediate(resolve); });
    const { outcome, ...result } = r;
    if (unhandled[0] !== undefined) result.failure ??= `nobody handles: ${unhandled[0]}`;
    await tell({ type: 'end', seed, result: {
      result, findings: outcome.findings, mounted: outcome.mounted, forced: outcome.forced,
      ops: outcome.ops, errors: [...outcome.errors],
    } });
  }
}

async function main(): Promise<void> {
  const { values: v } = parseArgs({ options: {
    seed: { type: 'string' }, verbose: { type: 'boolean' }, worker: { type: 'boolean' },
    from: { type: 'string', default: '1' }, count: { type: 'string', default: '1000' },
    seconds: { type: 'string' },
  } });
  const say = (line: string): void => { process.stdout.write(`${line}\n`); };
  if (v.worker === true) {
    process.on('disconnect', () => { process.exit(1); });
    await work(Number(v.from), Number(v.count), tellSupervisor);
    process.exit(0);
  }
  if (v.seed !== undefined) {
    const failed: number[] = [];
    await work(Number(v.seed), 1, (m) => {
      if (m.type === 'end') {
        const { result } = m.result;
        if (result.failure !== null) failed.push(m.seed);
        say(result.failure === null ? 'ok' : `FAIL ${describe(result)}`);
      }
      return Promise.resolve();
    }, v.verbose === true ? say : undefined);
    process.exit(failed.length);
  }
  const t = await fuzzVolumes(Number(v.from), Number(v.count), say,
    v.seconds === undefined ? Infinity : Number(v.seconds));
  say(totalsText(t));
  process.exit(t.failures.length === 0 ? 0 : 1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
