/**
 * Quotas on a real mount: a volume on which upstream stored rules, and totals that are
 * set here through xattrs. Rules cannot be added by this mount yet.
 *
 * Rules of the volume: creation by a group g is limited by the total g.2.3, which may
 * not reach 2^64 - 1; data of user 22222 by the total 22222.1.1, at 1000000.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, freePort, skipWithoutFuse } from '../lib/mounted.js';
import { removeXattr, setXattr } from '../lib/posix.js';
import { skipWithoutFixtures, unpackFixture } from '../lib/shared.js';

const skip = skipWithoutFuse() === false ? skipWithoutFixtures() : skipWithoutFuse();
const EDQUOT = 122;

function errnoOf(fn: () => void): string {
  try {
    fn();
    return 'ok';
  } catch (e) {
    const { errno, code } = e as NodeJS.ErrnoException;
    // Node has no name for it
    return errno === -EDQUOT ? 'EDQUOT' : code ?? String(e);
  }
}

void t.test('rules that upstream stored', { skip }, async (tt) => {
  const rig = new Rig('quota');
  tt.teardown(() => { rig.end(); });
  unpackFixture('small-tree', rig.dir);
  // another test may have a volume with upstream's address mounted at the same time
  rig.must('change-quorum-config', '-F', '-Q', `0,127.0.0.1,${await freePort()}`, rig.meta);
  rig.mount();
  const p = (name: string): string => join(rig.mnt, name);
  const create = (name: string): string =>
    errnoOf(() => { fs.closeSync(fs.openSync(p(name), 'wx')); });
  const write = (text: string): string =>
    errnoOf(() => { fs.writeFileSync(p('limited'), text, { flag: 'r+' }); });
  const byGroup = 'scoutfs.totl.group.0.2.3';
  const byUser = ['scoutfs.totl.user.22222.1.1', 'scoutfs.totl.more.22222.1.1'] as const;
  fs.writeFileSync(p('totals'), '');
  fs.writeFileSync(p('limited'), 'text');
  fs.chownSync(p('limited'), 22222, 0);
  tt.equal(create('before'), 'ok', 'allowed without a total');
  tt.equal(write('data'), 'ok');
  tt.equal(setXattr(p('totals'), byGroup, Buffer.from('18446744073709551615')), 0);
  tt.equal(setXattr(p('totals'), byUser[0], Buffer.from('999999')), 0);
  tt.equal(setXattr(p('totals'), byUser[1], Buffer.from('1')), 0);
  rig.umount();

  // the device is so small that a mount's first transaction is its only one with space
  rig.mount();
  tt.equal(create('new'), 'EDQUOT', 'create');
  tt.equal(errnoOf(() => { fs.mkdirSync(p('new')); }), 'EDQUOT', 'mkdir');
  tt.equal(errnoOf(() => { fs.symlinkSync('x', p('new')); }), 'EDQUOT', 'symlink');
  tt.equal(errnoOf(() => { fs.linkSync(p('totals'), p('new')); }), 'ok', 'link is not checked');
  tt.equal(write('more'), 'EDQUOT', 'write');
  tt.equal(fs.readFileSync(p('limited'), 'utf8'), 'data');
  tt.equal(errnoOf(() => { fs.writeFileSync(p('totals'), 'of another user'); }), 'ok');
  tt.equal(errnoOf(() => { fs.truncateSync(p('limited'), 1); }), 'ok', 'truncation is not checked');
  tt.equal(removeXattr(p('totals'), byGroup), 0);
  tt.equal(setXattr(p('totals'), byUser[0], Buffer.from('999998')), 0);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');

  rig.mount();
  tt.equal(create('newer'), 'ok', 'allowed again without the total');
  tt.equal(write('even more'), 'ok', 'allowed again below the limit');
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
  tt.end();
});
