/**
 * A mount's share of srch compaction: one piece of work in, its progress out.
 *
 * The server hands out a struct that says which files are merged or freed, how far that
 * is, and from which list blocks may be taken. The core works on it until the phase is
 * done or the piece is long enough; then what was written is made durable and the struct
 * goes back. Nothing is written outside its list, so a piece that fails, or is lost with
 * its mount, has changed nothing: it goes back as it came, with ERROR, and a failed
 * write counts as well (upstream forgets about those).
 *
 * Works in the core of the merge thread, between merges. Source: srch.md 5.3, client.md 5.
 */
import type { Core } from '../core/core.js';
import {
  SRCH_COMPACT_FLAG_ERROR, SRCH_COMPACT_FLAG_LOG, SrchCompact,
} from '../core/format.js';
import { Rec, TreeSpace } from '../core/trees.js';
import type { Device } from '../env/device.js';
import { decode, encode } from '../net/messages.js';
import type { Counters } from '../observe/counters.js';
import { C } from '../observe/counters.js';
import type { TriggerName } from '../observe/triggers.js';
import type { ScoutfsError } from '../observe/errors.js';
import { ERRNO, asScoutfsError } from '../observe/errors.js';

/** A piece ends when this much is dirty (32 MiB); a LOG phase has to be one piece. */
const PIECE_BLOCKS = 512;
const LIST_HEAD_BYTES = 32;
const META_AVAIL = 0;
const META_FREED = 32;
const CALL_AGAIN = 1;
/** Bits of the core. */
const TRIGGERS: readonly [bit: number, name: TriggerName][] = [
  [1, 'srch_compact_logs_pad_safe'], [2, 'srch_merge_stop_safe'],
];

/** What became of a piece of work. `error` is for the log; the struct says ERROR then. */
export interface CompactOutcome {
  completion: Uint8Array;
  error: ScoutfsError | null;
  blocksWritten: number;
  /** Entries written to the output, and entries that cancelled each other. */
  entries: number;
  removed: number;
  fired: readonly TriggerName[];
}

export class SrchCompactWorker {
  /**
   * @param core           one with a merge window, which nobody else uses meanwhile
   * @param dirtyMaxBlocks what its cache may hold dirty
   */
  constructor(private readonly device: Device, private readonly core: Core,
    private readonly dirtyMaxBlocks: number) {}

  /**
   * Works on an answer of SRCH_GET_COMPACT; the result is for SRCH_COMMIT_COMPACT. `armed` are
   * triggers.
   */
  async run(request: Uint8Array, counters?: Counters, armed: readonly TriggerName[] = []):
  Promise<CompactOutcome> {
    try {
      const done = await this.work(request, armed);
      counters?.add(C.srch_compact_entry, done.entries);
      counters?.add(C.srch_compact_removed_entry, done.removed);
      counters?.add(C.srch_compact_dirty_block, done.blocksWritten);
      counters?.inc(C.srch_compact_flush);
      return done;
    } catch (e) {
      counters?.inc(C.srch_compact_error);
      const sc = decode(SrchCompact, request);
      const completion = encode(SrchCompact, { ...sc, flags: sc.flags | SRCH_COMPACT_FLAG_ERROR });
      return { completion, error: asScoutfsError(e), blocksWritten: 0, entries: 0, removed: 0,
        fired: [] };
    }
  }

  private async work(request: Uint8Array, armed: readonly TriggerName[]):
  Promise<CompactOutcome> {
    const { core, device } = this;
    const space = new TreeSpace(core);
    const rec = new Rec(core, SrchCompact.size, request);
    const head = (at: number): Uint8Array => request.slice(at, at + LIST_HEAD_BYTES);
    let written = false;
    space.begin(head(META_AVAIL), head(META_FREED));
    try {
      await this.compact(space, rec, decode(SrchCompact, request).flags, armed);
      const heads = space.finish();
      const blocksWritten = space.dirtyBlocks;
      await space.write();
      await device.flush();
      written = true;
      core.bytes.set(heads.avail, rec.ptr + META_AVAIL);
      core.bytes.set(heads.freed, rec.ptr + META_FREED);
      const fired = core.x.srch_compact_fired();
      return {
        completion: rec.get(), error: null, blocksWritten,
        fired: TRIGGERS.flatMap(([bit, name]) => (fired & bit) !== 0 ? [name] : []),
        entries: core.x.srch_compact_entries(), removed: core.x.srch_compact_removed(),
      };
    } finally {
      if (!written) space.finish();
      space.forget(written);
      rec.free();
      space.free();
    }
  }

  private async compact(space: TreeSpace, rec: Rec, phase: number,
    armed: readonly TriggerName[]): Promise<void> {
    const { core } = this;
    const max = phase === SRCH_COMPACT_FLAG_LOG ? this.dirtyMaxBlocks
      : Math.min(PIECE_BLOCKS, this.dirtyMaxBlocks);
    const bits = TRIGGERS.reduce((n, [bit, name]) => armed.includes(name) ? n + bit : n, 0);
    let r = await core.run(() => core.x.srch_compact_start(space.al, space.ws, rec.ptr, max,
      bits));
    if (r === 0) r = CALL_AGAIN;
    while (r === CALL_AGAIN) {
      r = await core.runSteps(() => core.x.srch_compact_run(),
        () => core.x.srch_compact_progress());
    }
    // the files have items: nobody may have freed their blocks
    if (r === -ERRNO.ESTALE) throw core.damage('compact srch files');
    if (r < 0) throw core.error('compact srch files', r);
  }
}
