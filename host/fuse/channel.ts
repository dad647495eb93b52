/**
 * The conversation with the kernel: requests in, one reply each, nothing lost.
 *
 *   read ──> running ──────────────────────────────> replied (same tick: the fast path)
 *               │ throws Wait      returns a promise
 *               ├──> parked ──> running again ...
 *               │       └── INTERRUPT: EINTR, if it waits for offline data or is killed
 *               └──> moving ──> replied when the promise settles
 *
 * The operation (`Op`) of a request begins before its first run and ends after its
 * reply is written, so the locks it took cover what the reply tells the kernel.
 * Parked and moving requests are found by their unique number; the fast path uses no
 * map, no promise and no allocation that outlives the tick.
 *
 * Errors become a negative errno here and nowhere else. What is not a known error is
 * logged, answered EIO, and the mount stays up. A reply the kernel refuses would leave its
 * caller waiting for ever: it is answered EIO, and if that fails too the
 * connection is given up (`fatal`).
 */
import { DRAIN_REQUESTS_MAX } from '../env/fuse-device.js';
import type { FuseDevice, FuseEnd } from '../env/fuse-device.js';
import type { Slot } from '../env/fuse-slots.js';
import type { OpSource } from '../fs/vfs.js';
import { Wait } from '../mount/op.js';
import { ERRNO, ScoutfsError, asScoutfsError } from '../observe/errors.js';
import {
  INIT_BIT, INIT_OUT_BYTES, KERNEL_MAJOR, KERNEL_MINOR, KERNEL_MINOR_MIN, OP, OP_LIMIT, OP_NAMES,
  OUT_HEADER_BYTES, putU64,
} from './protocol.js';
import { Request } from './request.js';

export const WRITE_MAX_BYTES = 1 << 20;
const PAGES_MAX = 256;
const BACKGROUND_MAX = 1024;
const CONGESTION_THRESHOLD = 768;
/** Request objects kept for reuse beside the current one. */
const SPARE_REQUESTS_MAX = 4 * DRAIN_REQUESTS_MAX;
/** How often the caller of a waiting request is looked at once it has got a signal. */
const DYING_POLL_MS = 200;

export interface ChannelOptions {
  /** Negotiate kernel enforcement of POSIX ACLs. */
  acl: boolean;
}

/** What the channel asks of the rows around it. */
export interface ChannelHooks {
  /** Decodes, runs and answers one request; may throw `Wait`. */
  handle(r: Request): Promise<void> | undefined;
  /** Whether the request has to run under the grant that a drain is taking away. */
  admits(r: Request): boolean;
  /** Whether the thread was killed. */
  isDying(pid: number): boolean;
  /** Calls `fn` once after `delayMs`. */
  after(delayMs: number, fn: () => void): void;
  /** A request that was admitted has ended. */
  finished(r: Request): void;
  forget(ino: number, count: number): void;
  /** INIT was answered: notifications may be sent. */
  ready(): void;
  /** The connection ended; parked requests are gone already. */
  end(why: FuseEnd): void;
  /** Something that must not happen; the connection cannot go on. */
  fatal(message: string): void;
  log(message: string, err?: unknown): void;
}

/** What went through, by counting. `requests` is indexed by opcode. */
export class ChannelCounters {
  readonly requests = new Float64Array(OP_LIMIT);
  parked = 0;
  /** Requests that returned a promise. */
  moved = 0;
  interrupted = 0;
  errors = 0;
  unexpected = 0;

  /** Non-zero request counts by opcode name. */
  byName(): Record<string, number> {
    const named: Record<string, number> = {};
    this.requests.forEach((n, op) => { if (n > 0) named[OP_NAMES[op] ?? `OP${op}`] = n; });
    return named;
  }
}

export class Channel {
  readonly counters = new ChannelCounters();
  /** Protocol minor in use; 0 before INIT. */
  minor = 0;
  /** Agreed INIT flags, both words. */
  flagsLow = 0;
  flagsHigh = 0;
  private readonly waiting = new Map<number, Request>();
  private readonly spares: Request[] = [];
  private current: Request;

  constructor(
    private readonly device: FuseDevice,
    private readonly ops: OpSource,
    private readonly hooks: ChannelHooks,
    private readonly opts: ChannelOptions,
  ) {
    this.current = new Request(device.slots);
  }

  start(): void {
    this.device.start({
      request: (slot, lenBytes) => { this.receive(slot, lenBytes); },
      end: (why) => {
        for (const r of this.waiting.values()) if (r.state === 'parked') this.finish(r);
        this.hooks.end(why);
      },
    });
  }

  /** Requests that wait for a lock, a block or a commit now. */
  *parked(): IterableIterator<Request> {
    for (const r of this.waiting.values()) if (r.state === 'parked') yield r;
  }

  /** Runs a parked request now, without waiting for its promise. */
  rerun(r: Request): void {
    if (r.state === 'parked') this.run(r);
  }

  /** Where reply bodies are composed: at OUT_HEADER_BYTES of this view. */
  get view(): DataView {
    return this.device.replyView;
  }

  get bytes(): Uint8Array {
    return this.device.replyBytes;
  }

  /** Answers with a composed body of `bodyBytes`. @returns false when nobody waits for it */
  reply(r: Request, bodyBytes: number): boolean {
    this.putHeader(r, OUT_HEADER_BYTES + bodyBytes, 0);
    return this.sent(r, this.device.reply(OUT_HEADER_BYTES + bodyBytes));
  }

  /** Answers with bytes that lie somewhere else; they are not copied. */
  replyData(r: Request, data: Uint8Array): boolean {
    this.putHeader(r, OUT_HEADER_BYTES + data.length, 0);
    return this.sent(r, this.device.replyData(data));
  }

  /** Answers with an error. `errno` is positive. */
  replyError(r: Request, errno: number): void {
    this.putHeader(r, OUT_HEADER_BYTES, -errno);
    this.sent(r, this.device.reply(OUT_HEADER_BYTES));
  }

  private putHeader(r: Request, lenBytes: number, error: number): void {
    const v = this.device.replyView;
    v.setUint32(0, lenBytes, true);
    v.setInt32(4, error, true);
    putU64(v, 8, r.unique);
  }

  private sent(r: Request, result: number): boolean {
    r.replied = true;
    if (result === 0) return true;
    // aborted requests and ended connections have nobody waiting
    if (result === -ERRNO.ENOENT || result === -ERRNO.ENODEV || result === -ERRNO.ECONNABORTED
      || result === -ERRNO.EPERM) return false;
    const what = `reply to ${OP_NAMES[r.opcode] ?? '?'} was refused with errno ${-result}`;
    this.putHeader(r, OUT_HEADER_BYTES, -ERRNO.EIO);
    if (this.device.reply(OUT_HEADER_BYTES) === 0) this.hooks.log(what);
    else this.hooks.fatal(what);
    return false;
  }

  private receive(slot: Slot, lenBytes: number): void {
    const r = this.current;
    const ok = r.load(slot, lenBytes);
    const { requests } = this.counters;
    if (r.opcode < OP_LIMIT) requests[r.opcode] = (requests[r.opcode] ?? 0) + 1;
    if (!ok) {
      this.hooks.log(`malformed request: opcode ${r.opcode}, ${lenBytes} bytes`);
      if (lenBytes >= OUT_HEADER_BYTES && !this.isSilent(r.opcode)) this.replyError(r, ERRNO.EIO);
      r.drop();
      return;
    }
    if (this.control(r)) {
      r.drop();
      return;
    }
    this.run(r);
    if (this.current.state !== 'done') {
      this.current = this.spares.pop() ?? new Request(this.device.slots);
    }
  }

  private isSilent(opcode: number): boolean {
    return opcode === OP.FORGET || opcode === OP.BATCH_FORGET || opcode === OP.INTERRUPT;
  }

  /** Requests that concern the conversation itself. @returns whether it was one */
  private control(r: Request): boolean {
    switch (r.opcode) {
      case OP.FORGET:
        this.hooks.forget(r.nodeid, r.u64(0));
        return true;
      case OP.BATCH_FORGET:
        this.batchForget(r);
        return true;
      case OP.INTERRUPT:
        this.interrupt(r.u64(0));
        return true;
      case OP.INIT:
        this.init(r);
        return true;
      case OP.DESTROY:
        this.reply(r, 0);
        return true;
      default:
        return false;
    }
  }

  private batchForget(r: Request): void {
    const count = Math.min(r.u32(0), Math.floor((r.end - r.off - 8) / 16));
    for (let i = 0; i < count; i++) this.hooks.forget(r.node(8 + 16 * i), r.u64(16 + 16 * i));
  }

  /** The caller of a waiting request got a signal. */
  private interrupt(unique: number): void {
    const r = this.waiting.get(unique);
    if (r === undefined || r.duringDrain) return;
    r.signalled = true;
    this.letGo(r);
  }

  /**
   * Answers EINTR to a caller with a signal if it waits for offline data, or dies. No program
   * expects it of mkdir or stat, which on local file systems take no notice of signals; and
   * runtimes send themselves signals all the time. The kernel tells of the first signal only,
   * so whether a killing one followed has to be looked up. (super.md 14)
   */
  private letGo(r: Request): void {
    if (r.state !== 'parked') return;
    if (!r.interruptible && !this.hooks.isDying(r.pid)) {
      const { unique } = r;
      this.hooks.after(DYING_POLL_MS, () => {
        const same = this.waiting.get(unique);
        if (same !== undefined) this.letGo(same);
      });
      return;
    }
    this.counters.interrupted++;
    this.replyError(r, ERRNO.EINTR);
    this.finish(r);
  }

  private init(r: Request): void {
    const major = r.u32(0);
    const kernelMinor = r.u32(4);
    if (major !== KERNEL_MAJOR || kernelMinor < KERNEL_MINOR_MIN) {
      this.hooks.fatal(`the kernel speaks FUSE ${major}.${kernelMinor}; `
        + `${KERNEL_MAJOR}.${KERNEL_MINOR_MIN} is the oldest served`);
      return;
    }
    this.minor = Math.min(KERNEL_MINOR, kernelMinor);
    const [low, high] = this.wantedFlags();
    this.flagsLow = low & r.u32(12);
    this.flagsHigh = high & r.u32(16);
    const v = this.view;
    const o = OUT_HEADER_BYTES;
    for (let i = 0; i < INIT_OUT_BYTES; i += 8) putU64(v, o + i, 0);
    v.setUint32(o, KERNEL_MAJOR, true);
    v.setUint32(o + 4, this.minor, true);
    v.setUint32(o + 8, r.u32(8), true);
    v.setUint32(o + 12, this.flagsLow, true);
    v.setUint16(o + 16, BACKGROUND_MAX, true);
    v.setUint16(o + 18, CONGESTION_THRESHOLD, true);
    v.setUint32(o + 20, WRITE_MAX_BYTES, true);
    v.setUint32(o + 24, 1, true);
    v.setUint16(o + 28, PAGES_MAX, true);
    v.setUint32(o + 32, this.flagsHigh, true);
    if (this.reply(r, INIT_OUT_BYTES)) this.hooks.ready();
  }

  private wantedFlags(): [number, number] {
    let low = 0;
    let high = 0;
    for (const bit of Object.values(INIT_BIT)) {
      if (bit === INIT_BIT.POSIX_ACL && !this.opts.acl) continue;
      if (bit < 32) low |= 1 << bit;
      else high |= 1 << (bit - 32);
    }
    return [low, high];
  }

  /** One attempt. Afterwards the request is done, parked or moving. */
  private run(r: Request): void {
    let moving: Promise<void> | undefined;
    try {
      this.begin(r);
      moving = this.hooks.handle(r);
    } catch (e) {
      if (e instanceof Wait && !r.replied) this.park(r, e);
      else this.fail(r, e);
      return;
    }
    if (moving === undefined) {
      this.finish(r);
      return;
    }
    this.counters.moved++;
    r.state = 'moving';
    r.keep();
    this.waiting.set(r.unique, r);
    moving.then(() => { this.finish(r); }, (e: unknown) => { this.fail(r, e); });
  }

  private begin(r: Request): void {
    r.preset();
    r.state = 'running';
    r.abandon = null;
    if (!r.duringDrain && this.hooks.admits(r)) {
      if (r.op !== null) this.ops.end(r.op);
      r.op = null;
      r.duringDrain = true;
    }
    r.op ??= this.ops.begin(r.duringDrain);
  }

  private park(r: Request, wait: Wait): void {
    this.counters.parked++;
    r.state = 'parked';
    r.abandon = wait.abandon ?? null;
    r.interruptible = wait.unlock;
    r.keep();
    if (wait.unlock && r.op !== null) {
      this.ops.end(r.op);
      r.op = null;
    }
    const turn = ++r.turn;
    this.waiting.set(r.unique, r);
    const mine = (): boolean => r.state === 'parked' && r.turn === turn;
    wait.ready.then(
      () => { if (mine()) this.run(r); },
      // what was missing cannot be had: that is the operation's error
      (e: unknown) => { if (mine()) this.fail(r, e); });
    if (r.signalled && r.interruptible) this.letGo(r);
  }

  private fail(r: Request, e: unknown): void {
    const err = asScoutfsError(e);
    const known = e instanceof ScoutfsError ? e.code !== 'ASSERT'
      : (e as NodeJS.ErrnoException | null)?.code === err.errno;
    const what = `${OP_NAMES[r.opcode] ?? r.opcode} of inode ${r.nodeid}`;
    if (!known) {
      this.counters.unexpected++;
      this.hooks.log(`${what} failed unexpectedly`, e);
    } else if (err.errno === 'EIO') {
      this.hooks.log(`${what} failed: ${err.message}`);
    }
    this.counters.errors++;
    if (!r.replied) this.replyError(r, err.errnoNr);
    this.finish(r);
  }

  private finish(r: Request): void {
    if (r.op !== null) this.ops.end(r.op);
    r.op = null;
    r.turn++;
    r.abandon?.();
    r.abandon = null;
    if (r.duringDrain) this.hooks.finished(r);
    if (r === this.current) {
      r.drop();
      return;
    }
    this.waiting.delete(r.unique);
    r.drop();
    if (this.spares.length < SPARE_REQUESTS_MAX) this.spares.push(r);
  }
}

