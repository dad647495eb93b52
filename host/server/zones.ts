/**
 * Data zones: which parts of the data device a mount is given extents from.
 *
 * With the option set the device is divided into at most 1024 zones. Each log_trees
 * item records the zones its data_avail extents touch. A mount's refill prefers zones
 * that only it has (exclusive), then zones that nobody has (vacant), then anything, so
 * that mounts writing at the same time stay apart. Bits recorded with another zone size
 * are translated through the block ranges they stand for. Pure policy.
 * Source: alloc.md 7.1, server.md 6.2.
 */
import { DATA_ALLOC_MAX_ZONES, DATA_ALLOC_ZONE_BYTES, type LogTrees } from '../core/format.js';

/** A bitmap of zones in its stored form. */
export class ZoneBits {
  readonly bytes = new Uint8Array(DATA_ALLOC_ZONE_BYTES);

  has(zone: number): boolean {
    return ((this.bytes[zone >> 3] ?? 0) & (1 << (zone & 7))) !== 0;
  }

  set(zone: number): void {
    this.bytes[zone >> 3] = (this.bytes[zone >> 3] ?? 0) | (1 << (zone & 7));
  }

  clear(zone: number): void {
    this.bytes[zone >> 3] = (this.bytes[zone >> 3] ?? 0) & ~(1 << (zone & 7));
  }
}

/** The zones of size `zoneBlocks` that the item's recorded zones touch. */
function* zonesOfItem(lt: LogTrees, zoneBlocks: number, totalBlocks: number): Generator<number> {
  const own = lt.dataAllocZoneBlocks;
  if (own === 0) return;
  for (let z = 0; z < DATA_ALLOC_MAX_ZONES; z++) {
    const word = lt.dataAllocZones[z >> 6] ?? 0n;
    if ((word >> BigInt(z & 63) & 1n) === 0n) continue;
    const start = z * own;
    const end = Math.min(start + own, totalBlocks);
    if (start >= totalBlocks) continue;
    const last = Math.min(Math.floor((end - 1) / zoneBlocks), DATA_ALLOC_MAX_ZONES - 1);
    for (let n = Math.floor(start / zoneBlocks); n <= last; n++) yield n;
  }
}

/**
 * Exclusive and vacant zones for `rid` from all log_trees items in the order of keys.
 */
export async function chooseZones(items: AsyncIterable<{ lt: LogTrees }>, rid: bigint,
  zoneBlocks: number, totalBlocks: number): Promise<{ exclusive: ZoneBits; vacant: ZoneBits }> {
  const exclusive = new ZoneBits();
  const vacant = new ZoneBits();
  const nr = Math.min(Math.ceil(totalBlocks / zoneBlocks), DATA_ALLOC_MAX_ZONES);
  for (let z = 0; z < nr; z++) vacant.set(z);
  for await (const { lt } of items) {
    for (const z of zonesOfItem(lt, zoneBlocks, totalBlocks)) {
      vacant.clear(z);
      if (lt.rid === rid) exclusive.set(z);
      else exclusive.clear(z);
    }
  }
  return { exclusive, vacant };
}
