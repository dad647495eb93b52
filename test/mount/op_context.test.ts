/**
 * The order in which an operation takes its locks.
 */
import t from 'tap';
import { InoPools } from '../../host/mount/ino_pool.js';
import type { ClientLock } from '../../host/mount/client_lock.js';
import type { LockClient } from '../../host/mount/lock.js';
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
});
