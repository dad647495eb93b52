/**
 * Exercisers from the command line:
 *
 *   node dist/test/exercise/run.js data|names|race [--seed N] [--ops N]
 *     [--processes N] [--remount OPS]
 *
 * Same arguments, same operations, but for `race`. A difference is told with the operations
 * before it.
 */
import { parseArgs } from 'node:util';
import { drive } from './drive.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: '1' }, ops: { type: 'string', default: '20000' },
    processes: { type: 'string', default: '2' }, remount: { type: 'string', default: '50000' },
  },
});
const kind = positionals[0];
if (kind !== 'data' && kind !== 'names' && kind !== 'race') {
  console.error('usage: run.js data|names|race [--seed N] [--ops N] [--processes N] ' +
    '[--remount OPS]');
  process.exit(2);
}
const out = await drive({
  kind, seed: Number(values.seed), ops: Number(values.ops), processes: Number(values.processes),
  remountOps: Number(values.remount),
  progress: (ops) => { process.stderr.write(`\r${ops} operations`); },
});
for (const p of out.problems) console.log(p);
console.log(Object.entries(out.counts).sort(([, a], [, b]) => b - a)
  .map(([op, n]) => `${op} ${n}`).join(', '));
const seconds = Math.round(out.elapsedMs / 1000);
console.log(`${out.ops} operations, ${out.remounts} remounts, ${seconds} s, ` +
  `${out.problems.length} problems`);
process.exit(out.problems.length === 0 ? 0 : 1);
