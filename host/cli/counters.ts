/**
 * `scoutfs counters`: the counters of a mount, from its directory of control files.
 *
 * For a mount of ours that is `<run directory>/f.<fsid>.r.<rid>`, for one of a kernel
 * module the same below /sys/fs/scoutfs. Spec: cli.md 1.4.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import { strerrorNr } from '../observe/strerror.js';
import type { Args, CommandIo, CommandSpec } from './command.js';

/** Between the columns of a table. */
const GAP = 2;

function failure(what: string, path: string, e: unknown): Error {
  const { errno } = asScoutfsError(e);
  return errnoError(errno, `failed to ${what} '${path}': ${strerrorNr(errno)}`);
}

/** Names and values, sorted by name. @throws what a file or the directory refuses; EINVAL */
export function readCounters(dir: string): [name: string, value: string][] {
  const counters = join(dir, 'counters');
  let names: string[];
  try {
    names = fs.readdirSync(counters).sort();
  } catch (e) {
    throw failure('open', counters, e);
  }
  return names.map((name) => {
    const path = join(counters, name);
    let text: string;
    try {
      text = fs.readFileSync(path, 'latin1');
    } catch (e) {
      throw failure('read', path, e);
    }
    if (!/^-?\d+\n$/.test(text)) throw errnoError('EINVAL', `'${path}' is not a number`);
    return [name, text.trimEnd()];
  });
}

/** Names to the left, values to the right. `columns`: of a terminal to fill; 0 for a list. */
export function counterLines(counters: readonly (readonly [string, string])[], columns: number):
string[] {
  const nameWidth = Math.max(0, ...counters.map(([name]) => name.length));
  const valueWidth = Math.max(0, ...counters.map(([, value]) => value.length));
  const cells = counters.map(([name, value]) =>
    `${name.padEnd(nameWidth)} ${value.padStart(valueWidth)}`);
  const cellWidth = nameWidth + 1 + valueWidth;
  const perLine = Math.max(1, Math.floor((columns + GAP) / (cellWidth + GAP)));
  const rows = Math.ceil(cells.length / perLine);
  return Array.from({ length: rows }, (_, row) =>
    cells.filter((_cell, i) => i % rows === row).join(' '.repeat(GAP)));
}

function run(args: Args, io: CommandIo): number {
  const counters = readCounters(args.positional(0));
  const columns = args.flag('table') ? io.columns : 0;
  for (const line of counterLines(counters, columns)) io.out(line);
  io.result(Object.fromEntries(counters.map(([name, value]) => [name, Number(value)])));
  return 0;
}

export const countersCommand: CommandSpec = {
  name: 'counters',
  group: 'Additional Information',
  args: ['SYSFS-DIR'],
  description: 'Show the counters of a mount, from its directory of control files',
  options: [
    { short: 't', long: 'table', description: 'As many columns as the terminal is wide' },
  ],
  json: true,
  run: async (args, io) => Promise.resolve(run(args, io)),
};
