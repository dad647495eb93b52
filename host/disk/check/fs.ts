/**
 * The resolved file system: every item once, in key order.
 *
 * Zones come in this order: inode indexes, orphans, quota rules, totals, xattr
 * index, then the inodes. What the first ones claim about inodes goes into the
 * ledger and the table of totals; the inodes then answer for it.
 */
import { FS_ZONE, INODE_INDEX_ZONE, ORPHAN_ZONE, QUOTA_ZONE, SQ_NS_LITERAL, SQ_NS__NR, SQ_OP__NR,
  SQ_RF_TOTL_COUNT, SQ_NF_SELECT, XATTR_INDX_ZONE, XATTR_TOTL_ZONE, QuotaRuleVal }
  from '../../core/format.js';
import { fnv1a64 } from '../../core/hash.js';
import type { Context } from './context.js';
import { DirTree } from './dir.js';
import { Forest } from './forest.js';
import { InodeCheck } from './inode.js';
import { KEY_BYTES, bytesAt, keyText } from './keys.js';
import type { LogTree } from './logs.js';
import { TotalTable } from './totl.js';

/** What the walk of the inodes found. */
export interface FsResult {
  liveInodes: number;
  /** Inode numbers that look like left over from failed creations. */
  leaked: Set<number>;
  /** Parent of each linked directory. */
  parents: ReadonlyMap<number, number>;
}

/** @param inputSeq finalized logs below it are inputs of the running merge */
export function checkFs(ctx: Context, logs: LogTree[], inputSeq: number): FsResult {
  const dirs = new DirTree(ctx);
  const totals = new TotalTable(ctx);
  const inodes = new InodeCheck(ctx, dirs, totals);
  const quota = new QuotaCheck(ctx);
  const forest = new Forest(ctx, logs, inputSeq);
  while (forest.next()) {
    const c = forest.current;
    const { view: v, keyOff: k } = c;
    switch (v.getUint8(k + 25)) {
      case INODE_INDEX_ZONE: ctx.ledger.put('index/inode', 1, 0, v, k, KEY_BYTES, v, k); break;
      case ORPHAN_ZONE: ctx.ledger.put('orphan/inode', 1, 0, v, k, KEY_BYTES, v, k); break;
      case QUOTA_ZONE: quota.rule(v, k, c.valOff); break;
      case XATTR_TOTL_ZONE: totals.addStored(c.key, forest.total, forest.count); break;
      case XATTR_INDX_ZONE: ctx.ledger.put('indx/xattr', 1, 0, v, k, KEY_BYTES, v, k); break;
      case FS_ZONE: inodes.item(v, k, c.valOff, c.valLen); break;
    }
  }
  inodes.finish();
  if (ctx.gaps.length === 0) {
    totals.finish();
    dirs.finish();
    if (!inodes.sawRoot) ctx.report.finding('CHK_DIR_NO_ROOT', 'there is no root directory');
  }
  return { liveInodes: inodes.liveInodes, leaked: inodes.leaked,
    parents: dirs.parents };
}

/** Quota rules, in the order of their hashes. */
class QuotaCheck {
  constructor(private readonly ctx: Context) {}

  rule(v: DataView, k: number, o: number): void {
    const hash = fnv1a64(bytesAt(v, o, QuotaRuleVal.size));
    const r = QuotaRuleVal.read(v, o);
    const problem = v.getBigUint64(k + 8, true) !== hash
      ? 'is stored under another hash than its own' : this.problem(r, v, o);
    if (problem === '') return;
    this.ctx.report.finding('CHK_QUOTA_RULE', `a quota rule ${problem}`, { key: keyText(v, k) });
  }

  private problem(r: QuotaRuleVal, v: DataView, o: number): string {
    if (r.op >= SQ_OP__NR) return `has operation ${r.op}`;
    if ((r.ruleFlags & ~SQ_RF_TOTL_COUNT) !== 0) return `has flags ${r.ruleFlags}`;
    for (let i = 41; i < QuotaRuleVal.size; i++) {
      if (v.getUint8(o + i) !== 0) return 'has padding that is not zero';
    }
    const selected = new Map<number, bigint>();
    for (let i = 0; i < 3; i++) {
      const source = r.nameSource[i] ?? 0;
      const flags = r.nameFlags[i] ?? 0;
      const val = r.nameVal[i] ?? 0n;
      if (source >= SQ_NS__NR || (flags & ~SQ_NF_SELECT) !== 0
        || (flags !== 0 && source === SQ_NS_LITERAL)) {
        return `has name part ${i} with source ${source} and flags ${flags}`;
      }
      if (flags === 0) continue;
      if ((selected.get(source) ?? val) !== val) return 'selects two values of one attribute';
      selected.set(source, val);
    }
    return '';
  }
}
