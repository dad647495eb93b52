/**
 * The file system row under a real kernel: system calls and ordinary tools on a
 * FUSE mount of the test's item cache, with random waits, then a check of every
 * item. All calls are asynchronous or in other processes, never blocking.
 */
import { execFile, fork } from 'node:child_process';
import { mkdtempSync, promises as fs, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { fuseMissing } from '../fuse/harness.js';
import { seeded } from '../lib/fakeitems.js';
import { repoDir } from '../lib/shared.js';

const exec = promisify(execFile);
const missing = fuseMissing();
const BLOCK = 4096;

interface Mount {
  dir: string;
  check(): Promise<string[]>;
  stop(): Promise<void>;
}

async function mount(seed: number): Promise<Mount> {
  const dir = mkdtempSync(join(tmpdir(), 'scoutfs-fs-'));
  const child = fork(join(repoDir, 'dist/test/fs/serve.js'), [dir, String(seed)],
    { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
  const answer = (): Promise<unknown> => new Promise((done, failed) => {
    child.once('message', done);
    child.once('exit', (code) => { failed(new Error(`the daemon ended: ${code}`)); });
  });
  await answer();
  return {
    dir,
    async check() {
      child.send('check');
      return await answer() as string[];
    },
    async stop() {
      await exec('umount', ['-l', dir]).catch(() => undefined);
      if (child.connected) child.disconnect();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function errno(p: Promise<unknown>): Promise<string> {
  return p.then(() => 'ok', (e: unknown) => (e as NodeJS.ErrnoException).code ?? String(e));
}

t.test('names and attributes', { skip: missing ?? false }, async (t) => {
  const m = await mount(1);
  t.teardown(() => m.stop());
  const p = (name: string): string => join(m.dir, name);
  await fs.mkdir(p('d'));
  t.equal((await fs.stat(p('d'))).nlink, 2);
  t.equal(await errno(fs.mkdir(p('d'))), 'EEXIST');
  t.equal(await errno(fs.rmdir(p('none'))), 'ENOENT');
  await fs.writeFile(p('d/f'), 'contents');
  t.equal(await errno(fs.rmdir(p('d'))), 'ENOTEMPTY');
  t.equal(await errno(fs.unlink(p('d'))), 'EISDIR');
  t.equal(await errno(fs.rmdir(p('d/f'))), 'ENOTDIR');
  t.equal(await errno(fs.rename(p('d'), p('d/inside'))), 'EINVAL');
  t.equal(await errno(fs.writeFile(p('n'.repeat(256)), '')), 'ENAMETOOLONG');
  await fs.link(p('d/f'), p('g'));
  t.equal((await fs.stat(p('g'))).nlink, 2);
  await fs.rename(p('g'), p('h'));
  t.equal(await fs.readFile(p('h'), 'utf8'), 'contents');
  await fs.rename(p('d/f'), p('h'));
  t.equal((await fs.stat(p('h'))).nlink, 2, 'two names of one inode: nothing happens');
  await fs.symlink('d/f', p('l'));
  t.equal(await fs.readlink(p('l')), 'd/f');
  t.equal(await fs.readFile(p('l'), 'utf8'), 'contents');
  await fs.chmod(p('h'), 0o600);
  await fs.chown(p('h'), 5, 6);
  await fs.utimes(p('h'), 1, 2.5);
  const s = await fs.stat(p('h'));
  t.strictSame([s.mode & 0o7777, s.uid, s.gid, s.atimeMs, s.mtimeMs], [0o600, 5, 6, 1000, 2500]);
  const open = await fs.open(p('h'), 'r+');
  await fs.unlink(p('h'));
  await fs.unlink(p('d/f'));
  t.equal((await open.stat()).nlink, 0);
  t.equal((await open.readFile('utf8')), 'contents', 'an unlinked open file can be read');
  await open.close();
  t.strictSame(await m.check(), []);
});

t.test('many names, listed and removed by tools', { skip: missing ?? false }, async (t) => {
  const m = await mount(2);
  t.teardown(() => m.stop());
  const names = Array.from({ length: 500 }, (_, i) => `file-${i}-${'x'.repeat(i % 40)}`);
  for (let i = 0; i < names.length; i += 50) {
    await Promise.all(names.slice(i, i + 50).map((n) => fs.writeFile(join(m.dir, n), n)));
  }
  t.strictSame((await fs.readdir(m.dir)).sort(), [...names].sort());
  const { stdout } = await exec('sh', ['-c', 'ls -l | tail -n +2 | wc -l; cat * | wc -c'],
    { cwd: m.dir });
  const bytes = names.reduce((n, name) => n + name.length, 0);
  t.strictSame(stdout.split(/\s+/).filter((w) => w !== ''), ['500', String(bytes)]);
  await exec('cp', ['-a', join(repoDir, 'host'), join(m.dir, 'copy')]);
  await exec('diff', ['-r', join(repoDir, 'host'), join(m.dir, 'copy')]);
  await exec('sh', ['-c', 'rm -rf *'], { cwd: m.dir });
  t.strictSame(await fs.readdir(m.dir), []);
  t.strictSame(await m.check(), []);
});

t.test('random data against a copy', { skip: missing ?? false }, async (t) => {
  const m = await mount(3);
  t.teardown(() => m.stop());
  const rnd = seeded(33);
  const modelDir = mkdtempSync(join(tmpdir(), 'scoutfs-model-'));
  t.teardown(() => { rmSync(modelDir, { recursive: true, force: true }); });
  const model = await fs.open(join(modelDir, 'f'), 'w+');
  const file = await fs.open(join(m.dir, 'f'), 'w+');
  for (let i = 0; i < 300; i++) {
    const at = Math.floor(rnd() * 3e6);
    const offset = rnd() < 0.3 ? at - at % BLOCK : at;
    const len = 1 + Math.floor(rnd() * (rnd() < 0.1 ? 2.5e6 : 20_000));
    const what = rnd();
    if (what < 0.5) {
      const b = Buffer.alloc(len, 1 + i % 255);
      await Promise.all([file.write(b, 0, len, offset), model.write(b, 0, len, offset)]);
    } else if (what < 0.6) {
      await Promise.all([file.truncate(offset), model.truncate(offset)]);
    } else {
      const [a, b] = [Buffer.alloc(len), Buffer.alloc(len)];
      const [x, y] = await Promise.all([
        file.read(a, 0, len, offset), model.read(b, 0, len, offset)]);
      if (x.bytesRead !== y.bytesRead || !a.equals(b)) t.fail(`step ${i}: read ${offset} ${len}`);
    }
  }
  const [whole, want] = await Promise.all(
    [m.dir, modelDir].map((dir) => fs.readFile(join(dir, 'f'))));
  t.ok(want !== undefined && whole?.equals(want) === true, 'the same at the end');
  await Promise.all([file.close(), model.close()]);
  t.strictSame(await m.check(), []);
});

t.test('appends from many handles', { skip: missing ?? false }, async (t) => {
  const m = await mount(4);
  t.teardown(() => m.stop());
  const path = join(m.dir, 'log');
  await Promise.all(Array.from({ length: 8 }, async (_, i) => {
    const h = await fs.open(path, 'a');
    for (let n = 0; n < 30; n++) await h.write(`${i}:${n}\n`.padStart(90 + i));
    await h.close();
  }));
  const lines = (await fs.readFile(path, 'utf8')).split('\n').slice(0, -1).map((l) => l.trim());
  t.equal(new Set(lines).size, 240, 'no line is lost or torn');
  t.strictSame(await m.check(), []);
});
