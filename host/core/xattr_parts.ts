/**
 * How an extended attribute is cut into items: header, name and value are one
 * string of bytes, stored in parts of 896 bytes, the last one shorter.
 *
 * Spec: format.md 14.3; vectors: format-vectors.json, xattr_parts.
 */
import { XATTR_MAX_PART_SIZE, Xattr } from './format.js';

export interface XattrParts {
  /** Header, name and value together. */
  totalBytes: number;
  /** Number of items. */
  nr: number;
  /** Length of the last item's value, 1..896. */
  lastBytes: number;
}

/** Parts of an attribute whose name and value have these lengths in bytes. */
export function xattrParts(nameLen: number, valLen: number): XattrParts {
  const totalBytes = Xattr.size + nameLen + valLen;
  const nr = Math.ceil(totalBytes / XATTR_MAX_PART_SIZE);
  return { totalBytes, nr, lastBytes: totalBytes - (nr - 1) * XATTR_MAX_PART_SIZE };
}
