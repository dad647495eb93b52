/**
 * What df and counters print, without a mount: df of upstream's volumes against what
 * upstream printed, counters of a made-up directory.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { counterLines, readCounters } from '../../host/cli/counters.js';
import { usageLines, usages } from '../../host/cli/df.js';
import type { Pool, StatfsMore } from '../../host/cli/mounted.js';
import { reservedMetaBlocks } from '../../host/server/server.js';
import { fixturesDir, skipWithoutFixtures, tempDir } from '../lib/shared.js';

interface Queries {
  queries: Record<string, { out: string }>;
}

const RESERVED = BigInt(reservedMetaBlocks(1));

function statfs(metaBlocks: bigint, dataBlocks: bigint): StatfsMore {
  return {
    fsid: 1n, rid: 2n, committed_seq: 3n, total_meta_blocks: metaBlocks,
    total_data_blocks: dataBlocks, reserved_meta_blocks: RESERVED,
  };
}

const pool = (meta: boolean, blocks: bigint): Pool => ({ id: 0n, blocks, meta, avail: true });

t.test('df prints what upstream does', { skip: skipWithoutFixtures() }, async (t) => {
  for (const name of ['small-tree', 'two-mounts']) {
    const file = join(fixturesDir() ?? '', name, 'queries.json');
    const { queries } = JSON.parse(readFileSync(file, 'utf8')) as Queries;
    const want = queries['scoutfs df']?.out ?? '';
    const rows = want.split('\n').slice(1).map((l) => l.trim().split(/ +/));
    const [meta, data] = rows.map((r) => ({
      total: BigInt(r[2] ?? 0), free: BigInt(r[4] ?? 0),
    }));
    if (meta === undefined || data === undefined) throw new Error(`no df output in ${file}`);
    t.ok(meta.total > 0n && data.total > 0n, `${name}: the output was understood`);
    const lines = usageLines(usages(statfs(meta.total, data.total),
      [pool(true, meta.free), pool(false, data.free - 1n), pool(true, RESERVED),
        pool(false, 1n)]), false);
    t.equal(`${lines.join('\n')}\n`, want, name);
  }
});

t.test('df at the edges', async (t) => {
  const [meta, data] = usages(statfs(100_000n, 0n), [pool(true, RESERVED - 1n)]);
  t.equal(meta?.free, 0n, 'less than the reserve is nothing');
  t.equal(meta?.percent, 100n);
  t.equal(data?.percent, 0n, 'a volume without data blocks');
  const human = usageLines(usages(statfs(65536n, 1048576n),
    [pool(true, RESERVED + 16384n), pool(false, 524288n)]), true);
  t.same(human, [
    '    Type  Size   Total    Used    Free  Use%  ',
    'MetaData  64KB  4.00GB  3.00GB  1.00GB    75  ',
    '    Data   4KB  4.00GB  2.00GB  2.00GB    50  ',
  ]);
});

t.test('counters', async (t) => {
  const { dir, remove } = tempDir('scoutfs-counters');
  t.teardown(remove);
  mkdirSync(join(dir, 'counters'));
  const put = (name: string, text: string): void => {
    writeFileSync(join(dir, 'counters', name), text);
  };
  put('b_long_name', '7\n');
  put('a', '-12\n');
  put('c', '1234\n');
  const counters = readCounters(dir);
  t.same(counters, [['a', '-12'], ['b_long_name', '7'], ['c', '1234']], 'sorted');
  t.same(counterLines(counters, 0),
    ['a            -12', 'b_long_name    7', 'c           1234']);
  t.same(counterLines(counters, 34),
    ['a            -12  c           1234', 'b_long_name    7'], 'columns fill the width');
  t.equal(counterLines(counters, 33).length, 3, 'and never more');
  t.same(counterLines([], 80), []);
  put('d', 'many\n');
  t.throws(() => readCounters(dir), { code: 'EINVAL' }, 'what is no number');
  t.throws(() => readCounters(join(dir, 'none')),
    { code: 'ENOENT', message: /failed to open '.*none\/counters': No such file/ });
});
