/**
 * Names with the srch tag on real mounts: thousands of them set, replaced and removed,
 * files deleted, daemons killed, mounted again, log files compacted. After everything
 * `check` finds an odd number of entries for each live name and an even one for all others.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, nightly, skipWithoutFuse, sleepMs } from '../lib/mounted.js';
import { getXattr, removeXattr, setXattr } from '../lib/posix.js';
import { seeded } from '../lib/core.js';

const skip = skipWithoutFuse();
const FILES = 100;
const CHANGES = nightly() ? 100_000 : 1500;
const NAMES = 30;
const ENODATA = 61;
/** Log files that the server waits for before it has them compacted. */
const LOGS_COMPACTED = 4;
const COMPACT_MAX_MS = 60_000;
const POLL_MS = 1000;

/** Changes xattrs at random and remembers which exist, and what the log must have. */
class Changes {
  readonly live = new Map<string, Map<string, string>>();
  entries = 0;
  private readonly rnd: (below: number) => number;

  constructor(private readonly dir: string, seed: number, private readonly deletes: boolean) {
    this.rnd = seeded(seed);
  }

  private path(file: string): string { return join(this.dir, file); }

  private file(): string {
    const file = `f${this.rnd(FILES)}`;
    if (!this.live.has(file)) {
      fs.writeFileSync(join(this.dir, file), '');
      this.live.set(file, new Map());
    }
    return file;
  }

  run(count: number): void {
    for (let i = 0; i < count; i++) {
      const file = this.file();
      const names = this.live.get(file) ?? new Map<string, string>();
      const name = `scoutfs.srch.name.${this.rnd(NAMES)}`;
      const what = this.rnd(40);
      if (what === 0 && this.deletes) {
        fs.unlinkSync(join(this.dir, file));
        this.entries += names.size;
        this.live.delete(file);
      } else if (what < 12) {
        const e = removeXattr(this.path(file), name);
        if (e !== (names.has(name) ? 0 : ENODATA)) throw new Error(`remove: errno ${e}`);
        if (names.delete(name)) this.entries += 1;
      } else {
        const value = 'v'.repeat(this.rnd(this.rnd(3000)));
        const e = setXattr(this.path(file), name, Buffer.from(value));
        if (e !== 0) throw new Error(`set: errno ${e}`);
        if (!names.has(name)) this.entries += 1;
        names.set(name, value);
      }
    }
  }

  /** Names with the tag that exist. */
  names(): number {
    return [...this.live.values()].reduce((n, names) => n + names.size, 0);
  }

  /** What cannot be read back. */
  wrong(): string[] {
    return [...this.live].flatMap(([file, names]) => [...names].filter(([name, value]) =>
      getXattr(Buffer.from(this.path(file)), name).toString() !== value).map(([name]) => `${file} ${name}`));
  }
}

void t.test('thousands of changes, remounted', { skip }, async (tt) => {
  const rig = new Rig('srch');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  const c = new Changes(rig.mnt, 7, true);
  c.run(CHANGES);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
  tt.equal(rig.checkReport().summary.srchEntries, c.entries, 'entries in the srch files');
  rig.mount();
  tt.strictSame(c.wrong(), []);
  c.run(500);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean after a second mount');
  tt.equal(rig.checkReport().summary.srchEntries, c.entries);
});

/** Types of the items that the srch tree has: 4 log file, 8 sorted file, 12 and 16 at work. */
function srchItems(rig: Rig): number[] {
  const { out } = rig.scoutfs('print', rig.meta);
  return [...out.matchAll(/^ {4}32\.0\.(\d+)\./gm)].map((m) => Number(m[1]));
}

void t.test('logs of killed mounts are compacted', { skip }, async (tt) => {
  const rig = new Rig('srch-kill');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  // a deletion goes on behind its unlink, so a kill may come first
  const c = new Changes(rig.mnt, 9, false);
  for (let i = 0; i < LOGS_COMPACTED; i++) {
    c.run(200);
    const fd = fs.openSync(join(rig.mnt, 'sync'), 'w');
    fs.fsyncSync(fd);
    rig.kill();
    fs.closeSync(fd);
    if (i === LOGS_COMPACTED - 1) {
      tt.strictSame(rig.check(), [], 'check is clean after a kill');
      tt.equal(rig.checkReport().summary.srchEntries, c.entries, 'every entry is in a file');
    }
    rig.mount();
    tt.strictSame(c.wrong(), [], 'what was synced is there');
  }
  fs.writeFileSync(join(rig.control, 'srch', 'compact_delay_ms'), '1000');
  let items = srchItems(rig);
  for (let waitedMs = 0; items.join() !== '8' && waitedMs < COMPACT_MAX_MS; waitedMs += POLL_MS) {
    sleepMs(POLL_MS);
    items = srchItems(rig);
  }
  tt.strictSame(items, [8], 'one sorted file is left');
  tt.strictSame(c.wrong(), []);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
  tt.equal(rig.checkReport().summary.srchEntries, c.names(), 'one entry for each name');
});
