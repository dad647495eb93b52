/**
 * Cross checks between items that lie far apart, in fixed memory.
 *
 * Much of what must agree in a volume is stored in different orders: an index
 * item and its inode, a directory entry and its link backref, a free extent in
 * two indexes. Instead of remembering one side until the other comes by, each
 * side adds the hash of what it saw to a sum, once with a plus and once with a
 * minus; where all agree the sums are zero at the end. Hashes are spread over
 * partitions. Only when some are not zero are the items walked once more, and
 * then exactly those in the uneven partitions are remembered and compared.
 *
 *   first walk   put() sums            -> uneven partitions, usually none
 *   second walk  put() collects those  -> `mismatches` names each odd one out
 *
 * Search entries cancel in pairs, so their sums are exclusive ors; the entries
 * are the plus side, of which only an odd number counts.
 */
import { keyText } from './keys.js';
import type { MemoryBudget } from './memory.js';

/** What is matched against what; the sign is that of the first mentioned. */
export const MATCHES = ['index/inode', 'orphan/inode', 'dirent/readdir', 'readdir/backref',
  'indx/xattr', 'srch/xattr', 'blkno/order'] as const;
export type Match = (typeof MATCHES)[number];

const PARTITIONS = 4096;
const PARTITION_SHIFT = 20;
/** Rough cost of one remembered element. */
const ELEMENT_BYTES = 400;
/** More mismatches than anyone reads. */
const ELEMENTS_MAX = 100000;

/** One element that has no partner. */
export interface Mismatch {
  match: Match;
  /** Sign of the side that has it. */
  sign: 1 | -1;
  /** The number given with it: a directory, an inode or an allocator. */
  owner: number;
  /** The bytes that were matched. */
  bytes: Uint8Array;
  /** Key of the item it came from. */
  key: string;
}

interface Element extends Mismatch {
  plus: number;
  minus: number;
}

const isParity = (m: Match): boolean => m === 'srch/xattr';

export class Ledger {
  private readonly sums = new Uint32Array(MATCHES.length * PARTITIONS * 2);
  private collected: Map<string, Element> | null = null;
  /** Some elements were not remembered; the mismatches that are named are still exact. */
  truncated = false;

  constructor(private readonly memory: MemoryBudget) {}

  /**
   * Adds what one side saw: `len` bytes at `off` with a number.
   * @param keyOff where in `keyView` the key of the item lies, for messages; -1 for none
   */
  put(match: Match, sign: 1 | -1, owner: number, v: DataView, off: number, len: number,
    keyView: DataView, keyOff: number): void {
    const m = MATCHES.indexOf(match);
    let a = (owner ^ Math.imul(m + 1, 0x9e3779b1)) | 0;
    let b = (Math.floor(owner / 0x100000000) + owner * 7 + m) | 0;
    let i = 0;
    for (; i + 4 <= len; i += 4) {
      const w = v.getInt32(off + i, true);
      a = Math.imul(a ^ w, 0x85ebca6b);
      a ^= a >>> 13;
      b = Math.imul(((b << 15) | (b >>> 17)) ^ w, 0xc2b2ae35) + 0x3c6ef372;
    }
    for (; i < len; i++) {
      a = Math.imul(a ^ v.getUint8(off + i), 0x01000193);
      b = Math.imul(b + v.getUint8(off + i) + 1, 0x5bd1e995);
    }
    a = mix(a ^ len);
    b = mix(b ^ a);
    const at = (m * PARTITIONS + (a >>> PARTITION_SHIFT)) * 2;
    if (this.collected === null) this.sum(match, sign, at, a, b);
    else if (this.isUneven(at)) this.collect(match, sign, owner, v, off, len, keyView, keyOff);
  }

  /** True if a second walk is needed to find out what does not match. */
  get uneven(): boolean {
    return this.sums.some((s) => s !== 0);
  }

  /** Starts the second walk. */
  startCollecting(): void {
    this.collected = new Map();
  }

  get collecting(): boolean {
    return this.collected !== null;
  }

  /** After the second walk: everything without a partner. */
  mismatches(): Mismatch[] {
    const odd: Mismatch[] = [];
    for (const e of this.collected?.values() ?? []) {
      const net = (isParity(e.match) ? e.plus % 2 : e.plus) - e.minus;
      if (net !== 0) odd.push({ ...e, sign: net > 0 ? 1 : -1 });
    }
    return odd;
  }

  private sum(match: Match, sign: 1 | -1, at: number, a: number, b: number): void {
    const s = this.sums;
    if (isParity(match)) {
      s[at] = (s[at] ?? 0) ^ a;
      s[at + 1] = (s[at + 1] ?? 0) ^ b;
    } else {
      s[at] = (s[at] ?? 0) + sign * (a >>> 0);
      s[at + 1] = (s[at + 1] ?? 0) + sign * (b >>> 0);
    }
  }

  private isUneven(at: number): boolean {
    return this.sums[at] !== 0 || this.sums[at + 1] !== 0;
  }

  private collect(match: Match, sign: 1 | -1, owner: number, v: DataView, off: number,
    len: number, keyView: DataView, keyOff: number): void {
    const all = this.collected;
    if (all === null) return;
    const bytes = new Uint8Array(v.buffer, v.byteOffset + off, len).slice();
    const id = `${match} ${owner} ${Buffer.from(bytes).toString('latin1')}`;
    let e = all.get(id);
    if (e === undefined) {
      // Once one is left out all new ones are, so no partner of a remembered one is missed.
      this.truncated ||= all.size >= ELEMENTS_MAX || !this.memory.tryCharge(ELEMENT_BYTES);
      if (this.truncated) return;
      e = { match, sign, owner, bytes, key: keyOff < 0 ? '' : keyText(keyView, keyOff),
        plus: 0, minus: 0 };
      all.set(id, e);
    }
    if (sign > 0) e.plus++;
    else e.minus++;
  }
}

function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
