/**
 * The lines that the offline commands print about a volume: a label, padded, and
 * its value. And the same as an object for `--json`.
 *
 * Spec: cli.md 1.4, mkfs.md 5.
 */
import { BLOCK_LG_SIZE, BLOCK_SM_SIZE } from '../core/format.js';
import type { SuperBlock } from '../core/format.js';
import { addrText, configuredSlots } from '../disk/quorum_slots.js';
import { countText } from '../disk/sizes.js';
import { uuidText } from '../disk/super.js';

export type VolumeLine = [label: string, value: string];

/** Hexadecimal without padding: how the commands show an fsid. */
export function fsidText(sb: SuperBlock): string {
  return sb.hdr.fsid.toString(16);
}

export function pathLines(meta: string, data?: string): VolumeLine[] {
  const lines: VolumeLine[] = [['meta device path', meta]];
  if (data !== undefined) lines.push(['data device path', data]);
  return lines;
}

export function identityLines(sb: SuperBlock): VolumeLine[] {
  return [['fsid', fsidText(sb)], ['uuid', uuidText(sb.uuid)]];
}

export function sizeLines(sb: SuperBlock): VolumeLine[] {
  return [
    ['format version', String(sb.fmtVers)],
    ['64KB metadata blocks', countText(sb.totalMetaBlocks, BLOCK_LG_SIZE)],
    ['4KB data blocks', countText(sb.totalDataBlocks, BLOCK_SM_SIZE)],
  ];
}

export function quorumLines(sb: SuperBlock): VolumeLine[] {
  const slots = configuredSlots(sb.qconf.slots)
    .map((s) => `${s.nr}: ${addrText(s.addr)}:${s.port}`);
  return [
    ['quorum config version', String(sb.qconf.version)],
    ...slots.map((text, i): VolumeLine => [i === 0 ? 'quorum slots' : '', text]),
  ];
}

/** A heading, then each line with its value in column `width`. */
export function formatLines(heading: string, lines: readonly VolumeLine[], width: number): string {
  const body = lines.map(([label, value]) =>
    `  ${(label === '' ? '' : `${label}:`).padEnd(width - 2)}${value}`);
  return [heading, ...body].join('\n');
}

/** What `--json` says about a volume. */
export function volumeJson(sb: SuperBlock): object {
  return {
    fsid: fsidText(sb),
    uuid: uuidText(sb.uuid),
    formatVersion: sb.fmtVers,
    totalMetaBlocks: sb.totalMetaBlocks,
    totalDataBlocks: sb.totalDataBlocks,
    quorumConfigVersion: sb.qconf.version,
    quorumSlots: configuredSlots(sb.qconf.slots)
      .map((s) => ({ nr: s.nr, addr: addrText(s.addr), port: s.port })),
  };
}
