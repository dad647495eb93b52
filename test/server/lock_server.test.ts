/**
 * Lock service, open map service and farewell decisions against upstream's traces.
 */
import t from 'tap';
import { inodeLockRange } from '../../host/core/keys.js';
import type { Lock } from '../../host/net/messages.js';
import { mayLeave } from '../../host/server/farewell.js';
import { LockServer, compatible, reduceTo } from '../../host/server/lock_server.js';
import { OmapServer } from '../../host/server/omap.js';
import { RECOV_GREETING, RECOV_LOCKS, Recovery } from '../../host/server/recov.js';
import { ERRNO, asScoutfsError } from '../../host/observe/errors.js';
import { skipWithoutSpec, vectors } from '../lib/shared.js';
import { SimClock } from '../lib/simclock.js';

const MODES = ['NULL', 'READ', 'WRITE', 'WRITE_ONLY', 'INVALID'];

interface Step {
  from?: number;
  msg?: string;
  id?: number;
  lock?: number;
  old?: string;
  new?: string;
  ret?: number;
  reclaim?: number;
  first_contact?: number;
  recovery_finished_for?: number;
  bits?: number | number[];
  group?: number;
  req_id?: number;
  locks?: { lock: number; mode: string; write_seq: number }[];
  sent: unknown[];
}

interface NetVectors {
  lock_compat: {
    granted: string; requested: string; same_client: boolean; compatible: boolean;
    reduce_to: string | null;
  }[];
  lock_server_traces: { name: string; steps: Step[] }[];
  omap_server_traces: { name: string; steps: Step[] }[];
  farewell_decisions: {
    name: string; votes_needed: number; members: number; non_members: number;
    in_lock_recovery: number;
    steps: { new_requests: number[]; reclaimed: number[]; answered: number[] }[];
  }[];
}

const skip = skipWithoutSpec();
const v = (skip === false ? vectors('net-vectors.json') : null) as NetVectors;

t.test('which modes go together', { skip }, async (t) => {
  for (const c of v.lock_compat) {
    const granted = MODES.indexOf(c.granted);
    const requested = MODES.indexOf(c.requested);
    const ok = compatible(granted, requested, c.same_client);
    t.equal(ok, c.compatible, JSON.stringify(c));
    if (!ok) t.equal(MODES[reduceTo(granted, requested)], c.reduce_to, JSON.stringify(c));
  }
});

function lockNr(lock: Lock): number {
  return Number(lock.key.first / 1024n);
}

function lockOf(nr: number, oldMode: string, newMode: string, writeSeq = 0): Lock {
  return {
    key: inodeLockRange(nr * 1024).start, writeSeq, oldMode: MODES.indexOf(oldMode),
    newMode: MODES.indexOf(newMode),
  };
}

/** The recovery traces say who greets; those with a mounted client item are asked. */
function recoveringClients(steps: readonly Step[]): number[] {
  const out = new Set<number>();
  for (const s of steps) {
    if (s.msg === 'recover_response' && s.from !== undefined) out.add(s.from);
    if (s.recovery_finished_for !== undefined) out.add(s.recovery_finished_for);
  }
  return [...out];
}

t.test('the lock service', { skip }, async (t) => {
  t.ok(v.lock_server_traces.length >= 16);
  for (const trace of v.lock_server_traces) {
    let sent: unknown[] = [];
    let seq = 100;
    let goneFrom = Infinity;
    let at = 0;
    if (trace.name === 'gone_client') goneFrom = 1;
    const recov = new Recovery(new SimClock(), () => {
      if (recoveringClients(trace.steps).length > 0) sent.push('recovered');
      service.recoveryFinished();
    }, () => undefined);
    const service = new LockServer<number>({
      grant: (rid, id, l) => {
        sent.push({
          to: Number(rid), msg: 'grant', id, lock: lockNr(l), old: MODES[l.oldMode],
          new: MODES[l.newMode], write_seq: l.writeSeq,
        });
      },
      invalidate: (rid, l) => {
        if (at >= goneFrom && rid === 1n) return;
        sent.push({
          to: Number(rid), msg: 'invalidate', lock: lockNr(l), old: MODES[l.oldMode],
          new: MODES[l.newMode],
        });
      },
      askRecover: (rid, key) => {
        sent.push({
          to: Number(rid), msg: 'recover', first: Number(key.first), fourth: key.fourth,
          zone: key.zone,
        });
      },
      nextSeq: () => ++seq,
      raiseSeq: (s) => { seq = Math.max(seq, s); },
      seqIsPossible: () => true,
      recovering: (rid) => recov.pending(RECOV_LOCKS, rid),
      recovered: (rid) => { recov.finish(rid, RECOV_GREETING | RECOV_LOCKS); },
    });
    for (const rid of recoveringClients(trace.steps)) recov.add(BigInt(rid));
    recov.start();
    sent = [];
    for (const s of trace.steps) {
      let ret = 0;
      try {
        const from = BigInt(s.from ?? 0);
        if (s.reclaim !== undefined) service.reclaim(BigInt(s.reclaim));
        else if (s.recovery_finished_for !== undefined) {
          recov.finish(BigInt(s.recovery_finished_for), RECOV_GREETING | RECOV_LOCKS);
        } else if (s.msg === 'greeting') service.greeted(from);
        else if (s.msg === 'request') {
          service.request(from, s.id ?? 0, lockOf(s.lock ?? 0, 'NULL', s.new ?? ''));
        } else if (s.msg === 'invalidated') {
          service.invalidated(from, lockOf(s.lock ?? 0, s.old ?? '', s.new ?? ''));
        } else if (s.msg === 'recover_response') {
          service.recoverResponse(from, (s.locks ?? [])
            .map((l) => lockOf(l.lock, l.mode, l.mode, l.write_seq)));
        } else throw new Error(`unknown step ${JSON.stringify(s)}`);
      } catch (e) {
        ret = -ERRNO[asScoutfsError(e).errno];
      }
      if (s.ret !== undefined) t.equal(ret, s.ret, `${trace.name} step ${at}`);
      t.same(sent, s.sent, `${trace.name} step ${at}`);
      sent = [];
      at++;
    }
    for (const rid of [1n, 2n, 3n]) service.reclaim(rid);
    t.equal(service.lockCount, 0, `${trace.name}: nothing is left when all are gone`);
  }
});

t.test('reports of clients not in recovery are errors', async (t) => {
  const service = new LockServer<number>({
    grant: () => undefined, invalidate: () => undefined, askRecover: () => undefined,
    nextSeq: () => 1, raiseSeq: () => undefined, seqIsPossible: () => true, recovering: () => false,
    recovered: () => undefined,
  });
  t.throws(() => { service.recoverResponse(1n, []); }, { code: 'LOCK_PROTOCOL' });
});

function bitsOf(nrs: readonly number[]): bigint[] {
  const bits = Array.from({ length: 16 }, () => 0n);
  for (const n of nrs) bits[n >> 6] = (bits[n >> 6] ?? 0n) | (1n << BigInt(n & 63));
  return bits;
}

function nrsOf(bits: readonly bigint[]): number[] {
  const out: number[] = [];
  for (let n = 0; n < 1024; n++) if (((bits[n >> 6] ?? 0n) >> BigInt(n & 63) & 1n) !== 0n) out.push(n);
  return out;
}

t.test('the open map service', { skip }, async (t) => {
  t.ok(v.omap_server_traces.length >= 7);
  for (const trace of v.omap_server_traces) {
    let sent: unknown[] = [];
    const recov = new Recovery(new SimClock(), () => { omap.recoveryFinished(); }, () => undefined);
    const omap = new OmapServer<number>({
      respond: (rid, id, map) => {
        sent.push({
          to: Number(rid), msg: 'response', id, group: map.args.groupNr,
          req_id: map.args.reqId, bits: nrsOf(map.bits), error: 0,
        });
      },
      ask: (rid, args) => {
        sent.push({ to: Number(rid), msg: 'request', group: args.groupNr, req_id: args.reqId });
      },
      greetingsOutstanding: () => recov.pending(RECOV_GREETING),
    });
    for (const s of trace.steps) {
      if (s.recovery_finished_for !== undefined) recov.add(BigInt(s.recovery_finished_for));
    }
    recov.start();
    for (const [i, s] of trace.steps.entries()) {
      const from = BigInt(s.from ?? 0);
      if (s.first_contact !== undefined) omap.add(BigInt(s.first_contact));
      else if (s.reclaim !== undefined) omap.remove(BigInt(s.reclaim));
      else if (s.recovery_finished_for !== undefined) {
        recov.finish(BigInt(s.recovery_finished_for), s.bits as number);
      } else if (s.msg === 'request') omap.request(from, s.id ?? 0, s.group ?? 0);
      else {
        omap.response(from, {
          args: { groupNr: s.group ?? 0, reqId: s.req_id ?? 0 }, bits: bitsOf(s.bits as number[]),
        });
      }
      t.same(sent, s.sent, `${trace.name} step ${i}`);
      sent = [];
    }
  }
});

t.test('whom the server lets go', { skip }, async (t) => {
  t.ok(v.farewell_decisions.length >= 11);
  for (const c of v.farewell_decisions) {
    let mounted = [
      ...Array.from({ length: c.members }, (_, i) => ({ rid: BigInt(i + 1), quorum: true })),
      ...Array.from({ length: c.non_members }, (_, i) => ({ rid: BigInt(i + 101), quorum: false })),
    ];
    let requests: bigint[] = [];
    for (const [i, s] of c.steps.entries()) {
      requests.push(...s.new_requests.map(BigInt));
      const go = mayLeave(requests, mounted, c.votes_needed,
        (rid) => rid === BigInt(c.in_lock_recovery), () => true);
      t.same(go.map(Number), s.reclaimed, `${c.name} step ${i}`);
      t.same(go.map(Number), s.answered);
      requests = requests.filter((r) => !go.includes(r));
      mounted = mounted.filter((m) => !go.includes(m.rid));
    }
  }
});

t.test('the last members go together or not yet', async (t) => {
  const mounted = [1n, 2n].map((rid) => ({ rid, quorum: true }));
  const go = (recovering: bigint[]): bigint[] =>
    mayLeave([1n, 2n], mounted, 2, (rid) => recovering.includes(rid), () => true);
  t.same(go([2n]), [], 'who still reports its locks would stay alone');
  t.same(go([]), [1n, 2n]);
});

t.test('members that are not connected do not elect', async (t) => {
  const mounted = [1n, 2n, 3n, 4n].map((rid) => ({ rid, quorum: true }));
  const go = (requests: bigint[], dead: bigint[]): bigint[] =>
    mayLeave(requests, mounted, 2, () => false, (rid) => !dead.includes(rid));
  t.same(go([1n, 2n, 3n], []), [1n, 2n]);
  t.same(go([1n, 2n, 3n], [4n]), [1n], 'two living ones have to stay');
  t.same(go([1n, 2n, 3n, 4n], []), [1n, 2n, 3n, 4n]);
  t.same(go([1n, 2n], [1n, 4n]), [1n], 'who is not there anyway may go');
});
