/**
 * One damaged volume and everything that is done with it: check, print, mount, a walk over
 * everything, some changes, unmount or crash, mount again.
 *
 * A case is its seed: base, damage, failing device operations and what is done with the
 * mount are drawn from it. It fails for what a damaged volume must never lead to: an error
 * that is ours, an operation that never ends, a write outside of the volume's rules, a
 * rejection that nobody handles, memory without a bound. It cannot fail for an errno.
 */
import { checkVolume } from '../../host/disk/check.js';
import { printVolume } from '../../host/disk/print.js';
import type { DeviceIo, Fate, SimDevice } from '../../host/env/sim_device.js';
import { errnoError } from '../../host/observe/errors.js';
import type { Log } from '../../host/observe/log.js';
import { seeded } from '../lib/core.js';
import { Victim } from '../lib/damage.js';
import { OverlayDevice } from '../lib/overlay.js';
import { SimMount } from '../lib/simmount.js';
import { SimWorld } from '../lib/simworld.js';
import type { Base } from './bases.js';
import { damageVolume } from './mutate.js';
import { WriteOracle } from './oracle.js';
import type { Below } from './values.js';
import { pick } from './values.js';
import { Walk, isAnswer } from './walk.js';

/** No mount may take longer in simulated time: it waits for votes, and for fencing. */
const MOUNT_LIMIT_MS = 100_000;
/** No operation may take longer, */
const STEP_LIMIT_MS = 30_000;
/** and an end by force not longer than this. */
const FORCE_LIMIT_MS = 10_000;
const SLICE_MS = 2000;
/** What the log says while a mount waits for a volume or device that does not recover. */
const WAITS = /could not start|stopping it|in elections no more|next try in/;
/** So many such lines, and more than a slice of time: it may take for ever. */
const WAIT_LINES = 3;
/** What no log may say. */
const DEFECT = new RegExp('assertion failed|internal error|TypeError|RangeError|out of bounds|' +
  'unreachable|of undefined|of null|not a function|call stack|Invalid');
const CHECK_MEMORY_BYTES = 64 << 20;
const PRINT_CHARS_MAX = 64 << 20;
/** Every so many cases nothing is damaged: then nothing may fail. */
const SOUND_EVERY = 100;
const ARCHIVE_MS = 100;
const MAIN_CORE_MB = 24;
const SERVER_CORE_MB = 12;
const MERGE_CORE_MB = 32;

export interface CaseResult {
  seed: number;
  base: string;
  damage: string[];
  /** null: nothing that must not be. */
  failure: string | null;
  /** What came of it, for statistics. */
  outcome: { findings: number; mounted: boolean; forced: boolean; ops: number;
    errors: Map<string, number> };
  /** Messages of the mounts. */
  log: string[];
  tookMs: number;
}

export interface CaseOptions {
  /** Told what happens. */
  say?: (line: string) => void;
  /** Real milliseconds, for the time each step took. */
  nowMs: () => number;
}

/** Runs one case. Never rejects. */
export async function runCase(bases: readonly Base[], seed: number, o: CaseOptions):
Promise<CaseResult> {
  const c = new Case(bases, seed, o);
  const began = o.nowMs();
  try {
    await c.run();
  } catch (e) {
    c.result.failure ??= e instanceof Error ? `${c.step}: ${e.stack ?? e.message}` : String(e);
  }
  c.result.tookMs = o.nowMs() - began;
  return c.result;
}

/**
 * A step that waits because the volume or a device does not recover. That is allowed to a
 * mount that serves: only its end by force ends the repetition of a commit (trans.md 5).
 */
class Waits extends Error {
  constructor(text: string, readonly step: Promise<unknown>) { super(text); }
}

class Case {
  readonly result: CaseResult;
  step = 'begin';
  private readonly below: Below;
  private readonly world: SimWorld;
  private readonly meta: SimDevice;
  private readonly data: SimDevice;
  private readonly sound: boolean;
  /** How often the log has said that something does not recover. */
  private waitLines = 0;

  constructor(bases: readonly Base[], seed: number, private readonly o: CaseOptions) {
    const below = seeded(Math.imul(seed + 1, 0x9e3779b1));
    for (let i = 0; i < 8; i++) below(2);
    this.below = below;
    const base = pick(below, bases);
    this.world = new SimWorld(seed);
    this.meta = this.world.addDevice('meta', base.meta.sizeBytes, base.meta);
    this.data = this.world.addDevice('data', base.data.sizeBytes, base.data);
    this.sound = seed % SOUND_EVERY === 0;
    this.result = {
      seed, base: base.name, damage: this.sound ? [] : this.damage(base), failure: null,
      outcome: { findings: 0, mounted: false, forced: false, ops: 0, errors: new Map() }, log: [], tookMs: 0,
    };
    o.say?.(`seed ${seed}: volume ${base.name}`);
    for (const d of this.result.damage) o.say?.(`  damage: ${d}`);
  }

  async run(): Promise<void> {
    if (!this.sound && this.below(4) === 0) this.failDevices();
    const oracle = new WriteOracle(this.meta, this.data);
    await this.timed('check', () => this.check());
    await this.timed('print', () => { this.print(); return Promise.resolve(); });
    for (let mounts = this.below(4) === 0 ? 2 : 1; mounts > 0; mounts--) await this.mounted();
    oracle.end();
    this.step = 'writes';
    const wrong = [...oracle.violations, ...this.meta.violations, ...this.data.violations];
    if (wrong.length > 0) throw new Error(wrong.join('\n'));
    if (this.sound) await this.stillSound();
  }

  private damage(base: Base): string[] {
    const v = new Victim(new OverlayDevice(this.meta), new OverlayDevice(this.data));
    const lines = damageVolume(v, base.map, this.below);
    v.meta.writeTo(this.meta);
    v.data.writeTo(this.data);
    this.meta.flushSync();
    this.data.flushSync();
    return lines;
  }

  /** Single operations of a device fail, or all of a kind from some moment on. */
  private failDevices(): void {
    const device = this.below(3) === 0 ? this.data : this.meta;
    const kind = pick(this.below, ['read', 'read', 'write', 'flush'] as const);
    const { reads, writes, flushes } = device.stats;
    const first = { read: reads, write: writes, flush: flushes }[kind] + 1 +
      this.below(pick(this.below, [20, 200]));
    const len = pick(this.below, [1, 1, 3, 1e9]);
    device.faults = (io: DeviceIo): Fate =>
      io.kind === kind && io.nr >= first && io.nr < first + len ? 'fail' : 'do';
    this.result.damage.push(`${device.path}: ${kind} ${first} and ${len - 1} more fail`);
    this.o.say?.(`  ${this.result.damage.at(-1) ?? ''}`);
  }

  private async check(): Promise<void> {
    const r = await this.answered(checkVolume(this.meta, this.data,
      { memoryLimitBytes: CHECK_MEMORY_BYTES }));
    if (r === null) return;
    this.result.outcome.findings = r.findings.length;
    for (const f of r.findings.slice(0, 10)) this.o.say?.(`  finding: ${f.id} ${f.message}`);
    const internal = r.findings.find((f) => f.id === 'CHK_INTERNAL');
    if (internal !== undefined) throw new Error(`check: ${internal.message}`);
    if (this.sound && r.findings.length > 0) throw new Error(`unsound: ${r.findings[0]?.message}`);
  }

  private print(): void {
    let chars = 0;
    try {
      printVolume(this.meta, { write: (text) => {
        chars += text.length;
        if (chars > PRINT_CHARS_MAX) throw new Error('print writes without end');
      } });
    } catch (e) {
      if (!isAnswer(e)) throw e;
      this.o.say?.(`  print: ${e.message}`);
    }
  }

  private async mounted(): Promise<void> {
    this.waitLines = 0;
    const m = await this.timed('mount', () => this.answered(this.wait('mount',
      SimMount.start(this.world.host(1), { meta: this.meta, data: this.data }, {
        coreMemoryMb: MAIN_CORE_MB, serverMemoryMb: SERVER_CORE_MB, mergeMemoryMb: MERGE_CORE_MB,
        log: this.log(),
      }), MOUNT_LIMIT_MS)));
    if (m === null) {
      if (this.sound) throw new Error('a sound volume was not mounted');
    } else {
      this.result.outcome.mounted = true;
      this.archiveAgent(m);
      await this.use(m);
      const { broken } = m;
      if (broken !== null) throw new Error(`the mount is broken: ${broken.message}`);
    }
    this.world.host(1).killAll();
  }

  /** Walks, changes, and leaves; ends the mount by force when it waits for good. */
  private async use(m: SimMount): Promise<void> {
    const { outcome } = this.result;
    const walk = new Walk(m, this.below, (what, p) => {
      this.step = what;
      return this.wait(what, p);
    });
    try {
      await this.timed('walk', () => walk.reads());
      const advance = pick(this.below, [0, 0, 100, 20_000]);
      await this.timed('background', () => this.world.clock.advance(advance));
      if (this.below(4) > 0) await this.timed('changes', () => walk.writes());
      if (this.below(3) === 0) m.crash();
      else await this.timed('unmount', () => this.answered(this.wait('unmount', m.unmount())));
    } catch (e) {
      if (!(e instanceof Waits)) throw e;
      outcome.forced = true;
      this.o.say?.(`  ${e.message}; ending the mount by force`);
      m.client.force();
      await this.timed('force', () => this.answered(this.wait('force', e.step, FORCE_LIMIT_MS)));
    }
    outcome.ops += walk.result.ops;
    for (const [errno, n] of walk.result.errors) {
      outcome.errors.set(errno, (outcome.errors.get(errno) ?? 0) + n);
    }
  }

  /** Whoever waits for offline data is told that there is none. */
  private archiveAgent(m: SimMount): void {
    const { waiters } = m.client.fs;
    for (const w of waiters.inodes().flatMap((ino) => waiters.of(ino))) {
      w.wake(errnoError('ENODATA'));
    }
    this.world.clock.after(ARCHIVE_MS, () => { if (m.process.alive()) this.archiveAgent(m); });
  }

  /** After a sound volume: no answer of a defect, and a check finds nothing. */
  private async stillSound(): Promise<void> {
    const { errors } = this.result.outcome;
    if (errors.has('EIO')) throw new Error('EIO from a sound volume');
    this.meta.flushSync();
    const r = await checkVolume(this.meta, this.data);
    if (r.findings.length > 0) throw new Error(`unsound now: ${r.findings[0]?.message}`);
  }

  private async timed<T>(step: string, fn: () => Promise<T>): Promise<T> {
    this.step = step;
    const began = this.o.nowMs();
    try {
      return await fn();
    } finally {
      this.o.say?.(`  ${step}: ${Math.round(this.o.nowMs() - began)} ms`);
    }
  }

  /** The promise's value, or null when it failed in a way that is allowed. */
  private async answered<T>(p: Promise<T>): Promise<T | null> {
    try {
      return await p;
    } catch (e) {
      if (!isAnswer(e)) throw e;
      this.o.say?.(`  ${this.step}: ${e.code}: ${e.message}`);
      return null;
    }
  }

  /** Lets time pass until the promise has settled. @throws Waits when that may take for ever */
  private async wait<T>(what: string, p: Promise<T>, limitMs = STEP_LIMIT_MS): Promise<T> {
    for (let ms = 0; ; ms += SLICE_MS) {
      try {
        return await this.world.clock.until(p, SLICE_MS);
      } catch (e) {
        if (!(e instanceof Error) || !e.message.startsWith('simulation:')) throw e;
        const text = `${what} does not end: ${e.message}`;
        if (limitMs === STEP_LIMIT_MS && this.waitLines >= WAIT_LINES) throw new Waits(text, p);
        if (ms >= limitMs) throw new Error(text);
      }
    }
  }

  private log(): Log {
    const add = (level: string) => (text: string): void => {
      if (this.result.log.length < 200) this.result.log.push(text);
      this.o.say?.(`  ${level}: ${text}`);
      if (DEFECT.test(text)) this.result.failure ??= `${this.step}: ${text}`;
      if (WAITS.test(text)) this.waitLines += /no more|writing data/.test(text) ? WAIT_LINES : 1;
    };
    const log: Log = {
      error: add('error'), warn: add('warn'), info: add('info'), debug: () => undefined,
      trace: () => undefined, enabled: (level) => level !== 'debug' && level !== 'trace', withPrefix: () => log,
      level: 'info', setLevel: () => undefined,
    };
    return log;
  }
}
