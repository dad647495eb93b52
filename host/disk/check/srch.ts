/**
 * Srch files: where the entries of `srch.` tagged xattrs are.
 *
 * A file is a radix tree of leaves. Files hang on items of the srch tree, on open
 * log trees, and on compactions that are under way:
 *
 *   LOG or SORTED phase   inputs are copies of files with items; out belongs to it
 *   DELETE phase          out is a copy; inputs belong to it, less what is freed
 *
 * Only files that a search reads count for the xattrs: those of items and of log
 * trees. Spec: srch.md 2 to 5, format.md 13, alloc.md 9.1.
 */
import { BLOCK_MAGIC_SRCH_BLOCK, BLOCK_MAGIC_SRCH_PARENT, SRCH_BLOCKS_TYPE, SRCH_BUSY_TYPE,
  SRCH_COMPACT_FLAG_DELETE, SRCH_COMPACT_FLAG_LOG, SRCH_COMPACT_FLAG_SORTED, SRCH_LOG_TYPE,
  SRCH_PARENT_REFS, SRCH_PENDING_TYPE, SRCH_ZONE, SrchCompact, SrchCompactInput, SrchFile,
  SRCH_BLOCK_SAFE_BYTES } from '../../core/format.js';
import { checkAllocList } from './alloc.js';
import type { Place } from './accounting.js';
import { refAt, refOf } from './blocks.js';
import type { Ref } from './blocks.js';
import type { Context } from './context.js';
import { TreeCursor } from './cursor.js';
import { decodeItem } from './decode.js';
import { isZero64, num } from './keys.js';
import { serverItems } from './logs.js';
import type { LogTree } from './logs.js';
import type { Where } from './report.js';
import { ENTRY_BYTES, compareEntries, copyEntry, decodeLeaf, entryOf, leafBoundsProblem, newEntry }
  from './srchblock.js';

const REF_BYTES = 16;
const PARENT_HEADER_BYTES = 32;
/** Four levels reach 2^48 leaves, more than any device has blocks. */
const HEIGHT_MAX = 5;
/** Rough memory of one decoded item. */
const FILE_COST_BYTES = 1024;

type Kind = 'log' | 'sorted';
/** Files that have items, by the block number of their root. */
type Files = Record<Kind, Map<number, SrchFile>>;

interface FileSpec {
  file: SrchFile;
  kind: Kind;
  name: string;
  place: Place;
  /** A search reads this file. */
  counts: boolean;
  /** Only claim the blocks, do not read entries. */
  blocksOnly?: boolean;
  /** True for blocks that a deletion has freed. */
  freed?: (level: number, firstLeaf: number) => boolean;
}

interface Compaction {
  c: SrchCompact;
  key: string;
}

export function checkSrch(ctx: Context, logs: LogTree[]): void {
  const files: Files = { log: new Map(), sorted: new Map() };
  const compactions: Compaction[] = [];
  const tree = new TreeCursor(ctx, { root: ctx.sb.srchRoot, name: 'the srch tree',
    place: 'the srch tree', onGap: () => { ctx.unreadSrchBlocks++; } });
  const size = (zone: number, type: number): number | undefined => {
    if (zone !== SRCH_ZONE) return undefined;
    if (type === SRCH_LOG_TYPE || type === SRCH_BLOCKS_TYPE) return SrchFile.size;
    return type === SRCH_PENDING_TYPE || type === SRCH_BUSY_TYPE ? SrchCompact.size : undefined;
  };
  for (const it of serverItems(ctx, tree, size)) {
    const type = it.view.getUint8(it.keyOff + 26);
    if (type === SRCH_LOG_TYPE || type === SRCH_BLOCKS_TYPE) fileItem(ctx, it, type, files);
    else compactItem(ctx, it, type, compactions);
  }
  for (const { lt, name } of logs) {
    walkFile(ctx, { file: lt.srchFile, kind: 'log', name: `the srch file of ${name}`,
      place: 'a srch file', counts: true });
  }
  const inputs = new Set<number>();
  for (const one of compactions) checkCompaction(ctx, one, files, inputs);
}

function fileItem(ctx: Context, it: TreeCursor, type: number, files: Files): void {
  const { view: v, keyOff: k, key } = it;
  const file = decodeItem(ctx, SrchFile, it);
  if (file === null) return;
  ctx.memory.charge(FILE_COST_BYTES, 'the list of srch files');
  const kind: Kind = type === SRCH_LOG_TYPE ? 'log' : 'sorted';
  const wanted = kind === 'log' ? [file.ref.blkno, 0] : [file.blocks, file.ref.blkno];
  if (!isZero64(v, k) || num(v, k + 8) !== wanted[0] || num(v, k + 16) !== wanted[1]) {
    ctx.report.finding('CHK_SRCH_FILE', 'a srch file is stored under a key of another', { key });
  }
  files[kind].set(file.ref.blkno, file);
  walkFile(ctx, { file, kind, name: `srch file ${file.ref.blkno}`, place: 'a srch file',
    counts: true }, { key });
}

function compactItem(ctx: Context, it: TreeCursor, type: number, list: Compaction[]): void {
  const { view: v, keyOff: k, key } = it;
  const c = decodeItem(ctx, SrchCompact, it);
  if (c === null) return;
  ctx.memory.charge(FILE_COST_BYTES, 'the list of compactions');
  const id = type === SRCH_PENDING_TYPE ? num(v, k + 8) : num(v, k + 16);
  const phases: number[] = [SRCH_COMPACT_FLAG_LOG, SRCH_COMPACT_FLAG_SORTED,
    SRCH_COMPACT_FLAG_DELETE];
  if (id !== c.id || !isZero64(v, k) || c.nr < 1 || c.nr > c.inputs.length
    || !phases.includes(c.flags)) {
    ctx.report.finding('CHK_SRCH_COMPACT',
      `compaction ${c.id} has ${c.nr} inputs, flags ${c.flags}, or another key`, { key });
    return;
  }
  const unused = new Uint8Array(v.buffer, v.byteOffset + it.valOff, SrchCompact.size)
    .subarray(SrchCompact.size - (c.inputs.length - c.nr) * SrchCompactInput.size);
  if (unused.some((b) => b !== 0)) {
    ctx.report.finding('CHK_SRCH_COMPACT', `compaction ${c.id} has left over inputs`, { key });
  }
  list.push({ c, key });
}

function checkCompaction(ctx: Context, { c, key }: Compaction, files: Files,
  seen: Set<number>): void {
  const name = `compaction ${c.id}`;
  const place = 'a block list of a compaction';
  checkAllocList(ctx, { head: c.metaAvail, name: `meta_avail of ${name}`, place });
  checkAllocList(ctx, { head: c.metaFreed, name: `meta_freed of ${name}`, place });
  const inputs = c.inputs.slice(0, c.nr);
  for (const { sfl } of inputs) {
    if (seen.has(sfl.ref.blkno)) {
      ctx.report.finding('CHK_SRCH_COMPACT', `${name} has an input of another compaction`, { key });
    }
    seen.add(sfl.ref.blkno);
  }
  if (c.flags === SRCH_COMPACT_FLAG_DELETE) {
    for (const input of inputs) {
      if (input.pos > input.sfl.height + 1) {
        ctx.report.finding('CHK_SRCH_COMPACT', `${name} deletes level ${input.pos}`, { key });
      }
      walkFile(ctx, { file: input.sfl, kind: 'log', name: `an input of ${name}`,
        place: 'a srch compaction', counts: false, blocksOnly: true, freed: freedBy(input) });
    }
    return;
  }
  const kind: Kind = c.flags === SRCH_COMPACT_FLAG_LOG ? 'log' : 'sorted';
  if (inputs.some(({ sfl }) => !sameFile(files[kind].get(sfl.ref.blkno), sfl))) {
    ctx.report.finding('CHK_SRCH_COMPACT',
      `${name} has an input that no ${kind} file's item describes`, { key });
  }
  // A log phase does not use positions.
  if (kind === 'sorted'
    && inputs.some(({ sfl, blk, pos }) => blk > sfl.blocks || pos > SRCH_BLOCK_SAFE_BYTES)) {
    ctx.report.finding('CHK_SRCH_COMPACT', `${name} stands behind the end of an input`, { key });
  }
  walkFile(ctx, { file: c.out, kind: 'sorted', name: `the output of ${name}`,
    place: 'a srch compaction', counts: false }, { key });
}

function sameFile(a: SrchFile | undefined, b: SrchFile): boolean {
  return a !== undefined && a.ref.seq === b.ref.seq && a.blocks === b.blocks
    && a.entries === b.entries && a.height === b.height
    && compareEntries(entryOf(a.first), 0, entryOf(b.first), 0) === 0
    && compareEntries(entryOf(a.last), 0, entryOf(b.last), 0) === 0;
}

/** Which blocks of an input a deletion has freed. Source: alloc.md 9.1 */
function freedBy({ blk, pos, sfl }: SrchCompactInput): (level: number, leaf: number) => boolean {
  const p = Math.max(pos, 1);
  return (level, firstLeaf) => {
    if (level === sfl.height - 1) return p > sfl.height;
    return level <= p - 2 || (level === p - 1 && firstLeaf < blk);
  };
}

/** Levels that a file with this many leaves needs. */
export function heightFor(blocks: number): number {
  if (blocks <= 1) return blocks;
  let h = 2;
  while (blocks - 1 >= SRCH_PARENT_REFS ** (h - 1)) h++;
  return h;
}

function walkFile(ctx: Context, spec: FileSpec, where: Where = {}): void {
  new FileWalk(ctx, spec, where).run();
}

class FileWalk {
  private entries = 0;
  private hasEmpty = false;
  private complete = true;
  private any = false;
  private readonly least = newEntry();
  private readonly greatest = newEntry();
  private readonly before = newEntry();

  constructor(private readonly ctx: Context, private readonly spec: FileSpec,
    private readonly where: Where) {}

  run(): void {
    const { file, name } = this.spec;
    if (file.height !== heightFor(file.blocks) || file.height > HEIGHT_MAX
      || (file.ref.blkno === 0) !== (file.height === 0)
      || (file.height === 0 && file.entries !== 0)) {
      this.bad('CHK_SRCH_FILE', `has ${file.blocks} blocks, height ${file.height}, `
        + `${file.entries} entries and root ${file.ref.blkno}`);
      this.lose();
      return;
    }
    if (file.height === 0) return;
    this.visit(refOf(file.ref), file.height - 1, 0);
    if (!this.complete || this.spec.blocksOnly === true) return;
    if (this.entries !== file.entries) {
      this.bad('CHK_SRCH_FILE', `records ${file.entries} entries, but has ${this.entries}`);
    }
    if (this.hasEmpty) {
      this.ctx.report.note('CHK_SRCH_EMPTY', `${name} has a block without entries`, this.where);
    } else {
      this.checkBounds();
    }
  }

  private bad(id: 'CHK_SRCH_FILE' | 'CHK_SRCH_BLOCK' | 'CHK_SRCH_ORDER' | 'CHK_SRCH_ENTRY'
  | 'CHK_SRCH_BOUNDS', what: string, blkno?: number): void {
    this.ctx.report.finding(id, `${this.spec.name} ${what}`,
      { ...this.where, ...(blkno === undefined ? {} : { blkno }) });
  }

  private lose(): void {
    this.complete = false;
    this.ctx.unreadSrchBlocks++;
  }

  private visit(ref: Ref, level: number, firstLeaf: number): void {
    const { ctx, spec } = this;
    if (spec.freed?.(level, firstLeaf) === true) return;
    if (ref.blkno === 0) {
      this.bad('CHK_SRCH_FILE', `lacks block ${firstLeaf}`);
      this.lose();
      return;
    }
    if (ctx.reader.inRange(ref.blkno) && !ctx.meta.use(ref.blkno, spec.place)) {
      this.lose();
      return;
    }
    const magic = level > 0 ? BLOCK_MAGIC_SRCH_PARENT : BLOCK_MAGIC_SRCH_BLOCK;
    const block = ctx.reader.read(ref, magic, spec.name);
    if (block === null) {
      this.lose();
      return;
    }
    if (level > 0) this.parent(block.view, block.blkno, level, firstLeaf);
    else if (spec.blocksOnly !== true) this.leaf(block.view, block.blkno);
    ctx.reader.give(block);
  }

  private parent(v: DataView, blkno: number, level: number, firstLeaf: number): void {
    const step = SRCH_PARENT_REFS ** (level - 1);
    for (let i = 0; i < SRCH_PARENT_REFS; i++) {
      const leaf = firstLeaf + i * step;
      const ref = refAt(v, PARENT_HEADER_BYTES + i * REF_BYTES);
      if (leaf < this.spec.file.blocks) {
        this.visit(ref, level - 1, leaf);
      } else if (ref.blkno !== 0 || ref.seqLo !== 0 || ref.seqHi !== 0) {
        this.bad('CHK_SRCH_FILE', `refers to block ${leaf} behind its end`, blkno);
        return;
      }
    }
  }

  private leaf(v: DataView, blkno: number): void {
    const { ctx, spec, before } = this;
    const sorted = spec.kind === 'sorted';
    const r = decodeLeaf(v, (entry) => {
      ctx.summary.srchEntries++;
      if (spec.counts) ctx.ledger.put('srch/xattr', 1, 0, entry, 0, ENTRY_BYTES, entry, -1);
    });
    if (r.problem !== '') {
      this.bad('CHK_SRCH_ENTRY', `block ${blkno} ${r.problem}`, blkno);
      this.lose();
      return;
    }
    this.entries += r.nr;
    if (r.nr === 0) {
      this.hasEmpty = true;
      return;
    }
    const problem = leafBoundsProblem(v, r, sorted);
    if (problem !== '') this.bad('CHK_SRCH_BLOCK', `block ${blkno} ${problem}`, blkno);
    if (sorted && (!r.ascending || (this.any && compareEntries(before, 0, r.firstEntry, 0) > 0))) {
      this.bad('CHK_SRCH_ORDER', `block ${blkno} has entries out of order`, blkno);
    }
    copyEntry(before, r.lastEntry);
    if (!this.any || compareEntries(r.least, 0, this.least, 0) < 0) copyEntry(this.least, r.least);
    if (!this.any || compareEntries(r.greatest, 0, this.greatest, 0) > 0) {
      copyEntry(this.greatest, r.greatest);
    }
    this.any = true;
  }

  /** Bounds of log files may be too narrow, never too wide. */
  private checkBounds(): void {
    const { file, kind } = this.spec;
    const first = compareEntries(entryOf(file.first), 0, this.least, 0);
    const last = compareEntries(entryOf(file.last), 0, this.greatest, 0);
    if (kind === 'sorted' ? first !== 0 || last !== 0 : first < 0 || last > 0) {
      this.bad('CHK_SRCH_BOUNDS', 'records bounds that do not fit its entries');
    }
  }
}
