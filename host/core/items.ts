/**
 * The typed face of the core's item cache.
 *
 * A call names its key by six numbers (zone, first, type, second, third,
 * fourth), the lock that covers it, and leaves its result in the core's value
 * window: `val` is a DataView of it and `valBytes` the same bytes. The window is
 * overwritten by the next call that returns a value.
 *
 * Calls throw `Wait` when the key's range is not cached (the range is then being
 * read) and ScoutfsError(EIO) for damaged items; "absent" is a result, not an
 * error. In the change part of an operation a missing range is a bug and trips an
 * assertion. Source: item.md 3.
 */

/**
 * A granted cluster lock as the core knows it (the address of its lock record).
 * The item calls check range and mode with it.
 */
export type LockPtr = number;

/** Returned instead of a length when there is no such item. */
export const ABSENT = -1;

/** The largest value, in bytes. */
export const VAL_MAX_BYTES = 896;

/** Key of the item found by `next`, as plain numbers (fields above 2^53 are not used by these). */
export interface FoundKey {
  zone: number;
  first: number;
  type: number;
  /** low 53 bits are exact; for hashes use `secondBig` */
  second: number;
  secondBig: bigint;
  third: number;
  fourth: number;
  /** All fields exact. */
  wide(): WideKey;
}

/** A key whose fields may use all 64 bits (totals and indexes). */
export interface WideKey {
  zone: number;
  first: bigint;
  type: number;
  second: bigint;
  third: bigint;
  fourth: number;
}

export interface Items {
  /** View of the value window, 896 bytes: results are read here, values to store put here. */
  readonly val: DataView;
  readonly valBytes: Uint8Array;
  /** Where names go before a `...Name` call: at most 255 bytes. */
  readonly nameBytes: Uint8Array;
  /** Filled by `next`. */
  readonly found: FoundKey;

  /** Value length, or ABSENT. @throws Wait */
  lookup(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number): number;
  /** As lookup, but only makes sure that absence or presence is known. @throws Wait */
  touch(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number): void;
  /**
   * First item at or after the key whose key is at most
   * (zone, first, type, lastSecond, all ones, all ones). Fills `found` and the value window.
   * @returns value length or ABSENT
   * @throws Wait; EIO when `second` or `third` of the found key is above 2^53 - 1: damage
   */
  next(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number, lastSecond: number): number;
  /** `next` for any key, up to `last`. @throws Wait */
  nextWide(lock: LockPtr, key: WideKey, last: WideKey): number;

  /**
   * Finds the directory entry with the name of `nameLen` bytes in `nameBytes`
   * (all positions of its hash are compared). The dirent value is left in the
   * window. @returns value length or ABSENT  @throws Wait
   */
  lookupName(lock: LockPtr, dirIno: number, nameLen: number): number;
  /** `touch` for the dirent key of the name at `pos`. @throws Wait */
  touchName(lock: LockPtr, dirIno: number, nameLen: number, pos: number): void;
  /**
   * Builds the dirent value (32 bytes + name) for (ino, type, pos, name) in the
   * window and creates all three entry items (dirent, readdir, link backref).
   * The change part only. `dirLock` covers the directory, `inoLock` the target.
   */
  createEntry(dirLock: LockPtr, inoLock: LockPtr, dirIno: number, ino: number, type: number,
    pos: number, nameLen: number): void;
  /** Deletes the three items of the entry whose dirent value is (ino, pos) with this name. */
  deleteEntry(dirLock: LockPtr, inoLock: LockPtr, dirIno: number, ino: number, pos: number,
    nameLen: number): void;

  /**
   * Finds an xattr's part 0 by its full name in `nameBytes`: fills `found`
   * (third = id) and the window with part 0. @returns length of part 0 or ABSENT  @throws Wait
   */
  lookupXattr(lock: LockPtr, ino: number, nameLen: number): number;
  /** crc32c of the name in `nameBytes`: the `second` field of its xattr keys. */
  xattrHash(nameLen: number): number;

  /** Stores the first `valLen` bytes of the window as a new item. @throws EEXIST */
  create(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number, valLen: number): void;
  /** Replaces the value. @throws ENOENT */
  update(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number, valLen: number): void;
  /** @throws ENOENT */
  delete(lock: LockPtr, zone: number, first: number, type: number, second: number,
    third: number, fourth: number): void;
  /** Blind create of an item without value under a WRITE_ONLY lock; `primary` dates it. */
  createForce(lock: LockPtr, primary: LockPtr, zone: number, first: number, type: number,
    second: number, third: number, fourth: number): void;
  /** Blind delete under a WRITE_ONLY lock. */
  deleteForce(lock: LockPtr, primary: LockPtr, zone: number, first: number, type: number,
    second: number, third: number, fourth: number): void;
  /**
   * Adds the increment in the window to the key's total under a WRITE_ONLY lock; increments
   * that add up to nothing leave no item. @throws EIO
   */
  delta(lock: LockPtr, primary: LockPtr, key: WideKey, valLen: number): void;
  /** `createForce` for any key. */
  createForceWide(lock: LockPtr, primary: LockPtr, key: WideKey): void;
  /** `deleteForce` for any key. */
  deleteForceWide(lock: LockPtr, primary: LockPtr, key: WideKey): void;
}
