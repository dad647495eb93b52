/**
 * Files that are removed while somebody has them open, on whichever mount: their contents stay
 * until the last one has let go, and then they are gone, from the count of inodes too.
 *
 * | row of the acceptance catalogue | case |
 * |---|---|
 * | inode-deletion | removed by one, open on others; open by several; a mount that leaves |
 * | o_tmpfile | files without a name |
 * | export-lookup-evict-race | handles and evictions |
 * | export-get-name-parent | handles after everybody mounted anew |
 */
import { handMade, openHandle } from '../lib/handles.js';
import { until } from '../lib/clustermounts.js';
import * as c from '../lib/syscalls.js';
import type { Case, CaseFn } from './kit.js';
import { forceMerge, getFile, putFile, runCases, size, syncAll } from './kit.js';

const ROUNDS = size(3, 40);
const RACE_MS = size(2000, 30_000);
const ESTALE = -116;

/** Opens an inode by its number. @returns 0, or the negative errno */
function byHandle(x: Case, nr: number, ino: number): number {
  const dirFd = c.ok(c.open(x.cluster.node(nr).mnt, c.O.RDONLY | c.O.DIRECTORY));
  const fd = openHandle(dirFd, handMade(ino, 4), c.O.RDONLY);
  c.close(dirFd);
  if (fd >= 0) c.close(fd);
  return Math.min(fd, 0);
}

/** Inodes in use, as df shows them. */
function inodes(x: Case): number {
  const s = c.statfs(x.cluster.node(0).mnt);
  return s.files - s.ffree;
}

async function gone(x: Case, ino: number): Promise<void> {
  await until(() => x.nodes.every((_, n) => byHandle(x, n, ino) === ESTALE),
    `inode ${ino} is gone everywhere`);
}

/** An actor that keeps the file open. */
async function holder(x: Case, nr: number, name: string): Promise<{
  text: () => Promise<string>; letGo: () => Promise<void>; end: () => Promise<void>;
}> {
  const a = x.actor();
  const fd = await a.run('hold', x.p(nr, name));
  return {
    text: () => a.run('heldText', fd),
    letGo: () => a.run('letGo'),
    end: () => a.end(),
  };
}

const CASES: Record<string, CaseFn> = {
  async 'removed by one, open on another'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      putFile(x.p(i, 'f'), `text ${i}`);
      const { ino } = c.lstat(x.p(i, 'f'));
      const fd = c.ok(c.open(x.p(i + 1, 'f'), c.O.RDWR));
      c.ok(c.unlink(x.p(i + 2, 'f')));
      x.all('ENOENT', (n) => c.statErr(x.p(n, 'f')), 'the name is gone');
      x.t.equal(c.fstat(fd).nlink, 0);
      const buf = Buffer.alloc(100);
      x.t.equal(buf.toString('latin1', 0, c.ok(c.pread(fd, buf, 100, 0))), `text ${i}`);
      c.ok(c.pwrite(fd, 'still here', 0));
      c.ok(c.fsync(fd));
      x.t.equal(buf.toString('latin1', 0, c.ok(c.pread(fd, buf, 10, 0))), 'still here');
      c.close(fd);
      await gone(x, ino);
    }
  },

  async 'open by several'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      putFile(x.p(i, 'f'), `text ${i}`);
      const { ino } = c.lstat(x.p(i, 'f'));
      const holders = await Promise.all(x.nodes.map((_, n) => holder(x, n, 'f')));
      c.ok(c.unlink(x.p(i, 'f')));
      for (let k = 0; k < holders.length; k++) {
        const h = holders[(i + k) % holders.length];
        x.t.equal(await h?.text(), `text ${i}`, 'still readable');
        await h?.letGo();
      }
      await gone(x, ino);
      await Promise.all(holders.map((h) => h.end()));
    }
  },

  async 'replaced by a rename, and mapped'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      putFile(x.p(i, 'old'), 'old '.repeat(3000));
      const { ino } = c.lstat(x.p(i, 'old'));
      const fd = c.ok(c.open(x.p(i + 1, 'old'), c.O.RDONLY));
      const at = c.mmap(fd, 12_000, c.PROT.READ, c.MAP.SHARED);
      c.close(fd);
      putFile(x.p(i + 2, 'new'), 'new');
      c.ok(c.rename(x.p(i, 'new'), x.p(i, 'old')));
      x.all('new', (n) => getFile(x.p(n, 'old')), 'replaced');
      if (typeof at === 'string') throw new Error(`mmap: ${at}`);
      x.t.equal(c.peek(at + 8192n, 4).toString(), 'old ', 'the mapping keeps it');
      c.munmap(at, 12_000);
      await gone(x, ino);
    }
  },

  async 'files without a name'(x) {
    for (let i = 0; i < ROUNDS; i++) {
      const fd = c.ok(c.open(x.p(i), c.O.TMPFILE | c.O.RDWR, 0o600), 'O_TMPFILE');
      c.ok(c.write(fd, 'made without a name'));
      const { ino } = c.fstat(fd);
      if (i % 2 === 0) {
        c.ok(c.linkat(-100, `/proc/self/fd/${fd}`, -100, x.p(i, 'named'), c.AT_SYMLINK_FOLLOW));
        c.close(fd);
        x.all('made without a name', (n) => getFile(x.p(n, 'named')), 'now it has one');
        c.ok(c.unlink(x.p(i + 1, 'named')));
      } else {
        c.close(fd);
      }
      await gone(x, ino);
    }
  },

  async 'the count of inodes comes back'(x) {
    syncAll(x);
    const before = inodes(x);
    const fds: number[] = [];
    for (let i = 0; i < 20; i++) {
      putFile(x.p(i, `f${i}`), 'x');
      fds.push(c.ok(c.open(x.p(i + 1, `f${i}`), c.O.RDONLY)));
    }
    for (let i = 0; i < 20; i++) c.ok(c.unlink(x.p(i + 2, `f${i}`)));
    syncAll(x);
    x.t.equal(inodes(x), before + 20, 'open ones count');
    for (const fd of fds) c.close(fd);
    await until(() => {
      syncAll(x);
      return inodes(x) === before;
    }, 'the count is what it was');
  },

  async 'a mount that leaves'(x) {
    const last = x.count - 1;
    putFile(x.p(0, 'f'), 'kept');
    const { ino } = c.lstat(x.p(0, 'f'));
    // not to be inherited by the daemon that is about to start
    const fd = c.ok(c.open(x.p(0, 'f'), c.O.RDONLY | c.O.CLOEXEC));
    c.ok(c.unlink(x.p(last, 'f')));
    await x.cluster.node(last).remount();
    const buf = Buffer.alloc(10);
    x.t.equal(buf.toString('latin1', 0, c.ok(c.pread(fd, buf, 10, 0))), 'kept');
    x.t.equal(byHandle(x, last, ino), ESTALE, 'what has no name cannot be opened anew');
    c.close(fd);
    // the one that removed it has forgotten it: a scan has to find it
    forceMerge(x);
    await gone(x, ino);
  },

  async 'handles and evictions'(x) {
    putFile(x.p(0, 'f'), '');
    const { ino } = c.lstat(x.p(0, 'f'));
    for (const i of x.nodes.keys()) c.ok(c.mkdir(x.p(i, `d${i}`)));
    const loops = x.nodes.flatMap((n, i) => [
      x.actor().run('handleLoop', n.mnt, String(ino), RACE_MS),
      x.actor().run('touchLoop', x.p(i, `d${i}`), RACE_MS),
      x.actor().run('setXattrs', [x.p(i, 'f')], String(i), size(15, 1000))]);
    const got = await Promise.all(loops);
    const bad = got.filter((g) => typeof g === 'string' || (Array.isArray(g) ? g.length > 0 :
      typeof g === 'object' && Object.keys(g).some((k) => k !== 'ok')));
    x.t.strictSame(bad, [], 'every call succeeds');
  },

  async 'handles after everybody mounted anew'(x) {
    c.ok(c.mkdir(x.p(0, 'a')));
    c.ok(c.mkdir(x.p(1, 'a', 'b')));
    const { ino } = c.lstat(x.p(0, 'a', 'b'));
    await x.cluster.umountAll();
    await x.cluster.mountAll();
    for (const [nr, node] of x.nodes.entries()) {
      const dirFd = c.ok(c.open(node.mnt, c.O.RDONLY | c.O.DIRECTORY));
      const fd = openHandle(dirFd, handMade(ino, 4), c.O.RDONLY | c.O.DIRECTORY);
      x.t.ok(fd >= 0, 'opened by its number');
      x.t.equal(c.readlink(`/proc/self/fd/${fd}`), x.p(nr, 'a', 'b'), 'its path is found');
      c.close(fd);
      c.close(dirFd);
    }
  },
};

runCases('open', CASES, 'orphan_scan_delay_ms=300');
