/**
 * Reading totals without locks: what a sample of the trees adds up to, how long it is
 * used, and what happens when its blocks have been replaced.
 */
import t from 'tap';
import { BtreeRoot, SuperBlock } from '../../host/core/format.js';
import type { WideKey } from '../../host/core/items.js';
import { Rec } from '../../host/core/trees.js';
import { Totals } from '../../host/mount/totl.js';
import { WeakItems } from '../../host/mount/wkic.js';
import { ScoutfsError, asScoutfsError } from '../../host/observe/errors.js';
import { ForestSpace } from '../lib/forest_space.js';
import type { TreeItem } from '../lib/forest_space.js';
import { SimClock } from '../lib/simclock.js';
import { keyBytes } from '../lib/treespace.js';

const TOTL_ZONE = 12;
const MERGE_STATUS_ZONE = 44;
const WRITE_ONLY = 3;
const ONES = 2n ** 64n - 1n;
const NAME: readonly [bigint, bigint, bigint] = [1n, 2n, 3n];

function totlKey([first, second, third]: readonly [bigint, bigint, bigint]): WideKey {
  return { zone: TOTL_ZONE, first, type: 0, second, third, fourth: 0 };
}

function item(total: number, count: number, seq: number, name = NAME): TreeItem {
  const val = new Uint8Array(16);
  const v = new DataView(val.buffer);
  v.setBigInt64(0, BigInt(total), true);
  v.setBigInt64(8, BigInt(count), true);
  return { key: totlKey(name), seq, deletion: false, val };
}

/** A volume of trees in memory, its super block, and readers of it. */
class Fixture {
  readonly f = new ForestSpace();
  readonly clock = new SimClock();
  readonly logMerge = new Rec(this.f.core, BtreeRoot.size);
  readonly lock = this.f.lock({ ...totlKey([0n, 0n, 0n]) },
    { ...totlKey([ONES, ONES, ONES]), type: 255, fourth: 255 }, WRITE_ONLY, 5);
  /** What the device answers; a new one with each `commit`. */
  sb: SuperBlock = SuperBlock.read(new DataView(new ArrayBuffer(SuperBlock.size)), 0);
  /** Errors that the next reads of the super block end with. */
  readonly errors: ScoutfsError[] = [];
  readonly weak = new WeakItems({
    core: this.f.core, clock: this.clock,
    readSuper: () => {
      const e = this.errors.shift();
      return e === undefined ? Promise.resolve(this.sb) : Promise.reject(e);
    },
  });
  readonly totals = new Totals(this.weak);

  async commit(): Promise<void> {
    await this.f.commit();
    const root = (rec: Rec): BtreeRoot => BtreeRoot.read(this.f.core.view, rec.ptr);
    this.sb = { ...this.sb, fsRoot: root(this.f.fsRoot), logsRoot: root(this.f.logsRoot),
      logMerge: root(this.logMerge) };
  }

  async total(name = NAME): Promise<string> {
    const v = await this.totals.read(name).catch((e: unknown) => asScoutfsError(e).errno);
    return typeof v === 'string' ? v : v === null ? 'none' : `${v.total} ${v.count}`;
  }

  async setMerge(val: Uint8Array): Promise<void> {
    await this.f.s.space.force(this.logMerge.ptr, keyBytes(MERGE_STATUS_ZONE, 0, 0), val);
  }
}

function status(seq: number): Uint8Array {
  const b = new Uint8Array(56);
  new DataView(b.buffer).setBigUint64(48, BigInt(seq), true);
  return b;
}

void t.test('totals of all trees, five seconds old at most', async (t) => {
  const x = new Fixture();
  await x.f.fsItems([item(100, 2, 5), item(7, 1, 5, [9n, 9n, 9n])]);
  await x.f.addLog({ rid: 1n, nr: 1, blooms: [x.lock], items: [item(20, 1, 10)] });
  await x.commit();
  t.equal(await x.total(), '120 3');
  t.equal(await x.total([9n, 9n, 9n]), '7 1');
  t.equal(await x.total([9n, 9n, 8n]), 'none');
  t.equal(x.weak.stats.samples, 1, 'one sample serves them all');
  await x.f.addLog({ rid: 2n, nr: 1, blooms: [x.lock], items: [item(-120, -3, 11)] });
  await x.commit();
  x.weak.drop();
  t.equal(await x.total([9n, 9n, 9n]), '7 1');
  t.equal(x.weak.stats.samples, 2, 'dropped by hand');
  t.equal(await x.total(), 'none', 'sums of zero are no total');
  await x.f.addLog({ rid: 3n, nr: 1, blooms: [x.lock], items: [item(5, 1, 12)] });
  await x.commit();
  await x.clock.advance(4999);
  t.equal(await x.total(), 'none', 'as it was');
  await x.clock.advance(1);
  t.equal(await x.total(), '5 1');
  t.equal(x.weak.stats.samples, 3);

  const { items, end } = await x.weak.read(totlKey([0n, 0n, 0n]), totlKey([0n, 0n, 0n]),
    totlKey([ONES, ONES, ONES]));
  t.strictSame(items.map((i) => i.key), [totlKey(NAME), totlKey([9n, 9n, 9n])]);
  t.strictSame(end, totlKey([ONES, ONES, ONES]));
});

void t.test('inputs of the merge of the same super are not counted twice', async (t) => {
  const x = new Fixture();
  // the merge has written the input's increment to the fs tree already
  await x.f.fsItems([item(120, 3, 10)]);
  await x.f.addLog({ rid: 1n, nr: 1, finalizeSeq: 20, blooms: [x.lock], items: [item(20, 1, 10)] });
  await x.f.addLog({ rid: 2n, nr: 1, finalizeSeq: 40, blooms: [x.lock], items: [item(1, 1, 9)] });
  await x.setMerge(status(30));
  await x.commit();
  t.equal(await x.total(), '121 4', 'what was finalized later is no input');
  await x.setMerge(status(50));
  await x.commit();
  await x.clock.advance(5000);
  t.equal(await x.total(), '120 3', 'now it is one');
  await x.setMerge(status(50).subarray(8));
  await x.commit();
  await x.clock.advance(5000);
  t.equal(await x.total(), 'EUCLEAN', 'a merge status of another size');
});

void t.test('replaced blocks', async (t) => {
  const x = new Fixture();
  await x.f.fsItems([item(1, 1, 5)]);
  await x.commit();
  const old = x.sb;
  t.equal(await x.total(), '1 1');
  await x.f.fsItems([item(2, 1, 6)]);
  await x.commit();
  const zeros = new Uint8Array(65536);
  x.f.s.dev.writeSync(old.fsRoot.ref.blkno * 65536, zeros);
  x.f.core.x.blockEvictAll();
  t.equal(await x.total(), '3 2', 'the read starts over with newer roots');
  t.equal(x.weak.stats.stale, 1);

  x.sb = old;
  await x.clock.advance(5000);
  t.equal(await x.total(), 'EIO', 'roots that stay stale are damage');
  t.equal(await x.total(), 'EIO');

  const io = new ScoutfsError('DEVICE_IO', 'EIO');
  await x.commit();
  await x.clock.advance(5000);
  x.errors.push(io);
  t.equal(await x.total(), 'EIO', 'a super block that cannot be read');
  x.errors.push(new ScoutfsError('BAD_SUPER', 'EIO'));
  t.equal(await x.total(), '3 2', 'one that was being written is read again');
});
