/**
 * One message is one line, with its level and the mount's identity; a daemon's
 * log file has the line as soon as the call returns.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountIdent, openLog, silentLog } from '../../host/observe/log.js';
import { tempDir } from '../lib/shared.js';

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /;

t.test('identity of a mount', async (t) => {
  t.equal(mountIdent(0x1122334455667788n, 0xabcdef0123456789n), 'f.112233.r.abcdef');
  t.equal(mountIdent(1n, 0x0000010000000000n), 'f.000000.r.000001', 'leading zeros stay');
});

t.test('lines', async (t) => {
  const lines: string[] = [];
  const log = openLog({ level: 'info', prefix: 'f.112233.r.abcdef', write: (l) => lines.push(l) });
  log.info('mounted');
  log.debug('not written');
  log.error('two\nlines\\');
  log.withPrefix('server').warn('slow');
  t.same(lines.map((l) => l.replace(TIME, '')), [
    'info f.112233.r.abcdef mounted\n',
    'error f.112233.r.abcdef two\\nlines\\\\\n',
    'warn server slow\n',
  ]);
  t.ok(lines.every((l) => TIME.test(l)), 'each begins with the time');
  t.equal(log.enabled('info'), true);
  t.equal(log.enabled('debug'), false);
  t.equal(silentLog.enabled('error'), false);
  log.withPrefix('server').setLevel('debug');
  log.debug('now');
  t.match(lines.at(-1), / debug f.112233.r.abcdef now\n$/, 'one level for all prefixes');
  t.equal(log.level, 'debug');
  log.setLevel('error');
  log.withPrefix('server').warn('not any more');
  t.match(lines.at(-1), / now\n$/);
});

t.test('a log file is written synchronously and appended to', async (t) => {
  const { dir, remove } = tempDir('scoutfs-log');
  t.teardown(remove);
  const path = join(dir, 'mount.log');
  openLog({ path }).info('first');
  t.match(readFileSync(path, 'utf8'), /info first\n$/);
  openLog({ path }).info('second');
  t.equal(readFileSync(path, 'utf8').trim().split('\n').length, 2);
  t.throws(() => openLog({ path: join(dir, 'absent', 'x.log') }), { code: 'ENOENT' });
});
