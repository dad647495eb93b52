/**
 * `scoutfs mount`: starts the daemon of a mount.
 *
 * The command returns when the mount serves, or fails with one line. The daemon that
 * stays behind ends when the mount is unmounted. `mount -t scoutfs` gets here through
 * mount.scoutfs: the source is the data device, the metadata device the option
 * metadev_path.
 * Spec: cli.md 2.1; super.md 2.
 */
import { realpathSync } from 'node:fs';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { WARNING } from '../disk/advice.js';
import { runRoot } from '../env/rundir.js';
import type { Clock } from '../env/clock.js';
import { FUSE_DEVICE_PATH } from '../env/fuse-mount.js';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import { LOG_LEVELS, isLogLevel } from '../observe/log.js';
import { strerror } from '../observe/strerror.js';
import { parseOptions } from '../mount/options.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { UsageError } from './command.js';
import type { StartedMount } from './daemon.js';
import { mountAt, startDaemon } from './daemon.js';

export interface MountRequest {
  dataDevice: string;
  dir: string;
  options: string;
  foreground: boolean;
  logPath: string | null;
  logLevel: string;
}

/** Absolute form of a path that the daemon, which lives in /, will open. */
function absolute(path: string): string {
  try {
    return realpathSync(path);
  } catch (e) {
    const { errno } = asScoutfsError(e);
    throw errnoError(errno, `${path}: ${strerror(errno)}`);
  }
}

/** What every mount needs of this machine. @throws EPERM, ENODEV */
export function checkHost(): void {
  if (process.getuid?.() !== 0) {
    throw errnoError('EPERM', 'mounting needs root: run it with sudo');
  }
  if (!fs.existsSync(FUSE_DEVICE_PATH)) {
    throw errnoError('ENODEV', `${FUSE_DEVICE_PATH} is missing: load the fuse module ` +
      '(modprobe fuse), or give the container the device');
  }
}

/** Device paths in the option list made absolute. */
function absoluteOptions(options: string): string {
  return options.split(',').map((o) => o.startsWith('metadev_path=')
    ? `metadev_path=${absolute(o.slice('metadev_path='.length))}` : o).join(',');
}

function checkDir(dir: string): string {
  const path = absolute(dir);
  if (!fs.statSync(path).isDirectory()) throw errnoError('ENOTDIR', `${dir}: not a directory`);
  const there = mountAt(path);
  if (there !== undefined) {
    throw errnoError('EBUSY', `${dir}: a volume is mounted here already (process ${there.pid})`);
  }
  return path;
}

/** A directory whose daemon died answers ENOTCONN: only its name can be used. */
function mountPoint(dir: string): string {
  try {
    return checkDir(dir);
  } catch (e) {
    if (asScoutfsError(e).errno !== 'ENOTCONN') throw e;
    return dir.startsWith('/') ? dir : join(process.cwd(), dir);
  }
}

/** Starts the daemon and waits until it serves. @throws one line that says why it does not */
export async function mountVolume(clock: Clock, r: MountRequest): Promise<StartedMount> {
  // wrong options are told apart from a failing mount before anything is started
  if (parseOptions(r.options).metadevPath === null) {
    throw errnoError('EINVAL',
      'the option metadev_path=PATH is missing: it names the metadata device');
  }
  checkHost();
  const dataDevice = absolute(r.dataDevice);
  const options = absoluteOptions(r.options);
  const dir = mountPoint(r.dir);
  let logPath = r.logPath;
  if (logPath === null && !r.foreground) {
    fs.mkdirSync(runRoot(), { recursive: true });
    logPath = join(runRoot(), 'scoutfs.log');
  }
  return startDaemon(clock, { dataDevice, dir, options, logPath, logLevel: r.logLevel });
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const logLevel = args.value('log-level') ?? 'info';
  if (!isLogLevel(logLevel)) {
    throw new UsageError(`log level '${logLevel}' is not one of ${LOG_LEVELS.join(', ')}`);
  }
  if (args.flag('fake')) {
    parseOptions(args.values('options').join(','));
    return 0;
  }
  const { ident, warnings } = await mountVolume(io.env.clock, {
    dataDevice: args.positional(0), dir: args.positional(1),
    options: args.values('options').join(','),
    foreground: false,
    logPath: args.value('log') ?? null, logLevel,
  });
  for (const line of warnings) io.err(WARNING + line);
  if (args.flag('verbose')) {
    io.out(`${args.positional(0)} mounted on ${args.positional(1)} (${ident})`);
  }
  io.result({ ident, dir: args.positional(1) });
  return 0;
}

export const mountCommand: CommandSpec = {
  name: 'mount',
  group: 'User space',
  args: ['DATA-DEVICE', 'DIR'],
  description: 'Mount a volume',
  options: [
    { short: 'o', long: 'options', value: 'OPTIONS',
      description: 'Comma separated mount options; metadev_path=PATH is required, ' +
        'peer_networks=ADDRESS/BITS[+...] refuses peers of other networks' },
    { short: 'f', long: 'fake', description: 'Check the options, do not mount' },
    { short: 'v', long: 'verbose', description: 'Say what was mounted' },
    { long: 'log', value: 'FILE',
      description: 'Where the daemon logs (default: the run directory)' },
    { long: 'log-level', value: 'LEVEL', description: 'error, warn, info, debug or trace' },
  ],
  json: true,
  usageStatus: 2,
  run,
};
