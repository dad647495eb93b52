/**
 * Signs that a volume is mounted somewhere, as the offline tools look for them: a
 * recorded client, or a quorum member that has begun and not ended. Good enough
 * against mistakes, no lock.
 *
 * Spec: mkfs.md 8.1, cli.md 1.5.
 */
import {
  AF_NONE, QUORUM_BLKNO, QUORUM_EVENT_BEGIN, QUORUM_EVENT_END, QuorumBlockEvent,
} from '../core/format.js';
import type { SuperBlock } from '../core/format.js';
import type { Device } from '../env/device.js';
import { ScoutfsError } from '../observe/errors.js';
import { readBlock, viewOf } from './block.js';

/** Offset of `events` in a quorum block. */
const EVENTS_OFFSET = 40;

/** `write_nr` of one event; raw, since the block is not verified. */
function writeNr(v: DataView, event: number): bigint {
  return v.getBigUint64(EVENTS_OFFSET + event * QuorumBlockEvent.size, true);
}

function eventText(v: DataView, name: string, event: number): string {
  const o = EVENTS_OFFSET + event * QuorumBlockEvent.size;
  const rid = v.getBigUint64(o + 8, true).toString(16).padStart(16, '0');
  return `${name} event: rid ${rid} term ${v.getBigUint64(o + 16, true)} ` +
    `write_nr ${writeNr(v, event)}`;
}

/** @throws IN_USE (EBUSY) with the sign that was found; DEVICE_IO (EIO) */
export async function checkNotInUse(meta: Device, sb: SuperBlock): Promise<void> {
  if (sb.mountedClients.ref.blkno !== 0) {
    throw new ScoutfsError('IN_USE', 'EBUSY', {
      message: `${meta.path}: the volume has mounted clients`,
    });
  }
  for (const [slot, { addr }] of sb.qconf.slots.entries()) {
    if (addr.family === AF_NONE) continue;
    const v = viewOf(await readBlock(meta, 'small', QUORUM_BLKNO + slot));
    if (writeNr(v, QUORUM_EVENT_BEGIN) > writeNr(v, QUORUM_EVENT_END)) {
      throw new ScoutfsError('IN_USE', 'EBUSY', {
        message: `${meta.path}: quorum slot ${slot} is in use: ` +
          `${eventText(v, 'begin', QUORUM_EVENT_BEGIN)}, ` +
          eventText(v, 'end', QUORUM_EVENT_END),
      });
    }
  }
}
