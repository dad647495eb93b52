/**
 * The memory of callers: what may be read and written, and what is refused with which error.
 * The caller is this process itself, whose mappings are known.
 */
import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import t from 'tap';
import { CallerMemory, mapped } from '../../host/env/caller_mem.js';

const libc = koffi.load('libc.so.6');
const mmap = libc.func('int64 mmap(int64 addr, size_t len, int prot, int flags, int fd, int64 off)');
const munmap = libc.func('int munmap(int64 addr, size_t len)');

const PAGE = 4096;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const ADDRESS_LIMIT = 2n ** 47n;

function pages(nr: number, prot: number): bigint {
  return BigInt(mmap(0, nr * PAGE, prot, MAP_PRIVATE_ANONYMOUS, -1, 0) as number | bigint);
}

t.test('transfers', async (t) => {
  const warnings: string[] = [];
  const memory = new CallerMemory((line) => { warnings.push(line); });
  const tid = process.pid;
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  const text = (b: Uint8Array): string => new TextDecoder().decode(b);
  const fails = async (what: string, errno: string, p: Promise<unknown>): Promise<void> => {
    const error = await p.then(() => null, (e: unknown) => e as { errno: string });
    t.equal(error?.errno, errno, what);
  };

  const rw = pages(2, PROT_READ | PROT_WRITE);
  await memory.write(tid, rw + BigInt(PAGE) - 3n, bytes('across'));
  t.equal(text(await memory.read(tid, rw + BigInt(PAGE) - 3n, 6)), 'across', 'what was written');
  t.same(await memory.read(tid, rw + BigInt(PAGE) + 3n, 2), new Uint8Array(2), 'and nothing else');
  await memory.write(tid, 0n, new Uint8Array(0));
  const many = await Promise.all(Array.from({ length: 50 }, () => memory.read(tid, rw, PAGE)));
  t.ok(many.every((b) => text(b.subarray(PAGE - 3)) === 'acr'), 'more at once than may run');

  const readOnly = pages(1, PROT_READ);
  t.equal((await memory.read(tid, readOnly, 8)).length, 8, 'read-only memory can be read');
  await fails('and not be written', 'EFAULT', memory.write(tid, readOnly, bytes('x')));
  const none = pages(1, 0);
  await fails('PROT_NONE: read', 'EFAULT', memory.read(tid, none, 1));
  await fails('PROT_NONE: write', 'EFAULT', memory.write(tid, none, bytes('x')));

  const gone = pages(3, PROT_READ | PROT_WRITE);
  munmap(Number(gone) + PAGE, PAGE);
  t.equal((await memory.read(tid, gone, PAGE)).length, PAGE, 'up to a hole');
  await fails('into the hole', 'EFAULT', memory.read(tid, gone, PAGE + 1));
  await fails('across the hole', 'EFAULT', memory.write(tid, gone, new Uint8Array(3 * PAGE)));
  await fails('address 0', 'EFAULT', memory.read(tid, 0n, 1));
  await fails('the last byte of user space and one more', 'EFAULT',
    memory.read(tid, ADDRESS_LIMIT - 1n, 2));
  await fails('kernel addresses', 'EFAULT', memory.read(tid, 2n ** 64n - 8n, 8));
  await fails('a range that wraps', 'EFAULT', memory.read(tid, 2n ** 64n - 8n, 16));
  await fails('nobody', 'EPERM', memory.read(0, rw, 1));
  await fails('a thread that is gone', 'EFAULT', memory.read(2 ** 22 + 1, rw, 1));
  t.same(warnings, []);
});

t.test('mappings', async (t) => {
  const maps = [
    '1000-3000 rw-p 00000000 00:00 0 ',
    '3000-4000 r--p 00000000 00:00 0 [heap]',
    '4000-5000 ---p 00000000 00:00 0 ',
    '6000-7000 -w-p 00000000 00:00 0 ',
    '100000-200000 rw-p 00000000 00:00 0                  [stack]',
    'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]',
    '',
  ].join('\n');
  const check = (start: number, end: number, r: boolean, w: boolean): void => {
    const name = `${start.toString(16)}-${end.toString(16)}`;
    t.equal(mapped(maps, start, end, 'read'), r, `${name} read`);
    t.equal(mapped(maps, start, end, 'write'), w, `${name} write`);
  };
  check(0x1000, 0x3000, true, true);
  check(0x2fff, 0x3001, true, false);
  check(0x3000, 0x4000, true, false);
  check(0x3000, 0x4001, false, false);
  check(0xfff, 0x1001, false, false);
  check(0x4fff, 0x6001, false, false);
  check(0x6000, 0x6001, false, true);
  check(0x1ff000, 0x200000, true, true);
  check(0x1ff000, 0x200001, false, false);
  check(0xf0000, 0x180000, true, true);
  check(0x300000, 0x300001, false, false);
  const own = readFileSync('/proc/self/maps', 'latin1');
  t.ok(own.length > 0 && !mapped(own, 0, 1, 'read'), 'nothing at 0');
});
