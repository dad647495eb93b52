/**
 * Very many files: all in one directory, and as many over many directories.
 *
 * They are created, listed whole (every name once), looked up at random after a remount
 * (names that are not there too), listed by seeking, and deleted; then the volume is as
 * it was. After each step the daemon's memory is held against its limits, and `check`
 * looks at the full and at the emptied volume.
 *
 * A million each in scripts/nightly, a small number otherwise. Spec: dir.md 2 (positions),
 * acceptance.md 6 (createmany, large directories).
 */
import * as fs from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { seeded } from '../lib/core.js';
import { Rig, nightly, skipWithoutFuse, sleepMs } from '../lib/mounted.js';
import { isFreeAgain, letMergesRun, used } from '../lib/usage.js';

const skip = skipWithoutFuse();
const GIB = 1024 ** 3;
const FILES = nightly() ? 1_000_000 : 6000;
const DIRS = nightly() ? 1000 : 30;
const POLL_MS = 50;
const POLLS_MAX = 40;
const LOOKUPS = nightly() ? 50_000 : 2000;
/** Inodes that the kernel may keep of us; in the long form the default. */
const KERNEL_INODES_MAX = nightly() ? 250_000 : 1500;
/** Unused inodes are taken back in batches, and never the children of one in use. */
const KERNEL_INODES_SLACK = 1.2;
const MOUNT_OPTIONS = `orphan_scan_delay_ms=500,kernel_inodes_max=${KERNEL_INODES_MAX}`;
const META_BYTES = nightly() ? 32 * GIB : 6 * GIB;
/**
 * What a daemon may have resident at its peak, in MiB: its three cores at their limits
 * (core_memory_mb, server, merge: host/super.ts), and JavaScript with its tables.
 */
const CORES_MAX_MIB = 256 + 192 + 192;
const JAVASCRIPT_MAX_MIB = 384;

/** Whether this kernel can be told to forget inodes: FUSE_NOTIFY_PRUNE came with 6.18. */
const [MAJOR = 0, MINOR = 0] = release().split('.').map(Number);
const PRUNES = MAJOR > 6 || (MAJOR === 6 && MINOR >= 18);

/** The directories of one layout and the path of file `nr` in it. */
interface Layout {
  dirs: string[];
  path: (nr: number) => string;
}

function layout(root: string, dirs: number): Layout {
  const names = dirs === 1 ? [root]
    : Array.from({ length: dirs }, (_, i) => join(root, `d${i}`));
  const each = Math.ceil(FILES / dirs);
  return { dirs: names, path: (nr) => join(names[Math.floor(nr / each)] ?? root, `file-${nr}`) };
}

/** Peak of the daemon's resident memory. */
function peakMib(rig: Rig): number {
  const kib = /VmHWM:\s*(\d+) kB/.exec(fs.readFileSync(`/proc/${rig.daemonPid}/status`, 'utf8'));
  return Number(kib?.[1] ?? Infinity) / 1024;
}

/** How many inodes the kernel has once it has done what it was asked to. */
function kernelInodes(rig: Rig): number {
  let now = rig.counters().kernelInodes;
  for (let i = 0; i < POLLS_MAX && now > KERNEL_INODES_MAX * KERNEL_INODES_SLACK; i++) {
    sleepMs(POLL_MS);
    now = rig.counters().kernelInodes;
  }
  return now;
}

/** Reads whole directories. @returns how often each file was seen, and names that none has */
function listed(at: Layout): { once: number; other: string[] } {
  const seen = new Uint8Array(FILES);
  const other: string[] = [];
  for (const dir of at.dirs) {
    const d = fs.opendirSync(dir, { bufferSize: 4096 });
    for (let e = d.readSync(); e !== null; e = d.readSync()) {
      const nr = Number(/^file-(\d+)$/.exec(e.name)?.[1] ?? NaN);
      if (nr < FILES && e.isFile() && at.path(nr) === join(dir, e.name)) {
        seen[nr] = (seen[nr] ?? 0) + 1;
      } else {
        other.push(e.name);
      }
    }
    d.closeSync();
  }
  return { once: seen.reduce((sum, n) => sum + (n === 1 ? 1 : 0), 0), other };
}

/** Looks names up at random. @returns what was wrong */
function lookUp(at: Layout, inos: Float64Array, below: (limit: number) => number): string[] {
  const wrong: string[] = [];
  for (let i = 0; i < LOOKUPS; i++) {
    const nr = below(FILES);
    const st = fs.statSync(at.path(nr), { throwIfNoEntry: false });
    if (st?.ino !== inos[nr]) wrong.push(`${at.path(nr)}: ${st?.ino} is not ${inos[nr]}`);
    const none = `${at.path(nr)}-`;
    if (fs.statSync(none, { throwIfNoEntry: false }) !== undefined) wrong.push(`${none} exists`);
  }
  return wrong;
}

for (const [name, dirs] of [['one directory', 1], [`${DIRS} directories`, DIRS]] as const) {
  void t.test(`${FILES} files in ${name}`, { skip, timeout: 6_000_000 }, async (tt) => {
    const rig = new Rig('million');
    tt.teardown(() => { rig.end(); });
    await rig.mkfs(META_BYTES, 4 * GIB);
    rig.mount();
    rig.umount();
    const empty = used(rig);
    const at = layout(join(rig.mnt, 'files'), dirs);
    let sinceMs = performance.now();
    const step = (what: string): void => {
      const nowMs = performance.now();
      const mib = rig.daemonPid === 0 ? 0 : peakMib(rig);
      tt.comment(`${what}: ${((nowMs - sinceMs) / 1000).toFixed(1)} s, peak ${mib.toFixed(0)} MiB`);
      tt.ok(mib <= CORES_MAX_MIB + JAVASCRIPT_MAX_MIB, `memory has its limits: ${what}`);
      if (mib > 0 && PRUNES) {
        const kept = kernelInodes(rig);
        tt.ok(kept <= KERNEL_INODES_MAX * KERNEL_INODES_SLACK, `the kernel keeps ${kept} inodes`);
      }
      sinceMs = performance.now();
    };

    rig.mount(MOUNT_OPTIONS);
    for (const dir of at.dirs) fs.mkdirSync(dir, { recursive: true });
    const inos = new Float64Array(FILES);
    for (let nr = 0; nr < FILES; nr++) {
      const fd = fs.openSync(at.path(nr), 'wx');
      inos[nr] = fs.fstatSync(fd).ino;
      fs.closeSync(fd);
    }
    step('created');
    tt.strictSame(listed(at), { once: FILES, other: [] }, 'every name is listed once');
    step('listed');
    rig.umount();
    step('unmounted');
    tt.strictSame(rig.check(), [], 'the full volume is sound');
    tt.equal(used(rig).inodes, empty.inodes + FILES + 1 + (dirs === 1 ? 0 : dirs), 'inodes');
    step('checked');

    rig.mount(MOUNT_OPTIONS);
    tt.strictSame(lookUp(at, inos, seeded(dirs)), [], 'names are found after a remount');
    step('looked up');
    tt.strictSame(listed(at), { once: FILES, other: [] }, 'and are listed once');
    step('listed again');
    for (let nr = 0; nr < FILES; nr++) fs.unlinkSync(at.path(nr));
    step('deleted');
    tt.strictSame(at.dirs.flatMap((dir) => fs.readdirSync(dir)), [], 'nothing is left');
    if (dirs > 1) for (const dir of at.dirs) fs.rmdirSync(dir);
    fs.rmdirSync(join(rig.mnt, 'files'));
    rig.umount();
    tt.strictSame(rig.check(), [], 'the emptied volume is sound');
    // where merges need seconds only for this, enospc.test.ts has them
    const left = nightly() ? letMergesRun(rig, empty) : used(rig);
    step('merged');
    if (nightly()) {
      tt.ok(isFreeAgain(empty, left),
        `${left.meta} metadata blocks are in use, ${empty.meta} of a new volume`);
      tt.strictSame(rig.check(), [], 'the merged volume is sound');
    }
    tt.strictSame([left.data, left.freeData, left.inodes],
      [empty.data, empty.freeData, empty.inodes], 'data blocks and inodes as in the beginning');
  });
}
