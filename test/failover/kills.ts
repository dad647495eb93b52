/**
 * Kills of leaders in a row: three members and a plain client work, the leader's process is
 * killed, another member takes over, and the killed one mounts again, all without anybody's
 * help.
 *
 *   node dist/test/failover/kills.js --kills 100 [--heartbeat-ms 2000]
 *
 * Prints how long it took until an operation that was begun after the kill, and that needs a
 * server, was completed: the first one anywhere, and the slowest node's. Ends with 1 when an
 * operation of a survivor failed, a synced file is not what it was, or the check finds
 * something. The median of the first ones has to be within the heartbeat timeout plus 2 s.
 */
import { parseArgs } from 'node:util';
import { ifProgram } from '../lib/program.js';
import { ClusterMounts } from '../lib/clustermounts.js';
import { Load, Promised } from './load.js';

const MEMBERS = 3;
const CLIENTS = 1;
/** Beyond the heartbeat timeout: election, fencing, reclaiming, reconnecting. */
export const FAILOVER_EXTRA_MS = 2000;
/** Longer than anything that waits for fencing or for lost clients. */
const GIVE_UP_MS = 90_000;

export interface KillsResult {
  problems: string[];
  /** For each kill, until the first operation anywhere, and until the slowest node's first. */
  firstMs: number[];
  slowestMs: number[];
  operations: number;
  synced: number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}

class Kills {
  readonly r: KillsResult = { problems: [], firstMs: [], slowestMs: [], operations: 0, synced: 0 };
  private readonly promised = new Promised();
  private readonly loads: Load[];

  constructor(private readonly cluster: ClusterMounts) {
    this.loads = cluster.nodes.map((n) => new Load(n.mnt, this.promised));
  }

  private load(nr: number): Load {
    const load = this.loads[nr];
    if (load === undefined) throw new Error(`no load ${nr}`);
    return load;
  }

  async round(): Promise<void> {
    const { cluster } = this;
    // everyone works again before the next one dies
    const readyMs = Date.now();
    await this.within(Promise.all(this.loads.map((l) => l.first(readyMs))), 'everyone works');
    const leader = await cluster.newLeader();
    const survivors = cluster.nodes.filter((n) => n !== leader);
    const killMs = Date.now();
    process.kill(leader.pid, 'SIGKILL');
    const firsts = survivors.map((n) =>
      this.load(n.nr).first(killMs).then((d) => d.endedMs - killMs));
    const all = await this.within(Promise.all(firsts), 'survivors work');
    this.r.firstMs.push(Math.min(...all));
    this.r.slowestMs.push(Math.max(...all));
    await this.load(leader.nr).ended;
    this.r.operations += this.load(leader.nr).operations;
    const code = this.load(leader.nr).error?.code ?? '';
    if (!['ENOTCONN', 'ECONNABORTED'].includes(code)) {
      this.r.problems.push(`the killed mount answered ${code}`);
    }
    await leader.mount();
    this.loads[leader.nr] = new Load(leader.mnt, this.promised);
  }

  private async within<T>(p: Promise<T>, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new Error(`${what}: not within ${GIVE_UP_MS / 1000} s${
          this.cluster.nodes.map((n) => n.logTail()).join('')}`));
      }, GIVE_UP_MS);
    });
    try {
      return await Promise.race([p, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async finish(): Promise<void> {
    await Promise.all(this.loads.map((l) => l.stop()));
    for (const l of this.loads) {
      this.r.operations += l.operations;
      if (l.error !== null) this.r.problems.push(`${l.dir}: ${l.error.message}`);
    }
    this.r.synced = this.promised.synced.size;
    for (const n of this.cluster.nodes) {
      this.r.problems.push(...this.promised.broken(n.mnt).map((b) => `node ${n.nr}: ${b}`));
    }
  }

  async abandon(): Promise<void> {
    await Promise.all(this.loads.map((l) => l.kill()));
  }
}

/** So many kills in a row. */
export async function kills(count: number, heartbeatMs: number,
  told: (round: number, r: KillsResult) => void = () => undefined): Promise<KillsResult> {
  const cluster = await ClusterMounts.start('kills', { members: MEMBERS, clients: CLIENTS,
    options: `quorum_heartbeat_timeout_ms=${heartbeatMs}` });
  const run = new Kills(cluster);
  try {
    for (let i = 0; i < count; i++) {
      await run.round();
      told(i, run.r);
    }
    await run.finish();
    await cluster.umountAll();
    run.r.problems.push(...await cluster.check());
    return run.r;
  } finally {
    await run.abandon();
    await cluster.end();
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: {
    kills: { type: 'string', default: '100' }, 'heartbeat-ms': { type: 'string', default: '2000' },
  } });
  const heartbeatMs = Number(values['heartbeat-ms']);
  const r = await kills(Number(values.kills), heartbeatMs, (i, now) => {
    process.stderr.write(`kill ${i + 1}: first operation after ${now.firstMs[i] ?? 0} ms, ` +
      `all nodes ${now.slowestMs[i] ?? 0} ms\n`);
  });
  const limitMs = heartbeatMs + FAILOVER_EXTRA_MS;
  if (!(median(r.firstMs) <= limitMs)) {
    r.problems.push(`median ${median(r.firstMs)} ms is more than ${limitMs} ms`);
  }
  for (const p of r.problems) console.log(p);
  console.log(`${r.firstMs.length} leaders killed, heartbeat timeout ${heartbeatMs} ms: first ` +
    `operation after ${median(r.firstMs)} ms in the median, ${Math.max(...r.firstMs)} ms at ` +
    `most; slowest node ${median(r.slowestMs)} and ${Math.max(...r.slowestMs)} ms`);
  console.log(`${r.operations} operations, ${r.synced} synced files intact, ${
    r.problems.length} problems`);
  return r.problems.length === 0 ? 0 : 1;
}

ifProgram(import.meta.url, main);
