/**
 * What the parts of the file system share, and how a long operation is continued.
 *
 * An operation's first part runs in the tick of its request and may throw `Wait`,
 * which makes the dispatcher call it again. Once something has been changed that
 * is no longer possible: the rest runs as a promise, in which `repeat` does for
 * one step what the dispatcher does for a request. The locks of the operation
 * stay held until its reply is written, so its steps are isolated from other
 * mounts; only a lock that is not free in its turn can make the operation lose
 * them, which is why every step looks at everything again.
 */
import type { Items, LockPtr } from '../core/items.js';
import type { Clock } from '../env/clock.js';
import { Wait } from '../mount/op.js';
import { errnoError } from '../observe/errors.js';
import type { IndexHold } from './index_hold.js';
import type { Quotas } from './quota.js';

/** The open inodes of all other mounts in one group of 1024. */
export interface RemoteOpen {
  has(ino: number): boolean;
}

/** Which inodes are in use; implemented by `host/mount/omap.ts`. Source: inode.md 6. */
export interface OpenMap {
  isOpen(ino: number): boolean;
  /** Setting a bit that is set changes nothing. */
  set(ino: number): void;
  clear(ino: number): void;
  /**
   * What the other mounts have open, asked once per WRITE grant of `lock`. The
   * map itself when it is known for this grant, else a promise to wait for.
   */
  fetchGroup(group: number, lock: LockPtr): RemoteOpen | Promise<RemoteOpen>;
  /** The same asked now and without a lock: a hint. */
  askGroup(group: number): Promise<RemoteOpen>;
  /** What was answered under the present grant is old: bits may have been cleared since. */
  forget(group: number): void;
}

export interface FsContext {
  readonly items: Items;
  readonly hold: IndexHold;
  readonly openMap: OpenMap;
  readonly clock: Clock;
  readonly quotas: Quotas;
  /** 1 or 2. */
  readonly formatVersion: number;
  /** POSIX ACLs are used. */
  readonly acl: boolean;
}

/**
 * Runs one step until nothing is missing any more.
 * @throws EAGAIN when the step would have to wait without locks, which only a
 *         fresh operation can
 */
export async function repeat<T>(step: () => T): Promise<T> {
  for (;;) {
    // A transaction is entered once in a tick, and the caller may have been in one.
    await Promise.resolve();
    try {
      return step();
    } catch (e) {
      if (!(e instanceof Wait)) throw e;
      if (e.unlock) {
        e.abandon?.();
        throw errnoError('EAGAIN');
      }
      await e.ready;
    }
  }
}
