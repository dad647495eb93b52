/**
 * A real member thread on real image files and sockets: elected, serving a client,
 * letting it go, leaving; and the ways in which it cannot begin.
 */
import t from 'tap';
import type { SuperBlock } from '../../host/core/format.js';
import { BlockRef, BtreeRoot, LOCK_READ, MOUNTED_CLIENT_ZONE } from '../../host/core/format.js';
import { Core } from '../../host/core/core.js';
import { inodeLockRange, keyBytes, makeKey } from '../../host/core/keys.js';
import { Rec, TreeReader } from '../../host/core/trees.js';
import { mkfs } from '../../host/disk/mkfs.js';
import { readSupers } from '../../host/disk/super.js';
import { openDevice } from '../../host/env/device.js';
import type { Device } from '../../host/env/device.js';
import { realEnv } from '../../host/env/env.js';
import { Client } from '../../host/mount/client.js';
import type { Lock } from '../../host/net/messages.js';
import { silentLog } from '../../host/observe/log.js';
import type { MemberConfig } from '../../host/server/member_protocol.js';
import { MemberHandle } from '../../host/server/member_thread.js';
import { findServer, presentSlots, readQuorumBlock } from '../../host/server/quorum_block.js';
import { imageFile } from '../lib/image.js';
import { tempDir } from '../lib/shared.js';

const GIB = 2 ** 30;
const RID = 0xa1b2c3d4e5f60718n;
const LOCAL = 0x7f000001;

interface Volume {
  metaPath: string;
  dataPath: string;
  meta: Device;
  data: Device;
  sb: SuperBlock;
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const l = await realEnv.net.listen({ addr: LOCAL, port: 0 }, 24_000, () => undefined);
  await l.close();
  return l.local.port;
}

async function makeVolume(dir: string): Promise<Volume> {
  const metaPath = imageFile(dir, 'meta', 6 * GIB);
  const dataPath = imageFile(dir, 'data', 8 * GIB);
  const meta = await openDevice(metaPath);
  const data = await openDevice(dataPath);
  await mkfs(meta, data, {
    slots: [{ nr: 0, addr: LOCAL, port: await freePort() }], allowSmallSize: true,
  }, { clock: realEnv.clock, random: realEnv.random, remark: () => undefined });
  const { meta: sb } = await readSupers(meta, data);
  return { metaPath, dataPath, meta, data, sb };
}

function config(v: Volume, rid = RID): MemberConfig {
  return {
    metaPath: v.metaPath, dataPath: v.dataPath, fsid: v.sb.hdr.fsid, rid, slotNr: 0,
    silenceTimeoutMs: 24_000, coreMemoryBytes: 128 << 20, logLevel: 'error', peerNetworks: [],
    heartbeatTimeoutMs: 10_000, logMergeWaitTimeoutMs: 500,
  };
}

async function isMounted(v: Volume, rid: bigint): Promise<boolean> {
  const { meta: sb } = await readSupers(v.meta, v.data);
  const core = new Core(realEnv.random, { memoryBytes: 16 << 20 });
  core.setVolume(v.meta, sb.hdr.fsid, sb.totalMetaBlocks);
  const root = new Rec(core, BtreeRoot.size);
  BtreeRoot.write(core.view, root.ptr, sb.mountedClients);
  const found = await new TreeReader(core).lookup(root.ptr,
    keyBytes(makeKey({ zone: MOUNTED_CLIENT_ZONE, first: rid })));
  return found !== null;
}

t.test('a member serves its mount', async (t) => {
  const { dir, remove } = tempDir('scoutfs-member');
  t.teardown(remove);
  const v = await makeVolume(dir);
  const roles: boolean[] = [];
  const member = await MemberHandle.start(realEnv, config(v), silentLog,
    { role: (isLeader) => { roles.push(isLeader); } });
  await t.rejects(MemberHandle.start(realEnv, config(v, 77n), silentLog),
    { code: 'EADDRINUSE', message: /in use, probably by another mount in the same quorum slot/ });
  const granted: Lock[] = [];
  const client = new Client({
    clock: realEnv.clock, net: realEnv.net, log: silentLog, silenceTimeoutMs: 24_000,
    identity: { fsid: v.sb.hdr.fsid, fmtVers: v.sb.fmtVers, rid: RID, quorum: true },
    findServer: () => findServer(v.meta, presentSlots(v.sb.qconf), v.sb.hdr.fsid),
    isMounted: () => isMounted(v, RID),
    handlers: {
      syncLogTrees: () => undefined,
      invalidate: (lock, answer) => { answer(lock); },
      grant: (lock) => { granted.push(lock); },
      recoverLocks: () => [],
      openInoMap: (args) => ({ args, bits: Array.from({ length: 16 }, () => 0n) }),
    },
  });
  client.start();
  client.lock({ key: inodeLockRange(1).start, writeSeq: 0, oldMode: 0, newMode: LOCK_READ });
  const lt = await client.getLogTrees();
  t.equal(lt.rid, RID);
  t.equal(lt.nr, 1);
  t.ok(lt.getTransSeq > lt.commitTransSeq, 'a transaction is open');
  t.ok(lt.metaAvail.totalNr > 4000, 'with blocks to allocate from');
  t.ok(lt.dataAvail.totalLen >= 262144);
  t.same(await client.getLogTrees(), lt, 'asking again gives the same');
  await client.commitLogTrees(lt);
  await client.commitLogTrees(lt);
  const next = await client.getLogTrees();
  t.ok(next.getTransSeq > lt.getTransSeq);
  t.equal(granted.length, 1);
  const inodes = await client.allocInodes();
  t.equal(inodes.nr, 10_240);
  const stat = await client.statfs();
  t.equal(stat.totalMetaBlocks, v.sb.totalMetaBlocks);
  t.ok(stat.freeDataBlocks > 0 && stat.freeDataBlocks <= stat.totalDataBlocks);
  const roots = await client.getRoots();
  t.ok(roots.logsRoot.height > 0);
  t.ok(await client.getLastSeq() < next.getTransSeq, 'an open transaction is not shown');
  t.same(roots.fsRoot.ref, BlockRef.read(new DataView(refBytes(v.sb.fsRoot).buffer), 0));
  t.match(await member.status(), /role 2 \(leader\)/);
  t.equal(await isMounted(v, RID), true);
  await client.farewell();
  await client.stop();
  t.equal(await isMounted(v, RID), false);
  await member.stop();
  t.same(roles, [true, false]);
  const block = await readQuorumBlock(v.meta, 0, v.sb.hdr.fsid);
  const [begin, , elect, fence, stop, end] = block.events;
  t.equal(elect?.term, stop?.term, 'the stop is recorded');
  t.equal(fence?.term, 1);
  t.ok((end?.writeNr ?? 0) > (begin?.writeNr ?? 0), 'and the end');
  await Promise.all([v.meta.close(), v.data.close()]);
});

function refBytes(root: BtreeRoot): Uint8Array {
  const b = new Uint8Array(BtreeRoot.size);
  BtreeRoot.write(new DataView(b.buffer), 0, root);
  return b;
}

t.test('what keeps a member from beginning is said in one line', async (t) => {
  const { dir, remove } = tempDir('scoutfs-member');
  t.teardown(remove);
  const v = await makeVolume(dir);
  await t.rejects(MemberHandle.start(realEnv, { ...config(v), slotNr: 3 }, silentLog),
    { message: /^quorum slot 3 is not configured \(slots: 0\)$/ });
  await t.rejects(MemberHandle.start(realEnv, { ...config(v), metaPath: `${dir}/none` }, silentLog),
    { code: 'ENOENT', message: /none/ });
  await t.rejects(MemberHandle.start(realEnv, { ...config(v), fsid: 1n }, silentLog),
    { code: 'MEMBER_VOLUME' });
  await Promise.all([v.meta.close(), v.data.close()]);
});

t.test('a forced end leaves the leader to be fenced', async (t) => {
  const { dir, remove } = tempDir('scoutfs-member');
  t.teardown(remove);
  const v = await makeVolume(dir);
  let up: () => void = () => undefined;
  const isUp = new Promise<void>((resolve) => { up = resolve; });
  const member = await MemberHandle.start(realEnv, config(v), silentLog,
    { server: (status) => { if (status === 'up') up(); } });
  await isUp;
  await member.force();
  t.match(await member.status(), /follower/);
  const block = await readQuorumBlock(v.meta, 0, v.sb.hdr.fsid);
  t.ok((block.events[2]?.term ?? 0) > (block.events[4]?.term ?? 0));
  await Promise.all([v.meta.close(), v.data.close()]);
});
