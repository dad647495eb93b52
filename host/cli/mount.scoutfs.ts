#!/usr/bin/env node
/**
 * `mount.scoutfs`: what mount(8) runs for `mount -t scoutfs`.
 */
import { realEnv } from '../env/env.js';
import { COMMANDS } from './commands.js';
import { main } from './frame.js';
import { mountArguments } from './mount_helper.js';

const USAGE_STATUS = 2;

const words = mountArguments(process.argv.slice(2));
if (words === null) {
  process.stderr.write('usage: mount.scoutfs DATA-DEVICE DIR [-sfnv] [-o OPTIONS]\n');
  process.exitCode = USAGE_STATUS;
} else {
  process.exitCode = await main(['mount', ...words], COMMANDS, realEnv, {
    out: (text) => { process.stdout.write(text); },
    err: (text) => { process.stderr.write(text); },
  });
}
