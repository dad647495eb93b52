/**
 * The configuration of the fencing daemon: what bash makes of the file is what is used, and
 * what bash complains of is refused in one line.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadFencedConfig } from '../../host/cli/fenced_config.js';
import type { FencedConfig } from '../../host/cli/fenced_config.js';
import { openRequests } from '../../host/cli/fenced.js';

const RUN = 'SCOUTFS_FENCED_RUN=/bin/true\n';

const dir = t.testdir({ other: 'SITE=north\n' });
const file = join(dir, 'conf');

function load(text: string): FencedConfig {
  fs.writeFileSync(file, text);
  return loadFencedConfig(file);
}

t.test('a file is what bash makes of it', async (t) => {
  process.env['FENCED_TEST_OUTER'] = 'outer';
  t.teardown(() => { delete process.env['FENCED_TEST_OUTER']; });
  const cases: [text: string, args: string[]][] = [
    ['', []],
    ['SCOUTFS_FENCED_RUN_ARGS=one', ['one']],
    ['SCOUTFS_FENCED_RUN_ARGS="one  two\tthree"', ['one', 'two', 'three']],
    ["SCOUTFS_FENCED_RUN_ARGS='$HOME `id` \"x\"'", ['$HOME', '`id`', '"x"']],
    ['SCOUTFS_FENCED_RUN_ARGS="a\nb" # comment', ['a', 'b']],
    ['  export  SCOUTFS_FENCED_RUN_ARGS=a#b # c', ['a#b']],
    ['A=1; SCOUTFS_FENCED_RUN_ARGS="$A $(echo 2) ${NONE:-3} $FENCED_TEST_OUTER"',
      ['1', '2', '3', 'outer']],
    ['SCOUTFS_FENCED_RUN_ARGS=first\nSCOUTFS_FENCED_RUN_ARGS+=last', ['firstlast']],
    [`. ${join(dir, 'other')}\nSCOUTFS_FENCED_RUN_ARGS=$SITE`, ['north']],
    ['f() { SCOUTFS_FENCED_RUN_ARGS=$1; }; f called', ['called']],
    ['if true; then SCOUTFS_FENCED_RUN_ARGS=yes; fi\n[ 1 = 2 ] && SCOUTFS_FENCED_RUN_ARGS=no',
      ['yes']],
    ['echo to nobody; IFS=:; set -eu; printf() { :; }; SCOUTFS_FENCED_RUN_ARGS=a:b', ['a:b']],
    ['SCOUTFS_FENCED_RUN_ARGS=', []],
  ];
  for (const [text, args] of cases) t.same(load(RUN + text).runArgs, args, JSON.stringify(text));
});

t.test('what is logged, what is passed on', async (t) => {
  const c = load(`${RUN}export PASS='s e' LINES2='a\nb'\nMINE=2\nHIDDEN=3\nexport MINE GONE\n` +
    'SCOUTFS_FENCED_DELAY=0.5\nSCOUTFS_FENCED_X=y\nunset HOME');
  const { PASS, LINES2, MINE, PATH } = c.exported;
  t.same({ PASS, LINES2, MINE, PATH },
    { PASS: 's e', LINES2: 'a\nb', MINE: '2', PATH: process.env['PATH'] });
  for (const name of ['GONE', 'HIDDEN', 'SCOUTFS_FENCED_X', 'HOME']) {
    t.notOk(name in c.exported, `${name} is not passed on`);
  }
  t.same([...c.variables], [['SCOUTFS_FENCED_DELAY', '0.5'], ['SCOUTFS_FENCED_RUN', '/bin/true'],
    ['SCOUTFS_FENCED_X', 'y']]);
  t.equal(c.delayMs, 500);
  t.equal(load(RUN).delayMs, 2000, 'upstream\'s default');
});

t.test('refusals name the file, the line and the cause', async (t) => {
  const at = (text: string, message: string): [string, string] => [text, `${file}: ${message}`];
  const cases: [text: string, message: string][] = [
    at(`${RUN}\n\nno-such-command -rf /`, 'line 4: no-such-command: command not found'),
    at(`${RUN}if true; then`, 'line 3: syntax error: unexpected end of file'),
    at(`${RUN}A='x`, "line 2: unexpected EOF while looking for matching `''"),
    at(`${RUN}set -u; A=$NO_SUCH`, 'line 2: NO_SUCH: unbound variable'),
    at(`${RUN}exit 3`, 'ended the shell that read it (exit status 3)'),
    at(`${RUN}kill -TERM $$`, 'ended the shell that read it (SIGTERM)'),
    at(`${RUN}echo warning >&2`, 'warning'),
    at(`${RUN}SCOUTFS_FENCED_X=$(head -c 2000000 /dev/zero | tr '\\0' x)`,
      'more than 1048576 bytes of variables or output'),
    ...['-1', '0', '0.05', '3601', '99999999', '2s', '1e2', '0x2', 'NaN', '.'].map((d) =>
      at(`${RUN}SCOUTFS_FENCED_DELAY=${d}`, `SCOUTFS_FENCED_DELAY '${d}' must be a number of ` +
        'seconds from 0.1 to 3600')),
    at('SCOUTFS_FENCED_RUN=', 'SCOUTFS_FENCED_RUN is not set: it names the program that cuts a ' +
      'mount off'),
    at('SCOUTFS_FENCED_RUN=true', 'SCOUTFS_FENCED_RUN true: not an absolute path'),
    at('SCOUTFS_FENCED_RUN=/no/such', 'SCOUTFS_FENCED_RUN /no/such: no such file'),
    at('SCOUTFS_FENCED_RUN=/etc', 'SCOUTFS_FENCED_RUN /etc: not a file'),
    at('SCOUTFS_FENCED_RUN=/etc/passwd', 'SCOUTFS_FENCED_RUN /etc/passwd: not executable'),
  ];
  for (const [text, message] of cases) {
    t.throws(() => load(text), { message }, JSON.stringify(text.slice(0, 60)));
  }
  t.throws(() => loadFencedConfig(join(dir, 'none')), { errno: 'ENOENT',
    message: `${join(dir, 'none')}: cannot read the configuration: No such file or directory` });
  t.throws(() => loadFencedConfig(dir), { errno: 'EISDIR', message: /cannot read the config/ });
});

t.test('a file that does not end, and a host without bash', async (t) => {
  t.throws(() => load(`${RUN}sleep 600`), { errno: 'ETIMEDOUT',
    message: `${file}: bash was not done with it after 10 s` });
  const path = process.env['PATH'];
  process.env['PATH'] = dir;
  t.teardown(() => { process.env['PATH'] = path; });
  t.throws(() => load(RUN), { errno: 'ENOENT',
    message: `${file}: bash reads it and is not installed` });
});

t.test('which requests are open', async (t) => {
  const files = (rid: string, over: Record<string, string> = {}, without = ''):
  [string, string][] =>
    Object.entries({ rid, ipv4_addr: '10.0.0.1', reason: 'client_recovery', fenced: '0',
      error: '0', elapsed_secs: '3', ...over })
      .filter(([k]) => k !== without).map(([k, v]) => [`fence/${rid}/${k}`, v]);
  const [a, b, c, d, e] = ['1', '2', '3', '4', '5'].map((n) => n.padStart(16, '0'));
  const found = openRequests('f.a.r.b', '/run/x', new Map([
    ...files(a ?? ''), ...files(b ?? '', { fenced: '1' }), ...files(c ?? '', { error: '1' }),
    ...files(d ?? '', {}, 'ipv4_addr'), ...files(e ?? '', {}, 'error'),
    ['fence/strange/fenced', '0'], ['quorum/status', ''],
  ]));
  t.same(found, [{ ident: 'f.a.r.b', dir: `/run/x/fence/${a}`, rid: a, ipv4Addr: '10.0.0.1',
    reason: 'client_recovery' }]);
});
