/**
 * What a server has, and what of it a client with its own rid may change.
 *
 * A refused message changes nothing of `whole`. An accepted one of client X may change
 *
 *   super     next_ino and the seq counter upwards, by no more than a client may ask for at a
 *             time; totals upwards to the devices' sizes; the volume option within its range
 *   logs      X's own log trees, and finalized ones of anybody by merging them
 *   mounted   X's own item
 *   locks     X's own entries; what others hold only by asking them, and they know of it
 *
 * Everything else is `others`: it stays as it is, byte for byte.
 */
import { SuperBlock } from '../../../host/core/format.js';
import type { SuperBlock as SuperValue } from '../../../host/core/format.js';
import { encode } from '../../../host/net/messages.js';
import { hex16 } from '../../../host/observe/log.js';
import { allLogTrees, isFinalized } from '../../../host/server/log_trees_items.js';
import { compatible } from '../../../host/server/lock_server.js';
import { partsOf } from '../../lib/server.js';
import type { TestServer, Volume } from '../../lib/server.js';
import type { HonestMount } from './peers.js';

/** More than any client asks for at a time: of inode numbers, and of seqs at once. */
const INODES_STEP_MAX = 2 ** 21;
const SEQ_STEP_MAX = 2 ** 33;
const MODE_OF = ['null', 'read', 'write', 'write_only'];

export interface ServerState {
  sb: SuperValue;
  seq: number;
  /** all of it but the connections of others than `honest` */
  whole: string;
  /** what nobody but its owner changes, by name */
  others: Map<string, string>;
  locks: string[];
  writes: number;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

export async function serverState(ts: TestServer, v: Volume, honest: HonestMount):
Promise<ServerState> {
  const parts = partsOf(ts);
  const { commits, mounted } = parts.context;
  return commits.inspect(async () => {
    const sb = commits.sup.read();
    const others = new Map<string, string>([
      ['fsid', hex16(sb.hdr.fsid)], ['version', String(sb.fmtVers)], ['uuid', hex(sb.uuid)],
      ['quorum', JSON.stringify(sb.qconf)], ['flags', String(sb.flags)],
    ]);
    const logs: string[] = [];
    for await (const { lt, bytes } of allLogTrees(commits.space, commits.sup.logsRoot)) {
      const text = `${hex16(lt.rid)}.${lt.nr} ${hex(bytes)}`;
      logs.push(text);
      if (lt.rid === honest.rid && !isFinalized(lt)) others.set(`log tree ${lt.nr}`, text);
    }
    const mounts = (await mounted.all()).map((m) =>
      `${hex16(m.rid)} ${m.addr.addr}:${m.addr.port} ${m.quorum}`);
    others.set('mounted', mounts.find((m) => m.startsWith(hex16(honest.rid))) ?? 'none');
    const connection = parts.net.isConnected(honest.rid) ? 'connected' : 'lost';
    others.set('connection', connection);
    const locks = parts.services.locks.describe(() => 0);
    const whole = [hex(encode(SuperBlock, sb)), commits.seq, ...logs, ...mounts, ...locks,
      connection, parts.recovery.count].join('\n');
    return {
      sb, seq: commits.seq, whole, others, locks, writes: v.meta.stats.writes + v.data.stats.writes,
    };
  });
}

/** What changed although the message was refused. */
export function changedByRefused(a: ServerState, b: ServerState): string[] {
  const wrong: string[] = [];
  if (a.whole !== b.whole) wrong.push(`a refused message changed: ${firstChange(a.whole, b.whole)}`);
  if (a.writes !== b.writes) wrong.push('a refused message led to device writes');
  return wrong;
}

function firstChange(a: string, b: string): string {
  const was = new Set(a.split('\n'));
  const is = new Set(b.split('\n'));
  const gone = [...was].filter((l) => !is.has(l));
  const come = [...is].filter((l) => !was.has(l));
  const short = (l: string | undefined): string => (l ?? 'nothing').slice(0, 160);
  return `${short(gone[0])} -> ${short(come[0])}`;
}

/** What `messages` accepted ones changed that no client but its owner may change. */
export function changedOfOthers(a: ServerState, b: ServerState, v: Volume, honest: HonestMount,
  messages = 1): string[] {
  const wrong: string[] = [];
  for (const [name, value] of a.others) {
    if (b.others.get(name) !== value) {
      wrong.push(`${name} changed: ${value.slice(0, 80)} -> ${
        (b.others.get(name) ?? 'gone').slice(0, 80)}`);
    }
  }
  const grew = (name: string, from: number, to: number, most: number): void => {
    if (to < from || to > most) wrong.push(`${name} went from ${from} to ${to}`);
  };
  grew('next_ino', a.sb.nextIno, b.sb.nextIno, a.sb.nextIno + messages * INODES_STEP_MAX);
  grew('the seq counter', a.seq, b.seq, a.seq + messages * SEQ_STEP_MAX);
  grew('total_meta_blocks', a.sb.totalMetaBlocks, b.sb.totalMetaBlocks, v.meta.sizeBytes / 65536);
  grew('total_data_blocks', a.sb.totalDataBlocks, b.sb.totalDataBlocks, v.data.sizeBytes / 4096);
  return [...wrong, ...wrongLocks(b, honest)];
}

/** Grants that do not go together, and of the honest mount's those it does not know as they are. */
function wrongLocks(s: ServerState, honest: HonestMount): string[] {
  const wrong: string[] = [];
  const granted = new Map<string, { rid: string; mode: number }[]>();
  const known = new Map(honest.modes);
  for (const line of s.locks) {
    const [key, mode, state, , rid] = line.split(' ');
    if (key === undefined || rid === undefined || state === 'requested') continue;
    const held = { rid, mode: MODE_OF.indexOf(mode ?? '') };
    if (state === 'granted') granted.set(key, [...granted.get(key) ?? [], held]);
    if (rid !== hex16(honest.rid)) continue;
    if (known.get(key) !== held.mode) {
      wrong.push(`lock ${key} of the honest mount is ${mode}, it knows ${known.get(key)}`);
    }
    known.delete(key);
  }
  for (const [key, mode] of known) wrong.push(`the server lost lock ${key} in mode ${mode}`);
  for (const [key, all] of granted) {
    for (const a of all) {
      const b = all.find((o) => o.rid !== a.rid && !compatible(a.mode, o.mode, false));
      if (b !== undefined) wrong.push(`lock ${key} is granted in modes ${a.mode} and ${b.mode}`);
    }
  }
  return wrong;
}

