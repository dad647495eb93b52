/**
 * Quotas: whether rules allow to create an inode or to write data.
 *
 * Rules are exact: the whole set is read under QUOTA R and dropped when that lock can no
 * longer be read. Totals are not: they are read weakly, without locks, so that creations
 * on different mounts do not wait for each other, and answers are kept for five seconds.
 *
 *   unknown --read under QUOTA R, in one tick--> empty | rules
 *   empty | rules --lock lost, rules changed--> unknown, and all answers forgotten
 *
 * Upstream has one more state, "being read", because its reader sleeps. Here a reader
 * that has to wait for items starts over, and publishes in the tick in which it has
 * found everything cached under the lock; so no stale set can be published and a
 * change of rules on this mount only has to call `drop` in its own tick.
 *
 * With a set that is known to be empty a check is one comparison. Volumes of version 1
 * have no rules. Source: quota.md 2 to 4.
 */
import {
  FORMAT_VERSION_FEAT_QUOTA, QUOTA_RULE_TYPE, QUOTA_ZONE, QuotaRuleVal,
} from '../core/format.js';
import type { Items, WideKey } from '../core/items.js';
import { ABSENT } from '../core/items.js';
import type { Clock } from '../env/clock.js';
import type { Op } from '../mount/op.js';
import { Wait } from '../mount/op.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { InodeRec } from './inode_item.js';
import { compareRules, isOver, ruleMatches, ruleState, totalName } from './quota_rule.js';
import type { QuotaAttrs } from './quota_rule.js';

/** Answers are used for this long. */
const RESULT_AGE_MAX_MS = 5000;
/** Answers kept; one for each combination of attributes in use. */
const RESULTS_MAX = 10_000;
/** A set with more rules is not a set that anyone made. */
const RULES_MAX = 100_000;
const U64_MAX = (1n << 64n) - 1n;
const FIRST: WideKey = {
  zone: QUOTA_ZONE, first: 0n, type: QUOTA_RULE_TYPE, second: 0n, third: 0n, fourth: 0,
};
const LAST: WideKey = { ...FIRST, second: U64_MAX, third: U64_MAX, fourth: 255 };

/** Sums of xattrs, weakly consistent; implemented by `host/mount/totl.ts`. */
export interface TotalSource {
  read(name: readonly [bigint, bigint, bigint]):
  Promise<{ total: bigint; count: bigint } | null>;
}

/** What checks need of the file system. */
interface QuotaContext {
  readonly items: Items;
  readonly clock: Clock;
  readonly formatVersion: number;
}

interface Result {
  over: boolean;
  atMs: number;
}

export class Quotas {
  readonly stats = { ruleReads: 0, totalReads: 0 };
  /** The greatest first; null: not known. */
  private rules: readonly QuotaRuleVal[] | null = null;
  private empty = false;
  private readonly results = new Map<string, Result>();
  private readonly asking = new Map<string, Promise<void>>();
  private generation = 0;

  constructor(private readonly cx: QuotaContext, private readonly totals: TotalSource) {
    this.drop();
  }

  /** The rules may have changed: the lock is going, or this mount changed them in this tick. */
  drop(): void {
    this.rules = null;
    this.empty = this.cx.formatVersion < FORMAT_VERSION_FEAT_QUOTA;
    this.dropResults();
  }

  /** Forgets the answers, but not the rules. */
  dropResults(): void {
    this.results.clear();
    this.asking.clear();
    this.generation += 1;
  }

  /**
   * Whether `inode`, which is to be made or written to, may grow. In the look part, under
   * the I() locks. `quotaOp`: SQ_OP_INODE or SQ_OP_DATA. @throws Wait, EDQUOT, EIO
   */
  check(op: Op, quotaOp: number, inode: InodeRec): void {
    if (this.empty) return;
    const { projHi, projLo, uid, gid } = inode;
    const name = `${quotaOp} ${projHi} ${projLo} ${uid} ${gid}`;
    const known = this.results.get(name);
    if (known !== undefined && this.age(known) < RESULT_AGE_MAX_MS) {
      if (known.over) throw errnoError('EDQUOT');
      return;
    }
    const rules = this.rules ?? this.readRules(op);
    if (rules.length === 0) return;
    const attrs = {
      proj: (BigInt(projHi) << 32n) | BigInt(projLo), uid: BigInt(uid), gid: BigInt(gid),
    };
    const rule = rules.find((r) => ruleMatches(r, quotaOp, attrs));
    if (rule === undefined) this.keep(name, false);
    else throw new Wait(this.ask(name, rule, attrs));
  }

  private age(r: Result): number {
    return this.cx.clock.monotonicMs() - r.atMs;
  }

  private keep(name: string, over: boolean): void {
    this.results.delete(name);
    const [oldest] = this.results.keys();
    if (this.results.size >= RESULTS_MAX && oldest !== undefined) this.results.delete(oldest);
    this.results.set(name, { over, atMs: this.cx.clock.monotonicMs() });
  }

  /** Reads the total and keeps the answer, unless the rules have gone meanwhile. */
  private ask(name: string, rule: QuotaRuleVal, attrs: QuotaAttrs): Promise<void> {
    const running = this.asking.get(name);
    if (running !== undefined) return running;
    const { generation } = this;
    this.stats.totalReads += 1;
    const p = this.totals.read(totalName(rule, attrs)).then((total) => {
      if (this.generation === generation) this.keep(name, isOver(rule, total));
    }).finally(() => { if (this.asking.get(name) === p) this.asking.delete(name); });
    this.asking.set(name, p);
    return p;
  }

  /** @throws Wait, EIO for a damaged rule */
  private readRules(op: Op): readonly QuotaRuleVal[] {
    const lock = op.lockQuota();
    const { items } = this.cx;
    const rules: QuotaRuleVal[] = [];
    let at: WideKey | null = FIRST;
    while (at !== null) {
      const len = items.nextWide(lock, at, LAST);
      if (len === ABSENT) break;
      const key = items.found.wide();
      if (len !== QuotaRuleVal.size) throw damaged(key, `has ${len} bytes`);
      const rule = QuotaRuleVal.read(items.val, 0);
      const state = ruleState(rule);
      if (state === 'invalid') throw damaged(key, 'is not valid');
      if (state === 'valid') rules.push(rule);
      if (rules.length > RULES_MAX) throw errnoError('ENOMEM', 'too many quota rules');
      at = after(key);
    }
    rules.sort((a, b) => compareRules(b, a));
    this.stats.ruleReads += 1;
    this.rules = rules;
    this.empty = rules.length === 0;
    return rules;
  }
}

/** The next key: the collision number counts up, and carries into the hash. */
function after(key: WideKey): WideKey | null {
  if (key.third < U64_MAX) return { ...FIRST, second: key.second, third: key.third + 1n };
  return key.second < U64_MAX ? { ...FIRST, second: key.second + 1n } : null;
}

function damaged(key: WideKey, what: string): ScoutfsError {
  return new ScoutfsError('QUOTA_RULE', 'EIO', {
    message: `the quota rule with hash ${key.second}, number ${key.third} ${what}`,
  });
}
