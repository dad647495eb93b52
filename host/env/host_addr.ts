/**
 * The IPv4 addresses of this host.
 */
import { networkInterfaces } from 'node:os';

/** Whether an address (host order) belongs to this host; 127.0.0.0/8 always does. */
export function isLocalAddr(addr: number): boolean {
  if (addr >>> 24 === 127) return true;
  return Object.values(networkInterfaces()).some((list) => (list ?? []).some((i) =>
    i.family === 'IPv4' &&
    i.address.split('.').reduce((n, part) => n * 256 + Number(part), 0) === addr));
}
