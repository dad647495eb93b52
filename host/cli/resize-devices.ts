/**
 * `scoutfs resize-devices`: makes space that was added to the devices part of the volume.
 *
 * The volume has to be mounted; its server inserts the new space as free. Sizes that are
 * equal to the present ones, 0 or absent change nothing. Spec: cli.md 1.4, ioctl.md 5.14.
 */
import type { BlockUnit } from '../disk/block.js';
import { UNITS } from '../disk/block.js';
import { sizeText } from '../disk/sizes.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { UsageError } from './command.js';
import { PATH_OPTION, pathOf, resizeDevices, withOpen } from './mounted.js';
import { parseSize } from './values.js';

/** A size in whole blocks of its device, with a note when some of it is left out. */
function blocks(args: Args, io: CommandIo, long: string, unit: BlockUnit): number {
  const text = args.value(long);
  if (text === undefined) return 0;
  const blockBytes = UNITS[unit].bytes;
  const given = parseSize(text);
  const nr = Math.floor(given / blockBytes);
  // 0 would mean to leave the device as it is.
  if (nr === 0 && given !== 0) throw new UsageError(`${long} ${text} is less than one block`);
  if (nr * blockBytes !== given) {
    io.out(`${long} ${text} (${sizeText(given)}) is truncated to ${nr * blockBytes} bytes, ` +
      `a multiple of ${blockBytes}`);
  }
  return nr;
}

function run(args: Args, io: CommandIo): Promise<number> {
  const meta = blocks(args, io, 'meta-size', 'large');
  const data = blocks(args, io, 'data-size', 'small');
  withOpen(pathOf(args), (fd) => {
    try {
      resizeDevices(fd, meta, data);
    } catch (e) {
      const { errno, message } = asScoutfsError(e);
      throw new ScoutfsError(errno, errno, {
        message: `resize_devices ioctl failed: ${message}`, cause: e,
      });
    }
  });
  return Promise.resolve(0);
}

export const resizeDevicesCommand: CommandSpec = {
  name: 'resize-devices',
  group: 'Core admin',
  args: [],
  description: 'Make a mounted volume as large as its devices have become',
  options: [
    PATH_OPTION,
    { short: 'm', long: 'meta-size', value: 'SIZE',
      description: 'New size of the metadata device; 0: as it is' },
    { short: 'd', long: 'data-size', value: 'SIZE',
      description: 'New size of the data device; 0: as it is' },
  ],
  run: async (args, io) => run(args, io),
};
