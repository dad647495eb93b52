/**
 * `scoutfs mkfs`: makes an empty volume.
 *
 * Spec: cli.md 1.4, mkfs.md 1, 5.
 */
import { FORMAT_VERSION_MAX, FORMAT_VERSION_MIN } from '../core/format.js';
import { WARNING, metaSizeAdvice, slotAdvice } from '../disk/advice.js';
import { UNITS } from '../disk/block.js';
import type { BlockUnit } from '../disk/block.js';
import { mkfs } from '../disk/mkfs.js';
import { sizeText } from '../disk/sizes.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { UsageError } from './command.js';
import { parseCount, parseInRange, parseSize, parseSlots } from './values.js';
import { formatLines, identityLines, pathLines, quorumLines, sizeLines, volumeJson } from
  './volume_lines.js';
import { forChange, withPair } from './with_devices.js';

const VALUE_COLUMN = 26;

/** A size limit, rounded down to whole blocks with a note. */
function limit(args: Args, io: CommandIo, long: string, unit: BlockUnit): number {
  const text = args.value(long);
  if (text === undefined) return 0;
  const given = parseSize(text);
  const size = given - given % UNITS[unit].bytes;
  if (size !== given) {
    io.err(`${long} ${text} (${sizeText(given)}) is rounded down to ${size} bytes, ` +
      `a multiple of ${UNITS[unit].bytes}`);
  }
  return size;
}

function zoneBlocks(args: Args): { zoneBlocks?: number } {
  const text = args.value('data-alloc-zone-blocks');
  if (text === undefined) return {};
  const n = parseCount(text);
  if (n === 0) throw new UsageError('data-alloc-zone-blocks must not be 0');
  return { zoneBlocks: n };
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const slots = parseSlots(args.values('quorum-slot'));
  const opts = {
    slots,
    maxMetaBytes: limit(args, io, 'max-meta-size', 'large'),
    maxDataBytes: limit(args, io, 'max-data-size', 'small'),
    ...zoneBlocks(args),
    force: args.flag('force'),
    allowSmallSize: args.flag('allow-small-size'),
    fmtVers: parseInRange(args.value('format-version') ?? String(FORMAT_VERSION_MAX),
      'format-version', FORMAT_VERSION_MIN, FORMAT_VERSION_MAX),
  };
  const [metaPath, dataPath] = [args.positional(0), args.positional(1)];
  const sb = await withPair(io.env, forChange(metaPath), forChange(dataPath), (meta, data) =>
    mkfs(meta, data, opts, {
      clock: io.env.clock,
      random: io.env.random,
      remark: (stream, text) => { if (stream === 'out') io.out(text); else io.err(text); },
    }));
  io.out(formatLines('Created scoutfs filesystem:', [
    ...pathLines(metaPath, dataPath), ...identityLines(sb), ...sizeLines(sb), ...quorumLines(sb),
  ], VALUE_COLUMN));
  for (const line of [slotAdvice(slots.length), metaSizeAdvice(sb.totalMetaBlocks)]) {
    if (line !== null) io.err(WARNING + line);
  }
  io.result({ metaDevice: metaPath, dataDevice: dataPath, ...volumeJson(sb) });
  return 0;
}

export const mkfsCommand: CommandSpec = {
  name: 'mkfs',
  group: 'Core admin',
  args: ['META-DEVICE', 'DATA-DEVICE'],
  description: 'Initialize a new ScoutFS filesystem',
  options: [
    { short: 'Q', long: 'quorum-slot', value: 'NR,ADDR,PORT',
      description: 'Configure a quorum slot; at least one is required' },
    { short: 'm', long: 'max-meta-size', value: 'SIZE',
      description: 'Use at most this much of the metadata device' },
    { short: 'd', long: 'max-data-size', value: 'SIZE',
      description: 'Use at most this much of the data device' },
    { short: 'z', long: 'data-alloc-zone-blocks', value: 'BLOCKS',
      description: 'Divide the data device into zones of this many 4KB blocks' },
    { short: 'f', long: 'force', description: 'Do not look for existing contents' },
    { short: 'A', long: 'allow-small-size',
      description: 'Allow devices below the minimum size' },
    { short: 'V', long: 'format-version', value: 'VERSION',
      description: 'Format version, 1 or 2 (default)' },
  ],
  json: true,
  run,
};
