/**
 * `scoutfs cluster`: who is in the cluster, who leads, and what waits for what.
 *
 * It asks the mounts of this host, or the one at DIR, through their control trees; nothing
 * is sent to other hosts. Each tree is read by a process that is killed when its daemon
 * does not answer. The object printed with --json is `{ "clusters": [Cluster, ...] }` of
 * cluster_view.ts; fields may be added, none is taken away or changed.
 */
import * as fs from 'node:fs';
import { CONTROL_TIMEOUT_MS, readControl } from '../env/control_access.js';
import type { MountInfo } from '../env/rundir.js';
import { controlDirOf, listMounts, runRoot } from '../env/rundir.js';
import { errnoError } from '../observe/errors.js';
import type { Answer } from './cluster_view.js';
import { CLUSTER_FILES, clusterLines, clustersOf } from './cluster_view.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { mountAt } from './daemon.js';
import { pathOf } from './umount.js';

/** A process that got SIGSTOP, or is traced. */
function isStopped(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return 'Tt'.includes(stat.charAt(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** The live mounts to ask. @throws ENOENT, EINVAL when there are none */
function mountsToAsk(dir: string | undefined): MountInfo[] {
  if (dir !== undefined) {
    const mount = mountAt(pathOf(dir));
    if (mount === undefined) throw errnoError('EINVAL', `${dir}: no volume is mounted here`);
    return [mount];
  }
  const mounts = listMounts().filter((m) => m.alive);
  if (mounts.length === 0) {
    throw errnoError('ENOENT', `no volume is mounted on this host (looked in ${runRoot()})`);
  }
  return mounts;
}

async function ask(mount: MountInfo): Promise<Answer> {
  // A stopped process answers nothing: it need not be waited for.
  const stopped = isStopped(mount.pid);
  const files = stopped ? null
    : await readControl(controlDirOf(mount.ident), CLUSTER_FILES, 2 * CONTROL_TIMEOUT_MS);
  return { mount, files, stopped };
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const clusters = clustersOf(await Promise.all(mountsToAsk(args.optional(0)).map(ask)));
  clusters.forEach((c, i) => {
    if (i > 0) io.out('');
    for (const line of clusterLines(c)) io.out(line);
  });
  io.result({ clusters });
  return 0;
}

export const clusterCommand: CommandSpec = {
  name: 'cluster',
  group: 'User space',
  args: ['[DIR]'],
  description: 'Show members, leader, mounts and what waits, of the mount at DIR or of all here',
  options: [],
  json: true,
  usageStatus: 2,
  run,
};
