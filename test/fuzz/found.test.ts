/**
 * What the fuzzer of volumes has found, each in its smallest form.
 */
import t from 'tap';
import { ROOT_INO } from '../../host/core/constants.js';
import { BLOCK_LG_SIZE, BLOCK_SM_SIZE, QUORUM_BLKNO } from '../../host/core/format.js';
import { alignedMemory } from '../../host/env/device.js';
import type { DeviceIo, Fate } from '../../host/env/sim_device.js';
import type { ScoutfsError } from '../../host/observe/errors.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { Victim } from '../lib/damage.js';
import { OverlayDevice } from '../lib/overlay.js';
import { direntValue } from '../lib/rich.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import type { SimVolume } from '../lib/simmount.js';
import { SimWorld } from '../lib/simworld.js';

const LIMIT_MS = 60_000;
/** alloc.md 1.2. */
const LIST_START_OFF = 48;
const LIST_NUMBERS_OFF = 56;

/** What a promise fails with within a minute of simulated time. */
function failure(w: SimWorld, p: Promise<unknown>): Promise<ScoutfsError> {
  return w.clock.until(p.then(() => { throw new Error('succeeded'); }, asScoutfsError), LIMIT_MS);
}

function edit(v: SimVolume, fn: (victim: Victim) => void): void {
  const victim = new Victim(new OverlayDevice(v.meta), new OverlayDevice(v.data));
  fn(victim);
  victim.meta.writeTo(v.meta);
  v.meta.flushSync();
}

/** A volume that was used, and its world. */
async function used(): Promise<{ w: SimWorld; v: SimVolume }> {
  const w = new SimWorld(1);
  const v = await simVolume(w);
  const m = await w.run(SimMount.start(w.host(1), v));
  await w.run(m.kernel.writeFile(ROOT_INO, 'one', new Uint8Array(5000)));
  await w.run(m.unmount());
  return { w, v };
}

t.test('a mount whose server cannot run fails, and says why', async (t) => {
  const { w, v } = await used();
  edit(v, (victim) => {
    victim.editBlock(victim.sb().logsRoot.ref.blkno, (b) => { b.setUint16(34, 999, true); });
  });
  const e = await failure(w, SimMount.start(w.host(1), v));
  t.equal(e.code, 'NO_SERVER');
  t.match(e.message, /BTREE_STRUCT.*metadata block \d+/);
});

t.test('a mount that the server cannot take in fails, and names the block', async (t) => {
  const { w, v } = await used();
  edit(v, (victim) => {
    victim.editSuper((sb) => { sb.mountedClients = { ref: { blkno: 9, seq: 77n }, height: 1 }; });
  });
  const e = await failure(w, SimMount.start(w.host(1), v));
  t.match(e.message, /metadata block 9/);
});

t.test('a mount whose quorum block cannot be read or written fails', async (t) => {
  for (const kind of ['read', 'flush'] as const) {
    const { w, v } = await used();
    const at = QUORUM_BLKNO * BLOCK_SM_SIZE;
    let failed = false;
    v.meta.faults = (io: DeviceIo): Fate => {
      if (failed || io.kind !== kind || (kind === 'read' && io.offset !== at)) return 'do';
      failed = true;
      return 'fail';
    };
    t.equal((await failure(w, SimMount.start(w.host(1), v))).errno, 'EIO', kind);
    v.meta.faults = null;
    const m = await w.run(SimMount.start(w.host(1), v));
    await w.run(m.unmount());
  }
});

t.test('a client that cannot read where the server is fails, and waits once it was up', async (t) => {
  const { w, v } = await used();
  const server = await w.run(SimMount.start(w.host(1), v, { slotNr: 0 }));
  const dead = (io: DeviceIo): Fate => (io.kind === 'read' ? 'fail' : 'do');
  const other = await w.run(SimMount.start(w.host(2), v, { slotNr: null }));
  server.crash();
  v.meta.faults = dead;
  const create = w.clock.until(other.kernel.create(ROOT_INO, 'two'), LIMIT_MS * 2);
  await w.clock.advance(10_000);
  v.meta.faults = null;
  const again = await w.run(SimMount.start(w.host(1), v, { slotNr: 0 }));
  t.ok((await create).ino > 0, 'a mount that was up waits for its device');
  again.crash();
  other.crash();
  // the super block is read when the mount begins
  const opened = v.meta.stats.reads + 1;
  v.meta.faults = (io) => (io.nr > opened ? dead(io) : 'do');
  t.equal((await failure(w, SimMount.start(w.host(3), v, { slotNr: null }))).errno, 'EIO');
  t.ok(v.meta.stats.reads > opened, 'it has tried to find the server');
});

t.test('a mount whose metadata device takes no writes any more fails', async (t) => {
  for (const allowed of [2, 5, 9]) {
    const { w, v } = await used();
    const from = v.meta.stats.writes;
    v.meta.faults = (io: DeviceIo): Fate =>
      (io.kind === 'write' && io.nr > from + allowed ? 'fail' : 'do');
    t.equal((await failure(w, SimMount.start(w.host(1), v))).errno, 'EIO', `${allowed} writes`);
  }
});

t.test('names that no caller could use are not listed', async (t) => {
  for (const name of ['a/b', 'a\0b', '/']) {
    const { w, v } = await used();
    edit(v, (victim) => {
      victim.editItem({ zone: 16, first: BigInt(ROOT_INO), type: 16 }, (i) =>
        ({ ...i, value: direntValue(1024, name, Number(i.key.second), 4) }));
    });
    const m = await w.run(SimMount.start(w.host(1), v));
    const e = await failure(w, m.kernel.readdir(ROOT_INO));
    t.equal(e.code, 'DIRENT_ITEM', JSON.stringify(name));
    await w.run(m.unmount());
  }
});

t.test('extents outside of the data area are damage to whoever meets them', async (t) => {
  for (const blkno of [16, 63, 2 ** 40]) {
    const { w, v } = await used();
    let ino = 0;
    edit(v, (victim) => {
      victim.editValue({ zone: 16, type: 28 }, (b) => { b.setBigUint64(0, BigInt(blkno), true); });
      ino = Number(victim.find({ zone: 16, type: 28 }).item.key.first);
    });
    const m = await w.run(SimMount.start(w.host(1), v));
    const k = m.kernel;
    for (const op of [() => k.read(ino, 0, 4096), () => k.write(ino, 0, new Uint8Array(4096)),
      () => k.write(ino, 5000, new Uint8Array(1)), () => k.setattr(ino, { valid: 8, size: 1 })]) {
      t.equal((await failure(w, op())).code, 'EXTENT_ITEM', `${blkno}`);
    }
    await w.run(m.unmount());
    t.same(v.data.violations, [], 'the device is not asked');
  }
});

t.test('an extent whose key has a fourth part is damage, not the same one for ever', async (t) => {
  const { w, v } = await used();
  let ino = 0;
  edit(v, (victim) => {
    victim.editItem({ zone: 16, type: 28 }, (i) => {
      ino = Number(i.key.first);
      return { ...i, key: { ...i.key, fourth: 255 } };
    });
  });
  const m = await w.run(SimMount.start(w.host(1), v));
  t.equal((await failure(w, m.kernel.read(ino, 0, 4096))).code, 'EXTENT_ITEM');
  t.equal((await failure(w, m.kernel.setattr(ino, { valid: 8, size: 1 }))).code, 'EXTENT_ITEM');
  await w.run(m.unmount());
});

t.test('an xattr with an id that no number holds is damage, not a list without end', async (t) => {
  const { w, v } = await used();
  let ino = 0;
  const first = await w.run(SimMount.start(w.host(1), v));
  const { ino: two } = await w.run(first.kernel.create(ROOT_INO, 'two'));
  await w.run(first.kernel.setxattr(two, 'user.a', new Uint8Array(3)));
  await w.run(first.unmount());
  edit(v, (victim) => {
    victim.editItem({ zone: 16, type: 8 }, (i) => {
      ino = Number(i.key.first);
      return { ...i, key: { ...i.key, third: 2n ** 63n } };
    });
  });
  const m = await w.run(SimMount.start(w.host(1), v));
  t.equal((await failure(w, m.kernel.listxattr(ino))).code, 'ITEM_KEY');
  await w.run(m.unmount());
});

t.test('a log tree under the key of another is damage, not one to retire for ever', async (t) => {
  const w = new SimWorld(1);
  const v = await simVolume(w);
  const dead = await w.run(SimMount.start(w.host(1), v));
  await w.run(dead.kernel.writeFile(ROOT_INO, 'one', new Uint8Array(5000)));
  await w.run(dead.kernel.fsync(ROOT_INO));
  dead.crash();
  edit(v, (victim) => {
    victim.editNode(victim.sb().logsRoot.ref.blkno, (items) => items.map((i) =>
      (i.key.first === dead.rid ? { ...i, key: { ...i.key, second: 255n } } : i)));
  });
  const e = await failure(w, SimMount.start(w.host(1), v));
  t.match(e.message, /log tree [0-9a-f]+\.1 is stored under another key/);
});

t.test('a damaged orphan item does not keep the scan for ever', async (t) => {
  for (const key of [{ first: 1n }, { second: 2n ** 63n }, { third: 1n }, { fourth: 7 }]) {
    const { w, v } = await used();
    edit(v, (victim) => {
      victim.addItems({
        key: { zone: 8, first: 0n, type: 4, second: 1030n, third: 0n, fourth: 0, ...key },
        seq: 1n, flags: 0, value: new Uint8Array(0),
      });
    });
    const m = await w.run(SimMount.start(w.host(1), v, { options: 'orphan_scan_delay_ms=100' }));
    await w.clock.advance(2000);
    await w.run(m.unmount());
    t.pass(JSON.stringify(Object.keys(key)));
  }
});

t.test('data that was never written is not read once the mount is given up', async (t) => {
  const { w, v } = await used();
  const m = await w.run(SimMount.start(w.host(1), v));
  const { ino } = await w.run(m.kernel.create(ROOT_INO, 'two'));
  v.data.faults = (io: DeviceIo): Fate => (io.kind === 'write' ? 'fail' : 'do');
  t.equal((await failure(w, m.kernel.write(ino, 0, new Uint8Array(4096)))).errno, 'EIO');
  const read = failure(w, m.kernel.read(ino, 0, 4096));
  await w.clock.advance(10_000);
  m.client.force();
  v.data.faults = null;
  const writes = v.data.stats.writes;
  t.equal((await read).errno, 'ENOLINK');
  await w.clock.advance(10_000);
  t.equal(v.data.stats.writes, writes, 'nothing is written any more');
});

t.test('pieces of aligned memory do not overlap and are aligned', (t) => {
  const pieces = [4096, 4096, 8192, 100, 4096, 32768, 32768, BLOCK_LG_SIZE, 4096]
    .map((n) => alignedMemory(n));
  pieces.forEach((p, i) => p.fill(i + 1));
  pieces.forEach((p, i) => {
    t.equal(p.byteOffset % BLOCK_SM_SIZE, 0);
    t.ok(p.every((b) => b === i + 1), `piece ${i}`);
  });
  t.ok(alignedMemory(4096).every((b) => b === 0), 'zeroed');
  t.end();
});

t.test('block 0 is never taken from a list of free blocks', async (t) => {
  for (const at of [0, 1]) {
    const { w, v } = await used();
    edit(v, (victim) => {
      for (const { ref } of victim.sb().serverMetaAvail) {
        victim.editBlock(ref.blkno, (b) => {
          const start = b.getUint32(LIST_START_OFF, true);
          b.setBigUint64(LIST_NUMBERS_OFF + (start + at) * 8, 0n, true);
        });
      }
    });
    const written: number[] = [];
    v.meta.begun = (io: DeviceIo): void => { if (io.kind === 'write') written.push(io.offset); };
    const e = await failure(w, SimMount.start(w.host(1), v));
    t.match(e.message, /metadata block 0/);
    t.notOk(written.includes(0), `entry ${at}`);
  }
});

t.test('who waits for a lock fails once the mount is given up', async (t) => {
  const { w, v } = await used();
  const m = await w.run(SimMount.start(w.host(1), v, { slotNr: 0 }));
  const other = await w.run(SimMount.start(w.host(2), v, { slotNr: null }));
  await w.run(m.kernel.create(ROOT_INO, 'held'));
  m.crash();
  const create = failure(w, other.kernel.create(ROOT_INO, 'two'));
  const lookup = failure(w, other.kernel.lookup(ROOT_INO, 'three'));
  await w.clock.advance(10_000);
  other.client.force();
  t.match([(await create).errno, (await lookup).errno], ['ENOLINK', 'ENOLINK']);
});
