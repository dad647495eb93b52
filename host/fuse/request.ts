/**
 * One request: its header, where its bytes lie, and the objects its operation fills.
 *
 * Objects are reused: a channel serves all requests that finish in their tick with one
 * Request over the device's current slot. A request that has to stay (parked, or
 * moving data) is kept: a WRITE holds its slot, so that the payload is not
 * copied; all others are copied out of the slot, because they are short.
 */
import type { BytePos } from '../core/bytepos.js';
import { getPos } from '../core/bytepos.js';
import { PAYLOAD_OFF, REQUEST_OFF } from '../env/fuse-slots.js';
import type { Slot, SlotPool } from '../env/fuse-slots.js';
import type {
  Call, EntryOut, IoctlOut, Name, OpenOut, SetAttr, StatfsOut,
} from '../fs/vfs.js';
import type { Op } from '../mount/op.js';
import { assert } from '../observe/errors.js';
import type { Hold } from './nodes.js';
import {
  EXT_GROUPS, IN_HEADER_BYTES, OP, OP_FIXED_BYTES, OP_LIMIT, getNodeId, getU64, newAttr,
  newSetAttr,
} from './protocol.js';

/** Bytes of one extension's own header: size and type. */
const EXT_HEADER_BYTES = 8;

export type RequestState = 'running' | 'parked' | 'moving' | 'done';

class MutableName implements Name {
  bytes: Uint8Array = new Uint8Array(0);
  off = 0;
  len = 0;
}

export class Request implements Call {
  opcode = 0;
  unique = 0;
  /** The inode the request is about. */
  nodeid = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  suppGid = -1;

  /** The request's bytes; the opcode's fixed structure starts at `off`, all ends at `end`. */
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(new ArrayBuffer(0));
  off = 0;
  end = 0;

  op: Op | null = null;
  duringDrain = false;
  state: RequestState = 'done';
  replied = false;
  /** Counts parkings, so that the promise of an earlier one is recognized. */
  turn = 0;
  /** The caller got a signal while this waited. */
  signalled = false;
  /** Of a parked request: a signal ends its wait. */
  interruptible = false;
  /** Of a parked request: takes back what it waits for when it will not run again. */
  abandon: (() => void) | null = null;
  /** Of a WRITE: keeps READs waiting until its next run. */
  hold: Hold | null = null;

  readonly name = new MutableName();
  readonly name2 = new MutableName();
  readonly entry: EntryOut = {
    ino: 0, attr: newAttr(), attrCacheable: true, entryCacheable: true,
  };
  readonly open: OpenOut = { fh: 0, direct: false };
  readonly set: SetAttr = newSetAttr();
  readonly statfs: StatfsOut = {
    blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, bsize: 4096, nameMax: 255,
  };
  readonly ioctl: IoctlOut = { result: 0, data: new Uint8Array(0) };

  private slot: Slot | null = null;
  private kept = false;
  private lent: Slot | null = null;

  constructor(private readonly slots: SlotPool) {}

  /** Takes over a request just read. @returns false when its lengths do not add up */
  load(slot: Slot, lenBytes: number): boolean {
    const v = slot.view;
    this.slot = slot;
    this.bytes = slot.bytes;
    this.view = v;
    this.opcode = v.getUint32(REQUEST_OFF + 4, true);
    this.unique = getU64(v, REQUEST_OFF + 8);
    this.nodeid = getNodeId(v, REQUEST_OFF + 16);
    this.uid = v.getUint32(REQUEST_OFF + 24, true);
    this.gid = v.getUint32(REQUEST_OFF + 28, true);
    this.pid = v.getUint32(REQUEST_OFF + 32, true);
    this.suppGid = -1;
    this.off = REQUEST_OFF + IN_HEADER_BYTES;
    this.end = REQUEST_OFF + lenBytes;
    this.op = null;
    this.duringDrain = false;
    this.hold = null;
    this.signalled = false;
    this.replied = false;
    this.state = 'running';
    if (lenBytes < IN_HEADER_BYTES || v.getUint32(REQUEST_OFF, true) !== lenBytes) return false;
    const extBytes = v.getUint16(REQUEST_OFF + 36, true) * 8;
    const fixedBytes = this.opcode < OP_LIMIT ? OP_FIXED_BYTES[this.opcode] ?? 0 : 0;
    this.end -= extBytes;
    if (this.off + fixedBytes > this.end) return false;
    return extBytes === 0 || this.loadExtensions(this.end, this.end + extBytes);
  }

  /** The out objects as every run of an operation finds them. */
  preset(): void {
    this.entry.ino = 0;
    this.entry.attrCacheable = true;
    this.entry.entryCacheable = true;
    this.open.fh = 0;
    this.open.direct = false;
  }

  /** Fixed fields of the request. */
  u32(o: number): number {
    return this.view.getUint32(this.off + o, true);
  }

  u64(o: number): number {
    return getU64(this.view, this.off + o);
  }

  /** The inode number behind a node id. */
  node(o: number): number {
    return getNodeId(this.view, this.off + o);
  }

  /** An offset or size, unchecked. */
  pos(o: number): BytePos {
    return getPos(this.view, this.off + o);
  }

  /**
   * Finds the NUL-terminated name at byte `o` of the body.
   * @returns where the byte after the NUL is, or -1 when there is no NUL
   */
  takeName(o: number, into: MutableName = this.name): number {
    const start = this.off + o;
    let at = start;
    while (at < this.end && this.bytes[at] !== 0) at++;
    if (at >= this.end) return -1;
    into.bytes = this.bytes;
    into.off = start;
    into.len = at - start;
    return o + into.len + 1;
  }

  /** The payload of a WRITE, or null when the request is shorter than it says. */
  payload(sizeBytes: number): Uint8Array | null {
    assert(this.slot !== null, 'a WRITE has its slot');
    return PAYLOAD_OFF + sizeBytes <= this.end ? this.slot.payload.subarray(0, sizeBytes) : null;
  }

  lend(): Uint8Array {
    this.lent ??= this.slots.take();
    return this.lent.payload;
  }

  keepData(): () => void {
    const { slot } = this;
    assert(slot !== null && this.opcode === OP.WRITE, 'only a WRITE has data to keep');
    slot.hold();
    let released = false;
    return () => {
      assert(!released, 'kept data is released once');
      released = true;
      slot.unhold();
    };
  }

  /** Makes the request independent of the device's current slot. */
  keep(): void {
    if (this.kept || this.slot === null) return;
    this.kept = true;
    if (this.opcode === OP.WRITE) {
      this.slot.hold();
      return;
    }
    const copy = this.bytes.slice(this.off, this.end);
    this.bytes = copy;
    this.view = new DataView(copy.buffer, copy.byteOffset, copy.length);
    this.end = copy.length;
    this.off = 0;
    this.slot = null;
  }

  /** Gives all memory back. */
  drop(): void {
    if (this.kept) this.slot?.unhold();
    this.kept = false;
    this.slot = null;
    this.lent?.unhold();
    this.lent = null;
    this.state = 'done';
  }

  private loadExtensions(from: number, to: number): boolean {
    const v = this.view;
    for (let o = from; o < to;) {
      if (o + EXT_HEADER_BYTES > to) return false;
      const size = v.getUint32(o, true);
      if (size < EXT_HEADER_BYTES || size % 8 !== 0 || o + size > to) return false;
      if (v.getUint32(o + 4, true) === EXT_GROUPS && size >= EXT_HEADER_BYTES + 8
        && v.getUint32(o + 8, true) > 0) {
        this.suppGid = v.getUint32(o + 12, true);
      }
      o += size;
    }
    return true;
  }
}
