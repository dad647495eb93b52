/**
 * The frame as a program: usage, help, argument errors and exit codes as upstream
 * has them, and the manual page.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../host/cli/commands.js';
import type { CommandSpec } from '../../host/cli/command.js';
import { main } from '../../host/cli/frame.js';
import { fencedConfigExample, loadFencedConfig } from '../../host/cli/fenced_config.js';
import { manPages } from '../../host/cli/man.js';
import { realEnv } from '../../host/env/env.js';
import { errnoError } from '../../host/observe/errors.js';
import { scoutfs } from '../lib/cli.js';
import { repoDir, tempDir } from '../lib/shared.js';

t.test('the program', async (t) => {
  const { dir, remove } = tempDir('scoutfs-cli');
  t.teardown(remove);
  const none = await scoutfs(dir);
  t.equal(none.status, 1);
  t.equal(none.stdout, '');
  t.match(none.stderr, /^usage: scoutfs <command> \[<args>\]\n\n.*\n.*\n\nSupported format version: 1-2\n\nCore admin:\n/);
  const names = [...none.stderr.matchAll(/^ +(\S+) [A-Z[]+-/gm)].map((m) => m[1]);
  t.ok(names.includes('mkfs'));
  const column = none.stderr.indexOf('mkfs META') - none.stderr.lastIndexOf('\n',
    none.stderr.indexOf('mkfs META'));
  const longest = Math.max(...COMMANDS.map((c) => c.name.length));
  t.equal(column, 1 + 2 + longest - 'mkfs'.length, 'names are right-aligned');
  for (const word of ['--help', '-h', 'nonsense']) {
    const r = await scoutfs(dir, word);
    t.equal(r.status, 1, word);
    t.ok(r.stderr.startsWith(`scoutfs: unrecognized command: '${word}'\nusage: scoutfs`), word);
  }
});

t.test('help of a command', async (t) => {
  const { dir, remove } = tempDir('scoutfs-cli');
  t.teardown(remove);
  for (const option of ['--help', '-?', '--hel']) {
    const r = await scoutfs(dir, 'mkfs', option);
    t.equal(r.status, 0, option);
    t.match(r.stdout, /^Usage: mkfs \[OPTION\.\.\.\] META-DEVICE DATA-DEVICE\n/);
    t.match(r.stdout, /\n {2}-Q, --quorum-slot=NR,ADDR,PORT\n/);
  }
  const usage = await scoutfs(dir, 'mkfs', '--usage');
  t.equal(usage.status, 0);
  t.match(usage.stdout, /^Usage: mkfs \[-Q\|--quorum-slot=NR,ADDR,PORT\]/);
});

t.test('argument errors', async (t) => {
  const { dir, remove } = tempDir('scoutfs-cli');
  t.teardown(remove);
  const hint = "Try `mkfs --help' or `mkfs --usage' for more information.\n";
  const cases: [args: string[], text: string][] = [
    [[], 'must provide the META-DEVICE argument'],
    [['a'], 'must provide the DATA-DEVICE argument'],
    [['a', 'b'], 'must provide at least one quorum slot'],
    [['a', 'b', 'c', '-Q', '0,127.0.0.1,1'], 'too many arguments'],
    [['a', 'b', '--bogus'], "unrecognized option '--bogus'"],
    [['a', 'b', '-x'], "invalid option -- 'x'"],
    [['a', 'b', '-fx'], "invalid option -- 'x'"],
    [['--version'], "unrecognized option '--version'"],
    [['a', 'b', '-Q'], "option '-Q' requires an argument"],
    [['a', 'b', '--quorum-slot'], "option '--quorum-slot' requires an argument"],
    [['a', 'b', '--max'],
      "option '--max' is ambiguous; possibilities: '--max-meta-size' '--max-data-size'"],
    [['a', 'b', '-Q0,127.0.0.1,1', '-V', '3'], "format-version '3' must be between 1 and 2"],
    [['a', 'b', '-Q0,127.0.0.1,1', '-m', '1X'], "unknown suffix: 'X'"],
    [['a', 'b', '-Q0,127.0.0.1,1', '-z', '0'], 'data-alloc-zone-blocks must not be 0'],
  ];
  for (const [args, text] of cases) {
    const r = await scoutfs(dir, 'mkfs', ...args);
    t.equal(r.status, 64, args.join(' '));
    const complaint = text.replaceAll("option '-Q'", "option '--quorum-slot'");
    t.ok([text, complaint].some((c) => r.stderr === `mkfs: ${c}\n${hint}`), r.stderr);
    t.equal(r.stdout, '');
  }
  const long = await scoutfs(dir, 'change-format-version');
  t.match(long.stderr, /--usage' for more\ninformation\.\n$/, 'the hint is wrapped');
  const ours = await scoutfs(dir, 'check', 'a');
  t.match(ours, { status: 2, stderr: /^scoutfs: check: must provide .*\n$/ },
    'commands of our own');
  t.equal(ours.stderr.split('\n').length, 2, 'say it in one line');
});

/** Runs commands inside this process. */
async function run(spec: Partial<CommandSpec>, ...args: string[]):
Promise<{ status: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const command: CommandSpec = {
    name: 'x', group: 'Core admin', args: [], description: 'X', options: [], json: true,
    run: async () => 0, ...spec,
  };
  const status = await main(['x', ...args], [command], realEnv, {
    out: (text) => { out += text.toString(); }, err: (text) => { err += text; },
  });
  return { status, out, err };
}

t.test('failures', async (t) => {
  const failing = { run: () => Promise.reject(errnoError('EBUSY', 'meta: in use')) };
  t.same(await run(failing), {
    status: 1, out: '',
    err: 'meta: in use\nscoutfs: x failed: Device or resource busy (16)\n',
  });
  const json = await run(failing, '--json');
  t.same(JSON.parse(json.out), { error: { code: 'EBUSY', errno: 'EBUSY', message: 'meta: in use' } });
  t.match(json.err, /failed: Device or resource busy \(16\)/);
  t.match(await run({ run: () => Promise.reject(errnoError('EPERM')) }),
    { status: 1, err: 'scoutfs: x failed: Operation not permitted (1)\n' }, 'no message');
  t.match(await run({ run: () => Promise.reject(new Error('bug')) }),
    { status: 1, err: 'bug\nscoutfs: x failed: Input/output error (5)\n' }, 'not one of ours');
  t.same(await run({ ...failing, group: 'User space' }),
    { status: 1, out: '', err: 'scoutfs: x: meta: in use\n' }, 'one line for our own commands');
  t.same(await run({ group: 'User space', run: () => Promise.reject(new Error('a\n b')) }),
    { status: 1, out: '', err: 'scoutfs: x: a; b\n' }, 'whatever the message is');
  t.match(await run({ run: async () => 7 }), { status: 7, err: '' });
});

t.test('arguments', async (t) => {
  const spec: Partial<CommandSpec> = {
    args: ['A', '[B]'],
    options: [
      { short: 'o', long: 'option', value: 'V', description: '' },
      { short: 'f', long: 'flag', description: '' },
      { short: 'g', long: 'group', description: '' },
    ],
    run: async (args, io) => {
      io.result({
        a: args.positional(0), b: args.optional(1) ?? null, all: args.values('option'),
        last: args.value('option') ?? null, f: args.flag('flag'), g: args.flag('group'),
        big: 0xffffffffffffffffn,
      });
      io.out('dropped');
      return 0;
    },
  };
  const parsed = async (...args: string[]): Promise<unknown> =>
    JSON.parse((await run(spec, '--json', ...args)).out);
  const big = '18446744073709551615';
  t.same(await parsed('a'), { a: 'a', b: null, all: [], last: null, f: false, g: false, big });
  t.same(await parsed('a', '-fo1', '--option=2', 'b', '--option', '3', '-g'),
    { a: 'a', b: 'b', all: ['1', '2', '3'], last: '3', f: true, g: true, big });
  t.same(await parsed('-fg', '--', '-1', '--flag'),
    { a: '-1', b: '--flag', all: [], last: null, f: true, g: true, big });
  t.match(await parsed('a', '--opt=x=y', '--fl'), { all: ['x=y'], f: true }, 'prefixes');
});

t.test('the manual pages say what is registered', async (t) => {
  for (const [name, text] of Object.entries(manPages(COMMANDS))) {
    const page = readFileSync(join(repoDir, 'docs', 'man', name), 'utf8');
    t.equal(page, text, `${name}: run \`npm run man\` after changing a command`);
    t.notMatch(page, /[\u0080-\uffff]/, 'plain ASCII');
  }
  const example = readFileSync(join(repoDir, 'packaging', 'scoutfs-fenced.conf.example'), 'utf8');
  t.equal(example, fencedConfigExample(), 'run `npm run man`');
  const { dir, remove } = tempDir('fenced');
  t.teardown(remove);
  const file = join(dir, 'conf');
  writeFileSync(file, example.replace(/^(SCOUTFS_FENCED_RUN)=.*$/m, '$1=/bin/true'));
  t.match(loadFencedConfig(file), { delayMs: 2000, runArgs: [] }, 'it can be used');
});
