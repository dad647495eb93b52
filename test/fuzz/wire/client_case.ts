/**
 * A mount whose server is hostile, beside one whose server is not.
 *
 * Host 1 has a member, its server and a mount; host 2 a mount that works through a relay
 * (hostile_link.ts) which changes and invents messages. What the client refuses ends the
 * connection and changes nothing: its locks, its transaction and its requests are as before.
 * In some worlds only locks and forms are wrong, in others also log trees and roots: then the
 * mount can be led astray, but must neither fail by its own fault nor write outside of what
 * mounts may write. In the end it is ended by force, which always works, and the other mount
 * goes on.
 */
import * as F from '../../../host/core/format.js';
import { ROOT_INO } from '../../../host/core/constants.js';
import { inodeLockRange, keyFromString, keyZeros, keyBytes } from '../../../host/core/keys.js';
import type { Key } from '../../../host/core/format.js';
import { LockPlain, encode } from '../../../host/net/messages.js';
import type { Log } from '../../../host/observe/log.js';
import { makeLog } from '../../../host/observe/log.js';
import { ScoutfsError } from '../../../host/observe/errors.js';
import { SimMount, simVolume } from '../../lib/simmount.js';
import { SimWorld } from '../../lib/simworld.js';
import type { ProcessNet, SimProcess } from '../../lib/simworld.js';
import type { Below, Numbers } from '../values.js';
import { pick } from '../values.js';
import { describeDraft, mutate, randomBytes, request, response } from './draft.js';
import type { Draft } from './draft.js';
import { Relay } from './hostile_link.js';
import { DEFECT, emptyResult, resultOf } from './result.js';
import type { WireResult } from './result.js';

const ROUNDS = 300;
const FILES = 6;
const OPS_MAX = 8;
const STEP_MS = 20;
/** A mount ends by force within this, */
const FORCE_LIMIT_MS = 10_000;
/** and what is honest goes on within this: the other mount has to be fenced. */
const HONEST_LIMIT_MS = 120_000;
const HOSTILE_HOST = 2;
const LOG_LINES_MAX = 600;
/** Responses that lead a mount astray when they are untrue. */
const LEADING = new Set([F.NET_CMD_GET_LOG_TREES, F.NET_CMD_GET_ROOTS, F.NET_CMD_ALLOC_INODES,
  F.NET_CMD_COMMIT_LOG_TREES, F.NET_CMD_GREETING]);

class RelayedWorld extends SimWorld {
  relay: Relay | null = null;

  override netOf(p: SimProcess): ProcessNet {
    const net = super.netOf(p);
    return p.host.nr === HOSTILE_HOST && this.relay !== null ? this.relay.net(net) : net;
  }
}

/** Runs one seed. Never rejects. */
export async function fuzzClient(seed: number, say: (line: string) => void): Promise<WireResult> {
  const c = new ClientCase(seed, say);
  const result = await resultOf(c);
  c.world.powerCut();
  return result;
}

class ClientCase {
  readonly result = emptyResult();
  readonly world: RelayedWorld;
  last = 'the start';
  private readonly below: Below;
  private readonly relay: Relay;
  private readonly log: Log;
  private readonly misleads: boolean;
  /** The mount took something untrue for true: others may be harmed, as by any such server. */
  private misled: boolean;
  private readonly numbers: Numbers;
  private evil = false;
  /** Whether every message since the last close was as long as it said. */
  private framed = true;
  private victim!: SimMount;
  private readonly files: number[] = [];
  private ops = 0;

  constructor(seed: number, private readonly say: (line: string) => void) {
    this.world = new RelayedWorld(seed);
    this.below = this.world.below;
    this.misleads = this.misled = this.below(4) === 0;
    this.relay = new Relay(this.below, {
      change: (d) => this.change(d),
      delivered: (d, deliver, isClosed) => { this.delivered(d, deliver, isClosed); },
    });
    this.numbers = {
      blocks: [{ blkno: 16, seq: 1n }, { blkno: 2 ** 18, seq: 1n }],
      inos: [1n, 1024n, 2n ** 40n],
    };
    this.log = makeLog('info', (level, text) => {
      this.result.logLines += 1;
      this.say(`  log: ${level} ${text}`);
      if (DEFECT.test(text)) this.result.failure ??= `the log says: ${text}`;
    });
  }

  async run(): Promise<void> {
    const { world } = this;
    const volume = await simVolume(world);
    const honest = await world.run(SimMount.start(world.host(1), volume, { background: false }));
    world.relay = this.relay;
    this.victim = await world.run(SimMount.start(world.host(HOSTILE_HOST), volume, {
      slotNr: null, background: false, log: this.log,
    }));
    this.watchWrites(volume.meta.sizeBytes);
    await this.makeFiles();
    this.evil = true;
    for (let i = 0; i < ROUNDS && this.victim.broken === null; i++) await this.round(honest);
    this.evil = false;
    if (this.victim.broken !== null) throw this.victim.broken;
    await this.ended(honest);
  }

  private async makeFiles(): Promise<void> {
    const { kernel } = this.victim;
    for (let i = 0; i < FILES; i++) {
      this.files.push(await this.world.run(kernel.writeFile(ROOT_INO, `f${i}`, new Uint8Array(10))));
    }
  }

  /** A mount writes neither the super block nor others' quorum blocks, whatever it is told. */
  private watchWrites(metaBytes: number): void {
    const meta = this.world.devices.get('meta');
    if (meta === undefined) return;
    meta.begun = (io): void => {
      const first = F.META_DEV_START_BLKNO * F.BLOCK_LG_SIZE;
      if (io.kind !== 'write' || !io.user.startsWith(`mount@${HOSTILE_HOST}`)) return;
      if (io.offset < first || io.offset + io.bytes.length > metaBytes) {
        this.result.failure ??= `the mount wrote ${io.bytes.length} bytes at ${io.offset}`;
      }
    };
  }

  private async ended(honest: SimMount): Promise<void> {
    const { world, victim } = this;
    this.last = 'the end by force';
    victim.client.force();
    await world.clock.until(victim.client.destroy(), FORCE_LIMIT_MS);
    victim.crash();
    if (this.result.logLines > LOG_LINES_MAX) throw new Error(`${this.result.logLines} log lines`);
    if (this.misled) return;
    this.last = 'the other mount goes on';
    await world.clock.until((async () => {
      await honest.kernel.writeFile(ROOT_INO, 'after', new Uint8Array(100));
      await honest.client.trans.sync();
    })(), HONEST_LIMIT_MS);
  }

  // ---- one round ----

  private async round(honest: SimMount): Promise<void> {
    const { below, world } = this;
    while (this.ops < OPS_MAX / 2) this.begin();
    for (let n = below(12); n > 0; n--) this.invent();
    if (below(4) === 0) {
      void honest.kernel.writeFile(ROOT_INO, `h${below(1000)}`, new Uint8Array(10))
        .catch((e: unknown) => { this.expected(e); });
    }
    if (below(10) === 0) this.relay.link?.destroy();
    await world.clock.advance(pick(below, [0, 1, STEP_MS, STEP_MS, 150]));
  }

  /** Begins an operation; how it ends does not matter, if it ends. */
  private begin(): void {
    const { below, victim: { kernel } } = this;
    const file = pick(below, this.files);
    const name = `n${below(20)}`;
    this.ops += 1;
    void pick(below, [
      async () => {
        const { ino } = await kernel.create(ROOT_INO, name);
        kernel.release(ino);
        kernel.forget(ino);
      },
      () => kernel.unlink(ROOT_INO, name),
      () => kernel.write(file, 0, new Uint8Array(below(5000))),
      () => kernel.read(file, 0, 4096), () => kernel.getattr(file),
      () => kernel.setxattr(file, 'user.a', new Uint8Array(20)),
      () => kernel.fsync(file), () => kernel.statfs(), () => kernel.readdir(ROOT_INO),
    ])().catch((e: unknown) => { this.expected(e); }).finally(() => { this.ops -= 1; });
  }

  private expected(e: unknown): void {
    if (e instanceof ScoutfsError && !DEFECT.test(e.message)) return;
    this.result.failure ??= e instanceof Error ? e.stack ?? e.message : String(e);
  }

  // ---- the hostile server ----

  private change(d: Draft): Draft[] {
    const { below } = this;
    if (!this.evil || d.cmd === F.NET_CMD_GREETING) return [d];
    const seq = d.seq;
    if (below(this.misleads ? 4 : 6) === 0 && (this.misleads || !LEADING.has(d.cmd))) {
      mutate(below, d, this.numbers);
      // What has lost its number is not answered twice: it has to have a later one.
      if (d.seq !== seq) d.changed.push('seq');
    }
    return [d];
  }

  /** Delivers, and holds the client against what it was when it refused the message. */
  private delivered(d: Draft, deliver: () => void, isClosed: () => boolean): void {
    this.result.messages += 1;
    if (!this.evil) {
      deliver();
      return;
    }
    this.last = describeDraft(d);
    // What is not as long as it says is more than one message, or a part of one.
    this.framed &&= d.dataLen === null || d.dataLen === d.payload.length;
    if (isClosed()) return;
    const before = this.state();
    const { grantNr } = this.victim.client.locks;
    deliver();
    // a grant that the server did not give, or with another seq
    this.misled ||= d.changed.length > 0 && this.victim.client.locks.grantNr !== grantNr;
    this.say(`${this.last}${isClosed() ? ': closed' : ''}`);
    if (!isClosed()) return;
    this.result.closed += 1;
    const { framed } = this;
    this.framed = true;
    if (framed && this.state() !== before) {
      this.result.failure ??= `a refused message changed the client: ${this.last}\n\n${before}\n->\n${this.state()}`;
    }
  }

  private state(): string {
    const { locks, trans, client } = this.victim.client;
    return [...locks.describe(), trans.seq, ...client.describe().messages
      .filter((l) => l.includes('request')).sort()].join('\n');
  }

  /** Something that the server never said. */
  private invent(): void {
    const { below, relay } = this;
    const { link } = relay;
    if (link === null) return;
    if (below(60) === 0) {
      link.deliverRaw(randomBytes(below, 1 + below(200)));
      link.destroy();
      return;
    }
    const d = this.invented();
    d.changed.push('invented');
    if (below(3) === 0) mutate(below, d, this.numbers);
    link.deliver(d);
  }

  private invented(): Draft {
    const { below, relay } = this;
    const ask = (cmd: number, payload: Uint8Array): Draft => {
      const d = request(cmd, payload, false);
      d.id = BigInt(relay.ownId());
      return d;
    };
    return pick(below, [
      () => this.takeLock(ask), () => this.takeLock(ask), () => this.takeLock(ask),
      () => ask(F.NET_CMD_LOCK_RECOVER, keyBytes(below(2) === 0 ? keyZeros() : this.lockKey())),
      () => ask(F.NET_CMD_OPEN_INO_MAP,
        encode(F.OpenInoMapArgs, { groupNr: below(20), reqId: below(100) })),
      () => ask(F.NET_CMD_SYNC_LOG_TREES, new Uint8Array(0)),
      () => response(F.NET_CMD_LOCK, 1 + below(200), encode(LockPlain, {
        key: this.lockKey(), writeSeq: 0, oldMode: below(4), newMode: below(4),
      }), false),
      () => response(pick(below, [5, 6, 18, 14]), 1 + below(200), randomBytes(below, 72), false),
      () => below(8) === 0 ? ask(below(20), new Uint8Array(0))
        : ask(F.NET_CMD_SYNC_LOG_TREES, new Uint8Array(0)),
    ])();
  }

  /** Asks for a lock as a server could. */
  private takeLock(ask: (cmd: number, payload: Uint8Array) => Draft): Draft {
    const [oldMode, newMode] = pick(this.below, [[2, 1], [2, 0], [1, 0], [3, 0], [0, 0]] as const);
    return ask(F.NET_CMD_LOCK, encode(LockPlain,
      { key: this.lockKey(), writeSeq: 0, oldMode, newMode }));
  }

  /** The key of a lock that the client has, or of another. */
  private lockKey(): Key {
    const held = this.victim.client.locks.describe();
    if (held.length === 0 || this.below(4) === 0) {
      return inodeLockRange(this.below(30) * 1024).start;
    }
    return keyFromString(pick(this.below, held).split(' ')[1] ?? '');
  }
}
