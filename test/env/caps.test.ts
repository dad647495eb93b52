/**
 * Capabilities of callers, read from a procfs of the test's and from the real one.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CAP_SYS_ADMIN, hasCapability, isAdmin } from '../../host/env/caps.js';
import { tempDir } from '../lib/shared.js';

t.test('which processes count', (t) => {
  const { dir, remove } = tempDir('scoutfs-caps');
  t.teardown(remove);
  const make = (pid: string, caps: string | null, ns: string | null): void => {
    mkdirSync(join(dir, pid, 'ns'), { recursive: true });
    const line = caps === null ? '' : `CapEff:\t${caps}\n`;
    writeFileSync(join(dir, pid, 'status'),
      `Name:\tx\nUid:\t0\t0\t0\t0\nCapPrm:\t000001ffffffffff\n${line}Threads:\t1\n`);
    if (ns !== null) symlinkSync(ns, join(dir, pid, 'ns', 'user'));
  };
  make('self', '000001ffffffffff', 'user:[1]');
  make('10', '000001ffffffffff', 'user:[1]');
  make('11', '0000000000200000', 'user:[1]');
  make('12', '000001ffffdfffff', 'user:[1]');
  make('13', '000001ffffffffff', 'user:[2]');
  make('14', null, 'user:[1]');
  make('15', '000001ffffffffff', null);
  const has = (pid: number, cap = CAP_SYS_ADMIN): boolean => hasCapability(pid, cap, dir);
  t.equal(has(10), true);
  t.equal(has(11), true, 'this one alone');
  t.equal(has(11, 2), false);
  t.equal(has(12), false, 'all but this one');
  t.equal(has(12, 40), true, 'above 32 bits');
  t.equal(has(13), false, 'root of a user namespace of its own');
  t.equal(has(14), false, 'a status without the line');
  t.equal(has(15), false, 'a namespace that cannot be read');
  t.equal(has(16), false, 'a process that has gone');
  make('0', '000001ffffffffff', 'user:[1]');
  t.equal(has(0), false, 'nobody');
  t.end();
});

t.test('this process', { skip: process.getuid?.() === 0 ? false : 'not root' }, (t) => {
  t.equal(isAdmin(process.pid), true);
  t.equal(isAdmin(0), false);
  t.end();
});
