/**
 * `scoutfs df`: how much of both devices is used.
 *
 * Free space is the sum of all pools; of metadata the reserve that nobody may use is
 * taken off. Spec: cli.md 1.4.
 */
import { BLOCK_LG_SIZE, BLOCK_SM_SIZE } from '../core/constants.js';
import { sizeText } from '../disk/sizes.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import type { Pool, StatfsMore } from './mounted.js';
import { PATH_OPTION, allocDetail, pathOf, statfsMore, withOpen } from './mounted.js';

/** What is used of one device, in blocks. */
export interface Usage {
  name: string;
  blockBytes: number;
  total: bigint;
  used: bigint;
  free: bigint;
  /** whole percent, rounded down */
  percent: bigint;
}

function usage(name: string, blockBytes: number, total: bigint, free: bigint): Usage {
  const used = total - free;
  return { name, blockBytes, total, used, free, percent: total === 0n ? 0n : used * 100n / total };
}

/** Both devices, metadata first. */
export function usages(s: StatfsMore, pools: readonly Pool[]): Usage[] {
  const sum = (meta: boolean): bigint =>
    pools.reduce((n, p) => p.meta === meta ? n + p.blocks : n, 0n);
  const meta = sum(true);
  const free = meta > s.reserved_meta_blocks ? meta - s.reserved_meta_blocks : 0n;
  return [
    usage('MetaData', BLOCK_LG_SIZE, s.total_meta_blocks, free),
    usage('Data', BLOCK_SM_SIZE, s.total_data_blocks, sum(false)),
  ];
}

/** Three lines of six columns, each right-aligned and followed by two spaces. */
export function usageLines(devices: readonly Usage[], human: boolean): string[] {
  const rows = [['Type', 'Size', 'Total', 'Used', 'Free', 'Use%']];
  for (const u of devices) {
    const count = (n: bigint): string =>
      human ? sizeText(Number(n) * u.blockBytes) : String(n);
    rows.push([u.name, `${u.blockBytes / 1024}KB`, count(u.total), count(u.used), count(u.free),
      String(u.percent)]);
  }
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((r) => r[i]?.length ?? 0))) ?? [];
  return rows.map((r) => r.map((cell, i) => `${cell.padStart(widths[i] ?? 0)}  `).join(''));
}

function orEio<T>(what: string, fn: () => T): T {
  try {
    return fn();
  } catch (e) {
    throw new ScoutfsError('EIO', 'EIO', {
      message: `${what} ioctl failed: ${asScoutfsError(e).message}`, cause: e,
    });
  }
}

function run(args: Args, io: CommandIo): Promise<number> {
  const devices = withOpen(pathOf(args), (fd) => usages(
    orEio('statfs_more', () => statfsMore(fd)), orEio('alloc_detail', () => allocDetail(fd))));
  for (const line of usageLines(devices, args.flag('human-readable'))) io.out(line);
  io.result({ devices });
  return Promise.resolve(0);
}

export const dfCommand: CommandSpec = {
  name: 'df',
  group: 'Core admin',
  args: [],
  description: 'Show total, used and free space of both devices',
  options: [
    PATH_OPTION,
    { short: 'h', long: 'human-readable', description: 'Sizes in units instead of blocks' },
  ],
  json: true,
  run: async (args, io) => run(args, io),
};
