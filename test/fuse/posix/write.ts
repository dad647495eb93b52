/**
 * read(2) and write(2) at every offset and size, positions, holes, limits.
 */
import { spawnSync } from 'node:child_process';
import * as c from '../../lib/syscalls.js';
import { fdOf, get, put, tick } from './kit.js';
import type { Area } from './kit.js';

const { O, SEEK } = c;

function bytes(n: number, seed: number): Buffer {
  return Buffer.from(
    Uint8Array.from({ length: n }, (_, i) => (i * 31 + seed * 17 + (i >> 7)) & 255));
}

export function write(x: Area): void {
  x.both('any offset and size, against a copy', (t, d) => {
    for (const flags of [0, O.DIRECT, O.SYNC]) {
      const fd = fdOf(`${d}/f${flags}`, O.CREAT | O.RDWR | flags);
      const model = Buffer.alloc(200_000);
      let size = 0;
      let seed = 1;
      for (const at of [0, 1, 4095, 4096, 8191, 100, 65_536, 12_288]) {
        for (const len of [1, 2, 511, 512, 4095, 4096, 4097, 8192, 20_000, 70_000]) {
          const data = bytes(len, seed++);
          if (c.pwrite(fd, data, at) !== len) t.fail(`write ${len} at ${at}`);
          data.copy(model, at);
          size = Math.max(size, at + len);
        }
        const back = Buffer.alloc(200_000);
        t.equal(c.pread(fd, back, back.length, 0), size);
        t.ok(back.subarray(0, size).equals(model.subarray(0, size)), `after ${at}`);
      }
      t.equal(c.fstat(fd).size, BigInt(size));
      c.close(fd);
      t.ok(Buffer.from(get(`${d}/f${flags}`), 'latin1').equals(model.subarray(0, size)));
    }
  });

  x.both('large requests', (t, d) => {
    const data = bytes(5 * 1024 * 1024 + 17, 3);
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    t.equal(c.pwrite(fd, data, 1000), data.length, 'one call, several requests');
    const back = Buffer.alloc(data.length + 2000);
    t.equal(c.pread(fd, back, back.length, 0), data.length + 1000);
    t.ok(back.subarray(1000, 1000 + data.length).equals(data));
    c.close(fd);
  });

  x.both('positions', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    t.equal(c.write(fd, 'hello'), 5);
    t.equal(c.lseek(fd, 0, SEEK.CUR), 5n);
    t.equal(c.pwrite(fd, 'J', 0), 1);
    t.equal(c.lseek(fd, 0, SEEK.CUR), 5n, 'pwrite does not move');
    t.equal(c.lseek(fd, 10, SEEK.END), 15n, 'behind the end');
    t.equal(c.fstat(fd).size, 5n);
    t.equal(c.read(fd, Buffer.alloc(1)), 0);
    t.equal(c.write(fd, '!'), 1);
    t.equal(get(`${d}/f`), `Jello${'\0'.repeat(10)}!`);
    t.equal(c.lseek(fd, -17, SEEK.CUR), 'EINVAL');
    t.equal(c.lseek(fd, -1, SEEK.SET), 'EINVAL');
    t.equal(c.lseek(fd, 0, 99), 'EINVAL');
    t.equal(c.lseek(fd, -4, SEEK.END), 12n);
    t.equal(c.pread(fd, Buffer.alloc(1), 1, -1), 'EINVAL');
    t.equal(c.pwrite(fd, 'x', -1), 'EINVAL');
    t.equal(c.pread(fd, Buffer.alloc(1), 0, 0), 0);
    const before = c.fstat(fd);
    tick();
    t.equal(c.write(fd, ''), 0);
    t.strictSame(c.fstat(fd), before, 'writing nothing changes nothing');
    c.close(fd);
  });

  x.both('holes and blocks', (t, d) => {
    const fd = fdOf(`${d}/f`, O.CREAT | O.RDWR);
    for (const block of [0, 10, 1000, 1_000_000, 2 ** 40]) {
      t.equal(c.pwrite(fd, 'x', block * 4096 + 100), 1);
    }
    t.equal(c.fstat(fd).size, BigInt(2 ** 40 * 4096 + 101));
    const buf = Buffer.alloc(8192, 1);
    t.equal(c.pread(fd, buf, 8192, 999 * 4096), 8192);
    t.ok(buf.every((b, i) => b === (i === 4196 ? 120 : 0)), 'zeros around the byte');
    t.ok(c.fstat(fd).blocks >= 40, 'only what was written has blocks');
    c.close(fd);
  });

  x.both('several handles', (t, d) => {
    put(`${d}/f`, 'a'.repeat(10_000));
    const [a, b, r] = [fdOf(`${d}/f`, O.RDWR), fdOf(`${d}/f`, O.WRONLY), fdOf(`${d}/f`, O.RDONLY)];
    const one = Buffer.alloc(1);
    for (let i = 0; i < 200; i++) {
      const at = i * 47 % 10_000;
      c.ok(c.pwrite(i % 2 === 0 ? a : b, Buffer.from([65 + i % 26]), at));
      for (const fd of [r, a]) {
        if (c.pread(fd, one, 1, at) !== 1 || one[0] !== 65 + i % 26) t.fail(`round ${i}`);
      }
    }
    t.equal(c.write(b, 'zz'), 2);
    t.equal(c.read(r, one), 1);
    t.equal(one.toString(), 'z', 'a cached reader sees it at once');
    for (const fd of [a, b, r]) c.close(fd);
  });

  x.both('RLIMIT_FSIZE', (t, d) => {
    const run = spawnSync('bash', ['-c',
      `trap "" XFSZ; ulimit -f 8; head -c 20000 /dev/zero >"$0/f"; echo $?; stat -c %s "$0/f";
       truncate -s 9000 "$0/f"; echo $?; stat -c %s "$0/f"`, d], { encoding: 'utf8' });
    const [status, size, cut, after] = run.stdout.trim().split('\n');
    t.equal(size, '8192', 'written up to the limit');
    t.not(status, '0');
    t.not(cut, '0');
    t.equal(after, '8192');
    t.match(run.stderr, /File too large/);
  });
}
