/**
 * POSIX ACLs: the stored form and its rules as functions, then setting, chmod and
 * inheritance on items, with random waits.
 */
import t from 'tap';
import fc from 'fast-check';
import {
  ACL_GROUP, ACL_GROUP_OBJ, ACL_MASK, ACL_NO_ID, ACL_OTHER, ACL_USER, ACL_USER_OBJ, chmodAcl,
  decodeAcl, encodeAcl, inheritAcl, isEquivalent, modeOf,
} from '../../host/fs/acl.js';
import type { Acl } from '../../host/fs/acl.js';
import { SET_MODE, SET_SIZE } from '../../host/fs/vfs.js';
import type { Call, SetAttr } from '../../host/fs/vfs.js';
import { newSetAttr } from '../../host/fuse/protocol.js';
import type { Op } from '../../host/mount/op.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { seeded } from '../lib/fakeitems.js';
import { FakeMount, nameOf, newAttr, newEntry, newOpen } from '../lib/fakemount.js';
import type { FakeOptions } from '../lib/fakemount.js';
import { checkItems } from '../lib/fsinvariants.js';

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
const TAGS: Record<string, number> = {
  u: ACL_USER_OBJ, U: ACL_USER, g: ACL_GROUP_OBJ, G: ACL_GROUP, m: ACL_MASK, o: ACL_OTHER,
};

/** `u7 U1000:5 g5 m7 o0`: capital letters are named entries. */
function acl(words: string): Acl {
  return words.split(' ').map((word) => {
    const m = /^([a-zA-Z])(?:(\d+):)?(\d)$/.exec(word);
    if (m === null) throw new Error(word);
    const [, letter = '', id, perm] = m;
    return { tag: TAGS[letter] ?? 0, perm: Number(perm),
      id: id === undefined ? ACL_NO_ID : Number(id) };
  });
}

const text = (a: Acl): string => a.map((e) => {
  const letter = Object.keys(TAGS).find((k) => TAGS[k] === e.tag) ?? '?';
  return e.id === ACL_NO_ID ? `${letter}${e.perm}` : `${letter}${e.id}:${e.perm}`;
}).join(' ');

const bytes = (s: string): Uint8Array => encodeAcl(acl(s));

void t.test('the stored form', (t) => {
  t.equal(Buffer.from(bytes('u6 U1000:4 g4 m4 o0')).toString('hex'), '02000000' +
    '01000600ffffffff' + '02000400e8030000' + '04000400ffffffff' + '10000400ffffffff' +
    '20000000ffffffff');
  for (const good of ['u7 g5 o0', 'u7 g5 m5 o0', 'u7 U0:1 U5:2 g5 G0:7 G9:0 m5 o0',
    'u7 U5:1 U5:2 g5 m7 o0', 'u0 g0 G4294967294:7 m7 o0']) {
    t.equal(text(decodeAcl(bytes(good)) ?? []), good);
  }
  t.strictSame(decodeAcl(Uint8Array.of(2, 0, 0, 0)), [], 'a header alone has no entries');
  for (const bad of ['g5 u7 o0', 'u7 g5', 'u7 o5', 'g7 o5', 'u7 g5 o0 m5', 'u7 U5:1 g5 o0',
    'u7 g5 G5:1 o0', 'u7 u7 g5 o0', 'u7 g5 g5 o0', 'u7 g5 m7 m7 o0', 'u7 g5 o0 o0', 'u8 g5 o0',
    'u7 g5 U5:1 m7 o0', 'u7 U4294967295:7 g5 m7 o0', 'o0', 'x7 u7 g5 o0']) {
    t.equal(decodeAcl(bytes(bad)), null, bad);
  }
  const good = bytes('u7 g5 o0');
  for (let n = 0; n < good.length; n++) {
    if (n !== 4) t.equal(decodeAcl(good.subarray(0, n)), null, `${n} bytes`);
  }
  const version = good.slice();
  version[0] = 1;
  t.equal(decodeAcl(version), null, 'another version');
  const odd = Buffer.concat([Buffer.alloc(3), good]).subarray(3);
  t.equal(text(decodeAcl(odd) ?? []), 'u7 g5 o0', 'at any address');
  const id = good.slice();
  id[8] = 5;
  t.equal(text(decodeAcl(id) ?? []), 'u7 g5 o0', 'ids of the others do not count');
  t.end();
});

void t.test('modes', (t) => {
  t.equal(modeOf(acl('u6 g4 o1'), 0o102777), 0o102641);
  t.equal(modeOf(acl('u6 U3:7 g4 m5 o1'), 0o40000), 0o40651, 'the mask is the group bits');
  t.ok(isEquivalent(acl('u6 g4 o1')));
  t.notOk(isEquivalent(acl('u6 g4 m4 o1')), 'a mask is more than a mode can say');
  t.equal(text(chmodAcl(acl('u6 U3:7 g4 m5 o1'), 0o712)), 'u7 U3:7 g4 m1 o2');
  t.equal(text(chmodAcl(acl('u6 g4 o1'), 0o712)), 'u7 g1 o2', 'without a mask the group itself');
  const inherited = (def: string, mode: number): string => {
    const r = inheritAcl(acl(def), mode);
    return `${text(r.access)} ${r.mode.toString(8)}`;
  };
  t.equal(inherited('u7 U3:7 g7 m7 o7', 0o100644), 'u6 U3:7 g7 m4 o4 100644');
  t.equal(inherited('u7 g7 o0', 0o100666), 'u6 g6 o0 100660', 'what umask would have been');
  t.equal(inherited('u5 U3:7 g5 m6 o1', 0o42777), 'u5 U3:7 g5 m6 o1 42561', 'other bits stay');

  const perm = fc.integer({ min: 0, max: 7 });
  const anyAcl = fc.record({ u: perm, g: perm, o: perm, m: perm,
    users: fc.array(fc.tuple(fc.nat(9), perm), { maxLength: 3 }),
    groups: fc.array(fc.tuple(fc.nat(9), perm), { maxLength: 3 }), mask: fc.boolean() })
    .map((r): Acl => [
      { tag: ACL_USER_OBJ, perm: r.u, id: ACL_NO_ID },
      ...r.users.map(([id, p]) => ({ tag: ACL_USER, perm: p, id })),
      { tag: ACL_GROUP_OBJ, perm: r.g, id: ACL_NO_ID },
      ...r.groups.map(([id, p]) => ({ tag: ACL_GROUP, perm: p, id })),
      ...(r.mask || r.users.length + r.groups.length > 0
        ? [{ tag: ACL_MASK, perm: r.m, id: ACL_NO_ID }] : []),
      { tag: ACL_OTHER, perm: r.o, id: ACL_NO_ID },
    ]);
  fc.assert(fc.property(anyAcl, fc.integer({ min: 0, max: 0o177777 }), (a, mode) => {
    const back = decodeAcl(encodeAcl(a));
    const changed = chmodAcl(a, mode);
    const { access, mode: inherited } = inheritAcl(a, mode);
    const named = (x: Acl): string => text(x.filter((e) => [ACL_USER, ACL_GROUP].includes(e.tag)));
    return back !== null && text(back) === text(a) && modeOf(changed, mode) === mode &&
      named(changed) === named(a) && named(access) === named(a) &&
      (inherited & 0o777) === (modeOf(a, 0) & mode & 0o777) && inherited >> 9 === mode >> 9 &&
      modeOf(access, inherited) === inherited && decodeAcl(encodeAcl(access)) !== null;
  }));
  t.end();
});

class Tree {
  readonly m: FakeMount;

  constructor(o: FakeOptions = {}) {
    this.m = new FakeMount({ waitChance: 0.2, ...o });
  }

  errno(fn: (op: Op) => unknown): Promise<string> {
    return this.m.run(fn).then(() => 'ok', (e: unknown) => asScoutfsError(e).errno);
  }

  async make(kind: 'file' | 'dir' | 'tmp' | 'link' | 'fifo', dir: number, name: string,
    mode: number, umask = 0o022, caller: Call = this.m.caller): Promise<number> {
    const { fs } = this.m;
    const out = newEntry();
    await this.m.run((op) => {
      const n = nameOf(name);
      if (kind === 'file') fs.create(op, caller, dir, n, mode, umask, 0, out, newOpen());
      else if (kind === 'dir') fs.mkdir(op, caller, dir, n, mode, umask, out);
      else if (kind === 'tmp') fs.tmpfile(op, caller, dir, mode, umask, 0, out, newOpen());
      else if (kind === 'fifo') fs.mknod(op, caller, dir, n, 0o10000 | mode, umask, 0, out);
      else fs.symlink(op, caller, dir, n, nameOf('target'), out);
    });
    return out.ino;
  }

  set(ino: number, name: string, value: string | Uint8Array, killSgid = false): Promise<string> {
    const { fs, caller } = this.m;
    const v = typeof value === 'string' ? bytes(value) : value;
    return this.errno((op) => { fs.setxattr(op, caller, ino, nameOf(name), v, 0, killSgid); });
  }

  remove(ino: number, name: string): Promise<string> {
    const { fs, caller } = this.m;
    return this.errno((op) => { fs.removexattr(op, caller, ino, nameOf(name)); });
  }

  /** The ACL as text, or the error. */
  async get(ino: number, name: string): Promise<string> {
    const { fs, caller } = this.m;
    let value = new Uint8Array(0);
    const e = await this.errno((op) => {
      value = Uint8Array.from(fs.getxattr(op, caller, ino, nameOf(name)));
    });
    return e === 'ok' ? text(decodeAcl(value) ?? []) : e;
  }

  async list(ino: number): Promise<string[]> {
    const b = await this.m.run((op) => this.m.fs.listxattr(op, this.m.caller, ino));
    return Buffer.from(b).toString().split('\0').slice(0, -1).sort();
  }

  async stat(ino: number): Promise<{ mode: string; ctimeSec: number; size: number }> {
    const out = { attr: newAttr(), attrCacheable: true };
    await this.m.run((op) => { this.m.fs.getattr(op, this.m.caller, ino, out); });
    const { mode, ctimeSec, size } = out.attr;
    return { mode: (mode & 0o7777).toString(8), ctimeSec, size: Number(size) };
  }

  async mode(ino: number): Promise<string> {
    return (await this.stat(ino)).mode;
  }

  setattr(ino: number, valid: number, set: Partial<SetAttr>): Promise<string> {
    const { fs, caller } = this.m;
    return this.errno((op) => fs.setattr(op, caller, ino, { ...newSetAttr(), ...set, valid },
      { attr: newAttr(), attrCacheable: true }));
  }

  chmod(ino: number, mode: number): Promise<string> {
    return this.setattr(ino, SET_MODE, { mode });
  }

  /** The version field of the inode item. */
  version(ino: number): number {
    const key = [...this.m.items.store.keys()].find((k) => k.startsWith('10') &&
      k.slice(18, 20) === '04' && BigInt(`0x${k.slice(2, 18)}`) === BigInt(ino)) ?? '';
    const val = this.m.items.store.get(key);
    if (val === undefined) throw new Error('no inode item');
    return Number(new DataView(val.buffer, val.byteOffset).getBigUint64(64, true));
  }

  /** Goes on with another mount's items. */
  takeOver(from: Tree): void {
    const { m } = this;
    m.items.store.clear();
    m.items.keys = [];
    for (const [k, v] of from.m.items.store) m.plant(k, v);
    m.nextIno = from.m.nextIno;
    m.nextDirIno = from.m.nextDirIno;
  }

  /** Of `inos`: access ACLs that do not say what the mode says, and default ACLs of files. */
  async bad(...inos: number[]): Promise<string[]> {
    const bad = checkItems(this.m.items.store);
    for (const ino of inos) {
      const access = await this.get(ino, ACCESS);
      const mode = parseInt(await this.mode(ino), 8);
      if (access !== 'ENODATA' && (modeOf(acl(access), mode) !== mode ||
        isEquivalent(acl(access)))) {
        bad.push(`${ino}: mode ${mode.toString(8)} and ACL ${access}`);
      }
    }
    return bad;
  }
}

void t.test('the access ACL and the mode', async (t) => {
  const f = new Tree();
  const ino = await f.make('file', 1, 'f', 0o2666, 0);
  t.equal(await f.get(ino, ACCESS), 'ENODATA');
  t.equal(await f.set(ino, ACCESS, 'u7 U5:6 g4 m6 o1'), 'ok');
  t.equal(await f.get(ino, ACCESS), 'u7 U5:6 g4 m6 o1');
  t.equal(await f.mode(ino), '2761', 'permissions follow, the mask shows as group');
  t.strictSame(await f.list(ino), [ACCESS]);

  const version = f.version(ino);
  await f.m.clock.advance(5000);
  const before = (await f.stat(ino)).ctimeSec;
  t.equal(await f.set(ino, ACCESS, 'u6 g4 o0'), 'ok');
  t.equal(await f.get(ino, ACCESS), 'ENODATA', 'what a mode can say is not stored');
  t.equal(await f.mode(ino), '2640');
  t.equal(f.version(ino), version + 1);
  await f.m.clock.advance(5000);
  t.equal(await f.set(ino, ACCESS, 'u6 g4 o0'), 'ok', 'no xattr changes');
  t.equal(f.version(ino), version + 2, 'but the version');
  t.ok((await f.stat(ino)).ctimeSec > before, 'and ctime');

  t.equal(await f.set(ino, ACCESS, 'u6 g6 o0', true), 'ok');
  t.equal(await f.mode(ino), '660', 'set-gid goes when the kernel asks for it');
  await f.chmod(ino, 0o2660);
  t.equal(await f.set(ino, ACCESS, 'u6 U5:6 g6 m6 o0', true), 'ok');
  t.equal(await f.mode(ino), '660', 'along with a stored one too');

  t.equal(await f.remove(ino, ACCESS), 'ok');
  t.equal(await f.mode(ino), '660', 'removing leaves the mode');
  const last = f.version(ino);
  t.equal(await f.remove(ino, ACCESS), 'ok', 'removing none is no error');
  t.equal(f.version(ino), last, 'and changes nothing');
  t.equal(await f.set(ino, ACCESS, 'u6 U5:6 g6 m6 o0'), 'ok');
  t.equal(await f.set(ino, ACCESS, Uint8Array.of(2, 0, 0, 0)), 'ok', 'no entries: removed');
  t.equal(await f.get(ino, ACCESS), 'ENODATA');

  for (const bad of [bytes('u7 U5:1 g5 o0'), Buffer.from('x'), Buffer.alloc(0)]) {
    t.equal(await f.set(ino, ACCESS, bad), 'EINVAL');
    t.equal(await f.set(ino, DEFAULT, bad), 'EINVAL');
  }
  const many = `u7 ${Array.from({ length: 2000 }, (_, i) => `U${i}:6`).join(' ')} g4 m6 o1`;
  t.equal(await f.set(ino, ACCESS, many), 'ok', 'more than one item');
  t.equal(await f.get(ino, ACCESS), many);
  t.equal(await f.chmod(ino, 0o751), 'ok');
  t.equal(await f.get(ino, ACCESS), many.replace('m6', 'm5'), 'chmod of many parts');
  const link = await f.make('link', 1, 'l', 0);
  t.equal(await f.set(link, ACCESS, 'u7 g5 o0'), 'EOPNOTSUPP');
  t.equal(await f.chmod(link, 0o600), 'EOPNOTSUPP');
  t.strictSame(await f.bad(), []);
});

void t.test('default ACLs are for directories', async (t) => {
  const f = new Tree();
  const dir = await f.make('dir', 1, 'd', 0o755);
  const file = await f.make('file', 1, 'f', 0o644);
  t.equal(await f.set(file, DEFAULT, 'u7 g5 o0'), 'EINVAL');
  t.equal(await f.remove(file, DEFAULT), 'ok');
  t.equal(await f.set(file, DEFAULT, Uint8Array.of(2, 0, 0, 0)), 'ok');
  t.equal(await f.set(dir, DEFAULT, 'u7 g0 o0'), 'ok');
  t.equal(await f.get(dir, DEFAULT), 'u7 g0 o0', 'stored also when a mode could say it');
  t.equal(await f.mode(dir), '755', 'the mode has nothing to do with it');
  t.equal(await f.set(dir, ACCESS, 'u7 U5:6 g4 m6 o1'), 'ok');
  t.equal(await f.chmod(dir, 0o700), 'ok');
  t.equal(await f.get(dir, ACCESS), 'u7 U5:6 g4 m0 o0', 'chmod rewrites the access ACL');
  t.equal(await f.get(dir, DEFAULT), 'u7 g0 o0', 'and not the default one');
  t.equal(await f.remove(dir, DEFAULT), 'ok');
  t.equal(await f.get(dir, DEFAULT), 'ENODATA');
  t.strictSame(await f.bad(), []);
});

void t.test('chmod along with other changes', async (t) => {
  const f = new Tree();
  const ino = await f.make('file', 1, 'f', 0o644);
  await f.set(ino, ACCESS, 'u6 U5:7 g4 m7 o4');
  t.equal(await f.setattr(ino, SET_MODE | SET_SIZE, { mode: 0o4610, size: 10_000 }), 'ok');
  t.strictSame([await f.mode(ino), (await f.stat(ino)).size], ['4610', 10_000]);
  t.equal(await f.get(ino, ACCESS), 'u6 U5:7 g4 m1 o0');
  t.strictSame(await f.bad(), []);
});

void t.test('inheritance', async (t) => {
  const f = new Tree();
  const dir = await f.make('dir', 1, 'd', 0o755);
  const def = 'u7 U5:7 g5 m7 o5';
  await f.set(dir, DEFAULT, def);
  const file = await f.make('file', dir, 'f', 0o666, 0o077);
  t.equal(await f.get(file, ACCESS), 'u6 U5:7 g5 m6 o4', 'masked by the mode, not by the umask');
  t.equal(await f.mode(file), '664');
  t.equal(await f.get(file, DEFAULT), 'ENODATA');
  const sub = await f.make('dir', dir, 'sub', 0o777, 0o077);
  t.equal(await f.get(sub, DEFAULT), def);
  t.equal(await f.get(sub, ACCESS), def);
  t.equal(await f.mode(sub), '775');
  const fifo = await f.make('fifo', sub, 'p', 0o600, 0);
  t.equal(await f.get(fifo, ACCESS), 'u6 U5:7 g5 m0 o0', 'a subdirectory passes it on');
  const tmp = await f.make('tmp', dir, '', 0o600, 0);
  t.equal(await f.get(tmp, ACCESS), 'u6 U5:7 g5 m0 o0');
  const link = await f.make('link', dir, 'l', 0);
  t.strictSame(await f.list(link), [], 'symlinks inherit nothing');
  t.equal(await f.mode(link), '777');
  t.equal(f.version(sub) > f.version(file) && f.version(file) > 1, true, 'each ACL is a step');

  const plain = await f.make('dir', 1, 'plain', 0o755);
  await f.set(plain, DEFAULT, 'u7 g7 o0');
  const equal = await f.make('file', plain, 'f', 0o666, 0o777);
  t.equal(await f.get(equal, ACCESS), 'ENODATA', 'what the mode says is not stored');
  t.equal(await f.mode(equal), '660');
  const none = await f.make('file', 1, 'n', 0o666, 0o027);
  t.equal(await f.mode(none), '640', 'without a default ACL the umask counts');

  await f.chmod(dir, 0o2775);
  const gid = await f.make('dir', dir, 'gid', 0o755, 0o022, { ...f.m.caller, gid: 77 });
  t.equal(await f.mode(gid), '2755', 'set-gid and ACL together');
  t.equal(await f.get(gid, ACCESS), 'u7 U5:7 g5 m5 o5');
  t.strictSame(await f.bad(), []);

  await f.m.run((op) => { f.m.fs.rmdir(op, f.m.caller, dir, nameOf('gid')); });
  f.m.openMap.clear(gid);
  t.equal(await f.m.fs.deletes.attempt(gid), 'deleted');
  t.strictSame(await f.bad(), [], 'ACLs go with their inode');
});

void t.test('random changes keep ACL and mode together', async (t) => {
  const f = new Tree({ seed: 5 });
  const rnd = seeded(77);
  const pick = <T>(a: readonly T[]): T => a[Math.floor(rnd() * a.length)] as T;
  const perm = (): number => Math.floor(rnd() * 8);
  const dirs = [1];
  const all = [1];
  for (let i = 0; i < 300; i++) {
    const any = `u${perm()} U5:${perm()} g${perm()} G6:${perm()} m${perm()} o${perm()}`;
    const ino = pick(all);
    switch (pick(['file', 'dir', 'access', 'minimal', 'default', 'none', 'chmod'])) {
      case 'file': all.push(await f.make('file', pick(dirs), `f${i}`, perm() * 73, 0o22)); break;
      case 'dir': dirs.push(await f.make('dir', pick(dirs), `d${i}`, perm() * 73, 0o22)); break;
      case 'access': t.equal(await f.set(ino, ACCESS, any), 'ok'); break;
      case 'minimal': t.equal(await f.set(ino, ACCESS, 'u7 g5 o1'), 'ok'); break;
      case 'default': t.equal(await f.set(pick(dirs), DEFAULT, any), 'ok'); break;
      case 'none': t.equal(await f.remove(ino, pick([ACCESS, DEFAULT])), 'ok'); break;
      default: t.equal(await f.chmod(ino, perm() * 73), 'ok');
    }
    const bad = await f.bad(...all, ...dirs);
    if (bad.length > 0) t.fail(`step ${i}: ${bad.join('; ')}`);
  }
  const inherited = await Promise.all(dirs.map((ino) => f.get(ino, DEFAULT)));
  t.ok(inherited.filter((a) => a !== 'ENODATA').length > 5, 'default ACLs were passed on');
});

void t.test('a creation that fails leaves no ACL', async (t) => {
  const f = new Tree();
  const dir = await f.make('dir', 1, 'd', 0o755);
  await f.set(dir, DEFAULT, 'u7 U5:7 g5 m7 o5');
  const before = [...f.m.items.store.keys()].sort();
  f.m.metaLow = true;
  for (const kind of ['file', 'dir', 'fifo', 'tmp'] as const) {
    const e = await f.make(kind, dir, `n-${kind}`, 0o666).catch((x: unknown) =>
      asScoutfsError(x).errno);
    t.equal(e, 'ENOSPC', kind);
  }
  t.equal(await f.set(dir, ACCESS, 'u7 U5:7 g5 m7 o5'), 'ENOSPC');
  t.strictSame([...f.m.items.store.keys()].sort(), before);
  t.equal(await f.chmod(dir, 0o700), 'ok', 'chmod needs no space');
  t.strictSame(await f.bad(), []);
});

void t.test('a damaged ACL names itself', async (t) => {
  const f = new Tree();
  const dir = await f.make('dir', 1, 'd', 0o755);
  await f.set(dir, DEFAULT, 'u7 U5:7 g5 m7 o5');
  const key = [...f.m.items.store.keys()].find(
    (k) => k.startsWith('10') && k.slice(18, 20) === '08') ?? '';
  const val = f.m.items.store.get(key)?.slice() ?? new Uint8Array(0);
  val[8 + DEFAULT.length] = 9;
  f.m.plant(key, val);
  await t.rejects(f.make('file', dir, 'f', 0o666), {
    errno: 'EIO', message: `inode ${dir}: damaged ${DEFAULT}`,
  });
});

void t.test('noacl', async (t) => {
  const f = new Tree();
  const dir = await f.make('dir', 1, 'd', 0o755);
  await f.set(dir, DEFAULT, 'u7 U5:7 g5 m7 o5');
  await f.set(dir, ACCESS, 'u7 U5:7 g5 m7 o5');
  const off = new Tree({ acl: false });
  off.takeOver(f);
  for (const name of [ACCESS, DEFAULT]) {
    t.equal(await off.get(dir, name), 'EOPNOTSUPP');
    t.equal(await off.set(dir, name, 'u7 g5 o0'), 'EOPNOTSUPP');
    t.equal(await off.set(dir, name, Buffer.from('x')), 'EOPNOTSUPP', 'before it is looked at');
    t.equal(await off.remove(dir, name), 'EOPNOTSUPP');
  }
  t.strictSame(await off.list(dir), [ACCESS, DEFAULT], 'still listed');
  const file = await off.make('file', dir, 'f', 0o666, 0o027);
  t.equal(await off.mode(file), '640', 'the umask counts');
  t.strictSame(await off.list(file), []);
  t.equal(await off.chmod(dir, 0o700), 'ok');
  const back = new Tree();
  back.takeOver(off);
  t.equal(await back.get(dir, ACCESS), 'u7 U5:7 g5 m7 o5', 'chmod left it alone');
  t.strictSame(await off.bad(), []);
});
