/**
 * Log trees and mounted clients: the records of who is or was writing.
 *
 * A log trees item belongs to one generation (`nr`) of one mount (`rid`). Only the
 * latest of a mount may be open; finalized ones own nothing but items and bloom
 * bits, waiting to be merged. What an open one records of its transaction is the
 * committed state: blocks the mount has written since are still in its lists.
 *
 * Spec: format.md 11 and 15.1, forest.md 1 to 5, alloc.md 9.1.
 */
import { BLOCK_MAGIC_BLOOM, FOREST_BLOOM_BITS, LOG_TREES_FINALIZED, LOG_TREES_ZONE, LogTrees,
  MOUNTED_CLIENT_QUORUM, MOUNTED_CLIENT_ZONE, MountedClientBtreeVal } from '../../core/format.js';
import type { AllocRoot, SrchFile } from '../../core/format.js';
import { bloomBits } from '../../core/keys.js';
import { checkAllocList, checkAllocRoot } from './alloc.js';
import { popcount } from './accounting.js';
import type { Block } from './blocks.js';
import { refOf } from './blocks.js';
import type { Context } from './context.js';
import { decodeItem } from './decode.js';
import { TreeCursor } from './cursor.js';
import { KEY_BYTES, bytesAt, lockStart, newKey, num, zoneOf } from './keys.js';

const BLOOM_HEADER_BYTES = 40;
const ZONES_MAX = 1024;

export interface LogTree {
  lt: LogTrees;
  name: string;
  finalized: boolean;
}

/** Steps through a server tree; items of the wrong key or size are reported and left out. */
export function* serverItems(ctx: Context, c: TreeCursor,
  sizeOf: (zone: number, type: number) => number | undefined): Generator<TreeCursor> {
  while (c.next()) {
    const zone = zoneOf(c.view, c.keyOff);
    const size = sizeOf(zone, c.view.getUint8(c.keyOff + 26));
    const where = { blkno: c.blkno, key: c.key };
    if (size === undefined) {
      ctx.report.finding('CHK_ITEM_KEY', `${c.spec.name} has an item that does not belong there`,
        where);
    } else if (c.valLen !== size) {
      ctx.report.finding('CHK_ITEM_VALUE',
        `${c.spec.name} has an item of ${c.valLen} bytes instead of ${size}`, where);
    } else {
      yield c;
    }
  }
}

/** Walks `logs_root`. */
export function readLogTrees(ctx: Context): LogTree[] {
  const logs: LogTree[] = [];
  const c = new TreeCursor(ctx, {
    root: ctx.sb.logsRoot, name: 'the tree of log trees', place: 'the tree of log trees',
    onGap: () => { loseLog(ctx); },
  });
  const size = (zone: number, type: number): number | undefined =>
    zone === LOG_TREES_ZONE && type === 0 ? LogTrees.size : undefined;
  for (const { view: v, keyOff, key, blkno } of serverItems(ctx, c, size)) {
    const lt = decodeItem(ctx, LogTrees, c);
    if (lt === null) {
      loseLog(ctx);
      continue;
    }
    const name = `log tree ${lt.rid.toString(16)}.${lt.nr}`;
    if (v.getBigUint64(keyOff, true) !== lt.rid || num(v, keyOff + 8) !== lt.nr || lt.nr === 0
      || num(v, keyOff + 16) !== 0) {
      ctx.report.finding('CHK_LOG_KEY', `${name} is stored under another key`, { key, blkno });
    }
    ctx.memory.charge(LogTrees.size * 4, 'the list of log trees');
    logs.push({ lt, name, finalized: (lt.flags & LOG_TREES_FINALIZED) !== 0 });
  }
  ctx.summary.logTrees = logs.length;
  logs.forEach((log, i) => {
    checkState(ctx, log, logs[i + 1]?.lt.rid === log.lt.rid);
  });
  return logs;
}

/** Any item may have a newer version in a log tree that cannot be found. */
function loseLog(ctx: Context): void {
  ctx.gaps.push([0, Infinity]);
  ctx.unreadSrchBlocks++;
}

const isEmptyRoot = (r: AllocRoot): boolean => r.totalLen === 0 && r.root.height === 0
  && r.root.ref.blkno === 0;
const isEmptySrch = (f: SrchFile): boolean => f.height === 0 && f.ref.blkno === 0
  && f.blocks === 0 && f.entries === 0;

function checkState(ctx: Context, log: LogTree, hasLater: boolean): void {
  const { lt, name } = log;
  const { report, sb } = ctx;
  if ((lt.flags & ~LOG_TREES_FINALIZED) !== 0) {
    report.finding('CHK_LOG_FLAGS', `${name} has flags ${lt.flags}`);
  }
  if (lt.getTransSeq < lt.commitTransSeq) {
    report.finding('CHK_LOG_SEQ', `${name} committed seq ${lt.commitTransSeq}, `
      + `but opened only ${lt.getTransSeq}`);
  }
  const most = Math.max(lt.getTransSeq, lt.finalizeSeq);
  if (most > sb.seq) {
    report.finding('CHK_SUPER_SEQ', `${name} has seq ${most}, the super block only ${sb.seq}`);
  }
  if (!log.finalized) {
    if (hasLater) report.finding('CHK_LOG_OPEN', `${name} is open, but not the mount's latest`);
    if (lt.finalizeSeq !== 0) {
      report.finding('CHK_LOG_FINALIZED', `${name} is open, but has a finalize seq`);
    }
    return;
  }
  const lists = [lt.metaAvail, lt.metaFreed];
  if (lists.some((h) => h.ref.blkno !== 0 || h.totalNr !== 0 || h.firstNr !== 0)
    || !isEmptyRoot(lt.dataAvail) || !isEmptyRoot(lt.dataFreed) || !isEmptySrch(lt.srchFile)) {
    report.finding('CHK_LOG_FINALIZED', `${name} is finalized, but still owns space or entries`);
  }
  if (lt.finalizeSeq === 0 || lt.commitTransSeq !== lt.getTransSeq) {
    report.finding('CHK_LOG_FINALIZED', `${name} is finalized with seqs ${lt.getTransSeq}, `
      + `${lt.commitTransSeq}, ${lt.finalizeSeq}`);
  }
}

/** The free space that a log tree owns. @param id tells its allocators apart in the ledger */
export function checkLogSpace(ctx: Context, log: LogTree, id: number): void {
  const { lt, name } = log;
  const place = 'a block list of a log tree';
  checkAllocList(ctx, { head: lt.metaAvail, name: `meta_avail of ${name}`, place });
  checkAllocList(ctx, { head: lt.metaFreed, name: `meta_freed of ${name}`, place });
  const zone = lt.dataAllocZoneBlocks;
  let uncovered = 0;
  checkAllocRoot(ctx, {
    root: lt.dataAvail, name: `data_avail of ${name}`, unit: 'data', id,
    onExtent: (start, len) => {
      if (zone === 0) return;
      for (let z = Math.floor(start / zone); z <= Math.floor((start + len - 1) / zone); z++) {
        const bit = ((lt.dataAllocZones[z >>> 6] ?? 0n) >> BigInt(z & 63)) & 1n;
        if (z >= ZONES_MAX || bit === 0n) uncovered++;
      }
    },
  });
  checkAllocRoot(ctx, { root: lt.dataFreed, name: `data_freed of ${name}`, unit: 'data',
    id: id + 1 });
  if (uncovered > 0 || (zone === 0 && lt.dataAllocZones.some((w) => w !== 0n))) {
    ctx.report.finding('CHK_LOG_ZONES', `the recorded zones do not cover data_avail of ${name}`);
  }
}

/** Holds the items of one log tree against its bloom filter and greatest seq. */
export class LogItemCheck {
  private readonly bloom: Block | null = null;
  private readonly lock = newKey();
  private readonly lastLock = newKey();
  private maxSeq = 0;
  private bloomMissed = false;

  constructor(private readonly ctx: Context, private readonly log: LogTree) {
    const { lt, name } = log;
    const { blkno } = lt.bloomRef;
    if (blkno === 0) {
      if (lt.itemRoot.height !== 0) {
        ctx.report.finding('CHK_BLOOM', `${name} has items, but no bloom filter`);
      }
      return;
    }
    if (ctx.reader.inRange(blkno) && !ctx.meta.use(blkno, 'a bloom filter')) return;
    this.bloom = ctx.reader.read(refOf(lt.bloomRef), BLOCK_MAGIC_BLOOM, `the bloom of ${name}`);
    if (this.bloom !== null) this.checkTotal(this.bloom);
  }

  item(c: TreeCursor): void {
    this.maxSeq = Math.max(this.maxSeq, c.seq);
    if (this.bloom === null || this.bloomMissed) return;
    const lock = lockStart(this.lock, c.view, c.keyOff);
    if (this.isLast(lock)) return;
    for (const b of bloomBits(bytesAt(lock, 0, KEY_BYTES))) {
      const byte = this.bloom.view.getUint8(BLOOM_HEADER_BYTES + (b >>> 3));
      if (((byte >>> (b & 7)) & 1) !== 0) continue;
      this.bloomMissed = true;
      this.ctx.report.finding('CHK_BLOOM',
        `the bloom filter of ${this.log.name} does not have the lock of an item`,
        { blkno: this.bloom.blkno, key: c.key });
      return;
    }
  }

  finish(): void {
    if (this.bloom !== null) this.ctx.reader.give(this.bloom);
    if (this.maxSeq > this.log.lt.maxItemSeq) {
      this.ctx.report.finding('CHK_LOG_SEQ', `${this.log.name} has an item with seq `
        + `${this.maxSeq}, but records ${this.log.lt.maxItemSeq} as the greatest`);
    }
  }

  private isLast(lock: DataView): boolean {
    let same = true;
    for (let i = 0; i < 32; i += 4) {
      const w = lock.getUint32(i);
      if (this.lastLock.getUint32(i) === w) continue;
      same = false;
      this.lastLock.setUint32(i, w);
    }
    return same;
  }

  private checkTotal(bloom: Block): void {
    let set = 0;
    for (let i = 0; i < FOREST_BLOOM_BITS / 32; i++) {
      set += popcount(bloom.view.getUint32(BLOOM_HEADER_BYTES + i * 4, true));
    }
    if (set !== num(bloom.view, 32)) {
      this.ctx.report.finding('CHK_BLOOM', `the bloom filter of ${this.log.name} has ${set} bits, `
        + `but records ${num(bloom.view, 32)}`, { blkno: bloom.blkno });
    }
  }
}

/** Walks `mounted_clients` and compares it with open log trees and quorum blocks. */
export function checkClients(ctx: Context, logs: LogTree[], quorumRids: Set<bigint>): void {
  const { report } = ctx;
  const c = new TreeCursor(ctx, {
    root: ctx.sb.mountedClients, name: 'the tree of mounted clients',
    place: 'the tree of mounted clients',
  });
  const size = (zone: number, type: number): number | undefined =>
    zone === MOUNTED_CLIENT_ZONE && type === 0 ? MountedClientBtreeVal.size : undefined;
  const mounted = new Set<bigint>();
  for (const { view: v, keyOff, valOff, key } of serverItems(ctx, c, size)) {
    const rid = v.getBigUint64(keyOff, true);
    ctx.memory.charge(64, 'the list of mounted clients');
    mounted.add(rid);
    const val = MountedClientBtreeVal.read(v, valOff);
    if ((val.flags & ~MOUNTED_CLIENT_QUORUM) !== 0 || rid === 0n) {
      report.finding('CHK_CLIENT', `mounted client ${rid.toString(16)} has flags ${val.flags}`,
        { key });
    } else if (val.flags !== 0 && !quorumRids.has(rid)) {
      report.note('CHK_CLIENT_QUORUM',
        `mounted client ${rid.toString(16)} is a quorum member, but in no quorum block`, { key });
    }
  }
  ctx.summary.mountedClients = mounted.size;
  if (mounted.size > 0) {
    report.note('CHK_CLIENT_MOUNTED', `${mounted.size} mounts are active or need recovery`);
  }
  for (const { lt, name, finalized } of logs) {
    if (!finalized && !mounted.has(lt.rid)) {
      report.note('CHK_LOG_ABANDONED', `${name} is open, but its mount is not recorded`);
    }
  }
}
