/**
 * Whether references that a peer sent can be references at all.
 *
 * Structures with block numbers and counts come over the wire from mounts and are stored or
 * followed by the server, and the other way round. These rules need nothing but the sizes of
 * the devices: numbers inside of them, empty exactly when they say so, counts that a block
 * can hold. What the blocks contain is for whoever reads them. Source: format.md 3, 4, 9.
 */
import {
  ALLOC_LIST_MAX_BLOCKS, BTREE_MAX_HEIGHT, META_DEV_START_BLKNO,
} from '../core/format.js';
import type {
  AllocListHead, AllocRoot, BlockRef, BtreeRoot, LogTrees, SrchFile,
} from '../core/format.js';

/** A search file of this height could hold more than any device. */
const SRCH_HEIGHT_MAX = 8;

export class References {
  /** Sizes in blocks of 64 KiB and 4 KiB. */
  constructor(private readonly totalMetaBlocks: number, private readonly totalDataBlocks: number) {}

  ref(r: BlockRef): boolean {
    return r.blkno === 0 ||
      (r.blkno >= META_DEV_START_BLKNO && r.blkno < this.totalMetaBlocks);
  }

  root(r: BtreeRoot): boolean {
    return this.ref(r.ref) && r.height <= BTREE_MAX_HEIGHT &&
      (r.height === 0) === (r.ref.blkno === 0);
  }

  list(l: AllocListHead): boolean {
    return this.ref(l.ref) && l.totalNr <= this.totalMetaBlocks &&
      l.firstNr <= Math.min(l.totalNr, ALLOC_LIST_MAX_BLOCKS) &&
      (l.ref.blkno !== 0 || l.totalNr === 0);
  }

  dataExtents(a: AllocRoot): boolean {
    return this.root(a.root) && a.totalLen <= this.totalDataBlocks &&
      (a.root.height !== 0 || a.totalLen === 0);
  }

  srchFile(f: SrchFile): boolean {
    return this.ref(f.ref) && f.blocks <= this.totalMetaBlocks &&
      f.height <= SRCH_HEIGHT_MAX && (f.height === 0) === (f.ref.blkno === 0);
  }

  /** Everything that a log_trees value refers to. */
  logTrees(lt: LogTrees): boolean {
    return this.list(lt.metaAvail) && this.list(lt.metaFreed) && this.root(lt.itemRoot) &&
      this.ref(lt.bloomRef) && this.dataExtents(lt.dataAvail) && this.dataExtents(lt.dataFreed) &&
      this.srchFile(lt.srchFile);
  }
}
