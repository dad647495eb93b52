/**
 * Taking back what the kernel caches, before a cluster lock is given up, and before a write
 * changes what mapped pages show.
 *
 * The lock client calls `drain` when nobody uses I(group) any more; when it resolves, no
 * name, attribute or page that was read under the old grant is left in the kernel
 * or can still arrive there:
 *
 *   names       INC_EPOCH invalidates every name of the mount and every answer on its way.
 *   attributes  INVAL_INODE(-1) for each inode whose attributes were given. ENOENT while the
 *               kernel holds references means that the answer which makes the inode is
 *               still on its way: repeated until it is not.
 *   pages       INVAL_INODE(range), which waits for pages locked by READs. So READs that are
 *               parked are left out (their pages are empty and will be filled under a later
 *               grant), and READs that touch a notification in flight are executed at
 *               once under the old grant (`admits`) and their range is done again.
 *
 * A notification may also wait for write-back of dirty pages and that for a size change: both
 * are executed during a drain (`admits`), so nothing here can wait for itself.
 * Notifications sleep in pool threads, never more at a time than leaves threads for the
 * I/O they wait for. One that does not return within a limit ends the connection.
 *
 * A WRITE of a handle drops pages in the same way, but only those that a mapping may make
 * dirty (`Node.mappable`), under I(ino) W, and with later READs of its range held back.
 *
 * Procedure, proof and measurements: fuse.md 5; duties: data.md 11, dir.md 11, inode.md 13;
 * writes: docs/decisions/0015.
 */
import type { BytePos } from '../core/bytepos.js';
import { ROOT_INO } from '../core/constants.js';
import type { Clock } from '../env/clock.js';
import type { FuseDevice } from '../env/fuse-device.js';
import { poolThreads } from '../env/fuse-device.js';
import type { DrainMode, KernelDrain } from '../fs/vfs.js';
import { SET_SIZE } from '../fs/vfs.js';
import { MODE_NULL, MODE_WRITE } from '../mount/op.js';
import { ERRNO } from '../observe/errors.js';
import type { Hold, InFlight, Node, NodeTable, Range } from './nodes.js';
import { NONE, groupOf } from './nodes.js';
import * as P from './protocol.js';
import { OP } from './protocol.js';
import {
  PAGE_BYTES, WHOLE_FILE, add, merge, overlaps, pagesOf, subtract, touches,
} from './ranges.js';
import type { Request } from './request.js';

/** Pause before an attribute notification for an inode on its way is repeated. */
const REPEAT_DELAY_MS = 1;
/** The kernel drops its own references to a file only after it has sent RELEASE. */
const IDLE_DELAY_MS = 100;
/** A notification blocked for longer means a deadlock: the connection is given up. */
export const NOTIFY_LIMIT_MS = 120_000;
/** Notifications in the thread pool at a time; also bounded by half of the pool. */
const NOTIFY_CONCURRENT_MAX = 16;
/** No inode has this number: asks the kernel whether it knows PRUNE. */
const UNUSED_INO = Number.MAX_SAFE_INTEGER;
/** Of one node, before the gaps between them count as well. */
const MAPPABLE_MAX_RANGES = 64;

/** What of the channel a drain needs. */
export interface DrainHost {
  parked(): Iterable<Request>;
  rerun(r: Request): void;
  log(message: string): void;
  fatal(message: string): void;
}

export class DrainCounters {
  drains = 0;
  epochs = 0;
  attrs = 0;
  pages = 0;
  repeats = 0;
  readsDuringDrain = 0;
  stores = 0;
  /** WRITEs that had pages dropped first. */
  cleans = 0;
  pruned = 0;
}

/** Runs at most so many promises at a time, in order. */
class Gate {
  private active = 0;
  private readonly queue: (() => void)[] = [];

  constructor(private readonly max: number) {}

  async run<T>(fn: () => Promise<T>): Promise<T> {
    // a finishing user hands its place to the first in line, so `active` stays
    if (this.active >= this.max) await new Promise<void>((go) => { this.queue.push(go); });
    else this.active++;
    try {
      return await fn();
    } finally {
      const next = this.queue.shift();
      if (next === undefined) this.active--;
      else next();
    }
  }
}

export class Invalidator implements KernelDrain {
  readonly counters = new DrainCounters();
  /** Number of the current epoch of names. */
  epoch = 0;
  /** The kernel knows INC_EPOCH: names may be cached. */
  canDropNames = false;
  private canPrune = false;
  /** Inodes that are to be pruned soon. */
  private readonly idle = new Set<number>();
  private readonly draining = new Map<number, DrainMode>();
  /** Requests running under a grant that is being taken away, and who waits for their end. */
  private readonly admitted = new Set<Request>();
  private waiters: (() => void)[] = [];
  private readonly gate = new Gate(
    Math.max(1, Math.min(NOTIFY_CONCURRENT_MAX, Math.floor(poolThreads() / 2))));

  constructor(
    private readonly device: FuseDevice,
    private readonly nodes: NodeTable,
    private readonly clock: Clock,
    private readonly host: DrainHost,
  ) {}

  /** Asks the kernel what it knows; after INIT was answered. */
  probe(): void {
    this.canDropNames = this.device.notifySync(P.incEpochMessage()) === 0;
    if (!this.canDropNames) {
      this.host.log('this kernel cannot invalidate names at once (FUSE before 7.44): '
        + 'names are not cached');
    }
    void this.notify(P.pruneMessage([UNUSED_INO])).then((rc) => {
      this.canPrune = rc !== -ERRNO.EINVAL && rc !== -ERRNO.ENOSYS;
    });
  }

  isDraining(ino: number): boolean {
    return this.draining.size > 0 && this.draining.has(groupOf(ino));
  }

  /**
   * Whether a request runs under the grant that is being taken away, because a
   * notification waits for it (fuse.md 5.2 rules 4, 5 and 6).
   */
  admits(r: Request): boolean {
    if (!this.mustRun(r)) return false;
    this.admitted.add(r);
    return true;
  }

  /** The end of a request that was admitted. */
  finished(r: Request): void {
    this.admitted.delete(r);
    const { waiters } = this;
    this.waiters = [];
    for (const go of waiters) go();
  }

  private mustRun(r: Request): boolean {
    switch (r.opcode) {
      case OP.READ: return this.admitsRead(r);
      case OP.WRITE: return (r.u32(20) & P.WRITE_CACHE) !== 0;
      case OP.SETATTR:
        return this.draining.size > 0 && (r.u32(0) & SET_SIZE) !== 0
          && this.draining.get(groupOf(r.nodeid)) === MODE_WRITE;
      default: return false;
    }
  }

  private admitsRead(r: Request): boolean {
    const node = this.nodes.get(r.nodeid);
    if (node === undefined || node.inFlight.length === 0 || !fillsCache(r)) return false;
    const range = rangeOf(r);
    const waiting = node.inFlight.filter((f) => touches(f, range));
    for (const f of waiting) f.noted.push(range);
    if (waiting.length > 0) this.counters.readsDuringDrain++;
    return waiting.length > 0;
  }

  async drain(firstIno: number, fromMode: DrainMode, toMode: DrainMode): Promise<void> {
    this.counters.drains++;
    const nr = groupOf(firstIno);
    this.draining.set(nr, fromMode);
    try {
      if (fromMode === MODE_WRITE) this.rerunSizeChanges(nr);
      const nodes = this.nodes.inGroup(firstIno);
      if (toMode === MODE_NULL) this.dropNames(nodes);
      await Promise.all(nodes.map((node) => this.drainNode(node, toMode)));
      // a size change without dirty pages is waited for by no notification
      while ([...this.admitted].some((r) => groupOf(r.nodeid) === nr)) {
        await new Promise<void>((go) => { this.waiters.push(go); });
      }
    } finally {
      this.draining.delete(nr);
    }
  }

  prune(firstIno: number): void {
    this.pruneInos(this.nodes.inGroup(firstIno)
      .filter((n) => n.lookups > 0 && n.handles === 0 && n.ino !== ROOT_INO).map((n) => n.ino));
  }

  /** As prune, of one inode, a moment after its last handle was released. */
  pruneIdle(ino: number): void {
    this.idle.add(ino);
    if (this.idle.size > 1) return;
    this.clock.after(IDLE_DELAY_MS, () => {
      const nodes = [...this.idle].map((i) => this.nodes.get(i)).filter((n) => n !== undefined);
      this.idle.clear();
      // opened again meanwhile: its next release comes here
      for (const n of nodes) if (n.handles > 0) n.drainedOpen = true;
      this.pruneInos(nodes.filter((n) => n.lookups > 0 && n.handles === 0 && n.ino !== ROOT_INO)
        .map((n) => n.ino));
    });
  }

  /** Makes the kernel forget the oldest inodes that it does not use: the table is full. */
  pruneOldest(): void {
    // two at a time: the kernel forgets the children before it can forget their directory
    for (let i = 0; i < 2; i++) this.pruneInos(this.nodes.oldest());
  }

  private pruneInos(inos: readonly number[]): void {
    if (!this.canPrune || inos.length === 0) return;
    this.counters.pruned += inos.length;
    void this.notify(P.pruneMessage(inos));
  }

  async dropPages(ino: number, offset: BytePos, lenBytes: number): Promise<void> {
    const node = this.nodes.get(ino);
    if (node?.pagesMaybe !== true || lenBytes <= 0) return;
    await this.dropRanges(node, [pagesOf(offset, lenBytes)]);
  }

  /**
   * Raises the kernel's idea of a file's size to `offset` + 1 by storing the last byte written.
   * Left out when the page belongs to a parked READ, for which it would wait.
   */
  async storeTail(ino: number, offset: BytePos, byte: number): Promise<void> {
    const node = this.nodes.get(ino);
    const range = pagesOf(offset, 1);
    if (node === undefined || overlaps(this.parkedReads(ino), range)) return;
    this.counters.stores++;
    this.filled(node, range);
    await this.inFlight(node, range, P.storeMessage(ino, offset, Uint8Array.of(byte)));
  }

  /** The kernel has pages of a range from now on, at the latest when a reply has been read. */
  filled(node: Node, range: Range): void {
    node.pagesMaybe = true;
    if (node.rdwrHandles > 0) node.mappable = add(node.mappable, range, MAPPABLE_MAX_RANGES);
  }

  /** The first and the last handle O_RDWR of a file: from when to when pages can get dirty. */
  rdwrChanged(node: Node): void {
    node.mappable = node.rdwrHandles > 0 && node.pagesMaybe ? [WHOLE_FILE] : NONE;
  }

  /** READs that fill pages of `range` wait until the hold is released. */
  holdReads(node: Node, range: Range): Hold {
    let release = (): void => undefined;
    const done = new Promise<void>((resolve) => { release = resolve; });
    const hold: Hold = {
      ...range, done,
      release: () => {
        node.holds = node.holds.filter((h) => h !== hold);
        release();
      },
    };
    node.holds = [...node.holds, hold];
    return hold;
  }

  /**
   * Before a WRITE of a handle, under I(ino) W: writes dirty pages of what it holds back and
   * drops all of them, so that none with older contents is written over it later
   * (`docs/decisions/0015`).
   */
  async cleanPages(node: Node, hold: Hold): Promise<void> {
    this.counters.cleans++;
    await this.dropRanges(node, [hold]);
    // The WRITE of a caller that was killed meanwhile has let READs go on.
    if (node.holds.includes(hold)) node.mappable = subtract(node.mappable, [hold]);
  }

  /** When a READ may run, if it has to wait for a WRITE; null if it need not. */
  heldUntil(r: Request): Promise<void> | null {
    const node = this.nodes.get(r.nodeid);
    if (node === undefined || node.holds.length === 0 || r.duringDrain) return null;
    const range = rangeOf(r);
    return node.holds.find((hold) => touches(hold, range))?.done ?? null;
  }

  /** Size changes parked before the drain: write-back of dirty pages waits for them. */
  private rerunSizeChanges(group: number): void {
    const found = [...this.host.parked()].filter((r) => r.opcode === OP.SETATTR
      && groupOf(r.nodeid) === group && (r.u32(0) & SET_SIZE) !== 0);
    for (const r of found) this.host.rerun(r);
  }

  private dropNames(nodes: readonly Node[]): void {
    if (!nodes.some((n) => n.entriesEpoch === this.epoch)) return;
    this.counters.epochs++;
    this.epoch++;
    const rc = this.device.notifySync(P.incEpochMessage());
    if (rc !== 0) this.failed('INC_EPOCH', rc);
  }

  private async drainNode(node: Node, toMode: DrainMode): Promise<void> {
    if (toMode === MODE_NULL && node.handles > 0) node.drainedOpen = true;
    if (toMode === MODE_NULL && node.attrGiven) {
      node.attrGiven = false;
      await this.dropAttributes(node);
    }
    if (node.pagesMaybe && (toMode === MODE_NULL || node.rdwrHandles > 0)) {
      await this.dropRanges(node, [WHOLE_FILE]);
      node.pagesMaybe = false;
      node.mappable = NONE;
    }
  }

  private async dropAttributes(node: Node): Promise<void> {
    const message = P.invalInodeMessage(node.ino, -1, 0);
    for (;;) {
      this.counters.attrs++;
      const rc = await this.notify(message);
      if (rc !== -ERRNO.ENOENT) {
        if (rc !== 0) this.failed('INVAL_INODE', rc);
        return;
      }
      if (this.nodes.get(node.ino) !== node || node.lookups === 0) return;
      this.counters.repeats++;
      await this.clock.sleep(REPEAT_DELAY_MS);
    }
  }

  /** Drops pages until none of `first` and of the READs executed meanwhile is left. */
  private async dropRanges(node: Node, first: readonly Range[]): Promise<void> {
    let todo: readonly Range[] = first;
    while (todo.length > 0) {
      const ranges = subtract(todo, this.parkedReads(node.ino));
      this.counters.pages += ranges.length;
      const noted = await Promise.all(ranges.map((range) => this.inFlight(node, range,
        P.invalInodeMessage(node.ino, range.start,
          range.end === Infinity ? 0 : range.end - range.start))));
      todo = merge(noted.flat());
    }
  }

  /**
   * Sends a notification that waits for the pages of `range`, and lists it while it does.
   * @returns the READs that were executed meanwhile
   */
  private async inFlight(node: Node, range: Range, message: Uint8Array): Promise<Range[]> {
    // an own object: the same range can be in flight twice
    const mine: InFlight = { start: range.start, end: range.end, noted: [] };
    node.inFlight = [...node.inFlight, mine];
    const timer = this.clock.after(NOTIFY_LIMIT_MS, () => {
      this.host.fatal(`a notification about inode ${node.ino} is blocked in the kernel`);
    });
    const rc = await this.notify(message);
    timer.cancel();
    node.inFlight = node.inFlight.filter((f) => f !== mine);
    if (rc !== 0 && rc !== -ERRNO.ENOENT) this.failed('page notification', rc);
    return mine.noted;
  }

  private parkedReads(ino: number): Range[] {
    const ranges: Range[] = [];
    for (const r of this.host.parked()) {
      if (r.opcode === OP.READ && r.nodeid === ino && !r.duringDrain && fillsCache(r)) {
        ranges.push(rangeOf(r));
      }
    }
    return ranges;
  }

  private notify(message: Uint8Array): Promise<number> {
    return this.gate.run(() => this.device.notify(message));
  }

  private failed(what: string, rc: number): void {
    // the end of the connection ends all caches with it
    if (rc === -ERRNO.ENODEV || rc === -ERRNO.ENOTCONN || rc === -ERRNO.ECONNABORTED
      || rc === -ERRNO.EPERM) return;
    this.host.fatal(`${what} failed with errno ${-rc}: caches cannot be kept exact`);
  }
}

/** Direct reads carry a flag; all others fill the page cache. */
function fillsCache(r: Request): boolean {
  return (r.u32(20) & P.READ_DIRECT) === 0;
}

/** The pages of a READ. */
export function rangeOf(r: Request): Range {
  return pagesOf(r.pos(8), Math.max(r.u32(16), PAGE_BYTES));
}
