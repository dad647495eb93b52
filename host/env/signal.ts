/**
 * Signals to processes that may end at any moment, also between the look at them and the
 * signal: that is no failure for anybody who wants them to end.
 */

/** @returns whether there was such a process. @throws EPERM */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw e;
  }
}
