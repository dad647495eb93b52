/**
 * Damage below a mount: what lies in a damaged block cannot be read, and is the only
 * thing that cannot. Programs get EIO, the log gets the kind of damage and the block.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, sh, skipWithoutFuse } from '../lib/mounted.js';

const skip = skipWithoutFuse();
const META_BYTES = 8 * 1024 ** 3;
const BLOCK_BYTES = 65536;
const PER_DIR = 1200;
const DIRS = ['a', 'b', 'c'];
const FILE_BYTES = 1 << 20;
/** Where a volume's first files get their data. */
const SEARCH_BYTES = 64 << 20;

/** A leaf that holds nothing but entries of `dir`, and one of the names in it. */
function leafOf(rig: Rig, dir: string): { blkno: number; name: string } {
  let blkno = 0;
  let names: string[] = [];
  let others = false;
  const found = (): boolean => names.length > 0 && !others;
  for (const line of rig.must('print', rig.meta).split('\n')) {
    const block = /btree blkno (\d+) *$/.exec(line);
    if (block !== null) {
      if (found()) break;
      blkno = Number(block[1]);
      names = [];
      others = false;
    }
    const name = /^ +name (\d+-(\w))$/.exec(line);
    if (name !== null && name[2] === dir) names.push(name[1] ?? '');
    else if (name !== null || line.includes('inode: ino')) others = true;
  }
  if (!found()) throw new Error(`no leaf with entries of ${dir} alone`);
  return { blkno, name: names[0] ?? '' };
}

function errnoOf(fn: () => unknown): string {
  try {
    fn();
    return 'none';
  } catch (e) {
    return (e as NodeJS.ErrnoException).code ?? String(e);
  }
}

function overwrite(path: string, at: number, bytes: Buffer): Buffer {
  const fd = fs.openSync(path, 'r+');
  const before = Buffer.alloc(bytes.length);
  fs.readSync(fd, before, 0, before.length, at);
  fs.writeSync(fd, bytes, 0, bytes.length, at);
  fs.closeSync(fd);
  return before;
}

void t.test('a damaged leaf', { skip }, async (tt) => {
  const rig = new Rig('damaged');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs(META_BYTES);
  rig.mount();
  for (const d of DIRS) sh(`mkdir ${d}; cd ${d}; seq -f "%040.0f-${d}" ${PER_DIR} | xargs touch`, rig.mnt);
  rig.umount();
  tt.strictSame(rig.check(), [], 'the volume is sound');
  const { blkno, name } = leafOf(rig, 'b');
  const at = blkno * BLOCK_BYTES + BLOCK_BYTES / 2;
  const before = overwrite(rig.meta, at, Buffer.from('damaged!'));
  tt.match(rig.check(), [new RegExp(`CHK_BLOCK_CRC: block ${blkno} `)], 'the check sees it');

  rig.mount();
  const p = (...parts: string[]): string => join(rig.mnt, ...parts);
  tt.equal(errnoOf(() => fs.statSync(p('b', name))), 'EIO', 'what is in it cannot be read');
  tt.match(rig.logText(),
    new RegExp(`LOOKUP of inode \\d+ failed: .*BLOCK_CHECKSUM: .*metadata block ${blkno}\\)`),
    'the log names the kind and the block');
  for (const d of ['a', 'c']) {
    tt.equal(fs.readdirSync(p(d)).length, PER_DIR, `${d} is listed`);
    for (const n of fs.readdirSync(p(d)).slice(0, 20)) fs.statSync(p(d, n));
  }
  sh('mkdir new; echo text > new/file; sync new/file; cat new/file; mv a/*1-a new; rm -r new',
    rig.mnt);
  tt.equal(errnoOf(() => fs.statSync(p('b', name))), 'EIO', 'it still cannot');
  rig.umount();
  overwrite(rig.meta, at, before);
  tt.strictSame(rig.check(), [], 'with the block mended nothing else is wrong');
  rig.mount();
  tt.equal(fs.readdirSync(p('b')).length, PER_DIR, 'b is listed');
  fs.statSync(p('b', name));
  rig.umount();
});

void t.test('a data device that fails', { skip }, async (tt) => {
  const rig = new Rig('failing');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs(META_BYTES);
  const dataBytes = fs.statSync(rig.data).size;
  const p = (name: string): string => join(rig.mnt, name);
  const text = (c: string): Buffer => Buffer.alloc(FILE_BYTES, `${c} file of this test. `);
  rig.mount();
  for (const name of ['first', 'second']) fs.writeFileSync(p(name), text(name));
  fs.writeFileSync(p('hole'), '');
  fs.truncateSync(p('hole'), FILE_BYTES);
  rig.umount();
  const image = Buffer.alloc(SEARCH_BYTES);
  const fd = fs.openSync(rig.data, 'r');
  fs.readSync(fd, image, 0, image.length, 0);
  fs.closeSync(fd);
  const where = ['first', 'second'].map((n) => ({ n, at: image.indexOf(`${n} file of this test.`) }))
    .sort((a, b) => a.at - b.at);
  const [low, high] = where;
  if (low === undefined || high === undefined || low.at < 0) throw new Error('no data found');

  rig.mount();
  fs.truncateSync(rig.data, high.at);
  tt.equal(errnoOf(() => fs.readFileSync(p(high.n))), 'EIO', 'data that is gone');
  tt.match(rig.logText(), /READ of inode \d+ failed: .*data\.img: read of \d+ bytes at \d+/,
    'the log names the device and the place');
  tt.ok(fs.readFileSync(p(low.n)).equals(text(low.n)), 'data that is there');
  tt.ok(fs.readFileSync(p('hole')).equals(Buffer.alloc(FILE_BYTES)), 'a hole');
  tt.equal(fs.statSync(p(high.n)).size, FILE_BYTES, 'metadata');
  fs.truncateSync(rig.data, dataBytes);
  tt.equal(errnoOf(() => fs.readFileSync(p(high.n))), 'none', 'the device is back');
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});
