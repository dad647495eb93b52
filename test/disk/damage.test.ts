/**
 * Every kind of damage is named.
 *
 * Each case takes a sound volume under an overlay, breaks one rule with all
 * checksums made again, and says exactly which kinds of findings must come out:
 * the one that is meant, and those that follow from it. A kind of damage that no
 * case produces fails the last test.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { KINDS, checkVolume } from '../../host/disk/check.js';
import type { CheckReport, FindingId } from '../../host/disk/check.js';
import type { Device } from '../../host/env/device.js';
import { openDevice } from '../../host/env/device.js';
import { skipWithoutFixtures, tempDir, unpackFixture } from '../lib/shared.js';
import { Victim } from '../lib/damage.js';
import type { Case } from '../lib/damage.js';
import { OverlayDevice } from '../lib/overlay.js';
import { addCompactions, addFreeing, addMerge, enrich } from '../lib/rich.js';
import type { Rich } from '../lib/rich.js';
import { BLOCK_CASES, SUPER_CASES } from './damage-blocks.js';
import { FREEING_CASES, FREE_CASES, LOG_CASES, MERGE_CASES, SRCH_CASES } from './damage-server.js';
import { FS_CASES } from './damage-fs.js';

/** Kinds that need conditions a case cannot make from a volume alone. */
const NOT_FROM_DAMAGE: FindingId[] = ['CHK_INTERNAL', 'CHK_BLOCK_READ'];

t.test('damage', { skip: skipWithoutFixtures(), jobs: 1 }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-damage');
  const open: Device[] = [];
  t.teardown(async () => {
    for (const d of open) await d.close();
    remove();
  });
  const load = async (name: string): Promise<Victim> => {
    mkdirSync(join(dir, name));
    const paths = unpackFixture(name, join(dir, name));
    const meta = await openDevice(paths.meta, { readOnly: true });
    const data = await openDevice(paths.data, { readOnly: true });
    open.push(meta, data);
    return new Victim(new OverlayDevice(meta), new OverlayDevice(data));
  };
  const check = (v: Victim): Promise<CheckReport> => checkVolume(v.meta, v.data);
  const seen = new Set<FindingId>();

  const wire = await load('wire-two-nodes');
  const rich = enrich(wire);
  const crash = await load('dirty-crash');
  const none: Rich = { file: 0, link: 0, fifo: 0, dir: 0, subdir: 0, orphan: 0, blkno: 0 };
  const merging = wire.fork();
  addMerge(merging);
  const freeing = wire.fork();
  addFreeing(freeing);
  const compacting = wire.fork();
  addCompactions(compacting);

  const groups: [name: string, v: Victim, r: Rich, cases: Case[]][] = [
    ['super blocks', wire, rich, SUPER_CASES], ['blocks', wire, rich, BLOCK_CASES],
    ['file system', wire, rich, FS_CASES], ['free space', wire, rich, FREE_CASES],
    ['log trees of a crashed mount', crash, none, LOG_CASES],
    ['merges', merging, rich, MERGE_CASES], ['freeing', freeing, rich, FREEING_CASES],
    ['srch files', compacting, rich, SRCH_CASES],
  ];
  for (const [name, base, r, cases] of groups) {
    await t.test(name, async (t) => {
      const clean = await check(base);
      t.same(clean.findings, [], 'sound before');
      for (const c of cases) {
        const v = base.fork();
        c.hurt(v, r);
        const report = await check(v);
        const list = c.note === true ? report.notes : report.findings;
        const ids = [...new Set(list.map((f) => f.id))].sort();
        ids.forEach((id) => seen.add(id));
        const want = [c.id, ...c.also ?? []].sort();
        if (!t.same(ids, want, `${c.id}: ${c.what}`)) {
          for (const f of list.slice(0, 5)) t.comment(JSON.stringify(f));
        }
      }
    });
  }
  await t.test('every kind of finding has a case', async (t) => {
    const missing = (Object.keys(KINDS) as FindingId[])
      .filter((id) => !seen.has(id) && !KINDS[id].startsWith('note:')
        && !NOT_FROM_DAMAGE.includes(id));
    t.same(missing, []);
  });
});
