/**
 * The control files of a member: what they show, and what writing to them does.
 */
import t from 'tap';
import { ControlTree } from '../../host/observe/control.js';
import type { FenceView } from '../../host/server/fence.js';
import { MemberFiles } from '../../host/server/member_files.js';
import { SimClock } from '../lib/simclock.js';

function request(rid: bigint): FenceView {
  return {
    rid, ipv4Addr: 0xc0a84d0a, reason: 'client_reconnect', elapsedSecs: 0, fenced: false,
    error: false,
  };
}

t.test('quorum and fence files', async (t) => {
  const clock = new SimClock();
  const tree = new ControlTree();
  const files = new MemberFiles(tree, clock);
  const set: string[] = [];
  const member = {
    isLeader: false,
    status: async () => 'quorum_slot_nr 0\nterm 1\n',
    setFenced: (rid: bigint) => { set.push(`fenced ${rid}`); },
    setFenceError: (rid: bigint) => { set.push(`error ${rid}`); },
  };
  // Leaders are fenced before the member is shown.
  files.fences([request(7n)]);
  t.equal(await tree.read('quorum/is_leader'), '0');
  files.show(member);
  await clock.advance(1500);
  t.equal(await tree.read('quorum/status'), 'quorum_slot_nr 0\nterm 1\n');
  member.isLeader = true;
  t.equal(await tree.read('quorum/is_leader'), '1', 'as it is when it is read');
  const one = 'fence/0000000000000007';
  t.same([...tree.find(one)?.children?.keys() ?? []].sort(),
    ['elapsed_secs', 'error', 'fenced', 'ipv4_addr', 'reason', 'rid']);
  t.equal(await tree.read(`${one}/rid`), '0000000000000007');
  t.equal(await tree.read(`${one}/ipv4_addr`), '192.168.77.10');
  t.equal(await tree.read(`${one}/reason`), 'client_reconnect');
  t.equal(await tree.read(`${one}/elapsed_secs`), '1');
  t.equal(await tree.read(`${one}/fenced`), '0');
  t.same(set, []);
  await tree.write(`${one}/fenced`, '1\n');
  t.same(set, ['fenced 7']);
  t.equal(await tree.read(`${one}/fenced`), '1');
  await t.rejects(tree.write(`${one}/rid`, '1'), { code: 'EACCES' });
  files.fences([request(8n)]);
  t.equal(tree.find(one), null, 'gone with its request');
  const two = 'fence/0000000000000008';
  await tree.write(`${two}/error`, 'x');
  t.same(set, ['fenced 7', 'error 8'], 'whatever is written');
  t.equal(await tree.read(`${two}/error`), '1');
  files.close();
  files.fences([request(9n)]);
  t.equal(tree.root.children?.size, 0, 'nothing is left');
});
