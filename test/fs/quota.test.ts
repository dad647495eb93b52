/**
 * Quotas: rules against the vectors, which rule decides, where checks are made, and what
 * is remembered for how long.
 */
import t from 'tap';
import { QuotaRuleVal } from '../../host/core/format.js';
import { compareRules, isOver, ruleKey, ruleMatches, ruleState, totalName }
  from '../../host/fs/quota_rule.js';
import { SET_GID, SET_MODE, SET_SIZE, SET_UID } from '../../host/fs/vfs.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { File, errno } from '../lib/fakefile.js';
import { wideString } from '../lib/fakeitems.js';
import { FakeMount, nameOf, newEntry, newOpen } from '../lib/fakemount.js';
import type { FakeOptions } from '../lib/fakemount.js';
import { checkItems } from '../lib/fsinvariants.js';
import { ruleBytes, ruleOf } from '../lib/quota_text.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';

interface Vectors {
  quota_rules: { text: string; valid: number; val_hex: string; key: {
    zone: number; first: string; type: number; second: string; third: string; fourth: number };
  }[];
}

/** The caller of FakeMount and what it makes. */
const UID = 1000;
const GID = 1000;

void t.test('vectors', { skip: skipWithoutSpec() }, (t) => {
  const { quota_rules: all } = vectors('fs-vectors.json') as Vectors;
  for (const v of all) {
    const bytes = Buffer.from(v.val_hex, 'hex');
    const rule = QuotaRuleVal.read(new DataView(bytes.buffer, bytes.byteOffset), 0);
    t.same(Buffer.from(ruleBytes(rule)), bytes, v.text);
    t.equal(ruleState(rule) !== 'invalid', v.valid === 1, v.text);
    if (/^\d/.test(v.text)) t.same(ruleBytes(ruleOf(v.text)), new Uint8Array(bytes), v.text);
    t.strictSame(ruleKey(bytes), { ...v.key, first: BigInt(v.key.first),
      second: BigInt(v.key.second), third: BigInt(v.key.third) }, v.text);
  }
  const states = all.map((v) => {
    const bytes = Buffer.from(v.val_hex, 'hex');
    return ruleState(QuotaRuleVal.read(new DataView(bytes.buffer, bytes.byteOffset), 0));
  });
  t.equal(states.filter((s) => s === 'ignored').length, 1, 'upstream lets one in by mistake');
  t.end();
});

void t.test('validity, order, matching', (t) => {
  const rule = ruleOf('1 5,U,S 6,G,S 7,P,S D 10 -');
  const other = (change: Partial<QuotaRuleVal>): QuotaRuleVal => ({ ...rule, ...change });
  t.equal(ruleState(rule), 'valid');
  t.equal(ruleState(other({ ruleFlags: 2 })), 'invalid');
  t.equal(ruleState(other({ nameFlags: Uint8Array.of(2, 0, 0) })), 'invalid');
  t.equal(ruleState(other({ nameSource: Uint8Array.of(4, 2, 3) })), 'invalid', 'selects nothing');
  t.equal(ruleState(other({ nameSource: Uint8Array.of(4, 2, 3),
    nameFlags: Uint8Array.of(0, 0, 0) })), 'valid', 'an unknown source is a literal');
  t.equal(ruleState(ruleOf('1 5,U,S 5,U,S 6,U,- I 1 -')), 'valid');

  const ascending = ['1 5,L,- 0,L,- 0,L,- I 9 -', '2 1,L,- 0,L,- 0,L,- I 1 -',
    '2 2,L,- 0,L,- 0,L,- I 1 -', '2 2,U,- 0,L,- 0,L,- I 1 -', '2 2,U,S 0,L,- 0,L,- I 1 -',
    '2 2,U,S 1,L,- 0,L,- I 1 -', '2 2,U,S 1,L,- 18446744073709551615,L,- I 1 -',
    '2 2,U,S 1,L,- 18446744073709551615,L,- D 1 -',
    '2 2,U,S 1,L,- 18446744073709551615,L,- D 18446744073709551615 -',
    '2 2,U,S 1,L,- 18446744073709551615,L,- D 18446744073709551615 C'].map(ruleOf);
  const shuffled = [...ascending].reverse().sort(compareRules);
  t.strictSame(shuffled, ascending, 'the order of rules');

  const attrs = { proj: 7n, uid: 5n, gid: 6n };
  t.ok(ruleMatches(rule, 1, attrs));
  t.notOk(ruleMatches(rule, 0, attrs), 'another operation');
  t.notOk(ruleMatches(rule, 1, { ...attrs, gid: 5n }));
  t.ok(ruleMatches(ruleOf('1 9,U,- 9,L,- 9,P,- I 1 -'), 0, attrs), 'names without SELECT');
  t.strictSame(totalName(rule, attrs), [5n, 6n, 7n]);
  t.strictSame(totalName(ruleOf('1 9,P,- 8,L,- 9,G,- I 1 -'), attrs), [7n, 8n, 6n]);
  const limit = ruleOf('1 1,L,- 1,L,- 1,L,- D 10 -');
  const count = ruleOf('1 1,L,- 1,L,- 1,L,- D 10 C');
  t.strictSame([limit, count].map((r) => isOver(r, { total: 10n, count: 9n })), [true, false]);
  t.strictSame([limit, count].map((r) => isOver(r, { total: 9n, count: 10n })), [false, true]);
  const zero = ruleOf('1 1,L,- 1,L,- 1,L,- D 0 -');
  t.strictSame([isOver(zero, null), isOver(zero, { total: 0n, count: 1n })], [false, true]);
  t.ok(isOver(limit, { total: 2n ** 64n - 1n, count: 0n }), 'totals are unsigned');
  t.end();
});

/** A mount with rules. Damaged ones come as bytes. */
function mountWith(rules: (string | Uint8Array)[], o: FakeOptions = {}): FakeMount {
  const m = new FakeMount(o);
  for (const r of rules) {
    const bytes = typeof r === 'string' ? ruleBytes(ruleOf(r)) : r;
    m.plant(wideString(ruleKey(bytes)), bytes);
  }
  return m;
}

function total(m: FakeMount, name: string, value: number | bigint, count = 1n): void {
  m.totals.set(name, { total: BigInt(value), count });
}

async function makeErrno(m: FakeMount, name: string, dir = 1): Promise<string> {
  return m.run((op) => {
    m.fs.create(op, m.caller, dir, nameOf(name), 0o644, 0, 0, newEntry(), newOpen());
  }).then(() => 'ok', (e: unknown) => asScoutfsError(e).errno);
}

void t.test('every kind of creation is checked and leaves nothing', async (t) => {
  for (const seed of [1, 2, 3]) {
    const m = mountWith([`1 ${UID},U,S 7,L,- 8,L,- I 10 -`], { seed, waitChance: 0.1 });
    const e = newEntry();
    const dirIno = await m.run((op) => {
      m.fs.mkdir(op, m.caller, 1, nameOf('d'), 0o755, 0, e);
      return e.ino;
    });
    t.equal(await makeErrno(m, 'f', dirIno), 'ok', 'allowed while there is no total');
    total(m, `${UID}.7.8`, 9);
    await m.clock.advance(5000);
    t.equal(await makeErrno(m, 'g', dirIno), 'ok', 'allowed below the limit');
    total(m, `${UID}.7.8`, 10);
    await m.clock.advance(5000);
    const before = new Map(m.items.store);
    const count = m.inodeCount;
    const kinds: Record<string, (op: Parameters<typeof m.fs.create>[0]) => void> = {
      create: (op) => {
        m.fs.create(op, m.caller, dirIno, nameOf('x'), 0o644, 0, 0, newEntry(), newOpen());
      },
      mknod: (op) => { m.fs.mknod(op, m.caller, dirIno, nameOf('x'), 0o10644, 0, 0, newEntry()); },
      mkdir: (op) => { m.fs.mkdir(op, m.caller, dirIno, nameOf('x'), 0o755, 0, newEntry()); },
      symlink: (op) => {
        m.fs.symlink(op, m.caller, dirIno, nameOf('x'), nameOf('target'), newEntry());
      },
      tmpfile: (op) => {
        m.fs.tmpfile(op, m.caller, dirIno, 0o644, 0, 0, newEntry(), newOpen());
      },
    };
    for (const [kind, fn] of Object.entries(kinds)) {
      t.equal(await errno(m.run(fn)), 'EDQUOT', kind);
    }
    t.equal(await makeErrno(m, 'f', dirIno), 'EEXIST', 'before the quota');
    t.strictSame(new Map(m.items.store), before, 'no item of a refused inode');
    t.equal(m.inodeCount, count);
    t.strictSame(checkItems(m.items.store), []);
    await m.run((op) => {
      m.fs.rename(op, m.caller, dirIno, nameOf('f'), dirIno, nameOf('h'), 0);
    });
    await m.run((op) => {
      const out = newEntry();
      m.fs.lookup(op, m.caller, dirIno, nameOf('h'), out);
      m.fs.link(op, m.caller, out.ino, dirIno, nameOf('l'), newEntry());
    });
    t.pass('link and rename are not checked');
  }
});

void t.test('the group of a set-gid directory, the project of the directory', async (t) => {
  const m = mountWith(['1 77,G,S 0,L,- 0,L,- I 5 -']);
  total(m, '77.0.0', 5);
  t.equal(await makeErrno(m, 'mine'), 'ok');
  const e = newEntry();
  await m.run((op) => { m.fs.mkdir(op, m.caller, 1, nameOf('d'), 0o755, 0, e); });
  await new File(m, e.ino).setattr({ valid: SET_GID | SET_MODE, mode: 0o2755, gid: 77 });
  t.equal(await makeErrno(m, 'theirs', e.ino), 'EDQUOT');
  t.equal(await makeErrno(m, 'mine2'), 'ok');
});

void t.test('writing and reserving', async (t) => {
  const m = mountWith([`1 ${UID},U,S ${GID},G,S 3,L,- D 4 C`]);
  const f = await File.make({}, m);
  await f.write(0, Buffer.alloc(5000, 1));
  total(m, `${UID}.${GID}.3`, 0, 4n);
  await m.clock.advance(5000);
  const before = new Map(m.items.store);
  t.equal(await errno(f.write(0, Buffer.alloc(10))), 'EDQUOT');
  t.equal(await errno(f.write(9000, Buffer.alloc(10), { append: true })), 'EDQUOT');
  t.equal(await errno(f.fallocate(0, 0, 100_000)), 'EDQUOT');
  t.strictSame(new Map(m.items.store), before);
  await f.write(4096, Buffer.alloc(904, 7), { cached: true });
  t.pass('write-back of pages is not checked');
  await f.setattr({ valid: SET_SIZE, size: 100 });
  await m.run((op) => {
    m.fs.setxattr(op, m.caller, f.ino, nameOf('user.a'), Buffer.from('b'), 0);
  });
  t.pass('nor is truncation, nor are xattrs');
  await f.setattr({ valid: SET_UID, uid: 5 });
  await f.write(0, Buffer.alloc(10));
  t.pass('another owner is not under this rule');
  t.equal(await makeErrno(m, 'new'), 'ok', 'creation has rules of its own');
});

void t.test('what is remembered, and for how long', async (t) => {
  const m = mountWith([`1 ${UID},U,S 7,L,- 8,L,- I 10 -`, '2 99,U,S 7,L,- 8,L,- I 0 -']);
  total(m, `${UID}.7.8`, 3);
  for (let i = 0; i < 10; i++) await makeErrno(m, `a${i}`);
  t.equal(m.totalReads, 1);
  total(m, `${UID}.7.8`, 30);
  t.equal(await makeErrno(m, 'b'), 'ok', 'an answer is a few seconds old at most');
  await m.clock.advance(4999);
  t.equal(await makeErrno(m, 'c'), 'ok');
  await m.clock.advance(1);
  t.equal(await makeErrno(m, 'd'), 'EDQUOT');
  t.equal(m.totalReads, 2);
  total(m, `${UID}.7.8`, 3);
  t.equal(await makeErrno(m, 'e'), 'EDQUOT', 'refusals are remembered, too');
  m.fs.quotas.dropResults();
  t.equal(await makeErrno(m, 'e'), 'ok', 'unless they are dropped');
  t.equal(m.quotaLocks, 1);
  total(m, `${UID}.7.8`, 30);
  m.fs.quotas.drop();
  t.equal(await makeErrno(m, 'f'), 'EDQUOT', 'or the rules may have changed');
  total(m, `${UID}.7.8`, 3);
  t.equal(m.quotaLocks, 2, 'the rules are read once between two losses of the lock');

  total(m, `${UID}.7.8`, 30);
  await m.clock.advance(5000);
  const making = makeErrno(m, 'g');
  for (const k of [...m.items.store.keys()]) if (k.startsWith('0a')) m.unplant(k);
  m.fs.quotas.drop();
  t.equal(await making, 'ok', 'an answer of rules that are gone is not used');
});

void t.test('an empty set costs nothing', async (t) => {
  const m = mountWith([]);
  for (let i = 0; i < 5; i++) t.equal(await makeErrno(m, `f${i}`), 'ok');
  t.strictSame([m.quotaLocks, m.totalReads, m.fs.quotas.stats.ruleReads], [1, 0, 1]);
  const old = mountWith(['1 0,L,- 0,L,- 0,L,- I 0 -'], { formatVersion: 1 });
  total(old, '0.0.0', 1);
  t.equal(await makeErrno(old, 'f'), 'ok', 'version 1 has no quotas');
  old.fs.quotas.drop();
  t.equal(await makeErrno(old, 'g'), 'ok');
  t.equal(old.quotaLocks, 0);
});

void t.test('collisions and damage', async (t) => {
  const m = mountWith([]);
  const plant = (collision: bigint, text: string): void => {
    m.plant(wideString({ ...ruleKey(new Uint8Array(48)), third: collision }),
      ruleBytes(ruleOf(text)));
  };
  const max = 2n ** 64n - 1n;
  plant(0n, '1 1,U,S 0,L,- 0,L,- I 0 -');
  plant((1n << 60n) + 1n, '2 2,U,S 0,L,- 0,L,- I 0 -');
  plant(max, `3 ${UID},U,S 0,L,- 0,L,- I 1 -`);
  total(m, `${UID}.0.0`, 1);
  t.equal(await makeErrno(m, 'f'), 'EDQUOT', 'the last of equal hashes is read');
  const over = ruleBytes(ruleOf(`9 0,L,- 0,L,- 0,L,- I 0 -`));
  over[33] = 2;
  const ignored = mountWith([over]);
  total(ignored, '0.0.0', 1);
  t.equal(await makeErrno(ignored, 'f'), 'ok', 'operation 2 says nothing');
  over[33] = 3;
  t.equal(await makeErrno(mountWith([over]), 'f'), 'EIO', 'operation 3 is damage');
  t.equal(await makeErrno(mountWith([over.subarray(0, 40)]), 'f'), 'EIO', 'a wrong length');
});
