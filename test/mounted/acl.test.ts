/**
 * POSIX ACLs on a real mount, by the tools people use and as processes meet them: what
 * decides about access, what is inherited, what chmod does, and that all of it is the same
 * as on a local file system and after a remount.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { seeded } from '../lib/fakeitems.js';
import { Rig, nightly, sh, skipWithoutFuse } from '../lib/mounted.js';
import { getXattrText, listXattrSize, removeXattr, setXattr } from '../lib/xattr_calls.js';

const skip = skipWithoutFuse() || missingTool();
const STEPS = nightly() ? 3000 : 250;

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
/** u::rwx g::r-x o::--- in the kernel's form. */
const MINIMAL = Buffer.from(
  '0200000001000700ffffffff04000500ffffffff20000000ffffffff', 'hex');

function missingTool(): false | string {
  const tools = ['setfacl', 'getfacl', 'setpriv'];
  const missing = tools.find((tool) => spawnSync(tool, ['--version']).error !== undefined);
  return missing === undefined ? false : `no ${missing} (packages acl and util-linux)`;
}

/** Runs a shell command as another user. @returns its output, or its errors */
function as(uid: number, gids: number[], command: string): string {
  const [gid = uid, ...more] = gids;
  const groups = more.length === 0 ? '--clear-groups' : `--groups=${more.join(',')}`;
  const r = spawnSync('setpriv',
    [`--reuid=${uid}`, `--regid=${gid}`, groups, 'bash', '-c', command],
    { encoding: 'utf8', cwd: '/' });
  return r.status === 0 ? r.stdout : `failed: ${r.stderr}`;
}

/** A mounted rig that other users can reach. */
async function mounted(name: string, options = ''): Promise<Rig> {
  const rig = new Rig(name);
  await rig.mkfs();
  fs.chmodSync(rig.dir, 0o755);
  rig.mount(options);
  fs.chmodSync(rig.mnt, 0o755);
  return rig;
}

/** getfacl without its header, entries joined. */
function facl(path: string): string {
  return sh(`getfacl -n -p -c -- ${path}`).trim().split('\n').filter((l) => l !== '')
    .map((l) => l.replace(/\s+#effective/, ' #')).join(' ');
}

void t.test('what an ACL allows', { skip }, async (tt) => {
  const rig = await mounted('acl-access');
  tt.teardown(() => { rig.end(); });
  const f = join(rig.mnt, 'f');
  fs.writeFileSync(f, 'secret');
  fs.chmodSync(f, 0o640);
  const may = (what: string, uid: number, gids: number[] = []): boolean =>
    as(uid, gids, what) === '';
  const read = `cat ${f} >/dev/null`;
  tt.notOk(may(read, 2001), 'nobody but root and its group');
  sh(`setfacl -m u:2001:r ${f}`);
  tt.ok(may(read, 2001), 'a named user');
  tt.notOk(may(`echo x >>${f}`, 2001), 'who may not write');
  tt.notOk(may(read, 2002), 'another user');
  sh(`setfacl -m g:3001:rw ${f}`);
  tt.ok(may(`${read} && echo x >>${f}`, 2002, [2002, 3001]), 'a supplementary named group');
  tt.ok(may(read, 2002, [3001]), 'a primary one');
  tt.notOk(may(read, 2002, [2002, 3002]), 'another group');
  sh(`setfacl -m u:2003:- ${f}; chmod o+r ${f}`);
  tt.notOk(may(read, 2003), 'a named user without rights does not fall back on the others');
  tt.ok(may(read, 2004), 'as the others have');
  sh(`chmod 600 ${f}`);
  tt.equal(facl(f), 'user::rw- user:2001:r-- #:--- user:2003:--- group::r-- #:--- '
    + 'group:3001:rw- #:--- mask::--- other::---', 'chmod shows in getfacl as the mask');
  tt.notOk(may(read, 2001) || may(read, 2002, [3001]), 'the mask takes from both');
  sh(`setfacl -m m::r ${f}`);
  tt.equal(fs.statSync(f).mode & 0o777, 0o640, 'the mask shows as group bits');
  tt.ok(may(read, 2001), 'and gives back');
  tt.notOk(may(`echo x >>${f}`, 2002, [3001]), 'what it has');
  sh(`setfacl -b ${f}`);
  tt.notOk(may(read, 2001), 'all ACLs removed');
  tt.equal(facl(f), 'user::rw- group::r-- other::---');

  const d = join(rig.mnt, 'd');
  fs.mkdirSync(join(d, 'sub'), { recursive: true });
  fs.writeFileSync(join(d, 'sub', 'f'), 'x');
  fs.chmodSync(d, 0o700);
  sh(`setfacl -m u:2001:x ${d}`);
  tt.ok(may(`cat ${d}/sub/f >/dev/null`, 2001), 'a directory may be passed');
  tt.notOk(may(`ls ${d}`, 2001), 'but not listed');
  tt.notOk(may(`cat ${d}/sub/f >/dev/null`, 2002), 'and by nobody else');
  sh(`chmod 750 ${rig.mnt}; setfacl -m u:2001:x ${rig.mnt}`);
  const before = rig.counters();
  for (let i = 0; i < 20; i++) tt.ok(may(`test -e ${d}`, 2001), 'the root has an ACL too');
  const after = rig.counters();
  tt.ok((after.requests['GETXATTR'] ?? 0) - (before.requests['GETXATTR'] ?? 0) >= 20,
    'for which the kernel asks at each walk');
  tt.equal(after.parked, before.parked, 'and which is answered at once');
  tt.notOk(may(`test -e ${d}`, 2002));
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});

void t.test('who may set what', { skip }, async (tt) => {
  const rig = await mounted('acl-set');
  tt.teardown(() => { rig.end(); });
  const p = (name: string): string => join(rig.mnt, name);
  for (const name of ['root', 'own', 'gid']) fs.writeFileSync(p(name), '');
  fs.chownSync(p('own'), 2001, 2001);
  tt.match(as(2001, [], `setfacl -m u:5:r ${p('root')}`), /Operation not permitted/);
  tt.match(as(2001, [], `setfattr -x system.posix_acl_access ${p('root')}`),
    /Operation not permitted/);
  tt.equal(as(2001, [], `setfacl -m u:5:r ${p('own')}`), '');
  tt.match(facl(p('own')), /user:5:r--/);

  // the owner is outside the file's group: an ACL costs the set-gid bit
  fs.chownSync(p('gid'), 2001, 3001);
  const gid = (): boolean => (fs.statSync(p('gid')).mode & 0o2000) !== 0;
  fs.chmodSync(p('gid'), 0o2775);
  tt.equal(as(2001, [2001, 3001], `setfacl -m u:5:r ${p('gid')}`), '');
  tt.ok(gid(), 'a member of the group keeps it');
  tt.equal(as(2001, [], `setfacl -m u:6:r ${p('gid')}`), '');
  tt.notOk(gid(), 'others lose it');
  fs.chmodSync(p('gid'), 0o2775);
  tt.equal(as(2001, [], `setfacl -b ${p('gid')}`), '');
  tt.notOk(gid(), 'also by an ACL that only sets the mode');
  fs.chmodSync(p('gid'), 0o2775);
  sh(`setfacl -m u:6:r ${p('gid')}`);
  tt.ok(gid(), 'root has CAP_FSETID');

  tt.equal(setXattr(p('root'), DEFAULT, MINIMAL), 'EACCES', 'the kernel refuses it for files');
  tt.equal(removeXattr(p('root'), DEFAULT), 0);
  tt.equal(removeXattr(p('root'), ACCESS), 0, 'none is there to remove');
  tt.equal(getXattrText(p('root'), ACCESS), '[ENODATA]');
  tt.equal(setXattr(p('root'), ACCESS, 'junk'), 'EOPNOTSUPP', 'the kernel reads a version');
  tt.equal(setXattr(p('root'), ACCESS, MINIMAL.subarray(0, 20)), 'EINVAL', 'no entry for others');
  tt.equal(setXattr(p('root'), ACCESS, MINIMAL), 0);
  tt.equal(fs.statSync(p('root')).mode & 0o777, 0o750);
  tt.equal(listXattrSize(p('root'), 0), 0, 'which is all that it does');
  fs.symlinkSync('root', p('link'));
  tt.equal(setXattr(p('link'), ACCESS, MINIMAL), 'EOPNOTSUPP');
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});

void t.test('noacl', { skip }, async (tt) => {
  const rig = await mounted('acl-off');
  tt.teardown(() => { rig.end(); });
  const d = join(rig.mnt, 'd');
  fs.mkdirSync(d);
  sh(`setfacl -m u:2001:rwx -d -m u:2001:rwx ${d}; chmod 770 ${d}`);
  const withAcl = facl(d);
  tt.equal(as(2001, [], `touch ${d}/by-acl`), '');
  rig.umount();
  rig.mount('noacl');
  tt.match(as(2001, [], `touch ${d}/none`), /Permission denied/, 'ACLs are not enforced');
  sh(`umask 027; touch ${d}/f; mkdir ${d}/sub`);
  tt.equal(fs.statSync(join(d, 'f')).mode & 0o777, 0o640, 'the umask counts');
  tt.equal(fs.statSync(join(d, 'sub')).mode & 0o777, 0o750);
  tt.equal(facl(d), 'user::rwx group::rwx other::---', 'getfacl shows the mode');
  for (const name of [ACCESS, DEFAULT]) {
    tt.equal(getXattrText(d, name), '[EOPNOTSUPP]');
    tt.equal(setXattr(d, name, MINIMAL), 'EOPNOTSUPP');
    tt.equal(removeXattr(d, name), 'EOPNOTSUPP');
  }
  tt.equal(listXattrSize(d, 0), `${ACCESS} ${DEFAULT} `.length, 'both are listed');
  rig.umount();
  rig.mount();
  tt.equal(facl(d), withAcl, 'back with the option');
  tt.equal(facl(join(d, 'sub')), 'user::rwx group::r-x other::---');
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});

/** Random commands on ACLs, modes and names; `$R` is not used: they run in the tree's root. */
function commands(seed: number, n: number): string[] {
  const rnd = seeded(seed);
  const pick = <T>(a: readonly T[]): T => a[Math.floor(rnd() * a.length)] as T;
  const perm = (): string => pick(['r', 'w', 'x', 'rx', 'rw', 'rwx', '-']);
  const dirs = ['.'];
  const paths = ['.'];
  const out: string[] = [];
  for (let i = 0; i < n; i++) {
    const dir = pick(dirs);
    const path = pick(paths);
    const who = pick(['u:2001', 'u:2002', 'g:3001', 'g:3002', 'u:', 'g:', 'o:', 'm:']);
    const made = `${dir}/${i}`;
    const umask = pick(['022', '077', '000', '027']);
    switch (pick(['mkdir', 'touch', 'fifo', 'link', 'acl', 'acl', 'acl', 'default', 'default',
      'remove', 'base', 'nodefault', 'chmod', 'chmod', 'chown', 'user'])) {
      case 'mkdir':
        out.push(`umask ${umask}; mkdir ${pick(['', '-m 2770 ', '-m 700 '])}${made}`);
        dirs.push(made);
        paths.push(made);
        break;
      case 'touch': out.push(`umask ${umask}; touch ${made}`); paths.push(made); break;
      case 'fifo': out.push(`umask ${umask}; mkfifo ${made}`); paths.push(made); break;
      case 'link': out.push(`ln -s x ${made}`); break;
      case 'acl': out.push(`setfacl -m ${who}:${perm()} ${path}`); break;
      case 'default': out.push(`setfacl -d -m ${who}:${perm()} ${dir}`); break;
      case 'remove': out.push(`setfacl -x ${who} ${path}`); break;
      case 'base': out.push(`setfacl -b ${path}`); break;
      case 'nodefault': out.push(`setfacl -k ${path}`); break;
      case 'chmod': out.push(`chmod ${pick(['2755', '750', '0', '6711', 'g-w', 'o+rx'])} ${path}`);
        break;
      case 'chown': out.push(`chown ${pick(['2001', '2001:3001', ':3001', '0:0'])} ${path}`); break;
      default: out.push(`setpriv --reuid=2001 --regid=2001 --groups=3001 `
        + `bash -c 'umask ${umask}; ${pick([`mkdir ${made}`, `touch ${made}`,
          `setfacl -m ${who}:${perm()} ${path}`, `chmod 2770 ${path}`])}'`);
        dirs.push(made);
        paths.push(made);
    }
  }
  return out;
}

/** Runs commands in `dir`; their statuses and what the tree then looks like. */
function play(dir: string, all: readonly string[]): { statuses: string; tree: string } {
  const script = all.map((c) => `(${c}) >/dev/null 2>&1; echo -n "$? "`).join('\n');
  const statuses = sh(script, dir);
  return { statuses, tree: treeOf(dir) };
}

function treeOf(dir: string): string {
  return sh("find . -printf '%p %m %U %G\\n' | sort; find . ! -type l -print0 | sort -z | "
    + 'xargs -0 getfacl -n -p', dir);
}

void t.test('as a local file system does it, before and after a remount',
  { skip, timeout: 1_200_000 }, async (tt) => {
    const rig = await mounted('acl-same');
    const ref = join(rig.dir, 'ref');
    fs.mkdirSync(ref);
    tt.teardown(() => {
      spawnSync('umount', [ref]);
      rig.end();
    });
    sh(`mount -t tmpfs -o mode=755 none ${ref}`);
    if (spawnSync('setfacl', ['-m', 'u:5:r', ref]).status !== 0) {
      tt.pass('compared with tmpfs', { skip: 'tmpfs has no ACLs here' });
      return;
    }
    sh(`setfacl -b ${ref}`);
    const all = commands(1, STEPS);
    const [want, got] = [play(ref, all), play(rig.mnt, all)];
    tt.equal(got.statuses, want.statuses, 'the same commands succeed');
    tt.equal(got.tree, want.tree, 'with the same result');
    tt.ok(/mask::/.test(want.tree) && /default:mask/.test(want.tree), 'ACLs were there');
    rig.umount();
    tt.strictSame(rig.check(), [], 'check is clean');
    rig.mount();
    tt.equal(treeOf(rig.mnt), want.tree, 'and after a remount');
    sh('rm -rf ./[0-9]*', rig.mnt);
    rig.umount();
    tt.strictSame(rig.check(), [], 'check is clean');
  });
