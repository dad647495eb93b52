/**
 * The control files of a member on a real directory: what they show, and writes to them.
 */
import { appendFileSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ControlTree } from '../../host/env/control_tree.js';
import type { FenceView } from '../../host/server/fence.js';
import { MemberFiles } from '../../host/server/member_files.js';
import { tempDir } from '../lib/shared.js';
import { SimClock } from '../lib/simclock.js';

function request(rid: bigint): FenceView {
  return {
    rid, ipv4Addr: 0xc0a84d0a, reason: 'client_reconnect', elapsedSecs: 0, fenced: false,
    error: false,
  };
}

t.test('quorum and fence files', async (t) => {
  const { dir, remove } = tempDir('scoutfs-files');
  t.teardown(remove);
  const clock = new SimClock();
  const reports: string[] = [];
  const files = new MemberFiles(join(dir, 'mount'), clock, (line) => { reports.push(line); });
  const set: string[] = [];
  const member = {
    isLeader: false,
    status: async () => 'quorum_slot_nr 0\nterm 1\n',
    setFenced: (rid: bigint) => { set.push(`fenced ${rid}`); },
    setFenceError: (rid: bigint) => { set.push(`error ${rid}`); },
  };
  const text = (path: string): string => readFileSync(join(dir, 'mount', path), 'utf8');
  // Leaders are fenced before the member is shown.
  files.fences([request(7n)]);
  files.show(member);
  await clock.advance(1500);
  t.equal(text('quorum/is_leader'), '0');
  t.equal(text('quorum/status'), 'quorum_slot_nr 0\nterm 1\n');
  member.isLeader = true;
  files.roleChanged();
  t.equal(text('quorum/is_leader'), '1');
  const one = 'fence/0000000000000007';
  const inMount = (...path: string[]): string => join(dir, 'mount', ...path);
  t.same(readdirSync(inMount(one)).sort(),
    ['elapsed_secs', 'error', 'fenced', 'ipv4_addr', 'reason', 'rid']);
  t.equal(text(`${one}/rid`), '0000000000000007');
  t.equal(text(`${one}/ipv4_addr`), '192.168.77.10');
  t.equal(text(`${one}/reason`), 'client_reconnect');
  t.equal(text(`${one}/elapsed_secs`), '1');
  t.equal(text(`${one}/fenced`), '0');
  t.same(set, []);
  writeFileSync(inMount(one, 'fenced'), '1\n');
  await clock.advance(300);
  t.same(set, ['fenced 7']);
  t.equal(text(`${one}/fenced`), '1');
  await clock.advance(3000);
  t.same(set, ['fenced 7'], 'noticed once');
  files.fences([request(8n)]);
  t.notOk(existsSync(inMount(one)), 'gone with its request');
  const two = 'fence/0000000000000008';
  appendFileSync(inMount(two, 'error'), 'x');
  await clock.advance(300);
  t.same(set, ['fenced 7', 'error 8'], 'whatever is written');
  t.equal(text(`${two}/error`), '1');
  files.close();
  files.fences([request(9n)]);
  t.same(readdirSync(dir), [], 'nothing is left');
  t.same(reports, []);
});

t.test('a directory that cannot be written is said once and harms nothing', async (t) => {
  const { dir, remove } = tempDir('scoutfs-files');
  t.teardown(remove);
  writeFileSync(join(dir, 'file'), '');
  const clock = new SimClock();
  const reports: string[] = [];
  const tree = new ControlTree(join(dir, 'file'), clock, (line) => { reports.push(line); });
  tree.add('quorum/is_leader', { read: () => '0' });
  await clock.advance(5000);
  t.equal(reports.length, 1);
  tree.close();
});
