/** The orphan scan: what it deletes and what it leaves alone. */
import t from 'tap';
import { OrphanScan } from '../../host/fs/orphan_scan.js';
import { ORPHAN_ZONE } from '../../host/core/format.js';
import { parseKey } from '../lib/fakeitems.js';
import { FakeMount, nameOf, newEntry, newOpen } from '../lib/fakemount.js';
import { checkItems } from '../lib/fsinvariants.js';

class Scanned {
  readonly m = new FakeMount({ waitChance: 0.1 });
  readonly remote = new Set<number>();
  asked: number[] = [];
  used: number[] = [];
  broken = false;
  readonly scan = new OrphanScan({
    readOrphans: (from) => {
      if (this.broken) return Promise.reject(new Error('no roots'));
      return Promise.resolve([...this.m.items.store.keys()].map(parseKey)
        .filter((k) => k.zone === ORPHAN_ZONE && Number(k.second) >= from)
        .map((k) => Number(k.second)).sort((a, b) => a - b).slice(0, 2));
    },
    usedHere: (ino) => { this.used.push(ino); },
    askGroup: (group) => {
      this.asked.push(group);
      return Promise.resolve(this.remote);
    },
  }, this.m.openMap, this.m.fs.deletes);

  /** An inode without links that this mount does not use. */
  async orphan(): Promise<number> {
    const out = newEntry();
    await this.m.run((op) => {
      this.m.fs.tmpfile(op, this.m.caller, 1, 0o600, 0, 0, out, newOpen());
    });
    this.m.openMap.clear(out.ino);
    return out.ino;
  }
}

t.test('a pass', async (t) => {
  const s = new Scanned();
  const inos = [await s.orphan(), await s.orphan(), await s.orphan(), await s.orphan()];
  const [open, away] = inos;
  s.m.openMap.set(open ?? 0);
  s.remote.add(away ?? 0);
  t.equal(await s.scan.pass(() => false), 2);
  t.strictSame(s.asked, [2], 'the open map is asked for once per group');
  t.strictSame(s.used, [open], 'the kernel is asked to forget those it need not keep');
  t.equal(s.scan.emptyPasses, 0);
  s.m.openMap.clear(open ?? 0);
  s.remote.clear();
  t.equal(await s.scan.pass(() => false), 2);
  t.equal(await s.scan.pass(() => false), 0);
  t.equal(s.scan.emptyPasses, 1, 'nothing is left to do');
  t.equal(s.m.inodeCount, 1);
  t.strictSame(checkItems(s.m.items.store), []);
});

t.test('an inode that was linked again is left alone', async (t) => {
  const s = new Scanned();
  const ino = await s.orphan();
  const key = [...s.m.items.store.keys()].find((k) => parseKey(k).zone === ORPHAN_ZONE) ?? '';
  await s.m.run((op) => { s.m.fs.link(op, s.m.caller, ino, 1, nameOf('back'), newEntry()); });
  s.m.plant(key, new Uint8Array(0));
  t.equal(await s.scan.pass(() => false), 0, 'a stale orphan item of the committed root');
});

t.test('a pass that fails, and one that is stopped', async (t) => {
  const s = new Scanned();
  await s.orphan();
  s.broken = true;
  await t.rejects(s.scan.pass(() => false), 'no roots, no pass');
  s.broken = false;
  t.equal(await s.scan.pass(() => true), 0);
  t.equal(s.m.inodeCount, 2);
  t.equal(await s.scan.pass(() => false), 1, 'the next pass starts over');
});
