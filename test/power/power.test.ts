/**
 * Power cuts of whole mounts (power.ts has the rules), and devices that fail.
 *
 * The short form proves that the driver works, sees what it must see, and finds nothing in
 * some seeds. The long one (SCOUTFS_NIGHTLY=1) is 2,000 seeds and every write of 30
 * workloads; `node dist/test/power/run.js` runs any of it.
 */
import t from 'tap';
import { nightly } from '../lib/mounted.js';
import { failingRun } from './failing.js';
import type { Figures, Mutation } from './power.js';
import { Violation, newFigures } from './power.js';
import { everyEvent, figuresText, harmlessTooOften, randomCuts } from './suites.js';

const LONG = nightly();
const SEEDS = LONG ? 2000 : 10;
const WORKLOADS = LONG ? 30 : 1;
const FAILING = LONG ? 300 : 10;
/** A device that ignores a flush must be seen within so many seeds. */
const MUTATION_SEEDS = 40;

t.setTimeout(LONG ? 4 * 3600 * 1000 : 240_000);

async function violations(run: Promise<void>): Promise<string[]> {
  try {
    await run;
    return [];
  } catch (e) {
    if (e instanceof Violation) return [e.message];
    throw e;
  }
}

t.test('random cuts', async (t) => {
  const figures = newFigures();
  for (let seed = 1; seed <= SEEDS; seed++) {
    t.same(await violations(randomCuts({ seed, figures })), [], `seed ${seed}`);
  }
  t.comment(figuresText(figures));
  t.notOk(harmlessTooOften(figures), 'cuts put something at risk');
  t.ok(figures.cuts >= SEEDS && figures.nested > 0 && figures.unitsLost > SEEDS);
});

t.test('a cut at every write and flush', async (t) => {
  const figures = newFigures();
  for (let seed = 1; seed <= WORKLOADS; seed++) {
    t.same(await violations(everyEvent({ seed, figures })), [], `workload ${seed}`);
  }
  t.comment(figuresText(figures));
  t.notOk(harmlessTooOften(figures), 'cuts put something at risk');
});

t.test('the same seed is the same run', async (t) => {
  const runs: Figures[] = [];
  for (let i = 0; i < 2; i++) {
    const figures = newFigures();
    await randomCuts({ seed: 4711, figures });
    runs.push(figures);
  }
  t.same(runs[0], runs[1]);
  t.ok((runs[0]?.events ?? 0) > 0);
});

t.test('a flush less is seen', async (t) => {
  const mutations: Mutation[] = ['no flush before the commit', 'no flush before the super block'];
  for (const mutation of mutations) {
    let seen = 0;
    for (let seed = 1; seed <= MUTATION_SEEDS && seen === 0; seed++) {
      seen = (await violations(randomCuts({ seed, figures: newFigures(), mutation }))).length;
    }
    t.equal(seen, 1, mutation);
  }
});

t.test('devices that fail', async (t) => {
  const figures = { seeds: 0, failed: 0, calls: 0 };
  for (let seed = 1; seed <= FAILING; seed++) {
    t.same(await violations(failingRun(seed, figures)), [], `seed ${seed}`);
  }
  t.comment(`${figures.failed} failed operations, ${figures.calls} calls that succeeded`);
  t.ok(figures.failed > FAILING && figures.calls > FAILING);
});
