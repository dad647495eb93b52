/**
 * A mount in a simulated world: the real client, server and merges, without FUSE, threads
 * or sockets. What the kernel would do is done by `SimKernel` (simkernel.ts).
 */
import type { SuperBlock } from '../../host/core/format.js';
import { mkfs } from '../../host/disk/mkfs.js';
import { readSupers } from '../../host/disk/super.js';
import { parseOptions } from '../../host/mount/options.js';
import type { Log } from '../../host/observe/log.js';
import { silentLog } from '../../host/observe/log.js';
import { ControlTree } from '../../host/observe/control.js';
import type { ScoutfsError } from '../../host/observe/errors.js';
import { MountClient } from '../../host/super/mount_client.js';
import { SimKernel } from './simkernel.js';
import type { SimDevice } from '../../host/env/sim_device.js';
import type { SimHost, SimProcess, SimWorld } from './simworld.js';
import { seededRandom } from './treespace.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const PORT = 4000;

export interface SimVolume {
  readonly meta: SimDevice;
  readonly data: SimDevice;
}

export interface SimVolumeOptions {
  metaBytes?: number;
  dataBytes?: number;
  /** Hosts 1 .. n get the quorum slots 0 .. n-1. */
  slots?: number;
  zoneBlocks?: number;
  fmtVers?: number;
}

/** Makes a volume on two devices of the world, named `meta` and `data`. */
export async function simVolume(world: SimWorld, o: SimVolumeOptions = {}): Promise<SimVolume> {
  const meta = world.addDevice('meta', o.metaBytes ?? 16 * GIB);
  const data = world.addDevice('data', o.dataBytes ?? 16 * GIB);
  const slots = Array.from({ length: o.slots ?? 1 }, (_, nr) =>
    ({ nr, addr: world.host(nr + 1).addr, port: PORT + nr }));
  await world.run(mkfs(meta, data, {
    slots, allowSmallSize: true,
    ...(o.zoneBlocks === undefined ? {} : { zoneBlocks: o.zoneBlocks }),
    ...(o.fmtVers === undefined ? {} : { fmtVers: o.fmtVers }),
  }, { clock: world.clock, random: seededRandom(world.seed), remark: () => undefined }));
  meta.flushSync();
  data.flushSync();
  return { meta, data };
}

export interface SimMountOptions {
  /** null: no member. Default: the host's number less one. */
  slotNr?: number | null;
  /** Further mount options. */
  options?: string;
  coreMemoryMb?: number;
  serverMemoryMb?: number;
  mergeMemoryMb?: number;
  /** Merging log trees and scanning for orphans; default true. */
  background?: boolean;
  log?: Log;
}

export class SimMount {
  /** Why the mount gave up by itself: a broken invariant. */
  broken: ScoutfsError | null = null;

  private constructor(readonly process: SimProcess, readonly client: MountClient,
    readonly kernel: SimKernel, readonly rid: bigint) {}

  /** Mounts. @throws what `mount` would print */
  static async start(host: SimHost, volume: SimVolume, o: SimMountOptions = {}):
  Promise<SimMount> {
    const process = host.start('mount');
    try {
      return await SimMount.startIn(process, host, volume, o);
    } catch (e) {
      process.kill();
      throw e;
    }
  }

  private static async startIn(process: SimProcess, host: SimHost, volume: SimVolume,
    o: SimMountOptions): Promise<SimMount> {
    const { env } = process;
    const metaDevice = await env.openDevice(volume.meta.path);
    const dataDevice = await env.openDevice(volume.data.path);
    const { meta: metaSuper }: { meta: SuperBlock } = await readSupers(metaDevice, dataDevice);
    const slotNr = o.slotNr === undefined ? host.nr - 1 : o.slotNr;
    const options = parseOptions(`metadev_path=meta${
      slotNr === null ? '' : `,quorum_slot_nr=${slotNr}`},${o.options ?? ''}`);
    options.coreMemoryMb = o.coreMemoryMb ?? 16;
    process.rid = env.random.u64();
    const broken = (error: ScoutfsError): void => {
      mount.broken ??= error;
      client.force();
    };
    const client = new MountClient(env, o.log ?? silentLog, {
      options, metaDevice, dataDevice, metaSuper, rid: process.rid, countCrossings: false,
      memory: {
        serverBytes: (o.serverMemoryMb ?? 16) * MIB, mergeBytes: (o.mergeMemoryMb ?? 16) * MIB,
      },
    }, new ControlTree(), broken);
    const kernel = new SimKernel(client);
    const mount = new SimMount(process, client, kernel, process.rid);
    await client.start();
    client.attach(kernel);
    if (o.background !== false) client.startBackground();
    return mount;
  }

  /** The normal way down. */
  async unmount(): Promise<void> {
    await this.client.unmount();
    await this.client.destroy();
    this.process.kill();
  }

  /** The process is killed where it is; the devices keep their power. */
  crash(): void {
    this.process.kill();
  }
}
