/**
 * Mapped pages beside write(2): a page that was read before a WRITE is executed, and made
 * dirty by a mapping, is not written over it afterwards (docs/decisions/0015).
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import * as c from '../lib/syscalls.js';
import { fuseMissing, mountMemfs, until } from './harness.js';
import type { Daemon } from './harness.js';

const missing = fuseMissing();
const PAGE = 4096;
const PAGES = 64;
const LEN = PAGES * PAGE;

/** A mapped file of `a`s, and writes to it that are held back while its pages are used. */
class Mapped {
  readonly path: string;
  readonly at: bigint;
  private readonly fd: number;
  private ended = false;

  /** @param made a file that is there already */
  constructor(readonly daemon: Daemon, made: string | null = null) {
    this.path = made ?? join(daemon.dir, 'f');
    if (made === null) fs.writeFileSync(this.path, 'a'.repeat(LEN));
    this.fd = c.ok(c.open(this.path, c.O.RDWR));
    const at = c.mmap(this.fd, LEN, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
    if (typeof at === 'string') throw new Error(`mmap: ${at}`);
    this.at = at;
  }

  /** Runs `meanwhile` after the kernel has sent a WRITE and before the daemon executes it. */
  async during(flags: number, text: string, offset: number | null, meanwhile: () => void):
  Promise<void> {
    const { daemon } = this;
    await daemon.call('hold', { op: 'write' });
    const handle = await fs.promises.open(this.path, flags);
    const writing = handle.write(text, offset);
    await until(async () => (await daemon.state()).heldBack > 0, 'the write');
    meanwhile();
    await daemon.call('release', { op: 'write' });
    await writing;
    await handle.close();
  }

  poke(offset: number, text: string): void {
    c.poke(this.at + BigInt(offset), text);
  }

  seen(offset: number, len: number): string {
    return c.peek(this.at + BigInt(offset), len).toString();
  }

  /** What is in the file, past every cache. */
  stored(offset: number, len: number): string {
    c.ok(c.msync(this.at, LEN, c.MS.SYNC));
    const buf = Buffer.alloc(len);
    c.ok(c.pread(this.fd, buf, len, offset));
    return buf.toString();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    c.munmap(this.at, LEN);
    c.close(this.fd);
  }
}

function mapped(name: string, fn: (t: Test, m: Mapped) => Promise<void>): void {
  void t.test(name, { skip: missing ?? false }, async (tt) => {
    const daemon = await mountMemfs({ guarded: true });
    tt.teardown(() => daemon.stop());
    const m = new Mapped(daemon);
    try {
      await fn(tt, m);
    } finally {
      m.end();
    }
  });
}

mapped('a page made dirty while a write is on its way', async (tt, m) => {
  await m.during(fs.constants.O_WRONLY, 'WROTE', 100, () => { m.poke(200, 'mapped'); });
  tt.equal(m.seen(100, 5), 'WROTE', 'the mapping sees the write');
  tt.equal(m.stored(100, 5), 'WROTE', 'which was not lost');
  tt.equal(m.stored(200, 6), 'mapped', 'nor was the store');
  tt.ok(((await m.daemon.state()).drain['cleans'] ?? 0) > 0);
});

mapped('a page only read while a write is on its way, and made dirty later', async (tt, m) => {
  await m.during(fs.constants.O_RDWR, 'WROTE', 3 * PAGE - 2, () => {
    tt.equal(m.seen(2 * PAGE, 1), 'a');
    tt.equal(m.seen(3 * PAGE, 1), 'a');
  });
  m.poke(2 * PAGE, 'one');
  m.poke(3 * PAGE + 500, 'two');
  tt.equal(m.stored(3 * PAGE - 2, 5), 'WROTE', 'over two pages');
  tt.equal(m.stored(2 * PAGE, 3) + m.stored(3 * PAGE + 500, 3), 'onetwo');
});

mapped('pages that were read before the file was open for writing', async (tt, m) => {
  m.end();
  const ro = c.ok(c.open(m.path, c.O.RDONLY));
  c.ok(c.pread(ro, Buffer.alloc(LEN), LEN, 0));
  c.close(ro);
  const again = new Mapped(m.daemon, m.path);
  await again.during(fs.constants.O_WRONLY, 'WROTE', 5 * PAGE, () => {
    again.poke(5 * PAGE + 10, 'mapped');
  });
  tt.equal(again.stored(5 * PAGE, 5) + again.stored(5 * PAGE + 10, 6), 'WROTEmapped');
  again.end();
});

mapped('an append beside a dirty last page', async (tt, m) => {
  await m.during(fs.constants.O_WRONLY | fs.constants.O_APPEND, 'END', null, () => {
    m.poke(LEN - 6, 'mapped');
  });
  tt.equal(m.stored(LEN - 6, 9), 'mappedEND');
});

mapped('pages here and there are as good as all of them', async (tt, m) => {
  await m.during(fs.constants.O_WRONLY, 'W'.repeat(LEN), 0, () => {
    for (let nr = 0; nr < PAGES; nr += 3) m.poke(nr * PAGE, 'x');
  });
  tt.equal(m.stored(0, LEN), 'W'.repeat(LEN), 'the write was later');
});

mapped('without a mapping nothing is asked of the kernel', async (tt, m) => {
  m.end();
  const before = (await m.daemon.state()).drain['cleans'] ?? 0;
  const fd = c.ok(c.open(m.path, c.O.RDWR));
  for (let i = 0; i < 20; i++) {
    c.ok(c.pwrite(fd, 'text', i * 1000));
    c.ok(c.pread(fd, Buffer.alloc(10), 10, i * 1000));
  }
  c.close(fd);
  tt.equal((await m.daemon.state()).drain['cleans'], before);
});
