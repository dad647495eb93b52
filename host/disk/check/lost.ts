/**
 * Metadata blocks without a place: known leaks, or damage?
 *
 * Upstream loses two kinds of blocks for good and goes on working: level-1 blocks
 * of merged log trees, and blocks of compactions whose mount went away. Both can
 * still be recognised by what is in them. Everything else without a place is a
 * finding. Spec: alloc.md 9.1, btree.md 8, srch.md 5.6.
 */
import { BLOCK_ITEMS_MAX, ITEM_BYTES, ITEM_KEY, ITEM_VAL_LEN, ITEM_VAL_OFF } from './btree.js';
import { BLOCK_LG_SIZE, BLOCK_MAGIC_BTREE, BLOCK_MAGIC_SRCH_BLOCK, BLOCK_MAGIC_SRCH_PARENT,
  FS_ZONE } from '../../core/format.js';
import type { Block } from './blocks.js';
import { refAt } from './blocks.js';
import type { Context } from './context.js';
import { ONES, compareKeys, zoneOf } from './keys.js';
import type { FindingId } from './report.js';

const HEADER_BYTES = 48;
const REF_BYTES = 16;
/** Block numbers named in a note. */
const NAMED_MAX = 20;

/** A loss that upstream is known for. */
type Leak = 'merge' | 'srch';

/**
 * A volume with more blocks that are no known leak is damaged in its free space;
 * what the rest of them hold does not matter any more and is not read.
 */
const UNKNOWN_MAX = 1000;

/** Reports every block of the metadata device that has no place. */
export function reportLost(ctx: Context): void {
  const known: Record<Leak, number[]> = { merge: [], srch: [] };
  const runs: { first: number; len: number }[] = [];
  let unknown = 0;
  for (const blkno of ctx.meta.lost()) {
    ctx.summary.lostMetaBlocks++;
    const kind = unknown < UNKNOWN_MAX ? classify(ctx, blkno) : null;
    if (kind !== null) {
      known[kind].push(blkno);
      continue;
    }
    unknown++;
    const run = runs[runs.length - 1];
    if (run !== undefined && run.first + run.len === blkno) run.len++;
    else runs.push({ first: blkno, len: 1 });
  }
  for (const { first, len } of runs) {
    ctx.report.finding('CHK_META_LOST', len === 1 ? `block ${first} is neither free nor in use`
      : `${len} blocks from ${first} on are neither free nor in use`, { blkno: first });
  }
  noteLeak(ctx, 'CHK_LOST_MERGE', known.merge, 'merged log trees');
  noteLeak(ctx, 'CHK_LOST_SRCH', known.srch, 'abandoned compactions');
}

function noteLeak(ctx: Context, id: FindingId, blknos: number[], of: string): void {
  if (blknos.length === 0) return;
  const some = blknos.slice(0, NAMED_MAX).join(', ') + (blknos.length > NAMED_MAX ? ' ...' : '');
  ctx.report.note(id, `${blknos.length} blocks of ${of} were never freed: ${some}`);
}

function classify(ctx: Context, blkno: number): Leak | null {
  const block = ctx.reader.readRaw(blkno, `lost block ${blkno}`);
  if (block === null) return null;
  const magic = block.view.getUint32(4, true);
  let kind: Leak | null = null;
  if (ctx.reader.isOurs(block)) {
    if (magic === BLOCK_MAGIC_SRCH_BLOCK || magic === BLOCK_MAGIC_SRCH_PARENT) kind = 'srch';
    else if (magic === BLOCK_MAGIC_BTREE && isMergedParent(ctx, block)) kind = 'merge';
  }
  ctx.reader.give(block);
  return kind;
}

/** A level-1 block of file system items, none of whose leaves is still what it was. */
function isMergedParent(ctx: Context, block: Block): boolean {
  const v = block.view;
  const n = v.getUint16(34, true);
  if (v.getUint8(40) !== 1 || n === 0 || n > BLOCK_ITEMS_MAX) return false;
  for (let o = HEADER_BYTES; o < HEADER_BYTES + n * ITEM_BYTES; o += ITEM_BYTES) {
    const off = v.getUint16(o + ITEM_VAL_OFF, true);
    if (v.getUint16(o + ITEM_VAL_LEN, true) !== REF_BYTES || off > BLOCK_LG_SIZE - REF_BYTES) {
      return false;
    }
    if (zoneOf(v, o + ITEM_KEY) > FS_ZONE && compareKeys(v, o + ITEM_KEY, ONES, 0) !== 0) {
      return false;
    }
    const child = refAt(v, off);
    if (!ctx.reader.inRange(child.blkno)) return false;
    if (ctx.meta.isFree(child.blkno)) continue;
    if (!wasReused(ctx, child.blkno, child.seqLo, child.seqHi)) return false;
  }
  return true;
}

function wasReused(ctx: Context, blkno: number, seqLo: number, seqHi: number): boolean {
  const child = ctx.reader.readRaw(blkno, `block ${blkno}`);
  if (child === null) return false;
  const reused = child.view.getUint32(16, true) !== seqLo
    || child.view.getUint32(20, true) !== seqHi;
  ctx.reader.give(child);
  return reused;
}
