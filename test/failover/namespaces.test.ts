/**
 * Hosts of a cluster that are lost in every way (lost_hosts.ts): in the common run the leader in
 * some of them, and a follower that hears nothing; in scripts/nightly leaders and followers in
 * all, several times, and short interruptions that nobody is fenced for.
 */
import t from 'tap';
import { nightly } from '../lib/mounted.js';
import { havePacketFilter, skipWithoutNetns } from '../lib/netns.js';
import type { Fault, Loss } from './lost_hosts.js';
import { FAULTS, loseHosts } from './lost_hosts.js';

const LIMIT_MS = 7_200_000;
const ROUNDS = 3;

function shortForm(): Loss[] {
  return [...(['kill', 'stop', 'cable', 'in'] as const).map((fault): Loss =>
    ({ role: 'leader', fault })), { role: 'follower', fault: 'in' }];
}

function longForm(): Loss[] {
  const round = FAULTS.flatMap((fault): Loss[] => [
    { role: 'leader', fault }, { role: 'follower', fault },
    ...fault === 'kill' ? [] : [{ role: 'leader' as const, fault, short: true },
      { role: 'follower' as const, fault, short: true }],
  ]);
  return Array.from({ length: ROUNDS }, () => round).flat();
}

const how = { skip: skipWithoutNetns(), timeout: LIMIT_MS };
void t.test('three hosts lose one', how, async (tt) => {
  const filters = havePacketFilter();
  if (!filters) tt.comment('no packet filter (package nftables): only cables are cut');
  const possible = (fault: Fault): Fault =>
    fault === 'kill' || fault === 'stop' || filters ? fault : 'cable';
  const losses = (nightly() ? longForm() : shortForm())
    .map((l) => ({ ...l, fault: possible(l.fault) }));
  const r = await loseHosts(losses, (note) => { tt.comment(note); });
  tt.strictSame(r.problems, [], 'nobody else was fenced, nothing failed, nothing synced is lost');
  tt.ok(r.notes.length >= losses.length, 'all were lost');
});
