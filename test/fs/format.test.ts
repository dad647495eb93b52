/** What the file system row stores and reports, against the vectors: entries, statfs, devices. */
import t from 'tap';
import { NetStatfs } from '../../host/core/format.js';
import { fillStatfs } from '../../host/fs/statfs.js';
import { rdevFromUser, rdevToUser } from '../../host/fs/inode.js';
import { readdirType } from '../../host/fs/dirent.js';
import { InodeRec, decodeInode, encodeInode } from '../../host/fs/inode_item.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { FakeMount, nameOf, newEntry, newOpen } from '../lib/fakemount.js';
import { parseKey } from '../lib/fakeitems.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface DirentVector { dir_ino: number; ino: number; pos: number; type: number; name: string;
  dirent_key: { dotted: string }; readdir_key: { dotted: string };
  backref_key: { dotted: string }; value_hex: string }
interface StatfsVector { total_meta_blocks: number; free_meta_blocks: number;
  total_data_blocks: number; free_data_blocks: number; inode_count: number; f_bsize: number;
  f_blocks: number; f_bfree: number; f_files: number; f_ffree: number; f_namelen: number }
interface SymlinkVector { target_len: number; stored_size: number;
  items: { nr: number; bytes: number }[] }
interface Vectors { dirent_items: DirentVector[]; statfs: StatfsVector[];
  symlink_items: SymlinkVector[] }

function dotted(k: string): string {
  const p = parseKey(k);
  return `${p.zone}.${p.first}.${p.type}.${p.second}.${p.third}.${p.fourth}`;
}

void t.test('directory entries', { skip: skipWithoutSpec() }, async (t) => {
  const all = vectors('fs-vectors.json') as Vectors;
  for (const v of all.dirent_items.filter((d) => d.dir_ino === 1)) {
    const m = new FakeMount();
    m.nextIno = 5000;
    for (let pos = 2; pos < v.pos; pos++) {
      await m.run((op) => {
        const out = newEntry();
        m.fs.mknod(op, m.caller, 1, nameOf(`skip${pos}`), 0o010600, 0, 0, out);
      });
    }
    m.nextIno = v.ino;
    m.nextDirIno = v.ino;
    await m.run((op) => {
      const out = newEntry();
      if (v.type === 2) m.fs.mkdir(op, m.caller, 1, nameOf(v.name), 0o755, 0, out);
      else m.fs.create(op, m.caller, 1, nameOf(v.name), 0o644, 0, 0, out, newOpen());
    });
    const stored = new Map([...m.items.store].map(([k, val]) => [dotted(k), val]));
    for (const key of [v.dirent_key, v.readdir_key, v.backref_key]) {
      t.equal(Buffer.from(stored.get(key.dotted) ?? []).toString('hex'), v.value_hex, key.dotted);
    }
  }
});

void t.test('symlink targets', { skip: skipWithoutSpec() }, async (t) => {
  const all = vectors('fs-vectors.json') as Vectors;
  for (const v of all.symlink_items) {
    const m = new FakeMount();
    const out = newEntry();
    const target = 'x'.repeat(v.target_len);
    await m.run((op) => { m.fs.symlink(op, m.caller, 1, nameOf('l'), nameOf(target), out); });
    t.equal(out.attr.size, v.stored_size);
    const chunks = [...m.items.store].filter(([k]) => k.slice(18, 20) === '18').sort()
      .map(([k, val]) => ({ nr: Number(parseKey(k).second), bytes: val.length }));
    t.strictSame(chunks, v.items);
    const back = await m.run((op) => m.fs.readlink(op, m.caller, out.ino));
    t.equal(Buffer.from(back).toString(), target);
  }
});

void t.test('statfs', { skip: skipWithoutSpec() }, (t) => {
  const all = vectors('fs-vectors.json') as Vectors;
  for (const v of all.statfs) {
    const s = NetStatfs.read(new DataView(new ArrayBuffer(NetStatfs.size)), 0);
    s.totalMetaBlocks = v.total_meta_blocks;
    s.freeMetaBlocks = v.free_meta_blocks;
    s.totalDataBlocks = v.total_data_blocks;
    s.freeDataBlocks = v.free_data_blocks;
    s.inodeCount = v.inode_count;
    const out = { blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, bsize: 0, nameMax: 0 };
    fillStatfs(s, out);
    t.strictSame(out, {
      blocks: v.f_blocks, bfree: v.f_bfree, bavail: v.f_bfree, files: v.f_files,
      ffree: v.f_ffree, bsize: v.f_bsize, nameMax: v.f_namelen,
    });
  }
  t.end();
});

void t.test('inode items by version', (t) => {
  const v = new DataView(new ArrayBuffer(896));
  const r = new InodeRec();
  Object.assign(r, {
    ino: 7, size: 2 ** 52, mode: 0o100644, offlineBlocks: -1, mtimeSec: -5, mtimeNsec: 999999999,
    projLo: 0xffffffff, projHi: 0xffffffff, loadedMetaSeq: 0, loadedDataSeq: 0,
  });
  t.equal(encodeInode(v, 2, r), 168);
  t.strictSame(decodeInode(v, 168, 2, 7, new InodeRec()), r, 'what is stored comes back');
  t.equal(encodeInode(v, 1, r), 160);
  const short = decodeInode(v, 160, 2, 7, new InodeRec());
  t.equal(short.projHi, 0, 'a short item has no project');
  for (const [len, version] of [[168, 1], [161, 2], [0, 2], [169, 2]] as const) {
    try {
      decodeInode(v, len, version, 7, new InodeRec());
      t.fail(`${len} bytes in version ${version} were accepted`);
    } catch (e) {
      t.equal(asScoutfsError(e).code, 'INODE_ITEM_BYTES');
    }
  }
  t.end();
});

void t.test('device numbers and entry types', (t) => {
  // mknod(2) of major 8, minor 1; and of the largest that both forms can hold
  t.equal(rdevFromUser(0x801), (8 << 20) | 1);
  for (const dev of [0, 0x801, 0xffffffff, 0x12345678]) t.equal(rdevToUser(rdevFromUser(dev)), dev);
  t.strictSame([0, 1, 2, 3, 4, 5, 6, 7, 8].map(readdirType), [1, 2, 4, 6, 8, 10, 12, 14, 0]);
  t.end();
});
