/**
<<<<<<< HEAD
 * The order in which an operation takes its locks.
 */
import t from 'tap';
import { InoPools } from '../../host/mount/ino_pool.js';
import type { ClientLock, LockClient } from '../../host/mount/lock.js';
import { MountOp } from '../../host/mount/op_context.js';
import { MODE_READ, MODE_WRITE, Wait } from '../../host/mount/op.js';
import type { LockMode } from '../../host/mount/op.js';
import { Trans } from '../../host/mount/trans.js';

const GROUP = 1024;

/** A lock client in which others hold what is not in `free`. */
class Table {
  readonly free = new Set<string>();
  readonly held: string[] = [];
  /** what was asked for while what was held */
  readonly asked: string[] = [];

  tryLock(kind: number, arg: number, mode: LockMode): ClientLock | null {
    const name = this.name(arg, mode);
    if (!this.free.has(name)) return null;
    this.held.push(name);
    return { kind, group: Math.floor(arg / GROUP), ptr: arg } as unknown as ClientLock;
  }

  request(_kind: number, arg: number, mode: LockMode): Promise<void> {
    this.asked.push(`${this.name(arg, mode)} with ${this.held.join(' ') || 'nothing'}`);
    return Promise.resolve();
  }

  unlock(lock: ClientLock, mode: LockMode): void {
    this.held.splice(this.held.indexOf(this.name(lock.group * GROUP, mode)), 1);
  }

  name(arg: number, mode: LockMode): string {
    return `${mode === MODE_READ ? 'r' : 'w'}${Math.floor(arg / GROUP)}`;
  }
}

function setup(): { table: Table; op: MountOp; run: (fn: () => void) => boolean } {
  const table = new Table();
  const op = new MountOp(table as unknown as LockClient, Trans.prototype, InoPools.prototype);
  const run = (fn: () => void): boolean => {
    try {
      fn();
      return true;
    } catch (e) {
      if (!(e instanceof Wait)) throw e;
      return false;
    }
  };
  return { table, op, run };
}

t.test('what comes too early is taken in order the next time', async (t) => {
  const { table, op, run } = setup();
  const rename = (): void => {
    op.lockInode(5 * GROUP, MODE_WRITE);
    op.lockInode(2 * GROUP, MODE_READ);
    op.lockInode(9 * GROUP, MODE_WRITE);
  };
  table.free.add('w5').add('w9');
  t.notOk(run(rename));
  t.same(table.held, [], 'a lock out of order lets go of the others');
  t.notOk(run(rename));
  t.same(table.asked, ['r2 with nothing'], 'the first of them is waited for alone');
  table.free.add('r2').delete('w5');
  t.notOk(run(rename));
  t.same(table.asked[1], 'w5 with r2', 'and kept while the later ones are waited for');
  table.free.add('w5');
  t.ok(run(rename));
  t.same(table.held, ['r2', 'w5', 'w9']);
  op.reset();
  t.same(table.held, []);
  table.free.clear();
  t.notOk(run(() => { op.lockInode(7 * GROUP, MODE_WRITE); }));
  t.same(table.asked.at(-1), 'w7 with nothing', 'another operation has no plan');
});

t.test('a lock wanted in a higher mode is asked for before the later ones', async (t) => {
  const { table, op, run } = setup();
  const upgrade = (): void => {
    op.lockInode(3 * GROUP, MODE_READ);
    op.lockInode(4 * GROUP, MODE_READ);
    op.lockInode(3 * GROUP, MODE_WRITE);
  };
  table.free.add('r3').add('r4');
  t.notOk(run(upgrade));
  t.same(table.asked, ['w3 with nothing'], 'nothing later is held meanwhile');
  table.free.add('w3');
  t.ok(run(upgrade));
  t.same(table.held, ['w3', 'r4'], 'read is served by write');
=======
 * Operations and their locks: order, and that they end while others take every lock away that
 * is not in use.
 */
import t from 'tap';
import { modeServes } from '../../host/mount/lock.js';
import type { LockClient } from '../../host/mount/lock.js';
import type { InoPools } from '../../host/mount/ino_pool.js';
import type { LockMode } from '../../host/mount/op.js';
import { MODE_READ, MODE_WRITE, Wait } from '../../host/mount/op.js';
import { MountOp } from '../../host/mount/op_context.js';
import type { Trans } from '../../host/mount/trans.js';

const GROUP = 1024;
const RUNS_MAX = 20;

interface Granted {
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
    this.granted.set(key, { mode, users: 0, ptr: this.waits.length });
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
>>>>>>> 19bbdf0 (Let operations end, and locks stay, where several mounts want the same inodes)
});
