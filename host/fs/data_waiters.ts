/**
 * Operations that wait for offline data to be brought back from the archive.
 *
 * A waiter is a place in a file (inode and block) and the kind of operation. It
 * holds no lock and no transaction. It is woken when the file may have changed:
 * offline blocks became fewer, the inode's lock went away, or an archive agent
 * reported an error, which then is the operation's error. Waking too often is
 * harmless, because the whole operation starts again. Source: data.md 4.
 */
import { Wait } from '../mount/op.js';
import type { ScoutfsError } from '../observe/errors.js';
import { errnoError } from '../observe/errors.js';

/** What waits; the values are those of the archive interface. */
export const WAIT_READ = 1;
export const WAIT_WRITE = 2;
export const WAIT_CHANGE_SIZE = 4;

/** Operations that may wait at a time. */
const WAITERS_MAX = 65536;

export interface DataWaiter {
  readonly ino: number;
  readonly block: number;
  readonly op: number;
  wake(error: ScoutfsError | null): void;
}

export class DataWaiters {
  private readonly byIno = new Map<number, Set<DataWaiter>>();
  private nr = 0;

  /** Registers a waiter. @returns what the operation throws @throws EAGAIN with too many */
  wait(ino: number, block: number, op: number): Wait {
    if (this.nr >= WAITERS_MAX) throw errnoError('EAGAIN', 'too many operations wait for data');
    let wake: DataWaiter['wake'] = () => undefined;
    const ready = new Promise<void>((resolve, reject) => {
      wake = (error) => {
        this.remove(waiter);
        if (error === null) resolve();
        else reject(error);
      };
    });
    const waiter: DataWaiter = { ino, block, op, wake: (error) => { wake(error); } };
    const set = this.byIno.get(ino) ?? new Set();
    this.byIno.set(ino, set.add(waiter));
    this.nr += 1;
    return new Wait(ready, true, () => { this.remove(waiter); });
  }

  /** Wakes everyone who waits for data of `ino`. */
  changed(ino: number): void {
    for (const w of this.of(ino)) w.wake(null);
  }

  /** Wakes those who wait for data of inodes `first .. first + nr - 1`. */
  changedGroup(first: number, nr: number): void {
    for (const ino of [...this.byIno.keys()]) {
      if (ino >= first && ino < first + nr) this.changed(ino);
    }
  }

  /** The waiters of an inode. */
  of(ino: number): DataWaiter[] {
    return [...this.byIno.get(ino) ?? []];
  }

  /** Inodes with waiters, ascending. */
  inodes(): number[] {
    return [...this.byIno.keys()].sort((a, b) => a - b);
  }

  private remove(w: DataWaiter): void {
    const set = this.byIno.get(w.ino);
    if (set?.delete(w) !== true) return;
    this.nr -= 1;
    if (set.size === 0) this.byIno.delete(w.ino);
  }
}
