/**
 * Lock clients and the lock service together, under random use, message delays and
 * changes of server, from a seed.
 *
 * What has to hold at every moment: users of one lock on different mounts have modes
 * that go together; a mount that gives up a writing mode has committed; later holders
 * have greater write seqs. In the end nobody waits.
 */
import t from 'tap';
import * as fc from 'fast-check';
import { LOCK_WRITE, LOCK_WRITE_ONLY } from '../../host/core/constants.js';
import type { Lock } from '../../host/net/messages.js';
import type { ClientLock } from '../../host/mount/client_lock.js';
import { LockClient } from '../../host/mount/lock.js';
import { LockKind } from '../../host/mount/lock_kinds.js';
import type { LockMode } from '../../host/mount/op.js';
import { LockServer, compatible } from '../../host/server/lock_server.js';
import { RECOV_GREETING, RECOV_LOCKS, Recovery } from '../../host/server/recov.js';
import { SimClock, settle } from '../lib/simclock.js';

const GROUPS = 3;
const CLIENTS = 3;
/** More than any of these histories needs to come to rest. */
const ROUNDS_MAX = 1000;

interface Held {
  client: number;
  lock: ClientLock;
  mode: LockMode;
}

/** The kept state of one client's connection: ordered, nothing lost, as peer.ts makes it. */
interface Pipe {
  toServer: (() => void)[];
  toClient: (() => void)[];
  /** requests without an answer: sent again to a new server */
  unanswered: Map<number, Lock>;
}

class Cluster {
  readonly clock = new SimClock();
  readonly clients: LockClient[] = [];
  readonly pipes: Pipe[] = [];
  readonly held: Held[] = [];
  readonly faults: string[] = [];
  /** the open transaction of each mount, and what its locks dirtied in it */
  readonly transSeq: number[] = [];
  readonly dirty: Set<number>[] = [];
  waiting = 0;
  private server!: LockServer<number>;
  private recovery!: Recovery;
  private incarnation = 0;
  private seq = 1000;
  /** greatest item seq that a new server finds in the log trees */
  private committedSeq = 1000;
  private nextId = 1;
  /** greatest write seq that something was written with, by group */
  private readonly usedSeq = new Map<number, number>();
  private readonly exclusiveSeq = new Map<number, number>();

  constructor() {
    for (let i = 0; i < CLIENTS; i++) {
      this.pipes.push({ toServer: [], toClient: [], unanswered: new Map() });
      this.transSeq.push(10);
      this.dirty.push(new Set());
      this.clients.push(this.makeClient(i));
    }
    this.newServer(false);
  }

  private makeClient(i: number): LockClient {
    return new LockClient({
      clock: this.clock,
      core: {
        alloc: () => 1, setMode: () => undefined, free: () => undefined, invalidate: () => undefined,
      },
      send: (lock) => {
        const id = this.nextId++;
        this.pipes[i]?.unanswered.set(id, lock);
        this.request(i, id, lock);
      },
      transSeq: () => this.transSeq[i] ?? 0,
      commit: async () => {
        await settle(3);
        this.transSeq[i] = (this.transSeq[i] ?? 0) + 1;
        for (const group of this.dirty[i] ?? []) {
          this.committedSeq = Math.max(this.committedSeq, this.usedSeq.get(group) ?? 0);
        }
        this.dirty[i]?.clear();
      },
      drain: async () => { await settle(2); },
      dropQuotaRules: () => undefined,
      idleCount: () => 2,
      failed: (e) => { this.faults.push(e.message); },
    });
  }

  private request(i: number, id: number, lock: Lock): void {
    const { incarnation } = this;
    this.pipes[i]?.toServer.push(() => {
      if (incarnation === this.incarnation) this.server.request(BigInt(i), id, lock);
    });
  }

  /** A new server; after a failover it knows nothing and asks. */
  newServer(failover: boolean): void {
    this.incarnation++;
    const { incarnation } = this;
    const current = (fn: () => void) => (): void => {
      if (incarnation === this.incarnation) fn();
    };
    this.recovery = new Recovery(this.clock, () => { this.server.recoveryFinished(); },
      () => { this.faults.push('recovery expired'); });
    this.server = new LockServer<number>({
      grant: (rid, id, lock) => {
        this.pipes[Number(rid)]?.toClient.push(current(() => {
          this.pipes[Number(rid)]?.unanswered.delete(id);
          this.checkWriteSeq(lock);
          this.clients[Number(rid)]?.grant(lock);
        }));
      },
      invalidate: (rid, lock) => {
        this.pipes[Number(rid)]?.toClient.push(current(() => {
          this.clients[Number(rid)]?.invalidate(lock, (answer) => {
            this.checkCommitted(Number(rid), answer);
            this.pipes[Number(rid)]?.toServer.push(current(() => {
              this.server.invalidated(rid, answer);
            }));
          });
        }));
      },
      askRecover: (rid, key) => {
        this.pipes[Number(rid)]?.toClient.push(current(() => {
          const locks = this.clients[Number(rid)]?.recover(key) ?? [];
          this.pipes[Number(rid)]?.toServer.push(current(() => {
            this.server.recoverResponse(rid, locks);
          }));
        }));
      },
      nextSeq: () => ++this.seq,
      raiseSeq: (s) => { this.seq = Math.max(this.seq, s); },
      seqIsPossible: () => true,
      recovering: (rid) => this.recovery.pending(RECOV_LOCKS, rid),
      recovered: (rid) => { this.recovery.finish(rid, RECOV_LOCKS); },
    });
    if (failover) this.reconnect();
    else this.recovery.start();
  }

  /** Sockets broke: what was under way is gone, unanswered requests are sent again. */
  private reconnect(): void {
    // The new server starts from what is on the device, which can be behind.
    this.seq = this.committedSeq;
    for (let i = 0; i < CLIENTS; i++) this.recovery.add(BigInt(i));
    this.recovery.start();
    for (const [i, pipe] of this.pipes.entries()) {
      pipe.toServer = [];
      pipe.toClient = [];
      this.recovery.finish(BigInt(i), RECOV_GREETING);
      this.server.greeted(BigInt(i));
      for (const [id, lock] of pipe.unanswered) this.request(i, id, lock);
    }
  }

  /** A user that wants a lock, until it has it. */
  async use(i: number, group: number, mode: LockMode): Promise<void> {
    const client = this.clients[i];
    if (client === undefined) return;
    this.waiting++;
    const lock = await client.lock(LockKind.inode, group * 1024, mode);
    this.waiting--;
    for (const h of this.held) {
      if (h.client !== i && h.lock.group === group && !compatible(h.mode, mode, false)) {
        this.faults.push(`mode ${mode} of ${i} beside mode ${h.mode} of ${h.client}`);
      }
    }
    if (mode !== 1) {
      this.dirty[i]?.add(group);
      this.usedSeq.set(group, Math.max(this.usedSeq.get(group) ?? 0, lock.writeSeq));
      if (mode === LOCK_WRITE) this.exclusiveSeq.set(group, lock.writeSeq);
    }
    this.held.push({ client: i, lock, mode });
  }

  release(at: number): void {
    const [h] = this.held.splice(at, 1);
    if (h !== undefined) this.clients[h.client]?.unlock(h.lock, h.mode);
  }

  private checkCommitted(i: number, answer: Lock): void {
    const group = Number(answer.key.first / 1024n);
    if (answer.newMode === 0 && this.dirty[i]?.has(group) === true) {
      this.faults.push(`${i} gave up group ${group} with uncommitted changes`);
    }
  }

  private checkWriteSeq(lock: Lock): void {
    if (lock.newMode < 2) return;
    const group = Number(lock.key.first / 1024n);
    // Writers that exclude nobody can be granted in one order and write in another.
    const shared = lock.newMode === LOCK_WRITE_ONLY;
    if (lock.writeSeq <= ((shared ? this.exclusiveSeq : this.usedSeq).get(group) ?? 0)) {
      this.faults.push(`write seq ${lock.writeSeq} of group ${group} was used before`);
    }
  }

  /** Delivers the oldest message of one direction of one client. */
  deliver(i: number, down: boolean): boolean {
    const pipe = this.pipes[i];
    const message = (down ? pipe?.toClient : pipe?.toServer)?.shift();
    message?.();
    return message !== undefined;
  }

  /** Everything moves until nothing does; whoever gets a lock lets it go. */
  async drain(): Promise<void> {
    for (let idle = 0, round = 0; idle < 3; round++) {
      if (round > ROUNDS_MAX) {
        this.faults.push('messages go on for ever');
        return;
      }
      let moved = this.held.length > 0;
      while (this.held.length > 0) this.release(0);
      for (let i = 0; i < CLIENTS; i++) {
        while (this.deliver(i, true)) moved = true;
        while (this.deliver(i, false)) moved = true;
      }
      await this.clock.advance(1);
      idle = moved ? 0 : idle + 1;
    }
  }
}

type Step = { do: 'use'; client: number; group: number; mode: LockMode }
  | { do: 'release'; at: number }
  | { do: 'deliver'; client: number; down: boolean }
  | { do: 'failover' };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({
    do: fc.constant('use' as const), client: fc.nat(CLIENTS - 1), group: fc.nat(GROUPS - 1),
    mode: fc.constantFrom<LockMode>(1, 2, 3) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('release' as const), at: fc.nat(5) }) },
  { weight: 8, arbitrary: fc.record({
    do: fc.constant('deliver' as const), client: fc.nat(CLIENTS - 1), down: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('failover' as const) }) },
);

async function run(steps: readonly Step[]): Promise<string[]> {
  const c = new Cluster();
  for (const s of steps) {
    if (s.do === 'use') void c.use(s.client, s.group, s.mode);
    else if (s.do === 'release') c.release(Math.min(s.at, c.held.length - 1));
    else if (s.do === 'deliver') c.deliver(s.client, s.down);
    else c.newServer(true);
    await c.clock.advance(s.do === 'deliver' ? 1 : 0);
  }
  await c.drain();
  if (c.waiting > 0) c.faults.push(`${c.waiting} wait for ever`);
  return c.faults;
}

t.test('nothing goes together that must not, and nobody waits for ever', async (t) => {
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }),
    async (steps) => {
      const faults = await run(steps);
      if (faults.length > 0) throw new Error(faults.join('; '));
    }), { numRuns: 300, seed: 19700 });
  t.pass('no history breaks it');
});

t.test('a grant and the reduction behind it in one segment', async (t) => {
  const c = new Cluster();
  void c.use(0, 0, 2);
  void c.use(1, 0, 2);
  await settle();
  c.deliver(0, false);
  c.deliver(1, false);
  c.deliver(0, true);
  c.deliver(0, true);
  await settle();
  t.equal(c.held.length, 1, 'who was granted the lock gets to use it');
  c.release(0);
  await c.drain();
  t.same([c.waiting, c.faults], [0, []]);
});
