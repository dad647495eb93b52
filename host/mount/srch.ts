/**
 * The srch log of the open transaction: where entries of `.srch.` xattrs are appended.
 *
 * The file's struct is in the log_trees record that the commit sends; its blocks belong
 * to the transaction's writer set. An operation calls `prepare` first in its change part,
 * before it has changed anything: that is where blocks may be missing. From then until
 * the end of the tick `add` needs nothing and cannot fail.
 *
 * Invariant: between `finish` and `begin` nothing is changed, because the commit writes.
 * Source: srch.md 3.
 */
import type { Core, Ptr } from '../core/core.js';
import { ITEM_WINDOWS } from '../core/item_exports.js';
import type { TreeSpace } from '../core/trees.js';
import { ERRNO, assert } from '../observe/errors.js';
import type { ScoutfsError } from '../observe/errors.js';

/** Bytes of entries that one `prepare` is good for, with much to spare. */
const ENTRIES_MAX = 1000;

export class SrchLog {
  readonly stats = { entries: 0 };
  private readonly core: Core;
  private file: Ptr = 0;
  private open = false;
  private preparing: Promise<void> | null = null;
  /** Entries that may still be added in this tick. */
  private room = 0;

  constructor(private readonly space: TreeSpace) {
    this.core = space.core;
  }

  /** Starts over with a transaction's file, a `scoutfs_srch_file` at `file`. */
  begin(file: Ptr): void {
    assert(this.preparing === null, 'no srch block is under way between transactions');
    this.file = file;
    this.open = true;
  }

  /**
   * Makes sure that entries can be added in this tick.
   * @returns null when they can, else what to wait for before trying again
   * @throws ENOSPC, EIO for a damaged file
   */
  prepare(): Promise<void> | null {
    if (this.preparing !== null) return this.preparing;
    assert(this.open, 'srch entries are added inside a transaction');
    const { x } = this.core;
    const r = this.core.run(() => x.srch_prepare(this.space.al, this.space.ws, this.file));
    if (typeof r === 'number') {
      if (r < 0) throw this.failure(r);
      this.room = ENTRIES_MAX;
      return null;
    }
    this.preparing = r.then((done) => {
      if (done < 0) throw this.failure(done);
    }).finally(() => { this.preparing = null; });
    // Whoever waits for it gets the error; the next one tries for itself.
    this.preparing.catch(() => undefined);
    return this.preparing;
  }

  /** Adds the entry of the xattr with this full name, 1..255 bytes; `prepare` came before. */
  add(name: Uint8Array, ino: number, id: number): void {
    assert(this.open && this.room > 0, 'srch entries are prepared before they are added');
    this.room -= 1;
    this.core.bytes.set(name, ITEM_WINDOWS.name);
    this.core.x.srch_append_name(this.space.al, this.space.ws, this.file, name.length, ino, id);
    this.stats.entries += 1;
  }

  /** Before the transaction's blocks are written. */
  async finish(): Promise<void> {
    this.open = false;
    this.room = 0;
    await this.preparing?.catch(() => undefined);
  }

  private failure(r: number): ScoutfsError {
    return r === -ERRNO.ESTALE ? this.core.damage('the srch log') :
      this.core.error('the srch log', r);
  }
}
