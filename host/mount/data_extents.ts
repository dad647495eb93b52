/**
 * The mount's allocator of data device blocks, for code that cannot wait.
 *
 * Free extents live in two btrees of the open transaction: `data_avail`, from which
 * is allocated, and `data_freed`, from which nobody allocates because the committed
 * version may still refer to those blocks. Small requests are served from one cached
 * extent, large ones straight from the tree; freed extents are collected in memory.
 *
 *   data_avail --ext_alloc--> cached (small) or taken (large) --alloc()--> caller
 *   free() --> pending --ext_insert--> data_freed
 *   finish(): cached and taken --> data_avail, pending --> data_freed
 *
 * Everything is done in the caller's tick when the tree's blocks are resident; else
 * `alloc` says 'need-refill', and `refill` waits for what has been started.
 *
 * Invariants
 *   - a block is in exactly one of: data_avail, cached, taken, data_freed, pending,
 *     or the caller's hands, at the end of every tick
 *   - between finish() and begin() nothing is changed: the commit is writing
 *
 * Source: alloc.md 4; vectors core-vectors.json → alloc.data_alloc.
 */
import type { Core } from '../core/core.js';
import type { Rec, TreeSpace } from '../core/trees.js';
import { ERRNO, assert, errnoError } from '../observe/errors.js';

/** Requests of this many blocks (8 MiB) bypass the cached extent, which is at most as long. */
export const LARGE_ALLOC_BLOCKS = 2048;
/** First block of the data device that files may use. */
const DATA_START_BLKNO = 64;
/** Freed extents collected before they are put into the tree. */
const PENDING_FREES_MAX = 32;

export interface DataRun {
  blkno: number;
  count: number;
}

interface Extent {
  start: number;
  len: number;
}

type Which = 'cached' | 'taken';

export class DataExtents {
  /** The server has no more space: running dry is final. */
  low = false;
  /** Frees that the tree refused because some of their blocks are free already: damage. */
  readonly refused: DataRun[] = [];
  private readonly core: Core;
  private avail: Rec | null = null;
  private freed: Rec | null = null;
  private endBlkno = Number.MAX_SAFE_INTEGER;
  private open = false;
  private readonly stock: Record<Which, Extent[]> = { cached: [], taken: [] };
  /** Extents under way from the tree. */
  private readonly refilling: Record<Which, Promise<void> | null> = { cached: null, taken: null };
  /** Freed and not in the tree yet; ascending, apart from each other. */
  private pending: Extent[] = [];
  /** The freed extent that is being inserted. */
  private inserting: Extent | null = null;
  private draining: Promise<void> | null = null;

  constructor(private readonly space: TreeSpace) {
    this.core = space.core;
  }

  /**
   * Starts over with the trees of a new transaction; the records are changed in place.
   * @param endBlkno number of blocks of the data device
   */
  begin(avail: Rec, freed: Rec, low: boolean, endBlkno = Number.MAX_SAFE_INTEGER): void {
    assert(this.inserting === null, 'no data extent is under way between transactions');
    this.avail = avail;
    this.freed = freed;
    this.low = low;
    this.endBlkno = endBlkno;
    this.stock.cached = [];
    this.stock.taken = [];
    this.pending = [];
    this.open = true;
  }

  /** Blocks that can be allocated: in the tree and in memory. */
  get totalAvail(): number {
    if (this.avail === null) return 0;
    return Number(this.core.view.getBigUint64(this.avail.ptr, true)) +
      sumLen(this.stock.cached) + sumLen(this.stock.taken);
  }

  /** The extent that small requests are served from; length 0 when there is none. */
  get cached(): DataRun {
    const e = this.stock.cached[0];
    return e === undefined ? { blkno: 0, count: 0 } : { blkno: e.start, count: e.len };
  }

  /** Freed extents that are not in the tree yet. */
  get pendingFrees(): number {
    return this.pending.length + (this.inserting === null ? 0 : 1);
  }

  /**
   * Takes 1 .. `count` consecutive blocks.
   * @returns 'need-refill': wait for `refill(count)` and ask again; 'empty': nothing is
   *          left in this transaction
   * @throws EIO when the tree is damaged
   */
  alloc(count: number): DataRun | 'need-refill' | 'empty' {
    assert(this.open && count > 0, 'data blocks are allocated inside a transaction');
    const which = count >= LARGE_ALLOC_BLOCKS ? 'taken' : 'cached';
    const got = this.fromStock(which, count);
    if (got !== null) return got;
    if (this.refilling[which] !== null) return 'need-refill';
    const wait = this.fetch(which, count);
    if (wait !== null) return 'need-refill';
    return this.fromStock(which, count) ??
      this.fromStock(which === 'taken' ? 'cached' : 'taken', count) ?? 'empty';
  }

  /** Waits until `alloc(count)` can be asked again. @throws EIO */
  async refill(count: number): Promise<void> {
    const which = count >= LARGE_ALLOC_BLOCKS ? 'taken' : 'cached';
    if (!this.open || this.stock[which].length > 0) return;
    await (this.refilling[which] ?? this.fetch(which, count));
  }

  /**
   * Gives blocks back; they can be allocated again after a later commit.
   * @throws EINVAL outside of the device or when some of them are freed already
   */
  free(blkno: number, count: number): void {
    assert(this.open && count > 0, 'data blocks are freed inside a transaction');
    if (blkno < DATA_START_BLKNO || blkno + count > this.endBlkno) {
      throw errnoError('EINVAL', `data blocks ${blkno} + ${count} are not on the device`);
    }
    const busy = this.inserting;
    if (busy !== null && blkno < busy.start + busy.len && busy.start < blkno + count) {
      throw freedTwice(blkno, count);
    }
    addExtent(this.pending, { start: blkno, len: count });
  }

  /**
   * Makes sure that this tick can allocate a little and free without waiting.
   * @returns null when it can, else what to wait for before trying again
   */
  prepare(): Promise<void> | null {
    if (!this.open) return null;
    if (this.pending.length > PENDING_FREES_MAX) {
      const wait = this.drain();
      if (wait !== null) return wait;
    }
    if (this.stock.cached.length > 0) return null;
    return this.refilling.cached ?? this.fetch('cached', 1);
  }

  /**
   * Puts everything that is held in memory into the trees, before the allocator of the
   * transaction is finished. May be repeated after an error. @throws ENOSPC, EIO
   */
  async finish(): Promise<void> {
    this.open = false;
    for (const which of ['cached', 'taken'] as const) {
      await this.refilling[which];
      for (let e = this.stock[which][0]; e !== undefined; e = this.stock[which][0]) {
        await this.insert(this.avail, e);
        this.stock[which].shift();
      }
    }
    while (this.pendingFrees > 0) await this.drain();
  }

  private fromStock(which: Which, count: number): DataRun | null {
    const stock = this.stock[which];
    const e = stock[0];
    if (e === undefined) return null;
    const got = { blkno: e.start, count: Math.min(count, e.len) };
    e.start += got.count;
    e.len -= got.count;
    if (e.len === 0) stock.shift();
    return got;
  }

  /**
   * Moves an extent from the tree to memory.
   * @returns null when that is done (also when there was none), else what to wait for
   */
  private fetch(which: Which, count: number): Promise<void> | null {
    const { x } = this.core;
    const avail = this.avail;
    assert(avail !== null, 'a transaction is open');
    const want = which === 'taken' ? count : LARGE_ALLOC_BLOCKS;
    const r = this.core.run(() => {
      const err = x.ext_alloc(this.space.al, this.space.ws, avail.ptr, want);
      if (err === 0) this.stock[which].push({ start: x.ext_got_start(), len: x.ext_got_len() });
      return err;
    });
    if (typeof r === 'number') {
      this.checkTaken(r);
      return null;
    }
    const wait = r.then((err) => { this.checkTaken(err); })
      .finally(() => { this.refilling[which] = null; });
    this.refilling[which] = observed(wait);
    return wait;
  }

  /** An empty tree, or too little metadata to change it, is no error: a commit comes next. */
  private checkTaken(r: number): void {
    if (r < 0 && r !== -ERRNO.ENOENT && r !== -ERRNO.ENOSPC) {
      throw this.core.error('allocate data extent', r);
    }
  }

  /** Inserts pending frees: in this tick as far as possible. @returns what to wait for, or null */
  private drain(): Promise<void> | null {
    if (this.draining !== null) return this.draining;
    for (let e = this.pending.shift(); e !== undefined; e = this.pending.shift()) {
      this.inserting = e;
      const r = this.tryInsert(this.freed, e);
      if (typeof r !== 'number') {
        const wait = this.drainRest(r).finally(() => { this.draining = null; });
        this.draining = observed(wait);
        return wait;
      }
      this.inserted(r);
    }
    return null;
  }

  private async drainRest(first: Promise<number>): Promise<void> {
    let r: number | Promise<number> | null = first;
    while (r !== null) {
      let done: number;
      try {
        done = await r;
      } catch (e) {
        this.putBack();
        throw e;
      }
      this.inserted(done);
      this.inserting = this.pending.shift() ?? null;
      r = this.inserting === null ? null : this.tryInsert(this.freed, this.inserting);
    }
  }

  /** The extent under way is in the tree, refused, or pending again. @throws ENOSPC, EIO */
  private inserted(r: number): void {
    const e = this.inserting;
    assert(e !== null, 'a free is under way');
    if (r === -ERRNO.EINVAL) this.refused.push({ blkno: e.start, count: e.len });
    else if (r < 0) {
      this.putBack();
      throw this.core.error('free data extent', r);
    }
    this.inserting = null;
  }

  private putBack(): void {
    const e = this.inserting;
    this.inserting = null;
    if (e !== null) addExtent(this.pending, e);
  }

  private tryInsert(root: Rec | null, e: Extent): number | Promise<number> {
    assert(root !== null, 'a transaction is open');
    return this.core.run(() =>
      this.core.x.ext_insert(this.space.al, this.space.ws, root.ptr, e.start, e.len));
  }

  private async insert(root: Rec | null, e: Extent): Promise<void> {
    const r = await this.tryInsert(root, e);
    if (r < 0) throw this.core.error('insert data extent', r);
  }
}

/** The same promise; its rejection is always for a later waiter to find. */
function observed(p: Promise<void>): Promise<void> {
  p.catch(() => { /* whoever waits for it gets the error */ });
  return p;
}

function sumLen(extents: readonly Extent[]): number {
  let sum = 0;
  for (const e of extents) sum += e.len;
  return sum;
}

function freedTwice(blkno: number, count: number): Error {
  return errnoError('EINVAL', `data blocks ${blkno} + ${count} are freed twice`);
}

/** Adds an extent to an ascending list, joined with its neighbours. @throws EINVAL on overlap */
function addExtent(list: Extent[], e: Extent): void {
  let lo = 0;
  for (let hi = list.length; lo < hi;) {
    const mid = (lo + hi) >>> 1;
    if ((list[mid]?.start ?? 0) < e.start) lo = mid + 1;
    else hi = mid;
  }
  const prev = list[lo - 1];
  const next = list[lo];
  if ((prev !== undefined && prev.start + prev.len > e.start) ||
      (next !== undefined && e.start + e.len > next.start)) {
    throw freedTwice(e.start, e.len);
  }
  const joinsPrev = prev !== undefined && prev.start + prev.len === e.start;
  const joinsNext = next !== undefined && e.start + e.len === next.start;
  if (joinsPrev) {
    prev.len += e.len + (joinsNext ? next.len : 0);
    if (joinsNext) list.splice(lo, 1);
  } else if (joinsNext) {
    next.start = e.start;
    next.len += e.len;
  } else {
    list.splice(lo, 0, { ...e });
  }
}
