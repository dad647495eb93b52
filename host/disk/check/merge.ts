/**
 * The state of a log merge: its items, and the blocks they own.
 *
 * A merge hands ranges of keys to mounts as requests and splices the completed
 * subtrees into the fs tree. In between, blocks are shared on purpose:
 *
 *   request      root and logs_root are copies of references: not counted
 *   completion   with block lists: root counts where the fs tree does not reach it,
 *                and its meta_freed may list blocks the fs tree still reaches
 *                without lists: already spliced, root is an old copy
 *   freeing      the tree has no other place; blocks whose bound is below the
 *                stored key are freed, but upstream forgets the level-1 ones
 *
 * Spec: format.md 12, forest.md 8, alloc.md 9.1, btree.md 8.
 */
import { BLOCK_MAGIC_BTREE, BTREE_MAX_HEIGHT, LOG_MERGE_COMP_ERROR, LOG_MERGE_COMPLETE_ZONE,
  LOG_MERGE_COMP_REMAIN, LOG_MERGE_FREEING_ZONE, LOG_MERGE_RANGE_ZONE, LOG_MERGE_REQUEST_SUBTREE,
  LOG_MERGE_REQUEST_ZONE, LOG_MERGE_STATUS_ZONE, LogMergeComplete, LogMergeFreeing, LogMergeRange,
  LogMergeRequest, LogMergeStatus, Key } from '../../core/format.js';
import { checkAllocList } from './alloc.js';
import { BLOCK_ITEMS_MAX, BtreeBlockCheck, ITEM_KEY, ITEM_VAL_OFF } from './btree.js';
import type { Ref } from './blocks.js';
import { refAt, refOf } from './blocks.js';
import type { Context } from './context.js';
import { TreeCursor } from './cursor.js';
import { decodeItem } from './decode.js';
import { ONES, compareKeys, copyKey, keyText, newKey, zoneOf } from './keys.js';
import type { KeyView } from './keys.js';
import { serverItems } from './logs.js';

/** Completions at which a server stops handing out requests and splices. */
const SPLICE_COMPLETIONS = 8;

export interface MergeState {
  status: LogMergeStatus | null;
  ranges: LogMergeRange[];
  requests: LogMergeRequest[];
  completions: LogMergeComplete[];
  freeing: LogMergeFreeing[];
}

const SIZES = new Map<number, number>([
  [LOG_MERGE_STATUS_ZONE, LogMergeStatus.size], [LOG_MERGE_RANGE_ZONE, LogMergeRange.size],
  [LOG_MERGE_REQUEST_ZONE, LogMergeRequest.size],
  [LOG_MERGE_COMPLETE_ZONE, LogMergeComplete.size],
  [LOG_MERGE_FREEING_ZONE, LogMergeFreeing.size],
]);
/** Rough memory of one decoded item. */
const ITEM_COST_BYTES = 1024;

export function readMerge(ctx: Context): MergeState {
  const m: MergeState = { status: null, ranges: [], requests: [], completions: [], freeing: [] };
  const c = new TreeCursor(ctx, { root: ctx.sb.logMerge, name: 'the log merge tree',
    place: 'the log merge tree' });
  for (const it of serverItems(ctx, c, (zone) => SIZES.get(zone))) {
    ctx.memory.charge(ITEM_COST_BYTES, 'the log merge items');
    readItem(ctx, m, it);
  }
  checkStatus(ctx, m);
  checkRanges(ctx, m);
  return m;
}

function readItem(ctx: Context, m: MergeState, it: TreeCursor): void {
  const wanted = newKey();
  if (!addItem(ctx, m, it, wanted) || compareKeys(wanted, 0, it.view, it.keyOff) === 0) return;
  ctx.report.finding(zoneOf(it.view, it.keyOff) === LOG_MERGE_RANGE_ZONE ? 'CHK_MERGE_RANGE'
    : 'CHK_MERGE_ITEM', 'a log merge item is stored under a key that is not its own',
  { key: it.key, blkno: it.blkno });
}

/**
 * Decodes an item into the state.
 * @param wanted receives the key it should have
 * @returns false when it cannot be decoded
 */
function addItem(ctx: Context, m: MergeState, it: TreeCursor, wanted: KeyView): boolean {
  const zone = zoneOf(it.view, it.keyOff);
  const put = (key: Key): true => {
    Key.write(wanted, 0, key);
    return true;
  };
  if (zone === LOG_MERGE_STATUS_ZONE) {
    m.status = decodeItem(ctx, LogMergeStatus, it);
    return m.status !== null && put(zeroKey(zone, 0n));
  }
  if (zone === LOG_MERGE_RANGE_ZONE) {
    const range = decodeItem(ctx, LogMergeRange, it);
    if (range !== null) m.ranges.push(range);
    return range !== null && put({ ...range.start, zone });
  }
  if (zone === LOG_MERGE_REQUEST_ZONE) {
    const r = decodeItem(ctx, LogMergeRequest, it);
    if (r === null) return false;
    m.requests.push(r);
    checkFlags(ctx, it, r.flags, LOG_MERGE_REQUEST_SUBTREE);
    return put({ ...zeroKey(zone, r.rid), second: BigInt(r.seq) });
  }
  if (zone === LOG_MERGE_COMPLETE_ZONE) {
    const r = decodeItem(ctx, LogMergeComplete, it);
    if (r === null) return false;
    m.completions.push(r);
    checkFlags(ctx, it, r.flags, LOG_MERGE_COMP_ERROR | LOG_MERGE_COMP_REMAIN);
    return put(zeroKey(zone, BigInt(r.seq)));
  }
  const f = decodeItem(ctx, LogMergeFreeing, it);
  if (f !== null) m.freeing.push(f);
  return f !== null && put(zeroKey(zone, BigInt(f.seq)));
}

function zeroKey(zone: number, first: bigint): Key {
  return { zone, first, type: 0, second: 0n, third: 0n, fourth: 0 };
}

function checkFlags(ctx: Context, it: TreeCursor, flags: number, known: number): void {
  if (flags > known || (flags & ~known) !== 0) {
    ctx.report.finding('CHK_MERGE_ITEM', `a log merge item has flags ${flags}`, { key: it.key });
  }
}

function checkStatus(ctx: Context, m: MergeState): void {
  const { status, requests, completions, ranges } = m;
  const seqs = [...requests.map((r) => r.seq), ...completions.map((r) => r.seq),
    ...m.freeing.map((f) => f.seq), status?.seq ?? 0];
  const most = seqs.reduce((a, b) => Math.max(a, b), 0);
  if (most > ctx.sb.seq) {
    ctx.report.finding('CHK_SUPER_SEQ',
      `a log merge item has seq ${most}, the super block only ${ctx.sb.seq}`);
  }
  if (status === null) {
    if (requests.length + completions.length + ranges.length > 0) {
      ctx.report.finding('CHK_MERGE_STATUS', 'there are log merge items, but no status item');
    }
    return;
  }
  // While completions are spliced the count is raised to stop new requests.
  const splicing = status.nrRequests === 0 && status.nrComplete >= SPLICE_COMPLETIONS;
  if (status.nrRequests !== requests.length
    || (status.nrComplete !== completions.length && !splicing)) {
    ctx.report.finding('CHK_MERGE_STATUS', `the log merge status counts ${status.nrRequests} `
      + `requests and ${status.nrComplete} completions, but there are ${requests.length} `
      + `and ${completions.length}`);
  }
  if (requests.length + completions.length === 0) {
    ctx.report.note('CHK_MERGE_IDLE', 'a merge of log trees waits to be worked on');
  }
}

/** What a request or completion says about its range and its tree. */
function checkWork(ctx: Context, m: MergeState): void {
  const bad = (what: string): void => { ctx.report.finding('CHK_MERGE_ITEM', what); };
  const cmp = (a: Key, b: Key): number => {
    const [x, y] = [newKey(), newKey()];
    Key.write(x, 0, a);
    Key.write(y, 0, b);
    return compareKeys(x, 0, y, 0);
  };
  for (const r of m.completions) {
    const stoppedEarly = (r.flags & LOG_MERGE_COMP_REMAIN) !== 0;
    if (stoppedEarly ? cmp(r.remain, r.start) < 0 || cmp(r.remain, r.end) > 0
      : cmp(r.remain, r.end) !== 0) {
      bad(`log merge completion ${r.seq} remains at a key that its range does not explain`);
    }
  }
  for (const r of m.requests) {
    if (m.status !== null && r.inputSeq !== m.status.seq) {
      bad(`log merge request ${r.seq} has input seq ${r.inputSeq}, the merge ${m.status.seq}`);
    }
    // The fs tree does not change while a request is out.
    if (r.root.height !== 0 && ctx.gaps.length === 0
      && (!ctx.reader.inRange(r.root.ref.blkno)
        || ctx.meta.place(r.root.ref.blkno) !== 'the fs tree')) {
      bad(`log merge request ${r.seq} has a root that is not in the fs tree`);
    }
  }
}

/** Ranges to do, being done and done must not overlap. */
function checkRanges(ctx: Context, m: MergeState): void {
  const spans = [...m.ranges, ...m.requests, ...m.completions]
    .map(({ start, end }) => {
      const s = { start: newKey(), end: newKey() };
      Key.write(s.start, 0, start);
      Key.write(s.end, 0, end);
      return s;
    });
  spans.sort((a, b) => compareKeys(a.start, 0, b.start, 0));
  spans.forEach((s, i) => {
    const before = spans[i - 1];
    if (compareKeys(s.start, 0, s.end, 0) > 0
      || (before !== undefined && compareKeys(before.end, 0, s.start, 0) >= 0)) {
      ctx.report.finding('CHK_MERGE_RANGE',
        `log merge range ${keyText(s.start, 0)} to ${keyText(s.end, 0)} is inverted or overlaps`);
    }
  });
}

const isSpliced = (r: LogMergeComplete): boolean =>
  r.metaAvail.ref.blkno === 0 && r.metaFreed.ref.blkno === 0;

/** Claims the blocks that the merge owns; the fs tree must have been walked. */
export function checkMergeBlocks(ctx: Context, m: MergeState): void {
  const place = 'a block list of a merge';
  checkWork(ctx, m);
  for (const r of m.requests) {
    const name = `log merge request ${r.seq}`;
    checkAllocList(ctx, { head: r.metaAvail, name: `meta_avail of ${name}`, place });
    checkAllocList(ctx, { head: r.metaFreed, name: `meta_freed of ${name}`, place });
  }
  for (const r of m.completions) {
    if (isSpliced(r)) continue;
    const name = `log merge completion ${r.seq}`;
    const c = new TreeCursor(ctx, {
      root: r.root, name, place: 'a merged subtree', whole: false,
      claim: (b) => ctx.meta.place(b) !== 'the fs tree' && ctx.meta.use(b, 'a merged subtree'),
    });
    while (c.next()) ctx.summary.items--;
    checkAllocList(ctx, { head: r.metaAvail, name: `meta_avail of ${name}`, place });
    checkAllocList(ctx, {
      head: r.metaFreed, name: `meta_freed of ${name}`, place,
      record: (b) => ctx.meta.place(b) !== 'the fs tree',
    });
  }
  for (const f of m.freeing) new FreeingWalk(ctx, f).run();
}

/** The part of a merged log tree that is not freed yet. */
class FreeingWalk {
  private readonly key = newKey();
  private readonly name: string;

  constructor(private readonly ctx: Context, private readonly f: LogMergeFreeing) {
    Key.write(this.key, 0, f.key);
    this.name = `log tree ${f.seq} being freed`;
  }

  run(): void {
    const { root } = this.f;
    if (root.height === 0 || compareKeys(this.key, 0, ONES, 0) === 0) return;
    if (root.height > BTREE_MAX_HEIGHT) {
      this.ctx.report.finding('CHK_BTREE_ROOT', `${this.name} has height ${root.height}`);
      this.ctx.unreadBlocks++;
      return;
    }
    this.visit(refOf(root.ref), root.height - 1, null, ONES, true);
  }

  private visit(ref: Ref, level: number, low: KeyView | null, high: KeyView,
    isRoot: boolean): void {
    const { ctx } = this;
    if (compareKeys(high, 0, this.key, 0) < 0) return;
    if (!ctx.reader.inRange(ref.blkno)) {
      ctx.report.finding('CHK_REF_RANGE', `${this.name} refers to block ${ref.blkno}`);
      ctx.unreadBlocks++;
      return;
    }
    if (!ctx.meta.use(ref.blkno, 'a log tree being freed') || level === 0) return;
    const block = ctx.reader.read(ref, BLOCK_MAGIC_BTREE, this.name);
    if (block === null) {
      ctx.unreadBlocks++;
      return;
    }
    const order = new Uint16Array(BLOCK_ITEMS_MAX);
    const n = ctx.blockCheck.check(block, { level, isRoot, rightEdge: compareKeys(high, 0, ONES, 0)
      === 0, low, high, leafFlags: 0, what: this.name }, order);
    if (n < 0) ctx.unreadBlocks++;
    let before: KeyView | null = low;
    for (let i = 0; i < n; i++) {
      const o = order[i] ?? 0;
      if (!BtreeBlockCheck.valueUsable(block.view, o, level)) continue;
      const bound = newKey();
      copyKey(bound, block.view, o + ITEM_KEY);
      const child = refAt(block.view, block.view.getUint16(o + ITEM_VAL_OFF, true));
      this.visit(child, level - 1, before, bound, false);
      before = bound;
    }
    ctx.reader.give(block);
  }
}

/** The seq below which finalized log trees are inputs; without a merge all of them are. */
export function inputSeq(m: MergeState): number {
  return m.status?.seq ?? Infinity;
}

