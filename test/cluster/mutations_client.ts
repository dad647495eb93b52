/**
 * Broken rules of the mount's side: connection, locks, transaction, files.
 */
import { IndexHold } from '../../host/fs/index_hold.js';
import { Inodes } from '../../host/fs/inode.js';
import { Xattrs } from '../../host/fs/xattr.js';
import { Forest } from '../../host/mount/forest.js';
import { LockClient } from '../../host/mount/lock.js';
import { Trans } from '../../host/mount/trans.js';
import { Peer } from '../../host/net/peer.js';
import { MountOpenMap } from '../../host/super/open_map.js';
import type { Mutation, Open } from './mutation_kit.js';
import { during, nothing, patch, within } from './mutation_kit.js';

const done = (): Promise<void> => Promise.resolve();

export const CLIENT_MUTATIONS: readonly Mutation[] = [
  {
    name: 'net-duplicates',
    rule: 'a message that was seen before is dropped (net.md 5)',
    apply: () => patch(Peer, 'receive', (real) => function f(this: Open, header: Open, payload) {
      if (Number(header['seq']) <= this['recvSeq']) this['recvSeq'] = Number(header['seq']) - 1;
      return real.call(this, header, payload);
    }),
  },
  {
    name: 'net-no-resend',
    rule: 'what is kept goes out again on a new socket (net.md 5)',
    apply: () => patch(Peer, 'attach', () => function f(this: Open, socket) {
      this['socket'] = socket;
    }),
  },
  {
    name: 'net-old-incarnation',
    rule: 'a new server is met with fresh counters (net.md 7.2)',
    apply: () => patch(Peer, 'newIncarnation', () => nothing),
  },
  {
    name: 'lock-report-lowered',
    rule: 'recovery reports the mode that is being given up (lock.md trap 3)',
    apply: () => patch(LockClient, 'recover', (real) => function f(this: Open, key) {
      const locks = [...(this['locks'] as Map<number, Open>).values()];
      const kept = locks.map((l) => l['invalidatingMode'] as unknown);
      for (const l of locks) l['invalidatingMode'] = null;
      const out = real.call(this, key);
      locks.forEach((l, i) => { l['invalidatingMode'] = kept[i]; });
      return out;
    }),
  },
  {
    name: 'lock-report-short',
    rule: 'all locks are reported (lock.md 6.5)',
    apply: () => patch(LockClient, 'recover', (real) => function f(this: Open, key) {
      return (real.call(this, key) as unknown[]).slice(1);
    }),
  },
  {
    name: 'lock-no-commit',
    rule: 'a lock that dirtied the transaction is given up after a commit (lock.md 5)',
    apply: () => patch(LockClient, 'writeBack', (real) => function f(this: Open, ...args: never[]) {
      this['deps'] = { ...this['deps'] as Open, commit: done };
      return real.call(this, ...args);
    }),
  },
  {
    name: 'lock-items-stay',
    rule: 'items are dropped with their lock (lock.md 5)',
    apply: () => patch(LockClient, 'drop', (real) => function f(this: Open, ...args: never[]) {
      const { core } = this['deps'] as { core: Open };
      return within(core, 'invalidate', nothing, () => real.call(this, ...args));
    }),
  },
  {
    name: 'lock-second-reduction',
    rule: 'any number of reductions of one lock are queued (lock.md trap 1)',
    apply: () => patch(LockClient, 'invalidate', (real) => function f(this: Open, asked: Open,
      answer) {
      const byKey = this['byKey'] as (key: unknown) => { reductions: unknown[] } | undefined;
      const lock = byKey.call(this, asked['key']);
      if (lock === undefined || lock.reductions.length === 0) real.call(this, asked, answer);
    }),
  },
  {
    name: 'lock-users-ignored',
    rule: 'a reduction waits for the users of the lock (lock.md 5)',
    apply: () => patch(LockClient, 'work', (real) => function f(this: Open, lock: Open) {
      const users = lock['users'] as number[];
      const kept = [...users];
      users.fill(0);
      real.call(this, lock);
      kept.forEach((n, i) => { users[i] = n; });
    }),
  },
  {
    name: 'forest-old-roots',
    rule: 'roots are as new as the grant they serve (item.md 5)',
    apply: () => patch(Forest, 'rootsFor', (real) => function f(this: Open, lock) {
      return (this['last'] as unknown) ?? real.call(this, lock);
    }),
  },
  {
    name: 'sync-does-not-wait',
    rule: 'fsync returns when the commit is done (trans.md 6)',
    apply: () => patch(Trans, 'sync', () => done),
  },
  {
    name: 'commit-fails-once',
    rule: 'a failed commit is repeated until it succeeds (trans.md 5)',
    apply: () => patch(Trans, 'untilDone', (real) => function f(this: Open, what, fn) {
      if (what !== 'commit') return real.call(this, what, fn);
      return (fn as () => Promise<void>)().catch(nothing);
    }),
  },
  {
    name: 'commit-unflushed',
    rule: 'the devices are flushed before the commit is sent (block.md 5)',
    apply: () => patch(Trans, 'writeAndCommit', (real) => function f(this: Open) {
      const { dataDevice, metaDevice } = this['deps'] as { dataDevice: Open; metaDevice: Open };
      return during(dataDevice, 'flush', done, () =>
        during(metaDevice, 'flush', done, () => real.call(this)));
    }),
  },
  {
    name: 'commit-before-data',
    rule: 'a commit waits for the data it refers to (trans.md 4)',
    apply: () => patch(Trans, 'addDataWrite', () => nothing),
  },
  {
    name: 'open-map-unset',
    rule: 'a mount says which inodes it has in use (recovery.md 5)',
    apply: () => patch(MountOpenMap, 'set', () => nothing),
  },
  {
    name: 'delete-unasked',
    rule: 'an inode is deleted only after the other mounts were asked (recovery.md 6)',
    apply: () => patch(MountOpenMap, 'fetchGroup', () => () => ({ has: () => false })),
  },
  {
    name: 'no-orphan-item',
    rule: 'an inode without links has an orphan item (inode.md 7)',
    apply: () => patch(Inodes, 'createOrphan', () => nothing),
  },
  {
    name: 'totals-not-counted',
    rule: 'totals follow their xattrs (xattr.md 4)',
    apply: () => patch(Xattrs, 'applySide', () => nothing),
  },
  {
    name: 'index-items-stay',
    rule: 'old index items go when a seq changes (inode.md 5)',
    apply: () => patch(IndexHold, 'remove', () => nothing),
  },
  {
    name: 'late-answers',
    rule: 'answers to an earlier server are dropped (net.md trap 17)',
    apply: () => patch(Peer, 'submitResponse', (real) =>
      function f(this: Open, _epoch, ...rest: never[]) {
        real.call(this, this['epoch'], ...rest);
      }),
  },
];
