/**
 * Names on several mounts: what one creates, links, renames or removes all others see at once,
 * also where they had looked before and been told that there is nothing.
 *
 * | row of the acceptance catalogue | case |
 * |---|---|
 * | mkdir-rename-rmdir | every combination of mounts |
 * | dirent-consistency | trees, and removal from everywhere |
 * | renameat2-noreplace | races for one name |
 * | basic-posix-consistency, names | the rest |
 * | lock-revoke-getcwd | a working directory survives |
 */

import { execFileSync } from 'node:child_process';
import * as c from '../lib/syscalls.js';
import type { Case, CaseFn } from './kit.js';
import { getFile, putFile, runCases, size } from './kit.js';

const ROUNDS = size(4, 300);
const RACES = size(10, 101);
const ENTRIES = size(100, 3000);
/** Every so manieth combination of four mounts. */
const COMBINATION_STEP = size(7, 1);

function list(path: string): string {
  const fd = c.ok(c.open(path, c.O.RDONLY | c.O.DIRECTORY), `open ${path}`);
  const names = c.listAll(fd).map((e) => e.name).sort().join(' ');
  c.close(fd);
  return names;
}

/** Everything below a directory as `find` and `stat` show it, without access times. */
function tree(path: string): string {
  return execFileSync('bash', ['-c',
    "find . -print0 | LC_ALL=C sort -z | xargs -0 stat -c '%n %i %F %a %h %u %g %s %Y %Z'"],
  { cwd: path, encoding: 'utf8' });
}

const NAMES: Record<string, CaseFn> = {
  'names come and go'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      x.all('ENOENT', (n) => c.statErr(x.p(n, 'f')), 'not there yet');
      c.ok(c.creat(x.p(i, 'f')), 'creat');
      x.all(0, (n) => c.statErr(x.p(n, 'f')), 'created');
      x.t.equal(c.touch(x.p(i + 1, 'f'), c.O.CREAT | c.O.EXCL), 'EEXIST');
      x.all('. .. f', (n) => list(x.p(n)), 'listed');
      c.ok(c.unlink(x.p(i + 1, 'f')), 'unlink');
      x.all('. ..', (n) => list(x.p(n)), 'listed no more');
    }
  },

  'directories come and go'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      c.ok(c.mkdir(x.p(i, 'd')), 'mkdir');
      x.all('. ..', (n) => list(x.p(n, 'd')), 'empty');
      x.all(3, (n) => c.lstat(x.p(n)).nlink, 'links of the parent');
      putFile(x.p(i + 1, 'd', 'f'), 'x');
      x.all('ENOTEMPTY', (n) => c.rmdir(x.p(n, 'd')), 'not empty');
      c.ok(c.unlink(x.p(i + 2, 'd', 'f')), 'unlink');
      c.ok(c.rmdir(x.p(i + 1, 'd')), 'rmdir');
      x.all('ENOENT', (n) => c.statErr(x.p(n, 'd')), 'gone');
      x.all('ENOENT', (n) => c.statErr(x.p(n, 'd', 'f')), 'gone with what was in it');
      x.all(2, (n) => c.lstat(x.p(n)).nlink, 'links of the parent');
    }
  },

  'a name is something else'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      putFile(x.p(i, 'n'), 'file');
      x.all('file', (n) => getFile(x.p(n, 'n')), 'a file');
      c.ok(c.unlink(x.p(i + 1, 'n')));
      c.ok(c.mkdir(x.p(i + 1, 'n')));
      putFile(x.p(i, 'n', 'inner'), String(i));
      x.all(String(i), (n) => getFile(x.p(n, 'n', 'inner')), 'a directory');
      c.ok(c.unlink(x.p(i, 'n', 'inner')));
      c.ok(c.rmdir(x.p(i, 'n')));
      c.ok(c.symlink(`target ${i}`, x.p(i + 1, 'n')));
      x.all(`target ${i}`, (n) => c.readlink(x.p(n, 'n')), 'a symlink');
      c.ok(c.unlink(x.p(i, 'n')));
      c.ok(c.symlink(`other ${i}`, x.p(i, 'n')));
      x.all(`other ${i}`, (n) => c.readlink(x.p(n, 'n')), 'another one');
      c.ok(c.unlink(x.p(i + 1, 'n')));
    }
  },

  'renames'(x) {
    for (const d of ['a', 'b', 'full']) c.ok(c.mkdir(x.p(0, d)));
    putFile(x.p(0, 'full', 'x'), 'x');
    for (let i = 0; i < ROUNDS; i++) {
      putFile(x.p(i, 'a', 'f'), `f${i}`);
      const { ino } = c.lstat(x.p(i + 1, 'a', 'f'));
      c.ok(c.rename(x.p(i + 1, 'a', 'f'), x.p(i + 1, 'a', 'g')));
      x.all('. .. g', (n) => list(x.p(n, 'a')), 'within a directory');
      c.ok(c.rename(x.p(i, 'a', 'g'), x.p(i, 'b', 'g')));
      x.all('ENOENT', (n) => c.statErr(x.p(n, 'a', 'g')), 'gone from here');
      x.all(ino, (n) => c.lstat(x.p(n, 'b', 'g')).ino, 'and there');
      putFile(x.p(i + 1, 'b', 'h'), 'old');
      x.all('old', (n) => getFile(x.p(n, 'b', 'h')), 'what is to be replaced');
      c.ok(c.rename(x.p(i, 'b', 'g'), x.p(i, 'b', 'h')));
      x.all(`f${i}`, (n) => getFile(x.p(n, 'b', 'h')), 'replaced');
      putFile(x.p(i, 'a', 'k'), 'k');
      x.t.equal(c.rename(x.p(i, 'b', 'h'), x.p(i, 'a', 'k'), c.RENAME.NOREPLACE), 'EEXIST');
      x.t.equal(c.rename(x.p(i + 1, 'a'), x.p(i + 1, 'full')), 'ENOTEMPTY');
      x.t.equal(c.rename(x.p(i, 'a'), x.p(i, 'a', 'in')), 'EINVAL', 'not into itself');
      c.ok(c.unlink(x.p(i, 'a', 'k')));
      c.ok(c.rename(x.p(i + 1, 'b'), x.p(i + 1, 'a')), 'over an empty directory');
      x.all(`f${i}`, (n) => getFile(x.p(n, 'a', 'h')), 'what it had moved with it');
      x.all('ENOENT', (n) => c.statErr(x.p(n, 'b', 'h')), 'and is not there any more');
      c.ok(c.unlink(x.p(i, 'a', 'h')));
      c.ok(c.mkdir(x.p(i, 'b')));
    }
  },

  'hard links'(x) {
    c.ok(c.mkdir(x.p(0, 'd')));
    for (let i = 0; i < ROUNDS; i++) {
      putFile(x.p(i, 'one'), 'text');
      c.ok(c.link(x.p(i + 1, 'one'), x.p(i + 1, 'd', 'two')));
      x.all(2, (n) => c.lstat(x.p(n, 'one')).nlink, 'two links');
      x.same((n) => c.lstat(x.p(n, 'd', 'two')).ino, 'of one inode');
      putFile(x.p(i, 'd', 'two'), `changed ${i}`);
      x.all(`changed ${i}`, (n) => getFile(x.p(n, 'one')), 'with one content');
      c.ok(c.unlink(x.p(i, 'one')));
      x.all(1, (n) => c.lstat(x.p(n, 'd', 'two')).nlink, 'one is left');
      c.ok(c.unlink(x.p(i + 1, 'd', 'two')));
    }
  },

  'an open directory shows what happens'(x) {
    for (let i = 0; i < ENTRIES; i++) c.ok(c.creat(x.p(i, `entry${i}`)), 'creat');
    const fds = x.nodes.map((_, n) => c.ok(c.open(x.p(n), c.O.RDONLY)));
    const at = (n: number): number => fds[n] ?? -1;
    const count = (n: number): number => {
      c.lseek(at(n), 0, c.SEEK.SET);
      return c.listAll(at(n)).length;
    };
    x.all(ENTRIES + 2, count, 'all are there');
    // half read, then changed by others: nothing twice, nothing left out that stayed
    for (const n of x.nodes.keys()) c.lseek(at(n), 0, c.SEEK.SET);
    const begun = x.nodes.map((_, n) => c.getdents(at(n), 4096) as c.Dirent[]);
    for (let i = 0; i < ENTRIES; i += 2) c.ok(c.unlink(x.p(i + 1, `entry${i}`)), 'unlink');
    for (const n of x.nodes.keys()) {
      const names = [...begun[n] ?? [], ...c.listAll(at(n))].map((e) => e.name);
      x.t.equal(new Set(names).size, names.length, 'nothing twice');
      x.t.ok(Array.from({ length: ENTRIES >> 1 }, (_, i) => `entry${2 * i + 1}`)
        .every((e) => names.includes(e)), 'nothing left out');
    }
    x.all((ENTRIES >> 1) + 2, count, 'half of them after a rewind');
    for (const fd of fds) c.close(fd);
  },

  'every combination of mounts'(x) {
    const k = x.count;
    for (let i = 0; i < k ** 4; i += k > 2 ? COMBINATION_STEP : 1) {
      const [a, b, d, e] = [i, i / k, i / k ** 2, i / k ** 3].map((v) => Math.floor(v) % k) as
        [number, number, number, number];
      c.ok(c.mkdir(x.p(a, 'dir')), `mkdir by ${a}`);
      c.ok(c.rename(x.p(b, 'dir'), x.p(b, 'dir2')), `rename by ${b}`);
      c.ok(c.rename(x.p(d, 'dir2'), x.p(d, 'dir')), `rename by ${d}`);
      c.ok(c.rmdir(x.p(e, 'dir')), `rmdir by ${e}`);
    }
    x.all('. ..', (n) => list(x.p(n)), 'nothing is left');
  },

  async 'trees, and removal from everywhere'(x) {
    for (let i = 0; i < size(1, 20); i++) {
      for (let d = 0; d < 5; d++) {
        c.ok(c.mkdir(x.p(d + i, `d${d}`)));
        for (let f = 0; f < 10; f++) putFile(x.p(f, `d${d}`, `f${f}`), 'x'.repeat(f));
      }
      x.same((n) => tree(x.p(n)), 'created');
      for (let d = 0; d < 5; d++) {
        c.ok(c.unlink(x.p(i, `d${d}`, 'f1')));
        c.ok(c.mkdir(x.p(i + 1, `d${d}`, 'f1')), 'a directory for a file');
        c.ok(c.link(x.p(i, `d${d}`, 'f2'), x.p(i, `d${(d + 1) % 5}`, `link${d}`)));
        c.ok(c.rename(x.p(i + 1, `d${d}`, 'f3'), x.p(i + 1, `d${(d + 2) % 5}`, `moved${d}`)));
      }
      x.same((n) => tree(x.p(n)), 'linked and moved');
      c.ok(c.rename(x.p(i, 'd0'), x.p(i, 'd1', 'below')));
      c.ok(c.rename(x.p(i + 1, 'd1'), x.p(i + 1, 'other')));
      x.same((n) => tree(x.p(n)), 'parents renamed');
      const actors = x.actorEach();
      const bad = await Promise.all(actors.map((a, n) => a.run('removeAll', x.p(n))));
      await Promise.all(actors.map((a) => a.end()));
      x.t.strictSame(bad.flat(), [], 'all remove at once');
      x.all('. ..', (n) => list(x.p(n)), 'nothing is left');
    }
  },

  async 'races for one name'(x) {
    const actors = x.actorEach();
    const won = new Array<number>(x.count).fill(0);
    const race = async (call: (a: (typeof actors)[number], n: number) => Promise<c.Res>):
    Promise<void> => {
      const got = await Promise.all(actors.map(call));
      x.t.equal(got.filter((r) => r === 0).length, 1, `one of ${got.join(' ')}`);
      x.t.ok(got.every((r) => r === 0 || r === 'EEXIST'), 'the others are told');
      const nr = got.indexOf(0);
      won[nr] = (won[nr] ?? 0) + 1;
    };
    for (let i = 0; i < RACES; i++) {
      for (const n of x.nodes.keys()) putFile(x.p(n, `from${n}`), String(n));
      await race((a, n) => a.run('renameNoReplace', x.p(n, `from${n}`), x.p(n, 'to')));
      x.same((n) => getFile(x.p(n, 'to')), 'all see the same winner');
      c.ok(c.unlink(x.p(i, 'to')));
      await race((a, n) => a.run('createExclusive', x.p(n, 'to')));
      c.ok(c.unlink(x.p(i, 'to')));
    }
    x.t.comment(`won by mount: ${won.join(', ')}`);
  },

  async 'a working directory survives'(x) {
    const actor = x.actor();
    c.ok(c.mkdir(x.p(0, 'cwd')));
    await actor.run('enter', x.p(0, 'cwd'));
    const here = x.p(0, 'cwd');
    for (let i = 0; i < ROUNDS; i++) {
      await actor.run('enter', here);
      // the other takes the locks, and the names with them
      putFile(x.p(1, 'cwd', 'f'), 'x');
      c.ok(c.unlink(x.p(1, 'cwd', 'f')));
      c.ok(c.utimens(x.p(1), null));
      x.t.equal(await actor.run('where'), `${here} ${here}`);
    }
    c.ok(c.rename(x.p(1, 'cwd'), x.p(1, 'moved')));
    x.t.equal(c.statErr(x.p(0, 'moved')), 0);
    x.t.equal(await actor.run('where'), `${x.p(0, 'moved')} ${x.p(0, 'moved')}`,
      'renamed by another, and looked up here since');
    c.ok(c.rmdir(x.p(1, 'moved')));
    x.t.equal(c.statErr(x.p(0, 'moved')), 'ENOENT');
    x.t.match(await actor.run('where'), / ENOENT$/, 'removed by another');
  },
};

/** A directory in a path that is renamed back and forth: one of the two names always is. */
function walkers(x: Case): void {
  c.ok(c.mkdir(x.p(0, 'one')));
  putFile(x.p(0, 'one', 'f'), 'text');
  for (let i = 0; i < ROUNDS; i++) {
    const [from, to] = i % 2 === 0 ? ['one', 'two'] : ['two', 'one'];
    c.ok(c.rename(x.p(i, from), x.p(i, to)));
    x.all('ENOENT', (n) => c.statErr(x.p(n, from, 'f')), 'not by the old path');
    x.all('text', (n) => getFile(x.p(n, to, 'f')), 'but by the new one');
  }
}
NAMES['paths through a renamed directory'] = walkers;

runCases('names', NAMES);
