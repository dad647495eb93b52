/**
 * The file system's view of the mount's data extents: an allocation that needs blocks
 * of the allocator's tree waits for them before anything is changed.
 */
import type { DataAlloc } from '../fs/block_map.js';
import { Wait } from '../mount/op.js';
import type { Trans } from '../mount/trans.js';
import type { Counters } from '../observe/counters.js';
import { C } from '../observe/counters.js';

export class DataSpace implements DataAlloc {
  constructor(private readonly trans: Trans, private readonly counters: Counters) {}

  alloc(countBlocks: number): { blkno: number; count: number } | 'ENOBUFS' | 'ENOSPC' {
    const got = this.trans.dataExtents.alloc(countBlocks);
    if (got === 'empty') return this.trans.dataExtents.low ? 'ENOSPC' : 'ENOBUFS';
    if (got === 'need-refill') throw new Wait(this.trans.dataExtents.refill(countBlocks));
    this.counters.inc(C.alloc_alloc_data);
    return got;
  }

  free(blkno: number, countBlocks: number): void {
    this.counters.inc(C.alloc_free_data);
    this.trans.dataExtents.free(blkno, countBlocks);
  }

  prepare(): void {
    const wait = this.trans.dataExtents.prepare();
    if (wait !== null) throw new Wait(wait);
  }
}
