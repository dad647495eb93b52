/**
 * A volume in memory, a server on it, and a client that uses its transactions like a
 * mount does: writes items into its log tree, frees and allocates blocks, commits.
 */
import { Core } from '../../host/core/core.js';
import { KeyWindow } from '../../host/core/item_face.js';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import { BtreeRoot, FS_ZONE, INODE_TYPE, LogTrees, MOUNTED_CLIENT_ZONE, type Key } from
  '../../host/core/format.js';
import { compareKeys, inodeLockRange, keyBytes, makeKey } from '../../host/core/keys.js';
import { Rec, TreeReader, TreeSpace } from '../../host/core/trees.js';
import { checkVolume, type FindingId } from '../../host/disk/check.js';
import { mkfs } from '../../host/disk/mkfs.js';
import { readSupers } from '../../host/disk/super.js';
import type { Clock } from '../../host/env/clock.js';
import type { Device } from '../../host/env/device.js';
import { realClock } from '../../host/env/clock.js';
import { Counters } from '../../host/observe/counters.js';
import { silentLog } from '../../host/observe/log.js';
import { Client } from '../../host/mount/client.js';
import { decode, encode, type Lock } from '../../host/net/messages.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { FenceRequests, type LocalFenceAgent } from '../../host/server/fence.js';
import { allLogTrees } from '../../host/server/log_trees_items.js';
import { LogTreesRec } from '../../host/server/records.js';
import { Server, type ServerDeps } from '../../host/server/server.js';
import { SimDevice } from '../../host/env/sim_device.js';
import { SimNet } from './simnet.js';
import { seededRandom } from './treespace.js';

export const ADDR = 0x7f000001;
const GIB = 2 ** 30;

export interface Volume<D extends Device = SimDevice> {
  meta: D;
  data: D;
  fsid: bigint;
}

/** A volume on any kind of device. */
export type AnyVolume = Volume<Device>;

export interface VolumeOptions {
  metaBytes?: number;
  dataBytes?: number;
  zoneBlocks?: number;
  slots?: number;
}

export async function makeVolume(o: VolumeOptions = {}): Promise<Volume> {
  const meta = new SimDevice('meta', o.metaBytes ?? 16 * GIB);
  const data = new SimDevice('data', o.dataBytes ?? 64 * GIB);
  const slots = Array.from({ length: o.slots ?? 1 }, (_, nr) =>
    ({ nr, addr: ADDR, port: 4000 + nr }));
  const sb = await mkfs(meta, data, {
    slots, allowSmallSize: true,
    ...(o.zoneBlocks === undefined ? {} : { zoneBlocks: o.zoneBlocks }),
  }, { clock: realClock, random: seededRandom(7), remark: () => undefined });
  return { meta, data, fsid: sb.hdr.fsid };
}

/** The volume as it is now; later writes to either do not show in the other. */
export function copyVolume(v: Volume): Volume {
  return { meta: v.meta.copy({}), data: v.data.copy({}), fsid: v.fsid };
}

export interface TestServer {
  server: Server;
  fences: FenceRequests;
  net: SimNet;
  deps: ServerDeps;
}

let nextTerm = 1;

export async function startServer(v: AnyVolume,
  over: Partial<ServerDeps> & { clock?: Clock; fenceAgent?: LocalFenceAgent } = {}):
Promise<TestServer> {
  const { meta: sb } = await readSupers(v.meta, v.data);
  const clock = over.clock ?? realClock;
  const net = new SimNet();
  const slots = sb.qconf.slots.flatMap((s, nr) =>
    s.addr.family === 0 ? [] : [{ nr, at: { addr: s.addr.addr, port: s.addr.port } }]);
  let server: Server | null = null;
  const fences = new FenceRequests(clock, over.fenceAgent ?? null,
    () => { server?.fencesChanged(); });
  const deps: ServerDeps = {
    env: { clock, net },
    core: new Core(seededRandom(nextTerm * 13), { memoryBytes: 160 << 20 }),
    metaDevice: v.meta, dataDevice: v.data, fsid: v.fsid, fmtVers: sb.fmtVers,
    slots, slotNr: 0, term: nextTerm++, rid: 1n, fences,
    silenceTimeoutMs: 24_000, log: silentLog, counters: new Counters(),
    options: { logMergeWaitTimeoutMs: 100 }, ...over,
  };
  server = new Server(deps);
  await server.start();
  return { server, fences, net, deps };
}

type Parts = NonNullable<Server['parts']>;

export function partsOf(t: TestServer): Parts {
  const { parts } = t.server;
  if (parts === null) throw new Error('the server is not running');
  return parts;
}

/** Records a mount as its first greeting would. */
export function mount(t: TestServer, rid: bigint, quorum = false): Promise<void> {
  return partsOf(t).context.mounted.record(rid, { addr: ADDR, port: 50_000 }, quorum);
}

export function inodeKey(ino: number): Key {
  return makeKey({ zone: FS_ZONE, first: BigInt(ino), type: INODE_TYPE });
}

/** A mount's transactions, without a network. */
export class FakeClient {
  readonly core: Core;
  readonly space: TreeSpace;
  lt: LogTreesRec;
  got: LogTrees | null = null;

  constructor(readonly v: AnyVolume, readonly rid: bigint) {
    this.core = new Core(seededRandom(Number(rid & 0xffffn) + 99), { memoryBytes: 64 << 20 });
    this.core.setVolume(v.meta, v.fsid, Math.floor(v.meta.sizeBytes / 65536));
    this.space = new TreeSpace(this.core);
    this.lt = new LogTreesRec(this.core);
  }

  /** Takes a transaction from the server. */
  async get(t: TestServer): Promise<LogTrees> {
    const bytes = await partsOf(t).trees.get(this.rid);
    this.open(bytes);
    return decode(LogTrees, bytes);
  }

  open(bytes: Uint8Array): void {
    this.lt.set(bytes);
    this.got = decode(LogTrees, bytes);
    const heads = bytes.slice(0, 64);
    this.space.begin(heads.subarray(0, 32), heads.subarray(32, 64));
  }

  /** Writes (or deletes, without value) one item, with its lock's bloom bits. */
  async item(ino: number, val: Uint8Array | null): Promise<void> {
    const seq = this.got?.getTransSeq ?? 0;
    const { core, space, lt } = this;
    const range = inodeLockRange(ino);
    new KeyWindow(core.view, ITEM_WINDOWS.keyA).set(range.start);
    new KeyWindow(core.view, ITEM_WINDOWS.keyB).set(range.end);
    const lock = core.x.lockAlloc();
    core.x.lockSetMode(lock, 2, seq);
    await core.runAsync('bloom', () =>
      core.x.forestSetBloom(lt.metaAvail, space.al, space.ws, lock));
    core.x.lockSetMode(lock, 0, 0);
    core.x.lockFree(lock);
    await space.apply(lt.itemRoot, keyBytes(inodeKey(ino)), seq, val === null ? 1 : 0,
      val ?? new Uint8Array(0));
    const { view } = core;
    const max = view.getBigUint64(lt.metaAvail + 432, true);
    if (BigInt(seq) > max) view.setBigUint64(lt.metaAvail + 432, BigInt(seq), true);
  }

  /** Takes `count` data blocks and frees them again, one by one with gaps when `scattered`. */
  async churnData(count: number, scattered = false): Promise<void> {
    const { core, space, lt } = this;
    await core.runAsync('alloc data', () =>
      core.x.ext_alloc(space.al, space.ws, lt.dataAvail, count));
    const start = core.x.ext_got_start();
    const len = core.x.ext_got_len();
    const free = (root: number, from: number, n: number): Promise<number> =>
      core.runAsync('free data', () => core.x.ext_insert(space.al, space.ws, root, from, n));
    if (!scattered) {
      await free(lt.dataFreed, start, len);
      return;
    }
    for (let i = 0; i < len; i++) {
      await free(i % 2 === 0 ? lt.dataFreed : lt.dataAvail, start + i, 1);
    }
  }

  /** Writes the transaction's blocks and assembles what the commit request carries. */
  async prepare(): Promise<Uint8Array> {
    const heads = this.space.finish();
    await this.space.write();
    this.space.forget(true);
    this.core.bytes.set(heads.avail, this.lt.metaAvail);
    this.core.bytes.set(heads.freed, this.lt.metaFreed);
    return this.lt.get();
  }

  async commit(t: TestServer): Promise<Uint8Array> {
    const bytes = await this.prepare();
    await partsOf(t).trees.commit(this.rid, bytes);
    return bytes;
  }

  /** One whole transaction on inodes from..from+nr-1. */
  async transaction(t: TestServer, from: number, nr: number, valBytes = 200): Promise<void> {
    await this.get(t);
    for (let i = 0; i < nr; i++) await this.item(from + i, new Uint8Array(valBytes).fill(i));
    await this.commit(t);
  }
}

export interface TestMount {
  client: Client;
  /** what the server asked for, in order */
  asked: string[];
  grants: Lock[];
  /** locks held, as reported in recovery */
  held: Lock[];
  openInos: bigint[];
}

/** A client over the server's network. Invalidations are answered at once. */
export function connect(net: SimNet, v: AnyVolume, rid: bigint,
  o: { quorum?: boolean; clock?: Clock; at?: () => number } = {}): TestMount {
  const asked: string[] = [];
  const grants: Lock[] = [];
  const held: Lock[] = [];
  const openInos = Array.from({ length: 16 }, () => 0n);
  const client = new Client({
    clock: o.clock ?? realClock, net, log: silentLog, silenceTimeoutMs: 24_000,
    identity: { fsid: v.fsid, fmtVers: 2, rid, quorum: o.quorum ?? false },
    findServer: () => Promise.resolve({ addr: ADDR, port: 4000 + (o.at?.() ?? 0) }),
    isMounted: () => isMounted(v, rid),
    handlers: {
      syncLogTrees: () => { asked.push('sync'); },
      invalidate: (lock, answer) => {
        asked.push(`invalidate ${lock.oldMode}->${lock.newMode}`);
        answer(lock);
      },
      grant: (lock) => { grants.push(lock); },
      recoverLocks: (from) => {
        asked.push('recover');
        return held.filter((l) => compareKeys(l.key, from) >= 0);
      },
      openInoMap: (args) => ({ args, bits: openInos }),
    },
  });
  client.start();
  return { client, asked, grants, held, openInos };
}

/** Whether the volume has a mounted client item for `rid`. */
export async function isMounted(v: AnyVolume, rid: bigint): Promise<boolean> {
  const { meta: sb } = await readSupers(v.meta, v.data);
  const core = new Core(seededRandom(3), { memoryBytes: 16 << 20 });
  core.setVolume(v.meta, v.fsid, sb.totalMetaBlocks);
  const root = new Rec(core, BtreeRoot.size, encode(BtreeRoot, sb.mountedClients));
  const key = keyBytes(makeKey({ zone: MOUNTED_CLIENT_ZONE, first: rid }));
  return await new TreeReader(core).lookup(root.ptr, key) !== null;
}

/** Waits until `fn` is true. */
export async function until(fn: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (await fn()) return;
    await realClock.sleep(10);
  }
  throw new Error(`never happened: ${what}`);
}

/** The errno that a promise rejects with, null when it does not. */
export async function errnoOf(p: Promise<unknown>): Promise<string | null> {
  try {
    await p;
    return null;
  } catch (e) {
    return asScoutfsError(e).errno;
  }
}

/** All log_trees of the dirty super. */
export async function logTreesOf(t: TestServer): Promise<LogTrees[]> {
  const { commits } = partsOf(t).context;
  return commits.inspect(async () => {
    const all: LogTrees[] = [];
    const reader = new TreeReader(commits.space.core);
    for await (const { lt } of allLogTrees(reader, commits.sup.logsRoot)) {
      all.push(lt);
    }
    return all;
  });
}

/** Findings that the made-up items of these tests cause by themselves. */
const ABOUT_ITEMS =
  /^(CHK_(ITEM|INODE|INDEX|ORPHAN|DIRENT|SRCH_|XATTR|DATA_LOST)|SC_DIRENT|SC_INODE)/;

/** Damage of the volume, apart from what made-up items are: empty when all is well. */
export async function damage(v: AnyVolume): Promise<string[]> {
  const report = await checkVolume(v.meta, v.data);
  return report.findings.filter((f) => !ABOUT_ITEMS.test(f.id satisfies FindingId))
    .map((f) => `${f.id} ${f.message}`);
}
