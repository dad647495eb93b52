/**
 * Broken rules, one at a time: what the simulator has to notice.
 *
 * Each mutation breaks one rule that the specification's lists of traps give, by replacing
 * a method of the real program; `apply` returns what puts it back. That the simulator
 * finds every one within some seeds is how we know that it can fail.
 */
import { Cluster } from './cluster.js';
import type { RunOptions } from './cluster.js';
import type { Mutation } from './mutation_kit.js';
import { CLIENT_MUTATIONS } from './mutations_client.js';
import { SERVER_MUTATIONS } from './mutations_server.js';

/** Seeds within which each is noticed, unless it says otherwise. */
const MUTATION_SEEDS = 200;

export const MUTATIONS: readonly (Mutation & { seeds: number })[] =
  [...CLIENT_MUTATIONS, ...SERVER_MUTATIONS].map((m) => ({ seeds: MUTATION_SEEDS, ...m }));

/** @throws when there is no such mutation */
export function mutationNamed(name: string): Mutation & { seeds: number } {
  const found = MUTATIONS.find((m) => m.name === name);
  if (found === undefined) throw new Error(`no mutation is named '${name}'`);
  return found;
}

/** Where a mutation was noticed: the seed, the how manieth it was, and how. */
export interface Caught {
  seed: number;
  nr: number;
  violation: string;
}

/** Runs seeds from `first` on until the broken rule shows; null when it does not. */
export async function caughtIn(m: Mutation, first: number, seeds: number, opts: RunOptions = {}):
Promise<Caught | null> {
  const undo = m.apply();
  try {
    for (let nr = 1; nr <= seeds; nr++) {
      const r = await Cluster.run(first + nr - 1, opts);
      const [violation] = r.violations;
      if (violation !== undefined) return { seed: r.seed, nr, violation };
    }
    return null;
  } finally {
    undo();
  }
}
