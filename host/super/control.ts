/**
 * The control tree of a mount where people and programs find it: a second, small FUSE
 * mount of the same process at the mount's directory in the run directory.
 *
 * It is a service, never a condition: what cannot be mounted is a warning. A process
 * that dies takes its connection along, so what is left of the tree answers ENOTCONN at
 * once; it is detached when the directory is cleaned (env/rundir.ts). Nothing in this
 * process may touch the tree through the kernel synchronously: it would wait for itself.
 * Decision: docs/decisions/0006-control-tree-is-a-mount.md.
 */
import type { LockPtr } from '../core/items.js';
import { isDying } from '../env/caps.js';
import type { Clock } from '../env/clock.js';
import { openFuseDevice } from '../env/fuse-device.js';
import { abortFuse, mountFuse } from '../env/fuse-mount.js';
import { detachControl, makeControlDir } from '../env/rundir.js';
import { ControlFs } from '../fs/control_fs.js';
import { FuseSession } from '../fuse/session.js';
import type { LockMode, Op } from '../mount/op.js';
import type { ControlTree } from '../observe/control.js';
import { asScoutfsError, assert } from '../observe/errors.js';
import type { Log } from '../observe/log.js';

/** Shown as the source and after the dot of the type in /proc/mounts. */
const SOURCE = 'scoutfs-control';
/** Requests that may wait at a time without memory being made for them. */
const SLOTS = 4;

function nothing(): never {
  assert(false, 'the control tree has no items or transactions');
}

/** Operations of the control tree need nothing of a mount. */
class NoOp implements Op {
  /** For writes beside mappings: there is nobody to share with. */
  lockInode(_ino: number, _mode: LockMode): LockPtr { return 0; }
  lockRename(): never { return nothing(); }
  lockQuota(): never { return nothing(); }
  lockOrphan(): never { return nothing(); }
  lockTotl(): never { return nothing(); }
  lockIndx(): never { return nothing(); }
  lockIndex(): never { return nothing(); }
  transSeq(): never { return nothing(); }
  hold(): never { return nothing(); }
  prepareSrch(): never { return nothing(); }
  addSrch(): never { return nothing(); }
  addInodeCount(): never { return nothing(); }
  allocIno(): never { return nothing(); }
}

const NO_OP = new NoOp();

/** Mounts `tree` at `dir` and serves it. @returns what ends it; null, with a warning, on failure */
export async function serveControl(clock: Clock, log: Log, tree: ControlTree, dir: string):
Promise<(() => Promise<void>) | null> {
  try {
    makeControlDir(dir);
    const fuse = await mountFuse({ source: SOURCE, dir, subtype: SOURCE });
    const session = new FuseSession({
      device: openFuseDevice(fuse.fd, false, SLOTS), clock, vfs: new ControlFs(tree, clock),
      ops: { begin: () => NO_OP, end: () => undefined },
      caching: { mayCache: () => false }, isDying,
    }, {
      end: () => { log.debug('the control tree ended'); },
      fatal: (message) => {
        log.warn(`control tree: ${message}`);
        abortFuse(fuse.connection).catch((e: unknown) => {
          log.warn(`control tree: its connection cannot be ended: ${asScoutfsError(e).message}`);
        });
      },
      log: (message) => { log.debug(`control tree: ${message}`); },
    }, { acl: false, nameCaching: false });
    session.start();
    return () => detachControl(dir);
  } catch (e) {
    log.warn(`${dir}: no control files: ${asScoutfsError(e).message}`);
    await detachControl(dir);
    return null;
  }
}
