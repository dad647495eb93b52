/**
 * Mapped files: private and shared, with reads and writes beside them, behind the end.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as c from '../../lib/syscalls.js';
import { repoDir } from '../../lib/shared.js';
import { fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { MAP, O, PROT } = c;
const RW = PROT.READ | PROT.WRITE;
const PAGE = 4096;

function map(fd: number, n: number, prot: number, flags: number, offset = 0): bigint {
  const at = c.mmap(fd, n, prot, flags, offset);
  if (typeof at === 'string') throw new Error(`mmap: ${at}`);
  return at;
}

export function mmap(x: Area): void {
  x.both('shared', (t, d) => {
    const p = `${d}/f`;
    put(p, 'a'.repeat(3 * PAGE));
    const fd = fdOf(p, O.RDWR);
    const at = map(fd, 3 * PAGE, RW, MAP.SHARED);
    const second = map(fd, PAGE, PROT.READ, MAP.SHARED, PAGE);
    const was = c.fstat(fd);
    tick();
    c.poke(at + BigInt(PAGE) + 10n, 'mapped');
    t.equal(c.peek(second + 10n, 6).toString(), 'mapped', 'another map sees it');
    const buf = Buffer.alloc(6);
    t.equal(c.pread(fd, buf, 6, PAGE + 10), 6);
    t.equal(buf.toString(), 'mapped', 'a read sees it');
    t.equal(c.pwrite(fd, 'WRITE', PAGE + 10), 5);
    t.equal(c.peek(at + BigInt(PAGE) + 10n, 6).toString(), 'WRITEd', 'a map sees writes');
    c.poke(at, 'first');
    t.equal(c.msync(at, 3 * PAGE, c.MS.SYNC), 0);
    t.equal(get(p).slice(0, 7), 'firstaa');
    const now = c.fstat(fd);
    t.ok(now.mtime > was.mtime && now.ctime > was.ctime, 'msync made it a change');
    c.poke(at + BigInt(2 * PAGE), 'unsynced');
    t.equal(c.munmap(at, 3 * PAGE), 0);
    t.equal(c.munmap(second, PAGE), 0);
    c.close(fd);
    t.equal(get(p).slice(2 * PAGE, 2 * PAGE + 8), 'unsynced', 'written when it was unmapped');
  });

  x.both('private', (t, d) => {
    put(`${d}/f`, 'a'.repeat(PAGE));
    for (const flags of [O.RDONLY, O.RDWR]) {
      const fd = fdOf(`${d}/f`, flags);
      const at = map(fd, PAGE, RW, MAP.PRIVATE);
      c.poke(at, 'private');
      t.equal(c.peek(at, 8).toString(), 'privatea');
      t.equal(get(`${d}/f`), 'a'.repeat(PAGE));
      c.munmap(at, PAGE);
      c.close(fd);
    }
  });

  x.both('protections and flags', (t, d) => {
    put(`${d}/f`, 'x'.repeat(PAGE));
    const r = fdOf(`${d}/f`, O.RDONLY);
    const w = fdOf(`${d}/f`, O.WRONLY);
    t.equal(c.mmap(r, PAGE, RW, MAP.SHARED), 'EACCES');
    t.equal(c.mmap(w, PAGE, PROT.READ, MAP.SHARED), 'EACCES');
    t.equal(c.mmap(r, 0, PROT.READ, MAP.SHARED), 'EINVAL');
    t.equal(c.mmap(r, PAGE, PROT.READ, MAP.SHARED, 100), 'EINVAL');
    t.equal(c.mmap(r, PAGE, PROT.READ, 0), 'EINVAL');
    const at = map(r, PAGE, PROT.READ, MAP.SHARED);
    c.close(r);
    c.close(w);
    t.equal(c.unlink(`${d}/f`), 0);
    t.equal(c.peek(at, 3).toString(), 'xxx', 'a map outlives handle and name');
    c.munmap(at, PAGE);
  });

  x.root('the rest of the last page', (t, d) => {
    put(`${d}/f`, 'abc');
    const fd = fdOf(`${d}/f`, O.RDWR);
    const at = map(fd, PAGE, RW, MAP.SHARED);
    t.ok(c.peek(at + 3n, PAGE - 3).every((b) => b === 0), 'is zeros');
    c.poke(at + 3n, 'behind the end');
    t.equal(c.msync(at, PAGE, c.MS.SYNC), 0);
    t.equal(c.fstat(fd).size, 3n, 'stores there do not grow the file');
    c.munmap(at, PAGE);
    t.equal(c.ftruncate(fd, 100), 0);
    t.equal(get(`${d}/f`), `abc${'\0'.repeat(97)}`, 'nor do they come back');
    c.close(fd);
  });

  x.root('a page behind the end', (t, d) => {
    const script = (what: string): string => `
      const c = await import(${JSON.stringify(join(repoDir, 'dist/test/lib/syscalls.js'))});
      const fd = c.open(${JSON.stringify(`${d}/f`)}, 2);
      const at = c.mmap(fd, 8192, 3, 1);
      c.peek(at, 1);
      ${what}`;
    const run = (what: string): NodeJS.Signals | null => {
      put(`${d}/f`, 'x'.repeat(PAGE));
      return spawnSync(process.execPath, ['--input-type=module', '-e', script(what)],
        { env: { PATH: process.env['PATH'] } }).signal;
    };
    t.equal(run('c.peek(at + 5000n, 1);'), 'SIGBUS', 'read');
    t.equal(run('c.poke(at + 5000n, "x");'), 'SIGBUS', 'write');
    t.equal(run('c.ftruncate(fd, 0); c.peek(at, 1);'), 'SIGBUS', 'cut off while mapped');
    t.equal(run('c.ftruncate(fd, 8192); c.peek(at + 5000n, 1);'), null, 'grown while mapped');
  });

  x.both('a map as the buffer of reads and writes', (t, d) => {
    // of the same file too: the call faults pages in that only its own mount can fill
    const p = `${d}/f`;
    put(p, Buffer.alloc(16 * PAGE, 'abcdefgh'));
    put(`${d}/other`, Buffer.alloc(4 * PAGE, 'x'));
    for (const flags of [O.RDWR, O.RDWR | O.DIRECT]) {
      const fd = fdOf(p, flags);
      const other = fdOf(`${d}/other`, flags);
      const at = map(fd, 16 * PAGE, RW, MAP.SHARED);
      t.equal(c.pwriteFrom(fd, at, 4 * PAGE, 8 * PAGE + 3), 4 * PAGE, 'write, pages not there');
      t.equal(c.peek(at + BigInt(8 * PAGE), 8).toString(), 'abcabcde');
      t.equal(c.preadTo(fd, at + BigInt(4 * PAGE), 2 * PAGE, 8 * PAGE + 3), 2 * PAGE, 'read');
      t.equal(c.pwriteFrom(other, at + 1n, PAGE, 0), PAGE, 'write to another file');
      t.equal(c.preadTo(other, at, PAGE, 0), PAGE);
      t.equal(c.peek(at, 4).toString(), 'bcde');
      c.poke(at, 'abcd');
      c.poke(at + BigInt(4 * PAGE), 'dirty');
      t.equal(c.pwriteFrom(fd, at + BigInt(4 * PAGE), PAGE, 4 * PAGE), PAGE, 'onto itself');
      t.equal(c.msync(at, 16 * PAGE, c.MS.SYNC), 0);
      t.equal(get(p).slice(4 * PAGE, 4 * PAGE + 5), 'dirty');
      c.munmap(at, 16 * PAGE);
      put(p, Buffer.alloc(16 * PAGE, 'abcdefgh'));
      c.close(fd);
      c.close(other);
    }
  });

  x.both('sparse files and many pages', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    c.ok(c.ftruncate(fd, 512 * PAGE));
    const at = map(fd, 512 * PAGE, RW, MAP.SHARED);
    for (let i = 0; i < 512; i += 3) c.poke(at + BigInt(i * PAGE + i), Buffer.from([i % 255 + 1]));
    t.equal(c.msync(at, 512 * PAGE, c.MS.SYNC), 0);
    c.munmap(at, 512 * PAGE);
    t.equal(c.fstat(fd).blocks, 171 * 8, 'only the pages that were written');
    c.close(fd);
    const all = Buffer.from(get(`${d}/f`), 'latin1');
    t.ok(all.every((b, i) => {
      const page = Math.floor(i / PAGE);
      return b === (page % 3 === 0 && i % PAGE === page ? page % 255 + 1 : 0);
    }));
  });
}
