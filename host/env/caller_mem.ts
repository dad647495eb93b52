/**
 * Reading and writing the memory of the thread behind a request.
 *
 * Several ioctls carry pointers. While the caller sits in the ioctl its address space
 * cannot go away and its thread id cannot be given to another, so `/proc/<tid>/mem` is
 * that memory. The rules (ioctl.md 5.2):
 *
 *   - thread id 0 is nobody we know: EPERM
 *   - only [addr, addr + len) is touched; what wraps or reaches above the user address
 *     limit is EFAULT
 *   - the file ignores page protection, so the mappings are looked at first: all of the
 *     range must be mapped, readable to be read, writable to be written, else EFAULT
 *   - what cannot be opened for lack of privilege is EPERM, said once; everything else
 *     that fails, short transfers included, is EFAULT
 *   - the work is done in the thread pool, never in the event loop: memory can be a
 *     mapped file of this very mount, and touching it then waits for our own READ. For
 *     the same reason only a part of the pool may be in such transfers at a time
 *
 * A caller of this must hold no cluster lock, and must not let its request be
 * interrupted meanwhile: once it is answered the thread may be gone and its id reused.
 */
import { promises as fsp } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import { poolThreads } from './fuse-device.js';

/** End of user addresses with four levels of page tables. */
const ADDRESS_LIMIT = 2n ** 47n;
/** Share of the thread pool that may be in transfers, one of this many threads. */
const POOL_SHARE = 3;

type Access = 'read' | 'write';

/** Transfers between this process and the memory of callers. */
export class CallerMemory {
  private readonly transfersMax = Math.max(1, Math.floor(poolThreads() / POOL_SHARE));
  private transfers = 0;
  private readonly queue: (() => void)[] = [];
  private warned = false;

  /** `warn` gets one line when this process lacks the privilege. */
  constructor(private readonly warn: (line: string) => void) {}

  /** @throws EPERM, EFAULT */
  async read(tid: number, addr: bigint, lenBytes: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(lenBytes);
    await this.transfer(tid, addr, bytes, 'read');
    return bytes;
  }

  /** @throws EPERM, EFAULT */
  async write(tid: number, addr: bigint, bytes: Uint8Array): Promise<void> {
    await this.transfer(tid, addr, bytes, 'write');
  }

  private async transfer(tid: number, addr: bigint, bytes: Uint8Array, access: Access):
  Promise<void> {
    if (tid === 0) throw errnoError('EPERM', 'the caller is in a pid namespace not seen from here');
    if (addr < 0n || addr + BigInt(bytes.length) > ADDRESS_LIMIT) throw errnoError('EFAULT');
    if (bytes.length === 0) return;
    if (this.transfers >= this.transfersMax) {
      await new Promise<void>((resolve) => { this.queue.push(resolve); });
    } else {
      this.transfers += 1;
    }
    try {
      await this.copy(tid, Number(addr), bytes, access);
    } finally {
      const next = this.queue.shift();
      if (next === undefined) this.transfers -= 1;
      else next();
    }
  }

  private async copy(tid: number, addr: number, bytes: Uint8Array, access: Access): Promise<void> {
    let mem: FileHandle | null = null;
    try {
      const maps = await fsp.readFile(`/proc/${tid}/maps`, 'latin1');
      if (!mapped(maps, addr, addr + bytes.length, access)) throw errnoError('EFAULT');
      mem = await fsp.open(`/proc/${tid}/mem`, access === 'read' ? 'r' : 'r+');
      for (let at = 0; at < bytes.length;) {
        const n = access === 'read'
          ? (await mem.read(bytes, at, bytes.length - at, addr + at)).bytesRead
          : (await mem.write(bytes, at, bytes.length - at, addr + at)).bytesWritten;
        if (n === 0) throw errnoError('EFAULT');
        at += n;
      }
    } catch (e) {
      throw this.failure(tid, e, mem !== null);
    } finally {
      await mem?.close();
    }
  }

  private failure(tid: number, e: unknown, opened: boolean): Error {
    const { errno, message } = asScoutfsError(e);
    if (opened || (errno !== 'EPERM' && errno !== 'EACCES')) return errnoError('EFAULT', message);
    if (!this.warned) {
      this.warned = true;
      this.warn(`the memory of callers (thread ${tid}) may not be accessed: ${message}; ` +
        'ioctls with pointers fail with EPERM (CAP_SYS_PTRACE is needed)');
    }
    return errnoError('EPERM', message);
  }
}

/** Whether all of [start, end) is mapped for the access. `maps` is the text of procfs. */
export function mapped(maps: string, start: number, end: number, access: Access): boolean {
  let at = start;
  for (const line of maps.split('\n')) {
    const m = /^([0-9a-f]+)-([0-9a-f]+) (r|-)(w|-)/.exec(line);
    if (m === null) continue;
    const [, low, high, r, w] = m;
    if (parseInt(high ?? '', 16) <= at) continue;
    // A main thread's stack grows down when it is touched: the kernel decides how far.
    const grows = line.endsWith('[stack]');
    if (parseInt(low ?? '', 16) > at && !grows) return false;
    if ((access === 'read' ? r : w) === '-') return false;
    at = parseInt(high ?? '', 16);
    if (at >= end) return true;
  }
  return false;
}
