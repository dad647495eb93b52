/**
 * Names what the ledger found without a partner after the second pass.
 *
 * Also decides about inodes that look like left over from a failed creation (one
 * link counted, none there): if index items exist for one, it was linked once, and
 * its link count is wrong; else it is the known leftover.
 */
import { num } from './keys.js';
import type { Context } from './context.js';
import type { Ledger, Match, Mismatch } from './ledger.js';
import type { FindingId } from './report.js';

/** Ids for what only the plus side has, and for what only the minus side has. */
const IDS: Record<Match, readonly [plus: FindingId, minus: FindingId]> = {
  'index/inode': ['CHK_INDEX_STALE', 'CHK_INDEX_MISSING'],
  'orphan/inode': ['CHK_ORPHAN_STALE', 'CHK_INODE_ORPHAN'],
  'dirent/readdir': ['CHK_DIRENT_PAIR', 'CHK_DIRENT_PAIR'],
  'readdir/backref': ['CHK_DIRENT_BACKREF', 'CHK_DIRENT_BACKREF'],
  'indx/xattr': ['CHK_INDX_STALE', 'CHK_INDX_MISSING'],
  'srch/xattr': ['CHK_SRCH_STALE', 'CHK_SRCH_MISSING'],
  'blkno/order': ['CHK_ALLOC_PAIR', 'CHK_ALLOC_PAIR'],
};

const KEY_THIRD = 16;

export function reportMismatches(ctx: Context, ledger: Ledger, leaked: Set<number>): void {
  const fsUnread = ctx.gaps.length > 0;
  const mismatches = ledger.mismatches();
  if (ledger.truncated) {
    ctx.report.finding('CHK_INTERNAL', 'there is more that does not match than can be named');
  }
  for (const m of mismatches) {
    if (fsUnread && m.match !== 'blkno/order') continue;
    if (m.match === 'srch/xattr' && ctx.unreadSrchBlocks > 0) continue;
    if (m.match === 'blkno/order' && ctx.unreadBlocks > 0) continue;
    const v = new DataView(m.bytes.buffer, m.bytes.byteOffset, m.bytes.length);
    if (m.match === 'index/inode' && leaked.has(num(v, KEY_THIRD))) {
      unlinked(ctx, num(v, KEY_THIRD), leaked);
      continue;
    }
    const id = IDS[m.match][m.sign > 0 ? 0 : 1];
    ctx.report.finding(id, message(m, v), m.key === '' ? {} : { key: m.key });
  }
  for (const ino of leaked) {
    ctx.report.note('CHK_INODE_LEAKED',
      `inode ${ino} is left over from a failed creation`, { ino });
  }
}

function unlinked(ctx: Context, ino: number, leaked: Set<number>): void {
  leaked.delete(ino);
  ctx.report.finding('CHK_INODE_NLINK', `inode ${ino} has link count 1, but no links`, { ino });
}

function message(m: Mismatch, v: DataView): string {
  switch (m.match) {
    case 'index/inode':
      return m.sign > 0 ? 'an inode index item does not match its inode'
        : 'an inode is missing from an index';
    case 'orphan/inode':
      return m.sign > 0 ? 'an orphan item names an inode that has links or does not exist'
        : 'an inode without links has no orphan item';
    case 'dirent/readdir':
      return `an entry of directory ${m.owner} for inode ${num(v, 0)} can only be `
        + (m.sign > 0 ? 'looked up, not listed' : 'listed, not looked up');
    case 'readdir/backref':
      return m.sign > 0
        ? `an entry of directory ${m.owner} has no backref at inode ${num(v, 0)}`
        : `inode ${num(v, 0)} has a backref for an entry that directory ${m.owner} does not have`;
    case 'indx/xattr':
      return m.sign > 0 ? 'an xattr index item has no xattr' : 'an xattr is missing from the index';
    case 'srch/xattr':
      return m.sign > 0
        ? `a srch entry counts for xattr ${num(v, 16)} of inode ${num(v, 8)}, which is not there`
        : `xattr ${num(v, 16)} of inode ${num(v, 8)} has no srch entry`;
    case 'blkno/order':
      return `a free extent of ${num(v, 8)} blocks ending at ${num(v, 0)} is only in the index by `
        + (m.sign > 0 ? 'location' : 'size');
  }
}
