/**
 * Simulated clusters: a run is its seed, some seeds without a violation, and some broken
 * rules that are noticed. scripts/nightly runs many seeds and all broken rules.
 */
import t from 'tap';
import { nightly } from '../lib/mounted.js';
import { Cluster } from './cluster.js';
import { MUTATIONS, caughtIn } from './mutations.js';

const LONG = nightly();
const LIMIT_MS = LONG ? 3_600_000 * 6 : 600_000;
const SEEDS = LONG ? 2000 : 20;
/** Noticed in their first seeds, so that the short form stays short. */
const SHORT_MUTATIONS: readonly string[] = [
  'sync-does-not-wait', 'locks-conflict', 'recovery-forgets', 'late-answers', 'commit-unflushed',
  'index-items-stay',
];

t.test('a run is its seed', { timeout: LIMIT_MS }, async (t) => {
  const first = await Cluster.run(2);
  const again = await Cluster.run(2);
  t.same(again.trace, first.trace, 'the same seed, the same events at the same times');
  t.not((await Cluster.run(3)).trace.length, first.trace.length, 'another seed, another run');
  t.ok(first.faults > 0 && first.operations > 0, 'something happened');
});

t.test('no fault breaks a promise', { timeout: LIMIT_MS }, async (t) => {
  const looks = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const r = await Cluster.run(seed);
    t.same(r.violations, [], `npm run sim -- --seed ${seed} --trace`);
    for (const [rule, n] of Object.entries(r.looks) as [string, number][]) {
      looks.set(rule, (looks.get(rule) ?? 0) + n);
    }
  }
  for (const [rule, n] of looks) t.ok(n > 0, `${rule}: looked at ${n} times`);
});

t.test('broken rules are noticed', { timeout: LIMIT_MS }, async (t) => {
  const names = LONG ? MUTATIONS.map((m) => m.name) : SHORT_MUTATIONS;
  for (const m of MUTATIONS.filter((x) => names.includes(x.name))) {
    const found = await caughtIn(m, 1, m.seeds);
    t.ok(found !== null, `${m.name}: ${m.rule}`);
  }
  t.same(names.filter((n) => !MUTATIONS.some((m) => m.name === n)), [], 'all exist');
});
