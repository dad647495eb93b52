/**
 * POSIX ACLs of inodes: two xattrs under I(ino) that go along with the mode.
 *
 * An access ACL that says no more than mode bits is not stored; setting it only sets the
 * mode. Otherwise the stored ACL and the mode agree: setting the one sets the bits of the
 * other in the same transaction, chmod rewrites the ACL. A directory's default ACL replaces
 * the umask for what is made in it.
 *
 * Nothing is cached here: ACLs are read from the item cache, which is only valid under
 * I(ino). An inode that never had an xattr (`nextXattrId` 0) has no ACL, which costs
 * nothing to see. Enforcement, and the test for ownership, are the kernel's.
 * With the mount option `noacl` ACLs can neither be read nor set, and mean nothing.
 * Source: xattr.md 7 and 10.
 */
import type { LockPtr } from '../core/items.js';
import type { Op } from '../mount/op.js';
import { MODE_READ, MODE_WRITE } from '../mount/op.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { Acl } from './acl.js';
import { chmodAcl, decodeAcl, encodeAcl, inheritAcl, isEquivalent, modeOf } from './acl.js';
import type { FsContext } from './context.js';
import type { Inodes } from './inode.js';
import type { InodeRec } from './inode_item.js';
import { S_ISGID } from './inode_item.js';
import type { Name } from './vfs.js';
import type { Found, PartsChange, Xattrs } from './xattr.js';

const ACCESS = Buffer.from('system.posix_acl_access');
const DEFAULT = Buffer.from('system.posix_acl_default');

/** The name of one of the two ACLs, as `aclName` gives it. */
export type AclName = typeof ACCESS;

/** Which ACL a request names; null for other xattrs. */
export function aclName(name: Name): AclName | null {
  const bytes = name.bytes.subarray(name.off, name.off + name.len);
  if (ACCESS.equals(bytes)) return ACCESS;
  return DEFAULT.equals(bytes) ? DEFAULT : null;
}

export class Acls {
  constructor(
    private readonly cx: FsContext, private readonly inodes: Inodes,
    private readonly xattrs: Xattrs,
  ) {}

  /** @throws Wait, EOPNOTSUPP, ENODATA, EIO */
  get(op: Op, ino: number, name: AclName): Uint8Array {
    if (!this.cx.acl) throw errnoError('EOPNOTSUPP');
    const found = this.xattrs.find(op.lockInode(ino, MODE_READ), ino, name);
    if (found === null) throw errnoError('ENODATA');
    return found.value;
  }

  /**
   * Sets an ACL, or removes it when `value` is null or has no entries; there need not be one.
   * `killSgid`: the caller is outside the file's group and may not keep its set-gid bit.
   * @throws Wait, EOPNOTSUPP, EINVAL, ENOSPC
   */
  set(op: Op, ino: number, name: AclName, value: Uint8Array | null, killSgid: boolean): void {
    if (!this.cx.acl) throw errnoError('EOPNOTSUPP');
    const acl = value === null ? [] : decodeAcl(value);
    if (acl === null) throw errnoError('EINVAL');
    const lock = op.lockInode(ino, MODE_WRITE);
    const inode = this.inodes.read(lock, ino);
    if (inode.isLnk) throw errnoError('EOPNOTSUPP');
    if (name === DEFAULT && !inode.isDir) {
      if (acl.length === 0) return;
      throw errnoError('EINVAL');
    }
    const setsMode = name === ACCESS && acl.length > 0;
    const stored = acl.length === 0 || (setsMode && isEquivalent(acl)) ? null : encodeAcl(acl);
    const change = this.xattrs.planParts(lock, inode, name,
      this.xattrs.find(lock, ino, name), stored);
    if (change === null && !setsMode) return;
    const { hold, clock } = this.cx;
    hold.begin(op);
    hold.will(inode, false);
    hold.hold(op, true);

    if (change !== null) this.xattrs.applyParts(lock, change);
    if (setsMode) inode.mode = modeOf(acl, inode.mode) & (killSgid ? ~S_ISGID : ~0);
    inode.touch(clock.now(), false);
    hold.update(lock, inode);
  }

  /** The look part of chmod: how the access ACL follows the mode. @throws Wait, EIO */
  planChmod(lock: LockPtr, inode: InodeRec, mode: number): PartsChange[] {
    const { old, acl } = this.stored(lock, inode, ACCESS);
    if (acl.length === 0) return [];
    return planned(this.xattrs.planParts(lock, inode, ACCESS, old,
      encodeAcl(chmodAcl(acl, mode))));
  }

  /**
   * The look part of creating `inode` in `dir`: its mode gets what default ACL or umask leave of
   * it. Not for symlinks. @returns the ACLs to store with it @throws Wait, EIO
   */
  inherit(dirLock: LockPtr, dir: InodeRec, lock: LockPtr, inode: InodeRec, umask: number):
  PartsChange[] {
    const { acl: def } = this.stored(dirLock, dir, DEFAULT);
    if (def.length === 0) {
      inode.mode &= ~umask;
      return [];
    }
    const { access, mode } = inheritAcl(def, inode.mode);
    inode.mode = mode;
    const plan = (name: AclName, acl: Acl): PartsChange | null => {
      inode.version += 1;
      return this.xattrs.planParts(lock, inode, name, null, encodeAcl(acl));
    };
    return planned(inode.isDir ? plan(DEFAULT, def) : null,
      isEquivalent(access) ? null : plan(ACCESS, access));
  }

  /** The change part of `planChmod` and `inherit`. */
  store(lock: LockPtr, changes: readonly PartsChange[]): void {
    for (const change of changes) this.xattrs.applyParts(lock, change);
  }

  /** An inode's ACL, without entries when it has none or they mean nothing. @throws Wait, EIO */
  private stored(lock: LockPtr, inode: InodeRec, name: AclName): { old: Found | null; acl: Acl } {
    const none = !this.cx.acl || inode.nextXattrId === 0;
    const old = none ? null : this.xattrs.find(lock, inode.ino, name);
    if (old === null) return { old, acl: [] };
    const acl = decodeAcl(old.value);
    if (acl === null) {
      throw new ScoutfsError('ACL_XATTR', 'EIO', {
        message: `inode ${inode.ino}: damaged ${name.toString()}`,
      });
    }
    return { old, acl };
  }
}

function planned(...changes: (PartsChange | null)[]): PartsChange[] {
  return changes.filter((change) => change !== null);
}
