/**
 * Decoding structures that were not written by us: what cannot be decoded is a
 * finding, and so is what would not be encoded the same way again. The latter
 * holds every padding byte of a structure to zero, since codecs write zeros there.
 */
import { asScoutfsError } from '../../observe/errors.js';
import type { Context } from './context.js';
import type { TreeCursor } from './cursor.js';
import type { FindingId, Reporter } from './report.js';

/** A codec of host/core/format.ts. */
export interface Codec<T> {
  size: number;
  read(v: DataView, o: number): T;
  write(v: DataView, o: number, s: T): void;
}

/** What `read` makes, or null after reporting that it cannot. */
export function decode<T>(report: Reporter, id: FindingId, what: string, read: () => T): T | null {
  try {
    return read();
  } catch (e) {
    report.finding(id, `${what}: ${asScoutfsError(e).message}`);
    return null;
  }
}

/** True if the bytes of `s` at `o` are what the codec would write. */
export function isExact<T>(codec: Codec<T>, s: T, v: DataView, o: number): boolean {
  const again = new DataView(new ArrayBuffer(codec.size));
  codec.write(again, 0, s);
  const stored = new Uint8Array(v.buffer, v.byteOffset + o, codec.size);
  return Buffer.compare(stored, new Uint8Array(again.buffer)) === 0;
}

/** The value of a server item. @returns null, after reporting, when it cannot be decoded */
export function decodeItem<T>(ctx: Context, codec: Codec<T>, it: TreeCursor): T | null {
  const { view, valOff, key, blkno } = it;
  const what = `item ${key} of ${it.spec.name}`;
  const s = decode(ctx.report, 'CHK_ITEM_VALUE', what, () => codec.read(view, valOff));
  if (s !== null && !isExact(codec, s, view, valOff)) {
    ctx.report.finding('CHK_ITEM_VALUE', `${what} has padding that is not zero`, { key, blkno });
  }
  return s;
}
