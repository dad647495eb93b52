/**
 * The vectors of whole volumes: what they were made from, and their bytes.
 */
import type { MkfsOptions } from '../../host/disk/mkfs.js';
import { hexBytes } from './hex.js';

export interface BlockVector {
  device: 'meta' | 'data';
  byte_offset: number;
  size: number;
  blkno: number;
  crc: string;
  sha256: string;
  nonzero_runs?: [number, string][];
}

export interface VolumeVector {
  name: string;
  inputs: {
    meta_device_bytes: number;
    data_device_bytes: number;
    format_version: number;
    quorum_slots: { nr: number; addr: string; port: number }[];
    data_alloc_zone_blocks: number;
    allow_small_size: boolean;
    fsid: string;
    uuid: string;
    time_sec: number;
    time_usec: number;
  };
  blocks: BlockVector[];
  stdout: string;
  stderr: string;
}

export interface OfflineVector {
  step: string;
  device: 'meta' | 'data';
  crc: string;
  sha256: string;
}

export interface VolumeVectors {
  volumes: VolumeVector[];
  offline_tools: OfflineVector[];
}

/** Host-order integer of a dotted quad. */
export function addrOf(text: string): number {
  return text.split('.').reduce((n, part) => n * 256 + Number(part), 0);
}

/** The options that make the volume of a vector. */
export function optionsOf({ inputs }: VolumeVector): MkfsOptions {
  return {
    slots: inputs.quorum_slots.map((s) => ({ nr: s.nr, addr: addrOf(s.addr), port: s.port })),
    fmtVers: inputs.format_version,
    allowSmallSize: inputs.allow_small_size,
    fsid: BigInt(`0x${inputs.fsid}`),
    uuid: hexBytes(inputs.uuid),
    now: { sec: inputs.time_sec, nsec: inputs.time_usec * 1000 },
    ...(inputs.data_alloc_zone_blocks === 0 ? {} : { zoneBlocks: inputs.data_alloc_zone_blocks }),
  };
}
