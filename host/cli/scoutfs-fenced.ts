#!/usr/bin/env node
/**
 * `scoutfs-fenced`: the fencing daemon by the name that service units of upstream use.
 */
import { realEnv } from '../env/env.js';
import { COMMANDS } from './commands.js';
import { main } from './frame.js';

process.exitCode = await main(['fenced', ...process.argv.slice(2)], COMMANDS, realEnv, {
  out: (text) => { process.stdout.write(text); },
  err: (text) => { process.stderr.write(text); },
});
