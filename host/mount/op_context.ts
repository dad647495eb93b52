/**
 * Operations of this mount: what `host/mount/op.ts` promises, over the lock client,
 * the transaction and the inode pools.
 *
 * An operation's locks form a list in ascending order (class, then number). One that
 * is granted is counted as a user for as long as the operation lives, so waiting for
 * a later lock never loses an earlier one. A lock that comes before one already held
 * and is not free at once would break the order that prevents deadlocks: then the
 * operation lets go of everything and starts over. What it has been found to need is its
 * plan from then on, taken in order before anything else: without it two mounts could take
 * the same locks from each other for ever, each time one of them had let go.
 *
 * The objects are pooled: an operation that waits for nothing allocates nothing.
 * Source: inode.md 1, lock.md 2.2.
 */
import type { LockPtr } from '../core/items.js';
import { assert } from '../observe/errors.js';
import type { InoPools } from './ino_pool.js';
import type { ClientLock } from './client_lock.js';
import type { LockClient } from './lock.js';
import { modeServes } from './client_lock.js';
import { LockKind } from './lock_kinds.js';
import type { LockMode, Op } from './op.js';
import { MODE_READ, MODE_WRITE, MODE_WRITE_ONLY, Wait } from './op.js';
import type { Trans } from './trans.js';

/** Place of each lock kind in the order of acquisition. */
const ORDER_OF: Record<LockKind, number> = {
  [LockKind.rename]: 0, [LockKind.inode]: 1, [LockKind.quota]: 2, [LockKind.orphan]: 3,
  [LockKind.totals]: 4, [LockKind.xattrIndex]: 5, [LockKind.metaSeqIndex]: 6,
  [LockKind.dataSeqIndex]: 7,
};
/** Inode numbers and seqs per lock. */
const GROUP = 1024;
/** Kinds with one lock per group. */
const GROUPED: ReadonlySet<LockKind> =
  new Set([LockKind.inode, LockKind.metaSeqIndex, LockKind.dataSeqIndex]);
const META_SEQ_TYPE = 4;
/** Locks that there is room for at first. Only a rename of a deep directory holds more. */
const LOCKS_START = 16;
/** Bounds what one operation can hold: one per level of the deepest path, and then some. */
const LOCKS_MAX = 1 << 16;

/** A lock that an operation has turned out to need. */
interface Planned {
  kind: LockKind;
  group: number;
  mode: LockMode;
}

export class MountOp implements Op {
  duringDrain = false;
  private nr = 0;
  private orders = new Uint8Array(LOCKS_START);
  private groups = new Float64Array(LOCKS_START);
  private modes = new Uint8Array(LOCKS_START);
  private readonly locks: (ClientLock | null)[] =
    new Array<ClientLock | null>(LOCKS_START).fill(null);
  private ino = 0;
  private inoOfDir = false;
  /** in the order of acquisition */
  private plan: Planned[] = [];
  /** not all of the plan is held yet */
  private planOpen = false;

  constructor(
    private readonly table: LockClient, private readonly trans: Trans,
    private readonly inos: InoPools,
  ) {}

  lockInode(ino: number, mode: LockMode): LockPtr {
    if (this.duringDrain) return this.drainingInode(ino, mode);
    return this.lock(LockKind.inode, ino, Math.floor(ino / GROUP), mode);
  }

  lockRename(): LockPtr { return this.lock(LockKind.rename, 0, 0, MODE_WRITE); }
  lockQuota(): LockPtr { return this.lock(LockKind.quota, 0, 0, MODE_READ); }
  lockOrphan(): LockPtr { return this.lock(LockKind.orphan, 0, 0, MODE_WRITE_ONLY); }
  lockTotl(): LockPtr { return this.lock(LockKind.totals, 0, 0, MODE_WRITE_ONLY); }
  lockIndx(): LockPtr { return this.lock(LockKind.xattrIndex, 0, 0, MODE_WRITE_ONLY); }

  lockIndex(type: number, seq: number): LockPtr {
    const kind = type === META_SEQ_TYPE ? LockKind.metaSeqIndex : LockKind.dataSeqIndex;
    return this.lock(kind, seq, Math.floor(seq / GROUP), MODE_WRITE_ONLY);
  }

  transSeq(): number { return this.trans.currentSeq(); }

  hold(allocating: boolean): void { this.trans.hold(allocating); }

  prepareSrch(): void {
    const wait = this.trans.srch.prepare();
    if (wait !== null) throw new Wait(wait);
  }

  addSrch(name: Uint8Array, ino: number, id: number): void {
    this.trans.srch.add(name, ino, id);
  }

  addInodeCount(delta: number): void { this.trans.inodeCountDelta += BigInt(delta); }

  allocIno(isDir: boolean): number {
    if (this.ino === 0 || this.inoOfDir !== isDir) {
      this.ino = this.inos.take(isDir);
      this.inoOfDir = isDir;
    }
    return this.ino;
  }

  /** Lets go of everything; the object can be used again. */
  reset(): void {
    this.unlockAll();
    this.ino = 0;
    this.duringDrain = false;
  }

  unlockAll(): void {
    this.unlockFrom(0);
    if (this.plan.length > 0) this.plan = [];
    this.planOpen = false;
  }

  /** What the drain itself waits for works under the grant that is being given up, uncounted. */
  private drainingInode(ino: number, mode: LockMode): LockPtr {
    const lock = this.table.draining(LockKind.inode, ino);
    const held = lock?.invalidatingMode ?? null;
    if (lock === null || held === null || !modeServes(held, mode)) {
      return this.lock(LockKind.inode, ino, Math.floor(ino / GROUP), mode);
    }
    if (mode === MODE_WRITE) this.table.markDirty(lock);
    return lock.ptr;
  }

  private lock(kind: LockKind, arg: number, group: number, mode: LockMode): LockPtr {
    if (this.planOpen) this.takePlan();
    return this.take(kind, arg, group, mode);
  }

  private take(kind: LockKind, arg: number, group: number, mode: LockMode): LockPtr {
    const order = ORDER_OF[kind];
    const at = this.find(order, group);
    const held = (at < this.nr ? this.locks[at] : null) ?? null;
    if (held !== null && this.orders[at] === order && this.groups[at] === group) {
      if (modeServes(this.modes[at] ?? 0, mode)) return held.ptr;
      // READ held, WRITE wanted: nothing from here on may be held while waiting for it
      this.noteHeld(at);
      this.unlockFrom(at);
      this.note(kind, group, mode);
    }
    const got = this.table.tryLock(kind, arg, mode);
    if (got === null) {
      if (at >= this.nr) throw new Wait(this.table.request(kind, arg, mode));
      this.noteHeld(0);
      this.note(kind, group, mode);
      this.unlockFrom(0);
      throw new Wait(Promise.resolve());
    }
    this.insert(at, order, group, mode, got);
    return got.ptr;
  }

  /** Takes what the operation is known to need. In order, so it may be held while waiting. */
  private takePlan(): void {
    for (const { kind, group, mode } of this.plan) {
      this.take(kind, GROUPED.has(kind) ? group * GROUP : 0, group, mode);
    }
    this.planOpen = false;
  }

  /** Plans what is held, from index `at` on. */
  private noteHeld(at: number): void {
    for (let i = at; i < this.nr; i++) {
      const lock = this.locks[i] ?? null;
      assert(lock !== null, 'a held lock');
      this.note(lock.kind, lock.group, this.modes[i] as LockMode);
    }
  }

  private note(kind: LockKind, group: number, mode: LockMode): void {
    const order = ORDER_OF[kind];
    const { plan } = this;
    this.planOpen = true;
    let at = 0;
    for (const p of plan) {
      const o = ORDER_OF[p.kind];
      if (o === order && p.group === group) {
        if (!modeServes(p.mode, mode)) p.mode = mode;
        return;
      }
      if (o > order || (o === order && p.group > group)) break;
      at += 1;
    }
    assert(plan.length < LOCKS_MAX, 'an operation needs too many locks');
    plan.splice(at, 0, { kind, group, mode });
  }

  /** Index of the first held lock that is not before (order, group). */
  private find(order: number, group: number): number {
    let i = this.nr;
    while (i > 0) {
      const o = this.orders[i - 1] ?? 0;
      if (o < order || (o === order && (this.groups[i - 1] ?? 0) < group)) break;
      i -= 1;
    }
    return i;
  }

  private unlockFrom(at: number): void {
    for (let i = this.nr - 1; i >= at; i--) {
      const lock = this.locks[i] ?? null;
      assert(lock !== null, 'a held lock');
      this.locks[i] = null;
      this.nr = i;
      this.table.unlock(lock, this.modes[i] as LockMode);
    }
  }

  private insert(at: number, order: number, group: number, mode: number, lock: ClientLock): void {
    if (this.nr === this.locks.length) this.grow();
    for (let i = this.nr; i > at; i--) {
      this.orders[i] = this.orders[i - 1] ?? 0;
      this.groups[i] = this.groups[i - 1] ?? 0;
      this.modes[i] = this.modes[i - 1] ?? 0;
      this.locks[i] = this.locks[i - 1] ?? null;
    }
    this.orders[at] = order;
    this.groups[at] = group;
    this.modes[at] = mode;
    this.locks[at] = lock;
    this.nr += 1;
  }

  private grow(): void {
    const room = 2 * this.locks.length;
    assert(room <= LOCKS_MAX, 'an operation holds too many locks');
    const { orders, groups, modes } = this;
    (this.orders = new Uint8Array(room)).set(orders);
    (this.groups = new Float64Array(room)).set(groups);
    (this.modes = new Uint8Array(room)).set(modes);
    while (this.locks.length < room) this.locks.push(null);
  }
}

/** Makes and keeps operation objects; implements the file system row's `OpSource`. */
export class MountOps {
  private readonly pool: MountOp[] = [];
  /** Operations in progress. */
  active = 0;

  constructor(private readonly make: () => MountOp) {}

  begin(duringDrain: boolean): MountOp {
    const op = this.pool.pop() ?? this.make();
    op.duringDrain = duringDrain;
    this.active += 1;
    return op;
  }

  end(op: Op): void {
    assert(op instanceof MountOp, 'an operation of this mount');
    op.reset();
    this.active -= 1;
    if (this.pool.length < POOL_MAX) this.pool.push(op);
  }

  /** Before a wait that must not keep others out (offline data). */
  unlockAll(op: Op): void {
    assert(op instanceof MountOp, 'an operation of this mount');
    op.unlockAll();
  }
}

/** Idle operation objects kept. */
const POOL_MAX = 256;
