/**
 * Broken rules of the server's side: election, fencing, recovery, locks, commits.
 */
import { NetRoots, QUORUM_MSG_HEARTBEAT } from '../../host/core/format.js';
import { encode } from '../../host/net/messages.js';
import { Commits } from '../../host/server/commit.js';
import { FenceRequests } from '../../host/server/fence.js';
import { LockServer } from '../../host/server/lock_server.js';
import { LogTreesService } from '../../host/server/log_trees.js';
import { OmapServer } from '../../host/server/omap.js';
import { QuorumAgent } from '../../host/server/quorum_agent.js';
import { SuperRec } from '../../host/server/records.js';
import { Recovery } from '../../host/server/recov.js';
import { FarewellWorker } from '../../host/server/farewell_worker.js';
import { ClusterWorld } from './world.js';
import type { Mutation, Open } from './mutation_kit.js';
import { during, nothing, patch, within } from './mutation_kit.js';

const done = (): Promise<void> => Promise.resolve();

export const SERVER_MUTATIONS: readonly Mutation[] = [
  {
    name: 'quorum-two-votes',
    rule: 'at most one vote is given in a term (quorum.md 3)',
    apply: () => patch(QuorumAgent, 'voteFor', (real) => function f(this: Open, msg, out) {
      this['votedFor'] = -1;
      real.call(this, msg, out);
    }),
  },
  {
    name: 'quorum-deaf',
    rule: 'a heartbeat puts the election off (quorum.md 3)',
    apply: () => patch(QuorumAgent, 'step', (real) => function f(this: Open, now, msg: Open | null,
      server) {
      const deadlineMs = this['deadlineMs'] as number;
      const out = real.call(this, now, msg, server);
      if (msg?.['type'] === QUORUM_MSG_HEARTBEAT && this['role'] === 'follower') {
        this['deadlineMs'] = deadlineMs;
      }
      return out;
    }),
  },
  {
    name: 'fence-not-awaited',
    rule: 'a server reads nothing before earlier leaders are fenced (quorum.md 7)',
    apply: () => patch(FenceRequests, 'allFenced', () => done),
  },
  {
    name: 'fence-never-done',
    rule: 'a mount is reclaimed only when it cannot write any more (recovery.md 3)',
    apply: () => patch(ClusterWorld, 'fence', () => function f(this: Open, _by, rid) {
      (this['onFenced'] as ((rid: unknown) => void) | null)?.(rid);
      return Promise.resolve(true);
    }),
  },
  {
    name: 'reclaim-unfenced',
    rule: 'a client that does not come back is fenced before it is reclaimed (recovery.md trap 4)',
    apply: () => patch(FenceRequests, 'create', (real) => function f(this: Open, rid, addr,
      reason) {
      within(this, 'local', null, () => real.call(this, rid, addr, reason));
      (this['setFenced'] as (rid: unknown) => void).call(this, rid);
    }),
  },
  {
    name: 'recovery-forgets',
    rule: 'a new server waits for the clients of the previous one (recovery.md 2)',
    apply: () => patch(Recovery, 'add', () => nothing),
  },
  {
    name: 'locks-during-recovery',
    rule: 'nothing is granted while locks are being reported (lock.md 6.5)',
    apply: () => patch(LockServer, 'process', (real) => function f(this: Open, lock) {
      within(this['deps'] as Open, 'recovering', () => false, () => real.call(this, lock));
    }),
  },
  {
    name: 'locks-conflict',
    rule: 'conflicting locks are taken back before a grant (lock.md 6)',
    apply: () => patch(LockServer, 'invalidateConflicts', () => nothing),
  },
  {
    name: 'locks-early',
    rule: 'nothing is granted before the answers have come (lock.md 6)',
    apply: () => patch(LockServer, 'invalidateConflicts', (real) => function f(this: Open, l: Open,
      want) {
      real.call(this, l, want);
      l['invalidated'] = [];
    }),
  },
  {
    name: 'locks-not-reclaimed',
    rule: 'the locks of a mount that is gone are given back (recovery.md 4)',
    apply: () => patch(LockServer, 'reclaim', () => nothing),
  },
  {
    name: 'seqs-start-over',
    rule: 'the counter of write seqs is recovered (lock.md trap 12)',
    apply: () => patch(Commits, 'raiseSeq', () => nothing),
  },
  {
    name: 'omap-nobody-asked',
    rule: 'every mount is asked which inodes it has in use (recovery.md 5)',
    apply: () => patch(OmapServer, 'gather', (real) => function f(this: Open, g) {
      within(this, 'members', new Set(), () => real.call(this, g));
    }),
  },
  {
    name: 'inodes-twice',
    rule: 'inode numbers are given out once (server.md 4.1)',
    apply: () => {
      const kept = Object.getOwnPropertyDescriptor(SuperRec.prototype, 'nextIno');
      if (kept === undefined) throw new Error('no nextIno to break');
      Object.defineProperty(SuperRec.prototype, 'nextIno', { ...kept, set: nothing });
      return () => { Object.defineProperty(SuperRec.prototype, 'nextIno', kept); };
    },
  },
  {
    name: 'roots-unstable',
    rule: 'readers get the roots of the last stable super block (server.md 4.4)',
    apply: () => patch(LogTreesService, 'getRoots', () => function f(this: Open) {
      const { fsRoot, logsRoot, srchRoot } =
        ((this['s'] as Open)['commits'] as Commits).sup.read();
      return encode(NetRoots, { fsRoot, logsRoot, srchRoot });
    }),
  },
  {
    name: 'answer-before-commit',
    rule: 'a commit is answered when the super block is stable (server.md 3)',
    apply: () => patch(Commits, 'join', (real) => function f(this: Open) {
      (real.call(this) as Promise<void>).catch(nothing);
      return Promise.resolve();
    }),
  },
  {
    name: 'server-unflushed',
    rule: 'blocks are flushed before the super block is written (block.md 5)',
    apply: () => patch(Commits, 'write', (real) => function f(this: Open) {
      return during((this['deps'] as Open)['device'] as Open, 'flush', done,
        () => real.call(this));
    }),
  },
  {
    name: 'farewell-keeps',
    rule: 'a mount that was let go is gone from the volume (server.md 8)',
    apply: () => patch(FarewellWorker, 'work', (real) => function f(this: Open) {
      return during(this['deps'] as Open, 'reclaim', done, () => real.call(this));
    }),
  },
];
