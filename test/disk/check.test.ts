/**
 * Volumes written by upstream are clean: no findings, and only the notes that
 * their history explains. Counts are held against upstream's own records of the
 * same volumes (`manifest.jsonl`).
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkVolume } from '../../host/disk/check.js';
import type { CheckReport } from '../../host/disk/check.js';
import { openDevice } from '../../host/env/device.js';
import { fixtureText, skipWithoutFixtures, tempDir, unpackFixture } from '../lib/shared.js';

/** Fixture and the kinds of notes its history leaves. */
const VOLUMES: [name: string, notes: string[]][] = [
  ['empty-v1', []],
  ['empty-v2', []],
  ['empty-3slots', []],
  ['empty-zoned', []],
  ['empty-mounted', []],
  ['small-tree', ['CHK_LOST_MERGE', 'CHK_MERGE_IDLE']],
  ['two-mounts', ['CHK_LOST_MERGE']],
  ['dirty-crash', ['CHK_CLIENT_MOUNTED']],
  ['wire-two-nodes', []],
];

t.test('volumes written by upstream', { skip: skipWithoutFixtures() }, async (t) => {
  const { dir, remove } = tempDir('scoutfs-check');
  t.teardown(remove);
  const reports = new Map<string, CheckReport>();
  for (const [name, notes] of VOLUMES) {
    const sub = join(dir, name);
    mkdirSync(sub);
    const paths = unpackFixture(name, sub);
    const meta = await openDevice(paths.meta, { readOnly: true });
    const data = await openDevice(paths.data, { readOnly: true });
    const steps: [number, number][] = [];
    const r = await checkVolume(meta, data, { onProgress: (...step) => { steps.push(step); } });
    await meta.close();
    await data.close();
    reports.set(name, r);
    t.same(r.findings, [], `${name}: no findings`);
    t.same([...new Set(r.notes.map((n) => n.id))].sort(), notes, `${name}: notes`);
    t.ok(steps.length > 0 && steps.every(([done, total]) => done <= total), `${name}: progress`);
  }
  for (const name of ['small-tree', 'two-mounts']) {
    const lines = fixtureText(name, 'manifest.jsonl.zst').trim().split('\n')
      .map((l) => JSON.parse(l) as { ino: number; type: string });
    const s = reports.get(name)?.summary;
    t.equal(s?.inodes, new Set(lines.map((l) => l.ino)).size, `${name}: inodes`);
    t.equal(s?.entries, lines.length - 1, `${name}: entries`);
    t.equal(s?.freeMetaBlocks === undefined ? 0
      : s.freeMetaBlocks + s.usedMetaBlocks + s.lostMetaBlocks, (s?.metaBlocks ?? 0) - 2,
    `${name}: every metadata block has a place`);
    t.equal((s?.freeDataBlocks ?? 0) + (s?.mappedDataBlocks ?? 0), (s?.dataBlocks ?? 0) - 64,
      `${name}: every data block has a place`);
  }
});
