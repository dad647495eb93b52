/**
 * Runs the compiled program as a child process.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { repoDir } from './shared.js';

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

const SCOUTFS = join(repoDir, 'dist', 'host', 'cli', 'scoutfs.js');

/** Runs `scoutfs args...` in `cwd` and waits for its end. */
export function scoutfs(cwd: string, ...args: string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [SCOUTFS, ...args],
      { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (b: Buffer) => { out.push(b); });
    child.stderr.on('data', (b: Buffer) => { err.push(b); });
    child.on('error', reject);
    child.on('close', (status) => {
      resolve({
        status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString(),
      });
    });
  });
}
