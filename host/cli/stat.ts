/**
 * `scoutfs stat` and `scoutfs statfs`: what a file and a mount have beyond stat(2) and
 * statfs(2), one field a line, or the value of one field.
 *
 * An ioctl that fails is said, and the exit status is 0 all the same, as upstream's:
 * scripts rely on no further line. Spec: cli.md 1.4.
 */
import { asScoutfsError, errnoError } from '../observe/errors.js';
import { hex16 } from '../observe/log.js';
import type { Args, CommandIo, CommandSpec, OptionSpec } from './command.js';
import { PATH_OPTION, pathOf, statMore, statfsMore, withOpen } from './mounted.js';

const NAME_WIDTH = 17;
const FIELD_OPTION: OptionSpec = {
  short: 's', long: 'single-field', value: 'NAME', description: 'Print only the value of a field',
};

type Field = [name: string, value: string];

/** Prints what `ask` finds out about an open path. */
function show(args: Args, io: CommandIo, path: string, names: readonly string[],
  ask: (fd: number) => Field[]): number {
  const single = args.value('single-field');
  return withOpen(path, (fd) => {
    if (single !== undefined && !names.includes(single)) {
      throw errnoError('EINVAL', `unknown field: '${single}'`);
    }
    let fields: Field[];
    try {
      fields = ask(fd);
    } catch (e) {
      const { code, errno, message } = asScoutfsError(e);
      io.err(`ioctl failed: ${message}`);
      io.result({ error: { code, errno, message } });
      return 0;
    }
    for (const [name, value] of fields) {
      if (single === undefined) io.out(`${name.padEnd(NAME_WIDTH)} ${value}`);
      else if (single === name) io.out(value);
    }
    io.result(Object.fromEntries(fields.filter(([name]) => single === undefined
      || single === name)));
    return 0;
  });
}

const STAT_FIELDS = [
  'meta_seq', 'data_seq', 'data_version', 'online_blocks', 'offline_blocks', 'crtime',
] as const;

export const statCommand: CommandSpec = {
  name: 'stat',
  group: 'Additional Information',
  args: ['FILE'],
  description: 'Show the attributes of a file that stat(1) does not know',
  options: [FIELD_OPTION],
  json: true,
  run: (args, io) => Promise.resolve().then(() =>
    show(args, io, args.positional(0), STAT_FIELDS, (fd) => {
      const s = statMore(fd);
      return STAT_FIELDS.map((name): Field => [name, String(s[name])]);
    })),
};

const STATFS_FIELDS = [
  'fsid', 'rid', 'committed_seq', 'total_meta_blocks', 'total_data_blocks',
] as const;

export const statfsCommand: CommandSpec = {
  name: 'statfs',
  group: 'Additional Information',
  args: [],
  description: 'Show the identity and the totals of a mounted filesystem',
  options: [PATH_OPTION, FIELD_OPTION],
  json: true,
  run: (args, io) => Promise.resolve().then(() =>
    show(args, io, pathOf(args), STATFS_FIELDS, (fd) => {
      const s = statfsMore(fd);
      return STATFS_FIELDS.map((name): Field =>
        [name, name === 'fsid' || name === 'rid' ? hex16(s[name]) : String(s[name])]);
    })),
};
