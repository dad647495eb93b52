/**
 * `scoutfs resize-devices` on a cluster that works: the image files grow under both mounts,
 * the volume follows, and either mount uses and reads what has come in.
 * Source: acceptance.md resize-devices; server.md 4.7.
 */
import * as fs from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { ioctl } from '../../host/env/ioctl.js';
import { IOC_RESIZE_DEVICES } from '../../host/fs/ioctl.js';
import type { ScoutfsError } from '../../host/observe/errors.js';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts } from '../lib/clustermounts.js';
import { skipWithoutFuse } from '../lib/mounted.js';
import * as c from '../lib/syscalls.js';

const skip = skipWithoutFuse();
const LIMIT_MS = 240_000;
const MIB = 1 << 20;
const GIB = 1024 ** 3;
const META_BLOCK_BYTES = 65536;
const DATA_BLOCK_BYTES = 4096;
/** struct scoutfs_ioctl_resize_devices of no change. */
const NOTHING = new Uint8Array(16);

interface Device {
  total: number;
  free: number;
}

/** Metadata first. */
async function df(n: ClusterNode): Promise<Device[]> {
  const { devices } = JSON.parse(await n.must('df', '--json', '-p', n.mnt)) as
    { devices: Record<keyof Device, string>[] };
  return devices.map((d) => ({ total: Number(d.total), free: Number(d.free) }));
}

async function totals(n: ClusterNode): Promise<[meta: number, data: number]> {
  const [meta, data] = await df(n);
  return [meta?.total ?? 0, data?.total ?? 0];
}

/** What is refused, and what it changes: nothing. */
async function refused(tt: Test, n: ClusterNode, bytes: [number, number]): Promise<void> {
  const before = await totals(n);
  const [meta, data] = bytes;
  const cases: [string, string[], number][] = [
    ['smaller metadata', ['-m', String(meta - META_BLOCK_BYTES)], 1],
    ['smaller data', ['-d', String(data - DATA_BLOCK_BYTES)], 1],
    ['more than the device', ['-m', String(meta), '-d', String(data + DATA_BLOCK_BYTES)], 1],
    ['no size', ['-m', '12Q'], 64],
    ['less than a block', ['-m', '4K'], 64],
  ];
  for (const [what, args, status] of cases) {
    const r = await n.scoutfs('resize-devices', '-p', n.mnt, ...args);
    tt.equal(r.status, status, what);
    if (status === 1) tt.match(r.err, /resize_devices ioctl failed: Invalid argument/, what);
  }
  tt.strictSame(await totals(n), before, 'and nothing has changed');
}

function answerOf(call: () => number): string {
  try {
    return String(call());
  } catch (e) {
    return (e as ScoutfsError).errno;
  }
}

/** The ioctl asks for a descriptor that reads; `NOTHING` changes nothing. */
function descriptors(tt: Test, n: ClusterNode): void {
  const answer = (flags: number): string => {
    const fd = c.ok(c.open(n.p('modes'), flags, 0o644));
    const result = answerOf(() => ioctl(fd, IOC_RESIZE_DEVICES, NOTHING));
    c.close(fd);
    return result;
  };
  const { O } = c;
  tt.equal(answer(O.WRONLY | O.CREAT | O.EXCL), 'EBADF', 'created for writing only');
  tt.equal(answer(O.WRONLY | O.APPEND), 'EBADF', 'opened for writing only');
  tt.equal(answer(O.RDWR), '0');
  tt.equal(answer(O.RDONLY), '0');
  tt.equal(answer(O.WRONLY | O.RDWR), 'EBADF', 'opened for nothing but ioctls');
  fs.unlinkSync(n.p('modes'));
}

/** A file that is too large for what there was, preallocated here and used there. */
function useNewSpace(tt: Test, here: ClusterNode, there: ClusterNode, lenBytes: number): void {
  const fd = c.ok(c.open(here.p('large'), c.O.RDWR | c.O.CREAT, 0o644));
  tt.equal(c.fallocate(fd, 0, 0, lenBytes), 0, 'more than was free before');
  const at = lenBytes - MIB;
  c.pwrite(fd, Buffer.alloc(MIB, 'n'), at);
  c.fsync(fd);
  c.close(fd);
  const other = fs.openSync(there.p('large'), 'r+');
  const bytes = Buffer.alloc(MIB);
  fs.readSync(other, bytes, 0, MIB, at);
  tt.ok(bytes.equals(Buffer.alloc(MIB, 'n')), 'the other mount reads what is there');
  fs.writeSync(other, Buffer.alloc(MIB, 'o'), 0, MIB, lenBytes / 2);
  fs.fsyncSync(other);
  fs.closeSync(other);
  const again = fs.openSync(here.p('large'), 'r');
  fs.readSync(again, bytes, 0, MIB, lenBytes / 2);
  fs.closeSync(again);
  tt.ok(bytes.equals(Buffer.alloc(MIB, 'o')), 'and the first one what the other wrote');
}

void t.test('devices grow under a cluster', { skip, timeout: LIMIT_MS }, async (tt) => {
  const cluster = await ClusterMounts.start('resize', { members: 2 });
  tt.teardown(() => cluster.end());
  const leader = await cluster.newLeader();
  const other = cluster.node(1 - leader.nr);
  const bytes: [number, number] = [fs.statSync(cluster.meta).size, fs.statSync(cluster.data).size];
  const [metaBytes, dataBytes] = bytes;
  const before = await totals(other);
  tt.strictSame(before, [metaBytes / META_BLOCK_BYTES, dataBytes / DATA_BLOCK_BYTES]);
  await other.must('resize-devices', '-p', other.mnt);
  await other.must('resize-devices', '-p', other.mnt, '-m', String(metaBytes), '-d', '0');
  tt.strictSame(await totals(other), before, 'nothing, equal sizes and 0 change nothing');
  await refused(tt, other, bytes);
  descriptors(tt, other);

  const [, data] = await df(leader);
  fs.truncateSync(cluster.meta, 2 * metaBytes);
  fs.truncateSync(cluster.data, 2 * dataBytes);
  const odd = await other.must('resize-devices', '-p', other.mnt, '-m', String(2 * metaBytes),
    '-d', String(2 * dataBytes - 1));
  tt.match(odd, /is truncated to/, 'a size that is no multiple of the blocks');
  await other.must('resize-devices', '-p', other.mnt, '-d', String(2 * dataBytes));
  for (const n of cluster.nodes) {
    tt.strictSame(await totals(n), before.map((blocks) => 2 * blocks), `node ${n.nr} knows`);
  }
  const [, grown] = await df(leader);
  tt.equal((grown?.free ?? 0) - (data?.free ?? 0), dataBytes / DATA_BLOCK_BYTES, 'as free space');
  useNewSpace(tt, other, leader, dataBytes + GIB);
  await cluster.umountAll();
  tt.strictSame(await cluster.check(), [], 'check is clean');
  await cluster.mountAll();
  tt.equal(fs.statSync(leader.p('large')).size, dataBytes + GIB, 'there after a remount');
});
