/**
 * The messages of the cluster connection: header rules, commands, error codes and
 * payloads.
 *
 *   header 32 bytes                                          payload 0..1100
 *  ╒══════╤══════════╤════╤══════════╤═════╤═══════╤═══════╤═════╤═══════════╕
 *  │ seq 8│recv_seq 8│id 8│data_len 2│cmd 1│flags 1│error 1│pad 3│ data ...  │
 *  ╘══════╧══════════╧════╧══════════╧═════╧═══════╧═══════╧═════╧═══════════╛
 *
 * A header is judged alone, before its payload has come; a bad one means that the
 * framing is lost and ends the socket. Every command has one row in `COMMANDS` with
 * the payloads of its request and response and what a wrong length leads to.
 *
 * Fields that upstream sends uninitialised (the write seq of lock requests, padding)
 * are never looked at, so they cannot make a message invalid.
 * Source: net.md 2 and 7.1; vectors `net-vectors.json`.
 */
import type { Key as KeyValue } from '../core/format.js';
import * as F from '../core/format.js';
import { setU64, u64 } from '../core/u64.js';
import type { ErrnoName } from '../observe/errors.js';
import { ScoutfsError } from '../observe/errors.js';

export const HEADER_BYTES = 32;
export const PAYLOAD_BYTES_MAX = F.NET_MAX_DATA_LEN;
/** Locks in one recovery response. */
export const RECOVER_LOCKS_MAX = F.NET_LOCK_MAX_RECOVER_NR;
const LOCK_MODE_LAST = F.LOCK_WRITE_ONLY;

/** A payload with a typed face. `sizeOf` is the exact length for a value. */
export interface Codec<T> {
  /** Fixed size in bytes, or -1 when it varies. */
  readonly size: number;
  read(v: DataView, o: number): T;
  write(v: DataView, o: number, value: T): void;
}

/** A bare le64 count. */
export const U64: Codec<number> = { size: 8, read: u64, write: setU64 };

/** No payload. */
export const EMPTY: Codec<null> = { size: 0, read: () => null, write: () => undefined };

export interface Lock {
  key: KeyValue;
  /** only grants and recovery records carry one; 0 otherwise */
  writeSeq: number;
  oldMode: number;
  newMode: number;
}

function lockCodec(withSeq: boolean): Codec<Lock> {
  return {
    size: F.NetLock.size,
    read: (v, o) => ({
      key: F.Key.read(v, o),
      writeSeq: withSeq ? u64(v, o + 32) : 0,
      oldMode: v.getUint8(o + 40),
      newMode: v.getUint8(o + 41),
    }),
    write: (v, o, s) => { F.NetLock.write(v, o, s); },
  };
}

/** A lock request of either side, or the answer to an invalidation. */
export const LockPlain = lockCodec(false);
/** A grant, or one lock of a recovery response. */
export const LockGrant = lockCodec(true);

/** The locks of a recovery response; the length is 8 + 48 per lock. */
export const LockRecover = {
  size: -1,
  sizeOf(locks: readonly Lock[]): number {
    return 8 + locks.length * F.NetLock.size;
  },
  /** @throws EINVAL when count and length disagree */
  read(v: DataView, o: number): Lock[] {
    const nr = v.byteLength - o >= 8 ? v.getUint16(o, true) : -1;
    if (nr < 0 || nr > RECOVER_LOCKS_MAX || v.byteLength - o !== 8 + nr * F.NetLock.size) {
      throw new ScoutfsError('BAD_LOCK_RECOVER', 'EINVAL', {
        message: `lock recovery response of ${v.byteLength - o} bytes with ${nr} locks`,
      });
    }
    return Array.from({ length: nr }, (_, i) => LockGrant.read(v, o + 8 + i * F.NetLock.size));
  },
  write(v: DataView, o: number, locks: readonly Lock[]): void {
    F.NetLockRecover.write(v, o, { nr: locks.length });
    locks.forEach((l, i) => { LockGrant.write(v, o + 8 + i * F.NetLock.size, l); });
  },
};

/** Are both mode bytes known modes? Every LOCK message has to pass this. */
export function lockModesValid(lock: Lock): boolean {
  return lock.oldMode <= LOCK_MODE_LAST && lock.newMode <= LOCK_MODE_LAST;
}

/** Payload bytes of a value. */
export function encode<T>(codec: Codec<T> & { sizeOf?(value: T): number }, value: T):
Uint8Array {
  const bytes = new Uint8Array(codec.size >= 0 ? codec.size : codec.sizeOf?.(value) ?? 0);
  codec.write(viewOf(bytes), 0, value);
  return bytes;
}

/** Value of payload bytes. @throws EMSGSIZE for another length than the codec's */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  if (codec.size >= 0 && bytes.length !== codec.size) {
    throw new ScoutfsError('BAD_PAYLOAD', 'EMSGSIZE', {
      message: `payload of ${bytes.length} bytes instead of ${codec.size}`,
    });
  }
  return codec.read(viewOf(bytes), 0);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What a wrong payload length of a request leads to at the server. */
export type BadLength = 'einval' | 'shutdown';

export interface Command {
  readonly name: string;
  /** who may send requests */
  readonly fromClient: boolean;
  readonly fromServer: boolean;
  /** payload bytes; -1 varies; for the two commands that flow both ways see `serverRequest` */
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly badLength: BadLength;
}

function command(name: string, from: 'client' | 'server' | 'both', requestBytes: number,
  responseBytes: number, badLength: BadLength = 'einval'): Command {
  return {
    name, fromClient: from !== 'server', fromServer: from !== 'client', requestBytes,
    responseBytes, badLength,
  };
}

/** Indexed by command number. */
export const COMMANDS: readonly Command[] = [
  command('GREETING', 'client', 40, 40, 'shutdown'),
  command('ALLOC_INODES', 'client', 8, 16),
  command('GET_LOG_TREES', 'client', 0, 472),
  command('COMMIT_LOG_TREES', 'client', 472, 0),
  command('SYNC_LOG_TREES', 'server', 0, 0, 'shutdown'),
  command('GET_ROOTS', 'client', 0, 72),
  command('GET_LAST_SEQ', 'client', 0, 8),
  command('LOCK', 'both', 48, 48, 'shutdown'),
  command('LOCK_RECOVER', 'server', 32, -1, 'shutdown'),
  command('SRCH_GET_COMPACT', 'client', 0, 584),
  command('SRCH_COMMIT_COMPACT', 'client', 584, 0),
  command('GET_LOG_MERGE', 'client', 0, 208, 'shutdown'),
  command('COMMIT_LOG_MERGE', 'client', 208, 0, 'shutdown'),
  command('OPEN_INO_MAP', 'both', 16, 144),
  command('GET_VOLOPT', 'client', 0, 520),
  command('SET_VOLOPT', 'client', 520, 0),
  command('CLEAR_VOLOPT', 'client', 520, 0),
  command('RESIZE_DEVICES', 'client', 16, 0),
  command('STATFS', 'client', 0, 56),
  command('FAREWELL', 'client', 0, 0, 'shutdown'),
];

/** Name of a command for messages. */
export function commandName(cmd: number): string {
  return COMMANDS[cmd]?.name ?? `command ${cmd}`;
}

const WIRE_ERRNO: readonly (ErrnoName | null)[] = [
  null, 'ENOENT', 'ENOMEM', 'EIO', 'ENOSPC', 'EINVAL', 'ENOLINK',
];

/** Wire code of an errno; what has no code of its own is EINVAL. */
export function wireError(errno: ErrnoName | null): number {
  const code = WIRE_ERRNO.indexOf(errno);
  return code >= 0 ? code : F.NET_ERR_EINVAL;
}

/** errno of a wire code, null for success; unknown codes are EINVAL. */
export function wireErrno(code: number): ErrnoName | null {
  const errno = WIRE_ERRNO[code];
  return errno === undefined ? 'EINVAL' : errno;
}

export interface Header {
  seq: number;
  recvSeq: number;
  id: number;
  dataLen: number;
  cmd: number;
  response: boolean;
  error: number;
}

/** Which end of the socket is reading: the one that accepted it or the one that connected. */
export type Side = 'server' | 'client';

/** Why a header ends the socket, or null. `greeted`: a greeting came earlier on this socket. */
export function headerFault(v: DataView, o: number, side: Side, greeted: boolean): string | null {
  const cmd = v.getUint8(o + 26);
  const flags = v.getUint8(o + 27);
  const error = v.getUint8(o + 28);
  const response = flags === F.NET_FLAG_RESPONSE;
  if (!isCount(v, o) || !isCount(v, o + 16)) return 'sequence number or id is zero or too large';
  if (v.getUint32(o + 12, true) > COUNT_HIGH_MAX) return 'received sequence number too large';
  if (cmd >= F.NET_CMD_UNKNOWN) return `unknown command ${cmd}`;
  if (flags !== 0 && !response) return `unknown flags ${flags}`;
  if (error >= F.NET_ERR_UNKNOWN) return `unknown error ${error}`;
  if (v.getUint16(o + 24, true) > PAYLOAD_BYTES_MAX) return 'payload too long';
  if (error !== 0 && !response) return 'error in a request';
  if (cmd === F.NET_CMD_GREETING && greeted) return 'second greeting';
  if (cmd === F.NET_CMD_GREETING && response !== (side === 'client')) {
    return 'greeting in the wrong direction';
  }
  return null;
}

/** Numbers of a peer stay below 2^52, so that those counted up from them have room. */
const COUNT_HIGH_MAX = 0xfffff;

/** A 64-bit number from 1 to 2^52 - 1. */
function isCount(v: DataView, o: number): boolean {
  const high = v.getUint32(o + 4, true);
  return high <= COUNT_HIGH_MAX && (high !== 0 || v.getUint32(o, true) !== 0);
}

/** Reads a header that has passed `headerFault`. */
export function readHeader(v: DataView, o: number): Header {
  const h = F.NetHeader.read(v, o);
  return {
    seq: h.seq, recvSeq: h.recvSeq, id: h.id, dataLen: h.dataLen, cmd: h.cmd,
    response: h.flags === F.NET_FLAG_RESPONSE, error: h.error,
  };
}

/** Bytes of a whole message. */
export function encodeMessage(h: Omit<Header, 'dataLen'>, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  F.NetHeader.write(viewOf(bytes), 0, {
    seq: h.seq, recvSeq: h.recvSeq, id: h.id, dataLen: payload.length, cmd: h.cmd,
    flags: h.response ? F.NET_FLAG_RESPONSE : 0, error: h.error,
  });
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}
