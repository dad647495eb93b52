/**
 * A real tree, copied with cp -a: equal to its source in contents and metadata, equal
 * again after a remount, and gone without a trace in the volume when it is deleted.
 *
 * The tree is this project's own tools, about 2,000 entries; in scripts/nightly it is
 * /usr/share (or what SCOUTFS_TREE says).
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, nightly, sh, skipWithoutFuse } from '../lib/mounted.js';
import { repoDir, tempDir } from '../lib/shared.js';
import { differences, snapshot } from '../lib/snapshot.js';
import { isFreeAgain, letMergesRun, used } from '../lib/usage.js';

const skip = skipWithoutFuse();
const GIB = 1024 ** 3;
const META_BYTES = 8 * GIB;
const DATA_BYTES = (nightly() ? 16 : 4) * GIB;
const CI_TREES = ['typescript', 'eslint', '@typescript-eslint', '@types'];
const NIGHTLY_TREE = process.env['SCOUTFS_TREE'] ?? '/usr/share';
const SHOWN = 20;

/** Directories to copy: [source, name below the mount]. */
function sources(): [string, string][] {
  if (nightly()) return [[NIGHTLY_TREE, 'tree']];
  const modules = fs.realpathSync(join(repoDir, 'node_modules'));
  return CI_TREES.filter((n) => fs.existsSync(join(modules, n))).map((n) => [join(modules, n), n]);
}

/** What real trees seldom have. */
function makeOddities(dir: string): void {
  sh(`set -e; cd ${dir}
    echo linked > a; ln a b; mkdir sub; ln a sub/c
    ln -s a symlink; ln -s "$(printf '%04000d' 0)" dangling
    truncate -s 200M sparse; printf data | dd of=sparse bs=1 seek=150000000 conv=notrunc status=none
    dd if=/dev/urandom of=holes bs=64k count=1 seek=7 status=none; truncate -s 1M holes
    mkfifo fifo; mknod char c 1 3; mknod block b 7 200
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' 2>/dev/null || true
    touch -- "$(printf '%0255d' 0)" $'new\\nline' $'not\\xffutf8' ' ' '-n' '*'
    chmod 4755 a; chmod 1777 sub; chown 1234:5678 symlink -h; chown 70000:70001 holes
    touch -d '1969-12-31 23:59:58.123456789 UTC' holes
    touch -d '2100-01-01 00:00:00.000000001 UTC' sub
    setfattr -n user.one -v value a 2>/dev/null || true
    setfattr -n user.big -v "$(printf '%03000d' 7)" holes 2>/dev/null || true
    d=deep; for i in $(seq 100); do d=$d/level-$i; done; mkdir -p "$d"; echo bottom > "$d/file"
    mkdir wide; cd wide; seq 500 | xargs touch`);
}

void t.test('a tree comes, stays and goes', { skip, timeout: 3_000_000 }, async (tt) => {
  const rig = new Rig('tree');
  tt.teardown(() => { rig.end(); });
  const odd = tempDir('scoutfs-odd');
  tt.teardown(odd.remove);
  makeOddities(odd.dir);
  await rig.mkfs(META_BYTES, DATA_BYTES);
  rig.mount();
  rig.umount();
  const empty = used(rig);

  rig.mount();
  const trees: [string, string][] = [...sources(), [odd.dir, 'odd']];
  const startMs = performance.now();
  for (const [from, to] of trees) sh(`cp -a ${from} ${join(rig.mnt, to)}`);
  sh(`sync ${rig.mnt}`);
  const copyMs = performance.now() - startMs;
  let entries = 0;
  const compare = (when: string): void => {
    for (const [from, to] of trees) {
      const contents = to === 'odd';
      const want = snapshot(from, { contents });
      entries += want.size;
      tt.strictSame(differences(want, snapshot(join(rig.mnt, to), { contents })).slice(0, SHOWN),
        [], `${to}, ${when}: metadata of ${want.size} entries`);
      if (!contents) {
        tt.equal(sh(`diff -r --no-dereference ${from} ${join(rig.mnt, to)} || true`), '',
          `${to}, ${when}: contents`);
      }
    }
  };
  compare('copied');
  const before = snapshot(rig.mnt, { own: true });
  rig.umount();
  tt.strictSame(rig.check(), [], 'the full volume is sound');
  const full = used(rig);

  rig.mount();
  tt.strictSame(differences(before, snapshot(rig.mnt, { own: true })).slice(0, SHOWN), [],
    'a remount changes nothing');
  compare('remounted');
  const deleteMs = performance.now();
  sh('rm -rf ./*', rig.mnt);
  const deletedMs = performance.now() - deleteMs;
  tt.strictSame(fs.readdirSync(rig.mnt), [], 'everything is deleted');
  rig.umount();
  tt.strictSame(rig.check(), [], 'the emptied volume is sound');
  const deleted = used(rig);
  const merged = letMergesRun(rig, empty);
  tt.strictSame(rig.check(), [], 'the merged volume is sound');
  tt.equal(merged.data, 0, 'no data block is mapped');
  tt.equal(merged.freeData, empty.freeData, 'every data block is free again');
  tt.equal(merged.inodes, empty.inodes, 'no inode is left');
  tt.ok(isFreeAgain(empty, merged),
    `${merged.meta} metadata blocks are used, ${empty.meta} when it was new`);
  tt.ok(full.data > 1000 && full.meta > empty.meta, 'there was something to free');
  tt.comment(`${entries} entries compared (${before.size} in the tree); copied in ${
    Math.round(copyMs)} ms, deleted in ${Math.round(deletedMs)} ms; metadata blocks in use: new ${
    empty.meta}, full ${full.meta}, deleted ${deleted.meta}, merged ${merged.meta}; data blocks ` +
    `mapped: full ${full.data}, deleted ${deleted.data}, merged ${merged.data}`);
});
