/**
 * Block devices and image files.
 *
 * A Device reads and writes whole 4096-byte units at byte offsets. Direct I/O
 * (O_DIRECT) is used where the file system below has it, because other hosts
 * write the same devices and a host cache would show stale blocks. Direct I/O
 * needs aligned memory: buffers inside `alignedMemory()` are used as they are,
 * anything else goes through a bounce buffer of the same kind.
 *
 * A short read or write is an error (EIO), never a partial result.
 */
import { constants as fsConstants, promises as fsp } from 'node:fs';
import * as fs from 'node:fs';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { strerrorNr } from '../observe/strerror.js';

/** Alignment and unit of all device I/O, in bytes. */
export const DEVICE_UNIT_BYTES = 4096;
const WASM_PAGE_BYTES = 65536;

export interface Device {
  readonly path: string;
  /** Size in bytes, as it was looked at last: when opened, or by `refreshSize`. */
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  /** `st_rdev` of a block device as [major, minor]; of an image file those of its file system. */
  readonly majMin: readonly [number, number];
  /** Fills `buf` from byte `offset`. @throws EIO for a short read or a device error */
  read(offset: number, buf: Uint8Array): Promise<void>;
  readSync(offset: number, buf: Uint8Array): void;
  /** Writes all of `buf` at byte `offset`. Completed writes are durable only after flush. */
  write(offset: number, buf: Uint8Array): Promise<void>;
  writeSync(offset: number, buf: Uint8Array): void;
  /** Makes all completed writes durable. */
  flush(): Promise<void>;
  flushSync(): void;
  /** Looks how large the device is now; devices that cannot grow in use do without. */
  refreshSize?(): void;
  close(): Promise<void>;
}

export interface OpenDeviceOptions {
  readOnly?: boolean;
  /** Exclusive open of a block device: EBUSY when it is in use on this host. */
  exclusive?: boolean;
  /** Try O_DIRECT first; default true. */
  direct?: boolean;
}

const alignedBuffers = new WeakSet<ArrayBufferLike>();

/** Small pieces are cut from slabs of this size: a memory of its own is expensive to make. */
const SLAB_BYTES = 1 << 20;
/** What is larger than this gets a memory of its own. */
const SLAB_PIECE_MAX_BYTES = WASM_PAGE_BYTES;
let slab: Uint8Array = new Uint8Array(0);

/** Page-aligned memory of `lenBytes`; views of it at multiples of 4096 suit direct I/O. */
export function alignedMemory(lenBytes: number): Uint8Array {
  if (lenBytes > SLAB_PIECE_MAX_BYTES) return ownMemory(lenBytes);
  const taken = Math.ceil(lenBytes / DEVICE_UNIT_BYTES) * DEVICE_UNIT_BYTES;
  if (slab.length < taken) slab = ownMemory(SLAB_BYTES);
  const piece = slab.subarray(0, lenBytes);
  slab = slab.subarray(taken);
  return piece;
}

function ownMemory(lenBytes: number): Uint8Array {
  const pages = Math.ceil(lenBytes / WASM_PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  registerAligned(memory.buffer);
  return new Uint8Array(memory.buffer, 0, lenBytes);
}

/** Declares that a buffer starts on a page boundary (wasm memories do). */
export function registerAligned(buffer: ArrayBufferLike): void {
  alignedBuffers.add(buffer);
}

function isAligned(buf: Uint8Array): boolean {
  return alignedBuffers.has(buf.buffer) && buf.byteOffset % DEVICE_UNIT_BYTES === 0;
}

/** Bounce buffers kept for reuse: wasm memories are expensive to make by the thousand. */
const BOUNCE_KEPT_MAX = 64;
/** Larger ones are made for the occasion and left to the collector. */
const BOUNCE_KEPT_BYTES = WASM_PAGE_BYTES;
const freeBounces: Uint8Array[] = [];

function takeBounce(lenBytes: number): Uint8Array {
  if (lenBytes > BOUNCE_KEPT_BYTES) return alignedMemory(lenBytes);
  return freeBounces.pop() ?? alignedMemory(BOUNCE_KEPT_BYTES);
}

function giveBounce(bounce: Uint8Array | null): void {
  if (bounce?.length === BOUNCE_KEPT_BYTES && freeBounces.length < BOUNCE_KEPT_MAX) {
    freeBounces.push(bounce);
  }
}

class FileDevice implements Device {
  constructor(
    readonly path: string,
    public sizeBytes: number,
    readonly isBlockDevice: boolean,
    readonly majMin: readonly [number, number],
    private readonly handle: fsp.FileHandle,
    private readonly direct: boolean,
  ) {}

  async read(offset: number, buf: Uint8Array): Promise<void> {
    const bounce = this.bounce(offset, buf);
    try {
      const { bytesRead } = await this.wrap(
        this.handle.read(bounce ?? buf, 0, buf.length, offset), 'read', offset);
      this.whole(bytesRead, buf.length, 'read', offset);
      if (bounce !== null) buf.set(bounce.subarray(0, buf.length));
    } finally {
      giveBounce(bounce);
    }
  }

  readSync(offset: number, buf: Uint8Array): void {
    const bounce = this.bounce(offset, buf);
    try {
      const n = this.wrapSync(
        () => fs.readSync(this.handle.fd, bounce ?? buf, 0, buf.length, offset), 'read', offset);
      this.whole(n, buf.length, 'read', offset);
      if (bounce !== null) buf.set(bounce.subarray(0, buf.length));
    } finally {
      giveBounce(bounce);
    }
  }

  async write(offset: number, buf: Uint8Array): Promise<void> {
    const bounce = this.bounce(offset, buf);
    bounce?.set(buf);
    try {
      const { bytesWritten } = await this.wrap(
        this.handle.write(bounce ?? buf, 0, buf.length, offset), 'write', offset);
      this.whole(bytesWritten, buf.length, 'write', offset);
    } finally {
      giveBounce(bounce);
    }
  }

  writeSync(offset: number, buf: Uint8Array): void {
    const bounce = this.bounce(offset, buf);
    bounce?.set(buf);
    try {
      const n = this.wrapSync(
        () => fs.writeSync(this.handle.fd, bounce ?? buf, 0, buf.length, offset), 'write', offset);
      this.whole(n, buf.length, 'write', offset);
    } finally {
      giveBounce(bounce);
    }
  }

  async flush(): Promise<void> {
    await this.wrap(this.handle.datasync(), 'flush', 0);
  }

  flushSync(): void {
    this.wrapSync(() => { fs.fdatasyncSync(this.handle.fd); return 0; }, 'flush', 0);
  }

  /**
   * Devices grow. One that cannot be asked, or has less than before, keeps its size: reading
   * it says what is wrong with it, and it may come back.
   */
  refreshSize(): void {
    try {
      this.sizeBytes = Math.max(this.sizeBytes, this.isBlockDevice ? blockDeviceSize(this.majMin)
        : fs.fstatSync(this.handle.fd).size);
    } catch {
      return;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private bounce(offset: number, buf: Uint8Array): Uint8Array | null {
    if (!this.direct || isAligned(buf)) return null;
    if (offset % DEVICE_UNIT_BYTES !== 0 || buf.length % DEVICE_UNIT_BYTES !== 0) {
      throw new ScoutfsError('UNALIGNED_IO', 'EINVAL', {
        message: `${this.path}: direct I/O of ${buf.length} bytes at ${offset} ` +
          'is not in 4096-byte units',
      });
    }
    return takeBounce(buf.length);
  }

  private whole(done: number, wanted: number, what: string, offset: number): void {
    if (done !== wanted) {
      throw new ScoutfsError('DEVICE_SHORT_IO', 'EIO', {
        message: `${this.path}: ${what} of ${wanted} bytes at ${offset} ended after ${done}`,
      });
    }
  }

  private async wrap<T>(p: Promise<T>, what: string, offset: number): Promise<T> {
    try {
      return await p;
    } catch (e) {
      throw this.failed(e, what, offset);
    }
  }

  private wrapSync(fn: () => number, what: string, offset: number): number {
    try {
      return fn();
    } catch (e) {
      throw this.failed(e, what, offset);
    }
  }

  private failed(e: unknown, what: string, offset: number): ScoutfsError {
    const err = asScoutfsError(e);
    return new ScoutfsError('DEVICE_IO', 'EIO', {
      message: `${this.path}: ${what} at byte ${offset} failed: ${err.message}`, cause: e,
    });
  }
}

async function openHandle(path: string, flags: number, direct: boolean):
Promise<{ handle: fsp.FileHandle; direct: boolean }> {
  if (direct) {
    try {
      return { handle: await fsp.open(path, flags | fsConstants.O_DIRECT), direct: true };
    } catch (e) {
      if (asScoutfsError(e).errno !== 'EINVAL') throw e;
    }
  }
  return { handle: await fsp.open(path, flags), direct: false };
}

/** Opens a block device or image file. @throws the open error with the path; ENOTBLK for others */
export async function openDevice(path: string, opts: OpenDeviceOptions = {}): Promise<Device> {
  const flags = (opts.readOnly === true ? fsConstants.O_RDONLY : fsConstants.O_RDWR);
  let stat: fs.Stats;
  let handle: fsp.FileHandle;
  let direct: boolean;
  try {
    stat = await fsp.stat(path);
    if (!stat.isBlockDevice() && !stat.isFile()) {
      throw new ScoutfsError('NOT_A_DEVICE', 'ENOTBLK', {
        message: `${path}: neither a block device nor a regular file`,
      });
    }
    // O_EXCL without O_CREAT is defined for block devices only.
    const excl = opts.exclusive === true && stat.isBlockDevice() ? fsConstants.O_EXCL : 0;
    ({ handle, direct } = await openHandle(path, flags | excl, opts.direct !== false));
  } catch (e) {
    const err = asScoutfsError(e);
    if (err.code === 'NOT_A_DEVICE') throw err;
    throw new ScoutfsError(err.code, err.errno, {
      message: `failed to open '${path}': ${strerrorNr(err.errno)}`, cause: e,
    });
  }
  const majMin = majMinOf(stat.isBlockDevice() ? stat.rdev : stat.dev);
  const sizeBytes = stat.isBlockDevice() ? blockDeviceSize(majMin) : stat.size;
  return new FileDevice(path, sizeBytes, stat.isBlockDevice(), majMin, handle, direct);
}

function majMinOf(dev: number): readonly [number, number] {
  // glibc's encoding of dev_t
  const major = (Math.floor(dev / 256) % 4096);
  const minor = (dev % 256) + Math.floor(dev / 0x100000) % 0x1000 * 256;
  return [major, minor];
}

function blockDeviceSize([maj, min]: readonly [number, number]): number {
  const sectors = fs.readFileSync(`/sys/dev/block/${maj}:${min}/size`, 'utf8');
  return Number(sectors.trim()) * 512;
}
