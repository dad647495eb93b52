/**
 * The suites of power cuts, for the tests and the command.
 */
import { seeded } from '../lib/core.js';
import type { Figures, Mutation } from './power.js';
import { PowerRun } from './power.js';

/** More harmless cuts than this among all, and the run proves too little. */
export const HARMLESS_MAX_PERCENT = 5;

export interface SuiteOptions {
  seed: number;
  figures: Figures;
  mutation?: Mutation;
}

/** A long workload, cut at some random events; recoveries are cut too. */
export function randomCuts(o: SuiteOptions): Promise<void> {
  const below = seeded(o.seed * 7919);
  for (let i = 0; i < 5; i++) below(2);
  return new PowerRun({
    ...o, ops: 15 + below(70), workers: 1 + below(6), latencyMaxMs: below(3),
    everyEvent: false, cutsMax: 1, nestedPercent: 40, settlePercent: 40, workPercent: 25,
    depthMax: 3, options: mountOptions(below),
  }).run();
}

/** A short workload, cut at every write and flush. */
export function everyEvent(o: SuiteOptions): Promise<void> {
  const below = seeded(o.seed * 104_729);
  for (let i = 0; i < 5; i++) below(2);
  return new PowerRun({
    ...o, ops: 10 + below(20), workers: 1 + below(4), latencyMaxMs: below(2),
    everyEvent: true, cutsMax: 0, nestedPercent: 10, settlePercent: 10, workPercent: 0,
    depthMax: 2, options: mountOptions(below),
  }).run();
}

function mountOptions(below: (n: number) => number): string {
  const options = [
    `data_prealloc_contig_only=${below(2)}`, `data_prealloc_blocks=${1 + below(64)}`,
    `orphan_scan_delay_ms=${1000 + below(5000)}`, `log_merge_wait_timeout_ms=${100 + below(400)}`,
  ];
  return options.join(',');
}

export function harmlessTooOften(f: Figures): boolean {
  return f.cuts === 0 || f.harmless * 100 > f.cuts * HARMLESS_MAX_PERCENT;
}

export function figuresText(f: Figures): string {
  return `${f.seeds} seeds, ${f.cuts} cuts (${f.nested} of recoveries, ${f.harmless} harmless), ` +
    `${f.writes} writes, ${f.events} writes and flushes, ${f.unitsLost} of ${f.unitsAtRisk} ` +
    'unflushed units lost';
}
