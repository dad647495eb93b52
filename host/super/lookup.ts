/**
 * What a client reads from the devices itself: where the server is, and whether its own
 * mounted client item still exists.
 */
import type { Device } from '../env/device.js';
import type { Endpoint } from '../env/net.js';
import type { Env } from '../env/env.js';
import { Core } from '../core/core.js';
import { MOUNTED_CLIENT_ZONE } from '../core/constants.js';
import { BtreeRoot } from '../core/format.js';
import type { SuperBlock } from '../core/format.js';
import { keyBytes } from '../core/keys.js';
import { Rec, TreeReader } from '../core/trees.js';
import { readMetaSuper } from '../disk/super.js';
import { presentSlots, readQuorumBlock, serverSlot } from '../server/quorum_block.js';
import type { Volume } from '../super.js';

/** Memory of the small core that looks an item up. */
const LOOKUP_MEMORY_BYTES = 16 * 1024 * 1024;

/**
 * The address of the leader that the quorum blocks name, null when they name none. The
 * answer may be stale; connecting shows it. @throws when a block cannot be read
 */
export async function findServer(meta: Device, data: Device, fmtVers: number):
Promise<Endpoint | null> {
  const sb = await readMetaSuper(meta, data, fmtVers);
  const slots = presentSlots(sb.qconf);
  const blocks = await Promise.all(slots.map(async (s) =>
    ({ slot: s.nr, block: await readQuorumBlock(meta, s.nr, sb.hdr.fsid) })));
  const slot = serverSlot(blocks);
  return slots.find((s) => s.nr === slot)?.at ?? null;
}

/**
 * Looks up whether the volume still records this mount as a client. Asked again and again
 * while there is no server, so the core that reads the tree is made once.
 */
export class MountedLookup {
  private reader: TreeReader | null = null;
  private root: Rec | null = null;

  constructor(private readonly env: Env, private readonly vol: Volume) {}

  /** @throws when it cannot be read */
  async isMounted(): Promise<boolean> {
    const { vol } = this;
    const sb = await readMetaSuper(vol.metaDevice, vol.dataDevice, vol.metaSuper.fmtVers);
    if (sb.mountedClients.height === 0) return false;
    this.reader ??= this.makeReader(sb);
    this.root ??= new Rec(this.reader.core, BtreeRoot.size);
    BtreeRoot.write(this.reader.core.view, this.root.ptr, sb.mountedClients);
    const key = keyBytes({
      zone: MOUNTED_CLIENT_ZONE, first: vol.rid, type: 0, second: 0n, third: 0n, fourth: 0,
    });
    return await this.reader.lookup(this.root.ptr, key) !== null;
  }

  private makeReader(sb: SuperBlock): TreeReader {
    const core = new Core(this.env.random, { memoryBytes: LOOKUP_MEMORY_BYTES });
    core.setVolume(this.vol.metaDevice, sb.hdr.fsid, sb.totalMetaBlocks);
    return new TreeReader(core);
  }
}
