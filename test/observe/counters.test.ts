/**
 * The counter table: upstream's names, all distinct, and counting.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { C, COUNTER_NAMES, Counters, OWN_START } from '../../host/observe/counters.js';
import { skipWithoutSpec, specDir } from '../lib/shared.js';

t.test('names are distinct and indexed in order', async (t) => {
  t.equal(OWN_START, 202, "upstream's counters");
  t.equal(new Set(COUNTER_NAMES).size, COUNTER_NAMES.length);
  t.ok(COUNTER_NAMES.every((name, i) => C[name] === i));
});

t.test("every name of the specification's table, with its prefix", { skip: skipWithoutSpec() },
  async (t) => {
    const text = readFileSync(join(specDir() ?? '', 'cli.md'), 'utf8');
    const section = text.slice(text.indexOf('### 3.4'), text.indexOf('### 3.5'));
    const names = new Set<string>(COUNTER_NAMES.slice(0, OWN_START));
    let seen = 0;
    for (const line of section.split('\n')) {
      const m = /^\| [^|]+ \| (?:`(\w+)`)? *\| (\d+) \| (.*) \|$/.exec(line);
      for (const name of m?.[3]?.split(' ') ?? []) {
        t.ok(names.has((m?.[1] ?? '') + name), (m?.[1] ?? '') + name);
        seen++;
      }
    }
    t.equal(seen, OWN_START);
  });

t.test('counting', async (t) => {
  const a = new Counters();
  a.inc(C.trans_commit_timer);
  a.inc(C.trans_commit_timer);
  a.add(C.fuse_read_bytes, 4096);
  t.equal(a.get('trans_commit_timer'), 2);
  const b = new Counters();
  b.inc(C.trans_commit_timer);
  b.addSnapshot(a.snapshot());
  t.equal(b.get('trans_commit_timer'), 3);
  t.same([...b.entries(false)].filter(([, v]) => v !== 0), [['trans_commit_timer', 3]]);
  t.same([...b.entries(true)].filter(([, v]) => v !== 0),
    [['trans_commit_timer', 3], ['fuse_read_bytes', 4096]]);
});
