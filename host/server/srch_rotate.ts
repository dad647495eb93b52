/**
 * Rotation of srch log files: from a log_trees item to an item of their own.
 *
 * The file becomes a LOG item keyed by its root block and the field in the log_trees
 * value is zeroed; both go into the same commit, so entries are always found exactly
 * once. A resent commit meets the same item again, which is fine.
 * Source: srch.md 3.
 */
import { SRCH_LOG_BLOCK_LIMIT, SRCH_LOG_TYPE, SRCH_ZONE, SrchFile } from '../core/format.js';
import { keyBytes, makeKey } from '../core/keys.js';
import { encode } from '../net/messages.js';
import { asScoutfsError } from '../observe/errors.js';
import { C } from '../observe/counters.js';
import type { ServerContext } from './context.js';
import type { LogTreesRec } from './records.js';

export function srchLogKey(rootBlkno: number): Uint8Array {
  return keyBytes(makeKey({ zone: SRCH_ZONE, type: SRCH_LOG_TYPE, second: BigInt(rootBlkno) }));
}

/** Rotates the file of `lt` if it is long enough, or has anything when `force`. Within a hold. */
export async function rotateSrchLog(s: ServerContext, lt: LogTreesRec, force: boolean):
Promise<void> {
  const file = lt.srchFile;
  if (file.ref.blkno === 0 || (!force && file.blocks < SRCH_LOG_BLOCK_LIMIT)) return;
  try {
    await s.commits.space.insert(s.commits.sup.srchRoot, srchLogKey(file.ref.blkno),
      encode(SrchFile, file));
  } catch (e) {
    if (asScoutfsError(e).errno !== 'EEXIST') throw e;
  }
  lt.clearSrchFile();
  s.counters.inc(C.srch_rotate_log);
}
