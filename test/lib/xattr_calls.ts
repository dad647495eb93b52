/**
 * The xattr system calls with all their arguments, for tests of limits and errors. Paths are
 * followed no further than they say (the `l` forms).
 */
import koffi from 'koffi';
import { errnoName } from '../../host/observe/errors.js';

const libc = koffi.load('libc.so.6');
const lset = libc.func('int lsetxattr(const char *path, const char *name, const uint8_t *value, '
  + 'size_t size, int flags)');
const lget = libc.func('long lgetxattr(const char *path, const char *name, '
  + '_Out_ uint8_t *value, size_t size)');
const llist = libc.func('long llistxattr(const char *path, _Out_ uint8_t *list, size_t size)');
const lremove = libc.func('int lremovexattr(const char *path, const char *name)');

/** The result, or the error's name. */
function result(r: number): number | string {
  return r < 0 ? errnoName(koffi.errno()) : r;
}

export function setXattr(path: string, name: string, value: Uint8Array | string, flags = 0):
number | string {
  const bytes = Buffer.from(value);
  return result(Number(lset(path, name, bytes, bytes.length, flags)));
}

/** The value as latin1, or the error's name in brackets. */
export function getXattrText(path: string, name: string): string {
  const buf = Buffer.alloc(65536);
  const r = result(Number(lget(path, name, buf, buf.length)));
  return typeof r === 'string' ? `[${r}]` : buf.subarray(0, r).toString('latin1');
}

/** What getxattr answers to a buffer of `roomBytes`. */
export function getXattrSize(path: string, name: string, roomBytes: number): number | string {
  return result(Number(lget(path, name, Buffer.alloc(Math.max(1, roomBytes)), roomBytes)));
}

/** What listxattr answers to a buffer of `roomBytes`. */
export function listXattrSize(path: string, roomBytes: number): number | string {
  return result(Number(llist(path, Buffer.alloc(Math.max(1, roomBytes)), roomBytes)));
}

export function removeXattr(path: string, name: string): number | string {
  return result(Number(lremove(path, name)));
}
