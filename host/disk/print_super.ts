/**
 * The dump's text of super block and quorum blocks.
 *
 * Scripts read `fmt_vers <n> uuid <uuid>`, `total_meta_blocks` and `next_ino` from
 * it. Spec: cli.md 1.4 (print).
 */
import {
  AF_IPV4, QUORUM_BLKNO, QUORUM_EVENT_NR, QuorumBlockEvent,
} from '../core/format.js';
import type { BtreeRoot, SuperBlock } from '../core/format.js';
import { viewOf } from './block.js';
import {
  allocRootText, headerText, hex16, listHeadText, rootText, word,
} from './print_text.js';
import { addrText } from './quorum_slots.js';
import { uuidText } from './super.js';

const EVENT_NAMES = ['begin', 'term', 'elect', 'fence', 'stop', 'end'] as const;
const EVENT_NAME_WIDTH = 14;
const EVENTS_OFFSET = 40;
const WRITE_NR_OFFSET = 32;

/** Name of an event of a quorum block by its index. */
export function eventName(event: number): string {
  return EVENT_NAMES[event] ?? String(event);
}

function quorumSlots(sb: SuperBlock): string[] {
  return sb.qconf.slots.flatMap(({ addr }, nr) => addr.family === AF_IPV4
    ? [`    quorum slot ${String(nr).padStart(2)}: ${addrText(addr.addr)}:${addr.port}`] : []);
}

function volumeOptions(sb: SuperBlock): string[] {
  const lines = ['  volume options:', `    set_bits: ${hex16(sb.volopt.setBits)}`];
  if ((sb.volopt.setBits & 1n) !== 0n) {
    lines.push(`    data_alloc_zone_blocks: ${sb.volopt.dataAllocZoneBlocks}`);
  }
  return lines;
}

/** Text of a super block, given with its bytes. */
export function superText(block: Uint8Array, sb: SuperBlock): string {
  const trees: [string, BtreeRoot][] = [
    ['fs_root', sb.fsRoot], ['logs_root', sb.logsRoot], ['log_merge', sb.logMerge],
    ['mounted_clients', sb.mountedClients], ['srch_root', sb.srchRoot],
  ];
  return `${[
    `super blkno ${sb.hdr.blkno}`,
    `  ${headerText(block)}`,
    `  fmt_vers ${sb.fmtVers} uuid ${uuidText(sb.uuid)}`,
    `  flags: 0x${hex16(BigInt(sb.flags))}`,
    `  next_ino ${sb.nextIno} inode_count ${sb.inodeCount} seq ${sb.seq}`,
    `  total_meta_blocks ${sb.totalMetaBlocks} total_data_blocks ${sb.totalDataBlocks}`,
    ...sb.metaAlloc.map((r, i) => `  meta_alloc[${i}]: ${allocRootText(r)}`),
    `  data_alloc: ${allocRootText(sb.dataAlloc)}`,
    ...sb.serverMetaAvail.map((h, i) => `  server_meta_avail[${i}]: ${listHeadText(h)}`),
    ...sb.serverMetaFreed.map((h, i) => `  server_meta_freed[${i}]: ${listHeadText(h)}`),
    ...trees.map(([name, r]) => `  ${name}: ${rootText(r)}`),
    ...volumeOptions(sb),
    `  quorum config version ${sb.qconf.version}`,
    ...quorumSlots(sb),
  ].join('\n')}\n`;
}

/** One event as numbers, raw. */
export interface RawEvent {
  writeNr: bigint;
  rid: bigint;
  term: bigint;
  sec: bigint;
  nsec: number;
}

/** The events of a quorum block, which need not be valid. */
export function rawEvents(v: DataView): RawEvent[] {
  return Array.from({ length: QUORUM_EVENT_NR }, (_, i) => {
    const o = EVENTS_OFFSET + i * QuorumBlockEvent.size;
    return {
      writeNr: word(v, o), rid: word(v, o + 8), term: word(v, o + 16),
      sec: word(v, o + 24), nsec: v.getUint32(o + 32, true),
    };
  });
}

/** Text of the quorum block of a slot. */
export function quorumText(slot: number, block: Uint8Array): string {
  const v = viewOf(block);
  const events = rawEvents(v).map((e, i) =>
    `${eventName(i).padStart(EVENT_NAME_WIDTH)}: rid ${hex16(e.rid)} term ${e.term} ` +
    `write_nr ${e.writeNr} ts ${e.sec}.${String(e.nsec).padStart(8, '0')}`);
  return `${[
    `quorum blkno ${QUORUM_BLKNO + slot} (slot ${slot})`,
    `  ${headerText(block)}`,
    `  write_nr ${word(v, WRITE_NR_OFFSET)}`,
    ...events,
  ].join('\n')}\n`;
}
