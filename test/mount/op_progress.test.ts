/**
 * Operations and their locks: order, and that they end while others take every lock away that
 * is not in use.
 */
import t from 'tap';
import { modeServes } from '../../host/mount/client_lock.js';
import type { LockClient } from '../../host/mount/lock.js';
import type { InoPools } from '../../host/mount/ino_pool.js';
import type { LockMode } from '../../host/mount/op.js';
import { MODE_READ, MODE_WRITE, Wait } from '../../host/mount/op.js';
import { MountOp } from '../../host/mount/op_context.js';
import type { Trans } from '../../host/mount/trans.js';

const GROUP = 1024;
const RUNS_MAX = 60;

interface Granted {
  kind: number;
  group: number;
  mode: number;
  users: number;
  ptr: number;
}

/** Grants what is asked for, and takes back everything that nobody uses just then. */
class Greedy {
  readonly granted = new Map<string, Granted>();
  /** Locks waited for while these were in use. */
  readonly waits: { lock: string; held: string[] }[] = [];

  private key(kind: number, arg: number): string {
    return `${kind}.${Math.floor(arg / GROUP)}`;
  }

  tryLock(kind: number, arg: number, mode: LockMode): Granted | null {
    const lock = this.granted.get(this.key(kind, arg));
    if (lock === undefined || !modeServes(lock.mode, mode)) return null;
    lock.users += 1;
    return lock;
  }

  request(kind: number, arg: number, mode: LockMode): Promise<void> {
    const key = this.key(kind, arg);
    const held = [...this.granted].filter(([, l]) => l.users > 0).map(([k]) => k);
    this.waits.push({ lock: key, held });
    for (const k of [...this.granted.keys()]) if (!held.includes(k)) this.granted.delete(k);
    this.granted.set(key, {
      kind, group: Math.floor(arg / GROUP), mode, users: 0, ptr: this.waits.length,
    });
    return Promise.resolve();
  }

  unlock(lock: Granted): void {
    lock.users -= 1;
  }
}

function opOf(table: Greedy): MountOp {
  const unused: unknown = null;
  return new MountOp(table as unknown as LockClient, unused as Trans, unused as InoPools);
}

/** Runs as the driver does. @returns how many runs it took */
async function drive(fn: () => void): Promise<number> {
  for (let runs = 1; runs <= RUNS_MAX; runs++) {
    try {
      fn();
      return runs;
    } catch (e) {
      if (!(e instanceof Wait)) throw e;
      await e.ready;
    }
  }
  return Infinity;
}

t.test('locks in order are kept while later ones are waited for', async (t) => {
  const table = new Greedy();
  const op = opOf(table);
  t.equal(await drive(() => {
    op.lockInode(GROUP, MODE_WRITE);
    op.lockInode(5 * GROUP, MODE_WRITE);
    op.lockInode(9 * GROUP, MODE_READ);
  }), 4);
  t.strictSame(table.waits.map((w) => w.held.length), [0, 1, 2]);
  op.reset();
  t.ok([...table.granted.values()].every((l) => l.users === 0), 'all are let go');
});

t.test('a lock found under a later one ends, although others take it each time', async (t) => {
  const table = new Greedy();
  const op = opOf(table);
  const [dir, child] = [7 * GROUP, 3 * GROUP];
  t.ok(await drive(() => {
    op.lockInode(dir, MODE_WRITE);
    op.lockInode(child, MODE_WRITE);
    op.lockOrphan();
  }) < RUNS_MAX, 'it ends');
  // what is waited for comes after everything that is held
  for (const { lock, held } of table.waits) {
    const nr = (k: string): number => Number(k.split('.')[0]) * 1e6 + Number(k.split('.')[1]);
    t.ok(held.every((h) => nr(h) < nr(lock)), `${lock} waited for under ${held.join(' ')}`);
  }
  op.reset();
  t.ok([...table.granted.values()].every((l) => l.users === 0));
});

t.test('names that move while the locks are waited for', async (t) => {
  const table = new Greedy();
  const op = opOf(table);
  const children = [6, 4, 2, 1, 1, 1].map((g) => g * GROUP);
  let runs = 0;
  t.ok(await drive(() => {
    op.lockInode(7 * GROUP, MODE_READ);
    op.lockInode(children[Math.min(runs++, 5)] ?? 0, MODE_READ);
  }) < RUNS_MAX, 'it ends when they stay');
});
