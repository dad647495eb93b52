/**
 * Runs a subcommand: finds it, parses its arguments, reports what goes wrong.
 *
 * The rules are those of upstream's program, whose exit codes and failure lines
 * scripts rely on:
 *
 *   no command, unknown command        usage text on stderr, 1
 *   wrong options or arguments         `<command>: <text>` and a hint, 64
 *   the command fails                  its message, then
 *                                      `scoutfs: <command> failed: <text> (<nr>)`, 1
 *   --help, --usage                    help on stdout, 0
 *
 * The commands that upstream does not have say what is wrong in exactly one line,
 * `scoutfs: <command>: <message>`; their status for wrong arguments is 2.
 *
 * Options are GNU style: any order, `--` ends them, unique prefixes of long names.
 * commander does the parsing; what it says is put into our words.
 *
 * Spec: cli.md 1.1.
 */
import { Command, CommanderError, Option } from 'commander';
import type { Env } from '../env/env.js';
import { asScoutfsError } from '../observe/errors.js';
import { strerrorNr } from '../observe/strerror.js';
import type { Args, CommandIo, CommandSpec, Group, OptionSpec } from './command.js';
import { UsageError } from './command.js';
import { helpText, shortUsage, usageText } from './help.js';

/** Where output goes. */
export interface Streams {
  out(text: string | Uint8Array): void;
  err(text: string): void;
  /** Width of the terminal that `out` goes to, if it does. */
  columns?: number;
}

const USAGE_STATUS = 64;
/** The group of the commands that upstream does not have. */
const OWN_GROUP: Group = 'User space';
/** Text of hints is wrapped before this column, as argp does. */
const WRAP_COLUMN = 79;

/** Thrown inside parsing to end it with a text on stdout and status 0. */
class Shown extends Error {
  constructor(readonly text: string) {
    super('shown');
  }
}

const COMMON: readonly OptionSpec[] = [
  { short: '?', long: 'help', description: 'Give this help list' },
  { long: 'usage', description: 'Give a short usage message' },
];
const JSON_OPTION: OptionSpec = { long: 'json', description: 'Print the result as a JSON object' };

/** The options that only some commands have. */
export function ownOptions(spec: CommandSpec): OptionSpec[] {
  return [...spec.options, ...(spec.json === true ? [JSON_OPTION] : [])];
}

/** The options of a command with those that all have. */
function allOptions(spec: CommandSpec): OptionSpec[] {
  return [...ownOptions(spec), ...COMMON];
}

/** Completes unique prefixes of long options. @throws UsageError for ambiguous ones */
function expandPrefixes(argv: readonly string[], options: readonly OptionSpec[]): string[] {
  const end = argv.indexOf('--');
  return argv.map((arg, i) => {
    const m = /^--([^=]+)(=.*)?$/s.exec(arg);
    const name = m?.[1];
    if (name === undefined || (end >= 0 && i >= end)) return arg;
    const found = options.filter((o) => o.long.startsWith(name));
    const exact = found.find((o) => o.long === name);
    if (exact !== undefined || found.length === 0) return arg;
    if (found.length > 1) {
      const names = found.map((o) => `'--${o.long}'`).join(' ');
      throw new UsageError(`option '--${name}' is ambiguous; possibilities: ${names}`);
    }
    return `--${found[0]?.long ?? ''}${m?.[2] ?? ''}`;
  });
}

/** commander's complaint in the words of getopt. */
function complaint(e: CommanderError): string {
  const quoted = /'(.*)'/s.exec(e.message)?.[1] ?? '';
  const long = /(--[\w-]+)/.exec(quoted)?.[1];
  switch (e.code) {
    case 'commander.unknownOption':
      return quoted.startsWith('--')
        ? `unrecognized option '${quoted}'` : `invalid option -- '${quoted.slice(1, 2)}'`;
    case 'commander.optionMissingArgument':
      return `option '${long ?? quoted.slice(0, 2)}' requires an argument`;
    case 'commander.missingArgument':
      return `must provide the ${quoted} argument`;
    case 'commander.excessArguments':
      return 'too many arguments';
    default:
      return e.message.replace(/^error: /, '');
  }
}

/** Parses the words after the command's name. @throws UsageError, Shown */
function parse(spec: CommandSpec, argv: readonly string[]): Args {
  const options = allOptions(spec);
  const values = new Map<string, string[]>();
  let positional: readonly string[] = [];
  const c = new Command(spec.name)
    .helpOption(false)
    .exitOverride()
    .configureOutput({ writeOut: () => undefined, writeErr: () => undefined })
    .action(() => { positional = c.args; });
  for (const arg of spec.args) {
    c.argument(arg.startsWith('[') ? arg : `<${arg}>`);
  }
  for (const o of options) {
    const flags = `${o.short === undefined ? '' : `-${o.short}, `}--${o.long}`;
    c.addOption(new Option(o.value === undefined ? flags : `${flags} <${o.value}>`));
    c.on(`option:${o.long}`, (value: unknown) => {
      if (o.long === 'help') throw new Shown(helpText(spec, options));
      if (o.long === 'usage') throw new Shown(shortUsage(spec, options));
      values.set(o.long, [...values.get(o.long) ?? [], typeof value === 'string' ? value : '']);
    });
  }
  try {
    c.parse(expandPrefixes(argv, options), { from: 'user' });
  } catch (e) {
    if (e instanceof CommanderError) throw new UsageError(complaint(e));
    throw e;
  }
  return {
    positional: (i) => positional[i] ?? '',
    optional: (i) => positional[i],
    rest: () => positional,
    flag: (long) => values.has(long),
    value: (long) => values.get(long)?.at(-1),
    values: (long) => values.get(long) ?? [],
  };
}

function wrap(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length >= WRAP_COLUMN) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].join('\n');
}

/** JSON with 64-bit numbers as decimal strings. */
export function toJson(value: object): string {
  return JSON.stringify(value, (_, x: unknown) => typeof x === 'bigint' ? x.toString() : x);
}

function makeIo(env: Env, streams: Streams, json: boolean): CommandIo {
  return {
    env,
    json,
    columns: streams.columns ?? 0,
    out: (line) => { if (!json) streams.out(`${line}\n`); },
    write: (text) => { if (!json) streams.out(text); },
    err: (line) => { streams.err(`${line}\n`); },
    result: (value) => { if (json) streams.out(`${toJson(value)}\n`); },
  };
}

/** A failure of one of our own commands: one line, whatever the message is made of. */
function ownLine(spec: CommandSpec, message: string): string {
  return `scoutfs: ${spec.name}: ${message.trim().replace(/\s*\n\s*/g, '; ')}`;
}

function reportUsage(spec: CommandSpec, e: UsageError, streams: Streams): number {
  if (spec.group === OWN_GROUP) {
    streams.err(`${ownLine(spec, e.message)} (try scoutfs ${spec.name} --help)\n`);
    return spec.usageStatus ?? USAGE_STATUS;
  }
  const hint = wrap(`Try \`${spec.name} --help' or \`${spec.name} --usage' for more information.`);
  streams.err(`${spec.name}: ${e.message}\n${hint}\n`);
  return spec.usageStatus ?? USAGE_STATUS;
}

function reportFailure(spec: CommandSpec, e: unknown, io: CommandIo): number {
  const err = asScoutfsError(e);
  const said = err.message !== err.code;
  if (spec.group === OWN_GROUP) {
    io.err(ownLine(spec, said ? err.message : strerrorNr(err.errno)));
  } else {
    if (said) io.err(err.message);
    io.err(`scoutfs: ${spec.name} failed: ${strerrorNr(err.errno)}`);
  }
  io.result({ error: { code: err.code, errno: err.errno, message: err.message } });
  return spec.failureStatus ?? 1;
}

/**
 * Runs `scoutfs argv...`.
 * @returns the exit status; never throws for what a user or a device can cause
 */
export async function main(argv: readonly string[], commands: readonly CommandSpec[], env: Env,
  streams: Streams): Promise<number> {
  const [name, ...words] = argv;
  const spec = commands.find((c) => c.name === name);
  if (spec === undefined) {
    if (name !== undefined) streams.err(`scoutfs: unrecognized command: '${name}'\n`);
    streams.err(usageText(commands));
    return 1;
  }
  let io = makeIo(env, streams, false);
  try {
    const args = parse(spec, words);
    io = makeIo(env, streams, args.flag('json'));
    return await spec.run(args, io);
  } catch (e) {
    if (e instanceof Shown) {
      streams.out(e.text);
      return 0;
    }
    return e instanceof UsageError ? reportUsage(spec, e, streams) : reportFailure(spec, e, io);
  }
}
