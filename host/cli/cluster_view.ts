/**
 * The state of a cluster as the control trees of this host's mounts show it.
 *
 * Each mount reads the quorum blocks (`debug/members`) and says what waits in it
 * (`debug/pending`); one that leads also knows all mounts (`debug/mounts`). What a tree
 * says is put together here; a tree that does not answer leaves its part out and is
 * named as such. Whether a member is alive is judged by what is nearest: its process
 * when it is ours, its connection when we lead, its last datagram otherwise.
 *
 * Formats: cli.md 3.2 (quorum/status); host/observe/pending.ts, host/super/members.ts,
 * host/server/known_mounts.ts.
 */
import type { MountInfo } from '../env/rundir.js';
import { hex16 } from '../observe/log.js';
import { parsePending } from '../observe/pending.js';

/** Files that are read of every tree. */
export const CLUSTER_FILES = [
  'quorum/*', 'debug/members', 'debug/mounts', 'debug/pending',
] as const;

/** A member was heard of lately: the least heartbeat timeout. */
const HEARD_LATELY_SECS = 2;

export interface HereMount {
  ident: string;
  rid: string;
  mountPoint: string;
  pid: number;
  /** its quorum slot, or null */
  slot: number | null;
  /** the control tree answered */
  answers: boolean;
  /** follower, candidate or leader; null without a slot or an answer */
  role: string | null;
  /** the member's term; null likewise */
  term: number | null;
}

export interface ClusterMember {
  slot: number;
  address: string;
  /** absent, begun, leader, unreadable; stale_leader: elected before the leader, never stopped */
  state: string;
  term: number;
  /** null of a slot that nobody uses */
  rid: string | null;
  /** null when nothing here can tell */
  alive: boolean | null;
  /** since its last datagram to a member here; null when there was none */
  heardSecs: number | null;
  /** of a member of this host */
  mountPoint: string | null;
}

export interface ClusterMount {
  rid: string;
  address: string;
  member: boolean;
  /** connected, lost, recovering or fencing */
  state: string;
  mountPoint: string | null;
}

export interface ClusterWait {
  /** the mount that waits, or whose server does */
  ident: string;
  mountPoint: string;
  kind: string;
  secs: number;
  text: string;
}

export interface Cluster {
  fsid: string;
  /** null when there is none, or none that can be seen */
  leader: { slot: number; address: string; rid: string; term: number } | null;
  /** null when no mount here could read the quorum blocks */
  members: ClusterMember[] | null;
  /** null when the leader is not on this host: only it knows */
  mounts: ClusterMount[] | null;
  here: HereMount[];
  /** the longest first */
  waiting: ClusterWait[];
}

/** A mount and what its control tree answered: texts by path, null for no answer. */
export interface Answer {
  mount: MountInfo;
  files: ReadonlyMap<string, string> | null;
  /** The daemon's process is stopped. */
  stopped: boolean;
}

type Fields = ReadonlyMap<string, string>;

/** `name value name value` */
function fieldsOf(line: string): Fields {
  const words = line.split(' ');
  return new Map(words.flatMap((w, i) => i % 2 === 0 ? [[w, words[i + 1] ?? '']] : []));
}

function linesOf(text: string | undefined): Fields[] {
  return (text ?? '').split('\n').filter((l) => l !== '').map(fieldsOf);
}

function hereOf({ mount, files }: Answer): HereMount {
  const status = files?.get('quorum/status') ?? '';
  const term = /^term (\d+)$/m.exec(status)?.[1];
  return {
    ident: mount.ident, rid: hex16(mount.rid), mountPoint: mount.mountPoint, pid: mount.pid,
    slot: mount.quorumSlotNr, answers: files !== null,
    role: /^role \d \((\w+)\)$/m.exec(status)?.[1] ?? null,
    term: term === undefined ? null : Number(term),
  };
}

/** Seconds since a slot was last heard of by any member here. */
function heardOf(answers: readonly Answer[], slot: number): number | null {
  const line = new RegExp(
    `^last_recv from ${slot} term \\d+ type \\d+ secs_since (\\d+\\.\\d+)$`, 'm');
  const secs = answers.flatMap((a) => {
    const found = line.exec(a.files?.get('quorum/status') ?? '')?.[1];
    return found === undefined ? [] : [Number(found)];
  });
  return secs.length === 0 ? null : Math.min(...secs);
}

function mountsOf(answers: readonly Answer[]): ClusterMount[] | null {
  const leader = answers.find((a) => a.files?.get('quorum/is_leader') === '1');
  if (leader === undefined) return null;
  return linesOf(leader.files?.get('debug/mounts')).map((f) => ({
    rid: f.get('rid') ?? '', address: f.get('addr') ?? '', member: f.get('quorum') === '1',
    state: f.get('state') ?? '', mountPoint: mountPointOf(answers, f.get('rid')),
  }));
}

function mountPointOf(answers: readonly Answer[], rid: string | undefined): string | null {
  return answers.find((a) => hex16(a.mount.rid) === rid)?.mount.mountPoint ?? null;
}

function membersOf(answers: readonly Answer[], mounts: readonly ClusterMount[] | null):
ClusterMember[] | null {
  const source = answers.find((a) => (a.files?.get('debug/members') ?? '') !== '');
  if (source === undefined) return null;
  const lines = linesOf(source.files?.get('debug/members'));
  const leaderTerm = Math.max(0, ...lines.filter((f) => f.get('state') === 'leader')
    .map((f) => Number(f.get('term'))));
  return lines.map((f) => {
    const slot = Number(f.get('slot'));
    const rid = f.get('rid') ?? '';
    const shown = f.get('state') ?? '';
    const term = Number(f.get('term'));
    const state = shown === 'leader' && term < leaderTerm ? 'stale_leader' : shown;
    const heardSecs = heardOf(answers, slot);
    return {
      slot, address: f.get('addr') ?? '', state, term, rid: /^0*$/.test(rid) ? null : rid,
      heardSecs, mountPoint: mountPointOf(answers, rid),
      alive: state === 'absent' ? false : isAlive(answers, mounts, rid, heardSecs),
    };
  });
}

function isAlive(answers: readonly Answer[], mounts: readonly ClusterMount[] | null, rid: string,
  heardSecs: number | null): boolean | null {
  const own = answers.find((a) => hex16(a.mount.rid) === rid);
  if (own !== undefined) return own.mount.alive && !own.stopped;
  const mount = mounts?.find((m) => m.rid === rid);
  if (mount !== undefined) return mount.state === 'connected';
  if (heardSecs !== null && heardSecs < HEARD_LATELY_SECS) return true;
  return null;
}

function waitsOf(a: Answer): ClusterWait[] {
  const { ident, mountPoint, pid } = a.mount;
  if (a.files === null) {
    const state = a.stopped ? 'is stopped' : 'does not answer';
    return [{ ident, mountPoint, kind: 'daemon', secs: 0, text: `process ${pid} ${state}` }];
  }
  return parsePending(a.files.get('debug/pending') ?? '')
    .map((p) => ({ ident, mountPoint, ...p }));
}

/** Puts the answers of one volume's mounts together. */
function clusterOf(fsid: string, answers: readonly Answer[]): Cluster {
  const mounts = mountsOf(answers);
  const members = membersOf(answers, mounts);
  const leader = members?.find((m) => m.state === 'leader');
  return {
    fsid,
    leader: leader === undefined ? null
      : { slot: leader.slot, address: leader.address, rid: leader.rid ?? '', term: leader.term },
    members, mounts, here: answers.map(hereOf),
    waiting: answers.flatMap(waitsOf).sort((a, b) => b.secs - a.secs),
  };
}

/** One cluster per volume, in the order of their fsids. */
export function clustersOf(answers: readonly Answer[]): Cluster[] {
  const fsids = [...new Set(answers.map((a) => hex16(a.mount.fsid)))].sort();
  return fsids.map((fsid) =>
    clusterOf(fsid, answers.filter((a) => hex16(a.mount.fsid) === fsid)));
}

/** Rows as lines of left-aligned columns. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((r) => r[i]?.length ?? 0)));
  return rows.map((r) => `  ${r.map((c, i) => c.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd());
}

/** Waits shorter than this are what work looks like. */
const SHOWN_SECS = 1;

function shown(value: string | number | boolean | null): string {
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return value === null ? '-' : String(value);
}

function memberLines(members: readonly ClusterMember[]): string[] {
  return table([['SLOT', 'ADDRESS', 'STATE', 'ALIVE', 'HEARD', 'RID', 'MOUNT POINT'],
    ...members.map((m) => [m.slot, m.address, m.state, m.alive ?? '?',
      m.heardSecs === null ? null : `${m.heardSecs.toFixed(1)}s`, m.rid, m.mountPoint,
    ].map(shown))]);
}

/** The cluster for people. */
export function clusterLines(c: Cluster): string[] {
  const { leader } = c;
  const head = leader !== null
    ? `led by slot ${leader.slot} at ${leader.address} in term ${leader.term}`
    : c.members === null ? 'leader unknown' : 'no leader';
  const lines = [`volume ${c.fsid}: ${head}`, '', 'Members'];
  if (c.members === null) lines.push('  no mount here could read the quorum blocks');
  else lines.push(...memberLines(c.members));
  lines.push('', 'Mounts');
  if (c.mounts === null) {
    lines.push('  only the leader knows them all; of this host:');
    lines.push(...table([['RID', 'SLOT', 'ROLE', 'ANSWERS', 'MOUNT POINT'],
      ...c.here.map((h) => [h.rid, h.slot, h.role, h.answers, h.mountPoint].map(shown))]));
  } else {
    lines.push(...table([['RID', 'ADDRESS', 'MEMBER', 'STATE', 'MOUNT POINT'],
      ...c.mounts.map((m) => [m.rid, m.address, m.member, m.state, m.mountPoint].map(shown))]));
  }
  const waits = c.waiting.filter((w) => w.secs >= SHOWN_SECS || w.kind === 'daemon');
  lines.push('', waits.length === 0 ? 'Nothing waits.' : 'Waiting');
  if (waits.length > 0) {
    lines.push(...table([['SINCE', 'FOR', 'MOUNT', 'WHAT'],
      ...waits.map((w) => [w.kind === 'daemon' ? '-' : `${w.secs.toFixed(1)}s`, w.kind,
        w.mountPoint, w.text])]));
  }
  return lines;
}
