/**
 * The file system items as a reader sees them: the fs tree and all log trees
 * merged in key order, one resolved item per key.
 *
 * Ordinary items: the greatest seq wins, whatever tree it is in, and a winning
 * deletion means absent; equal seqs are the same item, logged and already merged.
 * Xattr totals are sums in the fs tree and deltas in the logs; they are added up
 * in three bins, because a merge in progress may have put some inputs' deltas into
 * the fs tree already.
 *
 * The cursors are kept in a heap by key, so that memory and time stay small with
 * many log trees. Spec: forest.md 2 and 6.2, xattr.md 8.
 */
import { FS_ZONE, ITEM_FLAG_DELETION, XATTR_TOTL_ZONE } from '../../core/format.js';
import type { Context } from './context.js';
import { TreeCursor } from './cursor.js';
import { itemProblem } from './items.js';
import { compareKeys, num, zoneOf } from './keys.js';
import type { KeyView } from './keys.js';
import { LogItemCheck } from './logs.js';
import type { LogTree } from './logs.js';

/** With more gaps than this nothing is said about any inode. */
const GAPS_MAX = 1000;

type Bin = 'fs' | 'input' | 'log';

interface Source {
  cursor: TreeCursor;
  bin: Bin;
  check: LogItemCheck | null;
}

export class Forest {
  /** The winning version of the current key. */
  current: TreeCursor;
  /** Zone 12 only: the resolved sums. */
  total = 0n;
  count = 0n;
  private fsMaxSeq = 0;
  private readonly heap: Source[] = [];
  /** The sources that stand at the current key. */
  private group: Source[] = [];

  /** @param inputSeq finalized logs with a finalize seq below it are inputs of the merge */
  constructor(private readonly ctx: Context, logs: LogTree[], inputSeq: number) {
    const onGap = (low: KeyView | null, high: KeyView): void => { recordGap(ctx, low, high); };
    this.current = new TreeCursor(ctx, {
      root: ctx.sb.fsRoot, name: 'the fs tree', place: 'the fs tree', onGap,
    });
    this.advance({ cursor: this.current, bin: 'fs', check: null });
    for (const log of logs) {
      const check = new LogItemCheck(ctx, log);
      const cursor = new TreeCursor(ctx, {
        root: log.lt.itemRoot, name: `the items of ${log.name}`, place: 'a log tree',
        leafFlags: ITEM_FLAG_DELETION, onGap,
      });
      const bin = log.finalized && log.lt.finalizeSeq < inputSeq ? 'input' : 'log';
      this.advance({ cursor, bin, check });
    }
  }

  /** Steps to the next key that has an item. @returns false at the end */
  next(): boolean {
    for (;;) {
      for (const s of this.group) this.advance(s);
      this.group = [];
      const first = this.pop();
      if (first === undefined) return false;
      this.group.push(first);
      let top = this.heap[0];
      while (top !== undefined && order(top, first) === 0) {
        this.pop();
        this.group.push(top);
        top = this.heap[0];
      }
      if (this.resolve(first)) return true;
    }
  }

  /** @returns whether the current key has an item */
  private resolve(first: Source): boolean {
    this.current = first.cursor;
    if (zoneOf(first.cursor.view, first.cursor.keyOff) === XATTR_TOTL_ZONE) {
      this.sumTotals();
      return this.total !== 0n || this.count !== 0n;
    }
    for (const s of this.group) {
      const d = s.cursor.seq - this.current.seq;
      if (d > 0) this.current = s.cursor;
      else if (d === 0 && s.cursor !== this.current) this.compareVersions(this.current, s.cursor);
    }
    return (this.current.flags & ITEM_FLAG_DELETION) === 0;
  }

  private compareVersions(a: TreeCursor, b: TreeCursor): void {
    const value = (c: TreeCursor): Uint8Array =>
      new Uint8Array(c.view.buffer, c.view.byteOffset + c.valOff, c.valLen);
    if (a.flags === b.flags && Buffer.compare(value(a), value(b)) === 0) return;
    this.ctx.report.finding('CHK_ITEM_VERSIONS',
      `${a.spec.name} and ${b.spec.name} have different items with seq ${a.seq}`,
      { key: a.key, blkno: b.blkno });
  }

  private sumTotals(): void {
    const bins = { fs: [0n, 0n], input: [0n, 0n], log: [0n, 0n] } satisfies Record<Bin, bigint[]>;
    const seqs: Record<Bin, number> = { fs: 0, input: 0, log: 0 };
    for (const { cursor: c, bin } of this.group) {
      if (c.valLen === 0) continue;
      seqs[bin] = Math.max(seqs[bin], c.seq);
      const [total = 0n, count = 0n] = bins[bin];
      bins[bin] = [total + c.view.getBigUint64(c.valOff, true),
        count + c.view.getBigUint64(c.valOff + 8, true)];
    }
    const use = { fs: seqs.fs !== 0, log: true,
      input: seqs.fs !== 0 ? seqs.input > seqs.fs
        : BigInt.asIntN(64, bins.input[1] ?? 0n) > 0n } satisfies Record<Bin, boolean>;
    const sum = (i: 0 | 1): bigint => BigInt.asUintN(64, (['fs', 'input', 'log'] as const)
      .reduce((n, bin) => n + (use[bin] ? bins[bin][i] ?? 0n : 0n), 0n));
    this.total = sum(0);
    this.count = sum(1);
  }

  /** Moves a source to its next good item and back into the heap. */
  private advance(s: Source): void {
    const { cursor: c } = s;
    while (c.next()) {
      const isDeletion = (c.flags & ITEM_FLAG_DELETION) !== 0;
      const problem = itemProblem(c.view, c.keyOff, c.valLen, isDeletion, this.ctx.sb.fmtVers);
      if (problem === null) {
        if (s.check !== null) s.check.item(c);
        else this.fsMaxSeq = Math.max(this.fsMaxSeq, c.seq);
        this.insert(s);
        return;
      }
      this.ctx.report.finding(problem,
        `${c.spec.name} has an item that cannot be, with ${c.valLen} bytes`,
        { key: c.key, blkno: c.blkno });
    }
    s.check?.finish();
    if (s.bin === 'fs' && this.fsMaxSeq > this.ctx.sb.seq) {
      this.ctx.report.finding('CHK_INODE_SEQ', `the fs tree has an item with seq `
        + `${this.fsMaxSeq}, the last one given out is ${this.ctx.sb.seq}`);
    }
  }

  private insert(s: Source): void {
    const { heap } = this;
    let i = heap.length;
    heap.push(s);
    while (i > 0) {
      const up = (i - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || order(parent, s) <= 0) break;
      heap[i] = parent;
      i = up;
    }
    heap[i] = s;
  }

  private pop(): Source | undefined {
    const { heap } = this;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let i = 0;
    for (;;) {
      const left = heap[2 * i + 1];
      const right = heap[2 * i + 2];
      if (left === undefined) break;
      const useRight = right !== undefined && order(right, left) < 0;
      const child = useRight ? right : left;
      if (order(last, child) <= 0) break;
      heap[i] = child;
      i = 2 * i + (useRight ? 2 : 1);
    }
    heap[i] = last;
    return top;
  }
}

function order(a: Source, b: Source): number {
  return compareKeys(a.cursor.view, a.cursor.keyOff, b.cursor.view, b.cursor.keyOff);
}

/** Notes for which inodes items may be missing. */
function recordGap(ctx: Context, low: KeyView | null, high: KeyView): void {
  const first = low === null || zoneOf(low, 0) < FS_ZONE ? 0 : num(low, 0);
  const last = zoneOf(high, 0) < FS_ZONE ? -1 : zoneOf(high, 0) > FS_ZONE ? Infinity : num(high, 0);
  if (ctx.gaps.length < GAPS_MAX) ctx.gaps.push([first, last]);
  else ctx.gaps[0] = [0, Infinity];
}
