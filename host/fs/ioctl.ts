/**
 * The private ioctls that programs use on files of a mount.
 *
 * STAT_MORE (5) fills, for any file or directory that is open:
 *
 *  ╒═══════════╤═══════════╤═════════════╤══════════╤═══════════╤══════════╤═══════╤══════╕
 *  │meta_seq  8│data_seq  8│data_version8│online   8│offline   8│crtime  s8│crtime │pad  4│
 *  └───────────┴───────────┴─────────────┴──────────┴───────────┴──────────┴─ns 4──┴──────┘
 *
 * Every other command is ENOTTY. Source: ioctl-vectors.json.
 */
import type { Op } from '../mount/op.js';
import { MODE_READ } from '../mount/op.js';
import { errnoError } from '../observe/errors.js';
import { setU64 } from '../core/u64.js';
import type { Inodes } from './inode.js';
import { InodeRec } from './inode_item.js';
import type { IoctlIn, IoctlOut } from './vfs.js';

export const IOC_STAT_MORE = 0x8038e805;
const STAT_MORE_BYTES = 56;

export class Ioctls {
  private readonly rec = new InodeRec();

  constructor(private readonly inodes: Inodes) {}

  /** @throws Wait; ENOTTY for commands that are not served */
  run(op: Op, ino: number, req: IoctlIn, out: IoctlOut): void {
    if (req.cmd !== IOC_STAT_MORE) throw errnoError('ENOTTY');
    if (req.outMaxBytes < STAT_MORE_BYTES) throw errnoError('EINVAL');
    const r = this.inodes.read(op.lockInode(ino, MODE_READ), ino, this.rec);
    out.data = new Uint8Array(STAT_MORE_BYTES);
    const v = new DataView(out.data.buffer);
    [r.metaSeq, r.dataSeq, r.dataVersion, r.onlineBlocks, r.offlineBlocks].forEach((n, i) => {
      setU64(v, i * 8, n);
    });
    v.setBigInt64(40, BigInt(r.crtimeSec), true);
    v.setUint32(48, r.crtimeNsec, true);
  }
}
