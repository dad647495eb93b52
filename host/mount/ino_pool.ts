/**
 * Inode numbers that the server gave to this mount.
 *
 * A pool is one range of numbers nobody else has. Directories and other inodes
 * have pools of their own, so that a directory's children share lock groups and
 * directories do not spread over all of them. With `ino_alloc_per_lock` below 1024
 * both use one pool, and the rest of a group is skipped once its share is used: then
 * fewer inodes share one lock. Numbers are never given out twice; what is left at
 * unmount is lost. Source: inode.md 2; vectors fs-vectors.json ino_alloc.
 */
import { LOCK_INODE_GROUP_NR } from '../core/constants.js';
import { errnoError } from '../observe/errors.js';
import { Wait } from './op.js';

/** Numbers asked for at a time: ten whole groups. */
export const INO_REQUEST_NR = 10240;

/** A range of fresh numbers; `nr` may be smaller than asked for, 0 means that none are left. */
export interface InoRange {
  first: number;
  nr: number;
}

export class InoPool {
  private next = 0;
  private nr = 0;

  get empty(): boolean {
    return this.nr === 0;
  }

  /** Replaces the range; what was left of the old one is lost. */
  fill(range: InoRange): void {
    this.next = range.first;
    this.nr = range.nr;
  }

  /** The next number; the pool is not empty. `perLock`: how many of each group are used. */
  take(perLock: number): number {
    const ino = this.next;
    this.advance(1);
    const used = this.next % LOCK_INODE_GROUP_NR;
    if (perLock < LOCK_INODE_GROUP_NR && used >= perLock) this.advance(LOCK_INODE_GROUP_NR - used);
    return ino;
  }

  private advance(by: number): void {
    const n = Math.min(by, this.nr);
    this.next += n;
    this.nr -= n;
  }
}

export class InoPools {
  private readonly dirs = new InoPool();
  private readonly others = new InoPool();
  private readonly refills = new Map<InoPool, Promise<void>>();

  /**
   * @param request asks the server for numbers
   * @param perLock the option `ino_alloc_per_lock` as it is now
   */
  constructor(
    private readonly request: (nr: number) => Promise<InoRange>,
    private readonly perLock: () => number,
  ) {}

  /** A fresh number. @throws Wait while the server is asked; ENOSPC, which ends such a wait */
  take(isDir: boolean): number {
    const perLock = this.perLock();
    const pool = isDir && perLock === LOCK_INODE_GROUP_NR ? this.dirs : this.others;
    if (pool.empty) throw new Wait(this.refill(pool));
    return pool.take(perLock);
  }

  private refill(pool: InoPool): Promise<void> {
    const running = this.refills.get(pool);
    if (running !== undefined) return running;
    const refill = this.ask(pool).finally(() => { this.refills.delete(pool); });
    this.refills.set(pool, refill);
    return refill;
  }

  private async ask(pool: InoPool): Promise<void> {
    const range = await this.request(INO_REQUEST_NR);
    if (range.nr === 0) throw errnoError('ENOSPC', 'the volume has no inode numbers left');
    if (range.nr < 0 || !Number.isSafeInteger(range.first + range.nr)) throw errnoError('EINVAL');
    if (pool.empty) pool.fill(range);
  }
}
