/**
 * Messages as a hostile peer makes them: valid ones, and what chance does to them.
 *
 * A draft is a message whose header fields can each be wrong independently of its payload.
 * Chance changes fields of the header or of the payload's structure, cuts or prolongs the
 * payload with or without saying so, or replaces it; values are those that programs tend to
 * be wrong about, and numbers that exist in the world: rids, blocks, keys, seqs of others.
 */
import { PAYLOAD_BYTES_MAX, HEADER_BYTES, commandName, viewOf } from '../../../host/net/messages.js';
import { payloadCodec } from '../../../host/net/payloads.js';
import { fieldsOf, rawFields } from '../fields.js';
import type { Field } from '../fields.js';
import type { Below, Numbers } from '../values.js';
import { nasty, pick, readNumber, writeNumber } from '../values.js';

export interface Draft {
  seq: bigint;
  recvSeq: bigint;
  id: bigint;
  /** null: the payload's length */
  dataLen: number | null;
  cmd: number;
  flags: number;
  error: number;
  pad: number;
  payload: Uint8Array;
  fromClient: boolean;
  /** what chance changed */
  changed: string[];
}

export function request(cmd: number, payload: Uint8Array, fromClient: boolean): Draft {
  return {
    seq: 0n, recvSeq: 0n, id: 0n, dataLen: null, cmd, flags: 0, error: 0, pad: 0,
    payload: payload.slice(), fromClient, changed: [],
  };
}

export function response(cmd: number, id: number, payload: Uint8Array, fromClient: boolean): Draft {
  return { ...request(cmd, payload, fromClient), flags: 1, id: BigInt(id) };
}

export function encodeDraft(d: Draft): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + d.payload.length);
  const v = viewOf(bytes);
  v.setBigUint64(0, d.seq, true);
  v.setBigUint64(8, d.recvSeq, true);
  v.setBigUint64(16, d.id, true);
  v.setUint16(24, d.dataLen ?? d.payload.length, true);
  v.setUint8(26, d.cmd);
  v.setUint8(27, d.flags);
  v.setUint8(28, d.error);
  v.setUint8(29, d.pad);
  v.setUint8(31, d.pad);
  bytes.set(d.payload, HEADER_BYTES);
  return bytes;
}

export function describeDraft(d: Draft): string {
  const what = d.flags === 0 ? 'request' : d.flags === 1 ? 'response' : `flags ${d.flags}`;
  const error = d.error === 0 ? '' : ` error ${d.error}`;
  return `${commandName(d.cmd)} ${what} seq ${d.seq} id ${d.id}${error} ${d.payload.length} bytes${
    d.changed.length === 0 ? '' : ` [${d.changed.join(', ')}]`}`;
}

const U64 = 64;
const U16_MAX = 65535;

function changeHeader(below: Below, d: Draft, numbers: Numbers): void {
  const wide = (old: bigint): bigint => pick(below, [
    () => nasty(below, U64, old, numbers), () => nasty(below, U64, old, numbers),
    () => 0n, () => old - 1n < 0n ? 0n : old - 1n, () => (1n << 53n) - 1n, () => 1n << 53n,
    () => 1n << 52n,
  ])();
  const byte = (): number => below(3) === 0 ? below(256) : below(22);
  const field = pick(below, ['seq', 'recvSeq', 'id', 'dataLen', 'cmd', 'flags', 'error', 'pad']);
  d.changed.push(field);
  switch (field) {
    case 'seq': d.seq = wide(d.seq); break;
    case 'recvSeq': d.recvSeq = wide(d.recvSeq); break;
    case 'id': d.id = wide(d.id); break;
    case 'dataLen':
      d.dataLen = pick(below, [0, d.payload.length + 1, Math.max(0, d.payload.length - 1),
        PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1, U16_MAX, below(U16_MAX + 1)]);
      break;
    case 'cmd': d.cmd = byte(); break;
    case 'flags': d.flags = pick(below, [0, 1, 2, 3, 128, 255, below(256)]); break;
    case 'error': d.error = byte(); break;
    default: d.pad = below(256);
  }
}

/** Where the numbers of a payload are. */
function fieldsOfPayload(d: Draft): readonly Field[] {
  const codec = payloadCodec(d.cmd, d.fromClient, (d.flags & 1) !== 0, 0);
  if (codec !== null && codec.size === d.payload.length) return fieldsOf(codec);
  return rawFields('byte', 0, d.payload.length);
}

function changePayload(below: Below, d: Draft, numbers: Numbers): void {
  const fields = fieldsOfPayload(d);
  if (fields.length === 0) {
    d.payload = randomBytes(below, below(PAYLOAD_BYTES_MAX + 1));
    d.changed.push('payload made up');
    return;
  }
  const f = pick(below, fields);
  const old = readNumber(d.payload, f.off, f.len);
  const value = nasty(below, f.len * 8, old, numbers);
  writeNumber(d.payload, f.off, f.len, value);
  d.changed.push(`${f.name} ${old} -> ${value}`);
}

export function randomBytes(below: Below, len: number): Uint8Array {
  return Uint8Array.from({ length: len }, () => below(256));
}

function changeLength(below: Below, d: Draft): void {
  const len = pick(below, [0, 1, d.payload.length + 1, Math.max(0, d.payload.length - 1),
    PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1, below(PAYLOAD_BYTES_MAX + 1)]);
  const payload = new Uint8Array(len);
  payload.set(d.payload.subarray(0, len));
  d.payload = payload;
  d.changed.push(`${len} bytes`);
}

/** Changes a draft in one to three ways. */
export function mutate(below: Below, d: Draft, numbers: Numbers): void {
  for (let n = pick(below, [1, 1, 1, 2, 3]); n > 0; n--) {
    switch (below(14)) {
      case 0: case 1: changeHeader(below, d, numbers); break;
      case 2: changeLength(below, d); break;
      case 3:
        d.payload = randomBytes(below, below(8) === 0 ? below(200) : d.payload.length);
        d.changed.push('random payload');
        break;
      default: changePayload(below, d, numbers);
    }
  }
}

/** Cuts bytes in pieces, most of them odd. */
export function cut(below: Below, bytes: Uint8Array): Uint8Array[] {
  if (below(3) !== 0) return [bytes];
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const len = pick(below, [1, 7, 31, 32, 33, 500, bytes.length]);
    pieces.push(bytes.subarray(at, at + len));
    at += len;
  }
  return pieces;
}
