/**
 * Reaching a mounted file system: opening a path in it and asking it by ioctl.
 *
 * Commands with `-p PATH` use that path, else the environment variable
 * SCOUTFS_MOUNT_PATH, else the working directory. Any file or directory of the mount
 * will do. They work on our mounts and on those of a kernel module, whose ioctls have
 * the same numbers. Spec: cli.md 1.3; ioctl.md 3.
 */
import * as fs from 'node:fs';
import { addressOf, ioctl } from '../env/ioctl.js';
import {
  ALLOC_ENTRY_BYTES, IOC_ALLOC_DETAIL, IOC_RESIZE_DEVICES, IOC_STATFS_MORE, IOC_STAT_MORE,
} from '../fs/ioctl.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { strerrorNr } from '../observe/strerror.js';
import type { Args, OptionSpec } from './command.js';

export const PATH_OPTION: OptionSpec = {
  short: 'p', long: 'path', value: 'PATH',
  description: 'A path in the filesystem (default: SCOUTFS_MOUNT_PATH or the working directory)',
};

const STAT_MORE_BYTES = 56;
const STATFS_MORE_BYTES = 48;
const ALLOC_DETAIL_BYTES = 16;
const RESIZE_DEVICES_BYTES = 16;
/** Pools asked for at first; a quarter more each time that is too few. */
const POOLS_FIRST = 170;

/** The path that a command with `-p` works on. */
export function pathOf(args: Args): string {
  return args.value('path') ?? process.env['SCOUTFS_MOUNT_PATH'] ?? '.';
}

/** Opens a path read-only, runs `fn`, closes it. @throws what opening and `fn` throw */
export function withOpen<T>(path: string, fn: (fd: number) => T): T {
  let fd: number;
  try {
    fd = fs.openSync(path, 'r');
  } catch (e) {
    const { errno } = asScoutfsError(e);
    throw new ScoutfsError(errno, errno, {
      message: `failed to open '${path}': ${strerrorNr(errno)}`, cause: e,
    });
  }
  try {
    return fn(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** The fields in the order in which they are shown. */
export interface StatMore {
  meta_seq: bigint;
  data_seq: bigint;
  data_version: bigint;
  online_blocks: bigint;
  offline_blocks: bigint;
  /** `<seconds>.<9 digits>` */
  crtime: string;
}

/** @throws the ioctl's error */
export function statMore(fd: number): StatMore {
  const v = ask(fd, IOC_STAT_MORE, STAT_MORE_BYTES);
  const u64 = (i: number): bigint => v.getBigUint64(8 * i, true);
  return {
    meta_seq: u64(0), data_seq: u64(1), data_version: u64(2), online_blocks: u64(3),
    offline_blocks: u64(4), crtime: `${u64(5)}.${String(v.getUint32(48, true)).padStart(9, '0')}`,
  };
}

export interface StatfsMore {
  fsid: bigint;
  rid: bigint;
  committed_seq: bigint;
  total_meta_blocks: bigint;
  total_data_blocks: bigint;
  reserved_meta_blocks: bigint;
}

/** @throws the ioctl's error */
export function statfsMore(fd: number): StatfsMore {
  const v = ask(fd, IOC_STATFS_MORE, STATFS_MORE_BYTES);
  const u64 = (i: number): bigint => v.getBigUint64(8 * i, true);
  return {
    fsid: u64(0), rid: u64(1), committed_seq: u64(2), total_meta_blocks: u64(3),
    total_data_blocks: u64(4), reserved_meta_blocks: u64(5),
  };
}

/** Sizes in 64 KiB and 4 KiB blocks, 0 for no change. @throws the ioctl's error */
export function resizeDevices(fd: number, metaBlocks: number, dataBlocks: number): void {
  const arg = new DataView(new ArrayBuffer(RESIZE_DEVICES_BYTES));
  arg.setBigUint64(0, BigInt(metaBlocks), true);
  arg.setBigUint64(8, BigInt(dataBlocks), true);
  ioctl(fd, IOC_RESIZE_DEVICES, new Uint8Array(arg.buffer));
}

/** One pool of free space. */
export interface Pool {
  id: bigint;
  blocks: bigint;
  meta: boolean;
  avail: boolean;
}

/** All pools of free space. @throws the ioctl's error */
export function allocDetail(fd: number): Pool[] {
  for (let nr = POOLS_FIRST; ; nr += Math.ceil(nr / 4)) {
    const entries = new Uint8Array(nr * ALLOC_ENTRY_BYTES);
    const arg = new DataView(new ArrayBuffer(ALLOC_DETAIL_BYTES));
    arg.setBigUint64(0, addressOf(entries), true);
    arg.setBigUint64(8, BigInt(nr), true);
    try {
      const got = ioctl(fd, IOC_ALLOC_DETAIL, new Uint8Array(arg.buffer));
      return pools(new DataView(entries.buffer), got);
    } catch (e) {
      if (asScoutfsError(e).errno !== 'EOVERFLOW') throw e;
    }
  }
}

function pools(v: DataView, nr: number): Pool[] {
  return Array.from({ length: nr }, (_, i) => {
    const o = i * ALLOC_ENTRY_BYTES;
    const flags = v.getUint8(o + 17);
    return {
      id: v.getBigUint64(o, true), blocks: v.getBigUint64(o + 8, true),
      meta: (flags & 1) !== 0, avail: (flags & 2) !== 0,
    };
  });
}

function ask(fd: number, cmd: number, lenBytes: number): DataView {
  const bytes = new Uint8Array(lenBytes);
  ioctl(fd, cmd, bytes);
  return new DataView(bytes.buffer);
}
