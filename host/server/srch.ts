/**
 * Srch compactions: handing them out and storing their progress.
 *
 *   files --get--> BUSY (rid, id) --commit, more to do--> PENDING --get--> BUSY ...
 *                     |--commit, merged-->  PENDING for deleting, inputs replaced by output
 *                     |--commit, deleted--> gone, its lists given back
 *                     |--mount gone-->      PENDING again, as stored
 *
 * A compaction owns its record, its lists and, until it is merged, its output; inputs
 * stay with their own items and are not given to two compactions. A resent commit finds
 * no BUSY item. Source: server.md 4.5, srch.md 4 and 5.
 */
import {
  SRCH_BLOCKS_TYPE, SRCH_BUSY_TYPE, SRCH_COMPACT_FLAG_DELETE, SRCH_COMPACT_FLAG_DONE,
  SRCH_COMPACT_FLAG_ERROR, SRCH_COMPACT_FLAG_LOG, SRCH_COMPACT_FLAG_SORTED, SRCH_COMPACT_NR,
  SRCH_LOG_TYPE, SRCH_PENDING_TYPE, SRCH_ZONE, SrchCompact, SrchFile,
} from '../core/format.js';
import type { Key, SrchCompactInput } from '../core/format.js';
import { keyBytes, keyOnes, makeKey } from '../core/keys.js';
import { Rec } from '../core/trees.js';
import { decode, encode } from '../net/messages.js';
import { errnoError } from '../observe/errors.js';
import { sized, type Commits, type Hold } from './commit.js';
import type { ServerContext } from './context.js';
import { itemsBetween } from './log_trees_items.js';
import { srchLogKey } from './srch_rotate.js';
import { checkCompaction } from './untrusted.js';

const LIST_LO_BLOCKS = 4092;
const LIST_TARGET_BLOCKS = 8185;
const META_AVAIL = 0;
const META_FREED = 32;

function pendingKey(id: number): Uint8Array {
  return keyBytes(makeKey({ zone: SRCH_ZONE, type: SRCH_PENDING_TYPE, second: BigInt(id) }));
}

function busyKey(rid: bigint, id: number): Uint8Array {
  return keyBytes(makeKey({
    zone: SRCH_ZONE, type: SRCH_BUSY_TYPE, second: rid, third: BigInt(id),
  }));
}

function blocksKey(f: SrchFile): Uint8Array {
  return keyBytes(makeKey({
    zone: SRCH_ZONE, type: SRCH_BLOCKS_TYPE, second: BigInt(f.blocks), third: BigInt(f.ref.blkno),
  }));
}

function typeRange(type: number): [Key, Key] {
  return [makeKey({ zone: SRCH_ZONE, type }),
    { ...keyOnes(), zone: SRCH_ZONE, first: 0n, type }];
}

/** Files of sorted blocks are compacted with others of about their size. */
function sizeOrder(blocks: number): number {
  return Math.floor(blocks.toString(2).length / 2);
}

const EMPTY_FILE = decode(SrchFile, new Uint8Array(SrchFile.size));

function inputOf(sfl: SrchFile): SrchCompactInput {
  return { sfl, blk: 0, pos: 0 };
}

function compactOf(files: SrchFile[], flags: number): SrchCompact {
  const zero = decode(SrchCompact, new Uint8Array(SrchCompact.size));
  const inputs = zero.inputs.map((_, i) => inputOf(files[i] ?? EMPTY_FILE));
  return { ...zero, id: files[0]?.ref.blkno ?? 0, nr: files.length, flags, inputs };
}

export class SrchCompactions {
  constructor(private readonly s: ServerContext) {}

  private get commits(): Commits { return this.s.commits; }
  private get root(): number { return this.commits.sup.srchRoot; }

  /** SRCH_GET_COMPACT: `nr` 0 in the answer means that there is nothing to do. */
  get(rid: bigint): Promise<Uint8Array> {
    return this.commits.transact(async () => {
      const { space } = this.commits;
      const pending = await this.firstPending();
      const sc = pending ?? await this.newCompaction();
      if (sc === null) return new Uint8Array(SrchCompact.size);
      await this.commits.atomic(async () => {
        await space.insert(this.root, busyKey(rid, sc.id), encode(SrchCompact, sc));
        if (pending !== null) await space.delete(this.root, pendingKey(sc.id));
      });
      return await this.provide(rid, sc);
    });
  }

  /** Fills and empties the lists of a record that is busy. */
  private async provide(rid: bigint, sc: SrchCompact): Promise<Uint8Array> {
    const { commits } = this;
    const rec = new Rec(this.s.core, SrchCompact.size, encode(SrchCompact, sc));
    try {
      await commits.storing(async () => {
        await commits.fillList(rec.ptr + META_AVAIL, LIST_LO_BLOCKS, LIST_TARGET_BLOCKS, true);
        await commits.giveBack(rec.ptr + META_FREED);
      }, () => commits.space.update(this.root, busyKey(rid, sc.id), rec.get()));
      return rec.get();
    } finally {
      rec.free();
    }
  }

  private async firstPending(): Promise<SrchCompact | null> {
    const [start, end] = typeRange(SRCH_PENDING_TYPE);
    const first = await itemsBetween(this.commits.space, this.root, start, end).next();
    return first.done === true ? null
      : decode(SrchCompact, sized(first.value.val, SrchCompact.size, 'pending srch compaction'));
  }

  /** Four log files, else four sorted files of one size class; null when there are fewer. */
  private async newCompaction(): Promise<SrchCompact | null> {
    const busy = await this.busyInputs();
    const logs = await this.collect(SRCH_LOG_TYPE, busy, () => 0);
    if (logs !== null) return compactOf(logs, SRCH_COMPACT_FLAG_LOG);
    const sorted = await this.collect(SRCH_BLOCKS_TYPE, busy, (f) => sizeOrder(f.blocks));
    return sorted === null ? null : compactOf(sorted, SRCH_COMPACT_FLAG_SORTED);
  }

  private async collect(type: number, busy: ReadonlySet<number>, classOf: (f: SrchFile) => number):
  Promise<SrchFile[] | null> {
    const [start, end] = typeRange(type);
    let files: SrchFile[] = [];
    let sizeClass = -1;
    for await (const { val } of itemsBetween(this.commits.space, this.root, start, end)) {
      const f = decode(SrchFile, sized(val, SrchFile.size, 'srch file'));
      if (busy.has(f.ref.blkno)) continue;
      if (classOf(f) !== sizeClass) files = [];
      sizeClass = classOf(f);
      files.push(f);
      if (files.length === SRCH_COMPACT_NR) return files;
    }
    return null;
  }

  /** Root blocks of the inputs of all compactions at work. */
  private async busyInputs(): Promise<Set<number>> {
    const [start, end] = typeRange(SRCH_BUSY_TYPE);
    const busy = new Set<number>();
    for await (const { val } of itemsBetween(this.commits.space, this.root, start, end)) {
      const sc = decode(SrchCompact, sized(val, SrchCompact.size, 'busy srch compaction'));
      for (const i of sc.inputs.slice(0, sc.nr)) busy.add(i.sfl.ref.blkno);
    }
    return busy;
  }

  /** SRCH_COMMIT_COMPACT. @throws ENOENT for what is not busy (any more), EINVAL */
  async commit(rid: bigint, payload: Uint8Array): Promise<void> {
    const received = decode(SrchCompact, payload);
    return this.commits.transact(async () => {
      const key = busyKey(rid, received.id);
      const stored = await this.commits.space.lookup(this.root, key);
      if (stored === null) {
        throw errnoError('ENOENT',
          `srch compaction ${received.id} of ${rid.toString(16)} is not busy`);
      }
      await checkCompaction(this.s,
        decode(SrchCompact, sized(stored, SrchCompact.size, 'busy srch compaction')), received);
      const { flags } = received;
      const finished = SRCH_COMPACT_FLAG_DONE | SRCH_COMPACT_FLAG_DELETE;
      const { id } = received;
      if ((flags & SRCH_COMPACT_FLAG_ERROR) !== 0) await this.moveToPending(key, id, stored);
      else if ((flags & finished) === finished) await this.finish(key, payload);
      else if ((flags & SRCH_COMPACT_FLAG_DONE) !== 0) await this.replaceInputs(key, received);
      else await this.moveToPending(key, id, payload);
    });
  }

  private async moveToPending(key: Uint8Array, id: number, record: Uint8Array): Promise<void> {
    const { space } = this.commits;
    await this.commits.atomic(async () => {
      await space.force(this.root, pendingKey(id), record);
      await space.delete(this.root, key);
    });
  }

  /** Merged: the output takes the place of the inputs, whose blocks are to be freed next. */
  private async replaceInputs(key: Uint8Array, sc: SrchCompact): Promise<void> {
    const { commits } = this;
    const { space } = commits;
    const log = (sc.flags & SRCH_COMPACT_FLAG_LOG) !== 0;
    const inputs = sc.inputs.slice(0, sc.nr).map(({ sfl }) =>
      log ? srchLogKey(sfl.ref.blkno) : blocksKey(sfl));
    for (const k of inputs) {
      if (await space.lookup(this.root, k) !== null) continue;
      throw errnoError('EIO', `srch compaction ${sc.id} merged a file that does not exist`);
    }
    const phases = SRCH_COMPACT_FLAG_DONE | SRCH_COMPACT_FLAG_LOG | SRCH_COMPACT_FLAG_SORTED;
    const next = encode(SrchCompact, {
      ...sc, flags: (sc.flags & ~phases) | SRCH_COMPACT_FLAG_DELETE,
      inputs: sc.inputs.map((i) => inputOf(i.sfl)),
    });
    await commits.atomic(async () => {
      if (sc.out.blocks > 0) {
        await space.insert(this.root, blocksKey(sc.out), encode(SrchFile, sc.out));
      }
      for (const k of inputs) await space.delete(this.root, k);
    });
    await this.moveToPending(key, sc.id, next);
  }

  /** Deleted: nothing is left but the lists. */
  private async finish(key: Uint8Array, record: Uint8Array): Promise<void> {
    const { commits } = this;
    const rec = new Rec(this.s.core, SrchCompact.size, record);
    try {
      await commits.storing(async () => {
        await commits.giveBack(rec.ptr + META_AVAIL);
        await commits.giveBack(rec.ptr + META_FREED);
      }, () => commits.space.update(this.root, key, rec.get()));
      await commits.atomic(() => commits.space.delete(this.root, key));
    } finally {
      rec.free();
    }
  }

  /** A mount is gone: what it was compacting waits for somebody else. Within a hold. */
  async reclaim(_tx: Hold, rid: bigint): Promise<void> {
    const { space } = this.commits;
    const start = makeKey({ zone: SRCH_ZONE, type: SRCH_BUSY_TYPE, second: rid });
    const end = { ...keyOnes(), zone: SRCH_ZONE, first: 0n, type: SRCH_BUSY_TYPE, second: rid };
    const mine: { key: Key; val: Uint8Array }[] = [];
    for await (const item of itemsBetween(space, this.root, start, end)) mine.push(item);
    for (const { key, val } of mine) {
      sized(val, SrchCompact.size, 'busy srch compaction');
      await this.moveToPending(keyBytes(key), Number(key.third), val);
    }
  }
}
