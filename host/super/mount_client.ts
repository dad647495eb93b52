/**
 * One mount's client side put together: core, items, locks, transaction, connection,
 * file system, and the work that goes on in the background.
 *
 * The parts know each other only through what they are given here. `start` brings the
 * mount to the point where operations can run; `unmount` is the normal way down and
 * needs the server; `destroy` only puts things away.
 * Source: client.md 6, 7; super.md 4, 7.
 */
import { Core } from '../core/core.js';
import { CoreItems } from '../core/item_face.js';
import { ITEM_WINDOWS } from '../core/item_exports.js';
import type { LockPtr } from '../core/items.js';
import {
  BLOCK_LG_SIZE, FORMAT_VERSION_MAX, LOCK_INODE_GROUP_NR, ROOT_INO,
} from '../core/constants.js';
import type { SuperBlock } from '../core/format.js';
import { readMetaSuper, readOfflineSuper } from '../disk/super.js';
import type { Env } from '../env/env.js';
import { devicePending } from '../env/watched_device.js';
import { CallerMemory } from '../env/caller_mem.js';
import { onlyFrom } from '../env/peer_networks.js';
import { FileSystem } from '../fs/fs.js';
import type { StatfsMore } from '../fs/ioctl.js';
import { OrphanScan } from '../fs/orphan_scan.js';
import type { Call, KernelCaching, KernelDrain } from '../fs/vfs.js';
import { newAttr } from '../fuse/protocol.js';
import { Client } from '../mount/client.js';
import { MountLocks } from '../mount/core_locks.js';
import { Forest } from '../mount/forest.js';
import { InoPools } from '../mount/ino_pool.js';
import { modeServes } from '../mount/client_lock.js';
import { LockClient } from '../mount/lock.js';
import { LockKind } from '../mount/lock_kinds.js';
import type { MountOptions } from '../mount/options.js';
import { MountOp, MountOps } from '../mount/op_context.js';
import { MODE_NULL, MODE_READ, MODE_WRITE, Wait } from '../mount/op.js';
import { Totals } from '../mount/totl.js';
import { Trans } from '../mount/trans.js';
import { WeakItems } from '../mount/wkic.js';
import type { ControlTree } from '../observe/control.js';
import { C, Counters } from '../observe/counters.js';
import type { Log } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';
import { Triggers } from '../observe/triggers.js';
import { countStable } from '../server/alloc_counts.js';
import { MemberFiles } from '../server/member_files.js';
import { MemberHandle } from '../server/member_thread.js';
import { checkSlotsInside, presentSlots } from '../server/quorum_block.js';
import { reservedMetaBlocks } from '../server/server.js';
import { ScoutfsError, assert, asScoutfsError, errnoError } from '../observe/errors.js';
import type { Volume } from '../super.js';
import { BackgroundLoops } from './background.js';
import { DataSpace } from './data_space.js';
import { MountedLookup, findServer } from './lookup.js';
import { MountOpenMap } from './open_map.js';

/** Share of the core's memory for block slots; items get most of the rest. */
const SLOT_SHARE = 0.6;
/** Share of the core's memory for items. */
const ITEM_SHARE = 0.3;
const MIB = 1024 * 1024;
/** A starting mount gives up when this many servers of its own have failed. */
const SERVER_STARTS_MAX = 3;
/** Failures in a row to look for the server, ten a second, before a mount that begins gives up. */
const LOOK_FAILURES_MAX = 50;
/** A lock taken away less than this ago is not worth kernel caching (fuse.md 5.1). */
const CONTENDED_MS = 200;
/** Unused inodes of a lock that went away are pruned this much later (fuse.md 5.3 step 8). */
const PRUNE_DELAY_MS = 100;

/** An operation of our own asks nothing of its caller. */
const NO_CALL: Call = {
  uid: 0, gid: 0, pid: 0, suppGid: -1,
  lend: () => new Uint8Array(0),
  keepData: () => () => undefined,
};

/** The kernel's side of a mount, which knows what the kernel may have cached. */
export interface KernelSide {
  readonly drain: Pick<KernelDrain, 'drain' | 'prune' | 'pruneIdle'>;
  /** Requests that wait for a lock, a block, a commit or the server. */
  readonly parkedCount?: number;
  /** The inodes that the kernel refers to. */
  inos(): Iterable<number>;
}

export class MountClient {
  readonly ops: MountOps;
  readonly fs: FileSystem;
  readonly caching: KernelCaching;
  readonly locks: LockClient;
  readonly trans: Trans;
  readonly core: Core;
  readonly forest: Forest;
  readonly client: Client;
  readonly counters = new Counters();
  readonly triggers = new Triggers();
  private readonly coreLocks: MountLocks;
  private readonly openMap: MountOpenMap;
  readonly loops: BackgroundLoops;
  readonly weak: WeakItems;
  member: MemberHandle | null = null;
  private memberFiles: MemberFiles | null = null;
  private session: KernelSide | null = null;
  private serverFailures = 0;
  /** of the metadata device, as the core knows it */
  private metaBlocks = 0;
  /** Why the member takes part in elections no more. */
  private memberLost: Pending | null = null;
  private giveUpStart: ((error: ScoutfsError) => void) | null = null;
  private unmounting = false;
  private forced = false;

  /** `broken` is called when the mount's core finds an invariant of its own broken. */
  constructor(private readonly env: Env, private readonly log: Log, readonly vol: Volume,
    private readonly control: ControlTree, broken: (error: ScoutfsError) => void) {
    const { options, metaSuper: sb, metaDevice, dataDevice } = vol;
    const memoryBytes = options.coreMemoryMb * MIB;
    this.core = new Core(env.random, {
      memoryBytes, slotShare: SLOT_SHARE, onBroken: broken, countCrossings: vol.countCrossings,
      staleNext: () => this.triggers.fires('block_remove_stale'),
    });
    this.lookAtSizes();
    assert(this.core.x.itemInit(memoryBytes * ITEM_SHARE) !== 0, 'memory for items');
    const lookup = new MountedLookup(env, vol);
    this.client = new Client({
      clock: env.clock, log, counters: this.counters,
      net: onlyFrom(env.net, options.peerNetworks, () => {
        this.counters.inc(C.net_refused_peers);
      }),
      identity: { fsid: sb.hdr.fsid, fmtVers: sb.fmtVers, rid: vol.rid,
        quorum: options.quorumSlotNr !== null },
      silenceTimeoutMs: options.tcpKeepaliveTimeoutMs,
      findServer: () => findServer(metaDevice, dataDevice, sb.fmtVers),
      lookFailed: (e, times) => { if (times >= LOOK_FAILURES_MAX) this.giveUpStart?.(e); },
      blocksCome: () => { this.lookAtSizes(); },
      unreachable: (at) => { this.member?.leaderUnreachable(at); },
      isMounted: () => lookup.isMounted(),
      handlers: {
        grant: (lock) => { this.locks.grant(lock); },
        invalidate: (lock, answer) => { this.locks.invalidate(lock, answer); },
        recoverLocks: (key) => this.locks.recover(key),
        openInoMap: (args) => this.openMap.answer(args),
        syncLogTrees: () => { this.syncLogTrees(); },
      },
    });
    this.trans = new Trans({
      core: this.core, client: this.client, metaDevice, dataDevice, clock: env.clock, log,
      counters: this.counters,
    });
    this.coreLocks = new MountLocks(this.core);
    this.locks = new LockClient({
      clock: env.clock, core: this.coreLocks, counters: this.counters,
      send: (lock) => { this.client.lock(lock); },
      transSeq: () => this.trans.seq,
      commit: () => this.trans.commit(),
      drain: async (lock, from, to) => {
        await this.session?.drain.drain(lock.firstIno, from, to);
        this.fs.lockLost(lock.firstIno, LOCK_INODE_GROUP_NR, to);
        if (to === MODE_NULL) this.pruneLater(lock.firstIno);
      },
      dropQuotaRules: () => { this.fs.quotas.drop(); },
      idleCount: () => options.lockIdleCount,
      failed: (e) => { log.warn(`giving a lock up: ${e.message}`); },
    });
    this.forest = new Forest({
      core: this.core, getRoots: () => this.client.getRoots(),
      makeRoom: () => this.trans.makeRoom(),
      grantNr: () => this.locks.grantNr,
      grantNrOf: (ptr) => this.locks.grantNrOf(ptr),
      beginRead: (ptr) => this.locks.beginRead(ptr), isLive: (ptr) => this.locks.isLive(ptr),
      counters: this.counters,
    });
    this.openMap = new MountOpenMap(this.client, this.locks);
    const inos = new InoPools(async (count) => {
      const { ino, nr } = await this.client.allocInodes(count);
      return { first: ino, nr };
    }, () => options.inoAllocPerLock);
    this.ops = new MountOps(() => new MountOp(this.locks, this.trans, inos));
    this.caching = { mayCache: (ino) => this.mayCache(ino) };
    this.weak = new WeakItems({
      core: this.core, clock: env.clock,
      readSuper: async () => (await readOfflineSuper(vol.metaDevice, vol.metaSuper.hdr.fsid)).sb,
    });
    this.fs = this.makeFs();
    this.loops = new BackgroundLoops({
      env, log, client: this.client, vol, counters: this.counters, triggers: this.triggers,
      scan: new OrphanScan({
        ...this.openMap.source(this.core),
        usedHere: (ino) => { this.session?.drain.pruneIdle(ino); },
      }, this.openMap, this.fs.deletes, this.counters),
      orphanDelayMs: () => options.orphanScanDelayMs,
    });
  }

  /**
   * Brings the mount up to its first transaction. Waits for a server, but not for one of
   * our own that will not come, and not any longer than until `givingUp` is aborted.
   * @throws what failed; EINTR when it was given up
   */
  async start(givingUp?: AbortSignal): Promise<void> {
    const hopeless = new Promise<never>((_, reject) => { this.giveUpStart = reject; });
    const giveUp = (): void => {
      const [first] = this.client.pending();
      this.giveUpStart?.(errnoError('EINTR', `given up ${String(givingUp?.reason)}${
        first === undefined ? '' : ` while it waited: ${first.text}`}`));
    };
    const start = async (): Promise<void> => {
      await this.startOwnMember();
      // Not before: a member that has begun to start has to be stopped.
      givingUp?.addEventListener('abort', giveUp);
      if (givingUp?.aborted === true) giveUp();
      else await this.bringUp();
    };
    try {
      await Promise.race([start(), hopeless]);
    } finally {
      givingUp?.removeEventListener('abort', giveUp);
      this.giveUpStart = null;
    }
  }

  private async startOwnMember(): Promise<void> {
    const { vol } = this;
    checkSlotsInside(presentSlots(vol.metaSuper.qconf), vol.options.peerNetworks);
    if (vol.options.quorumSlotNr !== null) {
      this.member = await this.startMember(vol.options.quorumSlotNr);
      // They may have been changed while it started.
      this.optionChanged('quorumHeartbeatTimeoutMs');
      this.optionChanged('logMergeWaitTimeoutMs');
    }
  }

  private async bringUp(): Promise<void> {
    this.client.start();
    // the first operation that waits for a server
    const lock = await this.locks.lock(LockKind.inode, ROOT_INO, MODE_READ);
    this.locks.unlock(lock, MODE_READ);
    await this.trans.start();
    await this.runOp('the root inode', (op) => {
      this.fs.getattr(op, NO_CALL, ROOT_INO, { attr: newAttr(), attrCacheable: false });
    });
    this.openMap.set(ROOT_INO);
  }

  /** The kernel's side, made after `start` and before requests are served. */
  attach(session: KernelSide): void {
    this.session = session;
  }

  /** No option can be changed any more. */
  get isEnding(): boolean {
    return this.unmounting || this.forced;
  }

  /** The mount's options have changed. */
  optionChanged(key: keyof MountOptions): void {
    const { options } = this.vol;
    if (key === 'orphanScanDelayMs') this.loops.rescheduleScan();
    if (key === 'quorumHeartbeatTimeoutMs') {
      this.member?.setOption('heartbeatTimeoutMs', options.quorumHeartbeatTimeoutMs);
    }
    if (key === 'logMergeWaitTimeoutMs') {
      this.member?.setOption('logMergeWaitTimeoutMs', options.logMergeWaitTimeoutMs);
    }
  }

  /** What waits for something that may take long. */
  pending(): Pending[] {
    const { metaDevice, dataDevice } = this.vol;
    const parked = this.session?.parkedCount ?? 0;
    const server = this.client.pending();
    const [first] = server;
    if (first?.kind === 'server') first.text += `; ${parked} operations of programs wait`;
    return [
      ...server, ...this.locks.pending(), ...this.trans.pending(),
      ...devicePending([metaDevice, dataDevice]), ...this.fs.pending(),
      ...this.memberLost === null ? [] : [this.memberLost],
    ];
  }

  startBackground(): void {
    this.loops.start();
  }

  /** Runs an operation that no request asked for. */
  async runOp<T>(what: string, fn: (op: MountOp) => T): Promise<T> {
    const op = this.ops.begin(false);
    try {
      for (;;) {
        try {
          return fn(op);
        } catch (e) {
          if (!(e instanceof Wait)) throw e;
          if (e.unlock) op.unlockAll();
          await e.ready;
        }
      }
    } catch (e) {
      const err = asScoutfsError(e);
      err.message = `${what}: ${err.message}`;
      throw err;
    } finally {
      this.ops.end(op);
    }
  }

  /** The normal way down: everything is committed and the server told. */
  async unmount(): Promise<void> {
    this.unmounting = true;
    await this.loops.stopScan();
    this.counters.inc(C.trans_commit_sync_fs);
    await this.trans.sync();
    for (const ino of [...this.session?.inos() ?? []]) this.fs.evict(ino);
    await this.fs.deletionsDone();
    await this.loops.stop();
    // From here on locks are given away without a look at what was changed under them.
    await this.trans.sync();
    this.locks.shutdown();
    await this.trans.stop();
    await this.client.farewell();
    await this.client.stop();
    // Everything is kept and told by now: an end that cannot be recorded is no failure.
    await this.stopMember();
  }

  /** Nothing is written any more; the server is not told. */
  force(): void {
    this.forced = true;
    this.trans.force();
    this.coreLocks.force();
    this.locks.force();
    void this.loops.stopScan();
    void this.client.force();
    void this.member?.force();
    this.memberFiles?.close();
  }

  async destroy(): Promise<void> {
    await this.loops.stop();
    await this.client.force();
    await this.stopMember();
  }

  private async stopMember(): Promise<void> {
    try {
      await this.member?.stop();
    } catch (e) {
      this.log.error(`quorum: ${asScoutfsError(e).message}`);
    }
    this.member = null;
    this.memberFiles?.close();
  }

  private async startMember(slotNr: number): Promise<MemberHandle> {
    const { vol, log } = this;
    const files = new MemberFiles(this.control, this.env.clock);
    this.memberFiles = files;
    const member = await MemberHandle.start(this.env, {
      metaPath: vol.metaDevice.path, dataPath: vol.dataDevice.path, fsid: vol.metaSuper.hdr.fsid,
      rid: vol.rid, slotNr, silenceTimeoutMs: vol.options.tcpKeepaliveTimeoutMs,
      coreMemoryBytes: vol.memory.serverBytes, logLevel: log.level,
      peerNetworks: vol.options.peerNetworks,
      heartbeatTimeoutMs: vol.options.quorumHeartbeatTimeoutMs,
      logMergeWaitTimeoutMs: vol.options.logMergeWaitTimeoutMs,
    }, log, {
      fences: (requests) => { files.fences(requests); },
      serverFailed: (e) => { this.serverFailed(e); },
      failed: (e) => {
        log.error(`quorum: ${e.message}`);
        this.memberLost = {
          kind: 'member', sinceMs: this.env.clock.monotonicMs(),
          text: `this mount takes part in elections no more: ${e.message}`,
        };
        this.giveUpStart?.(e);
      },
    });
    files.show(member);
    return member;
  }

  /**
   * A server of ours could not start, or stopped because of an error. Elections go on for
   * ever, because a device may come back; but a mount that is starting has nothing to lose,
   * and of a damaged volume each server finds the same.
   */
  private serverFailed(e: ScoutfsError): void {
    this.serverFailures += 1;
    if (this.serverFailures < SERVER_STARTS_MAX) return;
    this.giveUpStart?.(new ScoutfsError('NO_SERVER', e.errno, {
      message: `no server can run: ${e.message}`, cause: e,
    }));
  }

  private makeFs(): FileSystem {
    const { vol, env, log } = this;
    const items = new CoreItems(this.core, (lock) => this.missing(lock));
    return new FileSystem({
      items, ops: this.ops, openMap: this.openMap,
      dataAlloc: new DataSpace(this.trans, this.counters), dataDevice: vol.dataDevice,
      transData: {
        addWrite: (p) => { this.trans.addDataWrite(p); },
        givenUp: () => this.forced,
      },
      clock: env.clock,
      formatVersion: Math.min(vol.metaSuper.fmtVers, FORMAT_VERSION_MAX),
      acl: vol.options.acl,
      prealloc: {
        get preallocBlocks() { return vol.options.dataPreallocBlocks; },
        get contigOnly() { return vol.options.dataPreallocContigOnly === 1; },
      },
      statfs: () => {
        this.counters.inc(C.statfs);
        if (this.triggers.fires('statfs_lock_purge')) this.locks.releaseIdle();
        return this.client.statfs();
      },
      counters: this.counters,
      sync: () => {
        this.counters.inc(C.trans_commit_fsync);
        return this.trans.sync();
      },
      totals: new Totals(this.weak),
      requestCommit: () => this.trans.commit(),
      isAdmin: (caller) => env.isAdmin(caller.pid),
      ioctl: {
        memory: new CallerMemory((line) => { log.warn(line); }),
        resizeDevices: (totals) => this.client.resizeDevices(totals),
        statfsMore: () => this.statfsMore(),
        allocDetail: async () => (await countStable(this.core, 'alloc detail',
          () => this.readSuper())).free,
      },
      failed: (what, e) => { log.warn(`${what}: ${asScoutfsError(e).message}`); },
    });
  }

  /** The volume may fill the devices as they are, and is never told that it has grown. */
  private lookAtSizes(): void {
    const { metaDevice, dataDevice, metaSuper } = this.vol;
    metaDevice.refreshSize?.();
    dataDevice.refreshSize?.();
    const blocks = Math.floor(metaDevice.sizeBytes / BLOCK_LG_SIZE);
    if (blocks !== this.metaBlocks) this.core.setVolume(metaDevice, metaSuper.hdr.fsid, blocks);
    this.metaBlocks = blocks;
  }

  private readSuper(): Promise<SuperBlock> {
    const { metaDevice, dataDevice, metaSuper } = this.vol;
    return readMetaSuper(metaDevice, dataDevice, metaSuper.fmtVers);
  }

  private async statfsMore(): Promise<StatfsMore> {
    const sb = await this.readSuper();
    // A server that is not ours knows its clients; of that mount's reserve df shows the least.
    const clients = (await this.member?.state())?.clients ?? 0;
    return {
      fsid: sb.hdr.fsid, rid: this.vol.rid, committedSeq: await this.client.getLastSeq(),
      totalMetaBlocks: sb.totalMetaBlocks, totalDataBlocks: sb.totalDataBlocks,
      reservedMetaBlocks: reservedMetaBlocks(clients),
    };
  }

  /** A range that is not cached: it is read, and the operation runs again. */
  private missing(lock: LockPtr): never {
    const key = this.core.copyOut(ITEM_WINDOWS.missing, 32);
    throw new Wait(this.forest.read(lock, key));
  }

  /**
   * Inodes that the kernel keeps without using them hold open map bits, which keep other
   * mounts from deleting them. Unhurried, and not while the lock comes and goes.
   */
  private pruneLater(firstIno: number): void {
    this.env.clock.after(PRUNE_DELAY_MS, () => {
      const lock = this.locks.peek(LockKind.inode, firstIno);
      if (lock === null || lock.mode === MODE_NULL) this.session?.drain.prune(firstIno);
    });
  }

  private mayCache(ino: number): boolean {
    const lock = this.locks.peek(LockKind.inode, ino);
    return lock !== null && lock.invalidatingMode === null && lock.reductions.length === 0 &&
      (modeServes(lock.mode, MODE_READ) || lock.mode === MODE_WRITE) &&
      !this.locks.takenLately(LockKind.inode, ino, CONTENDED_MS);
  }

  /** The server wants our transaction; it does not wait for it. */
  private syncLogTrees(): void {
    if (this.unmounting || this.forced) return;
    void this.trans.commit().catch(() => { /* retried inside; only a forced end gets here */ });
  }
}
