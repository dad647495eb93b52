#!/usr/bin/env node
/**
 * The `scoutfs` program: the process around the frame.
 */
import { realEnv } from '../env/env.js';
import { COMMANDS } from './commands.js';
import { main } from './frame.js';

// A reader that has seen enough (`scoutfs print | head`) is no failure.
process.stdout.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code === 'EPIPE') process.exit(0);
  throw e;
});

process.exitCode = await main(process.argv.slice(2), COMMANDS, realEnv, {
  out: (text) => { process.stdout.write(text); },
  err: (text) => { process.stderr.write(text); },
  columns: process.stdout.isTTY ? process.stdout.columns : 0,
});
