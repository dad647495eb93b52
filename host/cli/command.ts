/**
 * What a subcommand is: one object that registers its name, group, usage, options
 * and function. Help, usage, the man page and argument errors come from it
 * (frame.ts, man.ts); commands.ts lists them all.
 *
 *   export const mkfsCommand: CommandSpec = {
 *     name: 'mkfs', group: 'Core admin', ... , run: async (args, io) => { ...; return 0; },
 *   };
 */
import type { Env } from '../env/env.js';

/** Titles of the usage text in their order; the first five are upstream's. */
export const GROUPS = [
  'Core admin', 'Additional Information', 'Search Acceleration', 'Archival Agent Support',
  'Debugging commands', 'User space',
] as const;
export type Group = (typeof GROUPS)[number];

export interface OptionSpec {
  /** One letter without its dash. */
  short?: string;
  /** Without its dashes. */
  long: string;
  /** Name of the argument in help texts; absent for flags. */
  value?: string;
  description: string;
}

/** The arguments of one invocation; options by their long names. */
export interface Args {
  /** Positional argument `i`; a required one is always there. */
  positional(i: number): string;
  optional(i: number): string | undefined;
  rest(): readonly string[];
  flag(long: string): boolean;
  /** The value given last, or undefined. */
  value(long: string): string | undefined;
  /** All values in the order given. */
  values(long: string): readonly string[];
}

/** How a command talks and what it may use. */
export interface CommandIo {
  env: Env;
  /** `--json` was given: standard output is one JSON object. */
  json: boolean;
  /** Width of the terminal; 0 when standard output is none. */
  columns: number;
  /** A line on standard output; dropped with `--json`. */
  out(line: string): void;
  /** Text on standard output as it is; dropped with `--json`. */
  write(text: string | Uint8Array): void;
  /** A line on standard error. */
  err(line: string): void;
  /** The result as an object: printed with `--json`, else dropped. */
  result(value: object): void;
}

export interface CommandSpec {
  name: string;
  group: Group;
  /** Positional arguments; optional ones in brackets, `NAME...` for any number. */
  args: readonly string[];
  /** One line. */
  description: string;
  options: readonly OptionSpec[];
  /** Adds `--json`. */
  json?: boolean;
  /** Exit status for wrong arguments: upstream's commands 64, ours 2. */
  usageStatus?: number;
  /** Exit status when `run` throws; default 1. */
  failureStatus?: number;
  /** @returns the exit status; a thrown error becomes the failure line */
  run(args: Args, io: CommandIo): Promise<number>;
}

/** Wrong options or arguments: reported with a hint at the help. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}
