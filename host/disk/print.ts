/**
 * Dumps a volume's metadata as text, in the order and words of upstream's `print`,
 * so that both can be compared line by line.
 *
 *   super, quorum blocks, mounted_clients, log_merge, server block lists,
 *   meta_alloc, data_alloc *, srch_root, logs_root, srch files *,
 *   per mount: block lists, data_avail, data_freed *, item tree *,
 *   fs_root *                                           (* unless skipped)
 *
 * What cannot be read or followed becomes a line beginning with `!!` and is
 * counted; the dump goes on with what is left. Checksums are shown, not enforced.
 *
 * Spec: cli.md 1.4.
 */
import {
  AllocListBlock, BLOCK_MAGIC_SRCH_PARENT, BLOCK_SM_SIZE, BlockRef, QUORUM_BLKNO, QUORUM_BLOCKS,
  SRCH_BLOCKS_TYPE, SRCH_LOG_TYPE, SRCH_PARENT_REFS, SRCH_ZONE, SrchFile, SrchParent, SuperBlock,
  LogTrees, ALLOC_LIST_MAX_BLOCKS, BTREE_LEAF_ITEM_HASH_NR, SUPER_BLKNO,
} from '../core/format.js';
import type { AllocListHead, AllocRoot, BtreeRoot } from '../core/format.js';
import type { Device } from '../env/device.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { viewOf } from './block.js';
import {
  allocItem, clientItem, fsItem, logTreesItem, mergeItem, parentItem, safely, srchItem,
} from './print_items.js';
import type { ItemPrinter } from './print_items.js';
import { quorumText, superText } from './print_super.js';
import { crcText, entryText, headerText, hex16, tokenLines, word } from './print_text.js';
import { decodeSrchBlock } from './srch_decode.js';
import { isMetaSuper } from './super.js';
import { hashBuckets, makeWalker, rawRef } from './tree.js';
import type { LargeBlock, TreeItem, Walker } from './tree.js';

export interface PrintOptions {
  /** Leave out what is likely to be huge: free data, srch files, file system items. */
  skipLikelyHuge?: boolean;
  write(text: string): void;
}

/** What a dump met, for a caller that wants it as objects. */
export interface PrintResult {
  /** Each has a line in the dump. */
  problems: number;
  sb: SuperBlock;
  logTrees: LogTrees[];
  srchFiles: SrchFile[];
}

/** List blocks followed in one list; more means a loop. */
const LIST_BLOCKS_MAX = 1 << 20;
const HASH_INDENT = 3;
const EXTENTS_INDENT = 8;

function itemHead(i: number, item: TreeItem, v: DataView): string {
  const o = item.off;
  return `  [${i}] off ${o} par ${v.getUint16(o, true)} l ${v.getUint16(o + 2, true)} ` +
    `r ${v.getUint16(o + 4, true)} h ${v.getUint8(o + 6)} vo ${item.valOff} vl ${item.valLen}\n`;
}

function btreeHead(name: string, { bytes, view: v }: LargeBlock): string {
  const level = v.getUint8(40);
  const head = `${name} btree blkno ${word(v, 24)}\n` +
    `  crc ${crcText(bytes)} fsid ${hex16(word(v, 8))} seq ${word(v, 16)} ` +
    `blkno ${word(v, 24)} \n` +
    `  total_item_bytes ${v.getUint16(36, true)} mid_free_len ${v.getUint16(38, true)}\n` +
    `  level ${level} nr_items ${v.getUint16(34, true)} item_root.node ${v.getUint16(32, true)}\n`;
  if (level !== 0) return head;
  const buckets = hashBuckets(v);
  const percent = Math.floor(buckets.length * 100 / BTREE_LEAF_ITEM_HASH_NR);
  const { text, counted } = tokenLines('  item hash: ', buckets.map(([b, off]) => `${b},${off}`),
    HASH_INDENT);
  // Upstream ends the last line only if it counted a token on it.
  return `${head}${text}${counted ? '\n' : ''}` +
    `    (${buckets.length} / ${BTREE_LEAF_ITEM_HASH_NR} populated, ${percent}% load)\n`;
}

/** Runs of consecutive block numbers, in the order of the list. */
function runs(blknos: readonly bigint[]): string[] {
  const out: string[] = [];
  let start = -1n;
  let len = 0n;
  for (const b of blknos) {
    if (len > 0n && b === start + len) {
      len++;
      continue;
    }
    if (len > 0n) out.push(`${start},${len}`);
    start = b;
    len = 1n;
  }
  if (len > 0n) out.push(`${start},${len}`);
  return out;
}

class Printer {
  problems = 0;
  readonly srchFiles: SrchFile[] = [];
  readonly logs: LogTrees[] = [];
  private readonly walker: Walker;

  constructor(private readonly meta: Device, private readonly opts: PrintOptions) {
    this.walker = makeWalker(meta);
  }

  private problem(name: string, text: string): void {
    this.problems++;
    this.opts.write(`!! ${name}: ${text}\n`);
  }

  quorum(): void {
    for (let slot = 0; slot < QUORUM_BLOCKS; slot++) {
      const block = new Uint8Array(BLOCK_SM_SIZE);
      try {
        this.meta.readSync((QUORUM_BLKNO + slot) * BLOCK_SM_SIZE, block);
      } catch (e) {
        this.problem(`quorum slot ${slot}`, asScoutfsError(e).message);
        continue;
      }
      this.opts.write(quorumText(slot, block));
    }
  }

  /** Prints a tree; `leaf` sees every leaf item after it is printed. */
  tree(name: string, root: BtreeRoot, print: ItemPrinter, leaf?: (item: TreeItem) => void): void {
    const problem = (text: string): void => { this.problem(name, text); };
    this.walker.btree(root.ref, root.height, {
      problem,
      block: (block, items) => {
        const parent = block.view.getUint8(40) !== 0;
        const nr = block.view.getUint16(34, true);
        const text = items.map((item, i) => itemHead(i, item, block.view) +
          (parent ? parentItem(item) : safely(print, item)));
        this.opts.write(btreeHead(name, block) + text.join(''));
        if (items.length !== nr) {
          problem(`block ${block.blkno} links ${items.length} of its ${nr} items`);
        }
        if (!parent && leaf !== undefined) for (const item of items) leaf(item);
      },
    });
  }

  allocTree(name: string, root: AllocRoot): void {
    this.tree(name, root.root, allocItem);
  }

  list(name: string, head: AllocListHead): void {
    let ref: BlockRef = head.ref;
    for (let i = 0; ref.blkno !== 0; i++) {
      if (i > LIST_BLOCKS_MAX) {
        this.problem(name, 'the list has a loop');
        return;
      }
      const block = this.read(name, ref.blkno);
      if (block === null) return;
      const v = block.view;
      ref = rawRef(v, 32);
      const start = v.getUint32(48, true);
      const nr = v.getUint32(52, true);
      this.opts.write(`${name} alloc_list_block blkno ${word(v, 24)}\n` +
        `  ${headerText(block.bytes)}\n` +
        `  next blkno ${ref.blkno} seq ${ref.seq} start ${start} nr ${nr}\n`);
      if (start + nr > ALLOC_LIST_MAX_BLOCKS) {
        this.problem(name, `block ${block.blkno} claims ${nr} numbers from ${start}`);
        return;
      }
      const blknos = Array.from({ length: nr },
        (_, n) => word(v, AllocListBlock.size + 8 * (start + n)));
      this.opts.write(`${tokenLines('  exts: ', runs(blknos), EXTENTS_INDENT).text}\n`);
    }
  }

  private read(name: string, blkno: number): LargeBlock | null {
    try {
      return this.walker.read(blkno);
    } catch (e) {
      this.problem(name, asScoutfsError(e).message);
      return null;
    }
  }

  /** Prints the blocks of a srch file, parents before children. */
  srchFile(file: SrchFile): void {
    if (file.ref.blkno === 0 || file.height === 0) return;
    const seen = new Set<number>();
    const visit = (ref: BlockRef, level: number): void => {
      if (seen.has(ref.blkno)) {
        this.problem('srch', `block ${ref.blkno} is reached twice`);
        return;
      }
      seen.add(ref.blkno);
      const block = this.read('srch', ref.blkno);
      if (block === null) return;
      const isParent = block.view.getUint32(4, true) === BLOCK_MAGIC_SRCH_PARENT;
      if (isParent !== level > 0) {
        this.problem('srch', `block ${ref.blkno} is no block of level ${level}`);
        return;
      }
      if (level === 0) this.srchBlock(block);
      else for (const child of this.srchParent(block)) visit(child, level - 1);
    };
    visit(file.ref, file.height - 1);
  }

  private srchParent(block: LargeBlock): BlockRef[] {
    const refs: [number, BlockRef][] = [];
    for (let i = 0; i < SRCH_PARENT_REFS; i++) {
      const ref = rawRef(block.view, SrchParent.size + i * BlockRef.size);
      if (ref.blkno !== 0) refs.push([i, ref]);
    }
    this.opts.write(`srch parent blkno ${word(block.view, 24)}\n` +
      `  ${headerText(block.bytes)}\n` +
      refs.map(([i, r]) => `  [${i}]: blkno ${r.blkno} seq ${r.seq}\n`).join(''));
    return refs.map(([, r]) => r);
  }

  private srchBlock({ bytes, view: v }: LargeBlock): void {
    const entry = (o: number): string =>
      entryText({ hash: word(v, o), ino: word(v, o + 8), id: word(v, o + 16) });
    const lines = [
      `srch block blkno ${word(v, 24)}`,
      `  ${headerText(bytes)}`,
      `  first ${entry(32)} last ${entry(56)} tail ${entry(80)}`,
      `  entry_nr ${v.getUint32(104, true)} entry_bytes ${v.getUint32(108, true)}`,
    ];
    let i = 0;
    for (const e of decodeSrchBlock(v)) {
      lines.push(`  [${i}]: (${e.bytes}) ${entryText(e.entry)}`);
      i++;
    }
    this.opts.write(`${lines.join('\n')}\n`);
    if (i !== v.getUint32(104, true)) {
      this.problem('srch', `block ${word(v, 24)} holds ${i} of its ` +
        `${v.getUint32(104, true)} entries`);
    }
  }

  /** Lists and trees that belong to one mount. */
  logTrees(lt: LogTrees): void {
    const all = this.opts.skipLikelyHuge !== true;
    this.list('lt_meta_avail', lt.metaAvail);
    this.list('lt_meta_freed', lt.metaFreed);
    if (all) {
      this.allocTree('data_avail', lt.dataAvail);
      this.allocTree('data_freed', lt.dataFreed);
      this.srchFile(lt.srchFile);
      // The item tree of a mount has no name in the dump.
      this.tree('', lt.itemRoot, fsItem);
    }
  }

  volume(sb: SuperBlock): void {
    const all = this.opts.skipLikelyHuge !== true;
    const { srchFiles: files, logs } = this;
    this.quorum();
    this.tree('mounted_clients', sb.mountedClients, clientItem);
    this.tree('log_merge', sb.logMerge, mergeItem);
    sb.serverMetaAvail.forEach((h, i) => { this.list(`server_meta_avail[${i}]`, h); });
    sb.serverMetaFreed.forEach((h, i) => { this.list(`server_meta_freed[${i}]`, h); });
    sb.metaAlloc.forEach((r, i) => { this.allocTree(`meta_alloc[${i}]`, r); });
    if (all) this.allocTree('data_alloc', sb.dataAlloc);
    this.tree('srch_root', sb.srchRoot, srchItem, (item) => { collectFile(item, files); });
    this.tree('logs_root', sb.logsRoot, logTreesItem, (item) => { collectLog(item, logs); });
    if (all) files.forEach((f) => { this.srchFile(f); });
    logs.forEach((lt) => { this.logTrees(lt); });
    if (all) this.tree('fs_root', sb.fsRoot, fsItem);
  }
}

/** Keeps the file of a srch item; items that cannot be read were printed as such. */
function collectFile({ key, val }: TreeItem, files: SrchFile[]): void {
  const isFile = key.zone === SRCH_ZONE &&
    (key.type === SRCH_LOG_TYPE || key.type === SRCH_BLOCKS_TYPE);
  if (!isFile || val.byteLength < SrchFile.size) return;
  try {
    files.push(SrchFile.read(val, 0));
  } catch {
    // a number beyond 2^53 was reported with the item
  }
}

function collectLog({ val }: TreeItem, logs: LogTrees[]): void {
  if (val.byteLength < LogTrees.size) return;
  try {
    logs.push(LogTrees.read(val, 0));
  } catch {
    // as above
  }
}

/** The super block as it is, without any check of it. @throws U64_RANGE, DEVICE_IO (EIO) */
export function readSuperUnchecked(dev: Device): { block: Uint8Array; sb: SuperBlock } {
  const block = new Uint8Array(BLOCK_SM_SIZE);
  dev.readSync(SUPER_BLKNO * BLOCK_SM_SIZE, block);
  return { block, sb: SuperBlock.read(viewOf(block), 0) };
}

/**
 * Dumps the volume of a metadata device.
 *
 * @throws NOT_META_DEVICE (EINVAL) after printing the super block of a data device;
 *   DEVICE_IO (EIO) when the super block cannot be read
 */
export function printVolume(meta: Device, opts: PrintOptions): PrintResult {
  const { block, sb } = readSuperUnchecked(meta);
  opts.write(superText(block, sb));
  if (!isMetaSuper(sb)) {
    throw new ScoutfsError('NOT_META_DEVICE', 'EINVAL', {
      message: `${meta.path}: its super block is not that of a metadata device`,
    });
  }
  const printer = new Printer(meta, opts);
  printer.volume(sb);
  return {
    problems: printer.problems, sb, logTrees: printer.logs, srchFiles: printer.srchFiles,
  };
}
