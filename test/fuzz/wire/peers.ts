/**
 * The client beside the hostile one: it keeps to the rules, with the real client's code.
 */
import { LogTrees } from '../../../host/core/format.js';
import { compareKeys, inodeLockRange, keyToString } from '../../../host/core/keys.js';
import type { Clock } from '../../../host/env/clock.js';
import { silentLog } from '../../../host/observe/log.js';
import { Client } from '../../../host/mount/client.js';
import { decode, encode } from '../../../host/net/messages.js';
import type { Lock } from '../../../host/net/messages.js';
import { ADDR, FakeClient, isMounted } from '../../lib/server.js';
import type { AnyVolume } from '../../lib/server.js';
import type { SimNet } from '../../lib/simnet.js';

const OPEN_MAP_WORDS = 16;
/** Items of one honest transaction. */
const ITEMS = 3;

/** A mount that keeps to the rules: locks, transactions, open map. */
export class HonestMount {
  readonly client: Client;
  /** Granted modes by key, as this client knows them. */
  readonly modes = new Map<string, number>();
  /** Requests of the server. */
  asked = 0;
  private readonly held = new Map<string, Lock>();
  private readonly tree: FakeClient;
  private granted: (() => void) | null = null;
  private nextIno = 2048;

  constructor(clock: Clock, net: SimNet, v: AnyVolume, readonly rid: bigint) {
    this.tree = new FakeClient(v, rid);
    this.client = new Client({
      clock, net, log: silentLog, silenceTimeoutMs: 24_000,
      identity: { fsid: v.fsid, fmtVers: 2, rid, quorum: false },
      findServer: () => Promise.resolve({ addr: ADDR, port: 4000 }),
      isMounted: () => isMounted(v, rid),
      handlers: {
        syncLogTrees: () => { this.asked += 1; },
        invalidate: (lock, answer) => {
          this.asked += 1;
          this.set(lock);
          answer(lock);
        },
        grant: (lock) => {
          this.set(lock);
          this.granted?.();
        },
        recoverLocks: (from) => [...this.held.values()]
          .filter((l) => compareKeys(l.key, from) >= 0)
          .sort((a, b) => compareKeys(a.key, b.key)).slice(0, 22),
        openInoMap: (args) => ({
          args, bits: Array.from({ length: OPEN_MAP_WORDS }, () => 0n),
        }),
      },
    });
    this.client.start();
  }

  /** One request of each kind that mounts need, and a transaction with items. */
  async work(): Promise<void> {
    await this.client.statfs();
    await this.client.getLastSeq();
    await this.client.allocInodes(10);
    await this.lock(1 + this.nextIno % 5, 1 + this.nextIno % 2);
    const lt = await this.client.getLogTrees();
    if (lt.rid !== this.rid) throw new Error('a transaction of somebody else');
    this.tree.open(encode(LogTrees, lt));
    for (let i = 0; i < ITEMS; i++) await this.tree.item(this.nextIno++, new Uint8Array(100));
    await this.client.commitLogTrees(decode(LogTrees, await this.tree.prepare()));
  }

  /** Leaves a transaction open, as mounts do. */
  async openTransaction(): Promise<LogTrees> {
    return await this.client.getLogTrees();
  }

  private async lock(group: number, newMode: number): Promise<void> {
    const key = inodeLockRange(group * 1024).start;
    const oldMode = this.modes.get(keyToString(key)) ?? 0;
    const done = new Promise<void>((resolve) => { this.granted = resolve; });
    this.client.lock({ key, writeSeq: 0, oldMode, newMode });
    await done;
  }

  private set(lock: Lock): void {
    const name = keyToString(lock.key);
    if (lock.newMode === 0) {
      this.modes.delete(name);
      this.held.delete(name);
    } else {
      this.modes.set(name, lock.newMode);
      this.held.set(name, { ...lock, oldMode: lock.newMode });
    }
  }
}
