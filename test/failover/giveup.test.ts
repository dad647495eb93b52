/**
 * Mounts that wait for a server are given up: the command is interrupted, terminated or killed,
 * wherever it is (row setup-error-teardown of the acceptance catalogue). No daemon, mount, record
 * or file may be left, and afterwards all mount.
 *
 * In scripts/nightly mounts that find a server are interrupted as well: they are either given
 * up or serve.
 */
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { ClusterNode } from '../lib/clustermounts.js';
import { ClusterMounts, mountsBelow, until } from '../lib/clustermounts.js';
import { seeded } from '../lib/core.js';
import { nightly, skipWithoutFuse } from '../lib/mounted.js';
import { remains } from './many.js';

const MEMBERS = 3;
const ROUNDS = nightly() ? 10 : 1;
const LATE_ROUNDS = nightly() ? 30 : 0;
/** Longer than a mount takes to begin to wait. */
const SPREAD_MS = 1500;
const how = { skip: skipWithoutFuse(), timeout: 1_800_000 };

/** Begins a mount that finds no server, and ends its command. @returns what was said */
async function givenUp(n: ClusterNode, signal: NodeJS.Signals, afterMs: number | null):
Promise<{ status: number | null; err: string }> {
  const command = n.start(n.mountArgs());
  if (afterMs !== null) await sleep(afterMs);
  else {
    await until(() => n.pid !== 0 && n.show('debug', 'pending').startsWith('server '),
      `node ${n.nr} waits for a server`);
  }
  command.child.kill(signal);
  return { status: await command.ended, err: command.err };
}

void t.test('mounts that wait for a server are given up', how, async (tt) => {
  const cluster = await ClusterMounts.make('giveup', { members: MEMBERS, clients: 1 });
  tt.teardown(() => cluster.end());
  const [member, client] = [cluster.node(0), cluster.node(MEMBERS)];
  const below = seeded(29);
  for (let round = 0; round < ROUNDS; round++) {
    for (const n of [member, client]) {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        const { status, err } = await givenUp(n, signal, null);
        tt.equal(status, 1, `${signal} ends the mount of node ${n.nr}`);
        tt.match(err, new RegExp(`^scoutfs: mount: given up by ${signal}.*no server.*\n$`));
        tt.strictSame(remains(cluster), [], 'and nothing is left');
        // wherever it is by then
        await givenUp(n, signal, below(SPREAD_MS));
        await until(() => remains(cluster).length === 0, 'nothing is left at any moment');
      }
      // A command that is killed cannot pass it on: the daemon has to notice by itself.
      await givenUp(n, 'SIGKILL', null);
      await until(() => remains(cluster).length === 0, 'nothing is left of a mount without parent');
    }
  }
  await cluster.mountAll();
  for (const n of cluster.nodes) fs.writeFileSync(n.p(`f${n.nr}`), 'there');
  tt.equal(fs.readdirSync(client.mnt).length, cluster.nodes.length, 'all mount');
  let late = 0;
  for (let i = 0; i < LATE_ROUNDS; i++) {
    await client.umount();
    const { status } = await givenUp(client, 'SIGTERM', SPREAD_MS * i / LATE_ROUNDS);
    if (status === 1) late++;
    const there = client.pid !== 0;
    tt.notOk(status === 1 && there, 'a daemon of a mount that was given up is gone');
    tt.equal(mountsBelow(cluster.dir).includes(client.mnt), there, 'and so is its mount');
    if (there) tt.equal(fs.readdirSync(client.mnt).length, cluster.nodes.length, 'it was too late');
    else await client.mount();
  }
  if (LATE_ROUNDS > 0) tt.ok(late > 0, `${late} were given up with a server`);
  await cluster.umountAll();
  tt.strictSame(await cluster.check(), [], 'check is clean');
});
