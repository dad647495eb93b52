/**
 * The raw calls of the core's item cache, locks and forest as TypeScript sees them.
 * Meanings are documented where they are written: assembly/lock.ts, item.ts, entry.ts,
 * item_range.ts, item_write.ts, page.ts, pages.ts, forest.ts. test/core/border.test.ts holds this
 * against what the module exports.
 */

type Ptr = number;

/** Fixed addresses of the windows; the same as in assembly/window.ts. */
export const ITEM_WINDOWS = {
  keyA: 4224, keyB: 4256, found: 4288, missing: 4320, val: 5120, name: 6144,
} as const;

/** Returned instead of a length: the key's range is not in the cache. */
export const NOT_COVERED = -1001;

/** A key as six arguments of a call. */
type KeyArgs = [zone: number, first: number, type: number, second: number, third: number,
  fourth: number];

export interface ItemExports {
  itemInit(maxBytes: number): number;
  itemSetTransSeq(seq: number): void;
  itemReserve(items: number): number;

  lockAlloc(): Ptr;
  lockFree(lock: Ptr): void;
  lockSetMode(lock: Ptr, mode: number, writeSeq: number): void;
  lockMode(lock: Ptr): number;
  lockLastDirtySeq(lock: Ptr): number;

  itemLookup(lock: Ptr, ...key: KeyArgs): number;
  itemTouch(lock: Ptr, ...key: KeyArgs): number;
  itemNext(lock: Ptr, ...keyAndLastSecond: [...KeyArgs, number]): number;
  itemCreate(lock: Ptr, ...keyAndLen: [...KeyArgs, number]): number;
  itemUpdate(lock: Ptr, ...keyAndLen: [...KeyArgs, number]): number;
  itemDelete(lock: Ptr, ...key: KeyArgs): number;
  itemCreateForce(lock: Ptr, primary: Ptr, ...keyAndLen: [...KeyArgs, number]): number;
  itemDeleteForce(lock: Ptr, primary: Ptr, ...key: KeyArgs): number;

  itemLookupKey(lock: Ptr): number;
  itemTouchKey(lock: Ptr): number;
  itemNextKey(lock: Ptr): number;
  itemCreateKey(lock: Ptr, valLen: number): number;
  itemUpdateKey(lock: Ptr, valLen: number): number;
  itemDirtyKey(lock: Ptr): number;
  itemDeleteKey(lock: Ptr): number;
  itemCreateForceKey(lock: Ptr, primary: Ptr, valLen: number): number;
  itemDeleteForceKey(lock: Ptr, primary: Ptr): number;
  itemDeltaKey(lock: Ptr, primary: Ptr, valLen: number): number;

  itemLookupName(lock: Ptr, dirIno: number, nameLen: number): number;
  itemTouchName(lock: Ptr, dirIno: number, nameLen: number, pos: number): number;
  itemCreateEntry(dirLock: Ptr, inoLock: Ptr, dirIno: number, ino: number, type: number,
    pos: number, nameLen: number): number;
  itemDeleteEntry(dirLock: Ptr, inoLock: Ptr, dirIno: number, ino: number, pos: number,
    nameLen: number): number;
  itemLookupXattr(lock: Ptr, ino: number, nameLen: number): number;
  itemXattrHash(nameLen: number): number;

  itemInvalidate(): void;
  itemRangeCached(): number;
  itemShrink(bytes: number): number;
  itemEvictAll(): void;
  itemBarrier(): number;
  itemMaxDirtySeq(): number;
  itemWriteDone(): void;
  itemDirtyItems(): number;
  itemDirtyPages(): number;
  itemPages(): number;
  itemFreePages(): number;

  forestRead(fsRoot: Ptr, logsRoot: Ptr, lock: Ptr, key: Ptr, barrier: number): number;
  forestReadWeak(fsRoot: Ptr, logsRoot: Ptr, bloomKey: Ptr, key: Ptr, mergeSeq: number, out: Ptr,
    outBytes: number): number;
  forestNextHint(fsRoot: Ptr, logsRoot: Ptr, key: Ptr): number;
  forestSetBloom(logTrees: Ptr, alloc: Ptr, wset: Ptr, lock: Ptr): number;
  forestWrite(logTrees: Ptr, alloc: Ptr, wset: Ptr, maxItems: number): number;
  bloomBit(key: Ptr, i: number): number;
  totlBegin(): void;
  totlAddSeq(src: number, seq: number, val: Ptr): void;
  totlResolve(out: Ptr): number;

  pageVerify(): void;
  testFill(lock: Ptr, list: Ptr, count: number): number;
}
