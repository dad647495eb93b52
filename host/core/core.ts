/**
 * One instance of the core and its typed face.
 *
 * The instance's memory is created at its final size and never grows, so views of
 * it stay valid and blocks are read from and written to the device in place. Core
 * calls never wait: one that misses blocks says so (NEED_BLOCK), and `run` brings
 * them in and repeats it. A call that misses nothing returns in the same tick.
 *
 *   run(fn)      number | Promise<number>: the call's result once nothing is missing
 *   runAsync(fn) the same, always as a promise, with errno results thrown
 *
 * Records that core calls refer to by address (roots, heads, keys, allocators) live
 * in the core's heap: `alloc(len)` and the small classes below wrap them.
 * Each needed block is read once however many calls wait for it, and stays pinned
 * until the last of them has finished. Source: architecture.md 2.
 */
import { instantiateSync } from '@assemblyscript/loader';
import { ERRNO, ScoutfsError, asScoutfsError, assert, errnoName } from '../observe/errors.js';
import { coreModule } from '../env/core_module.js';
import type { Device } from '../env/device.js';
import { registerAligned } from '../env/device.js';
import type { Random } from '../env/random.js';
import type { Counters } from '../observe/counters.js';
import { C } from '../observe/counters.js';
import { CORE_COUNTERS } from './core_counters.js';
import { brokenInvariant, coreCorruption } from './corruption.js';
import type { CoreExports } from './exports.js';

export const NEED_BLOCK = -1000;
const WASM_PAGE_BYTES = 65536;
const LARGE_BLOCK_BYTES = 65536;
const LIST_WINDOW = 40960;
const NEED_WINDOW = 32768;
const LIST_ENTRY_BYTES = 16;
/** Writes of one writer set in flight at a time. */
const IO_DEPTH = 8;
/** Blocks whose checksums are finished in one go. */
const WRITE_CHUNK_BLOCKS = 256;

/** The address of something in the core's memory. */
export type Ptr = number;

export interface CoreOptions {
  /** Size of the instance's memory; default 256 MiB. */
  memoryBytes?: number;
  /** Share of the memory for block slots, 0..1; default 0.6. */
  slotShare?: number;
  /** Bytes of a merge window; 0 (default) for instances that do not merge. */
  mergeWindowBytes?: number;
  /** Count every call of an export in `stats.crossings`; costs a function call each. */
  countCrossings?: boolean;
  /** Asked by each call: whether the next block in the cache is to be taken for stale. */
  staleNext?: () => boolean;
  /** A core invariant is broken: nothing of this instance may reach a device any more. */
  onBroken?: (error: ScoutfsError) => void;
}

interface Need {
  entry: Ptr;
  slot: Ptr;
  blkno: number;
}

export class Core {
  readonly x: CoreExports;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly f64: Float64Array;
  readonly u32: Uint32Array;
  /** What has been counted in all, and how much of that `addCounts` has told. */
  private readonly counts: Float64Array;
  private readonly told = new Float64Array(CORE_COUNTERS.length);
  private readonly staleNext: (() => boolean) | null;
  private readonly reads = new Map<Ptr, Promise<ScoutfsError | null>>();
  private device: Device | null = null;
  private broken: ScoutfsError | null = null;
  /** What the last call that failed with EIO or ESTALE found; id 0: no damage of a block. */
  private corruption = { id: 0, blkno: 0 };
  /** How often the border was crossed through `run`, and how often it had to wait. */
  readonly stats = { calls: 0, waits: 0, blocksRead: 0, blocksWritten: 0, crossings: 0 };

  constructor(random: Random, opts: CoreOptions = {}) {
    const memoryBytes = opts.memoryBytes ?? 256 * 1024 * 1024;
    this.staleNext = opts.staleNext ?? null;
    const pages = Math.floor(memoryBytes / WASM_PAGE_BYTES);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    registerAligned(memory.buffer);
    const fail = (error: ScoutfsError): never => {
      this.broken ??= error;
      opts.onBroken?.(error);
      throw error;
    };
    const exports = instantiateSync(coreModule(), {
      env: { memory, abort: () => fail(brokenInvariant(0)) },
      host: { invariantBroken: (id: number) => fail(brokenInvariant(id)) },
    }).exports as unknown as CoreExports;
    this.x = opts.countCrossings === true ? counting(exports, this.stats) : exports;
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.f64 = new Float64Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.counts = new Float64Array(memory.buffer, this.x.countersAt(), CORE_COUNTERS.length);
    const slots = Math.floor(memoryBytes * (opts.slotShare ?? 0.6) / LARGE_BLOCK_BYTES);
    const heap = this.x.core_init(slots, opts.mergeWindowBytes ?? 0);
    assert(heap > 0, `core memory of ${memoryBytes} bytes holds ${slots} blocks`);
    const seed = this.alloc(32);
    this.bytes.set(random.bytes(32), seed);
    this.x.core_seed(seed);
    this.free(seed, 32);
  }

  /** The volume whose blocks this instance works with. */
  setVolume(device: Device, fsid: bigint, totalMetaBlocks: number): void {
    this.device = device;
    this.x.core_volume(Number(fsid & 0xffffffffn), Number(fsid >> 32n), totalMetaBlocks);
  }

  /** Adds what was counted since the last call. */
  addCounts(to: Counters): void {
    const { counts, told } = this;
    CORE_COUNTERS.forEach((name, i) => {
      const now = counts[i] ?? 0;
      to.add(C[name], now - (told[i] ?? 0));
      told[i] = now;
    });
  }

  /** Zeroed memory in the core's heap. @throws ENOMEM */
  alloc(lenBytes: number): Ptr {
    const p = this.x.heapAlloc(lenBytes);
    if (p === 0) throw new ScoutfsError('CORE_HEAP_FULL', 'ENOMEM');
    this.bytes.fill(0, p, p + lenBytes);
    return p;
  }

  free(ptr: Ptr, lenBytes: number): void {
    this.x.heapFree(ptr, lenBytes);
  }

  /** The bytes at an address, as a view. */
  at(ptr: Ptr, lenBytes: number): Uint8Array {
    return this.bytes.subarray(ptr, ptr + lenBytes);
  }

  /** A copy of the bytes at an address. */
  copyOut(ptr: Ptr, lenBytes: number): Uint8Array {
    return this.bytes.slice(ptr, ptr + lenBytes);
  }

  /**
   * Calls into the core, bringing in blocks and repeating until none is missing.
   * @returns the call's result, negative errnos included; a promise only if it waited
   * @throws (rejects) EIO when a needed block cannot be read
   */
  run(fn: () => number): number | Promise<number> {
    this.stats.calls += 1;
    if (this.staleNext?.() === true) this.x.blockStaleNext();
    const r = fn();
    return r === NEED_BLOCK ? this.runMissing(fn) : this.noted(r);
  }

  /**
   * As run, for calls that go on where they stopped and read more than the cache may hold:
   * whenever `progress` has changed, what was read before is no longer pinned.
   */
  runSteps(fn: () => number, progress: () => number): number | Promise<number> {
    this.stats.calls += 1;
    const r = fn();
    return r === NEED_BLOCK ? this.runMissing(fn, progress) : this.noted(r);
  }

  /** Keeps what the core says about a damage: its next call, perhaps of others, forgets it. */
  private noted(r: number): number {
    if (r === -ERRNO.EIO || r === -ERRNO.ESTALE) {
      const { corruptId, corruptBlkno } = this.x;
      this.corruption = { id: corruptId.value, blkno: Number(corruptBlkno.value) };
    }
    return r;
  }

  /** As run, but negative results are thrown. `what` names the work in errors. */
  async runAsync(what: string, fn: () => number): Promise<number> {
    const r = await this.run(fn);
    if (r < 0) throw this.error(what, r);
    return r;
  }

  /** A negative result as an error; EIO carries the corruption that the core found. */
  error(what: string, r: number): ScoutfsError {
    const errno = errnoName(r);
    if (errno === 'EIO' && this.corruption.id !== 0) return this.damage(what);
    // who walks a tree of others tries again with newer roots; an own tree is damaged
    const found = errno === 'ESTALE' && this.corruption.id !== 0
      ? `${errno}: ${this.found()}` : errno;
    return new ScoutfsError(errno, errno, { message: `${what}: ${found}` });
  }

  /** The damage found last as an error: also for a block that stays stale. */
  damage(what: string): ScoutfsError {
    const { id: nr, blkno } = this.corruption;
    const { id } = coreCorruption(nr);
    return new ScoutfsError(id, 'EIO', { message: `${what}: ${this.found()}`, data: { blkno } });
  }

  private found(): string {
    const { id: nr, blkno } = this.corruption;
    const { id, text } = coreCorruption(nr);
    return `${id}: ${text} (metadata block ${blkno})`;
  }

  private async runMissing(fn: () => number, progress?: () => number): Promise<number> {
    const pinned: Ptr[] = [];
    let last = progress?.();
    try {
      for (;;) {
        this.stats.waits += 1;
        await this.bringIn(pinned);
        this.stats.calls += 1;
        const r = fn();
        if (r !== NEED_BLOCK) return this.noted(r);
        const now = progress?.();
        if (now !== last) {
          for (const e of pinned.splice(0)) this.x.blockUnpin(e);
          last = now;
        }
      }
    } finally {
      for (const e of pinned) this.x.blockUnpin(e);
    }
  }

  /** Reads what the need window lists; all of it is pinned for the caller. */
  private async bringIn(pinned: Ptr[]): Promise<void> {
    const nr = this.x.blockNeedNr();
    assert(nr > 0, 'a core call asked for no block');
    const waits: Promise<ScoutfsError | null>[] = [];
    for (let i = 0; i < nr; i++) {
      const w = NEED_WINDOW + i * LIST_ENTRY_BYTES;
      const need: Need = {
        blkno: this.f64[w / 8] ?? 0,
        entry: this.u32[w / 4 + 2] ?? 0,
        slot: this.u32[w / 4 + 3] ?? 0,
      };
      pinned.push(need.entry);
      waits.push(this.readNeed(need));
    }
    for (const error of await Promise.all(waits)) if (error !== null) throw error;
  }

  private readNeed(need: Need): Promise<ScoutfsError | null> {
    const running = this.reads.get(need.entry);
    if (running !== undefined) return running;
    const p = this.readBlock(need).finally(() => { this.reads.delete(need.entry); });
    this.reads.set(need.entry, p);
    return p;
  }

  private async readBlock(need: Need): Promise<ScoutfsError | null> {
    assert(this.device !== null, 'core has a volume');
    this.stats.blocksRead += 1;
    let error: ScoutfsError | null = null;
    try {
      await this.device.read(need.blkno * LARGE_BLOCK_BYTES, this.at(need.slot, LARGE_BLOCK_BYTES));
    } catch (e) {
      error = readError(need.blkno, asScoutfsError(e));
    }
    this.x.blockReadDone(need.entry, error === null ? 0 : 1);
    return error;
  }

  /**
   * Writes all blocks of a writer set. Their owner sees to it that none is dirtied meanwhile.
   * @throws what broke the core, if an invariant of it was found broken
   */
  async writeSet(wset: Ptr): Promise<void> {
    if (this.broken !== null) throw this.broken;
    assert(this.device !== null, 'core has a volume');
    const device = this.device;
    const total = this.x.wsetCount(wset);
    for (let from = 0; from < total; from += WRITE_CHUNK_BLOCKS) {
      const n = this.x.wsetList(wset, from, WRITE_CHUNK_BLOCKS, LIST_WINDOW);
      const blocks: [blkno: number, slot: Ptr][] = [];
      for (let i = 0; i < n; i++) {
        const w = LIST_WINDOW + i * LIST_ENTRY_BYTES;
        blocks.push([this.f64[w / 8] ?? 0, this.u32[w / 4 + 2] ?? 0]);
      }
      await inFlight(IO_DEPTH, blocks, ([blkno, slot]) =>
        device.write(blkno * LARGE_BLOCK_BYTES, this.at(slot, LARGE_BLOCK_BYTES)));
      this.stats.blocksWritten += n;
    }
  }
}

/** Readers see EIO whatever the device says, but ENOLINK when the mount is being forced down. */
function readError(blkno: number, cause: ScoutfsError): ScoutfsError {
  return new ScoutfsError('BLOCK_READ', cause.errno === 'ENOLINK' ? 'ENOLINK' : 'EIO', {
    message: `metadata block ${blkno} cannot be read: ${cause.message}`, cause, data: { blkno },
  });
}

/** Runs `fn` for all items, `depth` at a time; waits for all begun, then throws the first error. */
async function inFlight<T>(depth: number, items: T[], fn: (item: T) => Promise<void>):
Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) await fn(item);
  };
  const done = await Promise.allSettled(Array.from({ length: depth }, worker));
  for (const d of done) if (d.status === 'rejected') throw d.reason;
}

/** The same exports; each call of one adds to `stats.crossings`. */
function counting(exports: CoreExports, stats: { crossings: number }): CoreExports {
  const wrap = (value: unknown): unknown => typeof value !== 'function' ? value
    : (...args: unknown[]): unknown => {
      stats.crossings += 1;
      return Reflect.apply(value, undefined, args);
    };
  return Object.fromEntries(Object.entries(exports).map(([name, v]) => [name, wrap(v)])) as
    unknown as CoreExports;
}
