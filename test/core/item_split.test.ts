/**
 * Pages of the item cache that hold several types of items of one inode, split over and
 * over: a directory's inode item, entries by name and entries by position lie behind each
 * other, and every one of them must stay findable.
 */
import t from 'tap';
import { Core } from '../../host/core/core.js';
import { CoreItems } from '../../host/core/item_face.js';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import { inodeLockRange, keyBytes } from '../../host/core/keys.js';
import {
  FS_ZONE, INODE_TYPE, LINK_BACKREF_TYPE, READDIR_TYPE,
} from '../../host/core/constants.js';
import { MountLocks } from '../../host/mount/core_locks.js';
import { seededRandom } from '../lib/treespace.js';

const DIR = 1025;
const FILE = 11264;
const ENTRIES = 2000;
const MODE_WRITE = 2;
const INODE_BYTES = 168;

void t.test('entries of one directory in split pages', (tt) => {
  const core = new Core(seededRandom(1), { memoryBytes: 64 << 20, slotShare: 0.3 });
  tt.ok(core.x.itemInit(20 << 20));
  core.x.itemSetTransSeq(5);
  const locks = new MountLocks(core);
  const cover = (ino: number): number => {
    const { start, end } = inodeLockRange(ino);
    const ptr = locks.alloc(keyBytes(start), keyBytes(end));
    locks.setMode(ptr, MODE_WRITE, 3);
    core.bytes.set(keyBytes(start), ITEM_WINDOWS.keyA);
    core.bytes.set(keyBytes(end), ITEM_WINDOWS.keyB);
    core.x.testFill(ptr, core.alloc(64), 0);
    return ptr;
  };
  const [dir, file] = [cover(DIR), cover(FILE)];
  const items = new CoreItems(core, () => { throw new Error('a covered range is missing'); });
  items.create(dir, FS_ZONE, DIR, INODE_TYPE, 0, 0, 0, INODE_BYTES);
  const name = (i: number): number => {
    const bytes = new TextEncoder().encode(`f${i}`);
    items.nameBytes.set(bytes);
    return bytes.length;
  };
  const missing = (upTo: number): number => {
    let n = 0;
    for (let i = 0; i < upTo; i++) {
      if (items.lookup(dir, FS_ZONE, DIR, READDIR_TYPE, i + 2, 0, 0) < 0) n += 1;
      if (items.lookup(file, FS_ZONE, FILE, LINK_BACKREF_TYPE, DIR, i + 2, 0) < 0) n += 1;
      if (items.lookupName(dir, DIR, name(i)) < 0) n += 1;
    }
    return n;
  };
  for (let i = 0; i < ENTRIES; i++) {
    core.x.itemReserve(128);
    items.createEntry(dir, file, DIR, FILE, 4, i + 2, name(i));
    items.update(dir, FS_ZONE, DIR, INODE_TYPE, 0, 0, 0, INODE_BYTES);
    if (i % 200 === 0) tt.equal(missing(i + 1), 0, `after ${i + 1} entries`);
  }
  tt.equal(missing(ENTRIES), 0);
  core.x.pageVerify();
  tt.end();
});
