/**
 * `scoutfs prepare-empty-data-device`: a new data device for a volume without file
 * data.
 *
 * Spec: cli.md 1.4, mkfs.md 8.4.
 */
import type { SuperBlock } from '../core/format.js';
import { checkEmptyDataDevice, prepareEmptyDataDevice } from
  '../disk/prepare_empty_data_device.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { UsageError } from './command.js';
import { formatLines, identityLines, pathLines, sizeLines, volumeJson } from './volume_lines.js';
import { forChange, forReading, withDevices, withPair } from './with_devices.js';

const VALUE_COLUMN = 26;

/** Only the checks; the data device may be left out. */
function check(io: CommandIo, metaPath: string, dataPath: string | undefined):
Promise<SuperBlock> {
  const wanted = [forReading(metaPath), ...(dataPath === undefined ? [] : [forReading(dataPath)])];
  return withDevices(io.env, wanted, ([meta, data]) => {
    if (meta === undefined) throw new UsageError('must provide the META-DEVICE argument');
    return checkEmptyDataDevice(meta, data ?? null);
  });
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const metaPath = args.positional(0);
  const dataPath = args.optional(1);
  if (args.flag('check')) {
    try {
      const sb = await check(io, metaPath, dataPath);
      io.out('All checks passed.');
      io.result({ metaDevice: metaPath, checked: true, ...volumeJson(sb) });
      return 0;
    } catch (e) {
      io.out('Errors must be addressed before an empty data device can be prepared.');
      throw e;
    }
  }
  if (dataPath === undefined) throw new UsageError('must provide the DATA-DEVICE argument');
  const sb = await withPair(io.env, forReading(metaPath), forChange(dataPath), (meta, data) =>
    prepareEmptyDataDevice(meta, data));
  io.out(formatLines('Successfully initialized empty data device for scoutfs filesystem:',
    [...pathLines(metaPath, dataPath), ...identityLines(sb), ...sizeLines(sb)], VALUE_COLUMN));
  io.result({ metaDevice: metaPath, dataDevice: dataPath, ...volumeJson(sb) });
  return 0;
}

export const prepareEmptyDataDeviceCommand: CommandSpec = {
  name: 'prepare-empty-data-device',
  group: 'Core admin',
  args: ['META-DEVICE', '[DATA-DEVICE]'],
  description: 'Initialize a new data device for a filesystem without file data',
  options: [
    { short: 'c', long: 'check', description: 'Only check, write nothing' },
  ],
  json: true,
  run,
};
