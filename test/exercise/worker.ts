/**
 * One exerciser in a process of its own, driven over the process's channel:
 * `run N` makes N operations, `pause` closes everything, `resume` opens and compares.
 * Each is answered by its counts or, once and for all, by the difference.
 *
 *   node worker.js data|names|race DIRECTORY SEED
 */
import { inspect } from 'node:util';
import { DataExerciser } from './data.js';
import type { Exerciser } from './exerciser.js';
import { Difference } from './exerciser.js';
import { NamesExerciser } from './names.js';
import { RaceExerciser } from './race.js';

/** What the driver asks. */
export type Order = { run: number } | 'pause' | 'resume';
/** What the worker answers. */
export type Answer = { counts: Record<string, number> } | { difference: string };

const [kind, dir = '', seed = '1'] = process.argv.slice(2);
process.umask(0);
let exerciser: Exerciser | null = null;

function make(): Exerciser {
  if (kind === 'names') return new NamesExerciser(dir, Number(seed));
  return kind === 'race' ? new RaceExerciser(dir, Number(seed)) :
    new DataExerciser(dir, Number(seed));
}

function obey(order: Order): Answer {
  exerciser ??= make();
  if (order === 'pause') exerciser.pause();
  else if (order === 'resume') exerciser.resume();
  else for (let i = 0; i < order.run; i++) exerciser.step();
  return { counts: Object.fromEntries(exerciser.counts) };
}

process.on('message', (order: Order) => {
  let answer: Answer;
  try {
    answer = obey(order);
  } catch (e) {
    answer = { difference: e instanceof Difference ? e.message : inspect(e) };
  }
  process.send?.(answer);
});
