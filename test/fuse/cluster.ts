/**
 * Two mounts of one in-memory file system in one process, kept coherent by nothing but a
 * lock per group of inodes and the drain: the smallest cluster the FUSE row can have.
 *
 *   mode of each node per group: null, read or write; one writer or several readers.
 *   request ──> conflicting holder drains (no users left, kernel caches taken back) ──> grant
 *
 * Forked by the coherence test with the two mount points; sends { ready } or { error },
 * and answers any message with its counters and what went wrong.
 */
import { LOCK_INODE_GROUP_NR } from '../../host/core/constants.js';
import { isDying } from '../../host/env/caps.js';
import { realClock } from '../../host/env/clock.js';
import { openFuseDevice } from '../../host/env/fuse-device.js';
import { abortFuse, mountFuse } from '../../host/env/fuse-mount.js';
import type {
  KernelCaching, KernelDrain, Name, OpSource, ReadIn, VfsOps,
} from '../../host/fs/vfs.js';
import { FuseSession } from '../../host/fuse/session.js';
import type { LockMode, Op } from '../../host/mount/op.js';
import { MODE_NULL, MODE_READ, MODE_WRITE, Wait } from '../../host/mount/op.js';
import { errnoError } from '../../host/observe/errors.js';
import { MemFs } from '../../bench/macro/memfs.js';

/** Four inodes to a lock, as in the experiments of fuse.md 5.7. */
const STRIDE = LOCK_INODE_GROUP_NR / 4;
const problems: string[] = [];

/** One node's side of one lock. */
interface Held {
  mode: LockMode;
  users: number;
  draining: boolean;
  idle: (() => void) | null;
}

interface Request {
  node: Node;
  mode: LockMode;
  done: () => void;
}

/** One lock: who holds it how, and who wants it. */
class Lock {
  readonly held: Held[] = [0, 1].map(() =>
    ({ mode: MODE_NULL, users: 0, draining: false, idle: null }));
  private readonly queue: Request[] = [];
  private busy = false;

  constructor(private readonly group: number, private readonly nodes: Node[]) {}

  of(node: Node): Held {
    const held = this.held[node.nr];
    if (held === undefined) throw new Error('no such node');
    return held;
  }

  request(node: Node, mode: LockMode): Promise<void> {
    return new Promise((done) => {
      this.queue.push({ node, mode, done });
      if (!this.busy) void this.work();
    });
  }

  private async work(): Promise<void> {
    this.busy = true;
    for (let r = this.queue.shift(); r !== undefined; r = this.queue.shift()) {
      const mine = this.of(r.node);
      if (mine.mode < r.mode) {
        const left = r.mode === MODE_READ ? MODE_READ : MODE_NULL;
        for (const other of this.nodes) if (other !== r.node) await this.takeFrom(other, left);
        mine.mode = r.mode;
      }
      r.done();
      // the waiting operation runs before the lock can be taken away again
      await new Promise((next) => { setImmediate(next); });
    }
    this.busy = false;
  }

  private async takeFrom(node: Node, to: LockMode): Promise<void> {
    const theirs = this.of(node);
    if (theirs.mode <= to) return;
    theirs.draining = true;
    if (theirs.users > 0) await new Promise<void>((idle) => { theirs.idle = idle; });
    await node.drain?.drain(this.group * LOCK_INODE_GROUP_NR, theirs.mode,
      to);
    theirs.mode = to;
    theirs.draining = false;
    node.movements++;
  }
}

/** One mount. */
class Node implements OpSource, KernelCaching {
  drain: KernelDrain | null = null;
  session: FuseSession | null = null;
  movements = 0;

  constructor(readonly nr: number, private readonly lockOf: (ino: number) => Lock) {}

  begin(duringDrain: boolean): Op {
    return new TestOp(this, duringDrain, this.lockOf) as unknown as Op;
  }

  end(op: Op): void {
    (op as unknown as TestOp).letGo();
  }

  mayCache(ino: number): boolean {
    const held = this.lockOf(ino).of(this);
    return held.mode !== MODE_NULL && !held.draining;
  }
}

class TestOp {
  private readonly holds = new Set<Held>();

  constructor(private readonly node: Node, private readonly duringDrain: boolean,
    private readonly lockOf: (ino: number) => Lock) {}

  lockInode(ino: number, mode: LockMode): number {
    const lock = this.lockOf(ino);
    const held = lock.of(this.node);
    if (this.duringDrain) {
      if (held.mode < mode) throw errnoError('EIO', `inode ${ino} is not held during a drain`);
      return 0;
    }
    if (held.mode < mode || (held.draining && !this.holds.has(held))) {
      // whatever the order is, nobody waits while holding
      this.letGo();
      throw new Wait(lock.request(this.node, mode));
    }
    if (!this.holds.has(held)) {
      held.users++;
      this.holds.add(held);
    }
    return 0;
  }

  letGo(): void {
    for (const held of this.holds) {
      held.users--;
      if (held.users === 0) held.idle?.();
      if (held.users === 0) held.idle = null;
    }
    this.holds.clear();
  }
}

/** The inodes each method needs, written ones first. */
function needs(fs: MemFs, method: string, a: unknown[]): { write: number[]; read: number[] } {
  const ino = a[2] as number;
  const child = (dir: number, at: number): number => fs.peek(dir, a[at] as Name);
  switch (method) {
    case 'lookup': return { write: [], read: [ino, child(ino, 3)] };
    case 'getattr': case 'readdir': case 'opendir': case 'parentOf': case 'readlink': case 'lseek':
    case 'getxattr': case 'listxattr':
      return { write: [], read: [ino] };
    case 'read': return (a[3] as ReadIn).forWrite ? { write: [ino], read: [] }
      : { write: [], read: [ino] };
    case 'open': return ((a[3] as number) & 3) === 2 ? { write: [ino], read: [] }
      : { write: [], read: [ino] };
    case 'setattr': case 'write': case 'fallocate': case 'setxattr': case 'removexattr':
      return { write: [ino], read: [] };
    case 'create': case 'mkdir': case 'mknod': case 'symlink': case 'tmpfile':
      return { write: [ino, fs.upcomingIno], read: [] };
    case 'unlink': case 'rmdir': return { write: [ino, child(ino, 3)], read: [] };
    case 'link': return { write: [ino, a[3] as number], read: [] };
    case 'rename': return { write: [ino, a[4] as number, child(ino, 3), child(a[4] as number, 5)],
      read: [] };
    default: return { write: [], read: [] };
  }
}

/** The shared file system as one node sees it: every method under its locks. */
function locked(fs: MemFs): VfsOps {
  return new Proxy<VfsOps>(fs, {
    get(target, prop, receiver): unknown {
      const value: unknown = Reflect.get(target, prop, receiver);
      if (typeof value !== 'function' || typeof prop !== 'string') return value;
      // one node must not delete what the other still uses
      if (prop === 'evict') return () => undefined;
      return (...args: unknown[]): unknown => {
        const op = args[0] as TestOp;
        const { write, read } = needs(fs, prop, args);
        for (const ino of write) if (ino > 0) op.lockInode(ino, MODE_WRITE);
        for (const ino of read) if (ino > 0) op.lockInode(ino, MODE_READ);
        return Reflect.apply(value, target, args);
      };
    },
  });
}

async function mount(node: Node, vfs: VfsOps, dir: string): Promise<void> {
  const { fd, connection } = await mountFuse({
    source: `node${node.nr}`, dir, subtype: 'scoutfstest' });
  const session = new FuseSession(
    { device: openFuseDevice(fd), clock: realClock, vfs, ops: node, caching: node, isDying },
    {
      end: () => undefined,
      fatal: (m) => { problems.push(`fatal: ${m}`); void abortFuse(connection); },
      log: (m) => { problems.push(m); },
    });
  node.session = session;
  node.drain = session.drain;
  process.send?.({ connection });
  session.start();
}

async function main(): Promise<void> {
  const locks = new Map<number, Lock>();
  const nodes: Node[] = [];
  const lockOf = (ino: number): Lock => {
    const group = Math.floor(ino / LOCK_INODE_GROUP_NR);
    let lock = locks.get(group);
    if (lock === undefined) {
      lock = new Lock(group, nodes);
      locks.set(group, lock);
    }
    return lock;
  };
  const fs = new MemFs(STRIDE);
  for (const [nr, dir] of process.argv.slice(2).entries()) {
    const node = new Node(nr, lockOf);
    nodes.push(node);
    await mount(node, locked(fs), dir);
  }
  process.on('message', () => {
    const drains = nodes.map((n) =>
      Object.fromEntries(Object.entries(n.session?.drainCounters ?? {})));
    process.send?.({ problems, movements: nodes.map((n) => n.movements), drains });
  });
  process.send?.({ ready: true });
}

process.on('disconnect', () => { process.exit(0); });
main().catch((e: unknown) => {
  process.send?.({ error: e instanceof Error ? e.message : String(e) });
});
