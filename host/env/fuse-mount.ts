/**
 * Attaching a FUSE descriptor to a directory, and getting rid of it again.
 *
 * The mount is made by mount(8) with the open descriptor as its descriptor 3; the
 * kernel does not wait for INIT, so the caller serves right after. A mount point
 * left behind by a dead daemon answers statfs with ENOTCONN; it is detached lazily
 * before mounting. A mount that answers, or does not answer at all, is busy.
 *
 * Nothing here touches the mounted tree synchronously: the process that serves it
 * would wait for itself. Facts: fuse.md 7 and 4.8.
 */
import { spawn } from 'node:child_process';
import { promises as fsp } from 'node:fs';
import * as fs from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import type { ErrnoName } from '../observe/errors.js';

export const FUSE_DEVICE_PATH = '/dev/fuse';
const CONNECTIONS_DIR = '/sys/fs/fuse/connections';
/** A mount that has not answered statfs by then is taken to be alive but stuck. */
const PROBE_TIMEOUT_MS = 3000;
const READ_AHEAD_KB = 1024;

export interface FuseMountOptions {
  /** Shown as the source in /proc/mounts: the device's path. */
  source: string;
  dir: string;
  /** After the dot in `fuse.<subtype>`. */
  subtype: string;
  readOnly?: boolean;
  /** Generic options such as nosuid or noatime, passed on to mount(8). */
  extra?: readonly string[];
}

export interface FuseMount {
  /** The descriptor to serve; non-blocking is up to the device. */
  readonly fd: number;
  /** The mount point's absolute path. */
  readonly dir: string;
  /** Number of the connection under /sys/fs/fuse/connections (the minor of st_dev). */
  readonly connection: number;
}

interface MountEntry {
  minor: number;
  dir: string;
  type: string;
}

function fail(code: string, errno: ErrnoName, message: string, cause?: unknown): ScoutfsError {
  return new ScoutfsError(code, errno, { message, cause });
}

/** What the child printed on standard error, and its exit status. */
function run(command: string, args: readonly string[], fd3?: number):
Promise<{ status: number; stderr: string }> {
  return new Promise((done, failed) => {
    const child = spawn(command, args, {
      stdio: fd3 === undefined ? ['ignore', 'ignore', 'pipe'] : ['ignore', 'ignore', 'pipe', fd3],
    });
    let stderr = '';
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (s: string) => { stderr += s; });
    child.on('error', (e) => { failed(fail('NO_COMMAND', 'ENOENT', `cannot run ${command}`, e)); });
    child.on('close', (status) => { done({ status: status ?? -1, stderr: stderr.trim() }); });
  });
}

/** Undoes the octal escapes of mountinfo. */
function unescapePath(s: string): string {
  return s.replace(/\\([0-7]{3})/g, (_m, oct: string) => String.fromCharCode(parseInt(oct, 8)));
}

/** The topmost mount on `dir`, if it is a mount point. */
async function mountOn(dir: string): Promise<MountEntry | null> {
  const text = await fsp.readFile('/proc/self/mountinfo', 'utf8');
  let found: MountEntry | null = null;
  for (const line of text.split('\n')) {
    const [front, back] = line.split(' - ');
    const fields = front?.split(' ') ?? [];
    const at = fields[4];
    if (at === undefined || back === undefined || unescapePath(at) !== dir) continue;
    const minor = Number(fields[2]?.split(':')[1] ?? NaN);
    found = { minor, dir, type: back.split(' ')[0] ?? '' };
  }
  return found;
}

/** Whether something is mounted at a real path; does not touch what is. */
export async function isMountPoint(dir: string): Promise<boolean> {
  return await mountOn(dir) !== null;
}

/** The mount point's real path; the last component may be a dead mount that cannot be looked at. */
async function realMountPoint(dir: string): Promise<string> {
  try {
    return await fsp.realpath(dir);
  } catch (e) {
    const { errno } = asScoutfsError(e);
    if (errno === 'ENOENT') throw fail('NO_MOUNT_POINT', 'ENOENT', `${dir}: no such directory`, e);
    if (errno !== 'ENOTCONN') throw fail('MOUNT_POINT', errno, `${dir}: ${errno}`, e);
    const abs = resolve(dir);
    return join(await fsp.realpath(dirname(abs)), basename(abs));
  }
}

/** Whether the mount on `dir` belongs to a daemon that is gone. */
async function isStale(dir: string): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<boolean>((done) => {
    timer = setTimeout(() => { done(false); }, PROBE_TIMEOUT_MS);
  });
  const probe = fsp.statfs(dir).then(
    () => false,
    (e: unknown) => ['ENOTCONN', 'ECONNABORTED'].includes(asScoutfsError(e).errno));
  const stale = await Promise.race([probe, timeout]);
  clearTimeout(timer);
  return stale;
}

/** Checks the mount point and clears away what a dead daemon left on it. */
async function prepare(dir: string): Promise<string> {
  const real = await realMountPoint(dir);
  for (let mount = await mountOn(real); mount !== null; mount = await mountOn(real)) {
    if (!mount.type.startsWith('fuse') || !await isStale(real)) {
      throw fail('MOUNT_BUSY', 'EBUSY', `${dir}: already a mount point (${mount.type})`);
    }
    await unmountFuse(real, true);
  }
  if (!(await fsp.stat(real)).isDirectory()) {
    throw fail('NOT_A_DIRECTORY', 'ENOTDIR', `${dir}: not a directory`);
  }
  return real;
}

function openDevFuse(): number {
  try {
    return fs.openSync(FUSE_DEVICE_PATH, 'r+');
  } catch (e) {
    const { errno } = asScoutfsError(e);
    const why = errno === 'ENOENT' ? 'does not exist (is the fuse module loaded?)'
      : errno === 'ENODEV' || errno === 'ENXIO' ? 'is there but the kernel has no FUSE'
        : errno === 'EACCES' || errno === 'EPERM' ? 'may not be opened: permission denied'
          : errno;
    throw fail('NO_FUSE', errno, `${FUSE_DEVICE_PATH} ${why}`, e);
  }
}

/**
 * Mounts and returns the descriptor to serve.
 *
 * @throws NO_FUSE, NO_MOUNT_POINT, NOT_A_DIRECTORY, MOUNT_BUSY, MOUNT_FAILED, each with a
 *         message of one line
 */
export async function mountFuse(opts: FuseMountOptions): Promise<FuseMount> {
  const dir = await prepare(opts.dir);
  const fd = openDevFuse();
  try {
    const options = ['fd=3', 'rootmode=40000', 'user_id=0', 'group_id=0', 'allow_other',
      'default_permissions', ...(opts.readOnly === true ? ['ro'] : []), ...(opts.extra ?? [])];
    const { status, stderr } = await run('mount',
      ['-i', '-t', `fuse.${opts.subtype}`, '-o', options.join(','), opts.source, dir], fd);
    if (status !== 0) {
      const denied = /permission|must be superuser|not permitted/i.test(stderr);
      throw fail('MOUNT_FAILED', denied ? 'EPERM' : 'EINVAL',
        `cannot mount on ${opts.dir}: ${stderr.split('\n')[0] ?? `status ${status}`}`);
    }
    const mount = await mountOn(dir);
    if (mount === null) throw fail('MOUNT_FAILED', 'EIO', `${opts.dir}: vanished after mounting`);
    await setReadAhead(mount.minor);
    return { fd, dir, connection: mount.minor };
  } catch (e) {
    fs.closeSync(fd);
    throw e;
  }
}

/** The kernel's default of 128 KiB cuts sequential reads into small requests. */
async function setReadAhead(minor: number): Promise<void> {
  try {
    await fsp.writeFile(`/sys/class/bdi/0:${minor}/read_ahead_kb`, `${READ_AHEAD_KB}`);
  } catch {
    // only slower
  }
}

/** Unmounts; lazily when asked, which detaches at once and ends when the last file is closed. */
export async function unmountFuse(dir: string, lazy = false): Promise<void> {
  const { status, stderr } = await run('umount', ['-i', ...(lazy ? ['-l'] : []), dir]);
  if (status === 0) return;
  const busy = /busy/i.test(stderr);
  throw fail('UMOUNT_FAILED', busy ? 'EBUSY' : 'EINVAL',
    `cannot unmount ${dir}: ${stderr.split('\n')[0] ?? `status ${status}`}`);
}

/**
 * Ends a connection by force: all callers fail at once, a blocked notification returns.
 * For the daemon itself and for a supervisor that outlives it. Of a connection that is gone
 * there is nothing to end.
 */
export async function abortFuse(connection: number): Promise<void> {
  if (await writeAbort(connection)) return;
  // either the connection is gone or the control file system is not mounted
  await run('mount', ['-t', 'fusectl', 'fusectl', CONNECTIONS_DIR]);
  await writeAbort(connection);
}

/** @returns false when there is no such connection to be seen */
async function writeAbort(connection: number): Promise<boolean> {
  try {
    await fsp.writeFile(`${CONNECTIONS_DIR}/${connection}/abort`, '1');
    return true;
  } catch (e) {
    if (asScoutfsError(e).errno !== 'ENOENT') throw asScoutfsError(e);
    return false;
  }
}

/** The administrator's limit on request time in seconds; all but 0 would abort waiting mounts. */
export async function forcedRequestTimeoutSec(): Promise<number> {
  try {
    return Number(await fsp.readFile('/proc/sys/fs/fuse/default_request_timeout', 'utf8'));
  } catch {
    return 0;
  }
}
