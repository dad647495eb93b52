/**
 * Where every block is: the maps that hold each metadata and each data block to
 * exactly one place.
 *
 * Metadata blocks are few (64 KiB each), so the map has a byte per block naming
 * the kind of structure that uses it or the list or extent that has it free. That
 * makes walks safe as well: a block can be claimed for use only once, so no walk
 * goes round in a circle however the references are bent.
 *
 * Data blocks are many and come in long runs. Their map is a bitmap in chunks; a
 * chunk nothing has touched and one that is full take no memory.
 *
 * Spec: alloc.md 9.1.
 */
import { DATA_DEV_START_BLKNO, META_DEV_START_BLKNO } from '../../core/format.js';
import type { MemoryBudget } from './memory.js';
import type { Reporter, Where } from './report.js';

/** Kinds of places; those from `freeFirst` on mean that the block is free. */
export const PLACES = ['nowhere', 'the fs tree', 'the tree of log trees', 'the log merge tree',
  'the tree of mounted clients', 'the srch tree', 'a free extent tree', 'a block list',
  'a log tree', 'a bloom filter', 'a srch file', 'a merged subtree', 'a log tree being freed',
  'a srch compaction',
  'free extents', 'a server block list', 'a block list of a log tree',
  'a block list of a compaction', 'a block list of a merge'] as const;
export type Place = (typeof PLACES)[number];

const FREE_FIRST = PLACES.indexOf('free extents');
const CODE = new Map<Place, number>(PLACES.map((p, i) => [p, i]));

export class MetaMap {
  private readonly places: Uint8Array;
  freeBlocks = 0;
  usedBlocks = 0;

  private constructor(readonly totalBlocks: number, private readonly report: Reporter,
    places: Uint8Array) {
    this.places = places;
  }

  /** @throws CHECK_MEMORY */
  static make(totalBlocks: number, report: Reporter, memory: MemoryBudget): MetaMap {
    memory.charge(totalBlocks, 'the map of metadata blocks');
    return new MetaMap(totalBlocks, report, new Uint8Array(totalBlocks));
  }

  /** An empty map in this one's memory, which must not be used any more. */
  recycle(report: Reporter): MetaMap {
    this.places.fill(0);
    return new MetaMap(this.totalBlocks, report, this.places);
  }

  place(blkno: number): Place {
    return PLACES[this.places[blkno] ?? 0] ?? 'nowhere';
  }

  isFree(blkno: number): boolean {
    return (this.places[blkno] ?? 0) >= FREE_FIRST;
  }

  isNowhere(blkno: number): boolean {
    return this.places[blkno] === 0;
  }

  /** Claims a block in range for a structure. @returns false, after reporting, if it has a place */
  use(blkno: number, place: Place, where: Where = {}): boolean {
    if (this.isNowhere(blkno)) {
      this.places[blkno] = CODE.get(place) ?? 0;
      this.usedBlocks++;
      return true;
    }
    const free = this.isFree(blkno);
    this.report.finding(free ? 'CHK_META_FREE_USED' : 'CHK_META_USED_TWICE',
      `block ${blkno} of ${place} is also in ${this.place(blkno)}`, { blkno, ...where });
    return false;
  }

  /** Records a block in range as free. @returns false, after reporting, if it has a place */
  free(blkno: number, place: Place, where: Where = {}): boolean {
    if (this.isNowhere(blkno)) {
      this.places[blkno] = CODE.get(place) ?? 0;
      this.freeBlocks++;
      return true;
    }
    const free = this.isFree(blkno);
    this.report.finding(free ? 'CHK_META_FREE_TWICE' : 'CHK_META_FREE_USED',
      `block ${blkno} in ${place} is also in ${this.place(blkno)}`, { blkno, ...where });
    return false;
  }

  /** Records a run of blocks in range as free; clashes become one finding. */
  freeRun(start: number, len: number, place: Place, where: Where = {}): void {
    const code = CODE.get(place) ?? 0;
    let clashes = 0;
    let first = -1;
    for (let b = start; b < start + len; b++) {
      if (this.isNowhere(b)) {
        this.places[b] = code;
        this.freeBlocks++;
      } else {
        if (first === -1) first = b;
        clashes++;
      }
    }
    if (first === -1) return;
    this.report.finding(this.isFree(first) ? 'CHK_META_FREE_TWICE' : 'CHK_META_FREE_USED',
      `block ${first} in ${place} is also in ${this.place(first)} (${clashes} blocks in all)`,
      { blkno: first, ...where });
  }

  /** Block numbers without a place, ascending. */
  *lost(): Generator<number> {
    let b = this.places.indexOf(0, META_DEV_START_BLKNO);
    while (b !== -1) {
      yield b;
      b = this.places.indexOf(0, b + 1);
    }
  }
}

const CHUNK_BLOCKS = 32768;
const CHUNK_WORDS = CHUNK_BLOCKS / 32;
const FULL = 'full';

interface Chunk {
  words: Uint32Array;
  set: number;
}

export class DataMap {
  private readonly chunks: (Chunk | typeof FULL | undefined)[];

  /** @param off for walks that do not account for data: nothing is marked */
  constructor(readonly totalBlocks: number, private readonly memory: MemoryBudget,
    private readonly off = false) {
    const n = off ? 0 : Math.ceil(totalBlocks / CHUNK_BLOCKS);
    memory.charge(n * 8, 'the map of data blocks');
    this.chunks = new Array<Chunk | typeof FULL | undefined>(n).fill(undefined);
  }

  /**
   * Marks blocks `start .. start + len - 1`, which must lie inside the device.
   * @returns the first of them that was marked before, or -1
   */
  mark(start: number, len: number): number {
    if (this.off) return -1;
    let clash = -1;
    let at = start;
    const end = start + len;
    while (at < end) {
      const c = Math.floor(at / CHUNK_BLOCKS);
      const from = at - c * CHUNK_BLOCKS;
      const to = Math.min(end - c * CHUNK_BLOCKS, CHUNK_BLOCKS);
      const hit = this.markChunk(c, from, to);
      if (hit !== -1 && clash === -1) clash = c * CHUNK_BLOCKS + hit;
      at = c * CHUNK_BLOCKS + to;
    }
    return clash;
  }

  private markChunk(c: number, from: number, to: number): number {
    let chunk = this.chunks[c];
    if (chunk === FULL) return from;
    if (chunk === undefined) {
      if (from === 0 && to === CHUNK_BLOCKS) {
        this.chunks[c] = FULL;
        return -1;
      }
      this.memory.charge(CHUNK_WORDS * 4, 'the map of data blocks');
      chunk = { words: new Uint32Array(CHUNK_WORDS), set: 0 };
      this.chunks[c] = chunk;
    }
    let clash = -1;
    for (let b = from; b < to;) {
      const w = b >>> 5;
      const first = b & 31;
      const n = Math.min(32 - first, to - b);
      const mask = n === 32 ? 0xffffffff : ((2 ** n - 1) << first) >>> 0;
      const old = chunk.words[w] ?? 0;
      const both = (old & mask) >>> 0;
      if (both !== 0 && clash === -1) clash = (w << 5) + 31 - Math.clz32(both & -both);
      chunk.words[w] = old | mask;
      chunk.set += n - popcount(both);
      b += n;
    }
    if (chunk.set === CHUNK_BLOCKS) {
      this.chunks[c] = FULL;
      this.memory.release(CHUNK_WORDS * 4);
    }
    return clash;
  }

  /** Runs of unmarked data blocks, as [first, length]; a run may be given in pieces. */
  *unmarked(): Generator<[number, number]> {
    for (let c = 0; c < this.chunks.length; c++) {
      const chunk = this.chunks[c];
      if (chunk === FULL) continue;
      const base = c * CHUNK_BLOCKS;
      const from = Math.max(base, DATA_DEV_START_BLKNO) - base;
      const to = Math.min(this.totalBlocks - base, CHUNK_BLOCKS);
      if (chunk === undefined) {
        if (to > from) yield [base + from, to - from];
        continue;
      }
      let start = -1;
      for (let b = from; b <= to; b++) {
        const set = b === to || (((chunk.words[b >>> 5] ?? 0) >>> (b & 31)) & 1) !== 0;
        if (!set && start === -1) start = b;
        if (set && start !== -1) {
          yield [base + start, b - start];
          start = -1;
        }
      }
    }
  }
}

export function popcount(x: number): number {
  x -= (x >>> 1) & 0x55555555;
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
