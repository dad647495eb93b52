/**
 * Xattr totals: what is stored against what the xattrs add up to.
 *
 * There are as many totals as distinct `totl.` keys, which are few beside the
 * xattrs, so they are kept in a table. The stored sums come first (zone 12 sorts
 * before the inodes); each xattr is then taken off. Spec: xattr.md 8.
 */
import type { Context } from './context.js';

/** Rough cost of one table entry. */
const TOTAL_BYTES = 300;

interface Sums {
  total: bigint;
  count: bigint;
}

export class TotalTable {
  private readonly sums = new Map<string, Sums>();

  constructor(private readonly ctx: Context) {}

  /** @param key text form of the total's key */
  addStored(key: string, total: bigint, count: bigint): void {
    const s = this.entry(key);
    s.total += total;
    s.count += count;
  }

  addXattr(key: string, value: bigint): void {
    const s = this.entry(key);
    s.total -= value;
    s.count -= 1n;
  }

  finish(): void {
    for (const [key, s] of this.sums) {
      const total = BigInt.asIntN(64, s.total);
      const count = BigInt.asIntN(64, s.count);
      if (total === 0n && count === 0n) continue;
      this.ctx.report.finding('CHK_TOTL',
        `a total differs from its xattrs by ${total}, its count by ${count}`, { key });
    }
  }

  private entry(key: string): Sums {
    let s = this.sums.get(key);
    if (s === undefined) {
      this.ctx.memory.charge(TOTAL_BYTES, 'the table of xattr totals');
      s = { total: 0n, count: 0n };
      this.sums.set(key, s);
    }
    return s;
  }
}
