/**
 * The conversation of two upstream nodes, played again with one of them replaced by ours.
 *
 * The capture has every message between upstream's server and the mount of another node. The
 * mount's part is played to our server, which must send what upstream's sent: the same
 * commands, ids, seqs, errors and lengths in the same order, and every field that does not
 * depend on which blocks and seqs a server happens to give. Then the server's part is
 * played to our client, whose messages must be those of upstream's mount byte for byte.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as F from '../../host/core/format.js';
import { silentLog } from '../../host/observe/log.js';
import { Client } from '../../host/mount/client.js';
import { HEADER_BYTES, LockGrant, LockPlain, U64, commandName, decode, encode, encodeMessage,
  readHeader, viewOf } from '../../host/net/messages.js';
import type { Header, Lock } from '../../host/net/messages.js';
import { ADDR, connect, makeVolume, startServer, until } from '../lib/server.js';
import { RawSocket } from '../lib/rawsocket.js';
import type { Received } from '../lib/rawsocket.js';
import { fixturesDir } from '../lib/shared.js';
import { SimClock, settle } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';
import type { TcpSocket } from '../../host/env/net.js';

const GIB = 2 ** 30;
const UPSTREAM_NODE = { addr: 0xc0a84d0b, port: 52270 };
const OTHER_RID = 0x7777n;

interface Recorded {
  fromClient: boolean;
  header: Header;
  payload: Uint8Array;
  bytes: Uint8Array;
}

/** The TCP messages of the capture in order; null without it. */
function recorded(): Recorded[] | null {
  const dir = fixturesDir();
  const path = dir === null ? '' : join(dir, 'wire-two-nodes', 'messages.jsonl');
  if (!existsSync(path)) return null;
  return readFileSync(path, 'utf8').split('\n').filter((l) => l !== '').flatMap((line) => {
    const m = JSON.parse(line) as { transport: string; direction: string; raw: string };
    if (m.transport !== 'tcp') return [];
    const bytes = new Uint8Array(Buffer.from(m.raw, 'hex'));
    return [{
      fromClient: m.direction === 'client->server', header: readHeader(viewOf(bytes), 0),
      payload: bytes.subarray(HEADER_BYTES), bytes,
    }];
  });
}

const capture = recorded();
const skip = capture === null ? 'no captured traffic (SCOUTFS_FIXTURES)' : false;
const messages = capture ?? [];

function nameOf(m: { header: Header }, nr: number): string {
  return `${nr}: ${commandName(m.header.cmd)} ${m.header.response ? 'response' : 'request'} ${
    m.header.id}`;
}

/** The mode another mount must want so that a holder is asked to go to `newMode`. */
function conflicting(newMode: number): number {
  return newMode === F.LOCK_READ ? F.LOCK_READ : F.LOCK_WRITE;
}

t.test('upstream\'s mount and our server', { skip }, async (t) => {
  const v = await makeVolume({ slots: 3, metaBytes: 16 * GIB, dataBytes: 16 * GIB });
  const ts = await startServer(v, { term: 2 });
  const other = connect(ts.net, v, OTHER_RID, { quorum: true });
  await until(() => other.client.isConnected, 'the other mount');
  const mapAnswer = messages.find((m) => !m.fromClient && m.header.response &&
    m.header.cmd === F.NET_CMD_OPEN_INO_MAP);
  if (mapAnswer !== undefined) {
    other.openInos.splice(0, 16, ...decode(F.OpenInoMap, mapAnswer.payload).bits);
  }
  const socket = new RawSocket(await ts.net.connectFrom(UPSTREAM_NODE, { addr: ADDR, port: 4000 }));
  let got = decode(F.LogTrees, new Uint8Array(F.LogTrees.size));
  let lastSeq = 0;
  let next = 0;

  /** What our server says instead of what is recorded. */
  const answered = async (m: Recorded, nr: number): Promise<Received> => {
    if (!m.header.response && m.header.cmd === F.NET_CMD_LOCK) {
      const { key, newMode } = decode(LockPlain, m.payload);
      other.client.lock({ key, writeSeq: 0, oldMode: 0, newMode: conflicting(newMode) });
    }
    if (m.header.cmd === F.NET_CMD_FAREWELL) void other.client.farewell();
    await until(() => socket.received.length > next || socket.closed, nameOf(m, nr));
    const a = socket.received[next++];
    if (a === undefined) throw new Error(`our server closed the connection before ${nameOf(m, nr)}`);
    return a;
  };

  /** Fields that are determined by the conversation. */
  const compare = (m: Recorded, a: Received, name: string): void => {
    t.same(a.header, m.header, name);
    if (m.header.error !== 0) return;
    switch (m.header.cmd) {
      case F.NET_CMD_GREETING:
        t.same(decode(F.NetGreeting, a.payload),
          { ...decode(F.NetGreeting, m.payload), fsid: v.fsid }, name);
        break;
      case F.NET_CMD_LOCK: {
        const [is, was] = [decode(LockGrant, a.payload), decode(LockGrant, m.payload)];
        t.same({ ...is, writeSeq: 0 }, { ...was, writeSeq: 0 }, name);
        t.equal(is.writeSeq === 0, was.writeSeq === 0, `${name} write seq`);
        if (is.writeSeq !== 0) t.ok(is.writeSeq > lastSeq, `${name} rising`);
        lastSeq = Math.max(lastSeq, is.writeSeq);
        break;
      }
      case F.NET_CMD_GET_LOG_TREES: {
        const [is, was] = [decode(F.LogTrees, a.payload), decode(F.LogTrees, m.payload)];
        const known = (lt: F.LogTrees): unknown => [lt.rid, lt.nr, lt.flags, lt.finalizeSeq,
          lt.dataAllocZoneBlocks, lt.metaAvail.flags, lt.dataAvail.flags];
        t.same(known(is), known(was), name);
        t.equal(is.commitTransSeq, got.getTransSeq, `${name}: the commit before`);
        t.ok(is.getTransSeq > lastSeq, `${name}: a new seq`);
        if (was.commitTransSeq === 0) {
          t.equal(is.metaAvail.totalNr, was.metaAvail.totalNr, `${name}: blocks`);
          t.equal(is.dataAvail.totalLen, was.dataAvail.totalLen, `${name}: data`);
        }
        lastSeq = is.getTransSeq;
        got = is;
        break;
      }
      case F.NET_CMD_GET_LAST_SEQ:
        t.equal(decode(U64, a.payload), got.getTransSeq - 1, name);
        break;
      case F.NET_CMD_STATFS: {
        const [is, was] = [decode(F.NetStatfs, a.payload), decode(F.NetStatfs, m.payload)];
        t.same([is.totalMetaBlocks, is.totalDataBlocks],
          [was.totalMetaBlocks, was.totalDataBlocks], name);
        break;
      }
      case F.NET_CMD_GET_ROOTS:
        t.ok(decode(F.NetRoots, a.payload).logsRoot.height <= 1, name);
        break;
      default:
        t.equal(Buffer.from(a.payload).toString('hex'), Buffer.from(m.payload).toString('hex'),
          name);
    }
  };

  for (const [nr, m] of messages.entries()) {
    if (m.fromClient) {
      socket.write(clientMessage(m, v.fsid, got));
      await settle();
    } else {
      compare(m, await answered(m, nr), nameOf(m, nr));
    }
  }
  t.equal(socket.received.length, next, 'and nothing else');
  await ts.server.stop();
  await other.client.force();
});

/** The recorded message with what our server gave: its volume, and the log trees. */
function clientMessage(m: Recorded, fsid: bigint, got: F.LogTrees): Uint8Array {
  if (m.header.cmd === F.NET_CMD_GREETING) {
    return encodeMessage(m.header,
      encode(F.NetGreeting, { ...decode(F.NetGreeting, m.payload), fsid }));
  }
  if (m.header.cmd !== F.NET_CMD_COMMIT_LOG_TREES) return m.bytes;
  return encodeMessage(m.header, encode(F.LogTrees, got));
}

t.test('upstream\'s server and our client', { skip }, async (t) => {
  const net = new SimNet();
  const clock = new SimClock();
  const greeting = messages.find((m) => m.header.cmd === F.NET_CMD_GREETING);
  if (greeting === undefined) throw new Error('no greeting');
  const { fsid, fmtVers, rid } = decode(F.NetGreeting, greeting.payload);
  const at = { addr: ADDR, port: 4000 };
  const accepted: TcpSocket[] = [];
  await net.listen(at, 0, (s) => { accepted.push(s); });
  const asked: { lock: Lock; answer: (lock: Lock) => void }[] = [];
  const grants: Lock[] = [];
  const client = new Client({
    clock, net, log: silentLog, silenceTimeoutMs: 24_000,
    identity: { fsid, fmtVers, rid, quorum: true },
    findServer: () => Promise.resolve(at), isMounted: () => Promise.resolve(true),
    handlers: {
      syncLogTrees: () => undefined, recoverLocks: () => [],
      openInoMap: (args) => ({ args, bits: [] }),
      invalidate: (lock, answer) => { asked.push({ lock, answer }); },
      grant: (lock) => { grants.push(lock); },
    },
  });
  const results = new Map<number, unknown>();
  const left: Promise<void>[] = [];
  const start = (m: Recorded): Promise<unknown> | null => {
    switch (m.header.cmd) {
      case F.NET_CMD_LOCK: client.lock(decode(LockPlain, m.payload)); return null;
      case F.NET_CMD_GET_ROOTS: return client.getRoots();
      case F.NET_CMD_GET_LOG_TREES: return client.getLogTrees();
      case F.NET_CMD_COMMIT_LOG_TREES: return client.commitLogTrees(decode(F.LogTrees, m.payload));
      case F.NET_CMD_GET_LOG_MERGE: return client.getLogMerge();
      case F.NET_CMD_GET_LAST_SEQ: return client.getLastSeq();
      case F.NET_CMD_SRCH_GET_COMPACT: return client.srchGetCompact();
      case F.NET_CMD_STATFS: return client.statfs();
      case F.NET_CMD_OPEN_INO_MAP:
        return client.openInoMap(decode(F.OpenInoMapArgs, m.payload).groupNr);
      case F.NET_CMD_FAREWELL: left.push(client.farewell()); return null;
      default: throw new Error(`a mount does not send ${commandName(m.header.cmd)}`);
    }
  };
  const act = (m: Recorded): void => {
    if (m.header.response) {
      const at = asked.findIndex((a) => Buffer.compare(encode(LockPlain, a.lock), m.payload) === 0);
      const [a] = asked.splice(at, 1);
      t.ok(at >= 0, 'our client was asked for that lock');
      a?.answer(a.lock);
      return;
    }
    start(m)?.then((r) => { results.set(m.header.id, r); },
      (e: unknown) => { results.set(m.header.id, e); });
  };
  // The first lock is asked for before there is a connection, and sent after the greeting.
  const [, , first] = messages;
  if (first !== undefined) act(first);
  client.start();
  await settle();
  const [accept] = accepted;
  if (accept === undefined) throw new Error('our client does not connect');
  const server = new RawSocket(accept);
  let next = 0;
  for (const [nr, m] of messages.entries()) {
    if (m.fromClient) {
      if (m !== greeting && m !== first) act(m);
      await settle();
      const sent = server.received[next++];
      t.equal(Buffer.from(sent?.bytes ?? []).toString('hex'), Buffer.from(m.bytes).toString('hex'),
        nameOf(m, nr));
    } else {
      server.write(m.bytes);
      await settle();
    }
  }
  t.equal(server.received.length, next, 'and nothing else');
  t.notOk(server.closed);
  const lockGrants = messages.filter((m) => !m.fromClient && m.header.response &&
    m.header.cmd === F.NET_CMD_LOCK);
  t.same(grants, lockGrants.map((m) => decode(LockGrant, m.payload)), 'every grant arrives');
  for (const m of messages) {
    if (m.fromClient || !m.header.response) continue;
    const result = results.get(m.header.id);
    if (m.header.error !== 0) t.match(result, { errno: 'ENOENT' });
    else if (m.header.cmd === F.NET_CMD_GET_LOG_TREES) {
      t.same(result, decode(F.LogTrees, m.payload), `log trees ${m.header.id}`);
    }
  }
  await Promise.all(left);
  await clock.until(client.stop());
});
