/**
 * The scan for orphans: inodes without links that no mount deleted.
 *
 * Every mount looks at the committed orphan items from time to time, at the file
 * system root only: items get there when log trees are merged, so the short-lived
 * orphans of a busy cluster never show up. It works on item keys and open maps,
 * without locks; only `Deletes.attempt` takes some, and decides again under them.
 *
 * Source: inode.md 7, recovery.md 6.
 */
import { LOCK_INODE_GROUP_NR } from '../core/constants.js';
import { C, Counters } from '../observe/counters.js';
import type { OpenMap, RemoteOpen } from './context.js';
import type { Deletes } from './delete.js';

/** What a scan needs from the mount. */
export interface OrphanSource {
  /**
   * Inode numbers of the committed orphan items of the fs root from `from` on, ascending,
   * at most some hundreds; empty at the end. A pass reads the roots once, at `from` 2.
   */
  readOrphans(from: number): Promise<number[]>;
  /** The other mounts' open inodes of a group, asked now. */
  askGroup(group: number): Promise<RemoteOpen>;
  /** An orphan is used here; perhaps the kernel only keeps it and can be made to forget it. */
  usedHere(ino: number): void;
}

const SCAN_FIRST_INO = 2;

/** Finds inodes that others left without links; when it runs is the mount's affair. */
export class OrphanScan {
  /** Passes that found nothing left to delete. */
  emptyPasses = 0;

  constructor(
    private readonly source: OrphanSource, private readonly openMap: OpenMap,
    private readonly deletes: Deletes, private readonly counters = new Counters(),
  ) {}

  /**
   * @returns how many inodes were deleted
   * @throws what reading orphans or open maps throws; failing deletions only skip the inode
   */
  async pass(stopped: () => boolean): Promise<number> {
    const { counters } = this;
    counters.inc(C.orphan_scan);
    let deleted = 0;
    let left = 0;
    let group = -1;
    let remote: RemoteOpen | null = null;
    for (let from = SCAN_FIRST_INO; !stopped();) {
      const inos = await this.source.readOrphans(from);
      for (const ino of inos) {
        if (stopped()) return deleted;
        left += 1;
        counters.inc(C.orphan_scan_item);
        if (this.openMap.isOpen(ino)) {
          counters.inc(C.orphan_scan_cached);
          this.source.usedHere(ino);
          continue;
        }
        const itsGroup = Math.floor(ino / LOCK_INODE_GROUP_NR);
        if (itsGroup !== group || remote === null) {
          remote = await this.source.askGroup(itsGroup);
          group = itsGroup;
        }
        if (remote.has(ino)) {
          counters.inc(C.orphan_scan_omap_set);
          continue;
        }
        counters.inc(C.orphan_scan_attempts);
        const result = await this.deletes.attempt(ino).catch(() => {
          counters.inc(C.orphan_scan_error);
          return 'busy' as const;
        });
        if (result === 'deleted') deleted += 1;
        if (result !== 'busy') left -= 1;
      }
      const last = inos.at(-1);
      if (last === undefined) break;
      from = last + 1;
    }
    if (left === 0 && deleted === 0) {
      this.emptyPasses += 1;
      counters.inc(C.orphan_scan_empty);
    }
    return deleted;
  }
}
