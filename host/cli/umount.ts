/**
 * `scoutfs umount`: unmounts, and returns when the daemon has committed, said farewell
 * and ended. Plain umount(8) works too; it returns as soon as the kernel let go.
 * With --force nothing is committed and the server fences the mount.
 */
import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import { strerror } from '../observe/strerror.js';
import { controlDirOf, detachControl, listMounts } from '../env/rundir.js';
import { unmountFuse } from '../env/fuse-mount.js';
import { sendSignal } from '../env/signal.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { mountAt, waitForExit } from './daemon.js';
import { parseInRange } from './values.js';

const DEFAULT_TIMEOUT_SEC = 120;
const TIMEOUT_MAX_SEC = 1_000_000;

/** The directory's own path; its name when its daemon died. @throws ENOENT */
export function pathOf(dir: string): string {
  const name = resolve(dir);
  // Looking at a mount point asks its daemon, which may be why somebody wants to unmount it.
  if (listMounts().some((m) => m.mountPoint === name)) return name;
  try {
    return realpathSync(dir);
  } catch (e) {
    // a mount whose daemon died: its name is all there is
    if (asScoutfsError(e).errno === 'ENOTCONN') return resolve(dir);
    throw errnoError(asScoutfsError(e).errno, `${dir}: ${strerror(asScoutfsError(e).errno)}`);
  }
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const timeoutSec = parseInRange(args.value('timeout') ?? String(DEFAULT_TIMEOUT_SEC),
    'timeout', 0, TIMEOUT_MAX_SEC);
  const dir = pathOf(args.positional(0));
  const m = mountAt(dir);
  if (m === undefined) {
    const dead = listMounts().find((x) => x.mountPoint === dir);
    if (dead === undefined) throw errnoError('EINVAL', `${dir}: no volume is mounted here`);
    await unmountFuse(dir, true);
    await detachControl(controlDirOf(dead.ident));
    io.out(`${dir}: the daemon was gone already; the next mount of the volume recovers`);
    return 0;
  }
  if (args.flag('force')) sendSignal(m.pid, 'SIGUSR1');
  else await unmountFuse(dir, args.flag('lazy'));
  await waitForExit(io.env.clock, m, timeoutSec * 1000);
  if (args.flag('force')) await unmountFuse(dir, true).catch(() => undefined);
  io.result({ dir, ident: m.ident });
  return 0;
}

export const umountCommand: CommandSpec = {
  name: 'umount',
  group: 'User space',
  args: ['DIR'],
  description: 'Unmount a volume and wait until everything is committed',
  options: [
    { short: 'l', long: 'lazy', description: 'Detach now, finish when nobody uses it' },
    { short: 'f', long: 'force', description: 'Give up without a commit; unsynced data is lost' },
    { short: 't', long: 'timeout', value: 'SECONDS',
      description: 'How long to wait (default 120)' },
  ],
  json: true,
  usageStatus: 2,
  run,
};
