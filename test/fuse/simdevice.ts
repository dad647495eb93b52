/**
 * A FUSE device without a kernel: the test writes requests and reads what was answered.
 */
import type { FuseDevice, FuseHandlers } from '../../host/env/fuse-device.js';
import { REQUEST_OFF, SlotPool } from '../../host/env/fuse-slots.js';
import { putNodeId, putU64 } from '../../host/fuse/protocol.js';

export interface SimReply {
  unique: number;
  /** Negative errno, or 0. */
  error: number;
  body: Buffer;
}

export class SimDevice implements FuseDevice {
  readonly slots = new SlotPool(4);
  readonly replyBytes = new Uint8Array(1 << 20);
  readonly replyView = new DataView(this.replyBytes.buffer);
  readonly replies: SimReply[] = [];
  readonly notifications: { code: number; message: Buffer }[] = [];
  /** Results that the next replies get instead of 0. */
  readonly refuse: number[] = [];
  /** What a notification's write returns, by code and count. */
  onNotify: (code: number, message: Buffer) => number | Promise<number> = () => 0;
  private handlers: FuseHandlers | null = null;
  private slot = this.slots.take();

  start(handlers: FuseHandlers): void {
    this.handlers = handlers;
  }

  reply(lenBytes: number): number {
    return this.put(Buffer.from(this.replyBytes.slice(0, lenBytes)));
  }

  replyData(data: Uint8Array): number {
    return this.put(Buffer.concat([this.replyBytes.slice(0, 16), data]));
  }

  notify(bytes: Uint8Array): Promise<number> {
    return Promise.resolve(this.notifySync(bytes) as number | Promise<number>);
  }

  notifySync(bytes: Uint8Array): number {
    const message = Buffer.from(bytes);
    const code = message.readInt32LE(4);
    this.notifications.push({ code, message });
    // a promise passes through notify and is never given for those sent synchronously
    return this.onNotify(code, message) as number;
  }

  close(): void {
    this.handlers?.end('closed');
  }

  /** Delivers raw bytes as one request. */
  raw(bytes: Uint8Array): void {
    this.slot.bytes.set(bytes, REQUEST_OFF);
    this.handlers?.request(this.slot, bytes.length);
    if (!this.slot.shared) return;
    this.slot.unhold();
    this.slot = this.slots.take();
  }

  /** Delivers a request; `exts` are extension bytes at its end. */
  request(opcode: number, unique: number, nodeid: number, body: Uint8Array, exts?: Uint8Array):
  void {
    this.raw(requestBytes(opcode, unique, nodeid, body, exts));
  }

  /** Takes the only answer since the last call. */
  answer(): SimReply {
    const [reply, ...more] = this.replies.splice(0);
    if (reply === undefined || more.length > 0) {
      throw new Error(`expected one reply, got ${reply === undefined ? 0 : more.length + 1}`);
    }
    return reply;
  }

  private put(bytes: Buffer): number {
    const refused = this.refuse.shift();
    if (refused !== undefined && refused !== 0) return refused;
    if (bytes.readUInt32LE(0) !== bytes.length) throw new Error('length field of a reply');
    this.replies.push({ error: bytes.readInt32LE(4), unique: Number(bytes.readBigUInt64LE(8)),
      body: bytes.subarray(16) });
    return 0;
  }
}

export function requestBytes(opcode: number, unique: number, nodeid: number, body: Uint8Array,
  exts: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(40 + body.length + exts.length);
  const v = new DataView(bytes.buffer);
  v.setUint32(0, bytes.length, true);
  v.setUint32(4, opcode, true);
  putU64(v, 8, unique);
  putNodeId(v, 16, nodeid);
  v.setUint32(24, 1000, true);
  v.setUint32(28, 100, true);
  v.setUint32(32, 4242, true);
  v.setUint16(36, exts.length / 8, true);
  bytes.set(body, 40);
  bytes.set(exts, 40 + body.length);
  return bytes;
}

/** Little endian words as bytes; strings get their NUL. */
export function body(...parts: (number | bigint | string | Uint8Array)[]): Uint8Array {
  return Buffer.concat(parts.map((p) => {
    if (typeof p === 'string') return Buffer.from(`${p}\0`);
    if (typeof p === 'bigint') {
      const b = Buffer.alloc(8);
      b.writeBigUInt64LE(p);
      return b;
    }
    if (typeof p === 'number') {
      const b = Buffer.alloc(4);
      b.writeUInt32LE(p);
      return b;
    }
    return p;
  }));
}
