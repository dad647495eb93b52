/**
 * `scoutfs check`: is a volume what the format says it must be?
 *
 * An independent reader of both devices, sharing nothing with the core but the
 * codecs. It walks everything reachable from the super block once and holds it
 * against the rules of the format, then places every block of both devices exactly
 * once. It never writes. Damage becomes a finding with a stable id; what upstream
 * or a crash normally leaves behind becomes a note (check/report.ts has the list).
 *
 *   super, quorum  ->  log trees, merge, clients  ->  fs items  ->  srch  ->  free space
 *                                                                      |
 *                    second pass, only to name what the ledger      lost blocks
 *                    found uneven (check/ledger.ts)
 *
 * The devices are not trusted: every reference, count and length is checked before
 * use, no block is walked twice, and memory is bounded by a budget. Damage in one
 * part does not end the check; cross checks that need the unreadable part are left
 * out and a note says so. Spec: alloc.md 9.1 and the invariants of each subject.
 */
import type { SuperBlock } from '../core/format.js';
import type { Device } from '../env/device.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { DataMap, MetaMap } from './check/accounting.js';
import { checkAllocList, checkAllocRoot } from './check/alloc.js';
import { BlockReader } from './check/blocks.js';
import type { Block } from './check/blocks.js';
import { BtreeBlockCheck } from './check/btree.js';
import { emptySummary } from './check/context.js';
import type { CheckReport, CheckSummary, Context } from './check/context.js';
import { checkFs } from './check/fs.js';
import type { FsResult } from './check/fs.js';
import { Ledger } from './check/ledger.js';
import { checkClients, checkLogSpace, readLogTrees } from './check/logs.js';
import type { LogTree } from './check/logs.js';
import { reportLost } from './check/lost.js';
import { MemoryBudget } from './check/memory.js';
import { checkMergeBlocks, inputSeq, readMerge } from './check/merge.js';
import { reportMismatches } from './check/mismatch.js';
import { namePaths } from './check/paths.js';
import { Reporter } from './check/report.js';
import { checkSrch } from './check/srch.js';
import { checkQuorumBlocks, checkSupers } from './check/super.js';

export type { CheckReport, CheckSummary } from './check/context.js';
export { KINDS } from './check/report.js';
export type { Finding, FindingId } from './check/report.js';

const MEMORY_LIMIT_BYTES = 1024 * 1024 * 1024;
const FINDINGS_MAX = 1000;
/** Ledger ids of the super block's allocators; those of log trees follow. */
const FIRST_LOG_ALLOC_ID = 4;

export interface CheckOptions {
  /** Told the metadata blocks read and about how many there are to read. */
  onProgress?: (done: number, total: number) => void;
  /** Default 1 GiB. */
  memoryLimitBytes?: number;
  /** How many findings and how many notes are kept; counts stay complete. Default 1000. */
  maxFindings?: number;
}

/**
 * Checks the volume on two devices without writing to them.
 * @throws CHECK_MEMORY (ENOMEM) when the memory limit does not suffice
 */
export function checkVolume(meta: Device, data: Device, opts: CheckOptions = {}):
Promise<CheckReport> {
  return new Promise((resolve) => { resolve(new Check(meta, data, opts).run()); });
}

class Check {
  private readonly report: Reporter;
  private readonly memory: MemoryBudget;
  private readonly summary = emptySummary();
  private quorumRids = new Set<bigint>();
  private fs: FsResult = { liveInodes: 0, leaked: new Set(), parents: new Map() };
  private logDelta = 0n;
  private logs: LogTree[] = [];
  private inputSeq = 0;
  private readonly pool: Block[] = [];

  constructor(private readonly meta: Device, private readonly data: Device,
    private readonly opts: CheckOptions) {
    this.report = new Reporter(opts.maxFindings ?? FINDINGS_MAX);
    this.memory = new MemoryBudget(opts.memoryLimitBytes ?? MEMORY_LIMIT_BYTES);
  }

  run(): CheckReport {
    const sb = checkSupers(this.meta, this.data, this.report);
    if (sb !== null) this.volume(sb);
    for (const [id, n] of this.report.counts) this.summary.counts[id] = n;
    const { findings, notes } = this.report;
    return { findings, notes, summary: this.summary };
  }

  private volume(sb: SuperBlock): void {
    this.quorumRids = checkQuorumBlocks(this.meta, sb, this.report);
    const ledger = new Ledger(this.memory);
    const ctx = this.context(sb, this.report, ledger, this.summary,
      MetaMap.make(sb.totalMetaBlocks, this.report, this.memory),
      new DataMap(sb.totalDataBlocks, this.memory));
    const baseBytes = this.memory.used;
    this.pass(ctx);
    ctx.reader.progress();
    this.finish(ctx);
    // Further walks neither report nor claim anything.
    let { meta } = ctx;
    const quiet = (into: Ledger): Context => {
      this.memory.resetTo(baseBytes);
      const mute = new Reporter(0);
      meta = meta.recycle(mute);
      return this.context(sb, mute, into, emptySummary(), meta,
        new DataMap(sb.totalDataBlocks, this.memory, true));
    };
    const { leaked } = this.fs;
    if (ledger.uneven) {
      ledger.startCollecting();
      this.pass(quiet(ledger));
    }
    reportMismatches(ctx, ledger, leaked);
    if (ctx.gaps.length > 0) return;
    this.part(ctx, 'paths', () => {
      namePaths([...this.report.findings, ...this.report.notes],
        () => quiet(new Ledger(this.memory)), this.logs, this.inputSeq, this.fs.parents);
    });
  }

  private context(sb: SuperBlock, report: Reporter, ledger: Ledger, summary: CheckSummary,
    meta: MetaMap, data: DataMap): Context {
    const { memory } = this;
    const expectBlocks = Math.max(1, sb.totalMetaBlocks
      - sb.metaAlloc.reduce((n, a) => n + a.totalLen, 0)
      - [...sb.serverMetaAvail, ...sb.serverMetaFreed].reduce((n, h) => n + h.totalNr, 0));
    const onProgress = report === this.report ? this.opts.onProgress : undefined;
    return {
      sb, report, ledger, memory, summary, meta, data, gaps: [], unreadBlocks: 0,
      unreadSrchBlocks: 0, blockCheck: new BtreeBlockCheck(report),
      reader: new BlockReader(this.meta, sb.hdr.fsid, sb.totalMetaBlocks, report, memory,
        expectBlocks, onProgress, this.pool),
    };
  }

  /** Walks everything once. */
  private pass(ctx: Context): void {
    const logs = this.part(ctx, 'log trees', () => readLogTrees(ctx)) ?? [];
    const merge = this.part(ctx, 'the log merge', () => readMerge(ctx))
      ?? { status: null, ranges: [], requests: [], completions: [], freeing: [] };
    this.part(ctx, 'mounted clients', () => { checkClients(ctx, logs, this.quorumRids); });
    const fs = this.part(ctx, 'the file system', () => checkFs(ctx, logs, inputSeq(merge)));
    if (fs !== null) this.fs = fs;
    else ctx.gaps.push([0, Infinity]);
    this.part(ctx, 'merged blocks', () => { checkMergeBlocks(ctx, merge); });
    this.part(ctx, 'srch files', () => { checkSrch(ctx, logs); });
    this.part(ctx, 'free space', () => { this.freeSpace(ctx); });
    logs.forEach((log, i) => {
      this.part(ctx, `space of ${log.name}`, () => {
        checkLogSpace(ctx, log, FIRST_LOG_ALLOC_ID + 2 * i);
      });
    });
    this.logs = logs;
    this.inputSeq = inputSeq(merge);
    this.logDelta = logs.reduce((n, { lt }) => n + lt.inodeCountDelta, 0n);
  }

  private freeSpace(ctx: Context): void {
    const { sb, summary } = ctx;
    const before = summary.btreeBlocks;
    sb.metaAlloc.forEach((root, i) => {
      checkAllocRoot(ctx, { root, name: `meta_alloc[${i}]`, unit: 'meta', id: i });
    });
    summary.metaAllocBlocks += summary.btreeBlocks - before;
    checkAllocRoot(ctx, { root: sb.dataAlloc, name: 'data_alloc', unit: 'data', id: 2 });
    const lists = { server_meta_avail: sb.serverMetaAvail, server_meta_freed: sb.serverMetaFreed };
    for (const [name, heads] of Object.entries(lists)) {
      heads.forEach((head, i) => {
        checkAllocList(ctx, { head, name: `${name}[${i}]`, place: 'a server block list' });
      });
    }
  }

  /** Runs one part; an error inside it is a finding and does not end the check. */
  private part<T>(ctx: Context, name: string, fn: () => T): T | null {
    try {
      return fn();
    } catch (e) {
      const err = asScoutfsError(e);
      if (err instanceof ScoutfsError && err.code === 'CHECK_MEMORY') throw err;
      ctx.unreadBlocks++;
      ctx.report.finding('CHK_INTERNAL', `${name} could not be checked: ${err.message}`);
      return null;
    }
  }

  /** What can only be said once everything was walked. */
  private finish(ctx: Context): void {
    const { sb, summary, report } = ctx;
    summary.metaBlocks = sb.totalMetaBlocks;
    summary.dataBlocks = sb.totalDataBlocks;
    summary.usedMetaBlocks = ctx.meta.usedBlocks;
    summary.freeMetaBlocks = ctx.meta.freeBlocks;
    if (ctx.gaps.length === 0) this.inodeCount(ctx);
    if (ctx.unreadBlocks + ctx.unreadSrchBlocks > 0) {
      report.note('CHK_SKIPPED', `${ctx.unreadBlocks + ctx.unreadSrchBlocks} blocks could not be `
        + 'followed: lost blocks and some cross checks are left out');
      return;
    }
    this.part(ctx, 'lost blocks', () => { reportLost(ctx); });
    let lost = 0;
    let first = -1;
    for (const [start, len] of ctx.data.unmarked()) {
      if (first === -1) first = start;
      lost += len;
    }
    if (lost > 0) {
      report.finding('CHK_DATA_LOST',
        `${lost} data blocks are neither mapped nor free, the first is ${first}`);
    }
  }

  private inodeCount(ctx: Context): void {
    const recorded = BigInt(ctx.sb.inodeCount) + this.logDelta;
    const { liveInodes, leaked } = this.fs;
    const most = BigInt(liveInodes);
    if (recorded <= most && recorded >= most - BigInt(leaked.size)) return;
    ctx.report.finding('CHK_INODE_COUNT',
      `${recorded} inodes are recorded, but there are ${liveInodes}`);
  }
}
