/**
 * System calls that Node has no functions for, for tests only: xattrs without following
 * links, and ioctl.
 */
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const llistxattr = libc.func('long llistxattr(const uint8_t *path, _Out_ uint8_t *list, size_t size)');
const lgetxattr = libc.func(
  'long lgetxattr(const uint8_t *path, const char *name, _Out_ uint8_t *value, size_t size)');
const lsetxattr = libc.func('int lsetxattr(const uint8_t *path, const char *name, ' +
  'const uint8_t *value, size_t size, int flags)');
const lremovexattr = libc.func('int lremovexattr(const uint8_t *path, const char *name)');
const truncateFn = libc.func('int truncate(const char *path, long size)');
const ioctlFn = libc.func('int ioctl(int fd, unsigned long cmd, _Inout_ uint8_t *arg)');

const LIST_MAX_BYTES = 1 << 16;
const VALUE_MAX_BYTES = 65536;
const listBuffer = Buffer.alloc(LIST_MAX_BYTES);
const valueBuffer = Buffer.alloc(VALUE_MAX_BYTES);

/** Paths are bytes, not always UTF-8. */
function terminated(path: Uint8Array): Buffer {
  return Buffer.concat([path, Buffer.from([0])]);
}

/** Names of a path's xattrs. @throws with the errno */
export function listXattrs(path: Uint8Array): string[] {
  const buf = listBuffer;
  const n = Number(llistxattr(terminated(path), buf, buf.length));
  if (n < 0) throw new Error(`llistxattr ${Buffer.from(path).toString()}: errno ${koffi.errno()}`);
  return buf.subarray(0, n).toString('utf8').split('\0').filter((s) => s !== '');
}

/** Value of an xattr, or the positive errno. */
export function getXattr(path: Uint8Array, name: string): Buffer | number {
  const buf = valueBuffer;
  const n = Number(lgetxattr(terminated(path), name, buf, buf.length));
  return n < 0 ? koffi.errno() : Buffer.from(buf.subarray(0, n));
}

/** Sets an xattr. @returns 0, or the positive errno */
export function setXattr(path: string, name: string, value: Uint8Array, flags = 0): number {
  const r = Number(lsetxattr(terminated(Buffer.from(path)), name, value, value.length, flags));
  return r < 0 ? koffi.errno() : 0;
}

/** Removes an xattr. @returns 0 or the positive errno */
export function removeXattr(path: string, name: string): number {
  return Number(lremovexattr(terminated(Buffer.from(path)), name)) < 0 ? koffi.errno() : 0;
}

/** truncate(2) by name, which Node replaces by open, ftruncate and close. */
export function truncate(path: string, lenBytes: number): void {
  if (Number(truncateFn(path, lenBytes)) !== 0) {
    throw new Error(`truncate ${path}: errno ${koffi.errno()}`);
  }
}

/** ioctl with a buffer in and out. @returns the result, or the negative errno */
export function ioctl(fd: number, cmd: number, arg: Buffer): number {
  const r = Number(ioctlFn(fd, cmd, arg));
  return r < 0 ? -koffi.errno() : r;
}
