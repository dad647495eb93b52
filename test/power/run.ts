/**
 * The power-cut driver as a command:
 *
 *     node dist/test/power/run.js --seeds 2000 --from 1      random cuts
 *     node dist/test/power/run.js --workloads 30             cuts at every write and flush
 *     node dist/test/power/run.js --failing 500              devices that answer EIO
 *     node dist/test/power/run.js --mutation 'no flush before the commit' --seeds 20
 *
 * Ends with the figures; exits with 1 when there was a violation, or when too many cuts
 * put nothing at risk. Same seed, same run.
 */
import { parseArgs } from 'node:util';
import { failingRun } from './failing.js';
import type { Mutation } from './power.js';
import { Violation, newFigures } from './power.js';
import { everyEvent, figuresText, harmlessTooOften, randomCuts } from './suites.js';

const { values } = parseArgs({ options: {
  seeds: { type: 'string', default: '0' }, workloads: { type: 'string', default: '0' },
  failing: { type: 'string', default: '0' },
  from: { type: 'string', default: '1' }, mutation: { type: 'string', default: 'none' },
} });
const from = Number(values.from);
const figures = newFigures();
const started = performance.now();
let violations = 0;

async function one(what: string, run: Promise<void>): Promise<void> {
  try {
    await run;
  } catch (e) {
    if (!(e instanceof Violation)) throw e;
    violations += 1;
    console.log(`${what}: ${e.message}`);
  }
}

const fails = { seeds: 0, failed: 0, calls: 0 };
for (let seed = from; seed < from + Number(values.failing); seed++) {
  await one('failing', failingRun(seed, fails));
}
if (fails.seeds > 0) {
  console.log(`failing devices: ${violations} violations in ${fails.seeds} seeds, ${
    fails.failed} failed operations, ${fails.calls} calls that succeeded`);
  process.exit(violations > 0 ? 1 : 0);
}

const last = from + Math.max(Number(values.seeds), Number(values.workloads));
for (let seed = from; seed < last; seed++) {
  const o = { seed, figures, mutation: values.mutation as Mutation };
  if (Number(values.workloads) > 0) await one(`workload ${seed}`, everyEvent(o));
  else await one(`seed ${seed}`, randomCuts(o));
  if (seed % (Number(values.workloads) > 0 ? 5 : 50) === 0) {
    console.log(`# ${seed}: ${violations} violations, ${figuresText(figures)}, ${
      ((performance.now() - started) / 1000).toFixed(0)} s`);
  }
}
console.log(`${violations} violations in ${figuresText(figures)}`);
console.log([...figures.ops].sort((a, b) => b[1] - a[1]).map(([k, n]) => `${k} ${n}`).join(', '));
if (violations > 0 || harmlessTooOften(figures)) process.exitCode = 1;
