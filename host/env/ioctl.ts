/**
 * ioctl(2) for the command line: on our mounts and on a kernel module's alike.
 *
 * The call blocks this thread until the file system has answered, so it is nothing for
 * a process that serves one. `addressOf` is for arguments that carry pointers; the memory
 * must be kept alive until the call has returned.
 */
import { createRequire } from 'node:module';
import { ScoutfsError, errnoError, errnoName } from '../observe/errors.js';
import { strerrorNr } from '../observe/strerror.js';

type Call = (fd: number, cmd: number, arg: Uint8Array) => number;

interface Koffi {
  load(path: null): { func(definition: string): Call };
  errno(): number;
  address(value: Uint8Array): bigint;
}

let koffi: Koffi | null = null;
let call: Call | null = null;

/** @throws ENOSYS on a platform without the prebuilt module */
function ffi(): Koffi {
  try {
    koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
    return koffi;
  } catch {
    throw errnoError('ENOSYS', 'ioctl(2) cannot be called on this platform (no koffi)');
  }
}

/**
 * @returns the call's result, never negative
 * @throws the call's errno; its message is `<text> (<number>)`
 */
export function ioctl(fd: number, cmd: number, arg: Uint8Array): number {
  const lib = ffi();
  call ??= lib.load(null).func('int ioctl(int fd, ulong request, void *arg)');
  const result = call(fd, cmd, arg);
  if (result >= 0) return result;
  const name = errnoName(lib.errno());
  throw new ScoutfsError(name, name, { message: strerrorNr(name) });
}

/** Where the bytes lie in this process. */
export function addressOf(bytes: Uint8Array): bigint {
  return ffi().address(bytes);
}
