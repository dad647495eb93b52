/**
 * Shared work that stops in rare places, and is gone on with by whoever asks next.
 *
 * | row of acceptance.md | here |
 * |---|---|
 * | srch-safe-merge-pos | compactions that stop at a block's safe offset |
 * | totl-merge-read (its trigger) | log merges that stop after a leaf |
 *
 * Afterwards every name is there on all mounts, and `check` finds an odd number of entries for
 * each live name and an even one for all others.
 */
import * as fs from 'node:fs';
import { until } from '../lib/clustermounts.js';
import * as c from '../lib/syscalls.js';
import type { Case } from './kit.js';
import { forceMerge, runCases, size, syncAll } from './kit.js';

/** Log files that the server has compacted together, and sorted files likewise. */
const FILES_COMPACTED = 4;
/** Files with NAMES names each in a log file, all different: two leaves in a sorted one. */
const FILES = 100;
const NAMES = 20;
const MERGED_FILES = size(400, 4000);
const PAD = 'srch_compact_logs_pad_safe';
const STOP = 'srch_merge_stop_safe';
const PARTIAL = 'log_merge_force_partial';

function arm(x: Case, trigger: string): void {
  for (const n of x.nodes) fs.writeFileSync(n.control('debug', 'trigger', trigger), '1');
}

/** How many mounts have it armed. */
function armed(x: Case, trigger: string): number {
  return x.nodes.filter((n) => n.show('debug', 'trigger', trigger).trim() === '1').length;
}

function total(x: Case, counter: string): number {
  return x.nodes.reduce((sum, n) => sum + n.counter(counter), 0);
}

/** Mount `nr` fills a log file of its own, and the server takes it. */
async function writeLog(x: Case, nr: number, dir: string): Promise<void> {
  const leader = x.cluster.leader;
  if (leader === null) throw new Error('no leader');
  await x.actor().run('setSrchNames', x.p(nr, dir), FILES, NAMES);
  const rotate = leader.control('debug', 'trigger', 'srch_force_log_rotate');
  fs.writeFileSync(rotate, '1');
  for (let tries = 0; fs.readFileSync(rotate, 'utf8').trim() === '1'; tries++) {
    // a commit without changes does not happen
    c.ok(c.creat(x.p(nr, `${dir}.${tries}`)));
    const fd = c.ok(c.open(x.p(nr), c.O.RDONLY));
    c.ok(c.fsync(fd));
    c.close(fd);
  }
}

runCases('srch', {
  'compactions that stop at a safe offset': async (x) => {
    for (const n of x.nodes) fs.writeFileSync(n.control('srch', 'compact_delay_ms'), '1000');
    arm(x, STOP);
    for (let round = 0; round < FILES_COMPACTED; round++) {
      arm(x, PAD);
      for (let i = 0; i < FILES_COMPACTED; i++) await writeLog(x, i, `r${round}.${i}`);
      await until(() => armed(x, PAD) < x.count, 'a sorted file');
    }
    await until(() => armed(x, STOP) < x.count, 'a merge that stops');
    // each entry is sorted once and merged once
    const entries = 2 * FILES * NAMES * FILES_COMPACTED ** 2;
    await until(() => total(x, 'srch_compact_entry') === entries, 'the rest of it');
    x.t.equal(total(x, 'srch_compact_error'), 0, 'no piece failed');
    const names = Array.from({ length: NAMES }, (_, i) => `scoutfs.srch.r1.2.7.${i}`).sort();
    x.all(names, (nr) => (c.listxattr(x.p(nr, 'r1.2', 'f7')) as string[]).sort(), 'all names');
  },

  'log merges that stop after a leaf': async (x) => {
    await Promise.all(x.actorEach().map((a, nr) =>
      a.run('createMany', x.p(nr), `m${nr}.`, MERGED_FILES)));
    syncAll(x);
    arm(x, PARTIAL);
    const completed = total(x, 'log_merge_complete');
    forceMerge(x);
    await until(() => armed(x, PARTIAL) < x.count, 'a merge that stops');
    await until(() => total(x, 'log_merge_complete') > completed, 'the end of the merge');
    x.all(x.count * (MERGED_FILES + 1), (nr) => fs.readdirSync(x.p(nr)).length,
      'all files are listed');
  },
});
