/**
 * A mount: assembles the rows, starts them in order, and takes them down again.
 *
 *   open devices, check supers -> record in the run directory -> core and caches -> lock
 *   client, transaction, client -> control tree
 *   -> quorum and server thread (members) -> connect -> root inode, first transaction
 *   -> FUSE -> background work
 *
 * Everything up to "serving" happens before the mount command returns, so that every
 * failure is its error and leaves no trace. Each part that was started pushes its own
 * undoing; one teardown path runs them in reverse, whatever prefix was reached.
 *
 * Normal unmount: the kernel says the mount is gone; drop inodes (which can delete),
 * stop background work, refuse new locks, last commit, farewell, stop the server.
 * Forced: nothing is written any more and nobody is told; the server fences us.
 * Source: super.md 4, 7, 9; client.md 6, 7.
 */
import { isDying } from './env/caps.js';
import type { Env } from './env/env.js';
import type { Device } from './env/device.js';
import { WatchedDevice } from './env/watched_device.js';
import { openFuseDevice } from './env/fuse-device.js';
import type { FuseMount } from './env/fuse-mount.js';
import { abortFuse, forcedRequestTimeoutSec, mountFuse, unmountFuse } from './env/fuse-mount.js';
import {
  controlDirOf, createRunDir, detachDead, listMounts, removeMount,
} from './env/rundir.js';
import type { SuperBlock } from './core/format.js';
import { slotAdvice } from './disk/advice.js';
import { readSupers } from './disk/super.js';
import { FuseSession } from './fuse/session.js';
import type { MountOptions } from './mount/options.js';
import { parseOptions } from './mount/options.js';
import { serveControl } from './super/control.js';
import { MountClient } from './super/mount_client.js';
import { addMountFiles } from './super/mount_files.js';
import { shownMount } from './super/shown_mount.js';
import { presentSlots } from './server/quorum_block.js';
import { ControlTree } from './observe/control.js';
import type { Log } from './observe/log.js';
import { mountIdent } from './observe/log.js';
import { WaitWatch } from './observe/wait_watch.js';
import { ScoutfsError, asScoutfsError, errnoError } from './observe/errors.js';

const RID_DRAWS_MAX = 99;
const ONES = 0xffffffffffffffffn;

/** A random mount id: never 0, never all ones. @throws EIO when the source gives no other */
function drawRid(env: Env): bigint {
  for (let i = 0; i < RID_DRAWS_MAX; i++) {
    const rid = env.random.u64();
    if (rid !== 0n && rid !== ONES) return rid;
  }
  throw new ScoutfsError('RID', 'EIO', { message: 'the random source gives no usable mount id' });
}

/** Memory of the cores beside the mount's own. */
export interface HelperMemory {
  serverBytes: number;
  mergeBytes: number;
}

const MIB = 1024 * 1024;
const HELPER_MEMORY: HelperMemory = { serverBytes: 192 * MIB, mergeBytes: 192 * MIB };

/** What a mount works on. */
export interface Volume {
  options: MountOptions;
  metaDevice: Device;
  dataDevice: Device;
  metaSuper: SuperBlock;
  rid: bigint;
  memory: HelperMemory;
  /** Calls of the core's exports are counted: for tests. */
  countCrossings: boolean;
}

/** Since the mount began. `requests`: by the kernel's name of the opcode. */
export interface MountCounters {
  requests: Record<string, number>;
  parked: number;
  moved: number;
  errors: number;
  /** inodes that the kernel has of us */
  kernelInodes: number;
  core: { calls: number; waits: number; blocksRead: number; crossings: number };
}

export interface StartOptions {
  /** Calls of the core's exports are counted, for `counters`. */
  countCrossings?: boolean;
  /** Ends the start when it is aborted, with a reason that goes after "given up". */
  givingUp?: AbortSignal;
}

export class Mount {
  readonly ident: string;
  /** Resolves when the mount is gone and everything is put away. */
  readonly ended: Promise<void>;
  /** What the person who mounts should know, one line each. */
  readonly warnings: string[] = [];
  private resolveEnded!: () => void;
  private readonly undo: (() => Promise<void> | void)[] = [];
  private fuse: FuseMount | null = null;
  private client: MountClient | null = null;
  private session: FuseSession | null = null;
  private runDir: string | null = null;
  private ending = false;
  private forced = false;

  private constructor(
    private readonly env: Env, private readonly log: Log, private readonly vol: Volume,
  ) {
    this.ident = mountIdent(vol.metaSuper.hdr.fsid, vol.rid);
    this.ended = new Promise((resolve) => { this.resolveEnded = resolve; });
  }

  /**
   * Mounts the volume of `dataDevice` at `dir`.
   * @param options comma separated, with metadev_path
   * @throws one error that names the thing and the cause; nothing is left behind
   */
  static async start(env: Env, log: Log, options: string, dataDevice: string, dir: string,
    start: StartOptions = {}): Promise<Mount> {
    const { countCrossings = false, givingUp } = start;
    const opened = await openVolume(env, parseOptions(options), dataDevice);
    const vol: Volume = { ...opened, memory: HELPER_MEMORY, countCrossings };
    const ident = mountIdent(vol.metaSuper.hdr.fsid, vol.rid);
    const mount = new Mount(env, log.withPrefix(ident), vol);
    mount.undo.push(() => vol.metaDevice.close(), () => vol.dataDevice.close());
    try {
      await mount.bringUp(dir, givingUp);
      return mount;
    } catch (e) {
      mount.forced = true;
      mount.client?.force();
      await mount.tearDown();
      throw e;
    }
  }

  /** Asks the kernel to let the mount go; the rest follows when it has. */
  async requestUnmount(): Promise<void> {
    if (this.fuse === null) return;
    try {
      await unmountFuse(this.fuse.dir, true);
    } catch (e) {
      this.log.error(`unmounting ${this.fuse.dir}: ${asScoutfsError(e).message}`);
    }
  }

  /** From now on nothing is written and nobody is told: the mount counts as failed. */
  force(): void {
    this.forced = true;
    this.client?.force();
    if (this.fuse !== null) this.abort(this.fuse);
  }

  private abort(fuse: FuseMount): void {
    abortFuse(fuse.connection).catch((e: unknown) => {
      this.log.warn(`the kernel's connection cannot be ended: ${asScoutfsError(e).message}`);
    });
  }

  /** What requests have cost so far, and the run directory it may be written to. */
  counters(): { runDir: string; counters: MountCounters } | null {
    const { session, client, runDir } = this;
    if (session === null || client === null || runDir === null) return null;
    const { parked, moved, errors } = session.counters;
    return { runDir, counters: {
      requests: session.counters.byName(), parked, moved, errors,
      kernelInodes: session.inodes, core: { ...client.core.stats },
    } };
  }

  private async bringUp(dir: string, givingUp?: AbortSignal): Promise<void> {
    const { env, vol, log } = this;
    const timeoutSec = await forcedRequestTimeoutSec();
    if (timeoutSec > 0) {
      log.warn(`fs.fuse.default_request_timeout is ${timeoutSec} s: the kernel will abort this ` +
        'mount when a request waits for a lock that long');
    }
    const advice = slotAdvice(presentSlots(vol.metaSuper.qconf).length);
    if (advice !== null) {
      log.warn(advice);
      this.warnings.push(advice);
    }
    await this.announce(dir);
    const tree = new ControlTree();
    const client = new MountClient(env, log, vol, tree, (error) => {
      log.error(`${error.stack ?? error.message}: the mount ends here, nothing more is written`);
      this.force();
    });
    this.client = client;
    addMountFiles(tree, shownMount(env.clock, client, vol, log));
    const endControl = await serveControl(env.clock, log, tree, controlDirOf(this.ident));
    if (endControl !== null) this.undo.push(endControl);
    this.undo.push(() => client.destroy());
    const watch = new WaitWatch(env.clock, log, () => client.pending());
    watch.start();
    this.undo.push(() => { watch.stop(); });
    await client.start(givingUp);
    const fuse = await mountFuse({
      source: vol.dataDevice.path, dir, subtype: 'scoutfs', readOnly: vol.options.readOnly,
      extra: vol.options.kernelOptions,
    });
    this.fuse = fuse;
    this.undo.push(() => this.unmountLeft());
    this.serve(fuse, client);
    client.startBackground();
    log.info(`mounted ${vol.dataDevice.path} at ${fuse.dir}`);
  }

  /** Records the mount in the run directory, and clears away what dead ones show there. */
  private async announce(dir: string): Promise<void> {
    const { vol } = this;
    await detachDead();
    this.undo.push(() => removeMount(this.ident));
    this.runDir = createRunDir({
      fsid: vol.metaSuper.hdr.fsid, rid: vol.rid, mountPoint: dir,
      dataDevice: vol.dataDevice.path, metaDevice: vol.metaDevice.path,
      quorumSlotNr: vol.options.quorumSlotNr,
    });
  }

  private serve(fuse: FuseMount, client: MountClient): void {
    const session = new FuseSession(
      { device: openFuseDevice(fuse.fd), clock: this.env.clock, vfs: client.fs, ops: client.ops,
        caching: client.caching, isDying },
      {
        end: (why) => { void this.end(why); },
        fatal: (message) => {
          this.log.error(message);
          this.abort(fuse);
        },
        log: (message, err) => {
          this.log.warn(message);
          if (err instanceof Error) this.log.debug(err.stack ?? err.message);
        },
      },
      { acl: this.vol.options.acl, nameCaching: this.vol.options.kernelCache === 1,
        inodesMax: this.vol.options.kernelInodesMax });
    this.session = session;
    client.attach(session);
    session.start();
  }

  /** The kernel is done with us. */
  private async end(why: string): Promise<void> {
    if (this.ending) return;
    this.ending = true;
    this.log.info(`the mount ended (${why})`);
    try {
      if (this.forced) this.client?.force();
      else await this.client?.unmount();
    } catch (e) {
      this.log.error(`unmount: ${asScoutfsError(e).message}`);
    }
    this.fuse = null;
    await this.tearDown();
    this.resolveEnded();
  }

  private async unmountLeft(): Promise<void> {
    if (this.fuse === null) return;
    await unmountFuse(this.fuse.dir, true).catch(() => undefined);
  }

  private async tearDown(): Promise<void> {
    for (let fn = this.undo.pop(); fn !== undefined; fn = this.undo.pop()) {
      try {
        await fn();
      } catch (e) {
        this.log.error(`while ending: ${asScoutfsError(e).message}`);
      }
    }
  }
}

/** Opens both devices and checks that they are one volume that this mount may use. */
async function openVolume(env: Env, options: MountOptions, dataPath: string):
Promise<Omit<Volume, 'countCrossings' | 'memory'>> {
  if (options.metadevPath === null) {
    throw new ScoutfsError('MOUNT_OPTION', 'EINVAL', {
      message: 'the option metadev_path=PATH is missing: it names the metadata device',
    });
  }
  const open = async (path: string): Promise<Device> =>
    new WatchedDevice(await env.openDevice(path), env.clock);
  const metaDevice = await open(options.metadevPath);
  let dataDevice: Device | null = null;
  try {
    dataDevice = await open(dataPath);
    if (samePath(metaDevice, dataDevice)) {
      throw errnoError('EINVAL', `${dataPath}: metadata and data device are the same`);
    }
    const { meta } = await readSupers(metaDevice, dataDevice);
    checkSlot(options, meta, metaDevice.path);
    return { options, metaDevice, dataDevice, metaSuper: meta, rid: drawRid(env) };
  } catch (e) {
    await dataDevice?.close();
    await metaDevice.close();
    throw e;
  }
}

function samePath(a: Device, b: Device): boolean {
  return a.path === b.path;
}

/** The slot must be configured, and no live daemon of this host may use it already. */
function checkSlot(options: MountOptions, sb: SuperBlock, metaPath: string): void {
  const slotNr = options.quorumSlotNr;
  if (slotNr === null) return;
  const present = presentSlots(sb.qconf).map((s) => s.nr);
  if (!present.includes(slotNr)) {
    throw new ScoutfsError('QUORUM_SLOT', 'EINVAL', {
      message: `${metaPath}: quorum slot ${slotNr} is not configured ` +
        `(slots: ${present.join(', ')})`,
    });
  }
  const other = listMounts().find((m) => m.alive && m.fsid === sb.hdr.fsid &&
    m.quorumSlotNr === slotNr);
  if (other !== undefined) {
    throw new ScoutfsError('SLOT_IN_USE', 'EBUSY', {
      message: `${metaPath}: quorum slot ${slotNr} is in use by the mount at ${
        other.mountPoint} (process ${other.pid})`,
    });
  }
}
