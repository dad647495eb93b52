/**
 * The thread of a quorum member: its election agent and, while it leads, the server.
 *
 * The thread has devices, sockets and a core of its own and shares nothing with the
 * mount but messages (member_protocol.ts). It ends when it was told to stop and has put
 * everything away.
 */
import type { Device } from '../env/device.js';
import type { Env } from '../env/env.js';
import { realEnv } from '../env/env.js';
import { WatchedDevice, devicePending } from '../env/watched_device.js';
import type { Net } from '../env/net.js';
import { endpointString } from '../env/net.js';
import { onlyFrom } from '../env/peer_networks.js';
import type { ThreadSelf } from '../env/thread.js';
import { threadSelf } from '../env/thread.js';
import { readSupers } from '../disk/super.js';
import { C, Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import { makeLog } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import { pendingLine } from '../observe/pending.js';
import { WaitWatch } from '../observe/wait_watch.js';
import { ScoutfsError, asScoutfsError } from '../observe/errors.js';
import { Refusals } from '../observe/refusals.js';
import { Triggers } from '../observe/triggers.js';
import { localFenceAgent } from './fence.js';
import { Member } from './member.js';
import type { FromMember, MemberConfig, MemberView, ToMember } from './member_protocol.js';
import { plainError } from './member_protocol.js';
import { checkQuorumConfig } from './quorum_block.js';
import { makeServer } from './server_run.js';

type Self = ThreadSelf<ToMember, FromMember, MemberConfig>;

/** A log whose lines are written by the mount. */
function postedLog(self: Self): Log {
  return makeLog(self.data.logLevel, (level, text) => { self.post({ type: 'log', level, text }); });
}

class MemberThread {
  private readonly log: Log;
  private readonly devices: Device[] = [];
  private readonly counters = new Counters();
  private readonly triggers = new Triggers();
  private member: Member | null = null;
  private watch: WaitWatch | null = null;

  constructor(private readonly env: Env, private readonly self: Self) {
    this.log = postedLog(self);
  }

  async run(): Promise<void> {
    try {
      this.member = await this.begin();
    } catch (e) {
      await this.close();
      this.self.post({ type: 'start-failed', error: plainError(asScoutfsError(e)) });
      this.self.close();
      return;
    }
    const { member } = this;
    this.watch = new WaitWatch(this.env.clock, this.log, () => this.pending(member));
    this.watch.start();
    this.self.post({ type: 'started' });
    this.self.onMessage((m) => { this.received(m); });
  }

  private async begin(): Promise<Member> {
    const { env, self, log } = this;
    const config = self.data;
    const open = async (path: string): Promise<Device> => {
      const device = new WatchedDevice(await env.openDevice(path), env.clock);
      this.devices.push(device);
      return device;
    };
    const metaDevice = await open(config.metaPath);
    const dataDevice = await open(config.dataPath);
    const { meta: sb } = await readSupers(metaDevice, dataDevice);
    if (sb.hdr.fsid !== config.fsid) {
      throw new ScoutfsError('MEMBER_VOLUME', 'EINVAL', {
        message: `${config.metaPath}: the volume was replaced while it was being mounted`,
      });
    }
    const slots = checkQuorumConfig(sb.qconf, config.slotNr);
    const net = this.guardedNet();
    return Member.start({
      clock: env.clock, random: env.random, net, metaDevice, log,
      counters: this.counters,
      fsid: config.fsid, rid: config.rid, slotNr: config.slotNr, slots,
      heartbeatTimeoutMs: () => config.heartbeatTimeoutMs,
      makeServer: (term, events) => makeServer({
        env: { clock: env.clock, random: env.random, net }, log,
        metaDevice, dataDevice, fsid: config.fsid, fmtVers: sb.fmtVers,
        rid: config.rid, slotNr: config.slotNr, slots, options: config, counters: this.counters,
        silenceTimeoutMs: config.silenceTimeoutMs, coreMemoryBytes: config.coreMemoryBytes,
        triggers: this.triggers,
        fenceAgent: localFenceAgent(env.localMounts(config.metaPath)),
      }, term, events),
      roleChanged: (isLeader) => { self.post({ type: 'role', isLeader }); },
      serverChanged: (status) => { self.post({ type: 'server', status }); },
      serverFailed: (error) => { self.post({ type: 'server-failed', error: plainError(error) }); },
      fencesChanged: (requests) => { self.post({ type: 'fences', requests }); },
      failed: (error) => { self.post({ type: 'failed', error: plainError(error) }); },
    });
  }

  /** The sockets of this host, for peers that may be peers. */
  private guardedNet(): Net {
    const { env, self, counters } = this;
    const refusals = new Refusals(this.log, 'network', () => env.clock.monotonicMs());
    return onlyFrom(env.net, self.data.peerNetworks, (from) => {
      counters.inc(C.net_refused_peers);
      refusals.note(endpointString(from), 'outside of peer_networks');
    });
  }

  private received(m: ToMember): void {
    const { member } = this;
    if (member === null) return;
    switch (m.type) {
      case 'stop':
        void this.stop(member);
        break;
      case 'status':
        member.takeCounts();
        this.self.post({
          type: 'status', id: m.id, text: member.status(), counters: this.counters.snapshot(),
          clients: member.clientCount, armed: this.triggers.list(),
        });
        break;
      case 'option':
        this.self.data[m.name] = m.value;
        break;
      case 'view':
        this.self.post({
          type: 'view', id: m.id, text: this.view(member, m.name).map((l) => `${l}\n`).join(''),
        });
        break;
      case 'trigger':
        this.triggers.arm(m.name, m.on);
        break;
      case 'log-level':
        this.log.setLevel(m.level);
        break;
      case 'fenced':
        member.setFenced(m.rid);
        break;
      case 'fence-error':
        member.setFenceError(m.rid);
        break;
      case 'unreachable':
        member.leaderUnreachable(m.at);
        break;
    }
  }

  private view(member: Member, name: MemberView): string[] {
    if (name !== 'pending') return member.view(name);
    const nowMs = this.env.clock.monotonicMs();
    return this.pending(member).map((p) => pendingLine(p, nowMs));
  }

  private pending(member: Member): Pending[] {
    return [...member.pending(), ...devicePending(this.devices)];
  }

  private async stop(member: Member): Promise<void> {
    let error: ScoutfsError | null = null;
    try {
      await member.stop();
    } catch (e) {
      error = asScoutfsError(e);
    }
    await this.close();
    this.self.post({ type: 'stopped', error: error === null ? null : plainError(error) });
    this.self.close();
  }

  private async close(): Promise<void> {
    this.watch?.stop();
    for (const d of this.devices.splice(0)) {
      await d.close().catch((e: unknown) => { this.log.error(asScoutfsError(e).message); });
    }
  }
}

/** Runs a member with the effects of `env`; resolves when it has started or could not. */
export function runMember(env: Env, self: Self): Promise<void> {
  return new MemberThread(env, self).run();
}

const self = threadSelf<ToMember, FromMember, MemberConfig>();
if (self !== null) await runMember(realEnv, self);
