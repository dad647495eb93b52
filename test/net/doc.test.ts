/**
 * docs/protocol.md against the code: every command with its number, who asks, the sizes, and
 * files that exist.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../host/net/messages.js';
import { repoDir } from '../lib/shared.js';

const page = readFileSync(join(repoDir, 'docs', 'protocol.md'), 'utf8');

t.test('the table of commands', async (t) => {
  const rows = page.split('\n').filter((l) => /^\| \d+ \|/.test(l))
    .map((l) => l.split('|').slice(1, 5).map((cell) => cell.trim()));
  const sizeOf = (text: string): number => /^\d+$/.test(text) ? Number(text) : -1;
  t.strictSame(rows.map(([nr, name, from = '', sizes = '']) => {
    const [request = '', response = ''] = sizes.split(', ');
    return { nr: Number(nr), name, fromClient: /mount(;|:|$)/.test(from),
      fromServer: from.includes('server'), requestBytes: sizeOf(request),
      responseBytes: sizeOf(response) };
  }), COMMANDS.map(({ name, fromClient, fromServer, requestBytes, responseBytes }, nr) =>
    ({ nr, name, fromClient, fromServer, requestBytes, responseBytes })));
});

t.test('the files it names', async (t) => {
  const names = [...page.matchAll(/`([a-z_]+\/[^`]+)`/g)].map((m) => m[1] ?? '')
    .map((name) => /^(host|docs|test)\//.test(name) ? name : join('host', name));
  t.ok(names.length > 20, `${names.length} names`);
  for (const name of names) t.ok(existsSync(join(repoDir, name)), name);
});
