/**
 * Message codecs against the vectors and against the traffic of two upstream nodes.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as F from '../../host/core/format.js';
import type { ErrnoName } from '../../host/observe/errors.js';
import { ERRNO } from '../../host/observe/errors.js';
import {
  COMMANDS, HEADER_BYTES, LockPlain, LockRecover, commandName, encode, encodeMessage, headerFault,
  readHeader, viewOf, wireErrno, wireError,
} from '../../host/net/messages.js';
import { payloadCodec } from '../../host/net/payloads.js';
import { fixturesDir, skipWithoutSpec, vectors } from '../lib/shared.js';

interface NetVectors {
  constants: Record<string, number>;
  layouts: { struct: string; size: number }[];
  messages: { name: string; len: number; hex: string }[];
  header_validation: {
    case: string; greeting_already_seen: boolean; hex: string;
    invalid_at_server: boolean; invalid_at_client: boolean;
  }[];
  errno_to_wire: Record<string, number>;
  wire_to_errno: Record<string, number>;
}

const skip = skipWithoutSpec();
const v = (skip === false ? vectors('net-vectors.json') : null) as NetVectors;

function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

/** Decodes a whole message and encodes it again. */
function again(bytes: Uint8Array, fromClient: boolean): Uint8Array {
  const h = readHeader(viewOf(bytes), 0);
  const codec = payloadCodec(h.cmd, fromClient, h.response, h.error);
  if (codec === null) throw new Error(`no such message: ${commandName(h.cmd)}`);
  const value = codec.read(viewOf(bytes.subarray(HEADER_BYTES)), 0);
  return encodeMessage(h, encode(codec, value));
}

/** A LOCK or map request flows both ways; the vector's name says who sends it. */
function sentByClient(name: string, h: { cmd: number; response: boolean }): boolean {
  if (name.includes('invalidate')) return h.response;
  if (name === 'open_ino_map_request_server') return false;
  if (name === 'open_ino_map_response') return true;
  return COMMANDS[h.cmd]?.fromClient === true ? !h.response : h.response;
}

t.test('every message of the vectors survives decoding', { skip }, async (t) => {
  t.ok(v.messages.length >= 45);
  for (const m of v.messages) {
    const bytes = bytesOf(m.hex);
    const h = readHeader(viewOf(bytes), 0);
    t.equal(bytes.length, m.len);
    t.equal(h.dataLen, m.len - HEADER_BYTES, m.name);
    t.equal(Buffer.from(again(bytes, sentByClient(m.name, h))).toString('hex'), m.hex, m.name);
  }
});

t.test('every message of two upstream nodes survives decoding', async (t) => {
  const dir = fixturesDir();
  const path = dir === null ? '' : join(dir, 'wire-two-nodes', 'messages.jsonl');
  if (!existsSync(path)) {
    t.pass('skipped: no captured traffic (SCOUTFS_FIXTURES)');
    return;
  }
  let tcp = 0;
  let differing = 0;
  for (const line of readFileSync(path, 'utf8').split('\n').filter((l) => l !== '')) {
    const m = JSON.parse(line) as { transport: string; direction: string; raw: string };
    if (m.transport !== 'tcp') continue;
    tcp++;
    const out = Buffer.from(again(bytesOf(m.raw), m.direction === 'client->server'));
    if (out.toString('hex') !== m.raw) {
      differing++;
      t.equal(out.toString('hex'), m.raw, line.slice(0, 300));
    }
  }
  t.ok(tcp > 100, `${tcp} messages`);
  t.equal(differing, 0);
});

t.test('headers are judged as upstream judges them', { skip }, async (t) => {
  t.ok(v.header_validation.length > 0);
  for (const c of v.header_validation) {
    const view = viewOf(bytesOf(c.hex));
    t.equal(headerFault(view, 0, 'server', c.greeting_already_seen) !== null, c.invalid_at_server,
      `${c.case}, at the server`);
    t.equal(headerFault(view, 0, 'client', c.greeting_already_seen) !== null, c.invalid_at_client,
      `${c.case}, at the client`);
  }
});

t.test('error codes', { skip }, async (t) => {
  for (const [name, code] of Object.entries(v.errno_to_wire)) {
    t.equal(wireError(name === '0' ? null : name as ErrnoName), code, name);
  }
  for (const [code, errno] of Object.entries(v.wire_to_errno)) {
    const name = wireErrno(Number(code));
    t.equal(name === null ? 0 : -ERRNO[name], errno, `wire code ${code}`);
  }
});

t.test('payload sizes are those of the layouts', { skip }, async (t) => {
  const sizes = new Map(v.layouts.map((l) => [l.struct, l.size]));
  const rows: [cmd: number, request: string, response: string][] = [
    [F.NET_CMD_GREETING, 'scoutfs_net_greeting', 'scoutfs_net_greeting'],
    [F.NET_CMD_LOCK, 'scoutfs_net_lock', 'scoutfs_net_lock'],
    [F.NET_CMD_OPEN_INO_MAP, 'scoutfs_open_ino_map_args', 'scoutfs_open_ino_map'],
    [F.NET_CMD_SET_VOLOPT, 'scoutfs_volume_options', ''],
    [F.NET_CMD_COMMIT_LOG_MERGE, 'scoutfs_log_merge_complete', ''],
    [F.NET_CMD_COMMIT_LOG_TREES, 'scoutfs_log_trees', ''],
    [F.NET_CMD_RESIZE_DEVICES, 'scoutfs_net_resize_devices', ''],
    [F.NET_CMD_STATFS, '', 'scoutfs_net_statfs'],
    [F.NET_CMD_GET_ROOTS, '', 'scoutfs_net_roots'],
    [F.NET_CMD_SRCH_COMMIT_COMPACT, 'scoutfs_srch_compact', ''],
  ];
  for (const [cmd, request, response] of rows) {
    t.equal(COMMANDS[cmd]?.requestBytes, request === '' ? 0 : sizes.get(request));
    t.equal(COMMANDS[cmd]?.responseBytes, response === '' ? 0 : sizes.get(response));
  }
  for (const [name, value] of Object.entries(v.constants)) {
    if (!name.startsWith('SCOUTFS_NET_CMD_') || name.endsWith('UNKNOWN')) continue;
    t.equal(commandName(value), name.slice('SCOUTFS_NET_CMD_'.length));
  }
});

t.test('garbage where upstream does not initialise is not looked at', async (t) => {
  const bytes = new Uint8Array(48).fill(0xff);
  bytes[40] = 0;
  bytes[41] = 1;
  const lock = LockPlain.read(viewOf(bytes), 0);
  t.equal(lock.writeSeq, 0);
  t.equal(lock.newMode, 1);
});

t.test('a recovery response has exactly the locks it counts', async (t) => {
  const lock = { key: F.Key.read(viewOf(new Uint8Array(32)), 0), writeSeq: 7, oldMode: 1, newMode: 1 };
  const good = encode(LockRecover, [lock, lock]);
  t.equal(good.length, 8 + 96);
  t.same(LockRecover.read(viewOf(good), 0), [lock, lock]);
  t.throws(() => LockRecover.read(viewOf(good.subarray(0, 103)), 0), { code: 'BAD_LOCK_RECOVER' });
  t.throws(() => LockRecover.read(viewOf(good.subarray(0, 4)), 0), { code: 'BAD_LOCK_RECOVER' });
  const many = encode(LockRecover, Array.from({ length: 23 }, () => lock));
  t.throws(() => LockRecover.read(viewOf(many), 0), { code: 'BAD_LOCK_RECOVER' });
});
