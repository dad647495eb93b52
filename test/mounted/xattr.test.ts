/**
 * Xattrs on a real mount: sizes, flags and errors of the system calls as a local file
 * system has them, and who may use which names.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, sh, skipWithoutFuse } from '../lib/mounted.js';
import { getXattrSize, getXattrText, listXattrSize, removeXattr, setXattr }
  from '../lib/xattr_calls.js';

const skip = skipWithoutFuse();
const CREATE = 1;
const REPLACE = 2;
const LIST_MAX_BYTES = 65536;
/** cap_net_raw=ep as files carry it. */
const CAP_NET_RAW = Buffer.from('0100000200200000000000000000000000000000', 'hex');

void t.test('sizes, flags and errors', { skip }, async (tt) => {
  const rig = new Rig('xattr');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  const f = join(rig.mnt, 'f');
  fs.writeFileSync(f, '');
  const set = (name: string, value: string | Uint8Array, flags = 0): number | string =>
    setXattr(f, name, value, flags);
  const get = (name: string): string => getXattrText(f, name);

  tt.equal(set('user.a', 'v', REPLACE), 'ENODATA');
  tt.equal(get('user.a'), '[ENODATA]');
  tt.equal(set('user.a', 'v', CREATE), 0);
  tt.equal(set('user.a', 'w', CREATE), 'EEXIST');
  tt.equal(set('user.a', 'w', REPLACE), 0);
  tt.equal(get('user.a'), 'w');
  tt.equal(set('user.a', 'w', CREATE | REPLACE), 'EINVAL');
  tt.equal(set('user.a', 'w', 4), 'EINVAL');
  tt.equal(set('user.empty', ''), 0, 'a value may be empty');
  tt.equal(get('user.empty'), '');
  tt.equal(getXattrSize(f, 'user.empty', 0), 0);
  tt.equal(removeXattr(f, 'user.empty'), 0);
  tt.equal(removeXattr(f, 'user.empty'), 'ENODATA', 'the second time');
  tt.equal(getXattrSize(f, 'user.empty', 0), 'ENODATA', 'asking for the size of none');

  const parts = 'p'.repeat(3000);
  tt.equal(set('user.parts', parts, REPLACE), 'ENODATA', 'flags are about the whole xattr');
  tt.equal(set('user.parts', parts, CREATE), 0);
  tt.equal(set('user.parts', parts, CREATE), 'EEXIST');
  tt.equal(set('user.parts', 'q'.repeat(5000), REPLACE), 0, 'growing');
  tt.equal(get('user.parts'), 'q'.repeat(5000));
  tt.equal(set('user.parts', 'r'.repeat(900), REPLACE), 0, 'shrinking');
  tt.equal(get('user.parts'), 'r'.repeat(900));
  tt.equal(getXattrSize(f, 'user.parts', 0), 900, 'the real length');
  tt.equal(getXattrSize(f, 'user.parts', 899), 'ERANGE');
  tt.equal(getXattrSize(f, 'user.parts', 900), 900);

  const long = `user.${'n'.repeat(250)}`;
  tt.equal(set(long, 'x'), 0, 'a name of 255 bytes');
  tt.equal(get(long), 'x');
  tt.equal(set(`${long}n`, 'x'), 'ERANGE');
  tt.equal(set('', 'x'), 'ERANGE');
  tt.equal(get(''), '[ERANGE]', 'the kernel refuses them');
  for (const prefix of ['user.', 'trusted.', 'security.', 'scoutfs.']) {
    tt.equal(set(prefix, 'x'), 'EINVAL', `${prefix} alone`);
  }
  for (const name of ['nothing', 'system.other', 'os2.a', 'scoutfs', 'User.a',
    'system.posix_acl_access2']) {
    tt.equal(set(name, 'x'), 'EOPNOTSUPP', name);
    tt.equal(get(name), '[EOPNOTSUPP]', name);
    tt.equal(removeXattr(f, name), 'EOPNOTSUPP', name);
  }
  tt.equal(set('user.big', Buffer.alloc(65535, 'b')), 0, 'the largest value');
  tt.equal(getXattrSize(f, 'user.big', 65535), 65535);
  tt.equal(set('user.big', Buffer.alloc(65536, 'c')), 'E2BIG');
  tt.equal(get('user.big'), 'b'.repeat(65535), 'is left alone');
  tt.equal(set('user.big', Buffer.alloc(65537)), 'E2BIG');
  rig.umount();
  rig.mount();
  tt.equal(get('user.big'), 'b'.repeat(65535), 'after a remount');
  for (const name of ['user.big', 'user.parts', long]) tt.equal(removeXattr(f, name), 0);

  tt.equal(listXattrSize(f, 0), 'user.a'.length + 1);
  tt.equal(listXattrSize(f, 6), 'ERANGE');
  tt.equal(listXattrSize(f, 7), 7);
  const many = Math.ceil(LIST_MAX_BYTES / 256) + 10;
  for (let i = 0; i < many; i++) {
    if (set(`user.${i.toString().padStart(250, 'x')}`, '') !== 0) tt.fail(`name ${i}`);
  }
  tt.equal(listXattrSize(f, LIST_MAX_BYTES), 'E2BIG', 'more names than the call can give');
  tt.equal(listXattrSize(f, 2 * LIST_MAX_BYTES), 'E2BIG');
  tt.equal(listXattrSize(f, 1000), 'ERANGE');
  tt.equal(removeXattr(f, `user.${'0'.padStart(250, 'x')}`), 0);
  fs.unlinkSync(f);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});

void t.test('file capabilities go when contents change', { skip }, async (tt) => {
  const rig = new Rig('xattr-caps');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  const f = join(rig.mnt, 'f');
  fs.writeFileSync(f, 'program');
  const has = (): boolean => getXattrText(f, 'security.capability') !== '[ENODATA]';
  const changes: Record<string, [keeps: boolean, fn: () => void]> = {
    'a write': [false, () => { fs.appendFileSync(f, 'x'); }],
    'truncation': [false, () => { fs.truncateSync(f, 3); }],
    'chown': [false, () => { fs.chownSync(f, 5, 5); }],
    'fallocate': [false, () => { sh(`fallocate -l 8192 ${f}`); }],
    'chmod': [true, () => { fs.chmodSync(f, 0o755); }],
    'utimes': [true, () => { fs.utimesSync(f, 1, 1); }],
    'reading': [true, () => { fs.readFileSync(f); }],
  };
  for (const [what, [keeps, change]] of Object.entries(changes)) {
    tt.equal(setXattr(f, 'security.capability', CAP_NET_RAW), 0);
    change();
    tt.equal(has(), keeps, what);
  }
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});

/** How a process gets its user, groups and capabilities. */
const WHO = {
  root: [],
  'root without CAP_SYS_ADMIN': ['setpriv', '--bounding-set=-sys_admin'],
  'a user': ['setpriv', '--reuid=2001', '--regid=2001', '--clear-groups'],
  'a user with CAP_SYS_ADMIN': ['setpriv', '--reuid=2001', '--regid=2001', '--clear-groups',
    '--inh-caps=+sys_admin', '--ambient-caps=+sys_admin'],
  'root of a user namespace': ['setpriv', '--reuid=2001', '--regid=2001', '--clear-groups',
    'unshare', '--user', '--map-root-user'],
} as const;

function missingTool(): false | string {
  const missing = ['setpriv', 'unshare', 'setfattr', 'getfattr'].find(
    (tool) => spawnSync(tool, ['--version']).error !== undefined);
  return missing === undefined ? false : `no ${missing} (packages attr and util-linux)`;
}

/** Runs a tool as somebody. @returns its output, or the errno text at the end of its error */
function as(who: keyof typeof WHO, ...command: string[]): string {
  const [program = '', ...args] = [...WHO[who], ...command];
  const r = spawnSync(program, args, { encoding: 'utf8', cwd: '/' });
  if (r.status === 0) return r.stdout.trim();
  return (/: ([^:]+)$/.exec(r.stderr.trim())?.[1] ?? r.stderr).trim();
}

void t.test('who may use which names', { skip: skip || missingTool() }, async (tt) => {
  const rig = new Rig('xattr-who');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  fs.chmodSync(rig.dir, 0o755);
  rig.mount();
  fs.chmodSync(rig.mnt, 0o777);
  const p = (name: string): string => join(rig.mnt, name);
  fs.writeFileSync(p('own'), '');
  fs.chownSync(p('own'), 2001, 2001);
  fs.writeFileSync(p('roots'), '');
  fs.writeFileSync(p('private'), '');
  fs.chmodSync(p('private'), 0o600);
  const set = (who: keyof typeof WHO, name: string, file = 'own', value = 'x'): string =>
    as(who, 'setfattr', '-h', '-n', name, '-v', value, p(file));
  const remove = (who: keyof typeof WHO, name: string, file = 'own'): string =>
    as(who, 'setfattr', '-h', '-x', name, p(file));
  const [EPERM, EACCES, ENODATA] = ['Operation not permitted', 'Permission denied',
    'No such attribute'];
  const namespaces = set('root of a user namespace', 'user.n') === '';

  tt.equal(set('a user', 'user.a'), '');
  tt.equal(set('a user', 'user.a', 'roots'), EACCES);
  tt.equal(set('a user', 'trusted.a'), EPERM);
  tt.equal(set('a user with CAP_SYS_ADMIN', 'trusted.a'), '');
  tt.equal(set('a user', 'security.a'), EPERM);
  tt.equal(set('root', 'security.a'), '');
  sh(`mkfifo ${p('fifo')}; ln -s x ${p('link')}; chown -h 2001 ${p('fifo')} ${p('link')}`);
  for (const file of ['fifo', 'link']) {
    tt.equal(set('root', 'user.a', file), EPERM, `user. on a ${file}`);
    tt.equal(set('root', 'trusted.a', file), '', `trusted. on a ${file}`);
  }
  tt.match(sh(`getfattr --absolute-names -h -d -m - ${p('link')}`), /trusted\.a="x"/);

  tt.equal(set('a user', 'scoutfs.x'), '', 'no tag, no privilege');
  tt.equal(set('a user', 'scoutfs.x', 'roots'), EACCES, 'but write permission');
  const tagged = 'scoutfs.hide.some';
  tt.equal(set('a user', tagged), EPERM);
  tt.equal(set('root without CAP_SYS_ADMIN', tagged), EPERM);
  tt.equal(namespaces ? set('root of a user namespace', tagged) : EPERM, EPERM,
    'capabilities of another user namespace do not count',
    namespaces ? {} : { skip: 'no user namespaces here' });
  tt.equal(removeXattr(p('own'), tagged), 'ENODATA', 'nothing was set');
  tt.equal(set('a user with CAP_SYS_ADMIN', tagged), '', 'the capability decides');
  tt.equal(set('a user with CAP_SYS_ADMIN', tagged, 'roots'), EACCES, 'besides permission');
  tt.equal(remove('a user', tagged), EPERM, 'removing needs it as well');
  tt.equal(remove('a user', 'scoutfs.hide.none'), EPERM, 'whether there is one or not');
  tt.match(as('a user', 'getfattr', '--absolute-names', '-n', tagged, p('own')), /scoutfs\.hide\.some="x"/,
    'reading does not');
  const listed = sh(`getfattr --absolute-names -h -d -m - ${p('own')}`);
  tt.notMatch(listed, /hide/, 'it is not listed');
  tt.match(listed, /scoutfs\.x="x"/, 'the others are');
  tt.equal(set('root', tagged, 'private'), '');
  tt.equal(as('a user', 'getfattr', '--absolute-names', '-n', tagged, p('private')), EACCES);
  tt.equal(remove('root', 'scoutfs.hide.none'), ENODATA);

  tt.equal(set('root', 'scoutfs.totl.t.1.2.3', 'own', '5'), '');
  tt.equal(set('root', 'scoutfs.totl.t.1.2.3', 'own', '7'), '', 'replaced');
  tt.equal(set('root', 'scoutfs.totl.t.1.2.3', 'roots', '020'), '', 'octal');
  tt.equal(set('root', 'scoutfs.totl.t.1.2.3', 'private', 'seven'), 'Invalid argument');
  tt.equal(set('root', 'scoutfs.indx.i.3.4', 'own', ''), '');
  tt.equal(set('root', 'scoutfs.indx.i.3.4', 'roots', ''), '');
  tt.equal(set('root', 'scoutfs.indx.i.3.4', 'private', 'v'), 'Invalid argument');
  tt.equal(remove('root', 'scoutfs.totl.t.1.2.3', 'own'), '');
  fs.unlinkSync(p('roots'));
  rig.umount();
  tt.strictSame(rig.check(), [], 'totals and indexes agree with what is left');
});
