/**
 * Quota rules as the tools write them: `prio val,src,flag val,src,flag val,src,flag op limit
 * flags`, with sources L, P, U, G, flags S, operations I, D and rule flags C. Spec: quota.md 1.
 */
import { QuotaRuleVal } from '../../host/core/format.js';

const SOURCES = 'LPUG';

export function ruleOf(text: string): QuotaRuleVal {
  const [prio = '', a = '', b = '', c = '', op = '', limit = '', flags = ''] = text.split(' ');
  const names = [a, b, c].map((n) => n.split(','));
  return {
    prio: Number(prio), op: 'ID'.indexOf(op), limit: BigInt(limit), ruleFlags: Number(flags === 'C'),
    nameVal: names.map((n) => BigInt(n[0] ?? '')),
    nameSource: Uint8Array.from(names, (n) => SOURCES.indexOf(n[1] ?? '')),
    nameFlags: Uint8Array.from(names, (n) => Number(n[2] === 'S')),
  };
}

export function ruleBytes(rule: QuotaRuleVal): Uint8Array {
  const b = new Uint8Array(QuotaRuleVal.size);
  QuotaRuleVal.write(new DataView(b.buffer), 0, rule);
  return b;
}
