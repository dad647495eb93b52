/**
 * How a file system operation is written.
 *
 * An operation is a plain synchronous function that runs in one tick and so is
 * atomic: nothing else of this mount runs in between. It has two parts:
 *
 *   1. look: take cluster locks, read items, decide, fail with errno errors;
 *   2. change: take the transaction (`op.hold`), then create, update and delete
 *      items. From `hold` on nothing may be missing, so part 1 has to have read
 *      (or `touch`ed) every key that part 2 creates, updates or deletes under a
 *      WRITE lock. Keys under WRITE_ONLY locks need no reading.
 *
 * Whatever is missing in part 1 (a lock that is not granted, items that are not
 * cached, a commit in progress) throws `Wait`. The driver waits for its promise
 * and runs the function again from its beginning; locks got so far stay held
 * meanwhile. When everything is there the function finishes without a promise.
 *
 * Long operations (truncate, deletion, large writes) are closures that keep their
 * progress: every run is one transaction at most and ends with a `Wait` for what
 * the next one needs (device writes, a commit, or nothing: a resolved promise).
 * A `Wait` after `hold` therefore leaves the transaction and keeps the changes (there
 * are none yet when `prepareSrch` throws it);
 * the locks stay held, so the operation as a whole is isolated from other mounts.
 * A rejected `ready` ends the operation with that error.
 *
 * Locks are taken in the order of `inode.md` 1; `lock` keeps the order safe by
 * itself: a lock out of order that is not immediately available makes the
 * operation let go of what it holds before it waits.
 */

import type { LockPtr } from '../core/items.js';

/** Thrown by a part that is missing; the driver awaits `ready` and retries. */
export class Wait extends Error {
  /**
   * @param ready   resolves when the function can be run again
   * @param unlock  the driver lets go of every lock before it waits, and a signal ends the
   *                wait (offline data)
   * @param abandon called instead of another run when the wait was interrupted
   */
  constructor(
    readonly ready: Promise<unknown>, readonly unlock = false, readonly abandon?: () => void,
  ) {
    super('wait');
  }
}

export const MODE_NULL = 0;
export const MODE_READ = 1;
export const MODE_WRITE = 2;
export const MODE_WRITE_ONLY = 3;
export type LockMode = 0 | 1 | 2 | 3;

/** The operation in progress: what it holds and how it asks for more. */
export interface Op {
  /** I(ino), in READ or WRITE. @throws Wait */
  lockInode(ino: number, mode: LockMode): LockPtr;
  /** RENAME, WRITE. @throws Wait */
  lockRename(): LockPtr;
  /** QUOTA, READ. @throws Wait */
  lockQuota(): LockPtr;
  /** ORPHAN, WRITE_ONLY. @throws Wait */
  lockOrphan(): LockPtr;
  /** TOTL, WRITE_ONLY. @throws Wait */
  lockTotl(): LockPtr;
  /** INDX, WRITE_ONLY. @throws Wait */
  lockIndx(): LockPtr;
  /** INDEX(type, seq), WRITE_ONLY. @throws Wait */
  lockIndex(type: number, seq: number): LockPtr;
  /**
   * The open transaction's seq as it is now; valid for the rest of this tick.
   * @throws Wait while a commit is in progress
   */
  transSeq(): number;
  /**
   * Enters the open transaction for the rest of this tick.
   * `allocating`: the operation consumes space and fails with ENOSPC when the
   * server flagged the metadata allocator as low.
   * @throws Wait when a commit is in progress or has to come first; ENOSPC
   */
  hold(allocating: boolean): void;
  /**
   * Makes sure that srch entries can be added in this tick. Right after `hold`, before
   * anything is changed. @throws Wait, ENOSPC, EIO
   */
  prepareSrch(): void;
  /** Adds the srch entry of an xattr with this full name; after `prepareSrch`. */
  addSrch(name: Uint8Array, ino: number, id: number): void;
  /** Adds to the mount's inode count delta; only after `hold`. */
  addInodeCount(delta: number): void;
  /**
   * A fresh inode number from the directory or the other pool; every run of one
   * operation gets the same. @throws Wait, ENOSPC
   */
  allocIno(isDir: boolean): number;
}
