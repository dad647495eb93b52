/**
 * The FUSE descriptor in the event loop.
 *
 * Two ways of serving it, one interface:
 *
 *   loop   a libuv pipe handle wakes us when a request is there and reads it; up to
 *          DRAIN_REQUESTS_MAX - 1 more are then read by plain read(2) calls through FFI.
 *          Replies are synchronous write(2)/writev(2) calls in the same tick.
 *   pool   without FFI or the pipe handle: a few asynchronous fs.reads stay outstanding,
 *          replies go by fs.writevSync. Three times slower, and complete.
 *
 * Bounding the drain by count and by time keeps timers and sockets of the same
 * loop (heartbeats, lock messages) served within about a millisecond.
 *
 * Notifications may sleep in the kernel until a request is answered, so they go
 * through the thread pool; only those that never sleep may use `notifySync`.
 *
 * This is the only file that touches Node's internal pipe binding or calls the kernel
 * through FFI on this descriptor. Measurements: foundations.md 1.3.
 */
import { createRequire } from 'node:module';
import * as fs from 'node:fs';
import * as net from 'node:net';
import { ERRNO, ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { alignedMemory } from './device.js';
import { REQUEST_OFF, SLOT_BYTES, SlotPool } from './fuse-slots.js';
import type { Slot } from './fuse-slots.js';

/** Requests served per wake-up of the event loop. */
export const DRAIN_REQUESTS_MAX = 8;
/** Time after which a wake-up starts no further request. */
const DRAIN_TIME_MAX_MS = 1;
/** Room for the largest copied reply: a directory listing or xattr of 1 MiB and its header. */
export const REPLY_BYTES = (1 << 20) + 4096;
const REQUEST_BYTES_MAX = SLOT_BYTES - REQUEST_OFF;
/** Size of the kernel's reply header, which starts every reply. */
const OUT_HEADER_BYTES = 16;

/** Why the device stopped. */
export type FuseEnd = 'unmounted' | 'aborted' | 'closed';

export interface FuseHandlers {
  /**
   * A request of `lenBytes` at REQUEST_OFF of `slot`. Runs to its end in this call. A handler
   * that needs the memory longer calls `slot.hold()`.
   */
  request(slot: Slot, lenBytes: number): void;
  /** No more requests will come. Called once. */
  end(why: FuseEnd): void;
}

/** A FUSE connection as the protocol row sees it; tests may put a simulated one in its place. */
export interface FuseDevice {
  readonly slots: SlotPool;
  /** Where replies are composed, from their header on; contents live for one tick. */
  readonly replyBytes: Uint8Array;
  readonly replyView: DataView;
  start(handlers: FuseHandlers): void;
  /** Sends the first `lenBytes` of `replyBytes`. @returns 0 or a negative errno */
  reply(lenBytes: number): number;
  /** Sends the header in `replyBytes` followed by `data`, without copying it. @returns as reply */
  replyData(data: Uint8Array): number;
  /** Writes a notification from a thread that may sleep. @returns 0 or a negative errno */
  notify(message: Uint8Array): Promise<number>;
  /** Writes a notification that never sleeps. @returns as notify */
  notifySync(message: Uint8Array): number;
  /** Stops reading and closes the descriptor. */
  close(): void;
}

/** The system calls the loop needs, through FFI. Addresses are BigInt, made once. */
interface Syscalls {
  read(fd: number, addr: bigint, lenBytes: number): number;
  write(fd: number, addr: bigint, lenBytes: number): number;
  writev(fd: number, iov: bigint, count: number): number;
  dup(fd: number): number;
  errno(): number;
  address(bytes: Uint8Array): bigint;
}

interface Koffi {
  load(path: null): { func(definition: string): (...args: unknown[]) => number };
  errno(): number;
  address(value: Uint8Array): bigint;
}

function loadSyscalls(): Syscalls | null {
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)('koffi') as Koffi;
  } catch {
    return null;
  }
  const libc = koffi.load(null);
  return {
    read: libc.func('long read(int fd, void *buf, size_t len)'),
    write: libc.func('long write(int fd, const void *buf, size_t len)'),
    writev: libc.func('long writev(int fd, const void *iov, int count)'),
    dup: libc.func('int dup(int fd)'),
    errno: () => koffi.errno(),
    address: (bytes) => koffi.address(bytes),
  };
}

type PipeHandle = net.Socket & { open(fd: number): number | undefined };
interface PipeBinding {
  Pipe: new (type: number) => PipeHandle;
  constants: { SOCKET: number };
}

function loadPipe(): PipeBinding | null {
  try {
    // Deprecated without a removal date; the other way in for a character device is an addon.
    const bindings = process as unknown as { binding(name: string): unknown };
    const found = bindings.binding('pipe_wrap') as Partial<PipeBinding>;
    return typeof found.Pipe === 'function' && found.constants !== undefined
      ? (found as PipeBinding) : null;
  } catch {
    return null;
  }
}

/** What all devices share: memory, notifications and the end. */
abstract class BaseDevice implements FuseDevice {
  readonly slots: SlotPool;
  readonly replyBytes = alignedMemory(REPLY_BYTES);
  readonly replyView = new DataView(this.replyBytes.buffer, 0, REPLY_BYTES);
  protected handlers: FuseHandlers | null = null;
  protected ended = false;
  /** Thread pool calls on the descriptor; it is closed when the last has returned. */
  private calls = 0;

  constructor(protected readonly fd: number, slots: number | undefined) {
    this.slots = new SlotPool(slots);
  }

  abstract start(handlers: FuseHandlers): void;
  abstract reply(lenBytes: number): number;
  abstract replyData(data: Uint8Array): number;
  protected abstract stop(): void;

  notify(message: Uint8Array): Promise<number> {
    if (this.ended) return Promise.resolve(-ERRNO.ENODEV);
    this.called();
    return new Promise((resolve) => {
      fs.write(this.fd, message, 0, message.length, null, (err) => {
        this.returned();
        resolve(err === null ? 0 : -asScoutfsError(err).errnoNr);
      });
    });
  }

  notifySync(message: Uint8Array): number {
    if (this.ended) return -ERRNO.ENODEV;
    return syncResult(() => fs.writeSync(this.fd, message, 0, message.length));
  }

  close(): void {
    this.end('closed');
  }

  protected end(why: FuseEnd): void {
    if (this.ended) return;
    this.ended = true;
    this.stop();
    if (this.calls === 0) this.closeFd();
    this.handlers?.end(why);
  }

  protected called(): void {
    this.calls++;
  }

  protected returned(): void {
    this.calls--;
    if (this.ended && this.calls === 0) this.closeFd();
  }

  private closeFd(): void {
    fs.close(this.fd, () => { /* nothing to lose: all replies are out */ });
  }
}

function syncResult(fn: () => number): number {
  try {
    fn();
    return 0;
  } catch (e) {
    return -asScoutfsError(e).errnoNr;
  }
}

/** What a failed read of the device means; null: try again. */
function endOf(errno: number): FuseEnd | null {
  switch (errno) {
    case ERRNO.EAGAIN: case ERRNO.EINTR: case ERRNO.ENOENT: return null;
    case ERRNO.ENODEV: return 'unmounted';
    default: return 'aborted';
  }
}

/** Pipe handle and FFI. */
class LoopDevice extends BaseDevice {
  private readonly replyAddr: bigint;
  private readonly iov = alignedMemory(64);
  private readonly iovAddr: bigint;
  private readonly iov64 = new BigUint64Array(this.iov.buffer, this.iov.byteOffset, 4);
  private readonly addrs = new WeakMap<Slot, bigint>();
  private slot: Slot;
  private socket: net.Socket | null = null;

  constructor(fd: number, slots: number | undefined, private readonly sys: Syscalls,
    private readonly pipe: PipeBinding) {
    super(fd, slots);
    this.replyAddr = sys.address(this.replyBytes);
    this.iovAddr = sys.address(this.iov);
    this.iov64[0] = this.replyAddr;
    this.iov64[1] = BigInt(OUT_HEADER_BYTES);
    this.slot = this.slots.take();
  }

  start(handlers: FuseHandlers): void {
    this.handlers = handlers;
    this.open();
  }

  reply(lenBytes: number): number {
    if (this.ended) return -ERRNO.ENODEV;
    return this.sys.write(this.fd, this.replyAddr, lenBytes) < 0 ? -this.sys.errno() : 0;
  }

  replyData(data: Uint8Array): number {
    if (data.length === 0 || this.ended) return this.reply(OUT_HEADER_BYTES);
    this.iov64[2] = this.sys.address(data);
    this.iov64[3] = BigInt(data.length);
    return this.sys.writev(this.fd, this.iovAddr, 2) < 0 ? -this.sys.errno() : 0;
  }

  protected stop(): void {
    this.socket?.destroy();
    this.socket = null;
  }

  /** Puts a duplicate into the loop: libuv closes what it owns after a read error. */
  private open(): void {
    const handle = new this.pipe.Pipe(this.pipe.constants.SOCKET);
    const fd = this.sys.dup(this.fd);
    if (fd < 0) throw new ScoutfsError('FUSE_DUP', 'ENOBUFS', { message: 'no free descriptor' });
    handle.open(fd);
    const socket = new net.Socket({
      handle, readable: true, writable: false,
      onread: {
        // called for the first read and after every callback: always the current slot
        buffer: () => this.slot.request,
        callback: (lenBytes: number) => this.wake(lenBytes),
      },
    } as unknown as net.SocketConstructorOpts);
    this.socket = socket;
    socket.on('error', (err) => { this.failed(asScoutfsError(err).errnoNr); });
    socket.on('end', () => { this.failed(ERRNO.ENODEV); });
    socket.read(0);
  }

  private wake(lenBytes: number): boolean {
    const startMs = performance.now();
    this.serve(lenBytes);
    for (let i = 1; i < DRAIN_REQUESTS_MAX && !this.ended; i++) {
      if (performance.now() - startMs > DRAIN_TIME_MAX_MS) break;
      const n = this.sys.read(this.fd, this.slotAddr(), REQUEST_BYTES_MAX);
      if (n < 0) {
        const why = endOf(this.sys.errno());
        if (why !== null) this.end(why);
        break;
      }
      this.serve(n);
    }
    return true;
  }

  private serve(lenBytes: number): void {
    const slot = this.slot;
    this.handlers?.request(slot, lenBytes);
    if (slot.shared) {
      slot.unhold();
      this.slot = this.slots.take();
    }
  }

  private slotAddr(): bigint {
    let addr = this.addrs.get(this.slot);
    if (addr === undefined) {
      addr = this.sys.address(this.slot.request);
      this.addrs.set(this.slot, addr);
    }
    return addr;
  }

  private failed(errno: number): void {
    if (this.ended) return;
    const why = endOf(errno);
    if (why !== null) {
      this.end(why);
    } else {
      // one request was lost to an abort or a signal; the connection may go on
      this.stop();
      this.open();
    }
  }
}

/** Thread pool only. */
class PoolDevice extends BaseDevice {
  start(handlers: FuseHandlers): void {
    this.handlers = handlers;
    // Readers sleep in pool threads; most threads have to stay free for device I/O.
    const threads = poolThreads();
    const readers = Math.max(1, Math.min(4, Math.floor(threads / 4)));
    for (let i = 0; i < readers; i++) this.read();
  }

  reply(lenBytes: number): number {
    if (this.ended) return -ERRNO.ENODEV;
    return syncResult(() => fs.writeSync(this.fd, this.replyBytes, 0, lenBytes));
  }

  replyData(data: Uint8Array): number {
    if (this.ended) return -ERRNO.ENODEV;
    return syncResult(() =>
      fs.writevSync(this.fd, [this.replyBytes.subarray(0, OUT_HEADER_BYTES), data]));
  }

  protected stop(): void {
    // the outstanding reads return when the file system is unmounted or aborted
  }

  private read(): void {
    const slot = this.slots.take();
    this.called();
    fs.read(this.fd, slot.bytes, REQUEST_OFF, REQUEST_BYTES_MAX, null, (err, n) => {
      if (err === null) this.handlers?.request(slot, n);
      slot.unhold();
      const why = err === null ? null : endOf(asScoutfsError(err).errnoNr);
      if (why !== null) this.end(why);
      else if (!this.ended) this.read();
      this.returned();
    });
  }
}

/** Threads of Node's pool. */
export function poolThreads(): number {
  const n = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4);
  return Number.isInteger(n) && n > 0 ? n : 4;
}

/**
 * Wraps a mounted descriptor of /dev/fuse, which the device closes at its end.
 * `plain` forces the variant without FFI and internals; `slots` is how much request memory
 * is made at once.
 */
export function openFuseDevice(fd: number, plain = false, slots?: number): FuseDevice {
  const sys = plain ? null : loadSyscalls();
  const pipe = plain ? null : loadPipe();
  return sys !== null && pipe !== null ? new LoopDevice(fd, slots, sys, pipe)
    : new PoolDevice(fd, slots);
}
