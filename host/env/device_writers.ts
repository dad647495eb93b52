/**
 * Which processes of this host have a device open for writing.
 *
 * Read from /proc, so it needs no cooperation of those processes; processes in PID
 * namespaces that are not ours to see stay invisible. A process is listed as long as
 * any of its threads may still have a write under way: the kernel closes its files
 * only when the last of them has ended.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';

const ACCESS_MODE = 3;

/** A device or image file, however its path is spelled. */
function identity(path: string): string | null {
  const st = fs.statSync(path, { throwIfNoEntry: false, bigint: true });
  if (st === undefined) return null;
  return st.isBlockDevice() ? `rdev ${st.rdev}` : `${st.dev} ${st.ino}`;
}

function opensForWriting(pidDir: string, device: string): boolean {
  const fds = join(pidDir, 'fd');
  for (const fd of fs.readdirSync(fds)) {
    try {
      if (identity(join(fds, fd)) !== device) continue;
      const flags = /^flags:\s*([0-7]+)/m.exec(fs.readFileSync(join(pidDir, 'fdinfo', fd), 'utf8'));
      if ((parseInt(flags?.[1] ?? '2', 8) & ACCESS_MODE) !== 0) return true;
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
