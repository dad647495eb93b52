/**
 * File handles, by the system calls that Node has no functions for.
 *
 *   struct file_handle  handle_bytes u32 │ handle_type i32 │ bytes ...
 */
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const nameToHandle = libc.func('int name_to_handle_at(int dirfd, const char *path, '
  + '_Inout_ uint8_t *handle, _Out_ int *mount_id, int flags)');
const openByHandle = libc.func('int open_by_handle_at(int mount_fd, _Inout_ uint8_t *handle, '
  + 'int flags)');

const HEADER_BYTES = 8;
const HANDLE_MAX_BYTES = 128;
const AT_FDCWD = -100;

export interface Handle {
  type: number;
  bytes: Buffer;
}

/** Flag of `handleOf`: a handle that also names the parent; kernels from 6.13 on know it. */
export const AT_HANDLE_CONNECTABLE = 2;

/** The handle that the kernel gives for a path (the link itself, for symlinks). @throws errno */
export function handleOf(path: string, roomBytes = HANDLE_MAX_BYTES, flags = 0): Handle {
  const buf = Buffer.alloc(HEADER_BYTES + HANDLE_MAX_BYTES);
  buf.writeUInt32LE(roomBytes, 0);
  if (Number(nameToHandle(AT_FDCWD, path, buf, [0], flags)) !== 0) {
    throw new Error(`name_to_handle_at ${path}: errno ${koffi.errno()}`);
  }
  const bytes = buf.subarray(HEADER_BYTES, HEADER_BYTES + buf.readUInt32LE(0));
  return { type: buf.readInt32LE(4), bytes: Buffer.from(bytes) };
}

/** Opens a handle on the mount that `mountFd` is open on. @returns fd, or the negative errno */
export function openHandle(mountFd: number, handle: Handle, flags = 0): number {
  const buf = Buffer.alloc(HEADER_BYTES + handle.bytes.length);
  buf.writeUInt32LE(handle.bytes.length, 0);
  buf.writeInt32LE(handle.type, 4);
  buf.set(handle.bytes, HEADER_BYTES);
  const fd = Number(openByHandle(mountFd, buf, flags));
  return fd < 0 ? -koffi.errno() : fd;
}

/** What clients of upstream make: type 0x81, the number in little endian, and padding. */
export function handMade(ino: number | bigint, padBytes: number, fill = 0): Handle {
  const bytes = Buffer.alloc(8 + padBytes, fill);
  bytes.writeBigUInt64LE(BigInt(ino), 0);
  return { type: 0x81, bytes };
}
