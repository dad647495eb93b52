/**
 * Writes the pages of docs/man from the registered commands, and the example configuration
 * of the fencing daemon. Run after a build.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { COMMANDS } from '../dist/host/cli/commands.js';
import { fencedConfigExample } from '../dist/host/cli/fenced_config.js';
import { manPages } from '../dist/host/cli/man.js';

mkdirSync(new URL('../docs/man/', import.meta.url), { recursive: true });
for (const [name, text] of Object.entries(manPages(COMMANDS))) {
  writeFileSync(new URL(`../docs/man/${name}`, import.meta.url), text);
}
writeFileSync(new URL('../packaging/scoutfs-fenced.conf.example', import.meta.url),
  fencedConfigExample());
