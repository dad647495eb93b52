/**
 * Quota rules: which are valid, their order, and which one speaks for an operation.
 *
 * A rule selects operations by up to three attributes and compares one total with a
 * limit. The total's name has three numbers; each is either a literal or one of the
 * attributes of what is created or written. Among all rules that match, the greatest
 * in the order of their fields decides.
 *
 * Source: quota.md 1 and 2; vectors fs-vectors.json → quota_rules.
 */
import type { QuotaRuleVal } from '../core/format.js';
import {
  QUOTA_RULE_TYPE, QUOTA_ZONE, SQ_NF_SELECT, SQ_NS_GID, SQ_NS_LITERAL, SQ_NS_PROJ,
  SQ_NS_UID, SQ_OP__NR, SQ_RF_TOTL_COUNT,
} from '../core/format.js';
import { fnv1a64 } from '../core/hash.js';
import type { WideKey } from '../core/items.js';

/** What the attributes of an operation are: project, user and group. */
export interface QuotaAttrs {
  proj: bigint;
  uid: bigint;
  gid: bigint;
}

/** An operation number that upstream lets in by mistake: such a rule says nothing. */
const OP_IGNORED = SQ_OP__NR;
const NAMES = [0, 1, 2] as const;

/** Whether a rule may be stored, has to be ignored, or is damage. */
export function ruleState(r: QuotaRuleVal): 'valid' | 'ignored' | 'invalid' {
  if (r.op > OP_IGNORED || (r.ruleFlags & ~SQ_RF_TOTL_COUNT) !== 0) return 'invalid';
  const selected = new Map<number, bigint>();
  for (const i of NAMES) {
    const flags = r.nameFlags[i] ?? 0;
    const source = r.nameSource[i] ?? 0;
    const value = r.nameVal[i] ?? 0n;
    if ((flags & ~SQ_NF_SELECT) !== 0) return 'invalid';
    if (flags === 0) continue;
    if (source === SQ_NS_LITERAL || source > SQ_NS_GID) return 'invalid';
    if ((selected.get(source) ?? value) !== value) return 'invalid';
    selected.set(source, value);
  }
  return r.op === OP_IGNORED ? 'ignored' : 'valid';
}

/** Key of a rule's item; `collision` tells rules with equal hashes apart. */
export function ruleKey(value: Uint8Array, collision = 0n): WideKey {
  return { zone: QUOTA_ZONE, first: 0n, type: QUOTA_RULE_TYPE, second: fnv1a64(value),
    third: collision, fourth: 0 };
}

/** Orders rules; the greater one decides. */
export function compareRules(a: QuotaRuleVal, b: QuotaRuleVal): number {
  if (a.prio !== b.prio) return a.prio - b.prio;
  for (const i of NAMES) {
    const av = a.nameVal[i] ?? 0n;
    const bv = b.nameVal[i] ?? 0n;
    if (av !== bv) return av < bv ? -1 : 1;
    const source = (a.nameSource[i] ?? 0) - (b.nameSource[i] ?? 0);
    if (source !== 0) return source;
    const flags = (a.nameFlags[i] ?? 0) - (b.nameFlags[i] ?? 0);
    if (flags !== 0) return flags;
  }
  if (a.op !== b.op) return a.op - b.op;
  if (a.limit !== b.limit) return a.limit < b.limit ? -1 : 1;
  return a.ruleFlags - b.ruleFlags;
}

function attrOf(source: number, attrs: QuotaAttrs): bigint | null {
  switch (source) {
    case SQ_NS_PROJ: return attrs.proj;
    case SQ_NS_UID: return attrs.uid;
    case SQ_NS_GID: return attrs.gid;
    default: return null;
  }
}

export function ruleMatches(r: QuotaRuleVal, op: number, attrs: QuotaAttrs): boolean {
  return r.op === op && NAMES.every((i) => (r.nameFlags[i] ?? 0) === 0
    || attrOf(r.nameSource[i] ?? 0, attrs) === r.nameVal[i]);
}

/** Name of the total that the rule compares. */
export function totalName(r: QuotaRuleVal, attrs: QuotaAttrs): [bigint, bigint, bigint] {
  const part = (i: number): bigint => attrOf(r.nameSource[i] ?? 0, attrs) ?? r.nameVal[i] ?? 0n;
  return [part(0), part(1), part(2)];
}

/** Whether a total's use reaches the limit. A total that does not exist never does. */
export function isOver(r: QuotaRuleVal, total: { total: bigint; count: bigint } | null): boolean {
  if (total === null) return false;
  return ((r.ruleFlags & SQ_RF_TOTL_COUNT) !== 0 ? total.count : total.total) >= r.limit;
}
