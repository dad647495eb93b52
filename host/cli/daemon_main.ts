/**
 * The daemon of one mount: the process that `scoutfs mount` leaves behind.
 *
 * It assembles the mount, reports on descriptor 3, and then lives until the kernel
 * says that the mount is gone. SIGTERM and SIGINT unmount; a mount that does not serve yet
 * is given up, also when nobody waits for its report any more. SIGUSR1 makes the next
 * ending a forced one (no commit, no farewell). SIGUSR2 writes what requests have cost
 * to `debug_counters` in the run directory; with SCOUTFS_COUNT=1 in the environment the
 * calls of the core's exports and the promises made are counted too (both cost time).
 */
import { createHook } from 'node:async_hooks';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { realEnv } from '../env/env.js';
import { Parent } from '../env/parent.js';
import type { LogLevel } from '../observe/log.js';
import { openLog } from '../observe/log.js';
import { asScoutfsError } from '../observe/errors.js';
import { Mount } from '../super.js';
import type { DaemonConfig } from './daemon.js';
import { REPORT_FD } from './daemon.js';

let promises = 0;
let dumps = 0;

/** Writes the counters; makes no promise itself. */
function dump(mount: Mount | null): void {
  const c = mount?.counters() ?? null;
  if (c === null) return;
  dumps += 1;
  const file = join(c.runDir, 'debug_counters');
  fs.writeFileSync(`${file}.new`, `${JSON.stringify({ nr: dumps, promises, ...c.counters })}\n`);
  fs.renameSync(`${file}.new`, file);
}

async function main(): Promise<number> {
  const cfg = JSON.parse(process.argv[2] ?? '{}') as DaemonConfig;
  const log = openLog({ level: cfg.logLevel as LogLevel });
  let mount: Mount | null = null;
  const givingUp = new AbortController();
  const stop = (why: string): void => {
    givingUp.abort(why);
    void mount?.requestUnmount();
  };
  const parent = new Parent(REPORT_FD, () => { stop('because nobody waits for it any more'); });
  for (const s of ['SIGTERM', 'SIGINT']) process.on(s, () => { stop(`by ${s}`); });
  process.on('SIGUSR1', () => { mount?.force(); });
  process.on('SIGUSR2', () => { dump(mount); });
  const counting = process.env['SCOUTFS_COUNT'] === '1';
  if (counting) {
    createHook({ init: (_id, type) => { if (type === 'PROMISE') promises += 1; } }).enable();
  }
  process.on('unhandledRejection', (e) => {
    log.error(`unhandled: ${e instanceof Error ? e.stack ?? e.message : String(e)}`);
  });
  try {
    mount = await Mount.start(realEnv, log, cfg.options, cfg.dataDevice, cfg.dir,
      { countCrossings: counting, givingUp: givingUp.signal });
  } catch (e) {
    const err = asScoutfsError(e);
    log.error(`mount failed: ${err.stack ?? err.message}`);
    parent.report({ error: err.message, errno: err.errno });
    return 1;
  }
  if (givingUp.signal.aborted) {
    // too late to give the start up: it has to be unmounted
    await mount.requestUnmount();
    await mount.ended;
    parent.report({ error: `given up ${String(givingUp.signal.reason)}`, errno: 'EINTR' });
    return 1;
  }
  parent.report({ ready: true, ident: mount.ident, warnings: mount.warnings });
  await mount.ended;
  return 0;
}

main().then((status) => { process.exit(status); }, (e: unknown) => {
  process.stderr.write(`${asScoutfsError(e).message}\n`);
  process.exit(1);
});
