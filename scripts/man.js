/**
 * Writes docs/man/scoutfs.8 from the registered commands. Run after a build.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { COMMANDS } from '../dist/host/cli/commands.js';
import { manPage } from '../dist/host/cli/man.js';

mkdirSync(new URL('../docs/man/', import.meta.url), { recursive: true });
writeFileSync(new URL('../docs/man/scoutfs.8', import.meta.url), manPage(COMMANDS));
