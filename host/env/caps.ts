/**
 * The thread behind a request: its capabilities, and whether it dies.
 *
 * A FUSE request names the calling thread, not what it may do; its effective
 * capabilities are in /proc. They count only in our own user namespace: whoever makes a
 * namespace of his own has all of them there, and none here. When something cannot be
 * read (the caller is gone, or in a pid namespace that we do not see) the answer is no.
 * The user id proves nothing: root may have been stripped of capabilities.
 * Source: ioctl.md 5.4, xattr.md 10.
 */
import * as fs from 'node:fs';

/** The bit of signal 9 in a mask of pending signals. */
const SIGKILL_BIT = 8n;

/** Numbers of capabilities, as in capabilities(7). */
export const CAP_SYS_ADMIN = 21;

/**
 * Whether thread `pid` has the capability. Two synchronous reads of procfs: only for rare
 * requests. `procDir` is for tests.
 */
export function hasCapability(pid: number, capability: number, procDir = '/proc'): boolean {
  if (pid === 0) return false;
  try {
    const status = fs.readFileSync(`${procDir}/${pid}/status`, 'utf8');
    const caps = /^CapEff:\s*([0-9a-fA-F]+)$/m.exec(status)?.[1];
    if (caps === undefined || ((BigInt(`0x${caps}`) >> BigInt(capability)) & 1n) === 0n) {
      return false;
    }
    return fs.readlinkSync(`${procDir}/${pid}/ns/user`) ===
      fs.readlinkSync(`${procDir}/self/ns/user`);
  } catch {
    return false;
  }
}

/** Whether the caller has CAP_SYS_ADMIN. */
export function isAdmin(pid: number): boolean {
  return hasCapability(pid, CAP_SYS_ADMIN);
}

/**
 * Whether the caller was killed, by whatever signal ends it: Linux then makes SIGKILL pending
 * in each of its threads. Unknown callers live. A synchronous read of procfs.
 */
export function isDying(pid: number): boolean {
  if (pid === 0) return false;
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    return [...status.matchAll(/^(?:Sig|Shd)Pnd:\s*([0-9a-fA-F]+)$/gm)].some(([, mask]) =>
      ((BigInt(`0x${mask ?? '0'}`) >> SIGKILL_BIT) & 1n) === 1n);
  } catch {
    return false;
  }
}
