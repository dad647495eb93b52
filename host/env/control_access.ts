/**
 * Reading and writing files of other mounts' control trees without getting stuck in them.
 *
 * A control tree is served by its mount's daemon. When that is stopped, or waits for
 * something itself, whoever reads the tree waits too, in the kernel, where nothing but
 * a signal that kills gets it out. Those who ask (the fencing daemon, `scoutfs cluster`)
 * are needed most when a daemon does not answer, so a small shell process does each access
 * in their place, and is killed when it takes too long.
 *
 * Source: cli.md 3; docs/decisions/0006-control-tree-is-a-mount.md.
 */
import { spawn } from 'node:child_process';

/** How long a daemon may take to answer. */
export const CONTROL_TIMEOUT_MS = 2000;
/** Most that is taken of one tree. */
const OUTPUT_MAX_BYTES = 64 * 1024 * 1024;

/** Prints name and text of each file that matches, both ended by NUL, and skips what vanishes. */
const READ = 'cd "$1" || exit 1; shift; for f in $*; do [ -f "$f" ] || continue; ' +
  't=$(cat "$f" 2>/dev/null && echo x) || continue; printf "%s\\0%s\\0" "$f" "${t%x}"; done';
const WRITE = 'printf %s "$2" > "$1"';

/** @returns standard output; null when it failed or took too long */
function shell(script: string, args: readonly string[], timeoutMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    // A group of its own, so that killing it reaches the process that hangs.
    const child = spawn('/bin/sh', ['-c', script, 'sh', ...args],
      { detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
    const parts: Buffer[] = [];
    let lenBytes = 0;
    const finish = (text: string | null): void => {
      clearTimeout(timer);
      resolve(text);
    };
    const giveUp = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // it has just ended
      }
      // What cannot die before its daemon does must not keep us.
      child.stdout.destroy();
      child.unref();
      finish(null);
    };
    const timer = setTimeout(giveUp, timeoutMs);
    child.stdout.on('data', (b: Buffer) => {
      parts.push(b);
      lenBytes += b.length;
      if (lenBytes > OUTPUT_MAX_BYTES) giveUp();
    });
    child.on('error', () => { finish(null); });
    child.on('close', (status) => {
      finish(status === 0 ? Buffer.concat(parts).toString('utf8') : null);
    });
  });
}

/**
 * Reads the files below `dir` that match shell patterns without blanks. @returns texts by
 * their paths relative to `dir`; null when the tree did not answer in time, or is gone
 */
export async function readControl(dir: string, patterns: readonly string[],
  timeoutMs = CONTROL_TIMEOUT_MS): Promise<Map<string, string> | null> {
  const out = await shell(READ, [dir, ...patterns], timeoutMs);
  if (out === null) return null;
  const words = out.split('\0');
  const files = new Map<string, string>();
  for (let i = 0; i + 1 < words.length; i += 2) files.set(words[i] ?? '', words[i + 1] ?? '');
  return files;
}

/** Writes a text to a control file. @returns whether it was taken in time */
export async function writeControl(path: string, text: string,
  timeoutMs = CONTROL_TIMEOUT_MS): Promise<boolean> {
  return await shell(WRITE, [path, text], timeoutMs) !== null;
}
