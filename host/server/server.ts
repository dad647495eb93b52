/**
 * The server of an elected leader.
 *
 *   down --start--> starting --> up --stop, or anything fatal--> stopping --> down
 *
 * Starting follows a strict order: nothing shared is read before every earlier leader is
 * fenced, and no client is accepted before the lock service knows which clients of the
 * previous server may still hold locks. While up, requests are handled concurrently;
 * what changes trees goes through the commits (commit.ts), one handler at a time.
 *
 * When nothing can be committed any more, or a mount cannot be reclaimed, the server
 * stops itself. Requests that were not answered are never answered then: clients send
 * them again to the next server, which recognises what is done.
 * Source: server.md 1, 4, 8, 9; recovery.md 2, 3.4.
 */
import type { SuperBlock } from '../core/format.js';
import type { Core } from '../core/core.js';
import type { Device } from '../env/device.js';
import { readMetaSuper } from '../disk/super.js';
import type { Clock } from '../env/clock.js';
import { endpointString } from '../env/net.js';
import type { Net, TcpListener, TcpSocket } from '../env/net.js';
import { NetServer } from '../net/net_server.js';
import type { Counters } from '../observe/counters.js';
import { C } from '../observe/counters.js';
import { QUORUM_FENCE_TO_MS } from '../core/constants.js';
import { asScoutfsError, errnoError, type ScoutfsError } from '../observe/errors.js';
import type { Log } from '../observe/log.js';
import { hex16 } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import { Refusals } from '../observe/refusals.js';
import { Triggers } from '../observe/triggers.js';
import { Commits } from './commit.js';
import { SERVER_OPTIONS, type ServerContext, type ServerOptions } from './context.js';
import { FarewellWorker } from './farewell_worker.js';
import type { FenceRequests } from './fence.js';
import { FreeingWorker } from './freeing.js';
import { KnownMounts } from './known_mounts.js';
import { LogMerges } from './log_merge.js';
import { LogTreesService } from './log_trees.js';
import { allLogTrees } from './log_trees_items.js';
import type { ServerView } from './member_protocol.js';
import { MountedClients } from './mounted_clients.js';
import { votesNeeded, type ServerStatus } from './quorum_agent.js';
import { latestElection, leadersToFence, readQuorumBlock, type Slot } from './quorum_block.js';
import { reclaimMount } from './reclaim.js';
import { RECOV_GREETING, RECOV_LOCKS, Recovery } from './recov.js';
import { Requests } from './requests.js';
import { ClientServices } from './services.js';
import { SrchCompactions } from './srch.js';

const SERVER_LISTS_BLOCKS = 2 * 8185;
/** Transaction lists, srch compaction, merge request, and a log tree of height 3. */
const CLIENT_RESERVED_BLOCKS = 8185 + 8185 + 1028 + 913;
const RECLAIM_POLL_MS = 1000;
/** Sockets that come while the server is starting. */
const EARLY_SOCKETS_MAX = 1024;

export interface ServerDeps {
  env: { clock: Clock; net: Net };
  /** an instance of its own */
  core: Core;
  metaDevice: Device;
  dataDevice: Device;
  fsid: bigint;
  fmtVers: number;
  /** configured quorum slots, and ours */
  slots: readonly Slot[];
  slotNr: number;
  /** of the election that starts this server */
  term: number;
  /** of our own mount */
  rid: bigint;
  /** The server's while it runs; its `changed` has to call `fencesChanged`. */
  fences: FenceRequests;
  options?: ServerOptions;
  /** Silence of a client after which its socket is broken. */
  silenceTimeoutMs: number;
  log: Log;
  counters: Counters;
  triggers?: Triggers;
  /** Told after every change of `status`. */
  changed?(status: ServerStatus): void;
  /** The server stops by itself. */
  failed?(error: ScoutfsError): void;
}

/** What exists once the volume has been read. */
interface Running {
  context: ServerContext;
  net: NetServer;
  services: ClientServices;
  trees: LogTreesService;
  srch: SrchCompactions;
  merges: LogMerges;
  freeing: FreeingWorker;
  recovery: Recovery;
  requests: Requests;
  farewells: FarewellWorker;
  known: KnownMounts;
}

/** Blocks kept back for commits while `clients` are connected. */
export function reservedMetaBlocks(clients: number): number {
  return SERVER_LISTS_BLOCKS + Math.max(1, clients) * CLIENT_RESERVED_BLOCKS;
}

export class Server {
  private state: ServerStatus = 'down';
  private listener: TcpListener | null = null;
  private early: TcpSocket[] | null = [];
  private running: Running | null = null;
  private stopReason: ScoutfsError | null = null;
  private stopped: Promise<void> | null = null;
  private fenceWork: Promise<void> | null = null;
  private fenceAgain = false;

  constructor(private readonly deps: ServerDeps) {}

  get status(): ServerStatus { return this.state; }
  /** Why the server stopped by itself, null when it was asked to. */
  get failure(): ScoutfsError | null { return this.stopReason; }
  /** Mounts that are connected, for the reserve that df shows. */
  get clientCount(): number { return this.running?.net.clientCount ?? 0; }
  /** The lines of a debug view; none while nothing is served. */
  view(name: ServerView): string[] {
    const { running } = this;
    if (running === null) return [];
    switch (name) {
      case 'server_locks': return running.services.locks.describe((request) => request.id);
      case 'server_lock_stats': return running.services.locks.describeStats();
      case 'connections': return running.net.describe();
      case 'messages': return running.net.describeMessages();
      case 'mounts': return running.known.describe({
        isFencing: (rid) => this.deps.fences.has(rid),
        isRecovering: (rid) => running.recovery.pending(RECOV_GREETING | RECOV_LOCKS, rid),
        isConnected: (rid) => running.net.isConnected(rid),
      });
    }
  }

  /** What waits here for other mounts, or for an agent. */
  pending(): Pending[] {
    const { running } = this;
    const fences = this.deps.fences.pending();
    return running === null ? fences : [
      ...fences, ...running.recovery.pendingClients(), ...running.farewells.pending(),
      ...running.services.locks.pending(),
    ];
  }

  /** The parts, for tests and debug views. */
  get parts(): Running | null { return this.running; }

  /** Starts serving. @throws why it could not; the server is down then */
  async start(): Promise<void> {
    if (this.state !== 'down' || this.stopped !== null) throw errnoError('EBUSY');
    this.setState('starting');
    try {
      await this.fenceLeaders();
      await this.listen();
      await this.load();
      this.serve();
    } catch (e) {
      await this.stop();
      throw asScoutfsError(e);
    }
  }

  /** Stops serving; unwritten changes are dropped. Nobody is told. */
  stop(): Promise<void> {
    this.stopped ??= this.shutDown();
    return this.stopped;
  }

  /** Stops at once: nothing is written any more, not even a commit at work is finished. */
  kill(): Promise<void> {
    this.running?.context.commits.fatal(errnoError('ENOLINK', 'forced to stop'));
    return this.stop();
  }

  /** A fence request has changed. */
  fencesChanged(): void {
    if (this.state === 'up') this.lookAtFences();
  }

  // ---- starting ----

  private setState(state: ServerStatus): void {
    this.state = state;
    this.deps.changed?.(state);
  }

  private checkGoing(): void {
    if (this.stopped !== null) throw this.stopReason ?? errnoError('ESHUTDOWN');
  }

  private async fenceLeaders(): Promise<void> {
    const { metaDevice, slots, fsid, term, rid, fences, log, counters } = this.deps;
    const blocks = [];
    for (const { nr } of slots) {
      blocks.push({ slot: nr, block: await readQuorumBlock(metaDevice, nr, fsid) });
    }
    for (const old of leadersToFence(blocks, term, rid)) {
      const at = slots.find((s) => s.nr === old.slot)?.at;
      log.warn(`server: fencing the earlier leader ${old.rid.toString(16)} of slot ${old.slot}`);
      counters.inc(C.quorum_fence_leader);
      fences.create(old.rid, at?.addr ?? 0, 'quorum_block_leader');
    }
    try {
      await fences.allFenced(QUORUM_FENCE_TO_MS, () => this.stopped !== null);
    } catch (e) {
      counters.inc(C.quorum_fence_error);
      throw e;
    }
    this.checkGoing();
  }

  private async listen(): Promise<void> {
    const { env, slots, slotNr, silenceTimeoutMs } = this.deps;
    const at = slots.find((s) => s.nr === slotNr)?.at;
    if (at === undefined) throw errnoError('EINVAL', `quorum slot ${slotNr} is not configured`);
    this.listener = await env.net.listen(at, silenceTimeoutMs,
      (socket) => { this.accept(socket); });
    this.checkGoing();
  }

  private accept(socket: TcpSocket): void {
    if (this.early === null && this.running !== null) {
      this.running.net.accept(socket);
    } else if (this.early !== null && this.early.length < EARLY_SOCKETS_MAX) {
      this.early.push(socket);
    } else {
      refuse(socket);
    }
  }

  private async load(): Promise<void> {
    const { metaDevice, dataDevice, fmtVers, core, fsid } = this.deps;
    const sb = await readMetaSuper(metaDevice, dataDevice, fmtVers);
    if (sb.hdr.fsid !== fsid) throw errnoError('EINVAL', 'the device holds another volume');
    core.setVolume(metaDevice, fsid, sb.totalMetaBlocks);
    const running = this.assemble(sb);
    this.running = running;
    const { commits, mounted } = running.context;
    await commits.inspect(async () => {
      for await (const { lt } of allLogTrees(commits.space, commits.sup.logsRoot)) {
        commits.raiseSeq(Math.max(lt.maxItemSeq, lt.getTransSeq, lt.finalizeSeq));
      }
    });
    for (const { rid, addr, quorum } of await mounted.list()) {
      running.recovery.add(rid);
      running.known.add(rid, addr, quorum);
    }
    this.checkGoing();
  }

  private assemble(sb: SuperBlock): Running {
    const { core, metaDevice, dataDevice, env, log, counters, fsid, fmtVers, term } = this.deps;
    const refusals = new Refusals(log, 'server', () => env.clock.monotonicMs());
    const net: NetServer = new NetServer(env.clock, { fsid, fmtVers, term }, {
      record: (rid, from, quorum) => mounted.record(rid, from, quorum).catch((e: unknown) => {
        // a server that cannot take anybody in is of no use: perhaps another one can
        this.fail('cannot take a mount in', e);
        throw e;
      }),
      greeted: ({ rid, firstContact, quorum, from }) => {
        known.add(rid, from, quorum);
        services.greeted(rid, firstContact);
        farewells.kick();
      },
      request: (rid, request) => { requests.handle(rid, request); },
      isMounted: (rid) => commits.inspect(() => mounted.has(rid)),
      lost: (rid, from) => { this.clientLost(rid, from.addr); },
      refused: (from, why) => { refusals.note(endpointString(from), why); },
      note: (message) => { log.info(`server: ${message}`); },
    }, counters);
    const reservedBlocks = (): number => reservedMetaBlocks(net.clientCount);
    const triggers = this.deps.triggers ?? new Triggers();
    const commits = new Commits({
      core, device: metaDevice, counters, reservedBlocks,
      fillsFreed: () => triggers.fires('alloc_fill_freed_list'),
      failed: (e) => { this.fail('cannot commit', e); },
    }, sb);
    const mounted = new MountedClients(core, commits);
    const known = new KnownMounts();
    const context: ServerContext = {
      core, metaDevice, dataDevice, commits, mounted, clock: env.clock, log, counters,
      options: this.deps.options ?? SERVER_OPTIONS, reservedBlocks,
      triggers,
      send: (rid, cmd, payload, done) => { net.send(rid, cmd, payload, done); },
    };
    const recovery = new Recovery(env.clock, () => { services.recoveryFinished(); },
      (rids) => { this.recoveryExpired(rids); });
    const services = new ClientServices(context, recovery, net, this.deps.silenceTimeoutMs,
      () => { farewells.kick(); });
    const trees = new LogTreesService(context);
    const freeing = new FreeingWorker(context);
    const srch = new SrchCompactions(context);
    const merges = new LogMerges(context, freeing);
    const farewells = new FarewellWorker(mounted, {
      votesNeeded: votesNeeded(this.deps.slots.length),
      recovering: (rid) => recovery.pending(RECOV_LOCKS, rid),
      connected: (rid) => net.isConnected(rid),
      nowMs: () => env.clock.monotonicMs(),
      reclaim: (rid) => this.reclaim(rid),
      failed: (e) => { this.fail('cannot let a mount go', e); },
    });
    const requests = new Requests(context, { trees, srch, merges, services, farewells }, {
      answering: () => this.state === 'up' && commits.failure === null,
      refused: (rid, why) => { refusals.note(net.nameOf(rid), why); },
    });
    return {
      context, net, services, trees, srch, merges, freeing, recovery, requests, farewells, known,
    };
  }

  private serve(): void {
    const { running } = this;
    if (running === null) return;
    running.recovery.start();
    const early = this.early ?? [];
    this.early = null;
    this.setState('up');
    for (const socket of early) running.net.accept(socket);
    running.freeing.kick();
    this.lookAtFences();
  }

  // ---- clients that are gone ----

  private clientLost(rid: bigint, addr: number): void {
    const { running } = this;
    if (running === null) return;
    // A mount that was let go and never came for the answer needs no fencing.
    this.checkElected().then(() => running.context.mounted.list()).then((all) => {
      if (this.state === 'up' && all.some((m) => m.rid === rid)) {
        this.deps.log.warn(`server: client ${hex16(rid)} reconnect timed out, fencing`);
        this.deps.fences.create(rid, addr, 'client_reconnect');
      }
    }, (e: unknown) => { this.fail('cannot look up a lost client', e); });
  }

  private recoveryExpired(rids: bigint[]): void {
    const { running } = this;
    if (running === null) return;
    this.checkElected().then(() => running.context.mounted.list()).then((all) => {
      if (this.state !== 'up') return;
      for (const rid of rids) {
        const item = all.find((m) => m.rid === rid);
        if (item === undefined) throw errnoError('ENOENT', `no mounted client ${rid.toString(16)}`);
        this.deps.log.warn(`server: client ${hex16(rid)} has not recovered, fencing`);
        this.deps.fences.create(rid, item.addr.addr, 'client_recovery');
      }
    }).catch((e: unknown) => { this.fail('cannot fence a client that did not recover', e); });
  }

  /**
   * Before mounts are fenced: who has heard nothing for a while, because it was stopped or its
   * network is gone, may have been replaced, and its clients be those of another server.
   * @throws ESTALE when it was
   */
  private async checkElected(): Promise<void> {
    const { metaDevice, slots, fsid, slotNr, term } = this.deps;
    const latest = await latestElection(metaDevice, slots, fsid, slotNr);
    if (latest === null || latest.term <= term) return;
    throw errnoError('ESTALE', `slot ${latest.slot} was elected in term ${latest.term}`);
  }

  /** Reclaims fenced mounts one after the other, now and once a second. */
  private lookAtFences(): void {
    if (this.fenceWork !== null) {
      this.fenceAgain = true;
      return;
    }
    this.fenceWork = this.reclaimFenced()
      .catch((e: unknown) => { this.fail('cannot reclaim a fenced mount', e); })
      .finally(() => {
        this.fenceWork = null;
        if (this.state !== 'up') return;
        if (this.fenceAgain) this.lookAtFences();
        else this.deps.env.clock.after(RECLAIM_POLL_MS, () => { this.fencesChanged(); });
      });
  }

  private async reclaimFenced(): Promise<void> {
    const { fences } = this.deps;
    this.fenceAgain = false;
    for (;;) {
      if (this.state !== 'up' || this.running === null) return;
      if (fences.failed) throw errnoError('EIO', 'a mount could not be fenced');
      const rid = fences.nextFenced();
      if (rid === null) return;
      await this.reclaim(rid);
      this.running.net.forget(rid);
      fences.remove(rid);
      this.running.recovery.finish(rid, RECOV_GREETING | RECOV_LOCKS);
      // Members that want to leave may have waited for this one.
      this.running.farewells.kick();
    }
  }

  private async reclaim(rid: bigint): Promise<void> {
    const { running } = this;
    if (running === null) return;
    const { services, srch, merges, trees, context } = running;
    await reclaimMount(context, {
      locks: services.locks, omap: services.omap, finalizer: trees.finalizer, srch, merges,
    }, rid);
    running.known.delete(rid);
  }

  // ---- stopping ----

  private fail(what: string, e: unknown): void {
    const error = asScoutfsError(e);
    if (this.stopped !== null) return;
    this.stopReason = error;
    this.deps.log.error(`server: ${what}, stopping: ${error.message}`);
    this.deps.failed?.(error);
    void this.stop();
  }

  private async shutDown(): Promise<void> {
    if (this.state !== 'down') this.setState('stopping');
    const { running } = this;
    running?.recovery.stop();
    running?.services.stop();
    running?.net.close();
    const early = this.early ?? [];
    this.early = null;
    for (const socket of early) refuse(socket);
    await this.listener?.close();
    if (running !== null) {
      // The last members leave together: the one that runs us must not strand the others.
      await running.farewells.stop();
      // Nobody can begin anything new with the trees from here on.
      const committed = running.context.commits.stop();
      await this.fenceWork;
      await running.requests.stop();
      await running.freeing.stop();
      await committed;
    }
    this.deps.fences.removeAll();
    this.setState('down');
  }
}

function refuse(socket: TcpSocket): void {
  socket.start({ data: () => undefined, closed: () => undefined });
  socket.destroy();
}
