/**
 * Reading committed items without locks, some seconds late.
 *
 * Totals and indexes are changed by every mount at once and read by nobody under a lock.
 * Their readers take the trees of the last super block on the device: the file system
 * tree, the log trees, and the seq of the merge that runs between them. All three have
 * to come from the same super, or a total would be counted twice while a merge runs.
 * One sample of them serves all reads for five seconds.
 *
 * Upstream keeps the items that it read in pages, too. Here only the roots are kept:
 * the blocks are in the block cache, and who asks often (quotas) keeps answers.
 *
 * A block that was replaced since the sample makes a read start over with new roots and
 * nothing of what it had; roots that are stale twice are damage.
 * Source: item.md part 2, forest.md 6.2, xattr.md 8.
 */
import type { Core } from '../core/core.js';
import { BtreeRoot, Key, LOG_MERGE_STATUS_ZONE, LogMergeStatus } from '../core/format.js';
import type { SuperBlock } from '../core/format.js';
import { ITEM_WINDOWS } from '../core/item_exports.js';
import { compareKeys, keyBytes, makeKey } from '../core/keys.js';
import { KEY_BYTES, Rec, TreeReader } from '../core/trees.js';
import type { Clock } from '../env/clock.js';
import { decode } from '../net/messages.js';
import { ERRNO, asScoutfsError, assert, errnoError } from '../observe/errors.js';

/** Roots may be used for this long after they were read. */
export const WEAK_LIFETIME_MS = 5000;
/** Room for the items of one read: many of the small ones that are read so. */
const PAGE_BYTES = 65536;
const ITEM_HEADER_BYTES = 40;
const STALE_MAX = 2;

export interface WeakDeps {
  core: Core;
  clock: Clock;
  /** The super block as it is on the metadata device now. */
  readonly readSuper: () => Promise<SuperBlock>;
}

/** Items in key order, all there are from the key asked for to `end`. */
export interface WeakPage {
  items: { key: Key; val: Uint8Array }[];
  end: Key;
}

interface Sample {
  fsRoot: BtreeRoot;
  logsRoot: BtreeRoot;
  mergeSeq: number;
  atMs: number;
}

export class WeakItems {
  readonly stats = { samples: 0, reads: 0, stale: 0 };
  private sample: Promise<Sample> | null = null;

  constructor(private readonly deps: WeakDeps) {}

  /**
   * Reads items from `key` on, at most to `last`. Totals are resolved, other items are
   * those that won.
   * @param lockStart start of the lock that protects the range: bloom bits are its
   * @throws EIO for damage, EUCLEAN for a damaged merge status
   */
  async read(lockStart: Key, key: Key, last: Key): Promise<WeakPage> {
    this.stats.reads += 1;
    let before = '';
    for (let stale = 0; ; stale++) {
      const sample = await this.sampled();
      const page = await this.tryRead(sample, lockStart, key, last);
      if (page !== null) return page;
      this.stats.stale += 1;
      this.sample = null;
      const name = sampleName(sample);
      if (stale >= STALE_MAX || name === before) {
        throw this.deps.core.damage(`reading items of roots ${name}`);
      }
      before = name;
    }
  }

  /** One item's value, null when there is none. @throws as `read` */
  async lookup(lockStart: Key, key: Key): Promise<Uint8Array | null> {
    const { items } = await this.read(lockStart, key, key);
    return items[0]?.val ?? null;
  }

  /** Forgets the roots: the next read takes new ones. */
  drop(): void {
    this.sample = null;
  }

  /** The sample in use, or a new one when that is too old. */
  private async sampled(): Promise<Sample> {
    if (this.sample !== null) {
      const s = await this.sample;
      if (this.deps.clock.monotonicMs() - s.atMs < WEAK_LIFETIME_MS) return s;
      this.sample = null;
    }
    const taking = this.take();
    this.sample = taking;
    taking.catch(() => { if (this.sample === taking) this.sample = null; });
    return taking;
  }

  private async take(): Promise<Sample> {
    const { core, clock, readSuper } = this.deps;
    for (let stale = 0; ; stale++) {
      this.stats.samples += 1;
      const atMs = clock.monotonicMs();
      const { fsRoot, logsRoot, logMerge } = await readSuper().catch((e: unknown) => {
        // perhaps read while it was being written
        if (asScoutfsError(e).code !== 'BAD_SUPER') throw e;
        return readSuper();
      });
      const root = new Rec(core, BtreeRoot.size);
      BtreeRoot.write(core.view, root.ptr, logMerge);
      try {
        const val = logMerge.height === 0 ? null : await new TreeReader(core)
          .lookup(root.ptr, keyBytes(makeKey({ zone: LOG_MERGE_STATUS_ZONE })));
        if (val !== null && val.length !== LogMergeStatus.size) throw errnoError('EUCLEAN');
        return { fsRoot, logsRoot, mergeSeq: val === null ? 0 : decode(LogMergeStatus, val).seq,
          atMs };
      } catch (e) {
        if (asScoutfsError(e).errno !== 'ESTALE') throw e;
        if (stale >= STALE_MAX) throw core.damage('reading the merge status');
      } finally {
        root.free();
      }
    }
  }

  /** @returns null when a block was replaced since the sample */
  private async tryRead(at: Sample, lockStart: Key, key: Key, last: Key):
  Promise<WeakPage | null> {
    const { core } = this.deps;
    const fs = new Rec(core, BtreeRoot.size);
    const logs = new Rec(core, BtreeRoot.size);
    const bloom = new Rec(core, KEY_BYTES, keyBytes(lockStart));
    const from = new Rec(core, KEY_BYTES, keyBytes(key));
    const out = new Rec(core, PAGE_BYTES);
    BtreeRoot.write(core.view, fs.ptr, at.fsRoot);
    BtreeRoot.write(core.view, logs.ptr, at.logsRoot);
    let end = last;
    try {
      const nr = await core.run(() => {
        core.bytes.set(keyBytes(last), ITEM_WINDOWS.keyB);
        const r = core.x.forestReadWeak(fs.ptr, logs.ptr, bloom.ptr, from.ptr, at.mergeSeq,
          out.ptr, PAGE_BYTES);
        if (r >= 0) end = decodeKey(core, ITEM_WINDOWS.keyB);
        return r;
      });
      if (nr === -ERRNO.ESTALE) return null;
      if (nr < 0) throw core.error('reading items', nr);
      assert(compareKeys(end, last) <= 0, 'an answer ends where it was asked to');
      return { items: itemsAt(core, out.ptr, nr), end };
    } finally {
      for (const r of [fs, logs, bloom, from, out]) r.free();
    }
  }
}

function itemsAt(core: Core, ptr: number, nr: number): WeakPage['items'] {
  const items: WeakPage['items'] = [];
  for (let i = 0, at = ptr; i < nr; i++) {
    const len = core.view.getUint32(at + KEY_BYTES, true);
    const val = core.copyOut(at + ITEM_HEADER_BYTES, len);
    items.push({ key: decodeKey(core, at), val });
    at += ITEM_HEADER_BYTES + Math.ceil(len / 8) * 8;
  }
  return items;
}

function decodeKey(core: Core, ptr: number): Key {
  return decode(Key, core.copyOut(ptr, KEY_BYTES));
}

function sampleName(s: Sample): string {
  return `fs ${s.fsRoot.ref.blkno}/${s.fsRoot.ref.seq} ` +
    `logs ${s.logsRoot.ref.blkno}/${s.logsRoot.ref.seq}`;
}
