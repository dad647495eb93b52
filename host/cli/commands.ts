/**
 * All subcommands, in the order of the usage text. A new command is a file that
 * exports a CommandSpec and a line here; then `npm run man` writes the manual page.
 */
import type { CommandSpec } from './command.js';
import { changeFormatVersionCommand } from './change-format-version.js';
import { changeQuorumConfigCommand } from './change-quorum-config.js';
import { checkCommand } from './check.js';
import { demoCommand } from './demo.js';
import { mkfsCommand } from './mkfs.js';
import { mountCommand } from './mount.js';
import { prepareEmptyDataDeviceCommand } from './prepare-empty-data-device.js';
import { printCommand } from './print.js';
import { umountCommand } from './umount.js';

export const COMMANDS: readonly CommandSpec[] = [
  // Core admin
  changeFormatVersionCommand,
  changeQuorumConfigCommand,
  mkfsCommand,
  prepareEmptyDataDeviceCommand,
  // Debugging commands
  printCommand,
  // User space
  checkCommand,
  mountCommand,
  umountCommand,
  demoCommand,
];
