/**
 * The parser of the fencing daemon's configuration: what a shell would make of the same
 * assignments, and refusals of everything that is more than an assignment.
 */
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import t from 'tap';
import { parseFencedConfig } from '../../host/cli/fenced_config.js';
import { openRequests } from '../../host/cli/fenced.js';

const RUN = 'SCOUTFS_FENCED_RUN=/bin/true\n';

t.test('assignments', async (t) => {
  const cases: [text: string, args: string[]][] = [
    ['', []],
    ['SCOUTFS_FENCED_RUN_ARGS=one', ['one']],
    ['SCOUTFS_FENCED_RUN_ARGS="one  two\tthree"', ['one', 'two', 'three']],
    ["SCOUTFS_FENCED_RUN_ARGS='$HOME `id` \"x\"'", ['$HOME', '`id`', '"x"']],
    ['SCOUTFS_FENCED_RUN_ARGS=a\\ b"c"\'d\'', ['a', 'bcd']],
    ['SCOUTFS_FENCED_RUN_ARGS="a\\"b\\\\c\\d\\$e"', ['a"b\\c\\d$e']],
    ['SCOUTFS_FENCED_RUN_ARGS="a\\\nb"', ['ab']],
    ['SCOUTFS_FENCED_RUN_ARGS="a\nb" # comment', ['a', 'b']],
    ['  export  SCOUTFS_FENCED_RUN_ARGS=a#b # c', ['a#b']],
    ['A=1 SCOUTFS_FENCED_RUN_ARGS=x; B=2', ['x']],
    ['SCOUTFS_FENCED_RUN_ARGS=first\nSCOUTFS_FENCED_RUN_ARGS=last', ['last']],
    ['SCOUTFS_FENCED_RUN_ARGS=', []],
    ['SCOUTFS_FENCED_RUN_ARGS=x\r\n', ['x']],
    ['#x\n\n\nSCOUTFS_FENCED_RUN_ARGS=-n=*.[x]?!', ['-n=*.[x]?!']],
  ];
  for (const [text, args] of cases) {
    t.same(parseFencedConfig(RUN + text, 'f').runArgs, args, JSON.stringify(text));
  }
  const c = parseFencedConfig(`${RUN}export PASS='s e' OTHER=1\nMINE=2\nexport MINE GONE\n` +
    'SCOUTFS_FENCED_DELAY=0.5\nSCOUTFS_FENCED_X=y', 'f');
  t.same(c.exported, { PASS: 's e', OTHER: '1', MINE: '2' });
  t.same([...c.variables], [['SCOUTFS_FENCED_RUN', '/bin/true'], ['SCOUTFS_FENCED_DELAY', '0.5'],
    ['SCOUTFS_FENCED_X', 'y']], 'what is logged');
  t.equal(c.delayMs, 500);
  t.equal(parseFencedConfig(RUN, 'f').delayMs, 2000, 'upstream\'s default');
});

t.test('refusals name the line', async (t) => {
  const cases: [text: string, message: RegExp][] = [
    ['A=$B', /^f: line 2: \$ has no meaning here/],
    ['A="$(id)"', /^f: line 2: \$ is not expanded/],
    ['A="`id`"', /^f: line 2: ` is not expanded/],
    ['A=`id`', /^f: line 2: `/],
    ['\n\nrm -rf /', /^f: line 4: 'rm' is not an assignment/],
    ['A=1 rm', /^f: line 2: 'rm' is not an assignment/],
    ['if true; then A=1; fi', /^f: line 2: 'if' is not/],
    ['. /etc/other', /^f: line 2: '\.' is not/],
    ['A=(1 2)', /^f: line 2: \(/],
    ['A=1 > x', /^f: line 2: '>' is not/],
    ['A=1|B=2', /^f: line 2: \|/],
    ['A=1&', /^f: line 2: &/],
    ['A=~/x', /^f: line 2: a leading ~/],
    ['\nA=\'x', /^f: line 3: a ' that is not closed/],
    ['A="x\n\n', /^f: line 2: a " that is not closed/],
    ['A=x\\', /^f: line 2: a \\ at the end/],
    ['1A=2', /^f: line 2: '1A=2' is not/],
    ['A=1;;', /^f: line 2: ; without/],
    ['A+=2', /^f: line 2: 'A\+=2' is not/],
    ['A\0=2', /NUL/],
    ['x'.repeat(70_000), /longer than/],
    [Array.from({ length: 1002 }, (_, i) => `A${i}=`).join('\n'), /more than 1000 variables/],
    ...['-1', '0', '0.05', '3601', '99999999', '2s', '1e2', '0x2', 'NaN', '.'].map(
      (d): [string, RegExp] => [`SCOUTFS_FENCED_DELAY=${d}`, /^f: SCOUTFS_FENCED_DELAY '.*' must/]),
    ['SCOUTFS_FENCED_RUN=', /^f: SCOUTFS_FENCED_RUN is not set/],
  ];
  for (const [text, message] of cases) {
    const what = JSON.stringify(text.slice(0, 40));
    t.throws(() => parseFencedConfig(RUN + text, 'f'), { errno: 'EINVAL', message }, what);
    t.throws(() => parseFencedConfig(RUN + text, 'f'), { message: /^[^\n]+$/ }, 'one line');
  }
});

t.test('any text: refused in one line, or what the shell makes of it', async (t) => {
  const sh = (text: string): string => spawnSync('/bin/bash', ['--norc', '-c',
    `${text}\nprintf '\\0%s' "$V"`], { encoding: 'utf8', env: { PATH: '/nonexistent' } })
    .stdout.split('\0').at(-1) ?? '';
  const piece = fc.constantFrom('a', 'B', '1', ' ', '\n', '\\', '"', '\'', '#', ';', '=', '/', '-',
    'V=', 'export ', '\t', '.');
  const taken: string[] = [];
  fc.assert(fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
    const text = `V=${pieces.join('')}`;
    let got: string;
    try {
      const c = parseFencedConfig(`${RUN}export V\n${text}`, 'f');
      got = c.exported['V'] ?? '';
    } catch (e) {
      return !(e as Error).message.includes('\n');
    }
    taken.push(text);
    return got === sh(text);
  }), { numRuns: 300, seed: 7 });
  t.ok(taken.length > 50, `${taken.length} texts were taken`);
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
