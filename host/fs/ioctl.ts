/**
 * The private ioctls that programs use on files of a mount.
 *
 *   5 STAT_MORE     fills the struct, for any file or directory that is open
 *  10 STATFS_MORE   fills the struct, whatever is open
 *  12 ALLOC_DETAIL  one entry per pool of free space, into the caller's memory
 *  14 RESIZE_DEVICES  asks the server to use what the devices have grown by
 *
 *  stat_more 56:    meta_seq 8, data_seq 8, data_version 8, online 8, offline 8,
 *                   crtime_sec s8, crtime_nsec 4, pad 4
 *  statfs_more 48:  fsid 8, rid 8, committed_seq 8, total_meta 8, total_data 8, reserved_meta 8
 *  alloc_detail 16: entries_ptr 8, entries_nr 8
 *  resize_devices 16: new_total_meta_blocks 8, new_total_data_blocks 8
 *    entry 24:      id 8, blocks 8, type 1 (0), bit 0 metadata bit 1 available 1, pad 6
 *
 * The handle's number is what its file was opened with (fs.ts): EBADF where reading asks for it.
 * Every other command is ENOTTY. Results that others have to be asked for can be waited
 * for interruptibly; memory of callers is only touched afterwards, without any lock and
 * without leaving the request (env/caller_mem.ts). Source: ioctl.md 3 and 5,
 * ioctl-vectors.json.
 */
import type { CallerMemory } from '../env/caller_mem.js';
import type { Op } from '../mount/op.js';
import { MODE_READ } from '../mount/op.js';
import { errnoError } from '../observe/errors.js';
import type { NetResizeDevices } from '../core/format.js';
import { setU64 } from '../core/u64.js';
import type { FreeCount } from '../server/alloc_counts.js';
import type { Inodes } from './inode.js';
import { InodeRec } from './inode_item.js';
import { Outcomes } from './outcomes.js';
import type { Call, Caller, IoctlIn, IoctlOut } from './vfs.js';

export const IOC_STAT_MORE = 0x8038e805;
export const IOC_STATFS_MORE = 0x8030e80a;
export const IOC_ALLOC_DETAIL = 0x4010e80c;
export const IOC_RESIZE_DEVICES = 0x4010e80e;
const STAT_MORE_BYTES = 56;
const STATFS_MORE_BYTES = 48;
const ALLOC_DETAIL_BYTES = 16;
const RESIZE_DEVICES_BYTES = 16;
export const ALLOC_ENTRY_BYTES = 24;
const MAX_COUNT = BigInt(Number.MAX_SAFE_INTEGER);
const ALLOC_META = 1;
const ALLOC_AVAIL = 2;

/** What STATFS_MORE reports. */
export interface StatfsMore {
  fsid: bigint;
  /** of this mount */
  rid: bigint;
  /** everything up to it is stable in the whole cluster */
  committedSeq: number;
  totalMetaBlocks: number;
  totalDataBlocks: number;
  reservedMetaBlocks: number;
}

export interface IoctlDeps {
  inodes: Inodes;
  memory: CallerMemory;
  statfsMore(): Promise<StatfsMore>;
  allocDetail(): Promise<FreeCount[]>;
  /** Whether the caller has CAP_SYS_ADMIN. */
  isAdmin(caller: Caller): boolean;
  resizeDevices(totals: NetResizeDevices): Promise<void>;
}

export class Ioctls {
  private readonly rec = new InodeRec();
  private readonly outcomes = new Outcomes();

  constructor(private readonly d: IoctlDeps) {}

  /** @throws Wait; ENOTTY for commands that are not served */
  run(op: Op, call: Call, ino: number, req: IoctlIn, out: IoctlOut): Promise<void> | undefined {
    switch (req.cmd) {
      case IOC_STAT_MORE:
        this.statMore(op, ino, req, out);
        return undefined;
      case IOC_STATFS_MORE:
        this.statfsMore(call, req, out);
        return undefined;
      case IOC_ALLOC_DETAIL: return this.allocDetail(call, req, out);
      case IOC_RESIZE_DEVICES:
        this.resizeDevices(call, req);
        return undefined;
      default: throw errnoError('ENOTTY');
    }
  }

  private statMore(op: Op, ino: number, req: IoctlIn, out: IoctlOut): void {
    const v = structOut(req, out, STAT_MORE_BYTES);
    const r = this.d.inodes.read(op.lockInode(ino, MODE_READ), ino, this.rec);
    [r.metaSeq, r.dataSeq, r.dataVersion, r.onlineBlocks, r.offlineBlocks].forEach((n, i) => {
      setU64(v, i * 8, n);
    });
    v.setBigInt64(40, BigInt(r.crtimeSec), true);
    v.setUint32(48, r.crtimeNsec, true);
  }

  private statfsMore(call: Call, req: IoctlIn, out: IoctlOut): void {
    const s = this.outcomes.of(call, () => this.d.statfsMore());
    const v = structOut(req, out, STATFS_MORE_BYTES);
    v.setBigUint64(0, s.fsid, true);
    v.setBigUint64(8, s.rid, true);
    [s.committedSeq, s.totalMetaBlocks, s.totalDataBlocks, s.reservedMetaBlocks].forEach((n, i) => {
      setU64(v, 16 + i * 8, n);
    });
  }

  private resizeDevices(call: Call, req: IoctlIn): void {
    if (!opensForReading(req.fh)) throw errnoError('EBADF');
    if (!this.d.isAdmin(call)) throw errnoError('EPERM');
    const arg = structIn(req, RESIZE_DEVICES_BYTES);
    const [meta, data] = [arg.getBigUint64(0, true), arg.getBigUint64(8, true)];
    if (meta > MAX_COUNT || data > MAX_COUNT) throw errnoError('EINVAL');
    this.outcomes.of(call, () => this.d.resizeDevices(
      { newTotalMetaBlocks: Number(meta), newTotalDataBlocks: Number(data) }));
  }

  private async allocDetailOut(call: Call, addr: bigint, pools: FreeCount[], out: IoctlOut):
  Promise<void> {
    await this.d.memory.write(call.pid, addr, allocEntries(pools));
    out.result = pools.length;
  }

  private allocDetail(call: Call, req: IoctlIn, out: IoctlOut): Promise<void> {
    const arg = structIn(req, ALLOC_DETAIL_BYTES);
    // Before anything is asked of others: nobody can be given an answer.
    if (call.pid === 0) throw errnoError('EPERM');
    const pools = this.outcomes.of(call, () => this.d.allocDetail());
    if (BigInt(pools.length) > arg.getBigUint64(8, true)) throw errnoError('EOVERFLOW');
    return this.allocDetailOut(call, arg.getBigUint64(0, true), pools, out);
  }
}

/** FMODE_READ of what a file was opened with. O_ACCMODE 3 opens for nothing but ioctls. */
function opensForReading(openFlags: number): boolean {
  return ((openFlags + 1) & 1) !== 0;
}

function structIn(req: IoctlIn, lenBytes: number): DataView {
  if (req.input.length < lenBytes) throw errnoError('EINVAL');
  return new DataView(req.input.buffer, req.input.byteOffset, lenBytes);
}

function structOut(req: IoctlIn, out: IoctlOut, lenBytes: number): DataView {
  if (req.outMaxBytes < lenBytes) throw errnoError('EINVAL');
  out.data = new Uint8Array(lenBytes);
  return new DataView(out.data.buffer);
}

function allocEntries(pools: readonly FreeCount[]): Uint8Array {
  const bytes = new Uint8Array(pools.length * ALLOC_ENTRY_BYTES);
  const v = new DataView(bytes.buffer);
  pools.forEach((p, i) => {
    const o = i * ALLOC_ENTRY_BYTES;
    v.setBigUint64(o, p.id, true);
    setU64(v, o + 8, p.blocks);
    v.setUint8(o + 17, (p.meta ? ALLOC_META : 0) | (p.avail ? ALLOC_AVAIL : 0));
  });
  return bytes;
}
