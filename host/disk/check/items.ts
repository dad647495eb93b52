/**
 * Which keys and value sizes the file system trees may hold.
 *
 * Every version of every item is looked at here, also those that a newer version
 * hides. Fields of a key that its kind does not use must be zero, because keys are
 * hashed and compared whole. Spec: format.md 8.1 and 14.
 */
import { BTREE_MAX_VAL_LEN, DATA_EXTENT_TYPE, DIRENT_TYPE, Dirent, DataExtentVal, FS_ZONE,
  INODE_FMT_V1_BYTES, INODE_FMT_V2_BYTES, INODE_INDEX_DATA_SEQ_TYPE, INODE_INDEX_META_SEQ_TYPE,
  INODE_INDEX_ZONE, INODE_TYPE, LINK_BACKREF_TYPE, NAME_LEN, ORPHAN_TYPE, ORPHAN_ZONE,
  QUOTA_RULE_TYPE, QUOTA_ZONE, QuotaRuleVal, READDIR_TYPE, SYMLINK_TYPE, XATTR_INDX_ZONE,
  XATTR_TOTL_ZONE, XATTR_TYPE, XattrTotlVal } from '../../core/format.js';
import { isZero64, typeOf, zoneOf } from './keys.js';
import type { FindingId } from './report.js';

const XATTR_PARTS_MAX = 74;
const QUOTA_VERSION = 2;

/** Bits for the fields of a key that must be zero. */
const FIRST = 1;
const SECOND = 2;
const THIRD = 4;
const FOURTH = 8;

function hasBits(v: DataView, k: number, zeroFields: number): boolean {
  return ((zeroFields & FIRST) !== 0 && !isZero64(v, k))
    || ((zeroFields & SECOND) !== 0 && !isZero64(v, k + 8))
    || ((zeroFields & THIRD) !== 0 && !isZero64(v, k + 16))
    || ((zeroFields & FOURTH) !== 0 && v.getUint8(k + 24) !== 0);
}

interface Shape {
  /** Key fields that must be zero. */
  zero: number;
  minBytes: number;
  maxBytes: number;
  /** What a wrong value size is called. */
  id?: FindingId;
  /** Least format version that has such items. */
  version?: number;
}

const entry = (zero: number, id: FindingId): Shape =>
  ({ zero, minBytes: Dirent.size + 1, maxBytes: Dirent.size + NAME_LEN, id });
const fixed = (zero: number, bytes: number, version = 1): Shape =>
  ({ zero, minBytes: bytes, maxBytes: bytes, version });
const part = (zero: number): Shape => ({ zero, minBytes: 1, maxBytes: BTREE_MAX_VAL_LEN });

/** By zone and type. */
const SHAPES = new Map<number, Shape>(([
  [INODE_INDEX_ZONE, INODE_INDEX_META_SEQ_TYPE, fixed(FIRST | FOURTH, 0)],
  [INODE_INDEX_ZONE, INODE_INDEX_DATA_SEQ_TYPE, fixed(FIRST | FOURTH, 0)],
  [ORPHAN_ZONE, ORPHAN_TYPE, fixed(FIRST | THIRD | FOURTH, 0)],
  [QUOTA_ZONE, QUOTA_RULE_TYPE, fixed(FIRST | FOURTH, QuotaRuleVal.size, QUOTA_VERSION)],
  [XATTR_TOTL_ZONE, 0, fixed(FOURTH, XattrTotlVal.size)],
  [XATTR_INDX_ZONE, 0, fixed(0, 0, QUOTA_VERSION)],
  [FS_ZONE, INODE_TYPE,
    { zero: SECOND | THIRD | FOURTH, minBytes: INODE_FMT_V1_BYTES, maxBytes: INODE_FMT_V2_BYTES }],
  [FS_ZONE, XATTR_TYPE, part(0)],
  [FS_ZONE, DIRENT_TYPE, entry(FOURTH, 'SC_DIRENT_NAME_LEN')],
  [FS_ZONE, READDIR_TYPE, entry(THIRD | FOURTH, 'SC_DIRENT_READDIR_NAME_LEN')],
  [FS_ZONE, LINK_BACKREF_TYPE, entry(FOURTH, 'SC_DIRENT_BACKREF_NAME_LEN')],
  [FS_ZONE, SYMLINK_TYPE, part(THIRD | FOURTH)],
  [FS_ZONE, DATA_EXTENT_TYPE, fixed(FOURTH, DataExtentVal.size)],
] as [number, number, Shape][]).map(([zone, type, shape]) => [zone * 256 + type, shape]));

/**
 * What is wrong with an item of a file system tree.
 * @param isDeletion deletion items have no value, so only their keys are held against the shapes
 * @returns the kind of finding, or null
 */
export function itemProblem(v: DataView, k: number, valLen: number, isDeletion: boolean,
  fmtVers: number): FindingId | null {
  const zone = zoneOf(v, k);
  const type = typeOf(v, k);
  const shape = SHAPES.get(zone * 256 + type);
  if (shape === undefined || (shape.version ?? 1) > fmtVers || hasBits(v, k, shape.zero)) {
    return 'CHK_ITEM_KEY';
  }
  if (zone === FS_ZONE) {
    if (isZero64(v, k)) return 'CHK_ITEM_KEY';
    if (type === XATTR_TYPE && (v.getUint32(k + 12, true) !== 0
      || v.getUint8(k + 24) >= XATTR_PARTS_MAX)) return 'CHK_ITEM_KEY';
  }
  if (isDeletion) return null;
  if (valLen < shape.minBytes || valLen > shape.maxBytes) return shape.id ?? 'CHK_ITEM_VALUE';
  if (zone === FS_ZONE && type === INODE_TYPE && valLen !== INODE_FMT_V1_BYTES
    && (valLen !== INODE_FMT_V2_BYTES || fmtVers < 2)) return 'CHK_ITEM_VALUE';
  return null;
}
