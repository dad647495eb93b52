/**
 * The manual page scoutfs(8), made from the registrations, so that it cannot say
 * anything else than the program does. `npm run man` writes docs/man/scoutfs.8; a
 * test compares them.
 */
import { GROUPS } from './command.js';
import type { CommandSpec, OptionSpec } from './command.js';
import { ownOptions } from './frame.js';
import { synopsis } from './help.js';

const HEAD = `.\\" Made by \`npm run man' from the registrations in host/cli; do not edit.
.TH scoutfs 8
.SH NAME
scoutfs \\- make, change, check and use scoutfs volumes
.SH SYNOPSIS
.B scoutfs
.I command
.RI [ args ]
.SH DESCRIPTION
A scoutfs volume is a metadata device and a data device. They are block devices
or image files. Options of a command may be given before or after its arguments
and long ones be shortened as long as they are unique; \\-\\- ends the options.
.PP
.B SIZE
is a number, optionally followed by one of K, M, G, T or P for powers of 1024.
Numbers are decimal, hexadecimal with 0x, or octal with a leading 0.
.PP
Every command has
.B \\-\\-help
and
.BR \\-\\-usage .
Commands with
.B \\-\\-json
print one JSON object instead of text.
.SH EXIT STATUS
0 for success; 1 when a command fails, with its cause and the line
.RB \\(lq scoutfs:
.I command
.BR failed: \\(rq
on standard error; 64 for wrong options or arguments.
The commands under \\(lqUser space\\(rq use 2 for the latter, and say what is wrong
in one line that starts with
.RB \\(lq scoutfs:
.IR command :\\(rq.
`;

function escape(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replace(/^([.'])/, '\\&$1');
}

function optionText(o: OptionSpec): string {
  const value = o.value === undefined ? '' : `=${o.value}`;
  const short = o.short === undefined ? '' : `-${o.short}, `;
  return `.TP\n.B ${escape(`${short}--${o.long}${value}`)}\n${escape(o.description)}\n`;
}

function commandText(spec: CommandSpec): string {
  const args = synopsis(spec);
  const options = ownOptions(spec).map(optionText).join('');
  const head = escape(`${spec.name} ${args}`.trimEnd());
  return `.SS ${head}\n${escape(spec.description)}.\n${options}`;
}

/** The page in roff. */
export function manPage(commands: readonly CommandSpec[]): string {
  const groups = GROUPS.map((group) => {
    const members = commands.filter((c) => c.group === group);
    if (members.length === 0) return '';
    return `.SH ${escape(group.toUpperCase())}\n${members.map(commandText).join('')}`;
  });
  return `${HEAD}${groups.join('')}.SH SEE ALSO\n.BR mount (8)\n`;
}
