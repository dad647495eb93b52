/**
 * The manual pages scoutfs(8) and scoutfs-fenced(8), made from the registrations, so that
 * they cannot say anything else than the program does. `npm run man` writes them to
 * docs/man, and the example configuration of the fencing daemon to packaging; a test
 * compares them.
 */
import { GROUPS } from './command.js';
import type { CommandSpec, OptionSpec } from './command.js';
import { fencedCommand } from './fenced.js';
import { FENCED_VARIABLES } from './fenced_config.js';
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

/** The pages by their file names, and the packaged example of a configuration. */
export function manPages(commands: readonly CommandSpec[]): Record<string, string> {
  return { 'scoutfs.8': manPage(commands), 'scoutfs-fenced.8': fencedPage() };
}

const FENCED_HEAD = `.\\" Made by \`npm run man' from host/cli; do not edit.
.TH scoutfs\\-fenced 8
.SH NAME
scoutfs\\-fenced \\- answer fence requests of scoutfs mounts with a program
.SH SYNOPSIS
.B scoutfs\\-fenced
.RB [ \\-n ]
.RB [ \\-c
.IR FILE ]
.br
.B scoutfs fenced
.RB [ \\-n ]
.RB [ \\-c
.IR FILE ]
.SH DESCRIPTION
Before what a dead mount held is given to others, the server must know that it can
write no more. It asks for that with a directory
.IR fence/RID
in the control tree of its mount. This daemon looks for such requests of all mounts of
its host that have a quorum slot, runs a program of the administrator for each, one
after the other, and writes 1 to the request's file
.I fenced
when the program exits with status 0, and to
.I error
otherwise. An error stops the server; the next one asks again.
.PP
Every host whose mounts have quorum slots should run it. Mounts at addresses of the
host itself are fenced without it.
`;

const FENCED_TAIL = `.SH PROGRAM
The program must exit with status 0 only when the mount can certainly write to neither
device any more. It finds in its environment
.TP
.B SCOUTFS_FENCED_REQ_RID
The mount to cut off: 16 hexadecimal digits.
.TP
.B SCOUTFS_FENCED_REQ_IP
The IPv4 address of its host.
.PP
and what the configuration exports. It has 30 seconds, 15 when an earlier leader is fenced.
.SH SIGNALS
HUP reads the configuration anew; one that cannot be used is reported and the old one
kept. TERM and INT end the daemon and its program.
.SH ENVIRONMENT
.TP
.B SCOUTFS_FENCED_CONFIG_FILE
The configuration, unless \\-c is given; else /etc/scoutfs/scoutfs\\-fenced.conf.
.TP
.B SCOUTFS_RUN_DIR
Where mounts are looked for; /run/scoutfs if not set.
.SH EXIT STATUS
0 after TERM or INT and after \\-n; 1 when the configuration cannot be read or used; 2 for
wrong options.
.SH SEE ALSO
.BR scoutfs (8)
`;

function fencedPage(): string {
  const variables = FENCED_VARIABLES.map((v) =>
    `.TP\n.B ${escape(v.name)}\n${escape(v.description)}.\n`);
  return `${FENCED_HEAD}.SH OPTIONS\n${ownOptions(fencedCommand).map(optionText).join('')}` +
    `.SH CONFIGURATION\nA fragment of shell script that bash sources. A file that bash complains ` +
    `of is refused.\nVariables that are exported go to the program.\n${
      variables.join('')}${FENCED_TAIL}`;
}

/** The page in roff. */
export function manPage(commands: readonly CommandSpec[]): string {
  const groups = GROUPS.map((group) => {
    const members = commands.filter((c) => c.group === group);
    if (members.length === 0) return '';
    return `.SH ${escape(group.toUpperCase())}\n${members.map(commandText).join('')}`;
  });
  return `${HEAD}${groups.join('')}.SH SEE ALSO\n.BR mount (8),\n.BR scoutfs\\-fenced (8)\n`;
}
