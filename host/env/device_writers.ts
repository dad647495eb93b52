/**
 * Which processes of this host have a device open for writing.
 *
 * Read from /proc, so it needs no cooperation of those processes; processes in PID
 * namespaces that are not ours to see stay invisible. A process is listed as long as
 * any of its threads may still have a write under way: the kernel closes its files
 * only when the last of them has ended.
 *
 * An open file is only looked at (stat) when that cannot hang. One in a FUSE mount would
 * ask that mount's daemon, and this is about daemons that do not answer: files in FUSE
 * mounts other than the one that holds the device itself are passed over.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';

const ACCESS_MODE = 3;

interface Identity {
  /** equal for the same device or image file, however its path is spelled */
  id: string;
  /** of the file system that it lies in, as `<major>:<minor>` */
  holder: string;
}

function identity(path: string): Identity | null {
  const st = fs.statSync(path, { throwIfNoEntry: false, bigint: true });
  if (st === undefined) return null;
  const [major, minor] = [(st.dev >> 8n) & 0xfffn, (st.dev & 0xffn) | ((st.dev >> 12n) & 0xfff00n)];
  return {
    id: st.isBlockDevice() ? `rdev ${st.rdev}` : `${st.dev} ${st.ino}`,
    holder: `${major}:${minor}`,
  };
}

/** Mounts of FUSE file systems that a process sees: devices by mount numbers. */
function fuseMounts(pidDir: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of fs.readFileSync(join(pidDir, 'mountinfo'), 'utf8').split('\n')) {
    const [id, , dev] = line.split(' ');
    if (id !== undefined && dev !== undefined && / - fuse/.test(line)) found.set(id, dev);
  }
  return found;
}

function opensForWriting(pidDir: string, device: Identity): boolean {
  const fds = join(pidDir, 'fd');
  let fuse: Map<string, string> | null = null;
  for (const fd of fs.readdirSync(fds)) {
    try {
      // The name alone asks no file system; what has none is a pipe, a socket or the like.
      if (!fs.readlinkSync(join(fds, fd)).startsWith('/')) continue;
      const info = fs.readFileSync(join(pidDir, 'fdinfo', fd), 'utf8');
      const flags = /^flags:\s*([0-7]+)/m.exec(info)?.[1] ?? '2';
      if ((parseInt(flags, 8) & ACCESS_MODE) === 0) continue;
      fuse ??= fuseMounts(pidDir);
      const at = fuse.get(/^mnt_id:\s*(\d+)/m.exec(info)?.[1] ?? '');
      if (at !== undefined && at !== device.holder) continue;
      if (identity(join(fds, fd))?.id === device.id) return true;
    } catch {
      // closed meanwhile
    }
  }
  return false;
}

/** Processes other than this one that have the device at `path` open for writing. */
export function deviceWriters(path: string): number[] {
  const device = identity(path);
  if (device === null) return [];
  return fs.readdirSync('/proc').map(Number).filter((pid) => {
    if (!(pid > 0) || pid === process.pid) return false;
    try {
      return opensForWriting(`/proc/${pid}`, device);
    } catch {
      // ended meanwhile, or a kernel thread
      return false;
    }
  });
}
