/**
 * Locks that go back and forth between real mounts: nothing is lost while many processes change
 * the same things, no lock is left with users, and idle ones come and go.
 *
 * | row of the acceptance catalogue | case |
 * |---|---|
 * | createmany-parallel-mounts | creates in directories of their own |
 * | lock-conflicting-batch-commit | batches in one directory |
 * | lock-refleak | no lock keeps users |
 * | lock-shrink-read-race | idle locks given back under readers |
 * | persistent-item-vers | times set after a remount |
 * | lock-ex-race-processes | in attributes.test.ts |
 * | lock-shrink-consistency | in attributes.test.ts |
 *
 * lock-pr-cw-conflict needs the ioctl that walks indexes and has no test here.
 */
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import * as c from '../lib/syscalls.js';
import type { Case, CaseFn } from './kit.js';
import { getFile, putFile, runCases, size } from './kit.js';

const ADDS = size(4, 200);
const CREATES = size(100, 50_000);
const BATCH = size(15, 1000);
const BATCHES = size(2, 20);
const REFLEAK_ROUNDS = size(5, 20);
const PURGE_MS = size(1000, 30_000);
const USERS_MAX = 10;

function names(path: string): string[] {
  const fd = c.ok(c.open(path, c.O.RDONLY | c.O.DIRECTORY));
  const list = c.listAll(fd).map((e) => e.name).filter((n) => n !== '.' && n !== '..');
  c.close(fd);
  return list;
}

/** Users of all locks of a mount: whitespace fields 18, 20 and 22 of client_locks. */
function users(x: Case, nr: number): number[] {
  return x.cluster.node(nr).show('debug', 'client_locks').split('\n').filter((l) => l !== '')
    .flatMap((l) => {
      const fields = l.split(/\s+/);
      return [17, 19, 21].map((i) => Number(fields[i]));
    });
}

const CASES: Record<string, CaseFn> = {
  async 'creates in directories of their own'(x) {
    const actors = x.actorEach();
    for (const n of x.nodes.keys()) c.ok(c.mkdir(x.p(n, `d${n}`)));
    const alone = performance.now();
    x.t.strictSame(await actors[0]?.run('createMany', x.p(0, 'd0'), 'a', CREATES), []);
    const together = performance.now();
    const bad = await Promise.all(actors.map((a, n) =>
      a.run('createMany', x.p(n, `d${n}`), 'b', CREATES)));
    x.t.strictSame(bad.flat(), [], 'all are made');
    x.t.comment(`${CREATES} alone: ${Math.round(together - alone)} ms, on ${x.count} mounts: ${
      Math.round(performance.now() - together)} ms`);
    x.all(CREATES, (n) => names(x.p(n, 'd1')).length, 'and seen');
  },

  async 'batches in one directory'(x) {
    const actors = x.actorEach();
    for (let i = 0; i < BATCHES; i++) {
      const bad = await Promise.all(actors.map((a, n) =>
        a.run('createMany', x.p(n), `m${n}-`, BATCH)));
      x.t.strictSame(bad.flat(), [], 'created at once');
      x.all(BATCH * x.count, (n) => names(x.p(n)).length, 'all are there');
      // each removes what its neighbour made, and makes new ones
      const next = await Promise.all(actors.map((a, n) =>
        a.run('unlinkMany', x.p(n), `m${(n + 1) % x.count}-`, BATCH)));
      x.t.strictSame(next.flat(), [], 'removed at once');
      x.all(0, (n) => names(x.p(n)).length, 'nothing is left');
    }
  },

  async 'no lock keeps users'(x) {
    for (let i = 0; i < REFLEAK_ROUNDS; i++) {
      for (const n of x.nodes.keys()) {
        const p = (...more: string[]): string => x.p(n, ...more);
        putFile(p('f'), 'x');
        c.ok(c.mkdir(p('d')));
        c.ok(c.rename(p('f'), p('d', 'g')));
        c.ok(c.link(p('d', 'g'), p('h')));
        c.ok(c.setxattr(p('h'), 'user.a', 'b'));
        c.ok(c.symlink('x', p('l')));
        x.t.equal(getFile(p('h')), 'x');
        names(p());
        c.statErr(p('none'));
        for (const f of ['h', 'l', 'd/g']) c.ok(c.unlink(p(f)));
        c.ok(c.rmdir(p('d')));
      }
    }
    await sleep(200);
    for (const n of x.nodes.keys()) {
      const all = users(x, n);
      x.t.ok(all.length > 0 && all.every((u) => u <= USERS_MAX), `users: ${Math.max(...all)}`);
    }
  },

  async 'idle locks given back under readers'(x) {
    putFile(x.p(0, 'f'), 'x');
    const actors = [...x.actorEach(), ...x.actorEach()];
    let running = true;
    const loops = Promise.all(actors.map((a, i) =>
      a.run('statLoop', [x.p(i), x.p(i, 'f')], PURGE_MS))).finally(() => { running = false; });
    let purges = 0;
    for (; running; purges++) {
      for (const n of x.nodes) {
        fs.writeFileSync(n.control('debug', 'trigger', 'statfs_lock_purge'), '1');
        c.statfs(n.mnt);
      }
      await sleep(5);
    }
    const got = await loops;
    x.t.ok(got.every((g) => typeof g === 'number'), `${got.join(', ')}; ${purges} purges`);
  },

  async 'times set after a remount'(x) {
    const last = x.count - 1;
    putFile(x.p(last, 'f'), '');
    for (let i = 1; i <= size(1, 10); i++) {
      await x.cluster.umountAll();
      await x.cluster.mountAll();
      c.ok(c.utimens(x.p(last, 'f'), [[i, 0], [i, 0]]));
      await x.cluster.umountAll();
      await x.cluster.mountAll();
      x.all(BigInt(i) * 1_000_000_000n, (n) => c.lstat(x.p(n, 'f')).mtime, 'newer items win');
    }
  },
};

for (const how of ['open', 'mkdir', 'link', 'rename']) {
  CASES[`a mutex made by ${how}`] = async (x): Promise<void> => {
    putFile(x.p(0, 'sum'), '0');
    const actors = x.actorEach();
    const tries = await Promise.all(actors.map((a, n) =>
      a.run('addUnderMutex', x.p(n), how, String(n), ADDS)));
    x.all(String(ADDS * x.count), (n) => getFile(x.p(n, 'sum')), 'no addition is lost');
    x.all(['sum'], (n) => names(x.p(n)), 'and every mutex was given back');
    x.t.comment(`tries in vain: ${tries.join(', ')}`);
  };
}

runCases('locks', CASES);
