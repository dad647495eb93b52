/**
 * Reading xattr totals: sums that every mount adds to and nobody reads coherently.
 * A total is up to some ten seconds old. Source: xattr.md 8, item.md part 2.
 */
import { XATTR_TOTL_ZONE, XattrTotlVal } from '../core/format.js';
import { makeKey, xattrTotlLockRange } from '../core/keys.js';
import { decode } from '../net/messages.js';
import type { WeakItems } from './wkic.js';

export class Totals {
  constructor(private readonly items: WeakItems) {}

  /** The total named (a, b, c), null when nothing counts into it. @throws EIO */
  async read(name: readonly [bigint, bigint, bigint]): Promise<XattrTotlVal | null> {
    const [first, second, third] = name;
    const val = await this.items.lookup(xattrTotlLockRange().start,
      makeKey({ zone: XATTR_TOTL_ZONE, first, second, third }));
    return val === null ? null : decode(XattrTotlVal, val);
  }
}
