/**
 * Rows of upstream's test catalogue (acceptance.md 2 to 4) that need one mount and no
 * private ioctl, by their names there; those of single calls are in the areas beside:
 * simple-readdir in readdir.ts, o_tmpfile in tmpfile.ts, renameat2-noreplace and
 * mkdir-rename-rmdir in rename.ts, inode-items-updated in mounts.test.ts, and
 * basic-block-counts' part without release and stage in fields.ts.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Rig, nightly, skipWithoutFuse } from '../../lib/mounted.js';
import { repoDir } from '../../lib/shared.js';
import * as c from '../../lib/syscalls.js';
import { Random } from '../../exercise/exerciser.js';
import { fdOf, get, put } from './kit.js';

const skip = skipWithoutFuse();
/** The catalogue's numbers in the nightly, a taste of them in CI. */
const LONG = nightly();
const CREATES = { names: LONG ? 100_000 : 700, large: LONG ? 1_200_000 : 3000 };
const RENAMES = LONG ? 5000 : 300;
const RACE_MS = LONG ? 10_000 : 1500;
const TIMEOUT_MS = LONG ? 3_600_000 : 240_000;

const rig = new Rig('posix-acceptance');

/** Runs a script with the system calls as `c` in a process of its own. */
function script(text: string): Promise<number | NodeJS.Signals | null> {
  const head = `const c = await import(${
    JSON.stringify(join(repoDir, 'dist/test/lib/syscalls.js'))});\n`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', head + text],
    { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'inherit', 'inherit'] });
  return new Promise((resolve) => {
    child.on('exit', (code, signal) => { resolve(signal ?? code); });
  });
}

/** `text` four times at once, with `nr` for the number of the process. */
function four(text: string): Promise<(number | string | null)[]> {
  return Promise.all([0, 1, 2, 3].map((nr) => script(`const nr = ${nr};\n${text}`)));
}

function listed(dir: string): Map<string, number> {
  const fd = fdOf(dir, c.O.RDONLY);
  const all = new Map(c.listAll(fd).map((e) => [e.name, e.ino]));
  c.close(fd);
  all.delete('.');
  all.delete('..');
  return all;
}

async function start(): Promise<string> {
  await rig.mkfs();
  rig.mount();
  return rig.mnt;
}

void t.test('rows of the catalogue', { skip, timeout: TIMEOUT_MS }, async (tt) => {
  tt.teardown(() => { rig.end(); });
  const mnt = await start();

  await tt.test('basic-truncate', (at) => {
    const p = join(mnt, 'truncated');
    put(p, 'Z'.repeat(8192));
    c.ok(c.truncate(p, 4097));
    c.ok(c.truncate(p, 8192));
    const want = 'Z'.repeat(4097) + '\0'.repeat(4095);
    at.equal(get(p), want);
    c.ok(c.truncate(p, 1024));
    c.ok(c.truncate(p, 4096));
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    at.equal(get(p), 'Z'.repeat(1024) + '\0'.repeat(3072), 'also after caches were dropped');
    at.end();
  });

  await tt.test('createmany-parallel', { timeout: TIMEOUT_MS }, async (at) => {
    const dir = join(mnt, 'parallel');
    c.ok(c.mkdir(dir));
    at.strictSame(await four(`for (let i = 0; i < 1000; i++) {
      c.ok(c.creat(${JSON.stringify(dir)} + '/' + nr + '-' + i));
    }`), [0, 0, 0, 0]);
    at.equal(listed(dir).size, 4000);
    at.equal(new Set(listed(dir).values()).size, 4000, 'each is an inode of its own');
  });

  await tt.test('createmany-large-names', { timeout: TIMEOUT_MS }, async (at) => {
    const dir = join(mnt, 'large-names');
    c.ok(c.mkdir(dir));
    at.strictSame(await four(`for (let i = 0; i < ${CREATES.names}; i++) {
      c.ok(c.creat(${JSON.stringify(dir)} + '/' + nr + '-' + i + '-' + 'n'.repeat(200)));
    }`), [0, 0, 0, 0]);
    at.equal(listed(dir).size, 4 * CREATES.names);
  });

  await tt.test('createmany-rename-large-dir', (at) => {
    const dir = join(mnt, 'large');
    c.ok(c.mkdir(dir));
    for (let i = 0; i < CREATES.large; i++) c.ok(c.creat(`${dir}/f${i}`));
    const before = listed(dir);
    const rnd = new Random(5);
    for (let i = 0; i < RENAMES; i++) {
      const name = `${dir}/f${rnd.below(CREATES.large)}`;
      c.ok(c.rename(name, `${name}-away`));
      c.ok(c.rename(`${name}-away`, name));
    }
    at.strictSame([...listed(dir)].sort(), [...before].sort());
    at.end();
  });

  await tt.test('fallocate', { timeout: TIMEOUT_MS }, async (at) => {
    const dir = join(mnt, 'fallocate');
    c.ok(c.mkdir(dir));
    const fd = fdOf(`${dir}/big`, c.O.CREAT | c.O.RDWR);
    at.equal(c.fallocate(fd, 0, 0, 128 << 20), 0);
    c.close(fd);
    put(`${dir}/read`, Buffer.alloc(1 << 20, 'r'));
    const until = `const end = Date.now() + ${RACE_MS};\n`;
    const reader = script(`${until}const b = Buffer.alloc(1 << 20);
      while (Date.now() < end) {
        const fd = c.ok(c.open(${JSON.stringify(`${dir}/read`)}, c.O.RDONLY | c.O.DIRECT));
        if (c.pread(fd, b, b.length, 0) !== b.length || b.some((v) => v !== 114)) process.exit(9);
        c.close(fd);
      }`);
    const maker = script(`${until}let i = 0;
      const fd = c.ok(c.open(${JSON.stringify(`${dir}/made`)}, c.O.CREAT | c.O.RDWR));
      while (Date.now() < end) c.ok(c.fallocate(fd, 0, 4096 * i++, 4096));
      if (c.fstat(fd).size !== BigInt(4096 * i)) process.exit(8);`);
    at.strictSame(await Promise.all([reader, maker]), [0, 0], 'no deadlock, nothing lost');
  });

  await tt.test('mmap', { timeout: TIMEOUT_MS }, async (at) => {
    // The part on one mount: five processes share a mapped file, each owns every fifth word.
    // Few pages, so that they meet.
    const p = join(mnt, 'mapped');
    put(p, Buffer.alloc(1 << 20));
    const runs = [0, 1, 2, 3, 4].map((nr) => script(`
      const fd = c.ok(c.open(${JSON.stringify(p)}, c.O.RDWR));
      const at = c.mmap(fd, 1 << 20, 3, 1);
      const mine = new Map();
      const end = Date.now() + ${RACE_MS};
      const word = Buffer.alloc(4);
      for (let i = 1; Date.now() < end || i < 500; i++) {
        const o = (((i * 7919) % 1600) * 5 + ${nr}) * 4;
        word.writeUInt32LE(i);
        if (i % 3 === 0) c.ok(c.pwrite(fd, word, o)); else c.poke(at + BigInt(o), word);
        mine.set(o, i);
        const old = [...mine.keys()][i % Math.min(mine.size, 50)];
        if (c.peek(at + BigInt(old), 4).readUInt32LE() !== mine.get(old)) process.exit(9);
        if (i % 100 === 0) c.ok(c.msync(at, 1 << 20, 1));
      }
      c.munmap(at, 1 << 20);
      const b = Buffer.alloc(1 << 20);
      c.ok(c.pread(fd, b, b.length, 0));
      for (const [o, v] of mine) if (b.readUInt32LE(o) !== v) process.exit(8);`));
    at.strictSame(await Promise.all(runs), [0, 0, 0, 0, 0]);
  });

  await tt.test('simple-xattr-unit', (at) => {
    const p = join(mnt, 'xattrs');
    put(p);
    const [CREATE, REPLACE] = [1, 2];
    at.equal(c.setxattr(p, 'user.x', 'v', CREATE | REPLACE), 'EINVAL');
    at.equal(c.setxattr(p, 'user.x', 'v', REPLACE), 'ENODATA');
    at.equal(c.setxattr(p, 'user.x', 'v', CREATE), 0);
    at.equal(c.setxattr(p, 'user.x', 'v', CREATE), 'EEXIST');
    at.equal(c.setxattr(p, 'user.x', 'w', REPLACE), 0);
    at.equal(c.setxattr(p, 'user.x', 'w', 8), 'EINVAL');
    at.equal(c.setxattr(p, `user.${'n'.repeat(250)}`, 'v'), 0);
    at.equal(c.setxattr(p, `user.${'n'.repeat(251)}`, 'v'), 'ERANGE');
    at.equal(c.setxattr(p, 'user.large', Buffer.alloc(65_536)), 'E2BIG');
    const rnd = new Random(3);
    const lengths = [65_535, 0, 1, 877, 882, 883, 884, 896, 1779, 1780, 65_534,
      ...Array.from({ length: LONG ? 500 : 60 }, () => rnd.below(65_536))];
    for (const len of lengths) {
      const value = String.fromCharCode(33 + len % 90).repeat(len);
      if (c.setxattr(p, 'user.x', value) !== 0 || c.getxattr(p, 'user.x')[0] !== value) {
        at.fail(`a value of ${len} bytes`);
      }
    }
    at.equal(c.removexattr(p, 'user.x'), 0);
    at.equal(c.removexattr(p, 'user.x'), 'ENODATA');
    at.equal(c.getxattr(p, 'user.x'), 'ENODATA');
    at.end();
  });

  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});
