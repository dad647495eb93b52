/**
 * `scoutfs print`: dumps the metadata of a volume as text.
 *
 * With `--json` the walk is the same and the output is the super block, the quorum
 * blocks, the mounts' log trees and the srch files as one object.
 *
 * Spec: cli.md 1.4.
 */
import { QUORUM_BLKNO, QUORUM_BLOCKS } from '../core/format.js';
import { readBlock, viewOf } from '../disk/block.js';
import type { Device } from '../env/device.js';
import { printVolume } from '../disk/print.js';
import type { PrintResult } from '../disk/print.js';
import { eventName, rawEvents } from '../disk/print_super.js';
import { uuidText } from '../disk/super.js';
import { ScoutfsError } from '../observe/errors.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { fsidText } from './volume_lines.js';
import { forReading, withDevice } from './with_devices.js';

/** Text is written in pieces of about this many characters. */
const PIECE_CHARS = 1 << 20;

/** Collects small pieces of text, since a dump has many. */
function buffered(write: (text: string) => void): { add(text: string): void; end(): void } {
  let pieces: string[] = [];
  let chars = 0;
  const end = (): void => {
    write(pieces.join(''));
    pieces = [];
    chars = 0;
  };
  return {
    end,
    add(text) {
      pieces.push(text);
      chars += text.length;
      if (chars >= PIECE_CHARS) end();
    },
  };
}

async function quorumJson(meta: Device): Promise<object[]> {
  const blocks: object[] = [];
  for (let slot = 0; slot < QUORUM_BLOCKS; slot++) {
    const v = viewOf(await readBlock(meta, 'small', QUORUM_BLKNO + slot));
    blocks.push({
      slot,
      events: Object.fromEntries(rawEvents(v).map((e, i) => [eventName(i), e])),
    });
  }
  return blocks;
}

function resultJson({ problems, sb, logTrees, srchFiles }: PrintResult, quorum: object[]): object {
  return {
    super: { ...sb, fsid: fsidText(sb), uuid: uuidText(sb.uuid) },
    quorumBlocks: quorum, logTrees, srchFiles, problems,
  };
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const path = args.positional(0);
  return withDevice(io.env, forReading(path), async (meta) => {
    const text = buffered((t) => { io.write(t); });
    let result: PrintResult;
    try {
      result = printVolume(meta, {
        skipLikelyHuge: args.flag('skip-likely-huge'), write: (t) => { text.add(t); },
      });
    } finally {
      text.end();
    }
    if (io.json) io.result(resultJson(result, await quorumJson(meta)));
    if (result.problems > 0) {
      throw new ScoutfsError('PRINT_PROBLEMS', 'EIO', {
        message: `${path}: ${result.problems} problems, see the lines beginning with !!`,
      });
    }
    return 0;
  });
}

export const printCommand: CommandSpec = {
  name: 'print',
  group: 'Debugging commands',
  args: ['META-DEVICE'],
  description: 'Print metadata structures',
  options: [
    { short: 'S', long: 'skip-likely-huge',
      description: 'Leave out free data extents, srch files and file system items' },
  ],
  json: true,
  run,
};
