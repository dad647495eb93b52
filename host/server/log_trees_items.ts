/**
 * Finding log_trees items.
 *
 * Items are keyed (rid, nr), and of each rid only the one with the greatest nr can be
 * open. Volumes can have very many finalized ones, so whoever is interested in open
 * transactions walks backwards from rid to rid and looks at one item each; only statfs,
 * zones and merging look at all of them. Source: forest.md 1, server.md trap 28.
 */
import type { Ptr } from '../core/core.js';
import { Key, LOG_TREES_FINALIZED, LOG_TREES_ZONE, LogTrees } from '../core/format.js';
import { compareKeys, decKey, incKey, keyBytes, makeKey } from '../core/keys.js';
import type { TreeReader } from '../core/trees.js';
import { decode, viewOf } from '../net/messages.js';
import { ScoutfsError } from '../observe/errors.js';
import { sized } from './commit.js';

const U64_MAX = 0xffffffffffffffffn;

export interface LogTreesItem {
  bytes: Uint8Array;
  lt: LogTrees;
}

function keyOf(rid: bigint, nr: number | bigint): Key {
  return makeKey({ zone: LOG_TREES_ZONE, first: rid, second: BigInt(nr) });
}

export function logTreesKey(rid: bigint, nr: number | bigint): Uint8Array {
  return keyBytes(keyOf(rid, nr));
}

export function isFinalized(lt: LogTrees): boolean {
  return lt.flags % 2 === LOG_TREES_FINALIZED;
}

export function isOpen(lt: LogTrees): boolean {
  return !isFinalized(lt);
}

/** @throws EIO for an item under another key than its own: writing it would make a second one */
function itemOf(key: Key, val: Uint8Array): LogTreesItem {
  const bytes = sized(val, LogTrees.size, 'log_trees');
  const lt = decode(LogTrees, bytes);
  if (compareKeys(key, keyOf(lt.rid, lt.nr)) !== 0) {
    throw new ScoutfsError('LOG_TREES_KEY', 'EIO', {
      message: `log tree ${lt.rid.toString(16)}.${lt.nr} is stored under another key`,
    });
  }
  return { bytes, lt };
}

async function lastBefore(space: TreeReader, root: Ptr, key: Uint8Array):
Promise<{ key: Key; item: LogTreesItem } | null> {
  const found = await space.prev(root, key);
  if (found === null) return null;
  const k = Key.read(viewOf(found.key), 0);
  return k.zone === LOG_TREES_ZONE ? { key: k, item: itemOf(k, found.val) } : null;
}

/** The item of `rid` with the greatest nr. */
export async function lastLogTrees(space: TreeReader, root: Ptr, rid: bigint):
Promise<LogTreesItem | null> {
  const found = await lastBefore(space, root, logTreesKey(rid, U64_MAX));
  return found?.key.first === rid ? found.item : null;
}

/** The item with the greatest nr of every rid, in falling order of rids. */
export async function* lastLogTreesOfAll(space: TreeReader, root: Ptr):
AsyncGenerator<LogTreesItem> {
  let key = logTreesKey(U64_MAX, U64_MAX);
  for (;;) {
    const found = await lastBefore(space, root, key);
    if (found === null) return;
    yield found.item;
    if (found.key.first === 0n) return;
    key = logTreesKey(found.key.first - 1n, U64_MAX);
  }
}

/** Every item in the order of keys. */
export async function* allLogTrees(space: TreeReader, root: Ptr): AsyncGenerator<LogTreesItem> {
  const end = decKey(makeKey({ zone: LOG_TREES_ZONE + 1 }));
  const start = makeKey({ zone: LOG_TREES_ZONE });
  for await (const { key, val } of itemsBetween(space, root, start, end)) {
    yield itemOf(key, val);
  }
}

/** Keys and values of all items from `start` to `end`. */
export async function* itemsBetween(space: TreeReader, root: Ptr, start: Key, end: Key):
AsyncGenerator<{ key: Key; val: Uint8Array }> {
  let at = start;
  for (;;) {
    const found = await space.next(root, keyBytes(at));
    if (found === null) return;
    const key = Key.read(viewOf(found.key), 0);
    if (compareKeys(key, end) > 0) return;
    yield { key, val: found.val };
    if (compareKeys(key, end) === 0) return;
    at = incKey(key);
  }
}
