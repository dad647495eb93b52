/**
 * File data on several mounts: what one writes the others read with their next call, by new
 * and by old descriptors, through the page cache, directly, and through mappings.
 *
 * | row of the acceptance catalogue | case |
 * |---|---|
 * | basic-posix-consistency, contents | written here, read there |
 * | basic-truncate | cut and grown |
 * | mmap, writers and readers | mappings of several mounts |
 * | fallocate | reads and reservations |
 * | cross-mount-data-free | space freed elsewhere |
 */
import { statSync } from 'node:fs';
import * as c from '../lib/syscalls.js';
import type { Actor, CaseFn } from './kit.js';
import { getFile, putFile, runCases, size } from './kit.js';

const ROUNDS = size(6, 300);
const APPENDS = size(60, 3000);
const STORES = size(150, 5000);
const RACE_MS = size(1500, 10_000);
const PAGE = 4096;
const BIG = 300_000;
const FILE_BYTES = 4 * 2 ** 30;

/** Contents that tell where and when they were written. */
function pattern(len: number, seed: number): string {
  return Array.from({ length: Math.ceil(len / 16) }, (_, i) => `${seed}:${i}`.padEnd(16, '.'))
    .join('').slice(0, len);
}

function mapped(fd: number, prot: number): bigint {
  const at = c.mmap(fd, 2 * PAGE, prot, c.MAP.SHARED);
  if (typeof at === 'string') throw new Error(`mmap: ${at}`);
  return at;
}

const CASES: Record<string, CaseFn> = {
  'written here, read there'(x) {
    putFile(x.p(0, 'f'), '');
    const fds = x.nodes.map((_, n) => c.ok(c.open(x.p(n, 'f'), c.O.RDONLY)));
    const whole = (n: number): string => {
      const buf = Buffer.alloc(2 * BIG);
      return buf.toString('latin1', 0, c.ok(c.pread(fds[n] ?? -1, buf, buf.length, 0)));
    };
    for (let i = 0; i < ROUNDS; i++) {
      const len = i % 3 === 0 ? BIG : 10 + i * 1013 % 9000;
      let want = pattern(len, i);
      putFile(x.p(i, 'f'), want);
      x.all(want, (n) => getFile(x.p(n, 'f')), 'by path');
      x.all(want, whole, 'by an old descriptor');
      // the same size, so only dropped pages can show it
      const fd = c.ok(c.open(x.p(i + 1, 'f'), c.O.WRONLY));
      c.ok(c.pwrite(fd, 'CHANGED', len >> 1));
      c.close(fd);
      want = `${want.slice(0, len >> 1)}CHANGED${want.slice((len >> 1) + 7)}`.slice(0,
        Math.max(len, (len >> 1) + 7));
      x.all(want, whole, 'overwritten');
      x.all(want, (n) => getFile(x.p(n, 'f')), 'by path');
    }
    for (const fd of fds) c.close(fd);
  },

  'cut and grown'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      putFile(x.p(i, 'f'), 'x'.repeat(3 * PAGE));
      x.all(3 * PAGE, (n) => getFile(x.p(n, 'f')).length, 'cached everywhere');
      c.ok(c.truncate(x.p(i + 1, 'f'), 100));
      x.all('x'.repeat(100), (n) => getFile(x.p(n, 'f')), 'cut');
      c.ok(c.truncate(x.p(i + 2, 'f'), 2 * PAGE));
      x.all(`${'x'.repeat(100)}${'\0'.repeat(2 * PAGE - 100)}`, (n) => getFile(x.p(n, 'f')),
        'grown with zeros');
      const fd = c.ok(c.open(x.p(i, 'f'), c.O.RDWR));
      c.ok(c.pwrite(fd, 'end', 5 * PAGE));
      c.close(fd);
      x.all(`${'x'.repeat(100)}${'\0'.repeat(5 * PAGE - 100)}end`, (n) => getFile(x.p(n, 'f')),
        'a hole');
      c.ok(c.unlink(x.p(i + 1, 'f')));
    }
  },

  'directly and through the cache'(x) {
    putFile(x.p(0, 'f'), '');
    for (let i = 0; i < ROUNDS; i++) {
      const want = pattern(4 * PAGE, i);
      const fd = c.ok(c.open(x.p(i, 'f'), c.O.RDWR | c.O.DIRECT | c.O.CREAT));
      c.ok(c.pwrite(fd, want, 0));
      x.all(want, (n) => getFile(x.p(n, 'f')), 'written directly');
      x.all(want, (n) => getFile(x.p(n, 'f'), c.O.RDONLY | c.O.DIRECT), 'and read so');
      const other = c.ok(c.open(x.p(i + 1, 'f'), c.O.WRONLY));
      c.ok(c.pwrite(other, 'through', PAGE));
      c.close(other);
      const buf = Buffer.alloc(PAGE);
      c.ok(c.pread(fd, buf, PAGE, PAGE));
      x.t.equal(buf.toString('latin1', 0, 7), 'through', 'an old direct descriptor');
      c.close(fd);
    }
  },

  'appended in turn'(x) {
    let want = '';
    const fds = x.nodes.map((_, n) => c.ok(c.open(x.p(n, 'log'),
      c.O.CREAT | c.O.WRONLY | c.O.APPEND)));
    for (let i = 0; i < 4 * ROUNDS; i++) {
      const text = `${i}${','.repeat(i * 37 % 500)}\n`;
      const fd = fds[i % x.count] ?? -1;
      x.t.equal(c.write(fd, text), text.length);
      want += text;
      x.t.equal(c.lseek(fd, 0, c.SEEK.END), BigInt(want.length), 'the end here');
      x.all(want, (n) => getFile(x.p(n, 'log')), 'all of it');
    }
    for (const fd of fds) c.close(fd);
  },

  async 'appended at once'(x) {
    const actors = x.actorEach();
    await Promise.all(actors.map((a, n) => a.run('append', x.p(n, 'log'), `m${n}`, APPENDS, 20)));
    const lines = getFile(x.p(0, 'log')).split('\n');
    x.t.equal(lines.pop(), '', 'the last one is whole');
    x.t.equal(lines.length, APPENDS * x.count, 'none is lost');
    for (const n of x.nodes.keys()) {
      x.t.strictSame(lines.filter((l) => l.startsWith(`m${n} `)),
        Array.from({ length: APPENDS }, (_, i) => `m${n} ${i}`), `those of mount ${n} in order`);
    }
    x.same((n) => getFile(x.p(n, 'log')), 'the same everywhere');
  },

  async 'written at once, in stripes'(x) {
    putFile(x.p(0, 'f'), '');
    const count = size(40, 500);
    const actors = x.actorEach();
    await Promise.all(actors.map((a, n) => a.run('writeStripes', x.p(n, 'f'), n, x.count, count)));
    const want = Array.from({ length: count * x.count },
      (_, i) => String.fromCharCode(97 + i % 26).repeat(PAGE)).join('');
    x.all(true, (n) => getFile(x.p(n, 'f')) === want, 'every block is its writer\'s');
  },

  'mappings of several mounts'(x) {
    putFile(x.p(0, 'f'), 'x'.repeat(2 * PAGE));
    const fds = x.nodes.map((_, n) => c.ok(c.open(x.p(n, 'f'), c.O.RDWR)));
    const maps = fds.map((fd) => mapped(fd, c.PROT.READ | c.PROT.WRITE));
    const ro = x.nodes.map((_, n) => {
      const fd = c.ok(c.open(x.p(n, 'f'), c.O.RDONLY));
      const at = mapped(fd, c.PROT.READ);
      c.close(fd);
      return at;
    });
    const at = (list: bigint[], n: number): bigint => list[n % x.count] ?? 0n;
    for (let i = 0; i < 2 * ROUNDS; i++) {
      const text = `store ${i}`.padEnd(16);
      c.poke(at(maps, i) + BigInt(PAGE), text);
      x.all(text, (n) => c.peek(at(maps, n) + BigInt(PAGE), 16).toString(), 'in other mappings');
      x.all(text, (n) => c.peek(at(ro, n) + BigInt(PAGE), 16).toString(), 'in read-only ones');
      x.all(text, (n) => getFile(x.p(n, 'f')).slice(PAGE, PAGE + 16), 'by read');
      const wrote = `write ${i}`.padEnd(16);
      c.ok(c.pwrite(fds[(i + 1) % x.count] ?? -1, wrote, PAGE));
      x.all(wrote, (n) => c.peek(at(maps, n) + BigInt(PAGE), 16).toString(), 'a write');
      x.all(wrote, (n) => c.peek(at(ro, n) + BigInt(PAGE), 16).toString(), 'a write');
    }
    for (const m of [...maps, ...ro]) c.munmap(m, 2 * PAGE);
    for (const fd of fds) c.close(fd);
  },

  async 'counters in one mapped page'(x) {
    putFile(x.p(0, 'page'), '\0'.repeat(PAGE));
    // two on each mount
    const actors: Actor[] = [...x.actorEach(), ...x.actorEach()];
    const bad = await Promise.all(actors.map((a, n) =>
      a.run('mapCount', x.p(n % x.count, 'page'), n, actors.length, STORES)));
    x.t.strictSame(bad, bad.map(() => ''), 'no stale word, no lost store');
    const page = Buffer.from(getFile(x.p(0, 'page')), 'latin1');
    x.t.strictSame(actors.map((_, n) => page.readUInt32LE(8 * n)), actors.map(() => STORES));
  },

  async 'reads and reservations'(x) {
    putFile(x.p(0, 'f'), 'x'.repeat(10 * PAGE));
    const actors = [...x.actorEach(), ...x.actorEach()];
    const got = await Promise.all(actors.map((a, n) => n < x.count
      ? a.run('readLoop', x.p(n, 'f'), RACE_MS) : a.run('fallocateLoop', x.p(n, 'f'), RACE_MS)));
    x.t.ok(got.every((g) => typeof g === 'number' && g > 0), got.join(', '));
  },

  'space freed elsewhere'(x) {
    // twice what the data device has, always freed by another mount
    const deviceBytes = statSync(x.cluster.data).size;
    for (let i = 0; i * FILE_BYTES < 2 * deviceBytes; i++) {
      const fd = c.ok(c.open(x.p(i, 'big'), c.O.CREAT | c.O.RDWR));
      x.t.equal(c.fallocate(fd, 0, 0, FILE_BYTES), 0, `for the ${i + 1}. time`);
      c.close(fd);
      c.ok(c.truncate(x.p(i + 1, 'big'), 0));
    }
    c.ok(c.unlink(x.p(0, 'big')));
  },
};

runCases('data', CASES);
