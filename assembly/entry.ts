/**
 * Items that are found by name: directory entries and xattrs.
 *
 * An entry is three items with the same value. Their keys need the hash of the name,
 * which would cross the border as a BigInt; so these calls take the name from the name
 * window and do the hashing, the walk over equal hashes and the comparison here.
 *
 *   dirent value:  ╒═════╤══════╤═════╤══════╤═════╤══════╕
 *                  │ino 8│hash 8│pos 8│type 1│pad 7│ name │
 *                  ╘═════╧══════╧═════╧══════╧═════╧══════╛
 *   dirent  16.dir.12.hash.pos   readdir  16.dir.16.pos   backref  16.ino.20.dir.pos
 *
 *   xattr part 0:  ╒═════════╤══════════╤═════╤══════╤═══════╕
 *                  │val_len 2│name_len 1│pad 5│ name │ value │   16.ino.8.crc(name).id.0
 *                  ╘═════════╧══════════╧═════╧══════╧═══════╛
 *
 * Spec: format.md 14.2 and 14.5.
 */
import { crc32c } from './crc32c';
import { EINVAL, EIO, ENOMEM } from './format';
import { nameHash } from './hash';
import {
  itemCreateAt, itemDeleteAt, itemNextAt, itemProbeAt, itemTouchAt, nextErr, toWindow,
} from './item';
import { keyCopy, keyInc, keySet } from './key';
import { itemVal, itemValLen } from './page';
import { pageReserve } from './pages';
import { KEY_FOUND, NAME_WINDOW, VAL_WINDOW } from './window';

// @ts-ignore: decorator
@inline const FS_ZONE: u8 = 16;
// @ts-ignore: decorator
@inline const XATTR_TYPE: u8 = 8;
// @ts-ignore: decorator
@inline const DIRENT_TYPE: u8 = 12;
// @ts-ignore: decorator
@inline const READDIR_TYPE: u8 = 16;
// @ts-ignore: decorator
@inline const LINK_BACKREF_TYPE: u8 = 20;
// @ts-ignore: decorator
@inline const DIRENT_BYTES: i32 = 32;
// @ts-ignore: decorator
@inline const XATTR_BYTES: i32 = 8;
// @ts-ignore: decorator
@inline const NAME_MAX_BYTES: i32 = 255;
/** Pages that three insertions can take at worst. */
// @ts-ignore: decorator
@inline const ENTRY_PAGES: i32 = 6;

const fromKey: usize = memory.data(32, 16);
const lastKey: usize = memory.data(32, 16);
const direntKey: usize = memory.data(32, 16);
const readdirKey: usize = memory.data(32, 16);
const backrefKey: usize = memory.data(32, 16);

/** True when `len` bytes are equal. */
function sameBytes(a: usize, b: usize, len: i32): bool {
  const end8 = a + <usize>(len & ~7), end = a + <usize>len;
  for (; a < end8; a += 8, b += 8) {
    if (load<u64>(a) != load<u64>(b)) return false;
  }
  for (; a < end; a++, b++) {
    if (load<u8>(a) != load<u8>(b)) return false;
  }
  return true;
}

// @ts-ignore: decorator
@inline
function badName(len: i32): bool {
  return len < 1 || len > NAME_MAX_BYTES;
}

/**
 * Finds the entry of the directory with the name in the window.
 * @returns length of the dirent value in the value window, key in KEY_FOUND; -ENOENT,
 *          NOT_COVERED, -EINVAL, -EIO for an entry without or with too long a name
 */
export function itemLookupName(lock: usize, dirIno: f64, nameLen: i32): i32 {
  if (badName(nameLen)) return -EINVAL;
  const hash = nameHash(NAME_WINDOW, nameLen);
  keySet(fromKey, FS_ZONE, <u64>dirIno, DIRENT_TYPE, hash, 0, 0);
  keySet(lastKey, FS_ZONE, <u64>dirIno, DIRENT_TYPE, hash, u64.MAX_VALUE, 255);
  while (true) {
    const item = itemNextAt(lock, fromKey, lastKey);
    if (item == 0) return nextErr;
    const len = itemValLen(item) - DIRENT_BYTES;
    if (badName(len)) return -EIO;
    if (len == nameLen && sameBytes(itemVal(item) + <usize>DIRENT_BYTES, NAME_WINDOW, len)) {
      keyCopy(KEY_FOUND, item);
      return toWindow(item);
    }
    keyCopy(fromKey, item);
    keyInc(fromKey);
  }
}

function entryKeys(dirIno: f64, ino: f64, pos: f64, nameLen: i32): u64 {
  const hash = nameHash(NAME_WINDOW, nameLen);
  keySet(direntKey, FS_ZONE, <u64>dirIno, DIRENT_TYPE, hash, <u64>pos, 0);
  keySet(readdirKey, FS_ZONE, <u64>dirIno, READDIR_TYPE, <u64>pos, 0, 0);
  keySet(backrefKey, FS_ZONE, <u64>ino, LINK_BACKREF_TYPE, <u64>dirIno, <u64>pos, 0);
  return hash;
}

/** Whether it is known if the dirent key of the name at `pos` exists. */
export function itemTouchName(lock: usize, dirIno: f64, nameLen: i32, pos: f64): i32 {
  if (badName(nameLen)) return -EINVAL;
  entryKeys(dirIno, 0, pos, nameLen);
  return itemTouchAt(lock, direntKey);
}

/** First refusal of the three keys, 0 if none. */
function probeEntry(dirLock: usize, inoLock: usize, present: bool): i32 {
  let err = itemProbeAt(dirLock, direntKey, present);
  if (err == 0) err = itemProbeAt(dirLock, readdirKey, present);
  return err == 0 ? itemProbeAt(inoLock, backrefKey, present) : err;
}

/**
 * Makes the three items of an entry, all or none; their value is left in the window.
 * @returns 0, -EEXIST, NOT_COVERED, -EINVAL, -ENOMEM
 */
export function itemCreateEntry(
  dirLock: usize, inoLock: usize, dirIno: f64, ino: f64, type: i32, pos: f64, nameLen: i32,
): i32 {
  if (badName(nameLen)) return -EINVAL;
  const hash = entryKeys(dirIno, ino, pos, nameLen);
  let err = probeEntry(dirLock, inoLock, false);
  if (err != 0) return err;
  if (!pageReserve(ENTRY_PAGES)) return -ENOMEM;
  store<u64>(VAL_WINDOW, <u64>ino);
  store<u64>(VAL_WINDOW, hash, 8);
  store<u64>(VAL_WINDOW, <u64>pos, 16);
  store<u64>(VAL_WINDOW, <u64>(type & 255), 24);
  memory.copy(VAL_WINDOW + <usize>DIRENT_BYTES, NAME_WINDOW, <usize>nameLen);
  const len = DIRENT_BYTES + nameLen;
  err = itemCreateAt(dirLock, direntKey, VAL_WINDOW, len);
  if (err == 0) err = itemCreateAt(dirLock, readdirKey, VAL_WINDOW, len);
  return err == 0 ? itemCreateAt(inoLock, backrefKey, VAL_WINDOW, len) : err;
}

/**
 * Deletes the three items of an entry, all or none.
 * @returns 0, -ENOENT, NOT_COVERED, -EINVAL
 */
export function itemDeleteEntry(
  dirLock: usize, inoLock: usize, dirIno: f64, ino: f64, pos: f64, nameLen: i32,
): i32 {
  if (badName(nameLen)) return -EINVAL;
  entryKeys(dirIno, ino, pos, nameLen);
  let err = probeEntry(dirLock, inoLock, true);
  if (err != 0) return err;
  err = itemDeleteAt(dirLock, direntKey);
  if (err == 0) err = itemDeleteAt(dirLock, readdirKey);
  return err == 0 ? itemDeleteAt(inoLock, backrefKey) : err;
}

/** The `second` field of the xattr keys of the name in the window. */
export function itemXattrHash(nameLen: i32): f64 {
  return <f64>crc32c(0xffffffff, NAME_WINDOW, nameLen);
}

/**
 * Finds part 0 of the inode's xattr with the name in the window.
 * @returns length of part 0 in the value window, key in KEY_FOUND; -ENOENT, NOT_COVERED,
 *          -EINVAL, -EIO for a part 0 that is shorter than its header and name
 */
export function itemLookupXattr(lock: usize, ino: f64, nameLen: i32): i32 {
  if (badName(nameLen)) return -EINVAL;
  const hash = <u64>crc32c(0xffffffff, NAME_WINDOW, nameLen);
  keySet(fromKey, FS_ZONE, <u64>ino, XATTR_TYPE, hash, 0, 0);
  keySet(lastKey, FS_ZONE, <u64>ino, XATTR_TYPE, hash, u64.MAX_VALUE, 255);
  while (true) {
    const item = itemNextAt(lock, fromKey, lastKey);
    if (item == 0) return nextErr;
    const id = load<u64>(item, 16);
    if (load<u8>(item, 24) == 0) {
      const val = itemVal(item);
      const len = itemValLen(item);
      if (len < XATTR_BYTES || len < XATTR_BYTES + <i32>load<u8>(val, 2)) return -EIO;
      if (<i32>load<u8>(val, 2) == nameLen &&
          sameBytes(val + <usize>XATTR_BYTES, NAME_WINDOW, nameLen)) {
        keyCopy(KEY_FOUND, item);
        return toWindow(item);
      }
    }
    // Behind all parts of this id.
    keySet(fromKey, FS_ZONE, <u64>ino, XATTR_TYPE, hash, id, 255);
    keyInc(fromKey);
  }
}
