/**
 * The server's host loses power at any write, with or without the writes that were not
 * flushed. The next server goes on from what is on the device, requests are sent again,
 * and in the end nothing that was acknowledged is missing and every block is accounted for.
 */
import t from 'tap';
import { keyBytes } from '../../host/core/keys.js';
import { LogMergeWorker } from '../../host/mount/log_merge.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { MERGE_STATUS_KEY } from '../../host/server/finalize.js';
import { CrashDevice } from '../lib/crashdev.js';
import { seeded } from '../lib/core.js';
import { FakeClient, copyVolume, damage, inodeKey, logTreesOf, makeVolume, mount, partsOf,
  startServer, until } from '../lib/server.js';
import type { TestServer, Volume } from '../lib/server.js';
import { seededRandom } from '../lib/treespace.js';

const RUNS = Number(process.env['SCOUTFS_CRASH_RUNS'] ?? 12);
/** So small that metadata is always low: every get finalizes, so merges run all the time. */
const META_BYTES = 33_500 * 65536;
const INOS = 60;

/** One volume, served by one server after the other. */
class Run {
  ts: TestServer;
  power: CrashDevice;
  restarts = 0;
  readonly model = new Map<number, Uint8Array>();

  private constructor(readonly v: Volume, ts: TestServer, power: CrashDevice) {
    this.ts = ts;
    this.power = power;
  }

  static async start(v: Volume, seed: number, writes: number): Promise<Run> {
    const meta = v.meta.copy({ below: seeded(seed) });
    const power = new CrashDevice(meta, writes);
    const ts = await startServer({ ...v, meta }, { metaDevice: power });
    return new Run({ ...v, meta }, ts, power);
  }

  /** Runs a request; if the server dies under it, sends it again to the next one. */
  async request<T>(fn: () => Promise<T>): Promise<T> {
    try {
      return await fn();
    } catch (e) {
      if (!this.power.crashed) throw e;
      await this.failover();
      return await fn();
    }
  }

  async failover(): Promise<void> {
    await this.ts.server.stop();
    this.restarts += 1;
    this.power = new CrashDevice(this.v.meta, Infinity);
    this.ts = await startServer(this.v, { metaDevice: this.power });
  }

  async transaction(c: FakeClient, from: number, nr: number, del: boolean): Promise<void> {
    await this.request(() => c.get(this.ts));
    const changes = new Map<number, Uint8Array>();
    for (let i = 0; i < nr; i++) {
      const ino = 1024 + (from + i * 7) % INOS;
      const val = new Uint8Array(40 + (from + i) % 300).fill(from + i);
      const gone = del && i % 3 === 0;
      await c.item(ino, gone ? null : val);
      changes.set(ino, gone ? new Uint8Array(0) : val);
    }
    await c.churnData(1000 + from);
    const bytes = await c.prepare();
    await this.request(() => partsOf(this.ts).trees.commit(c.rid, bytes));
    for (const [ino, val] of changes) this.model.set(ino, val);
  }

  /** One merge request, if there is one. */
  async mergeOnce(rid: bigint): Promise<boolean> {
    let request: Uint8Array;
    try {
      request = await this.request(() => partsOf(this.ts).merges.get(rid));
    } catch (e) {
      if (asScoutfsError(e).errno === 'ENOENT') return false;
      throw e;
    }
    const worker = new LogMergeWorker(this.v.meta, this.v.fsid, seededRandom(this.restarts + 1));
    const { completion } = await worker.run(request);
    try {
      await this.request(() => partsOf(this.ts).merges.commit(rid, completion));
    } catch (e) {
      if (asScoutfsError(e).errno !== 'ENOENT') throw e;
    }
    return true;
  }

  /** Fences and reclaims a mount. */
  async lose(rid: bigint): Promise<void> {
    await this.request(async () => {
      this.ts.fences.create(rid, 0, 'client_reconnect');
      this.ts.fences.setFenced(rid);
      await until(() => {
        if (this.ts.server.status !== 'up') throw new Error('the server died');
        return !this.ts.fences.has(rid);
      }, 'reclaimed');
    });
  }

  async merging(): Promise<boolean> {
    const { commits } = partsOf(this.ts).context;
    return commits.inspect(async () =>
      await commits.space.lookup(commits.sup.logMerge, MERGE_STATUS_KEY) !== null);
  }

  /** Merges everything, so that the fs tree alone tells what the volume holds. */
  async settle(rid: bigint): Promise<void> {
    await this.request(() => mount(this.ts, rid));
    const c = new FakeClient(this.v, rid);
    for (let i = 0; i < 6; i++) {
      await this.request(() => c.get(this.ts));
      const bytes = await c.prepare();
      await this.request(() => partsOf(this.ts).trees.commit(rid, bytes));
      while (await this.mergeOnce(rid)) { /* until nothing is left */ }
      const others = (await this.request(() => logTreesOf(this.ts))).filter((lt) => lt.rid !== rid);
      if (others.length === 0 && !await this.request(() => this.merging())) return;
    }
    throw new Error('log trees stay unmerged');
  }

  /** Inodes whose item is not what was acknowledged last. */
  async wrong(): Promise<string[]> {
    const { commits } = partsOf(this.ts).context;
    const bad: string[] = [];
    for (const [ino, val] of this.model) {
      const got = await commits.inspect(() =>
        commits.space.lookup(commits.sup.fsRoot, keyBytes(inodeKey(ino))));
      if (Buffer.compare(got ?? new Uint8Array(0), val) !== 0) {
        bad.push(`${ino}: ${got?.length ?? 'absent'} instead of ${val.length}`);
      }
    }
    return bad;
  }
}

/** The whole story. @returns how many writes the first server had made */
async function story(run: Run): Promise<void> {
  await run.request(() => mount(run.ts, 5n));
  const a = new FakeClient(run.v, 5n);
  await run.transaction(a, 1, 20, false);
  await run.transaction(a, 30, 20, true);
  await run.mergeOnce(5n);
  await run.transaction(a, 50, 10, true);
  await run.request(() => mount(run.ts, 6n));
  await run.mergeOnce(5n);
  await run.transaction(a, 70, 30, true);
  await run.lose(5n);
  await run.lose(6n);
  await run.settle(7n);
  await run.lose(7n);
}

t.setTimeout(20_000 + RUNS * 3000);

t.test('power fails at any write of the server', async (t) => {
  const formatted = await makeVolume({ metaBytes: META_BYTES, dataBytes: 2 ** 32 });
  const whole = await Run.start(copyVolume(formatted), 1, 1e9);
  await story(whole);
  const writes = 1e9 - whole.power.writesLeft;
  t.same(await whole.wrong(), [], `without a crash, ${writes} writes`);
  await whole.ts.server.stop();
  t.same(await damage(whole.v), []);
  const below = seeded(20260101);
  for (let i = 0; i < RUNS; i++) {
    const at = 1 + below(writes);
    const run = await Run.start(copyVolume(formatted), at, at);
    try {
      await story(run);
      if (run.restarts === 0) await run.failover();
      t.same(await run.wrong(), [], `write ${at}: nothing acknowledged is missing`);
    } catch (e) {
      t.fail(`write ${at}: ${asScoutfsError(e).stack ?? ''}`);
    }
    await run.ts.server.stop();
    t.same(await damage(run.v), [], `write ${at}: sound`);
  }
});
