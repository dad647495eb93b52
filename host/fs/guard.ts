/**
 * File data on its way to and from the device.
 *
 * Operations are atomic in their tick, but device I/O takes longer than a tick.
 * Two things have to be known about it:
 *
 *   - writes in flight, by block range: a later access to such a block waits for
 *     them, because the device would still give its old contents, or two writes
 *     of one block could arrive in the wrong order;
 *   - reads in flight, by inode: when blocks of the inode are given up meanwhile
 *     the read may have seen what a new owner put there, and is done again.
 *
 * Nothing here waits for a cluster lock, so whoever waits here waits for the
 * device only, and no lock order applies. Source: data.md 5, 11 (interleaving).
 */

interface Write {
  first: number;
  last: number;
  done: Promise<void>;
}

/** A read in flight. */
export interface ReadToken {
  /** Blocks of the inode were given up since the read began. */
  stale: boolean;
}

export class DataGuard {
  private readonly writes = new Map<number, Set<Write>>();
  private readonly reads = new Map<number, Set<ReadToken>>();

  /** What an access to blocks `first .. last` has to wait for, or null. */
  conflict(ino: number, first: number, last: number): Promise<void> | null {
    const set = this.writes.get(ino);
    if (set === undefined) return null;
    for (const w of set) {
      if (w.first <= last && first <= w.last) return w.done;
    }
    return null;
  }

  /**
   * Registers a write of blocks `first .. last`. When `io` rejects the mount was given up:
   * from then on whoever accesses these blocks gets its error.
   */
  addWrite(ino: number, first: number, last: number, io: Promise<void>): void {
    const w: Write = { first, last, done: io };
    const set = this.writes.get(ino) ?? new Set();
    this.writes.set(ino, set.add(w));
    w.done = io.then(() => { drop(this.writes, ino, w); });
    w.done.catch(() => { /* told to whoever waits */ });
  }

  beginRead(ino: number): ReadToken {
    const token: ReadToken = { stale: false };
    const set = this.reads.get(ino) ?? new Set();
    this.reads.set(ino, set.add(token));
    return token;
  }

  endRead(ino: number, token: ReadToken): void {
    drop(this.reads, ino, token);
  }

  /** Blocks of the inode were given up: reads in flight do not count. */
  unmapped(ino: number): void {
    for (const token of this.reads.get(ino) ?? []) token.stale = true;
  }

  /** Inodes with I/O in flight. */
  get busyInodes(): number {
    return this.writes.size + this.reads.size;
  }
}

function drop<T>(map: Map<number, Set<T>>, ino: number, what: T): void {
  const set = map.get(ino);
  if (set?.delete(what) === true && set.size === 0) map.delete(ino);
}
