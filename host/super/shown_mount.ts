/**
 * A running mount as its control files see it: reads and changes of values that live in
 * the mount, in its core and in the thread of its quorum member.
 */
import type { Clock } from '../env/clock.js';
import type { MountOptions } from '../mount/options.js';
import { changeOption } from '../mount/options.js';
import { errnoError } from '../observe/errors.js';
import type { Log } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import { pendingLine } from '../observe/pending.js';
import type { TriggerName } from '../observe/triggers.js';
import { isMountTrigger, isServerTrigger } from '../observe/triggers.js';
import type { Volume } from '../super.js';
import { MembersView } from './members.js';
import type { MountClient } from './mount_client.js';
import type { ShownMount } from './mount_files.js';

/** How long the thread of the quorum member may take to say what waits in it. */
const THREAD_LIMIT_MS = 1000;

function armTrigger(client: MountClient, name: TriggerName, on: boolean): void {
  if (isMountTrigger(name)) client.triggers.arm(name, on);
  if (isServerTrigger(name)) client.member?.armTrigger(name, on);
}

/** Whether it has not fired yet. What fired in one place is disarmed in the other one. */
async function isArmed(client: MountClient, name: TriggerName): Promise<boolean> {
  const { triggers, member } = client;
  if (!isServerTrigger(name)) return triggers.isArmed(name);
  const inServer = (await member?.state())?.armed.includes(name) === true;
  if (!isMountTrigger(name)) return inServer;
  const armed = triggers.isArmed(name) && (inServer || member === null);
  if (!armed) armTrigger(client, name, false);
  return armed;
}

/** Our waits and those of our server; a thread that does not answer is a wait as well. */
async function pendingText(client: MountClient, clock: Clock): Promise<string> {
  const startMs = clock.monotonicMs();
  const late: Pending = {
    kind: 'member', sinceMs: startMs, text: 'the thread of the quorum member does not answer',
  };
  const theirs = client.member === null ? '' : await Promise.race([
    client.member.view('pending'),
    clock.sleep(THREAD_LIMIT_MS).then(() => `${pendingLine(late, clock.monotonicMs())}\n`),
  ]);
  const nowMs = clock.monotonicMs();
  return client.pending().map((p) => `${pendingLine(p, nowMs)}\n`).join('') + theirs;
}

export function shownMount(clock: Clock, client: MountClient, vol: Volume, log: Log):
ShownMount {
  const members = new MembersView(clock, vol.metaDevice, vol.metaSuper);
  const lines = (all: readonly string[]): string => all.map((l) => `${l}\n`).join('');
  return {
    fsid: vol.metaSuper.hdr.fsid, rid: vol.rid, formatVersion: vol.metaSuper.fmtVers,
    dataMajMin: vol.dataDevice.majMin, options: vol.options, log,
    get compactDelayMs() { return client.loops.compactDelayMs; },
    set compactDelayMs(ms) { client.loops.compactDelayMs = ms; },
    setOption(name, text) {
      if (client.isEnding) throw errnoError('ESHUTDOWN', 'the mount is going away');
      const key: keyof MountOptions = changeOption(vol.options, name, text);
      client.optionChanged(key);
      log.info(`option ${name} is now ${text}`);
    },
    setLogLevel(level) {
      log.setLevel(level);
      client.member?.setLogLevel(level);
    },
    counter: (nr) => {
      client.core.addCounts(client.counters);
      const own = client.counters.at(nr);
      if (client.member === null) return own;
      return client.member.counters().then((c) => own + (c[nr] ?? 0));
    },
    getVolopt: () => client.client.getVolopt(),
    setVolopt: (options) => client.client.setVolopt(options),
    clearVolopt: (options) => client.client.clearVolopt(options),
    dropWeakItems: () => { client.weak.drop(); },
    dropQuotaChecks: () => { client.fs.quotas.dropResults(); },
    lockLines: () => client.locks.describe(),
    isArmed: (name) => isArmed(client, name),
    arm(name, on) {
      if (!isMountTrigger(name) && client.member === null) {
        throw errnoError('EINVAL', `${name}: this mount has no server`);
      }
      armTrigger(client, name, on);
    },
    async serverView(name) {
      if (name === 'pending') return pendingText(client, clock);
      const { connection, messages } = client.client.describe();
      const own = name === 'connections' ? [connection] : name === 'messages' ? messages : [];
      return lines(own) + (await client.member?.view(name) ?? '');
    },
    members: () => members.text(),
  };
}
