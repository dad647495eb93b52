/**
 * The fuzzer of volumes in its short form, and whether it would see what it is there to see.
 * The long form is part of scripts/nightly.
 */
import t from 'tap';
import { CRC_INIT, crc32c } from '../../host/core/crc32c.js';
import { BtreeItem, Inode, LogTrees, SuperBlock } from '../../host/core/format.js';
import { checkVolume } from '../../host/disk/check.js';
import { seeded } from '../lib/core.js';
import { Victim } from '../lib/damage.js';
import { nightly } from '../lib/mounted.js';
import { OverlayDevice } from '../lib/overlay.js';
import { makeBases } from './bases.js';
import { fieldsOf } from './fields.js';
import { damageVolume } from './mutate.js';
import { WriteOracle } from './oracle.js';
import { fuzzVolumes, totalsText } from './volumes.js';

const SHORT_CASES = 80;
const LONG_CASES = 20_000;
/** A read that no commit could make room for, and block 0 in a list of free blocks. */
const ONCE_FAILED = [698, 868];
const BLOCK = 65536;

const made = makeBases();

t.setTimeout(nightly() ? 8 * 3600 * 1000 : 300_000);

t.test('volumes survive damage', async (t) => {
  const count = nightly() ? LONG_CASES : SHORT_CASES;
  const totals = await fuzzVolumes(1, count, (line) => { t.comment(line); });
  t.same(totals.failures, []);
  t.comment(totalsText(totals));
  t.equal(totals.cases, count, 'all of them');
  t.ok(totals.withFindings > totals.cases / 2, 'most of the damage is seen by check');
  t.ok(totals.mounted > totals.cases / 4, 'many are mounted all the same');
});

t.test('volumes that once hung a mount or led it astray', async (t) => {
  for (const seed of ONCE_FAILED) {
    t.same((await fuzzVolumes(seed, 1, (line) => { t.comment(line); })).failures, [], `${seed}`);
  }
});

t.test('the fields of a structure', (t) => {
  const at = (codec: Parameters<typeof fieldsOf>[0], name: string): [number, number][] =>
    fieldsOf(codec).filter((f) => f.name === name).map((f) => [f.off, f.len]);
  t.same(at(Inode, 'nlink'), [[72, 4]]);
  t.same(at(Inode, 'uid'), [[76, 4]]);
  t.same(at(BtreeItem, 'valLen'), [[50, 2]]);
  t.same(at(LogTrees, 'dataAvail.root.ref.blkno'), [[120, 8]]);
  t.same(at(SuperBlock, 'nextIno'), [[80, 8]]);
  t.same(at(BtreeItem, 'padding'), [[7, 1], [35, 5], [53, 3]]);
  t.equal(fieldsOf(SuperBlock).reduce((n, f) => n + f.len, 0), SuperBlock.size, 'all bytes');
  t.end();
});

t.test('bases and damage', async (t) => {
  const bases = await made;
  for (const b of bases) {
    t.same((await checkVolume(b.meta, b.data)).findings, [], `${b.name} is sound`);
  }
  const kinds = new Set(bases.flatMap((b) => b.map.kinds));
  for (const kind of ['super', 'quorum', 'log parent', 'fs leaf item', 'log inode', 'fs symlink',
    'fs quota rule', 'alloc list', 'bloom', 'clients client', 'log_merge merge request',
    'freeing parent', 'srch parent', 'srch block', 'srch compaction', 'data_avail leaf']) {
    t.ok(kinds.has(kind), kind);
  }
  let changed = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const base = bases[seed % bases.length];
    if (base === undefined) continue;
    const run = (): { v: Victim; lines: string[] } => {
      const v = new Victim(new OverlayDevice(base.meta), new OverlayDevice(base.data));
      return { v, lines: damageVolume(v, base.map, seeded(seed)) };
    };
    const { v, lines } = run();
    t.same(run().lines, lines, `seed ${seed} does the same again`);
    if ((await checkVolume(v.meta, v.data)).findings.length > 0) changed += 1;
    const sealed = new Uint8Array(4096);
    v.meta.readSync(BLOCK, sealed);
    t.equal(new DataView(sealed.buffer).getUint32(0, true), crc32c(CRC_INIT, sealed.subarray(4)),
      'the super block is sealed');
  }
  t.ok(changed > 20, `check finds ${changed} of 40`);
});

t.test('the oracle sees writes outside of the rules', async (t) => {
  const base = (await made)[0];
  if (base === undefined) throw new Error('no base');
  const meta = base.meta.copy();
  const data = base.data.copy();
  const v = new Victim(new OverlayDevice(meta), new OverlayDevice(data));
  const inUse = v.sb().fsRoot.ref.blkno;
  const free = v.allocMeta();
  const oracle = new WriteOracle(meta, data);
  meta.writeSync(free * BLOCK, new Uint8Array(BLOCK));
  t.same(oracle.violations, [], 'a free block may be written');
  meta.writeSync(inUse * BLOCK, new Uint8Array(BLOCK));
  meta.writeSync(15 * 4096, new Uint8Array(4096));
  data.writeSync(16 * 4096, new Uint8Array(4096));
  meta.writeSync(BLOCK, new Uint8Array(4096));
  t.match(oracle.violations, [/is not free/, /small metadata block 15/, /outside of the volume/,
    /fsid of the super block changes/]);
  oracle.end();
});
