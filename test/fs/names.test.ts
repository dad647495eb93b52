/**
 * Names: random operations against a model, with random waits, and the cases in
 * which Linux's order of errors or the rules of dir.md matter.
 */
import t from 'tap';
import type { Op } from '../../host/mount/op.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { seeded } from '../lib/fakeitems.js';
import { FakeMount, nameOf, newAttr, newEntry, newOpen } from '../lib/fakemount.js';
import { checkItems } from '../lib/fsinvariants.js';

const S_IFMT = 0o170000;

interface Node { ino: number; kind: 'dir' | 'file' | 'link'; nlink: number; parent: Node | null;
  names: Map<string, Node>; target: string }

/** A tree of names as POSIX has it. */
class Model {
  readonly root = this.node(1, 'dir');
  readonly dirs: Node[] = [this.root];

  node(ino: number, kind: Node['kind']): Node {
    return { ino, kind, nlink: kind === 'dir' ? 2 : 1, parent: null, names: new Map(),
      target: '' };
  }

  above(a: Node, b: Node): boolean {
    for (let at: Node | null = b; at !== null; at = at.parent) if (at === a) return true;
    return false;
  }

  unlink(dir: Node, name: string): string {
    const n = dir.names.get(name);
    if (n === undefined) return 'ENOENT';
    if (n.kind === 'dir') return 'EISDIR';
    dir.names.delete(name);
    n.nlink -= 1;
    return 'ok';
  }

  rmdir(dir: Node, name: string): string {
    const n = dir.names.get(name);
    if (n === undefined) return 'ENOENT';
    if (n.kind !== 'dir') return 'ENOTDIR';
    if (n.names.size > 0) return 'ENOTEMPTY';
    dir.names.delete(name);
    this.drop(n);
    dir.nlink -= 1;
    return 'ok';
  }

  private drop(n: Node): void {
    n.nlink -= n.kind === 'dir' ? 2 : 1;
    if (n.kind === 'dir') {
      this.dirs.splice(this.dirs.indexOf(n), 1);
      n.parent = null;
    }
  }

  rename(from: Node, name: string, to: Node, newName: string, noReplace: boolean): string {
    const n = from.names.get(name);
    if (n === undefined) return 'ENOENT';
    const old = to.names.get(newName);
    if (old !== undefined && noReplace) return 'EEXIST';
    if (old === n) return 'ok';
    if (from !== to && n.kind === 'dir' && this.above(n, to)) return 'EINVAL';
    if (from !== to && old?.kind === 'dir' && this.above(old, from)) return 'EINVAL';
    if (old !== undefined) {
      if (n.kind === 'dir' && old.kind !== 'dir') return 'ENOTDIR';
      if (n.kind !== 'dir' && old.kind === 'dir') return 'EISDIR';
      if (old.names.size > 0) return 'ENOTEMPTY';
      this.drop(old);
      if (old.kind === 'dir') to.nlink -= 1;
    }
    from.names.delete(name);
    to.names.delete(newName);
    to.names.set(newName, n);
    if (n.kind === 'dir') {
      from.nlink -= 1;
      to.nlink += 1;
      n.parent = to;
    }
    return 'ok';
  }
}

async function errno(p: Promise<unknown>): Promise<string> {
  try {
    await p;
    return 'ok';
  } catch (e) {
    const err = asScoutfsError(e);
    if (err.code === 'EIO' || err.code === 'ASSERT') throw e;
    return err.errno;
  }
}

const NAMES = ['a', 'b', 'c', 'dd', 'e'.repeat(255), 'f'.repeat(32), 'é', 'G'];

async function make(m: FakeMount, dir: number, name: string, kind: Node['kind'], target = 'x'):
Promise<number> {
  const out = newEntry();
  await m.run((op) => {
    if (kind === 'dir') m.fs.mkdir(op, m.caller, dir, nameOf(name), 0o755, 0o22, out);
    else if (kind === 'link') {
      m.fs.symlink(op, m.caller, dir, nameOf(name), nameOf(target), out);
    } else m.fs.create(op, m.caller, dir, nameOf(name), 0o666, 0o22, 0, out, newOpen());
  });
  return out.ino;
}

async function lookup(m: FakeMount, dir: number, name: string): Promise<number> {
  const out = newEntry();
  await m.run((op) => { m.fs.lookup(op, m.caller, dir, nameOf(name), out); });
  return out.ino;
}

async function list(m: FakeMount, dir: number, from = 2, max = Infinity):
Promise<[string, number, number][]> {
  let out: [string, number, number][] = [];
  await m.run((op) => {
    out = [];
    m.fs.readdir(op, m.caller, dir, 0, from, {
      add(ino, pos, _type, bytes, off, len) {
        if (out.length === max) return false;
        out.push([Buffer.from(bytes.subarray(off, off + len)).toString(), ino, pos]);
        return true;
      },
    });
  });
  return out;
}

/** One random operation on both. @returns what it was, for messages */
async function step(m: FakeMount, model: Model, rnd: () => number): Promise<string> {
  const pick = <T>(a: readonly T[]): T => a[Math.floor(rnd() * a.length)] as T;
  const dir = pick(model.dirs);
  const name = pick(NAMES);
  const what = pick(['make', 'make', 'unlink', 'rmdir', 'link', 'rename', 'rename', 'rename']);
  const to = pick(model.dirs);
  const newName = pick(NAMES);
  const label = `${what} ${dir.ino} ${name.slice(0, 3)} ${to.ino} ${newName.slice(0, 3)}`;
  const { fs, caller } = m;
  const run = (fn: (op: Op) => void): Promise<string> => errno(m.run(fn));
  let got = '';
  let want = '';
  if (what === 'make') {
    const kind = pick(['dir', 'file', 'link'] as const);
    const node = model.node(0, kind);
    node.target = 't'.repeat(1 + Math.floor(rnd() * 4095));
    want = dir.names.has(name) ? 'EEXIST' : 'ok';
    got = await errno(make(m, dir.ino, name, kind, node.target).then((ino) => { node.ino = ino; }));
    if (got === 'ok' && want === 'ok') {
      dir.names.set(name, node);
      if (kind === 'dir') {
        node.parent = dir;
        dir.nlink += 1;
        model.dirs.push(node);
      }
    }
  } else if (what === 'unlink') {
    want = model.unlink(dir, name);
    got = await run((op) => { fs.unlink(op, caller, dir.ino, nameOf(name)); });
  } else if (what === 'rmdir') {
    want = model.rmdir(dir, name);
    got = await run((op) => { fs.rmdir(op, caller, dir.ino, nameOf(name)); });
  } else if (what === 'link') {
    const n = dir.names.get(name);
    if (n === undefined) return label;
    want = n.kind === 'dir' ? 'EPERM' : to.names.has(newName) ? 'EEXIST' : 'ok';
    if (want === 'ok') {
      to.names.set(newName, n);
      n.nlink += 1;
    }
    got = await run((op) => { fs.link(op, caller, n.ino, to.ino, nameOf(newName), newEntry()); });
  } else {
    const noReplace = rnd() < 0.2;
    want = model.rename(dir, name, to, newName, noReplace);
    got = await run((op) => {
      fs.rename(op, caller, dir.ino, nameOf(name), to.ino, nameOf(newName), noReplace ? 1 : 0);
    });
  }
  if (got !== want) throw new Error(`${label}: ${got}, expected ${want}`);
  return label;
}

async function compare(m: FakeMount, model: Model): Promise<string[]> {
  const bad: string[] = [];
  for (const dir of model.dirs) {
    const listed = new Map((await list(m, dir.ino)).map(([n, ino]) => [n, ino]));
    if (listed.size !== dir.names.size) bad.push(`${dir.ino}: ${listed.size} ${dir.names.size}`);
    for (const [name, n] of dir.names) {
      if (listed.get(name) !== n.ino) bad.push(`${dir.ino}/${name}: listed ${listed.get(name)}`);
      if (await lookup(m, dir.ino, name) !== n.ino) bad.push(`${dir.ino}/${name}: lookup`);
      const attr = newAttr();
      await m.run((op) => {
        m.fs.getattr(op, m.caller, n.ino, { attr, attrCacheable: true });
      });
      if (attr.nlink !== n.nlink) bad.push(`${n.ino}: nlink ${attr.nlink} ${n.nlink}`);
      if (n.kind === 'link') {
        const target = await m.run((op) => m.fs.readlink(op, m.caller, n.ino));
        if (Buffer.from(target).toString() !== n.target) bad.push(`${n.ino}: target`);
      }
      if (n.kind === 'dir') {
        const parent = await m.run((op) => m.fs.parentOf(op, m.caller, n.ino));
        if (parent !== dir.ino) bad.push(`${n.ino}: parent ${parent}`);
      }
    }
  }
  return bad;
}

t.test('random operations keep every invariant', async (t) => {
  for (const seed of [1, 2, 3]) {
    const m = new FakeMount({ seed, waitChance: 0.15, formatVersion: seed === 2 ? 1 : 2 });
    const model = new Model();
    const rnd = seeded(seed * 77);
    for (let i = 0; i < 400; i++) {
      const label = await step(m, model, rnd);
      const bad = checkItems(m.items.store);
      if (bad.length > 0) t.fail(`seed ${seed}, step ${i}, ${label}: ${bad.join('; ')}`);
    }
    t.strictSame(await compare(m, model), [], `seed ${seed}: the tree`);
    const inodes = [...m.items.store.keys()].filter(
      (k) => k.startsWith('10') && k.slice(18, 20) === '04').length;
    t.equal(m.inodeCount, inodes, 'inode count delta');
  }
});

t.test('an unlinked inode stays while it is open and goes when it is forgotten', async (t) => {
  const m = new FakeMount({ seed: 9, waitChance: 0.2 });
  for (const kind of ['file', 'dir', 'link'] as const) {
    const ino = await make(m, 1, kind, kind);
    await m.run((op) => {
      if (kind === 'dir') m.fs.rmdir(op, m.caller, 1, nameOf(kind));
      else m.fs.unlink(op, m.caller, 1, nameOf(kind));
    });
    t.equal(await m.fs.deletes.attempt(ino), 'busy', `${kind} is open here`);
    m.openMap.remote.add(ino);
    m.fs.evict(ino);
    await m.clock.advance(0);
    t.equal(await m.fs.deletes.attempt(ino), 'busy', `${kind} is open elsewhere`);
    m.openMap.remote.clear();
    t.equal(await m.fs.deletes.attempt(ino), 'deleted');
    t.equal(await m.fs.deletes.attempt(ino), 'gone');
    t.strictSame(checkItems(m.items.store), []);
  }
  t.equal(m.inodeCount, 1);
  const linked = await make(m, 1, 'kept', 'file');
  m.openMap.clear(linked);
  t.equal(await m.fs.deletes.attempt(linked), 'linked', 'linked inodes are not deleted');
});

t.test('an inode that others use is deleted soon after they let go', async (t) => {
  const m = new FakeMount({ seed: 11, waitChance: 0.2 });
  const ino = await make(m, 1, 'f', 'file');
  await m.run((op) => { m.fs.unlink(op, m.caller, 1, nameOf('f')); });
  m.openMap.remote.add(ino);
  m.fs.evict(ino);
  for (let i = 0; i < 10; i++) await m.clock.advance(100);
  t.equal(m.inodeCount, 2, 'still in use');
  m.openMap.remote.delete(ino);
  for (let i = 0; i < 10; i++) await m.clock.advance(200);
  t.equal(m.inodeCount, 1, 'deleted without a scan');
  t.strictSame(checkItems(m.items.store), []);
});

t.test('an inode that another mount removed is deleted by its last user', async (t) => {
  const m = new FakeMount({ seed: 12 });
  const ino = await make(m, 1, 'f', 'file');
  const here = m.openMap.open;
  // as if by another mount: this one does not hear of it
  m.openMap.clear(ino);
  m.openMap.remote.add(ino);
  await m.run((op) => { m.fs.unlink(op, m.caller, 1, nameOf('f')); });
  await m.fs.deletionsDone();
  here.add(ino);
  m.openMap.remote.clear();
  const out = newEntry();
  await m.run((op) => { m.fs.getattr(op, m.caller, ino, out); });
  t.equal(out.attr.nlink, 0);
  m.fs.evict(ino);
  await m.fs.deletionsDone();
  t.equal(m.inodeCount, 1);
});

t.test('tmpfile, and giving it a name', async (t) => {
  const m = new FakeMount();
  const out = newEntry();
  await m.run((op) => { m.fs.tmpfile(op, m.caller, 1, 0o600, 0, 0, out, newOpen()); });
  t.equal(out.attr.nlink, 0);
  t.strictSame(checkItems(m.items.store), []);
  await m.run((op) => { m.fs.link(op, m.caller, out.ino, 1, nameOf('now'), newEntry()); });
  t.equal(await lookup(m, 1, 'now'), out.ino);
  t.strictSame(checkItems(m.items.store), []);
  m.fs.evict(out.ino);
  t.equal(await lookup(m, 1, 'now'), out.ino, 'a named file survives its eviction');
});

t.test('errors', async (t) => {
  const m = new FakeMount();
  const { fs, caller } = m;
  const long = 'n'.repeat(256);
  const dir = await make(m, 1, 'd', 'dir');
  const file = await make(m, 1, 'f', 'file');
  const run = (fn: (op: Op) => void): Promise<string> => errno(m.run(fn));
  t.equal(await errno(lookup(m, 1, long)), 'ENAMETOOLONG');
  t.equal(await errno(make(m, 1, long, 'file')), 'ENAMETOOLONG');
  t.equal(await errno(make(m, file, 'x', 'file')), 'ENOTDIR');
  t.equal(await errno(make(m, 1, 'l', 'link', 'x'.repeat(4096))), 'ENAMETOOLONG');
  t.equal(await run((op) => {
    fs.rename(op, caller, 1, nameOf('f'), 1, nameOf(long), 0);
  }), 'ENAMETOOLONG');
  for (const flags of [2, 4, 8]) {
    t.equal(await run((op) => {
      fs.rename(op, caller, 1, nameOf('f'), 1, nameOf('d'), flags);
    }), 'EINVAL', `rename flags ${flags}`);
  }
  t.equal(await run((op) => {
    fs.rename(op, caller, 1, nameOf('d'), dir, nameOf('inside'), 0);
  }), 'EINVAL', 'a directory into itself');
  t.equal(await run((op) => { fs.readlink(op, caller, file); }), 'EINVAL');
  await m.run((op) => { fs.rmdir(op, caller, 1, nameOf('d')); });
  t.equal(await errno(make(m, dir, 'x', 'file')), 'ENOENT', 'in a removed directory');
  m.metaLow = true;
  t.equal(await errno(make(m, 1, 'full', 'file')), 'ENOSPC');
  t.equal(await run((op) => { fs.unlink(op, caller, 1, nameOf('f')); }), 'ok',
    'removing works without space');
});

t.test('positions, listing in pieces, and inheritance', async (t) => {
  const m = new FakeMount();
  for (const n of ['one', 'two', 'three']) await make(m, 1, n, 'file');
  await m.run((op) => { m.fs.unlink(op, m.caller, 1, nameOf('two')); });
  await make(m, 1, 'two', 'file');
  t.strictSame((await list(m, 1)).map(([n, , pos]) => [n, pos]),
    [['one', 2], ['three', 4], ['two', 5]], 'creation order, positions are not used again');
  t.strictSame((await list(m, 1, 3)).map(([n]) => n), ['three', 'two'], 'from a gap');
  t.strictSame((await list(m, 1, 2, 1)).map(([n]) => n), ['one'], 'until the sink is full');

  const set = {
    valid: 1, fh: 0, size: 0, mode: 0o2775, uid: 0, gid: 0, atimeSec: 0, atimeNsec: 0,
    mtimeSec: 0, mtimeNsec: 0, ctimeSec: 0, ctimeNsec: 0,
  };
  const dir = await make(m, 1, 'shared', 'dir');
  const attr = { attr: newAttr(), attrCacheable: true };
  await m.run((op) => m.fs.setattr(op, m.caller, dir, { ...set, valid: 1 | 4, gid: 77 }, attr));
  t.equal(attr.attr.mode, 0o42775);
  const out = newEntry();
  await m.run((op) => { m.fs.mkdir(op, m.caller, dir, nameOf('sub'), 0o777, 0o22, out); });
  t.equal(out.attr.mode & ~S_IFMT, 0o2755, 'a directory inherits set-gid');
  t.equal(out.attr.gid, 77);
  await m.run((op) => {
    m.fs.mknod(op, m.caller, dir, nameOf('dev'), 0o020600, 0, 0x12345678, out);
  });
  t.equal(out.attr.gid, 77);
  t.equal(out.attr.rdev, 0x12345678, 'device numbers come back as they were given');
  t.strictSame(checkItems(m.items.store), []);
});
