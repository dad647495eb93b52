/**
 * `scoutfs change-format-version`: raises the format version of a volume at rest.
 *
 * Spec: cli.md 1.4, mkfs.md 8.2.
 */
import { FORMAT_VERSION_MAX, FORMAT_VERSION_MIN } from '../core/format.js';
import { changeFormatVersion } from '../disk/change_format_version.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { UsageError } from './command.js';
import { parseInRange } from './values.js';
import { formatLines, identityLines, pathLines, volumeJson } from './volume_lines.js';
import { forChange, withPair } from './with_devices.js';

const VALUE_COLUMN = 24;

async function run(args: Args, io: CommandIo): Promise<number> {
  const fmtVers = parseInRange(args.value('format-version') ?? String(FORMAT_VERSION_MAX),
    'format-version', FORMAT_VERSION_MIN, FORMAT_VERSION_MAX);
  if (!args.flag('offline')) throw new UsageError('must specify offline with -F');
  const [metaPath, dataPath] = [args.positional(0), args.positional(1)];
  const { sb, changed } = await withPair(io.env, forChange(metaPath), forChange(dataPath),
    (meta, data) => changeFormatVersion(meta, data, fmtVers));
  if (changed) {
    io.out(formatLines('Successfully updated format version for scoutfs filesystem:', [
      ...pathLines(metaPath, dataPath), ...identityLines(sb), ['format version', String(fmtVers)],
    ], VALUE_COLUMN));
  } else {
    io.out(`both metadata and data device format version are already ${fmtVers}, nothing to do.`);
  }
  io.result({ metaDevice: metaPath, dataDevice: dataPath, changed, ...volumeJson(sb) });
  return 0;
}

export const changeFormatVersionCommand: CommandSpec = {
  name: 'change-format-version',
  group: 'Core admin',
  args: ['META-DEVICE', 'DATA-DEVICE'],
  description: 'Change the format version of an existing ScoutFS filesystem',
  options: [
    { short: 'F', long: 'offline', description: 'The filesystem is not mounted (required)' },
    { short: 'V', long: 'format-version', value: 'VERSION',
      description: 'Format version, 1 or 2 (default)' },
  ],
  json: true,
  run,
};
