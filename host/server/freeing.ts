/**
 * Frees the blocks of log trees that were merged.
 *
 * A freeing item names a tree that nothing refers to any more and how far its freeing
 * got. One worker takes the first item, frees up to 62 blocks at a time and commits when
 * three quarters of its share are used. The item is made dirty before anything is freed,
 * so that no freed block can miss its progress. Runs after merges and from server start,
 * because a stopped server may have left items. Source: server.md 5.6, trap 25.
 */
import {
  LOG_MERGE_FREEING_ZONE, LogMergeFreeing, Key,
} from '../core/format.js';
import { keyBytes, keyOnes, makeKey } from '../core/keys.js';
import { viewOf } from '../net/messages.js';
import { Rec, type Found } from '../core/trees.js';
import { asScoutfsError } from '../observe/errors.js';
import { HOLD_BLOCKS, sized, type Hold } from './commit.js';
import type { ServerContext } from './context.js';

const STEP_BLOCKS = 62;
const USED_MAX_BLOCKS = HOLD_BLOCKS * 3 / 4;
const ROOT_OFFSET = 0;
const KEY_OFFSET = 24;
const KEY_BYTES = 32;
const FIRST_KEY = keyBytes(makeKey({ zone: LOG_MERGE_FREEING_ZONE }));
const ONES = keyBytes(keyOnes());

export function freeingKey(seq: number): Uint8Array {
  return keyBytes(makeKey({ zone: LOG_MERGE_FREEING_ZONE, first: BigInt(seq) }));
}

export class FreeingWorker {
  private running: Promise<void> | null = null;
  private again = false;
  private stopping = false;

  constructor(private readonly s: ServerContext) {}

  /** Looks for work; what is found is done in the background. */
  kick(): void {
    if (this.stopping) return;
    if (this.running !== null) {
      this.again = true;
      return;
    }
    this.running = this.run().finally(() => {
      this.running = null;
      if (this.again) {
        this.again = false;
        this.kick();
      }
    });
  }

  /** No more steps are begun; waits for the one at work. */
  async stop(): Promise<void> {
    this.stopping = true;
    await this.running;
  }

  private async run(): Promise<void> {
    const { commits, log } = this.s;
    try {
      let more = true;
      while (more && !this.stopping) {
        const tx = await commits.hold();
        try {
          more = await this.freeSome(tx);
        } catch (e) {
          tx.release();
          throw e;
        }
        if (tx.used > 0) await tx.apply();
        else tx.release();
      }
    } catch (e) {
      const err = asScoutfsError(e);
      if (err.errno !== 'ESHUTDOWN') log.error(`server: freeing merged trees: ${err.message}`);
    }
  }

  /** Frees until a commit's share is used. @returns whether there is more */
  private async freeSome(tx: Hold): Promise<boolean> {
    const { commits } = this.s;
    while (tx.used < USED_MAX_BLOCKS) {
      const item = await commits.space.next(commits.sup.logMerge, FIRST_KEY);
      if (item === null || Key.read(viewOf(item.key), 0).zone !== LOG_MERGE_FREEING_ZONE) {
        return false;
      }
      await this.step(tx, item);
    }
    return true;
  }

  private async step(tx: Hold, item: Found): Promise<void> {
    const { commits, core } = this.s;
    const { space, sup } = commits;
    const val = sized(item.val, LogMergeFreeing.size, 'log merge freeing');
    await space.dirty(sup.logMerge, item.key);
    const rec = new Rec(core, LogMergeFreeing.size, val);
    let failed: unknown = null;
    try {
      try {
        await core.runAsync('free merged tree', () => tx.used >= USED_MAX_BLOCKS ? 0
          : core.x.tree_free(space.al, rec.ptr + ROOT_OFFSET, rec.ptr + KEY_OFFSET, STEP_BLOCKS));
      } catch (e) {
        failed = e;
      }
      const key = core.copyOut(rec.ptr + KEY_OFFSET, KEY_BYTES);
      if (Buffer.compare(key, ONES) === 0) await space.delete(sup.logMerge, item.key);
      else await space.update(sup.logMerge, item.key, rec.get());
    } catch (e) {
      throw commits.fatal(e);
    } finally {
      rec.free();
    }
    if (failed !== null) throw asScoutfsError(failed);
  }
}
