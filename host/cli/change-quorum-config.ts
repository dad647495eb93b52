/**
 * `scoutfs change-quorum-config`: replaces the quorum slots of a volume at rest.
 *
 * Spec: cli.md 1.4, mkfs.md 8.3.
 */
import { WARNING, slotAdvice } from '../disk/advice.js';
import { changeQuorumConfig } from '../disk/change_quorum_config.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { UsageError } from './command.js';
import { parseSlots } from './values.js';
import { formatLines, identityLines, pathLines, quorumLines, volumeJson } from './volume_lines.js';
import { forChange, withDevice } from './with_devices.js';

const VALUE_COLUMN = 26;

async function run(args: Args, io: CommandIo): Promise<number> {
  const slots = parseSlots(args.values('quorum-slot'));
  if (!args.flag('offline')) throw new UsageError('must specify offline with -F');
  const metaPath = args.positional(0);
  const sb = await withDevice(io.env, forChange(metaPath), (meta) =>
    changeQuorumConfig(meta, slots));
  io.out(formatLines('Successfully changed quorum config for scoutfs filesystem:', [
    ...pathLines(metaPath), ...identityLines(sb), ...quorumLines(sb),
  ], VALUE_COLUMN));
  const advice = slotAdvice(slots.length);
  if (advice !== null) io.err(WARNING + advice);
  io.result({ metaDevice: metaPath, ...volumeJson(sb) });
  return 0;
}

export const changeQuorumConfigCommand: CommandSpec = {
  name: 'change-quorum-config',
  group: 'Core admin',
  args: ['META-DEVICE'],
  description: 'Change the quorum configuration of an existing ScoutFS filesystem',
  options: [
    { short: 'Q', long: 'quorum-slot', value: 'NR,ADDR,PORT',
      description: 'Configure a quorum slot; replaces all that exist' },
    { short: 'F', long: 'offline', description: 'The filesystem is not mounted (required)' },
  ],
  json: true,
  run,
};
