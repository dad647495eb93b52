/**
 * Records of the server in core memory.
 *
 * The server's trees are changed by the core, which is told by address where their
 * roots are. So the dirty super block and the log_trees value being worked on live in
 * the core's heap, in their stored form, and calls change the roots inside them in
 * place; single fields are read and written here.
 *
 *   super 1488    seq 72 · next_ino 80 · inode_count 88 · totals 96, 104
 *                 meta_alloc 600, 640 · data_alloc 680 · server_meta_avail 720, 752
 *                 server_meta_freed 784, 816 · fs 848 · logs 872 · log_merge 896
 *                 mounted_clients 920 · srch 944 · volopt 968
 *   log_trees 472 meta_avail 0 · meta_freed 32 · item_root 64 · bloom 88
 *                 data_avail 104 · data_freed 144 · srch_file 184 · zone_blocks 272
 *                 zones 280 · inode_delta 408 · seqs 416.. · rid 448 · nr 456 · flags 464
 *
 * Layouts: format.md; the codecs of format.ts hold the same offsets.
 */
import type { Core, Ptr } from '../core/core.js';
import { DATA_ALLOC_ZONE_BYTES, LogTrees, SrchFile, SuperBlock } from '../core/format.js';
import { Rec } from '../core/trees.js';
import { setU64, u64 } from '../core/u64.js';

const ALLOC_ROOT_BYTES = 40;
const LIST_HEAD_BYTES = 32;
const LIST_FIRST_NR = 24;
const LIST_FLAGS = 28;
const AROOT_FLAGS = 8;
const ROOT_HEIGHT = 16;

/** total_len of the alloc root at `p`. */
export function aRootTotal(core: Core, p: Ptr): number {
  return u64(core.view, p);
}

export function setARootTotal(core: Core, p: Ptr, lenBlocks: number): void {
  setU64(core.view, p, lenBlocks);
}

/** flags of the alloc root at `p`. */
export function setARootFlags(core: Core, p: Ptr, flags: number): void {
  core.view.setUint32(p + AROOT_FLAGS, flags, true);
}

/** Height of the btree root at `p`. */
export function rootHeight(core: Core, p: Ptr): number {
  return core.view.getUint8(p + ROOT_HEIGHT);
}

/** Whether the list head at `p` has no blocks. */
export function listIsEmpty(core: Core, p: Ptr): boolean {
  return u64(core.view, p) === 0;
}

/** Numbers in the first block of the list at `p`: what one transaction can use. */
export function listFirstNr(core: Core, p: Ptr): number {
  return core.view.getUint32(p + LIST_FIRST_NR, true);
}

export function listFlags(core: Core, p: Ptr): number {
  return core.view.getUint32(p + LIST_FLAGS, true);
}

export function setListFlags(core: Core, p: Ptr, flags: number): void {
  core.view.setUint32(p + LIST_FLAGS, flags, true);
}

/** The dirty super block. */
export class SuperRec {
  private readonly rec: Rec;

  constructor(private readonly core: Core, sb: SuperBlock) {
    this.rec = new Rec(core, SuperBlock.size);
    SuperBlock.write(core.view, this.rec.ptr, sb);
  }

  /** A decoded copy. */
  read(): SuperBlock {
    return SuperBlock.read(this.core.view, this.rec.ptr);
  }

  write(sb: SuperBlock): void {
    SuperBlock.write(this.core.view, this.rec.ptr, sb);
  }

  metaAlloc(i: number): Ptr { return this.rec.ptr + 600 + i * ALLOC_ROOT_BYTES; }
  get dataAlloc(): Ptr { return this.rec.ptr + 680; }
  serverMetaAvail(i: number): Ptr { return this.rec.ptr + 720 + i * LIST_HEAD_BYTES; }
  serverMetaFreed(i: number): Ptr { return this.rec.ptr + 784 + i * LIST_HEAD_BYTES; }
  get fsRoot(): Ptr { return this.rec.ptr + 848; }
  get logsRoot(): Ptr { return this.rec.ptr + 872; }
  get logMerge(): Ptr { return this.rec.ptr + 896; }
  get mountedClients(): Ptr { return this.rec.ptr + 920; }
  get srchRoot(): Ptr { return this.rec.ptr + 944; }

  get nextIno(): number { return u64(this.core.view, this.rec.ptr + 80); }
  set nextIno(n: number) { setU64(this.core.view, this.rec.ptr + 80, n); }
  get inodeCount(): number { return u64(this.core.view, this.rec.ptr + 88); }
  set inodeCount(n: number) { setU64(this.core.view, this.rec.ptr + 88, n); }
  get totalMetaBlocks(): number { return u64(this.core.view, this.rec.ptr + 96); }
  set totalMetaBlocks(n: number) { setU64(this.core.view, this.rec.ptr + 96, n); }
  get totalDataBlocks(): number { return u64(this.core.view, this.rec.ptr + 104); }
  set totalDataBlocks(n: number) { setU64(this.core.view, this.rec.ptr + 104, n); }
}

/** One log_trees value being worked on. */
export class LogTreesRec {
  private readonly rec: Rec;

  constructor(private readonly core: Core, init?: Uint8Array) {
    this.rec = new Rec(core, LogTrees.size, init);
  }

  get(): Uint8Array { return this.rec.get(); }
  set(bytes: Uint8Array): void { this.rec.set(bytes); }
  read(): LogTrees { return LogTrees.read(this.core.view, this.rec.ptr); }
  free(): void { this.rec.free(); }

  get metaAvail(): Ptr { return this.rec.ptr; }
  get metaFreed(): Ptr { return this.rec.ptr + 32; }
  get itemRoot(): Ptr { return this.rec.ptr + 64; }
  get dataAvail(): Ptr { return this.rec.ptr + 104; }
  get dataFreed(): Ptr { return this.rec.ptr + 144; }

  get srchFile(): SrchFile { return SrchFile.read(this.core.view, this.rec.ptr + 184); }
  clearSrchFile(): void { this.core.bytes.fill(0, this.rec.ptr + 184, this.rec.ptr + 272); }

  /** Notes which zones data_avail touches; null: zones are off. */
  setZones(zoneBlocks: number, zones: Uint8Array | null): void {
    setU64(this.core.view, this.rec.ptr + 272, zones === null ? 0 : zoneBlocks);
    this.core.bytes.fill(0, this.rec.ptr + 280, this.rec.ptr + 280 + DATA_ALLOC_ZONE_BYTES);
    if (zones !== null) this.core.bytes.set(zones, this.rec.ptr + 280);
  }

  get getTransSeq(): number { return u64(this.core.view, this.rec.ptr + 416); }
  set getTransSeq(n: number) { setU64(this.core.view, this.rec.ptr + 416, n); }
  get commitTransSeq(): number { return u64(this.core.view, this.rec.ptr + 424); }
  set commitTransSeq(n: number) { setU64(this.core.view, this.rec.ptr + 424, n); }
  set finalizeSeq(n: number) { setU64(this.core.view, this.rec.ptr + 440, n); }
  get rid(): bigint { return this.core.view.getBigUint64(this.rec.ptr + 448, true); }
  set rid(r: bigint) { this.core.view.setBigUint64(this.rec.ptr + 448, r, true); }
  get nr(): number { return u64(this.core.view, this.rec.ptr + 456); }
  set nr(n: number) { setU64(this.core.view, this.rec.ptr + 456, n); }
  get flags(): number { return u64(this.core.view, this.rec.ptr + 464); }
  set flags(n: number) { setU64(this.core.view, this.rec.ptr + 464, n); }

  /** A tree without contents after this one: allocators are kept, they must be empty or its own. */
  becomeNext(nr: number): void {
    const { view, bytes } = this.core;
    const p = this.rec.ptr;
    bytes.fill(0, p + 64, p + 104);
    bytes.fill(0, p + 408, p + 416);
    setU64(view, p + 432, 0);
    this.finalizeSeq = 0;
    this.flags = 0;
    this.nr = nr;
  }

  /** A zeroed value for (rid, nr). */
  reset(rid: bigint, nr: number): void {
    this.core.bytes.fill(0, this.rec.ptr, this.rec.ptr + LogTrees.size);
    this.rid = rid;
    this.nr = nr;
  }
}
