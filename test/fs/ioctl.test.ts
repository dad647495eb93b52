/**
 * Ioctls whose answers are made elsewhere: numbers and layouts of the vectors, the caller's
 * memory, and waiting.
 */
import { constants as O } from 'node:fs';
import koffi from 'koffi';
import t from 'tap';
import { CallerMemory } from '../../host/env/caller_mem.js';
import type { Inodes } from '../../host/fs/inode.js';
import {
  ALLOC_ENTRY_BYTES, IOC_ALLOC_DETAIL, IOC_RESIZE_DEVICES, IOC_STATFS_MORE, IOC_STAT_MORE, Ioctls,
} from '../../host/fs/ioctl.js';
import type { Call, IoctlOut } from '../../host/fs/vfs.js';
import { Wait } from '../../host/mount/op.js';
import type { Op } from '../../host/mount/op.js';
import { errnoError } from '../../host/observe/errors.js';
import type { FreeCount } from '../../host/server/alloc_counts.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface Vectors {
  ioctls: { name: string; value: number; size: number; struct: string }[];
  structs: Record<string, { size: number; fields: { name: string; offset?: number }[] }>;
}

const STATFS = {
  fsid: 0x1122334455667788n, rid: 0xffeeddccbbaa9988n, committedSeq: 77, totalMetaBlocks: 1000,
  totalDataBlocks: 2 ** 40, reservedMetaBlocks: 34681,
};
const POOLS: FreeCount[] = [
  { owner: 0, id: 0n, meta: true, avail: true, blocks: 5 },
  { owner: 1, id: 2n ** 63n, meta: false, avail: false, blocks: 2 ** 33 },
  { owner: 1, id: 7n, meta: true, avail: false, blocks: 0 },
];

/** Of no use to these ioctls. */
const NO_INODES = null as unknown as Inodes;

/** Runs an ioctl as the dispatcher does. @returns the result or the errno's name */
async function run(ioctls: Ioctls, call: Call, cmd: number, input: Uint8Array, outMaxBytes: number,
  out: IoctlOut, fh = 0): Promise<number | string> {
  for (;;) {
    try {
      await ioctls.run({} as Op, call, 1,
        { fh, cmd, arg: 0n, input, outMaxBytes, isDir: false }, out);
      return out.result;
    } catch (e) {
      const failed = e instanceof Wait
        ? await e.ready.then(() => null, (why: unknown) => why) : e;
      if (failed !== null) return (failed as { errno: string }).errno;
    }
  }
}

const NO_RESIZE = { isAdmin: () => false, resizeDevices: () => Promise.resolve() };

function arg(ptr: bigint, nr: bigint): Uint8Array {
  const v = new DataView(new ArrayBuffer(16));
  v.setBigUint64(0, ptr, true);
  v.setBigUint64(8, nr, true);
  return new Uint8Array(v.buffer);
}

t.test('numbers and layouts', { skip: skipWithoutSpec() }, async (t) => {
  const { ioctls, structs } = vectors('ioctl-vectors.json') as Vectors;
  const numberOf = (name: string): number | undefined =>
    ioctls.find((i) => i.name === `SCOUTFS_IOC_${name}`)?.value;
  t.equal(IOC_STAT_MORE, numberOf('STAT_MORE'));
  t.equal(IOC_STATFS_MORE, numberOf('STATFS_MORE'));
  t.equal(IOC_ALLOC_DETAIL, numberOf('ALLOC_DETAIL'));
  t.equal(IOC_RESIZE_DEVICES, numberOf('RESIZE_DEVICES'));
  t.equal(ALLOC_ENTRY_BYTES, structs['scoutfs_ioctl_alloc_detail_entry']?.size);
  const served = new Ioctls({
    ...NO_RESIZE, inodes: NO_INODES, memory: new CallerMemory(() => undefined),
    statfsMore: () => Promise.resolve(STATFS), allocDetail: () => Promise.resolve(POOLS),
  });
  const out: IoctlOut = { result: 0, data: new Uint8Array(0) };
  const call = { pid: process.pid } as Call;
  t.equal(await run(served, call, IOC_STATFS_MORE, new Uint8Array(0), 48, out), 0);
  const v = new DataView(out.data.buffer);
  const fields = structs['scoutfs_ioctl_statfs_more']?.fields ?? [];
  t.same(fields.map((f) => [f.name, v.getBigUint64(f.offset ?? 0, true)]), [
    ['fsid', STATFS.fsid], ['rid', STATFS.rid], ['committed_seq', 77n],
    ['total_meta_blocks', 1000n], ['total_data_blocks', 2n ** 40n],
    ['reserved_meta_blocks', 34681n]]);
  t.equal(out.data.length, structs['scoutfs_ioctl_statfs_more']?.size);
});

t.test('alloc_detail', async (t) => {
  let asked = 0;
  const served = new Ioctls({
    ...NO_RESIZE, inodes: NO_INODES, memory: new CallerMemory(() => undefined),
    statfsMore: () => Promise.resolve(STATFS),
    allocDetail: () => {
      asked += 1;
      return Promise.resolve(POOLS);
    },
  });
  const buffer = new Uint8Array(4 * ALLOC_ENTRY_BYTES).fill(0xee);
  const ptr = koffi.address(buffer);
  const out: IoctlOut = { result: 0, data: new Uint8Array(0) };
  const call = { pid: process.pid } as Call;
  const ask = (p: bigint, nr: bigint, by = call): Promise<number | string> =>
    run(served, by, IOC_ALLOC_DETAIL, arg(p, nr), 0, out);
  t.equal(await ask(ptr, 3n), 3, 'the number of pools');
  t.equal(asked, 1, 'asked once, though the operation ran twice');
  t.equal(out.data.length, 0, 'nothing through the kernel');
  const v = new DataView(buffer.buffer);
  t.same([0, 1, 2].map((i) => [
    v.getBigUint64(24 * i, true), v.getBigUint64(24 * i + 8, true), buffer[24 * i + 16],
    buffer[24 * i + 17], buffer.slice(24 * i + 18, 24 * i + 24).every((b) => b === 0),
  ]), [[0n, 5n, 0, 3, true], [2n ** 63n, 2n ** 33n, 0, 0, true], [7n, 0n, 0, 1, true]]);
  t.ok(buffer.subarray(72).every((b) => b === 0xee), 'not a byte more');
  buffer.fill(0xee);
  t.equal(await ask(ptr, 2n), 'EOVERFLOW');
  t.equal(await ask(ptr, 0n), 'EOVERFLOW');
  t.ok(buffer.every((b) => b === 0xee), 'and nothing was stored');
  t.equal(await ask(0n, 3n), 'EFAULT');
  t.equal(await ask(2n ** 64n - 24n, 3n), 'EFAULT');
  t.equal(await ask(ptr, 3n, { pid: 0 } as Call), 'EPERM', 'nobody we know');
  t.equal(await run(served, call, IOC_ALLOC_DETAIL, new Uint8Array(8), 0, out), 'EINVAL');
  t.equal(await run(served, call, IOC_ALLOC_DETAIL + 1, arg(ptr, 3n), 0, out), 'ENOTTY');
});

t.test('resize_devices', async (t) => {
  const asked: [number, number][] = [];
  let admin = true;
  const served = new Ioctls({
    inodes: NO_INODES, memory: new CallerMemory(() => undefined), isAdmin: () => admin,
    statfsMore: () => Promise.resolve(STATFS), allocDetail: () => Promise.resolve(POOLS),
    resizeDevices: (n) => {
      asked.push([n.newTotalMetaBlocks, n.newTotalDataBlocks]);
      return asked.length > 1 ? Promise.reject(errnoError('EINVAL')) : Promise.resolve();
    },
  });
  const out: IoctlOut = { result: 0, data: new Uint8Array(0) };
  const call = { pid: process.pid } as Call;
  const ask = (meta: bigint, data: bigint): Promise<number | string> =>
    run(served, call, IOC_RESIZE_DEVICES, arg(meta, data), 0, out);
  t.equal(await ask(5n, 7n), 0);
  t.equal(await ask(4n, 0n), 'EINVAL', 'what the server says');
  t.equal(await ask(2n ** 60n, 0n), 'EINVAL', 'more than anybody can count');
  t.equal(await run(served, call, IOC_RESIZE_DEVICES, new Uint8Array(8), 0, out), 'EINVAL');
  const opened = (flags: number): Promise<number | string> =>
    run(served, call, IOC_RESIZE_DEVICES, arg(5n, 7n), 0, out, flags);
  t.equal(await opened(O.O_WRONLY | O.O_APPEND), 'EBADF', 'not opened for reading');
  t.equal(await opened(O.O_WRONLY | O.O_RDWR), 'EBADF', 'opened for nothing but ioctls');
  admin = false;
  t.equal(await opened(O.O_RDWR), 'EPERM', 'opened for reading, too');
  t.equal(await opened(O.O_WRONLY), 'EBADF', 'which is looked at first');
  t.same(asked, [[5, 7], [4, 0]], 'each request is sent once');
});

t.test('an interrupted wait leaves nothing for the next request', async (t) => {
  let answer: (s: typeof STATFS) => void = () => undefined;
  const served = new Ioctls({
    ...NO_RESIZE, inodes: NO_INODES, memory: new CallerMemory(() => undefined),
    statfsMore: () => new Promise((resolve) => { answer = resolve; }),
    allocDetail: () => Promise.resolve(POOLS),
  });
  const call = { pid: process.pid } as Call;
  const out: IoctlOut = { result: 0, data: new Uint8Array(0) };
  const once = (): Wait => {
    try {
      void served.run({} as Op, call, 1, {
        fh: 0, cmd: IOC_STATFS_MORE, arg: 0n, input: new Uint8Array(0), outMaxBytes: 48,
        isDir: false,
      }, out);
    } catch (e) {
      if (e instanceof Wait) return e;
      throw e;
    }
    throw new Error('did not wait');
  };
  const wait = once();
  wait.abandon?.();
  answer(STATFS);
  await wait.ready;
  // the request's object serves another request now, which has to ask for itself
  t.ok(once() instanceof Wait);
});
