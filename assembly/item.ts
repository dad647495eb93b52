/**
 * The coherent item cache: operations on one item.
 *
 * The key is in register A, values pass through the value window, and every call
 * names the lock that covers the key. A call answers with the value's length (or 0),
 * a negative errno, or NOT_COVERED when the cache does not know the key's range; the
 * key it stumbled on is then in KEY_MISSING. Under a WRITE_ONLY lock nothing is read:
 * the range is covered by an empty page and only the forced operations are allowed.
 *
 * An item's seq is the greatest of the open transaction's, the lock's write_seq and
 * that of the lock of the data on whose behalf it changes (`primary`): merging relies
 * on it. A deleted item becomes a tombstone if any version of it may be in a tree and
 * vanishes otherwise.
 *
 * A change checks everything before it changes anything, and evicts nothing. Its
 * memory has to be set aside before with `itemReserve`; without it a change may be
 * refused with ENOMEM, having changed nothing.
 *
 * Spec: item.md 2, 3, 4.
 */
import { check, C_ITEM_COUNT } from './check';
import {
  count, N_ITEM_CREATE, N_ITEM_DELETE, N_ITEM_DELTA, N_ITEM_DIRTY, N_ITEM_LOOKUP, N_ITEM_NEXT,
  N_ITEM_UPDATE,
} from './count';
import { deltaCombine, DELTA_COMBINED, DELTA_EIO, DELTA_NOT } from './delta';
import { EEXIST, EINVAL, EIO, ENOENT, ENOMEM } from './format';
import { keyCmp, keyCopy, keyInc, keySet } from './key';
import {
  lockCheck, lockCovers, lockEnd, lockInit, lockModeOf, LOCK_READ, lockSetDirtySeq, LOCK_WRITE,
  LOCK_WRITE_ONLY, lockWriteSeq,
} from './lock';
import {
  F_DELETION, F_DELTA, F_PERSISTENT, F_WRITTEN, itemCap, itemFlags, itemSetDirty, itemSetSeq,
  itemStoreVal, itemVal, itemValLen, PAGE_END, pageHasRoom, pageInsert, pageItem, pageNr,
  pageRemove, pageSearch, searchHit,
} from './page';
import {
  pageAccount, pageCoverEmpty, pageFind, pageInit, pageMakeRoom, pageReserve,
} from './pages';
import { KEY_A, KEY_B, KEY_FOUND, KEY_MISSING, VAL_WINDOW } from './window';

/** The key's range is not in the cache; KEY_MISSING has the key. */
// @ts-ignore: decorator
@inline export const NOT_COVERED: i32 = -1001;
// @ts-ignore: decorator
@inline export const VAL_MAX_BYTES: i32 = 896;

// what an operation needs of the lock's mode
// @ts-ignore: decorator
@inline const TO_READ: i32 = 0;
// @ts-ignore: decorator
@inline const TO_WRITE: i32 = 1;
// @ts-ignore: decorator
@inline const TO_FORCE: i32 = 2;

let transSeq: u64 = 0;
const posKey: usize = memory.data(32, 16);

/** What `find` found: the page that covers the key, the item with it (0: none), its place. */
let page: usize = 0;
let item: usize = 0;
let place: i32 = 0;

/** An empty cache of at most `maxBytes`; the heap must be fresh. @returns false without room */
export function itemInit(maxBytes: f64): bool {
  transSeq = 0;
  lockInit();
  return pageInit(maxBytes);
}

/** Sets the open transaction's seq; 0: none is open and every change is refused. */
export function itemSetTransSeq(seq: f64): void {
  transSeq = <u64>seq;
}

/** The open transaction's seq, 0 if none is open. */
export function itemTransSeq(): u64 {
  return transSeq;
}

/**
 * Sets memory aside for `items` changes; to be called before an operation's change part.
 * When it answers false the host shrinks the cache (which spares what the operation has
 * looked at) or commits, and tries again.
 */
export function itemReserve(items: i32): bool {
  // One change can take a page to cover the key and one to split.
  return pageReserve(items << 1);
}

// ---- helpers --------------------------------------------------------------------

function allowed(lock: usize, key: usize, need: i32): bool {
  lockCheck(lock);
  const mode = lockModeOf(lock);
  if (need == TO_READ) {
    if (mode != LOCK_READ && mode != LOCK_WRITE) return false;
  } else if (mode != (need == TO_WRITE ? LOCK_WRITE : LOCK_WRITE_ONLY)) {
    return false;
  }
  return lockCovers(lock, key);
}

function missing(key: usize): i32 {
  keyCopy(KEY_MISSING, key);
  return NOT_COVERED;
}

/** Looks the key up into `page`, `item` and `place`. @returns 0 or NOT_COVERED */
function find(key: usize): i32 {
  page = pageFind(key);
  if (page == 0) return missing(key);
  place = pageSearch(page, key);
  item = searchHit ? pageItem(page, place) : 0;
  return 0;
}

// @ts-ignore: decorator
@inline
function visible(): bool {
  return item != 0 && (itemFlags(item) & F_DELETION) == 0;
}

/** As `find` for a forced operation: covers the key if nothing does. @returns 0 or -ENOMEM */
function findForced(lock: usize, key: usize): i32 {
  if (pageFind(key) == 0 && pageCoverEmpty(key, lock, lockEnd(lock)) == 0) return -ENOMEM;
  return find(key);
}

/** Copies the value of `item` to the window. @returns its length */
export function toWindow(from: usize): i32 {
  const len = itemValLen(from);
  memory.copy(VAL_WINDOW, itemVal(from), <usize>len);
  return len;
}

function seqFor(lock: usize, primary: usize): u64 {
  let seq = max(transSeq, lockWriteSeq(lock));
  if (primary != 0) seq = max(seq, lockWriteSeq(primary));
  return seq;
}

/**
 * Stores seq, marks and value for the key in the page found by `find`, whether or not
 * there is an item. @returns 0, or -ENOMEM with nothing changed
 */
function put(key: usize, seq: u64, flags: u8, val: usize, valLen: i32): i32 {
  if (item == 0 || itemCap(item) < valLen) {
    const cap = (valLen + 7) & ~7;
    if (!pageHasRoom(page, cap)) {
      const roomy = pageMakeRoom(page, key, cap);
      if (roomy == 0) return -ENOMEM;
      // Places are void after making room.
      page = roomy;
      place = pageSearch(page, key);
    }
    // Whatever was there is replaced by a greater record.
    if (item != 0) pageRemove(page, place);
    item = pageInsert(page, place, key, cap);
  }
  itemStoreVal(item, val, valLen);
  itemSetSeq(item, seq);
  itemSetDirty(page, item, flags);
  pageAccount(page);
  return 0;
}

/** Removes `item`, which is in no tree. */
function vanish(): void {
  pageRemove(page, place);
  pageAccount(page);
}

// @ts-ignore: decorator
@inline
function changed(lock: usize): void {
  lockSetDirtySeq(lock, transSeq);
}

/** Common refusals of a change: no transaction, wrong lock, wrong primary, too long a value. */
function refused(lock: usize, primary: usize, key: usize, need: i32, valLen: i32): bool {
  if (transSeq == 0 || <u32>valLen > <u32>VAL_MAX_BYTES) return true;
  if (primary != 0) {
    lockCheck(primary);
    if (lockModeOf(primary) != LOCK_WRITE) return true;
  }
  return !allowed(lock, key, need);
}

// ---- reading ------------------------------------------------------------------

/** @returns value length (value in the window), -ENOENT, NOT_COVERED, -EINVAL */
export function itemLookupAt(lock: usize, key: usize): i32 {
  if (!allowed(lock, key, TO_READ)) return -EINVAL;
  const err = find(key);
  if (err != 0) return err;
  count(N_ITEM_LOOKUP);
  return visible() ? toWindow(item) : -ENOENT;
}

/** Whether absence or presence of the key is known. @returns 0, NOT_COVERED, -EINVAL */
export function itemTouchAt(lock: usize, key: usize): i32 {
  if (!allowed(lock, key, TO_READ)) return -EINVAL;
  return pageFind(key) != 0 ? 0 : missing(key);
}

/**
 * Address of the first visible item in [key, last], clamped to the lock's end; 0 if there
 * is none. `nextErr` has the reason when the address is 0.
 */
export let nextErr: i32 = 0;
export function itemNextAt(lock: usize, key: usize, last: usize): usize {
  if (!allowed(lock, key, TO_READ)) {
    nextErr = -EINVAL;
    return 0;
  }
  if (keyCmp(lockEnd(lock), last) < 0) last = lockEnd(lock);
  keyCopy(posKey, key);
  nextErr = -ENOENT;
  while (keyCmp(posKey, last) <= 0) {
    const p = pageFind(posKey);
    if (p == 0) {
      nextErr = missing(posKey);
      return 0;
    }
    const nr = pageNr(p);
    for (let i = pageSearch(p, posKey); i < nr; i++) {
      const it = pageItem(p, i);
      if (keyCmp(it, last) > 0) return 0;
      if ((itemFlags(it) & F_DELETION) == 0) {
        count(N_ITEM_NEXT);
        return it;
      }
    }
    if (keyCmp(p + PAGE_END, last) >= 0) return 0;
    keyCopy(posKey, p + PAGE_END);
    keyInc(posKey);
  }
  return 0;
}

/**
 * Whether the key could be created (or, with `present`, changed) under a WRITE lock.
 * @returns 0, -EEXIST or -ENOENT, NOT_COVERED, -EINVAL
 */
export function itemProbeAt(lock: usize, key: usize, present: bool): i32 {
  if (refused(lock, 0, key, TO_WRITE, 0)) return -EINVAL;
  const missed = find(key);
  if (missed != 0) return missed;
  if (visible() == present) return 0;
  return present ? -ENOENT : -EEXIST;
}

// ---- changing -----------------------------------------------------------------

/** @returns 0, -EEXIST, NOT_COVERED, -EINVAL, -ENOMEM */
export function itemCreateAt(lock: usize, key: usize, val: usize, valLen: i32): i32 {
  if (refused(lock, 0, key, TO_WRITE, valLen)) return -EINVAL;
  const missed = find(key);
  if (missed != 0) return missed;
  if (visible()) return -EEXIST;
  count(N_ITEM_CREATE);
  // A tombstone stays what it hides: persistent.
  const inherited: u8 = item != 0 ? itemFlags(item) & F_PERSISTENT : 0;
  const err = put(key, seqFor(lock, 0), inherited, val, valLen);
  if (err == 0) changed(lock);
  return err;
}

/** @returns 0, -ENOENT, NOT_COVERED, -EINVAL, -ENOMEM */
export function itemUpdateAt(lock: usize, key: usize, val: usize, valLen: i32): i32 {
  if (refused(lock, 0, key, TO_WRITE, valLen)) return -EINVAL;
  const missed = find(key);
  if (missed != 0) return missed;
  if (!visible()) return -ENOENT;
  count(N_ITEM_UPDATE);
  const err = put(key, seqFor(lock, 0), itemFlags(item) & F_PERSISTENT, val, valLen);
  if (err == 0) changed(lock);
  return err;
}

/** Dates and dirties an item without changing its value. @returns as itemUpdateAt */
export function itemDirtyAt(lock: usize, key: usize): i32 {
  if (refused(lock, 0, key, TO_WRITE, 0)) return -EINVAL;
  const missed = find(key);
  if (missed != 0) return missed;
  if (!visible()) return -ENOENT;
  count(N_ITEM_DIRTY);
  itemSetSeq(item, seqFor(lock, 0));
  itemSetDirty(page, item, itemFlags(item) & F_PERSISTENT);
  pageAccount(page);
  changed(lock);
  return 0;
}

/** @returns 0, -ENOENT, NOT_COVERED, -EINVAL */
export function itemDeleteAt(lock: usize, key: usize): i32 {
  if (refused(lock, 0, key, TO_WRITE, 0)) return -EINVAL;
  const missed = find(key);
  if (missed != 0) return missed;
  if (!visible()) return -ENOENT;
  count(N_ITEM_DELETE);
  changed(lock);
  if ((itemFlags(item) & F_PERSISTENT) == 0) {
    vanish();
    return 0;
  }
  return put(key, seqFor(lock, 0), F_PERSISTENT | F_DELETION, 0, 0);
}

/** Creates or replaces without reading. @returns 0, -EINVAL, -ENOMEM */
export function itemCreateForceAt(
  lock: usize, primary: usize, key: usize, val: usize, valLen: i32,
): i32 {
  if (refused(lock, primary, key, TO_FORCE, valLen)) return -EINVAL;
  let err = findForced(lock, key);
  count(N_ITEM_CREATE);
  if (err == 0) err = put(key, seqFor(lock, primary), F_PERSISTENT, val, valLen);
  if (err == 0) changed(lock);
  return err;
}

/** Leaves a tombstone whatever was there. @returns 0, -EINVAL, -ENOMEM */
export function itemDeleteForceAt(lock: usize, primary: usize, key: usize): i32 {
  if (refused(lock, primary, key, TO_FORCE, 0)) return -EINVAL;
  let err = findForced(lock, key);
  count(N_ITEM_DELETE);
  if (err == 0) err = put(key, seqFor(lock, primary), F_PERSISTENT | F_DELETION, 0, 0);
  if (err == 0) changed(lock);
  return err;
}

/**
 * Adds an increment. Increments that add up to nothing leave no item.
 * @returns 0, -EIO (the item there is no increment, or a wrong length), -EINVAL, -ENOMEM
 */
export function itemDeltaAt(
  lock: usize, primary: usize, key: usize, val: usize, valLen: i32,
): i32 {
  if (refused(lock, primary, key, TO_FORCE, valLen)) return -EINVAL;
  let err = findForced(lock, key);
  if (err != 0) return err;
  count(N_ITEM_DELTA);
  const seq = seqFor(lock, primary);
  if (item == 0) {
    err = put(key, seq, F_DELTA, val, valLen);
    if (err == 0) changed(lock);
    return err;
  }
  if ((itemFlags(item) & F_DELTA) == 0) return -EIO;
  // What is in the log tree already may not be added to: it would count twice.
  check((itemFlags(item) & F_WRITTEN) == 0, C_ITEM_COUNT);
  const how = deltaCombine(load<u8>(key, 25), itemVal(item), itemValLen(item), val, valLen);
  if (how == DELTA_EIO || how == DELTA_NOT) return -EIO;
  changed(lock);
  if (how == DELTA_COMBINED) {
    itemSetSeq(item, seq);
    itemSetDirty(page, item, F_DELTA);
    pageAccount(page);
  } else {
    vanish();
  }
  return 0;
}

// ---- the calls of the host: key in register A or as six numbers -------------------

/** Puts a key into register A: 64-bit fields as exact numbers, 2^64 and more is all ones. */
// @ts-ignore: decorator
@inline
function keyA(
  zone: i32, first: f64, type: i32, second: f64, third: f64, fourth: i32,
): usize {
  keySet(KEY_A, <u8>zone, <u64>first, <u8>type, <u64>second, <u64>third, <u8>fourth);
  return KEY_A;
}

export function itemLookupKey(lock: usize): i32 {
  return itemLookupAt(lock, KEY_A);
}
export function itemTouchKey(lock: usize): i32 {
  return itemTouchAt(lock, KEY_A);
}

/** First item in [register A, register B]: its key in KEY_FOUND, its value in the window. */
export function itemNextKey(lock: usize): i32 {
  const it = itemNextAt(lock, KEY_A, KEY_B);
  if (it == 0) return nextErr;
  keyCopy(KEY_FOUND, it);
  return toWindow(it);
}

export function itemCreateKey(lock: usize, valLen: i32): i32 {
  return itemCreateAt(lock, KEY_A, VAL_WINDOW, valLen);
}
export function itemUpdateKey(lock: usize, valLen: i32): i32 {
  return itemUpdateAt(lock, KEY_A, VAL_WINDOW, valLen);
}
export function itemDirtyKey(lock: usize): i32 {
  return itemDirtyAt(lock, KEY_A);
}
export function itemDeleteKey(lock: usize): i32 {
  return itemDeleteAt(lock, KEY_A);
}
export function itemCreateForceKey(lock: usize, primary: usize, valLen: i32): i32 {
  return itemCreateForceAt(lock, primary, KEY_A, VAL_WINDOW, valLen);
}
export function itemDeleteForceKey(lock: usize, primary: usize): i32 {
  return itemDeleteForceAt(lock, primary, KEY_A);
}
export function itemDeltaKey(lock: usize, primary: usize, valLen: i32): i32 {
  return itemDeltaAt(lock, primary, KEY_A, VAL_WINDOW, valLen);
}

export function itemLookup(
  lock: usize, zone: i32, first: f64, type: i32, second: f64, third: f64, fourth: i32,
): i32 {
  return itemLookupAt(lock, keyA(zone, first, type, second, third, fourth));
}

export function itemTouch(
  lock: usize, zone: i32, first: f64, type: i32, second: f64, third: f64, fourth: i32,
): i32 {
  return itemTouchAt(lock, keyA(zone, first, type, second, third, fourth));
}

/** First item from the key to (zone, first, type, lastSecond, ones, ones). */
export function itemNext(
  lock: usize, zone: i32, first: f64, type: i32, second: f64, third: f64, fourth: i32,
  lastSecond: f64,
): i32 {
  keyA(zone, first, type, second, third, fourth);
  keySet(KEY_B, <u8>zone, <u64>first, <u8>type, <u64>lastSecond, u64.MAX_VALUE, 255);
  return itemNextKey(lock);
}

export function itemCreate(
  lock: usize, zone: i32, first: f64, type: i32, second: f64, third: f64, fourth: i32,
  valLen: i32,
): i32 {
  return itemCreateAt(lock, keyA(zone, first, type, second, third, fourth), VAL_WINDOW, valLen);
}

export function itemUpdate(
  lock: usize, zone: i32, first: f64, type: i32, second: f64, third: f64, fourth: i32,
  valLen: i32,
): i32 {
  return itemUpdateAt(lock, keyA(zone, first, type, second, third, fourth), VAL_WINDOW, valLen);
}

export function itemDelete(
  lock: usize, zone: i32, first: f64, type: i32, second: f64, third: f64, fourth: i32,
): i32 {
  return itemDeleteAt(lock, keyA(zone, first, type, second, third, fourth));
}

export function itemCreateForce(
  lock: usize, primary: usize, zone: i32, first: f64, type: i32, second: f64, third: f64,
  fourth: i32, valLen: i32,
): i32 {
  const key = keyA(zone, first, type, second, third, fourth);
  return itemCreateForceAt(lock, primary, key, VAL_WINDOW, valLen);
}

export function itemDeleteForce(
  lock: usize, primary: usize, zone: i32, first: f64, type: i32, second: f64, third: f64,
  fourth: i32,
): i32 {
  return itemDeleteForceAt(lock, primary, keyA(zone, first, type, second, third, fourth));
}
