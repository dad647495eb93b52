/**
 * The capabilities of the process behind a request.
 *
 * A FUSE request names the calling thread, not what it may do; its effective
 * capabilities are in /proc. When they cannot be read (the caller is gone, or in a pid
 * namespace we do not see) the answer is no. Source: xattr.md 10.
 */
import * as fs from 'node:fs';

const CAP_SYS_ADMIN = 21n;

/** Whether the caller has CAP_SYS_ADMIN. A synchronous read of procfs: only for rare requests. */
export function isAdmin(pid: number): boolean {
  if (pid === 0) return false;
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    const caps = /^CapEff:\s*([0-9a-fA-F]+)$/m.exec(status)?.[1];
    return caps !== undefined && ((BigInt(`0x${caps}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
  } catch {
    return false;
  }
}
