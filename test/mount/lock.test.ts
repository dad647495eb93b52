/**
 * The client's locks and open map against upstream's traces, and the rules that the
 * traces do not show.
 */
import t from 'tap';
import { inodeLockRange, keyBytes, makeKey } from '../../host/core/keys.js';
import * as R from '../../host/core/keys.js';
import type { Lock } from '../../host/net/messages.js';
import type { ClientLock } from '../../host/mount/client_lock.js';
import { LockClient } from '../../host/mount/lock.js';
import { LockKind } from '../../host/mount/lock_kinds.js';
import { OmapClient, omapTest } from '../../host/mount/omap.js';
import type { LockMode } from '../../host/mount/op.js';
import { ERRNO, errnoError } from '../../host/observe/errors.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';
import { SimClock, settle } from '../lib/simclock.js';

const MODES = ['NULL', 'READ', 'WRITE', 'WRITE_ONLY'];

type Effect = Record<string, unknown>;

interface Step {
  do?: string;
  recv?: string;
  task?: number;
  lock?: string;
  mode?: string;
  nonblocking?: boolean;
  old?: string;
  new?: string;
  id?: number;
  write_seq?: number;
  from_zone?: number;
  from_first?: number;
  from_fourth?: number;
  effects: Effect[];
}

interface NetVectors {
  lock_client_traces: { name: string; steps: Step[] }[];
  omap_client_traces: { steps: {
    recv?: string; do?: string; id?: number; group?: number; req_id?: number;
    sent: { bits: number[]; group: number; req_id: number }[];
  }[] }[];
  lock_ranges: { name: string; hex: string }[];
}

const skip = skipWithoutSpec();
const v = (skip === false ? vectors('net-vectors.json') : null) as NetVectors;

function parse(name: string): [LockKind, number] {
  const m = /^ino_group (\d+)$/.exec(name);
  if (m !== null) return [LockKind.inode, Number(m[1]) * 1024];
  return name === 'quota' ? [LockKind.quota, 0] : [LockKind.orphan, 0];
}

function keyOf(name: string): Lock['key'] {
  const [kind, arg] = parse(name);
  if (kind === LockKind.inode) return inodeLockRange(arg).start;
  return kind === LockKind.quota ? R.quotaLockRange().start : R.orphanLockRange().start;
}

function nameOf(key: Lock['key']): string {
  if (key.zone === 16) return `ino_group ${key.first / 1024n}`;
  return key.zone === 10 ? 'quota' : 'orphan';
}

/** A mount's lock table with everything around it recorded. */
class Mount {
  effects: Effect[] = [];
  idleCount = 10_000;
  transSeq = 50;
  holdCommit = false;
  failSend = false;
  readonly clock = new SimClock();
  readonly records = new Map<number, { start: string; mode: number; writeSeq: number }>();
  finishCommit: () => void = () => undefined;
  /** resolves the drain in progress, when `holdDrain` */
  finishDrain: () => void = () => undefined;
  holdDrain = false;
  private nextPtr = 1;
  readonly held = new Map<number, [ClientLock, LockMode]>();

  readonly locks = new LockClient({
    clock: this.clock,
    core: {
      alloc: (start) => {
        this.records.set(this.nextPtr, { start: Buffer.from(start).toString('hex'), mode: 0, writeSeq: 0 });
        return this.nextPtr++;
      },
      setMode: (ptr, mode, writeSeq) => {
        const r = this.records.get(ptr);
        if (r === undefined) throw new Error('no such lock record');
        r.mode = mode;
        r.writeSeq = writeSeq;
      },
      free: (ptr) => { if (!this.records.delete(ptr)) throw new Error('freed twice'); },
      invalidate: (ptr) => {
        const start = this.records.get(ptr)?.start ?? '';
        const lock = [...this.names.entries()].find(([, hex]) => hex === start)?.[0];
        this.effects.push({ local: 'drop cached items', lock });
      },
    },
    send: (l) => {
      if (this.failSend) throw errnoError('ENOLINK');
      this.effects.push({
        send: 'request', lock: nameOf(l.key), old: MODES[l.oldMode], new: MODES[l.newMode],
      });
    },
    transSeq: () => this.transSeq,
    commit: async () => {
      this.effects.push({ local: 'commit transaction' });
      if (this.holdCommit) await new Promise<void>((resolve) => { this.finishCommit = resolve; });
      this.transSeq++;
    },
    drain: async () => {
      if (this.holdDrain) await new Promise<void>((resolve) => { this.finishDrain = resolve; });
    },
    dropQuotaRules: () => { this.effects.push({ local: 'drop quota rules' }); },
    idleCount: () => this.idleCount,
    failed: () => undefined,
  });
  private readonly names = new Map<string, string>();

  acquire(task: number, name: string, mode: LockMode): void {
    this.names.set(name, Buffer.from(keyBytes(keyOf(name))).toString('hex'));
    const [kind, arg] = parse(name);
    const attempt = (): void => {
      const lock = this.locks.tryLock(kind, arg, mode);
      if (lock === null) {
        void this.locks.request(kind, arg, mode).then(attempt);
        return;
      }
      this.held.set(task, [lock, mode]);
      this.effects.push({ acquired: task });
    };
    attempt();
  }

  tryOnly(task: number, name: string, mode: LockMode): void {
    const [kind, arg] = parse(name);
    const lock = this.locks.tryLock(kind, arg, mode);
    if (lock === null) this.effects.push({ failed: task, errno: ERRNO.EAGAIN });
    else {
      this.held.set(task, [lock, mode]);
      this.effects.push({ acquired: task });
    }
  }

  release(task: number): void {
    const held = this.held.get(task);
    if (held === undefined) throw new Error(`task ${task} holds nothing`);
    this.held.delete(task);
    this.locks.unlock(...held);
  }

  grant(name: string, oldMode: number, newMode: number, writeSeq: number): void {
    this.locks.grant({ key: keyOf(name), writeSeq, oldMode, newMode });
  }

  invalidate(id: number, name: string, oldMode: number, newMode: number): void {
    this.locks.invalidate({ key: keyOf(name), writeSeq: 0, oldMode, newMode }, (l) => {
      this.effects.push({
        send: 'invalidated', id, lock: nameOf(l.key), old: MODES[l.oldMode], new: MODES[l.newMode],
      });
    });
  }
}

async function act(m: Mount, trace: string, s: Step): Promise<void> {
  const mode = MODES.indexOf(s.mode ?? 'NULL') as LockMode;
  if (s.recv === 'grant') {
    m.grant(s.lock ?? '', MODES.indexOf(s.old ?? ''), MODES.indexOf(s.new ?? ''), s.write_seq ?? 0);
  } else if (s.recv === 'invalidate') {
    m.invalidate(s.id ?? 0, s.lock ?? '', MODES.indexOf(s.old ?? ''), MODES.indexOf(s.new ?? ''));
  } else if (s.recv === 'recover') {
    const locks = m.locks.recover(makeKey({
      zone: s.from_zone ?? 0, first: BigInt(s.from_first ?? 0), fourth: s.from_fourth ?? 0,
    }));
    m.effects.push({
      send: 'recover_response', id: s.id,
      locks: locks.map((l) => ({
        lock: nameOf(l.key), mode: MODES[l.newMode], write_seq: l.writeSeq })),
    });
  } else if (s.do === 'lock') {
    if (trace === 'use_while_releasing') m.idleCount = s.task === 3 ? 1 : 3;
    if (s.nonblocking === true) m.tryOnly(s.task ?? 0, s.lock ?? '', mode);
    else m.acquire(s.task ?? 0, s.lock ?? '', mode);
  } else if (s.do === 'unlock') m.release(s.task ?? 0);
  else if (s.do === 'transaction committed elsewhere') m.transSeq++;
  else if (s.do === 'the commit finishes') m.finishCommit();
  else if (s.do === 'lock shutdown') m.locks.shutdown();
  else if (s.do === 'hold ino groups 1 to 25 READ and idle') {
    for (let g = 1; g <= 25; g++) {
      m.acquire(g, `ino_group ${g}`, 1);
      m.grant(`ino_group ${g}`, 0, 1, 0);
      await settle();
      m.release(g);
    }
    m.effects = [];
  } else throw new Error(`unknown step ${JSON.stringify(s)}`);
}

t.test('locks as upstream', { skip }, async (t) => {
  t.ok(v.lock_client_traces.length >= 18);
  for (const trace of v.lock_client_traces) {
    const m = new Mount();
    if (trace.name === 'release_oldest') m.idleCount = 2;
    if (trace.name === 'recover_while_invalidating') m.holdCommit = true;
    for (const [i, s] of trace.steps.entries()) {
      await act(m, trace.name, s);
      await settle();
      // What is dropped locally after an unlock of another group has no name here.
      t.same(m.effects, s.effects, `${trace.name} step ${i}`);
      m.effects = [];
    }
  }
});

t.test('the open map as upstream', { skip }, async (t) => {
  for (const trace of v.omap_client_traces) {
    const omap = new OmapClient(() => Promise.reject(new Error('not asked')));
    for (const s of trace.steps) {
      const m = /^(cache|evict) inode (\d+)$/.exec(s.do ?? '');
      if (m?.[1] === 'cache') omap.set(Number(m[2]));
      else if (m?.[1] === 'evict') omap.clear(Number(m[2]));
      else {
        const map = omap.answer({ groupNr: s.group ?? 0, reqId: s.req_id ?? 0 });
        const bits = Array.from({ length: 1024 }, (_, i) => i).filter((i) => omapTest(map.bits, i));
        t.same({ bits, ...map.args }, {
          bits: s.sent[0]?.bits, groupNr: s.sent[0]?.group, reqId: s.sent[0]?.req_id });
      }
    }
  }
});

t.test('an open map answer lasts as long as the hold of the lock', async (t) => {
  let asked = 0;
  const omap = new OmapClient(async (groupNr) => {
    asked++;
    return { args: { groupNr, reqId: 0 }, bits: [2n, ...Array.from({ length: 15 }, () => 0n)] };
  });
  t.same(await Promise.all([omap.usedElsewhere(4097, 7), omap.usedElsewhere(4098, 7)]), [true, false]);
  t.equal(asked, 1);
  await omap.usedElsewhere(4097, 8);
  t.equal(asked, 2);
  t.throws(() => { omap.clear(5); }, { code: 'ASSERT' });
  omap.set(5);
  t.throws(() => { omap.set(5); }, { code: 'ASSERT' });
  t.equal(omap.test(5), true);
});

t.test('lock ranges', { skip }, async (t) => {
  const ranges: Record<string, R.LockRange> = {
    inode_group_ino_5000: R.inodeLockRange(5000), inode_group_ino_1: R.inodeLockRange(1),
    rename: R.renameLockRange(), index_meta_seq_5000: R.indexLockRange(4, 5000),
    index_data_seq_5000: R.indexLockRange(8, 5000), orphan: R.orphanLockRange(),
    xattr_totl: R.xattrTotlLockRange(), xattr_indx: R.xattrIndxLockRange(),
    quota: R.quotaLockRange(),
  };
  t.same(v.lock_ranges.map((r) => r.name).sort(), Object.keys(ranges).sort());
  for (const r of v.lock_ranges) {
    const range = ranges[r.name];
    if (range === undefined) continue;
    const hex = [range.start, range.end].map((k) => Buffer.from(keyBytes(k)).toString('hex')).join('');
    t.equal(hex, r.hex, r.name);
  }
});

t.test('while a lock is drained it still works under its old mode', async (t) => {
  const m = new Mount();
  m.acquire(1, 'ino_group 5', 2);
  m.grant('ino_group 5', 0, 2, 9);
  await settle();
  const [lock] = m.held.get(1) ?? [];
  if (lock === undefined) throw new Error('not granted');
  m.release(1);
  m.transSeq++;
  m.holdDrain = true;
  m.effects = [];
  m.invalidate(1, 'ino_group 5', 2, 0);
  await settle();
  t.equal(m.locks.tryLock(LockKind.inode, 5 * 1024, 1), null, 'new users are kept out');
  t.equal(m.locks.draining(LockKind.inode, 5 * 1024 + 7), lock);
  t.equal(lock.invalidatingMode, 2);
  t.equal(m.records.get(lock.ptr)?.mode, 2, 'the core still lets it write');
  m.locks.markDirty(lock);
  m.finishDrain();
  await settle();
  t.same(m.effects.map((e) => e['local'] ?? e['send']), [
    'commit transaction', 'drop cached items', 'invalidated'], 'what came meanwhile is committed');
  t.equal(m.locks.lockCount, 0);
  t.equal(m.records.size, 0);
  t.equal(m.locks.takenLately(LockKind.inode, 5 * 1024, 200), true);
  await m.clock.advance(300);
  t.equal(m.locks.takenLately(LockKind.inode, 5 * 1024, 200), false);
});

t.test('a lock is kept while its items are read, whoever asked for them', async (t) => {
  const m = new Mount();
  m.acquire(1, 'ino_group 3', 1);
  m.grant('ino_group 3', 0, 1, 0);
  await settle();
  const ptr = m.held.get(1)?.[0].ptr ?? 0;
  const end = m.locks.beginRead(ptr);
  // the caller is killed, and another mount wants the lock
  m.release(1);
  m.effects = [];
  m.invalidate(7, 'ino_group 3', 1, 0);
  await settle();
  t.strictSame(m.effects, [], 'not given up yet');
  t.equal(m.records.get(ptr)?.mode, 1, 'and still readable for the core');
  end();
  await settle();
  t.strictSame(m.effects, [
    { local: 'drop cached items', lock: 'ino_group 3' },
    { send: 'invalidated', id: 7, lock: 'ino_group 3', old: 'READ', new: 'NULL' }]);
  t.equal(m.records.size, 0, 'and forgotten');
  t.notOk(m.locks.isLive(ptr));
});

t.test('a failed send leaves things as they were', async (t) => {
  const m = new Mount();
  m.failSend = true;
  await t.rejects(m.locks.lock(LockKind.orphan, 0, 3), { code: 'ENOLINK' });
  t.equal(m.locks.lockCount, 0);
  m.failSend = false;
  m.acquire(1, 'ino_group 1', 1);
  m.grant('ino_group 1', 0, 1, 0);
  await settle();
  m.release(1);
  m.failSend = true;
  m.idleCount = 0;
  t.ok(m.locks.tryLock(LockKind.inode, 1024, 1), 'the idle lock that could not be released serves');
});

t.test('protocol violations and double unlocks are errors', async (t) => {
  const m = new Mount();
  t.throws(() => { m.grant('ino_group 5', 0, 1, 0); }, { code: 'LOCK_PROTOCOL' });
  t.throws(() => { m.invalidate(1, 'ino_group 5', 4, 0); }, { code: 'LOCK_PROTOCOL' });
  m.acquire(1, 'ino_group 5', 1);
  m.grant('ino_group 5', 0, 1, 0);
  await settle();
  const [lock] = m.held.get(1) ?? [];
  if (lock === undefined) throw new Error('not granted');
  m.release(1);
  t.throws(() => { m.locks.unlock(lock, 1); }, { code: 'ASSERT' });
});

t.test('a waiter that gives up does not keep the lock for ever', async (t) => {
  const m = new Mount();
  void m.locks.request(LockKind.inode, 5 * 1024, 1);
  m.grant('ino_group 5', 0, 1, 0);
  m.invalidate(1, 'ino_group 5', 1, 0);
  await m.clock.advance(2000);
  t.equal(m.locks.lockCount, 0);
});

t.test('a server that grants what cannot be, or raises what it should reduce', async (t) => {
  const m = new Mount();
  void m.locks.request(LockKind.inode, 5 * 1024, 1);
  const unexpected = { code: 'LOCK_PROTOCOL', message: 'unexpected lock grant' };
  t.throws(() => { m.grant('ino_group 5', 0, 2, 7); }, unexpected, 'not what was asked for');
  t.throws(() => { m.grant('ino_group 5', 0, 0, 0); }, unexpected);
  m.grant('ino_group 5', 0, 1, 0);
  t.throws(() => { m.grant('ino_group 5', 0, 1, 0); }, unexpected, 'twice');
  for (const [oldMode, newMode] of [[1, 2], [0, 1], [1, 3], [2, 2], [3, 1]] as const) {
    t.throws(() => { m.invalidate(1, 'ino_group 5', oldMode, newMode); },
      { code: 'LOCK_PROTOCOL', message: /to be reduced/ }, `${oldMode} to ${newMode}`);
  }
});

t.test('unmounting', async (t) => {
  const m = new Mount();
  const waiting = m.locks.lock(LockKind.inode, 5 * 1024, 1);
  m.locks.shutdown();
  await t.rejects(waiting, { code: 'ESHUTDOWN' });
  m.locks.destroy();
  t.equal(m.records.size, 0);
});
