/**
 * Volumes that upstream's kernel module wrote, mounted here and compared entry by entry
 * with what upstream said of them: read-only, read-write, and after a crash.
 */
import t from 'tap';
import { compareManifest } from '../lib/manifest.js';
import { Rig, skipWithoutFuse, sh } from '../lib/mounted.js';
import { skipWithoutFixtures, unpackFixture } from '../lib/shared.js';

const skip = skipWithoutFuse() === false ? skipWithoutFixtures() : skipWithoutFuse();
const SHOWN = 20;

for (const name of ['small-tree', 'two-mounts']) {
  void t.test(`${name}: read-only, then read-write`, { skip }, (tt) => {
    const rig = new Rig(name);
    tt.teardown(() => { rig.end(); });
    unpackFixture(name, rig.dir);
    for (const options of ['ro', '']) {
      rig.mount(options);
      const { entries, differences } = compareManifest(name, 'manifest.jsonl.zst', rig.mnt);
      tt.strictSame(differences.slice(0, SHOWN), [],
        `${entries} entries equal (${options || 'rw'})`);
      tt.ok(entries > 100);
      if (options === '') {
        sh('mkdir new && echo text > new/file && cat new/file && rm -r new', rig.mnt);
      } else {
        tt.throws(() => sh('touch x', rig.mnt), /Read-only file system/);
      }
      rig.umount();
      tt.strictSame(rig.check(), [], 'check is clean');
    }
    tt.end();
  });
}

void t.test('dirty-crash: recovered by the mount', { skip }, (tt) => {
  const rig = new Rig('dirty-crash');
  tt.teardown(() => { rig.end(); });
  unpackFixture('dirty-crash', rig.dir);
  rig.mount();
  const { entries, differences } = compareManifest('dirty-crash',
    'manifest-after-recovery.jsonl.zst', rig.mnt);
  tt.strictSame(differences.slice(0, SHOWN), [], `${entries} entries equal`);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
  tt.end();
});
