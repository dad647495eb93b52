/**
 * Free space: trees of free extents and lists of block numbers.
 *
 * Each extent is stored twice, by location (zone 36) and by size (zone 40); the
 * walk meets all of the first before any of the second and lets the ledger match
 * them. What an allocator holds goes into the block maps as it is seen.
 *
 *   by location  36 . last block . 0 . length
 *   by size      40 . 2^64 - 1 - order . 0 . last block . length
 *
 * Spec: format.md 10, alloc.md 1.
 */
import { ALLOC_FLAG_LOW, ALLOC_LIST_MAX_BLOCKS, BLOCK_MAGIC_ALLOC_LIST, DATA_DEV_START_BLKNO,
  FREE_EXTENT_BLKNO_ZONE, FREE_EXTENT_ORDER_ZONE, META_DEV_START_BLKNO }
  from '../../core/format.js';
import type { AllocListHead, AllocRoot } from '../../core/format.js';
import { freeExtentOrder } from '../../core/keys.js';
import type { Place } from './accounting.js';
import { refAt, refOf } from './blocks.js';
import type { Ref } from './blocks.js';
import type { Context } from './context.js';
import { TreeCursor } from './cursor.js';
import { isZero64, num, setNum, zoneOf } from './keys.js';

const LIST_HEADER_BYTES = 56;
const EXTENT_BYTES = 16;
const MAX64 = 0xffffffffffffffffn;

/** An allocator to walk. */
export interface AllocSpec {
  root: AllocRoot;
  name: string;
  unit: 'meta' | 'data';
  /** Tells allocators apart in the ledger. */
  id: number;
  /** Told each valid extent. */
  onExtent?: (start: number, len: number) => void;
}

const pair = new DataView(new ArrayBuffer(EXTENT_BYTES));

export function checkAllocRoot(ctx: Context, spec: AllocSpec): void {
  const { root, name } = spec;
  if ((root.flags & ~ALLOC_FLAG_LOW) !== 0) {
    ctx.report.finding('CHK_ALLOC_FLAGS', `${name} has flags ${root.flags}`);
  }
  const unreadBefore = ctx.unreadBlocks;
  const c = new TreeCursor(ctx, { root: root.root, name, place: 'a free extent tree' });
  let total = 0;
  let lastEnd = -1;
  while (c.next()) {
    const v = c.view;
    const k = c.keyOff;
    const zone = zoneOf(v, k);
    const bySize = zone === FREE_EXTENT_ORDER_ZONE;
    const tail = bySize ? num(v, k + 16) : num(v, k + 8);
    if ((zone !== FREE_EXTENT_BLKNO_ZONE && !bySize) || v.getUint8(k + 26) !== 0
      || v.getUint8(k + 24) !== 0 || (!bySize && !isZero64(v, k + 16)) || c.valLen !== 0) {
      ctx.report.finding('CHK_ITEM_KEY', `${name} has an item that is no free extent`,
        { blkno: c.blkno, key: c.key });
      continue;
    }
    const end = bySize ? num(v, k + 8) : num(v, k);
    const ok = checkExtent(ctx, spec, c, end, tail, bySize);
    if (!ok) continue;
    setNum(pair, 0, end);
    setNum(pair, 8, tail);
    ctx.ledger.put('blkno/order', bySize ? -1 : 1, spec.id, pair, 0, EXTENT_BYTES, v, k);
    if (bySize) continue;
    const start = end - tail + 1;
    total += tail;
    if (start <= lastEnd + 1 && lastEnd !== -1) {
      ctx.report.finding('CHK_ALLOC_OVERLAP',
        `${name} has a free extent at ${start} that overlaps or touches the one before it`,
        { blkno: c.blkno, key: c.key });
    }
    // Only what is new, so that no block is recorded twice for one allocator.
    const from = Math.max(start, lastEnd + 1);
    lastEnd = end;
    if (from <= end) recordFree(ctx, spec, from, end - from + 1, c);
  }
  if (total !== root.totalLen && ctx.unreadBlocks === unreadBefore) {
    ctx.report.finding('CHK_ALLOC_TOTAL',
      `${name} records ${root.totalLen} free blocks, but has ${total}`);
  }
}

function checkExtent(ctx: Context, spec: AllocSpec, c: TreeCursor, end: number, len: number,
  bySize: boolean): boolean {
  const isMeta = spec.unit === 'meta';
  const from = isMeta ? META_DEV_START_BLKNO : DATA_DEV_START_BLKNO;
  const total = isMeta ? ctx.meta.totalBlocks : ctx.data.totalBlocks;
  if (len === 0 || end >= total || end - len + 1 < from) {
    ctx.report.finding('CHK_ALLOC_EXTENT',
      `${spec.name} has a free extent of ${len} blocks ending at ${end}`,
      { blkno: c.blkno, key: c.key });
    return false;
  }
  if (bySize && c.view.getBigUint64(c.keyOff, true) !== MAX64 - BigInt(freeExtentOrder(len))) {
    ctx.report.finding('CHK_ALLOC_PAIR',
      `${spec.name} has an extent of ${len} blocks under the wrong size order`,
      { blkno: c.blkno, key: c.key });
  }
  return true;
}

function recordFree(ctx: Context, spec: AllocSpec, start: number, len: number,
  c: TreeCursor): void {
  spec.onExtent?.(start, len);
  if (spec.unit === 'meta') {
    ctx.meta.freeRun(start, len, 'free extents', { key: c.key });
    return;
  }
  ctx.summary.freeDataBlocks += len;
  const clash = ctx.data.mark(start, len);
  if (clash !== -1) {
    ctx.report.finding('CHK_DATA_TWICE',
      `data block ${clash}, free in ${spec.name}, is also mapped or free elsewhere`,
      { key: c.key });
  }
}

/** A block list to walk. */
export interface ListSpec {
  head: AllocListHead;
  name: string;
  place: Place;
  /** Asked about each number before it is recorded; false to leave it out. */
  record?: (blkno: number) => boolean;
}

/** Walks a block list: its blocks are in use, the numbers in them free. */
export function checkAllocList(ctx: Context, spec: ListSpec): void {
  const { head, name } = spec;
  if ((head.flags & ~ALLOC_FLAG_LOW) !== 0) {
    ctx.report.finding('CHK_ALLOC_FLAGS', `${name} has flags ${head.flags}`);
  }
  let ref: Ref = refOf(head.ref);
  let total = 0;
  let isFirst = true;
  while (ref.blkno !== 0) {
    if (ctx.reader.inRange(ref.blkno) && !ctx.meta.use(ref.blkno, 'a block list')) {
      ctx.unreadBlocks++;
      return;
    }
    const block = ctx.reader.read(ref, BLOCK_MAGIC_ALLOC_LIST, name);
    if (block === null) {
      ctx.unreadBlocks++;
      return;
    }
    const nr = checkListBlock(ctx, spec, block.view, block.blkno, isFirst);
    total += nr;
    isFirst = false;
    ref = refAt(block.view, 32);
    ctx.reader.give(block);
  }
  if (total !== head.totalNr) {
    ctx.report.finding('CHK_ALLOC_LIST',
      `${name} records ${head.totalNr} numbers, but has ${total}`);
  }
  if (ref.seqLo !== 0 || ref.seqHi !== 0) {
    ctx.report.finding('CHK_ALLOC_LIST', `${name} ends in a reference with a seq`);
  }
  if (isFirst && head.firstNr !== 0) {
    ctx.report.finding('CHK_ALLOC_LIST', `${name} is empty, but records ${head.firstNr} numbers`);
  }
}

function checkListBlock(ctx: Context, spec: ListSpec, v: DataView, blkno: number,
  isFirst: boolean): number {
  const start = v.getUint32(48, true);
  const nr = v.getUint32(52, true);
  const { name, head } = spec;
  if (start + nr > ALLOC_LIST_MAX_BLOCKS) {
    ctx.report.finding('CHK_ALLOC_LIST',
      `block ${blkno} of ${name} claims numbers ${start} to ${start + nr}`, { blkno });
    ctx.unreadBlocks++;
    return nr;
  }
  if (isFirst && nr !== head.firstNr) {
    ctx.report.finding('CHK_ALLOC_LIST',
      `the first block of ${name} has ${nr} numbers, but ${head.firstNr} are recorded`, { blkno });
  }
  for (let i = start; i < start + nr; i++) {
    const b = num(v, LIST_HEADER_BYTES + i * 8);
    if (!ctx.reader.inRange(b)) {
      ctx.report.finding('CHK_ALLOC_LIST', `${name} lists block ${b}`, { blkno });
    } else if (spec.record === undefined || spec.record(b)) {
      ctx.meta.free(b, spec.place);
    }
  }
  return nr;
}
