/**
 * The fuzzer of protocols in its short form. The long form, a million messages of each side,
 * is part of scripts/nightly.
 */
import t from 'tap';
import { nightly } from '../lib/mounted.js';
import { SIDE_NAMES, fuzzWire, totalsText } from './wire.js';

/** Cases, some thousand messages in all; and a million of each side. */
const SHORT: Readonly<Record<string, number>> = { server: 2, client: 2, quorum: 1 };
const LONG: Readonly<Record<string, number>> = { server: 800, client: 700, quorum: 260 };

t.setTimeout(nightly() ? 8 * 3600 * 1000 : 300_000);

for (const side of SIDE_NAMES) {
  t.test(`hostile to: ${side}`, async (t) => {
    const count = (nightly() ? LONG : SHORT)[side] ?? 0;
    const totals = await fuzzWire(side, 1, count, (line) => { t.comment(line); });
    t.same(totals.failures, []);
    t.comment(totalsText(side, totals));
    t.equal(totals.cases, count, 'all of them');
    t.ok(totals.messages > count * 200, `${totals.messages} messages`);
    t.ok(totals.refused + totals.closed > totals.messages / 50, 'many are refused');
  });
}
