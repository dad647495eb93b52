/**
 * What all parts of one check share: the devices' reader, the report, the block
 * maps, the ledger, and what earlier parts learned that later ones need.
 *
 * A check makes up to two passes over the items. The second one only names what
 * the ledger found uneven: it runs with a context whose report and block maps are
 * throw-away (`quiet`), so that nothing is reported or counted twice.
 */
import type { SuperBlock } from '../../core/format.js';
import type { BlockReader } from './blocks.js';
import type { BtreeBlockCheck } from './btree.js';
import type { DataMap, MetaMap } from './accounting.js';
import type { Ledger } from './ledger.js';
import type { MemoryBudget } from './memory.js';
import type { Finding, Reporter } from './report.js';

/** A range of inode numbers of which some items could not be read. */
export type InodeGap = readonly [first: number, last: number];

export interface Context {
  readonly sb: SuperBlock;
  readonly report: Reporter;
  readonly reader: BlockReader;
  readonly blockCheck: BtreeBlockCheck;
  readonly meta: MetaMap;
  readonly data: DataMap;
  readonly ledger: Ledger;
  readonly memory: MemoryBudget;
  readonly summary: CheckSummary;
  /** Parts of file system trees that could not be read. */
  readonly gaps: InodeGap[];
  /** Blocks that could not be read anywhere: what hangs below them is not known. */
  unreadBlocks: number;
  /** The same within srch files. */
  unreadSrchBlocks: number;
}

/** What the volume contains, as counted by the walk. */
export interface CheckSummary {
  metaBlocks: number;
  usedMetaBlocks: number;
  freeMetaBlocks: number;
  lostMetaBlocks: number;
  dataBlocks: number;
  freeDataBlocks: number;
  mappedDataBlocks: number;
  btreeBlocks: number;
  /** of them those of the trees of free metadata extents */
  metaAllocBlocks: number;
  items: number;
  inodes: number;
  directories: number;
  entries: number;
  xattrs: number;
  extents: number;
  orphans: number;
  srchEntries: number;
  logTrees: number;
  mountedClients: number;
  /** How often each kind was found; complete even when not every finding is kept. */
  counts: Record<string, number>;
}

export interface CheckReport {
  /** Damage: empty for a sound volume. */
  findings: Finding[];
  /** Unusual, but normal in volumes that were used, crashed or are mounted. */
  notes: Finding[];
  summary: CheckSummary;
}

export function emptySummary(): CheckSummary {
  return {
    metaBlocks: 0, usedMetaBlocks: 0, freeMetaBlocks: 0, lostMetaBlocks: 0, dataBlocks: 0,
    freeDataBlocks: 0, mappedDataBlocks: 0, btreeBlocks: 0, metaAllocBlocks: 0, items: 0, inodes: 0,
    directories: 0, entries: 0, xattrs: 0, extents: 0, orphans: 0, srchEntries: 0, logTrees: 0,
    mountedClients: 0, counts: {},
  };
}
