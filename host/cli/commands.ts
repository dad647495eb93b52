/**
 * All subcommands, in the order of the usage text. A new command is a file that
 * exports a CommandSpec and a line here; then `npm run man` writes the manual page.
 */
import type { CommandSpec } from './command.js';
import { changeFormatVersionCommand } from './change-format-version.js';
import { changeQuorumConfigCommand } from './change-quorum-config.js';
import { checkCommand } from './check.js';
import { clusterCommand } from './cluster.js';
import { countersCommand } from './counters.js';
import { demoCommand } from './demo.js';
import { dfCommand } from './df.js';
import { fencedCommand } from './fenced.js';
import { mkfsCommand } from './mkfs.js';
import { mountCommand } from './mount.js';
import { prepareEmptyDataDeviceCommand } from './prepare-empty-data-device.js';
import { printCommand } from './print.js';
import { resizeDevicesCommand } from './resize-devices.js';
import { statCommand, statfsCommand } from './stat.js';
import { umountCommand } from './umount.js';

export const COMMANDS: readonly CommandSpec[] = [
  // Core admin
  changeFormatVersionCommand,
  changeQuorumConfigCommand,
  dfCommand,
  mkfsCommand,
  prepareEmptyDataDeviceCommand,
  resizeDevicesCommand,
  // Additional Information
  countersCommand,
  statCommand,
  statfsCommand,
  // Debugging commands
  printCommand,
  // User space
  checkCommand,
  mountCommand,
  umountCommand,
  clusterCommand,
  fencedCommand,
  demoCommand,
];
