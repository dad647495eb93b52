/**
 * `scoutfs check`: walks a whole volume at rest and holds it against the format.
 *
 * Exit status as of grep(1): 0 the volume is sound, 1 it is damaged, 2 it could not
 * be checked. Nothing is written. On a terminal a progress bar goes to standard
 * error.
 */
import { KINDS, checkVolume } from '../disk/check.js';
import type { CheckReport, Finding, FindingId } from '../disk/check.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { parseInRange } from './values.js';
import { forReading, withPair } from './with_devices.js';

const USAGE_STATUS = 2;
const MAX_FINDINGS_LIMIT = 1_000_000;
const DEFAULT_MAX_FINDINGS = '1000';
/** Progress is shown at most this often. */
const PROGRESS_PER_SECOND = 5;

type Progress = (done: number, total: number) => void;

/** A progress bar on a terminal, else nothing. */
async function startProgress(wanted: boolean): Promise<{ update?: Progress; stop: () => void }> {
  if (!wanted) return { stop: () => undefined };
  const { SingleBar } = await import('cli-progress');
  const bar = new SingleBar({
    format: 'checking {bar} {percentage}% of {total} metadata blocks',
    stream: process.stderr, fps: PROGRESS_PER_SECOND, clearOnComplete: true, hideCursor: true,
  });
  bar.start(0, 0);
  return {
    update: (done, total) => {
      bar.setTotal(total);
      bar.update(done);
    },
    stop: () => { bar.stop(); },
  };
}

function findingLine(f: Finding): string {
  const where = [
    f.path === undefined ? '' : ` path '${f.path}'`,
    f.key === undefined ? '' : ` key ${f.key}`,
  ].join('');
  return `${f.id}: ${f.message}${where}`;
}

function isFindingId(id: string): id is FindingId {
  return id in KINDS;
}

/** How often each kind was met, with what it means. */
function countLines(report: CheckReport): string[] {
  return Object.entries(report.summary.counts).map(([id, n]) =>
    `  ${String(n).padStart(10)} ${id}: ${isFindingId(id) ? KINDS[id] : ''}`);
}

function summaryLines({ summary: s }: CheckReport): string[] {
  return [
    `  metadata blocks: ${s.metaBlocks}, ${s.usedMetaBlocks} used, ${s.freeMetaBlocks} free, ` +
      `${s.lostMetaBlocks} lost`,
    `  data blocks:     ${s.dataBlocks}, ${s.mappedDataBlocks} mapped, ${s.freeDataBlocks} free`,
    `  items:           ${s.items} in ${s.btreeBlocks} btree blocks`,
    `  inodes:          ${s.inodes}, ${s.directories} directories, ${s.orphans} orphans`,
    `  entries:         ${s.entries}, ${s.xattrs} xattrs, ${s.extents} extents, ` +
      `${s.srchEntries} search entries`,
    `  log trees:       ${s.logTrees}, ${s.mountedClients} mounted clients`,
  ];
}

function show(report: CheckReport, args: Args, io: CommandIo): void {
  for (const f of report.findings) io.out(findingLine(f));
  if (args.flag('verbose')) for (const n of report.notes) io.out(`note: ${findingLine(n)}`);
  const kinds = countLines(report);
  if (kinds.length > 0) io.out(['Found:', ...kinds].join('\n'));
  io.out(['Volume:', ...summaryLines(report)].join('\n'));
  io.out(report.findings.length === 0 ? 'The volume is sound.' : 'The volume is damaged.');
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const maxFindings = parseInRange(args.value('max-findings') ?? DEFAULT_MAX_FINDINGS,
    'max-findings', 1, MAX_FINDINGS_LIMIT);
  const progress = await startProgress(process.stderr.isTTY && !args.flag('quiet'));
  try {
    const report = await withPair(io.env, forReading(args.positional(0)),
      forReading(args.positional(1)), (meta, data) => checkVolume(meta, data, {
        maxFindings, ...(progress.update === undefined ? {} : { onProgress: progress.update }),
      }));
    progress.stop();
    if (!args.flag('quiet')) show(report, args, io);
    io.result(report);
    return report.findings.length === 0 ? 0 : 1;
  } finally {
    progress.stop();
  }
}

export const checkCommand: CommandSpec = {
  name: 'check',
  group: 'User space',
  args: ['META-DEVICE', 'DATA-DEVICE'],
  description: 'Check the metadata of a filesystem that is not mounted',
  options: [
    { short: 'v', long: 'verbose', description: 'Show notes too: unusual, but no damage' },
    { short: 'q', long: 'quiet', description: 'Only set the exit status' },
    { long: 'max-findings', value: 'N',
      description: 'How many findings are shown at most (1000); all are counted' },
  ],
  json: true,
  usageStatus: USAGE_STATUS,
  failureStatus: USAGE_STATUS,
  run,
};
