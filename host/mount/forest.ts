/**
 * Reading committed items into the item cache.
 *
 * The core walks the file system tree and every log tree that may hold the key and
 * caches what they agree on; this gives it roots that are new enough, and retries
 * when blocks turn out to have been replaced since.
 *
 * Roots are new enough for a lock when they were asked for after its grant (nobody
 * else can have changed its items since) and after our own last commit (whose items
 * are only in the trees now). So one GET_ROOTS serves many reads. Roots that turn
 * out stale twice in a row are damage: EIO. Source: item.md 5, forest.md 2, block.md 6.
 */
import type { Core } from '../core/core.js';
import type { LockPtr } from '../core/items.js';
import type { NetRoots } from '../core/format.js';
import { BtreeRoot } from '../core/format.js';
import { Rec } from '../core/trees.js';
import type { Counters } from '../observe/counters.js';
import { C } from '../observe/counters.js';
import { ERRNO } from '../observe/errors.js';

export interface ForestDeps {
  core: Core;
  getRoots(): Promise<NetRoots>;
  /**
   * Commits the open transaction: what is dirty can be evicted afterwards.
   * @returns false when nothing is dirty, so that nothing was gained
   */
  makeRoom(): Promise<boolean>;
  /** Number of grants so far; a lock's `grantNr` is its value when it was granted. */
  grantNr(): number;
  grantNrOf(lock: LockPtr): number;
  /** The lock is not given up before the function that this returns is called. */
  beginRead(lock: LockPtr): () => void;
  /** False when all locks have been forgotten: the mount has ended. */
  isLive(lock: LockPtr): boolean;
  counters?: Counters;
}

interface Roots {
  roots: NetRoots;
  /** when they were asked for, in grants and in commits of ours */
  grantNr: number;
  barrier: number;
}

/** Commits that one read asks for when memory is full of dirty items and blocks. */
const COMMITS_MAX = 3;

export class Forest {
  readonly stats = { reads: 0, getRoots: 0, stale: 0 };
  private current: Promise<Roots> | null = null;
  private last: Roots | null = null;
  private readonly reading = new Map<string, Promise<void>>();

  constructor(private readonly deps: ForestDeps) {}

  /** Brings the range around `key` (32 bytes) into the cache. One read serves all who wait. */
  read(lock: LockPtr, key: Uint8Array): Promise<void> {
    const name = `${lock}:${Buffer.from(key).toString('latin1')}`;
    const running = this.reading.get(name);
    if (running !== undefined) return running;
    const end = this.deps.beginRead(lock);
    const p = this.readRange(lock, key).finally(() => {
      this.reading.delete(name);
      end();
    });
    this.reading.set(name, p);
    return p;
  }

  private async readRange(lock: LockPtr, key: Uint8Array): Promise<void> {
    const { core } = this.deps;
    this.stats.reads += 1;
    let staleRoots = '';
    let commits = 0;
    for (;;) {
      const at = await this.rootsFor(lock);
      const r = await this.tryRead(at, lock, key);
      if (r === 0) return;
      if (r === -ERRNO.ENOMEM && commits < COMMITS_MAX) {
        // the read has evicted all that is clean: only a commit makes room
        commits += 1;
        if (await this.deps.makeRoom()) continue;
      }
      if (r !== -ERRNO.ESTALE) throw core.error('reading items', r);
      this.stats.stale += 1;
      this.deps.counters?.inc(C.item_read_pages_retry);
      this.last = null;
      if (core.x.itemBarrier() !== at.barrier) continue;
      const name = rootsName(at.roots);
      if (name === staleRoots) {
        throw core.damage(`reading items of roots ${name}`);
      }
      staleRoots = name;
    }
  }

  private async tryRead(at: Roots, lock: LockPtr, key: Uint8Array): Promise<number> {
    const { core } = this.deps;
    const fs = new Rec(core, BtreeRoot.size);
    const logs = new Rec(core, BtreeRoot.size);
    const k = new Rec(core, key.length, key);
    BtreeRoot.write(core.view, fs.ptr, at.roots.fsRoot);
    BtreeRoot.write(core.view, logs.ptr, at.roots.logsRoot);
    try {
      return await core.run(() => this.deps.isLive(lock)
        ? core.x.forestRead(fs.ptr, logs.ptr, lock, k.ptr, at.barrier) : -ERRNO.ENOLINK);
    } finally {
      for (const r of [fs, logs, k]) r.free();
    }
  }

  private async rootsFor(lock: LockPtr): Promise<Roots> {
    const barrier = this.deps.core.x.itemBarrier();
    const granted = this.deps.grantNrOf(lock);
    const ok = (r: Roots): boolean => r.barrier === barrier && r.grantNr >= granted;
    if (this.last !== null && ok(this.last)) return this.last;
    if (this.current !== null) {
      const r = await this.current;
      if (ok(r)) return r;
    }
    const p = this.fetch(barrier);
    this.current = p;
    try {
      this.last = await p;
      return this.last;
    } finally {
      if (this.current === p) this.current = null;
    }
  }

  private async fetch(barrier: number): Promise<Roots> {
    const grantNr = this.deps.grantNr();
    this.stats.getRoots += 1;
    return { roots: await this.deps.getRoots(), grantNr, barrier };
  }
}

function rootsName(r: NetRoots): string {
  return `fs ${r.fsRoot.ref.blkno}/${r.fsRoot.ref.seq} ` +
    `logs ${r.logsRoot.ref.blkno}/${r.logsRoot.ref.seq}`;
}
