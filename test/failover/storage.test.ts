/**
 * Hosts of a cluster that lose their devices (storage.ts): in the common run a leader and a
 * follower whose metadata device fails, and a leader whose one hangs; in scripts/nightly both
 * devices of both in both ways, and daemons that are killed meanwhile.
 */
import t from 'tap';
import { nightly } from '../lib/mounted.js';
import { skipWithoutNetns } from '../lib/netns.js';
import type { Loss } from './storage.js';
import { loseStorage } from './storage.js';

const LIMIT_MS = 7_200_000;

function shortForm(): Loss[] {
  return [
    { role: 'leader', device: 'meta', mode: 'fail' },
    { role: 'follower', device: 'meta', mode: 'fail' },
    { role: 'leader', device: 'meta', mode: 'hang' },
  ];
}

function longForm(): Loss[] {
  return (['leader', 'follower'] as const).flatMap((role) =>
    (['meta', 'data'] as const).flatMap((device) =>
      (['fail', 'hang'] as const).flatMap((mode) => [
        { role, device, mode }, { role, device, mode, kill: true }])));
}

const how = { skip: skipWithoutNetns(), timeout: LIMIT_MS };
void t.test('a host loses its storage', how, async (tt) => {
  const losses = nightly() ? longForm() : shortForm();
  const r = await loseStorage(losses, (note) => { tt.comment(note); });
  tt.strictSame(r.problems, [], 'nothing wrong was answered, the others went on');
  tt.ok(r.notes.length >= losses.length, 'all were lost');
});
