/**
 * The counter table: upstream's names, all distinct, and counting.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Core } from '../../host/core/core.js';
import { CORE_COUNTERS } from '../../host/core/core_counters.js';
import { realRandom } from '../../host/env/random.js';
import { C, COUNTER_NAMES, Counters, OWN_START } from '../../host/observe/counters.js';
import { repoDir, skipWithoutSpec, specDir } from '../lib/shared.js';

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

t.test('the core keeps its counters in the order in which the host reads them', async (t) => {
  const text = readFileSync(join(repoDir, 'assembly', 'count.ts'), 'utf8');
  const names = [...text.matchAll(/^export const N_(\w+): i32 = (\d+);$/gm)];
  t.same(names.map((m) => m[1]?.toLowerCase()), CORE_COUNTERS);
  t.same(names.map((m) => Number(m[2])), CORE_COUNTERS.map((_, i) => i));
  t.match(text, `memory.data(${CORE_COUNTERS.length * 8}, 8)`, 'room for all');
});

t.test('what the core counts is added once', async (t) => {
  const core = new Core(realRandom, { memoryBytes: 64 << 20 });
  t.not(core.x.itemInit(8 << 20), 0);
  const counters = new Counters();
  core.x.itemInvalidate();
  core.addCounts(counters);
  t.equal(counters.get('item_invalidate'), 1);
  core.addCounts(counters);
  t.equal(counters.get('item_invalidate'), 1, 'nothing new');
  core.x.itemInvalidate();
  core.addCounts(counters);
  t.equal(counters.get('item_invalidate'), 2);
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
