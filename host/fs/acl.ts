/**
 * POSIX access control lists: the stored form, and what they do with mode bits.
 *
 * An ACL is stored and exchanged in the form of the kernel's xattrs, little endian:
 *
 *  ╒══════════╤═══════════════════════════════════╤═══
 *  │version  4│ entry: tag 2 │ permissions 2 │ id 4│ ...
 *  ╘══════════╧═══════════════════════════════════╧═══
 *
 * Entries come in a fixed order: owner, named users, group, named groups, mask, others.
 * Only named ones have an id; the others store all ones. Named entries need a mask. An ACL
 * without named entries and mask says what nine mode bits say and is called equivalent.
 * The mode's group bits of a file with a mask are the mask: whatever changes one
 * changes the other.
 *
 * Everything here is a pure function; `acl_xattr.ts` keeps ACLs in items.
 * Source: xattr.md 7.
 */

export const ACL_USER_OBJ = 1;
export const ACL_USER = 2;
export const ACL_GROUP_OBJ = 4;
export const ACL_GROUP = 8;
export const ACL_MASK = 16;
export const ACL_OTHER = 32;

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
/** Id of entries that have none; not valid for those that need one. */
export const ACL_NO_ID = 0xffffffff;
const RWX = 7;
const RWX_ALL = 0o777;
const USER_SHIFT = 6;
const GROUP_SHIFT = 3;

/** The order of tags; of these each may come so many times. */
const ORDER: readonly (readonly [tag: number, max: number])[] = [
  [ACL_USER_OBJ, 1], [ACL_USER, Infinity], [ACL_GROUP_OBJ, 1], [ACL_GROUP, Infinity],
  [ACL_MASK, 1], [ACL_OTHER, 1],
];

export interface AclEntry {
  tag: number;
  /** 4 read, 2 write, 1 execute or search. */
  perm: number;
  /** Of ACL_USER and ACL_GROUP, in the initial user namespace; else ACL_NO_ID. */
  id: number;
}

export type Acl = AclEntry[];

function isNamed(tag: number): boolean {
  return tag === ACL_USER || tag === ACL_GROUP;
}

/**
 * Decodes and validates the stored form.
 * @returns the entries, none for a value that is only a header; null for a malformed value
 */
export function decodeAcl(value: Uint8Array): Acl | null {
  const body = value.length - HEADER_BYTES;
  if (body < 0 || body % ENTRY_BYTES !== 0) return null;
  const v = new DataView(value.buffer, value.byteOffset, value.length);
  if (v.getUint32(0, true) !== VERSION) return null;
  const acl: Acl = [];
  for (let o = HEADER_BYTES; o < value.length; o += ENTRY_BYTES) {
    const tag = v.getUint16(o, true);
    const id = isNamed(tag) ? v.getUint32(o + 4, true) : ACL_NO_ID;
    acl.push({ tag, perm: v.getUint16(o + 2, true), id });
  }
  return acl.length === 0 || isValid(acl) ? acl : null;
}

/** Encodes entries as the kernel does. */
export function encodeAcl(acl: Acl): Uint8Array {
  const value = new Uint8Array(HEADER_BYTES + acl.length * ENTRY_BYTES);
  const v = new DataView(value.buffer);
  v.setUint32(0, VERSION, true);
  acl.forEach((e, i) => {
    const o = HEADER_BYTES + i * ENTRY_BYTES;
    v.setUint16(o, e.tag, true);
    v.setUint16(o + 2, e.perm, true);
    v.setUint32(o + 4, e.id, true);
  });
  return value;
}

/** Tags, their order and number, permissions, ids, and a mask where there are named entries. */
function isValid(acl: Acl): boolean {
  let at = 0;
  let ofTag = 0;
  for (const e of acl) {
    while (at < ORDER.length && ORDER[at]?.[0] !== e.tag) {
      at += 1;
      ofTag = 0;
    }
    ofTag += 1;
    if (ofTag > (ORDER[at]?.[1] ?? 0) || (e.perm & ~RWX) !== 0) return false;
    if (isNamed(e.tag) && e.id === ACL_NO_ID) return false;
  }
  const has = (tag: number): boolean => acl.some((e) => e.tag === tag);
  return has(ACL_USER_OBJ) && has(ACL_GROUP_OBJ) && has(ACL_OTHER) &&
    (has(ACL_MASK) || !acl.some((e) => isNamed(e.tag)));
}

/** The mode with its nine permission bits as the ACL has them; all other bits stay. */
export function modeOf(acl: Acl, mode: number): number {
  const bits = permOf(acl, ACL_USER_OBJ) << USER_SHIFT |
    groupEntry(acl).perm << GROUP_SHIFT | permOf(acl, ACL_OTHER);
  return (mode & ~RWX_ALL) | bits;
}

/** Whether the mode bits say all that the ACL says. */
export function isEquivalent(acl: Acl): boolean {
  return acl.every((e) => !isNamed(e.tag) && e.tag !== ACL_MASK);
}

/** The access ACL after chmod: owner, mask (or group) and others from the mode. */
export function chmodAcl(acl: Acl, mode: number): Acl {
  const group = groupEntry(acl);
  return acl.map((e) => {
    if (e.tag === ACL_USER_OBJ) return { ...e, perm: (mode >> USER_SHIFT) & RWX };
    if (e === group) return { ...e, perm: (mode >> GROUP_SHIFT) & RWX };
    return e.tag === ACL_OTHER ? { ...e, perm: mode & RWX } : e;
  });
}

/**
 * What a new inode inherits from its directory's default ACL.
 * @returns its access ACL: each class has what both the default ACL and the mode asked for
 *          grant; and its mode, which agrees with it
 */
export function inheritAcl(def: Acl, mode: number): { access: Acl; mode: number } {
  const access = chmodAcl(def, modeOf(def, mode) & mode);
  return { access, mode: modeOf(access, mode) };
}

function permOf(acl: Acl, tag: number): number {
  return acl.find((e) => e.tag === tag)?.perm ?? 0;
}

/** The entry that the mode's group bits stand for. */
function groupEntry(acl: Acl): AclEntry {
  return acl.find((e) => e.tag === ACL_MASK) ?? acl.find((e) => e.tag === ACL_GROUP_OBJ) ??
    { tag: ACL_GROUP_OBJ, perm: 0, id: ACL_NO_ID };
}
