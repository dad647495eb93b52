/**
 * Socket options that Node does not offer.
 *
 * The cluster connection must notice a dead peer within a bound (net.md 1.1): for
 * an idle socket by keepalive probes one second apart, for a socket with
 * unacknowledged data by the TCP user timeout. Node sets neither, so they are set
 * by `setsockopt` through FFI on the socket's descriptor. Where the FFI module does
 * not load `setTcpTimeouts` says so and net.ts emulates the bound.
 */
import { createRequire } from 'node:module';

const IPPROTO_TCP = 6;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TCP_USER_TIMEOUT = 18;
const KEEPALIVE_INTERVAL_SEC = 1;
const KEEPALIVE_COUNT = 3;
const INT_BYTES = 4;

type SetSockOpt = (fd: number, level: number, name: number, val: Uint8Array, len: number) => number;

interface Koffi {
  load(path: string | null): { func(prototype: string): unknown };
}

let loaded: SetSockOpt | null | undefined;

function setsockopt(): SetSockOpt | null {
  if (loaded === undefined) {
    try {
      const koffi = createRequire(import.meta.url)('koffi') as Koffi;
      loaded = koffi.load(null).func(
        'int setsockopt(int fd, int level, int name, const void *val, uint len)') as SetSockOpt;
    } catch {
      // A platform without the prebuilt module: the caller emulates.
      loaded = null;
    }
  }
  return loaded;
}

/**
 * Bounds the silence of a connected TCP socket: idle for `timeoutMs - 3 s` before the
 * first probe, and at most `timeoutMs` with unacknowledged data.
 * @returns false when it cannot be set here
 */
export function setTcpTimeouts(fd: number, timeoutMs: number): boolean {
  const call = setsockopt();
  if (call === null || fd < 0) return false;
  const set = (name: number, value: number): boolean => {
    const val = new Uint8Array(INT_BYTES);
    new DataView(val.buffer).setInt32(0, value, true);
    return call(fd, IPPROTO_TCP, name, val, INT_BYTES) === 0;
  };
  const idleSec = Math.max(1, Math.floor(timeoutMs / 1000) - 3);
  return set(TCP_KEEPIDLE, idleSec) && set(TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SEC)
    && set(TCP_KEEPCNT, KEEPALIVE_COUNT) && set(TCP_USER_TIMEOUT, timeoutMs);
}
