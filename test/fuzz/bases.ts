/**
 * The volumes that are damaged: small, sound, and between them with one of every
 * structure. They are made by simulated mounts, so every run makes the same ones.
 *
 *   files    everything in log trees of a mount that left
 *   crash    two mounts were killed: open log trees, clients, orphans, lost transactions
 *   merged   a log tree was merged: a file system tree of several levels
 *   merge, freeing, compact    states that exist only while work is under way
 *   wire-two-nodes             written by upstream, where its volumes are there
 */
import { ROOT_INO } from '../../host/core/constants.js';
import { BLOCK_SM_SIZE } from '../../host/core/format.js';
import type { SimDevice } from '../../host/env/sim_device.js';
import { openDevice } from '../../host/env/device.js';
import { checkVolume } from '../../host/disk/check.js';
import { Victim } from '../lib/damage.js';
import { OverlayDevice } from '../lib/overlay.js';
import { addCompactions, addFreeing, addMerge, enrich } from '../lib/rich.js';
import { skipWithoutFixtures, tempDir, unpackFixture } from '../lib/shared.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import type { SimKernel } from '../lib/simkernel.js';
import { SimWorld } from '../lib/simworld.js';
import { mapVolume } from './places.js';
import type { VolumeMap } from './places.js';

const MIB = 1024 * 1024;
const META_BYTES = 16384 * MIB;
const DATA_BYTES = 16384 * MIB;
const PORT = 4000;
const MERGE_WAIT_MS = 120_000;
const MANY_FILES = 120;
const FEW_FILES = 12;
const KEEP_SIZE = 1;
const AF_NONE = 0;
const AF_IPV4 = 1;

export interface Base {
  readonly name: string;
  readonly meta: SimDevice;
  readonly data: SimDevice;
  readonly map: VolumeMap;
}

/** Makes all bases, in a fixed order. */
export async function makeBases(): Promise<Base[]> {
  const files = await world(async (w, v) => {
    const m = await w.run(SimMount.start(w.host(1), v));
    await w.run(populate(m.kernel, FEW_FILES));
    await w.run(m.unmount());
  });
  const crash = await world(async (w, v) => {
    const a = await w.run(SimMount.start(w.host(1), v));
    const b = await w.run(SimMount.start(w.host(2), v, { slotNr: null }));
    await w.run(populate(a.kernel, FEW_FILES));
    await w.run(orphans(b.kernel));
    await w.run(a.kernel.fsync(ROOT_INO));
    await w.run(b.kernel.writeFile(ROOT_INO, 'late', new Uint8Array(5 * BLOCK_SM_SIZE)));
    b.crash();
    a.crash();
  });
  const merged = await world(async (w, v) => {
    const m = await w.run(SimMount.start(w.host(1), v));
    await w.run(populate(m.kernel, MANY_FILES));
    await w.run(m.unmount());
    // a finalized tree is there: the next transaction starts a merge
    const next = await w.run(SimMount.start(w.host(1), v));
    await w.run(populate(next.kernel, FEW_FILES, 'again'));
    await w.clock.advance(MERGE_WAIT_MS);
    await w.run(next.unmount());
  });
  const bases = [base('files', files), base('crash', crash), base('merged', merged)];
  for (const [name, build] of
    [['merge', addMerge], ['freeing', addFreeing], ['compact', addCompactions]] as const) {
    const w = new SimWorld(1);
    bases.push(base(name, edited(w, files, (v) => {
      if (v.sb().srchRoot.height === 0) addSrchRoot(v);
      build(v);
    })));
  }
  // Without it something else stands there, so that seeds mean the same everywhere.
  bases.push(skipWithoutFixtures() === false ? await upstream('wire-two-nodes')
    : base('files', files));
  return bases;
}

/** An empty leaf for srch files. */
function addSrchRoot(v: Victim): void {
  const ref = v.newNode(0, []);
  v.editSuper((sb) => { sb.srchRoot = { ref, height: 1 }; });
}

interface Devices { meta: SimDevice; data: SimDevice }

function base(name: string, d: Devices): Base {
  return { name, ...d, map: mapVolume(new Victim(new OverlayDevice(d.meta),
    new OverlayDevice(d.data))) };
}

/** A fresh volume with foreign structures, after `fn`. */
async function world(fn: (w: SimWorld, v: Devices) => Promise<void>): Promise<Devices> {
  const w = new SimWorld(1);
  const v = await simVolume(w, { metaBytes: META_BYTES, dataBytes: DATA_BYTES });
  edited(w, v, (victim) => { enrich(victim); }, v);
  await fn(w, v);
  v.meta.flushSync();
  v.data.flushSync();
  return v;
}

/** A copy of a volume, or the volume itself, after a change below the file system. */
function edited(w: SimWorld, from: Devices, fn: (v: Victim) => void, into?: Devices): Devices {
  const to = into ?? {
    meta: w.addDevice('meta', from.meta.sizeBytes, from.meta),
    data: w.addDevice('data', from.data.sizeBytes, from.data),
  };
  const v = new Victim(new OverlayDevice(to.meta), new OverlayDevice(to.data));
  fn(v);
  v.meta.writeTo(to.meta);
  v.data.writeTo(to.data);
  to.meta.flushSync();
  to.data.flushSync();
  return to;
}

/** A volume written by upstream: what a check reads of it, with a slot for our host. */
async function upstream(name: string): Promise<Base> {
  const { dir, remove } = tempDir('scoutfs-fuzz');
  try {
    const paths = unpackFixture(name, dir);
    const w = new SimWorld(1);
    const made: SimDevice[] = [];
    const open = [await openDevice(paths.meta, { readOnly: true }),
      await openDevice(paths.data, { readOnly: true })] as const;
    const watched = open.map((d) => new WatchedDevice(d)) as [WatchedDevice, WatchedDevice];
    await checkVolume(...watched);
    for (const [i, path] of ['meta', 'data'].entries()) {
      const d = w.addDevice(path, open[i]?.sizeBytes ?? 0);
      watched[i]?.copyTo(d);
      made.push(d);
      await open[i]?.close();
    }
    const [meta, data] = made;
    if (meta === undefined || data === undefined) throw new Error('no devices');
    return base(name, edited(w, { meta, data }, (v) => {
      v.editSuper((sb) => {
        sb.qconf.slots.forEach((slot, nr) => {
          slot.addr = nr === 0 ? { family: AF_IPV4, port: PORT, addr: w.host(1).addr }
            : { family: AF_NONE, port: 0, addr: 0 };
        });
      });
    }));
  } finally {
    remove();
  }
}

/** Remembers what was read. */
class WatchedDevice extends OverlayDevice {
  private readonly reads = new Map<number, Uint8Array>();

  override readSync(offset: number, buf: Uint8Array): void {
    super.readSync(offset, buf);
    this.reads.set(offset, buf.slice());
  }

  copyTo(d: SimDevice): void {
    for (const [offset, bytes] of this.reads) d.writeSync(offset, bytes);
    d.flushSync();
  }
}

/** Files, directories, links, xattrs with tags, sparse and unwritten extents, orphans. */
async function populate(k: SimKernel, nr: number, prefix = 'f'): Promise<void> {
  const dir = (await k.mkdir(ROOT_INO, `dir ${prefix}`)).ino;
  const deep = (await k.mkdir(dir, 'deep')).ino;
  for (let i = 0; i < nr; i++) {
    const ino = await k.writeFile(i % 3 === 0 ? deep : dir, `${prefix}${i}`,
      new Uint8Array(1 + (i % 4) * 5000).fill(i));
    if (i % 5 === 0) await k.setxattr(ino, 'user.note', new Uint8Array(40 + (i % 7) * 400).fill(i));
    if (i % 8 === 1) {
      await k.setxattr(ino, `scoutfs.hide.srch.s${i % 3}`, Buffer.from('x'));
      await k.setxattr(ino, `scoutfs.hide.totl.t.1.2.${i % 5}`, Buffer.from(`${i}`));
    }
    if (i % 6 === 2) await k.link(ino, deep, `link ${prefix}${i}`);
    if (i % 9 === 4) await k.symlink(dir, `sym ${prefix}${i}`, `deep/${prefix}${i}`.repeat(1 + i * 4 % 90));
    k.forget(ino);
  }
  const sparse = (await k.create(dir, `sparse ${prefix}`)).ino;
  await k.write(sparse, 7 * BLOCK_SM_SIZE, new Uint8Array(3 * BLOCK_SM_SIZE).fill(7));
  await k.write(sparse, 2n ** 40n, new Uint8Array(100).fill(8));
  await k.fallocate(sparse, KEEP_SIZE, 20 * BLOCK_SM_SIZE, 9 * BLOCK_SM_SIZE);
  k.release(sparse);
  await k.mknod(dir, `fifo ${prefix}`, 0o010644);
  await k.unlink(deep, `${prefix}0`);
  await k.rename(dir, `${prefix}1`, deep, `moved ${prefix}`);
  await k.fsync(ROOT_INO);
}

/** Files without names that are still open. */
async function orphans(k: SimKernel): Promise<void> {
  for (let i = 0; i < 3; i++) {
    const { ino } = await k.tmpfile(ROOT_INO);
    await k.write(ino, i * BLOCK_SM_SIZE, new Uint8Array(6000).fill(i));
  }
  await k.setxattr((await k.tmpfile(ROOT_INO)).ino, 'user.x', new Uint8Array(3000));
  await k.fsync(ROOT_INO);
}
