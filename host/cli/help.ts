/**
 * Texts made from the registrations: the usage of the whole program, and help and
 * usage of one command.
 *
 * Spec: cli.md 1.1.
 */
import { FORMAT_VERSION_MAX, FORMAT_VERSION_MIN } from '../core/format.js';
import { GROUPS } from './command.js';
import type { CommandSpec, OptionSpec } from './command.js';

const OPTION_COLUMN = 32;

/** `META-DEVICE [DATA-DEVICE]` */
export function synopsis(spec: CommandSpec): string {
  return spec.args.join(' ');
}

/** What `scoutfs` alone prints. */
export function usageText(commands: readonly CommandSpec[]): string {
  const width = Math.max(...commands.map((c) => c.name.length));
  const lines = [
    'usage: scoutfs <command> [<args>]',
    '',
    'Commands that need a mounted filesystem use the one of the working directory.',
    'Help for a command is shown by `scoutfs <command> --help\'.',
    '',
    `Supported format version: ${FORMAT_VERSION_MIN}-${FORMAT_VERSION_MAX}`,
  ];
  for (const group of GROUPS) {
    const members = commands.filter((c) => c.group === group);
    if (members.length === 0) continue;
    lines.push('', `${group}:`);
    for (const c of members) {
      lines.push(`  ${c.name.padStart(width)} ${synopsis(c)}`.trimEnd());
      lines.push(`  ${' '.repeat(width)} ${c.description}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function optionHead(o: OptionSpec): string {
  const long = `--${o.long}${o.value === undefined ? '' : `=${o.value}`}`;
  return `  ${o.short === undefined ? '   ' : `-${o.short},`} ${long}`;
}

/** What `<command> --help` prints. */
export function helpText(spec: CommandSpec, options: readonly OptionSpec[]): string {
  const usage = `Usage: ${spec.name} [OPTION...] ${synopsis(spec)}`.trimEnd();
  const lines = [usage, spec.description, ''];
  for (const o of options) {
    const head = optionHead(o);
    if (head.length < OPTION_COLUMN - 1) {
      lines.push(head.padEnd(OPTION_COLUMN) + o.description);
    } else {
      lines.push(head, ' '.repeat(OPTION_COLUMN) + o.description);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** What `<command> --usage` prints. */
export function shortUsage(spec: CommandSpec, options: readonly OptionSpec[]): string {
  const parts = options.map((o) =>
    `[${o.short === undefined ? '' : `-${o.short}|`}--${o.long}` +
    `${o.value === undefined ? '' : `=${o.value}`}]`);
  return `Usage: ${spec.name} ${[...parts, ...spec.args].join(' ')}\n`;
}
