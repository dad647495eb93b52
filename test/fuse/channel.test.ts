/**
 * Channel, dispatcher and invalidation against a simulated device: what a real kernel
 * does rarely or never.
 */
import t from 'tap';
import { realClock } from '../../host/env/clock.js';
import type { Call, OpSource } from '../../host/fs/vfs.js';
import { INIT_BIT, OP, getI64, getNodeId, putI64, putNodeId } from '../../host/fuse/protocol.js';
import { DirPacker } from '../../host/fuse/readdir.js';
import { merge, overlaps, pagesOf, subtract } from '../../host/fuse/ranges.js';
import { FuseSession } from '../../host/fuse/session.js';
import type { Op } from '../../host/mount/op.js';
import { Wait } from '../../host/mount/op.js';
import { errnoError } from '../../host/observe/errors.js';
import { MemFs, memCaching } from '../../bench/macro/memfs.js';
import { SimDevice, body, requestBytes } from './simdevice.js';

/** Longer than callers with signals are left alone. */
const POLL_MS = 300;
const sleep = (ms: number): Promise<void> => new Promise((done) => { setTimeout(done, ms); });
const tick = (): Promise<void> => new Promise((done) => { setImmediate(done); });
const [EIO, EINTR, ENOENT, ENOSYS, ESTALE] = [-5, -4, -2, -38, -116];
const MODE = { null: 0, read: 1, write: 2 } as const;

/** An op source that counts what is open. */
class CountingOps implements OpSource {
  open = 0;
  begun: boolean[] = [];

  begin(duringDrain: boolean): Op {
    this.open++;
    this.begun.push(duringDrain);
    return Object.freeze({}) as Op;
  }

  end(): void {
    this.open--;
  }
}

interface Sim {
  device: SimDevice;
  session: FuseSession;
  vfs: MemFs;
  ops: CountingOps;
  log: string[];
  fatal: string[];
  /** Whether callers are being killed. */
  state: { dying: boolean };
}

function simulate(vfs = new MemFs()): Sim {
  const device = new SimDevice();
  const ops = new CountingOps();
  const log: string[] = [];
  const fatal: string[] = [];
  const state = { dying: false };
  const session = new FuseSession({
    device, clock: realClock, vfs, ops, caching: memCaching, isDying: () => state.dying,
  }, {
    end: () => { /* seen by the caller */ },
    fatal: (m) => { fatal.push(m); },
    log: (m) => { log.push(m); },
  });
  session.start();
  return { device, session, vfs, ops, log, fatal, state };
}

function init(device: SimDevice, minor = 45): void {
  device.request(OP.INIT, 2, 0, body(7, minor, 131072, 0xffffffff, 0xffffffff, new Uint8Array(44)));
}

async function started(vfs?: MemFs): Promise<Sim> {
  const sim = simulate(vfs);
  init(sim.device);
  await tick();
  sim.device.replies.length = 0;
  sim.device.notifications.length = 0;
  return sim;
}

const lookup = (device: SimDevice, unique: number, name: string): void => {
  device.request(OP.LOOKUP, unique, 1, body(name));
};
/** The inode number behind the node id at `o` of a reply or a notification. */
const nodeOf = (bytes: Buffer, o: number): number =>
  getNodeId(new DataView(bytes.buffer, bytes.byteOffset), o);
const mkdir = (device: SimDevice, unique: number, name: string): void => {
  device.request(OP.MKDIR, unique, 1, body(0o755, 0, name));
};

t.test('INIT', async (t) => {
  const sim = simulate();
  init(sim.device, 44);
  const { body: out } = sim.device.answer();
  t.equal(out.length, 64);
  t.equal(out.readUInt32LE(4), 44, 'the older side decides');
  const low = out.readUInt32LE(12);
  const high = out.readUInt32LE(32);
  const has = (bit: number): boolean => (bit < 32 ? low >>> bit : high >>> (bit - 32)) % 2 === 1;
  for (const [name, bit] of Object.entries(INIT_BIT)) t.ok(has(bit), name);
  for (const never of [1, 3, 10, 12, 13, 14, 16, 17, 24, 42]) {
    t.notOk(has(never), `bit ${never} is not negotiated`);
  }
  t.equal(out.readUInt32LE(20), 1 << 20, 'max_write');
  await tick();
  t.same(sim.device.notifications.map((n) => n.code), [8, 9], 'INC_EPOCH and PRUNE are probed');

  const old = simulate();
  init(old.device, 30);
  t.same(old.device.replies, []);
  t.match(old.fatal[0], /7\.30; 7\.36 is the oldest/);
});

t.test('requests that do not add up', async (t) => {
  const { device, log, ops } = await started();
  const good = requestBytes(OP.GETATTR, 10, 1, body(0, 0, 0n));
  device.raw(good.slice(0, good.length - 1));
  t.equal(device.answer().error, EIO, 'shorter than its length field');
  device.request(OP.SETATTR, 12, 1, new Uint8Array(40));
  t.equal(device.answer().error, EIO, 'shorter than its structure');
  device.raw(good.slice(0, 20));
  t.equal(device.answer().error, EIO, 'shorter than a header');
  device.request(OP.MKDIR, 14, 1, Buffer.concat([body(0o755, 0), Buffer.from('no end')]));
  t.equal(device.answer().error, -22, 'a name without NUL');
  device.request(OP.WRITE, 16, 1,
    Buffer.concat([body(0n, 0n, 4096, 0, 0n, 0, 0), Buffer.alloc(9)]));
  t.equal(device.answer().error, -22, 'a WRITE shorter than it says');
  device.request(OP.MKDIR, 18, 1, body(0o755, 0, 'd'), body(24, 32, 1, 7));
  t.equal(device.answer().error, EIO, 'an extension longer than the request');
  device.request(OP.BATCH_FORGET, 20, 0, body(1000, 0, 5n, 1n));
  t.same(device.replies, [], 'a batch that claims too much is cut');
  device.request(63, 22, 1, new Uint8Array(0));
  t.equal(device.answer().error, ENOSYS, 'an opcode from the future');
  for (const opcode of [OP.COPY_FILE_RANGE, OP.COPY_FILE_RANGE_64, OP.BMAP, OP.POLL, OP.ACCESS]) {
    device.request(opcode, 24, 1, new Uint8Array(64));
    t.equal(device.answer().error, ENOSYS);
  }
  t.ok(log.length >= 4);
  t.equal(ops.open, 0, 'every operation ended');
});

t.test('who asks', async (t) => {
  const calls: { uid: number; gid: number; pid: number; suppGid: number }[] = [];
  class Spy extends MemFs {
    override mkdir(...args: Parameters<MemFs['mkdir']>): void {
      const { uid, gid, pid, suppGid }: Call = args[1];
      calls.push({ uid, gid, pid, suppGid });
      super.mkdir(...args);
    }
  }
  const { device } = await started(new Spy());
  mkdir(device, 10, 'a');
  device.request(OP.MKDIR, 12, 1, Buffer.concat([body(0o755, 0), Buffer.from('b\0')]),
    body(16, 32, 1, 777));
  t.same(calls, [{ uid: 1000, gid: 100, pid: 4242, suppGid: -1 },
    { uid: 1000, gid: 100, pid: 4242, suppGid: 777 }]);
});

t.test('waiting', async (t) => {
  let waits: { done: () => void; failed: (e: unknown) => void }[] = [];
  let ready = false;
  let abandoned = 0;
  class Slow extends MemFs {
    override mkdir(...args: Parameters<MemFs['mkdir']>): void {
      if (!ready) {
        throw new Wait(new Promise<void>((done, failed) => { waits.push({ done, failed }); }));
      }
      super.mkdir(...args);
    }

    /** Waits for offline data. */
    override readlink(): Uint8Array {
      throw new Wait(new Promise(() => undefined), true, () => { abandoned += 1; });
    }
  }
  const { device, session, ops, state } = await started(new Slow());
  mkdir(device, 10, 'parked');
  mkdir(device, 12, 'interrupted');
  mkdir(device, 14, 'failed');
  t.same(device.replies, []);
  t.equal(ops.open, 3, 'operations stay open while they wait');
  lookup(device, 16, 'other');
  t.equal(device.answer().unique, 16, 'another request passes');

  device.request(OP.INTERRUPT, 13, 0, body(12n));
  t.same(device.replies, [], 'signals do not end waits for locks and blocks');
  state.dying = true;
  await sleep(POLL_MS);
  const { unique, error } = device.answer();
  t.same([unique, error], [12, EINTR], 'unless they kill the caller, which is noticed');
  state.dying = false;
  device.request(OP.READLINK, 28, 1, body(new Uint8Array(0)));
  device.request(OP.INTERRUPT, 29, 0, body(28n));
  t.same([device.answer().error, abandoned], [EINTR, 1], 'a wait for data ends at any signal');
  device.request(OP.INTERRUPT, 13, 0, body(99n));
  t.same(device.replies, [], 'an interrupt of nothing is ignored');
  t.equal(ops.open, 2);

  waits[2]?.failed(errnoError('EIO'));
  await tick();
  t.equal(device.answer().error, EIO, 'what cannot be had is the error');
  waits[0]?.done();
  await tick();
  t.same(device.replies, [], 'still missing: parked again');
  t.equal(waits.length, 4);
  ready = true;
  waits[1]?.done();
  waits[3]?.done();
  await tick();
  t.equal(device.answer().unique, 10, 'only the one that still waits');
  lookup(device, 18, 'parked');
  t.equal(device.answer().error, 0, 'its name survived in a copy');
  lookup(device, 20, 'interrupted');
  t.equal(Number(device.answer().body.readBigUInt64LE(0)), 0);
  t.equal(ops.open, 0);
  t.equal(session.counters.interrupted, 2);

  ready = false;
  waits = [];
  mkdir(device, 22, 'at the end');
  device.close();
  t.equal(ops.open, 0, 'the end of the connection ends what waits');
  ready = true;
  waits[0]?.done();
  await tick();
  t.same(device.replies, []);
});

t.test('replies nobody takes', async (t) => {
  const evicted: number[] = [];
  class Evict extends MemFs {
    override evict(ino: number): void {
      evicted.push(ino);
      super.evict(ino);
    }
  }
  const { device, session, log, fatal } = await started(new Evict());
  device.refuse.push(ENOENT);
  mkdir(device, 10, 'aborted');
  t.equal(session.nodeCount, 1, 'no reference is counted');
  t.same(evicted, [2]);
  device.refuse.push(-22);
  mkdir(device, 12, 'refused');
  t.equal(device.answer().error, EIO, 'a refused reply is answered otherwise');
  t.match(log.at(-1), /MKDIR was refused/);
  device.refuse.push(-22, -22);
  mkdir(device, 14, 'refused again');
  t.match(fatal[0], /MKDIR was refused/);
  t.equal(session.nodeCount, 1);
});

t.test('node ids are swapped inode numbers', async (t) => {
  const b = Buffer.alloc(8);
  const v = new DataView(b.buffer, b.byteOffset);
  const cases: [ino: number, id: bigint][] = [
    [0, 0n], [1, 1n], [2, 2n << 32n], [1025, 1025n << 32n], [0xffffffff, 0xffffffffn << 32n],
    [2 ** 32, 1n << 32n], [2 ** 32 + 1, (1n << 32n) + 1n], [2 ** 33 + 5, (5n << 32n) + 2n],
    [2 ** 53 - 1, (0xffffffffn << 32n) + 0x1fffffn],
  ];
  for (const [ino, id] of cases) {
    putNodeId(v, 0, ino);
    t.equal(b.readBigUInt64LE(), id, `${ino}`);
    t.equal(getNodeId(v, 0), ino, `${ino} and back`);
  }

  const { device } = await started(new MemFs(2 ** 33 + 5));
  mkdir(device, 8, 'c');
  device.answer();
  mkdir(device, 10, 'd');
  const { body: entry } = device.answer();
  const ino = nodeOf(entry, 0);
  t.ok(ino > 2 ** 33, 'a number that needs both halves');
  t.equal(entry.readBigUInt64LE(0), (BigInt(ino) & 0xffffffffn) << 32n | BigInt(ino) >> 32n);
  t.equal(entry.readBigUInt64LE(8), 0n, 'generation');
  t.equal(Number(entry.readBigUInt64LE(40)), ino, 'attributes carry the number itself');

  device.request(OP.LOOKUP, 12, ino, body('.'));
  t.equal(nodeOf(device.answer().body, 0), ino, 'a handle of it');
  device.request(OP.LOOKUP, 14, ino, body('..'));
  t.equal(nodeOf(device.answer().body, 0), 1, 'its parent');
  device.request(OP.LOOKUP, 16, 4711, body('.'));
  t.equal(device.answer().error, ESTALE, 'an unknown number');
  const junk = requestBytes(OP.LOOKUP, 18, 0, body('.'));
  junk.fill(0xff, 16, 24);
  device.raw(junk);
  t.equal(device.answer().error, ESTALE, 'what no number swaps to');
  const link = Buffer.alloc(8);
  putNodeId(new DataView(link.buffer, link.byteOffset), 0, ino);
  device.request(OP.RENAME, 20, 1, body(link, 'd', 'e'));
  t.equal(device.answer().error, 0, 'bodies name nodes as headers do');
  device.request(OP.LOOKUP, 22, ino, body('e'));
  t.equal(nodeOf(device.answer().body, 0), ino);
});

t.test('references', async (t) => {
  const { device, session } = await started();
  mkdir(device, 10, 'd');
  const ino = nodeOf(device.answer().body, 0);
  lookup(device, 12, 'd');
  device.answer();
  device.request(OP.FORGET, 14, ino, body(1n));
  t.ok(session.isOpen(ino));
  device.request(OP.OPENDIR, 16, ino, body(0, 0));
  device.answer();
  device.request(OP.FORGET, 18, ino, body(1n));
  t.ok(session.isOpen(ino), 'a handle keeps it');
  device.request(OP.RELEASEDIR, 20, ino, body(0n, 0, 0, 0n));
  t.notOk(session.isOpen(ino));
  device.request(OP.FORGET, 22, 1, body(5n));
  t.ok(session.isOpen(1), 'the root stays');
});

t.test('draining', async (t) => {
  const { device, session, fatal, ops } = await started();
  mkdir(device, 10, 'd');
  device.answer();

  let misses = 3;
  device.onNotify = (code) => (code === 2 && misses-- > 0 ? ENOENT : 0);
  await session.drain.drain(0, MODE.write, MODE.null);
  const sent = device.notifications.splice(0);
  t.equal(sent[0]?.code, 8, 'names first');
  t.equal(sent.filter((n) => n.code === 2).length, 4, 'ENOENT of a node we know is repeated');
  t.equal(session.drainCounters.repeats, 3);

  await session.drain.drain(0, MODE.write, MODE.null);
  t.same(device.notifications.splice(0), [], 'nothing given, nothing sent');

  lookup(device, 12, 'd');
  device.answer();
  device.onNotify = (code) => {
    if (code === 2) device.request(OP.FORGET, 13, 2, body(2n));
    return code === 2 ? ENOENT : 0;
  };
  await session.drain.drain(0, MODE.write, MODE.null);
  t.equal(device.notifications.splice(0).filter((n) => n.code === 2).length, 1,
    'no repetition after FORGET');

  let letGo = (): void => { /* set below */ };
  device.onNotify = (code) => (code !== 2 ? 0 : new Promise((done) => {
    letGo = () => { done(0); };
  }));
  device.request(OP.GETATTR, 14, 1, body(0, 0, 0n));
  t.ok(device.answer().body.readBigUInt64LE(0) > 0n, 'cacheable');
  const draining = session.drain.drain(0, MODE.write, MODE.null);
  ops.begun = [];
  device.request(OP.GETATTR, 16, 1, body(0, 0, 0n));
  t.equal(device.answer().body.readBigUInt64LE(0), 0n, 'not cacheable during a drain');
  device.request(OP.SETATTR, 18, 1, body(8, 0, 0n, 0n, new Uint8Array(64)));
  t.same(ops.begun, [false, true], 'a size change uses the grant that is still held');
  letGo();
  await draining;

  device.onNotify = () => 0;
  device.notifications.length = 0;
  device.request(OP.GETXATTR, 24, 1, body(100, 0, 'system.posix_acl_access'));
  await session.drain.drain(0, MODE.write, MODE.null);
  t.same(device.notifications.map((n) => n.code), [2], 'cached ACLs are dropped');
  device.request(OP.GETXATTR, 26, 1, body(100, 0, 'user.other'));
  await session.drain.drain(0, MODE.write, MODE.null);
  t.equal(device.notifications.length, 1, 'other xattrs are not cached');

  device.request(OP.GETATTR, 20, 1, body(0, 0, 0n));
  device.onNotify = () => -12;
  await session.drain.drain(0, MODE.write, MODE.null);
  t.match(fatal[0], /INVAL_INODE failed with errno 12/, 'caches that stay are the end');
});

t.test('packing a directory', (t) => {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const packer = new DirPacker(bytes, view);
  const name = Buffer.from('entry');
  const offsets = (len: number): number[] => {
    const out: number[] = [];
    for (let o = 16; o < 16 + len; o += 32) out.push(Number(view.getBigUint64(o + 8, true)));
    return out;
  };
  packer.begin(16, 4000);
  packer.dots(0, 1, 1);
  t.same(offsets(packer.finish()), [1, 2], 'empty');
  packer.begin(16, 4000);
  packer.dots(1, 1, 1);
  for (const pos of [7, 9]) t.equal(packer.add(5, pos, 8, name, 0, 5), true);
  t.same(offsets(packer.finish()), [7, 9, 10], 'gaps are jumped, the end is one more');
  packer.begin(16, 64);
  t.equal(packer.add(5, 3, 8, name, 0, 5), true);
  t.equal(packer.add(5, 4, 8, name, 0, 5), true);
  t.equal(packer.add(5, 40, 8, name, 0, 5), false, 'full');
  t.same(offsets(packer.finish()), [4, 40], 'the one that does not fit gives its position');
  packer.begin(16, 10);
  t.equal(packer.add(5, 3, 8, name, 0, 5), false);
  t.equal(packer.finish(), 0);
  t.end();
});

t.test('ranges and numbers', (t) => {
  t.same(pagesOf(5000, 1), { start: 4096, end: 8192 });
  t.same(pagesOf(0, 4096), { start: 0, end: 4096 });
  t.same(pagesOf(2n ** 53n + 4097n, 1), { start: 2 ** 53 + 4096, end: 2 ** 53 + 8192 });
  t.same(pagesOf(2n ** 63n - 1n, 1), { start: 2 ** 63 - 4096, end: 2 ** 63 }, 'the last page');
  t.same(merge([{ start: 8, end: 9 }, { start: 0, end: 4 }, { start: 4, end: 6 }]),
    [{ start: 0, end: 6 }, { start: 8, end: 9 }]);
  t.same(subtract([{ start: 0, end: Infinity }], [{ start: 4, end: 8 }, { start: 0, end: 2 }]),
    [{ start: 2, end: 4 }, { start: 8, end: Infinity }]);
  t.same(subtract([{ start: 0, end: 4 }], [{ start: 0, end: 8 }]), []);
  t.equal(overlaps([{ start: 0, end: 4 }], { start: 4, end: 5 }), false);
  const v = new DataView(new ArrayBuffer(8));
  for (const n of [0, 1, -1, -1000, 2 ** 40, -(2 ** 40) - 7, 2 ** 63 - 4096]) {
    putI64(v, 0, n);
    t.equal(getI64(v, 0), n);
    t.equal(Number(v.getBigInt64(0, true)), n);
  }
  t.end();
});
