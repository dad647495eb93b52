/**
 * Micro-benchmarks of the core against the same work in plain JavaScript.
 *
 *   npm run bench                                 all groups
 *   node dist/bench/micro/index.js item           groups whose name contains "item"
 *
 * Each group has a subject and its rivals; a line gives nanoseconds per operation, the
 * best batch and the median one, and how many times the subject's best that is. On a
 * busy machine only the best says something. A rival below 1.00 is faster than we are:
 * it is printed all the same.
 */
import { Bench } from 'tinybench';
import { groups } from './groups.js';
import type { Group } from './groups.js';

/** Measuring and warm-up time of one line. */
const TIME_MS = 400;
const WARMUP_MS = 150;
const NS_PER_MS = 1e6;

interface Line {
  name: string;
  bestNs: number;
  medianNs: number;
  note: string;
}

async function measure(group: Group): Promise<Line[]> {
  const bench = new Bench({ time: TIME_MS, warmupTime: WARMUP_MS });
  const cases = await group.make();
  for (const c of cases) {
    bench.add(c.name, c.batch, c.before === undefined ? {} : { beforeEach: c.before });
  }
  await bench.run();
  return bench.tasks.map((task, i) => {
    const { result } = task;
    if (result.state !== 'completed') {
      throw new Error(`${group.name}: ${task.name}: ${result.state}`, {
        cause: result.state === 'errored' ? result.error : undefined,
      });
    }
    const perOp = NS_PER_MS / group.opsPerBatch;
    const bestNs = result.latency.min * perOp;
    const bytes = cases[i]?.bytesPerOp ?? 0;
    const note = bytes > 0 ? `${(bytes / bestNs).toFixed(2)} GB/s` : '';
    return { name: task.name, bestNs, medianNs: result.latency.p50 * perOp, note };
  });
}

function print(group: Group, lines: Line[]): void {
  const subject = lines[0]?.bestNs ?? 1;
  console.log(`\n${group.name.padEnd(46)}     best    median`);
  for (const l of lines) {
    const ns = [l.bestNs, l.medianNs].map((n) => n.toFixed(n < 100 ? 1 : 0).padStart(10)).join('');
    const ratio = `${(l.bestNs / subject).toFixed(2)} x`.padStart(10);
    console.log(`  ${l.name.padEnd(44)}${ns} ns${ratio}  ${l.note}`);
  }
}

const wanted = process.argv[2] ?? '';
for (const group of groups) {
  if (group.name.includes(wanted)) print(group, await measure(group));
}
