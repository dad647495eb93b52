/**
 * The run directory: which mounts of this host exist, and whose process serves them.
 *
 *   <root>/f.<fsid>.r.<rid>/            the control tree of a mount, as upstream names it:
 *                                       a file system that its daemon serves
 *   <root>/.mounts/f.<fsid>.r.<rid>/    its record, plain files that outlive the daemon
 *       pid            "<pid> <start time>": the daemon; the start time tells a reused pid
 *       fsid, rid      16 hex digits
 *       mount_point, data_device, meta_device, quorum_slot_nr
 *
 * The root is /run/scoutfs, or what SCOUTFS_RUN_DIR says. A record whose process is
 * gone is left over from a crash: it says which rid ran here, which is what the local
 * fence agent needs, and it is removed when that rid has been dealt with. A control tree
 * never exists without a record. Nothing here looks into a control tree.
 * Source: cli.md 3.1; super.md 1.
 */
import * as fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { hex16, mountIdent } from '../observe/log.js';
import { asScoutfsError } from '../observe/errors.js';
import { isMountPoint, unmountFuse } from './fuse-mount.js';
import { sendSignal } from './signal.js';

const DEFAULT_ROOT = '/run/scoutfs';
/** Where in the root the records are; hidden from those who look for mounts. */
const RECORDS = '.mounts';
/** Where upstream's kernel module shows its mounts. */
const KERNEL_ROOT = '/sys/fs/scoutfs';
/** Field of /proc/<pid>/stat, counted after the command name, that is the start time. */
const STAT_START_FIELD = 19;
const KILL_POLL_MS = 10;
const KILL_WAIT_MS = 10_000;

export interface MountInfo {
  ident: string;
  /** Of its record. */
  dir: string;
  fsid: bigint;
  rid: bigint;
  pid: number;
  /** Start time of the process: a later one with the same pid is another. */
  startTime: string;
  /** The process that served the mount still runs. */
  alive: boolean;
  mountPoint: string;
  dataDevice: string;
  metaDevice: string;
  quorumSlotNr: number | null;
}

export interface MountDescription {
  fsid: bigint;
  rid: bigint;
  mountPoint: string;
  dataDevice: string;
  metaDevice: string;
  quorumSlotNr: number | null;
}

export function runRoot(): string {
  return process.env['SCOUTFS_RUN_DIR'] ?? DEFAULT_ROOT;
}

/** Start time of a running process, null when there is none. */
function startTime(pid: number): string | null {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie serves nothing any more, unless it only waits for its last threads: those
    // may still have writes under way.
    const ended = fields[0] === 'Z' || fields[0] === 'X';
    if (ended && fs.readdirSync(`/proc/${pid}/task`).length <= 1) return null;
    return fields[STAT_START_FIELD] ?? null;
  } catch {
    return null;
  }
}

/** The control tree of a mount. */
export function controlDirOf(ident: string): string {
  return join(runRoot(), ident);
}

function recordOf(ident: string): string {
  return join(runRoot(), RECORDS, ident);
}

/** Announces this process as the daemon of a mount. @returns the record's directory */
export function createRunDir(d: MountDescription): string {
  const dir = recordOf(mountIdent(d.fsid, d.rid));
  fs.mkdirSync(dir, { recursive: true, mode: 0o755 });
  const files: Record<string, string> = {
    pid: `${process.pid} ${startTime(process.pid) ?? ''}\n`,
    fsid: `${hex16(d.fsid)}\n`,
    rid: `${hex16(d.rid)}\n`,
    mount_point: `${d.mountPoint}\n`,
    data_device: `${d.dataDevice}\n`,
    meta_device: `${d.metaDevice}\n`,
    quorum_slot_nr: `${d.quorumSlotNr ?? -1}\n`,
  };
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(join(dir, name), text);
  return dir;
}

/** Makes the directory that a control tree is mounted on. */
export function makeControlDir(dir: string): void {
  fs.mkdirSync(dir, { recursive: true, mode: 0o755 });
}

/** Takes a control tree away, whether or not somebody still serves it. Never rejects. */
export async function detachControl(dir: string): Promise<void> {
  try {
    // Its parent only: what is mounted there may have nobody to answer for it.
    const real = join(fs.realpathSync(dirname(dir)), basename(dir));
    if (await isMountPoint(real)) await unmountFuse(real, true);
    fs.rmdirSync(real);
  } catch {
    // never made, or still mounted: then it is detached by whoever comes next
  }
}

/** Takes the control trees of dead daemons away; their records stay for the fence agent. */
export async function detachDead(): Promise<void> {
  for (const m of listMounts()) if (!m.alive) await detachControl(controlDirOf(m.ident));
}

/** Removes all that a mount has in the run directory. */
export async function removeMount(ident: string): Promise<void> {
  await detachControl(controlDirOf(ident));
  fs.rmSync(recordOf(ident), { recursive: true, force: true });
}

function readMount(ident: string): MountInfo | null {
  const dir = recordOf(ident);
  const file = (name: string): string => fs.readFileSync(join(dir, name), 'utf8').trim();
  try {
    const [pidText, start] = file('pid').split(' ');
    const pid = Number(pidText);
    const slot = Number(file('quorum_slot_nr'));
    return {
      ident, dir, pid, startTime: start ?? '',
      fsid: BigInt(`0x${file('fsid')}`), rid: BigInt(`0x${file('rid')}`),
      alive: start !== undefined && startTime(pid) === start,
      mountPoint: file('mount_point'), dataDevice: file('data_device'),
      metaDevice: file('meta_device'), quorumSlotNr: slot < 0 ? null : slot,
    };
  } catch {
    // half made or half removed: not a mount
    return null;
  }
}

/** All mounts of this host that have a record, dead ones included. */
export function listMounts(): MountInfo[] {
  try {
    return fs.readdirSync(join(runRoot(), RECORDS)).map(readMount).filter((m) => m !== null);
  } catch (e) {
    if (asScoutfsError(e).errno === 'ENOENT') return [];
    throw e;
  }
}

/** Whether a kernel module of this host serves the mount. */
export function isKernelMount(rid: bigint): boolean {
  try {
    return fs.readdirSync(KERNEL_ROOT).some((ident) =>
      fs.readFileSync(join(KERNEL_ROOT, ident, 'rid'), 'utf8').trim() === hex16(rid));
  } catch {
    return false;
  }
}

/** Whether the process that serves or served a mount still runs; its record goes first. */
export function daemonRuns(m: MountInfo): boolean {
  return startTime(m.pid) === m.startTime;
}

/** Kills the daemon of a mount and waits until it is gone. @returns whether it is gone */
export async function killMount(m: MountInfo): Promise<boolean> {
  if (m.alive) sendSignal(m.pid, 'SIGKILL');
  for (let waitedMs = 0; waitedMs < KILL_WAIT_MS; waitedMs += KILL_POLL_MS) {
    if (!daemonRuns(m)) return true;
    await new Promise((resolve) => { setTimeout(resolve, KILL_POLL_MS); });
  }
  return false;
}
